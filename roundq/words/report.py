"""What ended jobs used of what they asked for, how long they waited and why they failed: sums, purely.

For `rq report` and `rq stats`. What is not known of a job, such as the processor time of one that is lost, is
left out of the sum and of what it is divided by; so a sum over few is not taken for one over all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from roundq.words.job import NO_NODE, NS, Record
from roundq.words.states import CANCELED, COMPLETED, ENDED_STATES, FAILED, ZOMBIE

#: What a report may be grouped by.
BY = ("name", "set", "user", "node", "day")
#: Bounds of the classes of waits, in seconds; what is longer than the last is one more.
WAITS_S = (1.0, 10.0, 60.0, 600.0, 3600.0, 6 * 3600.0, 86_400.0)


class Ended(NamedTuple):
    """An ended job: whose, in which state, and what its record says."""

    id: str
    user: str
    state: str
    record: Record


class Spread(NamedTuple):
    """The least, the middle and the largest of some numbers."""

    least: float
    middle: float
    most: float


# ---------------------------------------------------------------- one job


def cores(record: Record) -> int:
    """The cores that it had, as far as is known; all of a node that it never got are none."""
    return record.cores or record.job.cores


def run_s(record: Record) -> float | None:
    """For how many seconds the last attempt ran; None if it never did, or nobody knows."""
    if not record.started_ns or not record.completed_ns:
        return None
    # Clocks of two nodes may differ by more than a short job.
    return max(0, record.completed_ns - record.started_ns) / NS


def wait_s(record: Record) -> float | None:
    """How long it waited for its first start, from when it was submitted, or from when it might begin; None
    if it never did, or nobody knows."""
    if record.attempts and record.attempts[0].number > 1:
        # The first is not told of any more.
        return None
    first_ns = next((one.started_ns for one in record.begun), record.started_ns)
    since_ns = max(record.job.submitted_ns, record.job.begin_ns)
    if not first_ns or not since_ns:
        return None
    return max(0, first_ns - since_ns) / NS


def cpu_s(record: Record) -> float | None:
    """The processor time of the last attempt."""
    return None if record.usage is None else record.usage.get("cpu_s")


def memory_bytes(record: Record) -> float | None:
    """The memory of its largest process in the last attempt."""
    return None if record.usage is None else record.usage.get("memory_bytes")


def efficiency(record: Record) -> float | None:
    """The part of the core-seconds it had that it computed in; None if that is not known."""
    used_s, ran_s, had = cpu_s(record), run_s(record), cores(record)
    return used_s / (ran_s * had) if used_s is not None and ran_s and had else None


def reason_of(ended: Ended) -> str:
    """Why a job did not end well, as a class: "exit 3", "time limit"; empty if it did, or was canceled."""
    record = ended.record
    if ended.state == ZOMBIE:
        return record.reason or "lost"
    if ended.state != FAILED:
        return ""
    if record.reason in (None, "exit") and record.exit_code is not None:
        return f"exit {record.exit_code}"
    if record.reason in (None, "signal") and record.signal is not None:
        return f"signal {record.signal}"
    return record.reason or "unknown"


# ---------------------------------------------------------------- sums


@dataclass(slots=True)
class Figures:
    """The sums over some jobs.

    `core_s` are the core-seconds they had; `measured_core_s` of those whose `cpu_s` is known. `memory_asked`
    and `memory_used` are summed over jobs that asked for memory and of which it is known what they used.
    `waits_s` are the waits that are known.
    """

    jobs: int = 0
    states: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    attempts: int = 0
    core_s: float = 0.0
    measured_core_s: float = 0.0
    cpu_s: float = 0.0
    memory_asked: float = 0.0
    memory_used: float = 0.0
    memory_most: float = 0.0
    waits_s: list[float] = field(default_factory=list)

    def add(self, ended: Ended) -> None:
        """Adds a job."""
        record = ended.record
        self.jobs += 1
        self.states[ended.state] += 1
        self.attempts += 1 + len(record.attempts)
        if reason := reason_of(ended):
            self.reasons[reason] += 1
        if (wait := wait_s(record)) is not None:
            self.waits_s.append(wait)
        ran_s, had = run_s(record), cores(record)
        # A job that ended before it began has not run, whatever it asked for.
        if ran_s is not None:
            self.core_s += ran_s * had
            if (used_s := cpu_s(record)) is not None:
                self.measured_core_s += ran_s * had
                self.cpu_s += used_s
        if (used := memory_bytes(record)) is not None:
            self.memory_most = max(self.memory_most, used)
            if record.job.memory_required:
                self.memory_asked += record.job.memory_required
                self.memory_used += used

    @property
    def failed(self) -> int:
        """How many did not end well, without those that were canceled."""
        return self.states[FAILED] + self.states[ZOMBIE]

    @property
    def efficiency(self) -> float | None:
        """Processor time by core-seconds, of those of which both are known."""
        return self.cpu_s / self.measured_core_s if self.measured_core_s else None

    @property
    def idle_core_s(self) -> float:
        """Core-seconds in which nothing was computed, of those of which it is known."""
        return max(0.0, self.measured_core_s - self.cpu_s)

    @property
    def memory(self) -> float | None:
        """Memory used by memory asked for, of those of which both are known."""
        return self.memory_used / self.memory_asked if self.memory_asked else None

    @property
    def wait_mean_s(self) -> float | None:
        """The mean of the waits."""
        return sum(self.waits_s) / len(self.waits_s) if self.waits_s else None

    @property
    def wait_p95_s(self) -> float | None:
        """The wait that 95 % of the jobs did not exceed."""
        return percentile(self.waits_s, 0.95)


@dataclass(slots=True)
class Report:
    """The sums of all, and of each group, those with most core-seconds first; and when what ran.

    `spans` are (begin, end, cores, group) of the runs, in ns since the epoch, also of earlier attempts.
    """

    by: str
    total: Figures
    groups: dict[str, Figures]
    spans: list[tuple[int, int, int, str]]


def common(reasons: Mapping[str, int]) -> list[tuple[str, int]]:
    """Reasons with how many jobs they are of, the most common first."""
    return sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0]))


def percentile(values: Sequence[float], part: float) -> float | None:
    """The least of the values that at least this part of them do not exceed; None of none."""
    if not values:
        return None
    ordered = sorted(values)
    # In whole numbers, so that 0.95 of 20 is the 19th.
    place = -(-round(part * 10_000) * len(ordered) // 10_000)
    return ordered[max(1, place) - 1]


def spread(values: Iterable[float | None]) -> Spread | None:
    """The least, middle and largest of those that are known; None if none is."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return None
    half = len(known) // 2
    middle = known[half] if len(known) % 2 else (known[half - 1] + known[half]) / 2
    return Spread(known[0], middle, known[-1])


def key_of(ended: Ended, by: str, day_of: Callable[[int], str]) -> str:
    """The group of a job; empty if it has none."""
    record = ended.record
    if by == "name":
        return record.job.name
    if by == "set":
        return record.job.set
    if by == "user":
        return ended.user
    if by == "node":
        return "" if record.node == NO_NODE else record.node
    return day_of(record.completed_ns or record.started_ns or record.job.submitted_ns)


def report(jobs: Iterable[Ended], by: str, day_of: Callable[[int], str]) -> Report:
    """Sums up ended jobs. `by` is one of `BY`; `day_of` names the day of a time in ns."""
    total = Figures()
    groups: dict[str, Figures] = {}
    spans: list[tuple[int, int, int, str]] = []
    for ended in jobs:
        key = key_of(ended, by, day_of)
        total.add(ended)
        groups.setdefault(key, Figures()).add(ended)
        record = ended.record
        runs = [(one.started_ns, one.completed_ns) for one in record.attempts]
        runs.append((record.started_ns, record.completed_ns))
        had = cores(record)
        spans += [(begin, end, had, key) for begin, end in runs if had and 0 < begin < end]
    if by == "day":
        ordered = sorted(groups.items())
    else:
        ordered = sorted(groups.items(), key=lambda pair: (-pair[1].core_s, -pair[1].jobs, pair[0]))
    return Report(by, total, dict(ordered), spans)


# ---------------------------------------------------------------- pictures


def timeline(
    spans: Iterable[tuple[int, int, int, str]], since_ns: int, until_ns: int, count: int
) -> dict[str, list[float]]:
    """The mean number of cores in use in each of `count` equal parts of a time, by group."""
    lines: dict[str, list[float]] = {}
    step = (until_ns - since_ns) / count
    if step <= 0:
        return lines
    for begin, end, had, key in spans:
        begin, end = max(begin, since_ns), min(end, until_ns)
        if begin >= end:
            continue
        line = lines.setdefault(key, [0.0] * count)
        first = min(count - 1, int((begin - since_ns) / step))
        last = min(count - 1, int((end - since_ns) / step))
        for place in range(first, last + 1):
            low, high = since_ns + place * step, since_ns + (place + 1) * step
            line[place] += had * max(0.0, min(end, high) - max(begin, low)) / step
    return lines


def wait_classes(waits_s: Iterable[float]) -> list[int]:
    """How many waited so long: one number for each class of `WAITS_S`, and one for longer waits."""
    counts = [0] * (len(WAITS_S) + 1)
    for wait in waits_s:
        counts[next((place for place, bound in enumerate(WAITS_S) if wait < bound), len(WAITS_S))] += 1
    return counts


def succeeded(figures: Figures) -> float | None:
    """The part of the jobs that ended well, of those that were not canceled."""
    ended = sum(figures.states[state] for state in ENDED_STATES if state != CANCELED)
    return figures.states[COMPLETED] / ended if ended else None
