"""Promises of `rq run`: what is submitted, what is said, what it costs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from roundq.actors import queue
from roundq.faces.cli import VERBS, build_parser
from roundq.faces.cli.run_options import split
from roundq.records import spool as spools
from roundq.words.job import MAX_OUTPUT_DEFAULT, Notice
from roundq.words.states import COMPLETED, FAILED, RUNNING, WAITING
from tests.faces.desk import Desk, Said, process
from tests.faces.homes import record

# ---------------------------------------------------------------- what is submitted


def test_a_plain_job(desk: Desk) -> None:
    """Defaults: one core, a megabyte of output, where the command was typed."""
    assert desk.rq("run", "echo", "-n", "x") == Said(0, 'submitted 1 "echo -n x"\n', "")
    job = desk.record("1").job
    assert job.command == ("echo", "-n", "x")
    assert (job.directory, job.output, job.error) == (str(desk.directory), "", None)
    assert (job.cores, job.memory_required, job.max_output) == (1, 0, MAX_OUTPUT_DEFAULT)
    assert job.memory_limit is None
    assert (job.restartable, job.priority, job.time_limit_s, job.jobname) == (False, 0, None, "")
    assert abs(job.submitted_ns - time.time_ns()) < 60e9


def test_every_option(desk: Desk) -> None:
    (desk.directory / "sub").mkdir()
    words = "run -J fit -c 4 -m 1.5 --mem-limit -o out.txt -e err.txt -D sub -t 2h30m --max-output 2 -R"
    words += " --priority 7 true"
    assert desk.rq(*words.split()).out == 'submitted 1 "fit"\n'
    job = desk.record("1").job
    assert (job.jobname, job.cores, job.memory_required) == ("fit", 4, 3 << 29)
    assert (job.output, job.error, job.directory) == ("out.txt", "err.txt", f"{desk.directory}/sub")
    assert (job.time_limit_s, job.max_output, job.restartable, job.priority) == (9000.0, 2 << 20, True, 7)
    assert job.memory_limit == job.memory_required == 3 << 29


def test_long_options_and_values_with_units(desk: Desk) -> None:
    words = (
        "run --job-name=a.b --cpus=all --mem 500M --time=30 --max-output 0 --restart --priority -5 -- true"
    )
    desk.rq(*words.split())
    job = desk.record("1").job
    assert (job.jobname, job.output, job.cores, job.memory_required) == ("a.b", "a.b.out", 0, 500 << 20)
    assert (job.time_limit_s, job.max_output, job.restartable, job.priority) == (1800.0, 0, True, -5)
    assert job.memory_limit is None


def test_what_else_a_job_may_ask_for(desk: Desk) -> None:
    """Sorted, and nothing twice, so that jobs that ask for the same are alike; repeated options add up."""
    words = "run -G 2 -L matlab:2,ansys --license=comsol -w gpu*,big? --node node3 -w big? -x node1"
    words += " --exclude=gpu9 --need ssd,avx512 --need ssd --scavenge --signal USR1@2m true"
    assert desk.rq(*words.split()) == Said(0, 'submitted 1 "true"\n', "")
    job = desk.record("1").job
    assert (job.gpus, job.licenses) == (2, (("ansys", 1), ("comsol", 1), ("matlab", 2)))
    assert (job.nodes, job.exclude) == (("big?", "gpu*", "node3"), ("gpu9", "node1"))
    assert job.features == ("avx512", "ssd")
    assert (job.scavenge, job.restartable) == (True, True)
    assert job.notice == Notice(signal.SIGUSR1, 120.0)


def test_what_is_not_asked_for_is_not_in_the_record(desk: Desk) -> None:
    """Old readers find what they know."""
    desk.rq("run", "--gpus", "0", "true")
    job = desk.record("1").job
    assert (job.gpus, job.licenses, job.nodes, job.exclude, job.features) == (0, (), (), (), ())
    assert (job.scavenge, job.notice) == (False, None)


def test_exclusive_is_all_cores(desk: Desk) -> None:
    desk.rq("run", "--exclusive", "true")
    desk.rq("run", "--exclusive", "-c", "all", "true")
    assert [desk.record(job_id).job.cores for job_id in ("1", "2")] == [0, 0]


@pytest.mark.parametrize(
    ("text", "number", "before_s"),
    [
        ("USR2@60", signal.SIGUSR2, 60),
        ("sigusr1@90s", signal.SIGUSR1, 90),
        ("12@1.5", signal.SIGUSR2, 1.5),
        ("@2m", signal.SIGUSR2, 120),
        ("TERM", signal.SIGTERM, 60),
        ("RTMIN@1h", signal.SIGRTMIN, 3600),
    ],
)
def test_a_notice_is_a_signal_and_a_time(desk: Desk, text: str, number: int, before_s: float) -> None:
    """A plain time is in seconds, as in Slurm's option; what is left out is USR2, and a minute."""
    desk.rq("run", "-R", "--signal", text, "true")
    assert desk.record("1").job.notice == Notice(number, before_s)


def test_lines_of_a_file_ask_for_the_same(desk: Desk) -> None:
    (desk.directory / "jobs").write_text("true\nfalse\n")
    desk.rq("run", "--from", "jobs", "-G", "1", "-L", "matlab", "--scavenge", "--need", "ssd", "-w", "n*")
    for job_id in ("1", "2"):
        job = desk.record(job_id).job
        assert (job.gpus, job.licenses, job.nodes) == (1, (("matlab", 1),), ("n*",))
        assert (job.features, job.scavenge, job.restartable) == (("ssd",), True, True)


@pytest.mark.parametrize(("word", "number"), [("high", 100), ("normal", 0), ("low", -100), ("+3", 3)])
def test_priorities_are_words_or_numbers(desk: Desk, word: str, number: int) -> None:
    desk.rq("run", "--priority", word, "true")
    assert desk.record("1").job.priority == number


@pytest.mark.parametrize(
    ("words", "options", "command"),
    [
        ("echo -n x", "", "echo -n x"),
        ("-c 2 echo -c 3", "-c 2", "echo -c 3"),
        ("-c2 -R echo --wait", "-c2 -R", "echo --wait"),
        ("-Rc 2 echo", "-Rc 2", "echo"),
        ("-Rc2 echo", "-Rc2", "echo"),
        ("--mem 4G -- echo", "--mem 4G", "echo"),
        ("--mem -4G -t -5 echo", "--mem=-4G -t-5", "echo"),
        ("--mem=4G -J -x echo", "--mem=4G -J-x", "echo"),
        ("-- -odd", "", "-odd"),
        ("--bogus echo", "--bogus", "echo"),
        ("-c", "-c", ""),
        ("- x", "", "- x"),
        ("", "", ""),
    ],
)
def test_options_end_where_the_command_begins(words: str, options: str, command: str) -> None:
    assert split(build_parser("run"), words.split()) == (options.split(), command.split())


def test_the_submitters_environment_directory_and_umask_are_the_jobs(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The directory is called as its user calls it, unless that is another one."""
    (tmp_path / "link").symlink_to(desk.directory)
    monkeypatch.setenv("PWD", f"{tmp_path}/link")
    monkeypatch.setenv("SECRET", "of ann's")
    before = os.umask(0o027)
    try:
        desk.rq("run", "true")
    finally:
        os.umask(before)
    job = desk.record("1").job
    assert (job.directory, job.umask) == (f"{tmp_path}/link", 0o027)
    stored = Path(desk.spool.directory("env"), f"{job.environment}.json")
    assert json.loads(stored.read_text())["SECRET"] == "of ann's"
    assert stored.stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv("PWD", "/")
    desk.rq("run", "-D", "..", "true")
    assert desk.record("2").job.directory == f"{desk.directory}/.."


def test_bytes_that_are_not_utf_8_arrive_as_they_are(desk: Desk) -> None:
    word, name = os.fsdecode(b"caf\xe9"), os.fsdecode(b"out\xff")
    said = desk.rq("run", "-o", name, "echo", word)
    assert said == Said(0, 'submitted 1 "echo caf\\xe9"\n', "")
    job = desk.record("1").job
    assert (os.fsencode(job.command[1]), os.fsencode(job.output)) == (b"caf\xe9", b"out\xff")


def test_what_a_terminal_would_obey_is_written_out(desk: Desk) -> None:
    said = desk.rq("run", "echo", "\x1b]0;owned\x07\n")
    assert said == Said(0, 'submitted 1 "echo \\x1b]0;owned\\x07\\n"\n', "")


def test_a_very_long_command_line_is_kept_whole_and_said_short(desk: Desk) -> None:
    said = desk.rq("run", "echo", "x" * 10_000)
    assert len(said.out) < 250
    assert desk.record("1").job.command[1] == "x" * 10_000


def test_parsable_prints_the_id_alone(desk: Desk) -> None:
    """Programs that read standard error with it read no warning."""
    from dataclasses import replace

    from roundq.records import cards
    from tests.faces.homes import card

    cards.publish(desk.spool, replace(card("ann", "n3", cores=32)))
    assert desk.rq("run", "--parsable", "-c", "64", "true") == Said(0, "1\n", "")


def test_ids_count_up(desk: Desk) -> None:
    assert [desk.rq("run", "--parsable", "true").out for _ in range(3)] == ["1\n", "2\n", "3\n"]


def test_a_refused_job_leaves_nothing_behind(desk: Desk) -> None:
    assert desk.rq("run", "-J", "fit", "no-such-command-at-all").code == 127
    assert spools.scan(desk.spool) == []
    assert list(desk.directory.iterdir()) == []


def test_nothing_is_written_before_the_job_begins(desk: Desk) -> None:
    desk.rq("run", "-J", "fit", "-e", "err", "true")
    assert list(desk.directory.iterdir()) == []


def test_a_private_program_may_be_run(desk: Desk) -> None:
    """0.2.9 looked at the right of others only (5.5/11)."""
    program = desk.directory / "mine"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    assert desk.rq("run", "./mine").code == 0
    (desk.directory / "sub").mkdir()
    assert desk.rq("run", "-D", "sub", "../mine").code == 0
    assert desk.rq("run", str(program)).code == 0


# ---------------------------------------------------------------- the daemon


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch, desk: Desk) -> list[int]:
    """How many jobs waited each time when a daemon was to be started."""
    from roundq.actors import submission

    done: list[int] = []

    def start(*_: object) -> bool:
        done.append(len(spools.scan(desk.spool, (WAITING,))))
        return True

    monkeypatch.setattr(submission, "start_daemon", start)
    return done


def test_a_daemon_is_started_after_the_submission(
    desk: Desk, starts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """0.2.9 once did it before, and the job was never submitted (5.8/20)."""
    desk.rq("run", "true")
    assert starts == []
    monkeypatch.delenv("RQ_AUTO_START")
    assert desk.rq("run", "true").err == ""
    assert starts == [2]
    assert "started your daemon on here1" in desk.rq("run", "-v", "true").err


def test_a_daemon_that_cannot_be_started_fails_no_submission(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    from roundq.actors import submission

    def start(*_: object) -> bool:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(submission, "start_daemon", start)
    monkeypatch.delenv("RQ_AUTO_START")
    said = desk.rq("run", "true")
    assert (said.code, said.out) == (0, 'submitted 1 "true"\n')
    assert said.err.startswith("rq: warning: no daemon could be started on here1: ")


# ---------------------------------------------------------------- --wait


@pytest.fixture
def ends(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What becomes of a job once somebody waits for it: the fields of its record, and `state`."""
    facts: dict[str, Any] = {}
    wait = queue.wait

    def ending(spool: object, ids: list[str], *rest: object, **of: object) -> object:
        for job_id in ids:
            os.unlink(spools.path_of(desk.spool, desk.row(job_id).entry))
            given = {name: value for name, value in facts.items() if name != "state"}
            desk.homes.put(desk.spool, str(facts["state"]), job_id, record(ended_s=1, **given))
        return wait(spool, ids, *rest, **of)  # type: ignore[arg-type]

    monkeypatch.setattr(queue, "wait", ending)
    return facts


@pytest.mark.parametrize(
    ("state", "facts", "code", "says"),
    [
        (COMPLETED, {"exit_code": 0}, 0, ""),
        (
            FAILED,
            {"exit_code": 3, "reason": "exit"},
            3,
            "rq: job 1 failed: its command ended with a non-zero exit code\n",
        ),
        (
            FAILED,
            {"signal": 9, "reason": "signal", "detail": "killed by SIGKILL"},
            137,
            "rq: job 1 failed: killed by SIGKILL\n",
        ),
        (
            FAILED,
            {"exit_code": 0, "reason": "time limit"},
            1,
            "rq: job 1 failed: it ran longer than its time limit\n",
        ),
        ("canceled", {"reason": "canceled"}, 1, "rq: job 1 was canceled: its user canceled it\n"),
        (
            "zombie",
            {"reason": "lost"},
            1,
            "rq: job 1 is lost: its supervisor died and nobody knows how it ended\n",
        ),
    ],
)
def test_wait_exits_as_the_job_did(
    desk: Desk, ends: dict[str, Any], state: str, facts: dict[str, Any], code: int, says: str
) -> None:
    ends.update(facts, state=state)
    assert desk.rq("run", "--wait", "true") == Said(code, 'submitted 1 "true"\n', says)


def test_ctrl_c_leaves_the_job_in_the_queue_and_says_so(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(queue, "wait", interrupted)
    assert desk.rq("run", "--wait", "true") == Said(
        130,
        'submitted 1 "true"\n',
        "rq: interrupted; job 1 stays in the queue\nhint: rq wait 1 waits for it, rq cancel 1 cancels it\n",
    )
    assert desk.row("1").state == WAITING


def test_ctrl_c_that_a_library_makes_another_error_of(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped while it is loaded, it fails in its own words; what is said is still what became of the job."""

    def half_loaded(*_: object, **__: object) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise AttributeError("half loaded") from None

    monkeypatch.setattr(queue, "wait", half_loaded)
    assert desk.rq("run", "--wait", "true") == Said(
        130,
        'submitted 1 "true"\n',
        "rq: interrupted; job 1 stays in the queue\nhint: rq wait 1 waits for it, rq cancel 1 cancels it\n",
    )


def test_ctrl_c_of_a_real_process(desk: Desk) -> None:
    environ = {**desk.homes.environ("ann"), "PATH": os.environ["PATH"], "RQ_AUTO_START": "no"}
    environ["PYTHONPATH"] = str(Path(__file__).parents[2])
    command = [sys.executable, "-m", "roundq", "run", "--wait", "sleep", "100"]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b'submitted 1 "sleep 100"\n'
        try:
            running.send_signal(signal.SIGINT)
            _, err = running.communicate(timeout=10)
        finally:
            running.kill()
    assert running.returncode == 130
    assert err.startswith(b"rq: interrupted; job 1 stays in the queue\n")
    assert b"Traceback" not in err


# ---------------------------------------------------------------- as a process


def test_rq_run_loads_no_library_that_it_does_not_need(desk: Desk) -> None:
    """What the budget of six bare interpreters (tests.bench.submission) would not survive."""
    script = (
        "import sys; from roundq.faces.cli import main; code = main(['run', 'true']);"
        "print(*sorted(sys.modules), file=sys.stderr); sys.exit(code)"
    )
    environ = {
        **desk.homes.environ("ann"),
        "PATH": os.environ["PATH"],
        "RQ_JOB_ID": "so that no daemon starts",
    }
    environ["PYTHONPATH"] = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, check=True)
    heavy = {
        "pydantic", "pydantic_core", "rich", "psutil", "subprocess", "logging", "shutil", "pathlib",
        "asyncio", "glob", "tomli", "difflib", "threading", "socket", "ctypes", "shlex",
    }  # fmt: skip
    assert heavy.intersection(done.stderr.decode().split()) == set()


def test_a_job_whose_id_nobody_reads_is_told(desk: Desk) -> None:
    """As it ends with an error, a script may think that nothing was submitted."""
    environ = {**desk.homes.environ("ann"), "RQ_AUTO_START": "no"}
    environ |= {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])}
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "roundq", "run", "true"]
    done = subprocess.run(
        command, env=environ, stdout=writer, stderr=subprocess.PIPE, timeout=20, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr.decode().splitlines()) == (
        141,
        ["rq: job 1 is in the queue, but nobody reads its id", "hint: if it is not wanted: rq cancel 1"],
    )


def test_a_full_disk_behind_standard_output_is_told(desk: Desk) -> None:
    environ = {**desk.homes.environ("ann"), "RQ_AUTO_START": "no", "PATH": os.environ["PATH"]}
    environ["PYTHONPATH"] = str(Path(__file__).parents[2])
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "roundq", "run", "true"]
        done = subprocess.run(
            command, env=environ, stdout=full, stderr=subprocess.PIPE, timeout=20, check=False
        )
    assert (done.returncode, done.stderr.decode()) == (
        1,
        "rq: job 1 is in the queue, but its id cannot be printed: No space left on device\n"
        "hint: if it is not wanted: rq cancel 1\n",
    )


def test_a_terminal_that_knows_only_ascii_is_told_in_ascii(desk: Desk) -> None:
    environ = {**desk.homes.environ("ann"), "RQ_AUTO_START": "no", "PYTHONIOENCODING": "ascii"}
    done = process("run", "echo", "größer", environ={**environ, "LC_ALL": "C.UTF-8"})
    assert (done.returncode, done.stdout, done.stderr) == (0, b'submitted 1 "echo gr\\xf6\\xdfer"\n', b"")


def test_every_verb_has_a_parser_a_sentence_and_an_example() -> None:
    for verb in VERBS:
        text = build_parser(verb).format_help()
        assert text.startswith(f"usage: rq {verb}")
        assert "For example: rq" in text


def test_a_running_job_is_not_confused_by_a_later_one(desk: Desk) -> None:
    """Ids are never given twice, whatever state the others are in."""
    desk.homes.put(desk.spool, RUNNING, "41", record(node="n1", began_s=5))
    os.rename(desk.spool.directory("ids"), f"{desk.spool.path}/tmp/old-ids")
    assert desk.rq("run", "--parsable", "true").out == "42\n"
