"""One run of one seed: nodes, users, faults, and a judge who looks at all of it."""

from __future__ import annotations

import collections
import traceback
import zlib
from dataclasses import dataclass
from random import Random
from typing import Any

from roundq.actors import daemon
from roundq.records import ids
from roundq.records import spool as spools
from roundq.words.errors import RoundqError
from roundq.world.config import Config
from tests.simulation import calls, seams
from tests.simulation.client import LEAST_S, MOST_S, Client
from tests.simulation.disk import Disk, Inode
from tests.simulation.faults import Faults, calm
from tests.simulation.judge import Judge
from tests.simulation.machine import Node, Process
from tests.simulation.people import People
from tests.simulation.resources import Resources
from tests.simulation.schedule import Actor, Killed, Schedule
from tests.simulation.wishes import Wishes

#: Simulated seconds after the last fault within which everything must have ended.
PATIENCE_S = 3600.0
#: What a run is mostly about, and how often: some mistakes need a coincidence that chance alone seldom makes.
THEMES = ("mixed", "lease", "lost", "restart", "cancel"), (5, 1, 1, 1, 1)
#: More operations than any run needs: what goes round in circles is found so.
OPERATIONS_MAX = 400_000


@dataclass
class Result:
    """What came of one seed."""

    seed: int
    wrong: list[str]
    about: str
    jobs: int
    runs: int
    operations: int
    simulated_s: float
    trace: int
    faults: collections.Counter[str]
    history: list[str]


class World:
    """The simulated world of one seed."""

    def __init__(self, seed: int, *, verbose: bool = False) -> None:
        self.seed = seed
        self.rng = rng = Random(seed)
        self.random = rng.random
        self.trace = 0
        self.operations = 0
        self.history: list[str] | None = [] if verbose else None
        calls.world = self
        seams.reset()
        self.schedule = Schedule()
        self.schedule.on_crash = self._crashed
        self.latency_s = rng.choice((0.0005, 0.002, 0.02))
        #: Most runs are small: what two nodes and three jobs can do wrong is most of what there is.
        count = rng.choice((1, 1, 2, 2, 2, 2, 3, 3, 4))
        self.users = [f"user{n}" for n in range(rng.choice((1, 1, 1, 2, 2, 3)))]
        self.jobs = rng.choice((1, 2, 3, 3, 5, 8, 15))
        self.active_s = rng.choice((5.0, 15.0, 15.0, 40.0, 120.0, 300.0))
        self.theme = rng.choices(*THEMES)[0] if count > 1 else "mixed"
        if self.theme in ("lease", "lost"):
            self.active_s = rng.choice((60.0, 200.0))
            self.jobs = min(self.jobs, 5)
        is_local = count == 1 and rng.random() < 0.7
        self._tick_ns = rng.choice((1_000_000, 4_000_000, 1_000_000_000))
        self.disk = Disk(self._server_ns, rng, journals=is_local)
        remembers = not is_local and rng.random() < 0.8
        ttl_s = rng.choice((0.5, 5.0, LEAST_S, MOST_S))
        self.nodes = [
            Node(f"node{n}", rng.choice((1, 2, 2, 4)), self._client(remembers, ttl_s), self.schedule, rng)
            for n in range(count)
        ]
        self.resources = Resources(seed, self.nodes)
        self.config = self._configured()
        self.judge = Judge(self)
        self.schedule.should_stop = lambda: bool(self.judge.wrong)
        self._lay_out()
        self.disk.on_change = self.judge.changed
        self.faults = Faults(self)
        self.people = People(self)
        self.wishes = Wishes(self)

    def _configured(self) -> Config:
        rng = self.rng
        lease_s = rng.choice((8.0, 20.0)) if self.theme == "lease" else rng.choice((0.0, 0.0, 0.0, 30.0))
        values: dict[str, Any] = {
            "homes": ("/home",),
            "poll_min_s": 1.0,
            "poll_max_s": rng.choice((5.0, 15.0, 60.0)),
            "grace_s": rng.choice((0.5, 5.0, 30.0)),
            "patience_s": rng.choice((30.0, 600.0)),
            "licenses": self.resources.licenses,
        }
        if "lease_s" in Config.__dataclass_fields__:
            values["lease_s"] = lease_s
        return Config(**values)

    def _client(self, remembers: bool, ttl_s: float) -> Client:
        return Client(self.disk, lambda: self.schedule.now, remembers=remembers, ttl_s=ttl_s)

    def _server_ns(self) -> int:
        now_ns = 1_790_000_000_000_000_000 + int(self.schedule.now * 1e9)
        return now_ns - now_ns % self._tick_ns

    def _lay_out(self) -> None:
        home = self.disk.create(self.disk.root, "home", 0o755, 0, is_directory=True)
        for user in self.users:
            made = self.disk.create(home, user, 0o755, self.uid(user), is_directory=True)
            self.disk.homes[user] = made
            self.disk.sync(home)

    def uid(self, user: str) -> int:
        """The number of a user."""
        return 1000 + self.users.index(user)

    # ------------------------------------------------------------ what happens

    def note(self, kind: str, text: str, more: str = "") -> None:
        """One line of the history; the trace is a number that stands for all lines."""
        current = self.schedule.current
        who = current.name if current is not None else "-"
        self.operations += 1
        line = f"{self.schedule.now:.6f} {who} {kind} {text} {more}"
        self.trace = zlib.crc32(line.encode(), self.trace)
        if self.history is not None:
            self.history.append(line.replace("/.roundqueue", ""))
        if self.operations > OPERATIONS_MAX:
            self.judge.find(f"after {OPERATIONS_MAX} operations there is no end")

    def unexpected(self, who: str, error: BaseException) -> None:
        """An error that no code of ours should let through."""
        told = "".join(traceback.format_exception(type(error), error, error.__traceback__)[-6:])
        self.judge.find(f"{who} met an error that it did not expect: {told}")

    def _crashed(self, actor: Actor, error: BaseException) -> None:
        if isinstance(error, (OSError, RoundqError)):
            # It says so and ends, as a process does; whoever wants it starts it again.
            self.note("died of", f"{type(error).__name__}: {error}")
        else:
            self.unexpected(actor.name, error)
        actor.process.die(1 << 8)

    def boot(self, node: Node) -> None:
        """A node comes up; its daemons are started."""
        node.start()
        self.note("boot", f"{node.name} {node.boot}")
        for user in self.users:
            self._keep(node, user)

    def crash(self, node: Node) -> None:
        """A node goes down, and comes back some time later."""
        if not node.is_up:
            return
        self.note("crash", node.name)
        node.crash()
        if self.disk.journals:
            self.note("crash", f"of the disk: {self.disk.crash()} operations are taken back")
        boots = node.boots
        back_s = self.rng.choice((1.0, 30.0, 300.0)) * self.rng.random()
        self.schedule.at(back_s, lambda: None if node.is_up or node.boots != boots else self.boot(node))

    def _keep(self, node: Node, user: str) -> None:
        """The service manager: starts a daemon when there is none."""
        boot = node.boot

        def look() -> None:
            if node.boot != boot or not node.is_up:
                return
            serving = [
                one for one in node.processes.values() if one.kind == "daemon" and one.user == self.uid(user)
            ]
            if not any(one.is_alive for one in serving):
                self.start_daemon(node, user)
            self.schedule.at(0.5 + self.rng.random() * 5.0, look)

        if self.users.index(user) and self.rng.random() < 0.2 and self.faults.is_on:
            self.schedule.at(self.rng.random() * 20, look)
        else:
            self.schedule.at(self.rng.random() * 0.2, look)

    def start_daemon(self, node: Node, user: str) -> None:
        """`rq daemon`: takes over from an older one."""
        process = Process(node, "daemon", self.uid(user))
        process.environment = {"HOME": f"/home/{user}"}
        spool = self.people.spool(user)

        def main() -> None:
            daemon.run_foreground(spool, process.environment)
            process.die(0)

        self.schedule.start(repr(process), process, main)

    # ------------------------------------------------------------ the run

    def run(self) -> Result:
        """Plays the seed to its end."""
        for node in self.nodes:
            self.boot(node)
        self.people.begin()
        self.wishes.begin()
        self.faults.begin()
        try:
            self.schedule.run(self.active_s)
            calm_s = self.schedule.now
            if not self.judge.wrong:
                self.note("calm", "from now on all goes well")
                calm(self)
                self._end(calm_s)
        finally:
            result = self._result()
            self.schedule.close()
        return result

    def _end(self, calm_s: float) -> None:
        while not self.judge.wrong:
            self.schedule.run(self.schedule.now + 5.0)
            if not self.people.left and not self.judge.open_jobs() and not self._are_busy():
                break
            if self.schedule.now > calm_s + PATIENCE_S:
                left = self.judge.open_jobs()
                self.judge.find(
                    f"an hour after the last fault there is no end: {left}; {self._are_busy()}",
                    left[0].partition("/")[2].partition(" ")[0] if left else "",
                )
        if self.judge.wrong:
            return
        self.judge.final(calm_s)
        # A request that meets nothing is swept after a minute or two.
        until_s = self.schedule.now + 400.0
        while self.schedule.now < until_s and not self.judge.wrong and self._has_requests():
            self.schedule.run(self.schedule.now + 20.0)
        self._sweep()
        self.judge.left_behind()

    def _are_busy(self) -> list[str]:
        return [
            repr(process)
            for node in self.nodes
            for process in node.processes.values()
            if process.is_alive and process.kind != "daemon"
        ]

    def _has_requests(self) -> bool:
        return any(
            self.disk.walk(f"/home/{user}/.roundqueue/requests").children()
            for user in self.users
            if self._has(user)
        )

    def _has(self, user: str) -> bool:
        return "requests" in self.parts(user)

    def parts(self, user: str) -> dict[str, Inode]:
        """The directories of a user's spool, if it has been made."""
        home = self.disk.walk(f"/home/{user}").children()
        return home[".roundqueue"].children() if ".roundqueue" in home else {}

    def _sweep(self) -> None:
        """What the daemons do once an hour, after all of them have gone."""
        for node in self.nodes:
            node.crash()
            node.start()
            for user in self.users:
                process = Process(node, "rq", self.uid(user))
                spool = self.people.spool(user)

                def main(node: Node = node, spool: spools.Spool = spool, process: Process = process) -> None:
                    spools.sweep_temporaries(spool, node.name, list)
                    ids.sweep(spool.path, 1e12)
                    process.die(0)

                self.schedule.start(repr(process), process, main)
        self.schedule.run(self.schedule.now + 60.0)

    def _result(self) -> Result:
        return Result(
            self.seed,
            self.judge.wrong,
            self.judge.about,
            self.judge.all_jobs(),
            len(self.judge.runs),
            self.operations,
            self.schedule.now,
            self.trace,
            self.faults.counts,
            self.history or [],
        )


def play(seed: int, *, verbose: bool = False) -> Result:
    """One seed from its beginning to its end."""
    try:
        return World(seed, verbose=verbose).run()
    except Killed as error:
        raise AssertionError(f"seed {seed}: the simulation itself lost its way") from error
