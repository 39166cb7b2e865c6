"""What there is beside cores: GPUs and memory of nodes, licenses of the cluster, limits of arrays; and what
jobs ask of it.

In most seeds nobody asks. What commands were promised is judged by tests/cluster/promises, whenever one
begins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from roundq.words.job import Array
from tests.cluster.promises import WHOLE, Promise, Supply, conflicts

if TYPE_CHECKING:
    from tests.simulation.judge import Run
    from tests.simulation.machine import Node

#: Of each node, all of it always available: what is promised is not used yet.
MEMORY = 1 << 34
#: How often jobs ask for anything of this.
OFTEN = 0.4


class Asked(NamedTuple):
    """What a job asks for, and is to have while its command lives."""

    gpus: int = 0
    licenses: tuple[tuple[str, int], ...] = ()
    memory: int = 0
    array: Array | None = None


NOTHING = Asked()
#: The array of each user, if there is one: jobs belong to it by what their records say.
ARRAY = "few"


class Resources:
    """Those of one run. Its own chance leaves that of the world as it is."""

    def __init__(self, seed: int, nodes: Iterable[Node]) -> None:
        self._rng = rng = Random(f"resources of {seed}")
        self._nodes = list(nodes)
        self._is_on = rng.random() < OFTEN
        #: Of what most jobs want something: two must want the last at the same moment.
        self._scarce = rng.choice(("gpus", "gpus", "licenses", "licenses", "memory"))
        gpus = {node.name: rng.choice((0, 1, 2)) for node in self._nodes} if self._is_on else {}
        self.gpus = {node.name: tuple(map(str, range(gpus.get(node.name, 0)))) for node in self._nodes}
        self.licenses: Mapping[str, int] = {"matlab": rng.choice((1, 2))} if self._is_on else {}
        #: How many jobs of the array that a user has may run at once; by chance of its own, too.
        self._chance = chance = Random(f"arrays of {seed}")
        self._throttle = chance.choice((1, 1, 1, 2)) if chance.random() < OFTEN else 0

    def ask(self, cores: int) -> Asked:
        """What a job of so many cores asks for beside them; some node has it."""
        return self._ask(cores)._replace(array=self._array())

    def _array(self) -> Array | None:
        if not self._throttle or self._chance.random() < 0.1:
            return None
        return Array(ARRAY, 0, throttle=self._throttle)

    def _ask(self, cores: int) -> Asked:
        rng = self._rng
        if not self._is_on:
            return NOTHING
        wanted = [what for what in ("gpus", "licenses", "memory") if rng.random() < self._often(what)]
        most = max(len(self.gpus[node.name]) for node in self._nodes if node.cores >= cores)
        return Asked(
            min(most, rng.choice((1, 1, 2))) if "gpus" in wanted else 0,
            (("matlab", rng.randint(1, self.licenses["matlab"])),) if "licenses" in wanted else (),
            rng.choice((MEMORY // 3, MEMORY // 2 + 1)) if "memory" in wanted else 0,
        )

    def _often(self, what: str) -> float:
        return 0.9 if what == self._scarce else 0.1

    def supply(self, users: Iterable[str]) -> Supply:
        """For the judge."""
        cores = {node.name: node.cores for node in self._nodes}
        groups = {f"{user}/{ARRAY}": self._throttle for user in users if self._throttle}
        return Supply(cores, MEMORY, self.gpus, self.licenses, groups=groups)


def promised_twice(runs: Iterable[Run], supply: Supply) -> list[str]:
    """What is wrong if these commands live at the same instant."""
    return conflicts([_promise(run) for run in runs], supply)


def untold(run: Run) -> list[str]:
    """What a command has, against what its job asked for."""
    wrong = []
    if len(run.cpus) != run.cores:
        wrong.append(f"it has {run.cores} cores and the CPUs {sorted(run.cpus)}: {run}")
    if len(run.gpus) != run.asked.gpus:
        wrong.append(f"it asked for {run.asked.gpus} GPUs and has {list(run.gpus)}: {run}")
    return wrong


def _promise(run: Run) -> Promise:
    return Promise(
        f"{run.user}/{run.id} ({run.cores})",
        run.node,
        WHOLE if run.is_whole else run.cores,
        run.asked.memory,
        run.cpus,
        run.gpus,
        dict(run.asked.licenses),
        groups=() if run.asked.array is None else (f"{run.user}/{run.asked.array.id}",),
    )
