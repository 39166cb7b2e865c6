"""The plan of one submission of a sweep: a file that says which tasks there are, for the jobs that run them.

    OUT_DIR/.sweeps/TOKEN.jsonl    a head, and then a line for each task
    OUT_DIR/.sweeps/TOKEN/         the outputs of its jobs

It is written whole before the jobs are submitted, and never changes. A job finds its line by the offset in
its command, so that a hundred thousand jobs do not each read a hundred thousand lines.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

from roundq.words.errors import RoundqError
from roundq.words.outputs import escaped
from roundq.words.parameters import digest
from roundq.world import files, procs

#: What jobs execute, `python -c CODE PLAN OFFSET HASH`, where CODE ends so; and if they were submitted
#: before that was so, and wait still, `python -m RUNNER PLAN OFFSET HASH`.
_RUN = " from roundq.faces.api import sweep_task; sweep_task.run()"
RUNNER = "roundq.faces.api.sweep_task"
DIRECTORY = ".sweeps"
SUFFIX = ".jsonl"
_FORMAT = 1
#: A line is the parameters of one task.
_LINE_MAX = 64 << 20


class Head(NamedTuple):
    """What all tasks of a plan have in common: `source` is a module, or the path of a file, that has the
    class `name`; `chunk` how many tasks one job runs; with `force` what is done is done again. `path` is the
    sys.path of who submitted it, in absolute paths."""

    identity: str
    source: str
    name: str
    chunk: int = 1
    force: bool = False
    path: Sequence[str] = ()


class Planned(NamedTuple):
    """One task of a plan: its hash, the directory in which its output directory is, and its parameters."""

    hash: str
    out_dir: str
    params: Mapping[str, Any]


class Plan(NamedTuple):
    """A plan that was written: its file, and the offset of the line of each task."""

    path: str
    offsets: Sequence[int]

    @property
    def token(self) -> str:
        """What no other plan is called."""
        return token_of(self.path)

    @property
    def outputs(self) -> str:
        """The directory for the outputs of its jobs."""
        return self.path.removesuffix(SUFFIX)

    @property
    def job_output(self) -> str:
        """The name of the output of its jobs, as a job has it."""
        return f"{escaped(self.outputs)}/%a.out"


def token_of(path: str) -> str:
    """The token of a plan, by the path of its file."""
    return os.path.basename(path).removesuffix(SUFFIX)


def write(out_dir: str, head: Head, tasks: Sequence[Planned]) -> Plan:
    """Writes a plan below `out_dir`, which is made if need be, durably. Raises OSError."""
    directory = f"{out_dir}/{DIRECTORY}"
    token = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.urandom(4).hex()}"
    path = f"{directory}/{token}{SUFFIX}"
    os.makedirs(f"{directory}/{token}", exist_ok=True)
    lines = [_line({"sweep": _FORMAT, **head._asdict()})]
    lines += [_line({"hash": task.hash, "out_dir": task.out_dir, "params": task.params}) for task in tasks]
    offsets, place = [], len(lines[0])
    for line in lines[1:]:
        offsets.append(place)
        place += len(line)
    # Where a group has the directory, it must not have a say in what is executed.
    temporary = files.write_temporary(directory, f".{token}", b"".join(lines), mode=mode() & 0o644)
    files.replace(temporary, path)
    files.sync_directory(directory)
    return Plan(path, offsets)


def remove(plan: Plan) -> None:
    """Takes back a plan none of whose jobs was accepted, as far as the system lets it: why they were not is
    what has to be told."""
    with contextlib.suppress(OSError):
        files.remove(plan.path)
        os.rmdir(plan.outputs)


def mode() -> int:
    """The mode of a new file, as the user's umask has it."""
    return 0o666 & ~procs.own_umask()


def _line(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode() + b"\n"


# ---------------------------------------------------------------- reading


def read_one(path: str, offset: int, wanted: str) -> tuple[Head, Planned]:
    """The head of a plan, and the task whose line begins there. Raises RoundqError if that is not the task
    `wanted`, and OSError."""
    with _opened(path) as file:
        head = _head(file.readline(_LINE_MAX), path)
        file.seek(offset)
        task = _planned(file.readline(_LINE_MAX), path)
    if task.hash != wanted or digest(task.params) != wanted:
        raise RoundqError(f"{path}: at {offset} there is not the task {wanted}", "submit the sweep again")
    return head, task


def read(path: str) -> tuple[Head, list[Planned]]:
    """All of a plan. Raises RoundqError or OSError."""
    with _opened(path) as file:
        return _head(file.readline(_LINE_MAX), path), [_planned(line, path) for line in file]


def _opened(path: str) -> BinaryIO:
    """A plan of mine, open. Whose file it is says what code is executed, in my name."""
    file = open(files.open_fresh(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or files.others_write(status):
        file.close()
        raise RoundqError(f"{path} is no plan of yours, or others can write to it", "submit the sweep again")
    return file


def of_command(command: Sequence[str]) -> tuple[str, str] | None:
    """The path of the plan, and the hash of the task, that a job's command runs; None if it runs none."""
    if len(command) != 6:
        return None
    how, what = command[1:3]
    if (how == "-c" and what.endswith(_RUN)) or (how == "-m" and what == RUNNER):
        return command[3], command[5]
    return None


def command_of(plan: Plan, place: int, task: Planned, interpreter: str) -> tuple[str, ...]:
    """The command that runs one task of a plan."""
    home = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    # With -m the working directory would come first, and a signal.py there in place of the library's.
    code = f"import sys; sys.path[:] = [{home!r}, *filter(None, sys.path)];{_RUN}"
    return interpreter, "-c", code, plan.path, str(plan.offsets[place]), task.hash


def commands(plan: Plan, tasks: Sequence[Planned], interpreter: str) -> Iterator[tuple[str, ...]]:
    """The commands of all tasks of a plan, in order."""
    return (command_of(plan, place, task, interpreter) for place, task in enumerate(tasks))


def _head(line: bytes, path: str) -> Head:
    value = _value(line, path)
    if value.get("sweep") != _FORMAT:
        raise RoundqError(f"{path} is no plan of a sweep that this version knows", "submit the sweep again")
    try:
        # An older plan may wait, which has no path.
        known = {field: value[field] for field in Head._fields if field in value or field != "path"}
        return Head(**known)
    except KeyError as error:
        raise RoundqError(f"{path}: {error} is missing", "submit the sweep again") from None


def _planned(line: bytes, path: str) -> Planned:
    value = _value(line, path)
    try:
        return Planned(value["hash"], value["out_dir"], value["params"])
    except KeyError as error:
        raise RoundqError(f"{path}: {error} is missing", "submit the sweep again") from None


def _value(line: bytes, path: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise RoundqError(f"{path}: a line of it is cut or not ours", "submit the sweep again")
    return value
