"""Pure: who goes next. The daemon calls it once a round; the log, cards and `rq why` print its sentences.

`decide` answers one question: which of MY waiting jobs start on THIS node NOW, and which
of mine here give way to others. Every user's daemon on the node asks it with its own
snapshot, and since all apply the same rules to the same facts they agree whose turn it is
without talking. They may still race; `settle` is the check after a claim that keeps the node
from being overbooked then. Nothing here claims, starts or reads anything.

The rules, in this order; `fairness`, `backfill`, `preemption` and `room` have the numbers:

1. Eligibility. A job that asks for what the node has not can never start here and blocks
   nobody. Nor does a job that its owner's limits do not allow now.
2. Turns. Of the users who could start something now, the one with the lowest level goes
   next: running cores in the whole cluster, by weight and recent use. Ties go to who used less
   of late, to the earlier submission, then to the name. Its job is started, or, if it is a
   neighbour's, planned as started; then the next turn, until nothing of mine fits any more.
3. Within a user: higher priority, then earlier submission, then lower id.
4. Room. Cores, memory (what is available minus what is promised but not yet used), GPUs,
   licenses. A job of all cores has the node alone.
5. A job that does not fit now is passed by, so that it wastes nothing, until it
   has waited longer than the patience: then, when its owner's turn comes, the node
   is kept for it. Of later turns only what does not delay it starts.
6. Spare threads. When all cores of the cluster are busy, who has less than the fair share may
   start on hardware threads beside the cores.
7. What scavenges comes last: only where no job of anybody waits that could start in its place.

Of a neighbour only a few jobs are known: its head, perhaps the first of each
further shape, and how many wait. The rest are taken to look like these. A wrong guess
costs one round: the next snapshot shows what the neighbour really took.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import attrgetter
from typing import NamedTuple

from roundq.words import estimates, preemption, table
from roundq.words.backfill import End, Offer, ineligible, keeper, room_with
from roundq.words.claims import Claim, Ruling, Settlement, settle
from roundq.words.facts import (
    Holding,
    Neighbour,
    Shape,
    Snapshot,
    Verdict,
    Want,
    coarse,
    want_of,
)
from roundq.words.fairness import Level, Shares
from roundq.words.preemption import Requeue
from roundq.words.room import Room
from roundq.words.sentences import (
    Draining,
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
    within,
)
from roundq.words.table import Group, Groups, Player, Table, next_bid

__all__ = [
    "Claim",
    "Decision",
    "End",
    "Holding",
    "Neighbour",
    "Offer",
    "Requeue",
    "Ruling",
    "Settlement",
    "Shape",
    "Snapshot",
    "Verdict",
    "Want",
    "Why",
    "coarse",
    "decide",
    "in_order",
    "ineligible",
    "keeper",
    "settle",
    "want_of",
]

_submitted = attrgetter("submitted_ns")


def in_order(wants: Iterable[Want]) -> list[Want]:
    """One user's jobs in the order of their turns: what scavenges last, then priority, submission, id."""
    # Stable passes, the last being the most significant: most keys come at the speed of C.
    order = sorted(wants, key=_submitted)
    if len(set(map(_submitted, order))) < len(order):
        # The tasks of an array were all submitted at once. Ids with numbers go by value.
        order.sort(key=lambda want: (want.submitted_ns, _natural(want.id)))
    order.sort(key=attrgetter("priority"), reverse=True)
    order.sort(key=attrgetter("scavenge"))
    return order


def _natural(job_id: str) -> tuple[int, int, int, str]:
    """Sorts 2 before 10, 17_3 before 17_12, and numbers before names."""
    number, _, index = job_id.partition("_")
    if number.isdecimal() and (not index or index.isdecimal()):
        return 0, int(number), int(index or -1), job_id
    number, _, node = job_id.partition(".")
    if number.isdecimal() and node and not node.isdecimal():
        return 0, int(number), -1, job_id
    return 1, 0, 0, job_id


# ---------------------------------------------------------------- the decision


@dataclass(frozen=True)
class Decision:
    """Which of my jobs start now, in this order, and one sentence about each of them all.

    `requeues` are jobs of mine that give way. What starts and what is said of it are one value, its
    `why`. The sentences of what waits are made when they are asked for, from what the pass left behind:
    ten thousand waiting jobs have few shapes and one sentence for each.
    """

    # Without slots: cached_property needs a place to write to.
    requeues: tuple[Requeue, ...]
    _snapshot: Snapshot = field(repr=False)
    _pass: _Pass = field(repr=False, compare=False)

    @cached_property
    def starts(self) -> tuple[str, ...]:
        """The ids of my jobs that start now."""
        return tuple(job_id for job_id, why in self._pass.ruled.items() if why.starts)

    @cached_property
    def on_threads(self) -> frozenset[str]:
        """Those of them that start on spare hardware threads."""
        return frozenset(key for key, why in self._pass.ruled.items() if isinstance(why, StartsOnThreads))

    def why(self, job_id: str) -> Why:
        """Why this job of mine starts or waits. Raises `KeyError` for a job that was not in the snapshot."""
        if job_id in self._pass.ruled:
            return self._pass.ruled[job_id]
        shape = self._by_id[job_id].shape
        why = self._waits[shape]
        if isinstance(why, Lacks):
            first = self._firsts[shape].id
            kept = self._pass.kept_for == (self._snapshot.me, job_id)
            return replace(why, behind=None if first == job_id else first, kept=kept)
        return why

    def reason(self, job_id: str) -> str:
        """The sentence about this job of mine; begins with "starts" if, and only if, it starts.

        Raises `KeyError` for a job that was not in the snapshot.
        """
        return self._sentence(self.why(job_id), job_id)

    def estimate(self, job_id: str) -> float | None:
        """In how many seconds it starts here at the latest, if nobody comes before who is not here yet.

        From the time limits of what is ahead; None where they do not tell. Raises `KeyError` as `why`.
        """
        if job_id in self._pass.ruled:
            return 0.0
        want = self._by_id[job_id]
        if not isinstance(self._waits[want.shape], Lacks | TakenWhole):
            return None
        kept = self._pass.first_table.kept
        if self._pass.kept_for == (self._snapshot.me, job_id) and kept is not None:
            return kept.late_s
        limits = (self._snapshot.cores_limit, self._snapshot.jobs_limit)
        if not self._pass.alone or kept is not None or limits != (None, None):
            return None
        return estimates.starts_in_s(want, self._line, self._pass.first_table)

    def verdicts(self) -> tuple[Verdict, ...]:
        """One verdict for each distinct shape among my jobs, in the order of their turns.

        It is about those that wait on; about those that start only if all of the shape do.
        """
        said = []
        for shape, want in self._pass.firsts.items():
            first = self._firsts.get(shape, want)
            why = self._waits[shape] if shape in self._waits else self._pass.ruled[want.id]
            said.append(Verdict(shape, self._sentence(why, first.id)))
        return tuple(said)

    def heads(self) -> tuple[Want, ...]:
        """The first waiting job of each shape that could start here at all: what neighbours need to know."""
        groups = self._pass.groups
        return tuple(want for shape, want in self._firsts.items() if groups[shape].never is None)

    @property
    def count(self) -> int:
        """How many of my jobs wait on that could start here at all."""
        return sum(group.never is None for _, group in self._pass.order) - len(self.starts)

    @property
    def ahead(self) -> frozenset[str]:
        """The users who could start a job now, and for whose turns alone one of mine waits."""
        mine, plan = self._pass.mine, self._pass.first_table.plan
        needs = [self._pass.groups[shape].need for shape in self._firsts if not shape.scavenge]
        waits = any(mine.fits(need) and not plan.fits(need) for need in needs)
        return frozenset(turn.user for turn in self._pass.planned) if waits else frozenset()

    def _sentence(self, why: Why, job_id: str) -> str:
        text = why.text
        if isinstance(why, Lacks) and (in_s := self.estimate(job_id)) is not None:
            return f"{text}; starts within {within(in_s)}"
        return text

    @cached_property
    def _by_id(self) -> dict[str, Want]:
        return {want.id: want for want in self._snapshot.wants}

    @cached_property
    def _line(self) -> list[tuple[Want, Group]]:
        """My jobs that wait on and could start here, but for what scavenges."""
        ruled = self._pass.ruled
        return [
            (want, group)
            for want, group in self._pass.order
            if want.id not in ruled and group.never is None and not want.scavenge
        ]

    @cached_property
    def _firsts(self) -> dict[Shape, Want]:
        """The first job that does not start of each shape that has one."""
        if not self._pass.ruled:
            return self._pass.firsts
        return _firsts([one for one in self._pass.order if one[0].id not in self._pass.ruled])

    @cached_property
    def _waits(self) -> dict[Shape, Why]:
        """Why the first job of each shape that waits on does so."""
        return {shape: _waits(self._pass.groups[shape], self._snapshot, self._pass) for shape in self._firsts}


# ---------------------------------------------------------------- the pass


class _Planned(NamedTuple):
    """A neighbour's turn: its job and the room that it leaves."""

    user: str
    want: Want
    left: Room


@dataclass(slots=True)
class _Pass:
    """What one pass leaves behind: all that the sentences are made of.

    `mine` is the room after what is there and what I start; `first_table` has the room also after what
    the neighbours are expected to start before me, `table` that of the last phase. `player` is me.
    `before_scavenging` are the further turns that come before what scavenges of mine.
    """

    order: list[tuple[Want, Group]]
    groups: Groups
    firsts: dict[Shape, Want]
    shares: Shares
    player: Player
    level: Level
    mine: Room
    first_table: Table
    table: Table
    alone: bool = False
    started_cores: int = 0
    ruled: dict[str, Why] = field(default_factory=dict)
    planned: list[_Planned] = field(default_factory=list)
    before_scavenging: list[_Planned] = field(default_factory=list)

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


def decide(snapshot: Snapshot) -> Decision:
    """Which of my waiting jobs start on this node now, and which of mine that run here give way."""
    groups = Groups(snapshot.site)
    order = [(want, groups[want.shape]) for want in in_order(snapshot.wants)]
    shares = _shares(snapshot)
    empty = table.empty_room(snapshot)
    stays = [table.stay_of(holding) for holding in snapshot.holdings]
    plan = room_with(empty, stays)
    mine = _myself(snapshot, order, shares)
    others = [
        player
        for neighbour in snapshot.neighbours
        if (player := table.neighbour_at(neighbour, snapshot, shares, groups, plan.cores)) is not None
    ]
    requeues: tuple[Requeue, ...] = ()
    if snapshot.may_requeue:
        waiting = [mine, *others] if snapshot.draining is None else others
        requeues = preemption.requeues(snapshot, shares, waiting, empty)
    at = Table(snapshot.node, snapshot.cores, snapshot.patience_s, empty, plan, stays)
    run = _Pass(order, groups, _firsts(order), shares, mine, mine.level, plan, at, at)
    run.alone = all(not player.queue for player in others)
    if snapshot.draining is None:
        _turns(snapshot, run, others)
        _on_threads(snapshot, run, others)
        _scavenge(snapshot, run, others)
    return Decision(requeues, snapshot, run)


def _firsts(order: Iterable[tuple[Want, Group]]) -> dict[Shape, Want]:
    """The first job of each shape, in the order of turns."""
    firsts: dict[Group, Want] = {}
    for want, group in order:
        if group not in firsts:
            firsts[group] = want
    return {group.shape: want for group, want in firsts.items()}


def _shares(snapshot: Snapshot) -> Shares:
    active = snapshot.active.union(
        {snapshot.me} if snapshot.wants else (),
        (user for user, cores in snapshot.running_cores.items() if cores),
        (neighbour.user for neighbour in snapshot.neighbours if neighbour.head is not None),
    )
    return Shares(active, snapshot.cluster_cores, snapshot.weights, snapshot.usage)


def _myself(snapshot: Snapshot, order: list[tuple[Want, Group]], shares: Shares) -> Player:
    able = [one for one in order if one[1].never is None]
    # What scavenges is at the end.
    border = bisect_left(able, True, key=lambda one: one[0].scavenge)
    running = snapshot.running_cores.get(snapshot.me, 0)
    cores, jobs = snapshot.cores_limit, snapshot.jobs_limit
    return Player(
        snapshot.me,
        able[:border],
        border,
        1,
        running,
        shares.level(snapshot.me, running),
        None if cores is None else max(0, cores - _cores_running(snapshot)),
        None if jobs is None else max(0, jobs - snapshot.jobs_running),
        able[border:],
    )


def _cores_running(snapshot: Snapshot) -> int:
    """My cores that count for my limit."""
    running = snapshot.cores_running
    return snapshot.running_cores.get(snapshot.me, 0) if running is None else running


def _turns(snapshot: Snapshot, run: _Pass, others: list[Player]) -> None:
    """Plays the turns of everybody at this table until nothing of mine fits, and records them in `run`."""
    at = run.table
    while True:
        bids = [(player, *bid) for player in (run.player, *others) if (bid := player.bid(at)) is not None]
        if all(player is not run.player for player, _, _ in bids):
            return
        player, want, group = min(bids, key=lambda bid: (bid[0].level[:2], bid[1].submitted_ns, bid[0].user))
        if not at.plan.fits(group.need):
            at.keep(player.user, want)
            continue
        if player is run.player:
            run.start(want, Starts(group.need, run.mine, snapshot, want.limit_s, at.kept))
        _take(player, want, group, at, run.shares)
        if player is not run.player:
            run.planned.append(_Planned(player.user, want, at.plan))
        run.level = run.player.level


def _take(player: Player, want: Want, group: Group, at: Table, shares: Shares) -> None:
    at.take(group)
    cores = want.cores or at.cores
    running = player.running + cores
    player.take(cores, shares.level(player.user, running), running)


def _on_threads(snapshot: Snapshot, run: _Pass, others: list[Player]) -> None:
    """Starts on hardware threads beside the cores what is below the fair share, if all cores are busy."""
    if snapshot.threads < 1 or snapshot.cluster_cores < 1:
        return

    def no_cores(group: Group) -> bool:
        return group.need.cores > snapshot.cluster_free

    at = run.table = replace(run.table, on_threads=True, also=no_cores)
    mine = run.player = run.player.again([one for one in run.player.queue if one[0].id not in run.ruled])
    players = [mine, *(player.again() for player in others)]
    while mine.bid(at) is not None:
        poor = [player for player in players if player.running < run.shares.fair(player.user)]
        if mine not in poor or (found := next_bid(poor, at)) is None:
            break
        player, want, group = found
        if player is mine:
            share = (snapshot.me, mine.running, run.shares)
            run.start(want, StartsOnThreads(group.need, run.mine, snapshot, *share))
        _take(player, want, group, at, run.shares)


def _scavenge(snapshot: Snapshot, run: _Pass, others: list[Player]) -> None:
    """Starts what scavenges where nothing else of anybody would start."""
    if not run.player.scavenging:
        return
    at = run.table = replace(run.table, on_threads=False, also=None)
    while (found := next_bid(others, at)) is not None:
        player, want, group = found
        if at.plan.fits(group.need):
            _take(player, want, group, at, run.shares)
            run.before_scavenging.append(_Planned(player.user, want, at.plan))
        else:
            at.keep(player.user, want)
    mine = run.player = run.player.again(run.player.scavenging)
    if at.kept is not None:
        return
    players = [mine, *(player.again(player.scavenging) for player in others if player.count)]
    for player in players:
        # Turns of their own: what scavenges counts for nobody's level.
        player.running = sum(
            held.cores for held in snapshot.holdings if held.scavenge and held.user == player.user
        )
        player.level = Level(player.running, 0.0, player.running)
    while mine.bid(at) is not None and (found := next_bid(players, at)) is not None:
        player, want, group = found
        if player is mine:
            run.start(want, Starts(group.need, run.mine, snapshot, want.limit_s))
        at.take(group)
        cores = want.cores or at.cores
        player.take(cores, Level(player.running + cores, 0.0, 0), player.running + cores)
        if player is not mine:
            run.before_scavenging.append(_Planned(player.user, want, at.plan))


# ---------------------------------------------------------------- why what waits does


def _waits(group: Group, snapshot: Snapshot, run: _Pass) -> Why:
    """Why the jobs of a shape that do not start wait: the first reason that holds."""
    if group.never is not None:
        return Never(group.never)
    if snapshot.draining is not None:
        return Draining(snapshot.node, snapshot.draining)
    if (limited := _limited(group.need.cores or snapshot.cores, snapshot, run)) is not None:
        return limited
    if not run.mine.fits(group.need):
        return _lacks(group, snapshot, run)
    scavenges = group.shape.scavenge
    at = run.table if scavenges else run.first_table
    if not at.plan.fits(group.need):
        # If no single turn was too much, what I start was, after the last of them.
        turns = run.planned + (run.before_scavenging if scavenges else [])
        turn = next((turn for turn in turns if not turn.left.fits(group.need)), turns[-1])
        if scavenges:
            return TurnToScavenge(turn.user, turn.want.id)
        theirs = run.shares.level(turn.user, snapshot.running_cores.get(turn.user, 0))
        return Turn(turn.user, turn.want.id, theirs, snapshot.me, run.level, run.shares)
    # It would fit: only a node that is kept for somebody stops it.
    assert at.kept is not None
    return Kept(snapshot.node, at.kept, group.shape.limit_s, scavenges)


def _limited(cores: int, snapshot: Snapshot, run: _Pass) -> Limited | None:
    """My limit, if it does not allow a job of so many cores after what I start."""
    if run.player.allows(cores):
        return None
    most = snapshot.jobs_limit
    if most is not None and run.player.jobs_left is not None and run.player.jobs_left < 1:
        return Limited(most, snapshot.jobs_running + len(run.ruled), None)
    assert snapshot.cores_limit is not None
    return Limited(snapshot.cores_limit, _cores_running(snapshot) + run.started_cores, cores)


def _lacks(group: Group, snapshot: Snapshot, run: _Pass) -> Why:
    """What the node lacks for this shape, by what is there and what I start."""
    room = run.mine
    started = [(snapshot.me, job_id) for job_id in run.ruled]
    if room.whole:
        whole = [(held.user, held.id) for held in snapshot.holdings if held.exclusive or not held.cores]
        # If nobody had it whole before, I take it whole now, and nothing else starts.
        return TakenWhole(snapshot.node, *min(whole or started[:1]))
    there = [(held.user, held.id) for held in snapshot.holdings] + started
    return Lacks(group.need, room, snapshot, there[0] if there else None)
