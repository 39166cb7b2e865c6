"""The verb `dump`: everything that is known of jobs, for programs; and JSON that is written while it is read.

It changes nothing. rq-json(5) promises what is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from roundq.actors.listing import Row
from roundq.faces.cli import say
from roundq.faces.cli.catalog import Catalog, ListParser, add_which, parts
from roundq.faces.cli.parser import Parser

if TYPE_CHECKING:
    from roundq.faces.job_fields import JobField


def build_parser(verb: str) -> Parser:
    """The parser of `dump`."""
    parser = ListParser(
        verb,
        "[-t STATE | -a] [-u USER | --all-users] [--since TIME] [--sort COLUMNS] [-n N] [--lines] [JOBS...]",
        "Print everything that is known of jobs of mine, all or those that match, as JSON; see: man rq-json",
        "rq dump state=failed --lines",
    )
    add_which(parser)
    parser.add_argument("--lines", action="store_true", help="a line for each job: a JSON object of its own")
    return parser


def run(_: str, options: argparse.Namespace) -> int:
    """Does what `dump` says; its exit code."""
    from roundq.faces import job_fields

    catalog = Catalog(options, os.environ)
    if options.lines:
        _print_lines(catalog, catalog.stream(), job_fields.WHOLE)
    else:
        print_whole(catalog, catalog.stream(), job_fields.WHOLE)
    return 0


def print_whole(catalog: Catalog, rows: Iterator[Row], fields: Sequence[JobField] | None) -> None:
    """One JSON value with all jobs, each in a line of its own; without `fields` those of `rq --json`."""
    from roundq.faces import as_json, job_fields

    fields = fields or job_fields.JOB
    write = sys.stdout.write
    write(f'{json.dumps(as_json.as_json(catalog.now_ns))[:-1]}, "jobs": [')
    between = "\n"
    for part in parts(rows):
        facts = catalog.facts(part, fields)
        for row in part:
            write(between + json.dumps(job_fields.object_of(row, facts, fields), allow_nan=False))
            between = ",\n"
    problems = {as_json.text_of(user): as_json.text_of(text) for user, text in catalog.problems.items()}
    write(f'\n], "problems": {json.dumps(problems)}}}\n')


def _print_lines(catalog: Catalog, rows: Iterator[Row], fields: Sequence[JobField]) -> None:
    from roundq.faces import as_json, job_fields

    whole = as_json.as_json(catalog.now_ns)
    for part in parts(rows):
        facts = catalog.facts(part, fields)
        for row in part:
            value = {**whole, **job_fields.object_of(row, facts, fields)}
            sys.stdout.write(json.dumps(value, allow_nan=False) + "\n")
    for user, problem in sorted(catalog.problems.items()):
        say(f"{user}: {problem}")
