"""A long run in which everything goes wrong at random, and its judgement.

    python -m tests.cluster.soak --minutes 30 [--seed N] [--schedule]

Users submit, cancel and restart jobs on nodes that crash, freeze, are cut off from the home or have one that
misbehaves, while daemons and supervisors are killed and replaced. In the end all is mended, every job ends,
and the judges of checkers read spools and ledgers. Ends with 1 if anything was lost, ran twice or is told
untrue, and then prints what, the seed and the schedule. Needs root; takes what CPU there is.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.cluster import checkers
from tests.cluster.box import Cluster
from tests.cluster.lab import ENV, SUBMIT, Lab, ledger_jobs, supply_of
from tests.cluster.promises import Supply
from tests.cluster.requirements import missing
from tests.cluster.schedule import OF_NODES, RULES, Event, schedule
from tests.cluster.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cluster.node import Node

NODES, USERS = ("n1", "n2", "n3"), ("ann", "bob", "cyd")
CORES = 3
GB = 1 << 30
#: What is scarce beside cores; all of it is judged.
CONFIG = """
licenses = { matlab = 2 }
""" + "".join(f"[nodes.{name}]\ngpus = 2\n" for name in NODES)
SUPPLY = Supply(CORES, 2 * GB, ("0", "1"), {"matlab": 2}, pins=supply_of(CORES).pins)
#: How long everything may take to end once nothing goes wrong any more.
REST_S = 300.0
PROGRESS_S = 5.0
#: More than the nodes can do is not asked for.
OPEN_MOST = 60
SIZES = ({"count": 1, "seconds": 2.0}, {"count": 4, "seconds": 0.3}, {"count": 3, "seconds": 0.1})
KINDS: tuple[dict[str, Any], ...] = (
    {},
    {"restartable": True},
    {"restartable": True, "leaves": True},
    {"leaves": True},
    {"exit_code": 3},
    {"cores": 2, "restartable": True},
    {"cores": 0},
    {"gpus": 1, "memory_required": GB},
    {"gpus": 2, "restartable": True, "leaves": True},
    {"licenses": [["matlab", 1]]},
    {"licenses": [["matlab", 2]], "restartable": True},
    {"restartable": True, "scavenge": True},
    {"time_limit_s": 0.5, "seconds": 600.0, "count": 1},
)


@dataclass
class _Order:
    """A submission whose answer is not there yet."""

    user: str
    labels: list[str]
    process: subprocess.Popen[bytes]


@dataclass
class Soak:
    """One run."""

    lab: Lab
    events: list[Event]
    say: Callable[[str], None]
    faults: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    unknown: set[str] = field(default_factory=set)
    orders: list[_Order] = field(default_factory=list)
    began_s: float = field(default_factory=time.monotonic)
    told_s: float = 0.0
    #: What is to be mended, and when.
    due: list[tuple[float, Event]] = field(default_factory=list)

    def play(self) -> None:
        """All events at their times, or as soon after them as this machine can."""
        self.lab.start_daemons()
        for event in self.events:
            self._wait(event.at_s)
            self._do(event)
        self._wait(float("inf"))

    def _wait(self, until_s: float) -> None:
        while True:
            now_s = time.monotonic() - self.began_s
            self.due.sort(key=lambda due: due[0])
            if self.due and self.due[0][0] <= min(now_s, until_s):
                self._mend(self.due.pop(0)[1])
            elif now_s >= until_s or (until_s == float("inf") and not self.due):
                return
            else:
                self._collect()
                if now_s >= self.told_s + PROGRESS_S:
                    self.told_s = now_s
                    self.progress()
                # The schedule is one of times: this is the only wait for one.
                time.sleep(0.05)

    # ------------------------------------------------------------------ events

    def _do(self, event: Event) -> None:
        node = self.lab.cluster[event.node]
        if event.kind in OF_NODES:
            if self._is_broken(node):
                # This machine is too busy to be in time: the last fault there is not mended yet.
                return
            self.faults[event.kind] += 1
            self.due.append((time.monotonic() - self.began_s + event.lasts_s, event))
            self._break(event.kind, node)
        elif event.kind in ("submit", "cancel", "restart"):
            if node.is_on and not self._is_broken(node, "freeze", "crash"):
                self._order(event, node)
        elif node.is_on and not self._is_broken(node, "freeze", "crash"):
            self.faults[event.kind] += 1
            self._hit(event.kind, node, event.user)

    def _is_broken(self, node: Node, *kinds: str) -> bool:
        return any(e.node == node.name and (not kinds or e.kind in kinds) for _, e in self.due)

    def _break(self, kind: str, node: Node) -> None:
        if kind == "crash":
            self.lab.crash(node)
        elif kind == "freeze":
            node.freeze()
        elif kind == "cut off":
            node.partition()
        else:
            node.fault(**RULES[kind])

    def _mend(self, event: Event) -> None:
        node = self.lab.cluster[event.node]
        if event.kind == "crash":
            node.start()
            self.lab.start_daemons(node)
        elif event.kind == "freeze":
            self.lab.thaw(node)
        elif event.kind == "cut off":
            node.heal()
        else:
            node.clear_faults()

    def _hit(self, kind: str, node: Node, user: str) -> None:
        if kind in ("kill daemon", "kill all") and (node.name, user) in self.lab.daemons:
            daemon = self.lab.daemons.pop((node.name, user))
            # It may hang in its home: its death is not waited for.
            daemon.kill()
        if kind == "kill a supervisor":
            self.lab.kill_supervisors(node, user, list(self.lab.supervisors(node, user))[:1])
        elif kind in ("kill supervisors", "kill all"):
            self.lab.kill_supervisors(node, user)
        if kind in ("kill daemon", "kill all", "take over"):
            self.lab.start_daemon(node, user)

    def _order(self, event: Event, node: Node) -> None:
        chance = random.Random(event.more["chance"])
        user = event.user
        states = self.lab.states(user)
        if event.kind == "submit":
            if sum(state in checkers.OPEN for state in states.values()) < OPEN_MOST // len(USERS):
                said = {**chance.choice(SIZES), **chance.choice(KINDS)}
                jobs = ledger_jobs(f"{user}-{len(self.unknown)}-{event.more['chance']}", **said)
                process = node.popen(["python", "-c", SUBMIT], user, stdin=-1, stdout=-1, stderr=-1, cwd="/")
                assert process.stdin
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.write(json.dumps(jobs).encode())
                    process.stdin.close()
                self.orders.append(_Order(user, [job["label"] for job in jobs], process))
        else:
            open_jobs = sorted(job for job, state in states.items() if state in checkers.OPEN)
            if open_jobs:
                words = ["rq", event.kind, chance.choice(open_jobs)]
                node.popen(words, user, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def _collect(self, timeout_s: float = 0.0) -> None:
        """What submissions have said by now."""
        for order in self.orders[:]:
            process = order.process
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout_s)
            if process.returncode is None:
                continue
            self.orders.remove(order)
            assert process.stdout
            assert process.stderr
            said, complaint = process.stdout.read().decode(), process.stderr.read().decode()
            process.stdout.close()
            process.stderr.close()
            if process.returncode == 0:
                self.lab.accepted.setdefault(order.user, []).extend(said.split())
            elif process.returncode < 0 or "already" in complaint:
                # Its node crashed before it could say, or it said that some are in: both may be.
                self.unknown |= set(order.labels)
            else:
                self.refused += 1

    # ------------------------------------------------------------------ the end

    def rest(self) -> None:
        """Nothing goes wrong any more: everything ends."""
        for node in self.lab.cluster:
            if not node.is_on:
                node.start()
            node.thaw()
            node.heal()
            node.clear_faults()
        self.lab.start_daemons()
        end_s = time.monotonic() + REST_S
        while self.orders:
            assert time.monotonic() < end_s, "a submission does not end"
            self._collect(0.2)

        def ended() -> bool:
            self.progress()
            for (name, user), daemon in list(self.lab.daemons.items()):
                if daemon.poll() is not None:
                    self.lab.start_daemon(self.lab.cluster[name], user)
            return all(checkers.all_ended(self.lab.cluster.server, user) for user in USERS)

        wait_until(ended, REST_S, every=1.0, on_timeout=self.lab.story)

    def progress(self) -> None:
        counts = ", ".join(f"{count} {state}" for state, count in sorted(self.lab.counts().items()))
        self.say(f"{time.monotonic() - self.began_s:6.0f} s  {sum(self.faults.values())} faults  {counts}")

    def wrong(self) -> dict[str, list[str]]:
        """What the judges say, by what it would be: lost, run twice, untrue."""
        c = self.lab.cluster
        runs, thaws = checkers.intervals(c.ledger), self.lab.thaws
        known = {
            user: [*ids, *self._of_unknown(user, ids)]
            for user, ids in ({user: self.lab.accepted.get(user, []) for user in USERS}).items()
        }
        return {
            "lost": checkers.one_state(c.server)
            + checkers.no_strays(c.server)
            + checkers.accepted_kept(c.server, known)
            + self.lab.living(),
            "run twice": checkers.not_twice_at_once(runs, thaws) + checkers.attempts_once(runs, thaws),
            "untrue": checkers.true_outcomes(c.server)
            + checkers.true_attempts(c.server, runs)
            + checkers.lost_for_a_cause(c.server, runs, self.lab.blows),
            "promised twice": checkers.promised_once(c.server, runs, SUPPLY),
        }

    def _of_unknown(self, user: str, ids: list[str]) -> list[str]:
        """Jobs of submissions of which nobody heard whether they were accepted."""
        found = (f for f in checkers.find(self.lab.cluster.server, user) if f.id not in ids)
        return [f.id for f in found if self.unknown & set(" ".join(_command(f)).split())]

    def table(self, wrong: dict[str, list[str]]) -> str:
        counts, runs = self.lab.counts(), checkers.intervals(self.lab.cluster.ledger)
        again = sum((run.attempt or 1) > 1 and run.is_command for run in runs)
        rows = [("jobs", sum(counts.values()))]
        rows += [(f"  {state}", count) for state, count in sorted(counts.items())]
        rows += [("  attempts after the first", again), ("submissions refused", self.refused)]
        rows += [("faults", sum(self.faults.values()))]
        rows += [(f"  {kind}", count) for kind, count in sorted(self.faults.items())]
        rows += [(f"jobs {kind}", len(found)) for kind, found in wrong.items()]
        rows += [("seconds", round(time.monotonic() - self.began_s))]
        return "\n".join(f"{name:28} {number:8}" for name, number in rows)


def _command(found: checkers.Found) -> list[str]:
    command = (found.record or {}).get("job", {}).get("command", [])
    return [str(word) for word in command]


def run(seconds: float, seed: int, say: Callable[[str], None]) -> tuple[str, dict[str, list[str]]]:
    """One soak: its table, and what was wrong."""
    env = {**ENV, "RQ_CORES": str(CORES)}
    fsopts = f"wdelay=0.5,seed={seed}"
    with Cluster(NODES, USERS, env=env, fsopts=fsopts, config=CONFIG, memory=2 * GB) as cluster:
        soak = Soak(Lab(cluster), schedule(seed, seconds, NODES, USERS), say)
        soak.play()
        try:
            soak.rest()
            wrong = soak.wrong()
        except AssertionError as error:
            wrong = {**soak.wrong(), "stuck": [str(error)]}
        if any(wrong.values()):
            for user in USERS:
                for node in NODES:
                    with (
                        contextlib.suppress(OSError),
                        open(f"{cluster.home(user)}/.roundqueue/{node}.log") as f,
                    ):
                        print(f"--- {user} on {node}", *f.readlines()[-200:], sep="\n", file=sys.stderr)
        return soak.table(wrong), wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=None, help="repeats the schedule of another run")
    parser.add_argument("--schedule", action="store_true", help="print the schedule and do nothing")
    args = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if args.seed is None else args.seed
    events = schedule(seed, args.minutes * 60, NODES, USERS)
    print(f"seed {seed}, {args.minutes:g} minutes, {len(events)} events", flush=True)
    if args.schedule:
        print(*events, sep="\n")
        return 0
    if reason := missing():
        print(f"no cluster without {reason}", file=sys.stderr)
        return 2

    def say(text: str) -> None:
        print(f"\r{text}\033[K" if sys.stderr.isatty() else text, end="\r" if sys.stderr.isatty() else "\n",
              file=sys.stderr, flush=True)  # fmt: skip

    table, wrong = run(args.minutes * 60, seed, say)
    print(f"\n{table}")
    found = [f"{kind}: {text}" for kind, texts in wrong.items() for text in texts]
    if found:
        print("", *found, f"\nseed {seed}; the schedule:", *events, sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
