"""The verb `list`: all jobs that match, as a table, as blocks, as columns, or for programs.

It changes nothing. `catalog` finds and reads them; each part is printed before the next one is read.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from roundq.actors.listing import Bundle, Row
from roundq.faces.cli import say
from roundq.faces.cli.catalog import PART, Catalog, ListParser, add_which, parts
from roundq.faces.cli.parser import Parser
from roundq.words import ranges, selectors
from roundq.words.selectors import Last

if TYPE_CHECKING:
    from roundq.faces.job_fields import JobField
    from roundq.faces.tables import Column, Layout


# ---------------------------------------------------------------- words


class _Parser(ListParser):
    """That of `list`, in which `-h` beside `-o` is `--noheader`, as it is for squeue(1)."""

    def parse(self, words: list[str]) -> argparse.Namespace:
        """The options that these words give."""
        if any(word.startswith(("-o", "--columns")) for word in words):
            words = ["--noheader" if word == "-h" else word for word in words]
        return super().parse(words)


def build_parser(verb: str) -> Parser:
    """The parser of `list`."""
    parser = _Parser(
        verb,
        "[-t STATE | -a] [-u USER | --all-users] [--since TIME] [-v | --tasks | -o COLUMNS] [--sort COLUMNS]"
        " [-n N] [--json | --csv] [--noheader] [JOBS...]",
        "List jobs of mine, all of them or those that match, ended ones included, in the order of their ids.",
        "rq list 'state=failed and name=\"fit*\"' -o id,name,exit_code",
    )
    add_which(parser)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("-v", "--verbose", action="store_true", help="a block of lines for each job")
    how.add_argument("--tasks", action="store_true", help="a line for each task of an array")
    how.add_argument(
        "-o", "--columns", metavar="COLUMNS", help="these columns, by name: id,name,state; see: man rq-json"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON value, for programs")
    form.add_argument("--csv", action="store_true", help="print comma-separated values, for programs")
    parser.add_argument(
        "--noheader", action="store_true", help="without the names of the columns; beside -o also -h"
    )
    return parser


def run(_: str, options: argparse.Namespace) -> int:
    """Does what `list` says; its exit code."""
    catalog = Catalog(options, os.environ)
    if options.json:
        from roundq.faces.cli.dump import print_whole

        print_whole(catalog, catalog.stream(), catalog.columns)
        return 0
    if options.csv:
        _print_csv(catalog)
    elif options.verbose:
        _print_blocks(catalog)
    elif catalog.columns:
        _print_columns(catalog, catalog.columns)
    elif options.tasks or catalog.sorts or _names_tasks(options.jobs):
        _print_table(catalog, catalog.stream())
    else:
        _print_table(catalog, catalog.bundled())
    for user, problem in sorted(catalog.problems.items()):
        say(f"{user}: {problem}")
    return 0


def _names_tasks(words: Iterable[str]) -> bool:
    """Whether some word names arrays or their tasks by ids: then who asks wants to see the tasks."""
    return any(ranges.is_meant(word) or isinstance(selectors.parse(word), Last) for word in words)


# ---------------------------------------------------------------- for people


def _print_table(catalog: Catalog, items: Iterator[Row] | Iterator[Row | Bundle]) -> None:
    """The columns of `rq`, and on a terminal below them how many jobs they are."""
    from roundq.faces import bundles, queue_notes, queue_view, tables

    is_screen = sys.stdout.isatty()
    is_mine = catalog.options.user is None and not catalog.options.all_users
    ascii_only = not tables.can_say(bundles.CHARACTERS)
    columns: Sequence[Column] = queue_view.COLUMNS
    layout: Layout | None = None
    counts: dict[str, int] = {}
    for part in parts(items):
        facts = catalog.facts([item.row if isinstance(item, Bundle) else item for item in part])
        if layout is None:
            columns = queue_view.columns_of(facts, is_wordy=False, is_whole=not is_screen)
            columns = [column for column in columns if not (is_mine and column == queue_view.USER)]
            layout = _layout(catalog, columns)
        lines = [queue_view.line_of(item, facts, columns, ascii_only=ascii_only) for item in part]
        tables.put(layout.lines(lines))
        for item in part:
            for state, count in (item.counts if isinstance(item, Bundle) else {item.state: 1}).items():
                counts[state] = counts.get(state, 0) + count
    if is_screen:
        tables.show((), [tables.Line(queue_notes.counted(counts) or _NONE, "dim")])
    elif layout is None:
        columns = [column for column in columns if not (is_mine and column == queue_view.USER)]
        tables.put(_layout(catalog, columns).lines([]))


#: What a terminal shows if nothing matches; a program sees the columns.
_NONE = "No such job."


def _print_blocks(catalog: Catalog) -> None:
    """Everything of each job, line by line, as tpar does."""
    from roundq.faces import tables
    from roundq.faces.blocks import block

    is_empty = True
    for part in parts(catalog.stream(), PART // 10):
        is_empty = False
        facts = catalog.facts(part)
        tables.show((), [line for row in part for line in block(row, facts)])
    if is_empty and sys.stdout.isatty():
        tables.show((), [tables.Line(_NONE, "dim")])


# ---------------------------------------------------------------- for programs


def _print_columns(catalog: Catalog, fields: Sequence[JobField]) -> None:
    """The columns that were asked for, on a terminal as wide as that is."""
    from roundq.faces import job_fields, tables

    layout = _layout(catalog, [job_fields.column(field) for field in fields])
    is_empty = True
    for part in parts(catalog.stream()):
        is_empty = False
        facts = catalog.facts(part, fields)
        cells = [[tables.Cell(job_fields.text(field, row, facts)) for field in fields] for row in part]
        tables.put(layout.lines(cells))
    if is_empty:
        tables.put(layout.lines([]))


def _layout(catalog: Catalog, columns: Sequence[Column]) -> Layout:
    from roundq.faces import tables

    ellipsis = "…" if tables.can_say("…") else "..."
    return tables.Layout(columns, tables.columns_of(sys.stdout), ellipsis, not catalog.options.noheader)


def _print_csv(catalog: Catalog) -> None:
    import csv

    from roundq.faces import job_fields
    from roundq.words.quantities import visible

    fields = catalog.columns or job_fields.JOB
    out = csv.writer(sys.stdout, lineterminator="\n")
    is_screen = sys.stdout.isatty()
    if not catalog.options.noheader:
        out.writerow([field.name for field in fields])
    for part in parts(catalog.stream()):
        facts = catalog.facts(part, fields)
        for row in part:
            cells = [job_fields.cell(field, row, facts) for field in fields]
            # A stranger's name must not paint the terminal; a program gets it as it is.
            out.writerow([visible(cell) for cell in cells] if is_screen else cells)
