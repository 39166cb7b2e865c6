"""A command in which something happens at one of its moments: a signal, or a disk that is full.

The command is that of an installation, `roundq.__main__.rq`, in a child of a process that has loaded all
that commands load, so that each moment of it can be tried in turn. A moment is a call to the file system,
before or after it was done, or a line of roundq that is about to be executed.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, NoReturn

#: Clocks: what a moment is.
BEFORE, AFTER, WRITES, LINES = "before", "after", "writes", "lines"
#: Calls to the file system, as roundq makes them; imports make theirs in another way.
_CALLS = (
    "chmod close fchmod fstat fsync link listdir lstat mkdir open pread read rename rmdir scandir stat unlink"
    " utime write"
).split()
#: Those of them that need room.
_WRITES = ("fsync", "link", "mkdir", "open", "rename", "write")
#: A command that takes longer hangs.
TIMEOUT_S = 60.0
_ROOT = Path(__file__).parents[2]
_SOURCE, _BEGIN = f"{_ROOT}/roundq/", f"{_ROOT}/roundq/__main__.py"


class Outcome(NamedTuple):
    """How a command ended: its exit code as a shell tells it, what it said, and how many moments it had."""

    code: int
    out: str
    err: str
    moments: int


class Happening(NamedTuple):
    """From moment `first` to `last` each gets the signal `number`, or as `fails` the error `number`."""

    first: int
    last: int
    number: int
    fails: bool = False


NOTHING = Happening(0, 0, 0)


def signaled(moment: int, number: int) -> Happening:
    """A signal at one moment."""
    return Happening(moment, moment, number)


def full(first: int, last: int = 1 << 60, number: int = errno.ENOSPC) -> Happening:
    """No room from one moment on, or to another."""
    return Happening(first, last, number, True)


class Stage:
    """Plays commands. Make one, and close it."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.faces.moments"]
        pipe = subprocess.PIPE
        self._server = subprocess.Popen(command, cwd=_ROOT, stdin=pipe, stdout=pipe, text=True)

    def close(self) -> None:
        """Ends it."""
        self._server.communicate(timeout=TIMEOUT_S)

    def play(
        self,
        words: Sequence[str],
        environ: Mapping[str, str],
        clock: str = LINES,
        happens: Happening = NOTHING,
        *,
        directory: str = "/",
        given: str = "",
        patches: Mapping[str, str] | None = None,
    ) -> Outcome:
        """What becomes of `rq WORDS` with this at its moments; `given` is its standard input.

        `patches` are names of functions of roundq, and what they are in it instead.
        """
        asked = [list(words), dict(environ), clock, happens, directory, given, dict(patches or {})]
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        print(json.dumps(asked), file=self._server.stdin, flush=True)
        answer = json.loads(self._server.stdout.readline())
        assert isinstance(answer, list), answer
        return Outcome(*answer)


# ---------------------------------------------------------------- the process that plays


def _serve() -> None:
    _load()
    for line in sys.stdin:
        try:
            answer: object = _played(*json.loads(line))
        except Exception as error:
            answer = repr(error)
        print(json.dumps(answer), flush=True)


def _load() -> None:
    from roundq.faces.cli import VERBS, build_parser
    from roundq.words import record_format as formats

    for verb in VERBS:
        build_parser(verb)
    formats.prepare()


def _played(
    words: list[str],
    environ: dict[str, str],
    clock: str,
    happens: list[Any],
    directory: str,
    given: str,
    patches: dict[str, str],
) -> Outcome:
    with contextlib.ExitStack() as stack:
        inp, out, err, counted = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(4))
        inp.write(given.encode())
        inp.seek(0)
        child = os.fork()
        if child == 0:
            try:
                for number, stream in enumerate((inp, out, err)):
                    os.dup2(stream.fileno(), number)
                os.chdir(directory)
                for name, text in patches.items():
                    module, _, function = name.rpartition(".")
                    setattr(sys.modules[module], function, eval(text))
                _run(words, environ, clock, Happening(*happens), counted.fileno())
            finally:
                os._exit(99)
        code = os.waitstatus_to_exitcode(_status(child))
        said = [_text(stream) for stream in (out, err, counted)]
    return Outcome(code if code >= 0 else 128 - code, said[0], said[1], int(said[2] or 0))


def _status(child: int) -> int:
    deadline_s = time.monotonic() + TIMEOUT_S
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        if time.monotonic() > deadline_s:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise TimeoutError("the command hangs")
        time.sleep(0.0005)


def _text(stream: Any) -> str:
    stream.seek(0)
    text: str = stream.read().decode()
    return text


def _run(words: list[str], environ: dict[str, str], clock: str, happens: Happening, counted: int) -> NoReturn:
    """What the child does."""
    from roundq.__main__ import rq

    sys.stdin = open(0, closefd=False)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)
    os.environ.clear()
    os.environ.update(environ)
    sys.argv = ["rq", *words]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    leave, write, me = os._exit, os.pwrite, os.getpid()

    def told(now: int) -> None:
        # What it forks has moments of its own.
        if os.getpid() != me:
            return
        write(counted, str(now).encode(), 0)
        if happens.first <= now <= happens.last and happens.number:
            if happens.fails:
                raise OSError(happens.number, os.strerror(happens.number))
            os.kill(me, happens.number)

    code: Any = 1
    try:
        if clock == LINES:
            sys.settrace(_lines(told))
        else:
            _calls(told, clock)
        rq()
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        sys.settrace(None)
        sys.excepthook(*sys.exc_info())
    finally:
        sys.settrace(None)
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
        leave(code if isinstance(code, int) else 1)


def _lines(told: Callable[[int], None]) -> Callable[[FrameType, str, Any], Any]:
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        file = frame.f_code.co_filename
        if event == "call":
            # The first lines are before anything is known of signals, as all that the interpreter does.
            return trace if file.startswith(_SOURCE) and file != _BEGIN else None
        if event == "line":
            count += 1
            told(count)
        return trace

    return trace


def _needs_room(name: str, args: tuple[Any, ...]) -> bool:
    if name == "open":
        return bool(args[1] & os.O_CREAT)
    return name != "write" or stat.S_ISREG(os.fstat(args[0]).st_mode)


def _calls(told: Callable[[int], None], clock: str) -> None:
    count = 0

    def clocked(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            if clock == WRITES and not _needs_room(name, args):
                return real(*args, **kwargs)
            count += 1
            mine = count
            if clock != AFTER:
                told(mine)
            try:
                return real(*args, **kwargs)
            finally:
                if clock == AFTER:
                    told(mine)

        return call

    for name in _WRITES if clock == WRITES else _CALLS:
        setattr(os, name, clocked(name, getattr(os, name)))


if __name__ == "__main__":
    _serve()
