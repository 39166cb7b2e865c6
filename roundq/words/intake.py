"""Pure: what a worker takes of the jobs that wait, as its user told it: a set, words, a number of cores."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from roundq.words import selectors
from roundq.words.errors import UsageError
from roundq.words.fields import Facts
from roundq.words.job import Record
from roundq.words.quantities import visible
from roundq.words.ranges import Ids
from roundq.words.room import cores_text
from roundq.words.selectors import Last, Match, Name, Selector, Set
from roundq.words.states import WAITING

#: Of what changes with the time alone.
_OF_TIME = frozenset(("age", "waited", "ran"))


@dataclass(frozen=True, slots=True)
class Intake:
    """What a worker takes: jobs of the `set`, if one is named, that one of `words` means, if any.

    `meant` is what the words mean; `ids` are exact ids beside it. `cores` are those that it fills at most,
    None for all that its node offers.
    """

    cores: int | None = None
    set: str | None = None
    words: tuple[str, ...] = ()
    meant: tuple[Selector, ...] = ()
    ids: frozenset[str] = frozenset()

    def takes(self, job_id: str, record: Record, user: str, now_ns: int) -> bool:
        """Whether a waiting job of `user` is taken; `now_ns` is the time of day for expressions."""
        if self.set is not None and record.job.set != self.set:
            return False
        if not self.words or job_id in self.ids:
            return True
        return any(_means(selector, job_id, record, user, now_ns) for selector in self.meant)

    @property
    def is_of_arrays(self) -> bool:
        """Whether it takes all tasks of an array that were submitted alike, or none."""
        return not self.words

    @property
    def is_of_time(self) -> bool:
        """Whether it may take later what it does not take now, although the job is the same."""
        expressions = (one.expression for one in self.meant if isinstance(one, Match))
        return any(expression.fields & _OF_TIME for expression in expressions)

    @property
    def text(self) -> str:
        """What it takes in a sentence, but for the cores: "jobs of set fit that 17-20 means"."""
        of_set = "" if self.set is None else f" of set {visible(self.set)}"
        words = visible(" ".join(self.words))
        meant = f" that {words} {'means' if len(self.words) == 1 else 'mean'}" if self.words else ""
        return f"jobs{of_set}{meant}" if of_set or meant else "all jobs"

    @property
    def card_text(self) -> str:
        """The same with the cores."""
        return self.text if self.cores is None else f"{self.text}, on {cores_text(self.cores)}"


def intake(
    words: Iterable[str], *, of_set: str | None = None, cores: int | None = None, ids: Iterable[str] = ()
) -> Intake:
    """What these words tell a worker to take; `ids` are the jobs that are meant by those of them which mean
    what there is now.

    Raises UsageError for a word that is wrong and no id.
    """
    told, known = tuple(dict.fromkeys(words)), frozenset(ids)
    meant: list[Selector] = []
    for word in told:
        try:
            selector = selectors.parse(word)
        except UsageError:
            if word not in known:
                raise
            continue
        if not isinstance(selector, Last):
            meant.append(selector)
    return Intake(cores, of_set, told, tuple(meant), known)


def _means(selector: Selector, job_id: str, record: Record, user: str, now_ns: int) -> bool:
    job = record.job
    if isinstance(selector, Ids):
        # A name may look like an id.
        return selector.has(job_id) or job.name == selector.text
    if isinstance(selector, Match):
        facts = Facts(job_id, WAITING, None, user, now_ns, job, record)
        return selector.expression.matches(facts)
    if isinstance(selector, Set):
        return job.set == selector.name
    return isinstance(selector, Name) and job.name == selector.name
