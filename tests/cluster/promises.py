"""Independent judges of what was promised: at no instant cores, CPUs, memory, GPUs or licenses twice, and no
set or array ever over its limit.

A promise is what one attempt of a job has of its node, and of what is counted in the whole cluster. It is
taken from what the jobs wrote down themselves (ledger) and from what they ask for in their records, or from
cards; roundq is not asked. Pure, and shared with the simulation. Every judge returns what is wrong, one line
each; an empty list is a pass.

    conflicts    what promises that hold at one instant promise twice
    overbooked   what the jobs of a run had at any instant, by their own account
    untold       a job that was not told what it had, or was told something else
    over_limits  jobs that began although as many of their set or array ran as its limit allowed then
    CardWatch    what all cards together promise, looked at again and again
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tests.cluster.runs import GPU_VARIABLES, Interval

T = TypeVar("T")

#: Granted cores that stand for a node of one's own.
WHOLE = 0


@dataclass(frozen=True)
class Promise:
    """What a job has: cores, 0 for all of the node; memory in bytes; CPUs and GPUs that are its own, by name.

    `threads`: it runs on hardware threads that the cores of others leave over, and has no core. `groups` are
    its set and its array, with whose they are.
    """

    job: str
    node: str
    cores: int
    memory: int = 0
    cpus: frozenset[int] = frozenset()
    gpus: tuple[str, ...] = ()
    licenses: Mapping[str, int] = field(default_factory=dict)
    threads: bool = False
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class Supply:
    """What there is to promise. What is None is not judged, of nodes that a mapping does not name neither.

    Cores, memory in bytes and the ids of GPUs are those of every node, or of each by name. `licenses` are
    those of the whole cluster, `local` those of nodes, by their names. `pins`: every job has CPUs of its own.
    `groups` is how many jobs of each set and array may run at once; one that is not named is not judged.
    """

    cores: int | Mapping[str, int] | None = None
    memory: int | Mapping[str, int] | None = None
    gpus: tuple[str, ...] | Mapping[str, tuple[str, ...]] | None = None
    licenses: Mapping[str, int] | None = None
    local: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    pins: bool | Mapping[str, bool] = False
    groups: Mapping[str, int] = field(default_factory=dict)


def conflicts(promises: Iterable[Promise], supply: Supply) -> list[str]:
    """What is wrong if all of these hold at the same instant."""
    wrong: list[str] = []
    nodes: dict[str, list[Promise]] = {}
    held: Counter[str] = Counter()
    promises = list(promises)
    for group, most in supply.groups.items():
        of_group = [promise for promise in promises if group in promise.groups]
        if len(of_group) > most:
            wrong.append(f"{len(of_group)} of {most} jobs of {group} run: {_names(of_group)}")
    for promise in promises:
        nodes.setdefault(promise.node, []).append(promise)
        held.update(promise.licenses)
    for node, here in nodes.items():
        wrong += [f"{node} {text}: {_names(jobs)}" for text, jobs in _on_one_node(node, here, supply)]
        for name in supply.local.get(node, {}):
            # Those of a node are not of the cluster.
            del held[name]
    for name, count in sorted(held.items()):
        if supply.licenses is not None and count > supply.licenses.get(name, 0):
            who = [promise for here in nodes.values() for promise in here if name in promise.licenses]
            wrong.append(
                f"{count} licenses {name} of {supply.licenses.get(name, 0)} are in use: {_names(who)}"
            )
    return wrong


def _on_one_node(node: str, here: list[Promise], supply: Supply) -> Iterable[tuple[str, list[Promise]]]:
    cores, memory, gpus = (
        of_node(node, supply.cores),
        of_node(node, supply.memory),
        of_node(node, supply.gpus),
    )
    whole = [promise for promise in here if promise.cores == WHOLE]
    if whole and len(here) > 1:
        yield "is one job's alone and another's, too", here
    used = sum(promise.cores for promise in here if not promise.threads)
    if cores is not None and used > cores:
        yield f"has {cores} cores and used {used}", here
    promised = sum(promise.memory for promise in here)
    if memory is not None and promised > memory:
        yield f"has {memory} bytes of memory and promised {promised}", here
    yield from _shared("CPU", [(promise, promise.cpus) for promise in here])
    yield from _shared("GPU", [(promise, promise.gpus) for promise in here])
    for promise in here:
        if gpus is not None and not set(promise.gpus) <= set(gpus):
            yield (
                f"has no GPUs but {', '.join(gpus) or 'none'}, and gave {', '.join(promise.gpus)}",
                [promise],
            )
    for name, has in supply.local.get(node, {}).items():
        if (count := sum(promise.licenses.get(name, 0) for promise in here)) > has:
            yield f"has {has} licenses {name} and gave {count}", here


def _shared(what: str, having: list[tuple[Promise, Iterable[Any]]]) -> Iterable[tuple[str, list[Promise]]]:
    owners: dict[Any, list[Promise]] = {}
    for promise, ids in having:
        for one in ids:
            owners.setdefault(one, []).append(promise)
    for one, who in sorted(owners.items()):
        if len(who) > 1:
            yield f"gave {what} {one} more than once", who


def of_node(node: str, has: T | Mapping[str, T] | None) -> T | None:
    """What a supply says of one node."""
    return has.get(node) if isinstance(has, Mapping) else has


def _names(promises: Iterable[Promise]) -> str:
    return ", ".join(promise.job for promise in promises)


# ---------------------------------------------------------------- what jobs wrote down

Records = Callable[[Interval], Mapping[str, Any]]


def nothing(_run: Interval) -> Mapping[str, Any]:
    """Where no records are known."""
    return {}


def overbooked(runs: Iterable[Interval], supply: Supply, record_of: Records = nothing) -> list[str]:
    """Every instant of these runs. It judges mildly: a job that was killed ends when it was last alive.

    `record_of` gives the record of a run, which says what its job asks for.
    """
    wrong = []
    # Of a run that was killed at once nothing but its start is known.
    held = [(run, promise_of(run, record_of(run))) for run in runs if run.is_command]
    changes = [(run.start, 1, promise) for run, promise in held if run.start < run.end]
    changes += [(run.end, 0, promise) for run, promise in held if run.start < run.end]
    now: list[Promise] = []
    # What ends at the instant at which another starts has made room for it.
    for at, is_start, promise in sorted(changes, key=lambda change: change[:2]):
        if is_start:
            now.append(promise)
            wrong += [f"at {at:.3f} {text}" for text in conflicts(now, supply)]
        else:
            now.remove(promise)
    return wrong


def promise_of(run: Interval, record: Mapping[str, Any]) -> Promise:
    """What a run had: cores as it was meant to have, CPUs and GPUs as it found them, the rest as it asked.

    Who was not told of CPUs has none of his own.
    """
    job = record.get("job") or {}
    # Of an earlier attempt the record does not tell it.
    threads = bool(record.get("threads")) and record.get("attempt", 1) == run.attempt
    return Promise(
        run.label,
        run.node,
        run.cores,
        int(job.get("memory_required") or 0),
        run.cpus if run.cpu_list else frozenset(),
        run.gpus,
        dict(job.get("licenses") or {}),
        threads,
        groups_of(run, record),
    )


def over_limits(
    runs: Iterable[Interval],
    limits: Mapping[str, Iterable[tuple[float, int | None]]],
    record_of: Records,
    late_s: float,
) -> list[str]:
    """Every beginning of a job of a group that had a limit then: `limits` are from when on which, by group.

    A limit that was lowered ends nothing, so only who begins is judged; and a claim may have been kept, and
    the limit read, as long as `late_s` before the job began.
    """
    wrong = []
    held = [(run, groups_of(run, record_of(run))) for run in runs if run.is_command]
    for group, changes in limits.items():
        changes = sorted(changes)
        own = [run for run, groups in held if group in groups]
        for run in own:
            known = [most for at, most in changes if run.start - late_s < at <= run.start]
            before = [most for at, most in changes if at <= run.start - late_s]
            allowed = [*known, *(before[-1:] or [None])]
            if None in allowed:
                continue
            beside = [other for other in own if other.start <= run.start < other.end]
            if len(beside) > (most := max(filter(None, allowed), default=0)):
                at = f"at {run.start:.3f} {run.label} began as one of {len(beside)} jobs of {group}"
                wrong.append(f"{at}, of which {most} may run")
    return wrong


def groups_of(run: Interval, record: Mapping[str, Any]) -> tuple[str, ...]:
    """The set and the array of a run, with the uid of their user."""
    job = record.get("job") or {}
    of_set = (f"{run.uid}/%{job['set']}",) if job.get("set") else ()
    array = (f"{run.uid}/{job['array']['id']}",) if job.get("array") else ()
    return (*of_set, *array)


def untold(runs: Iterable[Interval], supply: Supply, record_of: Records = nothing) -> list[str]:
    """What jobs found at their start against what they asked for: cores, CPUs, GPUs."""
    wrong = []
    for run in runs:
        if run.granted is None or not run.is_command:
            continue
        meant = run.cores or of_node(run.node, supply.cores)
        if meant is not None and run.granted != meant:
            wrong.append(f"{run} was told that it has {run.granted} cores")
        if of_node(run.node, supply.pins) and not run.cpu_list:
            wrong.append(f"{run} was not told which CPUs it has")
        if run.cpu_list and (cpus_of(run.cpu_list) != run.cpus or len(run.cpus) != run.granted):
            wrong.append(f"{run} was told that it has the CPUs {run.cpu_list}, and has {sorted(run.cpus)}")
        record = record_of(run)
        if record and len(run.gpus) != (count := int(record["job"].get("gpus") or 0)):
            wrong.append(f"{run} asked for {count} GPUs and has {list(run.gpus)}")
        if of_node(run.node, supply.gpus) and set(run.devices) != set(GPU_VARIABLES):
            wrong.append(f"{run} on a node with GPUs is told of its own by {sorted(run.devices)} only")
        if len(set(run.devices.values())) > 1:
            wrong.append(f"{run} is told different GPUs: {dict(run.devices)}")
    return wrong


def cpus_of(text: str) -> frozenset[int]:
    """The CPUs of a list such as "0-3,8"."""
    ends = [part.partition("-") for part in text.split(",")]
    return frozenset(cpu for first, _, last in ends for cpu in range(int(first), int(last or first) + 1))


# ---------------------------------------------------------------- what cards say


class CardWatch:
    """Looks at the cards of everybody, as the server has them; `wrong` is what was found, `looks` how often.

    Cards are read one after the other. So what counts is on its card before and after, and its record is in
    running/ in between: then all of it holds at one instant. Of jobs whose supervisors are killed it knows
    nothing.
    """

    def __init__(self, homes: str, supply: Supply) -> None:
        self._homes, self._supply = homes, supply
        self.wrong: list[str] = []
        self.looks = 0
        #: The most promises that were seen at once.
        self.most = 0

    def look(self) -> None:
        """One look at all of them."""
        before = dict(self._promises())
        running = [key for key in before if self._runs(*key)]
        after = dict(self._promises())
        held = [after[key] for key in running if key in after]
        self.looks += 1
        self.most = max(self.most, len(held))
        self.wrong += [text for text in conflicts(held, self._supply) if text not in self.wrong]

    def _promises(self) -> Iterable[tuple[tuple[str, str, str], Promise]]:
        """What is settled and was born, by user, file of the record, and supervisor."""
        for user in sorted(os.listdir(self._homes)):
            spool = os.path.join(self._homes, user, ".roundqueue")
            for name in os.listdir(spool) if os.path.isdir(spool) else ():
                for job in self._jobs(os.path.join(spool, name)):
                    if job["settled"] and job.get("process"):
                        mark = ".".join(str(job["process"][part]) for part in ("boot", "pid", "start"))
                        yield (user, f"{job['id']}@{name}", mark), _on_card(f"{user}/{job['id']}", name, job)

    def _jobs(self, path: str) -> list[dict[str, Any]]:
        try:
            with open(path) as file:
                value = json.load(file)
        except (OSError, ValueError):
            return []
        return list(value["roundq"]["jobs"]) if isinstance(value, dict) and "roundq" in value else []

    def _runs(self, user: str, stem: str, mark: str) -> bool:
        directory = os.path.join(self._homes, user, ".roundqueue", "running")
        for name in (f"{stem}.job", f"{stem}!.job"):
            try:
                with open(os.path.join(directory, name)) as file:
                    process = json.load(file)["process"]
            except (OSError, ValueError):
                continue
            return mark == f"{process['boot']}.{process['pid']}.{process['start']}"
        return False


def _on_card(label: str, node: str, job: Mapping[str, Any]) -> Promise:
    return Promise(
        label,
        node,
        WHOLE if job["exclusive"] else job["cores"],
        job["memory"],
        frozenset(job.get("cpus") or ()),
        tuple(job.get("gpus") or ()),
        dict(job.get("licenses") or {}),
        bool(job.get("threads")),
    )
