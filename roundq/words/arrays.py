"""Pure: arrays: which indices their tasks have, the ids of the tasks, and how many ids are told in few words.

A task's id is NUMBER_INDEX, for array NUMBER; on mounts where each node counts for itself, and arrays are
NUMBER.NODE, it is NUMBER_INDEX.NODE. Indices are written as other queues write them: `0-99:2%8`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from roundq.words.errors import UsageError
from roundq.words.job import TASKS_MAX

#: An index is part of a name, and read by programs that keep it in 32 bits.
INDEX_MAX = 2_147_483_647
_PART = re.compile(r"([0-9]+)(?:-([0-9]+)(?::([0-9]+))?)?", re.ASCII)
_TASK = re.compile(r"([0-9]+)_(0|[1-9][0-9]{0,18})(\..+)?", re.ASCII | re.DOTALL)
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
        steps = {after - before for before, after in zip(self.indices, self.indices[1:], strict=False)}
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


# ---------------------------------------------------------------- ids


def task_id(array_id: str, index: int) -> str:
    """The id of one task of an array."""
    number, dot, node = array_id.partition(".")
    return f"{number}_{index}{dot}{node}"


def task_of(job_id: str) -> tuple[str, int] | None:
    """The array and the index that the id of a task names, or None for the id of any other job."""
    found = _TASK.fullmatch(job_id)
    return None if found is None else (f"{found[1]}{found[3] or ''}", int(found[2]))


# ---------------------------------------------------------------- many in few words


def folded_indices(indices: Iterable[int]) -> str:
    """Indices in few words: "0-9,12"; of two neighbours "4,5"."""
    said = []
    for first, last in runs(sorted(set(indices))):
        said.append(str(first) if first == last else f"{first}{'-' if last - first > 1 else ','}{last}")
    return ",".join(said)


def folded(ids: Iterable[str]) -> list[str]:
    """The ids, in the order in which each array or other job was met first, with the tasks of an array in one
    word: "17_[0-9,12]"; of a single task "17_3"."""
    found: dict[str, list[int] | None] = {}
    for job_id in ids:
        task = task_of(job_id)
        if task is None:
            found[job_id] = None
            continue
        of_array = found.setdefault(f"{task[0]}_", [])
        assert of_array is not None
        of_array.append(task[1])
    return [word if indices is None else folded_tasks(word[:-1], indices) for word, indices in found.items()]


def folded_tasks(array_id: str, indices: Iterable[int]) -> str:
    """Tasks of one array in one word, as selectors take it: "17_[0-9,12]"."""
    unique = sorted(set(indices))
    if len(unique) == 1:
        return task_id(array_id, unique[0])
    number, dot, node = array_id.partition(".")
    return f"{number}_[{folded_indices(unique)}]{dot}{node}"


def runs(ascending: Iterable[int]) -> list[tuple[int, int]]:
    """The first and the last of each run of neighbours among ascending numbers."""
    found: list[tuple[int, int]] = []
    for number in ascending:
        if found and number == found[-1][1] + 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found
