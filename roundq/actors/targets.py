"""What became of the jobs that held jobs wait for, by the names of files in the directories of ended jobs.

Nothing is read. A directory that stands still is not listed; one that changed costs what changed in it, and
the listing. What is nowhere is believed to be only after several looks, and then looked up in the history.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from roundq.records import history
from roundq.records.spool import SUFFIX, Spool, entry_of
from roundq.words.dependencies import Target
from roundq.words.job import Dependency
from roundq.words.ranges import array_of
from roundq.words.states import ENDED_STATES, OWNED_STATES, PENDING_STATES
from roundq.world import files

#: Whether all that is waited for is still somewhere is looked at this often, and of what is not met so soon
#: again; it is gone when it was not met so many times in a row.
SOMEWHERE_S, MISSED_S, MISSED_MOST = 300.0, 2.0, 3

#: A single job by its id, or all tasks of an array by the array's.
Key = tuple[str, bool]


def key_of(dependency: Dependency) -> Key:
    """What a dependency looks at; several may look at the same."""
    return dependency.job, dependency.tasks > 0


class Targets:
    """What one daemon remembers of them. Times are monotonic, in seconds."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        #: How late a name may be seen after it was given.
        self.late_s = 0.0
        self._freshness = {state: files.Freshness(spool.directory(state)) for state in ENDED_STATES}
        self._names: dict[str, set[str]] = {}
        #: Of each that is wanted, how many files each state has, and how many holders want it.
        self._counts: dict[Key, dict[str, int]] = {}
        #: How many jobs of each were seen in two of the directories.
        self._twice: dict[Key, int] = {}
        self._changed: set[Key] = set()
        self._wanted: dict[Key, int] = {}
        self._tasks: dict[Key, int] = {}
        self._new: set[Key] = set()
        self._has_arrays = False
        self._missed: dict[Key, tuple[int, float]] = {}
        #: What the history knows of those that are not all in the spool; and those that nobody knows all of.
        self._past: dict[Key, dict[str, int]] = {}
        self._gone: set[Key] = set()
        self._somewhere_s: float | None = None

    def __len__(self) -> int:
        return len(self._wanted)

    def want(self, key: Key, tasks: int) -> None:
        """Begins to look for a job, or an array of so many tasks; the next look tells what became of it."""
        self._wanted[key] = self._wanted.get(key, 0) + 1
        if self._wanted[key] == 1:
            self._new.add(key)
        self._tasks[key] = max(1, tasks, self._tasks.get(key, 1))

    def drop(self, key: Key) -> None:
        """One holder less wants it."""
        left = self._wanted.get(key, 0) - 1
        if left > 0:
            self._wanted[key] = left
            return
        for known in (self._wanted, self._tasks, self._counts, self._twice, self._missed, self._past):
            known.pop(key, None)
        self._new.discard(key)
        self._gone.discard(key)

    def target(self, key: Key) -> Target:
        """What is known of it now."""
        counts, past = self._counts.get(key, {}), self._past.get(key)
        if past is not None:
            counts = {state: counts.get(state, 0) + past.get(state, 0) for state in {**counts, **past}}
        return Target(counts, key in self._gone, self._twice.get(key, 0) > 0)

    def again_s(self, now_s: float) -> float:
        """Seconds until the next look is wanted at the latest."""
        if not self._wanted:
            return float("inf")
        soon = [SOMEWHERE_S if self._somewhere_s is None else self._somewhere_s - now_s]
        if self._new or any(not one.is_settled for one in self._freshness.values()):
            soon.append(files.Freshness.SETTLED_S)
        return max(0.0, min(soon))

    def look(self, now_s: float) -> set[Key]:
        """Brings the counts up to date; those that changed, or are new. Raises OSError."""
        if not self._wanted:
            # A hundred thousand names are not kept for nothing.
            if self._names:
                self._names.clear()
                for freshness in self._freshness.values():
                    freshness.forget()
            return set()
        self._has_arrays = any(is_array for _, is_array in self._wanted)
        # Kept while a directory cannot be listed: what the others showed must not be forgotten.
        changed = self._changed
        for state, freshness in self._freshness.items():
            freshness.late_s = self.late_s
            if freshness.is_due(now_s):
                changed |= self._list(state, freshness)
        changed |= self._count_new()
        if self._somewhere_s is None:
            self._somewhere_s = now_s + SOMEWHERE_S
        elif now_s >= self._somewhere_s:
            changed |= self._look_everywhere(now_s)
        self._changed = set()
        return changed

    def _list(self, state: str, freshness: files.Freshness) -> set[Key]:
        try:
            names = {name for name, _ in files.listing(freshness.directory)}
        except OSError:
            freshness.forget()
            raise
        before = self._names.get(state, set())
        self._names[state] = names
        changed = set()
        for step, moved in ((1, names - before), (-1, before - names)):
            for name, key in self._wanted_of(moved):
                counts = self._counts.get(key)
                if counts is not None:
                    counts[state] = counts.get(state, 0) + step
                    if self._is_elsewhere(name, state):
                        self._twice[key] = self._twice.get(key, 0) + step
                    self._gone.discard(key)
                    changed.add(key)
        return changed

    def _is_elsewhere(self, name: str, state: str) -> bool:
        """Whether there is a file of this name in another directory of ended jobs, too."""
        return any(name in names for other, names in self._names.items() if other != state)

    def _wanted_of(self, names: Iterable[str]) -> Iterator[tuple[str, Key]]:
        """Those of these names of files that tell of what is wanted, each with that."""
        for name in names:
            if not name.endswith(SUFFIX):
                continue
            job_id = name[: -len(SUFFIX)]
            if (job_id, False) in self._wanted:
                yield name, (job_id, False)
            if self._has_arrays and "_" in job_id and ((array := array_of(job_id)), True) in self._wanted:
                yield name, (array, True)

    def _count_new(self) -> set[Key]:
        new, self._new = self._new, set()
        arrays = set()
        for key in new:
            job_id, is_array = key
            self._twice.pop(key, None)
            if is_array:
                self._counts[key] = {}
                arrays.add(key)
            else:
                file = f"{job_id}{SUFFIX}"
                self._counts[key] = {state: 1 for state, names in self._names.items() if file in names}
                self._twice[key] = len(self._counts[key]) - 1
        if arrays:
            met: set[str] = set()
            for state, names in self._names.items():
                for file, key in self._wanted_of(names):
                    if key in arrays:
                        self._counts[key][state] = self._counts[key].get(state, 0) + 1
                        self._twice[key] = self._twice.get(key, 0) + (file in met)
                met |= names
        return new

    # ------------------------------------------------------------ what is nowhere

    def _look_everywhere(self, now_s: float) -> set[Key]:
        """Looks whether all that has not ended is somewhere."""
        missing = {
            key for key in self._wanted if key not in self._gone and self._ended(key) < self._tasks[key]
        }
        there = self._met(missing) if missing else {}
        missing = {key for key in missing if there[key] < self._tasks[key]}
        self._missed = {key: self._missed.get(key, (0, now_s)) for key in missing}
        changed = set()
        for key in missing:
            looks, since_s = self._missed[key]
            self._missed[key] = looks + 1, since_s
            if looks + 1 >= MISSED_MOST and now_s - since_s >= self.late_s:
                del self._missed[key]
                elsewhere = there[key] - sum(self._past.get(key, {}).values())
                self._past[key] = past = self._of_history(key)
                if elsewhere + sum(past.values()) < self._tasks[key]:
                    self._gone.add(key)
                changed.add(key)
        self._somewhere_s = now_s + (MISSED_S if self._missed else SOMEWHERE_S)
        return changed

    def _ended(self, key: Key) -> int:
        past = self._past.get(key)
        return sum(self._counts.get(key, {}).values()) + (sum(past.values()) if past else 0)

    def _met(self, keys: set[Key]) -> dict[Key, int]:
        """How many files of each there are, and lines of the history."""
        there = {key: self._ended(key) for key in keys}
        for state in (*PENDING_STATES, *OWNED_STATES):
            for listed in files.listing(self.spool.directory(state)):
                entry = entry_of(state, listed)
                if entry is None:
                    continue
                array = array_of(entry.id)
                for key in ((entry.id, False), (array, True)):
                    if key in there:
                        there[key] += 1
        return there

    def _of_history(self, key: Key) -> dict[str, int]:
        """How many of it the history knows, by state; those that have a record are not counted twice."""
        job_id, is_array = key
        pasts = history.tasks_of(self.spool, job_id) if is_array else []
        if not is_array and (past := history.find(self.spool, [job_id]).get(job_id)) is not None:
            pasts = [past]
        found: dict[str, int] = {}
        for past in pasts:
            file = f"{past.id}{SUFFIX}"
            if not any(file in names for names in self._names.values()):
                found[past.state] = found.get(past.state, 0) + 1
        return found


def now(spool: Spool, dependencies: Iterable[Dependency]) -> dict[Dependency, Target]:
    """Where what these depend on lies now, of one fresh look at the names of all directories."""
    wanted = {key_of(one) for one in dependencies}
    counts: dict[Key, dict[str, int]] = {key: {} for key in wanted}
    for state in (*PENDING_STATES, *OWNED_STATES, *ENDED_STATES):
        for listed in files.listing(spool.directory(state)):
            # Most names are of no interest; an entry for each would take longer than the listing.
            stem = listed.name.removesuffix(SUFFIX)
            if "@" in stem:
                entry = entry_of(state, listed)
                stem = "" if entry is None else entry.id
            if (stem, False) in wanted:
                counts[stem, False] = {state: 1}
            if "_" in stem and ((array := array_of(stem)), True) in wanted:
                of_array = counts[array, True]
                of_array[state] = of_array.get(state, 0) + 1
    found = {}
    for one in dependencies:
        of_one = counts[key_of(one)]
        if not of_one and not one.tasks and (past := history.state_of(spool, one.job)) is not None:
            of_one = {past: 1}
        found[one] = Target(of_one, gone=not of_one)
    return found
