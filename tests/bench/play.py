"""Plays a workload by a rule, from event to event; no real time passes.

A cluster knows what waits, what runs and what is free, for the rules to read; a rule starts jobs in it, and
may ask for a requeue. Whether anything is promised twice is not asked of the cluster, but of a judge that
counts by itself.
"""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from bisect import insort
from collections import defaultdict
from dataclasses import dataclass, field
from operator import attrgetter

from tests.bench.workload import Job, Machine, Shape, Workload

#: From the request for a requeue to the moment when the job is gone and waits again.
STOP_S = 5.0
#: How fast a job gets on whose core's other thread is at work, too, and one on such a thread.
SHARED_RATE = 0.6
_number = attrgetter("number")


@dataclass(eq=False, slots=True)
class Attempt:
    """A job that runs. `left_s` is what it had still to do at `since_s`; it does `rate` seconds a second."""

    job: Job
    machine: Machine
    cores: int
    began_s: float
    left_s: float
    since_s: float
    on_threads: bool = False
    rate: float = 1.0
    is_stopping: bool = False
    serial: int = 0


@dataclass(slots=True)
class Free:
    """What nobody was promised on a machine."""

    cores: int
    memory: int
    gpus: int
    threads: int
    jobs: int = 0


class Rule(ABC):
    """Who goes next. Told of each job that waits, and asked after each event."""

    name = ""

    def submitted(self, cluster: Cluster, job: Job) -> None:  # noqa: B027
        """The job waits, for the first time or again."""

    @abstractmethod
    def turn(self, cluster: Cluster) -> None:
        """Starts all that may start now."""

    def again_s(self, cluster: Cluster) -> float | None:  # noqa: ARG002
        """Seconds until it wants to be asked even if nothing happens, None for not at all."""
        return None


class Watcher:
    """Is told what happens; what it sees makes the figures."""

    def advance(self, cluster: Cluster, to_s: float) -> None:
        """Nothing changes from now until then."""

    def submitted(self, job: Job) -> None:
        """It waits, for the first time."""

    def started(self, attempt: Attempt) -> None:
        """It waits no more and runs."""

    def ended(self, attempt: Attempt, now_s: float) -> None:
        """It ran to its end."""

    def requeued(self, attempt: Attempt, now_s: float) -> None:
        """It runs no more and waits again, its work lost."""


@dataclass
class Cluster:
    """What waits and runs now. `version` changes with each change of either."""

    workload: Workload
    watchers: list[Watcher] = field(default_factory=list)
    now_s: float = 0.0
    version: int = 0

    def __post_init__(self) -> None:
        self.machines = {machine.name: machine for machine in self.workload.machines}
        self.free = {
            machine.name: Free(machine.cores, machine.memory, machine.gpus, machine.threads)
            for machine in self.workload.machines
        }
        self.licenses = dict(self.workload.licenses)
        #: By user and shape, in the order of submission. No list is empty.
        self.waiting: dict[str, dict[Shape, list[Job]]] = {}
        self.here: dict[str, dict[int, Attempt]] = {name: {} for name in self.machines}
        self.running: dict[int, Attempt] = {}
        #: Of each user, without what scavenges.
        self.running_cores: dict[str, int] = defaultdict(int)
        self.cores = self.free_cores = self.workload.cores
        #: How often something came or went there.
        self.changes: dict[str, int] = dict.fromkeys(self.machines, 0)
        #: Of each user, how many jobs were asked to give way.
        self.stopping: dict[str, int] = defaultdict(int)
        #: Of each user, how many jobs run that can be restarted; only those who have any.
        self.yielding: dict[str, int] = {}
        self._events: list[tuple[float, int, Attempt | None, int]] = []
        self._events_made = 0
        self._able: dict[tuple[str, Shape], bool] = {}

    # ------------------------------------------------------------ what rules ask

    def able(self, machine: Machine, shape: Shape) -> bool:
        """Whether it could run there if the machine, and the cluster, were empty."""
        key = (machine.name, shape)
        if key not in self._able:
            self._able[key] = (
                shape.cores <= machine.cores
                and shape.memory <= machine.memory
                and shape.gpus <= machine.gpus
                and all(self.workload.licenses.get(name, 0) >= count for name, count in shape.licenses)
            )
        return self._able[key]

    def fits(
        self, machine: Machine, shape: Shape, *, but_cores: bool = False, on_threads: bool = False
    ) -> bool:
        """Whether it could run there now; with `but_cores`, whether nothing but cores is missing."""
        if not self.able(machine, shape):
            return False
        free = self.free[machine.name]
        if on_threads:
            if not 0 < shape.cores <= free.threads or any(
                not one.job.shape.cores for one in self.here[machine.name].values()
            ):
                return False
        elif not but_cores and (free.jobs if not shape.cores else shape.cores > free.cores):
            return False
        return (
            shape.memory <= free.memory
            and shape.gpus <= free.gpus
            and all(self.licenses[name] >= count for name, count in shape.licenses)
        )

    # ------------------------------------------------------------ what rules do

    def start(self, job: Job, machine: Machine, *, on_threads: bool = False) -> None:
        """It begins there. Raises `KeyError` if it does not wait."""
        shapes = self.waiting[job.user]
        jobs = shapes[job.shape]
        del jobs[jobs.index(job)]
        if not jobs:
            del shapes[job.shape]
        if not shapes:
            del self.waiting[job.user]
        cores = job.shape.cores or machine.cores
        attempt = Attempt(job, machine, cores, self.now_s, job.length_s, self.now_s, on_threads)
        self.here[machine.name][job.number] = self.running[job.number] = attempt
        self._take(attempt, 1)
        for watcher in self.watchers:
            watcher.started(attempt)
        self._pace(machine, attempt)

    def requeue(self, attempt: Attempt) -> None:
        """It is asked to stop, and soon waits again. Asked twice it is as if asked once."""
        if not attempt.is_stopping:
            attempt.is_stopping = True
            self.version += 1
            self.changes[attempt.machine.name] += 1
            self.stopping[attempt.job.user] += 1
            self._at(self.now_s + STOP_S, attempt, -1)

    # ------------------------------------------------------------ the play

    def play(self, rule: Rule) -> None:
        """From the first submission to the end of the last job that can run at all."""
        ahead = iter(self.workload.jobs)
        upcoming = next(ahead, None)
        while True:
            times = [self._events[0][0]] if self._events else []
            if upcoming is not None:
                times.append(upcoming.submitted_s)
            again_s = rule.again_s(self) if self.waiting else None
            if not times and again_s is None:
                break
            if again_s is not None:
                times.append(self.now_s + again_s)
            now_s = min(times)
            for watcher in self.watchers:
                watcher.advance(self, now_s)
            self.now_s = now_s
            while self._events and self._events[0][0] <= now_s:
                _, _, attempt, serial = heapq.heappop(self._events)
                assert attempt is not None
                self._happens(rule, attempt, serial)
            while upcoming is not None and upcoming.submitted_s <= now_s:
                if any(self.able(machine, upcoming.shape) for machine in self.workload.machines):
                    for watcher in self.watchers:
                        watcher.submitted(upcoming)
                    self._wait(rule, upcoming)
                upcoming = next(ahead, None)
            rule.turn(self)
        assert not self.waiting, f"{rule.name} leaves jobs waiting for ever"

    def _happens(self, rule: Rule, attempt: Attempt, serial: int) -> None:
        """It ends, or stops as it was asked to, unless it was already gone or got another pace."""
        job = attempt.job
        if self.running.get(job.number) is not attempt or serial not in (attempt.serial, -1):
            return
        del self.running[job.number], self.here[attempt.machine.name][job.number]
        self._take(attempt, -1)
        self.stopping[job.user] -= attempt.is_stopping
        for watcher in self.watchers:
            if serial == -1:
                watcher.requeued(attempt, self.now_s)
            else:
                watcher.ended(attempt, self.now_s)
        self._pace(attempt.machine, attempt)
        if serial == -1:
            self._wait(rule, job)

    def _wait(self, rule: Rule, job: Job) -> None:
        insort(self.waiting.setdefault(job.user, {}).setdefault(job.shape, []), job, key=_number)
        self.version += 1
        rule.submitted(self, job)

    def _take(self, attempt: Attempt, sign: int) -> None:
        job, shape, free = attempt.job, attempt.job.shape, self.free[attempt.machine.name]
        self.version += 1
        self.changes[attempt.machine.name] += 1
        if attempt.on_threads:
            free.threads -= sign * attempt.cores
        else:
            free.cores -= sign * attempt.cores
            self.free_cores -= sign * attempt.cores
        free.jobs += sign
        free.memory -= sign * shape.memory
        free.gpus -= sign * shape.gpus
        for name, count in shape.licenses:
            self.licenses[name] -= sign * count
        if not shape.scavenge:
            self.running_cores[job.user] += sign * attempt.cores
        if shape.restartable:
            self.yielding[job.user] = self.yielding.get(job.user, 0) + sign
            if not self.yielding[job.user]:
                del self.yielding[job.user]

    def _pace(self, machine: Machine, changed: Attempt) -> None:
        """Sets how fast each job on the machine gets on, and when it ends, after one came or went."""
        here = self.here[machine.name].values()
        if self.free[machine.name].threads == machine.threads and not changed.on_threads:
            # Nothing is on a second thread: nobody's pace changes.
            if changed.job.number in self.running and not changed.serial:
                changed.serial = 1
                self._at(self.now_s + changed.left_s, changed, 1)
            return
        on_cores = machine.cores - self.free[machine.name].cores
        on_threads = machine.threads - self.free[machine.name].threads
        part = min(1.0, on_threads / on_cores) if on_cores else 0.0
        for attempt in here:
            attempt.left_s -= (self.now_s - attempt.since_s) * attempt.rate
            attempt.since_s = self.now_s
            attempt.rate = SHARED_RATE if attempt.on_threads else 1 - part * (1 - SHARED_RATE)
            attempt.serial += 1
            self._at(self.now_s + max(0.0, attempt.left_s) / attempt.rate, attempt, attempt.serial)

    def _at(self, at_s: float, attempt: Attempt, serial: int) -> None:
        self._events_made += 1
        heapq.heappush(self._events, (at_s, self._events_made, attempt, serial))


class Judge(Watcher):
    """Holds against the cluster what it counted itself: that nothing is promised twice, at no instant."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.checks = 0
        self._on: dict[str, list[Attempt]] = {machine.name: [] for machine in workload.machines}
        self._ever: set[int] = set()
        self._now: set[int] = set()
        self._changed: set[str] = set()

    def started(self, attempt: Attempt) -> None:
        number = attempt.job.number
        assert number not in self._now, f"job {number} runs twice at once"
        assert number not in self._ever, f"job {number} runs again after its end"
        self._now.add(number)
        self._on[attempt.machine.name].append(attempt)
        self._changed.add(attempt.machine.name)

    def ended(self, attempt: Attempt, now_s: float) -> None:
        self._ever.add(attempt.job.number)
        self._left(attempt)
        assert now_s - attempt.began_s >= attempt.job.length_s - 1e-3, "it ended before its work was done"

    def requeued(self, attempt: Attempt, now_s: float) -> None:  # noqa: ARG002
        shape = attempt.job.shape
        assert shape.restartable, f"job {attempt.job.number} was requeued and is not restartable"
        self._left(attempt)

    def _left(self, attempt: Attempt) -> None:
        self._now.remove(attempt.job.number)
        self._on[attempt.machine.name].remove(attempt)

    def advance(self, cluster: Cluster, to_s: float) -> None:  # noqa: ARG002
        self.check()

    def check(self) -> None:
        """Raises `AssertionError` if cores, memory, GPUs or licenses are promised twice."""
        for machine in self.workload.machines:
            if machine.name not in self._changed:
                continue
            self.checks += 1
            here = self._on[machine.name]
            on_cores = [attempt for attempt in here if not attempt.on_threads]
            cores = sum(attempt.job.shape.cores or machine.cores for attempt in on_cores)
            assert cores <= machine.cores, f"{machine.name}: {cores} of {machine.cores} cores are promised"
            threads = sum(attempt.cores for attempt in here) - cores
            assert threads <= machine.threads, f"{machine.name}: {threads} spare threads are promised"
            whole = [attempt for attempt in here if not attempt.job.shape.cores]
            assert not whole or len(here) == 1, f"{machine.name}: who has it whole is not alone"
            memory = sum(attempt.job.shape.memory for attempt in here)
            assert memory <= machine.memory, f"{machine.name}: {memory} bytes are promised"
            gpus = sum(attempt.job.shape.gpus for attempt in here)
            assert gpus <= machine.gpus, f"{machine.name}: {gpus} of {machine.gpus} GPUs are promised"
        if self._changed and self.workload.licenses:
            held: dict[str, int] = defaultdict(int)
            for here in self._on.values():
                for attempt in here:
                    for name, count in attempt.job.shape.licenses:
                        held[name] += count
            for name, count in held.items():
                assert count <= self.workload.licenses.get(name, 0), f"{count} licenses {name} are promised"
        self._changed.clear()
