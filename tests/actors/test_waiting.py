"""Promises about what a daemon knows of its waiting jobs: all of them, in the order of turns, for little."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roundq.actors.tenants import Tenants
from roundq.actors.waiting import ALIKE_LEAST, FEW, WaitingList
from roundq.records import spool as spools
from roundq.records.spool import Entry, Spool
from roundq.words import policy
from roundq.words import record_format as formats
from roundq.words.job import Array, Job, Record, Task
from roundq.words.states import WAITING

LOG = logging.getLogger("test")


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    (tmp_path / "ann").mkdir()
    made = spools.at(str(tmp_path / "ann"), "ann", os.geteuid())
    spools.prepare(made)
    return made


def submit(spool: Spool, count: int, **fields: object) -> str:
    """An array of so many tasks; its id."""
    job = Job(("true",), array=Array("", 0, 0, count - 1, 1, count), submitted_ns=1, **fields)  # type: ignore[arg-type]
    return spools.submit_array(spool, job, [[Task(index, ("true",))] for index in range(count)], "n1")


def change(spool: Spool, job_id: str, **fields: Any) -> None:
    """Gives a job another file, as whoever changes it does."""
    path = f"{spool.directory(WAITING)}/{job_id}.job"
    record = formats.parse(Path(path).read_bytes())
    record = replace(record, job=replace(record.job, **fields))
    Path(f"{spool.directory('tmp')}/new").write_bytes(formats.dump(record))
    os.rename(f"{spool.directory('tmp')}/new", path)


def order(waiting: WaitingList) -> list[str]:
    """The ids in the order of turns."""
    wants = [one.want for line in waiting.shapes.values() for one in line]
    assert len(wants) == len(waiting)
    return [want.id for want in policy.in_order(wants)]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of all records that are read."""
    found: list[str] = []
    read = spools.read

    def noted(of: Spool, entry: Entry) -> Record:
        found.append(entry.id)
        return read(of, entry)

    monkeypatch.setattr(spools, "read", noted)
    return found


def test_of_many_tasks_two_are_read(spool: Spool, reads: list[str]) -> None:
    """And what is known of them is right for all, with single jobs between them in their order."""
    count = 2 * ALIKE_LEAST
    first = submit(spool, count, cores=3, priority=5)
    (single,) = spools.submit(spool, [Job(("true",), priority=5, submitted_ns=1)], "n1")
    few = submit(spool, ALIKE_LEAST - 1)
    waiting = WaitingList(spool, LOG)
    waiting.look(10.0, 1.0)
    read_of_few = [f"{few}_{index}" for index in range(ALIKE_LEAST - 1)]
    assert sorted(reads) == sorted([f"{first}_0", f"{first}_{count - 1}", single, *read_of_few])
    assert order(waiting) == [*(f"{first}_{index}" for index in range(count)), single, *read_of_few]
    assert {shape.cores for shape in waiting.shapes} == {1, 3}


def test_one_that_was_changed_is_read_alone(spool: Spool, reads: list[str]) -> None:
    array = submit(spool, 100)
    waiting = WaitingList(spool, LOG)
    waiting.look(10.0, 0.0)
    reads.clear()
    change(spool, f"{array}_7", priority=9)
    waiting.look(20.0, 0.0)
    assert reads == [f"{array}_7"]
    assert order(waiting)[:2] == [f"{array}_7", f"{array}_0"]


@pytest.mark.parametrize("changed", [0, 99])
def test_where_first_and_last_differ_all_are_read(spool: Spool, reads: list[str], changed: int) -> None:
    """A change of all tasks that came to an end in their midst."""
    array = submit(spool, 100)
    change(spool, f"{array}_{changed}", cores=2)
    waiting = WaitingList(spool, LOG)
    waiting.look(10.0, 0.0)
    assert len(set(reads)) == 100
    assert sorted(len(line) for line in waiting.shapes.values()) == [1, 99]


def test_one_that_is_another_than_was_taken_for_granted_is_found_out_by_its_claim(spool: Spool) -> None:
    """It goes back, and is known for what it is."""
    array = submit(spool, 100)
    change(spool, f"{array}_50", cores=2)
    waiting, tenants = WaitingList(spool, LOG), Tenants(spool, "n1", LOG)
    waiting.look(10.0, 0.0)
    (line,) = waiting.shapes.values()
    one = line[50]
    waiting.remove([one.entry])
    assert tenants.claim(one.entry, one.want, 4, 1, 10.0) is None
    waiting.look(20.0, 0.0)
    assert {shape.cores: [one.entry.id for one in line] for shape, line in waiting.shapes.items()} == {
        1: [f"{array}_{index}" for index in range(100) if index != 50],
        2: [f"{array}_50"],
    }


def test_other_nodes_may_take_the_first_meanwhile(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the next one tells of the others as well."""
    array = submit(spool, 100)
    read, reads = spools.read, []

    def noted(of: Spool, entry: Entry) -> Record:
        reads.append(entry.id)
        if entry.id in (f"{array}_0", f"{array}_1"):
            raise FileNotFoundError(entry.file)
        return read(of, entry)

    monkeypatch.setattr(spools, "read", noted)
    waiting = WaitingList(spool, LOG)
    waiting.look(10.0, 0.0)
    assert (len(reads), len(waiting)) == (4, 100)


names = st.sampled_from(["1", "2", "10", "17_0", "17_3", "17_12", "a", "b_1"])
jobs = st.builds(
    Job,
    command=st.just(("true",)),
    cores=st.integers(1, 2),
    priority=st.integers(0, 1),
    submitted_ns=st.integers(1, 2),
    scavenge=st.booleans(),
)


@given(st.lists(st.dictionaries(names, st.none() | jobs, max_size=5), max_size=6), st.sampled_from([0, FEW]))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_comes_goes_and_is_changed_is_in_its_place(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    steps: Sequence[dict[str, Job | None]],
    few: int,
) -> None:
    """After each look the list is what is there, in the order of turns, whether few or many came at once."""
    monkeypatch.setattr("roundq.actors.waiting.FEW", few)
    home = tmp_path_factory.mktemp("home")
    spool = spools.at(str(home), "ann", os.geteuid())
    spools.prepare(spool)
    waiting = WaitingList(spool, LOG)
    model: dict[str, Job] = {}
    for number, step in enumerate(steps):
        for job_id, job in step.items():
            path = Path(f"{spool.directory(WAITING)}/{job_id}.job")
            if job is None:
                model.pop(job_id, None)
                path.unlink(missing_ok=True)
            else:
                model[job_id] = job
                temporary = Path(f"{spool.directory('tmp')}/{number}")
                temporary.write_bytes(formats.dump(Record(job)))
                temporary.rename(path)
        waiting.look(10.0 * (number + 1), 0.0)
        wants = [policy.want_of(job_id, job, job.submitted_ns) for job_id, job in model.items()]
        assert order(waiting) == [want.id for want in policy.in_order(wants)]
        for shape, line in waiting.shapes.items():
            assert [one.want.shape for one in line] == [shape] * len(line)
            assert [one.want.id for one in line] == [
                want.id for want in policy.in_order(wants) if want.shape == shape
            ]
        if len(waiting):
            first = next(iter(waiting.shapes.values()))[0]
            waiting.remove([first.entry])
            assert first.entry.id not in order(waiting)


def test_a_claim_from_a_long_list_looks_at_few(spool: Spool) -> None:
    """What is taken out is found by its place: ids of the others are hardly looked at."""
    submit(spool, 2000)
    waiting = WaitingList(spool, LOG)
    waiting.look(10.0, 0.0)
    (line,) = waiting.shapes.values()
    looked: list[str] = []
    natural: Callable[[str], tuple[int, int, int, str]] = policy.natural

    def counted(job_id: str) -> tuple[int, int, int, str]:
        looked.append(job_id)
        return natural(job_id)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policy, "natural", counted)
        waiting.remove([line[3].entry])
    assert len(looked) < 20
    assert len(waiting) == 1999
