"""The title of a supervisor: what everybody on its node may know of a job whose card cannot be read.

As in `rq: job 17, 4 cores, 16G, cpus 0-3, gpus 0 1`; roundqd(8) has it. No names, no commands.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from typing import NamedTuple

from roundq.words.errors import UsageError
from roundq.words.quantities import GIB, KIB, MIB, TIB, parse_memory
from roundq.words.room import cores_text

#: What `ps -o comm` shows for a supervisor; the kernel keeps 15 bytes.
SUPERVISOR = "rq-supervisor"
#: More than an honest title has, and more cores than any node.
CHARS_MAX, CORES_MAX = 4096, 100_000
#: More logical CPUs than Linux knows (NR_CPUS), more GPUs than any node has, and more parts than a title.
CPUS_MAX, GPUS_MAX, _PARTS_MAX = 8192, 256, 16
_HEAD = re.compile(r"rq: job ([!-+\--~]{1,120}), ([0-9]{1,6}) cores?")
_CPUS = re.compile(r"[0-9]{1,6}(-[0-9]{1,6})?( [0-9]{1,6}(-[0-9]{1,6})?)*")
_THREADS = "threads"


class Title(NamedTuple):
    """What a title tells of a job: its id, masked if it is no number, and what it was given. Bytes."""

    id: str
    cores: int
    memory: int = 0
    cpus: tuple[int, ...] = ()
    gpus: tuple[str, ...] = ()
    threads: bool = False


def text(title: Title) -> str:
    """The title as a process bears it."""
    parts = [f"rq: job {title.id}", cores_text(title.cores)]
    parts += [_exactly(title.memory)] if title.memory else []
    parts += [_THREADS] if title.threads else []
    parts += [f"cpus {_ranges(title.cpus)}"] if title.cpus else []
    # An id with a blank or comma would read as something else; none has.
    parts += [f"gpus {' '.join(title.gpus)}"] if title.gpus else []
    return ", ".join(parts)


def parse(said: str, cpus_most: int = CPUS_MAX) -> Title | None:
    """What a title says, which somebody may have invented; None if it is none.

    What is not known is left out, and so are CPUs that are no ascending ranges, or more than the cores, or
    than `cpus_most`: those that the node has.
    """
    head = _HEAD.match(said[:CHARS_MAX])
    if head is None or said[head.end() : head.end() + 1] not in ("", ","):
        return None
    title = Title(head[1], min(int(head[2]), CORES_MAX))
    if not title.cores:
        # Elsewhere it is all of a node; a supervisor knows how many that are.
        return None
    for part in said[head.end() : CHARS_MAX].split(", ", _PARTS_MAX)[1:_PARTS_MAX]:
        if part.startswith("cpus ") and _CPUS.fullmatch(part[5:]):
            title = title._replace(cpus=_numbers(part[5:], min(title.cores, cpus_most)))
        elif part.startswith("gpus "):
            title = title._replace(gpus=tuple(part[5:].split(None, GPUS_MAX)[:GPUS_MAX]))
        elif part == _THREADS:
            title = title._replace(threads=True)
        else:
            try:
                title = title._replace(memory=min(parse_memory(part, 1), 1 << 52))
            except UsageError:
                continue
    return title


def _exactly(size: int) -> str:
    """Bytes in the largest unit of which they are a whole number: others count with them."""
    for factor, name in ((TIB, "T"), (GIB, "G"), (MIB, "M"), (KIB, "K")):
        if not size % factor:
            return f"{size // factor}{name}"
    return f"{size}B"


def _ranges(numbers: Iterable[int]) -> str:
    """Numbers with neighbours joined: "0-3 8"."""
    found: list[list[int]] = []
    for number in sorted(set(numbers)):
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return " ".join(f"{first}-{last}" if last > first else f"{first}" for first, last in found)


def _numbers(said: str, most: int) -> tuple[int, ...]:
    """The numbers of ascending ranges; none if there are more: that is known before one of them is made."""
    ranges: list[range] = []
    count, end = 0, 0
    for one in said.split():
        first, _, last = one.partition("-")
        numbers = range(int(first), int(last or first) + 1)
        count += len(numbers)
        if numbers.start < end or not numbers or count > most:
            return ()
        ranges.append(numbers)
        end = numbers.stop
    return tuple(itertools.chain.from_iterable(ranges))
