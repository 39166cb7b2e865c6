"""The verb `report`: what ended jobs used, how long they waited and why they failed. It changes nothing."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from roundq import __version__
from roundq.actors import afterwards
from roundq.faces.cli import named, say
from roundq.faces.cli.history import add_time, time_of
from roundq.faces.cli.looking import Here, here_of, spools_of
from roundq.faces.cli.parser import Parser
from roundq.records.spool import Spool
from roundq.words import report as sums
from roundq.words.errors import RoundqError, UsageError
from roundq.words.job import NS
from roundq.words.report import Ended, Figures, Report

if TYPE_CHECKING:
    from roundq.faces.tables import Cell

#: How far back it looks if nobody says.
DAYS = 30


def build_parser(verb: str) -> Parser:
    """The parser of `report`."""
    parser = Parser(
        verb,
        "[--since TIME] [--until TIME] [--by WHAT] [-u USER | --all-users] [--json | --html FILE] [JOBS...]",
        "Sum up what ended jobs used of what they asked for, how long they waited and why they failed;"
        f" without a time those of the last {DAYS} days.",
        "rq report --since 2026-01-01 --html report.html",
    )
    named.add_jobs(parser, "jobs to sum up", some=True)
    add_time(parser)
    parser.add_argument(
        "--by",
        metavar="WHAT",
        choices=sums.BY,
        help="a line for each name (the default), set, user, node or day",
    )
    whose = parser.add_mutually_exclusive_group()
    whose.add_argument("-u", "--user", metavar="USER", help="jobs of this user instead of mine")
    whose.add_argument("--all-users", action="store_true", help="jobs of everybody whose queue can be read")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON value, for programs")
    form.add_argument("--html", metavar="FILE", help="write a page with charts, which needs nothing else")
    return parser


def run(_: str, options: argparse.Namespace) -> int:
    """Does what `report` says; its exit code."""
    now_ns = time.time_ns()
    since_ns, until_ns = time_of(options, now_ns, DAYS * 86_400)
    here = here_of(os.environ)
    is_all = options.all_users or (options.by == "user" and options.user is None)
    of = spools_of(here, options.user, not is_all and options.user is None)
    jobs = list(_jobs(here, of, options, since_ns, until_ns, now_ns))
    report = sums.report(jobs, options.by or "name", _day)
    until_ns = now_ns if until_ns is None else until_ns
    if options.json:
        value = _as_json(report, since_ns, until_ns, now_ns)
        print(json.dumps(value, indent=2 if sys.stdout.isatty() else None, allow_nan=False))
    elif options.html is not None:
        begun = [begin for begin, *_ in report.spans]
        since_ns = since_ns or min(begun, default=until_ns - NS)
        whose = "everybody" if is_all else options.user or here.me.user
        _write(options.html, report, whose, since_ns, until_ns, now_ns)
    else:
        _print(report)
    return 0


def _jobs(
    here: Here, of: list[Spool], options: argparse.Namespace, since_ns: int, until_ns: int | None, now_ns: int
) -> Iterator[Ended]:
    wanted = afterwards.wanted(options.jobs, options.job_name, now_ns)
    unread = 0
    for spool in of:
        if spool.is_commons:
            # Only cards are there, which tell nothing of what has ended.
            continue
        try:
            mine = spool == here.me
            for row in afterwards.ended(spool, since_ns, until_ns, wanted=wanted, is_mine=mine):
                if row.record is None:
                    unread += 1
                else:
                    yield Ended(row.id, row.user, row.state, row.record)
        except OSError as error:
            say(f"{spool.path} cannot be read: {error.strerror or error}")
    if unread:
        say(f"{unread:,} job files cannot be read, and are left out")


def _day(ns: int) -> str:
    try:
        return time.strftime("%Y-%m-%d", time.localtime(ns // NS))
    except (OverflowError, ValueError, OSError):
        return "unknown"


# ---------------------------------------------------------------- as a table


def _print(report: Report) -> None:
    from roundq.faces import tables
    from roundq.faces.tables import Column

    columns = [
        Column(report.by.upper(), least=10),
        *[
            Column(title, is_right=True)
            for title in ("JOBS", "FAILED", "CORE-H", "CPU", "MEM", "WAIT", "P95")
        ],
        Column("WHY THEY FAILED", least=12, rank=1),
    ]
    rows = [_cells(name or "-", one) for name, one in report.groups.items()]
    if len(rows) != 1:
        rows.append(_cells("all", report.total, "bold"))
    tables.show(columns, rows)


def _cells(name: str, one: Figures, style: str = "") -> list[Cell]:
    from roundq.faces.tables import Cell

    why = ", ".join(f"{reason} ({count})" for reason, count in sums.common(one.reasons))
    texts = [
        f"{one.jobs:,}",
        f"{one.failed:,}",
        f"{one.core_s / 3600:,.1f}",
        _percent(one.efficiency),
        _percent(one.memory),
        _duration(one.wait_mean_s),
        _duration(one.wait_p95_s),
    ]
    return [Cell(name, style), *(Cell(text, style) for text in texts), Cell(why or "-", style or "dim")]


def _percent(part: float | None) -> str:
    return "-" if part is None or not math.isfinite(part) else f"{100 * part:.0f}%"


def _duration(seconds: float | None) -> str:
    from roundq.words.quantities import format_duration

    return "-" if seconds is None else format_duration(seconds)


# ---------------------------------------------------------------- for programs, and as a page


def _as_json(report: Report, since_ns: int, until_ns: int, now_ns: int) -> dict[str, Any]:
    from roundq.faces.as_json import as_json
    from roundq.faces.values import moment, text_of

    return as_json(
        now_ns,
        since=moment(since_ns),
        until=moment(until_ns),
        by=report.by,
        total=_figures(report.total),
        groups=[{"name": text_of(name), **_figures(one)} for name, one in report.groups.items()],
    )


def _figures(one: Figures) -> dict[str, Any]:
    from roundq.faces.values import text_of

    return {
        "jobs": one.jobs,
        "failed": one.failed,
        "states": dict(one.states),
        "reasons": {text_of(reason): count for reason, count in one.reasons.items()},
        "attempts": one.attempts,
        "core_seconds": _known(one.core_s),
        "measured_core_seconds": _known(one.measured_core_s),
        "cpu_seconds": _known(one.cpu_s),
        "cpu_efficiency": _known(one.efficiency),
        "memory_efficiency": _known(one.memory),
        "memory_most": _known(one.memory_most),
        "wait_mean": _known(one.wait_mean_s),
        "wait_p95": _known(one.wait_p95_s),
    }


def _known(value: float | None) -> float | None:
    # A record may hold any number.
    return None if value is None or not math.isfinite(value) else round(value, 6)


def _write(path: str, report: Report, whose: str, since_ns: int, until_ns: int, now_ns: int) -> None:
    from roundq.faces.report_html import About, page

    if not path:
        raise UsageError("option --html: the name is empty", "name a file, such as report.html")
    text = page(report, About(whose, since_ns, until_ns, now_ns, __version__))
    try:
        with open(path, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError as error:
        raise RoundqError(f"{path} cannot be written: {error.strerror}", "name a file of yours") from None
    print(f"wrote {path}: {report.total.jobs:,} jobs")
