"""The format of a record: its JSON, written and read.

One format for every state, and a superset of that of roundqueue 0.2.9; roundqueue(7), "Records". Fields that
we do not know are kept. Writing needs the standard library only; reading validates with pydantic's core,
which is imported when the first file is read, since `rq run` reads none.
"""

from __future__ import annotations

import base64
import functools
import json
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from roundq.words.errors import RecordError
from roundq.words.job import (
    AFTER_MAX,
    CHUNK_MAX,
    GPUS_MAX,
    LICENSES_MAX,
    MAX_OUTPUT_DEFAULT,
    NO_NODE,
    NS,
    RETRIES_MAX,
    TASKS_MAX,
    WORDS_MAX,
    Array,
    Attempt,
    Dependency,
    Identity,
    Job,
    Notice,
    Record,
    Task,
)

if TYPE_CHECKING:
    from pydantic_core import SchemaValidator

#: No honest record comes near this; anything larger is not read at all.
RECORD_BYTES_MAX = 1 << 20
#: Characters of what is said about a file that is no record.
FINDING_MAX = 200

# ---------------------------------------------------------------- writing

_ARRAY_FIELDS = ("id", "index", "first", "last", "step", "count", "throttle", "max_fails", "jobs")
_TEXT_FIELDS = ("home_dir", "directory", "jobname", "output", "error")


def moment(ns: int) -> dict[str, int]:
    """0.2.9's {"secs", "nanos"} of nanoseconds since the epoch."""
    return {"secs": ns // NS, "nanos": ns % NS}


def duration(seconds: float | None) -> dict[str, int] | None:
    """0.2.9's {"secs", "nanos"} of a time in seconds."""
    return None if seconds is None else moment(round(seconds * NS))


def identity_dict(process: Identity | None) -> dict[str, Any] | None:
    """The JSON of a process identity."""
    return None if process is None else {"boot": process.boot, "pid": process.pid, "start": process.start}


def printable(text: str) -> str:
    r"""The text, with bytes that are not UTF-8 written as \xE9: what strict readers of JSON take."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
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
    if not all(_is_clean(word) for task in job.chunk for word in task.command):
        raw["chunk"] = [[_raw(word) for word in task.command] for task in job.chunk]
    return {
        **{name: kept for name, kept in job.extra.items() if name != "raw"},
        **{name: printable(value) for name, value in texts.items()},
        "command": [printable(word) for word in job.command],
        "submitted": moment(job.submitted_ns),
        "cores": job.cores,
        "memory_required": job.memory_required,
        "memory_limit": job.memory_limit,
        "max_output": job.max_output,
        "restartable": job.restartable,
        "environment": job.environment,
        "umask": job.umask,
        "time_limit": duration(job.time_limit_s),
        "priority": job.priority,
        **_asked(job),
        **({"raw": raw} if raw else {}),
    }


def _array_dict(array: Array) -> dict[str, Any]:
    return {name: getattr(array, name) for name in _ARRAY_FIELDS}


def _asked(job: Job) -> dict[str, Any]:
    """What few jobs ask for, where they do."""
    notice = job.notice and {"number": job.notice.number, "before": duration(job.notice.before_s)}
    asked = {
        "gpus": job.gpus,
        "licenses": dict(job.licenses),
        "nodes": list(job.nodes),
        "exclude": list(job.exclude),
        "features": list(job.features),
        "scavenge": job.scavenge,
        "signal": notice,
        "set": job.set,
        "array": None if job.array is None else _array_dict(job.array),
        "chunk": [
            {"index": task.index, "command": [printable(word) for word in task.command]} for task in job.chunk
        ],
        "after": [{"how": one.how, "job": one.job, "tasks": one.tasks} for one in job.after],
        "keep_held": job.keep_held,
        "begin": moment(job.begin_ns) if job.begin_ns else None,
        "retries": job.retries,
        "retry_on": list(job.retry_on),
        "backoff": duration(job.backoff_s) if job.backoff_s else None,
    }
    return {name: value for name, value in asked.items() if value}


def _attempt_dict(attempt: Attempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "node": attempt.node,
        "process": identity_dict(attempt.process),
        "started": moment(attempt.started_ns),
        "completed": moment(attempt.completed_ns),
        "reason": attempt.reason,
        "exit_code": attempt.exit_code,
        "signal": attempt.signal,
        "detail": None if attempt.detail is None else printable(attempt.detail),
    }


def to_dict(record: Record) -> dict[str, Any]:
    """The record as the JSON object that is stored."""
    return {
        **record.extra,
        "job": _job_dict(record.job),
        "started": moment(record.started_ns),
        "node": record.node,
        "pid": record.pid,
        "completed": moment(record.completed_ns),
        "exit_code": record.exit_code,
        "signal": record.signal,
        "reason": record.reason,
        "detail": None if record.detail is None else printable(record.detail),
        "attempt": record.attempt,
        "attempts": [_attempt_dict(attempt) for attempt in record.attempts],
        "cores": record.cores,
        "process": identity_dict(record.process),
        "usage": record.usage,
        "lease": duration(record.lease_s),
        **({"cpus": list(record.cpus)} if record.cpus else {}),
        **({"gpus": list(record.gpus)} if record.gpus else {}),
        **({"threads": True} if record.threads else {}),
        **({"retired": True} if record.retired else {}),
        **({"results": [list(one) for one in record.results]} if record.results else {}),
        **({"not_before": moment(record.not_before_ns)} if record.not_before_ns else {}),
        **({"retried": record.retried} if record.retried else {}),
    }


def dump(record: Record) -> bytes:
    """The record as the bytes of its file."""
    return json.dumps(to_dict(record), separators=(",", ":")).encode() + b"\n"


# ---------------------------------------------------------------- reading


@functools.cache
def _validator() -> SchemaValidator:
    """Checks a parsed JSON object and fills in defaults. Built once, when the first record is read."""
    from roundq.words import schema as of

    never = {"secs": 0, "nanos": 0}
    exit_code = of.whole(-(1 << 31), (1 << 31) - 1)
    attempt = of.fields(
        number=of.required(of.natural(1 << 30)),
        node=of.fallback(of.text, NO_NODE),
        process=of.optional(of.identity),
        started=of.fallback(of.moment, never),
        completed=of.fallback(of.moment, never),
        reason=of.optional(of.text),
        exit_code=of.optional(exit_code),
        signal=of.optional(of.natural(128)),
        detail=of.optional(of.text),
    )
    array = of.fields(
        id=of.required(of.text),
        index=of.required(of.natural(1 << 62)),
        first=of.fallback(of.natural(1 << 62), 0),
        last=of.fallback(of.natural(1 << 62), 0),
        step=of.fallback(of.whole(1, 1 << 62), 1),
        count=of.fallback(of.whole(1, TASKS_MAX), 1),
        throttle=of.fallback(of.natural(TASKS_MAX), 0),
        max_fails=of.optional(of.natural(TASKS_MAX)),
        jobs=of.fallback(of.natural(TASKS_MAX), 0),
    )
    task = of.fields(
        index=of.required(of.natural(1 << 62)),
        command=of.required(of.items(of.text, least=1, most=1 << 16)),
    )
    dependency = of.fields(
        how=of.required(of.one_of("ok", "any", "fail")),
        job=of.required(of.text),
        tasks=of.fallback(of.natural(TASKS_MAX), 0),
    )
    notice = of.fields(number=of.required(of.whole(1, 64)), before=of.fallback(of.moment, never))
    # Words that are not UTF-8, by field. An absent one is not None: null is no word.
    word = of.required(of.text, required=False)
    raw = of.fields(
        command=of.required(of.items(of.text, least=1, most=1 << 16), required=False),
        chunk=of.required(of.items(of.items(of.text, least=1, most=1 << 16), most=CHUNK_MAX), required=False),
        **dict.fromkeys(_TEXT_FIELDS, word),
    )
    job = of.fields(
        command=of.required(of.items(of.text, least=1, most=1 << 16)),
        directory=of.fallback(of.text, ""),
        home_dir=of.fallback(of.text, ""),
        jobname=of.fallback(of.text, ""),
        output=of.fallback(of.text, ""),
        submitted=of.fallback(of.moment, never),
        cores=of.fallback(of.natural(1 << 20), 1),
        memory_required=of.fallback(of.natural(1 << 60), 0),
        memory_limit=of.optional(of.whole(1, 1 << 60)),
        max_output=of.fallback(of.natural(1 << 60), MAX_OUTPUT_DEFAULT),
        restartable=of.fallback(of.boolean, False),
        error=of.optional(of.text),
        environment=of.optional(of.digest),
        umask=of.optional(of.natural(0o777)),
        time_limit=of.optional(of.moment),
        priority=of.fallback(of.whole(-(1 << 31), 1 << 31), 0),
        gpus=of.fallback(of.natural(GPUS_MAX), 0),
        licenses=of.fallback(of.counts(LICENSES_MAX), {}),
        nodes=of.fallback(of.items(of.word, most=WORDS_MAX), []),
        exclude=of.fallback(of.items(of.word, most=WORDS_MAX), []),
        features=of.fallback(of.items(of.word, most=WORDS_MAX), []),
        scavenge=of.fallback(of.boolean, False),
        signal=of.optional(notice),
        set=of.fallback(of.text, ""),
        array=of.optional(array),
        chunk=of.fallback(of.items(task, most=CHUNK_MAX), []),
        after=of.fallback(of.items(dependency, most=AFTER_MAX), []),
        keep_held=of.fallback(of.boolean, False),
        begin=of.optional(of.moment),
        retries=of.fallback(of.natural(RETRIES_MAX), 0),
        retry_on=of.fallback(of.items(of.word, most=WORDS_MAX), []),
        backoff=of.optional(of.moment),
        raw=of.optional(raw),
    )
    return of.SchemaValidator(
        of.fields(
            job=of.required(job),
            started=of.fallback(of.moment, never),
            node=of.fallback(of.text, NO_NODE),
            pid=of.fallback(of.natural(1 << 30), 0),
            completed=of.fallback(of.moment, never),
            exit_code=of.optional(exit_code),
            signal=of.optional(of.natural(128)),
            reason=of.optional(of.text),
            detail=of.optional(of.text),
            attempt=of.fallback(of.whole(1, 1 << 30), 1),
            attempts=of.fallback(of.items(attempt, most=10_000), []),
            cores=of.fallback(of.natural(1 << 20), 0),
            process=of.optional(of.identity),
            usage=of.optional(of.mapping(of.number)),
            lease=of.optional(of.moment),
            cpus=of.fallback(of.items(of.natural(1 << 20), most=1 << 16), []),
            gpus=of.fallback(of.items(of.word, most=GPUS_MAX), []),
            threads=of.fallback(of.boolean, False),
            retired=of.fallback(of.boolean, False),
            results=of.fallback(
                of.items(of.items(of.whole(-(1 << 31), 1 << 62), least=2, most=2), most=CHUNK_MAX), []
            ),
            not_before=of.optional(of.moment),
            retried=of.fallback(of.natural(RETRIES_MAX), 0),
        )
    )


_JOB_FIELDS = frozenset(
    "command directory home_dir jobname output submitted cores memory_required memory_limit max_output"
    " restartable error environment umask time_limit priority gpus licenses nodes exclude features scavenge"
    " signal set array chunk after keep_held begin retries retry_on backoff raw".split()
)
_RECORD_FIELDS = frozenset(
    "job started node pid completed exit_code signal reason detail attempt attempts cores process"
    " usage lease cpus gpus threads retired results not_before retried".split()
)


def to_ns(moment: dict[str, int]) -> int:
    """Nanoseconds since the epoch of 0.2.9's {"secs", "nanos"}."""
    return moment["secs"] * NS + moment["nanos"]


def to_seconds(value: dict[str, int] | None) -> float | None:
    """The seconds of a duration."""
    return None if value is None else to_ns(value) / NS


def to_identity(value: dict[str, Any] | None) -> Identity | None:
    """The process identity of its JSON."""
    return None if value is None else Identity(value["boot"], value["pid"], value["start"])


def _bytes(encoded: str) -> str:
    return os.fsdecode(base64.b64decode(encoded, validate=True))


def _known(value: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: value[name] for name in names}


def _to_job(value: dict[str, Any]) -> Job:
    raw, notice = value["raw"] or {}, value["signal"]
    command = tuple(map(_bytes, raw["command"])) if "command" in raw else tuple(value["command"])
    texts = {name: _bytes(raw[name]) if name in raw else value[name] for name in _TEXT_FIELDS}
    chunk = raw.get("chunk") or [task["command"] for task in value["chunk"]]
    if len(chunk) != len(value["chunk"]):
        raise ValueError("raw.chunk is not of as many tasks as chunk")
    decode = _bytes if "chunk" in raw else str
    tasks = tuple(
        Task(task["index"], tuple(map(decode, words)))
        for task, words in zip(value["chunk"], chunk, strict=True)
    )
    of_tasks = (word for task in tasks for word in task.command)
    for word in (*command, *filter(None, texts.values()), *of_tasks):
        if "\0" in word:
            raise ValueError("a NUL byte in a word of the job")
    return Job(
        command=command,
        **texts,
        submitted_ns=to_ns(value["submitted"]),
        cores=value["cores"],
        memory_required=value["memory_required"],
        memory_limit=value["memory_limit"],
        max_output=value["max_output"],
        restartable=value["restartable"] or value["scavenge"],
        environment=value["environment"],
        umask=value["umask"],
        time_limit_s=to_seconds(value["time_limit"]),
        priority=value["priority"],
        gpus=value["gpus"],
        licenses=tuple(sorted((name, count) for name, count in value["licenses"].items() if count)),
        nodes=tuple(value["nodes"]),
        exclude=tuple(value["exclude"]),
        features=tuple(value["features"]),
        scavenge=value["scavenge"],
        notice=notice and Notice(notice["number"], to_ns(notice["before"]) / NS),
        set=value["set"],
        array=None if value["array"] is None else Array(**_known(value["array"], _ARRAY_FIELDS)),
        chunk=tasks,
        after=tuple(Dependency(one["how"], one["job"], one["tasks"]) for one in value["after"]),
        keep_held=value["keep_held"],
        begin_ns=0 if value["begin"] is None else to_ns(value["begin"]),
        retries=value["retries"],
        retry_on=tuple(value["retry_on"]),
        backoff_s=to_seconds(value["backoff"]) or 0.0,
        extra={name: kept for name, kept in value.items() if name not in _JOB_FIELDS},
    )


def _to_attempt(value: dict[str, Any]) -> Attempt:
    return Attempt(
        value["number"],
        value["node"],
        to_identity(value["process"]),
        to_ns(value["started"]),
        to_ns(value["completed"]),
        value["reason"],
        value["exit_code"],
        value["signal"],
        value["detail"],
    )


def prepare() -> None:
    """Loads what `parse` needs: 15 ms, which the first job of a daemon need not wait for."""
    _validator()


def parse(data: bytes) -> Record:
    """The record that these bytes of a job file hold.

    Raises `RecordError`, whose text says what is wrong, for anything else:
    empty, cut, too large, too deep, of the wrong types.
    """
    if not data.strip():
        raise RecordError("it is empty")
    if len(data) > RECORD_BYTES_MAX:
        raise RecordError(f"it is larger than {RECORD_BYTES_MAX} bytes")
    from roundq.words import schema

    try:
        return of_value(schema.loads(data))
    except RecursionError:
        raise RecordError("it is nested too deeply") from None
    except ValueError as error:
        raise RecordError(finding(error)) from None


def of_value(value: Any) -> Record:
    """The record of a JSON value, as `schema.loads` gives it. Raises RecordError as `parse`."""
    try:
        value = _validator().validate_python(value)
        return Record(
            job=_to_job(value["job"]),
            started_ns=to_ns(value["started"]),
            node=value["node"],
            pid=value["pid"],
            completed_ns=to_ns(value["completed"]),
            exit_code=value["exit_code"],
            signal=value["signal"],
            reason=value["reason"],
            detail=value["detail"],
            attempt=value["attempt"],
            attempts=tuple(map(_to_attempt, value["attempts"])),
            cores=value["cores"],
            process=to_identity(value["process"]),
            usage=value["usage"],
            lease_s=to_seconds(value["lease"]),
            cpus=tuple(value["cpus"]),
            gpus=tuple(value["gpus"]),
            threads=value["threads"],
            retired=value["retired"],
            results=tuple((index, code) for index, code in value["results"]),
            not_before_ns=0 if value["not_before"] is None else to_ns(value["not_before"]),
            retried=value["retried"],
            extra={name: kept for name, kept in value.items() if name not in _RECORD_FIELDS},
        )
    except RecursionError:
        raise RecordError("it is nested too deeply") from None
    except ValueError as error:
        raise RecordError(finding(error)) from None


def finding(error: ValueError) -> str:
    """What is wrong with a JSON text, in a few words.

    JSONDecodeError, UnicodeDecodeError, binascii.Error and pydantic's
    ValidationError are all ValueErrors; the latter lists its findings.
    """
    findings = getattr(error, "errors", None)
    if findings is None:
        return _line(f"it is not JSON as expected: {error}")
    first = findings(include_url=False, include_context=False)[0]
    where = ".".join(map(str, first["loc"])) or "the whole"
    return _line(f"{where}: {first['msg']}")


def _line(text: str) -> str:
    """A text of which a stranger may have written parts, as one line that any terminal can show."""
    from roundq.words.quantities import visible

    text = visible(text)
    return text if len(text) <= FINDING_MAX else f"{text[:FINDING_MAX]}…"
