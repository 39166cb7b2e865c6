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
from typing import TYPE_CHECKING, Any, NamedTuple

from roundq.words.errors import RecordError

if TYPE_CHECKING:
    from pydantic_core import SchemaValidator

NS = 1_000_000_000
#: No honest record comes near this; anything larger is not read at all.
RECORD_BYTES_MAX = 1 << 20
#: What 0.2.9 allows a job to write when it does not say: 1 MB.
MAX_OUTPUT_DEFAULT = 1 << 20
NO_NODE = "NONE"
#: Earlier attempts that a record tells of, the last ones: a job that often gives way must not outgrow it.
ATTEMPTS_MAX = 100
#: Characters of what is said of each of them; and bytes that are kept free in a record for all that becomes
#: of its job.
ATTEMPT_DETAIL_MAX = 200
FACTS_BYTES_MAX = 192 << 10
#: More than any node has, and than anybody writes down.
GPUS_MAX, LICENSES_MAX, WORDS_MAX = 1024, 64, 256
#: Characters of what is said about a file that is no record.
FINDING_MAX = 200


@dataclass(frozen=True, slots=True)
class Identity:
    """A process that no later process can be taken for.

    `start` is the kernel's start time in clock ticks since boot (/proc/PID/stat
    field 22), `boot` the boot id of the node: pids come again, these three do not.
    """

    boot: str
    pid: int
    start: int


class Notice(NamedTuple):
    """A signal that tells a job of its coming end: its number, and how many seconds before."""

    number: int
    before_s: float


@dataclass(frozen=True, slots=True)
class Job:
    """What the user asked for. Never changes once it is submitted.

    `cores` 0 means all of a node. Memory and output are in bytes; `max_output` 0
    and `memory_limit` None set no limit; times are in nanoseconds since the epoch, `time_limit_s` in
    seconds. `output` and `error` are relative to `directory`; no `error` means
    that both streams go to `output`. `environment` is the digest of a file in env/.

    `licenses` are names with counts, sorted; `nodes` and `exclude` patterns of node names, fnmatch(3),
    any of which may match; `features` must all be there. A `scavenge` job runs on what nobody else
    wants, and is restartable. `notice` is sent before it is ended.
    """

    command: tuple[str, ...]
    directory: str = ""
    home_dir: str = ""
    jobname: str = ""
    output: str = ""
    submitted_ns: int = 0
    cores: int = 1
    memory_required: int = 0
    memory_limit: int | None = None
    max_output: int = MAX_OUTPUT_DEFAULT
    restartable: bool = False
    error: str | None = None
    environment: str | None = None
    umask: int | None = None
    time_limit_s: float | None = None
    priority: int = 0
    gpus: int = 0
    licenses: tuple[tuple[str, int], ...] = ()
    nodes: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    scavenge: bool = False
    notice: Notice | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name a person gave it, or else its command line."""
        return self.jobname or " ".join(self.command)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One ended run of a job: where, by which process, when, what became of it, and a sentence on that."""

    number: int
    node: str
    process: Identity | None
    started_ns: int
    completed_ns: int
    reason: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """A job and what became of it so far.

    `attempt` counts from 1; `cores` is what was granted (`all` resolved to a
    number), 0 until it begins. `process` is the supervisor of this attempt.
    `attempts` are the earlier ones. `detail` is one sentence for people. `lease_s` is for
    how long the supervisor may run it without having said so, None for ever. `cpus` are the logical
    CPUs that it is pinned to, none if it is not; `gpus` the ids of its GPUs; `threads`: its cores are
    hardware threads that other jobs' cores left over.
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
    lease_s: float | None = None
    cpus: tuple[int, ...] = ()
    gpus: tuple[str, ...] = ()
    threads: bool = False
    extra: dict[str, Any] = field(default_factory=dict)

    def at_home(self, home: str) -> Record:
        """This record with what a program that dropped it may leave out: it runs in the owner's home."""
        job = self.job
        if os.path.isabs(job.directory) and job.home_dir:
            return self
        home = os.path.join(home, job.home_dir) if job.home_dir else home
        directory = os.path.join(home, job.directory) if job.directory else home
        return replace(self, job=replace(job, home_dir=home, directory=directory))

    def unbegun(self) -> Record:
        """This record as that of a job that waits: what an earlier attempt left in it is history, or nothing.

        An ended job that a user moved back has its end in it; one that was withdrawn at its birth a process.
        """
        if self.completed_ns:
            return self.next_attempt(self.completed_ns, self.reason)
        return replace(Record(self.job, extra=self.extra), attempt=self.attempt, attempts=self.attempts)

    def next_attempt(self, completed_ns: int, reason: str | None) -> Record:
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
            None if self.detail is None else self.detail[:ATTEMPT_DETAIL_MAX],
        )
        return replace(
            Record(self.job, extra=self.extra),
            attempt=self.attempt + 1,
            attempts=(*self.attempts, ended)[-ATTEMPTS_MAX:],
        )


# ---------------------------------------------------------------- writing

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
    notice = of.fields(number=of.required(of.whole(1, 64)), before=of.fallback(of.moment, never))
    # Words that are not UTF-8, by field. An absent one is not None: null is no word.
    word = of.required(of.text, required=False)
    raw = of.fields(
        command=of.required(of.items(of.text, least=1, most=1 << 16), required=False),
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
        )
    )


_JOB_FIELDS = frozenset(
    "command directory home_dir jobname output submitted cores memory_required memory_limit max_output"
    " restartable error environment umask time_limit priority gpus licenses nodes exclude features scavenge"
    " signal raw".split()
)
_RECORD_FIELDS = frozenset(
    "job started node pid completed exit_code signal reason detail attempt attempts cores process"
    " usage lease cpus gpus threads".split()
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


def _to_job(value: dict[str, Any]) -> Job:
    raw, notice = value["raw"] or {}, value["signal"]
    command = tuple(map(_bytes, raw["command"])) if "command" in raw else tuple(value["command"])
    texts = {name: _bytes(raw[name]) if name in raw else value[name] for name in _TEXT_FIELDS}
    for word in (*command, *filter(None, texts.values())):
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
        value = _validator().validate_python(schema.loads(data))
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
