"""What users do to jobs that do not run: hold, release, run again, retire, edit. One job at a time.

Prints nothing. What moved is durable when the caller has called `changes.sync` for the states that it is
told of, once for all. A job that moves on meanwhile is looked for again; who came too late is told what it
is now.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from roundq.actors.listing import Row
from roundq.actors.queue import refreshed, unsealed
from roundq.records import changes, environments
from roundq.records import spool as spools
from roundq.records.spool import Entry, Spool
from roundq.words import record_format as formats
from roundq.words.errors import RecordError, RoundqError
from roundq.words.job import Job, Record
from roundq.words.states import COMPLETED, ENDED_STATES, HELD, PENDING_STATES
from roundq.world import files
from roundq.world.together import Together

#: Jobs that can be retired.
UNWELL = tuple(state for state in ENDED_STATES if state != COMPLETED)
#: How often a job that moves on is looked for again.
_TRIES = 5
#: Of fewer jobs each is written when it is its turn.
_MANY = 20

#: The new record of one that is changed, and the state that it is put into, "" for the one it is in.
To = Callable[[Record], tuple[Record, str] | None]


class Draft(NamedTuple):
    """What a record will hold, unless it changes before it is sealed, and the file that holds it already."""

    data: bytes
    path: str


class Outcome(NamedTuple):
    """What became of one job.

    `state` is where it was put, None if nothing was done: then `row` says how it is. `record` is what was
    written, where that is known.
    """

    state: str | None
    row: Row
    record: Record | None = None


def hold(spool: Spool, row: Row, node: str, late_s: float = 0.0) -> Outcome:
    """Keeps a job that has not begun from starting until it is released; one that is on hold stays so.

    What others do is seen after `late_s` at the latest. Raises RoundqError if it cannot be held, or is gone.
    """
    for _ in range(_TRIES):
        row = unsealed(spool, row, late_s, "hold", node)
        if row.state not in PENDING_STATES:
            return Outcome(None, row)
        if _moved(changes.hold, spool, row.entry, late_s):
            return Outcome(HELD, row)
        row = refreshed(spool, row, late_s)
    raise _moving("hold", row)


def release(spool: Spool, row: Row, node: str, now_ns: int, late_s: float = 0.0) -> Outcome:
    """Lets a job that is on hold go: it waits, or is held until what it waits for has come.

    What others do is seen after `late_s` at the latest. Raises RoundqError if it cannot be told or done.
    """
    was_on_hold = False
    for _ in range(_TRIES):
        row = unsealed(spool, row, late_s, "release", node)
        if not row.entry.is_on_hold:
            # Somebody has let it go: another command, or this one, of which the reply was late.
            is_free = was_on_hold and row.state not in ENDED_STATES
            return Outcome(row.state if is_free else None, row, row.record if is_free else None)
        was_on_hold = True
        try:
            record = spools.read(spool, row.entry)
        except RecordError as error:
            raise RoundqError(f"cannot release {row.id}: its job file cannot be read: {error}") from None
        except FileNotFoundError:
            row = refreshed(spool, row, late_s)
            continue
        state = changes.state_of(record, now_ns)
        if _moved(functools.partial(changes.release, state=state), spool, row.entry, late_s):
            return Outcome(state, row, record)
        row = refreshed(spool, row, late_s)
    raise _moving("release", row)


def _moved(move: Callable[[Spool, Entry], bool], spool: Spool, entry: Entry, late_s: float) -> bool:
    try:
        return move(spool, entry)
    except FileNotFoundError:
        if not late_s:
            raise
        # It is listed, and has moved on: this node learns it late.
        return False


class Changer:
    """What one command knows while it changes many jobs."""

    def __init__(self, spool: Spool, node: str, now_ns: int, late_s: float = 0.0) -> None:
        self.spool, self.node, self.now_ns, self.late_s = spool, node, now_ns, late_s
        self._renewed: dict[str, bool] = {}
        self._asked: dict[str, set[str]] | None = None
        self._drafts: dict[str, Draft] = {}
        self._sealed: dict[str, Entry] = {}

    def rerun(self, row: Row) -> Outcome:
        """Has a job that ended run again, as its next attempt: it waits, or is held until it may start.

        Raises RoundqError if its environment is stored no more.
        """
        again = functools.partial(self._again, row.id)
        return self._change(row, "rerun", lambda one: one.state in ENDED_STATES, again)

    def _again(self, job_id: str, record: Record) -> tuple[Record, str]:
        self._renew(job_id, record.job.environment)
        self._forget_requests(job_id)
        return self._next(record)

    def _next(self, record: Record) -> tuple[Record, str]:
        if not record.completed_ns:
            # Canceled by the move alone.
            told = "canceled before it began"
            record = replace(record, completed_ns=self.now_ns, reason="canceled", detail=told)
        new = record.unbegun()
        return new, changes.state_of(new, self.now_ns)

    def seal(self, rows: Iterable[Row]) -> None:
        """Seals ended jobs before any of them is run again; `rerun` is called of each at once."""
        for row in rows:
            # What cannot be sealed is told of when it is its turn.
            with contextlib.suppress(OSError, RoundqError):
                sealed = changes.change(self.spool, row.entry, self.node)
                if sealed is not None:
                    self._sealed[row.id] = sealed

    def unseal(self) -> None:
        """Puts back what was sealed and not come to. What cannot be a daemon puts back later."""
        for sealed in self._sealed.values():
            with contextlib.suppress(OSError):
                changes.unseal(self.spool, sealed)
        self._sealed.clear()

    def draft_rerun(self, rows: Sequence[Row]) -> None:
        """Writes what `rerun` will write of these jobs, all synced at once, where that is quicker."""
        self._draft([row for row in rows if row.state in ENDED_STATES], lambda _, record: self._next(record))

    def draft_edit(self, rows: Sequence[Row], edited: Callable[[str, Record], Job]) -> None:
        """Writes what `edit` will write of these jobs, all synced at once, where that is quicker."""
        self._draft(
            [row for row in rows if row.state in PENDING_STATES],
            lambda job_id, record: self._edited(functools.partial(edited, job_id), record),
        )

    def _draft(self, rows: Sequence[Row], to: Callable[[str, Record], tuple[Record, str] | None]) -> None:
        self.drop_drafts()
        if len(rows) < _MANY:
            return
        together = Together(self.spool.directory("tmp"))
        try:
            for row in [] if together.each else rows:
                # What cannot be drafted is told of when it is its turn.
                with contextlib.suppress(OSError, RecordError, RoundqError):
                    new = to(row.id, spools.read(self.spool, row.entry))
                    if new is not None:
                        data = formats.dump(new[0])
                        path = spools.temporary_of(self.spool, self.node, data, sync=False)
                        self._drafts[row.id] = Draft(data, path)
            together.sync()
        except OSError:
            # None of them is known to be durable.
            self.drop_drafts()
        finally:
            together.close()

    def drop_drafts(self) -> None:
        """Removes what was written for jobs that were not come to."""
        for draft in self._drafts.values():
            with contextlib.suppress(OSError):
                files.remove(draft.path)
        self._drafts.clear()

    def _drafted(self, job_id: str, record: Record) -> str | None:
        """The file that holds this very record durably already, if there is one."""
        draft = self._drafts.pop(job_id, None)
        if draft is None or draft.data == formats.dump(record):
            return None if draft is None else draft.path
        with contextlib.suppress(OSError):
            files.remove(draft.path)
        return None

    def retire(self, row: Row, *, undo: bool = False) -> Outcome:
        """Counts a job that did not end well as settled, or not any more; it stays where it is."""

        def settled(record: Record) -> tuple[Record, str] | None:
            return None if record.retired is not undo else (replace(record, retired=not undo), "")

        return self._change(row, "retire", lambda one: one.state in UNWELL, settled)

    def edit(self, row: Row, edited: Callable[[Record], Job]) -> Outcome:
        """Changes what a job that has not begun asks for; `edited` makes it of its record, and may refuse.

        On hold it stays on hold; otherwise it waits, or is held until it may start.
        """

        new = functools.partial(self._edited, edited)
        return self._change(row, "edit", lambda one: one.state in PENDING_STATES, new)

    def _edited(self, edited: Callable[[Record], Job], record: Record) -> tuple[Record, str] | None:
        job = edited(record)
        if job == record.job:
            return None
        changed = replace(record, job=job)
        return changed, changes.state_of(changed, self.now_ns)

    def _change(
        self,
        row: Row,
        verb: str,
        may: Callable[[Row], bool],
        to: To,
    ) -> Outcome:
        """Seals, reads, writes and puts one record; nothing if `may` says no, or `to` None.

        `to` tells the new record, and the state, "" for the one it is in. It may raise RoundqError.
        """
        if row.id in self._sealed:
            return self._put(row, self._sealed.pop(row.id), verb, to)
        for _ in range(_TRIES):
            row = unsealed(self.spool, row, self.late_s, verb, self.node)
            if not may(row):
                return Outcome(None, row)
            try:
                sealed = changes.change(self.spool, row.entry, self.node)
            except FileNotFoundError:
                if not self.late_s:
                    raise
                sealed = None
            if sealed is None:
                row = refreshed(self.spool, row, self.late_s)
                continue
            return self._put(row, sealed, verb, to)
        raise _moving(verb, row)

    def _put(self, row: Row, sealed: Entry, verb: str, to: To) -> Outcome:
        on_hold = row.entry.is_on_hold
        try:
            record = spools.read(self.spool, sealed)
            # It may have been read before somebody else changed it.
            row = replace(row, record=record)
            new = to(record)
        except BaseException as error:
            changes.unseal(self.spool, sealed)
            if isinstance(error, RecordError):
                raise RoundqError(f"cannot {verb} {row.id}: its job file cannot be read: {error}") from None
            raise
        if new is None:
            changes.unseal(self.spool, sealed)
            return Outcome(None, row, record)
        changed, state = new
        state = HELD if on_hold else state or row.state
        draft = self._drafted(row.id, changed)
        if not changes.put(
            self.spool, sealed, changed, state, self.node, on_hold=on_hold, is_synced=False, draft=draft
        ):
            raise RoundqError(f"cannot {verb} {row.id}: it was taken from {self.node}, which was called lost")
        return Outcome(state, row, changed)

    def _renew(self, job_id: str, digest: str | None) -> None:
        if digest is None:
            return
        if digest not in self._renewed:
            self._renewed[digest] = environments.renew(self.spool, digest)
        if not self._renewed[digest]:
            raise RoundqError(
                f"cannot rerun {job_id}: the environment that it was submitted with is not kept any more",
                "submit it again",
            )

    def _forget_requests(self, job_id: str) -> None:
        # They were asked of what has ended.
        if self._asked is None:
            self._asked = spools.requests(self.spool)
        if job_id in self._asked:
            spools.answer(self.spool, job_id)


def _moving(verb: str, row: Row) -> RoundqError:
    return RoundqError(f"cannot {verb} {row.id}: it keeps moving between nodes", "try again")


def is_waiting(state: str | None) -> bool:
    """Whether a daemon is needed for what was put there."""
    return state in PENDING_STATES
