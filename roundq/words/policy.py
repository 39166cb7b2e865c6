"""Pure: who goes next. The daemon calls it once a round; the log, cards and `rq why` print its sentences.

`decide` answers one question: which of MY waiting jobs start on THIS node NOW, and which
of mine here give way to others. Every user's daemon on the node asks it with its own
snapshot, and since all apply the same rules to the same facts they agree whose turn it is
without talking. They may still race; `settle` is the check after a claim that keeps the node
from being overbooked then. Nothing here claims, starts or reads anything.

The rules, in this order; `fairness`, `backfill`, `preemption` and `room` have the numbers:

1. Eligibility. A job that asks for what the node has not can never start here and blocks
   nobody. Nor does a job that its owner's limits do not allow now, or that of its set or array.
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

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import attrgetter

from roundq.words import estimates, play, preemption
from roundq.words.backfill import End, Offer, ineligible, is_for_another, keepers
from roundq.words.claims import Bounds, Claim, Ruling, Settlement, settle
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
from roundq.words.play import Play
from roundq.words.preemption import Requeue, Yielding
from roundq.words.quantities import visible
from roundq.words.sentences import Lacks, StartsOnThreads, TakenWhole, Turn, TurnToScavenge, Why
from roundq.words.table import Kinds

__all__ = [
    "Bounds",
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
    "is_for_another",
    "keepers",
    "settle",
    "want_of",
]

#: Nobody plans for longer, and no card could tell it.
_KNOWN_MAX_S = 1e9
_submitted = attrgetter("submitted_ns")


def in_order(wants: Iterable[Want]) -> list[Want]:
    """One user's jobs in the order of their turns: what scavenges last, then priority, submission, id."""
    # Stable passes, the last being the most significant: most keys come at the speed of C.
    order = sorted(wants, key=_submitted)
    if len(set(map(_submitted, order))) < len(order):
        # The tasks of an array were all submitted at once. Ids with numbers go by value.
        order.sort(key=lambda want: (want.submitted_ns, natural(want.id)))
    order.sort(key=attrgetter("priority"), reverse=True)
    order.sort(key=attrgetter("scavenge"))
    return order


def turn(want: Want) -> tuple[bool, int, int, tuple[int, int, int, str]]:
    """The key of that order, for what is in order by parts."""
    return want.scavenge, -want.priority, want.submitted_ns, natural(want.id)


def natural(job_id: str) -> tuple[int, int, int, str]:
    """What sorts ids: 2 before 10, 17_3 before 17_12, 17.n1_3 before 17.n1_12, and numbers before names."""
    number, _, index = job_id.partition("_")
    if number.isdecimal() and (not index or index.isdecimal()):
        return 0, int(number), int(index or -1), job_id
    number, _, node = job_id.partition(".")
    if number.isdecimal() and node and not node.isdecimal():
        index = node.rpartition("_")[2]
        return 0, int(number), int(index) if index != node and index.isdecimal() else -1, job_id
    return 1, 0, 0, job_id


# ---------------------------------------------------------------- the decision


@dataclass(frozen=True)
class Decision:
    """Which of my jobs start now, in this order, and one sentence about each of them all.

    `requeues` are jobs of mine that give way, `owed` those of others that are counted on to do so, by user
    and id. What starts and what is said of it are one value, its
    `why`. The sentences of what waits are made when they are asked for, from what the pass left behind:
    ten thousand waiting jobs have few shapes and one sentence for each.
    """

    # Without slots: cached_property needs a place to write to.
    requeues: tuple[Requeue, ...]
    owed: frozenset[tuple[str, str]]
    _snapshot: Snapshot = field(repr=False)
    _pass: Play = field(repr=False, compare=False)

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
            kept_for = "it" if self._pass.kept_for == (self._snapshot.me, job_id) else None
            return replace(why, behind=None if first == job_id else first, kept_for=kept_for)
        return why

    def reason(self, job_id: str) -> str:
        """The sentence about this job of mine; begins with "starts" if, and only if, it starts.

        Raises `KeyError` for a job that was not in the snapshot.
        """
        return self.why(job_id).text

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
        return self._estimates.get(job_id)

    def verdicts(self) -> tuple[Verdict, ...]:
        """One verdict for each distinct shape among my jobs, in the order of their turns.

        It is about those that wait on; about those that start only if all of the shape do.
        """
        said = []
        for shape, want in self._pass.firsts.items():
            first = self._firsts.get(shape, want)
            why = self._pass.ruled[want.id] if shape not in self._waits else self._waits[shape]
            if isinstance(why, Lacks) and self._pass.kept_for == (self._snapshot.me, first.id):
                why = replace(why, kept_for=f"job {visible(first.id)}")
            in_s = None if why.starts else self.estimate(first.id)
            # Whole minutes: a card that says nothing else that is new is not published again.
            minutes = None if in_s is None or in_s > _KNOWN_MAX_S else math.ceil(in_s / 60) * 60.0
            said.append(Verdict(shape, why.text, minutes))
        return tuple(said)

    def heads(self) -> tuple[Want, ...]:
        """The first waiting job of each shape that could start here at all: what neighbours need to know.

        Not of those of which a group is full: they would be waited for, and not start.
        """
        kinds = self._pass.kinds
        found: dict[Shape, Want] = {}
        for shape, want in self._firsts.items():
            if kinds[shape].never is None and not self._is_full(shape):
                # Groups are for my eyes: to others these jobs are all alike.
                found.setdefault(shape.bare, replace(want, groups=()) if want.groups else want)
        return tuple(found.values())

    @property
    def count(self) -> int:
        """How many of my jobs wait on that could start here at all, if no group were full."""
        return sum(kind.never is None for _, kind in self._pass.order) - len(self.starts)

    def could_start(self, shape: Shape) -> bool:
        """Whether a job of this shape could ever start here, as the node and the limits are now."""
        snapshot = self._snapshot
        if self._pass.kinds[shape].never is not None or snapshot.jobs_limit == 0:
            return False
        if any(limit.most == 0 for group, limit in snapshot.groups.items() if group in shape.groups):
            return False
        return snapshot.cores_limit is None or (shape.cores or snapshot.cores) <= snapshot.cores_limit

    @property
    def ahead(self) -> frozenset[str]:
        """The users who could start a job now, and for whose turns alone one of mine waits."""
        run = self._pass
        found: set[str] = set()
        for why in self._waits.values():
            if isinstance(why, Turn):
                found.update(turn.user for turn in run.planned)
            elif isinstance(why, TurnToScavenge) and run.makes_way_for is None:
                found.update(turn.user for turn in (*run.planned, *run.before_scavenging))
        return frozenset(found)

    def _is_full(self, shape: Shape) -> bool:
        return play.full_group(shape, self._snapshot, self._pass) is not None

    @cached_property
    def _by_id(self) -> dict[str, Want]:
        return {want.id: want for want in self._snapshot.wants}

    @cached_property
    def _estimates(self) -> dict[str, float]:
        """When the first of my jobs start if nobody else is at the table, and no limit of mine stops them."""
        run = self._pass
        limits = (self._snapshot.cores_limit, self._snapshot.jobs_limit, self._snapshot.here_limit)
        alone = all(player.user == self._snapshot.me for player in run.waiting)
        # Of a group with a limit others may come first, or these later.
        alone &= not self._snapshot.groups
        if not alone or run.player.scavenging or run.first_table.kept or limits != (None, None, None):
            return {}
        line = [
            (want, kind)
            for want, kind in run.order
            if want.id not in run.ruled and kind.never is None and not want.scavenge
        ]
        return estimates.in_line_s(line, run.first_table)

    @cached_property
    def _firsts(self) -> dict[Shape, Want]:
        """The first job that does not start of each shape that has one."""
        if not self._pass.ruled:
            return self._pass.firsts
        return play.firsts_of([one for one in self._pass.order if one[0].id not in self._pass.ruled])

    @cached_property
    def _waits(self) -> dict[Shape, Why]:
        """Why the first job of each shape that waits on does so."""
        return {
            shape: play.waits(self._pass.kinds[shape], self._snapshot, self._pass) for shape in self._firsts
        }


def decide(snapshot: Snapshot) -> Decision:
    """Which of my waiting jobs start on this node now, and which of mine that run here give way."""
    kinds = Kinds(snapshot.site)
    order = [(want, kinds[want.shape]) for want in in_order(snapshot.wants)]
    run = play.play(snapshot, order, kinds)
    found = Yielding()
    if snapshot.may_requeue:
        found = preemption.yielding(snapshot, run.shares, run.waiting, run.first_table.empty)
    return Decision(found.requeues, found.owed, snapshot, run)
