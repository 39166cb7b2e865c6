"""`Node`: one machine of a cluster, seen from outside: switch it on and off, break it, run things on it.

Made by box.Cluster. What happens inside is in machine. Processes started here are children of the test.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

from tests.cluster import faults, kernel, machine
from tests.cluster.hand import Hand
from tests.cluster.runtime import INSIDE, PATH
from tests.cluster.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cluster.box import Cluster

# A helper that does not come up or go away within this time never will.
PATIENCE_S = 10.0
#: Of proc(5), meminfo: what is read of memory.
MEMORY = ("MemTotal", "MemFree", "MemAvailable", "Buffers", "Cached")


class Node:
    """One machine. It is off until start()."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.name = name
        #: May be changed while it is off: a machine that bears the name of another.
        self.hostname = name
        self.machine_id = uuid.uuid4().hex
        self.boot_id = ""
        self.boots = 0
        self.directory = os.path.join(cluster.directory, name)
        self.etc = os.path.join(self.directory, "etc")
        self.log_path = os.path.join(self.directory, "nfsim.log")
        self.homes = os.path.join(self.directory, "home")
        self.control_path = os.path.join(self.directory, "nfsim.control")
        self.cgroup = os.path.join(cluster.cgroup, name)
        self._init_pid = 0
        self._nfsim_pid = 0
        self._homes_namespace = -1
        self._namespaces: list[tuple[int, int]] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        os.makedirs(self.homes)
        os.mkdir(self.etc)

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
        os.makedirs(self.cgroup, exist_ok=True)
        self._write_etc()
        if self.cluster.fs != "local":
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
        return faults.control(self.control_path, **message)

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

        `env` is added to a login's environment. Without a `cwd` it starts in the user's home, and so do not
        leave it out where the homes may hang: this waits until the process has begun.
        """
        if not self.is_on:
            raise RuntimeError(f"{self.name} is off")
        account = self.cluster.user(user)
        directory = cwd or (account.home if account.uid else "/")
        pid_namespace, *namespaces = self._namespaces
        cpus = self.cluster.cpus
        cgroup = os.open(os.path.join(self.cgroup, "cgroup.procs"), os.O_WRONLY | os.O_CLOEXEC)

        def enter() -> None:
            os.write(cgroup, b"0")
            for fd, kind in namespaces:
                kernel.setns(fd, kind)
            os.setgroups(account.groups)
            os.setresgid(account.uid, account.uid, account.uid)
            os.setresuid(account.uid, account.uid, account.uid)
            os.umask(0o022)
            os.sched_setaffinity(0, cpus)
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

    def outside(self, path: str) -> str:
        """A path of this node, such as /run/x, as it is reached from outside, even while it is frozen."""
        return f"/proc/{self._init_pid}/root{path}"

    def hand(self, user: str = "root") -> Hand:
        """A process of this user that does, line by line, what the test tells it."""
        return Hand(self, user)

    def environment(self, user: str) -> dict[str, str]:
        """What a fresh login of this user would have in its environment."""
        account = self.cluster.user(user)
        login = {"HOME": account.home, "USER": user, "LOGNAME": user, "SHELL": "/bin/sh"}
        return login | {"PATH": PATH, "LANG": "C.UTF-8"} | self.cluster.env

    def pids(self) -> list[int]:
        """All processes of the node but its PID 1, as pids outside."""
        return [pid for pid in kernel.cgroup_pids(self.cgroup) if pid != self._init_pid]

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

    def commands(self) -> list[str]:
        """The command lines of all processes, one string each; of what is dead, none."""
        found = []
        for pid in self.pids():
            with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline") as file:
                if words := file.read().replace("\0", " "):
                    found.append(words)
        return found

    # ------------------------------------------------------------------ how it starts

    def _write_etc(self) -> None:
        for name, text in (
            ("hostname", self.hostname),
            ("machine-id", self.machine_id),
            ("boot_id", self.boot_id),
            ("hosts", f"127.0.0.1 localhost\n127.0.1.1 {self.hostname}"),
            ("meminfo", "\n".join(f"{key}: {self.cluster.memory >> 10} kB" for key in MEMORY)),
        ):
            path = os.path.join(self.etc, name)
            with open(path, "w") as f:
                f.write(text + "\n")
            os.chmod(path, 0o644)

    def _start_nfsim(self) -> None:
        ready, ready_write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(ready)
                machine.serve_homes(self, ready_write)
            finally:
                os._exit(0)
        os.close(ready_write)
        if _read_all(ready) != b"1":
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise RuntimeError(f"nfsim of {self.name} did not start:\n{self.log()}")
        self._nfsim_pid = pid
        self._homes_namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)

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
                machine.be_init(self, self._homes_namespace, ready_write)
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

    # ------------------------------------------------------------------ how it ends

    def _freeze(self, on: bool) -> None:
        try:
            kernel.cgroup_write(self.cgroup, "cgroup.freeze", "1" if on else "0")
        except FileNotFoundError:
            return

        def is_done() -> bool:
            with open(os.path.join(self.cgroup, "cgroup.events")) as f:
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
        kernel.cgroup_write(self.cgroup, "cgroup.freeze", "0")
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
        pid, mounts = self._nfsim_pid, self._homes_namespace
        self._nfsim_pid, self._homes_namespace = 0, -1
        if not pid:
            return
        os.kill(pid, signal.SIGKILL)
        if not kernel.ended(pid, 0.2):
            # One of its threads waits for a lock that is held by a process that waits for it. Only the kernel
            # can tell both that nothing will come any more: a forced unmount does.
            _in_mounts(mounts, lambda: kernel.umount(self.homes, kernel.MNT_FORCE))
        os.waitpid(pid, 0)
        os.close(mounts)

    def log(self) -> str:
        """What nfsim had to complain of; empty if all is well."""
        try:
            with open(self.log_path) as f:
                return f.read()
        except FileNotFoundError:
            return ""


def _in_mounts(namespace: int, action: Callable[[], None]) -> None:
    """Do something in another mount namespace, in a child."""
    pid = os.fork()
    if pid == 0:
        try:
            kernel.setns(namespace, kernel.NEWNS)
            action()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


def _read_all(fd: int) -> bytes:
    """What a helper says until it closes its end."""
    said = b""
    while chunk := os.read(fd, 4096):
        said += chunk
    os.close(fd)
    return said


def _text(data: bytes | None) -> str:
    return (data or b"").decode(errors="replace")
