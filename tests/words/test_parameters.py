"""Promises about the hash of parameters: what it is, that it never changes, and what is no parameter."""

from __future__ import annotations

import enum
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundq.words.errors import UsageError
from roundq.words.parameters import canonical, check_name, checked, digest, told

#: Directories of results bear these names: whoever changes one of them loses everybody's results.
FIXED: list[tuple[dict[str, Any], str, str]] = [
    (
        {},
        "{}",
        "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
    ),
    (
        {"a": 1},
        '{"a":1}',
        "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862",
    ),
    (
        {"a": 1.0},
        '{"a":1.0}',
        "c29a44abc114a1d75486434c013102c9e736f526b4fd19658d9492b7b224de6d",
    ),
    (
        {"a": True},
        '{"a":true}',
        "5daa0644c4a1c43ea018f7f1ef2944b90e0165ef1f2d5669ca89e5d4f69ac597",
    ),
    (
        {"a": "1"},
        '{"a":"1"}',
        "9afeb0f2b203f254312ec8ded441d0318b7c34c57f8695ede42d2215a30c0960",
    ),
    (
        {"a": None},
        '{"a":null}',
        "d091f9c83c091f79652fe8786375b3fe4ce0861a56f5bfbafedbe431877ff0e8",
    ),
    (
        {"b": {"d": 1e16, "c": -0.0}, "a": [1, 2.5, "x", [], {}]},
        '{"a":[1,2.5,"x",[],{}],"b":{"c":-0.0,"d":1e+16}}',
        "3abd156d84cc72ca990a762193f91e0d45e5b266bc94c3916cfa704ff1758ab4",
    ),
    (
        {"ä": "😀", "z": 1e-7},
        '{"z":1e-07,"\\u00e4":"\\ud83d\\ude00"}',
        "0607c7a9cf3ba79d11494201cf3628dd730fff9396873a62acac04155ab28cb3",
    ),
]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abcä", max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)
PARAMS = st.dictionaries(st.text("abcdef", min_size=1, max_size=3), JSON, max_size=4)


@pytest.mark.parametrize(("params", "form", "wanted"), FIXED)
def test_a_hash_is_for_ever(params: dict[str, Any], form: str, wanted: str) -> None:
    """SHA-256 of JSON without spaces, in ASCII, with keys in the order of their code points."""
    assert canonical(checked(params)) == form
    assert digest(checked(params)) == wanted == hashlib.sha256(form.encode()).hexdigest()


def test_a_hash_is_the_same_in_every_process() -> None:
    """Whatever order its dicts and sets have there."""
    code = "from roundq.words.parameters import digest; print(digest({'b': {'y': 1, 'x': [2.5]}, 'a': 'ä'}))"
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONHASHSEED": seed, "LC_ALL": "C"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert said == {digest({"a": "ä", "b": {"x": [2.5], "y": 1}})}


def exactly(value: Any) -> Any:
    """A value that is equal only to what is the same in JSON: Python says that 1 == 1.0 == True."""
    if isinstance(value, dict):
        return ("dict", frozenset((key, exactly(each)) for key, each in value.items()))
    if isinstance(value, list):
        return ("list", tuple(exactly(each) for each in value))
    return (type(value).__name__, repr(value))


@given(PARAMS, PARAMS)
def test_a_hash_tells_apart_what_json_does(one: dict[str, Any], other: dict[str, Any]) -> None:
    """And nothing else: int, float, bool and text, and never the order of names."""
    assert (digest(checked(one)) == digest(checked(other))) == (exactly(one) == exactly(other))
    assert digest(checked(dict(reversed(one.items())))) == digest(checked(one))


class Whole:
    """A whole number of a library of its own."""

    def __index__(self) -> int:
        return 7


class Colour(str, enum.Enum):
    """A text with a name, as people have it in their modules; Python prints the name."""

    RED = "red"


class Level(float, enum.Enum):
    """A float with a name."""

    LOW = 0.5


class Broken:
    """It fails when it is to tell of itself."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_what_is_alike_in_json_is_one_value() -> None:
    """Tuples are lists, and whole numbers of any type are int."""
    assert checked({"a": (1, (2,)), "b": Whole()}) == {"a": [1, [2]], "b": 7}
    named = checked({"c": Colour.RED, "d": {Colour.RED: Level.LOW}})
    assert digest(named) == digest({"c": "red", "d": {"red": 0.5}})
    assert named == {"c": "red", "d": {"red": 0.5}}
    assert [type(named["c"]), *map(type, named["d"])] == [str, str]


CYCLE: list[Any] = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (float("nan"), "parameter a is nan, which JSON has no form for"),
        ([1, {"x": float("-inf")}], "parameter a[1]['x'] is -inf, which JSON has no form for"),
        ({1, 2}, "parameter a is {1, 2} (set), which JSON has no form for"),
        ([b"x"], "parameter a[0] is b'x' (bytes), which JSON has no form for"),
        (Broken(), "parameter a is a Broken (Broken), which JSON has no form for"),
        ({1: 2}, "parameter a has the key 1 (int), and keys of JSON are texts"),
        ("\ud800", "half a character of UTF-16"),
        (CYCLE, "is nested deeper than 50 levels"),
        (10**5000, "parameter a is a whole number of more than a thousand digits"),
    ],
    ids=["nan", "inf", "set", "bytes", "broken", "key", "half", "cycle", "digits"],
)
def test_what_is_not_json_is_named(value: object, said: str) -> None:
    """The parameter, and the part of it."""
    with pytest.raises(UsageError) as error:
        checked({"a": value})
    assert said in str(error.value)


@pytest.mark.parametrize("name", ["", 3, None, "output_dir", "\udfff"])
def test_what_is_no_name_is_refused(name: object) -> None:
    """Among them the one that a task finds its directory under."""
    with pytest.raises(UsageError):
        check_name(name)


def test_people_are_told_parameters_in_a_line() -> None:
    """What is no plain word is written as in JSON, and a long line is cut."""
    assert told({"lr": 0.1, "how": "fast", "s": "a b", "n": None}) == 'lr=0.1 how=fast s="a b" n=null'
    assert len(told({"a": list(range(1000))})) == 201
    assert os.linesep not in told({"a": "x\ny"})
