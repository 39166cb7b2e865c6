"""What a program asks of a job, said as the words of `rq run`: so that both mean, check and refuse the same.

Only the values differ: a program gives numbers, times and lists where a person writes text.
"""

from __future__ import annotations

import argparse
import functools
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict

from roundq.words.errors import UsageError

if TYPE_CHECKING:
    from roundq.faces.api.handles import Job
    from roundq.faces.cli.parser import Parser

#: A command: its words, or one text that is split into words as sh does, which otherwise does nothing to it.
Command: TypeAlias = "str | Sequence[str | os.PathLike[str]]"
Words: TypeAlias = "str | Sequence[str]"
#: Jobs that come before: handles, or words that say which, as in rq(1).
Jobs: TypeAlias = "Job | str | Sequence[Job | str]"


class Options(TypedDict, total=False):
    """What may be asked of a job beside its command: the options of `rq run`; None is as if not given.

    Texts are as in rq(1). As numbers, memory and sizes are in bytes, times in seconds. `env` is added to the
    environment of the program; None for a value takes a variable out.
    """

    name: str | None
    cores: int | str | None
    memory: int | str | None
    memory_limit: bool | None
    gpus: int | None
    license: Words | None
    node: Words | None
    exclude: Words | None
    need: Words | None
    directory: str | os.PathLike[str] | None
    output: str | os.PathLike[str] | None
    error: str | os.PathLike[str] | None
    max_output: int | str | None
    env: Mapping[str, str | None] | None
    time: float | str | timedelta | None
    signal: str | int | None
    restart: bool | None
    scavenge: bool | None
    priority: int | str | None
    set: str | None
    hold: bool | None
    begin: str | datetime | None
    after: Jobs | None
    after_any: Jobs | None
    after_fail: Jobs | None
    after_each: Jobs | None
    keep_held: bool | None
    retries: int | None
    retry_on: Words | int | Sequence[int | str] | None
    backoff: float | str | timedelta | None
    unique: bool | None
    on_end: Words | None
    mail: Words | None


class _Command(TypedDict):
    command: Command


class Spec(_Command, Options):
    """A job to be submitted: its command, and what else it asks for."""


#: Options of arrays: how many tasks run at once, may fail, and are in one job.
ARRAY = ("throttle", "max_fails", "chunk")
NAMES = frozenset(Options.__annotations__)
#: The options of `rq run` that are called otherwise.
_CALLED = {
    "name": "job-name",
    "cores": "cpus",
    "memory": "mem",
    "memory_limit": "mem-limit",
    "directory": "chdir",
}
_FLAGS = {"memory_limit", "restart", "scavenge", "hold", "keep_held", "unique"}
_BYTES = {"memory", "max_output"}
_SECONDS = {"time", "backoff"}
_JOBS = {"after", "after_any", "after_fail", "after_each"}
_REPEATED = {"license", "node", "exclude", "need", "mail"}
#: A job that promises less memory than this was given a number of gigabytes.
_MEMORY_LEAST = 1 << 20


def parsed(options: Mapping[str, Any], more: Sequence[str] = ()) -> argparse.Namespace:
    """What `rq run` makes of these options; `more` are names that are known beside those of `Options`.

    The same options give the same object, which nobody may change. Raises TypeError for a name that is not
    known and for a value of another type, UsageError as `rq run`.
    """
    words: list[str] = []
    for name, value in options.items():
        if name not in NAMES and name not in more:
            raise TypeError(_unknown(name))
        if name == "env":
            _check_environment(value)
        elif value is not None:
            words += _words(name, value)
    return _parsed(tuple(words))


def _check_environment(more: Any) -> None:
    if not isinstance(more, Mapping | None):
        raise TypeError(f"env is a mapping of names to values, not {more!r:.100}")
    for name, value in (more or {}).items():
        if not isinstance(name, str) or not isinstance(value, str | None):
            raise TypeError(f"env: {name!r} cannot be {value!r}: names and values are texts")
        if "\0" in f"{name}{value}" or "=" in name or not name:
            raise UsageError(f"env: {name!r} and its value cannot be in an environment")


#: Where a program says the same that is no array by `submit_array`.
_ELSEWHERE = {
    "throttle": ', for submit array="0-9%2", for an Executor max_workers=2',
    "chunk": "",
    "max_fails": "",
}


def _unknown(name: str) -> str:
    import difflib

    if name in ARRAY:
        return f"no option of a job is called {name!r}: use Queue.submit_array{_ELSEWHERE[name]}"
    near = difflib.get_close_matches(name, NAMES, n=1)
    return f"no option of a job is called {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")


@functools.lru_cache(maxsize=64)
def _parsed(words: tuple[str, ...]) -> argparse.Namespace:
    return _parser().parse(list(words))


@functools.cache
def _parser() -> Parser:
    from roundq.faces.cli.run_options import build_parser

    return build_parser("run")


def _words(name: str, value: Any) -> list[str]:
    option = f"--{_CALLED.get(name, name).replace('_', '-')}"
    if name in _FLAGS:
        if not isinstance(value, bool):
            raise TypeError(f"{name} is True or False, not {value!r}")
        return [option] if value else []
    return [f"{option}={text}" for text in _texts(name, value)]


def _texts(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        raise TypeError(f"{name} is no {value!r}")
    if isinstance(value, Mapping):
        # Only its names would be seen.
        raise TypeError(f"{name} cannot be {value!r:.100}, of type {type(value).__name__}")
    if name in _BYTES and isinstance(value, int | float):
        return [_bytes(name, value)]
    if name in _SECONDS and isinstance(value, int | float | timedelta):
        return [f"{_seconds(value):.6f}".rstrip("0").rstrip(".") + "s"]
    if name in _JOBS:
        return [_job(name, one) for one in _several(value)]
    if name == "begin" and isinstance(value, datetime):
        # To the second, and never too early.
        return [
            (value + timedelta(microseconds=-value.microsecond % 1_000_000)).isoformat(timespec="seconds")
        ]
    if name == "signal" and isinstance(value, int):
        return [str(int(value))]
    if name == "retry_on":
        return [",".join(map(str, _several(value)))]
    if name == "on_end" and not isinstance(value, str):
        return [shlex.join(value)]
    if name in _REPEATED:
        return [_text(name, one) for one in _several(value)]
    if isinstance(value, int):
        return [str(value)]
    return [_text(name, value)]


def _text(name: str, value: Any) -> str:
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str):
        raise TypeError(f"{name} cannot be {value!r}, of type {type(value).__name__}")
    return value


def _several(value: Any) -> Iterable[Any]:
    return value if isinstance(value, Iterable) and not isinstance(value, str) else (value,)


def _bytes(name: str, value: float) -> str:
    if name == "memory" and 0 < value < _MEMORY_LEAST:
        raise UsageError(
            f"memory {value}: a number is in bytes, and no job needs so few", f'for gigabytes: "{value}G"'
        )
    return f"{value}B" if isinstance(value, int) else f"{value:.0f}B"


def _seconds(value: float | timedelta) -> float:
    return value.total_seconds() if isinstance(value, timedelta) else value


def _job(name: str, value: Any) -> str:
    # A handle; its module need not be imported for that.
    job_id = getattr(value, "id", value)
    return _text(name, job_id)


def handles(options: Mapping[str, Any]) -> list[Job]:
    """The handles among the jobs that have to come before."""
    given = [options[name] for name in sorted(_JOBS) if options.get(name) is not None]
    return [one for value in given for one in _several(value) if hasattr(one, "queue")]


def command_words(command: Command) -> tuple[str, ...]:
    """The words of a command. Raises UsageError if there is none, or for quotes that are not closed."""
    if isinstance(command, str):
        from roundq.words.templates import finding, split

        try:
            words = tuple(split(command))
        except ValueError as error:
            raise UsageError(f"the command cannot be split into words: {finding(error)}") from None
    else:
        words = tuple(_text("a word of a command", word) for word in command)
    if not words:
        raise UsageError("no command to run", 'give its words, such as ["echo", "Hello"]')
    for word in words:
        if "\0" in word:
            raise UsageError("a word of the command holds a null byte, which no command line can")
    return words
