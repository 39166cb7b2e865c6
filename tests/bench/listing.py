"""What a look at a long queue costs: run it with `python -m tests.bench.listing [JOBS]`.

Nothing is asserted, since a time is a fact of one machine. Prints seconds of wall time, the best
of three, of whole commands, interpreter and imports included.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.faces.homes import HERE, Homes, record
from tests.faces.screen import on_terminal

_MAIN = "from roundq.__main__ import rq; rq()"
USERS = 20


def main() -> None:
    """Makes queues, looks at them in each way, prints a line for each."""
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as directory:
        homes = Homes(Path(directory))
        ann = homes.user("ann")
        homes.card(ann, HERE)
        _timed("empty queue", homes)
        _fill(homes, "ann", "waiting", jobs)
        _timed(f"{jobs:,} waiting", homes)
        _fill(homes, "ann", "completed", jobs)
        _timed(f"... and {jobs:,} completed", homes)
        for number in range(USERS):
            name = f"user{number}"
            _fill(homes, name, "waiting", jobs // USERS)
            _fill(homes, name, "completed", jobs // USERS)
            homes.card(homes.user(name), HERE)
        _timed(f"... and {USERS} users with {jobs // USERS:,} of both each", homes)


def _fill(homes: Homes, user: str, state: str, count: int) -> None:
    spool = homes.user(user)
    now_ns = time.time_ns()
    first = count if state == "waiting" else 0
    for number in range(first + 1, first + count + 1):
        times = {} if state == "waiting" else {"began_s": 500, "ended_s": 400, "exit_code": 0}
        homes.put(spool, state, str(number), record(f"fit-{number}", now_ns=now_ns, **times))


def _timed(title: str, homes: Homes) -> None:
    environ = {"PATH": os.environ["PATH"], **homes.environ("ann")}
    command = [sys.executable, "-c", _MAIN]

    def piped(*words: str) -> None:
        subprocess.run([*command, *words], env=environ, stdout=subprocess.DEVNULL, check=True)

    ways: dict[str, Callable[[], object]] = {
        "terminal": lambda: on_terminal([], homes.environ("ann"), 80),
        "pipe": piped,
        "json": lambda: piped("--json"),
        "nodes": lambda: piped("nodes"),
        "users": lambda: piped("users"),
    }
    print(f"{title}:", "  ".join(f"{name} {_best(way):.2f}" for name, way in ways.items()), flush=True)


def _best(way: Callable[[], object]) -> float:
    times = []
    for _ in range(3):
        began = time.perf_counter()
        way()
        times.append(time.perf_counter() - began)
    return min(times)


if __name__ == "__main__":
    main()
