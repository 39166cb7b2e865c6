"""One attempt while its command runs: the supervisor's main thread waits here, measures, and stops it.

It touches no shared file system; what lies there is looked at by `homewatch`.
"""

from __future__ import annotations

import contextlib
import math
import os
import resource
import signal
import time
from dataclasses import dataclass, field

from roundq.actors import environ, homewatch, preemption
from roundq.actors.homewatch import HomeWatch
from roundq.actors.memorywatch import MemoryWatch
from roundq.actors.stillness import Stillness
from roundq.actors.streams import Streams
from roundq.records.spool import Entry, Spool
from roundq.words.job import Identity, Record
from roundq.world import killing, notify, procs
from roundq.world.cgroup import Group

#: What the main thread waits for: children, nudges from commands and daemon, its own second thread.
#: SIGTERM too, which a node that shuts down sends to everybody: it ends no supervisor, since the end of
#: its job has to be recorded.
WAITED = {signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM}
#: A job that ends within this time is not watched by a second thread.
BRIEF_S = 0.1
#: How long killing goes on before it is called unfinished, and begun anew.
KILL_PATIENCE_S = 30.0
#: How long those are gone after who fork and end faster than a search finds them, before each search.
KILL_CHILDREN_S = 0.2
#: A job that writes more than it may goes on writing while it ends by itself.
OUTPUT_GRACE_S = 1.0
#: A node that shuts down has ended everybody within this long after its first SIGTERM (systemd: 90 s).
SHUTDOWN_S = 300.0


@dataclass(frozen=True, slots=True)
class Terms:
    """What a daemon tells a supervisor beside the record: its node, and how patient to be in killing.

    `tmp` is where jobs get directories for temporary files, if that is configured; `gpu_maker` whose GPUs
    the node has, empty if nobody knows, None for no GPUs.
    """

    node: str
    grace_s: float = 30.0
    tmp: str = ""
    gpu_maker: str | None = None


@dataclass(slots=True)
class Attempt:
    """What the main thread knows of its job."""

    spool: Spool
    entry: Entry
    record: Record
    terms: Terms
    streams: Streams
    watch: HomeWatch
    group: Group | None = None
    memory: MemoryWatch | None = None
    still: Stillness | None = None
    pid: int = 0
    status: int | None = None
    began_s: float = field(default_factory=time.monotonic)
    cpu_s: float = 0.0
    memory_bytes: int = 0
    told_to_end_s: float | None = None
    #: When the command was sent the signal that it wants before it is stopped; when it was asked to yield,
    #: and when to somebody else.
    noticed_s: float | None = None
    yields_s: float | None = None
    preempted_s: float | None = None

    def reap(self) -> None:
        """Collects every child that ended: the command, and orphans that fell to us as subreaper."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self.cpu_s += usage.ru_utime + usage.ru_stime
            self.memory_bytes = max(self.memory_bytes, usage.ru_maxrss * 1024)
            if pid == self.pid:
                self.status = status

    def pause(self, seconds: float) -> None:
        """Waits for a child to end or for a signal, at most so long, and reaps."""
        received = signal.sigtimedwait(WAITED, max(seconds, 0.0))
        if received is not None and received.si_signo == signal.SIGUSR1:
            self.watch.nudged.set()
        elif received is not None and received.si_signo == signal.SIGTERM:
            self.told_to_end_s = time.monotonic()
        self.reap()

    def is_shutdown(self, now_s: float) -> bool:
        """Whether the node is being shut down: everybody is sent SIGTERM, and SIGKILL soon after.

        A SIGTERM that came alone and long ago says nothing of an end of today.
        """
        # Job and supervisor were both sent it; which of them was seen first is chance.
        if signal.SIGTERM in signal.sigpending():
            return True
        return self.told_to_end_s is not None and now_s - self.told_to_end_s < SHUTDOWN_S

    def usage(self) -> dict[str, float]:
        """What the attempt used: seconds of processor time, and bytes of the largest process if known.

        The kernel counts from the fork, so that a command smaller than this supervisor shows as this large.
        """
        used = {"cpu_s": round(self.cpu_s, 3)}
        if self.paused_s() > 0:
            used["paused_s"] = round(self.paused_s(), 3)
        if self.memory_bytes > resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024:
            used["memory_bytes"] = float(self.memory_bytes)
        return used

    def paused_s(self) -> float:
        """For how many seconds the job stood still since its user paused it."""
        return 0.0 if self.still is None else self.still.total_s(time.monotonic())

    def wait(self) -> str | None:
        """Waits for the command's end (None), or for a reason to end it.

        A command that was told to yield and ends by itself, but not well, is to be run again, too.
        """
        limit_s = self.record.job.time_limit_s
        # Many jobs end at once; they never need a second thread.
        self.pause(min(BRIEF_S, BRIEF_S if limit_s is None else limit_s, self._notice(time.monotonic())))
        if self.status is None:
            self.watch.start()
        while self.status is None:
            still_s = self._stand()
            self._send()
            now_s = time.monotonic()
            notice_s = self._notice(now_s)
            left_s = min(3600.0, self._ends_s() - now_s)
            if left_s <= 0:
                return "time limit"
            if self.watch.verdict is not None:
                return self.watch.verdict
            leased_s = self.leased_s(homewatch.LEASE_STOP)
            if leased_s <= 0:
                return "lease"
            if self.memory is not None and self.memory.is_beyond(now_s):
                return "memory limit"
            if notice_s <= 0:
                return self.watch.is_to_yield
            memory_s = 3600.0 if self.memory is None else self.memory.again_s(now_s)
            self.pause(min(left_s, leased_s, memory_s, notice_s, still_s))
        if self.watch.is_to_yield is None or self.killed_by_kernel() is not None:
            return None
        is_well = os.WIFEXITED(self.status) and os.WEXITSTATUS(self.status) == 0
        return None if is_well else self.watch.is_to_yield

    def _ends_s(self) -> float:
        """When its time limit is over, by the monotonic clock; endless without one, or while it is paused."""
        limit_s = self.record.job.time_limit_s
        if limit_s is None or (self.still is not None and self.still.is_still):
            return math.inf
        return self.began_s + limit_s + self.paused_s()

    def _stand(self) -> float:
        """Has the job stand still for as long as that is asked for; seconds until it is looked at again."""
        now_s = time.monotonic()
        # What is to end has to be able to do what it does before its end.
        is_to_end = self.watch.is_to_yield is not None or self.is_shutdown(now_s)
        if self.watch.is_to_pause and not is_to_end:
            if self.still is None:
                self.still = Stillness(self._everything, self.group, self.pause)
            was_still = self.still.is_still
            if self.still.stop(now_s) and not was_still:
                self.watch.tell_still(time.time_ns())
            return self.still.again_s(time.monotonic())
        if self.still is not None:
            self.still.go_on(now_s)
            self.watch.tell_still(None)
        return math.inf

    def _send(self) -> None:
        """Sends the job what signals its user asked for."""
        while self.watch.signals:
            asked = self.watch.signals.popleft()
            # Nobody else has the pid of the command before it is reaped, which only we do.
            command = procs.identity(self.pid)
            for one in self._everything() if asked.to_all else [command] if command else []:
                # One that became another user, as by sudo(8), cannot be told; and no wish is worth the job.
                with contextlib.suppress(OSError):
                    procs.send(one, asked.number)
            if self.still is not None and asked.number == signal.SIGCONT:
                self.still.look_at_once()
            self.watch.tell_sent(asked)

    def _everything(self) -> list[Identity]:
        """Every living process of the job, however far it got away."""
        mark = environ.mark(self.record.process) if self.record.process is not None else None
        return self._found(mark)

    def _found(self, mark: str | None) -> list[Identity]:
        table = procs.table()
        found = procs.remains([procs.own_identity()], mark=mark, among=table)
        inside = [table[pid].identity for pid in self.group.pids() if pid in table] if self.group else []
        return list(dict.fromkeys([*found, *inside]))

    def _notice(self, now_s: float) -> float:
        """Sends the command the signal that it wants before it is stopped, once, if it is time for it.

        Seconds until it is time, or until the command that yields is to be stopped.
        """
        notice = self.record.job.notice
        if notice is None:
            return math.inf
        if self.yields_s is None and self.watch.is_to_yield is not None:
            self.yields_s = now_s
        if self.preempted_s is None and self.watch.is_to_yield == "preempt":
            self.preempted_s = now_s
        due_s = self._ends_s() - notice.before_s
        if self.noticed_s is None and (self.yields_s is not None or now_s >= due_s):
            self.noticed_s = now_s
            # Nobody else has its pid before it is reaped, which only we do.
            command = procs.identity(self.pid)
            if command is not None:
                # One that became another user, as by sudo(8), cannot be told.
                with contextlib.suppress(PermissionError):
                    procs.send(command, notice.number)
        if self.yields_s is not None and self.noticed_s is not None:
            most_s = math.inf if self.preempted_s is None else self.preempted_s + preemption.NOTICE_MAX_S
            return min(self.noticed_s + notice.before_s, most_s) - now_s
        return math.inf if self.noticed_s is not None else due_s - now_s

    def killed_by_kernel(self) -> str | None:
        """Why the kernel ended the command, if it did: "memory limit" or "out of memory"."""
        if self.memory is None or self.status is None or not os.WIFSIGNALED(self.status):
            return None
        is_kill = os.WTERMSIG(self.status) == signal.SIGKILL
        return self.memory.reason(time.monotonic()) if is_kill else None

    def leased_s(self, part: float) -> float:
        """Seconds until this part of the lease has gone by without a renewal; endless without one."""
        lease_s = self.record.lease_s
        if lease_s is None:
            return math.inf
        return self.watch.renewed_s + lease_s * part - homewatch.clock_s()

    def _grace_s(self, why: str | None) -> float:
        """For how long the job may end by itself: not beyond its lease, and not beside its next attempt."""
        if why in ("taken", "memory limit"):
            # As the kernel does where it keeps the limit: what grows would take the memory of others.
            return 0.0
        leased_s = self.leased_s(homewatch.LEASE_STOP + homewatch.LEASE_GRACE)
        most_s = OUTPUT_GRACE_S if why == "output limit" else self.terms.grace_s
        return min(most_s, self.terms.grace_s, max(0.0, leased_s))

    def stop(self, why: str | None) -> None:
        """Ends whatever of the job is left, and does not return before its death is verified."""
        if self.still is not None:
            self.still.count(time.monotonic())
            self.still.thaw()
        if why is None and self._is_dead():
            self._leave_group()
            return

        def find() -> list[Identity]:
            # A command that ended by itself may only have left descendants; one that is to be
            # stopped may have handed work to somebody else: the mark finds that.
            return self._found(None) if why is None else self._everything()

        left = len(find()) if why is None else 0
        while not killing.kill_tree(
            find,
            grace_s=self._grace_s(why),
            patience_s=KILL_PATIENCE_S,
            clock=time.monotonic,
            pause=self.pause,
            proof=self._is_dead,
            at_once=self.group.kill if self.group else self._kill_children,
        ):
            notify.complain(f"job {self.entry.id}: processes do not die: {find()}")
        self.reap()
        self._leave_group()
        if left:
            self.streams.say(f"rq: its command ended, {left} of its processes did not: they were stopped")

    def _kill_children(self) -> None:
        killing.kill_children(time.monotonic, self.pause, KILL_CHILDREN_S)

    def _is_dead(self) -> bool:
        """Whether all of the job has ended for certain.

        A search may miss what forks and ends all the time; a subreaper without children has none.
        """
        if self.group is not None and self.group.is_populated():
            return False
        return procs.childless() or procs.are_children_held()

    def _leave_group(self) -> None:
        # The kernel needs a moment to see a group as empty whose processes are reaped.
        if self.group is not None and not self.group.remove():
            self.pause(0.05)
            self.group.remove()
