"""The daemon: one process per user and node that plays rounds until it is told to leave.

One thread, no socket. Killing it harms no job: supervisors go on, and the next
daemon adopts them. What a round does is in `round`; here are the lock, signals, the
log, the service manager, and when to play.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import select
import signal
import time
from collections.abc import Mapping
from typing import Any

from roundq import __version__
from roundq.actors.namesake import Namesake
from roundq.actors.round import HOMES_S, Round
from roundq.actors.submission import fork_apart
from roundq.records import control
from roundq.records import spool as spools
from roundq.records.spool import Spool
from roundq.words.errors import DaemonRunning, RoundqError
from roundq.words.intake import Intake
from roundq.words.job import Identity
from roundq.words.quantities import visible
from roundq.words.states import ENDED_STATES, HELD, WAITING
from roundq.world import cgroup, files, procs, reading
from roundq.world.config import Live
from roundq.world.helpers import Helpers
from roundq.world.node import Node
from roundq.world.nodelock import NodeLock
from roundq.world.notify import Notifier, open_log
from roundq.world.watch import Rhythm, Watcher

#: Set by the unit of a user manager: that it delegates its control group.
DELEGATED_VARIABLE = "RQ_DELEGATED"
#: How long an older daemon may take to leave before it is killed; jobs do not notice either.
TAKEOVER_S = 10.0
#: While jobs run here, requests from other nodes are looked for this often at least.
BUSY_POLL_S = 5.0
#: After an error in a round, such as a home that does not answer, the next is played this soon at least.
AFTER_ERROR_S = 5.0
#: Cards of others that change make no more rounds than one in this time.
PACE_S = 0.05
#: A helper that nobody needed for this long is ended.
HELPERS_IDLE_S = 300.0


def _take_over(lock: NodeLock) -> bool:
    """Makes an older daemon leave, and takes the lock; whether there was one.

    Raises DaemonRunning if it stays.
    """
    if lock.acquire():
        return False
    deadline_s = time.monotonic() + TAKEOVER_S
    number = signal.SIGTERM
    asked: Identity | None = None
    while not lock.acquire():
        holder = lock.holder()
        late = time.monotonic() > deadline_s
        if late and number == signal.SIGKILL:
            raise DaemonRunning(
                f"the daemon that runs here (process {holder.pid if holder else '?'}) does not leave",
                "see what it does: ps -o pid,stat,wchan,args -p PID",
            )
        if late:
            # It hangs, perhaps stopped, perhaps on a file server. Its jobs have supervisors of their own.
            number, deadline_s, asked = signal.SIGKILL, time.monotonic() + TAKEOVER_S, None
        if holder is not None and holder != asked:
            procs.send(holder, number)
            asked = holder
        time.sleep(0.02)
    return True


class Daemon:
    """A daemon that has its lock. Made once per process."""

    #: What the log calls it.
    kind = "daemon"

    def __init__(
        self,
        spool: Spool,
        lock: NodeLock,
        environ: Mapping[str, str],
        *,
        verbose: bool = False,
        intake: Intake | None = None,
    ) -> None:
        node = Node(environ)
        self.spool, self.lock, self.name = spool, lock, node.name()
        spools.check_node_name(self.name)
        live = Live(environ, os.path.dirname(spool.path), node=self.name)
        self.notifier = Notifier(environ)
        self.watcher = Watcher()
        self.helpers = Helpers(time.monotonic)
        if (descriptor := self.watcher.descriptor()) is not None:
            self.helpers.offer("watch", self.watcher.add, descriptor)
        self.log = open_log(f"{spool.path}/{self.name}.log", environ, verbose=verbose)
        self.round = Round(spool, node, live.refresh, self.log, time.time_ns(), self.helpers, intake)
        config = live.config
        self.rhythm = Rhythm(config.poll_min_s, config.poll_max_s, random.Random())
        self.namesake = Namesake(spool, self.name, self.round.process, self.round.machine)
        self.is_leaving = False
        self._stands_by: str | None = None
        self.round_failed: str | None = None
        self._config_error: str | None = None
        self._watched_s = self._paced_s = -1e9
        self._wake, self._woken = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def once(self) -> int:
        """One round and its births; the number of my jobs on this node.

        Raises RoundqError if this may be another node's name.
        """
        if (contested := self.namesake.look(time.monotonic(), has_published=False)) is not None:
            raise RoundqError(contested, "nothing was started: see `rq nodes`, and try again")
        self._say("plays one round")
        deadline_s = time.monotonic() + 5.0
        # A claim that is not decided yet is looked at again; a long queue is read in several rounds.
        try:
            while (again_s := self.round.run(time.monotonic())) < 0.05 or (
                self.round.is_settling or self.round.is_burying
            ):
                if time.monotonic() >= deadline_s + 2 * self.round.config.settle_s:
                    break
                time.sleep(min(max(again_s, 0.003), 0.05))
        except BaseException:
            # Nobody comes after this process who would give its claims back, and no other node may.
            with contextlib.suppress(OSError, RoundqError):
                self.round.leave()
            raise
        self.round.leave()
        return len(self.round.tenants)

    def serve(self) -> None:
        """Plays rounds until SIGTERM or SIGINT, or until the lock is not ours any more."""
        previous = self.catch_signals()
        try:
            self._say(f"begins, version {__version__}, process {os.getpid()}")
            is_ready = False
            while not self.is_leaving:
                if not self.lock.is_held() and not self.lock.acquire():
                    self.log.warning("another daemon has taken this node")
                    break
                again_s = min(self._play(), self.after_round(time.monotonic()))
                if not is_ready and self.round_failed is None:
                    is_ready = True
                    self.notifier.say("READY=1")
                self._tell_parent()
                self._wait(again_s)
        finally:
            self.notifier.say("STOPPING=1")
            self._leave()
            for number, handler in previous.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(-1)

    def after_round(self, now_s: float) -> float:
        """Called after each round; in how many seconds the next is wanted at the latest. For workers."""
        del now_s
        return float("inf")

    # ------------------------------------------------------------ leaves

    def _play(self) -> float:
        try:
            now_s = time.monotonic()
            contested = self.namesake.look(now_s, has_published=self.round.card is not None)
            if contested is not None and self.round.card is None:
                return self._stand_by(contested)
            self._stands_by = None
            self._look_at_spool(contested)
            again_s = self.round.run(now_s)
        except (OSError, RoundqError) as error:
            self.round_failed = str(error)
            # A server that is away, a full quota: what runs goes on, and so does the daemon.
            self.log.error("a round failed: %s", error)
            # It lives: to begin anew would mend neither a server nor a quota.
            self.notifier.say(f"WATCHDOG=1\nSTATUS=a round failed: {visible(str(error))}")
            return AFTER_ERROR_S
        except Exception as error:
            text = f"an error of roundq itself: {error!r}"
            # Once: it may come with every round.
            self.log.error("a round failed: %s", text, exc_info=self.round_failed != text)
            self.round_failed = text
            # It may pass with what others do. If it lasts, a new process may help, which the watchdog begins.
            self.notifier.say(f"STATUS=a round failed: {visible(text)}")
            return AFTER_ERROR_S
        self.round_failed = None
        if self.round.config_error != self._config_error:
            self._config_error = self.round.config_error
            wrong = self._config_error and f"{self._config_error}; what was right before stays in force"
            self.log.warning("%s", wrong or "the configuration is right again")
        running, waiting = len(self.round.tenants), len(self.round.waiting)
        self.notifier.say(f"WATCHDOG=1\nSTATUS={running} running here, {waiting} waiting")
        return again_s

    def _stand_by(self, contested: str) -> float:
        """Leaves everything alone, the card above all, by which another node is known; when to look again."""
        if contested != self._stands_by:
            self._stands_by = contested
            self.log.warning("does nothing: %s", contested)
        self.round_failed = contested if self.namesake.lives else None
        self.notifier.say(f"WATCHDOG=1\nSTATUS=does nothing: {visible(contested)}")
        return AFTER_ERROR_S

    def _look_at_spool(self, contested: str | None) -> None:
        """While others could have put a job here, nothing is started; what runs, and cancels, go on.

        So it is where another node bears our name since we began; and then nobody is taken for dead.
        """
        self.round.is_contested = contested is not None
        unsafe = contested
        try:
            spools.check(self.spool)
        except RoundqError as error:
            unsafe = f"{error} ({error.hint})"
        self.round.unsafe = unsafe

    def _wait(self, again_s: float) -> None:
        names = [WAITING, HELD, "requests", control.DIRECTORY]
        # What ends on other nodes matters to whoever waits for it.
        names += ENDED_STATES if self.round.held.has_targets else ()
        paths = [self.spool.directory(name) for name in names]
        # Cards of neighbours change all day: whoever has nothing to start need not be woken by them.
        others = self.round.homes[1:] if self.round.waiting else []
        self.watcher.keep([*paths, *(spool.path for spool in others)])
        for path in paths:
            self.watcher.watch(path)
        self._watch_others(others)
        timeout_s = min(self.rhythm.next_s(), again_s)
        if self.round.tenants:
            timeout_s = min(timeout_s, BUSY_POLL_S)
        if self.notifier.watchdog_s is not None:
            timeout_s = min(timeout_s, self.notifier.watchdog_s / 3)
        if self._listens(timeout_s, {spool.path for spool in others}):
            self.rhythm.active()
        with contextlib.suppress(BlockingIOError):
            if os.read(self._wake, 4096):
                self.rhythm.active()

    def _listens(self, timeout_s: float, of_others: set[str]) -> bool:
        """Waits until something happens, or the time is up; whether something did.

        Others may change their cards as fast as they can: that alone makes a round every `PACE_S` at most.
        """
        end_s = time.monotonic() + timeout_s
        happened = False
        while True:
            until_s = min(end_s, self._paced_s) if happened else end_s
            touched = self.watcher.wait(max(0.0, until_s - time.monotonic()), (self._wake,))
            if touched and not touched <= of_others:
                return True
            happened = happened or bool(touched)
            now_s = time.monotonic()
            if touched and now_s < min(end_s, self._paced_s):
                continue
            if happened:
                self._paced_s = now_s + PACE_S
            return happened

    def _watch_others(self, others: list[Spool]) -> None:
        """Watches the spools of others, which helpers look up: those that are new, and all now and then."""
        now_s = time.monotonic()
        if not others:
            # Nobody is to be asked for a while: a process for nothing.
            if now_s - self._watched_s > HELPERS_IDLE_S:
                self.helpers.close()
            return
        if self.watcher.descriptor() is None:
            return
        is_due = now_s - self._watched_s >= HOMES_S
        due = [spool for spool in others if is_due or not self.watcher.has(spool.path)]
        if is_due:
            self._watched_s = now_s
        watches = reading.each([spool.way.call("watch", spool.path) for spool in due])
        for spool, watch in zip(due, watches, strict=True):
            self.watcher.adopt(spool.path, None if isinstance(watch, OSError) else watch)

    def catch_signals(self) -> dict[int, Any]:
        def leave(*_: object) -> None:
            self.is_leaving = True

        def wake(*_: object) -> None:
            """The wake-up descriptor has done it."""

        previous: dict[int, Any] = {}
        for number in (signal.SIGTERM, signal.SIGINT):
            previous[number] = signal.signal(number, leave)
        for number in (signal.SIGCHLD, signal.SIGHUP, signal.SIGUSR1):
            previous[number] = signal.signal(number, wake)
        signal.set_wakeup_fd(self._woken, warn_on_full_buffer=False)
        return previous

    def _leave(self) -> None:
        try:
            # One that slept until another came in its place owns neither card nor claims any more.
            if self.lock.is_held() and self._stands_by is None:
                self.round.leave()
        except (OSError, RoundqError) as error:
            self.log.error("the last card cannot be written: %s", error)
        self._say(f"leaves; {len(self.round.tenants)} jobs go on under their supervisors")
        self.lock.release()

    def _say(self, text: str) -> None:
        self.log.info("%s on %s %s", self.kind, self.name, text, extra={"ROUNDQ_NODE": self.name})

    def _tell_parent(self) -> None:
        """What `detach` waits for: how the first round went."""
        descriptor = os.environ.pop("_RQ_READY_FD", None)
        if descriptor is not None:
            word = "1"
            if self._stands_by is not None:
                word = (
                    f"your daemon runs, but does nothing: {self._stands_by}\nit goes on looking: see its log"
                )
            elif self.round_failed is not None:
                what = f"your daemon runs, but its first round failed: {self.round_failed}"
                word = f"{what}\nit tries again until it is stopped: rq daemon --stop"
            with contextlib.suppress(OSError):
                os.write(int(descriptor), word.encode(errors="backslashreplace"))
                os.close(int(descriptor))


# ---------------------------------------------------------------- the three ways to run one


def run_once(spool: Spool, environ: Mapping[str, str], *, verbose: bool = False) -> int:
    """`rq daemon --fg`: one pass; starts what may start; the number of my jobs here then.

    Raises DaemonRunning if a daemon serves this node.
    """
    spools.prepare(spool)
    lock = NodeLock(spool.path)
    if not lock.acquire():
        holder = lock.holder()
        raise DaemonRunning(
            f"a daemon of yours runs on this node already{f' (process {holder.pid})' if holder else ''}",
            "it starts what may start; `rq why ID` says what a job waits for",
        )
    # The log takes standard error, and what went wrong is to be told to whoever waits for this pass.
    screen = os.dup(2)
    try:
        with files.explained(f"play a round in {spool.path}"):
            return Daemon(spool, lock, environ, verbose=verbose).once()
    finally:
        os.dup2(screen, 2)
        os.close(screen)


def run_foreground(spool: Spool, environ: Mapping[str, str], *, verbose: bool = False) -> None:
    """`rq daemon --foreground`: serves until it is told to leave. Takes over from an older daemon."""
    # What systemd waits for is asked first: failing is cheap as long as the old daemon serves.
    Notifier(environ)
    if environ.get(DELEGATED_VARIABLE) == "yes" and "NOTIFY_SOCKET" in environ:
        # The second is said to this process only: a daemon that inherits the first is in another group.
        cgroup.declare()
    spools.prepare(spool)
    lock = NodeLock(spool.path)
    _take_over(lock)
    Daemon(spool, lock, environ, verbose=verbose).serve()


def serving(spool: Spool) -> Identity | None:
    """The daemon that serves this spool on this node, None if there is none."""
    return NodeLock(spool.path).holder()


def stop(spool: Spool) -> Identity | None:
    """`rq daemon --stop`: makes the daemon of this node leave; which that was, None if there was none.

    What runs goes on, what waits waits for other nodes. Raises DaemonRunning if it does not leave.
    """
    spools.prepare(spool)
    lock = NodeLock(spool.path)
    holder = lock.holder()
    _take_over(lock)
    lock.release()
    return holder


def detach(spool: Spool, environ: Mapping[str, str]) -> None:
    """`rq daemon`: serves in the background, out of the reach of logout.

    Returns when its first round is over. Takes over from an older daemon. Raises
    RoundqError, with what it said, if it could not begin.
    """
    spools.prepare(spool)
    ready, told = os.pipe()
    first = fork_apart()
    if first:
        os.close(told)
        os.waitpid(first, 0)
        _hear_first_word(ready)
        return
    code = 1
    try:
        os.close(ready)
        if os.fork():
            os._exit(0)
        os.chdir("/")
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        os.environ["_RQ_READY_FD"] = str(told)
        try:
            run_foreground(spool, environ)
            code = 0
        except RoundqError as error:
            os.write(told, f"{error}\n{error.hint or ''}".encode(errors="backslashreplace"))
        except OSError as error:
            os.write(told, f"the daemon could not begin: {error}\n".encode(errors="backslashreplace"))
    finally:
        logging.shutdown()
        os._exit(code)


def _hear_first_word(ready: int) -> None:
    said = b""
    # A hanging file server must not hang the command that started the daemon.
    while select.select([ready], [], [], 3 * TAKEOVER_S)[0] and (chunk := os.read(ready, 4096)):
        said += chunk
        if said.startswith(b"1"):
            break
    os.close(ready)
    if said.startswith(b"1"):
        return
    what, _, hint = said.decode(errors="replace").partition("\n")
    raise RoundqError(
        what or "the daemon did not say that it began", hint or "its log is ~/.roundqueue/NODE.log"
    )
