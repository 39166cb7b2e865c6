"""When my jobs here are asked to give way: not at once, not twice, not on every node for the same wait.

That they shall, and which, `policy` says. Every daemon of mine may see the same user wait, and each would
have a job give way for him; so the node of my youngest job acts first, and the others see what comes of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from roundq.actors.asked import GONE_S
from roundq.actors.occupancy import Lodger
from roundq.records.cards import Occupant
from roundq.records.neighbours import Seen

#: Somebody must have waited for this long before a restartable job gives way: many waits end by themselves.
PATIENCE_S = 10.0
#: The same where only what scavenges gives way, which has no claim to be where it is: whoever finds room
#: elsewhere has begun by then.
SCAVENGING_S = 2.0
#: Between the node that acts first and the next one: several rounds, in which the first is seen to act.
APART_S = 10.0
#: However many nodes come first, nobody waits longer than for so many: the job may not fit on these.
RANK_MAX = 3
#: A job of somebody else that ought to give way is counted on for so long if it is not asked: twice what an
#: honest daemon needs.
OWED_S = 120.0


class Courtesy:
    """What one daemon remembers of the wish that jobs give way. Times are monotonic, in seconds."""

    def __init__(self) -> None:
        self._since_s: float | None = None
        self._only_scavenges = False

    def is_due(self, wished: Iterable[Occupant], rank: int, now_s: float) -> bool:
        """Whether the jobs that are wished to give way shall do so now; `rank` nodes of mine act before."""
        jobs = list(wished)
        if not jobs:
            self._since_s = None
            return False
        if self._since_s is None:
            self._since_s = now_s
        self._only_scavenges = all(job.scavenge for job in jobs)
        return now_s - self._since_s >= delay_s(self._only_scavenges, rank)

    def again_s(self, rank: int, now_s: float) -> float:
        """Seconds until it is due at the latest; endless if nothing is wished."""
        if self._since_s is None:
            return float("inf")
        return max(0.0, self._since_s + delay_s(self._only_scavenges, rank) - now_s)

    def forget(self) -> None:
        """After a job was asked: the next wish is another one."""
        self._since_s = None


class Owed:
    """Which jobs here ought to be gone and are not: who has them does not keep to the rules, or cannot.

    A card may say of a job that it scavenges, or that it leaves, and never have it end. While others count on
    it, nothing of theirs gives way. Times are monotonic, in seconds.
    """

    def __init__(self) -> None:
        self._since_s: dict[object, float] = {}
        self._stays: set[object] = set()
        self._looked_s = 0.0

    def look(
        self, owed: Collection[tuple[str, str]], lodgers: Iterable[Lodger], now_s: float
    ) -> frozenset[tuple[str, str]]:
        """Those that are counted on no more, by user and id; `owed` are those that ought to give way now."""
        if now_s - self._looked_s >= OWED_S / 2:
            # Nobody knows how it was meanwhile.
            self._since_s = {}
        self._looked_s = now_s
        since_s: dict[object, float] = {}
        stays: set[object] = set()
        found = set()
        for user, job in lodgers:
            # An id is a word on a card; a process is one.
            who = (user, job.process or job.id)
            if job.leaving or (user, job.id) in owed:
                # Of both together, or a card that says the one and the other by turns is believed for ever.
                since_s[who] = self._since_s.get(who, now_s)
                if now_s - since_s[who] >= (GONE_S if job.leaving else OWED_S):
                    self._stays.add(who)
            if who in self._stays:
                stays.add(who)
                found.add((user, job.id))
        self._since_s, self._stays = since_s, stays
        return frozenset(found)


def delay_s(only_scavenges: bool, rank: int) -> float:
    """For how long a wish must last where so many nodes act before."""
    return (SCAVENGING_S if only_scavenges else PATIENCE_S) + min(rank, RANK_MAX) * APART_S


def rank(
    seen: Iterable[Seen], me: str, node: str, here: Iterable[Occupant], *, only_scavenges: bool = False
) -> int:
    """How many other nodes have a younger job that could give way; `here` are the jobs on this one.

    Of what scavenges everybody's jobs count, of others mine.
    """
    mine = _youngest(here, node, only_scavenges)
    young: dict[str, tuple[int, str]] = {}
    for one in seen:
        card = one.card
        if one.is_alive and card.node != node and (only_scavenges or card.user == me):
            other = _youngest(card.jobs, card.node, only_scavenges)
            if other is not None:
                young[card.node] = max(other, young.get(card.node, other))
    return sum(1 for other in young.values() if mine is None or other > mine)


def _youngest(jobs: Iterable[Occupant], node: str, only_scavenges: bool) -> tuple[int, str] | None:
    # Clocks of nodes are compared here, for want of better: a wrong one makes another node the first to act.
    return max(
        (
            (job.since_ns, node)
            for job in jobs
            if job.restartable and job.process is not None and (job.scavenge or not only_scavenges)
        ),
        default=None,
    )
