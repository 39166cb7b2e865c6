"""My waiting jobs as the daemon knows them: each file read once, sorted by shape in the order of turns.

A list of ten thousand costs what changed in it. It reads and remembers; it moves nothing.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from roundq.records import spool as spools
from roundq.records.shelf import Shelf
from roundq.records.spool import Entry, Spool
from roundq.words import policy
from roundq.words.errors import RecordError
from roundq.words.groups import groups_of, limits_of, throttle_of
from roundq.words.policy import Shape, Want
from roundq.words.quantities import visible
from roundq.words.ranges import array_of
from roundq.words.states import WAITING
from roundq.world import files

#: New job files are parsed for at most this long in one round; the rest in the next.
PARSE_MOST_S = 0.2
#: A file that is no record yet may still be being written; after this it is reported.
BROKEN_AFTER_S = 5.0


@dataclass(slots=True)
class Waiting:
    """One waiting job that was read: what policy needs of it, and since when we know it.

    `groups` are all of its groups, `throttle` is that of its array, 0 for none.
    """

    entry: Entry
    want: Want
    known_s: float
    environment: str | None
    groups: tuple[str, ...] = ()
    throttle: int = 0


class WaitingList:
    """What one daemon remembers of waiting/."""

    def __init__(self, spool: Spool, log: logging.Logger) -> None:
        self.spool, self.log = spool, log
        #: By shape, each in the order of turns.
        self.shapes: dict[Shape, list[Waiting]] = {}
        self._shelf = Shelf(spool, WAITING)
        self._by_file: dict[str, Waiting] = {}
        #: Files that are no job yet, or never: since when, and what is said of them once it is.
        self._broken: dict[Entry, tuple[float, str]] = {}
        self._list_again_s = 0.0
        #: Since when the newest of them is known.
        self.newest_s = float("-inf")
        self._is_unread = False
        #: Arrays of which nothing may begin; and by array how many of its tasks may fail.
        self._barred: frozenset[str] = frozenset()
        self._max_fails: dict[str, int] = {}
        #: What was said of groups: how many jobs of one may run at once, None for any number.
        self._asked: Mapping[str, int | None] = {}

    def __len__(self) -> int:
        return len(self._by_file)

    def again_s(self, now_s: float) -> float:
        """Seconds until the next look is wanted at the latest."""
        soon = [float("inf")]
        if self._is_unread:
            soon.append(self._list_again_s - now_s)
        if not self._shelf.freshness.is_settled:
            soon.append(files.Freshness.SETTLED_S)
        return min(soon)

    def expect_late(self, late_s: float) -> None:
        """Says how late a name may be seen after the time of its directory."""
        self._shelf.freshness.late_s = late_s

    def keep_to(self, asked: Mapping[str, int | None]) -> None:
        """Says which limits groups have, so that jobs of one that has any are told from others."""
        if asked == self._asked:
            return
        self._asked = dict(asked)
        for one in self._by_file.values():
            groups = self._limited(one.groups, one.throttle)
            if groups != one.want.groups:
                one.want = replace(one.want, groups=groups)
        self._sort()

    def _limited(self, groups: tuple[str, ...], throttle: int) -> tuple[str, ...]:
        return tuple(limits_of(groups, throttle, self._asked)) if groups else ()

    def entry(self, job_id: str) -> Entry | None:
        """The file of a job as it was last listed."""
        return self._shelf.entries.get(f"{job_id}{spools.SUFFIX}")

    def remove(self, entries: Iterable[Entry]) -> None:
        """Forgets jobs that the caller moves elsewhere; if they come back, the next look finds them."""
        known = len(self)
        for entry in entries:
            self._by_file.pop(entry.file, None)
        if len(self) < known:
            self._thin_out()

    def bar(self, arrays: Iterable[str]) -> None:
        """Says of which arrays nothing may begin: their tasks are none of those that wait here."""
        before, self._barred = self._barred, frozenset(arrays)
        if self._barred - before:
            self.remove(
                [one.entry for one in self._by_file.values() if array_of(one.entry.id) in self._barred]
            )

    def entries(self) -> Iterable[Entry]:
        """All that was last listed."""
        return self._shelf.entries.values()

    def max_fails(self) -> dict[str, int]:
        """How many tasks may fail of arrays of which some wait, where that is limited; to be cleared."""
        return self._max_fails

    def trouble(self) -> list[str]:
        """What the user should know: files that are not jobs."""
        said = [text for _, text in self._broken.values() if text]
        return said + [f"waiting/{visible(name)}: no job can have this name" for name in self._shelf.misnamed]

    def environments(self) -> set[str] | None:
        """The environments of what waits; None if some job of the queue was not read or cannot be."""
        if self._is_unread or self._broken:
            return None
        return {one.environment for one in self._by_file.values() if one.environment}

    def look(self, now_s: float, list_most_s: float) -> None:
        """Brings the list up to date. `now_s` is monotonic; a long list is relisted within `list_most_s`."""
        # A long queue that changes all the time is listed again only so often that listing takes a
        # tenth of the time; what it hides meanwhile is found by the claim.
        if now_s < self._list_again_s and self._by_file:
            self._is_unread = True
            return
        began_s = time.monotonic()
        changed = self._shelf.look(now_s)
        listed_s = time.monotonic()
        # Not for as long as a server was away: what is new would be seen ten times as late.
        self._list_again_s = now_s + min(10 * (listed_s - began_s), list_most_s)
        entries = self._shelf.entries
        # A claim that was given back between two looks leaves no other trace.
        is_complete = len(self._by_file) + len(self._broken) == len(entries)
        if not changed and is_complete and not self._is_unread and not self._broken:
            return
        gone = [file for file in self._by_file if self._by_file[file].entry is not entries.get(file)]
        for file in gone:
            del self._by_file[file]
        for entry in [entry for entry in self._broken if entries.get(entry.file) is not entry]:
            del self._broken[entry]
        fresh = [entry for file, entry in entries.items() if file not in self._by_file]
        if self._barred:
            fresh = [entry for entry in fresh if array_of(entry.id) not in self._barred]
        self._is_unread = False
        until_s = listed_s + PARSE_MOST_S
        for entry in sorted(fresh, key=_age_first):
            if time.monotonic() > until_s:
                self._is_unread = True
                break
            self._read(entry, now_s)
        if any(entry.file in self._by_file for entry in fresh):
            self._sort()
        elif gone:
            self._thin_out()

    def _read(self, entry: Entry, now_s: float) -> None:
        try:
            record = spools.read(self.spool, entry)
        except FileNotFoundError:
            return
        except (OSError, RecordError) as error:
            since_s, known = self._broken.get(entry, (now_s, ""))
            self._broken[entry] = (since_s, known)
            # Empty or cut: its writer may not be done. Reported later, set aside until it changes, kept.
            if now_s - since_s >= BROKEN_AFTER_S and not known:
                self._broken[entry] = (since_s, f"waiting/{entry.file} is not a job: {error}")
                self.log.warning("%s", self._broken[entry][1])
            return
        self._broken.pop(entry, None)
        job = record.job
        submitted_ns = job.submitted_ns
        if not submitted_ns:
            # Dropped by a program that does not say: the file's own time, not the beginning of time.
            try:
                submitted_ns = files.signature(spools.path_of(self.spool, entry))[1]
            except OSError:
                return
        if job.array is not None and job.array.max_fails is not None:
            self._max_fails[job.array.id] = job.array.max_fails
        groups, throttle = groups_of(job), throttle_of(job)
        want = policy.want_of(entry.id, job, submitted_ns, self._limited(groups, throttle))
        self.newest_s = now_s
        self._by_file[entry.file] = Waiting(
            entry, want, now_s, job.environment and sys.intern(job.environment), groups, throttle
        )

    def _sort(self) -> None:
        """The queue by shape, each in the order of turns: a round looks at the first few of each."""
        by_id = {one.entry.id: one for one in self._by_file.values()}
        self.shapes = {}
        for want in policy.in_order(one.want for one in self._by_file.values()):
            self.shapes.setdefault(want.shape, []).append(by_id[want.id])

    def _thin_out(self) -> None:
        """Takes out what left the queue: a tenth of the time that sorting takes, for each job that starts."""
        left = {
            shape: [one for one in waiting if one.entry.file in self._by_file]
            for shape, waiting in self.shapes.items()
        }
        self.shapes = {shape: waiting for shape, waiting in left.items() if waiting}


def _age_first(entry: Entry) -> tuple[int, int, str]:
    """Numbers by value, as they were given; names after them."""
    number = entry.id.partition(".")[0]
    is_number = number.isdecimal() and len(number) < 19
    return (0, int(number), entry.id) if is_number else (1, 0, entry.id)
