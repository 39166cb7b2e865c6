"""Pure: which tasks an array has: their indices, written as in other queues, `0-99:2%8`, and their ids."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from roundq.words.errors import UsageError
from roundq.words.job import TASKS_MAX

#: An index is part of a name, and read by programs that keep it in 32 bits.
INDEX_MAX = 2_147_483_647
_PART = re.compile(r"([0-9]+)(?:-([0-9]+)(?::([0-9]+))?)?", re.ASCII)
_HINT = "write indices as in 0-99, 1,5,7-9 or 0-99:2%8: every second one, at most 8 at once"


class Spec(NamedTuple):
    """The indices of the tasks of an array, ascending, and how many may run at once, 0 for any number."""

    indices: Sequence[int]
    throttle: int = 0

    @property
    def step(self) -> int:
        """The distance of all neighbouring indices, or 1 if it is not the same everywhere."""
        if isinstance(self.indices, range):
            return self.indices.step if len(self.indices) > 1 else 1
        steps = {after - before for before, after in itertools.pairwise(self.indices)}
        return steps.pop() if len(steps) == 1 else 1


def parse_spec(text: str) -> Spec:
    """The tasks that `--array TEXT` asks for. Raises UsageError, which names the part that is wrong.

    An index that is named twice is one task.
    """
    listed, percent, most = text.partition("%")
    throttle = 0
    if percent:
        throttle = _number(most, TASKS_MAX, f"array {_shown(text)}: after % stands how many may run at once")
        if not throttle:
            raise UsageError(f"array {_shown(text)}: with %0 no task could ever run", "leave %0 out")
    parts = [_part(part, text) for part in listed.split(",")]
    if sum(map(len, parts)) > TASKS_MAX:
        raise UsageError(
            f"array {_shown(text)}: it has {sum(map(len, parts)):,} tasks, more than {TASKS_MAX:,}",
            "submit it in several parts",
        )
    if len(parts) == 1:
        return Spec(parts[0], throttle)
    return Spec(tuple(sorted(set().union(*parts))), throttle)


def _part(part: str, text: str) -> range:
    found = _PART.fullmatch(part)
    if found is None:
        what = f"{_shown(part)} is no index" if part else "an index is missing"
        raise UsageError(f"array {_shown(text)}: {what}", _HINT)
    first = _number(found[1], INDEX_MAX, f"array {_shown(text)}: an index")
    last = first if found[2] is None else _number(found[2], INDEX_MAX, f"array {_shown(text)}: an index")
    step = 1 if found[3] is None else _number(found[3], INDEX_MAX, f"array {_shown(text)}: a step")
    if not step:
        raise UsageError(f"array {_shown(text)}: a step of 0 leads nowhere", _HINT)
    if last < first:
        raise UsageError(f"array {_shown(text)}: {_shown(part)} ends before it begins", _HINT)
    return range(first, last + 1, step)


def _number(digits: str, most: int, what: str) -> int:
    if not (digits.isascii() and digits.isdecimal()):
        raise UsageError(f"{what}, and {_shown(digits)} is no number", _HINT)
    # Python refuses to read a number of thousands of digits.
    if len(digits.lstrip("0")) > 18 or int(digits) > most:
        raise UsageError(f"{what}: {_shown(digits)} is more than {most:,}", _HINT)
    return int(digits)


def _shown(text: str) -> str:
    from roundq.words.quantities import visible

    text = visible(text)
    return f'"{text}"' if len(text) <= 100 else f'"{text[:100]}…"'


def task_id(array_id: str, index: int) -> str:
    """The id of one task of an array; `ranges.array_of` is the way back."""
    return f"{array_id}_{index}"


def chunk_text(indices: Iterable[int], results: Iterable[tuple[int, int]]) -> str:
    """How the tasks of a chunk ended: "0-3,5 ended well; 4: exit code 3; 6: signal 9; 7-9 did not end"."""
    # Only who shows one chunk needs it.
    from roundq.words.ranges import brief_indices

    ended = dict(results)
    alike: dict[int | None, list[int]] = {}
    for index in sorted(indices):
        alike.setdefault(ended.get(index), []).append(index)
    said = []
    for code in sorted(alike, key=lambda code: (code is None, code != 0, code or 0)):
        tasks = brief_indices(alike[code])
        if code is None:
            said.append(f"{tasks} did not end")
        elif not code:
            said.append(f"{tasks} ended well")
        else:
            said.append(f"{tasks}: {f'exit code {code}' if code > 0 else f'signal {-code}'}")
    return "; ".join(said)
