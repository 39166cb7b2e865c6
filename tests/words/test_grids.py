"""Promises about grids of parameters: every combination once, in the order in which they are written."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundq.words import grids
from roundq.words.errors import UsageError
from roundq.words.grids import Parameter


@pytest.mark.parametrize(
    ("text", "name", "values"),
    [
        ("lr=0.1,0.01", "lr", ["0.1", "0.01"]),
        ("seed=1-4", "seed", ["1", "2", "3", "4"]),
        ("seed=1-10:3", "seed", ["1", "4", "7", "10"]),
        ("seed=1-3,9,20-21", "seed", ["1", "2", "3", "9", "20", "21"]),
        ("x=-2-1", "x", ["-2", "-1", "0", "1"]),
        ("x=-5--4", "x", ["-5", "-4"]),
        ("x=-5", "x", ["-5"]),
        ("day=2026-01-01", "day", ["2026-01-01"]),
        ("f=0.1-0.5", "f", ["0.1-0.5"]),
        (r"f=\1-3", "f", ["1-3"]),
        (r"f=a\,b,c\\d", "f", ["a,b", "c\\d"]),
        ("f=a=b", "f", ["a=b"]),
        ("f=", "f", [""]),
        ("f=,x", "f", ["", "x"]),
        ("f=x,", "f", ["x", ""]),
        ("f=two words", "f", ["two words"]),
        ("_f2=1-3:1", "_f2", ["1", "2", "3"]),
        ("f=x\\", "f", ["x\\"]),
    ],
)
def test_what_a_parameter_means(text: str, name: str, values: list[str]) -> None:
    assert grids.parse(text) == Parameter(name, tuple(values))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("lr", 'parameter "lr": it has no value'),
        ("=1", 'parameter "=1": "" is no name'),
        ("2x=1", 'parameter "2x=1": "2x" is no name'),
        ("a-b=1", 'parameter "a-b=1": "a-b" is no name'),
        ("index=1", 'parameter "index=1": {index} is the number of the task'),
        ("x=3-1", 'parameter "x=3-1": 3-1 ends before it begins'),
        ("x=1-3:0", 'parameter "x=1-3:0": a step of 0 leads nowhere'),
        ("x=1,2,1", 'parameter x: it has the value "1" twice'),
        ("x=0-1000000", 'parameter "x=0-1000000": it has more than 1,000,000 values'),
        ("x=0-999999,-1", "parameter x: it has more than 1,000,000 values"),
    ],
)
def test_what_is_no_parameter(text: str, what: str) -> None:
    with pytest.raises(UsageError) as caught:
        grids.parse(text)
    assert str(caught.value) == what
    assert caught.value.hint


def test_two_parameters_have_two_names_and_not_too_many_combinations() -> None:
    with pytest.raises(UsageError, match="option --param: there are two called x"):
        grids.check([Parameter("x", ("1",)), Parameter("y", ("1",)), Parameter("x", ("2",))])
    thousand = tuple(map(str, range(1000)))
    grids.check([Parameter("x", thousand), Parameter("y", thousand)])
    with pytest.raises(UsageError, match=r"option --param: that is 2,000,000 tasks, more than 1,000,000"):
        grids.check([Parameter("x", thousand), Parameter("y", thousand), Parameter("z", ("1", "2"))])


values = st.text(st.characters(blacklist_categories=["Cs"]), max_size=4)


@given(st.lists(values, min_size=1, max_size=5, unique=True))
def test_every_value_can_be_written(listed: list[str]) -> None:
    """With a backslash before each of its characters, whatever they are."""
    text = ",".join("".join(f"\\{char}" for char in value) for value in listed)
    assert grids.parse(f"x={text}").values == tuple(listed)


@given(st.lists(st.lists(values, min_size=1, max_size=4, unique=True), min_size=1, max_size=4))
def test_the_last_one_changes_fastest(lists: list[list[str]]) -> None:
    """As loops within each other would write them."""
    parameters = [Parameter(f"x{number}", tuple(each)) for number, each in enumerate(lists)]
    assert list(grids.product(parameters)) == list(itertools.product(*lists))
