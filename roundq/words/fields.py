"""What jobs can be told by in a match expression: fields, words for states, and how values are written.

Pure. `words.match` reads expressions; rq(1) has the same fields in a table, and a test compares the two.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import NamedTuple

from roundq.words import ranges
from roundq.words.errors import UsageError
from roundq.words.job import NS, Job, Record
from roundq.words.quantities import ALL_CORES, GIB, parse_duration, parse_memory, visible
from roundq.words.states import (
    CANCELED,
    CLAIMED,
    COMPLETED,
    ENDED_STATES,
    FAILED,
    PENDING_STATES,
    STATES,
    ZOMBIE,
)

#: Words for states, and which of ours they mean; a state also means itself.
STATE_WORDS: Mapping[str, tuple[str, ...]] = {
    **{state: (state,) for state in STATES},
    "queued": PENDING_STATES,
    "pending": PENDING_STATES,
    "starting": (CLAIMED,),
    "ended": ENDED_STATES,
    "finished": (COMPLETED, FAILED),
    "done": (COMPLETED, FAILED),
    "succeeded": (COMPLETED,),
    "success": (COMPLETED,),
    "errored": (FAILED,),
    "cancelled": (CANCELED,),
    "killed": (CANCELED,),
    "lost": (ZOMBIE,),
}


#: Signals by name, as Linux numbers them on most machines.
SIGNALS: Mapping[str, int] = {
    name: number
    for number, name in enumerate(
        "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP"
        " TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS".split(),
        start=1,
    )
}


class Needs(IntEnum):
    """What has to be known of a job to judge it: its name in the spool, what was submitted, or its record.

    What was submitted, and nobody can change, is the same for all tasks of an array. What `rq edit` changes
    is not: one task may ask for more than the others.
    """

    NAME, JOB, RECORD = range(3)


def suggestion(word: str, known: Mapping[str, object]) -> str | None:
    """A hint that names the known word which may have been meant."""
    import difflib

    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.55)
    return f"did you mean {by_lower[near[0]]}?" if near else None


class Facts(NamedTuple):
    """What is known of a job. `job` is what was submitted with it, or with another task of its array; None if
    neither was read. `record` is its own, None if that was not read.

    Times are in nanoseconds since the epoch.
    """

    id: str
    state: str
    node: str | None
    user: str
    now_ns: int
    job: Job | None = None
    record: Record | None = None


# ---------------------------------------------------------------- values


def whole(text: str) -> float:
    """A whole number, with a sign or without. Raises UsageError."""
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text, re.ASCII):
        raise UsageError(f'"{visible(text)}" is not a whole number', "write digits, such as 4")
    return int(text)


def _cores(text: str) -> float:
    # More than any number: a whole node is asked for.
    return math.inf if text.lower() == "all" else whole(text)


def _priority(text: str) -> float:
    named = {"high": 100, "normal": 0, "low": -100}
    return named[text.lower()] if text.lower() in named else whole(text)


def _memory(text: str) -> float:
    return parse_memory(text, GIB)


def _duration(text: str) -> float:
    # Rounded so that what is printed is read as the same.
    return 0.0 if re.fullmatch(r"0+[smhd]?", text) else round(parse_duration(text), 6)


def _signal(text: str) -> float:
    if text.isdecimal():
        return whole(text)
    name = text.upper().removeprefix("SIG")
    if name not in SIGNALS:
        hint = suggestion(name, SIGNALS) or "write a number or a name, such as KILL"
        raise UsageError(f'there is no signal "{visible(text)}"', hint)
    return SIGNALS[name]


def _number_text(value: float) -> str:
    return "all" if math.isinf(value) else str(int(value))


def _duration_text(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".") + "s"


class _Kind(NamedTuple):
    """How values of a field are written, and whether they have an order."""

    parse: Callable[[str], float]
    text: Callable[[float], str]


_NUMBER = _Kind(whole, _number_text)
_CORES = _Kind(_cores, _number_text)
_PRIORITY = _Kind(_priority, _number_text)
_MEMORY = _Kind(_memory, lambda value: f"{int(value)}B")
_DURATION = _Kind(_duration, _duration_text)
_SIGNAL = _Kind(_signal, _number_text)


class Unread:
    """What a field is of a job of which too little was read."""


UNREAD = Unread()
Fact = str | float | None | Unread


class Field(NamedTuple):
    """A field: what it needs, its value of a job (None if it has none), and for numbers how they are
    written."""

    needs: Needs
    fact: Callable[[Facts], Fact]
    kind: _Kind | None = None


def _of_job(fact: Callable[[Job], Fact]) -> Callable[[Facts], Fact]:
    return lambda facts: UNREAD if facts.job is None else fact(facts.job)


def _of_record(fact: Callable[[Record, Facts], Fact]) -> Callable[[Facts], Fact]:
    return lambda facts: UNREAD if facts.record is None else fact(facts.record, facts)


def _asked_cores(record: Record, _: Facts) -> Fact:
    return math.inf if record.job.cores == ALL_CORES else record.job.cores


def _age(facts: Facts) -> Fact:
    if facts.job is None:
        return UNREAD
    return (facts.now_ns - facts.job.submitted_ns) / NS if facts.job.submitted_ns else None


def _node(facts: Facts) -> Fact:
    if facts.node is not None:
        return facts.node
    if facts.state in PENDING_STATES:
        return ""
    return UNREAD if facts.record is None else ""


def _code(record: Record, facts: Facts) -> Fact:
    if facts.state not in ENDED_STATES:
        return None
    return record.exit_code if record.signal is None else -record.signal


def _ran(record: Record, facts: Facts) -> Fact:
    if not record.started_ns or facts.state in PENDING_STATES:
        return None
    until_ns = record.completed_ns if facts.state in ENDED_STATES else facts.now_ns
    return (until_ns - record.started_ns) / NS if until_ns else None


def _waited(record: Record, facts: Facts) -> Fact:
    if not record.job.submitted_ns:
        return None
    until_ns = (
        (record.started_ns or record.completed_ns) if facts.state in ENDED_STATES else record.started_ns
    )
    if facts.state in PENDING_STATES:
        until_ns = facts.now_ns
    return ((until_ns or facts.now_ns) - record.job.submitted_ns) / NS


FIELDS: Mapping[str, Field] = {
    "id": Field(Needs.NAME, lambda facts: facts.id),
    "array": Field(Needs.NAME, lambda facts: ranges.array_of(facts.id)),
    "state": Field(Needs.NAME, lambda facts: facts.state),
    "user": Field(Needs.NAME, lambda facts: facts.user),
    "name": Field(Needs.RECORD, _of_record(lambda record, _: record.job.name)),
    "set": Field(Needs.JOB, _of_job(lambda job: job.set)),
    "node": Field(Needs.RECORD, _node),
    "reason": Field(Needs.RECORD, _of_record(lambda record, _: record.reason or "")),
    "code": Field(Needs.RECORD, _of_record(_code), _NUMBER),
    "signal": Field(Needs.RECORD, _of_record(lambda record, _: record.signal), _SIGNAL),
    "attempt": Field(Needs.RECORD, _of_record(lambda record, _: record.attempt), _NUMBER),
    "age": Field(Needs.JOB, _age, _DURATION),
    "waited": Field(Needs.RECORD, _of_record(_waited), _DURATION),
    "ran": Field(Needs.RECORD, _of_record(_ran), _DURATION),
    "cores": Field(Needs.RECORD, _of_record(_asked_cores), _CORES),
    "mem": Field(Needs.RECORD, _of_record(lambda record, _: record.job.memory_required), _MEMORY),
    "gpus": Field(Needs.RECORD, _of_record(lambda record, _: record.job.gpus), _NUMBER),
    "priority": Field(Needs.RECORD, _of_record(lambda record, _: record.job.priority), _PRIORITY),
}
