"""Signals that end a command: SIGINT, SIGTERM and SIGHUP.

What only looks is ended wherever it is. What changes the queue holds signals back: they are noted, and it
stops where it can say what was done. So whoever is interrupted is told the truth, and nothing is half done.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from typing import TYPE_CHECKING

from roundq.words.errors import RoundqError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Stopped(KeyboardInterrupt):
    """Ctrl-C, SIGTERM or SIGHUP: a command that is ended says what became of what was asked for."""

    def __init__(self, number: int = signal.SIGTERM) -> None:
        super().__init__()
        self.number = number


#: Signals that stop a command.
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Heard:
    """What came, and what it may do."""

    def __init__(self) -> None:
        self.first: int | None = None
        self.is_held = False
        #: Only the first is raised: what is said of it must not be cut short by a second.
        self.is_raised = False


_heard = _Heard()


def interrupted(stop: BaseException | None) -> int:
    """The exit code of a command that a signal ended."""
    return 128 + (stop.number if isinstance(stop, Stopped) else signal.SIGINT)


def noted() -> Stopped | None:
    """The signal that came, if one did."""
    return None if _heard.first is None else Stopped(_heard.first)


def look_for_signals() -> None:
    """Raises Stopped if a signal came. For loops that wait, and between the steps of what holds signals back.

    The exception of its handler is lost if it meets the interpreter in a callback of its own, as in imports.
    """
    stop = noted()
    if stop is not None:
        raise stop


def hold() -> None:
    """From here on signals are only noted; for good, since the command then says what it did."""
    _heard.is_held = True


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """In here, where signals are held back, one raises Stopped all the same: for what may take long."""
    before = _heard.is_held
    try:
        _heard.is_held = False
        look_for_signals()
        yield
    finally:
        _heard.is_held = before


@contextlib.contextmanager
def as_stopped() -> Iterator[None]:
    """Raises `Stopped` for whatever becomes of a signal in here.

    A library that is stopped while it is loaded makes an error of its own of it.
    """
    try:
        yield
    except (RoundqError, GeneratorExit):
        # A signal between the end of a block and this, and nobody is there who could be told.
        raise
    except BaseException:
        if _heard.is_raised:
            raise Stopped(_heard.first or signal.SIGINT) from None
        raise


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Turns SIGINT, SIGTERM and SIGHUP into `Stopped`, unless they are ignored, as by nohup."""

    def stop(number: int, _frame: object) -> None:
        if _heard.first is None:
            _heard.first = number
        if not _heard.is_held and not _heard.is_raised:
            _heard.is_raised = True
            raise Stopped(number)

    def unraisable(what: sys.UnraisableHookArgs) -> None:
        # A callback of the interpreter cannot be ended so, and it would print a traceback of it.
        if not isinstance(what.exc_value, Stopped):
            hook(what)

    global _heard
    before = {number: signal.getsignal(number) for number in STOPPING}
    caught = {
        number: handler
        for number, handler in before.items()
        if handler in (signal.SIG_DFL, signal.default_int_handler)
    }
    hook = sys.unraisablehook
    _heard = _Heard()
    try:
        sys.unraisablehook = unraisable
        for number in caught:
            signal.signal(number, stop)
        with as_stopped():
            yield
    finally:
        # What the command has to say stands; nothing may come in its way.
        _heard.is_held = True
        sys.unraisablehook = hook
        for number, handler in caught.items():
            signal.signal(number, handler)


def load_reader() -> None:
    """Loads what reads records, while signals wait: stopped in its middle it says so in words of its own."""
    from roundq.words import record_format as formats

    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        formats.prepare()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
