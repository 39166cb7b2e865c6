"""What a machine must offer to have clusters. Called by box and plugin."""

from __future__ import annotations

import functools
import os

from tests.cluster import kernel


@functools.cache
def missing() -> str:
    """What this machine lacks to have clusters; empty if nothing."""
    if os.geteuid() != 0:
        return "root"
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        return f"/dev/fuse ({error.strerror})"
    root = kernel.cgroup2_root()
    if root is None:
        return "cgroup2"
    probe = os.path.join(root, f"rqprobe.{os.getpid()}")
    try:
        os.mkdir(probe)
        freezes = os.path.exists(os.path.join(probe, "cgroup.freeze"))
        os.rmdir(probe)
    except OSError as error:
        return f"a cgroup2 of its own in {root} ({error.strerror})"
    if not freezes:
        return "a cgroup2 that can freeze"
    if not os.path.isdir("/opt"):
        return "a directory /opt to mount on"
    return "" if _may_unshare() else "the right to make namespaces, and a root directory that is a mount"


def _may_unshare() -> bool:
    pid = os.fork()
    if pid == 0:
        try:
            kernel.unshare(kernel.NEWNS | kernel.NEWUTS | kernel.NEWIPC | kernel.NEWPID | kernel.NEWNET)
            kernel.make_mounts_private()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0
