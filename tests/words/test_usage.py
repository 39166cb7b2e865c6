"""Usage with memory: a sum that does not mind in which order, and how often, it is brought up to date."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roundq.words.usage import decayed, most, part, used

DAY_S = 86_400.0
amounts = st.floats(0, 1e12)
times = st.floats(0, 1e9)
half_lives = st.floats(1.0, 1e9)
cores = st.integers(0, 100_000)
#: Whatever a stranger's card may hold.
anything = st.floats(allow_nan=True, allow_infinity=True)
close = pytest.approx
quick = settings(max_examples=50, deadline=None)


@quick
@given(amounts, half_lives)
def test_half_is_left_after_a_half_life(usage: float, half_life_s: float) -> None:
    assert decayed(usage, half_life_s, half_life_s) == close(usage / 2)
    assert decayed(usage, 0.0, half_life_s) == usage


@quick
@given(amounts, times, times, half_lives)
def test_it_decays_alike_in_one_step_and_in_two(
    usage: float, one_s: float, other_s: float, half_life_s: float
) -> None:
    """However often a daemon looks."""
    at_once = decayed(usage, one_s + other_s, half_life_s)

    assert decayed(decayed(usage, one_s, half_life_s), other_s, half_life_s) == close(
        at_once, rel=1e-6, abs=1e-6
    )


@quick
@given(cores, times, times, half_lives)
def test_it_grows_alike_in_one_step_and_in_two(
    count: int, one_s: float, other_s: float, half_life_s: float
) -> None:
    first = decayed(used(count, one_s, half_life_s), other_s, half_life_s)

    assert first + used(count, other_s, half_life_s) == close(
        used(count, one_s + other_s, half_life_s), rel=1e-6, abs=1e-6
    )


#: What one user runs: cores, from when, for how long.
stays = st.tuples(st.integers(1, 64), st.floats(0, 30 * DAY_S), st.floats(0, 30 * DAY_S))


@quick
@given(st.lists(stays, max_size=6).flatmap(lambda all_: st.tuples(st.just(all_), st.permutations(all_))))
def test_the_order_of_updates_does_not_matter(
    orders: tuple[list[tuple[int, float, float]], list[tuple[int, float, float]]],
) -> None:
    """Of jobs that are added up one by one, or of nodes that are: whoever adds them comes to the same."""
    half_life_s, now_s = 7 * DAY_S, 60 * DAY_S
    sums = [
        sum(
            decayed(used(count, for_s, half_life_s), now_s - from_s - for_s, half_life_s)
            for count, from_s, for_s in order
        )
        for order in orders
    ]

    assert sums[0] == close(sums[1])


@quick
@given(st.lists(stays, max_size=6))
def test_many_small_updates_are_the_same_as_none(all_: list[tuple[int, float, float]]) -> None:
    """What a daemon comes to that looks at any time is what each job used, decayed."""
    half_life_s, now_s = 7 * DAY_S, 60 * DAY_S
    looks = sorted({0.0, now_s, *(at for _, from_s, for_s in all_ for at in (from_s, from_s + for_s))})
    usage = 0.0
    for at_s, next_s in itertools.pairwise(looks):
        running = sum(count for count, from_s, for_s in all_ if from_s <= at_s < from_s + for_s)
        for_s = next_s - at_s
        usage = decayed(usage, for_s, half_life_s) + used(running, for_s, half_life_s)

    # Times of months have no place for nanoseconds.
    assert usage == close(
        sum(
            decayed(used(count, for_s, half_life_s), now_s - from_s - for_s, half_life_s)
            for count, from_s, for_s in all_
        ),
        abs=1e-6,
    )


@quick
@given(anything, anything, anything)
def test_it_is_never_negative_and_always_a_number(usage: float, after_s: float, half_life_s: float) -> None:
    """Whatever it is made from."""
    for amount in (decayed(usage, after_s, half_life_s), used(usage, after_s, half_life_s)):
        assert amount >= 0
        assert not math.isnan(amount)
    assert 0 <= part(usage, after_s, half_life_s) <= 1


@quick
@given(amounts, times, half_lives)
def test_it_never_grows_by_itself(usage: float, after_s: float, half_life_s: float) -> None:
    """A clock that was set back has it stand still."""
    assert decayed(usage, after_s, half_life_s) <= usage
    assert decayed(usage, -after_s, half_life_s) == usage


@quick
@given(st.integers(1, 100_000), times, half_lives)
def test_nothing_is_used_more_than_always(count: int, for_s: float, half_life_s: float) -> None:
    """What was in use for ever is all that could be given; a day at first counts for nearly a day."""
    assert used(count, for_s, half_life_s) <= most(count, half_life_s) * (1 + 1e-9)
    assert used(count, for_s, half_life_s) <= count * for_s * (1 + 1e-9) + 1e-9
    assert used(count, 60 * half_life_s, half_life_s) == close(most(count, half_life_s))


def test_a_week_of_a_half_life_of_a_week() -> None:
    """Four cores for a week, of which half counts after another; as a part of eight cores."""
    week_s = 7 * DAY_S
    usage = used(4, week_s, week_s)

    assert usage == close(4 * week_s / math.log(2) / 2)
    assert part(usage, 8, week_s) == close(0.25)
    assert part(decayed(usage, week_s, week_s), 8, week_s) == close(0.125)
    assert part(usage, 0, week_s) == 0
