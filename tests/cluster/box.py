"""A cluster in a box: `Cluster` and its `Node`s.

    with Cluster(nodes=3, users=("ann", "bob"), fsopts="acdirmin=2,acdirmax=4") as c:
        c["n1"].run(["rq", "list"], user="ann")
        c["n2"].fault(op="rename", match="waiting/", errno="ENOENT", when="after", count=1)
        c["n2"].partition(); c["n2"].heal()
        c["n3"].crash(); c["n3"].start()

A node is a set of UTS, PID, mount, IPC and network namespaces with its own host name, /proc, /tmp, /run,
/dev/shm, /etc/{passwd,group,hostname,hosts,machine-id}, boot id and cgroup. Its network has nothing but lo.
All nodes share one /home, which each sees through its own nfsim. Processes of a node are children of the test
and run under real user ids.

Nothing is mounted outside of the namespaces, so nothing is left mounted. Every helper holds the end of a pipe
that breaks when the test process dies, and dies then too; what was frozen at that time is swept by the next
run (scratch). Needs root, /dev/fuse and cgroup2: `missing()` says what is not there.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import select
import signal
import socket
import struct
import subprocess
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, NoReturn

from tests.cluster import faults, kernel, nfsim, scratch
from tests.cluster.cache import Options
from tests.cluster.runtime import INSIDE, PATH, runtime
from tests.cluster.scratch import Scratch
from tests.cluster.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

FIRST_UID = 20001
FIRST_GROUP = 30001

# A helper that does not come up or go away within this time never will.
PATIENCE_S = 10.0

SIOCSIFFLAGS = 0x8914
IFF_UP_RUNNING = 0x1 | 0x40


@dataclass(frozen=True)
class User:
    """A user of all nodes, with a group of the same name and number and perhaps others."""

    name: str
    uid: int
    groups: tuple[int, ...]

    @property
    def home(self) -> str:
        return f"/home/{self.name}" if self.uid else "/root"


class Node:
    """One machine. It is off until start()."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.name = name
        self.machine_id = uuid.uuid4().hex
        self.boot_id = ""
        self.boots = 0
        self.directory = os.path.join(cluster.directory, name)
        self.log_path = os.path.join(self.directory, "nfsim.log")
        self._home = os.path.join(self.directory, "home")
        self._control = os.path.join(self.directory, "nfsim.control")
        self._cgroup = os.path.join(cluster.cgroup, name)
        self._init_pid = 0
        self._nfsim_pid = 0
        self._nfsim_mounts = -1
        self._namespaces: list[tuple[int, int]] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        os.makedirs(self._home)
        os.mkdir(os.path.join(self.directory, "etc"))

    def __repr__(self) -> str:
        return f"<Node {self.name}, {'on' if self.is_on else 'off'}, boot {self.boots}>"

    # ------------------------------------------------------------------ on and off

    @property
    def is_on(self) -> bool:
        return self._init_pid != 0

    def start(self) -> Node:
        """Boot: a new boot id, an empty /tmp and /run."""
        if self.is_on:
            raise RuntimeError(f"{self.name} is on")
        self.boots += 1
        self.boot_id = str(uuid.uuid4())
        os.makedirs(self._cgroup, exist_ok=True)
        self._write_etc()
        if self.cluster.fs == "nfs":
            self._start_nfsim()
        try:
            self._start_init()
        except BaseException:
            self._kill_nfsim()
            raise
        return self

    def stop(self, grace_s: float = 0.0) -> None:
        """Shut down in order: SIGTERM to all if there is a grace, SIGKILL, then flush the homes."""
        if not self.is_on:
            return
        self.thaw()
        if self._nfsim_pid:
            # Should nfsim be dead, killing the processes is all the more in place.
            with contextlib.suppress(OSError, ValueError):
                self.fs(partition=False, rules=[], release=True)
        if grace_s:
            self._terminate(grace_s)
        self._kill_processes()
        self._quit_nfsim()

    def crash(self) -> None:
        """Lose power: no signal handler runs, nothing is flushed. Another start() is a reboot."""
        if not self.is_on:
            return
        self._freeze(True)  # Nobody may see the file system go away.
        self._kill_nfsim()
        self._kill_processes()

    def reboot(self) -> Node:
        """Lose power and come back."""
        self.crash()
        return self.start()

    # ------------------------------------------------------------------ faults

    def freeze(self) -> None:
        """Stop everything at once, as a machine that is suspended; thaw() lets it go on."""
        self._freeze(True)
        if self._nfsim_pid:
            os.kill(self._nfsim_pid, signal.SIGSTOP)

    def thaw(self) -> None:
        if self._nfsim_pid:
            os.kill(self._nfsim_pid, signal.SIGCONT)
        self._freeze(False)

    def partition(self) -> None:
        """The home server does not answer this node any more. What was cached is still seen."""
        self.fs(partition=True)

    def heal(self) -> None:
        self.fs(partition=False)

    def fault(self, **rule: Any) -> None:
        """Add a rule by which the homes misbehave on this node, see faults."""
        self.fs(add=rule)

    def clear_faults(self) -> None:
        """No rules any more, and nothing hangs by one."""
        self.fs(rules=[], release=True)

    def fs(self, **message: Any) -> dict[str, Any]:
        """Send a message to the nfsim of this node and return its state, see faults.control()."""
        return faults.control(self._control, **message)

    # ------------------------------------------------------------------ processes

    def popen(
        self,
        argv: Sequence[str],
        user: str = "root",
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: int | IO[bytes] = subprocess.DEVNULL,
        stdout: int | IO[bytes] | None = None,
        stderr: int | IO[bytes] | None = None,
        new_session: bool = True,
    ) -> subprocess.Popen[bytes]:
        """Start a process inside the node as if the user had logged in; its .pid is the pid outside.

        `env` is added to a login's environment. Without a `cwd` it starts in the user's home.
        """
        if not self.is_on:
            raise RuntimeError(f"{self.name} is off")
        account = self.cluster.user(user)
        directory = cwd or (account.home if account.uid else "/")
        pid_namespace, *namespaces = self._namespaces
        cgroup = os.open(os.path.join(self._cgroup, "cgroup.procs"), os.O_WRONLY | os.O_CLOEXEC)

        def enter() -> None:
            os.write(cgroup, b"0")
            for fd, kind in namespaces:
                kernel.setns(fd, kind)
            os.setgroups(account.groups)
            os.setresgid(account.uid, account.uid, account.uid)
            os.setresuid(account.uid, account.uid, account.uid)
            os.umask(0o022)
            os.chdir(directory)

        try:
            with self.cluster.forking:  # Children of this thread are born inside the node, for a moment.
                kernel.setns(*pid_namespace)
                try:
                    process = subprocess.Popen(
                        list(argv),
                        preexec_fn=enter,
                        env=self.environment(user) | dict(env or {}),
                        stdin=stdin,
                        stdout=stdout,
                        stderr=stderr,
                        start_new_session=new_session,
                    )
                finally:
                    kernel.setns(self.cluster.pid_namespace, kernel.NEWPID)
        finally:
            os.close(cgroup)
        self._processes = [p for p in self._processes if p.poll() is None] + [process]
        return process

    def run(
        self,
        argv: Sequence[str],
        user: str = "root",
        *,
        timeout: float = 60.0,
        check: bool = False,
        input: str | None = None,  # noqa: A002 - as in subprocess.run()
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        merge: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end inside the node; like subprocess.run(), with captured text.

        It lasts until nobody has the output open any more: a daemon that keeps it open makes this time out.
        `merge` puts what it says on stderr into stdout.
        """
        process = self.popen(
            argv,
            user,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if merge else subprocess.PIPE,
        )
        try:
            out, err = process.communicate(None if input is None else input.encode(), timeout=timeout)
        except BaseException:
            process.kill()
            raise
        done = subprocess.CompletedProcess(list(argv), process.returncode, _text(out), _text(err))
        if check and done.returncode:
            raise AssertionError(
                f"{self.name}: {argv} ended with {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done

    def python(
        self, code: str, *args: str, user: str = "root", timeout: float = 60.0, cwd: str | None = None
    ) -> str:
        """Run a bit of Python inside the node (standard library only) and return what it prints."""
        argv = [f"{INSIDE}/bin/python", "-S", "-c", code, *args]
        return self.run(argv, user, timeout=timeout, check=True, cwd=cwd, merge=True).stdout

    def environment(self, user: str) -> dict[str, str]:
        """What a fresh login of this user would have in its environment."""
        account = self.cluster.user(user)
        login = {"HOME": account.home, "USER": user, "LOGNAME": user, "SHELL": "/bin/sh"}
        return login | {"PATH": PATH, "LANG": "C.UTF-8"} | self.cluster.env

    def pids(self) -> list[int]:
        """All processes of the node but its PID 1, as pids outside."""
        return [pid for pid in kernel.cgroup_pids(self._cgroup) if pid != self._init_pid]

    def pids_of(self, user: str) -> list[int]:
        """The processes of one user on this node."""
        uid, found = self.cluster.user(user).uid, []
        for pid in self.pids():
            try:
                if os.stat(f"/proc/{pid}").st_uid == uid:
                    found.append(pid)
            except FileNotFoundError:
                pass
        return found

    # ------------------------------------------------------------------ how it starts

    def _write_etc(self) -> None:
        for name, text in (
            ("hostname", self.name),
            ("machine-id", self.machine_id),
            ("boot_id", self.boot_id),
            ("hosts", f"127.0.0.1 localhost\n127.0.1.1 {self.name}"),
        ):
            with open(os.path.join(self.directory, "etc", name), "w") as f:
                f.write(text + "\n")

    def _start_nfsim(self) -> None:
        ready, ready_write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(ready)
                self._be_nfsim(ready_write)
            finally:
                os._exit(0)
        os.close(ready_write)
        if _read_all(ready) != b"1":
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise RuntimeError(f"nfsim of {self.name} did not start:\n{self.log()}")
        self._nfsim_pid = pid
        self._nfsim_mounts = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)

    def _be_nfsim(self, ready: int) -> None:
        """The life of the forked process that serves the homes of this node."""
        log = os.open(self.log_path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        _become_helper("nfsim", log, ready, self.cluster.owner)
        kernel.cgroup_write(self.cluster.cgroup, "cgroup.procs", "0")
        kernel.unshare(kernel.NEWNS)
        kernel.make_mounts_private()
        c = self.cluster
        groups = {user.uid: user.groups for user in c.users.values()}
        simulator = nfsim.Simulator(c.server, self._home, c.options(), control=self._control, groups=groups)
        simulator.run(ready, c.owner)

    def _start_init(self) -> None:
        ready, ready_write = os.pipe()
        with self.cluster.forking:
            kernel.unshare(kernel.NEWPID)  # For the next child, not for us.
            pid = -1
            try:
                pid = os.fork()
            finally:
                if pid:
                    kernel.setns(self.cluster.pid_namespace, kernel.NEWPID)
        if pid == 0:
            try:
                os.close(ready)
                self._be_init(ready_write)
            except BaseException as error:
                os.write(ready_write, repr(error).encode())
            finally:
                os._exit(1)
        os.close(ready_write)
        if (said := _read_all(ready)) != b"1":
            os.waitpid(pid, 0)
            raise RuntimeError(f"{self.name} did not start: {said.decode()}")
        self._init_pid = pid
        # In this order: entering the mount namespace takes what the others do not need any more.
        self._namespaces = [
            (os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC), kind)
            for name, kind in (
                ("pid", kernel.NEWPID),
                ("uts", kernel.NEWUTS),
                ("ipc", kernel.NEWIPC),
                ("net", kernel.NEWNET),
                ("mnt", kernel.NEWNS),
            )
        ]

    def _be_init(self, ready: int) -> NoReturn:
        """The life of PID 1: build the machine, then reap until the owner dies."""
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        mounts = self._nfsim_mounts
        _become_helper("init", null, ready, self.cluster.owner, mounts)
        kernel.cgroup_write(self._cgroup, "cgroup.procs", "0")
        if mounts >= 0:
            kernel.setns(mounts, kernel.NEWNS)
            os.close(mounts)
        kernel.unshare(kernel.NEWNS | kernel.NEWUTS | kernel.NEWIPC | kernel.NEWNET)
        kernel.set_hostname(self.name)
        kernel.make_mounts_private()
        self._mount_all()
        _bring_up_loopback()
        os.chdir("/")
        os.write(ready, b"1")
        os.close(ready)
        _reap_until_hangup(self.cluster.owner)

    def _mount_all(self) -> None:
        c = self.cluster
        if c.fs == "nfs":
            kernel.bind(self._home, "/home")
        else:
            kernel.bind(c.server, "/home")
        for name in ("passwd", "group"):
            kernel.bind(os.path.join(c.directory, "etc", name), f"/etc/{name}")
        for name in ("hostname", "machine-id", "hosts"):
            if os.path.exists(f"/etc/{name}"):
                kernel.bind(os.path.join(self.directory, "etc", name), f"/etc/{name}")
        for source, target in c.binds.items():
            kernel.bind(source, target, recursive=True)
        runtime().mount(c.ledger)
        kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
        kernel.bind(os.path.join(self.directory, "etc", "boot_id"), "/proc/sys/kernel/random/boot_id")
        # /tmp comes last, since all of the above comes from below it.
        for path, mode in (("/run", "755"), ("/dev/shm", "1777"), ("/var/tmp", "1777"), ("/tmp", "1777")):
            kernel.mount("tmpfs", path, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, f"mode={mode},size=512m")
        os.mkdir("/run/lock")
        os.chmod("/run/lock", 0o1777)
        os.mkdir("/run/user")
        for user in c.users.values():
            os.mkdir(f"/run/user/{user.uid}", 0o700)
            os.chown(f"/run/user/{user.uid}", user.uid, user.uid)

    # ------------------------------------------------------------------ how it ends

    def _freeze(self, on: bool) -> None:
        try:
            kernel.cgroup_write(self._cgroup, "cgroup.freeze", "1" if on else "0")
        except FileNotFoundError:
            return

        def is_done() -> bool:
            with open(os.path.join(self._cgroup, "cgroup.events")) as f:
                return f"frozen {int(on)}" in f.read()

        # A process that waits for its homes freezes when they answer.
        with contextlib.suppress(AssertionError):
            wait_until(is_done, 0.5, every=0.001)

    def _terminate(self, grace_s: float) -> None:
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

        def nobody() -> bool:
            self._processes = [p for p in self._processes if p.poll() is None]
            return not self.pids()

        with contextlib.suppress(AssertionError):
            wait_until(nobody, grace_s)

    def _kill_processes(self) -> None:
        """Kill PID 1, which takes all others along."""
        os.kill(self._init_pid, signal.SIGKILL)
        kernel.cgroup_write(self._cgroup, "cgroup.freeze", "0")
        end = time.monotonic() + PATIENCE_S
        for process in self._processes:  # PID 1 ends when its children are reaped, and these are ours.
            try:
                process.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._kill_nfsim()  # It hangs on its homes, which can only be because nfsim does.
                process.wait(PATIENCE_S)
        self._processes = []
        if not kernel.ended(self._init_pid, PATIENCE_S):
            self._kill_nfsim()
        os.waitpid(self._init_pid, 0)
        self._init_pid = 0
        for fd, _ in self._namespaces:
            os.close(fd)
        self._namespaces = []

    def _quit_nfsim(self) -> None:
        """Have nfsim write everything to the server and end."""
        if not self._nfsim_pid:
            return
        try:
            self.fs(quit=True)
            kernel.ended(self._nfsim_pid, PATIENCE_S)
        except (OSError, ValueError):
            pass
        self._kill_nfsim()

    def _kill_nfsim(self) -> None:
        pid, mounts = self._nfsim_pid, self._nfsim_mounts
        self._nfsim_pid, self._nfsim_mounts = 0, -1
        if not pid:
            return
        os.kill(pid, signal.SIGKILL)
        if not kernel.ended(pid, 0.2):
            # One of its threads waits for a lock that is held by a process that waits for it. Only the kernel
            # can tell both that nothing will come any more: a forced unmount does.
            _in_mounts(mounts, lambda: kernel.umount(self._home, kernel.MNT_FORCE))
        os.waitpid(pid, 0)
        os.close(mounts)

    def log(self) -> str:
        """What nfsim had to complain of; empty if all is well."""
        try:
            with open(self.log_path) as f:
                return f.read()
        except FileNotFoundError:
            return ""


class Cluster:
    """Some nodes, some users, one /home.

    nodes:     how many (n1, n2, ...) or their names
    users:     names; each gets an account on all nodes and a home
    groups:    more groups and their members, as {"lab": ("ann", "bob")}
    fs:        "nfs", or "local": /home without anything between, for comparison
    fsopts:    mount options of the homes, see cache.Options
    home_mode: of the homes that are made
    env:       added to the environment of every process
    binds:     more things to mount inside, {outside: inside}; what is mounted on must exist
    """

    def __init__(
        self,
        nodes: int | Sequence[str] = 3,
        users: Sequence[str] = ("ann", "bob", "cyd"),
        *,
        groups: Mapping[str, Sequence[str]] | None = None,
        fs: str = "nfs",
        fsopts: str | Mapping[str, Any] = "",
        home_mode: int = 0o755,
        env: Mapping[str, str] | None = None,
        binds: Mapping[str, str] | None = None,
    ) -> None:
        if reason := missing():
            raise RuntimeError(f"no cluster without {reason}")
        if fs not in ("nfs", "local"):
            raise ValueError(f"fs is nfs or local, not {fs!r}")
        scratch.sweep()
        runtime()
        self.fs = fs
        self.env = dict(env or {})
        self.binds = dict(binds or {})
        self._fsopts = fsopts
        self.options()  # A misspelled option is told here, not in the log of a helper.
        self.forking = threading.RLock()
        self.pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self.owner, self._owner_write = os.pipe()
        self._scratch = Scratch(cgroup=True)
        self.directory = self._scratch.path
        self.cgroup = self._scratch.cgroup
        self.server = self._make_directory("server", 0o755)
        self.ledger = self._make_directory("ledger", 0o1777)
        self.users = self._make_users(users, groups or {}, home_mode)
        names = [f"n{i + 1}" for i in range(nodes)] if isinstance(nodes, int) else nodes
        self.nodes = {name: Node(self, name) for name in names}

    def start(self) -> Cluster:
        for node in self:
            node.start()
        return self

    def stop_nodes(self, grace_s: float = 0.0) -> None:
        """Shut all nodes down; homes and logs stay."""
        for node in self:
            node.stop(grace_s)

    def stop(self) -> None:
        """Stop all nodes and remove every trace."""
        try:
            self.stop_nodes()
        finally:
            os.close(self._owner_write)  # What has not gone by now goes now.
            os.close(self.owner)
            os.close(self.pid_namespace)
            self._scratch.remove()

    def __enter__(self) -> Cluster:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes.values())

    def user(self, name: str) -> User:
        return User("root", 0, (0,)) if name == "root" else self.users[name]

    def options(self) -> Options:
        """The mount options that nodes start with."""
        return Options.parse(self._fsopts)

    def home(self, user: str) -> str:
        """A user's home as the server has it: the truth, without any cache."""
        return os.path.join(self.server, user)

    def _make_directory(self, name: str, mode: int) -> str:
        path = os.path.join(self.directory, name)
        os.mkdir(path)
        os.chmod(path, mode)
        return path

    def _make_users(
        self, names: Sequence[str], groups: Mapping[str, Sequence[str]], home_mode: int
    ) -> dict[str, User]:
        passwd, group = _slurp("/etc/passwd"), _slurp("/etc/group")
        gids = {name: FIRST_GROUP + i for i, name in enumerate(groups)}
        for name, gid in gids.items():
            group += f"{name}:x:{gid}:{','.join(groups[name])}\n"
        users = {}
        for i, name in enumerate(names):
            uid = FIRST_UID + i
            mine = (uid, *(gids[g] for g, members in groups.items() if name in members))
            users[name] = User(name, uid, mine)
            passwd += f"{name}:x:{uid}:{uid}::/home/{name}:/bin/sh\n"
            group += f"{name}:x:{uid}:\n"
            home = os.path.join(self.server, name)
            os.mkdir(home)
            os.chown(home, uid, uid)
            os.chmod(home, home_mode)
        etc = self._make_directory("etc", 0o755)
        for file, text in (("passwd", passwd), ("group", group)):
            with open(os.path.join(etc, file), "w") as f:
                f.write(text)
            os.chmod(os.path.join(etc, file), 0o644)
        return users


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
    return "" if _may_unshare() else "the right to make namespaces"


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


def _become_helper(name: str, output: int, *keep: int) -> None:
    """Turn a fork of the test process into something that has nothing to do with it."""
    for fd in (0, 1, 2):
        os.dup2(output, fd)
    kernel.close_all_but(*keep)
    os.setsid()
    kernel.set_process_name(f"rqbox-{name}")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_IGN)


def _in_mounts(namespace: int, action: Any) -> None:
    """Do something in another mount namespace, in a child."""
    pid = os.fork()
    if pid == 0:
        try:
            kernel.setns(namespace, kernel.NEWNS)
            action()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


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


def _read_all(fd: int) -> bytes:
    """What a helper says until it closes its end."""
    said = b""
    while chunk := os.read(fd, 4096):
        said += chunk
    os.close(fd)
    return said


def _text(data: bytes | None) -> str:
    return (data or b"").decode(errors="replace")


def _slurp(path: str) -> str:
    with open(path) as f:
        return f.read()
