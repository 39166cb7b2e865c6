"""Independent judges of whose turn it was: by when jobs ran, by their own account.

All instants are of the one monotonic clock of the box; users are called by their numbers.

    shares        how many cores each user had on average
    too_many      jobs that began although their user had more than the fair share
    apart         for which part of a time somebody was further than so many cores from fair
    most_at_once  the most jobs, and the most cores, that a user had at any instant
"""

from __future__ import annotations

import itertools
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from tests.cluster.checkers import Interval

#: Daemons on several nodes may decide in the same moment, each without the others' last word.
MOMENT_S = 1.0


def _steps(runs: Iterable[Interval], begin: float, end: float) -> Iterator[tuple[float, Counter[int]]]:
    """For how long each user had so many cores, from `begin` to `end`."""
    runs = [run for run in runs if run.is_command and run.start < end and run.end > begin]
    moments = {begin, end, *(at for run in runs for at in (run.start, run.end) if begin < at < end)}
    for since, until in itertools.pairwise(sorted(moments)):
        had: Counter[int] = Counter()
        for run in runs:
            if run.start <= since and run.end >= until:
                had[run.uid] += run.cores
        yield until - since, had


def shares(runs: Iterable[Interval], begin: float, end: float) -> dict[int, float]:
    """The cores that each user had on average in that time."""
    had: dict[int, float] = {}
    for run in runs:
        lasted_s = min(run.end, end) - max(run.start, begin)
        if run.is_command and lasted_s > 0:
            had[run.uid] = had.get(run.uid, 0.0) + run.cores * lasted_s / (end - begin)
    return had


def too_many(
    runs: Sequence[Interval], fair: Mapping[int, float], begin: float, end: float, slack: float = 1.0
) -> list[str]:
    """Jobs that began in that time while their user had `slack` cores more than fair, or more.

    Those that began in the moment before do not count: on other nodes they may not have been seen yet.
    """
    wrong = []
    for run in runs:
        if begin <= run.start < end:
            there = [
                other
                for other in runs
                if other.uid == run.uid and other.start < run.start - MOMENT_S and other.end > run.start
            ]
            had = sum(other.cores for other in there)
            if had >= fair[run.uid] + slack:
                wrong.append(f"{run} began when its user had {had} cores, and fair are {fair[run.uid]:g}")
    return wrong


def apart(
    runs: Iterable[Interval], fair: Mapping[int, float], begin: float, end: float, slack: float = 1.0
) -> float:
    """The part of that time in which somebody had more than `slack` cores too many, or others had his.

    Cores between two jobs are nobody's: who has too few, but by no more than those, is about to have them.
    """
    total, wrong_s = sum(fair.values()), 0.0
    for lasted_s, had in _steps(runs, begin, end):
        free = total - sum(had.values())
        if any(had[uid] > cores + slack or had[uid] + free < cores - slack for uid, cores in fair.items()):
            wrong_s += lasted_s
    return wrong_s / (end - begin)


def most_at_once(runs: Iterable[Interval], uid: int) -> tuple[int, int]:
    """Jobs and cores."""
    mine = [run for run in runs if run.uid == uid and run.is_command and run.start < run.end]
    jobs = cores = 0
    for run in mine:
        there = [other for other in mine if other.start <= run.start < other.end]
        jobs, cores = max(jobs, len(there)), max(cores, sum(other.cores for other in there))
    return jobs, cores
