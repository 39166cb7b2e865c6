"""Promises about who goes next, each with the sentence that people read."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roundq.words.groups import GroupLimit
from roundq.words.policy import (
    Decision,
    Holding,
    Neighbour,
    Offer,
    Shape,
    Snapshot,
    Verdict,
    Want,
    decide,
    in_order,
    ineligible,
    keepers,
)
from roundq.words.quantities import GIB
from roundq.words.room import Site

NODE = Snapshot("node1", "ann", 8, 32 * GIB, 32 * GIB)
LONG = 14 * 60.0


def want(
    job_id: str, cores: int = 1, memory: int = 0, at: int = 100, waited: float = 0.0, **more: Any
) -> Want:
    return Want(job_id, cores, memory, at, waited_s=waited, **more)


def bob(cores: int = 1, count: int = 1, **more: Any) -> Neighbour:
    return Neighbour("bob", want("17", cores, **more), count)


def used(cores: int, user: str = "cyd", job_id: str = "9", **more: Any) -> Holding:
    return Holding(user, job_id, cores, **more)


def decided(snapshot: Snapshot) -> Decision:
    """The decision, after the check that decision and sentences are one."""
    decision = decide(snapshot)
    for each in snapshot.wants:
        assert decision.reason(each.id).startswith("starts: ") == (each.id in decision.starts)
        assert not decision.reason(each.id).endswith(".")
    return decision


def reasons(snapshot: Snapshot) -> dict[str, str]:
    decision = decided(snapshot)
    return {each.id: decision.reason(each.id) for each in snapshot.wants}


# ---------------------------------------------------------------- eligibility


def test_a_job_that_is_too_wide_can_never_start_and_blocks_nobody() -> None:
    snapshot = replace(NODE, wants=(want("1", 12, waited=9999), want("2", 1)))
    assert reasons(snapshot) == {
        "1": "can never start here: needs 12 cores, node1 has 8",
        "2": "starts: needs 1 core, 8 of 8 free",
    }


def test_a_job_that_needs_more_memory_than_there_is_can_never_start() -> None:
    snapshot = replace(NODE, wants=(want("1", 1, 64 * GIB), want("2", 1, 32 * GIB + 1)))
    assert reasons(snapshot) == {
        "1": "can never start here: needs 64G of memory, node1 has 32G",
        "2": "can never start here: needs 32G of memory, node1 has just under 32G",
    }


def test_a_node_that_offers_no_cores_starts_nothing() -> None:
    snapshot = replace(NODE, cores=0, wants=(want("1"), want("2", 0)))
    assert set(reasons(snapshot).values()) == {"can never start here: node1 offers no cores"}


def test_eligibility_is_one_predicate_for_all() -> None:
    assert ineligible(Shape(8, 32 * GIB), Site("node1", 8, 32 * GIB)) is None
    assert ineligible(Shape(0, 0), Site("node1", 8, 0)) is None
    assert ineligible(Shape(9, 0), Site("node1", 8, 0)) == "can never start here: needs 9 cores, node1 has 8"


# ---------------------------------------------------------------- room


def test_one_pass_starts_everything_that_may_start() -> None:
    snapshot = replace(NODE, holdings=(used(3),), wants=tuple(want(str(i), 2) for i in range(1, 5)))
    assert decided(snapshot).starts == ("1", "2")
    assert reasons(snapshot) == {
        "1": "starts: needs 2 cores, 5 of 8 free",
        "2": "starts: needs 2 cores, 3 of 8 free",
        "3": "waits: needs 2 cores, 1 of 8 free",
        "4": "waits: behind job 3, which needs 2 cores, 1 of 8 free",
    }


def test_memory_that_is_promised_but_not_yet_used_is_not_there() -> None:
    snapshot = replace(
        NODE,
        memory_available=10 * GIB,
        holdings=(used(1, memory_unused=4 * GIB),),
        wants=(want("1", 1, 4 * GIB), want("2", 1, 4 * GIB), want("3", 1, 0)),
    )
    assert reasons(snapshot) == {
        "1": "starts: needs 1 core, 7 of 8 free, and 4G of memory, 6G of 32G free",
        "2": "waits: needs 4G of memory, 2G of 32G free",
        "3": "starts: needs 1 core, 6 of 8 free",
    }


def test_a_job_that_asks_for_no_memory_starts_where_none_is_left() -> None:
    snapshot = replace(NODE, memory_available=0, holdings=(used(1, memory_unused=GIB),), wants=(want("1"),))
    assert decided(snapshot).starts == ("1",)


def test_all_that_a_node_lacks_is_said_at_once() -> None:
    snapshot = replace(NODE, memory_available=GIB, holdings=(used(5),), wants=(want("1", 4, 2 * GIB),))
    assert reasons(snapshot) == {"1": "waits: needs 4 cores, 3 of 8 free, and 2G of memory, 1G of 32G free"}


def test_a_little_too_little_memory_reads_so() -> None:
    snapshot = replace(NODE, memory_available=4 * GIB - 1, wants=(want("1", 1, 4 * GIB),))
    assert reasons(snapshot) == {"1": "waits: needs 4G of memory, just under 4G of 32G free"}


def test_a_node_that_others_overbooked_has_nothing_free_rather_than_less() -> None:
    snapshot = replace(NODE, holdings=(used(7), used(7)), wants=(want("1"),))
    assert reasons(snapshot) == {"1": "waits: needs 1 core, 0 of 8 free"}


# ---------------------------------------------------------------- all of a node


def test_all_means_a_node_alone() -> None:
    snapshot = replace(NODE, wants=(want("1", 0), want("2", 1), want("3", 0)))
    assert reasons(snapshot) == {
        "1": "starts: has node1 for itself",
        "2": "waits: node1 is taken whole by ann's job 1",
        "3": "waits: node1 is taken whole by ann's job 1",
    }


def test_all_waits_for_the_last_holding_to_end() -> None:
    snapshot = replace(NODE, holdings=(used(1),), wants=(want("1", 0),))
    assert reasons(snapshot) == {"1": "waits: needs node1 for itself, cyd's job 9 is there"}
    snapshot = replace(snapshot, holdings=(used(1), used(1, "bob", "3")), wants=(want("1", 0), want("2", 0)))
    assert reasons(snapshot) == {
        "1": "waits: needs node1 for itself, 2 jobs are there",
        "2": "waits: behind job 1, which needs node1 for itself, 2 jobs are there",
    }


@pytest.mark.parametrize("holding", [used(2, exclusive=True), used(0)], ids=["exclusive", "not resolved"])
def test_beside_a_job_of_all_cores_nothing_starts(holding: Holding) -> None:
    """Also one that has cores 0 on its card, because it was claimed but not begun."""
    snapshot = replace(NODE, holdings=(holding,), wants=(want("1"),))
    assert reasons(snapshot) == {"1": "waits: node1 is taken whole by cyd's job 9"}


def test_a_neighbours_turn_at_the_whole_node_leaves_me_nothing() -> None:
    snapshot = replace(NODE, running_cores={"ann": 3}, wants=(want("1"),), neighbours=(bob(0, count=2),))
    assert reasons(snapshot) == {"1": "waits: bob's turn (bob has 0 cores running, ann 3)"}


# ---------------------------------------------------------------- order of my own


def test_my_jobs_go_by_priority_then_submission_then_number() -> None:
    wants = [
        Want("9", 1, 0, 5, priority=1),
        Want("10", 1, 0, 2),
        Want("3_2", 1, 0, 3),
        Want("3_10", 1, 0, 3),
        Want("20", 1, 0, 3),
        Want("100.n1", 1, 0, 3),
        Want("backup", 1, 0, 3),
        Want("1", 1, 0, 4, priority=-1),
    ]
    shuffled = wants.copy()
    random.Random(1).shuffle(shuffled)
    assert in_order(shuffled) == wants
    snapshot = replace(NODE, wants=tuple(shuffled))
    assert decided(snapshot).starts == tuple(each.id for each in wants)


# ---------------------------------------------------------------- turns


def test_the_user_with_the_fewest_running_cores_goes_next() -> None:
    snapshot = replace(
        NODE,
        holdings=(used(7),),
        running_cores={"ann": 12, "bob": 3},
        wants=(want("1"),),
        neighbours=(bob(),),
    )
    assert reasons(snapshot) == {"1": "waits: bob's turn (bob has 3 cores running, ann 12)"}
    poorer = replace(snapshot, running_cores={"ann": 2, "bob": 3})
    assert reasons(poorer) == {"1": "starts: needs 1 core, 1 of 8 free"}


def test_ties_go_to_the_earlier_submission_then_to_the_name() -> None:
    snapshot = replace(NODE, holdings=(used(7),), wants=(want("1", at=50),), neighbours=(bob(at=60),))
    assert decided(snapshot).starts == ("1",)
    later = replace(snapshot, wants=(want("1", at=70),))
    assert reasons(later) == {
        "1": "waits: bob's turn (bob and ann have 0 cores running each, bob's job 17 goes first)"
    }
    same = replace(snapshot, wants=(want("1", at=60),))
    assert decided(same).starts == ("1",)
    assert decided(replace(same, neighbours=(replace(bob(at=60), user="abe"),))).starts == ()


def test_what_remains_beside_a_neighbours_turn_is_mine() -> None:
    snapshot = replace(
        NODE, running_cores={"ann": 12}, wants=(want("1", 4), want("2", 4)), neighbours=(bob(3),)
    )
    assert reasons(snapshot) == {
        "1": "starts: needs 4 cores, 8 of 8 free",
        "2": "waits: bob's turn (bob has 0 cores running, ann 16)",
    }


def test_the_jobs_of_a_neighbour_that_are_not_known_are_taken_to_look_like_its_head() -> None:
    snapshot = replace(
        NODE,
        running_cores={"ann": 4},
        wants=tuple(map(want, "123456")),
        neighbours=(bob(2, count=99, at=200),),
    )
    # Bob has 2, then 4; ann, who was earlier, has 5; bob 6; ann 6 and nothing is left but for her.
    assert decided(snapshot).starts == ("1", "2")
    assert decided(snapshot).reason("3") == "waits: bob's turn (bob has 0 cores running, ann 6)"


def test_the_turns_alternate_between_equals() -> None:
    wants = tuple(want(str(i), at=i) for i in range(1, 20))
    snapshot = replace(NODE, wants=wants, neighbours=(bob(1, count=99, at=2),))
    assert decided(snapshot).starts == ("1", "2", "3", "4")


def test_a_neighbour_is_planned_with_no_more_jobs_than_wait() -> None:
    snapshot = replace(
        NODE, running_cores={"ann": 99}, wants=tuple(map(want, "123456789")), neighbours=(bob(1, count=2),)
    )
    assert len(decided(snapshot).starts) == 6


def test_a_neighbour_that_cannot_start_its_head_now_is_passed_by() -> None:
    snapshot = replace(
        NODE, holdings=(used(5),), running_cores={"ann": 12}, wants=(want("1"),), neighbours=(bob(4),)
    )
    assert decided(snapshot).starts == ("1",)


def test_a_neighbour_whose_head_waits_may_still_start_another_shape() -> None:
    neighbour = replace(bob(4), others=(want("18", 3),), count=2)
    snapshot = replace(
        NODE, holdings=(used(5),), running_cores={"ann": 12}, wants=(want("1"),), neighbours=(neighbour,)
    )
    assert reasons(snapshot) == {"1": "waits: bob's turn (bob has 0 cores running, ann 12)"}


def test_a_neighbour_is_planned_with_one_job_of_either_shape_if_one_waits() -> None:
    neighbour = replace(bob(4), others=(want("18", 3),))
    snapshot = replace(NODE, running_cores={"ann": 99}, wants=(want("1", 4),), neighbours=(neighbour,))
    assert decided(snapshot).starts == ("1",)


@pytest.mark.parametrize(
    "neighbour",
    [
        Neighbour("bob", None),
        bob(9),
        bob(9, waited=LONG),
        bob(1, memory=64 * GIB),
        bob(1, count=0),
        replace(bob(9), others=(want("18", 12),), count=5),
        Neighbour("ann", want("3", at=1)),
    ],
    ids=[
        "nothing",
        "too wide",
        "too wide for long",
        "too much memory",
        "none waits",
        "all too wide",
        "myself",
    ],
)
def test_nobody_waits_for_a_user_who_cannot_start_here(neighbour: Neighbour) -> None:
    snapshot = replace(
        NODE, holdings=(used(7),), running_cores={"ann": 99}, wants=(want("1"),), neighbours=(neighbour,)
    )
    assert decided(snapshot).starts == ("1",)


# ---------------------------------------------------------------- patience


def test_a_smaller_job_passes_one_that_does_not_fit() -> None:
    snapshot = replace(NODE, holdings=(used(4),), wants=(want("1", 8, waited=600), want("2", 1)))
    assert reasons(snapshot) == {
        "1": "waits: needs 8 cores, 3 of 8 free",
        "2": "starts: needs 1 core, 4 of 8 free",
    }


def test_after_the_patience_my_smaller_jobs_no_longer_pass() -> None:
    snapshot = replace(NODE, holdings=(used(4),), wants=(want("1", 8, waited=LONG), want("2", 1, at=200)))
    assert reasons(snapshot) == {
        "1": "waits: needs 8 cores, 4 of 8 free; node1 is kept for it",
        "2": "waits: node1 is kept for ann's job 1, which needs 8 cores and has waited 14 min",
    }


def test_a_node_is_kept_for_a_neighbours_job_that_has_waited_long() -> None:
    snapshot = replace(
        NODE,
        holdings=(used(4),),
        running_cores={"ann": 2},
        wants=(want("1"),),
        neighbours=(bob(8, waited=LONG),),
    )
    assert reasons(snapshot) == {
        "1": "waits: node1 is kept for bob's job 17, which needs 8 cores and has waited 14 min"
    }


def test_who_has_less_than_half_of_the_due_has_the_node_kept_at_once() -> None:
    """Of 32 cores 16 are due to each of two."""
    snapshot = replace(
        NODE,
        holdings=(used(4),),
        running_cores={"ann": 9, "bob": 7},
        wants=(want("1"),),
        neighbours=(bob(8, waited=0),),
        cluster_cores=32,
        active=frozenset({"ann", "bob"}),
    )
    assert reasons(snapshot)["1"].startswith("waits: node1 is kept for bob's job 17, which needs 8 cores")
    assert decided(replace(snapshot, running_cores={"ann": 9, "bob": 8})).starts == ("1",)
    # Not before it is his turn, and not on every node.
    assert decided(replace(snapshot, running_cores={"ann": 6, "bob": 7})).starts == ("1",)
    elsewhere = replace(want("17", 8), kept_on=("node2",))
    assert decided(replace(snapshot, neighbours=(Neighbour("bob", elsewhere),))).starts == ("1",)


def test_who_is_alone_passes_his_own_job_until_the_patience_is_over() -> None:
    """There is nobody to have less than."""
    snapshot = replace(NODE, holdings=(used(4),), wants=(want("1", 8), want("2", 1)), cluster_cores=32)
    assert decided(snapshot).starts == ("2",)


def test_a_node_is_kept_only_when_it_is_the_owners_turn() -> None:
    snapshot = replace(
        NODE,
        holdings=(used(4),),
        running_cores={"bob": 1},
        wants=(want("1"), want("2", at=200)),
        neighbours=(bob(0, waited=LONG),),
    )
    assert reasons(snapshot) == {
        "1": "starts: needs 1 core, 4 of 8 free",
        "2": "waits: node1 is kept for bob's job 17, which needs it whole and has waited 14 min",
    }


def test_a_node_is_kept_for_a_job_only_where_it_was_chosen_for_it() -> None:
    elsewhere = replace(want("17", 8, waited=LONG), kept_on=("node2", "node3"))
    snapshot = replace(
        NODE, holdings=(used(4),), wants=(want("1", at=200),), neighbours=(Neighbour("bob", elsewhere),)
    )
    assert decided(snapshot).starts == ("1",)
    here = Neighbour("bob", replace(elsewhere, kept_on=("node3", "node1")))
    assert decided(replace(snapshot, neighbours=(here,))).starts == ()


def test_a_node_is_not_kept_when_no_end_of_a_job_could_make_room() -> None:
    """Memory that is used by something else than jobs: waiting would not bring it back."""
    snapshot = replace(
        NODE, memory_available=GIB, wants=(want("1", 1, 8 * GIB, waited=LONG), want("2", at=200))
    )
    assert reasons(snapshot) == {
        "1": "waits: needs 8G of memory, 1G of 32G free",
        "2": "starts: needs 1 core, 8 of 8 free",
    }


def test_a_node_is_not_kept_for_more_memory_than_the_ends_of_jobs_can_give_back() -> None:
    """Less than the node has is there even when it is idle; what all jobs use now is the most that comes."""
    node = replace(
        NODE, memory_total=64 * GIB, memory_available=58 * GIB, wants=(want("1", 4, 4 * GIB, 200),)
    )
    wide = bob(1, memory=63 * GIB, waited=LONG)
    starts = replace(node, holdings=(used(1, resident=2 * GIB),), neighbours=(wide,))
    assert decided(starts).starts == ("1",)
    # Jobs may use much that nobody promised them, as much as that, or nobody knows how much.
    for there in (
        (used(1, resident=5 * GIB),),
        (used(1, resident=None),),
        (used(1, memory=8 * GIB, memory_unused=5 * GIB), used(1, job_id="8", resident=2 * GIB)),
    ):
        kept = decided(replace(starts, holdings=there))
        assert kept.reason("1").startswith("waits: node1 is kept for bob's job 17, which needs 1 core")


def test_a_neighbours_second_job_is_only_assumed_and_keeps_no_node() -> None:
    snapshot = replace(
        NODE, running_cores={"ann": 99}, wants=(want("1"),), neighbours=(bob(5, count=2, waited=LONG),)
    )
    assert decided(snapshot).starts == ("1",)


def test_the_node_to_keep_is_the_one_with_most_free_cores_that_suits() -> None:
    offers = [Offer("a", 8, 3, GIB), Offer("b", 8, 5, GIB), Offer("c", 4, 4, GIB), Offer("d", 16, 5, 0)]
    assert keepers(Shape(6, 1), offers) == ("b",)
    assert keepers(Shape(6, 0), offers) == ("b",)
    assert keepers(Shape(3, 0), offers) == ("b",)
    assert keepers(Shape(0, 0), offers) == ("c",)
    assert keepers(Shape(12, 0), offers) == ("d",)
    assert keepers(Shape(20, 0), offers) == ()


# ---------------------------------------------------------------- draining


def test_a_draining_node_starts_nothing_and_says_why() -> None:
    snapshot = replace(NODE, draining="disk\nfull", wants=(want("1"), want("2"), want("3", 12)))
    assert reasons(snapshot) == {
        "1": r"waits: node1 is draining (disk\nfull)",
        "2": r"waits: node1 is draining (disk\nfull)",
        "3": "can never start here: needs 12 cores, node1 has 8",
    }
    assert reasons(replace(NODE, draining="", wants=(want("1"),))) == {"1": "waits: node1 is draining"}


# ---------------------------------------------------------------- what a decision tells


def test_a_card_carries_one_verdict_for_each_shape() -> None:
    snapshot = replace(
        NODE,
        holdings=(used(5),),
        wants=(want("1", 2), want("2", 2), want("3", 12), want("4", 1, priority=-1)),
    )
    decision = decided(snapshot)
    assert decision.starts == ("1", "4")
    assert decision.verdicts() == (
        Verdict(Shape(2, 0, 0), "waits: needs 2 cores, 0 of 8 free"),
        Verdict(Shape(12, 0, 0), "can never start here: needs 12 cores, node1 has 8"),
        Verdict(Shape(1, 0, -1), "starts: needs 1 core, 1 of 8 free"),
    )
    assert [head.id for head in decision.heads()] == ["2"]
    assert decision.count == 1


def test_no_jobs_is_no_decision() -> None:
    decision = decided(replace(NODE, neighbours=(bob(),)))
    assert (decision.starts, decision.verdicts(), decision.heads(), decision.count) == ((), (), (), 0)
    with pytest.raises(KeyError):
        decision.reason("1")


def test_what_strangers_are_called_cannot_paint_the_terminal() -> None:
    painter = Neighbour("b\x1b[31m", want("\x1b]0;", 8, waited=LONG))
    snapshot = replace(NODE, holdings=(used(4),), wants=(want("1", at=200),), neighbours=(painter,))
    assert decided(snapshot).reason("1").isprintable()


@pytest.mark.parametrize("full", [True, False])
def test_ten_thousand_jobs_are_decided_in_a_moment(full: bool) -> None:
    """About 5 ms here; the bound is generous since machines differ, and it catches any N²."""
    random_ = random.Random(1)
    wants = [Want(f"7_{i}", random_.choice([1, 2, 4]), 0, 100) for i in range(10_000)]
    random_.shuffle(wants)
    snapshot = replace(NODE, holdings=(used(8 if full else 1),), wants=tuple(wants))
    best = min(timed(snapshot) for _ in range(3))
    assert best < 0.1


def timed(snapshot: Snapshot) -> float:
    # Of the processor: what else runs on this machine does not count.
    start = time.process_time()
    decide(snapshot).verdicts()
    return time.process_time() - start


# ---------------------------------------------------------------- properties

T = TypeVar("T")
USERS = ("bob", "cyd", "dan")
cores_ = st.integers(0, 10)
memories = st.integers(0, 12)
some_want = st.builds(
    Want,
    id=st.integers(1, 99).map(str),
    cores=cores_,
    memory=memories,
    submitted_ns=st.integers(0, 5),
    priority=st.integers(-1, 1),
    waited_s=st.sampled_from([0.0, 601.0]),
    kept_on=st.sampled_from([None, None, ("node1",), ("node2",)]),
)
some_holding = st.builds(
    Holding,
    user=st.sampled_from(("ann", *USERS)),
    id=st.integers(100, 199).map(str),
    cores=st.integers(0, 4),
    memory_unused=st.integers(0, 3),
    exclusive=st.sampled_from([False, False, False, True]),
)
some_neighbours = st.lists(
    st.builds(
        Neighbour,
        user=st.sampled_from(USERS),
        head=st.none() | some_want,
        count=st.integers(0, 5),
        others=st.lists(some_want, max_size=2).map(tuple),
    ),
    max_size=3,
    unique_by=lambda neighbour: neighbour.user,
)
snapshots = st.builds(
    Snapshot,
    node=st.just("node1"),
    me=st.just("ann"),
    cores=st.integers(0, 8),
    memory_total=st.just(10),
    memory_available=st.integers(0, 10),
    draining=st.sampled_from([None, None, None, "upgrade"]),
    holdings=st.lists(some_holding, max_size=3).map(tuple),
    running_cores=st.dictionaries(st.sampled_from(("ann", *USERS)), st.integers(0, 9)),
    wants=st.lists(some_want, max_size=8, unique_by=lambda each: each.id).map(tuple),
    neighbours=some_neighbours.map(tuple),
)
many = settings(max_examples=200, deadline=None)


def started(snapshot: Snapshot, decision: Decision) -> list[Want]:
    wants = {each.id: each for each in snapshot.wants}
    return [wants[job_id] for job_id in decision.starts]


@many
@given(snapshots)
def test_a_node_is_never_overbooked(snapshot: Snapshot) -> None:
    mine = started(snapshot, decided(snapshot))
    if not mine:
        return
    there = sum(holding.cores for holding in snapshot.holdings)
    assert there + sum(each.cores for each in mine) <= snapshot.cores
    assert not any(holding.exclusive or not holding.cores for holding in snapshot.holdings)
    if any(not each.cores for each in mine):
        assert len(mine) == 1
        assert not snapshot.holdings
    if any(each.memory for each in mine):
        unused = sum(holding.memory_unused for holding in snapshot.holdings)
        assert sum(each.memory for each in mine) <= snapshot.memory_available - unused


@many
@given(snapshots)
def test_what_can_never_start_never_does_and_changes_nothing(snapshot: Snapshot) -> None:
    def able(each: Want) -> bool:
        return ineligible(each.shape, snapshot.site) is None

    decision = decided(snapshot)
    assert all(map(able, started(snapshot, decision)))
    without = replace(snapshot, wants=tuple(filter(able, snapshot.wants)))
    assert decided(without).starts == decision.starts


@many
@given(snapshots)
def test_a_neighbour_that_can_never_start_changes_nothing(snapshot: Snapshot) -> None:
    wide = Neighbour("zoe", Want("1", 11, 0, 0, waited_s=9999.0), 3, (Want("2", 1, 11, 0),))
    more = replace(snapshot, neighbours=(wide, *snapshot.neighbours), running_cores=snapshot.running_cores)
    plain, other = decided(snapshot), decided(more)
    assert (plain.starts, plain.verdicts()) == (other.starts, other.verdicts())


@many
@given(snapshots, st.randoms(use_true_random=False))
def test_the_order_of_what_is_passed_does_not_matter(snapshot: Snapshot, shuffler: random.Random) -> None:
    def mixed(of: tuple[T, ...]) -> tuple[T, ...]:
        return tuple(shuffler.sample(of, len(of)))

    other = replace(
        snapshot,
        wants=mixed(snapshot.wants),
        neighbours=mixed(snapshot.neighbours),
        holdings=mixed(snapshot.holdings),
    )
    assert decided(snapshot).starts == decided(other).starts
    assert decided(snapshot).verdicts() == decided(other).verdicts()


@many
@given(snapshots)
def test_a_poorer_users_head_that_fits_finds_its_room_after_my_starts(snapshot: Snapshot) -> None:
    """With one neighbour, so that nobody else may have taken it."""
    for neighbour in snapshot.neighbours:
        running = snapshot.running_cores
        poorer = running.get(neighbour.user, 0) < running.get("ann", 0)
        if not poorer or not neighbour.count or neighbour.head is None:
            continue
        us_two = replace(snapshot, neighbours=(neighbour,))
        mine = started(us_two, decided(us_two))
        theirs = replace(snapshot, me=neighbour.user, wants=(neighbour.head,), neighbours=())
        if decide(theirs).starts:
            there = tuple(Holding("ann", each.id, each.cores, each.memory, not each.cores) for each in mine)
            assert decide(replace(theirs, holdings=(*snapshot.holdings, *there))).starts


@many
@given(snapshots)
def test_alone_on_a_node_everything_that_fits_starts(snapshot: Snapshot) -> None:
    """Nothing is held back without a neighbour or a patient job: no core is wasted."""
    calm = replace(
        snapshot,
        draining=None,
        neighbours=(),
        wants=tuple(replace(each, waited_s=0.0) for each in snapshot.wants),
    )
    decision = decided(calm)
    there = tuple(
        Holding("ann", each.id, each.cores, each.memory, not each.cores) for each in started(calm, decision)
    )
    rest = tuple(each for each in calm.wants if each.id not in decision.starts)
    assert decided(replace(calm, holdings=(*calm.holdings, *there), wants=rest)).starts == ()


@many
@given(snapshots)
def test_a_turn_is_told_with_numbers_that_bear_it_out(snapshot: Snapshot) -> None:
    decision = decided(snapshot)
    for verdict in decision.verdicts():
        if "'s turn (" in verdict.says and " running, ann " in verdict.says:
            theirs, mine = verdict.says.split(" has ")[1].split(" running, ann ")
            assert int(theirs.split()[0]) < int(mine.rstrip(")"))


# ---------------------------------------------------------------- workers


def test_a_worker_fills_its_cores_and_no_more() -> None:
    """What of mine is there counts; a job for which there is never enough keeps no other waiting."""
    snapshot = replace(
        NODE,
        here_limit=3,
        here_cores=1,
        holdings=(used(1, user="ann"),),
        wants=(want("1", 4, waited=9999), want("2", 0), want("3", 1), want("4", 2)),
    )
    assert reasons(snapshot) == {
        "1": "can never start here: needs 4 cores, the worker on node1 fills 3 cores",
        "2": "can never start here: needs a whole node, the worker on node1 fills 3 cores",
        "3": "starts: needs 1 core, 7 of 8 free",
        "4": "waits: needs 2 cores, the worker on node1 fills 3 cores, 1 free",
    }
    full = reasons(replace(snapshot, here_cores=3))
    assert full["3"] == "waits: needs 1 core, the worker on node1 fills 3 cores, none free"


def test_a_worker_of_all_cores_starts_what_needs_a_whole_node() -> None:
    assert decided(replace(NODE, here_limit=8, wants=(want("1", 0),))).starts == ("1",)


def test_what_only_waits_for_room_or_a_turn_could_start() -> None:
    """A worker waits for that; for what is too wide, or of a set of which none may run, it does not."""
    small, wide, barred = want("1"), want("2", 12), want("3", groups=("%fit",))
    snapshot = replace(
        NODE,
        holdings=(used(8),),
        wants=(small, wide, barred),
        groups={"%fit": GroupLimit(0, 0)},
    )
    decision = decided(snapshot)
    assert decision.starts == ()
    assert [decision.could_start(one.shape) for one in (small, wide, barred)] == [True, False, False]
    for limited in (replace(snapshot, cores_limit=0), replace(snapshot, jobs_limit=0)):
        assert not decided(limited).could_start(small.shape)
