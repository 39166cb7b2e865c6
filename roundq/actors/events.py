"""What happened to a job, event by event, as its record tells it: added, started, ended, run again.

Nobody keeps a log of that: the record has the times of each attempt, by the clock of the node where it was.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

from roundq.actors import outcome
from roundq.actors.listing import Row, age_key
from roundq.records import spool as spools
from roundq.words.job import NS, Attempt, Record
from roundq.words.quantities import format_duration, visible
from roundq.words.states import CANCELED, COMPLETED, ENDED_STATES, ZOMBIE

#: What may happen.
ADDED, STARTED, ENDED, RETIRED = "added", "started", "ended", "retired"
_MINUTE_S = 60


class Event(NamedTuple):
    """One thing that happened to a job, or to all tasks of an array at once: when, and in a few words.

    `attempt` is the number of the attempt that it is about, 0 for none. No event of a job comes before
    another that led to it, whatever the clocks of the nodes say.
    """

    at_ns: int
    id: str
    kind: str
    text: str
    attempt: int = 0

    @property
    def key(self) -> tuple[str, str, int]:
        """What tells it from all others, also when it is told again."""
        return self.id, self.kind, self.attempt


def events_of(row: Row) -> list[Event]:
    """What is known of one job, in order; nothing if its record is not."""
    record = row.record
    if record is None:
        return []
    found = [added(row)]
    for attempt in record.attempts:
        if attempt.started_ns:
            found.append(_started(row, attempt.started_ns, attempt.node, attempt.number))
        found.append(Event(attempt.completed_ns, row.id, ENDED, _again(attempt), attempt.number))
    if record.started_ns:
        found.append(_started(row, record.started_ns, record.node, record.attempt))
    if row.state in ENDED_STATES:
        found.append(Event(record.completed_ns, row.id, ENDED, _ended(row, record), record.attempt))
        if record.retired:
            found.append(Event(_written_ns(row), row.id, RETIRED, "retired: it counts no more", 0))
    return _in_order(found)


def added(row: Row) -> Event:
    """The submission of a job, or of the array of which it is a task."""
    assert row.record is not None
    job = row.record.job
    name = f'"{visible(job.name)}"'
    if job.array is None:
        return Event(job.submitted_ns, row.id, ADDED, f"added {name}")
    tasks = "1 task" if job.array.count == 1 else f"{job.array.count:,} tasks"
    return Event(job.submitted_ns, job.array.id, ADDED, f"added {tasks} {name}")


def merged(rows: Iterable[Row]) -> list[Event]:
    """The events of many jobs in the order of time, each once."""
    found = {event.key: event for row in rows for event in events_of(row)}
    return sorted(found.values(), key=lambda event: (event.at_ns, age_key(event.id)))


def _started(row: Row, at_ns: int, node: str, number: int) -> Event:
    again = f", attempt {number}" if number > 1 else ""
    return Event(at_ns, row.id, STARTED, f"started on {visible(node)}{again}", number)


def _again(attempt: Attempt) -> str:
    """How an attempt ended that was not the last."""
    why = outcome.of_attempt(attempt)
    return f"ended{_after(attempt.started_ns, attempt.completed_ns)}, to be run again: {visible(why)}"


def _ended(row: Row, record: Record) -> str:
    after = _after(record.started_ns, record.completed_ns)
    if row.state == COMPLETED and outcome.is_well(row):
        return f"finished{after}"
    word, _, why = outcome.sentence(row).partition(": ")
    word = {CANCELED: "canceled", ZOMBIE: "lost"}.get(row.state, word)
    if why.startswith(f"{CANCELED} "):
        # "before it began", "while it ran".
        return f"{why}{after}"
    return f"{word}{after}{f': {visible(why)}' if why else ''}"


def _after(began_ns: int, ended_ns: int) -> str:
    if not began_ns or not ended_ns:
        return ""
    took_s = max(0, ended_ns - began_ns) / NS
    return f" after {took_s:.1f} s" if took_s < _MINUTE_S else f" after {format_duration(took_s)}"


def _in_order(events: Iterable[Event]) -> list[Event]:
    """None before the one that led to it. One whose time nobody wrote down comes right after that."""
    found: list[Event] = []
    at_ns = 0
    for event in events:
        at_ns = max(at_ns, event.at_ns)
        found.append(event._replace(at_ns=at_ns))
    return found


def _written_ns(row: Row) -> int:
    """When the file was written, by the server's clock: 0 if it is there no more."""
    try:
        return os.lstat(spools.path_of(row.spool, row.entry)).st_mtime_ns
    except OSError:
        return 0
