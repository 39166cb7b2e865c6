"""Promises about changing many jobs: what is written ahead is used only for what it was written for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from roundq.actors.changing import Changer
from roundq.actors.listing import Row, row_of
from roundq.records import spool as spools
from roundq.records.spool import Spool
from roundq.words import record_format as formats
from roundq.words.errors import JobRefused
from roundq.words.job import NS, Job, Record
from roundq.words.states import FAILED, WAITING
from roundq.world.together import Together
from tests.records.crowd import new_spool

NODE = "n1"
NOW_NS = 1_790_000_000 * NS
COUNT = 30


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return new_spool(tmp_path / "ann")


@pytest.fixture
def changer(spool: Spool) -> Iterator[Changer]:
    made = Changer(spool, NODE, NOW_NS)
    yield made
    made.drop_drafts()
    assert os.listdir(spool.directory("tmp")) == []


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A number for each file that is synced by itself."""
    calls: list[int] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        calls.append(descriptor)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    return calls


def waiting(spool: Spool) -> list[Row]:
    spools.submit(spool, [Job(("true",), submitted_ns=1) for _ in range(COUNT)], NODE)
    return rows(spool, WAITING)


def rows(spool: Spool, state: str) -> list[Row]:
    return [row_of(spool, entry, True) for entry in spools.scan(spool, (state,))]


def failed(spool: Spool) -> list[Row]:
    """The same jobs, which have failed."""
    for row in waiting(spool):
        assert row.record is not None
        path = f"{spool.directory(FAILED)}/{row.id}.job"
        os.rename(spools.path_of(spool, row.entry), path)
        ended = replace(row.record, started_ns=1, completed_ns=2, exit_code=1, reason="exit", node=NODE)
        Path(path).write_bytes(formats.dump(ended))
    return rows(spool, FAILED)


def wider(_: str, record: Record) -> Job:
    return replace(record.job, cores=2)


def edit_all(changer: Changer, some: list[Row]) -> None:
    for row in some:
        assert changer.edit(row, lambda record: wider("", record)).state == WAITING


def is_together(spool: Spool) -> bool:
    together = Together(spool.path)
    together.close()
    return not together.each


def test_many_are_written_together_and_synced_once(spool: Spool, changer: Changer, synced: list[int]) -> None:
    """And each holds what it would hold otherwise."""
    some = waiting(spool)
    synced.clear()
    changer.draft_edit(some, wider)
    edit_all(changer, some)

    assert {row.record.job.cores for row in rows(spool, WAITING) if row.record} == {2}
    assert len(rows(spool, WAITING)) == COUNT
    if is_together(spool):
        assert not synced


def test_a_rerun_of_many_is_the_next_attempt_of_each(spool: Spool, changer: Changer) -> None:
    some = failed(spool)
    changer.draft_rerun(some)
    for row in some:
        assert changer.rerun(row).state == WAITING

    again = [row.record for row in rows(spool, WAITING)]
    assert len(again) == COUNT
    assert all(record is not None and record.attempt == 2 for record in again)
    assert all(record is not None and record.attempts[0].exit_code == 1 for record in again)


def test_what_changed_after_it_was_drafted_is_not_overwritten(spool: Spool, changer: Changer) -> None:
    """Another command was faster: its change stays, and ours comes on top."""
    some = waiting(spool)
    changer.draft_edit(some, wider)
    Changer(spool, "n2", NOW_NS).edit(some[3], lambda record: replace(record.job, priority=7))
    edit_all(changer, some)

    found = {row.id: row.record.job for row in rows(spool, WAITING) if row.record}
    assert (found[some[3].id].priority, found[some[3].id].cores) == (7, 2)
    assert (found[some[4].id].priority, found[some[4].id].cores) == (0, 2)


def test_who_is_not_come_to_is_left_alone(spool: Spool, changer: Changer) -> None:
    """Nor is a draft left, which the fixture looks for."""
    some = waiting(spool)
    changer.draft_edit(some, wider)
    edit_all(changer, some[:5])

    cores = [row.record.job.cores for row in rows(spool, WAITING) if row.record]
    assert sorted(cores) == [1] * (COUNT - 5) + [2] * 5


def test_what_is_refused_is_refused_when_it_is_its_turn(spool: Spool, changer: Changer) -> None:
    def refused(job_id: str, record: Record) -> Job:
        if job_id == some[2].id:
            raise JobRefused("not this one")
        return wider(job_id, record)

    some = waiting(spool)
    changer.draft_edit(some, refused)
    with pytest.raises(JobRefused, match="not this one"):
        changer.edit(some[2], lambda record: refused(some[2].id, record))
    assert [row.id for row in rows(spool, WAITING)] == [row.id for row in some]


def test_what_cannot_be_synced_together_is_written_one_by_one(
    spool: Spool, changer: Changer, monkeypatch: pytest.MonkeyPatch, synced: list[int]
) -> None:
    """A disk that fails then makes no draft durable, and none is used."""

    def fails(_: object) -> None:
        raise OSError(5, "Input/output error")

    some = waiting(spool)
    monkeypatch.setattr(Together, "sync", fails)
    changer.draft_edit(some, wider)
    assert os.listdir(spool.directory("tmp")) == []
    synced.clear()
    edit_all(changer, some)
    assert len(synced) >= COUNT
