"""The verbs that decide which jobs may start: `hold`, `release`, `rerun`; and `retire`, which settles one."""

from __future__ import annotations

import argparse
import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from roundq.actors import changing, maxfails, outcome, queue, submission
from roundq.actors.changing import Changer, Outcome
from roundq.actors.listing import Row, row_of
from roundq.actors.maxfails import Excess
from roundq.faces.cli import SOME_FAILED, say
from roundq.faces.cli.named import JOBS, Chosen, add_dry_run, add_jobs, chosen, require, title, which, would
from roundq.faces.cli.parser import Parser
from roundq.faces.cli.person import Person, any_person
from roundq.faces.cli.stopping import hold as hold_signals
from roundq.faces.cli.stopping import interrupted, noted
from roundq.records import changes
from roundq.words.begins import begin_text
from roundq.words.errors import RoundqError
from roundq.words.job import Record
from roundq.words.quantities import format_age, visible
from roundq.words.ranges import array_of
from roundq.words.states import (
    CLAIMED,
    COMPLETED,
    ENDED_STATES,
    HELD,
    OWNED_STATES,
    PENDING_STATES,
    RUNNING,
    WAITING,
)


class _Told(NamedTuple):
    """What the help of a verb tells: a sentence, an example, and which jobs it takes."""

    sentence: str
    example: str
    takes: str


_HELP = {
    "hold": _Told(
        "Keep jobs that have not begun from starting, until they are released. What runs goes on.",
        "rq hold fit 20-25",
        "jobs that have not begun",
    ),
    "release": _Told(
        "Let jobs go that are on hold. One that has to wait for a time or for other jobs starts after that.",
        "rq release fit",
        "jobs on hold",
    ),
    "rerun": _Told(
        "Run jobs again that have ended, however they did: under the same id, with the same command,"
        " directory and environment. rq show tells of the earlier attempts.",
        "rq rerun 'state=failed and age<1d'",
        "jobs that have ended",
    ),
    "retire": _Told(
        "Count jobs that did not end well as settled: a set is done although they failed. They stay failed.",
        "rq retire fit",
        "jobs that did not end well",
    ),
}


def build_parser(verb: str) -> Parser:
    """The parser of `hold`, `release`, `rerun` or `retire`."""
    told = _HELP[verb]
    parser = Parser(verb, f"[OPTION...] {JOBS}...", told.sentence, told.example)
    add_jobs(parser, told.takes)
    if verb == "retire":
        parser.add_argument("--undo", action="store_true", help="count them as not settled again")
    add_dry_run(parser)
    return parser


def run(verb: str, options: argparse.Namespace) -> int:
    """Does what the verb says; its exit code."""
    require(options, verb)
    return {"hold": _hold, "release": _release, "rerun": _rerun, "retire": _retire}[verb](
        options, any_person()
    )


# ---------------------------------------------------------------- the verbs


def _hold(options: argparse.Namespace, asker: Person) -> int:
    found = chosen(asker, options.jobs, options.job_name, ended=False, read=False)
    rows, late_s = found.rows, asker.config.settle_s
    if options.dry_run:
        return would("hold", [row for row in rows if row.state in PENDING_STATES], found.code)
    work = Work(asker, found, "held", "hold")
    left = work.do(rows, lambda row: changing.hold(asker.spool, row, asker.node, late_s))
    work.sync()
    for told in work.lines():
        print(told)
    work.tell_late()
    return work.end(left, _not_held)


def _not_held(row: Row) -> tuple[str, str | None]:
    if row.state in ENDED_STATES:
        return f"it has ended: {outcome.sentence(row)}", None
    if row.state == CLAIMED:
        return f"{visible(row.node or 'a node')} is about to start it", f"rq cancel {row.id} ends it"
    return f"it runs on {visible(row.node or 'a node')}", f"rq pause {row.id} lets it stand still"


def _release(options: argparse.Namespace, asker: Person) -> int:
    found = chosen(asker, options.jobs, options.job_name, ended=False, read=False)
    late_s, now_ns = asker.config.settle_s, time.time_ns()
    rows = [row for row in found.rows if row.entry.is_on_hold or row.entry.is_sealed or row.id in found.each]
    if options.dry_run:
        return would("release", [row for row in rows if row.entry.is_on_hold], found.code)
    work = Work(asker, found, "released", "release")
    left = work.do(
        rows or found.rows, lambda row: changing.release(asker.spool, row, asker.node, now_ns, late_s)
    )
    work.sync()
    for told in work.lines(_conditions):
        print(told)
    work.start_daemon()
    return work.end(left, _not_released)


def _conditions(one: Outcome) -> str:
    """When a job may start that was let go, if it does not simply wait.

    Whether the jobs that it comes after have ended is for a daemon to look at.
    """
    if one.state != HELD or one.record is None:
        return ""
    job = one.record.job
    begin_ns = max(job.begin_ns, one.record.not_before_ns)
    now_ns = time.time_ns()
    for_time = f"not before {begin_text(begin_ns, now_ns)}" if begin_ns > now_ns else ""
    for_jobs = f"after {'job' if len(job.after) == 1 else 'jobs'} {_after(one.record)}" if job.after else ""
    return f"it starts {', '.join(filter(None, (for_jobs, for_time)))}"


def _after(record: Record) -> str:
    from roundq.words.quantities import format_ids

    return visible(format_ids(sorted({one.job for one in record.job.after})))


def _not_released(row: Row) -> tuple[str, str | None]:
    if row.state == HELD:
        return "it is not on hold, but waits for something", f"rq why {row.id} says for what"
    if row.state == WAITING:
        return "it is not on hold, but waits to be started", None
    return _not_held(row)[0], None


def _rerun(options: argparse.Namespace, asker: Person) -> int:
    found = chosen(asker, options.jobs, options.job_name, ended=True, read=False)
    rows = [row for row in found.rows if row.state in ENDED_STATES or row.id in found.each]
    ended = [row for row in rows if row.state in ENDED_STATES]
    over = maxfails.excesses(asker.spool, ended)
    refused = _refused(over, ended)
    tried = {row.id for row in rows}
    code = SOME_FAILED if refused else found.code
    ended = [row for row in ended if row.id not in refused]
    if options.dry_run:
        return would("rerun", ended, code)
    submission.admit(asker.spool, asker.config, len(ended))
    changer = Changer(asker.spool, asker.node, time.time_ns(), asker.config.settle_s)
    work = Work(asker, found, "runs again:", "rerun")
    work.code = code
    first = [row for one in over.values() for row in one.first if row.id not in refused]
    sooner = {row.id for row in first}
    rows = first + [row for row in rows if row.id not in sooner and row.id not in refused]
    try:
        changer.seal(first)
        left = work.do(rows if tried else found.rows, changer.rerun, changer.draft_rerun)
    finally:
        changer.unseal()
        changer.drop_drafts()
    work.sync()
    for told in work.lines(_conditions):
        print(told)
    skipped = [row for row in found.rows if row.id not in tried]
    if skipped and work.done:
        say(f"not rerun, since not ended: {which(skipped)}")
    work.start_daemon()
    return work.end(left, _not_rerun)


def _refused(over: Mapping[str, Excess], ended: Sequence[Row]) -> set[str]:
    """The ids of tasks that would be canceled at once, since too many others stay failed; says so."""
    refused: set[str] = set()
    for array, one in over.items():
        if one.stay > one.most:
            rows = [row for row in ended if array_of(row.id) == array]
            tasks = "1 task" if one.stay == 1 else f"{one.stay} tasks"
            say(
                f"cannot rerun {which(rows)}: {tasks} of {visible(array)} would stay failed, and --max-fails"
                f" allows {one.most}",
                f"run these again, too: rq rerun 'array={visible(array)} and (state=failed or state=lost)'",
            )
            refused.update(row.id for row in rows)
    return refused


def _not_rerun(row: Row) -> tuple[str, str | None]:
    if row.state in PENDING_STATES:
        return "it has not begun", None
    return f"it has not ended: it is {row.state}", (
        f"rq restart {row.id} stops it and runs it again" if row.state == RUNNING else None
    )


def _retire(options: argparse.Namespace, asker: Person) -> int:
    found = chosen(asker, options.jobs, options.job_name, ended=True, read=False)
    rows = [row for row in found.rows if row.state in changing.UNWELL or row.id in found.each]
    unwell = [row for row in rows if row.state in changing.UNWELL]
    if options.dry_run:
        return would("undo the retirement of" if options.undo else "retire", unwell, found.code)
    changer = Changer(asker.spool, asker.node, time.time_ns(), asker.config.settle_s)
    work = Work(asker, found, "counts again:" if options.undo else "retired", "retire")
    left = work.do(rows or found.rows, lambda row: changer.retire(row, undo=options.undo))
    work.sync()
    for told in work.lines():
        print(told)
    is_undo = options.undo

    def why(row: Row) -> tuple[str, str | None]:
        if row.state == COMPLETED:
            return "it ended well", None
        if row.state in ENDED_STATES:
            return ("it was not retired" if is_undo else "it is retired already"), None
        return f"it has not ended: it is {row.state}", None

    return work.end(left, why)


# ---------------------------------------------------------------- many jobs


#: So many jobs are prepared together: a fraction of a second, in which nobody hears a signal.
DRAFTED = 500


class Work:
    """What one command does to jobs, one after the other, and what it says of that."""

    def __init__(self, asker: Person, found: Chosen, done: str, verb: str) -> None:
        self.asker, self.found, self.said, self.verb = asker, found, done, verb
        self.done: list[Outcome] = []
        self.undone: list[Row] = []
        self.code = found.code

    def do(
        self,
        rows: Sequence[Row],
        act: Callable[[Row], Outcome],
        draft: Callable[[Sequence[Row]], None] = lambda _: None,
    ) -> Sequence[Row]:
        """Does it to each job, or leaves it alone; those that it did not come to before a signal came.

        `draft` prepares some of them together, just before it is their turn.
        """
        hold_signals()
        for place, row in enumerate(rows):
            if noted() is not None:
                return rows[place:]
            if place % DRAFTED == 0:
                draft(rows[place : place + DRAFTED])
            try:
                became = act(row)
            except RoundqError as error:
                say(str(error), error.hint)
                self.code = SOME_FAILED
            except OSError as error:
                say(f"cannot {self.verb} {row.id}: {error.strerror or error}")
                self.code = SOME_FAILED
            else:
                if became.state is None:
                    self.undone.append(became.row)
                else:
                    self.done.append(became)
        return ()

    def sync(self) -> None:
        """Makes it durable. Says so if it cannot be: it is done all the same."""
        states = {one.state for one in self.done if one.state is not None} - {*OWNED_STATES}
        try:
            changes.sync(self.asker.spool, states)
        except OSError as error:
            say(
                f"it is done, but a crash of the server could undo that: {error.strerror}",
                "free some space, if that is what is missing, and look again later",
            )
            self.code = SOME_FAILED

    def lines(self, more: Callable[[Outcome], str] = lambda _: "", separator: str = "; ") -> list[str]:
        """What was done, a line for all jobs of which `more` says the same."""
        alike: dict[str, list[Row]] = {}
        for one in self.done:
            alike.setdefault(more(one), []).append(row_with(one))
        return [line for text, rows in alike.items() for line in self.told(self.said, rows, text, separator)]

    def told(self, done: str, rows: Sequence[Row], more: str = "", separator: str = "; ") -> list[str]:
        """A line that says what was done to these jobs; none if there are none."""
        if not rows:
            return []
        if len(rows) > 1 and more.startswith("it "):
            more = more.replace("it ", "they ", 1).replace("waits", "wait", 1)
        return [f"{done} {which(rows)}" + (f"{separator}{more}" if more else "")]

    def tell_late(self) -> None:
        """Says that a claim which is not seen yet goes before what was done; see roundqueue(7), Settle."""
        late_s = self.asker.config.settle_s
        if late_s and any(one.row.state == WAITING for one in self.done):
            say(
                f"what a node began to start in the last {format_age(late_s)} starts as it was",
                "settle in roundq.toml(5) says how late nodes see each other",
            )

    def start_daemon(self) -> None:
        """Has somebody start what waits now."""
        if self.asker.config.auto_start and any(changing.is_waiting(one.state) for one in self.done):
            with contextlib.suppress(OSError, RoundqError):
                queue.start_daemon(self.asker.spool, os.environ, self.asker.node)

    def end(self, left: Sequence[Row], why: Callable[[Row], tuple[str, str | None]]) -> int:
        """Says what could not be done, and what a signal left; the exit code."""
        is_single = not self.done and len(self.undone) == 1
        each = [row for row in self.undone if is_single or row.id in self.found.each]
        for row in each:
            text, hint = why(_read(row))
            say(f"cannot {self.verb} {title(_read(row))}: {text}", hint)
            self.code = SOME_FAILED
        told = {row.id for row in each}
        others = [row for row in self.undone if row.id not in told]
        reasons: dict[str, list[Row]] = {}
        for row in others:
            reasons.setdefault(row.state, []).append(row)
        for state, rows in reasons.items():
            say(f"cannot {self.verb} what is {state}: {which(rows)}")
            self.code = SOME_FAILED
        if not self.done and not self.undone and not left and not self.code:
            say(f"nothing to {self.verb}")
            self.code = SOME_FAILED
        if (stop := noted()) is not None and left:
            say(f"interrupted; left as they were: {which(left)}")
            return interrupted(stop)
        return self.code


def row_with(one: Outcome) -> Row:
    """The row of a job with what was written of it, where that is known."""
    return one.row if one.record is None else replace(one.row, record=one.record)


def _read(row: Row) -> Row:
    return row_of(row.spool, row.entry, True) if row.record is None and row.problem is None else row
