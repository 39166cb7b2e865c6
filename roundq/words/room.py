"""Pure: the room of one node. The one place where cores and memory are counted and compared."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from roundq.words.quantities import ALL_CORES, format_memory


class Room(NamedTuple):
    """What is left of a node: cores, memory in bytes, how many jobs are there, and whether one has it alone.

    Cores 0 stand for all of the node, everywhere: such a job fits only where no job is.
    """

    cores: int
    memory: int
    jobs: int = 0
    whole: bool = False

    def less(self, cores: int, memory: int) -> Room:
        """This room after a job of that size moved in, whether it fitted or not."""
        if cores == ALL_CORES:
            return Room(0, self.memory - memory, self.jobs + 1, True)
        # Never below 0: users without our rules may have taken more than there is.
        return Room(max(0, self.cores - cores), self.memory - memory, self.jobs + 1, self.whole)

    def fits(self, cores: int, memory: int) -> bool:
        """Whether a job of that size may move in. One that asks for no memory needs none."""
        if self.whole or (memory and memory > self.memory):
            return False
        return self.jobs == 0 if cores == ALL_CORES else cores <= self.cores


def ineligible(cores: int, memory: int, node: str, offered_cores: int, memory_total: int) -> str | None:
    """Why a job of this size can never start on the node, as a sentence; None if it could."""
    if offered_cores < 1:
        return f"can never start here: {node} offers no cores"
    if cores > offered_cores:
        return f"can never start here: needs {cores_text(cores)}, {node} has {offered_cores}"
    if memory > memory_total:
        needs, has = format_memory(memory), below_text(memory_total, memory)
        return f"can never start here: needs {needs} of memory, {node} has {has}"
    return None


class Offer(NamedTuple):
    """What a node has, for `keeper`: capacity and free cores, memory in bytes."""

    node: str
    cores: int
    free_cores: int
    memory_total: int


def keeper(cores: int, memory: int, offers: Iterable[Offer]) -> str | None:
    """The one node to keep for a job of that size that has waited long; None if no node could run it.

    Without this choice every node of the cluster would be kept for the same job. It is the
    node with the most free cores, and being kept leaves it the most, so the choice is stable.
    Pass the nodes that are up and not draining.
    """
    able = [
        offer
        for offer in offers
        if not ineligible(cores, memory, offer.node, offer.cores, offer.memory_total)
    ]
    if not able:
        return None
    # A job of all cores waits for those in use, any other for those that are missing.
    if cores == ALL_CORES:
        return min(able, key=lambda offer: (offer.cores - offer.free_cores, offer.node)).node
    return min(able, key=lambda offer: (-offer.free_cores, offer.node)).node


def cores_text(count: int) -> str:
    """ "1 core", "8 cores"."""
    return "1 core" if count == 1 else f"{count} cores"


def below_text(size: int, needed: int) -> str:
    """A size in bytes that is too small, so that it also reads as too small beside what is needed."""
    text = format_memory(size)
    return f"just under {text}" if text == format_memory(needed) else text
