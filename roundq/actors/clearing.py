"""Temporary files that dead supervisors left on this node: found now and then, removed in a process beside.

A supervisor removes those of its job itself; here are those of which it died, or the node was rebooted.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
from collections.abc import Callable, Collection, Mapping

from roundq.actors import environ
from roundq.words.job import Identity
from roundq.world import procs, scratch, spawn
from roundq.world.procs import Liveness

#: How often it is looked for what nobody told of.
CLEAR_S = 3600.0


class Clearing:
    """What one daemon remembers of it. `environment` is that of the daemon, which says where to look."""

    def __init__(self, spool_path: str, log: logging.Logger, environment: Mapping[str, str]) -> None:
        self._spool_path, self.log, self._environment = spool_path, log, environment
        self._cleared_s = float("-inf")
        self._places: set[str] = set()
        self._is_asked = True
        self._told: set[str] = set()
        self._paths: list[str] = []
        #: Tells by its end that the process that removes has ended.
        self._removing: int | None = None

    def ask(self) -> None:
        """Has it look in the next round: a supervisor died."""
        self._is_asked = True

    def run(self, now_s: float, configured: str, held: Callable[[], Collection[Identity]]) -> None:
        """Has removed what is left, if it is time to look. `configured` is the place that jobs get now.

        `held` tells supervisors of which something may live still, though they are dead.
        """
        if self.is_removing():
            return
        place = scratch.place_of(self._environment, configured, is_job="RQ_JOB_ID" in self._environment)
        if place not in self._places:
            # The others stay: there may be those of jobs that were begun under another configuration.
            self._places |= {place, scratch.USUAL}
            self._is_asked = True
        if not self._is_asked and now_s - self._cleared_s < CLEAR_S:
            return
        self._cleared_s, self._is_asked = now_s, False
        self._paths = self._left(held)
        if self._paths:
            with contextlib.suppress(OSError):
                self._remove(self._paths)

    def is_removing(self) -> bool:
        """Whether a process removes something now."""
        if self._removing is None:
            return False
        poller = select.poll()
        poller.register(self._removing, select.POLLIN)
        if not poller.poll(0):
            return True
        os.close(self._removing)
        self._removing = None
        for path in self._paths:
            if os.path.lexists(path) and path not in self._told:
                self._told.add(path)
                self.log.warning("%s cannot be removed: is something mounted in it, or another user's?", path)
        return False

    def _left(self, held: Callable[[], Collection[Identity]]) -> list[str]:
        """The directories of dead supervisors of which nothing lives any more."""
        found = [
            left
            for place in sorted(self._places)
            for left in scratch.left(place, self._spool_path)
            if procs.liveness(left.process) is Liveness.DEAD
        ]
        if not found:
            return []
        kept = held()
        marks = {environ.mark(left.process) for left in found if left.process.boot == procs.boot_id()}
        bearers = procs.bearers(sorted(marks))
        return [
            left.path
            for left in found
            if left.process not in kept and not bearers.get(environ.mark(left.process))
        ]

    def _remove(self, paths: list[str]) -> None:
        def serve(*_: int) -> None:
            spawn.set_name(b"rq:clearing")
            spawn.set_title(b"rq remover of temporary files")
            os.nice(19)
            for path in paths:
                scratch.remove(path)

        _, asking, self._removing = spawn.helper(serve)
        os.close(asking)
