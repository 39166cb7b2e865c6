"""This node: its name, and how much of it this user's processes may use.

Called by the daemon each round. Capacity is what we may use, not what is built in: CPU
affinity and cpusets, CPU quotas and memory limits of control groups (versions 1 and 2,
at every level above us) make it smaller. What the machine has in all psutil tells; it knows
none of these limits. It is imported when memory is first asked for (11 ms), which no command
that submits does.
"""

from __future__ import annotations

import hashlib
import os
import re
from typing import TYPE_CHECKING

from roundq.words.errors import RoundqError
from roundq.world import cgroup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from roundq.words.allocation import Unit

#: Overrides the host name, for tests and for nodes that share one.
NAME_VARIABLE = "RQ_NODE"
#: Set inside jobs, as RQ_NODE is; see `Node.name`.
_JOB_VARIABLE = "RQ_JOB_ID"
#: A node's name is part of file names such as ID@NODE.job, of at most 255 bytes in all.
_MACHINE_ID_BYTES = 32
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
#: cgroup-v1/memory: a limit that was never set reads as the largest number of pages that fits.
_NO_LIMIT_BYTES_MIN = 1 << 60


def hardware_threads() -> int:
    """Those of the machine, also where we may not run."""
    return os.cpu_count() or 1


class Node:
    """The facts of one node, read anew at each call.

    `root` stands before /proc and /sys, and `affinity` gives the CPU numbers that the scheduler allows
    us (sched_getaffinity(2), which includes cpusets); both are for tests.
    """

    def __init__(
        self,
        environ: Mapping[str, str] | None = None,
        root: str = "",
        affinity: Callable[[], set[int]] = lambda: os.sched_getaffinity(0),
    ) -> None:
        self._environ = os.environ if environ is None else environ
        self._root = root
        self._affinity = affinity
        # Topology changes with the affinity only; on a large node it is hundreds of files.
        self._cores_of: dict[frozenset[int], tuple[Unit, ...]] = {}
        self._features: tuple[str, ...] | None = None

    def machine(self) -> str:
        """What tells this machine from others, after a reboot too, by machine-id(5); empty if unknown."""
        try:
            with open(f"{self._root}/etc/machine-id", "rb") as file:
                told = file.read(_MACHINE_ID_BYTES)
        except OSError:
            return ""
        # The id itself is not to be shown around.
        return hashlib.sha256(b"roundq " + told).hexdigest()[:32] if len(told) == _MACHINE_ID_BYTES else ""

    def name(self) -> str:
        """The host name with its dots, uname(2). Raises RoundqError if no file can be called so.

        RQ_NODE overrides it, but not inside a job: there it names the node where the job was started,
        and the environment may have been carried to another one.
        """
        name = os.uname().nodename
        if _JOB_VARIABLE not in self._environ:
            name = self._environ.get(NAME_VARIABLE, name)
        if not _NAME.fullmatch(name):
            raise RoundqError(
                f"the name of this node, {name!r}, cannot be part of a file name",
                f"give the machine a name of letters, digits, '.', '_' and '-', or set {NAME_VARIABLE}",
            )
        return name

    def logical_cpus(self) -> int:
        """Hardware threads that we may use, at least 1; a fraction of a CPU quota does not count."""
        return self._within_quota(len(self._affinity()))

    def physical_cores(self) -> int:
        """Cores that we may use, at least 1: those of which we may use one hardware thread or more.

        Where the system does not tell, each hardware thread counts as a core.
        """
        return self._within_quota(len(self._cores()))

    def units(self, cores: int | str = "physical") -> tuple[Unit, ...]:
        """The cores of which jobs are given CPUs, when so many are offered: `Config.cores`.

        As many as we may run on: a CPU quota limits how many may be given at a time, not which. None if more
        are offered than there are CPUs; then nobody is pinned.
        """
        from roundq.world import topology

        return topology.offering(self._cores(), cores)

    def spare_threads(self, cores: int | str = "physical") -> int:
        """Hardware threads of `units` that are not offered as cores, within the quota."""
        from roundq.words.allocation import spare_threads

        units = self.units(cores)
        offered = self.physical_cores() if cores == "physical" else sum(unit.offered for unit in units)
        return max(0, min(spare_threads(units), self.logical_cpus() - offered))

    def features(self) -> tuple[str, ...]:
        """What its processors can, in words for `--need`, sorted; they cannot change while it runs."""
        from roundq.world import features

        if self._features is None:
            self._features = features.of_processors(self._root)
        return self._features

    def memory_total(self) -> int:
        """Memory in bytes: that of the machine, or the least limit of a control group that we are in."""
        return min([self._memory("total"), *(limit for limit, _ in self._memory_limits())])

    def memory_available(self) -> int:
        """Memory in bytes that can be used without swapping: what the kernel estimates, or what our
        control groups leave, whatever is less. File cache that can be dropped is available."""
        left = [max(0, limit - used) for limit, used in self._memory_limits()]
        return min([self._memory("available"), *left])

    def load(self) -> float:
        """Processes of all users that run or wait for a disk, averaged over a minute: proc(5), loadavg."""
        return float(self._text("/proc/loadavg").split()[0])

    # ------------------------------------------------------------ leaves

    def _text(self, path: str) -> str:
        with open(self._root + path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()

    def _cores(self) -> tuple[Unit, ...]:
        from roundq.world import topology

        allowed = frozenset(self._affinity())
        if allowed not in self._cores_of:
            self._cores_of = {allowed: topology.cores(allowed, self._root)}
        return self._cores_of[allowed]

    def _within_quota(self, cpus: int) -> int:
        quota = min(self._cpu_quotas(), default=float(cpus))
        return max(1, min(cpus, int(quota)))

    def _memory(self, kind: str) -> int:
        """Bytes of memory of the machine, "total" or "available"."""
        import psutil

        before, psutil.PROCFS_PATH = psutil.PROCFS_PATH, f"{self._root}/proc"
        try:
            return int(getattr(psutil.virtual_memory(), kind))
        finally:
            psutil.PROCFS_PATH = before

    def _cpu_quotas(self) -> Iterator[float]:
        for directory in cgroup.directories("cpu", self._root):
            # Version 2: "max 100000" or "250000 100000"; version 1: two files, quota -1 for none.
            words = self._words(f"{directory}/cpu.max") or (
                self._words(f"{directory}/cpu.cfs_quota_us") + self._words(f"{directory}/cpu.cfs_period_us")
            )
            quota, period = (_number(words, place) for place in (0, 1))
            if quota is not None and period:
                yield quota / period

    def _memory_limits(self) -> Iterator[tuple[int, int]]:
        """Limit and use in bytes of each of our control groups that has a limit."""
        for directory in cgroup.directories("memory", self._root):
            # Above memory.high processes are slowed down until they stand still: it is a limit too.
            for limit_name, used_name, cache in (
                ("memory.max", "memory.current", "inactive_file"),
                ("memory.high", "memory.current", "inactive_file"),
                ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
            ):
                limit = _number(self._words(f"{directory}/{limit_name}"))
                if limit is None or limit >= _NO_LIMIT_BYTES_MIN:
                    continue
                used = _number(self._words(f"{directory}/{used_name}")) or 0
                statistics = self._words(f"{directory}/memory.stat")
                found = _number(statistics, statistics.index(cache) + 1) if cache in statistics else None
                yield limit, used - (found or 0)

    def _words(self, path: str) -> list[str]:
        """The words of a file of a control group, none if it cannot be read."""
        try:
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                return file.read().split()
        # ValueError: a NUL in a path that we did not understand.
        except (OSError, ValueError):
            return []


def _number(words: list[str], place: int = 0) -> int | None:
    """The word at this place as a number, None if there is none, such as "max" and -1."""
    if place >= len(words) or not re.fullmatch("[0-9]{1,20}", words[place]):
        return None
    return int(words[place])
