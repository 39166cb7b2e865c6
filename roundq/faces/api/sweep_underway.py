"""Which tasks of a sweep the queue has: by the plans in the commands of the arrays that wait or run.

Of an array one record is read, since its tasks differ in index and command only.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from roundq.faces.api import sweep_plans as plans
from roundq.records import census as censuses
from roundq.records import spool as spools
from roundq.records.census import Census
from roundq.records.spool import Spool
from roundq.words.errors import RoundqError
from roundq.words.job import Record
from roundq.words.states import CLAIMED, HELD, OWNED_STATES, PENDING_STATES, RUNNING, WAITING

_LIVE = (*PENDING_STATES, *OWNED_STATES)
#: Of these, jobs that moved on while they were read are looked for again.
_TRIES = 3
_ORDER = ("held", "waiting", "running")
_TOLD = {HELD: "held", WAITING: "waiting", CLAIMED: "waiting", RUNNING: "running"}


class Underway(NamedTuple):
    """The job that has a task: its id, whether it is held, waiting or running, and whether it does again what
    is done."""

    id: str
    state: str
    is_forced: bool


def underway(out_dirs: Sequence[str], environ: Mapping[str, str]) -> dict[str, Underway]:
    """By output directory, the job that will run its task. Raises RoundqError and OSError for a queue that
    cannot be read."""
    from roundq.actors import submission

    mine = submission.mine(environ)
    if not spools.exists(mine):
        return {}
    wanted = {f"{out_dir}/{plans.DIRECTORY}" for out_dir in out_dirs}
    met: dict[str, Underway] = {}
    census = censuses.take(mine, _LIVE)
    for array, by_state in census.arrays.items():
        record = _any_record(mine, census, array)
        told = plans.of_command(record.job.command) if record is not None else None
        if record is None or told is None or os.path.dirname(told[0]) not in wanted:
            continue
        try:
            head, tasks = plans.read(told[0])
        except (FileNotFoundError, RoundqError):
            # Its tasks will say so themselves.
            continue
        for state, jobs in by_state.items():
            for job in jobs:
                job_id = censuses.id_of(job)
                index = int(job_id.rpartition("_")[2])
                for task in tasks[index : index + head.chunk]:
                    directory = f"{task.out_dir}/{task.hash}"
                    known = met.get(directory)
                    # Two jobs may have it, as of two sweeps at once; and one that moves is met twice.
                    if known is None or _ORDER.index(known.state) <= _ORDER.index(_TOLD[state]):
                        met[directory] = Underway(job_id, _TOLD[state], head.force)
    return met


def _any_record(mine: Spool, census: Census, array: str) -> Record | None:
    """The record of one task of an array, None if all that were looked at have moved on."""
    tried = 0
    for state in _LIVE:
        for job in census.arrays[array].get(state, ())[:_TRIES]:
            tried += 1
            try:
                return spools.read(mine, censuses.entry_of(state, job))
            except FileNotFoundError:
                continue
            except RoundqError:
                return None
    return None
