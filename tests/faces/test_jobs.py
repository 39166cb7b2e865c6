"""Promises of the verbs on jobs: show, why, log, wait, cancel, restart."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from roundq.faces.cli import progress
from roundq.records import cards
from roundq.records import spool as spools
from roundq.records.spool import Entry
from roundq.words.job import Attempt, Dependency, Identity, Notice
from roundq.words.states import CANCELED, COMPLETED, FAILED, HELD, RUNNING, WAITING, ZOMBIE
from tests.actors.spoolhome import NODE, SpoolHome
from tests.cluster.wait import wait_until
from tests.faces.desk import Desk, Said, process
from tests.faces.homes import card, record
from tests.faces.screen import on_terminal


def put(desk: Desk, state: str, job_id: str, name: str = "", **of: Any) -> None:
    """Puts a job of ann's into a state."""
    desk.homes.put(desk.spool, state, job_id, record(name, now_ns=time.time_ns(), **of))


def put_unreadable(desk: Desk, state: str, job_id: str) -> None:
    Path(desk.spool.directory(state), f"{job_id}.job").write_bytes(b"")


def requested(desk: Desk) -> dict[str, set[str]]:
    return spools.requests(desk.spool)


# ---------------------------------------------------------------- cancel


def test_cancel_by_id_and_by_name_names_what_it_did(desk: Desk) -> None:
    put(desk, WAITING, "1", "fit")
    put(desk, RUNNING, "2", "fit", node="n1", began_s=5)
    put(desk, WAITING, "3", "other")
    put(desk, WAITING, "4")
    assert desk.rq("cancel", "fit", "4") == Said(0, 'canceled 2 jobs: 1, 4\ncanceling 2 "fit" on n1\n', "")
    assert requested(desk) == {"2": {"cancel"}}
    assert [desk.row(job).state for job in "1234"] == [CANCELED, RUNNING, WAITING, CANCELED]


def test_a_name_never_means_a_part_of_one_or_an_id(desk: Desk) -> None:
    put(desk, WAITING, "1", "fit")
    put(desk, WAITING, "2", "fit-2")
    put(desk, WAITING, "3", "1")
    assert desk.rq("cancel", "-J", "1").out == 'canceled 3 "1"\n'
    assert desk.rq("cancel", "fi").code == 1
    assert desk.rq("cancel", "-J", "2").code == 1
    assert [desk.row(job).state for job in "12"] == [WAITING, WAITING]


def test_cancel_all_is_all_of_mine_that_has_not_ended(desk: Desk) -> None:
    bob = desk.homes.user("bob")
    desk.homes.put(bob, WAITING, "1", record())
    put(desk, WAITING, "1")
    put(desk, "held", "2")
    put(desk, RUNNING, "3", node="n1", began_s=5)
    put(desk, COMPLETED, "4", began_s=5, ended_s=1)
    said = desk.rq("cancel", "--all")
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines() == ["canceled 2 jobs: 1, 2", 'canceling 3 "sleep 60" on n1']
    assert len(spools.scan(bob, (WAITING,))) == 1
    assert desk.rq("cancel", "-a") == Said(0, 'canceling 3 "sleep 60" on n1\n', "")


def test_cancel_waiting_leaves_running_ones_alone(desk: Desk) -> None:
    put(desk, WAITING, "1", "fit")
    put(desk, RUNNING, "2", "fit", node="n1", began_s=5)
    assert desk.rq("cancel", "--all", "--waiting") == Said(0, 'canceled 1 "fit"\n', "")
    put(desk, WAITING, "3", "fit")
    assert desk.rq("cancel", "-w", "fit") == Said(0, 'canceled 3 "fit"\n', "")
    assert desk.rq("cancel", "-w", "2") == Said(
        1, "", 'rq: not canceled, since a node has taken it: 2 "fit"\n'
    )
    assert requested(desk) == {}


def test_unknown_names_are_said_and_the_others_canceled(desk: Desk) -> None:
    put(desk, WAITING, "1", "fit")
    assert desk.rq("cancel", "nope", "fit", "99") == Said(
        1,
        'canceled 1 "fit"\n',
        'rq: no such job: "nope"\nhint: rq q --mine lists your jobs\n'
        'rq: no such job: "99"\nhint: rq q --mine lists your jobs\n',
    )


def test_ended_jobs_are_said_unless_quiet(desk: Desk) -> None:
    put(desk, FAILED, "1", "fit", began_s=5, ended_s=1, exit_code=2, reason="exit")
    put(desk, WAITING, "2", "other")
    said = 'rq: 1 "fit" has ended already: failed: its command ended with a non-zero exit code\n'
    assert desk.rq("cancel", "1") == Said(1, "", said)
    assert desk.rq("cancel", "fit") == Said(1, "", said)
    assert desk.rq("cancel", "-q", "1", "2") == Said(0, "", "")
    assert desk.row("2").state == CANCELED


def test_a_name_that_others_bear_now_does_not_mean_its_history(desk: Desk) -> None:
    for job in ("1", "2"):
        put(desk, COMPLETED, job, "fit", began_s=5, ended_s=1)
    assert desk.rq("cancel", "fit").err.count("has ended already") == 1
    put(desk, WAITING, "3", "fit")
    assert desk.rq("cancel", "fit") == Said(0, 'canceled 3 "fit"\n', "")


def test_options_may_stand_between_the_words(desk: Desk) -> None:
    put(desk, WAITING, "1")
    put(desk, WAITING, "2")
    assert desk.rq("cancel", "1", "-q", "2") == Said(0, "", "")
    assert desk.row("2").state == CANCELED


def test_cancel_says_that_a_node_is_silent(desk: Desk) -> None:
    """The request is kept; nobody may think that it is done."""
    put(desk, RUNNING, "1", "fit", node="n3", began_s=5)
    cards.publish(desk.spool, card("ann", "n1"))
    desk.homes.card(desk.spool, "n3", silent_s=870)
    assert desk.rq("cancel", "fit") == Said(
        0,
        'canceling 1 "fit" on n3\n',
        "rq: n3 has not been seen for 14 min\n"
        "hint: the request is kept; it takes effect when the node returns\n",
    )


def test_an_unreadable_job_can_be_canceled(desk: Desk) -> None:
    put_unreadable(desk, WAITING, "1")
    assert desk.rq("cancel", "1") == Said(0, "canceled 1\n", "")


# ---------------------------------------------------------------- restart


def test_restart_asks_the_supervisor(desk: Desk) -> None:
    identity = Identity("b", 7, 7)
    put(desk, RUNNING, "1", "fit", node="n1", began_s=5, process=identity, job_restartable=True)
    put(desk, RUNNING, "2", "big", node="n1", began_s=5)
    put(desk, WAITING, "3", "new", job_restartable=True)
    assert desk.rq("restart", "fit") == Said(0, 'restarting 1 "fit" on n1\n', "")
    assert desk.rq("restart", "--all").out == 'restarting 1 "fit" on n1\n'
    said = desk.rq("restart", "2", "-J", "new")
    assert (said.code, said.out) == (1, "")
    assert said.err.splitlines() == [
        "rq: cannot restart 2: it was not submitted with --restart, so it may not be run twice",
        "hint: end it, and run it again: rq cancel --wait 2 && rq rerun 2",
        "rq: cannot restart 3: it is waiting, not running",
    ]
    assert requested(desk) == {"1": {"restart"}}


def test_restart_of_a_job_that_has_ended_says_how_it_runs_again(desk: Desk) -> None:
    put(desk, FAILED, "1", "fit", began_s=5, ended_s=1, exit_code=2, reason="exit")
    assert desk.rq("restart", "fit").err.endswith("hint: to run it again: rq rerun 1\n")


# ---------------------------------------------------------------- wait


def test_wait_tells_success_from_failure(desk: Desk) -> None:
    put(desk, COMPLETED, "1", "good", began_s=5, ended_s=1, exit_code=0)
    put(desk, FAILED, "2", "bad", began_s=5, ended_s=1, signal=9, reason="signal")
    put(desk, ZOMBIE, "3", "gone", began_s=5, ended_s=1, reason="lost")
    assert desk.rq("wait", "1") == Said(0, "", "")
    said = desk.rq("wait", "good", "bad", "3")
    assert (said.code, said.out) == (1, "")
    assert said.err.splitlines() == [
        'rq: job 2 "bad" failed: its command was killed by a signal',
        'rq: job 3 "gone" is lost: its supervisor died and nobody knows how it ended',
    ]


def test_wait_gives_up_with_124(desk: Desk) -> None:
    put(desk, WAITING, "1", "fit")
    assert desk.rq("wait", "fit", "--timeout", "0") == Said(124, "", "rq: job 1 has not ended within 0 s\n")
    assert desk.rq("wait", "fit", "--timeout", "0.1s").code == 124


def test_wait_for_a_name_means_its_current_batch(desk: Desk) -> None:
    """A failure of last week does not spoil today's success; one of the same batch does."""
    put(desk, FAILED, "1", "fit", ago_s=90_000, began_s=80_000, ended_s=70_000, exit_code=1, reason="exit")
    put(desk, COMPLETED, "2", "fit", ago_s=100, began_s=50, ended_s=1, exit_code=0)
    assert desk.rq("wait", "fit") == Said(0, "", "")
    put(desk, FAILED, "3", "fit", ago_s=99, began_s=50, ended_s=20, exit_code=1, reason="exit")
    assert desk.rq("wait", "fit").code == 1
    assert desk.rq("wait", "1").code == 1


def test_progress_is_one_line_about_where_jobs_are() -> None:
    def met(**jobs: str) -> dict[str, Entry]:
        return {
            job: Entry(job, state, "n1" if state == RUNNING else None, "", 0) for job, state in jobs.items()
        }

    assert progress.sentence(met(a=RUNNING)) == "job a runs on n1"
    assert progress.sentence(met(a=WAITING)) == "job a is waiting"
    assert (
        progress.sentence(met(a=WAITING, b=RUNNING, c=FAILED, d=CANCELED)) == "1 waiting, 1 running, 2 ended"
    )


# ---------------------------------------------------------------- show, why


def test_show_tells_every_fact(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    now_ns = 1_790_000_000 * 10**9
    earlier = Attempt(1, "n2", Identity("b", 7, 7), now_ns - 10**12, now_ns - 9 * 10**11, "restarted")
    ended = record(
        "fit", ago_s=2000, now_ns=now_ns, began_s=800, ended_s=0, exit_code=3, reason="exit",
        detail="exit code 3", node="n1", cores=4, attempt=2, attempts=(earlier,),
        usage={"cpu_s": 12.34, "memory_bytes": 3.0 * 2**20},
        job_directory="/home/ann/fit", job_output="fit.out", job_error="fit.err", job_cores=4,
        job_memory_required=1 << 33, job_time_limit_s=7200.0, job_priority=10, job_restartable=True,
        job_umask=0o027,
    )  # fmt: skip
    ended = replace(ended, job=replace(ended.job, command=("./fit", "-n", "3 4")))
    desk.homes.put(desk.spool, FAILED, "17", ended)
    said = desk.rq("show", "17")
    assert (said.code, said.err) == (0, "")
    assert said.out.replace(desk.spool.path, "SPOOL") == (
        """\
job 17 "fit"
  state      failed
  why        failed: exit code 3
  node       n1
  command    ./fit -n '3 4'
  directory  /home/ann/fit
  output     /home/ann/fit/fit.out
  error      /home/ann/fit/fit.err
  asks for   4 cores, 8G of memory, at most 2h00m of time, at most 1M of output
  priority   10
  restart    it may be stopped and run again
  cores      4
  attempt    2
  submitted  2026-09-21 13:40:00 +0000
  started    2026-09-21 14:00:00 +0000
  ended      2026-09-21 14:13:20 +0000
  ran        13:20
  used       12.3 s of processor time, 3M of memory
  exit code  3
  reason     exit
  umask      0027
  file       SPOOL/failed/17.job
  before     attempt 1 on n2, 2026-09-21 13:58:20 +0000: restarted
"""
    )


def test_show_json_is_one_value_for_programs(desk: Desk) -> None:
    put(desk, FAILED, "1", "fit", began_s=5, ended_s=1, exit_code=3, reason="exit", job_umask=0o22)
    put_unreadable(desk, WAITING, "2")
    value = json.loads(desk.rq("show", "--json", "1", "2").out)
    first, second = value["jobs"]
    assert value["schema"] == 1
    assert (first["id"], first["state"], first["exit_code"], first["umask"]) == ("1", FAILED, 3, 18)
    assert first["file"] == f"{desk.spool.path}/failed/1.job"
    assert (second["state"], second["problem"], second["attempts"]) == (WAITING, "it is empty", [])


ASKED: dict[str, Any] = {
    "job_gpus": 2,
    "job_licenses": (("ansys", 1), ("matlab", 2)),
    "job_nodes": ("big?", "gpu*"),
    "job_exclude": ("gpu9",),
    "job_features": ("avx512", "ssd"),
    "job_scavenge": True,
    "job_restartable": True,
    "job_notice": Notice(12, 90.0),
}
GRANTED: dict[str, Any] = {"cores": 4, "cpus": (0, 1, 2, 8), "gpus": ("GPU-a", "GPU-b"), "threads": True}


def test_show_tells_what_was_asked_for_and_what_was_granted(desk: Desk) -> None:
    put(desk, RUNNING, "1", began_s=5, node="gpu1", **ASKED, **GRANTED)
    told = desk.rq("show", "1").out
    for line in (
        "  asks for   1 core, 2 GPUs, 1 license of ansys, 2 licenses of matlab, a node with avx512 and ssd,"
        " a node called big? or gpu*, none called gpu9, at most 1M of output\n",
        "  restart    it runs on what nobody else wants; it may be stopped and run again\n",
        "  notice     SIGUSR2, 90 s before it is stopped\n",
        "  cores      4 hardware threads that others left over, CPUs 0-2,8\n",
        "  gpus       GPU-a, GPU-b\n",
    ):
        assert line in told
    put(desk, RUNNING, "2", began_s=5, node="n1", cores=2, cpus=(4,))
    assert "\n  cores      2, CPUs 4\n" in desk.rq("show", "2").out


def test_show_tells_what_a_job_comes_after_and_how_it_is_retried(desk: Desk) -> None:
    put(
        desk, HELD, "9", retried=1, attempt=2, not_before_ns=1_790_000_000 * 10**9,
        job_after=(Dependency("ok", "3"), Dependency("fail", "7_[0-4]", 5)), job_keep_held=True,
        job_retries=3, job_retry_on=("75", "lost"), job_backoff_s=30.0,
    )  # fmt: skip
    told = desk.rq("show", "9").out
    begin = time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(1_790_000_000))
    for line in (
        f"  begin      {begin}\n",
        "  after      3, 7_[0-4] (failed); kept held if that can never be\n",
        "  retries    1 of at most 3 after 75 or lost, 30 s later, then twice as long each time\n",
    ):
        assert line in told
    put(desk, WAITING, "10", job_retries=1)
    assert "\n  retries    0 of at most 1\n" in desk.rq("show", "10").out


def test_json_tells_what_was_asked_for_and_what_was_granted(desk: Desk) -> None:
    """The same in the list and of one job; names are there whatever the job asks for."""
    put(desk, RUNNING, "1", began_s=5, node="gpu1", **ASKED, **GRANTED)
    put(desk, WAITING, "2")
    put_unreadable(desk, WAITING, "3")
    for words in (["--json", "--mine"], ["show", "--json", "1", "2", "3"]):
        jobs = {job["id"]: job for job in json.loads(desk.rq(*words).out)["jobs"]}
        told = {
            "gpus": 2,
            "licenses": {"ansys": 1, "matlab": 2},
            "nodes": ["big?", "gpu*"],
            "exclude": ["gpu9"],
            "features": ["avx512", "ssd"],
            "scavenge": True,
            "notice": {"number": 12, "before": 90.0},
            "cpus": [0, 1, 2, 8],
            "gpu_ids": ["GPU-a", "GPU-b"],
            "threads": True,
        }
        assert {name: jobs["1"][name] for name in told} == told
        assert {name: jobs["2"][name] for name in told} == {
            name: type(value)() if name != "notice" else None for name, value in told.items()
        }
        assert {jobs["3"][name] for name in told} == {None}


def test_show_of_hostile_text_is_harmless(desk: Desk) -> None:
    put(
        desk, WAITING, "1", "\x1b[2Jname", job_directory="/tmp/\x07\n", job_output="\x9bx",
        job_nodes=("\x1b[2J",), job_features=("\x07",), job_licenses=(("\x9b", 1),), gpus=("\x1b",),
    )  # fmt: skip
    put_unreadable(desk, WAITING, "2")
    said = desk.rq("show", "1", "2")
    assert said.code == 0
    assert all(char.isprintable() or char == "\n" for char in said.out)
    assert "its job file cannot be read: it is empty" in said.out


def test_show_of_impossible_times_is_no_traceback(desk: Desk) -> None:
    put(desk, RUNNING, "1", node="n1", started_ns=(1 << 40) * 10**9)
    assert desk.rq("show", "1").code == 0


def test_why_is_one_line_or_one_per_node(desk: Desk) -> None:
    put(desk, WAITING, "1", "fit")
    assert desk.rq("why", "fit") == Said(
        0, '1 "fit": no daemon of yours runs on any node: rq daemon starts one\n', ""
    )
    cards.publish(desk.spool, card("ann", "n1"))
    cards.publish(desk.spool, replace(card("ann", "n2"), state="leaving"))
    assert desk.rq("why", "1").out == (
        '1 "fit":\n  n1: its daemon has not yet looked at it\n  n2: your daemon there has stopped\n'
    )


# ---------------------------------------------------------------- log


def printed(desk: Desk, *words: str) -> bytes:
    done = process("log", *words, environ=desk.homes.environ("ann"))
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


def test_log_prints_exact_bytes(desk: Desk) -> None:
    put(desk, COMPLETED, "1", "fit", began_s=5, ended_s=1, job_directory=str(desk.directory), job_output="o")
    content = bytes(range(256)) * 3000 + b"no newline"
    (desk.directory / "o").write_bytes(content)
    assert printed(desk, "fit") == content


def test_log_into_a_closed_pipe_ends_without_a_word(desk: Desk) -> None:
    put(desk, COMPLETED, "1", "fit", began_s=5, ended_s=1, job_directory=str(desk.directory), job_output="o")
    (desk.directory / "o").write_bytes(b"x" * (1 << 20))
    environ = {**desk.homes.environ("ann"), "PATH": os.environ["PATH"]}
    environ["PYTHONPATH"] = str(Path(__file__).parents[2])
    command = [sys.executable, "-m", "roundq", "log", "1"]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        running.stdout.read(1)
        running.stdout.close()
        assert running.stderr is not None
        assert running.stderr.read() == b""
    assert running.returncode == 141


def test_log_finds_the_default_file_and_the_error_file(desk: Desk) -> None:
    put(desk, COMPLETED, "1", began_s=5, ended_s=1, job_directory=str(desk.directory))
    put(desk, COMPLETED, "2", "b", began_s=5, ended_s=1, job_directory=str(desk.directory), job_error="err")
    (desk.directory / "rq-1.out").write_bytes(b"one")
    (desk.directory / "err").write_bytes(b"bad")
    assert printed(desk, "1") == b"one"
    assert printed(desk, "-e", "2") == b"bad"
    assert desk.rq("log", "-e", "1") == Said(
        2, "", 'rq: job 1 "sleep 60" has no error file: both streams go to its output\nhint: rq log 1\n'
    )


def begins(job: str, more: str = "") -> bytes:
    return f"rq: job {job} 'fit' begins on n1, 2026-11-21T04:00:00+0100{more}: ./fit\n".encode()


def test_log_prints_the_part_of_the_job(desk: Desk) -> None:
    """Of a file to which others were appended: from its first line to its last, whatever it said itself."""
    at = {"job_directory": str(desk.directory), "job_output": "o", "node": "n1"}
    for job in ("1", "2", "3"):
        put(desk, COMPLETED, job, "fit", began_s=5, ended_s=1, **at)
    one = (
        begins("1") + b"text\nrq: job 1 completed: not yet\n" + b"x" * 3_000_000 + b"rq: job 1 completed: a\n"
    )
    two = begins("2") + b"\xff\0" + begins("2") + b"more\nrq: job 2 failed: b\n"
    three = begins("3") + b"never told its end"
    (desk.directory / "o").write_bytes(b"older, and no newline" + one + two + three)

    assert printed(desk, "1") == one
    assert printed(desk, "2") == two
    assert printed(desk, "3") == three


def test_log_prints_the_last_attempt(desk: Desk) -> None:
    at = {"job_directory": str(desk.directory), "job_output": "o", "node": "n1"}
    put(desk, RUNNING, "1", "fit", began_s=5, attempt=12, **at)
    first, last = begins("1") + b"one\nrq: job 1 requeued: r\n", begins("1", ", attempt 12") + b"two\n"
    (desk.directory / "o").write_bytes(first + begins("1", ", attempt 2") + last)

    assert printed(desk, "1") == last


@pytest.mark.parametrize(
    "content",
    [
        b"no line of ours\n",
        b"rq: job 11 'fit' begins on n1, 2026-11-21T04:00:00+0100: ./fit\n",
        b"rq: job 1 'fit' begins on n2, 2026-11-21T04:00:00+0100: ./fit\n",
        b"rq: job 1 'fit' begins on n1, 2026-11-21T04:00:00+0100, attempt 2: ./fit\n",
        b"rq: job 1 could not start: no environment\n",
    ],
)
def test_log_prints_all_where_the_part_cannot_be_told(desk: Desk, content: bytes) -> None:
    at = {"job_directory": str(desk.directory), "job_output": "o", "node": "n1"}
    put(desk, COMPLETED, "1", "fit", began_s=5, ended_s=1, **at)
    (desk.directory / "o").write_bytes(b"before\n" + content + b"after")

    assert printed(desk, "1") == b"before\n" + content + b"after"


def test_log_of_a_real_job_is_that_of_its_last_attempt(home: SpoolHome) -> None:
    """The supervisor's lines are those that are looked for, with a name and without."""
    for fields in ({}, {"jobname": 'it\'s "fit"'}):
        for word in ("first", "second"):
            job = home.shell(f"echo {word}", output="o", **fields)
            home.run(job)
        assert process("log", job, environ=home.environ).stdout.splitlines()[1:-1] == [b"second"]


def test_log_of_a_name_is_that_of_the_last_one(desk: Desk) -> None:
    for job in ("9", "10"):
        put(desk, COMPLETED, job, "fit", began_s=5, ended_s=1, job_directory=str(desk.directory))
        (desk.directory / f"rq-{job}.out").write_text(job)
    assert printed(desk, "fit") == b"10"


def test_log_without_a_file_says_why(desk: Desk) -> None:
    put(desk, WAITING, "1", "fit")
    put(desk, COMPLETED, "2", "done", began_s=5, ended_s=1, job_directory="/nowhere", job_output="x")
    put(desk, COMPLETED, "3", "null", began_s=5, ended_s=1, job_output="/dev/null")
    os.mkfifo(desk.directory / "fifo")
    put(desk, COMPLETED, "4", "fifo", began_s=5, ended_s=1, job_output=str(desk.directory / "fifo"))
    assert desk.rq("log", "1").err == 'rq: job 1 "fit" has not begun: it has no output yet\nhint: rq why 1\n'
    assert desk.rq("log", "2").err == (
        'rq: job 2 "done": there is no file "/nowhere/x": No such file or directory\n'
    )
    for job in "34":
        assert "it is not a regular file, so nothing of it was kept" in desk.rq("log", job).err
        assert desk.rq("log", job).code == 1


@pytest.fixture
def home(tmp_path: Path) -> Iterator[SpoolHome]:
    made = SpoolHome(tmp_path / "real")
    yield made
    made.stop()


def test_log_follows_to_the_end_of_the_job(home: SpoolHome) -> None:
    job = home.shell("for i in 1 2 3; do echo line $i; sleep 0.3; done; printf end", output="o")
    home.supervise(job)
    done = process("log", "-f", job, environ=home.environ)
    lines = done.stdout.decode().splitlines()
    assert (done.returncode, done.stderr) == (0, b"")
    assert lines[1:4] == ["line 1", "line 2", "line 3"]
    assert lines[4].startswith("end")
    assert done.stdout == (home.home / "o").read_bytes()


def test_progress_is_shown_on_a_terminal_only(home: SpoolHome) -> None:
    # It runs until somebody has seen that it does.
    job = home.shell("for i in $(seq 200); do [ -e seen ] && exit; sleep 0.1; done; exit 1")
    home.supervise(job)
    home.wait_for(job, RUNNING)
    runs = f"job {job} runs on {NODE}"

    def go_on(said: str) -> None:
        if runs in said:
            (home.home / "seen").touch()

    assert runs in on_terminal(["wait", job], home.environ, 80, seen=go_on)
    done = process("wait", job, environ=home.environ)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize(
    ("required", "limit", "told"),
    [
        (1 << 33, None, "8G of memory, at most 1M"),
        (1 << 33, 1 << 33, "8G of memory and no more, at most 1M"),
        (0, 1 << 30, "at most 1G of memory, at most 1M"),
        (1 << 33, 1 << 34, "8G of memory, at most 16G of memory, at most 1M"),
    ],
)
def test_show_tells_a_limit_of_memory(desk: Desk, required: int, limit: int | None, told: str) -> None:
    """That of --mem-limit, and one that a program gave a number of its own; --json has it, too."""
    put(desk, WAITING, "1", "fit", job_memory_required=required, job_memory_limit=limit)
    assert f"  asks for   1 core, {told} of output\n" in desk.rq("show", "1").out
    (facts,) = json.loads(desk.rq("show", "--json", "1").out)["jobs"]
    assert (facts["memory"], facts["memory_limit"]) == (required, limit)


def test_wait_and_cancel_of_a_job_that_runs_here(home: SpoolHome) -> None:
    """Canceled is said when every process is gone; the nudge spares the ten seconds to the next look."""
    job = home.shell("sleep 300 & sleep 300", output="o")
    home.supervise(job)
    home.wait_for(job, RUNNING)
    began_s = time.monotonic()
    done = process("cancel", "--wait", job, environ=home.environ)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(f"canceled {job} ".encode())
    assert time.monotonic() - began_s < 5
    assert home.state(job) == CANCELED
    # Only its supervisor may still be about to leave.
    wait_until(lambda: home.pids() == [], 5)
    done = process("wait", job, environ=home.environ)
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)


def test_run_starts_a_daemon_that_runs_the_job_to_its_end(home: SpoolHome) -> None:
    """From the first command of a new user to the exit code of her job; the daemon outlives the command."""
    done = process(
        "run", "--wait", "-J", "hello", "sh", "-c", "echo Hello; exit 5", environ=home.environ, cwd=home.home
    )
    try:
        assert (done.returncode, done.stdout) == (5, b'submitted 1 "hello"\n'), home.story()
        assert done.stderr == b"rq: job 1 failed: exit code 5\n"
        assert "Hello\n" in home.output("hello.out")
        pid = home.daemon_pid()
        assert pid is not None
        assert b"daemon" in Path(f"/proc/{pid}/cmdline").read_bytes()
        assert os.getsid(pid) != os.getsid(0)
        assert (Path(home.spool.path) / NODE).exists()
        process("run", "true", environ=home.environ, cwd=home.home)
        assert home.daemon_pid() == pid
    finally:
        home.stop()
