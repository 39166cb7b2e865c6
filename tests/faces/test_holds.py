"""Promises of the verbs that decide which jobs may start: hold, release, rerun, retire."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from roundq.actors import changing, queue
from roundq.faces.cli import holds, stopping
from roundq.records import changes, environments
from roundq.records import spool as spools
from roundq.words.job import NS, Array, Dependency
from roundq.words.states import (
    CANCELED,
    CLAIMED,
    COMPLETED,
    ENDED_STATES,
    FAILED,
    HELD,
    RUNNING,
    STATES,
    WAITING,
    ZOMBIE,
)
from tests.actors.spoolhome import SpoolHome
from tests.cluster.wait import wait_until
from tests.faces.desk import Desk, Said
from tests.faces.homes import record

SEE = "hint: rq q --mine lists your jobs\n"


def put(desk: Desk, state: str, job_id: str, name: str = "", **of: Any) -> None:
    """Puts a job of ann's into a state."""
    if state in ENDED_STATES:
        of = {"began_s": 9, "ended_s": 5, "node": "n1", **of}
    desk.homes.put(desk.spool, state, job_id, record(name, now_ns=time.time_ns(), **of))


def array(desk: Desk, states: str, max_fails: int | None = None) -> None:
    """The tasks of array 7, by their states: w, r, f, c, x, z."""
    words = {"w": WAITING, "r": RUNNING, "f": FAILED, "c": COMPLETED, "x": CANCELED, "z": ZOMBIE}
    last = len(states) - 1
    for index, letter in enumerate(states):
        of = Array("7", index, last=last, count=len(states), max_fails=max_fails)
        extra = {"node": "n1", "began_s": 5} if letter == "r" else {}
        put(desk, words[letter], f"7_{index}", "fit", job_array=of, **extra)


def files_in(desk: Desk, state: str) -> list[str]:
    return sorted(os.listdir(desk.spool.directory(state)))


# ---------------------------------------------------------------- hold


def test_a_held_job_stays_held_until_it_is_released(desk: Desk) -> None:
    put(desk, WAITING, "1", "fit")
    put(desk, HELD, "2", "fit")
    put(desk, WAITING, "3")
    assert desk.rq("hold", "fit", "3") == Said(0, "held 3 jobs: 1-3\n", "")
    assert files_in(desk, HELD) == ["1@user.job", "2@user.job", "3@user.job"]
    assert desk.rq("hold", "1") == Said(0, 'held 1 "fit"\n', "")
    assert desk.rq("release", "1", "fit") == Said(0, "released 2 jobs: 1, 2\n", "")
    assert files_in(desk, WAITING) == ["1.job", "2.job"]


def test_where_a_claim_may_be_seen_late_it_is_said_that_it_goes_before(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what waited; nobody starts what was held before."""
    monkeypatch.setenv("RQ_SETTLE", "5s")
    late = (
        "rq: what a node began to start in the last 5 s starts as it was\n"
        "hint: settle in roundq.toml(5) says how late nodes see each other\n"
    )
    put(desk, WAITING, "1", "fit")
    assert desk.rq("hold", "1") == Said(0, 'held 1 "fit"\n', late)
    assert desk.rq("hold", "1") == Said(0, 'held 1 "fit"\n', "")
    assert desk.rq("edit", "--priority", "5", "1").err == ""
    desk.rq("release", "1")
    assert desk.rq("edit", "--priority", "6", "1").err == late


def test_what_has_begun_is_not_held_and_it_is_said_what_can_be_done(desk: Desk) -> None:
    put(desk, RUNNING, "1", "fit", node="n1", began_s=5)
    put(desk, CLAIMED, "2", node="n1")
    put(desk, COMPLETED, "3", exit_code=0)
    put(desk, WAITING, "4")
    assert desk.rq("hold", "1", "2", "3", "4") == Said(
        1,
        'held 4 "sleep 60"\n',
        'rq: cannot hold 1 "fit": it runs on n1\nhint: rq pause 1 lets it stand still\n'
        'rq: cannot hold 2 "sleep 60": n1 is about to start it\nhint: rq cancel 2 ends it\n'
        'rq: cannot hold 3 "sleep 60": it has ended: completed\n',
    )
    assert files_in(desk, RUNNING) == ["1@n1.job"]


def test_of_an_array_those_are_held_that_have_not_begun(desk: Desk) -> None:
    array(desk, "cwwrw")
    assert desk.rq("hold", "7") == Said(
        1, "held 3 jobs: 7_[1,2,4]\n", 'rq: cannot hold what is running: 7_3 "fit"\n'
    )
    assert desk.rq("release", "7") == Said(0, "released 3 jobs: 7_[1,2,4]\n", "")


@pytest.mark.parametrize("verb", ["hold", "release", "rerun", "retire"])
def test_words_are_needed_and_wrong_ones_do_nothing(verb: str, desk: Desk) -> None:
    put(desk, WAITING, "1", "fit")
    put(desk, FAILED, "2")
    before = {state: files_in(desk, state) for state in STATES}
    assert desk.rq(verb) == Said(
        2,
        "",
        f"rq: which jobs to {verb}?\nhint: name them by id or name; last is what you submitted last\n",
    )
    assert desk.rq(verb, "9") == Said(1, "", f'rq: no such job: "9"\n{SEE}')
    assert desk.rq(verb, "1", "state=nothing").code == 2
    assert {state: files_in(desk, state) for state in STATES} == before


@pytest.mark.parametrize(
    ("verb", "said"),
    [
        ("hold", 'would hold 1 "fit"\n'),
        ("release", 'would release 2 "sleep 60"\n'),
        ("rerun", 'would rerun 3 "sleep 60"\n'),
        ("retire", 'would retire 3 "sleep 60"\n'),
    ],
)
def test_a_dry_run_says_which_and_changes_nothing(verb: str, said: str, desk: Desk) -> None:
    put(desk, WAITING, "1", "fit")
    put(desk, WAITING, "2")
    desk.rq("hold", "2")
    put(desk, FAILED, "3")
    before = {state: files_in(desk, state) for state in STATES}
    words = {"hold": ["1", "3"], "release": ["1", "2", "3"]}.get(verb, ["1", "3"])
    assert desk.rq(verb, "-n", *words) == Said(0, said, "")
    assert desk.rq(verb, "-n", "last").out in (said, f"would {verb} nothing\n")
    assert {state: files_in(desk, state) for state in STATES} == before


def test_why_and_the_list_tell_that_a_job_is_on_hold(desk: Desk) -> None:
    put(desk, WAITING, "1", "fit")
    desk.rq("hold", "1")
    assert desk.rq("why", "1").out == '1 "fit": on hold; rq release 1\n'
    assert "held" in desk.rq("q").out


# ---------------------------------------------------------------- release


def test_a_job_that_has_to_wait_for_more_says_so_when_it_is_released(desk: Desk) -> None:
    later_ns = (time.time_ns() // NS + 90_000) * NS
    put(desk, WAITING, "1", "fit", job_begin_ns=later_ns)
    put(desk, WAITING, "2", job_after=(Dependency("ok", "4"), Dependency("any", "5")))
    put(desk, WAITING, "3", job_after=(Dependency("ok", "4"),))
    desk.rq("hold", "1", "2", "3")
    said = desk.rq("release", "1", "2", "3")
    assert (said.code, said.err) == (0, "")
    first, second, third = said.out.splitlines()
    assert first.startswith('released 1 "fit"; it starts not before ')
    assert second == 'released 2 "sleep 60"; it starts after jobs 4, 5'
    assert third == 'released 3 "sleep 60"; it starts after job 4'
    assert files_in(desk, HELD) == ["1.job", "2.job", "3.job"]


def test_what_is_not_on_hold_is_not_released(desk: Desk) -> None:
    put(desk, WAITING, "1", "fit")
    put(desk, HELD, "2")
    put(desk, RUNNING, "3", node="n1", began_s=5)
    assert desk.rq("release", "1", "2", "3") == Said(
        1,
        "",
        'rq: cannot release 1 "fit": it is not on hold, but waits to be started\n'
        'rq: cannot release 2 "sleep 60": it is not on hold, but waits for something\n'
        "hint: rq why 2 says for what\n"
        'rq: cannot release 3 "sleep 60": it runs on n1\n',
    )


def test_a_record_that_cannot_be_read_is_not_released_unseen(desk: Desk) -> None:
    Path(desk.spool.directory(HELD), "1@user.job").write_bytes(b"")
    assert desk.rq("release", "1") == Said(
        1, "", "rq: cannot release 1: its job file cannot be read: it is empty\n"
    )
    assert files_in(desk, HELD) == ["1@user.job"]


# ---------------------------------------------------------------- rerun


@pytest.mark.parametrize("state", ENDED_STATES)
def test_a_job_that_ended_runs_again_as_its_next_attempt(state: str, desk: Desk) -> None:
    reasons = {COMPLETED: None, FAILED: "exit", CANCELED: "canceled", ZOMBIE: "lost"}
    put(desk, state, "1", "fit", reason=reasons[state], exit_code=7, retired=True)
    assert desk.rq("rerun", "fit") == Said(0, 'runs again: 1 "fit"\n', "")
    assert files_in(desk, state) == []
    assert files_in(desk, WAITING) == ["1.job"]
    again = desk.row("1").record
    assert again is not None
    assert (again.attempt, again.completed_ns, again.reason, again.retired) == (2, 0, None, False)
    (before,) = again.attempts
    assert (before.number, before.reason, before.exit_code, before.node) == (1, reasons[state], 7, "n1")


def test_what_was_canceled_by_its_move_alone_has_an_attempt_of_that(desk: Desk) -> None:
    desk.homes.put(desk.spool, CANCELED, "1", record("fit"))
    assert desk.rq("rerun", "1").code == 0
    again = desk.row("1").record
    assert again is not None
    assert [one.reason for one in again.attempts] == ["canceled"]


def test_what_has_not_ended_is_not_run_again(desk: Desk) -> None:
    put(desk, WAITING, "1", "fit")
    put(desk, RUNNING, "2", node="n1", began_s=5)
    put(desk, FAILED, "3")
    assert desk.rq("rerun", "1", "2", "3") == Said(
        1,
        'runs again: 3 "sleep 60"\n',
        'rq: cannot rerun 1 "fit": it has not begun\n'
        'rq: cannot rerun 2 "sleep 60": it has not ended: it is running\n'
        "hint: rq restart 2 stops it and runs it again\n",
    )


def test_of_an_array_those_run_again_that_have_ended_and_the_others_are_said(desk: Desk) -> None:
    array(desk, "cfwrf")
    assert desk.rq("rerun", "state=failed") == Said(0, "runs again: 2 jobs: 7_[1,4]\n", "")
    assert desk.rq("rerun", "7") == Said(
        0, 'runs again: 7_0 "fit"\n', "rq: not rerun, since not ended: 4 jobs: 7_1-4\n"
    )
    assert desk.rq("rerun", "7") == Said(
        1,
        "",
        'rq: cannot rerun what is waiting: 4 jobs: 7_[0-2,4]\nrq: cannot rerun what is running: 7_3 "fit"\n',
    )


def test_nothing_is_run_again_of_an_array_of_which_too_many_would_stay_failed(desk: Desk) -> None:
    """The daemons would cancel it at once. The others are."""
    array(desk, "fzfxxc", max_fails=1)
    put(desk, FAILED, "8", "fit")
    why = "of 7 would stay failed, and --max-fails allows 1"
    hint = "hint: run these again, too: rq rerun 'array=7 and (state=failed or state=lost)'\n"
    for words, refused in (
        (["7_0"], f'7_0 "fit": 2 tasks {why}'),
        (["7_3-4"], f"2 jobs: 7_[3,4]: 3 tasks {why}"),
        (["7_3", "7_5"], f"2 jobs: 7_[3,5]: 3 tasks {why}"),
    ):
        assert desk.rq("rerun", "-n", *words).out == "would rerun nothing\n"
        assert desk.rq("rerun", *words) == Said(1, "", f"rq: cannot rerun {refused}\n{hint}")
    said = f'rq: cannot rerun 7_0 "fit": 2 tasks {why}\n{hint}'
    assert desk.rq("rerun", "-n", "7_0", "8") == Said(1, 'would rerun 8 "fit"\n', said)
    assert desk.rq("rerun", "7_0", "8") == Said(1, 'runs again: 8 "fit"\n', said)
    assert files_in(desk, FAILED) == ["7_0.job", "7_2.job"]
    # One may stay.
    assert desk.rq("rerun", "array=7 and (state=failed or state=lost) and !id=7_2") == Said(
        0, "runs again: 2 jobs: 7_[0,1]\n", ""
    )
    assert desk.rq("rerun", "7_3") == Said(0, 'runs again: 7_3 "fit"\n', "")


def test_when_the_first_failed_task_runs_again_no_more_are_failed_than_may(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a daemon that looks between two of them cancels none."""
    array(desk, "fxfxfzc", max_fails=2)
    failed: list[int] = []
    put_it = changes.put

    def look(*args: Any, **more: Any) -> bool:
        failed.append(len(files_in(desk, FAILED) + files_in(desk, ZOMBIE)))
        return put_it(*args, **more)

    monkeypatch.setattr(changes, "put", look)
    assert desk.rq("rerun", "7") == Said(0, "runs again: 7 jobs: 7_0-6\n", "")
    assert (len(failed), max(failed)) == (7, 2)


def test_a_signal_leaves_what_was_sealed_where_it_was(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    array(desk, "fff", max_fails=0)
    before = files_in(desk, FAILED)
    monkeypatch.setattr(holds, "noted", lambda: KeyboardInterrupt())
    assert desk.rq("rerun", "7").err == "rq: interrupted; left as they were: 3 jobs: 7_0-2\n"
    assert (files_in(desk, FAILED), files_in(desk, HELD)) == (before, [])


def test_a_job_whose_environment_is_gone_is_not_run_in_another(desk: Desk) -> None:
    kept = environments.store(desk.spool, {"A": "1"}, "n1")
    put(desk, FAILED, "1", "fit", job_environment="ab" * 32)
    put(desk, FAILED, "2", job_environment=kept)
    path = Path(desk.spool.directory("env"), f"{kept}.json")
    os.utime(path, (1, 1))
    assert desk.rq("rerun", "1", "2") == Said(
        1,
        'runs again: 2 "sleep 60"\n',
        "rq: cannot rerun 1: the environment that it was submitted with is not kept any more\n"
        "hint: submit it again\n",
    )
    assert files_in(desk, FAILED) == ["1.job"]
    # No sweep takes it now.
    assert path.stat().st_mtime > 1


def test_what_was_asked_of_the_ended_job_is_forgotten(desk: Desk) -> None:
    """Else the next attempt would be canceled."""
    put(desk, FAILED, "1")
    spools.request(desk.spool, "1", "cancel", "n1")
    assert desk.rq("rerun", "1").code == 0
    assert spools.requests(desk.spool) == {}


def test_a_job_that_comes_after_others_waits_for_them_again(desk: Desk) -> None:
    put(desk, CANCELED, "2", "fit", reason="dependency", job_after=(Dependency("ok", "1"),))
    assert desk.rq("rerun", "2") == Said(0, 'runs again: 2 "fit"; it starts after job 1\n', "")
    assert files_in(desk, HELD) == ["2.job"]


def test_no_more_wait_than_the_administrator_allows(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    from roundq.actors import submission
    from roundq.words.errors import QueueFull

    asked = []

    def refuse(_me: object, _of: object, count: int) -> None:
        asked.append(count)
        raise QueueFull("too many")

    monkeypatch.setattr(submission, "admit", refuse)
    put(desk, FAILED, "1")
    put(desk, FAILED, "2")
    put(desk, WAITING, "3")
    assert desk.rq("rerun", "1", "2", "3").err == "rq: too many\n"
    assert asked == [2]
    assert files_in(desk, FAILED) == ["1.job", "2.job"]


# ---------------------------------------------------------------- retire


def test_a_retired_job_stays_where_it_is_and_is_settled(desk: Desk) -> None:
    put(desk, FAILED, "1", "fit", reason="exit", exit_code=1)
    put(desk, ZOMBIE, "2", reason="lost")
    put(desk, COMPLETED, "3")
    put(desk, WAITING, "4")
    assert desk.rq("retire", "1", "2", "3", "4") == Said(
        1,
        "retired 2 jobs: 1, 2\n",
        'rq: cannot retire 3 "sleep 60": it ended well\n'
        'rq: cannot retire 4 "sleep 60": it has not ended: it is waiting\n',
    )
    row = desk.row("1")
    assert row.state == FAILED
    assert row.record is not None
    assert (row.record.retired, row.record.exit_code) == (True, 1)
    assert desk.rq("retire", "1").err == 'rq: cannot retire 1 "fit": it is retired already\n'
    assert desk.rq("retire", "--undo", "1", "2") == Said(0, "counts again: 2 jobs: 1, 2\n", "")
    assert desk.rq("retire", "--undo", "1").err == 'rq: cannot retire 1 "fit": it was not retired\n'
    assert desk.row("2").record.retired is False  # type: ignore[union-attr]


# ---------------------------------------------------------------- what may come in between


def test_what_a_home_refuses_is_said_and_the_others_done(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    for job in "123":
        put(desk, WAITING, job)
    real = changes.hold

    def hold(spool: spools.Spool, entry: spools.Entry) -> bool:
        if entry.id == "2":
            raise OSError(122, "Disk quota exceeded")
        return real(spool, entry)

    monkeypatch.setattr(changes, "hold", hold)
    assert desk.rq("hold", "1-3") == Said(
        1, "held 2 jobs: 1, 3\n", "rq: cannot hold 2: Disk quota exceeded\n"
    )


def test_a_move_that_is_not_durable_is_said_to_be_done(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    put(desk, WAITING, "1", "fit")

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(changes, "sync", refuse)
    assert desk.rq("hold", "1") == Said(
        1,
        'held 1 "fit"\n',
        "rq: it is done, but a crash of the server could undo that: No space left on device\n"
        "hint: free some space, if that is what is missing, and look again later\n",
    )


def test_a_signal_stops_between_two_jobs_and_says_which_are_left(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    for job in "1234":
        put(desk, WAITING, job)
    seen = iter([None, None, *[stopping.Stopped(15)] * 9])
    monkeypatch.setattr(holds, "noted", lambda: next(seen))
    assert desk.rq("hold", "1-4") == Said(
        143, "held 2 jobs: 1, 2\n", "rq: interrupted; left as they were: 2 jobs: 3, 4\n"
    )
    assert files_in(desk, WAITING) == ["3.job", "4.job"]


def test_a_job_that_begins_meanwhile_is_told_to_have_begun(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(desk, WAITING, "1", "fit")
    real = changing.hold

    def late(spool: spools.Spool, row: queue.Row, node: str, late_s: float) -> changing.Outcome:
        assert spools.claim(spool, row.entry, "n1") is not None
        return real(spool, row, node, late_s)

    monkeypatch.setattr(changing, "hold", late)
    said = desk.rq("hold", "1")
    assert said.err.startswith('rq: cannot hold 1 "fit": n1 is about to start it\n')
    assert files_in(desk, CLAIMED) == ["1@n1.job"]


def test_ten_thousand_are_held_and_released_in_about_a_second(desk: Desk) -> None:
    """A rename each, and one sync: here with a tenth of them, so that a loaded machine does not matter."""
    content = b'{"job":{"command":["true"]}}'
    for index in range(1000):
        Path(desk.spool.directory(WAITING), f"7_{index}.job").write_bytes(content)
    for verb, words in (("hold", "held 1000 jobs: 7_0-999\n"), ("release", "released 1000 jobs: 7_0-999\n")):
        began_s = time.process_time()
        assert desk.rq(verb, "7").out == words
        assert time.process_time() - began_s < 1.0


def test_what_a_lost_node_was_changing_is_put_back_if_its_user_insists(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(desk, FAILED, "1", "fit")
    put(desk, WAITING, "2", "fit")
    for state, job in ((FAILED, "1"), (WAITING, "2")):
        (entry,) = [one for one in spools.scan(desk.spool, (state,)) if one.id == job]
        assert changes.change(desk.spool, entry, "n2") is not None
    assert "it is being changed on n2" in desk.rq("why", "1").out
    assert desk.rq("lost", "n2") == Said(
        1,
        "",
        "".join(
            f"rq: job {job} is left as it is: n2 was changing its record;"
            " if it is gone for good: rq lost --force n2\n"
            for job in "12"
        ),
    )
    monkeypatch.setattr(queue, "CHANGED_MOST_S", 0.0)
    assert desk.rq("hold", "2").err == (
        "rq: cannot hold 2: it is being changed on n2\n"
        "hint: try again; if n2 is gone for good: rq lost --force n2\n"
    )
    assert desk.rq("lost", "--force", "n2") == Said(
        0, "1, which n2 was changing, is failed\n2, which n2 was changing, is waiting\n", ""
    )
    assert files_in(desk, HELD) == []


# ---------------------------------------------------------------- with a daemon


@pytest.fixture
def home(tmp_path: Path) -> Iterator[SpoolHome]:
    made = SpoolHome(tmp_path / "homes")
    yield made
    made.stop()


def rq(home: SpoolHome, *words: str) -> str:
    """The real command, whose daemon ends with the test."""
    command = [sys.executable, "-m", "roundq", *words]
    return subprocess.run(
        command, env=home.environ, cwd=home.home, capture_output=True, text=True, check=True
    ).stdout


def test_a_daemon_starts_nothing_that_is_on_hold_and_all_that_is_released(home: SpoolHome) -> None:
    home.daemon(RQ_CORES="2")
    first = home.submit("true", jobname="fit", cores=3)
    second = home.submit("true")
    home.wait_for(second)
    assert rq(home, "hold", first) == f'held {first} "fit"\n'
    # It may start now, if it may.
    assert rq(home, "edit", "fit", "--cpus", "1") == f'edited {first} "fit": cores 3 -> 1\n'
    third = home.submit("true")
    home.wait_for(third)
    assert home.entry(first).is_on_hold
    assert rq(home, "release", "fit") == f'released {first} "fit"\n'
    assert home.wait_for(first).attempt == 1


def test_a_rerun_is_the_next_attempt_and_starts_a_daemon_if_need_be(home: SpoolHome) -> None:
    job = home.submit("/bin/sh", "-c", "echo $RQ_RESTART_COUNT; exit 3", jobname="fit", output="fit.out")
    home.run(job)
    assert rq(home, "rerun", "fit") == f'runs again: {job} "fit"\n'
    wait_until(lambda: home.record(job).attempt == 2, 20, on_timeout=home.story)
    ended = home.wait_for(job, FAILED)
    assert (ended.attempt, ended.exit_code, [one.exit_code for one in ended.attempts]) == (2, 3, [3])
    assert [line for line in home.output("fit.out").splitlines() if line.isdecimal()] == ["0", "1"]
    rq(home, "daemon", "--stop")
