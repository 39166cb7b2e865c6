"""Tables: columns and rows, laid out to fit a terminal, or whole for a program that reads them.

On a terminal a table fits the width: texts are shortened with an ellipsis, then the
least important columns go, and rich, imported only then, paints. Anywhere else it is plain aligned
text: every column, nothing cut, one line per row. Knows nothing of jobs. Whatever a
cell holds is made visible here, so no caller can forget it.
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TextIO

from roundq.words.quantities import visible

GAP = "  "
#: A plain cell wider than this is printed whole but sets no column's width: one
#: stranger's enormous text must not pad ten thousand lines.
PLAIN_WIDTH_MAX = 40
#: A line across the columns is broken into so many on a terminal, and then cut.
LINES_MOST = 5


@dataclass(frozen=True, slots=True)
class Column:
    """What a column is called, and what may happen to it on a narrow terminal.

    `least` is the width it may be shortened to, None if it is never shortened; a
    column with the highest `rank` is dropped first, one of rank 0 never. With
    `is_picture` it is for eyes only, not for programs that read the table.
    """

    title: str
    is_right: bool = False
    least: int | None = None
    rank: int = 0
    is_picture: bool = False


class Cell(NamedTuple):
    """A text, as it came from wherever, and a style of rich for it. There may be a million of them."""

    text: str
    style: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of its own between the rows or below them; it is broken rather than cut."""

    text: str
    style: str = ""


#: One line as it is printed.
Painted = list[Cell]


@dataclass(frozen=True, slots=True)
class Spread:
    """A row of which on a terminal only the first cells, so many `stand`, are in their columns.

    What is to the right of them is drawn by `rest`, which is told how many columns there are. Elsewhere
    it is a row of `cells` like all others.
    """

    cells: Sequence[Cell]
    stand: int
    rest: Callable[[int], Painted]


#: One row of a table: its cells, one per column, or a line across all of them, or something of both.
Row = Sequence[Cell] | Line | Spread


# ---------------------------------------------------------------- widths


def width(text: str) -> int:
    """The columns of a terminal that a visible text takes."""
    if text.isascii():
        return len(text)
    return sum(map(_width_of, text))


def _width_of(character: str) -> int:
    if unicodedata.east_asian_width(character) in "WF":
        return 2
    return 0 if unicodedata.category(character) in ("Mn", "Me", "Cf") else 1


def shorten(text: str, most: int, ellipsis: str = "…") -> str:
    """The text in at most `most` columns; what is cut off is marked."""
    # Marks that combine take no width; hundreds on one letter would paint the lines above.
    text, whole = text[: 4 * most + 4], len(text)
    if len(text) == whole and width(text) <= most:
        return text
    room = most - len(ellipsis)
    kept = 0
    for character in text:
        room -= _width_of(character)
        if room < 0:
            break
        kept += 1
    return text[:kept] + ellipsis if most >= len(ellipsis) else text[: max(0, most)]


# ---------------------------------------------------------------- layout


def _total(widths: Iterable[int]) -> int:
    listed = list(widths)
    return sum(listed) + len(GAP) * (len(listed) - 1)


def _fit(columns: Sequence[Column], natural: Sequence[int], available: int) -> dict[int, int]:
    """The width of each column that is shown, by its number."""
    widths = {number: min(own, available) for number, own in enumerate(natural)}
    least = {
        number: own
        if (may := columns[number].least) is None
        else min(own, max(may, len(columns[number].title)))
        for number, own in widths.items()
    }
    while _total(least[number] for number in widths) > available:
        droppable = [number for number in widths if columns[number].rank]
        if not droppable:
            break
        del widths[max(droppable, key=lambda number: columns[number].rank)]
    while (excess := _total(widths.values()) - available) > 0:
        # The widest gives first, down to the next one: what is short stays whole.
        flexible = sorted(
            (number for number in widths if widths[number] > least[number]), key=widths.__getitem__
        )
        if not flexible:
            break
        widest = flexible[-1]
        next_widest = widths[flexible[-2]] if len(flexible) > 1 else 0
        widths[widest] -= min(excess, max(1, widths[widest] - max(next_widest, least[widest])))
    return widths


def lay_out(
    columns: Sequence[Column], rows: Iterable[Row], available: int | None, ellipsis: str = "…"
) -> list[Painted]:
    """The lines of a table, its header first; `available` columns wide, or whole if that is None.

    Without columns there is no header, and every row must be a Line.
    """
    return Layout(columns, available, ellipsis).lines(rows)


@dataclass(slots=True)
class Layout:
    """A table that is laid out part by part: the first one says how wide its columns are."""

    columns: Sequence[Column]
    available: int | None
    ellipsis: str = "…"
    has_header: bool = True
    _widths: dict[int, int] | None = field(default=None, init=False)

    def lines(self, rows: Iterable[Row]) -> list[Painted]:
        """The next lines, the header before the first."""
        is_first = self._widths is None
        shown: list[Row] = list(map(_made_visible, rows))
        if is_first:
            titles = [Cell(column.title, "bold") for column in self.columns]
            self._widths = self._measured([*([titles] if titles and self.has_header else []), *shown])
            if titles and self.has_header:
                shown.insert(0, titles)
        assert self._widths is not None
        lines: list[Painted] = []
        for row in shown:
            if isinstance(row, Line):
                lines += (
                    [Cell(text, row.style)] for text in _wrapped(row.text, self.available, self.ellipsis)
                )
            elif isinstance(row, Spread) and self.available is not None:
                lines.append(self._spread(row, self._widths, self.available))
            else:
                cells = row.cells if isinstance(row, Spread) else row
                lines.append(_line(self.columns, cells, self._widths, self.available is None, self.ellipsis))
        if self.available is not None and _total(self._widths.values()) > self.available:
            return [_clipped(line, self.available) for line in lines]
        return lines

    def _measured(self, rows: Sequence[Row]) -> dict[int, int]:
        if self.available is None:
            cells = [
                row.cells if isinstance(row, Spread) else row for row in rows if not isinstance(row, Line)
            ]
            return {
                number: max((_plain_width(row[number].text) for row in cells), default=0)
                for number, column in enumerate(self.columns)
                if not column.is_picture
            }
        stand = [
            row.cells[: row.stand] if isinstance(row, Spread) else row
            for row in rows
            if not isinstance(row, Line)
        ]
        natural = [
            max((width(row[number].text) for row in stand if number < len(row)), default=0)
            for number in range(len(self.columns))
        ]
        return _fit(self.columns, natural, self.available)

    def _spread(self, row: Spread, widths: dict[int, int], available: int) -> Painted:
        # A column without a width behind them, so that what follows is a gap away.
        stand = {number: own for number, own in widths.items() if number < row.stand} | {row.stand: 0}
        painted = _line(self.columns, [*row.cells[: row.stand], Cell("")], stand, False, self.ellipsis)
        return [*painted, *map(_cell_made_visible, row.rest(max(0, available - _total(stand.values()))))]


def _made_visible(row: Row) -> Row:
    if isinstance(row, Line):
        return Line(visible(row.text), row.style)
    if isinstance(row, Spread):
        return Spread([_cell_made_visible(cell) for cell in row.cells], row.stand, row.rest)
    return [_cell_made_visible(cell) for cell in row]


def _cell_made_visible(cell: Cell) -> Cell:
    return cell if cell.text.isprintable() else Cell(visible(cell.text), cell.style)


def _plain_width(text: str) -> int:
    # Longer texts need no measuring.
    own = width(text) if len(text) <= 2 * PLAIN_WIDTH_MAX else PLAIN_WIDTH_MAX + 1
    return own if own <= PLAIN_WIDTH_MAX else 0


def _wrapped(text: str, available: int | None, ellipsis: str) -> list[str]:
    if available is None or width(text) <= available:
        return [text]
    # Imported for the rare line that is too long.
    import textwrap

    return textwrap.wrap(shorten(text, LINES_MOST * available, ellipsis), available) or [""]


def _line(
    columns: Sequence[Column], row: Sequence[Cell], widths: dict[int, int], is_whole: bool, ellipsis: str
) -> Painted:
    last = next(reversed(widths), None)
    if is_whole:
        return [Cell(_plain(columns, row, widths, last))]
    painted: Painted = []
    for number, own in widths.items():
        text = shorten(row[number].text, own, ellipsis)
        padding = " " * max(0, own - width(text))
        if columns[number].is_right:
            text = padding + text
        elif number != last:
            text += padding
        painted.append(Cell(text, row[number].style))
        if number != last:
            painted.append(Cell(GAP))
    return painted


def _plain(columns: Sequence[Column], row: Sequence[Cell], widths: dict[int, int], last: int | None) -> str:
    """A line for a program, whole and without styles."""
    texts = []
    for number, own in widths.items():
        text = row[number].text
        if number != last or columns[number].is_right:
            # What is not ASCII may be wider, or narrower, than it is long.
            room = own if text.isascii() else own - width(text) + len(text)
            text = text.rjust(room) if columns[number].is_right else text.ljust(room)
        texts.append(text)
    return GAP.join(texts)


def _clipped(painted: Painted, available: int) -> Painted:
    """Its first columns: only a terminal too narrow for what is never dropped comes to this."""
    kept = []
    for cell in painted:
        kept.append(Cell(shorten(cell.text, available, ""), cell.style))
        available -= width(kept[-1].text)
    return kept


# ---------------------------------------------------------------- printing


def show(columns: Sequence[Column], rows: Iterable[Row], out: TextIO | None = None) -> None:
    """Prints a table, painted if `out` is a terminal, plain and complete if it is not."""
    out = sys.stdout if out is None else out
    put(lay_out(columns, rows, columns_of(out), "…" if can_say("…", out) else "..."), out)


def columns_of(out: TextIO) -> int | None:
    """The width of a terminal, None of anything else, where nothing is cut."""
    if not out.isatty():
        return None
    from rich.console import Console

    return Console(file=out, force_terminal=True).width


def put(lines: Iterable[Painted], out: TextIO | None = None) -> None:
    """Prints lines as they were laid out, painted if `out` is a terminal. Their texts must be visible."""
    out = sys.stdout if out is None else out
    encoding = getattr(out, "encoding", None) or "utf-8"
    if not out.isatty():
        texts = ("".join([cell.text for cell in line]).rstrip() for line in lines)
        out.writelines(f"{sayable(text, encoding)}\n" for text in texts)
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(file=out, force_terminal=True, highlight=False, markup=False, emoji=False)
    for line in lines:
        text = Text.assemble(*((sayable(cell.text, encoding), cell.style) for cell in line))
        text.rstrip()
        console.print(text, soft_wrap=True)


def can_say(text: str, out: TextIO | None = None) -> bool:
    """Whether the encoding of `out` has these characters."""
    encoding = getattr(sys.stdout if out is None else out, "encoding", None) or "utf-8"
    return sayable(text, encoding) == text


def sayable(text: str, encoding: str) -> str:
    """The text with what the encoding lacks written out: a locale must not end a listing in a traceback."""
    return text if text.isascii() else text.encode(encoding, "backslashreplace").decode(encoding)
