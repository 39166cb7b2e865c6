"""The worker: a daemon that a person runs in the foreground, for as long as there is something for it to do.

It has the lock of the node and does all that a daemon does, but claims only what it was told to take, and
leaves by itself. What it begins and what becomes of that it tells; the words for it are somebody else's.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from roundq.actors import environ as environments
from roundq.actors import outcome
from roundq.actors.daemon import Daemon
from roundq.actors.listing import Row, locate, row_of
from roundq.actors.tenants import Tenant
from roundq.records import cards
from roundq.records import spool as spools
from roundq.records.spool import SUFFIX, Entry, Spool
from roundq.words.errors import DaemonRunning, RecordError, RoundqError, UsageError
from roundq.words.intake import Intake
from roundq.words.job import NS
from roundq.words.room import cores_text
from roundq.words.states import ENDED_STATES
from roundq.world import files
from roundq.world.node import Node
from roundq.world.nodelock import NodeLock

#: It leaves when it found nothing to do in two rounds so far apart: one may miss a job that moves.
LINGER_S = 0.3
#: Why nothing more is started, once it was told so.
CLOSED = "its worker starts nothing more"
#: What a service manager told its own process is not meant for a command in the foreground.
_OF_SERVICE = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


@dataclass(frozen=True, slots=True)
class Opened:
    """It begins to look for jobs: on `node`, for as many cores, for what `intake` takes."""

    node: str
    cores: int
    intake: Intake


@dataclass(frozen=True, slots=True)
class Begun:
    """A job was begun."""

    id: str
    name: str
    cores: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Ended:
    """A job that was begun here has ended, after so many seconds. Without a record its state is not known."""

    row: Row
    ran_s: float


@dataclass(frozen=True, slots=True)
class Again:
    """A job that was begun here waits to be run again: in this state."""

    id: str
    name: str
    state: str


@dataclass(frozen=True, slots=True)
class Closing:
    """It was told to start no more; the jobs of these ids go on."""

    running: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stopping:
    """It was told to stop what runs: these are restarted, those canceled."""

    restarted: tuple[str, ...]
    canceled: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Warned:
    """Something is wrong that its log tells, too."""

    text: str


Event = Opened | Begun | Ended | Again | Closing | Stopping | Warned


@dataclass(frozen=True, slots=True)
class Left:
    """Waiting jobs that it takes but cannot run, and why."""

    ids: tuple[str, ...]
    says: str


@dataclass(frozen=True, slots=True)
class Result:
    """What it did: the ids of jobs that ended well and otherwise, in the order of their ends.

    `left` are those that it could not run, `drained` why it could start nothing. `signal` is what made it
    leave, None if it left by itself or since another daemon took the node; `running` goes on without it.
    """

    well: tuple[str, ...] = ()
    ill: tuple[str, ...] = ()
    left: tuple[Left, ...] = ()
    drained: str | None = None
    signal: int | None = None
    running: tuple[str, ...] = ()


@dataclass(slots=True)
class _Mine:
    """A job that this worker began; `child` is the pid of its supervisor."""

    name: str
    child: int
    process_mark: str
    begun_s: float
    restartable: bool


class Worker(Daemon):
    """A worker that has the lock of its node. Made once per process."""

    kind = "worker"

    def __init__(
        self,
        spool: Spool,
        lock: NodeLock,
        environ: Mapping[str, str],
        intake: Intake,
        tell: Callable[[Event], None],
        *,
        stays: bool,
    ) -> None:
        """Raises UsageError if it was told to fill more cores than the node offers."""
        super().__init__(spool, lock, environ, intake=intake)
        self.intake, self.tell, self.stays = intake, tell, stays
        self.well: dict[str, None] = {}
        self.ill: dict[str, None] = {}
        self.left: tuple[Left, ...] = ()
        self.drained: str | None = None
        #: What it began, and has not ended.
        self.jobs: dict[str, _Mine] = {}
        #: How often it was told to stop, how far it did so, and by which signal it was told last.
        self._stops = self._obeyed = 0
        self._signal: int | None = None
        self._idle_s: float | None = None
        #: When the last of its jobs was seen to have ended.
        self._ended_s = float("-inf")
        self.round.tenants.became = {}
        offered = self.round.facts.offered(self.round.config)
        if intake.cores is not None and intake.cores > offered:
            raise UsageError(
                f"a worker cannot fill {cores_text(intake.cores)}: {self.name} offers {offered}",
                "roundq.toml(5) tells how many a node offers; rq nodes shows them",
            )
        self._opened = Opened(self.name, intake.cores or offered, intake)

    def work(self) -> Result:
        """Works until there is nothing left, or until it is told to leave."""
        screen = _Screen(self.tell)
        self.log.addHandler(screen)
        try:
            self.tell(self._opened)
            self.serve()
            self._follow_last()
        finally:
            self.log.removeHandler(screen)
        return Result(
            tuple(self.well), tuple(self.ill), self.left, self.drained, self._signal, tuple(self.jobs)
        )

    # ------------------------------------------------------------ between rounds

    def after_round(self, now_s: float) -> float:
        """Tells what became of its jobs, does what it was told, and leaves when there is nothing left."""
        self._follow(now_s)
        if self._stops > self._obeyed:
            return self._obey()
        if self._has_work():
            self._idle_s, self._ended_s = None, now_s
            return float("inf")
        if self._stops:
            self.is_leaving = True
            return 0.0
        if self.stays or self.round_failed is not None or self._stands_by is not None:
            return float("inf")
        if self.round.draining is not None:
            self.drained = self.round.draining
        elif (unseen_s := self.round.held.unseen_s(self._ended_s, now_s)) is not None:
            # What ended may let go what is its next job.
            self._idle_s = None
            return unseen_s
        elif self._is_anything_left():
            self._idle_s = None
            return float("inf")
        linger_s = max(LINGER_S, self.round.config.settle_s)
        if self._idle_s is None:
            self._idle_s = now_s
        if now_s - self._idle_s < linger_s:
            return linger_s - (now_s - self._idle_s)
        self.left = self._what_is_left()
        self.is_leaving = True
        return 0.0

    def _has_work(self) -> bool:
        """Whether something that it began runs, or it has claims. What was begun before goes on."""
        return bool(self.jobs) or any(not tenant.is_born for tenant in self.round.tenants)

    def _is_anything_left(self) -> bool:
        """Whether there is, or may be, a job that it could run."""
        one = self.round
        if one.is_burying or not one.waiting.is_read or not one.held.is_read:
            return True
        shapes = one.waiting.shapes
        if shapes and (one.decision is None or any(map(one.decision.could_start, shapes))):
            return True
        if one.facts.is_awaited and any(shape.gpus for shape in shapes):
            return True
        return any(map(self._is_taken, one.held.retries()))

    def _is_taken(self, entry: Entry) -> bool:
        """Whether it takes a job that waits for its retry."""
        try:
            record = spools.read(self.spool, entry)
        except (OSError, RecordError):
            # It moved on, which the next round shows.
            return True
        return self.intake.takes(entry.id, record, self.spool.user, time.time_ns())

    def _what_is_left(self) -> tuple[Left, ...]:
        """What waits that it takes, and why it cannot run that."""
        waiting, decision = self.round.waiting, self.round.decision
        told = {} if decision is None else {one.shape: one.says for one in decision.verdicts()}
        return tuple(
            Left(tuple(one.entry.id for one in jobs), told.get(shape, ""))
            for shape, jobs in waiting.shapes.items()
        )

    # ------------------------------------------------------------ its jobs

    def _follow(self, now_s: float) -> None:
        """Tells what began and what ended since the last time."""
        known, tenants = self.jobs, self.round.tenants
        for job_id in list(known):
            tenant = tenants.by_id.get(job_id)
            if tenant is None or (tenant.child is not None and tenant.child != known[job_id].child):
                # Else it is asked again after the next round.
                if self._gone(job_id, known[job_id], now_s):
                    del known[job_id]
        for tenant in tenants:
            if tenant.child is not None and tenant.is_born and tenant.entry.id not in known:
                self._begun(tenant, now_s)
        if tenants.became:
            tenants.became.clear()

    def _follow_last(self) -> None:
        """Tells what ended while it left: what is said to go on does."""
        now_s = time.monotonic()
        self._follow(now_s)
        with contextlib.suppress(OSError):
            found = locate(self.spool, list(self.jobs)) if self.jobs else {}
            for job_id in [job_id for job_id, entry in found.items() if entry.state in ENDED_STATES]:
                if self._gone(job_id, self.jobs[job_id], now_s):
                    del self.jobs[job_id]

    def _begun(self, tenant: Tenant, now_s: float) -> None:
        record, job_id = tenant.record, tenant.entry.id
        assert tenant.child is not None
        assert record.process is not None
        self.jobs[job_id] = _Mine(
            record.job.name, tenant.child, environments.mark(record.process), now_s, record.job.restartable
        )
        self.tell(Begun(job_id, record.job.name, record.cores, record.attempt))

    def _gone(self, job_id: str, was: _Mine, now_s: float) -> bool:
        """Tells what became of a job that is not its own any more; whether that could be seen."""
        state = (self.round.tenants.became or {}).get(job_id)
        if state is not None and state not in ENDED_STATES:
            # Where it went from there does not matter.
            self.tell(Again(job_id, was.name, state))
            return True
        if state is not None:
            # Its own supervisor put it there a moment ago: no directory is listed for that.
            row = row_of(self.spool, Entry(job_id, state, None, f"{job_id}{SUFFIX}", 0), True)
        else:
            try:
                found = locate(self.spool, (job_id,)).get(job_id)
            except OSError:
                return False
            if found is None:
                # Its record was removed.
                found = Entry(job_id, "", None, f"{job_id}{SUFFIX}", 0)
            row = row_of(self.spool, found, True)
        if row.state and row.state not in ENDED_STATES:
            self.tell(Again(job_id, was.name, row.state))
            return True
        self.well.pop(job_id, None)
        self.ill.pop(job_id, None)
        (self.well if row.state and outcome.is_well(row) else self.ill)[job_id] = None
        record = row.record
        ran_s = now_s - was.begun_s
        if record is not None and record.completed_ns and record.started_ns:
            ran_s = (record.completed_ns - record.started_ns) / NS
        self.tell(Ended(row, max(0.0, ran_s)))
        return True

    # ------------------------------------------------------------ signals

    def catch_signals(self) -> dict[int, Any]:
        """SIGINT: start no more; again: stop what runs; again: leave. SIGTERM and SIGHUP: leave at once."""
        ignored = {
            number for number in (signal.SIGINT, signal.SIGHUP) if signal.getsignal(number) == signal.SIG_IGN
        }
        previous = super().catch_signals()

        def stop(*_: object) -> None:
            self._stops += 1

        def leave(number: int, _frame: object) -> None:
            self._signal, self.is_leaving = number, True

        signal.signal(signal.SIGTERM, leave)
        for number, handler in ((signal.SIGINT, stop), (signal.SIGHUP, leave)):
            signal.signal(number, signal.SIG_IGN if number in ignored else handler)
        return previous

    def _obey(self) -> float:
        """Does what the last SIGINT asks for; when the next round is wanted."""
        self._signal = signal.SIGINT
        self._obeyed += 1
        if self._obeyed == 1:
            self.round.closed = CLOSED
            self.tell(Closing(tuple(self.jobs)))
        elif self._obeyed == 2:
            self._stop_all()
        else:
            self.is_leaving = True
        return 0.0

    def _stop_all(self) -> None:
        """Has its jobs stopped: those that may be run again wait then, the others are canceled."""
        restarted: list[str] = []
        canceled: list[str] = []
        for job_id, mine in self.jobs.items():
            try:
                if mine.restartable:
                    spools.request(self.spool, job_id, "restart", self.name, mine.process_mark)
                    restarted.append(job_id)
                else:
                    spools.request(self.spool, job_id, "cancel", self.name)
                    canceled.append(job_id)
            except (OSError, RoundqError) as error:
                self.tell(Warned(f"job {job_id} cannot be asked to stop: {error}"))
        self.tell(Stopping(tuple(restarted), tuple(canceled)))


class _Screen(logging.Handler):
    """What of the log somebody has to see who looks on: warnings, none twice in a row."""

    def __init__(self, tell: Callable[[Event], None]) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell
        self._last = ""

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text != self._last and CLOSED not in text:
            self._last = text
            self._tell(Warned(text))


def run(
    spool: Spool,
    environ: Mapping[str, str],
    intake: Intake,
    tell: Callable[[Event], None],
    *,
    stays: bool = False,
) -> Result:
    """`rq worker`: works in the foreground until nothing is left; if it `stays`, until it is told to leave.

    While it works, standard error is the log, so that supervisors complain there. Raises DaemonRunning if a
    daemon or a worker of this user serves this node, UsageError for more cores than there are.
    """
    spools.prepare(spool)
    lock = NodeLock(spool.path)
    if not lock.acquire():
        raise _taken(spool, lock, Node(environ).name())
    screen = os.dup(2)
    given = {name: text for name, text in environ.items() if name not in _OF_SERVICE}
    try:
        with files.explained(f"work in {spool.path}"):
            return Worker(spool, lock, given, intake, tell, stays=stays).work()
    finally:
        lock.release()
        os.dup2(screen, 2)
        os.close(screen)


def _taken(spool: Spool, lock: NodeLock, node: str) -> DaemonRunning:
    """Why there is no place for a worker on this node."""
    holder = lock.holder()
    process = f" (process {holder.pid})" if holder else ""
    try:
        card = cards.read(spool, node)
    except (OSError, RecordError):
        card = None
    if card is not None and card.worker and card.process == holder:
        return DaemonRunning(
            f"a worker of yours runs on {node} already{process}",
            f"it takes {card.worker}; there is one for each node",
        )
    return DaemonRunning(
        f"a daemon of yours runs on {node} already{process}",
        "it starts what may start; to have a worker in its place: rq daemon --stop",
    )
