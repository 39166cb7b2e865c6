"""Signals that the user asks for of jobs: requests/ID~TOKEN.signal, each acted on once by the supervisor.

See roundqueue(7), "Pause and signal". That a job is to stand still, or does, are requests like others.
"""

from __future__ import annotations

import os
import signal
from typing import NamedTuple

from roundq.records import spool as spools
from roundq.records.spool import REQUEST_BYTES_MAX, Spool
from roundq.words.errors import RecordError
from roundq.world import files

#: Whom a signal is for: the process that the command became, or every process of the job.
COMMAND, ALL = "command", "all"


class Asked(NamedTuple):
    """One signal that is asked for, by the name of its file: `mark` is the attempt that is meant."""

    name: str
    mark: str
    number: int
    to_all: bool


def ask(spool: Spool, job_id: str, mark: str, number: int, node: str, *, to_all: bool) -> str:
    """Asks the supervisor of an attempt to send a signal, once; the name of the request, durable by then.

    Raises SpoolError or OSError if it cannot be left.
    """
    token = os.urandom(8).hex()
    content = f"{mark}\n{number}\n{ALL if to_all else COMMAND}"
    spools.request(spool, f"{job_id}~{token}", "signal", node, content)
    return f"{job_id}~{token}.signal"


def of(spool: Spool, job_id: str) -> list[Asked]:
    """What is asked for of one job, in no order. What is not understood, or others left, asks nothing."""
    found = []
    for name, _ in files.listing(spool.directory("requests")):
        if spools.signaled(name) == job_id and (one := _read(spool, name)) is not None:
            found.append(one)
    return found


def names(spool: Spool) -> set[str]:
    """The names of all such requests that are there."""
    return {name for name, _ in files.listing(spool.directory("requests")) if spools.signaled(name)}


def remove(spool: Spool, name: str) -> None:
    """Takes a request away, since the signal was sent. Raises OSError if it cannot be removed."""
    files.remove(f"{spool.directory('requests')}/{name}")


def _read(spool: Spool, name: str) -> Asked | None:
    try:
        data = files.read(
            f"{spool.directory('requests')}/{name}", most=REQUEST_BYTES_MAX, owner=spool.uid
        ).decode()
        mark, number, whom = data.strip().split("\n")
    except (FileNotFoundError, RecordError, ValueError):
        return None
    is_number = number.isascii() and number.isdecimal() and len(number) <= 3
    if not is_number or not 0 < int(number) < signal.NSIG or whom not in (COMMAND, ALL):
        return None
    return Asked(name, mark, int(number), whom == ALL)
