"""How an attempt ended: from a wait status, and why it was stopped, to a state and the facts. Pure."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

from roundq.words import states
from roundq.words.job import Job
from roundq.words.quantities import format_memory

#: What a node that shuts down sends; a job that is killed by another signal did so itself.
_SHUTDOWN_SIGNALS = {signal.SIGTERM, signal.SIGHUP, signal.SIGKILL}


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended: the state its record goes to, and the facts."""

    state: str
    reason: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    detail: str | None = None


def classified(
    why: str | None,
    status: int | None,
    job: Job,
    *,
    is_shutdown: bool = False,
    by_kernel: str | None = None,
    way: str = "",
) -> Ending:
    """What became of an attempt that was stopped because of `why`, or ended by itself with a wait status.

    With `is_shutdown` its node was being shut down when it ended; `by_kernel` says why the kernel ended the
    command, "memory limit" or "out of memory", if it is known to have done so; `way` is what a request to
    preempt says.
    """
    code = os.WEXITSTATUS(status) if status is not None and os.WIFEXITED(status) else None
    number = os.WTERMSIG(status) if status is not None and os.WIFSIGNALED(status) else None
    match why:
        case None if code == 0:
            return Ending(states.COMPLETED, None, 0)
        case None if number == signal.SIGKILL and by_kernel == "out of memory":
            detail = "killed by the kernel, since there was no memory left (SIGKILL)"
            return Ending(states.FAILED, by_kernel, None, number, detail)
        case None if number == signal.SIGKILL and by_kernel == "memory limit":
            detail = f"killed by the kernel: it used more than {_memory_limit(job)} (SIGKILL)"
            return Ending(states.FAILED, by_kernel, None, number, detail)
        case None if number in _SHUTDOWN_SIGNALS and is_shutdown:
            detail = f"killed by {signal_name(number)} when its node was shut down"
            return Ending(
                states.WAITING if job.restartable else states.FAILED, "shutdown", None, number, detail
            )
        case None if number is not None:
            return Ending(states.FAILED, "signal", None, number, f"killed by {signal_name(number)}")
        case None:
            return Ending(states.FAILED, "exit", code, None, f"exit code {code}")
        case "cancel":
            return Ending(states.CANCELED, "canceled", code, number, "canceled while it ran")
        case "restart":
            return Ending(states.WAITING, "restarted", code, number, "stopped to be run again")
        case "preempt":
            return Ending(states.WAITING, "preempted", code, number, f"gave way {way_of(way)}")
        case "lease":
            detail = "stopped: its lease could not be renewed in time"
            return Ending(states.WAITING, "lease", code, number, detail)
        case "taken":
            detail = "its record was taken over by another node; it is stopped here"
            return Ending(states.ZOMBIE, "lost", code, number, detail)
        case "memory limit":
            detail = f"stopped: it used more than {_memory_limit(job)}"
            return Ending(states.FAILED, why, code, number, detail)
        case "time limit":
            detail = f"stopped after its time limit of {job.time_limit_s:g} s"
            return Ending(states.FAILED, why, code, number, detail)
        case _:
            detail = f"stopped: it wrote more than its {job.max_output} bytes of output (--max-output)"
            return Ending(states.FAILED, why, code, number, detail)


def way_of(why: str) -> str:
    """What a request to preempt says, to follow "gives way" or "gave way": "to bob, who ..."."""
    return why if why.startswith("to ") else f"to another user{why and f': {why}'}"


def _memory_limit(job: Job) -> str:
    return f"its {format_memory(job.memory_limit or 0)} of memory (--mem-limit)"


def signal_name(number: int) -> str:
    """The name of a signal, such as SIGKILL."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
