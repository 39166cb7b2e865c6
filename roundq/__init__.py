"""A job queue for people who share a few machines and one home file system.

`import roundq` is for programs: see roundq(3). What it offers is loaded when it is first used, so that
importing this package does nothing and costs nothing; see ARCHITECTURE.md for where things are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from roundq import dirjobs as dirjobs
    from roundq import sweep as sweep
    from roundq.faces.api.checkpoint import checkpoint as checkpoint
    from roundq.faces.api.checkpoint import checkpoint_due as checkpoint_due
    from roundq.faces.api.executor import CallFuture as CallFuture
    from roundq.faces.api.executor import Executor as Executor
    from roundq.faces.api.handles import Job as Job
    from roundq.faces.api.options import Options as Options
    from roundq.faces.api.options import Spec as Spec
    from roundq.faces.api.queue import Queue as Queue
    from roundq.faces.api.queue import RoundqWarning as RoundqWarning
    from roundq.faces.api.queue import submit as submit
    from roundq.words.ends import Outcome as Outcome
    from roundq.words.errors import CommandNotFound as CommandNotFound
    from roundq.words.errors import ConfigError as ConfigError
    from roundq.words.errors import DaemonRunning as DaemonRunning
    from roundq.words.errors import ExchangeError as ExchangeError
    from roundq.words.errors import JobCanceled as JobCanceled
    from roundq.words.errors import JobFailed as JobFailed
    from roundq.words.errors import JobLost as JobLost
    from roundq.words.errors import JobRefused as JobRefused
    from roundq.words.errors import JobUnsuccessful as JobUnsuccessful
    from roundq.words.errors import NoSuchJob as NoSuchJob
    from roundq.words.errors import NotExecutable as NotExecutable
    from roundq.words.errors import PartlySubmitted as PartlySubmitted
    from roundq.words.errors import QueueFull as QueueFull
    from roundq.words.errors import RecordError as RecordError
    from roundq.words.errors import RoundqError as RoundqError
    from roundq.words.errors import SpoolError as SpoolError
    from roundq.words.errors import SpoolFull as SpoolFull
    from roundq.words.errors import SpoolUnsafe as SpoolUnsafe
    from roundq.words.errors import SubmissionInterrupted as SubmissionInterrupted
    from roundq.words.errors import UsageError as UsageError
    from roundq.words.errors import WaitTimeout as WaitTimeout
    from roundq.words.states import State as State

__version__ = "1.0.0"

#: Where each name is. What is imported above, for type checkers, are the same: a test compares.
_OFFERED = {
    **dict.fromkeys(("Queue", "RoundqWarning", "submit"), "roundq.faces.api.queue"),
    **dict.fromkeys(("Options", "Spec"), "roundq.faces.api.options"),
    **dict.fromkeys(("checkpoint", "checkpoint_due"), "roundq.faces.api.checkpoint"),
    **dict.fromkeys(("CallFuture", "Executor"), "roundq.faces.api.executor"),
    "Job": "roundq.faces.api.handles",
    "Outcome": "roundq.words.ends",
    "State": "roundq.words.states",
    **dict.fromkeys(
        "CommandNotFound ConfigError DaemonRunning ExchangeError JobCanceled JobFailed JobLost JobRefused"
        " JobUnsuccessful NoSuchJob NotExecutable PartlySubmitted QueueFull RecordError RoundqError"
        " SpoolError SpoolFull SpoolUnsafe SubmissionInterrupted UsageError WaitTimeout".split(),
        "roundq.words.errors",
    ),
}
#: Modules for programs beside this one.
_MODULES = ("dirjobs", "sweep")

__all__ = ["__version__", *_OFFERED, *_MODULES]


if not TYPE_CHECKING:
    # To type checkers a name that is not offered is a mistake.

    def __getattr__(name: str) -> Any:
        import importlib

        if name in _OFFERED:
            found = getattr(importlib.import_module(_OFFERED[name]), name)
        elif name in _MODULES:
            found = importlib.import_module(f"roundq.{name}")
        else:
            raise AttributeError(f"module 'roundq' has no attribute {name!r}")
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
