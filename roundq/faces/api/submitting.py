"""How a program's jobs get into the queue: described, checked and accepted as those of `rq run` are."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from roundq.actors import checks, submission
from roundq.faces.api import options as asked
from roundq.faces.api import queue as queues
from roundq.faces.api.handles import Job
from roundq.faces.api.queue import Queue
from roundq.faces.cli import many, news, run
from roundq.faces.cli.from_file import LINES_MAX
from roundq.faces.cli.person import Person
from roundq.faces.cli.run import Order
from roundq.records import environments
from roundq.records import spool as spools
from roundq.words import arrays
from roundq.words import job as words
from roundq.words.errors import RoundqError, UsageError
from roundq.world import procs

#: A command and what else is asked for.
Described = tuple[Sequence[str], Mapping[str, Any]]


def jobs(queue: Queue, described: Sequence[Described]) -> list[Job]:
    """Submits jobs, all or none."""
    if not described:
        return []
    if len(described) > LINES_MAX:
        raise UsageError(
            f"that is more than {LINES_MAX:,} jobs", "submit them in several parts, or as an array"
        )
    desk = _Desk(queue)
    asker = desk.asker
    look = _Checks(desk)
    all_jobs: list[words.Job] = []
    groups: dict[int, _Group] = {}
    for place, (command, options) in enumerate(described):
        parsed = asked.parsed(options)
        desk.require_own(options)
        job = desk.describe(command, parsed)
        look.check(job, desk.environ(options))
        all_jobs.append(job)
        groups.setdefault(id(parsed), _Group(parsed, [])).places.append(place)
    for group in groups.values():
        # What they wait for is looked up once for those that ask for the same.
        order = run.patient(Order([all_jobs[place] for place in group.places], ()), group.parsed, asker)
        desk.warn([*order.warnings, *news.check(group.parsed, asker)])
        for place, job in zip(group.places, order.jobs, strict=True):
            all_jobs[place] = job
    on_hold = {group.parsed.hold for group in groups.values()}
    if len(on_hold) > 1:
        raise UsageError("hold: some of these jobs are to be held and some not", "submit them apart")
    submission.admit(asker.spool, asker.config, len(all_jobs))
    complete = [
        desk.with_environment(job, options) for job, (_, options) in zip(all_jobs, described, strict=True)
    ]
    ids = submission.submit(asker.spool, complete, desk.base, asker.node, on_hold=on_hold.pop())
    for group in groups.values():
        desk.ask_news(
            group.parsed,
            [complete[place] for place in group.places],
            [ids[place] for place in group.places],
            0,
        )
    desk.start_daemon()
    return [Job(queue, job_id) for job_id in ids]


class _Group(NamedTuple):
    """Jobs of one submission, by their places in it, that ask for the same but for their commands."""

    parsed: argparse.Namespace
    places: list[int]


class _Checks:
    """Whether jobs could ever run, as `submission.check`; what is the same for several is looked at once."""

    def __init__(self, desk: _Desk) -> None:
        self._desk = desk
        self._known: set[object] = set()
        self._is_listed = checks.remembering()

    def check(self, job: words.Job, environ: Mapping[str, str]) -> None:
        """Raises JobRefused, CommandNotFound or NotExecutable; warns."""
        if self._is_new("directory", job.directory):
            checks.check_directory(job)
        if self._is_new("command", job.command[0], job.directory, environ.get("PATH")):
            checks.check_command(job, environ)
        if self._is_new("output", job.directory, job.output, job.error, job.jobname, job.max_output):
            checks.check_output(job, self._is_listed)
        checks.check_record(job)
        needs = job.cores, job.memory_required, job.gpus, job.licenses, job.nodes, job.exclude, job.features
        if self._is_new("needs", needs):
            asker = self._desk.asker
            self._desk.warn(submission.warnings(job, asker.spool, asker.config, asker.node))

    def _is_new(self, *what: object) -> bool:
        if what in self._known:
            return False
        self._known.add(what)
        return True


def indices(queue: Queue, command: Sequence[str], spec: str, options: Mapping[str, Any]) -> Job:
    """Submits an array with a task for each index."""
    if not isinstance(spec, str):
        raise TypeError(f'array cannot be {spec!r}, of type {type(spec).__name__}: write "0-9" or "0-9%2"')
    found = arrays.parse_spec(spec)
    parsed = asked.parsed(options)
    orders = many.of_indices(command, found.indices)
    return _array(queue, orders, found.throttle, found.step, parsed, options, command)


def array(queue: Queue, commands: Iterable[Sequence[str]], options: Mapping[str, Any]) -> Job:
    """Submits an array with a task for each command."""
    parsed = asked.parsed(options, asked.ARRAY)
    orders = (many.Order(None, words.Task(index, tuple(command))) for index, command in enumerate(commands))
    return _array(queue, orders, parsed.throttle or 0, 1, parsed, options, None)


def _array(
    queue: Queue,
    orders: Iterable[many.Order],
    throttle: int,
    step: int,
    parsed: argparse.Namespace,
    options: Mapping[str, Any],
    command: Sequence[str] | None,
) -> Job:
    desk = _Desk(queue)
    desk.require_own(options)
    asker = desk.asker
    if command is not None:
        parsed = argparse.Namespace(**{**vars(parsed), "command": list(command)})
    environ = desk.environ(options)
    plan = many.compose(
        _some(orders),
        throttle,
        step,
        parsed,
        lambda words: desk.describe(words, parsed),
        asker,
        environ,
        is_filled=command is None,
    )
    order = run.patient(Order([plan.job], plan.warnings, plan.parts), parsed, asker)
    desk.warn([*order.warnings, *news.check(parsed, asker)])
    submission.admit(asker.spool, asker.config, order.size)
    job = desk.with_environment(order.jobs[0], options)
    array_id = submission.submit_array(
        asker.spool, job, order.parts, desk.base, asker.node, on_hold=order.on_hold
    )
    desk.ask_news(parsed, [job], [array_id], len(order.parts))
    desk.start_daemon()
    return Job(queue, array_id, [Job(queue, arrays.task_id(array_id, part[0].index)) for part in order.parts])


def _some(orders: Iterable[many.Order]) -> Iterable[many.Order]:
    """At least one, and not more than an array may have. Raises UsageError."""
    count = 0
    for count, order in enumerate(orders, 1):
        if count > words.TASKS_MAX:
            raise UsageError(f"that is more than {words.TASKS_MAX:,} tasks", "submit them in several parts")
        yield order
    if not count:
        raise UsageError("the array has no task", "give at least one command")


class _Desk:
    """Where one submission is prepared: who submits, with which environments and warnings."""

    def __init__(self, queue: Queue) -> None:
        self.asker: Person = queue._person()
        self.base = queue.environment()
        self._umask = procs.own_umask()
        self._environs: dict[tuple[tuple[str, str | None], ...], dict[str, str]] = {}
        self._digests: dict[int, str] = {}
        self._warned: set[str] = set()
        self._queue = queue

    def require_own(self, options: Mapping[str, Any]) -> None:
        """Raises UsageError if a job that is to come before is in another queue."""
        for job in asked.handles(options):
            self._queue._require_own(job)

    def describe(self, command: Sequence[str], parsed: argparse.Namespace) -> words.Job:
        """The job of a command."""
        return run.describe(command, parsed, self.asker, self._umask)

    def environ(self, options: Mapping[str, Any]) -> dict[str, str]:
        """The environment that a job is to have; `options` were parsed, so it is one."""
        more = options.get("env")
        if not more:
            return self.base
        key = tuple(more.items())
        if key not in self._environs:
            merged: dict[str, str | None] = {**self.base, **more}
            self._environs[key] = {name: value for name, value in merged.items() if value is not None}
        return self._environs[key]

    def with_environment(self, job: words.Job, options: Mapping[str, Any]) -> words.Job:
        """The job, with the digest of an environment of its own if it has one."""
        environ = self.environ(options)
        if environ is self.base:
            return job
        if id(environ) not in self._digests:
            from roundq.actors.environ import submitted

            spools.prepare(self.asker.spool)
            self._digests[id(environ)] = environments.store(
                self.asker.spool, submitted(environ), self.asker.node
            )
        return replace(job, environment=self._digests[id(environ)])

    def warn(self, sentences: Iterable[str]) -> None:
        """Warns of each once."""
        for sentence in sentences:
            if sentence not in self._warned:
                self._warned.add(sentence)
                queues.tell(sentence)

    def ask_news(
        self, parsed: argparse.Namespace, of: Sequence[words.Job], ids: Sequence[str], tasks: int
    ) -> None:
        """Asks that somebody is told of the end, if that was wished for."""
        problem = news.ask(parsed, self.asker, self.base, of, ids, tasks)
        if problem is not None:
            queues.tell_only(str(problem))

    def start_daemon(self) -> None:
        """Starts the user's daemon on this node, unless one runs or the configuration says no."""
        if not self.asker.config.auto_start:
            return
        try:
            submission.start_daemon(self.asker.spool, self.base, self.asker.node)
        except (OSError, RoundqError) as error:
            # The job is accepted; that it is not begun here is not its failure.
            queues.tell_only(f"no daemon could be started on {self.asker.node}: {error}")
