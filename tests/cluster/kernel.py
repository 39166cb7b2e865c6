"""Namespaces, mounts and cgroups: the few system calls that Python has no function for.

Called by box and nfsim. It knows nothing of nodes or homes.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
import select

NEWNS = 0x00020000
NEWUTS = 0x04000000
NEWIPC = 0x08000000
NEWPID = 0x20000000
NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18

MNT_FORCE = 1
MNT_DETACH = 2

PR_SET_NAME = 15

SETGROUPS = {"x86_64": 116, "aarch64": 159, "riscv64": 159, "ppc64le": 81, "s390x": 206}

libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    _check(libc.unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    _check(libc.setns(fd, kind), "setns")


def set_hostname(name: str) -> None:
    _check(libc.sethostname(name.encode(), len(name.encode())), "sethostname")


def set_process_name(name: str) -> None:
    """The name that ps shows, at most 15 bytes."""
    libc.prctl(PR_SET_NAME, name.encode()[:15], 0, 0, 0)


def mount(source: str | None, target: str, kind: str | None = None, flags: int = 0, data: str = "") -> None:
    def raw(text: str | None) -> bytes | None:
        return None if text is None else os.fsencode(text)

    result = libc.mount(raw(source), raw(target), raw(kind), ctypes.c_ulong(flags), raw(data))
    _check(result, f"mount {source} on {target}")


def bind(source: str, target: str, *, recursive: bool = False) -> None:
    mount(source, target, None, MS_BIND | (MS_REC if recursive else 0))


def make_mounts_private() -> None:
    """From here on no mount of this namespace is seen outside, and none from outside arrives."""
    mount(None, "/", None, MS_REC | MS_PRIVATE)


def umount(target: str, flags: int = MNT_DETACH) -> None:
    _check(libc.umount2(os.fsencode(target), flags), f"umount {target}")


def become(uid: int, gid: int, groups: tuple[int, ...]) -> None:
    """Let the calling thread, and only it, use files as this user."""
    # The bare call: libc's setgroups() signals every thread, and one may sleep where no signal reaches it.
    ids = (ctypes.c_uint32 * max(1, len(groups)))(*groups)
    _check(libc.syscall(SETGROUPS[platform.machine()], len(groups), ids), "setgroups")
    libc.setfsgid(gid)
    libc.setfsuid(uid)


def become_root() -> None:
    libc.setfsuid(0)
    libc.setfsgid(0)


def close_all_but(*keep: int) -> None:
    """Close every descriptor except 0, 1, 2 and those given: what a forked helper must not hold open."""
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd > 2 and fd not in keep:
            # The descriptor of the listing itself is closed already.
            with contextlib.suppress(OSError):
                os.close(fd)


def ended(pid: int, timeout: float) -> bool:
    """Wait until a child has ended, for at most `timeout` seconds. It is left to be reaped."""
    fd = os.pidfd_open(pid)
    try:
        waiting = select.poll()
        waiting.register(fd, select.POLLIN)
        return bool(waiting.poll(int(timeout * 1000)))
    finally:
        os.close(fd)


@functools.cache
def cgroup2_root() -> str | None:
    """Where cgroup2 is mounted: alone at /sys/fs/cgroup, or beside version 1 in /sys/fs/cgroup/unified."""
    with open("/proc/self/mounts") as mounts:
        for line in mounts:
            fields = line.split()
            if fields[2] == "cgroup2":
                return fields[1]
    return None


def one_cpu_per_core() -> frozenset[int]:
    """Of the CPUs that we may use the first of each core: on these nobody finds spare threads."""
    mine = os.sched_getaffinity(0)
    found = set()
    for cpu in mine:
        try:
            with open(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") as file:
                ends = [part.partition("-") for part in file.read().split(",")]
            siblings = {n for first, _, last in ends for n in range(int(first), int(last or first) + 1)}
        except (OSError, ValueError):
            siblings = {cpu}
        found.add(min(siblings & mine, default=cpu))
    return frozenset(found)


def cgroup_tree(path: str) -> list[str]:
    """A cgroup and everything below it, the deepest first."""
    return [directory for directory, _, _ in os.walk(path, topdown=False)]


def cgroup_write(path: str, file: str, text: str) -> None:
    with open(f"{path}/{file}", "w") as f:
        f.write(text)


def cgroup_pids(path: str) -> list[int]:
    try:
        with open(f"{path}/cgroup.procs") as f:
            # 0 stands for a process of a PID namespace that is not below ours.
            return [int(word) for word in f.read().split() if word != "0"]
    except OSError:
        return []
