"""The verb `sets`: the sets of jobs there are, each as a whole."""

from __future__ import annotations

import argparse
import json
import sys
import time

from roundq.actors import sets
from roundq.faces import as_json, sets_view, tables
from roundq.faces.bundles import CHARACTERS
from roundq.faces.cli import say
from roundq.faces.cli.charset import typed
from roundq.faces.cli.parser import Parser, shown
from roundq.faces.cli.person import any_person
from roundq.words.errors import NoSuchJob
from roundq.words.groups import MARK, group_word, parse_set


def build_parser(verb: str) -> Parser:
    """The parser of `sets`."""
    parser = Parser(
        verb,
        "[--json] [%SET|ARRAY...]",
        "List your sets of jobs, each as a whole: what became of its jobs, and how many may run at once. A"
        " set is there as long as a job of it or a limit is: rq run --set NAME adds to it at any time.",
        "rq sets",
    )
    parser.add_argument(
        "sets", metavar="SET|ARRAY", nargs="*", type=typed, help="only these sets, or the whole of an array"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON value, for programs")
    return parser


def run(_verb: str, options: argparse.Namespace) -> int:
    """Prints them; the exit code is 1 if one that was asked for is not there."""
    asker = any_person()
    groups = None if not options.sets else list(dict.fromkeys(map(group_of, options.sets)))
    found = sets.look(asker.spool, groups)
    if groups is not None:
        found = {group: found[group] for group in groups if group in found}
    now_ns = time.time_ns()
    code = 0
    for group in groups or ():
        if group not in found:
            error = no_such_group(group)
            say(str(error), error.hint)
            code = error.exit_code
    if options.json:
        value = as_json.as_json(now_ns, sets=[as_json.of_set(whole) for whole in found.values()])
        print(json.dumps(value, indent=2 if sys.stdout.isatty() else None, allow_nan=False))
        return code
    if found:
        ascii_only = not tables.can_say(CHARACTERS)
        rows = sets_view.rows_of(found.values(), now_ns, ascii_only=ascii_only)
        tables.show(sets_view.COLUMNS, rows)
    elif groups is None:
        print("You have no sets. Begin one: rq run --set fit ./fit -n 3")
    return code


def group_of(word: str) -> str:
    """The group that a word means: a set, with or without its %, or an array by its id."""
    return word if _is_array(word) else f"{MARK}{parse_set(word)}"


def _is_array(word: str) -> bool:
    number = word.partition(".")[0]
    return number.isascii() and number.isdecimal()


def no_such_group(group: str) -> NoSuchJob:
    """What is said of a set or an array that is not there."""
    if group.startswith(MARK):
        return NoSuchJob(f"no such set: {group_word(group)}", "rq sets lists your sets")
    return NoSuchJob(f"no such array: {shown(group)}", "rq q --mine lists your jobs")
