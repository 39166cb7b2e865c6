"""Pure: claims on a node, and the check after a claim that keeps it from being overbooked.

The daemon calls `settle` between the claim and the birth of a job. It does not
decide whose turn it is (`policy`), and publishes and reads nothing itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from roundq.words.quantities import ALL_CORES, format_memory
from roundq.words.room import Room, cores_text


@dataclass(frozen=True, slots=True)
class Claim:
    """A claimed or running job on this node, as its owner's card shows it.

    `memory` is what is promised but not used yet, in bytes. `stamp_ns` is when it
    was claimed, by this node's clock. `settled`: it runs, or its daemon decided to keep it.
    """

    user: str
    cores: int
    memory: int = 0
    exclusive: bool = False
    stamp_ns: int = 0
    settled: bool = False
    id: str = ""


class Ruling(Enum):
    """What to do with a claim."""

    KEEP = "keep"
    WITHDRAW = "withdraw"
    UNDECIDED = "undecided"


class Settlement(NamedTuple):
    """The ruling on a claim and why."""

    ruling: Ruling
    says: str


def settle(mine: Claim, others: Iterable[Claim], cores: int, memory_free: int) -> Settlement:
    """Whether a claim that stands on my card may be kept, beside the others of this node.

    `others` are all other claims here, mine too, but those of dead processes;
    `memory_free` is the available memory in bytes before what they hold unused is taken off.

    Call it only after `mine` was published, with cards read after that. KEEP: publish it as
    settled, then start it. WITHDRAW: take it off the card and back to waiting. UNDECIDED:
    read the cards again in a moment.

    Why the node is never overbooked: a claim is kept only if it fits beside everything that
    was seen, settled or not. Of all that are kept, take the one that was published last: when
    its daemon looked, the others stood on their cards, since a kept claim never leaves before its
    job ends. So it saw them all, and they fit. No clock is needed for that.

    Stamps decide who yields, so that racers do not all withdraw. The earlier one waits
    (UNDECIDED) until the later ones have seen it and withdrawn. If it published so late that
    a later one had looked already, that one keeps, shows as settled, and then the
    earlier one withdraws. The latest unsettled claim always decides, so nobody waits for
    ever; the earliest only gives way to what is settled, so somebody always stays.
    """
    mine_key = (mine.stamp_ns, mine.user, mine.id)
    before = after = Room(cores, memory_free)
    for other in others:
        size = (ALL_CORES if other.exclusive else other.cores, other.memory)
        after = after.less(*size)
        if other.settled or (other.stamp_ns, other.user, other.id) < mine_key:
            before = before.less(*size)
    size = (ALL_CORES if mine.exclusive else mine.cores, mine.memory)
    if not before.fits(*size):
        return Settlement(Ruling.WITHDRAW, f"withdraws: {_room_for(size, before, cores)}")
    if not after.fits(*size):
        return Settlement(
            Ruling.UNDECIDED, f"looks again: {_room_for(size, after, cores)} beside later claims"
        )
    return Settlement(Ruling.KEEP, f"keeps: {_room_for(size, before, cores)}")


def _room_for(size: tuple[int, int], room: Room, cores: int) -> str:
    needs = "the node for itself" if size[0] == ALL_CORES else cores_text(size[0])
    memory = f" and {format_memory(size[1])}" if size[1] else ""
    free = f"{room.cores} of {cores} cores" + (f" and {format_memory(room.memory)}" if memory else "")
    return f"needs {needs}{memory}, {free} free"
