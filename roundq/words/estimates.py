"""Pure: when a waiting job starts at the latest, where the time limits of what is ahead of it tell.

An estimate is an upper bound or nothing. It holds if nobody comes who goes first, and while nothing
else takes what the node has.
"""

from __future__ import annotations

from collections.abc import Sequence

from roundq.words.backfill import Stay, could_fit, fits_in_s
from roundq.words.facts import Want
from roundq.words.quantities import ALL_CORES
from roundq.words.room import Need, covers
from roundq.words.table import Group, Table

#: Jobs ahead that are counted one by one; further back nobody plans by the minute.
AHEAD_MAX = 64


def starts_in_s(want: Want, line: Sequence[tuple[Want, Group]], table: Table) -> float | None:
    """In how many seconds a job starts at the latest; None if it cannot be known.

    `line` are the jobs of one user that wait on, in the order of their turns, with nobody else at the table.
    """
    place = next(i for i, (each, _) in enumerate(line) if each.id == want.id)
    need = line[place][1].need
    ahead, behind = line[:place], line[place + 1 :]
    alike = all(group.need == need for group in {group for _, group in ahead})
    # One behind that needs less of anything may pass.
    if (
        alike
        and len(ahead) <= AHEAD_MAX
        and all(_takes_as_much(g.need, need) for g in {g for _, g in behind})
    ):
        return _in_line_s(need, [each.limit_s for each, _ in ahead], table)
    if not ahead:
        return _patient_s(want, need, behind, table)
    return None


def _takes_as_much(need: Need, other: Need) -> bool:
    """Whether a job that does not fit where the other does not."""
    if need.cores != ALL_CORES and (other.cores == ALL_CORES or need.cores < other.cores):
        return False
    enough = need.memory >= other.memory and need.gpus >= other.gpus
    return enough and covers(need.licenses, other.licenses)


def _in_line_s(need: Need, limits: Sequence[float | None], table: Table) -> float | None:
    """Jobs that need the same, one after the other: that one ends early makes none of them late."""
    stays = list(table.stays)
    at_s = 0.0
    for limit_s in (*limits, None):
        in_s = fits_in_s(need, table.empty, stays, None)
        if in_s is None:
            return None
        at_s = max(at_s, in_s)
        stays = [stay for stay in stays if stay.left_s is None or stay.left_s > at_s]
        stays.append(Stay(need, None if limit_s is None else at_s + limit_s))
    return at_s


def _patient_s(want: Want, need: Need, behind: Sequence[tuple[Want, Group]], table: Table) -> float | None:
    """The first in line may be passed until its patience is over; from then on the node is kept for it."""
    if want.kept_on not in (None, table.node) or need.memory or not could_fit(need, table.empty, table.stays):
        return None
    passing = {group.shape.limit_s for _, group in behind}
    left = {stay.left_s for stay in table.stays}
    if None in passing or None in left:
        return None
    until_s = max(0.0, table.patience_s - want.waited_s)
    longest_s = max((limit_s for limit_s in passing if limit_s is not None), default=0.0)
    return max(until_s + longest_s, *(left_s for left_s in left if left_s is not None))
