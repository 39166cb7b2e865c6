"""Promises about names and files without end in the spool of a stranger: a look at it is bounded.

Bounds are counted, in calls to helpers and in records that are read, since a time is a fact of one machine.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from roundq.actors import afterwards, allowance, listing
from roundq.records import census, history, neighbours
from roundq.records import spool as spools
from roundq.records.spool import Spool
from roundq.words import record_format as formats
from roundq.words.job import Job, Record
from roundq.words.states import COMPLETED, FAILED, RUNNING, STATES, WAITING
from roundq.world import reading
from roundq.world.reading import Call, Way

NOW_NS = 2_000_000_000 * 10**9


class Asked:
    """A helper that answers at once, and counts: how often it was asked, and for what."""

    def __init__(self) -> None:
        self.times = 0
        self.calls: list[tuple[str, str]] = []

    def ask(self, calls: Sequence[Call]) -> list[Any]:
        """The answers."""
        self.times += 1
        self.calls += [(call.operation, call.path) for call in calls]
        return [reading.done({}, call.operation, call.path, call.options) for call in calls]

    def count(self, operation: str) -> int:
        """How many calls of an operation there were."""
        return sum(asked == operation for asked, _ in self.calls)


class Stranger:
    """A spool that is read as that of somebody else, by a helper that counts."""

    def __init__(self, home: Path) -> None:
        self.asked = Asked()
        self.spool = spools.at(str(home), "eve", os.geteuid(), Way(str(home), self.asked))
        self.own = Spool(self.spool.path, "eve", os.geteuid())
        home.mkdir()
        for state in (*STATES, spools.HISTORY):
            os.makedirs(self.spool.directory(state), exist_ok=True)

    def record(self, state: str, job_id: str, **fields: Any) -> None:
        """A record as an honest daemon leaves it."""
        path = Path(self.spool.directory(state), f"{job_id}.job")
        path.write_bytes(formats.dump(Record(Job(("true",)), **fields)))

    def write(self, directory: str, name: str, data: bytes) -> None:
        """A file of hers."""
        Path(self.spool.path, directory, name).write_bytes(data)

    def links(self, state: str, names: Sequence[str], data: bytes = b"") -> None:
        """One file under all these names."""
        file = Path(self.spool.path, "file")
        file.write_bytes(data)
        for name in names:
            os.link(file, f"{self.spool.path}/{state}/{name}")


@pytest.fixture
def eve(tmp_path: Path) -> Stranger:
    """A stranger's spool."""
    return Stranger(tmp_path / "eve")


@pytest.fixture
def me(tmp_path: Path) -> Spool:
    """Mine."""
    return Spool(f"{tmp_path}/ann/.roundqueue", "ann", os.geteuid())


# ---------------------------------------------------------------- one job in all places


@pytest.mark.parametrize("name", ["1_{}.job", "{}.job", "1.node_{}.job", "x{}.job"])
def test_names_that_are_everywhere_are_told_apart_without_reading_all(
    eve: Stranger, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each job is counted once, in the last of the states; a hundred records are read, not thousands."""
    names = [name.format(number) for number in range(400)]
    for state in STATES:
        eve.links(state, names)
    made: list[str] = []
    entry_of = census.entry_of

    def watched(state: str, job: census.Ref) -> spools.Entry:
        made.append(state)
        return entry_of(state, job)

    monkeypatch.setattr(census, "entry_of", watched)
    jobs = listing.taken(eve.spool, False, allowance.Allowance())

    assert {state: count for state, count in jobs.counts().items() if count} == {STATES[-1]: 400}
    assert eve.asked.count("read") <= listing.DOUBLES_MOST
    assert eve.asked.times <= 10
    # Each list is gone through a few times, not once for each name that is left out.
    assert len(made) <= 5 * len(STATES) * len(names)


def test_of_a_stranger_too_the_later_attempt_is_right(eve: Stranger) -> None:
    """Where few jobs are met twice, as when a record just moves, their records tell."""
    eve.record(COMPLETED, "7", attempt=1)
    eve.record(WAITING, "7", attempt=2)

    counts = listing.taken(eve.spool, False, allowance.Allowance()).counts()

    assert {state: count for state, count in counts.items() if count} == {WAITING: 1}


def test_empty_files_use_up_what_may_be_read(eve: Stranger) -> None:
    """Each counts as much as an honest record, also where reading it fails; and none is read twice."""
    eve.links(COMPLETED, [f"{number}.job" for number in range(50)])
    for number in range(50, 100):
        os.symlink("nowhere", f"{eve.spool.directory(COMPLETED)}/{number}.job")
    left = allowance.Allowance(60 * allowance.READ_BYTES_MIN)
    entries = sorted(spools.scan(eve.spool, (COMPLETED,)), key=lambda entry: int(entry.id))
    left.expect(entries)
    eve.asked.calls.clear()

    rows = [listing.row_of(eve.spool, entry, False, left) for entry in entries]

    assert [row.problem is not None for row in rows] == [True] * 100
    assert eve.asked.count("read") <= 60 + allowance.AHEAD
    assert "too large" in str(rows[-1].problem)
    assert "too large" not in str(rows[59].problem)


def test_names_that_vanish_are_looked_for_a_few_times(eve: Stranger) -> None:
    """Each time all directories are listed: whoever has a program rename his files has no thousand looks."""
    entries = [spools.Entry(f"{number}", COMPLETED, None, f"{number}.job", 0) for number in range(100)]
    left = allowance.Allowance()

    rows = [listing.row_of(eve.spool, entry, False, left) for entry in entries]

    assert all(row.problem == "it moved on while it was looked at" for row in rows)
    assert eve.asked.count("listing") <= allowance.FOLLOWED_MOST * len(STATES)


def test_a_stranger_s_job_that_moves_on_is_followed(eve: Stranger) -> None:
    """As one of mine."""
    eve.record(COMPLETED, "7")
    before = spools.Entry("7", WAITING, None, "7.job", 0)

    assert listing.row_of(eve.spool, before, False, allowance.Allowance()).state == COMPLETED


# ---------------------------------------------------------------- whoever goes there himself may hang


def test_nothing_of_a_stranger_is_asked_for_but_by_a_helper(
    eve: Stranger, me: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even when a file was written: a server that goes away would keep `rq q` for as long as it is."""
    eve.links(COMPLETED, [f"fit{number}.job" for number in range(1000)])
    eve.links(FAILED, ["7.job", "1_0.job", "1700000000.5.job"])
    eve.links(spools.HISTORY, ["8@n.failed"])
    helped = eve.asked.ask
    is_helper = False

    def ask(calls: Sequence[Call]) -> list[Any]:
        nonlocal is_helper
        is_helper = True
        try:
            return helped(calls)
        finally:
            is_helper = False

    def seen(path: Any) -> None:
        if not is_helper and str(path).startswith(eve.spool.path):
            own.append(path)

    own: list[Any] = []
    monkeypatch.setattr(eve.asked, "ask", ask)
    for name in ("lstat", "stat", "open", "scandir"):
        monkeypatch.setattr(os, name, _told(getattr(os, name), seen))
    found = listing.listing([eve.spool], me, now_ns=NOW_NS, ended_of_all=True, bundles=True)
    ended = told_of(eve)

    assert own == []
    assert len(ended) == 1004
    assert found.counts["eve"][COMPLETED] == 1000
    assert eve.asked.count("signature") <= listing.FOREIGN_OF_OTHERS_MOST + 10


def _told(does: Callable[..., Any], tell: Callable[[Any], None]) -> Callable[..., Any]:
    """A function of the system that tells for which path it is called."""

    def told(path: Any, *words: Any, **options: Any) -> Any:
        tell(path)
        return does(path, *words, **options)

    return told


def test_of_foreign_names_of_a_stranger_the_newest_files_are_shown(eve: Stranger, me: Spool) -> None:
    """Their names tell no age; the helper does."""
    for number in range(50):
        eve.record(COMPLETED, f"fit{number}", completed_ns=NOW_NS)
        path = f"{eve.spool.directory(COMPLETED)}/fit{number}.job"
        os.utime(path, ns=(0, 10**18 + number * 17 % 50))

    found = listing.listing([eve.spool], me, now_ns=NOW_NS, ended_most=3, ended_of_all=True)

    assert {row.id for row in found.rows} == {f"fit{number}" for number in range(50) if number * 17 % 50 > 46}


# ---------------------------------------------------------------- 0.2.9


@pytest.mark.parametrize("data", [b"", b"{"])
def test_jobs_of_a_card_as_0_2_9_wrote_it_are_read_together_and_not_without_end(
    eve: Stranger, data: bytes
) -> None:
    """Every daemon reads them in each round: thousands of files that say nothing cost a few helper calls."""
    names = [f"x{number}.job" for number in range(1200)]
    os.mkdir(eve.spool.directory(neighbours.LEGACY_CANCELING))
    eve.links(RUNNING, names, data)
    eve.links(neighbours.LEGACY_CANCELING, names, data)

    assert neighbours.legacy_here(eve.spool, "n1") == []

    assert eve.asked.count("read") <= 2 * neighbours.LEGACY_READ_MAX
    assert eve.asked.times <= 30


def test_all_running_jobs_of_0_2_9_are_counted(eve: Stranger) -> None:
    """More than are read at once; what is no record among them hides none."""
    for number in range(120):
        eve.record(RUNNING, f"1700000000.{number}", node="n1", pid=1)
    eve.links(RUNNING, ["0.1.job", "1700000000.60x.job"])

    assert len(neighbours.legacy_occupants(eve.spool)) == 120


# ---------------------------------------------------------------- the history

HEAD = b'{"journal":1,"begun":0}\n'
LINE = b'{"id":"%d","state":"failed","ended":1,"problem":"x"}\n'


def told_of(eve: Stranger) -> list[str]:
    """The ids of all that ended."""
    return [row.id for row in afterwards.ended(eve.spool, 0, is_mine=False)]


@pytest.mark.parametrize("begun", ["0", "9" * 400, "1e400"])
@pytest.mark.parametrize("since", ["0", "Infinity", "NaN", "1e400"])
def test_no_volume_of_a_stranger_ends_a_look_at_all(eve: Stranger, begun: str, since: str) -> None:
    """What its header says is no header, or is believed; other volumes count."""
    head = (
        f'{{"journal":1,"begun":{begun},"sorted":true,"since":{since},"until":1,"number":1,'
        '"lines":1,"first":"1","last":"1"}\n'
    )
    eve.write(spools.HISTORY, "n1.1.jsonl", head.encode() + LINE % 1)
    eve.write(spools.HISTORY, "n2.1.jsonl", HEAD + LINE % 2)

    assert set(told_of(eve)) >= {"2"}


def test_volumes_without_end_are_not_all_read(eve: Stranger) -> None:
    """A stranger's history is read as far as that is sensible; what was read counts, and the rest is told."""
    for number in range(300):
        eve.write(spools.HISTORY, f"n.{number}.jsonl", HEAD + LINE % number)
    found = []
    with pytest.raises(OSError, match="too large"):  # noqa: PT012
        for past in history.since(eve.spool, budget=100 * history.VOLUME_BYTES_MIN):
            found.append(past.id)  # noqa: PERF401

    assert len(found) == 100
    assert eve.asked.count("read") == 100


def test_records_that_move_into_a_history_without_end_are_not_all_read(eve: Stranger) -> None:
    """Nor are those in its directory that are no volumes."""
    eve.links(spools.HISTORY, [f"{number}@n.failed" for number in range(300)])
    with pytest.raises(OSError, match="too large"):
        list(history.since(eve.spool, budget=100 * history.MOVING_BYTES_MIN))

    assert eve.asked.count("read") == 100


def test_lines_without_end_are_not_all_told(eve: Stranger) -> None:
    """Short ones count as much as honest ones: each becomes a job that is remembered."""
    for node in ("a", "b"):
        content = HEAD + b"".join(LINE % number for number in range(1000))
        eve.write(spools.HISTORY, f"{node}.1.jsonl", content)
    assert len(content) < history.VOLUME_BYTES_MIN
    with pytest.raises(OSError, match="too large"):
        list(history.since(eve.spool, budget=1000 * history.LINE_BYTES_MIN))

    assert eve.asked.count("read") == 1


def test_an_honest_history_is_read_to_its_end(eve: Stranger) -> None:
    """Up to the last byte that is allowed."""
    for number in range(10):
        eve.write(spools.HISTORY, f"n.{number}.jsonl", HEAD + LINE % number)

    found = history.since(eve.spool, budget=10 * history.VOLUME_BYTES_MIN)

    assert len({past.id for past in found}) == 10


def test_ended_records_of_a_stranger_are_read_together(eve: Stranger) -> None:
    """A hundred in four calls, not one by one, and no more than are allowed."""
    eve.links(COMPLETED, [f"{number}.job" for number in range(100)])

    assert len(told_of(eve)) == 100

    assert eve.asked.count("read") == 100
    assert eve.asked.times <= 2 + 1 + 100 // allowance.AHEAD
