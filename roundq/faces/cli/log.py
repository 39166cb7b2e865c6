"""`rq log`: the output of jobs, byte by byte as it is. It changes nothing."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shlex
import sys
import time

from roundq.actors import part, queue
from roundq.actors.listing import Row
from roundq.actors.part import Part
from roundq.actors.streams import error_path, output_path
from roundq.actors.tail import CUT, REPLACED, Tail
from roundq.faces.cli import say
from roundq.faces.cli.named import add_jobs, looked_at, require, title
from roundq.faces.cli.parser import Parser, shown
from roundq.faces.cli.person import Person, any_person
from roundq.faces.cli.stopping import look_for_signals
from roundq.records.spool import Spool
from roundq.words import ranges
from roundq.words.errors import NoSuchJob, RoundqError, UsageError
from roundq.words.groups import MARK
from roundq.words.quantities import visible
from roundq.words.states import CANCELED, CLAIMED, PENDING_STATES

#: Of several jobs none has any output.
NO_OUTPUT = 1
#: How much of an output file is copied at once.
CHUNK_BYTES = 1 << 18
#: How often a followed output is looked at, in seconds.
_LOOK_S = 0.25
#: What `Tail` may say of a file.
CHANGES = {REPLACED: "was replaced by another file", CUT: "was cut"}


def build_parser(verb: str) -> Parser:
    """The parser of `log`."""
    sentence = "Print the output of jobs. Of a name, the job that was submitted last is meant."
    parser = Parser(verb, "[OPTION...] JOBS...", sentence, "rq log -f fit")
    add_jobs(parser)
    add = parser.add_argument
    add("--events", action="store_true", help="what happened to the jobs, line by line; of a %%SET always")
    add("-f", "--follow", action="store_true", help="go on printing until the job has ended")
    add("-e", "--error", action="store_true", help="its standard error, if that has a file of its own")
    add("--attempt", metavar="N", type=_number, help="what its attempt N wrote, not the last one")
    add("-n", "--lines", metavar="N", type=_count, help="only the last N lines")
    return parser


def _number(text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text) or not int(text):
        raise UsageError(f"--attempt {shown(text)}: not the number of an attempt", "the first one is 1")
    return int(text)


def _count(text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text):
        raise UsageError(f"--lines {shown(text)}: not a number of lines", "for example: rq log -n 20 fit")
    return int(text)


def run(_verb: str, options: argparse.Namespace) -> int:
    """Copies the output to standard output; the exit code."""
    require(options, "print the output of")
    asker = any_person()
    if options.events or any(word.startswith(MARK) for word in options.jobs):
        from roundq.faces.cli import set_log

        return set_log.run(options, asker)
    rows, exact = _rows(options, asker)
    if options.follow:
        return _followed(rows, options, asker)
    if len(rows) == 1:
        _print(rows[0], options)
        return 0
    return _print_all(rows, exact, options)


def _rows(options: argparse.Namespace, asker: Person) -> tuple[list[Row], frozenset[str]]:
    """The jobs that are meant, and the ids of those that were named each by its own: of a name the one that
    was submitted last is meant, whose output is looked for."""
    rows: dict[str, Row] = {}
    exact: set[str] = set()
    for word, is_name in [(word, False) for word in options.jobs] + [
        (name, True) for name in options.job_name
    ]:
        found = looked_at(asker, [] if is_name else [word], [word] if is_name else [])
        exact |= found.exact
        same = [row for row in found.rows if row.record is not None and row.record.job.name == word]
        if is_name or (len(same) == len(found.rows) and not found.exact):
            rows.update((row.id, row) for row in found.rows[-1:])
        else:
            rows.update((row.id, row) for row in found.rows)
    return list(rows.values()), frozenset(exact)


def _print_all(rows: list[Row], exact: frozenset[str], options: argparse.Namespace) -> int:
    """Prints the output of each, below a line that says whose it is; what there is none of is told."""
    code, place = 0, 0
    unbegun: list[str] = []
    for row in rows:
        look_for_signals()
        if row.id not in exact and _has_not_begun(row):
            unbegun.append(row.id)
            continue
        before = "\n" if place else ""
        place += 1
        print(f"{before}==> {visible(title(row))}, {row.state} <==", flush=True)
        try:
            _print(row, options)
        except RoundqError as error:
            say(str(error), error.hint)
            code = error.exit_code
    if unbegun:
        count = "1 job has" if len(unbegun) == 1 else f"{len(unbegun):,} jobs have"
        say(f"{count} not begun, and no output: {ranges.brief(unbegun)}")
    return code if place else NO_OUTPUT


def _has_not_begun(row: Row) -> bool:
    """Whether no attempt of it has begun, or can have written anything."""
    record = row.record
    return record is not None and not record.started_ns and not record.begun


def _print(row: Row, options: argparse.Namespace) -> None:
    copy = Copy(row, is_error=options.error, attempt=options.attempt, lines=options.lines)
    copy.go_on(is_final=True)
    copy.check()


def _followed(rows: list[Row], options: argparse.Namespace, asker: Person) -> int:
    if len(rows) > 1:
        raise UsageError(
            "option --follow: it follows one job", f"rq watch {visible(shlex.join(options.jobs))}"
        )
    if options.attempt is not None:
        raise UsageError(
            "option --attempt: an attempt that is over writes no more",
            "without it the present one is followed",
        )
    (row,) = rows
    copy = Copy(row, is_error=options.error, lines=options.lines)
    _follow(asker.spool, row, asker.node, copy).check()
    return 0


def _follow(spool: Spool, row: Row, node: str, copy: Copy) -> Copy:
    """Prints what comes until the job has ended."""

    def pause(seconds: float) -> None:
        until_s = time.monotonic() + seconds
        while (left_s := until_s - time.monotonic()) > 0:
            look_for_signals()
            copy.go_on()
            time.sleep(min(left_s, _LOOK_S))

    # Its record may be swept away after it ended; what it wrote is there all the same.
    with contextlib.suppress(NoSuchJob):
        copy.row = queue.wait(spool, [row.id], node=node, pause=pause)[row.id]
    copy.go_on(is_final=True)
    return copy


class Copy:
    """The output of a job, or its error file, printed from where it was left off."""

    def __init__(
        self, row: Row, *, is_error: bool = False, attempt: int | None = None, lines: int | None = None
    ) -> None:
        """Raises RoundqError or UsageError for what cannot be there."""
        self.row = row
        record = row.record
        if record is None:
            raise RoundqError(f"the job file of {row.id} cannot be read: {row.problem}")
        if is_error and record.job.error is None:
            raise UsageError(
                f"job {title(row)} has no error file: both streams go to its output", f"rq log {row.id}"
            )
        of: Part | None = None
        if is_error:
            if attempt is not None:
                raise UsageError(
                    "option --attempt: an error file does not tell which attempt wrote what",
                    f"rq log -e {row.id}",
                )
            path = error_path(record.job, row.id)
        else:
            path = output_path(record.job, row.id)
            of = _part(row, attempt)
        if lines is not None:
            of = _last_lines(path, of, lines)
        self._tail = Tail(path, of)
        self._printed = False

    def go_on(self, *, is_final: bool = False) -> None:
        """Prints what is new; `is_final`: the job writes no more."""
        while True:
            found = self._tail.look(CHUNK_BYTES, is_final=is_final)
            if found.change is not None:
                say(f"{shown(self._tail.path)} {CHANGES[found.change]}; here it is from its beginning")
            if found.data:
                self._printed = True
                write(found.data)
            if not found.is_more:
                return

    def check(self) -> None:
        """Raises RoundqError, which says why, if there was nothing to print."""
        problem = self._tail.problem
        if not problem or self._printed:
            return
        row = self.row
        assert row.record is not None
        if row.state in PENDING_STATES:
            raise RoundqError(f"job {title(row)} has not begun: it has no output yet", f"rq why {row.id}")
        if row.state == CLAIMED:
            raise RoundqError(f"job {title(row)} is just starting: it has no output yet", "try again")
        if row.state == CANCELED and _has_not_begun(row):
            raise RoundqError(f"job {title(row)} was canceled before it began: it has no output")
        raise RoundqError(f"job {title(row)}: there is no file {shown(self._tail.path)}: {problem}")


def _part(row: Row, attempt: int | None) -> Part | None:
    """Which part of the output is meant. Raises RoundqError if an attempt is not to be found there."""
    try:
        found = part.find(row, attempt)
    except OSError:
        # Whoever prints it says why it cannot be read.
        return None
    if found is None and attempt is not None:
        raise _no_attempt(row, attempt)
    return found


def _no_attempt(row: Row, attempt: int) -> RoundqError:
    assert row.record is not None
    record = row.record
    last = record.attempt if record.started_ns else record.attempt - 1
    if attempt > last:
        count = "none yet" if not last else f"{last} so far" if last > 1 else "1 so far"
        return RoundqError(f"job {title(row)} has had no attempt {attempt}: {count}", f"rq show {row.id}")
    if any(one.number == attempt and not one.started_ns for one in record.attempts):
        return RoundqError(
            f"job {title(row)}: its attempt {attempt} ended before it began", f"rq show {row.id}"
        )
    return RoundqError(
        f"job {title(row)}: what its attempt {attempt} wrote is not to be told from the rest of its output",
        f"all of it is in {visible(output_path(record.job, row.id))}",
    )


def _last_lines(path: str, of: Part | None, lines: int) -> Part | None:
    """The last lines of a part, or of the whole file; what is there at all if that cannot be read."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            status = os.fstat(file.fileno())
            begin, end = (0, status.st_size) if of is None else (of.begin, of.end or status.st_size)
            at = _begin_of_lines(file.fileno(), begin, min(end, status.st_size), lines)
            return Part(status.st_ino, at, None if of is None else of.end)
    except OSError:
        return of


def _begin_of_lines(descriptor: int, begin: int, end: int, lines: int) -> int:
    """Where the last so many lines before `end` begin; `begin` if there are not so many."""
    if not lines:
        return end
    # The end of the last line begins no other.
    before, left = max(begin, end - 1), lines
    while before > begin:
        at = max(begin, before - CHUNK_BYTES)
        text = os.pread(descriptor, before - at, at)
        place = len(text)
        while (place := text.rfind(b"\n", 0, place)) >= 0:
            left -= 1
            if not left:
                return at + place + 1
        before = at
    return begin


def write(data: bytes) -> None:
    """Bytes to standard output, behind what was printed as text before."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
