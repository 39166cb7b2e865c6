"""The fields of a job as lists tell them: the names of JSON, CSV and columns, with their values. Pure.

`JOB` is what `rq --json` has of each job, `WHOLE` what `rq show --json` and `rq dump` have beside that.
rq-json(5) promises them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from roundq.actors.listing import Row
from roundq.actors.streams import error_path, output_path
from roundq.faces import queue_view
from roundq.faces.queue_view import Facts
from roundq.faces.tables import Column
from roundq.faces.values import moment, seconds, text_of
from roundq.records import spool as spools
from roundq.records.census import age_key
from roundq.words.errors import UsageError
from roundq.words.job import Attempt, Identity, Job, Record
from roundq.words.quantities import ALL_CORES, format_duration, format_memory
from roundq.words.ranges import array_of
from roundq.words.states import ENDED_STATES

#: The kinds of a field: how people read it. All others are texts.
NUMBER, BYTES, SECONDS, MOMENT, FLAG, LIST = "number", "bytes", "seconds", "moment", "flag", "list"
#: A column of text is cut to this on a narrow terminal, if it has to be.
LEAST = 8


@dataclass(frozen=True, slots=True)
class JobField:
    """One field: its name, its JSON value, its kind; `of_name` if the name of the file tells it."""

    name: str
    value: Callable[[Row, Facts], Any]
    kind: str = "text"
    of_name: bool = False


def _of_job(name: str, value: Callable[[Job], Any], kind: str = "text") -> JobField:
    return JobField(name, lambda row, _: None if row.record is None else value(row.record.job), kind)


def _of_record(name: str, value: Callable[[Record], Any], kind: str = "text") -> JobField:
    return JobField(name, lambda row, _: None if row.record is None else value(row.record), kind)


def _texts(words: Iterable[str]) -> list[str | None]:
    return [text_of(word) for word in words]


def _cores(record: Record) -> int | None:
    cores = queue_view.cores_of(record)
    return None if cores == ALL_CORES else cores


def _notice(job: Job) -> dict[str, Any] | None:
    if job.notice is None:
        return None
    return {"number": job.notice.number, "before": seconds(job.notice.before_s)}


def _array(job: Job) -> dict[str, Any] | None:
    of = job.array
    if of is None:
        return None
    return {
        "id": text_of(of.id),
        "index": of.index,
        "first": of.first,
        "last": of.last,
        "step": of.step,
        "count": of.count,
        "throttle": of.throttle or None,
        "max_fails": of.max_fails,
    }


def _after(job: Job) -> list[dict[str, Any]]:
    return [{"how": one.how, "job": text_of(one.job), "tasks": one.tasks or None} for one in job.after]


def _why(row: Row, facts: Facts) -> str | None:
    word = facts.words.get((row.spool.path, row.id))
    if word is not None:
        return text_of(f"{word.node}: {word.says}")
    return text_of(facts.held.get((row.spool.path, row.id)))


def _starts_within(row: Row, facts: Facts) -> float | None:
    word = facts.words.get((row.spool.path, row.id))
    return None if word is None else word.starts_in_s


def _index(row: Row, _: Facts) -> int | None:
    return int(row.id.rpartition("_")[2]) if array_of(row.id) else None


#: What `rq --json` has of each job, in its order.
JOB: Sequence[JobField] = (
    JobField("id", lambda row, _: text_of(row.id), of_name=True),
    JobField("user", lambda row, _: text_of(row.user), of_name=True),
    JobField(
        "home",
        lambda row, _: None if row.spool.is_commons else text_of(row.spool.path.rpartition("/")[0]),
        of_name=True,
    ),
    JobField("state", lambda row, _: row.state, of_name=True),
    JobField("is_mine", lambda row, _: row.is_mine, FLAG, of_name=True),
    JobField("node", lambda row, _: text_of(row.node)),
    _of_job("name", lambda job: text_of(job.name)),
    _of_job("command", lambda job: _texts(job.command), LIST),
    _of_job("directory", lambda job: text_of(job.directory)),
    _of_job("output", lambda job: text_of(job.output) or None),
    _of_job("error", lambda job: text_of(job.error)),
    _of_job("priority", lambda job: job.priority, NUMBER),
    _of_job("restartable", lambda job: job.restartable, FLAG),
    _of_record("attempt", lambda record: record.attempt, NUMBER),
    _of_record("cores", _cores, NUMBER),
    _of_job("memory", lambda job: job.memory_required, BYTES),
    _of_job("memory_limit", lambda job: job.memory_limit, BYTES),
    _of_job("time_limit", lambda job: job.time_limit_s, SECONDS),
    _of_job("gpus", lambda job: job.gpus, NUMBER),
    _of_job("licenses", lambda job: {text_of(name): count for name, count in job.licenses}, LIST),
    _of_job("nodes", lambda job: _texts(job.nodes), LIST),
    _of_job("exclude", lambda job: _texts(job.exclude), LIST),
    _of_job("features", lambda job: _texts(job.features), LIST),
    _of_job("scavenge", lambda job: job.scavenge, FLAG),
    _of_job("notice", _notice),
    _of_record("cpus", lambda record: list(record.cpus), LIST),
    _of_record("gpu_ids", lambda record: _texts(record.gpus), LIST),
    _of_record("threads", lambda record: record.threads, FLAG),
    _of_job("submitted", lambda job: moment(job.submitted_ns), MOMENT),
    _of_record("started", lambda record: moment(record.started_ns), MOMENT),
    JobField(
        "ended",
        lambda row, _: moment(row.record.completed_ns) if row.record and row.state in ENDED_STATES else None,
        MOMENT,
    ),
    JobField("run_time", lambda row, facts: seconds(queue_view.run_time_s(row, facts.now_ns)), SECONDS),
    JobField("wait_time", lambda row, facts: seconds(queue_view.wait_time_s(row, facts.now_ns)), SECONDS),
    _of_record("exit_code", lambda record: record.exit_code, NUMBER),
    _of_record("signal", lambda record: record.signal, NUMBER),
    _of_record("reason", lambda record: text_of(record.reason)),
    _of_record("detail", lambda record: text_of(record.detail)),
    _of_job("set", lambda job: text_of(job.set) or None),
    _of_job("array", _array),
    JobField("index", _index, NUMBER, of_name=True),
    JobField("on_hold", lambda row, _: row.entry.is_on_hold, FLAG, of_name=True),
    _of_job("begin", lambda job: moment(job.begin_ns), MOMENT),
    _of_job("after", _after, LIST),
    _of_job("retries", lambda job: job.retries, NUMBER),
    _of_record("retired", lambda record: record.retired, FLAG),
    JobField("problem", lambda row, _: text_of(row.problem)),
    JobField(
        "silent",
        lambda row, facts: None if row.node is None else seconds(facts.silent.get(row.node)),
        SECONDS,
    ),
    JobField("paused", lambda row, facts: (row.spool.path, row.id) in facts.paused, FLAG),
    JobField("why", _why),
    JobField("starts_within", _starts_within, SECONDS),
)


def _identity(process: Identity | None) -> dict[str, Any] | None:
    if process is None:
        return None
    return {"boot": text_of(process.boot), "pid": process.pid, "start": process.start}


def _attempt(of: Attempt) -> dict[str, Any]:
    return {
        "number": of.number,
        "node": text_of(of.node),
        "started": moment(of.started_ns),
        "ended": moment(of.completed_ns),
        "reason": text_of(of.reason),
        "exit_code": of.exit_code,
        "signal": of.signal,
        "detail": text_of(of.detail),
        "process": _identity(of.process),
    }


def _output_path(row: Row, _: Facts) -> str | None:
    return None if row.record is None else text_of(output_path(row.record, row.id))


def _error_path(row: Row, _: Facts) -> str | None:
    return None if row.record is None else text_of(error_path(row.record, row.id))


#: What `rq show --json` and `rq dump` have beside that.
MORE: Sequence[JobField] = (
    JobField("file", lambda row, _: text_of(row.past or spools.path_of(row.spool, row.entry))),
    JobField("output_path", _output_path),
    JobField("error_path", _error_path),
    _of_job("max_output", lambda job: job.max_output, BYTES),
    _of_job("umask", lambda job: job.umask, NUMBER),
    _of_job("environment", lambda job: text_of(job.environment)),
    _of_record("usage", lambda record: record.usage),
    JobField(
        "attempts", lambda row, _: [_attempt(one) for one in row.record.attempts] if row.record else [], LIST
    ),
    _of_job("keep_held", lambda job: job.keep_held, FLAG),
    _of_job("retry_on", lambda job: _texts(job.retry_on), LIST),
    _of_job("backoff", lambda job: seconds(job.backoff_s), SECONDS),
    _of_record("not_before", lambda record: moment(record.not_before_ns), MOMENT),
    _of_job(
        "chunk", lambda job: [{"index": one.index, "command": _texts(one.command)} for one in job.chunk], LIST
    ),
    _of_record(
        "results",
        lambda record: [{"index": index, "exit_code": code} for index, code in record.results],
        LIST,
    ),
    _of_record("process", lambda record: _identity(record.process)),
    _of_record("lease", lambda record: seconds(record.lease_s), SECONDS),
)
WHOLE: Sequence[JobField] = (*JOB, *MORE)
BY_NAME = {field.name: field for field in WHOLE}
#: What expressions call some of them.
ALIASES = {"code": "exit_code", "mem": "memory", "waited": "wait_time", "ran": "run_time"}


def object_of(row: Row, facts: Facts, fields: Iterable[JobField] = JOB) -> dict[str, Any]:
    """A job as a JSON object."""
    return {field.name: field.value(row, facts) for field in fields}


def chosen(text: str, option: str) -> list[JobField]:
    """The fields that "id,name,state" names, the value of an option. Raises UsageError, which lists all."""
    found = []
    for word in text.split(","):
        name = word.strip().lower()
        field = BY_NAME.get(ALIASES.get(name, name))
        if field is None:
            from roundq.words.quantities import visible

            what = f'there is no column "{visible(word)}"' if name else "a name is empty"
            raise UsageError(f"{option}: {what}", f"columns are {', '.join(BY_NAME)}")
        found.append(field)
    return found


# ---------------------------------------------------------------- as texts, and in order


def text(field: JobField, row: Row, facts: Facts) -> str:
    """The value as people read it in a column."""
    value = field.value(row, facts)
    if field.name == "cores" and row.record is not None:
        return queue_view.cores_text(queue_view.cores_of(row.record))
    if value is None or value in ([], {}):
        return "-"
    if field.kind == SECONDS:
        return format_duration(value)
    if field.kind == BYTES:
        return format_memory(value)
    if field.kind == MOMENT:
        return _local(value)
    if field.kind == FLAG:
        return "yes" if value else "no"
    if field.name == "command":
        return " ".join(value)
    return _plain(field, value) or "-"


def _local(utc: str) -> str:
    import datetime

    try:
        when = datetime.datetime.fromisoformat(utc).timestamp()
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when))
    except (OverflowError, ValueError, OSError):
        return utc


def column(field: JobField) -> Column:
    """How a table shows it."""
    is_right = field.kind in (NUMBER, BYTES, SECONDS)
    return Column(
        field.name.upper(), is_right=is_right, least=LEAST if field.kind in ("text", LIST) else None
    )


def cell(field: JobField, row: Row, facts: Facts) -> str:
    """The value as CSV has it: that of JSON, empty for null, of an array its id, of a list its items."""
    value = field.value(row, facts)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if field.name == "command":
        import shlex

        return shlex.join(value)
    return _plain(field, value)


def _plain(field: JobField, value: Any) -> str:
    if field.name == "array":
        return str(value["id"])
    if isinstance(value, list) and all(isinstance(item, (str, int)) for item in value):
        return ",".join(map(str, value))
    if field.name == "licenses":
        return ",".join(f"{name}:{count}" for name, count in value.items())
    return json.dumps(value) if isinstance(value, (dict, list)) else str(value)


def order(field: JobField, row: Row, facts: Facts) -> tuple[bool, Any]:
    """What a list is sorted by: by this value, what has none last."""
    if field.name == "id":
        return False, age_key(row.id)
    if field.name == "cores" and row.record is not None:
        # A whole node is more than any number.
        cores = queue_view.cores_of(row.record)
        return False, cores if cores != ALL_CORES else 1 << 30
    value = field.value(row, facts)
    if value is None:
        return True, 0
    if field.kind in (NUMBER, BYTES, SECONDS, FLAG):
        return False, value
    return False, str(value) if field.kind == MOMENT else _plain(field, value)
