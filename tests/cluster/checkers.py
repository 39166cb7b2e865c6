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
    overbooked       at no instant did the jobs on a node use more cores than it has   (G5)
"""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SPOOL = ".roundqueue"
OWNED = ("claimed", "running")
OPEN = ("held", "waiting", *OWNED)
ENDED = ("completed", "failed", "canceled", "zombie")
STATES = OPEN + ENDED


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
class Interval:
    """One run of a ledger job: from `start` to `end`, which is when it was last alive if it was killed."""

    label: str
    node: str
    uid: int
    cores: int
    start: float
    end: float
    ended: bool

    def __str__(self) -> str:
        return f"{self.label} on {self.node} ({self.start:.3f} to {self.end:.3f}, cores {self.cores})"


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


def intervals(ledger: str) -> list[Interval]:
    """All runs of ledger jobs, by their start."""
    runs = []
    for name in sorted(os.listdir(ledger)):
        with open(os.path.join(ledger, name)) as f:
            lines = [json.loads(line) for line in f if line.endswith("\n")]
        if lines:
            first, last = lines[0], lines[-1]
            who = (first["label"], first["node"], first["uid"], first["cores"])
            runs.append(Interval(*who, first["at"], last["at"], last["event"] == "end"))
    return sorted(runs, key=lambda run: run.start)


def ran_once(runs: Iterable[Interval], labels: Iterable[object]) -> list[str]:
    """`labels`: of all jobs that should have run."""
    expected, times = {str(label) for label in labels}, Counter(run.label for run in runs)
    wrong = [f"job {label} ran {times[label]} times" for label in sorted(expected) if times[label] != 1]
    return wrong + [f"job {label} ran and should not have" for label in sorted(set(times) - expected)]


def not_twice_at_once(runs: Iterable[Interval]) -> list[str]:
    wrong = []
    last: dict[str, Interval] = {}
    for run in sorted(runs, key=lambda run: run.start):
        before = last.get(run.label)
        if before and run.start < before.end:
            wrong.append(f"{before} and at the same time {run}")
        last[run.label] = run if not before or run.end > before.end else before
    return wrong


def overbooked(runs: Iterable[Interval], cores: int | Mapping[str, int]) -> list[str]:
    """`cores`: of every node, or of each. It judges mildly: a killed job ends when it was last alive."""
    wrong = []
    # Of a run that was killed at once nothing but its start is known.
    changes = [(run.start, 1, run) for run in runs if run.start < run.end]
    changes += [(run.end, 0, run) for _, _, run in changes]
    now: dict[str, list[Interval]] = {}
    # What ends at the instant at which another starts has made room for it.
    for at, is_start, run in sorted(changes, key=lambda change: change[:2]):
        there = now.setdefault(run.node, [])
        if not is_start:
            there.remove(run)
            continue
        there.append(run)
        used, has = sum(r.cores for r in there), cores if isinstance(cores, int) else cores[run.node]
        if used > has:
            labels = ", ".join(r.label for r in there)
            wrong.append(f"{run.node} has {has} cores and used {used} at {at:.3f}: {labels}")
    return wrong


# ---------------------------------------------------------------- all of it


def check(
    homes: str,
    accepted: Mapping[str, Iterable[object]] | None = None,
    *,
    ledger: str | None = None,
    cores: int | Mapping[str, int] | None = None,
) -> None:
    """Raise AssertionError with all that is wrong. What is not given is not judged."""
    wrong = one_state(homes) + no_strays(homes) + true_outcomes(homes)
    if accepted is not None:
        wrong += accepted_kept(homes, accepted)
    if ledger is not None:
        runs = intervals(ledger)
        wrong += not_twice_at_once(runs)
        if cores is not None:
            wrong += overbooked(runs, cores)
    if wrong:
        raise AssertionError("\n".join(wrong))


def _found(user: str, state: str, path: str) -> Found:
    id_, node = os.path.basename(path).removesuffix(".job"), ""
    if state in OWNED and "@" in id_:
        id_, _, node = id_.rpartition("@")
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
