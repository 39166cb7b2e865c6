"""Promises about limits and weights, and about the sentence of a drain: pure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundq.words.drains import REASON_MAX, Drain, check_reason, first_line
from roundq.words.errors import UsageError
from roundq.words.limits import Limit, Limits, Shares

numbers = st.none() | st.integers(0, 100)
limits = st.builds(Limit, numbers, numbers, numbers)


@given(limits, limits)
def test_of_two_limits_the_smaller_holds_whoever_set_it(one: Limit, other: Limit) -> None:
    """Number for number; no limit is above every number, and nothing becomes more than either allows."""

    def value(number: int | None) -> float:
        return float("inf") if number is None else number

    both = one.less(other)

    assert both == other.less(one)
    for name in ("cores", "jobs", "waiting"):
        assert value(getattr(both, name)) == min(value(getattr(one, name)), value(getattr(other, name)))


@given(limits, st.integers(0, 200), st.integers(0, 200))
def test_what_is_left_is_never_below_nothing(limit: Limit, cores: int, jobs: int) -> None:
    """A limit that was lowered below what runs ends nothing; it lets nothing more start."""
    left = limit.left(cores, jobs)

    for number, most, has in ((left[0], limit.cores, cores), (left[1], limit.jobs, jobs)):
        assert number == (None if most is None else max(0, most - has))


def test_who_is_not_named_has_the_limits_and_the_weight_of_everybody() -> None:
    """Without any configuration there are no limits, and all weigh alike."""
    assert Limits().limit_of("ann") == Limit()
    assert Shares().weight_of("ann", ["staff"]) == 1
    assert Limits(Limit(cores=3), {"ann": {"cores": None}}).limit_of("ann") == Limit()
    assert Limits(Limit(cores=3), {"ann": {"cores": None}}).limit_of("bob") == Limit(cores=3)
    assert Shares({"ann": 2}, {"staff": 5}).weight_of("bob", ["staff", "users"]) == 5
    assert Shares({"ann": 2}, {"staff": 5}).weight_of("ann", ["staff"]) == 2


def test_a_drain_says_who_and_why() -> None:
    """With the reason, if there is one."""
    assert Drain("admin", "disk").says == "drained by admin: disk"
    assert Drain("ann").says == "drained by ann"


@given(st.text())
def test_a_reason_written_by_hand_is_one_harmless_short_line(text: str) -> None:
    """Whatever is in the file."""
    line = first_line(text)

    assert line.isprintable()
    assert len(line) <= REASON_MAX


def test_the_reason_is_the_first_line_that_says_something() -> None:
    assert first_line("\n  new disk \nsee the wiki\n") == "new disk"
    assert first_line("") == first_line(" \n ") == ""
    assert first_line("a\x1b[2J") == "a\\x1b[2J"
    assert first_line("x" * 10_000) == "x" * REASON_MAX


@pytest.mark.parametrize(
    ("text", "told"),
    [("a\nb", r"reason: it contains \n"), ("x" * 201, "reason: it has 201 characters")],
)
def test_a_reason_that_would_be_cut_is_refused(text: str, told: str) -> None:
    """Rather than shown as something else."""
    with pytest.raises(UsageError) as caught:
        check_reason(text)
    assert str(caught.value) == told
    assert caught.value.hint == "give one line of at most 200 characters"
    assert check_reason(" new disk ") == "new disk"
