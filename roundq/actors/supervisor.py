"""One job's life, from its claim to its end. One process per job; it outlives the daemon.

The daemon forks it, as if by exec: it gets a spool and an entry, and knows no policy
and no other job. `python -m roundq.actors.supervisor SPOOL ID` runs the same for a
claimed job. Its main thread waits for the job, for the time limit and for signals,
and touches no shared file system while the job runs; a second thread does, so that a
file server that hangs cannot suspend a time limit.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import resource
import signal
import sys
import threading
import time
import traceback
from dataclasses import dataclass, field, replace

from roundq.actors import environ
from roundq.actors.ending import Ending, classified
from roundq.actors.streams import Streams, open_streams
from roundq.records import environments
from roundq.records import spool as spools
from roundq.records.spool import Entry, Spool
from roundq.words import states
from roundq.words.errors import RecordError, RoundqError
from roundq.words.job import NS, Identity, Job, Record
from roundq.world import files, procs, spawn

#: What the main thread waits for: children, nudges from commands and daemon, its own second thread.
#: SIGTERM too, which a node that shuts down sends to everybody: it ends no supervisor, since the end of
#: its job has to be recorded.
WAITED = {signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM}
_IGNORED = (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGTSTP)
#: How often output is measured and requests are looked for without a nudge.
OUTPUT_LOOK_S = 1.0
REQUEST_LOOK_S = 30.0
#: A job that ends within this time is not watched by a second thread.
BRIEF_S = 0.1
#: How long killing goes on before it is called unfinished, and begun anew.
KILL_PATIENCE_S = 30.0
#: An end that cannot be recorded is tried again, ever more slowly, for this long without a spool.
RECORD_AGAIN_S = (0.1, 60.0)
RECORD_GIVE_UP_S = 86_400.0
#: A node that shuts down has ended everybody within this long after its first SIGTERM (systemd: 90 s).
SHUTDOWN_S = 300.0
#: The exit code of a supervisor is this plus the index of its job's state.
FIRST_CODE = 10


@dataclass(frozen=True, slots=True)
class Terms:
    """What a daemon tells a supervisor beside the record: its node, and how patient to be in killing."""

    node: str
    grace_s: float = 30.0


class _CannotStart(Exception):
    """The command was not executed; `reason` is one of states.REASONS."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


# ---------------------------------------------------------------- before the command


def _open(job: Job, job_id: str) -> Streams:
    try:
        return open_streams(job, job_id)
    except OSError as error:
        raise _CannotStart("no output", f"cannot open {error.filename}: {error.strerror}") from None


def _enter(job: Job) -> None:
    try:
        os.close(os.open(job.directory or "/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
    except OSError as error:
        raise _CannotStart("no directory", f"cannot enter {job.directory}: {error.strerror}") from None


def _environment(spool: Spool, entry: Entry, record: Record, output: str) -> dict[str, str]:
    base: dict[str, str] = dict(os.environ)
    if record.job.environment is not None:
        try:
            base = environments.load(spool, record.job.environment)
        except (RecordError, ValueError) as error:
            raise _CannotStart("no environment", str(error)) from None
    return environ.of_job(base, spool, entry, record, output)


# ---------------------------------------------------------------- the second thread


class _HomeWatch(threading.Thread):
    """Looks at what lies on the shared file system while the job runs: requests, and the size of output.

    Tells the main thread by SIGUSR2 once `verdict` is set: "cancel", "restart" or "output limit".
    """

    def __init__(self, spool: Spool, job_id: str, streams: Streams, job: Job) -> None:
        super().__init__(daemon=True)
        self.spool, self.job_id, self.streams, self.bytes_max = spool, job_id, streams, job.max_output
        # What may not be run twice is not, whatever program asked for it.
        self.verbs = [verb for verb in states.REQUESTS if verb != "restart" or job.restartable]
        self.verdict: str | None = None
        self.nudged = threading.Event()
        self.over = False

    def run(self) -> None:
        last = 0.0
        while not self.over:
            now = time.monotonic()
            with contextlib.suppress(OSError):
                if self.nudged.is_set() or now - last >= REQUEST_LOOK_S or last == 0.0:
                    self.nudged.clear()
                    last = now
                    self.verdict = self.asked()
                if (
                    self.verdict is None
                    and self.bytes_max
                    and self.streams.size() - self.streams.before > self.bytes_max
                ):
                    self.verdict = "output limit"
            if self.verdict is not None:
                os.kill(os.getpid(), signal.SIGUSR2)
                return
            self.nudged.wait(OUTPUT_LOOK_S if self.bytes_max else REQUEST_LOOK_S)

    def asked(self) -> str | None:
        """What is asked of this job, as far as it may be done."""
        asked = spools.requests(self.spool).get(self.job_id, set())
        return next((verb for verb in self.verbs if verb in asked), None)


# ---------------------------------------------------------------- while it runs


@dataclass(slots=True)
class _Life:
    """What the main thread knows of its job."""

    spool: Spool
    entry: Entry
    record: Record
    terms: Terms
    streams: Streams
    watch: _HomeWatch
    pid: int = 0
    status: int | None = None
    began_s: float = field(default_factory=time.monotonic)
    cpu_s: float = 0.0
    memory_bytes: int = 0
    told_to_end_s: float | None = None

    def reap(self) -> None:
        """Collects every child that ended: the command, and orphans that fell to us as subreaper."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self.cpu_s += usage.ru_utime + usage.ru_stime
            self.memory_bytes = max(self.memory_bytes, usage.ru_maxrss * 1024)
            if pid == self.pid:
                self.status = status

    def pause(self, seconds: float) -> None:
        """Waits for a child to end or for a signal, at most so long, and reaps."""
        received = signal.sigtimedwait(WAITED, max(seconds, 0.0))
        if received is not None and received.si_signo == signal.SIGUSR1:
            self.watch.nudged.set()
        elif received is not None and received.si_signo == signal.SIGTERM:
            self.told_to_end_s = time.monotonic()
        self.reap()

    def is_shutdown(self, now_s: float) -> bool:
        """Whether the node is being shut down: everybody is sent SIGTERM, and SIGKILL soon after.

        A SIGTERM that came alone and long ago says nothing of an end of today.
        """
        # Job and supervisor were both sent it; which of them was seen first is chance.
        if signal.SIGTERM in signal.sigpending():
            return True
        return self.told_to_end_s is not None and now_s - self.told_to_end_s < SHUTDOWN_S

    def usage(self) -> dict[str, float]:
        """What the attempt used: seconds of processor time, and bytes of the largest process if known.

        The kernel counts from the fork, so that a command smaller than this supervisor shows as this large.
        """
        used = {"cpu_s": round(self.cpu_s, 3)}
        if self.memory_bytes > resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024:
            used["memory_bytes"] = float(self.memory_bytes)
        return used

    def wait(self) -> str | None:
        """Waits for the command's end (None), or for a reason to end it."""
        limit_s = self.record.job.time_limit_s
        # Many jobs end at once; they never need a second thread.
        self.pause(min(BRIEF_S, BRIEF_S if limit_s is None else limit_s))
        if self.status is None:
            self.watch.start()
        while self.status is None:
            left_s = 3600.0 if limit_s is None else self.began_s + limit_s - time.monotonic()
            if left_s <= 0:
                return "time limit"
            if self.watch.verdict is not None:
                return self.watch.verdict
            self.pause(min(left_s, 3600.0))
        return None

    def stop(self, why: str | None) -> None:
        """Ends whatever of the job is left, and does not return before its death is verified."""
        if why is None and procs.childless():
            return
        myself = procs.own_identity()
        mark = environ.mark(self.record.process) if self.record.process is not None else None

        def find() -> list[Identity]:
            # A command that ended by itself may only have left descendants; one that is to be
            # stopped may have handed work to somebody else: the mark finds that.
            return procs.remains([myself], mark=mark if why is not None else None)

        left = len(find()) if why is None else 0
        while not procs.kill_tree(
            find,
            grace_s=self.terms.grace_s,
            patience_s=KILL_PATIENCE_S,
            clock=time.monotonic,
            pause=self.pause,
            # A search may miss what forks and ends all the time; a subreaper without children has none.
            proof=procs.childless,
        ):
            print(f"job {self.entry.id}: processes do not die: {find()}", file=sys.stderr, flush=True)
        self.reap()
        if left:
            self.streams.say(f"rq: its command ended, {left} of its processes did not: they were stopped")


# ---------------------------------------------------------------- the whole life


def _execute(
    spool: Spool, entry: Entry, record: Record, terms: Terms
) -> tuple[Ending, dict[str, float] | None]:
    """Runs the command of a job that has begun, to its verified end."""
    job = record.job
    streams: Streams | None = None
    life: _Life | None = None
    why: str | None = None
    try:
        _enter(job)
        streams = _open(job, entry.id)
        environment = _environment(spool, entry, record, streams.path)
        watch = _HomeWatch(spool, entry.id, streams, job)
        life = _Life(spool, entry, record, terms, streams, watch)
        streams.say(_start_line(entry, record))
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        life.pid = spawn.spawn(
            job.command,
            cwd=job.directory or "/",
            env=environment,
            stdin=null,
            stdout=streams.out,
            stderr=streams.err,
            umask=0o022 if job.umask is None else job.umask,
        )
        os.close(null)
        why = life.wait()
        # Nothing that touches the home comes before the stop: a file server that hangs must not delay it.
        life.stop(why)
        outcome = classified(why, life.status, job, is_shutdown=life.is_shutdown(time.monotonic()))
    except _CannotStart as error:
        outcome = Ending(states.FAILED, error.reason, detail=str(error))
    except spawn.SpawnError as error:
        reason = {"directory": "no directory", "command": "no command"}.get(error.stage, "cannot start")
        outcome = Ending(states.FAILED, reason, detail=str(error))
    except Exception as error:
        # Our own mistake. What began must not live on without a supervisor, and must not look well.
        traceback.print_exc()
        if life is not None and life.pid:
            life.stop("error")
        outcome = Ending(states.FAILED, "cannot start", detail=f"an error of roundq itself: {error!r}")
        if life is not None and life.pid:
            outcome = replace(outcome, state=states.ZOMBIE, reason="lost")
    if life is not None:
        life.watch.over = True
    if streams is not None:
        streams.say(_end_line(entry, outcome, life))
        streams.close()
    return outcome, life.usage() if life is not None and life.pid else None


def _start_line(entry: Entry, record: Record) -> str:
    begun = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(record.started_ns // NS))
    command = " ".join(record.job.command).replace("\n", "\\n")
    named = f" {record.job.jobname!r}" if record.job.jobname else ""
    again = f", attempt {record.attempt}" if record.attempt > 1 else ""
    return f"rq: job {entry.id}{named} begins on {record.node}, {begun}{again}: {command}"


def _end_line(entry: Entry, outcome: Ending, life: _Life | None) -> str:
    what = outcome.detail or "exit code 0"
    if life is None or not life.pid:
        return f"rq: job {entry.id} could not start: {what}"
    ran_s = time.monotonic() - life.began_s
    state = "requeued" if outcome.state == states.WAITING else outcome.state
    memory = life.usage().get("memory_bytes")
    used = f", {memory / 2**20:.0f} MiB of memory" if memory is not None else ""
    return (
        f"rq: job {entry.id} {state}: {what}; ran {ran_s:.1f} s, used {life.cpu_s:.1f} s of processor{used}"
    )


def supervise(spool: Spool, entry: Entry, record: Record, terms: Terms) -> str | None:
    """From the claimed record, which names this very process, to the ended one.

    The state it ended in, once that is durably recorded; None if the record turned out not to be ours.
    """
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    # Blocked, they wait until the main thread asks for them; the job gets a clean mask.
    signal.pthread_sigmask(signal.SIG_BLOCK, WAITED)
    spawn.become_subreaper()
    running = spools.begin(spool, entry, terms.node)
    if running is None:
        return None
    outcome, usage = _execute(spool, running, record, terms)
    ended = replace(
        record,
        completed_ns=time.time_ns(),
        exit_code=outcome.exit_code,
        signal=outcome.signal,
        reason=outcome.reason,
        detail=outcome.detail,
        usage=usage,
    )
    if outcome.state == states.WAITING:
        ended = ended.next_attempt(ended.completed_ns, outcome.reason or "restarted")
    return _record_for_sure(spool, running, ended, terms)


def _record_for_sure(spool: Spool, entry: Entry, record: Record, terms: Terms) -> str | None:
    """Publishes the end, however long the home does not answer or has no room.

    Only while our name is there: if somebody proved us dead meanwhile, the record is not ours: None then.
    """
    again_s, most_s = RECORD_AGAIN_S
    began_s = time.monotonic()
    while True:
        try:
            if files.is_listed(spools.path_of(spool, entry)):
                return spools.settle(spool, entry, record, terms.node)
            if os.path.isdir(spool.directory(states.RUNNING)):
                return None
            if time.monotonic() - began_s > RECORD_GIVE_UP_S:
                return None
        except (OSError, RoundqError) as error:
            print(f"job {entry.id}: its end cannot be recorded yet: {error}", file=sys.stderr, flush=True)
        time.sleep(again_s)
        again_s = min(again_s * 2, most_s)


def exit_code(state: str | None) -> int:
    """What a supervisor's exit code tells the daemon that forked it: the state its job is in now."""
    return 0 if state is None else FIRST_CODE + states.STATES.index(state)


def state_of(code: int) -> str | None:
    """The state that a supervisor's exit code tells, None for none."""
    index = code - FIRST_CODE
    return states.STATES[index] if 0 <= index < len(states.STATES) else None


def after_fork(spool: Spool, entry: Entry, record: Record, terms: Terms, gate: int) -> None:
    """What the daemon's child does; never returns.

    It waits at the gate until the daemon has written this process into the claimed record;
    if the daemon dies before, the gate closes unopened and the job stays unbegun.
    """
    code = 1
    try:
        gc.disable()
        signal.set_wakeup_fd(-1)
        os.setsid()
        # Standard error stays the daemon's log.
        spawn.close_inherited({gate, 2})
        spawn.set_name(f"rq:{entry.id}".encode())
        spawn.set_title(f"rq supervisor of job {entry.id}".encode())
        while True:
            try:
                opened = os.read(gate, 1)
                break
            except OSError as error:
                if error.errno != errno.EINTR:
                    raise
        os.close(gate)
        if opened:
            process = procs.own_identity()
            state = supervise(spool, entry, replace(record, process=process, pid=process.pid), terms)
            code = exit_code(state)
        else:
            code = exit_code(None)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def main(arguments: list[str]) -> int:
    """`python -m roundq.actors.supervisor SPOOL ID`: supervises a job that is claimed for this node."""
    from roundq.world.node import Node

    path, job_id = arguments
    spool = Spool(path, os.path.basename(os.path.dirname(path)), os.getuid())
    name = Node(os.environ).name()
    entry = next(
        (e for e in spools.scan(spool, (states.CLAIMED,)) if e.id == job_id and e.node == name), None
    )
    if entry is None:
        print(f"rq: no job {job_id} is claimed for {name} in {path}", file=sys.stderr)
        return 1
    process = procs.own_identity()
    record = replace(
        spools.read(spool, entry).at_home(os.path.dirname(path)),
        process=process,
        pid=process.pid,
        node=name,
        started_ns=time.time_ns(),
    )
    spools.rewrite(spool, entry, record, name)
    supervise(spool, entry, record, Terms(name, grace_s=float(os.environ.get("RQ_GRACE", "30"))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
