"""Arrays in `rq run`: `--array`, `--each`, `--param`, and `-` for the lines of standard input.

All make one array of tasks, whole or not at all. What is filled in is filled in here, once; a shell sees
none of it.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from roundq.actors import checks, submission
from roundq.faces.cli import from_file
from roundq.faces.cli.parser import shown
from roundq.faces.cli.person import Person
from roundq.words import arrays, grids, outputs, templates
from roundq.words.errors import JobRefused, UsageError
from roundq.words.job import TASKS_MAX, Array, Job, Task
from roundq.words.templates import Row, RowError, Template

#: Files of one submission: a directory of more names is no longer listed whole.
JOBS_MAX = 100_000
#: Bytes of commands of which it is looked whether the record has room for them.
_LARGE = 100_000
#: How one calls it that the tasks are the lines of standard input.
_STDIN = "the command -"
_INDEX = re.compile(r"\{\{index\}\}|\{index\}")

Describe = Callable[[Sequence[str]], Job]


class Plan(NamedTuple):
    """An array to be submitted: what its tasks have in common, the tasks of each job, and warnings."""

    job: Job
    parts: list[list[Task]]
    warnings: list[str]

    @property
    def told(self) -> str:
        """How many tasks there are: "100 tasks in 10 jobs"."""
        tasks, jobs = sum(map(len, self.parts)), len(self.parts)
        told = f"{tasks:,} task{'s' * (tasks != 1)}"
        return told if tasks == jobs else f"{told} in {jobs:,} job{'s' * (jobs != 1)}"


class Order(NamedTuple):
    """A task on its way: its number in the input, if it has one, and its index and command."""

    number: int | None
    task: Task


def plan(options: argparse.Namespace, describe: Describe, asker: Person) -> Plan:
    """The array that the options ask for, each of whose tasks could run.

    `describe` makes a job of a command. Raises UsageError, JobRefused and the like, with the number of the
    line.
    """
    try:
        return _plan(options, describe, asker)
    except RowError as error:
        raise UsageError(f"{_where(options, error.number)}{error.why}", error.hint) from None


def _plan(options: argparse.Namespace, describe: Describe, asker: Person) -> Plan:
    source = _source(options)
    throttle, step, orders = _tasks(options, source)
    is_filled = source == _STDIN or not options.command
    return compose(orders, throttle, step, options, describe, asker, os.environ, is_filled=is_filled)


def compose(
    orders: Iterable[Order],
    throttle: int,
    step: int,
    options: argparse.Namespace,
    describe: Describe,
    asker: Person,
    environ: Mapping[str, str],
    *,
    is_filled: bool,
) -> Plan:
    """The array of these tasks, at least one, each of which could run in this environment.

    Of `options` what is said of all tasks counts. With `is_filled` the first command stands for the array,
    else the one in the options. Raises UsageError, JobRefused and the like.
    """
    parts: list[list[Task]] = []
    warnings: list[str] = []
    known: set[str] = set()
    job: Job | None = None
    for number, task in orders:
        try:
            if job is None:
                job = describe(task.command if is_filled else options.command)
                job = replace(job, output=_output(job, options))
                # What the options say is the same for all.
                first = replace(job, command=task.command)
                warnings = submission.check(first, environ, asker.spool, asker.config, asker.node)
            elif task.command[0] not in known:
                checks.check_command(replace(job, command=task.command), environ)
            if sum(map(len, task.command)) > _LARGE:
                checks.check_record(replace(job, command=task.command))
        except JobRefused as error:
            raise type(error)(f"{_where(options, number)}{error}", error.hint) from None
        known.add(task.command[0])
        if not parts or len(parts[-1]) >= (options.chunk or 1):
            parts.append([])
            if len(parts) > JOBS_MAX:
                raise UsageError(
                    f"that is more than {JOBS_MAX:,} jobs",
                    "have each of them run several tasks, such as with --chunk 100",
                )
        parts[-1].append(task)
    assert job is not None
    first_index, last_index, count = parts[0][0].index, parts[-1][-1].index, sum(map(len, parts))
    jobs = len(parts) if options.chunk else 0
    array = Array("", first_index, first_index, last_index, step, count, throttle, options.max_fails, jobs)
    job = replace(job, array=array)
    _check_chunks(job, parts)
    if options.output and "/dev/" not in options.output and count > 1:
        if not outputs.places(options.output) & outputs.OF_A_TASK:
            warnings.append(
                f"all tasks write to {shown(options.output)}; with %a in its name each has its own"
            )
    return Plan(job, parts, warnings)


def _source(options: argparse.Namespace) -> str:
    """What says which tasks there are."""
    given = {
        "--array": options.array,
        "--each": options.each,
        "--param": options.param,
        "--from": options.source,
        _STDIN: options.command == [from_file.STDIN],
    }
    names = [name for name, value in given.items() if value]
    if len(names) > 1:
        raise UsageError(
            f"{names[0]} does not go with {names[1]}", "both say which tasks there are: give one"
        )
    if options.each_format is not None and not options.each:
        raise UsageError("option --each-format: there is no --each", "see: rq run -h")
    return names[0]


def _output(job: Job, options: argparse.Namespace) -> str:
    """The output of a task: as it was asked for, or of its own."""
    if options.output or not job.jobname:
        return job.output
    return f"{outputs.escaped(job.jobname)}.%a.out"


def _where(options: argparse.Namespace, number: int | None) -> str:
    return "" if number is None else f"line {number} of {_called(options)}: "


def _called(options: argparse.Namespace) -> str:
    name = options.each or from_file.STDIN
    return "standard input" if name == from_file.STDIN else shown(name)


# ---------------------------------------------------------------- the tasks


def _tasks(options: argparse.Namespace, source: str) -> tuple[int, int, Iterator[Order]]:
    """The throttle, the step, and the tasks, at least one."""
    throttle, step = options.throttle or 0, 1
    if source == "--array":
        spec = arrays.parse_spec(options.array)
        if throttle and spec.throttle:
            raise UsageError(
                f"option --throttle: the array has a %{spec.throttle} of its own",
                f"both say how many may run at once: --array {shown(options.array.partition('%')[0])}",
            )
        throttle, step, orders = throttle or spec.throttle, spec.step, _of_indices(options, spec.indices)
    elif source == "--param":
        orders = _of_grid(options)
    elif source == "--each" and options.command:
        orders = _of_rows(options)
    else:
        orders = _of_lines(options)
    return throttle, step, _bounded(orders, options)


def _bounded(orders: Iterator[Order], options: argparse.Namespace) -> Iterator[Order]:
    count = 0
    for count, order in enumerate(orders, 1):
        if count > TASKS_MAX:
            raise UsageError(
                f"{_called(options)} has more than {TASKS_MAX:,} tasks", "submit them in several parts"
            )
        yield order
    if not count:
        raise UsageError(f"{_called(options)} holds no task", "write one task a line")


def _need_command(options: argparse.Namespace, example: str) -> None:
    if not options.command:
        raise UsageError("no command to run", f"give one after the options, such as: {example}")


def _of_indices(options: argparse.Namespace, indices: Iterable[int]) -> Iterator[Order]:
    _need_command(options, "rq run --array 0-9 ./fit --seed {index}")
    yield from of_indices(options.command, indices)


def of_indices(command: Sequence[str], indices: Iterable[int]) -> Iterator[Order]:
    """A task for each index, which is filled in for {index}."""
    for index in indices:
        yield Order(None, Task(index, tuple(_INDEX.sub(_of_index(index), word) for word in command)))


def _of_index(index: int) -> Callable[[re.Match[str]], str]:
    return lambda found: "{index}" if found[0].startswith("{{") else str(index)


def _of_grid(options: argparse.Namespace) -> Iterator[Order]:
    _need_command(options, "rq run --param seed=1-9 ./fit --seed {seed}")
    parameters = [grids.parse(text) for text in options.param]
    grids.check(parameters)
    names = [parameter.name for parameter in parameters]
    template = Template(options.command, names)
    unused = next((name for name in names if name not in template.places), None)
    if unused is not None and not template.places & {"", names.index(unused) + 1}:
        raise UsageError(
            f"option --param: {unused} is nowhere in the command",
            f"put {{{unused}}} where its value belongs, such as: --{unused} {{{unused}}}",
        )
    for index, values in enumerate(grids.product(parameters)):
        cells = dict(zip(names, values, strict=True))
        row = Row(0, " ".join(f"{name}={value}" for name, value in cells.items()), cells)
        yield Order(None, Task(index, template.fill(row, index, append=False)))


def _of_rows(options: argparse.Namespace) -> Iterator[Order]:
    how = options.each_format or templates.format_of(options.each)
    columns, rows = templates.rows(from_file.lines(options.each), how)
    template = Template(options.command, columns)
    for index, row in enumerate(rows):
        try:
            command = template.fill(row, index)
            # What JSON can write no command line can have.
            if b"\0" in os.fsencode("".join(command)):
                raise UsageError("it holds a null byte, which no command line can")
        except UnicodeEncodeError:
            raise RowError(row.number, "it holds half a character of UTF-16") from None
        except UsageError as error:
            raise RowError(row.number, str(error), error.hint) from None
        yield Order(row.number, Task(index, command))


def _of_lines(options: argparse.Namespace) -> Iterator[Order]:
    for index, (number, words) in enumerate(from_file.numbered(options.each or from_file.STDIN)):
        yield Order(number, Task(index, tuple(words)))


# ---------------------------------------------------------------- chunks


def _check_chunks(job: Job, parts: Sequence[Sequence[Task]]) -> None:
    """Raises UsageError if several tasks do not fit into one record."""
    for part in parts:
        size = sum(len(word) for task in part for word in task.command)
        if len(part) > 1 and size + 100 * len(part) > _LARGE:
            try:
                checks.check_record(replace(job, command=part[0].command, chunk=tuple(part)))
            except JobRefused:
                raise UsageError(
                    f"option --chunk: {len(part)} tasks are too large for one job file",
                    "have fewer tasks in a chunk, or put their arguments into files",
                ) from None
