"""Pure: what a held job waits for, and what follows from how that ended.

`decide` makes one `Why` for a held record: that it is released, canceled or goes on waiting, and what
`rq why` says of it, are one value. What its targets are is passed in, as counts of the states they lie in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from roundq.words.begins import begin_text
from roundq.words.job import NS, Dependency, Record
from roundq.words.quantities import visible
from roundq.words.sentences import Why, within
from roundq.words.states import CANCELED, COMPLETED, FAILED, ZOMBIE

#: What is waited for is told one by one up to here.
NAMED_MOST = 4
_ILL = (FAILED, CANCELED, ZOMBIE)


@dataclass(frozen=True, slots=True)
class Target:
    """What is known of a job, or of the tasks of an array: how many lie in each state.

    `gone`: some of them are nowhere, which was looked at more than once. `moving`: one was seen in two
    states, so that it is on its way from one to the other.
    """

    counts: Mapping[str, int]
    gone: bool = False
    moving: bool = False

    @property
    def well(self) -> int:
        """How many ended well."""
        return self.counts.get(COMPLETED, 0)

    @property
    def ill(self) -> int:
        """How many ended otherwise."""
        return sum(self.counts.get(state, 0) for state in _ILL)


class Standing(Enum):
    """How far a dependency is: not yet to be told, met, or never to be met."""

    OPEN = "open"
    MET = "met"
    NEVER = "never"


def standing(dependency: Dependency, target: Target) -> Standing:
    """How far a dependency is, from where its target lies now."""
    tasks = dependency.tasks or 1
    well, ill = target.well, target.ill
    if target.moving:
        return Standing.OPEN
    match dependency.how:
        case "ok" if ill:
            return Standing.NEVER
        case "ok" if well >= tasks:
            return Standing.MET
        case "fail" if well >= tasks:
            return Standing.NEVER
        case "any" | "fail" if well + ill >= tasks:
            return Standing.MET
    return Standing.NEVER if target.gone else Standing.OPEN


@dataclass(frozen=True, slots=True)
class Conditions:
    """What one held record waits for; times in nanoseconds since the epoch, 0 for none."""

    after: tuple[Dependency, ...] = ()
    begin_ns: int = 0
    not_before_ns: int = 0
    keep_held: bool = False

    @property
    def due_ns(self) -> int:
        """When it may begin at the earliest."""
        return max(self.begin_ns, self.not_before_ns)


def conditions(record: Record) -> Conditions:
    """The conditions that a record tells of."""
    job = record.job
    # A retry goes on with what has begun: what it came after had ended.
    after = () if record.retried else job.after
    return Conditions(after, job.begin_ns, record.not_before_ns, job.keep_held)


# ---------------------------------------------------------------- the decision, with its sentence


@dataclass(frozen=True, slots=True)
class Holding(Why):
    """Why a held job is released or is not. Its text is the whole sentence."""

    @property
    def text(self) -> str:
        """The sentence, which needs no verb before it."""
        return self.says


@dataclass(frozen=True, slots=True)
class Released(Holding):
    """Nothing holds it any more."""

    @property
    def says(self) -> str:
        """That it goes to waiting."""
        return "all that it waited for is there; a daemon of yours releases it in a moment"


@dataclass(frozen=True, slots=True)
class OnHold(Holding):
    """Its user holds it."""

    job_id: str

    @property
    def says(self) -> str:
        """That it is, and what ends it."""
        return f"on hold; rq release {visible(self.job_id)}"


@dataclass(frozen=True, slots=True)
class Pending(Holding):
    """Something that it waits for is not there yet: jobs that have not ended, or a time."""

    open: tuple[tuple[Dependency, Target], ...]
    when: Conditions
    now_ns: int

    @property
    def says(self) -> str:
        """For what it waits, and when it begins at the earliest."""
        said = [f"waits {_listed(self.open)}"] if self.open else []
        if self.when.due_ns > self.now_ns:
            said.append(self._time())
        return "; ".join(said)

    def _time(self) -> str:
        due_ns = self.when.due_ns
        if due_ns == self.when.not_before_ns:
            return f"retries in {within((due_ns - self.now_ns) / NS)}"
        return f"begins at {begin_text(due_ns, self.now_ns)}{' at the earliest' if self.open else ''}"


@dataclass(frozen=True, slots=True)
class Unmet(Holding):
    """A dependency can never be met: it is canceled, or with `keep_held` stays where it is."""

    dependency: Dependency
    target: Target
    keep_held: bool

    @property
    def detail(self) -> str:
        """What it was to run after, and what became of that: the `detail` of the record."""
        return unmet_text(self.dependency, self.target)

    @property
    def says(self) -> str:
        """The same, and what the user may do."""
        if not self.keep_held:
            return f"it is canceled in a moment: {self.detail}"
        return f"stays held (--keep-held): {self.detail}"


def decide(
    job_id: str,
    when: Conditions,
    look: Callable[[Dependency], Target],
    now_ns: int,
    *,
    is_on_hold: bool = False,
) -> Released | OnHold | Pending | Unmet:
    """Whether a held job may go, must wait, or can never go. `look` tells what is known of a target."""
    if is_on_hold:
        return OnHold(job_id)
    open_ones: list[tuple[Dependency, Target]] = []
    for dependency in when.after:
        target = look(dependency)
        how_far = standing(dependency, target)
        if how_far is Standing.NEVER:
            return Unmet(dependency, target, when.keep_held)
        if how_far is Standing.OPEN:
            open_ones.append((dependency, target))
    if open_ones or when.due_ns > now_ns:
        return Pending(tuple(open_ones), when, now_ns)
    return Released()


# ---------------------------------------------------------------- sentences


def after_text(after: Iterable[Dependency]) -> str:
    """The jobs after which one starts, and how they have to end if not well: "3, 17 (failed)"."""
    told = {"ok": "", "any": " (ended anyhow)", "fail": " (failed)"}
    return ", ".join(f"{one.job}{told[one.how]}" for one in after)


def _listed(open_ones: Iterable[tuple[Dependency, Target]]) -> str:
    each = [_waited(dependency, target) for dependency, target in open_ones]
    if len(each) > NAMED_MOST + 1:
        each = [*each[:NAMED_MOST], f"for {len(each) - NAMED_MOST} more"]
    return each[0] if len(each) == 1 else f"{', '.join(each[:-1])} and {each[-1]}"


def _waited(dependency: Dependency, target: Target) -> str:
    job = visible(dependency.job)
    end = {"any": "the end of ", "fail": "a failure of "}.get(dependency.how, "")
    if dependency.tasks:
        left = max(0, dependency.tasks - target.well - target.ill)
        tasks = "1 task" if dependency.tasks == 1 else f"{dependency.tasks} tasks"
        return f"for {end}{left} of {tasks} of {job}"
    state = next((state for state, count in target.counts.items() if count), None)
    return f"for {end}{job}{f' ({state})' if state else ''}"


_ENDED = {FAILED: "failed", CANCELED: "was canceled", ZOMBIE: "is lost"}
_OF_TASKS = {FAILED: "failed", CANCELED: "canceled", ZOMBIE: "lost"}


def unmet_text(dependency: Dependency, target: Target) -> str:
    """Why a dependency can never be met, as a sentence about the job that has it."""
    job = visible(dependency.job)
    what = f"the tasks of {job}" if dependency.tasks else f"job {job}"
    which = "of which" if dependency.tasks else "which"
    if target.ill and dependency.how == "ok":
        if dependency.tasks:
            ends = [
                f"{target.counts[state]} {_OF_TASKS[state]}" for state in _ILL if target.counts.get(state)
            ]
            became = ", ".join(ends)
        else:
            became = next(_ENDED[state] for state in _ILL if target.counts.get(state))
        return f"it was to run after {what}, {which} {became}"
    if dependency.how == "fail" and target.well >= (dependency.tasks or 1):
        ended = "and all ended well" if dependency.tasks else "which ended well"
        return f"it was to run after a failure of {what}, {ended}"
    return f"it was to run after {what}, of which nothing is known any more"
