"""Promises about the check after a claim: in every order of events, a node is never overbooked.

The exhaustive part is a small model of what daemons do with their cards: publish a
claim, read the cards of the others one after the other, act on what `settle` says.
Every interleaving of these steps is walked through.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roundq.words.claims import Claim, Ruling, settle
from roundq.words.quantities import GIB

KEEP, WITHDRAW, UNDECIDED = Ruling.KEEP, Ruling.WITHDRAW, Ruling.UNDECIDED

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


# ---------------------------------------------------------------- every interleaving

HIDDEN, LOOKING, DECIDED, SHOWN, GONE = "hidden", "looking", "decided", "shown", "gone"
TENTATIVE, FIRM = "tentative", "firm"


class Actor(NamedTuple):
    """One claimer: where it stands, and the cards that it has read in this look so far."""

    phase: str = HIDDEN
    seen: frozenset[tuple[int, str | None]] = frozenset()


State = tuple[Actor, ...]


def on_card(actor: Actor) -> str | None:
    return {LOOKING: TENTATIVE, DECIDED: TENTATIVE, SHOWN: FIRM}.get(actor.phase)


def steps(state: State, i: int, claims: tuple[Claim, ...], cores: int) -> Iterator[Actor]:
    """What claimer `i` may be after its next step; cards are read one by one, in any order."""
    phase, seen = state[i]
    if phase == HIDDEN:
        yield Actor(LOOKING)
    elif phase == DECIDED:
        yield Actor(SHOWN)
    elif phase == LOOKING:
        for j in set(range(len(claims))) - {i} - {j for j, _ in seen}:
            cards = seen | {(j, on_card(state[j]))}
            if len(cards) < len(claims) - 1:
                yield Actor(LOOKING, cards)
                continue
            there = [replace(claims[k], settled=mark == FIRM) for k, mark in cards if mark]
            ruling = settle(claims[i], there, cores, 0).ruling
            yield {KEEP: Actor(DECIDED), WITHDRAW: Actor(GONE), UNDECIDED: Actor(LOOKING)}[ruling]


def explore(claims: tuple[Claim, ...], cores: int) -> dict[State, set[State]]:
    """All states that any interleaving can reach, with those that follow each."""
    todo: list[State] = [(Actor(),) * len(claims)]
    graph: dict[State, set[State]] = {}
    while todo:
        state = todo.pop()
        if state in graph:
            continue
        graph[state] = {
            (*state[:i], actor, *state[i + 1 :])
            for i in range(len(claims))
            for actor in steps(state, i, claims, cores)
        }
        todo += graph[state]
    return graph


def kept(state: State, claims: tuple[Claim, ...]) -> list[Claim]:
    return [claim for claim, actor in zip(claims, state, strict=True) if actor.phase in (DECIDED, SHOWN)]


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
    cores = 8
    for stamps in permutations(range(len(sizes))):
        claims = tuple(
            Claim(f"user{i}", size, exclusive=size == 0, stamp_ns=stamp)
            for i, (size, stamp) in enumerate(zip(sizes, stamps, strict=True))
        )
        graph = explore(claims, cores)
        for state in graph:
            stay = kept(state, claims)
            assert sum(claim.cores for claim in stay) <= cores
            assert len(stay) == 1 or not any(claim.exclusive for claim in stay)
        ends = {state for state, after in graph.items() if not after}
        assert all(kept(end, claims) for end in ends)
        # Nobody waits for ever: an end can be reached from everywhere.
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


def test_the_model_would_notice_a_look_before_publishing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reverse order, look and then publish, does overbook: the model is able to fail."""
    monkeypatch.setitem(globals(), "on_card", lambda actor: FIRM if actor.phase == SHOWN else None)
    claims = (Claim("ann", 5, stamp_ns=1), Claim("bob", 5, stamp_ns=2))
    graph = explore(claims, 8)
    assert any(len(kept(state, claims)) == 2 for state in graph)


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
