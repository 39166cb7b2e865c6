"""How a function that runs as a job asks to be run again, from where it is (roundq(3), CHECKPOINT).

A job is told that it will be stopped by a signal (`signal="USR2@60"`): before its time limit is over, and
when it is restarted or gives way to another user. It can then leave its state, and is run again with that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from roundq.words.errors import RoundqError


class Requeue(BaseException):
    """Ends an attempt whose job is to be run again; for the runner alone."""

    def __init__(self, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> None:
        super().__init__("roundq.checkpoint")
        self.call = args, kwargs or {}


#: What the runner of this process knows: None where no function of an Executor runs.
_running: Running | None = None


class Running:
    """A function of an Executor that runs in this process."""

    def __init__(self, why_not: str = "", hint: str = "") -> None:
        #: Why it cannot be run again, empty if it can.
        self.why_not, self.hint = why_not, hint
        self.is_told = False
        #: What is done at the moment of the signal.
        self.on_told: Callable[[], None] | None = None

    def begin(self) -> None:
        """From now on `checkpoint` means this."""
        global _running
        _running = self

    def hear(self, _number: int, _frame: object) -> None:
        """The signal that tells of the coming end."""
        is_new, self.is_told = not self.is_told, True
        if is_new and self.on_told is not None:
            self.on_told()


def checkpoint_due() -> bool:
    """Whether this job was told that it will be stopped soon; False outside of an Executor's job."""
    return _running is not None and _running.is_told


def checkpoint(*args: Any, **kwargs: Any) -> NoReturn:
    """Ends this attempt of a job; the next one calls the same function with these arguments.

    To be called in the main thread of a function that an Executor with restart=True runs. Raises
    RoundqError elsewhere, with the attempt going on.
    """
    if _running is None:
        raise RoundqError(
            "checkpoint: this is no job of an Executor", "call it in a function that an Executor runs"
        )
    if _running.why_not:
        raise RoundqError(f"checkpoint: {_running.why_not}", _running.hint)
    raise Requeue(args, kwargs)
