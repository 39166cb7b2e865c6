"""An array in one line: how many of its tasks are where, as words and as a bar. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from roundq.faces.tables import Cell, Painted, shorten, width
from roundq.words.quantities import visible
from roundq.words.states import CANCELED, CLAIMED, COMPLETED, FAILED, HELD, RUNNING, WAITING, ZOMBIE

#: What is counted together, in the order in which it is told: one word for what a person wants to know, and a
#: shorter one where there is no room.
TOLD = (
    ("done", "done", (COMPLETED,)),
    ("running", "run", (RUNNING, CLAIMED)),
    ("waiting", "wait", (WAITING,)),
    ("held", "held", (HELD,)),
    ("failed", "fail", (FAILED,)),
    ("lost", "lost", (ZOMBIE,)),
    ("canceled", "canc", (CANCELED,)),
)
#: The parts of the bar, from the left: states, a character, the same in ASCII, and a style.
PARTS = (
    ((COMPLETED,), "█", "#", "green"),
    ((FAILED, ZOMBIE), "\N{MULTIPLICATION SIGN}", "x", "red"),
    ((CANCELED,), "-", "-", "dim"),
    ((RUNNING, CLAIMED), "▓", "=", "cyan"),
    ((WAITING, HELD), "░", ".", "yellow"),
)
#: What a terminal must be able to show for a bar that is not ASCII.
CHARACTERS = "".join(character for _, character, *_ in PARTS)
BAR_MOST, BAR_LEAST = 20, 6
#: Columns that the name keeps, if it has as many.
NAME_LEAST = 8
#: Columns without which nothing more is told.
MORE_LEAST = 16
_GAP = "  "


def counts_text(counts: Mapping[str, int], *, is_short: bool = False) -> str:
    """ "40 done, 8 running, 50 waiting, 2 failed"; short: "40 done 8 run 50 wait 2 fail"."""
    parts = []
    for word, short, states in TOLD:
        count = sum(counts.get(state, 0) for state in states)
        if count:
            parts.append(f"{count} {short}" if is_short else f"{count:,} {word}")
    return " ".join(parts) if is_short else ", ".join(parts)


def bar(counts: Mapping[str, int], columns: int, *, ascii_only: bool) -> Painted:
    """So many columns that show how the tasks are divided; what there is has one at least."""
    amounts = [sum(counts.get(state, 0) for state in states) for states, *_ in PARTS]
    shares = _shares(amounts, columns)
    return [
        Cell((plain if ascii_only else character) * share, style)
        for (_, character, plain, style), share in zip(PARTS, shares, strict=True)
        if share
    ]


def _shares(amounts: list[int], columns: int) -> list[int]:
    """So many columns, divided by these amounts: each that is not 0 has one at least, if it can be."""
    total = sum(amounts)
    if not total:
        return [0] * len(amounts)
    exact = [amount * columns / total for amount in amounts]
    shares = [max(int(share), 1) if share else 0 for share in exact]
    while sum(shares) > columns:
        # Who has most does not miss it.
        shares[max(range(len(shares)), key=lambda place: (shares[place], exact[place]))] -= 1
    while sum(shares) < columns:
        shares[max(range(len(shares)), key=lambda place: exact[place] - shares[place])] += 1
    return shares


def line(
    name: Cell, counts: Mapping[str, int], room: int, *, ascii_only: bool = False, more: str = ""
) -> Painted:
    """The name, the bar and the counts of an array in so many columns; `more` if there is room for it."""
    ellipsis = "..." if ascii_only else "…"
    name = Cell(visible(name.text), name.style)
    whole = width(name.text)
    least = min(whole, NAME_LEAST)
    long, short = counts_text(counts), counts_text(counts, is_short=True)
    for text, bar_columns, own in (
        (long, BAR_LEAST, whole),
        (short, BAR_LEAST, whole),
        (short, BAR_LEAST, least),
        (short, 0, least),
    ):
        left = room - width(text) - len(_GAP) - own - (bar_columns + 1 if bar_columns else 0)
        if left >= 0:
            break
    else:
        return [Cell(shorten(short, room, ellipsis))]
    # What is left goes to the name, then to the bar.
    own, left = own + min(left, whole - own), left - min(left, whole - own)
    painted = [Cell(shorten(name.text, own, ellipsis), name.style), Cell(_GAP)]
    if bar_columns:
        bar_columns += min(left, BAR_MOST - BAR_LEAST)
        left -= bar_columns - BAR_LEAST
        painted += [*bar(counts, bar_columns, ascii_only=ascii_only), Cell(" ")]
    painted.append(Cell(text))
    if more and left >= len(_GAP) + MORE_LEAST:
        painted.append(Cell(_GAP + shorten(visible(more), left - len(_GAP), ellipsis), "dim"))
    return painted
