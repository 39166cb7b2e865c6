"""The verbs that look: `rq`, `rq q`, `rq nodes`, `rq users`. They change nothing.

Reads what is there, once, and hands it to the views, which are pure; the clock is
read here.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from roundq.actors import holding, paused, preemption, submission
from roundq.actors.listing import (
    ENDED_MOST,
    PENDING_MOST,
    RECENT_S,
    ROWS_MOST,
    Bundle,
    Listing,
    Row,
    ended_ns,
    listing,
)
from roundq.actors.occupancy import Supervisors
from roundq.actors.reasons import nearest
from roundq.faces import cluster
from roundq.faces.cli.parser import Parser, shown
from roundq.faces.cli.person import any_person
from roundq.records import commons, control, neighbours
from roundq.records import spool as spools
from roundq.records.neighbours import Seen
from roundq.records.spool import Spool
from roundq.words.errors import RoundqError
from roundq.words.job import NS, Record
from roundq.words.states import ENDED_STATES, HELD, OWNED_STATES, RUNNING, WAITING
from roundq.world import procs
from roundq.world.accounts import groups_of

if TYPE_CHECKING:
    import argparse

    from roundq.faces.queue_view import Facts
    from roundq.faces.standings import Standing
    from roundq.faces.tables import Column
    from roundq.faces.tables import Row as TableRow
    from roundq.world.config import Config

#: Troubles of my daemons that are told; the logs have them all.
TROUBLES_MOST = 5


class Most(NamedTuple):
    """Records of one user and state that are read: of what waits, and of what ended, of me and of others."""

    pending: int
    pending_theirs: int
    ended: int
    ended_theirs: int


#: What a list on a screen reads, one in a pipe, and a program: nothing that is not shown, since a list is
#: wanted at once.
SCREEN = Most(PENDING_MOST, PENDING_MOST, ENDED_MOST, ENDED_MOST // 10)
_PIPED = Most(510, 110, 3 * ENDED_MOST, ENDED_MOST // 2)
_PROGRAM = Most(ROWS_MOST, ROWS_MOST, 10 * ENDED_MOST, 10 * ENDED_MOST)


class Unseen(NamedTuple):
    """What is not seen: homes that are closed or do not answer, and what is wrong with the commons."""

    hidden: list[str]
    late: list[str]
    trouble: str | None

    @property
    def homes(self) -> list[str]:
        """The homes whose queues, if any, cannot be seen."""
        return [*self.hidden, *self.late]


class Here(NamedTuple):
    """Who looks, from which node, at whose spools, below which parents of homes, with which commons."""

    me: Spool
    node: str
    everybody: list[Spool]
    homes: Sequence[str]
    commons: str
    config: Config


# ---------------------------------------------------------------- words


def build_parser(verb: str) -> Parser:
    """The parser of `q`, `nodes` or `users`."""
    parser = {"q": build_queue_parser, "nodes": build_nodes_parser, "users": build_users_parser}[verb]()
    parser.add_argument("--json", action="store_true", help="print one JSON value, for programs")
    return parser


def build_queue_parser() -> Parser:
    """The words of `rq` and `rq q`."""
    parser = Parser(
        "q",
        "[-u USER | --mine] [-v] [--tasks] [--json]",
        "List what runs, what waits and what ended recently, of everybody, mine first.",
        "rq q --mine",
    )
    whose = parser.add_mutually_exclusive_group()
    whose.add_argument("-u", "--user", metavar="USER", help="only the jobs of this user")
    whose.add_argument("--mine", action="store_true", help="only my jobs")
    parser.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="also what jobs need beside cores, why they wait, and tasks",
    )
    parser.add_argument("--tasks", action="store_true", help="a line for each task of an array")
    return parser


def build_nodes_parser() -> Parser:
    """The words of `rq nodes`."""
    return Parser(
        "nodes", "[--json]", "List the nodes: cores in use and offered, load, memory, state.", "rq nodes"
    )


def build_users_parser() -> Parser:
    """The words of `rq users`."""
    return Parser(
        "users", "[--json]", "List who uses how many cores, and how many jobs of theirs wait.", "rq users"
    )


# ---------------------------------------------------------------- verbs


def run(verb: str, options: argparse.Namespace) -> int:
    """Does what `q`, `nodes` or `users` says; its exit code."""
    shows = {"q": show_queue, "nodes": show_nodes, "users": show_users}[verb]
    shows(options, os.environ)
    return 0


def show_queue(options: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """`rq` and `rq q`: prints the queue."""
    from roundq.faces import bundles as bundle_lines
    from roundq.faces import queue_notes, queue_view, tables

    here = here_of(environ)
    now_ns = time.time_ns()
    of = spools_of(here, options.user, options.mine)
    is_narrow = options.mine or options.user is not None
    is_whole = options.json or not sys.stdout.isatty()
    bundles = not (options.json or options.tasks or options.verbose)
    most = _PROGRAM if options.json else _PIPED if is_whole else SCREEN
    found = found_of(here, of, now_ns, most, is_of_one=is_narrow, bundles=bundles)
    facts = facts_of(here, found, now_ns, is_narrow=is_narrow)
    if options.json:
        from roundq.faces import as_json

        print_json(now_ns, as_json.jobs(found, facts))
        return
    columns = queue_view.columns_of(facts, is_wordy=options.verbose, is_whole=is_whole)
    ascii_only = not tables.can_say(bundle_lines.CHARACTERS)
    rows = queue_view.rows_of(found, facts, is_short=not is_whole, columns=columns, ascii_only=ascii_only)
    notes = queue_notes.notes(found, facts)
    if not rows:
        notes = [tables.Line(queue_notes.EMPTY), *notes]
    if rows or is_whole:
        # A program that reads columns stops at the empty line.
        tables.show(columns, [*rows, *([tables.Line("")] if notes else [])])
    tables.show((), notes)


def show_nodes(options: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """`rq nodes`: prints the nodes."""
    from roundq.faces import nodes_view, tables

    looked, unseen = cluster_of(here_of(environ))
    found = cluster.nodes_of(looked)
    if options.json:
        from roundq.faces import as_json

        print_json(time.time_ns(), as_json.nodes(found, unseen.homes))
        return
    if not found:
        tables.show((), [tables.Line("No daemon has ever run on any node. Start one here: rq daemon")])
    else:
        is_ascii = not tables.can_say(nodes_view.FULL + nodes_view.EMPTY)
        _show_table(nodes_view.NODE_COLUMNS, nodes_view.node_rows(found, ascii_only=is_ascii))
    _show_unseen(unseen)


def show_users(options: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """`rq users`: prints who uses what."""
    from roundq.faces import nodes_view, tables

    here = here_of(environ)
    looked, unseen = cluster_of(here)
    of, on = cluster.users_of(looked), cluster.nodes_of(looked)
    standings = standings_of(here.config, looked, on)
    if options.json:
        from roundq.faces import as_json

        print_json(time.time_ns(), as_json.users(of, on, standings, unseen.homes))
        return
    is_ascii = not tables.can_say(nodes_view.FULL + nodes_view.EMPTY)
    _show_table(nodes_view.USER_COLUMNS, nodes_view.user_rows(of, on, standings, ascii_only=is_ascii))
    _show_unseen(unseen)


def _show_table(columns: Sequence[Column], rows: Sequence[TableRow]) -> None:
    from roundq.faces import nodes_view, tables

    if sys.stdout.isatty():
        columns, rows = nodes_view.without_empty(columns, rows)
    tables.show(columns, rows)


def standings_of(
    config: Config, looked: cluster.Look, on: Iterable[cluster.NodeFacts]
) -> dict[str, Standing]:
    """How the users stand with each other, by this configuration."""
    from roundq.faces.standings import standings
    from roundq.words.limits import Limit

    shares = config.shares
    users = {looked.me.user, *(one.card.user for one in looked.seen)}
    weights = {
        user: shares.weight_of(user, groups_of(user) if shares.groups else ())
        for user in users
        if shares.users or shares.groups
    }
    own = Limit()
    # What is wrong with it the daemon's card tells, and `rq limit`.
    with contextlib.suppress(OSError, RoundqError):
        own = control.limit(looked.me)
    cores = sum(node.cores for node in on if node.is_live)
    return standings(looked, weights, config.half_life_s, cores, config.limits, own)


def _show_unseen(unseen: Unseen) -> None:
    from roundq.faces import queue_notes, tables

    lines = []
    if unseen.hidden:
        lines.append(tables.Line(queue_notes.hidden_text(unseen.hidden), "dim"))
        lines.append(tables.Line(queue_notes.COUNTED_HERE, "dim"))
    if unseen.late:
        lines.append(tables.Line(queue_notes.late_text(unseen.late), "yellow"))
    if unseen.trouble is not None:
        lines.append(tables.Line(f"{unseen.trouble}.", "yellow"))
    if lines:
        tables.show((), [tables.Line(""), *lines])


def print_json(now_ns: int, lists: dict[str, Any], out: TextIO | None = None) -> None:
    from roundq.faces.as_json import as_json

    out = sys.stdout if out is None else out
    value = as_json(now_ns, **lists)
    out.write(json.dumps(value, indent=2 if out.isatty() else None, allow_nan=False) + "\n")


# ---------------------------------------------------------------- what is there


def here_of(environ: Mapping[str, str]) -> Here:
    """Who asks, and who else there is."""
    asker = any_person(environ)
    homes, commons = asker.config.homes, asker.config.commons
    everybody = submission.everybody(asker.spool, homes, commons)
    return Here(asker.spool, asker.node, everybody, homes, commons, asker.config)


def cluster_of(here: Here) -> tuple[cluster.Look, Unseen]:
    """What cards tell, and what could not be seen."""
    now_s = time.monotonic()
    supervisors = Supervisors().look(here.me.uid, now_s)
    # As daemons do: standings are by name.
    others = neighbours.told_apart((one for one in here.everybody if one != here.me), here.me.user)
    looked = cluster.look([here.me, *others], here.me, here.node, now_s, supervisors)
    trouble = _trouble_of_commons(here)
    return looked, Unseen(_hidden(here), _late(here), trouble)


def _hidden(here: Here) -> list[str]:
    """The closed homes whose queues cannot be seen: with a commons none, since cards are there."""
    if here.commons and _trouble_of_commons(here) is None:
        return []
    return neighbours.hidden(here.homes, submission.helpers())


def _trouble_of_commons(here: Here) -> str | None:
    """What is wrong with the commons, if there is one."""
    if not here.commons:
        return None
    return commons.everybody(here.commons, (), submission.helpers())[1]


def _late(here: Here) -> list[str]:
    late = submission.helpers().late()
    return [os.path.basename(home) for home in late if not commons.is_at(home, here.commons)]


def spools_of(here: Here, user: str | None, is_mine: bool) -> list[Spool]:
    """The spools of everybody, of one user, or mine. Raises RoundqError for a user who cannot be seen."""
    if is_mine:
        return [here.me]
    if user is None:
        return here.everybody
    of = [spool for spool in here.everybody if spool.user == user]
    if of:
        return of
    if user in _hidden(here):
        raise RoundqError(f"the queue of {user} cannot be seen: the home is closed to you")
    if user in _late(here):
        raise RoundqError(
            f"the queue of {user} cannot be seen: the home does not answer", "its file server may be away"
        )
    known = ", ".join(sorted({spool.user for spool in here.everybody})[:10])
    raise RoundqError(f"no user {shown(user)} has a queue here", f"those who have one: {known}")


def found_of(
    here: Here, of: Iterable[Spool], now_ns: int, most: Most, *, is_of_one: bool, bundles: bool
) -> Listing:
    """What is listed: my ended jobs, and those of others that ended just now, or of the one asked for."""
    rows: list[Row] = []
    bundled: list[Bundle] = []
    both = Listing((), {}, {})
    for spool in of:
        is_mine = spool == here.me
        is_close = is_of_one or is_mine
        one = listing(
            [spool],
            here.me,
            now_ns=now_ns,
            pending_most=most.pending if is_mine else most.pending_theirs,
            ended_most=most.ended if is_close else most.ended_theirs,
            ended_of_all=True,
            bundles=bundles,
        )
        rows += _still(
            here, spool, [row for row in one.rows if is_close or _is_current(row, now_ns)], one.counts
        )
        bundled += [bundle for bundle in one.bundles if is_close or _is_current(bundle, now_ns)]
        ending = neighbours.legacy_canceling(spool, here.node)
        rows += [Row(spool, entry, record, None, spool == here.me) for entry, record in ending]
        if ending:
            of_user = one.counts.setdefault(spool.user, {})
            of_user[RUNNING] = of_user.get(RUNNING, 0) + len(ending)
        for user, counts in one.counts.items():
            kept = both.counts.setdefault(user, {})
            for state, count in counts.items():
                kept[state] = kept.get(state, 0) + count
        both.problems.update(one.problems)
        both.jobs.update(one.jobs)
    return replace(both, rows=tuple(rows), bundles=tuple(bundled))


def _still(here: Here, spool: Spool, rows: list[Row], counts: dict[str, dict[str, int]]) -> list[Row]:
    """The rows, and counts, without what a dead daemon's card in the commons tells of this node: of that the
    process table knows more."""
    if not spool.is_commons:
        return rows
    gone = [
        row for row in rows if row.node == here.node and row.record is not None and is_dead(row, row.record)
    ]
    for row in gone:
        counts[spool.user][row.state] -= 1
    return [row for row in rows if row not in gone]


def _is_current(item: Row | Bundle, now_ns: int) -> bool:
    if item.state not in ENDED_STATES:
        return True
    since_ns = now_ns - RECENT_S * NS
    if isinstance(item, Bundle):
        return item.ended_ns >= since_ns
    return item.record is not None and ended_ns(item.record) >= since_ns


def facts_of(
    here: Here, found: Listing, now_ns: int, *, is_narrow: bool, known: list[Seen] | None = None
) -> Facts:
    """What is known beside the records of what is listed; with `is_narrow` nothing of homes that are closed.

    `known` are the cards of everybody, if they were read before.
    """
    from roundq.faces.queue_view import Facts

    rows = [*found.rows, *(bundle.row for bundle in found.bundles)]
    owned = [row for row in found.rows if row.state in OWNED_STATES]
    waiting = [row for row in rows if row.state == WAITING]
    waits = any(row.is_mine for row in waiting)
    if not owned and not waiting:
        seen: list[Seen] = []
    else:
        seen = cards_of(here) if known is None else known
    mine = [one for one in seen if one.is_alive and one.spool == here.me]
    asked = _asked(here.me)
    return Facts(
        now_ns=now_ns,
        silent=neighbours.silence(seen, here.node),
        canceling=frozenset((here.me.path, job) for job, verbs in asked.items() if "cancel" in verbs).union(
            (spool.path, entry.id)
            for spool in {row.spool for row in owned if row.entry.node is None}
            for entry, _ in neighbours.legacy_canceling(spool, here.node)
        ),
        giving_way=frozenset(
            (here.me.path, row.id)
            for row in owned
            if row.spool == here.me
            and row.record is not None
            and "preempt" in asked.get(row.id, ())
            and preemption.asked(here.me, row.id, row.record) is not None
        ),
        paused=_paused(here.me, owned, asked),
        gone=_gone(owned, here.node),
        # One that is just starting has no card yet.
        starts_nothing=waits and not mine and not submission.daemon_runs(here.me, here.node),
        hidden=[] if is_narrow else _hidden(here),
        late=[] if is_narrow else _late(here),
        troubles=[(one.card.node, trouble) for one in mine for trouble in one.card.trouble][:TROUBLES_MOST],
        words=nearest(waiting, seen),
        held=holding.texts([row for row in rows if row.state == HELD and row.is_mine], found.jobs, now_ns),
    )


def cards_of(here: Here) -> list[Seen]:
    """The cards of everybody, as they are now."""
    return neighbours.seen_now(here.everybody, here.me, here.node, time.monotonic())


def _asked(me: Spool) -> dict[str, set[str]]:
    """What my jobs are asked for."""
    try:
        return spools.requests(me)
    except OSError:
        return {}


def _paused(me: Spool, owned: Iterable[Row], asked: Mapping[str, set[str]]) -> frozenset[tuple[str, str]]:
    """Which jobs of mine stand still."""
    told = paused.stands(me, asked)
    return frozenset((me.path, row.id) for row in owned if row.spool == me and paused.is_paused(row, told))


def _gone(owned: Iterable[Row], here: str) -> frozenset[tuple[str, str]]:
    """Which jobs that are recorded as running on this very node have a supervisor that lives no more."""
    dead: dict[Spool, list[Row]] = {}
    for row in owned:
        if row.state == RUNNING and row.node == here and row.record is not None and is_dead(row, row.record):
            dead.setdefault(row.spool, []).append(row)
    gone: set[tuple[str, str]] = set()
    for spool, rows in dead.items():
        # They may have ended properly since they were listed. One look for all: a stranger may have many.
        with contextlib.suppress(OSError):
            still = {entry.file for entry in spools.scan(spool, (RUNNING,), most=cluster.NAMES_MOST)}
            gone.update((spool.path, row.id) for row in rows if row.entry.file in still)
    return frozenset(gone)


def is_dead(row: Row, record: Record) -> bool:
    """Whether the process that has a job on this node lives no more."""
    if record.process is not None:
        return procs.liveness(record.process) is procs.Liveness.DEAD
    # 0.2.9 keeps the pid of the command only.
    return record.pid > 0 and not procs.exists(record.pid, row.spool.uid)
