"""Promises about roundq.Executor: those of concurrent.futures, with jobs of a real daemon.

What is asked for here is what CPython's own tests of its executors ask for, as far as it concerns jobs.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
import warnings
import weakref
from collections.abc import Iterator
from concurrent.futures import CancelledError, as_completed, wait
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

import roundq
from roundq.faces.api import calls, watcher
from roundq.faces.api import executor as executors
from roundq.records import control
from roundq.words.states import State
from tests.actors.spoolhome import SpoolHome
from tests.cluster.wait import wait_until
from tests.faces.desk import Desk


class Place:
    """A home with a daemon, for all tests of this file, and what they expect there."""

    def __init__(self, home: SpoolHome) -> None:
        self.home = home
        self.queue = roundq.Queue(environ={**os.environ, **home.environ})
        self.base = home.home / calls.DIRECTORY

    def executor(self, *args: Any, **options: Any) -> roundq.Executor:
        """An executor whose jobs this daemon runs."""
        return roundq.Executor(*args, queue=self.queue, **options)

    def exchanges(self) -> list[str]:
        """What lies there of executors that were not shut down."""
        return os.listdir(self.base) if self.base.exists() else []


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    home = SpoolHome(tmp_path_factory.mktemp("executor") / "homes")
    home.daemon(RQ_CORES="4")
    yield Place(home)
    home.stop()


@pytest.fixture
def executor(place: Place) -> Iterator[roundq.Executor]:
    with place.executor() as made:
        yield made


@pytest.fixture
def stuck(place: Place) -> Iterator[roundq.Executor]:
    """One whose jobs are on hold: they do not begin."""
    made = place.executor(hold=True)
    yield made
    made.shutdown(cancel_futures=True)


# ---------------------------------------------------------------- submit


def test_a_call_is_a_job(executor: roundq.Executor) -> None:
    """Its value comes back, keywords named as parameters of `submit` go to the function."""
    future = executor.submit(lambda *a, **k: (a, k), 1, self=2, fn=3)
    assert future.result(30) == ((1,), {"self": 2, "fn": 3})
    assert future.done()
    assert not future.cancelled()
    assert not future.cancel()
    assert future.job.outcome is not None
    assert future.job.outcome.is_well
    assert "<lambda>" in (future.job.name or "")
    assert future.exception() is None


def test_an_exception_has_its_traceback_as_the_cause(executor: roundq.Executor) -> None:
    def fn() -> float:
        return 1 / 0  # here

    future = executor.submit(fn)
    error = future.exception(30)
    assert type(error) is ZeroDivisionError
    assert "return 1 / 0  # here" in str(error.__cause__)
    assert future.job.state is State.FAILED


def test_a_call_runs_in_the_submitters_interpreter_directory_and_environment(place: Place) -> None:
    def fn() -> tuple[str, str, str | None]:
        return sys.executable, os.getcwd(), os.environ.get("COLOR")

    with place.executor(env={"COLOR": "blue"}) as executor:
        assert executor.submit(fn).result(30) == (sys.executable, os.getcwd(), "blue")


def test_options_are_those_of_jobs_for_an_executor_and_for_a_call(place: Place) -> None:
    def fn() -> str:
        return os.environ["RQ_CPUS"]

    with place.executor(cores=2, set="cores") as executor:
        future, wide = executor.submit(fn), executor.with_options(cores=3).submit(fn)
        assert (future.result(30), wide.result(30)) == ("2", "3")
        assert {job.id for job in place.queue.jobs("%cores")} == {future.job.id, wide.job.id}
    with pytest.raises(TypeError, match="no option of a job is called 'core'; did you mean 'cores'"):
        place.executor(core=2)
    with pytest.raises(roundq.UsageError, match="it is negative"):
        place.executor(cores=-2)


def test_what_cannot_be_pickled_is_refused_at_once(executor: roundq.Executor) -> None:
    with pytest.raises(roundq.ExchangeError, match="argument 1 of abs cannot be sent to a job"):
        executor.submit(abs, threading.Lock())


def test_without_cloudpickle_it_is_said_how_to_get_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    with pytest.raises(roundq.ExchangeError, match="cloudpickle, which is not installed") as caught:
        place.executor()
    assert caught.value.hint == f"{sys.executable} -m pip install cloudpickle"


def test_callbacks_may_submit_more(executor: roundq.Executor) -> None:
    got: list[Any] = []
    there = threading.Event()

    def more(future: Any) -> None:
        got.append(executor.submit(abs, future.result() - 10))
        there.set()

    executor.submit(abs, -3).add_done_callback(more)
    assert there.wait(30)
    assert got[0].result(30) == 7


def test_wait_and_as_completed_know_these_futures(executor: roundq.Executor) -> None:
    futures = [executor.submit(abs, -n) for n in range(3)]
    assert sorted(future.result() for future in as_completed(futures, timeout=30)) == [0, 1, 2]
    assert wait(futures, timeout=30).not_done == set()


def test_nothing_keeps_arguments_and_results_alive(executor: roundq.Executor) -> None:
    class Thing:
        pass

    given = Thing()
    known = weakref.ref(given)
    future = executor.submit(lambda thing: thing, given)
    del given
    wait_until(lambda: gc.collect() >= 0 and known() is None, 10)
    result = weakref.ref(future.result(30))
    del future
    wait_until(lambda: gc.collect() >= 0 and result() is None, 10)


# ---------------------------------------------------------------- map


def test_map_is_like_the_builtin_map(executor: roundq.Executor) -> None:
    """In order, of several iterables until the first ends, whatever the chunks; as one array."""
    assert list(executor.map(pow, range(5), range(5))) == [1, 1, 4, 27, 256]
    assert list(executor.map(lambda x: x + 1, range(7), chunksize=3)) == list(range(1, 8))
    assert list(executor.map(abs, [])) == []
    assert list(executor.map(abs, range(5), buffersize=2)) == list(range(5))


def test_map_yields_what_came_before_an_exception(executor: roundq.Executor) -> None:
    for chunk in (1, 5):
        results = executor.map(divmod, [1, 1, 1, 1], [1, 1, 0, 1], chunksize=chunk)
        assert [next(results), next(results)] == [(1, 0), (1, 0)]
        with pytest.raises(ZeroDivisionError):
            next(results)


def test_map_refuses_what_it_cannot_do(executor: roundq.Executor) -> None:
    with pytest.raises(ValueError, match="chunksize"):
        executor.map(abs, [1], chunksize=0)
    with pytest.raises(ValueError, match="buffersize"):
        executor.map(abs, [1], buffersize=0)
    with pytest.raises(TypeError, match="buffersize"):
        executor.map(abs, [1], buffersize=1.5)  # type: ignore[arg-type]


def test_a_map_that_is_too_late_cancels_what_waits(stuck: roundq.Executor) -> None:
    results = stuck.map(abs, range(30), timeout=0.2)
    with pytest.raises(FutureTimeout):
        next(results)
    wait_until(lambda: not stuck._shared.watch.futures(), 20)


def test_max_workers_run_at_once(place: Place) -> None:
    """Though more could; and the limit goes with the executor."""

    def fn(sleep_s: float) -> tuple[float, float]:
        began = time.time()
        time.sleep(sleep_s)
        return began, time.time()

    with place.executor(1) as executor:
        spans = sorted(executor.map(fn, [0.1] * 3))
        assert len(control.limited(place.home.spool)) == 1
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))
    assert control.limited(place.home.spool) == set()
    for most in (0, -1):
        with pytest.raises(ValueError, match="max_workers must be greater than 0"):
            place.executor(most)
    with pytest.raises(roundq.UsageError, match="max_workers does not go with set"):
        place.executor(2, set="mine")


def test_an_executor_is_of_the_process_that_made_it(stuck: roundq.Executor) -> None:
    """In a fork it would write over the calls of the other one, and take their results away."""
    stuck.submit(abs, -3)
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(BaseException):
            try:
                stuck.submit(abs, -4)
            except RuntimeError as error:
                code = 0 if "fork" in str(error) else 2
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_while_calls_are_underway_their_exchange_does_not_become_old(
    stuck: roundq.Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Executors of other nodes would sweep it, with calls that wait or run for longer than a week."""
    monkeypatch.setattr(watcher, "KEPT_S", 0.0)
    exchange = os.path.dirname(stuck.submit(abs, -3).result_path)
    os.utime(exchange, (1e9, 1e9))
    wait_until(lambda: os.stat(exchange).st_mtime > 1e9, 10)


def test_an_exchange_that_was_swept_is_made_anew(stuck: roundq.Executor) -> None:
    """As one of an executor that had nothing to do for a week."""
    first = stuck.submit(abs, -3)
    assert first.cancel()
    # The watcher may be about to remove what is in it.
    shutil.rmtree(os.path.dirname(first.result_path), ignore_errors=True)
    assert os.path.exists(stuck.submit(abs, -3).result_path.removesuffix(".0.result"))


def test_calls_that_are_not_accepted_leave_no_files(stuck: roundq.Executor) -> None:
    exchange = os.path.dirname(stuck.submit(abs, -3).result_path)
    with pytest.raises(roundq.NoSuchJob):
        stuck.with_options(after="no-such-job").submit(abs, -3)
    assert sorted(os.listdir(exchange)) == ["1"]


def test_any_function_gives_its_jobs_a_name(stuck: roundq.Executor) -> None:
    """Of a long one the end, which may be what no name may begin with."""

    def fn() -> None: ...

    fn.__qualname__ = f"{'x' * 9}.{'y' * 59}"
    assert stuck.submit(fn).job.name == "y" * 59


def test_what_a_killed_program_left_goes_with_its_limit(place: Place) -> None:
    """Once its jobs had their time; else each would leave a limit for ever."""
    before, limits = place.exchanges(), control.limited(place.home.spool)
    program = (
        "import os, roundq\n"
        "executor = roundq.Executor(1, hold=True)\n"
        "executor.submit(abs, -3).cancel()\n"
        "os.kill(os.getpid(), 9)\n"
    )
    command, environ = [sys.executable, "-c", program], {**os.environ, **place.home.environ}
    assert subprocess.run(command, env=environ, timeout=60, check=False).returncode == -signal.SIGKILL
    (left,) = {*place.exchanges()} - {*before}
    (limit,) = control.limited(place.home.spool) - limits
    os.utime(place.base / left, (1e9, 1e9))
    with place.executor() as executor:
        assert executor.submit(abs, -3).result(30) == 3
    assert left not in place.exchanges()
    assert limit not in control.limited(place.home.spool)


def test_a_result_is_waited_for_as_long_as_other_nodes_may_be_seen_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the end of a job is seen, what it returned may not be yet."""
    now_s = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now_s[0])
    config = SimpleNamespace(settle_s=30.0)
    queue: Any = SimpleNamespace(_person=lambda: SimpleNamespace(config=config))
    for state in (State.COMPLETED, State.FAILED):
        watch, row = watcher.Watcher(queue), cast("Any", SimpleNamespace(id="1", state=state.value))
        assert watch._may_come(row)
        now_s[0] += 29.0
        assert watch._may_come(row)
        now_s[0] += 2.0
        assert not watch._may_come(row)


def test_that_nobody_begins_the_calls_is_said_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a minute in which they only wait, as when the daemon was killed; not where one lives."""
    now_s = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now_s[0])
    desk.rq("run", "true")

    def told(watch: watcher.Watcher, *states: str) -> int:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            for _ in range(70):
                now_s[0] += 1.0
                watch._tell_if_nobody_begins(set(states))
        assert all("no daemon of yours runs on any node" in str(one.message) for one in said)
        return len(said)

    watch = watcher.Watcher(roundq.Queue())
    assert [
        told(watch, *states) for states in (["running", "waiting"], ["held"], ["waiting"], ["waiting"])
    ] == [
        0,
        0,
        1,
        0,
    ]
    desk.homes.card(desk.spool, "n1")
    assert told(watcher.Watcher(roundq.Queue()), "waiting") == 0


def test_a_result_that_the_server_refuses_for_a_moment_is_read_again(
    executor: roundq.Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals, read = iter([errno.ESTALE, errno.EMFILE, errno.EACCES, errno.EIO]), calls.read_returns

    def now_and_then(path: str) -> calls.Returns:
        for number in refusals:
            raise OSError(number, os.strerror(number))
        return read(path)

    monkeypatch.setattr(calls, "read_returns", now_and_then)
    assert executor.submit(abs, -3).result(30) == 3


class Large:
    """For which there is never enough memory."""

    def __reduce__(self) -> Any:
        return exec, ("raise MemoryError",)


def test_a_result_that_cannot_be_read_here_is_kept(place: Place) -> None:
    """The error names it. What was delivered is gone."""
    with place.executor() as executor:
        delivered, kept = executor.submit(abs, -3), executor.submit(lambda: Large())
        error = kept.exception(30)
        assert delivered.result(30) == 3
    assert isinstance(error, roundq.ExchangeError)
    assert f"{kept.result_path}: MemoryError" in str(error)
    exchange = os.path.dirname(kept.result_path)
    assert os.path.exists(kept.result_path)
    assert not os.path.exists(delivered.result_path)
    assert calls.remove(exchange)


def test_an_exchange_stays_as_long_as_its_limit_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sweeps it later finds there which limit to take away."""
    (tmp_path / "exchange").mkdir()
    (tmp_path / "exchange" / "executor-1").touch()
    asker = SimpleNamespace(spool=None, node="n1")

    def refused(*_: object) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    queue: Any = SimpleNamespace(_person=lambda: asker)
    monkeypatch.setattr(control, "set_group_limit", refused)
    executors._left(queue, str(tmp_path / "exchange"), "executor-1", os.getpid(), ())
    assert (tmp_path / "exchange" / "executor-1").exists()
    monkeypatch.setattr(control, "set_group_limit", lambda *_: None)
    executors._left(queue, str(tmp_path / "exchange"), "executor-1", os.getpid(), ())
    assert not (tmp_path / "exchange").exists()


# ---------------------------------------------------------------- cancel


def test_a_running_call_that_ends_canceled_is_never_waited_for_in_vain(stuck: roundq.Executor) -> None:
    """Though its job was about to be canceled by the program, and somebody else was quicker."""
    future = stuck.submit(abs, -3)
    future.is_running_now()
    with stuck._shared.watch.canceling([future.job.id]):
        assert future.job.cancel()
        with pytest.raises(roundq.JobCanceled):
            future.result(10)


def test_cancel_cancels_a_job_that_waits(stuck: roundq.Executor) -> None:
    future = stuck.submit(abs, -3)
    assert not future.running()
    assert future.cancel()
    assert future.cancelled()
    with pytest.raises(CancelledError):
        future.result(0)
    assert future.job.state is State.CANCELED
    assert wait([future], timeout=10).done == {future}


def test_a_call_that_runs_is_not_canceled(place: Place, executor: roundq.Executor) -> None:
    path = place.home.home / "go on"

    def fn(path: str) -> int:
        while not os.path.exists(path):
            time.sleep(0.02)
        return 17

    future = executor.submit(fn, str(path))
    wait_until(future.running, 20)
    assert not future.cancel()
    path.touch()
    assert future.result(30) == 17


def test_a_job_that_the_user_cancels_says_so(place: Place, executor: roundq.Executor) -> None:
    """Unlike one that the program gave up itself."""
    future = executor.submit(time.sleep, 600)
    wait_until(future.running, 20)
    place.queue.cancel([future.job])
    with pytest.raises(roundq.JobCanceled, match=f"job {future.job.id} was canceled"):
        future.result(30)


# ---------------------------------------------------------------- bad ends


def test_a_call_whose_process_dies_says_how(executor: roundq.Executor) -> None:
    """With the end of what it wrote."""

    def fn() -> None:
        print("the last words", flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)

    error = executor.submit(fn).exception(30)
    assert isinstance(error, roundq.JobFailed)
    assert "killed by SIGSEGV" in str(error)
    assert "the last words" in str(error.__cause__)


def test_the_last_words_of_a_long_output_are_read_alone(executor: roundq.Executor) -> None:
    """A job may have printed more than there is memory here."""

    def fn() -> None:
        os.ftruncate(1, 100 << 20)
        os.lseek(1, 0, os.SEEK_END)
        os.write(1, b"the last words\n")
        os._exit(3)

    tracemalloc.start()
    try:
        error = executor.submit(fn).exception(30)
        assert tracemalloc.get_traced_memory()[1] < 50 << 20
    finally:
        tracemalloc.stop()
    assert isinstance(error, roundq.JobFailed)
    assert "the last words" in str(error.__cause__)
    assert "failed" not in str(error.__cause__)


def test_a_call_that_leaves_without_returning_failed(
    executor: roundq.Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roundq.faces.api.watcher.RESULT_LATE_S", 0.1)
    error = executor.submit(os._exit, 0).exception(30)
    assert isinstance(error, roundq.JobFailed)
    assert "ended with exit code 0 before its function returned" in str(error)


def test_a_time_limit_is_told_in_its_sentence(place: Place) -> None:
    with place.executor(time=0.3) as executor:
        error = executor.submit(time.sleep, 600).exception(30)
    assert isinstance(error, roundq.JobFailed)
    assert "stopped after its time limit of 0.3 s" in str(error)


def test_a_lost_job_is_lost(place: Place, executor: roundq.Executor) -> None:
    """Its supervisor is killed: nobody knows how it ended."""
    future = executor.submit(time.sleep, 600)
    wait_until(future.running, 20)
    process = place.home.record(future.job.id).process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(roundq.JobLost, match="is lost"):
        future.result(30)


def test_a_retry_that_succeeds_is_the_result(place: Place) -> None:
    def fn(path: str) -> str:
        with open(path, "x"):
            raise OSError("the first time")

    def twice(path: str) -> str:
        if not os.path.exists(path):
            fn(path)
        return "the second time"

    with place.executor(retries=1, backoff=0.01) as executor:
        assert executor.submit(twice, str(place.home.home / "tried")).result(30) == "the second time"


# ---------------------------------------------------------------- the end of an executor


def test_after_shutdown_nothing_is_submitted_and_nothing_is_left(place: Place) -> None:
    before = place.exchanges()
    executor = place.executor()
    future = executor.submit(abs, -3)
    other = executor.with_options(cores=2)
    executor.shutdown()
    assert future.result(0) == 3
    assert place.exchanges() == before
    for one in (executor, other):
        with pytest.raises(RuntimeError, match="after shutdown"):
            one.submit(abs, -3)
        with pytest.raises(RuntimeError, match="after shutdown"):
            one.map(abs, [])
    executor.shutdown()


def test_a_shutdown_that_does_not_wait_lets_calls_end(place: Place) -> None:
    before = place.exchanges()
    executor = place.executor()
    future = executor.submit(abs, -3)
    executor.shutdown(wait=False)
    assert future.result(30) == 3
    wait_until(lambda: place.exchanges() == before, 10)


def test_a_shutdown_may_cancel_what_waits(place: Place) -> None:
    executor = place.executor(hold=True)
    futures = [executor.submit(abs, -n) for n in range(3)]
    executor.shutdown(cancel_futures=True)
    assert all(future.cancelled() for future in futures)
    assert {job.state for job in (future.job for future in futures)} == {State.CANCELED}


def test_who_interrupts_a_program_does_not_wait_for_what_waits(place: Place) -> None:
    futures = []

    def program() -> None:
        with place.executor(hold=True) as executor:
            futures.append(executor.submit(abs, -3))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        program()
    assert futures[0].cancelled()


def test_a_program_ends_when_its_calls_have(place: Place) -> None:
    """Without a shutdown, as with other executors; and nothing is left of it."""
    before = place.exchanges()
    program = (
        "import roundq\n"
        "executor = roundq.Executor()\n"
        "executor.submit(lambda: 'done').add_done_callback(lambda future: print(future.result()))\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **place.home.environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (said.stdout, said.stderr) == ("done\n", "")
    assert place.exchanges() == before


def test_an_executor_that_nobody_has_any_more_leaves_nothing(place: Place) -> None:
    """Once its calls have ended."""
    before = place.exchanges()
    assert place.executor().submit(abs, -3).result(30) == 3
    wait_until(lambda: gc.collect() >= 0 and place.exchanges() == before, 10)


def test_exchange_files_go_as_soon_as_they_are_not_needed(executor: roundq.Executor) -> None:
    """All but the output of the jobs, which a program may still want to read."""
    future = executor.submit(print, "hello")
    assert future.result(30) is None
    (exchange,) = {Path(future.result_path).parent}
    wait_until(lambda: os.listdir(exchange) == ["1.0.out"], 10)
    assert future.job.stdout() == "hello\n"


def test_an_executor_may_have_its_exchange_elsewhere(place: Place, tmp_path: Path) -> None:
    with place.executor(exchange=tmp_path / "50% here") as executor:
        assert executor.submit(abs, -3).result(30) == 3
        assert len(os.listdir(tmp_path / "50% here")) == 1
    assert os.listdir(tmp_path / "50% here") == []
