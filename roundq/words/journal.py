"""The lines of the journal: what is kept of a job for good, in one line of JSON; roundqueue(7), "History".

Pure; files are in `records/history`. A line has the fields of a record that do not have their defaults,
without what concerns only its processes: so a record can be made of it again.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any, NamedTuple

from roundq.words import record_format as formats
from roundq.words.errors import RecordError
from roundq.words.job import Job, Record
from roundq.words.states import ENDED_STATES

#: Of the lines of a volume, which its header tells.
VERSION = 1
#: A line is a record and little more.
LINE_BYTES_MAX = formats.RECORD_BYTES_MAX + 4096
# The longest id has 120 bytes, each written as six characters at most. A stranger's may be a megabyte.
_BEGIN = re.compile(rb'\{"id":("(?:[^"\\]|\\.){0,1000}"),"state":"([a-z]+)","ended":(-?\d{1,30}),')
_NUMBER = re.compile(rb'^\{"id":"(\d{1,18})[_."]', re.MULTILINE)


class Begin(NamedTuple):
    """What the begin of a line tells: which job, the state in which it ended, and when, in ns."""

    id: str
    state: str
    ended_ns: int


class Header(NamedTuple):
    """The first line of a volume.

    `is_sorted`: it is closed, and its lines are in the order of `key`. `begun_s` is when it was begun, by the
    clock of its node. Of a closed one: the ids of the first and the last line, when the first and the last of
    its jobs ended, the highest number that is an id in it, and how many lines it has.
    """

    is_sorted: bool
    begun_s: float
    first: str = ""
    last: str = ""
    since_ns: int = 0
    until_ns: int = 0
    number: int = 0
    lines: int = 0


# ---------------------------------------------------------------- the order


def key(job_id: str) -> tuple[int, str, int, str]:
    """Where an id stands in a closed volume: the tasks of an array, `N_INDEX`, stand together."""
    stem, _, rest = job_id.partition("_")
    return len(stem), stem, len(rest), rest


# ---------------------------------------------------------------- writing


def _without(value: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    return {name: kept for name, kept in value.items() if name not in defaults or defaults[name] != kept}


_DEFAULTS = formats.to_dict(Record(Job(("",))))
_JOB_DEFAULTS = {name: value for name, value in _DEFAULTS.pop("job").items() if name != "command"}


def folded(record: Record) -> Record:
    """What the journal keeps of a record: all but its processes, CPUs, lease and environment."""
    return replace(
        record,
        job=replace(record.job, environment=None),
        pid=0,
        process=None,
        lease_s=None,
        cpus=(),
        attempts=tuple(replace(attempt, process=None) for attempt in record.attempts),
    )


def _line(job_id: str, state: str, ended_ns: int, rest: dict[str, Any]) -> bytes:
    value = {"id": job_id, "state": state, "ended": ended_ns, **rest}
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def line(job_id: str, state: str, record: Record) -> bytes:
    """The line of an ended job, with its end."""
    ended_ns = record.completed_ns or record.started_ns or record.job.submitted_ns
    value = formats.to_dict(folded(record))
    job = _without(value.pop("job"), _JOB_DEFAULTS)
    return _line(job_id, state, ended_ns, {"record": {"job": job, **_without(value, _DEFAULTS)}})


def problem_line(job_id: str, state: str, ended_ns: int, problem: str) -> bytes:
    """The line of an ended job whose file was no record; `ended_ns` is when that was written."""
    return _line(job_id, state, ended_ns, {"problem": problem})


def header_line(header: Header) -> bytes:
    """The first line of a volume."""
    value: dict[str, Any] = {"journal": VERSION, "begun": header.begun_s}
    if header.is_sorted:
        value |= {
            "sorted": True,
            "first": header.first,
            "last": header.last,
            "since": header.since_ns,
            "until": header.until_ns,
            "number": header.number,
            "lines": header.lines,
        }
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def in_order(content: bytes) -> bytes:
    """The content of a volume as it is closed: whole lines only, each job once, in the order of `key`."""
    head, *lines = content.splitlines(keepends=True)
    begun = header_of(head)
    found: dict[str, tuple[Begin, bytes]] = {}
    for text in lines:
        told = begin_of(text)
        # What is cut was written again behind it. Of two lines of a job the later attempt is right; they
        # are the same one, unless a user moved a record back.
        if told is not None and text.endswith(b"}\n") and _is_later(text, found.get(told.id)):
            found[told.id] = told, text
    ordered = sorted(found.values(), key=lambda pair: key(pair[0].id))
    begins = [told for told, _ in ordered]
    body = b"".join(text for _, text in ordered)
    header = Header(
        True,
        0.0 if begun is None else begun.begun_s,
        begins[0].id if begins else "",
        begins[-1].id if begins else "",
        min((told.ended_ns for told in begins), default=0),
        max((told.ended_ns for told in begins), default=0),
        highest_number(body),
        len(begins),
    )
    return header_line(header) + body


def _is_later(text: bytes, other: tuple[Begin, bytes] | None) -> bool:
    return other is None or _attempt(text) >= _attempt(other[1])


def _attempt(text: bytes) -> int:
    try:
        _, record, _ = parse(text)
    except RecordError:
        return 0
    return 0 if record is None else record.attempt


# ---------------------------------------------------------------- reading


def pattern(job_id: str, *, of_tasks: bool = False) -> bytes:
    """How a line of this job begins, or with `of_tasks` any line of a task of this array."""
    begin = f'{{"id":{json.dumps(job_id)}'
    return (f"{begin[:-1]}_" if of_tasks else f"{begin},").encode()


def written(text: str) -> bytes:
    """A text as it stands in a line, without its quotes."""
    return json.dumps(text)[1:-1].encode()


def id_of(text: bytes) -> bytes:
    """The id of a line, as it is written there; anything of what is no line."""
    return text[len(b'{"id":"') : text.find(b'","')]


def begin_of(text: bytes) -> Begin | None:
    """What a line tells first; None if it is no line of a job."""
    found = _BEGIN.match(text) if len(text) <= LINE_BYTES_MAX else None
    if found is None or found[2].decode() not in ENDED_STATES:
        return None
    try:
        return Begin(json.loads(found[1]), found[2].decode(), int(found[3]))
    except ValueError:
        return None


def parse(text: bytes) -> tuple[Begin, Record | None, str | None]:
    """What a line tells of a job: its begin, its record, or what was wrong with that.

    Raises RecordError for what is no line of a job, since it was cut or somebody else wrote it.
    """
    told = begin_of(text)
    if told is None:
        raise RecordError("it is no line of a journal")
    from roundq.words import schema

    try:
        value = schema.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"it is no line of a journal: {error}") from None
    if not isinstance(value, dict):
        raise RecordError("it is no line of a journal")
    problem = value.get("problem")
    if problem is not None:
        return told, None, str(problem)
    return told, formats.of_value(value.get("record")), None


def header_of(text: bytes) -> Header | None:
    """What the first line of a volume says; None if it is none that is known here."""
    try:
        value = json.loads(text)
        if value["journal"] != VERSION:
            return None
        begun_s = float(value["begun"])
        if not value.get("sorted"):
            return Header(False, begun_s)
        whole = [int(value[name]) for name in ("since", "until", "number", "lines")]
        return Header(True, begun_s, str(value["first"]), str(value["last"]), *whole)
    except (ValueError, OverflowError, TypeError, KeyError, RecursionError):
        return None


def highest_number(content: bytes) -> int:
    """The highest number that is an id, or begins one, in these lines."""
    return max((int(digits) for digits in _NUMBER.findall(content)), default=0)
