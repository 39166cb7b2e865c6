"""Promises about an array in one line: its counts, its bar, and how it fits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundq.faces import bundles
from roundq.faces.tables import Cell, width
from roundq.words.states import CANCELED, CLAIMED, COMPLETED, FAILED, HELD, RUNNING, STATES, WAITING, ZOMBIE

COUNTS = st.dictionaries(st.sampled_from(STATES), st.integers(1, 1_000_000), min_size=1)
MIXED = {COMPLETED: 40, RUNNING: 7, CLAIMED: 1, WAITING: 50, FAILED: 2}


def text_of(painted: list[Cell]) -> str:
    return "".join(cell.text for cell in painted)


def test_the_counts_are_told_in_words() -> None:
    """What a node has taken runs; nothing is told of what is not there."""
    assert bundles.counts_text(MIXED) == "40 done, 8 running, 50 waiting, 2 failed"
    assert bundles.counts_text(MIXED, is_short=True) == "40 done 8 run 50 wait 2 fail"
    rest = {HELD: 1234, ZOMBIE: 1, CANCELED: 3}
    assert bundles.counts_text(rest) == "1,234 held, 1 lost, 3 canceled"
    assert bundles.counts_text(rest, is_short=True) == "1234 held 1 lost 3 canc"


@given(COUNTS)
def test_no_task_is_left_out(counts: dict[str, int]) -> None:
    """The numbers of a line add up to all tasks."""
    told = bundles.counts_text(counts).replace(",", "").split()
    assert sum(int(word) for word in told if word.isdecimal()) == sum(counts.values())


@given(COUNTS, st.integers(5, 40), st.booleans())
def test_the_bar_has_its_length_and_shows_all_there_is(
    counts: dict[str, int], columns: int, ascii_only: bool
) -> None:
    """One failure among a million is a column of the bar, too."""
    bar = bundles.bar(counts, columns, ascii_only=ascii_only)
    assert width(text_of(bar)) == columns
    assert text_of(bar).isascii() or not ascii_only
    shown = [any(counts.get(state) for state in states) for states, *_ in bundles.PARTS]
    assert len(bar) == sum(shown)


def test_the_bar_is_in_proportion() -> None:
    """Done from the left, what waits on the right, what went wrong between them."""
    assert text_of(bundles.bar({COMPLETED: 50, WAITING: 50}, 10, ascii_only=True)) == "#####....."
    assert text_of(bundles.bar(MIXED, 20, ascii_only=True)) == "########x=.........."
    assert text_of(bundles.bar({CANCELED: 1, COMPLETED: 3}, 8, ascii_only=True)) == "######--"


@given(st.text(min_size=1, max_size=60), COUNTS, st.integers(1, 120), st.booleans(), st.text(max_size=30))
def test_a_line_fits(name: str, counts: dict[str, int], room: int, ascii_only: bool, more: str) -> None:
    """Whatever it is called, and however narrow the terminal; nothing of it is obeyed."""
    line = bundles.line(Cell(name), counts, room, ascii_only=ascii_only, more=more)
    assert width(text_of(line)) <= room
    assert text_of(line).isprintable()


@pytest.mark.parametrize(
    ("room", "says"),
    [
        (
            100,
            "simulation  ########x=.......... 40 done, 8 running, 50 waiting, 2 failed  node1: needs 8 cores",
        ),
        (72, "simulation  ########x=......... 40 done, 8 running, 50 waiting, 2 failed"),
        (54, "simulation  #####x=...... 40 done 8 run 50 wait 2 fail"),
        (45, "simul...  ##x=.. 40 done 8 run 50 wait 2 fail"),
        (38, "simul...  40 done 8 run 50 wait 2 fail"),
        (30, "40 done 8 run 50 wait 2 fail"),
        (20, "40 done 8 run 50 ..."),
    ],
)
def test_what_matters_most_is_kept(room: int, says: str) -> None:
    """First the numbers, then some of the name, then the bar, then words, and at last why it waits."""
    line = bundles.line(Cell("simulation"), MIXED, room, ascii_only=True, more="node1: needs 8 cores")
    assert text_of(line) == says
