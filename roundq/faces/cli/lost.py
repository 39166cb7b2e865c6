"""The verb `lost`: a node will not come back as it was; its jobs go to others, or are known to be lost."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Iterable

from roundq.actors import lost, outcome, queue
from roundq.actors.listing import Row, age_key, locate, row_of
from roundq.faces.cli import SOME_FAILED
from roundq.faces.cli.named import title
from roundq.faces.cli.parser import Parser
from roundq.faces.cli.person import Person, person
from roundq.faces.cli.progress import progress
from roundq.words.errors import RoundqError
from roundq.words.quantities import visible
from roundq.words.states import CLAIMED, ENDED_STATES, OWNED_STATES

#: How soon it is looked again what became of the jobs, and for how long beyond two polls of a daemon.
LOOK_S, MORE_S = 0.1, 10.0


def build_parser(verb: str) -> Parser:
    """The parser of `lost`."""
    parser = Parser(
        verb,
        "[--force] NODE...",
        "Say that a node will not come back as it was. What it has of yours is taken over: jobs submitted"
        " with --restart wait again, others are shown as lost.",
        "rq lost node3",
    )
    parser.add_argument("nodes", metavar="NODE", nargs="+", help="a node, as rq nodes names it")
    parser.add_argument(
        "-f",
        "--force",
        action="store_true",
        help="also if it was heard of a moment ago, and also jobs of which it was about to write something",
    )
    return parser


def run(_verb: str, options: argparse.Namespace) -> int:
    """Asks for the takeover and says what became of each job; the exit code."""
    asker = person()
    everybody = queue.everybody(asker.spool, asker.config.homes, asker.config.commons)
    code = 0
    asked: list[lost.Asked] = []
    for node in dict.fromkeys(options.nodes):
        try:
            calling = lost.call_lost(asker.spool, node, asker.node, everybody, is_forced=options.force)
        except RoundqError as error:
            _complain(str(error), error.hint)
            code = SOME_FAILED
            continue
        asked += sorted(calling.asked, key=lambda one: age_key(one.entry.id))
        for entry, why in sorted(calling.left, key=lambda one: age_key(one[0].id)):
            _complain(f"job {entry.id} is left as it is: {why}")
            code = SOME_FAILED
        for entry, state in sorted(calling.mended, key=lambda one: age_key(one[0].id)):
            print(f"{visible(entry.id)}, which {visible(node)} was changing, is {state}")
        if not calling.asked and not calling.left and not calling.mended:
            print(f"{visible(node)} has no job of yours")
    if not asked:
        return code
    if asker.config.auto_start:
        with contextlib.suppress(OSError, RoundqError):
            queue.start_daemon(asker.spool, os.environ, asker.node)
    return _told(asker, asked) or code


def _complain(what: str, hint: str | None = None) -> None:
    print(f"rq: {visible(what)}", file=sys.stderr)
    if hint:
        print(f"hint: {visible(hint)}", file=sys.stderr)


def _told(asker: Person, asked: list[lost.Asked]) -> int:
    """Waits until a daemon has taken the jobs over, and says what became of each; the exit code."""
    before = {one.entry.id: one for one in asked}
    until_s = time.monotonic() + 2 * asker.config.poll_max_s + MORE_S
    with progress(asker) as on_look:
        while True:
            met = locate(asker.spool, before)
            on_look(met)
            for job_id, entry in met.items():
                row = row_of(asker.spool, entry, True)
                if _is_taken(row, before[job_id]):
                    del before[job_id]
                    print(_became(row), flush=True)
            if not before or time.monotonic() > until_s:
                break
            time.sleep(LOOK_S)
    if before:
        _complain(
            f"no daemon of yours has taken over {_listed(before)} yet; what was asked for is kept",
            "see which of your daemons live: rq nodes; rq daemon starts one here",
        )
        return SOME_FAILED
    return 0


def _is_taken(row: Row, asked: lost.Asked) -> bool:
    """Whether a job is no longer the lost node's, nor on its way from there."""
    if row.state not in OWNED_STATES:
        return True
    if asked.entry.state == CLAIMED:
        return row.node != asked.entry.node
    # Seized, but not yet recovered, it is the same attempt still.
    return row.record is not None and row.record.attempt > asked.attempt


def _became(row: Row) -> str:
    if row.state in ENDED_STATES:
        return f"{title(row)} {outcome.sentence(row)}"
    if row.state in OWNED_STATES:
        return f"{title(row)} is run again on {visible(row.node or '')}"
    return f"{title(row)} waits again"


def _listed(ids: Iterable[str]) -> str:
    some = sorted(ids)
    more = f" and {len(some) - 5} more" if len(some) > 5 else ""
    return f"{', '.join(some[:5])}{more}"
