"""Promises about roundq.checkpoint: a job that is told of its end goes on from there in its next attempt."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

import roundq
from roundq.faces.api import checkpoint
from tests.actors.spoolhome import SpoolHome
from tests.cluster.wait import wait_until


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SpoolHome]:
    made = SpoolHome(tmp_path_factory.mktemp("checkpoint") / "homes")
    made.daemon(RQ_CORES="4")
    yield made
    made.stop()


@pytest.fixture
def queue(home: SpoolHome) -> roundq.Queue:
    return roundq.Queue(environ={**os.environ, **home.environ})


class Count:
    """Counts up to a number, slowly, and tells where it runs."""

    def __init__(self) -> None:
        self.at = 0
        self.attempts: list[int] = []

    def __call__(self, path: str, stop: int) -> Any:
        """Itself, when it has counted so far."""
        self.attempts.append(self.at)
        while self.at < stop:
            self.at += 1
            if self.at == 3:
                with open(f"{path}.new", "w") as file:
                    file.write(str(os.getpid()))
                os.rename(f"{path}.new", path)
            # It goes on from 3 in the next attempt, and not before.
            time.sleep(0.01 if self.at != 3 or len(self.attempts) > 1 else 20)
        return self

    def checkpoint(self) -> None:
        """It has all it needs to go on."""


def test_an_object_goes_on_in_the_next_attempt(home: SpoolHome, queue: roundq.Queue) -> None:
    """Told, as before its time limit, it is saved as it is then, and called again with the same arguments."""
    path = home.home / "pid"
    with roundq.Executor(queue=queue, restart=True, time=600, signal="USR2@60") as executor:
        future = executor.submit(Count(), str(path), 7)
        wait_until(path.exists, 30, on_timeout=home.story)
        os.kill(int(path.read_text()), signal.SIGUSR2)
        got = future.result(30)
    assert type(got) is Count
    assert (got.at, got.attempts) == (7, [0, 3])
    record = home.record(future.job.id)
    assert [(one.reason, one.exit_code) for one in record.attempts] == [("restarted", 75)]


def test_what_an_object_gives_at_the_signal_takes_its_place(home: SpoolHome, queue: roundq.Queue) -> None:
    class Sleeper:
        def __call__(self, path: str) -> str:
            open(path, "x").close()
            time.sleep(20)
            return "slept"

        def checkpoint(self) -> Any:
            return lambda path: f"woken, {os.path.basename(path)}"

    with roundq.Executor(queue=queue, restart=True, signal="USR2@60") as executor:
        future = executor.submit(Sleeper(), str(home.home / "there"))
        wait_until((home.home / "there").exists, 20)
        (job,) = queue.jobs(future.job.id)
        restart(queue, job)
        assert future.result(30) == "woken, there"


def restart(queue: roundq.Queue, job: roundq.Job) -> None:
    """As `rq restart` does."""
    from roundq.actors import queue as queues

    asker = queue._person()
    assert queues.restart(asker.spool, queue._row(job.id), asker.node) == queues.ASKED


def test_a_function_asks_itself_and_gives_its_next_arguments(home: SpoolHome, queue: roundq.Queue) -> None:
    """When it is told, or whenever it wants to."""

    def fn(path: str, seen: tuple[bool, ...] = ()) -> tuple[bool, ...]:
        if not seen:
            open(path, "x").close()
            for _ in range(2000):
                if roundq.checkpoint_due():
                    break
                time.sleep(0.01)
        if len(seen) < 2:
            roundq.checkpoint(path, seen=(*seen, roundq.checkpoint_due()))
        return seen

    with roundq.Executor(queue=queue, restart=True, signal="USR2@60") as executor:
        future = executor.submit(fn, str(home.home / "here"))
        wait_until((home.home / "here").exists, 20)
        restart(queue, future.job)
        assert future.result(30) == (True, False)
    assert home.record(future.job.id).attempt == 3


def test_a_job_that_may_not_be_run_again_is_told_so(queue: roundq.Queue) -> None:
    """And neither may one of several calls of a job."""

    def fn(*args: Any) -> None:
        roundq.checkpoint(*args)

    with roundq.Executor(queue=queue) as executor:
        error = executor.submit(fn).exception(30)
        assert isinstance(error, roundq.RoundqError)
        assert str(error) == "checkpoint: this job may not be run again"
        assert "restart=True" in (error.hint or "")
        results = executor.with_options(restart=True).map(fn, range(2), chunksize=2)
        with pytest.raises(roundq.RoundqError, match="this job runs 2 calls"):
            next(results)


def test_elsewhere_there_is_nothing_to_ask() -> None:
    assert not checkpoint.checkpoint_due()
    with pytest.raises(roundq.RoundqError, match="this is no job of an Executor"):
        checkpoint.checkpoint(1)
