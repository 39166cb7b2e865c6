"""The cluster as cards tell it: which nodes there are, what they have, who uses it.

`look` reads, once, and changes nothing; `nodes_of` and `users_of` are pure and count
what was read. Says only what is known: a node whose cards stand still is
"not seen for 14 min", never "down".
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from roundq.actors import occupancy
from roundq.records import neighbours
from roundq.records import spool as spools
from roundq.records.cards import DRAINING, LEAVING, Card, Gpu, Occupant
from roundq.records.neighbours import Seen
from roundq.records.spool import Spool
from roundq.words.errors import RecordError
from roundq.words.job import Identity
from roundq.words.quantities import ALL_CORES
from roundq.words.states import CLAIMED, RUNNING, WAITING
from roundq.world import procs

#: What `NodeFacts.state` may be.
UP, DRAINS, SILENT, STOPPED = "up", "draining", "silent", "stopped"
LEGACY_VERSION = "0.2.9"
#: Names per directory that are counted; strangers may have a million.
NAMES_MOST = 50_000


@dataclass(frozen=True, slots=True)
class Occupancy:
    """A job that has cores of a node. `cores` is ALL_CORES for one of 0.2.9 that has them all.

    One on `threads` has hardware threads that other jobs' cores left over; `gpus` are ids.
    """

    spool: Spool
    node: str
    cores: int
    scavenge: bool = False
    threads: bool = False
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Look:
    """What was read: every card, every job that occupies a node, how many jobs of each user wait.

    `me` is my spool, `here` the node that looked, which alone knows what lives on it.
    """

    me: Spool
    here: str
    seen: tuple[Seen, ...]
    occupied: tuple[Occupancy, ...]
    waiting: dict[Spool, int]


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """A node. `offers` are what different users' daemons offer, if they do not agree.

    `silent_s` is for how long nothing was heard of it, None while it is heard of.
    `drainers` are the users for whom it drains, `settling` counts claims that are not trusted
    yet. Memory is in bytes. `threads` are the hardware threads beside the first ones of its cores, of which
    jobs have `threads_used`. `gpus_free` are the ids of those that neither a job has nor a stranger uses.
    `workers` are users with a worker there, and what that takes.
    """

    name: str
    state: str
    reason: str
    silent_s: float | None
    cores: int
    offers: dict[str, int]
    physical_cores: int
    logical_cpus: int
    used: int
    jobs: int
    load: float | None
    memory: int | None
    memory_available: int | None
    users: tuple[str, ...]
    drainers: tuple[str, ...]
    versions: tuple[str, ...]
    settling: int = 0
    threads: int = 0
    threads_used: int = 0
    gpus: tuple[Gpu, ...] = ()
    gpus_free: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    licenses: tuple[tuple[str, int], ...] = ()
    workers: tuple[tuple[str, str], ...] = ()

    @property
    def is_live(self) -> bool:
        """Whether any daemon there is heard of, so that its cores count."""
        return self.state in (UP, DRAINS)


@dataclass(frozen=True, slots=True)
class UserFacts:
    """A user: running cores and jobs on nodes that are heard of, waiting jobs, nodes with a live daemon.

    What scavenges counts for nobody, and so not in `cores`: its cores are `scavenging`.
    """

    name: str
    cores: int
    running: int
    waiting: int
    nodes: tuple[str, ...]
    is_me: bool
    scavenging: int = 0


# ---------------------------------------------------------------- looking


def look(
    of: Sequence[Spool], me: Spool, node: str, now_s: float, supervisors: Iterable[occupancy.Told] = ()
) -> Look:
    """The cards and occupants of these users as they are now, seen from `node`; `now_s` is monotonic.

    Of users without a card here what runs here is told by their `supervisors`.
    """
    seen = neighbours.seen_now(of, me, node, now_s)
    by_path: dict[str, list[Seen]] = {}
    for one in seen:
        by_path.setdefault(one.spool.path, []).append(one)
    occupied: list[Occupancy] = []
    waiting: dict[Spool, int] = {}
    for spool in of:
        own = by_path.get(spool.path, [])
        occupied += _occupied(spool, own, node)
        waiting[spool] = _waiting(spool, own)
    told = {one.spool.uid for one in seen if one.card.node == node}
    unseen = [one for one in supervisors if one.uid not in told]
    uids: dict[Identity | None, int] = {one.process: one.uid for one in unseen}
    known = {spool.uid: spool for spool in of}
    for user, job in occupancy.by_process(unseen, {uid: spool.user for uid, spool in known.items()}, me.user):
        uid = uids[job.process]
        # Of some users nothing else is known.
        spool = known.get(uid) or Spool("", user, uid, is_commons=True)
        occupied.append(_occupancy(spool, node, job))
    return Look(me, node, tuple(seen), tuple(occupied), waiting)


def _occupancy(spool: Spool, node: str, job: Occupant) -> Occupancy:
    return Occupancy(spool, node, job.cores, job.scavenge, job.threads, job.gpus)


def _occupied(spool: Spool, seen: Iterable[Seen], here: str) -> list[Occupancy]:
    listed = None
    if not spool.is_commons:
        with contextlib.suppress(OSError):
            found = spools.scan(spool, (CLAIMED, RUNNING), most=NAMES_MOST)
            listed = {(entry.id, entry.node) for entry in found}
    occupied = [
        _occupancy(spool, one.card.node, job)
        for one in seen
        for job in one.card.jobs
        # A daemon that died leaves a card that says what ran then; the spool says what runs now.
        if (listed is None or (job.id, one.card.node) in listed) and not _is_gone(job, one.card.node == here)
    ]
    try:
        legacy = [(node, job.cores) for node, job in neighbours.legacy_occupants(spool)]
        legacy += [(here, record.job.cores) for _, record in neighbours.legacy_canceling(spool, here)]
    except (OSError, RecordError):
        legacy = []
    return occupied + [Occupancy(spool, node, cores) for node, cores in legacy]


def _is_gone(job: Occupant, is_here: bool) -> bool:
    return is_here and job.process is not None and procs.liveness(job.process) is procs.Liveness.DEAD


def _waiting(spool: Spool, seen: Iterable[Seen]) -> int:
    if not spool.is_commons:
        with contextlib.suppress(OSError):
            return len(spools.scan(spool, (WAITING,), most=NAMES_MOST))
    return max((one.card.waiting for one in seen), default=0)


# ---------------------------------------------------------------- counting


def nodes_of(looked: Look) -> list[NodeFacts]:
    """The nodes that have cards, by name as people count: node2 before node10."""
    by_node: dict[str, list[Seen]] = {}
    for one in looked.seen:
        by_node.setdefault(one.card.node, []).append(one)
    jobs = _by_node(looked)
    return [
        _node(name, by_node[name], jobs.get(name, []), looked.me, is_here=name == looked.here)
        for name in sorted(by_node, key=natural)
    ]


def _by_node(looked: Look) -> dict[str, list[Occupancy]]:
    jobs: dict[str, list[Occupancy]] = {}
    for job in looked.occupied:
        jobs.setdefault(job.node, []).append(job)
    return jobs


def natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """Orders names as people count: node2 before node10."""
    # Only so many digits are a number: int() of thousands is refused by the interpreter.
    parts = re.split(r"([0-9]{1,18})", name)
    return [(int(part), "") if place % 2 else (0, part) for place, part in enumerate(parts)], name


def _node(name: str, seen: list[Seen], jobs: list[Occupancy], me: Spool, *, is_here: bool) -> NodeFacts:
    alive = [one for one in seen if one.is_alive]
    # What is told of a node nobody hears of is what was last heard.
    told = sorted(alive or seen, key=lambda one: one.silent_s)
    offers = {one.card.user: one.card.capacity for one in told}
    teller = _teller(told, me)
    cores = teller.capacity
    draining = [one.card for one in alive if one.card.state == DRAINING]
    granted = {gpu for job in jobs for gpu in job.gpus}
    if not alive:
        state = STOPPED if is_here or all(one.card.state == LEAVING for one in seen) else SILENT
    else:
        state = DRAINS if len(draining) == len(alive) else UP
    return NodeFacts(
        name=name,
        state=state,
        reason=next((card.reason for card in draining if card.reason), ""),
        silent_s=None if alive else told[0].silent_s,
        cores=cores,
        offers=offers if len(set(offers.values())) > 1 else {},
        physical_cores=teller.physical_cores,
        logical_cpus=teller.logical_cpus,
        used=sum(_used((job for job in jobs if not job.threads), cores, teller.logical_cpus).values()),
        jobs=len(jobs),
        load=None if teller.is_legacy else teller.load,
        memory=None if teller.is_legacy else teller.memory,
        memory_available=None if teller.is_legacy else teller.memory_available,
        users=tuple(sorted({one.card.user for one in alive})),
        drainers=tuple(sorted(card.user for card in draining)),
        versions=tuple(sorted({one.card.version or LEGACY_VERSION for one in told}, key=natural)),
        settling=sum(job.settling for one in alive for job in one.card.jobs),
        threads=teller.threads,
        threads_used=min(teller.threads, sum(job.cores for job in jobs if job.threads)),
        gpus=teller.gpus,
        gpus_free=tuple(gpu.id for gpu in teller.gpus if not gpu.busy and gpu.id not in granted),
        features=teller.features,
        licenses=teller.licenses,
        workers=tuple(sorted((one.card.user, one.card.worker) for one in alive if one.card.worker)),
    )


def _teller(told: list[Seen], me: Spool) -> Card:
    """Whose card is believed in what a node has: mine, or one in the middle; others may claim anything."""
    cards = [one.card for one in told if one.spool == me] or [one.card for one in told]
    # 0.2.9 tells less.
    cards = [card for card in cards if not card.is_legacy] or cards
    return sorted(cards, key=lambda card: card.capacity)[len(cards) // 2]


def _used(jobs: Iterable[Occupancy], cores: int, logical_cpus: int) -> dict[Spool, int]:
    """The cores of a node that each user has, of what it has at most; who has claimed more did not get it."""
    used: dict[Spool, int] = {}
    for job in jobs:
        used[job.spool] = used.get(job.spool, 0) + (cores if job.cores == ALL_CORES else job.cores)
    return {spool: min(count, max(cores, logical_cpus)) for spool, count in used.items()}


def users_of(looked: Look) -> list[UserFacts]:
    """The users who have a live daemon or jobs, and me; those with most running cores first."""
    nodes = {node.name: node for node in nodes_of(looked) if node.is_live}
    cores: dict[Spool, int] = {looked.me: 0}
    scavenging: dict[Spool, int] = {}
    running: dict[Spool, int] = {}
    live: dict[Spool, set[str]] = {}
    for name, jobs in _by_node(looked).items():
        node = nodes.get(name)
        for total, own in (
            (cores, [job for job in jobs if not job.scavenge]),
            (scavenging, [job for job in jobs if job.scavenge]),
        ):
            of_each = _used(own, node.cores if node else 0, node.logical_cpus if node else 0)
            for spool, count in of_each.items():
                total[spool] = total.get(spool, 0) + (count if node else 0)
        for job in jobs:
            running[job.spool] = running.get(job.spool, 0) + (node is not None)
    for one in looked.seen:
        if one.is_alive:
            live.setdefault(one.spool, set()).add(one.card.node)
    waiting = {spool: count for spool, count in looked.waiting.items() if count}
    facts = [
        UserFacts(
            name=spool.user,
            cores=cores.get(spool, 0),
            running=running.get(spool, 0),
            waiting=waiting.get(spool, 0),
            nodes=tuple(sorted(live.get(spool, ()), key=natural)),
            is_me=spool == looked.me,
            scavenging=scavenging.get(spool, 0),
        )
        for spool in {*cores, *scavenging, *live, *waiting}
    ]
    return sorted(facts, key=lambda user: (-user.cores, -user.waiting, user.name))
