"""The verb `worker`: works off my queue on this node in the foreground, and tells what it does."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from typing import TextIO

from roundq.actors import afterwards, outcome, selection
from roundq.actors.worker import (
    Again,
    Begun,
    Closing,
    Ended,
    Event,
    Opened,
    Result,
    Stopping,
    Warned,
)
from roundq.faces.cli import SOME_FAILED, abandon, say
from roundq.faces.cli.named import JOBS, no_such_job, title
from roundq.faces.cli.parser import Parser, shown
from roundq.faces.cli.person import Person, person
from roundq.records import control
from roundq.words import drains, match, ranges, selectors
from roundq.words.errors import NoSuchJob, RoundqError, UsageError
from roundq.words.groups import MARK, parse_set
from roundq.words.intake import Intake, intake
from roundq.words.quantities import format_age, visible
from roundq.words.room import cores_text
from roundq.words.selectors import Last
from roundq.words.states import HELD


def build_parser(verb: str) -> Parser:
    """The parser of `worker`."""
    parser = Parser(
        verb,
        f"[-x N] [--set S] [--stay] [{JOBS}...]",
        "Work off your queue on this node in the foreground, in the place of a daemon: start the jobs that"
        " wait when it is your turn, and exit when nothing is left that could run here; with 1 if a job did"
        " not end well. Ctrl-C lets what runs finish, twice stops it.",
        "rq worker -x 4 --set fit",
    )
    add = parser.add_argument
    add(
        "-x",
        "--cpus",
        metavar="N",
        type=_cores,
        help="fill at most N cores with jobs of yours; all that the node offers if not given",
    )
    add("--set", metavar="S", type=parse_set, help="take only jobs of this set")
    add("--stay", action="store_true", help="go on looking when nothing is left, until told to leave")
    add("jobs", metavar=JOBS, nargs="*", help="take only these: ids, names, %%SET or expressions")
    return parser


def _cores(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > 6 or not int(text):
        raise UsageError(f"{shown(text)} is not a number of cores", "give a whole number, such as 4")
    return int(text)


def run(_verb: str, options: argparse.Namespace) -> int:
    """Works; the exit code. Raises DaemonRunning if a daemon serves this node, or UsageError."""
    from roundq.actors import worker

    asker = person()
    if "RQ_JOB_ID" in os.environ:
        raise RoundqError(
            "this is inside a job: a worker would end with it, and so would all jobs that it starts",
            "run it from a shell on the node",
        )
    taken = _intake(options, asker)
    if not options.stay:
        _require_known(options, asker)
    with _Screen() as screen:
        result = worker.run(asker.spool, os.environ, taken, screen.tell, stays=options.stay)
        screen.sum_up(asker.node, result)
    _tell_left(asker.node, result)
    if result.signal is not None:
        return 128 + result.signal
    is_undone = result.running or (result.drained is not None and result.left)
    return SOME_FAILED if result.ill or is_undone else 0


def _intake(options: argparse.Namespace, asker: Person) -> Intake:
    """What the options and words say. Words that mean what was submitted last mean that for good."""
    now: list[str] = []
    for word in options.jobs:
        try:
            if isinstance(selectors.parse(word), Last):
                now.append(word)
        except UsageError:
            # It may be the id of a job that a program has dropped.
            now.append(word)
    ids: list[str] = []
    if now:
        found = selection.select(asker.spool, now, now_ns=time.time_ns(), ended=False, read=False)
        if found.unknown:
            raise NoSuchJob(f"no such job: {shown(found.unknown[0])}", "rq q --mine lists your jobs")
        ids = [row.id for row in found.rows]
    return intake(options.jobs, of_set=options.set, cores=options.cpus, ids=ids)


def _require_known(options: argparse.Namespace, asker: Person) -> None:
    """Raises NoSuchJob for a set, an id or a name that nothing tells of: it is misspelled, and the work that
    was meant would be left undone without a word."""
    words = [word for word in options.jobs if not match.is_meant(word)]
    if options.set is not None:
        words.append(f"{MARK}{options.set}")
    now_ns = time.time_ns()
    # Without words it would be all jobs.
    found = selection.select(asker.spool, words, now_ns=now_ns, ended=False, read=False) if words else None
    if found is None or found.undecided:
        return
    limited = control.limited(asker.spool)
    for word in found.unknown:
        past = afterwards.ended(asker.spool, wanted=afterwards.wanted([word], (), now_ns))
        if word not in limited and next(past, None) is None:
            raise no_such_job(word)


class _Screen:
    """Where a worker tells what it does. That nobody reads it any more stops no work."""

    def __init__(self) -> None:
        self._errors: TextIO = sys.stderr
        with contextlib.suppress(OSError, ValueError, AttributeError):
            # While it works, this descriptor leads to the log of its node.
            self._errors = os.fdopen(os.dup(sys.stderr.fileno()), "w", errors="backslashreplace")

    def __enter__(self) -> _Screen:
        return self

    def __exit__(self, *_: object) -> None:
        if self._errors is not sys.stderr:
            with contextlib.suppress(OSError):
                self._errors.close()

    def tell(self, event: Event) -> None:
        """One line of each event: of jobs on standard output, of what else is to be known beside it."""
        match event:
            case Opened(node, cores, intake_):
                self._print(f"worker on {node}: {cores_text(cores)}, {intake_.text}")
            case Begun(job_id, name, cores, attempt):
                again = f", attempt {attempt}" if attempt > 1 else ""
                self._print(f"job {visible(job_id)} {shown(name)} begins: {cores_text(cores)}{again}")
            case Ended(row, ran_s):
                became = outcome.sentence(row) if row.state else "is gone, and nobody knows how it ended"
                self._print(f"job {title(row)} {became}, after {format_age(ran_s)}")
            case Again(job_id, name, state):
                waits = "is held until its next attempt" if state == HELD else "waits to be run again"
                self._print(f"job {visible(job_id)} {shown(name)} {waits}")
            case Closing(running):
                self._warn(f"starts nothing more{_go_on(running)}")
                if running:
                    self._warn("Ctrl-C again stops them", "hint")
            case Stopping(restarted, canceled):
                said = [f"canceled: {ranges.brief(canceled)}"] if canceled else []
                said += [f"wait again: {ranges.brief(restarted)}"] if restarted else []
                self._warn(f"stops its jobs; {'; '.join(said)}" if said else "has no jobs to stop")
            case Warned(text):
                self._warn(text)

    def sum_up(self, node: str, result: Result) -> None:
        """What was done, in a line."""
        count = len(result.well) + len(result.ill)
        ended = "no job ended" if not count else "1 job ended" if count == 1 else f"{count} jobs ended"
        ill = f", not well: {ranges.brief(result.ill)}" if result.ill else ""
        self._print(f"worker on {node} leaves: {ended}{ill}")

    def _print(self, line: str) -> None:
        try:
            print(line, flush=True)
        except OSError:
            abandon(sys.stdout)

    def _warn(self, text: str, what: str = "rq") -> None:
        try:
            print(f"{what}: {visible(text)}", file=self._errors, flush=True)
        except OSError:
            abandon(self._errors)


def _go_on(ids: tuple[str, ...]) -> str:
    if not ids:
        return ""
    return f"; {'1 job goes' if len(ids) == 1 else f'{len(ids)} jobs go'} on: {ranges.brief(ids)}"


def _tell_left(node: str, result: Result) -> None:
    """What goes on without it, and what it could not run."""
    if result.running:
        say(f"leaves{_go_on(result.running)}", "rq wait waits for them; rq daemon looks after them")
    if result.drained is not None and result.left:
        ids = [job_id for left in result.left for job_id in left.ids]
        by_admin = result.drained.startswith(f"drained by {drains.ADMIN}")
        hint = f"as root on {node}: rq resume --admin" if by_admin else "rq resume ends a drain"
        say(f"{node} starts nothing: {result.drained}; left: {ranges.brief(ids)}", hint)
        return
    for left in result.left:
        say(f"left: {ranges.brief(left.ids)}: {left.says}")
