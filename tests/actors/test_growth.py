"""What grows is looked at again before it could be beyond its limit."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from roundq.actors.growth import LOOK_LEAST_S, LOOK_MOST_S, Growth


def test_what_does_not_grow_is_looked_at_every_second() -> None:
    """And what shrinks; the first look comes soon, since nothing is known yet."""
    growth = Growth(1000, 0.0)
    assert growth.again_s == LOOK_LEAST_S
    for number, size in enumerate([0, 0, 0, 0], 1):
        assert not growth.is_beyond(size, float(number))
        assert growth.again_s == LOOK_MOST_S
    growth.is_beyond(900, 5.0)
    growth.is_beyond(100, 6.0)
    assert growth.again_s == LOOK_MOST_S


def test_at_the_limit_is_within_it() -> None:
    """One byte more is beyond."""
    growth = Growth(1000, 0.0)
    assert not growth.is_beyond(1000, 1.0)
    assert growth.again_s == LOOK_LEAST_S
    assert growth.is_beyond(1001, 2.0)


@settings(deadline=None)
@given(st.integers(10**4, 10**12), st.floats(10**4, 10**10), st.floats(0.01, 1))
def test_what_grows_evenly_is_met_within_the_least_time(limit: int, rate: float, first_s: float) -> None:
    """Whatever its rate: beyond the limit is no more than what it adds between the two closest looks."""
    growth = Growth(limit, 0.0)
    now_s = first_s
    for _ in range(10_000):
        if growth.is_beyond(int(rate * now_s), now_s):
            break
        now_s += growth.again_s
        if limit / rate > 1000:
            return
    over = int(rate * now_s) - limit
    # Sizes are whole bytes, so a rate is seen a little wrong.
    assert over <= rate * (max(LOOK_LEAST_S, first_s) + 0.02) + 2
