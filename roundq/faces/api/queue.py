"""A queue as programs use it: submit, look, wait, cancel. See roundq(3)."""

from __future__ import annotations

import os
import threading
import time as clocks
import warnings
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from roundq.faces.api import options as asked
from roundq.faces.api.handles import Job
from roundq.faces.api.options import Command, Options, Spec
from roundq.words.errors import NoSuchJob, UsageError
from roundq.words.states import ENDED_STATES, PENDING_STATES, State

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from roundq.actors.listing import Row
    from roundq.faces.api.looks import Looks
    from roundq.faces.cli.person import Person
    from roundq.words.ends import Outcome

#: So many jobs are canceled one by one, each with a sentence in its record; more in one go.
_FEW = 20
#: How often a job that moves while it is looked for is looked for again, and how soon.
_LOOKS, _LOOK_AGAIN_S = 3, 0.05


class RoundqWarning(UserWarning):
    """Something about a submission that a person should know: no node that is known could run the job."""


class Queue:
    """One user's queue, ~/.roundqueue in a home. Threads may share it.

    To make one costs nothing: home, configuration and node are looked at when they are first needed.
    """

    def __init__(
        self, home: str | os.PathLike[str] | None = None, environ: Mapping[str, str] | None = None
    ) -> None:
        """The queue in this home, or else in $HOME of `environ`, which is the program's own if not given.

        It is also the environment that jobs get.
        """
        self._home = None if home is None else os.path.abspath(home)
        self._environ = environ
        self._lock = threading.RLock()
        self._asker: Person | None = None
        self._looks: Looks | None = None
        self._pid = os.getpid()

    def __repr__(self) -> str:
        return f"<roundq.Queue {self._home or (self._environ or os.environ).get('HOME', '')}>"

    def __reduce__(self) -> tuple[type[Queue], tuple[str | None, dict[str, str] | None]]:
        # Wherever it is read it is the queue of the same home.
        home = self._home
        if self._asker is not None:
            home = os.path.dirname(self._asker.spool.path)
        elif home is None:
            home = self.environment().get("HOME")
        return Queue, (home, None if self._environ is None else dict(self._environ))

    @property
    def path(self) -> str:
        """Where it is: the directory of its jobs."""
        return self._person().spool.path

    # ------------------------------------------------------------ submission

    def submit(self, command: Command, *, array: str | None = None, **options: Unpack[Options]) -> Job:
        """Puts a command into the queue: it is accepted, durably, when this returns.

        `command` are words, or one text that is split into words as sh does it, but never given to a shell.
        Options are those of `rq run`; see `Options`. With `array`, such as "0-99" or "0-99%8", it is an array
        with a task for each index, which is filled in for {index}; the handle then has `tasks`.

        Raises UsageError, JobRefused, CommandNotFound, QueueFull, SpoolError and others, with nothing
        submitted; TypeError for an option that does not exist. Warns with RoundqWarning if no node that is
        known could run it.
        """
        from roundq.faces.api import submitting

        words = asked.command_words(command)
        if array is None:
            (job,) = submitting.jobs(self, [(words, options)])
            return job
        return submitting.indices(self, words, array, options)

    def submit_many(self, specs: Iterable[Spec | Sequence[str]]) -> list[Job]:
        """Puts many jobs into the queue at once, all or none; their handles, in order.

        Each of `specs` is a command as its words, or a dict of `command` and options as for `submit`, such as
        {"command": ["./fit", "3"], "cores": 4}. Raises as `submit`.
        """
        from roundq.faces.api import submitting

        return submitting.jobs(self, [_described(spec) for spec in specs])

    def submit_array(
        self,
        commands: Iterable[Command],
        *,
        throttle: int | None = None,
        max_fails: int | None = None,
        chunk: int | None = None,
        **options: Unpack[Options],
    ) -> Job:
        """Puts an array into the queue, whole or not at all, with a task for each command; its handle.

        At most `throttle` of them run at once; when more than `max_fails` have failed no more are begun;
        with `chunk` one job runs so many of them one after the other, and `tasks` are these jobs. Raises as
        `submit`.
        """
        from roundq.faces.api import submitting

        more = {"throttle": throttle, "max_fails": max_fails, "chunk": chunk}
        return submitting.array(self, map(asked.command_words, commands), {**options, **more})

    # ------------------------------------------------------------ looking

    def jobs(self, *selectors: str) -> list[Job]:
        """The jobs that words mean, as in rq(1): ids and ranges "17,20-25", names, "%SET", "last", or an
        expression such as 'state=failed & name="fit*"'; without any all that have not ended.

        Tasks of arrays are jobs of their own. Raises NoSuchJob for an id or a name that means none,
        UsageError for a word that is wrong; sets and expressions may mean none.
        """
        return [self._handle(row) for row in self._rows(selectors, ended=bool(selectors))]

    def job(self, word: str) -> Job:
        """The one job, or array, that a word means: an id or a name. Raises NoSuchJob or UsageError."""
        from roundq.words.ranges import array_of

        rows = self._rows([word], ended=True)
        arrays = {array_of(row.id) for row in rows}
        if len(rows) == 1 and (rows[0].id == word or arrays == {""}):
            return self._handle(rows[0])
        if len(arrays) == 1 and (array := arrays.pop()):
            return Job(self, array, [self._handle(row) for row in rows])
        raise UsageError(f"{word!r} means {len(rows)} jobs, not one", "Queue.jobs finds several")

    def states(self, jobs: Iterable[Job]) -> list[State]:
        """Where these jobs are now, of one look; an array as `Job.state` says."""
        jobs = self._handles(jobs)
        rows = self._now({one.id: None for job in jobs for one in job.jobs if one._ended is None})
        return [job._state_of([(one._ended or rows[one.id]).state for one in job.jobs]) for job in jobs]

    def are_ended(self, jobs: Iterable[Job]) -> bool:
        """Whether all of these jobs have ended; one look tells."""
        return all(state.has_ended for state in self.states(jobs))

    def _row(self, job_id: str) -> Row:
        """What is known of a job now, its record read."""
        from roundq.actors.listing import row_of
        from roundq.actors.selection import is_unread

        row = self._now([job_id])[job_id]
        return row_of(row.spool, row.entry, True) if is_unread(row) else row

    # ------------------------------------------------------------ waiting

    def wait(self, jobs: Iterable[Job], timeout: float | None = None) -> list[Outcome]:
        """How these jobs ended, in order, once all have.

        Raises WaitTimeout, which is a TimeoutError, after so many seconds, NoSuchJob for a job that is
        nowhere, and SpoolError for one that is not met while the home cannot be read. However
        many are waited for, by however many threads, one process asks the file server once.
        """
        jobs = self._handles(jobs)
        for _ in self._ends(jobs, timeout):
            pass
        return [job._outcome() for job in jobs]

    def as_completed(self, jobs: Iterable[Job], timeout: float | None = None) -> Generator[Job, None, None]:
        """Yields each of these jobs when it has ended, however it did; raises as `wait`."""
        for ended in self._ends(self._handles(jobs), timeout):
            yield from ended

    async def wait_async(self, jobs: Iterable[Job], timeout: float | None = None) -> list[Outcome]:
        """The same as `wait` for asyncio; only the looks themselves are made in a thread."""
        import asyncio

        from roundq.faces.api.waits import Waits

        jobs = self._handles(jobs)
        waits = Waits(self, jobs, timeout)
        with waits.looks.wanting(waits.left):
            while True:
                if waits.looks.is_due():
                    pause_s = await asyncio.to_thread(waits.looks.step)
                else:
                    pause_s = waits.looks.step()
                waits.newly()
                if not waits.left:
                    break
                await asyncio.sleep(waits.at_most(pause_s))
        return await asyncio.to_thread(lambda: [job._outcome() for job in jobs])

    def _ends(self, jobs: Sequence[Job], timeout_s: float | None) -> Iterator[list[Job]]:
        """Yields those of these jobs that have ended since the last time, until all have."""
        from roundq.faces.api.waits import Waits

        waits = Waits(self, jobs, timeout_s)
        with waits.looks.wanting(waits.left):
            while True:
                pause_s = waits.looks.step()
                count = waits.looks.count
                if done := waits.newly():
                    yield done
                if not waits.left:
                    return
                waits.looks.pause(waits.at_most(pause_s), count)

    # ------------------------------------------------------------ cancel

    def cancel(self, jobs: Iterable[Job], *, only_waiting: bool = False) -> list[Job]:
        """Cancels these jobs; those that were canceled, or whose node was asked to stop them.

        What was asked is durable when this returns. A job that runs is dead when it has ended. With
        `only_waiting` jobs that a node has taken are left to run. Raises RoundqError for one that cannot be
        canceled from here; others may be then.
        """
        from roundq.actors import queue
        from roundq.records import cancellation

        asker = self._person()
        each = {one.id: one for job in self._handles(jobs) for one in job.jobs if one._ended is None}
        rows = self._now(each)
        done: list[Job] = []
        pending = [row.entry for row in rows.values() if row.state in PENDING_STATES]
        if len(pending) > _FEW:
            result = cancellation.cancel(asker.spool, pending)
            if result.problem is not None:
                raise result.problem
            for entry in result.done:
                done.append(each[entry.id])
                del rows[entry.id]
        for job_id, row in rows.items():
            if row.past or row.state in ENDED_STATES:
                continue
            became = queue.cancel(
                asker.spool,
                # A process that is known can be told at once.
                self._row(job_id),
                asker.node,
                clocks.time_ns(),
                only_pending=only_waiting,
                late_s=asker.config.settle_s,
            )
            if became in (queue.GONE, queue.ASKED):
                done.append(each[job_id])
        return done

    # ------------------------------------------------------------ within

    def environment(self) -> dict[str, str]:
        """The environment that jobs get which are submitted now."""
        environ = dict(os.environ if self._environ is None else self._environ)
        if self._home is not None:
            environ["HOME"] = self._home
        return environ

    def _person(self) -> Person:
        """Whose queue it is, on which node, with which configuration. Raises SpoolError, ConfigError."""
        self._be_of_this_process()
        if self._asker is None:
            with self._lock:
                if self._asker is None:
                    from roundq.faces.cli.person import person

                    self._asker = person(self.environment())
        return self._asker

    def _be_of_this_process(self) -> None:
        """In a fork, forgets what another thread may have held at that moment, and would hold for ever."""
        if self._pid != os.getpid():
            self._lock, self._looks, self._pid = threading.RLock(), None, os.getpid()

    def _looking(self) -> Looks:
        self._be_of_this_process()
        if self._looks is None:
            asker = self._person()
            with self._lock:
                if self._looks is None:
                    from roundq.faces.api.looks import Looks

                    self._looks = Looks(asker.spool, asker.node, asker.config.settle_s)
        return self._looks

    def _handles(self, jobs: Iterable[Job]) -> list[Job]:
        """These handles. Raises TypeError for what is none, UsageError for those of another queue."""
        given = list(jobs) if isinstance(jobs, Iterable) else [jobs]
        for one in given:
            if not isinstance(one, Job):
                raise TypeError(f"{one!r:.100} is no roundq.Job: Queue.job() finds a job by its id")
            self._require_own(one)
        return given

    def _require_own(self, job: Job) -> None:
        """Raises UsageError for the handle of a job of another queue: here its id is that of another job."""
        if job.queue is self or job.queue.path == self.path:
            return
        if os.path.realpath(job.queue.path) != os.path.realpath(self.path):
            raise UsageError(
                f"job {job.id} is in another queue, {job.queue.path}, not in {self.path}",
                "give it to the queue that it is in, which is Job.queue",
            )

    def _handle(self, row: Row) -> Job:
        return Job(self, row.id, ended=row if row.state in ENDED_STATES and row.record else None)

    def _rows(self, words: Sequence[str], *, ended: bool) -> list[Row]:
        from roundq.actors import selection
        from roundq.faces.cli import named
        from roundq.words import match, selectors

        asker = self._person()
        found = selection.select(
            asker.spool,
            words or ["*"],
            now_ns=clocks.time_ns(),
            ended=ended,
            read=False,
            whole=asker.config.settle_s > 0,
        )
        for word in found.unknown:
            if words and not (match.is_meant(word) or word.startswith(selectors.SET)):
                raise named.no_such_job(word)
        if found.undecided:
            tell(f"{len(found.undecided)} job files cannot be read, such as that of {found.undecided[0]}")
        return named.only_current(found)

    def _now(self, ids: Collection[str]) -> dict[str, Row]:
        """The rows of these jobs, most of them without a record.

        Raises NoSuchJob for one that is nowhere, SpoolError if a home that cannot be read may hide it.
        """
        from roundq.actors.awaited import UNREADABLE_S, cannot_tell
        from roundq.actors.listing import Row
        from roundq.actors.selection import past_row

        if not ids:
            return {}
        asker = self._person()
        found: dict[str, Row] = {}
        left = list(ids)
        late_s = asker.config.settle_s
        began_s, looks = clocks.monotonic(), 0
        while left:
            met, problem = self._looking().entries(left)
            for job_id, entry in met.items():
                found[job_id] = Row(asker.spool, entry, None, None, True)
            left = [job_id for job_id in left if job_id not in found]
            looks += problem is None
            if problem is None and looks >= _LOOKS and clocks.monotonic() - began_s >= late_s:
                # They may have ended long ago.
                try:
                    pasts = {job_id: past_row(asker.spool, job_id) for job_id in left}
                except OSError as error:
                    problem = error
                else:
                    for job_id, past in pasts.items():
                        if past is None:
                            raise NoSuchJob(f"no such job: {job_id}", "rq q --mine lists your jobs")
                        found[job_id] = past
                    break
            if left and problem is not None and clocks.monotonic() - began_s > UNREADABLE_S:
                raise cannot_tell(left[0], problem)
            if left:
                clocks.sleep(_LOOK_AGAIN_S)
        return found


def _described(spec: Spec | Sequence[str]) -> tuple[tuple[str, ...], Mapping[str, Any]]:
    if isinstance(spec, Mapping):
        if "command" not in spec:
            raise UsageError("a job has no command", 'give it as {"command": ["echo", "Hello"], ...}')
        return asked.command_words(spec["command"]), {
            name: value for name, value in spec.items() if name != "command"
        }
    return asked.command_words(spec), {}


def tell(sentence: str) -> None:
    """Warns whoever called the package."""
    level = 2
    import sys

    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("roundq."):
        frame, level = frame.f_back, level + 1
    warnings.warn(sentence, RoundqWarning, stacklevel=level)


def tell_only(sentence: str) -> None:
    """The same, and never raises: after an acceptance, since who caught that would submit again."""
    try:
        tell(sentence)
    except RoundqWarning as warning:
        # Warnings are errors in this program.
        warnings.showwarning(warning, RoundqWarning, __file__, 0)


# ---------------------------------------------------------------- the user's own

#: With the home and the node that it was made for.
_default: tuple[Queue, str | None, str | None] | None = None
_default_lock = threading.Lock()


def queue() -> Queue:
    """My own queue, that in $HOME."""
    global _default
    with _default_lock:
        told = os.environ.get("HOME"), os.environ.get("RQ_NODE")
        if _default is None or _default[1:] != told:
            _default = Queue(), *told
        return _default[0]


def submit(command: Command, *, array: str | None = None, **options: Unpack[Options]) -> Job:
    """The same as `Queue.submit`, of my own queue."""
    return queue().submit(command, array=array, **options)
