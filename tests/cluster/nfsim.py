"""nfsim: the process behind one node's NFS-like view of a directory. Pure Python, speaks /dev/fuse itself.

    python -m tests.cluster.nfsim BACKING MOUNTPOINT [-o acregmin=1,...] [--control SOCKET]

Needs root and /dev/fuse. `Simulator.run()` is the loop: read a request, let the faults decide, have nfs
answer. Started by box, one per node; killing it is what happens to a file system when a node loses power.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import heapq
import json
import os
import random
import resource
import select
import signal
import socket
import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.cluster import faults, fuse, kernel, nfs
from tests.cluster.cache import Options

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.cluster.fuse import Request

# The lookup that teaches the kernel how we are interrupted, see _learn_not_to_interrupt().
PROBE = b".nfsim-probe"

TRACE_MAX = 400


@dataclass
class Hung:
    """A request that gets no answer for now."""

    request: Request
    partition: bool
    killable: bool


class Simulator:
    """Serves one mount until it is unmounted, told to quit, or its owner dies."""

    client_type = nfs.Client

    def __init__(
        self,
        backing: str,
        mountpoint: str,
        options: Options,
        *,
        control: str = "",
        groups: Mapping[int, tuple[int, ...]] | None = None,
    ) -> None:
        self.options = options
        self.mountpoint = os.path.realpath(mountpoint)
        self.rules: list[faults.Rule] = []
        self.partitioned = False
        self._chance = random.Random(options.seed)
        self._hung: dict[int, Hung] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timer_count = 0
        self._counts: dict[str, int] = {}
        self._trace: list[tuple[str, str, int, str]] | None = None
        self._probe: Request | None = None
        self._quit = False
        self._control_path = control
        self._device = fuse.Device()
        self._client = self.client_type(
            backing, options, self._device, groups=groups or {}, later=self._send_later, distort=self._distort
        )

    # ------------------------------------------------------------------ the loop

    def run(self, ready: int = -1, owner: int = -1) -> None:
        """Mount and serve; write a byte to `ready` once mounted, end when `owner` (a pipe) hangs up."""
        os.umask(0)
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self._device.mount("nfsim:" + self._client.backing, self.mountpoint)
        poll = select.poll()
        poll.register(self._device.fd, select.POLLIN)
        if owner >= 0:
            poll.register(owner, 0)  # Only its hanging up is of interest.
        commands = self._listen()
        if commands:
            poll.register(commands.fileno(), select.POLLIN)
        self._learn_not_to_interrupt(ready)
        while not self._quit:
            events = dict(poll.poll(self._patience_ms()))
            self._answer_killed()
            self._run_timers()
            if owner in events:
                break
            try:
                self._serve()
            except OSError as error:
                if error.errno == errno.ENODEV:  # Unmounted.
                    break
                raise
            if commands and commands.fileno() in events:
                self._command(commands)
        self._client.flush_all()

    def _serve(self) -> None:
        """Answer what has come, but look at other things now and then."""
        for _ in range(64):
            request = self._device.read()
            if request is None:
                return
            self._receive(request)

    def _receive(self, request: Request) -> None:
        """The messages of the protocol itself; everything else is for _decide()."""
        if request.op == "forget":
            self._client.forget(request.node, *request.numbers("Q"))
        elif request.op == "batch_forget":
            for at in range(request.numbers("I")[0]):
                self._client.forget(*request.numbers("QQ", 8 + 16 * at))
        elif request.op == "init":
            self._device.reply_init(request)
        elif request.op == "destroy":
            self._device.reply(request, 0)
        elif request.op == "interrupt":
            # The kernel will never send one again: who waits for us sleeps as on a hard NFS mount.
            self._device.reply(request, errno.ENOSYS)
            if self._probe:
                self._device.reply(self._probe, errno.ENOENT)
                self._probe = None
        elif request.op == "lookup" and request.node == fuse.ROOT and request.names == [PROBE]:
            self._probe = request
        elif not request.op:
            # ENOSYS for fallocate would make glibc write zeros instead; NFS says that it cannot.
            self._device.reply(request, errno.EOPNOTSUPP if request.code == fuse.FALLOCATE else errno.ENOSYS)
        else:
            self._counts[request.op] = self._counts.get(request.op, 0) + 1
            self._decide(request)

    def _decide(self, request: Request) -> None:
        """Let partition and rules have their way, then do it."""
        if self.partitioned and not self._client.is_local(request):
            if self.options.soft and request.op not in faults.INFALLIBLE:
                self._at(self.options.soft, lambda: self._give_up(request))
            else:
                self._hold(request)
            return
        rule = self._rule_for(request)
        if rule and rule.hang:
            self._hung[request.unique] = Hung(request, partition=False, killable=rule.killable)
        elif rule and rule.errno and not rule.after:
            self._device.reply(request, rule.errno)
        else:
            error_after = rule.errno if rule else 0
            wait_s = (rule.delay if rule else 0.0) + self.options.latency
            if wait_s:
                self._at(wait_s, lambda: self._perform(request, error_after))
            else:
                self._perform(request, error_after)

    def _perform(self, request: Request, error_after: int = 0) -> None:
        if self.partitioned and not self._client.is_local(request):
            self._hold(request)
            return
        about = self._client.describe(request) if self._trace is not None else ""
        answer, error = b"", 0
        try:
            answer = self._client.perform(request)
        except OSError as failed:
            error = failed.errno or errno.EIO
        except Exception:
            traceback.print_exc()
            error = errno.EIO
        if error_after and not error:
            self._client.disown(request, answer)
            answer, error = b"", error_after
        if self._trace is not None:
            self._trace.append((request.op, about, request.uid, errno.errorcode.get(error, str(error))))
        self._device.reply(request, error, answer)

    # ------------------------------------------------------------------ faults

    def _rule_for(self, request: Request) -> faults.Rule | None:
        if not self.rules or request.op in faults.INFALLIBLE:
            return None
        path = self._client.describe(request)
        for rule in self.rules:
            if not rule.of_listings and rule.hit(request.op, path, request.uid, self._chance):
                return rule
        return None

    def _distort(self, path: str, uid: int, listing: faults.Listing) -> faults.Listing:
        for rule in self.rules:
            if rule.of_listings and rule.hit("readdir", path, uid, self._chance):
                listing = rule.distort(listing)
        return listing

    def _hold(self, request: Request) -> None:
        """The server cannot be reached: wait for it."""
        # Nobody waits for a release, so nobody can be killed who does.
        self._hung[request.unique] = Hung(request, partition=True, killable=request.op != "release")

    def _give_up(self, request: Request) -> None:
        """The time of a soft mount is over."""
        if self.partitioned:
            self._device.reply(request, errno.ETIMEDOUT)
        else:
            self._decide(request)

    def _let_go(self, *, partition: bool) -> None:
        for unique, hung in list(self._hung.items()):
            if hung.partition == partition:
                del self._hung[unique]
                # What hung by a rule has met it; what a partition held back has not met the rules yet.
                if partition:
                    self._decide(hung.request)
                else:
                    self._perform(hung.request)

    def _answer_killed(self) -> None:
        for unique, hung in list(self._hung.items()):
            if hung.killable and _is_killed(hung.request.pid):
                del self._hung[unique]
                self._device.reply(hung.request, errno.EINTR)

    # ------------------------------------------------------------------ timers

    def _at(self, delay_s: float, action: Callable[[], None]) -> None:
        self._timer_count += 1
        heapq.heappush(self._timers, (time.monotonic() + delay_s, self._timer_count, action))

    def _send_later(self, delay_s: float, send: Callable[[], None]) -> None:
        """Send to the server after a while, or as long after that as it takes to reach it."""

        def attempt() -> None:
            if self.partitioned:
                self._at(0.1, attempt)
            else:
                send()

        self._at(delay_s, attempt)

    def _run_timers(self) -> None:
        while self._timers and self._timers[0][0] <= time.monotonic():
            heapq.heappop(self._timers)[2]()

    def _patience_ms(self) -> int | None:
        waits = [self.options.kill_poll] if self._hung else []
        if self._timers:
            waits.append(self._timers[0][0] - time.monotonic())
        return max(0, int(min(waits) * 1000) + 1) if waits else None

    # ------------------------------------------------------------------ control

    def _listen(self) -> socket.socket | None:
        if not self._control_path:
            return None
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._control_path)
        commands = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        commands.bind(self._control_path)
        os.chmod(self._control_path, 0o600)
        return commands

    def _command(self, commands: socket.socket) -> None:
        message, sender = commands.recvfrom(1 << 20)
        try:
            answer = self._obey(json.loads(message))
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        if sender:
            commands.sendto(json.dumps(answer).encode(), sender)

    def _obey(self, message: dict[str, Any]) -> dict[str, Any]:
        """The messages of faults.control()."""
        if unknown := set(message) - {
            "rules",
            "add",
            "set",
            "partition",
            "release",
            "trace",
            "get_trace",
            "quit",
        }:
            raise ValueError(f"no such message: {sorted(unknown)}")
        if "rules" in message:
            self.rules = [faults.Rule.parse(rule) for rule in message["rules"]]
        if "add" in message:
            self.rules.append(faults.Rule.parse(message["add"]))
        for key, value in message.get("set", {}).items():
            self.options.change(key, value)
        if "trace" in message:
            self._trace = [] if message["trace"] else None
        if "partition" in message:
            self.partitioned = bool(message["partition"])
            if not self.partitioned:
                self._let_go(partition=True)
        if message.get("release"):
            self._let_go(partition=False)
        if message.get("quit"):
            self._serve()  # The kernel has sent all that dead processes left open.
            self._quit = True
        answer = {
            "counts": self._counts,
            "hits": [rule.hits for rule in self.rules],
            "partitioned": self.partitioned,
            "hung": len(self._hung),
            "inodes": len(self._client.inodes),
            "handles": len(self._client.handles),
            "dirty": sum(len(inode.dirty) for inode in self._client.inodes.values()),
        }
        if message.get("get_trace"):
            answer["trace"], self._trace = (self._trace or [])[-TRACE_MAX:], []
        return answer

    # ------------------------------------------------------------------ start

    def _learn_not_to_interrupt(self, ready: int) -> None:
        """Have one lookup interrupted: our answer ENOSYS tells the kernel never to interrupt us again.

        Only then do callers of a server that does not answer sleep in state D, as NFS makes them.
        """
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # Nobody has the time to wait for the child.
        if os.fork() == 0:
            signal.signal(signal.SIGALRM, lambda *_: None)
            signal.setitimer(signal.ITIMER_REAL, 0.002, 0.01)
            with contextlib.suppress(OSError):
                os.stat(os.path.join(os.fsencode(self.mountpoint), PROBE))
            if ready >= 0:
                os.write(ready, b"1")
            os._exit(0)
        if ready >= 0:
            os.close(ready)


def _is_killed(pid: int) -> bool:
    """Has the process got a SIGKILL that it cannot take note of while it waits for us?"""
    try:
        with open(f"/proc/{pid}/status") as status:
            for line in status:
                if (
                    line.startswith(("SigPnd", "ShdPnd"))
                    and int(line.split()[1], 16) & 1 << signal.SIGKILL - 1
                ):
                    return True
    except OSError:
        return True
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description="mount an NFS-like view of a directory")
    parser.add_argument("backing")
    parser.add_argument("mountpoint")
    parser.add_argument("-o", dest="options", default="", help="mount options, as in nfs(5)")
    parser.add_argument("--control", default="", help="socket for messages, see faults.py")
    args = parser.parse_args()
    kernel.set_process_name("nfsim")
    Simulator(args.backing, args.mountpoint, Options.parse(args.options), control=args.control).run()


if __name__ == "__main__":
    main()
