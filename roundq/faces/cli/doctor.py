"""The verb `rq doctor`: makes the examination, and shows each finding when it is made."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator

from roundq.actors.doctor import CHECKS, SLOW, Examination
from roundq.faces import doctor_view, tables
from roundq.faces.cli.parser import Parser
from roundq.faces.cli.stopping import look_for_signals
from roundq.faces.tables import Cell
from roundq.words.findings import Finding, exit_code
from roundq.words.quantities import visible


def build_parser(verb: str) -> Parser:
    """The parser of `doctor`."""
    parser = Parser(
        verb,
        "[--quick] [--fix] [-v] [--json]",
        "Check what the queue needs of the home file system and of this node.",
        "rq doctor",
    )
    parser.add_argument("--quick", action="store_true", help="do not wait for the answers of other nodes")
    parser.add_argument("--fix", action="store_true", help="as root: make the commons, or say how it is made")
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="say why it matters also of what is well"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON value, for programs")
    return parser


def run(verb: str, options: argparse.Namespace) -> int:
    """`rq doctor`: 0, or the exit code of the first problem."""
    del verb
    checks = [check for check in CHECKS if not (options.quick and check.name in SLOW)]
    examination = Examination(os.environ, checks, fixes=options.fix)
    told: list[tuple[str, Finding]] = []
    group = ""
    width = tables.columns_of(sys.stdout)
    is_painted = width is not None and tables.can_say("".join(doctor_view.TICKS.values()))
    ticks = doctor_view.TICKS if is_painted else doctor_view.PLAIN_TICKS
    # Closed at once when a signal ends this: then what the checks left is removed.
    with contextlib.closing(examination.run()) as reports, _ticker() as ticker:
        for report in reports:
            look_for_signals()
            if report.finding is None:
                ticker.show(report.about)
                continue
            told.append((report.check.group, report.finding))
            if options.json:
                continue
            ticker.clear()
            if width is not None and report.check.group != group:
                group = report.check.group
                tables.put(doctor_view.heading(group))
            tables.put(doctor_view.lines(report.finding, width, ticks, tells_why=options.verbose))
            # Whoever reads along, in a pipe too, is to see it now.
            sys.stdout.flush()
    if options.json:
        from roundq.faces import as_json

        value = as_json.as_json(time.time_ns(), **as_json.findings(told, examination.skipped))
        print(json.dumps(value, indent=2 if sys.stdout.isatty() else None, allow_nan=False))
    else:
        tables.put([[], [Cell(doctor_view.summary(examination.findings, examination.skipped), "bold")]])
    return exit_code(examination.findings)


# ---------------------------------------------------------------- what is being done


class _Ticker:
    """One line at the bottom of a terminal, which comes and goes; nothing anywhere else.

    No thread paints it: helpers are forked meanwhile.
    """

    def __init__(self, width: int | None) -> None:
        self._width = width
        self._is_shown = False

    def show(self, text: str) -> None:
        if self._width is None:
            return
        sys.stderr.write(f"\r\x1b[2K{tables.shorten(visible(text), self._width - 2, '...')}")
        sys.stderr.flush()
        self._is_shown = True

    def clear(self) -> None:
        if self._is_shown:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
            self._is_shown = False


@contextlib.contextmanager
def _ticker() -> Iterator[_Ticker]:
    is_terminal = (
        sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM", "") not in ("", "dumb")
    )
    ticker = _Ticker(tables.columns_of(sys.stderr) if is_terminal else None)
    try:
        yield ticker
    finally:
        ticker.clear()
