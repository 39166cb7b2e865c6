"""A card: what neighbours may know of one user's jobs on one node.

Each daemon publishes one card per node, `~/.roundqueue/NODE`: 0.2.9's five fields,
and ours under `roundq`. A card may be written by a stranger: it is bounded and
validated. Whose cards there are, and what follows from them, is in `neighbours`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from roundq.records import spool as spools
from roundq.records.spool import Spool
from roundq.words import job as jobs
from roundq.words import record_format as formats
from roundq.words.errors import RecordError
from roundq.words.job import Identity
from roundq.words.policy import Shape, Verdict, Want
from roundq.world import files

if TYPE_CHECKING:
    from pydantic_core import SchemaValidator

CARD_BYTES_MAX = 256 << 10
#: Bytes of cards of one user that are read in one look: fifty honest nodes have less, and whoever
#: pretends to have more shall not hold up the others.
ALL_BYTES_MAX = 4 << 20
#: Nodes that are looked at; nobody has more, a hostile home may pretend to.
NODES_MAX = 1000
#: Names in a spool that are looked at to find them.
NAMES_MAX = 4 * NODES_MAX
#: More than any node has, and the most that the configuration lets it offer; processors address 2^52 bytes.
CORES_MAX, MEMORY_MAX = 100_000, 1 << 52
#: Shapes of waiting jobs that a card tells of.
HEADS_MAX = 50
#: Nodes that a job may name as kept for it; an honest one names few.
KEPT_ON_MAX = 100
#: Characters of each text on a card, and troubles that it tells of; less if it would be too large to be read.
TEXT_MAX, TROUBLES_MAX = 500, 100
#: No job has waited for longer; what claims to be older is as old.
WAITED_MAX_S = 1e9
#: A job has a set and an array.
GROUPS_MAX = 8
#: Pings that a card answers.
PONGS_MAX = 8
#: A daemon renews its card at least this often.
BEAT_S = 60.0

UP, DRAINING, LEAVING = "up", "draining", "leaving"


@dataclass(frozen=True, slots=True)
class Occupant:
    """A job that has cores and memory of a node: claimed or running.

    `stamp_ns` is the node's boot-time clock when it was claimed; `settled` that the
    claim was verified, or that it runs; `settling` that it is not yet known whether another
    node has it too. `process` is its supervisor once it has one.

    `cpus` are the logical CPUs that it is pinned to, `gpus` the ids of its GPUs, `licenses` sorted names with
    counts, `limit_s` its time limit and for how long it was paused, None while it is. One on `threads` has
    hardware threads that other jobs' cores left over; one that is `leaving` was asked to give way. `groups`
    are its set and its array, see `words/groups`. `used` are the bytes that it uses of `memory`, None if its
    card does not tell.
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
    settling: bool = False
    cpus: tuple[int, ...] = ()
    gpus: tuple[str, ...] = ()
    licenses: tuple[tuple[str, int], ...] = ()
    limit_s: float | None = None
    restartable: bool = False
    scavenge: bool = False
    threads: bool = False
    leaving: bool = False
    groups: tuple[str, ...] = ()
    used: int | None = None


class Gpu(NamedTuple):
    """A GPU of a node; `busy` if processes compute on it that are of no job, or that cannot be told."""

    id: str
    name: str = ""
    busy: bool = False


@dataclass(frozen=True, slots=True)
class Card:
    """One user's daemon on one node. A 0.2.9 card has only what stands before `version`.

    `cores` is what is offered, memory is in bytes, `beat` counts publications.
    `heads` are the first waiting jobs of each shape that could start here at all, in the
    order in which the user would start them; `said` is what the policy last said of each
    shape. `trouble` is for the user's own eyes. `pong` are the pings that it sees; `written_ns`
    is the node's own clock, 0 if it does not say; `machine` stays the same when the node is rebooted.

    `threads` are the hardware threads beside the first ones of the cores offered, `licenses` those that this
    node has of its own. `usage` are this user's core-seconds on this node, decayed, at `written_ns`.
    `cores_left` and `jobs_left` are what the user's limits still allow, None for no limit. `emptied` are
    silent nodes of the user, with the beat of their cards, whose jobs were given to others. `worker` is what
    a worker takes, empty for a daemon.
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
    heads: tuple[Want, ...] = ()
    said: tuple[Verdict, ...] = ()
    trouble: tuple[str, ...] = ()
    pong: tuple[str, ...] = ()
    written_ns: int = 0
    machine: str = ""
    threads: int = 0
    gpus: tuple[Gpu, ...] = ()
    features: tuple[str, ...] = ()
    licenses: tuple[tuple[str, int], ...] = ()
    usage: float = 0.0
    cores_left: int | None = None
    jobs_left: int | None = None
    emptied: tuple[tuple[str, int], ...] = ()
    worker: str = ""

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
    """The card as the bytes of its file; texts are cut if they would make it larger than what is read."""
    for most in (TEXT_MAX, 100, 20):
        data = _dump(card, most)
        if len(data) <= CARD_BYTES_MAX:
            return data
    return _dump(card, 0)


def _dump(card: Card, most: int) -> bytes:
    def text(value: str) -> str:
        # Words of a job are bytes. One that is not UTF-8 must not make the card unreadable, and jobs unseen.
        return formats.printable(value[:most])

    ours = {
        "version": card.version,
        "machine": card.machine,
        "process": formats.identity_dict(card.process),
        "beat": card.beat,
        "state": card.state,
        "reason": text(card.reason),
        "cores": card.cores,
        "memory": card.memory,
        "memory_available": card.memory_available,
        "load": card.load,
        "jobs": [
            {
                "id": formats.printable(job.id),
                "state": job.state,
                "cores": job.cores,
                "memory": job.memory,
                "exclusive": job.exclusive,
                "stamp": job.stamp_ns,
                "settled": job.settled,
                "settling": job.settling,
                "since": formats.moment(job.since_ns),
                "name": text(job.name),
                "process": formats.identity_dict(job.process),
                **_given(job),
            }
            for job in card.jobs
        ],
        "waiting": card.waiting,
        "heads": [
            {
                "id": formats.printable(head.id),
                "cores": head.cores,
                "memory": head.memory,
                "submitted": formats.moment(head.submitted_ns),
                "priority": head.priority,
                "waited": head.waited_s,
                "kept_on": None if head.kept_on is None else list(head.kept_on),
                **_further(head.shape),
            }
            for head in card.heads[:HEADS_MAX]
        ],
        "said": [
            {
                "cores": said.shape.cores,
                "memory": said.shape.memory,
                "priority": said.shape.priority,
                **_further(said.shape),
                **_groups(said.shape.groups),
                "says": text(said.says),
                **({} if said.starts_in_s is None else {"starts_in": formats.duration(said.starts_in_s)}),
            }
            for said in card.said[:HEADS_MAX]
        ],
        "trouble": [text(trouble) for trouble in card.trouble[:TROUBLES_MAX]],
        "pong": list(card.pong),
        "time": formats.moment(card.written_ns),
        "threads": card.threads,
        "gpus": [{"id": gpu.id, "name": text(gpu.name), "busy": gpu.busy} for gpu in card.gpus],
        "features": list(card.features),
        "licenses": dict(card.licenses),
        "usage": card.usage,
        "cores_left": card.cores_left,
        "jobs_left": card.jobs_left,
        "emptied": dict(card.emptied),
        **({"worker": text(card.worker)} if card.worker else {}),
    }
    value = {
        "hostname": card.node,
        "pid": card.pid,
        "physical_cores": card.physical_cores,
        "logical_cpus": card.logical_cpus,
        "restart_time": formats.moment(card.restart_ns),
        "roundq": ours,
    }
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _given(job: Occupant) -> dict[str, Any]:
    """What few occupants have, where they have it."""
    given = {
        "cpus": list(job.cpus),
        "gpus": list(job.gpus),
        "licenses": dict(job.licenses),
        "limit": formats.duration(job.limit_s),
        "restartable": job.restartable,
        "scavenge": job.scavenge,
        "threads": job.threads,
        "leaving": job.leaving,
    }
    used = {} if job.used is None else {"used": job.used}
    return {**{name: value for name, value in given.items() if value}, **used, **_groups(job.groups)}


def _groups(groups: Iterable[str]) -> dict[str, list[str]]:
    texts = [formats.printable(group) for group in groups]
    return {"groups": texts} if texts else {}


def _further(shape: Shape) -> dict[str, Any]:
    """What of a shape is not cores, memory and priority, where there is any."""
    further = {
        "gpus": shape.gpus,
        "licenses": dict(shape.licenses),
        "limit": formats.duration(shape.limit_s),
        "scavenge": shape.scavenge,
        "nodes": list(shape.nodes),
        "exclude": list(shape.exclude),
        "features": list(shape.features),
    }
    return {name: value for name, value in further.items() if value}


def publish(spool: Spool, card: Card) -> None:
    """Replaces one's own card of this node in one step. Not synced: it is worthless after a crash."""
    temporary = spools.temporary_of(spool, card.node, dump(card), sync=False)
    files.replace(temporary, f"{spool.path}/{card.node}")


# ---------------------------------------------------------------- reading


@functools.cache
def _validator() -> SchemaValidator:
    from roundq.words import schema as of

    groups = of.items(of.text, most=GROUPS_MAX)
    occupant = of.fields(
        id=of.required(of.text),
        state=of.required(of.text),
        cores=of.required(of.natural(CORES_MAX)),
        memory=of.required(of.natural(MEMORY_MAX)),
        exclusive=of.fallback(of.boolean, False),
        stamp=of.required(of.natural(1 << 62)),
        settled=of.required(of.boolean),
        settling=of.fallback(of.boolean, False),
        cpus=of.fallback(of.items(of.natural(1 << 20), most=1 << 16), []),
        gpus=of.fallback(of.items(of.word, most=jobs.GPUS_MAX), []),
        licenses=of.fallback(of.counts(jobs.LICENSES_MAX), {}),
        limit=of.optional(of.moment),
        restartable=of.fallback(of.boolean, False),
        scavenge=of.fallback(of.boolean, False),
        threads=of.fallback(of.boolean, False),
        leaving=of.fallback(of.boolean, False),
        groups=of.fallback(groups, []),
        used=of.optional(of.natural(MEMORY_MAX)),
        since=of.fallback(of.moment, {"secs": 0, "nanos": 0}),
        name=of.fallback(of.text, ""),
        process=of.optional(of.identity),
    )
    words = of.fallback(of.items(of.word, most=jobs.WORDS_MAX), [])
    further = {
        "gpus": of.fallback(of.natural(jobs.GPUS_MAX), 0),
        "licenses": of.fallback(of.counts(jobs.LICENSES_MAX), {}),
        "limit": of.optional(of.moment),
        "scavenge": of.fallback(of.boolean, False),
        "nodes": words,
        "exclude": words,
        "features": words,
    }
    gpu = of.fields(
        id=of.required(of.word), name=of.fallback(of.text, ""), busy=of.fallback(of.boolean, False)
    )
    head = of.fields(
        id=of.required(of.text),
        cores=of.required(of.natural(1 << 20)),
        memory=of.required(of.natural(1 << 60)),
        submitted=of.required(of.moment),
        priority=of.fallback(of.whole(-(1 << 31), 1 << 31), 0),
        waited=of.fallback(of.number, 0.0),
        # It was one name once.
        kept_on=of.optional(of.either(of.items(of.word, KEPT_ON_MAX), of.text)),
        **further,
    )
    said = of.fields(
        cores=of.required(of.natural(1 << 20)),
        memory=of.required(of.natural(1 << 60)),
        priority=of.fallback(of.whole(-(1 << 31), 1 << 31), 0),
        says=of.required(of.text),
        starts_in=of.optional(of.moment),
        groups=of.fallback(groups, []),
        **further,
    )
    ours = of.fields(
        version=of.required(of.text),
        machine=of.fallback(of.text, ""),
        process=of.optional(of.identity),
        beat=of.required(of.natural(1 << 60)),
        state=of.fallback(of.text, UP),
        reason=of.fallback(of.text, ""),
        cores=of.required(of.natural(CORES_MAX)),
        memory=of.fallback(of.natural(MEMORY_MAX), 0),
        memory_available=of.fallback(of.natural(MEMORY_MAX), 0),
        load=of.fallback(of.number, 0.0),
        jobs=of.fallback(of.items(occupant, most=10_000), []),
        waiting=of.fallback(of.natural(1 << 40), 0),
        heads=of.fallback(of.items(head, most=1000), []),
        said=of.fallback(of.items(said, most=1000), []),
        trouble=of.fallback(of.items(of.text, most=TROUBLES_MAX), []),
        pong=of.fallback(of.items(of.text, most=PONGS_MAX), []),
        time=of.fallback(of.moment, {"secs": 0, "nanos": 0}),
        threads=of.fallback(of.natural(CORES_MAX), 0),
        gpus=of.fallback(of.items(gpu, most=jobs.GPUS_MAX), []),
        features=of.fallback(of.items(of.word, most=1024), []),
        licenses=of.fallback(of.counts(jobs.LICENSES_MAX), {}),
        usage=of.fallback(of.number, 0.0),
        cores_left=of.optional(of.natural(1 << 30)),
        jobs_left=of.optional(of.natural(1 << 30)),
        emptied=of.fallback(of.beats(NODES_MAX), {}),
        worker=of.fallback(of.text, ""),
    )
    return of.SchemaValidator(
        of.fields(
            hostname=of.required(of.text),
            pid=of.required(of.natural(1 << 30)),
            physical_cores=of.required(of.natural(CORES_MAX)),
            logical_cpus=of.required(of.natural(CORES_MAX)),
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
        formats.to_ns(value["since"]),
        value["name"],
        formats.to_identity(value["process"]),
        value["settling"],
        tuple(value["cpus"]),
        tuple(value["gpus"]),
        _counts(value["licenses"]),
        formats.to_seconds(value["limit"]),
        value["restartable"],
        value["scavenge"],
        value["threads"],
        value["leaving"],
        tuple(value["groups"]),
        value["used"],
    )


def _counts(value: dict[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted((name, count) for name, count in value.items() if count))


def _to_further(value: dict[str, Any]) -> dict[str, Any]:
    return {
        "gpus": value["gpus"],
        "licenses": _counts(value["licenses"]),
        "limit_s": formats.to_seconds(value["limit"]),
        "scavenge": value["scavenge"],
        "nodes": tuple(value["nodes"]),
        "exclude": tuple(value["exclude"]),
        "features": tuple(value["features"]),
    }


def _to_said(value: dict[str, Any]) -> Verdict:
    groups = tuple(value["groups"])
    shape = Shape(value["cores"], value["memory"], value["priority"], **_to_further(value), groups=groups)
    return Verdict(shape, value["says"], formats.to_seconds(value["starts_in"]))


def _to_kept_on(value: list[str] | str | None) -> tuple[str, ...] | None:
    return (value,) if isinstance(value, str) else None if value is None else tuple(value)


def _to_head(value: dict[str, Any]) -> Want:
    return Want(
        value["id"],
        value["cores"],
        value["memory"],
        formats.to_ns(value["submitted"]),
        value["priority"],
        min(max(0.0, value["waited"]), WAITED_MAX_S),
        _to_kept_on(value["kept_on"]),
        **_to_further(value),
    )


def parse(data: bytes, user: str) -> Card:
    """The card that these bytes hold. Raises RecordError, whose text says what is wrong."""
    from roundq.words import schema

    try:
        value = _validator().validate_python(schema.loads(data))
    except RecursionError:
        raise RecordError("it is nested too deeply") from None
    except ValueError as error:
        raise RecordError(formats.finding(error)) from None
    common = (
        user,
        value["hostname"],
        value["pid"],
        value["physical_cores"],
        value["logical_cpus"],
        formats.to_ns(value["restart_time"]),
    )
    ours = value["roundq"]
    if ours is None:
        return Card(*common)
    return Card(
        *common,
        version=ours["version"],
        process=formats.to_identity(ours["process"]),
        beat=ours["beat"],
        state=ours["state"],
        reason=ours["reason"],
        cores=ours["cores"],
        memory=ours["memory"],
        memory_available=ours["memory_available"],
        load=ours["load"],
        jobs=tuple(map(_to_occupant, ours["jobs"])),
        waiting=ours["waiting"],
        heads=tuple(map(_to_head, ours["heads"])),
        said=tuple(map(_to_said, ours["said"])),
        trouble=tuple(ours["trouble"]),
        pong=tuple(ours["pong"]),
        written_ns=formats.to_ns(ours["time"]),
        machine=ours["machine"],
        threads=ours["threads"],
        gpus=tuple(Gpu(gpu["id"], gpu["name"], gpu["busy"]) for gpu in ours["gpus"]),
        features=tuple(ours["features"]),
        licenses=_counts(ours["licenses"]),
        usage=max(0.0, ours["usage"]),
        cores_left=ours["cores_left"],
        jobs_left=ours["jobs_left"],
        emptied=tuple(sorted(ours["emptied"].items())),
        worker=ours["worker"],
    )


def read(spool: Spool, node: str) -> Card:
    """A user's card of one node. Raises OSError or RecordError if there is none that can be read."""
    return of_node(spool.way.read(f"{spool.path}/{node}", most=CARD_BYTES_MAX, owner=spool.uid), spool, node)


def of_node(data: bytes, spool: Spool, node: str) -> Card:
    """The card that a user's file of this name holds. Raises RecordError if it is none of this node."""
    card = parse(data, spool.user)
    if card.node != node:
        raise RecordError(f"it is the card of {card.node!r}, not of {node!r}")
    if spool.is_commons and card.is_legacy:
        raise RecordError("a daemon of roundqueue 0.2.9 knows no commons")
    return card


def names(spool: Spool) -> list[files.Name]:
    """The nodes, as far as names tell, that have a card in a spool. Raises OSError if it cannot be listed."""
    return among(spool.way.listing(spool.path, most=NAMES_MAX))


def among(listed: Iterable[files.Name]) -> list[files.Name]:
    """Those of the names in a spool that may be nodes with a card."""
    return [each for each in listed if spools.is_node_name(each.name) and each.name.isprintable()][:NODES_MAX]


def read_all(spool: Spool) -> list[Card]:
    """Every readable card of one user. For commands, which look once."""
    found = []
    budget = ALL_BYTES_MAX
    try:
        listed = names(spool)
    except OSError:
        return []
    for name, _ in listed:
        try:
            data = spool.way.read(f"{spool.path}/{name}", most=CARD_BYTES_MAX, owner=spool.uid)
            if (budget := budget - len(data)) < 0:
                break
            found.append(of_node(data, spool, name))
        except (OSError, RecordError):
            continue
    return found
