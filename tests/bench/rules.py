"""The rules that `tests.bench.policy` holds ours against: FIFO, FIFO with first fit, and that of 0.2.9."""

from __future__ import annotations

import random
from collections import deque

from tests.bench.play import Cluster, Rule
from tests.bench.workload import Job, Machine, Shape


def snuggest(cluster: Cluster, shape: Shape) -> Machine | None:
    """Of the machines where it fits now the one that it leaves the fewest cores and GPUs."""
    able = [machine for machine in cluster.workload.machines if cluster.fits(machine, shape)]
    free = cluster.free
    return min(able, key=lambda m: (free[m.name].gpus, free[m.name].cores, m.name), default=None)


class Fifo(Rule):
    """One queue for the whole cluster; while its head does not fit anywhere, nothing starts."""

    name = "FIFO"

    def __init__(self, dice: random.Random) -> None:  # noqa: ARG002
        self.queue: deque[Job] = deque()

    def submitted(self, cluster: Cluster, job: Job) -> None:  # noqa: ARG002
        self.queue.append(job)

    def turn(self, cluster: Cluster) -> None:
        while self.queue and (machine := snuggest(cluster, self.queue[0].shape)) is not None:
            cluster.start(self.queue.popleft(), machine)


class FirstFit(Rule):
    """One queue for the whole cluster; the first job in it that fits somewhere starts."""

    name = "first fit"

    def __init__(self, dice: random.Random) -> None:  # noqa: ARG002
        #: By what is needed, in the order of submission: if one does not fit, none of its kind does.
        self.kinds: dict[Shape, deque[Job]] = {}

    def submitted(self, cluster: Cluster, job: Job) -> None:  # noqa: ARG002
        need = Shape(*job.shape[:4])
        self.kinds.setdefault(need, deque()).append(job)

    def turn(self, cluster: Cluster) -> None:
        unfit: set[Shape] = set()
        while True:
            heads = [(jobs[0].number, need) for need, jobs in self.kinds.items() if need not in unfit]
            for _, need in sorted(heads):
                machine = snuggest(cluster, need)
                if machine is not None:
                    cluster.start(self.kinds[need].popleft(), machine)
                    if not self.kinds[need]:
                        del self.kinds[need]
                    break
                # Room only shrinks within a turn.
                unfit.add(need)
            else:
                return


class Old(Rule):
    """That of roundqueue 0.2.9: each node by itself, least running cores, nothing past the head.

    Of its rules this plays those that work as it was published: its restarts undo themselves, and its use of
    hyper-threads ends the daemon. It would start a job of all cores beside others; here it waits for the
    node. It knows no GPUs and licenses: here they count as memory does, what does not fit is no candidate.
    """

    name = "0.2.9"

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice

    def turn(self, cluster: Cluster) -> None:
        machines = list(cluster.workload.machines)
        self.dice.shuffle(machines)
        woken = True
        while woken and cluster.waiting:
            woken = False
            for machine in machines:
                while cluster.free[machine.name].cores > 0 and self._run_next(cluster, machine):
                    # What was claimed changes who has the fewest cores: everybody looks again.
                    woken = True

    def _run_next(self, cluster: Cluster, machine: Machine) -> bool:
        candidates: dict[str, Job] = {}
        for user, shapes in cluster.waiting.items():
            heads = [
                jobs[0] for shape, jobs in shapes.items() if cluster.fits(machine, shape, but_cores=True)
            ]
            if heads:
                candidates[user] = min(heads, key=lambda job: job.number)
        if not candidates:
            return False
        fewest = min(cluster.running_cores[user] for user in candidates)
        able = [job for user, job in candidates.items() if cluster.running_cores[user] == fewest]
        first = min(able, key=lambda job: job.number)
        if not cluster.fits(machine, first.shape):
            return False
        cluster.start(first, machine)
        return True
