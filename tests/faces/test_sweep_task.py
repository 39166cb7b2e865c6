"""Promises about one task of a sweep: who runs it, what is in its directory, and how it ends.

A run is told apart from one that goes on by what is known of its process and its job; what a job executes is
executed here as a process of its own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from roundq.faces.api import sweep_outputs as outputs
from roundq.faces.api import sweep_plans as plans
from roundq.faces.api.sweep_outputs import Run, Taken
from roundq.faces.api.sweep_plans import Head, Planned
from roundq.records.spool import Spool
from roundq.words.errors import RoundqError
from roundq.words.job import Job
from roundq.words.parameters import digest
from roundq.words.states import CLAIMED, COMPLETED, RUNNING, WAITING, ZOMBIE
from roundq.world import procs
from roundq.world.procs import Liveness
from tests.cluster.wait import wait_until
from tests.faces.homes import HERE, Homes, record

HASH = digest({"a": 1})
FIT = """
import os, sys, time
from roundq.sweep import Task

class Fit(Task):
    def run(self):
        print("it is", self.params)
        {body}
"""


class Place:
    """A directory in which a sweep of one task is submitted, and its jobs by hand."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.out = directory / "out"
        self.output = self.out / HASH
        (directory / "home").mkdir()

    def plan(self, body: str, **of: Any) -> plans.Plan:
        """The plan of a task that does this."""
        (self.directory / "fits.py").write_text(FIT.format(body=body))
        head = Head("fits:Fit", "fits", "Fit", **of)
        return plans.write(str(self.out), head, [Planned(HASH, str(self.out), {"a": 1})])

    def start(self, plan: plans.Plan, **environ: str) -> subprocess.Popen[str]:
        """What a job executes, as a process."""
        task = Planned(HASH, str(self.out), {})
        given = {
            "HOME": str(self.directory / "home"),
            # A module that is rewritten within a second is another one.
            "PYTHONDONTWRITEBYTECODE": "1",
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "RQ_NODE": HERE,
            **environ,
        }
        command = plans.command_of(plan, 0, task, sys.executable)
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=given, cwd=self.directory, stdout=pipe, stderr=pipe, text=True)

    def run(self, plan: plans.Plan, **environ: str) -> tuple[int, str, str]:
        """The same to its end: exit code, and what it printed that is not in the log."""
        with self.start(plan, **environ) as process:
            said = process.communicate(timeout=20)
            return process.returncode, *said

    def has(self, name: str) -> Any:
        """The content of a file of JSON in the output directory."""
        return json.loads((self.output / name).read_text())

    def names(self) -> set[str]:
        """The names in the output directory, also hidden ones."""
        return set(os.listdir(self.output))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


# ---------------------------------------------------------------- one run


def test_a_task_leaves_its_parameters_its_log_and_its_result(place: Place) -> None:
    """In the directory of its hash; and is done, so that nobody does it again."""
    plan = place.plan("return {'loss': float('nan'), 'of': os.getcwd()}")
    assert place.run(plan) == (0, "", "")
    assert place.names() == {"params.json", "run-1.json", "log", "result.json"}
    assert place.has("params.json") == {"a": 1}
    told = place.has("result.json")
    assert told["result"].pop("loss") != told["result"]
    assert (told["run"], told["sweep"], told["node"]) == (1, plan.token, HERE)
    assert told["result"] == {"of": str(place.directory)}
    assert (place.output / "log").read_text() == "it is {'a': 1}\n"
    code, _, said = place.run(plan)
    assert (code, said) == (0, f"roundq: {place.output} is done already\n")


def test_a_failure_is_told_and_the_next_run_may_do_better(place: Place) -> None:
    """Then nothing of it is left but the number of the run."""
    plan = place.plan("raise ValueError('bad seed')")
    assert place.run(plan)[0] == 1
    told = place.has("failed.json")
    assert told["error"] == "ValueError: bad seed"
    assert "raise ValueError" in told["traceback"]
    assert "raise ValueError" in (place.output / "log").read_text()
    assert outputs.look(str(place.output)) == outputs.BROKEN
    assert place.run(place.plan("return 7"))[0] == 0
    assert (place.has("result.json")["run"], place.has("result.json")["result"]) == (2, 7)
    assert "failed.json" not in place.names()


def test_what_is_forced_is_done_again_once_by_each_sweep(place: Place) -> None:
    """A job of the same sweep that is run again does nothing; and a failure does not take the result away."""
    assert place.run(place.plan("return 1"))[0] == 0
    forced = place.plan("return 2", force=True)
    assert place.run(forced)[0] == 0
    assert place.has("result.json")["result"] == 2
    assert "is done already" in place.run(forced)[2]
    assert place.run(place.plan("return 1 / 0", force=True))[0] == 1
    assert place.has("result.json")["result"] == 2
    assert outputs.look(str(place.output)) == outputs.BROKEN


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return {'model': object()}", "what run() returned cannot be written: a object has no form in JSON"),
        ("sys.exit(3)", "RuntimeError: run() ended with exit code 3"),
        ("os.chdir('/'); import nosuchmodule", "ModuleNotFoundError: No module named 'nosuchmodule'"),
    ],
)
def test_what_a_task_does_wrong_is_said(place: Place, body: str, said: str) -> None:
    """In its directory, for the list of what failed."""
    assert place.run(place.plan(body))[0] == 1
    assert place.has("failed.json")["error"] == said


def test_a_result_for_which_there_is_no_room_is_said(place: Place) -> None:
    """As that, and not as an error of nobody knows which file."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)); return 'x' * 10000"
    assert place.run(place.plan(limit))[0] == 1
    error = "what run() returned cannot be written: File too large"
    assert place.has("failed.json")["error"] == error
    assert f"roundq: {error}\n" in (place.output / "log").read_text()
    assert place.names() == {"params.json", "run-1.json", "failed.json", "log"}


@pytest.mark.parametrize("end", ["sys.exit()", "return 1", "raise ValueError('of the child')"])
def test_a_process_that_a_task_forked_does_not_end_it(place: Place, end: str) -> None:
    """What becomes of the task is said by the process that has it; the other one only ends."""
    body = f"""
        child = os.fork()
        if not child:
            {end}
        os.waitpid(child, 0)
        raise ValueError(sorted(os.listdir("out/{HASH}")))
        """
    assert place.run(place.plan(body.strip()))[0] == 1
    assert place.has("failed.json")["error"] == "ValueError: ['log', 'params.json', 'run-1.json']"
    assert "result.json" not in place.names()


def test_a_module_that_a_node_cannot_import_is_named_with_the_node(place: Place) -> None:
    """And the job fails."""
    plan = place.plan("pass")
    (place.directory / "fits.py").write_text("import nosuchmodule\n")
    assert place.run(plan)[0] == 1
    error = place.has("failed.json")["error"]
    assert (
        error == f"fits cannot be imported: ModuleNotFoundError: No module named 'nosuchmodule' (on {HERE})"
    )


def test_arrays_in_results_become_lists(place: Place) -> None:
    """Of numpy or whatever else has a tolist; and sys.exit(0) is an end like another."""
    plan = place.plan("return type('Array', (), {'tolist': lambda self: [1, 2]})()")
    assert place.run(plan)[0] == 0
    assert place.has("result.json")["result"] == [1, 2]
    assert place.run(place.plan("sys.exit(0)", force=True))[0] == 0
    assert place.has("result.json")["result"] is None


@pytest.mark.parametrize("is_kill", [False, True])
def test_a_task_that_is_told_to_end_is_not_done(place: Place, is_kill: bool) -> None:
    """kill() is called, and by default ends run(), whose `finally` is done; the next run begins anew."""
    ends = "\n    def kill(self):\n        self.params['end'] = 1\n" if is_kill else ""
    body = (
        "try:\n            while 'end' not in self.params: print('x', flush=True); time.sleep(0.01)\n"
        "        finally: open('tidy', 'w').close()\n        return 1" + ends
    )
    plan = place.plan(body)
    with place.start(plan) as process:
        wait_until(lambda: (place.output / "log").exists() and (place.output / "log").stat().st_size > 20, 20)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 143
    assert (place.directory / "tidy").exists()
    assert place.names() == {"params.json", "run-1.json", "log"}
    assert outputs.look(str(place.output)) == outputs.BEGUN
    assert place.run(place.plan("return 2"))[0] == 0
    assert place.has("result.json")["run"] == 2


OWN = "open(self.processed_params()['output_dir'] + '/result.json', 'w').write('{\"run\": 3, \"loss\": 1}')"


def test_a_file_that_a_task_calls_as_its_result_proves_nothing(place: Place) -> None:
    """A task that is stopped after it wrote one is not done, and the next run does not work for nothing."""
    body = f"{OWN}\n        os.kill(os.getpid(), signal.SIGTERM)"
    assert place.run(place.plan(f"import signal; {body}"))[0] == 143
    assert outputs.look(str(place.output)) == outputs.BEGUN
    assert place.run(place.plan("open('begun', 'w')"))[0] == 1
    assert place.has("failed.json")["error"].startswith(
        f"{place.output}/result.json was not written by roundq"
    )
    assert not (place.directory / "begun").exists()
    (place.output / "result.json").unlink()
    assert place.run(place.plan("return 1"))[0] == 0
    assert outputs.look(str(place.output)) == outputs.DONE


def test_a_file_that_a_task_calls_as_its_result_is_not_replaced(place: Place) -> None:
    """It fails, and says so; neither that file is lost nor what it returned."""
    assert place.run(place.plan(f"{OWN}; return {{'loss': 2}}"))[0] == 1
    assert place.has("result.json") == {"run": 3, "loss": 1}
    told = place.has("failed.json")
    assert "result.json was not written by roundq" in told["error"]
    assert "let run() write a file of another name" in told["error"]
    assert told["result"] == {"loss": 2}
    assert outputs.look(str(place.output)) == outputs.BROKEN
    assert "result.json was not written by roundq" in (place.output / "log").read_text()


def test_a_result_that_cannot_be_read_is_not_taken_for_none(tmp_path: Path) -> None:
    """The task may be done: it is not run again for an error of the file server."""
    run = outputs.take(str(tmp_path), asker(), None)
    assert isinstance(run, Run)
    outputs.finish(str(tmp_path), run, 1)
    os.rename(tmp_path / "result.json", tmp_path / "kept")
    os.symlink("result.json", tmp_path / "result.json")
    with pytest.raises(OSError, match="symbolic links"):
        outputs.look(str(tmp_path))
    with pytest.raises(OSError, match="symbolic links"):
        outputs.take(str(tmp_path), asker(), None, force=False)


def test_the_log_is_the_output_of_the_job_under_a_second_name(place: Place) -> None:
    """So that `rq log` shows the same; and, of tasks that share a job, a file of their own."""
    plan = place.plan("return 1")
    output = place.directory / "17.out"
    for chunk in (1, 2):
        with open(output, "ab") as file:
            task = place.plan("return 1", chunk=chunk, force=True) if chunk == 2 else plan
            command = plans.command_of(task, 0, Planned(HASH, str(place.out), {}), sys.executable)
            environ = {**os.environ, "HOME": str(place.directory), "RQ_NODE": HERE, "RQ_OUTPUT": str(output)}
            subprocess.run(
                command, cwd=place.directory, env=environ, stdout=file, stderr=file, check=True, timeout=20
            )
        assert (place.output / "log").read_text() == "it is {'a': 1}\n"
        assert os.path.samefile(output, place.output / "log") == (chunk == 1)
    assert output.read_text() == "it is {'a': 1}\n"


@pytest.mark.parametrize("cut", ["head", "line", "other"])
def test_a_plan_that_is_not_right_is_no_task(place: Place, cut: str) -> None:
    """Nothing is run by half of it, and no directory made."""
    plan = place.plan("pass")
    text = Path(plan.path).read_text()
    head, line = text.splitlines()
    other = line.replace('{"a":1}', '{"a":2}')
    Path(plan.path).write_text(
        {"head": f"{head[:9]}\n{line}\n", "line": text[:-9], "other": f"{head}\n{other}"}[cut]
    )
    code, _, said = place.run(plan)
    assert code == 1
    assert said.startswith(f"roundq: {plan.path}: ")
    assert not place.output.exists()


def test_a_plan_that_others_could_have_written_is_not_followed(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says what code is executed: not even of a group may it be, whatever the umask, nor a link."""
    before = os.umask(0)
    try:
        plan = place.plan("pass")
    finally:
        os.umask(before)
    assert os.stat(plan.path).st_mode & 0o777 == 0o644
    assert plans.read_one(plan.path, plan.offsets[0], HASH)[1].params == {"a": 1}
    link = f"{plan.path}.jsonl"
    os.symlink(plan.path, link)
    with pytest.raises(OSError, match="symbolic links"):
        plans.read(link)
    os.chmod(plan.path, 0o666)
    with pytest.raises(RoundqError, match="is no plan of yours, or others can write to it"):
        plans.read(plan.path)
    os.chmod(plan.path, 0o644)
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with pytest.raises(RoundqError, match="is no plan of yours"):
        plans.read_one(plan.path, plan.offsets[0], HASH)


# ---------------------------------------------------------------- the right to run it


@pytest.fixture
def mine(tmp_path: Path) -> Spool:
    """A spool of ann's."""
    (tmp_path / "homes").mkdir()
    return Homes(tmp_path / "homes").user("ann")


def asker(job: str = "2_0", **of: Any) -> Run:
    """Who asks to run a task: a living process, with a job of ann's."""
    given = {"number": 0, "sweep": "s", "job": job, "attempt": 1, "spool": "", "node": HERE, "started": 1.0}
    return Run(**{"process": procs.own_identity(), **given, **of})


def test_of_many_who_ask_at_once_one_runs_it(tmp_path: Path) -> None:
    """Two sweeps of the same set at once do not run a task twice."""
    directory = str(tmp_path / "task")
    barrier, taken = threading.Barrier(8), []

    def ask(number: int) -> None:
        barrier.wait()
        taken.append(outputs.take(directory, asker(f"{number}_0"), None))

    for _ in range(20):
        directory = str(tmp_path / os.urandom(4).hex())
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    runs = [each for each in taken if isinstance(each, Run)]
    assert len(taken) == 160
    assert len(runs) == 20
    assert {run.number for run in runs} == {1}
    assert all(each.liveness is Liveness.ALIVE for each in taken if isinstance(each, Taken))


def taken_after(directory: Path, before: Run, asks: Run, mine: Spool | None) -> Run | Taken:
    """What one gets who asks for a task of which there was this run."""
    directory.mkdir(exist_ok=True)
    value = {**before._asdict(), "process": outputs._process(before.process)}
    (directory / f"run-{before.number}.json").write_text(json.dumps(value))
    return outputs.take(str(directory), asks, mine, sleep=lambda _: None)


@pytest.mark.parametrize("state", ["gone", WAITING, RUNNING, COMPLETED, ZOMBIE])
def test_a_run_elsewhere_is_over_when_the_queue_says_so(mine: Spool, tmp_path: Path, state: str) -> None:
    """Its job has ended, is known no more, or waits for its next attempt, or runs it."""
    if state != "gone":
        attempt = 2 if state in (WAITING, RUNNING) else 1
        Homes(tmp_path / "homes").put(
            mine, state, "1_0", record(node="far", attempt=attempt, job_directory="/")
        )
    before = asker("1_0", number=1, node="far", spool=mine.path)
    found = taken_after(tmp_path / "task", before, asker(spool=mine.path), mine)
    assert isinstance(found, Run)
    assert found.number == 2


@pytest.mark.parametrize("state", [CLAIMED, RUNNING])
def test_a_run_elsewhere_whose_job_runs_goes_on(mine: Spool, tmp_path: Path, state: str) -> None:
    """It is left to it, though a listing may be old, and show a job that runs as it was before."""
    Homes(tmp_path / "homes").put(mine, state, "1_0", record(node="far", job_directory="/"))
    before = asker("1_0", number=1, node="far", spool=mine.path)
    found = taken_after(tmp_path / "task", before, asker(spool=mine.path), mine)
    assert found == Taken(False, before, Liveness.ALIVE)


def test_a_run_of_which_nobody_can_know_is_not_taken_for_dead(mine: Spool, tmp_path: Path) -> None:
    """By hand on another node, or of a queue that is not mine."""
    for number, before in enumerate(
        [asker("", number=1, node="far"), asker("1_0", number=1, node="far", spool="/x")]
    ):
        found = taken_after(tmp_path / str(number), before, asker(spool=mine.path), mine)
        assert found == Taken(False, before, Liveness.UNKNOWN)


def test_an_earlier_attempt_of_the_same_job_is_over(mine: Spool, tmp_path: Path) -> None:
    """Though its process is on a node that does not answer."""
    Homes(tmp_path / "homes").put(mine, RUNNING, "1_0", record(node=HERE, attempt=2, job_directory="/"))
    before = asker("1_0", number=3, node="far", spool=mine.path)
    found = taken_after(tmp_path / "task", before, asker("1_0", attempt=2, spool=mine.path), mine)
    assert isinstance(found, Run)
    assert found.number == 4


def test_a_run_here_is_over_when_its_process_is(tmp_path: Path) -> None:
    """Of an earlier boot, too, unless a job says so, which may say the name of another node."""
    dead = replace(procs.own_identity(), start=1)
    assert isinstance(taken_after(tmp_path / "a", asker(number=1, process=dead), asker(), None), Run)
    assert isinstance(taken_after(tmp_path / "b", asker(number=1), asker(), None), Taken)
    rebooted = replace(dead, boot="no-such-boot")
    assert isinstance(
        taken_after(tmp_path / "c", asker("", number=1, process=rebooted), asker(""), None), Run
    )
    found = taken_after(tmp_path / "d", asker("", number=1, process=rebooted), asker("1_0"), None)
    assert isinstance(found, Taken)
    assert found.liveness is Liveness.UNKNOWN


def test_a_task_that_another_job_runs_ends_well_at_once(place: Place) -> None:
    """And the output of the job says which one has it; a doubtful one fails, and says what to remove."""
    plan = place.plan("return 1")
    for node, code, words in ((HERE, 0, "job 1_0 runs it on"), ("far", 75, "may still run it")):
        place.output.mkdir(exist_ok=True, parents=True)
        run = asker("1_0" if node == HERE else "", number=1, node=node)
        value = {**run._asdict(), "process": outputs._process(run.process)}
        (place.output / "run-1.json").write_text(json.dumps(value))
        found = place.run(plan, RQ_JOB_ID="2_0")
        assert found[0] == code, found
        assert words in found[2]
    assert "remove run-1.json there" in found[2]
    assert place.names() == {"run-1.json"}


def test_a_directory_with_other_content_is_left_alone(tmp_path: Path) -> None:
    """No run is taken there."""
    (tmp_path / "theirs").write_text("x")
    with pytest.raises(RoundqError, match="it is not empty: it holds theirs"):
        outputs.take(str(tmp_path), asker(), None)
    with pytest.raises(RoundqError, match="there is something else of this name"):
        outputs.take(str(tmp_path / "theirs"), asker(), None)
    assert os.listdir(tmp_path) == ["theirs"]


def test_a_run_that_cannot_be_read_stops_everybody(tmp_path: Path) -> None:
    """It may be one that goes on: it is named."""
    (tmp_path / "run-1.json").write_text("{}")
    with pytest.raises(RoundqError, match=r"run-1\.json was not written by roundq"):
        outputs.take(str(tmp_path), asker(), None)


def test_a_failed_run_is_over_though_its_process_lives(tmp_path: Path) -> None:
    """It said so itself."""
    run = outputs.take(str(tmp_path), asker(), None)
    assert isinstance(run, Run)
    outputs.fail(str(tmp_path), run, "no")
    again = outputs.take(str(tmp_path), asker(), None)
    assert isinstance(again, Run)
    assert again.number == 2
    outputs.finish(str(tmp_path), again, {"a": time.time() > 0})
    assert outputs.look(str(tmp_path)) == outputs.DONE
    assert outputs.take(str(tmp_path), asker(), None) == Taken(True)


@pytest.mark.parametrize("name", ["signal", "traceback", "json"])
def test_files_beside_a_sweep_are_not_taken_for_the_library(place: Place, name: str) -> None:
    """They are called as they like: the job finds the modules that it needs itself where Python has them."""
    (place.directory / f"{name}.py").write_text("raise RuntimeError('this is not of the library')\n")
    plan = place.plan("return 1")
    assert place.run(plan) == (0, "", "")
    assert place.has("result.json")["result"] == 1


def test_a_job_that_was_submitted_by_module_still_runs(place: Place) -> None:
    """And is known to be of its plan."""
    plan = place.plan("return 1")
    command = (sys.executable, "-m", plans.RUNNER, plan.path, str(plan.offsets[0]), HASH)
    assert plans.of_command(command) == (plan.path, HASH)
    environ = {"HOME": str(place.directory), "PYTHONPATH": str(Path(__file__).parents[2]), "RQ_NODE": HERE}
    subprocess.run(command, cwd=place.directory, env=environ, check=True, timeout=20)
    assert place.has("result.json")["result"] == 1


def test_a_command_that_is_no_task_is_none() -> None:
    """Whatever its words are."""
    for command in (("true",), ("a", "b", "c", "d", "e", "f"), ("a", "-c", "pass", "d", "e", "f"), ()):
        assert plans.of_command(command) is None
    assert Job(("true",)).command == ("true",)
