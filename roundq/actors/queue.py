"""The queue as programs and the command line use it: look, submit, cancel, wait.

Prints nothing and never decides what should run. A look changes nothing; what it
does to the queue are transitions of `records.spool` that any command of the user may
make, and requests to those who own a record.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterable, Sequence

from roundq.actors import environ
from roundq.actors.awaited import (
    LOOKS_IN_VAIN,
    UNREADABLE_S,
    WAIT_HERE_S,
    WAIT_MAX_S,
    WAIT_MIN_S,
    Awaited,
    cannot_tell,
)
from roundq.actors.listing import Listing, Row, find, listing, locate, row_of
from roundq.actors.reasons import why
from roundq.actors.submission import admit, check, daemon_runs, everybody, mine, start_daemon, submit
from roundq.records import changes
from roundq.records import spool as spools
from roundq.records.spool import Entry, Spool
from roundq.words.errors import NoSuchJob, RoundqError, WaitTimeout
from roundq.words.states import CANCELED, ENDED_STATES, HELD, OWNED_STATES, PENDING_STATES, RUNNING

__all__ = [
    "ASKED",
    "BEGUN",
    "ENDED",
    "GONE",
    "UNREADABLE_S",
    "WAIT_HERE_S",
    "WAIT_MAX_S",
    "WAIT_MIN_S",
    "Listing",
    "Row",
    "admit",
    "cancel",
    "check",
    "daemon_runs",
    "everybody",
    "find",
    "listing",
    "mine",
    "restart",
    "start_daemon",
    "submit",
    "wait",
    "why",
]

#: What became of a request to cancel or restart: it was done at once; its owner was asked; it had ended
#: before; it has begun, and was to be left alone then.
GONE, ASKED, ENDED, BEGUN = "gone", "asked", "ended", "begun"
#: How often a job that moves on is looked for again.
_TRIES = 5
#: How long a record that is being changed is waited for; that of a dead process is mended meanwhile.
CHANGED_MOST_S = 5.0
#: And so long before a command puts it back itself.
MEND_S = 1.0


# ---------------------------------------------------------------- cancel, restart


def cancel(
    spool: Spool, row: Row, node: str, now_ns: int, *, only_pending: bool = False, late_s: float = 0.0
) -> str:
    """Cancels one of my jobs: GONE if it never began, ASKED of its owner, or ENDED before that.

    What was asked is durable when this returns, and done as soon as the job's supervisor sees it: at
    once if it runs on this `node`. With `only_pending` a job that a node has taken is left to run: BEGUN.
    What others do is seen after `late_s` at the latest. Raises RoundqError if nobody here can cancel it.
    """
    for _ in range(_TRIES):
        row = unsealed(spool, row, late_s, "cancel", node)
        if row.state in ENDED_STATES:
            return ENDED
        if only_pending and row.state in OWNED_STATES:
            return BEGUN
        if row.state in PENDING_STATES:
            try:
                if spools.cancel(spool, row.entry, now_ns, node):
                    return GONE
            except FileNotFoundError:
                if not late_s:
                    raise
                # It is listed, and has moved on: this node learns it late.
                time.sleep(min(late_s / _TRIES, WAIT_MAX_S))
        elif not is_legacy(row):
            spools.request(spool, row.id, "cancel", node)
            nudge(row, node)
            # It may have gone back to waiting before the request was there to be seen.
            entry = refreshed(spool, row, late_s).entry
            if entry.state in OWNED_STATES:
                return ASKED
            if entry.state in ENDED_STATES:
                spools.answer(spool, row.id, ("cancel",))
                return ASKED if entry.state == CANCELED else ENDED
        else:
            raise RoundqError(
                f"cannot cancel {row.id}: a daemon of roundqueue 0.2.9 runs it on {row.node or 'some node'}",
                "cancel it with the rq 0.2.9 it was submitted with",
            )
        row = refreshed(spool, row, late_s)
    raise RoundqError(f"cannot cancel {row.id}: it keeps moving between nodes", "try again")


def restart(spool: Spool, row: Row, node: str, *, late_s: float = 0.0) -> str:
    """Asks for one of my running jobs to be stopped and to wait again: ASKED, or ENDED before that.

    What others do is seen after `late_s` at the latest. Raises RoundqError if it does not run, or was not
    submitted as restartable.
    """
    if row.state in ENDED_STATES:
        return ENDED
    if row.state != RUNNING:
        raise RoundqError(f"cannot restart {row.id}: it is {row.state}, not running")
    if is_legacy(row):
        raise RoundqError(
            f"cannot restart {row.id}: a daemon of roundqueue 0.2.9 runs it on {row.node or 'some node'}",
            "restart it with the rq 0.2.9 it was submitted with",
        )
    if row.record is None:
        raise RoundqError(f"cannot restart {row.id}: its job file cannot be read: {row.problem}")
    if not row.record.job.restartable:
        raise RoundqError(
            f"cannot restart {row.id}: it was not submitted with --restart, so it may not be run twice",
            f"end it, and run it again: rq cancel --wait {row.id} && rq rerun {row.id}",
        )
    process = row.record.process
    if process is None:
        # Its attempt is over, and it is on its way to wait again: a request could only meet the next one.
        return ASKED
    # The attempt that is meant: the request may outlive it.
    spools.request(spool, row.id, "restart", node, environ.mark(process))
    nudge(row, node)
    entry = refreshed(spool, row, late_s).entry
    if entry.state not in OWNED_STATES:
        # Its attempt is over; the request must not meet the next one.
        spools.answer(spool, row.id, ("restart",))
    return ENDED if entry.state in ENDED_STATES else ASKED


def unsealed(spool: Spool, row: Row, late_s: float, verb: str, node: str = "") -> Row:
    """The row of a job once nobody changes it any more, which takes a moment.

    What a dead process of this very node was changing is put where it belongs, if `node` is given. Raises
    RoundqError, which says that it cannot be done what `verb` says, if it takes too long.
    """
    began_s = time.monotonic()
    while row.state == HELD and row.entry.is_sealed:
        took_s = time.monotonic() - began_s
        if took_s >= max(CHANGED_MOST_S, late_s):
            raise RoundqError(
                f"cannot {verb} {row.id}: it is being changed on {row.node}",
                f"try again; if {row.node} is gone for good: rq lost --force {row.node}",
            )
        if took_s >= MEND_S and row.node == node and changes.is_left_here(row.entry):
            changes.put_back(spool, row.entry)
        time.sleep(WAIT_MIN_S)
        row = refreshed(spool, row, late_s)
    return row


def is_legacy(row: Row) -> bool:
    """Whether a 0.2.9 daemon owns it: the names of its running records do not say on which node."""
    return row.state in OWNED_STATES and row.entry.node is None


def refreshed(spool: Spool, row: Row, late_s: float) -> Row:
    """The row of the same job as it is now. Raises NoSuchJob if it is met nowhere, again and again."""
    if row.past:
        raise NoSuchJob(
            f"nothing can be done to job {row.id} any more: only the history tells of it",
            f"rq show {row.id} has its command: submit it again",
        )
    looks, began_s = 0, time.monotonic()
    while looks < LOOKS_IN_VAIN or time.monotonic() - began_s < late_s:
        entry = locate(spool, (row.id,)).get(row.id)
        if entry is not None:
            return row_of(spool, entry, row.is_mine)
        looks += 1
        time.sleep(min(WAIT_MIN_S * looks, WAIT_HERE_S))
    raise NoSuchJob(f"job {row.id} is no longer in the queue")


def nudge(row: Row, node: str) -> None:
    """Makes a supervisor on this node look for requests at once."""
    # One that has not begun yet does not expect the signal.
    if row.state != RUNNING or row.entry.node != node or row.record is None or row.record.process is None:
        return
    from roundq.world import procs

    # It is a shortcut: the supervisor finds the request all the same.
    with contextlib.suppress(OSError):
        procs.send(row.record.process, signal.SIGUSR1)


# ---------------------------------------------------------------- wait


def wait(
    spool: Spool,
    ids: Iterable[str],
    timeout_s: float | None = None,
    *,
    node: str = "",
    late_s: float = 0.0,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
    on_look: Callable[[dict[str, Entry]], None] | None = None,
    least: int | None = None,
) -> dict[str, Row]:
    """The rows of these jobs once all have ended, or at `least` so many, by id.

    Looks kindly: directories that did not change are not listed again, and pauses grow from
    `WAIT_MIN_S` while nothing happens. `on_look` is told after each look where the jobs are. Raises
    WaitTimeout after `timeout_s`, and NoSuchJob for an id that is nowhere: never after a single look,
    since a job that moves may be missed, and not before `late_s`, after which what others do is seen.
    Raises SpoolError for one that a home which cannot be read hides for `UNREADABLE_S`.
    """
    wanted = dict.fromkeys(ids)
    looks = Awaited(spool, node=node, late_s=late_s, clock=clock)
    began_s = clock()
    while True:
        looks.look(wanted)
        for job_id in looks.unknown:
            raise no_job(job_id)
        if on_look is not None:
            on_look(looks.met)
        ended = looks.ended
        if len(ended) >= min(len(wanted), len(wanted) if least is None else least):
            return {job_id: ended[job_id] for job_id in wanted if job_id in ended}
        for job_id, problem in looks.hidden.items():
            raise cannot_tell(job_id, problem)
        pause_s = looks.pause_s
        if timeout_s is not None:
            left_s = timeout_s - (clock() - began_s)
            if left_s <= 0:
                raise not_ended([job_id for job_id in wanted if job_id not in ended], timeout_s)
            pause_s = min(pause_s, max(left_s, 0.001))
        pause(pause_s)


def no_job(job_id: str) -> NoSuchJob:
    """What is said of an id that is nowhere, nor in the history."""
    return NoSuchJob(f"no such job: {job_id}")


def not_ended(ids: Sequence[str], timeout_s: float) -> WaitTimeout:
    """What is said of jobs that did not end in time."""
    which = f"job {ids[0]} has" if len(ids) == 1 else f"{len(ids)} jobs have"
    return WaitTimeout(f"{which} not ended within {timeout_s:g} s")
