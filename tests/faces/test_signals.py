"""`rq pause`, `rq cont` and `rq signal`: what is typed, what is seen, and what became of the job."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from roundq.actors import environ, submission
from roundq.faces.cli import main
from roundq.records import signals
from roundq.records import spool as spools
from roundq.words.job import Identity
from roundq.words.states import CLAIMED, COMPLETED, FAILED, RUNNING, WAITING
from tests.actors.spoolhome import NODE, SpoolHome
from tests.cluster.wait import wait_until
from tests.faces.desk import Desk, process
from tests.faces.homes import record

MARK = Identity("b", 7, 7)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[SpoolHome]:
    made = SpoolHome(tmp_path / "real")
    yield made
    made.stop()


def rq(home: SpoolHome, *words: str) -> tuple[int, str, str]:
    done = process(*words, environ={**home.environ, "RQ_AUTO_START": "no"})
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def put(desk: Desk, state: str, job_id: str, name: str = "fit", **of: object) -> None:
    given = {"node": "n2", "process": MARK, **of} if state in (RUNNING, CLAIMED) else of
    desk.homes.put(desk.spool, state, job_id, record(name, **given))  # type: ignore[arg-type]


def asked(desk: Desk) -> dict[str, set[str]]:
    return spools.requests(desk.spool)


def stopped(home: SpoolHome, job: str) -> bool:
    """Whether every process of the job is stopped."""
    owner = home.record(job).process
    assert owner is not None
    found = set()
    for pid in home.pids(f"RQ_MARK={environ.mark(owner)}"):
        with contextlib.suppress(OSError):
            found.add(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0])
    # Whoever waits for a child that was stopped between vfork and exec does so in uninterruptible sleep.
    return {"T"} <= found <= {"T", "D"}


def test_a_session_with_a_job_that_is_paused(home: SpoolHome) -> None:
    """Paused, seen, continued, signaled: each answer, and what it says is so."""
    job = home.shell("trap 'touch told' USR1; touch up; while :; do sleep 0.05; done", jobname="fit")
    home.supervise(job)
    wait_until((home.home / "up").exists, 20)

    assert rq(home, "pause", "--wait", "fit") == (0, f'paused {job} "fit"\n', "")
    assert stopped(home, job)
    assert rq(home, "pause", "fit") == (0, "", f'rq: {job} "fit": it is paused already\n')
    listed = rq(home, "q")[1].splitlines()
    assert listed[1].split("  ")[0] == "running, paused"
    why = rq(home, "why", "fit")[1]
    assert re.search(rf"\n  it is paused, for \d+ s now; rq cont {job} lets it go on\n", why)

    assert rq(home, "signal", "usr1", "fit") == (0, f'sending SIGUSR1 to {job} "fit" on {NODE}\n', "")
    wait_until(lambda: signals.names(home.spool) == set(), 20)
    assert not (home.home / "told").exists()

    assert rq(home, "cont", "--wait", "fit") == (0, f'continued {job} "fit"\n', "")
    wait_until((home.home / "told").exists, 20)
    assert rq(home, "cont", "fit") == (0, "", f'rq: {job} "fit": it is not paused\n')
    assert "paused" not in rq(home, "q")[1]

    assert rq(home, "signal", "--all", "--wait", "KILL", "fit") == (0, f'sent SIGKILL to {job} "fit"\n', "")
    assert home.wait_for(job).signal == signal.SIGKILL
    assert home.state(job) == FAILED
    assert rq(home, "pause", "fit") == (1, "", f"rq: cannot pause {job}: it has ended: it is failed\n")


def test_what_is_asked_of_another_node_is_left_for_it(desk: Desk) -> None:
    """For the very attempt; it says where, and that a silent node will not act soon."""
    put(desk, RUNNING, "7")
    mark = environ.mark(MARK)
    assert desk.rq("pause", "7") == (0, 'pausing 7 "fit" on n2\n', "")
    assert spools.asked_of(desk.spool, "7", "pause") == mark
    assert desk.rq("cont", "7") == (0, 'continuing 7 "fit" on n2\n', "")
    assert asked(desk) == {}

    desk.homes.card(desk.spool, "n2", silent_s=870)
    assert desk.rq("signal", "12", "7") == (
        0,
        'sending SIGUSR2 to 7 "fit" on n2\n',
        "rq: n2 has not been seen for 14 min\n"
        "hint: the request is kept; it takes effect when the node returns\n",
    )
    desk.rq("signal", "-a", "12", "7")
    found = {(one.mark, one.number, one.to_all) for one in signals.of(desk.spool, "7")}
    assert found == {(mark, 12, False), (mark, 12, True)}


def test_a_stale_pause_is_not_the_present_one(desk: Desk) -> None:
    """What was asked of an earlier attempt means nothing now; asking anew does."""
    put(desk, RUNNING, "7")
    spools.request(desk.spool, "7", "pause", "n1", "b.1.1")
    assert desk.rq("cont", "7").err == 'rq: 7 "fit": it is not paused\n'
    spools.request(desk.spool, "7", "pause", "n1", "b.1.1")
    spools.request(desk.spool, "7", "paused", "n1", "b.1.1\n5")
    assert "paused" not in desk.rq("q").out
    assert desk.rq("pause", "7").out == 'pausing 7 "fit" on n2\n'
    assert spools.asked_of(desk.spool, "7", "pause") == environ.mark(MARK)


def test_only_what_runs_is_asked(desk: Desk) -> None:
    """One that was named is told of; of others those that run are meant."""
    put(desk, WAITING, "1")
    put(desk, RUNNING, "2")
    put(desk, RUNNING, "3")
    put(desk, COMPLETED, "4", ended_s=1, began_s=2)
    put(desk, CLAIMED, "5")

    assert desk.rq("pause", "1") == (
        1, "", "rq: cannot pause 1: it is waiting, not running\nhint: rq hold 1 keeps it from starting\n"
    )  # fmt: skip
    assert desk.rq("signal", "INT", "5") == (
        1, "", "rq: cannot signal 5: it is just starting\nhint: try again\n"
    )  # fmt: skip
    assert desk.rq("cont", "4") == (1, "", "rq: cannot continue 4: it has ended: it is completed\n")
    assert desk.rq("pause", "-n", "1-5") == (0, "would pause 2 jobs: 2, 3\n", "")
    assert asked(desk) == {}
    assert desk.rq("pause", "1-5") == (0, "pausing 2 jobs on n2: 2, 3\n", "")
    assert asked(desk) == {"2": {"pause"}, "3": {"pause"}}
    assert desk.rq("pause", "state=waiting") == (1, "", 'rq: cannot pause 1 "fit": it does not run\n')
    assert desk.rq("signal", "-n", "USR1", "1") == (1, "would signal nothing\n", "")


@pytest.mark.parametrize(
    ("words", "err"),
    [
        (
            ("signal", "FOO", "1"),
            'rq: there is no signal "FOO"\nhint: write a name or a number: USR1, SIGINT, 12\n',
        ),
        (
            ("signal", "0", "1"),
            'rq: there is no signal "0"\nhint: write a name or a number: USR1, SIGINT, 12\n',
        ),
        (
            ("signal", "stop", "1"),
            "rq: a job that is stopped by SIGSTOP would run against its time limit\n"
            "hint: rq pause has it stand still\n",
        ),
        (
            ("signal", "USR1"),
            "rq: which jobs to signal?\nhint: name them by id or name; last is what you submitted last\n",
        ),
        (
            ("pause",),
            "rq: which jobs to pause?\nhint: name them by id or name; last is what you submitted last\n",
        ),
        (
            ("cont",),
            "rq: which jobs to continue?\nhint: name them by id or name; last is what you submitted last\n",
        ),
    ],
)
def test_what_is_wrong_is_said(desk: Desk, words: tuple[str, ...], err: str) -> None:
    assert desk.rq(*words) == (2, "", err)


def test_nobody_else_is_asked(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request in my directory that is not mine asks nothing of my supervisors."""
    put(desk, RUNNING, "7")
    desk.rq("pause", "7")
    mine = submission.mine(os.environ)
    assert spools.requests(mine) == {"7": {"pause"}}
    if os.geteuid() == 0:
        os.chown(f"{mine.path}/requests/7.pause", 54_321, 54_321)
        assert spools.requests(mine) == {}
        assert spools.asked_of(mine, "7", "pause") is None
    monkeypatch.setenv("HOME", "/nowhere")
    assert main(["pause", "7"]) == 1
