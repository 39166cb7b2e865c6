"""Jobs that a program waits for, with what of them has not ended: one wait of one caller."""

from __future__ import annotations

import time as clocks
from collections.abc import Sequence
from typing import TYPE_CHECKING

from roundq.actors import queue as queues

if TYPE_CHECKING:
    from roundq.faces.api.handles import Job
    from roundq.faces.api.queue import Queue


class Waits:
    """Jobs that are waited for, with what of them has not ended."""

    def __init__(self, queue: Queue, jobs: Sequence[Job], timeout_s: float | None) -> None:
        self.looks = queue._looking()
        self._timeout_s = timeout_s
        self._until_s = None if timeout_s is None else clocks.monotonic() + timeout_s
        self._handles = dict.fromkeys(jobs)
        self._open = {job: {one.id: one for one in job.jobs if one._ended is None} for job in self._handles}
        self.left: dict[str, list[Job]] = {}
        for job, ones in self._open.items():
            for job_id in ones:
                self.left.setdefault(job_id, []).append(job)

    def newly(self) -> list[Job]:
        """Those that have ended since the last call, as far as was looked. Raises NoSuchJob, SpoolError,
        WaitTimeout."""
        ended, unknown = self.looks.found(self.left)
        for job_id in unknown:
            raise queues.no_job(job_id)
        for job_id, row in ended.items():
            for job in self.left.pop(job_id):
                self._open[job].pop(job_id)._ended = row
        done = [job for job, ones in self._open.items() if not ones]
        for job in done:
            del self._open[job]
        if not done:
            self.looks.require_seen(self.left)
        if self.left and not done and self._until_s is not None and clocks.monotonic() >= self._until_s:
            raise queues.not_ended([job.id for job in self._open], self._timeout_s or 0.0)
        return done

    def at_most(self, pause_s: float) -> float:
        """A pause that does not go beyond the timeout."""
        if self._until_s is None:
            return pause_s
        return max(0.001, min(pause_s, self._until_s - clocks.monotonic()))
