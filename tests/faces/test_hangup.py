"""Promises at a terminal, and to whoever closes it: Ctrl-C, a hang-up, a reader who sleeps or is gone."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from roundq.records import spool as spools
from roundq.words.states import CANCELED, COMPLETED, RUNNING, WAITING
from tests.cluster.wait import wait_until
from tests.faces.desk import Desk, start
from tests.faces.homes import record

RQ = [sys.executable, "-m", "roundq"]


def environ(desk: Desk) -> dict[str, str]:
    """The environment of a process of hers."""
    paths = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2]), "TERM": "xterm"}
    return {**desk.homes.environ("ann"), **paths, "RQ_AUTO_START": "no", "LC_ALL": "C.UTF-8"}


class Terminal:
    """A terminal with a command in its foreground."""

    def __init__(self, desk: Desk, words: Sequence[str], *, ignores_hangup: bool = False) -> None:
        self._ours, theirs = pty.openpty()

        def become() -> None:
            os.setsid()
            fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)
            if ignores_hangup:
                signal.signal(signal.SIGHUP, signal.SIG_IGN)

        self.process = subprocess.Popen(
            [*RQ, *words],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environ(desk),
            cwd=desk.directory,
            preexec_fn=become,
        )
        os.close(theirs)
        self.said = ""

    def read_until(self, text: str) -> None:
        """Reads until this was said, or all was."""
        with contextlib.suppress(OSError):
            while text not in self.said and (chunk := os.read(self._ours, 1 << 16)):
                self.said += chunk.decode(errors="replace").replace("\r\n", "\n")

    def type(self, text: str) -> None:
        """What she types."""
        os.write(self._ours, text.encode())

    def close(self) -> None:
        """Closes the window: who is in the foreground gets SIGHUP, and nothing can be written any more."""
        os.close(self._ours)
        self._ours = -1

    def end(self) -> int:
        """The exit code, as a shell tells it."""
        if self._ours >= 0:
            self.read_until("\0")
        code = self.process.wait(30)
        return code if code >= 0 else 128 - code


@contextlib.contextmanager
def terminal(desk: Desk, *words: str, ignores_hangup: bool = False) -> Iterator[Terminal]:
    """A terminal in which `rq WORDS` runs; nothing is left of it afterwards."""
    of = Terminal(desk, words, ignores_hangup=ignores_hangup)
    try:
        yield of
    finally:
        of.process.kill()
        of.process.wait()
        if of._ours >= 0:
            of.close()


def is_waiting(desk: Desk) -> bool:
    """Whether a job of hers waits."""
    return bool(spools.scan(desk.spool, (WAITING,)))


def test_ctrl_c_at_a_terminal_while_a_job_is_waited_for(desk: Desk) -> None:
    with terminal(desk, "run", "--wait", "sleep", "60") as of:
        of.read_until("is waiting")
        of.type("\x03")
        assert of.end() == 130
    assert "rq: interrupted; job 1 stays in the queue\n" in of.said
    assert "hint: rq wait 1 waits for it, rq cancel 1 cancels it\n" in of.said
    assert "Traceback" not in of.said
    # The cursor is there again.
    assert of.said.rfind("\x1b[?25h") > of.said.rfind("\x1b[?25l")
    assert desk.row("1").state == WAITING


@pytest.mark.parametrize("words", [["run", "--wait", "sleep", "60"], ["wait", "1"], ["log", "-f", "1"]])
def test_a_closed_terminal_ends_what_waits_and_nothing_else(desk: Desk, words: list[str]) -> None:
    """Its exit code is that of SIGHUP also if nobody can read what it has to say."""
    if words[0] != "run":
        desk.homes.put(desk.spool, WAITING, "1", record("fit"))
    with terminal(desk, *words) as of:
        if words[0] != "log":
            of.read_until("is waiting")
        else:
            wait_until(lambda: _catches_hangup(of.process.pid), 30)
        of.close()
        assert of.end() == 129
    assert desk.row("1").state == WAITING


def _catches_hangup(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    mask = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(mask.split()[1], 16) >> (signal.SIGHUP - 1) & 1)


def test_who_ignores_the_hangup_waits_on_without_a_terminal(desk: Desk) -> None:
    """As after `trap '' HUP`: the terminal has gone, and the exit code is that of the job."""
    desk.homes.put(desk.spool, RUNNING, "1", record("fit", node="n2", began_s=5))
    with terminal(desk, "wait", "1", ignores_hangup=True) as of:
        of.read_until("runs on n2")
        of.close()
        Path(desk.spool.directory(RUNNING), "1@n2.job").unlink()
        ended = record("fit", node="n2", began_s=5, ended_s=1, exit_code=0)
        desk.homes.put(desk.spool, COMPLETED, "1", ended)
        assert of.end() == 0


def test_a_terminal_that_closes_during_a_large_submission_leaves_all_or_nothing(desk: Desk) -> None:
    """Interrupted in its middle: what had not begun is taken back, and nothing is left."""
    (desk.directory / "jobs").write_text("true\n" * 1000)
    with terminal(desk, "run", "--from", "jobs") as of:
        of.read_until("submitting 1,000 jobs")
        wait_until(lambda: len(os.listdir(desk.spool.directory("tmp"))) > 10, 30)
        of.close()
        code = of.end()
    waiting = len(spools.scan(desk.spool))
    assert (code, waiting) in ((129, 0), (129, 1000))
    assert os.listdir(desk.spool.directory("tmp")) == []


def test_ctrl_c_during_a_large_submission_says_what_is_in(desk: Desk) -> None:
    (desk.directory / "jobs").write_text("true\n" * 1000)
    with terminal(desk, "run", "--from", "jobs") as of:
        of.read_until("submitting 1,000 jobs")
        wait_until(lambda: len(os.listdir(desk.spool.directory("tmp"))) > 10, 30)
        of.type("\x03")
        assert of.end() == 130
    assert "rq: interrupted; nothing was submitted\n" in of.said
    assert spools.scan(desk.spool) == []
    assert os.listdir(desk.spool.directory("tmp")) == []


# ---------------------------------------------------------------- pipes


def test_a_reader_who_has_read_enough_ends_a_list_without_a_word(desk: Desk) -> None:
    """`rq list | head -1`"""
    for number in range(1, 1500):
        desk.homes.put(desk.spool, WAITING, str(number), record("a name that fills the pipe" * 3))
    script = f"{{ {' '.join(RQ)} list; echo $? >&2; }} | head -1"
    done = subprocess.run(
        ["sh", "-c", script], env=environ(desk), capture_output=True, text=True, timeout=60, check=False
    )
    assert re.match(r"STATE +ID +NODE", done.stdout)
    assert done.stderr == "141\n"


def test_who_is_told_to_end_does_not_wait_for_a_reader_who_sleeps(desk: Desk) -> None:
    """The pipe is full, and stays so."""
    for number in range(1, 1500):
        desk.homes.put(desk.spool, WAITING, str(number), record("a name that fills the pipe" * 3))
    with start(desk, "list") as running:
        assert running.stdout is not None
        wait_until(lambda: _waits_to_write(running.pid), 30)
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) == 143


def _waits_to_write(pid: int) -> bool:
    return Path(f"/proc/{pid}/syscall").read_text().split()[0] in ("1", "64")


def test_cancel_does_all_that_was_asked_also_if_its_terminal_closes(desk: Desk) -> None:
    """Or it says of which jobs nothing was done; but nobody reads it, so the queue tells."""
    for number in range(1, 200):
        desk.homes.put(desk.spool, WAITING, str(number), record("fit"))
    with terminal(desk, "cancel", "--all", ignores_hangup=True) as of:
        of.read_until("canceled ")
        of.close()
        of.end()
    assert {entry.state for entry in spools.scan(desk.spool)} == {CANCELED}


# ---------------------------------------------------------------- while it is being loaded

#: `rq`, which gets SIGINT when it loads its AT-th module.
INTERRUPTED_AT_IMPORT = """
import os, signal, sys
count = 0
def hook(event, _):
    global count
    if event == "import":
        count += 1
        if count == int(os.environ["AT"]):
            os.kill(os.getpid(), signal.SIGINT)
sys.addaudithook(hook)
signal.signal(signal.SIGINT, signal.SIG_DFL)
from roundq.__main__ import rq
rq()
"""


@pytest.mark.parametrize("words", ["q", "run true", "wait 101"])
def test_a_signal_while_modules_are_loaded_prints_no_traceback(desk: Desk, words: str) -> None:
    """At some of them, in a real process: a library that is stopped half loaded says nothing of its own."""
    desk.homes.put(desk.spool, WAITING, "100", record("fit"))
    desk.homes.put(desk.spool, COMPLETED, "101", record("fit", began_s=9, ended_s=1, exit_code=0))
    ended = []
    for moment in (1, 25, 40, 55, 70, 90, 120, 180, 300):
        before = {entry.id for entry in spools.scan(desk.spool)}
        done = subprocess.run(
            [sys.executable, "-c", INTERRUPTED_AT_IMPORT, *words.split()],
            env={**environ(desk), "AT": str(moment)},
            cwd=desk.directory,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "Traceback" not in done.stderr, (moment, done.stderr)
        assert "ignored" not in done.stderr, (moment, done.stderr)
        assert done.returncode in (0, -signal.SIGINT, 130), (moment, done)
        ended.append(done.returncode != 0)
        told = set(re.findall(r"(?:submitted|job) ([0-9]+) ", done.stdout + done.stderr))
        there = {entry.id for entry in spools.scan(desk.spool)}
        assert there - before == (told if words == "run true" else set()), (moment, done)
    assert sum(ended) >= 3
