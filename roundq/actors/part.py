"""Where in an output file one attempt's part lies: files are appended to, by every attempt and other jobs.

The supervisor's own lines tell: the first that says that the attempt begins, and the last that says how it
ended. What cannot be told for sure is not cut off: then the part is all of the file.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from typing import NamedTuple

from roundq.actors.listing import Row
from roundq.actors.streams import output_path
from roundq.words.job import Record
from roundq.words.states import CANCELED, COMPLETED, FAILED, ZOMBIE
from roundq.world import files

_CHUNK_BYTES = 1 << 20
#: No line of ours is longer up to where its pattern ends, but for a name; and names are short.
_LINE_BYTES_MAX = 4096
_TIME = rb"[0-9T:-]{19}[+-][0-9]{4}"


class Part(NamedTuple):
    """A part of the file with this inode number; `end` is None if it goes on to the end of the file."""

    inode: int
    begin: int
    end: int | None


def find(row: Row, attempt: int | None = None) -> Part | None:
    """The part of the job's output that an attempt wrote; None if it cannot be told, or has not begun.

    Without its number the present attempt is meant, or the last. The part is never smaller than what was
    written. Raises OSError if the output cannot be read.
    """
    record = row.record
    number = None if record is None else attempt or last_attempt(record)
    if record is None or number is None or (node := _node_of(record, number)) is None:
        return None
    path = output_path(record, row.id)
    descriptor = files.open_fresh(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        begin = next(_found(descriptor, _begins(row.id, record, number, node), 0), None)
        if begin is None:
            return None
        until = None
        following = begun_after(record, number)
        if following is not None and (next_on := _node_of(record, following)) is not None:
            # What the next attempt wrote to the same file is not of this one.
            follows = _found(descriptor, _begins(row.id, record, following, next_on), begin[1])
            until = next((at for at, _ in follows), None)
        end = until
        if row.state in (COMPLETED, FAILED, CANCELED) or number < record.attempt:
            # A job may print what looks like this; the last one is ours, written when it was dead.
            for _, at in _found(descriptor, ends(row.id), begin[1]):
                if until is not None and at > until:
                    break
                end = at
        return Part(os.fstat(descriptor).st_ino, begin[0], end)
    finally:
        os.close(descriptor)


def last_attempt(record: Record) -> int | None:
    """The number of the present attempt, or of the last that has begun; None if none has."""
    if record.started_ns:
        return record.attempt
    return record.begun[-1].number if record.begun else None


def begun_after(record: Record, number: int) -> int | None:
    """The number of the next attempt that has begun."""
    last = record.attempt if record.started_ns and record.attempt > number else None
    return next((one.number for one in record.begun if one.number > number), last)


def _node_of(record: Record, number: int) -> str | None:
    """Where an attempt ran or runs; None if it has not begun, or nobody knows any more."""
    if number == record.attempt and record.started_ns:
        return record.node
    return next((one.node for one in record.attempts if one.number == number), None)


def _begins(job_id: str, record: Record, number: int, node: str) -> re.Pattern[bytes]:
    """What the first line of an attempt looks like."""
    named = f" {record.job.jobname!r}" if record.job.jobname else ""
    again = f", attempt {number}" if number > 1 else ""
    return re.compile(
        _escaped(f"rq: job {job_id}{named} begins on {node}, ") + _TIME + _escaped(again) + _OF + b": "
    )


#: Of how many attempts it is one, if it may be retried: `retries.attempt_text`.
_OF = rb"(?: of [0-9]+|, retry [0-9]+ of [0-9]+)?"


def ends(job_id: str) -> re.Pattern[bytes]:
    """What the last line of an ended attempt looks like."""
    how = f"(?:{COMPLETED}|{FAILED}|{CANCELED}|{ZOMBIE}|requeued|could not start)"
    return re.compile(_escaped(f"rq: job {job_id} ") + how.encode() + rb": [^\n]*\n")


def later(job_id: str) -> re.Pattern[bytes]:
    """What the first line of an attempt that is not the first looks like; its group is the number."""
    begins = _escaped(f"rq: job {job_id}") + rb"(?: [^\n]{0,300})? begins on [^\n]{0,300}"
    return re.compile(begins + rb", attempt ([0-9]{1,9})" + _OF + rb": ")


def _escaped(text: str) -> bytes:
    return re.escape(os.fsencode(text))


def _found(descriptor: int, pattern: re.Pattern[bytes], begin: int) -> Iterator[tuple[int, int]]:
    """Where a pattern is met from `begin` on: its begin and end in the file."""
    text = b""
    while chunk := os.pread(descriptor, _CHUNK_BYTES, begin + len(text)):
        text += chunk
        last = 0
        for match in pattern.finditer(text):
            last = match.end()
            yield begin + match.start(), begin + last
        # What may go on in the next chunk is looked at again, what was met is not.
        cut = max(last, len(text) - _LINE_BYTES_MAX)
        begin, text = begin + cut, text[cut:]
