"""Pure: what is filled into the words of a command for each task: `{}`, `{1}`, `{name}`, `{index}`.

A value becomes one argument, or a part of one; no shell sees it. Other braces stay as they are, and doubled
ones stand for single ones around what would be a place: `{{}}` is `{}`.
The rows come from lines, from CSV or TSV with names in their first row, or from objects of JSON, one a line.
"""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence

from roundq.words.errors import UsageError

#: How a file tells its rows, by the end of its name; anything else has lines.
LINES, CSV, TSV, JSONL = "lines", "csv", "tsv", "jsonl"
FORMATS = (LINES, CSV, TSV, JSONL)
_BY_SUFFIX = {"csv": CSV, "tsv": TSV, "tab": TSV, "jsonl": JSONL, "ndjson": JSONL}
INDEX = "index"
_BRACES = re.compile(r"\{\{([^{}]*)\}\}|\{([^{}]*)\}")
_PLACE = re.compile(r"[0-9]*|[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_PLAIN = re.compile(r"[^ \t\r\n]+")
#: What shlex says of a line, in the words of a person.
_FINDINGS = {
    "No closing quotation": "a quote is not closed",
    "No escaped character": "nothing follows the backslash",
}


def format_of(name: str) -> str:
    """The format that the name of a file tells."""
    return _BY_SUFFIX.get(name.rpartition(".")[2].lower(), LINES)


def split(line: str, *, comments: bool = True) -> list[str]:
    """The words of a command line as sh(1) would split and unquote it, without what follows a #.

    Nothing is expanded. Without `comments` a # is a character like others. Raises ValueError for a quote that
    is not closed.
    """
    if not any(char in line for char in "'\"\\#"):
        # All that shlex does with such a line, a hundred times as fast.
        return _PLAIN.findall(line)
    stream = io.StringIO(line)
    lexer = shlex.shlex(stream, posix=True)
    lexer.whitespace_split = True
    # shlex takes one in the middle of a word, as in a#b, for a comment, too.
    lexer.commenters = ""
    words: list[str] = []
    while True:
        rest = line[stream.tell() :].lstrip(lexer.whitespace)
        word = None if comments and rest.startswith("#") else lexer.get_token()
        if word is None:
            return words
        words.append(word)


def finding(error: ValueError) -> str:
    """What `split` found wrong with a line."""
    return _FINDINGS.get(str(error), str(error))


class RowError(UsageError):
    """Something is wrong with the line of this number, counted from 1."""

    def __init__(self, number: int, why: str, hint: str | None = None) -> None:
        super().__init__(f"line {number}: {why}", hint)
        self.number, self.why = number, why


class Row:
    """What one task is made from: the number of its line, the line itself, and its cells by name, if any."""

    __slots__ = ("_words", "cells", "line", "number")

    def __init__(self, number: int, line: str, cells: dict[str, str] | None = None) -> None:
        self.number, self.line, self.cells = number, line, cells
        self._words: Sequence[str] | None = None

    @property
    def words(self) -> Sequence[str]:
        """Its cells, or else its words as sh(1) would split it. Raises UsageError for an open quote."""
        if self._words is None:
            try:
                self._words = (
                    split(self.line, comments=False) if self.cells is None else list(self.cells.values())
                )
            except ValueError as error:
                raise UsageError(
                    finding(error), "quote words as in sh, or have the whole line as one argument: {}"
                ) from None
        return self._words


# ---------------------------------------------------------------- the command

#: A part of a word: text, or what is filled in: the name of a cell, the number of a word, or "" for the line.
_Part = tuple[str | None, str | int]


class Template:
    """A command with places, into which rows are filled.

    `columns` are the names that a row has, None if its cells have none. Raises UsageError for a name that
    no row has.
    """

    def __init__(self, command: Sequence[str], columns: Sequence[str] | None) -> None:
        self._columns = columns
        self._words = [self._parts(word) for word in command]
        #: Which places it has: names, numbers of words, and "" for the line.
        self.places = {place for parts in self._words for text, place in parts if text is None}

    def _parts(self, word: str) -> list[_Part]:
        parts: list[_Part] = []
        end = 0
        for found in _BRACES.finditer(word):
            doubled, single = found[1], found[2]
            inner = single if doubled is None else doubled
            if not self._is_place(inner):
                continue
            parts.append((word[end : found.start()], ""))
            end = found.end()
            if doubled is not None:
                parts.append((f"{{{doubled}}}", ""))
            else:
                parts.append((None, self._place(inner)))
        parts.append((word[end:], ""))
        return [part for part in parts if part[0] != ""]

    def _is_place(self, inner: str) -> bool:
        return inner in (self._columns or ()) or _PLACE.fullmatch(inner) is not None

    def _place(self, inner: str) -> str | int:
        if inner.isdecimal() and inner not in (self._columns or ()):
            if not 0 < len(inner) < 6 or not int(inner):
                raise UsageError(f"{{{inner[:20]}}}: words are counted from {{1}}")
            return int(inner)
        if inner and inner != INDEX and inner not in (self._columns or ()):
            from roundq.words.quantities import visible

            if self._columns is None:
                raise UsageError(
                    f"{{{inner}}} is filled in from a column, and lines have none",
                    "{} is the whole line, {1} its first word;"
                    f" write {{{{{inner}}}}} for {{{inner}}} itself",
                )
            known = ", ".join(f"{{{visible(name)}}}" for name in self._columns[:20])
            raise UsageError(
                f"there is nothing called {inner} to fill in for {{{inner}}}",
                f"there is {known}; write {{{{{inner}}}}} for {{{inner}}} itself",
            )
        return inner

    def fill(self, row: Row, index: int, *, append: bool = True) -> tuple[str, ...]:
        """The command of one task. Without any place the words of the row are appended, with `append`.

        Raises UsageError for a word that the row does not have.
        """
        made = [self._filled(parts, row, index) for parts in self._words]
        if append and not self.places:
            made += row.words
        return tuple(made)

    def _filled(self, parts: list[_Part], row: Row, index: int) -> str:
        if len(parts) == 1 and parts[0][0] is not None:
            return parts[0][0]
        return "".join(self._value(place, row, index) if text is None else text for text, place in parts)

    def _value(self, place: str | int, row: Row, index: int) -> str:
        if isinstance(place, int):
            if place > len(row.words):
                count = len(row.words)
                raise UsageError(
                    f"it has {count} word{'s' * (count != 1)}, and {{{place}}} is asked for"
                    if row.cells is None
                    else f"it has {count} column{'s' * (count != 1)}, and {{{place}}} is asked for"
                )
            return row.words[place - 1]
        if not place:
            return row.line
        if row.cells is not None and place in row.cells:
            return row.cells[place]
        if place == INDEX:
            return str(index)
        raise UsageError(f"it has nothing called {place}")


# ---------------------------------------------------------------- the rows


def rows(lines: Iterable[str], how: str) -> tuple[list[str] | None, Iterator[Row]]:
    """The names of the columns, None for lines, and the rows; empty lines are none.

    The lines keep their ends. Raises RowError, also while the rows are read.
    The columns of JSON lines are those of the first object.
    """
    if how == LINES:
        return None, _of_lines(lines)
    if how == JSONL:
        return _of_objects(lines)
    return _of_table(lines, "," if how == CSV else "\t")


def _of_lines(lines: Iterable[str]) -> Iterator[Row]:
    for number, line in enumerate(lines, 1):
        text = line.rstrip("\r\n")
        if text.strip():
            yield Row(number, text)


def _of_table(lines: Iterable[str], delimiter: str) -> tuple[list[str], Iterator[Row]]:
    # Few submissions have a table.
    import csv

    taken: list[str] = []

    def noted() -> Iterator[str]:
        for line in lines:
            taken.append(line)
            yield line

    csv.field_size_limit(1 << 24)
    reader = csv.reader(noted(), delimiter=delimiter, strict=True)

    def records() -> Iterator[tuple[int, list[str]]]:
        while True:
            number = reader.line_num + 1
            taken.clear()
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise RowError(number, str(error)) from None
            if cells and any(cells):
                yield number, cells

    found = records()
    number, columns = next(found, (1, []))
    # A mark of the order of bytes, which some programs write first.
    columns = [
        name.removeprefix("\ufeff" if place == 0 else "").strip() for place, name in enumerate(columns)
    ]
    twice = next((name for name in columns if columns.count(name) > 1), None)
    if twice is not None:
        from roundq.words.quantities import visible

        called = f'two columns are called "{visible(twice)}"' if twice else "two columns have no name"
        raise RowError(number, called, "the first row names the columns")

    def of_cells() -> Iterator[Row]:
        for number, cells in found:
            if len(cells) != len(columns):
                have = f"{len(cells)} column{'s' * (len(cells) != 1)}"
                raise RowError(number, f"it has {have}, and the first row {len(columns)}")
            yield Row(number, "".join(taken).rstrip("\r\n"), dict(zip(columns, cells, strict=True)))

    return columns, of_cells()


def _of_objects(lines: Iterable[str]) -> tuple[list[str], Iterator[Row]]:
    import itertools

    found = _objects(lines)
    first = next(found, None)
    if first is None:
        return [], iter(())
    assert first.cells is not None
    return list(first.cells), itertools.chain([first], found)


def _objects(lines: Iterable[str]) -> Iterator[Row]:
    import json

    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text:
            continue
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            raise RowError(number, "it is not JSON", "write one object a line") from None
        if not isinstance(value, dict):
            raise RowError(number, "it is not an object of JSON", 'write as in {"lr": 0.1, "seed": 3}')
        yield Row(number, text, {name: _text(cell) for name, cell in value.items()})


def _text(cell: object) -> str:
    """A value of JSON as an argument: text as it is, null as nothing, and anything else as JSON writes it."""
    import json

    if cell is None:
        return ""
    return cell if isinstance(cell, str) else json.dumps(cell, ensure_ascii=False, separators=(",", ":"))
