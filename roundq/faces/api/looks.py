"""The looks of a program at its queue: one at a time, for all its threads and tasks that wait.

Who waits looks when it is time, on behalf of everybody; the others hear of it. So a thousand waiting threads
ask the file server no more than one.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator

from roundq.actors.awaited import WAIT_MIN_S, Awaited, cannot_tell
from roundq.actors.listing import Row
from roundq.records.spool import Entry, Spool


class Looks:
    """Looks at one spool, shared by threads. What they wait for is said by `wanting`."""

    def __init__(
        self, spool: Spool, node: str, late_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._awaited = Awaited(spool, node=node, late_s=late_s, clock=clock)
        self._clock = clock
        self._changed = threading.Condition()
        #: Only who holds it looks.
        self._eye = threading.Lock()
        self._wanted: Counter[str] = Counter()
        self._ended: dict[str, Row] = {}
        self._unknown: frozenset[str] = frozenset()
        self._hidden: dict[str, OSError] = {}
        #: Those that nobody wanted for a while: what was known of them may be true no more.
        self._stale: set[str] = set()
        self._next_s = 0.0
        self._count = 0

    @contextlib.contextmanager
    def wanting(self, ids: Collection[str]) -> Iterator[None]:
        """While it lasts every look looks for these jobs; the first does so at once."""
        # What the caller has may change meanwhile.
        ids = list(ids)
        with self._changed:
            if any(job_id not in self._wanted for job_id in ids):
                self._next_s = 0.0
            self._wanted.update(ids)
        try:
            yield
        finally:
            with self._changed:
                for job_id in ids:
                    self._wanted[job_id] -= 1
                    if self._wanted[job_id] <= 0:
                        del self._wanted[job_id]
                        self._ended.pop(job_id, None)
                        self._stale.add(job_id)

    def is_due(self) -> bool:
        """Whether the next `step` looks, which takes the time of a listing."""
        return self._clock() >= self._next_s

    def step(self) -> float:
        """Looks if it is time and nobody does; how many seconds until the next look."""
        if not self.is_due() or not self._eye.acquire(blocking=False):
            return max(self._next_s - self._clock(), WAIT_MIN_S)
        try:
            with self._changed:
                wanted = dict.fromkeys(self._wanted)
                stale, self._stale = self._stale, set()
            self._awaited.forget(stale)
            self._awaited.look(wanted)
            with self._changed:
                found = self._awaited.ended.items()
                self._ended = {job_id: row for job_id, row in found if job_id not in self._stale}
                self._unknown = frozenset(self._awaited.unknown)
                self._hidden = self._awaited.hidden
                self._count += 1
                # Who came meanwhile has its jobs looked for at once.
                is_new = any(job_id not in wanted for job_id in self._wanted)
                self._next_s = 0.0 if is_new else self._clock() + self._awaited.pause_s
                self._changed.notify_all()
            return self._awaited.pause_s
        finally:
            self._eye.release()

    def found(self, ids: Collection[str]) -> tuple[dict[str, Row], list[str]]:
        """The rows of those of these jobs that have ended, and the ids of those that are nowhere."""
        with self._changed:
            ended = {job_id: self._ended[job_id] for job_id in ids if job_id in self._ended}
            return ended, [job_id for job_id in ids if job_id in self._unknown]

    def require_seen(self, ids: Collection[str]) -> None:
        """Raises SpoolError if a home that cannot be read hides one of these jobs."""
        with self._changed:
            for job_id in self._hidden:
                if job_id in ids:
                    raise cannot_tell(job_id, self._hidden[job_id])

    def pause(self, seconds: float, count: int) -> None:
        """Sleeps so long, or until somebody has looked more than `count` times."""
        with self._changed:
            if self._count <= count:
                self._changed.wait(seconds)

    @property
    def count(self) -> int:
        """How many looks there were."""
        return self._count

    def entries(self, ids: Collection[str]) -> tuple[dict[str, Entry], OSError | None]:
        """Where these jobs are now; those that are not met are left out. And why it proves nothing, if so."""
        with self._eye:
            return self._awaited.find(dict.fromkeys(ids)), self._awaited.problem
