"""The neighbours: whose spools there are, and what their cards tell over time.

Policy reads cards, never strangers' job files; only the running and waiting jobs of
0.2.9, which has no such card, are counted from their files. What is not as it should
be is as if it were not there.
"""

from __future__ import annotations

import collections
import contextlib
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from roundq.records import cards, commons
from roundq.records import spool as spools
from roundq.records.cards import Card, Occupant
from roundq.records.spool import Spool
from roundq.words import job as jobs
from roundq.words import record_format as formats
from roundq.words.errors import RecordError
from roundq.words.policy import Want
from roundq.words.states import RUNNING, WAITING
from roundq.world import files, procs, reading
from roundq.world.reading import DIRECT, Way

if TYPE_CHECKING:
    from roundq.world.helpers import Helpers

#: Users that are looked at.
USERS_MAX = 10_000
#: A waiting 0.2.9 job beyond these is not looked at: the earliest stand first.
LEGACY_HEADS = 20
#: Names of 0.2.9 jobs that are looked at, and bytes of one that are read; all together, as many as of cards.
LEGACY_NAMES_MAX, LEGACY_BYTES_MAX = 10_000, 256 << 10
#: Files of these that are read in each round, so many at once: an empty one takes as long as any.
LEGACY_READ_MAX, _AHEAD = 500, 50
#: Where a running job of 0.2.9 lies from the wish to cancel it until its process is dead.
LEGACY_CANCELING = "cancel"
#: A node whose card has not changed for this long is not counted on (0.2.9: ten minutes).
SILENT_S = 600.0


#: There is no such home, or it is not for us to look into; any other error proves nothing.
_ABSENT = (FileNotFoundError, NotADirectoryError, PermissionError)


def homes(
    parents: Iterable[str],
    known: Iterable[Spool] = (),
    *,
    me: Spool | None = None,
    helpers: Helpers | None = None,
) -> list[Spool]:
    """The spools of everybody but `me`: the directories below the home parents, which may be glob patterns.

    A home counts if it has a `.roundqueue` that belongs to the home's owner.
    Homes that cannot be looked into are left out; see `hidden`. Those that were `known` before stay while
    an error of the server hides them: what runs there occupies its node all the same. With `helpers`
    nothing there is read but by these.
    """
    found: dict[tuple[int, int] | str, Spool] = {}
    before = {os.path.dirname(spool.path): spool for spool in known if not spool.is_commons}
    mine = _which(me)
    paths = _candidates(parents, before, helpers)
    for path, home, spool in zip(paths, *_statuses(paths, helpers), strict=True):
        if me is not None and f"{path}/{spools.DIRECTORY}" == me.path:
            # By its name, too: an error of the server may hide which directory mine is.
            continue
        if isinstance(home, _ABSENT) or isinstance(spool, _ABSENT):
            continue
        if isinstance(home, OSError) or isinstance(spool, OSError):
            if path in before:
                found[path] = before[path]
            continue
        if spool.uid == home.uid and stat.S_ISDIR(spool.mode) and (spool.device, spool.inode) != mine:
            # One home may be reached by two paths; it is one user.
            at = spools.at(path, os.path.basename(path), home.uid, _way(path, helpers))
            found.setdefault((spool.device, spool.inode), at)
    return list(found.values())


def _way(path: str, helpers: Helpers | None) -> Way:
    return DIRECT if helpers is None else helpers.way(path)


def _which(me: Spool | None) -> tuple[int, int] | None:
    try:
        return None if me is None else files.status(me.path)[2:]
    except OSError:
        return None


def _statuses(paths: list[str], helpers: Helpers | None) -> tuple[list[Any], list[Any]]:
    """Of each home and of the spool in it the status, or the error."""
    calls = []
    for path in paths:
        way = _way(path, helpers)
        calls += [way.call("status", path), way.call("status", f"{path}/{spools.DIRECTORY}")]
    answers = reading.each(calls)
    return answers[::2], answers[1::2]


def everybody(
    parents: Iterable[str],
    directory: str,
    known: Sequence[Spool] = (),
    *,
    me: Spool,
    helpers: Helpers | None = None,
) -> tuple[list[Spool], str | None]:
    """The spools of everybody but me: in homes, see `homes`, and else in the commons of this name, if any.

    And what is wrong with the commons, if anything.
    """
    found = homes(parents, known, me=me, helpers=helpers)
    if not directory:
        return found, None
    there, trouble = commons.everybody(directory, known, helpers)
    return found + commons.beside(found, there, me.uid), trouble


def told_apart(others: Iterable[Spool], me: str) -> list[Spool]:
    """The spools of others so that no two users have one name, nor mine: then it is the path of the home.

    A name is the last part of that path, which homes of several parents may have in common; their jobs
    must not pass for each other's, nor for mine. In the commons it is that of the account.
    """
    found = list(others)
    count = collections.Counter([me, *(spool.user for spool in found)])
    return [
        spool
        if count[spool.user] == 1
        else replace(spool, user=spool.path if spool.is_commons else os.path.dirname(spool.path))
        for spool in found
    ]


def _candidates(
    parents: Iterable[str], known: Iterable[str] = (), helpers: Helpers | None = None
) -> list[str]:
    patterns = list(parents)
    matched = reading.each([_way(pattern, helpers).call("matching", pattern) for pattern in patterns])
    found = [
        one
        for pattern, paths in zip(patterns, matched, strict=True)
        for one in ([pattern] if isinstance(paths, OSError) else paths)
    ]
    listed = reading.each([_way(parent, helpers).call("listing", parent, most=USERS_MAX) for parent in found])
    paths: list[str] = []
    for parent, names in zip(found, listed, strict=True):
        if isinstance(names, _ABSENT):
            continue
        if isinstance(names, OSError):
            paths.extend(path for path in known if os.path.dirname(path) == parent.rstrip("/"))
        else:
            paths.extend(f"{parent.rstrip('/')}/{name}" for name, _ in names)
    return sorted(paths)[:USERS_MAX]


def hidden(parents: Iterable[str], helpers: Helpers | None = None) -> list[str]:
    """The homes whose queues, if they have any, this user may not see: their jobs cannot be counted."""
    paths = _candidates(parents, (), helpers)
    calls = []
    for path in paths:
        way = _way(path, helpers)
        calls += [way.call("status", path), way.call("is_closed", f"{path}/{spools.DIRECTORY}")]
    answers = reading.each(calls)
    return [
        os.path.basename(path)
        for path, home, is_closed in zip(paths, answers[::2], answers[1::2], strict=True)
        # lost+found and its like are nobody's home.
        if not isinstance(home, OSError) and home.uid and is_closed is True
    ]


# ---------------------------------------------------------------- 0.2.9


def _legacy_records(spool: Spool, state: str, most: int) -> Iterable[tuple[spools.Entry, jobs.Record]]:
    if spool.is_commons:
        return

    def submission(entry: spools.Entry) -> tuple[int, ...]:
        return tuple(int(part) for part in entry.id.split(".") if part.isdecimal())

    try:
        entries = spools.scan(spool, (state,), most=LEGACY_NAMES_MAX)
    except OSError:
        # Whatever a stranger has put in place of the directory, nobody else's round ends for it.
        return
    budget = cards.ALL_BYTES_MAX
    chosen = sorted((entry for entry in entries if entry.node is None), key=submission)
    chosen = chosen[: min(most, LEGACY_READ_MAX)]
    for first in range(0, len(chosen), _AHEAD):
        some = chosen[first : first + _AHEAD]
        paths = [spools.path_of(spool, entry) for entry in some]
        read = [spool.way.call("read", path, most=LEGACY_BYTES_MAX, owner=spool.uid) for path in paths]
        for entry, data in zip(some, reading.each(read), strict=True):
            if isinstance(data, Exception):
                continue
            if (budget := budget - len(data)) < 0:
                return
            with contextlib.suppress(RecordError):
                yield entry, formats.parse(data)


def _legacy_occupant(entry: spools.Entry, record: jobs.Record) -> Occupant:
    job = record.job
    alone = job.cores == 0
    started_ns = record.started_ns
    return Occupant(entry.id, RUNNING, job.cores, job.memory_required, alone, 0, True, started_ns, job.name)


def legacy_occupants(spool: Spool) -> list[tuple[str, Occupant]]:
    """The running jobs of a user's 0.2.9 daemons, each with its node. `all` cores are 0 here."""
    return [
        (record.node, _legacy_occupant(entry, record))
        for entry, record in _legacy_records(spool, RUNNING, LEGACY_NAMES_MAX)
    ]


def legacy_here(spool: Spool, node: str) -> list[Occupant]:
    """Those of them that have a living process on this very node, also while they are being canceled.

    0.2.9 finds only when somebody lists its queue that a process has gone, and forgets some in cancel/.
    """
    return [
        _legacy_occupant(entry, record)
        for state in (RUNNING, LEGACY_CANCELING)
        for entry, record in _legacy_records(spool, state, LEGACY_NAMES_MAX)
        if record.node == node and procs.exists(record.pid, spool.uid)
    ]


def legacy_canceling(spool: Spool, node: str) -> list[tuple[spools.Entry, jobs.Record]]:
    """Those that are being canceled, as entries of what runs, and their records."""
    return [
        (entry._replace(state=RUNNING), record)
        for entry, record in _legacy_records(spool, LEGACY_CANCELING, LEGACY_NAMES_MAX)
        if record.node == node and procs.exists(record.pid, spool.uid)
    ]


def legacy_head(spool: Spool, cores: int, memory: int) -> Want | None:
    """The first waiting job of a 0.2.9 user that a node of that size could run."""
    for entry, record in _legacy_records(spool, WAITING, LEGACY_HEADS):
        job = record.job
        if job.cores <= cores and job.memory_required <= memory:
            return Want(entry.id, job.cores, job.memory_required, job.submitted_ns)
    return None


# ---------------------------------------------------------------- the neighbourhood


@dataclass(frozen=True, slots=True)
class Seen:
    """A card and what is known of its daemon: alive or not, and for how long nothing was heard of it."""

    spool: Spool
    card: Card
    is_alive: bool
    silent_s: float


@dataclass(slots=True)
class _Watched:
    """What is remembered of one card file."""

    name: str
    signature: tuple[int, int, int]
    card: Card | None
    since_s: float


def _watched(
    spool: Spool,
    name: str,
    signature: tuple[int, int, int],
    content: bytes | RecordError,
    known: _Watched | None,
    now_s: float,
) -> _Watched:
    """What is to be remembered of a card file that was read anew; its daemon was heard of if it beats."""
    try:
        if isinstance(content, RecordError):
            raise content
        card = cards.of_node(content, spool, name)
    except RecordError:
        return _Watched(name, signature, None, now_s)
    same = (
        known is not None
        and known.card is not None
        and (known.card.beat, known.card.process) == (card.beat, card.process)
        and not card.is_legacy
    )
    return _Watched(name, signature, card, known.since_s if known and same else now_s)


class Neighbourhood:
    """All cards of all users, as one daemon watches them over time.

    A card on another node is alive while its beat changes within `SILENT_S` of our
    own monotonic clock; clocks of machines are never compared. One on our node is
    alive while its process is. A card seen for the first time is given the benefit
    of the doubt unless its file is older, by the server's clock, than my own newest
    card there by more than `SILENT_S`. What cannot be read for a moment is as it was.
    """

    def __init__(self, node: str) -> None:
        self.node = node
        self._watched: dict[tuple[str, str], _Watched] = {}

    def look(self, spools_of_all: Iterable[Spool], now_s: float, stamped_ns: int = 0) -> list[Seen]:
        """Every card that can be read now, each read only if its file changed.

        `stamped_ns` is a time that the server's clock has reached, if the caller knows one.
        """
        everybody = list(spools_of_all)
        found = self._found(everybody)
        # Opened, not only asked: an NFS client answers stat() from its cache.
        signatures = reading.each(
            [spool.way.call("signature", f"{spool.path}/{name}") for spool, name in found]
        )
        left = {spool.path: cards.ALL_BYTES_MAX for spool in everybody}
        looked = []
        for (spool, name), signature in zip(found, signatures, strict=True):
            # One that is too large is not read.
            size = 0 if isinstance(signature, OSError) else signature[2]
            left[spool.path] -= size if size <= cards.CARD_BYTES_MAX else 0
            if left[spool.path] >= 0:
                looked.append((spool, name, signature))
        watched = self._refreshed(looked, now_s)
        self._watched = {(spool.path, one.name): one for spool, one in watched}
        times = [(spool, one.signature[1]) for spool, one in watched if one.card is not None]
        mine = os.geteuid()
        in_homes = [time for spool, time in times if not spool.is_commons]
        own = (time for spool, time in times if spool.uid == mine and not spool.is_commons)
        # A stranger may give his card any time; mine are honest, where there are any.
        newest = max(stamped_ns, max(own, default=max(in_homes, default=0)))
        # Another file server has another clock.
        of_commons = commons.newest_own(everybody, mine)
        return [
            self._judge(
                spool,
                one,
                of_commons.get(os.path.dirname(spool.path), 0) if spool.is_commons else newest,
                now_s,
            )
            for spool, one in watched
            if one.card is not None
        ]

    def _found(self, everybody: list[Spool]) -> list[tuple[Spool, str]]:
        """The names of the cards of each user; those known so far while they cannot be listed."""
        listed = reading.each(
            [spool.way.call("listing", spool.path, most=cards.NAMES_MAX) for spool in everybody]
        )
        found: list[tuple[Spool, str]] = []
        for spool, names in zip(everybody, listed, strict=True):
            if isinstance(names, PermissionError):
                continue
            if isinstance(names, OSError):
                found += [(spool, name) for path, name in self._watched if path == spool.path]
            else:
                found += [(spool, name) for name, _ in cards.among(names)]
        return found

    def _refreshed(
        self, looked: list[tuple[Spool, str, tuple[int, int, int] | OSError]], now_s: float
    ) -> list[tuple[Spool, _Watched]]:
        """What is known of these cards now: those that changed are read."""
        changed = []
        for spool, name, signature in looked:
            known = self._watched.get((spool.path, name))
            if not isinstance(signature, OSError) and (known is None or known.signature != signature):
                changed.append((spool, name))
        read = reading.each(
            [
                spool.way.call("read", f"{spool.path}/{name}", most=cards.CARD_BYTES_MAX, owner=spool.uid)
                for spool, name in changed
            ]
        )
        contents = {(spool.path, name): one for (spool, name), one in zip(changed, read, strict=True)}
        found = []
        for spool, name, signature in looked:
            known = self._watched.get((spool.path, name))
            content = contents.get((spool.path, name))
            error = signature if isinstance(signature, OSError) else content
            if isinstance(error, (FileNotFoundError, PermissionError)):
                continue
            if not isinstance(error, OSError) and not isinstance(signature, OSError) and content is not None:
                known = _watched(spool, name, signature, content, known, now_s)
            if known is not None:
                found.append((spool, known))
        return found

    def _judge(self, spool: Spool, watched: _Watched, newest: int, now_s: float) -> Seen:
        card = watched.card
        assert card is not None
        silent_s = max(now_s - watched.since_s, (newest - watched.signature[1]) / jobs.NS)
        if card.node == self.node:
            return Seen(spool, card, daemon_lives(card, spool.uid), silent_s)
        return Seen(spool, card, silent_s < SILENT_S and card.state != cards.LEAVING, silent_s)


def seen_now(of: Iterable[Spool], me: Spool, node: str, now_s: float) -> list[Seen]:
    """Every card of these users, and whether its daemon lives, judged by one look from `node`.

    Who looks once cannot wait for beats, and must not write to ask the server for its time. So the age of
    a card is measured, on the server's clock alone, from the newest time that the server is known to have
    given: that of my own newest card, or of the last file that I wrote in tmp/, as each submission, request
    and card does. It may be longer in truth, never shorter.
    """
    return Neighbourhood(node).look(of, now_s, stamped_ns(me))


def stamped_ns(me: Spool) -> int:
    """A time that the server's clock has reached: when I last wrote into tmp/; 0 if that cannot be told."""
    try:
        return files.changed(me.directory("tmp"))
    except OSError:
        return 0


def silence(seen: Iterable[Seen], here: str) -> dict[str, float]:
    """The nodes that nothing is heard of, with for how many seconds; `here` is where we are.

    A node is heard of if anybody's daemon there is.
    """
    silent: dict[str, float] = {}
    heard = {here}
    for one in seen:
        if one.is_alive or one.silent_s < SILENT_S:
            heard.add(one.card.node)
        silent[one.card.node] = min(one.silent_s, silent.get(one.card.node, one.silent_s))
    return {node: seconds for node, seconds in silent.items() if node not in heard}


def daemon_lives(card: Card, uid: int) -> bool:
    """Whether the daemon of a card of this very node runs, as its user's. Unknown counts as alive."""
    if card.process is not None:
        return procs.liveness(card.process, uid) is not procs.Liveness.DEAD
    return procs.exists(card.pid, uid)
