"""`Lab`: roundq at work on a cluster: daemons, commands, ledger jobs, and the judgement at the end.

What the tests of the whole system and the soak have in common. Nothing of roundq is imported here either: all
is said to `rq`, or to a program inside a node.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.cluster import checkers, kernel
from tests.cluster.checkers import Blow
from tests.cluster.promises import Supply
from tests.cluster.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tests.cluster.box import Cluster
    from tests.cluster.node import Node

CORES = 2
#: What makes roundq quick enough for a test; daemons are started by hand.
ENV = {
    "RQ_CORES": str(CORES),
    "RQ_POLL_MIN": "0.1",
    "RQ_POLL_MAX": "1",
    "RQ_GRACE": "2",
    "RQ_AUTO_START": "false",
}
#: A home as on NFS; and one on which a rename may have two winners, and each change is seen late elsewhere.
HOMES: dict[str, dict[str, Any]] = {
    "nfs": {"env": ENV},
    "loose": {"fs": "loose", "fsopts": "late=0.1", "env": ENV | {"RQ_SETTLE": "0.5s"}},
}
#: How long everything may take on a machine that is busy with other things.
PATIENCE_S = 120.0

#: What the supervisor of a job that has a number as its id calls itself.
_SUPERVISOR = re.compile(r"rq: job ([0-9_]+),")
#: Submits many jobs in one process, as a program would: one ledger job for each object of the list.
SUBMIT = """
import json, os, sys
from roundq.actors import queue
from roundq.words.job import Job
def made(label, seconds, cores=1, exit_code=0, leaves=False, **more):
    words = ["ledger", label, str(seconds), str(cores), str(exit_code)]
    if leaves:
        words = ["sh", "-c", f"setsid ledger {label}+left 600 0 & exec " + " ".join(words)]
    return Job(tuple(words), directory=os.environ["HOME"], output="bulk.out", cores=cores, max_output=0,
               **{"restartable": False, **more})
jobs = [made(**said) for said in json.load(sys.stdin)]
print(*queue.submit(queue.mine(os.environ), jobs, os.environ, os.uname().nodename))
"""


def ledger_jobs(prefix: str, count: int, seconds: float | str, **more: Any) -> list[dict[str, Any]]:
    """For Lab.bulk(): label, seconds, cores, exit_code, `leaves` (a process behind), and fields of Job."""
    return [{"label": f"{prefix}-{i}", "seconds": seconds, **more} for i in range(count)]


def supply_of(cores: int = CORES) -> Supply:
    """What nodes that are told to have so many cores have, for the judges.

    Where they are no more than there are CPUs, each job has its own.
    """
    return Supply(cores, pins=cores <= len(kernel.one_cpu_per_core()))


def flood(prefix: str, count: int, seconds: float, **more: Any) -> list[dict[str, Any]]:
    """Many ledger jobs of about that length, or up to a third longer: few end together."""
    jobs = ledger_jobs(prefix, count, seconds, **more)
    return [{**job, "seconds": round(seconds * (1 + i * 0.618 % 1 / 3), 3)} for i, job in enumerate(jobs)]


@dataclass
class Lab:
    """A cluster, the daemons that run there, the jobs that were accepted, and what was done to them."""

    cluster: Cluster
    daemons: dict[tuple[str, str], subprocess.Popen[bytes]] = field(default_factory=dict)
    accepted: dict[str, list[str]] = field(default_factory=dict)
    blows: list[Blow] = field(default_factory=list)
    thaws: list[tuple[str, float]] = field(default_factory=list)

    # ------------------------------------------------------------------ roundq

    def start_daemon(
        self, node: Node, user: str, env: Mapping[str, str] | None = None, wrapper: Sequence[str] = ()
    ) -> subprocess.Popen[bytes]:
        """A daemon in the foreground, so that it can be killed; it takes over from one that runs there."""
        argv = [*wrapper, "rq", "daemon", "--foreground"]
        # Not in the home, which may hang.
        daemon = node.popen(argv, user=user, env=env, cwd="/")
        self.daemons[node.name, user] = daemon
        return daemon

    def start_daemons(self, *nodes: Node) -> None:
        """One for each user on each of these nodes, or on all."""
        for node in nodes or tuple(self.cluster):
            for user in self.cluster.users:
                self.start_daemon(node, user)

    def rq(self, node: Node, user: str, *words: str, code: int | None = 0) -> str:
        """What a command prints; it must exit with `code`, unless that is None."""
        done = node.run(["rq", *words], user=user, timeout=PATIENCE_S)
        assert code is None or done.returncode == code, (words, done)
        return done.stdout

    def submit(self, node: Node, user: str, *words: str) -> str:
        """The id of a job that `rq run` accepted."""
        job = self.rq(node, user, "run", "--parsable", *words).strip()
        self.accepted.setdefault(user, []).append(job)
        return job

    def bulk(self, node: Node, user: str, jobs: Sequence[dict[str, Any]]) -> list[str]:
        """The ids of many ledger jobs, see ledger_jobs()."""
        argv = ["python", "-c", SUBMIT]
        done = node.run(argv, user=user, timeout=PATIENCE_S, input=json.dumps(jobs))
        assert done.returncode == 0, done
        self.accepted.setdefault(user, []).extend(done.stdout.split())
        return done.stdout.split()

    # ------------------------------------------------------------------ blows

    def kill_daemon(self, node: Node, user: str) -> None:
        """SIGKILL to the daemon, and nothing else."""
        daemon = self.daemons.pop((node.name, user))
        daemon.kill()
        daemon.wait()

    def supervisors(self, node: Node, user: str) -> dict[int, str]:
        """The supervisors of a user on a node: pid outside, and the id of the job."""
        titled = ((pid, _SUPERVISOR.match(_title(pid))) for pid in node.pids_of(user))
        return {pid: found[1] for pid, found in titled if found is not None}

    def kill_supervisors(self, node: Node, user: str, pids: Iterable[int] | None = None) -> list[str]:
        """SIGKILL to supervisors, or to some of them; the ids of their jobs."""
        killed = []
        for pid, job in self.supervisors(node, user).items():
            if pids is None or pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed.append(job)
        # Afterwards: what is hit later than this was not hit by it.
        self.blows.append(Blow(node.name, time.monotonic(), user))
        return killed

    def crash(self, node: Node) -> None:
        """The node loses power."""
        node.crash()
        self.blows.append(Blow(node.name, time.monotonic()))
        self.daemons = {where: daemon for where, daemon in self.daemons.items() if where[0] != node.name}

    def thaw(self, node: Node) -> None:
        """After Node.freeze()."""
        self.thaws.append((node.name, time.monotonic()))
        node.thaw()

    def end_jobs(self, node: Node, *labels: str) -> None:
        """Has ledger jobs end by themselves on a node, which may be cut off, or do so when it is thawed."""
        for label in labels:
            with open(node.outside(f"/tmp/end.{label}"), "w"):
                pass

    def end_all(self, *labels: str) -> None:
        """The same on every node."""
        for node in self.cluster:
            self.end_jobs(node, *labels)

    # ------------------------------------------------------------------ looking

    def states(self, user: str) -> dict[str, str]:
        return checkers.states(self.cluster.server, user)

    def outcome(self, user: str, job: str) -> checkers.Outcome:
        """Of a job that has ended."""
        return checkers.outcomes(self.cluster.server, user)[job]

    def cards(self, user: str) -> dict[str, dict[str, Any]]:
        """What the cards of a user's daemons say, by node, as the server has them."""
        found = {}
        for node in self.cluster.nodes:
            with (
                contextlib.suppress(FileNotFoundError),
                open(os.path.join(self.cluster.home(user), ".roundqueue", node)) as file,
            ):
                found[node] = json.load(file)["roundq"]
        return found

    def wait_told(self, *users: str, nodes: Iterable[Node] = (), waiting: bool = True) -> float:
        """Until the daemons of these users, on these nodes or all, have told that jobs wait; when that was.

        Or, without `waiting`, until they have told anything.
        """
        names = [node.name for node in nodes] or list(self.cluster.nodes)

        def are_told() -> bool:
            cards = [self.cards(user).get(name) for user in users for name in names]
            return all(card is not None and (card["waiting"] or not waiting) for card in cards)

        wait_until(are_told, PATIENCE_S, on_timeout=self.story, every=0.05)
        return time.monotonic()

    def uid(self, user: str) -> int:
        """By which runs call him."""
        return self.cluster.user(user).uid

    def runs(self, user: str | None = None) -> list[checkers.Interval]:
        """What the ledger tells, of one user or all."""
        uid = None if user is None else self.cluster.user(user).uid
        return [run for run in checkers.intervals(self.cluster.ledger) if uid in (None, run.uid)]

    def began(self, *labels: str) -> bool:
        """Whether each of these has begun to run."""
        return {run.label for run in self.runs()} >= set(labels)

    def wait_began(self, *labels: str) -> None:
        wait_until(lambda: self.began(*labels), PATIENCE_S, on_timeout=self.story, every=0.05)

    def wait_ended(self, timeout: float = PATIENCE_S) -> None:
        """Until nothing is held, waiting, claimed or running any more."""
        wait_until(
            lambda: all(checkers.all_ended(self.cluster.server, user) for user in self.cluster.users),
            timeout,
            on_timeout=self.story,
            every=0.2,
        )

    def story(self) -> str:
        """Where every open job is."""
        found = checkers.find(self.cluster.server)
        return "\n".join(str(f) for f in found if f.state in checkers.OPEN)

    def counts(self) -> Counter[str]:
        """How many jobs of all users are in each state."""
        return Counter(f.state for f in checkers.find(self.cluster.server))

    def living(self) -> list[str]:
        """Ledger jobs that live anywhere."""
        on = [node for node in self.cluster if node.is_on]
        return [f"{node.name}: {words}" for node in on for words in node.commands() if "/ledger.py" in words]

    # ------------------------------------------------------------------ judging

    def check(self, *, cores: int | None = CORES, supply: Supply | None = None) -> None:
        """All is ended: every job there, true, run as recorded, lost only for a cause, and none lives.

        `cores` are those of every node, None where users do not see each other; `supply` says more.
        """
        c = self.cluster
        supply = supply_of(cores) if supply is None and cores is not None else supply
        checkers.check(
            c.server, self.accepted, ledger=c.ledger, supply=supply, blows=self.blows, thaws=self.thaws
        )
        assert self.living() == []


def _title(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline") as f:
            return f.read()
    except OSError:
        return ""
