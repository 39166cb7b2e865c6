"""`rq log %SET`: what happened to each job of a set, one line for each event, in the order of time.

The log is nobody's file: it is told from the records, by the times that nodes wrote down there. Changes
nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable, Sequence

from roundq.actors import events
from roundq.actors.events import Event
from roundq.actors.listing import Row, row_of
from roundq.actors.sets import Members
from roundq.faces.cli.named import looked_at
from roundq.faces.cli.person import Person
from roundq.faces.cli.sets import group_of, no_such_group
from roundq.faces.cli.stopping import look_for_signals
from roundq.records.spool import Entry
from roundq.words.errors import UsageError
from roundq.words.groups import MARK
from roundq.words.job import NS
from roundq.words.quantities import visible
from roundq.words.states import ENDED_STATES
from roundq.world import files

#: How soon it is looked again while something happens, and at most.
LOOK_MIN_S, LOOK_MAX_S = 0.25, 2.0
#: Columns of ids: most have as many, and a line that is printed cannot be laid out again.
ID_COLUMNS = 6


def run(options: argparse.Namespace, asker: Person) -> int:
    """Prints the events of what is named to `rq log`; the exit code."""
    words = [*options.jobs, *options.job_name]
    of_sets = [word for word in options.jobs if word.startswith(MARK)]
    if options.error or options.attempt is not None or options.lines is not None:
        raise UsageError(
            "what happened to jobs is not their output: -e, -n and --attempt say nothing of it",
            f"for the output of the jobs of a set: rq log 'set={of_sets[0][1:] if of_sets else 'NAME'}'",
        )
    if of_sets == words:
        return print_log(asker, [group_of(word) for word in dict.fromkeys(words)], follow=options.follow)
    if of_sets and not options.events:
        raise UsageError(
            f"of {of_sets[0]} it is told what happened, of the others their output is printed",
            "ask for them one after the other, or for what happened to all of them with --events",
        )
    found = looked_at(asker, options.jobs, options.job_name)
    arrays = {row.record.job.array.id for row in found.rows if row.record and row.record.job.array}
    if options.follow and not (len(words) == 1 and arrays == set(words)):
        raise UsageError("option --follow: it follows a set or an array", "for example: rq log -f %fit")
    if options.follow:
        return print_log(asker, words, follow=True)
    _print(events.merged(found.rows))
    return found.code


def print_log(
    asker: Person,
    groups: Sequence[str],
    *,
    follow: bool = False,
    pause: Callable[[float], None] = time.sleep,
) -> int:
    """Prints the events of these sets and arrays; with `follow` until all of them have ended. Returns 0.

    Raises NoSuchJob for a group that is not there.
    """
    members = Members(asker.spool, groups)
    members.look()
    there = members.wholes()
    for group in groups:
        if group not in there or not (there[group].jobs or group.startswith(MARK)):
            raise no_such_group(group)
    log = _Log(asker)
    wait_s = LOOK_MIN_S
    while True:
        found = log.new([entry for _, entries in members.each() for entry in entries])
        _print(found)
        if not follow or log.is_over:
            return 0
        wait_s = LOOK_MIN_S if found else min(LOOK_MAX_S, wait_s * 1.3)
        look_for_signals()
        pause(wait_s)
        look_for_signals()
        members.look()


class _Log:
    """What was printed so far, and of which records."""

    def __init__(self, asker: Person) -> None:
        self._spool = asker.spool
        self._told: set[tuple[str, str, int]] = set()
        self._known: dict[str, tuple[str, str, int]] = {}
        self.is_over = False

    def new(self, entries: Sequence[Entry]) -> list[Event]:
        """The events that were not told yet."""
        states = {entry.state for entry in entries}
        self.is_over = bool(states) and states <= set(ENDED_STATES)
        # One that was run again and ended between two looks has its name again, and is another file.
        inodes = {state: self._inodes(state) for state in states.intersection(ENDED_STATES)}
        rows: list[Row] = []
        for entry in entries:
            known = (entry.state, entry.file, inodes.get(entry.state, {}).get(entry.file, 0))
            if self._known.get(entry.id) != known:
                row = row_of(self._spool, entry, True)
                rows.append(row)
                if row.record is not None:
                    self._known[entry.id] = known
        found = [event for event in events.merged(rows) if event.key not in self._told]
        self._told.update(event.key for event in found)
        return found

    def _inodes(self, state: str) -> dict[str, int]:
        with contextlib.suppress(OSError):
            return dict(files.listing(self._spool.directory(state)))
        return {}


def _print(found: Sequence[Event]) -> None:
    columns = max([ID_COLUMNS, *(len(event.id) for event in found)])
    for event in found:
        print(f"{_moment(event.at_ns)}  {visible(event.id):{columns}}  {event.text}")
    if found:
        print(end="", flush=True)


def _moment(at_ns: int) -> str:
    if not at_ns:
        return "-" * 19
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_ns // NS))
    except (OverflowError, ValueError, OSError):
        return "?" * 19
