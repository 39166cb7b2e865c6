"""`rq watch`: real jobs, and what a person who watches them gets, byte by byte."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from roundq.actors import environ
from roundq.records import spool as spools
from roundq.words.job import Attempt
from roundq.words.states import CANCELED, COMPLETED, RUNNING, WAITING, ZOMBIE
from tests.actors.spoolhome import SpoolHome
from tests.cluster.wait import wait_until
from tests.faces.desk import Desk, process, start
from tests.faces.homes import record
from tests.faces.screen import on_terminal, unpainted
from tests.faces.test_interleave import undone


@pytest.fixture
def home(tmp_path: Path) -> Iterator[SpoolHome]:
    made = SpoolHome(tmp_path / "real")
    yield made
    made.stop()


@contextlib.contextmanager
def watched(home: SpoolHome, *words: str, **of: object) -> Iterator[subprocess.Popen[bytes]]:
    """`rq watch WORDS` as a process of its own."""
    command = [sys.executable, "-m", "roundq", *words]
    pipe = subprocess.PIPE
    env = {**home.environ, "RQ_AUTO_START": "no"}
    # Unbuffered: what is read line by line takes nothing from what is read at the end.
    given = {"env": env, "cwd": home.home, "stdout": pipe, "stderr": pipe, "bufsize": 0, **of}
    with subprocess.Popen(command, **given) as running:  # type: ignore[call-overload]
        try:
            yield running
        finally:
            running.kill()


def python(script: str) -> tuple[str, ...]:
    return ("/usr/bin/env", "python3", "-c", script)


#: Writes all kinds of bytes in pieces, slowly enough to be met in the middle.
WRITES = """
import os, random, sys, time
rng = random.Random({seed})
for _ in range(30):
    piece = rng.choice([rng.randbytes(300), bytes(rng.choice([20, 5000])), b"line\\n", b"10 %\\r", b"no end"])
    os.write(1, piece)
    if {errors} and rng.random() < 0.3:
        os.write(2, b"oh!\\n")
    time.sleep(0.01)
os.write(1, b"x" * 300_000)
os.write(1, b"the end")
"""


def test_one_job_is_printed_byte_by_byte(home: SpoolHome) -> None:
    """Those of its error file go to standard error; it is watched from before it begins."""
    job = home.submit(*python(WRITES.format(seed=1, errors=1)), output="o", error="e")
    with watched(home, "watch", job) as watching:
        home.supervise(job)
        out, err = watching.communicate(timeout=60)
    assert out == (home.home / "o").read_bytes()
    assert len(out) > 300_000
    assert err == (home.home / "e").read_bytes()
    assert watching.returncode == 0


def test_several_jobs_are_lines_with_names_and_can_be_had_back(home: SpoolHome) -> None:
    """Interleaved, and each of them whole; the exit code tells of all."""
    first = home.shell(
        "while [ ! -e go ]; do sleep 0.05; done; printf bad; exit 3", output="o0", jobname="fit0"
    )
    jobs = [
        home.submit(*python(WRITES.format(seed=seed, errors=0)), output=f"o{seed}", jobname=f"fit{seed}")
        for seed in (1, 2)
    ]
    home.supervise(first)
    with watched(home, "watch", 'name="fit*"') as watching:
        assert watching.stdout is not None
        # It has begun to watch.
        line = watching.stdout.readline()
        for job in jobs:
            home.supervise(job)
        (home.home / "go").touch()
        out, err = watching.communicate(timeout=60)
    names = {f"{job} fit{number}".encode(): number for number, job in enumerate([first, *jobs])}
    got = undone(line + out, names)
    for number in range(3):
        text = (home.home / f"o{number}").read_bytes()
        assert got[number] in (text, text + b"\n")
    assert err == b""
    assert watching.returncode == 1


def test_who_comes_later_is_watched_too(home: SpoolHome) -> None:
    """As long as one of them runs; what is not meant is not printed."""
    first = home.shell("while [ ! -e go ]; do sleep 0.05; done; echo first", jobname="fit")
    home.supervise(first)
    with watched(home, "watch", "fit") as watching:
        assert watching.stdout is not None
        # It has begun to watch.
        line = watching.stdout.readline()
        for name in ("fit", "other"):
            home.run(home.shell(f"echo second {name}", jobname=name))
        wanted = home.shell("echo third", jobname="fit")
        (home.home / "go").touch()
        home.wait_for(first)
        home.supervise(wanted)
        out = line + watching.communicate(timeout=60)[0]
    lines = [text.partition(b"| ")[2] for text in out.splitlines()]
    assert [text for text in lines if not text.startswith(b"rq: ")] == [b"second fit", b"first", b"third"]


def test_a_restarted_job_is_watched_on(home: SpoolHome) -> None:
    """Its next attempt is printed behind the first."""
    job = home.shell(
        "echo attempt; [ -e again ] || { touch again; sleep 300; }", restartable=True, output="o"
    )
    supervisor = home.supervise(job)
    wait_until((home.home / "again").exists, 20)
    with watched(home, "watch", job) as watching:
        assert watching.stdout is not None
        line = watching.stdout.readline()
        process = home.record(job).process
        assert process is not None
        spools.request(home.spool, job, "restart", "elsewhere", environ.mark(process))
        os.kill(process.pid, signal.SIGUSR1)
        supervisor.wait(20)
        home.run(job)
        out, _ = watching.communicate(timeout=60)
    assert line + out == (home.home / "o").read_bytes()
    assert out.count(b"attempt\n") == 2


def test_who_stops_watching_stops_no_job(home: SpoolHome) -> None:
    """And is told so."""
    job = home.shell("echo begun; sleep 300")
    home.supervise(job)
    with watched(home, "watch", job) as watching:
        assert watching.stdout is not None
        assert watching.stdout.readline().startswith(f"rq: job {job} begins".encode())
        assert watching.stdout.readline() == b"begun\n"
        watching.send_signal(signal.SIGINT)
        _, err = watching.communicate(timeout=20)
    assert (watching.returncode, err) == (130, b"rq: interrupted; the job goes on\n")
    assert home.state(job) == RUNNING


def test_a_reader_that_sleeps_holds_up_nobody_but_the_watcher(home: SpoolHome) -> None:
    """The job ends; what it wrote is had when somebody reads again."""
    job = home.submit("head", "-c", "3000000", "/dev/urandom", output="o")
    with watched(home, "watch", job) as watching:
        home.run(job)
        assert home.state(job) == COMPLETED
        assert watching.poll() is None
        assert watching.communicate(timeout=60)[0] == (home.home / "o").read_bytes()


def test_from_now_on(home: SpoolHome) -> None:
    """What was written before is not printed."""
    job = home.shell("echo old > o; echo old; touch up; while [ ! -e go ]; do sleep 0.05; done; echo new")
    home.supervise(job)
    wait_until((home.home / "up").exists, 20)
    with watched(home, "watch", "--now", job) as watching:
        assert watching.stdout is not None
        # Nothing shows from when on it watches: so more is written until something of that is printed.
        output = home.home / f"rq-{job}.out"
        for _ in range(300):
            with output.open("ab") as file:
                file.write(b"tick\n")
            with contextlib.suppress(OSError):
                os.set_blocking(watching.stdout.fileno(), False)
            if watching.stdout.read(1):
                break
            with contextlib.suppress(subprocess.TimeoutExpired):
                watching.wait(0.1)
        os.set_blocking(watching.stdout.fileno(), True)
        (home.home / "go").touch()
        out, _ = watching.communicate(timeout=60)
    assert b"old" not in out
    assert b"begins" not in out
    assert b"new\n" in out


def test_run_watch_prints_from_the_first_byte_and_exits_as_the_job(home: SpoolHome) -> None:
    """Of one that begins and ends at once, too; several have names."""
    home.daemon()
    with watched(
        home, "run", "--watch", "-J", "fit", "-o", "o", "sh", "-c", "echo at once; exit 3"
    ) as running:
        out, err = running.communicate(timeout=60)
    job = out.split()[1].decode()
    assert out == f'submitted {job} "fit"\n'.encode() + (home.home / "o").read_bytes()
    assert b"at once\n" in out
    assert (running.returncode, err) == (3, b"")

    with watched(home, "run", "--watch", "--array", "1-3", "sh", "-c", "echo $RQ_ARRAY_TASK_ID") as running:
        out, err = running.communicate(timeout=60)
    lines = [line.partition(b"| ")[2] for line in out.splitlines()]
    assert sorted(line for line in lines if line.isdigit()) == [b"1", b"2", b"3"]
    assert (running.returncode, err) == (0, b"")


def test_who_stops_run_watch_is_told_that_the_job_is_in_the_queue(home: SpoolHome) -> None:
    with watched(home, "run", "--watch", "sleep", "300") as running:
        assert running.stdout is not None
        job = running.stdout.readline().split()[1].decode()
        home.supervise(job)
        assert running.stdout.readline().startswith(f"rq: job {job} begins".encode())
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=20)
    assert running.returncode == 130
    assert err.startswith(f"rq: interrupted; job {job} stays in the queue\n".encode())
    assert home.state(job) == RUNNING


# ---------------------------------------------------------------- without supervisors


def ended(desk: Desk, state: str, job_id: str, text: bytes, **of: object) -> None:
    given = {"job_directory": str(desk.directory), "job_output": f"{job_id}.out", "node": "n1", **of}
    begun = {} if state in (WAITING, CANCELED) else {"began_s": 5, "ended_s": 1, "exit_code": 0}
    desk.homes.put(desk.spool, state, job_id, record("fit", **{**begun, **given}))  # type: ignore[arg-type]
    (desk.directory / f"{job_id}.out").write_bytes(text)


def test_a_thousand_jobs_need_few_descriptors(desk: Desk) -> None:
    """A file is open only while it is read."""
    for number in range(1, 1001):
        ended(desk, COMPLETED, str(number), b"of %d\n" % number)
    script = "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24))\n"
    script += "from roundq.faces.cli import main; sys.exit(main(['watch', '1-1000']))"
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**environ, **desk.homes.environ("ann")},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    names = {f"{number} fit".encode(): number for number in range(1, 1001)}
    assert undone(done.stdout, names) == {number: b"of %d\n" % number for number in range(1, 1001)}


def test_what_is_not_in_the_output_is_said(desk: Desk) -> None:
    """A job that never began has none, and one whose output is no file."""
    ended(desk, CANCELED, "1", b"", ended_s=1, reason="canceled", detail="canceled before it began")
    assert process("watch", "1", environ=desk.homes.environ("ann")).stderr.decode() == (
        'rq: job 1 "fit" was canceled: canceled before it began\n'
    )
    ended(desk, COMPLETED, "2", b"", job_output="/dev/null")
    done = process("watch", "2", environ=desk.homes.environ("ann"))
    assert (done.returncode, done.stdout, done.stderr.decode()) == (
        0,
        b"",
        'rq: job 2 "fit": "/dev/null" cannot be read: it is not a regular file, so nothing of it was kept\n',
    )


def test_a_job_that_is_run_again_is_printed_again(desk: Desk) -> None:
    """While another one is watched; what it came to in the end tells the exit code."""
    out = desk.directory / "1.out"
    begun: dict[str, Any] = {"began_s": 5, "node": "n9", "job_directory": str(desk.directory)}

    def put(state: str, job_id: str, **of: Any) -> None:
        made = record("fit", **{**begun, "job_output": f"{job_id}.out", **of})
        before = [entry for entry in spools.scan(desk.spool) if entry.id == job_id]
        desk.homes.put(desk.spool, state, job_id, made)
        for entry in before:
            os.unlink(spools.path_of(desk.spool, entry))

    for job_id in ("1", "2"):
        put(RUNNING, job_id)
    (desk.directory / "2.out").touch()
    out.write_text("rq: job 1 'fit' begins on n9, 2026-11-21T04:00:00+0100: x\nfirst\n")
    with start(desk, "watch", "fit") as running:
        assert running.stdout is not None
        assert running.stderr is not None
        lines = [running.stdout.readline(), running.stdout.readline()]
        assert lines[-1] == "1 fit | first\n"
        put(ZOMBIE, "1", ended_s=1, reason="lost")
        assert running.stderr.readline().startswith('rq: job 1 "fit" is lost')
        once = (Attempt(1, "n9", None, 1, 2, "lost"),)
        with out.open("a") as file:
            file.write("rq: job 1 'fit' begins on n9, 2026-11-21T05:00:00+0100, attempt 2: x\nsecond\n")
        put(RUNNING, "1", attempt=2, attempts=once)
        lines = [running.stdout.readline(), running.stdout.readline()]
        assert lines[-1] == "1 fit | second\n"
        put(COMPLETED, "1", attempt=2, attempts=once, ended_s=1, exit_code=0)
        put(COMPLETED, "2", ended_s=1, exit_code=0)
        assert running.communicate(timeout=20) == ("", "")
    assert running.returncode == 0


def test_names_have_colours_on_a_terminal_only(desk: Desk) -> None:
    """Of each job its own, before each line; no colour where nobody wants any."""
    for job in "12":
        ended(desk, COMPLETED, job, b"text\n")
    environ = desk.homes.environ("ann")
    said = on_terminal(["watch", "1-2"], environ, 80)
    assert unpainted(said) == "1 fit | text\n2 fit | text\n"
    assert len(set(re.findall(r"\x1b\[(3\d)m", said))) == 2
    assert on_terminal(["watch", "1-2"], {**environ, "NO_COLOR": "1"}, 80) == unpainted(said)


def test_bytes_at_random_are_had_back(desk: Desk) -> None:
    """Outputs of no line at all, and of nothing but lines."""
    rng = random.Random(7)
    texts = {}
    for number in range(1, 30):
        texts[number] = rng.randbytes(rng.choice([0, 1, 100, 100_000])).replace(b"1", b"\n")
        ended(desk, COMPLETED, str(number), texts[number])
    done = process("watch", "1-29", environ=desk.homes.environ("ann"))
    names = {f"{number} fit".encode(): number for number in texts}
    got = undone(done.stdout, names)
    for number, text in texts.items():
        assert got[number] in (text, text + b"\n")
