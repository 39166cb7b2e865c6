"""The judges themselves are judged: each finds what it is for, and passes what is right. Needs no cluster."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster import checkers
from tests.cluster.checkers import Blow, Interval

if TYPE_CHECKING:
    from pathlib import Path

NOW = {"secs": 1790000000, "nanos": 5}


def put(homes: Path, where: str, **record: Any) -> None:
    """Write a record such as "ann/completed/1.job"."""
    user, state, name = where.split("/")
    directory = homes / user / ".roundqueue" / state
    directory.mkdir(parents=True, exist_ok=True)
    whole = {"job": {"command": ["true"]}, "started": NOW, "completed": NOW, "exit_code": None} | record
    (directory / name).write_text(json.dumps(whole))


def ran(label: str, start: float, end: float, cores: int = 1, node: str = "n1") -> Interval:
    return Interval(label, node, 20001, cores, start, end, True)


def test_a_right_spool_passes(tmp_path: Path) -> None:
    """Each job in one state, with the outcome of that state."""
    put(tmp_path, "ann/completed/1.job", exit_code=0)
    put(tmp_path, "ann/failed/2.job", exit_code=3)
    put(tmp_path, "ann/failed/3.job", signal=9)
    put(tmp_path, "ann/failed/4.job", reason="could not start")
    put(tmp_path, "ann/zombie/5.job")
    put(tmp_path, "bob/running/1@n2.job", node="n2")
    put(tmp_path, "bob/waiting/17_3.job")

    checkers.check(str(tmp_path), {"ann": range(1, 6), "bob": ["1", "17_3"]})

    assert checkers.states(str(tmp_path), "bob") == {"1": "running", "17_3": "waiting"}
    assert checkers.outcomes(str(tmp_path), "ann")["3"] == checkers.Outcome("failed", None, 9, None)
    assert checkers.all_ended(str(tmp_path), "ann")
    assert not checkers.all_ended(str(tmp_path))


def test_a_job_in_two_states_is_found(tmp_path: Path) -> None:
    """Also if one of the two names bears a node."""
    put(tmp_path, "ann/waiting/1.job")
    put(tmp_path, "ann/running/1@n1.job", node="n1")
    put(tmp_path, "ann/running/2@n1.job", node="n1")
    put(tmp_path, "ann/running/2@n2.job", node="n2")

    assert len(checkers.one_state(str(tmp_path))) == 2


def test_lost_and_invented_jobs_are_found(tmp_path: Path) -> None:
    """What was accepted is there, and nothing else is."""
    put(tmp_path, "ann/completed/2.job", exit_code=0)

    assert checkers.accepted_kept(str(tmp_path), {"ann": [1]}) == [
        "ann's job 1 was accepted and is gone",
        "ann's job 2 is there and was never accepted",
    ]


@pytest.mark.parametrize(
    ("where", "record"),
    [
        ("ann/completed/1.job", {"exit_code": 1}),
        ("ann/completed/1.job", {"exit_code": None}),
        ("ann/completed/1.job", {"exit_code": 0, "signal": 15}),
        ("ann/failed/1.job", {"exit_code": None}),
        ("ann/failed/1.job", {"exit_code": 0}),
        ("ann/zombie/1.job", {"exit_code": 0}),
        ("ann/waiting/1.job", {"exit_code": 0}),
        ("ann/running/1@n1.job", {"node": "n2"}),
        ("ann/completed/1.job", {"exit_code": 0, "completed": {"secs": 1, "nanos": 0}}),
    ],
)
def test_an_untrue_outcome_is_found(tmp_path: Path, where: str, record: dict[str, Any]) -> None:
    """The record must not contradict its directory."""
    put(tmp_path, where, **record)

    assert len(checkers.true_outcomes(str(tmp_path))) == 1


def test_strays_are_found(tmp_path: Path) -> None:
    """Files that are no records, and records with a name of another state."""
    put(tmp_path, "ann/waiting/1@n1.job.tmp")
    put(tmp_path, "ann/running/2.job")
    put(tmp_path, "ann/waiting/3.job", job={"command": "true"})
    spool = os.path.join(tmp_path, "ann", ".roundqueue")
    with open(os.path.join(spool, "waiting", "4.job"), "w") as f:
        f.write('{"job":')

    wrong = "\n".join(checkers.no_strays(str(tmp_path)))

    assert [re.search(name, wrong) is not None for name in ("1@n1", "2.job", "3.job", "4.job")] == [True] * 4


def test_what_ran_twice_or_never_is_found() -> None:
    """Every job once; which at the same time is worst."""
    runs = [ran("a", 0, 2), ran("a", 1, 3, node="n2"), ran("b", 0, 1), ran("d", 0, 1)]

    assert checkers.ran_once(runs, "abc") == [
        "job a ran 2 times",
        "job c ran 0 times",
        "job d ran and should not have",
    ]
    assert len(checkers.not_twice_at_once(runs)) == 1
    assert checkers.not_twice_at_once([ran("a", 0, 1), ran("a", 1, 2, node="n2")]) == []


# ---------------------------------------------------------------- attempts

MARK = {"boot": "b", "pid": 7, "start": 9}


def attempt(number: int, start: float, end: float, exit_code: int | None = None, **more: Any) -> Interval:
    """A run of attempt `number` of job 1 on n1; without an exit code it was killed."""
    values = {
        "label": "a",
        "node": "n1",
        "uid": os.getuid(),
        "cores": 1,
        "start": start,
        "end": end,
        "ended": exit_code is not None,
        "exit_code": exit_code,
        "job": "1",
        "attempt": number,
        "mark": "b.7.9",
        **more,
    }
    return Interval(**values)


def told(state: str, number: int, *past: str, **record: Any) -> tuple[str, dict[str, Any]]:
    """A record of job 1, at attempt `number`, after others that ended for the reasons `past`."""
    attempts = [
        {"number": i, "node": "n1", "process": MARK, "reason": reason} for i, reason in enumerate(past, 1)
    ]
    job = {"command": ["ledger", "a", "1"], "restartable": True}
    return f"ann/{state}/1.job", {
        "job": job,
        "node": "n1",
        "process": MARK,
        "attempt": number,
        "attempts": attempts,
        **record,
    }


@pytest.mark.parametrize(
    ("record", "runs"),
    [
        (told("completed", 1, exit_code=0), [attempt(1, 0, 1, 0)]),
        (told("completed", 2, "lost", exit_code=0), [attempt(1, 0, 1), attempt(2, 2, 3, 0)]),
        (told("completed", 2, "lost", exit_code=0), [attempt(2, 2, 3, 0)]),
        (told("failed", 1, exit_code=3, reason="exit"), [attempt(1, 0, 1, 3)]),
        (told("failed", 1, reason="time limit", signal=15), [attempt(1, 0, 1)]),
        (told("failed", 1, reason="no command"), []),
        (told("zombie", 1, reason="lost"), [attempt(1, 0, 1)]),
        (told("zombie", 1, reason="lost"), []),
        (told("canceled", 2, "lost", reason="canceled", process=None), [attempt(1, 0, 1)]),
        (told("waiting", 2, "restarted", process=None), [attempt(1, 0, 1)]),
        (told("completed", 1, exit_code=0), [attempt(1, 0, 1, 0), attempt(1, 0, 1, label="a+child")]),
    ],
)
def test_attempts_that_are_told_as_they_were_pass(
    tmp_path: Path, record: tuple[str, dict[str, Any]], runs: list[Interval]
) -> None:
    """Also lost ones, which nobody may have seen begin."""
    put(tmp_path, record[0], **record[1])

    assert checkers.true_attempts(str(tmp_path), runs) == []
    assert checkers.attempts_once(runs) == []


@pytest.mark.parametrize(
    ("record", "runs"),
    [
        (told("completed", 1, exit_code=0), []),
        (told("completed", 1, exit_code=0), [attempt(1, 0, 1)]),
        (told("completed", 1, exit_code=0), [attempt(1, 0, 1, 0, node="n2")]),
        (told("completed", 1, exit_code=0), [attempt(1, 0, 1, 0, mark="b.7.8")]),
        (told("failed", 1, exit_code=3, reason="exit"), [attempt(1, 0, 1, 4)]),
        (told("failed", 1, exit_code=3, reason="exit"), [attempt(1, 0, 1)]),
        (told("failed", 1, reason="no command"), [attempt(1, 0, 1)]),
        (told("canceled", 1, reason="canceled", process=None), [attempt(1, 0, 1)]),
        (told("waiting", 1, process=None), [attempt(1, 0, 1)]),
        (told("completed", 2, exit_code=0), [attempt(2, 2, 3, 0)]),
        (told("failed", 2, "exit", exit_code=3, reason="exit"), [attempt(1, 0, 1, 3), attempt(2, 2, 3, 3)]),
        (told("zombie", 1, reason="lost"), [attempt(1, 0, 1), attempt(2, 2, 3)]),
        (
            told("zombie", 2, "lost", reason="lost", job={"command": ["ledger", "a", "1"]}),
            [attempt(1, 0, 1)],
        ),
    ],
)
def test_an_untrue_attempt_is_found(
    tmp_path: Path, record: tuple[str, dict[str, Any]], runs: list[Interval]
) -> None:
    """What is recorded did not run so, or what ran is not recorded."""
    put(tmp_path, record[0], **record[1])

    assert len(checkers.true_attempts(str(tmp_path), runs)) == 1


def test_a_run_without_a_record_is_found(tmp_path: Path) -> None:
    """The job it says it belongs to is nowhere."""
    (tmp_path / "ann").mkdir()

    assert checkers.true_attempts(str(tmp_path), [attempt(1, 0, 1)]) == ["ann's job 1 ran and has no record"]


def test_attempts_that_begin_twice_or_overlap_are_found() -> None:
    """Also where what lives is only what an earlier attempt left behind."""
    assert len(checkers.attempts_once([attempt(1, 0, 1), attempt(1, 2, 3, node="n2")])) == 1
    assert len(checkers.attempts_once([attempt(1, 0, 3), attempt(2, 2, 3)])) == 1
    assert len(checkers.attempts_once([attempt(1, 0, 3, label="a+child"), attempt(2, 2, 3)])) == 1


def test_only_what_dies_just_after_a_thaw_is_forgiven() -> None:
    """It was given away while it could not know."""
    overlap = [attempt(1, 0, 15, node="n2"), attempt(2, 2, 18)]

    for judge in (checkers.attempts_once, checkers.not_twice_at_once):
        assert judge(overlap, [("n2", 14.5)]) == []
        assert len(judge(overlap, [("n1", 14.5)])) == 1
        assert len(judge(overlap, [("n2", 1)])) == 1
        assert len(judge(overlap, [("n2", 16)])) == 1


def test_a_loss_without_a_cause_is_found(tmp_path: Path) -> None:
    """Nothing hit that node, or that user there, since the attempt began."""
    where, record = told("zombie", 2, "lost", reason="lost")
    put(tmp_path, where, **record)
    runs = [attempt(1, 0, 10), attempt(2, 20, 30)]

    assert checkers.lost_for_a_cause(str(tmp_path), runs, [Blow("n1", 10), Blow("n1", 30, "ann")]) == []
    assert len(checkers.lost_for_a_cause(str(tmp_path), runs, [Blow("n1", 10)])) == 1
    assert len(checkers.lost_for_a_cause(str(tmp_path), runs, [Blow("n1", 30, "bob")])) == 2
    assert len(checkers.lost_for_a_cause(str(tmp_path), runs, [])) == 2
    # Whoever was killed in the middle of starting the command dies when that is done.
    assert checkers.lost_for_a_cause(str(tmp_path), runs, [Blow("n1", 10), Blow("n1", 19)]) == []
