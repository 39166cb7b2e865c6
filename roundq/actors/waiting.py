"""My waiting jobs as the daemon knows them: each file read once, sorted by shape in the order of turns.

Of the tasks of an array, which were submitted alike, only a few are read. A list of a hundred thousand costs
what changed in it. It reads and remembers; it moves nothing.
"""

from __future__ import annotations

import bisect
import logging
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace

from roundq.records import spool as spools
from roundq.records.shelf import Shelf
from roundq.records.spool import Entry, Spool
from roundq.words import policy
from roundq.words.errors import RecordError
from roundq.words.groups import groups_of, limits_of, throttle_of
from roundq.words.intake import Intake
from roundq.words.policy import Shape, Want
from roundq.words.quantities import visible
from roundq.words.ranges import array_of
from roundq.words.states import WAITING
from roundq.world import files

#: New job files are parsed for at most this long in one round; the rest in the next.
PARSE_MOST_S = 0.2
#: A file that is no record yet may still be being written; after this it is reported.
BROKEN_AFTER_S = 5.0
#: Of so many new tasks of one array, two are read.
ALIKE_LEAST = 20
#: So many are tried for that, since they may have moved on.
SOME = 5
#: What a worker does not take is judged anew this often, where an expression asks for the time.
PASSED_S = 30.0
#: So many jobs that come or go are put in or taken out one by one.
FEW = 100

_Key = tuple[Want, str | None, tuple[str, ...], int]


class Kind:
    """What many waiting jobs have in common: all that a daemon knows of a job but its id and its times.

    `groups` are all of its groups, `throttle` is that of its array, 0 for none.
    """

    __slots__ = ("environment", "groups", "shape", "throttle", "want")

    def __init__(self, want: Want, environment: str | None, groups: tuple[str, ...], throttle: int) -> None:
        self.want, self.shape = want, want.shape
        self.environment, self.groups, self.throttle = environment, groups, throttle

    def keep_to(self, limited: tuple[str, ...]) -> None:
        """Says which of its groups have a limit."""
        if limited != self.want.groups:
            self.want = replace(self.want, groups=limited)
            self.shape = self.want.shape


class Waiting:
    """One waiting job that was read, or that is like one that was: what it is, and since when we know it.

    There may be a hundred thousand: it holds no more than it must.
    """

    __slots__ = ("entry", "kind", "known_s", "submitted_ns")

    def __init__(self, entry: Entry, kind: Kind, submitted_ns: int, known_s: float) -> None:
        self.entry, self.kind, self.submitted_ns, self.known_s = entry, kind, submitted_ns, known_s

    @property
    def want(self) -> Want:
        """What policy needs of it."""
        return replace(self.kind.want, id=self.entry.id, submitted_ns=self.submitted_ns)

    @property
    def groups(self) -> tuple[str, ...]:
        """All of its groups."""
        return self.kind.groups

    @property
    def throttle(self) -> int:
        """That of its array, 0 for none."""
        return self.kind.throttle


def _turn(one: Waiting) -> tuple[int, tuple[int, int, int, str]]:
    """What sorts jobs of one shape."""
    return one.submitted_ns, policy.natural(one.entry.id)


class WaitingList:
    """What one daemon remembers of waiting/."""

    def __init__(self, spool: Spool, log: logging.Logger, intake: Intake | None = None) -> None:
        """`intake` is what a worker takes: what it does not is none of what waits here."""
        self.spool, self.log, self._intake = spool, log, intake
        #: By shape, each in the order of turns.
        self.shapes: dict[Shape, list[Waiting]] = {}
        self._shelf = Shelf(spool, WAITING)
        self._by_file: dict[str, Waiting] = {}
        #: Files that are no job yet, or never: since when, and what is said of them once it is.
        self._broken: dict[Entry, tuple[float, str]] = {}
        #: What is not taken: the file as it was read, and the environment of the job.
        self._passed: dict[str, tuple[Entry, str | None]] = {}
        self._passed_s = 0.0
        self._list_again_s = 0.0
        #: Since when the newest of them is known.
        self.newest_s = float("-inf")
        self._is_unread = False
        #: What is the same for many, kept once.
        self._kinds: dict[_Key, Kind] = {}
        self._newest_ns = 0
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
        for kind in self._kinds.values():
            kind.keep_to(self._limited(kind.groups, kind.throttle))
        self._sort()

    def _limited(self, groups: tuple[str, ...], throttle: int) -> tuple[str, ...]:
        return tuple(limits_of(groups, throttle, self._asked)) if groups else ()

    def entry(self, job_id: str) -> Entry | None:
        """The file of a job as it was last listed."""
        return self._shelf.entries.get(f"{job_id}{spools.SUFFIX}")

    def remove(self, entries: Iterable[Entry]) -> None:
        """Forgets jobs that the caller moves elsewhere; if they come back, the next look finds them."""
        self._forget([entry.file for entry in entries if entry.file in self._by_file])

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

    @property
    def is_read(self) -> bool:
        """Whether all that was listed was read, as far as it can be."""
        return not self._is_unread

    def environments(self) -> set[str] | None:
        """The environments of what waits; None if some job of the queue was not read or cannot be."""
        if self._is_unread or self._broken:
            return None
        found = {one.kind.environment for one in self._by_file.values() if one.kind.environment}
        return found | {environment for _, environment in self._passed.values() if environment}

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
        is_complete = len(self._by_file) + len(self._broken) + len(self._passed) == len(entries)
        is_complete &= not self._pass_again(now_s)
        if not changed and is_complete and not self._is_unread and not self._broken:
            return
        gone = self._by_file.keys() - entries.keys()
        for file in [file for file, (entry, _) in self._passed.items() if entries.get(file) is not entry]:
            del self._passed[file]
        self._forget([*gone, *(file for file in self._shelf.replaced if file in self._by_file)])
        for entry in [entry for entry in self._broken if entries.get(entry.file) is not entry]:
            del self._broken[entry]
        fresh = [entries[file] for file in entries.keys() - self._by_file.keys() - self._passed.keys()]
        if self._barred:
            fresh = [entry for entry in fresh if array_of(entry.id) not in self._barred]
        self._is_unread = False
        found: list[Waiting] = []
        for batch in _together(fresh):
            self._read_all(batch, now_s, listed_s + PARSE_MOST_S, found)
            if self._is_unread:
                break
        self._put(found)

    def _pass_again(self, now_s: float) -> bool:
        """Forgets what is not taken, to be judged anew where that may change with time; whether it did."""
        if self._intake is None or not self._intake.is_of_time or now_s - self._passed_s < PASSED_S:
            return False
        self._passed_s = now_s
        self._passed.clear()
        return True

    def _read_all(self, entries: list[Entry], now_s: float, until_s: float, found: list[Waiting]) -> None:
        """Reads what is new, single jobs or tasks of one array, for as long as there is time."""
        alike = self._alike(entries, now_s) if len(entries) >= ALIKE_LEAST else None
        for entry in entries:
            if entry.file in self._passed:
                continue
            if alike is not None:
                found.append(Waiting(entry, *alike, now_s))
                continue
            if time.monotonic() > until_s:
                self._is_unread = True
                return
            if (facts := self._read(entry, now_s)) is not None:
                found.append(Waiting(entry, *facts, now_s))

    def _alike(self, tasks: list[Entry], now_s: float) -> tuple[Kind, int] | None:
        """What new tasks of one array are, if the first and the last of them are alike.

        All were submitted alike, and one may have been changed since, alone or with all others: whoever
        changes one gives it a new file, which comes alone, is one of the two that are read here, or is
        found to be another when it is claimed. Then it goes back, and comes alone.
        """
        if self._intake is not None and not self._intake.is_of_arrays:
            return None
        first, last = self._one_of(tasks[:SOME], now_s), self._one_of(tasks[: -SOME - 1 : -1], now_s)
        ends = self._passed.get(tasks[0].file), self._passed.get(tasks[-1].file)
        if ends[0] is not None and ends[1] is not None and ends[0][1] == ends[1][1]:
            # What is alike is passed by alike.
            self._passed.update((entry.file, (entry, ends[0][1])) for entry in tasks)
        return first if first == last else None

    def _one_of(self, tasks: Iterable[Entry], now_s: float) -> tuple[Kind, int] | None:
        # Other nodes take the first at the same time.
        return next((facts for entry in tasks if (facts := self._read(entry, now_s)) is not None), None)

    def _read(self, entry: Entry, now_s: float) -> tuple[Kind, int] | None:
        """What a job is, and when it was submitted; None if that cannot be told now."""
        try:
            record = spools.read(self.spool, entry)
        except FileNotFoundError:
            return None
        except (OSError, RecordError) as error:
            since_s, known = self._broken.get(entry, (now_s, ""))
            self._broken[entry] = (since_s, known)
            # Empty or cut: its writer may not be done. Reported later, set aside until it changes, kept.
            if now_s - since_s >= BROKEN_AFTER_S and not known:
                self._broken[entry] = (since_s, f"waiting/{entry.file} is not a job: {error}")
                self.log.warning("%s", self._broken[entry][1])
            return None
        self._broken.pop(entry, None)
        job = record.job
        submitted_ns = job.submitted_ns
        if not submitted_ns:
            # Dropped by a program that does not say: the file's own time, not the beginning of time.
            try:
                submitted_ns = files.signature(spools.path_of(self.spool, entry))[1]
            except OSError:
                return None
        if job.array is not None and job.array.max_fails is not None:
            self._max_fails[job.array.id] = job.array.max_fails
        if self._intake is not None:
            now_ns = time.time_ns()
            if not self._intake.takes(entry.id, record, self.spool.user, now_ns):
                self._passed[entry.file] = entry, job.environment and sys.intern(job.environment)
                return None
        groups, throttle = groups_of(job), throttle_of(job)
        want = policy.want_of("", job, 0, self._limited(groups, throttle))
        key = want, job.environment, groups, throttle
        # A batch was submitted at once: one number for all.
        self._newest_ns = submitted_ns = self._newest_ns if self._newest_ns == submitted_ns else submitted_ns
        return self._kinds.setdefault(key, Kind(*key)), submitted_ns

    # ------------------------------------------------------------ in order

    def _put(self, found: list[Waiting]) -> None:
        """Takes in jobs that were read, each where its turn is."""
        if not found:
            return
        self.newest_s = found[0].known_s
        self._by_file.update((one.entry.file, one) for one in found)
        if len(found) > FEW:
            self._sort()
            return
        for one in found:
            bisect.insort(self.shapes.setdefault(one.kind.shape, []), one, key=_turn)
        self._order()

    def _forget(self, names: list[str]) -> None:
        """Takes out what left the queue."""
        if not names:
            return
        gone = [self._by_file.pop(file) for file in names]
        if len(gone) > FEW:
            left = {
                shape: [one for one in line if one.entry.file in self._by_file]
                for shape, line in self.shapes.items()
            }
            self.shapes = {shape: line for shape, line in left.items() if line}
        else:
            for one in gone:
                line = self.shapes[one.kind.shape]
                # Each job that starts comes from among the first; to look at all would be felt.
                del line[bisect.bisect_left(line, _turn(one), key=_turn)]
                if not line:
                    del self.shapes[one.kind.shape]
        self._order()

    def _sort(self) -> None:
        """The queue by shape, each in the order of turns: a round looks at the first few of each."""
        self.shapes = {}
        for one in self._by_file.values():
            self.shapes.setdefault(one.kind.shape, []).append(one)
        for line in self.shapes.values():
            line.sort(key=_turn)
        self._order()
        used = {one.kind for one in self._by_file.values()}
        self._kinds = {key: kind for key, kind in self._kinds.items() if kind in used}

    def _order(self) -> None:
        """The shapes in the order of the turns of the first job of each."""
        if len(self.shapes) > 1:
            first = sorted(self.shapes, key=lambda shape: policy.turn(self.shapes[shape][0].want))
            self.shapes = {shape: self.shapes[shape] for shape in first}


def _together(fresh: Iterable[Entry]) -> list[list[Entry]]:
    """Single jobs, and the tasks of each array, all in the order of their ids: as they were submitted."""
    found: dict[str, list[tuple[tuple[int, int, int, str], Entry]]] = {}
    for entry in fresh:
        found.setdefault(array_of(entry.id) or entry.id, []).append((policy.natural(entry.id), entry))
    for tasks in found.values():
        tasks.sort()
    return [[entry for _, entry in tasks] for tasks in sorted(found.values(), key=lambda tasks: tasks[0])]
