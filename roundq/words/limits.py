"""Pure: how much one user may have, and whose turns count for how much.

The administrator's limits and shares, one's own limits, and what follows from both. Who
applies them is in `policy` and in the round; where they are written is in `config` and
`records/control`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

#: What a limit, a count of licences and a weight may be at most; more cores than any cluster has.
LIMIT_MAX, LICENSES_MAX = 1_000_000_000, 1_000_000
WEIGHT_MIN, WEIGHT_MAX = 1e-6, 1e6


@dataclass(frozen=True, slots=True)
class Limit:
    """What one user may have at most in the whole cluster; None is no limit.

    `cores` and `jobs` count what runs or was just claimed, `waiting` what waits.
    """

    cores: int | None = None
    jobs: int | None = None
    waiting: int | None = None

    def less(self, other: Limit) -> Limit:
        """Of two limits that both hold the smaller one, each number for itself."""
        return Limit(
            _less(self.cores, other.cores), _less(self.jobs, other.jobs), _less(self.waiting, other.waiting)
        )

    def left(self, cores: int, jobs: int) -> tuple[int | None, int | None]:
        """The cores and jobs that may still start for a user who has so many; never below 0, None: any."""
        return (
            None if self.cores is None else max(0, self.cores - cores),
            None if self.jobs is None else max(0, self.jobs - jobs),
        )


def _less(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


@dataclass(frozen=True, slots=True)
class Limits:
    """The administrator's limits: of everybody, and of users by name, whose own entries win.

    An entry of a user has only what it says itself: a number, or None for no limit.
    """

    everybody: Limit = Limit()
    users: Mapping[str, Mapping[str, int | None]] = field(default_factory=dict)

    def limit_of(self, user: str) -> Limit:
        """What holds for this user."""
        of = self.users.get(user, {})
        return Limit(
            of.get("cores", self.everybody.cores),
            of.get("jobs", self.everybody.jobs),
            of.get("waiting", self.everybody.waiting),
        )


@dataclass(frozen=True, slots=True)
class Shares:
    """Weights of users by name and of Unix groups, all above 0; who has none has 1."""

    users: Mapping[str, float] = field(default_factory=dict)
    groups: Mapping[str, float] = field(default_factory=dict)

    def weight_of(self, user: str, groups: Iterable[str] = ()) -> float:
        """The weight of a user in these groups: the user's own, else the largest of the groups', else 1."""
        if user in self.users:
            return self.users[user]
        return max((self.groups[group] for group in groups if group in self.groups), default=1.0)
