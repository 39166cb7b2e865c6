"""How the CPUs that we may use hang together: cores, caches, packages, NUMA nodes, from /sys.

Kernel documentation cputopology and ABI/testing/sysfs-devices-system-cpu. Nothing of it needs to be there:
where the system does not tell, each logical CPU is a core, and all are equally near.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

from roundq.words.allocation import Unit

#: More than any machine has: what says otherwise is not believed.
_CPUS_MAX = 1 << 16
_BYTES_MAX = 1 << 16


def cores(allowed: Collection[int], root: str = "") -> tuple[Unit, ...]:
    """The cores of these CPUs, in an order by groups; each offers its first thread.

    Of a core only the hardware threads count that are allowed. `root` stands before /sys.
    """
    allowed = frozenset(allowed)
    told = {cpu: _siblings(cpu, root) for cpu in allowed}
    found: list[tuple[tuple[int, ...], list[frozenset[int]]]] = []
    seen: set[int] = set()
    nodes = _nodes(root)
    for cpu in sorted(allowed):
        if cpu not in seen:
            threads = tuple(sorted(told[cpu] & allowed - seen))
            seen.update(threads)
            # What one core has for itself makes it near to nobody.
            shared = [group for group in _shared(cpu, nodes, root) if not group <= told[cpu]]
            found.append((threads, shared))
    depth = max((len(shared) for _, shared in found), default=0)
    units = []
    for threads, shared in found:
        # A group is called by the first CPU in it, whether that is ours or not.
        names = [min(group) for group in shared]
        units.append(Unit(threads, tuple(names + [threads[0]] * (depth - len(names)))))
    return tuple(sorted(units, key=lambda unit: (unit.groups, unit.cpus)))


def offering(units: Sequence[Unit], cores: int | str) -> tuple[Unit, ...]:
    """These units with as many CPUs offered as cores as are configured: a number, "physical" or "logical".

    What is beyond a smaller number is left out, and so are its threads. None at all if the number is larger
    than there are CPUs: then nobody can have one of his own.
    """
    if cores == "physical":
        return tuple(unit._replace(offered=1) for unit in units)
    if cores == "logical":
        return tuple(unit._replace(offered=len(unit.cpus)) for unit in units)
    left = int(cores)
    if left > sum(len(unit.cpus) for unit in units):
        return ()
    offered = [0] * len(units)
    for rank in range(max((len(unit.cpus) for unit in units), default=0)):
        for at, unit in enumerate(units):
            if left and rank < len(unit.cpus):
                offered[at] += 1
                left -= 1
    return tuple(unit._replace(offered=count) for unit, count in zip(units, offered, strict=True) if count)


def cpu_set(text: str) -> frozenset[int]:
    """The CPUs of a list as the kernel writes it, such as "0-3,8"; none if it is no such list."""
    found: set[int] = set()
    for part in text.strip().split(","):
        run = re.fullmatch(r"([0-9]{1,6})(?:-([0-9]{1,6}))?", part)
        if run is None:
            return frozenset()
        first, last = int(run[1]), int(run[2] or run[1])
        if last >= _CPUS_MAX:
            return frozenset()
        found.update(range(first, last + 1))
    return frozenset(found)


# ---------------------------------------------------------------- what /sys says


def _siblings(cpu: int, root: str) -> frozenset[int]:
    """The hardware threads of the core that this CPU is in, itself included."""
    # The first is the newer name of the second.
    return _first_set(cpu, ("topology/core_cpus_list", "topology/thread_siblings_list"), root) | {cpu}


def _shared(cpu: int, nodes: Iterable[frozenset[int]], root: str) -> list[frozenset[int]]:
    """The groups that a CPU is in, the widest first; each is a part of the one before."""
    found = {
        _first_set(cpu, ("topology/package_cpus_list", "topology/core_siblings_list"), root),
        _first_set(cpu, ("topology/die_cpus_list",), root),
        _first_set(cpu, ("topology/cluster_cpus_list",), root),
        *(node for node in nodes if cpu in node),
        *_caches(cpu, root),
    }
    chain: list[frozenset[int]] = []
    for group in sorted(found, key=lambda group: (-len(group), sorted(group))):
        # What crosses another, or is no group of this CPU, makes nothing nearer.
        if cpu in group and (not chain or group < chain[-1]):
            chain.append(group)
    return chain


def _caches(cpu: int, root: str) -> list[frozenset[int]]:
    """The CPUs that share each cache with this one; that for instructions alone says nothing new."""
    found = []
    for index in range(10):
        text = _text(f"{root}/sys/devices/system/cpu/cpu{cpu}/cache/index{index}/shared_cpu_list")
        if not text:
            break
        found.append(cpu_set(text))
    return found


def _nodes(root: str) -> list[frozenset[int]]:
    """The CPUs of each NUMA node."""
    directory = f"{root}/sys/devices/system/node"
    return [
        cpu_set(_text(f"{directory}/node{node}/cpulist"))
        for node in sorted(cpu_set(_text(f"{directory}/online")))
    ]


def _first_set(cpu: int, names: Iterable[str], root: str) -> frozenset[int]:
    """The CPUs that the first of these files names that can be understood, none if there is none."""
    for name in names:
        if found := cpu_set(_text(f"{root}/sys/devices/system/cpu/cpu{cpu}/{name}")):
            return found
    return frozenset()


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_BYTES_MAX)
    except OSError:
        return ""
