"""What lets held jobs go: the daemon's look at held/, and what follows from it.

Each record is read once, and kept in an index by what it waits for; so a round costs what changed. All
daemons of the user do the same, and each move is one rename that one wins. `words/dependencies` decides.
"""

from __future__ import annotations

import heapq
import logging
import math
import sys
import time
import zlib
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from roundq.actors.targets import Key, Targets, key_of
from roundq.records import changes
from roundq.records import spool as spools
from roundq.records.shelf import Shelf
from roundq.records.spool import Entry, Spool
from roundq.words import dependencies
from roundq.words.dependencies import Conditions, Released, Standing, Unmet, standing
from roundq.words.errors import RecordError, RoundqError
from roundq.words.job import NS, Dependency
from roundq.words.quantities import visible
from roundq.words.seals import ON_HOLD
from roundq.words.states import CANCELED, HELD, WAITING
from roundq.world import files

#: New records are read, and jobs released or canceled, for at most this long in one round each.
READ_MOST_S, MOVE_MOST_S = 0.2, 0.2
#: So long it is looked in one round whether files are still those that were read.
VERIFY_MOST_S = 0.005
#: A file that is no record yet may still be being written; after this it is reported.
BROKEN_AFTER_S = 5.0
#: What cannot be canceled is tried again after this.
STUCK_S = 10


@dataclass(slots=True)
class _Held:
    """One held job: what it waits for, of that what is not met, and since when it is known."""

    entry: Entry
    when: Conditions
    known_s: float
    environment: str | None
    signature: tuple[int, int, int]
    open: set[Dependency] = field(default_factory=set)


class HeldList:
    """What one daemon remembers of held/. Times in seconds are monotonic; in nanoseconds, since the epoch."""

    def __init__(self, spool: Spool, node: str, log: logging.Logger, shelf: Shelf | None = None) -> None:
        self.spool, self.node, self.log = spool, node, log
        self.targets = Targets(spool)
        #: That of held/, which others may look at, too.
        self._shelf = shelf or Shelf(spool, HELD)
        #: Its names as they were followed last.
        self._followed: dict[str, Entry] = {}
        self._by_file: dict[str, _Held] = {}
        #: Who waits for what, and how far that is.
        self._dependents: dict[Dependency, set[str]] = {}
        self._standing: dict[Dependency, Standing] = {}
        self._dependencies: dict[Key, set[Dependency]] = {}
        self._unjudged: set[Key] = set()
        #: Times to come, and files of which it is to be decided.
        self._times: list[tuple[int, str]] = []
        self._ready: set[str] = set()
        self._broken: dict[Entry, tuple[float, str]] = {}
        #: Why one cannot be canceled that should be: told to the user, and tried again.
        self._stuck: dict[str, str] = {}
        self._max_fails: dict[str, int] = {}
        #: All that was read, in turn, and how many of them may have been replaced since that was looked at.
        self._rotation: OrderedDict[str, None] = OrderedDict()
        self._unsure = 0
        self._is_unread = False
        self._look_again_s = 0.0
        #: Since when it is known what was waited for, in seconds.
        self._looked_s = float("-inf")
        self._late_s = 0.0
        # Each daemon begins elsewhere, so that those of many nodes share the work instead of racing for it.
        self._turn = zlib.crc32(node.encode()) / 2**32

    def __len__(self) -> int:
        return len(self._by_file)

    @property
    def has_targets(self) -> bool:
        """Whether anything here waits for the ends of jobs."""
        return len(self.targets) > 0

    def expect_late(self, late_s: float) -> None:
        """Says how late a name may be seen after it was given."""
        self._late_s = self._shelf.freshness.late_s = self.targets.late_s = late_s

    def again_s(self, now_s: float, now_ns: int) -> float:
        """Seconds until the next look is wanted at the latest."""
        soon = [self.targets.again_s(now_s)]
        if self._is_unread or self._ready or self._unsure:
            soon.append(self._look_again_s - now_s)
        if not self._shelf.freshness.is_settled:
            soon.append(files.Freshness.SETTLED_S)
        if self._times:
            soon.append((self._times[0][0] - now_ns) / NS)
        return max(0.0, min(soon))

    def unseen_s(self, since_s: float, now_s: float) -> float | None:
        """In how many seconds it will be known what ends at `since_s` or before let go; None if it is."""
        if not self.has_targets or self._looked_s > since_s:
            return None
        return max(0.0, self._look_again_s - now_s)

    @property
    def is_read(self) -> bool:
        """Whether all that was listed was read and decided of."""
        return not self._is_unread and not self._ready

    def retries(self) -> list[Entry]:
        """Those that failed, and wait for the time of their next attempt."""
        return [one.entry for one in self._by_file.values() if one.when.not_before_ns]

    def trouble(self) -> list[str]:
        """What the user should know: files that are not jobs."""
        said = [text for _, text in self._broken.values() if text] + list(self._stuck.values())
        return said + [f"held/{visible(name)}: no job can have this name" for name in self._shelf.misnamed]

    def environments(self) -> set[str] | None:
        """The environments of those that wait for something; None if some were not read, or cannot be."""
        if self._is_unread or self._broken:
            return None
        return {one.environment for one in self._by_file.values() if one.environment}

    def entry(self, job_id: str) -> Entry | None:
        """The file of a job as it was last listed, unless it is being changed."""
        listed = self._shelf.entries
        return listed.get(f"{job_id}{spools.SUFFIX}") or listed.get(f"{job_id}{ON_HOLD}{spools.SUFFIX}")

    def entries(self) -> Iterable[Entry]:
        """All that was last listed, also what is on hold."""
        return self._shelf.entries.values()

    def max_fails(self) -> dict[str, int]:
        """How many tasks may fail of arrays of which some are held, where that is limited; to be cleared."""
        return self._max_fails

    def look_at_targets(self, now_s: float) -> None:
        """Looks at once at what is newly waited for. Raises OSError."""
        changed = self.targets.look(now_s)
        unjudged, self._unjudged = self._unjudged, set()
        self._follow_targets(changed | unjudged)

    def forget(self, entry: Entry) -> None:
        """The caller moved it elsewhere; if it comes back, the next look finds it."""
        self._shelf.entries.pop(entry.file, None)
        self._drop(entry.file)

    # ------------------------------------------------------------ the look

    def look(self, now_s: float, now_ns: int, look_most_s: float) -> bool:
        """Brings the list up to date, and lets go what may go; whether anything moved.

        A long list that changes all the time is listed again within `look_most_s`. Raises OSError.
        """
        while self._times and self._times[0][0] <= now_ns:
            _, file = heapq.heappop(self._times)
            if file in self._by_file:
                self._ready.add(file)
        # What goes is listed before: a job of that name may have run, and wait for something else by now.
        if self._ready or now_s >= self._look_again_s or not self._by_file:
            began_s = time.monotonic()
            self._shelf.look(now_s)
            listed_s = time.monotonic()
            if self._followed is not self._shelf.entries:
                self._unsure = len(self._rotation)
            if self._followed is not self._shelf.entries or self._is_unread or self._broken:
                self._follow(now_s)
            self._verify(now_s)
            read_s = time.monotonic()
            # After the listing of what is held: what a job waited for when it was submitted is seen as it was
            # then, or later.
            self.look_at_targets(now_s)
            took_s = listed_s - began_s + time.monotonic() - read_s
            self._looked_s, self._look_again_s = now_s, now_s + min(10 * took_s, look_most_s)
        return self._let_go(now_s, now_ns)

    def _follow(self, now_s: float) -> None:
        entries = self._followed = self._shelf.entries
        for file in [file for file, one in self._by_file.items() if one.entry is not entries.get(file)]:
            self._drop(file)
        for entry in [entry for entry in self._broken if entries.get(entry.file) is not entry]:
            del self._broken[entry]
        unknown = [entry for file, entry in entries.items() if file not in self._by_file]
        # What is on hold, or is being changed, waits for nothing that a daemon could tell.
        fresh = [entry for entry in unknown if not entry.is_on_hold and not entry.is_sealed]
        self._is_unread = False
        until_s = time.monotonic() + READ_MOST_S
        for entry in fresh:
            if time.monotonic() > until_s:
                self._is_unread = True
                break
            self._read(entry, now_s)

    def _verify(self, now_s: float) -> None:
        """Reads again what has the name and the number of the file that was read, and is another.

        A few in each look, when the directory has changed: of two changes in a row, the second may give a
        file the number that it had before the first.
        """
        until_s = time.monotonic() + VERIFY_MOST_S
        while self._unsure and self._rotation and time.monotonic() < until_s:
            self._unsure -= 1
            file, _ = self._rotation.popitem(last=False)
            self._rotation[file] = None
            one = self._by_file[file]
            if not self._is_what_it_was(one):
                self._drop(file)
                self._read(one.entry, now_s)

    def _is_what_it_was(self, one: _Held) -> bool:
        """Whether the file is still the one that was read.

        A job of that name may have run meanwhile, failed, and be held again; or it was edited twice. Its file
        may even have the number again that a file had before.
        """
        try:
            return files.signature(spools.path_of(self.spool, one.entry)) == one.signature
        except OSError:
            # It moved on, which the next listing shows, and whoever moves it finds.
            return True

    def _read(self, entry: Entry, now_s: float) -> None:
        try:
            signature = files.signature(spools.path_of(self.spool, entry))
            record = spools.read(self.spool, entry)
        except FileNotFoundError:
            return
        except (OSError, RecordError) as error:
            since_s, known = self._broken.get(entry, (now_s, ""))
            self._broken[entry] = (since_s, known)
            if now_s - since_s >= BROKEN_AFTER_S and not known:
                self._broken[entry] = (since_s, f"held/{entry.file} is not a job: {error}")
                self.log.warning("%s", self._broken[entry][1])
            return
        self._broken.pop(entry, None)
        environment = record.job.environment and sys.intern(record.job.environment)
        one = _Held(entry, dependencies.conditions(record), now_s, environment, signature)
        self._rotation[entry.file] = None
        if record.job.array is not None and record.job.array.max_fails is not None:
            self._max_fails[record.job.array.id] = record.job.array.max_fails
        self._by_file[entry.file] = one
        for dependency in one.when.after:
            known_ones = self._dependents.get(dependency)
            if known_ones is None:
                known_ones = self._dependents[dependency] = set()
                self._standing[dependency] = Standing.OPEN
                self._dependencies.setdefault(key_of(dependency), set()).add(dependency)
                self.targets.want(key_of(dependency), dependency.tasks)
                # Others may have waited for the same, in another way.
                self._unjudged.add(key_of(dependency))
            known_ones.add(entry.file)
            if self._standing[dependency] is not Standing.MET:
                one.open.add(dependency)
        if not one.open or any(self._standing[each] is Standing.NEVER for each in one.open):
            self._ready.add(entry.file)

    def _drop(self, file: str) -> None:
        one = self._by_file.pop(file, None)
        self._ready.discard(file)
        self._rotation.pop(file, None)
        self._stuck.pop(file, None)
        if one is None:
            return
        for dependency in one.when.after:
            dependents = self._dependents.get(dependency)
            if dependents is None:
                continue
            dependents.discard(file)
            if not dependents:
                del self._dependents[dependency], self._standing[dependency]
                key = key_of(dependency)
                self._dependencies[key].discard(dependency)
                if not self._dependencies[key]:
                    del self._dependencies[key]
                self.targets.drop(key)

    def _follow_targets(self, changed: Iterable[Key]) -> None:
        """Has those decided of again for whom something changed."""
        for key in changed:
            target = self.targets.target(key)
            for dependency in self._dependencies.get(key, ()):
                how_far = standing(dependency, target)
                if how_far is self._standing[dependency]:
                    continue
                self._standing[dependency] = how_far
                for file in self._dependents[dependency]:
                    one = self._by_file[file]
                    if how_far is Standing.MET:
                        one.open.discard(dependency)
                    else:
                        one.open.add(dependency)
                    if how_far is Standing.NEVER or not one.open:
                        self._ready.add(file)

    # ------------------------------------------------------------ what may go

    def _let_go(self, now_s: float, now_ns: int) -> bool:
        if not self._ready:
            return False
        until_s = time.monotonic() + MOVE_MOST_S
        moved: set[str] = set()
        for file in self._in_turn():
            if time.monotonic() > until_s:
                break
            one = self._by_file[file]
            self._ready.discard(file)
            unseen_s = one.known_s + self._late_s - now_s
            if unseen_s > 0:
                # What happened before it was held may not be seen yet.
                heapq.heappush(self._times, (now_ns + math.ceil(unseen_s * NS), file))
                continue
            found = dependencies.decide(
                one.entry.id, one.when, lambda each: self.targets.target(key_of(each)), now_ns
            )
            goes = isinstance(found, Released) or (isinstance(found, Unmet) and not found.keep_held)
            if goes and not self._is_what_it_was(one):
                self._drop(file)
                self._is_unread = True
                continue
            if isinstance(found, Released):
                is_done = self._release(one, moved)
            elif isinstance(found, Unmet) and not found.keep_held:
                is_done = self._cancel(one, found, now_ns, moved)
            else:
                if one.when.due_ns > now_ns and not one.open:
                    heapq.heappush(self._times, (one.when.due_ns, file))
                continue
            if not is_done:
                # Somebody else was faster, and is at it: what is left is seen in the next listing.
                self._shelf.freshness.forget()
                break
        changes.sync(self.spool, moved)
        return bool(moved)

    def _in_turn(self) -> list[str]:
        files_ = sorted(self._ready)
        first = int(self._turn * len(files_))
        return files_[first:] + files_[:first]

    def _release(self, one: _Held, moved: set[str]) -> bool:
        try:
            if not changes.release(self.spool, one.entry, WAITING):
                return False
        except FileNotFoundError:
            if not self._late_s:
                raise
            # It is listed, and has moved on: this node learns it late.
            return False
        moved.add(WAITING)
        self.forget(one.entry)
        self._say(one.entry.id, WAITING, "is released: what it waited for is there")
        return True

    def _cancel(self, one: _Held, why: Unmet, now_ns: int, moved: set[str]) -> bool:
        try:
            if not cancel(self.spool, self.node, one.entry, "dependency", why.detail, now_ns):
                return False
        except (OSError, RoundqError) as error:
            self._stuck[one.entry.file] = f"job {visible(one.entry.id)} cannot be canceled: {error}"
            heapq.heappush(self._times, (now_ns + STUCK_S * NS, one.entry.file))
            return True
        moved.add(CANCELED)
        self.forget(one.entry)
        self._say(one.entry.id, CANCELED, f"is canceled: {why.detail}")
        return True

    def _say(self, job_id: str, state: str, text: str) -> None:
        fields = {"ROUNDQ_JOB": job_id, "ROUNDQ_STATE": state, "ROUNDQ_NODE": self.node}
        self.log.info("job %s %s", visible(job_id), text, extra=fields)


def cancel(spool: Spool, node: str, entry: Entry, reason: str, detail: str, now_ns: int) -> bool:
    """Cancels a job that has not begun, for one of `states.REASONS`; whether it did, False if it moved on.

    The facts first, under a seal of this process; durable after `changes.sync`.
    """
    try:
        sealed = changes.change(spool, entry, node)
    except FileNotFoundError:
        return False
    if sealed is None:
        return False
    try:
        record = spools.read(spool, sealed)
    except FileNotFoundError:
        return False
    except (OSError, RoundqError):
        changes.put_back(spool, sealed)
        raise
    ended = replace(record.unbegun(), completed_ns=now_ns, reason=reason, detail=detail)
    if not changes.put(spool, sealed, ended, CANCELED, node, is_synced=False):
        return False
    spools.answer(spool, entry.id)
    return True
