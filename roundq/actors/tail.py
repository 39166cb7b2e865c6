"""A file that another node writes, followed byte by byte.

It is opened anew for each look: only then does an NFS client ask how long it is, and a thousand of them need
no descriptors. Nothing here knows what a job is; `actors.part` says which part of a file is meant.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

from roundq.actors.part import Part
from roundq.world import files

#: How often a file is opened again whose handle the server knows no more.
_STALE_TRIES = 3
#: So many zeros in a row, at an end that is still written, may be what the server was not sent yet: clients
#: write pages in any order, and what comes late leaves a hole. What a file had so long ago is sure.
ZEROS, SURE_S = 16, 5.0
_HOLE = re.compile(rb"\0{%d,}|\0+\Z" % ZEROS)

#: What may have happened to a file since the last look.
REPLACED, CUT = "replaced", "cut"


class Look(NamedTuple):
    """What one look found: new bytes, whether there is more to be had now, and what happened to the file."""

    data: bytes
    is_more: bool = False
    change: str | None = None


class Opened(Protocol):
    """A file that was just opened."""

    inode: int
    size: int
    is_regular: bool

    def read(self, most: int, offset: int) -> bytes:
        """At most so many bytes from there; none at the end."""
        ...

    def close(self) -> None:
        """Nobody reads it any more."""
        ...


class _Descriptor:
    """A file of the file system."""

    def __init__(self, path: str) -> None:
        # Not blocking: it may be a FIFO by now.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        self._descriptor = files.open_fresh(path, flags)
        try:
            status = os.fstat(self._descriptor)
        except OSError:
            os.close(self._descriptor)
            raise
        self.inode, self.size = status.st_ino, status.st_size
        self.is_regular = stat.S_ISREG(status.st_mode)

    def read(self, most: int, offset: int) -> bytes:
        return os.pread(self._descriptor, most, offset)

    def close(self) -> None:
        os.close(self._descriptor)


class Tail:
    """Follows a file, or a part of it, from where it left off; all of a new file, or of one that was cut.

    `problem` says why nothing could be read in the last look, and is empty if something could. `has_begun`:
    it was met at all. `opens` opens a file; `clock` is monotonic.
    """

    def __init__(
        self,
        path: str,
        of: Part | None = None,
        *,
        opens: Callable[[str], Opened] = _Descriptor,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        self.problem = ""
        self.has_begun = False
        self._opens, self._clock = opens, clock
        self._inode, self.offset, self._end = of or Part(-1, 0, None)
        #: Sizes that it had, with when it was seen so: what is below one of long ago is no hole.
        self._sizes: list[tuple[float, int]] = []

    def look(self, most: int, *, is_final: bool = False) -> Look:
        """At most so many new bytes; `is_final`: whoever wrote it has closed it.

        What cannot be read is no error: the `problem` is told, and it is tried again with the next look.
        """
        for left in reversed(range(_STALE_TRIES)):
            try:
                return self._look(most, is_final)
            except OSError as error:
                if error.errno != errno.ESTALE or not left:
                    self.problem = error.strerror or str(error)
                    break
        return Look(b"")

    def back(self, count: int) -> None:
        """The last so many bytes of the last look are to be had again."""
        self.offset -= count

    def end_at(self, end: int | None) -> None:
        """What is meant of the file ends here."""
        self._end = end

    def skip_to_end(self) -> None:
        """Passes over what is there now."""
        try:
            opened = self._opens(self.path)
        except OSError:
            return
        try:
            if opened.is_regular:
                self._inode, self.offset, self._end = opened.inode, opened.size, None
        finally:
            opened.close()

    def _look(self, most: int, is_final: bool) -> Look:
        opened = self._opens(self.path)
        try:
            if not opened.is_regular:
                self.problem = "it is not a regular file, so nothing of it was kept"
                return Look(b"")
            change = self._changed(opened)
            wanted = most if self._end is None else min(most, self._end - self.offset)
            data = opened.read(wanted, self.offset) if wanted > 0 else b""
        finally:
            opened.close()
        self.problem, self.has_begun = "", True
        is_more = len(data) == wanted and wanted == most
        if not is_final and (kept := self._sure(data, opened.size)) < len(data):
            data, is_more = data[:kept], False
        self.offset += len(data)
        return Look(data, is_more, change)

    def _changed(self, opened: Opened) -> str | None:
        """What happened to the file; if something did, it is read from its beginning."""
        change = None
        if self._inode not in (-1, opened.inode):
            change = REPLACED
        elif opened.size < self.offset:
            change = CUT
        if change is not None:
            self.offset, self._end = 0, None
            self._sizes.clear()
        self._inode = opened.inode
        return change

    def _sure(self, data: bytes, size: int) -> int:
        """How many of these bytes, at `offset`, are what was written there, not what is to come."""
        now_s = self._clock()
        if not self._sizes or size > self._sizes[-1][1]:
            self._sizes.append((now_s, size))
        sure = max((size for at_s, size in self._sizes if now_s - at_s >= SURE_S), default=0)
        self._sizes = [(at_s, size) for at_s, size in self._sizes if size >= sure]
        for hole in _HOLE.finditer(data, max(0, sure - self.offset)):
            return hole.start()
        return len(data)
