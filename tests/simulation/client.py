"""What one node's NFS client believes: names it remembers, also of what was not there, and late attributes.

As Linux does it: a name that was looked up is believed while the directory's attributes are, which is for
`least_s` to `most_s` seconds, unless a look at the directory shows that it changed. A directory opened afresh
is listed as the server has it, and a file opened afresh is asked for at the server (close-to-open). What this
node changes itself it knows at once.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from tests.simulation.disk import Disk, Inode, Status, fault

#: nfs(5): acdirmin is 30 s and acdirmax 60 s, acregmin 3 s.
LEAST_S, MOST_S = 30.0, 60.0
_ATTRIBUTES_S = 3.0


class _Known:
    """A directory as this client last saw it."""

    __slots__ = ("change", "epoch", "until_s")

    def __init__(self, change: int, until_s: float) -> None:
        self.change, self.until_s = change, until_s
        #: Names remembered in another epoch are not believed.
        self.epoch = 0


class Client:
    """The file operations of one node. Paths are absolute; errors are those of the system calls."""

    def __init__(
        self, disk: Disk, clock_s: Callable[[], float], *, remembers: bool, ttl_s: float = MOST_S
    ) -> None:
        self.disk, self.clock_s, self.remembers, self.ttl_s = disk, clock_s, remembers, ttl_s
        self._directories: dict[Inode, _Known] = {}
        self._names: dict[tuple[Inode, str], tuple[Inode | None, int]] = {}
        self._statuses: dict[Inode, tuple[Status, float]] = {}

    def forget(self) -> None:
        """A node that boots knows nothing."""
        self._directories.clear()
        self._names.clear()
        self._statuses.clear()

    # ------------------------------------------------------------ believing

    def _seen(self, directory: Inode) -> _Known:
        """The server was asked for the attributes of a directory just now."""
        known = self._directories.get(directory)
        until_s = self.clock_s() + self.ttl_s
        if known is None:
            known = self._directories[directory] = _Known(directory.change, until_s)
        elif known.change != directory.change:
            known.change = directory.change
            known.epoch += 1
        known.until_s = until_s
        return known

    def _lookup(self, directory: Inode, name: str) -> tuple[Inode | None, bool]:
        """Who has the name as this node believes, and whether it was only remembered."""
        if not self.remembers:
            return directory.children().get(name), False
        known = self._directories.get(directory)
        if known is not None and self.clock_s() < known.until_s:
            remembered = self._names.get((directory, name))
            if remembered is not None and remembered[1] == known.epoch:
                return remembered[0], True
        inode = directory.children().get(name)
        self._names[directory, name] = inode, self._seen(directory).epoch
        return inode, False

    def _learn(self, directory: Inode, name: str, inode: Inode | None, before: int) -> None:
        """This node changed a name itself; `before` is the directory's change attribute just before."""
        if not self.remembers:
            return
        known = self._directories.get(directory)
        if known is None or known.change != before:
            known = self._seen(directory)
        else:
            known.change = directory.change
        self._names[directory, name] = inode, known.epoch

    def _parent(self, path: str) -> tuple[Inode, str]:
        _, home, user, *parts = path.split("/") if path.count("/") > 2 else ("", "", "")
        if not home:
            directory, _, name = path.rpartition("/")
            return self.disk.walk(directory), name
        # Homes are there from the beginning to the end.
        inode = self.disk.homes[user]
        for part in parts[:-1]:
            child, _ = self._lookup(inode, part)
            if child is None:
                raise fault(errno.ENOENT, path)
            inode = child
        inode.children()
        return inode, parts[-1]

    # ------------------------------------------------------------ operations

    def find(self, path: str) -> Inode:
        """The inode behind a path, as this node believes. Raises ENOENT."""
        directory, name = self._parent(path)
        inode, is_remembered = self._lookup(directory, name)
        if inode is not None and not inode.links and is_remembered:
            # The server knows the handle no more; the client walks the path again, asking.
            inode = directory.children().get(name)
            self._names[directory, name] = inode, self._seen(directory).epoch
        if inode is None:
            raise fault(errno.ENOENT, path)
        return inode

    def open(self, path: str) -> Inode:
        """As `find`; what stat tells of it from now on is what the server has now."""
        inode = self.find(path)
        if self.remembers:
            self._statuses[inode] = Status(inode), self.clock_s() + _ATTRIBUTES_S
            if inode.is_directory:
                self._seen(inode)
        return inode

    def list(self, path: str) -> list[tuple[str, int]]:
        """The names in a directory, and their inode numbers, as the server has them."""
        inode = self.open(path)
        entries = inode.children()
        if self.remembers:
            epoch = self._seen(inode).epoch
            for name, child in entries.items():
                self._names[inode, name] = child, epoch
        return [(name, child.number) for name, child in entries.items()]

    def create(self, path: str, mode: int, owner: int, *, is_directory: bool = False) -> Inode:
        """open(2) with O_CREAT and O_EXCL, or mkdir(2)."""
        directory, name = self._parent(path)
        believed, _ = self._lookup(directory, name)
        if believed is not None:
            raise fault(errno.EEXIST, path)
        before = directory.change
        inode = self.disk.create(directory, name, mode, owner, is_directory=is_directory)
        self._learn(directory, name, inode, before)
        return inode

    def link(self, source: str, target: str) -> None:
        """link(2)."""
        inode = self.find(source)
        directory, name = self._parent(target)
        believed, _ = self._lookup(directory, name)
        if believed is not None:
            raise fault(errno.EEXIST, target)
        before = directory.change
        self.disk.link(inode, directory, name)
        self._learn(directory, name, inode, before)

    def rename(self, source: str, target: str) -> None:
        """rename(2). A source that is believed absent is not asked for."""
        old_directory, old = self._parent(source)
        new_directory, new = self._parent(target)
        believed, _ = self._lookup(old_directory, old)
        if believed is None:
            raise fault(errno.ENOENT, source)
        if self._lookup(new_directory, new)[0] is believed:
            # rename(2): two names of one file, as the client believes, and it does not even ask the server.
            return
        before, before_new = old_directory.change, new_directory.change
        inode = old_directory.children().get(old)
        try:
            self.disk.rename(old_directory, old, new_directory, new, self)
        except FileNotFoundError:
            self._learn(old_directory, old, None, -1)
            raise
        self._learn(old_directory, old, None, before)
        self._learn(new_directory, new, inode, before_new if new_directory is not old_directory else before)

    def unlink(self, path: str) -> None:
        """unlink(2)."""
        directory, name = self._parent(path)
        believed, _ = self._lookup(directory, name)
        if believed is None:
            raise fault(errno.ENOENT, path)
        before = directory.change
        try:
            self.disk.unlink(directory, name, self)
        except FileNotFoundError:
            self._learn(directory, name, None, -1)
            raise
        self._learn(directory, name, None, before)

    def rmdir(self, path: str) -> None:
        """rmdir(2)."""
        directory, name = self._parent(path)
        before = directory.change
        self.disk.rmdir(directory, name)
        self._learn(directory, name, None, before)

    def status(self, path: str) -> Status:
        """stat(2): attributes may be a few seconds old."""
        inode = self.find(path)
        if not self.remembers:
            return Status(inode)
        known = self._statuses.get(inode)
        if known is not None and self.clock_s() < known[1] and inode.links:
            return known[0]
        status = Status(inode)
        self._statuses[inode] = status, self.clock_s() + _ATTRIBUTES_S
        return status
