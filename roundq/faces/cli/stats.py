"""The verb `stats`: what jobs used of what they asked for, like seff of Slurm. It changes nothing."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from roundq.actors import outcome
from roundq.actors.listing import Row
from roundq.faces.cli import named
from roundq.faces.cli.parser import Parser
from roundq.faces.cli.person import any_person
from roundq.words import report as sums
from roundq.words.job import NS, Attempt, Record
from roundq.words.quantities import ALL_CORES, format_duration, format_memory, visible
from roundq.words.ranges import array_of
from roundq.words.report import Spread
from roundq.words.room import cores_text
from roundq.words.states import CANCELED, COMPLETED, ENDED_STATES, FAILED, PENDING_STATES, ZOMBIE


def build_parser(verb: str) -> Parser:
    """The parser of `stats`."""
    parser = Parser(
        verb,
        "[--json] JOBS...",
        "Tell what jobs used of what they asked for: processor time, memory, time; of an array how that is"
        " spread over its tasks.",
        "rq stats 17",
    )
    named.add_jobs(parser, "jobs to tell of")
    parser.add_argument("--json", action="store_true", help="print one JSON value, for programs")
    return parser


def run(verb: str, options: argparse.Namespace) -> int:
    """Does what `stats` says; its exit code."""
    named.require(options, f"tell {verb} of")
    asker = any_person()
    rows = named.looked_at(asker, options.jobs, options.job_name).rows
    now_ns = time.time_ns()
    groups = _groups(rows)
    if options.json:
        _print_json(groups, now_ns)
        return 0
    for number, group in enumerate(groups):
        if number:
            print()
        title, facts = _of_job(group[0], now_ns) if len(group) == 1 else _of_array(group, now_ns)
        print(visible(title))
        for name, value in facts:
            print(f"  {name:<11} {visible(value)}")
    return 0


def _groups(rows: Iterable[Row]) -> list[list[Row]]:
    """The jobs one by one, but tasks of one array together."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(array_of(row.id) or row.id, []).append(row)
    return list(groups.values())


# ---------------------------------------------------------------- one job


def _of_job(row: Row, now_ns: int) -> tuple[str, list[tuple[str, str]]]:
    record = row.record
    if record is None:
        return f"job {row.id}", [
            ("state", row.state),
            ("problem", f"its job file cannot be read: {row.problem}"),
        ]
    now = _as_of(row, record, now_ns)
    facts = [
        ("state", _state(row)),
        ("node", row.node or ""),
        ("cores", _cores(record)),
        ("CPU", _cpu(now, has_ended=row.state in ENDED_STATES)),
        ("memory", _memory(record)),
        ("ran", _ran(now)),
        ("waited", _waited(record)),
        ("attempt", f"{record.attempt}" if record.attempt > 1 else ""),
        *[("before", _attempt(attempt)) for attempt in record.attempts],
    ]
    return f"job {named.title(row)}", [(name, value) for name, value in facts if value]


def _as_of(row: Row, record: Record, now_ns: int) -> Record:
    """The record of a job that runs as if it had ended now."""
    from dataclasses import replace

    is_over = row.state in ENDED_STATES or row.state in PENDING_STATES
    return record if is_over or not record.started_ns else replace(record, completed_ns=now_ns)


def _state(row: Row) -> str:
    return outcome.sentence(row) if row.state in ENDED_STATES else row.state


def _cores(record: Record) -> str:
    cores = sums.cores(record)
    return "a whole node" if cores == ALL_CORES else cores_text(cores)


def _cpu(record: Record, *, has_ended: bool) -> str:
    used_s, part = sums.cpu_s(record), sums.efficiency(record)
    if used_s is None:
        if record.usage or not record.started_ns:
            return ""
        return "not known" if has_ended else "not known before it ends"
    ran_s = sums.run_s(record) or 0.0
    of = f" of {format_duration(ran_s * sums.cores(record))} core time" if part is not None else ""
    return f"{_percent(part)}: {_duration(used_s)}{of}" if part is not None else _duration(used_s)


def _memory(record: Record) -> str:
    used, asked = sums.memory_bytes(record), record.job.memory_required
    if used is None:
        return f"asked for {format_memory(asked)}" if asked else ""
    text = format_memory(int(used)) if math.isfinite(used) else "?"
    return (
        f"{_percent(used / asked)}: {text} of {format_memory(asked)}" if asked else f"{text}, none asked for"
    )


def _ran(record: Record) -> str:
    ran_s, limit_s = sums.run_s(record), record.job.time_limit_s
    if ran_s is None:
        return ""
    of = f" of at most {format_duration(limit_s)} ({_percent(ran_s / limit_s)})" if limit_s else ""
    return f"{format_duration(ran_s)}{of}"


def _waited(record: Record) -> str:
    wait_s = sums.wait_s(record)
    return "" if wait_s is None else format_duration(wait_s)


def _attempt(attempt: Attempt) -> str:
    why = outcome.of_attempt(attempt)
    if not attempt.started_ns:
        return f"{attempt.title}: {why}"
    ran_s = (attempt.completed_ns - attempt.started_ns) / NS
    return f"{attempt.title}, {format_duration(max(0.0, ran_s))}: {why}"


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else format_duration(seconds)


def _percent(part: float | None) -> str:
    return "?" if part is None or not math.isfinite(part) else f"{100 * part:.0f}%"


# ---------------------------------------------------------------- an array

_WORDS = {COMPLETED: "completed", FAILED: "failed", CANCELED: "canceled", ZOMBIE: "lost"}


def _of_array(rows: Sequence[Row], now_ns: int) -> tuple[str, list[tuple[str, str]]]:
    found = [_as_of(row, row.record, now_ns) for row in rows if row.record is not None]
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.state] = counts.get(row.state, 0) + 1
    states = ", ".join(f"{count:,} {_WORDS.get(state, state)}" for state, count in counts.items())
    facts = [("tasks", f"{len(rows):,}: {states}")]
    if found:
        asked = found[0].job.memory_required
        facts += [
            ("cores", f"{_cores(found[0])} each"),
            ("CPU", _spread(sums.spread(map(sums.efficiency, found)), _percent)),
            ("memory", _spread(sums.spread(map(sums.memory_bytes, found)), _bytes)),
            ("asked for", format_memory(asked) if asked else ""),
            ("ran", _spread(sums.spread(map(sums.run_s, found)), format_duration)),
            ("waited", _spread(sums.spread(map(sums.wait_s, found)), format_duration)),
            ("attempts", str(sum(record.attempt for record in found))),
        ]
    job = found[0].job if found else None
    title = f"array {array_of(rows[0].id)}" + (f' "{job.name}"' if job else "")
    return title, [(name, value) for name, value in facts if value]


def _bytes(value: float) -> str:
    return format_memory(int(value)) if math.isfinite(value) else "?"


def _spread(spread: Spread | None, text: Callable[[float], str]) -> str:
    if spread is None:
        return ""
    return f"least {text(spread.least)}, median {text(spread.middle)}, most {text(spread.most)}"


# ---------------------------------------------------------------- for programs


def _print_json(groups: Iterable[Sequence[Row]], now_ns: int) -> None:
    from roundq.faces.as_json import as_json

    values = [_object(row, now_ns) for group in groups for row in group]
    value = as_json(now_ns, jobs=values)
    print(json.dumps(value, indent=2 if sys.stdout.isatty() else None, allow_nan=False))


def _object(row: Row, now_ns: int) -> dict[str, Any]:
    from roundq.faces.values import seconds, text_of

    value: dict[str, Any] = {"id": text_of(row.id), "state": row.state}
    names = "cores cpu_time cpu_efficiency memory memory_used memory_efficiency run_time time_limit wait_time"
    value |= dict.fromkeys([*names.split(), "attempt"])
    record = row.record
    if record is None:
        return value
    now = _as_of(row, record, now_ns)
    used, asked = sums.memory_bytes(now), record.job.memory_required
    known: dict[str, float | None] = {
        "cpu_time": sums.cpu_s(now),
        "cpu_efficiency": sums.efficiency(now),
        "memory_used": used,
        "memory_efficiency": used / asked if used is not None and asked else None,
        "run_time": sums.run_s(now),
        "wait_time": sums.wait_s(now),
    }
    for name, one in known.items():
        value[name] = None if one is None or not math.isfinite(one) else round(one, 6)
    value["cores"] = sums.cores(record) or None
    value["memory"] = asked
    value["time_limit"] = seconds(record.job.time_limit_s)
    value["attempt"] = record.attempt
    return value
