"""Promises about tables: they fit a terminal, are whole in a pipe, and show nothing that paints."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundq.faces import tables
from roundq.faces.tables import Cell, Column, Line, Row, lay_out, shorten, show, width

COLUMNS = (
    Column("STATE"),
    Column("ID", is_right=True),
    Column("NODE", least=6, rank=1),
    Column("", rank=2, is_picture=True),
    Column("NAME", least=8),
)


def row(*texts: str) -> Row:
    return [Cell(text) for text in texts]


ROWS: list[Row] = [
    row("running", "7", "node1.example.org", "####", "the first of all jobs"),
    Line("... 12 more waiting"),
    row("failed: exit 3", "1234", "-", "#...", "b"),
]


def text(columns: tuple[Column, ...], rows: list[Row], available: int | None) -> list[str]:
    return ["".join(cell.text for cell in line).rstrip() for line in lay_out(columns, rows, available)]


class Terminal(io.TextIOWrapper):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_in_a_pipe_a_table_is_whole_and_aligned() -> None:
    """Every column but pictures, nothing cut, no spaces at the end."""
    assert text(COLUMNS, ROWS, None) == [
        "STATE             ID  NODE               NAME",
        "running            7  node1.example.org  the first of all jobs",
        "... 12 more waiting",
        "failed: exit 3  1234  -                  b",
    ]


def test_with_room_nothing_is_shortened() -> None:
    """A wide terminal shows all, pictures too."""
    assert text(COLUMNS, ROWS, 120) == [
        "STATE             ID  NODE                     NAME",
        "running            7  node1.example.org  ####  the first of all jobs",
        "... 12 more waiting",
        "failed: exit 3  1234  -                  #...  b",
    ]


def test_the_widest_is_shortened_first_and_marked() -> None:
    """What is short stays whole as long as anything longer can give."""
    assert text(COLUMNS, ROWS, 58) == [
        "STATE             ID  NODE                  NAME",
        "running            7  node1.example…  ####  the first of …",
        "... 12 more waiting",
        "failed: exit 3  1234  -               #...  b",
    ]


def test_the_least_important_column_goes_first() -> None:
    """The highest rank goes first; what has rank 0 stays to the end."""
    assert text(COLUMNS, ROWS, 44)[1] == "running            7  node1…  ####  the fir…"
    assert text(COLUMNS, ROWS, 42)[1] == "running            7  node1.ex…  the firs…"
    assert text(COLUMNS, ROWS, 33) == [
        "STATE             ID  NAME",
        "running            7  the first …",
        "... 12 more waiting",
        "failed: exit 3  1234  b",
    ]


@pytest.mark.parametrize("available", [1, 2, 7, 20, 25, 40, 60, 80])
def test_no_line_is_wider_than_the_terminal(available: int) -> None:
    """Whatever the width: a line that breaks would break all columns."""
    assert all(width(line) <= available for line in text(COLUMNS, ROWS, available))


@given(st.lists(st.tuples(*[st.text()] * 5)), st.integers(1, 150))
def test_any_text_fits_and_paints_nothing(texts: list[tuple[str, ...]], available: int) -> None:
    """Any text at all: lines fit, hold nothing but printable characters, and can be encoded."""
    lines = text(COLUMNS, [row(*each) for each in texts], available)
    assert len(lines) == len(texts) + 1
    for line in lines:
        assert width(line) <= available
        assert line.isprintable()
        line.encode()


@given(st.lists(st.tuples(*[st.text()] * 5)))
def test_any_text_is_one_line_of_a_pipe(texts: list[tuple[str, ...]]) -> None:
    """A name with line breaks is still one row."""
    out = io.StringIO()
    show(COLUMNS, [row(*each) for each in texts], out)
    lines = out.getvalue().split("\n")
    assert len(lines) == len(texts) + 2
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b2Jgone", r"\x9b2Jgone"),
        ("a\nrunning 1 root\r", r"a\nrunning 1 root\r"),
        ("a\u202egpj.exe", r"a\u202egpj.exe"),
        ("a\ud800b\udcff", r"a\ud800b\xff"),
        ("[red]markup[/red] :smile: \\[x]", "[red]markup[/red] :smile: \\[x]"),
    ],
)
def test_a_hostile_name_is_shown_not_obeyed(name: str, shown: str) -> None:
    """On a terminal and in a pipe: a stranger's text is text."""
    raw = io.BytesIO()
    for out in (Terminal(raw, encoding="utf-8"), io.TextIOWrapper(raw, encoding="utf-8")):
        raw.seek(0)
        raw.truncate()
        show((Column("NAME"),), [[Cell(name)], Line(name)], out)
        out.flush()
        assert raw.getvalue().decode().count(shown) == 2
        out.detach()


def test_ten_thousand_characters_stay_in_their_column() -> None:
    """Cut on a terminal; whole in a pipe, where they widen no other row."""
    long = "x" * 10_000
    rows = [row("running", "7", long, "", long), row("waiting", "8", "-", "", "short")]
    assert [width(line) for line in text(COLUMNS, rows, 80)] == [53, 80, 54]
    piped = text(COLUMNS, rows, None)
    assert piped[1].count("x") == 20_000
    assert piped[2] == "waiting   8  -     short"


def test_marks_that_combine_do_not_pile_up() -> None:
    """Thousands of accents on one letter would paint the lines above it."""
    assert len(shorten("e" + "\u0301" * 5000, 20)) < 100


@pytest.mark.parametrize(
    ("long", "most", "cut"),
    [
        ("abcdef", 6, "abcdef"),
        ("abcdef", 5, "abcd…"),
        ("日本語", 6, "日本語"),
        ("日本語", 5, "日本…"),
        ("abc", 1, "…"),
    ],
)
def test_shortened_by_what_a_terminal_shows(long: str, most: int, cut: str) -> None:
    """Wide characters take two columns."""
    assert shorten(long, most) == cut


def test_a_line_across_is_broken_not_cut() -> None:
    """A remedy at the end of a sentence must be read; only a page of text is cut."""
    said = "No daemon of yours is alive on any node. Start one: rq daemon"
    assert text((), [Line(said)], 40) == [
        "No daemon of yours is alive on any node.",
        "Start one: rq daemon",
    ]
    assert len(text((), [Line("word " * 1000)], 40)) <= tables.LINES_MOST + 1


def test_a_locale_without_our_letters_ends_in_no_traceback() -> None:
    """What the encoding lacks is written out, and a cut is marked with what it has."""
    raw = io.BytesIO()
    out = Terminal(raw, encoding="latin-1")
    show((Column("NAME", least=5),), [[Cell("日本")], [Cell("é" * 500)]], out)
    out.flush()
    lines = raw.getvalue().decode("latin-1").splitlines()
    assert lines[1].strip() == "\\u65e5\\u672c"
    assert lines[2].strip().endswith("é...")


def test_rich_is_imported_for_terminals_only() -> None:
    """A pipe does not pay for colours."""
    program = (
        "import sys; from roundq.faces import tables as t;"
        "t.show((t.Column('A'),), [[t.Cell('b', 'red')]]); print('rich' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout == "A\nb\nFalse\n"
