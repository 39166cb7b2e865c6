"""Promises about the history: what was folded is found, once, soon, and whatever happened meanwhile."""

from __future__ import annotations

import errno
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roundq.records import history, volumes
from roundq.records import spool as spools
from roundq.records.history import Journal, Moving
from roundq.records.spool import Entry, Spool
from roundq.words import journal
from roundq.words import record_format as formats
from roundq.words.job import Job, Record
from roundq.words.states import COMPLETED, ENDED_STATES, FAILED
from roundq.world import files
from tests.records.crowd import entry_of, new_spool, submitted
from tests.world.refusing import Refusing

NODE = "n1"
YEAR_S = 366 * 86_400.0


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return new_spool(tmp_path / "ann")


def end(spool: Spool, job_id: str, state: str = COMPLETED, *, ended_ns: int = 5, **facts: object) -> Entry:
    """An ended record."""
    record = Record(Job(("run", job_id)), completed_ns=ended_ns, exit_code=0, **facts)  # type: ignore[arg-type]
    Path(spool.path, state, f"{job_id}.job").write_bytes(formats.dump(record))
    return entry_of(spool, job_id, state)


def fold(spool: Spool, *ids: str, node: str = NODE, of: Journal | None = None, now_s: float = 1e9) -> Journal:
    """A journal after it folded new ended jobs."""
    of = Journal(spool, node) if of is None else of
    taken = [history.take(spool, end(spool, job_id), node) for job_id in ids]
    assert of.fold([one for one in taken if one is not None], now_s, YEAR_S) == len(ids)
    return of


def names(spool: Spool) -> list[str]:
    return sorted(os.listdir(spool.directory("history")))


# ---------------------------------------------------------------- folding


def test_what_is_folded_is_found_as_it_was(spool: Spool) -> None:
    """Its record is in no state any more, and nothing is left on the way."""
    for state in ENDED_STATES:
        entry = end(spool, f"{state}-1", state, ended_ns=7, reason="exit", detail="why", attempt=2, cores=3)
        record = spools.read(spool, entry)
        moving = history.take(spool, entry, NODE)
        assert moving == Moving(entry.id, NODE, state, f"{entry.id}@{NODE}.{state}")

        assert Journal(spool, NODE).fold([moving], 1e9, YEAR_S) == 1

        past = history.find(spool, [entry.id])[entry.id]
        assert (past.state, past.ended_ns, past.record, past.problem) == (state, 7, record, None)
        assert past.path == f"{spool.path}/history/{NODE}.1.jsonl"
        assert history.state_of(spool, entry.id) == state
    assert spools.scan(spool) == []
    assert names(spool) == [f"{NODE}.1.jsonl"]
    assert history.state_of(spool, "nobody") is None


def test_one_of_two_nodes_takes_a_record(spool: Spool) -> None:
    """The other learns that it did not."""
    entry = end(spool, "1")
    assert history.take(spool, entry, "n1") is not None
    assert history.take(spool, entry, "n2") is None


def test_what_is_on_its_way_is_found_and_folded_by_whoever_comes(spool: Spool) -> None:
    """A daemon died between its two steps."""
    record = spools.read(spool, entry := end(spool, "1", FAILED))
    assert history.take(spool, entry, "n.1") is not None

    assert history.find(spool, ["1"])["1"].record == record
    assert [past.id for past in history.since(spool)] == ["1"]
    assert history.highest_number(spool) == 1
    (moving,) = history.look(spool).moving
    assert moving == Moving("1", "n.1", FAILED, "1@n.1.failed")
    other = history.take_over(spool, moving, "n2")
    assert other is not None
    assert Journal(spool, "n2").fold([other], 1e9, YEAR_S) == 1
    assert history.take_over(spool, moving, "n3") is None
    assert history.find(spool, ["1"])["1"].path.endswith("/n2.1.jsonl")
    assert names(spool) == ["n2.1.jsonl"]


def test_what_arrives_in_a_new_volume_while_it_is_looked_for_is_found(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was on its way when the names were listed, and the volume in which it is now was not there yet."""
    assert history.take(spool, end(spool, "1_3"), NODE) is not None
    read_moving = history.read_moving

    def later(spool: Spool, one: Moving) -> history.Past | None:
        if one.node == NODE:
            other = history.take_over(spool, one, "n2")
            assert other is not None
            Journal(spool, "n2").fold([other], 1e9, YEAR_S)
        return read_moving(spool, one)

    monkeypatch.setattr(history, "read_moving", later)
    assert list(history.find(spool, ["1_3"])) == ["1_3"]
    os.remove(history.path_of(spool, "n2.1.jsonl"))
    assert history.take(spool, end(spool, "1_3"), NODE) is not None
    assert [past.id for past in history.tasks_of(spool, "1")] == ["1_3"]


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO])
def test_a_volume_that_cannot_be_read_now_is_not_one_without_the_job(
    number: int, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else whoever waits for the job would be told that there is none."""
    fold(spool, "1")
    system = Refusing()
    monkeypatch.setattr(volumes, "os", system)
    system.fail("pread", number, times=9)
    with pytest.raises(OSError, match=os.strerror(number)):
        history.find(spool, ["1"])


def test_a_volume_whose_header_cannot_be_read_now_is_not_left_for_good(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new one in its place would leave it unsorted, which is never closed and never removed."""
    one = fold(spool, "1")
    moving = history.take(spool, end(spool, "2"), NODE)
    assert moving is not None
    system = Refusing()
    monkeypatch.setattr(volumes, "os", system)
    system.fail("pread", errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        one.fold([moving], 1e9, YEAR_S)
    assert one.fold([moving], 1e9, YEAR_S) == 1
    assert names(spool) == [f"{NODE}.1.jsonl"]


def test_a_job_that_stands_there_twice_is_shown_once(spool: Spool) -> None:
    """A daemon died between the line and the removal, and somebody folded it again."""
    moving = history.take(spool, end(spool, "7"), NODE)
    assert moving is not None
    content = Path(history.path_of(spool, moving.file)).read_bytes()
    one = Journal(spool, NODE)
    for _ in range(2):
        Path(history.path_of(spool, moving.file)).write_bytes(content)
        assert one.fold([moving], 1e9, YEAR_S) == 1
    Path(history.path_of(spool, moving.file)).write_bytes(content)

    assert [past.id for past in history.since(spool)] == ["7"]
    assert list(history.find(spool, ["7"])) == ["7"]
    os.unlink(history.path_of(spool, moving.file))
    assert [past.id for past in history.since(spool)] == ["7"]
    one.close()
    assert [past.id for past in history.since(spool)] == ["7"]
    assert Path(spool.path, "history", "n1.1.jsonl").read_bytes().count(b"\n") == 2


def test_of_two_attempts_the_later_one_is_told(spool: Spool) -> None:
    """A user moved a record back by hand, and it ran again."""
    one = Journal(spool, NODE)
    for attempt in (2, 1):
        moving = history.take(spool, end(spool, "7", attempt=attempt), NODE)
        assert moving is not None
        one.fold([moving], 1e9, YEAR_S)
    for _ in range(2):
        found = history.find(spool, ["7"])["7"].record
        assert found is not None
        assert found.attempt == 2
        one.close()


def test_a_record_that_cannot_be_read_leaves_its_problem(spool: Spool) -> None:
    """That there was such a job is known."""
    Path(spool.path, "failed", "9.job").write_bytes(b"{")
    moving = history.take(spool, entry_of(spool, "9", FAILED), NODE)
    assert moving is not None
    assert Journal(spool, NODE).fold([moving], 1e9, YEAR_S) == 1
    past = history.find(spool, ["9"])["9"]
    assert past.record is None
    assert past.problem
    assert past.ended_ns > 1e18


def test_a_line_that_was_cut_costs_nobody_else_his(spool: Spool) -> None:
    """The node lost its power: what follows begins a line of its own."""
    one = fold(spool, "1")
    path = Path(spool.path, "history", "n1.1.jsonl")
    with path.open("ab") as file:
        file.write(b'{"id":"2","state":"completed","ended":5,"record":{"job":{"comm')
    assert sorted(past.id for past in history.since(spool)) == ["1"]
    fold(spool, "3", of=one)
    assert sorted(past.id for past in history.since(spool)) == ["1", "3"]
    assert list(history.find(spool, ["2"])) == []
    one.close()
    assert sorted(past.id for past in history.since(spool)) == ["1", "3"]


def test_of_a_line_that_was_cut_and_written_again_the_whole_one_counts(spool: Spool) -> None:
    """Also where the part of it looks like the end of a line."""
    one = fold(spool, "1")
    path = Path(spool.path, "history", "n1.1.jsonl")
    with path.open("ab") as file:
        file.write(b'{"id":"2","state":"completed","ended":5,"record":{"job":{"command":["x"]}')
    fold(spool, "2", of=one)
    for _ in range(2):
        assert sorted(past.id for past in history.since(spool)) == ["1", "2"]
        assert sorted(history.find(spool, ["1", "2"])) == ["1", "2"]
        one.close()


def test_a_full_disk_leaves_the_journal_and_the_records_as_they_were(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a line is taken back; the records are found where they are, and folded when there is room."""
    one = fold(spool, "1")
    moving = history.take(spool, end(spool, "2"), NODE)
    assert moving is not None
    path = Path(spool.path, "history", "n1.1.jsonl")
    before = path.read_bytes()
    refusing = Refusing()

    def half(descriptor: int, data: bytes) -> int:
        os.write(descriptor, bytes(data)[:10])
        raise OSError(28, "No space left on device")

    refusing.instead("write", half)
    with monkeypatch.context() as patch:
        patch.setattr(files, "os", refusing)
        with pytest.raises(OSError, match="No space"):
            one.fold([moving], 1e9, YEAR_S)

    assert path.read_bytes() == before
    assert history.state_of(spool, "2") == COMPLETED
    assert one.fold([moving], 1e9, YEAR_S) == 1
    assert history.state_of(spool, "2") == COMPLETED


# ---------------------------------------------------------------- volumes


def test_a_full_volume_is_closed_and_the_next_one_begun(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sorted, with a header that tells what is in it; also a daemon that begins goes on behind it."""
    monkeypatch.setattr(history, "VOLUME_BYTES", 300)
    one = fold(spool, "12", "3", "5_1")
    fold(spool, "4", of=one)
    fold(spool, "6")

    assert names(spool) == ["n1.1.jsonl", "n1.2.jsonl"]
    head, *rest = Path(spool.path, "history", "n1.1.jsonl").read_text().splitlines()
    told = json.loads(head)
    assert told == {
        "journal": 1,
        "begun": 1e9,
        "sorted": True,
        "first": "3",
        "last": "12",
        "since": 5,
        "until": 5,
        "number": 12,
        "lines": 3,
    }
    assert [json.loads(text)["id"] for text in rest] == ["3", "5_1", "12"]
    assert history.highest_number(spool) == 12
    assert sorted(history.find(spool, ["3", "4", "5_1", "6", "12", "99"])) == ["12", "3", "4", "5_1", "6"]


def test_a_volume_is_closed_after_a_year(spool: Spool) -> None:
    """However little there is in it."""
    one = fold(spool, "1", now_s=0.0)
    fold(spool, "2", of=one, now_s=YEAR_S + 1)
    fold(spool, "3", of=one, now_s=YEAR_S + 1)
    assert names(spool) == ["n1.1.jsonl", "n1.2.jsonl"]


def test_what_is_older_than_the_history_is_kept_goes_in_whole_volumes(spool: Spool) -> None:
    """Only closed ones of this node, of which every job is older."""
    one = Journal(spool, NODE)
    for job_id, ended_ns in (("1", 100), ("2", 200), ("3", 300)):
        moving = history.take(spool, end(spool, job_id, ended_ns=ended_ns), NODE)
        assert moving is not None
        one.fold([moving], 0.0, -1.0)
    fold(spool, "4", node="n2")
    assert len(names(spool)) == 4

    assert one.forget(201) == 2

    assert sorted(past.id for past in history.since(spool)) == ["3", "4"]
    # A daemon that has just begun, and folded nothing yet, knows the last number by the last volume only.
    assert Journal(spool, NODE).forget(301) == 0
    fold(spool, "5")
    assert names(spool) == ["n1.3.jsonl", "n1.4.jsonl", "n2.1.jsonl"]


def test_jobs_of_a_time_are_told_without_reading_the_volumes_of_another(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first instant on, and up to the last, which is not in it."""
    one = Journal(spool, NODE)
    for job_id in ("100", "200", "300"):
        moving = history.take(spool, end(spool, job_id, ended_ns=int(job_id)), NODE)
        assert moving is not None
        one.fold([moving], 0.0, -1.0)
    read: list[str] = []
    whole = files.read

    def noted(path: str, **options: Any) -> bytes:
        read.append(path)
        return whole(path, **options)

    monkeypatch.setattr(files, "read", noted)
    assert [past.id for past in history.since(spool, 200, 300)] == ["200"]
    assert [Path(path).name for path in read] == ["n1.2.jsonl"]
    assert sorted(past.id for past in history.since(spool, 200)) == ["200", "300"]


def test_names_of_others_are_no_volumes(spool: Spool) -> None:
    """Editors and synchronizing programs leave names of their own, and a stranger any content."""
    fold(spool, "1")
    directory = Path(spool.path, "history")
    line = journal.line("2", FAILED, Record(Job(("x",))))
    for name in (
        "n1.2.jsonl~",
        "n1.x.jsonl",
        ".n1.2.jsonl",
        "n1.2 (conflicted copy).jsonl",
        "n1.jsonl",
        "@n1.failed",
        "2@.failed",
        "2@n1.running",
    ):
        (directory / name).write_bytes(b'{"journal":1,"begun":0}\n' + line)
    (directory / "n1.7.jsonl").write_bytes(b'{"journal":9,"begun":0}\n' + line)
    (directory / "n1.8.jsonl").symlink_to("n1.jsonl")
    os.mkfifo(directory / "n1.9.jsonl")
    assert [past.id for past in history.since(spool)] == ["1"]
    assert list(history.find(spool, ["1", "2"])) == ["1"]


# ---------------------------------------------------------------- looking


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.integers(0, 300).map(str),
            st.tuples(st.integers(0, 30), st.integers(0, 300)).map(lambda pair: f"{pair[0]}_{pair[1]}"),
            st.sampled_from(["x", "17.n1", "a_b_c", "é_1"]),
        ),
        unique=True,
        max_size=60,
    ),
    st.integers(1, 8),
    st.integers(60, 3000),
    st.randoms(use_true_random=False),
)
def test_every_job_is_found_wherever_it_stands(
    tmp_path_factory: pytest.TempPathFactory,
    ids: list[str],
    count: int,
    span_bytes: int,
    chance: random.Random,
) -> None:
    """In volumes that are closed or not, of several nodes, by one id and many, and as tasks of an array."""
    spool = Spool(str(tmp_path_factory.mktemp("spool")), "ann", os.geteuid())
    os.mkdir(f"{spool.path}/history")
    own_lines: list[list[str]] = [[] for _ in range(count)]
    for job_id in ids:
        chance.choice(own_lines).append(job_id)
    for number, own in enumerate(own_lines, 1):
        lines = [journal.line(one, FAILED, Record(Job(("x" * chance.randrange(200),)))) for one in own]
        content = journal.header_line(journal.Header(False, 0.0)) + b"".join(lines)
        if chance.random() < 0.7:
            content = journal.in_order(content)
        Path(spool.path, "history", f"n{number % 3}.{number}.jsonl").write_bytes(content)
    before = volumes.SPAN_BYTES, volumes.BLOCK_BYTES
    try:
        volumes.SPAN_BYTES, volumes.BLOCK_BYTES = span_bytes, max(16, span_bytes // 7)
        assert set(history.find(spool, ids)) == set(ids)
        for one in [*ids, "299", "3_7", "0", "zz"]:
            assert list(history.find(spool, [one])) == ([one] if one in ids else [])
        for stem in {one.partition("_")[0] for one in ids}:
            expected = sorted((one for one in ids if one.startswith(f"{stem}_")), key=journal.key)
            assert [past.id for past in history.tasks_of(spool, stem)] == expected
    finally:
        volumes.SPAN_BYTES, volumes.BLOCK_BYTES = before
    assert sorted(past.id for past in history.since(spool)) == sorted(ids)


def test_an_id_of_a_long_history_is_found_without_reading_it(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of closed volumes only some blocks are read, however many lines there are."""
    line = journal.line("1", COMPLETED, Record(Job(("./fit", "-n", "3"), directory="/home/ann/fit")))
    for number in range(5):
        lines = [line.replace(b'"1"', b'"%d"' % (1_000_000 + place * 5 + number), 1) for place in range(8000)]
        content = journal.header_line(journal.Header(False, 0.0)) + b"".join(lines)
        Path(spool.path, "history", f"n{number}.1.jsonl").write_bytes(journal.in_order(content))
    read = 0
    whole = os.pread

    def counted(descriptor: int, count: int, place: int) -> bytes:
        nonlocal read
        read += len(found := whole(descriptor, count, place))
        return found

    refusing = Refusing()
    refusing.instead("pread", counted)
    monkeypatch.setattr(volumes, "os", refusing)

    assert list(history.find(spool, ["1017777"])) == ["1017777"]

    assert read < 1 << 20


def test_no_id_is_given_again_that_the_history_knows(spool: Spool) -> None:
    """Even if the directory of the next number was emptied, and no record is left."""
    (first,) = submitted(spool)
    spools.cancel(spool, entry_of(spool, first), 1, NODE)
    moving = history.take(spool, entry_of(spool, first, "canceled"), NODE)
    assert moving is not None
    Journal(spool, NODE).fold([moving], 1e9, YEAR_S)
    fold(spool, "41_7")
    (token,) = os.listdir(spool.directory("ids"))
    os.unlink(f"{spool.directory('ids')}/{token}")

    assert submitted(spool) == ["42"]
