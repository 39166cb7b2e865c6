"""When my jobs here are asked to give way: not at once, not twice, not on every node for the same wait.

That they shall, and which, `policy` says. Every daemon of mine may see the same user wait, and each would
have a job give way for him; so the node of my youngest job acts first, and the others see what comes of it.
"""

from __future__ import annotations

from collections.abc import Iterable

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
