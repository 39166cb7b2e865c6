"""The verbs `drain` and `resume`: which nodes start nothing more, of one's own or, as root, of everybody."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterable

from roundq.actors import queue
from roundq.faces.cli import SOME_FAILED, say
from roundq.faces.cli.parser import Parser, shown, suggestion
from roundq.faces.cli.person import Person, any_person
from roundq.faces.cluster import natural
from roundq.records import cards, control, neighbours
from roundq.records import spool as spools
from roundq.records.neighbours import Seen
from roundq.words.drains import ADMIN, Drain, check_reason
from roundq.words.errors import RoundqError, UsageError
from roundq.words.quantities import visible
from roundq.world import drains

#: Nodes that an error names.
NAMED_MOST = 10


def build_parser(verb: str) -> Parser:
    """The parser of `drain` or of `resume`."""
    if verb == "drain":
        parser = Parser(
            verb,
            "[--admin] [--reason TEXT] [NODE...]",
            "Start nothing more of yours on a node, this one unless others are named. What runs goes on, and"
            " what waits may start elsewhere.",
            'rq drain node3 --reason "new disk"',
        )
        parser.add_argument("--reason", metavar="TEXT", help="why, in one line: shown by rq nodes and rq why")
        whose = "as root: let nobody start anything more on this node, until the next boot"
    else:
        parser = Parser(
            verb,
            "[--admin] [NODE...]",
            "Let your daemon start jobs again on a node that you drained, this one unless others are named.",
            "rq resume node3",
        )
        whose = "as root: let everybody start jobs on this node again"
    parser.add_argument("nodes", metavar="NODE", nargs="*", help="a node, as rq nodes names it")
    parser.add_argument("--admin", action="store_true", help=whose)
    return parser


def run(verb: str, options: argparse.Namespace) -> int:
    """Drains or resumes, and says so of each node; the exit code."""
    reason = None if verb == "resume" or options.reason is None else check_reason(options.reason)
    asker = any_person()
    if options.admin:
        return _run_as_admin(verb, options.nodes, asker, reason)
    names = list(dict.fromkeys(options.nodes)) or [asker.node]
    seen = _seen(asker)
    known = {asker.node, *(one.card.node for one in seen)}
    if verb == "resume":
        known.update(control.drains(asker.spool))
    # All or nothing: a name that is wrong may have been meant for any of them.
    for name in names:
        if name not in known:
            raise _unknown(name, known)
    if verb == "drain":
        return _drain(asker, names, reason)
    return max([_resume(asker, name, seen) for name in names])


def _seen(asker: Person) -> list[Seen]:
    everybody = queue.everybody(asker.spool, asker.config.homes, asker.config.commons)
    return neighbours.seen_now(everybody, asker.spool, asker.node, time.monotonic())


def _unknown(name: str, known: Iterable[str]) -> RoundqError:
    listed = sorted(known, key=natural)
    more = f" and {len(listed) - NAMED_MOST} more" if len(listed) > NAMED_MOST else ""
    near = suggestion(name, listed)
    names = f"{', '.join(listed[:NAMED_MOST])}{more}"
    return RoundqError(
        f"no node {shown(name)} is known here", f"{near} known: {names}" if near else f"known: {names}"
    )


# ---------------------------------------------------------------- one's own


def _drain(asker: Person, names: Iterable[str], reason: str | None) -> int:
    spools.prepare(asker.spool)
    before = control.drains(asker.spool)
    for name in names:
        if name in before and reason in (None, before[name].reason):
            why = f": {before[name].reason}" if before[name].reason else ""
            print(f"{visible(name)} was drained already{why}")
            continue
        drain = Drain(asker.spool.user, reason or "", time.time_ns())
        control.drain(asker.spool, name, drain, asker.node)
        print(f"{visible(name)} is drained: nothing more of yours starts there, what runs goes on")
    return 0


def _resume(asker: Person, name: str, seen: Iterable[Seen]) -> int:
    was_drained = name in control.drains(asker.spool) and control.resume(asker.spool, name)
    by_admin = _by_admin(asker, name, seen)
    if by_admin is not None:
        say(
            f"{name} stays {by_admin}" + (", and your own drain of it is taken away" if was_drained else ""),
            f"as root on {name}: rq resume --admin",
        )
        return SOME_FAILED
    how = "is resumed: your daemon starts jobs there again" if was_drained else "was not drained by you"
    print(f"{visible(name)} {how}")
    return 0


def _by_admin(asker: Person, name: str, seen: Iterable[Seen]) -> str | None:
    """How the administrator drained a node, if so: of this one its files tell, of others my card there."""
    if name == asker.node:
        found = drains.AdminDrain(drains.PLACES).look()
        return None if found is None else found.says
    for one in seen:
        card = one.card
        if one.spool == asker.spool and card.node == name and one.is_alive:
            is_so = card.state == cards.DRAINING and card.reason.startswith(f"drained by {ADMIN}")
            return card.reason if is_so else None
    return None


# ---------------------------------------------------------------- the administrator's


def _run_as_admin(verb: str, names: list[str], asker: Person, reason: str | None) -> int:
    here = asker.node
    for name in names:
        if name != here:
            raise UsageError(
                f"option --admin: it is about the node where it is typed, which is {here}",
                f"on {name}: rq {verb} --admin",
            )
    if os.geteuid() != 0:
        raise RoundqError(
            f"only root may {verb} {here} for everybody",
            f"as root on {here}: rq {verb} --admin; for yourself alone: rq {verb}",
        )
    if verb == "drain":
        drains.drain(reason or "", here, drains.PASSING)
        print(f"{visible(here)} is drained for everybody: nothing more starts there, what runs goes on")
        return 0
    was_drained = drains.resume(drains.PASSING)
    left = drains.AdminDrain(drains.PLACES).look()
    if left is not None:
        # The one that outlasts a boot is a file of the administrator's own.
        raise RoundqError(f"{here} stays {left.says}", f"that one is kept over boots: rm {drains.KEPT}")
    how = "is resumed for everybody" if was_drained else "was not drained by admin"
    print(f"{visible(here)} {how}")
    return 0
