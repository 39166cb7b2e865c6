"""Rows of sets: what a person wants to know of each as a whole. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from roundq.actors.sets import EMPTY, FINISHED, Whole
from roundq.faces import bundles
from roundq.faces.tables import Cell, Column, Row
from roundq.words.groups import MARK, group_text
from roundq.words.job import NS
from roundq.words.quantities import format_age

#: Columns of the bar.
BAR = 10

COLUMNS = (
    Column("SET", least=8),
    Column("STATE"),
    Column("", rank=2, is_picture=True),
    Column("DONE", is_right=True),
    Column("RUN", is_right=True),
    Column("WAIT", is_right=True),
    Column("HELD", is_right=True, rank=1),
    Column("FAIL", is_right=True),
    Column("RETIRED", is_right=True, rank=3),
    Column("LIMIT", is_right=True),
    Column("SUBMITTED", rank=5),
    Column("LAST END", rank=4),
)
_STYLES = {True: "green", False: "red", None: ""}


def rows_of(wholes: Iterable[Whole], now_ns: int, *, ascii_only: bool = False) -> list[Row]:
    """A row for each set."""
    return [_row(whole, now_ns, ascii_only=ascii_only) for whole in wholes]


def _row(whole: Whole, now_ns: int, *, ascii_only: bool) -> Row:
    counts = (whole.done, whole.running, whole.waiting, whole.held, whole.failed, whole.retired)
    done, running, waiting, held, failed, retired = (_count(number) for number in counts)
    bar = "".join(cell.text for cell in bundles.bar(whole.counts, BAR, ascii_only=ascii_only))
    return [
        Cell(whole.group.removeprefix(MARK), "bold"),
        Cell(state_text(whole), _STYLES[whole.is_well]),
        Cell(bar, "dim"),
        done,
        Cell(running.text, "cyan" if whole.running else running.style),
        waiting,
        held,
        Cell(failed.text, "red" if whole.failed else failed.style),
        retired,
        Cell("-" if whole.most is None else f"{whole.most:,}"),
        Cell(_ago(whole.submitted_ns, now_ns)),
        Cell(_ago(whole.ended_ns, now_ns)),
    ]


def _count(number: int) -> Cell:
    return Cell(f"{number:,}", "" if number else "dim")


def _ago(at_ns: int, now_ns: int) -> str:
    return f"{format_age(max(0, now_ns - at_ns) / NS)} ago" if at_ns else "-"


def state_text(whole: Whole) -> str:
    """The state of a set, and of one that is finished how it ended."""
    if whole.state != FINISHED:
        return whole.state
    return "finished" if whole.is_well else "failed"


def sentence(whole: Whole) -> str:
    """What may run of a set or an array at once, and what there is of it."""
    group = group_text(whole.group)
    few = "jobs" if whole.most != 1 else "job"
    most = "any number of its jobs" if whole.most is None else f"at most {whole.most:,} {few}"
    own = whole.throttle and whole.most == whole.throttle
    said = f"{group}: {most} may run at once{', as it was submitted' if own else ''}"
    if whole.state == EMPTY:
        return f"{said}; none of its jobs waits or runs"
    if whole.state == FINISHED:
        return f"{said}; all of its jobs have ended"
    now = [f"{_runs(whole.running)} now" if whole.running else "none runs now"]
    if whole.most is not None and whole.running > whole.most:
        now = [f"{_runs(whole.running)} now, which go on"]
    waits = whole.waiting + whole.held
    if waits:
        now.append(f"{waits:,} {'waits' if waits == 1 else 'wait'}")
    return f"{said}; {', '.join(now)}"


def _runs(count: int) -> str:
    return f"{count:,} {'runs' if count == 1 else 'run'}"
