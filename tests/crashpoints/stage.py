"""What an operation consists of, and the home in which it is played."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from roundq.actors.tenants import Tenants
from roundq.records import spool as spools
from roundq.records.spool import Entry, Spool
from roundq.words.job import Identity, Job, Record
from tests.crashpoints import steps
from tests.crashpoints.survivors import NODE, PATIENCE_S, open_daemon

#: A process of an earlier boot: surely dead.
DEAD = Identity("an earlier boot", 17, 4)
#: Every attempt writes down that it ran, in one write.
RUNS = 'echo "$RQ_JOB_ID $RQ_RESTART_COUNT" >> ledger'
#: And only the first waits for somebody to let it go.
HOLDS = f"""{RUNS}; [ "$RQ_RESTART_COUNT" -gt 0 ] ||
for i in $(seq 9999); do [ ! -e go ] || break; sleep 0.03; done"""

#: Faults of operations that only touch files; of those that others watch; of those with a process each.
PURE = (steps.STOP, steps.POWER, steps.FORGET, steps.LOST, steps.TAKEN, steps.REFUSED, steps.FULL, steps.GONE)
#: A claim need not be durable.
MOVES = tuple(kind for kind in PURE if kind != steps.FORGET)
USERS = (*PURE, steps.INTERRUPT)
ALIVE = (steps.STOP, steps.POWER, steps.LOST, steps.REFUSED)


@dataclass
class Stage:
    """One user's home for one case, in the directory `homes`."""

    homes: str
    spool: Spool
    #: By id: where the job may end if nothing that is told or stands on the disk says more.
    ends: dict[str, set[str]] = field(default_factory=dict)
    #: What a sweep folds into the history.
    old: set[str] = field(default_factory=set)
    entry: Entry | None = None
    record: Record | None = None
    #: Jobs whose first attempt must not have been their last.
    again: set[str] = field(default_factory=set)
    #: Whether the node "other", which has some of the jobs, never comes back.
    is_other_lost: bool = False

    @property
    def home(self) -> str:
        return f"{self.homes}/ann"

    def submit(self, script: str = RUNS, ends: tuple[str, ...] = ("completed",), **fields: Any) -> str:
        """A waiting job; its id."""
        (job_id,) = spools.submit(self.spool, [self.job(script, **fields)], NODE)
        self.ends[job_id] = set(ends)
        return job_id

    def job(self, script: str = RUNS, **fields: Any) -> Job:
        return Job(("/bin/sh", "-c", script), directory=self.home, home_dir=self.home, max_output=0,
                   submitted_ns=time.time_ns(), **fields)  # fmt: skip

    def entry_of(self, job_id: str) -> Entry:
        (entry,) = [entry for entry in spools.scan(self.spool) if entry.id == job_id]
        return entry

    def claim(self, job_id: str, node: str = NODE) -> Entry:
        """Claims a job as a daemon did that is gone."""
        self.entry = spools.claim(self.spool, self.entry_of(job_id), node)
        assert self.entry is not None
        return self.entry

    def begin(self, job_id: str, *, node: str = NODE, is_running: bool = True, **fields: Any) -> Entry:
        """Its supervisor, which is dead now, is in the record, which it moved if `is_running`."""
        entry = self.claim(job_id, node)
        given = {
            "process": DEAD,
            "pid": DEAD.pid,
            "node": node,
            "cores": 1,
            "started_ns": time.time_ns(),
            **fields,
        }
        self.record = replace(spools.read(self.spool, entry), **given)
        spools.rewrite(self.spool, entry, self.record, node)
        self.entry = spools.begin(self.spool, entry, node) if is_running else self.entry_of(job_id)
        assert self.entry is not None
        return self.entry

    def run(self) -> None:
        """A daemon plays one round; what it started has written in its ledger when this returns."""
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                open_daemon(self.homes).once()
            os._exit(0)
        os.waitpid(child, 0)
        until_s = time.monotonic() + PATIENCE_S
        while not os.path.exists(f"{self.home}/ledger"):
            assert time.monotonic() < until_s, "it does not begin"
            time.sleep(0.005)

    def tenants(self) -> Tenants:
        """What a daemon that just started knows."""
        return Tenants(self.spool, NODE, logging.getLogger("crashpoints"))


@dataclass(frozen=True)
class Operation:
    """`set_up` is undisturbed, `act` is what is spoiled; its result is what its caller believes.

    `told` narrows, by that result, where jobs may end, and says what of it is not so.
    """

    name: str
    set_up: Callable[[Stage], object]
    act: Callable[[Stage], Any]
    told: Callable[[Stage, Any], list[str]] = lambda *_: []
    kinds: tuple[str, ...] = PURE
    #: Whether there is no spool yet.
    is_new: bool = False
    #: Whether processes of its own go on after it, so that equal files need not mean equal ends.
    is_alive: bool = False
    #: Whether these end by themselves.
    is_brief: bool = False
    release: Callable[[Stage], object] = lambda _: None
    #: The job that a fresh client cancels after each crash point, in a case of its own.
    canceled: str | None = None
