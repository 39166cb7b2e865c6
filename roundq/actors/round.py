"""One node's round: look, answer, recover, decide, claim, check, start, and say so on the card.

A round costs what changed, not what exists: directories that stand still are not
listed, job files are parsed once, neighbours are read only if I have something to
start. It returns when it wants to be called again. It waits for nothing; the process
around it is in `daemon`.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from roundq import __version__
from roundq.actors import occupancy
from roundq.actors.sweeping import Sweeping
from roundq.actors.tenants import Tenant, Tenants
from roundq.records import cards, neighbours
from roundq.records import spool as spools
from roundq.records.cards import Card, Head, Said
from roundq.records.neighbours import Neighbourhood, Seen
from roundq.records.spool import Entry, Shelf, Spool
from roundq.words import policy
from roundq.words.errors import RecordError, RoundqError
from roundq.words.policy import Decision, Neighbour, Offer, Ruling, Snapshot, Want
from roundq.words.quantities import format_memory, visible
from roundq.words.room import cores_text
from roundq.words.states import (
    CANCELED,
    CLAIMED,
    OWNED_STATES,
    PENDING_STATES,
    WAITING,
)
from roundq.world import files, procs
from roundq.world.config import Config
from roundq.world.node import Node

#: How soon a claim that is neither kept nor given back is looked at again, and for how long.
UNDECIDED_S, UNDECIDED_MOST_S = 0.003, 2.0
#: New job files are parsed for at most this long in one round; the rest in the next.
PARSE_MOST_S = 0.2
#: A daemon on this node whose card stands still for this long does not take its turn: it is passed over.
STUCK_S = 3 * cards.BEAT_S
#: A file that is no record yet may still be being written; after this it is reported.
BROKEN_AFTER_S = 5.0
#: Capacity, memory and load of the node are read this often; memory that a job needs, when it is decided.
FACTS_S = 1.0
#: Who has a home is asked anew this often, and always before a claim is kept.
HOMES_S = 30.0
#: A request that meets no job is forgotten after this long.
MOOT_S = 60.0
#: After a birth that failed nothing is claimed for this long: claim and return wake the daemon at once,
#: and a user at the limit of his processes stays there for a while.
AFTER_FAILED_BIRTH_S = 5.0


@dataclass(slots=True)
class _Waiting:
    """One waiting job that was read: what policy needs of it, and since when we know it."""

    entry: Entry
    want: Want
    known_s: float
    environment: str | None


@dataclass(frozen=True, slots=True)
class _Facts:
    """This node, as read at `read_s` (monotonic); reading it anew costs a millisecond. Bytes."""

    physical_cores: int
    logical_cpus: int
    memory_total: int
    memory_available: int
    load: float
    read_s: float

    def offered(self, config: Config) -> int:
        """The cores that jobs may use."""
        if config.cores == "physical":
            return self.physical_cores
        return self.logical_cpus if config.cores == "logical" else int(config.cores)


def _facts(node: Node, now_s: float) -> _Facts:
    return _Facts(
        node.physical_cores(),
        node.logical_cpus(),
        node.memory_total(),
        node.memory_available(),
        node.load(),
        now_s,
    )


class Round:
    """What one daemon remembers between rounds."""

    def __init__(
        self,
        spool: Spool,
        node: Node,
        config: Callable[[], tuple[Config, str | None]],
        log: logging.Logger,
        restart_ns: int,
    ) -> None:
        self.spool, self.node, self.name, self.log = spool, node, node.name(), log
        self.config_of = config
        self.config, self.config_error = config()
        self.facts = _facts(node, -1e9)
        self.restart_ns, self.process = restart_ns, procs.own_identity()
        self.tenants = Tenants(spool, self.name, log)
        self.sweeping = Sweeping(spool, self.name, log)
        self.neighbourhood = Neighbourhood(self.name)
        self.waiting = Shelf(spool, WAITING)
        self.asked = files.Freshness(spool.directory("requests"))
        self.queue: dict[str, _Waiting] = {}
        self.broken: dict[Entry, tuple[float, str]] = {}
        self.homes: list[Spool] = [spool]
        self.seen: list[Seen] = []
        self.decision: Decision | None = None
        self.card: Card | None = None
        self.draining: str | None = None
        self.settled_late: list[Tenant] = []
        self._shapes: dict[tuple[int, int, int], list[_Waiting]] = {}
        self._list_again_s = self._parse_again_s = self._homes_s = self._moot_s = 0.0
        self._tenants_s = self._beat_s = -1e9
        self._beat = 0
        self._claim_again_s = -1e9
        self._is_unread = False
        self._moot: set[str] = set()
        self._told: frozenset[policy.Verdict] = frozenset()

    # ------------------------------------------------------------ the round

    def run(self, now_s: float) -> float:
        """One round; seconds until the next is wanted at the latest. `now_s` is a monotonic time."""
        self.config, self.config_error = self.config_of()
        if now_s - self.facts.read_s >= FACTS_S:
            self.facts = _facts(self.node, now_s)
        ended = self.tenants.reap()
        if ended or self.tenants or now_s - self._tenants_s >= self.config.poll_max_s:
            self.tenants.look()
            self._tenants_s = now_s
            self.tenants.recover()
        self._look_at_waiting(now_s)
        self._look_at_requests(now_s)
        again_s = self._again_s(now_s)
        self.decision = None
        if self.queue and self.draining is None:
            self._look_around(now_s)
            self.decision = policy.decide(self._snapshot(now_s))
            if now_s >= self._claim_again_s:
                self._claim(self.decision, now_s)
        elif self.queue:
            self.decision = policy.decide(self._snapshot(now_s))
        undecided = self._settle(now_s)
        self._publish(now_s)
        self.sweeping.run(now_s, self.config.keep_for_s, self._named_by_waiting)
        return min(again_s, UNDECIDED_S) if undecided else again_s

    def _again_s(self, now_s: float) -> float:
        soon = [cards.BEAT_S - max(0.0, now_s - self._beat_s) if self._beat_s > 0 else cards.BEAT_S]
        if self._is_unread:
            soon.append(max(0.0, self._list_again_s - now_s))
        if not self.waiting.freshness.is_settled:
            soon.append(files.Freshness.SETTLED_S)
        return max(0.0, min(soon))

    # ------------------------------------------------------------ looking at my spool

    def _look_at_requests(self, now_s: float) -> None:
        if not self.asked.is_due(now_s) and now_s - self._moot_s < MOOT_S:
            return
        try:
            self._answer(spools.requests(self.spool), now_s)
        except (OSError, RoundqError):
            self.asked.forget()
            raise

    def _answer(self, asked: dict[str, set[str]], now_s: float) -> None:
        self.tenants.answer(asked, time.time_ns())
        for job_id, verbs in asked.items():
            # It was claimed or running when it was asked for, and went back to waiting.
            entry = self.waiting.entries.get(f"{job_id}{spools.SUFFIX}")
            if "cancel" in verbs and entry and spools.cancel(self.spool, entry, time.time_ns(), self.name):
                self.tenants.say(job_id, CANCELED, "is canceled before it began")
                if self.queue.pop(entry.file, None) is not None:
                    self._thin_out()
        if now_s - self._moot_s >= MOOT_S:
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

    def _look_at_waiting(self, now_s: float) -> None:
        # A long queue that changes all the time is listed again only so often that listing takes a
        # tenth of the time; what it hides meanwhile is found by the claim.
        if now_s < self._list_again_s and self.queue:
            self._is_unread = True
            return
        began_s = time.monotonic()
        changed = self.waiting.look(now_s)
        listed_s = time.monotonic()
        # Not for as long as a server was away: what is new would be seen ten times as late.
        self._list_again_s = now_s + min(10 * (listed_s - began_s), self.config.poll_max_s)
        entries = self.waiting.entries
        # A claim that was given back between two looks leaves no other trace.
        is_complete = len(self.queue) + len(self.broken) == len(entries)
        if not changed and is_complete and not self._is_unread and not self.broken:
            return
        gone = [file for file in self.queue if self.queue[file].entry is not entries.get(file)]
        for file in gone:
            del self.queue[file]
        for entry in [entry for entry in self.broken if entries.get(entry.file) is not entry]:
            del self.broken[entry]
        fresh = [entry for file, entry in entries.items() if file not in self.queue]
        self._is_unread = False
        until_s = listed_s + PARSE_MOST_S
        for entry in sorted(fresh, key=_age_first):
            if time.monotonic() > until_s:
                self._is_unread = True
                break
            self._read(entry, now_s)
        if any(entry.file in self.queue for entry in fresh):
            self._sort()
        elif gone:
            self._thin_out()

    def _read(self, entry: Entry, now_s: float) -> None:
        try:
            record = spools.read(self.spool, entry)
        except FileNotFoundError:
            return
        except (OSError, RecordError) as error:
            since_s, known = self.broken.get(entry, (now_s, ""))
            self.broken[entry] = (since_s, known)
            # Empty or cut: its writer may not be done. Reported later, set aside until it changes, kept.
            if now_s - since_s >= BROKEN_AFTER_S and not known:
                self.broken[entry] = (since_s, f"waiting/{entry.file} is not a job: {error}")
                self.log.warning("%s", self.broken[entry][1])
            return
        self.broken.pop(entry, None)
        job = record.job
        submitted_ns = job.submitted_ns
        if not submitted_ns:
            # Dropped by a program that does not say: the file's own time, not the beginning of time.
            try:
                submitted_ns = files.signature(spools.path_of(self.spool, entry))[1]
            except OSError:
                return
        want = Want(entry.id, job.cores, job.memory_required, submitted_ns, job.priority)
        self.queue[entry.file] = _Waiting(entry, want, now_s, job.environment and sys.intern(job.environment))

    def _sort(self) -> None:
        """The queue by shape, each in the order of turns: a round looks at the first few of each."""
        by_id = {one.entry.id: one for one in self.queue.values()}
        self._shapes = {}
        for want in policy.in_order(one.want for one in self.queue.values()):
            shape = (want.cores, want.memory, want.priority)
            self._shapes.setdefault(shape, []).append(by_id[want.id])

    def _thin_out(self) -> None:
        """Takes out what left the queue: a tenth of the time that sorting takes, for each job that starts."""
        left = {
            shape: [one for one in waiting if one.entry.file in self.queue]
            for shape, waiting in self._shapes.items()
        }
        self._shapes = {shape: waiting for shape, waiting in left.items() if waiting}

    # ------------------------------------------------------------ looking around

    def _look_around(self, now_s: float) -> None:
        self._look_for_homes(now_s, HOMES_S)
        self.seen = self.neighbourhood.look(self.homes, now_s)

    def _look_for_homes(self, now_s: float, at_most_s: float) -> None:
        if now_s - self._homes_s < at_most_s and self._homes_s:
            return
        self._homes_s = now_s
        found = neighbours.homes(self.config.homes, self.homes)
        mine = os.path.realpath(self.spool.path)
        others = (other for other in found if os.path.realpath(other.path) != mine)
        self.homes = [self.spool, *neighbours.told_apart(others, self.spool.user)]

    def _cores(self) -> int:
        return self.facts.offered(self.config)

    def _memory_available(self, is_asked_for: bool) -> int:
        return self.node.memory_available() if is_asked_for else self.facts.memory_available

    def _lodgers(self) -> list[occupancy.Lodger]:
        """Everybody's jobs on this node, mine as I know them."""
        found = occupancy.others_here(self.homes, self.spool.user, self.name, self.seen)
        found += [occupancy.Lodger(self.spool.user, tenant.occupant()) for tenant in self.tenants]
        if any(one.card.is_legacy and one.card.user == self.spool.user for one in self.seen):
            found += occupancy.own_legacy(self.spool, self.name)
        return found

    def _table(self, lodgers: list[occupancy.Lodger]) -> procs.Table:
        """The process table, read only if somebody was promised memory."""
        return procs.table() if any(lodger.job.memory for lodger in lodgers) else {}

    def _snapshot(self, now_s: float) -> Snapshot:
        cores = self._cores()
        lodgers = self._lodgers()
        table = self._table(lodgers)
        running = occupancy.running_cores(one for one in self.seen if one.card.user != self.spool.user)
        elsewhere = occupancy.running_cores(
            one for one in self.seen if one.card.user == self.spool.user and one.card.node != self.name
        )
        mine = sum(tenant.record.cores for tenant in self.tenants)
        running[self.spool.user] = elsewhere.get(self.spool.user, 0) + mine
        offers = self._offers(cores, lodgers)
        wants = []
        for (wanted, memory, _), waiting in self._shapes.items():
            kept_on = policy.keeper(wanted, memory, offers)
            # No more of one shape can start in one pass than there are cores, and one more waits.
            wants += [
                replace(one.want, waited_s=now_s - one.known_s, kept_on=kept_on)
                for one in waiting[: cores + 1]
            ]
        return Snapshot(
            node=self.name,
            me=self.spool.user,
            cores=cores,
            memory_total=self.facts.memory_total,
            memory_available=self._memory_available(any(want.memory for want in wants)),
            draining=self.draining,
            holdings=tuple(occupancy.holding(lodger, table) for lodger in lodgers),
            running_cores=running,
            wants=tuple(wants),
            neighbours=self._neighbours(cores),
            patience_s=self.config.patience_s,
        )

    def _offers(self, cores: int, lodgers: list[occupancy.Lodger]) -> list[Offer]:
        """The nodes where my jobs may run: those of my own living daemons, and what is free there."""
        used: dict[str, int] = {}
        for one in self.seen:
            if one.is_alive:
                used[one.card.node] = used.get(one.card.node, 0) + sum(job.cores for job in one.card.jobs)
        used[self.name] = sum(lodger.job.cores or cores for lodger in lodgers)
        offers = [Offer(self.name, cores, cores - used[self.name], self.facts.memory_total)]
        for one in self.seen:
            card = one.card
            if (
                card.user == self.spool.user
                and card.node != self.name
                and one.is_alive
                and card.state == cards.UP
            ):
                free = card.capacity - used.get(card.node, 0)
                offers.append(Offer(card.node, card.capacity, free, card.memory))
        return offers

    def _neighbours(self, cores: int) -> tuple[Neighbour, ...]:
        """The other users who could take a turn on this node."""
        found = []
        for one in self.seen:
            card = one.card
            if (
                card.node != self.name
                or card.user == self.spool.user
                or not one.is_alive
                or card.state != cards.UP
            ):
                continue
            if card.is_legacy:
                head = neighbours.legacy_head(one.spool, cores, self.facts.memory_available)
                wants, count = [] if head is None else [_want(head)], 1
            elif one.silent_s > STUCK_S:
                continue
            else:
                wants, count = [_want(head) for head in card.heads], card.waiting
            found.append(Neighbour(card.user, wants[0] if wants else None, count, tuple(wants[1:])))
        return tuple(found)

    # ------------------------------------------------------------ claim and check

    def _claim(self, decision: Decision, now_s: float) -> None:
        cores = self._cores()
        by_id = {one.entry.id: one for waiting in self._shapes.values() for one in waiting[: cores + 1]}
        for job_id in decision.starts:
            one = by_id[job_id]
            stamp_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            self.queue.pop(one.entry.file, None)
            if self.tenants.claim(one.entry, one.want, cores, stamp_ns, now_s) is not None:
                self.tenants.say(job_id, CLAIMED, decision.reason(job_id))
        if decision.starts:
            self._thin_out()
        verdicts = decision.verdicts()
        for verdict in verdicts:
            # The policy's own sentence, each time it changes: `rq daemon -v` shows it.
            if verdict not in self._told:
                self.log.debug("%s, priority %d: %s", *_size(verdict), verdict.says)
        self._told = frozenset(verdicts)

    def _settle(self, now_s: float) -> bool:
        """Publishes my claims, looks who else claimed, keeps or gives back; whether any is left undecided."""
        unsettled = [tenant for tenant in self.tenants if not tenant.settled]
        if not unsettled:
            return False
        self._publish(now_s, force=True)
        # A user who came a moment ago counts too.
        self._look_for_homes(now_s, 0.0)
        lodgers = self._lodgers()
        table = self._table(lodgers)
        claims = [occupancy.claim(lodger, table) for lodger in lodgers]
        cores = self._cores()
        memory = self._memory_available(any(tenant.record.job.memory_required for tenant in unsettled))
        kept: list[Tenant] = []
        for tenant in unsettled:
            mine = next(c for c in claims if c.id == tenant.entry.id and c.user == self.spool.user)
            others = [claim for claim in claims if claim is not mine]
            ruling, says = policy.settle(mine, others, cores, memory)
            if ruling is Ruling.UNDECIDED and now_s - tenant.claimed_s < UNDECIDED_MOST_S:
                continue
            if ruling is Ruling.KEEP:
                tenant.settled = True
                kept.append(tenant)
                claims = [replace(mine, settled=True) if claim is mine else claim for claim in claims]
            else:
                self.tenants.withdraw(tenant, says)
                claims = others
        if kept:
            if not self.tenants.bear(kept, self.config.grace_s, lambda: self._publish(now_s, force=True)):
                self._claim_again_s = now_s + AFTER_FAILED_BIRTH_S
        return any(not tenant.settled for tenant in self.tenants)

    # ------------------------------------------------------------ the card

    def _publish(self, now_s: float, *, force: bool = False) -> None:
        """Puts my card in the spool if it says something new, or if its beat is due."""
        card = self._new_card()
        same = self.card is not None and replace(card, load=0.0, memory_available=0, beat=0) == replace(
            self.card, load=0.0, memory_available=0, beat=0
        )
        if same and now_s - self._beat_s < cards.BEAT_S * 0.9:
            return
        if not force and same and now_s - self._beat_s < 1.0:
            return
        self._beat += 1
        card = replace(card, beat=self._beat)
        cards.publish(self.spool, card)
        # Only now: what could not be written has told nobody anything, of a claim least of all.
        self.card, self._beat_s = card, now_s

    def _new_card(self) -> Card:
        decision = self.decision
        heads: tuple[Head, ...] = ()
        said: tuple[Said, ...] = ()
        if decision is not None:
            # Whole minutes, so that waiting alone does not make a new card.
            heads = tuple(
                Head(w.id, w.cores, w.memory, w.submitted_ns, w.priority, w.waited_s // 60 * 60, w.kept_on)
                for w in decision.heads()
            )
            said = tuple(Said(*verdict) for verdict in decision.verdicts())
        elif self.card is not None and self.queue:
            heads, said = self.card.heads, self.card.said
        trouble = [text for _, text in self.broken.values() if text]
        trouble += self.tenants.trouble.values()
        trouble += [text for text in (self.config_error, self.draining) if text]
        trouble += [f"waiting/{visible(name)}: no job can have this name" for name in self.waiting.misnamed]
        return Card(
            user=self.spool.user,
            node=self.name,
            pid=self.process.pid,
            physical_cores=self.facts.physical_cores,
            logical_cpus=self.facts.logical_cpus,
            restart_ns=self.restart_ns,
            version=__version__,
            process=self.process,
            beat=self._beat,
            state=cards.UP if self.draining is None else cards.DRAINING,
            reason=self.draining or "",
            cores=self._cores(),
            memory=self.facts.memory_total,
            memory_available=self.facts.memory_available,
            load=self.facts.load,
            jobs=tuple(tenant.occupant() for tenant in self.tenants),
            waiting=len(self.queue),
            heads=heads,
            said=said,
            trouble=tuple(sorted(trouble)[:20]),
        )

    def leave(self) -> None:
        """The last card: this daemon starts nothing more; what runs here still counts."""
        self.tenants.leave()
        card = self._new_card()
        self.card = replace(card, beat=self._beat + 1, state=cards.LEAVING, heads=(), said=(), waiting=0)
        cards.publish(self.spool, self.card)

    def _named_by_waiting(self) -> set[str] | None:
        """The environments of what waits; None if some job of the queue was not read or cannot be."""
        if self._is_unread or self.broken:
            return None
        return {one.environment for one in self.queue.values() if one.environment}


def _size(verdict: policy.Verdict) -> tuple[str, int]:
    cores = "a whole node" if not verdict.cores else cores_text(verdict.cores)
    memory = f" and {format_memory(verdict.memory)}" if verdict.memory else ""
    return f"jobs of {cores}{memory}", verdict.priority


def _want(head: Head) -> Want:
    return Want(
        head.id, head.cores, head.memory, head.submitted_ns, head.priority, head.waited_s, head.kept_on
    )


def _age_first(entry: Entry) -> tuple[int, int, str]:
    """Numbers by value, as they were given; names after them."""
    is_number = entry.id.isdecimal() and len(entry.id) < 19
    return (0, int(entry.id), "") if is_number else (1, 0, entry.id)
