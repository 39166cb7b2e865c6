"""What a play came to: waits, fairness, used cores. The words are those of the table that `policy` prints."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from tests.bench.play import Attempt, Cluster, Watcher
from tests.bench.workload import Job, Workload

#: A job shorter than this counts as if it were that long in its slowdown.
BOUND_S = 10.0


@dataclass(frozen=True)
class Figures:
    """Of one play. Times in seconds, work in core-seconds.

    A wait is all the time from the submission of a job to its end in which it made no headway that counts:
    its end less its submission less its length.

    - `wait`: the mean wait of each user, averaged over users; `wait_worst`: its 95th percentile over users.
    - `wait_95`: the 95th percentile of the waits of each user, averaged over users.
    - `slowdown`: (wait + length) / length, lengths below `BOUND_S` taken as that, never below 1; averaged as
      `wait` is.
    - `fairness`: Jain's index, (sum x)^2 / (n sum x^2), over the users, x being what a user received beside
      what was deserved, in core-seconds. Deserved at an instant is the max-min fair part of all cores by
      weights: nobody deserves more than the cores that the own waiting and running jobs ask for, and what
      one leaves the others share. So who asks for little and gets it has x = 1, as has who asks for much and
      gets the fair part, and instants without demand count for nothing. Jobs with GPUs or licenses, which do
      not wait for cores alone, and jobs that scavenge, which are promised nothing, count on neither side.
    - `least`: the smallest x.
    - `used`: the work of all jobs beside the cores that were there while they were asked for: over time, the
      lesser of all cores and those that waiting and running jobs ask for. Work that was lost is not in it.
    - `wide_longest`, `wide_95`: waits of jobs that need half of the largest machine or more.
    - `starved`: the longest time without a break in which a user had such a job waiting and less running than
      half of what was deserved. Of who floods the cluster with wide jobs a fair rule lets most wait, one that
      is not lets none; this tells waiting for one's turn from waiting in one's turn.
    - `requeues`, `lost`: how many, and the work that was lost by them.
    - `makespan`: from the first submission to the last end.
    """

    wait: float
    wait_95: float
    wait_worst: float
    slowdown: float
    fairness: float
    least: float
    used: float
    wide_longest: float
    wide_95: float
    starved: float
    requeues: float
    lost: float
    makespan: float


#: For each figure: what it is called, whether more is better, and how it is written.
TITLES: dict[str, tuple[str, bool, str]] = {
    "wait": ("mean wait, mean of users", False, "time"),
    "wait_95": ("95th percentile wait, mean of users", False, "time"),
    "wait_worst": ("mean wait, 95th percentile of users", False, "time"),
    "slowdown": ("bounded slowdown, mean of users", False, "{:.1f}"),
    "fairness": ("fairness (Jain)", True, "{:.3f}"),
    "least": ("least served user, of deserved", True, "{:.2f}"),
    "used": ("used cores, of asked for", True, "{:.1%}"),
    "wide_longest": ("longest wait of a wide job", False, "time"),
    "wide_95": ("95th percentile wait of wide jobs", False, "time"),
    "starved": ("longest below half of the due, wide job waiting", False, "time"),
    "requeues": ("requeues", False, "{:.0f}"),
    "lost": ("lost work, core-hours", False, "hours"),
    "makespan": ("makespan", False, "time"),
}


def percentile(values: Sequence[float], part: float) -> float:
    """The smallest of the values that at least this part of them do not exceed; 0 if there are none."""
    return sorted(values)[max(0, math.ceil(part * len(values)) - 1)] if values else 0.0


def jain(values: Sequence[float]) -> float:
    """Jain's index of fairness: 1 if all are equal, 1/n if one has everything."""
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else 1.0


def fair_parts(demand: Mapping[str, float], weights: Mapping[str, float], cores: float) -> dict[str, float]:
    """The max-min fair part of the cores of each user by weight, never more than is asked for."""
    parts: dict[str, float] = {}
    left, weight = cores, sum(weights.get(user, 1.0) for user in demand)
    for user in sorted(demand, key=lambda one: demand[one] / weights.get(one, 1.0)):
        own = weights.get(user, 1.0)
        parts[user] = min(demand[user], left * own / weight)
        left, weight = left - parts[user], weight - own
    return parts


class Ledger(Watcher):
    """Adds up, from instant to instant, what `figures` needs."""

    def __init__(self, workload: Workload) -> None:
        self.workload, self.cores = workload, workload.cores
        self.received: dict[str, float] = defaultdict(float)
        self.deserved: dict[str, float] = defaultdict(float)
        self.asked = self.useful = self.lost = self.ended_s = 0.0
        self.starved = 0.0
        self.requeues = 0
        self.waits: dict[str, list[float]] = defaultdict(list)
        self.slowdowns: dict[str, list[float]] = defaultdict(list)
        self.wide: list[float] = []
        self._demand: dict[str, int] = defaultdict(int)
        self._running: dict[str, int] = defaultdict(int)
        self._wide_waiting: dict[str, int] = defaultdict(int)
        self._short_s: dict[str, float] = defaultdict(float)
        self._asked_now = 0
        self._parts: dict[str, float] | None = None

    def advance(self, cluster: Cluster, to_s: float) -> None:
        span_s = to_s - cluster.now_s
        if span_s <= 0:
            return
        if self._parts is None:
            demand = {user: asked for user, asked in self._demand.items() if asked}
            self._parts = fair_parts(demand, self.workload.weights, self.cores)
        for user, part in self._parts.items():
            self.deserved[user] += part * span_s
            running = self._running[user]
            self.received[user] += running * span_s
            if self._wide_waiting[user] and 2 * running < part:
                self._short_s[user] += span_s
                self.starved = max(self.starved, self._short_s[user])
            else:
                self._short_s[user] = 0.0
        self.asked += min(self.cores, self._asked_now) * span_s

    def submitted(self, job: Job) -> None:
        self._add(job, job.cores)
        self._wide_waiting[job.user] += _is_due(job)

    def started(self, attempt: Attempt) -> None:
        self._add(attempt.job, attempt.cores - attempt.job.cores, attempt.cores)
        self._wide_waiting[attempt.job.user] -= _is_due(attempt.job)

    def ended(self, attempt: Attempt, now_s: float) -> None:
        job = attempt.job
        self._add(job, -attempt.cores, -attempt.cores)
        self.useful += job.length_s * attempt.cores
        self.ended_s = now_s
        wait_s = max(0.0, now_s - job.submitted_s - job.length_s)
        slowdown = max(1.0, (wait_s + job.length_s) / max(job.length_s, BOUND_S))
        if not job.shape.scavenge:
            self.waits[job.user].append(wait_s)
            self.slowdowns[job.user].append(slowdown)
            if job.is_wide:
                self.wide.append(wait_s)

    def requeued(self, attempt: Attempt, now_s: float) -> None:
        self._add(attempt.job, attempt.job.cores - attempt.cores, -attempt.cores)
        self._wide_waiting[attempt.job.user] += _is_due(attempt.job)
        self.requeues += 1
        self.lost += (now_s - attempt.began_s) * attempt.cores

    def _add(self, job: Job, asked: int, running: int = 0) -> None:
        self._asked_now += asked
        if _is_plain(job):
            self._demand[job.user] += asked
            self._running[job.user] += running
            self._parts = None

    def shares(self) -> dict[str, float]:
        """What each user received beside what was deserved."""
        return {user: self.received[user] / due for user, due in self.deserved.items() if due > 0}

    def figures(self) -> Figures:
        """When the play is over."""
        shares = list(self.shares().values())
        means = [fmean(waits) for waits in self.waits.values()]
        return Figures(
            wait=fmean(means),
            wait_95=fmean(percentile(waits, 0.95) for waits in self.waits.values()),
            wait_worst=percentile(means, 0.95),
            slowdown=fmean(fmean(each) for each in self.slowdowns.values()),
            fairness=jain(shares),
            least=min(shares, default=1.0),
            used=self.useful / self.asked,
            wide_longest=max(self.wide, default=0.0),
            wide_95=percentile(self.wide, 0.95),
            starved=self.starved,
            requeues=self.requeues,
            lost=self.lost,
            makespan=self.ended_s - self.workload.jobs[0].submitted_s,
        )


def _is_plain(job: Job) -> bool:
    """Whether it waits for cores alone, and is promised any."""
    return not (job.shape.gpus or job.shape.licenses or job.shape.scavenge)


def _is_due(job: Job) -> bool:
    return job.is_wide and _is_plain(job)


def mean_of(plays: Sequence[Figures]) -> Figures:
    """Each figure averaged over plays; what is the longest is so of all."""
    means = {name: fmean(getattr(play, name) for play in plays) for name in TITLES}
    for name in ("wide_longest", "starved"):
        means[name] = max(getattr(play, name) for play in plays)
    return Figures(**means)


def written(name: str, value: float) -> str:
    """A figure as the table has it."""
    style = TITLES[name][2]
    if style == "hours":
        return f"{value / 3600:.1f}"
    if style != "time":
        return style.format(value)
    if value < 120:
        return f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.1f} h"
