"""Independent judges of what a run left on disk and of what jobs wrote down themselves.

They read directories and JSON and import nothing of roundq: a mistake there must not hide itself here.
`homes` is the directory of all homes as the server has it (Cluster.server), `ledger` is Cluster.ledger. Every
judge returns what is wrong, one line each; an empty list is a pass. `check()` raises with all of it.

    one_state        every job is in exactly one state directory             (G1, the directory is the state)
    accepted_kept    every id that was printed is there, and no other        (G1)
    true_outcomes    the record says what the directory says                 (G3)
    no_strays        state directories hold records, whole and readable
    ran_once         every job ran exactly once, by its own account          (G2)
    not_twice_at_once  no job ran at two places at the same time             (G2)
    attempts_once    no attempt began twice, and none while an earlier one lived   (G2)
    true_attempts    what records say of attempts is what the jobs wrote down      (G2, G3)
    lost_for_a_cause   what is called lost was hit by something that loses jobs    (G3)
    promised_once    at no instant was anything promised twice: cores, memory, GPUs, licenses   (G5)
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tests.cluster import promises
from tests.cluster.promises import Supply
from tests.cluster.runs import Interval as Interval
from tests.cluster.runs import intervals as intervals

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

SPOOL = ".roundqueue"
OWNED = ("claimed", "running")
OPEN = ("held", "waiting", *OWNED)
ENDED = ("completed", "failed", "canceled", "zombie")
STATES = OPEN + ENDED

# Ends by which no command was executed.
NEVER_RAN = tuple(f"no {what}" for what in ("command", "interpreter", "directory", "output", "environment"))
NEVER_RAN += ("not executable", "cannot start")
# Nobody knows how the attempt ended.
LOST = ("lost", "rebooted")
# Why an attempt that may have ended well is followed by another.
RUN_AGAIN = ("restarted", "preempted", "shutdown", "lease", *LOST)
# Earlier attempts that a record remembers.
REMEMBERED = 100
# A process that was frozen needs this long to notice that its attempt was given to others.
THAW_S = 10.0


@dataclass(frozen=True)
class Found:
    """One file in a state directory. `record` is None if it is not a JSON object."""

    user: str
    state: str
    id: str
    node: str
    path: str
    record: dict[str, Any] | None

    def __str__(self) -> str:
        return f"{self.user}/{self.state}/{os.path.basename(self.path)}"


@dataclass(frozen=True)
class Outcome:
    """What became of a job, by its record."""

    state: str
    exit_code: int | None
    signal: int | None
    reason: str | None


@dataclass(frozen=True)
class Blow:
    """Something that loses jobs: a crash of a node, or SIGKILL to supervisors there (of `user`, or all)."""

    node: str
    at: float
    user: str | None = None


# ---------------------------------------------------------------- what is on disk


def find(homes: str, user: str | None = None) -> list[Found]:
    """All records of one user or all."""
    found = []
    for name in sorted(os.listdir(homes)) if user is None else [user]:
        for state in STATES:
            directory = os.path.join(homes, name, SPOOL, state)
            files = [file for file in sorted(_listdir(directory)) if file.endswith(".job")]
            found += [_found(name, state, os.path.join(directory, file)) for file in files]
    return found


def states(homes: str, user: str) -> dict[str, str]:
    """The state of every job of a user. A job that is in two of them is in the last one here."""
    return {f.id: f.state for f in find(homes, user)}


def outcomes(homes: str, user: str) -> dict[str, Outcome]:
    """What became of every job of a user that has ended."""
    result = {}
    for f in find(homes, user):
        if f.state in ENDED:
            r = f.record or {}
            result[f.id] = Outcome(f.state, r.get("exit_code"), r.get("signal"), r.get("reason"))
    return result


def all_ended(homes: str, user: str | None = None) -> bool:
    """Is nothing held, waiting, claimed or running any more?"""
    return not any(f.state in OPEN for f in find(homes, user))


def one_state(homes: str) -> list[str]:
    where: dict[tuple[str, str], list[str]] = {}
    for f in find(homes):
        where.setdefault((f.user, f.id), []).append(str(f))
    return [f"{user}'s job {id_} is in {paths}" for (user, id_), paths in where.items() if len(paths) > 1]


def accepted_kept(homes: str, accepted: Mapping[str, Iterable[object]]) -> list[str]:
    """`accepted`: per user, the ids that were printed."""
    wrong = []
    for user, ids in accepted.items():
        expected, there = {str(id_) for id_ in ids}, set(states(homes, user))
        wrong += [f"{user}'s job {id_} was accepted and is gone" for id_ in sorted(expected - there)]
        wrong += [f"{user}'s job {id_} is there and was never accepted" for id_ in sorted(there - expected)]
    return wrong


def true_outcomes(homes: str) -> list[str]:
    wrong = []
    for f in find(homes):
        r = f.record or {}
        exit_code, signal = r.get("exit_code"), r.get("signal")
        if f.state == "completed" and (exit_code != 0 or signal is not None):
            wrong.append(f"{f} completed with exit code {exit_code} and signal {signal}")
        if f.state == "failed" and exit_code in (0, None) and signal is None and not r.get("reason"):
            wrong.append(f"{f} failed and does not say why")
        if f.state in ("zombie", *OPEN) and (exit_code is not None or signal is not None):
            wrong.append(f"{f} has exit code {exit_code} and signal {signal}, which nobody can know")
        if f.state == "running" and f.node != r.get("node"):
            wrong.append(f"{f} says that it runs on {r.get('node')}")
        started, completed = _seconds(r.get("started")), _seconds(r.get("completed"))
        if f.state in ("completed", "failed") and not 0 < started <= completed and exit_code is not None:
            wrong.append(f"{f} started at {started} and completed at {completed}")
    return wrong


def no_strays(homes: str) -> list[str]:
    wrong = [f"{f} is not a record" for f in find(homes) if _command(f) is None]
    wrong += [f"{f} has the name of another state" for f in find(homes) if (f.state in OWNED) != bool(f.node)]
    for user in sorted(os.listdir(homes)):
        for state in STATES:
            names = sorted(_listdir(os.path.join(homes, user, SPOOL, state)))
            wrong += [f"{user}/{state}/{name} does not belong there" for name in names if name[-4:] != ".job"]
    return wrong


# ---------------------------------------------------------------- what jobs wrote down


def ran_once(runs: Iterable[Interval], labels: Iterable[object]) -> list[str]:
    """`labels`: of all jobs that should have run."""
    expected, times = {str(label) for label in labels}, Counter(run.label for run in runs)
    wrong = [f"job {label} ran {times[label]} times" for label in sorted(expected) if times[label] != 1]
    return wrong + [f"job {label} ran and should not have" for label in sorted(set(times) - expected)]


def not_twice_at_once(runs: Iterable[Interval], thaws: Iterable[tuple[str, float]] = ()) -> list[str]:
    """`thaws`: nodes and when they thawed; who notices just then that his job was given away is forgiven."""
    wrong = []
    last: dict[tuple[int, str], Interval] = {}
    for run in sorted(_without_afterlife(runs, thaws), key=lambda run: run.start):
        who = run.uid, run.label
        before = last.get(who)
        if before and run.start < before.end:
            wrong.append(f"{before} and at the same time {run}")
        last[who] = run if not before or run.end > before.end else before
    return wrong


def attempts_once(runs: Iterable[Interval], thaws: Iterable[tuple[str, float]] = ()) -> list[str]:
    """No attempt of a job began twice, and none while anything of an earlier attempt lived."""
    judged = [run for run in _without_afterlife(runs, thaws) if run.job is not None]
    times = Counter((run.uid, run.job, run.attempt, run.label) for run in judged)
    wrong = [
        f"{label}: attempt {n} of job {id_} ran {c} times" for (_, id_, n, label), c in times.items() if c > 1
    ]
    jobs: dict[tuple[int, str | None], list[Interval]] = {}
    for run in judged:
        jobs.setdefault((run.uid, run.job), []).append(run)
    for (_, id_), of_job in jobs.items():
        for run in of_job:
            wrong += [
                f"job {id_}: attempt {run.attempt} ({run}) while attempt {other.attempt} ({other}) lived"
                for other in of_job
                if (other.attempt or 0) < (run.attempt or 0) and other.end > run.start
            ]
    return wrong


def _without_afterlife(runs: Iterable[Interval], thaws: Iterable[tuple[str, float]]) -> list[Interval]:
    """The same runs, as if what died just after a thaw had died when it was frozen: it could not act."""
    thawed = list(thaws)

    def judged(run: Interval) -> Interval:
        for node, at in thawed:
            if run.node == node and run.start < at <= run.end <= at + THAW_S and not run.ended:
                return replace(run, end=run.start)
        return run

    return [judged(run) for run in runs]


# ---------------------------------------------------------------- both together


def true_attempts(homes: str, runs: Iterable[Interval]) -> list[str]:
    """Every record against the ledger: what ran is recorded, with its end; what is recorded so, ran so."""
    wrong: list[str] = []
    by_job = _by_job(homes, runs)
    for f in find(homes):
        if f.record is not None and "ledger" in " ".join(_command(f) or ()):
            wrong += [f"{f}: {text}" for text in _job_wrong(f, f.record, by_job.pop((f.user, f.id), []))]
    return wrong + [f"{user}'s job {id_} ran and has no record" for user, id_ in sorted(by_job)]


def promised_once(homes: str, runs: Iterable[Interval], supply: Supply) -> list[str]:
    """What the jobs had, by what they found at their start and by what their records ask for."""
    runs = list(runs)
    users = {os.stat(os.path.join(homes, name)).st_uid: name for name in os.listdir(homes)}
    records = {(f.user, f.id): f.record or {} for f in find(homes)}

    def record_of(run: Interval) -> Mapping[str, Any]:
        return records.get((users[run.uid], run.job or ""), {})

    return promises.overbooked(runs, supply, record_of) + promises.untold(runs, supply, record_of)


def _by_job(homes: str, runs: Iterable[Interval]) -> dict[tuple[str, str], list[Interval]]:
    users = {os.stat(os.path.join(homes, name)).st_uid: name for name in os.listdir(homes)}
    by_job: dict[tuple[str, str], list[Interval]] = {}
    for run in runs:
        if run.job is not None:
            by_job.setdefault((users[run.uid], run.job), []).append(run)
    return by_job


def _job_wrong(f: Found, record: dict[str, Any], runs: list[Interval]) -> Iterator[str]:
    present = record.get("attempt", 1)
    past = {attempt.get("number"): attempt for attempt in record.get("attempts", [])}
    ran = sorted({run.attempt or 0 for run in runs})
    if present > 1 and not record["job"].get("restartable"):
        yield f"attempt {present} of a job that may not be run again"
    if sorted(past) != list(range(max(1, present - REMEMBERED), present)):
        yield f"attempt {present} with a history of {sorted(past)}"
    if ran and ran[-1] > present:
        yield f"attempt {ran[-1]} ran, the record knows {present}"
    if ran and ran[-1] == present and _is_unbegun(f, record):
        yield f"attempt {present} ran, and is recorded as never begun"
    for number, said in [*past.items(), (present, record)]:
        of_attempt = [run for run in runs if run.attempt == number]
        if said is not record or f.state in ENDED:
            yield from _attempt_wrong(number, said, of_attempt, is_last=said is record)
    command = next((run for run in runs if run.attempt == present and run.is_command), None)
    if f.state == "completed" and not (command and command.ended and command.exit_code == 0):
        yield f"completed, but its last attempt ({command}) did not end with 0"


def _attempt_wrong(
    number: int, said: dict[str, Any], runs: list[Interval], *, is_last: bool
) -> Iterator[str]:
    """What a record says of one ended attempt, against the runs of it."""
    reason, exit_code = said.get("reason"), said.get("exit_code")
    for run in runs:
        if run.node != said.get("node"):
            yield f"attempt {number} ran on {run.node}, recorded is {said.get('node')}"
        if said.get("process") is not None and run.mark != _mark(said["process"]):
            yield f"attempt {number} ran under {run.mark}, recorded is {said['process']}"
        if run.is_command and run.ended and exit_code is not None and run.exit_code != exit_code:
            yield f"attempt {number} ended with {run.exit_code}, recorded is {exit_code}"
        if reason in NEVER_RAN:
            yield f"attempt {number} ran, recorded is {reason}"
    if reason == "exit" and not any(run.is_command and run.ended for run in runs):
        yield f"attempt {number} did not end by itself, recorded is exit code {exit_code}"
    if not is_last and reason not in RUN_AGAIN:
        yield f"attempt {number} ended with {reason} and was followed by another"


def _is_unbegun(f: Found, record: dict[str, Any]) -> bool:
    if f.state in ("held", "waiting", "claimed"):
        return True
    # A job that is canceled before it began has no supervisor in its record.
    return f.state == "canceled" and record.get("process") is None


def _mark(process: dict[str, Any]) -> str:
    return f"{process.get('boot')}.{process.get('pid')}.{process.get('start')}"


#: For how long a process that was sent SIGKILL may still be in the kernel, on a machine that is late.
DYING_S = 3.0


def lost_for_a_cause(homes: str, runs: Iterable[Interval], blows: Iterable[Blow]) -> list[str]:
    """Every attempt that is recorded as lost was on a node that was hit, for its user, while it ran.

    Or just before: a SIGKILL waits while the supervisor is in the middle of starting the command.
    """
    hits = list(blows)
    by_job = _by_job(homes, runs)
    wrong = []
    for f in find(homes):
        record = f.record or {}
        for said in [*record.get("attempts", []), record]:
            if said.get("reason") not in LOST:
                continue
            number = said.get("number", record.get("attempt", 1))
            began = [run.start for run in by_job.get((f.user, f.id), []) if run.attempt == number]
            if not any(
                blow.node == said.get("node")
                and blow.user in (None, f.user)
                and blow.at + DYING_S >= max(began, default=0)
                for blow in hits
            ):
                wrong.append(
                    f"{f}: attempt {number} is called lost, and nothing hit it on {said.get('node')}"
                )
    return wrong


# ---------------------------------------------------------------- all of it


def check(
    homes: str,
    accepted: Mapping[str, Iterable[object]] | None = None,
    *,
    ledger: str | None = None,
    supply: Supply | None = None,
    blows: Iterable[Blow] | None = None,
    thaws: Iterable[tuple[str, float]] = (),
) -> None:
    """Raise AssertionError with all that is wrong. What is not given is not judged."""
    wrong = one_state(homes) + no_strays(homes) + true_outcomes(homes)
    if accepted is not None:
        wrong += accepted_kept(homes, accepted)
    if ledger is not None:
        runs, thawed = intervals(ledger), list(thaws)
        wrong += not_twice_at_once(runs, thawed) + attempts_once(runs, thawed) + true_attempts(homes, runs)
        if blows is not None:
            wrong += lost_for_a_cause(homes, runs, blows)
        if supply is not None:
            wrong += promised_once(homes, runs, supply)
    if wrong:
        raise AssertionError("\n".join(wrong))


def _found(user: str, state: str, path: str) -> Found:
    id_, node = os.path.basename(path).removesuffix(".job"), ""
    if state in OWNED and "@" in id_:
        id_, _, node = id_.rpartition("@")
        node = node.removesuffix("!")  # Sealed: its owner is rewriting it.
    elif state == "held":
        # On hold, or being changed by a process.
        id_ = re.sub(r"(.)(?:@user|@[0-9]+-[0-9]+-[0-9a-f]{8}-[a-z]+@[^@]+!)$", r"\1", id_)
    try:
        with open(path) as f:
            record = json.load(f)
    except (OSError, ValueError):
        record = None
    return Found(user, state, id_, node, path, record if isinstance(record, dict) else None)


def _command(found: Found) -> list[str] | None:
    job = (found.record or {}).get("job")
    command = job.get("command") if isinstance(job, dict) else None
    right = isinstance(command, list) and command and all(isinstance(word, str) for word in command)
    return command if right else None


def _listdir(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _seconds(moment: object) -> float:
    if not isinstance(moment, dict):
        return 0.0
    return float(moment.get("secs", 0)) + float(moment.get("nanos", 0)) / 1e9
