"""Promises about the check after a claim: in every order of events, a node is never overbooked.

The exhaustive part is a small model of what daemons do with their cards: publish a
claim, read the cards of the others one after the other, act on what `settle` says.
Every interleaving of these steps is walked through.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roundq.words.claims import Bounds, Claim, Ruling, settle
from roundq.words.quantities import GIB

KEEP, MOVE, WITHDRAW, UNDECIDED = Ruling.KEEP, Ruling.MOVE, Ruling.WITHDRAW, Ruling.UNDECIDED

MINE = Claim("ann", 4, stamp_ns=10)


@pytest.mark.parametrize(
    ("others", "ruling", "says"),
    [
        ([], KEEP, "keeps: needs 4 cores, 8 of 8 cores free"),
        ([Claim("bob", 4, stamp_ns=5)], KEEP, "keeps: needs 4 cores, 4 of 8 cores free"),
        ([Claim("bob", 5, stamp_ns=5)], WITHDRAW, "withdraws: needs 4 cores, 3 of 8 cores free"),
        (
            [Claim("bob", 5, stamp_ns=15, settled=True)],
            WITHDRAW,
            "withdraws: needs 4 cores, 3 of 8 cores free",
        ),
        ([Claim("bob", 4, stamp_ns=15)], KEEP, "keeps: needs 4 cores, 8 of 8 cores free"),
        (
            [Claim("bob", 5, stamp_ns=15)],
            UNDECIDED,
            "looks again: needs 4 cores, 3 of 8 cores free beside later claims",
        ),
        ([Claim("aaa", 5, stamp_ns=10)], WITHDRAW, "withdraws: needs 4 cores, 3 of 8 cores free"),
        (
            [Claim("zoe", 5, stamp_ns=10)],
            UNDECIDED,
            "looks again: needs 4 cores, 3 of 8 cores free beside later claims",
        ),
        (
            [Claim("bob", 2, exclusive=True, stamp_ns=5)],
            WITHDRAW,
            "withdraws: needs 4 cores, 0 of 8 cores free",
        ),
        ([Claim("bob", 0, stamp_ns=5)], WITHDRAW, "withdraws: needs 4 cores, 0 of 8 cores free"),
        # Three that overbook the node already, by somebody's older rules: no underflow.
        ([Claim("bob", 5, settled=True)] * 3, WITHDRAW, "withdraws: needs 4 cores, 0 of 8 cores free"),
    ],
)
def test_the_earlier_claim_stays_and_the_later_one_yields(
    others: list[Claim], ruling: Ruling, says: str
) -> None:
    assert settle(MINE, others, 8, 0) == (ruling, says)


def test_a_claim_of_the_whole_node_stays_only_alone() -> None:
    whole = Claim("ann", 8, exclusive=True, stamp_ns=10)
    assert settle(whole, [], 8, 0) == (KEEP, "keeps: needs the node for itself, 8 of 8 cores free")
    assert settle(whole, [Claim("bob", 1, settled=True)], 8, 0).ruling is WITHDRAW
    assert settle(whole, [Claim("bob", 1, stamp_ns=20)], 8, 0).ruling is UNDECIDED


def test_memory_is_promised_once() -> None:
    mine = Claim("ann", 1, 3 * GIB, stamp_ns=10)
    earlier = Claim("bob", 1, 6 * GIB, stamp_ns=5)
    assert settle(mine, [earlier], 8, 8 * GIB) == (
        WITHDRAW,
        "withdraws: needs 1 core and 3G, 7 of 8 cores and 2G free",
    )
    assert settle(Claim("ann", 1, 2 * GIB, stamp_ns=10), [earlier], 8, 8 * GIB).ruling is KEEP
    assert settle(Claim("ann", 1, 0, stamp_ns=10), [earlier], 8, 0).ruling is KEEP


# ---------------------------------------------------------------- ids, threads, licenses, limits


NONE = Bounds()
GPUS = Bounds(gpus=frozenset({"g0", "g1"}))


def test_a_claim_whose_cpus_are_anothers_moves_if_there_is_room() -> None:
    mine = Claim("ann", 2, stamp_ns=10, cpus=(2, 3))
    earlier = Claim("bob", 2, stamp_ns=5, cpus=(3, 4))
    assert settle(mine, [earlier], 8, 0) == (MOVE, "moves: CPU 3 is another's")
    assert settle(mine, [replace(earlier, stamp_ns=15, settled=True)], 8, 0).ruling is MOVE
    assert settle(mine, [replace(earlier, cpus=(4, 5))], 8, 0).ruling is KEEP
    # The later one is to move.
    later = settle(mine, [replace(earlier, stamp_ns=15)], 8, 0)
    assert later == (UNDECIDED, "looks again: CPU 3 is another's beside later claims")
    # Moving would not help.
    assert settle(mine, [replace(earlier, cores=7)], 8, 0).ruling is WITHDRAW
    assert settle(mine, [replace(earlier, node="node2")], 8, 0).ruling is KEEP


def test_a_claim_whose_gpus_are_anothers_moves_if_there_are_others() -> None:
    mine = Claim("ann", 1, stamp_ns=10, gpus=("g0",))
    earlier = Claim("bob", 1, stamp_ns=5, gpus=("g0",))
    assert settle(mine, [], 8, 0, GPUS) == (
        KEEP,
        "keeps: needs 1 core and 1 GPU, 8 of 8 cores and 2 GPUs free",
    )
    assert settle(mine, [earlier], 8, 0, GPUS) == (MOVE, "moves: GPU g0 is another's")
    both = replace(earlier, gpus=("g0", "g1"))
    assert settle(mine, [both], 8, 0, GPUS) == (
        WITHDRAW,
        "withdraws: needs 1 core and 1 GPU, 7 of 8 cores and 0 GPUs free",
    )
    # A stranger uses it since.
    assert settle(mine, [], 8, 0, Bounds(gpus=frozenset({"g1"}))).ruling is MOVE


def test_a_claim_on_spare_threads_takes_no_cores() -> None:
    mine = Claim("ann", 2, stamp_ns=10, threads=True)
    full = Claim("bob", 8, settled=True)
    assert settle(mine, [full], 8, 0, Bounds(threads=2)) == (
        KEEP,
        "keeps: needs 2 cores of spare threads, 2 threads free",
    )
    assert settle(mine, [full], 8, 0, Bounds(threads=1)).ruling is WITHDRAW
    assert settle(Claim("bob", 8, stamp_ns=20), [replace(mine, settled=True)], 8, 0).ruling is KEEP


def test_licenses_of_the_cluster_count_on_all_nodes_and_those_of_a_node_there() -> None:
    mine = Claim("ann", 1, stamp_ns=10, licenses=(("matlab", 1),))
    elsewhere = Claim("bob", 9, stamp_ns=5, node="node2", licenses=(("matlab", 2),))
    assert settle(mine, [elsewhere], 8, 0, Bounds(pool={"matlab": 3})).ruling is KEEP
    assert settle(mine, [elsewhere], 8, 0, Bounds(pool={"matlab": 2})) == (
        WITHDRAW,
        "withdraws: needs 1 core and 1 license of matlab, 8 of 8 cores and 0 free",
    )
    later = replace(elsewhere, stamp_ns=15)
    assert settle(mine, [later], 8, 0, Bounds(pool={"matlab": 2})).ruling is UNDECIDED
    assert settle(mine, [elsewhere], 8, 0, Bounds(licenses={"matlab": 1})).ruling is KEEP
    assert (
        settle(mine, [replace(elsewhere, node="")], 8, 0, Bounds(licenses={"matlab": 2})).ruling is WITHDRAW
    )


def test_my_limits_count_all_my_claims_in_the_cluster_and_nobody_elses() -> None:
    mine = Claim("ann", 2, stamp_ns=10, id="2")
    there = Claim("ann", 3, stamp_ns=5, id="1", node="node2")
    assert settle(mine, [there], 8, 0, Bounds(cores_limit=5, jobs_limit=2)).ruling is KEEP
    assert settle(mine, [there], 8, 0, Bounds(cores_limit=4)) == (
        WITHDRAW,
        "withdraws: 5 cores with this one, the limit is 4",
    )
    assert (
        settle(mine, [there], 8, 0, Bounds(jobs_limit=1)).says
        == "withdraws: 2 jobs with this one, the limit is 1"
    )
    assert (
        settle(mine, [replace(there, user="bob")], 8, 0, Bounds(cores_limit=2, jobs_limit=1)).ruling is KEEP
    )
    assert settle(mine, [replace(there, stamp_ns=15)], 8, 0, Bounds(cores_limit=4)).ruling is UNDECIDED


def test_the_limit_of_a_group_counts_its_jobs_in_the_cluster_and_no_others() -> None:
    mine = Claim("ann", 2, stamp_ns=10, id="2", groups=("%fit", "17"))
    there = Claim("ann", 3, stamp_ns=5, id="1", node="node2", groups=("%fit",))
    assert settle(mine, [there], 8, 0, Bounds(groups={"%fit": 2, "17": 1})).ruling is KEEP
    assert settle(mine, [there], 8, 0, Bounds(groups={"%fit": 1})) == (
        WITHDRAW,
        "withdraws: 2 jobs of set fit with this one, the limit is 1",
    )
    array = replace(there, groups=("17",))
    assert settle(mine, [array], 8, 0, Bounds(groups={"%fit": 1})).ruling is KEEP
    assert settle(mine, [array], 8, 0, Bounds(groups={"17": 1})) == (
        WITHDRAW,
        "withdraws: 2 jobs of array 17 with this one, the limit is 1",
    )
    # A set of somebody else is another set, and what is in none keeps to no such limit.
    assert settle(mine, [replace(there, user="bob")], 8, 0, Bounds(groups={"%fit": 1})).ruling is KEEP
    assert settle(replace(mine, groups=()), [there], 8, 0, Bounds(groups={"%fit": 0})).ruling is KEEP
    assert settle(mine, [replace(there, stamp_ns=15)], 8, 0, Bounds(groups={"%fit": 1})).ruling is UNDECIDED


def test_after_a_limit_was_lowered_what_was_kept_before_stays_and_nothing_is_added() -> None:
    before = [Claim("ann", 1, id=str(place), node="node2", settled=True, groups=("17",)) for place in "345"]
    mine = Claim("ann", 1, stamp_ns=10, id="2", groups=("17",))
    assert settle(mine, before, 8, 0, Bounds(groups={"17": 4})).ruling is KEEP
    assert settle(mine, before, 8, 0, Bounds(groups={"17": 1})).ruling is WITHDRAW


# ---------------------------------------------------------------- every interleaving

HIDDEN, LOOKING, DECIDED, SHOWN, GONE = "hidden", "looking", "decided", "shown", "gone"
TENTATIVE, FIRM = "tentative", "firm"


class Actor(NamedTuple):
    """One claimer: where it stands, its claim as published, and the cards that it read in this look so far.

    A card is whether the claim there is settled, with its ids as they were then.
    """

    phase: str
    claim: Claim
    seen: frozenset[tuple[int, str | None, Claim]] = frozenset()


State = tuple[Actor, ...]


@dataclass(frozen=True)
class World:
    """What there is, for a model."""

    cores: int = 8
    bounds: Bounds = NONE
    cpus: int = 0


def moved(claim: Claim, there: list[Claim], world: World) -> Claim | None:
    """The claim with the first ids that nobody has who was seen here."""
    here = [other for other in there if other.node == claim.node]
    cpus = [cpu for cpu in range(world.cpus) if not any(cpu in other.cpus for other in here)]
    gpus = [gpu for gpu in sorted(world.bounds.gpus) if not any(gpu in other.gpus for other in here)]
    if len(cpus) < len(claim.cpus) or len(gpus) < len(claim.gpus):
        return None
    return replace(claim, cpus=tuple(cpus[: len(claim.cpus)]), gpus=tuple(gpus[: len(claim.gpus)]))


def on_card(actor: Actor) -> str | None:
    return {LOOKING: TENTATIVE, DECIDED: TENTATIVE, SHOWN: FIRM}.get(actor.phase)


def steps(state: State, i: int, world: World) -> Iterator[Actor]:
    """What claimer `i` may be after its next step; cards are read one by one, in any order."""
    phase, mine, seen = state[i]
    if phase == HIDDEN:
        yield Actor(LOOKING, mine)
    elif phase == DECIDED:
        yield Actor(SHOWN, mine)
    elif phase == LOOKING:
        for j in set(range(len(state))) - {i} - {j for j, _, _ in seen}:
            cards = seen | {(j, on_card(state[j]), state[j].claim)}
            if len(cards) < len(state) - 1:
                yield Actor(LOOKING, mine, cards)
                continue
            there = [replace(claim, settled=mark == FIRM) for _, mark, claim in cards if mark]
            ruling = settle(mine, there, world.cores, 0, world.bounds).ruling
            if ruling is MOVE:
                # Published at once with its new ids, it looks again.
                anew = moved(mine, there, world)
                yield Actor(GONE, mine) if anew is None else Actor(LOOKING, anew)
            else:
                now = {KEEP: DECIDED, WITHDRAW: GONE, UNDECIDED: LOOKING}
                yield Actor(now[ruling], mine)


def explore(claims: tuple[Claim, ...], world: World) -> dict[State, set[State]]:
    """All states that any interleaving can reach, with those that follow each."""
    todo: list[State] = [tuple(Actor(HIDDEN, claim) for claim in claims)]
    graph: dict[State, set[State]] = {}
    while todo:
        state = todo.pop()
        if state in graph:
            continue
        graph[state] = {
            (*state[:i], actor, *state[i + 1 :])
            for i in range(len(claims))
            for actor in steps(state, i, world)
        }
        todo += graph[state]
    return graph


def kept(state: State) -> list[Claim]:
    return [actor.claim for actor in state if actor.phase in (DECIDED, SHOWN)]


def check(claims: tuple[Claim, ...], world: World) -> None:
    """In all that can happen nothing is promised twice, somebody stays, and nobody waits for ever."""
    graph = explore(claims, world)
    bounds = world.bounds
    for state in graph:
        stay = kept(state)
        for node in {claim.node for claim in stay}:
            here = [claim for claim in stay if claim.node == node]
            assert sum(claim.cores for claim in here if not claim.threads) <= world.cores
            assert sum(claim.cores for claim in here if claim.threads) <= bounds.threads
            assert len(here) == 1 or not any(claim.exclusive for claim in here)
            for ids in (
                [id_ for claim in here for id_ in claim.cpus],
                [id_ for claim in here for id_ in claim.gpus],
            ):
                assert len(ids) == len(set(ids))
        for name, count in bounds.pool.items():
            assert sum(dict(claim.licenses).get(name, 0) for claim in stay) <= count
        for user in {claim.user for claim in stay}:
            own = [claim for claim in stay if claim.user == user]
            assert bounds.cores_limit is None or sum(claim.cores for claim in own) <= bounds.cores_limit
            assert bounds.jobs_limit is None or len(own) <= bounds.jobs_limit
            for group, most in bounds.groups.items():
                assert sum(group in claim.groups for claim in own) <= most
    ends = {state for state, after in graph.items() if not after}
    assert all(kept(end) for end in ends)
    # An end can be reached from everywhere.
    before: dict[State, list[State]] = {state: [] for state in graph}
    for state, after in graph.items():
        for following in after:
            before[following].append(state)
    reached = set(ends)
    todo = list(ends)
    while todo:
        todo += (new := [state for state in before[todo.pop()] if state not in reached])
        reached.update(new)
    assert reached == set(graph)


SIZES = [
    (1, 1),
    (5, 5),
    (8, 8),
    (0, 1),
    (0, 0),
    (1, 1, 1),
    (4, 4, 4),
    (5, 5, 3),
    (3, 5, 5),
    (8, 8, 8),
    (6, 2, 6),
    (0, 4, 4),
    (0, 0, 2),
]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_in_every_interleaving_the_kept_claims_fit_and_one_is_kept(sizes: tuple[int, ...]) -> None:
    """Stamps come in every order, also such that an earlier claim is published last."""
    for stamps in permutations(range(len(sizes))):
        check(
            tuple(
                Claim(f"user{i}", size, exclusive=size == 0, stamp_ns=stamp)
                for i, (size, stamp) in enumerate(zip(sizes, stamps, strict=True))
            ),
            World(),
        )


def one(user: str, cores: int = 1, **more: Any) -> Claim:
    return Claim(user, cores, **more)


M1 = (("matlab", 1),)
RACES = {
    "the same CPUs": ((one("a", cpus=(0,)), one("b", cpus=(0,)), one("c", cpus=(0,))), World(cpus=3)),
    "CPUs for two": (
        (one("a", 2, cpus=(0, 1)), one("b", 2, cpus=(1, 2)), one("c", cpus=(1,))),
        World(4, cpus=4),
    ),
    "one more than there are": (
        (one("a", cpus=(0,)), one("b", cpus=(0,)), one("c", cpus=(0,))),
        World(2, cpus=2),
    ),
    "the same GPU": (
        (one("a", gpus=("g0",)), one("b", gpus=("g0",)), one("c", gpus=("g1",))),
        World(bounds=Bounds(gpus=frozenset({"g0", "g1", "g2"}))),
    ),
    "fewer GPUs than claims": (
        (one("a", gpus=("g0",)), one("b", gpus=("g0",)), one("c", gpus=("g1",))),
        World(bounds=GPUS),
    ),
    "CPUs and GPUs crosswise": (
        (
            one("a", cpus=(0,), gpus=("g1",)),
            one("b", cpus=(1,), gpus=("g1",)),
            one("c", cpus=(0,), gpus=("g0",)),
        ),
        World(4, Bounds(gpus=frozenset({"g0", "g1", "g2"})), 3),
    ),
    "licenses on two nodes": (
        (one("a", licenses=M1), one("b", licenses=M1, node="n2"), one("c", licenses=M1, node="n2")),
        World(bounds=Bounds(pool={"matlab": 2})),
    ),
    "the last license": (
        (one("a", licenses=M1), one("b", licenses=M1, node="n2"), one("c", licenses=M1, node="n3")),
        World(bounds=Bounds(pool={"matlab": 1})),
    ),
    "my limit of cores": (
        (one("a", 2, id="1"), one("a", 2, id="2", node="n2"), one("a", 2, id="3", node="n3")),
        World(bounds=Bounds(cores_limit=4)),
    ),
    "my limit of jobs": (
        (one("a", id="1"), one("a", id="2", node="n2"), one("a", id="3", node="n2")),
        World(bounds=Bounds(jobs_limit=1)),
    ),
    "the limit of a set": (
        (
            one("a", id="1", groups=("%s",)),
            one("a", id="2", node="n2", groups=("%s",)),
            one("a", id="3", node="n3", groups=("%s",)),
        ),
        World(bounds=Bounds(groups={"%s": 2})),
    ),
    "the limits of a set and an array in it": (
        (
            one("a", id="17_1", groups=("%s", "17")),
            one("a", id="2", node="n2", groups=("%s",)),
            one("a", id="17_2", node="n3", groups=("%s", "17")),
        ),
        World(bounds=Bounds(groups={"%s": 2, "17": 1})),
    ),
    "a limit and no room": (
        (
            one("a", 5, id="1", groups=("%s",)),
            one("a", 5, id="2", node="n2", groups=("%s",)),
            one("b", 5, id="3", node="n2"),
        ),
        World(bounds=Bounds(groups={"%s": 1})),
    ),
    "spare threads": (
        (one("a", 2, threads=True), one("b", 2, threads=True), one("c", 8)),
        World(bounds=Bounds(threads=3)),
    ),
}


@pytest.mark.parametrize("race", RACES)
def test_in_every_race_nothing_is_promised_twice_and_somebody_stays(race: str) -> None:
    """CPUs, GPUs, licenses of the cluster, limits, spare threads; stamps in every order, of any clocks."""
    claims, world = RACES[race]
    for stamps in permutations(range(len(claims))):
        check(
            tuple(replace(claim, stamp_ns=stamp) for claim, stamp in zip(claims, stamps, strict=True)), world
        )


def test_in_a_race_for_cpus_that_suffice_for_all_everybody_stays() -> None:
    """Nobody is withdrawn only because two chose the same."""
    claims, world = RACES["the same CPUs"]
    for stamps in permutations(range(len(claims))):
        mine = tuple(replace(claim, stamp_ns=stamp) for claim, stamp in zip(claims, stamps, strict=True))
        graph = explore(mine, world)
        assert all(len(kept(state)) == 3 for state, following in graph.items() if not following)


def test_the_model_would_notice_a_look_before_publishing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reverse order, look and then publish, does overbook: the model is able to fail."""
    monkeypatch.setitem(globals(), "on_card", lambda actor: FIRM if actor.phase == SHOWN else None)
    claims = (Claim("ann", 5, stamp_ns=1), Claim("bob", 5, stamp_ns=2))
    graph = explore(claims, World())
    assert any(len(kept(state)) == 2 for state in graph)


# ---------------------------------------------------------------- of any claims

some_claims = st.lists(
    st.builds(
        Claim,
        user=st.sampled_from(["ann", "bob", "cyd"]),
        cores=st.integers(0, 9),
        memory=st.integers(0, 9),
        exclusive=st.booleans(),
        stamp_ns=st.integers(0, 3),
        settled=st.booleans(),
        id=st.sampled_from("123456"),
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda claim: (claim.user, claim.id),
)


@settings(max_examples=200, deadline=None)
@given(some_claims)
def test_the_latest_unsettled_claim_always_decides(claims: list[Claim]) -> None:
    """So somebody can always go on."""
    mine = max(claims, key=lambda claim: (claim.stamp_ns, claim.user, claim.id))
    others = [claim for claim in claims if claim is not mine]
    assert settle(mine, others, 8, 8).ruling is not UNDECIDED


@settings(max_examples=200, deadline=None)
@given(some_claims)
def test_the_order_in_which_cards_are_read_does_not_matter(claims: list[Claim]) -> None:
    mine, *others = claims
    assert settle(mine, others[::-1], 8, 8) == settle(mine, others, 8, 8)


@settings(max_examples=200, deadline=None)
@given(some_claims)
def test_a_claim_is_kept_only_if_it_fits_beside_all_that_is_seen(claims: list[Claim]) -> None:
    mine, *others = claims
    if settle(mine, others, 8, 8).ruling is KEEP:
        assert not mine.memory or sum(claim.memory for claim in claims) <= 8
        if others:
            assert sum(claim.cores for claim in claims) <= 8
            assert not any(claim.exclusive or not claim.cores for claim in claims)
