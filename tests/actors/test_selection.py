"""Promises of the words that mean jobs: which ones they are, and what is read to find them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from roundq.actors import selection
from roundq.actors.selection import Selection
from roundq.records import spool as spools
from roundq.records.spool import Entry, Spool
from roundq.words.errors import UsageError
from roundq.words.job import Array
from roundq.words.states import CANCELED, CLAIMED, COMPLETED, FAILED, HELD, RUNNING, STATES, WAITING, ZOMBIE
from roundq.world import files
from tests.faces.homes import NOW_NS, Homes, record


class Queue:
    """Ann's queue, made of files."""

    def __init__(self, homes: Homes) -> None:
        self.homes = homes
        self.spool: Spool = homes.user("ann")

    def put(self, state: str, job_id: str, name: str = "", **of: Any) -> Path:
        """Puts a job into a state."""
        return self.homes.put(self.spool, state, job_id, record(name, **of))

    def array(self, array: str, **states: str) -> None:
        """Puts tasks of an array: state -> indices."""
        count = sum(len(indices.split()) for indices in states.values())
        for state, indices in states.items():
            for index in indices.split():
                of = Array(array, int(index), 0, count - 1, 1, count)
                node = {"node": "n1"} if state in (RUNNING, CLAIMED) else {}
                self.put(state, f"{array}_{index}", "many", job_array=of, job_cores=4, **node)

    def select(self, *words: str, **of: Any) -> Selection:
        """What these words mean now."""
        return selection.select(self.spool, words, now_ns=NOW_NS, **{"pause": lambda _: None, **of})

    def ids(self, *words: str, **of: Any) -> list[str]:
        """The ids of what these words mean, all of which mean something."""
        found = self.select(*words, **of)
        assert found.unknown == []
        return [row.id for row in found.rows]


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    """An empty queue."""
    return Queue(Homes(tmp_path))


@pytest.fixture
def full(queue: Queue) -> Queue:
    """Jobs in every state, two arrays, and names of all kinds."""
    queue.put(COMPLETED, "1", "fit", began_s=500, ended_s=400, exit_code=0)
    queue.put(FAILED, "2", "fit", began_s=500, ended_s=400, exit_code=3, reason="exit")
    queue.put(FAILED, "3", "plot", began_s=500, ended_s=400, signal=9, reason="signal")
    queue.put(CANCELED, "4", "gone", ended_s=400, reason="canceled")
    queue.put(ZOMBIE, "5", "lost", began_s=500, reason="lost")
    queue.put(RUNNING, "6", "fit", node="n1", began_s=500)
    queue.put(CLAIMED, "7", "fit", node="n2")
    queue.put(HELD, "8", "later", job_set="genes")
    queue.put(WAITING, "9", "fit", job_set="genes", job_cores=8)
    queue.array("10", completed="0 1", running="2", waiting="3 4 11")
    queue.put(WAITING, "12", "last one")
    return queue


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        ("9", "9"),
        ("9 1", "9 1"),
        ("1,9,2-4", "1 2 3 4 9"),
        ("10", "10_0 10_1 10_2 10_3 10_4 10_11"),
        ("10_3", "10_3"),
        ("10_[0-9:2,11]", "10_0 10_2 10_4 10_11"),
        ("10_2-4", "10_2 10_3 10_4"),
        ("8-10", "8 9 10_0 10_1 10_2 10_3 10_4 10_11"),
        ("last", "12"),
        ("@", "12"),
        ("@~1", "10_0 10_1 10_2 10_3 10_4 10_11"),
        ("@~2", "9"),
        ("%genes", "8 9"),
        ("fit", "1 2 6 7 9"),
        ("many", "10_0 10_1 10_2 10_3 10_4 10_11"),
        ("plot 9", "3 9"),
        ("*", "1 2 3 4 5 6 7 8 9 10_0 10_1 10_2 10_3 10_4 10_11 12"),
        ("state=failed", "2 3"),
        ("state=code=3", "2"),
        ("code=-9", "3"),
        ("state=pending&!array=10", "8 9 12"),
        ("set=genes&state=waiting", "9"),
        ("node=n1", "6 10_2"),
        ("cores>=4&state=running", "10_2"),
        ("name=fit|name=plot", "1 2 3 6 7 9"),
        ("reason=lost|id=12", "5 12"),
        ("attempt=1&name=l*", "5 8 12"),
        # Each job once, however many words mean it, where the first does.
        ("12 10_3 10 fit 9", "12 10_3 10_0 10_1 10_2 10_4 10_11 1 2 6 7 9"),
    ],
)
def test_words_mean_jobs(full: Queue, words: str, ids: str) -> None:
    assert full.ids(*words.split()) == ids.split()
    rows = full.select(*words.split()).rows
    assert all(row.record is not None and row.state == row.entry.state for row in rows)


def test_without_ended_jobs_what_has_ended_is_meant_only_by_its_own_id_or_as_all_there_is(
    full: Queue,
) -> None:
    assert full.ids("*", ended=False) == "6 7 8 9 10_2 10_3 10_4 10_11 12".split()
    assert full.ids("10", ended=False) == "10_2 10_3 10_4 10_11".split()
    assert full.ids("1-7", ended=False) == ["6", "7"]
    assert full.ids("fit", ended=False) == ["6", "7", "9"]
    # That these have ended has to be said.
    assert full.ids("1,6", ended=False) == ["1", "6"]
    assert full.ids("10_0-1", ended=False) == ["10_0", "10_1"]
    assert full.ids("plot", ended=False) == ["3"]
    assert full.select("state=failed", ended=False).unknown == ["state=failed"]


def test_of_a_list_each_part_means_what_it_would_mean_as_a_word(full: Queue) -> None:
    """Also if all that one of them means has ended, and what another means has not."""
    full.array("13", completed="0 1")
    looks: list[float] = []
    for text in ("1-5,8-9", "10,13", "13,9", "10_0-1,10_2-4,13", "1-3,2-9"):
        found = full.select(text, ended=False, pause=looks.append)
        assert found.unknown == []
        assert {row.id for row in found.rows} == set(full.ids(*text.split(","), ended=False)), text
    assert full.ids("10_0-1,10_2-4,13_[0]", ended=False) == "10_0 10_1 10_2 10_3 10_4 13_0".split()
    assert full.select("13,98,9", ended=False).unknown == ["98"]
    # Nothing was looked for again.
    assert looks == []


def test_a_name_that_looks_like_something_else_is_meant_as_a_name(full: Queue) -> None:
    for name in ("1", "last", "%genes", "state=failed", "1-9", "*", "25-20"):
        full.put(WAITING, "20", name)
        found = full.select(names=[name])
        assert ([row.id for row in found.rows], found.named) == (["20"], {"20": name})
    full.put(WAITING, "20", "last one")
    assert full.ids("last one") == ["12", "20"]
    # Of digits alone, and there is no such id.
    full.put(WAITING, "20", "2024")
    assert full.ids("2024") == ["20"]


def test_an_id_that_exists_wins_over_all_that_a_word_may_mean(full: Queue) -> None:
    """Other programs may put jobs of any name into a queue."""
    for job_id in ("last", "state=failed", "%genes", "fit", "25-20", "17,", "9.n1", "@~1", "x=y", "nmae=1"):
        full.put(WAITING, job_id, "strange")
        found = full.select(job_id)
        assert ([row.id for row in found.rows], sorted(found.exact)) == ([job_id], [job_id])
    assert full.ids("state=failed", "6-7") == ["state=failed", "6", "7"]


def test_what_is_wrong_stops_all_before_anything_is_found(full: Queue) -> None:
    for wrong in ("25-20", "state=runing", "9,", "10_[", "!(*", "name="):
        with pytest.raises(UsageError):
            full.select("9", wrong)


def test_what_means_nothing_is_said_part_by_part(full: Queue) -> None:
    found = full.select("9", "99", "nope", "1,98,60-70,10_[50,60-70:5]", "%none", "@~50", "name=none")
    assert [row.id for row in found.rows] == ["9", "1"]
    assert found.unknown == ["99", "nope", "98", "60-70", "10_[50,60-70:5]", "%none", "@~50", "name=none"]
    assert found.exact == {"9", "1"}


def test_last_knows_what_was_submitted_last_where_each_node_gives_numbers(queue: Queue) -> None:
    """They compare only within a node; of several nodes the time of submission tells."""
    queue.put(COMPLETED, "7.n1", "a", ago_s=500)
    queue.put(WAITING, "8.n1", "b", ago_s=400)
    queue.put(WAITING, "3.n2", "c", ago_s=100)
    queue.put(WAITING, "2.n2", "d", ago_s=450)
    queue.put(COMPLETED, "1600000000.5", "old")
    queue.put(WAITING, "by hand", "old")
    assert [queue.ids(word) for word in ("last", "@~1", "@~2", "@~3")] == [
        ["3.n2"],
        ["8.n1"],
        ["2.n2"],
        ["7.n1"],
    ]
    assert queue.select("@~4").unknown == ["@~4"]
    queue.array("9.n1", waiting="0 1")
    assert queue.ids("9.n1") == ["9.n1_0", "9.n1_1"]
    assert queue.ids("9.n1_1") == ["9.n1_1"]


# ---------------------------------------------------------------- what is read


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the records that are read."""
    seen: list[str] = []
    real = spools.content

    def content(spool: Spool, entry: Entry) -> bytes:
        seen.append(entry.id)
        return real(spool, entry)

    monkeypatch.setattr(spools, "content", content)
    return seen


@pytest.mark.parametrize(
    "word",
    [
        "9",
        "99,1",
        "1-9",
        "10",
        "10_[0-3]",
        "last",
        "@~2",
        "*",
        "state=failed",
        "id=3|array=10",
        "state=waiting&user=ann",
    ],
)
def test_what_names_tell_is_not_read(full: Queue, reads: list[str], word: str) -> None:
    full.select(word, read=False)
    assert reads == []


@pytest.mark.parametrize(
    ("word", "needed"),
    [
        ("name=many", "1 2 3 4 5 6 7 8 9 10_0 10_1 10_2 10_3 10_4 10_11 12"),
        ("array=10&name=many&cores>=4", "10_0 10_1 10_2 10_3 10_4 10_11"),
        ("state=waiting&name=many", "9 10_3 10_4 10_11 12"),
        ("state=waiting&age>1s", "9 10_? 12"),
        ("state=failed&code=3", "2 3"),
        ("state=running&node=n1", ""),
        ("state=code=3", "1 2 3 10_0 10_1"),
        ("array=10&attempt>1", "10_0 10_1 10_2 10_3 10_4 10_11"),
        ("many", "1 2 3 4 5 6 7 8 9 10_0 10_1 10_2 10_3 10_4 10_11 12"),
        # Those that have a set are looked into, and then read.
        ("%genes", "1 2 3 4 5 6 7 8 8 9 9 10_? 12"),
    ],
)
def test_only_what_a_word_cannot_be_judged_without_is_read_and_once(
    full: Queue, reads: list[str], word: str, needed: str
) -> None:
    """Of the tasks of an array one tells what was asked for; what became of each is in its own record."""
    full.select(word, read=False, pause=lambda _: reads.clear())
    of_array = [job_id for job_id in reads if job_id.startswith("10_")]
    if "10_?" in needed:
        assert len(of_array) == 1
        needed = needed.replace("10_?", of_array[0])
    assert sorted(reads) == sorted(needed.split())


def test_one_task_that_was_edited_is_not_taken_for_the_others(full: Queue) -> None:
    """Nor are they for it: what can be changed of one task is in its own record alone."""
    for index in (4, 0):
        of = Array("10", index, 0, 5, 1, 6)
        state = WAITING if index else COMPLETED
        full.put(state, f"10_{index}", "other", job_array=of, job_cores=16, job_priority=9)
    assert full.ids("cores>=16") == ["10_0", "10_4"]
    assert full.ids("priority>0 & state=waiting") == ["10_4"]
    assert full.ids("name=many & state=pending") == ["10_3", "10_11"]
    assert full.ids("other", ended=False) == ["10_4"]
    assert full.ids("many", ended=False) == ["10_2", "10_3", "10_11"]


def test_an_id_that_was_met_is_looked_for_no_further(full: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a waiting job is found beside a hundred thousand that have ended. But for mounts where a job may
    have two names, and where other names have to be listed all the same."""
    listed: list[str] = []
    real = files.names

    def names(path: str, **of: Any) -> list[str]:
        listed.append(path.rpartition("/")[2])
        return real(path, **of)

    monkeypatch.setattr(files, "names", names)
    full.select("9", read=False)
    assert listed == [HELD, WAITING]
    listed.clear()
    full.select("9", "6", "7", read=False)
    assert listed == [HELD, WAITING, CLAIMED, RUNNING]
    for words, of in ((["9"], {"whole": True}), (["9", "1-3"], {}), (["9", "last"], {})):
        listed.clear()
        full.select(*words, read=False, **of)
        assert sorted(listed) == sorted(STATES)


# ---------------------------------------------------------------- what moves, and what cannot be read


def test_a_job_that_moves_is_looked_for_again(full: Queue) -> None:
    """It is met by a later look; and each word is looked for until it is."""
    moves: list[Callable[[], object]] = [
        lambda: full.put(WAITING, "30", "new"),
        lambda: full.put(RUNNING, "31", "newer", node="n1", began_s=1),
    ]
    found = full.select("30", "name=newer", "9", pause=lambda _: moves.pop(0)())
    assert [row.id for row in found.rows] == ["30", "31", "9"]
    assert (found.unknown, moves) == ([], [])
    looks: list[float] = []
    assert full.select("77", pause=looks.append).unknown == ["77"]
    assert looks == [selection.LOOK_AGAIN_S] * (selection.LOOKS - 1)


def test_a_job_that_is_met_twice_is_one(full: Queue) -> None:
    """It moved on while the directories were listed; or, on some mounts, has two names for a while."""
    full.put(WAITING, "6", "fit")
    assert full.ids("6") == ["6"]
    for words in (["6", "last"], ["state=running", "last"], ["id=6"], ["5-6", "last"]):
        rows = [row for row in full.select(*words).rows if row.id == "6"]
        assert [row.state for row in rows] == [RUNNING], words
    assert full.select("6", whole=True).rows[0].state == RUNNING


def test_of_what_cannot_be_read_it_is_said_that_nobody_knows(full: Queue) -> None:
    """Neither an expression nor its negation means it, unless its state or id is enough."""
    full.put(WAITING, "40").write_bytes(b"{")
    for word in ("name=x", "!name=x", "cores>1&state=waiting"):
        found = full.select(word)
        assert found.undecided == ["40"]
        assert "40" not in [row.id for row in found.rows]
    for word in ("state=waiting", "state=waiting|name=x", "40", "id=40", "*", "last"):
        found = full.select(word)
        assert found.undecided == []
        (row,) = (row for row in found.rows if row.id == "40")
        assert row.problem is not None
    assert full.select("state=failed&name=x").undecided == []


def test_thousands_of_ids_in_one_list_are_found_at_once(queue: Queue) -> None:
    """As a message names them, and somebody pastes it: no part looks through all names again."""
    for number in range(0, 4000, 2):
        Path(queue.spool.directory(WAITING), f"{number}.job").touch()
    began_s = time.process_time()
    found = queue.select(
        ",".join(map(str, range(4000))), ",".join(f"{n}-{n + 1}" for n in range(0, 4000, 2)), read=False
    )
    assert len(found.rows) == 2000
    assert len(found.unknown) == 2000
    # Each for itself would take minutes.
    assert time.process_time() - began_s < 5
