"""The verb `run`: puts a command into the queue, and with --wait follows it to its end.

Every script calls it, some a thousand times, so it imports what this submission needs
and nothing else; tests/bench measures it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from roundq.actors import submission
from roundq.faces.cli import say
from roundq.faces.cli.parser import shown
from roundq.faces.cli.person import Person, person
from roundq.faces.cli.run_options import build_parser
from roundq.faces.cli.stopping import (
    as_stopped,
    hold,
    interrupted,
    interruptible,
    load_reader,
    look_for_signals,
    noted,
)
from roundq.words.errors import JobRefused, RoundqError, SubmissionInterrupted, UsageError
from roundq.words.job import Job, Task
from roundq.words.states import COMPLETED

__all__ = ["build_parser", "run"]

_CHARS_SHOWN = 200
#: Options whose module few submissions need, and --begin.
PATIENCE = (
    *("hold", "after", "after_any", "after_fail", "after_each", "dependency", "keep_held"),
    *("retries", "retry_on", "backoff", "unique"),
)
#: Of fewer jobs the submission takes no time to speak of.
MANY = 100


# ---------------------------------------------------------------- the job


def run(_verb: str, options: argparse.Namespace) -> int:
    """Submits; prints the ids; with --wait returns the exit code that tells of the jobs."""
    return put(_described, options)


def put(
    described: Callable[[argparse.Namespace, Person], Order],
    options: argparse.Namespace,
    on_accepted: Callable[[], None] = lambda: None,
) -> int:
    """Submits what is described, as `run`, of which `options` has all options.

    `on_accepted` is called when all of it is in the queue: what is raised after that takes nothing back.
    """
    try:
        with as_stopped():
            asker = person()
            order = patient(described(options, asker), options, asker)
            if options.mail:
                from roundq.faces.cli import news

                order = order._replace(warnings=[*order.warnings, *news.check(options, asker)])
            submission.admit(asker.spool, asker.config, order.size)
            # From here on something is done that has to be told.
            hold()
    except KeyboardInterrupt as stop:
        say("interrupted; nothing was submitted")
        return interrupted(stop)
    try:
        with _submitting(order.size) as on_step:
            ids = _submit(order, asker, on_step)
            on_accepted()
    except SubmissionInterrupted as stop:
        return _taken_back(stop.__cause__, stop.ids, order.size)
    except KeyboardInterrupt as stop:
        # It had not come to the jobs.
        return _taken_back(stop, (), order.size)
    return _accepted(asker, order, ids, options)


class Order(NamedTuple):
    """What is to be submitted: jobs; or an array, what its tasks have in common, and those of each job.

    `waits` says what holds them, empty if nothing does.
    """

    jobs: Sequence[Job]
    warnings: Sequence[str]
    parts: Sequence[Sequence[Task]] = ()
    told: str = ""
    on_hold: bool = False
    waits: str = ""

    @property
    def size(self) -> int:
        """How many jobs will be in the queue."""
        return len(self.parts) or len(self.jobs)


def _submit(order: Order, asker: Person, on_step: Callable[[float], None]) -> list[str]:
    """Submits, and returns the ids that are told: of an array one."""
    spool, node, on_hold = asker.spool, asker.node, order.on_hold
    if order.parts:
        (job,) = order.jobs
        return [submission.submit_array(spool, job, order.parts, os.environ, node, on_step, on_hold=on_hold)]
    return submission.submit(spool, order.jobs, os.environ, node, on_step, on_hold=on_hold)


def _described(options: argparse.Namespace, asker: Person) -> Order:
    """What is asked for, each job of which could run."""

    def of(words: Sequence[str]) -> Job:
        return describe(words, options, asker)

    if options.array or options.each or options.param or options.command == ["-"]:
        from roundq.faces.cli import many

        plan = many.plan(options, of, asker)
        return Order([plan.job], plan.warnings, plan.parts, plan.told)
    for option in ("throttle", "chunk", "max_fails", "each_format"):
        if getattr(options, option) is not None:
            name = option.replace("_", "-")
            raise UsageError(f"option --{name}: there is no array", "give it with --array, --each or --param")
    if options.source is not None:
        from roundq.faces.cli import from_file

        return Order(*from_file.jobs(options, of, asker))
    if not options.command:
        raise UsageError(
            "no command to run", "give one after the options, such as: rq run -J hello echo Hello"
        )
    job = of(options.command)
    return Order([job], submission.check(job, os.environ, asker.spool, asker.config, asker.node))


def patient(order: Order, options: argparse.Namespace, asker: Person) -> Order:
    """The same with what it has to wait for, and how it is retried."""
    if not any(getattr(options, option) for option in PATIENCE) and options.begin is None:
        return order
    from roundq.faces.cli import patience

    found = patience.asked(options, asker, order.parts)
    jobs = [replace(job, **found.fields) for job in order.jobs]
    patience.check(jobs, options, asker)
    warnings = [*order.warnings, *found.warnings]
    return order._replace(jobs=jobs, warnings=warnings, on_hold=found.on_hold, waits=found.waits)


@contextlib.contextmanager
def _submitting(count: int) -> Iterator[Callable[[float], None]]:
    """What to call after each step of a submission, which ends there if a signal came."""
    if count < MANY:
        yield lambda _: look_for_signals()
        return
    from roundq.faces.cli.progress import share

    with share(f"submitting {count:,} jobs") as on_step:
        yield on_step


def _taken_back(stop: BaseException | None, ids: Sequence[str], count: int) -> int:
    """Says which jobs of an interrupted submission are in the queue; the exit code."""
    if not ids:
        say("interrupted; nothing was submitted")
    else:
        from roundq.words.quantities import format_ids, shell_ids

        of = "the job" if count == 1 else f"{len(ids):,} of {count:,} jobs"
        say(
            f"interrupted; {of} had begun already and stay in the queue: {format_ids(ids)}",
            f"if they are not wanted: rq cancel {shell_ids(ids)}",
        )
    return interrupted(stop)


def _accepted(asker: Person, order: Order, ids: list[str], options: argparse.Namespace) -> int:
    """What comes after the acceptance, which nothing here can undo; signals are held back."""
    unsaid: OSError | None = None
    stop: KeyboardInterrupt | None = None
    try:
        with as_stopped(), interruptible():
            _print_ids(order, ids, options)
    except OSError as error:
        unsaid = error
    except KeyboardInterrupt as signaled:
        stop = signaled
    if not options.parsable:
        # Programs that read the id may read standard error with it.
        for warning in order.warnings:
            say(f"warning: {warning}")
    if options.on_end or options.mail:
        from roundq.faces.cli import news

        unasked = news.ask(options, asker, os.environ, order.jobs, ids, len(order.parts))
        if unasked is not None:
            say(f"warning: {unasked}", unasked.hint)
    if asker.config.auto_start:
        _start_daemon(asker, options)
    if unsaid is None and stop is None:
        if options.verbose and len(order.jobs) == 1:
            say(f"its output goes to {_output_of(order, ids[0])}")
        stop = noted()
        if stop is None and (options.wait or options.watch):
            try:
                with as_stopped(), interruptible():
                    if options.watch:
                        return watch(asker, _followed(order, ids))
                    return follow(asker, _followed(order, ids), options.parsable)
            except KeyboardInterrupt as signaled:
                stop = signaled
    return _ended_early(ids, stop, unsaid)


def _print_ids(order: Order, ids: Sequence[str], options: argparse.Namespace) -> None:
    told = zip(ids, order.jobs, strict=True)
    more = f", {order.told}" if order.told else ""
    if order.waits:
        more += f", {order.waits}" if order.on_hold else f", held: {order.waits}"
    lines = ids if options.parsable else [f"submitted {job_id} {_named(job)}{more}" for job_id, job in told]
    print("\n".join(lines), flush=True)


def _output_of(order: Order, job_id: str) -> str:
    from roundq.actors.streams import output_path

    (job,) = order.jobs
    if order.parts:
        return os.path.join(job.directory, job.output or f"rq-{job_id}_%a.out")
    return output_path(job, job_id)


def _followed(order: Order, ids: Sequence[str]) -> Sequence[str]:
    """The ids of all jobs that were submitted."""
    if not order.parts:
        return ids
    from roundq.words.arrays import task_id

    return [task_id(ids[0], part[0].index) for part in order.parts]


def _ended_early(ids: Sequence[str], stop: KeyboardInterrupt | None, unsaid: OSError | None) -> int:
    """Says which jobs are in the queue if that may not have been read; the exit code."""
    if stop is None and unsaid is None:
        return 0
    from roundq.words.quantities import format_ids, shell_ids

    which, are, their = ("job", "is", "its id") if len(ids) == 1 else ("jobs", "are", "their ids")
    cancel = f"rq cancel {shell_ids(ids)}"
    if stop is not None:
        stay, them = ("stays", "it") if len(ids) == 1 else ("stay", "them")
        say(
            f"interrupted; {which} {format_ids(ids)} {stay} in the queue",
            f"rq wait {shell_ids(ids)} waits for {them}, {cancel} cancels {them}",
        )
        return interrupted(stop)
    hint = f"if {'it is' if len(ids) == 1 else 'they are'} not wanted: {cancel}"
    if isinstance(unsaid, BrokenPipeError):
        say(f"{which} {format_ids(ids)} {are} in the queue, but nobody reads {their}", hint)
        raise unsaid
    assert unsaid is not None
    raise RoundqError(
        f"{which} {format_ids(ids)} {are} in the queue, but {their} cannot be printed: {unsaid.strerror}",
        hint,
    )


def describe(
    command: Sequence[str], options: argparse.Namespace, asker: Person, umask: int | None = None
) -> Job:
    """The job that the options and a command describe, with our umask if it is not told.

    Raises UsageError or JobRefused.
    """
    name = options.job_name
    if name is not None:
        from roundq.words.quantities import check_name

        check_name(name)
    for option in ("output", "error", "chdir"):
        if getattr(options, option) == "":
            raise UsageError(f"option --{option}: the name is empty", "leave the option out for the default")
    if options.mem_limit and not options.mem:
        raise UsageError(
            "option --mem-limit: there is no memory to keep to", "give it with --mem, such as -m 8G"
        )
    if umask is None:
        umask = os.umask(0o077)
        os.umask(umask)
    asked = _asked(options)
    return Job(
        command=tuple(command),
        directory=_directory(options.chdir),
        jobname=name or "",
        # Without a name the id makes one, and it is given at submission; so it is where many bear one name.
        output=options.output or (f"{_plain(name)}.out" if name and options.source is None else ""),
        error=options.error,
        cores=0 if options.exclusive else 1 if options.cpus is None else options.cpus,
        memory_required=options.mem,
        memory_limit=options.mem if options.mem_limit else None,
        max_output=asker.config.max_output if options.max_output is None else options.max_output,
        restartable=options.restart or options.scavenge,
        umask=umask,
        time_limit_s=options.time,
        priority=options.priority,
        gpus=options.gpus,
        scavenge=options.scavenge,
        notice=options.signal,
        set=options.set or "",
        **asked,
    )


def _plain(name: str) -> str:
    """A name as the name of a file in which nothing is filled in."""
    return name.replace("%", "%%")


def _asked(options: argparse.Namespace) -> dict[str, Any]:
    """The fields of a job that options may name several of. Raises UsageError also for options that do not
    go together."""
    if options.exclusive and options.cpus:
        raise UsageError(
            f"option --exclusive: it means all cores of a node, and --cpus says {options.cpus}",
            "leave one of them out",
        )
    if options.signal is not None:
        _check_notice(options)
    asked: dict[str, Any] = {}
    if options.license:
        from roundq.words.resources import all_licenses

        asked["licenses"] = all_licenses(options.license)
    named = {"nodes": options.node, "exclude": options.exclude, "features": options.need}
    if any(named.values()):
        from roundq.words.resources import all_words

        asked |= {field: all_words(words) for field, words in named.items()}
    return asked


def _check_notice(options: argparse.Namespace) -> None:
    limit_s, before_s = options.time, options.signal.before_s
    if limit_s is None and not options.restart and not options.scavenge:
        raise UsageError(
            "option --signal: nothing ever stops the job, so it would not be sent",
            "give it with --time, --restart or --scavenge",
        )
    if limit_s is not None and before_s >= limit_s:
        raise UsageError(
            f"option --signal: the job would be told {before_s:g} s before its end, and has a time limit of"
            f" {limit_s:g} s",
            "let it be told later, or give it more time",
        )


def _directory(chdir: str | None) -> str:
    """The job's directory as the user calls it: the real name of one that is automounted may not last."""
    if chdir is not None and os.path.isabs(chdir):
        return chdir
    try:
        here = os.getcwd()
    except OSError as error:
        raise JobRefused(
            f"the current directory cannot be told: {error.strerror}", "cd somewhere else, or give --chdir"
        ) from None
    named = os.environ.get("PWD", "")
    try:
        if os.path.isabs(named) and os.path.samestat(os.stat(named), os.stat(here)):
            here = named
    except OSError:
        pass
    return here if chdir is None else os.path.join(here, chdir)


def _named(job: Job) -> str:
    return shown(job.name, _CHARS_SHOWN)


def _start_daemon(asker: Person, options: argparse.Namespace) -> None:
    try:
        started = submission.start_daemon(asker.spool, os.environ, asker.node)
    except (OSError, RoundqError) as error:
        # The job is accepted; that it is not begun here is not its failure.
        if not options.parsable:
            say(f"warning: no daemon could be started on {asker.node}: {error}")
        return
    if started and options.verbose:
        say(f"started your daemon on {asker.node}")


# ---------------------------------------------------------------- --wait


def watch(asker: Person, ids: Sequence[str]) -> int:
    """Prints what jobs of mine write until they have ended; the exit code that tells how, as `follow`."""
    from roundq.faces.cli import watch as watching

    load_reader()
    return watching.submitted(asker, ids)


def follow(asker: Person, ids: Sequence[str], is_quiet: bool) -> int:
    """Waits for the end of jobs of mine; the exit code that tells it, of several the highest."""
    from roundq.actors import outcome, queue
    from roundq.faces.cli.progress import progress

    load_reader()
    with progress(asker) as on_look:
        rows = queue.wait(asker.spool, ids, node=asker.node, late_s=asker.config.settle_s, on_look=on_look)
    for row in rows.values():
        if row.state != COMPLETED and not is_quiet:
            say(f"job {row.id} {outcome.sentence(row)}")
    return max(outcome.exit_code(row) for row in rows.values())
