"""Waiting for changes in directories: when to look, never what changed.

Called by the daemon and by commands that wait. Polling is the base, since inotify(7) is blind to
what other machines do on a network file system; inotify only makes local changes be seen at once.
So everything here may fail quietly: whoever waits must look anyway when the time is up.
"""

from __future__ import annotations

import errno
import os
import select
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from roundq.world import owners

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable

#: After the first event, this long for the rest of a burst to arrive, in seconds.
_BURST_S = 0.01
# <linux/inotify.h>, written out so that importing this module does not import the package.
_CLOSE_WRITE, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x8, 0x40, 0x80, 0x100, 0x200
_DELETE_SELF, _MOVE_SELF, _UNMOUNT, _OVERFLOW, _IGNORED = 0x400, 0x800, 0x2000, 0x4000, 0x8000
_ONLY_DIRECTORIES = 0x1000000
_INTEREST = (
    _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _DELETE_SELF | _MOVE_SELF | _ONLY_DIRECTORIES
)
#: The path may mean another directory by now.
_GONE = _DELETE_SELF | _MOVE_SELF | _UNMOUNT | _IGNORED
#: A directory that is not there, or not ours to read: normal, and tried again.
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ESTALE, errno.ELOOP)


class Watcher:
    """Wakes its one thread when something happens in one of its directories."""

    def __init__(self) -> None:
        self._inotify: Any = None
        #: Every directory asked for, with its watch, None while it cannot be watched.
        self._watches: dict[str, int | None] = {}
        #: Directories that came into being, or were replaced, since the last wait.
        self._returned: set[str] = set()
        #: Those that are watched from afar, see `adopt`.
        self._adopted: set[str] = set()
        self._blind: dict[str, str] = {}

    @property
    def blind(self) -> str | None:
        """Why inotify does not see every directory that is there, in words; None if it does."""
        return next(iter(self._blind.values()), None)

    def watch(self, path: str) -> None:
        """Watch this directory from now on; it may vanish and come back.

        To be called again before each look: a directory that was replaced, perhaps by another
        machine, is then followed; for one that is still the same nothing changes. On NFS a name
        that was asked for before it exists stays invisible for a while: watch what was listed.
        """
        self._adopted.discard(path)
        self._watched(path, self._add(path))

    def adopt(self, path: str, watch: int | None) -> None:
        """As `watch`, for a path that this process must not touch: another one has called `add`.

        `watch` is what that returned there, None if it failed.
        """
        self._adopted.add(path)
        self._watched(path, watch)

    def has(self, path: str) -> bool:
        """Whether this path was given to `watch` or `adopt`."""
        return path in self._watches

    def add(self, path: str, *, within: int | None = None) -> int:
        """Has the kernel watch a directory; its number. Raises OSError. For a child of this process.

        Which directory a path means is found out by whoever calls this; it may sleep meanwhile. With `within`
        it must be this user's, see `owners.opened`.
        """
        descriptor = -1 if within is None else owners.opened(path, within)
        try:
            what = path if within is None else f"/proc/self/fd/{descriptor}"
            watch: int = self._instance().add_watch(what, _INTEREST)
            return watch
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def descriptor(self) -> int | None:
        """What a child that calls `add` must have inherited; None without inotify."""
        try:
            number: int = self._instance().fileno()
        except (OSError, ImportError):
            return None
        return number

    def _watched(self, path: str, watch: int | None) -> None:
        known, previous = path in self._watches, self._watches.get(path)
        self._watches[path] = watch
        if known and watch is not None and watch != previous:
            self._returned.add(path)
        if previous is not None and watch != previous:
            self._remove(previous)

    def keep(self, paths: Iterable[str]) -> None:
        """Forget every directory but these."""
        for path in self._watches.keys() - set(paths):
            watch = self._watches.pop(path)
            self._adopted.discard(path)
            self._returned.discard(path)
            self._blind.pop(path, None)
            if watch is not None:
                self._remove(watch)

    def wait(self, timeout_s: float, fds: Iterable[int] = ()) -> set[str]:
        """Wait until something happens in a watched directory or one of `fds` is readable.

        Returns the directories, as they were given; events within 10 ms of each other are one. Empty
        after `timeout_s` seconds, when a descriptor woke us, which the caller then reads, and rarely
        for no reason.
        """
        for path in [path for path, watch in self._watches.items() if watch is None]:
            if path not in self._adopted:
                self.watch(path)
        # What came back may have been filled before we looked.
        touched, self._returned = self._returned, set()
        poller = select.poll()
        for descriptor in fds:
            poller.register(descriptor, select.POLLIN)
        own = -1
        if self._inotify is not None:
            own = self._inotify.fileno()
            poller.register(own, select.POLLIN)
        ready = {
            descriptor for descriptor, _ in poller.poll(0 if touched else max(0, round(timeout_s * 1000)))
        }
        if own in ready:
            if ready == {own}:
                # Further events do not prolong this; a signal descriptor ends it.
                poller.unregister(own)
                poller.poll(round(_BURST_S * 1000))
            touched |= self._read()
        return touched

    def close(self) -> None:
        """Forget all directories. The watcher may be used again."""
        if self._inotify is not None:
            self._inotify.close()
        self._inotify = None
        self._watches.clear()
        self._returned.clear()
        self._adopted.clear()
        self._blind.clear()

    def __enter__(self) -> Watcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------ leaves

    def _instance(self) -> Any:
        if self._inotify is None:
            import inotify_simple

            self._inotify = inotify_simple.INotify(nonblocking=True)
        return self._inotify

    def _add(self, path: str) -> int | None:
        try:
            watch = self.add(path)
        except (OSError, ImportError) as error:
            number = getattr(error, "errno", None)
            if number in _ABSENT:
                self._blind.pop(path, None)
            else:
                self._blind[path] = _blindness(number, error)
            return None
        self._blind.pop(path, None)
        return watch

    def _remove(self, watch: int) -> None:
        # Two paths may lead to one directory and have one watch.
        if watch not in self._watches.values():
            try:
                self._inotify.rm_watch(watch)
            except OSError as error:
                # EINVAL: the kernel has removed it already, since its directory is gone.
                if error.errno != errno.EINVAL:
                    raise

    def _read(self) -> set[str]:
        touched: set[str] = set()
        gone: set[int] = set()
        for event in self._inotify.read(timeout=0):
            if event.mask & _OVERFLOW:
                touched |= self._watches.keys()
            touched |= {path for path, watch in self._watches.items() if watch == event.wd}
            if event.mask & _GONE:
                gone.add(event.wd)
        for watch in gone:
            for path in [path for path, known in self._watches.items() if known == watch]:
                self._watches[path] = None
            self._remove(watch)
        return touched


def _blindness(number: int | None, error: Exception) -> str:
    """Why there is no inotify, and which limit to raise, see inotify(7)."""
    if number == errno.ENOSPC:
        return "inotify: this user has no watches left (fs.inotify.max_user_watches)"
    if number == errno.EMFILE:
        return "inotify: this user has no instances or descriptors left (fs.inotify.max_user_instances)"
    return f"inotify: {os.strerror(number) if number else error}"


def limit(name: str, root: str = "") -> int | None:
    """A limit of inotify(7), such as `max_user_watches`; None if it cannot be told."""
    try:
        with open(f"{root}/proc/sys/fs/inotify/{name}", encoding="ascii") as file:
            return int(file.read(32))
    except (OSError, ValueError):
        return None


@dataclass
class Rhythm:
    """How long to wait until the next look: soon after activity, seldom when nothing happens.

    Intervals are in seconds, between `least_s` and `most_s`, and each is shortened by up to the share
    `jitter`, since the daemons of N users on M nodes ask one file server. Pure: chance is passed in.
    """

    least_s: float
    most_s: float
    random: random.Random
    factor: float = 1.5
    jitter: float = 0.2
    _interval_s: float = field(init=False)

    def __post_init__(self) -> None:
        if not 0 < self.least_s <= self.most_s:
            raise ValueError(f"no rhythm between {self.least_s} and {self.most_s} seconds")
        self._interval_s = self.least_s

    def active(self) -> None:
        """Something happened: look again soon."""
        self._interval_s = self.least_s

    def next_s(self) -> float:
        """The seconds until the next look. Each call lengthens those that follow."""
        interval_s = self._interval_s
        self._interval_s = min(self.most_s, interval_s * self.factor)
        return max(self.least_s, interval_s * (1 - self.jitter * self.random.random()))
