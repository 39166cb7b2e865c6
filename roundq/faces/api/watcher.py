"""The thread of an executor that waits for its jobs and completes their futures.

It lives only while there is something to wait for, so a program ends when its calls have.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

from roundq.actors.awaited import WAIT_MAX_S, Awaited, cannot_tell
from roundq.faces.api import calls, written
from roundq.faces.api.queue import tell_only
from roundq.words.errors import JobFailed, JobLost, RoundqError
from roundq.words.states import CANCELED, COMPLETED, FAILED, OWNED_STATES, RUNNING, WAITING, ZOMBIE
from roundq.world import files

if TYPE_CHECKING:
    from roundq.actors.listing import Row
    from roundq.faces.api.executor import CallFuture
    from roundq.faces.api.queue import Queue

#: How long, at least, the result of a job that ended well is waited for: another node may just have
#: written it.
RESULT_LATE_S = 5.0
#: How long a home that cannot be read is waited for, before all futures fail.
HOME_AWAY_S = 300.0
#: When calls have waited so long, and none is under way, it is looked whether anybody is there to begin them.
IDLE_S = 60.0
#: How often it is said that an exchange is not left behind, which other nodes can only tell by its age.
KEPT_S = 3600.0
#: So much of the end of its output is shown when a job ended without a result.
_TAIL_BYTES = 2000


class Watcher:
    """The futures of an executor that are not done."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._changed = threading.Condition()
        self._futures: dict[str, CallFuture[Any]] = {}
        self._parcels: Counter[str] = Counter()
        self._thread: threading.Thread | None = None
        self._canceling: set[str] = set()
        #: Since when a result is missed, of jobs that ended.
        self._since_s: dict[str, float] = {}
        self._failing_since_s: float | None = None
        #: Since when calls only wait; infinite once it was said that nobody begins them.
        self._idle_since_s: float | None = None
        #: The paths of results that could not be read, and are kept for who can.
        self.unread: set[str] = set()
        self._is_closed = False
        self._end: Callable[[], object] = lambda: None
        self._exchange, self._kept_s = "", 0.0

    def at_end(self, end: Callable[[], object], exchange: str) -> None:
        """What to do when it was closed, and all futures are done; until then their exchange is kept."""
        self._end, self._exchange, self._kept_s = end, exchange, time.monotonic()

    def add(self, futures: Iterable[CallFuture[Any]], parcel: str) -> None:
        """From now on these are completed when their jobs have ended; their exchange file goes then."""
        with self._changed:
            for future in futures:
                self._futures[future.job.id] = future
                self._parcels[parcel] += 1
            if self._thread is None or not self._thread.is_alive():
                # No daemon: as with other executors, a program does not end before its calls.
                self._thread = threading.Thread(target=self._run, name="roundq executor")
                self._thread.start()
            self._changed.notify_all()

    def futures(self) -> list[CallFuture[Any]]:
        """Those that are not done."""
        with self._changed:
            return list(self._futures.values())

    @contextlib.contextmanager
    def canceling(self, ids: Collection[str]) -> Iterator[None]:
        """While it lasts the jobs of these futures are canceled by them."""
        with self._changed:
            self._canceling.update(ids)
        try:
            yield
        finally:
            with self._changed:
                self._canceling.difference_update(ids)

    def close(self) -> None:
        """Nothing more is added."""
        with self._changed:
            self._is_closed = True
            is_idle = self._thread is None
            self._changed.notify_all()
        if is_idle:
            self._end()

    def join(self) -> None:
        """Waits until all futures are done."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    # ------------------------------------------------------------ the thread

    def _run(self) -> None:
        try:
            asker = self._queue._person()
            looks = Awaited(asker.spool, node=asker.node, late_s=asker.config.settle_s)
            while True:
                with self._changed:
                    if not self._futures:
                        self._thread = None
                        break
                    open_ = dict(self._futures)
                pause_s = self._look_for_sure(looks, open_)
                with self._changed:
                    if self._futures.keys() <= open_.keys():
                        self._changed.wait(pause_s if self._futures else 0)
        except BaseException as error:
            # Nobody else would tell those who wait.
            with self._changed:
                self._thread, left = None, list(self._futures.values())
                self._futures.clear()
            for future in left:
                _complete(future, error)
        if self._is_closed:
            with contextlib.suppress(OSError, RoundqError):
                self._end()

    def _look_for_sure(self, looks: Awaited, open_: dict[str, CallFuture[Any]]) -> float:
        """Looks; how many seconds until the next look. A home that does not answer is given time."""
        try:
            self._look(looks, open_)
        except (OSError, RoundqError):
            now_s = time.monotonic()
            self._failing_since_s = now_s if self._failing_since_s is None else self._failing_since_s
            if now_s - self._failing_since_s > HOME_AWAY_S:
                raise
            return WAIT_MAX_S
        self._failing_since_s = None
        return looks.pause_s

    def _look(self, looks: Awaited, open_: dict[str, CallFuture[Any]]) -> None:
        looks.look(open_)
        if time.monotonic() - self._kept_s >= KEPT_S:
            files.touch(self._exchange)
            self._kept_s = time.monotonic()
        for job_id, entry in looks.met.items():
            if entry.state == RUNNING:
                open_[job_id].is_running_now()
        self._tell_if_nobody_begins({entry.state for entry in looks.met.values()})
        for job_id, row in list(looks.ended.items()):
            future = open_[job_id]
            if self._deliver(future, row):
                self._forget(future)
        for job_id in list(looks.unknown):
            future = open_[job_id]
            _complete(future, JobLost(f"job {job_id} is no longer in the queue, nor in its history"))
            self._forget(future)
        # What was seen of others counts.
        for job_id, problem in looks.hidden.items():
            raise cannot_tell(job_id, problem)

    def _tell_if_nobody_begins(self, states: AbstractSet[str]) -> None:
        now_s = time.monotonic()
        if WAITING not in states or not states.isdisjoint(OWNED_STATES):
            # What was said once is not said again.
            self._idle_since_s = self._idle_since_s if self._idle_since_s == float("inf") else None
            return
        if self._idle_since_s is None:
            self._idle_since_s = now_s
        if now_s - self._idle_since_s < IDLE_S:
            return
        from roundq.records import neighbours

        self._idle_since_s = now_s
        asker = self._queue._person()
        seen = neighbours.seen_now([asker.spool], asker.spool, asker.node, now_s)
        if not any(one.is_alive for one in seen):
            self._idle_since_s = float("inf")
            tell_only("calls wait, and no daemon of yours runs on any node: rq daemon starts one")

    def _forget(self, future: CallFuture[Any]) -> None:
        """It is done: its files go, and those of its parcel with the last one."""
        parcel = future.result_path.rsplit(".", 2)[0]
        with self._changed:
            self._futures.pop(future.job.id, None)
            self._since_s.pop(future.job.id, None)
            self._parcels[parcel] -= 1
            is_last = self._parcels[parcel] <= 0
        with contextlib.suppress(OSError):
            if future.result_path not in self.unread:
                files.remove(future.result_path)
            if is_last:
                del self._parcels[parcel]
                files.remove(parcel)

    def _deliver(self, future: CallFuture[Any], row: Row) -> bool:
        """Completes a future whose job has ended; whether it is done with."""
        if row.state == CANCELED and future.job.id in self._canceling:
            future.is_canceled_now()
            # One that ran cannot be: its job went back, or was canceled by somebody else.
            if future.done():
                return True
        try:
            if row.state == CANCELED:
                raise FileNotFoundError
            returns = calls.read_returns(future.result_path)
        except FileNotFoundError:
            if self._may_come(row):
                return False
            _complete(future, self._without_result(future, row))
            return True
        except Exception as error:
            is_passing = isinstance(error, OSError) and error.errno in calls.PASSING
            if is_passing and self._is_within(HOME_AWAY_S, row):
                return False
            self.unread.add(future.result_path)
            _complete(future, error)
            return True
        if future.is_raw:
            _complete(future, None, returns)
        elif returns.error is not None:
            _complete(future, returns.error)
        else:
            (value,) = returns.values
            _complete(future, None, value)
        return True

    def _may_come(self, row: Row) -> bool:
        """Whether what the job left may not be seen here yet, though its end is."""
        late_s = self._queue._person().config.settle_s
        if row.state == COMPLETED:
            late_s = max(late_s, RESULT_LATE_S)
        if row.state not in (COMPLETED, FAILED):
            return False
        return self._is_within(late_s, row)

    def _is_within(self, seconds: float, row: Row) -> bool:
        """Whether its result is missed for less than so long."""
        now_s = time.monotonic()
        return now_s < self._since_s.setdefault(row.id, now_s) + seconds

    def _without_result(self, future: CallFuture[Any], row: Row) -> Exception:
        """The error of a job that ended without having told what became of its call."""
        outcome = written.outcome_of(row)
        error: Exception
        if row.state == COMPLETED:
            sentence = f"job {row.id} ended with exit code 0 before its function returned"
            error = JobFailed(sentence, f"rq show {row.id}", outcome)
        else:
            error = future.job._unsuccessful(outcome)
        if row.state not in (CANCELED, ZOMBIE):
            with contextlib.suppress(Exception):
                if tail := written.output(row, _TAIL_BYTES)[-_TAIL_BYTES:].decode(errors="replace").strip():
                    error.__cause__ = calls.RemoteTraceback(f"the end of its output:\n{tail}")
        return error


def _complete(future: CallFuture[Any], error: BaseException | None, value: Any = None) -> None:
    future.is_running_now()
    if future.done():
        # Canceled a moment ago.
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(value)
