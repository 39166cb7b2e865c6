"""Pure: keeping a node for a wide job that has waited long, and what may fill in (EASY backfilling).

When it fits is known from the time limits of what is there. What has no limit may end at any moment,
or never: for who may fill in it is taken to end at once, for what is promised to never end.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from roundq.words.facts import Shape, Want
from roundq.words.quantities import ALL_CORES
from roundq.words.room import Counts, Need, Room, Site, misfit

#: As what a job without a time limit counts where nodes are compared.
UNKNOWN_S = 86_400.0
#: Nodes are told apart by when a job fits in steps of this: cards are read at different moments, and all
#: daemons must choose the same.
STEP_S = 300.0
#: So many nodes are kept for the jobs of one shape at most, and one of so many that could run them.
KEPT_MAX, KEPT_OF = 4, 4


class Stay(NamedTuple):
    """A job that is on the node: what it takes, and in how many seconds it is over (None: not known).

    `used` are the bytes that it uses beside those that its need still promises: its end gives both back.
    `most` are the bytes that may be in use by it although nothing was promised; None if that is not known.
    """

    need: Need
    left_s: float | None = None
    on_threads: bool = False
    used: int = 0
    most: int | None = 0


def room_with(empty: Room, stays: Iterable[Stay], gone: Iterable[Stay] = ()) -> Room:
    """The room beside these jobs, where `empty` counts memory as if all of them used what they use now."""
    room = empty._replace(memory=empty.memory + sum(stay.used for stay in gone))
    for stay in stays:
        room = room.less(stay.need, stay.on_threads)
    return room


def fits_in_s(need: Need, empty: Room, stays: Sequence[Stay], unknown_s: float | None) -> float | None:
    """In how many seconds a job fits if each that is there ends at its limit; None: not by that.

    `unknown_s` is when those without a limit end, None for never.
    """
    known = [(unknown_s if stay.left_s is None else max(0.0, stay.left_s), stay) for stay in stays]
    ending = sorted(((left, stay) for left, stay in known if left is not None), key=lambda end: end[0])
    staying = [stay for left, stay in known if left is None]
    by_end = [stay for _, stay in ending]

    def fits(count: int) -> bool:
        return room_with(empty, staying + by_end[count:], by_end[:count]).fits(need)

    # The more have ended, the more room there is.
    least, most = 0, len(ending)
    if not fits(most):
        return None
    while least < most:
        middle = (least + most) // 2
        if fits(middle):
            most = middle
        else:
            least = middle + 1
    return ending[least - 1][0] if least else 0.0


class Reservation(NamedTuple):
    """A node that is kept for a job.

    `soon_s`: not sooner does it fit, whatever ends without a limit. `late_s`: by then it fits, if nobody
    comes before; None if that cannot be known. `spare` is what it leaves over when it starts.
    """

    user: str
    want: Want
    soon_s: float
    late_s: float | None
    spare: Room

    def admits(self, need: Need, limit_s: float | None, on_threads: bool = False) -> bool:
        """Whether a job that starts now leaves the start of the one for which the node is kept as it is."""
        return self.ends_before(limit_s) or self.spare.fits(need, on_threads)

    def ends_before(self, limit_s: float | None) -> bool:
        """Whether a job of this time limit is over before."""
        return limit_s is not None and limit_s <= self.soon_s

    def less(self, need: Need, limit_s: float | None, on_threads: bool = False) -> Reservation:
        """What is left of it after such a job started."""
        if self.ends_before(limit_s):
            return self
        return self._replace(spare=self.spare.less(need, on_threads))


def reserve(user: str, want: Want, empty: Room, stays: Sequence[Stay], grace_s: float = 0.0) -> Reservation:
    """Keeps the node for a job that does not fit beside `stays`, whose ends are told with this grace."""
    need = want.shape.need
    # What fills in may need its grace, too.
    soon_s = max(0.0, (fits_in_s(need, empty, stays, 0.0) or 0.0) - grace_s)
    late_s = fits_in_s(need, empty, stays, None)
    if late_s is None:
        # Whatever ends next may be what it waits for. Of what it lacks it leaves nothing.
        return Reservation(user, want, soon_s, None, _leftover(room_with(empty, stays), need))
    there = [stay for stay in stays if stay.left_s is None or stay.left_s > late_s]
    gone = [stay for stay in stays if stay.left_s is not None and stay.left_s <= late_s]
    return Reservation(user, want, soon_s, late_s, room_with(empty, there, gone).less(need))


def could_fit(need: Need, empty: Room, stays: Sequence[Stay]) -> bool:
    """Whether the ends of jobs here could make room at all.

    Not if the GPUs or the memory are a stranger's, the licenses on other nodes, or nobody is here. How much
    memory the end of a job gives back is not known for sure: here it is all that it may use.
    """
    if not stays or not empty.fits(need._replace(memory=0)):
        return False
    memory = empty.memory
    for stay in stays:
        if stay.most is None:
            return True
        memory += max(stay.used, stay.most)
    return need.memory <= memory


def _leftover(room: Room, need: Need) -> Room:
    """What a job leaves of this room that lacks something for it: of what is lacking nothing."""
    if need.cores == ALL_CORES:
        return room.less(need)
    asked = dict(need.licenses)
    return Room(
        max(0, room.cores - need.cores),
        max(0, room.memory - need.memory),
        room.jobs,
        room.whole,
        max(0, room.gpus - need.gpus),
        tuple((name, max(0, free - asked.get(name, 0))) for name, free in room.licenses),
        room.threads,
    )


# ---------------------------------------------------------------- which node


class End(NamedTuple):
    """A job on a node: in how many seconds its time limit ends it (None: none), and what it gives back."""

    left_s: float | None
    cores: int
    gpus: int = 0


class Offer(NamedTuple):
    """What a node has, for `keepers`: capacity and free cores, memory in bytes.

    `gpus` are all that it has, `free_gpus` those that no job has; `licenses` its own and the cluster's, all
    of them. `ends` are the jobs that are there, as far as known; of one that takes it whole all its cores.
    """

    node: str
    cores: int
    free_cores: int
    memory_total: int
    gpus: int = 0
    features: frozenset[str] = frozenset()
    licenses: Counts = ()
    free_gpus: int = 0
    ends: tuple[End, ...] = ()

    @property
    def site(self) -> Site:
        """What the node is, whoever is on it."""
        return Site(self.node, self.cores, self.memory_total, self.gpus, self.features, self.licenses)


def ineligible(shape: Shape, site: Site) -> str | None:
    """Why a job of this shape can never start on the node, as a sentence; None if it could."""
    why = misfit(shape.need, site, shape.nodes, shape.exclude, shape.features)
    return None if why is None else f"can never start here: {why}"


def keepers(
    shape: Shape, offers: Iterable[Offer], was: Collection[str] = (), most: int = KEPT_MAX
) -> tuple[str, ...]:
    """The nodes to keep for a job of that shape that has waited long, by name; none if no node could run it.

    Without this choice every node of the cluster would be kept for the same job. They are those where
    time limits let it fit soonest; where they do not tell, those with the most free cores: one of each four
    that could run it, and no more than `most`. `was` are the nodes that were chosen before: each stays,
    unless another one is nearer by half; else what was left idle there would have been so for nothing.
    Pass the nodes that are up and not draining.
    """
    able = [offer for offer in offers if ineligible(shape, offer.site) is None]
    far = {offer.node: (*_far(shape.need, offer), offer.node) for offer in able}
    nearest = sorted(far, key=lambda node: far[node])
    count = max(1, min(most, len(able) // KEPT_OF))
    chosen = [node for node in nearest if node in was][:count]
    others = [node for node in nearest if node not in chosen]
    missing = count - len(chosen)
    fresh, others = others[:missing], others[missing:]
    for node in others:
        if not chosen or not _is_half_as_far(far[node], far[chosen[-1]]):
            break
        chosen.pop()
        fresh.append(node)
    return tuple(sorted(chosen + fresh))


def is_for_another(shape: Shape, node: str, offers: Iterable[Offer]) -> bool:
    """Whether a small job had better start on another node: one that is fuller, and where it fits now.

    Else small jobs spread, and no node has room for a wide one. It is so only where less than half of the
    cores are free, and for jobs that need no more than half a node. Pass what `keepers` gets.
    """
    there = list(offers)
    here = next((offer for offer in there if offer.node == node), None)
    if here is None or not 0 < 2 * shape.cores <= here.cores:
        return False
    if 2 * sum(offer.free_cores for offer in there) >= sum(offer.cores for offer in there):
        return False
    return any(
        shape.cores <= offer.free_cores < here.free_cores
        and shape.gpus <= offer.free_gpus
        and ineligible(shape, offer.site) is None
        for offer in there
    )


def _is_half_as_far(one: tuple[int, int, str], other: tuple[int, int, str]) -> bool:
    """Whether a node is nearer by half: sooner, or at the same time with fewer cores that are missing."""
    if 2 * one[0] <= other[0] and other[0]:
        return True
    return one[0] <= other[0] and other[1] > 0 and 2 * one[1] <= other[1]


def _far(need: Need, offer: Offer) -> tuple[int, int]:
    """In how many steps of time a job fits there, by cores and GPUs, and how many cores are missing."""
    at_s = _fits_at_s(need, offer)
    freed = sum(end.cores for end in offer.ends if end.left_s is not None and end.left_s <= at_s)
    # A job of all cores waits for those in use, any other for those that are missing.
    wanted = offer.cores if need.cores == ALL_CORES else need.cores
    return int(at_s // STEP_S), wanted - offer.free_cores - freed


def _left_s(end: End) -> float:
    return UNKNOWN_S if end.left_s is None else end.left_s


def _fits_at_s(need: Need, offer: Offer) -> float:
    """In how many seconds a job fits there, by cores and GPUs; UNKNOWN_S if limits do not tell."""
    cores = need.cores or offer.cores
    free_cores, free_gpus = offer.free_cores, offer.free_gpus
    at_s = 0.0
    for end in sorted(offer.ends, key=_left_s):
        if free_cores >= cores and free_gpus >= need.gpus:
            break
        at_s = max(0.0, _left_s(end))
        free_cores, free_gpus = free_cores + end.cores, free_gpus + end.gpus
    if free_cores < cores or free_gpus < need.gpus:
        at_s = UNKNOWN_S
    return at_s
