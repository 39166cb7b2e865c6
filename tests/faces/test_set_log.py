"""The log of a set, and waiting for one, as they are typed and read: `rq log %SET`, `rq wait %SET`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from roundq.actors import queue
from roundq.actors.listing import Row
from roundq.faces.cli import set_log
from roundq.faces.cli.person import any_person
from roundq.records import spool as spools
from roundq.words.job import NS, Array, Attempt, Record
from roundq.words.states import CANCELED, COMPLETED, FAILED, RUNNING, WAITING, ZOMBIE
from tests.faces.desk import Desk
from tests.faces.homes import HERE, NOW_NS, record

FIT: dict[str, Any] = {"job_set": "fit"}


@pytest.fixture(autouse=True)
def _in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """2026-09-21 14:13:20 is NOW."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def lines(desk: Desk, *words: str) -> list[str]:
    said = desk.rq("log", *words)
    assert (said.code, said.err) == (0, "")
    return said.out.splitlines()


def test_the_log_of_a_set_has_a_line_for_each_event_in_the_order_of_time(desk: Desk) -> None:
    """Added, started where, ended how and after how long; each attempt; from whatever node."""
    desk.homes.put(
        desk.spool,
        COMPLETED,
        "1",
        record("one", ago_s=600, began_s=500, ended_s=100, node="n1", exit_code=0, **FIT),
    )
    earlier = Attempt(1, "n1", None, NOW_NS - 400 * NS, NOW_NS - 399 * NS, "exit", 3, None, "exit code 3")
    again = record(
        "two",
        ago_s=590,
        began_s=200,
        ended_s=190,
        node="n2",
        reason="exit",
        exit_code=4,
        detail="exit code 4",
        **FIT,
    )
    desk.homes.put(desk.spool, FAILED, "2", replace(again, attempt=2, attempts=(earlier,)))
    desk.homes.put(desk.spool, RUNNING, "3", record("three", ago_s=580, began_s=150, node="n2", **FIT))
    desk.homes.put(desk.spool, WAITING, "4", record("four", ago_s=570, **FIT))
    desk.homes.put(desk.spool, WAITING, "5", record("no member", ago_s=570))
    assert lines(desk, "%fit") == [
        '2026-09-21 14:03:20  1       added "one"',
        '2026-09-21 14:03:30  2       added "two"',
        '2026-09-21 14:03:40  3       added "three"',
        '2026-09-21 14:03:50  4       added "four"',
        "2026-09-21 14:05:00  1       started on n1",
        "2026-09-21 14:06:40  2       started on n1",
        "2026-09-21 14:06:41  2       ended after 1.0 s, to be run again: exit code 3",
        "2026-09-21 14:10:00  2       started on n2, attempt 2",
        "2026-09-21 14:10:10  2       failed after 10.0 s: exit code 4",
        "2026-09-21 14:10:50  3       started on n2",
        "2026-09-21 14:11:40  1       finished after 6:40",
    ]


def test_an_array_is_added_in_one_line_and_each_task_has_its_own_events(desk: Desk) -> None:
    array = Array("7", 0, last=99, count=100)
    for index, began_s in ((0, 50), (1, 40)):
        of = record(
            "sweep", ago_s=60, began_s=began_s, node="n1", job_array=replace(array, index=index), **FIT
        )
        desk.homes.put(desk.spool, RUNNING, f"7_{index}", of)
    expected = [
        '2026-09-21 14:12:20  7       added 100 tasks "sweep"',
        "2026-09-21 14:12:30  7_0     started on n1",
        "2026-09-21 14:12:40  7_1     started on n1",
    ]
    assert lines(desk, "%fit") == expected
    assert lines(desk, "--events", "7") == expected
    assert lines(desk, "--events", "7_1") == [expected[0], expected[2]]


@pytest.mark.parametrize(
    ("state", "of", "told"),
    [
        (
            CANCELED,
            {"completed_ns": NOW_NS, "reason": "canceled", "detail": "canceled before it began"},
            "canceled before it began",
        ),
        (
            CANCELED,
            {"began_s": 100, "ended_s": 0, "reason": "canceled"},
            "canceled after 1:40: its user canceled it",
        ),
        (
            CANCELED,
            {"completed_ns": NOW_NS, "reason": "dependency", "detail": "job 12 failed"},
            "canceled: job 12 failed",
        ),
        (CANCELED, {}, "canceled"),
        (
            FAILED,
            {"began_s": 7200, "ended_s": 0, "reason": "time limit"},
            "failed after 2h00m: it ran longer than its time limit",
        ),
        (FAILED, {"began_s": 2, "ended_s": 0, "signal": 9}, "failed after 2.0 s: killed by signal 9"),
        (
            ZOMBIE,
            {"began_s": 30, "ended_s": 0, "reason": "lost", "detail": "nobody knows"},
            "lost after 30.0 s: nobody knows",
        ),
        (COMPLETED, {"began_s": 30, "ended_s": 0}, "ended, and its exit code is not known after 30.0 s"),
    ],
)
def test_each_way_to_end_is_told_in_a_few_words(
    desk: Desk, state: str, of: dict[str, Any], told: str
) -> None:
    desk.homes.put(desk.spool, state, "1", record("x", ago_s=9000, node=HERE, **of, **FIT))
    assert lines(desk, "%fit")[-1].split("  1       ")[1] == told


def test_no_event_comes_before_the_one_that_led_to_it_whatever_clocks_say(desk: Desk) -> None:
    """The node's clock is behind that of the submitter, and nobody wrote when it was canceled."""
    desk.homes.put(desk.spool, RUNNING, "1", record("x", ago_s=10, began_s=500, node=HERE, **FIT))
    desk.homes.put(desk.spool, CANCELED, "2", record("y", ago_s=5, **FIT))
    assert [line[11:] for line in lines(desk, "%fit")] == [
        '14:13:10  1       added "x"',
        f"14:13:10  1       started on {HERE}",
        '14:13:15  2       added "y"',
        "14:13:15  2       canceled",
    ]


def test_what_was_retired_is_told_after_its_end(desk: Desk) -> None:
    of = record(
        "x", began_s=50, ended_s=40, node=HERE, reason="exit", detail="exit code 3", retired=True, **FIT
    )
    desk.homes.put(desk.spool, FAILED, "1", of)
    assert [line.split("  1       ")[1] for line in lines(desk, "%fit")][-2:] == [
        "failed after 10.0 s: exit code 3",
        "retired: it counts no more",
    ]


@pytest.mark.parametrize(
    ("words", "code", "err"),
    [
        (("%no",), 1, "rq: no such set: %no\nhint: rq sets lists your sets\n"),
        (("-n", "3", "%fit"), 2, "rq: what happened to jobs is not their output: -e, -n and --attempt"),
        (("%fit", "1"), 2, "rq: of %fit it is told what happened, of the others their output is printed\n"),
        (("-f", "--events", "1"), 2, "rq: option --follow: it follows a set or an array\n"),
    ],
)
def test_what_has_no_log_is_said(desk: Desk, words: tuple[str, ...], code: int, err: str) -> None:
    desk.homes.put(desk.spool, WAITING, "1", record("x", **FIT))
    said = desk.rq("log", *words)
    assert (said.code, said.out) == (code, "")
    assert said.err.startswith(err)


# ---------------------------------------------------------------- following


def move(desk: Desk, job_id: str, state: str, of: Record) -> Callable[[], None]:
    """A record comes to a state, as another file, and is no more where it was."""

    def happens() -> None:
        before = [entry for entry in spools.scan(desk.spool) if entry.id == job_id]
        made = desk.homes.put(desk.spool, state, f"{job_id}0", of)
        for entry in before:
            if entry.state != state:
                os.unlink(spools.path_of(desk.spool, entry))
        made.rename(made.with_name(made.name.replace(f"{job_id}0", job_id, 1)))

    return happens


def test_a_log_is_followed_until_the_set_has_ended(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """With what is added meanwhile, and what is run again and ends between two looks; nothing twice."""
    waits = record("x", ago_s=100, **FIT)
    other, third = (replace(waits, job=replace(waits.job, jobname=name)) for name in "yz")
    runs = replace(waits, started_ns=NOW_NS, node=HERE)
    ended = replace(runs, completed_ns=NOW_NS + NS, detail="exit code 3")
    again = Attempt(1, HERE, None, NOW_NS, NOW_NS + NS, "exit", 3)
    rerun = replace(ended, attempt=2, attempts=(again,), detail="exit code 5")
    rerun = replace(rerun, started_ns=NOW_NS + 2 * NS, completed_ns=NOW_NS + 3 * NS)
    well: dict[str, Any] = {
        "started_ns": NOW_NS,
        "completed_ns": NOW_NS + 9 * NS,
        "exit_code": 0,
        "node": HERE,
    }
    move(desk, "1", WAITING, waits)()
    move(desk, "2", WAITING, other)()
    steps: list[Callable[[], None]] = [
        move(desk, "1", RUNNING, runs),
        lambda: None,
        move(desk, "1", FAILED, ended),
        move(desk, "1", FAILED, rerun),
        move(desk, "3", WAITING, third),
        move(desk, "2", COMPLETED, replace(other, **well)),
        move(desk, "3", COMPLETED, replace(third, **well)),
    ]
    left = iter(steps)
    capsys.readouterr()
    assert set_log.print_log(any_person(), ["%fit"], follow=True, pause=lambda _: next(left)()) == 0
    assert list(left) == []
    assert [line[21:] for line in capsys.readouterr().out.splitlines()] == [
        '1       added "x"',
        '2       added "y"',
        f"1       started on {HERE}",
        "1       failed after 1.0 s: exit code 3",
        f"1       started on {HERE}, attempt 2",
        "1       failed after 1.0 s: exit code 5",
        '3       added "z"',
        f"2       started on {HERE}",
        "2       finished after 9.0 s",
        f"3       started on {HERE}",
        "3       finished after 9.0 s",
    ]


# ---------------------------------------------------------------- waiting


def test_waiting_for_a_set_tells_whether_it_ended_well(desk: Desk) -> None:
    """0: all well, retired, or taken out before it began; 1: some failed."""
    desk.homes.put(desk.spool, COMPLETED, "1", record("x", began_s=9, ended_s=8, exit_code=0, **FIT))
    assert desk.rq("wait", "%fit") == (0, "", "")
    desk.homes.put(desk.spool, CANCELED, "2", record("x", **FIT))
    failed = record("x", began_s=9, ended_s=8, reason="exit", detail="exit code 3", **FIT)
    desk.homes.put(desk.spool, FAILED, "3", replace(failed, retired=True))
    assert desk.rq("wait", "%fit") == (0, "", "")
    assert desk.rq("wait", "2").code == 1
    desk.homes.put(desk.spool, FAILED, "4", failed)
    assert desk.rq("wait", "%fit") == (1, "", 'rq: job 4 "x" failed: exit code 3\n')
    assert desk.rq("wait", "%no").code == 1


def test_waiting_for_a_set_goes_on_with_what_is_added_meanwhile(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.homes.put(desk.spool, WAITING, "1", record("x", **FIT))
    ended = record("x", began_s=9, ended_s=8, exit_code=0, **FIT)
    failed = record("y", began_s=9, ended_s=8, detail="exit code 3", **FIT)
    steps: list[Callable[[], None]] = [
        move(desk, "1", COMPLETED, ended),
        lambda: None,
        move(desk, "2", FAILED, failed),
        lambda: None,
    ]
    wait = queue.wait

    def add(*given: Any, **more: Any) -> dict[str, Row]:
        """The second begins just when the first is known to have ended."""
        left = iter(steps)
        found = wait(*given, **more, pause=lambda _: next(left)())
        if len(steps) == 4:
            move(desk, "2", WAITING, record("y", **FIT))()
            del steps[:2]
        return found

    monkeypatch.setattr(queue, "wait", add)
    assert desk.rq("wait", "%fit") == (1, "", 'rq: job 2 "y" failed: exit code 3\n')


@pytest.mark.parametrize(
    ("state", "then", "code"),
    [
        (FAILED, (COMPLETED, {"exit_code": 0}), 0),
        (FAILED, (FAILED, {"exit_code": 3, "retired": True}), 0),
        (FAILED, (FAILED, {"exit_code": 5}), 1),
        (COMPLETED, (FAILED, {"exit_code": 5}), 1),
    ],
)
def test_what_became_of_a_set_is_what_became_of_its_jobs_in_the_end(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, state: str, then: tuple[str, dict[str, Any]], code: int
) -> None:
    """A job that had ended is run again, or retired, while another one still runs."""
    ended = {"began_s": 9, "ended_s": 8, **FIT}
    exit_code = 0 if state == COMPLETED else 3
    desk.homes.put(desk.spool, state, "1", record("x", exit_code=exit_code, **ended))
    desk.homes.put(desk.spool, WAITING, "2", record("y", **FIT))
    steps = [
        move(desk, "1", then[0], record("x", **then[1], **ended)),
        move(desk, "2", COMPLETED, record("y", exit_code=0, **ended)),
    ]
    wait, left = queue.wait, iter(steps)
    monkeypatch.setattr(queue, "wait", lambda *of, **how: wait(*of, **how, pause=lambda _: next(left)()))
    err = "" if code == 0 else 'rq: job 1 "x" failed: exit code 5\n'
    assert desk.rq("wait", "%fit") == (code, "", err)
