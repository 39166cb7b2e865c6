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
#: Between the node that acts first and the next one: several rounds, in which the first is seen to act.
APART_S = 10.0


class Courtesy:
    """What one daemon remembers of the wish that jobs give way. Times are monotonic, in seconds."""

    def __init__(self) -> None:
        self._since_s: float | None = None

    def is_due(self, wished: Iterable[Occupant], rank: int, now_s: float) -> bool:
        """Whether the jobs that are wished to give way shall do so now; `rank` nodes of mine act before."""
        jobs = list(wished)
        if not jobs:
            self._since_s = None
            return False
        if self._since_s is None:
            self._since_s = now_s
        # What scavenges has no claim to be where it is.
        patience_s = 0.0 if all(job.scavenge for job in jobs) else PATIENCE_S
        return now_s - self._since_s >= patience_s + rank * APART_S

    def again_s(self, rank: int, now_s: float) -> float:
        """Seconds until it is due at the latest; endless if nothing is wished."""
        if self._since_s is None:
            return float("inf")
        return max(0.0, self._since_s + PATIENCE_S + rank * APART_S - now_s)

    def forget(self) -> None:
        """After a job was asked: the next wish is another one."""
        self._since_s = None


def rank(seen: Iterable[Seen], me: str, node: str, here: Iterable[Occupant]) -> int:
    """How many other nodes of mine have a younger job that could give way."""
    mine = _youngest(here, node)
    others = [
        _youngest(one.card.jobs, one.card.node)
        for one in seen
        if one.is_alive and one.card.user == me and one.card.node != node
    ]
    return sum(1 for other in others if other is not None and (mine is None or other > mine))


def _youngest(jobs: Iterable[Occupant], node: str) -> tuple[int, str] | None:
    # Clocks of nodes are compared here, for want of better: a wrong one makes another node the first to act.
    return max(
        ((job.since_ns, node) for job in jobs if job.restartable and job.process is not None), default=None
    )
