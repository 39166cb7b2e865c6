"""Folding: old ended records become lines of the journal of this node, a slice at a time.

Called by a daemon's sweep. Of a hundred thousand records it takes some in each round, so that no job waits
for it; the steps of one slice are in `records/history`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator

from roundq.records import history
from roundq.records import spool as spools
from roundq.records.history import Journal, Moving
from roundq.records.spool import Spool
from roundq.words.states import ENDED_STATES
from roundq.world import files

#: How long it works in one round, about, by how long it took before.
SLICE_S = 0.05
#: ... and with how many records at least and at most, and so many bytes, which are held at once.
SLICE_LEAST, SLICE_MOST, SLICE_BYTES_MAX = 5, 1000, 4 << 20
#: How soon the next slice follows.
AGAIN_S = 0.3
#: A volume is closed after this time, or after this part of the time for which the history is kept.
YEAR_S, PARTS = 366 * 86_400.0, 8


class Folding:
    """What one daemon remembers of it."""

    def __init__(self, spool: Spool, node: str, log: logging.Logger) -> None:
        self.spool, self.node, self.log = spool, node, log
        self.journal = Journal(spool, node)
        self._pass: Iterator[Moving | None] | None = None
        self._folded = 0
        self._server_s: float | None = None
        #: How many records a slice has room for.
        self._most = 50.0
        #: What others left half moved, as the last pass saw it.
        self._others: set[Moving] = set()

    def begin(self, before_s: float | None, server_s: float | None = None) -> None:
        """Begins a pass: what this node left half moved, and with `before_s` (epoch, the server's clock) also
        ended records whose files are older than that; with `server_s`, that clock now, also volumes go that
        are older than the history is kept. One that goes on goes on."""
        if self._pass is None:
            self._pass = self._found(before_s)
            self._folded = 0
            self._server_s = server_s

    def go_on(self, history_s: float) -> None:
        """Folds a slice, if a pass was begun. The history is kept for `history_s` seconds, 0 for ever.

        Raises OSError if the journal cannot be written; what was taken is folded in the next pass then.
        """
        if self._pass is None:
            return
        begun_s = time.monotonic()
        most = min(SLICE_MOST, int(self._most))
        taken: list[Moving] = []
        size = 0
        is_over = False
        try:
            while len(taken) < most and size < SLICE_BYTES_MAX and time.monotonic() - begun_s < SLICE_S:
                moving = next(self._pass, self)
                if moving is self:
                    is_over = True
                    break
                if isinstance(moving, Moving):
                    taken.append(moving)
                    size += _size(history.path_of(self.spool, moving.file))
            now_s = time.time()
            after_s = min(YEAR_S, history_s / PARTS) if history_s else YEAR_S
            self._folded += self.journal.fold(taken, now_s, after_s)
        except OSError:
            # Tried again by the next pass, not by the next round.
            self._pass = None
            raise
        if taken:
            each_s = (time.monotonic() - begun_s) / len(taken)
            # Not by one slow answer of a server, nor by one quick one.
            self._most = max(SLICE_LEAST, min(2 * self._most, (self._most + SLICE_S / each_s) / 2))
        if is_over:
            self._pass = None
            self._told(now_s, history_s)

    def _told(self, now_s: float, history_s: float) -> None:
        if self._folded:
            self.log.info("folded %d ended jobs older than keep_for into the history", self._folded)
        if not history_s or self._server_s is None:
            return
        # The clock of a node that has just booted may be years ahead, and what is removed does not come back.
        if gone := self.journal.forget(int((min(now_s, self._server_s) - history_s) * 1e9)):
            self.log.info("removed %d volumes of the history, which were older than it is kept", gone)

    def again_s(self) -> float:
        """Seconds until the next slice is to be folded."""
        return float("inf") if self._pass is None else AGAIN_S

    def _found(self, before_s: float | None) -> Iterator[Moving | None]:
        """What is to be folded, taken one by one; None for a record that is not old enough."""
        mine, others = [], set()
        for moving in history.look(self.spool).moving:
            if moving.node == self.node:
                mine.append(moving)
            else:
                others.add(moving)
        yield from mine
        if before_s is None:
            return
        # A daemon that lives would have folded it within minutes.
        stood, self._others = others & self._others, others
        for moving in stood:
            yield history.take_over(self.spool, moving, self.node)
        for state in ENDED_STATES:
            for listed in files.listing(self.spool.directory(state)):
                entry = spools.entry_of(state, listed)
                yield None
                if entry is None:
                    continue
                with contextlib.suppress(FileNotFoundError):
                    if os.lstat(spools.path_of(self.spool, entry)).st_mtime < before_s:
                        yield history.take(self.spool, entry, self.node)


def _size(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0
