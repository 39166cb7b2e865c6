"""Promises about the census: names alone tell which jobs there are, as reading each of them would."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundq.records import census, spool
from roundq.records.census import Census, age_key
from roundq.records.spool import Entry, Spool
from roundq.words.ranges import array_of
from roundq.words.states import COMPLETED, HELD, RUNNING, STATES, WAITING

_IDS = st.one_of(
    st.integers(0, 30).map(str),
    st.builds("{}_{}".format, st.integers(0, 5), st.integers(0, 30)),
    st.builds("{}.{}".format, st.integers(1, 5), st.integers(0, 9)),
    st.builds("{}.node1_{}".format, st.integers(1, 5), st.integers(0, 9)),
    st.sampled_from(
        [
            "007",
            "17_",
            "_3",
            "17_3_4",
            "a_1",
            "1_a",
            "٣",
            "1_٣",
            "fit",
            "17 (conflict 2)",
            "17~",
            "9" * 40,
            "9" * 18 + "_1",
            "1" * 125,
            "@",
            "3@",
            "3@n",
            "\x1b",
            "5_1@ann",
            "17_03",
        ]
    ),
)
_NAMES = st.lists(
    st.tuples(
        st.sampled_from(STATES),
        st.builds(
            "{}{}{}".format,
            _IDS,
            st.sampled_from(["", "", "@node1", "@n!"]),
            st.sampled_from([".job", ".job", ".tmp"]),
        ),
    ),
    unique=True,
    max_size=60,
)


def _spool(directory: Path) -> Spool:
    home = directory / "ann"
    home.mkdir()
    made = spool.at(str(home), "ann", home.stat().st_uid)
    spool.prepare(made)
    return made


def _put(ann: Spool, names: list[tuple[str, str]]) -> None:
    for state, name in names:
        Path(ann.directory(state), name).touch()


@given(_NAMES)
def test_it_has_the_jobs_that_a_scan_has(
    tmp_path_factory: pytest.TempPathFactory, names: list[tuple[str, str]]
) -> None:
    """Each name that is a job's is counted once, in its state, and no other."""
    ann = _spool(tmp_path_factory.mktemp("census"))
    _put(ann, names)
    scanned = [entry._replace(inode=0) for entry in spool.scan(ann)]
    taken = census.take(ann)
    for state in STATES:
        of_state = [entry for entry in scanned if entry.state == state]
        assert set(taken.all(state)) == set(of_state)
        assert taken.counts()[state] == len(of_state)
        single = sorted(
            (entry for entry in of_state if not array_of(entry.id)), key=lambda one: age_key(one.id)
        )
        assert [entry.id for entry in taken.oldest(state, 5)] == [entry.id for entry in single[:5]]
    ids = [entry.id for entry in scanned]
    twice = {job_id for job_id in ids if ids.count(job_id) > 1}
    assert set(taken.doubles()) == twice


def test_tasks_are_gathered_by_array(tmp_path: Path) -> None:
    """17_3 is a task of 17, wherever it is; 17 itself, and names of others, are none."""
    ann = _spool(tmp_path)
    _put(ann, [(WAITING, f"17_{index}.job") for index in (9, 10, 2)])
    _put(
        ann, [(RUNNING, "17_1@node1.job"), (COMPLETED, "17_0.job"), (WAITING, "17.job"), (HELD, "fit_a.job")]
    )
    taken = census.take(ann)
    assert set(taken.arrays) == {"17"}
    assert {state: len(tasks) for state, tasks in taken.arrays["17"].items()} == {
        WAITING: 3,
        RUNNING: 1,
        COMPLETED: 1,
    }
    assert taken.first_task("17", WAITING).id == "17_2"
    assert taken.last_task("17", WAITING).id == "17_10"
    assert taken.first_task("17", RUNNING) == Entry("17_1", RUNNING, "node1", "17_1@node1.job", 0)
    assert [entry.id for entry in taken.oldest(WAITING, 9)] == ["17"]


def test_the_newest_are_numbers_of_ours(tmp_path: Path) -> None:
    """Names of other programs have no place in the order of our numbers."""
    ann = _spool(tmp_path)
    _put(ann, [(COMPLETED, f"{name}.job") for name in ("9", "10", "zeta", "11.node1", "1700000000.5")])
    assert [entry.id for entry in census.take(ann).newest(COMPLETED, 2)] == ["11.node1", "10"]


def test_a_name_that_is_left_out_is_counted_no_more(tmp_path: Path) -> None:
    """Of a job with two names one is forgotten; the other one stays."""
    ann = _spool(tmp_path)
    names = [
        (RUNNING, "1@n1.job"),
        (COMPLETED, "1.job"),
        (WAITING, "2_1.job"),
        (RUNNING, "2_1@n1.job"),
        (WAITING, "1.job"),
    ]
    _put(ann, names)
    taken = census.take(ann)
    assert {job: len(entries) for job, entries in taken.doubles().items()} == {"1": 3, "2_1": 2}
    taken.leave_out(entry for entries in taken.doubles().values() for entry in entries[:-1])
    assert {state: count for state, count in taken.counts().items() if count} == {COMPLETED: 1, RUNNING: 1}
    assert taken.doubles() == {}


def test_nothing_is_counted_in_an_empty_census() -> None:
    """Every state is there, with nothing in it."""
    assert Census().counts() == dict.fromkeys(STATES, 0)
