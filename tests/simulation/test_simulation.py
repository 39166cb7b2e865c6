"""Thousands of seeds of a world that misbehaves: nothing lost, nothing twice, nothing untrue."""

from __future__ import annotations

import os
import subprocess
import sys

#: A longer run is one command: python -m tests.simulation --minutes 30
SEEDS = 2000


def start(*words: str) -> subprocess.Popen[str]:
    """A process that plays seeds."""
    command = [sys.executable, "-m", "tests.simulation", *words]
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return subprocess.Popen(
        command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )


def test_a_world_that_misbehaves_loses_nothing_runs_nothing_twice_and_tells_nothing_untrue() -> None:
    """Whatever of tests/faults.md happens, the judge of tests/simulation/judge.py finds nothing."""
    count = os.cpu_count() or 1
    share = -(-SEEDS // count)
    players = [start("--seeds", f"{n * share}-{(n + 1) * share - 1}") for n in range(count)]
    said = [player.communicate()[0] for player in players]

    for player, text in zip(players, said, strict=True):
        print(text)
        assert player.returncode == 0, text[-6000:]


def test_a_seed_reproduces_a_run_exactly() -> None:
    """The same operations in the same order, whatever was played before it."""
    first, again, alone = (
        start("--seeds", "0-11", "--traces"),
        start("--seeds", "0-11", "--traces"),
        start("--seeds", "11-11", "--traces"),
    )
    traces = [
        [line for line in player.communicate()[0].splitlines() if len(line.split()) == 3]
        for player in (first, again, alone)
    ]

    assert len(traces[0]) == 12
    assert len({line.split()[1] for line in traces[0]}) == 12
    assert traces[0] == traces[1]
    assert traces[0][-1:] == traces[2]
