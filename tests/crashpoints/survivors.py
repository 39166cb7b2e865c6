"""Those who come after a crash: a fresh daemon and a fresh client, each in a process of its own."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import time
from collections.abc import Iterable

from roundq.actors import daemon as daemons
from roundq.actors import mending, queue
from roundq.actors.daemon import Daemon
from roundq.records import spool as spools
from roundq.records.spool import Spool
from roundq.words.job import Job
from roundq.world.nodelock import NodeLock
from tests.cluster.checkers import SPOOL

NODE = "testnode"
#: Longer than everything takes on a loaded machine.
PATIENCE_S = 120.0
#: Seconds after which a daemon does what it does rarely: it forgets moot requests, and sweeps, twice.
LATER_S = (61.0, 122.0, 3800.0, 7500.0)


def environ_of(homes: str, node: str = NODE) -> dict[str, str]:
    """What daemons, supervisors and clients of Ann's get."""
    return {
        "HOME": f"{homes}/ann",
        "PATH": "/usr/bin:/bin",
        "RQ_NODE": node,
        "RQ_GRACE": "2",
        "RQ_CORES": "2",
        "RQ_POLL_MIN": "0.05",
        "RQ_POLL_MAX": "0.5",
    }


def spool_of(homes: str) -> Spool:
    """Ann's spool."""
    return spools.at(f"{homes}/ann", "ann", os.geteuid())


def locks_of(homes: str) -> functools.partial[NodeLock]:
    """Locks that go with the case."""
    return functools.partial(NodeLock, places=(f"{homes}/../locks",))


def open_daemon(homes: str, node: str = NODE) -> Daemon:
    """A daemon with its lock, in this process; an older one has gone or leaves now."""
    lock = locks_of(homes)(spool_of(homes).path)
    daemons._take_over(lock)
    return Daemon(spool_of(homes), lock, environ_of(homes, node))


def _is_over(homes: str) -> bool:
    spool = f"{homes}/ann/{SPOOL}"
    if any(os.listdir(f"{spool}/{state}") for state in ("waiting", "claimed", "running")):
        return False
    # What was being changed is put back.
    return not any(name.endswith("!.job") for name in os.listdir(f"{spool}/held"))


def daemon(homes: str, node: str = NODE, *, to_the_end: bool = True) -> None:
    """Serves until nothing waits or runs any more, and then as long as it takes to sweep."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    spools.prepare(spool_of(homes))
    one = open_daemon(homes, node)
    # Nothing that was sent before a process died is on its way here.
    mending.AGAIN_S = 0.02
    until_s = time.monotonic() + PATIENCE_S
    one.round.run(time.monotonic())
    while to_the_end and not _is_over(homes):
        if time.monotonic() > until_s:
            raise AssertionError("the jobs do not end")
        signal.sigtimedwait({signal.SIGCHLD}, 0.05)
        one.round.run(time.monotonic())
    if to_the_end:
        now_s = time.monotonic()
        for name in os.listdir(f"{homes}/ann/{SPOOL}/tmp"):
            # An hour passes.
            os.utime(f"{homes}/ann/{SPOOL}/tmp/{name}", (1000, 1000))
        for later_s in LATER_S:
            one.round.run(now_s + later_s)
    one.round.leave()


def client(
    homes: str, job: Job, accepted: Iterable[str], cancel: str | None, *, is_served: bool = False
) -> tuple[str, str, str | None]:
    """Lists and finds every job, and cancels one if told to; submits another, and cancels that at once.

    The id of the other one, what it was told of that one's cancel, and of the first one's. Where it
    `is_served` by a daemon that still lives, that may have claimed the other one before it is canceled.
    """
    me = spool_of(homes)
    shown = queue.listing([me], me, now_ns=time.time_ns(), ended_of_any_age=True)
    assert not shown.problems, shown.problems
    for job_id in accepted:
        rows = [row for row in shown.rows if row.id == job_id]
        assert len(rows) == 1, f"job {job_id} is listed as {[row.state for row in rows]}"
        found, unknown = queue.find(me, [job_id])
        assert [row.id for row in found] == [job_id], f"job {job_id} is not found: {unknown}"
        assert found[0].record is not None, found[0].problem
    (late,) = spools.submit(me, [job], NODE)
    reply = _canceled(me, late)
    assert reply in ((queue.GONE, queue.ASKED) if is_served else (queue.GONE,))
    return late, reply, None if cancel is None else _canceled(me, cancel)


def _canceled(me: Spool, job_id: str) -> str:
    (row,), _ = queue.find(me, [job_id])
    return queue.cancel(me, row, NODE, time.time_ns())


def waiting_client(homes: str, accepted: Iterable[str], held: Iterable[str]) -> None:
    """Waits for every job; each has ended, and says the state in which it lies."""
    me = spool_of(homes)
    ids = sorted(set(accepted) - set(held))
    rows = queue.wait(me, ids, PATIENCE_S, node=NODE)
    for job_id in ids:
        path = f"{me.path}/{rows[job_id].state}/{job_id}.job"
        assert os.path.exists(path), f"wait says {rows[job_id].state} of job {job_id}"


def release(homes: str, late: str) -> None:
    """Lets the jobs end that wait for it, unless the end of one was asked for; `late` is the client's own."""
    with contextlib.suppress(FileNotFoundError):
        asked = {name.partition(".")[0] for name in os.listdir(f"{homes}/ann/{SPOOL}/requests")}
        if not asked - {late}:
            with open(f"{homes}/ann/go", "w"):
                pass
