"""One daemon per user, spool and node: a lock on a file that only this node sees.

flock(2) on a node-local file system: the kernel drops it at the holder's death,
whatever killed it. Never on the shared home, where locks may be local, remote or
neither (roundqueue(7), ASSUMPTIONS).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import stat

from roundq.words.errors import RoundqError
from roundq.words.job import Identity, identity_dict, to_identity
from roundq.world import procs

#: Tried in this order by every process alike. /run/user/UID would be nearer, but is
#: removed at logout while a daemon without lingering may still run.
PLACES = ("/tmp", "/var/tmp", "/dev/shm")


class NodeLock:
    """The lock of one spool on this node, held by at most one living process."""

    def __init__(self, spool_path: str, places: tuple[str, ...] = PLACES) -> None:
        digest = hashlib.sha256(os.fsencode(os.path.realpath(spool_path))).hexdigest()[:16]
        self.path = f"{_directory(places)}/{digest}.lock"
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Takes the lock if nobody has it; whether this process has it now."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise
        self._descriptor = descriptor
        if not self.is_held():
            # The file was removed between open and lock; whoever made the new one may hold that.
            self.release()
            return self.acquire()
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(identity_dict(procs.own_identity())).encode(), 0)
        return True

    def is_held(self) -> bool:
        """Whether this process holds the lock that others would find: a cleaner may have removed its file."""
        if self._descriptor is None:
            return False
        with contextlib.suppress(FileNotFoundError):
            mine, there = os.fstat(self._descriptor), os.lstat(self.path)
            # Renewed, so that no cleaner takes it for old.
            os.utime(self._descriptor)
            return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)
        return False

    def release(self) -> None:
        """Gives the lock up. The file stays: removing it would let two processes lock two files."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def holder(self) -> Identity | None:
        """The living process that said it holds the lock, None if there is none."""
        try:
            with open(self.path, "rb") as file:
                # A shared lock is refused exactly while somebody holds the exclusive one.
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    return None
                except OSError:
                    pass
                found = to_identity(json.loads(file.read(4096)))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return found if found and procs.liveness(found) is not procs.Liveness.DEAD else None


def _directory(places: tuple[str, ...]) -> str:
    """A directory of this user's own, that nobody else can write to, on this node."""
    for place in places:
        path = f"{place}/roundq-{os.geteuid()}"
        with contextlib.suppress(FileExistsError, OSError):
            os.mkdir(path, 0o700)
        with contextlib.suppress(OSError):
            status = os.lstat(path)
            if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022:
                return path
    raise RoundqError(
        f"no place for the lock of this node's daemon in {', '.join(places)}",
        f"make one of them writable, or remove what stands there as roundq-{os.geteuid()}",
    )
