"""What a sweep costs: `python -m tests.bench.sweep [SETS]`, of 100,000 parameter sets unless it is said.

Nothing is asserted; the budget is 60 s for hashing and submitting 100,000. The tasks are not run: some are
given results, as if they were done. BENCH_DIR says on which file system.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from roundq.faces.api.sweep import Sweep, load
from roundq.records import cards
from roundq.words.parameters import digest
from roundq.words.psets import pset
from roundq.world import procs
from tests.faces.homes import HERE, Homes, card

T = TypeVar("T")
_MODULE = """
from roundq.sweep import Task, pset

class Fit(Task):
    sweep = pset("lr", [n / 1000 for n in range({lr})]) * pset("seed", range(100)) * pset("how", ["fast"])

    def run(self):
        return self.params["lr"]
"""


def main() -> None:
    """Times each step, and prints a line for it."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as directory:
        homes = Homes(Path(directory))
        # A daemon that lives, as this process does: none is started.
        cards.publish(homes.user("ann"), replace(card("ann", HERE), process=procs.own_identity()))
        work = homes.parent / "work"
        work.mkdir()
        (work / "fits.py").write_text(_MODULE.format(lr=count // 100))
        os.environ.update(homes.environ("ann"))
        sets = _timed("making the sets", lambda: pset("lr", range(count // 100)) * pset("seed", range(100)))
        _timed("hashing them", lambda: [digest(params) for params in sets])
        sweep = _timed("rq sweep: importing, hashing", lambda: load("fits:Fit", str(work)))
        _timed("looking what is done", sweep.states)
        _timed("rq sweep --dry-run", lambda: _rq(work, "sweep", "--dry-run", "fits:Fit"))
        _timed("rq sweep", lambda: _rq(work, "sweep", "fits:Fit"))
        _timed("rq sweep, all of it waiting", lambda: _rq(work, "sweep", "fits:Fit"))
        _timed(f"(giving {count // 10:,} of them results)", lambda: _finish(sweep, count // 10))
        _timed("rq sweep --status", lambda: _rq(work, "sweep", "--status", "fits:Fit"))
        _timed("rq gather", lambda: _rq(work, "gather", "fits:Fit"))


def _timed(what: str, do: Callable[[], T]) -> T:
    began_s = time.perf_counter()
    result = do()
    print(f"{what:34}{time.perf_counter() - began_s:8.2f} s", flush=True)
    return result


def _rq(work: Path, *words: str) -> None:
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "roundq", *words]
    null = subprocess.DEVNULL
    subprocess.run(command, cwd=work, env=environ, stdout=null, stderr=null, check=False)


def _finish(sweep: Sweep, count: int) -> None:
    for task in list(sweep.tasks.values())[:count]:
        os.mkdir(sweep.directory_of(task))
        for name, value in (
            ("run-1.json", {}),
            ("result.json", {"run": 1, "sweep": "", "result": {"loss": 0.5}}),
        ):
            Path(sweep.directory_of(task), name).write_text(json.dumps(value))


if __name__ == "__main__":
    main()
