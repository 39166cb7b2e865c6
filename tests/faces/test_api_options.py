"""Promises about what a program asks of a job: the options of `rq run`, by the values of a program."""

from __future__ import annotations

import datetime
import re
import signal
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import PurePath
from typing import Any

import pytest

from roundq.faces.api import options
from roundq.faces.cli import build_parser
from roundq.words.errors import UsageError
from roundq.words.job import Notice

#: Options of `rq run` that a program does not need: it says the same otherwise, or has its own loops.
LEFT_OUT = {
    "--array": "Queue.submit(array=...)",
    "--chunk": "Queue.submit_array",
    "--dependency": "after and its kin",
    "--each": "Queue.submit_array",
    "--each-format": "Queue.submit_array",
    "--exclusive": 'cores="all"',
    "--from": "Queue.submit_many",
    "--help": "",
    "--max-fails": "Queue.submit_array",
    "--param": "Queue.submit_array",
    "--parsable": "",
    "--throttle": "Queue.submit_array",
    "--verbose": "",
    "--version": "",
    "--wait": "Job.wait",
    "--watch": "Job.stdout",
}


def test_every_option_of_run_is_offered() -> None:
    """Whoever knows the command knows the function."""
    known = {name for name in build_parser("run").option_names() if name.startswith("--")}
    called = {f"--{options._CALLED.get(name, name).replace('_', '-')}" for name in options.NAMES - {"env"}}
    assert called == known - set(LEFT_OUT)


@pytest.mark.parametrize(
    ("given", "field", "meant"),
    [
        ({"memory": 2 << 30}, "mem", 2 << 30),
        ({"memory": "2G"}, "mem", 2 << 30),
        ({"memory": 2.5e9}, "mem", 2_500_000_000),
        ({"memory": 0}, "mem", 0),
        ({"max_output": 100}, "max_output", 100),
        ({"time": 90}, "time", 90.0),
        ({"time": 0.5}, "time", 0.5),
        ({"time": timedelta(hours=2)}, "time", 7200.0),
        ({"time": "2h"}, "time", 7200.0),
        ({"backoff": 10}, "backoff", 10.0),
        ({"cores": "all"}, "cpus", 0),
        ({"cores": 4}, "cpus", 4),
        ({"cores": None}, "cpus", None),
        ({"directory": PurePath("/tmp")}, "chdir", "/tmp"),
        ({"node": ["a*", "b"]}, "node", [("a*",), ("b",)]),
        ({"node": "a*,b"}, "node", [("a*", "b")]),
        ({"priority": -5}, "priority", -5),
        ({"priority": "high"}, "priority", 100),
        ({"restart": True}, "restart", True),
        ({"restart": False}, "restart", False),
        ({"signal": signal.SIGUSR1}, "signal", Notice(10, 60.0)),
        ({"signal": "TERM@2m"}, "signal", Notice(15, 120.0)),
        ({"retry_on": [3, "oom"]}, "retry_on", ("3", "oom")),
        ({"on_end": ["echo", "a b"]}, "on_end", ("echo", "a b")),
        ({"name": "--odd"[2:]}, "job_name", "odd"),
        ({"output": "-o"}, "output", "-o"),
    ],
)
def test_a_value_means_what_its_text_means(given: Mapping[str, Any], field: str, meant: object) -> None:
    """Numbers are bytes and seconds; None is as if it were not given; nothing is taken for an option."""
    assert getattr(options.parsed(given), field) == meant


def test_a_time_to_begin_is_never_too_early() -> None:
    at = datetime.datetime(2026, 12, 24, 18, 0, 0, 1, tzinfo=datetime.timezone.utc)
    assert options.parsed({"begin": at}).begin == "2026-12-24T18:00:01+00:00"
    from roundq.words.begins import parse_begin

    now_ns = time.time_ns()
    soon = datetime.datetime.now() + timedelta(hours=1)
    begins_s = parse_begin(options.parsed({"begin": soon}).begin, now_ns) / 1e9
    assert 0 <= begins_s - soon.timestamp() <= 1


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"cores": 0}, "needs at least 1 core"),
        ({"cores": 1.5}, "cores cannot be 1.5"),
        ({"cores": True}, "cores is no True"),
        ({"core": 1}, "no option of a job is called 'core'; did you mean 'cores'"),
        ({"memory": 4}, "memory 4: a number is in bytes"),
        ({"memory": float("nan")}, "size"),
        ({"memory": -(1 << 30)}, "it is negative"),
        ({"time": 0}, "it is zero"),
        ({"time": -1}, 'duration "-1s": it is negative'),
        ({"time": float("inf")}, "it is not a duration"),
        ({"hold": 1}, "hold is True or False, not 1"),
        ({"priority": "urgent"}, "neither a word nor a whole number"),
        ({"node": [3]}, "node cannot be 3"),
        ({"set": "a/b"}, "set"),
        (
            {"throttle": 3},
            "no option of a job is called 'throttle': use Queue.submit_array, for submit array=",
        ),
        ({"chunks": 3}, "no option of a job is called 'chunks'"),
        ({"license": {"matlab": 2}}, "license cannot be {'matlab': 2}, of type dict"),
        ({"env": ["A=1"]}, "env is a mapping of names to values, not ['A=1']"),
        ({"env": {"A": 1}}, "env: 'A' cannot be 1"),
        ({"signal": "KILL@3"}, "no process can catch it"),
    ],
)
def test_what_is_wrong_is_refused_by_name(given: Mapping[str, Any], says: str) -> None:
    """With the sentence of the command line, or a TypeError for what no text could be."""
    with pytest.raises((UsageError, TypeError), match=re.escape(says)):
        options.parsed(given)


def test_what_to_do_is_told_below_an_error_that_nobody_caught() -> None:
    """Where Python shows notes, 3.11 and later; what the error says of itself stays one sentence."""
    with pytest.raises(UsageError) as raised:
        options.parsed({"memory": "4Q"})
    assert raised.value.hint
    assert raised.value.hint not in str(raised.value)
    assert getattr(raised.value, "__notes__", None) == [f"hint: {raised.value.hint}"]
    assert getattr(UsageError("what"), "__notes__", None) is None


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("echo 'a b' $HOME #c", ("echo", "a b", "$HOME")),
        (["echo", "a b"], ("echo", "a b")),
        ([PurePath("/bin/true"), "-x"], ("/bin/true", "-x")),
    ],
)
def test_a_text_is_split_into_words_and_no_shell_sees_it(command: Any, words: tuple[str, ...]) -> None:
    assert options.command_words(command) == words


@pytest.mark.parametrize("command", ["", "  ", [], "echo 'a", ["a\0b"], ["a", 3], 7, b"ls"])
def test_what_is_no_command_is_refused(command: Any) -> None:
    with pytest.raises((UsageError, TypeError)):
        options.command_words(command)
