"""The neighbours: whose spools there are, and what their cards tell over time.

Policy reads cards, never strangers' job files; only the running and waiting jobs of
0.2.9, which has no such card, are counted from their files. What is not as it should
be is as if it were not there.
"""

from __future__ import annotations

import collections
import glob
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, replace

from roundq.records import cards
from roundq.records import spool as spools
from roundq.records.cards import Card, Occupant
from roundq.records.spool import Spool
from roundq.words import job as jobs
from roundq.words.errors import RecordError
from roundq.words.policy import Want
from roundq.words.states import RUNNING, WAITING
from roundq.world import files, procs

#: Users that are looked at.
USERS_MAX = 10_000
#: A waiting 0.2.9 job beyond these is not looked at: the earliest stand first.
LEGACY_HEADS = 20
#: Names of 0.2.9 jobs that are looked at, and bytes of one that are read; all together, as many as of cards.
LEGACY_NAMES_MAX, LEGACY_BYTES_MAX = 10_000, 256 << 10
#: Where a running job of 0.2.9 lies from the wish to cancel it until its process is dead.
LEGACY_CANCELING = "cancel"
#: A node whose card has not changed for this long is not counted on (0.2.9: ten minutes).
SILENT_S = 600.0


#: There is no such home, or it is not for us to look into; any other error proves nothing.
_ABSENT = (FileNotFoundError, NotADirectoryError, PermissionError)


def homes(parents: Iterable[str], known: Iterable[Spool] = ()) -> list[Spool]:
    """The spools of everybody: the directories below the home parents, which may be glob patterns.

    A home counts if it has a `.roundqueue` that belongs to the home's owner.
    Homes that cannot be looked into are left out; see `hidden`. Those that were `known` before stay while
    an error of the server hides them: what runs there occupies its node all the same.
    """
    found: dict[tuple[int, int] | str, Spool] = {}
    before = {os.path.dirname(spool.path): spool for spool in known}
    for path in _candidates(parents, before):
        try:
            uid = os.stat(path).st_uid
            status = os.stat(f"{path}/{spools.DIRECTORY}")
        except _ABSENT:
            continue
        except OSError:
            if path in before:
                found[path] = before[path]
            continue
        if status.st_uid == uid and stat.S_ISDIR(status.st_mode):
            # One home may be reached by two paths; it is one user.
            found.setdefault((status.st_dev, status.st_ino), spools.at(path, os.path.basename(path), uid))
    return list(found.values())


def told_apart(others: Iterable[Spool], me: str) -> list[Spool]:
    """The spools of others so that no two users have one name, nor mine: then it is the path of the home.

    A name is the last part of that path, which homes of several parents may have in common; their jobs
    must not pass for each other's, nor for mine.
    """
    found = list(others)
    count = collections.Counter([me, *(spool.user for spool in found)])
    return [
        spool if count[spool.user] == 1 else replace(spool, user=os.path.dirname(spool.path))
        for spool in found
    ]


def _candidates(parents: Iterable[str], known: Iterable[str] = ()) -> list[str]:
    paths: list[str] = []
    for pattern in parents:
        for parent in sorted(glob.glob(pattern)) if glob.has_magic(pattern) else [pattern]:
            try:
                paths.extend(
                    f"{parent.rstrip('/')}/{name}" for name, _ in files.listing(parent, most=USERS_MAX)
                )
            except _ABSENT:
                continue
            except OSError:
                paths.extend(path for path in known if os.path.dirname(path) == parent.rstrip("/"))
    return sorted(paths)[:USERS_MAX]


def hidden(parents: Iterable[str]) -> list[str]:
    """The homes whose queues, if they have any, this user may not see: their jobs cannot be counted."""
    unseen = []
    for path in _candidates(parents):
        try:
            # lost+found and its like are nobody's home.
            if os.stat(path).st_uid and _is_closed(f"{path}/{spools.DIRECTORY}"):
                unseen.append(os.path.basename(path))
        except OSError:
            continue
    return unseen


def _is_closed(path: str) -> bool:
    try:
        is_directory = stat.S_ISDIR(os.stat(path).st_mode)
    except PermissionError:
        return True
    return is_directory and not os.access(path, os.R_OK | os.X_OK, effective_ids=True)


# ---------------------------------------------------------------- 0.2.9


def _legacy_records(spool: Spool, state: str, most: int) -> Iterable[tuple[spools.Entry, jobs.Record]]:
    def submission(entry: spools.Entry) -> tuple[int, ...]:
        return tuple(int(part) for part in entry.id.split(".") if part.isdecimal())

    try:
        entries = spools.scan(spool, (state,), most=LEGACY_NAMES_MAX)
    except OSError:
        # Whatever a stranger has put in place of the directory, nobody else's round ends for it.
        return
    budget = cards.ALL_BYTES_MAX
    for entry in sorted((entry for entry in entries if entry.node is None), key=submission)[:most]:
        try:
            data = files.read(spools.path_of(spool, entry), most=LEGACY_BYTES_MAX, owner=spool.uid)
            if (budget := budget - len(data)) < 0:
                return
            yield entry, jobs.parse(data)
        except (OSError, RecordError):
            continue


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

    signature: tuple[int, int, int]
    card: Card | None
    since_s: float


class Neighbourhood:
    """All cards of all users, as one daemon watches them over time.

    A card on another node is alive while its beat changes within `SILENT_S` of our
    own monotonic clock; clocks of machines are never compared. One on our node is
    alive while its process is. A card seen for the first time is given the benefit
    of the doubt unless its file is older, by the server's clock, than my own newest
    card by more than `SILENT_S`. What cannot be read for a moment is as it was.
    """

    def __init__(self, node: str) -> None:
        self.node = node
        self._watched: dict[tuple[str, str], _Watched] = {}

    def look(self, spools_of_all: Iterable[Spool], now_s: float, stamped_ns: int = 0) -> list[Seen]:
        """Every card that can be read now, each parsed only if its file changed.

        `stamped_ns` is a time that the server's clock has reached, if the caller knows one.
        """
        looked: list[tuple[Spool, _Watched, int]] = []
        gone = dict.fromkeys(self._watched)
        newest = 0
        mine = os.geteuid()
        own_newest = 0
        for spool in spools_of_all:
            budget = cards.ALL_BYTES_MAX
            for name in self._names(spool):
                key = (spool.path, name)
                watched, modified = self._refresh(spool, name, self._watched.get(key), now_s)
                if watched is None:
                    continue
                gone.pop(key, None)
                self._watched[key] = watched
                # One that is too large was not read.
                size = watched.signature[2]
                budget -= size if size <= cards.CARD_BYTES_MAX else 0
                if budget < 0:
                    break
                if watched.card is not None:
                    newest = max(newest, modified)
                    if spool.uid == mine:
                        own_newest = max(own_newest, modified)
                    looked.append((spool, watched, modified))
        for key in gone:
            del self._watched[key]
        # A stranger may give his card any time; mine are honest, where there are any.
        newest = max(own_newest or newest, stamped_ns)
        return [self._judge(spool, watched, modified, newest, now_s) for spool, watched, modified in looked]

    def _names(self, spool: Spool) -> list[str]:
        try:
            return [name for name, _ in cards.names(spool)]
        except PermissionError:
            return []
        except OSError:
            return [name for path, name in self._watched if path == spool.path]

    def _refresh(
        self, spool: Spool, name: str, known: _Watched | None, now_s: float
    ) -> tuple[_Watched | None, int]:
        path = f"{spool.path}/{name}"
        try:
            # Opened, not only asked: an NFS client answers stat() from its cache.
            signature = files.signature(path)
            if known is not None and known.signature == signature:
                return known, signature[1]
            card = cards.read(spool, name)
        except RecordError:
            return _Watched(signature, None, now_s), signature[1]
        except (FileNotFoundError, PermissionError):
            return None, 0
        except OSError:
            return known, known.signature[1] if known else 0
        same = (
            known is not None
            and known.card is not None
            and (known.card.beat, known.card.process) == (card.beat, card.process)
            and not card.is_legacy
        )
        return _Watched(signature, card, known.since_s if known and same else now_s), signature[1]

    def _judge(self, spool: Spool, watched: _Watched, modified: int, newest: int, now_s: float) -> Seen:
        card = watched.card
        assert card is not None
        silent_s = max(now_s - watched.since_s, (newest - modified) / jobs.NS)
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
    """Whether the daemon of a card of this very node runs. Unknown counts as alive."""
    if card.process is not None:
        return procs.liveness(card.process) is not procs.Liveness.DEAD
    return procs.exists(card.pid, uid)
