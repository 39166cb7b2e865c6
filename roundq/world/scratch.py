"""A directory of its own for the temporary files of one process and what it starts, on the node's own disk.

In a place such as /tmp, where others may make names, too: so they lie in a directory that only this user
can enter. Its name says for whom it was made, so that what the dead left is found and removed. Whatever lies
in it was made by programs that nobody checked; no link in it is followed, no other file system entered.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from roundq.words.job import Identity
from roundq.world import mounts, nodelock, owners, procs

#: Where the daemon's environment says nothing else.
USUAL = "/tmp"
_NAME = re.compile("(~?)([0-9]{1,10})-([0-9]{1,20})-([0-9a-f]{8})-([0-9a-f]{8})")
#: What begins so is to be removed; nobody is told of it any more.
_GONE = "~"
#: Deeper directories are moved up before they are entered: each level holds descriptors.
_DEPTH_MOST = 100


class Scratch(NamedTuple):
    """The directory of one process; while it is open, the descriptor holds a lock for cleaners to see."""

    path: str
    descriptor: int


class Left(NamedTuple):
    """A directory that lies there, and the process for which it was made; of another boot if that differs."""

    path: str
    process: Identity


def place_of(environ: Mapping[str, str], configured: str = "", *, is_job: bool = False) -> str:
    """In which directory they are made: what is configured, or where TMPDIR points, or /tmp.

    In a job TMPDIR is the job's own, and ends with it.
    """
    told = environ.get("TMPDIR", "")
    return configured or (os.path.normpath(told) if os.path.isabs(told) and not is_job else USUAL)


def make(place: str, spool_path: str, process: Identity) -> Scratch:
    """Makes the directory of this process. Raises OSError, whose strerror is one sentence for people."""
    if why := unfit(place):
        raise PermissionError(errno.EPERM, why, place)
    # Others are looked for only if there is need: the place may have thousands of names.
    usual = nodelock.usual_directory(place)
    directories = [usual] if usual else nodelock.own_directories(place) or nodelock.made_directories((place,))
    if not directories:
        raise PermissionError(errno.EACCES, "no directory can be made in it", place)
    try:
        return _made(directories[0], _name(spool_path, process))
    except OSError as error:
        raise OSError(error.errno, os.strerror(error.errno or 0), place) from None


def unfit(place: str) -> str:
    """Why a place is unsafe, or cannot be used; empty if it can."""
    try:
        status = os.stat(place)
    except OSError as error:
        return os.strerror(error.errno or 0)
    if not stat.S_ISDIR(status.st_mode):
        return "it is no directory"
    # Whoever may rename what lies in it can put something else in its place.
    if status.st_uid not in (0, os.geteuid()):
        return f"it belongs to uid {status.st_uid}"
    if status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX:
        return "others may write to it, and it has no sticky bit (chmod +t)"
    return ""


def put_away(made: Scratch) -> str:
    """Takes it from its path, and gives the lock up; the path where it is removed, which may take long."""
    os.close(made.descriptor)
    directory, name = os.path.split(made.path)
    aside = f"{directory}/{_GONE}{name}"
    try:
        os.rename(made.path, aside)
    except OSError:
        return made.path
    return aside


def left(place: str, spool_path: str) -> list[Left]:
    """The directories that lie in a place, of the processes of this spool, living and dead."""
    return [Left(path, process) for path, process, digest in _all(place) if digest == _digest(spool_path)]


def remove(path: str) -> bool:
    """Removes a directory that was made here, and all that is in it; whether nothing is left.

    Where something is mounted in it, nothing is touched: it may be what others live on.
    """
    if any(point == path or point.startswith(f"{path}/") for point in mounts.points()):
        return False
    directory, name = os.path.split(path)
    try:
        parent = owners.opened(directory, os.geteuid())
    except OSError:
        return False
    try:
        _Tree(parent).remove_from(parent, name)
        try:
            os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return True
        return False
    finally:
        os.close(parent)


# ---------------------------------------------------------------- names


@functools.cache
def _digest(spool_path: str) -> str:
    return hashlib.sha256(os.fsencode(os.path.realpath(spool_path))).hexdigest()[:8]


def _boot(boot: str) -> str:
    return re.sub("[^0-9a-f]", "", boot)[:8].rjust(8, "0")


def _name(spool_path: str, process: Identity) -> str:
    # Short: a socket in it has room for some 50 characters more (unix(7)).
    return f"{process.pid}-{process.start}-{_boot(process.boot)}-{_digest(spool_path)}"


def _all(place: str) -> Iterator[tuple[str, Identity, str]]:
    here = procs.boot_id()
    for directory in nodelock.own_directories(place):
        try:
            names = os.listdir(directory)
        except OSError:
            continue
        for name in sorted(names):
            if found := _NAME.fullmatch(name):
                boot = here if found[4] == _boot(here) else found[4]
                yield f"{directory}/{name}", Identity(boot, int(found[2]), int(found[3])), found[5]


def _made(directory: str, name: str) -> Scratch:
    parent = owners.opened(directory, os.geteuid())
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
        # Whatever the mask of new files says; nobody else can have put a link here.
        os.chmod(name, 0o700, dir_fd=parent)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, dir_fd=parent)
    finally:
        os.close(parent)
    with contextlib.suppress(OSError):
        # systemd-tmpfiles(8) leaves alone what somebody has locked, however old it is.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return Scratch(f"{directory}/{name}", descriptor)


# ---------------------------------------------------------------- removing


class _Tree:
    """What is removed: a directory with all below it that is on the file system of the one above it."""

    def __init__(self, above: int) -> None:
        self._device = os.fstat(above).st_dev
        self._top = -1
        self._has_moved = False

    def remove_from(self, above: int, name: str) -> None:
        """Removes it. What cannot be removed stays, with all that leads to it."""
        top = self._opened(above, name)
        if top is None:
            # A file in the place of the directory is not ours to judge.
            return
        self._top = top
        try:
            self._has_moved = self._is_to_go(top)
            while self._has_moved:
                self._has_moved = False
                self._empty(top, 0)
        finally:
            os.close(top)
        self._without(above, name, os.rmdir)

    def _remove(self, above: int, name: str, depth: int) -> bool:
        """Removes a directory; whether it did."""
        child = self._opened(above, name)
        if child is None:
            return False
        try:
            if not self._is_to_go(child):
                return False
            self._empty(child, depth)
        finally:
            os.close(child)
        return self._without(above, name, os.rmdir)

    def _is_to_go(self, directory: int) -> bool:
        """Whether a directory is on the file system of the one above; if so, its owner may do all in it."""
        status = os.fstat(directory)
        if status.st_dev != self._device:
            return False
        if ~status.st_mode & stat.S_IRWXU:
            # Where it can only be listed, what is in it can neither be opened nor given other rights.
            with contextlib.suppress(OSError):
                os.fchmod(directory, stat.S_IRWXU)
        return True

    def _empty(self, directory: int, depth: int) -> None:
        is_less = True
        # A file system may skip some of what it lists while names are removed.
        while is_less:
            is_less = False
            with os.scandir(directory) as entries:
                for entry in entries:
                    is_less |= self._removed(directory, entry, depth)

    def _removed(self, directory: int, entry: os.DirEntry[str], depth: int) -> bool:
        if not entry.is_dir(follow_symlinks=False):
            return self._without(directory, entry.name, os.unlink)
        if depth < _DEPTH_MOST:
            return self._remove(directory, entry.name, depth + 1)
        return self._moved_up(directory, entry.name)

    def _moved_up(self, directory: int, name: str) -> bool:
        aside = f"{_GONE}{os.urandom(8).hex()}"
        with contextlib.suppress(OSError):
            # To move it is to write to it.
            os.chmod(name, 0o700, dir_fd=directory)
        try:
            os.rename(name, aside, src_dir_fd=directory, dst_dir_fd=self._top)
        except OSError:
            return False
        self._has_moved = True
        return True

    def _opened(self, above: int, name: str) -> int | None:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        for _ in range(2):
            try:
                return os.open(name, flags, dir_fd=above)
            except PermissionError:
                # Its owner may have forbidden it to himself.
                with contextlib.suppress(OSError):
                    os.chmod(name, 0o700, dir_fd=above)
            except OSError:
                break
        return None

    @staticmethod
    def _without(directory: int, name: str, call: Callable[..., None]) -> bool:
        for _ in range(2):
            try:
                call(name, dir_fd=directory)
                return True
            except PermissionError:
                # A directory that is not to be written to, as caches of modules are.
                with contextlib.suppress(OSError):
                    os.fchmod(directory, 0o700)
            except OSError:
                break
        return False
