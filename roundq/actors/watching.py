"""Jobs whose outputs are followed: which they are, in which states, and what comes of each.

Called by `rq watch`. A job is followed through all its attempts, in order, also if it is run again after it
ended; of an output that others append to, too, only its own part. What is printed how is not decided here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from roundq.actors import part
from roundq.actors.listing import Row, locate, row_of
from roundq.actors.part import Part
from roundq.actors.streams import error_path, output_path
from roundq.actors.tail import Tail
from roundq.records.shelf import Shelf
from roundq.records.spool import Entry, Spool
from roundq.words.states import CLAIMED, ENDED_STATES, RUNNING, STATES

#: How soon states are looked at again, in seconds: after a change, and at most while jobs run here, or not.
LOOK_MIN_S, LOOK_HERE_S, LOOK_MAX_S = 0.05, 0.5, 1.0
#: How soon a file is looked at again, in seconds: after it grew, and at most. With many files both are
#: longer, so that about so many are looked at in each second.
FILE_MIN_S, FILE_MAX_S, FILES_PER_S = 0.05, 1.0, 100.0
#: For how long the line that begins an attempt is waited for, in seconds, and how often it is looked for.
BEGIN_S, BEGIN_LOOK_S = 10.0, 0.2
#: A job that was not met in so many looks is gone; one that moves may be missed by one.
MISSED_MOST = 5
#: How much of a file is had at once.
CHUNK_BYTES = 1 << 16


class Chunk(NamedTuple):
    """New bytes of a file: of which job, whether of its error file, and what happened to it (`tail.Look`)."""

    job_id: str
    is_error: bool
    data: bytes
    change: str | None = None


@dataclass(slots=True)
class _File:
    """A file that is followed. Times are monotonic."""

    tail: Tail
    due_s: float = 0.0
    pause_s: float = FILE_MIN_S
    #: It said that the attempt is over: what follows is not believed before the state is known.
    is_waiting: bool = False
    asked_at: int = -1
    #: It is known where the attempt's part of it ends.
    is_ending: bool = False


@dataclass(slots=True)
class Followed:
    """One job: `row` as it was last read. Its attempts up to `number` were come to."""

    id: str
    entry: Entry
    row: Row | None = None
    number: int = 0
    out: _File | None = None
    error: _File | None = None
    error_path: str = ""
    #: Whether `number` is over, and all that it wrote was had; and the job, too.
    is_over: bool = True
    is_done: bool = False
    missed: int = 0
    since_s: float = 0.0
    due_s: float = 0.0


@dataclass(slots=True)
class Watching:
    """Follows jobs. `means` says of a job that came, or came to another state, whether it is followed, too.

    Without `from_start` of what runs already only what comes from now on is had. `look` first; then `chunks`,
    and both again until `is_done`. Times are monotonic, in seconds.
    """

    spool: Spool
    node: str
    means: Callable[[Entry], bool]
    from_start: bool = True
    jobs: dict[str, Followed] = field(default_factory=dict)
    _shelves: list[Shelf] = field(default_factory=list)
    _seen: dict[str, set[str]] = field(default_factory=dict)
    _due_s: float = 0.0
    _pause_s: float = LOOK_MIN_S

    def begin(self, now_s: float) -> None:
        """What is there from now on is new."""
        self._shelves = [Shelf(self.spool, state) for state in STATES]
        for shelf in self._shelves:
            with contextlib.suppress(OSError):
                shelf.look(now_s)
            self._seen[shelf.state] = set(shelf.entries)

    def follow(self, entries: Iterable[Entry], now_s: float) -> None:
        """Follows these jobs."""
        for entry in entries:
            self._take(entry, now_s, is_there=True)

    @property
    def is_done(self) -> bool:
        """Whether all have ended, and all that they wrote was had."""
        return all(job.is_done for job in self.jobs.values())

    def entries(self) -> dict[str, Entry]:
        """Where the jobs are."""
        return {job.id: job.entry for job in self.jobs.values()}

    # ------------------------------------------------------------ states

    def look(self, now_s: float) -> bool:
        """Looks where the jobs are, as often as it is due; whether it did."""
        if now_s < self._due_s:
            return False
        met: dict[str, list[Entry]] = {}
        changed = False
        # In the order of the states, so that a job that moves on meanwhile is still met.
        for shelf in self._shelves:
            # Not being able to look says nothing: what was seen last stands.
            with contextlib.suppress(OSError):
                changed |= shelf.look(now_s)
            seen = self._seen[shelf.state]
            for name in shelf.entries.keys() - seen:
                entry = shelf.entries[name]
                if entry.id not in self.jobs and self.means(entry):
                    self._take(entry, now_s)
            self._seen[shelf.state] = set(shelf.entries)
        for shelf in self._shelves:
            for entry in shelf.entries.values():
                if entry.id in self.jobs:
                    met.setdefault(entry.id, []).append(entry)
        for job in self.jobs.values():
            if job.is_done and job.id in met and job.entry in met[job.id]:
                # It is where it ended: nobody has had it run again.
                del met[job.id]
        twice = [job_id for job_id, entries in met.items() if len(entries) > 1]
        right = locate(self.spool, twice) if twice else {}
        for job in self.jobs.values():
            if job.id in met:
                job.missed, job.is_done = 0, False
                self._see(job, right.get(job.id, met[job.id][-1]), now_s)
            elif not job.is_done:
                job.missed += 1
                if job.missed >= MISSED_MOST and not locate(self.spool, (job.id,)):
                    job.is_done = job.is_over = True
        self._pause_s = LOOK_MIN_S if changed else self._pause_s * 1.3
        is_here = any(
            job.entry.state == RUNNING and job.entry.node == self.node for job in self.jobs.values()
        )
        self._due_s = now_s + min(self._pause_s, LOOK_HERE_S if is_here else LOOK_MAX_S)
        return True

    def _take(self, entry: Entry, now_s: float, *, is_there: bool = False) -> None:
        job = self.jobs.setdefault(entry.id, Followed(entry.id, entry))
        if entry.state == RUNNING or entry.state in ENDED_STATES:
            self._read(job)
            record = None if job.row is None else job.row.record
            if record is not None and (last := part.last_attempt(record)) is not None:
                # What earlier attempts wrote is over and told.
                job.number = last - 1
                self._next_attempt(job, now_s)
                if is_there and not self.from_start and entry.state == RUNNING:
                    self._skip(job)

    def _skip(self, job: Followed) -> None:
        job.out = _File(Tail(self._out_path(job)))
        for file in (job.out, job.error):
            if file is not None:
                file.tail.skip_to_end()

    def _see(self, job: Followed, entry: Entry, now_s: float) -> None:
        """The job is here now."""
        is_new = entry != job.entry or job.row is None
        job.entry = entry
        for file in (job.out, job.error):
            if file is not None:
                # The number of a file may be given to the next one: only the content tells.
                is_new |= file.is_waiting
                file.is_waiting = False
        if is_new and (entry.state == RUNNING or entry.state in ENDED_STATES or job.number):
            self._read(job)
        if job.is_over:
            self._next_attempt(job, now_s)
        if entry.state in ENDED_STATES and job.is_over and job.row is not None and not self._has_more(job):
            job.is_done = True

    def _read(self, job: Followed) -> None:
        row = row_of(self.spool, job.entry, True)
        if row.record is not None or row.state in ENDED_STATES:
            job.row = row
            job.entry = row.entry

    def _has_more(self, job: Followed) -> bool:
        """Whether an attempt has begun that was not come to."""
        record = None if job.row is None else job.row.record
        last = None if record is None else part.last_attempt(record)
        return last is not None and last > job.number

    def _next_attempt(self, job: Followed, now_s: float) -> None:
        if not self._has_more(job):
            return
        assert job.row is not None
        assert job.row.record is not None
        record = job.row.record
        job.number = part.begun_after(record, job.number) or record.attempt
        job.is_over = False
        job.out, job.since_s, job.due_s = None, now_s, 0.0
        asked = record.job
        path = None if asked.error is None else error_path(asked, job.id)
        if path is not None and path != self._out_path(job) and job.error is None:
            # It does not tell which attempt wrote what: it is followed from its beginning, once.
            job.error = _File(Tail(path))

    @staticmethod
    def _out_path(job: Followed) -> str:
        assert job.row is not None
        assert job.row.record is not None
        return output_path(job.row.record.job, job.id)

    # ------------------------------------------------------------ bytes

    def chunks(self, now_s: float, may: Callable[[str, bool], bool]) -> Iterable[Chunk]:
        """What is new in files that are due; `may` says of a job and whether it is its error file, if it is
        its turn. All of it was had when nothing comes."""
        count = sum(not job.is_over for job in self.jobs.values())
        for job in list(self.jobs.values()):
            if job.is_over:
                continue
            is_written = self._is_written(job)
            if job.out is None:
                self._locate(job, now_s, is_written=is_written)
            parts = [(False, job.out), (True, job.error)]
            is_drained = job.out is not None
            for is_error, file in parts:
                if file is None:
                    continue
                if (now_s < file.due_s and is_written) or file.is_waiting or not may(job.id, is_error):
                    is_drained = False
                    continue
                chunk, is_more = self._chunk(job, file, is_error, now_s, count, is_final=not is_written)
                is_drained &= not is_more
                if chunk is not None:
                    yield chunk
            if is_drained and not is_written:
                job.is_over = True
                # Further attempts may have begun meanwhile; and the last one is the end.
                self._due_s = 0.0

    def again_s(self, now_s: float) -> float:
        """Seconds until there is something to do."""
        due = [self._due_s]
        for job in self.jobs.values():
            if not job.is_over:
                due += [file.due_s for file in (job.out, job.error) if file is not None]
                due += [job.due_s] if job.out is None else []
        return max(0.0, min(due) - now_s)

    def _is_written(self, job: Followed) -> bool:
        """Whether the attempt that is followed may still write, as far as is known."""
        if self._has_more(job):
            return False
        if job.entry.state == CLAIMED and job.row is not None and job.row.record is not None:
            # It is about to begin: the record says so before it is where running ones are.
            return bool(job.row.record.started_ns) and job.row.record.attempt == job.number
        return job.entry.state == RUNNING

    def _locate(self, job: Followed, now_s: float, *, is_written: bool) -> None:
        """Finds where the output of the attempt begins; waits for that while it is written."""
        if (is_written and now_s < job.due_s) or job.row is None:
            return
        found = self._part(job)
        if found is None and is_written and now_s - job.since_s < BEGIN_S:
            job.due_s = now_s + BEGIN_LOOK_S
            return
        job.out = _File(Tail(self._out_path(job), found))

    @staticmethod
    def _part(job: Followed) -> Part | None:
        assert job.row is not None
        try:
            return part.find(job.row, job.number)
        except OSError:
            return None

    def _find_end(self, job: Followed, file: _File) -> None:
        if file.is_ending:
            return
        found = self._part(job)
        # Had the next attempt begun since the record was read, its lines would be in the file, too.
        entry = locate(self.spool, (job.id,)).get(job.id)
        if entry is not None and entry != job.entry:
            job.entry = entry
            self._read(job)
            found = self._part(job)
        if found is not None and found.end is not None:
            file.tail.end_at(found.end)
            file.is_ending = True

    def _chunk(
        self, job: Followed, file: _File, is_error: bool, now_s: float, count: int, *, is_final: bool
    ) -> tuple[Chunk | None, bool]:
        """What is new in one file; and whether there is more now."""
        if is_final and not is_error:
            # Now it can be told where the part of this attempt ends.
            self._find_end(job, file)
        look = file.tail.look(CHUNK_BYTES, is_final=is_final)
        data, is_more = look.data, look.is_more
        # A job may print what looks like a line of ours: what was asked of once is not asked of again.
        asked = int(file.tail.offset - len(data) == file.asked_at)
        if data and not is_final and not is_error and (kept := _own(job, data, asked)) is not None:
            # What follows may be somebody else's: it is looked whether the attempt is over.
            file.tail.back(len(data) - kept)
            file.asked_at = file.tail.offset
            data, is_more = data[:kept], False
            file.is_waiting = True
            self._due_s = 0.0
        scale = max(1.0, count / FILES_PER_S)
        file.pause_s = FILE_MIN_S * scale if data else min(file.pause_s * 1.3, FILE_MAX_S * scale)
        file.due_s = now_s + (0.0 if is_more or file.is_waiting else file.pause_s)
        return Chunk(job.id, is_error, data, look.change) if data or look.change else None, is_more


def _own(job: Followed, data: bytes, begin: int) -> int | None:
    """How much of it is surely of the attempt: up to where it says that it is over, or that a later one
    begins; None if it says neither. `begin` is from where on it may say the latter."""
    end = part.ends(job.id).search(data)
    others = part.later(job.id).finditer(data, begin)
    later = next((one for one in others if int(one[1]) > job.number), None)
    if later is not None and (end is None or later.start() < end.start()):
        return later.start()
    return None if end is None else end.end()
