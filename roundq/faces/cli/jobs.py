"""The verbs that act on jobs of mine: `cancel`, `restart`, `wait`."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Iterable

from roundq.actors import outcome, queue
from roundq.actors.listing import Row, row_of
from roundq.actors.reasons import silent_nodes
from roundq.faces.cli import say
from roundq.faces.cli.charset import typed
from roundq.faces.cli.named import find, find_all, no_such_job, only_current, title
from roundq.faces.cli.parser import Parser
from roundq.faces.cli.person import Person, any_person
from roundq.faces.cli.progress import progress
from roundq.faces.cli.stopping import hold, interrupted, interruptible, noted
from roundq.records import spool as spools
from roundq.words.errors import RoundqError, UsageError
from roundq.words.quantities import format_age, format_ids, parse_duration, visible
from roundq.words.states import CANCELED, ENDED_STATES, OWNED_STATES, PENDING_STATES, RUNNING

#: Some of what was asked for could not be done, or a job that was waited for failed.
SOME_FAILED = 1


def build_parser(verb: str) -> Parser:
    """The parser of `cancel`, `restart` or `wait`."""
    return {"cancel": _cancel_parser, "restart": _restart_parser, "wait": _wait_parser}[verb]()


def _cancel_parser() -> Parser:
    parser = Parser(
        "cancel",
        "[OPTION...] [ID|NAME...]",
        "Cancel jobs of yours. One that waits is canceled at once; for one that runs the request is kept"
        " until the node that runs it has stopped every process of it.",
        "rq cancel 17 fit",
    )
    add = parser.add_argument
    add(
        "jobs",
        metavar="ID|NAME",
        nargs="*",
        type=typed,
        help="an id, or the exact name of jobs that have not ended",
    )
    add("-a", "--all", action="store_true", help="all your jobs that have not ended")
    add("-w", "--waiting", action="store_true", help="only those that no node has taken yet")
    add("-J", "--job-name", metavar="NAME", type=typed, action="append", default=[], help="jobs of this name")
    add("--wait", action="store_true", help="return when they are dead, not when that is asked for")
    add("-q", "--quiet", action="store_true", help="say nothing of what works, nor of jobs that have ended")
    return parser


def _restart_parser() -> Parser:
    parser = Parser(
        "restart",
        "[OPTION...] [ID|NAME...]",
        "Stop running jobs that were submitted with --restart, and let them wait to be run again.",
        "rq restart fit",
    )
    add = parser.add_argument
    add("jobs", metavar="ID|NAME", nargs="*", type=typed, help="an id, or the exact name of running jobs")
    add("-a", "--all", action="store_true", help="all running jobs of yours that may be restarted")
    add("-J", "--job-name", metavar="NAME", type=typed, action="append", default=[], help="jobs of this name")
    return parser


def _wait_parser() -> Parser:
    parser = Parser(
        "wait",
        "[--timeout T] ID|NAME...",
        "Wait until jobs have ended. Exits with 0 if all went well, 1 if some did not, 124 after the"
        " timeout.",
        "rq wait fit && rq run -J plot ./plot fit.out",
    )
    add = parser.add_argument
    add("jobs", metavar="ID|NAME", nargs="+", type=typed, help="an id, or the exact name of jobs")
    add(
        "--timeout",
        metavar="T",
        type=_timeout,
        help="give up after this: minutes, or as 90s, 2h30m; 0: look once",
    )
    return parser


def _timeout(text: str) -> float:
    return 0.0 if text in ("0", "0s") else parse_duration(text)


def run(verb: str, options: argparse.Namespace) -> int:
    """Does what the verb says; its exit code."""
    return {"cancel": cancel, "restart": restart, "wait": wait}[verb](options, any_person())


class _Printer:
    """Prints what was done, line by line; that nobody can read it does not stop the doing."""

    def __init__(self) -> None:
        self._error: OSError | None = None

    def __call__(self, line: str) -> None:
        if self._error is None:
            try:
                print(line)
            except OSError as error:
                self._error = error

    def end(self) -> None:
        """Raises what stood in the way of printing, when all is done."""
        if self._error is not None:
            raise self._error


# ---------------------------------------------------------------- cancel


def cancel(options: argparse.Namespace, asker: Person) -> int:
    """Cancels what is named, each job for itself: what cannot be done to one is done to the others."""
    rows, code = _chosen(options, asker, "cancel")
    if options.waiting:
        rows = [row for row in rows if row.state in PENDING_STATES or row.id in options.jobs]
    asked: list[Row] = []
    tell = _Printer()
    # Each job is done with, and told of, or left alone.
    hold()
    for place, row in enumerate(rows):
        if (stop := noted()) is not None:
            return _left(rows[place:], "canceled", stop)
        try:
            became = queue.cancel(
                asker.spool,
                row,
                asker.node,
                time.time_ns(),
                only_pending=options.waiting,
                late_s=asker.config.settle_s,
            )
        except RoundqError as error:
            say(str(error), error.hint)
            code = SOME_FAILED
            continue
        except OSError as error:
            say(f"cannot cancel {row.id}: {error.strerror or error}")
            code = SOME_FAILED
            continue
        if became == queue.ASKED:
            asked.append(row)
        if became == queue.BEGUN and row.id in options.jobs:
            say(f"not canceled, since a node has taken it: {title(row)}")
            code = SOME_FAILED
        if options.quiet:
            continue
        if became == queue.GONE:
            tell(f"canceled {title(row)}")
        elif became == queue.ASKED and not options.wait:
            tell(f"canceling {title(row)}{_on(row)}")
        elif became == queue.ENDED and not options.all:
            say(f"{title(row)} has ended already: {_ended_how(asker, row)}")
            code = SOME_FAILED
    with interruptible():
        tell.end()
        if not options.wait:
            _tell_silent(asker, asked)
    if options.wait and asked:
        return _until_dead(asker, asked, options.quiet) or code
    return code


def _left(rows: Iterable[Row], done: str, stop: KeyboardInterrupt) -> int:
    """Says which jobs were not come to before a signal came; the exit code."""
    ids = [row.id for row in rows]
    say(f"interrupted; not {done}: {format_ids(ids)}")
    return interrupted(stop)


def _chosen(options: argparse.Namespace, asker: Person, verb: str) -> tuple[list[Row], int]:
    """The jobs that the words mean, and the exit code so far: unknown words are told, and the others done."""
    if options.all and (options.jobs or options.job_name):
        raise UsageError("option --all: it already means every job of yours", f"see: rq {verb} -h")
    if options.all:
        entries = spools.scan(asker.spool, (*PENDING_STATES, *OWNED_STATES))
        return [row_of(asker.spool, entry, True) for entry in entries], 0
    if not options.jobs and not options.job_name:
        raise UsageError(
            f"which jobs to {verb}?", f"name them by id or name, or all of yours: rq {verb} --all"
        )
    rows, unknown = find(asker.spool, options.jobs, options.job_name)
    for word in unknown:
        error = no_such_job(word)
        say(str(error), error.hint)
    return _without_history(rows, options.jobs), SOME_FAILED if unknown else 0


def _without_history(rows: list[Row], ids: Iterable[str]) -> list[Row]:
    """Without ended jobs whose name others bear that have not; of a name that nobody else bears, the last."""
    ids = set(ids)
    live = {row.record.job.name for row in rows if row.record and row.state not in ENDED_STATES}
    last: dict[str, str] = {}
    for row in rows:
        if row.record and row.state in ENDED_STATES:
            last[row.record.job.name] = row.id
    return [
        row
        for row in rows
        if row.id in ids
        or row.record is None
        or row.state not in ENDED_STATES
        or (row.record.job.name not in live and last[row.record.job.name] == row.id)
    ]


def _on(row: Row) -> str:
    return f" on {visible(row.node)}" if row.node else ""


def _ended_how(asker: Person, row: Row) -> str:
    if row.state in ENDED_STATES:
        return outcome.sentence(row)
    (now,), _ = queue.find(asker.spool, [row.id])
    return outcome.sentence(now) if now.state in ENDED_STATES else now.state


def _until_dead(asker: Person, asked: list[Row], is_quiet: bool) -> int:
    """Waits until the jobs that were asked to end have ended, and says how."""
    try:
        with interruptible(), progress(asker) as on_look:
            ended = queue.wait(
                asker.spool,
                [row.id for row in asked],
                node=asker.node,
                late_s=asker.config.settle_s,
                on_look=on_look,
            )
    except KeyboardInterrupt as stop:
        say("interrupted; what was asked for is done all the same")
        return interrupted(stop)
    code = 0
    for row in ended.values():
        if row.state == CANCELED:
            if not is_quiet:
                print(f"canceled {title(row)}")
        elif not is_quiet:
            say(f"{title(row)} ended before it could be canceled: {outcome.sentence(row)}")
            code = SOME_FAILED
    return code


def _tell_silent(asker: Person, asked: Iterable[Row]) -> None:
    """Says of nodes that nothing is heard of that they will not act soon."""
    elsewhere = {row.node for row in asked if row.node not in (None, asker.node)}
    if not elsewhere:
        return
    everybody = queue.everybody(asker.spool, asker.config.homes, asker.config.commons)
    for node, seconds in silent_nodes(asker.spool, asker.node, everybody).items():
        if node in elsewhere:
            say(
                f"{node} has not been seen for {format_age(seconds)}",
                "the request is kept; it takes effect when the node returns",
            )


# ---------------------------------------------------------------- restart


def restart(options: argparse.Namespace, asker: Person) -> int:
    """Asks for what is named to be stopped and run again."""
    rows, code = _chosen(options, asker, "restart")
    if options.all:
        rows = [row for row in rows if row.state == RUNNING and row.record and row.record.job.restartable]
    tell = _Printer()
    hold()
    for place, row in enumerate(rows):
        if (stop := noted()) is not None:
            return _left(rows[place:], "restarted", stop)
        try:
            became = queue.restart(asker.spool, row, asker.node, late_s=asker.config.settle_s)
        except RoundqError as error:
            say(str(error), error.hint)
            code = SOME_FAILED
            continue
        if became == queue.ASKED:
            tell(f"restarting {title(row)}{_on(row)}")
        else:
            say(f"{title(row)} has ended already: {_ended_how(asker, row)}")
            code = SOME_FAILED
    if asker.config.auto_start and rows:
        with contextlib.suppress(OSError, RoundqError):
            queue.start_daemon(asker.spool, os.environ, asker.node)
    tell.end()
    return code


# ---------------------------------------------------------------- wait


def wait(options: argparse.Namespace, asker: Person) -> int:
    """Waits for the end of what is named."""
    rows = only_current(find_all(asker.spool, options.jobs), options.jobs)
    with progress(asker) as on_look:
        ended = queue.wait(
            asker.spool,
            [row.id for row in rows],
            options.timeout,
            node=asker.node,
            late_s=asker.config.settle_s,
            on_look=on_look,
        )
    code = 0
    for row in ended.values():
        if not outcome.is_well(row):
            print(f"rq: job {visible(title(row))} {visible(outcome.sentence(row))}", file=sys.stderr)
            code = SOME_FAILED
    return code
