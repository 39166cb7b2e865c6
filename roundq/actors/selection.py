"""Which jobs of mine some words mean, as `words.selectors` understands them. Changes nothing.

A look costs the listing of names, as far as is needed, and the records that a word cannot be judged without:
ids, ranges, `last` and `state=` need none, and of the tasks of an array one tells the set of all. All words
are understood before anything is looked for.
"""

from __future__ import annotations

import contextlib
import heapq
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from roundq.actors.listing import FOUND_MOST, Row, locate, row_of
from roundq.records import census, history
from roundq.records import spool as spools
from roundq.records.census import NUMBERED, Census, age_key
from roundq.records.lookup import Look
from roundq.records.spool import Entry, Spool
from roundq.words import ranges, selectors
from roundq.words.errors import RecordError, UsageError
from roundq.words.expressions import Compare, Expression
from roundq.words.fields import Facts
from roundq.words.job import Job
from roundq.words.pattern import literal
from roundq.words.ranges import Ids, One, Part, Tasks
from roundq.words.selectors import Last, Match, Name, Selector, Set
from roundq.words.states import ENDED_STATES, OWNED_STATES, PENDING_STATES, STATES

#: A job that moves may be missed by one look.
LOOKS = 3
LOOK_AGAIN_S = 0.05
#: Of a range of numbers that are nowhere, so many are looked for in the history.
PAST_MOST = 100_000
#: Of a range of which some are met, so many others.
COMPLETED_MOST = 1000
#: Records that are kept for another word that needs them; of a long queue all would be much.
ROWS_KEPT = 10_000
LIVE_STATES = (*PENDING_STATES, *OWNED_STATES)


@dataclass(frozen=True, slots=True)
class Selection:
    """The jobs that words mean.

    `rows` have no job twice and are in the order of the words, then by id; where records were not asked for,
    some have none, and no problem. `unknown` are the words, or parts of lists, that mean no job. `exact` are
    the ids of those that a word named each by its own id, `named` those that are meant by their name alone,
    with that name. `undecided` are ids of jobs whose files cannot be read, so that nobody knows whether an
    expression means them; they have no rows.
    """

    rows: list[Row]
    unknown: list[str] = field(default_factory=list)
    exact: frozenset[str] = frozenset()
    named: Mapping[str, str] = field(default_factory=dict)
    undecided: list[str] = field(default_factory=list)


def select(
    spool: Spool,
    words: Iterable[str],
    *,
    names: Iterable[str] = (),
    now_ns: int,
    ended: bool = True,
    read: bool = True,
    whole: bool = False,
    pause: Callable[[float], None] = time.sleep,
) -> Selection:
    """The jobs that these words mean, and the `names`, which are nothing but names.

    Without `ended` expressions and sets mean only jobs that have not ended, and ranges and arrays those as
    long as there are any. With `read` every row has its record or a problem. `whole` looks at all states also
    where an id was met already: for mounts where a job may have two names for a while. What is not met is
    looked for again, `pause` calls between.

    Raises UsageError if a word can only be meant as ids or as an expression and is wrong, OSError if the
    spool cannot be read or, for what is not met and may have ended, its history.
    """
    asked = _Asked(list(dict.fromkeys(words)), list(dict.fromkeys(names)))
    for tries_left in reversed(range(LOOKS)):
        look = _Eyes(spool, asked, now_ns, ended=ended, whole=whole)
        asked.look(look)
        if not asked.missed:
            break
        if tries_left:
            pause(LOOK_AGAIN_S)
    try:
        asked.recall(spool)
    except OSError:
        # Who wants to act on what has not ended is not hindered by that.
        if ended:
            raise
    if ended:
        asked.complete(spool)
    return asked.selection(spool, read=read)


class _Asked:
    """What is asked for, and what was found of it."""

    def __init__(self, words: Sequence[str], names: Sequence[str]) -> None:
        self.meant: list[tuple[str, Selector]] = []
        #: Words that are wrong, unless they are ids.
        self.wrong: dict[str, UsageError] = {}
        for word in words:
            try:
                self.meant.append((word, selectors.parse(word)))
            except UsageError as error:
                self.wrong[word] = error
                self.meant.append((word, Name(word)))
        self.meant += [(name, Name(name)) for name in names]
        #: Those that are names and never ids, by their place.
        self.names_only = frozenset(range(len(words), len(self.meant)))
        self.found: dict[int, dict[str, Row | Entry]] = {}
        self.missed: dict[int, list[str]] = {place: [] for place in range(len(self.meant))}
        self.exact: set[str] = set()
        #: By place, since what one word names another may mean otherwise.
        self.named: dict[int, str] = {}
        self.undecided: dict[str, None] = {}

    def look(self, eyes: _Eyes) -> None:
        """Looks for what was not met so far."""
        for place in list(self.missed):
            word, _ = self.meant[place]
            if place not in self.names_only and (entry := eyes.by_id(word)) is not None:
                self.found[place] = {entry.id: entry}
                self.exact.add(entry.id)
                del self.missed[place]
                continue
            if word in self.wrong and place not in self.names_only:
                raise self.wrong[word]
            met, missed = self._of(place, eyes)
            self.found.setdefault(place, {}).update(met)
            if missed:
                self.missed[place] = missed
            else:
                del self.missed[place]

    def recall(self, spool: Spool) -> None:
        """Looks in the history for ids that were not met: their records may have been folded."""
        for place in list(self.missed):
            word, selector = self.meant[place]
            parts = selector.parts if isinstance(selector, Ids) else (One(word),)
            if place in self.names_only or not isinstance(selector, Ids | Name):
                continue
            missed = self.missed[place]
            pasts = [row for part in parts if str(part) in missed for row in past_rows(spool, part)]
            if pasts:
                self.found.setdefault(place, {}).update((row.id, row) for row in pasts)
                self.exact.update(row.id for row in pasts if row.id in (word, *map(str, parts)))
                self.named.pop(place, None)
                met = [part for part in parts if any(part.has(row.id) for row in pasts)]
                self.missed[place] = [one for one in missed if one not in map(str, met)]

    def complete(self, spool: Spool) -> None:
        """Adds what of arrays and ranges was folded, while others of them still have their records."""
        for place, (_, selector) in enumerate(self.meant):
            if place in self.names_only or not isinstance(selector, Ids):
                continue
            met = self.found.setdefault(place, {})
            for part in selector.parts:
                # What was met counts also while the history cannot be read.
                if _may_be_more(part, met):
                    with contextlib.suppress(OSError):
                        for row in past_rows(spool, part):
                            met.setdefault(row.id, row)

    def _of(self, place: int, eyes: _Eyes) -> tuple[dict[str, Row | Entry], list[str]]:
        """What a word means, and what of it means nothing."""
        word, selector = self.meant[place]
        met: dict[str, Row | Entry]
        if isinstance(selector, Ids):
            met = {}
            parts: list[Part] = []
            for part in selector.parts:
                if isinstance(part, One) and (entry := eyes.by_id(part.id)) is not None:
                    met[entry.id] = entry
                    self.exact.add(entry.id)
                else:
                    parts.append(part)
            # All at once: a list may be long, and so may the queue.
            others = eyes.where(parts) if parts else []
            met.update((entry.id, entry) for entry in others)
            missed = [str(part) for part in ranges.unmet(parts, (entry.id for entry in others))]
            if not missed or len(selector.parts) > 1:
                return met, missed
            # A name may look like an id.
            selector = Name(word)
        if isinstance(selector, Last):
            met = {entry.id: entry for entry in eyes.last(selector.back)}
        elif isinstance(selector, Set):
            met = self._matching(Compare("set", "=", literal(selector.name)), eyes, of_set=True)
        elif isinstance(selector, Match):
            met = self._matching(selector.expression, eyes)
        else:
            assert isinstance(selector, Name)
            met = dict(eyes.named(selector.name))
            self.named[place] = selector.name
        return met, [] if met else [word]

    def _matching(
        self, expression: Expression, eyes: _Eyes, *, of_set: bool = False
    ) -> dict[str, Row | Entry]:
        met, undecided = eyes.matching(expression, of_set=of_set)
        self.undecided.update(dict.fromkeys(undecided))
        return met

    def selection(self, spool: Spool, *, read: bool) -> Selection:
        """What was found, in order."""
        rows: dict[str, Row] = {}
        for place in sorted(self.found):
            of_word = self.found[place]
            for job_id in sorted(of_word, key=age_key):
                one = of_word[job_id]
                if job_id not in rows:
                    rows[job_id] = one if isinstance(one, Row) else _unread(spool, one)
        # Two words may mean one job, of which one of them read the record.
        found = list(rows.values())
        if read:
            found = [row_of(spool, row.entry, True) if is_unread(row) else row for row in found]
        unknown = [part for place in sorted(self.missed) for part in self.missed[place]]
        otherwise = {job_id for place, met in self.found.items() if place not in self.named for job_id in met}
        named = {
            job_id: name
            for place, name in self.named.items()
            for job_id in self.found.get(place, {})
            if job_id not in otherwise
        }
        return Selection(found, unknown, frozenset(self.exact), named, list(self.undecided))


def _may_be_more(part: Part, met: Mapping[str, object]) -> bool:
    """Whether the history may tell of more jobs of a part of a list of which some were met."""
    if isinstance(part, One):
        # An array.
        return part.id not in met and any(part.has(job_id) for job_id in met)
    if isinstance(part, Tasks):
        return True
    numbers = {ranges.array_of(job_id) or job_id for job_id in met if part.has(job_id)}
    return len(numbers) < part.last - part.first + 1 <= COMPLETED_MOST


def past_rows(spool: Spool, part: Part) -> list[Row]:
    """The jobs of the history that a part of a list means; of very many numbers none.

    Raises OSError if it cannot be read.
    """
    if isinstance(part, Tasks):
        pasts = [past for past in history.tasks_of(spool, part.array) if part.has(past.id)]
    elif isinstance(part, One):
        pasts = list(history.find(spool, [part.id]).values())
        pasts = pasts or [past for past in history.tasks_of(spool, part.id) if part.has(past.id)]
    elif part.last - part.first < PAST_MOST:
        numbers = [str(number) for number in range(part.first, part.last + 1)]
        found = [*history.find(spool, numbers).values(), *history.tasks_of(spool, *numbers)]
        pasts = sorted(found, key=lambda past: age_key(past.id))
    else:
        pasts = []
    return [Row(spool, history.as_entry(past), past.record, past.problem, True, past.path) for past in pasts]


def past_row(spool: Spool, job_id: str) -> Row | None:
    """The job of exactly this id as the history tells of it. Raises OSError if it cannot be read."""
    past = history.find(spool, [job_id]).get(job_id)
    if past is None:
        return None
    return Row(spool, history.as_entry(past), past.record, past.problem, True, past.path)


def is_unread(row: Row) -> bool:
    """Whether nobody tried to read its record."""
    return row.record is None and row.problem is None


def _unread(spool: Spool, entry: Entry) -> Row:
    return Row(spool, entry, None, None, True)


class _Eyes:
    """One look at the queue, for all words: what it finds once it need not find again."""

    def __init__(self, spool: Spool, asked: _Asked, now_ns: int, *, ended: bool, whole: bool) -> None:
        self.spool, self.now_ns, self.ended = spool, now_ns, ended
        self._look = Look(spool)
        ids = {word for place, (word, _) in enumerate(asked.meant) if place not in asked.names_only}
        for _, selector in asked.meant:
            if isinstance(selector, Ids):
                ids.update(part.id for part in selector.parts if isinstance(part, One))
        is_by_id = all(
            isinstance(selector, Ids) and all(isinstance(part, One) for part in selector.parts)
            for _, selector in asked.meant
        )
        # Where names have to be listed all the same, an id that exists wins over all that a word may mean.
        met = self._look.of(ids, whole=whole or not is_by_id)
        self._by_id = _once(spool, met)
        self._census: Census | None = None
        self._rows: dict[str, Row] = {}
        #: What was asked for, of arrays of which one task was read.
        self._jobs: dict[str, Job] = {}

    def by_id(self, job_id: str) -> Entry | None:
        """The job of exactly this id, if it was a word."""
        return self._by_id.get(job_id)

    def where(self, parts: Sequence[Part]) -> list[Entry]:
        """The jobs that parts of a list mean; without `ended` of each those that have not, if it has any."""
        found = list(_once(self.spool, self._look.where(Ids("", tuple(parts)).has)).values())
        if self.ended:
            return found
        live = [entry for entry in found if entry.state not in ENDED_STATES]
        over = Ids("", tuple(ranges.unmet(parts, (entry.id for entry in live))))
        return live + [entry for entry in found if entry.state in ENDED_STATES and over.has(entry.id)]

    @property
    def _known(self) -> Census:
        """All jobs, each once."""
        if self._census is None:
            self._census = census.of_names(self._look.names())
            left: list[Entry] = []
            for job_id, entries in self._census.doubles().items():
                right = _once(self.spool, entries)[job_id]
                left += [entry for entry in entries if entry.file != right.file]
            self._census.leave_out(left)
        return self._census

    # ------------------------------------------------------------ the last

    def last(self, back: int) -> list[Entry]:
        """The job or array that was submitted `back` submissions before the last; of an array all tasks."""
        known = self._known
        plain = {first for first in known.arrays if first.isdecimal()}
        others = {first for first in known.arrays if not first.isdecimal()}
        for state in STATES:
            plain.update(heapq.nlargest(back + 1, known.numbers[state], key=int))
            for entry in known.others[state]:
                (plain if ranges.is_number(entry.id) else others).add(entry.id)
        newest = heapq.nlargest(back + 1, plain, key=int)
        # Where each node gives numbers of its own they compare only with each other.
        series: dict[str, list[str]] = {}
        for first in others:
            number, _, node = first.partition(".")
            if ranges.is_number(number) and node and not node.isdecimal():
                series.setdefault(node, []).append(first)
        for found in series.values():
            newest += heapq.nlargest(back + 1, found, key=lambda first: int(first.partition(".")[0]))
        if series:
            newest.sort(key=self._submitted_ns, reverse=True)
        return self.where([One(newest[back])]) if back < len(newest) else []

    def _submitted_ns(self, first: str) -> int:
        entries = self._look.where(One(first).has)
        job = self._job(entries[0]) if entries else None
        return 0 if job is None else job.submitted_ns

    # ------------------------------------------------------------ names and expressions

    def named(self, name: str) -> dict[str, Row | Entry]:
        """The jobs of this name: those that have not ended, and of those that have the newest of each state.

        Where ended ones are of no use, only if no other has the name.
        """
        known = self._known
        met: dict[str, Row | Entry] = {}
        for state in LIVE_STATES:
            # A task may have been given a name of its own.
            tasks = [entry for array in known.arrays for entry in self._tasks(array, state)]
            met.update(self._of_name(name, [*self._singles(state), *tasks]))
        if not met or self.ended:
            for state in ENDED_STATES:
                foreign = [entry for entry in known.others[state] if age_key(entry.id)[0] != NUMBERED]
                met.update(self._of_name(name, [*known.newest(state, FOUND_MOST), *foreign[:FOUND_MOST]]))
            newest = heapq.nlargest(FOUND_MOST, known.arrays, key=age_key)
            met.update(self._tasks_of_name(name, newest, ENDED_STATES))
        return met

    def _singles(self, state: str) -> list[Entry]:
        """The jobs of a state that are no tasks."""
        known = self._known
        return [census.entry_of(state, number) for number in known.numbers[state]] + known.others[state]

    def _tasks(self, array: str, state: str) -> list[Entry]:
        return [census.entry_of(state, job) for job in self._known.arrays[array].get(state, ())]

    def _of_name(self, name: str, entries: Iterable[Entry]) -> dict[str, Row | Entry]:
        met: dict[str, Row | Entry] = {}
        for entry in entries:
            row = self._row(entry)
            if row.record is not None and row.record.job.name == name:
                met[entry.id] = row
        return met

    def _tasks_of_name(
        self, name: str, arrays: Iterable[str], states: Sequence[str]
    ) -> dict[str, Row | Entry]:
        met: dict[str, Row | Entry] = {}
        for array in arrays:
            entries = [entry for state in states for entry in self._tasks(array, state)]
            # The first that can be read tells of those that have ended whether others may have the name.
            first = next((row for entry in entries if (row := self._row(entry)).record is not None), None)
            if first is not None and first.record is not None and first.record.job.name == name:
                met.update(self._of_name(name, entries))
        return met

    def _job(self, entry: Entry) -> Job | None:
        """What was submitted: what nobody can change of it is the same for all tasks of an array."""
        array = ranges.array_of(entry.id)
        if array in self._jobs:
            return self._jobs[array]
        record = self._row(entry).record
        if record is None:
            return None
        if array and record.job.array is not None:
            self._jobs[array] = record.job
        return record.job

    def _row(self, entry: Entry) -> Row:
        row = self._rows.get(entry.id)
        if row is None:
            row = row_of(self.spool, entry, True)
            if len(self._rows) < ROWS_KEPT:
                self._rows[entry.id] = row
        return row

    def matching(
        self, expression: Expression, *, of_set: bool = False
    ) -> tuple[dict[str, Row | Entry], list[str]]:
        """The jobs that an expression means; and ids of those of which that cannot be told.

        With `of_set` it means nothing but jobs of some set.
        """
        met: dict[str, Row | Entry] = {}
        undecided: list[str] = []
        by_state = not expression.fields & {"id", "array"}
        for state in STATES if self.ended else LIVE_STATES:
            # Of most jobs nothing but the state is known, and that may tell it of all of them.
            known = expression.verdict(self._facts(Entry("", state, None, "", 0))) if by_state else None
            if known is False and state not in OWNED_STATES:
                continue
            entries = self._singles(state)
            for array in self._known.arrays:
                entries += self._tasks(array, state)
            if of_set:
                entries = [
                    entry for entry in entries if ranges.array_of(entry.id) or self._may_be_of_set(entry)
                ]
            for entry in entries:
                verdict = (
                    known if entry.node is None and known is not None else self._verdict(expression, entry)
                )
                if verdict is None:
                    undecided.append(entry.id)
                elif verdict:
                    row = self._rows.get(entry.id)
                    if row is None or self.ended or row.state not in ENDED_STATES:
                        met[entry.id] = entry if row is None else row
        return met, undecided

    def _may_be_of_set(self, entry: Entry) -> bool:
        """Whether its file has the word at all: a hundred thousand others need not be parsed."""
        try:
            return b'"set"' in spools.content(self.spool, entry)
        except (OSError, RecordError):
            return True

    def _verdict(self, expression: Expression, entry: Entry) -> bool | None:
        """Whether a job is meant, told by as little as does; None if its file cannot be read."""
        verdict = expression.verdict(self._facts(entry))
        if verdict is None and (array := ranges.array_of(entry.id)) in self._jobs:
            verdict = expression.verdict(self._facts(entry, self._jobs[array]))
        if verdict is not None:
            return verdict
        row = self._row(entry)
        if row.record is None:
            # Without its record it is where it is, and may be meant for that.
            return expression.verdict(self._facts(row.entry))
        self._job(row.entry)
        facts = self._facts(row.entry, row.record.job)
        return expression.verdict(facts._replace(record=row.record, node=row.node))

    def _facts(self, entry: Entry, job: Job | None = None) -> Facts:
        return Facts(entry.id, entry.state, entry.node, self.spool.user, self.now_ns, job)


def _once(spool: Spool, entries: Iterable[Entry]) -> dict[str, Entry]:
    """Each job once, where it is; one that was met twice is looked for again."""
    met: dict[str, Entry] = {}
    twice: set[str] = set()
    for entry in entries:
        if met.setdefault(entry.id, entry) is not entry:
            twice.add(entry.id)
    if twice:
        met |= locate(spool, twice)
    return met
