"""What is in the queue, as people and programs look at it. Changes nothing.

Called by `actors.queue`, which is where callers find it. Reads the spools of
everybody, so whatever strangers put there is bounded, and told as a problem when
it cannot be read. A look costs what is shown, not what exists: directories are
listed, but of many waiting jobs only the first and the last record are read, and
of many ended ones the newest.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from roundq.records import cards
from roundq.records import spool as spools
from roundq.records.cards import Card, Occupant
from roundq.records.spool import Entry, Spool
from roundq.words import record_format as formats
from roundq.words.errors import RecordError
from roundq.words.job import NO_NODE, NS, Job, Record
from roundq.words.states import ENDED_STATES, OWNED_STATES, PENDING_STATES, RUNNING, STATES, WAITING
from roundq.world import files

#: Ended jobs are shown when they ended after the user's latest submission less this (0.2.9) ...
BATCH_S = 60
#: ... or within this time.
RECENT_S = 600
#: Records read per user and listing.
PENDING_MOST = 20
OWNED_MOST = 1000
ENDED_MOST = 100
#: Rows per user and state; strangers may have a million files. The counts say the rest.
ROWS_MOST = 10_000
#: Names per directory of somebody else that are looked at.
NAMES_OF_OTHERS_MOST = 50_000
#: Bytes of somebody else's records that one look reads; an honest record has a thousand.
BYTES_OF_OTHERS_MOST = 16 << 20
#: Records of somebody else that are read at once.
AHEAD = 32
#: Ended records of each state that are read to find a name.
FOUND_MOST = 1000
#: A record that moves while it is looked for is looked for this often.
LOOKS = 3

#: The ways of giving ids, oldest first: SECS.NANOS of 0.2.9, names of other programs, our numbers.
LEGACY, FOREIGN, NUMBERED = range(3)
_ORDER = {state: place for place, state in enumerate(STATES)}


@dataclass(frozen=True, slots=True)
class Row:
    """A job as it was found: where, and its record if that was read and could be.

    `problem` says why there is no record; with neither, the record was not read, since
    the queue is long (`is_unread`).
    """

    spool: Spool
    entry: Entry
    record: Record | None = None
    problem: str | None = None
    is_mine: bool = False

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

    @property
    def is_unread(self) -> bool:
        """Whether nobody tried to read its record."""
        return self.record is None and self.problem is None


@dataclass(frozen=True, slots=True)
class Listing:
    """A look at the queue.

    `rows` are user by user, each user's in the order of the states, ids ascending. `counts`
    (user -> state -> jobs) count all jobs, also those that have no row. `problems` (user ->
    sentence) are spools that could not be listed.
    """

    rows: tuple[Row, ...]
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)


def age_key(job_id: str) -> tuple[int, tuple[int, ...], str]:
    """Orders ids as they were given, within each way of giving them."""
    for kind, separator in ((NUMBERED, "_"), (LEGACY, ".")):
        parts = job_id.split(separator)
        if len(parts) <= 2 and len(job_id) < 40 and all(part.isdecimal() for part in parts):
            return kind, tuple(int(part) for part in parts), job_id
    number, _, node = job_id.partition(".")
    if node and number.isdecimal() and len(number) < 19:
        return NUMBERED, (int(number),), job_id
    return FOREIGN, (), job_id


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
) -> Listing:
    """What is in these spools now.

    Of each user the first `pending_most` waiting and held jobs and the last are read, all that are
    claimed and running, and of each ended state the newest `ended_most`. Ended jobs have a row if they
    ended after the user's latest submission less a minute or within ten minutes (or with
    `ended_of_any_age`), and are mine (or with `ended_of_all` anybody's). Never fails on what is
    found there. Of those in a commons (`Spool.is_commons`) it is what their cards tell.
    """
    rows: list[Row] = []
    counts: dict[str, dict[str, int]] = {}
    problems: dict[str, str] = {}
    for spool in from_spools:
        is_mine = spool.path == me.path
        allowance = None if is_mine else Allowance()
        if spool.is_commons:
            told, count = _of_cards(spool)
            rows += told
            counts[spool.user] = count
            continue
        try:
            found = spools.scan(spool, most=files.NAMES_MAX if is_mine else NAMES_OF_OTHERS_MOST)
        except OSError as error:
            problems[spool.user] = f"{spool.path} cannot be listed: {error.strerror or error}"
            continue
        by_state = _single(spool, found, allowance)
        # Two homes may have the same name, below two parents.
        count = counts.setdefault(spool.user, {})
        for state, entries in by_state.items():
            count[state] = count.get(state, 0) + len(entries)
        current = [
            row
            for state in (*PENDING_STATES, *OWNED_STATES)
            for row in _rows_of(spool, by_state[state], is_mine, pending_most, allowance)
        ]
        rows.extend(current)
        if is_mine or ended_of_all:
            newest = _newest_ended(spool, by_state, is_mine, ended_most, allowance)
            since_ns = 0 if ended_of_any_age else _shown_since(current + newest, now_ns)
            # One that cannot be read is shown: else nobody would ever mend it.
            shown = [row for row in newest if row.record is None or ended_ns(row.record) >= since_ns]
            rows.extend(sorted(shown, key=lambda row: (_ORDER[row.state], age_key(row.id))))
    return Listing(tuple(rows), counts, problems)


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


def _rows_of(
    spool: Spool, entries: list[Entry], is_mine: bool, pending_most: int, allowance: Allowance | None
) -> list[Row]:
    """The rows of a state that is not ended, oldest first; only some of those that wait are read."""
    if entries and entries[0].state in OWNED_STATES:
        if allowance is not None:
            allowance.expect(entries[:OWNED_MOST])
        return [row_of(spool, entry, is_mine, allowance) for entry in entries[:OWNED_MOST]]
    if len(entries) > ROWS_MOST:
        entries = [*entries[: ROWS_MOST - 1], entries[-1]]
    last = len(entries) - 1
    if allowance is not None:
        allowance.expect(entries[:pending_most])
    return [
        row_of(spool, entry, is_mine, allowance)
        if place < pending_most or place == last
        else Row(spool, entry, None, None, is_mine)
        for place, entry in enumerate(entries)
    ]


def _newest_ended(
    spool: Spool,
    by_state: dict[str, list[Entry]],
    is_mine: bool,
    most: int,
    allowance: Allowance | None = None,
) -> list[Row]:
    # Ids tell what is new without a stat() of each of ten thousand files. They compare only within one
    # way of giving them; and a few failures must not be lost behind a thousand successes.
    kinds: dict[tuple[str, int], list[Entry]] = {}
    for state in ENDED_STATES:
        for entry in by_state[state]:
            kinds.setdefault((state, age_key(entry.id)[0]), []).append(entry)
    newest = [
        entry
        for (_, kind), same in kinds.items()
        for entry in sorted(
            same[:ROWS_MOST] if kind == FOREIGN else same,
            key=lambda entry: (_written_ns(spool, entry) if kind == FOREIGN else 0, age_key(entry.id)),
            reverse=True,
        )[:most]
    ]
    if allowance is not None:
        allowance.expect(newest)
    rows = [row_of(spool, entry, is_mine, allowance) for entry in newest]
    rows.sort(key=lambda row: 0 if row.record is None else -ended_ns(row.record))
    return rows


def _written_ns(spool: Spool, entry: Entry) -> int:
    """When a file was written, by the server's clock: all that tells the age of a foreign name."""
    try:
        return os.lstat(spools.path_of(spool, entry)).st_mtime_ns
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


class Allowance:
    """How many bytes of a stranger's records a look may still read; each of them alone may be large."""

    def __init__(self, left_bytes: int = BYTES_OF_OTHERS_MOST) -> None:
        self.left_bytes = left_bytes
        self._expected: list[Entry] = []
        self._ahead: dict[Entry, bytes | Exception] = {}

    def expect(self, entries: Iterable[Entry]) -> None:
        """These will be read in this order: some at once, since a helper reads them."""
        self._expected = list(reversed(list(entries)))
        self._ahead = {}

    def read(self, spool: Spool, entry: Entry) -> Record:
        """The record of an entry. Raises RecordError also when too much was read before."""
        if self.left_bytes <= 0:
            raise RecordError("not read, since the files of this queue are too large")
        if self._expected and self._expected[-1] == entry:
            some, self._expected[-AHEAD:] = self._expected[: -AHEAD - 1 : -1], []
            self._ahead = dict(zip(some, spools.contents(spool, some), strict=True))
        data = self._ahead.pop(entry, None) or spools.content(spool, entry)
        if isinstance(data, Exception):
            raise data
        self.left_bytes -= len(data)
        return formats.parse(data)


def row_of(spool: Spool, entry: Entry, is_mine: bool, allowance: Allowance | None = None) -> Row:
    """The row of an entry, followed to where it has moved since it was listed."""
    read = spools.read if allowance is None else allowance.read
    for _ in range(LOOKS):
        try:
            return Row(spool, entry, read(spool, entry), None, is_mine)
        except RecordError as error:
            return Row(spool, entry, None, str(error), is_mine)
        except FileNotFoundError:
            now_at = locate(spool, (entry.id,)).get(entry.id)
            if now_at is None:
                continue
            entry = now_at
        except OSError as error:
            return Row(spool, entry, None, error.strerror or str(error), is_mine)
    return Row(spool, entry, None, "it moved on while it was looked at", is_mine)


def locate(spool: Spool, ids: Iterable[str], states: Iterable[str] = STATES) -> dict[str, Entry]:
    """Where these jobs are now, of a fresh listing; those that were not met are left out.

    That one was not met proves nothing: it may have gone back to waiting meanwhile.
    """
    wanted = set(ids)
    entries = [entry for entry in spools.scan(spool, states) if entry.id in wanted]
    return {entry.id: entry for same in _single(spool, entries).values() for entry in same}


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
    by_state = _single(spool, spools.scan(spool))
    by_id = {entry.id: entry for same in by_state.values() for entry in same}
    named = _named(spool, by_state, {word for word in words if word not in by_id}.union(names), ended_most)
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


def _named(
    spool: Spool, by_state: dict[str, list[Entry]], names: set[str], ended_most: int
) -> dict[str, list[Row]]:
    """The jobs of these names, ids ascending."""
    if not names:
        return {}
    live = [entry for state in (*PENDING_STATES, *OWNED_STATES) for entry in by_state[state]]
    rows = [row_of(spool, entry, True) for entry in live]
    rows += _newest_ended(spool, by_state, True, ended_most)
    named: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: age_key(row.id)):
        if row.record is not None and row.record.job.name in names:
            named.setdefault(row.record.job.name, []).append(row)
    return named
