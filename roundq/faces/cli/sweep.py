"""The verbs `sweep`, which submits a task of Python for each parameter set, and `gather`, which prints what
they gave."""

from __future__ import annotations

import argparse
import copy
import os
import shlex
import sys
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence

from roundq.faces.api import sweep as sweeps
from roundq.faces.api import sweep_outputs as outputs
from roundq.faces.api import sweep_plans as plans
from roundq.faces.api import sweep_tables as tables
from roundq.faces.api.sweep import State, Sweep
from roundq.faces.api.sweep_plans import Planned
from roundq.faces.cli import SOME_FAILED, many, say
from roundq.faces.cli import run as running
from roundq.faces.cli.charset import typed
from roundq.faces.cli.parser import Parser, shown
from roundq.faces.cli.person import Person
from roundq.words.errors import PartlySubmitted, RoundqError, UsageError
from roundq.words.job import Task
from roundq.words.parameters import told
from roundq.words.quantities import visible
from roundq.world import files

#: Options of `rq run` that a sweep has as well.
TAKEN = (
    *("job_name", "cpus", "mem", "gpus", "license", "node", "exclude", "need", "time", "max_output"),
    *("restart", "scavenge", "priority", "throttle", "chunk", "max_fails", "hold", "begin"),
    *("after", "after_any", "retries", "retry_on", "set", "on_end", "mail", "wait", "parsable"),
)
#: Digits of a hash that people are shown, and tasks that did not end well.
_DIGITS, _MOST = 12, 20
_TARGET = "MODULE:NAME"
_WHAT = (
    "a task class of a module, or of FILE.py, that has parameter sets; or these alone, or a function that"
    " returns them"
)


def build_parser(verb: str) -> Parser:
    """The parser of `sweep` or `gather`."""
    if verb == "gather":
        return _gather_parser(verb)
    parser = Parser(
        verb,
        f"[OPTION...] {_TARGET}",
        "Run a task of Python for each of many parameter sets, as one array. Results are in a directory for"
        " each task, named by the hash of its parameters; what is done there, or underway, is not run again.",
        "rq sweep -c 2 fits:Fit",
    )
    add = parser.add_argument
    add("sweep", metavar=_TARGET, type=typed, help=_WHAT)
    add("--dry-run", action="store_true", help="only list the tasks that would be run")
    add("--force", action="store_true", help="run also what is done already")
    add("--status", action="store_true", help="only tell how far it is, and what failed")
    for action in _run_parser()._actions:
        if action.dest == "job_name":
            # Output goes to the directories of the tasks, so a name is only a name.
            of_array = copy.copy(action)
            of_array.help = "name of the array (default: that of the class, or of its parameter sets)"
            parser._add_action(of_array)
        elif action.dest in TAKEN:
            parser._add_action(action)
    return parser


def _gather_parser(verb: str) -> Parser:
    parser = Parser(
        verb,
        f"[-o FILE] {_TARGET}",
        "Print the results of a sweep, with the parameters, as one table of CSV. Tasks without a result are"
        " listed on standard error, and the exit code is 1 if there are any.",
        "rq gather -o results.csv fits:Fit",
    )
    parser.add_argument("sweep", metavar=_TARGET, type=typed, help=_WHAT)
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="write it there: FILE ends in .csv, .jsonl or .parquet"
    )
    return parser


def _run_parser() -> Parser:
    from roundq.faces.cli.run_options import build_parser

    return build_parser("run")


def run(verb: str, options: argparse.Namespace) -> int:
    """Submits the sweep, tells of it, or prints what it gave."""
    write: Callable[[Sequence[tables.Row]], bytes] = tables.as_csv
    if verb == "gather" and options.output is not None:
        write = tables.writer_of(options.output)
    try:
        sweep = sweeps.load(options.sweep)
        states = sweep.states()
        if verb == "gather":
            table = tables.rows(sweep, states)
            _put_table(write(table), options.output)
            return _tell_missing(sweep, states, options.sweep)
        if options.status:
            return _tell_status(sweep, states)
        return _submit(sweep, states, options)
    except RecursionError:
        raise UsageError(f"{shown(options.sweep)}: its modules import each other without end") from None


# ---------------------------------------------------------------- submitting


def _submit(sweep: Sweep, states: Mapping[str, State], options: argparse.Namespace) -> int:
    left = sweep.to_run(states, force=options.force)
    chosen = {task.hash for task in left}
    others = _counted(state for hashed, state in states.items() if hashed not in chosen)
    if sweep.repeated and not options.parsable:
        of = "set is" if sweep.repeated == 1 else "sets are"
        say(f"warning: {sweep.repeated:,} parameter {of} there more than once, and run once")
    if options.dry_run:
        print(f"would run {len(left):,} of {len(sweep):,} tasks of {visible(sweep.identity)}{others}")
        for task in left:
            print(f"  {task.hash[:_DIGITS]}  {told(task.params)}")
        return 0
    if not left:
        if not options.parsable:
            print(f"nothing to run of {len(sweep):,} tasks of {visible(sweep.identity)}{others}")
        return 0
    written: list[plans.Plan] = []

    def described(given: argparse.Namespace, asker: Person) -> running.Order:
        plan = sweep.plan(left, chunk=options.chunk or 1, force=options.force)
        written.append(plan)
        made = _array(plan, left, given, asker)
        return running.Order([made.job], made.warnings, made.parts, f"{made.told}{others}")

    try:
        return running.put(described, _as_run(sweep, options), on_accepted=written.clear)
    except PartlySubmitted:
        raise
    except RoundqError:
        for plan in written:
            plans.remove(plan)
        raise


def _as_run(sweep: Sweep, options: argparse.Namespace) -> argparse.Namespace:
    """The options as `rq run` has them."""
    given = vars(_run_parser().parse([])) | vars(options)
    name = options.job_name or sweep.name
    return argparse.Namespace(**{**given, "job_name": name, "chdir": sweep.directory})


def _array(
    plan: plans.Plan, left: Sequence[Planned], options: argparse.Namespace, asker: Person
) -> many.Plan:
    """The array of the jobs of a plan."""
    options.output = plan.job_output
    commands = plans.commands(plan, left, sys.executable)
    orders = (many.Order(None, Task(index, command)) for index, command in enumerate(commands))
    return many.compose(
        orders,
        options.throttle or 0,
        1,
        options,
        lambda words: running.describe(words, options, asker),
        asker,
        os.environ,
        is_filled=True,
    )


# ---------------------------------------------------------------- telling


def _counted(states: Iterable[State]) -> str:
    """How many tasks are in which state, to be said behind something else: "; 3 done, 1 running"."""
    said = ", ".join(f"{count:,} {state}" for state, count in sweeps.counts(states))
    return f"; {said}" if said else ""


def _tell_status(sweep: Sweep, states: Mapping[str, State]) -> int:
    print(f"{len(sweep):,} tasks of {visible(sweep.identity)}{_counted(states.values())}")
    for line in _problems(sweep, states, (outputs.BROKEN, outputs.BEGUN, outputs.FOREIGN)):
        print(f"  {line}")
    return 0


def _tell_missing(sweep: Sweep, states: Mapping[str, State], target: str) -> int:
    """Lists the tasks without a result; the exit code."""
    missing = [state for state in states.values() if state.state != outputs.DONE]
    if not missing:
        return 0
    say(
        f"{len(missing):,} of {len(sweep):,} tasks have no result{_counted(missing)}",
        f"rq sweep {shlex.quote(target)} runs what is not done",
        list(_problems(sweep, states, {state.state for state in missing})),
    )
    return SOME_FAILED


def _problems(sweep: Sweep, states: Mapping[str, State], which: Container[str]) -> Iterator[str]:
    """A line for each task that is in one of some states, at most so many."""
    met = [task for task in sweep.tasks.values() if states[task.hash].state in which]
    for task in met[:_MOST]:
        state = states[task.hash]
        why = _why(sweep.directory_of(task), state)
        yield f"{task.hash[:_DIGITS]}  {told(task.params)}  {state.state}{f': {why}' if why else ''}"
    if len(met) > _MOST:
        yield f"and {len(met) - _MOST:,} more"


def _why(directory: str, state: State) -> str:
    """What is known of the end of a task, empty if nothing is."""
    try:
        if state.state == outputs.BROKEN:
            return visible(str(outputs.read(directory, outputs.FAILED).get("error", "")))
        if state.state == outputs.BEGUN:
            number = outputs.last_run(files.names(directory))
            run = outputs.read_run(directory, number)
            return (
                f"run {number}, {f'job {run.job}' if run.job else f'process {run.process.pid}'} on {run.node}"
            )
    except (OSError, RoundqError) as error:
        return visible(str(error))
    return f"job {state.job}" if state.job else ""


def _put_table(data: bytes, path: str | None) -> None:
    if path is None:
        print(data.decode(), end="")
        return
    directory = os.path.dirname(path) or "."
    try:
        temporary = files.write_temporary(directory, ".gather", data, mode=plans.mode())
        files.replace(temporary, f"{directory}/{os.path.basename(path)}")
    except OSError as error:
        raise RoundqError(f"cannot write {visible(path)}: {error.strerror}") from error
