"""Promises about the queue of a program and its handles of jobs, without a daemon."""

from __future__ import annotations

import asyncio
import errno
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import roundq
from roundq import Job, Outcome, Queue, State
from roundq.actors import awaited, submission
from roundq.faces.api.looks import Looks
from roundq.records import environments
from roundq.records.shelf import Shelf
from roundq.words.states import CANCELED, CLAIMED, COMPLETED, FAILED, HELD, RUNNING, WAITING, ZOMBIE
from roundq.world import files
from tests.cluster.wait import wait_until
from tests.faces.desk import Desk
from tests.faces.homes import HERE, record

ROOT = Path(__file__).parents[2]


@pytest.fixture
def queue(desk: Desk) -> Queue:
    """Ann's queue."""
    assert os.path.dirname(desk.spool.path) == os.environ["HOME"]
    return Queue()


def put(desk: Desk, state: str, job_id: str, **of: Any) -> None:
    """A job in a state."""
    given = {"job_directory": str(desk.directory), "job_home_dir": os.environ["HOME"], **of}
    if state in (CLAIMED, RUNNING):
        given.setdefault("node", HERE)
    desk.homes.put(desk.spool, state, job_id, record(now_ns=time.time_ns(), **given))


def end(desk: Desk, job_id: str, state: str = COMPLETED, **of: Any) -> None:
    """A waiting job ends."""
    given = {"began_s": 9, "ended_s": 2, "node": "n1", "exit_code": 0, **of}
    put(desk, state, job_id, **given)
    os.remove(desk.spool.directory(WAITING) + f"/{job_id}.job")


def waiting(desk: Desk) -> list[str]:
    return sorted(os.listdir(desk.spool.directory(WAITING)))


# ---------------------------------------------------------------- import

IMPORTED = """
import sys
import roundq
before = set(sys.modules)
slow = "pydantic pydantic_core rich psutil logging asyncio concurrent cloudpickle".split()
print(*(name for name in slow if name in sys.modules), "|", *(n for n in before if n.startswith("roundq")))
roundq.submit(["true"])
print(*(name for name in slow if name in sys.modules))
"""


def test_to_import_the_package_loads_nothing_and_a_submission_nothing_slow(tmp_path: Path) -> None:
    """Neither rich nor pydantic, nor any module of ours before one is used."""
    (tmp_path / "home").mkdir()
    environ = {"HOME": str(tmp_path / "home"), "RQ_JOB_ID": "1", "RQ_NODE": "n1", "PATH": os.environ["PATH"]}
    said = subprocess.run(
        [sys.executable, "-c", IMPORTED],
        cwd=tmp_path,
        env={**environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (said.stderr, said.stdout) == ("", "| roundq\n\n")


def test_every_name_that_is_offered_is_there_and_known_to_type_checkers() -> None:
    """What is loaded on first use, and what is imported for type checkers, are the same."""
    import ast

    tree = ast.parse(Path(roundq.__file__).read_text())
    checked = next(node for node in tree.body if isinstance(node, ast.If))
    told: dict[str, str | None] = {}
    for node in checked.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            assert alias.asname == alias.name, "else mypy takes it for private"
            told[alias.name] = node.module
    assert told == {**roundq._OFFERED, **dict.fromkeys(roundq._MODULES, "roundq")}
    for name in roundq._OFFERED:
        assert getattr(roundq, name).__name__ == name
        assert name in dir(roundq)
    with pytest.raises(AttributeError, match="no attribute 'Quue'"):
        roundq.Quue  # type: ignore[attr-defined]  # noqa: B018 - that mypy misses it, too, mypy checks


# ---------------------------------------------------------------- submit


def test_a_job_is_the_same_as_that_of_the_command(desk: Desk, queue: Queue) -> None:
    """All that its record says, whatever is asked for."""
    desk.rq("run", "--hold", "true")
    words = "-J fit -c 4 -m 8G --mem-limit -t 2h -w n* --exclude n9 --need fast -R --signal @90 --retries 3"
    words += " --retry-on oom --set s --priority high -o out -e err --max-output 5M -L lic:2 --after 1"
    desk.rq("run", *words.split(), "echo", "a b")
    job = queue.submit(
        ["echo", "a b"],
        name="fit",
        cores=4,
        memory=8 << 30,
        memory_limit=True,
        time=7200,
        node=["n*"],
        exclude="n9",
        need="fast",
        restart=True,
        signal="@90",
        retries=3,
        retry_on="oom",
        set="s",
        priority="high",
        output="out",
        error="err",
        max_output="5M",
        license="lic:2",
        after=queue.job("1"),
    )
    assert job.id == "3"
    theirs, ours = desk.record("2").job, desk.record("3").job
    assert replace(ours, submitted_ns=theirs.submitted_ns) == theirs


def test_a_job_gets_the_environment_of_the_program_with_what_is_added(desk: Desk, queue: Queue) -> None:
    """None takes a variable out; the program's own is left alone."""
    os.environ["OURS"] = "1"
    try:
        plain = queue.submit("true")
        changed = queue.submit("true", env={"MINE": "x", "OURS": None})
    finally:
        del os.environ["OURS"]
    environs = []
    for job in (plain, changed):
        digest = desk.record(job.id).job.environment
        assert digest is not None
        environs.append(environments.load(desk.spool, digest))
    assert environs[0]["OURS"] == "1"
    assert "MINE" not in environs[0]
    del environs[0]["OURS"]
    assert environs[1] == {**environs[0], "MINE": "x"}


@pytest.mark.parametrize("env", [{"A": 1}, {"A=B": "1"}, {"": "1"}, {"A": "x\0"}, {3: "x"}])
def test_what_no_environment_can_hold_is_refused(desk: Desk, queue: Queue, env: Any) -> None:
    with pytest.raises((TypeError, roundq.UsageError), match="env"):
        queue.submit("true", env=env)
    assert waiting(desk) == []


def test_what_is_warned_of_after_the_acceptance_is_never_raised(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who got an error instead of a handle would submit again."""

    def refused(*_: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    desk.homes.card(desk.spool, "n1", cores=4)
    monkeypatch.setattr(submission, "start_daemon", refused)
    queue = Queue(environ={**os.environ, "RQ_AUTO_START": "true"})
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("error")
        assert queue.submit("true").id == "1"
        with pytest.raises(roundq.RoundqWarning, match="5000 cores"):
            queue.submit("true", cores=5000)
    assert ["no daemon could be started" in str(one.message) for one in shown] == [True]
    assert waiting(desk) == ["1.job"]


@pytest.mark.parametrize("array", [5, ["0-9"], range(3)])
def test_the_indices_of_an_array_are_a_text(queue: Queue, array: Any) -> None:
    with pytest.raises(TypeError, match=re.escape(f"array cannot be {array!r}")):
        queue.submit("true", array=array)


def test_many_jobs_are_submitted_all_or_none(desk: Desk, queue: Queue) -> None:
    """What each asks for is its own."""
    with pytest.raises(roundq.CommandNotFound):
        queue.submit_many([["true"], ["./no-such-command"]])
    with pytest.raises(roundq.UsageError, match="hold"):
        queue.submit_many([["true"], {"command": ["true"], "hold": True}])
    with pytest.raises(roundq.UsageError, match="no command"):
        queue.submit_many([["true"], {"cores": 3}])  # type: ignore[list-item]
    assert waiting(desk) == []
    jobs = queue.submit_many(
        [
            ["true", "1"],
            {"command": "echo 2", "cores": 2, "env": {"A": "b"}},
            {"command": ["true"], "name": "x"},
        ]
    )
    assert [job.id for job in jobs] == ["1", "2", "3"]
    records = [desk.record(job.id).job for job in jobs]
    assert [(one.command, one.cores, one.jobname) for one in records] == [
        (("true", "1"), 1, ""),
        (("echo", "2"), 2, ""),
        (("true",), 1, "x"),
    ]
    assert records[0].environment == records[2].environment != records[1].environment
    assert queue.submit_many([]) == []


def test_what_many_jobs_have_in_common_is_looked_at_once(
    desk: Desk, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hundreds of names do not list a directory hundreds of times, nor the queue for what they wait for."""
    first = queue.submit("true")
    listed: list[str] = []
    for module, name in ((files, "listing"), (files, "names")):
        real = getattr(module, name)

        def told(directory: str, *more: Any, real: Any = real, **options: Any) -> Any:
            listed.append(directory)
            return real(directory, *more, **options)

        monkeypatch.setattr(module, name, told)
    queue.submit_many({"command": ["true"], "name": f"f{number}"} for number in range(300))
    assert listed.count(str(desk.directory)) <= 1
    listed.clear()
    queue.submit_many({"command": ["true", str(number)], "after": first} for number in range(300))
    assert listed.count(desk.spool.directory(WAITING)) <= 3


def test_an_array_has_a_task_for_each_index_or_command(desk: Desk, queue: Queue) -> None:
    """As with --array and --each; its handle has handles of its tasks."""
    of_indices = queue.submit(["echo", "{index}", "{{index}}"], array="2-6:2%3", name="a")
    assert [task.id for task in of_indices.tasks] == ["1_2", "1_4", "1_6"]
    job = desk.record("1_4").job
    assert (job.command, job.output) == (("echo", "4", "{index}"), "a.%a.out")
    assert job.array is not None
    assert (job.array.throttle, job.array.step, job.array.count) == (3, 2, 3)
    of_commands = queue.submit_array([["echo", "x"], "true y"], throttle=1, max_fails=2, cores=2)
    assert [desk.record(task.id).job.command for task in of_commands.tasks] == [("echo", "x"), ("true", "y")]
    array = desk.record("2_0").job.array
    assert array is not None
    assert (array.throttle, array.max_fails, desk.record("2_1").job.cores) == (1, 2, 2)
    chunks = queue.submit_array((["echo", str(n)] for n in range(5)), chunk=2)
    assert [task.id for task in chunks.tasks] == ["3_0", "3_2", "3_4"]
    assert (of_indices.state, of_indices.outcome, of_indices.name) == (State.WAITING, None, "a")
    with pytest.raises(roundq.UsageError, match="no task"):
        queue.submit_array([])
    with pytest.raises(roundq.CommandNotFound):
        queue.submit_array([["true"], ["./no-such-command"]])
    with pytest.raises(roundq.UsageError, match="array"):
        of_indices.stdout_path  # noqa: B018


def test_a_job_that_no_node_could_run_is_warned_of(desk: Desk, queue: Queue) -> None:
    """At the line of the program that submitted it, and it is accepted."""
    desk.homes.card(desk.spool, "n1", cores=4)
    with pytest.warns(roundq.RoundqWarning, match="5000 cores") as told:
        queue.submit("true", cores=5000)
    assert told[0].filename == __file__
    assert len(waiting(desk)) == 1


def test_threads_may_submit_at_once(desk: Desk, queue: Queue) -> None:
    """Each job has a number of its own."""
    jobs: list[Job] = []

    def submit() -> None:
        jobs.extend(queue.submit(["true"]) for _ in range(5))

    threads = [threading.Thread(target=submit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len({job.id for job in jobs}) == 40
    assert len(waiting(desk)) == 40


def test_a_queue_is_that_of_its_home(desk: Desk, tmp_path: Path) -> None:
    """And its jobs get that home; a home that is not there is an error when it is needed."""
    (tmp_path / "other").mkdir()
    other = Queue(tmp_path / "other")
    job = other.submit("true")
    assert (waiting(desk), job.id) == ([], "1")
    assert os.listdir(tmp_path / "other" / ".roundqueue" / "waiting") == ["1.job"]
    assert other.path == str(tmp_path / "other" / ".roundqueue")
    nowhere = Queue(tmp_path / "nowhere")
    with pytest.raises(roundq.SpoolError, match="cannot be entered"):
        nowhere.submit("true")


def test_a_wrong_configuration_is_an_error(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RQ_CORES", "many")
    with pytest.raises(roundq.ConfigError):
        queue.submit("true")


# ---------------------------------------------------------------- look


def test_jobs_are_found_by_the_words_of_every_command(desk: Desk, queue: Queue) -> None:
    """Ids, ranges, names, sets, expressions; without any what has not ended."""
    for number, (name, of_set) in enumerate([("a", "s"), ("b", "s"), ("a", None), ("c", None)], 1):
        assert queue.submit("true", name=name, set=of_set).id == str(number)
    put(desk, FAILED, "9", name="old", began_s=9, ended_s=3, exit_code=2, node="n1")

    def ids(*words: str) -> list[str]:
        return [job.id for job in queue.jobs(*words)]

    assert ids() == ["1", "2", "3", "4"]
    assert ids("2-4") == ["2", "3", "4"]
    assert ids("a", "4") == ["1", "3", "4"]
    assert ids("%s") == ["1", "2"]
    assert ids("state=failed") == ["9"]
    assert ids("state=running") == []
    assert ids("last") == ["9"]
    with pytest.raises(roundq.NoSuchJob, match="nix"):
        queue.jobs("1", "nix")
    with pytest.raises(roundq.UsageError):
        queue.jobs("state==")


def test_one_job_is_found_by_its_id_or_name(queue: Queue) -> None:
    queue.submit("true", name="a")
    queue.submit("true", array="0-2")
    queue.submit_many([{"command": "true", "name": "b"}] * 2)
    assert queue.job("a") == queue.job("1")
    assert [task.id for task in queue.job("2").tasks] == ["2_0", "2_1", "2_2"]
    assert queue.job("2_1").tasks == ()
    with pytest.raises(roundq.UsageError, match="means 2 jobs, not one"):
        queue.job("b")
    with pytest.raises(roundq.NoSuchJob):
        queue.job("99")


def test_handles_of_one_job_are_equal(queue: Queue, tmp_path: Path) -> None:
    """Also of two objects of one queue; not those of one id in two homes."""
    job = queue.submit("true")
    assert job == Queue().job("1")
    assert len({job, Queue().job("1"), queue.submit("true")}) == 2
    (tmp_path / "other").mkdir()
    assert Queue(tmp_path / "other").submit("true") != job
    assert repr(job) == "<roundq.Job 1>"
    with pytest.raises(AttributeError):
        job.id = "2"  # type: ignore[misc]


@pytest.mark.parametrize("is_given", [True, False])
def test_a_handle_may_travel(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_given: bool
) -> None:
    """It is that of the same job also where another home is the home."""
    environ = {**os.environ, "COLOR": "blue"}
    queue = Queue(environ=environ) if is_given else Queue()
    array = queue.submit("true", array="0-1")
    sent = [
        pickle.dumps(array),
        pickle.dumps(queue),
        pickle.dumps(Queue(environ=environ if is_given else None)),
    ]
    monkeypatch.setenv("HOME", str(tmp_path))
    job, *queues = (pickle.loads(one) for one in sent)
    assert (job, job.tasks, job.state) == (array, array.tasks, State.WAITING)
    assert [one.path for one in queues] == [desk.spool.path] * 2
    assert job.queue.environment().get("COLOR") == ("blue" if is_given else None)


def test_a_fork_does_not_wait_for_a_thread_that_it_does_not_have(queue: Queue) -> None:
    """One of its parent that looked, or held the lock, at that moment."""
    job = queue.submit("true")
    with queue._looking()._eye, queue._lock:
        child = os.fork()
        if not child:
            signal.alarm(30)
            os._exit(0 if job.state is State.WAITING else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_state_is_what_it_is_now(desk: Desk, queue: Queue) -> None:
    """And equal to the word that the lists show."""
    job = queue.submit("true", hold=True)
    assert (job.state, job.state == "held", str(job.state)) == (State.HELD, True, "held")
    desk.rq("release", "1")
    assert job.state is State.WAITING
    assert not job.state.has_begun
    end(desk, "1", FAILED, exit_code=3, reason="exit")
    (now,) = queue.states([job])
    assert now is State.FAILED
    assert now.has_ended
    assert job.node == "n1"


def test_a_job_that_was_run_again_is_known_again_once_it_is_refreshed(desk: Desk, queue: Queue) -> None:
    """How a job ended is remembered, until it is said that it may have changed."""
    job = queue.submit("true")
    end(desk, "1", FAILED, exit_code=3)
    assert job.wait(60).exit_code == 3
    desk.rq("rerun", "1")
    assert job.state is State.FAILED
    assert job.refresh() is job
    assert (job.outcome, queue.states([job])) == (None, [State.WAITING])
    with pytest.raises(TimeoutError):
        job.wait(0.1)


ENDS = [
    (COMPLETED, {"exit_code": 0}, ("completed", 0, None, None, "completed"), None),
    (
        FAILED,
        {"exit_code": 3, "reason": "exit"},
        ("failed", 3, None, "exit", "failed: its command ended"),
        roundq.JobFailed,
    ),
    (FAILED, {"signal": 9, "reason": "signal"}, ("failed", None, 9, "signal", "failed: "), roundq.JobFailed),
    (
        FAILED,
        {"signal": 15, "reason": "time limit"},
        ("failed", None, 15, "time limit", "failed: it ran longer than its time limit"),
        roundq.JobFailed,
    ),
    (
        CANCELED,
        {"reason": "canceled"},
        ("canceled", None, None, "canceled", "was canceled"),
        roundq.JobCanceled,
    ),
    (
        ZOMBIE,
        {"reason": "lost"},
        ("zombie", None, None, "lost", "is lost: its supervisor died"),
        roundq.JobLost,
    ),
]


@pytest.mark.parametrize(("state", "of", "meant", "error"), ENDS)
def test_how_a_job_ended_is_told(
    desk: Desk,
    queue: Queue,
    state: str,
    of: dict[str, Any],
    meant: tuple[Any, ...],
    error: type[roundq.JobUnsuccessful] | None,
) -> None:
    """By wait as it is, by result as an error of its own kind unless it ended well."""
    job = queue.submit("true")
    assert job.outcome is None
    end(desk, "1", state, **{"exit_code": None, **of})
    outcome = job.wait()
    assert (outcome.state, outcome.exit_code, outcome.signal, outcome.reason) == meant[:4]
    assert outcome.sentence.startswith(meant[4])
    assert outcome.node == "n1"
    assert outcome.seconds == pytest.approx(7)
    assert job.outcome == outcome
    assert outcome.is_well == (error is None)
    if error is None:
        assert job.result() == outcome
        return
    with pytest.raises(error, match=f"job 1 {meant[4]}") as raised:
        job.result()
    assert raised.value.outcome == outcome
    assert raised.value.hint == "rq show 1"


def test_an_array_ends_with_its_last_task(desk: Desk, queue: Queue) -> None:
    """Its outcome counts what did not end well, and its exit code is the highest."""
    array = queue.submit("true", array="0-2")
    end(desk, "1_0")
    end(desk, "1_1", FAILED, exit_code=3, reason="exit")
    assert array.outcome is None
    assert queue.states([array, array.tasks[1]]) == [State.WAITING, State.FAILED]
    assert not queue.are_ended([array])
    with pytest.raises(roundq.WaitTimeout):
        array.wait(0)
    end(desk, "1_2", FAILED, exit_code=2, reason="exit")
    with pytest.raises(
        roundq.JobFailed, match="array 1: 2 of 3 tasks did not end well: 1_1 failed"
    ) as raised:
        array.result(60)
    assert raised.value.outcome is not None
    assert (raised.value.outcome.exit_code, array.state) == (3, State.FAILED)
    assert [task.outcome.is_well for task in array.tasks if task.outcome] == [True, False, False]


def test_a_job_that_is_nowhere_is_an_error(desk: Desk, queue: Queue) -> None:
    """Of every method; nobody waits for it for ever."""
    job = queue.submit("true")
    os.remove(desk.spool.directory(WAITING) + "/1.job")
    for look in (lambda: job.state, lambda: job.wait(60), lambda: job.stdout(), lambda: job.cancel()):
        with pytest.raises(roundq.NoSuchJob):
            look()


# ---------------------------------------------------------------- output


def test_the_output_of_a_job_is_what_it_wrote(desk: Desk, queue: Queue) -> None:
    """Without the lines in which roundq tells of its begin and end; bytes that are no text are replaced."""
    job = queue.submit("true", name="fit", error="fit.err")
    assert (job.stdout_path, job.stderr_path) == (
        str(desk.directory / "fit.out"),
        str(desk.directory / "fit.err"),
    )
    with pytest.raises(roundq.RoundqError, match="job 1 has not begun: it has no output"):
        job.stdout()
    end(desk, "1", name="fit", job_output="fit.out", job_error="fit.err")
    with pytest.raises(
        roundq.RoundqError, match=r"the output of job 1 cannot be read: .*fit.out: No such file"
    ):
        job.stdout()
    wrote = b"rq: job 1 completed: he says\nx\xff\n"
    begins = b"rq: job 1 'fit' begins on n1, 2026-11-21T10:00:00+0000: true\n"
    before, ends = b"of another job\n", b"rq: job 1 completed: exit code 0; ran 0.0 s\n"
    (desk.directory / "fit.out").write_bytes(before + begins + wrote + ends)
    (desk.directory / "fit.err").write_bytes(b"oh")
    assert job.stdout_bytes() == wrote
    assert job.stdout() == "rq: job 1 completed: he says\nx�\n"
    assert job.stderr() == "oh"


# ---------------------------------------------------------------- wait


def later(act: Callable[[], object]) -> threading.Timer:
    timer = threading.Timer(0.1, act)
    timer.start()
    return timer


def test_to_wait_ends_with_the_job_or_the_timeout(desk: Desk, queue: Queue) -> None:
    """The timeout is an error that programs expect, too."""
    job, other = queue.submit("true"), queue.submit("true")
    with pytest.raises(TimeoutError, match=r"job 1 has not ended within 0\.05 s"):
        job.wait(0.05)
    with pytest.raises(roundq.WaitTimeout, match="2 jobs have not ended within 0 s"):
        queue.wait([job, other], timeout=0)
    timer = later(lambda: end(desk, "1"))
    assert job.wait(60).is_well
    timer.join()
    end(desk, "2", CANCELED, exit_code=None)
    outcomes = queue.wait([other, job, other])
    assert [outcome.state for outcome in outcomes] == [State.CANCELED, State.COMPLETED, State.CANCELED]
    assert queue.wait([]) == []


def test_jobs_come_as_they_are_completed(desk: Desk, queue: Queue) -> None:
    """Each once, also what had ended before; then the timeout tells of the rest."""
    first, second, third = (queue.submit("true") for _ in range(3))
    end(desk, "2")
    come = queue.as_completed([first, second, third, second], timeout=60)
    assert next(come) is second
    end(desk, "1", FAILED, exit_code=1)
    assert next(come) is first
    come.close()
    rest = queue.as_completed([third, first], timeout=0.1)
    assert next(rest) is first
    with pytest.raises(TimeoutError, match="job 3 has not ended"):
        next(rest)


@pytest.mark.parametrize("jobs", [["17"], "17", [17], None], ids=repr)
def test_what_is_no_handle_is_said_to_be_none(queue: Queue, jobs: Any) -> None:
    """And how to come by one."""
    for use in (queue.wait, queue.cancel, queue.states, lambda given: list(queue.as_completed(given))):
        with pytest.raises(TypeError, match=r"Queue.job\(\) finds a job by its id"):
            use(jobs)
    with pytest.raises(TypeError, match="finds a job"):
        asyncio.run(queue.wait_async(jobs))


def test_a_handle_of_another_queue_is_refused(desk: Desk, queue: Queue, tmp_path: Path) -> None:
    """The job of its number here is another one, and stays as it is. A queue may have several paths."""
    (tmp_path / "other").mkdir()
    other = Queue(tmp_path / "other").submit("true")
    job = queue.submit("true")
    assert other.id == job.id
    for use in (queue.wait, queue.cancel, queue.states, lambda given: list(queue.as_completed(given))):
        with pytest.raises(
            roundq.UsageError, match=r"job 1 is in another queue, .*/other/\.roundqueue, not in"
        ):
            use([other])
    with pytest.raises(roundq.UsageError, match="another queue"):
        queue.submit("true", after=other)
    with pytest.raises(roundq.UsageError, match="another queue"):
        queue.submit_array(["true"], after_any=["1", other])
    assert (job.state, waiting(desk)) == (State.WAITING, ["1.job"])
    (tmp_path / "same").symlink_to(os.environ["HOME"])
    assert Queue(tmp_path / "same").states([job]) == [State.WAITING]


def test_many_threads_that_wait_look_no_more_often_than_one(desk: Desk, queue: Queue) -> None:
    """The file server is asked once for all of them."""
    jobs = [queue.submit("true") for _ in range(20)]
    began_s = time.monotonic()
    threads = [threading.Thread(target=job.wait, args=(60,)) for job in jobs]
    for thread in threads:
        thread.start()
    looks = queue._looking()
    wait_until(lambda: len(looks._wanted) == len(jobs) and looks.count > 5, 60)
    for job in jobs:
        end(desk, job.id)
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    took_s = time.monotonic() - began_s
    # One for whoever comes with a new job, and for each pause one.
    assert queue._looking().count <= len(jobs) + took_s / 0.05 + 1


def test_a_look_is_made_when_it_is_due_and_for_who_comes_anew(desk: Desk) -> None:
    """Nobody who asks again in between lists anything; pauses grow while nothing happens."""
    now_s = [100.0]
    looks = Looks(desk.spool, HERE, 0.0, clock=lambda: now_s[0])
    put(desk, WAITING, "1")
    put(desk, WAITING, "2")
    with looks.wanting(["1"]):
        assert looks.is_due()
        first_s = looks.step()
        assert (looks.count, looks.is_due()) == (1, False)
        assert looks.step() <= max(first_s, 0.05)
        assert looks.count == 1
        with looks.wanting(["2"]):
            looks.step()
            assert looks.count == 2
        pauses = []
        for _ in range(30):
            now_s[0] += 10
            pauses.append(looks.step())
        assert pauses == sorted(pauses)
        assert pauses[-1] == 2.0
        os.rename(desk.spool.directory(WAITING) + "/1.job", desk.spool.directory(CANCELED) + "/1.job")
        now_s[0] += 10
        looks.step()
        ended, unknown = looks.found(["1", "2"])
        assert ([*ended], unknown) == (["1"], [])


def test_what_cannot_be_read_hides_a_job_and_is_no_proof_that_there_is_none(
    desk: Desk, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where its state is asked for. Who waits for others is not told of it."""
    now_s = [100.0]
    put(desk, WAITING, "1")
    put(desk, WAITING, "2")
    looks = Looks(desk.spool, HERE, 0.0, clock=lambda: now_s[0])
    look = Shelf.look

    def refused(shelf: Shelf, at_s: float) -> bool:
        if shelf.state == CANCELED:
            raise OSError(errno.EIO, "Input/output error", "canceled")
        return look(shelf, at_s)

    monkeypatch.setattr(Shelf, "look", refused)
    with looks.wanting(["1", "2"]):
        looks.step()
        os.rename(desk.spool.directory(WAITING) + "/1.job", desk.spool.directory(CANCELED) + "/1.job")
        for _ in range(20):
            now_s[0] += 10
            looks.step()
        assert looks.found(["1", "2"]) == ({}, [])
        looks.require_seen(["2"])
        with pytest.raises(roundq.SpoolError, match="cannot tell what became of job 1: canceled: Input/outp"):
            looks.require_seen(["1"])
        monkeypatch.setattr(awaited, "UNREADABLE_S", 0.0)
        with pytest.raises(roundq.SpoolError, match="cannot tell what became of job 1"):
            roundq.Job(queue, "1").state  # noqa: B018 - it looks
        monkeypatch.setattr(Shelf, "look", look)
        now_s[0] += 10
        looks.step()
        looks.require_seen(["1"])
        assert [*looks.found(["1"])[0]] == ["1"]


# ---------------------------------------------------------------- await


def test_jobs_are_awaited_while_other_tasks_run(desk: Desk, queue: Queue) -> None:
    """One after the other, together, and with a timeout; who is canceled waits no more."""
    jobs = [queue.submit("true") for _ in range(3)]
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.01)

    async def main() -> list[Outcome]:
        ticking = asyncio.create_task(tick())
        with pytest.raises(TimeoutError):
            await jobs[0].wait_async(0.1)
        waiting_long = asyncio.create_task(jobs[2].wait_async())
        while "3" not in queue._looking()._wanted:
            await asyncio.sleep(0)
        waiting_long.cancel()
        for job_id in ("1", "2"):
            end(desk, job_id)
        found = await asyncio.wait_for(asyncio.gather(*jobs[:2]), 60)
        ticking.cancel()
        await asyncio.gather(waiting_long, ticking, return_exceptions=True)
        return found

    found = asyncio.run(main())
    assert [outcome.is_well for outcome in found] == [True, True]
    assert ticks > 3
    assert not queue._looking()._wanted


# ---------------------------------------------------------------- cancel


def test_a_job_that_waits_is_canceled_at_once(desk: Desk, queue: Queue) -> None:
    """What has ended is not; an array is, as far as it has not."""
    job, held = queue.submit("true"), queue.submit("true", hold=True)
    array = queue.submit("true", array="0-2")
    end(desk, "3_0")
    assert (job.cancel(), held.cancel(), job.cancel()) == (True, True, False)
    assert job.state is State.CANCELED
    assert job.wait(10).sentence == "was canceled: canceled before it began"
    assert queue.cancel([array, job]) == list(array.tasks[1:])
    assert array.cancel() is False


def test_many_are_canceled_in_one_go(queue: Queue) -> None:
    array = queue.submit("true", array="0-39")
    assert len(queue.cancel([array])) == 40
    assert {task.state for task in array.tasks} == {State.CANCELED}


def test_a_job_that_runs_is_left_alone_if_only_waiting_ones_are_meant(desk: Desk, queue: Queue) -> None:
    """Else its node is asked, and it is dead when that has answered."""
    put(desk, RUNNING, "1", node="n1", began_s=5)
    job = queue.job("1")
    assert job.state is State.RUNNING
    assert job.cancel(only_waiting=True) is False
    assert os.listdir(desk.spool.directory("requests")) == []
    assert job.cancel() is True
    assert os.listdir(desk.spool.directory("requests")) == ["1.cancel"]
    assert (job.state, job.outcome) == (State.RUNNING, None)


# ---------------------------------------------------------------- my own


def test_my_own_queue_is_that_of_home(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when HOME changes between two calls."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        job = roundq.submit(["true"], name="x")
        assert (job.id, waiting(desk)) == ("1", ["1.job"])
        (tmp_path / "other").mkdir()
        monkeypatch.setenv("HOME", str(tmp_path / "other"))
        assert roundq.submit("true").queue.path == str(tmp_path / "other" / ".roundqueue")
    assert isinstance(job, Job)
    assert HELD == State.HELD
