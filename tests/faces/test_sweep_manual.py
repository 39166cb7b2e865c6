"""Promises about SWEEP in roundq(3): it names what `roundq.sweep` offers, with parameters, and no more."""

from __future__ import annotations

import inspect
import re

import pytest

from roundq import sweep
from roundq.faces.api import sweep as sweeps
from roundq.faces.api import sweep_outputs as outputs
from roundq.words.parameters import canonical
from tests.faces.test_api_manual import functions, public, signature, variables
from tests.test_manual import section


def parameters(function: object) -> list[str]:
    """The parameters of a function that is no method, as the page writes them."""
    assert callable(function)
    return signature(lambda: None) or [
        name if value.default is value.empty else f"{name}={value.default!r}".replace("'", '"')
        for name, value in inspect.signature(function).parameters.items()
    ]


def bare(told: dict[str, list[str]]) -> dict[str, list[str]]:
    return {name: [word.replace('"', "") for word in words] for name, words in told.items()}


def test_every_function_is_told_with_its_parameters() -> None:
    """Those that make parameter sets or a sweep; and nothing is told that is not there."""
    told = bare(functions(section("roundq.3", "Parameter sets")))
    assert told.pop("sample") == signature(sweep.ParameterSet.sample)
    told |= {
        name: words
        for name, words in bare(functions(section("roundq.3", "Sweeps"))).items()
        if name == "load"
    }
    offered = {name: getattr(sweep, name) for name in sweep.__all__}
    of_code = bare({name: parameters(each) for name, each in offered.items() if inspect.isfunction(each)})
    assert told.pop("ParameterSet") == bare({"": parameters(sweep.ParameterSet)})[""]
    assert told == of_code


@pytest.mark.parametrize(("kind", "title"), [(sweep.Task, "Tasks"), (sweep.Sweep, "Sweeps")])
def test_every_method_is_told_with_its_parameters(kind: type, title: str) -> None:
    """And every attribute."""
    told = bare(functions(section("roundq.3", title)))
    if kind is sweep.Sweep:
        assert told.pop("Sweep") == bare({"": parameters(sweep.Sweep)})[""]
        del told["load"]
    methods = {name: value for name, value in public(kind).items() if inspect.isfunction(value)}
    assert told == bare({name: signature(value) for name, value in methods.items()})
    properties = {name for name, value in public(kind).items() if isinstance(value, property)}
    assert properties <= variables(section("roundq.3", title))


def test_every_state_and_file_is_told() -> None:
    """In its own words, and as it is called in the directory."""
    told = set(re.findall(r"\.Sy (\w+)", "\n".join(section("roundq.3", "Sweeps"))))
    ends = {outputs.NEW, outputs.BEGUN, outputs.BROKEN, outputs.DONE, outputs.FOREIGN}
    assert told == {*sweeps.UNDERWAY, *ends}
    names = re.findall(r"\.It Pa (\S+)", "\n".join(section("roundq.3", "Output directories")))
    assert set(names) == {outputs.PARAMS, outputs.LOG, outputs.RESULT, outputs.FAILED, "run-N.json"}


def test_the_canonical_form_is_as_it_is_shown() -> None:
    (line,) = [line for line in section("roundq.3", "The hash") if line.startswith("{")]
    params = {"s": 1e-7, "on": True, "n": 1, "name": "ä", "lr": 0.1}
    assert canonical(params) == line.replace("\\e", "\\")
