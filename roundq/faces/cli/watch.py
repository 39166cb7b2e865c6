"""`rq watch`: the output of jobs while they run, with the name of its job before each line.

Ended by Ctrl-C it says so; the jobs go on. `rq run --watch` follows what it has submitted in the same way.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import zlib
from collections.abc import Sequence
from typing import Protocol

from roundq.actors import outcome
from roundq.actors.listing import Row, row_of
from roundq.actors.newcomers import Newcomers
from roundq.actors.watching import Chunk, Followed, Watching
from roundq.faces.cli import say
from roundq.faces.cli.log import CHANGES, write
from roundq.faces.cli.named import add_jobs, chosen, require, title
from roundq.faces.cli.parser import Parser, shown
from roundq.faces.cli.person import Person, any_person
from roundq.faces.cli.progress import Listener
from roundq.faces.cli.stopping import interrupted, look_for_signals
from roundq.faces.interleave import ERROR, OUT, Interleaver
from roundq.faces.tables import shorten
from roundq.records.spool import Entry
from roundq.words.quantities import visible
from roundq.words.states import WAITING, ZOMBIE

#: Names are as wide as the widest so far, and no wider than this.
NAME_MOST = 24
#: Colours of names, as on any terminal: cyan, green, yellow, magenta, blue, red.
_COLOURS = (36, 32, 33, 35, 34, 31)
#: The least that is slept between two looks: somebody may be in the middle of a line.
_SLEEP_S = 0.02


def build_parser(verb: str) -> Parser:
    """The parser of `watch`."""
    parser = Parser(
        verb,
        "[--now] JOBS...",
        "Print what jobs write while they run, until all have ended: each line behind the name of its job."
        " Jobs that come later and are meant by the same words are watched, too. Ctrl-C ends only the"
        " watching.",
        "rq watch 'name=\"fit*\"'",
    )
    add_jobs(parser)
    parser.add_argument("--now", action="store_true", help="only what they write from now on")
    return parser


def run(_verb: str, options: argparse.Namespace) -> int:
    """Watches; 0 if all jobs ended well, else 1."""
    require(options, "watch")
    asker = any_person()
    newcomers = Newcomers(asker.spool, options.jobs, options.job_name, time.time_ns)
    watching = Watching(asker.spool, asker.node, newcomers.mean, from_start=not options.now)
    # What comes between this and the choice is new.
    watching.begin(time.monotonic())
    found = chosen(asker, options.jobs, options.job_name, ended=False, read=False)
    if not found.rows:
        # Which words mean nothing has been said.
        return found.code
    watching.follow((row.entry for row in found.rows), time.monotonic())
    is_one = len(found.rows) == 1 and found.rows[0].id in found.exact and len(options.jobs) == 1
    return _watched(asker, watching, is_one=is_one) or found.code


def submitted(asker: Person, ids: Sequence[str]) -> int:
    """Watches jobs that were just submitted, from their first byte on; the exit code that tells how they
    ended, of several the highest. Raises KeyboardInterrupt when a signal has come."""
    watching = Watching(asker.spool, asker.node, lambda _: False)
    watching.begin(time.monotonic())
    entries = [Entry(job_id, WAITING, None, f"{job_id}.job", 0) for job_id in ids]
    watching.follow(entries, time.monotonic())
    _print_all(asker, watching, One() if len(ids) == 1 else Many(watching))
    return max(outcome.exit_code(_row(asker, job)) for job in watching.jobs.values())


def _watched(asker: Person, watching: Watching, *, is_one: bool) -> int:
    """Prints until all have ended; 0 if they did well, 1 if not. Who interrupts it is told what goes on."""
    screen: Screen = One() if is_one else Many(watching)
    try:
        _print_all(asker, watching, screen)
    except KeyboardInterrupt as stop:
        count = sum(not job.is_done for job in watching.jobs.values())
        jobs = "the job goes on" if count == 1 else f"{count:,} jobs go on"
        say(f"interrupted; {jobs}" if count else "interrupted")
        return interrupted(stop)
    return 0 if all(outcome.is_well(_row(asker, job)) for job in watching.jobs.values()) else 1


def _row(asker: Person, job: Followed) -> Row:
    return job.row or row_of(asker.spool, job.entry, True)


def _print_all(asker: Person, watching: Watching, screen: Screen) -> None:
    listener = Listener(asker)
    told: set[str] = set()
    while True:
        look_for_signals()
        now_s = time.monotonic()
        if watching.look(now_s):
            for sentence in listener(watching.entries(), now_s):
                screen.say(sentence)
        for chunk in watching.chunks(now_s, screen.may):
            look_for_signals()
            screen.put(watching.jobs[chunk.job_id], chunk)
        for job in watching.jobs.values():
            if not job.is_done:
                # Its end is told anew when it was run again.
                told.discard(job.id)
            elif job.id not in told:
                told.add(job.id)
                _tell_end(asker, job, screen)
        if watching.is_done:
            return
        now_s = time.monotonic()
        time.sleep(max(_SLEEP_S, min(watching.again_s(now_s), screen.idle(now_s))))


def _tell_end(asker: Person, job: Followed, screen: Screen) -> None:
    """Says what the output of a job that has ended does not say."""
    screen.end(job)
    row = _row(asker, job)
    if row.record is None or row.state == ZOMBIE or (not job.number and not outcome.is_well(row)):
        screen.say(f"job {title(row)} {outcome.sentence(row)}")
    for file in (job.out, job.error):
        if file is not None and file.tail.problem and not file.tail.has_begun:
            screen.say(f"job {title(row)}: {shown(file.tail.path)} cannot be read: {file.tail.problem}")


# ---------------------------------------------------------------- how it is printed


class Screen(Protocol):
    """Where the bytes of jobs go."""

    def may(self, job_id: str, is_error: bool) -> bool:
        """Whether it is this output's turn."""
        ...

    def put(self, job: Followed, chunk: Chunk) -> None:
        """Prints new bytes."""
        ...

    def idle(self, now_s: float) -> float:
        """Prints what was kept back for long enough; seconds until it is to be called again."""
        ...

    def end(self, job: Followed) -> None:
        """Nothing more comes of this job."""
        ...

    def say(self, sentence: str) -> None:
        """A sentence of ours, on a line of its own."""
        ...


class One:
    """The bytes of one job, and nothing else: those of its error file to standard error."""

    def may(self, _job_id: str, _is_error: bool) -> bool:
        return True

    def put(self, _job: Followed, chunk: Chunk) -> None:
        if chunk.change is not None:
            say(_changed(chunk))
        if chunk.is_error:
            sys.stderr.flush()
            sys.stderr.buffer.write(chunk.data)
            sys.stderr.buffer.flush()
        else:
            write(chunk.data)

    def idle(self, _now_s: float) -> float:
        return 3600.0

    def end(self, _job: Followed) -> None:
        return None

    def say(self, sentence: str) -> None:
        say(sentence)


class Many:
    """Lines of many jobs, with their names."""

    def __init__(self, watching: Watching) -> None:
        is_terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self._is_coloured = is_terminal and not os.environ.get("NO_COLOR")
        self._watching = watching
        self._lines = Interleaver(write, is_terminal)
        self._width = 0
        self._added: set[str] = set()

    def may(self, job_id: str, is_error: bool) -> bool:
        return self._lines.may_feed((job_id, is_error), time.monotonic())

    def put(self, job: Followed, chunk: Chunk) -> None:
        if chunk.change is not None:
            self.say(f"job {job.id}: {_changed(chunk)}")
        if job.id not in self._added:
            self._added.add(job.id)
            name = self._name(job)
            self._lines.add((job.id, False), name, OUT)
            self._lines.add((job.id, True), name, ERROR)
        self._lines.feed((job.id, chunk.is_error), chunk.data, time.monotonic())

    def idle(self, now_s: float) -> float:
        return self._lines.idle(now_s)

    def end(self, job: Followed) -> None:
        if job.id in self._added:
            self._added.remove(job.id)
            for is_error in (False, True):
                self._lines.end((job.id, is_error), time.monotonic())

    def say(self, sentence: str) -> None:
        self._lines.break_line()
        say(sentence)

    def _name(self, job: Followed) -> bytes:
        record = None if job.row is None else job.row.record
        text = job.id if record is None else f"{job.id} {record.job.name}"
        text = shorten(visible(text), NAME_MOST, "~")
        self._width = max(self._width, len(text), *(len(one) for one in self._watching.jobs))
        padded = f"{text:<{min(self._width, NAME_MOST)}} "
        encoded = padded.encode(sys.stdout.encoding or "utf-8", "backslashreplace")
        if not self._is_coloured:
            return encoded
        colour = _COLOURS[zlib.crc32(job.id.encode(errors="replace")) % len(_COLOURS)]
        return b"\x1b[%dm%s\x1b[0m" % (colour, encoded)


def _changed(chunk: Chunk) -> str:
    what = "its error file" if chunk.is_error else "its output"
    return f"{what} {CHANGES[chunk.change or '']}; here it is from its beginning"
