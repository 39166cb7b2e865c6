"""The jobs that the words of a command mean: what every verb that takes jobs calls.

`actors.selection` finds them; here is what is said of words that mean none, and of many jobs at once.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from roundq.actors import selection
from roundq.actors.listing import Row, ended_ns, row_of
from roundq.faces.cli import SOME_FAILED, say
from roundq.faces.cli.charset import typed
from roundq.faces.cli.parser import Parser, shown
from roundq.faces.cli.person import Person
from roundq.records.spool import Spool
from roundq.words import match, ranges, selectors
from roundq.words.errors import NoSuchJob, UsageError
from roundq.words.job import NS
from roundq.words.states import ENDED_STATES

#: Jobs of one name that ended less than this before the last submission belong to the same batch.
BATCH_S = 60
#: A word meant no job.
SOME_UNKNOWN = 1
#: What stands for words that say which jobs, in usage lines.
JOBS = "JOBS"


class Chosen(NamedTuple):
    """The jobs that words mean, and the exit code so far: 1 if a word means none; that has been said.

    `exact` are the ids of jobs that were named each by its own id, `each` also those that are meant by their
    name: of these it is said what could not be done, of others only if nothing could.
    """

    rows: list[Row]
    code: int
    exact: frozenset[str]
    each: frozenset[str]


# ---------------------------------------------------------------- options


def add_jobs(parser: Parser, what: str = "jobs", *, some: bool = False) -> None:
    """Declares `options.jobs`, the words, and `options.job_name`; with `some` words may be left out."""
    parser.add_argument(
        "jobs",
        metavar=JOBS,
        # Whether there is one is asked when there is no -J either.
        nargs="*",
        type=typed,
        help=f"{what}: ids, ranges, names, last, %%SET, an expression; see: man rq",
    )
    parser.add_argument(
        "-J",
        "--job-name",
        metavar="NAME",
        type=typed,
        action="append",
        default=[],
        help="jobs of exactly this name, whatever it looks like",
    )
    parser.set_defaults(needs_jobs=not some)


def add_dry_run(parser: Parser) -> None:
    """Declares `options.dry_run`."""
    parser.add_argument("-n", "--dry-run", action="store_true", help="say which jobs, and change nothing")


# ---------------------------------------------------------------- finding


def chosen(
    asker: Person,
    words: Iterable[str],
    names: Iterable[str] = (),
    *,
    ended: bool = True,
    read: bool = True,
) -> Chosen:
    """The jobs to change: words that mean none are told, and the others done.

    Without `ended` expressions mean what has not ended, sets, arrays and ranges too as long as there is any
    of theirs, and a name the jobs that have not ended, or else the one that ended last; with it a name means
    its current batch. Without `read` rows may have no record and no problem. Raises UsageError for a word
    that is wrong: then nothing is done to anything.
    """
    words = list(words)
    found = _select(asker.spool, asker, words, names, ended=ended, read=read)
    if not ended:
        found = _with_ended_sets(found, asker, words, read=read)
    for word in found.unknown:
        error = no_such_job(word, ended=ended)
        say(str(error), error.hint)
    code = SOME_UNKNOWN if found.unknown else 0
    if found.undecided:
        _tell_undecided(found.undecided)
        code = SOME_UNKNOWN
    return Chosen(
        only_current(found) if ended else _without_history(found),
        code,
        found.exact,
        found.exact.union(found.named),
    )


def looked_at(
    asker: Person,
    words: Iterable[str],
    names: Iterable[str] = (),
    *,
    is_current: bool = True,
    read: bool = True,
    may_be_none: bool = False,
) -> Chosen:
    """The jobs to tell of, with their records unless `read` is false; with `is_current` a name means its
    current batch alone, with `may_be_none` an expression or a set may mean none.

    Raises NoSuchJob for a word that means none, UsageError for one that is wrong.
    """
    found = _select(asker.spool, asker, words, names, ended=True, read=read)
    for word in found.unknown:
        if not (may_be_none and (match.is_meant(word) or word.startswith(selectors.SET))):
            raise no_such_job(word)
    if found.undecided:
        _tell_undecided(found.undecided)
    rows = only_current(found) if is_current else found.rows
    code = SOME_UNKNOWN if found.undecided else 0
    return Chosen(rows, code, found.exact, found.exact.union(found.named))


def find_all(spool: Spool, words: Iterable[str], names: Iterable[str] = ()) -> list[Row]:
    """The jobs that words mean, with their records. Raises NoSuchJob for a word that means none."""
    found = _select(spool, None, words, names, ended=True, read=True)
    if found.unknown:
        raise no_such_job(found.unknown[0])
    return found.rows


def every(asker: Person) -> Chosen:
    """All my jobs that have not ended, of which no record was read."""
    found = _select(asker.spool, asker, ["*"], (), ended=False, read=False)
    return Chosen(found.rows, 0, frozenset(), frozenset())


def read(row: Row) -> Row:
    """The row with its record, or why there is none."""
    return row_of(row.spool, row.entry, True) if selection.is_unread(row) else row


def _select(
    spool: Spool, asker: Person | None, words: Iterable[str], names: Iterable[str], *, ended: bool, read: bool
) -> selection.Selection:
    return selection.select(
        spool,
        words,
        names=names,
        now_ns=time.time_ns(),
        ended=ended,
        read=read,
        # Where a rename may have two winners, the first name that is met need not be the right one.
        whole=asker is not None and asker.config.settle_s > 0,
    )


def _with_ended_sets(
    found: selection.Selection, asker: Person, words: Sequence[str], *, read: bool
) -> selection.Selection:
    """And the jobs of sets of which all have ended: each verb says what follows for these."""
    unmet = [word for word in found.unknown if word in words and word.startswith(selectors.SET)]
    if not unmet:
        return found
    over = _select(asker.spool, asker, unmet, (), ended=True, read=read)
    known = {row.id for row in found.rows}
    return replace(
        found,
        rows=found.rows + [row for row in over.rows if row.id not in known],
        unknown=[word for word in found.unknown if word not in unmet or word in over.unknown],
    )


def require(options: argparse.Namespace, verb: str) -> None:
    """Raises UsageError if no word says which jobs."""
    if not options.jobs and not options.job_name:
        raise UsageError(f"which jobs to {verb}?", "name them by id or name; last is what you submitted last")


def _tell_undecided(ids: Sequence[str]) -> None:
    count = "1 job file" if len(ids) == 1 else f"{len(ids)} job files"
    say(
        f"{count} cannot be read, so it is not known whether you mean {ranges.brief(ids)}",
        f"rq show {ids[0]} says why",
    )


def no_such_job(word: str, *, ended: bool = True) -> NoSuchJob:
    """What is said of a word that means no job of mine; without `ended`, none that has not ended."""
    if match.is_meant(word):
        jobs = "no job of yours" if ended else "no job of yours that has not ended"
        return NoSuchJob(f"{jobs} matches {shown(word)}", "a job of this name is meant by -J")
    if word.startswith("%"):
        return NoSuchJob(f"no such set: {word}", "rq sets lists your sets")
    if any(char in word for char in "*?"):
        return NoSuchJob(f"no such job: {shown(word)}", f"for a pattern write 'name={shown(word)}'")
    return NoSuchJob(f"no such job: {shown(word)}", "rq q --mine lists your jobs")


# ---------------------------------------------------------------- names


def _without_history(found: selection.Selection) -> list[Row]:
    """Without ended jobs whose name others bear that have not; of a name that nobody else bears, the last."""
    of_name: dict[str, list[Row]] = {}
    for row in found.rows:
        if row.id in found.named:
            of_name.setdefault(found.named[row.id], []).append(row)
    dropped: set[str] = set()
    for rows in of_name.values():
        ended = [row.id for row in rows if row.state in ENDED_STATES]
        dropped.update(ended if len(ended) < len(rows) else ended[:-1])
    return [row for row in found.rows if row.id not in dropped]


def only_current(found: selection.Selection) -> list[Row]:
    """Without those that are meant by their name and ended before its current batch.

    A name is used again and again. Its batch begins with the oldest of its jobs that have not ended, or
    else with the one submitted last.
    """
    of_name: dict[str, list[Row]] = {}
    for row in found.rows:
        if row.id in found.named and (known := read(row)).record is not None:
            of_name.setdefault(found.named[row.id], []).append(known)
    dropped: set[str] = set()
    for same in of_name.values():
        live = [row.record.job.submitted_ns for row in same if row.state not in ENDED_STATES and row.record]
        since_ns = min(live) if live else max(row.record.job.submitted_ns for row in same if row.record)
        dropped.update(
            row.id
            for row in same
            if row.state in ENDED_STATES and row.record and ended_ns(row.record) < since_ns - BATCH_S * NS
        )
    return [row for row in found.rows if row.id not in dropped]


# ---------------------------------------------------------------- saying which


def title(row: Row) -> str:
    """A job in a sentence: its id, and its name in quotes if that is known."""
    return row.id if row.record is None else f"{row.id} {shown(row.record.job.name)}"


def would(verb: str, rows: Sequence[Row], code: int) -> int:
    """Says what --dry-run shows; the exit code, which is `code` if there is something to do."""
    print(f"would {verb} {which(rows)}" if rows else f"would {verb} nothing")
    return code if rows else SOME_FAILED


def which(rows: Sequence[Row], where: str = "") -> str:
    """Jobs in a sentence: the one with its name, of several how many and which, so that they can be typed.

    `where` begins with a blank.
    """
    if len(rows) == 1:
        (row,) = rows
        return f"{title(read(row))}{where}"
    return f"{len(rows)} jobs{where}: {ranges.brief(row.id for row in rows)}"
