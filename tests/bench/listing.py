"""What a look at a long queue costs: run it with `python -m tests.bench.listing [JOBS...]`.

Nothing is asserted, since a time is a fact of one machine. Prints seconds of wall time, and of processor
time, which a busy machine changes less, each the best of three, of whole commands, interpreter and imports
included; of 0, 1,000, 10,000 and 100,000 jobs that wait, then of as many that ended beside them, then of the
same as arrays of a thousand tasks, and at last of twenty users who have as many together.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from roundq.records.spool import Spool
from roundq.words import record_format as formats
from roundq.words.job import Array
from tests.faces.homes import HERE, Homes, record
from tests.faces.screen import on_terminal

_MAIN = "from roundq.__main__ import rq; rq()"
JOBS = (0, 1_000, 10_000, 100_000)
USERS, TASKS = 20, 1000
#: Of longer queues `rq list` of everything is not measured: it costs what it shows.
WHOLE_MOST = 10_000


def main() -> None:
    """Makes queues, looks at them in each way, prints a line for each."""
    for jobs in map(int, sys.argv[1:]) if len(sys.argv) > 1 else JOBS:
        _single(jobs)
        if jobs >= TASKS:
            _arrays(jobs)
        if jobs >= USERS:
            _users(jobs)


def _single(jobs: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        homes = Homes(Path(directory))
        ann = homes.user("ann")
        homes.card(ann, HERE)
        _fill(ann, "waiting", range(jobs + 1, 2 * jobs + 1))
        _timed(f"{jobs:,} waiting", homes, jobs)
        _fill(ann, "completed", range(1, jobs + 1))
        _timed(f"{jobs:,} waiting and {jobs:,} completed", homes, 2 * jobs)


def _arrays(jobs: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        homes = Homes(Path(directory))
        ann = homes.user("ann")
        homes.card(ann, HERE)
        for number in range(jobs // TASKS):
            _fill(ann, "completed", range(TASKS), str(number + 1))
            _fill(ann, "waiting", range(TASKS), str(number + 1 + jobs // TASKS))
        _timed(f"{jobs:,} waiting and {jobs:,} completed tasks", homes, 2 * jobs)


def _users(jobs: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        homes = Homes(Path(directory))
        for number in range(USERS):
            spool = homes.user("ann" if not number else f"user{number}")
            homes.card(spool, HERE)
            _fill(spool, "waiting", range(jobs // USERS + 1, 2 * (jobs // USERS) + 1))
            _fill(spool, "completed", range(1, jobs // USERS + 1))
        _timed(f"{USERS} users with {jobs // USERS:,} waiting and completed each", homes, 2 * jobs // USERS)


def _fill(spool: Spool, state: str, numbers: Iterable[int], array: str = "") -> None:
    """Puts jobs of these numbers, or tasks of these indices, into a state."""
    times = {} if state == "waiting" else {"began_s": 500, "ended_s": 400, "exit_code": 0}
    made = record("fit", now_ns=time.time_ns(), **times)
    directory = spool.directory(state)
    data = formats.dump(made)
    for number in numbers:
        if array:
            job = replace(made.job, array=Array(array, number, 0, TASKS - 1, 1, TASKS))
            data = formats.dump(replace(made, job=job))
        name = f"{array}_{number}.job" if array else f"{number}.job"
        descriptor = os.open(f"{directory}/{name}", os.O_WRONLY | os.O_CREAT, 0o644)
        os.write(descriptor, data)
        os.close(descriptor)


def _timed(title: str, homes: Homes, jobs: int) -> None:
    environ = {"PATH": os.environ["PATH"], **homes.environ("ann")}
    command = [sys.executable, "-c", _MAIN]

    def piped(*words: str) -> None:
        subprocess.run([*command, *words], env=environ, stdout=subprocess.DEVNULL, check=True)

    ways: dict[str, Callable[[], object]] = {
        "terminal": lambda: on_terminal([], homes.environ("ann"), 80),
        "pipe": piped,
        "nodes": lambda: piped("nodes"),
        "users": lambda: piped("users"),
        "list -n 20": lambda: piped("list", "-n", "20"),
        "list -o id,state": lambda: piped("list", "--all", "-h", "-o", "id,state"),
    }
    if jobs <= 2 * WHOLE_MOST:
        ways["list"] = lambda: piped("list", "--tasks")
        ways["json"] = lambda: piped("--json")
        ways["dump"] = lambda: piped("dump")
    print(f"{title}:", "  ".join(f"{name} {_best(way)}" for name, way in ways.items()), flush=True)


def _best(way: Callable[[], object]) -> str:
    walls, cpus = [], []
    for _ in range(3):
        began, used = time.perf_counter(), _used_s()
        way()
        walls.append(time.perf_counter() - began)
        cpus.append(_used_s() - used)
    return f"{min(walls):.2f} ({min(cpus):.2f})"


def _used_s() -> float:
    """The processor time of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
