"""Promises about levels: whose turn it is by running cores, weight and recent use, and what is due."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundq.words.fairness import TILT_MIN, USED_STEP, Shares, cores_number, share_text
from roundq.words.policy import Decision, Neighbour, Snapshot, Want, decide
from roundq.words.quantities import GIB

ALL = frozenset({"ann", "bob", "cyd"})
NODE = Snapshot("node1", "ann", 1, GIB, GIB, wants=(Want("1", 1, 0, 10),), cluster_cores=30)


def beside_bob(snapshot: Snapshot = NODE, at: int = 20, **more: object) -> Decision:
    """One free core, and bob waits as well."""
    bob = Neighbour("bob", Want("7", 1, 0, at))
    return decide(replace(snapshot, neighbours=(bob,), **more))  # type: ignore[arg-type]


def test_without_weights_and_history_a_level_is_the_running_cores() -> None:
    shares = Shares(ALL, 30)
    assert [shares.level("ann", cores)[:2] for cores in (0, 3, 12)] == [(0.0, 0.0), (3.0, 0.0), (12.0, 0.0)]
    assert [shares.fair(user) for user in sorted(ALL)] == [10.0, 10.0, 10.0]
    assert shares.are_equal


def test_who_has_twice_the_weight_is_due_twice_the_cores() -> None:
    shares = Shares(ALL, 40, {"bob": 2.0})
    assert [shares.fair(user) for user in sorted(ALL)] == [10.0, 20.0, 10.0]
    assert shares.level("bob", 8).height == shares.level("ann", 4).height
    assert not shares.are_equal


def test_who_used_what_was_due_counts_half_and_nobody_less_than_a_quarter() -> None:
    shares = Shares(ALL, 30, usage={"ann": 1 / 3, "bob": 1.0, "cyd": 0.0})
    assert shares.tilt("ann") == pytest.approx(0.5, abs=0.01)
    assert shares.tilt("bob") == TILT_MIN
    assert shares.tilt("cyd") == 1.0
    # By tilts of 1/2, 1/4 and 1.
    assert shares.fair("cyd") == pytest.approx(30 / 1.75, abs=0.2)


@pytest.mark.parametrize("usage", [float("nan"), -1.0, float("inf"), 1e308])
def test_what_a_card_says_of_its_use_cannot_break_the_order(usage: float) -> None:
    shares = Shares(ALL, 30, usage={"ann": usage})
    assert TILT_MIN <= shares.tilt("ann") <= 1.0
    assert math.isfinite(sum(shares.fair(user) for user in ALL))
    assert math.isfinite(shares.level("ann", 3).height)


@given(
    st.dictionaries(st.sampled_from(sorted(ALL)), st.floats(1e-6, 1e6)),
    st.dictionaries(st.sampled_from(sorted(ALL)), st.floats(0, 2)),
)
def test_fair_shares_are_all_that_there_is(weights: dict[str, float], usage: dict[str, float]) -> None:
    shares = Shares(ALL, 24, weights, usage)
    assert sum(shares.fair(user) for user in ALL) == pytest.approx(24)
    # At his fair share everybody stands at the same level.
    levels = {user: shares.level(user, 1).height * shares.fair(user) for user in ALL}
    assert max(levels.values()) == pytest.approx(min(levels.values()))


def test_use_counts_in_steps_so_that_all_daemons_agree() -> None:
    """Two that read a card a minute apart come to the same order but for the moment of a step."""
    shares = Shares(ALL, 30, usage={"ann": 0.1, "bob": 0.1 + USED_STEP / 1000})
    assert shares.level("ann", 3)[:2] == shares.level("bob", 3)[:2]


def test_the_turn_follows_the_weight() -> None:
    running = {"ann": 4, "bob": 6}
    assert beside_bob(running_cores=running).starts == ("1",)
    decision = beside_bob(running_cores=running, weights={"bob": 2.0})
    assert decision.reason("1") == (
        "waits: bob's turn (bob has 6 cores running of a fair share of 20,"
        " ann has 4 cores running of a fair share of 10)"
    )


def test_the_turn_follows_what_was_used_of_late() -> None:
    running = {"ann": 4, "bob": 5}
    decision = beside_bob(running_cores=running, usage={"ann": 0.5})
    assert decision.reason("1") == (
        "waits: bob's turn (bob has 5 cores running of a fair share of 20,"
        " ann has 4 cores running of a fair share of 10)"
    )
    assert beside_bob(running_cores=running, usage={"ann": 0.5, "bob": 0.5}).starts == ("1",)


def test_of_two_who_have_nothing_running_the_one_who_used_less_goes_first() -> None:
    """Else a cluster of few cores would be first come, first served."""
    assert beside_bob().starts == ("1",)
    decision = beside_bob(usage={"ann": 0.2, "bob": 0.1})
    assert decision.starts == ()
    assert "bob used less of late" in decision.reason("1")


def test_a_share_is_told_in_cores() -> None:
    assert share_text(Shares(ALL, 8), "bob", 3) == "bob has 3 cores running of a fair share of 2.7"
    assert share_text(Shares(ALL), "b\x1b", 1) == "b\\x1b has 1 core running"
    assert [cores_number(cores) for cores in (8.0, 2.666, 0.04)] == ["8", "2.7", "0"]
