"""Held jobs against a model: random graphs of jobs and arrays, daemons of two nodes, all that comes between.

Between any two listings and moves of a daemon the world may go on: jobs end, are run again, held,
submitted, and the other daemon looks. The model sees every instant, and asks for what is promised: nothing is
released unless all that it waits for was there at one time, nothing is canceled unless it could never run,
nothing has two names, and in the end nothing is left that could go.
"""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from roundq.actors.held import HeldList
from roundq.records import changes
from roundq.records import spool as spools
from roundq.words import record_format as formats
from roundq.words.job import NS, Array, Dependency, Job, Record
from roundq.words.states import (
    CANCELED,
    COMPLETED,
    ENDED_STATES,
    FAILED,
    HELD,
    RUNNING,
    WAITING,
    ZOMBIE,
)
from roundq.world import files

NOW_NS = 1_800_000_000 * NS
NODES = ("n1", "n2")
T = TypeVar("T")


class World:
    """A spool, two daemons that look at it, and a model that watches every move."""

    def __init__(self, path: Path, seed: int) -> None:
        home = path / "ann"
        home.mkdir()
        self.spool = spools.at(str(home), "ann", os.geteuid())
        spools.prepare(self.spool)
        self.random = random.Random(seed)
        self.now_s, self.now_ns = 1000.0, NOW_NS
        self.jobs: dict[str, Job] = {}
        self.arrays: dict[str, int] = {}
        self.state: dict[str, str] = {}
        self.on_hold: set[str] = set()
        #: Of what is held: whether all was there at one time, and whether it was clear that it never would.
        self.could_go: set[str] = set()
        self.could_never: set[str] = set()
        self.story: list[str] = []
        self.daemons = {node: self.daemon(node) for node in NODES}
        #: Who acts now; events come between the steps of daemons, not of events.
        self.is_busy = False
        self.may_edit = True
        self.written_ns = NOW_NS
        self.depth = 0

    def daemon(self, node: str) -> HeldList:
        """A daemon that just started."""
        return HeldList(self.spool, node, logging.getLogger("test"))

    # ------------------------------------------------------------ the model

    def ends(self, dependency: Dependency) -> list[str]:
        """Where the jobs are that it waits for."""
        if not dependency.tasks:
            return [self.state[dependency.job]]
        return [self.state[f"{dependency.job}_{index}"] for index in range(dependency.tasks)]

    def met(self, dependency: Dependency) -> bool:
        ends = self.ends(dependency)
        if not set(ends) <= set(ENDED_STATES):
            return False
        is_well = set(ends) == {COMPLETED}
        return {"ok": is_well, "any": True, "fail": not is_well}[dependency.how]

    def never(self, dependency: Dependency) -> bool:
        ends = self.ends(dependency)
        if dependency.how == "ok":
            return bool(set(ends) & {FAILED, CANCELED, ZOMBIE})
        return dependency.how == "fail" and set(ends) == {COMPLETED}

    def note(self) -> None:
        """Remembers of this instant what could go, and what never could."""
        for job_id, state in self.state.items():
            if state == HELD:
                job = self.jobs[job_id]
                if all(map(self.met, job.after)) and job.begin_ns <= self.now_ns:
                    self.could_go.add(job_id)
                if any(map(self.never, job.after)):
                    self.could_never.add(job_id)

    def moved(self, job_id: str, state: str, who: str) -> None:
        """A job is in another state from now on."""
        self.story.append(f"{who}: {job_id} {self.state.get(job_id)} -> {state}")
        self.state[job_id] = state
        self.could_go.discard(job_id)
        self.could_never.discard(job_id)
        self.note()

    # ------------------------------------------------------------ events

    def submit(self) -> None:
        """A job, or an array, after some of those that there are."""
        number = str(1 + len([job_id for job_id in self.jobs if "_" not in job_id]) + len(self.arrays))
        some = (self.some_dependency() for _ in range(self.random.choice([0, 1, 1, 2])))
        after = tuple(one for one in some if one is not None)
        begin_ns = self.now_ns + self.random.choice([0, 0, 0, 5, 20]) * NS
        begin_ns = 0 if begin_ns == self.now_ns else begin_ns
        kept = self.random.random() < 0.2
        count = self.random.choice([0, 0, 2, 3])
        for index in range(max(1, count)):
            job_id = f"{number}_{index}" if count else number
            array = Array(number, index, 0, count - 1, 1, count) if count else None
            own = tuple(
                Dependency(one.how, f"{one.job}_{index}") if self.is_paired(one, count) else one
                for one in after
            )
            job = Job(("true",), submitted_ns=1, after=own, begin_ns=begin_ns, keep_held=kept, array=array)
            self.jobs[job_id] = job
            self.write(job_id, HELD if own or begin_ns else WAITING)
        if count:
            self.arrays[number] = count

    def is_paired(self, one: Dependency, count: int) -> bool:
        """Whether an array's tasks come after one task of the other each."""
        return bool(count) and one.tasks == count

    def some_dependency(self, older_than: str = "") -> Dependency | None:
        how = self.random.choice(["ok", "ok", "any", "fail"])
        number = int(older_than.partition("_")[0] or len(self.jobs) + 1)
        arrays = sorted(array for array in self.arrays if int(array) < number)
        jobs = sorted(job_id for job_id in self.jobs if int(job_id.partition("_")[0]) < number)
        if arrays and self.random.random() < 0.5:
            array = self.random.choice(arrays)
            return Dependency(how, array, self.arrays[array])
        return Dependency(how, self.random.choice(jobs)) if jobs else None

    def write(self, job_id: str, state: str) -> None:
        path = f"{self.spool.directory('tmp')}/{job_id}"
        Path(path).write_bytes(formats.dump(Record(self.jobs[job_id])))
        # Two commands of people never come within one tick of the server's clock.
        self.written_ns += 10_000_000
        os.utime(path, ns=(self.written_ns, self.written_ns))
        os.rename(path, f"{self.spool.directory(state)}/{job_id}.job")
        self.moved(job_id, state, "user")

    def path(self, job_id: str) -> str:
        state = self.state[job_id]
        name = f"{job_id}@n9" if state == RUNNING else f"{job_id}@user" if job_id in self.on_hold else job_id
        return f"{self.spool.directory(state)}/{name}.job"

    def go(self, job_id: str, state: str, *, on_hold: bool = False) -> None:
        source = self.path(job_id)
        self.on_hold.discard(job_id)
        if on_hold:
            self.on_hold.add(job_id)
        self.state[job_id], before = state, self.state[job_id]
        target = self.path(job_id)
        self.state[job_id] = before
        try:
            os.rename(source, target)
        except FileNotFoundError:
            # A daemon has sealed it, and is about to cancel it.
            self.on_hold.discard(job_id)
            return
        self.moved(job_id, state, "user")

    def in_states(self, *states: str) -> list[str]:
        return sorted(job_id for job_id, state in self.state.items() if state in states)

    def event(self) -> None:
        """One thing happens."""
        kinds = ["submit", "run", "run", "end", "end", "end", "rerun", "hold", "time", "edit"]
        kind = self.random.choice(kinds)
        some: Callable[..., str | None] = lambda *states: self.pick(self.in_states(*states))  # noqa: E731
        if kind == "submit" and len(self.jobs) < 14:
            self.submit()
        elif kind == "run" and (job_id := some(WAITING)):
            self.go(job_id, RUNNING)
        elif kind == "end" and (job_id := some(RUNNING)):
            self.go(job_id, self.random.choice([COMPLETED, COMPLETED, COMPLETED, FAILED, CANCELED, ZOMBIE]))
        elif kind == "rerun" and self.random.random() < 0.5 and (job_id := some(*ENDED_STATES)):
            job = self.jobs[job_id]
            self.go(job_id, HELD if job.after or job.begin_ns else WAITING)
        elif kind == "hold" and (job_id := some(HELD)):
            self.go(job_id, HELD, on_hold=job_id not in self.on_hold)
        elif kind == "edit" and self.may_edit and (job_id := some(HELD)):
            self.edit(job_id)
        elif kind == "time":
            self.pass_time(self.random.choice([0.5, 3.0]))

    def edit(self, job_id: str) -> None:
        """It waits for something else; its file may get a number that another file of this name had."""
        job = self.jobs[job_id]
        one = self.some_dependency(older_than=job_id) if self.random.random() < 0.5 else None
        after = () if one is None else (one,)
        begin_ns = self.now_ns + self.random.choice([3, 10]) * NS
        try:
            os.remove(self.path(job_id))
        except FileNotFoundError:
            # It is sealed.
            return
        self.jobs[job_id] = replace(job, after=after, begin_ns=begin_ns)
        self.write(job_id, HELD)
        self.on_hold.discard(job_id)

    def pick(self, of: list[str]) -> str | None:
        return self.random.choice(of) if of else None

    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        self.now_ns += round(seconds * NS)
        self.note()

    # ------------------------------------------------------------ between the steps of daemons

    def between(self) -> None:
        """What may happen between two steps of a daemon."""
        if self.is_busy or self.depth > 1:
            return
        self.is_busy = True
        try:
            while self.random.random() < 0.25:
                self.event()
        finally:
            self.is_busy = False
        if self.random.random() < 0.05:
            self.look(self.random.choice(NODES))

    def look(self, node: str) -> None:
        """A daemon looks. One that is in the middle of a look does not begin another."""
        daemon = self.daemons[node]
        if getattr(daemon, "is_looking", False):
            return
        daemon.is_looking = True  # type: ignore[attr-defined]
        self.depth += 1
        try:
            daemon.look(self.now_s, self.now_ns, 0.0)
        finally:
            self.depth -= 1
            daemon.is_looking = False  # type: ignore[attr-defined]

    def released(self, job_id: str) -> None:
        assert self.state[job_id] == HELD, self.told(f"{job_id} was released out of {self.state[job_id]}")
        assert job_id in self.could_go, self.told(f"{job_id} was released too early")
        self.moved(job_id, WAITING, "daemon")

    def canceled(self, job_id: str) -> None:
        assert self.state[job_id] == HELD, self.told(f"{job_id} was canceled out of {self.state[job_id]}")
        assert job_id in self.could_never, self.told(f"{job_id} was canceled, and could run")
        assert not self.jobs[job_id].keep_held, self.told(f"{job_id} was canceled, and was to be kept")
        self.moved(job_id, CANCELED, "daemon")

    def check(self) -> None:
        """No job has two names, and each is where the model has it."""
        self.is_busy = True
        found = [(entry.id, entry.state) for entry in spools.scan(self.spool)]
        self.is_busy = False
        assert len(found) == len(self.state), self.told(f"{sorted(found)}")
        assert dict(found) == self.state, self.told(f"{dict(found)}")

    def settle_down(self) -> None:
        """Nothing happens any more but that the daemons look."""
        self.is_busy = True
        for _ in range(2 * len(self.jobs) + 6):
            self.pass_time(3.0)
            for node in NODES:
                self.look(node)
        for job_id in self.in_states(HELD):
            job = self.jobs[job_id]
            if job_id in self.on_hold:
                continue
            is_free = all(map(self.met, job.after)) and job.begin_ns <= self.now_ns
            is_hopeless = any(map(self.never, job.after)) and not job.keep_held
            assert not is_free, self.told(f"{job_id} could go, and is held")
            assert not is_hopeless, self.told(f"{job_id} can never go, and is held")

    def told(self, what: str) -> str:
        return "\n".join(
            [what, *self.story, *(f"{job_id}: {job.after}" for job_id, job in self.jobs.items())]
        )


def moving(world: World) -> None:
    """What may come before a move of what was just read: all but that it is edited in this very moment."""
    before, world.may_edit = world.may_edit, False
    world.between()
    world.may_edit = before


def alone(world: World, act: Callable[[], T]) -> T:
    """Does something, and nothing comes between its parts."""
    is_busy, world.is_busy = world.is_busy, True
    try:
        return act()
    finally:
        world.is_busy = is_busy


@pytest.fixture
def world_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], World]:
    """Makes a world of which the steps of daemons are watched."""
    current: list[World] = []
    listing, release, change, put = files.listing, changes.release, changes.change, changes.put

    def listed(directory: str, **more: int) -> list[files.Name]:
        if current:
            current[0].between()
        return listing(directory, **more)

    def released(spool: spools.Spool, entry: spools.Entry, state: str) -> bool:
        world = current[0]
        moving(world)
        # As one step: whoever sees the one name before and the other after it sees no lie.
        was_there = os.path.lexists(spools.path_of(spool, entry))
        is_done = alone(world, lambda: release(spool, entry, state))
        if was_there:
            world.released(entry.id)
        return is_done

    def changed(spool: spools.Spool, entry: spools.Entry, node: str) -> spools.Entry | None:
        moving(current[0])
        return alone(current[0], lambda: change(spool, entry, node))

    def is_put(spool: spools.Spool, sealed: spools.Entry, *more: object, **named: bool) -> bool:
        current[0].between()
        done = alone(current[0], lambda: put(spool, sealed, *more, **named))  # type: ignore[arg-type]
        assert done
        current[0].canceled(sealed.id)
        return done

    monkeypatch.setattr(files, "listing", listed)
    monkeypatch.setattr(changes, "release", released)
    monkeypatch.setattr(changes, "change", changed)
    monkeypatch.setattr(changes, "put", is_put)
    monkeypatch.setattr(files, "sync_directory", lambda _: None)
    monkeypatch.setattr(os, "fsync", lambda _: None)

    def made(seed: int) -> World:
        directory = tmp_path / str(seed)
        directory.mkdir()
        current[:] = []
        world = World(directory, seed)
        current[:] = [world]
        return world

    return made


@pytest.mark.parametrize("seeds", [range(first, first + 20) for first in range(0, 100, 20)], ids=str)
def test_nothing_goes_too_early_and_nothing_stays_for_ever(
    world_of: Callable[[int], World], seeds: range
) -> None:
    for seed in seeds:
        world = world_of(seed)
        for _ in range(40):
            world.event()
            world.pass_time(0.5)
            world.look(world.random.choice(NODES))
            if world.random.random() < 0.05:
                # It is replaced, and forgets.
                node = world.random.choice(NODES)
                world.daemons[node] = world.daemon(node)
        world.check()
        world.settle_down()
        world.check()
