"""What a claim takes of this node by name: its CPUs and GPUs, near each other, and nobody else's.

What is counted is for the policy and the check after a claim; here it is only said which.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from roundq.actors.occupancy import Lodger
from roundq.words import allocation
from roundq.words.allocation import Gpu, Unit


class Grant(NamedTuple):
    """Logical CPUs, ids of GPUs, and whether the CPUs are spare hardware threads. No CPUs: not pinned."""

    cpus: tuple[int, ...] = ()
    gpus: tuple[str, ...] = ()
    threads: bool = False


#: Neither CPUs nor GPUs of its own.
NOTHING = Grant()


class Grants:
    """What of this node is taken by name, and what is not."""

    def __init__(self, units: Sequence[Unit], gpus: Sequence[Gpu], lodgers: Iterable[Lodger]) -> None:
        self._units, self._gpus = units, gpus
        self._cpus: set[int] = set()
        self._gpu_ids: set[str] = set()
        for _, job in lodgers:
            # A card must not take a node with the CPUs of one core.
            self._take(Grant(job.cpus[: job.cores], job.gpus))

    def _take(self, grant: Grant) -> None:
        self._cpus.update(grant.cpus)
        self._gpu_ids.update(grant.gpus)

    def choose(self, cores: int, gpus: int, *, threads: bool = False) -> Grant | None:
        """Takes CPUs for so many cores, and so many GPUs; None if there are not so many GPUs.

        Without CPUs of its own a job runs where the kernel puts it: where no cores are known, where more are
        offered than there are, or where somebody has more than he was counted for.
        """
        ids = allocation.choose_gpus(self._gpus, self._gpu_ids, gpus) if gpus else ()
        if ids is None:
            return None
        pick = allocation.choose_threads if threads else allocation.choose_cpus
        grant = Grant(pick(self._units, self._cpus, cores) or (), ids, threads)
        self._take(grant)
        return grant
