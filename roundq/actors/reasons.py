"""Why a job is where it is, in sentences: what each daemon of its user last said of it, or how it ended.

Called by `actors.queue.why`. The sentences of daemons are the policy's own, taken
from the cards; nothing is decided here.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from roundq.actors import outcome, preemption
from roundq.actors.ending import way_of
from roundq.actors.listing import Row
from roundq.records import cards, neighbours
from roundq.records import spool as spools
from roundq.records.cards import LEAVING, Card
from roundq.records.neighbours import SILENT_S, Seen
from roundq.records.spool import Spool
from roundq.words import policy
from roundq.words.errors import RoundqError
from roundq.words.job import NS, Job
from roundq.words.quantities import format_age
from roundq.words.states import ENDED_STATES, HELD, OWNED_STATES, RUNNING


def why(spool: Spool, row: Row, node: str, now_ns: int, of: Iterable[Spool] = ()) -> list[str]:
    """Why one of my jobs waits, or what it does, or how it ended: sentences, at least one.

    `node` is where we are: only there can a daemon be told to live. `of` are the spools of everybody, as
    far as they are to be asked whether its node is heard of. Each sentence about a node begins with its
    name.
    """
    if row.state in ENDED_STATES:
        return [outcome.sentence(row)]
    if row.record is None:
        return [f"its job file cannot be read: {row.problem}; no daemon will start it"]
    if row.state in OWNED_STATES:
        does = _runs(row, now_ns) if row.state == RUNNING else _begins(spool, row)
        return [does, *_asked(spool, row), *_unseen(row, silent_nodes(spool, node, of))]
    seen = neighbours.seen_now([spool], spool, node, time.monotonic())
    held = ["it is held, and does not start before it is released"] if row.state == HELD else []
    return held + _waits(row.record.job, seen)


def _runs(row: Row, now_ns: int) -> str:
    assert row.record is not None
    since_s = max(0, now_ns - row.record.started_ns) / NS if row.record.started_ns else 0.0
    return f"it runs on {row.node or 'a node of roundqueue 0.2.9'}, for {format_age(since_s)} now"


def _begins(spool: Spool, row: Row) -> str:
    node = row.node or "a node"
    try:
        jobs = cards.read(spool, node).jobs
    except (OSError, RoundqError):
        jobs = ()
    if any(job.id == row.id and job.settling for job in jobs):
        return f"{node} has taken it; its claim is settling, until it is known that no other node has it"
    return f"{node} has taken it and is about to start it"


def _asked(spool: Spool, row: Row) -> list[str]:
    try:
        verbs = spools.requests(spool).get(row.id, set())
    except OSError:
        return []
    way = preemption.asked(spool, row.id, row.record) if "preempt" in verbs and row.record else None
    gives_way = [] if way is None else [f"it gives way {way_of(way)}, and will wait again"]
    verbs.discard("preempt")
    asked = [f"it was asked to {verb}, which its supervisor has not yet done" for verb in sorted(verbs)]
    return asked + gives_way


def _unseen(row: Row, silent: Mapping[str, float]) -> list[str]:
    """What is to be said if nothing is heard of the node that has it."""
    if row.node is None or row.node not in silent:
        return []
    return [f"{row.node} has not been seen for {format_age(silent[row.node])}: the job may still run there"]


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
    shape = policy.want_of("", job, 0).shape
    for said in card.said:
        if said.shape == shape:
            return said.says
    return "its daemon has not yet looked at it"


def silent_nodes(me: Spool, node: str, of: Iterable[Spool] = ()) -> dict[str, float]:
    """The nodes that nothing is heard of, with for how many seconds; seen from `node`.

    By the cards of `of`, and by mine.
    """
    others = [spool for spool in of if spool.path != me.path]
    try:
        seen = neighbours.seen_now([me, *others], me, node, time.monotonic())
    except (OSError, RoundqError):
        return {}
    return neighbours.silence(seen, node)
