"""Promises about sweeps that run: two at once do not run a task twice, and what was stopped goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from roundq.faces.api import sweep_outputs as outputs
from roundq.faces.api.sweep import Sweep, load
from roundq.words.states import COMPLETED, ENDED_STATES, RUNNING
from tests.actors.spoolhome import SpoolHome
from tests.cluster.wait import wait_until

FITS = """
import os, time
from roundq.sweep import Task, pset

class Fit(Task):
    sweep = pset("seed", range(6))

    def run(self):
        print("seed", self.params["seed"])
        with open("ran", "a") as file:
            file.write(f"{self.params['seed']}\\n")
        while self.params["seed"] == 3 and not os.path.exists("go"):
            time.sleep(0.02)
        if self.params["seed"] == 5 and not os.path.exists("go"):
            raise ValueError("not yet")
        return {"square": self.params["seed"] ** 2}
"""


def rq(home: SpoolHome, *words: str) -> subprocess.CompletedProcess[str]:
    """Types `rq WORDS` in her home."""
    environ = {**home.environ, "RQ_AUTO_START": "no", "RQ_CORES": "4"}
    command = [sys.executable, "-m", "roundq", *words]
    return subprocess.run(
        command, cwd=home.home, env=environ, capture_output=True, text=True, check=False, timeout=60
    )


def ran(home: SpoolHome) -> list[int]:
    """The seeds whose tasks began, one for each time."""
    path = home.home / "ran"
    return sorted(map(int, path.read_text().split())) if path.exists() else []


@pytest.fixture
def home(tmp_path: Path) -> Iterator[SpoolHome]:
    """Ann's home; nothing of it runs on when the test is over."""
    made = SpoolHome(tmp_path / "homes")
    yield made
    made.stop()


@pytest.fixture
def sweep(home: SpoolHome, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    """A sweep of six tasks in her home: one waits for a file called go, and one fails without it."""
    (home.home / "fits.py").write_text(FITS)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name, text in home.environ.items():
        monkeypatch.setenv(name, text)
    found = load("fits.py:Fit", str(home.home))
    del sys.modules["fits"]
    return found


def test_two_sweeps_at_once_run_no_task_twice_and_go_on_after_an_end(home: SpoolHome, sweep: Sweep) -> None:
    """Both have all tasks in the queue, as if each had looked before the other had submitted.

    Each task is run by one of the two jobs that have it; the other ends well. What failed, and what was
    canceled, is done by the next submission, and nothing else.
    """
    for _ in range(2):
        tasks = list(sweep.tasks.values())
        plan = sweep.plan(tasks)
        words = ["run", "--parsable", "--array", "0-5", "-o", plan.job_output, "--", sys.executable, "-c"]
        # Of each plan the job of one index runs the task of the same.
        script = (
            "import json, os, sys; plan, index = sys.argv[1], int(sys.argv[2])\n"
            "lines = open(plan, 'rb').read().splitlines(True)\n"
            "word = [str(sum(map(len, lines[: index + 1]))), json.loads(lines[index + 1])['hash']]\n"
            "os.execv(sys.executable, [sys.executable, '-m', 'roundq.faces.api.sweep_task', plan, *word])"
        )
        assert rq(home, *words, script, plan.path, "{index}").returncode == 0
    home.daemon(RQ_CORES="4")
    ids = [f"{array}_{index}" for array in (1, 2) for index in range(6)]
    waits = {f"{array}_3" for array in (1, 2)}
    for job_id in ids:
        if job_id not in waits:
            home.wait_for(job_id)
    wait_until(lambda: 3 in ran(home), 20, on_timeout=home.story)
    # What failed in one of the two was run again by the other, unless that looked before.
    seeds = ran(home)
    assert [seeds.count(seed) for seed in range(5)] == [1] * 5
    assert seeds.count(5) in (1, 2)
    # One of the two has it, and the other leaves it to that.
    wait_until(
        lambda: sorted(home.state(job_id) for job_id in waits) == [COMPLETED, RUNNING],
        20,
        on_timeout=home.story,
    )
    states = [state.state for state in sweep.states(home.environ).values()]
    assert states == [outputs.DONE] * 3 + [outputs.BEGUN, outputs.DONE, outputs.BROKEN]

    assert rq(home, "cancel", "--wait", *waits).returncode in (0, 1)
    assert all(home.state(job_id) in ENDED_STATES for job_id in ids)
    (home.home / "go").touch()
    said = rq(home, "sweep", "--wait", "fits.py:Fit")
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout == 'submitted 3 "Fit", 2 tasks; 4 done\n'
    assert ran(home) == sorted([*seeds, 3, 5])
    assert rq(home, "log", "3_0").stdout.count("seed 3\n") == 1
    gathered = rq(home, "gather", "-o", "all.jsonl", "fits.py:Fit")
    assert (gathered.returncode, gathered.stderr) == (0, "")
    rows = [json.loads(line) for line in Path(home.home, "all.jsonl").read_text().splitlines()]
    assert [(row["seed"], row["square"]) for row in rows] == [(seed, seed**2) for seed in range(6)]
