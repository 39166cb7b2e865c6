"""Which jobs that come later, or come to another state, the words of a command mean as well.

`actors.selection` says which they mean now. What can only mean jobs that are there, an id or `last`, means no
newcomer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from roundq.actors.listing import row_of
from roundq.records.spool import Entry, Spool
from roundq.words import selectors
from roundq.words.errors import UsageError
from roundq.words.fields import Facts
from roundq.words.job import Job, Record
from roundq.words.ranges import Ids, One, array_of
from roundq.words.selectors import Match, Name, Selector, Set


class Newcomers:
    """Judges jobs one by one; of an array the record of one task is read. `clock_ns` is the time of day."""

    def __init__(
        self, spool: Spool, words: Iterable[str], names: Iterable[str], clock_ns: Callable[[], int]
    ) -> None:
        """Words that are wrong mean nobody: who selected by them has been told."""
        self._spool, self._clock_ns = spool, clock_ns
        self._meant: list[Selector] = [Name(name) for name in names]
        for word in words:
            try:
                self._meant.append(selectors.parse(word))
            except UsageError:
                # It is an id, or was refused.
                continue
        self._jobs: dict[str, Job] = {}

    def mean(self, entry: Entry) -> bool:
        """Whether a job is meant, as it is now."""
        return any(self._means(selector, entry) for selector in self._meant)

    def _means(self, selector: Selector, entry: Entry) -> bool:
        if isinstance(selector, Ids):
            return any(not isinstance(one, One) and one.has(entry.id) for one in selector.parts)
        if isinstance(selector, Match):
            verdict = selector.expression.verdict(self._facts(entry, self._known(entry)))
            if verdict is None and (record := self._read(entry)) is not None:
                facts = self._facts(entry, record.job)._replace(record=record, node=entry.node or record.node)
                verdict = selector.expression.verdict(facts)
            return bool(verdict)
        if isinstance(selector, Name | Set):
            job = self._job(entry)
            of = None if job is None else job.name if isinstance(selector, Name) else job.set
            return of is not None and of == selector.name
        return False

    def _facts(self, entry: Entry, job: Job | None) -> Facts:
        return Facts(entry.id, entry.state, entry.node, self._spool.user, self._clock_ns(), job)

    def _known(self, entry: Entry) -> Job | None:
        return self._jobs.get(array_of(entry.id) or "")

    def _job(self, entry: Entry) -> Job | None:
        known = self._known(entry)
        if known is not None:
            return known
        record = self._read(entry)
        return None if record is None else record.job

    def _read(self, entry: Entry) -> Record | None:
        record = row_of(self._spool, entry, True).record
        array = array_of(entry.id)
        if record is not None and array and record.job.array is not None:
            self._jobs[array] = record.job
        return record
