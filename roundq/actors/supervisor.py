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
import signal
import sys
import time
import traceback
from dataclasses import replace

from roundq.actors import environ
from roundq.actors.attempt import WAITED, Attempt, Terms
from roundq.actors.chunk import Chunk
from roundq.actors.ending import Ending, classified, signal_name
from roundq.actors.homewatch import LEASE_RENEWALS, LEASE_STOP, HomeWatch, clock_s
from roundq.actors.memorywatch import MemoryWatch
from roundq.actors.provision import Provision, provide
from roundq.actors.streams import Streams, open_streams
from roundq.records import commons, environments
from roundq.records import spool as spools
from roundq.records.spool import Entry, Spool
from roundq.words import retries, states, titles
from roundq.words.errors import RecordError, RoundqError
from roundq.words.job import NS, Job, Record
from roundq.words.sentences import within
from roundq.world import cgroup, files, notify, procs, spawn

_IGNORED = (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGTSTP)
#: An end that cannot be recorded is tried again, ever more slowly, for this long without a spool.
RECORD_AGAIN_S = (0.1, 60.0)
RECORD_GIVE_UP_S = 86_400.0
#: So much likelier the OOM killer ends the job than its supervisor (proc(5), oom_score_adj): as if a tenth of
#: the memory more were used by it.
OOM_SCORE = 100
#: Errors of an execution that are the node's, or the file server's, and say nothing of the command.
_PASSING = {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EIO, errno.ESTALE, errno.ETIMEDOUT}
#: A node that slept for longer between the begin and the command looks once more whose the record is.
SLEPT_S = 5.0
#: The exit code of a supervisor is this plus the index of its job's state.
FIRST_CODE = 10


class _CannotStart(Exception):
    """The command was not executed; `reason` is one of states.REASONS."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


# ---------------------------------------------------------------- before the command


def _open(record: Record, job_id: str) -> Streams:
    try:
        return open_streams(record, job_id)
    except OSError as error:
        raise _CannotStart("no output", f"cannot open {error.filename}: {error.strerror}") from None


def _enter(job: Job) -> None:
    try:
        os.close(os.open(job.directory or "/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
    except OSError as error:
        raise _CannotStart("no directory", f"cannot enter {job.directory}: {error.strerror}") from None


def _is_ours(watch: HomeWatch) -> bool:
    """Whether the record is still this supervisor's; a home that does not answer says nothing."""
    try:
        return watch.is_ours()
    except OSError:
        return True


def _environment(spool: Spool, entry: Entry, record: Record, output: str, given: Provision) -> dict[str, str]:
    base: dict[str, str] = dict(os.environ)
    if record.job.environment is not None:
        try:
            base = environments.load(spool, record.job.environment)
        except (RecordError, ValueError) as error:
            raise _CannotStart("no environment", str(error)) from None
    of_job = environ.of_job(base, spool, entry, record, output)
    return environ.of_node(of_job, given.cpus, given.gpus, given.maker, given.tmp)


def _reason_of(error: spawn.SpawnError) -> str:
    if error.stage == "command" and error.errno not in _PASSING:
        is_missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
        return "no command" if is_missing else "not executable"
    return {"directory": "no directory", "interpreter": "no interpreter"}.get(error.stage, "cannot start")


# ---------------------------------------------------------------- the whole life


def _execute(
    spool: Spool,
    entry: Entry,
    record: Record,
    terms: Terms,
    begun_s: float,
    given: Provision | None = None,
    chunk: Chunk | None = None,
) -> tuple[Ending, dict[str, float] | None]:
    """Runs the command of a job that has begun, or its chunk of tasks, to its verified end, with what it is
    given of its node."""
    given = given or Provision()
    job = record.job
    streams: Streams | None = None
    life: Attempt | None = None
    why: str | None = None
    try:
        _enter(job)
        streams = _open(record, entry.id)
        environment = _environment(spool, entry, record, streams.path, given)
        watch = HomeWatch(spool, entry, streams, record, begun_s)
        life = Attempt(spool, entry, record, terms, streams, watch)
        if record.process is not None:
            life.group = cgroup.make(cgroup.name_of(record.process.pid, record.process.start))
        life.memory = MemoryWatch(job.memory_limit, life.group, life.began_s)
        streams.say(_start_line(entry, record))
        for lack in given.lacks:
            streams.say(f"rq: {lack}")
        if life.leased_s(LEASE_STOP) <= 0:
            # This node slept since it took the job; by now it may be another's.
            raise _CannotStart("lease", "its lease ran out before it began")
        if clock_s() - begun_s > SLEPT_S and not _is_ours(watch):
            # What is said here is recorded nowhere: the record is another node's.
            raise _CannotStart("lost", "its record was taken over by another node before it began")
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        life.pid = spawn.spawn(
            job.command if chunk is None else chunk.command,
            cwd=job.directory or "/",
            env=environment,
            stdin=null if chunk is None else chunk.descriptor,
            stdout=streams.out,
            stderr=streams.err,
            umask=0o022 if job.umask is None else job.umask,
            affinity=given.cpus or None,
            group=life.group,
            oom_score=OOM_SCORE,
        )
        os.close(null)
        why = life.wait()
        by_kernel = life.killed_by_kernel() if why is None else None
        # Nothing that touches the home comes before the stop: a file server that hangs must not delay it.
        life.stop(why)
        # A command may have asked for it just before it ended.
        if why is None and life.status != 0 and by_kernel is None and watch.is_to_restart():
            why = "restart"
        outcome = classified(
            why,
            life.status,
            job,
            is_shutdown=life.is_shutdown(time.monotonic()),
            by_kernel=by_kernel,
            way=watch.why,
        )
        if chunk is not None and outcome.exit_code:
            outcome = replace(outcome, detail=f"exit code {outcome.exit_code}; {chunk.told()}")
    except _CannotStart as error:
        state = states.WAITING if error.reason == "lease" else states.FAILED
        outcome = Ending(state, error.reason, detail=str(error))
    except spawn.SpawnError as error:
        outcome = Ending(states.FAILED, _reason_of(error), detail=str(error))
    except Exception as error:
        # Our own mistake. What began must not live on without a supervisor, and must not look well.
        notify.complain(traceback.format_exc())
        if life is not None and life.pid:
            life.stop("error")
        outcome = Ending(states.FAILED, "cannot start", detail=f"an error of roundq itself: {error!r}")
        if life is not None and life.pid:
            outcome = replace(outcome, state=states.ZOMBIE, reason="lost")
    if life is not None:
        life.watch.over = True
        if life.group is not None:
            # Where no command was executed nobody has removed it.
            life.group.remove()
    given.put_away()
    if streams is not None:
        streams.say(f"{_end_line(entry, outcome, life)}{_again(record, outcome)}")
        streams.close()
    return outcome, life.usage() if life is not None and life.pid else None


def _chunk(record: Record) -> Chunk | None:
    job = record.job
    if not job.chunk:
        return None
    array_id = job.array.id if job.array is not None else ""
    return Chunk(array_id, [(task.index, task.command) for task in job.chunk], record.results)


def _start_line(entry: Entry, record: Record) -> str:
    begun = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(record.started_ns // NS))
    command = " ".join(record.job.command).replace("\n", "\\n")
    if record.job.chunk:
        command = f"{len(record.job.chunk)} tasks"
    named = f" {record.job.jobname!r}" if record.job.jobname else ""
    again = f", {retries.attempt_text(record)}" if record.attempt > 1 else ""
    return f"rq: job {entry.id}{named} begins on {record.node}, {begun}{again}: {command}"


def _end_line(entry: Entry, outcome: Ending, life: Attempt | None) -> str:
    what = outcome.detail or "exit code 0"
    if life is None or not life.pid:
        return f"rq: job {entry.id} could not start: {what}"
    ran_s = time.monotonic() - life.began_s
    state = "requeued" if outcome.state == states.WAITING else outcome.state
    memory = life.usage().get("memory_bytes")
    used = f", {memory / 2**20:.0f} MiB of memory" if memory is not None else ""
    return (
        f"rq: job {entry.id} {state}: {what}; ran {ran_s:.1f} s, used {life.cpu_s:.1f} s of processor{used}"
        f"{_paused(life)}{_noticed(life)}"
    )


def _paused(life: Attempt) -> str:
    paused_s = life.paused_s()
    return f", was paused for {paused_s:.1f} s" if paused_s else ""


def _again(record: Record, outcome: Ending) -> str:
    """That it is run again after a failure, and when."""
    if outcome.state == states.WAITING:
        return ""
    wait_ns = retries.again(replace(record, reason=outcome.reason, exit_code=outcome.exit_code), 0)
    if wait_ns is None:
        return ""
    return f"; it is run again{f' in {within(wait_ns / NS)}' if wait_ns else ''}"


def _noticed(life: Attempt) -> str:
    notice = life.record.job.notice
    if notice is None or life.noticed_s is None:
        return ""
    ago_s = time.monotonic() - life.noticed_s
    return f"; it was sent {signal_name(notice.number)} {ago_s:.1f} s before this"


def supervise(spool: Spool, entry: Entry, record: Record, terms: Terms) -> str | None:
    """From the claimed record, which names this very process, to the ended one.

    The state it ended in, once that is durably recorded; None if the record turned out not to be ours.
    """
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    # Blocked, they wait until the main thread asks for them; the job gets a clean mask.
    signal.pthread_sigmask(signal.SIG_BLOCK, WAITED)
    spawn.become_subreaper()
    begun_s = clock_s()
    running = _begin_for_sure(spool, entry, terms)
    if running is None:
        return None
    given = provide(spool, record, terms, os.environ)
    chunk = _chunk(record)
    outcome, usage = _execute(spool, running, record, terms, begun_s, given, chunk)
    ended = replace(
        record,
        completed_ns=time.time_ns(),
        exit_code=outcome.exit_code,
        signal=outcome.signal,
        reason=outcome.reason,
        detail=outcome.detail,
        usage=usage,
        results=record.results if chunk is None else chunk.results(),
    )
    if outcome.state == states.WAITING:
        ended = ended.next_attempt(ended.completed_ns, outcome.reason or "restarted")
    else:
        ended = retries.retried(ended, ended.completed_ns) or ended
    state = _record_for_sure(spool, running, ended, terms, record.lease_s)
    # Nobody waits for that: the end is recorded, and nothing is where it was.
    given.clear()
    return state


def _begin_for_sure(spool: Spool, entry: Entry, terms: Terms) -> Entry | None:
    """Begins the attempt, and does not return before that is durable. None: it is not ours any more.

    Raises OSError if the record has not moved: the job was not begun, and its daemon gives it back.
    """
    try:
        return spools.begin(spool, entry, terms.node)
    except OSError as error:
        failed = error
    # If it has moved, to die now would make a job that never ran a lost one.
    file = spools.owned_file(entry.id, terms.node)
    running = entry._replace(state=states.RUNNING, file=file, node=terms.node)
    again_s, most_s = RECORD_AGAIN_S
    while True:
        notify.complain(f"job {entry.id}: that it begins cannot be recorded yet: {failed}")
        time.sleep(again_s)
        again_s = min(again_s * 2, most_s)
        try:
            if files.is_listed(spools.path_of(spool, running)):
                files.sync_directory(spool.directory(states.RUNNING))
                return running
        except OSError:
            continue
        raise failed


def _record_for_sure(
    spool: Spool, entry: Entry, record: Record, terms: Terms, lease_s: float | None
) -> str | None:
    """Publishes the end, however long the home does not answer or has no room; renews the lease till then.

    None if the record is not ours: somebody proved us dead meanwhile, or our user called this node lost.
    """
    again_s, most_s = RECORD_AGAIN_S
    if lease_s is not None:
        most_s = min(most_s, lease_s / LEASE_RENEWALS)
    began_s = time.monotonic()
    while True:
        try:
            state = spools.settle(spool, entry, record, terms.node)
            if state is not None:
                return state
            if os.path.isdir(spool.directory(states.RUNNING)):
                return None
            if time.monotonic() - began_s > RECORD_GIVE_UP_S:
                return None
        except (OSError, RoundqError) as error:
            notify.complain(f"job {entry.id}: its end cannot be recorded yet: {error}")
            if lease_s is not None:
                _keep(spool, entry)
        time.sleep(again_s)
        again_s = min(again_s * 2, most_s)


def _keep(spool: Spool, entry: Entry) -> None:
    """Renews the lease of what has ended: that needs no room, and else it would be begun anew elsewhere."""
    with contextlib.suppress(OSError):
        if not files.touch(spools.path_of(spool, entry)):
            files.touch(spools.path_of(spool, entry.sealed))


def exit_code(state: str | None) -> int:
    """What a supervisor's exit code tells the daemon that forked it: the state its job is in now."""
    return 0 if state is None else FIRST_CODE + states.STATES.index(state)


def state_of(code: int) -> str | None:
    """The state that a supervisor's exit code tells, None for none."""
    index = code - FIRST_CODE
    return states.STATES[index] if 0 <= index < len(states.STATES) else None


def _entitle(entry: Entry, record: Record) -> None:
    """Has the process table tell those who cannot read our card what this job was given, and no more."""
    spawn.set_name(titles.SUPERVISOR.encode())
    # Inside a job, the mark in our environment leads to us. What we have is that job's, and counts as such.
    if "RQ_MARK" not in os.environ:
        job = record.job
        title = titles.Title(
            commons.masked(entry.id),
            record.cores,
            job.memory_required,
            record.cpus,
            record.gpus,
            record.threads,
        )
        spawn.set_title(titles.text(title).encode())


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
        _entitle(entry, record)
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
        notify.complain(traceback.format_exc())
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
    sealed = spools.rewrite(spool, entry, record, name)
    if sealed is None:
        print(f"rq: job {job_id} was taken away in this moment", file=sys.stderr)
        return 1
    grace_s, tmp = float(os.environ.get("RQ_GRACE", "30")), os.environ.get("RQ_TMP", "")
    supervise(spool, sealed, record, Terms(name, grace_s, tmp))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
