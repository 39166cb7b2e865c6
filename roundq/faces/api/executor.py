"""`concurrent.futures` on the queue: each call of a function is a job (roundq(3), EXECUTOR).

A future is done when its job has ended: so what the queue says of the job and what the future says agree.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import itertools
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from roundq.faces.api import call, calls, watcher
from roundq.faces.api.queue import Queue, tell
from roundq.words.errors import JobRefused, NoSuchJob, QueueFull, RoundqError, UsageError
from roundq.words.outputs import escaped
from roundq.world import files

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from roundq.faces.api.handles import Job
    from roundq.faces.api.options import Options

T = TypeVar("T")

#: How much of a function's name its jobs bear.
_NAME_MOST = 60
#: How the names of sets begin in which jobs of one executor are limited.
_LIMITED = "executor-"


class CallFuture(concurrent.futures.Future[T]):
    """What will become of a call; `job` is its job.

    `cancel` cancels the job, as long as no node has taken it.
    """

    def __init__(self, shared: _Shared, job: Job, result: str, *, is_raw: bool = False) -> None:
        super().__init__()
        self.job = job
        #: The path of the exchange file that its job leaves.
        self.result_path = result
        #: Whether its result is all that became of a chunk of calls.
        self.is_raw = is_raw
        self._shared = shared

    def cancel(self) -> bool:
        """Cancels the job unless it has begun; whether it is canceled."""
        if not self.done():
            self._shared.cancel([self])
        return self.cancelled()

    def is_canceled_now(self) -> None:
        """Its job is canceled and never began: tells everybody who waits."""
        # Whoever cancels, and the watcher, may both come here.
        super().cancel()
        with self._condition:
            if self._state == concurrent.futures._base.CANCELLED:
                self.set_running_or_notify_cancel()

    def is_running_now(self) -> None:
        """Its job runs, and cannot be canceled by `cancel` any more."""
        with self._condition:
            if self._state == concurrent.futures._base.PENDING:
                self.set_running_or_notify_cancel()


class Executor(concurrent.futures.Executor):
    """Runs calls of functions as jobs of the queue, on any node.

    Options are those of `roundq.submit`, such as cores, memory, time and gpus, for each call. At most
    `max_workers` of its jobs run at once. Calls travel in files below `exchange`, a directory that all nodes
    see under this path; without it in ~/.roundqueue-calls.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        queue: Queue | None = None,
        exchange: str | os.PathLike[str] | None = None,
        **options: Unpack[Options],
    ) -> None:
        """Raises ValueError for `max_workers` below 1, TypeError and UsageError for wrong options."""
        from roundq.faces.api.options import parsed

        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if max_workers is not None and options.get("set"):
            raise UsageError(
                "an executor limits a set of its own, and max_workers does not go with set",
                f"leave one out, or limit the set for good: rq limit %{options['set']} {max_workers}",
            )
        parsed(options)
        calls.cloudpickle()
        self._shared = _Shared(queue or Queue(), exchange, max_workers)
        self._options: dict[str, Any] = dict(options)

    def with_options(self, **options: Unpack[Options]) -> Executor:
        """The same executor, with these options in place of its own for what is submitted by it.

        It shares all else: to shut one down shuts down both.
        """
        from roundq.faces.api.options import parsed

        if options.get("set") and self._shared.limited_set:
            raise UsageError("an executor with max_workers has a set of its own", "leave set out")
        parsed(options)
        other = Executor.__new__(Executor)
        other._shared = self._shared
        other._options = {**self._options, **options}
        return other

    # ------------------------------------------------------------ calls

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> CallFuture[T]:
        """Submits fn(*args, **kwargs) as a job, which is accepted when this returns.

        Raises ExchangeError for what cannot be pickled, RuntimeError after `shutdown`, and what
        `roundq.submit` raises, with nothing submitted.
        """
        (future,) = self._submit(fn, [(args, kwargs)], 1, is_raw=False)
        return future

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Like the builtin map: fn of the items of the iterables, which are all collected at once.

        All calls are submitted as one array, `chunksize` of them in each job. With `buffersize` at most so
        many jobs are underway whose results were not taken yet. Raises TimeoutError if a result is not there
        `timeout` seconds after this call, and what `submit` raises; what a call raised is raised when its
        result would be yielded. What is left then, or when the iterator is closed, is canceled.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None:
            if not isinstance(buffersize, int):
                raise TypeError("buffersize must be an integer or None")
            if buffersize < 1:
                raise ValueError("buffersize must be None or > 0")
        with self._shared.submitting():
            # Also where there is nothing to submit.
            pass
        until_s = None if timeout is None else time.monotonic() + timeout
        # As map: the shortest ends it.
        given: Iterator[calls.Arguments] = ((args, {}) for args in zip(*iterables, strict=False))
        first = list(given if buffersize is None else itertools.islice(given, buffersize * chunksize))
        futures = self._submit(fn, first, chunksize, is_raw=True)
        futures.reverse()

        def results() -> Iterator[T]:
            nonlocal futures
            try:
                while futures:
                    left_s = None if until_s is None else max(0.0, until_s - time.monotonic())
                    got: calls.Returns = futures[-1].result(left_s)
                    futures.pop()
                    if buffersize is not None and (more := list(itertools.islice(given, chunksize))):
                        futures[:0] = self._submit(fn, more, chunksize, is_raw=True)
                    # Nothing that was yielded is kept here.
                    values, error = got.values[::-1], got.error
                    del got
                    while values:
                        yield values.pop()
                    if error is not None:
                        raise error
            finally:
                if futures:
                    self._shared.cancel(futures)

        return results()

    def _submit(
        self, fn: Callable[..., Any], given: Sequence[calls.Arguments], chunk: int, *, is_raw: bool
    ) -> list[CallFuture[Any]]:
        if not given:
            return []
        # A shutdown comes before it or after it.
        with self._shared.submitting():
            return self._submitted(fn, given, chunk, is_raw)

    def _submitted(
        self, fn: Callable[..., Any], given: Sequence[calls.Arguments], chunk: int, is_raw: bool
    ) -> list[CallFuture[Any]]:
        shared = self._shared
        options = shared.options(fn, self._options)
        parcel = shared.new_parcel()
        setup = calls.Setup.here(
            shared.queue.path, restartable=bool(options.get("restart") or options.get("scavenge"))
        )
        calls.write_parcel(parcel, fn, given, setup)
        if not sys.executable:
            raise RoundqError("the path of this Python is not known: sys.executable is empty")
        parts = [range(at, min(at + chunk, len(given))) for at in range(0, len(given), chunk)]
        commands = [call.command(sys.executable, parcel, part, at) for at, part in enumerate(parts)]
        jobs: Sequence[Job]
        try:
            if len(commands) == 1:
                options.setdefault("output", f"{escaped(parcel)}.0.{calls.OUTPUT}")
                jobs = [shared.queue.submit(commands[0], **options)]
            else:
                options.setdefault("output", f"{escaped(parcel)}.%a.{calls.OUTPUT}")
                jobs = shared.queue.submit_array(commands, **options).tasks
        except (JobRefused, NoSuchJob, QueueFull, UsageError):
            # Of all others it is not certain that no job has it.
            files.remove(parcel)
            raise
        futures: list[CallFuture[Any]] = [
            CallFuture(shared, job, f"{parcel}.{at}.{calls.RESULT}", is_raw=is_raw)
            for at, job in enumerate(jobs)
        ]
        shared.watch.add(futures, parcel)
        return futures

    # ------------------------------------------------------------ the end

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Takes no more calls; waits for those underway, unless `wait` is False.

        With `cancel_futures` those that no node has taken are canceled. The exchange files are removed when
        all calls have ended.
        """
        self._shared.close()
        if cancel_futures:
            self._shared.cancel(self._shared.watch.futures())
        if wait:
            self._shared.watch.join()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool | None:
        # Who leaves by Ctrl-C does not wait for a queue of calls.
        self.shutdown(cancel_futures=kind is not None and not issubclass(kind, Exception))
        return None


class _Shared:
    """What an executor and those with other options have in common."""

    def __init__(self, queue: Queue, exchange: str | os.PathLike[str] | None, most: int | None) -> None:
        self.queue = queue
        self.watch = watcher.Watcher(queue)
        self.limited_set = f"{_LIMITED}{os.urandom(4).hex()}" if most is not None else ""
        self._base = None if exchange is None else os.path.abspath(exchange)
        self._most = most
        self._path: str | None = None
        self._parcels = itertools.count(1)
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._is_closed = False

    @contextlib.contextmanager
    def submitting(self) -> Iterator[None]:
        """While it lasts nobody closes it. Raises RuntimeError after a shutdown, and in a fork."""
        if os.getpid() != self._pid:
            # Before the lock, which somebody may have held at the fork.
            raise RuntimeError("an executor cannot be used in a fork of its program: make one there")
        with self._lock:
            if self._is_closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            yield

    def close(self) -> None:
        """No more calls are taken; what is left goes with the last of them."""
        with self._lock:
            self._is_closed = True
        self.watch.close()

    def new_parcel(self) -> str:
        """The path of a new exchange file."""
        # It may have been swept when it had nothing to do for days.
        if self._path is None or not os.path.isdir(self._path):
            self._path = self._made()
        return f"{self._path}/{next(self._parcels)}"

    def _made(self) -> str:
        asker = self.queue._person()
        base = self._base or f"{os.path.dirname(asker.spool.path)}/{calls.DIRECTORY}"
        path = calls.make(base, asker.node)
        end = weakref.finalize(
            self.watch, _left, self.queue, path, self.limited_set, os.getpid(), self.watch.unread
        )
        self.watch.at_end(end, path)
        calls.sweep(base, path, asker.node, lambda names: _unlimited(self.queue, names))
        if self._most is not None:
            from roundq.records import control
            from roundq.records import spool as spools

            spools.prepare(asker.spool)
            with files.explained(f"make a file in {path}"), open(f"{path}/{self.limited_set}", "x"):
                # Whoever sweeps it if this program is killed takes that limit away, too.
                pass
            control.set_group_limit(asker.spool, f"%{self.limited_set}", self._most, asker.node)
        return path

    def options(self, fn: Any, own: dict[str, Any]) -> dict[str, Any]:
        """What the jobs of a function ask for."""
        found = dict(own)
        if not found.get("name"):
            name = "".join(sign if sign.isprintable() else "?" for sign in calls.called(fn))
            # No name begins so.
            found["name"] = name.replace("/", "_")[-_NAME_MOST:].lstrip(".- ").rstrip() or "call"
        if self.limited_set:
            found["set"] = self.limited_set
        if found.get("output") is None:
            found.pop("output", None)
        return found

    def cancel(self, futures: Sequence[CallFuture[Any]]) -> None:
        """Cancels the jobs of those that no node has taken; warns of what could not be done."""
        open_ = {future.job.id: future for future in futures if not future.done() and not future.running()}
        if not open_:
            return
        with self.watch.canceling(open_):
            try:
                done = self.queue.cancel([future.job for future in open_.values()], only_waiting=True)
            except (OSError, RoundqError) as error:
                # What was canceled all the same the next look tells.
                tell(f"not all calls could be canceled: {error}")
                return
            for job in done:
                open_[job.id].is_canceled_now()


def _left(queue: Queue, path: str, limited_set: str, pid: int, unread: Collection[str]) -> None:
    """Takes away what an executor has on disk when all has ended, or its program, unless some is unread."""
    if os.getpid() != pid:
        # A fork of it.
        return
    with contextlib.suppress(OSError, RoundqError):
        # Before the file that names the limit to whoever sweeps what is left here.
        _unlimited(queue, [limited_set])
        if not unread:
            calls.remove(path)


def _unlimited(queue: Queue, names: Iterable[str]) -> None:
    """Takes the limits of those of these sets away that executors had made."""
    from roundq.records import control

    asker = queue._person()
    for name in names:
        if name.startswith(_LIMITED):
            control.set_group_limit(asker.spool, f"%{name}", None, asker.node)
