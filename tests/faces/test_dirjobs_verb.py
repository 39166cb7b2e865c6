"""Promises about `rq dirjobs`: a command for each file, and where the files are then."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from roundq.faces.api.means import me
from roundq.words import jobdir as words
from roundq.words.job import Identity
from roundq.words.jobdir import Author
from roundq.world import procs
from tests.cluster.wait import wait_until
from tests.faces.desk import Desk, Said

ROOT = Path(__file__).parents[2]


@pytest.fixture
def jobs(desk: Desk) -> Path:
    """A job directory with three jobs."""
    waiting = desk.directory / "jobs" / "00_waiting"
    waiting.mkdir(parents=True)
    for name in ("a", "b", "c"):
        (waiting / f"{name}.txt").write_text(f"content of {name}\n")
    return desk.directory / "jobs"


def where(jobs: Path) -> dict[str, list[str]]:
    """What is where, without what is empty and without the times of failures."""
    return {
        state: [name.partition(".")[2] if state == "99_failed" else name for name in names]
        for state in words.STATES
        if (names := sorted(os.listdir(jobs / state)))
    }


ENVIRON = {"PYTHONPATH": str(ROOT)}


@pytest.fixture
def printed(desk: Desk, jobs: Path) -> Callable[..., Said]:
    """Types a command whose children print, too."""
    assert jobs

    def type_(*words: str) -> Said:
        done = subprocess.run(
            [sys.executable, "-m", "roundq", *words],
            env={**os.environ, **ENVIRON},
            cwd=desk.directory,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    return type_


SHOW = ("sh", "-c", 'cat "$1"; echo "$@"', "-")


def test_a_command_runs_for_each_file_in_order(jobs: Path, printed: Callable[..., Said]) -> None:
    said = printed("dirjobs", "--wid", "w7", "jobs", *SHOW, "{}", "{name} {stem} {index}")
    assert said == Said(
        0,
        "".join(
            f"content of {name}\njobs/01_running/w7.{name}.txt {name}.txt {name} {number}\n"
            for number, name in enumerate("abc", 1)
        ),
        "",
    )
    assert where(jobs) == {"02_done": ["a.txt", "b.txt", "c.txt"]}


def test_without_a_place_the_path_is_the_last_word(jobs: Path, printed: Callable[..., Said]) -> None:
    """Also with options behind the directory, and a name that a pattern means."""
    said = printed("dirjobs", "jobs", "--name", "[bc]*", "--wid", "w1", "--", "cat")
    assert said == Said(0, "content of b\ncontent of c\n", "")
    assert where(jobs)["00_waiting"] == ["a.txt"]


def test_what_fails_is_told_and_the_others_go_on(jobs: Path, desk: Desk) -> None:
    command = "case $1 in b) exit 3;; c) kill -9 $$;; esac"
    assert desk.rq("dirjobs", "jobs", "--", "sh", "-c", command, "-", "{stem}") == Said(
        1,
        "",
        "rq: b.txt failed: exit code 3\nrq: c.txt failed: killed by signal 9\n"
        "rq: 2 failed, 1 done: see jobs/99_failed\n",
    )
    assert where(jobs) == {"02_done": ["a.txt"], "99_failed": ["b.txt", "c.txt"]}


def test_a_command_that_does_not_exist_fails_no_file(jobs: Path, desk: Desk) -> None:
    """Unless the command is the file itself."""
    said = desk.rq("dirjobs", "jobs", "/no/such/command")
    assert (said.code, said.out) == (127, "")
    assert said.err.startswith("rq: cannot execute /no/such/command: ")
    (jobs / "plain").touch()
    assert desk.rq("dirjobs", "jobs", "./jobs/plain").code == 126
    assert where(jobs) == {"00_waiting": ["a.txt", "b.txt", "c.txt"]}
    (jobs / "00_waiting" / "b.txt").write_text("#!/bin/sh\nexit 0\n")
    (jobs / "00_waiting" / "b.txt").chmod(0o755)
    said = desk.rq("dirjobs", "jobs", "--", "./{}")
    assert said.code == 1
    assert "rq: a.txt failed: cannot execute ./jobs/01_running/" in said.err
    assert where(jobs) == {"02_done": ["b.txt"], "99_failed": ["a.txt", "c.txt"]}


def test_files_of_any_end(jobs: Path, desk: Desk) -> None:
    (jobs / "00_waiting" / "d").touch()
    assert desk.rq("dirjobs", "--ext", "", "--random", "jobs", "true") == Said(0, "", "")
    assert where(jobs) == {"02_done": ["a.txt", "b.txt", "c.txt", "d"]}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["jobs"], "rq: no command to run\n"),
        ([], "rq: the following arguments are required: DIR\n"),
        (["--wid", "a.b", "jobs", "true"], "rq: a worker id has letters and digits only, not 'a.b'\n"),
        (["--sync", "soon", "jobs", "true"], 'rq: duration "soon": it is not a duration\n'),
        (["jobs", "--", "echo", "{size}"], "rq: there is nothing called size to fill in for {size}\n"),
        (["--check", "jobs", "true"], "rq: --check runs no command\n"),
        (["jobs", "other", "--", "true"], 'rq: unexpected word "other"\n'),
        (["jobs", "--ext", "", "true"], 'rq: "--ext" is no command\n'),
        (["jobs", "--check"], 'rq: "--check" is no command\n'),
    ],
)
def test_wrong_words_do_nothing(words: list[str], said: str, jobs: Path, desk: Desk) -> None:
    answer = desk.rq("dirjobs", *words)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(said)
    assert len(os.listdir(jobs / "00_waiting")) == 3


def test_a_directory_that_cannot_be_made_is_told(desk: Desk) -> None:
    (desk.directory / "file").touch()
    said = desk.rq("dirjobs", "file", "true")
    assert said == Said(1, "", "rq: cannot look for other workers in file: Not a directory\n")
    assert desk.rq("dirjobs", "--check", "none") == Said(1, "", 'rq: there is no directory "none"\n')


def test_a_worker_is_called_after_its_node(jobs: Path, printed: Callable[..., Said]) -> None:
    """With a number if another of that name may live; one that is dead is no other."""
    author = me()
    base = "".join(letter for letter in author.node if letter.isalnum())
    diaries = jobs / ".workers"
    diaries.mkdir()
    (diaries / f"{base}.1").write_bytes(words.heading(author))
    far = Author("far", "m", "s", Identity("b", 7, 1))
    (diaries / f"{base}x2.1").write_bytes(words.heading(far))
    dead = author._replace(process=Identity(author.process.boot, author.process.pid, 1))
    (diaries / f"{base}x3.1").write_bytes(words.heading(dead))
    said = printed("dirjobs", "--name", "a*", "jobs", "echo", "{}")
    assert said.out == f"jobs/01_running/{base}x3.a.txt\n"


def test_what_was_run_twice_is_told_by_check(jobs: Path, desk: Desk) -> None:
    diaries = jobs / ".workers"
    diaries.mkdir()
    assert desk.rq("dirjobs", "--check", "jobs") == Said(0, "", "")
    for wid in ("w1", "w2"):
        (diaries / f"{wid}.1").write_bytes(
            b'{"worker":1}\n' + words.claims("a\x1b.txt") + words.runs("a\x1b.txt", ())
        )
    assert desk.rq("dirjobs", "--check", "jobs") == Said(
        1,
        "a\\x1b.txt was run twice, by workers w1 and w2: sync_time is too short for this file system\n",
        "",
    )


def test_with_sync_a_claim_is_looked_at_again(printed: Callable[..., Said]) -> None:
    """Twice; then each job is noted as run."""
    said = printed("dirjobs", "--sync", "0", "jobs", "--", "sh", "-c", "cat jobs/.workers/*", "-", "{}")
    assert said.code == 0
    assert '{"claims":"b.txt"}\n{"runs":"b.txt","knew":[]}\n' in said.out


@pytest.mark.parametrize(
    ("number", "command", "state"),
    [
        (signal.SIGINT, "echo began; exec sleep 100", "00_waiting"),
        (signal.SIGTERM, "echo began; exec sleep 100", "00_waiting"),
        # It takes the signal for a wish to end well.
        (signal.SIGTERM, "trap 'exit 0' TERM; echo began; while :; do sleep 0.05; done", "02_done"),
    ],
)
def test_a_signal_ends_the_command_and_its_file_waits_again(
    number: int, command: str, state: str, jobs: Path, desk: Desk
) -> None:
    """Unless it ended well; the others wait on."""
    worker = subprocess.Popen(
        [sys.executable, "-m", "roundq", "dirjobs", "jobs", "--", "sh", "-c", command, "-", "{}"],
        env={**os.environ, **ENVIRON},
        cwd=desk.directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert worker.stdout is not None
    assert worker.stdout.readline() == "began\n"
    worker.send_signal(number)
    out, err = worker.communicate(timeout=60)
    assert (worker.returncode, out) == (128 + number, "")
    said = "rq: a.txt waits again\n" if state == "00_waiting" else ""
    assert err == f"{said}rq: interrupted\n"
    assert "a.txt" in where(jobs)[state]
    assert {*where(jobs)} <= {"00_waiting", "02_done"}


def test_a_worker_that_is_killed_takes_its_command_with_it_and_the_next_goes_on(
    jobs: Path, desk: Desk, printed: Callable[..., Said]
) -> None:
    """With the file that was running, and before all others."""
    worker = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "roundq",
            "dirjobs",
            "--name",
            "c*",
            "jobs",
            "--",
            "sh",
            "-c",
            "echo $$; exec sleep 100",
            "-",
            "{}",
        ],
        env={**os.environ, **ENVIRON},
        cwd=desk.directory,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert worker.stdout is not None
    child = procs.identity(int(worker.stdout.readline()))
    worker.kill()
    worker.wait()
    worker.stdout.close()
    assert child is not None
    wait_until(lambda: procs.liveness(child) is procs.Liveness.DEAD)
    assert "01_running" in where(jobs)
    assert printed("dirjobs", "jobs", "cat").out == "content of c\ncontent of a\ncontent of b\n"
    assert where(jobs) == {"02_done": ["a.txt", "b.txt", "c.txt"]}
