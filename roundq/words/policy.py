"""Pure: who goes next. The daemon calls it once a round; the log, cards and `rq why` print its sentences.

`decide` answers one question: which of MY waiting jobs start on THIS node NOW.
Every user's daemon on the node asks it with its own snapshot, and since all apply
the same rules to the same facts they agree whose turn it is without talking.
They may still race; `settle` is the check after a claim that keeps the node from
being overbooked then. Nothing here claims, starts or reads anything.

The rules, in this order:

1. Eligibility. A job that asks for more than the node has can never start here
   and blocks nobody.
2. Turns. Of the users who could start something now, the one with the fewest
   running cores in the whole cluster goes next, ties to the earlier submission,
   then to the name. Its job is started, or, if it is a neighbour's, planned as
   started; then the next turn, until nothing of mine fits any more.
3. Within a user: higher priority, then earlier submission, then lower id.
4. Room. Cores, then memory: what is available minus what is promised but not yet
   used. A job of all cores has the node alone.
5. A job that does not fit now is passed by, so that it wastes nothing, until it
   has waited longer than the patience: then, when its owner's turn comes, the node
   is kept for it and nothing of a later turn starts.

Of a neighbour only a few jobs are known: its head, perhaps the first of each
further shape, and how many wait. The rest are taken to look like these. A wrong guess
costs one round: the next snapshot shows what the neighbour really took.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import attrgetter
from typing import NamedTuple

from roundq.words.claims import Claim, Ruling, Settlement, settle
from roundq.words.job import Job
from roundq.words.quantities import ALL_CORES, format_age, format_memory, visible
from roundq.words.room import Offer, Room, below_text, cores_text, ineligible, keeper

__all__ = [
    "Claim",
    "Decision",
    "Holding",
    "Neighbour",
    "Offer",
    "Ruling",
    "Settlement",
    "Shape",
    "Snapshot",
    "Verdict",
    "Want",
    "coarse",
    "decide",
    "in_order",
    "ineligible",
    "keeper",
    "settle",
    "want_of",
]


class Shape(NamedTuple):
    """What jobs that are treated alike have in common.

    `cores` 0 asks for the node alone; memory is in bytes. `licenses` are sorted names with counts.
    `limit_s` is the time limit as `coarse` gives it, None for none. `nodes` and `exclude` are patterns.
    """

    cores: int
    memory: int
    priority: int = 0
    gpus: int = 0
    licenses: tuple[tuple[str, int], ...] = ()
    limit_s: float | None = None
    scavenge: bool = False
    nodes: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    features: tuple[str, ...] = ()


def coarse(limit_s: float | None) -> float | None:
    """A time limit rounded up to 1, 2 or 5 times a power of ten minutes, so that there are few shapes."""
    if limit_s is None:
        return None
    step = 60.0
    while True:
        for factor in (1, 2, 5):
            if limit_s <= factor * step:
                return factor * step
        step *= 10


_shape = operator.attrgetter("shape")
_submitted = attrgetter("submitted_ns")

# ---------------------------------------------------------------- facts


@dataclass(frozen=True, slots=True)
class Want:
    """A waiting job. `cores` 0 asks for the node alone; `memory` is in bytes, 0 asks for none.

    `kept_on` is the one node that may be kept for it (what `keeper` says); None: any.
    The other fields are those of its `Shape`.
    """

    id: str
    cores: int
    memory: int
    submitted_ns: int
    priority: int = 0
    waited_s: float = 0.0
    kept_on: str | None = None
    gpus: int = 0
    licenses: tuple[tuple[str, int], ...] = ()
    limit_s: float | None = None
    scavenge: bool = False
    nodes: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    features: tuple[str, ...] = ()

    @property
    def shape(self) -> Shape:
        """What it has in common with those that are treated alike."""
        return Shape(
            self.cores,
            self.memory,
            self.priority,
            self.gpus,
            self.licenses,
            self.limit_s,
            self.scavenge,
            self.nodes,
            self.exclude,
            self.features,
        )


def want_of(job_id: str, job: Job, submitted_ns: int) -> Want:
    """A waiting job as the policy sees it."""
    return Want(
        job_id,
        job.cores,
        job.memory_required,
        submitted_ns,
        job.priority,
        gpus=job.gpus,
        licenses=job.licenses,
        limit_s=coarse(job.time_limit_s),
        scavenge=job.scavenge,
        nodes=job.nodes,
        exclude=job.exclude,
        features=job.features,
    )


@dataclass(frozen=True, slots=True)
class Holding:
    """A job, of anyone, that occupies this node: claimed or running.

    `memory_unused` is what it was promised but does not use yet, in bytes. One
    that is `exclusive`, or whose cores are not resolved (0), has the node alone. `left_s` is when its
    time limit ends it at the latest, None if it has none; `age_s` since when it is here, in seconds.
    One on `threads` takes hardware threads that other jobs' cores left over, no cores.
    """

    user: str
    id: str
    cores: int
    memory_unused: int = 0
    exclusive: bool = False
    gpus: int = 0
    licenses: tuple[tuple[str, int], ...] = ()
    left_s: float | None = None
    age_s: float = 0.0
    restartable: bool = False
    scavenge: bool = False
    threads: bool = False


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Another user with a live daemon on this node.

    `head` is the first job that it could start here at all, `others` the first of
    each further shape if they are known, `count` how many jobs wait. `cores_left` and
    `jobs_left` are what the user's limits still allow, None for no limit.
    """

    user: str
    head: Want | None
    count: int = 1
    others: tuple[Want, ...] = ()
    cores_left: int | None = None
    jobs_left: int | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a decision depends on.

    `cores` is the capacity that the node offers; `memory_available` is what the
    kernel reports, before `memory_unused` of the holdings is subtracted, in bytes.
    `draining` is the reason why nothing may start. `running_cores` counts running
    and claimed cores of each user in the whole cluster. `wants` come in any order;
    their ids are unique, and none of them is among the holdings.

    `threads` are the hardware threads beside the first ones of the cores that are offered; `gpus` those
    that no stranger uses. `licenses` are those that this node has of its own, `pool` those of the cluster,
    `pool_used` what jobs on other nodes hold of these. `weights` and `usage` are of users: the share
    (1 if missing), and the decayed core-seconds as a part of what the cluster could have given.
    `active` are the users who have something running or waiting. `cluster_cores` and `cluster_free` count
    the live nodes. `cores_limit` and `jobs_limit` are my limits in the whole cluster, `jobs_running`
    what runs of mine. `may_requeue`: no requeue of mine is under way, and I may ask for one here.
    """

    node: str
    me: str
    cores: int
    memory_total: int
    memory_available: int
    draining: str | None = None
    holdings: tuple[Holding, ...] = ()
    running_cores: Mapping[str, int] = field(default_factory=dict)
    wants: tuple[Want, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    patience_s: float = 600.0
    threads: int = 0
    gpus: int = 0
    features: frozenset[str] = frozenset()
    licenses: Mapping[str, int] = field(default_factory=dict)
    pool: Mapping[str, int] = field(default_factory=dict)
    pool_used: Mapping[str, int] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    usage: Mapping[str, float] = field(default_factory=dict)
    active: frozenset[str] = frozenset()
    cluster_cores: int = 0
    cluster_free: int = 0
    cores_limit: int | None = None
    jobs_limit: int | None = None
    jobs_running: int = 0
    may_requeue: bool = False


class Verdict(NamedTuple):
    """What the decision says of the waiting jobs of one shape; small enough for a card."""

    shape: Shape
    says: str


# ---------------------------------------------------------------- rules that others need, too


def in_order(wants: Iterable[Want]) -> list[Want]:
    """One user's jobs in the order of their turns: priority, submission, id with numbers by value."""
    # Three stable passes, the last being the most significant: most keys come at the speed of C.
    order = sorted(wants, key=_submitted)
    if len(set(map(_submitted, order))) < len(order):
        # The tasks of an array were all submitted at once.
        order.sort(key=lambda want: (want.submitted_ns, _natural(want.id)))
    order.sort(key=attrgetter("priority"), reverse=True)
    return order


# ---------------------------------------------------------------- the decision


@dataclass(frozen=True)
class Decision:
    """Which of my jobs start now, in this order, and one sentence about each of them all.

    The sentences are made when they are asked for, from what the pass left behind:
    ten thousand waiting jobs have few shapes and one sentence for each.
    """

    # Without slots: cached_property needs a place to write to.
    starts: tuple[str, ...]
    _snapshot: Snapshot = field(repr=False)
    _pass: _Pass = field(repr=False, compare=False)

    def reason(self, job_id: str) -> str:
        """Why this job of mine starts or waits; begins with "starts" if, and only if, it starts.

        Raises `KeyError` for a job that was not in the snapshot.
        """
        want = self._by_id[job_id]
        started = self._pass.started.get(job_id)
        if started is not None:
            return _starts(want, started, self._snapshot)
        says = self._says[_shape(want)]
        first = self._firsts[_shape(want)]
        if says.startswith("waits: needs "):
            if first.id != job_id:
                says = f"waits: behind job {visible(first.id)}, which {says.removeprefix('waits: ')}"
            if self._pass.kept == (self._snapshot.me, want):
                says = f"{says}; {self._snapshot.node} is kept for it"
        return says

    def verdicts(self) -> tuple[Verdict, ...]:
        """One verdict for each distinct shape among my jobs, in the order of their turns.

        It is about those that wait on; about those that start only if all of the shape do.
        """
        return tuple(Verdict(shape, says) for shape, says in self._says.items())

    def heads(self) -> tuple[Want, ...]:
        """The first waiting job of each shape that could start here at all: what neighbours need to know."""
        return tuple(want for shape, want in self._firsts.items() if shape not in self._pass.never)

    @property
    def count(self) -> int:
        """How many of my jobs wait on that could start here at all."""
        return len(self._pass.queue) - len(self.starts)

    @property
    def ahead(self) -> frozenset[str]:
        """The users who could start a job now, and for whose turns alone one of mine waits."""
        mine, plan = self._pass.mine, self._pass.plan
        waits = any(
            mine.fits(shape.cores, shape.memory) and not plan.fits(shape.cores, shape.memory)
            for shape in self._firsts
        )
        return frozenset(turn.user for turn in self._pass.planned) if waits else frozenset()

    @cached_property
    def _by_id(self) -> dict[str, Want]:
        return {want.id: want for want in self._snapshot.wants}

    @cached_property
    def _firsts(self) -> dict[Shape, Want]:
        """The first job that does not start of each shape that has one."""
        waiting = [want for want in self._pass.order if want.id not in self._pass.started]
        return _firsts(waiting) if self.starts else self._pass.firsts

    @cached_property
    def _says(self) -> dict[Shape, str]:
        return {
            shape: _waits(shape, self._snapshot, self._pass)
            if shape in self._firsts
            else _starts(want, self._pass.started[want.id], self._snapshot)
            for shape, want in self._pass.firsts.items()
        }


def decide(snapshot: Snapshot) -> Decision:
    """Which of my waiting jobs start on this node now."""
    order = in_order(snapshot.wants)
    firsts = _firsts(order)
    never: dict[Shape, str] = {}
    for shape in firsts:
        why = ineligible(shape.cores, shape.memory, snapshot.node, snapshot.cores, snapshot.memory_total)
        if why:
            never[shape] = why
    queue = [want for want in order if _shape(want) not in never] if never else order
    room = _room(snapshot)
    run = _Pass(order, queue, firsts, never, room, room)
    if snapshot.draining is None:
        _turns(snapshot, run)
    return Decision(tuple(run.started), snapshot, run)


def _turns(snapshot: Snapshot, run: _Pass) -> None:
    """Plays the turns of everybody at this table until nothing of mine fits, and records them in `run`."""
    mine = _Player(snapshot.me, run.queue, len(run.queue))
    table = [mine, *_neighbours(snapshot, run.mine.cores)]
    running = {player.user: snapshot.running_cores.get(player.user, 0) for player in table}
    run.running = running[mine.user]
    while True:
        bids = [(player, want) for player in table if (want := player.bid(run.plan, snapshot)) is not None]
        if all(player is not mine for player, _ in bids):
            return
        player, want = min(bids, key=lambda bid: (running[bid[0].user], bid[1].submitted_ns, bid[0].user))
        if not run.plan.fits(want.cores, want.memory):
            run.kept = (player.user, want)
            return
        if player is mine:
            run.started[want.id] = run.mine
            run.mine = run.mine.less(want.cores, want.memory)
        run.plan = run.plan.less(want.cores, want.memory)
        if player is not mine:
            run.planned.append(_Planned(player.user, want, run.plan))
        running[player.user] += want.cores or snapshot.cores
        run.running = running[mine.user]
        player.take()


def _neighbours(snapshot: Snapshot, free_cores: int) -> Iterable[_Player]:
    for neighbour in snapshot.neighbours:
        if neighbour.head is None or neighbour.user == snapshot.me:
            continue
        # No more than one for each free core can start, whatever number a card claims.
        count = min(neighbour.count, max(1, free_cores))
        queue = []
        for want in (neighbour.head, *neighbour.others):
            if not ineligible(want.cores, want.memory, snapshot.node, snapshot.cores, snapshot.memory_total):
                # Those that are only assumed have not waited: no node is kept for a guess.
                queue += [want, *[replace(want, waited_s=0.0)] * (count - 1)]
        yield _Player(neighbour.user, queue, count)


# ---------------------------------------------------------------- the pass


def _firsts(order: list[Want]) -> dict[Shape, Want]:
    """The first job of each shape, in the order of turns."""
    # Filled backwards, so that the first of each shape is the one that stays.
    firsts = {_shape(want): want for want in reversed(order)}
    return {_shape(want): want for want in in_order(firsts.values())}


def _room(snapshot: Snapshot) -> Room:
    room = Room(snapshot.cores, snapshot.memory_available)
    for holding in snapshot.holdings:
        room = room.less(ALL_CORES if holding.exclusive else holding.cores, holding.memory_unused)
    return room


class _Planned(NamedTuple):
    """A neighbour's turn: its job and the room that it leaves."""

    user: str
    want: Want
    left: Room


@dataclass(slots=True)
class _Pass:
    """What one pass leaves behind: all that the sentences are made of.

    `mine` is the room after what is there and what I start, `plan` also after what the
    neighbours are expected to start; `started` has the room that each found.
    """

    order: list[Want]
    queue: list[Want]
    firsts: dict[Shape, Want]
    never: dict[Shape, str]
    mine: Room
    plan: Room
    started: dict[str, Room] = field(default_factory=dict)
    planned: list[_Planned] = field(default_factory=list)
    kept: tuple[str, Want] | None = None
    running: int = 0


@dataclass(slots=True)
class _Player:
    """One user at the table: the jobs it waits with, in order, and how many of them at most."""

    user: str
    queue: list[Want]
    count: int
    at: int = 0
    unfit: set[tuple[int, int]] = field(default_factory=set)

    def bid(self, plan: Room, snapshot: Snapshot) -> Want | None:
        """The job that it wants to start next, or for which it wants the node kept.

        Room only shrinks in a pass: what did not fit is never looked at again.
        """
        while self.count > 0 and self.at < len(self.queue):
            want = self.queue[self.at]
            size = (want.cores, want.memory)
            if size not in self.unfit:
                if plan.fits(*size):
                    return want
                self.unfit.add(size)
            # With no job there whose end could make room, keeping the node would help nobody:
            # then the memory is used by what is not ours.
            if want.waited_s > snapshot.patience_s and plan.jobs and want.kept_on in (None, snapshot.node):
                return want
            self.at += 1
        return None

    def take(self) -> None:
        self.at += 1
        self.count -= 1


def _natural(job_id: str) -> tuple[int, int, int, str]:
    """Sorts 2 before 10, 17_3 before 17_12, and numbers before names."""
    number, _, index = job_id.partition("_")
    if number.isdecimal() and (not index or index.isdecimal()):
        return 0, int(number), int(index or -1), job_id
    number, _, node = job_id.partition(".")
    if number.isdecimal() and node and not node.isdecimal():
        return 0, int(number), -1, job_id
    return 1, 0, 0, job_id


# ---------------------------------------------------------------- sentences


def _starts(want: Want, room: Room, snapshot: Snapshot) -> str:
    """The sentence of a job that starts in `room`."""
    if want.cores == ALL_CORES:
        needs = f"has {snapshot.node} for itself"
    else:
        needs = f"needs {cores_text(want.cores)}, {room.cores} of {snapshot.cores} free"
    if want.memory:
        free = f"{format_memory(room.memory)} of {format_memory(snapshot.memory_total)} free"
        needs += f", and {format_memory(want.memory)} of memory, {free}"
    return f"starts: {needs}"


def _waits(shape: Shape, snapshot: Snapshot, run: _Pass) -> str:
    """The sentence of the jobs of a shape that do not start; the first reason that holds."""
    cores, memory = shape.cores, shape.memory
    if shape in run.never:
        return run.never[shape]
    if snapshot.draining is not None:
        return f"waits: {snapshot.node} is draining" + (
            f" ({visible(snapshot.draining)})" if snapshot.draining else ""
        )
    if not run.mine.fits(cores, memory):
        return f"waits: {_lacks(cores, memory, snapshot, run)}"
    if not run.plan.fits(cores, memory):
        # If no single turn was too much, what I start was, after the last of them.
        short = (turn for turn in run.planned if not turn.left.fits(cores, memory))
        return f"waits: {_turn(next(short, run.planned[-1]), snapshot, run)}"
    # It would fit: only a node that is kept for somebody stops it.
    assert run.kept is not None
    user, want = run.kept
    needs = cores_text(want.cores) if want.cores else "it whole"
    return (
        f"waits: {snapshot.node} is kept for {visible(user)}'s job {visible(want.id)},"
        f" which needs {needs} and has waited {format_age(want.waited_s)}"
    )


def _lacks(cores: int, memory: int, snapshot: Snapshot, run: _Pass) -> str:
    """What the node lacks for this shape, by what is there and what I start."""
    room = run.mine
    if room.whole:
        whole = [(held.user, held.id) for held in snapshot.holdings if held.exclusive or not held.cores]
        # If nobody had it whole before, I take it whole now, and nothing else starts.
        user, job_id = min(whole) if whole else (snapshot.me, next(iter(run.started)))
        return f"{snapshot.node} is taken whole by {visible(user)}'s job {visible(job_id)}"
    lacks = []
    if cores == ALL_CORES and room.jobs:
        there = [(held.user, held.id) for held in snapshot.holdings]
        user, job_id = there[0] if there else (snapshot.me, next(iter(run.started)))
        jobs = f"{visible(user)}'s job {visible(job_id)} is" if room.jobs == 1 else f"{room.jobs} jobs are"
        lacks.append(f"{snapshot.node} for itself, {jobs} there")
    elif cores > room.cores:
        lacks.append(f"{cores_text(cores)}, {room.cores} of {snapshot.cores} free")
    if memory > room.memory and memory:
        free = f"{below_text(room.memory, memory)} of {format_memory(snapshot.memory_total)} free"
        lacks.append(f"{format_memory(memory)} of memory, {free}")
    return f"needs {', and '.join(lacks)}"


def _turn(turn: _Planned, snapshot: Snapshot, run: _Pass) -> str:
    """Whose turn it is and why. Counts what runs and what I start, not what is only expected."""
    user, me = visible(turn.user), visible(snapshot.me)
    theirs = snapshot.running_cores.get(turn.user, 0)
    if theirs == run.running:
        each = f"{user} and {me} have {cores_text(theirs)} running each"
        return f"{user}'s turn ({each}, {user}'s job {visible(turn.want.id)} goes first)"
    return f"{user}'s turn ({user} has {cores_text(theirs)} running, {me} {run.running})"
