"""Which jobs a spool has, by the names of its files alone: counted, and tasks gathered by array.

Nothing is read. A hundred thousand names take some hundredths of a second, which an `Entry` for each would
multiply; so only a name that says more than state and id becomes one.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import itemgetter

from roundq.records import spool as spools
from roundq.records.spool import SUFFIX, Entry, Spool
from roundq.words.ranges import array_of
from roundq.words.states import OWNED_STATES, STATES
from roundq.world import files, reading

#: Longer stems, and those that are not of digits alone, are looked at one by one.
PLAIN_MAX = 18
#: The ways of giving ids, oldest first: SECS.NANOS of 0.2.9, names of other programs, our numbers.
LEGACY, FOREIGN, NUMBERED = range(3)

#: A job as a census keeps it: its id, if the name of its file follows from that.
Ref = str | Entry


def age_key(job_id: str) -> tuple[int, tuple[int, ...], str]:
    """Orders ids as they were given, within each way of giving them."""
    for kind, separator in ((NUMBERED, "_"), (LEGACY, ".")):
        parts = job_id.split(separator)
        if len(parts) <= 2 and len(job_id) < 40 and all(part.isdecimal() for part in parts):
            return kind, tuple(int(part) for part in parts), job_id
    if len(job_id) < 128 and (array := array_of(job_id)):
        return NUMBERED, (int(array.partition(".")[0]), _index(job_id)), job_id
    number, _, node = job_id.partition(".")
    if node and number.isdecimal() and len(number) < 19:
        return NUMBERED, (int(number),), job_id
    return FOREIGN, (), job_id


def id_of(job: Ref) -> str:
    """The id of a job of a census."""
    return job if isinstance(job, str) else job.id


def entry_of(state: str, job: Ref) -> Entry:
    """The entry of a job of a census."""
    return Entry(job, state, None, f"{job}{SUFFIX}", 0) if isinstance(job, str) else job


def _key(job: Ref) -> tuple[int, tuple[int, ...], str]:
    return age_key(id_of(job))


def _index(job: Ref) -> int:
    return int(id_of(job).rpartition("_")[2])


@dataclass(slots=True)
class Census:
    """The jobs of a spool by state, in no order: ids that are plain numbers, tasks by array, and others.

    `unbundled` are arrays whose tasks are among the others.
    """

    numbers: dict[str, list[str]] = field(default_factory=lambda: {state: [] for state in STATES})
    others: dict[str, list[Entry]] = field(default_factory=lambda: {state: [] for state in STATES})
    arrays: dict[str, dict[str, list[Ref]]] = field(default_factory=dict)
    unbundled: dict[str, dict[str, list[Ref]]] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state."""
        counted = {state: len(self.numbers[state]) + len(self.others[state]) for state in STATES}
        for by_state in self.arrays.values():
            for state, tasks in by_state.items():
                counted[state] += len(tasks)
        return counted

    def oldest(self, state: str, most: int) -> list[Entry]:
        """The first `most` jobs of a state that are no tasks, in the order of `age_key`."""
        first: list[Ref] = [*heapq.nsmallest(most, self.numbers[state], key=int), *self.others[state]]
        return [entry_of(state, job) for job in sorted(first, key=_key)[:most]]

    def newest(self, state: str, most: int) -> list[Entry]:
        """The last `most` jobs of a state that have numbers of ours and are no tasks, the last one first."""
        others = [entry for entry in self.others[state] if age_key(entry.id)[0] == NUMBERED]
        last: list[Ref] = [*heapq.nlargest(most, self.numbers[state], key=int), *others]
        return [entry_of(state, job) for job in sorted(last, key=_key, reverse=True)[:most]]

    def last(self, state: str) -> Entry | None:
        """The last job of a state that is no task, in the order of `age_key`."""
        last: list[Ref] = [*self.others[state]]
        if self.numbers[state]:
            last.append(max(self.numbers[state], key=int))
        return entry_of(state, max(last, key=_key)) if last else None

    def unbundle(self, tasks_most: int | None = None) -> None:
        """Makes tasks jobs like all others: of all arrays, or of those with at most `tasks_most`."""
        for array in list(self.arrays):
            by_state = self.arrays[array]
            if tasks_most is None or sum(map(len, by_state.values())) <= tasks_most:
                for state, tasks in by_state.items():
                    self.others[state] += [entry_of(state, job) for job in tasks]
                self.unbundled[array] = self.arrays.pop(array)

    def states_of(self, ids: Iterable[str]) -> dict[str, dict[str, int]]:
        """How many of these jobs, and of the tasks of these arrays, are in which state, if in any."""
        wanted = set(ids)
        found: dict[str, dict[str, int]] = {}
        for state in STATES:
            met = wanted.intersection(self.numbers[state])
            met |= wanted.intersection(entry.id for entry in self.others[state])
            for job_id in met:
                found.setdefault(job_id, {})[state] = 1
        for job_id in wanted:
            by_state = self.arrays.get(job_id) or self.unbundled.get(job_id)
            if by_state is not None:
                found[job_id] = {state: len(tasks) for state, tasks in by_state.items()}
            elif (array := array_of(job_id)) in self.arrays:
                for state, tasks in self.arrays[array].items():
                    if any(id_of(job) == job_id for job in tasks):
                        found[job_id] = {state: 1}
        return found

    def all(self, state: str) -> list[Entry]:
        """All jobs of a state, also tasks, in the order of `age_key`."""
        return [entry_of(state, job) for state, job in self.ordered((state,))]

    def ordered(self, states: Iterable[str], *, is_bundled: bool = False) -> Iterator[tuple[str, Ref]]:
        """All jobs of these states, each after its state, in the order of `age_key`.

        If `is_bundled`, the tasks of an array are one, in its place: no state, and the id of the array.
        """
        states = tuple(states)
        # A number is its own place: `age_key` for each of a hundred thousand would take a second.
        placed: list[tuple[int, int, str, str, Ref]] = []
        before: list[Entry] = []
        for state in states:
            placed += [(int(job), -1, job, state, job) for job in self.numbers[state]]
            for entry in self.others[state]:
                kind, parts, _ = age_key(entry.id)
                if kind == NUMBERED:
                    placed.append((parts[0], parts[1] if len(parts) > 1 else -1, entry.id, state, entry))
                else:
                    before.append(entry)
        for array, by_state in self.arrays.items():
            number = int(array.partition(".")[0])
            if not is_bundled:
                for state in states:
                    tasks = by_state.get(state, ())
                    placed += [(number, _index(job), id_of(job), state, job) for job in tasks]
            elif any(state in by_state for state in states):
                placed.append((number, 0, array, "", array))
        for entry in sorted(before, key=_key):
            yield entry.state, entry
        for *_, state, job in sorted(placed, key=itemgetter(0, 1, 2)):
            yield state, job

    def first_task(self, array: str, state: str) -> Entry:
        """The task of the lowest index that an array has in a state."""
        return entry_of(state, min(self.arrays[array][state], key=_index))

    def last_task(self, array: str, state: str) -> Entry:
        """The task of the highest index that an array has in a state."""
        return entry_of(state, max(self.arrays[array][state], key=_index))

    def doubles(self) -> dict[str, list[Entry]]:
        """Jobs that were met more than once: their record moved meanwhile, or is just being moved."""
        lists = [
            *self.numbers.values(),
            *([entry.id for entry in entries] for entries in self.others.values()),
            *(map(id_of, tasks) for by_state in self.arrays.values() for tasks in by_state.values()),
        ]
        if len(set().union(*lists)) == sum(self.counts().values()):
            return {}
        met: dict[str, list[Entry]] = {}
        for state in STATES:
            for entry in self.all(state):
                met.setdefault(entry.id, []).append(entry)
        return {job_id: entries for job_id, entries in met.items() if len(entries) > 1}

    def leave_out(self, entries: Iterable[Entry]) -> None:
        """Forgets these names of jobs that have another one. It goes through all of its lists once."""
        left = set(entries)
        for array, state in {(array_of(entry.id), entry.state) for entry in left}:
            if array in self.arrays:
                by_state = self.arrays[array]
                by_state[state] = [job for job in by_state[state] if entry_of(state, job) not in left]
                if not by_state[state]:
                    del by_state[state]
        for state in {entry.state for entry in left}:
            self.numbers[state] = [job for job in self.numbers[state] if entry_of(state, job) not in left]
            self.others[state] = [entry for entry in self.others[state] if entry not in left]


def take(spool: Spool, states: Iterable[str] = STATES, *, most: int = files.NAMES_MAX) -> Census:
    """The jobs in some states, listed afresh in the order in which jobs move on. Changes nothing.

    At most `most` names of each directory are looked at. Raises OSError for one that cannot be listed.
    """
    states = tuple(states)
    census = Census()
    listings = reading.each([spool.way.call("names", spool.directory(state), most=most) for state in states])
    for state, names in zip(states, listings, strict=True):
        if isinstance(names, OSError):
            raise names
        _sort(census, state, names)
    return census


def of_names(listed: Mapping[str, list[str]]) -> Census:
    """The same, of the names of each state as somebody has just listed them."""
    census = Census()
    for state, names in listed.items():
        _sort(census, state, names)
    return census


def _sort(census: Census, state: str, names: list[str]) -> None:
    if state in OWNED_STATES:
        # Their names say whose they are.
        rest = names
    else:
        end = -len(SUFFIX)
        stems = [name[:end] for name in names if name.endswith(SUFFIX)]
        plain = [stem for stem in stems if stem.isdecimal() and _is_short(stem)]
        census.numbers[state] = plain
        rest = [] if len(plain) == len(stems) else _gather(census, state, stems)
    for name in rest:
        entry = spools.entry_of(state, files.Name(name, 0))
        if entry is None:
            continue
        array = array_of(entry.id)
        if array:
            census.arrays.setdefault(array, {}).setdefault(state, []).append(entry)
        else:
            census.others[state].append(entry)


def _gather(census: Census, state: str, stems: list[str]) -> list[str]:
    """Counts the tasks with plain names among these; the names that are neither theirs nor plain numbers."""
    rest: list[str] = []
    of: dict[str, list[Ref]] = {}
    for stem in stems:
        head, line, tail = stem.partition("_")
        if tail.isdecimal() and head.isdecimal() and _is_index(head) and _is_index(tail):
            if head in of:
                of[head].append(stem)
            else:
                of[head] = census.arrays.setdefault(head, {}).setdefault(state, [])
                of[head].append(stem)
        elif line or not (head.isdecimal() and _is_short(head)):
            rest.append(f"{stem}{SUFFIX}")
    return rest


def _is_short(digits: str) -> bool:
    return len(digits) <= PLAIN_MAX and digits.isascii()


def _is_index(digits: str) -> bool:
    return (digits[0] != "0" or len(digits) == 1) and _is_short(digits)
