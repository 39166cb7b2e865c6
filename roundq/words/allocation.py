"""Pure: which CPUs and GPUs of a node a job gets: near each other, and never what is taken.

A core is a unit: its hardware threads, and the groups with which it shares something, such as a
package or a cache, the widest first. Choices are the same for everybody who sees the same; who claimed the
same at the same moment finds that out afterwards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

#: Whose GPUs a node has, where that is known; all of one node are of one maker.
NVIDIA, AMD = "nvidia", "amd"


class Unit(NamedTuple):
    """A core: the logical CPUs that it has for us, in order, and the groups that it is in, the widest first.

    Two units are the nearer, the more groups they have in common from the left. The first `offered`
    of its CPUs are what jobs get as cores; the others are spare threads.
    """

    cpus: tuple[int, ...]
    groups: tuple[int, ...] = ()
    offered: int = 1


class Gpu(NamedTuple):
    """A GPU. `id` is its number on this node, as the variables of its libraries want it; `memory` is in
    bytes, 0 if unknown; `busy`: a stranger computes on it, or may; `groups` as those of a unit."""

    id: str
    name: str = ""
    memory: int = 0
    busy: bool = False
    groups: tuple[int, ...] = ()


class _Place(NamedTuple):
    """What can be chosen: its place in what was given, and the groups that it is in."""

    at: int
    groups: tuple[int, ...]


def choose_cpus(units: Sequence[Unit], taken: Collection[int], count: int) -> tuple[int, ...] | None:
    """`count` CPUs for as many cores, sorted; None if so many are not free.

    Cores of which nobody has a hardware thread go first. Without units nothing is chosen: ().
    """
    return _choose(units, taken, count, lambda unit: unit.cpus[: unit.offered])


def choose_threads(units: Sequence[Unit], taken: Collection[int], count: int) -> tuple[int, ...] | None:
    """`count` spare hardware threads, sorted; None if so many are not free.

    Threads of cores that are idle go first: who runs there disturbs nobody until their cores are granted.
    """
    return _choose(units, taken, count, lambda unit: unit.cpus[unit.offered :])


def spare_threads(units: Iterable[Unit]) -> int:
    """How many spare threads there are."""
    return sum(max(0, len(unit.cpus) - unit.offered) for unit in units)


def choose_gpus(gpus: Sequence[Gpu], taken: Collection[str], count: int) -> tuple[str, ...] | None:
    """The ids of `count` GPUs that nobody has and on which no stranger computes, in the order of `gpus`;
    None if there are not so many."""
    free = [_Place(at, gpu.groups) for at, gpu in enumerate(gpus) if not gpu.busy and gpu.id not in taken]
    if len(free) < count:
        return None
    return tuple(gpus[one.at].id for one in sorted(_near(free, count)))


def cpus_text(cpus: Iterable[int]) -> str:
    """CPUs as taskset(1) and /sys write them: "0-3,8"."""
    runs: list[list[int]] = []
    for cpu in sorted(set(cpus)):
        if runs and cpu == runs[-1][1] + 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def _choose(
    units: Sequence[Unit], taken: Collection[int], count: int, of: Callable[[Unit], tuple[int, ...]]
) -> tuple[int, ...] | None:
    if not units:
        return ()
    # Each thread of a core is a choice, and the core its innermost group.
    cpus: list[int] = []
    ranks: dict[tuple[int, bool], list[_Place]] = {}
    for core, unit in enumerate(units):
        is_busy = any(cpu in taken for cpu in unit.cpus)
        for rank, cpu in enumerate(cpu for cpu in of(unit) if cpu not in taken):
            # To share a core with another is as good as with oneself; but one's own is nearer.
            place = _Place(len(cpus), (*unit.groups, core))
            ranks.setdefault((rank + is_busy, is_busy), []).append(place)
            cpus.append(cpu)
    if len(cpus) < count:
        return None
    chosen: list[_Place] = []
    for _, places in sorted(ranks.items()):
        chosen += _near(places, min(count - len(chosen), len(places)))
    return tuple(sorted(cpus[one.at] for one in chosen))


def _near(free: list[_Place], count: int) -> list[_Place]:
    """`count` of these, near each other, from groups in which little else is free."""
    if count <= 0:
        return []
    depth = _depth(free)
    sizes = Counter(one.groups[:level] for one in free for level in range(1, depth + 1))

    def cost(group: list[_Place]) -> tuple[int, ...]:
        """What makes it a worse choice: more parts of it are needed, or more is left in and around it."""
        around = [sizes[group[0].groups[:wider]] for wider in range(level - 1, 0, -1)]
        return (_parts(group, level, count), len(group), *around, group[0].at)

    # The narrowest that has so many; of those the one that leaves the least behind.
    for level in range(depth, 0, -1):
        fitting = [group for group in _grouped(free, level) if len(group) >= count]
        if fitting:
            return _filled(min(fitting, key=cost), level, count)
    return _filled(free, 0, count)


def _filled(group: list[_Place], level: int, count: int) -> list[_Place]:
    """`count` of a group of which no part has so many: the largest part, the rest from what fits best."""
    if count == len(group) or level == _depth(group):
        return group[:count]
    largest = max(_grouped(group, level + 1), key=lambda part: (len(part), -part[0].at))
    whole = set(largest)
    return largest + _near([one for one in group if one not in whole], count - len(largest))


def _depth(places: list[_Place]) -> int:
    return min(len(one.groups) for one in places)


def _grouped(places: list[_Place], level: int) -> list[list[_Place]]:
    """Those that have their first `level` groups in common."""
    groups: dict[tuple[int, ...], list[_Place]] = {}
    for one in places:
        groups.setdefault(one.groups[:level], []).append(one)
    return list(groups.values())


def _parts(group: list[_Place], level: int, count: int) -> int:
    """How many parts of a group are needed at least."""
    needed = 0
    for size in sorted((len(part) for part in _grouped(group, level + 1)), reverse=True):
        if count <= 0:
            break
        count -= size
        needed += 1
    return needed
