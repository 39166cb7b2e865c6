"""Jobs that have ended, as far back as anything is known of them: from records, and from the history.

For the verbs that look back. Changes nothing. Records of another time than is asked for are not read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence

from roundq.actors.listing import Allowance, Row, ended_ns, row_of
from roundq.records import history
from roundq.records import spool as spools
from roundq.records.spool import Entry, Spool
from roundq.words import fields, selectors
from roundq.words.errors import UsageError
from roundq.words.job import NS
from roundq.words.ranges import Ids
from roundq.words.selectors import Last, Match, Set
from roundq.words.states import ENDED_STATES

#: A file is written by the server's clock when its job ended by that of a node, which may be ahead of it.
CLOCKS_S = 3600
#: Bytes of somebody else's records that one look reads.
OF_OTHERS_BYTES = 64 << 20

#: Whether a row is one of those that are asked for.
Wanted = Callable[[Row], bool]


def ended(
    spool: Spool, since_ns: int = 0, until_ns: int | None = None, *, is_mine: bool = True
) -> Iterator[Row]:
    """The jobs that ended in this time, each once, in no order. What cannot be read has no record.

    Raises OSError if the spool cannot be listed.
    """
    allowance = None if is_mine else Allowance(OF_OTHERS_BYTES)
    seen: set[str] = set()
    # The records first: a job that is folded meanwhile is met in the history then.
    for entry in spools.scan(spool, ENDED_STATES):
        if is_mine and since_ns and _written_ns(spool, entry) < since_ns - CLOCKS_S * NS:
            continue
        row = row_of(spool, entry, is_mine, allowance)
        if row.state not in ENDED_STATES or row.id in seen:
            continue
        if row.record is None or _is_within(ended_ns(row.record), since_ns, until_ns):
            seen.add(row.id)
            yield row
    for past in history.since(spool, since_ns, until_ns):
        if past.id not in seen:
            yield Row(spool, history.as_entry(past), past.record, past.problem, is_mine, past.path)


def _is_within(when_ns: int, since_ns: int, until_ns: int | None) -> bool:
    return since_ns <= when_ns and (until_ns is None or when_ns < until_ns)


def _written_ns(spool: Spool, entry: Entry) -> int:
    try:
        return os.lstat(spools.path_of(spool, entry)).st_mtime_ns
    except OSError:
        # It has moved on; who reads it will see where.
        return 1 << 62


def wanted(words: Iterable[str], names: Sequence[str], now_ns: int) -> Wanted:
    """What tells which rows these words and names mean; without any, all. Raises UsageError."""
    tests = [_of_word(word, now_ns) for word in words]
    if names:
        tests.append(lambda row: row.record is not None and row.record.job.name in names)
    return (lambda row: any(test(row) for test in tests)) if tests else (lambda _: True)


def _of_word(word: str, now_ns: int) -> Wanted:
    selector = selectors.parse(word)
    if isinstance(selector, Last):
        raise UsageError(
            f'"{word}" is the job that was submitted last', "name those that ended by id or name"
        )
    if isinstance(selector, Ids):
        return lambda row: row.id == word or selector.has(row.id)
    if isinstance(selector, Set):
        return lambda row: row.record is not None and row.record.job.set == selector.name
    if isinstance(selector, Match):
        return lambda row: bool(selector.expression.verdict(_facts(row, now_ns)))
    return lambda row: row.id == word or (row.record is not None and row.record.job.name == selector.name)


def _facts(row: Row, now_ns: int) -> fields.Facts:
    job = None if row.record is None else row.record.job
    return fields.Facts(row.id, row.state, row.node, row.user, now_ns, job, row.record)
