"""One node's round: look, answer, recover, decide, claim, check, start, and say so on the card.

A round costs what changed, not what exists: directories that stand still are not
listed, job files are parsed once, neighbours are read only if I have something to
start. It returns when it wants to be called again. It waits for nothing; the process
around it is in `daemon`.
"""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from roundq import __version__
from roundq.actors import courtesy, occupancy, settling, survey, usage
from roundq.actors.asked import Asked
from roundq.actors.attempt import Terms
from roundq.actors.board import Board
from roundq.actors.clearing import Clearing
from roundq.actors.courtesy import Courtesy, Owed
from roundq.actors.grants import Grants
from roundq.actors.held import HeldList
from roundq.actors.herald import Herald
from roundq.actors.leases import Leases
from roundq.actors.maxfails import MaxFails
from roundq.actors.memoryuse import MemoryUse
from roundq.actors.mending import Mending
from roundq.actors.pauses import Pauses
from roundq.actors.survey import Scene
from roundq.actors.sweeping import Sweeping
from roundq.actors.tenants import Tenant, Tenants
from roundq.actors.turns import Turns
from roundq.actors.usage import Meter
from roundq.actors.waiting import WaitingList
from roundq.records import cards, commons, neighbours
from roundq.records.cards import Card
from roundq.records.control import Control
from roundq.records.neighbours import Neighbourhood, Seen
from roundq.records.shelf import Shelf
from roundq.records.spool import Spool
from roundq.words import policy
from roundq.words.groups import groups_of, limits_of, throttle_of
from roundq.words.intake import Intake
from roundq.words.limits import Limit
from roundq.words.policy import Decision, Ruling, Snapshot, Want
from roundq.words.quantities import format_memory, visible
from roundq.words.ranges import array_of
from roundq.words.room import cores_text
from roundq.words.states import (
    CLAIMED,
    HELD,
)
from roundq.words.usage import part
from roundq.world import procs
from roundq.world.accounts import Groups
from roundq.world.config import Config
from roundq.world.drains import AdminDrain
from roundq.world.gpus import Gpus
from roundq.world.helpers import Helpers
from roundq.world.node import Node

#: How soon a claim that is neither kept nor given back is looked at again, and for how long.
UNDECIDED_S, UNDECIDED_MOST_S = 0.003, 2.0
#: Capacity, memory and load of the node are read this often; memory that a job needs, when it is decided.
FACTS_S = 1.0
#: Who has a home is asked anew this often, and always before a claim is kept.
HOMES_S = 30.0
#: After the user called a node lost, and after the start, it is looked for so long what is left of its jobs.
LOST_S = 3600.0
#: After a birth that failed nothing is claimed for this long: claim and return wake the daemon at once,
#: and a user at the limit of his processes stays there for a while.
AFTER_FAILED_BIRTH_S = 5.0


class Round:
    """What one daemon remembers between rounds."""

    def __init__(
        self,
        spool: Spool,
        node: Node,
        config: Callable[[], tuple[Config, str | None]],
        log: logging.Logger,
        restart_ns: int,
        helpers: Helpers | None = None,
        intake: Intake | None = None,
    ) -> None:
        """`intake` is what a worker takes; None for a daemon."""
        self.helpers, self.intake = helpers, intake
        self.spool, self.node, self.name, self.log = spool, node, node.name(), log
        self.config_of = config
        self.config, self.config_error = config()
        self.facts = survey.facts(node, self.config, -1e9)
        self.restart_ns, self.process = restart_ns, procs.own_identity()
        self.tenants = Tenants(spool, self.name, log)
        self.leases = Leases(spool, self.name)
        self.held_shelf = Shelf(spool, HELD)
        self.mending = Mending(self.held_shelf, self.name, log)
        self.board = Board(spool, commons.Publisher(self.name, helpers))
        self.sweeping = Sweeping(spool, self.name, log, self.board.publisher)
        self.herald = Herald(spool, self.name, log)
        self.clearing = Clearing(spool.path, log, os.environ)
        self.neighbourhood = Neighbourhood(self.name)
        self.supervisors = occupancy.Supervisors()
        self.turns = Turns()
        self.courtesy, self.owed, self.groups = Courtesy(), Owed(), Groups()
        self.gpus = Gpus(os.environ)
        self.meter = Meter(spool, self.name, node.machine())
        self.waiting = WaitingList(spool, log, intake)
        self.held = HeldList(spool, self.name, log, self.held_shelf)
        self.max_fails = MaxFails(spool, self.name, log, self.held.targets)
        self.asked = Asked(spool, self.name, self.tenants, self.waiting, self.held)
        self.pauses, self.memory_use = Pauses(spool, self.name), MemoryUse()
        self.homes: list[Spool] = [spool]
        self.seen: list[Seen] = []
        self.decision: Decision | None = None
        self.control, self.admin_drain = Control(spool, self.name), AdminDrain()
        #: Why nothing may start: what the daemon found, see `unsafe`, or that this node is drained.
        self.draining: str | None = None
        #: By whom, and why; None also where claims under this name may be another node's.
        self.drained: str | None = None
        #: Set by the daemon: why nothing may start here whoever wishes it.
        self.unsafe: str | None = None
        #: Set by a worker that was told so: why it starts nothing more.
        self.closed: str | None = None
        #: Whether another living node has this name: what lies here under it may be that one's.
        self.is_contested = False
        self.machine = node.machine()
        self._commons_trouble: str | None = None
        self._homes_s = 0.0
        self._tenants_s = -1e9
        self._bearers_s = -1e9
        self._bearers: list[occupancy.Told] = []
        self._claim_again_s = -1e9
        self._left: tuple[int | None, int | None] = (None, None)
        self._emptied: tuple[tuple[str, int], ...] = ()
        self._begun_s = time.monotonic()
        self._told: frozenset[policy.Verdict] = frozenset()
        #: Jobs here, by user and id, that ought to have given way: they are not counted on.
        self._staying: frozenset[tuple[str, str]] = frozenset()

    # ------------------------------------------------------------ the round

    def run(self, now_s: float) -> float:
        """One round; seconds until the next is wanted at the latest. `now_s` is a monotonic time."""
        self.config, self.config_error = self.config_of()
        if now_s - self.facts.read_s >= FACTS_S:
            granted = {gpu for tenant in self.tenants for gpu in tenant.record.gpus}
            # Those of other nodes have the same ids, and are others.
            here = [one.card for one in self.seen if one.card.node == self.name]
            granted.update(*(job.gpus for card in here for job in card.jobs))
            self.facts = survey.facts(self.node, self.config, now_s)
            self.facts = self.facts.with_gpus(self.gpus, self.config, now_s, granted)
        self._look_at_drains(now_s)
        self.tenants.settle_s = self.asked.freshness.late_s = self.config.settle_s
        self.waiting.expect_late(self.config.settle_s)
        if self.config.lease_s and self.draining is None:
            for entry in self.leases.run_out(now_s, self.config.poll_max_s):
                self.tenants.take_expired(entry)
        ended = self.tenants.reap()
        if (
            ended
            or self.tenants.has_seized
            or self.tenants
            or now_s - self._tenants_s >= self.config.poll_max_s
        ):
            self.tenants.look()
            self._tenants_s = now_s
            if not self.is_contested:
                self.tenants.recover()
        self._look_at_held(now_s)
        if settling.look(self.tenants, now_s, self.config.settle_s):
            # What was asked of it meanwhile is answered before it is born.
            self.asked.freshness.forget()
        self.meter.look(self.tenants, now_s, time.time_ns(), self.config.half_life_s, self._cores())
        self.waiting.keep_to(self.control.groups)
        self.waiting.look(now_s, self.config.poll_max_s)
        self._look_at_fails(now_s)
        self.asked.look(now_s, self.config.settle_s, has_card=self.card is not None)
        self.memory_use.look(self.tenants, now_s)
        self.pauses.look(self.tenants, self.asked.still, now_s, time.time_ns())
        again_s = self._again_s(now_s)
        self.decision = None
        # Who starts nothing more may stand in the way of others all the same.
        could_give_way = self.unsafe is None and self._could_give_way()
        is_looking = could_give_way or (bool(self.waiting) and self.draining is None)
        if is_looking:
            self._look_around(now_s)
            scene = self._scene(now_s, self._lodgers())
            self.decision = self._decide(scene)
            if self.draining is None and now_s >= self._claim_again_s:
                self._claim(self.decision, scene)
            again_s = min(again_s, self._give_way(self.decision, scene))
        elif self.waiting:
            self.decision = policy.decide(self._snapshot(self._scene(now_s, self._lodgers())))
        undecided = self._settle(now_s)
        lost_s = self._begun_s if self.asked.lost_s is None else self.asked.lost_s
        if self.board.is_due(now_s) and (is_looking or now_s - lost_s < LOST_S):
            mine = (
                self.seen if is_looking else neighbours.seen_now([self.spool], self.spool, self.name, now_s)
            )
            self._emptied = survey.emptied(mine, self.spool, self.name)
        self._publish(now_s)
        self.sweeping.run(now_s, self.config.keep_for_s, self._environments, self.config.history_s)
        self.herald.run(now_s, self.config.sendmail, self.config.settle_s)
        if self.tenants.has_buried:
            self.tenants.has_buried = False
            self.clearing.ask()
        self.clearing.run(now_s, self.config.tmp, self.tenants.supervisors)
        if self.tenants.has_seized:
            return 0.0
        again_s = min(again_s, settling.again_s(self.tenants, now_s, self.config.settle_s))
        again_s = min(again_s, self.tenants.burial.again_s(), self.sweeping.folding.again_s())
        again_s = min(again_s, self.herald.again_s(now_s))
        return min(again_s, UNDECIDED_S) if undecided else again_s

    @property
    def is_burying(self) -> bool:
        """Whether what dead supervisors left is being ended."""
        return self.tenants.burial.again_s() < float("inf")

    @property
    def is_settling(self) -> bool:
        """Whether it is being looked who else has a claim."""
        return settling.again_s(self.tenants, 0.0, 0.0) < float("inf")

    def _again_s(self, now_s: float) -> float:
        soon = [self.board.again_s(now_s), self.waiting.again_s(now_s), self.leases.again_s(now_s)]
        soon.append(self.mending.again_s(now_s))
        if self.unsafe is None and not self.is_contested:
            soon += [self.held.again_s(now_s, time.time_ns()), self.max_fails.again_s(now_s)]
        if self.gpus.is_awaited:
            soon.append(self.gpus.again_s(now_s))
        if self.waiting and now_s < self.waiting.newest_s + survey.LEAVE_S:
            soon.append(self.waiting.newest_s + survey.LEAVE_S - now_s)
        return max(0.0, min(soon))

    # ------------------------------------------------------------ looking at my spool

    def _look_at_held(self, now_s: float) -> None:
        """Lets go what may go; what is released is read with the rest that waits."""
        self.held.expect_late(self.config.settle_s)
        if self.is_contested:
            return
        if self.unsafe is None:
            self.held.look(now_s, time.time_ns(), self.config.poll_max_s)
        self.mending.look(now_s, lists=self.unsafe is not None)

    def _environments(self) -> set[str] | None:
        """Those of what waits, or is held until something has come; None if some job was not read."""
        if self.unsafe is not None or self.is_contested:
            # What is held is not looked at.
            return None
        waiting, held = self.waiting.environments(), self.held.environments()
        return None if waiting is None or held is None else waiting | held

    def _look_at_fails(self, now_s: float) -> None:
        """Has nothing more begin of arrays of which too many tasks failed."""
        watched = (self.held.max_fails(), self.waiting.max_fails())
        entries = itertools.chain(self.waiting.entries(), self.held.entries())
        for array in self.max_fails.idle(entries, now_s):
            for arrays in watched:
                arrays.pop(array, None)
        if self.max_fails.watch({**watched[0], **watched[1]}):
            self.held.look_at_targets(now_s)
        over = self.max_fails.look()
        self.waiting.bar(over)
        if not over or self.unsafe is not None or self.is_contested:
            return
        for tenant in self.tenants:
            if not tenant.is_born and array_of(tenant.entry.id) in over:
                self.tenants.withdraw(tenant, "too many tasks of its array failed")
        entries = itertools.chain(self.waiting.entries(), self.held.entries())
        for entry in self.max_fails.cancel(entries, now_s, time.time_ns(), self.held.look_at_targets):
            self.held.forget(entry)

    def _look_at_drains(self, now_s: float) -> None:
        self.control.freshness.late_s = self.config.settle_s
        self.control.look(now_s)
        drain = self.admin_drain.look() or self.control.drain
        self.drained = drain.says if drain is not None and self.unsafe is None else None
        self.drained = self.drained or self.closed
        draining = self.unsafe or self.drained
        if draining != self.draining:
            self.draining = draining
            said = f"starts nothing: {visible(draining)}" if draining else "starts jobs again"
            self.log.warning("%s", said)

    # ------------------------------------------------------------ looking around

    def _look_around(self, now_s: float) -> None:
        self._look_for_homes(now_s, HOMES_S)
        self.seen = self.neighbourhood.look(self.homes, now_s)

    def _look_for_homes(self, now_s: float, at_most_s: float) -> None:
        if now_s - self._homes_s < at_most_s and self._homes_s:
            return
        self._homes_s = now_s
        others, self._commons_trouble = neighbours.everybody(
            self.config.homes, self.config.commons, self.homes, me=self.spool, helpers=self.helpers
        )
        self.homes = [self.spool, *neighbours.told_apart(others, self.spool.user)]

    def _cores(self) -> int:
        return self.facts.offered(self.config)

    def _memory_available(self, is_asked_for: bool) -> int:
        return self.node.memory_available() if is_asked_for else self.facts.memory_available

    def _lodgers(self) -> list[occupancy.Lodger]:
        """Everybody's jobs on this node, mine as I know them."""
        now_s = time.monotonic()
        if now_s - self._bearers_s >= FACTS_S:
            # The whole process table: too much for each of a hundred jobs a second. Nobody races with these:
            # what has no card is verified by nobody.
            self._bearers_s, self._bearers = now_s, self.supervisors.look(self.spool.uid, now_s)
        found = occupancy.others_here(self.homes, self.spool.user, self.name, self.seen, self._bearers)
        found += [occupancy.Lodger(self.spool.user, tenant.occupant()) for tenant in self.tenants]
        if any(one.card.is_legacy and one.card.user == self.spool.user for one in self.seen):
            found += occupancy.own_legacy(self.spool, self.name)
        return found

    def _decide(self, scene: Scene) -> Decision:
        self.turns.look(scene.lodgers)
        self._left = survey.limits_left(scene, self.waiting)
        decision = policy.decide(self._snapshot(scene))
        self._staying = self.owed.look(decision.owed, scene.lodgers, scene.now_s)
        for user in self.turns.note(decision.ahead, scene.lodgers, scene.now_s):
            self.log.warning(
                "it was the turn of %s, who began nothing: passed over for a while", visible(user)
            )
        return decision

    def _scene(self, now_s: float, lodgers: list[occupancy.Lodger]) -> Scene:
        """What was looked at, for one decision."""
        granted = {gpu for _, job in lodgers for gpu in job.gpus}
        self.facts = self.facts.with_gpus(self.gpus, self.config, now_s, granted)
        return Scene(
            self.spool.user,
            self.name,
            self.config,
            self.facts,
            tuple(self.seen),
            tuple(lodgers),
            now_s,
            self._limit(),
            self._weights(now_s),
            self._usage(),
            self.control.groups,
            None if self.intake is None else self.intake.cores,
        )

    def _limit(self) -> Limit:
        """What I may have at most in the whole cluster: the administrator's limit and my own."""
        return self.config.limits.limit_of(self.spool.user).less(self.control.limit)

    def _weights(self, now_s: float) -> dict[str, float]:
        shares = self.config.shares
        if not shares.users and not shares.groups:
            return {}
        users = {self.spool.user, *(one.card.user for one in self.seen)}
        return {
            user: shares.weight_of(user, self.groups.of(user, now_s) if shares.groups else ())
            for user in users
        }

    def _usage(self) -> dict[str, float]:
        """What everybody has used, as a part of what the cluster could have given."""
        half_life_s = self.config.half_life_s
        total = usage.usage_of(self.seen, half_life_s)
        cores = survey.all_cores(self.seen, self.spool.user, self.name, self._cores())
        return {user: part(used, cores, half_life_s) for user, used in total.items()}

    def _snapshot(self, scene: Scene) -> Snapshot:
        passed_over = {
            one.card.user for one in self.seen if self.turns.is_passed_over(one.card.user, scene.now_s)
        }
        return survey.snapshot(
            scene,
            self.waiting,
            memory_available=self._memory_available(any(shape.memory for shape in self.waiting.shapes)),
            draining=self.draining,
            passed_over=passed_over,
            may_requeue=not self.asked.is_giving_way_elsewhere(scene.now_s),
            is_giving_way=self.asked.is_giving_way(scene.now_s),
            staying=self._staying,
        )

    # ------------------------------------------------------------ claim and check

    def _could_give_way(self) -> bool:
        """Whether others who wait may make a job of mine give way, although nothing of mine waits."""
        return any(tenant.record.job.restartable and not tenant.is_preempting for tenant in self.tenants)

    def _give_way(self, decision: Decision, scene: Scene) -> float:
        """Asks those jobs of mine to give way that shall; seconds until it is to be looked at again."""
        asked = [(self.tenants.by_id[one.job_id], one.says) for one in decision.requeues]
        scavenges = all(tenant.record.job.scavenge for tenant, _ in asked)
        here = [job for user, job in scene.lodgers if scavenges or user == self.spool.user]
        rank = courtesy.rank(self.seen, self.spool.user, self.name, here, only_scavenges=scavenges)
        if self.courtesy.is_due([tenant.occupant() for tenant, _ in asked], rank, scene.now_s):
            for tenant, says in asked:
                self.tenants.preempt(tenant, says.removeprefix("gives way "))
            self.courtesy.forget()
        return self.courtesy.again_s(rank, scene.now_s)

    def _grants(self, lodgers: Iterable[occupancy.Lodger]) -> Grants:
        """What of this node is taken by name."""
        return Grants(self.facts.units, self.facts.gpus, lodgers)

    def _claim(self, decision: Decision, scene: Scene) -> None:
        cores = scene.cores
        grants = self._grants(scene.lodgers)
        by_id = {
            one.entry.id: one for waiting in self.waiting.shapes.values() for one in waiting[: cores + 1]
        }
        started = [by_id[job_id] for job_id in decision.starts]
        self.waiting.remove([one.entry for one in started])
        for one in started:
            job_id, stamp_ns = one.entry.id, time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            on_threads = job_id in decision.on_threads
            given = grants.choose(one.want.cores or cores, one.want.gpus, threads=on_threads)
            if given is None:
                # Cards tell of fewer GPUs in use than have names there. It is listed again, and tried again.
                continue
            if self.tenants.claim(one.entry, one.want, cores, stamp_ns, scene.now_s, given) is not None:
                self.tenants.say(job_id, CLAIMED, decision.reason(job_id))
        verdicts = decision.verdicts()
        for verdict in verdicts:
            # The policy's own sentence, each time it changes: `rq daemon -v` shows it.
            if verdict not in self._told:
                self.log.debug("%s, priority %d: %s", *_size(verdict), verdict.says)
        self._told = frozenset(verdicts)

    def _is_wide(self, claimed: Iterable[Tenant], scene: Scene) -> bool:
        """Whether claims on other nodes matter: where licenses of the cluster, or limits, are at stake."""
        pool = self.config.licenses
        return (
            scene.limit != Limit()
            or bool(self._group_limits(claimed))
            or any(name in pool for tenant in claimed for name, _ in tenant.record.job.licenses)
        )

    def _group_limits(self, claimed: Iterable[Tenant]) -> dict[str, int]:
        """The limits of the sets and arrays of claims, as they are now."""
        found: dict[str, int] = {}
        for tenant in claimed:
            job = tenant.record.job
            found |= limits_of(groups_of(job), throttle_of(job), self.control.groups)
        return found

    def _gpu_maker(self) -> str | None:
        """Whose GPUs this node has, empty if nobody knows; None if it has none."""
        return self.gpus.maker if self.gpus.maker or self.facts.gpus else None

    def _move(self, tenant: Tenant, lodgers: Iterable[occupancy.Lodger]) -> bool:
        """Names other CPUs and GPUs for a claim; whether there are enough."""
        job = tenant.record.job
        others = [one for one in lodgers if (one.user, one.job.id) != (self.spool.user, tenant.entry.id)]
        given = self._grants(others).choose(tenant.record.cores, job.gpus, threads=tenant.record.threads)
        if given is None:
            return False
        if given.cpus or not tenant.record.cpus:
            tenant.grant(given)
        # Else what is free by number has the names of a claim that will yield: they are free in a moment.
        return True

    def _settle(self, now_s: float) -> bool:
        """Publishes my claims, looks who else claimed, keeps or gives back; whether any is left undecided."""
        unsettled = [tenant for tenant in self.tenants if not tenant.settled and tenant.is_ready]
        if not unsettled:
            return False
        self._publish(now_s)
        # A user who came a moment ago counts too.
        self._look_for_homes(now_s, 0.0)
        if self._is_wide(unsettled, self._scene(now_s, [])):
            # Cards of other nodes, too, as their last writer left them.
            self.seen = self.neighbourhood.look(self.homes, now_s)
        lodgers = self._lodgers()
        table = survey.table_for(lodgers)
        scene = self._scene(now_s, lodgers)
        claims = [occupancy.claim(lodger, table) for lodger in lodgers]
        if self._is_wide(unsettled, scene):
            claims += survey.claims_elsewhere(scene)
        bounds = survey.bounds(scene, self._group_limits(unsettled))
        memory = self._memory_available(any(tenant.record.job.memory_required for tenant in unsettled))
        kept: list[Tenant] = []
        is_undecided = False
        for tenant in unsettled:
            mine = next(c for c in claims if (c.id, c.user, c.node) == (tenant.entry.id, self.spool.user, ""))
            others = [claim for claim in claims if claim is not mine]
            ruling, says = policy.settle(mine, others, scene.cores, memory, bounds)
            if self.drained is not None:
                ruling, says = Ruling.WITHDRAW, f"this node was {self.drained}"
            is_late = now_s - tenant.claimed_s >= UNDECIDED_MOST_S
            if ruling is Ruling.UNDECIDED and not is_late:
                is_undecided = True
            elif ruling is Ruling.MOVE and not is_late and self._move(tenant, lodgers):
                # It is published before it is looked at again.
                is_undecided = True
            elif ruling is Ruling.KEEP:
                tenant.settled = True
                kept.append(tenant)
                claims = [replace(mine, settled=True) if claim is mine else claim for claim in claims]
            elif self.tenants.withdraw(tenant, says):
                claims = others
            else:
                # Others have a copy yet, which give way to this one: it stays, and is tried again.
                tenant.goes_back = None
        if kept:
            if not self.tenants.bear(
                kept,
                Terms(self.name, self.config.grace_s, self.config.tmp, self._gpu_maker()),
                self.config.lease_s or None,
                lambda: self._publish(now_s),
            ):
                self._claim_again_s = now_s + AFTER_FAILED_BIRTH_S
        return is_undecided

    # ------------------------------------------------------------ the card

    def _publish(self, now_s: float) -> None:
        """Puts my card in the spool if it says something new, or if its beat is due."""
        self.board.publish(self._new_card(), self.config, now_s)

    @property
    def card(self) -> Card | None:
        """My card as it was published last."""
        return self.board.card

    def _new_card(self) -> Card:
        decision = self.decision
        heads: tuple[Want, ...] = ()
        said: tuple[policy.Verdict, ...] = ()
        if decision is not None:
            # Whole minutes, so that waiting alone does not make a new card.
            heads = tuple(
                replace(want, waited_s=_waited(want.waited_s, self.config.patience_s))
                for want in decision.heads()
            )
            said = decision.verdicts()
            said += survey.passed_by(self.waiting, self._limit().waiting, said)
        elif self.card is not None and self.waiting:
            heads, said = self.card.heads, self.card.said
        trouble = [*self.waiting.trouble(), *self.held.trouble(), *self.tenants.trouble.values()]
        trouble += self.max_fails.trouble()
        # Why it cannot be written is, as a rule, why it cannot be read.
        of_commons = self.board.publisher.trouble or self._commons_trouble
        trouble += [text for text in (self.config_error, self.draining, of_commons) if text]
        trouble += [*self.admin_drain.trouble, *self.control.trouble, *self.gpus.trouble]
        if self.helpers is not None:
            trouble += [
                f"{home} does not answer: what its user runs here counts as it was last seen"
                for home in self.helpers.late()
                if not commons.is_at(home, self.config.commons)
            ]
        return Card(
            user=self.spool.user,
            node=self.name,
            pid=self.process.pid,
            physical_cores=self.facts.physical_cores,
            logical_cpus=self.facts.logical_cpus,
            restart_ns=self.restart_ns,
            version=__version__,
            machine=self.machine,
            process=self.process,
            state=cards.UP if self.draining is None else cards.DRAINING,
            reason=self.draining or "",
            cores=self._cores(),
            memory=self.facts.memory_total,
            memory_available=self.facts.memory_available,
            load=self.facts.load,
            jobs=tuple(tenant.occupant() for tenant in self.tenants),
            waiting=len(self.waiting),
            heads=heads,
            said=said,
            trouble=tuple(sorted(trouble)[:20]),
            pong=self.asked.pongs,
            written_ns=max(0, time.time_ns()),
            threads=self.facts.threads,
            gpus=tuple(cards.Gpu(gpu.id, gpu.name, gpu.busy) for gpu in self.facts.gpus),
            features=self.facts.features,
            licenses=tuple(sorted(self.config.node_licenses.items())),
            usage=self.meter.usage,
            cores_left=self._left[0],
            jobs_left=self._left[1],
            emptied=self._emptied,
            worker="" if self.intake is None else self.intake.card_text,
        )

    def leave(self) -> None:
        """The last card: this daemon starts nothing more; what runs here still counts."""
        self.tenants.leave()
        self.board.leave(self._new_card(), self.config)
        self.herald.leave()


def _size(verdict: policy.Verdict) -> tuple[str, int]:
    shape = verdict.shape
    cores = "a whole node" if not shape.cores else cores_text(shape.cores)
    memory = f" and {format_memory(shape.memory)}" if shape.memory else ""
    return f"jobs of {cores}{memory}", shape.priority


def _waited(waited_s: float, patience_s: float) -> float:
    """How long a job has waited, as a card tells it: that it is longer than the patience it tells at once."""
    if waited_s <= patience_s:
        return waited_s // 60 * 60
    return patience_s + 1 + (waited_s - patience_s) // 60 * 60
