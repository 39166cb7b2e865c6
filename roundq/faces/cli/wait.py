"""The verb that waits for the end of jobs of mine: `wait`."""

from __future__ import annotations

import argparse
import time

from roundq.actors import outcome, queue, sets
from roundq.actors.listing import Row
from roundq.faces.cli import SOME_FAILED, say
from roundq.faces.cli.named import JOBS, add_jobs, looked_at, read, require, title
from roundq.faces.cli.parser import Parser
from roundq.faces.cli.person import Person, any_person
from roundq.faces.cli.progress import progress
from roundq.words import ranges
from roundq.words.groups import MARK
from roundq.words.quantities import parse_duration
from roundq.words.states import COMPLETED, ENDED_STATES

#: Of more that did not end well the others are only counted.
TOLD_MOST = 10


def build_parser(verb: str) -> Parser:
    """The parser of `wait`."""
    parser = Parser(
        verb,
        f"[--any] [--timeout T] {JOBS}...",
        "Wait until jobs have ended. Exits with 0 if all went well, 1 if some did not, 124 after the"
        " timeout.",
        "rq wait fit && rq run -J plot ./plot fit.out",
    )
    add_jobs(parser)
    add = parser.add_argument
    add(
        "--any",
        action="store_true",
        help="return when the first has ended, and print the ids of those that have",
    )
    add(
        "--timeout",
        metavar="T",
        type=_timeout,
        help="give up after this: minutes, or as 90s, 2h30m; 0: look once",
    )
    return parser


def _timeout(text: str) -> float:
    return 0.0 if text in ("0", "0s") else parse_duration(text)


def run(_verb: str, options: argparse.Namespace) -> int:
    """Does what the verb says; its exit code."""
    return wait(options, any_person())


def wait(options: argparse.Namespace, asker: Person) -> int:
    """Waits for the end of what is named."""
    require(options, "wait for")
    found = looked_at(asker, options.jobs, options.job_name, read=False)
    until_s = None if options.timeout is None else time.monotonic() + options.timeout
    ended: dict[str, Row] = {}
    rows = found.rows
    while rows:
        with progress(asker) as on_look:
            ended |= queue.wait(
                asker.spool,
                [row.id for row in rows],
                # Of what is added later there is as much less.
                options.timeout if until_s is None or not ended else max(0.0, until_s - time.monotonic()),
                node=asker.node,
                late_s=asker.config.settle_s,
                on_look=on_look,
                least=1 if options.any else None,
            )
        rows = [] if options.any else _more(options, asker, ended)
    if options.any:
        for row in ended.values():
            print(row.id)
    bad = [row for row in ended.values() if not (outcome.is_well(row) or _counts_no_more(row, options))]
    _tell(bad)
    return SOME_FAILED if bad else found.code


def _more(options: argparse.Namespace, asker: Person, ended: dict[str, Row]) -> list[Row]:
    """The jobs of sets that were added meanwhile, or that wait or run again.

    Of those that were run again or set aside after they had ended, `ended` is told how it is now.
    """
    words = [word for word in options.jobs if word.startswith(MARK)]
    if not words:
        return []
    again = looked_at(asker, words, read=False).rows
    more = [row for row in again if row.id not in ended or row.state not in ENDED_STATES]
    for row in () if more else again:
        if row.state == COMPLETED == ended[row.id].state:
            continue
        now = read(row)
        if now.state not in ENDED_STATES:
            more.append(now)
        elif now.record is not None or now.state != ended[row.id].state:
            ended[row.id] = now
    return more


def _counts_no_more(row: Row, options: argparse.Namespace) -> bool:
    """Whether its user has set it aside, or took it out of a set, which is waited for, before it began."""
    record = row.record
    if record is None:
        return False
    return record.retired or (f"{MARK}{record.job.set}" in options.jobs and sets.removed(row.state, record))


def _tell(bad: list[Row]) -> None:
    for row in bad[:TOLD_MOST]:
        say(f"job {title(row)} {outcome.sentence(row)}")
    if len(bad) > TOLD_MOST:
        rest = bad[TOLD_MOST:]
        say(f"{len(rest)} more did not end well: {ranges.brief(row.id for row in rest)}")
