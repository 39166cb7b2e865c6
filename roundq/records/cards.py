"""Cards: what neighbours may know of a user's jobs on a node, and how they read it.

Each daemon publishes one card per node, `~/.roundqueue/NODE`: 0.2.9's five fields,
and ours under `roundq`. Policy reads cards, never strangers' job files; only the
running and waiting jobs of 0.2.9, which has no such card, are counted from their
files. Everything here may be written by strangers: it is bounded and validated, and
what is not as it should be is as if it were not there.
"""

from __future__ import annotations

import functools
import glob
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from roundq.records import spool as spools
from roundq.records.spool import Spool
from roundq.words import job as jobs
from roundq.words.errors import RecordError
from roundq.words.job import Identity
from roundq.words.states import RUNNING, WAITING
from roundq.world import files, procs

if TYPE_CHECKING:
    from pydantic_core import SchemaValidator

CARD_BYTES_MAX = 1 << 20
#: Nodes, and users, that are looked at; nobody has more, a hostile home may pretend to.
NODES_MAX = 1000
USERS_MAX = 10_000
#: A waiting 0.2.9 job beyond these is not looked at: the earliest stand first.
LEGACY_HEADS = 20
#: A daemon renews its card at least this often.
BEAT_S = 60.0
#: A node whose card has not changed for this long is not counted on (0.2.9: ten minutes).
SILENT_S = 600.0

UP, DRAINING, LEAVING = "up", "draining", "leaving"


@dataclass(frozen=True, slots=True)
class Occupant:
    """A job that has cores and memory of a node: claimed or running.

    `stamp_ns` is the node's boot-time clock when it was claimed; `settled` that the
    claim was verified, or that it runs. `process` is its supervisor once it has one.
    """

    id: str
    state: str
    cores: int
    memory: int
    exclusive: bool
    stamp_ns: int
    settled: bool
    since_ns: int = 0
    name: str = ""
    process: Identity | None = None


@dataclass(frozen=True, slots=True)
class Head:
    """The first job that a user would start on the card's node. `waited_s` is by its daemon's own clock."""

    id: str
    cores: int
    memory: int
    submitted_ns: int
    priority: int = 0
    waited_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Said:
    """What a daemon's policy last said of the waiting jobs of one shape."""

    cores: int
    memory: int
    priority: int
    says: str


@dataclass(frozen=True, slots=True)
class Card:
    """One user's daemon on one node. A 0.2.9 card has only what stands before `version`.

    `cores` is what is offered, memory is in bytes, `beat` counts publications.
    """

    user: str
    node: str
    pid: int
    physical_cores: int
    logical_cpus: int
    restart_ns: int
    version: str = ""
    process: Identity | None = None
    beat: int = 0
    state: str = UP
    reason: str = ""
    cores: int = 0
    memory: int = 0
    memory_available: int = 0
    load: float = 0.0
    jobs: tuple[Occupant, ...] = ()
    waiting: int = 0
    head: Head | None = None
    said: tuple[Said, ...] = ()
    trouble: tuple[str, ...] = ()

    @property
    def is_legacy(self) -> bool:
        """Whether a 0.2.9 daemon wrote it."""
        return not self.version

    @property
    def capacity(self) -> int:
        """The cores jobs may use."""
        return self.physical_cores if self.is_legacy else self.cores


# ---------------------------------------------------------------- writing


def dump(card: Card) -> bytes:
    """The card as the bytes of its file."""
    ours = {
        "version": card.version,
        "process": jobs.identity_dict(card.process),
        "beat": card.beat,
        "state": card.state,
        "reason": card.reason,
        "cores": card.cores,
        "memory": card.memory,
        "memory_available": card.memory_available,
        "load": card.load,
        "jobs": [
            {
                "id": job.id,
                "state": job.state,
                "cores": job.cores,
                "memory": job.memory,
                "exclusive": job.exclusive,
                "stamp": job.stamp_ns,
                "settled": job.settled,
                "since": jobs.moment(job.since_ns),
                "name": job.name,
                "process": jobs.identity_dict(job.process),
            }
            for job in card.jobs
        ],
        "waiting": card.waiting,
        "head": None
        if card.head is None
        else {
            "id": card.head.id,
            "cores": card.head.cores,
            "memory": card.head.memory,
            "submitted": jobs.moment(card.head.submitted_ns),
            "priority": card.head.priority,
            "waited": card.head.waited_s,
        },
        "said": [
            {"cores": said.cores, "memory": said.memory, "priority": said.priority, "says": said.says}
            for said in card.said
        ],
        "trouble": list(card.trouble),
    }
    value = {
        "hostname": card.node,
        "pid": card.pid,
        "physical_cores": card.physical_cores,
        "logical_cpus": card.logical_cpus,
        "restart_time": jobs.moment(card.restart_ns),
        "roundq": ours,
    }
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def publish(spool: Spool, card: Card) -> None:
    """Replaces one's own card of this node in one step. Not synced: it is worthless after a crash."""
    temporary = files.write_temporary(
        spool.directory("tmp"), f"{card.node}.{os.getpid()}", dump(card), sync=False
    )
    files.replace(temporary, f"{spool.path}/{card.node}")


# ---------------------------------------------------------------- reading


@functools.cache
def _validator() -> SchemaValidator:
    from roundq.words import schema as of

    occupant = of.fields(
        id=of.required(of.text),
        state=of.required(of.text),
        cores=of.required(of.natural(1 << 20)),
        memory=of.required(of.natural(1 << 60)),
        exclusive=of.fallback(of.boolean, False),
        stamp=of.required(of.natural(1 << 62)),
        settled=of.required(of.boolean),
        since=of.fallback(of.moment, {"secs": 0, "nanos": 0}),
        name=of.fallback(of.text, ""),
        process=of.optional(of.identity),
    )
    head = of.fields(
        id=of.required(of.text),
        cores=of.required(of.natural(1 << 20)),
        memory=of.required(of.natural(1 << 60)),
        submitted=of.required(of.moment),
        priority=of.fallback(of.whole(-(1 << 31), 1 << 31), 0),
        waited=of.fallback(of.number, 0.0),
    )
    said = of.fields(
        cores=of.required(of.natural(1 << 20)),
        memory=of.required(of.natural(1 << 60)),
        priority=of.fallback(of.whole(-(1 << 31), 1 << 31), 0),
        says=of.required(of.text),
    )
    ours = of.fields(
        version=of.required(of.text),
        process=of.optional(of.identity),
        beat=of.required(of.natural(1 << 60)),
        state=of.fallback(of.text, UP),
        reason=of.fallback(of.text, ""),
        cores=of.required(of.natural(1 << 20)),
        memory=of.fallback(of.natural(1 << 60), 0),
        memory_available=of.fallback(of.natural(1 << 60), 0),
        load=of.fallback(of.number, 0.0),
        jobs=of.fallback(of.items(occupant, most=10_000), []),
        waiting=of.fallback(of.natural(1 << 40), 0),
        head=of.optional(head),
        said=of.fallback(of.items(said, most=1000), []),
        trouble=of.fallback(of.items(of.text, most=100), []),
    )
    return of.SchemaValidator(
        of.fields(
            hostname=of.required(of.text),
            pid=of.required(of.natural(1 << 30)),
            physical_cores=of.required(of.natural(1 << 20)),
            logical_cpus=of.required(of.natural(1 << 20)),
            restart_time=of.fallback(of.moment, {"secs": 0, "nanos": 0}),
            roundq=of.optional(ours),
        )
    )


def _to_occupant(value: dict[str, Any]) -> Occupant:
    return Occupant(
        value["id"],
        value["state"],
        value["cores"],
        value["memory"],
        value["exclusive"],
        value["stamp"],
        value["settled"],
        jobs.to_ns(value["since"]),
        value["name"],
        jobs.to_identity(value["process"]),
    )


def _to_head(value: dict[str, Any] | None) -> Head | None:
    if value is None:
        return None
    return Head(
        value["id"],
        value["cores"],
        value["memory"],
        jobs.to_ns(value["submitted"]),
        value["priority"],
        value["waited"],
    )


def parse(data: bytes, user: str) -> Card:
    """The card that these bytes hold. Raises RecordError, whose text says what is wrong."""
    try:
        value = _validator().validate_python(json.loads(data))
    except RecursionError:
        raise RecordError("it is nested too deeply") from None
    except ValueError as error:
        raise RecordError(jobs.finding(error)) from None
    common = (
        user,
        value["hostname"],
        value["pid"],
        value["physical_cores"],
        value["logical_cpus"],
        jobs.to_ns(value["restart_time"]),
    )
    ours = value["roundq"]
    if ours is None:
        return Card(*common)
    return Card(
        *common,
        version=ours["version"],
        process=jobs.to_identity(ours["process"]),
        beat=ours["beat"],
        state=ours["state"],
        reason=ours["reason"],
        cores=ours["cores"],
        memory=ours["memory"],
        memory_available=ours["memory_available"],
        load=ours["load"],
        jobs=tuple(map(_to_occupant, ours["jobs"])),
        waiting=ours["waiting"],
        head=_to_head(ours["head"]),
        said=tuple(Said(s["cores"], s["memory"], s["priority"], s["says"]) for s in ours["said"]),
        trouble=tuple(ours["trouble"]),
    )


def read(spool: Spool, node: str) -> Card:
    """A user's card of one node. Raises OSError or RecordError if there is none that can be read."""
    card = parse(files.read(f"{spool.path}/{node}", most=CARD_BYTES_MAX, owner=spool.uid), spool.user)
    if card.node != node:
        raise RecordError(f"it is the card of {card.node!r}, not of {node!r}")
    return card


def names(spool: Spool) -> list[files.Name]:
    """The names of nodes, as far as names tell, that have a card in a spool."""
    try:
        listed = files.listing(spool.path, most=NODES_MAX * 4)
    except OSError:
        return []
    return [
        entry
        for entry in listed
        # Logs and rotated logs are NODE.log and NODE.log.1.
        if entry.name not in spools.RESERVED_NAMES
        and not entry.name.rstrip("0123456789.").endswith(".log")
        and entry.name.isprintable()
    ][:NODES_MAX]


def read_all(spool: Spool) -> list[Card]:
    """Every readable card of one user. For commands, which look once."""
    found = []
    for name, _ in names(spool):
        try:
            found.append(read(spool, name))
        except (OSError, RecordError):
            continue
    return found


def homes(parents: Iterable[str]) -> list[Spool]:
    """The spools of everybody: the directories below the home parents, which may be glob patterns.

    A home counts if it has a `.roundqueue` that belongs to the home's owner.
    Homes that cannot be looked into are left out; see `hidden`.
    """
    found: dict[tuple[int, int], Spool] = {}
    for path in _candidates(parents):
        try:
            uid = os.stat(path).st_uid
            status = os.stat(f"{path}/{spools.DIRECTORY}")
        except OSError:
            continue
        if status.st_uid == uid:
            # One home may be reached by two paths; it is one user.
            found.setdefault((status.st_dev, status.st_ino), spools.at(path, os.path.basename(path), uid))
    return list(found.values())


def _candidates(parents: Iterable[str]) -> list[str]:
    paths = []
    for pattern in parents:
        for parent in sorted(glob.glob(pattern)) if glob.has_magic(pattern) else [pattern]:
            try:
                paths.extend(
                    f"{parent.rstrip('/')}/{name}" for name, _ in files.listing(parent, most=USERS_MAX)
                )
            except OSError:
                continue
    return sorted(paths)[:USERS_MAX]


def hidden(parents: Iterable[str]) -> list[str]:
    """The homes whose queues, if they have any, this user may not see: their jobs cannot be counted."""
    unseen = []
    for path in _candidates(parents):
        try:
            os.stat(f"{path}/{spools.DIRECTORY}")
        except PermissionError:
            unseen.append(os.path.basename(path))
        except OSError:
            continue
    return unseen


# ---------------------------------------------------------------- 0.2.9


def _legacy_records(spool: Spool, state: str, most: int) -> Iterable[tuple[spools.Entry, jobs.Record]]:
    def submission(entry: spools.Entry) -> tuple[int, ...]:
        return tuple(int(part) for part in entry.id.split(".") if part.isdecimal())

    entries = [entry for entry in spools.scan(spool, (state,)) if entry.node is None]
    for entry in sorted(entries, key=submission)[:most]:
        try:
            yield entry, spools.read(spool, entry)
        except (OSError, RecordError):
            continue


def legacy_occupants(spool: Spool) -> list[tuple[str, Occupant]]:
    """The running jobs of a user's 0.2.9 daemons, each with its node. `all` cores are 0 here."""
    return [
        (
            record.node,
            Occupant(
                entry.id,
                RUNNING,
                record.job.cores,
                record.job.memory_required,
                record.job.cores == 0,
                0,
                True,
                record.started_ns,
                record.job.name,
                None,
            ),
        )
        for entry, record in _legacy_records(spool, RUNNING, 10_000)
    ]


def legacy_head(spool: Spool, cores: int, memory: int) -> Head | None:
    """The first waiting job of a 0.2.9 user that a node of that size could run."""
    for entry, record in _legacy_records(spool, WAITING, LEGACY_HEADS):
        job = record.job
        if job.cores <= cores and job.memory_required <= memory:
            return Head(entry.id, job.cores, job.memory_required, job.submitted_ns)
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
    of the doubt unless its file is older, by the server's clock, than the newest
    card by more than `SILENT_S`.
    """

    def __init__(self, node: str) -> None:
        self.node = node
        self._watched: dict[tuple[str, str], _Watched] = {}

    def look(self, spools_of_all: Iterable[Spool], now_s: float) -> list[Seen]:
        """Every card that can be read now, each parsed only if its file changed."""
        looked: list[tuple[Spool, _Watched, int]] = []
        gone = dict.fromkeys(self._watched)
        newest = 0
        for spool in spools_of_all:
            for name, _ in names(spool):
                key = (spool.path, name)
                watched, modified = self._refresh(spool, name, self._watched.get(key), now_s)
                if watched is None:
                    continue
                gone.pop(key, None)
                self._watched[key] = watched
                if watched.card is not None:
                    newest = max(newest, modified)
                    looked.append((spool, watched, modified))
        for key in gone:
            del self._watched[key]
        return [self._judge(spool, watched, modified, newest, now_s) for spool, watched, modified in looked]

    def _refresh(
        self, spool: Spool, name: str, known: _Watched | None, now_s: float
    ) -> tuple[_Watched | None, int]:
        path = f"{spool.path}/{name}"
        try:
            # Opened, not only asked: an NFS client answers stat() from its cache.
            signature = files.signature(path)
            if known is not None and known.signature == signature:
                return known, signature[1]
            card = read(spool, name)
        except RecordError:
            return _Watched(signature, None, now_s), signature[1]
        except OSError:
            return None, 0
        same = (
            known is not None
            and known.card is not None
            and known.card.beat == card.beat
            and not card.is_legacy
        )
        return _Watched(signature, card, known.since_s if known and same else now_s), signature[1]

    def _judge(self, spool: Spool, watched: _Watched, modified: int, newest: int, now_s: float) -> Seen:
        card = watched.card
        assert card is not None
        silent_s = max(now_s - watched.since_s, (newest - modified) / jobs.NS)
        if card.node == self.node:
            return Seen(spool, card, daemon_lives(card, spool.uid), silent_s)
        return Seen(spool, card, silent_s < SILENT_S and card.state != LEAVING, silent_s)


def daemon_lives(card: Card, uid: int) -> bool:
    """Whether the daemon of a card of this very node runs. Unknown counts as alive."""
    if card.process is not None:
        return procs.liveness(card.process) is not procs.Liveness.DEAD
    return procs.exists(card.pid, uid)
