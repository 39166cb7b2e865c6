"""Sets at the desk, as they are typed and read: `rq run --set`, `rq sets`, `rq limit` of sets and arrays."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from roundq.actors import sets
from roundq.faces import sets_view, tables
from roundq.records import control
from roundq.records import spool as spools
from roundq.words.job import NO_NODE, NS, Array, Attempt
from roundq.words.states import CANCELED, COMPLETED, ENDED_STATES, FAILED, HELD, RUNNING, WAITING, ZOMBIE
from tests.faces.desk import Desk
from tests.faces.homes import HERE, NOW_NS, record
from tests.faces.screen import on_terminal, unpainted

#: What was before: canceled before it began, or failed.
UNBEGUN = (Attempt(1, NO_NODE, None, 0, NOW_NS, "canceled"),)
BEGUN = (Attempt(1, "n1", None, NOW_NS - NS, NOW_NS, "exit"),)


def put(desk: Desk, job_id: str, state: str, **of: Any) -> None:
    """A job of the set fit, or of what is said."""
    given = {"job_set": "fit", **of}
    if state in ENDED_STATES:
        given = {"began_s": 300, "ended_s": 100, "node": HERE, **given}
    if state == RUNNING:
        given = {"began_s": 300, "node": HERE, **given}
    desk.homes.put(desk.spool, state, job_id, record("x", **given))


def task(desk: Desk, array: str, index: int, state: str, **of: Any) -> None:
    put(desk, f"{array}_{index}", state, job_array=Array(array, index, last=9, count=10, throttle=3), **of)


def only(desk: Desk, group: str = "%fit") -> sets.Whole:
    return sets.look(desk.spool, [group])[group]


# ---------------------------------------------------------------- what a set is


def test_a_set_begins_with_a_job_or_a_limit_and_ends_with_the_last_of_both(desk: Desk) -> None:
    assert desk.rq("sets") == (0, "You have no sets. Begin one: rq run --set fit ./fit -n 3\n", "")
    assert desk.rq("sets", "fit") == (1, "", "rq: no such set: %fit\nhint: rq sets lists your sets\n")
    assert desk.rq("limit", "%fit", "2").code == 0
    assert only(desk).state == sets.EMPTY
    assert desk.rq("run", "--set", "%fit", "true") == (0, 'submitted 1 "true"\n', "")
    assert desk.rq("run", "--set", "fit", "true").code == 0
    assert (only(desk).state, only(desk).waiting, only(desk).most) == (sets.NOT_STARTED, 2, 2)
    assert desk.rq("limit", "%fit", "none").code == 0
    assert desk.rq("cancel", "1", "2").code == 0
    assert (only(desk).state, only(desk).removed, only(desk).is_well) == (sets.FINISHED, 2, True)


def test_a_name_that_no_set_can_have_is_refused_where_it_is_typed(desk: Desk) -> None:
    hint = "hint: it becomes part of a file name: leave the / out\n"
    for words in (("run", "--set", "a/b", "true"), ("limit", "%a/b", "2"), ("sets", "a/b")):
        said = desk.rq(*words)
        assert (said.code, said.out) == (2, "")
        assert 'a/b": its name contains /\n' in said.err
        assert said.err.endswith(hint)
    assert spools.scan(desk.spool) == []


# ---------------------------------------------------------------- the whole


def test_the_state_of_the_whole_follows_from_its_jobs(desk: Desk) -> None:
    """PLL's: not started, started, finished; and whether all of it ended well."""
    put(desk, "1", WAITING)
    put(desk, "2", WAITING)
    assert (only(desk).state, only(desk).is_well) == (sets.NOT_STARTED, None)
    put(desk, "3", RUNNING)
    assert (only(desk).state, only(desk).is_well) == (sets.STARTED, None)
    put(desk, "4", FAILED, reason="exit code", exit_code=1)
    assert (only(desk).state, only(desk).is_well) == (sets.STARTED, False)


@pytest.mark.parametrize("state", [WAITING, HELD])
def test_what_waits_to_be_run_again_has_begun(desk: Desk, state: str) -> None:
    """A job, or a task of an array, that failed or was restarted; not one that was canceled unbegun."""
    put(desk, "1", state, attempt=2, attempts=UNBEGUN)
    task(desk, "7", 1, state, attempt=2, attempts=BEGUN, job_set="other")
    task(desk, "7", 2, state, job_set="other")
    assert only(desk).state == sets.NOT_STARTED
    assert only(desk, "%other").state == only(desk, "7").state == sets.STARTED
    put(desk, "2", state, attempt=2, attempts=BEGUN)
    assert (only(desk).state, only(desk).is_well) == (sets.STARTED, None)


@pytest.mark.parametrize(
    ("state", "of", "is_well"),
    [
        (COMPLETED, {"exit_code": 0}, True),
        (FAILED, {"reason": "exit code", "exit_code": 3}, False),
        (FAILED, {"reason": "exit code", "exit_code": 3, "retired": True}, True),
        (ZOMBIE, {"reason": "lost"}, False),
        (ZOMBIE, {"reason": "lost", "retired": True}, True),
        # Ended by its user while it ran.
        (CANCELED, {"reason": "canceled"}, False),
        # Removed before it began.
        (CANCELED, {"began_s": NOW_NS / NS, "ended_s": NOW_NS / NS}, True),
        # Twice: it was run again between.
        (CANCELED, {"began_s": NOW_NS / NS, "attempt": 2, "attempts": UNBEGUN}, True),
        (CANCELED, {"began_s": NOW_NS / NS, "attempt": 2, "attempts": BEGUN}, False),
        # Never begun, but not by her wish.
        (CANCELED, {"began_s": NOW_NS / NS, "reason": "dependency"}, False),
    ],
)
def test_a_set_ended_well_if_each_job_did_or_was_retired_or_removed(
    desk: Desk, state: str, of: dict[str, Any], is_well: bool
) -> None:
    put(desk, "1", COMPLETED, exit_code=0)
    put(desk, "2", state, **of)
    whole = only(desk)
    assert (whole.state, whole.is_well, whole.failed) == (sets.FINISHED, is_well, int(not is_well))
    assert desk.rq("sets").out.splitlines()[1].split()[1] == ("finished" if is_well else "failed")


def test_what_is_of_no_set_or_of_another_counts_nowhere(desk: Desk) -> None:
    put(desk, "1", WAITING)
    put(desk, "2", WAITING, job_set="")
    put(desk, "3", WAITING, job_set="other")
    desk.homes.put(
        desk.spool, WAITING, "4", replace(record('"set":'), job=replace(record().job, command=('"set"',)))
    )
    assert {group: whole.jobs for group, whole in sets.look(desk.spool).items()} == {"%fit": 1, "%other": 1}


def test_of_an_array_one_record_is_read_and_of_those_that_ended_badly_each(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many tasks it has; those that ended well are never opened but for the last."""
    for index in range(100):
        task(desk, "7", index, WAITING)
    for index in range(100, 103):
        task(desk, "7", index, FAILED, reason="exit code", exit_code=1)
    opened: list[str] = []
    content = spools.content

    def counted(spool: spools.Spool, entry: spools.Entry) -> bytes:
        opened.append(entry.id)
        return content(spool, entry)

    monkeypatch.setattr(spools, "content", counted)
    whole = only(desk)
    assert (whole.waiting, whole.failed, whole.jobs) == (100, 3, 103)
    assert len(opened) == 1 + 3
    opened.clear()
    assert only(desk, "7") == replace(whole, group="7", most=3, throttle=3)
    assert len(opened) == 1 + 3


def test_a_job_that_moves_while_it_is_looked_at_is_counted_once(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(desk, "1", WAITING)
    put(desk, "2", WAITING)
    content = spools.content
    moved: list[str] = []

    def moving(spool: spools.Spool, entry: spools.Entry) -> bytes:
        if entry.id == "1" and not moved:
            moved.append(entry.id)
            claimed = spools.claim(spool, entry, HERE)
            assert claimed is not None
        return content(spool, entry)

    monkeypatch.setattr(spools, "content", moving)
    whole = only(desk)
    assert (whole.running, whole.waiting) == (1, 1)


# ---------------------------------------------------------------- rq sets


def test_sets_as_they_are_listed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a pipe every column; on a terminal of 80 columns what matters, with a bar."""
    monkeypatch.setattr("time.time_ns", lambda: NOW_NS)
    for place in range(12):
        put(desk, f"{place + 1}", COMPLETED, exit_code=0, job_set="thumbs")
    put(desk, "13", RUNNING, job_set="thumbs")
    put(desk, "14", FAILED, reason="exit code", exit_code=1, job_set="thumbs")
    put(desk, "15", FAILED, reason="exit code", exit_code=1, job_set="thumbs", retired=True)
    for place in range(4):
        task(desk, "20", place, WAITING, job_set="nightly restore", ago_s=60)
    control.set_group_limit(desk.spool, "%thumbs", 4, HERE)
    control.set_group_limit(desk.spool, "%later", 0, HERE)
    assert desk.rq("sets") == (
        0,
        "SET              STATE        DONE  RUN  WAIT  HELD  FAIL  RETIRED  LIMIT  SUBMITTED   LAST END\n"
        "thumbs           running        12    1     0     0     1        1      4  10 min ago  100 s ago\n"
        "nightly restore  not started     0    0     4     0     0        0      -  1 min ago   -\n"
        "later            empty           0    0     0     0     0        0      0  -           -\n",
        "",
    )
    found = sets.look(desk.spool)
    rows = sets_view.rows_of(found.values(), NOW_NS)
    lines = [
        "".join(cell.text for cell in line).rstrip() for line in tables.lay_out(sets_view.COLUMNS, rows, 80)
    ]
    assert lines == [
        "SET         STATE                    DONE  RUN  WAIT  HELD  FAIL  RETIRED  LIMIT",
        "thumbs      running      ████████\N{MULTIPLICATION SIGN}▓"
        "    12    1     0     0     1        1      4",
        "nightly r…  not started  ░░░░░░░░░░     0    0     4     0     0        0      -",
        "later       empty                       0    0     0     0     0        0      0",
    ]
    assert all(len(line) <= 80 for line in lines)


def test_sets_on_a_terminal_have_their_colors(desk: Desk) -> None:
    """What failed is red, and without its colors a line fits the terminal."""
    put(desk, "1", FAILED, reason="exit code", exit_code=1)
    said = on_terminal(["sets"], desk.homes.environ("ann"), 80)
    assert "\x1b[31mfailed" in said
    assert all(len(line) <= 80 for line in unpainted(said).splitlines())


def test_sets_for_programs(desk: Desk) -> None:
    """Names, states and counts of each as a whole."""
    put(desk, "1", RUNNING)
    task(desk, "7", 0, FAILED, reason="exit code", exit_code=1, job_set="")
    said = desk.rq("sets", "--json", "fit", "7", "%no")
    assert said.code == 1
    assert said.err == "rq: no such set: %no\nhint: rq sets lists your sets\n"
    one, other = json.loads(said.out)["sets"]
    assert (one["group"], one["name"], one["state"], one["is_well"]) == ("%fit", "fit", "running", None)
    assert (one["jobs"], one["running"], one["limit"], one["throttle"]) == (1, 1, None, None)
    assert (other["group"], other["name"], other["state"], other["is_well"]) == ("7", None, "finished", False)
    assert (other["failed"], other["limit"], other["throttle"]) == (1, 3, 3)
    assert json.loads(desk.rq("limit", "%fit", "--json").out)["sets"][0]["group"] == "%fit"


# ---------------------------------------------------------------- rq limit


def test_the_limit_of_a_set_as_it_is_typed(desk: Desk) -> None:
    """It may be set before there is a job, and tells what follows."""
    for words, told in (
        (("limit", "%fit", "4"), "set fit: at most 4 jobs may run at once; none of its jobs waits or runs\n"),
        (("limit", "%fit"), "set fit: at most 4 jobs may run at once; none of its jobs waits or runs\n"),
        (("limit", "%fit", "1"), "set fit: at most 1 job may run at once; none of its jobs waits or runs\n"),
    ):
        assert desk.rq(*words) == (0, told, "")
    for place in range(3):
        put(desk, f"{place}", RUNNING)
    put(desk, "9", WAITING)
    more = "3 run now, which go on, 1 waits\n"
    assert desk.rq("limit", "%fit") == (0, f"set fit: at most 1 job may run at once; {more}", "")
    assert desk.rq("limit", "%fit", "none") == (
        0,
        "set fit: any number of its jobs may run at once; 3 run now, 1 waits\n",
        "",
    )
    assert control.group_limits(desk.spool) == ({}, {})


def test_the_limit_of_an_array_is_its_throttle_until_something_else_is_said(desk: Desk) -> None:
    for index in range(4):
        task(desk, "7", index, WAITING, job_set="")
    told = "array 7: at most 3 jobs may run at once, as it was submitted; none runs now, 4 wait\n"
    assert desk.rq("limit", "7") == (0, told, "")
    assert desk.rq("limit", "7", "none").out.startswith("array 7: any number of its jobs may run at once;")
    assert control.group_limits(desk.spool) == ({"7": None}, {})
    assert desk.rq("limit", "7", "2").out.startswith("array 7: at most 2 jobs may run at once;")
    assert only(desk, "7").most == 2


@pytest.mark.parametrize(
    ("words", "code", "err"),
    [
        (("%fit", "x"), 2, 'rq: limit of set fit "x": it is no number that a limit can be\n'),
        (("%fit", "-1"), 2, 'rq: limit of set fit "-1": it is no number that a limit can be\n'),
        ("%fit", 1, "rq: no such set: %fit\nhint: rq sets lists your sets\n"),
        (("17", "2"), 1, 'rq: no such array: "17"\nhint: rq q --mine lists your jobs\n'),
        (("%fit", "2", "-c", "3"), 2, "rq: options -c, -j and --none are about all of your jobs"),
        (("%fit", "2", "3"), 2, 'rq: unexpected word "3"\n'),
    ],
)
def test_a_limit_that_cannot_be_meant_changes_nothing(
    desk: Desk, words: tuple[str, ...] | str, code: int, err: str
) -> None:
    given = (words,) if isinstance(words, str) else words
    said = desk.rq("limit", *given)
    assert (said.code, said.out) == (code, "")
    assert said.err.startswith(err)
    assert control.group_limits(desk.spool) == ({}, {})


def test_show_tells_of_which_set_and_array_a_job_is(desk: Desk) -> None:
    task(desk, "7", 3, WAITING)
    put(desk, "8", WAITING)
    shown = desk.rq("show", "7_3").out
    assert "  set        fit\n" in shown
    assert "  array      task 3 of 10 of array 7, at most 3 at once\n" in shown
    assert "  array" not in desk.rq("show", "8").out


def test_a_limit_is_set_without_reading_what_has_ended(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a set that began long ago, in a queue with many others."""
    put(desk, "1", WAITING)
    for place in range(10, 30):
        put(desk, f"{place}", COMPLETED, exit_code=0)
    opened: list[str] = []
    content = spools.content

    def counted(spool: spools.Spool, entry: spools.Entry) -> bytes:
        opened.append(entry.id)
        return content(spool, entry)

    monkeypatch.setattr(spools, "content", counted)
    assert desk.rq("limit", "%fit", "3").out == (
        "set fit: at most 3 jobs may run at once; none runs now, 1 waits\n"
    )
    assert opened == ["1"]
