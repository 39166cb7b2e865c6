"""The errors roundq tells people about, and the exit code each class owns.

    RoundqError            1   something asked for could not be done
      UsageError           2   the words of the command are wrong
      NoSuchJob            1   no job answers to that id or name
      JobRefused           1   the job as described can never run: checked at submission
        CommandNotFound  127   as shells say it
        NotExecutable    126   as shells say it
      QueueFull            1   more jobs would wait than one may have
      SpoolError           1   the spool cannot be used as it is
        SpoolUnsafe       77   others could change it (EX_NOPERM)
        SpoolFull         73   no space or quota for a record (EX_CANTCREAT)
        PartlySubmitted    1   of many jobs some are in the queue all the same
      RecordError          1   a job file is not what it should be
      ConfigError         78   a configuration value is wrong (EX_CONFIG)
      WaitTimeout        124   as timeout(1) says it
      JobUnsuccessful      1   a job whose result was asked for did not end well
        JobFailed          1   its command failed, or it was stopped at a limit
        JobCanceled        1   it was canceled
        JobLost            1   nobody knows how it ended
      ExchangeError        1   a call, or what it gave, cannot travel to its job or back
      DaemonRunning        1   this node has a daemon of this user already
      DirJobsError         1   a job directory, or a job in it, is not what it should be

Every error says what happened, to which object and why; `hint` says what to do. `lines`, if any, stand below
as they are: what was typed, with a mark below where it is wrong.
Codes 73, 77 and 78 are those of sysexits.h.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from roundq.words.ends import Outcome


class RoundqError(Exception):
    """Base of everything roundq tells a person; never shown as a traceback."""

    exit_code = 1

    def __init__(self, what: str, hint: str | None = None, lines: Sequence[str] = ()) -> None:
        super().__init__(what)
        self.hint = hint
        self.lines = tuple(lines)
        if hint:
            # Of a program that catches nothing, Python 3.11 and later show it below the error.
            self.__notes__ = [f"hint: {hint}"]


class UsageError(RoundqError):
    """The words of the command are wrong."""

    exit_code = 2


class NoSuchJob(RoundqError):
    """No job answers to that id or name."""


class JobRefused(RoundqError):
    """The job as described can never run; found at submission, nothing was submitted."""


class QueueFull(RoundqError):
    """More jobs would wait than the administrator allows; nothing was submitted."""


class CommandNotFound(JobRefused):
    """The command does not exist."""

    exit_code = 127


class NotExecutable(JobRefused):
    """The command exists, but this user may not execute it."""

    exit_code = 126


class SpoolError(RoundqError):
    """The spool cannot be used as it is."""


class SpoolUnsafe(SpoolError):
    """Somebody else owns the spool or could write to it."""

    exit_code = 77


class SpoolFull(SpoolError):
    """No space, or no quota, for a record. Nothing was half written."""

    exit_code = 73


class PartlySubmitted(SpoolError):
    """A submission failed when nodes had taken some of its jobs: those of `ids` are in the queue.

    Those of `doubtful` may be: the home answered no more when they were to be taken back.
    """

    def __init__(self, why: str, ids: Sequence[str], doubtful: Sequence[str] = ()) -> None:
        from roundq.words.quantities import format_ids, shell_ids

        said = []
        if ids:
            said.append(f"these jobs are in the queue already: {format_ids(ids)}")
        if doubtful:
            said.append(f"these jobs may be in the queue: {format_ids(doubtful)}")
        super().__init__(
            f"submission failed ({why}), but {', and '.join(said)}",
            f"if they are not wanted: rq cancel {shell_ids([*ids, *doubtful])}",
        )
        self.ids, self.doubtful = tuple(ids), tuple(doubtful)


class SubmissionInterrupted(KeyboardInterrupt):
    """A submission was interrupted: the jobs of `ids` could not be taken back, and no other is in the queue.
    Nodes had taken them already, or the home answered no more. Its cause is what interrupted it."""

    def __init__(self, ids: Sequence[str]) -> None:
        super().__init__(", ".join(ids))
        self.ids = tuple(ids)


class RecordError(RoundqError):
    """A job file is not a job record."""


class ConfigError(RoundqError):
    """A configuration value is wrong."""

    exit_code = 78


class WaitTimeout(RoundqError, TimeoutError):
    """What was waited for did not happen in time."""

    exit_code = 124


class JobUnsuccessful(RoundqError):
    """A job whose result was asked for did not end well: `outcome` says how."""

    def __init__(self, what: str, hint: str | None = None, outcome: Outcome | None = None) -> None:
        super().__init__(what, hint)
        self.outcome = outcome


class JobFailed(JobUnsuccessful):
    """Its command failed, or could not be started, or it was stopped at a limit."""


class JobCanceled(JobUnsuccessful):
    """Its user canceled it, or what it was to come after did not end so that it may."""


class JobLost(JobUnsuccessful):
    """Nobody knows how it ended."""


class ExchangeError(RoundqError):
    """A call of a function, or what it gave, cannot travel to its job, or back."""


class DaemonRunning(RoundqError):
    """This user's daemon already runs on this node."""


class DirJobsError(RoundqError):
    """A job directory, or a job in it, is not what it should be."""
