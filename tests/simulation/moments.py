"""`time`, `signal` and threads as the code under test finds them: clocks differ from node to node."""

from __future__ import annotations

import signal as real_signal
import time as real_time
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from tests.simulation import calls
from tests.simulation.lives import Fork
from tests.simulation.schedule import Actor


class SimTime:
    """The `time` of every module under test: clocks differ from node to node."""

    CLOCK_BOOTTIME, CLOCK_MONOTONIC, CLOCK_REALTIME = (
        real_time.CLOCK_BOOTTIME,
        real_time.CLOCK_MONOTONIC,
        real_time.CLOCK_REALTIME,
    )
    strftime, localtime, gmtime = (
        staticmethod(real_time.strftime),
        staticmethod(real_time.gmtime),
        staticmethod(real_time.gmtime),
    )

    @staticmethod
    def monotonic() -> float:
        return calls.world.schedule.now - calls.process().node.booted_s + 1000.0

    perf_counter = monotonic

    @staticmethod
    def monotonic_ns() -> int:
        return int(SimTime.monotonic() * 1e9)

    @staticmethod
    def time_ns() -> int:
        node = calls.process().node
        return Fork.remembered(node.wall_ns)

    @staticmethod
    def time() -> float:
        return SimTime.time_ns() / 1e9

    @staticmethod
    def clock_gettime_ns(clock: int) -> int:
        return SimTime.time_ns() if clock == real_time.CLOCK_REALTIME else SimTime.monotonic_ns()

    @staticmethod
    def clock_gettime(clock: int) -> float:
        return SimTime.clock_gettime_ns(clock) / 1e9

    @staticmethod
    def sleep(seconds: float) -> None:
        me = calls.process()
        if me.pending and me.actors[0] is calls.world.schedule.current:
            me.handle()
        calls.world.schedule.pause(max(0.0, seconds))


class SimSignal:
    """The `signal` of every module under test."""

    @staticmethod
    def signal(number: int, handler: Any) -> Any:
        me = calls.process()
        before = me.handlers.get(number, real_signal.SIG_DFL)
        if handler is real_signal.SIG_DFL:
            me.handlers.pop(number, None)
        else:
            me.handlers[number] = handler
        return before

    @staticmethod
    def set_wakeup_fd(descriptor: int, **_: Any) -> int:
        me = calls.process()
        me.wakeup, before = descriptor, me.wakeup
        return before

    @staticmethod
    def pthread_sigmask(how: int, numbers: Iterable[int]) -> set[int]:
        me = calls.process()
        before = set(me.mask)
        if how == real_signal.SIG_BLOCK:
            me.mask |= set(numbers)
        elif how == real_signal.SIG_SETMASK:
            me.mask = set(numbers)
        else:
            me.mask -= set(numbers)
        for number in sorted(me.pending - me.mask):
            me.pending.discard(number)
            me.signal(number)
        return before

    @staticmethod
    def sigtimedwait(numbers: Iterable[int], timeout_s: float) -> Any:
        me, wanted = calls.process(), set(numbers)
        calls.local("signal")
        if not me.pending & wanted:
            me.awaited = calls.actor(), wanted
            calls.world.schedule.wait(max(0.0, timeout_s))
            me.awaited = None
        came = sorted(me.pending & wanted)
        if not came:
            return None
        me.pending.discard(came[0])
        return SimpleNamespace(si_signo=came[0])

    @staticmethod
    def sigpending() -> set[int]:
        return set(calls.process().pending)

    def __getattr__(self, name: str) -> Any:
        return getattr(real_signal, name)


class Event:
    """threading.Event."""

    def __init__(self) -> None:
        self._is_set = False
        self._waiting: list[Actor] = []

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            calls.world.schedule.wake(one)

    def clear(self) -> None:
        self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        if not self._is_set:
            self._waiting.append(calls.actor())
            calls.world.schedule.wait(timeout)
            if calls.actor() in self._waiting:
                self._waiting.remove(calls.actor())
        return self._is_set


def start_thread(thread: Any) -> None:
    """threading.Thread.start."""
    me = calls.process()
    calls.world.schedule.start(f"{me!r}+", me, thread.run, calls.world.random() * 0.001)
