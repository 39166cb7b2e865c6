"""What running jobs of mine here use of the memory that they were promised, for the card.

Others could only add up what each process has, and would count for each what processes share, as after a
fork, and files that are mapped. What is thought to be used and is not would be promised to somebody else.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from roundq.words.job import Identity
from roundq.world import memory, procs

if TYPE_CHECKING:
    from roundq.actors.tenants import Tenant

#: How often it is looked what each process has.
LOOK_S = 4.0
#: How often it is measured at most what the processes of a job have together, and where nothing is to be
#: gained by it. That takes up to a second for 100 GiB: at most this part of the time, for all jobs together.
EXACT_S, EXACT_AGAIN_S, EXACT_PART = 30.0, 600.0, 0.02
#: A card tells it in steps of this part of what was promised, lest it change all the time.
STEPS = 16


class _Measured(NamedTuple):
    """What the processes of a job had together, in bytes, and when that was measured."""

    size: int
    at_s: float


class _Job(NamedTuple):
    """A job, and its processes with what each has, in bytes, where what they share counts for each."""

    tenant: Tenant
    process: Identity
    sizes: dict[int, int]

    @property
    def promised(self) -> int:
        return self.tenant.record.job.memory_required

    @property
    def is_one(self) -> bool:
        """Whether one process has nearly all, so that it is no matter what others share."""
        return sum(self.sizes.values()) - max(self.sizes.values(), default=0) < self.promised / STEPS


class MemoryUse:
    """What one daemon measured, by supervisor. Times are monotonic, in seconds."""

    def __init__(self) -> None:
        self._look_s = self._exact_s = float("-inf")
        self._measured: dict[Identity, _Measured] = {}

    def look(self, tenants: Iterable[Tenant], now_s: float) -> None:
        """Tells each tenant that runs and was promised memory what it uses of that."""
        if now_s - self._look_s < LOOK_S:
            return
        self._look_s = now_s
        jobs = [
            _Job(tenant, process, {pid: memory.most([pid]) for pid in _descendants(process)})
            for tenant in tenants
            if (process := tenant.record.process) is not None and tenant.record.job.memory_required
        ]
        there = {job.process for job in jobs}
        self._measured = {one: known for one, known in self._measured.items() if one in there}
        self._measure_one([job for job in jobs if not job.is_one], now_s)
        for job in jobs:
            used = sum(job.sizes.values())
            if not job.is_one:
                known = self._measured.get(job.process)
                used = min(used, max(job.sizes.values()) if known is None else known.size)
            job.tenant.memory_used = told(min(used, job.promised), job.tenant.memory_used, job.promised)

    def _measure_one(self, jobs: Iterable[_Job], now_s: float) -> None:
        """Measures exactly what one of these has, if there is time for it: that of which least is known."""
        due = [job for job in jobs if self._is_due(job, now_s)]
        if now_s < self._exact_s or not due:
            return
        nothing = _Measured(0, float("-inf"))
        job = min(due, key=lambda job: self._measured.get(job.process, nothing).at_s)
        began_s = time.monotonic()
        self._measured[job.process] = _Measured(memory.exactly(job.sizes), now_s)
        self._exact_s = now_s + (time.monotonic() - began_s) / EXACT_PART

    def _is_due(self, job: _Job, now_s: float) -> bool:
        known = self._measured.get(job.process)
        if known is None:
            return True
        most = min(sum(job.sizes.values()), job.promised)
        may_have_grown = most - known.size >= job.promised / STEPS
        return now_s - known.at_s >= (EXACT_S if may_have_grown else EXACT_AGAIN_S)


def told(used: int, before: int | None, promised: int) -> int:
    """What a card tells of so many bytes: not more, but what it told `before` while that nearly holds."""
    step = max(1, promised // STEPS)
    if before is not None and before - step // 2 <= used < before + step:
        return before
    return used // step * step


def _descendants(of: Identity) -> list[int]:
    if memory.can_list_children():
        return memory.descendants(of.pid)
    return [one.pid for one in procs.descendants(of)]
