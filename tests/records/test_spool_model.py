"""The spool against a dictionary: whatever two nodes and a user do to it, each job is in one place, whole."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from dataclasses import dataclass, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from roundq.records import changes, ids
from roundq.records import spool as spools
from roundq.records.spool import Entry
from roundq.words import record_format as formats
from roundq.words.job import NO_NODE, Identity, Job, Record
from roundq.words.states import (
    CANCELED,
    CLAIMED,
    COMPLETED,
    ENDED_STATES,
    FAILED,
    HELD,
    RUNNING,
    TRANSITIONS,
    WAITING,
    ZOMBIE,
)
from roundq.world import files, procs
from tests.records.crowd import drop, leftovers, new_spool
from tests.world.refusing import LOST, Refusing

NODES = st.sampled_from(["nodeA", "node-b.example"])
#: Which of the jobs in question: taken modulo their number.
which = st.integers(0, 1 << 16)
OUTCOMES: dict[str, dict[str, object]] = {
    COMPLETED: {"exit_code": 0},
    FAILED: {"reason": "exit", "exit_code": 1},
    CANCELED: {"reason": "canceled"},
    ZOMBIE: {"reason": "lost"},
}
MOVES = {(transition.source, transition.target) for transition in TRANSITIONS}


@dataclass
class Known:
    """What the dictionary says of a job."""

    state: str = WAITING
    node: str | None = None
    attempt: int = 1
    #: Whether the record says how the attempt ended, although it lies in running/.
    told: str | None = None
    asked: bool = False
    on_hold: bool = False
    #: Where it was before a process that died sealed it, and where its record belongs.
    sealed: tuple[str, str] | None = None


class SpoolModel(RuleBasedStateMachine):
    """Every rule is one transition of the protocol, by whoever may make it, on a job that may make it."""

    def __init__(self) -> None:
        super().__init__()
        self.home = tempfile.mkdtemp(prefix="roundq-model-")
        self.spool = new_spool(self.home)
        self.jobs: dict[str, Known] = {}
        self.stale: list[Entry] = []
        self.clock = 0

    def teardown(self) -> None:
        shutil.rmtree(self.home)

    # ------------------------------------------------------------ helpers

    def some(
        self, number: int, *states: str, told: bool | None = None, sealed: bool = False
    ) -> tuple[str, Known] | None:
        fit = [
            (job_id, known)
            for job_id, known in sorted(self.jobs.items())
            if known.state in states
            and (told is None or (known.told is not None) is told)
            and (known.sealed is not None) is sealed
        ]
        return fit[number % len(fit)] if fit else None

    def entry(self, job_id: str) -> Entry:
        (entry,) = [entry for entry in spools.scan(self.spool) if entry.id == job_id]
        return entry

    def now_ns(self) -> int:
        self.clock += 1
        return self.clock

    def moved(self, known: Known, state: str, node: str | None = None) -> None:
        assert (known.state, state) in MOVES
        known.state, known.node = state, node

    # ------------------------------------------------------------ submitters

    @rule(count=st.integers(1, 3))
    def submit(self, count: int) -> None:
        told = spools.submit(self.spool, [Job(("run", str(n))) for n in range(count)], "nodeA")
        assert len(told) == count
        for job_id in told:
            assert job_id not in self.jobs
            self.jobs[job_id] = Known()

    @rule(name=st.sampled_from(["7th", "a@b", "x.y", "1790000000.5"]), held=st.booleans())
    def drop(self, name: str, held: bool) -> None:
        """A program must use each stem once, and leave plain numbers to us."""
        if name in self.jobs:
            return
        drop(self.spool, f"{name}.job")
        if held:
            os.rename(f"{self.spool.path}/waiting/{name}.job", f"{self.spool.path}/held/{name}.job")
        self.jobs[name] = Known(HELD if held else WAITING)

    # ------------------------------------------------------------ daemons

    @rule(number=which, node=NODES)
    def claim(self, number: int, node: str) -> None:
        found = self.some(number, WAITING)
        if found is None:
            return
        job_id, known = found
        entry = self.entry(job_id)
        claimed = spools.claim(self.spool, entry, node)
        assert claimed == self.entry(job_id)
        self.stale.append(entry)
        self.moved(known, CLAIMED, node)

    @precondition(lambda self: self.stale)
    @rule(number=which, node=st.sampled_from(["nodeC"]))
    def claim_what_was_seen_before(self, number: int, node: str) -> None:
        """A daemon acts on a listing that is old: it gets the job if it waits again, or has it already."""
        entry = self.stale[number % len(self.stale)]
        known = self.jobs[entry.id]
        claimed = spools.claim(self.spool, entry, node)
        is_mine = (known.state, known.node) == (CLAIMED, node)
        assert (claimed is not None) is (known.state == WAITING or is_mine)
        if claimed is not None and not is_mine:
            self.moved(known, CLAIMED, node)

    @rule(number=which)
    def withdraw(self, number: int) -> None:
        found = self.some(number, CLAIMED)
        if found is not None:
            job_id, known = found
            assert spools.withdraw(self.spool, self.entry(job_id))
            self.moved(known, WAITING)

    @rule(number=which)
    def begin(self, number: int) -> None:
        found = self.some(number, CLAIMED)
        if found is None:
            return
        job_id, known = found
        assert known.node is not None
        entry = self.entry(job_id)
        record = spools.read(self.spool, entry)
        born = replace(
            record, node=known.node, process=Identity("b", 7, self.now_ns()), started_ns=self.clock
        )
        spools.rewrite(self.spool, entry, born, known.node)
        running = spools.begin(self.spool, self.entry(job_id), known.node)
        assert running is not None
        assert spools.read(self.spool, running) == born
        self.moved(known, RUNNING, known.node)

    # ------------------------------------------------------------ ends

    def ended(self, record: Record, state: str) -> Record:
        if state == WAITING:
            return record.next_attempt(self.now_ns(), "restarted")
        return replace(record, completed_ns=self.now_ns(), **OUTCOMES[state])  # type: ignore[arg-type]

    def arrived(self, known: Known, state: str) -> None:
        self.moved(known, state)
        known.told = None
        if state == WAITING:
            known.attempt += 1
        else:
            known.asked = False

    @rule(number=which, state=st.sampled_from([*OUTCOMES, WAITING]))
    def settle(self, number: int, state: str) -> None:
        found = self.some(number, RUNNING, told=False)
        if found is None:
            return
        job_id, known = found
        entry = self.entry(job_id)
        record = self.ended(spools.read(self.spool, entry), state)
        assert spools.settle(self.spool, entry, record, known.node or "") == state
        assert spools.read(self.spool, self.entry(job_id)) == record
        self.arrived(known, state)

    @rule(number=which, state=st.sampled_from([*OUTCOMES, WAITING]))
    def crash_after_the_facts(self, number: int, state: str) -> None:
        found = self.some(number, RUNNING, told=False)
        if found is None:
            return
        job_id, known = found
        entry = self.entry(job_id)
        record = self.ended(spools.read(self.spool, entry), state)
        spools.rewrite(self.spool, entry, record, known.node or "")
        known.told = state

    @rule(number=which)
    def recover(self, number: int) -> None:
        found = self.some(number, RUNNING, told=True)
        if found is None:
            return
        job_id, known = found
        entry = self.entry(job_id)
        state = spools.conclude(self.spool, entry, spools.read(self.spool, entry))
        assert state is not None
        assert state == known.told
        self.arrived(known, state)

    @rule(number=which, node=NODES, state=st.sampled_from(list(OUTCOMES)))
    def run_to_the_end(self, number: int, node: str, state: str) -> None:
        """Several steps, so that what ended is met often."""
        found = self.some(number, WAITING)
        if found is None:
            return
        job_id, known = found
        claimed = spools.claim(self.spool, self.entry(job_id), node)
        assert claimed is not None
        record = replace(
            spools.read(self.spool, claimed), node=node, process=Identity("b", 7, self.now_ns()), started_ns=1
        )
        assert spools.rewrite(self.spool, claimed, record, node) is not None
        running = spools.begin(self.spool, self.entry(job_id), node)
        assert running is not None
        assert spools.settle(self.spool, running, self.ended(record, state), node) == state
        known.state = RUNNING
        self.arrived(known, state)

    # ------------------------------------------------------------ another node, for one that is lost

    @rule(number=which)
    def free(self, number: int) -> None:
        """Another node gives a claim back: its owner can neither write to the record nor begin it."""
        found = self.some(number, CLAIMED)
        if found is None:
            return
        job_id, known = found
        entry = self.entry(job_id)
        record = spools.read(self.spool, entry)
        assert spools.withdraw(self.spool, entry)
        self.moved(known, WAITING)
        assert spools.rewrite(self.spool, entry, record, known.node or "") is None
        assert spools.begin(self.spool, entry, known.node or "") is None

    @rule(number=which)
    def seize(self, number: int) -> None:
        """Another node takes a running job over: its owner can write nothing any more."""
        found = self.some(number, RUNNING, told=False)
        if found is None:
            return
        job_id, known = found
        entry = self.entry(job_id)
        record = self.ended(spools.read(self.spool, entry), COMPLETED)
        before = known.node
        known.node = "nodeC" if before != "nodeC" else "nodeA"
        seized = spools.seize(self.spool, entry, known.node)
        assert seized == self.entry(job_id)
        assert spools.settle(self.spool, entry, record, before or "") is None

    # ------------------------------------------------------------ the user

    @rule(number=which)
    def cancel(self, number: int) -> None:
        found = self.some(number, HELD, WAITING, CLAIMED)
        if found is not None:
            job_id, known = found
            assert spools.cancel(self.spool, self.entry(job_id), self.now_ns(), "nodeA")
            self.moved(known, CANCELED)
            known.asked = known.on_hold = False

    @rule(number=which)
    def ask(self, number: int) -> None:
        found = self.some(number, CLAIMED, RUNNING)
        if found is not None:
            spools.request(self.spool, found[0], "cancel", "nodeA")
            found[1].asked = True

    # ------------------------------------------------------------ hold, release, change

    @rule(number=which)
    def hold(self, number: int) -> None:
        found = self.some(number, HELD, WAITING)
        if found is not None:
            job_id, known = found
            entry = self.entry(job_id)
            assert changes.hold(self.spool, entry)
            if entry.state == WAITING:
                self.stale.append(entry)
            self.moved(known, HELD)
            known.on_hold = True

    @rule(number=which, state=st.sampled_from([HELD, WAITING]))
    def release(self, number: int, state: str) -> None:
        found = self.some(number, HELD)
        if found is not None:
            job_id, known = found
            assert changes.release(self.spool, self.entry(job_id), state)
            self.moved(known, state)
            known.on_hold = False

    def seal(self, found: tuple[str, Known], node: str, process: Identity | None = None) -> Entry:
        """Sealed by this process, or by one that is dead, as nobody else could be."""
        job_id, known = found
        entry = self.entry(job_id)
        own = procs.own_identity
        try:
            if process is not None:
                vars(procs)["own_identity"] = lambda: process
            sealed = changes.change(self.spool, entry, node)
        finally:
            vars(procs)["own_identity"] = own
        assert sealed is not None
        assert (known.state, HELD) in MOVES
        # Nobody else can move it, whatever he saw.
        assert not changes.hold(self.spool, sealed)
        assert not changes.release(self.spool, sealed, WAITING)
        assert not spools.cancel(self.spool, sealed, self.now_ns(), "nodeA")
        assert changes.change(self.spool, entry, "nodeC") is None
        return sealed

    @rule(number=which, node=NODES)
    def edit(self, number: int, node: str) -> None:
        found = self.some(number, HELD, WAITING)
        if found is None:
            return
        job_id, known = found
        sealed = self.seal(found, node)
        record = spools.read(self.spool, sealed)
        new = replace(record, job=replace(record.job, priority=self.now_ns()))
        assert changes.put(self.spool, sealed, new, known.state, node, on_hold=known.on_hold)
        assert spools.read(self.spool, self.entry(job_id)) == new

    @rule(number=which, node=NODES, held=st.booleans())
    def rerun(self, number: int, node: str, held: bool) -> None:
        found = self.some(number, *ENDED_STATES)
        if found is None:
            return
        _, known = found
        sealed = self.seal(found, node)
        record = spools.read(self.spool, sealed)
        assert changes.put(self.spool, sealed, record.unbegun(), HELD if held else WAITING, node)
        self.moved(known, HELD)
        known.state = HELD if held else WAITING
        known.attempt += 1

    @rule(number=which, node=NODES)
    def think_better_of_a_change(self, number: int, node: str) -> None:
        found = self.some(number, HELD, WAITING, *ENDED_STATES)
        if found is not None:
            assert changes.unseal(self.spool, self.seal(found, node))

    @rule(
        number=which,
        node=NODES,
        is_written=st.booleans(),
        has_ended=st.booleans(),
        is_mended=st.sampled_from([True, True, False]),
    )
    def die_while_changing(
        self, number: int, node: str, is_written: bool, has_ended: bool, is_mended: bool
    ) -> None:
        """An edit, or a rerun, whose process dies before it wrote anything, or before it moved the record."""
        found = self.some(number, *(ENDED_STATES if has_ended else (HELD, WAITING)))
        if found is None:
            return
        job_id, known = found
        origin = known.state
        sealed = self.seal(found, node, Identity("b", 7, self.now_ns()))
        if is_written:
            record = spools.read(self.spool, sealed)
            new = record.unbegun() if has_ended else replace(record, retired=True)
            data = formats.dump(new)
            files.replace(spools.temporary_of(self.spool, node, data), spools.path_of(self.spool, sealed))
            known.attempt += has_ended
        belongs = WAITING if is_written and has_ended else origin
        known.state, known.node, known.sealed = HELD, node, (origin, belongs)
        if is_mended:
            self.mend_one(job_id, known)

    @rule(number=which)
    def mend(self, number: int) -> None:
        found = self.some(number, HELD, sealed=True)
        if found is not None:
            self.mend_one(*found)

    def mend_one(self, job_id: str, known: Known) -> None:
        assert known.sealed is not None
        entry = self.entry(job_id)
        seal = changes.seal_of(entry)
        assert seal is not None
        assert not changes.may_live(seal)
        assert changes.put_back(self.spool, entry) == known.sealed[1]
        self.moved(known, known.sealed[1])
        known.sealed = None

    @rule()
    def lose_the_token(self) -> None:
        """Of all that can be damaged, what gives the ids; it is founded anew."""
        for name in os.listdir(self.spool.directory("ids")):
            os.unlink(f"{self.spool.path}/ids/{name}")

    # ------------------------------------------------------------ what always holds

    @invariant()
    def every_job_is_in_its_one_place(self) -> None:
        listed = {entry.id: (entry.state, entry.node, entry.is_on_hold) for entry in spools.scan(self.spool)}
        assert len(listed) == len(spools.scan(self.spool))
        assert listed == {
            id_: (known.state, known.node, known.on_hold and known.sealed is None)
            for id_, known in self.jobs.items()
        }

    @invariant()
    def every_record_is_whole_and_tells_its_attempt(self) -> None:
        for entry in spools.scan(self.spool):
            record = spools.read(self.spool, entry)
            known = self.jobs[entry.id]
            is_requeued = known.told == WAITING
            assert record.attempt == known.attempt + is_requeued
            assert [attempt.number for attempt in record.attempts] == list(range(1, record.attempt))
            if entry.state in (WAITING, CLAIMED) and record.attempt > 1:
                assert (record.process, record.node) == (None, NO_NODE)
            if entry.state in ENDED_STATES:
                assert record.completed_ns

    @invariant()
    def nothing_is_left_behind(self) -> None:
        assert leftovers(self.spool) == []

    @invariant()
    def requests_wait_for_whom_they_concern(self) -> None:
        asked = {id_: {"cancel"} for id_, known in self.jobs.items() if known.asked}
        assert spools.requests(self.spool) == asked


class LossySpoolModel(SpoolModel):
    """The same, on a network that loses replies: what happened is found out each time."""

    @initialize()
    def begin_to_lose(self) -> None:
        self.system = Refusing()
        self.restore = contextlib.ExitStack()
        patch = pytest.MonkeyPatch()
        self.restore.callback(patch.undo)
        for module in (files, ids):
            patch.setattr(module, "os", self.system)

    def teardown(self) -> None:
        self.restore.close()
        super().teardown()

    @rule(name=st.sampled_from(["rename", "link"]), number=st.sampled_from(LOST), skip=st.integers(0, 2))
    def lose_a_reply(self, name: str, number: int, skip: int) -> None:
        self.system.fail(name, number, happens=True, skip=skip)


TestSpoolModel = SpoolModel.TestCase
TestSpoolModel.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestLossySpoolModel = LossySpoolModel.TestCase
TestLossySpoolModel.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
