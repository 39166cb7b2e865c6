"""`rq top`: nodes, users and jobs on a live screen, and keys that act on jobs.

A thread of its own looks at the queue, since a file server may take its time; the keys never wait for it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable

from roundq.actors import changing, part, pausing, queue, reasons, selection
from roundq.actors.listing import Bundle, Row
from roundq.actors.streams import output_path
from roundq.faces import cluster, nodes_view, queue_notes, queue_view, tables, top_view
from roundq.faces.cli import looking
from roundq.faces.cli.parser import Parser, shown
from roundq.faces.cli.person import Person, any_person
from roundq.faces.cli.stopping import look_for_signals
from roundq.faces.queue_view import Item
from roundq.faces.terminal import Screen, can_place
from roundq.faces.top_view import Model, Snapshot
from roundq.records import changes
from roundq.words import match
from roundq.words.errors import RoundqError, UsageError
from roundq.words.fields import Facts as JobFacts
from roundq.words.quantities import parse_duration, visible
from roundq.words.states import HELD, OWNED_STATES, PENDING_STATES, RUNNING
from roundq.world import files

#: How often it looks, in seconds, where nobody says; and how often at most.
DELAY_S, DELAY_MIN_S = 2.0, 0.5
#: How much of an output is shown: its end.
OUTPUT_BYTES = 1 << 18


def build_parser(verb: str) -> Parser:
    """The parser of `top`."""
    parser = Parser(
        verb,
        "[-d TIME] [--mine] [--once]",
        "Show nodes, users and jobs on a live screen. Keys choose a job, cancel it, hold it, pause it, show"
        " its output; ? tells of all.",
        "rq top -d 5s",
    )
    add = parser.add_argument
    add("-d", "--delay", metavar="TIME", type=_delay, default=DELAY_S, help="look so often: seconds, or 1m")
    add("--mine", action="store_true", help="only my jobs; m shows those of others again")
    add("--once", action="store_true", help="print it once, as lines, also where no terminal is")
    return parser


def _delay(text: str) -> float:
    try:
        is_plain = text.isascii() and text.replace(".", "", 1).isdecimal()
        seconds = float(text) if is_plain else parse_duration(text)
    except UsageError as error:
        raise UsageError(f"--delay {shown(text)}: not a time", "write seconds, as in 5, or 1m") from error
    if seconds < DELAY_MIN_S:
        raise UsageError(f"--delay {shown(text)}: too often", f"at most every {DELAY_MIN_S:g} s")
    return min(seconds, 86_400.0)


def run(_verb: str, options: argparse.Namespace) -> int:
    """Shows the screen until q is pressed, or once."""
    if options.once:
        _print(_gathered(is_mine=options.mine, has_tasks=False))
        return 0
    if not can_place():
        raise UsageError(
            "rq top needs a terminal on which a cursor can be placed",
            "rq top --once prints it once; rq, rq nodes and rq users are for pipes",
        )
    asker = any_person()
    with Screen().taken() as screen:
        _Top(asker, screen, options).run()
    return 0


def _print(snapshot: Snapshot) -> None:
    """One frame, as lines, all of it."""
    for columns, rows in (snapshot.nodes, snapshot.users):
        if rows:
            tables.show(columns, [*rows, tables.Line("")])
    model = Model()
    top_view.take(model, snapshot)
    columns = queue_view.columns_of(snapshot.facts, is_wordy=False, is_whole=not sys.stdout.isatty())
    is_ascii = not tables.can_say(nodes_view.FULL + nodes_view.EMPTY)
    rows = [queue_view.line_of(item, snapshot.facts, columns, ascii_only=is_ascii) for item in model.items]
    tables.show(columns, rows) if rows else tables.show((), [tables.Line(queue_notes.EMPTY)])
    tables.show((), [tables.Line(text) for text in ("", snapshot.footer, *snapshot.troubles) if text])


# ---------------------------------------------------------------- looking


def _gathered(*, is_mine: bool, has_tasks: bool) -> Snapshot:
    """The queue as it is now."""
    here = looking.here_of(os.environ)
    now_ns = time.time_ns()
    looked, _ = looking.cluster_of(here)
    nodes = cluster.nodes_of(looked)
    users = cluster.users_of(looked)
    of = [here.me] if is_mine else here.everybody
    found = looking.found_of(here, of, now_ns, looking.SCREEN, is_of_one=is_mine, bundles=not has_tasks)
    facts = looking.facts_of(here, found, now_ns, is_narrow=True, known=list(looked.seen))
    is_ascii = not tables.can_say(nodes_view.FULL + nodes_view.EMPTY)
    standings = looking.standings_of(here.config, looked, nodes)
    lines = nodes_view.node_rows(nodes, ascii_only=is_ascii) if nodes else []
    users_lines = nodes_view.user_rows(users, nodes, standings, ascii_only=is_ascii) if users else []
    arrays = {(bundle.spool.path, bundle.id) for bundle in found.bundles}
    single = (row for row in found.rows if not queue_view.is_bundled(row, facts, arrays))
    items: list[Item] = [*found.bundles, *single]
    troubles = [f"{node}: {trouble}" for node, trouble in facts.troubles]
    if facts.starts_nothing:
        troubles.insert(0, "No daemon of yours is alive on any node, so your jobs wait for ever: rq daemon")
    return Snapshot(
        at=time.strftime("%H:%M:%S"),
        node=visible(here.node),
        items=tuple(items),
        facts=facts,
        footer=queue_notes.footer(found),
        nodes=nodes_view.without_empty(nodes_view.NODE_COLUMNS, lines) if lines else ((), ()),
        users=nodes_view.without_empty(nodes_view.USER_COLUMNS, users_lines) if users_lines else ((), ()),
        troubles=tuple(troubles),
    )


class _Looker(threading.Thread):
    """Looks at the queue again and again; `latest` is what it saw, `problem` why it could not, and `mistake`
    what ended it."""

    def __init__(self, delay_s: float, on_look: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self.latest: Snapshot | None = None
        self.problem = ""
        self.mistake: Exception | None = None
        self.is_mine = self.has_tasks = False
        self._delay_s, self._on_look = delay_s, on_look
        self._now = threading.Event()
        self.is_over = False

    def at_once(self, model: Model) -> None:
        """Has it look now, for what the person wants to see."""
        self.is_mine, self.has_tasks = model.is_mine, model.has_tasks
        self._now.set()

    def run(self) -> None:
        while not self.is_over:
            self._now.clear()
            try:
                self.latest, self.problem = _gathered(is_mine=self.is_mine, has_tasks=self.has_tasks), ""
            except (OSError, RoundqError) as error:
                self.problem = str(error)
            except Exception as mistake:
                # It would be printed across the screen, which then would show for ever what was last seen.
                self.mistake, self.is_over = mistake, True
            self._on_look()
            self._now.wait(self._delay_s)


# ---------------------------------------------------------------- the live screen


class _Top:
    """The screen, and what keys do to the queue."""

    def __init__(self, asker: Person, screen: Screen, options: argparse.Namespace) -> None:
        self._asker, self._screen = asker, screen
        self._model = Model(is_mine=options.mine)
        self._looker = _Looker(options.delay, screen.wake)
        self._is_ascii = not tables.can_say("…")
        self._seen: Snapshot | None = None
        self._means: Callable[[Item], bool] | None = None
        self._filtered = ""

    def run(self) -> None:
        """Until q, or until nobody can type any more."""
        self._looker.at_once(self._model)
        self._looker.start()
        try:
            self._draw()
            while not self._model.has_quit and not self._screen.is_closed:
                keys = self._screen.keys(60.0)
                look_for_signals()
                for key in keys:
                    self._press(key)
                if self._looker.mistake is not None:
                    raise self._looker.mistake
                if self._looker.latest is not self._seen or self._looker.problem:
                    self._take()
                self._draw()
        finally:
            self._looker.is_over = True

    def _draw(self) -> None:
        size = self._screen.size()
        lines = top_view.frame(self._model, self._seen, size.columns, size.lines, is_ascii=self._is_ascii)
        self._screen.draw(lines)

    def _take(self) -> None:
        self._seen = self._looker.latest
        if self._looker.problem:
            self._model.message = self._looker.problem
        if self._seen is not None:
            top_view.take(self._model, self._seen, self._means)
        if self._model.page_of is not None:
            row = next(
                (row for row in self._rows_seen() if top_view.key_of(row) == self._model.page_of), None
            )
            if row is not None:
                top_view.renew_text(self._model, _output(row))

    def _rows_seen(self) -> Iterable[Row]:
        items = () if self._seen is None else self._seen.items
        return (item for item in items if not isinstance(item, Bundle))

    def _press(self, key: str) -> None:
        if self._seen is None:
            self._model.has_quit = key == "q"
            return
        todo = top_view.press(self._model, key, self._seen)
        if todo is None:
            return
        if todo == "filter":
            self._filter()
        elif todo == "look":
            self._looker.at_once(self._model)
        if todo in ("filter", "sort"):
            top_view.take(self._model, self._seen, self._means)
        item = top_view.chosen(self._model)
        if item is None:
            return
        if todo == "why":
            self._why(item)
        elif todo == "output":
            self._open_output(item)
        elif todo in _ACTIONS:
            self._do(todo, item)

    # ------------------------------------------------------------ what keys do

    def _filter(self) -> None:
        text = self._model.filter
        before, self._filtered = self._filtered, text
        if not text:
            self._means = None
            return
        if not match.is_meant(text):
            self._means = lambda item: text.lower() in f"{item.id} {_name(item)} {item.user}".lower()
            return
        try:
            expression = match.parse(text)
        except UsageError as error:
            self._model.message = str(error)
            self._model.filter = self._filtered = before
            return

        def means(item: Item) -> bool:
            return bool(expression.verdict(_facts_of(item)))

        self._means = means

    def _why(self, item: Item) -> None:
        row = item.row if isinstance(item, Bundle) else item
        asker = self._asker
        try:
            of = queue.everybody(asker.spool, asker.config.homes, asker.config.commons)
            now_ns = time.time_ns()
            said = queue.why(row.spool, row, asker.node, now_ns, of)
            said += reasons.attempts(row, now_ns)
        except (OSError, RoundqError) as error:
            said = [str(error)]
        top_view.open_text(self._model, f"why {top_view.title(item)}", said)

    def _open_output(self, item: Item) -> None:
        if isinstance(item, Bundle):
            self._model.message = (
                f"t shows its tasks one by one; rq watch {item.id} shows what all of them write"
            )
            return
        if item.record is None or not item.record.job.command:
            self._model.message = f"where the output of {item.id} goes cannot be seen"
            return
        top_view.open_text(
            self._model, f"output of {top_view.title(item)}", _output(item), top_view.key_of(item)
        )

    def _do(self, what: str, item: Item) -> None:
        """Does it to the job, or to all tasks of the array that it can be done to."""
        wanted, done = _ACTIONS[what]
        model = self._model
        try:
            found = selection.select(self._asker.spool, [item.id], now_ns=time.time_ns(), ended=False)
            rows = [row for row in found.rows if row.state in wanted]
            count, problem = 0, ""
            for row in rows:
                try:
                    _act(what, row, self._asker)
                    count += 1
                except (OSError, RoundqError) as error:
                    problem = str(error)
        except (OSError, RoundqError) as error:
            model.message = str(error)
            return
        of = "" if len(rows) == 1 else f" ({count} of {len(rows)} tasks)" if isinstance(item, Bundle) else ""
        model.message = problem or (
            f"{done} {top_view.title(item)}{of}" if count else f"{item.id} has moved on"
        )
        self._looker.at_once(model)


#: In which states a job can be when this is done to it, and what is said then.
_ACTIONS: dict[str, tuple[tuple[str, ...], str]] = {
    "cancel": ((*PENDING_STATES, *OWNED_STATES), "canceling"),
    "hold": (PENDING_STATES, "held"),
    "release": (PENDING_STATES, "released"),
    "pause": ((RUNNING,), "pausing"),
    "cont": ((RUNNING,), "continuing"),
}


def _act(what: str, row: Row, asker: Person) -> None:
    spool, late_s = asker.spool, asker.config.settle_s
    if what == "cancel":
        queue.cancel(spool, row, asker.node, time.time_ns(), late_s=late_s)
    elif what == "hold":
        if changing.hold(spool, row, asker.node, late_s).state:
            changes.sync(spool, [HELD])
    elif what == "release":
        state = changing.release(spool, row, asker.node, time.time_ns(), late_s).state
        changes.sync(spool, [state] if state in PENDING_STATES else [])
    elif what == "pause":
        pausing.pause(spool, row, asker.node)
    else:
        pausing.go_on(spool, row, asker.node)


def _name(item: Item) -> str:
    return "" if item.record is None else item.record.job.name


def _facts_of(item: Item) -> JobFacts:
    row = item.row if isinstance(item, Bundle) else item
    job = None if row.record is None else row.record.job
    return JobFacts(row.id, item.state, row.node, row.user, time.time_ns(), job, row.record)


def _output(row: Row) -> list[str]:
    """The end of what a job wrote, in lines that any terminal can show."""
    record = row.record
    if record is None:
        return [f"its job file cannot be read: {row.problem}"]
    path = output_path(record.job, row.id)
    try:
        found = None
        with contextlib.suppress(OSError):
            found = part.find(row)
        descriptor = files.open_fresh(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            size = os.fstat(descriptor).st_size
            begin, end = (0, size) if found is None else (found.begin, found.end or size)
            at = max(begin, end - OUTPUT_BYTES)
            data = os.pread(descriptor, end - at, at)
        finally:
            os.close(descriptor)
    except OSError as error:
        if row.state in PENDING_STATES:
            return ["it has not begun: it has no output yet"]
        return [f"{path}: {error.strerror}"]
    text = data.decode(errors="backslashreplace")
    # Of a progress bar what stands last.
    lines = [line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n")]
    if lines and not lines[-1]:
        lines.pop()
    return [f"... {at - begin:,} bytes before this", *lines[1:]] if at > begin else lines
