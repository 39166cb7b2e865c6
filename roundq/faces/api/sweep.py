"""Sweeps: one task for each of many parameter sets, in a directory named by the hash of its parameters.

    class Fit(roundq.sweep.Task):
        sweep = pset("lr", [0.1, 0.01]) * pset("seed", range(10))

        def run(self):
            return {"loss": ...}

`rq sweep` and `rq gather` are its face for people.
"""

from __future__ import annotations

import copy
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from roundq.faces.api import sweep_outputs as outputs
from roundq.faces.api import sweep_plans as plans
from roundq.faces.api import sweep_source as sources
from roundq.faces.api.sweep_plans import Planned
from roundq.words.errors import PartlySubmitted, RoundqError, UsageError
from roundq.words.parameters import checked, digest
from roundq.words.psets import ParameterSet
from roundq.world import files

if TYPE_CHECKING:
    import pandas
    from typing_extensions import Self, Unpack

    from roundq.faces.api.handles import Job
    from roundq.faces.api.options import Options
    from roundq.faces.api.queue import Queue

#: What becomes of a task that a job has: beside those of `sweep_outputs`.
HELD, WAITING, RUNNING = "held", "waiting", "running"
UNDERWAY = (HELD, WAITING, RUNNING)
#: From so many directories on they are looked at side by side: a home that is far away answers late.
_MANY, _AT_ONCE = 200, 16
#: Which task a directory of outputs belongs to.
_OWNER = "task.json"


class Task:
    """One task of a sweep: what is done with one parameter set. Derive from it, and say at least `run`.

    `sweep` are the parameter sets: a ParameterSet, a list of dicts, or a function without arguments that
    returns one. `identity` is whose results these are, by default `MODULE:CLASS`: say here what it was when
    the class or its module is renamed; it is not inherited. A task is an object of the class with one set as
    `params`.
    """

    sweep: ClassVar[Any] = None
    identity: ClassVar[str] = ""
    #: What it was made with.
    _given: dict[str, Any] | None = None

    def __new__(cls, *given: Any, **named: Any) -> Self:
        """Keeps the parameters, by which it is identified, from what `__init__` and `run` do to them."""
        made = super().__new__(cls)
        params = given[0] if given else named.get("params")
        if isinstance(params, Mapping):
            made._given = copy.deepcopy(dict(params))
        return made

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.params: dict[str, Any] = dict(params)

    def out_dir(self) -> str:
        """The directory in which output directories are made, relative to where the sweep is submitted."""
        return "out"

    def transform_params(self, params: dict[str, Any]) -> dict[str, Any] | None:
        """Derives parameters, in a copy of `params` that it may change: that, or what it returns. They are
        for `run` alone: the hash is that of `params`."""
        return params

    def run(self) -> Any:
        """Does the work in the directory of the submission; what it returns is kept as JSON."""
        raise NotImplementedError(f"{type(self).__name__} has no run()")

    def kill(self) -> None:
        """Called when the task is told to end (SIGTERM), between two steps of `run`. By default `run` ends
        there, by SystemExit. Whatever `run` returns after that, the task is not done."""
        raise SystemExit(143)

    @property
    def hash(self) -> str:
        """The hash of the parameters that it was made with, which identifies it."""
        return digest(checked(self.params if self._given is None else self._given))

    @property
    def output_dir(self) -> str:
        """Its output directory; nothing is made."""
        return f"{os.fspath(self.out_dir()).rstrip('/') or '/'}/{self.hash}"

    def processed_params(self) -> dict[str, Any]:
        """The parameters as `transform_params` makes them, with `output_dir`, which is made."""
        params = copy.deepcopy(dict(self.params))
        transformed = self.transform_params(params)
        made = dict(params if transformed is None else transformed)
        made["output_dir"] = self.output_dir
        os.makedirs(self.output_dir, exist_ok=True)
        return made


class State(NamedTuple):
    """What becomes of a task, and the job that has it, if one does."""

    state: str
    job: str = ""


class Sweep:
    """Some tasks, each once: those of a class with some parameter sets."""

    def __init__(
        self,
        task: type[Task],
        sets: Any = None,
        *,
        source: str | None = None,
        directory: str | None = None,
    ) -> None:
        """Without `sets` those of the class. `source` is the module or file in which nodes find the class,
        by default its own; `directory` where tasks run, by default this one.

        Raises UsageError for what is no parameter set, and what the class itself raises as SourceError.
        """
        if not (isinstance(task, type) and issubclass(task, Task)):
            raise UsageError(
                f"{getattr(task, '__name__', task)!s} is no task", "derive it from roundq.sweep.Task"
            )
        self.task = task
        self.directory = os.getcwd() if directory is None else os.path.abspath(directory)
        if source is None:
            source = _source_of(task)
            _check_called(task, sys.modules.get(task.__module__), source, "the class")
        self.source = source
        #: Whose results these are.
        own = task.__dict__.get("identity")
        self.identity = own or f"{sources.module_name(self.source)}:{task.__qualname__}"
        found = _sets_of(task.sweep if sets is None else sets, self.identity)
        self.name = found.name or task.__name__
        #: How many sets were there twice.
        self.repeated = 0
        #: The tasks by their hashes, in the order of their sets.
        self.tasks: dict[str, Planned] = {}
        for params in found:
            planned = self._planned(params)
            if self.tasks.setdefault(planned.hash, planned) is not planned:
                self.repeated += 1

    def _planned(self, params: dict[str, Any]) -> Planned:
        try:
            out_dir = os.fspath(self.task(copy.deepcopy(params)).out_dir())
        except Exception as error:
            what = f"{self.identity}: out_dir() failed: {type(error).__name__}: {error}"
            raise sources.SourceError(what, None, sources.lines_of(error)) from error
        if not isinstance(out_dir, str) or not out_dir:
            raise UsageError(
                f"{self.identity}: out_dir() returned {out_dir!r}", "return the path of a directory"
            )
        return Planned(digest(params), os.path.normpath(os.path.join(self.directory, out_dir)), params)

    def __len__(self) -> int:
        return len(self.tasks)

    def directory_of(self, task: Planned) -> str:
        """The output directory of a task."""
        return f"{task.out_dir}/{task.hash}"

    @property
    def out_dirs(self) -> list[str]:
        """The directories in which the output directories are."""
        return list(dict.fromkeys(task.out_dir for task in self.tasks.values()))

    # ------------------------------------------------------------ looking

    def states(self, environ: Mapping[str, str] | None = None) -> dict[str, State]:
        """What becomes of each task, by its hash: as the queue tells, or else its output directory.

        Changes nothing. Raises OSError and RoundqError.
        """
        from roundq.faces.api.sweep_underway import underway

        for out_dir in self.out_dirs:
            self._check_owner(out_dir)
        # First the queue: a task that ends meanwhile is met in one of the two.
        jobs = underway(self.out_dirs, os.environ if environ is None else environ)
        there: dict[str, set[str]] = {}
        for out_dir in self.out_dirs:
            there[out_dir] = set(files.names(out_dir))
        begun = [task for task in self.tasks.values() if task.hash in there[task.out_dir]]
        looked = each([self.directory_of(task) for task in begun], outputs.look)
        found = {task.hash: State(state) for task, state in zip(begun, looked, strict=True)}
        states = {}
        for task in self.tasks.values():
            state = found.get(task.hash, State(outputs.NEW))
            job = jobs.get(self.directory_of(task))
            # Its job may be about to end, or it is forced.
            is_told = job is None or (state.state == outputs.DONE and not job.is_forced)
            states[task.hash] = state if is_told or job is None else State(job.state, job.id)
        return states

    def to_run(self, states: Mapping[str, State], *, force: bool = False) -> list[Planned]:
        """The tasks that are not done, and that no job has; with `force` also those that are done.

        Raises UsageError for a class without run(), and RoundqError if there is something else in the place
        of an output directory.
        """
        if self.task.run is Task.run:
            # Else each task would find that out by itself.
            raise UsageError(f"{self.identity} has no run()", "give the class one: def run(self): ...")
        foreign = [task for task in self.tasks.values() if states[task.hash].state == outputs.FOREIGN]
        if foreign:
            raise RoundqError(
                f"{self.directory_of(foreign[0])} is not an output directory of a sweep"
                + (f", nor are {len(foreign) - 1:,} others" if len(foreign) > 1 else ""),
                "move away what is there, or give the task another out_dir",
            )
        left = {outputs.NEW, outputs.BEGUN, outputs.BROKEN} | ({outputs.DONE} if force else set())
        return [task for task in self.tasks.values() if states[task.hash].state in left]

    def _check_owner(self, out_dir: str) -> bool:
        """Whether the outputs there are known as ours. Raises RoundqError if they are of another task."""
        directory = f"{out_dir}/{plans.DIRECTORY}"
        if not os.path.isdir(out_dir):
            if os.path.lexists(out_dir):
                raise RoundqError(
                    f"{out_dir} is no directory", "give the task another out_dir, or move it away"
                )
            return False
        if _OWNER not in files.names(directory):
            return False
        owner = outputs.read(directory, _OWNER).get("task")
        if owner != self.identity:
            raise RoundqError(
                f"{out_dir} has the results of {owner}, and not of {self.identity}",
                f'give {self.task.__name__} another out_dir(); if it was renamed: identity = "{owner}" in it',
            )
        return True

    # ------------------------------------------------------------ submitting

    def plan(self, tasks: Sequence[Planned], *, chunk: int = 1, force: bool = False) -> plans.Plan:
        """Writes the plan for some of its tasks. Raises OSError, and RoundqError as `submit`."""
        sources.check_imported()
        for out_dir in self.out_dirs:
            os.makedirs(f"{out_dir}/{plans.DIRECTORY}", exist_ok=True)
            self._own(out_dir)
        name, places = self.task.__qualname__, sources.places()
        head = plans.Head(self.identity, self.source, name, chunk, force, places)
        return plans.write(tasks[0].out_dir, head, tasks)

    def submit(
        self,
        queue: Queue | None = None,
        *,
        force: bool = False,
        chunk: int | None = None,
        throttle: int | None = None,
        max_fails: int | None = None,
        **options: Unpack[Options],
    ) -> Job | None:
        """Submits what is not done and not underway, with `force` also what is done, as one array.

        Its handle, or None if there is nothing to run. Options are those of `Queue.submit_array`, but for
        directory and output. Raises as that does, and as `states`; and UsageError while a module is imported
        for a sweep, as its tasks do.
        """
        sources.check_imported()
        from roundq.faces.api.queue import Queue

        for name in ("directory", "output"):
            if options.get(name) is not None:
                raise TypeError(f"a sweep has a {name} of its own: {name}= cannot be given")
        queue = Queue() if queue is None else queue
        left = self.to_run(self.states(queue.environment()), force=force)
        if not left:
            return None
        plan = self.plan(left, chunk=chunk or 1, force=force)
        asked: Options = {"name": self.name, **options}
        asked |= {"directory": self.directory, "output": plan.job_output}
        try:
            return queue.submit_array(
                plans.commands(plan, left, sys.executable),
                throttle=throttle,
                max_fails=max_fails,
                chunk=chunk,
                **asked,
            )
        except PartlySubmitted:
            raise
        except RoundqError:
            plans.remove(plan)
            raise

    # ------------------------------------------------------------ results

    def results(self, states: Mapping[str, State] | None = None) -> list[dict[str, Any]]:
        """A dict for each task that is done, in order: its `hash`, its parameters, and what `run` returned,
        the values of a dict by their names, anything else as `result`.

        Raises OSError, and RoundqError for a result that was not written by us.
        """
        from roundq.faces.api import sweep_tables

        return sweep_tables.rows(self, self.states() if states is None else states)

    def frame(self, states: Mapping[str, State] | None = None) -> pandas.DataFrame:
        """The results as a data frame of pandas. Raises as `results`, and RoundqError without pandas."""
        from roundq.faces.api import sweep_tables

        return sweep_tables.frame(self.results(states))

    def _own(self, out_dir: str) -> None:
        while not self._check_owner(out_dir):
            directory = f"{out_dir}/{plans.DIRECTORY}"
            data = outputs.dump({"task": self.identity})
            temporary = files.write_temporary(directory, ".task", data, mode=plans.mode())
            files.name_once(temporary, f"{directory}/{_OWNER}")


# ---------------------------------------------------------------- where it is from


def load(target: str, directory: str | None = None) -> Sweep:
    """The sweep that `MODULE:NAME` or `FILE.py:NAME` means, as seen from a directory, by default this one.

    NAME is a task class with a `sweep`; or parameter sets, or a function that returns them, of the only task
    class of that module, or of the one called Task. Raises UsageError and SourceError.
    """
    directory = os.getcwd() if directory is None else os.path.abspath(directory)
    source, name = sources.split(target)
    module = sources.load(source, directory)
    value = sources.found(module, name, source)
    where = os.path.join(directory, source) if sources.is_file(source) else source
    if isinstance(value, type):
        if not issubclass(value, Task):
            raise UsageError(f"{target} is no task", "derive the class from roundq.sweep.Task")
        _check_called(value, module, source, target)
        if value.sweep is None and (params := getattr(module, "Params", None)) is not None:
            return Sweep(value, params, source=where, directory=directory)
        return Sweep(value, source=where, directory=directory)
    task = _only_task(module, source)
    _check_called(task, module, source, f"the task of {source}")
    return Sweep(task, value, source=where, directory=directory)


def _check_called(task: type[Task], module: Any, source: str, whose: str) -> None:
    """Nodes find a class by what it calls itself. Raises UsageError if that is not it."""
    found: Any = module
    for part in task.__qualname__.split("."):
        found = getattr(found, part, None)
    if found is not task:
        another = "nothing" if found is None else "another class"
        raise UsageError(
            f"{source} has {another} called {task.__qualname__}, as {whose} calls itself",
            "define the class at the top of its module, and name it by the name that it has there",
        )


def _only_task(module: Any, source: str) -> type[Task]:
    """The task class of a module: the one called Task, or else the only one that it defines."""
    named = getattr(module, "Task", None)
    if isinstance(named, type) and issubclass(named, Task) and named is not Task:
        return named
    own = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Task) and value.__module__ == module.__name__
    ]
    if len(own) != 1:
        names = ", ".join(each.__name__ for each in own)
        raise UsageError(
            f"{source} has several tasks: {names}" if own else f"{source} has no task",
            "give the class its parameter sets as `sweep`, and name it: MODULE:CLASS"
            if own
            else "write a class that is derived from roundq.sweep.Task",
        )
    return own[0]


def _source_of(task: type[Task]) -> str:
    """Where another process finds a class: its module, or the file of a program that was started itself."""
    if task.__module__ != "__main__":
        return task.__module__
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name != "__main__":
        # It was started with -m.
        return str(spec.name)
    path = getattr(main, "__file__", None)
    if path is None:
        raise UsageError(f"{task.__name__} is in no file, and so no node finds it", "write it into a module")
    return os.path.abspath(str(path))


def _sets_of(value: Any, whose: str) -> ParameterSet:
    if callable(value):
        try:
            value = value()
        except RoundqError as error:
            raise sources.SourceError(f"{whose}: {error}", error.hint, sources.lines_of(error)) from error
        except Exception as error:
            what = f"{whose}: its parameter sets cannot be made: {type(error).__name__}: {error}"
            raise sources.SourceError(what, None, sources.lines_of(error)) from error
    if isinstance(value, ParameterSet):
        sets = value
    elif isinstance(value, Mapping) or not isinstance(value, Iterable) or isinstance(value, (str, bytes)):
        raise UsageError(
            f"{whose} has no parameter sets" if value is None else f"{whose}: {value!r} is no list of sets",
            "give the class a `sweep`, such as: sweep = pset('lr', [0.1, 0.01]) * pset('seed', range(3))",
        )
    else:
        sets = ParameterSet(value)
    if not sets:
        raise UsageError(f"{whose} has no parameter sets", "so there would be no task: give at least one")
    return sets


def each(paths: Sequence[str], look: Callable[[str], Any]) -> list[Any]:
    """What `look` says of each path, in order; of many, side by side."""
    if len(paths) < _MANY:
        return [look(path) for path in paths]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        return list(threads.map(look, paths, chunksize=64))


def counts(states: Iterable[State]) -> Iterator[tuple[str, int]]:
    """How many tasks are in which state, in the order in which tasks pass through them."""
    counted = Counter(state.state for state in states)
    order = (
        *(outputs.DONE, RUNNING, WAITING, HELD, outputs.NEW),
        *(outputs.BROKEN, outputs.BEGUN, outputs.FOREIGN),
    )
    return ((state, counted[state]) for state in order if counted[state])
