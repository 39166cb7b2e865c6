"""Promises about mending: what a dead process was changing is put back, by its own node only."""

from __future__ import annotations

import logging
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from roundq.actors import lost, queue
from roundq.actors.mending import AGAIN_S, Mending
from roundq.records import changes
from roundq.records import spool as spools
from roundq.records.shelf import Shelf
from roundq.records.spool import Entry, Spool
from roundq.words.errors import RoundqError
from roundq.words.states import CANCELED, HELD, WAITING
from roundq.world import procs
from tests.records.crowd import entry_of, new_spool, submitted, where
from tests.records.test_changes import DEAD


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return new_spool(tmp_path / "ann")


def mending(spool: Spool, node: str = "n1") -> Mending:
    return Mending(Shelf(spool, HELD), node, logging.getLogger("test"))


def sealed(spool: Spool, monkeypatch: pytest.MonkeyPatch | None, node: str = "n1") -> Entry:
    """A waiting job that is being changed, by a dead process if there is a patch, or by this one."""
    entry = entry_of(spool, submitted(spool)[0])
    if monkeypatch is None:
        found = changes.change(spool, entry, node)
    else:
        with monkeypatch.context() as patch:
            patch.setattr(procs, "own_identity", lambda: DEAD)
            found = changes.change(spool, entry, node)
    assert found is not None
    return found


def test_what_a_dead_process_was_changing_is_put_back_a_moment_later(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    entry = sealed(spool, monkeypatch)
    one = mending(spool)
    one.look(100.0)
    assert where(spool) == {entry.id: HELD}
    assert 0 < one.again_s(100.1) <= AGAIN_S
    one.look(100.0 + AGAIN_S)
    assert where(spool) == {entry.id: WAITING}
    assert "was being changed by a process that died: it is waiting" in caplog.text
    assert one.again_s(103.0) == float("inf")


def test_what_a_living_process_changes_is_left_alone(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = entry_of(spool, submitted(spool)[0])
    with subprocess.Popen(["sleep", "60"]) as other:
        living = procs.identity(other.pid)
        assert living is not None
        with monkeypatch.context() as patch:
            patch.setattr(procs, "own_identity", lambda: living)
            assert changes.change(spool, entry, "n1") is not None
        one = mending(spool)
        for now_s in (100.0, 102.0, 104.0):
            one.look(now_s)
        other.kill()
    assert where(spool) == {entry.id: HELD}
    assert one.again_s(104.0) == AGAIN_S


def test_what_another_node_changes_is_left_alone(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = sealed(spool, monkeypatch, "n2")
    one = mending(spool)
    for now_s in (100.0, 102.0):
        one.look(now_s)
    assert where(spool) == {entry.id: HELD}
    assert one.again_s(102.0) == float("inf")


def test_what_this_daemon_could_not_put_is_put_back(spool: Spool) -> None:
    """It changes one record at a time, so what is left is left for good."""
    entry = sealed(spool, None)
    one = mending(spool)
    one.look(100.0)
    one.look(101.0)
    assert where(spool) == {entry.id: WAITING}


def test_a_home_that_refuses_is_tried_again_and_told_once(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    entry = sealed(spool, monkeypatch)
    one = mending(spool)
    one.look(100.0)
    with monkeypatch.context() as patch:

        def refuse(*_: object) -> str:
            raise OSError(5, "Input/output error")

        patch.setattr(changes, "put_back", refuse)
        for now_s in (101.0, 102.0):
            one.look(now_s)
    assert caplog.text.count("was being changed: ") == 1
    one.look(103.0)
    assert where(spool) == {entry.id: WAITING}


# ---------------------------------------------------------------- the others who meet it


def test_a_cancel_waits_until_the_change_is_over(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = sealed(spool, monkeypatch)
    (row,), _ = queue.find(spool, [entry.id])
    looks = iter(range(9))

    def pause(_: float) -> None:
        if next(looks) == 2:
            changes.put_back(spool, entry)

    monkeypatch.setattr(time, "sleep", pause)
    assert queue.cancel(spool, row, "n1", 5) == queue.GONE
    assert where(spool) == {entry.id: CANCELED}


def test_a_cancel_of_what_a_lost_node_was_changing_says_so(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = sealed(spool, monkeypatch, "n2")
    (row,), _ = queue.find(spool, [entry.id])
    monkeypatch.setattr(queue, "CHANGED_MOST_S", 0.0)
    with pytest.raises(RoundqError, match=f"cannot cancel {entry.id}: it is being changed on n2") as found:
        queue.cancel(spool, row, "n1", 5)
    assert found.value.hint == "try again; if n2 is gone for good: rq lost --force n2"
    assert where(spool) == {entry.id: HELD}


def test_a_command_puts_back_what_a_dead_process_of_its_node_was_changing(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no daemon runs; but not what was changed in another boot: that may be another machine."""
    monkeypatch.setattr(queue, "MEND_S", 0.0)
    monkeypatch.setattr(queue, "CHANGED_MOST_S", 0.0)
    other = sealed(spool, monkeypatch)
    (row,), _ = queue.find(spool, [other.id])
    with pytest.raises(RoundqError, match="it is being changed on n1"):
        queue.cancel(spool, row, "n1", 5)
    monkeypatch.setattr(queue, "CHANGED_MOST_S", 60.0)
    entry = entry_of(spool, submitted(spool)[0])
    with monkeypatch.context() as patch:
        patch.setattr(procs, "own_identity", lambda: replace(DEAD, boot=procs.boot_id()))
        assert changes.change(spool, entry, "n1") is not None
    (row,), _ = queue.find(spool, [entry.id])
    assert queue.cancel(spool, row, "n1", 5) == queue.GONE
    assert where(spool) == {other.id: HELD, entry.id: CANCELED}


def test_what_a_lost_node_was_changing_is_put_back_when_its_user_insists(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process may stand still, and go on: so only then."""
    entry = sealed(spool, monkeypatch, "n2")
    calling = lost.call_lost(spool, "n2", "n1")
    assert [(one.id, why) for one, why in calling.left] == [
        (entry.id, "n2 was changing its record; if it is gone for good: rq lost --force n2")
    ]
    assert where(spool) == {entry.id: HELD}
    calling = lost.call_lost(spool, "n2", "n1", is_forced=True)
    assert [(one.id, state) for one, state in calling.mended] == [(entry.id, WAITING)]
    assert where(spool) == {entry.id: WAITING}
    assert spools.requests(spool) == {}


def test_why_tells_that_a_record_is_being_changed(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    there = sealed(spool, monkeypatch, "n2")
    here = sealed(spool, monkeypatch, "n1")
    mine = sealed(spool, None, "n1")
    said = {}
    for entry in (there, here, mine):
        (row,), _ = queue.find(spool, [entry.id])
        said[entry.id] = queue.why(spool, row, "n1", 5, [spool])[0]
    assert said == {
        there.id: "it is being changed on n2",
        here.id: "its change on n1 was interrupted; a daemon of yours there puts it back",
        mine.id: "it is being changed on n1",
    }
