"""The inside of a node: what the two forked helpers do that make a machine of some namespaces.

`serve_homes()` is the life of the process that is the node's view of /home, `be_init()` that of PID 1: it
builds the machine around itself, then reaps. Both end when the test process ends, whose pipe they hold.
Called by node.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import struct
from typing import TYPE_CHECKING, Any, NoReturn

from tests.cluster import kernel, loose, nfsim
from tests.cluster.runtime import runtime

if TYPE_CHECKING:
    from tests.cluster.box import Cluster
    from tests.cluster.node import Node

SIOCSIFFLAGS = 0x8914
IFF_UP_RUNNING = 0x1 | 0x40

# What every machine has for itself, empty after a boot. /tmp is the last: all else comes from below it.
EMPTY = {"/run": "755", "/dev/shm": "1777", "/var/tmp": "1777", "/tmp": "1777"}


def serve_homes(node: Node, ready: int) -> None:
    """Mount the homes in a mount namespace of its own and serve them."""
    c = node.cluster
    log = os.open(node.log_path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    _become_helper("nfsim", log, ready, c.owner)
    kernel.cgroup_write(c.cgroup, "cgroup.procs", "0")
    kernel.unshare(kernel.NEWNS)
    kernel.make_mounts_private()
    groups = {user.uid: user.groups for user in c.users.values()}
    more: dict[str, Any] = {"control": node.control_path, "groups": groups}
    simulator = (
        loose.Simulator(c.server, node.homes, c.options(), shared=c.directory, node=node.name, **more)
        if c.fs == "loose"
        else nfsim.Simulator(c.server, node.homes, c.options(), **more)
    )
    simulator.run(ready, c.owner)


def be_init(node: Node, homes_namespace: int, ready: int) -> NoReturn:
    """Build the machine; tell `ready` when it is up; then do what PID 1 does."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    _become_helper("init", null, ready, node.cluster.owner, homes_namespace)
    kernel.cgroup_write(node.cgroup, "cgroup.procs", "0")
    if homes_namespace >= 0:
        kernel.setns(homes_namespace, kernel.NEWNS)
        os.close(homes_namespace)
    kernel.unshare(kernel.NEWNS | kernel.NEWUTS | kernel.NEWIPC | kernel.NEWNET)
    kernel.set_hostname(node.hostname)
    kernel.make_mounts_private()
    _mount_all(node.cluster, node)
    _bring_up_loopback()
    os.chdir("/")
    os.write(ready, b"1")
    os.close(ready)
    _reap_until_hangup(node.cluster.owner)


def _mount_all(c: Cluster, node: Node) -> None:
    kernel.bind(c.server if c.fs == "local" else node.homes, "/home")
    if c.etc is not None:
        kernel.bind(c.etc, "/etc")
    for name in ("passwd", "group"):
        kernel.bind(os.path.join(c.directory, "etc", name), f"/etc/{name}")
    for name in ("hostname", "machine-id", "hosts"):
        if os.path.exists(f"/etc/{name}"):
            kernel.bind(os.path.join(node.etc, name), f"/etc/{name}")
    for source, target in c.binds.items():
        kernel.bind(source, target, recursive=True)
    runtime().mount(c.ledger)
    kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    kernel.bind(os.path.join(node.etc, "boot_id"), "/proc/sys/kernel/random/boot_id")
    if c.memory:
        kernel.bind(os.path.join(node.etc, "meminfo"), "/proc/meminfo")
    for path, mode in EMPTY.items():
        kernel.mount("tmpfs", path, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, f"mode={mode},size=512m")
    os.mkdir("/run/lock")
    os.chmod("/run/lock", 0o1777)
    os.mkdir("/run/user")
    for user in c.users.values():
        os.mkdir(f"/run/user/{user.uid}", 0o700)
        os.chown(f"/run/user/{user.uid}", user.uid, user.uid)


def _become_helper(name: str, output: int, *keep: int) -> None:
    """Turn a fork of the test process into something that has nothing to do with it."""
    for fd in (0, 1, 2):
        os.dup2(output, fd)
    kernel.close_all_but(*keep)
    os.setsid()
    os.umask(0o022)
    kernel.set_process_name(f"rqbox-{name}")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_IGN)


def _bring_up_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        fcntl.ioctl(s, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP_RUNNING))


def _reap_until_hangup(owner: int) -> NoReturn:
    """What PID 1 does: wait for the dead, and die when the other end of the pipe `owner` is closed."""
    child_ended, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    poll = select.poll()
    poll.register(owner, 0)
    poll.register(child_ended, select.POLLIN)
    while True:
        events = dict(poll.poll())
        if owner in events:
            os._exit(0)
        os.read(child_ended, 4096)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass
