"""Directories (with a cgroup of the same name) that are swept when their owner has died.

A test run that is killed cannot tidy up. So each directory is held by a flock that the kernel drops at death,
and the next run removes every directory that nobody holds, its cgroup, and what is left alive in that.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import tempfile
import time

from tests.cluster import kernel

PREFIX = "rqbox."


class Scratch:
    """One directory of this process, and the cgroup beside it if `cgroup` is set."""

    def __init__(self, *, cgroup: bool = False) -> None:
        base = tempfile.gettempdir()
        new = tempfile.mkdtemp(prefix=".new-" + PREFIX, dir=base)
        self._lock = os.open(new, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        # Visible to a sweep only once it is held.
        self.path = os.path.join(base, PREFIX + os.path.basename(new).rpartition(".")[2])
        os.rename(new, self.path)
        self.cgroup = _cgroup_of(self.path)
        if cgroup:
            os.mkdir(self.cgroup)

    def remove(self) -> None:
        _remove(self.path)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def sweep() -> list[str]:
    """Remove what dead owners left behind; return the names."""
    base = tempfile.gettempdir()
    swept = []
    for name in os.listdir(base):
        path = os.path.join(base, name)
        if not name.startswith(PREFIX):
            continue
        try:
            lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            if os.fstat(lock).st_uid != os.geteuid():
                continue
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(path)
            swept.append(name)
        except BlockingIOError:
            pass  # Its owner lives.
        finally:
            os.close(lock)
    return swept


def _cgroup_of(path: str) -> str:
    return os.path.join(kernel.cgroup2_root() or "/nonexistent", os.path.basename(path))


def _remove(path: str) -> None:
    _remove_cgroup(_cgroup_of(path))
    shutil.rmtree(path, ignore_errors=True)


def _remove_cgroup(path: str, timeout: float = 3.0) -> None:
    """Kill everything in a cgroup, frozen or stopped, and remove it; give up after `timeout` seconds."""
    end = time.monotonic() + timeout
    while os.path.isdir(path):
        for directory in kernel.cgroup_tree(path):
            for pid in kernel.cgroup_pids(directory):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            # It fails while something in it is still dying.
            with contextlib.suppress(OSError):
                os.rmdir(directory)
        if time.monotonic() > end:
            return
        if os.path.isdir(path):
            time.sleep(0.01)
