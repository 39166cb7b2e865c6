"""The verbs by which running jobs stand still, go on, and are sent signals: `pause`, `cont`, `signal`."""

from __future__ import annotations

import argparse
import functools
import re
import signal
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from roundq.actors import outcome, paused, pausing
from roundq.actors.ending import signal_name
from roundq.actors.listing import Row, row_of
from roundq.actors.paused import Stand
from roundq.faces.cli import SOME_FAILED, say
from roundq.faces.cli.charset import typed
from roundq.faces.cli.jobs import on_nodes, tell_silent
from roundq.faces.cli.named import JOBS, add_dry_run, add_jobs, chosen, require, title, which, would
from roundq.faces.cli.parser import Parser, shown
from roundq.faces.cli.person import Person, any_person
from roundq.faces.cli.progress import progress
from roundq.faces.cli.stopping import hold, interrupted, interruptible, noted
from roundq.records import signals
from roundq.records.lookup import Look
from roundq.words import ranges
from roundq.words.errors import RoundqError, UsageError
from roundq.words.states import ENDED_STATES, RUNNING

#: How soon it is looked again whether it was done, in seconds: at first, and at most.
LOOK_S, LOOK_MOST_S = 0.02, 1.0


class Way(NamedTuple):
    """A verb in its forms: what is done to a job, and what was. `asks` returns the name of the request, or
    None if there is nothing to ask for; `is_done` whether it was acted on, by what `looks` has seen."""

    verb: str
    doing: str
    done: str
    asks: Callable[[Row], str | None]
    looks: Callable[[], Collection[str] | Mapping[str, Stand]]
    is_done: Callable[[Row, str, Any], bool]
    already: str = ""
    #: The signal, if one is sent: a job that it ended was sent it.
    number: int = 0


def build_parser(verb: str) -> Parser:
    """The parser of `pause`, `cont` or `signal`."""
    return {"pause": _pause_parser, "cont": _cont_parser}.get(verb, _signal_parser)()


def _pause_parser() -> Parser:
    parser = Parser(
        "pause",
        f"[OPTION...] {JOBS}...",
        "Have every process of running jobs stand still, until rq cont. They keep their cores and memory, and"
        " their time limit does not run meanwhile.",
        "rq pause fit",
    )
    return _with_rest(parser, "return when they stand still, not when that is asked for")


def _cont_parser() -> Parser:
    parser = Parser(
        "cont", f"[OPTION...] {JOBS}...", "Let jobs go on that rq pause has stopped.", "rq cont fit"
    )
    return _with_rest(parser, "return when they go on, not when that is asked for")


def _signal_parser() -> Parser:
    parser = Parser(
        "signal",
        f"[OPTION...] SIGNAL {JOBS}...",
        "Send a signal to the command of running jobs, by its name or number.",
        "rq signal USR1 fit",
    )
    parser.add_argument("signal", metavar="SIGNAL", type=typed, help="a signal, such as USR1, INT or 12")
    parser.add_argument("-a", "--all", action="store_true", help="send it to every process of the job")
    return _with_rest(parser, "return when it was sent, not when that is asked for")


def _with_rest(parser: Parser, wait: str) -> Parser:
    add_jobs(parser, "running jobs")
    add_dry_run(parser)
    parser.add_argument("--wait", action="store_true", help=wait)
    return parser


def run(verb: str, options: argparse.Namespace) -> int:
    """Does what the verb says; its exit code."""
    number = parse_signal(options.signal) if verb == "signal" else 0
    require(options, "continue" if verb == "cont" else verb)
    asker = any_person()
    if verb == "signal":
        return _do(_signaling(asker, number, to_all=options.all), options, asker)
    return _do(_pausing(asker) if verb == "pause" else _continuing(asker), options, asker)


def parse_signal(text: str) -> int:
    """The number of a signal that is called so. Raises UsageError."""
    hint = "write a name or a number: USR1, SIGINT, 12"
    known = {one.name.removeprefix("SIG"): int(one) for one in signal.Signals}
    word = text.upper().removeprefix("SIG")
    number = int(word) if re.fullmatch("[0-9]{1,3}", word) else known.get(word)
    if number is None or number not in {int(one) for one in signal.valid_signals()}:
        raise UsageError(f"there is no signal {shown(text)}", hint)
    if number == signal.SIGSTOP:
        raise UsageError(
            "a job that is stopped by SIGSTOP would run against its time limit", "rq pause has it stand still"
        )
    return number


# ---------------------------------------------------------------- the verbs


def _pausing(asker: Person) -> Way:
    def ask(row: Row) -> str | None:
        asked = pausing.pause(asker.spool, row, asker.node)
        return "pause" if asked == pausing.ASKED else None

    def is_done(row: Row, _name: str, told: Mapping[str, Stand]) -> bool:
        return paused.is_paused(row, told)

    looks = functools.partial(paused.stands, asker.spool)
    return Way("pause", "pausing", "paused", ask, looks, is_done, "is paused already")


def _continuing(asker: Person) -> Way:
    def ask(row: Row) -> str | None:
        asked = pausing.go_on(asker.spool, row, asker.node)
        return "cont" if asked == pausing.ASKED else None

    def is_done(row: Row, _name: str, told: Mapping[str, Stand]) -> bool:
        return not paused.is_paused(row, told)

    looks = functools.partial(paused.stands, asker.spool)
    return Way("continue", "continuing", "continued", ask, looks, is_done, "is not paused")


def _signaling(asker: Person, number: int, *, to_all: bool) -> Way:
    def ask(row: Row) -> str | None:
        return pausing.send(asker.spool, row, asker.node, number, to_all=to_all)

    def is_done(_row: Row, name: str, there: set[str]) -> bool:
        return name not in there

    what = signal_name(number)
    looks = functools.partial(signals.names, asker.spool)
    return Way("signal", f"sending {what} to", f"sent {what} to", ask, looks, is_done, number=number)


def _do(way: Way, options: argparse.Namespace, asker: Person) -> int:
    """Does it to each job for itself: what cannot be done to one is done to the others."""
    found = chosen(asker, options.jobs, options.job_name, ended=False)
    # Of jobs that were not named each by itself those are meant that run.
    rows = [row for row in found.rows if row.id in found.each or row.state == RUNNING]
    code = found.code
    if not rows and found.rows:
        why = "it does not run" if len(found.rows) == 1 else "none of them runs"
        say(f"cannot {way.verb} {which(found.rows)}: {why}")
        return SOME_FAILED
    if options.dry_run:
        return would(way.verb, [row for row in rows if row.state == RUNNING], code)
    asked: dict[str, tuple[Row, str]] = {}
    already: list[Row] = []
    left: Sequence[Row] = ()
    hold()
    for place, row in enumerate(rows):
        if noted() is not None:
            left = rows[place:]
            break
        try:
            name = way.asks(row)
        except (RoundqError, OSError) as error:
            _refused(way, row, error)
            code = SOME_FAILED
            continue
        if name is None:
            already.append(row)
        else:
            asked[row.id] = (row, name)
    told = [row for row, _ in asked.values()]
    if told and (left or not options.wait):
        print(f"{way.doing} {which(told, on_nodes(told))}")
    if already:
        say(f"{which(already)}: {'it ' if len(already) == 1 else 'each '}{way.already}")
    if (stop := noted()) is not None and left:
        say(f"interrupted; nothing was asked of {ranges.brief(row.id for row in left)}")
        return interrupted(stop)
    if options.wait and asked:
        return _until_done(way, asker, asked) or code
    with interruptible():
        tell_silent(asker, told)
    return code


def _refused(way: Way, row: Row, error: RoundqError | OSError) -> None:
    if isinstance(error, RoundqError):
        say(str(error), error.hint)
    else:
        say(f"cannot {way.verb} {row.id}: {error.strerror or error}")


def _until_done(way: Way, asker: Person, asked: dict[str, tuple[Row, str]]) -> int:
    """Waits until it is done, or the jobs run no more; the exit code."""
    left = dict(asked)
    done: list[Row] = []
    gone: list[Row] = []
    pause_s = LOOK_S
    try:
        with interruptible(), progress(asker) as on_look:
            while left:
                there = way.looks()
                entries = {entry.id: entry for entry in Look(asker.spool).of(left.keys())}
                for job_id, (row, name) in list(left.items()):
                    entry = entries.get(job_id)
                    if entry is not None and entry.state != RUNNING:
                        now = row_of(asker.spool, entry, True)
                        is_ended_by_it = now.record is not None and now.record.signal == way.number != 0
                        (done if is_ended_by_it else gone).append(now)
                    elif way.is_done(row, name, there):
                        done.append(row)
                    else:
                        continue
                    del left[job_id]
                on_look({job_id: entry for job_id, entry in entries.items() if job_id in left})
                if left:
                    time.sleep(pause_s)
                    pause_s = min(pause_s * 1.3, LOOK_MOST_S)
    except KeyboardInterrupt as stop:
        say("interrupted; what was asked for is done all the same")
        return interrupted(stop)
    if done:
        print(f"{way.done} {which(done)}")
    for row in gone:
        became = outcome.sentence(row) if row.state in ENDED_STATES else f"it is {row.state} now"
        say(f"{title(row)} ran no more before that was known to be done: {became}")
    return SOME_FAILED if gone else 0
