"""The system as NFS makes it look: calls that fail before they happen, and calls that fail afterwards."""

from __future__ import annotations

import errno as errnos
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

#: What a client may say of an operation whose reply was lost, or that never reached the server.
LOST = [errnos.ENOENT, errnos.EEXIST, errnos.EIO, errnos.ESTALE]


@dataclass
class _Plan:
    number: int
    happens: bool
    times: int
    skip: int
    where: str


class Refusing:
    """Stands for the module `os` in one module of ours; calls that are not planned go to the real one."""

    def __init__(self) -> None:
        self._plans: dict[str, _Plan] = {}
        self._instead: dict[str, Callable[..., Any]] = {}
        #: Every call of a function, as name and arguments.
        self.calls: list[tuple[Any, ...]] = []

    def fail(
        self, name: str, number: int, *, happens: bool = False, times: int = 1, skip: int = 0, where: str = ""
    ) -> None:
        """The next `times` calls of a function, after `skip`, raise `number`; done all the same if `happens`.

        Only calls with `where` in one of their arguments.
        """
        self._plans[name] = _Plan(number, happens, times, skip, where)

    def instead(self, name: str, do: Callable[..., Any]) -> None:
        """Another function in place of this one."""
        self._instead[name] = do

    def __getattr__(self, name: str) -> Any:
        real = self._instead.get(name) or getattr(os, name)
        if not callable(real) or isinstance(real, type):
            return real

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append((name, *args))
            plan = self._plans.get(name)
            if plan is None or not any(plan.where in str(arg) for arg in args):
                return real(*args, **kwargs)
            if plan.skip > 0:
                plan.skip -= 1
            elif plan.times > 0:
                plan.times -= 1
                if plan.happens:
                    real(*args, **kwargs)
                raise OSError(plan.number, os.strerror(plan.number))
            return real(*args, **kwargs)

        return call

    def called(self, name: str) -> int:
        """How often a function was called."""
        return sum(call[0] == name for call in self.calls)
