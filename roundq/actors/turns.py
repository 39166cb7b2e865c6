"""Whose turn is still believed: a user who has it and begins nothing is passed over for a while.

A turn is the right to start the next job, and all others wait for it. A card can ask for turns and never
take them, out of malice or because its daemon cannot start anything; that must not keep a node empty.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from roundq.actors.occupancy import Lodger
from roundq.words.job import Identity

#: A user may have a turn for this long without beginning a job; an honest daemon needs a second.
TURN_S = 60.0
#: For how long he is passed over then, at first and at most: each time twice as long, until he begins one.
PASS_MIN_S, PASS_MAX_S = 60.0, 3600.0


@dataclass(slots=True)
class _Player:
    since_s: float | None = None
    pass_s: float = PASS_MIN_S
    passed_until_s: float = 0.0
    begun: frozenset[Identity] = field(default_factory=frozenset)


class Turns:
    """What one daemon remembers of the other users' turns on its node. Times are monotonic, in seconds."""

    def __init__(self) -> None:
        self._players: dict[str, _Player] = {}

    def look(self, lodgers: Iterable[Lodger]) -> None:
        """Sees who has begun a job since the last look: a claim alone, which costs nothing, is no job."""
        begun: dict[str, set[Identity]] = {}
        for user, job in lodgers:
            if job.process is not None:
                begun.setdefault(user, set()).add(job.process)
        for user, player in list(self._players.items()):
            now = frozenset(begun.get(user, ()))
            if now - player.begun:
                del self._players[user]
            else:
                player.begun = now

    def is_passed_over(self, user: str, now_s: float) -> bool:
        """Whether this user's turns do not count now."""
        player = self._players.get(user)
        return player is not None and now_s < player.passed_until_s

    def note(self, ahead: Collection[str], lodgers: Iterable[Lodger], now_s: float) -> list[str]:
        """Notes for whose turns I wait; the users who are passed over from now on."""
        passed = []
        for user, player in self._players.items():
            if user not in ahead:
                player.since_s = None
        for user in ahead:
            player = self._players.setdefault(user, _Player(begun=_begun_by(user, lodgers)))
            if player.since_s is None:
                player.since_s = now_s
            elif now_s - player.since_s >= TURN_S:
                player.since_s, player.passed_until_s = None, now_s + player.pass_s
                player.pass_s = min(PASS_MAX_S, 2 * player.pass_s)
                passed.append(user)
        return passed


def _begun_by(user: str, lodgers: Iterable[Lodger]) -> frozenset[Identity]:
    return frozenset(job.process for lodger, job in lodgers if lodger == user and job.process is not None)
