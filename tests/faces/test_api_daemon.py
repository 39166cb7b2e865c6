"""Promises about jobs of a program that a real daemon runs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import roundq
from roundq import Queue, State
from roundq.world import procs
from tests.actors.spoolhome import SpoolHome
from tests.cluster.wait import wait_until

#: How long a job may take on a machine that is busy with other things.
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SpoolHome]:
    """Ann's home, with a daemon, for all tests here."""
    made = SpoolHome(tmp_path_factory.mktemp("api") / "homes")
    made.daemon(RQ_CORES="4")
    yield made
    made.stop()


@pytest.fixture
def queue(home: SpoolHome, monkeypatch: pytest.MonkeyPatch) -> Queue:
    """Her queue, and she in her home."""
    monkeypatch.chdir(home.home)
    return Queue(environ={**home.environ, "RQ_AUTO_START": "no"})


def test_a_job_runs_and_tells_how(queue: Queue) -> None:
    """Its output, how it ended, and in which environment it ran."""
    job = queue.submit(["sh", "-c", "echo out $MINE; echo err >&2; exit 3"], env={"MINE": "x"}, error="e.%j")
    with pytest.raises(roundq.JobFailed, match="exit code 3") as raised:
        job.result(PATIENCE_S)
    assert (job.stdout(), job.stderr()) == ("out x\n", "err\n")
    outcome = raised.value.outcome
    assert outcome == job.outcome
    assert outcome is not None
    assert (outcome.exit_code, outcome.reason, outcome.node) == (3, "exit", "testnode")


def test_jobs_of_an_array_come_as_they_end(queue: Queue, tmp_path: Path) -> None:
    """The first comes last if it takes longest."""
    go = tmp_path / "go"
    patient = ["sh", "-c", f"until [ -e {go} ]; do sleep 0.05; done"]
    array = queue.submit_array([patient, ["true"], ["echo", "{}"]])
    come = queue.as_completed(array.tasks, timeout=PATIENCE_S)
    assert {next(come), next(come)} == set(array.tasks[1:])
    go.touch()
    assert next(come) == array.tasks[0]
    assert array.result().is_well
    assert array.tasks[2].stdout() == "{}\n"


def test_a_canceled_job_is_dead_when_it_has_ended(queue: Queue, home: SpoolHome) -> None:
    """Also from another thread that waits for it."""
    job = queue.submit(["sh", "-c", "echo $$ >pid; exec sleep 600"])
    wait_until(lambda: home.output("pid").strip(), PATIENCE_S)
    pid = int(home.output("pid"))
    assert procs.exists(pid, os.geteuid())
    assert job.cancel()
    with pytest.raises(roundq.JobCanceled):
        job.result(PATIENCE_S)
    assert not procs.exists(pid, os.geteuid())


def test_a_time_limit_is_told_from_a_failure(queue: Queue) -> None:
    """Together with others that are awaited."""

    async def main() -> list[roundq.Outcome]:
        return list(await asyncio.gather(queue.submit("sleep 600", time=0.3), queue.submit("true")))

    stopped, well = asyncio.run(main())
    assert (stopped.state, stopped.reason) == (State.FAILED, "time limit")
    assert well.is_well


def test_a_job_comes_after_another(queue: Queue, tmp_path: Path) -> None:
    """By its handle; and one that waits for what was canceled is canceled."""
    first = queue.submit(["sh", "-c", f"sleep 0.2; echo 1 >>{tmp_path}/log"])
    second = queue.submit(["sh", "-c", f"echo 2 >>{tmp_path}/log"], after=first)
    queue.wait([first, second], timeout=PATIENCE_S)
    assert (tmp_path / "log").read_text() == "1\n2\n"
    long = queue.submit("sleep 600")
    never = queue.submit("true", after=[first, long])
    long.cancel()
    assert never.wait(PATIENCE_S).reason == "dependency"


def test_what_a_program_submits_outlives_it(home: SpoolHome, queue: Queue) -> None:
    """Another program waits for it by its id, and finds how it ended long after."""
    job_id = queue.submit("true", name="lasting").id
    del queue
    other = Queue(environ=home.environ)
    assert other.job(job_id).wait(PATIENCE_S).is_well
    assert other.job("lasting").id == job_id
