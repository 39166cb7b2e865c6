"""Runs calls of an Executor: what a job executes, as `python -c '... call.main()' PARCEL CALLS NUMBER`.

PARCEL is the path of an exchange file, CALLS are the first of its calls that is meant and the one behind the
last, NUMBER is that of the job in its parcel. Exit code 0: all calls returned, and what they gave is sealed.
1: one raised, which is sealed, too. 75 (EX_TEMPFAIL): the function asked to be run again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from roundq.faces.api import calls
from roundq.faces.api.checkpoint import Requeue, Running
from roundq.words.errors import ExchangeError
from roundq.world import files

#: What sysexits.h calls a temporary failure.
AGAIN = 75


def command(interpreter: str, parcel: str, numbers: range, number: int) -> tuple[str, ...]:
    """The command of the job that runs these calls of a parcel."""
    home = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    # With -m the working directory would come first, and a random.py there in place of the library's.
    # And before all imports: who is told meanwhile is told when they are done.
    code = (
        f"import sys; sys.path[:] = [{home!r}, *filter(None, sys.path)];"
        " import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2]);"
        " from roundq.faces.api import call; sys.exit(call.main(sys.argv[1:]))"
    )
    return interpreter, *flags(), "-c", code, parcel, f"{numbers.start}-{numbers.stop}", str(number)


def flags() -> list[str]:
    """The options of this interpreter that change what Python code means or where it finds modules."""
    of = sys.flags
    found = ["-I"] if of.isolated else ["-E"] * of.ignore_environment + ["-s"] * of.no_user_site
    found += (
        ["-S"] * of.no_site
        + ["-O"] * of.optimize
        + ["-B"] * of.dont_write_bytecode
        + ["-b"] * of.bytes_warning
    )
    # What PYTHONWARNINGS says is in the environment, too, and to say it twice is no harm.
    found += [f"-W{warning}" for warning in sys.warnoptions]
    for name, value in getattr(sys, "_xoptions", {}).items():
        found += ["-X", name if value is True else f"{name}={value}"]
    return found


def main(arguments: list[str]) -> int:
    """Runs the calls that the words of a command mean; the exit code."""
    path, which, number = arguments
    first, _, end = which.partition("-")
    numbers = range(int(first), int(end))
    running = Running()
    signal.signal(signal.SIGUSR2, running.hear)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR2])
    try:
        parcel = calls.read_parcel(path)
    except FileNotFoundError:
        print(f"rq: {path} is gone: the program that made this call has ended", file=sys.stderr)
        return 1
    except ExchangeError as error:
        print(f"rq: {error}", file=sys.stderr)
        return 1
    wanted, here = parcel.setup.version, calls.python_version()
    if wanted not in ("", here):
        # Before its modules are looked for: those of another version break in other words.
        node = os.environ.get("RQ_NODE", "this node")
        other = ExchangeError(
            f"the call was submitted by Python {wanted}, and on {node} {sys.executable} is Python {here}",
            f"use a Python that is the same on all nodes, or only nodes that have {wanted}: node=, need=",
        )
        return _Runner(path, number, parcel, running).fail(other)
    sys.path[:] = parcel.setup.path
    if not parcel.setup.restartable:
        running.why_not = "this job may not be run again"
        running.hint = "make the executor with restart=True, and signal='USR2@60' to be told before the end"
    elif len(numbers) > 1:
        running.why_not = f"this job runs {len(numbers)} calls, and not one"
        running.hint = "leave chunksize out"
    running.begin()
    return _Runner(path, number, parcel, running).run(numbers)


class _Runner:
    def __init__(self, path: str, number: str, parcel: calls.Parcel, running: Running) -> None:
        self._stem = f"{path}.{number}"
        self._parcel, self._running = parcel, running
        self._node = os.environ.get("RQ_NODE", "this node")
        self._is_saved = False

    def run(self, numbers: range) -> int:
        """Runs these calls, one after the other, until one fails; the exit code."""
        values: list[Any] = []
        try:
            try:
                fn, todo = self._calls(numbers)
            except Exception as problem:
                raise self._unreadable(problem) from problem
            for args, kwargs in todo:
                values.append(self._call(fn, args, kwargs))
        except Requeue:
            # It may be told once more, which would kill an interpreter that is about to leave.
            signal.signal(signal.SIGUSR2, signal.SIG_IGN)
            return AGAIN
        except BaseException as error:
            # As in other executors: what ends a function ends no more than that.
            return self._give(values, error)
        return self._give(values, None)

    def fail(self, error: ExchangeError) -> int:
        """Leaves this instead of what the calls would give; the exit code."""
        return self._give([], error)

    def _calls(self, numbers: range) -> tuple[Callable[..., Any], Any]:
        if os.environ.get("RQ_RESTART_COUNT", "0") != "0":
            # What an earlier attempt gave is not what this one does.
            files.remove(f"{self._stem}.{calls.RESULT}")
            try:
                fn, call = calls.read_state(f"{self._stem}.{calls.STATE}")
                return fn, [call]
            except FileNotFoundError:
                pass
        return self._parcel.function(), self._arguments(numbers)

    def _arguments(self, numbers: range) -> Any:
        given = self._parcel.arguments(numbers)
        while True:
            try:
                call = next(given)
            except StopIteration:
                return
            except Exception as problem:
                raise self._unreadable(problem) from problem
            yield call

    def _unreadable(self, problem: Exception) -> ExchangeError:
        return ExchangeError(
            f"the call cannot be read on {self._node}: {calls._said(problem)}",
            "have the same modules there, or on the shared home, in a place of sys.path",
        )

    def _call(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        save = getattr(fn, "checkpoint", None)
        if callable(save) and not self._running.why_not:

            def on_told() -> None:
                # Before what the function does when it is left, which may change it.
                after = save()
                self._save(fn if after is None else after, (args, kwargs))
                raise Requeue

            if self._running.is_told:
                on_told()
            self._running.on_told = on_told
        try:
            return fn(*args, **kwargs)
        except Requeue as asked:
            if not self._is_saved:
                self._save(fn, asked.call)
            raise
        finally:
            self._running.on_told = None

    def _save(self, fn: Callable[..., Any], call: calls.Arguments) -> None:
        """Leaves what the next attempt calls, and asks for that attempt."""
        from roundq.records import spool as spools

        calls.write_state(f"{self._stem}.{calls.STATE}", fn, call)
        path = self._parcel.setup.spool
        home = os.path.dirname(path)
        spool = spools.at(home, os.path.basename(home), os.geteuid())
        environ = os.environ
        spools.request(spool, environ["RQ_JOB_ID"], "restart", environ["RQ_NODE"], environ["RQ_MARK"])
        self._is_saved = True

    def _give(self, values: list[Any], error: BaseException | None) -> int:
        text = ""
        if error is not None:
            import traceback

            text = "".join(traceback.format_exception(type(error), error, _without_ours(error)))
            # The function may have closed it.
            with contextlib.suppress(OSError, ValueError):
                print(text, end="", file=sys.stderr)
        try:
            well = calls.write_returns(f"{self._stem}.{calls.RESULT}", values, error, text, self._node)
        except Exception as problem:
            print(f"rq: the result cannot be sent back: {problem}", file=sys.stderr)
            return 1
        return 0 if well else 1


def _without_ours(error: BaseException) -> Any:
    """The traceback of an exception from where the function begins."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return trace
