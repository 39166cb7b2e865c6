"""Pure: the room of one node. The one place where cores, memory, GPUs and licenses are counted."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple

from roundq.words.quantities import ALL_CORES, format_memory, visible

#: Names with counts, sorted by name.
Counts = tuple[tuple[str, int], ...]


class Need(NamedTuple):
    """What a job takes of a node: cores (0: all of it), memory in bytes, GPUs, licenses."""

    cores: int
    memory: int = 0
    gpus: int = 0
    licenses: Counts = ()


class Room(NamedTuple):
    """What is left of a node: cores, memory in bytes, how many jobs are there, and whether one has it alone.

    Cores 0 of a need stand for all of the node, everywhere: such a job fits only where no job is. `threads`
    are hardware threads beside those of the cores; a job on threads takes these and no cores. `licenses`
    are those that may be taken here, the node's and the cluster's; one that is not named is not there.
    """

    cores: int
    memory: int
    jobs: int = 0
    whole: bool = False
    gpus: int = 0
    licenses: Counts = ()
    threads: int = 0

    def less(self, need: Need, on_threads: bool = False) -> Room:
        """This room after a job moved in, whether it fitted or not."""
        cores, threads, whole = self.cores, self.threads, self.whole
        # Never below 0: users without our rules may have taken more than there is.
        if need.cores == ALL_CORES:
            cores, whole = 0, True
        elif on_threads:
            threads = max(0, threads - need.cores)
        else:
            cores = max(0, cores - need.cores)
        licenses = self.licenses
        if need.licenses:
            taken = dict(need.licenses)
            licenses = tuple((name, max(0, free - taken.get(name, 0))) for name, free in licenses)
        gpus = max(0, self.gpus - need.gpus)
        return Room(cores, self.memory - need.memory, self.jobs + 1, whole, gpus, licenses, threads)

    def fits(self, need: Need, on_threads: bool = False) -> bool:
        """Whether a job may move in. One that asks for no memory needs none."""
        if self.whole or (need.memory and need.memory > self.memory) or need.gpus > self.gpus:
            return False
        if need.licenses and not covers(self.licenses, need.licenses):
            return False
        if need.cores == ALL_CORES:
            return self.jobs == 0 and not on_threads
        return need.cores <= (self.threads if on_threads else self.cores)


def covers(free: Counts, asked: Counts) -> bool:
    """Whether there are as many of each license as are asked for."""
    there = dict(free)
    return all(count <= there.get(name, 0) for name, count in asked)


def licenses_here(
    own: Mapping[str, int], pool: Mapping[str, int], pool_used: Mapping[str, int] | None = None
) -> Counts:
    """The licenses that jobs of a node may take: its own, and of the cluster's what jobs elsewhere leave.

    A name that the node has of its own does not mean the cluster's there.
    """
    used = pool_used or {}
    free = {name: max(0, count - used.get(name, 0)) for name, count in pool.items()}
    return tuple(sorted({**free, **own}.items()))


# ---------------------------------------------------------------- could it ever?


class Site(NamedTuple):
    """What a node is, whoever is on it: cores that it offers, memory in bytes, GPUs, features, licenses.

    `most` are the cores that a worker there fills at most, None for all that there are.
    """

    node: str
    cores: int
    memory: int
    gpus: int = 0
    features: Collection[str] = frozenset()
    licenses: Counts = ()
    most: int | None = None


def misfit(
    need: Need,
    site: Site,
    nodes: Iterable[str] = (),
    exclude: Iterable[str] = (),
    features: Iterable[str] = (),
) -> str | None:
    """Why a job can never start on the node, as half a sentence; None if it could.

    `nodes` and `exclude` are patterns of names as fnmatch(3) reads them: any of the first must match, none
    of the second may.
    """
    nodes = tuple(nodes)
    if nodes and not any(fnmatchcase(site.node, pattern) for pattern in nodes):
        return f"asks for {visible(' or '.join(nodes))}"
    for pattern in exclude:
        if fnmatchcase(site.node, pattern):
            return f"excludes {visible(pattern)}"
    for feature in features:
        if feature not in site.features:
            return f"needs {visible(feature)}, which {site.node} does not have"
    if site.cores < 1:
        return f"{site.node} offers no cores"
    if need.cores > site.cores:
        return f"needs {cores_text(need.cores)}, {site.node} has {site.cores}"
    if site.most is not None and (need.cores or site.cores) > site.most:
        what = cores_text(need.cores) if need.cores else "a whole node"
        return f"needs {what}, the worker on {site.node} fills {cores_text(site.most)}"
    if need.memory > site.memory:
        has = below_text(site.memory, need.memory)
        return f"needs {format_memory(need.memory)} of memory, {site.node} has {has}"
    if need.gpus > site.gpus:
        return f"needs {gpus_text(need.gpus)}, {site.node} has {site.gpus or 'none'}"
    if need.licenses and not covers(site.licenses, need.licenses):
        there = dict(site.licenses)
        name, count = next((name, count) for name, count in need.licenses if count > there.get(name, 0))
        few = "there are none" if not there.get(name) else f"there {_are(there[name])}"
        return f"needs {licenses_text(name, count)}, {few}"
    return None


# ---------------------------------------------------------------- words


def cores_text(count: int) -> str:
    """ "1 core", "8 cores"."""
    return "1 core" if count == 1 else f"{count} cores"


def gpus_text(count: int) -> str:
    """ "1 GPU", "2 GPUs"."""
    return "1 GPU" if count == 1 else f"{count} GPUs"


def licenses_text(name: str, count: int) -> str:
    """ "1 license of matlab", "2 licenses of matlab"."""
    return f"{count} {'license' if count == 1 else 'licenses'} of {visible(name)}"


def _are(count: int) -> str:
    return "is 1" if count == 1 else f"are {count}"


def below_text(size: int, needed: int) -> str:
    """A size in bytes that is too small, so that it also reads as too small beside what is needed."""
    text = format_memory(size)
    return f"just under {text}" if text == format_memory(needed) else text
