"""Pure: grids of parameters: `--param lr=0.1,0.01 --param seed=1-3` is six tasks, the last fastest."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from roundq.words.errors import UsageError
from roundq.words.job import TASKS_MAX

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_RANGE = re.compile(r"(-?[0-9]{1,18})-(-?[0-9]{1,18})(?::([0-9]{1,18}))?", re.ASCII)
_HINT = "write it as in lr=0.1,0.01 or seed=1-10:3; a backslash has a comma, or the whole, taken as it is"


class Parameter(NamedTuple):
    """What varies: its name, and the values that it takes in turn."""

    name: str
    values: Sequence[str]


def parse(text: str) -> Parameter:
    r"""The parameter that `--param TEXT` describes. Raises UsageError.

    A value of the form 1-10 or 1-10:3 is all whole numbers of that range; a backslash takes the next
    character as it is, so that `\1-10` is a value of four characters.
    """
    name, equals, listed = text.partition("=")
    if not equals:
        raise UsageError(f"parameter {_shown(text)}: it has no value", _HINT)
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"parameter {_shown(text)}: {_shown(name)} is no name",
            "a name has letters, digits and _, and does not begin with a digit",
        )
    if name == "index":
        raise UsageError(
            f"parameter {_shown(text)}: {{index}} is the number of the task", "name it otherwise"
        )
    values: list[str] = []
    for raw in _split(listed):
        values += _values(raw, text)
        if len(values) > TASKS_MAX:
            raise UsageError(f"parameter {name}: it has more than {TASKS_MAX:,} values", "use several runs")
    twice = next((value for value in values if values.count(value) > 1), None) if len(values) < 1000 else None
    if twice is not None:
        raise UsageError(f"parameter {name}: it has the value {_shown(twice)} twice", "leave one of them out")
    return Parameter(name, tuple(values))


def _split(listed: str) -> list[str]:
    """The values at the commas that no backslash stands before, with their backslashes."""
    return re.findall(r"(?:^|,)((?:\\.|[^,\\]|\\$)*)", listed, re.DOTALL)


def _values(raw: str, text: str) -> Sequence[str]:
    found = _RANGE.fullmatch(raw)
    if found is None:
        return [re.sub(r"\\(.)", r"\1", raw, flags=re.DOTALL)]
    first, last, step = int(found[1]), int(found[2]), int(found[3] or 1)
    if not step:
        raise UsageError(f"parameter {_shown(text)}: a step of 0 leads nowhere", _HINT)
    if last < first:
        raise UsageError(f"parameter {_shown(text)}: {raw} ends before it begins", _HINT)
    if (last - first) // step >= TASKS_MAX:
        raise UsageError(
            f"parameter {_shown(text)}: it has more than {TASKS_MAX:,} values", "use several runs"
        )
    return [str(number) for number in range(first, last + 1, step)]


def _shown(text: str) -> str:
    from roundq.words.quantities import visible

    text = visible(text)
    return f'"{text}"' if len(text) <= 100 else f'"{text[:100]}…"'


def check(parameters: Sequence[Parameter]) -> None:
    """Raises UsageError if two have one name, or if together they are too many tasks."""
    names = [parameter.name for parameter in parameters]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(
            f"option --param: there are two called {twice}", f"name all values in one: {twice}=1,2"
        )
    count = math.prod(len(parameter.values) for parameter in parameters)
    if count > TASKS_MAX:
        raise UsageError(
            f"option --param: that is {count:,} tasks, more than {TASKS_MAX:,}",
            "submit them in several parts",
        )


def product(parameters: Sequence[Parameter]) -> Iterator[tuple[str, ...]]:
    """Each combination of values, in the order of the parameters; the last one changes fastest."""
    return itertools.product(*(parameter.values for parameter in parameters))
