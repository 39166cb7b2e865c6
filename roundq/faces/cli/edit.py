"""The verb `edit`: changes what jobs ask for that have not begun.

Its options are those of `rq run`, with the same values; `none` takes one back.
"""

from __future__ import annotations

import argparse
import copy
import re
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from roundq.actors import checks, submission
from roundq.actors.changing import Changer, Outcome
from roundq.actors.listing import Row
from roundq.faces.cli import say
from roundq.faces.cli.charset import typed
from roundq.faces.cli.holds import Work
from roundq.faces.cli.named import JOBS, add_dry_run, chosen, require, would
from roundq.faces.cli.parser import Parser, shown
from roundq.faces.cli.person import Person, any_person
from roundq.words import outputs
from roundq.words.begins import begin_text
from roundq.words.dependencies import after_text
from roundq.words.errors import JobRefused, UsageError
from roundq.words.job import Dependency, Job, Record
from roundq.words.quantities import check_name, format_duration, format_memory, visible
from roundq.words.ranges import array_of, is_number
from roundq.words.states import ENDED_STATES, PENDING_STATES

#: Options of `rq run`.
_BORROWED = (
    *("--job-name", "--cpus", "--exclusive", "--mem", "--mem-limit", "--gpus", "--license", "--node"),
    *("--exclude", "--need", "--time", "--max-output", "--restart", "--priority"),
)
#: Those of them that patience understands.
_PATIENCE = (
    "--begin",
    "--after",
    "--after-any",
    "--after-fail",
    "--keep-held",
    "--retries",
    "--retry-on",
    "--backoff",
)
#: What takes an option back.
NONE = "none"
#: An option that was not given.
_ABSENT = object()


def build_parser(_verb: str) -> Parser:
    """The parser of `edit`."""
    parser = Parser(
        "edit",
        f"OPTION... {JOBS}...",
        "Change what jobs ask for that have not begun. The options mean what they mean for rq run;"
        ' the value "none" takes one back.',
        "rq edit fit --cpus 4 --priority high",
    )
    parser.add_argument(
        "jobs",
        metavar=JOBS,
        nargs="*",
        type=typed,
        help="jobs that have not begun: ids, ranges, names, last, %%SET, an expression; see: man rq",
    )
    # --job-name is the new name here.
    for action in _borrowed():
        parser._add_action(action)
    add_dry_run(parser)
    return parser


def _borrowed() -> list[argparse.Action]:
    """The options of `rq run`, without their defaults."""
    from roundq.faces.cli import run_options

    known = run_options.build_parser("run")._option_string_actions
    found = []
    for name in (*_BORROWED, *_PATIENCE):
        action = copy.copy(known[name])
        action.default = argparse.SUPPRESS
        action.help = re.sub(r" \(default: [^)]*\)", "", action.help or "")
        if action.nargs != 0:
            action.type = _or_none(action.type)
        found.append(action)
    return found


def _or_none(parse: Any) -> Callable[[str], Any]:
    """What reads a value, and `none`."""

    def read(text: str) -> Any:
        return None if text == NONE else parse(text) if callable(parse) else text

    return read


def run(verb: str, options: argparse.Namespace) -> int:
    """Changes the jobs; the exit code."""
    options.job_name, new_name = [], getattr(options, "job_name", _ABSENT)
    require(options, verb)
    asker = any_person()
    edited, warnings = _edited(options, new_name, asker)
    found = chosen(asker, options.jobs, ended=False, read=False)
    rows = [row for row in found.rows if row.state in PENDING_STATES or row.id in found.each]
    if options.dry_run:
        return would("edit", [row for row in rows if row.state in PENDING_STATES], found.code)
    changer = Changer(asker.spool, asker.node, time.time_ns(), asker.config.settle_s)
    look = _Look(asker)
    before: dict[str, Job] = {}

    def act(row: Row) -> Outcome:
        def changed(record: Record) -> Job:
            before[row.id] = record.job
            return look.checked(record.job, edited(row.id, record))

        return changer.edit(row, changed)

    work = Work(asker, found, "edited", "edit")
    left = work.do(rows or found.rows, act, lambda some: changer.draft_edit(some, edited))
    changer.drop_drafts()
    # What asks for that already is as it should be.
    unchanged = [row for row in work.undone if row.id in before]
    work.undone = [row for row in work.undone if row.id not in before]
    work.sync()
    for line in work.lines(lambda one: _told(before[one.row.id], one), separator=": "):
        print(line)
    for line in work.told("unchanged", unchanged):
        print(line)
    for warning in (*warnings, *look.warnings):
        say(f"warning: {warning}")
    work.tell_late()
    work.start_daemon()
    if unchanged and not work.done and not work.undone and not left:
        return work.code
    return work.end(left, _not_edited)


def _not_edited(row: Row) -> tuple[str, str | None]:
    if row.state in ENDED_STATES:
        return "it has ended", f"rq rerun {row.id} runs it again as it was"
    return f"it has begun: it is {row.state} on {visible(row.node or 'a node')}", None


class _Look:
    """Whether edited jobs could ever run; those that ask for the same are looked at once."""

    def __init__(self, asker: Person) -> None:
        self._asker = asker
        self._seen: set[str] = set()
        #: Each once.
        self.warnings: dict[str, None] = {}

    def checked(self, old: Job, new: Job) -> Job:
        """The new job. Raises JobRefused if it could never run."""
        if new == old:
            return new
        checks.check_record(new)
        asks = Job(
            ("",),
            cores=new.cores,
            memory_required=new.memory_required,
            gpus=new.gpus,
            licenses=new.licenses,
            nodes=new.nodes,
            exclude=new.exclude,
            features=new.features,
            scavenge=new.scavenge,
            time_limit_s=new.time_limit_s,
        )
        # A job has fields that cannot be hashed.
        if repr(asks) not in self._seen:
            self._seen.add(repr(asks))
            asker = self._asker
            found = submission.warnings(asks, asker.spool, asker.config, asker.node)
            self.warnings.update(dict.fromkeys(found))
        return new


# ---------------------------------------------------------------- the fields


def _edited(
    options: argparse.Namespace, new_name: Any, asker: Person
) -> tuple[Callable[[str, Record], Job], list[str]]:
    """What makes the new job of an id and its record, and sentences of warning.

    Raises UsageError if nothing is to be changed, or for options that do not go together.
    """
    ours = ("jobs", "job_name", "dry_run")
    given = {name: value for name, value in vars(options).items() if name not in ours}
    if new_name is not _ABSENT:
        if new_name is not None:
            check_name(new_name)
        given["job_name"] = new_name
    if not given:
        raise UsageError("what is to be changed?", "give an option, such as --cpus 4; see: rq edit -h")
    if given.get("exclusive") and given.get("cpus"):
        raise UsageError(
            f"option --exclusive: it means all cores of a node, and --cpus says {given['cpus']}",
            "leave one of them out",
        )
    patient, warnings = _patience(given, asker)
    fields = _fields(given) | patient

    def edited(job_id: str, record: Record) -> Job:
        job, after = record.job, fields.get("after", ())
        _check_order(job_id, after)
        if after and record.retried:
            raise JobRefused(
                f"cannot edit {job_id}: it failed, and its retry waits for its time alone",
                f"rq hold {job_id} keeps it until it is released",
            )
        new = replace(job, **fields)
        if new.jobname != job.jobname:
            new = replace(new, output=_renamed(job_id, record, new.jobname))
        if given.get("mem_limit"):
            if not new.memory_required:
                raise UsageError("option --mem-limit: there is no memory to keep to", "give it with --mem")
            new = replace(new, memory_limit=new.memory_required)
        elif job.memory_limit is not None and "mem" in given:
            new = replace(new, memory_limit=new.memory_required or None)
        return new

    return edited, warnings


def _renamed(job_id: str, record: Record, name: str) -> str:
    """The output of a job that gets another name. Raises JobRefused if it must stay and cannot."""
    job = record.job
    if record.begun:
        # What the earlier attempts wrote is looked for where the next one writes.
        for output in (job.output, job.error or ""):
            if "x" in outputs.places(output):
                why = f"its output {shown(output)} is named after it, and earlier attempts wrote there"
                raise JobRefused(f"cannot edit {job_id}: {why}", "leave out --job-name")
    elif job.jobname and name:
        for end in (".out", ".%a.out"):
            if job.output == f"{outputs.escaped(job.jobname)}{end}":
                return f"{outputs.escaped(name)}{end}"
    return job.output


def _patience(given: dict[str, Any], asker: Person) -> tuple[dict[str, Any], list[str]]:
    """The fields that say what a job waits for, and how it is retried; and sentences of warning."""
    names = {option[2:].replace("-", "_") for option in _PATIENCE}
    if not names & set(given):
        return {}, []
    from roundq.faces.cli import patience, run_options

    options = run_options.build_parser("run").parse([])
    for name in names & set(given):
        value = given[name]
        if isinstance(value, list):
            value = [one for one in value if one is not None]
        setattr(options, name, value)
    options.job_name = given.get("job_name")
    asked = patience.asked(options, asker)
    fields: dict[str, Any] = {}
    if "begin" in given:
        fields["begin_ns"] = 0
    if given.keys() & patience.OPTIONS.keys():
        fields |= {"after": (), "keep_held": False}
    taken_back = {name for name in names & set(given) if given[name] is None}
    if "retries" in taken_back:
        fields |= {"retries": 0, "retry_on": (), "backoff_s": 0.0}
    if "retry_on" in taken_back:
        fields["retry_on"] = ()
    if "backoff" in taken_back:
        fields["backoff_s"] = 0.0
    return fields | asked.fields, asked.warnings


def _check_order(job_id: str, after: tuple[Dependency, ...]) -> None:
    """Raises JobRefused if a job were to come after one that may come after it.

    Each comes after what was submitted before it only, so that no two wait for each other.
    """
    mine = _order(job_id)
    for one in after:
        theirs = _order(one.job)
        if mine is None or theirs is None or theirs[1] != mine[1] or theirs[0] >= mine[0]:
            raise JobRefused(
                f"cannot edit {job_id}: it cannot come after {one.job}, which was not submitted before it",
                f"cancel it, and submit it again with --after {one.job}",
            )


def _order(job_id: str) -> tuple[int, str] | None:
    """The number of a job, and who counts so; None where ids are no numbers."""
    number, _, counter = (array_of(job_id) or job_id).partition(".")
    return (int(number), counter) if is_number(number) else None


def _fields(given: dict[str, Any]) -> dict[str, Any]:
    """The fields of a job that these options set."""
    from roundq.words.resources import all_licenses, all_words

    names = {
        "cpus": ("cores", 1),
        "mem": ("memory_required", 0),
        "gpus": ("gpus", 0),
        "time": ("time_limit_s", None),
        "max_output": ("max_output", 0),
        "restart": ("restartable", False),
        "priority": ("priority", 0),
        "job_name": ("jobname", ""),
    }
    fields = {
        field: nothing if given[option] is None else given[option]
        for option, (field, nothing) in names.items()
        if option in given
    }
    if given.get("exclusive"):
        fields["cores"] = 0
    for option, field in (("node", "nodes"), ("exclude", "exclude"), ("need", "features")):
        if option in given:
            fields[field] = all_words([words for words in given[option] if words is not None])
    if "license" in given:
        fields["licenses"] = all_licenses([one for one in given["license"] if one is not None])
    return fields


# ---------------------------------------------------------------- what is said


def _told(old: Job, one: Outcome) -> str:
    """What was changed of a job, from what to what."""
    assert one.record is not None
    new = one.record.job
    now_ns = time.time_ns()
    said = [
        f"{word} {was} -> {now}"
        for word, tell in _TELL.items()
        if (was := tell(old, now_ns)) != (now := tell(new, now_ns))
    ]
    return ", ".join(said)


def _words(words: tuple[str, ...]) -> str:
    return visible(",".join(words)) or "any"


def _memory(job: Job) -> str:
    size = format_memory(job.memory_required) if job.memory_required else "none"
    return f"{size} (a limit)" if job.memory_limit is not None else size


def _time(job: Job) -> str:
    return NONE if job.time_limit_s is None else format_duration(job.time_limit_s)


def _licenses(job: Job) -> str:
    return ",".join(f"{name}:{count}" for name, count in job.licenses) or NONE


def _start(job: Job, now_ns: int) -> str:
    return begin_text(job.begin_ns, now_ns) if job.begin_ns > now_ns else "at once"


#: What a person reads of a job before and after.
_TELL: dict[str, Callable[[Job, int], str]] = {
    "name": lambda job, _: shown(job.jobname) if job.jobname else NONE,
    "output": lambda job, _: visible(job.output) or "rq-ID.out",
    "cores": lambda job, _: str(job.cores or "all"),
    "memory": lambda job, _: _memory(job),
    "GPUs": lambda job, _: str(job.gpus),
    "licenses": lambda job, _: _licenses(job),
    "nodes": lambda job, _: _words(job.nodes),
    "not on": lambda job, _: visible(",".join(job.exclude)) or NONE,
    "features": lambda job, _: visible(",".join(job.features)) or NONE,
    "time limit": lambda job, _: _time(job),
    "output limit": lambda job, _: format_memory(job.max_output) if job.max_output else NONE,
    "may be restarted": lambda job, _: "yes" if job.restartable else "no",
    "priority": lambda job, _: str(job.priority),
    "begin": _start,
    "after": lambda job, _: visible(after_text(job.after)) or NONE,
    "retries": lambda job, _: str(job.retries),
    "retry on": lambda job, _: visible(",".join(job.retry_on)) or "any failure",
    "backoff": lambda job, _: format_duration(job.backoff_s) if job.backoff_s else NONE,
}
