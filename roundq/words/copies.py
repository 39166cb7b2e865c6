"""Pure: which copy of a job is right, on mounts where two nodes may both win one rename.

roundqueue(7), Settle. A claim looks `LOOKS` times who else has its job, and is trusted when none of these
looks showed a copy that goes before it. Listings and clocks are the callers'.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from roundq.words.states import CLAIMED, ENDED_STATES, PENDING_STATES, RUNNING

#: Looks of a claim before it is trusted. What another node did is seen after a fifth of the settle time. A
#: copy moves at most three times in a settle time, and each move hides it from at most one look, as the
#: lateness of its first appearance does: so one look of five shows it.
LOOKS = 5

#: How far on a copy is. One that waits gives way to a claim: whoever claims it looks, too.
_RANKS = {**dict.fromkeys(PENDING_STATES, 0), CLAIMED: 1, RUNNING: 2, **dict.fromkeys(ENDED_STATES, 3)}


class Copy(NamedTuple):
    """A record of a job where more than one may have its id. `node` owns it, None if nobody does."""

    state: str
    node: str | None
    attempt: int


def goes_before(one: Copy, other: Copy) -> bool:
    """Whether of two copies `one` is right: the higher attempt, what is further on, the first node's claim.

    Of two claims never both and never neither, so that whoever looks comes to the same.
    """
    if one.attempt != other.attempt:
        return one.attempt > other.attempt
    if _RANKS[one.state] != _RANKS[other.state]:
        return _RANKS[one.state] > _RANKS[other.state]
    return one.state == CLAIMED and (one.node or "") < (other.node or "")


def before(mine: Copy, others: Iterable[Copy]) -> Copy | None:
    """A copy that goes before one's own claim, the first of them all; None if it is the first itself."""
    first = mine
    for other in others:
        if goes_before(other, first):
            first = other
    return None if first is mine else first


@dataclass(slots=True)
class Settling:
    """How far a claim is with its looks. All times are monotonic, in seconds."""

    #: A time after the claim, or after the last look; None until a later round tells the time.
    since_s: float | None = None
    looks: int = 0
    #: Looks in a row, up to the last, that showed no other copy at all.
    clear: int = 0

    def is_due(self, now_s: float, settle_s: float) -> bool:
        """Whether to look now; begins to wait if what went before has just happened."""
        if self.since_s is None:
            # The time that a round was given is older than what it did: only the next one is later for sure.
            self.since_s = now_s
        return now_s - self.since_s >= settle_s / LOOKS

    def again_s(self, now_s: float, settle_s: float) -> float:
        """Seconds until the next look."""
        return 0.0 if self.since_s is None else max(0.0, self.since_s + settle_s / LOOKS - now_s)

    def looked(self, *, is_alone: bool) -> None:
        """A look showed nothing that goes before; `is_alone`: no other copy at all."""
        self.since_s = None
        self.looks += 1
        self.clear = self.clear + 1 if is_alone else 0

    def looked_in_vain(self) -> None:
        """A look showed a copy that could not be read: it proves nothing."""
        self.since_s = None
        self.clear = 0

    @property
    def is_settled(self) -> bool:
        """Whether the claim may be kept: nobody else begins this attempt, or has."""
        return self.looks >= LOOKS

    @property
    def is_alone(self) -> bool:
        """Whether there is no other copy, so that the claim may go back to waiting."""
        return self.clear >= LOOKS
