"""What a job of a sweep executes: one task, `python -c '... sweep_task.run()' PLAN OFFSET HASH`.

It takes the next run of the task (`sweep_outputs`), prints into its log, calls `run`, and writes the result.
Exit codes: 0 done, also if it was done before, or another job runs it; 1 it failed; 75 (EX_TEMPFAIL) another
run may go on of which nobody here can know; 143 it was told to end.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from roundq.faces.api import sweep_outputs as outputs
from roundq.faces.api import sweep_plans as plans
from roundq.faces.api import sweep_source as sources
from roundq.faces.api.sweep_outputs import Run, Taken
from roundq.faces.api.sweep_plans import Head, Planned
from roundq.words.errors import RoundqError
from roundq.words.quantities import visible
from roundq.world import files, procs
from roundq.world.procs import Liveness

if TYPE_CHECKING:
    from roundq.faces.api.sweep import Task
    from roundq.records.spool import Spool

DONE, FAILED, DOUBTFUL, STOPPED = 0, 1, 75, 143


def main(words: Sequence[str], environ: Mapping[str, str]) -> int:
    """Runs the task that the words name; the exit code."""
    try:
        path, offset, wanted = words
        head, task = plans.read_one(path, int(offset), wanted)
        return _run(head, task, plans.token_of(path), environ)
    except RoundqError as error:
        _say(f"{error}; {error.hint}" if error.hint else str(error))
    except OSError as error:
        _say(f"{error.filename or 'the output directory'}: {error.strerror}")
    return FAILED


def _say(sentence: str) -> None:
    print(f"roundq: {visible(sentence)}", file=sys.stderr, flush=True)


def _run(head: Head, task: Planned, token: str, environ: Mapping[str, str]) -> int:
    directory = f"{task.out_dir}/{task.hash}"
    asker, mine = _asker(token, environ)
    taken = outputs.take(directory, asker, mine, force=head.force)
    if isinstance(taken, Taken):
        return _left(taken, directory)
    outputs.write(directory, outputs.PARAMS, task.params)
    _open_log(directory, head, environ)
    return _attempt(head, task, directory, taken)


def _asker(token: str, environ: Mapping[str, str]) -> tuple[Run, Spool | None]:
    """Who asks to run it, and the spool of his jobs."""
    from roundq.actors import submission
    from roundq.world.node import Node

    job, mine = environ.get("RQ_JOB_ID", ""), None
    # By hand, somebody need not have a queue.
    with contextlib.suppress(RoundqError):
        mine = submission.mine(environ)
    restarts = environ.get("RQ_RESTART_COUNT", "0")
    run = Run(
        number=0,
        sweep=token,
        job=job,
        attempt=1 + int(restarts) if restarts.isdecimal() else 1,
        spool=mine.path if mine is not None and job else "",
        # In a job, its supervisor has said it.
        node=environ["RQ_NODE"] if job and "RQ_NODE" in environ else Node(environ).name(),
        process=procs.own_identity(),
        started=time.time(),
    )
    return run, mine


def _left(taken: Taken, directory: str) -> int:
    """Says why it is not run; the exit code."""
    if taken.is_done:
        _say(f"{directory} is done already")
        return DONE
    run = taken.run
    assert run is not None
    whose = f"job {run.job}" if run.job else f"process {run.process.pid}"
    if taken.liveness is Liveness.ALIVE:
        _say(f"{directory}: {whose} runs it on {run.node}")
        return DONE
    _say(
        f"{directory}: {whose} on {run.node} may still run it, and that cannot be seen from here;"
        f" if it does not, remove run-{run.number}.json there"
    )
    return DOUBTFUL


def _open_log(directory: str, head: Head, environ: Mapping[str, str]) -> None:
    """From here on, what is printed is in the log of the task.

    That is the output of the job under a second name, so that `rq log` shows it, too; or a file of its own,
    where the job runs other tasks, or its output is no file, or on another file system.
    """
    path, log = environ.get("RQ_OUTPUT", ""), f"{directory}/{outputs.LOG}"
    if head.chunk == 1 and path:
        with contextlib.suppress(OSError):
            ours, named = os.fstat(1), os.lstat(path)
            if stat.S_ISREG(named.st_mode) and os.path.samestat(ours, named):
                files.also_named(path, log)
                return
    sys.stdout.flush()
    sys.stderr.flush()
    files.remove(log)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    os.close(descriptor)


class _Signals:
    """The signals that tell the task to end."""

    def __init__(self, task: Task) -> None:
        self.came = False
        self._task = task
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._hear)

    def _hear(self, _number: int, _frame: object) -> None:
        self.came = True
        self._task.kill()

    def close(self) -> None:
        """What is written now is written to its end."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)


def _attempt(head: Head, planned: Planned, directory: str, run: Run) -> int:
    signals, process = None, os.getpid()
    try:
        # Before hours of work, which would end by this.
        outputs.check_place(directory)
        sources.look_in(head.path)
        module = sources.load(head.source, os.getcwd())
        task = sources.found(module, head.name, head.source)(dict(planned.params))
        signals = _Signals(task)
        try:
            value = task.run()
        except SystemExit as end:
            if os.getpid() != process:
                raise
            if end.code not in (None, 0) and not signals.came:
                raise RuntimeError(f"run() ended with exit code {end.code}") from end
            value = None
        finally:
            signals.close()
        if os.getpid() != process:
            # `run` has forked it, and it did not end there: it says nothing of the task.
            return DONE
    except sources.SourceError as error:
        return _failed(directory, run, f"{error} (on {run.node})", error)
    except outputs.Occupied as error:
        return _failed(directory, run, f"{error}; {error.hint}", error)
    except BaseException as error:
        if os.getpid() != process:
            raise
        if signals is not None and signals.came:
            return _stopped()
        return _failed(directory, run, f"{type(error).__name__}: {error}", error)
    if signals.came:
        return _stopped()
    try:
        outputs.finish(directory, run, value)
    except outputs.Occupied as error:
        return _failed(directory, run, f"{error}; {error.hint}", error, result=value)
    except (TypeError, ValueError, RecursionError) as error:
        return _failed(directory, run, f"what run() returned cannot be written: {error}", error)
    except OSError as error:
        return _failed(directory, run, f"what run() returned cannot be written: {error.strerror}", error)
    return DONE


def _stopped() -> int:
    _say("the task was told to end, and is not done")
    return STOPPED


def _failed(directory: str, run: Run, error: str, of: BaseException, **more: object) -> int:
    told = "".join(traceback.format_exception(type(of), of, of.__traceback__))
    print(told, file=sys.stderr, flush=True)
    outputs.fail(directory, run, error, told, **more)
    _say(error)
    return FAILED


def run() -> None:
    """Runs the task that the words of this process name, and leaves with its exit code."""
    sys.exit(main(sys.argv[1:], os.environ))


if __name__ == "__main__":
    # As `sweep_plans` says of its command.
    run()
