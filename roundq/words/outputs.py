"""Pure: names of output files in which what is known of an attempt is filled in: `%j`, `%A`, `%a`, `%x`.

As in other queues. `%%` is a %, and what else follows a % stays as it is, as does a name without any.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from roundq.words.job import Job

_PLACE = re.compile(r"%([0-9]{0,2})([jAaxNur%])", re.ASCII)
#: What is known before the job is in the queue.
_SHARED = frozenset("x%")
#: What tells the tasks of an array apart.
OF_A_TASK = frozenset("ja")


class Facts(NamedTuple):
    """What may be filled in. `restarts` counts from 0; `node` is empty while nobody knows it."""

    id: str
    user: str
    node: str = ""
    restarts: int = 0


def escaped(name: str) -> str:
    """A name in which nothing is to be filled in."""
    return name.replace("%", "%%")


def places(name: str) -> frozenset[str]:
    """Which letters stand for something in a name."""
    return frozenset(letter for _, letter in _PLACE.findall(name))


def is_shared(name: str) -> bool:
    """Whether all of the name is known before the job is in the queue."""
    return places(name) <= _SHARED


def filled(name: str, job: Job, facts: Facts) -> str:
    """The name of a file of a job.

    %j the job's id, %A that of its array or its own, %a the index of the task or 0, %x the job's name or
    that of its command, %N the node, %u the user, %r how often it was run again. A number after the % is
    the width to which what is a number is filled up with zeros.
    """
    if "%" not in name:
        return name
    array = job.array
    values = {
        "j": facts.id,
        "A": facts.id if array is None else array.id,
        "a": "0" if array is None else str(array.index),
        "x": job.jobname or job.command[0].rpartition("/")[2],
        "N": facts.node or "%N",
        "u": facts.user,
        "r": str(facts.restarts),
        "%": "%",
    }

    def value(found: re.Match[str]) -> str:
        text = values[found[2]]
        # What a name or an id holds must not lead to another directory.
        text = text.replace("/", "_")
        return text.zfill(int(found[1])) if found[1] and text.isdecimal() else text

    return _PLACE.sub(value, name)
