"""Pure: claims on a node, and the check after a claim that keeps it from being overbooked.

The daemon calls `settle` between the claim and the birth of a job. It does not
decide whose turn it is (`policy`), and publishes and reads nothing itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from roundq.words.groups import group_text
from roundq.words.quantities import ALL_CORES, format_memory, visible
from roundq.words.room import Counts, Need, Room, cores_text, gpus_text, licenses_here, licenses_text


@dataclass(frozen=True, slots=True)
class Claim:
    """A claimed or running job, as its owner's card shows it.

    `memory` is what is promised but not used yet, in bytes. `stamp_ns` is when it
    was claimed, by its node's clock. `settled`: it runs, or its daemon decided to keep it.
    `node` is where, empty for this node. `cpus` are the logical CPUs that it is pinned to, none
    if it is not; `gpus` the ids of its GPUs. One on `threads` takes spare hardware threads, no cores.
    `groups` are its set and its array. Of another node's claim only the licenses of the cluster and the
    groups are given.
    """

    user: str
    cores: int
    memory: int = 0
    exclusive: bool = False
    stamp_ns: int = 0
    settled: bool = False
    id: str = ""
    node: str = ""
    cpus: tuple[int, ...] = ()
    gpus: tuple[str, ...] = ()
    licenses: Counts = ()
    threads: bool = False
    groups: tuple[str, ...] = ()

    @property
    def need(self) -> Need:
        """What it takes of its node."""
        cores = ALL_CORES if self.exclusive else self.cores
        return Need(cores, self.memory, len(self.gpus), self.licenses)

    @property
    def order(self) -> tuple[int, str, str, str]:
        """Which of two claims that cannot both stay comes first."""
        return self.stamp_ns, self.user, self.id, self.node


@dataclass(frozen=True, slots=True)
class Bounds:
    """What there is beside cores and memory: spare hardware threads, ids of the GPUs that may be used.

    `licenses` are those that this node has of its own, `pool` those of the whole cluster. `cores_limit` and
    `jobs_limit` are what I may have in the whole cluster, None for no limit; `groups` how many jobs of mine
    may run of each group that has a limit.
    """

    threads: int = 0
    gpus: frozenset[str] = frozenset()
    licenses: Mapping[str, int] = field(default_factory=dict)
    pool: Mapping[str, int] = field(default_factory=dict)
    cores_limit: int | None = None
    jobs_limit: int | None = None
    groups: Mapping[str, int] = field(default_factory=dict)


class Ruling(Enum):
    """What to do with a claim."""

    KEEP = "keep"
    MOVE = "move"
    WITHDRAW = "withdraw"
    UNDECIDED = "undecided"


class Settlement(NamedTuple):
    """The ruling on a claim and why."""

    ruling: Ruling
    says: str


_NOTHING = Bounds()


def settle(
    mine: Claim, others: Iterable[Claim], cores: int, memory_free: int, bounds: Bounds = _NOTHING
) -> Settlement:
    """Whether a claim that stands on my card may be kept, beside the others.

    `others` are all other claims here, mine too, but those of dead processes; and of other nodes
    those that hold licenses of the cluster, and mine if I or the groups of `mine` have limits. `memory_free`
    is the available memory in bytes before what they hold unused is taken off.

    Call it only after `mine` was published, with cards read after that. KEEP: publish it as
    settled, then start it. WITHDRAW: take it off the card and back to waiting. MOVE: there is room, but
    its CPUs or GPUs are another's: choose such that no claim here has, publish, and read the cards again;
    withdraw it if there are none. UNDECIDED: read the cards again in a moment.

    Why nothing is ever promised twice: a claim is kept only if it fits beside everything that
    was seen, settled or not, and shares no CPU and no GPU with it. Of all that are kept, take the one that
    was published last, as it was kept, with its last CPUs and GPUs: when its daemon looked, the others
    stood on their cards as they were kept, since a kept claim neither leaves before its job ends nor
    moves. So it saw them all, and they fit. No clock is needed for that. It holds for licenses and limits
    in the whole cluster, too, as long as cards of other nodes are read as their last writer left them. A
    limit that is lowered holds for what looks after that: what was kept before goes on.

    Stamps decide who yields, so that racers do not all withdraw. The earlier one waits
    (UNDECIDED) until the later ones have seen it and withdrawn or moved. If it published so late that
    a later one had looked already, that one keeps, shows as settled, and then the
    earlier one withdraws or moves. The latest unsettled claim always decides, so nobody waits for
    ever; the earliest only gives way to what is settled, so somebody always stays. Nor does anybody
    move for ever: a claim moves only for those before it, and once these stand, it stands.
    Stamps of two nodes are of two clocks, and mean nothing but an order that all see alike.
    """
    others = list(others)
    earlier = [other for other in others if other.settled or other.order < mine.order]
    before = _beside(earlier, mine, cores, memory_free, bounds)
    if before.lack is not None:
        return Settlement(Ruling.WITHDRAW, f"withdraws: {before.lack}")
    if before.taken is not None:
        return Settlement(Ruling.MOVE, f"moves: {before.taken}")
    after = _beside(others, mine, cores, memory_free, bounds)
    if (why := after.lack or after.taken) is not None:
        return Settlement(Ruling.UNDECIDED, f"looks again: {why} beside later claims")
    return Settlement(Ruling.KEEP, f"keeps: {before.says}")


class _Found(NamedTuple):
    """How a claim stands beside some others: the room, what is lacking, and which ids are another's."""

    says: str
    lack: str | None
    taken: str | None


def _beside(claims: Iterable[Claim], mine: Claim, cores: int, memory_free: int, bounds: Bounds) -> _Found:
    room = Room(
        cores, memory_free, threads=bounds.threads, licenses=licenses_here(bounds.licenses, bounds.pool)
    )
    cpus: set[int] = set()
    gpus: set[str] = set()
    my_cores, my_jobs = mine.cores, 1
    of_groups = Counter(mine.groups)
    for claim in claims:
        if claim.user == mine.user:
            my_cores, my_jobs = my_cores + claim.cores, my_jobs + 1
            of_groups.update(claim.groups)
        if claim.node == mine.node:
            room = room.less(claim.need, claim.threads)
            cpus.update(claim.cpus)
            gpus.update(claim.gpus)
        elif claim.licenses:
            own = bounds.licenses
            held = dict(claim.licenses)
            left = ((name, free - held.get(name, 0) * (name not in own)) for name, free in room.licenses)
            room = room._replace(licenses=tuple((name, max(0, free)) for name, free in left))
    room = room._replace(gpus=len(bounds.gpus - gpus))
    says = _room_for(mine, room, cores)
    lack = None if room.fits(mine.need, mine.threads) else says
    if lack is None:
        lack = _over("cores", my_cores, bounds.cores_limit) or _over("jobs", my_jobs, bounds.jobs_limit)
    for group in mine.groups if bounds.groups else ():
        lack = lack or _over(f"jobs of {group_text(group)}", of_groups[group], bounds.groups.get(group))
    shared_cpus = cpus.intersection(mine.cpus)
    shared_gpus = gpus.intersection(mine.gpus) | set(mine.gpus) - bounds.gpus
    taken = None
    if shared_cpus:
        taken = f"CPU {min(shared_cpus)} is another's"
    elif shared_gpus:
        taken = f"GPU {visible(min(shared_gpus))} is another's"
    return _Found(says, lack, taken)


def _over(what: str, mine: int, limit: int | None) -> str | None:
    if limit is None or mine <= limit:
        return None
    return f"{mine} {what} with this one, the limit is {limit}"


def _room_for(mine: Claim, room: Room, cores: int) -> str:
    need = mine.need
    if need.cores == ALL_CORES:
        needs, free = ["the node for itself"], [f"{room.cores} of {cores} cores"]
    elif mine.threads:
        needs, free = [f"{cores_text(need.cores)} of spare threads"], [f"{room.threads} threads"]
    else:
        needs, free = [cores_text(need.cores)], [f"{room.cores} of {cores} cores"]
    if need.memory:
        needs.append(format_memory(need.memory))
        free.append(format_memory(room.memory))
    if need.gpus:
        needs.append(gpus_text(need.gpus))
        free.append(gpus_text(room.gpus))
    for name, count in need.licenses:
        needs.append(licenses_text(name, count))
        free.append(str(dict(room.licenses).get(name, 0)))
    return f"needs {_and(needs)}, {_and(free)} free"


def _and(words: list[str]) -> str:
    return " and ".join(words) if len(words) < 3 else f"{', '.join(words[:-1])} and {words[-1]}"
