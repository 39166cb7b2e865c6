"""What is in the queue, as people and programs look at it. Changes nothing.

Called by `actors.queue`, which is where callers find it. Reads the spools of
everybody, so whatever strangers put there is bounded, and told as a problem when
it cannot be read. A look costs what is shown, not what exists: directories are
listed, but of many waiting jobs only the first and the last record are read, of
many ended ones the newest, and of the tasks of an array one.
"""

from __future__ import annotations

import os
from bisect import bisect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from roundq.actors.allowance import Allowance
from roundq.records import cards, census
from roundq.records import spool as spools
from roundq.records.cards import Card, Occupant
from roundq.records.census import FOREIGN, LEGACY, Census
from roundq.records.spool import Entry, Spool
from roundq.words.errors import RecordError
from roundq.words.job import NO_NODE, NS, Job, Record
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
from roundq.world import files, reading

#: Ended jobs are shown when they ended after the user's latest submission less this (0.2.9) ...
BATCH_S = 60
#: ... or within this time.
RECENT_S = 600
#: Records read per user and listing.
PENDING_MOST = 20
OWNED_MOST = 1000
ENDED_MOST = 100
#: Rows per user and state that waits; strangers may have a million files. The counts say the rest.
ROWS_MOST = 10_000
#: Names per directory of somebody else that are looked at.
NAMES_OF_OTHERS_MOST = 50_000
#: Ended jobs with names of other programs, of each state, of which it is asked when their files were written.
FOREIGN_OF_OTHERS_MOST = 200
#: Records that are read of somebody else's jobs that are met twice.
DOUBLES_MOST = 100
#: Ended records of each state that are read to find a name.
FOUND_MOST = 1000
#: A record that moves while it is looked for is looked for this often.
LOOKS = 3

#: A user's jobs are listed in this order; the state of an array is the first in which a task of it is.
ORDER = (RUNNING, CLAIMED, WAITING, HELD, FAILED, ZOMBIE, CANCELED, COMPLETED)
#: Orders ids as they were given.
age_key = census.age_key
_ORDER = {state: place for place, state in enumerate(STATES)}


@dataclass(frozen=True, slots=True)
class Row:
    """A job as it was found: where, and its record if that was read and could be.

    `problem` says why there is no record; with neither, the record was not read. `past` is the file of the
    history that tells of it, if its record was folded: then nothing lies where its entry says.
    """

    spool: Spool
    entry: Entry
    record: Record | None = None
    problem: str | None = None
    is_mine: bool = False
    past: str = ""

    @property
    def user(self) -> str:
        """Whose job it is."""
        return self.spool.user

    @property
    def id(self) -> str:
        """The job's id, unique among its user's."""
        return self.entry.id

    @property
    def state(self) -> str:
        """One of `words.states.STATES`."""
        return self.entry.state

    @property
    def node(self) -> str | None:
        """Where it is claimed, runs or ran; None if nowhere, or if that is not known."""
        if self.entry.node is not None:
            return self.entry.node
        return None if self.record is None or self.record.node == NO_NODE else self.record.node


@dataclass(frozen=True, slots=True)
class Bundle:
    """An array as one line: how many of its tasks are in which state, and the row of one task.

    `counts` has no zeros. The row is that of a task that was in the state of the array, and tells what all
    tasks share. `ended_ns` is when the last of those that were read had ended, 0 if none was read.
    """

    id: str
    counts: Mapping[str, int]
    row: Row
    ended_ns: int = 0

    @property
    def spool(self) -> Spool:
        """Where it is."""
        return self.row.spool

    @property
    def user(self) -> str:
        """Whose array it is."""
        return self.row.user

    @property
    def is_mine(self) -> bool:
        """Whether it is the caller's."""
        return self.row.is_mine

    @property
    def record(self) -> Record | None:
        """The record of the task that was read."""
        return self.row.record

    @property
    def problem(self) -> str | None:
        """Why that has none."""
        return self.row.problem

    @property
    def state(self) -> str:
        """The first of `ORDER` in which a task is."""
        return state_of(self.counts)

    @property
    def tasks(self) -> int:
        """How many tasks there are; those that were swept away long ago are not."""
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True)
class Listing:
    """A look at the queue.

    `rows` are user by user, each user's in the order of the states, ids ascending. `counts`
    (user -> state -> jobs) count all jobs, also those that have no row. `problems` (user ->
    sentence) are spools that could not be listed. `bundles` are arrays in one line each: then of their
    tasks only those that are claimed or run have rows. `jobs` are the names by which all was counted, by
    the path of the spool.
    """

    rows: tuple[Row, ...]
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    bundles: tuple[Bundle, ...] = ()
    jobs: dict[str, Census] = field(default_factory=dict)


def state_of(counts: Mapping[str, int]) -> str:
    """The state of an array of which so many tasks are in these states; at least one is."""
    return next(state for state in ORDER if counts.get(state))


# ---------------------------------------------------------------- the look


def listing(
    from_spools: Sequence[Spool],
    me: Spool,
    *,
    now_ns: int,
    pending_most: int = PENDING_MOST,
    ended_most: int = ENDED_MOST,
    ended_of_all: bool = False,
    ended_of_any_age: bool = False,
    bundles: bool = False,
) -> Listing:
    """What is in these spools now.

    Of each user the first `pending_most` waiting and held jobs and the last have rows, all that are
    claimed and running, and of each ended state the newest `ended_most`. Ended jobs have a row if they
    ended after the user's latest submission less a minute or within ten minutes (or with
    `ended_of_any_age`), and are mine (or with `ended_of_all` anybody's). With `bundles` arrays are lines, by
    the same rules. Never fails on what is found there. Of those in a commons (`Spool.is_commons`) it is what
    their cards tell.
    """
    rows: list[Row] = []
    bundled: list[Bundle] = []
    counts: dict[str, dict[str, int]] = {}
    problems: dict[str, str] = {}
    censuses: dict[str, Census] = {}
    for spool in from_spools:
        is_mine = spool.path == me.path
        if spool.is_commons:
            told, count = _of_cards(spool)
            rows += told
            counts[spool.user] = count
            continue
        allowance = None if is_mine else Allowance()
        try:
            jobs = taken(spool, is_mine, allowance)
        except OSError as error:
            problems[spool.user] = f"{spool.path} cannot be listed: {error.strerror or error}"
            continue
        # Two homes may have the same name, below two parents.
        count = counts.setdefault(spool.user, {})
        for state, number in jobs.counts().items():
            count[state] = count.get(state, 0) + number
        censuses[spool.path] = jobs
        # An array of which one task is left is that task.
        jobs.unbundle(1 if bundles else None)
        look = _Look(spool, jobs, is_mine, allowance)
        current = look.current(pending_most)
        living = look.living_arrays(pending_most, {row.id: row for row in current})
        rows += current
        if is_mine or ended_of_all:
            newest, ended = look.newest_ended(ended_most), look.ended_arrays(ended_most)
            told = [*current, *newest, *(bundle.row for bundle in (*living, *ended))]
            since_ns = 0 if ended_of_any_age else _shown_since(told, now_ns)
            # One that cannot be read is shown: else nobody would ever mend it.
            shown = [row for row in newest if row.record is None or ended_ns(row.record) >= since_ns]
            rows += sorted(shown, key=lambda row: (_ORDER[row.state], age_key(row.id)))
            living += [bundle for bundle in ended if bundle.record is None or bundle.ended_ns >= since_ns]
        bundled += living
    return Listing(tuple(rows), counts, problems, tuple(bundled), censuses)


def taken(spool: Spool, is_mine: bool, allowance: Allowance | None = None) -> Census:
    """The jobs of a spool by their names, each once. Raises OSError if it cannot be listed."""
    jobs = census.take(spool, most=files.NAMES_MAX if is_mine else NAMES_OF_OTHERS_MOST)
    twice = list(jobs.doubles().values())
    read = len(twice)
    if allowance is not None:
        read = bisect(list(accumulate(map(len, twice))), DOUBLES_MOST)
        allowance.expect(entry for entries in twice[:read] for entry in entries)
    left: list[Entry] = []
    for place, entries in enumerate(twice):
        if place < read:
            right = max(entries, key=lambda entry: _standing(spool, entry, allowance))
        else:
            # Nobody honest has so many: the name of the last state will do.
            right = max(entries, key=lambda entry: _ORDER[entry.state])
        left += [entry for entry in entries if entry is not right]
    jobs.leave_out(left)
    return jobs


@dataclass(frozen=True, slots=True)
class _Look:
    """One user's jobs, of which some are read."""

    spool: Spool
    jobs: Census
    is_mine: bool
    allowance: Allowance | None

    def _read(self, entries: Sequence[Entry]) -> list[Row]:
        if self.allowance is not None:
            self.allowance.expect(entries)
        return [row_of(self.spool, entry, self.is_mine, self.allowance) for entry in entries]

    def current(self, pending_most: int) -> list[Row]:
        """The rows of what has not ended, oldest first: of what waits the first ones and the last."""
        rows = []
        for state in PENDING_STATES:
            entries = self.jobs.oldest(state, min(pending_most, ROWS_MOST))
            last = self.jobs.last(state)
            rows += self._read(entries if last is None or last in entries else [*entries, last])
        for state in OWNED_STATES:
            rows += self._read(self.jobs.all(state)[:OWNED_MOST])
        return rows

    def living_arrays(self, pending_most: int, known: Mapping[str, Row]) -> list[Bundle]:
        """The arrays that have not ended, oldest first; `known` are rows by id."""
        living = self._arrays_by_state()
        chosen: list[tuple[str, Entry]] = []
        for state in (*PENDING_STATES, *OWNED_STATES):
            arrays = sorted(living.get(state, ()), key=age_key)
            most = pending_most if state in PENDING_STATES else OWNED_MOST
            arrays = [*arrays[:most], *(arrays[-1:] if len(arrays) > most else ())]
            chosen += [(array, self.jobs.first_task(array, state)) for array in arrays]
        unknown = [entry for _, entry in chosen if entry.id not in known]
        rows = {**known, **{entry.id: row for entry, row in zip(unknown, self._read(unknown), strict=True)}}
        return [self._bundle(array, [rows[entry.id]]) for array, entry in chosen]

    def ended_arrays(self, ended_most: int) -> list[Bundle]:
        """The newest arrays of which all tasks have ended, newest first."""
        ended = self._arrays_by_state()
        found = []
        for state in ENDED_STATES:
            for array in sorted(ended.get(state, ()), key=age_key, reverse=True)[:ended_most]:
                # The last index ended last, roughly; of each state, since a few may have failed early.
                states = [state, *(other for other in ENDED_STATES if other != state)]
                of = self.jobs.arrays[array]
                last = [self.jobs.last_task(array, one) for one in states if one in of]
                found.append(self._bundle(array, self._read(last)))
        return found

    def _arrays_by_state(self) -> dict[str, list[str]]:
        arrays: dict[str, list[str]] = {}
        for array, by_state in self.jobs.arrays.items():
            state = state_of({state: len(tasks) for state, tasks in by_state.items()})
            arrays.setdefault(state, []).append(array)
        return arrays

    def _bundle(self, array: str, rows: Sequence[Row]) -> Bundle:
        counts = {state: len(tasks) for state, tasks in self.jobs.arrays[array].items()}
        ended = [ended_ns(row.record) for row in rows if row.record and row.state in ENDED_STATES]
        return Bundle(array, counts, rows[0], max(ended, default=0))

    def newest_ended(self, most: int) -> list[Row]:
        """The rows of the newest ended jobs of each state, the one that ended last first."""
        # Ids tell what is new without a stat() of each of ten thousand files. They compare only within one
        # way of giving them; and a few failures must not be lost behind a thousand successes.
        newest = []
        for state in ENDED_STATES:
            newest += self.jobs.newest(state, most)
            others: dict[int, list[Entry]] = {}
            for entry in self.jobs.others[state]:
                others.setdefault(age_key(entry.id)[0], []).append(entry)
            foreign = others.get(FOREIGN, [])[: ROWS_MOST if self.is_mine else FOREIGN_OF_OTHERS_MOST]
            legacy = others.get(LEGACY, [])
            written = zip(_written_ns(self.spool, foreign), foreign, strict=True)
            newest += [entry for _, entry in sorted(written, key=lambda one: (-one[0], one[1].id))][:most]
            newest += sorted(legacy, key=lambda entry: age_key(entry.id), reverse=True)[:most]
        rows = self._read(newest)
        rows.sort(key=lambda row: 0 if row.record is None else -ended_ns(row.record))
        return rows


def _of_cards(spool: Spool) -> tuple[list[Row], dict[str, int]]:
    """The rows and counts of a user of whom nothing can be read but cards: what runs, and how many wait."""
    found = cards.read_all(spool)
    rows = {
        (job.id, card.node): Row(spool, Entry(job.id, job.state, card.node, "", 0), _on_card(card, job))
        for card in found
        for job in card.jobs
        if job.state in OWNED_STATES and job.id.isprintable() and len(job.id) <= spools.ID_BYTES_MAX
    }
    listed = sorted(rows.values(), key=lambda row: (_ORDER[row.state], age_key(row.id)))[:OWNED_MOST]
    count = {state: sum(row.state == state for row in rows.values()) for state in OWNED_STATES}
    return listed, {**count, WAITING: max((card.waiting for card in found), default=0)}


def _on_card(card: Card, job: Occupant) -> Record:
    """What a card tells of a job, as its record."""
    asked = Job(
        (),
        jobname=job.name,
        cores=job.cores,
        memory_required=job.memory,
        restartable=job.restartable,
        time_limit_s=job.limit_s,
        gpus=len(job.gpus),
        scavenge=job.scavenge,
    )
    return Record(
        asked,
        started_ns=job.since_ns if job.state == RUNNING else 0,
        node=card.node,
        cores=job.cores,
        process=job.process,
        gpus=job.gpus,
    )


def _written_ns(spool: Spool, entries: Iterable[Entry]) -> list[int]:
    """When files were written, by the server's clock: all that tells the age of a foreign name."""
    paths = [spools.path_of(spool, entry) for entry in entries]
    if spool.way.reader is None:
        # Mine need not be opened for that.
        return [_own_written_ns(path) for path in paths]
    found = reading.each([spool.way.call("signature", path) for path in paths])
    return [0 if isinstance(signature, Exception) else signature[1] for signature in found]


def _own_written_ns(path: str) -> int:
    try:
        return os.lstat(path).st_mtime_ns
    except OSError:
        return 0


def _shown_since(rows: Iterable[Row], now_ns: int) -> int:
    """The time after which an ended job belongs to the user's current batch, or is recent."""
    submitted_ns = max((row.record.job.submitted_ns for row in rows if row.record), default=now_ns)
    # A submission in the future is another node's wrong clock; it must not hide what ended just now.
    return min(submitted_ns - BATCH_S * NS, now_ns - RECENT_S * NS)


def ended_ns(record: Record) -> int:
    """When a job ended, as well as is known: a cancel whose facts could not be written has no time."""
    return record.completed_ns or record.started_ns or record.job.submitted_ns


# ---------------------------------------------------------------- one record


def row_of(spool: Spool, entry: Entry, is_mine: bool, allowance: Allowance | None = None) -> Row:
    """The row of an entry, followed to where it has moved since it was listed."""
    read = spools.read if allowance is None else allowance.read
    for _ in range(LOOKS):
        try:
            return Row(spool, entry, read(spool, entry), None, is_mine)
        except RecordError as error:
            return Row(spool, entry, None, str(error), is_mine)
        except FileNotFoundError:
            if allowance is not None and not allowance.may_follow():
                break
            entry = locate(spool, (entry.id,), allowance=allowance).get(entry.id, entry)
        except OSError as error:
            return Row(spool, entry, None, error.strerror or str(error), is_mine)
    return Row(spool, entry, None, "it moved on while it was looked at", is_mine)


def locate(
    spool: Spool, ids: Iterable[str], states: Iterable[str] = STATES, *, allowance: Allowance | None = None
) -> dict[str, Entry]:
    """Where these jobs are now, of a fresh listing; those that were not met are left out.

    That one was not met proves nothing: it may have gone back to waiting meanwhile.
    """
    wanted = set(ids)
    most = files.NAMES_MAX if allowance is None else NAMES_OF_OTHERS_MOST
    entries = [entry for entry in spools.scan(spool, states, most=most) if entry.id in wanted]
    return {entry.id: entry for same in _single(spool, entries, allowance).values() for entry in same}


def _single(
    spool: Spool, entries: Iterable[Entry], allowance: Allowance | None = None
) -> dict[str, list[Entry]]:
    """The entries by state, ids ascending, each job once.

    A record may be met twice: it moved while the directories were listed, or its owner published
    the next one and has not yet removed the last. The higher attempt is right, and of one attempt
    the state that comes later (roundqueue(7)).
    """
    met: dict[str, Entry | list[Entry]] = {}
    for entry in entries:
        other = met.setdefault(entry.id, entry)
        if other is not entry:
            met[entry.id] = [*other, entry] if isinstance(other, list) else [other, entry]
    by_state: dict[str, list[Entry]] = {state: [] for state in STATES}
    for one in met.values():
        right = (
            max(one, key=lambda entry: _standing(spool, entry, allowance)) if isinstance(one, list) else one
        )
        by_state[right.state].append(right)
    for same in by_state.values():
        same.sort(key=lambda entry: age_key(entry.id))
    return by_state


def _standing(spool: Spool, entry: Entry, allowance: Allowance | None) -> tuple[int, int]:
    read = spools.read if allowance is None else allowance.read
    try:
        attempt = read(spool, entry).attempt
    except FileNotFoundError:
        # It is there no more, so another of its names is right.
        attempt = 0
    except (OSError, RecordError):
        # A name in an ended state is there because it ended, whatever the content.
        attempt = 1
    return attempt, _ORDER[entry.state]


# ---------------------------------------------------------------- by id or name


def find(
    spool: Spool, words: Iterable[str], *, names: Iterable[str] = (), ended_most: int = FOUND_MOST
) -> tuple[list[Row], list[str]]:
    """My jobs that these words and names mean, and those of them that mean none.

    A word is an id, or else the exact name of jobs; `names` are names only. A name means all jobs that
    have not ended, and those among the newest `ended_most` ended ones of each state. No job is listed
    twice; the order is that of the words, then by id.
    """
    words, names = list(dict.fromkeys(words)), list(dict.fromkeys(names))
    jobs = taken(spool, True)
    jobs.unbundle()
    by_id = {entry.id: entry for state in STATES for entry in jobs.all(state)}
    named = _named(spool, jobs, {word for word in words if word not in by_id}.union(names), ended_most)
    found: dict[str, Row] = {}
    unknown = []
    for word, is_name in [(word, False) for word in words] + [(name, True) for name in names]:
        if word in by_id and not is_name:
            found.setdefault(word, row_of(spool, by_id[word], True))
        elif word in named:
            for row in named[word]:
                found.setdefault(row.id, row)
        else:
            unknown.append(word)
    return list(found.values()), unknown


def _named(spool: Spool, jobs: Census, names: set[str], ended_most: int) -> dict[str, list[Row]]:
    """The jobs of these names, ids ascending."""
    if not names:
        return {}
    live = [entry for state in (*PENDING_STATES, *OWNED_STATES) for entry in jobs.all(state)]
    rows = [row_of(spool, entry, True) for entry in live]
    rows += _Look(spool, jobs, True, None).newest_ended(ended_most)
    named: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: age_key(row.id)):
        if row.record is not None and row.record.job.name in names:
            named.setdefault(row.record.job.name, []).append(row)
    return named
