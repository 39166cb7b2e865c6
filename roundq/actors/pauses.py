"""For how long running jobs of mine here were paused at the most: so much later their time limits end them.

Their supervisors know it exactly, and tell it when they end. A daemon sees requests come and go, and counts
all the time between two looks of which one saw a job asked to stand still.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from roundq.actors import occupancy
from roundq.records import cards
from roundq.records.cards import Card
from roundq.records.spool import Spool
from roundq.words.errors import RecordError
from roundq.words.job import NS, Identity

if TYPE_CHECKING:
    from roundq.actors.tenants import Tenant


class Pauses:
    """What one daemon saw of pauses, by supervisor. Times are monotonic, in seconds."""

    def __init__(self, spool: Spool, node: str) -> None:
        self.spool, self.node = spool, node
        self._paused_s: dict[Identity, float] = {}
        self._still: frozenset[Identity] = frozenset()
        self._looked_s = 0.0
        #: What an earlier daemon said last; read when it is first asked for.
        self._before: Card | None = None
        self._is_read = False

    def look(self, tenants: Iterable[Tenant], asked: Collection[str], now_s: float, now_ns: int) -> None:
        """Tells each tenant with a time limit; `asked` are the ids of those that are to stand still, or do.

        `now_ns` is the clock of the node.
        """
        for_s, self._looked_s = now_s - self._looked_s, now_s
        paused_s: dict[Identity, float] = {}
        still: set[Identity] = set()
        for tenant in tenants:
            process = tenant.record.process
            if process is None or tenant.record.job.time_limit_s is None:
                continue
            is_still = tenant.entry.id in asked
            known_s = self._paused_s.get(process)
            if known_s is None:
                known_s = 0.0 if tenant.child is not None else self._adopted_s(tenant, process, now_ns)
            elif is_still or process in self._still:
                known_s += for_s
            paused_s[process] = known_s
            tenant.paused_s = None if is_still else known_s
            if is_still:
                still.add(process)
        self._paused_s, self._still = paused_s, frozenset(still)

    def _adopted_s(self, tenant: Tenant, process: Identity, now_ns: int) -> float:
        """What the last card says of one that an earlier daemon bore; since then it may have stood still."""
        card, limit_s = self._last_card(), tenant.record.job.time_limit_s
        told = None if card is None else next((job for job in card.jobs if job.process == process), None)
        ran_s = occupancy.ran_s(tenant.occupant(), now_ns)
        if card is None or told is None or told.limit_s is None or limit_s is None:
            # Nobody knows: it may have been all the time.
            return ran_s
        return min(ran_s, max(0.0, told.limit_s - limit_s) + max(0, now_ns - card.written_ns) / NS)

    def _last_card(self) -> Card | None:
        if not self._is_read:
            try:
                self._before = cards.read(self.spool, self.node)
            except (OSError, RecordError):
                self._before = None
            self._is_read = True
        return self._before
