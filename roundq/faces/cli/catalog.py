"""Which jobs a list is of: found by names where they tell enough, read one by one, and put in order.

What the verbs `list` and `dump` share. A record is read when its turn comes, so that the first of a hundred
thousand jobs are told at once.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from roundq.actors import listing as listings
from roundq.actors.allowance import Allowance
from roundq.actors.listing import Bundle, Listing, Row
from roundq.faces.cli import named
from roundq.faces.cli.looking import cards_of, facts_of, here_of, spools_of
from roundq.faces.cli.parser import Parser, shown, suggestion
from roundq.faces.cli.person import Person
from roundq.faces.since import parse_since
from roundq.records import census
from roundq.records import spool as spools
from roundq.records.census import Census
from roundq.records.spool import Entry, Spool
from roundq.words import ranges, selectors
from roundq.words.errors import UsageError
from roundq.words.fields import STATE_WORDS
from roundq.words.fields import Facts as JobFacts
from roundq.words.job import NS
from roundq.words.ranges import Ids
from roundq.words.selectors import Last, Match, Set
from roundq.words.states import ENDED_STATES, STATES

if TYPE_CHECKING:
    from roundq.faces.job_fields import JobField
    from roundq.faces.queue_view import Facts
    from roundq.records.neighbours import Seen

#: Rows that are read, laid out and printed together; the first ones say how wide columns are.
PART = 1000
#: By how much the clocks of nodes and servers may differ, in ns, before a list leaves something out.
_CLOCKS_NS = 86_400 * NS
#: What cards and requests are read for.
_OF_CARDS = frozenset({"silent", "paused", "why", "starts_within"})


class ListParser(Parser):
    """A parser in which a word that begins with a dash may follow `--sort`."""

    def parse(self, words: list[str]) -> argparse.Namespace:
        """The options that these words give."""
        joined: list[str] = []
        for word in words:
            if joined and joined[-1] == "--sort":
                joined[-1] = f"--sort={word}"
            else:
                joined.append(word)
        return super().parse(joined)


def add_which(parser: Parser) -> None:
    """Declares the words that say which jobs a list is of."""
    named.add_jobs(parser, "jobs to list", some=True)
    states = parser.add_mutually_exclusive_group()
    states.add_argument(
        "-t",
        "--state",
        metavar="STATE",
        help="only jobs in this state, or in one of several: running,waiting",
    )
    states.add_argument("-a", "--all", action="store_true", help="jobs in every state, as without it")
    whose = parser.add_mutually_exclusive_group()
    whose.add_argument("-u", "--user", metavar="USER", help="jobs of this user instead of mine")
    whose.add_argument("--all-users", action="store_true", help="jobs of everybody")
    parser.add_argument(
        "--since", metavar="TIME", help="without what ended before: 2h, 7d, 9:00, yesterday, 2026-12-24"
    )
    parser.add_argument(
        "--sort",
        metavar="COLUMNS",
        default="",
        help="sort by these columns, backwards with a - before the name",
    )
    parser.add_argument("-n", "--limit", metavar="N", help="at most N of them, the first ones")


class Catalog:
    """The jobs that a list is of. `problems` are why queues of users cannot be listed, once that was tried.

    Raises UsageError, before anything is looked for, for a word of an option that is wrong.
    """

    def __init__(self, options: argparse.Namespace, environ: Mapping[str, str]) -> None:
        from roundq.faces import job_fields

        self.options = options
        self.now_ns = time.time_ns()
        self.states = _states(options.state)
        self.since_ns = 0 if options.since is None else parse_since(options.since, self.now_ns)
        self.most = _limit(options)
        columns = getattr(options, "columns", None)
        self.columns = None if columns is None else job_fields.chosen(columns, "-o")
        self.sorts = _sorts(options.sort)
        self.here = here_of(environ)
        self.problems: dict[str, str] = {}
        self._cards: list[Seen] | None = None
        self._allowances: dict[str, Allowance] = {}

    # ------------------------------------------------------------ found

    def rows(self) -> Iterator[Row]:
        """The jobs that are asked for, most of them unread: mine first, by their ids."""
        for spool in self._spools():
            with self._problem_told(spool):
                for row in self._chosen(spool):
                    if row.state in self.states:
                        yield row

    def _spools(self) -> list[Spool]:
        options, me = self.options, self.here.me
        of = spools_of(self.here, options.user, options.user is None and not options.all_users)
        return sorted(of, key=lambda spool: (spool != me, spool.user, spool.path))

    @contextlib.contextmanager
    def _problem_told(self, spool: Spool) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if isinstance(error, BrokenPipeError):
                raise
            self.problems[spool.user] = f"{spool.path} cannot be listed: {error.strerror or error}"

    def _chosen(self, spool: Spool) -> Iterable[Row]:
        words, names = self.options.jobs, self.options.job_name
        if not words and not names:
            return self._all(spool)
        if spool != self.here.me:
            return self._of_others(spool, words, names)
        asker = Person(spool, self.here.node, self.here.config)
        found = named.looked_at(asker, words, names, is_current=False, read=False, may_be_none=True)
        return sorted(found.rows, key=lambda row: listings.age_key(row.id))

    def _all(self, spool: Spool) -> Iterator[Row]:
        if spool.is_commons:
            yield from listings.listing([spool], self.here.me, now_ns=self.now_ns).rows
            return
        for state, job in self._census(spool).ordered(self.states):
            yield self._unread(spool, census.entry_of(state, job))

    def _census(self, spool: Spool) -> Census:
        return listings.taken(spool, spool == self.here.me, self._allowance(spool))

    def _unread(self, spool: Spool, entry: Entry) -> Row:
        return Row(spool, entry, None, None, spool == self.here.me)

    def _of_others(self, spool: Spool, words: Sequence[str], names: Sequence[str]) -> list[Row]:
        """The jobs of somebody else that words mean: expressions alone, ids, and names."""
        meant = [selectors.parse(word) for word in words]
        found = []
        for row in self._all(spool):
            if any(isinstance(one, Ids) and one.has(row.id) for one in meant):
                found.append(row)
                continue
            for one in meant:
                if isinstance(one, Last):
                    raise UsageError("of the jobs of others none is the last", "name them by their ids")
                verdict = self._verdict(one, row)
                if verdict is None:
                    row = self.read(row)
                    verdict = self._verdict(one, row)
                if verdict:
                    break
            else:
                if not names:
                    continue
                row = self.read(row)
                if row.record is None or row.record.job.name not in names:
                    continue
            found.append(row)
        return found

    def _verdict(self, one: selectors.Selector, row: Row) -> bool | None:
        record = row.record
        job = None if record is None else record.job
        if isinstance(one, Match):
            facts = JobFacts(row.id, row.state, row.node, row.user, self.now_ns, job)
            return one.expression.verdict(facts if record is None else facts._replace(record=record))
        if isinstance(one, Ids):
            return False
        if job is None:
            return None if row.problem is None else False
        return job.set == one.name if isinstance(one, Set) else job.name == getattr(one, "name", None)

    # ------------------------------------------------------------ read

    def _allowance(self, spool: Spool) -> Allowance | None:
        if spool == self.here.me:
            return None
        return self._allowances.setdefault(spool.path, Allowance())

    def read(self, row: Row) -> Row:
        """The row with its record, or with why there is none."""
        if row.record is not None or row.problem is not None:
            return row
        return listings.row_of(row.spool, row.entry, row.is_mine, self._allowance(row.spool))

    def read_all(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The rows with their records, one by one, but those that ended too early or left the states."""
        for part in parts(rows):
            by_spool: dict[str, list[Row]] = {}
            for row in part:
                if row.record is None and row.problem is None and not row.is_mine:
                    by_spool.setdefault(row.spool.path, []).append(row)
            for unread in by_spool.values():
                allowance = self._allowance(unread[0].spool)
                if allowance is not None:
                    allowance.expect(row.entry for row in unread)
            for row in part:
                found = self.read(row)
                if found.state in self.states and not self._is_old(found):
                    yield found

    def _is_old(self, row: Row) -> bool:
        if not self.since_ns or row.state not in ENDED_STATES or row.record is None:
            return False
        return listings.ended_ns(row.record) < self.since_ns

    def facts(self, rows: Sequence[Row], fields: Iterable[JobField] | None = None) -> Facts:
        """What is known beside the records of these rows, as far as `fields` need it, if they are given."""
        from roundq.faces.queue_view import Facts

        if fields is not None and not any(field.name in _OF_CARDS for field in fields):
            return Facts(self.now_ns)
        if self._cards is None and any(row.state not in ENDED_STATES for row in rows):
            self._cards = cards_of(self.here)
        held = any(row.record is not None and row.record.job.after for row in rows)
        jobs = {self.here.me.path: listings.taken(self.here.me, True)} if held else {}
        found = Listing(tuple(rows), jobs=jobs)
        return facts_of(self.here, found, self.now_ns, is_narrow=True, known=self._cards)

    # ------------------------------------------------------------ in order

    def stream(self) -> Iterator[Row]:
        """The jobs that are asked for, in the order and the number that are; read one by one if need be."""
        found = self.rows()
        return islice(self._sorted(self.read_all(found) if self._needs() else found), self.most)

    def _needs(self) -> bool:
        """Whether records have to be read."""
        if self.since_ns or not self.columns:
            return True
        return not all(field.of_name for field in [*self.columns, *(field for field, _ in self.sorts)])

    def _sorted(self, rows: Iterator[Row]) -> Iterator[Row]:
        """The rows in the order that --sort asks for; without it they are not collected."""
        if not self.sorts:
            return rows
        from roundq.faces import job_fields

        found = list(rows)
        facts = self.facts(found, [field for field, _ in self.sorts])
        for field, is_backwards in reversed(self.sorts):
            keys = {id(row): job_fields.order(field, row, facts) for row in found}
            # What has no value is last, whatever the direction.
            known = [row for row in found if not keys[id(row)][0]]
            known.sort(key=lambda row: keys[id(row)][1], reverse=is_backwards)
            found = known + [row for row in found if keys[id(row)][0]]
        return iter(found)

    def bundled(self) -> Iterator[Row | Bundle]:
        """The jobs that are asked for, read, each array as one line, by their ids."""
        is_of_all = not self.options.jobs and not self.options.job_name
        return islice(self._bundles_of_all() if is_of_all else self._bundles(list(self.rows())), self.most)

    def _bundles_of_all(self) -> Iterator[Row | Bundle]:
        """Of all jobs, by their names: arrays need not be taken apart."""
        for spool in self._spools():
            with self._problem_told(spool):
                if spool.is_commons:
                    yield from self._bundles(list(self._all(spool)))
                    continue
                jobs = self._census(spool)
                for state, job in jobs.ordered(self.states, is_bundled=True):
                    if state:
                        yield from self.read_all([self._unread(spool, census.entry_of(state, job))])
                        continue
                    array = census.id_of(job)
                    by_state = jobs.arrays[array]
                    counts = {state: len(by_state[state]) for state in self.states if state in by_state}
                    ends = {
                        state: (jobs.first_task(array, state), jobs.last_task(array, state))
                        for state in counts
                    }
                    tasks = (
                        census.entry_of(state, job)
                        for state in counts
                        if state in ENDED_STATES
                        for job in by_state[state]
                    )
                    yield from self._bundle(spool, array, counts, ends, tasks)

    def _bundles(self, rows: Sequence[Row]) -> Iterator[Row | Bundle]:
        """Of these rows, which are in order."""
        arrays: dict[tuple[str, str], list[Row]] = {}
        for row in rows:
            if array := ranges.array_of(row.id):
                arrays.setdefault((row.spool.path, array), []).append(row)
        for row in rows:
            array = ranges.array_of(row.id)
            tasks = arrays.get((row.spool.path, array), ())
            if len(tasks) < 2:
                yield from self.read_all([row])
            elif row is tasks[0]:
                counts: dict[str, int] = {}
                ends: dict[str, tuple[Entry, Entry]] = {}
                for task in tasks:
                    counts[task.state] = counts.get(task.state, 0) + 1
                    ends[task.state] = (ends.get(task.state, (task.entry,))[0], task.entry)
                ended = (task.entry for task in tasks if task.state in ENDED_STATES)
                yield from self._bundle(row.spool, array, counts, ends, ended)

    def _bundle(
        self,
        spool: Spool,
        array: str,
        counts: dict[str, int],
        ends: Mapping[str, tuple[Entry, Entry]],
        tasks: Iterable[Entry],
    ) -> Iterator[Row | Bundle]:
        """An array, of which so many tasks are in these states, and these the first and the last there.

        `tasks` are those that have ended.
        """
        state = listings.state_of(counts)
        if sum(counts.values()) == 1:
            yield from self.read_all([self._unread(spool, ends[state][0])])
            return
        # The last index ended last, roughly.
        last = [self._unread(spool, last) for ended, (_, last) in ends.items() if ended in ENDED_STATES]
        ended = [listings.ended_ns(row.record) for row in map(self.read, last) if row.record]
        if state in ENDED_STATES and ended and max(ended) < self.since_ns:
            # But one of a lower index may have been run again.
            again = next(self.read_all(self._lately_written(spool, tasks)), None)
            if again is None:
                return
            ended += [listings.ended_ns(again.record)] if again.record else []
        row = self.read(self._unread(spool, ends[state][0]))
        yield Bundle(array, counts, row, max(ended, default=0))

    def _lately_written(self, spool: Spool, entries: Iterable[Entry]) -> Iterator[Row]:
        """Those whose files, of mine, say that they may have ended since; the server's clock may be wrong."""
        before_ns = self.since_ns - _CLOCKS_NS
        for entry in entries:
            if spool == self.here.me:
                with contextlib.suppress(OSError):
                    if os.lstat(spools.path_of(spool, entry)).st_mtime_ns < before_ns:
                        continue
            yield self._unread(spool, entry)


def parts(items: Iterable[Any], size: int = PART) -> Iterator[list[Any]]:
    """The items, so many at a time."""
    left = iter(items)
    while part := list(islice(left, size)):
        yield part


def _states(text: str | None) -> Sequence[str]:
    """The states that -t names. Raises UsageError for a word that is none."""
    if text is None:
        return STATES
    found: set[str] = set()
    for word in text.split(","):
        name = word.strip().lower()
        if name not in STATE_WORDS:
            near = suggestion(name, STATE_WORDS)
            raise UsageError(
                f"-t: there is no state {shown(word)}", near or f"states are {', '.join(STATE_WORDS)}"
            )
        found.update(STATE_WORDS[name])
    return [state for state in STATES if state in found]


def _limit(options: argparse.Namespace) -> int | None:
    text = options.limit
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise UsageError(f"-n: {shown(text)} is no number", "give a whole number: -n 20")
    return int(text)


def _sorts(text: str) -> list[tuple[JobField, bool]]:
    """The fields to sort by, and whether backwards."""
    from roundq.faces import job_fields

    found = []
    for word in text.split(",") if text else ():
        name = word.strip()
        found.append((job_fields.chosen(name.removeprefix("-"), "--sort")[0], name.startswith("-")))
    return found
