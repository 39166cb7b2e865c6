"""What the user asks of this node in requests/: found there, answered, and forgotten when it meets no job.

The supervisors of jobs that run answer themselves; here they are told that there is something.
"""

from __future__ import annotations

import contextlib
import time

from roundq.actors import preemption
from roundq.actors.held import HeldList
from roundq.actors.tenants import Tenants
from roundq.actors.waiting import WaitingList
from roundq.records import pings
from roundq.records import spool as spools
from roundq.records.spool import Entry, Spool
from roundq.words.errors import RoundqError
from roundq.words.states import CANCELED, OWNED_STATES, PENDING_STATES
from roundq.world import files

#: A request that meets no job is forgotten after this long.
MOOT_S = 60.0
#: A request to give way counts for so long after it was seen: by then the job is gone, or nobody answers on
#: its node. Where only what scavenges would give way beside it, not for longer than most jobs take to end.
GONE_S, SCAVENGING_GONE_S = preemption.NOTICE_MAX_S + 120.0, 30.0


class Asked:
    """What one daemon remembers of requests/. Times are monotonic, in seconds."""

    def __init__(
        self, spool: Spool, node: str, tenants: Tenants, waiting: WaitingList, held: HeldList
    ) -> None:
        self.spool, self.node, self.tenants, self.waiting, self.held = spool, node, tenants, waiting, held
        self.freshness = files.Freshness(spool.directory("requests"))
        #: The tokens of the pings that are there.
        self.pongs: tuple[str, ...] = ()
        #: The ids of jobs of mine, on any node, that are to stand still, or do.
        self.still: frozenset[str] = frozenset()
        #: The jobs of mine, on any node, that are asked to give way, and since when that is known here.
        self._give_way_s: dict[tuple[str, str], float] = {}
        #: When the user last called a node lost; at the start nobody knows.
        self.lost_s: float | None = None
        self._moot_s = 0.0
        self._moot: set[str] = set()

    def look(self, now_s: float, settle_s: float, *, has_card: bool) -> None:
        """Answers what is new. `settle_s` is how late a job may be seen; `has_card`: one was published."""
        if not self.freshness.is_due(now_s) and now_s - self._moot_s < MOOT_S:
            return
        try:
            self._look_at_pings(now_s, has_card)
            asked = spools.requests(self.spool)
            self.still = frozenset(job_id for job_id, verbs in asked.items() if verbs & {"pause", "paused"})
            self._give_way_s = {
                each: self._give_way_s.get(each, now_s)
                for job_id, verbs in asked.items()
                if "preempt" in verbs and (each := (job_id, preemption.told(self.spool, job_id)[0]))
            }
            self._answer(asked, now_s, settle_s)
        except (OSError, RoundqError):
            self.freshness.forget()
            raise

    def is_giving_way(self, now_s: float) -> bool:
        """Whether a job of mine, on any node, is about to give way: they do so one after the other."""
        return any(now_s - asked_s < GONE_S for asked_s in self._give_way_s.values())

    def is_giving_way_elsewhere(self, now_s: float) -> bool:
        """Whether one on another node was asked a moment ago, so that what scavenges here may not have to."""
        return any(
            job_id not in self.tenants.by_id and now_s - asked_s < SCAVENGING_GONE_S
            for (job_id, _), asked_s in self._give_way_s.items()
        )

    def _look_at_pings(self, now_s: float, has_card: bool) -> None:
        self.pongs = pings.seen(self.spool)
        if self.pongs and has_card and now_s - self._moot_s >= MOOT_S:
            # The server's clock on both sides: our card was written there a minute ago at most.
            with contextlib.suppress(OSError):
                server_s = files.signature(f"{self.spool.path}/{self.node}")[1] / 1e9
                pings.sweep(self.spool, self.pongs, server_s)

    def _answer(self, asked: dict[str, set[str]], now_s: float, settle_s: float) -> None:
        self.tenants.answer(asked, time.time_ns())
        for job_id, verbs in asked.items():
            if "lost" in verbs:
                self.lost_s = now_s
            if "lost" in verbs and (meant := spools.asked_of(self.spool, job_id, "lost")) is not None:
                if self.tenants.take_from_lost(job_id, meant):
                    self.freshness.forget()
        for job_id, verbs in asked.items():
            # It was claimed or running when it was asked for, and went back to waiting, or is to be retried.
            entry = self.waiting.entry(job_id) or self.held.entry(job_id)
            if "cancel" in verbs and entry and self._canceled(entry, settle_s):
                self.tenants.say(job_id, CANCELED, "is canceled before it began")
                self.waiting.remove([entry])
                self.held.forget(entry)
        if now_s - self._moot_s >= max(MOOT_S, settle_s):
            self._moot_s = now_s
            active = (
                {entry.id for entry in spools.scan(self.spool, PENDING_STATES + OWNED_STATES)}
                if asked
                else set()
            )
            moot = set(asked) - active
            # Twice in a row: a job on its way from one directory to the next is not gone.
            for job_id in moot & self._moot:
                spools.answer(self.spool, job_id)
            self._moot = moot

    def _canceled(self, entry: Entry, settle_s: float) -> bool:
        try:
            return spools.cancel(self.spool, entry, time.time_ns(), self.node)
        except FileNotFoundError:
            if not settle_s:
                raise
            # It is listed, and has moved on: this node learns it late.
            return False
