"""The list of jobs as people read it: which rows, in which order, in which words.

Pure: given what was found and the time, it returns columns and rows for `tables`.
Own jobs come first, then those of the others; of each user what runs, then what
waits, in the order in which it is likely to start, then what has ended, newest first. An array is
one line, and so are long runs of one user's jobs, on a terminal sooner than in a pipe.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from roundq.actors.listing import ORDER, Bundle, Listing, Row, ended_ns
from roundq.actors.reasons import Word
from roundq.faces import bundles as bundle_lines
from roundq.faces.tables import Cell, Column, Line, Spread
from roundq.faces.tables import Row as TableRow
from roundq.records.census import age_key
from roundq.words import states
from roundq.words.job import NS, Record
from roundq.words.quantities import ALL_CORES, format_age, format_duration
from roundq.words.ranges import array_of
from roundq.words.resources import asked_text
from roundq.words.states import (
    CANCELED,
    CLAIMED,
    COMPLETED,
    ENDED_STATES,
    FAILED,
    HELD,
    OWNED_STATES,
    PENDING_STATES,
    RUNNING,
    WAITING,
    ZOMBIE,
)

#: What people read for the name of a state; the others are called as they are.
WORDS = {CLAIMED: "starting", ZOMBIE: "lost"}
STYLES = {
    RUNNING: "green",
    CLAIMED: "cyan",
    WAITING: "yellow",
    HELD: "yellow dim",
    COMPLETED: "dim",
    FAILED: "red",
    CANCELED: "dim",
    ZOMBIE: "bold red",
}
#: Rows of one user and state shown on a terminal, mine and of each other user.
SHOWN_MINE = {
    RUNNING: 50,
    CLAIMED: 50,
    WAITING: 8,
    HELD: 4,
    FAILED: 10,
    ZOMBIE: 10,
    CANCELED: 5,
    COMPLETED: 10,
}
SHOWN_THEIRS = {RUNNING: 15, CLAIMED: 5, WAITING: 3, HELD: 1, FAILED: 3, ZOMBIE: 3, CANCELED: 2, COMPLETED: 3}
#: ... and in a pipe, where who reads it wants more, but not a hundred thousand lines.
PIPED_MINE, PIPED_THEIRS = 500, 100
#: Fewer than this are shown rather than counted: the line would take as much room.
MORE_LEAST = 2

#: The columns of the list; on a narrow terminal NAME keeps some room, and the last rank goes first.
USER = Column("USER", least=6, rank=2)
COLUMNS = (
    Column("STATE"),
    Column("ID"),
    USER,
    Column("NODE", least=8, rank=3),
    Column("CPUS", is_right=True, rank=4),
    Column("RTIME", is_right=True, rank=1),
    Column("WAIT", is_right=True, rank=5),
    Column("NAME", least=14),
)
#: What the list has beside these if it is asked for more: before the name, and behind it.
NEEDS = Column("NEEDS", least=10, rank=6)
REASON = Column("REASON", least=24, rank=7)
#: ... where it must not go for others.
WITH_MORE = (*COLUMNS[:-1], NEEDS, COLUMNS[-1], replace(REASON, rank=0))


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known beside the records, at `now_ns` of this node's clock.

    `silent` are nodes that nothing is heard of, with for how many seconds. `canceling`, `giving_way`,
    `paused` and `gone` are (spool path, id) of jobs that are asked to end, or to give way, that stand still,
    and of jobs recorded as running here whose supervisor lives no more. `starts_nothing`: jobs of mine wait,
    and no daemon of mine lives anywhere. `words` are what daemons say of jobs that wait, `held` is why others
    are held.
    """

    now_ns: int
    silent: Mapping[str, float] = field(default_factory=dict)
    canceling: frozenset[tuple[str, str]] = frozenset()
    giving_way: frozenset[tuple[str, str]] = frozenset()
    paused: frozenset[tuple[str, str]] = frozenset()
    gone: frozenset[tuple[str, str]] = frozenset()
    starts_nothing: bool = False
    hidden: Sequence[str] = ()
    late: Sequence[str] = ()
    troubles: Sequence[tuple[str, str]] = ()
    words: Mapping[tuple[str, str], Word] = field(default_factory=dict)
    held: Mapping[tuple[str, str], str] = field(default_factory=dict)


# ---------------------------------------------------------------- one job


def run_time_s(row: Row, now_ns: int) -> float | None:
    """For how many seconds the job runs or ran, None if it did not, or nobody knows."""
    record = row.record
    if record is None or not record.started_ns or row.state in PENDING_STATES or row.state == ZOMBIE:
        return None
    until_ns = now_ns if row.state in OWNED_STATES else record.completed_ns
    # Clocks of two nodes may differ by more than a short job.
    return max(0, until_ns - record.started_ns) / NS if until_ns else None


def wait_time_s(row: Row, now_ns: int) -> float | None:
    """For how many seconds this attempt waited for its start, or waits still; None if nobody knows."""
    record = row.record
    if record is None or not record.job.submitted_ns:
        return None
    since_ns = record.attempts[-1].completed_ns if record.attempts else record.job.submitted_ns
    if record.started_ns and row.state not in PENDING_STATES:
        until_ns = record.started_ns
    else:
        until_ns = record.completed_ns if row.state in ENDED_STATES else now_ns
    return max(0, until_ns - since_ns) / NS if until_ns else None


def cores_of(record: Record) -> int:
    """The cores it was granted, or else what it asks for: ALL_CORES for all of a node."""
    return record.cores or record.job.cores


def state_text(row: Row, facts: Facts) -> str:
    """The state in words, with the reason where one word is not all."""
    key = (row.spool.path, row.id)
    word = WORDS.get(row.state, row.state)
    if row.state in OWNED_STATES and row.record is not None:
        if key in facts.gone:
            return f"{word}, its supervisor is gone"
        if row.node is not None and row.node in facts.silent:
            return f"{word}, not seen for {format_age(facts.silent[row.node])}"
        if key in facts.canceling:
            return "canceling"
        if key in facts.giving_way:
            return "giving way"
        return f"{word}, paused" if key in facts.paused else word
    if row.record is None:
        return f"{word}, unreadable" if row.problem else word
    why = _reason(row.state, row.record)
    return f"{word}: {why}" if why else word


def _reason(state: str, record: Record) -> str:
    if state == COMPLETED:
        # 0.2.9 files what a signal killed under completed, without an exit code.
        return "exit code unknown" if record.exit_code is None and record.reason is None else ""
    if state == ZOMBIE:
        return "rebooted" if record.reason == "rebooted" else ""
    if state == WAITING:
        gave_way = record.attempts and record.attempts[-1].reason == "preempted"
        return "preempted" if gave_way else ""
    if state == CANCELED:
        # Not by its user, who would know.
        return record.reason if record.reason in states.REASONS and record.reason != "canceled" else ""
    if state != FAILED:
        return ""
    if record.reason in (None, "exit", "signal"):
        if record.signal:
            return signal_name(record.signal)
        return "" if record.exit_code is None else f"exit {record.exit_code}"
    # Whose words these are is not known: only ours have their place in the column.
    return record.reason if record.reason in states.REASONS else "see its record"


def signal_name(number: int) -> str:
    """SIGKILL for 9."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def columns_of(facts: Facts, *, is_wordy: bool, is_whole: bool) -> Sequence[Column]:
    """The columns of the list: some more if it `is_wordy`, and on a terminal why jobs wait, if there is room.

    What a program reads (`is_whole`) has the same columns whatever there is.
    """
    if is_wordy:
        return WITH_MORE
    return COLUMNS if is_whole or not (facts.words or facts.held) else (*COLUMNS, REASON)


def _cells(row: Row, facts: Facts, columns: Sequence[Column]) -> list[Cell]:
    style = STYLES[row.state]
    record = row.record
    dim = "dim" if row.state in ENDED_STATES else ""
    cells = [
        Cell(state_text(row, facts), style),
        Cell(row.id, dim),
        Cell(row.user, "bold" if row.is_mine else dim),
        Cell(row.node or "-", dim),
        Cell("-" if record is None else cores_text(cores_of(record)), dim),
        Cell(_duration(run_time_s(row, facts.now_ns)), dim),
        Cell(_duration(wait_time_s(row, facts.now_ns)), dim),
        _name(row, dim),
    ]
    if NEEDS in columns:
        cells.insert(-1, Cell((record and asked_text(record.job)) or "-", dim))
    if USER not in columns:
        del cells[2]
    if len(cells) < len(columns):
        cells.append(Cell(reason_text(row, facts) or "-", dim))
    return cells


def reason_text(row: Row, facts: Facts) -> str:
    """Why a job waits or is held, in a few words, if that is known; else nothing."""
    key = (row.spool.path, row.id)
    word = facts.words.get(key)
    return facts.held.get(key, "") if word is None else word.short


def _bundle_cells(bundle: Bundle, facts: Facts, columns: Sequence[Column], ascii_only: bool) -> Spread:
    style = STYLES[bundle.state]
    dim = "dim" if bundle.state in ENDED_STATES else ""
    name = _name(bundle.row, dim)
    cells = [Cell("-", dim) for _ in columns]
    cells[0] = Cell(WORDS.get(bundle.state, bundle.state), style)
    cells[1] = Cell(bundle.id, dim)
    stand = 3 if USER in columns else 2
    if stand == 3:
        cells[2] = Cell(bundle.user, "bold" if bundle.is_mine else dim)
    cells[stand + 1] = Cell("-" if bundle.record is None else cores_text(cores_of(bundle.record)), dim)
    place = next(number for number, column in enumerate(columns) if column.title == "NAME")
    cells[place] = Cell(f"{name.text} ({bundle_lines.counts_text(bundle.counts)})", dim)
    reason = reason_text(bundle.row, facts) if bundle.state in PENDING_STATES else ""

    def rest(room: int) -> list[Cell]:
        return bundle_lines.line(name, bundle.counts, room, ascii_only=ascii_only, more=reason)

    return Spread(cells, stand, rest)


def _name(row: Row, style: str) -> Cell:
    if row.record is not None:
        return Cell(row.record.job.name, style)
    return Cell("-", "dim") if row.problem is None else Cell(f"({row.problem})", "red")


def cores_text(cores: int) -> str:
    """A number of cores in a column: "all" for all of a node."""
    return "all" if cores == ALL_CORES else str(cores)


def _duration(seconds: float | None) -> str:
    return "-" if seconds is None else format_duration(seconds)


# ---------------------------------------------------------------- the list


#: What has a line of its own.
Item = Row | Bundle


def rows_of(
    found: Listing,
    facts: Facts,
    *,
    is_short: bool,
    columns: Sequence[Column] = COLUMNS,
    ascii_only: bool = False,
) -> list[TableRow]:
    """The rows of the list, without notes: long runs of one user's jobs are a line, with `bundles` sooner."""
    by_user: dict[tuple[bool, str, str], list[Item]] = {}
    arrays = {(bundle.spool.path, bundle.id) for bundle in found.bundles}
    lines: list[Item] = [*found.bundles, *found.rows]
    for item in lines:
        if isinstance(item, Bundle) or not is_bundled(item, facts, arrays):
            by_user.setdefault((not item.is_mine, item.user, item.spool.path), []).append(item)
    rows: list[TableRow] = []
    for (is_other, user, _), items in sorted(by_user.items(), key=lambda each: each[0]):
        limits = SHOWN_THEIRS if is_other else SHOWN_MINE
        shown: dict[str, tuple[list[Item], list[Item]]] = {}
        for state in ORDER:
            same = _in_order(state, [item for item in items if item.state == state])
            most = limits[state] if is_short else PIPED_THEIRS if is_other else PIPED_MINE
            shown[state] = _cut(same, most)
        visible = [item for both in shown.values() for part in both for item in part]
        for state, (first, rest) in shown.items():
            # Of those that ended only the recent ones are meant to be listed.
            counted = 0 if state in ENDED_STATES else found.counts.get(user, {}).get(state, 0)
            more = max(counted, _count(items, state)) - _count(visible, state)
            rows += [line_of(item, facts, columns, ascii_only=ascii_only) for item in first]
            if more > 0:
                of = f" -u {user}" if is_other else ""
                how = f"rq list{of} -t {state}"
                rows.append(Line(f"... {more:,} more {WORDS.get(state, state)}: {how}", STYLES[state]))
            rows += [line_of(item, facts, columns, ascii_only=ascii_only) for item in rest]
    return rows


def is_bundled(row: Row, facts: Facts, arrays: set[tuple[str, str]]) -> bool:
    """Whether the line of an array stands for this task, which needs none of its own."""
    if not arrays or (row.spool.path, array_of(row.id)) not in arrays:
        return False
    return (row.spool.path, row.id) not in facts.gone and row.node not in facts.silent


def _count(items: Iterable[Item], state: str) -> int:
    """How many jobs in a state these lines stand for."""
    arrays = {(item.spool.path, item.id): item for item in items if isinstance(item, Bundle)}
    single = 0
    for item in items:
        if isinstance(item, Row) and item.state == state:
            single += not arrays or (item.spool.path, array_of(item.id)) not in arrays
    return single + sum(bundle.counts.get(state, 0) for bundle in arrays.values())


def line_of(item: Item, facts: Facts, columns: Sequence[Column], *, ascii_only: bool = False) -> TableRow:
    """The row of a job or an array."""
    if isinstance(item, Bundle):
        return _bundle_cells(item, facts, columns, ascii_only)
    return _cells(item, facts, columns)


def _in_order(state: str, items: list[Item]) -> list[Item]:
    if state in PENDING_STATES:
        # As the daemons will take them, as far as records were read: the first ones and the last were.
        return sorted(items, key=lambda item: (-_priority(item), age_key(item.id)))
    if state in ENDED_STATES:
        return sorted(items, key=ended_key, reverse=True)
    return sorted(items, key=lambda item: (item.record.started_ns if item.record else 0, age_key(item.id)))


def _priority(item: Item) -> int:
    return item.record.job.priority if item.record else 0


def ended_key(item: Item) -> tuple[int, tuple[int, tuple[int, ...], str]]:
    """Orders by when things ended."""
    if isinstance(item, Bundle):
        return item.ended_ns, age_key(item.id)
    return ended_ns(item.record) if item.record else 0, age_key(item.id)


def _cut(items: list[Item], most: int) -> tuple[list[Item], list[Item]]:
    """What is shown of a user's jobs in one state: before the line that counts the others, and after it."""
    if len(items) < most + MORE_LEAST:
        return items, []
    # The last to have come is what its user just submitted and looks for.
    is_pending = items[0].state in PENDING_STATES and items[0].is_mine
    newest = max(items, key=lambda item: age_key(item.id))
    return items[:most], [newest] if is_pending and newest not in items[:most] else []
