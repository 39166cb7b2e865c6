"""What a submission costs: run it with `python -m tests.bench.submission [ROUNDS]`, of arrays after the rest.

Nothing is asserted, since a time is a fact of one machine; the budget of `rq run` is six times a bare
interpreter. Prints wall and processor time, the best and the median, each in milliseconds and as a
multiple of the bare interpreter. The ways take turns, so that a busy machine is unfair to none.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from roundq.records import cards
from roundq.world import procs
from tests.faces.homes import HERE, Homes, card

#: As the `rq` of an installation does it.
_MAIN = "from roundq.__main__ import rq; rq()"
_CONFIGURATION = 'grace = 20\nmax_output = "5M"\n'


def main() -> None:
    """Times each way of submitting, and prints a line for each."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    with tempfile.TemporaryDirectory() as directory:
        homes = Homes(Path(directory))
        for name in ("ann", "bob"):
            # A daemon that lives, as this process does: none is started.
            cards.publish(homes.user(name), replace(card(name, HERE), process=procs.own_identity()))
        (homes.parent / "bob" / ".config").mkdir()
        (homes.parent / "bob" / ".config" / "roundq.toml").write_text(_CONFIGURATION)
        rq = [sys.executable, "-c", _MAIN]
        ways = {
            "bare interpreter": ("ann", [sys.executable, "-I", "-c", "pass"]),
            "rq version": ("ann", [*rq, "version"]),
            "rq run true": ("ann", [*rq, "run", "true"]),
            "rq run -J x -c 2 true": ("ann", [*rq, "run", "-J", "x", "-c", "2", "true"]),
            "rq run true, configured": ("bob", [*rq, "run", "true"]),
        }
        times: dict[str, list[tuple[float, float]]] = {title: [] for title in ways}
        for _ in range(rounds):
            for title, (user, command) in ways.items():
                times[title].append(_timed(command, homes.environ(user)))
        bare = times["bare interpreter"]
        print(f"{'':26}{'wall: best':>12}{'median':>9}{'processor: best':>18}{'median':>9}")
        for title, each in times.items():
            print(f"{title:26}{_of(each, bare, 0)}  {_of(each, bare, 1)}")


def arrays() -> None:
    """Times arrays, of which each task is a file; a new home each, and the best and the median of five.

    BENCH_DIR says on which file system.
    """
    print(f"{'':26}{'wall: best':>12}{'median':>9}{'a task: best':>16}")
    for count in (100, 1000, 10_000):
        taken = []
        for _ in range(5):
            with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as directory:
                homes = Homes(Path(directory))
                cards.publish(homes.user("ann"), replace(card("ann", HERE), process=procs.own_identity()))
                command = [sys.executable, "-c", _MAIN, "run", "--array", f"0-{count - 1}", "true"]
                taken.append(_timed(command, homes.environ("ann"))[0])
        best, median = min(taken), statistics.median(taken)
        print(f"{f'array of {count:,} tasks':26}{best:10.2f} s{median:7.2f} s{best / count * 1e6:13.0f} us")


def _timed(command: list[str], environ: dict[str, str]) -> tuple[float, float]:
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2]), **environ}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began_s = time.perf_counter()
    subprocess.run(command, env=environ, stdout=subprocess.DEVNULL, check=True, cwd=environ["HOME"])
    wall_s = time.perf_counter() - began_s
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _of(each: list[tuple[float, float]], bare: list[tuple[float, float]], kind: int) -> str:
    mine, theirs = sorted(one[kind] for one in each), sorted(one[kind] for one in bare)
    best, median = mine[0], statistics.median(mine)
    return (
        f"{best * 1e3:6.1f} {best / theirs[0]:4.1f}x {median * 1e3:6.1f}"
        f" {median / statistics.median(theirs):4.1f}x"
    )


if __name__ == "__main__":
    main()
    arrays()
