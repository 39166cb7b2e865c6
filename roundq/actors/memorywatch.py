"""What a supervisor knows of the memory of its job: is it beyond its limit, and did the kernel end it.

On its main thread, since nothing here lies on a shared file system.
"""

from __future__ import annotations

import os
import time

from roundq.actors.growth import Growth
from roundq.world import cgroup, memory, procs
from roundq.world.cgroup import Group

#: How often it is looked how many the OOM killer has ended, and how far back what it did may explain an end
#: of now: to give back the memory of a large process takes its time.
KILLS_LOOK_S, KILLS_KEEP_S = 10.0, 60.0
#: To look takes at most this part of the time.
LOOK_PART = 0.05


class MemoryWatch:
    """Watches a job of at most `limit` bytes (None: any) in its control group, if it has one.

    Made before the job is born: the kernel keeps the limit where it can.
    """

    def __init__(self, limit: int | None, group: Group | None, now_s: float) -> None:
        self.limit, self.group = limit, group
        self.is_kept = limit is not None and group is not None and group.limit_memory(limit)
        self._growth = Growth(limit or 0, now_s)
        self._look_s = self._exact_s = now_s
        # One file for the whole life: another one's count says nothing beside it.
        self._counter = cgroup.oom_counter(group)
        self._kills: list[tuple[float, int]] = []
        self._count_kills(now_s)

    def is_beyond(self, now_s: float) -> bool:
        """Whether the job uses more than its limit; looks as often as `again_s` says, however often asked."""
        if self._kills and now_s - self._kills[-1][0] >= KILLS_LOOK_S:
            self._count_kills(now_s)
        if self.limit is None or now_s < self._look_s:
            return False
        began_s = time.monotonic()
        is_beyond = self._growth.is_beyond(self._measured(now_s), now_s)
        took_s = time.monotonic() - began_s
        self._look_s = now_s + max(self._growth.again_s, took_s / LOOK_PART)
        return is_beyond

    def again_s(self, now_s: float) -> float:
        """Seconds until `is_beyond` is to be asked again."""
        kills_s = self._kills[-1][0] + KILLS_LOOK_S - now_s if self._kills else 3600.0
        return max(0.0, kills_s if self.limit is None else min(kills_s, self._look_s - now_s))

    def _measured(self, now_s: float) -> int:
        pids = self.group.pids() if self.group else []
        if pids and self.is_kept:
            return 0
        if not pids:
            pids = self._descendants()
        size = memory.most(pids)
        if self.limit is None or size <= self.limit or now_s < self._exact_s:
            return min(size, self.limit or 0)
        began_s = time.monotonic()
        exact = memory.exactly(pids)
        # It holds the processes up.
        self._exact_s = now_s + (time.monotonic() - began_s) / LOOK_PART
        return exact

    def _descendants(self) -> list[int]:
        if memory.can_list_children():
            return memory.descendants(os.getpid())
        return [one.pid for one in procs.descendants(procs.own_identity())]

    def _count_kills(self, now_s: float) -> None:
        kills = None if self._counter is None else cgroup.oom_kills(self._counter)
        if kills is None:
            self._kills.clear()
            return
        self._kills.append((now_s, kills))
        while len(self._kills) > 1 and self._kills[1][0] <= now_s - KILLS_KEEP_S:
            del self._kills[0]

    def reason(self, now_s: float) -> str | None:
        """Why the kernel ended the command, which SIGKILL has just ended: "memory limit" or "out of memory";
        None if it did not, or nobody can tell."""
        self._count_kills(now_s)
        if not self._kills or self._kills[-1][1] <= self._kills[0][1]:
            return None
        if self.is_kept and self.group is not None and self.group.has_met_its_limit():
            return "memory limit"
        return "out of memory"
