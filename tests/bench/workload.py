"""Workloads with a seed: machines, users and jobs as recorded ones look, for `tests.bench.policy`.

Jobs come in campaigns: one user submits many of one shape, at once (an array) or one after the other (a
script). Their sizes and lengths are log-normal, the gaps between them Weibull with a shape below 1, so that
they come in bursts, and some users submit most. Time limits are round numbers that exceed the length by a
factor, or missing.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

GIB = 1 << 30
#: What people write as a time limit, in seconds.
ROUND_S = tuple(
    float(s) for s in (60, 600, 1800, 3600, 7200, 14400, 28800, 43200, 86400, 172800, 345600, 604800)
)
SHORTEST_S, LONGEST_S = 5.0, 3 * 86_400.0
LICENSES = ("matlab", "solver")


class Shape(NamedTuple):
    """What jobs that are treated alike have in common. Bytes and seconds; cores 0 are a whole one."""

    cores: int
    memory: int = 0
    gpus: int = 0
    licenses: tuple[tuple[str, int], ...] = ()
    priority: int = 0
    limit_s: float | None = None
    scavenge: bool = False
    restartable: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """One job, and what only the simulator knows: how long it would run, undisturbed and from its beginning.

    `cores` are those that count as its demand: of a job of a whole machine those of the smallest one.
    `is_wide`: it needs half of the largest machine or more.
    """

    number: int
    user: str
    submitted_s: float
    length_s: float
    shape: Shape
    cores: int
    is_wide: bool


@dataclass(frozen=True, slots=True)
class Machine:
    """A node: its cores, its hardware threads beyond one for each core, memory in bytes, GPUs."""

    name: str
    cores: int
    memory: int
    gpus: int = 0
    threads: int = 0


@dataclass(frozen=True)
class Workload:
    """All that a rule is played on. Jobs are in the order of their submission."""

    machines: tuple[Machine, ...]
    users: tuple[str, ...]
    jobs: tuple[Job, ...]
    licenses: Mapping[str, int] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)

    @property
    def cores(self) -> int:
        """Those of all machines."""
        return sum(machine.cores for machine in self.machines)


@dataclass(frozen=True)
class Scenario:
    """How a workload is drawn.

    `load` is the work beside what the cores could do until the last submission; `campaign` the median count
    of jobs in one; `activity` the exponent by which users differ; `gap` the shape of the Weibull distribution
    of gaps. `widths` are cores with their odds; `over` the least and the most by which a limit exceeds the
    length. From `whole` on, what is not said here is the probability of a campaign to be so.
    """

    says: str
    nodes: int = 20
    users: int = 20
    jobs: int = 4000
    load: float = 1.0
    machine_cores: tuple[int, ...] = (16,)
    widths: tuple[tuple[int, float], ...] = ((1, 8), (2, 2), (4, 2), (8, 1))
    whole: float = 0.0
    median_s: float = 1200.0
    sigma: float = 1.3
    weibull: bool = False
    campaign: float = 8.0
    activity: float = 0.7
    gap: float = 0.6
    limits: float = 0.5
    over: tuple[float, float] = (1.1, 8.0)
    restartable: float = 0.2
    scavenge: float = 0.0
    memory: float = 0.2
    gpus: float = 0.0
    licenses: float = 0.0
    priorities: float = 0.1
    threads: bool = False


_MIXED = Scenario(
    "everything at once, on 1 to 60 nodes of unequal size with 1 to 80 users, as the seed says",
    machine_cores=(4, 8, 16, 16, 32),
    widths=((1, 8), (2, 2), (4, 2), (8, 1), (16, 0.5)),
    whole=0.05,
    sigma=1.6,
    scavenge=0.1,
    memory=0.3,
    gpus=0.1,
    licenses=0.1,
    threads=True,
)

SCENARIOS: dict[str, Scenario] = {
    "even": Scenario("users who differ little, jobs of a few cores", activity=0.2, gap=1.0),
    "flood": Scenario(
        "one or two users submit most, in large arrays", activity=1.5, campaign=30, median_s=600, load=1.2
    ),
    "bursts": Scenario("nobody comes for long, then many at once", gap=0.35, campaign=20, load=0.8),
    "wide": Scenario(
        "half machines and whole ones among long jobs of one core",
        widths=((1, 8), (2, 1), (8, 2), (12, 1), (16, 1)),
        whole=0.1,
        median_s=2400,
        load=1.1,
    ),
    "limited": Scenario(
        "as wide, and everybody gives a time limit",
        widths=((1, 8), (2, 1), (8, 2), (12, 1), (16, 1)),
        whole=0.1,
        median_s=2400,
        load=1.1,
        limits=1.0,
        over=(1.05, 3.0),
    ),
    "tails": Scenario("from seconds to days", sigma=2.4, median_s=300, weibull=True),
    "scavenge": Scenario("a third is scavenging, and much can be restarted", scavenge=0.35, restartable=0.5),
    "memory": Scenario("memory is scarcer than cores", memory=0.9, load=0.7),
    "gpus": Scenario("GPUs on a part of the nodes, and two licenses", gpus=0.3, licenses=0.2),
    "threads": Scenario(
        "as even, with two hardware threads for each core", activity=0.2, gap=1.0, threads=True
    ),
    "lone": Scenario("one machine and three users", nodes=1, users=3, jobs=600),
    "large": Scenario(
        "sixty machines of unequal size and eighty users",
        nodes=60,
        users=80,
        jobs=12000,
        machine_cores=(8, 16, 32),
        whole=0.02,
    ),
    "mixed": _MIXED,
}


def scenario(
    name: str, seed: int, nodes: int | None = None, users: int | None = None, jobs: int | None = None
) -> Scenario:
    """The scenario of that name with its sizes. Raises `KeyError` if there is none."""
    chosen = SCENARIOS[name]
    if name == "mixed":
        dice = random.Random(f"mixed {seed}")
        nodes = nodes or round(math.exp(dice.uniform(0, math.log(60))))
        users = users or round(math.exp(dice.uniform(0, math.log(80))))
        chosen = replace(chosen, nodes=nodes, jobs=400 + 150 * nodes, load=dice.uniform(0.7, 1.3))
    nodes, users = nodes or chosen.nodes, users or chosen.users
    return replace(chosen, nodes=nodes, users=users, jobs=jobs or round(chosen.jobs * nodes / chosen.nodes))


def draw(chosen: Scenario, seed: int) -> Workload:
    """The workload of a scenario for a seed: always the same one."""
    return _Draw(chosen, random.Random(f"{chosen.says} {seed}")).workload()


class _Draw:
    def __init__(self, chosen: Scenario, dice: random.Random) -> None:
        self.chosen, self.dice = chosen, dice
        self.machines = tuple(self._machine(number) for number in range(chosen.nodes))
        self.users = tuple(f"user{number:02}" for number in range(chosen.users))
        self.largest = max(machine.cores for machine in self.machines)

    def _machine(self, number: int) -> Machine:
        cores = self.dice.choice(self.chosen.machine_cores)
        gpus = 4 if self.chosen.gpus and (number == 0 or self.dice.random() < 0.3) else 0
        return Machine(f"node{number:02}", cores, 4 * GIB * cores, gpus, cores * self.chosen.threads)

    def workload(self) -> Workload:
        jobs: list[Job] = []
        activity = [1 / (rank + 1) ** self.chosen.activity for rank in range(len(self.users))]
        place = 0.0
        drawn: list[tuple[float, str, float, float, Shape]] = []
        while len(drawn) < self.chosen.jobs:
            # Measured in units of its own; stretched below, so that the load is right.
            place += self.dice.weibullvariate(1.0, self.chosen.gap)
            user = self.dice.choices(self.users, activity)[0]
            drawn += [(place, user, *one) for one in self._campaign(self.chosen.jobs - len(drawn))]
        capacity = sum(machine.cores for machine in self.machines)
        smallest = min(machine.cores for machine in self.machines)
        work = sum(length_s * (shape.cores or smallest) for *_, length_s, shape in drawn)
        stretch = work / (capacity * self.chosen.load) / max(place, 1e-9)
        for place, user, delay_s, length_s, shape in drawn:
            cores = shape.cores or smallest
            is_wide = shape.cores == 0 or 2 * shape.cores >= self.largest
            jobs.append(Job(0, user, place * stretch + delay_s, length_s, shape, cores, is_wide))
        jobs.sort(key=lambda job: job.submitted_s)
        numbered = tuple(replace(job, number=number) for number, job in enumerate(jobs, 1))
        licenses = dict.fromkeys(LICENSES, max(2, capacity // 20)) if self.chosen.licenses else {}
        return Workload(self.machines, self.users, numbered, licenses)

    def _campaign(self, most: int) -> list[tuple[float, float, Shape]]:
        """Seconds after the first, seconds of length, and shape of each of its jobs."""
        dice, chosen = self.dice, self.chosen
        shape = self._shape()
        count = max(1, round(dice.lognormvariate(math.log(chosen.campaign), 1.2)))
        if shape.cores == 0 or 2 * shape.cores >= self.largest:
            count = max(1, count // 6)
        median_s = dice.lognormvariate(math.log(chosen.median_s), chosen.sigma)
        spread = dice.uniform(0.1, 0.8)
        lengths = [self._length_s(median_s, spread) for _ in range(min(count, most, chosen.jobs // 20 + 1))]
        if dice.random() < chosen.limits:
            # One limit for all, made for what the owner thinks the longest. Some are wrong, and killed.
            asked_s = sorted(lengths)[int(0.95 * (len(lengths) - 1))] * dice.uniform(*chosen.over)
            limit_s = next((limit for limit in ROUND_S if limit >= asked_s), ROUND_S[-1])
            shape = shape._replace(limit_s=limit_s)
            lengths = [min(length_s, limit_s) for length_s in lengths]
        # A script submits one, sleeps, and submits the next; an array comes at once.
        pause_s = dice.choice((0.0, 0.0, 0.0, 2.0, 60.0))
        return [(number * pause_s, length_s, shape) for number, length_s in enumerate(lengths)]

    def _length_s(self, median_s: float, spread: float) -> float:
        if self.chosen.weibull:
            length_s = self.dice.weibullvariate(median_s, 0.6)
        else:
            length_s = self.dice.lognormvariate(math.log(median_s), spread)
        return min(max(length_s, SHORTEST_S), LONGEST_S)

    def _shape(self) -> Shape:
        dice, chosen = self.dice, self.chosen
        # What it asks for exists on one machine at least; on a random one, so that some ask for the largest.
        host = dice.choice(self.machines)
        widths, odds = zip(*chosen.widths, strict=True)
        cores = 0 if dice.random() < chosen.whole else min(dice.choices(widths, odds)[0], host.cores)
        gpus = 0
        if dice.random() < chosen.gpus:
            host = dice.choice([machine for machine in self.machines if machine.gpus])
            gpus, cores = dice.choice((1, 1, 1, 2, 4)), min(cores or 1, host.cores)
        memory = 0
        if dice.random() < chosen.memory:
            share = host.memory // host.cores * (cores or host.cores)
            memory = min(int(share * dice.choice((0.25, 0.5, 1, 2, 4))), host.memory)
        licenses = ((dice.choice(LICENSES), 1),) if dice.random() < chosen.licenses else ()
        priority = dice.choice((-100, 100)) if dice.random() < chosen.priorities else 0
        scavenge = dice.random() < chosen.scavenge
        restartable = scavenge or dice.random() < chosen.restartable
        return Shape(cores, memory, gpus, licenses, priority, None, scavenge, restartable)
