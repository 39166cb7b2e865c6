"""Ids of jobs as a person writes them, `17,20-25,31_[0-9:2,12]`, and as messages name many of them.

Pure. Whether such jobs exist is not asked here.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from roundq.words.errors import UsageError

#: Digits of a number in a list: ids have as many at most (`ids`).
DIGITS_MAX = 18
#: Parts of one list; a shell gives no longer words anyway.
PARTS_MAX = 100_000
HINT = "write 17, 20-25, 17_3, 17_[0-9], or several with commas: 17,20-25"

_NUMBER = r"[0-9]{1,18}"
_SPAN = re.compile(rf"({_NUMBER})-({_NUMBER})", re.ASCII)
#: A node's name may hold a "_"; so may no index.
_TASKS = re.compile(
    rf"({_NUMBER}(?:\.[^\s,\[\]]+?)?)_(?:\[([^\[\]]*)\]|({_NUMBER}-{_NUMBER}(?::{_NUMBER})?))", re.ASCII
)
_ONE = re.compile(rf"{_NUMBER}(?:\.[^\s,\[\]=<>!()&|\"*?%]+|_{_NUMBER})?", re.ASCII)
_STEPS = re.compile(rf"({_NUMBER})(?:-({_NUMBER})(?::({_NUMBER}))?)?", re.ASCII)
#: What is written in digits and these is meant as a list, right or wrong.
_MEANT = re.compile(r"[0-9][0-9,_:\[\]\s-]*", re.ASCII)


class Indices(NamedTuple):
    """Indices of tasks from `first` to `last`, by `step`."""

    first: int
    last: int
    step: int = 1

    def __contains__(self, index: object) -> bool:
        return (
            isinstance(index, int)
            and self.first <= index <= self.last
            and not (index - self.first) % self.step
        )

    def __str__(self) -> str:
        if self.first == self.last:
            return str(self.first)
        return f"{self.first}-{self.last}{f':{self.step}' if self.step > 1 else ''}"


class One(NamedTuple):
    """One id: that job, or if there is none all tasks of the array of this id."""

    id: str

    def has(self, job_id: str) -> bool:
        """Whether this means that job, if no job has this very id."""
        # A hundred thousand others are asked about, too.
        return job_id == self.id or (job_id.startswith(f"{self.id}_") and array_of(job_id) == self.id)

    def __str__(self) -> str:
        return self.id


class Span(NamedTuple):
    """All numbers from `first` to `last`; of an array all tasks."""

    first: int
    last: int

    def has(self, job_id: str) -> bool:
        """Whether this means that job."""
        number = (array_of(job_id) or job_id) if "_" in job_id else job_id
        return is_number(number) and self.first <= int(number) <= self.last

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


class Tasks(NamedTuple):
    """Some tasks of one array."""

    array: str
    indices: tuple[Indices, ...]

    def has(self, job_id: str) -> bool:
        """Whether this means that job."""
        if not job_id.startswith(f"{self.array}_") or array_of(job_id) != self.array:
            return False
        index = int(job_id.rpartition("_")[2])
        return any(index in some for some in self.indices)

    def __str__(self) -> str:
        return f"{self.array}_[{','.join(map(str, self.indices))}]"


Part = One | Span | Tasks


@dataclass(frozen=True, slots=True)
class Ids:
    """A whole list, as it was written, and its parts. One question takes no longer of a long list."""

    text: str
    parts: tuple[Part, ...]
    _ones: frozenset[str] = field(init=False, repr=False, compare=False)
    _tasks: Mapping[str, tuple[Indices, ...]] = field(init=False, repr=False, compare=False)
    #: Where each run of numbers begins, ascending, and where it ends.
    _spans: tuple[list[int], list[int]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        tasks: dict[str, tuple[Indices, ...]] = {}
        spans: list[list[int]] = []
        for part in self.parts:
            if isinstance(part, Tasks):
                tasks[part.array] = (*tasks.get(part.array, ()), *part.indices)
        for first, last in sorted(part for part in self.parts if isinstance(part, Span)):
            if spans and first <= spans[-1][1]:
                spans[-1][1] = max(last, spans[-1][1])
            else:
                spans.append([first, last])
        ones = frozenset(part.id for part in self.parts if isinstance(part, One))
        object.__setattr__(self, "_ones", ones)
        object.__setattr__(self, "_tasks", tasks)
        object.__setattr__(self, "_spans", ([first for first, _ in spans], [last for _, last in spans]))

    def has(self, job_id: str) -> bool:
        """Whether one of the parts means that job."""
        if job_id in self._ones:
            return True
        array = array_of(job_id) if "_" in job_id else ""
        if array and (
            array in self._ones
            or any(int(job_id.rpartition("_")[2]) in some for some in self._tasks.get(array, ()))
        ):
            return True
        begins, ends = self._spans
        number = array or job_id
        if not begins or not is_number(number):
            return False
        place = bisect_right(begins, int(number))
        return place > 0 and int(number) <= ends[place - 1]


def array_of(job_id: str) -> str:
    """The id of the array of which a job is a task, by its own id; "" if it is none."""
    array, _, index = job_id.rpartition("_")
    return array if is_number(index) and is_number(array.partition(".")[0]) else ""


def is_number(text: str) -> bool:
    """Whether this is a number as ids have it: "007" is a name that somebody gave a file."""
    return text.isdecimal() and text.isascii() and len(text) <= DIGITS_MAX and (text[0] != "0" or text == "0")


def unmet(parts: Iterable[Part], ids: Iterable[str]) -> list[Part]:
    """Those parts that mean none of these jobs."""
    known = set(ids)
    of_arrays: dict[str, list[str]] = {}
    for job_id in known:
        of_arrays.setdefault(array_of(job_id), []).append(job_id)
    numbers = sorted(int(one) for one in (*known, *of_arrays) if one and is_number(one))

    def is_met(part: Part) -> bool:
        if isinstance(part, Tasks):
            return any(part.has(job_id) for job_id in of_arrays.get(part.array, ()))
        if isinstance(part, One):
            return part.id in known or part.id in of_arrays
        place = bisect_left(numbers, part.first)
        return place < len(numbers) and numbers[place] <= part.last

    return [part for part in parts if not is_met(part)]


def is_meant(text: str) -> bool:
    """Whether a word can only be meant as a list of ids, also if it is a wrong one."""
    return _MEANT.fullmatch(text) is not None


def parse(text: str) -> Ids:
    """The list that this text is, all of it. Raises ListError, which says where it is wrong."""
    if not text.strip():
        raise ListError(0, "there are no ids")
    parts: list[Part] = []
    for column, part in _split(text):
        if len(parts) >= PARTS_MAX:
            raise ListError(column, f"there are more than {PARTS_MAX} parts")
        parts.append(_part(part, column))
    return Ids(text.strip(), tuple(parts))


class ListError(UsageError):
    """A list of ids that is wrong at a column, counted from 0."""

    def __init__(self, column: int, why: str, hint: str = HINT) -> None:
        super().__init__(why, hint)
        self.column, self.why = column, why


def _split(text: str) -> Iterator[tuple[int, str]]:
    """Parts between the commas that are not in brackets, with their columns."""
    begin, is_within = 0, False
    for place, char in enumerate(f"{text},"):
        if char == "," and (not is_within or place == len(text)):
            part = text[begin:place]
            yield begin + len(part) - len(part.lstrip()), part.strip()
            begin = place + 1
        elif char in "[]":
            is_within = char == "["


def _part(part: str, column: int) -> Part:
    if not part:
        raise ListError(column, "an id is missing")
    if found := _SPAN.fullmatch(part):
        first, last = int(found[1]), int(found[2])
        if last < first:
            raise ListError(column, f"the range {part} goes backwards", f"write {last}-{first}")
        return Span(first, last)
    if found := _TASKS.fullmatch(part):
        inner = found[2] if found[2] is not None else found[3]
        return Tasks(found[1], tuple(_indices(inner, column + len(found[1]) + 1 + (found[2] is not None))))
    if _ONE.fullmatch(part):
        return One(part)
    shown = part if len(part) <= 30 else f"{part[:30]}…"
    raise ListError(column, f'"{shown}" is no id and no range of ids')


def _indices(text: str, column: int) -> Iterator[Indices]:
    for at, one in _split(text):
        found = _STEPS.fullmatch(one)
        if found is None:
            what = f'"{one[:30]}" is no index and no range of indices' if one else "an index is missing"
            raise ListError(column + at, what, "write 17_[0-9], 17_[0-9:2] or 17_[1,5,7-9]")
        first, last, step = int(found[1]), int(found[2] or found[1]), int(found[3] or 1)
        if last < first:
            raise ListError(column + at, f"the range {one} goes backwards", f"write {last}-{first}")
        if not step:
            raise ListError(column + at, "a step of 0 leads nowhere", "write 17_[0-9:2]")
        yield Indices(first, last, step)


# ---------------------------------------------------------------- writing


def brief(ids: Iterable[str]) -> str:
    """Ids as a message names many of them, and as they can be typed again: "17_[0-9,12], 20-25, 31"."""
    numbers: list[int] = []
    tasks: dict[str, list[int]] = {}
    others: list[str] = []
    for job_id in dict.fromkeys(ids):
        if array := array_of(job_id):
            tasks.setdefault(array, []).append(int(job_id.rpartition("_")[2]))
        elif is_number(job_id):
            numbers.append(int(job_id))
        else:
            others.append(job_id)
    parts: list[tuple[tuple[int, int, str], str]] = [
        ((0, first, ""), _run(first, last)) for first, last in _runs(numbers)
    ]
    for array, indices in tasks.items():
        number, _, node = array.partition(".")
        runs = [_run(first, last) for first, last in _runs(indices)]
        inner = runs[0] if len(runs) == 1 else f"[{','.join(runs)}]"
        parts.append(((1 if node else 0, int(number), node), f"{array}_{inner}"))
    parts += [((2, 0, one), one) for one in others]
    return ", ".join(text for _, text in sorted(parts))


def brief_indices(indices: Iterable[int]) -> str:
    """Indices of tasks in few words: "0-9,12"."""
    return ",".join(_run(first, last) for first, last in _runs(indices))


def _run(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def _runs(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Runs of successive numbers, ascending; two in a row are two."""
    run: list[int] = []
    for number in (*sorted(set(numbers)), -1):
        if run and number == run[-1] + 1:
            run.append(number)
            continue
        if len(run) > 2:
            yield run[0], run[-1]
        else:
            yield from ((one, one) for one in run)
        run = [number]
