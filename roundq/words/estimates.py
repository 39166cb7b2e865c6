"""Pure: when a waiting job starts at the latest, where the time limits of what is ahead of it tell.

An estimate is an upper bound or nothing. It holds if nobody comes who goes first, while no further job is
paused, and while nothing else takes what the node has.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice, takewhile

from roundq.words.backfill import Stay, could_fit, fits_in_s
from roundq.words.facts import Want
from roundq.words.quantities import ALL_CORES
from roundq.words.room import Need, covers
from roundq.words.table import Kind, Table

#: Jobs ahead that are counted one by one; further back nobody plans by the minute.
AHEAD_MAX = 64


def in_line_s(line: Sequence[tuple[Want, Kind]], table: Table) -> dict[str, float]:
    """In how many seconds each of the first in a line starts at the latest, as far as it can be known.

    `line` are the jobs of one user that wait on, in the order of their turns, with nobody else at the table.
    """
    if not line:
        return {}
    first, need = line[0][0], line[0][1].need
    alike = list(islice(takewhile(lambda one: one[1].need == need, line), AHEAD_MAX))
    others = {kind for _, kind in line if kind.need != need}
    # One behind that needs less of anything may pass.
    if all(_takes_as_much(kind.need, need) for kind in others):
        return _one_after_the_other_s(need, [want for want, _ in alike], table)
    behind = [kind for want, kind in line if want is not first]
    in_s = _patient_s(first, need, {kind.shape.limit_s for kind in behind}, table)
    return {} if in_s is None else {first.id: in_s}


def _takes_as_much(need: Need, other: Need) -> bool:
    """Whether a job that does not fit where the other does not."""
    if need.cores != ALL_CORES and (other.cores == ALL_CORES or need.cores < other.cores):
        return False
    enough = need.memory >= other.memory and need.gpus >= other.gpus
    return enough and covers(need.licenses, other.licenses)


def _one_after_the_other_s(need: Need, wants: Sequence[Want], table: Table) -> dict[str, float]:
    """Of jobs that all need the same none starts later because one that is ahead ends early."""
    stays = list(table.stays)
    found: dict[str, float] = {}
    at_s = 0.0
    for want in wants:
        in_s = fits_in_s(need, table.empty, stays, None)
        if in_s is None:
            break
        found[want.id] = at_s = max(at_s, in_s)
        stays = [stay for stay in stays if stay.left_s is None or stay.left_s > at_s]
        over_s = table.over_s(want.limit_s)
        stays.append(Stay(need, None if over_s is None else at_s + over_s))
    return found


def _patient_s(want: Want, need: Need, passing: set[float | None], table: Table) -> float | None:
    """The first in line may be passed until its patience is over; from then on the node is kept for it."""
    if want.kept_on is not None and table.node not in want.kept_on:
        return None
    if need.memory or not could_fit(need, table.empty, table.stays):
        return None
    left = {stay.left_s for stay in table.stays}
    if None in passing or None in left:
        return None
    until_s = max(0.0, table.patience_s - want.waited_s)
    longest_s = max((limit_s + table.grace_s for limit_s in passing if limit_s is not None), default=0.0)
    return max(until_s + longest_s, *(left_s for left_s in left if left_s is not None))
