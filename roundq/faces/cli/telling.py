"""The verbs that tell of jobs of mine: `show`, `why`. They change nothing."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable
from typing import Any

from roundq.actors import outcome, queue
from roundq.actors.listing import Row
from roundq.actors.reasons import attempts, nearest
from roundq.actors.streams import error_path, output_path
from roundq.faces.cli.named import JOBS, add_jobs, looked_at, require, title
from roundq.faces.cli.parser import Parser
from roundq.faces.cli.person import Person, any_person
from roundq.faces.queue_view import signal_name
from roundq.records import neighbours
from roundq.records import spool as spools
from roundq.records.neighbours import Seen
from roundq.words.job import NS, Array, Attempt, Job, Notice, Record
from roundq.words.quantities import ALL_CORES, format_age, format_duration, format_memory, visible
from roundq.words.room import cores_text, gpus_text, licenses_text
from roundq.words.states import ENDED_STATES, OWNED_STATES, PENDING_STATES, WAITING


def build_parser(verb: str) -> Parser:
    """The parser of `show` or `why`."""
    return {"show": _show_parser, "why": _why_parser}[verb]()


def _show_parser() -> Parser:
    sentence = "Tell everything that is known of jobs."
    parser = Parser("show", f"[--json] {JOBS}...", sentence, "rq show 17")
    add_jobs(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON value, for programs")
    return parser


def _why_parser() -> Parser:
    sentence = "Say why jobs wait, in the words of your daemons, or what became of them."
    parser = Parser("why", f"{JOBS}...", sentence, "rq why fit")
    add_jobs(parser)
    return parser


def run(verb: str, options: argparse.Namespace) -> int:
    """Does what the verb says; its exit code."""
    return {"show": show, "why": why}[verb](options, any_person())


# ---------------------------------------------------------------- show


def show(options: argparse.Namespace, asker: Person) -> int:
    """`rq show`: prints every fact of each job."""
    require(options, "show")
    found = looked_at(asker, options.jobs, options.job_name, is_current=False)
    rows = found.rows
    if options.json:
        print(json.dumps(_as_json(rows, asker), indent=2 if sys.stdout.isatty() else None, allow_nan=False))
        return 0
    for number, row in enumerate(rows):
        if number:
            print()
        print(f"job {visible(title(row))}")
        for name, value in _facts(row, asker):
            print(f"  {name:<10} {visible(value)}")
    return 0


def _facts(row: Row, asker: Person) -> list[tuple[str, str]]:
    record = row.record
    where = row.past or spools.path_of(row.spool, row.entry)
    if record is None:
        return [
            ("state", row.state),
            ("problem", f"its job file cannot be read: {row.problem}"),
            ("file", where),
        ]
    job = record.job
    facts = [
        ("state", row.state),
        *[("why", sentence) for sentence in _why(row, asker)],
        ("node", row.node or ""),
        ("command", _command_line(job)),
        ("directory", job.directory),
        ("output", _output_path(row, is_error=False)),
        ("error", "" if job.error is None else _output_path(row, is_error=True)),
        ("set", job.set),
        ("array", "" if job.array is None else _task(job.array)),
        ("tasks", _tasks(row.state, record)),
        ("asks for", _asks(job)),
        ("priority", str(job.priority) if job.priority else ""),
        ("begin", _moment(max(job.begin_ns, record.not_before_ns))),
        ("after", _after(job)),
        ("restart", _restart(job)),
        ("retries", _retries(record)),
        ("notice", "" if job.notice is None else _notice(job.notice)),
        ("cores", _cores(record)),
        ("gpus", ", ".join(record.gpus)),
        ("attempt", str(record.attempt) if record.attempt > 1 else ""),
        ("submitted", _moment(job.submitted_ns)),
        ("started", _moment(record.started_ns)),
        ("ended", _moment(record.completed_ns)),
        ("ran", _ran(row, record)),
        ("used", _used(record)),
        ("exit code", "" if record.exit_code is None else str(record.exit_code)),
        ("signal", "" if record.signal is None else str(record.signal)),
        ("reason", record.reason or ""),
        ("process", _process(row, record)),
        ("umask", "" if job.umask is None else f"{job.umask:04o}"),
        ("file", where),
    ]
    facts += [("before", _earlier(attempt)) for attempt in record.attempts]
    return [(name, value) for name, value in facts if value]


def _tasks(state: str, record: Record) -> str:
    if not record.job.chunk:
        return ""
    from roundq.words.arrays import chunk_text
    from roundq.words.ranges import brief_indices

    indices = [task.index for task in record.job.chunk]
    if not record.results and state not in ENDED_STATES:
        return f"{brief_indices(indices)}, one after the other"
    return chunk_text(indices, record.results)


def _task(array: Array) -> str:
    few = f", at most {array.throttle:,} at once" if array.throttle else ""
    return f"task {array.index} of {array.count:,} of array {array.id}{few}"


def _command_line(job: Job) -> str:
    import shlex

    return shlex.join(job.command)


def _asks(job: Job) -> str:
    parts = ["a whole node" if job.cores == ALL_CORES else cores_text(job.cores)]
    if job.gpus:
        parts.append(gpus_text(job.gpus))
    parts += [licenses_text(name, count) for name, count in job.licenses]
    if job.memory_required:
        is_limit = job.memory_limit == job.memory_required
        parts.append(f"{format_memory(job.memory_required)} of memory{' and no more' if is_limit else ''}")
    if job.memory_limit not in (None, job.memory_required):
        parts.append(f"at most {format_memory(job.memory_limit)} of memory")
    if job.features:
        parts.append(f"a node with {' and '.join(job.features)}")
    if job.nodes:
        parts.append(f"a node called {' or '.join(job.nodes)}")
    if job.exclude:
        parts.append(f"none called {' or '.join(job.exclude)}")
    if job.time_limit_s is not None:
        parts.append(f"at most {format_duration(job.time_limit_s)} of time")
    parts.append(
        f"at most {format_memory(job.max_output)} of output" if job.max_output else "output without limit"
    )
    return ", ".join(parts)


def _restart(job: Job) -> str:
    if job.scavenge:
        return "it runs on what nobody else wants; it may be stopped and run again"
    return "it may be stopped and run again" if job.restartable else ""


def _after(job: Job) -> str:
    if not job.after:
        return ""
    from roundq.words.dependencies import after_text

    kept = "; kept held if that can never be" if job.keep_held else ""
    return f"{after_text(job.after)}{kept}"


def _retries(record: Record) -> str:
    job = record.job
    if not job.retries:
        return ""
    ends = f" after {' or '.join(job.retry_on)}" if job.retry_on else ""
    wait = f", {format_age(job.backoff_s)} later, then twice as long each time" if job.backoff_s else ""
    return f"{record.retried} of at most {job.retries}{ends}{wait}"


def _notice(notice: Notice) -> str:
    return f"{signal_name(notice.number)}, {format_age(notice.before_s)} before it is stopped"


def _cores(record: Record) -> str:
    """What it was granted: "4, CPUs 0-3"."""
    if not record.cores:
        return ""
    pinned = f", CPUs {_ranges(record.cpus)}" if record.cpus else ""
    return f"{record.cores}{' hardware threads that others left over' if record.threads else ''}{pinned}"


def _ranges(numbers: Iterable[int]) -> str:
    """CPUs as taskset(1) writes them: "0-3,8"."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _moment(ns: int) -> str:
    if not ns:
        return ""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(ns // NS))
    except (OverflowError, ValueError, OSError):
        return "at an impossible time"


def _ran(row: Row, record: Record) -> str:
    if not record.started_ns or row.state in PENDING_STATES:
        return ""
    until_ns = record.completed_ns if row.state in ENDED_STATES else time.time_ns()
    return format_duration((until_ns - record.started_ns) / NS) if until_ns else ""


def _used(record: Record) -> str:
    usage = record.usage or {}
    parts = []
    if "cpu_s" in usage:
        parts.append(f"{usage['cpu_s']:.1f} s of processor time")
    if "memory_bytes" in usage:
        parts.append(f"{format_memory(int(usage['memory_bytes']))} of memory")
    return ", ".join(parts)


def _process(row: Row, record: Record) -> str:
    return f"{record.process.pid} on {row.node}" if record.process and row.state in OWNED_STATES else ""


def _earlier(attempt: Attempt) -> str:
    when = f", {_moment(attempt.completed_ns)}" if attempt.completed_ns else ""
    if attempt.reason is None:
        return f"{attempt.title}{when}: {outcome.of_attempt(attempt)}"
    # By its name, as `--retry-on` and `rq list -o reason` have it.
    return f"{attempt.title}{when}: {attempt.reason}{f': {attempt.detail}' if attempt.detail else ''}"


def _as_json(rows: list[Row], asker: Person) -> dict[str, Any]:
    """As `rq --json` has them, and more facts of each."""
    from roundq.faces import as_json, job_fields
    from roundq.faces.queue_view import Facts

    now_ns = time.time_ns()
    seen: list[Seen] = []
    if any(row.state not in ENDED_STATES for row in rows):
        of = queue.everybody(asker.spool, asker.config.homes, asker.config.commons)
        seen = neighbours.seen_now(of, asker.spool, asker.node, time.monotonic())
    waiting = [row for row in rows if row.state == WAITING]
    facts = Facts(now_ns, neighbours.silence(seen, asker.node), words=nearest(waiting, seen))
    values = [job_fields.object_of(row, facts, job_fields.WHOLE) for row in rows]
    return as_json.as_json(now_ns, jobs=values)


# ---------------------------------------------------------------- why


def why(options: argparse.Namespace, asker: Person) -> int:
    """`rq why`: prints one sentence, or one per node, for each job."""
    require(options, "explain")
    found = looked_at(asker, options.jobs, options.job_name)
    for row in found.rows:
        sentences = [*_why(row, asker), *attempts(row, time.time_ns())]
        print(
            f"{visible(title(row))}: {visible(sentences[0])}"
            if len(sentences) == 1
            else f"{visible(title(row))}:"
        )
        for sentence in sentences if len(sentences) > 1 else ():
            print(f"  {visible(sentence)}")
    return 0


def _why(row: Row, asker: Person) -> list[str]:
    # Which nodes there are, and whether they are heard of, the daemons of others tell as well.
    of = (
        ()
        if row.state in ENDED_STATES
        else queue.everybody(asker.spool, asker.config.homes, asker.config.commons)
    )
    return queue.why(asker.spool, row, asker.node, time.time_ns(), of)


def _output_path(row: Row, *, is_error: bool) -> str:
    assert row.record is not None
    job = row.record.job
    return error_path(job, row.id) if is_error else output_path(job, row.id)
