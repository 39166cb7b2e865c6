"""The verb `history`: jobs that have ended, as far back as anything is known of them. It changes nothing."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from roundq.actors import afterwards
from roundq.actors.listing import Row, ended_ns
from roundq.faces.cli import named
from roundq.faces.cli.parser import Parser, shown
from roundq.faces.cli.person import any_person
from roundq.faces.since import parse_since
from roundq.records.census import age_key
from roundq.words.errors import UsageError
from roundq.words.job import NS

if TYPE_CHECKING:
    from roundq.faces.job_fields import JobField
    from roundq.faces.queue_view import Facts
    from roundq.faces.tables import Cell

#: How far back it looks if nobody says.
DAYS = 7
#: The columns that are shown if nobody says which.
COLUMNS = "ended,id,state,node,cores,run_time,wait_time,name"


def build_parser(verb: str) -> Parser:
    """The parser of `history`."""
    parser = Parser(
        verb,
        "[--since TIME] [--until TIME] [-n N] [-o COLUMNS] [--json | --csv] [JOBS...]",
        "List jobs of mine that have ended, the newest last, also those whose records are gone; without a"
        f" time or words those of the last {DAYS} days.",
        "rq history --since 2026-01-01 'state=failed and name=\"fit*\"'",
    )
    named.add_jobs(parser, "jobs to list", some=True)
    add_time(parser)
    parser.add_argument("-n", "--limit", metavar="N", type=_count, help="at most N of them, the newest")
    parser.add_argument(
        "-o", "--columns", metavar="COLUMNS", default=COLUMNS, help="these columns, by name; see: man rq-json"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON value, for programs")
    form.add_argument("--csv", action="store_true", help="print comma-separated values, for programs")
    return parser


def add_time(parser: Parser) -> None:
    """Declares --since and --until."""
    parser.add_argument(
        "--since", metavar="TIME", help="what ended since then: 7d, 9:00, yesterday, 2026-12-24"
    )
    parser.add_argument("--until", metavar="TIME", help="... and before then")


def time_of(options: argparse.Namespace, now_ns: int, usual_s: float) -> tuple[int, int | None]:
    """From when to when, in ns since the epoch; without a word since `usual_s` ago, 0 for ever.

    Raises UsageError.
    """
    since_ns = max(0, now_ns - int(usual_s * NS)) if usual_s else 0
    if options.since is not None:
        since_ns = parse_since(options.since, now_ns)
    elif options.until is not None:
        since_ns = 0
    until_ns = None if options.until is None else parse_since(options.until, now_ns)
    if until_ns is not None and until_ns <= since_ns:
        raise UsageError("option --until: that is not after --since", "give a later time")
    return since_ns, until_ns


def _count(text: str) -> int:
    if not text.isdecimal() or not text.isascii() or not 0 < len(text) < 10 or not int(text):
        raise UsageError(f"option -n: {shown(text)} is no number of jobs", "give a whole number, such as 20")
    return int(text)


def run(_: str, options: argparse.Namespace) -> int:
    """Does what `history` says; its exit code."""
    from roundq.faces import job_fields
    from roundq.faces.queue_view import Facts

    asker = any_person()
    now_ns = time.time_ns()
    fields = job_fields.chosen(options.columns, "-o")
    wanted = afterwards.wanted(options.jobs, options.job_name, now_ns)
    is_asked = bool(options.jobs or options.job_name)
    since_ns, until_ns = time_of(options, now_ns, 0 if is_asked else DAYS * 86_400)
    rows = afterwards.by_ids(asker.spool, options.jobs, since_ns, until_ns, now_ns)
    if rows is None or options.job_name:
        rows = list(afterwards.ended(asker.spool, since_ns, until_ns, wanted=wanted))
    rows.sort(key=lambda row: (0 if row.record is None else ended_ns(row.record), age_key(row.id)))
    rows = rows[-options.limit :] if options.limit else rows
    facts = Facts(now_ns)
    if options.json:
        _print_json(rows, facts)
    elif options.csv:
        _print_csv(rows, facts, fields)
    else:
        _print_table(rows, facts, fields)
        if not rows and sys.stdout.isatty():
            _say_none(is_asked, options)
    return 0


def _say_none(is_asked: bool, options: argparse.Namespace) -> None:
    from roundq.faces import tables

    since = "" if is_asked or options.since or options.until else f" in the last {DAYS} days; see --since"
    tables.show((), [tables.Line(f"No such job has ended{since}.", "dim")])


def _print_table(rows: Iterable[Row], facts: Facts, fields: Sequence[JobField]) -> None:
    from roundq.faces import job_fields, tables

    columns = [job_fields.column(field) for field in fields]
    tables.show(columns, [[_cell(field, row, facts) for field in fields] for row in rows])


def _cell(field: JobField, row: Row, facts: Facts) -> Cell:
    from roundq.faces import job_fields, queue_view
    from roundq.faces.tables import Cell

    if field.name == "state":
        # With its reason, where one word is not all.
        return Cell(queue_view.state_text(row, facts), queue_view.STYLES[row.state])
    return Cell(job_fields.text(field, row, facts))


def _print_csv(rows: Iterable[Row], facts: Facts, fields: Sequence[JobField]) -> None:
    import csv

    from roundq.faces import job_fields
    from roundq.words.quantities import visible

    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow([field.name for field in fields])
    is_screen = sys.stdout.isatty()
    for row in rows:
        cells = [job_fields.cell(field, row, facts) for field in fields]
        out.writerow([visible(cell) for cell in cells] if is_screen else cells)


def _print_json(rows: Iterable[Row], facts: Facts) -> None:
    from roundq.faces import as_json, job_fields

    value = as_json.as_json(facts.now_ns, jobs=[job_fields.object_of(row, facts) for row in rows])
    print(json.dumps(value, indent=2 if sys.stdout.isatty() else None, allow_nan=False))
