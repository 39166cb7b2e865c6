"""What a job has written, and how it ended, of its row."""

from __future__ import annotations

import os

from roundq.actors import outcome as ends
from roundq.actors import part, streams
from roundq.actors.listing import Row
from roundq.words.ends import Outcome
from roundq.words.errors import RoundqError
from roundq.words.job import NS, Record
from roundq.words.states import COMPLETED, PENDING_STATES, State

#: A line of roundq's own in an output is shorter.
_OWN_LINE_MOST = 4096


def outcome_of(row: Row) -> Outcome:
    """How an ended job ended."""
    record = row.record
    sentence = ends.sentence(row)
    if record is None:
        return Outcome(State(row.state), sentence=sentence, node=row.node)
    took_s = None
    if record.started_ns and record.completed_ns:
        took_s = max(0, record.completed_ns - record.started_ns) / NS
    code = record.exit_code
    if row.state == COMPLETED and code is not None:
        code &= 0xFF
    return Outcome(State(row.state), code, record.signal, record.reason, sentence, row.node, took_s)


def _record(row: Row) -> Record:
    if row.record is None:
        raise RoundqError(f"the job file of {row.id} cannot be read: {row.problem}")
    return row.record


def out_path(row: Row) -> str:
    """The path of its output file."""
    return streams.output_path(_record(row), row.id)


def error_path(row: Row) -> str:
    """The path of the file for its standard error."""
    return streams.error_path(_record(row), row.id)


def output(row: Row, most: int | None = None) -> bytes:
    """What its present or last attempt wrote to its output, without roundq's own first and last line.

    With `most` only its end, of at least so many bytes. Raises RoundqError if it has not begun, or
    its output is not there.
    """
    record = _record(row)
    path = out_path(row)
    if part.last_attempt(record) is None:
        how = "was canceled before it began" if State(row.state).has_ended else "has not begun"
        hint = f"rq why {row.id}" if row.state in PENDING_STATES else None
        raise RoundqError(f"job {row.id} {how}: it has no output", hint)
    try:
        found = part.find(row)
        with open(path, "rb", opener=_opened) as file:
            status = os.fstat(file.fileno())
            is_told = found is not None and status.st_ino == found.inode
            begin, end = (found.begin, found.end) if found is not None and is_told else (0, None)
            first = begin
            if most is not None:
                first = max(begin, (status.st_size if end is None else end) - most - _OWN_LINE_MOST)
            if first:
                file.seek(first)
            text = file.read() if end is None else file.read(end - first)
    except OSError as error:
        raise RoundqError(f"the output of job {row.id} cannot be read: {path}: {error.strerror}") from None
    return _without_ours(text, row, has_first=first == begin) if is_told else text


def errors(row: Row) -> bytes:
    """What is in its error file, or in its output if it has none. Raises RoundqError as `output`."""
    path = error_path(row)
    if path == out_path(row):
        return output(row)
    try:
        with open(path, "rb", opener=_opened) as file:
            return file.read()
    except OSError as error:
        raise RoundqError(f"the errors of job {row.id} cannot be read: {path}: {error.strerror}") from None


def _opened(path: str, flags: int) -> int:
    # A FIFO is not waited for.
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def _without_ours(text: bytes, row: Row, *, has_first: bool) -> bytes:
    """A part of an output without the line that begins it, if it has that, and that which ends it."""
    if has_first:
        _, _, text = text.partition(b"\n")
    # A job may print what looks like it, too; what is ours stands at the end.
    ends_at = [found.start() for found in part.ends(row.id).finditer(text) if found.end() == len(text)]
    return text[: ends_at[-1]] if ends_at else text
