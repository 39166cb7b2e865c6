"""The file server: inodes and names as it has them now, and what of them a crash loses.

Two kinds. One exports with sync, as NFS servers do: what it acknowledged survives, and only what a node had
not sent yet is lost with that node. The other is the local file system of a single node: operations on names
are journaled in order, and a crash takes back the last of them as far as no fsync made them durable; what was
written without fsync may be gone or cut.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from random import Random

#: A directory's path, a name in it, and who has it now.
Change = tuple[str, str, "Inode | None"]
#: Like ext4: what is older than this was written back by itself.
WRITE_BACK_S = 5.0


class Inode:
    """A file or directory."""

    __slots__ = (
        "change",
        "data",
        "entries",
        "is_synced",
        "links",
        "mode",
        "mtime_ns",
        "number",
        "owner",
        "removed_by",
    )

    def __init__(self, number: int, mode: int, owner: int, entries: dict[str, Inode] | None = None) -> None:
        self.number, self.mode, self.owner = number, mode, owner
        self.entries = entries
        self.data = b""
        self.is_synced = False
        self.links = 1
        self.mtime_ns = 0
        #: Grows with every change of a directory: NFS's change attribute.
        self.change = 0
        #: Which node's client took its last name away.
        self.removed_by: object = None

    @property
    def is_directory(self) -> bool:
        return self.entries is not None

    def children(self) -> dict[str, Inode]:
        """The entries of a directory. Raises ENOTDIR."""
        if self.entries is None:
            raise fault(errno.ENOTDIR)
        return self.entries


class Status:
    """What stat(2) tells."""

    __slots__ = ("st_dev", "st_gid", "st_ino", "st_mode", "st_mtime_ns", "st_nlink", "st_size", "st_uid")

    def __init__(self, inode: Inode) -> None:
        self.st_dev, self.st_ino, self.st_mode = 1, inode.number, inode.mode
        self.st_nlink, self.st_uid, self.st_gid = inode.links, inode.owner, inode.owner
        self.st_size, self.st_mtime_ns = len(inode.data), inode.mtime_ns

    @property
    def st_mtime(self) -> float:
        return self.st_mtime_ns / 1e9


def fault(number: int, path: str | None = None) -> OSError:
    """The error of a system call."""
    return OSError(number, os.strerror(number), path)


class Disk:
    """All that the server has. `clock_ns` is its clock; `on_change` is told of every change of a name."""

    def __init__(self, clock_ns: Callable[[], int], rng: Random, *, journals: bool) -> None:
        self.clock_ns, self.rng, self.journals = clock_ns, rng, journals
        self._numbers = 100
        self.root = Inode(2, stat.S_IFDIR | 0o755, 0, {})
        #: Told after each operation of all that it changed: directory path, name, inode or None.
        self.on_change: Callable[[list[Change]], None] = lambda _changes: None
        self._changes: list[Change] = []
        self._journal: list[tuple[int, tuple[Inode, ...], Callable[[], None]]] = []
        self._unsynced: list[Inode] = []
        #: The homes of all users, by name.
        self.homes: dict[str, Inode] = {}
        self.paths: dict[Inode, str] = {self.root: ""}

    # ------------------------------------------------------------ looking

    def walk(self, path: str) -> Inode:
        """The directory or file of this path, as the server has it."""
        inode = self.root
        for part in path.split("/"):
            if part:
                try:
                    inode = inode.children()[part]
                except KeyError:
                    raise fault(errno.ENOENT, path) from None
        return inode

    def name_of(self, inode: Inode) -> str:
        """What a history calls a file."""
        return self.paths.get(inode) or f"#{inode.number}"

    # ------------------------------------------------------------ changing

    def _touch(self, directory: Inode) -> None:
        directory.change += 1
        directory.mtime_ns = self.clock_ns()

    def _set(self, directory: Inode, name: str, inode: Inode | None) -> Inode | None:
        """Gives a name to an inode, or to none; whoever had it before."""
        entries = directory.children()
        before = entries.get(name)
        if inode is None:
            entries.pop(name, None)
        else:
            entries[name] = inode
        self._touch(directory)
        self._changes.append((self.paths[directory], name, inode))
        return before

    def _done(self) -> None:
        changes, self._changes = self._changes, []
        self.on_change(changes)

    def _journaled(self, touched: tuple[Inode, ...], undo: Callable[[], None]) -> None:
        if self.journals:
            self._write_back()
            self._journal.append((self.clock_ns(), touched, undo))

    def _write_back(self) -> None:
        before_ns = self.clock_ns() - int(WRITE_BACK_S * 1e9)
        done = 0
        while done < len(self._journal) and self._journal[done][0] < before_ns:
            done += 1
        del self._journal[:done]

    def create(self, directory: Inode, name: str, mode: int, owner: int, *, is_directory: bool) -> Inode:
        """A new, empty file or directory. Raises EEXIST."""
        if name in directory.children():
            raise fault(errno.EEXIST)
        self._numbers += 1
        kind = stat.S_IFDIR if is_directory else stat.S_IFREG
        inode = Inode(self._numbers, kind | mode, owner, {} if is_directory else None)
        inode.mtime_ns = self.clock_ns()
        path = self.paths[directory]
        self._set(directory, name, inode)
        if is_directory:
            self.paths[inode] = f"{path}/{name}"

        def undo() -> None:
            self._set(directory, name, None)

        self._journaled((directory, inode), undo)
        self._done()
        return inode

    def link(self, inode: Inode, directory: Inode, name: str) -> None:
        """A further name. Raises EEXIST, or ESTALE for what has no name any more."""
        if name in directory.children():
            raise fault(errno.EEXIST)
        if not inode.links:
            raise fault(errno.ESTALE)
        self._set(directory, name, inode)
        inode.links += 1

        def undo() -> None:
            self._set(directory, name, None)
            inode.links -= 1

        self._journaled((directory, inode), undo)
        self._done()

    def unlink(self, directory: Inode, name: str, by: object) -> None:
        """Takes a name away. Raises ENOENT, EISDIR."""
        inode = directory.children().get(name)
        if inode is None:
            raise fault(errno.ENOENT)
        if inode.is_directory:
            raise fault(errno.EISDIR)
        self._set(directory, name, None)
        inode.links -= 1
        inode.removed_by = by

        def undo() -> None:
            self._set(directory, name, inode)
            inode.links += 1

        self._journaled((directory, inode), undo)
        self._done()

    def rmdir(self, directory: Inode, name: str) -> None:
        """Takes an empty directory away. Raises ENOENT, ENOTEMPTY."""
        inode = directory.children().get(name)
        if inode is None:
            raise fault(errno.ENOENT)
        if inode.children():
            raise fault(errno.ENOTEMPTY)
        self._set(directory, name, None)

        def undo() -> None:
            self._set(directory, name, inode)

        self._journaled((directory,), undo)
        self._done()

    def rename(self, source: Inode, old: str, target: Inode, new: str, by: object) -> None:
        """rename(2). Raises ENOENT, or ENOTEMPTY for a directory that is not empty."""
        inode = source.children().get(old)
        if inode is None:
            raise fault(errno.ENOENT)
        replaced = target.children().get(new)
        if replaced is inode:
            return
        if replaced is not None and replaced.is_directory:
            if not inode.is_directory:
                raise fault(errno.EISDIR)
            if replaced.children():
                raise fault(errno.ENOTEMPTY)
        elif replaced is not None and inode.is_directory:
            raise fault(errno.ENOTDIR)
        self._set(source, old, None)
        self._set(target, new, inode)
        if inode.is_directory:
            self.paths[inode] = f"{self.paths[target]}/{new}"
        if replaced is not None and not replaced.is_directory:
            replaced.links -= 1
            replaced.removed_by = by

        def undo() -> None:
            self._set(target, new, replaced)
            self._set(source, old, inode)
            if inode.is_directory:
                self.paths[inode] = f"{self.paths[source]}/{old}"
            if replaced is not None and not replaced.is_directory:
                replaced.links += 1

        self._journaled((source, target, inode), undo)
        self._done()

    def write(self, inode: Inode, data: bytes) -> None:
        """The whole content of a file, as far as the server was sent it."""
        inode.data = data
        inode.mtime_ns = self.clock_ns()
        if self.journals and not inode.is_synced:
            self._unsynced.append(inode)

    def sync(self, inode: Inode) -> None:
        """fsync(2): the content of a file, or the names in a directory, survive a crash from now on."""
        inode.is_synced = True
        for place in range(len(self._journal) - 1, -1, -1):
            if inode in self._journal[place][1]:
                del self._journal[: place + 1]
                return

    def crash(self) -> int:
        """What was not durable may be lost; how many operations were taken back."""
        self._write_back()
        keep = self.rng.randint(0, len(self._journal))
        lost = self._journal[keep:]
        for _, _, undo in reversed(lost):
            undo()
        self._done()
        self._journal.clear()
        for inode in self._unsynced:
            if not inode.is_synced and self.rng.random() < 0.7:
                inode.data = inode.data[: self.rng.choice((0, 0, len(inode.data) // 2))]
        self._unsynced.clear()
        return len(lost)
