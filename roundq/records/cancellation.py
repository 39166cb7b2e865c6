"""Many jobs that have not begun, canceled in one go: a rename for each, and one sync for all.

What one such rename is, `spool.cancel` says. Here the facts are left out, since the moves tell all of it; the
times of the files say when (roundqueue(7), "Cancel and restart").
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

from roundq.records import spool as spools
from roundq.records.spool import SUFFIX, Entry, Spool
from roundq.words.errors import RoundqError, SpoolError
from roundq.words.states import CANCELED, PENDING_STATES, REQUESTS
from roundq.world import files


class Canceled(NamedTuple):
    """What became of jobs that were to be canceled: those that are, those that moved on meanwhile or are
    being changed, and what stopped it, if anything did. What was not come to is in neither."""

    done: list[Entry]
    moved_on: list[Entry]
    problem: RoundqError | OSError | None = None


def cancel(spool: Spool, entries: Iterable[Entry], *, stop: Callable[[], bool] = lambda: False) -> Canceled:
    """cancel of held and waiting jobs, until `stop` says so. Durable when it returns without a problem."""
    done: list[Entry] = []
    moved_on: list[Entry] = []
    problem: RoundqError | OSError | None = None
    target = spool.directory(CANCELED)
    for entry in entries:
        if stop():
            break
        path = f"{target}/{entry.id}{SUFFIX}"
        # A sealed one would be written anew by whoever changes it, and run.
        may_move = entry.state in PENDING_STATES and not entry.is_sealed
        try:
            if not may_move or not files.move(spools.path_of(spool, entry), path):
                moved_on.append(entry)
                continue
        except OSError as error:
            problem = error
            break
        done.append(entry)
        # Else it would be as old as its submission, and forgotten too early.
        with contextlib.suppress(OSError):
            files.touch(path)
    if done:
        problem = _settle(spool, done) or problem
    return Canceled(done, moved_on, problem)


def _settle(spool: Spool, done: list[Entry]) -> SpoolError | None:
    """Makes the moves durable, and takes away what was asked of jobs that never began."""
    unsynced: OSError | None = None
    try:
        files.sync_directory(spool.directory(CANCELED))
    except OSError as error:
        unsynced = error
    ids = {entry.id for entry in done}
    with contextlib.suppress(OSError):
        for name in files.names(spool.directory("requests")):
            job_id, _, verb = name.rpartition(".")
            if job_id in ids and verb in REQUESTS:
                files.remove(f"{spool.directory('requests')}/{name}")
    if unsynced is None:
        return None
    return SpoolError(
        f"{len(done)} jobs are canceled, but a crash of the server could undo that: {unsynced.strerror}",
        "free some space, if that is what is missing, and look again later: rq q --mine",
    )
