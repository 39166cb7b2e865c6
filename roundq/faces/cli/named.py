"""Which jobs of mine the words of a command mean: ids, or exact names."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable

from roundq.actors import queue
from roundq.actors.listing import Row, ended_ns
from roundq.faces.cli.parser import shown
from roundq.records.spool import Spool
from roundq.words.errors import NoSuchJob
from roundq.words.job import NS
from roundq.words.states import ENDED_STATES

#: A job that moves may be missed by one look.
LOOKS = 3
LOOK_AGAIN_S = 0.05
#: Jobs of one name that ended less than this before the last submission belong to the same batch.
BATCH_S = 60


def find(
    spool: Spool,
    words: Iterable[str],
    names: Collection[str] = (),
    *,
    pause: Callable[[float], None] = time.sleep,
) -> tuple[list[Row], list[str]]:
    """The jobs that ids or names, and names alone, mean, and what means none after several looks."""
    rows, unknown = queue.find(spool, words, names=names)
    for _ in range(LOOKS - 1):
        if not unknown:
            break
        pause(LOOK_AGAIN_S)
        more, unknown = queue.find(
            spool,
            [word for word in unknown if word not in names],
            names=[word for word in unknown if word in names],
        )
        known = {row.id for row in rows}
        rows += [row for row in more if row.id not in known]
    return rows, unknown


def find_all(spool: Spool, words: Iterable[str]) -> list[Row]:
    """The jobs that ids and names mean. Raises NoSuchJob for a word that means none."""
    rows, unknown = find(spool, words)
    if unknown:
        raise no_such_job(unknown[0])
    return rows


def no_such_job(word: str) -> NoSuchJob:
    """What is said of a word that means no job of mine."""
    return NoSuchJob(f"no such job: {shown(word)}", "rq q --mine lists your jobs")


def only_current(rows: Iterable[Row], words: Iterable[str]) -> list[Row]:
    """Without those of a name that ended before its current batch; jobs meant by their id are kept.

    A name is used again and again. Its batch begins with the oldest of its jobs that have not ended, or
    else with the one submitted last.
    """
    rows, words = list(rows), set(words)
    named: dict[str, list[Row]] = {}
    for row in rows:
        if row.record is not None and row.id not in words:
            named.setdefault(row.record.job.name, []).append(row)
    dropped: set[str] = set()
    for same in named.values():
        live = [row.record.job.submitted_ns for row in same if row.state not in ENDED_STATES and row.record]
        since_ns = min(live) if live else max(row.record.job.submitted_ns for row in same if row.record)
        dropped.update(
            row.id
            for row in same
            if row.state in ENDED_STATES and row.record and ended_ns(row.record) < since_ns - BATCH_S * NS
        )
    return [row for row in rows if row.id not in dropped]


def title(row: Row) -> str:
    """A job in a sentence: its id, and its name in quotes if that is known."""
    return row.id if row.record is None else f"{row.id} {shown(row.record.job.name)}"
