"""The verb `limit`: what one wants to have at most in the whole cluster, what one may have, and has.

Of oneself, or of a set or an array: how many of its jobs may run at once.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, astuple, replace

from roundq.faces import cluster
from roundq.faces.cli.charset import typed
from roundq.faces.cli.parser import Parser, shown
from roundq.faces.cli.person import Person, any_person
from roundq.records import control
from roundq.records import spool as spools
from roundq.words.errors import NoSuchJob, RecordError, RoundqError, UsageError
from roundq.words.groups import MARK, group_text
from roundq.words.limits import LIMIT_MAX, Limit
from roundq.words.quantities import ALL_CORES
from roundq.words.states import PENDING_STATES

NONE = "none"
_COUNTED = ("cores", "jobs", "waiting")


def build_parser(verb: str) -> Parser:
    """The parser of `limit`."""
    parser = Parser(
        verb,
        "[-c N] [-j N] [--none] [--json] | %SET|ARRAY [NUMBER|none] [--json]",
        "Set what you want to have at most in the whole cluster, or how many jobs of a set or an array may"
        " run at once. Without a number: show that, what the administrator allows you, and what you have now."
        " Nothing that runs is stopped.",
        "rq limit %fit 4",
    )
    parser.add_argument(
        "group", metavar="SET|ARRAY", nargs="?", type=typed, help="a set, or the id of an array"
    )
    parser.add_argument(
        "most",
        metavar="NUMBER",
        nargs="?",
        type=typed,
        help='how many of its jobs may run at once; "none" for any number',
    )
    parser.add_argument("-c", "--cpus", metavar="N", help='cores of running jobs; "none" for no limit')
    parser.add_argument("-j", "--jobs", metavar="N", help='running jobs; "none" for no limit')
    parser.add_argument("--none", action="store_true", help="no limit of your own at all")
    parser.add_argument("--json", action="store_true", help="print one JSON value, for programs")
    return parser


def run(_verb: str, options: argparse.Namespace) -> int:
    """Sets what is asked for, and shows what holds then; the exit code."""
    asker = any_person()
    if options.group is not None:
        return _of_group(asker, options)
    if options.none and (options.cpus is not None or options.jobs is not None):
        raise UsageError("option --none: it means no limit at all", "take one away with -c none or -j none")
    if options.none:
        own = Limit()
    elif options.cpus is None and options.jobs is None:
        _show(asker, _own(asker), is_json=options.json)
        return 0
    else:
        # What is wrong with the file is mended by giving both.
        is_whole = options.cpus is not None and options.jobs is not None
        before = Limit() if is_whole else _own(asker)
        own = Limit(
            before.cores if options.cpus is None else _number("cores", options.cpus),
            before.jobs if options.jobs is None else _number("jobs", options.jobs),
        )
    spools.prepare(asker.spool)
    control.set_limit(asker.spool, own, asker.node)
    _show(asker, own, is_json=options.json)
    return 0


def _of_group(asker: Person, options: argparse.Namespace) -> int:
    """Shows, or sets, how many jobs of a set or an array may run at once."""
    from roundq.actors import sets
    from roundq.faces import sets_view
    from roundq.faces.cli.sets import group_of, no_such_group

    if options.none or options.cpus is not None or options.jobs is not None:
        raise UsageError(
            "options -c, -j and --none are about all of your jobs, not about a set or an array",
            "for example: rq limit %fit 4",
        )
    group = group_of(options.group)
    # Of a set that began long ago many may have ended; they say nothing of its limit.
    is_whole = options.json or not group.startswith(MARK)
    whole = sets.look(asker.spool, [group], ended=is_whole).get(group)
    if whole is None or not (whole.jobs or group.startswith(MARK)):
        if options.most is None and not group.startswith(MARK):
            # As for programs that have no groups.
            raise NoSuchJob(f"no such array: {shown(group)}", f"to have so many cores: rq limit -c {group}")
        if options.most is None or not group.startswith(MARK):
            raise no_such_group(group)
        whole = sets.Whole(group)
    if options.most is not None:
        most = _number(group_text(group), options.most)
        spools.prepare(asker.spool)
        # Of an array that has a throttle it has to be said that there is no limit.
        control.set_group_limit(asker.spool, group, most, asker.node, keep=bool(whole.throttle))
        whole = replace(whole, most=most)
    if options.json:
        from roundq.faces import as_json

        value = as_json.as_json(time.time_ns(), sets=[as_json.of_set(whole)])
        print(json.dumps(value, indent=2 if sys.stdout.isatty() else None, allow_nan=False))
        return 0
    from roundq.faces import tables

    tables.show((), [tables.Line(sets_view.sentence(whole))])
    return 0


def _number(of: str, text: str) -> int | None:
    if text == NONE:
        return None
    # Of thousands of digits the interpreter makes no number.
    if text.isascii() and text.isdecimal() and len(text) < 20 and int(text) <= LIMIT_MAX:
        return int(text)
    raise UsageError(
        f"limit of {of} {shown(text)}: it is no number that a limit can be",
        f'give a whole number from 0 to {LIMIT_MAX}, or "{NONE}"',
    )


def _own(asker: Person) -> Limit:
    try:
        return control.limit(asker.spool)
    except RecordError as error:
        raise RoundqError(
            f"{asker.spool.directory(control.DIRECTORY)}/{control.LIMITS}: {error}",
            "set them anew: rq limit -c N -j N, or rq limit --none",
        ) from None


def _used(asker: Person) -> Limit:
    """What I have now, on silent nodes, too, as the daemons count it for limits."""
    me = asker.spool
    looked = cluster.look([me], me, asker.node, time.monotonic())
    capacity = {one.card.node: one.card.capacity for one in looked.seen}
    mine = [job for job in looked.occupied if job.spool == me]
    cores = sum(capacity.get(job.node, 0) if job.cores == ALL_CORES else job.cores for job in mine)
    return Limit(cores, len(mine), len(spools.scan(me, PENDING_STATES)))


def _show(asker: Person, own: Limit, *, is_json: bool) -> None:
    used, admin = _used(asker), asker.config.limits.limit_of(asker.spool.user)
    if is_json:
        from roundq.faces import as_json

        of = {"used": used, "own": own, "admin": admin, "holds": own.less(admin)}
        value = as_json.as_json(time.time_ns(), **{name: asdict(limit) for name, limit in of.items()})
        print(json.dumps(value, indent=2 if sys.stdout.isatty() else None, allow_nan=False))
        return
    from roundq.faces import tables

    columns = [tables.Column(""), *(tables.Column(of, is_right=True) for of in ("NOW", "YOURS", "ADMIN"))]
    rows: list[tables.Row] = []
    for of, now, mine, theirs, most in zip(
        _COUNTED, *map(astuple, (used, own, admin, own.less(admin))), strict=True
    ):
        style = "" if most is None or now < most else "yellow"
        texts = [of, f"{now:,}", _text(mine), _text(theirs)]
        rows.append([tables.Cell(text, style) for text in texts])
    tables.show(columns, rows)
    tables.show((), [tables.Line(text) for text in _notes(used, own.less(admin))])


def _text(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


def _notes(used: Limit, holds: Limit) -> list[str]:
    """What follows from limits that are reached."""
    if holds == Limit():
        return ["No limit holds for you. Set one of your own: rq limit -c 16"]
    found = []
    for of, now, most in zip(_COUNTED, astuple(used), astuple(holds), strict=True):
        if most is None or now < most:
            continue
        if of == "waiting":
            found.append("No more can be submitted until some have started.")
        elif not most:
            found.append(f"With a limit of 0 {of} nothing starts.")
        elif now > most:
            found.append(f"You have more {of} than that: what runs goes on, and nothing more starts.")
        else:
            found.append(f"You have all the {of} that you may have: more start when jobs of yours end.")
    return found
