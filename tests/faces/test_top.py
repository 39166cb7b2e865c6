"""`rq top` on a terminal: what a person sees after each key, and what is left of it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyte
import pytest

from roundq.actors import paused
from roundq.faces.cli import main
from roundq.records import spool as spools
from roundq.words.states import CANCELED, COMPLETED, HELD, RUNNING, WAITING
from tests.actors.spoolhome import SpoolHome
from tests.cluster.wait import wait_until
from tests.faces.desk import Desk
from tests.faces.homes import HERE, record

_MAIN = "from roundq.__main__ import rq; rq()"
#: How a terminal is told to show what it showed before.
LEFT = b"\x1b[?7h\x1b[?25h\x1b[?1049l"


class Top:
    """`rq top` on a terminal, and what is on it."""

    def __init__(
        self, environ: dict[str, str], *words: str, columns: int = 80, lines: int = 24, script: str = _MAIN
    ) -> None:
        self.ours, self.theirs = pty.openpty()
        self.screen = pyte.Screen(columns, lines)
        self.stream = pyte.ByteStream(self.screen)
        self.lock = threading.Lock()
        self.sent = b""
        self.resize(columns, lines)
        self.before = termios.tcgetattr(self.theirs)
        given = {
            "PATH": os.environ["PATH"],
            "TERM": "xterm-256color",
            "LC_ALL": "C.UTF-8",
            "RQ_AUTO_START": "no",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", script, "top", *words],
            stdin=self.theirs,
            stdout=self.theirs,
            stderr=self.theirs,
            env={**given, "PYTHONPATH": str(Path(__file__).parents[2]), **environ},
            start_new_session=True,
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        while True:
            ready, _, _ = select.select([self.ours], [], [], 0.1)
            if ready:
                try:
                    data = os.read(self.ours, 1 << 16)
                except OSError:
                    return
                with self.lock:
                    self.sent += data
                    self.stream.feed(data)
            elif self.process.poll() is not None:
                return

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        with self.lock:
            self.screen.resize(lines, columns)

    def type(self, keys: str) -> None:
        os.write(self.ours, keys.encode())

    def text(self) -> str:
        with self.lock:
            return "\n".join(line.rstrip() for line in self.screen.display)

    def chosen(self) -> str:
        """The line that is marked, without the title."""
        with self.lock:
            for number, line in enumerate(self.screen.display):
                if number and self.screen.buffer[number][0].reverse:
                    return line.rstrip()
        return ""

    def wait(self, text: str | Callable[[], bool]) -> str:
        """What is on the screen once this text is."""
        is_there = text if callable(text) else lambda: text in self.text()
        wait_until(is_there, 20, on_timeout=self.text)
        return self.text()

    def end(self) -> int:
        code = self.process.wait(20)
        self.reader.join(20)
        return code

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.reader.join(20)
        for descriptor in (self.ours, self.theirs):
            os.close(descriptor)


@contextlib.contextmanager
def top(environ: dict[str, str], *words: str, **of: Any) -> Iterator[Top]:
    shown = Top(environ, *words, **of)
    try:
        yield shown
    finally:
        shown.close()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[SpoolHome]:
    made = SpoolHome(tmp_path / "real")
    yield made
    made.stop()


def fill(desk: Desk) -> dict[str, str]:
    """Ann's queue with jobs that wait, one that ended, and bob's; her environment."""
    now_ns = time.time_ns()
    desk.homes.card(desk.spool, HERE)
    for number in range(1, 31):
        desk.homes.put(desk.spool, WAITING, str(number), record(f"job{number}", ago_s=60, now_ns=now_ns))
    ended = record("done", ago_s=60, began_s=50, ended_s=5, exit_code=0, node=HERE, now_ns=now_ns,
                   job_directory=str(desk.directory), job_output="done.out")  # fmt: skip
    desk.homes.put(desk.spool, COMPLETED, "31", ended)
    (desk.directory / "done.out").write_text("".join(f"line {number}\n" for number in range(100)))
    bob = desk.homes.user("bob")
    desk.homes.put(bob, WAITING, "1", record("theirs", ago_s=60, now_ns=now_ns))
    return desk.homes.environ("ann")


def test_a_person_looks_around(desk: Desk) -> None:
    """Nodes, users and jobs; why, output, help, filter and sort; and the terminal is as it was."""
    with top(fill(desk), "-d", "0.5") as shown:
        seen = shown.wait("31 waiting")
        assert seen.splitlines()[0].startswith(f"rq top  {HERE}  ")
        for text in ("NODE", "USER", "STATE", "TOTAL", "job1", "c cancel  h hold"):
            assert text in seen
        assert shown.chosen().split()[:2] == ["waiting", "1"]
        shown.type("jj\x1b[B\x1b[A")
        shown.wait(lambda: shown.chosen().split()[:2] == ["waiting", "3"])

        shown.type("w")
        seen = shown.wait('why 3 "job3"')
        assert "q back" in seen
        shown.type("q?")
        shown.wait("Keys of rq top")
        shown.type("q/state=completed\r")
        shown.wait(lambda: "job3" not in shown.text() and "done" in shown.text())
        shown.type("o")
        assert "line 99" in shown.wait('output of 31 "done"')
        shown.type("g")
        shown.wait("line 0\n")
        shown.type("q/\x15nonsense=3\r")
        shown.wait('column 1: there is no field "nonsense"')
        shown.type("s")
        shown.wait("sorted by name")
        shown.type("q")
        assert shown.end() == 0
        assert shown.sent.endswith(LEFT)
        assert termios.tcgetattr(shown.theirs) == shown.before


def test_keys_act_on_jobs_of_mine_only(desk: Desk) -> None:
    """Hold and release at once; cancel after y and nothing else; those of others are left alone."""

    def state(job: str) -> str:
        return desk.row(job).state

    with top(fill(desk), "-d", "0.5") as shown:
        shown.wait("31 waiting")
        shown.type("h")
        shown.wait(lambda: state("1") == HELD)
        shown.wait('held 1 "job1"')
        assert desk.row("1").entry.is_on_hold
        shown.wait(lambda: shown.chosen().split()[:2] == ["held", "1"])
        shown.type("h")
        shown.wait(lambda: state("1") == WAITING)

        shown.wait(lambda: shown.chosen().split()[:2] == ["waiting", "1"])
        shown.type("cn")
        shown.wait("nothing was done")
        assert state("1") == WAITING
        shown.type("c")
        shown.wait('cancel 1 "job1"? y/n')
        shown.type("y")
        shown.wait(lambda: state("1") == CANCELED)
        shown.type("G")
        shown.wait(lambda: "theirs" in shown.chosen())
        shown.type("c")
        shown.wait("1 is a job of bob")


def test_a_running_job_is_paused_and_goes_on(home: SpoolHome) -> None:
    job = home.shell("echo begun; sleep 300", jobname="fit")
    home.supervise(job)
    home.wait_for(job, RUNNING)
    with top(home.environ, "-d", "0.5", "--mine") as shown:
        shown.wait("1 running")
        shown.type("p")
        shown.wait("running, paused")
        assert paused.stands(home.spool).keys() == {job}
        shown.type("p")
        shown.wait(lambda: "running, paused" not in shown.text())
        shown.type("o")
        shown.wait("begun")
        shown.type("qcy")
        home.wait_for(job, CANCELED)


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (40, 10), (200, 60), (20, 5)])
def test_it_fits_any_terminal_and_follows_its_size(desk: Desk, columns: int, lines: int) -> None:
    """Also when that changes while it is shown."""
    with top(fill(desk), "-d", "0.5", columns=columns, lines=lines) as shown:
        shown.wait("rq top")
        shown.wait("job1" if columns > 20 else "wait")
        shown.resize(60, 15)
        os.kill(shown.process.pid, signal.SIGWINCH)
        shown.wait(lambda: shown.text().splitlines()[-1].startswith("c cancel") and "job8" in shown.text())
        assert len(shown.text().splitlines()) == 15


def test_a_terminal_on_which_nothing_happens_is_sent_almost_nothing(desk: Desk) -> None:
    """The time, once in a while, and no whole screens: lines may be slow."""
    with top(fill(desk), "-d", "0.5") as shown:
        shown.wait("31 waiting")
        first = shown.text().splitlines()[0]
        before = len(shown.sent)
        shown.wait(lambda: shown.text().splitlines()[0] != first)
        first = shown.text().splitlines()[0]
        shown.wait(lambda: shown.text().splitlines()[0] != first)
        # Ages of jobs change, too; a screen of this size has thousands of bytes.
        assert len(shown.sent) - before < 24 * 80 / 2
        assert shown.sent.count(b"\x1b[2J") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_leaves_the_terminal_as_it_was(desk: Desk, number: int) -> None:
    with top(fill(desk), "-d", "0.5") as shown:
        shown.wait("31 waiting")
        os.kill(shown.process.pid, number)
        assert shown.end() == 128 + number
        assert LEFT in shown.sent
        assert termios.tcgetattr(shown.theirs) == shown.before
        assert shown.sent.split(LEFT)[-1] == b"rq: interrupted\r\n"


def test_a_mistake_leaves_the_terminal_as_it_was(desk: Desk) -> None:
    """Whatever goes wrong is said where a person can read it."""
    script = "from roundq.faces import top_view; top_view.press = None; " + _MAIN
    with top(fill(desk), "-d", "0.5", script=script) as shown:
        shown.wait("31 waiting")
        shown.type("j")
        assert shown.end() == 70
        assert shown.sent.split(LEFT)[-1].startswith(b"rq: a mistake of rq itself")
        assert termios.tcgetattr(shown.theirs) == shown.before


def test_a_mistake_while_it_looks_is_said_too(desk: Desk) -> None:
    """And not printed across a screen that changes no more."""
    script = "from roundq.faces.cli import top; top._gathered = None; " + _MAIN
    with top(fill(desk), "-d", "0.5", script=script) as shown:
        assert shown.end() == 70
        assert b"Traceback" not in shown.sent
        assert shown.sent.split(LEFT)[-1].startswith(b"rq: a mistake of rq itself")


def test_without_a_terminal_it_says_what_to_do(desk: Desk) -> None:
    """Once it can be printed anywhere, and then nothing is cut."""
    fill(desk)
    said = desk.rq("top")
    assert said == (
        2,
        "",
        "rq: rq top needs a terminal on which a cursor can be placed\n"
        "hint: rq top --once prints it once; rq, rq nodes and rq users are for pipes\n",
    )
    said = desk.rq("top", "--once")
    assert (said.code, said.err) == (0, "")
    for text in ("NODE", "USER", "STATE", "job20", "theirs"):
        assert text in said.out
    assert "theirs" not in desk.rq("top", "--once", "--mine").out
    assert spools.requests(desk.spool) == {}


@pytest.mark.parametrize(
    ("delay", "err"),
    [
        ("x", 'rq: --delay "x": not a time\nhint: write seconds, as in 5, or 1m\n'),
        ("0.1", 'rq: --delay "0.1": too often\nhint: at most every 0.5 s\n'),
    ],
)
def test_a_delay_that_is_none_is_refused(delay: str, err: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", "-d", delay]) == 2
    assert capsys.readouterr().err == err
