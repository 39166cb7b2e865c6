"""Promises about holding, releasing and changing: one wins, nothing is lost, the dead leave nothing."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundq.records import changes
from roundq.records import spool as spools
from roundq.records.spool import Entry, Spool
from roundq.words import record_format as formats
from roundq.words import seals
from roundq.words.errors import SpoolError, SpoolFull
from roundq.words.job import NS, Dependency, Identity, Job, Record
from roundq.words.states import (
    CANCELED,
    CLAIMED,
    COMPLETED,
    ENDED_STATES,
    FAILED,
    HELD,
    RUNNING,
    WAITING,
    ZOMBIE,
)
from roundq.world import files, procs
from tests.records.crowd import (
    born,
    crowd,
    drop,
    entry_of,
    leftovers,
    new_spool,
    record_of,
    submitted,
    where,
)
from tests.world.refusing import LOST, Refusing

#: How a record ends in each state.
ENDS: dict[str, dict[str, object]] = {
    COMPLETED: {"exit_code": 0},
    FAILED: {"exit_code": 1, "reason": "exit"},
    CANCELED: {"reason": "canceled"},
    ZOMBIE: {"reason": "lost"},
}
#: No process has this one: pids end before.
DEAD = Identity("another boot", (1 << 22) + 1, 7)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return new_spool(tmp_path / "ann")


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Refusing:
    """What the spool takes for the operating system."""
    refusing = Refusing()
    monkeypatch.setattr(files, "os", refusing)
    return refusing


def at(spool: Spool, origin: str) -> Entry:
    """A job that lies in a state, or `user`: on hold."""
    (job_id,) = submitted(spool)
    entry = entry_of(spool, job_id)
    if origin in (HELD, seals.USER):
        if origin == HELD:
            assert changes.release(spool, held(spool, entry), HELD)
        else:
            held(spool, entry)
    elif origin in ENDED_STATES:
        claim = spools.claim(spool, entry, "n1")
        assert claim is not None
        record = replace(spools.read(spool, claim), process=Identity("b", 7, 9), node="n1", started_ns=NS)
        spools.rewrite(spool, claim, record, "n1")
        running = spools.begin(spool, claim.sealed, "n1")
        assert running is not None
        ended = replace(record, completed_ns=2 * NS, **ENDS[origin])  # type: ignore[arg-type]
        assert spools.settle(spool, running, ended, "n1") == origin
    elif origin in (CLAIMED, RUNNING):
        claim = spools.claim(spool, entry, "n1")
        assert claim is not None
        if origin == RUNNING:
            spools.begin(spool, born(spool, claim), "n1")
    return the(spool, job_id)


def the(spool: Spool, job_id: str) -> Entry:
    """The one entry of a job."""
    (entry,) = [entry for entry in spools.scan(spool) if entry.id == job_id]
    return entry


def held(spool: Spool, entry: Entry) -> Entry:
    assert changes.hold(spool, entry)
    return the(spool, entry.id)


def sealed_by_the_dead(spool: Spool, entry: Entry, monkeypatch: pytest.MonkeyPatch) -> Entry:
    """A record whose changer died before it wrote anything."""
    with monkeypatch.context() as patch:
        patch.setattr(procs, "own_identity", lambda: DEAD)
        found = changes.change(spool, entry, "n1")
    assert found is not None
    return found


# ---------------------------------------------------------------- names


@given(
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs", "Cc"]), min_size=1).filter(
        lambda text: len(text.encode()) < 60 and text.isprintable()
    ),
    st.integers(1, 1 << 22),
    st.integers(0, 1 << 60),
    st.sampled_from(seals.ORIGINS),
    st.sampled_from(["n1", "user", "held", "node-b.example", "7"]),
)
def test_any_id_is_told_from_the_name_of_a_sealed_record(
    job_id: str, pid: int, start: int, origin: str, node: str
) -> None:
    process = Identity("5e0f6c1a-23d4-4b0e-9c55-aa0011223344", pid, start)
    stem = seals.sealed_stem(job_id, process, origin, node)
    assert seals.parse(stem) == (job_id, node)
    seal = seals.seal_of(stem)
    assert seal is not None
    assert (seal.origin, seal.node) == (origin, node)
    assert seal.is_of(process)
    assert not seal.is_of(replace(process, start=start + 1))
    assert not seal.is_of(replace(process, boot="6e0f6c1a-23d4-4b0e-9c55-aa0011223344"))


@pytest.mark.parametrize(
    ("name", "means"),
    [
        ("17.job", ("17", None, False, False)),
        ("17@user.job", ("17", None, True, False)),
        ("17_3@user.job", ("17_3", None, True, False)),
        ("17@12-34-0a1b2c3d-waiting@n1!.job", ("17", "n1", False, True)),
        ("a@b@12-34-0a1b2c3d-user@user!.job", ("a@b", "user", False, True)),
        # What a program dropped, or somebody else made up.
        ("a@b.job", ("a@b", None, False, False)),
        ("a@n1!.job", ("a@n1!", None, False, False)),
        ("17@12-34-0a1b2c3d-running@n1!.job", ("17@12-34-0a1b2c3d-running@n1!", None, False, False)),
        ("@user.job", ("@user", None, False, False)),
    ],
)
def test_a_name_in_held_tells_who_keeps_the_job_there(name: str, means: tuple[object, ...]) -> None:
    entry = spools.entry_of(HELD, files.Name(name, 1))
    assert entry is not None
    assert (entry.id, entry.node, entry.is_on_hold, entry.is_sealed) == means
    assert (changes.seal_of(entry) is not None) is entry.is_sealed


@pytest.mark.parametrize(
    ("job_id", "act"),
    [
        ("x@user", lambda spool, entry: changes.release(spool, held(spool, entry), HELD)),
        ("x@1-2-0a1b2c3d-held@n1!", lambda spool, entry: changes.release(spool, held(spool, entry), HELD)),
        ("x" * 115, lambda spool, entry: changes.change(spool, entry, "n" * 128)),
    ],
)
def test_an_id_that_makes_no_name_in_held_is_refused_and_the_job_stays(
    job_id: str, act: Callable[[Spool, Entry], object], spool: Spool
) -> None:
    """It would be taken for the name of another job."""
    drop(spool, f"{job_id}.job")
    with pytest.raises(SpoolError, match="cannot be held or changed"):
        act(spool, entry_of(spool, job_id))
    assert list(where(spool)) == [job_id]


# ---------------------------------------------------------------- hold, release


@pytest.mark.parametrize("origin", [WAITING, HELD])
def test_a_job_on_hold_is_held_and_its_record_is_what_it_was(origin: str, spool: Spool) -> None:
    entry = at(spool, origin)
    before = spools.read(spool, entry)
    assert changes.hold(spool, entry)
    on_hold = the(spool, entry.id)
    assert (on_hold.state, on_hold.is_on_hold, on_hold.is_sealed) == (HELD, True, False)
    assert spools.read(spool, on_hold) == before
    assert changes.hold(spool, on_hold)
    assert changes.release(spool, on_hold, WAITING)
    assert where(spool) == {entry.id: WAITING}
    assert spools.read(spool, the(spool, entry.id)) == before


def test_a_job_that_waits_for_more_is_held_when_it_is_released(spool: Spool) -> None:
    entry = at(spool, seals.USER)
    assert changes.release(spool, entry, HELD)
    still = the(spool, entry.id)
    assert (still.state, still.is_on_hold) == (HELD, False)
    assert changes.release(spool, still, HELD)
    assert the(spool, entry.id) == still


@pytest.mark.parametrize("origin", [CLAIMED, RUNNING, *ENDED_STATES])
def test_what_has_begun_or_ended_is_not_held(origin: str, spool: Spool) -> None:
    entry = at(spool, origin)
    assert not changes.hold(spool, entry)
    assert not changes.release(spool, entry, WAITING)
    assert where(spool) == {entry.id: origin}


def test_of_hold_and_claim_one_wins(spool: Spool) -> None:
    entries = [entry_of(spool, job_id) for job_id in submitted(spool, 20)]

    def act(number: int) -> int:
        if number % 2:
            return sum(changes.hold(spool, entry) for entry in entries)
        return sum(spools.claim(spool, entry, f"n{number}") is not None for entry in entries)

    won = crowd(3, act)
    found = where(spool)
    assert set(found) == {entry.id for entry in entries}
    assert won[0] + won[2] == sum(state == CLAIMED for state in found.values())
    assert won[1] == sum(state == HELD for state in found.values())


@pytest.mark.parametrize(
    ("record", "state"),
    [
        (Record(Job(("x",))), WAITING),
        (Record(Job(("x",), begin_ns=100)), HELD),
        (Record(Job(("x",), begin_ns=50)), WAITING),
        (Record(Job(("x",)), not_before_ns=100), HELD),
        (Record(Job(("x",), after=(Dependency("ok", "1"),))), HELD),
    ],
)
def test_a_job_belongs_in_held_while_something_keeps_it(record: Record, state: str) -> None:
    assert changes.state_of(record, 60) == state


# ---------------------------------------------------------------- change


@pytest.mark.parametrize("origin", seals.ORIGINS)
def test_a_sealed_record_is_nobody_elses(origin: str, spool: Spool) -> None:
    """Neither held nor released nor canceled nor changed nor claimed: its changer would raise the dead."""
    entry = at(spool, origin)
    before = spools.read(spool, entry)
    sealed = changes.change(spool, entry, "n1")
    assert sealed == the(spool, entry.id)._replace(inode=entry.inode)
    assert sealed.is_sealed
    assert (sealed.state, sealed.node) == (HELD, "n1")
    assert not changes.hold(spool, sealed)
    assert not changes.release(spool, sealed, WAITING)
    assert not spools.cancel(spool, sealed, 5, "n1")
    assert changes.change(spool, sealed, "n2") is None
    assert changes.change(spool, entry, "n2") is None
    assert spools.read(spool, sealed) == before


@pytest.mark.parametrize("origin", [CLAIMED, RUNNING])
def test_what_has_begun_is_not_changed(origin: str, spool: Spool) -> None:
    entry = at(spool, origin)
    assert changes.change(spool, entry, "n1") is None
    assert where(spool) == {entry.id: origin}


@pytest.mark.parametrize("state", [HELD, WAITING, *ENDED_STATES])
def test_what_is_put_is_where_it_was_put_with_its_new_content(state: str, spool: Spool) -> None:
    sealed = changes.change(spool, at(spool, WAITING), "n1")
    assert sealed is not None
    record = spools.read(spool, sealed)
    new = replace(record, job=replace(record.job, priority=7))
    assert changes.put(spool, sealed, new, state, "n1")
    assert where(spool) == {sealed.id: state}
    assert record_of(spool, sealed.id) == new
    assert leftovers(spool) == []


def test_what_is_put_on_hold_is_on_hold(spool: Spool) -> None:
    sealed = changes.change(spool, at(spool, WAITING), "n1")
    assert sealed is not None
    assert changes.put(spool, sealed, spools.read(spool, sealed), HELD, "n1", on_hold=True)
    assert the(spool, sealed.id).is_on_hold


def test_nothing_is_put_where_only_an_owner_may(spool: Spool) -> None:
    sealed = changes.change(spool, at(spool, WAITING), "n1")
    assert sealed is not None
    for state in (CLAIMED, RUNNING):
        with pytest.raises(ValueError, match=state):
            changes.put(spool, sealed, spools.read(spool, sealed), state, "n1")


@pytest.mark.parametrize("origin", [WAITING, seals.USER, FAILED])
def test_of_many_who_change_one_wins_and_all_others_know_it(origin: str, spool: Spool) -> None:
    entries = [at(spool, origin) for _ in range(10)]

    def act(number: int) -> int:
        won = 0
        for entry in entries:
            sealed = changes.change(spool, entry, f"n{number % 2}")
            if sealed is not None:
                record = spools.read(spool, sealed)
                job = replace(record.job, priority=record.job.priority + 1)
                won += changes.put(spool, sealed, replace(record, job=job), ZOMBIE, "n1")
        return won

    # Also of one node: no two processes give the same name.
    assert sum(crowd(6, act)) == len(entries)
    assert {record_of(spool, entry.id).job.priority for entry in entries} == {1}
    assert set(where(spool).values()) == {ZOMBIE}


def test_of_cancel_hold_claim_and_change_one_wins(spool: Spool) -> None:
    entries = [at(spool, WAITING) for _ in range(20)]

    def act(number: int) -> set[str]:
        won = set()
        for entry in entries[number:] + entries[:number]:
            if number == 0:
                is_won = spools.cancel(spool, entry, 5, "n0")
            elif number == 1:
                is_won = changes.hold(spool, entry)
            elif number == 2:
                is_won = spools.claim(spool, entry, "n2") is not None
            else:
                sealed = changes.change(spool, entry, "n3")
                is_won = sealed is not None
                if sealed is not None:
                    assert changes.put(spool, sealed, spools.read(spool, sealed), COMPLETED, "n3")
            won |= {entry.id} if is_won else set()
        return won

    won = crowd(4, act)
    assert sum(map(len, won)) == len(entries)
    assert set().union(*won) == {entry.id for entry in entries}
    for ids, state in zip(won, (CANCELED, HELD, CLAIMED, COMPLETED), strict=True):
        assert {where(spool)[job_id] for job_id in ids} <= {state}


@pytest.mark.parametrize("number", LOST)
def test_a_lost_reply_is_success(number: int, spool: Spool, system: Refusing) -> None:
    entry = at(spool, WAITING)
    system.fail("rename", number, happens=True)
    assert changes.hold(spool, entry)
    system.fail("rename", number, happens=True)
    assert changes.release(spool, the(spool, entry.id), WAITING)
    system.fail("rename", number, happens=True)
    sealed = changes.change(spool, the(spool, entry.id), "n1")
    assert sealed is not None
    for skip in (0, 1):
        system.fail("rename", number, happens=True, skip=skip)
        assert changes.put(spool, sealed, spools.read(spool, sealed), WAITING, "n1")
        assert where(spool) == {entry.id: WAITING}
        sealed = changes.change(spool, the(spool, entry.id), "n1")
        assert sealed is not None


# ---------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize("origin", seals.ORIGINS)
@pytest.mark.parametrize("call", ["open", "write", "fsync", "close", "rename"])
def test_a_change_that_cannot_be_written_is_not_made(
    call: str, origin: str, spool: Spool, system: Refusing
) -> None:
    entry = at(spool, origin)
    before = spools.read(spool, entry)
    sealed = changes.change(spool, entry, "n1")
    assert sealed is not None
    system.fail(call, errno.EDQUOT, where="" if call in ("write", "fsync", "close") else "/tmp/")
    with pytest.raises((OSError, SpoolFull)):
        changes.put(spool, sealed, replace(before, retired=True), WAITING, "n1")
    back = the(spool, entry.id)
    assert (back.state, back.file) == (entry.state, entry.file)
    assert spools.read(spool, back) == before
    assert leftovers(spool) == []


def test_the_new_content_is_durable_before_the_record_moves_on(spool: Spool, system: Refusing) -> None:
    sealed = changes.change(spool, at(spool, WAITING), "n1")
    assert sealed is not None
    system.calls.clear()
    assert changes.put(spool, sealed, spools.read(spool, sealed), WAITING, "n1")
    done = [call[0] for call in system.calls if call[0] in ("fsync", "rename")]
    assert done == ["fsync", "rename", "rename", "fsync"]


def test_what_its_user_took_from_a_node_is_not_raised_from_the_dead(spool: Spool) -> None:
    """A changer that stood still meanwhile finds its record gone, and writes nothing."""
    entry = at(spool, WAITING)
    sealed = changes.change(spool, entry, "n1")
    assert sealed is not None
    record = spools.read(spool, sealed)
    assert changes.put_back(spool, sealed) == WAITING
    assert spools.cancel(spool, the(spool, entry.id), 5, "n2")
    assert not changes.put(spool, sealed, record, WAITING, "n1")
    assert where(spool) == {entry.id: CANCELED}
    assert leftovers(spool) == []


@pytest.mark.parametrize("is_refused", [False, True], ids=["written", "the disk full"])
@pytest.mark.parametrize("then", [WAITING, CLAIMED])
def test_a_cancel_that_stood_still_does_not_take_back_what_was_taken_from_its_node(
    then: str, is_refused: bool, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job may run by then, and would have two names: it says that it canceled nothing."""
    entry = at(spool, WAITING)
    temporary_of = spools.temporary_of

    def slow(*args: Any, **more: Any) -> str:
        (sealed,) = spools.scan(spool, [HELD])
        assert changes.put_back(spool, sealed) == WAITING
        if then == CLAIMED:
            assert spools.claim(spool, the(spool, entry.id), "n2") is not None
        if is_refused:
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        return temporary_of(*args, **more)

    monkeypatch.setattr(spools, "temporary_of", slow)
    assert not spools.cancel(spool, entry, 5, "n1")
    assert where(spool) == {entry.id: then}
    assert leftovers(spool) == []


# ---------------------------------------------------------------- mending


@pytest.mark.parametrize("origin", seals.ORIGINS)
def test_a_change_that_was_not_written_leaves_the_job_where_it_was(
    origin: str, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = at(spool, origin)
    before = spools.read(spool, entry)
    sealed = sealed_by_the_dead(spool, entry, monkeypatch)
    assert changes.put_back(spool, sealed) == entry.state
    assert the(spool, entry.id) == entry
    assert spools.read(spool, entry) == before
    assert changes.put_back(spool, sealed) is None


def written(spool: Spool, sealed: Entry, record: Record) -> None:
    """The new content is there, and its writer dies before the move."""
    files.replace(spools.temporary_of(spool, "n1", formats.dump(record)), spools.path_of(spool, sealed))


@pytest.mark.parametrize("origin", seals.ORIGINS)
@pytest.mark.parametrize("kind", ["edited", "begins later", "runs again", "canceled"])
def test_a_change_that_was_written_goes_where_its_content_belongs(
    kind: str, origin: str, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = at(spool, origin)
    sealed = sealed_by_the_dead(spool, entry, monkeypatch)
    record = spools.read(spool, sealed)
    new, state = {
        "edited": (replace(record, job=replace(record.job, priority=9)), entry.state),
        "begins later": (
            replace(record.unbegun(), job=replace(record.job, begin_ns=NS)),
            HELD,
        ),
        "runs again": (record.unbegun(), entry.state if origin in (HELD, seals.USER) else WAITING),
        "canceled": (
            replace(record, completed_ns=NS, reason="dependency"),
            origin if origin in ENDED_STATES else HELD if origin == seals.USER else CANCELED,
        ),
    }[kind]
    written(spool, sealed, new)
    assert changes.put_back(spool, sealed) == state
    assert where(spool) == {entry.id: state}
    assert the(spool, entry.id).is_on_hold is (origin == seals.USER)
    assert record_of(spool, entry.id) == new


@pytest.mark.parametrize("kind", ["as it was", "retired", "runs again"])
def test_what_was_canceled_by_its_move_alone_runs_only_if_that_was_asked(
    kind: str, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record says nothing of the cancel."""
    entry = at(spool, WAITING)
    os.rename(spools.path_of(spool, entry), f"{spool.directory(CANCELED)}/{entry.id}.job")
    sealed = sealed_by_the_dead(spool, the(spool, entry.id), monkeypatch)
    record = spools.read(spool, sealed)
    ended = replace(record, completed_ns=NS, reason="canceled")
    kinds = {"retired": replace(record, retired=True), "runs again": ended.unbegun()}
    if kind in kinds:
        written(spool, sealed, kinds[kind])
    assert changes.put_back(spool, sealed) == (WAITING if kind == "runs again" else CANCELED)


@pytest.mark.parametrize("origin", seals.ORIGINS)
def test_what_is_unsealed_is_where_it_was(origin: str, spool: Spool) -> None:
    entry = at(spool, origin)
    sealed = changes.change(spool, entry, "n1")
    assert sealed is not None
    assert changes.unseal(spool, sealed)
    assert the(spool, entry.id) == entry


def test_a_record_that_cannot_be_read_goes_back(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed = sealed_by_the_dead(spool, at(spool, FAILED), monkeypatch)
    Path(spools.path_of(spool, sealed)).write_text("{")
    assert changes.put_back(spool, sealed) == FAILED


def test_a_changer_is_judged_by_who_it_is(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = changes.seal_of(sealed_by_the_dead(spool, at(spool, WAITING), monkeypatch))
    assert dead is not None
    assert not changes.may_live(dead)
    mine = changes.change(spool, at(spool, WAITING), "n1")
    assert mine is not None
    me = changes.seal_of(mine)
    assert me is not None
    assert changes.may_live(me)
    assert not changes.may_live(me, but_me=True)
    # The same pid, of another process.
    assert not changes.may_live(me._replace(start=me.start - 1))
    # Another of this node, that lives.
    with subprocess.Popen(["sleep", "60"]) as other:
        living = procs.identity(other.pid)
        assert living is not None
        may_live = changes.may_live(me._replace(pid=living.pid, start=living.start), but_me=True)
        other.kill()
    assert may_live
