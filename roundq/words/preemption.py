"""Pure: being polite. Which of my jobs on this node are requeued so that others can start theirs.

What scavenges gives way to every other job that would fit in its place. And when all cores of the
cluster are busy, the user furthest above the fair share gives way to one below it, with a restartable
job, unless he would then be below that one: so a requeue brings both nearer to their shares, never past
each other, and nobody takes back what he gave.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from roundq.words.backfill import room_with
from roundq.words.facts import Holding, Snapshot
from roundq.words.fairness import Shares
from roundq.words.room import Room
from roundq.words.sentences import gives_way, is_polite
from roundq.words.table import Kind, Player, Table, next_bid, stay_of

#: What a job that ran no longer than this loses, is little.
LITTLE_S = 600.0


class Requeue(NamedTuple):
    """A job of mine that gives way, and the sentence that says to whom."""

    job_id: str
    says: str


class Yielding(NamedTuple):
    """Jobs of mine that give way, and those of others, by user and id, that are counted on to do so."""

    requeues: tuple[Requeue, ...] = ()
    owed: frozenset[tuple[str, str]] = frozenset()


def yielding(snapshot: Snapshot, shares: Shares, waiting: Sequence[Player], empty: Room) -> Yielding:
    """Which jobs here give way. `waiting` are all who may start something here, before any turn.

    Of those of others only what scavenges, and only where something of mine might give way instead.
    """
    leaving = [held for held in snapshot.holdings if held.leaving]
    holdings = [held for held in snapshot.holdings if not held.leaving]
    if not any(held.user == snapshot.me and (held.scavenge or held.restartable) for held in holdings):
        return Yielding()
    node = _Node(snapshot, shares, empty, tuple(leaving), tuple(holdings))
    scavenging, owed = _scavengers(node, [player.again() for player in waiting])
    if scavenging or snapshot.is_giving_way:
        return Yielding(tuple(scavenging), owed)
    return Yielding(_politely(node, [player.again() for player in waiting]), owed)


class _Node(NamedTuple):
    snapshot: Snapshot
    shares: Shares
    empty: Room
    leaving: tuple[Holding, ...]
    holdings: tuple[Holding, ...]

    def room(self, gone: Sequence[Holding]) -> Room:
        """The room beside those that stay."""
        out = {(held.user, held.id) for held in gone}
        there = [held for held in self.holdings if (held.user, held.id) not in out]
        return room_with(self.empty, map(stay_of, there), map(stay_of, (*self.leaving, *gone)))

    def table(self, room: Room, gone: Sequence[Holding]) -> Table:
        out = {(held.user, held.id) for held in gone}
        stays = [stay_of(held) for held in self.holdings if (held.user, held.id) not in out]
        # What those that are gone may have used is free at this table, and may be what a job waits for.
        free = self.empty.memory
        for stay in map(stay_of, (*self.leaving, *gone)):
            free += self.snapshot.memory_total if stay.most is None else max(stay.used, stay.most)
        empty = self.empty._replace(memory=free)
        return Table(self.snapshot.node, self.snapshot.cores, self.snapshot.patience_s, empty, room, stays)


def _youngest_first(holdings: Sequence[Holding]) -> list[Holding]:
    return sorted(holdings, key=lambda held: (held.age_s, held.user, held.id))


def _fewest(young: Sequence[Holding], fits: Callable[[Sequence[Holding]], bool]) -> list[Holding]:
    """As few of these as make room, the younger the better; none if all of them would not."""
    for held in young:
        if fits([held]):
            return [held]
    chosen: list[Holding] = []
    for held in young:
        chosen.append(held)
        if fits(chosen):
            break
    else:
        return []
    for held in reversed(chosen.copy()):
        without = [one for one in chosen if one is not held]
        if fits(without):
            chosen = without
    return chosen


def _scavengers(node: _Node, players: Sequence[Player]) -> tuple[list[Requeue], frozenset[tuple[str, str]]]:
    """What scavenges here and stands where another job would start; those that are mine, and the others.

    Everybody counts the scavengers of all, and so comes to the same ones.
    """
    me = node.snapshot.me
    there = _youngest_first([held for held in node.holdings if held.scavenge and not held.unattended])
    if not any(held.user == me for held in there):
        return [], frozenset()
    gone: list[Holding] = []
    found: list[Requeue] = []
    moved: list[Kind] = []
    # What would be left if all that scavenges were gone: who does not fit even then is passed by.
    hope = node.table(node.room(there), there)

    def room(out: Sequence[Holding]) -> Room:
        left = node.room([*gone, *out])
        for kind in moved:
            left = left.less(kind.need)
        return left

    while any(held.user == me for held in there) and (bid := next_bid(players, hope)) is not None:
        player, want, kind = bid
        if not hope.plan.fits(kind.need):
            # The node will be kept for it, and what gave way would help nobody.
            break
        if not room([]).fits(kind.need):

            def suits(out: Sequence[Holding], kind: Kind = kind) -> bool:
                return room(out).fits(kind.need)

            out = _fewest(there, suits)
            gone += out
            there = [held for held in there if held not in out]
            says = gives_way(player.user, want.id)
            found += [Requeue(held.id, says) for held in out if held.user == me]
        moved.append(kind)
        hope.take(kind)
        cores = want.cores or hope.cores
        running = player.running + cores
        player.take(want, cores, node.shares.level(player.user, running), running)
    return found, frozenset((held.user, held.id) for held in gone if held.user != me)


def _politely(node: _Node, players: Sequence[Player]) -> tuple[Requeue, ...]:
    """What I give up for somebody below the fair share, if I am the one furthest above it."""
    of, shares = node.snapshot, node.shares
    me, mine = of.me, of.running_cores.get(of.me, 0)
    able = [held for held in node.holdings if held.restartable and not held.unattended]
    own = _youngest_first([held for held in able if held.user == me])
    if of.cluster_cores < 1 or not own or not mine > shares.fair(me):
        return ()
    yielding = of.yielding.union(held.user for held in able)
    levels = {user: shares.level(user, of.running_cores.get(user, 0)) for user in yielding | {me}}
    if max(levels, key=lambda user: (levels[user][:2], user)) != me:
        return ()
    now = node.room([])
    for player in sorted(players, key=lambda player: (player.level[:2], player.user)):
        if player.user == me or not player.running < shares.fair(player.user):
            continue
        for want, kind in player.queue:
            cores = want.cores or of.cores
            if of.cluster_free >= cores or not player.allows(cores, want.groups):
                continue
            if now.fits(kind.need):
                # What it waits for is on its way.
                return ()
            theirs = shares.level(player.user, player.running + cores)
            # Nobody loses more time than the other has waited, but for what is little.
            most_s = max(LITTLE_S, want.waited_s)

            def suits(out: Sequence[Holding], kind: Kind = kind, height: float = theirs.height) -> bool:
                left = mine - sum(held.cores for held in out)
                return shares.level(me, left).height >= height and node.room(out).fits(kind.need)

            if out := _fewest([held for held in own if held.age_s <= most_s], suits):
                says = is_polite(player.user, want.id, player.running, me, mine, shares)
                return tuple(Requeue(held.id, says) for held in out)
    return ()
