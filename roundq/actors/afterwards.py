"""Jobs that have ended, as far back as anything is known of them: from records, and from the history.

For the verbs that look back. Changes nothing. Records of another time than is asked for are not read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from roundq.actors import selection
from roundq.actors.allowance import Allowance
from roundq.actors.listing import NAMES_OF_OTHERS_MOST, Row, ended_ns, row_of
from roundq.records import history
from roundq.records import spool as spools
from roundq.records.spool import Entry, Spool
from roundq.words import fields, journal, selectors
from roundq.words.errors import UsageError
from roundq.words.job import NS
from roundq.words.ranges import Ids
from roundq.words.selectors import Last, Match, Set
from roundq.words.states import ENDED_STATES
from roundq.world import files

#: A file is written by the server's clock when its job ended by that of a node, which may be ahead of it.
CLOCKS_S = 3600
#: Bytes of somebody else's records that one look reads, and of the history.
OF_OTHERS_BYTES, HISTORY_OF_OTHERS_BYTES = 64 << 20, 256 << 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which jobs are asked for: whether a row is one of them; whether a job `may` be, by its id and state;
    and what their lines in the history have in them, so that not all have to be parsed."""

    has: Callable[[Row], bool] = lambda _: True
    may: Callable[[str, str], bool] = lambda *_: True
    needle: bytes = b""


def ended(
    spool: Spool,
    since_ns: int = 0,
    until_ns: int | None = None,
    *,
    wanted: Wanted | None = None,
    is_mine: bool = True,
) -> Iterator[Row]:
    """The jobs that ended in this time, each once, in no order. What cannot be read has no record.

    Raises OSError if the spool cannot be listed, or, after all others, if somebody else's history has more
    jobs than one look may read.
    """
    wanted = wanted or Wanted()
    allowance = None if is_mine else Allowance(OF_OTHERS_BYTES)
    seen: set[str] = set()
    # The records first: a job that is folded meanwhile is met in the history then.
    listed = spools.scan(spool, ENDED_STATES, most=files.NAMES_MAX if is_mine else NAMES_OF_OTHERS_MOST)
    entries = [entry for entry in listed if wanted.may(entry.id, entry.state)]
    if allowance is not None:
        allowance.expect(entries)
    for entry in entries:
        if is_mine and since_ns and _written_ns(spool, entry) < since_ns - CLOCKS_S * NS:
            continue
        row = row_of(spool, entry, is_mine, allowance)
        if row.state not in ENDED_STATES or row.id in seen:
            continue
        if row.record is None or _is_within(ended_ns(row.record), since_ns, until_ns):
            seen.add(row.id)
            if wanted.has(row):
                yield row
    budget = None if is_mine else HISTORY_OF_OTHERS_BYTES
    for past in history.since(spool, since_ns, until_ns, may=wanted.may, needle=wanted.needle, budget=budget):
        row = Row(spool, history.as_entry(past), past.record, past.problem, is_mine, past.path)
        if past.id not in seen and wanted.has(row):
            yield row


def _is_within(when_ns: int, since_ns: int, until_ns: int | None) -> bool:
    return since_ns <= when_ns and (until_ns is None or when_ns < until_ns)


def _written_ns(spool: Spool, entry: Entry) -> int:
    try:
        return os.lstat(spools.path_of(spool, entry)).st_mtime_ns
    except OSError:
        # It has moved on; who reads it will see where.
        return 1 << 62


def by_ids(
    spool: Spool, words: Sequence[str], since_ns: int, until_ns: int | None, now_ns: int
) -> list[Row] | None:
    """The same of words that are nothing but ids, which are looked up; None if one of them is something else.

    Raises UsageError.
    """
    meant = [selectors.parse(word) for word in words]
    if not meant:
        return None
    rows: dict[str, Row] = {}
    for one in meant:
        if not isinstance(one, Ids):
            return None
        # Some of a range may have been folded, and others not.
        for part in one.parts:
            rows.update((row.id, row) for row in selection.past_rows(spool, part))
    found = selection.select(spool, words, now_ns=now_ns, pause=lambda _: None).rows
    rows.update((row.id, row) for row in found if row.state in ENDED_STATES)
    return [
        row
        for row in rows.values()
        if row.record is None or _is_within(ended_ns(row.record), since_ns, until_ns)
    ]


def wanted(words: Iterable[str], names: Sequence[str], now_ns: int) -> Wanted:
    """The jobs that these words and names mean; without any, all. Raises UsageError."""
    parts = [_of_word(word, now_ns) for word in words] + [_of_name(name) for name in names]
    if not parts:
        return Wanted()
    return Wanted(
        lambda row: any(part.has(row) for part in parts),
        lambda job_id, state: any(part.may(job_id, state) for part in parts),
        parts[0].needle if len(parts) == 1 else b"",
    )


def _of_word(word: str, now_ns: int) -> Wanted:
    selector = selectors.parse(word)
    if isinstance(selector, Last):
        raise UsageError(
            f'"{word}" is the job that was submitted last', "name those that ended by id or name"
        )
    if isinstance(selector, Ids):
        return Wanted(may=lambda job_id, _: job_id == word or selector.has(job_id))
    if isinstance(selector, Set):
        return Wanted(
            lambda row: row.record is not None and row.record.job.set == selector.name,
            needle=journal.written(selector.name),
        )
    if isinstance(selector, Match):
        expression = selector.expression
        return Wanted(
            lambda row: bool(expression.verdict(_facts(row, now_ns))),
            # Whose job it is, and where it ran, its name does not tell.
            lambda job_id, state: (
                expression.verdict(fields.Facts(job_id, state, None, "", now_ns)) is not False
                or not expression.fields.isdisjoint(("node", "user"))
            ),
        )
    by_name = _of_name(selector.name)
    return Wanted(lambda row: row.id == word or by_name.has(row), needle=by_name.needle)


def _of_name(name: str) -> Wanted:
    # A job without a name is called by the words of its command, with spaces between them.
    longest = max(name.split(" "), key=len)
    return Wanted(
        lambda row: row.record is not None and row.record.job.name == name,
        needle=journal.written(longest) if longest.isprintable() else b"",
    )


def _facts(row: Row, now_ns: int) -> fields.Facts:
    job = None if row.record is None else row.record.job
    return fields.Facts(row.id, row.state, row.node, row.user, now_ns, job, row.record)
