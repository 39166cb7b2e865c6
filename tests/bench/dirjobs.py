"""What a job of a long job directory costs: `python -m tests.bench.dirjobs [FILES...]`.

Nothing is asserted, since a time is a fact of one machine. A worker takes every file of a directory and is
done with it at once. Prints for each length: the time of the first job, of `next_and_lock` and of `done` for
one of all, how often what waits was listed, and what a job costs that lists it anew, as the first dirjobs did
for each.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from pathlib import Path

from roundq.dirjobs import DirJobs
from roundq.faces.api.waiting import Waiting

LENGTHS = (1_000, 10_000, 100_000)
#: So many jobs are enough to know what listing anew costs.
ANEW = 20


def main() -> None:
    """Prints a line for each length and order."""
    lengths = [int(word) for word in sys.argv[1:]] or LENGTHS
    print("     files  order   first job  next_and_lock      done  listed   listing anew")
    for length in lengths:
        for is_random in (True, False):
            with tempfile.TemporaryDirectory() as directory:
                _measure(Path(directory), length, is_random)


def _measure(directory: Path, length: int, is_random: bool) -> None:
    waiting = directory / "00_waiting"
    waiting.mkdir()
    for number in range(length):
        (waiting / f"{number:06}.txt").touch()
    anew_s = _anew(directory, length, is_random)
    lists = 0
    real = Waiting.refresh

    def counted(self: Waiting) -> object:
        nonlocal lists
        lists += 1
        return real(self)

    Waiting.refresh = counted  # type: ignore[method-assign, assignment]
    worker = DirJobs(directory, rnd_job=is_random)
    first_s = next_s = done_s = 0.0
    count = 0
    while True:
        began_s = time.perf_counter()
        job = worker.next_and_lock()
        taken_s = time.perf_counter()
        if job is None:
            break
        job.done()
        done_s += time.perf_counter() - taken_s
        next_s += taken_s - began_s
        first_s = first_s or taken_s - began_s
        count += 1
    Waiting.refresh = real  # type: ignore[method-assign]
    assert count == length == len(os.listdir(directory / "02_done"))
    order = "random" if is_random else "name"
    print(
        f"{length:10,}  {order:6} {first_s * 1000:7.1f} ms"
        f" {next_s / length * 1e6:11.0f} us {done_s / length * 1e6:6.0f} us {lists:7}"
        f" {anew_s * 1000:11.1f} ms"
    )


def _anew(directory: Path, length: int, is_random: bool) -> float:
    """Seconds for a job that is chosen from a new list; nothing is moved for good."""
    began_s = time.perf_counter()
    for _ in range(ANEW):
        names = [name for name in os.listdir(directory / "00_waiting") if name.endswith(".txt")]
        name = random.choice(names) if is_random else min(names)
        os.rename(directory / "00_waiting" / name, directory / name)
        os.rename(directory / name, directory / "00_waiting" / name)
    assert len(names) == length
    return (time.perf_counter() - began_s) / ANEW


if __name__ == "__main__":
    main()
