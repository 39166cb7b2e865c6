"""Arrays of which too many tasks failed: nothing more of them begins, and what has not begun is canceled.

How many failed is told by the names of files, as for all that is waited for: see `targets`. A task that is
retried has not failed yet, and one that is run again by its user has failed no longer.
"""

from __future__ import annotations

import logging
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from roundq.actors import targets
from roundq.actors.held import MOVE_MOST_S, cancel
from roundq.actors.listing import Row, row_of
from roundq.actors.targets import Targets
from roundq.records import changes
from roundq.records.spool import Entry, Spool
from roundq.words.errors import RoundqError
from roundq.words.job import Dependency
from roundq.words.quantities import visible
from roundq.words.ranges import array_of
from roundq.words.states import CANCELED, FAILED, ZOMBIE

#: After the file system refused, the next is tried after this; and so soon if somebody else was faster.
AGAIN_S, LOST_RACE_S = 10.0, 0.5
#: What cannot be canceled is tried again after this: each time all daemons have to list what was sealed.
STUCK_S = 60.0
#: Whether anything is left of what is watched is looked at this often.
IDLE_S = 60.0


class Excess(NamedTuple):
    """An array of which more tasks failed than `most` may, and of which some are to be run again.

    So many `stay` failed; `first` are failed ones that must not be seen as such when any is put.
    """

    stay: int
    most: int
    first: list[Row]


def excesses(spool: Spool, rows: Iterable[Row]) -> dict[str, Excess]:
    """The arrays of which more tasks failed than may, if these ended jobs are to be run again.

    Reads one record of each array. Raises OSError if the spool cannot be listed.
    """
    tasks: dict[str, list[Row]] = {}
    for row in rows:
        if array := array_of(row.id):
            tasks.setdefault(array, []).append(row)
    most = {array: allowed for array, some in tasks.items() if (allowed := _allowed(some)) is not None}
    whole = {array: Dependency("any", array, 1) for array in most}
    there = targets.now(spool, whole.values()) if whole else {}
    found = {}
    for array, allowed in most.items():
        counts = there[whole[array]].counts
        failed = counts.get(FAILED, 0) + counts.get(ZOMBIE, 0)
        again = [row for row in tasks[array] if row.state in (FAILED, ZOMBIE) and not row.past]
        if failed > allowed:
            found[array] = Excess(failed - len(again), allowed, again[: failed - allowed])
    return found


def _allowed(tasks: Iterable[Row]) -> int | None:
    """How many tasks of their array may fail, as the first record says that can be read."""
    for row in tasks:
        record = row.record or row_of(row.spool, row.entry, True).record
        if record is not None:
            return None if record.job.array is None else record.job.array.max_fails
    return None


class MaxFails:
    """What one daemon remembers of them. Times are monotonic, in seconds."""

    def __init__(self, spool: Spool, node: str, log: logging.Logger, targets: Targets) -> None:
        self.spool, self.node, self.log, self.targets = spool, node, log, targets
        #: How many tasks of each array may fail, and of those of which more did, how many.
        self._most: dict[str, int] = {}
        self.over: dict[str, int] = {}
        #: Why one cannot be canceled that should be, and when it is tried again.
        self._stuck: dict[Entry, tuple[str, float]] = {}
        #: Since when it is known what is to be canceled.
        self._known_s: dict[Entry, float] = {}
        #: Before this nothing is tried; and then there is something to do, as far as is known.
        self._blocked_s = self._idle_s = float("-inf")
        self._wake_s = float("inf")
        self._turn = zlib.crc32(node.encode()) / 2**32

    def watch(self, most: Mapping[str, int]) -> bool:
        """Says which arrays have tasks that have not begun, and how many of each may fail.

        Whether there are new ones: these are known after the next look at the targets.
        """
        new = most.keys() - self._most.keys()
        for array in new:
            self.targets.want((array, True), 1)
        for array in self._most.keys() - most.keys():
            self.targets.drop((array, True))
        self._most = dict(most)
        return bool(new)

    def look(self) -> set[str]:
        """The arrays of which too many tasks failed by now."""
        # Told by `cancel`, which is not called while nothing may be done.
        self._wake_s = float("inf")
        self._judge()
        if not self.over:
            self._stuck, self._known_s = {}, {}
        return set(self.over)

    def _judge(self) -> None:
        self.over = {}
        for array, allowed in self._most.items():
            counts = self.targets.target((array, True)).counts
            failed = counts.get(FAILED, 0) + counts.get(ZOMBIE, 0)
            if failed > allowed:
                self.over[array] = failed

    def idle(self, entries: Iterable[Entry], now_s: float) -> set[str]:
        """Now and then: the arrays that are watched, and of which nothing is left among `entries`."""
        if not self._most or now_s < self._idle_s:
            return set()
        self._idle_s = now_s + IDLE_S
        return self._most.keys() - {array_of(entry.id) for entry in entries}

    def again_s(self, now_s: float) -> float:
        """Seconds until the next look is wanted at the latest."""
        return max(0.0, self._wake_s - now_s)

    def trouble(self) -> list[str]:
        """What the user should know: what cannot be canceled."""
        return [
            f"job {visible(entry.id)} cannot be canceled: {why}" for entry, (why, _) in self._stuck.items()
        ]

    def cancel(
        self, entries: Iterable[Entry], now_s: float, now_ns: int, look_at_targets: Callable[[float], object]
    ) -> list[Entry]:
        """Cancels what has not begun of arrays that are over, a part in each round; what is canceled now.

        `look_at_targets` brings the targets up to date; it may raise OSError.
        """
        if now_s < self._blocked_s:
            self._wake_s = self._blocked_s
            return []
        due = self._in_turn(entries, now_s)
        if due:
            # What was listed since the last look may have failed before that, and have been run again.
            look_at_targets(now_s)
            self._judge()
        until_s = time.monotonic() + MOVE_MOST_S
        canceled: list[Entry] = []
        for entry in due:
            if array_of(entry.id) not in self.over:
                continue
            if time.monotonic() > until_s:
                self._wake_s = now_s
                break
            array = array_of(entry.id)
            many = "1 task" if self.over[array] == 1 else f"{self.over[array]} tasks"
            detail = f"{many} of {visible(array)} failed, and --max-fails allows {self._most[array]}"
            try:
                if not cancel(self.spool, self.node, entry, "max fails", detail, now_ns):
                    # Somebody else is at it, too: what is left is seen in the next listing.
                    self._blocked_s = self._wake_s = now_s + LOST_RACE_S
                    break
            except (OSError, RoundqError) as error:
                if entry not in self._stuck:
                    self.log.warning("job %s cannot be canceled: %s", visible(entry.id), error)
                self._stuck[entry] = (str(error), now_s + STUCK_S)
                self._wake_s = min(self._wake_s, now_s + STUCK_S)
                if isinstance(error, OSError):
                    # The others may be refused, too.
                    self._blocked_s = self._wake_s = now_s + AGAIN_S
                    break
                continue
            canceled.append(entry)
            fields = {"ROUNDQ_JOB": entry.id, "ROUNDQ_STATE": CANCELED, "ROUNDQ_NODE": self.node}
            self.log.info("job %s is canceled: %s", visible(entry.id), detail, extra=fields)
        if canceled:
            changes.sync(self.spool, (CANCELED,))
        return canceled

    def _in_turn(self, entries: Iterable[Entry], now_s: float) -> list[Entry]:
        """What is to be canceled now, of these; has the rest looked at when it is its time."""
        left = sorted(
            (entry for entry in entries if not entry.is_sealed and array_of(entry.id) in self.over),
            key=lambda entry: entry.id,
        )
        self._stuck = {entry: self._stuck[entry] for entry in left if entry in self._stuck}
        self._known_s = {entry: self._known_s.get(entry, now_s) for entry in left}
        first = int(self._turn * len(left))
        # A task that was run again may still be seen where it failed.
        due_s = {
            entry: max(self._known_s[entry] + self.targets.late_s, self._stuck.get(entry, ("", 0.0))[1])
            for entry in left[first:] + left[:first]
        }
        self._wake_s = min((at_s for at_s in due_s.values() if at_s > now_s), default=float("inf"))
        return [entry for entry, at_s in due_s.items() if at_s <= now_s]
