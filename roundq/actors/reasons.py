"""Why a job is where it is, in sentences: what each daemon of its user last said of it, or how it ended.

Called by `actors.queue.why`. The sentences of daemons are the policy's own, taken
from the cards; nothing is decided here.
"""

from __future__ import annotations

import time

from roundq.actors import outcome
from roundq.actors.listing import Row
from roundq.records import neighbours
from roundq.records import spool as spools
from roundq.records.cards import LEAVING, Card
from roundq.records.neighbours import SILENT_S, Seen
from roundq.records.spool import Spool
from roundq.words.errors import RoundqError
from roundq.words.job import NS, Job
from roundq.words.quantities import format_age
from roundq.words.states import CLAIMED, ENDED_STATES, HELD, RUNNING


def why(spool: Spool, row: Row, node: str, now_ns: int) -> list[str]:
    """Why one of my jobs waits, or what it does, or how it ended: sentences, at least one.

    `node` is where we are: only there can a daemon be told to live. Each sentence about a node begins
    with its name.
    """
    if row.state in ENDED_STATES:
        return [outcome.sentence(row)]
    if row.record is None:
        return [f"its job file cannot be read: {row.problem}; no daemon will start it"]
    seen = neighbours.Neighbourhood(node).look([spool], time.monotonic())
    if row.state == RUNNING:
        return [_runs(row, now_ns), *_asked(spool, row), *_unseen(row, seen)]
    if row.state == CLAIMED:
        return [f"{row.node} has taken it and is about to start it", *_asked(spool, row), *_unseen(row, seen)]
    held = ["it is held, and does not start before it is released"] if row.state == HELD else []
    return held + _waits(row.record.job, seen)


def _runs(row: Row, now_ns: int) -> str:
    assert row.record is not None
    since_s = max(0, now_ns - row.record.started_ns) / NS if row.record.started_ns else 0.0
    return f"it runs on {row.node or 'a node of roundqueue 0.2.9'}, for {format_age(since_s)} now"


def _asked(spool: Spool, row: Row) -> list[str]:
    try:
        verbs = spools.requests(spool).get(row.id, set())
    except OSError:
        return []
    return [f"it was asked to {verb}, which its supervisor has not yet done" for verb in sorted(verbs)]


def _unseen(row: Row, seen: list[Seen]) -> list[str]:
    """What is to be said if nothing is heard of the node that has it."""
    return [
        f"{one.card.node} has not been seen for {format_age(one.silent_s)}: the job may still run there"
        for one in seen
        if one.card.node == row.node and not one.is_alive and one.silent_s >= SILENT_S
    ]


def _waits(job: Job, seen: list[Seen]) -> list[str]:
    sentences = [f"{one.card.node}: {_said(job, one)}" for one in sorted(seen, key=lambda one: one.card.node)]
    if not any(one.is_alive for one in seen):
        sentences.append("no daemon of yours runs on any node: rq daemon starts one")
    return sentences


def _said(job: Job, one: Seen) -> str:
    card: Card = one.card
    if not one.is_alive:
        if card.state == LEAVING or one.silent_s < SILENT_S:
            return "your daemon there has stopped"
        return f"not seen for {format_age(one.silent_s)}"
    if card.is_legacy:
        return "a daemon of roundqueue 0.2.9 runs there, which does not say"
    shape = (job.cores, job.memory_required, job.priority)
    for said in card.said:
        if (said.cores, said.memory, said.priority) == shape:
            return said.says
    return "its daemon has not yet looked at it"


def silent_nodes(spool: Spool, node: str) -> dict[str, float]:
    """My nodes that nothing is heard of, with for how many seconds; seen from `node`."""
    try:
        seen = neighbours.Neighbourhood(node).look([spool], time.monotonic())
    except (OSError, RoundqError):
        return {}
    return {
        one.card.node: one.silent_s
        for one in seen
        if one.card.node != node and not one.is_alive and one.silent_s >= SILENT_S
    }
