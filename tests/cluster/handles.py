"""`Handles`: what a node has open, what it wrote there and did not yet send, what was removed meanwhile.

Called by nfs. It knows nothing of names that are cached, and of requests only what they give it.
"""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.cluster.cache import signature_of

if TYPE_CHECKING:
    from tests.cluster.cache import Inode
    from tests.cluster.faults import Listing

# Written data beyond this goes to the server at once.
DIRTY_BYTES_MAX = 1 << 20


@dataclass
class Handle:
    """An open file (`fd`) or directory (`listing`)."""

    inode: Inode
    fd: int = -1
    writable: bool = False
    listing: Listing | None = None


class Handles:
    """All handles of one mount, by number."""

    def __init__(self) -> None:
        self._all: dict[int, Handle] = {}
        self._numbers = iter(range(1, 1 << 62))
        self._silly_numbers = iter(range(1, 1 << 62))

    def __getitem__(self, number: int) -> Handle:
        return self._all[number]

    def __len__(self) -> int:
        return len(self._all)

    def get(self, number: int) -> Handle | None:
        return self._all.get(number)

    def open_file(self, inode: Inode, fd: int, *, writable: bool) -> int:
        inode.opens += 1
        return self._add(Handle(inode, fd, writable))

    def open_directory(self, inode: Inode, listing: Listing) -> int:
        return self._add(Handle(inode, listing=listing))

    def close(self, number: int) -> None:
        handle = self._all[number]
        inode = handle.inode
        if handle.fd >= 0:
            self.flush(inode)
            os.close(handle.fd)
            inode.opens -= 1
        del self._all[number]
        if not inode.opens and inode.silly:
            directory, name = inode.silly
            inode.silly = None
            # It fails if somebody else tidied up.
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=directory.fd)

    def close_all(self) -> None:
        for number in list(self._all):
            self.close(number)

    def remove_while_open(self, directory: Inode, name: bytes, inode: Inode) -> None:
        """Silly rename: the file stays under a name that nobody looks at, until it is closed."""
        silly = b".nfs%016x%08x" % (inode.key[1], next(self._silly_numbers))
        os.rename(name, silly, src_dir_fd=directory.fd, dst_dir_fd=directory.fd)
        inode.silly = (directory, silly)

    def write_behind(self, inode: Inode, offset: int, data: bytes) -> None:
        """Take data that will be sent later, unless it is much."""
        inode.dirty.append((offset, data))
        if sum(len(chunk) for _, chunk in inode.dirty) > DIRTY_BYTES_MAX:
            self.flush(inode)

    def flush(self, inode: Inode) -> None:
        """Send written data to the server. An error is kept for the next one who can be told."""
        if not inode.dirty:
            return
        todo, inode.dirty = inode.dirty, []
        fds = (handle.fd for handle in self._all.values() if handle.inode is inode and handle.writable)
        fd = next(fds, None)
        own = -1
        try:
            if fd is None:
                fd = own = os.open(inode.path, os.O_WRONLY | os.O_CLOEXEC)
            for offset, data in todo:
                write_all(fd, offset, data)
        except OSError as error:
            inode.write_error = error.errno or errno.EIO
        finally:
            if own >= 0:
                os.close(own)
        inode.signature = signature_of(os.fstat(inode.fd))

    def tell_write_error(self, inode: Inode) -> None:
        if inode.write_error:
            error, inode.write_error = inode.write_error, 0
            raise OSError(error, "writing behind failed")

    def _add(self, handle: Handle) -> int:
        number = next(self._numbers)
        self._all[number] = handle
        return number


def write_all(fd: int, offset: int, data: bytes) -> None:
    while data:
        written = os.pwrite(fd, data, offset)
        offset += written
        data = data[written:]
