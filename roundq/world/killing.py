"""The verified end of processes: all are stopped so that none slips through, TERM, a grace, KILL.

Called by the supervisor for its own job, and by the daemon for what dead supervisors left. Who is
meant, the caller finds; nothing here knows what a job is.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

from roundq.words.job import Identity
from roundq.world import procs

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

#: How often a killer looks again, in seconds: soon at first, since most processes die at once.
_LOOK_AGAIN_MIN_S, _LOOK_AGAIN_MAX_S = 0.01, 0.5
#: How many times in a row newcomers are stopped before the killing starts.
_STOP_ROUNDS_MAX = 8
#: How long is waited for them to stand still: on a busy machine a stop takes until they have the processor;
#: and for how long for those in uninterruptible sleep, or between vfork and exec of a child, who may never.
_STOP_S, _STOP_ASLEEP_S, _STOP_LOOK_AGAIN_S = 5.0, 0.5, 0.001
#: For how long it is waited for a child to be reaped before its children are looked for.
_REAP_S = 0.0005


def kill_tree(
    find: Callable[[], Collection[Identity]],
    *,
    grace_s: float,
    patience_s: float,
    clock: Callable[[], float],
    pause: Callable[[float], None],
    proof: Callable[[], bool] | None = None,
    on_kill: Callable[[Collection[Identity]], None] | None = None,
    at_once: Callable[[], None] | None = None,
) -> bool:
    """End all that `find` finds: TERM, a grace of `grace_s`, then KILL. Returns whether all is dead.

    Without a grace there is no TERM.

    All are stopped for a moment before they get TERM and CONT, so that all of them get it.

    All is dead when two searches in a row find nothing, or when one does and `proof` says so
    (`childless` for a subreaper); a search alone may miss a process that forks and dies while
    it runs. False after `patience_s` of killing in vain: processes in uninterruptible sleep,
    or of another user. The caller may try again.

    `clock` is monotonic, in seconds; `pause(seconds)` may return early and must reap the
    children of this process. `on_kill` is told who outlived the grace, once. `at_once` kills whom it can
    without a search (`cgroup.Group.kill`), after the grace and before each search.
    """
    if grace_s > 0:
        tell_to_end(find, clock, pause)
    end = clock() + grace_s
    look_again_s = _LOOK_AGAIN_MIN_S
    while clock() < end:
        if _all_dead(find, proof):
            return True
        pause(min(look_again_s, max(0.0, end - clock())))
        look_again_s = min(look_again_s * 1.5, _LOOK_AGAIN_MAX_S)

    if on_kill is not None and (survivors := find()):
        on_kill(survivors)
    end = clock() + patience_s
    look_again_s = _LOOK_AGAIN_MIN_S
    while True:
        if at_once is not None:
            at_once()
        kill(find, clock, pause)
        pause(look_again_s)
        if _all_dead(find, proof):
            return True
        if clock() >= end:
            return False
        look_again_s = min(look_again_s * 1.5, _LOOK_AGAIN_MAX_S)


def tell_to_end(
    find: Callable[[], Collection[Identity]],
    clock: Callable[[], float],
    pause: Callable[[float], None],
    most_s: float | None = None,
) -> None:
    """TERM for all that `find` finds, as `kill_tree` does it; within about `most_s` seconds."""
    # TERM before CONT: each meets it as soon as it goes on. Who is forked after this gets no TERM: it may
    # be what a TERM handler started to save its work.
    _send_all(_stopped(find, clock, pause, most_s), signal.SIGTERM, signal.SIGCONT)


def kill(
    find: Callable[[], Collection[Identity]],
    clock: Callable[[], float],
    pause: Callable[[float], None],
    most_s: float | None = None,
) -> None:
    """KILL for all that `find` finds; within about `most_s` seconds."""
    _send_all(_stopped(find, clock, pause, most_s, stop_s=_STOP_ASLEEP_S), signal.SIGKILL)


def stop(
    find: Callable[[], Collection[Identity]],
    clock: Callable[[], float],
    pause: Callable[[float], None],
) -> list[Identity]:
    """STOP for all that `find` finds, until it finds nobody new; those who were stopped.

    Nobody slips through; but who is in uninterruptible sleep stops only when that ends.
    """
    return _stopped(find, clock, pause, stop_s=_STOP_ASLEEP_S)


def _all_dead(find: Callable[[], Collection[Identity]], proof: Callable[[], bool] | None) -> bool:
    if find():
        return False
    return not find() if proof is None else proof()


def _stopped(
    find: Callable[[], Collection[Identity]],
    clock: Callable[[], float],
    pause: Callable[[float], None],
    most_s: float | None = None,
    stop_s: float = _STOP_S,
) -> list[Identity]:
    """All that is found, now stopped: what is stopped cannot fork, so nobody slips through between a
    search and a signal. Those who fork faster than we look are left over after a few rounds."""
    stopped: dict[Identity, None] = {}
    began = clock()
    end = began + (stop_s if most_s is None else most_s)
    quiet = 0
    for number in range(_STOP_ROUNDS_MAX):
        if number and most_s is not None and clock() >= end:
            break
        newcomers = [one for one in find() if one not in stopped]
        quiet = 0 if newcomers else quiet + 1
        # Once is not enough: a search misses who forks and dies while it runs, and the child with it.
        if quiet == 2:
            break
        _send_all(newcomers, signal.SIGSTOP)
        stopped.update(dict.fromkeys(newcomers))
        # Who was in the middle of a fork completes it: only then does the next search find the child.
        while (moving := set().union(*map(procs.moving_states, newcomers))) and clock() < end:
            if moving == {"D"} and clock() >= began + _STOP_ASLEEP_S:
                break
            pause(_STOP_LOOK_AGAIN_S)
    return list(stopped)


def _send_all(to: Iterable[Identity], *numbers: int) -> None:
    for one in to:
        for number in numbers:
            try:
                procs.send(one, number)
            except PermissionError:
                # A setuid program has become somebody else. It is still found, so nobody calls it dead.
                break


def kill_children(clock: Callable[[], float], pause: Callable[[float], None], most_s: float) -> None:
    """KILL for all children of this process, again and again while there are new ones, for at most so long.

    For a subreaper: who forks and ends faster than a pass over the process table is its child for a moment.
    `pause` is that of `kill_tree`. Nothing happens where the kernel does not list children.
    """
    end = clock() + most_s
    before: set[int] | None = None
    while (children := set(procs.own_children())) and children != before and clock() < end:
        for pid in children:
            # Nobody else is given the pid of a child before it is reaped, which only we do.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        before = children
        pause(_REAP_S)
