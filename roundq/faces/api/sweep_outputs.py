"""The output directory of one task of a sweep: what lies there, and who may run the task now.

    params.json    its parameters
    run-N.json     its N-th run: which job, where, since when; made once, so one process wins it
    log            what it printed, in its last run
    result.json    what it gave: it is done, if we wrote it
    failed.json    why its last run failed

What begins as we begin our files is ours. A task may have a result.json of its own, which proves nothing.
A run is the right to write there. The next one is taken only when the last is known to be over: it said so
itself, its process died on this node, or its job in the queue has ended or runs its next attempt. Numbers are
never given twice, so whoever was slow to decide finds the next one taken.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from roundq.faces.api.sweep_plans import mode
from roundq.records import lookup
from roundq.records import spool as spools
from roundq.records.spool import Spool
from roundq.words.errors import RoundqError
from roundq.words.job import Identity
from roundq.words.quantities import visible
from roundq.words.states import ENDED_STATES
from roundq.world import files, procs
from roundq.world.procs import Liveness

PARAMS, LOG, RESULT, FAILED = "params.json", "log", "result.json", "failed.json"
_RUN = re.compile(r"run-([1-9][0-9]{0,8})\.json", re.ASCII)
#: How a result and a failure of ours begin, and so much of a file shows that.
_OURS = re.compile(rb'\{\s*"run"\s*:\s*([1-9][0-9]{0,8})\s*,\s*"sweep"\s*:', re.ASCII)
_BEGINNING = 200
#: What becomes of a task, as far as its directory tells: nothing yet; a run began and none has ended; it
#: failed; it is done; the directory holds something else.
NEW, BEGUN, BROKEN, DONE, FOREIGN = "new", "interrupted", "failed", "done", "foreign"
#: How often one more run is tried for, and a record looked for that may just be moving.
_TRIES, _LOOKS = 100, 3
LOOK_S = 0.5


class Occupied(RoundqError):
    """A task has written a file of its own in the place of its result."""


class Run(NamedTuple):
    """One run of a task: the plan and the job's attempt that it belongs to, and its process on its node.

    `job` and `spool` are empty of a run that no queue knows.
    """

    number: int
    sweep: str
    job: str
    attempt: int
    spool: str
    node: str
    process: Identity
    started: float


class Taken(NamedTuple):
    """Why a task is not run now: it is done, or `run` has it; `liveness` is what is known of that."""

    is_done: bool
    run: Run | None = None
    liveness: Liveness = Liveness.ALIVE


# ---------------------------------------------------------------- looking


def standing(names: Sequence[str], directory: str) -> str:
    """What became of a task whose output directory holds these names. Of a result, and of a failure beside
    it, the beginning is read. Raises OSError."""
    if RESULT in names and (number := _number_in(directory, RESULT)):
        if FAILED not in names:
            return DONE
        return BROKEN if _number_in(directory, FAILED) > number else DONE
    if FAILED in names:
        return BROKEN
    if last_run(names):
        return BEGUN
    return FOREIGN if names else NEW


def look(directory: str) -> str:
    """What became of the task of an output directory. Raises OSError, but not for one that is absent."""
    try:
        return standing(files.names(directory), directory)
    except NotADirectoryError:
        return FOREIGN


def last_run(names: Sequence[str]) -> int:
    """The number of the last run, 0 if there was none."""
    found = (_RUN.fullmatch(name) for name in names)
    return max((int(match[1]) for match in found if match), default=0)


def read(directory: str, name: str) -> dict[str, Any]:
    """The content of one of its files. Raises OSError, and RoundqError if it is not what we write."""
    path = f"{directory}/{name}"
    with open(files.open_fresh(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        try:
            value = json.load(file)
        except (ValueError, RecursionError):
            value = None
    if not isinstance(value, dict):
        raise RoundqError(f"{path} is cut, or was not written by roundq", "remove it, and run the task again")
    return value


def read_run(directory: str, number: int) -> Run:
    """What is known of a run. Raises as `read`."""
    value = read(directory, f"run-{number}.json")
    try:
        process = Identity(*(value["process"][field] for field in ("boot", "pid", "start")))
        return Run(**{field: value[field] for field in Run._fields if field != "process"}, process=process)
    except (KeyError, TypeError):
        path = f"{directory}/run-{number}.json"
        raise RoundqError(f"{path} was not written by roundq", "remove it if no run of it goes on") from None


def _number_in(directory: str, name: str) -> int:
    """The number of the run that wrote a result or a failure, 0 if it is not there, or not ours. Raises
    OSError: what cannot be read may be ours."""
    try:
        descriptor = files.open_fresh(f"{directory}/{name}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        begun = _OURS.match(os.read(descriptor, _BEGINNING))
    except IsADirectoryError:
        return 0
    finally:
        os.close(descriptor)
    return int(begun[1]) if begun else 0


# ---------------------------------------------------------------- the right to run it


def take(
    directory: str,
    run: Run,
    mine: Spool | None,
    *,
    force: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> Run | Taken:
    """The next run of the task of this directory, which is made if need be; or why there is none now.

    `run` says who asks, but for the number; `mine` is the spool of his jobs. With `force` a task is run that
    was done by another sweep. Raises OSError, and RoundqError if the directory holds something else.
    """
    _make(directory)
    for _ in range(_TRIES):
        names = files.names(directory)
        if _is_done(directory, names, run, force):
            return Taken(True)
        _check_ours(directory, names)
        number = last_run(names)
        if number:
            before = read_run(directory, number)
            alive = liveness(before, names, directory, run, mine, sleep)
            if alive is not Liveness.DEAD:
                return Taken(False, before, alive)
        taken = run._replace(number=number + 1)
        data = dump({**taken._asdict(), "process": _process(taken.process)})
        temporary = files.write_temporary(directory, ".run", data, mode=mode())
        if files.name_once(temporary, f"{directory}/run-{number + 1}.json"):
            # Meanwhile the last run may have written its result.
            done = _is_done(directory, files.names(directory), run, force)
            return Taken(True) if done else taken
    raise RoundqError(f"{directory}: others take each run of it", "look who else runs this sweep")


def _make(directory: str) -> None:
    try:
        os.makedirs(directory, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise RoundqError(
            f"{directory} cannot be made: there is something else of this name",
            "move it away, or give the task another out_dir",
        ) from None


def _is_done(directory: str, names: Sequence[str], run: Run, force: bool) -> bool:
    if standing(names, directory) != DONE:
        return False
    return not force or read(directory, RESULT).get("sweep") == run.sweep


def _check_ours(directory: str, names: Sequence[str]) -> None:
    if standing(names, directory) == FOREIGN:
        shown = ", ".join(visible(name) for name in sorted(names)[:3])
        raise RoundqError(
            f"{directory} is not an output directory of a sweep, and it is not empty: it holds {shown}",
            "move it away, or give the task another out_dir",
        )


def liveness(
    run: Run,
    names: Sequence[str],
    directory: str,
    asker: Run,
    mine: Spool | None,
    sleep: Callable[[float], None] = time.sleep,
) -> Liveness:
    """Whether a run goes on, as `asker` can tell, whose spool is `mine`."""
    if any(name in names and _number_in(directory, name) >= run.number for name in (FAILED, RESULT)):
        return Liveness.DEAD
    if run.job and (run.job, run.spool) == (asker.job, asker.spool) and run.attempt < asker.attempt:
        return Liveness.DEAD
    if run.node == asker.node and run.process.boot == asker.process.boot:
        return procs.liveness(run.process)
    if run.job and mine is not None and run.spool == mine.path:
        return _liveness_of_job(run, mine, sleep)
    if run.node == asker.node and not run.job and not asker.job:
        # This node was booted since. What a job calls its node may have been carried to another one.
        return Liveness.DEAD
    return Liveness.UNKNOWN


def _liveness_of_job(run: Run, mine: Spool, sleep: Callable[[float], None]) -> Liveness:
    """A supervisor moves a record on only when no process of its attempt is left."""
    for look in range(_LOOKS):
        if look:
            # A record that moves may be met nowhere.
            sleep(LOOK_S)
        try:
            met = lookup.Look(mine).of([run.job])
            if not met:
                continue
            # A job that moves may be met twice, and a listing be old: the last state, and the attempt.
            if met[-1].state in ENDED_STATES:
                return Liveness.DEAD
            attempt = spools.read(mine, met[-1]).attempt
        except FileNotFoundError:
            continue
        except (OSError, RoundqError):
            return Liveness.UNKNOWN
        return Liveness.ALIVE if attempt <= run.attempt else Liveness.DEAD
    # What is in no state has ended long ago.
    return Liveness.DEAD


# ---------------------------------------------------------------- writing


def write(directory: str, name: str, value: Mapping[str, Any]) -> None:
    """Writes one of its files, whole and durably. Raises OSError, and TypeError or ValueError for a value
    that has no form in JSON."""
    _publish(directory, name, dump(value))


def _publish(directory: str, name: str, data: bytes) -> None:
    temporary = files.write_temporary(directory, ".new", data, mode=mode())
    files.replace(temporary, f"{directory}/{name}")
    files.sync_directory(directory)


def check_place(directory: str) -> None:
    """Raises Occupied if a task has written its own file in the place of its result, and OSError."""
    if RESULT in files.names(directory) and not _number_in(directory, RESULT):
        raise Occupied(
            f"{directory}/{RESULT} was not written by roundq, whose file of this name has what run() returns",
            "rename it, and let run() write a file of another name",
        )


def finish(directory: str, run: Run, value: object) -> None:
    """Writes a result; from then on the task is done. Raises as `write`, and Occupied."""
    # First this: what has no form in JSON is in no file.
    data = dump({**_told(run), "result": value})
    check_place(directory)
    _publish(directory, RESULT, data)
    files.remove(f"{directory}/{FAILED}")


def fail(directory: str, run: Run, error: str, traceback: str = "", **more: object) -> None:
    """Writes why a run failed, and what else there is to keep of it. Raises as `write`."""
    write(directory, FAILED, {**_told(run), "error": error, "traceback": traceback, **more})


def _told(run: Run) -> dict[str, Any]:
    ended = time.time()
    return {
        "run": run.number,
        "sweep": run.sweep,
        "job": run.job,
        "node": run.node,
        "started": run.started,
        "ended": ended,
    }


def _process(of: Identity) -> dict[str, Any]:
    return {"boot": of.boot, "pid": of.pid, "start": of.start}


def dump(value: object) -> bytes:
    """A value as its files have it. Raises TypeError or ValueError for what has no form in JSON."""
    # A result is never thrown away for a NaN in it: Python reads it again.
    return json.dumps(value, default=_plain, indent=1).encode() + b"\n"


def _plain(value: object) -> object:
    """Arrays and numbers of numpy and its like as lists and numbers."""
    tolist = getattr(value, "tolist", None)
    if callable(tolist):
        return tolist()
    raise TypeError(f"a {type(value).__name__} has no form in JSON")
