"""A control group of version 2 that is delegated to the tests, and processes that begin in it."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
from typing import TYPE_CHECKING, TypeVar

from tests import rights
from tests.cluster import kernel
from tests.cluster.scratch import Scratch
from tests.cluster.wait import wait_until
from tests.world.processes import on_stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")
#: A number that no account of the machine has.
UID = 20_077
PR_SET_DUMPABLE = 4


@functools.cache
def _makes_groups() -> bool:
    root = kernel.cgroup2_root()
    if root is None:
        return False
    probe = f"{root}/rqbox.probe-{os.getpid()}"
    try:
        os.mkdir(probe)
        os.rmdir(probe)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def group(*, owner: int | None = None, says_so: bool = False) -> Iterator[str]:
    """The directory of a new control group: given to an owner, as systemd does, or marked as delegated."""
    rights.need(_makes_groups(), "root and cgroup2, to make control groups")
    scratch = Scratch(cgroup=True)
    try:
        path = scratch.cgroup
        if says_so:
            os.setxattr(path, "user.delegate", b"1")
        if owner is not None:
            for name in ("", "/cgroup.procs", "/cgroup.threads", "/cgroup.subtree_control"):
                os.chown(path + name, owner, owner)
        yield path
    finally:
        scratch.remove()


def on_stage_in(path: str, act: Callable[[], T], uid: int = UID) -> T:
    """What `act` returns, played as this user by a subreaper in this control group."""

    def enter() -> T:
        with open(f"{path}/cgroup.procs", "w") as file:
            file.write("0")
        if uid:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            # As after an exec: our own files in /proc are ours.
            kernel.libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
        return act()

    return on_stage(enter)


@contextlib.contextmanager
def memory(most: int) -> Iterator[str]:
    """The file into which a process writes 0 to share so many bytes of memory, at most, with others there."""
    v1, v2 = "/sys/fs/cgroup/memory", kernel.cgroup2_root()
    name = f"rqbox.memory-{os.getpid()}"
    if os.path.exists(f"{v1}/memory.limit_in_bytes"):
        path, limit = f"{v1}/{name}", "memory.limit_in_bytes"
    else:
        path, limit = f"{v2}/{name}", "memory.max"
    try:
        os.mkdir(path)
    except OSError as error:
        rights.need(False, f"root and control groups of memory ({error.strerror})")
    try:
        if not os.path.exists(f"{path}/{limit}"):
            rights.need(False, "the memory controller of control groups")
        kernel.cgroup_write(path, limit, str(most))
        yield f"{path}/cgroup.procs"
    finally:
        for pid in kernel.cgroup_pids(path):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: _removed(path))


def _removed(path: str) -> bool:
    with contextlib.suppress(OSError):
        os.rmdir(path)
    return not os.path.isdir(path)
