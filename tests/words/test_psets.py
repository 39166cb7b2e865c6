"""Promises about the algebra of parameter sets: products, unions, zips, ranges and random numbers."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundq.words.errors import UsageError
from roundq.words.psets import ParameterSet, integers, ls, pset, spaced, uniform

#: What was drawn when these functions were written.
UNIFORM_LOG = [0.00100620901824, 0.0303789327793, 0.00478180700759]
UNIFORM = [0.0985105467924, 0.859512443885, -0.0722914591193]
INTEGERS = [5, 5, 1, 2, 3, 1, 4, 4]
SAMPLE = [14, 51, 52, 87, 88]
A, B, C = pset("a", [1, 2]), pset("b", ["x", "y"]), pset("c", [True, None])


def test_a_product_is_each_with_each_the_last_fastest() -> None:
    """As nested loops would have it."""
    assert ls(A * B) == [{"a": a, "b": b} for a in (1, 2) for b in "xy"]
    assert ls(A * B * C) == [{"a": a, "b": b, "c": c} for a in (1, 2) for b in "xy" for c in (True, None)]


def test_a_sum_is_one_after_the_other() -> None:
    """Also of different parameters; nothing is left out."""
    assert ls(A + B + A) == [*ls(A), *ls(B), *ls(A)]


def test_a_zip_is_side_by_side() -> None:
    """The first with the first."""
    assert ls(A | B) == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]


def test_python_binds_products_closest_and_zips_last() -> None:
    """So seven times five and two more are 37, as in the README of LTASK."""
    seven, five = pset("p", range(7)), pset("q", range(5))
    extra = pset("p", [10, 11]) * pset("q", [0])
    assert len(seven * five + extra) == 37
    assert A + pset("a", [3, 4]) | B + B == (A + pset("a", [3, 4])) | (B + B)
    assert ls(A * B | pset("d", range(4))) == [{**params, "d": d} for d, params in enumerate(ls(A * B))]


def test_nothing_is_changed_in_place() -> None:
    """What was multiplied is as before, and whoever changes a set that he got changes only that."""
    before = ls(A), ls(B)
    _ = A * B, A | B, A + B
    A[0]["a"] = 9
    next(iter(A))["a"] = 9
    assert (ls(A), ls(B)) == before


def test_a_name_given_to_all_stays() -> None:
    """With the left one, as in LTASK."""
    named = pset("a", [1, 2])
    named.name = "scan"
    assert (named * B).name == (named + B).name == (named | B).name == named[:1].name == "scan"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: A * A, "<2 parameter sets of a> * <2 parameter sets of a>: both have a parameter a"),
        (lambda: A | A, "both have a parameter a"),
        (lambda: (A + B) * pset("b", [1]), "both have a parameter b"),
        (lambda: A | pset("b", [1, 2, 3]), "2 cannot stand side by side with 3"),
        (lambda: pset("b", [1, 2, 3]) | A, "3 cannot stand side by side with 2"),
        (lambda: pset("a", []), "parameter a has no value"),
        (lambda: pset("a", "text"), "its values are one str"),
        (lambda: pset("a", {"x": 1}), "its values are one dict"),
        (lambda: pset("a", 3), "its values are one int"),  # type: ignore[arg-type]
        (lambda: pset("a", iter(int, 1)), "more than 1,000,000"),
        (lambda: pset("a", range(2000)) * pset("b", range(2000)), "that is 4,000,000 parameter sets"),
        (lambda: ParameterSet([{"a": float("nan")}]), "parameter a is nan"),
        (lambda: ParameterSet([3]), "a parameter set is 3 (int)"),  # type: ignore[list-item]
        (lambda: spaced("a", 0, float("inf"), 3), "a bound of parameter a is inf"),
        (lambda: spaced("a", 0, 1, 0), "it is to have 0 values"),
        (lambda: uniform("a", 1, 1, 3, seed=1), "1 is not below 1"),
        (lambda: uniform("a", 0, 1, 3, seed=1, log=True), "0 has no logarithm"),
        (lambda: uniform("a", 0, 1, 3, seed=0.5), "the seed is 0.5"),  # type: ignore[arg-type]
        (lambda: integers("a", 3, 2, 3, seed=1), "there is no whole number from 3 to 2"),
        (lambda: A.sample(3, seed=1), "a sample of 3 was asked for"),
    ],
)
def test_what_makes_no_sense_is_refused(make: Callable[[], object], said: str) -> None:
    """With a sentence; nothing is cut, and no value lost."""
    with pytest.raises(UsageError) as error:
        make()
    assert said in str(error.value)


def test_what_is_no_parameter_set_cannot_be_multiplied() -> None:
    """As for numbers and texts."""
    other: Any
    for other in (2, [{}], None):
        for operation in (operator.mul, operator.add, operator.or_):
            with pytest.raises(TypeError):
                operation(A, other)


def values(sets: ParameterSet) -> list[Any]:
    """The values of the one parameter of some sets."""
    return [value for params in sets for value in params.values()]


def test_spaced_values_are_as_a_person_would_write_them() -> None:
    """0.3, and not 0.30000000000000004: floats, both ends among them."""
    assert values(spaced("x", 0, 1, 11)) == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert values(spaced("x", 1, 0, 3)) == [1.0, 0.5, 0.0]
    assert values(spaced("x", 5, 9, 1)) == [5.0]
    assert {type(value) for value in values(spaced("x", 0, 4, 5))} == {float}


def test_random_values_are_for_ever() -> None:
    """Else a sweep that was made again would have other tasks."""
    assert values(uniform("lr", 1e-4, 1, 3, seed=1, log=True)) == UNIFORM_LOG
    assert values(uniform("x", -1, 1, 3, seed=1)) == UNIFORM
    assert values(integers("n", 1, 6, 8, seed=1)) == INTEGERS
    assert values(pset("n", range(100)).sample(5, seed=1)) == SAMPLE


def test_random_values_depend_on_name_and_seed() -> None:
    """Two parameters with one seed are not alike, and more of them begin as fewer do."""
    assert values(uniform("x", 0, 1, 5, seed=1)) != values(uniform("y", 0, 1, 5, seed=1))
    assert values(uniform("x", 0, 1, 5, seed=1)) != values(uniform("x", 0, 1, 5, seed=2))
    assert values(uniform("x", 0, 1, 9, seed=1))[:5] == values(uniform("x", 0, 1, 5, seed=1))


@given(st.integers(-(1 << 62), 1 << 62), st.integers(0, 1 << 62), st.integers(0, 99))
def test_whole_numbers_keep_to_their_bounds(low: int, width: int, seed: int) -> None:
    """Both may be drawn."""
    assert all(low <= value <= low + width for value in values(integers("n", low, low + width, 5, seed)))


def test_random_values_are_spread() -> None:
    """Of a thousand about as many lie in each tenth; with log in each power of ten."""
    drawn = values(uniform("x", 0, 1, 1000, seed=3))
    assert all(60 < sum(tenth <= value * 10 < tenth + 1 for value in drawn) < 140 for tenth in range(10))
    drawn = values(uniform("x", 1e-3, 1, 900, seed=3, log=True))
    assert all(200 < sum(10.0**-n <= v < 10.0 ** (1 - n) for v in drawn) < 400 for n in (1, 2, 3))
    drawn = values(integers("n", 1, 6, 1200, seed=3))
    assert all(140 < drawn.count(number) < 260 for number in range(1, 7))


def test_a_sample_draws_nothing_twice_and_keeps_the_order() -> None:
    """It depends on the seed."""
    sample = pset("n", range(50)).sample(20, seed=1)
    assert values(sample) == sorted(set(values(sample)))
    assert values(sample) != values(pset("n", range(50)).sample(20, seed=2))
    assert sample != pset("n", range(50)).sample(20, seed=2)
