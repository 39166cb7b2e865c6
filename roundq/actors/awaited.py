"""Jobs whose ends are waited for: where they are, look by look, and how soon to look again.

One look serves any number of jobs and of callers. It is kind to the server: directories that did not change
are not listed again, and pauses grow while nothing happens.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterable

from roundq.actors.listing import Row, locate, row_of
from roundq.actors.selection import past_row
from roundq.records.shelf import Shelf
from roundq.records.spool import Entry, Spool
from roundq.words.errors import SpoolError
from roundq.words.states import ENDED_STATES, OWNED_STATES, STATES

#: How soon to look again, in seconds: at first, and at most, while jobs run here or elsewhere.
WAIT_MIN_S, WAIT_HERE_S, WAIT_MAX_S = 0.05, 0.5, 2.0
#: How long an ended record that cannot be read is given to become readable, and a home to be listed.
UNREADABLE_S = 10.0
#: A job that was met nowhere in so many looks in a row does not exist.
LOOKS_IN_VAIN = 3


class Awaited:
    """What is known of jobs that are waited for.

    `ended` are the rows of those that have ended, `met` where the others were met by the last look, `unknown`
    the ids that are nowhere: never after a single look, since a job that moves may be missed, and not before
    `late_s` seconds, after which what other nodes do is seen, and never while the home cannot be read, since
    then a look proves nothing: after `UNREADABLE_S` of that they are `hidden`, with the reason, until a look
    sees all again. `problem` is why the last look could not, None if it could; `pause_s` when to look again.
    """

    def __init__(
        self,
        spool: Spool,
        *,
        node: str = "",
        late_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.spool, self.node, self.late_s = spool, node, late_s
        self.ended: dict[str, Row] = {}
        self.met: dict[str, Entry] = {}
        self.unknown: dict[str, None] = {}
        self.pause_s = WAIT_MIN_S
        self._clock = clock
        self._shelves = [Shelf(spool, state) for state in STATES]
        for shelf in self._shelves:
            shelf.freshness.late_s = late_s
        self._by_id: dict[str, list[Entry]] | None = None
        self.hidden: dict[str, OSError] = {}
        self.problem: OSError | None = None
        #: Since when not all could be looked at, None if it could.
        self._blind_since_s: float | None = None
        self._missed: dict[str, int] = {}
        self._met_s: dict[str, float] = {}
        self._unreadable_since_s: dict[str, float] = {}

    def look(self, wanted: Collection[str]) -> None:
        """Looks for these jobs; what was known of others is forgotten."""
        self.forget([job_id for job_id in self._met_s if job_id not in wanted])
        before, self.met = self.met, self.find(wanted)
        for job_id in wanted:
            self._meet(job_id)
        for job_id, entry in self.met.items():
            if entry.state in ENDED_STATES and job_id not in self.ended:
                row = row_of(self.spool, entry, True)
                since_s = self._unreadable_since_s.setdefault(job_id, self._clock())
                # A file that cannot be read yet is on its way to this node; but not for ever.
                if row.record is not None or self._clock() - since_s > UNREADABLE_S:
                    self.ended[job_id] = row
        self.pause_s = WAIT_MIN_S if self.met != before else self.pause_s * 1.3
        here = any(entry.node == self.node for entry in self.met.values() if entry.state in OWNED_STATES)
        self.pause_s = min(self.pause_s, WAIT_HERE_S if here else WAIT_MAX_S)
        self.hidden = self._hidden(wanted)

    def forget(self, ids: Iterable[str]) -> None:
        """Nothing that was known of these jobs counts any more."""
        for known in (self.ended, self.unknown, self._missed, self._met_s, self._unreadable_since_s):
            for job_id in ids:
                known.pop(job_id, None)

    def find(self, wanted: Collection[str]) -> dict[str, Entry]:
        """Where these jobs are now; those not met are left out, which with a `problem` proves nothing."""
        self.problem = None
        # In the order of the states, so that a job that moves on meanwhile is still met.
        for shelf in self._shelves:
            try:
                if shelf.look(self._clock()):
                    self._by_id = None
            except OSError as error:
                self.problem = error
        if self._by_id is None:
            self._by_id = {}
            for shelf in self._shelves:
                for entry in shelf.entries.values():
                    self._by_id.setdefault(entry.id, []).append(entry)
        met: dict[str, Entry] = {}
        twice: list[str] = []
        for job_id in wanted:
            entries = self._by_id.get(job_id, ())
            if entries:
                met[job_id] = entries[-1]
            if len(entries) > 1:
                twice.append(job_id)
        if twice:
            # Two names of one job: what is right takes a look into them.
            with contextlib.suppress(OSError):
                met |= locate(self.spool, twice)
        return met

    def _meet(self, job_id: str) -> None:
        """Counts how often a job was met nowhere, and looks for it in the history in the end."""
        if job_id in self.met or job_id in self.ended:
            self._missed[job_id] = 0
            self._met_s[job_id] = self._clock()
            return
        first_s = self._met_s.setdefault(job_id, self._clock())
        if self.problem is not None:
            return
        self._missed[job_id] = self._missed.get(job_id, 0) + 1
        if self._missed[job_id] < LOOKS_IN_VAIN or self._clock() - first_s < self.late_s:
            return
        # It may have ended long ago.
        try:
            past = past_row(self.spool, job_id)
        except OSError as error:
            self.problem = error
            return
        if past is not None:
            self.ended[job_id] = past
        else:
            self.unknown[job_id] = None

    def _hidden(self, wanted: Collection[str]) -> dict[str, OSError]:
        problem, now_s = self.problem, self._clock()
        if problem is None:
            self._blind_since_s = None
            return {}
        if self._blind_since_s is None:
            self._blind_since_s = now_s
        missed = [job_id for job_id in wanted if job_id not in self.met and job_id not in self.ended]
        since_s = self._blind_since_s
        return {
            job_id: problem
            for job_id in missed
            if job_id not in self.unknown and now_s - max(since_s, self._met_s[job_id]) > UNREADABLE_S
        }


def cannot_tell(job_id: str, problem: OSError) -> SpoolError:
    """What is said of a job that is not met while the home cannot be read."""
    what = f"{problem.filename}: {problem.strerror}" if problem.filename else problem.strerror or problem
    error = SpoolError(
        f"cannot tell what became of job {job_id}: {what}",
        "the job is not affected by this; when `ls ~/.roundqueue` works again, ask again",
    )
    error.__cause__ = problem
    return error
