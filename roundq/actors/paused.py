"""Which running jobs stand still, as their supervisors tell. Changes nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import NamedTuple

from roundq.actors import environ
from roundq.actors.listing import Row
from roundq.records import spool as spools
from roundq.records.spool import Spool
from roundq.words.states import RUNNING


class Stand(NamedTuple):
    """What a supervisor told: the attempt of this mark stands still, since then (epoch, its node's clock)."""

    mark: str
    since_s: int


def stands(spool: Spool, asked: Mapping[str, set[str]] | None = None) -> dict[str, Stand]:
    """What was told of jobs that stand still, by id; `asked` are the requests, if they were listed before.

    Whether it is the attempt that runs now, `is_paused` says. Nothing, if it cannot be told.
    """
    found = {}
    with contextlib.suppress(OSError):
        for job_id, verbs in (spools.requests(spool) if asked is None else asked).items():
            if "paused" in verbs:
                mark, _, since = (spools.asked_of(spool, job_id, "paused") or "").partition("\n")
                found[job_id] = Stand(mark, int(since) if since.isdecimal() and len(since) < 12 else 0)
    return found


def is_paused(row: Row, told: Mapping[str, Stand]) -> bool:
    """Whether this running job stands still."""
    stand = told.get(row.id)
    if stand is None or row.state != RUNNING or row.record is None or row.record.process is None:
        return False
    return stand.mark == environ.mark(row.record.process)
