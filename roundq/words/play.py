"""Pure: one play at the table, in phases, and what it leaves behind: who starts, and why the rest waits.

`policy` has the rules in words. First the turns of everybody's jobs, then what starts on spare
hardware threads, then what scavenges. Room and limits only shrink on the way.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from roundq.words import table
from roundq.words.backfill import room_with
from roundq.words.facts import Shape, Snapshot, Want
from roundq.words.fairness import Level, Shares
from roundq.words.room import Room
from roundq.words.sentences import (
    Draining,
    GroupFull,
    Kept,
    Lacks,
    Limited,
    Never,
    Starts,
    StartsOnThreads,
    TakenWhole,
    Turn,
    TurnToScavenge,
    Why,
    WorkerFull,
)
from roundq.words.table import Kind, Kinds, Player, Table, next_bid


class Planned(NamedTuple):
    """A neighbour's turn: its job and the room that it leaves."""

    user: str
    want: Want
    left: Room


@dataclass(slots=True)
class Play:
    """What one play leaves behind: all that the decision and its sentences are made of.

    `mine` is the room after what is there and what I start; `first_table` has the room also after what
    the neighbours are expected to start before me, `table` that of the last phase. `player` is me;
    `waiting` are all, before the first turn. `level` is mine after the turns.
    `before_scavenging` are the further turns that come before what scavenges of mine; `makes_way_for`
    is a user and the job that would fit in the place of what scavenges. `started_of` counts by group.
    """

    order: list[tuple[Want, Kind]]
    kinds: Kinds
    firsts: dict[Shape, Want]
    shares: Shares
    player: Player
    level: Level
    mine: Room
    first_table: Table
    table: Table
    waiting: list[Player]
    started_cores: int = 0
    started_of: Counter[str] = field(default_factory=Counter)
    ruled: dict[str, Why] = field(default_factory=dict)
    planned: list[Planned] = field(default_factory=list)
    before_scavenging: list[Planned] = field(default_factory=list)
    makes_way_for: tuple[str, str] | None = None

    @property
    def kept_for(self) -> tuple[str, str] | None:
        """For whose job the node is kept."""
        kept = self.first_table.kept
        return None if kept is None else (kept.user, kept.want.id)

    def start(self, want: Want, why: Starts | StartsOnThreads) -> None:
        """A job of mine starts."""
        self.ruled[want.id] = why
        self.mine = self.mine.less(why.need, isinstance(why, StartsOnThreads))
        self.started_cores += want.cores or self.table.cores
        self.started_of.update(want.groups)


def play(snapshot: Snapshot, order: list[tuple[Want, Kind]], kinds: Kinds) -> Play:
    """Plays all phases. `order` are my jobs in the order of their turns."""
    shares = shares_of(snapshot)
    empty = table.empty_room(snapshot)
    stays = [table.stay_of(holding) for holding in snapshot.holdings]
    plan = room_with(empty, stays)
    mine = _myself(snapshot, order, shares)
    others = [
        player
        for neighbour in snapshot.neighbours
        if (player := table.neighbour_at(neighbour, snapshot, shares, kinds)) is not None
    ]
    at = Table(
        snapshot.node, snapshot.cores, snapshot.patience_s, empty, plan, stays, grace_s=snapshot.grace_s
    )
    waiting = [player.again() for player in others]
    if snapshot.draining is None:
        waiting.insert(0, mine.again())
    run = Play(order, kinds, firsts_of(order), shares, mine, mine.level, plan, at, at, waiting)
    if snapshot.draining is None:
        _turns(snapshot, run, others)
        if snapshot.threads or mine.scavenging:
            _rest(run, others)
        _on_threads(snapshot, run, others)
        _scavenge(snapshot, run, others)
    return run


def firsts_of(order: Iterable[tuple[Want, Kind]]) -> dict[Shape, Want]:
    """The first job of each shape, in the order of turns."""
    firsts: dict[Kind, Want] = {}
    for want, kind in order:
        if kind not in firsts:
            firsts[kind] = want
    return {kind.shape: want for kind, want in firsts.items()}


def shares_of(snapshot: Snapshot) -> Shares:
    active = snapshot.active.union(
        {snapshot.me} if snapshot.wants else (),
        (user for user, cores in snapshot.running_cores.items() if cores),
        (neighbour.user for neighbour in snapshot.neighbours if neighbour.head is not None),
    )
    return Shares(active, snapshot.cluster_cores, snapshot.weights, snapshot.usage)


def _myself(snapshot: Snapshot, order: list[tuple[Want, Kind]], shares: Shares) -> Player:
    groups_left = {group: limit.left for group, limit in snapshot.groups.items()}
    # Of a group that is full nothing has a turn; nobody makes room for it or waits behind it.
    able = [
        one
        for one in order
        if one[1].never is None and all(groups_left.get(group, 1) for group in one[0].groups)
    ]
    # What scavenges is at the end.
    border = bisect_left(able, True, key=lambda one: one[0].scavenge)
    running = snapshot.running_cores.get(snapshot.me, 0)
    jobs = snapshot.jobs_limit
    return Player(
        snapshot.me,
        able[:border],
        len(able),
        1,
        running,
        shares.level(snapshot.me, running),
        _cores_left(snapshot),
        None if jobs is None else max(0, jobs - snapshot.jobs_running),
        able[border:],
        due=table.due_to(snapshot.me, shares),
        groups_left=groups_left,
    )


def _cores_left(snapshot: Snapshot) -> int | None:
    """The cores that my limit and that of my worker here still allow, None if there is none."""
    limits = ((snapshot.cores_limit, _cores_running(snapshot)), (snapshot.here_limit, snapshot.here_cores))
    return min((max(0, most - running) for most, running in limits if most is not None), default=None)


def _cores_running(snapshot: Snapshot) -> int:
    """My cores that count for my limit."""
    running = snapshot.cores_running
    return snapshot.running_cores.get(snapshot.me, 0) if running is None else running


def _turns(snapshot: Snapshot, run: Play, others: list[Player]) -> None:
    """Plays the turns of everybody at this table until nothing of mine fits, and records them in `run`."""
    at = run.table
    while True:
        bids = [(player, *bid) for player in (run.player, *others) if (bid := player.bid(at)) is not None]
        if all(player is not run.player for player, _, _ in bids):
            return
        player, want, kind = min(bids, key=lambda bid: (bid[0].level[:2], bid[1].submitted_ns, bid[0].user))
        if not at.plan.fits(kind.need):
            at.keep(player.user, want)
            continue
        if player is run.player:
            run.start(want, Starts(kind.need, run.mine, snapshot, want.limit_s, at.kept))
        _take(player, want, kind, at, run.shares)
        if player is not run.player:
            run.planned.append(Planned(player.user, want, at.plan))
        run.level = run.player.level


def _take(player: Player, want: Want, kind: Kind, at: Table, shares: Shares) -> None:
    at.take(kind)
    cores = want.cores or at.cores
    running = player.running + cores
    player.take(want, cores, shares.level(player.user, running), running)


def _rest(run: Play, others: list[Player]) -> None:
    """The turns in which I have nothing to start, and for whom the node is kept then."""
    at = run.table = replace(run.table)
    while (found := next_bid(others, at)) is not None:
        player, want, kind = found
        if at.plan.fits(kind.need):
            _take(player, want, kind, at, run.shares)
            run.before_scavenging.append(Planned(player.user, want, at.plan))
        else:
            at.keep(player.user, want)


def _on_threads(snapshot: Snapshot, run: Play, others: list[Player]) -> None:
    """Starts on hardware threads beside the cores what is below the fair share, if all cores are busy."""
    if snapshot.threads < 1 or snapshot.cluster_cores < 1:
        return

    def no_cores(kind: Kind) -> bool:
        return kind.need.cores > snapshot.cluster_free

    at = run.table = replace(run.table, on_threads=True, also=no_cores)
    mine = run.player = run.player.again([one for one in run.player.queue if one[0].id not in run.ruled])
    players = [mine, *(player.again() for player in others)]
    while mine.bid(at) is not None:
        poor = [player for player in players if player.running < run.shares.fair(player.user)]
        if mine not in poor or (found := next_bid(poor, at)) is None:
            break
        player, want, kind = found
        if player is mine:
            share = (snapshot.me, mine.running, run.shares)
            run.start(want, StartsOnThreads(kind.need, run.mine, snapshot, *share))
        _take(player, want, kind, at, run.shares)
        if player is not mine:
            run.before_scavenging.append(Planned(player.user, want, at.plan))


def _scavenge(snapshot: Snapshot, run: Play, others: list[Player]) -> None:
    """Starts what scavenges where nothing else of anybody would start."""
    if not run.player.scavenging:
        return
    at = run.table = replace(run.table, on_threads=False, also=None)
    if at.kept is None:
        run.makes_way_for = _first_in_its_place(snapshot, run, others)
    mine = run.player = run.player.again(run.player.scavenging)
    if at.kept is not None or run.makes_way_for is not None:
        return
    players = [mine, *(player.again(player.scavenging) for player in others if player.count)]
    for player in players:
        # Turns of their own: what scavenges counts for nobody's level.
        player.running = sum(
            held.cores for held in snapshot.holdings if held.scavenge and held.user == player.user
        )
        player.level = Level(player.running, 0.0, player.running)
    while mine.bid(at) is not None and (found := next_bid(players, at)) is not None:
        player, want, kind = found
        if player is mine:
            run.start(want, Starts(kind.need, run.mine, snapshot, want.limit_s))
        at.take(kind)
        cores = want.cores or at.cores
        player.take(want, cores, Level(player.running + cores, 0.0, 0), player.running + cores)
        if player is not mine:
            run.before_scavenging.append(Planned(player.user, want, at.plan))


def _first_in_its_place(snapshot: Snapshot, run: Play, others: list[Player]) -> tuple[str, str] | None:
    """A user and the job that would fit if all that scavenges here were gone; it waits, and that gives way.

    What scavenges and started now would be the next to give way.
    """
    at = run.table
    gone = [
        table.stay_of(held)
        for held in snapshot.holdings
        if held.leaving or (held.scavenge and not held.unattended)
    ]
    there = list(at.stays)
    for stay in gone:
        there.remove(stay)
    hope = room_with(at.empty, there, gone)
    for player in (run.player, *others):
        for want, kind in player.queue if player.count > 0 else ():
            if want.id not in run.ruled or player is not run.player:
                if player.allows(want.cores or at.cores, want.groups) and hope.fits(kind.need):
                    return player.user, want.id
    return None


# ---------------------------------------------------------------- why what waits does


def waits(kind: Kind, snapshot: Snapshot, run: Play) -> Why:
    """Why the jobs of a shape that do not start wait: the first reason that holds."""
    if kind.never is not None:
        return Never(kind.never)
    if snapshot.draining is not None:
        return Draining(snapshot.node, snapshot.draining)
    if (limited := _limited(kind.need.cores or snapshot.cores, snapshot, run)) is not None:
        return limited
    if (full := full_group(kind.shape, snapshot, run)) is not None:
        return full
    if not run.mine.fits(kind.need):
        return _lacks(kind, snapshot, run)
    scavenges = kind.shape.scavenge
    if scavenges and run.makes_way_for is not None:
        return TurnToScavenge(*run.makes_way_for)
    at = run.table if scavenges else run.first_table
    if not at.plan.fits(kind.need):
        # If no single turn was too much, what I start was, after the last of them.
        turns = run.planned + (run.before_scavenging if scavenges else [])
        turn = next((turn for turn in turns if not turn.left.fits(kind.need)), turns[-1])
        if scavenges:
            return TurnToScavenge(turn.user, turn.want.id)
        theirs = run.shares.level(turn.user, snapshot.running_cores.get(turn.user, 0))
        return Turn(turn.user, turn.want.id, theirs, snapshot.me, run.level, run.shares)
    # It would fit: only a node that is kept for somebody stops it.
    assert at.kept is not None
    return Kept(snapshot.node, at.kept, kind.shape.limit_s, scavenges)


def _limited(cores: int, snapshot: Snapshot, run: Play) -> Limited | WorkerFull | None:
    """My limit, if it does not allow a job of so many cores after what I start, or that of my worker."""
    if run.player.allows(cores):
        return None
    most = snapshot.jobs_limit
    if most is not None and run.player.jobs_left is not None and run.player.jobs_left < 1:
        return Limited(most, snapshot.jobs_running + len(run.ruled), None)
    here = snapshot.here_cores + run.started_cores
    if snapshot.here_limit is not None and cores > snapshot.here_limit - here:
        return WorkerFull(snapshot.node, snapshot.here_limit, here, cores)
    assert snapshot.cores_limit is not None
    return Limited(snapshot.cores_limit, _cores_running(snapshot) + run.started_cores, cores)


def full_group(shape: Shape, snapshot: Snapshot, run: Play) -> GroupFull | None:
    """The group whose limit allows no further job of a shape after what I start, if there is one."""
    for group in shape.groups:
        if (limit := snapshot.groups.get(group)) is not None:
            running = limit.running + run.started_of[group]
            if running >= limit.most:
                return GroupFull(group, limit.most, running)
    return None


def _lacks(kind: Kind, snapshot: Snapshot, run: Play) -> Why:
    """What the node lacks for this shape, by what is there and what I start."""
    room = run.mine
    started = [(snapshot.me, job_id) for job_id in run.ruled]
    if room.whole:
        whole = [(held.user, held.id) for held in snapshot.holdings if held.exclusive or not held.cores]
        # If nobody had it whole before, I take it whole now, and nothing else starts.
        return TakenWhole(snapshot.node, *min(whole or started[:1]))
    there = [(held.user, held.id) for held in snapshot.holdings] + started
    return Lacks(kind.need, room, snapshot, there[0] if there else None)
