"""What one decision depends on: this node, who is on it, and the cluster, as the policy sees them.

It counts what others have read, and decides nothing.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from roundq.actors import occupancy
from roundq.actors.occupancy import Lodger
from roundq.actors.waiting import Waiting, WaitingList
from roundq.records import cards, neighbours
from roundq.records import spool as spools
from roundq.records.cards import Occupant
from roundq.records.neighbours import Seen
from roundq.records.spool import Spool
from roundq.words import policy
from roundq.words.allocation import Gpu, Unit
from roundq.words.backfill import End
from roundq.words.claims import Bounds, Claim
from roundq.words.groups import GroupLimit, limits_of
from roundq.words.job import NS
from roundq.words.limits import Limit
from roundq.words.policy import Holding, Neighbour, Offer, Shape, Snapshot, Verdict, Want
from roundq.words.room import licenses_here
from roundq.words.states import OWNED_STATES
from roundq.world import procs
from roundq.world.config import Config
from roundq.world.gpus import Gpus
from roundq.world.node import Node
from roundq.world.offspring import Offspring

#: A daemon on this node whose card stands still for this long does not take its turn: it is passed over.
STUCK_S = 3 * cards.BEAT_S
#: For how long a small job that is new is left to a fuller node, where it leaves wide ones their room.
LEAVE_S = 2.0
_NO_LIMITS: Mapping[str, GroupLimit] = {}
_NOTHING: Mapping[str, int] = {}


@dataclass(frozen=True, slots=True)
class Facts:
    """This node, as read at `read_s` (monotonic); reading it anew costs a millisecond. Bytes.

    `units` are the cores of which jobs are given CPUs, none if nobody is pinned; `threads` are the spare
    hardware threads. While it `is_awaited` it is not yet known which there are.
    """

    physical_cores: int
    logical_cpus: int
    memory_total: int
    memory_available: int
    load: float
    read_s: float
    units: tuple[Unit, ...] = ()
    threads: int = 0
    features: tuple[str, ...] = ()
    gpus: tuple[Gpu, ...] = ()
    is_awaited: bool = False

    def with_gpus(self, gpus: Gpus, config: Config, now_s: float, granted: Collection[str]) -> Facts:
        """This with the GPUs that there are now; `granted` are the ids of those that jobs have."""
        return replace(self, gpus=gpus.look(now_s, config.gpus, granted), is_awaited=gpus.is_awaited)

    def offered(self, config: Config) -> int:
        """The cores that jobs may use."""
        if config.cores == "physical":
            return self.physical_cores
        return self.logical_cpus if config.cores == "logical" else int(config.cores)


def facts(node: Node, config: Config, now_s: float) -> Facts:
    """What this node has now, but for GPUs."""
    return Facts(
        node.physical_cores(),
        node.logical_cpus(),
        node.memory_total(),
        node.memory_available(),
        node.load(),
        now_s,
        node.units(config.cores),
        node.spare_threads(config.cores),
        tuple(sorted({*node.features(), *config.features})),
    )


@dataclass(frozen=True, slots=True)
class Scene:
    """One look around: every card that was seen, and everybody's jobs on this node, mine as I know them.

    `now_s` is monotonic. `limit` is mine in the whole cluster, `weights` those of the users, 1 if missing;
    `usage` what they used, as a part of what the cluster could have given. `asked` is what I said of groups:
    how many of their jobs may run at once, None for any number. `here_limit` are the cores that a worker of
    mine fills here, None for all.
    """

    me: str
    node: str
    config: Config
    facts: Facts
    seen: tuple[Seen, ...]
    lodgers: tuple[Lodger, ...]
    now_s: float
    limit: Limit
    weights: Mapping[str, float] = field(default_factory=dict)
    usage: Mapping[str, float] = field(default_factory=dict)
    asked: Mapping[str, int | None] = field(default_factory=dict)
    here_limit: int | None = None

    @property
    def cores(self) -> int:
        """The cores that this node offers."""
        return self.facts.offered(self.config)

    def others(self) -> Iterable[Seen]:
        """The cards but that of mine here, which says less than I know."""
        return (one for one in self.seen if one.card.user != self.me or one.card.node != self.node)


def table_for(lodgers: Collection[Lodger], *, is_asked_for: bool = False) -> Offspring:
    """The process table, read only if somebody was promised memory, or memory is asked for."""
    is_read = (bool(lodgers) and is_asked_for) or any(lodger.job.memory for lodger in lodgers)
    return Offspring(procs.table() if is_read else {})


def holdings(
    scene: Scene, *, is_memory_asked_for: bool, staying: Collection[tuple[str, str]] = ()
) -> tuple[Holding, ...]:
    """Everybody's jobs on this node; what they use is not known if no job that waits asks for memory.

    Those `staying`, by user and id, are not counted on to give way, whatever is said of them.
    """
    table = table_for(scene.lodgers, is_asked_for=is_memory_asked_for)
    now_ns = time.time_ns()
    acting = {one.card.user for one in scene.others() if one.card.node == scene.node and _acts(one)}
    acting.add(scene.me)
    there = (
        occupancy.holding(
            lodger, table, now_ns, unattended=lodger.user not in acting, grace_s=scene.config.grace_s
        )
        for lodger in scene.lodgers
    )
    return tuple(
        replace(held, unattended=True, leaving=False) if (held.user, held.id) in staying else held
        for held in there
    )


def _acts(one: Seen) -> bool:
    """Whether the daemon of a card of this node lives, and does not hang; 0.2.9's shows no sign of that."""
    return one.is_alive and (one.card.is_legacy or one.silent_s <= STUCK_S)


# ---------------------------------------------------------------- the cluster


def running_cores(scene: Scene) -> dict[str, int]:
    """Cores that each user has in the whole cluster, but for what scavenges."""
    here = {one.card.user for one in scene.seen if one.card.node == scene.node and not one.is_alive}
    # Of what daemons left on this node it is known what runs on; of mine I know most.
    here.add(scene.me)
    running = occupancy.running_cores(
        one for one in scene.seen if one.card.node != scene.node or one.card.user not in here
    )
    running.setdefault(scene.me, 0)
    for user, job in scene.lodgers:
        if user in here and not job.scavenge:
            running[user] = running.get(user, 0) + (scene.cores if job.exclusive else job.cores)
    return running


def _my_cores(scene: Scene) -> int:
    """My cores in the whole cluster, what scavenges too: for limits."""
    elsewhere = sum(
        occupancy.promised(one.card) for one in _told_elsewhere(scene) if one.card.user == scene.me
    )
    return elsewhere + here_cores(scene)


def here_cores(scene: Scene) -> int:
    """The cores of my jobs on this node, claimed and running."""
    return sum(scene.cores if job.exclusive else job.cores for user, job in scene.lodgers if user == scene.me)


def limits_left(scene: Scene, waiting: WaitingList) -> tuple[int | None, int | None]:
    """The cores and jobs that my limits still allow in the whole cluster; None for no limit.

    If all that waits is of sets and arrays with limits, no more jobs than these allow; of a worker no more
    cores than it would still fill.
    """
    of_groups = _left_of_groups(scene, waiting)
    here = None if scene.here_limit is None else max(0, scene.here_limit - here_cores(scene))
    if scene.limit == Limit():
        return here, of_groups
    cores, jobs = scene.limit.left(_my_cores(scene), running_jobs(scene))
    cores = min((left for left in (cores, here) if left is not None), default=None)
    return cores, min((left for left in (jobs, of_groups) if left is not None), default=None)


def _left_of_groups(scene: Scene, waiting: WaitingList) -> int | None:
    """How many jobs at most may start if each that waits is of a group with a limit."""
    if not waiting.shapes or not all(shape.groups for shape in waiting.shapes):
        return None
    limits = group_limits(scene, waiting)
    tightest = {min(shape.groups, key=lambda group: limits[group].left) for shape in waiting.shapes}
    return sum(limits[group].left for group in tightest)


def running_jobs(scene: Scene) -> int:
    """My claimed and running jobs in the whole cluster."""
    elsewhere = sum(len(one.card.jobs) for one in _told_elsewhere(scene) if one.card.user == scene.me)
    return elsewhere + sum(1 for user, _ in scene.lodgers if user == scene.me)


def running_of(scene: Scene) -> Counter[str]:
    """My claimed and running jobs of each group in the whole cluster."""
    elsewhere = (job for one in _told_elsewhere(scene) if one.card.user == scene.me for job in one.card.jobs)
    here = (job for user, job in scene.lodgers if user == scene.me)
    return Counter(group for job in itertools.chain(elsewhere, here) for group in job.groups)


def group_limits(scene: Scene, waiting: WaitingList) -> dict[str, GroupLimit]:
    """The limits of the groups of what waits, with what counts for them."""
    most: dict[str, int] = {}
    for shape, jobs in waiting.shapes.items():
        if shape.groups:
            most |= limits_of(jobs[0].groups, jobs[0].throttle, scene.asked)
    running = running_of(scene) if most else Counter()
    return {group: GroupLimit(count, running[group]) for group, count in most.items()}


def _used(scene: Scene) -> dict[str, int]:
    """Cores in use on each node."""
    used: dict[str, int] = {}
    for one in occupancy.standing(scene.seen):
        used[one.card.node] = used.get(one.card.node, 0) + occupancy.cores_of(one.card)
    used[scene.node] = sum(
        0 if job.threads else scene.cores if job.exclusive else job.cores or scene.cores
        for _, job in scene.lodgers
    )
    return used


def offers(scene: Scene) -> list[Offer]:
    """The nodes where my jobs may run: those of my own living daemons, and what is free there."""
    used, there = _used(scene), _occupants(scene)
    pool = scene.config.licenses
    found = [
        Offer(
            scene.node,
            scene.cores,
            scene.cores - used[scene.node],
            scene.facts.memory_total,
            len(scene.facts.gpus),
            frozenset(scene.facts.features),
            licenses_here(scene.config.node_licenses, pool),
            sum(1 for gpu in scene.facts.gpus if not gpu.busy) - _gpus(there.get(scene.node, [])),
            _ends(there.get(scene.node, []), scene.cores, scene.config.grace_s),
        )
    ]
    for one in scene.others():
        card = one.card
        # A worker may take none of what waits: for it nothing is kept or left there.
        if card.user == scene.me and one.is_alive and card.state == cards.UP and not card.worker:
            jobs = there.get(card.node, [])
            found.append(
                Offer(
                    card.node,
                    card.capacity,
                    card.capacity - used.get(card.node, 0),
                    card.memory,
                    len(card.gpus),
                    frozenset(card.features),
                    licenses_here(dict(card.licenses), pool),
                    sum(1 for gpu in card.gpus if not gpu.busy) - _gpus(jobs),
                    _ends(jobs, card.capacity, scene.config.grace_s),
                )
            )
    return found


def _occupants(scene: Scene) -> dict[str, list[tuple[Occupant, float]]]:
    """The jobs on each live node, and for how many seconds each has run, by its node's clock."""
    found: dict[str, list[tuple[Occupant, float]]] = {}
    for one in scene.others():
        if one.is_alive and one.card.node != scene.node:
            # The card is as old as its silence, and both times on it are of one clock.
            written_ns = one.card.written_ns + round(one.silent_s * NS)
            found.setdefault(one.card.node, []).extend(
                (job, occupancy.ran_s(job, written_ns)) for job in one.card.jobs
            )
    now_ns = time.time_ns()
    found[scene.node] = [(job, occupancy.ran_s(job, now_ns)) for _, job in scene.lodgers]
    return found


def _gpus(jobs: Iterable[tuple[Occupant, float]]) -> int:
    return sum(len(job.gpus) for job, _ in jobs)


def _ends(jobs: Iterable[tuple[Occupant, float]], cores: int, grace_s: float) -> tuple[End, ...]:
    return tuple(
        End(
            occupancy.left_s(job, ran_s, grace_s),
            cores if job.exclusive else job.cores,
            len(job.gpus),
        )
        for job, ran_s in jobs
        if not job.threads
    )


def all_cores(seen: Iterable[Seen], me: str, here: str, cores: int) -> int:
    """The cores of the nodes where a daemon of mine lives; this one has `cores`.

    Of my own cards only: a stranger's could tell of nodes that there are not, all of them free.
    """
    return cores + sum(_capacities(seen, me, here).values())


def _capacities(seen: Iterable[Seen], me: str, here: str) -> dict[str, int]:
    """The cores of my other live nodes that are not draining."""
    return {
        one.card.node: one.card.capacity
        for one in seen
        if one.card.user == me and one.is_alive and one.card.state == cards.UP and one.card.node != here
    }


def cluster(scene: Scene) -> tuple[int, int]:
    """The cores of all live nodes that I may use, and how many of them are free."""
    capacity = {**_capacities(scene.seen, scene.me, scene.node), scene.node: scene.cores}
    used = _used(scene)
    free = sum(max(0, cores - used.get(node, 0)) for node, cores in capacity.items())
    return sum(capacity.values()), free


def active(scene: Scene, *, i_wait: bool) -> frozenset[str]:
    """The users who have something running or waiting."""
    found = {one.card.user for one in scene.others() if one.is_alive and (one.card.jobs or one.card.waiting)}
    found.update(user for user, _ in scene.lodgers)
    return frozenset(found | {scene.me}) if i_wait else frozenset(found)


def yielding(scene: Scene) -> frozenset[str]:
    """The users who have a restartable job on some node where their daemon lives: they could give way."""
    found = {user for user, job in scene.lodgers if user == scene.me and job.restartable}
    for one in scene.others():
        acts = _acts(one) if one.card.node == scene.node else one.is_alive
        if acts and any(job.restartable for job in one.card.jobs):
            found.add(one.card.user)
    return frozenset(found)


def _told_elsewhere(scene: Scene) -> list[Seen]:
    """The cards of other nodes, but for those whose user's daemons say that these jobs are there no more."""
    emptied = occupancy.emptied(scene.seen)
    return [
        one
        for one in scene.others()
        if one.card.node != scene.node and (one.card.user, one.card.node, one.card.beat) not in emptied
    ]


def _elsewhere(scene: Scene) -> list[Lodger]:
    """The jobs on other nodes; of silent ones, too, where they may run."""
    return [Lodger(one.card.user, job) for one in _told_elsewhere(scene) for job in one.card.jobs]


def emptied(seen: Iterable[Seen], spool: Spool, here: str) -> tuple[tuple[str, int], ...]:
    """Silent nodes of this user whose cards tell of jobs although no record of his names them any more."""
    silent = {
        one.card.node: one.card.beat
        for one in seen
        if one.spool.path == spool.path and one.card.node != here and not one.is_alive and one.card.jobs
    }
    if not silent:
        return ()
    named = {entry.node for entry in spools.scan(spool, OWNED_STATES)}
    return tuple(sorted((node, beat) for node, beat in silent.items() if node not in named))


def claims_elsewhere(scene: Scene) -> list[Claim]:
    """What on other nodes counts for the check after a claim: licenses of the cluster, and what is mine."""
    pool = scene.config.licenses
    return [
        occupancy.claim_elsewhere(lodger, "elsewhere", pool)
        for lodger in _elsewhere(scene)
        if lodger.user == scene.me or any(name in pool for name, _ in lodger.job.licenses)
    ]


def bounds(scene: Scene, groups: Mapping[str, int] = _NOTHING) -> Bounds:
    """What there is beside cores and memory, for that check; `groups` are limits of the claims' groups."""
    return Bounds(
        scene.facts.threads,
        frozenset(gpu.id for gpu in scene.facts.gpus if not gpu.busy),
        scene.config.node_licenses,
        scene.config.licenses,
        scene.limit.cores,
        scene.limit.jobs,
        groups,
    )


def pool_used(scene: Scene) -> dict[str, int]:
    """Licenses that jobs on other nodes hold, by name."""
    used: dict[str, int] = {}
    for _, job in _elsewhere(scene):
        for name, count in job.licenses:
            used[name] = used.get(name, 0) + count
    return used


# ---------------------------------------------------------------- who may take turns here


def players(scene: Scene, passed_over: Collection[str]) -> tuple[Neighbour, ...]:
    """The other users who could take a turn on this node."""
    found = []
    wants: tuple[Want, ...]
    for one in scene.others():
        card = one.card
        if card.node != scene.node or not _acts(one) or card.state != cards.UP or card.user in passed_over:
            continue
        if card.is_legacy:
            head = neighbours.legacy_head(one.spool, scene.cores, scene.facts.memory_available)
            wants, count = () if head is None else (head,), 1
        else:
            wants, count = card.heads[: cards.HEADS_MAX], card.waiting
        found.append(
            Neighbour(
                card.user,
                wants[0] if wants else None,
                count,
                wants[1:],
                cores_left=card.cores_left,
                jobs_left=card.jobs_left,
            )
        )
    return tuple(found)


def wants(
    scene: Scene, waiting: WaitingList, limits: Mapping[str, GroupLimit] = _NO_LIMITS
) -> tuple[Want, ...]:
    """The first of my waiting jobs of each shape; no more can start in one pass than there are cores.

    Of sets and arrays with `limits` there may be thousands, whose jobs differ in nothing else.
    """
    where, before = offers(scene), kept_before(scene.seen, scene.me)
    found: list[Want] = []
    counted = first(waiting, scene.limit.waiting)
    for shape, most in _may_start(scene, waiting, limits).items():
        if shape.gpus and scene.facts.is_awaited:
            # That there are none must not be said before it is known.
            continue
        kept_on = policy.keepers(shape, where, before.get(shape.bare, ()))
        leave_s = LEAVE_S if policy.is_for_another(shape, scene.node, where) else 0.0
        # One more than can start waits on.
        found += [
            replace(one.want, waited_s=scene.now_s - one.known_s, kept_on=kept_on)
            for one in waiting.shapes[shape][: most + 1]
            if scene.now_s - one.known_s >= leave_s and (counted is None or one.entry.id in counted)
        ]
    return tuple(found)


def _may_start(scene: Scene, waiting: WaitingList, limits: Mapping[str, GroupLimit]) -> dict[Shape, int]:
    """How many of each shape could start at most, of those that could or of which is to be told why not."""
    alike: dict[Shape, list[Shape]] = {}
    for shape in waiting.shapes:
        alike.setdefault(shape.bare, []).append(shape)
    found: dict[Shape, int] = {}
    for kinds in alike.values():
        left = [
            min([scene.cores, *(limits[group].left for group in kind.groups if group in limits)])
            for kind in kinds
        ]
        if len(kinds) == 1:
            found[kinds[0]] = left[0]
            continue
        # What comes behind as many as there are cores cannot start before these.
        lines = [
            _in_turn(kind, waiting.shapes[kind][:most])
            for kind, most in zip(kinds, left, strict=True)
            if most
        ]
        first_of_all = itertools.islice(heapq.merge(*lines), scene.cores)
        begin = Counter(kind for _, _, kind in first_of_all)
        found.update(begin)
    # A card tells why others wait, of as many as there is room for.
    return dict.fromkeys(itertools.islice(waiting.shapes, cards.HEADS_MAX), 0) | found


def _in_turn(kind: Shape, jobs: Iterable[Waiting]) -> Iterator[tuple[int, object, Shape]]:
    """Jobs of one shape as they are merged with those of others that differ in their groups alone."""
    return ((one.submitted_ns, policy.natural(one.entry.id), kind) for one in jobs)


def kept_before(seen: Iterable[Seen], me: str) -> dict[Shape, frozenset[str]]:
    """The nodes that were chosen for each shape of mine: whose own cards say so, so that all agree."""
    chosen: dict[Shape, set[str]] = {}
    for one in seen:
        card = one.card
        if card.user == me and one.is_alive:
            for head in card.heads:
                if card.node in (head.kept_on or ()):
                    chosen.setdefault(head.shape, set()).add(card.node)
    return {shape: frozenset(nodes) for shape, nodes in chosen.items()}


def first(waiting: WaitingList, most: int | None) -> frozenset[str] | None:
    """Those of my waiting jobs that count if no more than so many may wait; None: all of them."""
    if most is None or len(waiting) <= most:
        return None
    order = heapq.merge(*waiting.shapes.values(), key=lambda one: policy.turn(one.want))
    return frozenset(one.entry.id for one in itertools.islice(order, most))


def passed_by(waiting: WaitingList, most: int | None, said: Iterable[Verdict]) -> tuple[Verdict, ...]:
    """What is said of the shapes of which no job counts."""
    counted = first(waiting, most)
    if counted is None:
        return ()
    told = {verdict.shape for verdict in said}
    says = f"waits: only {most:,} waiting jobs of yours count at a time, and others come before it"
    # Each shape is in order: if its first job does not count, none does.
    return tuple(
        Verdict(shape, says)
        for shape, jobs in waiting.shapes.items()
        if shape not in told and jobs[0].entry.id not in counted
    )


def snapshot(
    scene: Scene,
    waiting: WaitingList,
    *,
    memory_available: int,
    draining: str | None,
    passed_over: Collection[str],
    may_requeue: bool,
    is_giving_way: bool = False,
    staying: Collection[tuple[str, str]] = (),
) -> Snapshot:
    """All that a decision depends on. `memory_available` is that of this very moment, in bytes.

    `staying` are jobs here, by user and id, that are not counted on to give way.
    """
    total, free = cluster(scene)
    limits = group_limits(scene, waiting)
    here, others = wants(scene, waiting, limits), players(scene, passed_over)
    heads = itertools.chain(here, *((one.head, *one.others) for one in others if one.head is not None))
    return Snapshot(
        node=scene.node,
        me=scene.me,
        cores=scene.cores,
        memory_total=scene.facts.memory_total,
        memory_available=memory_available,
        draining=draining,
        holdings=holdings(scene, is_memory_asked_for=any(want.memory for want in heads), staying=staying),
        running_cores=running_cores(scene),
        wants=here,
        neighbours=others,
        patience_s=scene.config.patience_s,
        threads=scene.facts.threads,
        gpus=sum(1 for gpu in scene.facts.gpus if not gpu.busy),
        gpus_busy=sum(1 for gpu in scene.facts.gpus if gpu.busy),
        features=frozenset(scene.facts.features),
        pool=scene.config.licenses,
        licenses=scene.config.node_licenses,
        pool_used=pool_used(scene),
        weights=scene.weights,
        usage=scene.usage,
        active=active(scene, i_wait=bool(waiting)),
        cluster_cores=total,
        cluster_free=free,
        cores_limit=scene.limit.cores,
        jobs_limit=scene.limit.jobs,
        jobs_running=running_jobs(scene),
        may_requeue=may_requeue,
        is_giving_way=is_giving_way,
        grace_s=scene.config.grace_s,
        cores_running=_my_cores(scene),
        yielding=yielding(scene),
        groups=limits,
        here_limit=scene.here_limit,
        here_cores=here_cores(scene),
    )
