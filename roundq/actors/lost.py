"""What a user says of a node that will not come back as it was: requests to take over the jobs it has.

Any daemon of the user acts on them (`tenants.Tenants.take_from_lost`); nothing is moved here.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from roundq.actors import environ
from roundq.records import cards, changes, neighbours
from roundq.records import spool as spools
from roundq.records.spool import Entry, Spool
from roundq.words.errors import RecordError, RoundqError
from roundq.words.job import Identity
from roundq.words.quantities import format_age
from roundq.words.states import CLAIMED, HELD, OWNED_STATES
from roundq.world import files

#: A node whose card changed within this time is not lost by a slip of the tongue.
HEARD_S = 3 * cards.BEAT_S


class Asked(NamedTuple):
    """A job that is to be taken over, and the attempt that is meant."""

    entry: Entry
    attempt: int


@dataclass(slots=True)
class Calling:
    """What was asked: the jobs that are to be taken over, those left, and why.

    `mended` are those that the node was changing, and where they are now.
    """

    asked: list[Asked] = field(default_factory=list)
    left: list[tuple[Entry, str]] = field(default_factory=list)
    mended: list[tuple[Entry, str]] = field(default_factory=list)


def call_lost(
    spool: Spool, node: str, here: str, everybody: Iterable[Spool] = (), *, is_forced: bool = False
) -> Calling:
    """Asks the user's daemons to take over every job that `node` has; durable when it returns.

    Raises RoundqError if the node is this one or not known, or was heard of within `HEARD_S`, unless
    `is_forced`; then also records are taken over to which it may be about to write.
    """
    if node == here:
        raise RoundqError(
            f"{node} is this node: its daemon knows which of its processes live", "rq daemon, if none runs"
        )
    entries = [entry for entry in spools.scan(spool, (HELD, *OWNED_STATES)) if entry.node == node]
    silent_s = _silent_s(spool, node, here, everybody)
    if not entries and silent_s is None:
        raise RoundqError(f"no node {node} is known", "rq nodes lists those that are")
    if silent_s is not None and silent_s < HEARD_S and not is_forced:
        raise RoundqError(
            f"{node} was heard of {format_age(silent_s)} ago: its jobs may run, and would run twice",
            f"cancel or restart them; if you are sure that {node} is gone: rq lost --force {node}",
        )
    calling = Calling()
    for entry in entries:
        if entry.state != HELD:
            _call(spool, entry, here, calling, is_forced)
        elif not is_forced:
            why = f"{node} was changing its record; if it is gone for good: rq lost --force {node}"
            calling.left.append((entry, why))
        elif (state := changes.put_back(spool, entry)) is not None:
            calling.mended.append((entry, state))
    return calling


def _call(spool: Spool, entry: Entry, here: str, calling: Calling, is_forced: bool) -> None:
    try:
        record = spools.read(spool, entry)
    except FileNotFoundError:
        return
    except RecordError as error:
        calling.left.append((entry, f"its job file cannot be read: {error}"))
        return
    if entry.is_sealed and not is_forced and spools.destination(record) is None:
        why = f"{entry.node} was about to write to its record; if it is gone for good: rq lost --force"
        calling.left.append((entry, f"{why} {entry.node}"))
        return
    meant = entry.node or ""
    if entry.state != CLAIMED:
        process = _process(record.process, [attempt.process for attempt in record.attempts])
        if process is None:
            calling.left.append((entry, "its record names no supervisor"))
            return
        meant = environ.mark(process)
    spools.request(spool, entry.id, "lost", here, f"{meant}\nforce" if is_forced else meant)
    calling.asked.append(Asked(entry, record.attempt))


def _process(now: Identity | None, before: list[Identity | None]) -> Identity | None:
    """The supervisor of an attempt; of one whose next is open it is the last of those before."""
    return now or (before[-1] if before else None)


def _silent_s(spool: Spool, node: str, here: str, everybody: Iterable[Spool]) -> float | None:
    """For how long nothing was heard of a node, by anybody's card there; None if nobody has any."""
    with contextlib.suppress(OSError):
        # The server's time now, against which the cards' is measured.
        files.remove(spools.temporary_of(spool, here, b"", sync=False))
    others = [other for other in everybody if other.path != spool.path]
    seen = neighbours.seen_now([spool, *others], spool, here, time.monotonic())
    return min((one.silent_s for one in seen if one.card.node == node), default=None)
