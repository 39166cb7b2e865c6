"""Operations that hold, release and change jobs; those whose processes die are mended by a daemon."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from roundq.actors import changing as changer
from roundq.actors import held, queue
from roundq.records import changes
from roundq.records import spool as spools
from roundq.words import record_format as formats
from roundq.words.job import NS, Identity, Job, Record
from roundq.words.states import CANCELED, FAILED, HELD, ZOMBIE
from roundq.world import files, procs
from tests.crashpoints import steps
from tests.crashpoints.stage import USERS, Operation, Stage
from tests.crashpoints.survivors import NODE

#: Nobody lives to see it.
LATER_NS = 4_000_000_000 * NS
#: A process of an earlier boot of the node.
_DEAD = Identity("feed0bad", 17, 4)
_ENDS: dict[str, dict[str, Any]] = {
    "completed": {"exit_code": 0},
    "failed": {"reason": "exit", "exit_code": 3},
    "zombie": {"reason": "lost"},
}


# ---------------------------------------------------------------- what lies there


def _waiting(*ends: str) -> Callable[[Stage], object]:
    return lambda stage: stage.submit(ends=ends)


def _on_hold(*ends: str, **fields: Any) -> Callable[[Stage], None]:
    def set_up(stage: Stage) -> None:
        job_id = stage.submit(ends=ends, **fields)
        entry = stage.entry_of(job_id)
        assert entry.is_on_hold or changes.hold(stage.spool, entry)

    return set_up


def _later(*ends: str) -> Callable[[Stage], object]:
    """A job that waits for a time that does not come."""
    return lambda stage: stage.submit(ends=ends, begin_ns=LATER_NS)


def _ended(state: str, *ends: str) -> Callable[[Stage], None]:
    def set_up(stage: Stage) -> None:
        job_id = stage.submit(ends=ends)
        if state == CANCELED:
            assert spools.cancel(stage.spool, stage.entry_of(job_id), time.time_ns(), NODE)
            return
        stage.begin(job_id)
        assert stage.entry is not None
        assert stage.record is not None
        ended = replace(stage.record, completed_ns=time.time_ns(), **_ENDS[state])
        assert spools.settle(stage.spool, stage.entry, ended, NODE) == state

    return set_up


def _left_sealed(set_up: Callable[[Stage], object], *, runs_again: bool = False) -> Callable[[Stage], None]:
    """Its changer died before it wrote anything, or before it moved what is to run again."""

    def seal(stage: Stage) -> None:
        set_up(stage)
        own, procs.own_identity = procs.own_identity, lambda: _DEAD
        try:
            stage.entry = changes.change(stage.spool, stage.entry_of("1"), NODE)
        finally:
            procs.own_identity = own
        assert stage.entry is not None
        if runs_again:
            record = spools.read(stage.spool, stage.entry).unbegun()
            data = formats.dump(record)
            path = spools.path_of(stage.spool, stage.entry)
            files.replace(spools.temporary_of(stage.spool, NODE, data), path)

    return seal


# ---------------------------------------------------------------- what is done


def _done(act: Callable[[Stage, queue.Row], changer.Outcome]) -> Callable[[Stage], str | None]:
    """As the commands do it: one job, and what moved is made durable."""

    def done(stage: Stage) -> str | None:
        (row,), _ = queue.find(stage.spool, ["1"])
        became = act(stage, row)
        changes.sync(stage.spool, [] if became.state is None else [became.state])
        return became.state

    return done


def _changer(stage: Stage) -> changer.Changer:
    return changer.Changer(stage.spool, NODE, time.time_ns())


def _hold(stage: Stage, row: queue.Row) -> changer.Outcome:
    return changer.hold(stage.spool, row, NODE)


def _release(stage: Stage, row: queue.Row) -> changer.Outcome:
    return changer.release(stage.spool, row, NODE, time.time_ns())


def _edit(**fields: Any) -> Callable[[Stage, queue.Row], changer.Outcome]:
    def edited(record: Record) -> Job:
        return replace(record.job, priority=7, **fields)

    return lambda stage, row: _changer(stage).edit(row, edited)


def _rerun(stage: Stage, row: queue.Row) -> changer.Outcome:
    return _changer(stage).rerun(row)


def _retire(stage: Stage, row: queue.Row) -> changer.Outcome:
    return _changer(stage).retire(row)


def _think_better(stage: Stage) -> bool:
    sealed = changes.change(stage.spool, stage.entry_of("1"), NODE)
    assert sealed is not None
    return changes.unseal(stage.spool, sealed)


def _mend(stage: Stage) -> str | None:
    assert stage.entry is not None
    return changes.put_back(stage.spool, stage.entry)


def _cancel_unmet(stage: Stage) -> bool:
    entry = stage.entry_of("1")
    is_done = held.cancel(stage.spool, NODE, entry, "dependency", "job 7 failed", time.time_ns())
    changes.sync(stage.spool, [CANCELED])
    return is_done


def _submit(*, on_hold: bool = False, **fields: Any) -> Callable[[Stage], list[str]]:
    return lambda stage: spools.submit(stage.spool, [stage.job(**fields)], NODE, on_hold=on_hold)


def _retry_later(stage: Stage) -> str | None:
    assert stage.entry is not None
    assert stage.record is not None
    failed = replace(stage.record, **_ENDS["failed"])
    again = replace(failed.next_attempt(time.time_ns(), "exit"), not_before_ns=LATER_NS)
    return spools.settle(stage.spool, stage.entry, again, NODE)


# ---------------------------------------------------------------- what its caller may believe


def _ends_as(*ends: str) -> Callable[[Stage, Any], list[str]]:
    """It was done: from now on the job may end so only."""

    def told(stage: Stage, result: Any) -> list[str]:
        stage.ends["1"] = set(ends)
        return [] if result else [f"it says {result}"]

    return told


def _edited(*ends: str) -> Callable[[Stage, Any], list[str]]:
    def told(stage: Stage, result: Any) -> list[str]:
        wrong = _ends_as(*ends)(stage, result)
        priority = spools.read(stage.spool, stage.entry_of("1")).job.priority
        return wrong if priority == 7 else [*wrong, f"it says {result}, and the priority is {priority}"]

    return told


def _is_retired(state: str) -> Callable[[Stage, Any], list[str]]:
    def told(stage: Stage, result: Any) -> list[str]:
        wrong = _ends_as(state)(stage, result)
        is_retired = spools.read(stage.spool, stage.entry_of("1")).retired
        return wrong if is_retired else [*wrong, f"it says {result}, and the job is not retired"]

    return told


def _runs_again(stage: Stage, result: Any) -> list[str]:
    stage.again.add("1")
    return _ends_as("completed")(stage, result)


def _accepted(stage: Stage, result: list[str]) -> list[str]:
    stage.ends.update({job_id: {"held"} for job_id in result})
    states = {stage.entry_of(job_id).state for job_id in result}
    return [] if states == {HELD} else [f"it was accepted into {states}"]


def _stays_held_if_there(stage: Stage) -> None:
    """Nobody was told, and it may be in the queue all the same."""
    stage.ends.setdefault("1", {"held"})


def _is_later(stage: Stage, state: str | None) -> list[str]:
    stage.ends["1"] = {"held"}
    names = os.listdir(stage.spool.directory(HELD))
    return [] if (state, names) == (HELD, ["1.job"]) else [f"it says {state}, and there are {names}"]


def _begun(*ends: str) -> Callable[[Stage], None]:
    def set_up(stage: Stage) -> None:
        stage.begin(stage.submit(ends=ends, retries=3))

    return set_up


_BOTH = ("completed", "held")

#: Of those that differ little from others.
_FEW = (steps.STOP, steps.LOST)

OPERATIONS = [
    Operation("hold what waits", _waiting(*_BOTH), _done(_hold), _ends_as("held"), USERS, canceled="1"),
    Operation("hold what is held", _later("held"), _done(_hold), _ends_as("held"), _FEW),
    Operation("release", _on_hold(*_BOTH), _done(_release), _ends_as("completed"), USERS, canceled="1"),
    Operation(
        "release what is to begin later",
        _on_hold("held", begin_ns=LATER_NS),
        _done(_release),
        _ends_as("held"),
        _FEW,
    ),
    Operation("edit what waits", _waiting("completed"), _done(_edit()), _edited("completed"), USERS),
    Operation("edit what is on hold", _on_hold("held"), _done(_edit()), _edited("held"), _FEW),
    Operation(
        "edit what waits to begin later",
        _waiting(*_BOTH),
        _done(_edit(begin_ns=LATER_NS)),
        _edited("held"),
        _FEW,
    ),
    Operation(
        "edit what is to begin later", _later(*_BOTH), _done(_edit(begin_ns=0)), _edited("completed"), _FEW
    ),
    Operation("rerun: failed", _ended(FAILED, FAILED, "completed"), _done(_rerun), _runs_again, USERS),
    *(
        Operation(f"rerun: {state}", _ended(state, state, "completed"), _done(_rerun), _runs_again, _FEW)
        for state in ("completed", CANCELED, ZOMBIE)
    ),
    Operation("retire: failed", _ended(FAILED, FAILED), _done(_retire), _is_retired(FAILED), USERS),
    *(
        Operation(f"retire: {state}", _ended(state, state), _done(_retire), _is_retired(state), (steps.STOP,))
        for state in (CANCELED, ZOMBIE)
    ),
    Operation("think better of a change", _ended("completed", "completed"), _think_better),
    # Whether it was still there does not matter to who mends.
    Operation("mend what waited", _left_sealed(_waiting("completed")), _mend),
    Operation("mend what was on hold", _left_sealed(_on_hold("held")), _mend, kinds=_FEW),
    Operation(
        "mend what is to run again",
        _left_sealed(_ended(FAILED, "completed"), runs_again=True),
        _mend,
        kinds=_FEW,
    ),
    Operation("cancel what can never start", _later("held", CANCELED), _cancel_unmet, _ends_as(CANCELED)),
    Operation(
        "submit on hold", lambda _: None, _submit(on_hold=True), _accepted, release=_stays_held_if_there
    ),
    Operation(
        "submit to begin later",
        lambda _: None,
        _submit(begin_ns=LATER_NS),
        _accepted,
        _FEW,
        release=_stays_held_if_there,
    ),
    Operation("requeue until later", _begun("held", ZOMBIE), _retry_later, _is_later),
]
