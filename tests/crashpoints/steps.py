"""The module `os` as it numbers the file operations of one process, and spoils one of them."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from tests.world.refusing import Refusing

#: What changes a directory or a file, so that before and after it are different crash points.
CHANGES = ("open", "write", "rename", "link", "unlink", "mkdir", "rmdir", "chmod", "fchmod", "utime", "fsync")
#: What only looks, and may fail all the same.
LOOKS = ("scandir", "read", "stat", "lstat", "fstat")
COUNTED = (*CHANGES, *LOOKS, "close")

#: The kinds of faults, in the order of the table.
STOP, POWER, FORGET, LOST, TAKEN, REFUSED, FULL, GONE, INTERRUPT = (
    "stop",
    "power",
    "forget",
    "lost",
    "taken",
    "refused",
    "full",
    "gone",
    "interrupt",
)

#: What a network file system may say of an operation that happened (nfs(5), rename(2), link(2)).
LOST_REPLIES = {
    "rename": (errno.ENOENT, errno.EIO, errno.ESTALE),
    "link": (errno.EEXIST, errno.ENOENT, errno.EIO, errno.ESTALE),
    "unlink": (errno.ENOENT, errno.EIO, errno.ESTALE),
    "mkdir": (errno.EEXIST, errno.EIO, errno.ESTALE),
    "rmdir": (errno.ENOENT, errno.EIO),
    "create": (errno.EEXIST, errno.EIO, errno.ESTALE),
    "write": (errno.EIO,),
    "fsync": (errno.EIO,),
    "chmod": (errno.EIO, errno.ESTALE),
    "fchmod": (errno.EIO,),
    "utime": (errno.EIO, errno.ESTALE),
}
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
#: What a file system may say of an operation that does not happen.
REFUSALS = {
    **dict.fromkeys(("create", "write", "fsync", "close", "mkdir", "link", "rename"), _NO_ROOM),
    "unlink": (errno.EIO, errno.ESTALE),
    "rmdir": (errno.EIO,),
    "chmod": (errno.EIO,),
    "fchmod": (errno.EIO,),
    "utime": (errno.EIO, errno.ESTALE),
    "scandir": (errno.EIO, errno.ESTALE),
    "look": (errno.EIO, errno.ESTALE),
    "read": (errno.EIO,),
    "stat": (errno.EIO,),
    "lstat": (errno.EIO,),
}
#: What a disk without room refuses from then on.
_TAKES_ROOM = ("create", "write", "mkdir")


@dataclass(frozen=True, slots=True)
class Step:
    """One file operation: `what` is its function; "create" is an open that creates, "look" any other."""

    what: str
    words: tuple[str, ...]

    @property
    def changes(self) -> bool:
        """Whether the disk is another one after it."""
        return self.what == "create" or (self.what in CHANGES and self.what != "fsync")

    def __str__(self) -> str:
        return f"{self.what}({', '.join(word.rpartition('/.roundqueue')[2] or '/' for word in self.words)})"


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong at the step of number `at`; `number` is the errno that is told.

    stop: the process is killed before it. power: so is the node, and what was not synced of contents is lost.
    forget: likewise, and names that were not synced are lost, too. lost: it happens, and is said not to have.
    taken: likewise, and another node takes the record at once. refused: it does not happen. full: nor does
    anything after it that needs room. gone: it happens, and from then on the server does not answer any more.
    interrupt: Ctrl-C, before it or, with `number`, after it.
    """

    kind: str
    at: int
    number: int = 0

    def __str__(self) -> str:
        name = f" {errno.errorcode.get(self.number, 'after')}" if self.number else ""
        return f"{self.kind}{name} at {self.at}"


class Steps(Refusing):
    """Stands for the module `os` in our modules, in the thread that made it; others meet the real one."""

    def __init__(
        self,
        fault: Fault | None,
        tell: Callable[[list[Any]], None],
        taken: Callable[[str], None],
        attic: str,
    ) -> None:
        super().__init__()
        #: `tell` is told of every step, `taken` does what another node does; what was replaced is in `attic`.
        self.fault, self.tell, self.taken, self.attic = fault, tell, taken, attic
        self.number = 0
        self.process, self.thread = os.getpid(), threading.get_ident()
        #: By descriptor: a second one of the same file, and whether anything is in it that was not synced.
        self.written: dict[int, list[Any]] = {}
        self.closed: list[list[Any]] = []
        #: Of each directory that is open: its path.
        self.directories: dict[int, str] = {}
        #: What would undo each change of names that is not durable: the directories, and how.
        self.undo: list[tuple[tuple[str, ...], Callable[[], object]]] = []
        for name in COUNTED:
            self.instead(name, functools.partial(self._step, name))

    def _step(self, name: str, *args: Any, **kwargs: Any) -> Any:
        if os.getpid() != self.process or threading.get_ident() != self.thread:
            return getattr(os, name)(*args, **kwargs)
        number, self.number = self.number, self.number + 1
        step = self._described(name, args)
        self.tell(["step", step.what, *step.words])
        fault = self.fault
        if fault is None or fault.kind == FORGET or number < fault.at:
            return self._do(step, name, args, kwargs)
        if fault.kind == FULL:
            if step.what in _TAKES_ROOM:
                self.tell(["fault"])
                raise OSError(fault.number, os.strerror(fault.number))
            return self._do(step, name, args, kwargs)
        if fault.kind == GONE:
            self.tell(["fault"])
            if number == fault.at or name == "close":
                self._do(step, name, args, kwargs)
            raise OSError(fault.number, os.strerror(fault.number))
        if number > fault.at:
            return self._do(step, name, args, kwargs)
        self.tell(["fault"])
        if fault.kind == STOP:
            die()
        if fault.kind == POWER:
            self.lose_power(names=False)
        if fault.kind == INTERRUPT:
            if fault.number:
                self._do(step, name, args, kwargs)
            raise KeyboardInterrupt
        if fault.kind in (LOST, TAKEN):
            result = self._do(step, name, args, kwargs)
            if step.what == "create":
                os.close(result)
            if fault.kind == TAKEN:
                self.taken(args[1])
        elif name == "write" and fault.number != errno.EIO:
            # A disk has room for the first half.
            self._do(step, name, (args[0], bytes(args[1])[: len(args[1]) // 2]), kwargs)
        elif name == "close":
            # Linux closes the descriptor whatever it reports.
            self._do(step, name, args, kwargs)
        raise OSError(fault.number, os.strerror(fault.number))

    def _described(self, name: str, args: tuple[Any, ...]) -> Step:
        what = name
        if name == "open":
            what = "create" if args[1] & os.O_CREAT else "look"
        if name == "close" and args[0] not in self.written:
            what = "look"
        words = [str(arg) for arg in args[:2] if isinstance(arg, str)]
        if args and isinstance(args[0], int):
            words = [self.directories.get(args[0]) or str(self.written.get(args[0], ["", ""])[1])]
        return Step(what, tuple(words))

    def _do(self, step: Step, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if name in ("rename", "unlink", "link", "mkdir", "rmdir"):
            back = self._way_back(name, args)
            result = getattr(os, name)(*args, **kwargs)
            self.undo.append(back)
            return result
        result = getattr(os, name)(*args, **kwargs)
        if name == "open":
            if step.what == "create":
                # Contents are lost through it, wherever the file is by then.
                self.written[result] = [os.dup(result), args[0], False]
                self.undo.append(((os.path.dirname(args[0]),), functools.partial(os.unlink, args[0])))
            elif args[1] & os.O_DIRECTORY:
                self.directories[result] = args[0]
        elif name == "write" and args[0] in self.written:
            self.written[args[0]][2] = True
        elif name == "fsync":
            self._synced(args[0])
        elif name == "close":
            self.directories.pop(args[0], None)
            if args[0] in self.written:
                self.closed.append(self.written.pop(args[0]))
        return result

    def _synced(self, descriptor: int) -> None:
        if descriptor in self.written:
            self.written[descriptor][2] = False
        directory = self.directories.get(descriptor)
        # A journal is written in order: what was changed before a change that is safe is safe, too.
        durable = [number for number, (where, _) in enumerate(self.undo) if directory in where]
        if durable:
            del self.undo[: durable[-1] + 1]

    def _way_back(self, name: str, args: tuple[Any, ...]) -> tuple[tuple[str, ...], Callable[[], object]]:
        where = tuple(os.path.dirname(arg) for arg in args[:2] if isinstance(arg, str))
        if name == "mkdir":
            return where, functools.partial(os.rmdir, args[0])
        if name == "rmdir":
            return where, functools.partial(os.mkdir, args[0])
        if name == "link":
            return where, functools.partial(os.unlink, args[1])
        gone = args[1] if name == "rename" else args[0]
        kept = f"{self.attic}/{self.number}"
        # Only then, since a second name is something that our code may look at.
        is_kept = self.fault is not None and self.fault.kind == FORGET and os.path.isfile(gone)
        if is_kept:
            os.link(gone, kept)

        def back() -> None:
            if name == "rename":
                os.rename(args[1], args[0])
            if is_kept:
                os.rename(kept, gone)

        return where, back

    def lose_power(self, *, names: bool) -> NoReturn:
        """The node stops at once, and forgets what was not synced: contents, and with `names` names."""
        if names:
            for _, back in reversed(self.undo):
                with contextlib.suppress(OSError):
                    back()
        for copy, _, is_dirty in (*self.closed, *self.written.values()):
            if is_dirty:
                os.ftruncate(copy, 0)
        die()


def die() -> NoReturn:
    """As if by the out-of-memory killer: at once, all threads, no goodbye."""
    while True:
        os.kill(os.getpid(), signal.SIGKILL)


def faults(steps: list[Step], kinds: tuple[str, ...], *, with_looks: bool = True) -> list[Fault]:
    """All faults of these kinds that an operation of these steps can meet; of what only looks if wanted."""
    found: list[Fault] = []
    for at, step in enumerate(steps):
        if step.changes:
            found += [Fault(kind, at) for kind in (STOP, POWER) if kind in kinds]
        if INTERRUPT in kinds and (step.changes or step.what == "fsync"):
            found += [Fault(INTERRUPT, at, number) for number in (0, 1)]
        if LOST in kinds:
            found += [Fault(LOST, at, number) for number in LOST_REPLIES.get(step.what, ())]
        if TAKEN in kinds and step.what in ("rename", "link") and "/waiting/" in step.words[1]:
            found += [Fault(TAKEN, at, number) for number in LOST_REPLIES[step.what]]
        if REFUSED in kinds and (with_looks or step.what not in (*LOOKS, "look")):
            found += [Fault(REFUSED, at, number) for number in REFUSALS.get(step.what, ())]
        if FULL in kinds and step.what in _TAKES_ROOM:
            found.append(Fault(FULL, at, errno.EDQUOT))
        if GONE in kinds and step.changes:
            found.append(Fault(GONE, at, errno.EIO))
    # After all of it: before the caller is told, and, of what is durable by then, after.
    found += [Fault(kind, len(steps)) for kind in (STOP, POWER, FORGET) if kind in kinds]
    return found
