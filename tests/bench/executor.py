"""What a call of a function costs as a job: run it with `python -m tests.bench.executor [CALLS [NAMES...]]`.

Each way maps a trivial function over so many numbers, 1,000 if nobody says, on as many cores as this
machine has. Printed is the time from the call of `map` to the last result, and that by call; and the
processor time by call of all processes that were waited for, which a busy machine changes less. Beside
roundq, in jobs of one call and of fifty, are the processes of concurrent.futures, which live on, and a
process for each call, which is the least that a queue can do. submitit's local executor and HyperQueue are
played where they are installed (`pip install submitit hyperqueue`); HyperQueue brings no values back, so it
is waited for. Nothing is asserted, since a time is a fact of one machine.
"""

from __future__ import annotations

import concurrent.futures
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.actors.spoolhome import SpoolHome

CORES = len(os.sched_getaffinity(0))


def trivial(number: int) -> int:
    """What is called."""
    return number + 1


def _roundq(calls: int, chunk: int) -> float:
    import roundq

    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as directory:
        home = SpoolHome(Path(directory) / "homes")
        try:
            home.daemon()
            queue = roundq.Queue(environ={**os.environ, **home.environ})
            with roundq.Executor(queue=queue) as executor:
                # What an interpreter loads once is not what a call costs.
                executor.submit(trivial, 0).result(60)
                return _mapped(lambda: executor.map(trivial, range(calls), chunksize=chunk), calls)
        finally:
            home.stop()


def _mapped(mapped: Callable[[], Any], calls: int) -> float:
    began_s = time.monotonic()
    values = list(mapped())
    took_s = time.monotonic() - began_s
    assert values == list(range(1, calls + 1))
    return took_s


def _processes(calls: int) -> float:
    with concurrent.futures.ProcessPoolExecutor(CORES) as executor:
        executor.submit(trivial, 0).result(60)
        return _mapped(lambda: executor.map(trivial, range(calls)), calls)


def _one_each(calls: int) -> float:
    """A new interpreter for each call, which imports cloudpickle."""
    words = [sys.executable, "-c", "import cloudpickle"]

    def run(number: int) -> int:
        subprocess.run(words, check=True)
        return number + 1

    with concurrent.futures.ThreadPoolExecutor(CORES) as executor:
        return _mapped(lambda: executor.map(run, range(calls)), calls)


def _submitit(calls: int) -> float:
    import submitit  # type: ignore[import-not-found, unused-ignore]

    # It starts all at once, each with a process beside it: as many as there are cores, then.
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as directory:
        executor = submitit.LocalExecutor(directory)
        executor.update_parameters(timeout_min=10)

        def results() -> Any:
            for first in range(0, calls, CORES):
                jobs = executor.map_array(trivial, range(first, min(first + CORES, calls)))
                yield from (job.result() for job in jobs)

        return _mapped(results, calls)


def _hyperqueue(calls: int) -> float:
    from hyperqueue import Job  # type: ignore[import-not-found, unused-ignore]
    from hyperqueue.cluster import LocalCluster  # type: ignore[import-not-found, unused-ignore]

    with tempfile.TemporaryDirectory() as directory, LocalCluster() as cluster:
        cluster.start_worker()
        client = cluster.client()
        os.chdir(directory)
        began_s = time.monotonic()
        job = Job()
        for number in range(calls):
            job.function(trivial, args=(number,))
        client.wait_for_jobs([client.submit(job)])
        return time.monotonic() - began_s


WAYS: dict[str, Callable[[int], float]] = {
    "processes": _processes,
    "one-each": _one_each,
    "roundq": lambda calls: _roundq(calls, 1),
    "roundq-50": lambda calls: _roundq(calls, 50),
    "submitit": _submitit,
    "hyperqueue": _hyperqueue,
}


def _processor_s() -> float:
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def main() -> None:
    """Times each way, and prints a line for each."""
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    print(f"{calls:,} calls on {CORES} cores; load {os.getloadavg()[0]:.1f}")
    for name, way in WAYS.items():
        if sys.argv[2:] and name not in sys.argv[2:]:
            continue
        try:
            before_s = _processor_s()
            took_s = way(calls)
        except ImportError as error:
            print(f"{name:12}not installed: {error}")
            continue
        used_s = _processor_s() - before_s
        told = f"{1000 * took_s / calls:9.2f} ms a call, {1000 * used_s / calls:7.2f} ms of processor"
        print(f"{name:12}{took_s:8.2f} s{told}", flush=True)


if __name__ == "__main__":
    main()
