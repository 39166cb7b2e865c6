"""Pure: the table at which the users of one node play for its room: who waits with what, and what is left.

The players take turns; `policy` says in which phases, `preemption` plays again with what might give way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from roundq.words.backfill import Reservation, Stay, could_fit, reserve
from roundq.words.facts import Holding, Neighbour, Shape, Snapshot, Want
from roundq.words.fairness import Level, Shares, turn_key
from roundq.words.quantities import ALL_CORES
from roundq.words.room import Need, Room, Site, licenses_here, misfit

#: Who has less than this part of the fair share need not be patient.
SHORT = 0.5


@dataclass(eq=False, slots=True)
class Kind:
    """Waiting jobs of one shape. `never` is why none of them can start here."""

    shape: Shape
    need: Need
    never: str | None


class Kinds(dict[Shape, Kind]):
    """The kinds of all shapes that were asked for. All jobs of one shape could start here, or none could."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.site = site

    def __missing__(self, shape: Shape) -> Kind:
        need = shape.need
        kind = Kind(shape, need, misfit(need, self.site, shape.nodes, shape.exclude, shape.features))
        self[shape] = kind
        return kind


@dataclass(eq=False, slots=True)
class Player:
    """One user at the table: the jobs it waits with, in the order of its turns.

    Of a neighbour only the first job of each shape is known. The others are taken to look like these:
    each may be taken `repeat` times, all together `count` times. `cores_left` and `jobs_left` are what the
    user's limits allow, None for no limit, and `groups_left` those of groups that have one.
    """

    user: str
    queue: Sequence[tuple[Want, Kind]]
    count: int
    repeat: int
    running: int
    level: Level
    cores_left: int | None = None
    jobs_left: int | None = None
    #: What scavenges, which comes after everybody's others.
    scavenging: Sequence[tuple[Want, Kind]] = ()
    at: int = 0
    times: int = 0
    #: Room and limits only shrink while a phase is played: what was too much once is never looked at again.
    unfit: set[Kind] = field(default_factory=set)
    limited: set[Kind] = field(default_factory=set)
    #: The cores that are due to the user, 0 if not known.
    due: float = 0.0
    #: My own are known only.
    groups_left: dict[str, int] = field(default_factory=dict)

    @property
    def is_short(self) -> bool:
        """Whether the user has so little of what is due that its turn is waited for at once."""
        return self.running < SHORT * self.due

    def again(self, queue: Sequence[tuple[Want, Kind]] | None = None) -> Player:
        """The same user in the next phase, with this queue or the same, from its first job on."""
        queue = self.queue if queue is None else queue
        rest = (self.running, self.level, self.cores_left, self.jobs_left, self.scavenging)
        left = dict(self.groups_left)
        return Player(self.user, queue, self.count, self.repeat, *rest, due=self.due, groups_left=left)

    def allows(self, cores: int, groups: tuple[str, ...] = ()) -> bool:
        """Whether the user's limits, and those of the groups of a job, do."""
        if self.jobs_left is not None and self.jobs_left < 1:
            return False
        if any(self.groups_left.get(group, 1) < 1 for group in groups):
            return False
        return self.cores_left is None or cores <= self.cores_left

    def bid(self, table: Table) -> tuple[Want, Kind] | None:
        """The job that the user wants to start next, or for which the node should be kept."""
        while self.count > 0 and self.at < len(self.queue):
            want, kind = self.queue[self.at]
            if kind not in self.limited:
                if kind not in self.unfit:
                    if not self.allows(want.cores or table.cores, want.groups):
                        self.limited.add(kind)
                    elif table.admits(kind):
                        return want, kind
                    else:
                        self.unfit.add(kind)
                # A guess has not waited: no node is kept for it.
                if (
                    not self.times
                    and kind in self.unfit
                    and table.should_be_kept(want, kind, at_once=self.is_short)
                ):
                    return want, kind
            self.at, self.times = self.at + 1, 0
        return None

    def take(self, want: Want, cores: int, level: Level, running: int) -> None:
        """The job of its bid has begun, or is expected to."""
        self.level, self.running = level, running
        self.count -= 1
        self.times += 1
        if self.cores_left is not None:
            self.cores_left -= cores
        if self.jobs_left is not None:
            self.jobs_left -= 1
        for group in self.groups_left.keys() & want.groups:
            self.groups_left[group] -= 1
        if self.times >= self.repeat:
            self.at, self.times = self.at + 1, 0


@dataclass(slots=True)
class Table:
    """What the players play for.

    `empty` is the node with nobody on it, `stays` who is there or expected, `plan` what is then left;
    `grace_s` for how long a job may go on after its time limit.
    """

    node: str
    cores: int
    patience_s: float
    empty: Room
    plan: Room
    stays: list[Stay]
    kept: Reservation | None = None
    on_threads: bool = False
    #: A phase may ask for more.
    also: Callable[[Kind], bool] | None = None
    grace_s: float = 0.0

    def admits(self, kind: Kind) -> bool:
        """Whether a job of the kind may start beside all that is there and expected."""
        if not self.plan.fits(kind.need, self.on_threads):
            return False
        if self.kept is not None and not self.kept.admits(kind.need, kind.shape.limit_s, self.on_threads):
            return False
        return self.also is None or self.also(kind)

    def should_be_kept(self, want: Want, kind: Kind, *, at_once: bool = False) -> bool:
        """Whether the node should be kept for a job that does not fit; `at_once`: however short it waited."""
        return (
            (at_once or want.waited_s > self.patience_s)
            and self.kept is None
            and not self.on_threads
            and (want.kept_on is None or self.node in want.kept_on)
            and not want.scavenge
            # Else keeping the node would help nobody.
            and could_fit(kind.need, self.empty, self.stays)
        )

    def over_s(self, limit_s: float | None) -> float | None:
        """When a job of this time limit that starts now is over at the latest, None if it has none."""
        return None if limit_s is None else limit_s + self.grace_s

    def keep(self, user: str, want: Want) -> None:
        """Keeps the node for a job."""
        self.kept = reserve(user, want, self.empty, self.stays, self.grace_s)

    def take(self, kind: Kind) -> None:
        """A job of the kind moves in."""
        need, limit_s = kind.need, kind.shape.limit_s
        self.plan = self.plan.less(need, self.on_threads)
        self.stays.append(Stay(need, self.over_s(limit_s), self.on_threads))
        if self.kept is not None:
            self.kept = self.kept.less(need, limit_s, self.on_threads)


def next_bid(players: Iterable[Player], table: Table) -> tuple[Player, Want, Kind] | None:
    """Whose turn it is, and for which job: the lowest level, the earlier submission, then the name."""
    best = None
    best_key: tuple[tuple[float, ...], int, str] | None = None
    for player in players:
        bid = player.bid(table)
        if bid is not None:
            key = turn_key(player.level, bid[0].submitted_ns, player.user)
            if best_key is None or key < best_key:
                best, best_key = (player, *bid), key
    return best


# ---------------------------------------------------------------- who is there


def empty_room(snapshot: Snapshot) -> Room:
    """The node with nobody on it; memory as it is available now."""
    licenses = licenses_here(snapshot.licenses, snapshot.pool, snapshot.pool_used)
    room = Room(snapshot.cores, snapshot.memory_available, 0, False, snapshot.gpus, licenses)
    return room._replace(threads=snapshot.threads)


def stay_of(holding: Holding) -> Stay:
    """A job that is there as it takes room."""
    cores = ALL_CORES if holding.exclusive else holding.cores
    need = Need(cores, holding.memory_unused, holding.gpus, holding.licenses)
    used = max(0, holding.memory - holding.memory_unused)
    return Stay(need, holding.left_s, holding.threads, used, holding.resident)


def due_to(user: str, shares: Shares) -> float:
    """The fair share in cores, if there is anybody to share with."""
    return shares.fair(user) if len(shares.active) > 1 else 0.0


def neighbour_at(neighbour: Neighbour, snapshot: Snapshot, shares: Shares, kinds: Kinds) -> Player | None:
    """Another user as a player, with what it could ever start here."""
    if neighbour.head is None or neighbour.user == snapshot.me or neighbour.count < 1:
        return None
    # No more than one for each core can start, whatever number a card claims.
    count = min(neighbour.count, snapshot.cores + snapshot.threads)
    able = [(want, kinds[want.shape]) for want in (neighbour.head, *neighbour.others)]
    queue = [(want, kind) for want, kind in able if kind.never is None and not want.scavenge]
    scavenging = [(want, kind) for want, kind in able if kind.never is None and want.scavenge]
    running = snapshot.running_cores.get(neighbour.user, 0)
    level = shares.level(neighbour.user, running)
    left = (neighbour.cores_left, neighbour.jobs_left, scavenging)
    due = due_to(neighbour.user, shares)
    player = Player(neighbour.user, queue, count, count, running, level, *left, due=due)
    return player if queue or scavenging else None
