"""Promises about every decision, whatever it depends on: nothing is promised twice; what is said is so."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from roundq.words.policy import Decision, Holding, Neighbour, Snapshot, Want, decide, ineligible
from roundq.words.sentences import (
    Draining,
    GroupFull,
    Kept,
    Lacks,
    Limited,
    Never,
    Starts,
    StartsOnThreads,
    Turn,
    WorkerFull,
)
from roundq.words.table import stay_of
from tests.words.snapshots import snapshots

T = TypeVar("T")
many = settings(max_examples=150, deadline=None)


def started(snapshot: Snapshot, decision: Decision) -> list[Want]:
    wants = {each.id: each for each in snapshot.wants}
    return [wants[job_id] for job_id in decision.starts]


def as_holding(snapshot: Snapshot, want: Want, on_threads: bool) -> Holding:
    return Holding(
        snapshot.me,
        f"new{want.id}",
        want.cores or snapshot.cores,
        want.memory,
        not want.cores,
        want.gpus,
        want.licenses,
        threads=on_threads,
        scavenge=want.scavenge,
    )


def after(snapshot: Snapshot, decision: Decision) -> Snapshot:
    """What I see next if nothing else happens."""
    mine = started(snapshot, decision)
    new = tuple(as_holding(snapshot, want, want.id in decision.on_threads) for want in mine)
    cores = sum(held.cores for held in new if not held.scavenge)
    before = snapshot.running_cores.get(snapshot.me, 0)
    begun = Counter(group for want in mine for group in want.groups)
    all_cores = before if snapshot.cores_running is None else snapshot.cores_running
    return replace(
        snapshot,
        holdings=(*snapshot.holdings, *new),
        wants=tuple(want for want in snapshot.wants if want not in mine),
        running_cores={**snapshot.running_cores, snapshot.me: before + cores},
        cores_running=all_cores + sum(held.cores for held in new),
        jobs_running=snapshot.jobs_running + len(new),
        groups={
            group: limit._replace(running=limit.running + begun[group])
            for group, limit in snapshot.groups.items()
        },
    )


@many
@given(snapshots)
def test_what_is_said_and_what_is_done_are_one_value(snapshot: Snapshot) -> None:
    """Every sentence begins with "starts" exactly for what starts, and its numbers bear it out."""
    decision = decide(snapshot)
    assert set(decision.starts) <= {want.id for want in snapshot.wants}
    for want in snapshot.wants:
        why, text = decision.why(want.id), decision.reason(want.id)
        assert why.starts == (want.id in decision.starts) == text.startswith("starts: ")
        assert text.isprintable()
        assert not text.endswith((".", " "))
        need = want.shape.need
        if isinstance(why, Starts):
            assert why.room.fits(need)
        elif isinstance(why, StartsOnThreads):
            assert why.room.fits(need, on_threads=True)
            assert why.running < why.shares.fair(snapshot.me)
        elif isinstance(why, Never):
            assert ineligible(want.shape, snapshot.site) == text
        elif isinstance(why, Lacks):
            assert not why.room.fits(need)
            assert ", " in text
        elif isinstance(why, Turn):
            assert why.theirs[:2] <= why.mine[:2]
            assert why.user != snapshot.me
        elif isinstance(why, Kept):
            assert why.scavenges or not why.reservation.admits(need, want.limit_s)
        elif isinstance(why, Draining):
            assert snapshot.draining is not None
        elif isinstance(why, Limited):
            left = why.most - why.running
            assert left < 1 if why.cores is None else left < why.cores
        elif isinstance(why, WorkerFull):
            assert why.cores > why.most - why.running
        elif isinstance(why, GroupFull):
            assert why.group in want.groups
            assert why.running >= why.most
        assert (ineligible(want.shape, snapshot.site) is not None) == isinstance(why, Never)


@many
@given(snapshots)
def test_the_verdict_of_a_shape_is_the_sentence_of_its_first_job_that_waits(snapshot: Snapshot) -> None:
    decision = decide(snapshot)
    said = {verdict.shape: verdict.says for verdict in decision.verdicts()}
    assert set(said) == {want.shape for want in snapshot.wants}
    wants = {want.id: want for want in snapshot.wants}
    for head in decision.heads():
        want = wants[head.id]
        assert head == replace(want, groups=())
        assert said[want.shape].replace(f"kept for job {want.id}", "kept for it") == decision.reason(want.id)
        assert want.id not in decision.starts
        assert not isinstance(decision.why(want.id), GroupFull)
    assert len({head.shape for head in decision.heads()}) == len(decision.heads())
    assert sum(decision.why(want.id).starts for want in snapshot.wants) == len(decision.starts)


@many
@given(snapshots)
def test_a_worker_never_fills_more_than_it_was_told(snapshot: Snapshot) -> None:
    """With what its user has there already. What could never start there is told as such."""
    decision = decide(snapshot)
    wants = {want.id: want for want in snapshot.wants}
    cores = sum(wants[job_id].cores or snapshot.cores for job_id in decision.starts)
    if snapshot.here_limit is not None and cores:
        assert cores + snapshot.here_cores <= snapshot.here_limit
    for job_id in decision.starts:
        assert decision.could_start(wants[job_id].shape)


@many
@given(snapshots)
def test_nothing_is_promised_twice(snapshot: Snapshot) -> None:
    """Cores, threads, memory, GPUs and licenses of all that is there and starts are there."""
    decision = decide(snapshot)
    mine = [
        as_holding(snapshot, want, want.id in decision.on_threads) for want in started(snapshot, decision)
    ]
    if not mine:
        return
    there = [*snapshot.holdings, *mine]
    whole = [held for held in there if held.exclusive or not held.cores]
    assert not whole or len(there) == 1
    if any(not held.threads for held in mine):
        assert sum(held.cores for held in there if not held.threads) <= snapshot.cores
    if any(held.threads for held in mine):
        assert sum(held.cores for held in there if held.threads) <= snapshot.threads
    if any(held.memory_unused for held in mine):
        assert sum(held.memory_unused for held in there) <= snapshot.memory_available
    if any(held.gpus for held in mine):
        assert sum(held.gpus for held in there) <= snapshot.gpus
    for name in {name for held in mine for name, _ in held.licenses}:
        used = sum(dict(held.licenses).get(name, 0) for held in there)
        if name not in snapshot.licenses:
            used += snapshot.pool_used.get(name, 0)
        assert used <= {**snapshot.pool, **snapshot.licenses}.get(name, 0)


@many
@given(snapshots)
def test_no_limit_of_mine_is_passed(snapshot: Snapshot) -> None:
    then = after(snapshot, decision := decide(snapshot))
    if decision.starts:
        assert snapshot.cores_limit is None or (then.cores_running or 0) <= snapshot.cores_limit
        assert snapshot.jobs_limit is None or then.jobs_running <= snapshot.jobs_limit
    for group, limit in then.groups.items():
        # One that was lowered has more that run; nothing is added to these.
        assert limit.running <= max(limit.most, snapshot.groups[group].running)


@many
@given(snapshots)
def test_one_pass_starts_all_that_it_would_start(snapshot: Snapshot) -> None:
    """Alone, what a second look would start at once has started in the first."""
    alone = replace(snapshot, neighbours=())
    assert decide(after(alone, decide(alone))).starts == ()


@many
@given(snapshots)
def test_what_can_never_start_changes_nothing(snapshot: Snapshot) -> None:
    """Neither of mine nor of others, however long it has waited."""
    able = [want for want in snapshot.wants if ineligible(want.shape, snapshot.site) is None]
    wide = Want("0", 99, 0, 0, priority=9, waited_s=9999.0, gpus=9)
    zoe = Neighbour("zoe", wide, 3)
    # That zoe is there may change what is due to others, but not whose turn it is.
    without = replace(snapshot, wants=tuple(able), active=frozenset({"ann", "zoe"}))
    more = replace(without, wants=(wide, *snapshot.wants), neighbours=(zoe, *snapshot.neighbours))
    assert decide(more).starts == decide(without).starts
    assert decide(more).requeues == decide(without).requeues


@settings(max_examples=60, deadline=None)
@given(snapshots)
def test_jobs_of_full_groups_change_nothing_for_anybody(snapshot: Snapshot) -> None:
    """Neither who starts, nor who gives way, nor what neighbours are told; however long they waited."""
    full = {group for group, limit in snapshot.groups.items() if not limit.left}
    able = tuple(want for want in snapshot.wants if not full.intersection(want.groups))
    first = tuple(
        Want(f"0{place}", 1, 0, 0, priority=9, waited_s=9999.0, groups=(group,))
        for place, group in enumerate(sorted(full))
    )
    # That something waits may change what is due to others, but not whose turn it is.
    without = replace(snapshot, wants=able, active=frozenset({"ann"}))
    more = replace(without, wants=(*first, *snapshot.wants))
    one, two = decide(without), decide(more)
    assert (one.starts, one.requeues, one.heads(), one.ahead) == (
        two.starts,
        two.requeues,
        two.heads(),
        two.ahead,
    )
    for want in first:
        assert isinstance(two.why(want.id), GroupFull | Limited | WorkerFull | Draining | Never)


@many
@given(snapshots, st.randoms(use_true_random=False))
def test_the_order_in_which_facts_come_does_not_matter(snapshot: Snapshot, shuffler: random.Random) -> None:
    def mixed(of: tuple[T, ...]) -> tuple[T, ...]:
        return tuple(shuffler.sample(of, len(of)))

    other = replace(
        snapshot,
        wants=mixed(snapshot.wants),
        neighbours=mixed(snapshot.neighbours),
        holdings=mixed(snapshot.holdings),
    )
    one, two = decide(snapshot), decide(other)
    assert (one.starts, one.on_threads, one.verdicts()) == (two.starts, two.on_threads, two.verdicts())
    assert one.requeues == two.requeues


@many
@given(snapshots)
def test_what_scavenges_takes_nobodys_place(snapshot: Snapshot) -> None:
    """Before anything of mine scavenges, no job of a neighbour is left that would fit in its place."""
    decision = decide(snapshot)
    scavenging = [want for want in started(snapshot, decision) if want.scavenge]
    if not scavenging:
        return
    assert all(not decision.why(want.id).text.startswith("waits: node1 is kept") for want in snapshot.wants)
    for neighbour in snapshot.neighbours:
        head = neighbour.head
        if head is None or head.scavenge or not neighbour.count or len(snapshot.neighbours) > 1:
            continue
        theirs = replace(
            snapshot,
            me=neighbour.user,
            wants=(head,),
            neighbours=(),
            cores_limit=neighbour.cores_left,
            cores_running=0,
            jobs_limit=neighbour.jobs_left,
            jobs_running=0,
            threads=0,
        )
        if decide(theirs).starts:
            new = [
                as_holding(snapshot, want, want.id in decision.on_threads)
                for want in started(snapshot, decision)
            ]
            assert decide(replace(theirs, holdings=(*snapshot.holdings, *new))).starts


@many
@given(snapshots)
def test_only_my_own_jobs_here_that_may_be_run_again_give_way(snapshot: Snapshot) -> None:
    requeues = decide(snapshot).requeues
    assert not requeues or snapshot.may_requeue
    assert len({job_id for job_id, _ in requeues}) == len(requeues)
    for job_id, says in requeues:
        (held,) = (held for held in snapshot.holdings if (held.user, held.id) == ("ann", job_id))
        assert held.restartable or held.scavenge
        assert not held.leaving
        assert says.startswith("gives way to ")
        assert says.isprintable()


@many
@given(snapshots)
def test_an_estimate_is_a_time_or_nothing(snapshot: Snapshot) -> None:
    decision = decide(snapshot)
    for want in snapshot.wants:
        in_s = decision.estimate(want.id)
        assert in_s is None or in_s >= 0
        assert not decision.why(want.id).starts or in_s == 0


def test_stays_are_what_holdings_take() -> None:
    held = Holding("ann", "1", 4, 3, exclusive=True, gpus=1, left_s=5.0, memory=8)
    stay = stay_of(held)
    assert (stay.need.cores, stay.need.memory, stay.need.gpus, stay.left_s, stay.used) == (0, 3, 1, 5.0, 5)
