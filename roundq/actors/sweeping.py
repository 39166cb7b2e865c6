"""Once an hour: what dead processes left, old ended records into the history, environments and limits that
nobody needs.

Called by a daemon's round, which knows what waits. Removes nothing of which it cannot be told that
nobody needs it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from roundq.actors.folding import Folding
from roundq.records import control, environments, ids
from roundq.records import spool as spools
from roundq.records.commons import Publisher
from roundq.records.spool import Spool
from roundq.words.errors import RecordError
from roundq.words.groups import MARK
from roundq.words.quantities import visible
from roundq.words.ranges import array_of
from roundq.words.states import CLAIMED, HELD, RUNNING
from roundq.world import files, procs

SWEEP_S = 3600.0
#: An environment that nobody needs is kept this long at least: a submission may be about to name one.
ENVIRONMENT_IDLE_S = 86_400.0


class Sweeping:
    """What one daemon remembers of its sweeps."""

    def __init__(
        self, spool: Spool, node: str, log: logging.Logger, publisher: Publisher | None = None
    ) -> None:
        self.spool, self.node, self.log, self.publisher = spool, node, log, publisher
        self.folding = Folding(spool, node, log)
        self._swept_s: float | None = None
        self._spare: set[str] = set()
        self._gone: set[str] = set()

    def run(
        self,
        now_s: float,
        keep_for_s: float,
        waiting: Callable[[], set[str] | None],
        history_s: float = 0.0,
    ) -> None:
        """Sweeps if it is time to, and goes on with what was begun.

        `waiting` tells the environments of what waits, None if it cannot tell; the history is kept for
        `history_s`, 0 for ever.
        """
        self._sweep(now_s, keep_for_s, waiting)
        self.folding.go_on(history_s)

    def _sweep(self, now_s: float, keep_for_s: float, waiting: Callable[[], set[str] | None]) -> None:
        if self._swept_s is not None and now_s - self._swept_s < SWEEP_S:
            return
        first, self._swept_s = self._swept_s is None, now_s
        spools.sweep_temporaries(self.spool, self.node, procs.table)
        if first:
            # What an earlier daemon of this node had begun.
            self.folding.begin(None)
            return
        # The server's clock on both sides: our card was written there a moment ago.
        server_s = files.signature(f"{self.spool.path}/{self.node}")[1] / 1e9
        self.folding.begin(server_s - keep_for_s, server_s)
        ids.sweep(self.spool.path, server_s - SWEEP_S)
        if self.publisher is not None:
            self.publisher.sweep(keep_for_s)
        spare = self._unneeded(waiting())
        # Twice in a row: the one job that needs it may be on its way from one directory to the next.
        environments.sweep(self.spool, spare & self._spare, server_s - max(keep_for_s, ENVIRONMENT_IDLE_S))
        self._spare = spare
        over = self._arrays_gone()
        for array in over & self._gone:
            self.log.info("array %s is no more, nor is its limit", visible(array))
            control.set_group_limit(self.spool, array, None, self.node)
        self._gone = over

    def _arrays_gone(self) -> set[str]:
        """The arrays that have a limit and no job; a set is wanted as long as it has a limit."""
        limited = {group for group in control.limited(self.spool) if not group.startswith(MARK)}
        if not limited:
            return set()
        return limited - {array_of(entry.id) for entry in spools.scan(self.spool)}

    def _unneeded(self, needed: set[str] | None) -> set[str]:
        """The environments that no job names that waits or runs; none if that cannot be told of some job."""
        if needed is None:
            return set()
        for entry in spools.scan(self.spool, (HELD, CLAIMED, RUNNING)):
            if entry.state == HELD and not entry.is_on_hold and not entry.is_sealed:
                # It waits for something, and is among what waits.
                continue
            try:
                needed.add(spools.read(self.spool, entry).job.environment or "")
            except (OSError, RecordError):
                return set()
        return environments.stored(self.spool) - needed
