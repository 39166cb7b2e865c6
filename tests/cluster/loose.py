"""A mount without atomic rename, as WebDAV and some of SMB are: what nodes do, others learn late.

Started by machine for a Cluster with fs="loose". Every node works on the same backing directory, as with
nfsim, and sees at once what it does itself. Of a file that another node made, moved or removed it learns
within `late` seconds (an option of that node's mount), of each half of a move at a time of its own, which a
seed decides. Until then

    a listing does not show the new name, and shows the old one;
    the old name can be opened, and reads as it did;
    for the first WINDOW of that time the old name can be renamed once more, and both renames succeed:
    the file is there under both new names;
    the new name cannot be opened.

There are no hard links. Directories are seen at once, and so is the new content of a name that is replaced.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import random
import shutil
import stat
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tests.cluster import kernel, nfs, nfsim

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.cache import Inode, Options
    from tests.cluster.faults import Listing
    from tests.cluster.fuse import Request

#: The part of the time for which an old name is seen in which it can be renamed, too. After it the name is
#: listed, but a rename fails.
WINDOW = 0.8
#: Larger files are not records; they are gone at once for everybody.
GHOST_BYTES_MAX = 1 << 20
#: Listed numbers of such files begin here.
GHOST_INODES = 1 << 40
GONE, MADE = "gone", "made"


@dataclass(frozen=True)
class Change:
    """What one node did: the name that went, the name that came, "" for none. Paths below the mount."""

    serial: int
    at: float
    node: str
    gone: str
    made: str
    #: Whether the name that came had been there before.
    replaced: bool
    #: A copy of what went.
    ghost: str
    #: After how many seconds everybody knows.
    late: float


class Journal:
    """All changes, in the order in which they really happened; one file for all nodes of a cluster."""

    def __init__(self, directory: str, node: str, options: Options) -> None:
        self.node, self.options = node, options
        self.ghosts = os.path.join(directory, "ghosts")
        with contextlib.suppress(FileExistsError):
            os.mkdir(self.ghosts, 0o700)
        self._fd = os.open(os.path.join(directory, "journal"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._read = 0
        self._serial = 0
        self._by_name: dict[str, list[tuple[Change, str]]] = {}
        self._by_directory: dict[str, set[str]] = {}

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else changes anything meanwhile."""
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            self.refresh()
            yield
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def refresh(self) -> None:
        """Takes note of what is new."""
        size = os.fstat(self._fd).st_size
        if size == self._read:
            return
        data = os.pread(self._fd, size - self._read, self._read)
        # The last line may still be being written.
        data = data[: data.rindex(b"\n") + 1] if b"\n" in data else b""
        self._read += len(data)
        for line in data.splitlines():
            change = Change(**json.loads(line))
            self._serial = change.serial + 1
            for half, path in ((GONE, change.gone), (MADE, change.made)):
                if path:
                    self._by_name.setdefault(path, []).append((change, half))
                    self._by_directory.setdefault(os.path.dirname(path), set()).add(path)

    def note(self, *, gone: str = "", made: str = "", replaced: bool = False, ghost: str = "") -> None:
        """Writes down what has just been done by this node. Only while `locked`."""
        late = self.options.late
        change = Change(self._serial, time.monotonic(), self.node, gone, made, replaced, ghost, late)
        os.pwrite(self._fd, json.dumps(asdict(change)).encode() + b"\n", self._read)
        self.refresh()

    def keep(self, source: str) -> str:
        """Keeps a copy of what is about to go; its path, or "" if it is nothing to keep."""
        status = os.stat(source)
        if not stat.S_ISREG(status.st_mode) or status.st_size > GHOST_BYTES_MAX:
            return ""
        ghost = os.path.join(self.ghosts, f"{self._serial}.{self.node}")
        copy(source, ghost)
        return ghost

    def view(self, path: str) -> bool | Change | None:
        """Whether this node sees the name; a Change if it is what went then; None if it sees the truth."""
        changes = self._by_name.get(path)
        if not changes:
            return None
        now = time.monotonic()
        if all(now - change.at > change.late for change, _ in changes):
            del self._by_name[path]
            self._by_directory[os.path.dirname(path)].discard(path)
            return None
        first, half = changes[0]
        is_seen = half == GONE or first.replaced
        went: Change | None = None
        for change, half in changes:
            if self._is_known(change, half, now):
                is_seen, went = half == MADE, None
            elif half == GONE and went is None:
                went = change
        is_there = changes[-1][1] == MADE
        if is_seen and not is_there:
            return went or False
        return is_seen

    def names(self, directory: str) -> list[str]:
        """The names in a directory that changed lately."""
        return list(self._by_directory.get(directory, ()))

    def _is_known(self, change: Change, half: str, now: float) -> bool:
        if change.node == self.node:
            return True
        chance = random.Random(f"{self.options.seed} {change.serial} {half} {self.node}")
        # Mostly as late as may be.
        part = 1.0 if chance.random() < 0.6 else chance.random()
        return now - change.at >= part * change.late


def copy(source: str, target: str) -> None:
    """A copy of a file with its owner, mode and times."""
    shutil.copyfile(source, target)
    status = os.stat(source)
    os.chown(target, status.st_uid, status.st_gid)
    os.chmod(target, stat.S_IMODE(status.st_mode))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


class Client(nfs.Client):
    """One node's view of the directory."""

    journal: Journal

    def _below(self, directory: Inode, name: bytes) -> str:
        return os.path.join(self.path_of(directory), os.fsdecode(name))

    def _real(self, path: str) -> str:
        return os.path.join(self.backing, path)

    def op_lookup(self, directory: Inode, request: Request) -> bytes:
        self.journal.refresh()
        (name,) = request.names
        seen = self.journal.view(self._below(directory, name))
        if seen is False:
            raise OSError(errno.ENOENT, "not known here yet")
        if isinstance(seen, Change) and seen.ghost:
            kernel.become_root()
            return self._entry(directory, name, os.open(seen.ghost, os.O_PATH | os.O_CLOEXEC))
        return super().op_lookup(directory, request)

    def op_link(self, directory: Inode, request: Request) -> bytes:  # noqa: ARG002
        raise OSError(errno.EOPNOTSUPP, "no links")

    def op_create(self, directory: Inode, request: Request) -> bytes:
        path = self._below(directory, request.names[0])
        with self.journal.locked():
            was_there = _mode(directory, request.names[0]) is not None
            answer = super().op_create(directory, request)
            if not was_there:
                self.journal.note(made=path)
        return answer

    def op_unlink(self, directory: Inode, request: Request) -> bytes:
        path = self._below(directory, request.names[0])
        with self.journal.locked():
            ghost = self._keep(path, request)
            answer = super().op_unlink(directory, request)
            self.journal.note(gone=path, ghost=ghost)
        return answer

    def op_rename(self, directory: Inode, request: Request) -> bytes:
        target = self._other(request)
        if target is None:
            raise OSError(errno.ESTALE, "unknown node")
        old, new = (self._below(*at) for at in zip((directory, target), request.names, strict=True))
        if stat.S_ISDIR(_mode(directory, request.names[0]) or 0):
            return super().op_rename(directory, request)
        with self.journal.locked():
            seen = self.journal.view(old)
            if seen is False:
                raise OSError(errno.ENOENT, "not known here yet")
            replaced = _mode(target, request.names[1]) is not None
            if isinstance(seen, Change):
                if not seen.ghost or time.monotonic() - seen.at > WINDOW * seen.late:
                    raise OSError(errno.ENOENT, "gone")
                if any(os.fstat(at.fd).st_uid != request.uid for at in (directory, target)):
                    raise OSError(errno.EACCES, "only in directories of one's own")
                self._rename_again(seen, self._real(new))
                ghost = seen.ghost
            else:
                ghost = self._keep(old, request)
                super().op_rename(directory, request)
            self.journal.note(gone=old, made=new, replaced=replaced, ghost=ghost)
        return b""

    def _keep(self, path: str, request: Request) -> str:
        kernel.become_root()
        try:
            return self.journal.keep(self._real(path))
        except FileNotFoundError:
            return ""
        finally:
            self._become_caller(request)

    def _rename_again(self, gone: Change, target: str) -> None:
        kernel.become_root()
        second = f"{gone.ghost}.{self.journal.node}"
        copy(gone.ghost, second)
        os.rename(second, target)

    def as_seen(self, directory: str, listing: Listing) -> Listing:
        """What the server lists, as this node sees it."""
        self.journal.refresh()
        there = {os.fsdecode(name) for name, _, _ in listing}
        for path in self.journal.names(directory):
            name, seen = os.path.basename(path), self.journal.view(path)
            if seen is False and name in there:
                listing = [entry for entry in listing if os.fsdecode(entry[0]) != name]
            elif isinstance(seen, Change) and name not in there and seen.ghost:
                listing = [*listing, (os.fsencode(name), GHOST_INODES + seen.serial, nfs.DT_REG)]
        return listing


def _mode(directory: Inode, name: bytes) -> int | None:
    """The mode of what is really there, None for nothing."""
    try:
        return os.stat(name, dir_fd=directory.fd, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return None


class Simulator(nfsim.Simulator):
    """Serves such a mount; faults work as with nfsim. `shared` is a directory that all its nodes share."""

    client_type = Client
    _client: Client

    def __init__(
        self, backing: str, mountpoint: str, options: Options, *, shared: str, node: str, **more: Any
    ) -> None:
        # Nothing is believed for any time: what is late is late here alone.
        options.change("noac", 1)
        super().__init__(backing, mountpoint, options, **more)
        self._client.journal = Journal(shared, node, options)

    def _distort(self, path: str, uid: int, listing: Listing) -> Listing:
        return super()._distort(path, uid, self._client.as_seen(path, listing))
