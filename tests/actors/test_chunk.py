"""Promises about chunks: several tasks of an array in one job, each of which ends for itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roundq.actors import chunk
from roundq.actors.chunk import Chunk
from roundq.records import spool as spools
from roundq.words.job import Array, Job, Task
from roundq.words.states import CANCELED, FAILED
from tests.actors.spoolhome import NODE, SpoolHome
from tests.cluster.wait import wait_until

words = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=5)
commands = st.lists(words, min_size=1, max_size=4)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[SpoolHome]:
    made = SpoolHome(tmp_path / "homes")
    yield made
    made.stop()


def submit(home: SpoolHome, *scripts: str, **fields: object) -> str:
    """An array of one chunk, whose tasks are shell scripts; the id of its job."""
    count = len(scripts)
    more = {"directory": str(home.home), "max_output": 0, "output": "out", **fields}
    job = Job(("sh",), array=Array("", 0, 0, count - 1, 1, count, jobs=1), **more)  # type: ignore[arg-type]
    tasks = [Task(index, ("/bin/sh", "-c", script)) for index, script in enumerate(scripts)]
    return f"{spools.submit_array(home.spool, job, [tasks], NODE)}_0"


def told(home: SpoolHome) -> list[str]:
    """The lines of the tasks in the output, without ours of the job."""
    return [line for line in home.output("out").splitlines() if not line.startswith("rq: job")]


def test_tasks_run_in_turn_each_with_its_number(home: SpoolHome) -> None:
    """All others of RQ_ARRAY_ are the same for all; nothing comes from standard input."""
    show = "cat; env | grep ^RQ_ARRAY_ | sort | tr '\\n' ' '; echo"
    record = home.run(submit(home, show, show))
    assert (record.exit_code, record.results) == (0, ((0, 0), (1, 0)))
    of_all = "RQ_ARRAY_TASK_MAX=1 RQ_ARRAY_TASK_MIN=0 RQ_ARRAY_TASK_STEP=1 "
    lines = told(home)
    assert [line for line in lines if not line.startswith("rq:")] == [
        f"RQ_ARRAY_JOB_ID=1 RQ_ARRAY_TASK_COUNT=2 RQ_ARRAY_TASK_ID={index} {of_all}" for index in (0, 1)
    ]
    assert lines[0].startswith("rq: task 1_0 begins: /bin/sh -c ")
    assert lines[2].startswith("rq: task 1_0 ended: exit code 0; ran 0.")


@pytest.mark.parametrize(
    ("scripts", "results", "exit_code"),
    [
        (("true", "exit 3", "true", "exit 2"), ((0, 0), (1, 3), (2, 0), (3, 2)), 3),
        (("kill -9 $$", "true"), ((0, -9), (1, 0)), 137),
        (("exit 255", "kill -15 $$"), ((0, 255), (1, -15)), 255),
    ],
)
def test_one_that_fails_stops_no_other_and_the_worst_end_is_told(
    home: SpoolHome, scripts: Sequence[str], results: object, exit_code: int
) -> None:
    record = home.run(submit(home, *scripts))
    assert (record.results, record.exit_code, record.reason) == (results, exit_code, "exit")
    bad = sum(code != 0 for _, code in record.results)
    assert record.detail == f"exit code {exit_code}; {bad} of {len(scripts)} tasks did not end well"


def test_a_command_that_is_not_there_is_a_failed_task(home: SpoolHome) -> None:
    job = Job(("true",), directory=str(home.home), output="out", array=Array("", 0, 0, 2, 1, 3, jobs=1))
    plain = home.home / "plain"
    plain.write_text("no program")
    tasks = [Task(0, ("no-such-command",)), Task(1, (str(plain),)), Task(2, ("true",))]
    record = home.run(f"{spools.submit_array(home.spool, job, [tasks], NODE)}_0")
    assert record.results == ((0, 127), (1, 126), (2, 0))
    assert "rq: task 1_0 ended: could not start: no-such-command: No such file or directory; ran" in "".join(
        told(home)
    )


def test_a_rerun_runs_what_has_not_ended_well(home: SpoolHome) -> None:
    """Once: what ended well in an earlier attempt stays so; when all did, all are run again."""
    script = "echo $RQ_ARRAY_TASK_ID >> ran; test $RQ_ARRAY_TASK_ID != 1 -o -e good"
    job_id = submit(home, script, script, script)
    first = home.run(job_id)
    assert first.results == ((0, 0), (1, 1), (2, 0))
    (home.home / "good").touch()
    again(home, job_id)
    second = home.run(job_id)
    assert (second.results, second.exit_code) == (((0, 0), (1, 0), (2, 0)), 0)
    assert home.output("ran").split() == ["0", "1", "2", "1"]
    again(home, job_id)
    assert home.run(job_id).results == second.results
    assert home.output("ran").split() == ["0", "1", "2", "1", "0", "1", "2"]


def again(home: SpoolHome, job_id: str) -> None:
    """Its user moves an ended job back to where it waits."""
    entry = home.entry(job_id)
    os.rename(spools.path_of(home.spool, entry), f"{home.spool.directory('waiting')}/{job_id}{spools.SUFFIX}")


@pytest.mark.parametrize(
    ("why", "state", "reason"),
    [("cancel", CANCELED, "canceled"), ("time", FAILED, "time limit"), ("kill", FAILED, "signal")],
)
def test_what_ends_the_job_ends_all_and_what_is_known_stays(
    home: SpoolHome, why: str, state: str, reason: str
) -> None:
    """A cancel, a time limit, or the runner itself killed: no further task begins."""
    fields = {"time_limit_s": 1.5} if why == "time" else {}
    job_id = submit(home, "exit 4", "echo > here; echo $PPID > runner; sleep 300", "echo > never", **fields)
    home.daemon()
    wait_until(lambda: home.output("runner") != "", 20, on_timeout=home.story)
    if why == "cancel":
        spools.request(home.spool, job_id, "cancel", NODE)
    elif why == "kill":
        os.kill(int(home.output("runner")), signal.SIGKILL)
    record = home.wait_for(job_id)
    assert (home.state(job_id), record.reason) == (state, reason)
    assert record.results[0] == (0, 4)
    assert 2 not in dict(record.results)
    assert not (home.home / "never").exists()


def test_a_signal_that_tells_of_the_end_reaches_the_task(tmp_path: Path) -> None:
    """Others than those that ask to end leave the next tasks to run."""
    (tmp_path / "out").touch()
    script = "trap 'echo told; exit 5' USR1; echo ready; while :; do sleep 0.05; done"
    made = Chunk("7", [(0, ("/bin/sh", "-c", script)), (1, ("/bin/echo", "next"))], ())
    with (
        open(tmp_path / "out", "wb") as out,
        subprocess.Popen(made.command, stdin=made.descriptor, stdout=out) as runner,
    ):
        wait_until(lambda: "ready" in (tmp_path / "out").read_text(), 20)
        runner.send_signal(signal.SIGUSR1)
        assert runner.wait(20) == 5
    assert made.results() == ((0, 5), (1, 0))
    made.close()


@given(
    st.dictionaries(st.integers(0, 1 << 60), commands, min_size=1, max_size=5),
    st.dictionaries(st.integers(0, 9), st.integers(-64, 255), max_size=3),
)
@settings(max_examples=200, deadline=None)
def test_what_is_handed_over_is_what_is_run(tasks: dict[int, list[str]], before: dict[int, int]) -> None:
    """Whatever is in the words, and but for those that ended well already."""
    listed = sorted(tasks.items())
    made = Chunk("17", listed, tuple(before.items()))
    given_ = os.pread(made.descriptor, os.fstat(made.descriptor).st_size, 0)
    left = [task for task in listed if before.get(task[0]) != 0] or listed
    assert chunk._unpack(given_) == ("17", [(index, list(command)) for index, command in left])
    made.close()


def test_the_runner_needs_next_to_nothing() -> None:
    """It starts for each chunk: it imports nothing of ours, and no more than what it needs of Python."""
    script = (
        "import sys; before = set(sys.modules); path = sys.argv[1];"
        "exec(compile(open(path).read(), path, 'exec'), {'__name__': 'imported', '__file__': path});"
        "print(*set(sys.modules) - before)"
    )
    command = [sys.executable, "-I", "-S", "-c", script, chunk.__file__]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    # What `signal` needs.
    light = set(
        "signal enum types operator functools collections keyword reprlib itertools time os posixpath"
        " genericpath stat".split()
    )
    assert {name.partition(".")[0] for name in found if not name.startswith("_")} <= light
