"""The job and its record: what is asked for, and what became of it.

A record is one JSON file. The format is one for every state, so that a rename
alone is a valid transition, and a superset of that of roundqueue 0.2.9, whose
daemons read ours and whose files we read. Fields that we do not know are kept.
Writing needs the standard library only; reading validates with pydantic's core,
which is imported when the first file is read, since `rq run` reads none.
"""

from __future__ import annotations

import base64
import functools
import json
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from roundq.words.errors import RecordError

if TYPE_CHECKING:
    from pydantic_core import SchemaValidator

NS = 1_000_000_000
#: No honest record comes near this; anything larger is not read at all.
RECORD_BYTES_MAX = 1 << 20
#: What 0.2.9 allows a job to write when it does not say: 1 MB.
MAX_OUTPUT_DEFAULT = 1 << 20
NO_NODE = "NONE"


@dataclass(frozen=True, slots=True)
class Identity:
    """A process that no later process can be taken for.

    `start` is the kernel's start time in clock ticks since boot (/proc/PID/stat
    field 22), `boot` the boot id of the node: pids come again, these three do not.
    """

    boot: str
    pid: int
    start: int


@dataclass(frozen=True, slots=True)
class Job:
    """What the user asked for. Never changes once it is submitted.

    `cores` 0 means all of a node. Memory and output are in bytes, `max_output` 0
    sets no limit, times are in nanoseconds since the epoch, `time_limit_s` in
    seconds. `output` and `error` are relative to `directory`; no `error` means
    that both streams go to `output`. `environment` is the digest of a file in env/.
    """

    command: tuple[str, ...]
    directory: str = ""
    home_dir: str = ""
    jobname: str = ""
    output: str = ""
    submitted_ns: int = 0
    cores: int = 1
    memory_required: int = 0
    max_output: int = MAX_OUTPUT_DEFAULT
    restartable: bool = False
    error: str | None = None
    environment: str | None = None
    umask: int | None = None
    time_limit_s: float | None = None
    priority: int = 0
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name a person gave it, or else its command line."""
        return self.jobname or " ".join(self.command)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One ended run of a job: where, by which process, when, and what became of it."""

    number: int
    node: str
    process: Identity | None
    started_ns: int
    completed_ns: int
    reason: str | None = None
    exit_code: int | None = None
    signal: int | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """A job and what became of it so far.

    `attempt` counts from 1; `cores` is what was granted (`all` resolved to a
    number), 0 until it begins. `process` is the supervisor of this attempt.
    `attempts` are the earlier ones. `detail` is one sentence for people.
    """

    job: Job
    started_ns: int = 0
    node: str = NO_NODE
    pid: int = 0
    completed_ns: int = 0
    exit_code: int | None = None
    signal: int | None = None
    reason: str | None = None
    detail: str | None = None
    attempt: int = 1
    attempts: tuple[Attempt, ...] = ()
    cores: int = 0
    process: Identity | None = None
    usage: dict[str, float] | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def next_attempt(self, completed_ns: int, reason: str) -> Record:
        """This record as it goes back to waiting: the attempt is history, the next one is open."""
        ended = Attempt(
            self.attempt,
            self.node,
            self.process,
            self.started_ns,
            completed_ns,
            reason,
            self.exit_code,
            self.signal,
        )
        return replace(
            Record(self.job, extra=self.extra), attempt=self.attempt + 1, attempts=(*self.attempts, ended)
        )


# ---------------------------------------------------------------- writing

_TEXT_FIELDS = ("home_dir", "directory", "jobname", "output", "error")


def _moment(ns: int) -> dict[str, int]:
    return {"secs": ns // NS, "nanos": ns % NS}


def _identity(process: Identity | None) -> dict[str, Any] | None:
    return None if process is None else {"boot": process.boot, "pid": process.pid, "start": process.start}


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _raw(text: str) -> str:
    return base64.b64encode(os.fsencode(text)).decode()


def _is_clean(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _job_dict(job: Job) -> dict[str, Any]:
    texts = {name: value for name in _TEXT_FIELDS if (value := getattr(job, name)) is not None}
    # Arguments and paths are bytes; JSON is not. What is not UTF-8 is stored
    # exactly under `raw`, and readably where 0.2.9 looks.
    raw: dict[str, Any] = {name: _raw(value) for name, value in texts.items() if not _is_clean(value)}
    if not all(map(_is_clean, job.command)):
        raw["command"] = [_raw(word) for word in job.command]
    return {
        **job.extra,
        **{name: _printable(value) for name, value in texts.items()},
        "command": [_printable(word) for word in job.command],
        "submitted": _moment(job.submitted_ns),
        "cores": job.cores,
        "memory_required": job.memory_required,
        "max_output": job.max_output,
        "restartable": job.restartable,
        "environment": job.environment,
        "umask": job.umask,
        "time_limit": None if job.time_limit_s is None else _moment(round(job.time_limit_s * NS)),
        "priority": job.priority,
        **({"raw": raw} if raw else {}),
    }


def _attempt_dict(attempt: Attempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "node": attempt.node,
        "process": _identity(attempt.process),
        "started": _moment(attempt.started_ns),
        "completed": _moment(attempt.completed_ns),
        "reason": attempt.reason,
        "exit_code": attempt.exit_code,
        "signal": attempt.signal,
    }


def to_dict(record: Record) -> dict[str, Any]:
    """The record as the JSON object that is stored."""
    return {
        **record.extra,
        "job": _job_dict(record.job),
        "started": _moment(record.started_ns),
        "node": record.node,
        "pid": record.pid,
        "completed": _moment(record.completed_ns),
        "exit_code": record.exit_code,
        "signal": record.signal,
        "reason": record.reason,
        "detail": None if record.detail is None else _printable(record.detail),
        "attempt": record.attempt,
        "attempts": [_attempt_dict(attempt) for attempt in record.attempts],
        "cores": record.cores,
        "process": _identity(record.process),
        "usage": record.usage,
    }


def dump(record: Record) -> bytes:
    """The record as the bytes of its file."""
    return json.dumps(to_dict(record), separators=(",", ":")).encode() + b"\n"


# ---------------------------------------------------------------- reading


@functools.cache
def _validator() -> SchemaValidator:
    """Checks a parsed JSON object and fills in defaults. Built once, when the first record is read."""
    from pydantic_core import SchemaValidator
    from pydantic_core import core_schema as cs

    def optional(schema: cs.CoreSchema, default: Any = None) -> cs.TypedDictField:
        return cs.typed_dict_field(
            cs.with_default_schema(cs.nullable_schema(schema), default=default), required=False
        )

    def fallback(schema: cs.CoreSchema, default: Any) -> cs.TypedDictField:
        return cs.typed_dict_field(cs.with_default_schema(schema, default=default), required=False)

    def fields(**of: cs.TypedDictField) -> cs.CoreSchema:
        return cs.typed_dict_schema(of, extra_behavior="allow")

    def natural(most: int) -> cs.CoreSchema:
        return cs.int_schema(ge=0, le=most, strict=True)

    text = cs.str_schema(max_length=1 << 17, strict=True)
    moment = fields(secs=cs.typed_dict_field(natural(1 << 40)), nanos=fallback(natural(NS - 1), 0))
    never = {"secs": 0, "nanos": 0}
    identity = fields(
        boot=cs.typed_dict_field(text),
        pid=cs.typed_dict_field(natural(1 << 30)),
        start=cs.typed_dict_field(natural(1 << 62)),
    )
    exit_code = cs.int_schema(ge=-(1 << 31), le=(1 << 31), strict=True)
    attempt = fields(
        number=cs.typed_dict_field(natural(1 << 30)),
        node=fallback(text, NO_NODE),
        process=optional(identity),
        started=fallback(moment, never),
        completed=fallback(moment, never),
        reason=optional(text),
        exit_code=optional(exit_code),
        signal=optional(natural(128)),
    )
    job = fields(
        command=cs.typed_dict_field(cs.list_schema(text, min_length=1, max_length=1 << 16)),
        directory=fallback(text, ""),
        home_dir=fallback(text, ""),
        jobname=fallback(text, ""),
        output=fallback(text, ""),
        submitted=fallback(moment, never),
        cores=fallback(natural(1 << 20), 1),
        memory_required=fallback(natural(1 << 60), 0),
        max_output=fallback(natural(1 << 60), MAX_OUTPUT_DEFAULT),
        restartable=fallback(cs.bool_schema(strict=True), False),
        error=optional(text),
        environment=optional(cs.str_schema(pattern="^[0-9a-f]{64}$", strict=True)),
        umask=optional(natural(0o777)),
        time_limit=optional(moment),
        priority=fallback(cs.int_schema(ge=-(1 << 31), le=1 << 31, strict=True), 0),
        raw=optional(cs.dict_schema(text, cs.union_schema([text, cs.list_schema(text, max_length=1 << 16)]))),
    )
    record = fields(
        job=cs.typed_dict_field(job),
        started=fallback(moment, never),
        node=fallback(text, NO_NODE),
        pid=fallback(natural(1 << 30), 0),
        completed=fallback(moment, never),
        exit_code=optional(exit_code),
        signal=optional(natural(128)),
        reason=optional(text),
        detail=optional(text),
        attempt=fallback(cs.int_schema(ge=1, le=1 << 30, strict=True), 1),
        attempts=fallback(cs.list_schema(attempt, max_length=10_000), []),
        cores=fallback(natural(1 << 20), 0),
        process=optional(identity),
        usage=optional(cs.dict_schema(text, cs.float_schema())),
    )
    return SchemaValidator(record)


_JOB_FIELDS = frozenset(
    "command directory home_dir jobname output submitted cores memory_required max_output restartable error"
    " environment umask time_limit priority raw".split()
)
_RECORD_FIELDS = frozenset(
    "job started node pid completed exit_code signal reason detail attempt attempts cores process usage".split()
)


def _ns(moment: dict[str, int]) -> int:
    return moment["secs"] * NS + moment["nanos"]


def _to_identity(value: dict[str, Any] | None) -> Identity | None:
    return None if value is None else Identity(value["boot"], value["pid"], value["start"])


def _bytes(encoded: str) -> str:
    return os.fsdecode(base64.b64decode(encoded, validate=True))


def _to_job(value: dict[str, Any]) -> Job:
    raw = value["raw"] or {}
    command = tuple(map(_bytes, raw["command"])) if "command" in raw else tuple(value["command"])
    if not command:
        raise ValueError("job.raw.command is empty")
    texts = {name: _bytes(raw[name]) if name in raw else value[name] for name in _TEXT_FIELDS}
    for word in (*command, *filter(None, texts.values())):
        if "\0" in word:
            raise ValueError("a NUL byte in a word of the job")
    return Job(
        command=command,
        **texts,
        submitted_ns=_ns(value["submitted"]),
        cores=value["cores"],
        memory_required=value["memory_required"],
        max_output=value["max_output"],
        restartable=value["restartable"],
        environment=value["environment"],
        umask=value["umask"],
        time_limit_s=None if value["time_limit"] is None else _ns(value["time_limit"]) / NS,
        priority=value["priority"],
        extra={name: kept for name, kept in value.items() if name not in _JOB_FIELDS},
    )


def _to_attempt(value: dict[str, Any]) -> Attempt:
    return Attempt(
        value["number"],
        value["node"],
        _to_identity(value["process"]),
        _ns(value["started"]),
        _ns(value["completed"]),
        value["reason"],
        value["exit_code"],
        value["signal"],
    )


def parse(data: bytes) -> Record:
    """The record that these bytes of a job file hold.

    Raises `RecordError`, whose text says what is wrong, for anything else:
    empty, cut, too large, too deep, of the wrong types.
    """
    if not data.strip():
        raise RecordError("it is empty")
    if len(data) > RECORD_BYTES_MAX:
        raise RecordError(f"it is larger than {RECORD_BYTES_MAX} bytes")
    try:
        value = _validator().validate_python(json.loads(data))
        return Record(
            job=_to_job(value["job"]),
            started_ns=_ns(value["started"]),
            node=value["node"],
            pid=value["pid"],
            completed_ns=_ns(value["completed"]),
            exit_code=value["exit_code"],
            signal=value["signal"],
            reason=value["reason"],
            detail=value["detail"],
            attempt=value["attempt"],
            attempts=tuple(map(_to_attempt, value["attempts"])),
            cores=value["cores"],
            process=_to_identity(value["process"]),
            usage=value["usage"],
            extra={name: kept for name, kept in value.items() if name not in _RECORD_FIELDS},
        )
    except RecursionError:
        raise RecordError("it is nested too deeply") from None
    except ValueError as error:
        # JSONDecodeError, UnicodeDecodeError, binascii.Error and pydantic's
        # ValidationError are all ValueErrors; the latter lists its findings.
        findings = getattr(error, "errors", None)
        if findings is None:
            raise RecordError(f"it is not JSON as expected: {error}") from None
        first = findings(include_url=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise RecordError(f"{where}: {first['msg']}") from None
