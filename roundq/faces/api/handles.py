"""Handles of jobs: what a program knows a job by that is in the queue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

from roundq.actors.listing import Row, state_of
from roundq.faces.api import written
from roundq.words.ends import Outcome
from roundq.words.errors import JobCanceled, JobFailed, JobLost, JobUnsuccessful, RoundqError, UsageError
from roundq.words.states import CANCELED, ENDED_STATES, ZOMBIE, State

if TYPE_CHECKING:
    from roundq.faces.api.queue import Queue
    from roundq.words.job import Record

#: Of more tasks that did not end well the others are only counted.
_TOLD_MOST = 3


class Job:
    """A job in a queue, or an array, of which `tasks` are handles too.

    What it is known by, queue and id, never changes: handles of one job are equal, and may be kept in sets.
    Everything else is looked up when it is asked for; how a job ended is remembered then. Methods raise
    NoSuchJob if the job is nowhere, not even in the history.
    """

    __slots__ = ("_ended", "_id", "_queue", "_tasks")

    def __init__(
        self, queue: Queue, job_id: str, tasks: Sequence[Job] = (), *, ended: Row | None = None
    ) -> None:
        """Made by `Queue`: its `submit`, `job` and `jobs`."""
        self._queue, self._id, self._tasks = queue, job_id, tuple(tasks)
        #: How it was found when it had ended.
        self._ended = ended

    @property
    def queue(self) -> Queue:
        """Where it is."""
        return self._queue

    @property
    def id(self) -> str:
        """Its id: "17", of a task "17_3"; of an array that which stands for all its tasks."""
        return self._id

    @property
    def tasks(self) -> tuple[Job, ...]:
        """The jobs of an array, by index; empty for a job that is none."""
        return self._tasks

    def __repr__(self) -> str:
        return f"<roundq.Job {self._id}{f' of {len(self._tasks)} tasks' if self._tasks else ''}>"

    def __reduce__(self) -> tuple[type[Job], tuple[Queue, str, tuple[Job, ...]]]:
        return Job, (self._queue, self._id, self._tasks)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[str, str]:
        return self._queue.path, self._id

    # ------------------------------------------------------------ what is known of it

    @property
    def name(self) -> str:
        """The name it was given, or else its command line."""
        return self._record().job.name

    @property
    def state(self) -> State:
        """Where it is now. An array is in the first of these in which a task of it is: running, claimed,
        waiting, held, failed, zombie, canceled, completed."""
        return self._queue.states([self])[0]

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; None if it has not. Of an array what `wait` returns."""
        if not self.state.has_ended:
            return None
        return self._outcome()

    @property
    def node(self) -> str | None:
        """Where it is claimed, runs or ran last; None if nowhere, or if that is not known."""
        return self._alone("node").node

    @property
    def stdout_path(self) -> str:
        """The file that its output goes to, whether that is there yet or not."""
        return written.out_path(self._alone("stdout_path"))

    @property
    def stderr_path(self) -> str:
        """The file that its errors go to: that of its output, unless it was submitted with `error`."""
        return written.error_path(self._alone("stderr_path"))

    def stdout(self, encoding: str = "utf-8", errors: str = "replace") -> str:
        """What its present or last attempt has written so far, without the lines in which roundq tells of
        its begin and end. Raises RoundqError if there is nothing yet, or no more."""
        return self.stdout_bytes().decode(encoding, errors)

    def stdout_bytes(self) -> bytes:
        """The same as `stdout`, as it is in the file."""
        return written.output(self._alone("stdout"))

    def stderr(self, encoding: str = "utf-8", errors: str = "replace") -> str:
        """What is in its error file; without one the same as `stdout`, where both streams are."""
        return written.errors(self._alone("stderr")).decode(encoding, errors)

    # ------------------------------------------------------------ its end

    def wait(self, timeout: float | None = None) -> Outcome:
        """Returns how it ended once it has; of an array once all tasks have.

        Raises WaitTimeout, which is a TimeoutError, after so many seconds; the job goes on.
        """
        return self._queue.wait([self], timeout)[0]

    def result(self, timeout: float | None = None) -> Outcome:
        """The same as `wait`, but raises unless it ended well: JobFailed, JobCanceled, or JobLost if nobody
        knows; all are JobUnsuccessful, and their `outcome` says how it ended."""
        outcome = self.wait(timeout)
        if outcome.is_well:
            return outcome
        raise self._unsuccessful(outcome)

    async def wait_async(self, timeout: float | None = None) -> Outcome:
        """The same as `wait` for asyncio, where `await job` does it too: meanwhile other tasks run."""
        return (await self._queue.wait_async([self], timeout))[0]

    def __await__(self) -> Generator[Any, None, Outcome]:
        return self.wait_async().__await__()

    def cancel(self, *, only_waiting: bool = False) -> bool:
        """Cancels it; whether it was canceled, or its node was asked to.

        A job that runs is dead when it has ended, which `wait` tells. With `only_waiting` a job that a node
        has taken is left to run. False if it had ended already, or was left to run; of an array if so of all
        tasks.
        """
        return bool(self._queue.cancel(self.jobs, only_waiting=only_waiting))

    def refresh(self) -> Job:
        """Forgets how it ended, since it may have been run again (rq rerun); returns itself."""
        for job in self.jobs:
            job._ended = None
        return self

    # ------------------------------------------------------------ for the queue

    @property
    def jobs(self) -> tuple[Job, ...]:
        """Its tasks, or else itself: each has a record of its own."""
        return self._tasks or (self,)

    def _state_of(self, states: Sequence[str]) -> State:
        """Its state, if its tasks, or else itself, are in these."""
        return State(state_of(Counter(states)))

    def _alone(self, what: str) -> Row:
        if self._tasks:
            raise UsageError(
                f"{self._id} is an array, which has no {what}: each of its tasks has one",
                f"for example: job.tasks[0].{what}",
            )
        row = self._ended or self._queue._row(self._id)
        if row.state in ENDED_STATES and row.record is not None:
            self._ended = row
        return row

    def _record(self) -> Record:
        row = self.jobs[0]._alone("record")
        if row.record is None:
            raise RoundqError(f"the job file of {row.id} cannot be read: {row.problem}")
        return row.record

    def _outcome(self) -> Outcome:
        """How it ended; it has."""
        if not self._tasks:
            return written.outcome_of(self._alone("outcome"))
        outcomes = [task._outcome() for task in self._tasks]
        bad = [one for one in zip(self._tasks, outcomes, strict=True) if not one[1].is_well]
        worst = self._state_of([one.state.value for one in outcomes])
        if not bad:
            return Outcome(worst, 0, sentence="completed")
        told = "; ".join(f"{task.id} {outcome.sentence}" for task, outcome in bad[:_TOLD_MOST])
        more = "; ..." if len(bad) > _TOLD_MOST else ""
        sentence = f"{len(bad)} of {len(outcomes)} tasks did not end well: {told}{more}"
        code = max((one.exit_code for one in outcomes if one.exit_code is not None), default=None)
        return Outcome(worst, code or None, reason=bad[0][1].reason, sentence=sentence)

    def _unsuccessful(self, outcome: Outcome) -> JobUnsuccessful:
        kind = {CANCELED: JobCanceled, ZOMBIE: JobLost}.get(outcome.state.value, JobFailed)
        what = f"array {self._id}:" if self._tasks else f"job {self._id}"
        return kind(f"{what} {outcome.sentence}", f"rq show {self._id}", outcome)
