"""`python -m tests.crashpoints [NAME...]`: plays the operations whose names begin so, and prints a table."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time

from roundq.actors import folding
from roundq.world import spawn
from tests.crashpoints.explore import Tally, explore, record, settle_down
from tests.crashpoints.mistakes import MISTAKES
from tests.crashpoints.operations import OPERATIONS
from tests.crashpoints.steps import FORGET, FULL, GONE, INTERRUPT, LOST, POWER, REFUSED, STOP, TAKEN

#: A file system in memory makes synchronizing free; what is durable is not asked of it.
MEMORY = "/dev/shm"
#: The columns of the table, and the kinds of faults that are counted in each.
COLUMNS = {
    "crash points": (STOP, "cancel"),
    "power losses": (POWER, FORGET),
    "lost replies": (LOST, TAKEN),
    "refusals": (REFUSED, FULL, GONE),
    "Ctrl-C": (INTERRUPT,),
}


def scratch_directory() -> str:
    """A directory of its own for all cases; the caller removes it."""
    return tempfile.mkdtemp(prefix="roundq-crashpoints-", dir=MEMORY if os.access(MEMORY, os.W_OK) else None)


def row(tally: Tally) -> str:
    """One line of the table."""
    counts = [sum(tally.tried[kind] for kind in kinds) for kinds in COLUMNS.values()]
    return (
        f"{tally.name:<38} {tally.steps:>5} "
        + " ".join(f"{n:>12}" for n in counts)
        + f" {len(tally.wrong):>8}"
    )


def header() -> str:
    """The first line of the table."""
    return (
        f"{'operation':<38} {'steps':>5} " + " ".join(f"{name:>12}" for name in COLUMNS) + f" {'failures':>8}"
    )


def serve(scratch: str, workers: int) -> int:
    """Plays what is asked for, one line of JSON each. This process is small, and so its forks are cheap."""
    by_name = {one.name: one for one in OPERATIONS}
    try:
        for line in sys.stdin:
            asked = json.loads(line)
            operation = by_name[asked["name"]]
            if asked.get("only_steps"):
                answer: object = [[step.what, *step.words] for step in record(operation, scratch)]
            else:
                tally = explore(operation, scratch, workers, asked.get("mistake"))
                answer = {**vars(tally), "tried": dict(tally.tried)}
            print(json.dumps(answer), flush=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return 0


def main() -> int:
    """Plays and prints; 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.crashpoints", description=__doc__)
    parser.add_argument("-j", type=int, default=os.cpu_count() or 1, dest="workers", help="processes at once")
    parser.add_argument("--mistake", choices=sorted(MISTAKES), help="a mistake for our code to make")
    parser.add_argument("--serve", action="store_true", help="answer requests of tests on standard input")
    parser.add_argument("names", nargs="*", help="beginnings of names of operations")
    given = parser.parse_args()
    # A run that is told to end takes its files along.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    spawn.become_subreaper()
    # The steps of an operation are the same each time: no slice ends early since this machine is slow.
    folding.SLICE_S = 3600.0
    settle_down()
    scratch = scratch_directory()
    if given.serve:
        return serve(scratch, given.workers)
    chosen = [one for one in OPERATIONS if not given.names or one.name.startswith(tuple(given.names))]
    began_s = time.monotonic()
    total = Tally("all")
    print(header())
    try:
        for operation in chosen:
            tally = explore(operation, scratch, given.workers, given.mistake)
            total.add(tally)
            total.steps += tally.steps
            print(row(tally), f"{tally.seconds:6.1f} s", flush=True)
            for wrong in tally.wrong:
                print(f"  {wrong}")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(row(total))
    print(f"{sum(total.tried.values())} cases in {time.monotonic() - began_s:.0f} s")
    return 1 if total.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
