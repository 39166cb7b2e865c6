"""A job that is paused: every process of it is stopped, and stays so until it goes on.

On a supervisor's main thread: nothing here touches a shared file system. Who belongs to the job, and whether
it is to stand still, the caller knows.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterable

from roundq.words.job import Identity
from roundq.world import killing, procs
from roundq.world.cgroup import Group

#: How often it is looked whether what stands still does so yet, and whether somebody woke it up.
_AGAIN_S, _LOOK_S = 1.0, 10.0
#: For how long one step waits for a group to be frozen.
_FREEZE_S, _FREEZE_LOOK_S = 0.5, 0.005


class Stillness:
    """Whether the job of `find` and `group` stands still; times are monotonic, in seconds.

    `find` tells all its processes, also those in the group. `pause(seconds)` may return early, and reaps.
    """

    def __init__(
        self,
        find: Callable[[], Iterable[Identity]],
        group: Group | None,
        pause: Callable[[float], None],
    ) -> None:
        self._find, self._group, self._pause = find, group, pause
        #: Whom we stopped: what had stopped itself before stays stopped when the job goes on.
        self._stopped: dict[Identity, None] = {}
        self._wanted = False
        self._look_s = 0.0
        self._since_s: float | None = None
        self._before_s = 0.0

    @property
    def is_still(self) -> bool:
        """Whether all of it was found to stand still."""
        return self._since_s is not None

    def total_s(self, now_s: float) -> float:
        """For how long it has stood still in all."""
        return self._before_s + (0.0 if self._since_s is None else now_s - self._since_s)

    def again_s(self, now_s: float) -> float:
        """Seconds until `stop` is to be called again, if the job is to stand still."""
        return max(0.0, self._look_s - now_s)

    def stop(self, now_s: float) -> bool:
        """Stops what moves, as often as `again_s` says, however often called; whether all stands still."""
        if self._wanted and now_s < self._look_s:
            return self.is_still
        self._wanted = True
        is_still = self._freeze()
        self._stopped.update(dict.fromkeys(killing.stop(self._moving, time.monotonic, self._pause)))
        # What sleeps where no signal reaches it, as on a file server, stops when it comes back from there.
        is_still = is_still and all(procs.moving_states(one) <= {"D"} for one in self._moving())
        if is_still and self._since_s is None:
            self._since_s = now_s
        self._look_s = now_s + (_LOOK_S if is_still else _AGAIN_S)
        return self.is_still

    def look_at_once(self) -> None:
        """Something was done that may have woken it up."""
        self._look_s = 0.0

    def go_on(self, now_s: float) -> None:
        """Lets all go on that was stopped here; nothing if nothing was."""
        if not self._wanted:
            return
        self.count(now_s)
        self.thaw()
        for one in self._stopped:
            # A setuid program has become somebody else.
            with contextlib.suppress(PermissionError):
                procs.send(one, signal.SIGCONT)
        self._stopped.clear()
        self._wanted = False

    def thaw(self) -> None:
        """Lets signals reach what is in the group, which is what whoever ends it needs."""
        if self._wanted and self._group is not None:
            self._group.freeze(False)

    def count(self, now_s: float) -> None:
        """From now on the time counts for the job again."""
        self._before_s = self.total_s(now_s)
        self._since_s = None

    def _freeze(self) -> bool:
        """Freezes the group, if there is one; False if it does not stand still yet."""
        if self._group is None or not self._group.freeze(True):
            return True
        until_s = time.monotonic() + _FREEZE_S
        while not self._group.is_frozen():
            if time.monotonic() >= until_s:
                return False
            self._pause(_FREEZE_LOOK_S)
        return True

    def _moving(self) -> list[Identity]:
        """Who of the job is neither stopped nor frozen."""
        frozen = set(self._group.pids()) if self._group is not None and self._group.is_frozen() else set()
        return [one for one in self._find() if one.pid not in frozen and procs.moving_states(one)]
