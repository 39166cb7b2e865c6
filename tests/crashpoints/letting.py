"""Operations by which a daemon lets held jobs go, cancels what can never run, and has lost jobs run again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from roundq.actors.held import HeldList
from roundq.records import spool as spools
from roundq.words.job import Dependency
from roundq.words.states import CANCELED, COMPLETED, FAILED
from tests.crashpoints import steps
from tests.crashpoints.stage import Operation, Stage
from tests.crashpoints.survivors import NODE

#: Longer than anybody looks.
LATER_S = 80_000.0
_KILLED = (steps.STOP, steps.POWER, steps.LOST, steps.GONE)


def _look(stage: Stage) -> None:
    """A daemon that just started looks at held/ until nothing moves. What it cannot do the next one does."""
    daemon = HeldList(stage.spool, NODE, logging.getLogger("crashpoints"))
    now_s = 1000.0
    while daemon.look(now_s, time.time_ns(), 0.0):
        now_s += 1.0


# ---------------------------------------------------------------- what lies there


def _begins(stage: Stage) -> None:
    """A job whose time has come."""
    stage.submit(begin_ns=1)


def _ended(stage: Stage, state: str) -> str:
    job_id = stage.submit(ends=(state,))
    stage.begin(job_id)
    assert stage.entry is not None
    assert stage.record is not None
    facts: dict[str, Any] = {"exit_code": 0} if state == COMPLETED else {"exit_code": 3, "reason": "exit"}
    ended = replace(stage.record, completed_ns=time.time_ns(), **facts)
    assert spools.settle(stage.spool, stage.entry, ended, NODE) == state
    return job_id


def _after_well(stage: Stage) -> None:
    first = _ended(stage, COMPLETED)
    stage.submit(after=(Dependency("ok", first),))


def _after_failure(stage: Stage) -> None:
    """What comes after a failure, and what comes after the end of that, however it ends."""
    first = _ended(stage, FAILED)
    second = stage.submit(ends=(CANCELED,), after=(Dependency("ok", first),))
    stage.submit(after=(Dependency("any", second),))


def _lost(*ends: str, **fields: Any) -> Callable[[Stage], None]:
    """A running record of a job that is retried when it is lost; its supervisor is dead."""

    def set_up(stage: Stage) -> None:
        stage.begin(stage.submit(ends=ends, retries=1, retry_on=("lost",), **fields))

    return set_up


def _recover(stage: Stage) -> None:
    tenants = stage.tenants()
    tenants.look()
    tenants.recover()


OPERATIONS = [
    Operation("let go: its time has come", _begins, _look),
    Operation("let go: what it came after ended", _after_well, _look, kinds=_KILLED),
    Operation("let go: what it came after failed", _after_failure, _look, kinds=_KILLED),
    Operation("recover: running, retried", _lost("completed"), _recover, kinds=_KILLED, canceled="1"),
    Operation("recover: running, retried later", _lost("held", backoff_s=LATER_S), _recover, kinds=_KILLED),
]
