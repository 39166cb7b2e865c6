"""Promises about arrays that run: each task is a job of its own, and knows which one it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from roundq.actors import environ
from roundq.actors.streams import error_path, output_path
from roundq.records import spool as spools
from roundq.words.job import Array, Identity, Job, Record, Task
from roundq.words.states import COMPLETED, FAILED
from tests.actors.spoolhome import NODE, SpoolHome
from tests.cluster.wait import wait_until


@pytest.fixture
def home(tmp_path: Path) -> Iterator[SpoolHome]:
    made = SpoolHome(tmp_path / "homes")
    yield made
    made.stop()


def test_each_task_runs_for_itself_and_writes_to_its_own_file(home: SpoolHome) -> None:
    """More of them than are read one by one; one that fails is one."""
    script = 'env | grep ^RQ_ARRAY_ | sort; test "$RQ_ARRAY_TASK_ID" != 14'
    count = 25
    indices = range(10, 10 + 2 * count, 2)
    job = Job(
        ("sh",),
        directory=str(home.home),
        jobname="fit",
        output="fit.%a.out",
        array=Array("", 10, 10, indices[-1], 2, count),
    )
    array = spools.submit_array(
        home.spool, job, [[Task(i, ("/bin/sh", "-c", script))] for i in indices], NODE
    )
    home.daemon()
    ended = (COMPLETED, FAILED)
    wait_until(
        lambda: sum(entry.state in ended for entry in spools.scan(home.spool)) == count,
        60,
        on_timeout=home.story,
    )
    for index in indices:
        assert home.state(f"{array}_{index}") == (FAILED if index == 14 else COMPLETED)
        lines = home.output(f"fit.{index}.out").splitlines()
        assert lines[0].startswith(f"rq: job {array}_{index} 'fit' begins on {NODE}, ")
        assert lines[1:-1] == [
            f"RQ_ARRAY_JOB_ID={array}",
            f"RQ_ARRAY_TASK_COUNT={count}",
            f"RQ_ARRAY_TASK_ID={index}",
            f"RQ_ARRAY_TASK_MAX={indices[-1]}",
            "RQ_ARRAY_TASK_MIN=10",
            "RQ_ARRAY_TASK_STEP=2",
        ]


def test_a_job_of_a_task_is_no_task() -> None:
    """What a task submits finds nothing of its array."""
    given = environ.of_task(Array("17", 3, 0, 9, 1, 10))
    assert set(given) <= environ.JOB_VARIABLES
    assert environ.submitted({**given, "RQ_JOB_ID": "17_3", "KEPT": "1"}) == {"KEPT": "1"}


@pytest.mark.parametrize(
    ("output", "error", "paths"),
    [
        ("", None, ("/d/rq-17_3.out", "/d/rq-17_3.out")),
        ("", "%j.err", ("/d/rq-17_3.out", "/d/17_3.err")),
        ("%x.%3a", "%A/%r", ("/d/fit.003", "/d/17/2")),
        ("/o/%u-%N", None, ("/o/ann-n1", "/o/ann-n1")),
    ],
)
def test_names_of_outputs_are_filled_in(output: str, error: str | None, paths: tuple[str, str]) -> None:
    """By who opens them and by who shows them alike."""
    array = Array("17", 3, 0, 9, 1, 10)
    job = Job(("fit",), directory="/d", home_dir="/home/ann", output=output, error=error, array=array)
    record = Record(job, node="n1", attempt=3, process=Identity("b", 1, 2))
    assert (output_path(record, "17_3"), error_path(record, "17_3")) == paths
