"""The verbs that end jobs of mine: `cancel`, `restart`."""

from __future__ import annotations

import argparse
import contextlib
import os
import time
from collections.abc import Iterable, Sequence

from roundq.actors import outcome, queue
from roundq.actors.listing import Row, locate, row_of
from roundq.actors.reasons import silent_nodes
from roundq.faces.cli import SOME_FAILED, say
from roundq.faces.cli.named import (
    JOBS,
    Chosen,
    add_dry_run,
    add_jobs,
    chosen,
    every,
    read,
    title,
    which,
    would,
)
from roundq.faces.cli.parser import Parser
from roundq.faces.cli.person import Person, any_person
from roundq.faces.cli.progress import progress
from roundq.faces.cli.stopping import hold, interrupted, interruptible, noted
from roundq.records import cancellation
from roundq.words import ranges
from roundq.words.errors import RoundqError, UsageError
from roundq.words.quantities import format_age, shell_ids, visible
from roundq.words.states import CANCELED, ENDED_STATES, OWNED_STATES, PENDING_STATES, RUNNING

#: So many jobs are canceled one by one, each with a sentence in its record; more in one go.
FEW = 20
#: On more nodes than these is not told.
NODES_TOLD = 5


def build_parser(verb: str) -> Parser:
    """The parser of `cancel` or `restart`."""
    return {"cancel": _cancel_parser, "restart": _restart_parser}[verb]()


def _cancel_parser() -> Parser:
    parser = Parser(
        "cancel",
        f"[OPTION...] [{JOBS}...]",
        "Cancel jobs of yours. One that waits is canceled at once; for one that runs the request is kept"
        " until the node that runs it has stopped every process of it.",
        "rq cancel 17 fit 20-25",
    )
    add_jobs(parser, some=True)
    add = parser.add_argument
    add("-a", "--all", action="store_true", help="all your jobs that have not ended")
    add("-w", "--waiting", action="store_true", help="only those that no node has taken yet")
    add_dry_run(parser)
    add("--wait", action="store_true", help="return when they are dead, not when that is asked for")
    add("-q", "--quiet", action="store_true", help="say nothing of what works, nor of jobs that have ended")
    return parser


def _restart_parser() -> Parser:
    parser = Parser(
        "restart",
        f"[OPTION...] [{JOBS}...]",
        "Stop running jobs that were submitted with --restart, and let them wait to be run again.",
        "rq restart fit",
    )
    add_jobs(parser, some=True)
    parser.add_argument(
        "-a", "--all", action="store_true", help="all running jobs of yours that may be restarted"
    )
    add_dry_run(parser)
    return parser


def run(verb: str, options: argparse.Namespace) -> int:
    """Does what the verb says; its exit code."""
    return {"cancel": cancel, "restart": restart}[verb](options, any_person())


def _chosen(options: argparse.Namespace, asker: Person, verb: str) -> Chosen:
    """The jobs that the words mean."""
    if options.all and (options.jobs or options.job_name):
        raise UsageError("option --all: it already means every job of yours", f"see: rq {verb} -h")
    if options.all:
        return every(asker)
    if not options.jobs and not options.job_name:
        raise UsageError(
            f"which jobs to {verb}?", f"name them by id or name, or all of yours: rq {verb} --all"
        )
    return chosen(asker, options.jobs, options.job_name, ended=False, read=False)


# ---------------------------------------------------------------- cancel


def cancel(options: argparse.Namespace, asker: Person) -> int:
    """Cancels what is named, each job for itself: what cannot be done to one is done to the others."""
    found = _chosen(options, asker, "cancel")
    rows = found.rows
    if options.waiting:
        rows = [row for row in rows if row.state in PENDING_STATES or row.id in found.exact]
    if options.dry_run:
        return _would_cancel(rows, found, only_waiting=options.waiting)
    work = _Cancel(options, asker, found)
    # Each job is done with, and told of, or left alone.
    hold()
    left = work.do(rows)
    if (stop := noted()) is not None and left:
        work.tell_done()
        return _left(left, "canceled", stop)
    work.tell()
    if not options.wait:
        with interruptible():
            tell_silent(asker, work.asked)
    elif work.asked:
        return _until_dead(asker, work.asked, options.quiet) or work.code
    return work.code


def _would_cancel(rows: Sequence[Row], found: Chosen, *, only_waiting: bool) -> int:
    states = PENDING_STATES if only_waiting else (*PENDING_STATES, *OWNED_STATES)
    return would("cancel", [row for row in rows if row.state in states], found.code)


class _Cancel:
    """What became of jobs that were to be canceled."""

    def __init__(self, options: argparse.Namespace, asker: Person, found: Chosen) -> None:
        self.options, self.asker, self.found = options, asker, found
        self.code = found.code
        self.gone: list[Row] = []
        self.asked: list[Row] = []
        self.ended: list[Row] = []

    def do(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Cancels them; those that it did not come to before a signal came."""
        is_few = len(rows) <= FEW
        if not is_few:
            rows = self._at_once(rows)
        for place, row in enumerate(rows):
            if noted() is not None:
                return rows[place:]
            # Of few their names are told; and a process that is known can be told at once.
            self._one(read(row) if is_few or row.state in OWNED_STATES else row)
        return ()

    def _at_once(self, rows: Sequence[Row]) -> list[Row]:
        """Cancels those that have not begun in one go; those that are left for one by one."""
        pending = [row.entry for row in rows if row.state in PENDING_STATES]
        result = cancellation.cancel(self.asker.spool, pending, stop=lambda: noted() is not None)
        done = {entry.id for entry in result.done}
        self.gone += [row for row in rows if row.id in done]
        left = [row for row in rows if row.id not in done]
        if result.problem is None:
            return left
        moved_on = {entry.id for entry in result.moved_on}
        refused = [row for row in left if row.state in PENDING_STATES and row.id not in moved_on]
        self._refused(result.problem, f"cannot cancel {which(refused)}" if refused else "")
        return [row for row in left if row not in refused]

    def _one(self, row: Row) -> None:
        try:
            became = queue.cancel(
                self.asker.spool,
                row,
                self.asker.node,
                time.time_ns(),
                only_pending=self.options.waiting,
                late_s=self.asker.config.settle_s,
            )
        except (RoundqError, OSError) as error:
            self._refused(error, f"cannot cancel {row.id}")
            return
        if became == queue.ASKED:
            # It was taken meanwhile, and which node stops it is told.
            self.asked.append(_now(self.asker, row) if row.state in PENDING_STATES else row)
        elif became == queue.GONE:
            self.gone.append(row)
        elif became == queue.ENDED:
            self.ended.append(row)
        elif row.id in self.found.exact:
            say(f"not canceled, since a node has taken it: {title(row)}")
            self.code = SOME_FAILED

    def _refused(self, error: RoundqError | OSError, what: str) -> None:
        if isinstance(error, RoundqError):
            say(str(error), error.hint)
        else:
            say(f"{what}: {error.strerror or error}")
        self.code = SOME_FAILED

    def tell_done(self) -> None:
        """Says what was done. That nobody can read it did not stop the doing."""
        if self.options.quiet:
            return
        if self.gone:
            print(f"canceled {which(self.gone)}")
        if self.asked and not self.options.wait:
            print(f"canceling {which(self.asked, on_nodes(self.asked))}")

    def tell(self) -> None:
        """Says what was done, and of which jobs nothing was since they had ended."""
        unread: OSError | None = None
        try:
            self.tell_done()
        except OSError as error:
            unread = error
        if not self.options.quiet:
            code = tell_ended(self.asker, self.ended, self.found, is_alone=not (self.gone or self.asked))
            self.code = code or self.code
        if unread is not None:
            raise unread


def tell_ended(
    asker: Person, ended: Sequence[Row], found: Chosen, *, is_alone: bool, hint: str | None = None
) -> int:
    """Says of jobs that they had ended: of each that was named, of others if nothing was done; the code.

    `hint` says what to do instead.
    """
    code = 0
    others = []
    for row in ended:
        if row.id not in found.each:
            others.append(row)
            continue
        say(f"{title(read(row))} has ended already: {_ended_how(asker, row)}", hint)
        code = SOME_FAILED
    if others and is_alone and not code:
        say(f"{which(others)}: {'it has' if len(others) == 1 else 'all have'} ended already", hint)
        code = SOME_FAILED
    return code


def _left(rows: Iterable[Row], done: str, stop: KeyboardInterrupt) -> int:
    """Says which jobs were not come to before a signal came; the exit code."""
    say(f"interrupted; not {done}: {ranges.brief(row.id for row in rows)}")
    return interrupted(stop)


def on_nodes(rows: Sequence[Row]) -> str:
    nodes = sorted({row.node for row in rows if row.node})
    return f" on {visible(', '.join(nodes))}" if nodes and len(nodes) <= NODES_TOLD else ""


def _now(asker: Person, row: Row) -> Row:
    entry = locate(asker.spool, [row.id]).get(row.id)
    return row if entry is None else row_of(asker.spool, entry, True)


def _ended_how(asker: Person, row: Row) -> str:
    now = read(row) if row.state in ENDED_STATES else _now(asker, row)
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
    if is_quiet:
        return 0
    dead = [row for row in ended.values() if row.state == CANCELED]
    if dead:
        print(f"canceled {which(dead)}")
    others = [row for row in ended.values() if row.state != CANCELED]
    for row in others:
        say(f"{title(row)} ended before it could be canceled: {outcome.sentence(row)}")
    return SOME_FAILED if others else 0


def tell_silent(asker: Person, asked: Iterable[Row]) -> None:
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
    found = _chosen(options, asker, "restart")
    # Of jobs that were not named each by itself those are meant that can be restarted.
    rows = [read(row) for row in found.rows if row.id in found.each or row.state == RUNNING]
    rows = [
        row
        for row in rows
        if row.id in found.each or (row.state == RUNNING and row.record and row.record.job.restartable)
    ]
    code = found.code
    if not rows and found.rows and not options.all:
        say(f"none of {which(found.rows)} runs and was submitted with --restart")
        code = SOME_FAILED
    if options.dry_run:
        ready = [row for row in rows if row.state == RUNNING and row.record and row.record.job.restartable]
        return would("restart", ready, code)
    asked: list[Row] = []
    ended: list[Row] = []
    left: Sequence[Row] = ()
    hold()
    for place, row in enumerate(rows):
        if noted() is not None:
            left = rows[place:]
            break
        try:
            became = queue.restart(asker.spool, row, asker.node, late_s=asker.config.settle_s)
        except RoundqError as error:
            say(str(error), error.hint)
            code = SOME_FAILED
            continue
        (asked if became == queue.ASKED else ended).append(row)
    if asker.config.auto_start and asked:
        with contextlib.suppress(OSError, RoundqError):
            queue.start_daemon(asker.spool, os.environ, asker.node)
    hint = f"to run it again: rq rerun {shell_ids([ended[0].id])}" if len(ended) == 1 else None
    code = tell_ended(asker, ended, found, is_alone=not asked, hint=hint) or code
    if asked:
        print(f"restarting {which(asked, on_nodes(asked))}")
    if (stop := noted()) is not None and left:
        return _left(left, "restarted", stop)
    return code
