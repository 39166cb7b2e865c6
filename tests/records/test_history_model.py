"""The history against a dictionary: wherever daemons die, each job is told, once, as it ended."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from roundq.records import history
from roundq.records import spool as spools
from roundq.records.history import Journal, Moving
from roundq.words import record_format as formats
from roundq.words.job import Job, Record
from roundq.words.states import ENDED_STATES
from roundq.world import files
from tests.records.crowd import new_spool
from tests.world.refusing import Refusing

NODES = st.sampled_from(["n1", "n.2"])
which = st.integers(0, 1 << 16)
YEAR_S = 1e9


class HistoryModel(RuleBasedStateMachine):
    """Every rule is one step of a daemon, or its death within one."""

    def __init__(self) -> None:
        super().__init__()
        self.home = tempfile.mkdtemp(prefix="roundq-history-")
        self.spool = new_spool(self.home)
        self.jobs: dict[str, tuple[str, Record]] = {}
        self.journals: dict[str, Journal] = {}

    def teardown(self) -> None:
        shutil.rmtree(self.home)

    def journal(self, node: str) -> Journal:
        return self.journals.setdefault(node, Journal(self.spool, node))

    def moving(self, node: str) -> list[Moving]:
        return sorted(one for one in history.look(self.spool).moving if one.node == node)

    # ------------------------------------------------------------ what happens

    @initialize(lengths=st.lists(st.integers(0, 500), min_size=3, max_size=8))
    def begin(self, lengths: list[int]) -> None:
        """What has ended before any of this, some of it on its way into the journal of each node."""
        for length in lengths:
            self.end(False, ENDED_STATES[length % 4], length)
        for node in ("n1", "n.2"):
            self.take(lengths[0], node, len(lengths) // 3)

    @rule(array=st.booleans(), state=st.sampled_from(ENDED_STATES), length=st.integers(0, 3000))
    def end(self, array: bool, state: str, length: int) -> None:
        """A job has ended."""
        number = len(self.jobs) + 1
        job_id = f"{number // 5}_{number}" if array else str(number)
        record = Record(Job(("x" * length,)), completed_ns=number, exit_code=number % 3)
        Path(self.spool.path, state, f"{job_id}.job").write_bytes(formats.dump(record))
        self.jobs[job_id] = state, record

    @rule(number=which, node=NODES, count=st.integers(1, 4))
    def take(self, number: int, node: str, count: int) -> None:
        """A daemon begins to fold records, and may die then."""
        for _ in range(count):
            if entries := spools.scan(self.spool, ENDED_STATES):
                assert history.take(self.spool, entries[number % len(entries)], node) is not None

    @rule(node=NODES, year_s=st.sampled_from([YEAR_S, -1.0]))
    def fold(self, node: str, year_s: float) -> None:
        """It goes on; a volume may be full then."""
        moving = self.moving(node)
        assert self.journal(node).fold(moving, 5.0, year_s) == len(moving)
        assert self.moving(node) == []

    @rule(node=NODES)
    def die_before_removal(self, node: str) -> None:
        """The lines are written, and the records are still there."""
        kept = {
            one.file: Path(history.path_of(self.spool, one.file)).read_bytes() for one in self.moving(node)
        }
        self.journal(node).fold(self.moving(node), 5.0, YEAR_S)
        for file, content in kept.items():
            Path(history.path_of(self.spool, file)).write_bytes(content)
        self.journals.pop(node, None)

    @rule(node=NODES, cut=st.integers(1, 100))
    def lose_power(self, node: str, cut: int) -> None:
        """In the midst of the last lines, whose records are still there."""
        moving = self.moving(node)
        one = self.journal(node)
        path = one._current()
        before = os.path.getsize(path) if path is not None and os.path.exists(path) else None
        self.die_before_removal(node)
        path = Journal(self.spool, node)._current()
        if moving and before is not None and path is not None and os.path.getsize(path) > before:
            os.truncate(path, max(before, os.path.getsize(path) - cut))
            # The next daemon.
            self.fold(node, YEAR_S)

    @rule(node=NODES)
    def find_no_room(self, node: str) -> None:
        """Half of it is written, and then nothing more."""
        refusing = Refusing()

        def half(descriptor: int, data: bytes) -> int:
            os.write(descriptor, bytes(data)[: len(data) // 2])
            raise OSError(28, "No space left on device")

        refusing.instead("write", half)
        real, files.os = files.os, refusing  # type: ignore[assignment, attr-defined]
        try:
            with contextlib.suppress(OSError):
                self.journal(node).fold(self.moving(node), 5.0, YEAR_S)
        finally:
            files.os = real  # type: ignore[attr-defined]

    @rule(node=NODES, other=NODES)
    def take_over(self, node: str, other: str) -> None:
        """What one node left another goes on with."""
        for one in self.moving(node):
            if node != other:
                assert history.take_over(self.spool, one, other) is not None

    @rule(node=NODES)
    def close(self, node: str) -> None:
        self.journal(node).close()

    @rule(node=NODES)
    def begin_anew(self, node: str) -> None:
        """A new daemon of that node."""
        self.journals.pop(node, None)

    # ------------------------------------------------------------ what is promised

    @invariant()
    def every_job_is_told_as_it_ended(self) -> None:
        records = {entry.id: entry.state for entry in spools.scan(self.spool, ENDED_STATES)}
        past = list(history.since(self.spool))
        assert len(past) == len({one.id for one in past})
        told = {one.id: (one.state, one.record) for one in past}
        assert not set(records) & set(told)
        assert told == {job_id: self.jobs[job_id] for job_id in self.jobs if job_id not in records}
        assert set(records) | set(told) == set(self.jobs)

    @invariant()
    def every_job_is_found(self) -> None:
        gone = set(self.jobs) - {entry.id for entry in spools.scan(self.spool, ENDED_STATES)}
        assert set(history.find(self.spool, self.jobs)) == gone
        for job_id in list(gone)[:3]:
            assert history.state_of(self.spool, job_id) == self.jobs[job_id][0]
        assert history.highest_number(self.spool) == max(
            (int(job_id.partition("_")[0]) for job_id in gone), default=0
        )


TestHistory = HistoryModel.TestCase
TestHistory.settings = settings(max_examples=30, stateful_step_count=15, deadline=None)
