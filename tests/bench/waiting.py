"""What a very long queue costs its daemon: run it with `python -m tests.bench.waiting [JOBS]`.

Nothing is asserted, since a time is a fact of one machine. For no jobs, jobs of arrays of ten thousand, and
as many single jobs, a daemon's rounds are played by hand in a process of their own. Prints how long the new
files take to be read, a round in which nothing changed, the private memory of the process, and the jobs a
second of a hundred that do nothing, beside those of a queue that is no longer than that. BENCH_DIR says on
which file system.
"""

from __future__ import annotations

import logging
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil

from roundq.actors import submission
from roundq.actors.round import Round
from roundq.records import spool as spools
from roundq.records.spool import Spool
from roundq.words.job import Array, Job, Task
from roundq.words.states import WAITING
from roundq.world import files
from roundq.world.config import Config
from roundq.world.node import Node
from tests.faces.homes import HERE

IN_ARRAY = 10_000
FEW = 100
TRUE = "/bin/true"


def main() -> None:
    """Prints a line for each figure of each queue."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    os.environ["RQ_NODE"] = HERE
    print(f"{'':30}{'read':>10}{'again':>11}{'median':>10}{'longest':>10}{'memory':>10}{'jobs/s':>9}")
    for title, jobs, in_array in (
        ("no queue to speak of", FEW, 1),
        (f"{count:,} in arrays", count, IN_ARRAY),
        (f"{count:,} single", count, 1),
    ):
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as directory:
                measure(Path(directory), title, jobs, in_array)
            sys.stdout.flush()
            os._exit(0)
        os.waitpid(child, 0)


def fill(spool: Spool, directory: Path, jobs: int, in_array: int) -> None:
    """Puts jobs into the queue that do nothing, in arrays or each for itself, in another process."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    environ = {"HOME": str(directory / "ann"), "PATH": os.environ["PATH"]}
    job = Job((TRUE,), directory=str(directory), output="out", max_output=0)
    for first in range(0, jobs, max(in_array, 10_000)):
        many = min(jobs - first, max(in_array, 10_000))
        if in_array == 1:
            submission.submit(spool, [job] * many, environ, HERE)
        else:
            of = Job((TRUE,), array=Array("", 0, 0, many - 1, 1, many), directory=job.directory, output="out")
            parts = [[Task(index, (TRUE,))] for index in range(many)]
            submission.submit_array(spool, of, parts, environ, HERE)
    os._exit(0)


def measure(directory: Path, title: str, jobs: int, in_array: int) -> None:
    """Plays the rounds of one daemon with one queue."""
    (directory / "ann").mkdir()
    spool = spools.at(str(directory / "ann"), "ann", os.geteuid())
    fill(spool, directory, jobs, in_array)
    cores = [0]
    log = logging.getLogger("bench")

    def config() -> tuple[Config, str | None]:
        return Config((str(directory),), cores=cores[0] or 1), None

    play = Round(spool, Node(os.environ), config, log, time.time_ns())
    # Nothing begins yet.
    play.unsafe = "this is a bench"
    began_s = time.perf_counter()
    while len(play.waiting) < jobs:
        play.run(time.monotonic())
    read_s = time.perf_counter() - began_s
    files.touch(spool.directory(WAITING))
    began_s = time.perf_counter()
    play.run(time.monotonic() + 60)
    again_s = time.perf_counter() - began_s
    play.unsafe, play.config = None, config()[0]
    # All cores are another's: each round decides, and nothing begins.
    play.tenants.by_id.clear()
    now_s = time.monotonic() + 120
    taken = []
    claim, play._claim = play._claim, lambda *_: None  # type: ignore[method-assign]
    for number in range(33):
        began_s = time.perf_counter()
        play.run(now_s + number / 100)
        taken.append(1000 * (time.perf_counter() - began_s))
    play._claim = claim  # type: ignore[method-assign]
    memory = psutil.Process().memory_full_info().uss / 2**20
    cores[0] = 2
    rate = stream(play, spool)
    print(
        f"{title:30}{read_s:8.2f} s{again_s * 1000:8.0f} ms{statistics.median(taken[3:]):7.1f} ms"
        f"{max(taken[3:]):7.1f} ms{memory:7.0f} MB{rate:9.0f}"
    )
    play.draining = play.unsafe = "the end"
    while len(play.tenants):
        play.run(time.monotonic() + 240)
    play.leave()


def stream(play: Round, spool: Spool) -> float:
    """Jobs a second, of the first hundred."""
    began_s = time.perf_counter()
    ended = 0
    while ended < FEW:
        before = len(play.tenants)
        again_s = play.run(time.monotonic() + 240)
        ended = sum(1 for _ in os.scandir(spool.directory("completed")))
        if len(play.tenants) == before:
            time.sleep(min(again_s, 0.001))
    return ended / (time.perf_counter() - began_s)


if __name__ == "__main__":
    main()
