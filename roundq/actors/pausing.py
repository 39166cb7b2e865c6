"""How a command asks for running jobs to stand still, to go on, or to be sent a signal.

The job's supervisor acts, see roundqueue(7), "Pause and signal". Each request names the attempt it means.
"""

from __future__ import annotations

from roundq.actors import environ
from roundq.actors.listing import Row
from roundq.actors.queue import is_legacy, nudge
from roundq.records import signals
from roundq.records import spool as spools
from roundq.records.spool import Spool
from roundq.words.errors import RoundqError
from roundq.words.states import CLAIMED, ENDED_STATES, RUNNING
from roundq.world import files

#: What became of a request: its supervisor was asked; there was nothing to ask for.
ASKED, ALREADY = "asked", "already"


def pause(spool: Spool, row: Row, node: str) -> str:
    """Asks for a running job of mine to stand still; ALREADY if that was asked before, and holds.

    Durable when this returns. Raises RoundqError if it does not run, or cannot be asked.
    """
    mark = _mark(row, "pause")
    if spools.asked_of(spool, row.id, "pause") == mark:
        return ALREADY
    spools.request(spool, row.id, "pause", node, mark)
    nudge(row, node)
    return ASKED


def go_on(spool: Spool, row: Row, node: str) -> str:
    """Lets a job go on that stands still, or was asked to; ALREADY if it does. Raises as `pause`."""
    mark = _mark(row, "continue")
    # Another attempt's request is nobody's any more; this one's is what keeps it still.
    meant = spools.asked_of(spool, row.id, "pause")
    if meant is None:
        return ALREADY
    directory = spool.directory("requests")
    with files.explained(f"continue job {row.id}"):
        files.remove(f"{directory}/{row.id}.pause")
        files.sync_directory(directory)
    nudge(row, node)
    return ASKED if meant == mark else ALREADY


def send(spool: Spool, row: Row, node: str, number: int, *, to_all: bool) -> str:
    """Asks for a signal to be sent to the command of a running job of mine, or `to_all` of its processes.

    The name of the request, which is there until the signal was sent. Raises RoundqError as `pause`.
    """
    name = signals.ask(spool, row.id, _mark(row, "signal"), number, node, to_all=to_all)
    nudge(row, node)
    return name


def _mark(row: Row, verb: str) -> str:
    """The attempt that is meant."""
    if row.state in ENDED_STATES:
        raise RoundqError(f"cannot {verb} {row.id}: it has ended: it is {row.state}")
    if row.state == CLAIMED:
        raise RoundqError(f"cannot {verb} {row.id}: it is just starting", "try again")
    if row.state != RUNNING:
        hint = f"rq hold {row.id} keeps it from starting" if verb == "pause" else None
        raise RoundqError(f"cannot {verb} {row.id}: it is {row.state}, not running", hint)
    if is_legacy(row):
        raise RoundqError(
            f"cannot {verb} {row.id}: a daemon of roundqueue 0.2.9 runs it on {row.node or 'some node'}"
        )
    if row.record is None or row.record.process is None:
        why = row.problem or "it does not say who runs it"
        raise RoundqError(f"cannot {verb} {row.id}: its job file cannot be read: {why}")
    return environ.mark(row.record.process)
