"""One daemon per user, spool and node: a lock on files that only this node sees.

flock(2) on node-local file systems: the kernel drops it at the holder's death,
whatever killed it. Never on the shared home, where locks may be local, remote or
neither (roundqueue(7), ASSUMPTIONS). In every place that there is, not in one: a
stranger may block one of them while the first daemon starts, and a cleaner may empty
one later, but whoever holds any of them keeps everybody else from holding all.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import itertools
import json
import os
import stat
from collections.abc import Iterable

from roundq.words.errors import RoundqError
from roundq.words.job import Identity
from roundq.words.record_format import identity_dict, to_identity
from roundq.world import files, procs

#: Tried in this order by every process alike. /run/user/UID would be nearer, but is
#: removed at logout while a daemon without lingering may still run.
PLACES = ("/tmp", "/var/tmp", "/dev/shm")
#: More than an identity has.
_BYTES_MAX = 4096


class NodeLock:
    """The lock of one spool on this node, held by at most one living process."""

    def __init__(self, spool_path: str, places: tuple[str, ...] = PLACES) -> None:
        digest = hashlib.sha256(os.fsencode(os.path.realpath(spool_path))).hexdigest()[:16]
        self._places, self._file = places, f"{digest}.lock"
        self._descriptors: dict[str, int] = {}

    def acquire(self) -> bool:
        """Takes the lock if nobody has it; whether this process has it now.

        Raises RoundqError if there is no place for it.
        """
        if self.is_held():
            return True
        self.release()
        tried: set[str] = set()
        try:
            # Until there is none that is not held: while it was looked, another may have made one.
            while paths := [path for path in self._usable() if path not in tried]:
                tried.update(paths)
                for path in paths:
                    try:
                        descriptor = _locked(path)
                    except OSError:
                        # Full, or without locks: a place as good as none.
                        continue
                    if descriptor is None:
                        self.release()
                        return False
                    self._descriptors[path] = descriptor
        except BaseException:
            self.release()
            raise
        if not self._descriptors:
            raise RoundqError(
                "no place for the lock of this node's daemon can be used: "
                + ", ".join(map(_directory, self._places)),
                "one of these must be yours alone, with room: see `ls -ld /tmp/roundq-*` and `df /tmp`",
            )
        mine = json.dumps(identity_dict(procs.own_identity())).encode()
        for descriptor in self._descriptors.values():
            # Only so that others can say who it is: a full disk must not keep the daemon from running.
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, mine, 0)
        return True

    def _usable(self) -> list[str]:
        """The paths of the lock in all directories that are this user's alone.

        Everybody knows their usual name, and a stranger may have taken it in every place, so that this user
        could run nothing: then they are made by names that nobody guesses, which others of this user find.
        """
        found = [directory for place in self._places for directory in own_directories(place)]
        return [f"{directory}/{self._file}" for directory in found or made_directories(self._places)]

    def is_held(self) -> bool:
        """Whether this process holds a lock that others would find: a cleaner may have removed its files."""
        held = False
        for path, descriptor in self._descriptors.items():
            with contextlib.suppress(OSError):
                # Renewed, so that no cleaner takes it for old.
                os.utime(descriptor)
                held |= _is_there(path, descriptor)
        return held

    def release(self) -> None:
        """Gives the lock up. The files stay: removing them would let two processes lock two files."""
        for descriptor in self._descriptors.values():
            # This process lives on: it must not be named as the holder.
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, 0)
            os.close(descriptor)
        self._descriptors = {}

    def holder(self) -> Identity | None:
        """The living process that said it holds the lock, None if there is none.

        By what it wrote, not by trying the lock: for that moment nobody else could take it.
        """
        # Those that a stranger made necessary are looked for only if there is need.
        usual = (_directory(place) for place in self._places)
        unusual = (directory for place in self._places for directory in _unusual(place))
        for directory in itertools.chain(usual, unusual):
            path = f"{directory}/{self._file}"
            try:
                found = to_identity(json.loads(files.read(path, most=_BYTES_MAX, owner=os.geteuid())))
            except (OSError, RoundqError, ValueError, KeyError, TypeError, RecursionError):
                continue
            if found is not None and procs.liveness(found) is not procs.Liveness.DEAD:
                return found
        return None


def _locked(path: str) -> int | None:
    """A descriptor that holds the lock of the file of this name, None if another process holds it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # It may have been removed between open and lock; whoever made the new one may hold that.
            if _is_there(path, descriptor):
                return descriptor
        except OSError as error:
            os.close(descriptor)
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return None
            raise
        os.close(descriptor)


def usable_places(places: tuple[str, ...] = PLACES) -> list[str]:
    """The places that can have this user's locks; a daemon that starts here finds the same."""
    return [place for place in places if own_directories(place)] or [
        place for place in places if os.access(place, os.W_OK | os.X_OK, effective_ids=True)
    ]


def _directory(place: str) -> str:
    return f"{place}/roundq-{os.geteuid()}"


def usual_directory(place: str) -> str | None:
    """The directory in a place that everybody expects to be this user's, for locks and `scratch`.

    It is made if it can be; None if it is somebody else's.
    """
    directory = _directory(place)
    with contextlib.suppress(OSError):
        os.mkdir(directory, 0o700)
    return directory if _is_own(directory) else None


def own_directories(place: str) -> list[str]:
    """All directories in a place that are this user's own, the usual one first. Lists the place."""
    usual = usual_directory(place)
    others = [directory for directory in _unusual(place) if _is_own(directory)]
    return others if usual is None else [usual, *others]


def made_directories(places: Iterable[str]) -> list[str]:
    """A new directory in each place where one can be made, of a name that nobody guesses."""
    made = []
    for place in places:
        with contextlib.suppress(OSError):
            directory = f"{_directory(place)}.{os.urandom(8).hex()}"
            os.mkdir(directory, 0o700)
            made.append(directory)
    return made


def _unusual(place: str) -> list[str]:
    """The directories of names that were not to be guessed, of whoever they are."""
    begin = f"{os.path.basename(_directory(place))}."
    try:
        return [f"{place}/{name}" for name, _ in files.listing(place) if name.startswith(begin)]
    except OSError:
        return []


def _is_there(path: str, descriptor: int) -> bool:
    try:
        mine, there = os.fstat(descriptor), os.lstat(path)
    except FileNotFoundError:
        return False
    return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)


def _is_own(directory: str) -> bool:
    """Whether a directory is this user's own, and nobody else can write to it."""
    try:
        status = os.lstat(directory)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022
