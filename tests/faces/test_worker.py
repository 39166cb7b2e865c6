"""Promises about `rq worker` as it is typed: what it refuses, and every line that it prints."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest

from roundq.actors import worker
from roundq.actors.listing import Row
from roundq.actors.worker import Again, Begun, Closing, Ended, Event, Left, Opened, Result, Stopping, Warned
from roundq.faces import cli
from roundq.faces.cli import worker as telling
from roundq.faces.cli.person import person
from roundq.records import cards, control, history
from roundq.records.spool import Entry
from roundq.words.drains import ADMIN, Drain
from roundq.words.errors import NoSuchJob
from roundq.words.intake import intake
from roundq.words.job import Job, Record
from roundq.words.states import CANCELED, COMPLETED, FAILED, HELD, WAITING
from roundq.world import procs
from roundq.world.nodelock import NodeLock
from tests.faces.desk import Desk, Said
from tests.faces.homes import HERE, card, record


@pytest.fixture
def lock(desk: Desk) -> Iterator[NodeLock]:
    """The lock of this node, as a daemon has it."""
    held = NodeLock(desk.spool.path)
    assert held.acquire()
    yield held
    held.release()


# ---------------------------------------------------------------- what it refuses


@pytest.mark.parametrize(
    ("words", "code", "err"),
    [
        ("-x 0", 2, 'rq: "0" is not a number of cores\nhint: give a whole number, such as 4\n'),
        ("-x many", 2, 'rq: "many" is not a number of cores\nhint: give a whole number, such as 4\n'),
        (
            "-x 999",
            2,
            "rq: a worker cannot fill 999 cores: here1 offers 8\n"
            "hint: roundq.toml(5) tells how many a node offers; rq nodes shows them\n",
        ),
        (
            "--set a/b",
            2,
            'rq: set "a/b": its name contains /\nhint: it becomes part of a file name: leave the / out\n',
        ),
        ("last", 1, 'rq: no such job: "last"\nhint: rq q --mine lists your jobs\n'),
        ("--set fitt", 1, "rq: no such set: %fitt\nhint: rq sets lists your sets\n"),
        ("%fitt", 1, "rq: no such set: %fitt\nhint: rq sets lists your sets\n"),
        ("17,20-25", 1, 'rq: no such job: "17"\nhint: rq q --mine lists your jobs\n'),
        ("fitt", 1, 'rq: no such job: "fitt"\nhint: rq q --mine lists your jobs\n'),
        ("--sty", 2, 'rq: unknown option "--sty"\nhint: did you mean --stay? see: rq worker -h\n'),
    ],
)
def test_wrong_words_are_told_and_nothing_begins(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, words: str, code: int, err: str
) -> None:
    monkeypatch.setenv("RQ_CORES", "8")
    assert desk.rq("worker", *words.split()) == Said(code, "", err)
    assert NodeLock(desk.spool.path).holder() is None


def test_a_wrong_expression_is_shown_with_its_column(desk: Desk) -> None:
    said = desk.rq("worker", "cores=")
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("rq: expression, column 7: ")


def test_beside_my_daemon_it_does_nothing(desk: Desk, lock: NodeLock) -> None:
    """One of both serves a node: it says which, and what to do."""
    del lock
    hint = "it starts what may start; to have a worker in its place: rq daemon --stop"
    said = desk.rq("worker")
    assert said.code == 1
    assert said.err == (
        f"rq: a daemon of yours runs on {HERE} already (process {os.getpid()})\nhint: {hint}\n"
    )


def test_beside_my_worker_too(desk: Desk, lock: NodeLock) -> None:
    del lock
    mine = card("ann", HERE, worker="jobs of set fit, on 2 cores", process=procs.own_identity())
    cards.publish(desk.spool, mine)
    desk.rq("limit", "%other", "3")
    said = desk.rq("worker", "--set", "other")
    assert said.err == (
        f"rq: a worker of yours runs on {HERE} already (process {os.getpid()})\n"
        "hint: it takes jobs of set fit, on 2 cores; there is one for each node\n"
    )


def test_inside_a_job_it_does_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RQ_JOB_ID", "17")
    assert desk.rq("worker") == Said(
        1,
        "",
        "rq: this is inside a job: a worker would end with it, and so would all jobs that it starts\n"
        "hint: run it from a shell on the node\n",
    )


# ---------------------------------------------------------------- when there is nothing to do


def test_what_only_the_past_knows_is_no_mistake(desk: Desk) -> None:
    """Also a set that has nothing but a limit: another job may have been added, and was done meanwhile."""
    put = partial(desk.homes.put, desk.spool, COMPLETED)
    put("1", record("fit", now_ns=time.time_ns(), job_set="a", began_s=9, ended_s=2, node="n1", exit_code=0))
    path = put(
        "2", record("old", now_ns=time.time_ns(), job_set="b", began_s=9, ended_s=2, node="n1", exit_code=0)
    )
    entry = Entry("2", COMPLETED, None, path.name, 0)
    moving = history.take(desk.spool, entry, "n1")
    assert moving is not None
    assert history.Journal(desk.spool, "n1").fold([moving], time.time(), 1e9) == 1
    desk.rq("limit", "%limited", "3")
    for words in ("1", "2", "fit", "old", "--set a", "--set b", "%a", "%b", "--set limited"):
        options = cli.build_parser("worker").parse(words.split())
        telling._require_known(options, person(os.environ))
    with pytest.raises(NoSuchJob, match="no such set: %c"):
        telling._require_known(cli.build_parser("worker").parse(["%a", "%c"]), person(os.environ))


def test_without_anything_that_it_could_run_it_leaves(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not for it is not told; what it cannot run is. That alone is no failure."""
    monkeypatch.setenv("RQ_CORES", "2")
    desk.rq("run", "-c", "4", "-J", "wide", "true")
    desk.rq("run", "--set", "other", "true")
    desk.rq("run", "--hold", "true")
    desk.rq("run", "--begin", "now+2h", "true")
    assert desk.rq("worker", "wide") == Said(
        0,
        f"worker on {HERE}: 2 cores, jobs that wide means\nworker on {HERE} leaves: no job ended\n",
        f"rq: left: 1: can never start here: needs 4 cores, {HERE} has 2\n",
    )


def test_a_limit_of_nothing_leaves_nothing_to_do(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would wait until its user changes that."""
    monkeypatch.setenv("RQ_CORES", "2")
    desk.rq("run", "--set", "fit", "true")
    desk.rq("limit", "%fit", "0")
    said = desk.rq("worker")
    assert said.code == 0
    assert said.err == "rq: left: 1: waits: no job of set fit may start; rq limit %fit N changes that\n"


def test_on_a_drained_node_it_leaves_and_says_what_it_left(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 1 if there was anything to do."""
    monkeypatch.setenv("RQ_CORES", "2")
    control.drain(desk.spool, HERE, Drain("ann", "lunch"), HERE)
    assert desk.rq("worker").code == 0
    desk.rq("run", "true")
    said = desk.rq("worker")
    assert said.code == 1
    assert said.err == (
        "rq: starts nothing: drained by ann: lunch\n"
        f"rq: {HERE} starts nothing: drained by ann: lunch; left: 1\nhint: rq resume ends a drain\n"
    )


def test_what_ends_the_drain_of_an_administrator_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    result = Result(drained=Drain(ADMIN, "disk").says, left=(Left(("1",), "waits"),))
    telling._tell_left("node7", result)
    assert capsys.readouterr().err.endswith("hint: as root on node7: rq resume --admin\n")


# ---------------------------------------------------------------- every line

_FIT = Record(Job(("true",), jobname="fit"))


def row(state: str, record: Record | None = _FIT) -> Row:
    return Row(None, Entry("17", state, None, "17.job", 1), record, None if record else "cut")  # type: ignore[arg-type]


EVENTS: list[tuple[Event, str, str]] = [
    (Opened("n1", 1, intake([])), "worker on n1: 1 core, all jobs\n", ""),
    (Begun("17", "fit", 2, 1), 'job 17 "fit" begins: 2 cores\n', ""),
    (Begun("17", "f\x1b", 1, 3), 'job 17 "f\\x1b" begins: 1 core, attempt 3\n', ""),
    (Ended(row(COMPLETED, replace(_FIT, exit_code=0)), 3.9), 'job 17 "fit" completed, after 3 s\n', ""),
    (
        Ended(row(FAILED, replace(_FIT, exit_code=3)), 90.0),
        'job 17 "fit" failed: exit code 3, after 90 s\n',
        "",
    ),
    (Ended(row(CANCELED), 7300.0), 'job 17 "fit" was canceled, after 2 h\n', ""),
    (
        Ended(row(COMPLETED, None), 1.0),
        "job 17 completed, but its job file cannot be read: cut, after 1 s\n",
        "",
    ),
    (Ended(row("", None), 1.0), "job 17 is gone, and nobody knows how it ended, after 1 s\n", ""),
    (Again("17", "fit", WAITING), 'job 17 "fit" waits to be run again\n', ""),
    (Again("17", "fit", HELD), 'job 17 "fit" is held until its next attempt\n', ""),
    (Closing(()), "", "rq: starts nothing more\n"),
    (
        Closing(("17", "18", "20")),
        "",
        "rq: starts nothing more; 3 jobs go on: 17, 18, 20\nhint: Ctrl-C again stops them\n",
    ),
    (Stopping((), ()), "", "rq: has no jobs to stop\n"),
    (Stopping(("17",), ("18",)), "", "rq: stops its jobs; canceled: 18; wait again: 17\n"),
    (Warned("a round failed: \x1b"), "", "rq: a round failed: \\x1b\n"),
]
RESULTS = [
    (Result(), 0, "no job ended", ""),
    (Result(("1", "2")), 0, "2 jobs ended", ""),
    (Result(("1",), ("2", "3")), 1, "3 jobs ended, not well: 2, 3", ""),
    (Result((), (), (Left(("4", "5"), "waits: why"),)), 0, "no job ended", "rq: left: 4, 5: waits: why\n"),
    (Result(signal=2), 130, "no job ended", ""),
    (
        Result(signal=15, running=("4",)),
        143,
        "no job ended",
        "rq: leaves; 1 job goes on: 4\nhint: rq wait waits for them; rq daemon looks after them\n",
    ),
    (
        Result(running=("4", "5")),
        1,
        "no job ended",
        "rq: leaves; 2 jobs go on: 4, 5\nhint: rq wait waits for them; rq daemon looks after them\n",
    ),
]


@pytest.mark.parametrize(("event", "out", "err"), EVENTS)
def test_each_thing_that_happens_is_a_line(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, event: Event, out: str, err: str
) -> None:
    _play(monkeypatch, event, Result())
    said = desk.rq("worker")
    assert said == Said(0, f"{out}worker on {HERE} leaves: no job ended\n", err)


@pytest.mark.parametrize(("result", "code", "ended", "err"), RESULTS)
def test_its_end_is_a_line_and_a_status(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, result: Result, code: int, ended: str, err: str
) -> None:
    _play(monkeypatch, None, result)
    assert desk.rq("worker") == Said(code, f"worker on {HERE} leaves: {ended}\n", err)


def _play(monkeypatch: pytest.MonkeyPatch, event: Event | None, result: Result) -> None:
    def run(_spool: object, _environ: object, _intake: object, tell: object, *, stays: bool) -> Result:
        assert not stays
        if event is not None:
            tell(event)  # type: ignore[operator]
        return result

    monkeypatch.setattr(worker, "run", run)


def test_nodes_tell_of_a_worker(desk: Desk) -> None:
    """It serves only what it takes."""
    cards.publish(desk.spool, card("ann", HERE, worker="jobs of set f\x1bit"))
    assert f"{HERE}: ann has a worker, which takes jobs of set f\\x1bit\n" in desk.rq("nodes").out
