"""Actors take turns in simulated time: a discrete-event scheduler over greenlets.

An actor runs until it pauses; whoever is due next goes on. Every file operation pauses for a random time, so
that the seed decides how operations of different processes interleave. Nothing here knows files or jobs.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import greenlet

if TYPE_CHECKING:
    from tests.simulation.machine import Process


class Killed(BaseException):
    """Ends what is left of an actor whose process is dead. Nothing that it still does has any effect."""


class Actor:
    """A thread of a simulated process."""

    __slots__ = ("greenlet", "is_woken", "name", "process", "replay", "token")

    def __init__(self, name: str, process: Process) -> None:
        self.name, self.process = name, process
        self.greenlet: greenlet.greenlet = greenlet.greenlet()
        #: Grows with each turn: what was scheduled for an earlier turn is void.
        self.token = 0
        self.is_woken = False
        #: What calls before a fork gave, which the child must be given again; see system.Fork.
        self.replay: Any = None


class Schedule:
    """The clock, and who is due when. Times are in seconds of the simulation."""

    def __init__(self) -> None:
        self.now = 0.0
        self.current: Actor | None = None
        self.is_over = False
        #: Raised by whoever finds something wrong: ends the run.
        self.should_stop: Callable[[], bool] = lambda: False
        self.on_crash: Callable[[Actor, BaseException], None] = lambda _actor, _error: None
        self._heap: list[tuple[float, int, Any, int]] = []
        self._serial = itertools.count()
        self._hub = greenlet.getcurrent()
        self._actors: list[Actor] = []

    # ------------------------------------------------------------ for actors

    def pause(self, seconds: float) -> None:
        """The current actor goes on after this time."""
        actor = self.current
        if actor is None or self.is_over or not actor.process.is_alive:
            raise Killed
        due = self.now + seconds
        # Nobody is due before: no need to change greenlets.
        if (not self._heap or self._heap[0][0] > due) and not actor.process.is_blocked:
            self.now = due
            return
        heapq.heappush(self._heap, (due, next(self._serial), actor, actor.token))
        self._switch(actor)

    def wait(self, seconds: float | None = None) -> bool:
        """The current actor waits to be woken, at most so long; whether it was."""
        actor = self.current
        if actor is None or self.is_over or not actor.process.is_alive:
            raise Killed
        actor.is_woken = False
        if seconds is not None:
            heapq.heappush(self._heap, (self.now + seconds, next(self._serial), actor, actor.token))
        self._switch(actor)
        return actor.is_woken

    def vanish(self) -> None:
        """The current actor's process is dead: it does nothing more."""
        self._hub.switch()
        raise Killed

    def _switch(self, actor: Actor) -> None:
        self._hub.switch()
        if self.is_over or not actor.process.is_alive:
            raise Killed

    # ------------------------------------------------------------ for everybody

    def start(self, name: str, process: Process, main: Callable[[], None], after_s: float = 0.0) -> Actor:
        """A new actor of this process that runs `main`."""
        actor = Actor(name, process)

        def body() -> None:
            try:
                main()
            except Killed:
                pass
            except BaseException as error:
                self.on_crash(actor, error)

        actor.greenlet = greenlet.greenlet(body, parent=self._hub)
        self._actors.append(actor)
        process.actors.append(actor)
        self.resume(actor, after_s)
        return actor

    def resume(self, actor: Actor, after_s: float = 0.0) -> None:
        """Schedules a turn of an actor that waits for nothing else."""
        heapq.heappush(self._heap, (self.now + after_s, next(self._serial), actor, actor.token))

    def wake(self, actor: Actor) -> None:
        """Ends the wait of an actor."""
        if not actor.is_woken:
            actor.is_woken = True
            self.resume(actor)

    def at(self, seconds: float, event: Callable[[], None]) -> None:
        """Something happens by itself after this time."""
        heapq.heappush(self._heap, (self.now + seconds, next(self._serial), event, -1))

    def run(self, until: float) -> bool:
        """Runs until this time, or until `should_stop`; False if nothing was left to do."""
        heap = self._heap
        while heap and not self.should_stop():
            if heap[0][0] > until:
                self.now = until
                return True
            due, _, what, token = heapq.heappop(heap)
            if token == -1:
                self.now = max(self.now, due)
                what()
                continue
            actor: Actor = what
            if actor.token != token or not actor.process.is_alive:
                continue
            if actor.process.is_blocked:
                actor.process.park(actor)
                continue
            self.now = max(self.now, due)
            actor.token += 1
            self.current = actor
            actor.greenlet.switch()
            self.current = None
        return bool(heap)

    def close(self) -> None:
        """Ends every actor; whatever their clean-up tries has no effect."""
        self.is_over = True
        for actor in self._actors:
            if actor.greenlet and not actor.greenlet.dead:
                actor.greenlet.throw(Killed)
        self._actors.clear()
        self._heap.clear()
