"""Pure: groups of jobs, which are sets and arrays: their names, and how many jobs of one may run at once.

The groups of a job are its set, written %NAME, and the array of which it is a task, written as the array's
id. A limit of a group holds in the whole cluster, for the one user whose jobs these are. Who counts them is
in `actors/survey`, who keeps to it in `policy` and `claims`, and where it is written in `records/control`.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from roundq.words.errors import UsageError
from roundq.words.job import Job
from roundq.words.names import is_foreign
from roundq.words.quantities import visible

#: Tells sets from ids and names, where a word may be any of them.
MARK = "%"
#: A set's name is part of the name of a file.
SET_BYTES_MAX = 100


def groups_of(job: Job) -> tuple[str, ...]:
    """The groups of a job: those whose limits it has to keep to."""
    of_set = (f"{MARK}{job.set}",) if job.set else ()
    return of_set if job.array is None else (*of_set, job.array.id)


def throttle_of(job: Job) -> int:
    """How many tasks of its array may run at once if nothing else was said; 0 for any number."""
    return job.array.throttle if job.array is not None else 0


def limits_of(groups: Iterable[str], throttle: int, asked: Mapping[str, int | None]) -> dict[str, int]:
    """Those groups of a job that have a limit, with how many jobs of each may run at once.

    `asked` is what `rq limit` said of groups, None for no limit. Of an array of which it says nothing the
    `throttle` holds with which it was submitted.
    """
    found = {}
    for group in groups:
        of_itself = None if group.startswith(MARK) else throttle or None
        if (most := asked.get(group, of_itself)) is not None:
            found[group] = most
    return found


class GroupLimit(NamedTuple):
    """How many jobs of a group may run at once, and how many have begun or were claimed."""

    most: int
    running: int

    @property
    def left(self) -> int:
        """How many more may start now; never below 0."""
        return max(0, self.most - self.running)


# ---------------------------------------------------------------- words


def parse_set(text: str) -> str:
    """The name of a set, with or without its %. Raises UsageError if no set can have it."""

    def refused(why: str, hint: str = "use letters, digits, plain spaces and punctuation") -> UsageError:
        return UsageError(f'set "{visible(text)}": {why}', hint)

    name = text.removeprefix(MARK)
    if not name:
        raise refused("it has no name", "name it as in %fit")
    for char in name:
        if 0xD800 <= ord(char) <= 0xDFFF:
            raise refused("its name is not UTF-8")
        if not char.isprintable():
            raise refused(f"its name contains {visible(char)}")
        if char == "/":
            raise refused("its name contains /", "it becomes part of a file name: leave the / out")
    if name in (".", ".."):
        raise refused("that is a directory", "use a name with letters or digits")
    if name.startswith((MARK, "-")) or name != name.strip() or is_foreign(f"{name}.limit"):
        raise refused("such a name would be taken for something else", "use a name with letters or digits")
    if len(name.encode()) > SET_BYTES_MAX:
        raise refused(f"its name is longer than {SET_BYTES_MAX} bytes", "use a shorter one")
    return name


def group_text(group: str) -> str:
    """A group in a sentence: "set fit", "array 17"."""
    name = group.removeprefix(MARK)
    return f"{'set' if name != group else 'array'} {visible(name)}"


def group_word(group: str) -> str:
    """A group as it is typed for a shell."""
    return visible(shlex.quote(group))
