"""A job as a block of lines: what `rq list -v` shows of each. Pure."""

from __future__ import annotations

import shlex

from roundq.actors import outcome
from roundq.actors.listing import Row
from roundq.actors.streams import error_path, output_path
from roundq.faces.queue_view import STYLES, Facts, cores_text, reason_text, run_time_s, state_text
from roundq.faces.tables import Line, shorten, width
from roundq.words.job import NS, Record
from roundq.words.quantities import format_age, format_duration, visible
from roundq.words.resources import asked_text
from roundq.words.states import CLAIMED, ENDED_STATES, HELD, RUNNING, WAITING

#: Columns of the id, of the name, and of what stands before a value.
_ID, _NAME, _KEY = 6, 40, 20


def block(row: Row, facts: Facts) -> list[Line]:
    """The lines of a job: its id, name and state, and below them what was asked for and what became of it."""
    record = row.record
    name = visible("-" if record is None else record.job.name)
    name = shorten(name, _NAME, "...")
    head = f"{visible(row.id):{_ID}} {name}{' ' * (_NAME - width(name))} {state_text(row, facts)}"
    lines = [Line(head, STYLES[row.state] or "bold")]
    if record is None:
        return [*lines, _told("problem", row.problem or "nobody read it")]
    job = record.job
    wanted = [f"{'a whole node' if not job.cores else cores_text(job.cores)}", asked_text(job)]
    told = [
        ("user", "" if row.is_mine else row.user),
        ("priority", str(job.priority)),
        ("set", job.set),
        ("submitted", _ago(job.submitted_ns, facts.now_ns)),
        ("command", shlex.join(job.command)),
        ("directory", job.directory),
        ("cores", ", ".join(filter(None, wanted))),
        ("time limit", "" if job.time_limit_s is None else format_duration(job.time_limit_s)),
        ("output", output_path(record, row.id)),
        ("error", "" if job.error is None else error_path(record, row.id)),
        ("attempt", str(record.attempt) if record.attempt > 1 else ""),
    ]
    lines += [_told(key, value) for key, value in told if value]
    first, *more = _status(row, record, facts)
    return [*lines, _told("status", first), *(_told("", text) for text in more)]


def _told(key: str, value: str) -> Line:
    return Line(f"    {f'{key}:' if key else '':{_KEY - 4}}{visible(value)}")


def _ago(ns: int, now_ns: int) -> str:
    return f"{format_age((now_ns - ns) / NS)} ago" if ns else ""


def _status(row: Row, record: Record, facts: Facts) -> list[str]:
    """What became of it, in the words of tpar: where it is, and since when."""
    started = f"started {_ago(record.started_ns, facts.now_ns)}" if record.started_ns else "never started"
    node = visible(row.node or "a node")
    match row.state:
        case s if s in ENDED_STATES:
            when = _ago(record.completed_ns, facts.now_ns)
            said = [f"{outcome.sentence(row)}{f' ({when})' if when else ''}", started]
            ran_s = run_time_s(row, facts.now_ns)
            ran = "" if ran_s is None else f" for {format_duration(ran_s)}"
            return [*said, f"ran on {node}{ran}"] if record.started_ns and row.node else said
        case s if s == RUNNING:
            return [f"running on {node}", started]
        case s if s == CLAIMED:
            return [f"starting on {node}"]
        case s if s == WAITING:
            said = ["waiting to run"]
        case s if s == HELD:
            said = ["held"]
    reason = reason_text(row, facts)
    return [f"{said[0]}: {reason}"] if reason else said
