"""Pure: how much each user has had, and so whose turn it is. Levels, tilt and the fair share.

A user's level is running cores for each unit of weight; the lowest goes next. With equal
weights and no history that is the fewest running cores.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from roundq.words.quantities import visible
from roundq.words.room import cores_text

#: However much a user has used, a turn is worth this part of the weight at least.
TILT_MIN = 0.25
#: What was used counts in steps of this part of what was due. Two daemons that read a card at different
#: moments must not each hold the other's user for the next one.
USED_STEP = 1 / 256


class Level(NamedTuple):
    """Where a user stands; the lower goes next.

    `height` is running cores by weight and tilt, `used` what was used of late by what was due, `running`
    the cores that are behind it. The latter is for sentences, and never decides.
    """

    height: float
    used: float
    running: int


def turn_key(level: Level, submitted_ns: int, user: str) -> tuple[tuple[float, ...], int, str]:
    """Orders users by whose turn it is: the lowest level, the earlier submission, then the name."""
    return level[:2], submitted_ns, user


@dataclass(frozen=True)
class Shares:
    """What is due to whom.

    `weights` are of users, 1 if missing. `usage` is the part that each user used of all that the cluster
    could have given in the time that is remembered. `active` are those who have something running or waiting.
    """

    # Without slots: cached_property needs a place to write to.
    active: frozenset[str]
    cluster_cores: int = 0
    weights: Mapping[str, float] = field(default_factory=dict)
    usage: Mapping[str, float] = field(default_factory=dict)

    def level(self, user: str, running: int) -> Level:
        """The level of a user with so many running cores."""
        return Level(running / self._worth(user), self.used(user), running)

    def used(self, user: str) -> float:
        """What a user used of late, as a part of the share of its weight; in steps."""
        usage = self.usage.get(user, 0.0)
        # A card may say anything, also what is no number.
        if not usage > 0.0:
            return 0.0
        due = self._weight(user) / self._weights
        return min(1e6, usage / due) // USED_STEP * USED_STEP

    def tilt(self, user: str) -> float:
        """What a turn is worth to this user: 1 without history, a half after using what was due."""
        return float(max(TILT_MIN, 2.0 ** -self.used(user)))

    def fair(self, user: str) -> float:
        """The cores that are due to a user now, of all those of the live nodes."""
        return self.cluster_cores * self._worth(user) / self._worths

    @property
    def are_equal(self) -> bool:
        """Whether all have the same worth, so that running cores alone tell whose turn it is."""
        return len({self._worth(user) for user in self.active}) < 2

    def _weight(self, user: str) -> float:
        return self.weights.get(user, 1.0)

    def _worth(self, user: str) -> float:
        return self._worth_of.get(user) or self._weight(user) * self.tilt(user)

    @cached_property
    def _weights(self) -> float:
        return sum(map(self._weight, sorted(self.active))) or 1.0

    @cached_property
    def _worths(self) -> float:
        return sum(map(self._worth, sorted(self.active))) or 1.0

    @cached_property
    def _worth_of(self) -> dict[str, float]:
        return {user: self._weight(user) * self.tilt(user) for user in self.active}


def share_text(shares: Shares, user: str, running: int) -> str:
    """ "bob has 3 cores running of a fair share of 8"; without the share where it tells nothing."""
    text = f"{visible(user)} has {cores_text(running)} running"
    return (
        text if not shares.cluster_cores else f"{text} of a fair share of {cores_number(shares.fair(user))}"
    )


def cores_number(cores: float) -> str:
    """A share in cores, with one decimal where it is not whole: "8", "2.7"."""
    return f"{cores:.1f}".removesuffix(".0")


def all_active(known: Iterable[str], *more: Iterable[str]) -> frozenset[str]:
    """Everybody who takes part, as far as anybody says so."""
    return frozenset(known).union(*more)
