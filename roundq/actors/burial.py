"""The end of what dead supervisors left behind, a step in each round: it never holds a daemon up.

A daemon that leaves forgets how far it was; the next one begins anew, with TERM.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from roundq.actors import environ
from roundq.words.job import Identity
from roundq.world import cgroup, killing, procs
from roundq.world.cgroup import Group

#: What a dead supervisor left gets this long between TERM and KILL.
GRACE_S = 5.0
#: How long a process that shows no environment is waited for to show one.
HIDING_MOST_S = 5.0
#: What does not die is complained of this often.
COMPLAIN_S = 60.0
#: One step takes about this long at most; the next one is wanted so soon, and later the longer it takes.
STEP_S = 0.1
AGAIN_S = (0.05, 2.0)
_LOOK_AGAIN_S = 0.01


@dataclass(slots=True)
class _Left:
    """What is known of what one supervisor left; times are monotonic."""

    mark: str
    groups: list[Group]
    begun_s: float
    told_s: float | None = None
    clear_s: float | None = None
    complained_s: float = field(default=0.0)


class Burial:
    """Ends what dead supervisors left: TERM in one step, after the grace KILL in each that follows."""

    def __init__(
        self,
        log: logging.Logger,
        clock: Callable[[], float] | None = None,
        pause: Callable[[float], None] | None = None,
    ) -> None:
        self.log, self.clock, self.pause = log, clock or time.monotonic, pause or time.sleep
        self._left: dict[Identity, _Left] = {}

    def again_s(self) -> float:
        """Seconds until the next step is wanted; endless if nothing is left to do."""
        if not self._left:
            return float("inf")
        least_s, most_s = AGAIN_S
        age_s = self.clock() - max(one.begun_s for one in self._left.values())
        return min(max(age_s / 4, least_s), most_s)

    def step(self, supervisors: Iterable[Identity]) -> set[Identity]:
        """One step for what these left, who are all that died; those of whom nothing is left."""
        dead = list(dict.fromkeys(supervisors))
        # Nothing survives a boot.
        buried = {one for one in dead if one.boot != procs.boot_id()}
        self._left = {one: self._left.get(one) or self._new(one) for one in dead if one not in buried}
        until_s = self.clock() + STEP_S
        while self._left:
            gone = self._gone()
            for one in gone:
                for group in self._left.pop(one).groups:
                    group.remove()
            buried |= gone
            if not self._left:
                break
            # In every step, also if a look alone takes as long as a step may.
            self._press(until_s)
            if self.clock() >= until_s:
                break
            self.pause(_LOOK_AGAIN_S)
        return buried

    def _new(self, supervisor: Identity) -> _Left:
        groups = cgroup.find(cgroup.name_of(supervisor.pid, supervisor.start))
        for group in groups:
            # What was paused hears no TERM; only one that a signal stopped goes on with it.
            group.freeze(False)
        return _Left(environ.mark(supervisor), groups, self.clock())

    def _found(self, lefts: Iterable[_Left]) -> dict[str, list[Identity]]:
        """What is there of each, by its mark, without this process, which may bear it."""
        table = procs.table()
        lefts = list(lefts)
        found = procs.bearers([left.mark for left in lefts], among=table)
        for left in lefts:
            pids = [pid for group in left.groups for pid in group.pids()]
            inside = [table[pid].identity for pid in pids if pid in table]
            both = dict.fromkeys([*found[left.mark], *inside])
            found[left.mark] = [one for one in both if one.pid != os.getpid()]
        return found

    def _all_of(self, lefts: list[_Left]) -> Callable[[], list[Identity]]:
        return lambda: [one for found in self._found(lefts).values() for one in found]

    def _gone(self) -> set[Identity]:
        """Those of whom nothing is left, for certain."""
        found = self._found(self._left.values())
        clear: dict[Identity, _Left] = {}
        for supervisor, left in self._left.items():
            if found[left.mark] or any(group.is_populated() for group in left.groups):
                left.clear_s = None
            else:
                if left.clear_s is None:
                    left.clear_s = self.clock()
                clear[supervisor] = left
        if clear and procs.unreadable():
            # In the middle of an exec a process shows no environment, and so no mark.
            now_s = self.clock()
            clear = {
                one: left
                for one, left in clear.items()
                if left.clear_s is not None and now_s - left.clear_s >= HIDING_MOST_S
            }
        if clear:
            # A search may miss who forks and ends while it runs.
            again = self._found(clear.values())
            clear = {one: left for one, left in clear.items() if not again[left.mark]}
        return set(clear)

    def _press(self, until_s: float) -> None:
        """TERM for what has not had it; KILL for what had its grace."""
        now_s = self.clock()
        there = [one for one in self._left.values() if one.clear_s is None]
        fresh = [one for one in there if one.told_s is None]
        if fresh:
            killing.tell_to_end(self._all_of(fresh), self.clock, self.pause, until_s - now_s)
            for left in fresh:
                left.told_s = now_s
        late = [one for one in there if one.told_s is not None and now_s - one.told_s >= GRACE_S]
        if late:
            for left in late:
                for group in left.groups:
                    group.kill()
            killing.kill(self._all_of(late), self.clock, self.pause, until_s - now_s)
        for left in late:
            if now_s - max(left.begun_s + GRACE_S, left.complained_s) >= COMPLAIN_S:
                left.complained_s = now_s
                found = self._all_of([left])()
                self.log.warning("what a job without a supervisor left does not die yet: %s", found)
