"""What `rq doctor` prints of a finding: pure, one finding at a time, since each is shown when it is made."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from roundq.faces.tables import Cell, Painted
from roundq.words.findings import LEVELS, OK, PROBLEM, WARNING, Finding
from roundq.words.quantities import visible

#: On a terminal, where it has them, and where it has not; elsewhere the level is a word.
TICKS = {OK: "✓", WARNING: "!", PROBLEM: "✗"}
PLAIN_TICKS = {OK: "+", WARNING: "!", PROBLEM: "x"}
STYLES = {OK: "green", WARNING: "yellow", PROBLEM: "bold red"}
#: The column of the names of checks.
NAME_WIDTH = 14
_LEVEL_WIDTH = max(map(len, LEVELS))
#: A terminal is never taken for narrower: words would be cut into letters.
_TEXT_LEAST = 20


def heading(group: str) -> list[Painted]:
    """What stands above the findings of one group, on a terminal."""
    return [[], [Cell(group.capitalize(), "bold")]]


def lines(
    finding: Finding, available: int | None, ticks: dict[str, str], *, tells_why: bool
) -> list[Painted]:
    """One finding: its level, check and text; below it why it matters and what to do, if it is not all well.

    In a terminal of `available` columns texts are broken; otherwise each is one line. `tells_why` adds the
    reason to what is well.
    """
    level = finding.level
    if available is None:
        first = [Cell(f"{level:{_LEVEL_WIDTH}}  {finding.check:{NAME_WIDTH}}  ")]
    else:
        name = Cell(f"{finding.check:{NAME_WIDTH}}  ", "" if level == OK else "bold")
        first = [Cell(f"{ticks[level]} ", STYLES[level]), name]
    indent = sum(len(cell.text) for cell in first)
    told: list[Painted] = _hanging(first, indent, visible(finding.found), "", available)
    if finding.why and (level != OK or tells_why):
        told += _hanging([Cell(" " * indent)], indent, f"why: {visible(finding.why)}", "dim", available)
    if finding.remedy:
        told += _hanging([Cell(" " * indent)], indent, f"remedy: {visible(finding.remedy)}", "", available)
    return told


def _hanging(first: list[Cell], indent: int, text: str, style: str, available: int | None) -> list[Painted]:
    if available is None:
        return [[*first, Cell(text, style)]]
    broken = textwrap.wrap(text, max(_TEXT_LEAST, available - indent), break_on_hyphens=False) or [""]
    rest = [[Cell(" " * indent), Cell(line, style)] for line in broken[1:]]
    return [[*first, Cell(broken[0], style)], *rest]


def summary(findings: Sequence[Finding], skipped: Sequence[str]) -> str:
    """The last line: how many of which, and what was not looked at."""
    counts = {level: sum(one.level == level for one in findings) for level in LEVELS}
    told = ", ".join(
        f"{count} {level if level == OK or count == 1 else f'{level}s'}" for level, count in counts.items()
    )
    return f"{told}; not looked at: {', '.join(skipped)}" if skipped else told
