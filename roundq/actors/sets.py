"""Sets and arrays as a whole: which there are, what became of their jobs, and what they may have at once.

A look lists names, and reads what it cannot do without: of an array one record, since all of its tasks are
alike, and a few if none of it seems to have begun; of jobs that are no tasks each, since nothing else tells
their set; and those that ended, but not well, since only their records say whether they still count. It
changes nothing.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from roundq.records import census as censuses
from roundq.records import control
from roundq.records import spool as spools
from roundq.records.census import Census, age_key, entry_of
from roundq.records.spool import Entry, Spool
from roundq.words import record_format as formats
from roundq.words.errors import RecordError
from roundq.words.groups import MARK, groups_of, throttle_of
from roundq.words.job import Job, Record
from roundq.words.ranges import array_of
from roundq.words.states import (
    CANCELED,
    CLAIMED,
    COMPLETED,
    ENDED_STATES,
    FAILED,
    HELD,
    OWNED_STATES,
    PENDING_STATES,
    RUNNING,
    STATES,
    WAITING,
    ZOMBIE,
)

#: A job that moves while it is looked at is looked for this often.
LOOKS = 4
#: The files that were written last, of which the records are asked when their job ended.
LAST_MOST = 20
#: Tasks that wait, of the lowest indices, that are asked whether they have run before.
AGAIN_MOST = 20
#: What every record of a job in a set has in it: a hundred thousand others need not be parsed.
_HAS_SET = b'"set"'
#: What a set, or an array, as a whole may be.
EMPTY, NOT_STARTED, STARTED, FINISHED = "empty", "not started", "running", "finished"


@dataclass(frozen=True, slots=True)
class Whole:
    """A set or an array: how many of its jobs are in which state, and what follows for all of them.

    Of the jobs that did not end well `retired` were set aside by their user, and `removed` canceled before
    they began: neither counts against the whole. `most` jobs of it may run at once, None for any number;
    `throttle` is what an array was submitted with, 0 for none. `has_run`: one that waits again has, as far as
    is known. Times are in nanoseconds since the epoch, 0 if
    there is none: of the first submission, and of the last end so far.
    """

    group: str
    counts: Mapping[str, int] = field(default_factory=dict)
    retired: int = 0
    removed: int = 0
    most: int | None = None
    throttle: int = 0
    has_run: bool = False
    submitted_ns: int = 0
    ended_ns: int = 0

    @property
    def jobs(self) -> int:
        """How many there are."""
        return sum(self.counts.values())

    @property
    def done(self) -> int:
        """How many ended well."""
        return self.counts.get(COMPLETED, 0)

    @property
    def running(self) -> int:
        """How many run, or were taken by a node."""
        return self.counts.get(RUNNING, 0) + self.counts.get(CLAIMED, 0)

    @property
    def waiting(self) -> int:
        """How many wait for a node."""
        return self.counts.get(WAITING, 0)

    @property
    def held(self) -> int:
        """How many wait for something else."""
        return self.counts.get(HELD, 0)

    @property
    def failed(self) -> int:
        """How many ended otherwise, and still count."""
        ended = sum(self.counts.get(state, 0) for state in (FAILED, CANCELED, ZOMBIE))
        return ended - self.retired - self.removed

    @property
    def state(self) -> str:
        """One of EMPTY, NOT_STARTED, STARTED, FINISHED."""
        if not self.jobs:
            return EMPTY
        if not self.running + self.waiting + self.held:
            return FINISHED
        return STARTED if self.has_run or self._begun else NOT_STARTED

    @property
    def _begun(self) -> int:
        """How many run, or ended after they began."""
        return self.running + self.done + self.failed + self.retired

    @property
    def is_well(self) -> bool | None:
        """Whether all of it ended well or was set aside; None while it may still come to that."""
        if self.failed:
            return False
        return True if self.state == FINISHED else None


def removed(state: str, record: Record) -> bool:
    """Whether a job was canceled by its user before it began: then it is as if it had not been submitted."""
    never_began = not record.started_ns and not record.begun
    return state == CANCELED and never_began and record.reason in (None, CANCELED)


def look(spool: Spool, groups: Collection[str] | None = None, *, ended: bool = True) -> dict[str, Whole]:
    """The sets there are, in the order of their first submission; or of these `groups` those that there are.

    A set is there as long as a job of it or a limit is. Arrays are told only if they are asked for. Without
    `ended` it is as if there were no ended jobs, of which there may be many. Raises OSError if the spool
    cannot be listed.
    """
    members = Members(spool, groups, ended=ended)
    members.look()
    return members.wholes()


class Members:
    """The jobs of all sets, or of these `groups`, as of the last look; what was read is not read again."""

    def __init__(self, spool: Spool, groups: Collection[str] | None = None, *, ended: bool = True) -> None:
        self.spool, self.wanted = spool, None if groups is None else set(groups)
        self._states = STATES if ended else (*PENDING_STATES, *OWNED_STATES)
        #: By id, of arrays by theirs: what was asked for, None for what is of no group that is wanted.
        self._jobs: dict[str, Job | None] = {}
        #: Those that wait, and have run before.
        self._again: set[str] = set()
        self._census = Census()

    def look(self) -> None:
        """Looks where they are now, and follows those that move on meanwhile. Raises OSError."""
        for _ in range(LOOKS):
            self._census = _once(censuses.take(self.spool, self._states))
            if not self._read():
                break

    # ------------------------------------------------------------ who belongs to what

    def _read(self) -> bool:
        """Reads what is not known yet; whether anything of it has moved on."""
        has_moved = False
        for array, by_state in self._census.arrays.items():
            if array not in self._jobs:
                # Any of them: the last state first, where nothing moves.
                state = next(state for state in reversed(STATES) if state in by_state)
                has_moved |= not self._know(array, entry_of(state, by_state[state][0]))
        if self.wanted is not None and not any(group.startswith(MARK) for group in self.wanted):
            return has_moved
        for state in STATES:
            for entry in _singles(self._census, state):
                if entry.id not in self._jobs:
                    has_moved |= not self._know(entry.id, entry)
        return has_moved

    def _know(self, known_as: str, entry: Entry) -> bool:
        """Reads what was asked for of a job or an array; whether it was where it was listed."""
        try:
            data = spools.content(self.spool, entry)
        except FileNotFoundError:
            return False
        except (OSError, RecordError):
            return True
        job = None
        if _HAS_SET in data or known_as != entry.id:
            try:
                record = formats.parse(data)
            except RecordError:
                # It may still be being written.
                return True
            job = record.job
            if record.begun and entry.state in PENDING_STATES:
                self._again.add(entry.id)
        is_wanted = job is not None and any(self._is_wanted(group) for group in groups_of(job))
        self._jobs[known_as] = job if is_wanted else None
        return True

    def _is_wanted(self, group: str) -> bool:
        return group.startswith(MARK) if self.wanted is None else group in self.wanted

    # ------------------------------------------------------------ what became of them

    def wholes(self) -> dict[str, Whole]:
        """What was found, by group."""
        found: dict[str, Whole] = {}
        members: dict[str, list[Entry]] = {}
        for job, entries in self.each():
            for group in filter(self._is_wanted, groups_of(job)):
                whole = found.get(group, Whole(group, {}))
                counts = dict(whole.counts)
                for entry in entries:
                    counts[entry.state] = counts.get(entry.state, 0) + 1
                since_ns = min(filter(None, (whole.submitted_ns, job.submitted_ns)), default=0)
                throttle = 0 if group.startswith(MARK) else throttle_of(job)
                found[group] = replace(whole, counts=counts, submitted_ns=since_ns, throttle=throttle)
                members.setdefault(group, []).extend(entries)
        asked, _ = control.group_limits(self.spool)
        for group in asked:
            if self._is_wanted(group):
                found.setdefault(group, Whole(group))
        ordered = sorted(found.values(), key=lambda whole: (whole.submitted_ns or float("inf"), whole.group))
        return {
            whole.group: replace(
                self._told(whole, members.get(whole.group, [])),
                most=asked.get(whole.group, whole.throttle or None),
            )
            for whole in ordered
        }

    def each(self) -> Iterator[tuple[Job, list[Entry]]]:
        """What was asked for, and where the jobs are for which it was: one, or all tasks of an array."""
        for array, by_state in self._census.arrays.items():
            if (job := self._jobs.get(array)) is not None:
                yield job, [entry_of(state, task) for state, tasks in by_state.items() for task in tasks]
        for state in STATES:
            for entry in _singles(self._census, state):
                if (job := self._jobs.get(entry.id)) is not None:
                    yield job, [entry]

    def _told(self, whole: Whole, members: Sequence[Entry]) -> Whole:
        """With what only records tell."""
        ended = [entry for entry in members if entry.state in ENDED_STATES]
        retired = gone = last_ns = 0
        for entry in ended:
            if entry.state != COMPLETED and (record := self._record(entry)) is not None:
                if record.retired:
                    retired += 1
                elif removed(entry.state, record):
                    gone += 1
                last_ns = max(last_ns, record.completed_ns)
        well = (entry for entry in ended if entry.state == COMPLETED)
        written = sorted(((self._written_ns(entry), entry) for entry in well), reverse=True)
        for _, entry in written[:LAST_MOST]:
            if (record := self._record(entry)) is not None:
                last_ns = max(last_ns, record.completed_ns)
        known = replace(whole, retired=retired, removed=gone, ended_ns=last_ns)
        return known if known._begun else replace(known, has_run=self._has_run(members))

    def _has_run(self, members: Iterable[Entry]) -> bool:
        """Whether one of them waits again: of tasks those are asked that are the first to begin."""
        waiting = [entry for entry in members if entry.state in PENDING_STATES]
        if any(entry.id in self._again for entry in waiting):
            return True
        tasks = (entry for entry in waiting if array_of(entry.id))
        first = heapq.nsmallest(AGAIN_MOST, tasks, key=lambda entry: age_key(entry.id))
        return any((record := self._record(entry)) is not None and record.begun for entry in first)

    def _record(self, entry: Entry) -> Record | None:
        try:
            return spools.read(self.spool, entry)
        except (OSError, RecordError):
            return None

    def _written_ns(self, entry: Entry) -> int:
        """When the file was written, by the server's clock: when the end was recorded, or somewhat later."""
        try:
            return os.lstat(spools.path_of(self.spool, entry)).st_mtime_ns
        except OSError:
            return 0


def _singles(census: Census, state: str) -> Iterable[Entry]:
    """The jobs of a state that are no tasks."""
    yield from (entry_of(state, job) for job in census.numbers[state])
    yield from census.others[state]


def _once(census: Census) -> Census:
    """The census with each job once: of one that moved while names were listed the later place."""
    place = {state: number for number, state in enumerate(STATES)}
    left: list[Entry] = []
    for entries in census.doubles().values():
        latest = max(entries, key=lambda entry: place[entry.state])
        left += [entry for entry in entries if entry is not latest]
    census.leave_out(left)
    return census
