"""Pure: why a job starts or waits, as values that say it: the decision and its sentence are one.

`policy` makes exactly one `Why` for each job; that it `starts` and what it says both follow from it. The
log, the cards and `rq why` print `text`. Names of strangers are made harmless here.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from roundq.words.backfill import Reservation
from roundq.words.facts import Snapshot
from roundq.words.fairness import Level, Shares, share_text
from roundq.words.groups import group_text, group_word
from roundq.words.quantities import ALL_CORES, format_age, format_memory, visible
from roundq.words.room import Need, Room, below_text, cores_text, gpus_text, licenses_text


@dataclass(frozen=True, slots=True)
class Why(ABC):
    """Why a job starts or waits. `starts` is the decision, `says` the reason for it."""

    starts: ClassVar[bool] = False
    verb: ClassVar[str] = "waits"

    @property
    @abstractmethod
    def says(self) -> str:
        """The reason, without what was decided."""

    @property
    def text(self) -> str:
        """The whole sentence; it begins with "starts" if, and only if, the job starts."""
        return f"{'starts' if self.starts else self.verb}: {self.says}"


# ---------------------------------------------------------------- what starts


@dataclass(frozen=True, slots=True)
class Starts(Why):
    """There is room, and it is this job's turn. `room` is what it finds, `of` what the node has.

    `beside` is the job for which the node is kept, whose start this one leaves as it is.
    """

    starts: ClassVar[bool] = True
    need: Need
    room: Room
    of: Snapshot
    limit_s: float | None = None
    beside: Reservation | None = None

    @property
    def says(self) -> str:
        """What it needs and what is free."""
        need, room, of = self.need, self.room, self.of
        if need.cores == ALL_CORES:
            text = f"has {of.node} for itself"
        else:
            text = f"needs {cores_text(need.cores)}, {room.cores} of {of.cores} free"
        return text + _further(need, room, of) + self._aside()

    def _aside(self) -> str:
        if self.beside is None:
            return ""
        kept = f"{visible(self.beside.user)}'s job {visible(self.beside.want.id)}"
        if self.beside.ends_before(self.limit_s):
            return f"; ends before {kept} can start"
        return f"; leaves {kept} what it needs"


@dataclass(frozen=True, slots=True)
class StartsOnThreads(Why):
    """All cores are busy, and its user has less than is due: it gets spare hardware threads."""

    starts: ClassVar[bool] = True
    need: Need
    room: Room
    of: Snapshot
    user: str
    running: int
    shares: Shares

    @property
    def says(self) -> str:
        """What it gets, and why although all cores are busy."""
        free = f"on spare hardware threads, {self.room.threads} of {self.of.threads} free"
        share = share_text(self.shares, self.user, self.running)
        needs = f"needs {cores_text(self.need.cores)}, {free}{_further(self.need, self.room, self.of)}"
        return f"{needs}; all cores are busy, and {share}"


def _further(need: Need, room: Room, of: Snapshot) -> str:
    text = ""
    if need.memory:
        free = f"{format_memory(room.memory)} of {format_memory(of.memory_total)} free"
        text += f", and {format_memory(need.memory)} of memory, {free}"
    if need.gpus:
        text += f", and {gpus_text(need.gpus)}, {room.gpus} of {of.gpus + of.gpus_busy} free"
    there = dict(room.licenses)
    for name, count in need.licenses:
        text += f", and {licenses_text(name, count)}, {there.get(name, 0)} free"
    return text


# ---------------------------------------------------------------- what can never start


@dataclass(frozen=True, slots=True)
class Never(Why):
    """Whoever is there and whatever ends, the node is not one for this job."""

    verb: ClassVar[str] = "can never start here"
    misfit: str

    @property
    def says(self) -> str:
        """What does not suit."""
        return self.misfit


# ---------------------------------------------------------------- what waits


@dataclass(frozen=True, slots=True)
class Draining(Why):
    """Nothing starts here now."""

    node: str
    reason: str

    @property
    def says(self) -> str:
        """Why nothing does."""
        return f"{self.node} is draining" + (f" ({visible(self.reason)})" if self.reason else "")


@dataclass(frozen=True, slots=True)
class Limited(Why):
    """The limit of its user leaves too little: `most` are allowed and `running` run, cores or jobs."""

    most: int
    running: int
    cores: int | None

    @property
    def says(self) -> str:
        """The limit, and what is left of it."""
        left = max(0, self.most - self.running)
        if self.cores is None:
            jobs = "1 job" if self.most == 1 else f"{self.most} jobs"
            return f"your limit of {jobs} is reached ({self.running} running)"
        limit = f"your limit of {cores_text(self.most)}"
        if self.cores > self.most:
            return f"needs {cores_text(self.cores)}, {limit} is less"
        if left == 0:
            return f"{limit} is reached ({self.running} running)"
        return f"needs {cores_text(self.cores)}, {limit} leaves {left} ({self.running} running)"


@dataclass(frozen=True, slots=True)
class WorkerFull(Why):
    """The worker of its user on the node fills `most` cores, of which `running` are in use."""

    node: str
    most: int
    running: int
    cores: int

    @property
    def says(self) -> str:
        """What the worker fills, and what is left of it."""
        left = max(0, self.most - self.running)
        fills = f"the worker on {self.node} fills {cores_text(self.most)}, {left or 'none'} free"
        return f"needs {cores_text(self.cores)}, {fills}"


@dataclass(frozen=True, slots=True)
class GroupFull(Why):
    """The limit of a set or array leaves nothing: `most` of its jobs may run, and `running` do."""

    group: str
    most: int
    running: int

    @property
    def says(self) -> str:
        """The limit, and how to change it."""
        of, change = group_text(self.group), f"rq limit {group_word(self.group)} N changes that"
        if not self.most:
            return f"no job of {of} may start; {change}"
        if self.running > self.most:
            return f"{self.running} jobs of {of} run, its limit is {self.most}; {change}"
        run = "job of {} runs" if self.most == 1 else "jobs of {} run"
        return f"{self.running} of {self.most} {run.format(of)}; {change}"


@dataclass(frozen=True, slots=True)
class TakenWhole(Why):
    """Somebody's job has the node for itself."""

    node: str
    user: str
    job_id: str

    @property
    def says(self) -> str:
        """Whose job that is."""
        return f"{self.node} is taken whole by {visible(self.user)}'s job {visible(self.job_id)}"


@dataclass(frozen=True, slots=True)
class Lacks(Why):
    """What is there, with what I start, leaves too little room. `there` is who stands in a whole node's way.

    `behind` is the job of the same shape that comes before this one; `kept_for` is "it" if the node is kept
    for this job, or else the one of its shape for which it is.
    """

    need: Need
    room: Room
    of: Snapshot
    there: tuple[str, str] | None = None
    behind: str | None = None
    kept_for: str | None = None

    @property
    def says(self) -> str:
        """All that is lacking."""
        needs = f"needs {', and '.join(self._lacking())}"
        if self.behind is not None:
            needs = f"behind job {visible(self.behind)}, which {needs}"
        return f"{needs}; {self.of.node} is kept for {self.kept_for}" if self.kept_for else needs

    def _lacking(self) -> list[str]:
        need, room, of = self.need, self.room, self.of
        lacking = []
        if need.cores == ALL_CORES:
            if room.jobs:
                user, job_id = self.there or (of.me, "")
                one = f"{visible(user)}'s job {visible(job_id)} is"
                jobs = one if room.jobs == 1 else f"{room.jobs} jobs are"
                lacking.append(f"{of.node} for itself, {jobs} there")
        elif need.cores > room.cores:
            lacking.append(f"{cores_text(need.cores)}, {room.cores} of {of.cores} free")
        if need.memory > room.memory and need.memory:
            free = f"{below_text(room.memory, need.memory)} of {format_memory(of.memory_total)} free"
            lacking.append(f"{format_memory(need.memory)} of memory, {free}")
        if need.gpus > room.gpus:
            busy = f" ({of.gpus_busy} used by others' programs or not answering)" if of.gpus_busy else ""
            lacking.append(f"{gpus_text(need.gpus)}, {room.gpus} of {of.gpus + of.gpus_busy} free{busy}")
        there, total = dict(room.licenses), dict(of.site.licenses)
        for name, count in need.licenses:
            if count > there.get(name, 0):
                text = f"{licenses_text(name, count)}, {there.get(name, 0)} of {total.get(name, 0)} free"
                lacking.append(text)
        return lacking


@dataclass(frozen=True, slots=True)
class Turn(Why):
    """Another user goes next. Levels count what runs and what I start, not what is only expected."""

    user: str
    job_id: str
    theirs: Level
    me: str
    mine: Level
    shares: Shares

    @property
    def says(self) -> str:
        """Whose turn it is, and the numbers that make it so."""
        user, me = visible(self.user), visible(self.me)
        turn, first = f"{user}'s turn", f"{user}'s job {visible(self.job_id)} goes first"
        theirs, mine = self.theirs, self.mine
        if self.shares.are_equal or not self.shares.cluster_cores:
            if theirs.running == mine.running:
                each = f"{user} and {me} have {cores_text(theirs.running)} running each"
                return f"{turn} ({each}, {self._used_less() or first})"
            return f"{turn} ({user} has {cores_text(theirs.running)} running, {me} {mine.running})"
        has = share_text(self.shares, self.user, theirs.running)
        compared = f"{has}, {share_text(self.shares, self.me, mine.running)}"
        if theirs.height == mine.height:
            return f"{turn} ({compared}, {self._used_less() or first})"
        return f"{turn} ({compared})"

    def _used_less(self) -> str:
        return f"{visible(self.user)} used less of late" if self.theirs.used < self.mine.used else ""


@dataclass(frozen=True, slots=True)
class TurnToScavenge(Why):
    """What scavenges comes after everybody's other jobs, and then in turns of its own."""

    user: str
    job_id: str

    @property
    def says(self) -> str:
        """Whose job goes first."""
        return f"{visible(self.user)}'s job {visible(self.job_id)} goes before what scavenges here"


@dataclass(frozen=True, slots=True)
class Kept(Why):
    """There is room, but the node is kept for a job that has waited long, and this one would delay it."""

    node: str
    reservation: Reservation
    limit_s: float | None
    scavenges: bool = False

    @property
    def says(self) -> str:
        """For which job it is kept, and why this one may not fill in."""
        kept = self.reservation
        want = kept.want
        needs = cores_text(want.cores) if want.cores else "it whole"
        text = (
            f"{self.node} is kept for {visible(kept.user)}'s job {visible(want.id)},"
            f" which needs {needs} and has waited {format_age(want.waited_s)}"
        )
        if self.scavenges or kept.soon_s < 1:
            return text
        mine = "no time limit" if self.limit_s is None else f"a time limit of {format_age(self.limit_s)}"
        return f"{text}; it fits in {within(kept.soon_s)}, this job has {mine}"


# ---------------------------------------------------------------- what gives way


def gives_way(user: str, job_id: str) -> str:
    """The sentence of a scavenging job that is requeued."""
    return f"gives way to {visible(user)}'s job {visible(job_id)}: it scavenges"


def is_polite(user: str, job_id: str, theirs: int, me: str, mine: int, shares: Shares) -> str:
    """The sentence of a job that is requeued so that somebody below the fair share can start one."""
    compared = f"{share_text(shares, user, theirs)}, {share_text(shares, me, mine)}"
    return f"gives way to {visible(user)}'s job {visible(job_id)}: all cores are busy ({compared})"


def within(seconds: float) -> str:
    """A time that is an upper bound, rounded up: "40 s", "25 min", "30 h"."""
    for unit, most in ((1, 60), (60, 7200), (3600, 48 * 3600)):
        if seconds <= most:
            return format_age(math.ceil(seconds / unit) * unit)
    return format_age(math.ceil(seconds / 86_400) * 86_400) if math.isfinite(seconds) else "?"
