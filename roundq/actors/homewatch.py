"""What a supervisor looks at on the shared file system while its job runs: requests, output, its own record.

A thread of its own, so that a file server that hangs cannot suspend a time limit.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import deque

from roundq.actors import environ, preemption
from roundq.actors.growth import Growth
from roundq.actors.streams import Streams
from roundq.records import signals
from roundq.records import spool as spools
from roundq.records.spool import Entry, Spool
from roundq.words import states
from roundq.words.errors import RoundqError
from roundq.words.job import NS, Record
from roundq.world import files

#: How often requests are looked for without a nudge.
REQUEST_LOOK_S = 30.0
#: How soon it is tried again to tell what could not be written.
TELL_AGAIN_S = 1.0
#: A lease is renewed so many times in its length; one that was not for this part of it ends the job, which
#: has this part of it for its grace; others believe it to have run out when it stood still for this part.
LEASE_RENEWALS = 6
LEASE_STOP, LEASE_GRACE, LEASE_OVER = 0.5, 0.25, 1.25
#: The requests after which a job waits again.
YIELDS = ("restart", "preempt")


def clock_s() -> float:
    """Seconds by a clock that goes on while the node sleeps, unlike the monotonic one."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class HomeWatch(threading.Thread):
    """Looks at what lies on the shared file system while the job runs.

    Tells the main thread by SIGUSR2 once `verdict` is set: "cancel", "restart", "preempt", "output limit", or
    "taken" if the record is no longer this supervisor's; and once `is_to_yield` is set: "restart" or
    "preempt" of a job that is told before it is stopped, which is watched on until then; and once there is
    something in `signals` to be sent, or `is_to_pause` has changed. `why` is what the request to preempt
    says. `renewed_s` is the last renewal of the lease, by `clock_s`.
    """

    def __init__(
        self, spool: Spool, entry: Entry, streams: Streams, record: Record, begun_s: float | None = None
    ) -> None:
        super().__init__(daemon=True)
        self.spool, self.entry, self.streams, self.record = spool, entry, streams, record
        job = record.job
        self.growth = Growth(job.max_output, time.monotonic()) if job.max_output else None
        # What may not be run twice is not, whatever program asked for it.
        self.verbs = ["cancel", *YIELDS] if job.restartable else ["cancel"]
        self.verdict: str | None = None
        self.is_to_yield: str | None = None
        self.why = ""
        self.nudged = threading.Event()
        self.over = False
        self.is_to_pause = False
        self.signals: deque[signals.Asked] = deque()
        self._met: set[str] = set()
        self._there: set[str] = set()
        #: Since when the job stands still, and requests that were acted on, as the main thread has it.
        self._still_ns: int | None = None
        self._told_ns: int | None = None
        self._done: deque[str] = deque()
        # Until the first renewal it counts from before the record came to running/, where others see it.
        self.renewed_s = clock_s() if begun_s is None else begun_s
        self._running = self.spool.directory(states.RUNNING)
        self._place = _place(self._running)

    def run(self) -> None:
        """Looks until the verdict, and renews the lease until `over` is set."""
        last = renewed = 0.0
        lease_s = self.record.lease_s
        while not self.over:
            now = time.monotonic()
            with contextlib.suppress(OSError):
                if lease_s is not None and (renewed == 0.0 or now - renewed >= lease_s / LEASE_RENEWALS):
                    self._renew()
                    renewed = now
                if self.nudged.is_set() or now - last >= REQUEST_LOOK_S or last == 0.0:
                    self.nudged.clear()
                    last = now
                    self.verdict = self._heed(self.asked()) or (None if self.is_ours() else "taken")
                    if self.verdict is None:
                        self._look_at_wishes()
                if self.verdict is None and self.has_written_too_much():
                    self.verdict = "output limit"
            if self.verdict is not None:
                self._wake()
                break
            look_s = self.growth.again_s if self.growth else REQUEST_LOOK_S
            if not self._tell():
                look_s = min(look_s, TELL_AGAIN_S)
            self.nudged.wait(look_s if lease_s is None else min(look_s, lease_s / LEASE_RENEWALS / 2))
        while lease_s is not None and not self.over and self.verdict != "taken":
            # To stop a job takes its grace.
            with contextlib.suppress(OSError):
                self._renew()
            time.sleep(min(1.0, lease_s / LEASE_RENEWALS))

    def tell_still(self, since_ns: int | None) -> None:
        """The job stands still since then, or does so no more: it is told where the user sees it."""
        if since_ns != self._still_ns:
            self._still_ns = since_ns
            self.nudged.set()

    def tell_sent(self, one: signals.Asked) -> None:
        """A signal was sent: its request is done with."""
        self._done.append(one.name)
        self.nudged.set()

    def _tell(self) -> bool:
        """Tells what there is to tell; whether it could."""
        still_ns = self._still_ns
        try:
            while self._done:
                signals.remove(self.spool, self._done[0])
                self._done.popleft()
            if still_ns != self._told_ns and not self.over:
                if still_ns is None or self.record.process is None:
                    files.remove(f"{self.spool.directory('requests')}/{self.entry.id}.paused")
                else:
                    says = f"{environ.mark(self.record.process)}\n{still_ns // NS}"
                    spools.request(self.spool, self.entry.id, "paused", self.record.node, says)
                self._told_ns = still_ns
        except (OSError, RoundqError):
            return False
        return True

    def _look_at_wishes(self) -> None:
        """Whether the job is to stand still, and which signals are to be sent to it."""
        mark = environ.mark(self.record.process) if self.record.process is not None else None
        fresh = []
        if "signal" in self._there:
            found = signals.of(self.spool, self.entry.id)
            fresh = [one for one in found if one.mark == mark and one.name not in self._met]
            self._met.update(one.name for one in fresh)
            self.signals.extend(fresh)
        meant = spools.asked_of(self.spool, self.entry.id, "pause") if "pause" in self._there else None
        is_to_pause = meant is not None and meant == mark
        if fresh or is_to_pause != self.is_to_pause:
            self.is_to_pause = is_to_pause
            self._wake()

    def has_written_too_much(self) -> bool:
        """Whether the output is beyond its limit; what was in the file before is not the job's."""
        if self.growth is None:
            return False
        return self.growth.is_beyond(self.streams.size() - self.streams.before, time.monotonic())

    def _renew(self) -> None:
        # From before the call: how long it is on its way to the server nobody knows.
        now_s = clock_s()
        if files.touch(spools.path_of(self.spool, self.entry)):
            self.renewed_s = now_s

    def is_ours(self) -> bool:
        """Whether the record still lies in running/ under this node's name, or that cannot be told."""
        names = {name for name, _ in files.listing(self._running)}
        if names & {self.entry.file, self.entry.sealed.file}:
            return True
        # What lies below a home that is not mounted now says nothing of the record.
        place = _place(self._running)
        return place is None or place != self._place

    def _heed(self, verb: str | None) -> str | None:
        """What was asked, if the job is to be stopped for it now; else it has to be told first."""
        if verb not in YIELDS or self.record.job.notice is None:
            return verb
        # Others wait for no restart for long, whatever notice it has.
        self.verbs = ["cancel"] if verb == "preempt" else ["cancel", "preempt"]
        self.is_to_yield = verb
        self._wake()
        return None

    def _wake(self) -> None:
        os.kill(os.getpid(), signal.SIGUSR2)

    def asked(self) -> str | None:
        """What is asked of this attempt, as far as it may be done."""
        self._there = spools.requests(self.spool).get(self.entry.id, set())
        return next((verb for verb in self.verbs if verb in self._there and self._means_us(verb)), None)

    def is_to_restart(self) -> bool:
        """Whether a restart was asked for that nobody saw before the command ended. Looks itself."""
        if not self.record.job.restartable:
            return False
        try:
            asked = "restart" in spools.requests(self.spool).get(self.entry.id, ())
            return asked and self._means_us("restart")
        except OSError:
            return False

    def _means_us(self, verb: str) -> bool:
        if verb == "cancel" or self.record.process is None:
            return True
        mark = environ.mark(self.record.process)
        if verb == "preempt":
            meant, self.why = preemption.told(self.spool, self.entry.id)
            return meant == mark
        return spools.asked_of(self.spool, self.entry.id, verb) in ("", mark)


def _place(directory: str) -> tuple[int, int] | None:
    """Which directory it is, None if there is none to be seen."""
    try:
        status = os.stat(directory)
    except OSError:
        return None
    return status.st_dev, status.st_ino
