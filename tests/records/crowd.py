"""Many processes at once, as daemons and commands of several nodes are; and the spool they meet in."""

from __future__ import annotations

import os
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from roundq.records import spool as spools
from roundq.records.spool import Entry, Spool
from roundq.words.job import Job, Record
from roundq.words.states import STATES, WAITING

T = TypeVar("T")


def crowd(count: int, act: Callable[[int], T]) -> list[T]:
    """What each of `count` processes returns from `act(number)`; all begin at the same moment."""
    gate, opener = os.pipe()
    members = []
    for number in range(count):
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(opener)
                os.read(gate, 1)
                result: tuple[bool, object] = (True, act(number))
            except BaseException:
                result = (False, traceback.format_exc())
            with open(writing, "wb") as file:
                pickle.dump(result, file)
            os._exit(0)
        os.close(writing)
        members.append((pid, reading))
    os.close(gate)
    os.close(opener)
    found = []
    for pid, reading in members:
        with open(reading, "rb") as file:
            found.append(pickle.load(file))
        os.waitpid(pid, 0)
    for worked, result in found:
        assert worked, result
    return [result for _, result in found]


def new_spool(home: Path | str, user: str = "ann") -> Spool:
    """A spool of one's own, ready for use."""
    os.makedirs(home, exist_ok=True)
    spool = spools.at(str(home), user, os.geteuid())
    spools.prepare(spool)
    return spool


def submitted(spool: Spool, count: int = 1, **fields: object) -> list[str]:
    """The ids of new jobs in waiting/."""
    return spools.submit(spool, [Job(("true",), **fields)] * count, "n0")  # type: ignore[arg-type]


def drop(spool: Spool, name: str, content: bytes = b'{"job":{"command":["true"]}}') -> str:
    """The path of a file that another program put into waiting/, as the manual tells it to."""
    path = f"{spool.path}/waiting/{name}"
    with open(f"{spool.path}/dropped", "wb") as file:
        file.write(content)
    os.rename(f"{spool.path}/dropped", path)
    return path


def entry_of(spool: Spool, job_id: str, state: str = WAITING) -> Entry:
    """The one entry of a job in a state."""
    (entry,) = [entry for entry in spools.scan(spool, (state,)) if entry.id == job_id]
    return entry


def where(spool: Spool) -> dict[str, str]:
    """The state of every job; a job that is in two of them is a failure."""
    found: dict[str, str] = {}
    for entry in spools.scan(spool, STATES):
        assert entry.id not in found, f"{entry.id} is in {found[entry.id]} and {entry.state}"
        found[entry.id] = entry.state
    return found


def leftovers(spool: Spool) -> list[str]:
    """What lies in tmp/."""
    return sorted(os.listdir(spool.directory("tmp")))


def record_of(spool: Spool, job_id: str) -> Record:
    """The record of a job, wherever it is."""
    (entry,) = [entry for entry in spools.scan(spool) if entry.id == job_id]
    return spools.read(spool, entry)


def born(spool: Spool, entry: Entry) -> Entry:
    """A claimed record as its birth leaves it before it begins: rewritten, and so sealed."""
    sealed = spools.rewrite(spool, entry, spools.read(spool, entry), entry.node or "")
    assert sealed is not None
    return sealed
