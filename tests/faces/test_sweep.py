"""Promises about `rq sweep` and `rq gather`: what is submitted, what is said, and what cannot be swept."""

from __future__ import annotations

import copy
import csv
import errno
import importlib
import io
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from roundq.actors import submission
from roundq.faces.api import sweep_plans as plans
from roundq.faces.api import sweep_tables as tables
from roundq.faces.api.sweep import Sweep, load
from roundq.faces.cli import run
from roundq.records import spool as spools
from roundq.sweep import ParameterSet, Task, pset
from roundq.words.errors import NoSuchJob, QueueFull, RoundqError, UsageError
from roundq.words.parameters import digest
from tests.faces.desk import Desk

FITS = """
from roundq.sweep import Task, pset

class Fit(Task):
    sweep = pset("lr", [0.1, 1]) * pset("seed", range(3))

    def run(self):
        return {"loss": self.params["lr"] * self.params["seed"]}
"""


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What a test had imported from its own directory, the next one does not find."""
    modules, path = set(sys.modules), list(sys.path)
    yield
    for name in set(sys.modules) - modules:
        del sys.modules[name]
    sys.path[:] = path


@pytest.fixture
def fits(desk: Desk) -> Desk:
    """Ann with a module that has a sweep of six tasks."""
    (desk.directory / "fits.py").write_text(FITS)
    return desk


def finish(desk: Desk, target: str, results: dict[int, object]) -> Sweep:
    """Writes results of some tasks, by their places, as their jobs would have."""
    sweep = load(target, str(desk.directory))
    for place, value in results.items():
        directory = Path(sweep.directory_of(list(sweep.tasks.values())[place]))
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "run-1.json").write_text("{}")
        name, key = ("failed.json", "error") if isinstance(value, Exception) else ("result.json", "result")
        told = f"{type(value).__name__}: {value}" if isinstance(value, Exception) else value
        (directory / name).write_text(json.dumps({"run": 1, "sweep": "", key: told}))
    return sweep


def jobs(desk: Desk) -> list[tuple[str, ...]]:
    """The commands of the jobs that wait, in the order of their indices."""
    entries = spools.scan(desk.spool, ("waiting",))
    records = [spools.read(desk.spool, entry) for entry in entries]
    return [r.job.command for r in sorted(records, key=lambda r: r.job.array.index if r.job.array else 0)]


# ---------------------------------------------------------------- submitting


def test_a_sweep_is_one_array_with_a_task_for_each_set(fits: Desk) -> None:
    """Each job's command leads to its line of the plan, and bears its hash; nothing else is written."""
    said = fits.rq("sweep", "-c", "2", "--throttle", "3", "fits:Fit")
    assert said == (0, 'submitted 1 "Fit", 6 tasks\n', "")
    sets = [{"lr": lr, "seed": seed} for lr in (0.1, 1) for seed in range(3)]
    for command, params in zip(jobs(fits), sets, strict=True):
        assert command[:2] == (sys.executable, "-c")
        assert plans.of_command(command) == (command[3], digest(params))
        _, task = plans.read_one(command[3], int(command[4]), command[5])
        assert (task.params, task.hash) == (params, digest(params))
    job = fits.record("1_0").job
    assert (job.cores, job.jobname, job.directory) == (2, "Fit", str(fits.directory))
    assert job.array is not None
    assert job.array.throttle == 3
    assert os.listdir(fits.directory / "out") == [".sweeps"]


def test_to_ask_what_would_be_run_writes_nothing(fits: Desk) -> None:
    """Neither here nor in the queue."""
    said = fits.rq("sweep", "--dry-run", "fits:Fit")
    first = digest({"lr": 0.1, "seed": 0})[:12]
    assert said.out.splitlines()[:2] == [
        "would run 6 of 6 tasks of fits:Fit",
        f"  {first}  lr=0.1 seed=0",
    ]
    assert len(said.out.splitlines()) == 7
    assert not (fits.directory / "out").exists()
    assert jobs(fits) == []


def test_what_waits_is_not_submitted_again(fits: Desk) -> None:
    """Only what a grown sweep has in addition."""
    fits.rq("sweep", "fits:Fit")
    assert fits.rq("sweep", "fits:Fit").out == "nothing to run of 6 tasks of fits:Fit; 6 waiting\n"
    assert fits.rq("sweep", "--force", "fits:Fit").out == "nothing to run of 6 tasks of fits:Fit; 6 waiting\n"
    (fits.directory / "more.py").write_text(
        "from fits import Fit as Base\nfrom roundq.sweep import pset\nclass Fit(Base):\n"
        "    identity = 'fits:Fit'\n    sweep = Base.sweep + pset('lr', [5]) * pset('seed', [0, 1])\n"
    )
    assert fits.rq("sweep", "more:Fit").out == 'submitted 2 "Fit", 2 tasks; 6 waiting\n'
    fits.rq("hold", "1")
    fits.rq("cancel", "1_5")
    said = fits.rq("sweep", "--dry-run", "fits:Fit").out
    assert said.splitlines() == [
        "would run 1 of 6 tasks of fits:Fit; 5 held",
        f"  {digest({'lr': 1, 'seed': 2})[:12]}  lr=1 seed=2",
    ]


def test_what_is_done_is_not_done_again_unless_it_is_forced(fits: Desk) -> None:
    """What failed, or was interrupted, is."""
    finish(fits, "fits:Fit", {0: 1, 1: 2, 2: ValueError("no")})
    said = fits.rq("sweep", "--dry-run", "fits:Fit").out
    assert said.splitlines()[0] == "would run 4 of 6 tasks of fits:Fit; 2 done"
    said = fits.rq("sweep", "--dry-run", "--force", "fits:Fit").out
    assert said.splitlines()[0] == "would run 6 of 6 tasks of fits:Fit"
    assert fits.rq("sweep", "fits:Fit").out == 'submitted 1 "Fit", 4 tasks; 2 done\n'


def test_several_tasks_may_be_in_one_job(fits: Desk) -> None:
    """Also then each is known to be underway."""
    assert fits.rq("sweep", "--chunk", "4", "fits:Fit").out == 'submitted 1 "Fit", 6 tasks in 2 jobs\n'
    assert [len(fits.record(f"1_{index}").job.chunk) for index in (0, 4)] == [4, 2]
    assert fits.rq("sweep", "fits:Fit").out == "nothing to run of 6 tasks of fits:Fit; 6 waiting\n"


@pytest.mark.parametrize("of", ["record", "plan"])
def test_nothing_is_submitted_while_it_cannot_be_told_what_is_underway(
    fits: Desk, monkeypatch: pytest.MonkeyPatch, of: str
) -> None:
    """A file server that is away for a moment is no reason to run all of it twice."""
    assert fits.rq("sweep", "fits:Fit").code == 0

    def failing(*_: object) -> Any:
        raise OSError(errno.EIO, os.strerror(errno.EIO), "it")

    with monkeypatch.context() as patch:
        patch.setattr(*((spools, "read", failing) if of == "record" else (plans, "read", failing)))
        said = fits.rq("sweep", "fits:Fit")
    assert said.code != 0
    assert "Input/output error" in said.err
    assert len(jobs(fits)) == 6
    # What will stay so is no reason to stop: a plan that is gone, a record that is none.
    for path in (fits.directory / "out" / ".sweeps").glob("*-*.jsonl"):
        path.unlink()
    assert fits.rq("sweep", "fits:Fit").out == 'submitted 2 "Fit", 6 tasks\n'


def test_sets_that_are_there_twice_are_run_once(desk: Desk) -> None:
    """That is said."""
    (desk.directory / "fits.py").write_text(
        FITS + "twice = Fit.sweep + pset('seed', [0]) * pset('lr', [1])\n"
    )
    said = desk.rq("sweep", "fits:twice")
    assert said.out == 'submitted 1 "Fit", 6 tasks\n'
    assert said.err == "rq: warning: 1 parameter set is there more than once, and run once\n"


def test_a_plan_of_what_was_refused_does_not_stay(fits: Desk) -> None:
    """As no job has it."""
    os.chmod(fits.spool.path, 0o777)
    said = fits.rq("sweep", "fits:Fit")
    assert said.code == 77
    assert os.listdir(fits.directory / "out" / ".sweeps") == ["task.json"]


@pytest.mark.parametrize("after", ["_print_ids", "follow"])
def test_the_plan_of_an_array_that_is_in_the_queue_stays(
    fits: Desk, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    """Whatever fails after it was accepted: its id cannot be printed, or it cannot be waited for."""
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) if after == "_print_ids" else NoSuchJob("gone")

    def failing(*_: object) -> None:
        raise error

    monkeypatch.setattr(run, after, failing)
    said = fits.rq("sweep", "--wait", "fits:Fit")
    assert said.code != 0
    assert ("cannot be printed: No space left" if after == "_print_ids" else "gone") in said.err
    assert len(jobs(fits)) == 6
    for command in jobs(fits):
        assert plans.of_command(command) is not None
        assert os.path.isfile(command[3])
        assert os.path.isdir(command[3].removesuffix(".jsonl"))


def test_what_a_plan_leaves_does_not_hide_why_nothing_was_submitted(
    fits: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here somebody put a file beside it meanwhile."""

    def refused(
        _spool: object, _job: object, parts: Sequence[Sequence[Any]], *_: object, **__: object
    ) -> str:
        command = parts[0][0].command
        Path(command[3].removesuffix(".jsonl"), "note").write_text("x")
        raise QueueFull("too many wait")

    monkeypatch.setattr(submission, "submit_array", refused)
    said = fits.rq("sweep", "fits:Fit")
    assert said.err == "rq: too many wait\n"


def test_programs_submit_as_people_do(fits: Desk) -> None:
    """And get the handle of the array, or None where there is nothing to run."""
    sweep = load("fits:Fit")
    job = sweep.submit(cores=2, chunk=4)
    assert job is not None
    assert [task.id for task in job.tasks] == ["1_0", "1_4"]
    assert fits.record("1_0").job.cores == 2
    assert fits.rq("sweep", "fits:Fit").out == "nothing to run of 6 tasks of fits:Fit; 6 waiting\n"
    assert load("fits:Fit").submit() is None
    assert {state.state for state in sweep.states().values()} == {"waiting"}


def test_a_sweep_is_given_no_directory_and_no_output(fits: Desk) -> None:
    """It has its own, and that is said instead of leaving out what was asked for."""
    for option in ("directory", "output"):
        with pytest.raises(TypeError, match=f"a sweep has a {option} of its own"):
            load("fits:Fit").submit(**{option: "there"})  # type: ignore[arg-type]
    assert os.listdir(fits.spool.directory("waiting")) == []


def test_a_directory_may_be_said_from_here(desk: Desk) -> None:
    """Tasks and their outputs are there wherever a job begins."""
    (desk.directory / "sub").mkdir()
    (desk.directory / "sub" / "fits.py").write_text(FITS)
    sweep = load("fits:Fit", "sub")
    assert sweep.out_dirs == Sweep(sweep.task, directory="sub").out_dirs == [f"{desk.directory}/sub/out"]
    assert sweep.submit() is not None
    assert {os.path.dirname(plans.of_command(command)[0]) for command in jobs(desk)} == {  # type: ignore[index]
        f"{desk.directory}/sub/out/.sweeps"
    }
    assert not (desk.directory / "sub" / "sub").exists()


def test_tasks_may_be_in_several_directories(fits: Desk) -> None:
    """As their out_dir says, also as a path; all are one array, and one table."""
    (fits.directory / "two.py").write_text(
        FITS + "    def out_dir(self):\n        import pathlib\n"
        "        return pathlib.Path('by') / str(self.params['lr'])\n"
    )
    assert fits.rq("sweep", "two:Fit").out == 'submitted 1 "Fit", 6 tasks\n'
    assert sorted(os.listdir(fits.directory / "by")) == ["0.1", "1"]
    assert fits.rq("sweep", "two:Fit").out == "nothing to run of 6 tasks of two:Fit; 6 waiting\n"
    finish(fits, "two:Fit", dict.fromkeys(range(6), 1))
    assert fits.rq("gather", "two:Fit").out.count("\n") == 7
    assert fits.rq("sweep", "two:Fit").out == "nothing to run of 6 tasks of two:Fit; 6 done\n"


def test_an_interrupted_submission_leaves_no_job(fits: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left of it hinders nothing."""

    def stopped(*_: object, **__: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(submission, "submit_array", stopped)
        said = fits.rq("sweep", "fits:Fit")
    assert (said.code, said.out, said.err) == (130, "", "rq: interrupted; nothing was submitted\n")
    assert fits.rq("sweep", "fits:Fit").out == 'submitted 1 "Fit", 6 tasks\n'


# ---------------------------------------------------------------- where the class is

LTASK = """
import json
import roundq.sweep as ltask
from roundq.sweep import pset, ls

def scan():
    P = pset("p", range(7)) * pset("q", range(5)) + pset("p", [10]) * pset("q", [10, 11])
    P.name = "example"
    return P

class Task(ltask.Task):
    def __init__(self, params):
        self.params = params

    def out_dir(self):
        return "./examples/out/"

    def transform_params(self, p):
        p["sum"] = p["p"] + p["q"]
        return p

    def run(self):
        p = self.processed_params()
        json.dump(p, open(p["output_dir"] + "/params.json", "w"), indent=5)
"""


def test_a_class_for_ltask_works_with_its_import_changed(desk: Desk) -> None:
    """A function that returns sets, of the class that is called Task beside it: 37 tasks."""
    (desk.directory / "examples").mkdir()
    (desk.directory / "examples" / "scans.py").write_text(LTASK)
    assert desk.rq("sweep", "examples.scans:scan").out == 'submitted 1 "example", 37 tasks\n'
    sweep = load("examples.scans:scan")
    task = sweep.task({"p": 1, "q": 2})
    made = task.processed_params()
    hashed = digest({"p": 1, "q": 2})
    assert made == {"p": 1, "q": 2, "sum": 3, "output_dir": f"./examples/out/{hashed}"}
    assert task.params == {"p": 1, "q": 2}
    task.run()
    assert json.loads((desk.directory / f"examples/out/{hashed}/params.json").read_text()) == made


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("Params = [{'a': 1}]\nclass Fit(Task): pass", "fits:Fit"),
        ("class Fit(Task):\n    sweep = staticmethod(lambda: pset('a', [1]))", "fits:Fit"),
        ("sets = [{'a': 1}]\nclass Fit(Task): pass", "fits:sets"),
        ("def sets():\n    yield {'a': 1}\nclass Fit(Task): pass", "fits.py:sets"),
        ("class All:\n    class Fit(Task):\n        sweep = [{'a': 1}]", "sub/../fits.py:All.Fit"),
    ],
)
def test_parameter_sets_may_be_said_in_several_ways(desk: Desk, text: str, target: str) -> None:
    """By the class, beside it, or by a function; in a module or a file."""
    (desk.directory / "sub").mkdir()
    (desk.directory / "fits.py").write_text(f"from roundq.sweep import Task, pset\n{text}\n")
    sweep = load(target)
    assert [task.params for task in sweep.tasks.values()] == [{"a": 1}]
    assert sweep.identity in ("fits:Fit", "fits:All.Fit")


def test_jobs_look_for_modules_where_the_program_did(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the directory of a script that was started elsewhere, also in a relative place."""
    (desk.directory / "project").mkdir()
    (desk.directory / "project" / "fits.py").write_text(FITS)
    monkeypatch.syspath_prepend("project")
    task = importlib.import_module("fits").Fit
    assert Sweep(task, [{"lr": 3, "seed": 2}]).submit() is not None
    (command,) = jobs(desk)
    environ = {**desk.homes.environ("ann"), "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run(command, cwd=desk.directory, env=environ, check=True, timeout=20)
    assert Sweep(task, [{"lr": 3, "seed": 2}]).results()[0]["loss"] == 6


def test_a_plan_without_places_is_read_as_well(tmp_path: Path) -> None:
    """As they were written before."""
    head = plans.Head("fits:Fit", "fits", "Fit", path=["/x"])
    plan = plans.write(str(tmp_path), head, [])
    assert plans.read(plan.path)[0] == head
    text = Path(plan.path).read_text()
    Path(plan.path).write_text(text.replace(',"path":["/x"]', ""))
    assert plans.read(plan.path)[0] == head._replace(path=())


# ---------------------------------------------------------------- bad input

BAD = {
    "fits": ("", '"fits" says not what is to be swept'),
    "nowhere:Fit": ("", "nowhere cannot be imported: ModuleNotFoundError: No module named 'nowhere'"),
    "nowhere.py:Fit": ("", "nowhere.py cannot be imported: FileNotFoundError"),
    "fits:Fit": ("import nosuchmodule", "fits cannot be imported: ModuleNotFoundError"),
    "fits:Fits": ("class Fit(Task): pass", "fits has nothing called Fits"),
    "fits:Plain": ("class Plain: pass", "fits:Plain is no task"),
    "fits:Empty": ("class Empty(Task): pass", "fits:Empty has no parameter sets"),
    "fits:none": ("none = []\nclass Fit(Task): pass", "fits:Fit has no parameter sets"),
    "fits:Idle": ("class Idle(Task): sweep = pset('a', [1])", "fits:Idle has no run()"),
    "fits:alone": ("alone = [{'a': 1}]", "fits has no task"),
    "fits:both": (
        "both = [{'a': 1}]\nclass A(Task): pass\nclass B(Task): pass",
        "fits has several tasks: A, B",
    ),
    "fits:nan": ("nan = pset('x', [float('nan')])", "fits: parameter x is nan, which JSON has no form for"),
    "fits:kind": (
        "kind = [{'a': 1, 'model': object}]\nclass Fit(Task): pass",
        "parameter model is <class 'object'> (type), which JSON has no form for",
    ),
    "fits:double": ("double = pset('x', [1]) * pset('x', [2])", "both have a parameter x"),
    "fits:uneven": ("uneven = pset('x', [1]) | pset('y', [2, 3])", "1 cannot stand side by side with 2"),
    "fits:fails": (
        "def fails():\n    raise OSError('no data')\nclass Fit(Task): pass",
        "fits:Fit: its parameter sets cannot be made: OSError: no data",
    ),
    "fits:Lost": (
        "class Lost(Task):\n    sweep = [{'a': 1}]\n    def out_dir(self): return 1 / 0",
        "fits:Lost: out_dir() failed: ZeroDivisionError: division by zero",
    ),
    "fits:Odd": (
        "class Odd(Task):\n    sweep = [{'a': 1}]\n    def out_dir(self): return ''",
        "fits:Odd: out_dir() returned ''",
    ),
    "fits:made": (
        "def make():\n    class Made(Task): sweep = [{'a': 1}]\n    return Made\nmade = make()",
        "fits has nothing called make.<locals>.Made, as fits:made calls itself",
    ),
    "fits:other": (
        "class Fit(Task): sweep = [{'a': 1}]\nother = Fit\ndel Fit",
        "fits has nothing called Fit, as fits:other calls itself",
    ),
    "fits:same": (
        "class Fit(Task): sweep = [{'a': 1}]\nsame = Fit\nclass Fit(Task): sweep = [{'a': 2}]",
        "fits has another class called Fit, as fits:same calls itself",
    ),
    "fits:syntax": ("def (", "fits cannot be imported: SyntaxError"),
    "fits:exits": ("import sys; sys.exit(3)", "fits cannot be imported: SystemExit: 3"),
}


@pytest.mark.parametrize("target", BAD)
def test_what_cannot_be_swept_is_explained(desk: Desk, target: str) -> None:
    """Whatever is wrong with the user's code: what, and in which line of his; nothing is submitted."""
    text, wanted = BAD[target]
    (desk.directory / "fits.py").write_text(f"from roundq.sweep import Task, pset\n{text}\n")
    said = desk.rq("sweep", target)
    assert said.code == 2
    assert said.out == ""
    assert said.err.startswith("rq: ")
    assert wanted in said.err.splitlines()[0]
    assert "Traceback" not in said.err
    if target in ("fits:Fit", "fits:nan", "fits:fails", "fits:Lost", "fits:syntax", "fits:exits"):
        assert "fits.py:" in said.err
    assert "/roundq/" not in said.err
    assert "importlib" not in said.err, "how Python looks for modules is not his code"
    assert jobs(desk) == []
    assert not (desk.directory / "out").exists()


@pytest.mark.parametrize("words", [(), ("--status",), ("--dry-run",)])
def test_a_module_that_submits_its_sweep_when_it_is_imported_is_refused(
    desk: Desk, words: tuple[str, ...]
) -> None:
    """Else each task would submit it again, and to ask for its status would."""
    (desk.directory / "fits.py").write_text(f"{FITS}\nfrom roundq.sweep import Sweep\nSweep(Fit).submit()\n")
    said = desk.rq("sweep", *words, "fits.py:Fit")
    assert (said.code, said.out) == (2, "")
    assert said.err.splitlines()[:2] == [
        "rq: fits.py: it submits a sweep while it is imported, and each task imports it",
        "hint: put what submits it below: if __name__ == '__main__':",
    ]
    assert "fits.py:11 in <module>" in said.err
    assert jobs(desk) == []
    assert not (desk.directory / "out").exists()
    with pytest.raises(UsageError, match="it submits a sweep while"):
        load("fits:Fit")
    (desk.directory / "fits.py").write_text(FITS)
    assert load("fits:Fit").submit() is not None


def test_an_output_directory_with_other_content_is_left_alone(fits: Desk) -> None:
    """Neither what lies there is touched nor anything submitted."""
    theirs = fits.directory / "out" / digest({"lr": 0.1, "seed": 1})
    theirs.mkdir(parents=True)
    (theirs / "thesis.tex").write_text("mine")
    (fits.directory / "out" / digest({"lr": 0.1, "seed": 2})).write_text("a file")
    said = fits.rq("sweep", "fits:Fit")
    assert said.code == 1
    assert f"{theirs} is not an output directory of a sweep, nor are 1 others" in said.err
    assert jobs(fits) == []
    assert fits.rq("sweep", "--status", "fits:Fit").out.startswith("6 tasks of fits:Fit; 4 new, 2 foreign\n")
    assert os.listdir(theirs) == ["thesis.tex"]


def test_a_file_in_the_place_of_all_output_is_said(fits: Desk) -> None:
    (fits.directory / "out").write_text("")
    said = fits.rq("sweep", "fits:Fit")
    assert (said.code, said.out) == (1, "")
    assert "out is no directory" in said.err


def test_two_tasks_do_not_share_a_directory(fits: Desk) -> None:
    """The same parameters mean another thing to each; but a renamed class may say what it was called."""
    fits.rq("sweep", "fits:Fit")
    (fits.directory / "other.py").write_text(FITS)
    said = fits.rq("sweep", "other:Fit")
    assert said.code == 1
    assert "out has the results of fits:Fit, and not of other:Fit" in said.err
    assert 'identity = "fits:Fit"' in said.err
    (fits.directory / "third.py").write_text(FITS + "    identity = 'fits:Fit'\n")
    assert fits.rq("sweep", "third:Fit").out == "nothing to run of 6 tasks of fits:Fit; 6 waiting\n"


def test_a_derived_class_has_results_of_its_own(fits: Desk) -> None:
    """It may do something else: what its base says of itself is not said of it."""
    (fits.directory / "two.py").write_text(
        FITS + "    identity = 'old:Fit'\n    sweep = [{'a': 1}]\nclass More(Fit): pass\n"
    )
    assert (load("two:Fit").identity, load("two:More").identity) == ("old:Fit", "two:More")
    finish(fits, "two:Fit", {0: 1})
    assert load("two:Fit").submit(force=True) is not None
    said = fits.rq("sweep", "two:More")
    assert said.code == 1
    assert "out has the results of old:Fit, and not of two:More" in said.err


class Restless(Task):
    """One that adds to its parameters when it is made, and again when it runs."""

    def __init__(self, params: dict[str, Any]) -> None:
        self.params = params
        self.params["extra"] = 1
        self.params["more"].append(2)
        self.begun_in = self.output_dir

    def run(self) -> str:
        self.params["step"] = 3
        return self.output_dir


def test_a_task_is_identified_by_what_it_was_made_with() -> None:
    """Whatever it does to its parameters, its output directory is that in which its result is."""
    sweep = Sweep(Restless, [{"a": 1, "more": []}], source="fits")
    (hashed,) = sweep.tasks
    task = Restless({"a": 1, "more": []})
    assert task.begun_in == task.run() == f"out/{hashed}"
    assert task.hash == hashed == digest({"a": 1, "more": []})
    assert task.params == {"a": 1, "more": [2], "extra": 1, "step": 3}
    for another in (
        copy.deepcopy(task),
        pickle.loads(pickle.dumps(task)),
        Restless(params={"a": 1, "more": []}),
    ):
        assert another.hash == hashed


def test_a_result_that_is_cut_is_named(fits: Desk) -> None:
    """And not taken for none."""
    sweep = finish(fits, "fits:Fit", {0: 1})
    path = Path(sweep.directory_of(next(iter(sweep.tasks.values())))) / "result.json"
    path.write_text('{"run": 1, "sweep": "", "resu')
    said = fits.rq("gather", "fits:Fit")
    assert (said.code, said.out) == (1, "")
    assert f"{path} is cut, or was not written by roundq" in said.err


def test_a_class_that_nobody_else_can_find_is_refused() -> None:
    """One that was typed, and is in no file, or that its module does not know. One of a program that was
    started by `python -m` is in that module."""
    made = type("Typed", (Task,), {"sweep": [{"a": 1}], "__module__": "__main__"})
    main = ModuleType("__main__")
    before = sys.modules["__main__"]
    sys.modules["__main__"] = main
    try:
        with pytest.raises(UsageError, match="Typed is in no file, and so no node finds it"):
            Sweep(made)
        main.__file__ = "/home/ann/scan.py"
        with pytest.raises(UsageError, match=r"scan\.py has nothing called Typed, as the class calls itself"):
            Sweep(made)
        vars(main)["Typed"] = made
        assert (Sweep(made).source, Sweep(made).identity) == ("/home/ann/scan.py", "scan:Typed")
        main.__spec__ = ModuleSpec("work.scan", None)
        assert (Sweep(made).source, Sweep(made).identity) == ("work.scan", "work.scan:Typed")
    finally:
        sys.modules["__main__"] = before


# ---------------------------------------------------------------- how far, and what it gave


def test_status_tells_how_far_a_sweep_is(fits: Desk) -> None:
    """And why tasks failed."""
    finish(fits, "fits:Fit", {0: 1, 3: 2, 2: ValueError("bad\x1bseed")})
    said = fits.rq("sweep", "--status", "fits:Fit")
    assert said.code == 0
    assert said.out.splitlines() == [
        "6 tasks of fits:Fit; 2 done, 3 new, 1 failed",
        f"  {digest({'lr': 0.1, 'seed': 2})[:12]}  lr=0.1 seed=2  failed: ValueError: bad\\x1bseed",
    ]


RESULTS: dict[int, object] = {
    0: {"loss": 0.5, "lr": 9, "note": 'a,"b"'},
    1: {"loss": float("nan"), "more": [1, None]},
    2: 7,
    3: None,
    4: {"loss": 1},
}
ROWS: list[dict[str, Any]] = [
    {"lr": 0.1, "seed": 0, "loss": 0.5, "result.lr": 9, "note": 'a,"b"'},
    {"lr": 0.1, "seed": 1, "loss": "nan", "more": [1, None]},
    {"lr": 0.1, "seed": 2, "result": 7},
    {"lr": 1, "seed": 0},
    {"lr": 1, "seed": 1, "loss": 1},
]


def test_results_are_gathered_as_one_table(fits: Desk) -> None:
    """With the parameters, in the order of the sets; what is missing is listed, and told by the exit code."""
    finish(fits, "fits:Fit", RESULTS)
    said = fits.rq("gather", "fits:Fit")
    rows = list(csv.DictReader(io.StringIO(said.out)))
    assert list(rows[0]) == ["hash", "lr", "seed", "loss", "result.lr", "note", "more", "result"]
    for row, wanted in zip(rows, ROWS, strict=True):
        cells = {name: json.dumps(v) if isinstance(v, list) else str(v) for name, v in wanted.items()}
        hashed = digest({"lr": wanted["lr"], "seed": wanted["seed"]})
        assert row == {**dict.fromkeys(row, ""), "hash": hashed, **cells}
    assert said.code == 1
    assert said.err.splitlines() == [
        "rq: 1 of 6 tasks have no result; 1 new",
        "hint: rq sweep fits:Fit runs what is not done",
        f"  {digest({'lr': 1, 'seed': 2})[:12]}  lr=1 seed=2  new",
    ]


def test_what_is_no_unicode_is_gathered_as_well(fits: Desk) -> None:
    """As a name of a file may be: escaped, as JSON has it."""
    finish(fits, "fits:Fit", {place: {"file \udc80": "\udc80.gz"} for place in range(6)})
    said = fits.rq("gather", "fits:Fit")
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines()[1].endswith(",0.1,0,\\udc80.gz")
    assert fits.rq("gather", "-o", "all.jsonl", "fits:Fit") == (0, "", "")
    first = json.loads((fits.directory / "all.jsonl").read_text().splitlines()[0])
    assert first["file \udc80"] == "\udc80.gz"


def test_no_column_hides_another(desk: Desk) -> None:
    """Whatever parameters and results are called: the hash stays, and so does each of them."""
    text = FITS.replace('"seed"', '"hash"')
    (desk.directory / "fits.py").write_text(text)
    sweep = finish(desk, "fits:Fit", {place: {"result.lr": 1, "lr": 2, "hash": 3} for place in range(6)})
    hashed = next(iter(sweep.tasks))
    assert sweep.results()[0] == {
        "hash": hashed,
        "lr": 0.1,
        "parameter.hash": 0,
        "result.lr": 1,
        "result.result.lr": 2,
        "result.hash": 3,
    }


def test_a_column_of_a_parameter_has_no_results(desk: Desk) -> None:
    """Nor where the parameter is one of other tasks alone."""
    text = FITS.replace("range(3))", "[0]) + pset('loss', ['l2'])")
    (desk.directory / "fits.py").write_text(text)
    sweep = finish(desk, "fits:Fit", {place: {"loss": 9} for place in range(3)})
    shown = [{name: row[name] for name in row if name != "hash"} for row in sweep.results()]
    assert shown == [
        {"lr": 0.1, "seed": 0, "result.loss": 9},
        {"lr": 1, "seed": 0, "result.loss": 9},
        {"loss": "l2", "result.loss": 9},
    ]


def test_a_table_is_not_said_to_be_where_it_could_not_be_written(fits: Desk) -> None:
    """A directory of its name is in its place; nothing unfinished stays."""
    finish(fits, "fits:Fit", dict.fromkeys(range(6), 1))
    (fits.directory / "all.csv").mkdir()
    for path, why in (("all.csv", "Is a directory"), ("no/all.csv", "No such file or directory")):
        said = fits.rq("gather", "-o", path, "fits:Fit")
        assert (said.code, said.out, said.err) == (1, "", f"rq: cannot write {path}: {why}\n")
    assert sorted(os.listdir(fits.directory)) == ["all.csv", "fits.py", "out"]


def test_a_whole_sweep_is_gathered_in_silence(fits: Desk) -> None:
    """Into a file, whose ending says how: here one object a line, with the values as they are."""
    finish(fits, "fits:Fit", {**RESULTS, 5: "done"})
    (fits.directory / "all.jsonl").write_text("old")
    assert fits.rq("gather", "-o", "all.jsonl", "fits:Fit") == (0, "", "")
    rows = [json.loads(line) for line in (fits.directory / "all.jsonl").read_text().splitlines()]
    assert [{k: v for k, v in row.items() if k != "hash"} for row in rows][2:] == [
        *ROWS[2:],
        {"lr": 1, "seed": 2, "result": "done"},
    ]
    assert rows[1]["more"] == [1, None]
    assert sorted(os.listdir(fits.directory)) == ["all.jsonl", "fits.py", "out"]


def test_a_table_without_results_has_its_first_column(fits: Desk) -> None:
    """So that whatever reads CSV reads this, too."""
    assert fits.rq("gather", "fits:Fit").out == "hash\n"


@pytest.mark.parametrize("name", ["results", "results.xlsx", "csv"])
def test_another_kind_of_file_is_refused(fits: Desk, name: str) -> None:
    """Before anything is imported or read."""
    said = fits.rq("gather", "-o", name, "nowhere:Fit")
    assert (said.code, said.out) == (2, "")
    assert f"rq: {name}: what kind of file is it?" in said.err


def test_columns_of_parquet_are_of_one_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the values are: of mixed ones the JSON, since a column of Parquet has one type."""
    written: dict[str, Any] = {}
    fake = ModuleType("pyarrow")
    types = ("bool_", "int64", "float64", "string")
    vars(fake).update(
        {name: lambda name=name: name for name in types},
        array=lambda values, **of: (of["type"], list(values)),
        table=lambda arrays: arrays,
        BufferOutputStream=lambda: SimpleNamespace(
            getvalue=lambda: SimpleNamespace(to_pybytes=lambda: b"PAR1")
        ),
    )
    parquet = ModuleType("pyarrow.parquet")
    vars(parquet).update(write_table=lambda arrays, _: written.update(arrays))
    vars(fake).update(parquet=parquet)
    monkeypatch.setitem(sys.modules, "pyarrow", fake)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", parquet)
    table: list[dict[str, Any]] = [
        {"b": True, "i": 1, "f": 1, "s": "x", "m": 1, "l": [1], "n": None, "huge": 1 << 70},
        {"b": None, "i": 2, "f": 0.5, "s": None, "m": "x", "l": None, "n": None, "huge": 1},
    ]
    assert tables.as_parquet(table) == b"PAR1"
    assert written == {
        "b": ("bool_", [True, None]),
        "i": ("int64", [1, 2]),
        "f": ("float64", [1.0, 0.5]),
        "s": ("string", ["x", None]),
        "m": ("string", ["1", '"x"']),
        "l": ("string", ["[1]", None]),
        "n": ("string", [None, None]),
        "huge": ("string", [str(1 << 70), "1"]),
    }


@pytest.mark.parametrize(("module", "write"), [("pyarrow", tables.as_parquet), ("pandas", tables.frame)])
def test_an_extra_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, module: str, write: Any
) -> None:
    """With what installs it."""
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(RoundqError, match=f"needs {module}, which is not installed") as error:
        write([{"a": 1}])
    assert error.value.hint == f"{sys.executable} -m pip install pandas pyarrow"


def test_a_sweep_of_many_sets_is_known_by_few_looks(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """One listing for all output directories: those that are not there are not asked for."""
    from roundq.world import files

    listed: list[str] = []
    names = files.names

    def noted(path: str, **more: Any) -> list[str]:
        listed.append(path)
        return names(path, **more)

    monkeypatch.setattr(files, "names", noted)
    made = type("Fit", (Task,), {"__module__": "fits"})
    sweep = Sweep(made, pset("a", range(500)) * pset("b", range(10)), source="fits")
    (desk.directory / "out" / next(iter(sweep.tasks))).mkdir(parents=True)
    states = sweep.states()
    assert len(states) == 5000
    assert {state.state for state in states.values()} == {"new"}
    assert len([path for path in listed if ".roundqueue" not in path]) < 5


def test_what_is_public_is_what_the_module_says() -> None:
    """`roundq.sweep` has a sequence of sets, also of plain dicts."""
    assert list(ParameterSet([{"a": (1, 2)}])) == [{"a": [1, 2]}]
