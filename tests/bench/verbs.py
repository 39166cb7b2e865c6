"""What verbs on single jobs cost beside a long queue: `python -m tests.bench.verbs [JOBS...]`.

Nothing is asserted, since a time is a fact of one machine. For each length the queue has as many waiting jobs
and as many ended ones, and one of each that is meant. Prints the least processor time of some runs of whole
commands in milliseconds, interpreter and imports included, and how many times that of the shortest queue it
is; and what canceling all takes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from roundq.records.spool import Spool
from roundq.words import record_format as formats
from tests.faces.homes import HERE, Homes, record

_MAIN = "from roundq.__main__ import rq; rq()"
LENGTHS = (0, 1_000, 10_000, 100_000)
RUNS = 5
#: Ids that are meant: an ended job, and one that waits.
ENDED, WAITING = "9000000", "9000001"
VERBS = (
    ("show", WAITING),
    ("show", ENDED),
    ("why", WAITING),
    ("cancel", "-n", WAITING),
    ("show", "last"),
    ("show", "9000000-9000001"),
    ("cancel", "-n", "state=running|id=9000001"),
)


def main() -> None:
    """Makes queues of each length, and prints a line for each verb."""
    lengths = [int(word) for word in sys.argv[1:]] or LENGTHS
    best: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as directory:
        for length in lengths:
            homes = Homes(Path(directory) / str(length))
            homes.parent.mkdir()
            _fill(homes.user("ann"), length)
            homes.card(homes.user("ann"), HERE)
            for words in VERBS:
                best.setdefault(" ".join(words), []).append(min(_timed(homes, *words) for _ in range(RUNS)))
            best.setdefault("cancel state=waiting (all of them)", []).append(
                _timed(homes, "cancel", "state=waiting")
            )
    width = max(map(len, best))
    print(f"{'jobs waiting, and as many ended':{width}} " + "".join(f"{length:>16,}" for length in lengths))
    for verb, seconds in best.items():
        cells = (f"{one * 1000:6.0f} ms {one / seconds[0]:5.2f}x" for one in seconds)
        print(f"{verb:{width}} " + "".join(f"{cell:>16}" for cell in cells))


def _fill(spool: Spool, length: int) -> None:
    now_ns = time.time_ns()
    data = {
        "waiting": formats.dump(record("fit", now_ns=now_ns)),
        "completed": formats.dump(record("fit", now_ns=now_ns, began_s=500, ended_s=400, exit_code=0)),
    }
    jobs = [(str(number), "completed") for number in range(1, length + 1)]
    jobs += [(str(number), "waiting") for number in range(length + 1, 2 * length + 1)]
    for job_id, state in (*jobs, (ENDED, "completed"), (WAITING, "waiting")):
        Path(spool.directory(state), f"{job_id}.job").write_bytes(data[state])


def _timed(homes: Homes, *words: str) -> float:
    environ = {"PATH": os.environ["PATH"], **homes.environ("ann"), "RQ_AUTO_START": "no"}
    command = [sys.executable, "-c", _MAIN, *words]
    with subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL) as running:
        # Wall time would tell what else the machine does.
        _, status, used = os.wait4(running.pid, 0)
        running.returncode = os.waitstatus_to_exitcode(status)
    assert running.returncode == 0, words
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
