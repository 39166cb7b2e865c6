"""Promises about roundq(3): it names what `import roundq` offers, with its parameters, and nothing else."""

from __future__ import annotations

import dataclasses
import inspect
import re

import pytest

import roundq
from roundq import Job, Outcome, Queue, State
from roundq.faces.api import options
from tests.test_manual import items, page, section

PAGE = " ".join(page("roundq.3"))


def public(kind: type) -> dict[str, object]:
    """What a class offers, by name."""
    return {name: value for name, value in vars(kind).items() if not name.startswith("_")}


def functions(of: list[str]) -> dict[str, list[str]]:
    """The functions that items tell, with their parameters."""
    told = {}
    for item in items(of):
        for one in item.split(" , "):
            if one.startswith("Fn "):
                name, *parameters = one.split()[1:]
                told[name] = [word.strip('"') for word in parameters]
    return told


def variables(of: list[str]) -> set[str]:
    """The attributes that items tell."""
    return {name for item in items(of) if item.startswith("Va ") for name in re.findall(r"\w+", item[3:])}


def signature(function: object) -> list[str]:
    """Its parameters as the page writes them."""
    assert callable(function)
    found = []
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        default = "" if parameter.default is parameter.empty else f"={parameter.default!r}".replace("'", '"')
        stars: dict[object, str] = {
            inspect.Parameter.VAR_POSITIONAL: "*",
            inspect.Parameter.VAR_KEYWORD: "**",
        }
        found.append(f"{stars.get(parameter.kind, '')}{parameter.name}{default}")
    return found


@pytest.mark.parametrize(("kind", "title"), [(Queue, "QUEUE"), (Job, "JOBS")])
def test_every_method_is_told_with_its_parameters(kind: type, title: str) -> None:
    """And every attribute; nothing is told that is not there."""
    of = section("roundq.3", title)
    first = next((place for place, line in enumerate(of) if line.startswith(".Ss")), len(of))
    told = functions(of[:first])
    if kind is Queue:
        assert told.pop("Queue") == signature(Queue.__init__)
    methods = {name: value for name, value in public(kind).items() if inspect.isfunction(value)}
    quoted = {name: [word.replace('"', "") for word in words] for name, words in told.items()}
    assert quoted == {
        name: [word.replace('"', "") for word in signature(value)] for name, value in methods.items()
    }
    attributes = {name for name, value in public(kind).items() if isinstance(value, property)}
    assert variables(of[:first]) == attributes


def test_every_option_is_told_and_no_other() -> None:
    told = [
        name for item in items(section("roundq.3", "Options")) for name in re.findall(r"[a-z_]{3,}", item)
    ]
    assert sorted(told) == sorted(options.NAMES)


def test_every_state_and_every_part_of_an_outcome_is_told() -> None:
    told = [item.removeprefix("Sy ") for item in items(section("roundq.3", "States"))]
    assert told == [state.value for state in State]
    fields = {field.name for field in dataclasses.fields(Outcome)}
    properties = {name for name, value in public(Outcome).items() if isinstance(value, property)}
    assert variables(section("roundq.3", "Outcomes")) == fields | properties
    for name, value in public(State).items():
        if isinstance(value, property):
            assert f".Va {name}" in PAGE


def test_every_name_that_is_offered_is_told() -> None:
    """Errors among them with what they are for."""
    for name in roundq._OFFERED:
        assert re.search(rf"\b{name}\b", PAGE), name
    errors = " ".join(items(section("roundq.3", "ERRORS")))
    for name, module in roundq._OFFERED.items():
        if module == "roundq.words.errors" and name != "RoundqError":
            assert re.search(rf"\b{name}\b", errors), name
