"""What a job is asked to wait for: `rq run --hold`, `--begin`, `--after` and its kin, and how it is retried.

Words that say which jobs mean those that there are now: a job that is submitted later is not waited for, and
so no two jobs can wait for each other. What is met already is not written down.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from roundq.actors import checks, targets
from roundq.actors.listing import Row
from roundq.faces.cli import named
from roundq.faces.cli.parser import shown
from roundq.faces.cli.person import Person
from roundq.records.batch import EACH, EACH_CHUNK
from roundq.words import dependencies
from roundq.words.dependencies import Conditions, Standing, Target, standing
from roundq.words.errors import JobRefused, UsageError
from roundq.words.job import AFTER_MAX, Dependency, Job, Task
from roundq.words.ranges import array_of, brief
from roundq.words.states import ENDED_STATES

#: The options that say after which jobs it comes, and how those must end.
OPTIONS = {"after": "ok", "after_any": "any", "after_fail": "fail"}
#: Slurm's words for the same.
SLURM = {"afterok": "after", "afterany": "after_any", "afternotok": "after_fail", "aftercorr": "after_each"}


class Patience(NamedTuple):
    """What the options ask for: fields of the job, whether it is on hold, and what is to be said.

    `waits` says what it waits for, empty if for nothing; `warnings` are sentences.
    """

    fields: dict[str, Any]
    on_hold: bool
    waits: str
    warnings: list[str]


def asked(options: argparse.Namespace, asker: Person, parts: Sequence[Sequence[Task]] = ()) -> Patience:
    """What the options ask for; `parts` are the jobs of an array.

    Raises UsageError, NoSuchJob or JobRefused.
    """
    now_ns = time.time_ns()
    if options.unique and not options.job_name:
        # The command is the name, if all have the one that was typed.
        typed = tuple(options.command)
        if any(tuple(task.command) != typed for part in parts for task in part):
            raise UsageError(
                "option --unique: the array has no name, and its tasks have commands of their own",
                "give it one with --job-name",
            )
    words = _words(options)
    fields: dict[str, Any] = _retries(options)
    warnings = []
    begin_ns = 0
    if options.begin is not None:
        from roundq.words.begins import parse_begin

        begin_ns = parse_begin(options.begin, now_ns)
        if begin_ns <= now_ns:
            if options.begin.strip().lower() != "now":
                warnings.append(f"--begin {shown(options.begin)} is past: it may begin at once")
            begin_ns = 0
    known: dict[Dependency, Target] = {}
    for option, texts in words.items():
        if option != "after_each":
            known |= _dependencies(option, texts, asker, keep_held=options.keep_held)
    each = [one for text in words["after_each"] for one in _paired(text, asker, parts)]
    after = (*known, *each)
    if options.keep_held and not any(words.values()):
        raise UsageError("option --keep-held: it comes after no job", "give it with --after or its kin")
    if len(after) > AFTER_MAX:
        raise JobRefused(
            f"it would wait for {len(after):,} jobs, and at most {AFTER_MAX:,} can be waited for",
            "submit those as an array, whose id stands for all of its tasks",
        )
    if begin_ns:
        fields["begin_ns"] = begin_ns
    if after:
        fields |= {"after": after, "keep_held": options.keep_held}
    when = Conditions(tuple(known), begin_ns, 0, options.keep_held)
    found = dependencies.decide("", when, known.__getitem__, now_ns)
    waits = "" if isinstance(found, dependencies.Released) else found.says
    if isinstance(found, dependencies.Unmet):
        waits = found.detail
    if each:
        of_each = f"each waits for its task of {', '.join(one.job[:-2] for one in each)}"
        waits = f"{of_each}; {waits}" if waits else of_each
    return Patience(fields, options.hold, "on hold" if options.hold else waits, warnings)


def _retries(options: argparse.Namespace) -> dict[str, Any]:
    if options.retries is None:
        for option in ("retry_on", "backoff"):
            if getattr(options, option) is not None:
                name = option.replace("_", "-")
                raise UsageError(
                    f"option --{name}: there are no retries", "give it with --retries, such as 3"
                )
        return {}
    fields: dict[str, Any] = {"retries": options.retries}
    if options.retry_on is not None:
        fields["retry_on"] = options.retry_on
    if options.backoff is not None:
        fields["backoff_s"] = options.backoff
    return fields


# ---------------------------------------------------------------- which jobs


def _words(options: argparse.Namespace) -> dict[str, list[str]]:
    """The words of each option, those of Slurm's --dependency among them."""
    words = {option: list(getattr(options, option)) for option in (*OPTIONS, "after_each")}
    words["singleton"] = []
    for text in options.dependency:
        for part in text.split(","):
            _add_slurm(words, part.strip(), options)
    return words


def _add_slurm(words: dict[str, list[str]], part: str, options: argparse.Namespace) -> None:
    how, *ids = part.split(":")
    if "?" in part:
        raise UsageError(
            f"option --dependency {shown(part)}: it waits for all that it names, not for any of them",
            "put commas between, or leave the others out",
        )
    if how == "singleton" and not ids:
        if not options.job_name:
            raise UsageError(
                "option --dependency singleton: the job has no name", "give it one with --job-name"
            )
        words["singleton"].append(options.job_name)
        return
    if how not in SLURM or not ids or not all(ids):
        raise UsageError(
            f"option --dependency {shown(part)}: it is not understood",
            f"write {', '.join(f'{word}:ID' for word in SLURM)} or singleton, with commas between",
        )
    words[SLURM[how]] += ids


def _rows(option: str, texts: Sequence[str], asker: Person) -> list[Row]:
    if option == "singleton":
        # That nobody bears the name yet is what is wished for.
        return [row for row in _live(texts, asker) if row.state not in ENDED_STATES]
    return named.looked_at(asker, texts, read=False).rows


def _live(names: Iterable[str], asker: Person) -> list[Row]:
    from roundq.actors import selection

    found = selection.select(
        asker.spool, (), names=names, now_ns=time.time_ns(), ended=False, read=False, pause=lambda _: None
    )
    return [row for row in found.rows if row.state not in ENDED_STATES]


def _dependencies(
    option: str, texts: Sequence[str], asker: Person, *, keep_held: bool
) -> dict[Dependency, Target]:
    """What one option asks to wait for, as it is now, without what is met already."""
    if not texts:
        return {}
    how = OPTIONS.get(option, "any")
    found: dict[Dependency, Target] = {}
    of_array: dict[str, list[Row]] = {}
    for row in _rows(option, texts, asker):
        if array := array_of(row.id):
            of_array.setdefault(array, []).append(row)
        else:
            found[Dependency(how, row.id)] = Target({row.state: 1})
    if of_array:
        whole = {array: Dependency(how, array, len(rows)) for array, rows in of_array.items()}
        there = targets.now(asker.spool, whole.values())
        for array, rows in of_array.items():
            target = there[whole[array]]
            # What was folded has no name there: then equal numbers need not be the same tasks.
            if sum(target.counts.values()) == len(rows) and not any(row.past for row in rows):
                found[whole[array]] = target
            else:
                # Some tasks of it only.
                found |= {Dependency(how, row.id): Target({row.state: 1}) for row in rows}
    left = {}
    for one, target in found.items():
        how_far = standing(one, target)
        if how_far is Standing.NEVER and not keep_held:
            raise JobRefused(
                f"option --{option.replace('_', '-')}: it could never start: {_because(one, target)}",
                "--after-any waits for an end of any kind"
                if how == "ok"
                else f"rq show {one.job} says how that ended",
            )
        if how_far is not Standing.MET:
            left[one] = target
    return left


def _because(one: Dependency, target: Target) -> str:
    return dependencies.unmet_text(one, target)


def _paired(text: str, asker: Person, parts: Sequence[Sequence[Task]]) -> list[Dependency]:
    """Task i after task i of the array that `text` names. Raises UsageError if their indices differ."""
    what = f"option --after-each {shown(text)}"
    if not parts:
        raise UsageError(f"{what}: there is no array", "give it with --array, --each or --param")
    rows = named.looked_at(asker, [text], read=False).rows
    arrays = {array_of(row.id) for row in rows}
    if len(arrays) != 1 or "" in arrays:
        raise UsageError(f"{what}: that is not one array", "name it by its id")
    (array,) = arrays
    theirs = {int(row.id.rpartition("_")[2]) for row in rows}
    mine = {task.index for part in parts for task in part}
    if mine == theirs:
        return [Dependency("ok", f"{array}{EACH}")]
    if {part[0].index for part in parts} == theirs and _indices(rows) == [
        tuple(task.index for task in part) for part in parts
    ]:
        return [Dependency("ok", f"{array}{EACH_CHUNK}")]
    raise UsageError(
        f"{what}: {_difference(mine, theirs, array)}",
        "each task waits for the one of its own index, so both arrays need the same indices",
    )


def _indices(rows: Iterable[Row]) -> list[tuple[int, ...]]:
    """The indices of the tasks of each job of an array, as their records say."""
    found = []
    for row in rows:
        record = named.read(row).record
        tasks = record.job.chunk if record is not None else ()
        found.append(tuple(task.index for task in tasks) or (int(row.id.rpartition("_")[2]),))
    return sorted(found)


def _difference(mine: set[int], theirs: set[int], array: str) -> str:
    for some, of in ((theirs - mine, "only there"), (mine - theirs, "only here")):
        if some:
            told = brief(f"{array}_{index}" for index in sorted(some)).removeprefix(f"{array}_").strip("[]")
            return (
                f"{'index' if len(some) == 1 else 'indices'} {told} {'is' if len(some) == 1 else 'are'} {of}"
            )
    return "the tasks are not cut alike into chunks"


# ---------------------------------------------------------------- once it is described


def check(jobs: Iterable[Job], options: argparse.Namespace, asker: Person) -> None:
    """Raises JobRefused if a record has no room for what a job waits for, or with --unique if a job of its
    name has not ended."""
    for job in jobs:
        if job.after:
            checks.check_record(job)
    if options.unique:
        _check_unique(jobs, asker)


def _check_unique(jobs: Iterable[Job], asker: Person) -> None:
    names = list(dict.fromkeys(job.name for job in jobs))
    for row in _live(names, asker):
        raise JobRefused(
            f"option --unique: job {named.title(named.read(row))} is {row.state}",
            f"rq cancel {row.id} ends it; rq wait {row.id} waits for it",
        )
