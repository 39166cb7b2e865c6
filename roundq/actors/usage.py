"""What this user has used of this node, and what all have used of the cluster, with memory.

One's own usage is counted here between two rounds and lives on the card; that of others is what
their cards say, as old as these are. The arithmetic is `words/usage`; who goes next because of it,
`policy` says.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from roundq.actors.namesake import NO_FILE
from roundq.records import cards
from roundq.records.neighbours import Seen
from roundq.records.spool import Spool
from roundq.words.errors import RecordError
from roundq.words.job import NS, Record
from roundq.words.states import RUNNING
from roundq.words.usage import decayed, most, used

if TYPE_CHECKING:
    from roundq.actors.tenants import Tenant


class Meter:
    """Adds up the cores of this user's running jobs here over time, in decayed core-seconds."""

    def __init__(self, spool: Spool, node: str, machine: str) -> None:
        self.spool, self.node, self.machine = spool, node, machine
        self.usage = 0.0
        self._cores = 0
        self._counted_s: float | None = None

    def look(
        self, tenants: Iterable[Tenant], now_s: float, now_ns: int, half_life_s: float, cores: int
    ) -> float:
        """The usage until now. `now_s` is monotonic, `now_ns` the node's clock, `cores` all that it has.

        The first look goes on from what the last card says: raises OSError if that cannot be told now.
        """
        running = [one.record for one in tenants if one.entry.state == RUNNING and _counts(one.record)]
        if self._counted_s is None:
            usage = self._before(running, now_ns, half_life_s)
        else:
            # What ran at the last look: when a job ends the next one follows at once.
            for_s = now_s - self._counted_s
            usage = decayed(self.usage, for_s, half_life_s) + used(self._cores, for_s, half_life_s)
        self.usage = min(usage, most(cores, half_life_s))
        self._cores = sum(record.cores for record in running)
        self._counted_s = now_s
        return self.usage

    def _before(self, running: Iterable[Record], now_ns: int, half_life_s: float) -> float:
        """What the last card says, decayed; and what has run since then, without a daemon."""
        usage, written_ns = self._told()
        # A clock that was set back tells nothing of how much time has passed.
        gap_s = max(0, now_ns - written_ns) / NS
        usage = decayed(usage, gap_s, half_life_s)
        for record in running:
            ran_s = (now_ns - record.started_ns) / NS if record.started_ns else 0.0
            usage += used(record.cores, min(ran_s, gap_s), half_life_s)
        return usage

    def _told(self) -> tuple[float, int]:
        try:
            card = cards.read(self.spool, self.node)
        except (OSError, RecordError) as error:
            if isinstance(error, OSError) and error.errno not in NO_FILE:
                raise
            return 0.0, 0
        # One of a namesake is about another machine.
        return (card.usage, card.written_ns) if card.machine in ("", self.machine) else (0.0, 0)


def _counts(record: Record) -> bool:
    """Whether what a job uses is anybody's loss: it is not what nobody else wanted."""
    return not record.job.scavenge and not record.threads


def usage_of(seen: Iterable[Seen], half_life_s: float) -> dict[str, float]:
    """The usage of each user in the whole cluster, in decayed core-seconds, as all cards tell it.

    A card is as old as its silence. No node is believed to have been used more than it can be.
    """
    by_node: dict[tuple[str, str], float] = {}
    for one in seen:
        card = one.card
        usage = min(card.usage, most(max(card.capacity, card.logical_cpus), half_life_s))
        key = card.user, card.node
        # One node may be told of twice, from two places.
        by_node[key] = max(by_node.get(key, 0.0), decayed(usage, one.silent_s, half_life_s))
    total: dict[str, float] = {}
    for (user, _), usage in by_node.items():
        total[user] = total.get(user, 0.0) + usage
    return total
