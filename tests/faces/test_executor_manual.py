"""Promises about EXECUTOR and CHECKPOINT in roundq(3): what is there is told with parameters, and no more."""

from __future__ import annotations

import concurrent.futures
import inspect

import roundq
from roundq.faces.api import calls
from roundq.faces.api.executor import CallFuture
from tests.faces.test_api_manual import functions, public, signature
from tests.test_manual import section


def told(title: str) -> dict[str, list[str]]:
    """The functions that a section tells, up to its first part."""
    of = section("roundq.3", title)
    first = next((place for place, line in enumerate(of) if line.startswith(".Ss")), len(of))
    return {name: [word.replace('"', "") for word in words] for name, words in functions(of[:first]).items()}


def test_every_method_of_an_executor_is_told_with_its_parameters() -> None:
    methods = {name: value for name, value in public(roundq.Executor).items() if inspect.isfunction(value)}
    wanted = {name: signature(value) for name, value in methods.items()}
    assert told("EXECUTOR") == {"Executor": signature(roundq.Executor.__init__), **wanted}


def test_what_futures_have_of_their_own_is_told() -> None:
    of = functions(section("roundq.3", "Futures"))
    assert set(of) == {name for name in public(CallFuture) if not name.startswith("is_")} | {"result"}
    assert of["result"] == signature(concurrent.futures.Future.result)


def test_both_functions_of_a_checkpoint_are_told() -> None:
    whole = {"checkpoint": ["*args", "**kwargs"], "checkpoint_due": []}
    assert told("CHECKPOINT") == whole
    for name, parameters in whole.items():
        given = inspect.signature(getattr(roundq, name)).parameters.values()
        assert [str(one).partition(":")[0] for one in given] == parameters


def test_the_place_and_protocol_of_exchange_files_is_told() -> None:
    page = " ".join(section("roundq.3", "EXECUTOR"))
    assert f"~/{calls.DIRECTORY}" in page
    assert f"protocol {calls.PROTOCOL}" in page
    assert (calls.KEEP_S / 86400, calls.KEEP_ELSEWHERE_S / 86400) == (1, 7)
    assert "after a day, else after seven" in page
