"""A home parent with users, jobs and cards in it, made without daemons: what the lists are shown."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from roundq.records import cards
from roundq.records import spool as spools
from roundq.records.cards import Card, Occupant
from roundq.records.spool import Spool
from roundq.words import record_format as formats
from roundq.words.job import NO_NODE, NS, Job, Record
from roundq.words.states import OWNED_STATES
from roundq.world import procs

GIB = 1 << 30
HERE = "here1"
#: The moment at which the pure tests look.
NOW_NS = 1_790_000_000 * NS


class Homes:
    """Homes below one parent; everything belongs to whoever runs the test."""

    def __init__(self, parent: Path) -> None:
        self.parent = parent

    def user(self, name: str) -> Spool:
        """The spool of a user, made if need be."""
        home = self.parent / name
        spool = spools.at(str(home), name, os.geteuid())
        if not home.exists():
            home.mkdir()
            spools.prepare(spool)
        return spool

    def environ(self, name: str) -> dict[str, str]:
        """The environment of that user's commands on the node HERE."""
        return {"HOME": str(self.parent / name), "RQ_NODE": HERE}

    def put(self, spool: Spool, state: str, job_id: str, record: Record) -> Path:
        """Writes a record into a state, as its owner would have."""
        file = spools.owned_file(job_id, record.node) if state in OWNED_STATES else f"{job_id}.job"
        path = Path(spool.directory(state)) / file
        path.write_bytes(formats.dump(record))
        return path

    def card(self, spool: Spool, node: str, *, silent_s: float = 0, **of: Any) -> None:
        """Publishes a card, last renewed `silent_s` ago by the server's clock."""
        cards.publish(spool, card(spool.user, node, **of))
        if silent_s:
            then = time.time() - silent_s
            os.utime(f"{spool.path}/{node}", (then, then))


def record(name: str = "", *, ago_s: float = 600, now_ns: int = NOW_NS, **of: Any) -> Record:
    """A record of a job submitted `ago_s` seconds ago; fields of the job are prefixed with `job_`.

    `began_s` and `ended_s` are how many seconds ago it began and ended.
    """
    of_job = {field.removeprefix("job_"): value for field, value in of.items() if field.startswith("job_")}
    rest = {field: value for field, value in of.items() if not field.startswith("job_")}
    for field, told in (("started_ns", "began_s"), ("completed_ns", "ended_s")):
        if told in rest:
            rest[field] = now_ns - int(rest.pop(told) * NS)
    job = Job(("sleep", "60"), jobname=name, submitted_ns=now_ns - int(ago_s * NS), **of_job)
    return Record(job, **{"node": NO_NODE, **rest})


def card(user: str, node: str, *, cores: int = 8, jobs: dict[str, int] | None = None, **of: Any) -> Card:
    """A card of a live daemon; `jobs` are id -> cores of its running jobs."""
    occupants = tuple(
        Occupant(job, "running", count, 0, False, 0, True) for job, count in (jobs or {}).items()
    )
    whole: dict[str, Any] = {
        "version": "1.0.0",
        # This very process lives while the test does.
        "process": procs.own_identity(),
        "beat": 7,
        "cores": cores,
        "memory": 64 * GIB,
        "memory_available": 40 * GIB,
        "load": 3.5,
        **of,
    }
    return Card(user, node, os.getpid(), cores, 2 * cores, 0, jobs=occupants, **whole)
