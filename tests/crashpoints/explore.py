"""Plays an operation once for each fault that it can meet, lets the survivors work, and asks the judges."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from roundq.records import environments, ids
from roundq.records import spool as spools
from roundq.words.errors import RoundqError
from roundq.world import files, spawn
from tests.cluster import checkers
from tests.crashpoints import judges, mistakes, survivors
from tests.crashpoints.stage import Operation, Stage
from tests.crashpoints.steps import FORGET, GONE, INTERRUPT, POWER, STOP, Fault, Step, Steps, die, faults
from tests.crashpoints.survivors import NODE

#: Of our modules, those that touch files of a spool.
MODULES = (files, ids, spools, environments)
#: Seconds that whatever a case started may take to end.
PATIENCE_S = 150.0


@dataclass
class Tally:
    """What was done with one operation: its number of file operations, faults by kind, and what is wrong."""

    name: str
    steps: int = 0
    tried: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, other: Tally) -> None:
        """Counts another worker's share."""
        self.tried.update(other.tried)
        self.wrong += other.wrong


# ---------------------------------------------------------------- processes


class _Died(Exception):
    """A child was killed, as it was meant to be."""


def _in_child(act: Callable[[], Any], home: str) -> Any:
    """What `act` returns, in a process of its own. Raises what it raised, as text, or _Died."""
    gone = os.fork()
    said = f"{home}/../said"
    if gone == 0:
        code = 1
        with contextlib.suppress(BaseException):
            errors = os.open(f"{home}/../stderr", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(errors, 2)
            answer: dict[str, Any]
            try:
                answer = {"returned": act()}
            except (RoundqError, OSError, KeyboardInterrupt) as error:
                answer = {"told": f"{type(error).__name__}: {error}", "ids": _named(error)}
            except BaseException:
                answer = {"failed": traceback.format_exc()}
            with open(said, "w") as file:
                json.dump(answer, file)
            code = 0
        os._exit(code)
    _, status = os.waitpid(gone, 0)
    if status:
        raise _Died
    with open(said) as file:
        answer = json.load(file)
    os.unlink(said)
    if "failed" in answer:
        raise AssertionError(answer["failed"])
    return answer


def _named(error: BaseException) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The jobs that a submission that failed calls submitted, and those of which it cannot tell."""
    return getattr(error, "ids", ()), getattr(error, "doubtful", ())


def _reap_all() -> bool:
    """Waits for whatever the case started and did not wait for; kills it if it stays; whether it ended."""
    until_s = time.monotonic() + PATIENCE_S
    pause_s = 0.001
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return True
        if pid:
            continue
        if time.monotonic() > until_s:
            _kill_all()
            return False
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, 0.02)


def _kill_all() -> None:
    while True:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            for pid in file.read().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


# ---------------------------------------------------------------- one case


class Case:
    """One home, one operation, one fault."""

    def __init__(self, scratch: str, operation: Operation, fault: Fault | None, mistake: str | None) -> None:
        self.directory = f"{scratch}/case"
        shutil.rmtree(self.directory, ignore_errors=True)
        self.homes = f"{self.directory}/homes"
        os.makedirs(f"{self.homes}/ann")
        os.mkdir(f"{self.directory}/locks", 0o700)
        os.mkdir(f"{self.directory}/attic")
        self.operation, self.fault, self.mistake = operation, fault, mistake
        self.stage = Stage(self.homes, survivors.spool_of(self.homes))
        if not operation.is_new:
            spools.prepare(self.stage.spool)
        operation.set_up(self.stage)

    def act(self) -> tuple[list[Step], bool, dict[str, Any] | None]:
        """Plays the operation: its steps, whether the fault came, and what its caller saw if he lives."""
        log = f"{self.directory}/steps"

        def spoiled() -> Any:
            lines = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            system = Steps(
                self.fault,
                lambda line: _write(lines, line),
                self._taken_by_another,
                f"{self.directory}/attic",
            )
            mistakes.make(self.mistake)
            for module in MODULES:
                module.os = system  # type: ignore[attr-defined]
            result = self.operation.act(self.stage)
            if self.fault is not None and self.fault.at == system.number:
                _write(lines, ["fault"])
                if self.fault.kind == FORGET:
                    with open(f"{self.directory}/told", "w") as file:
                        json.dump({"returned": result}, file)
                if self.fault.kind == STOP:
                    die()
                if self.fault.kind in (POWER, FORGET):
                    system.lose_power(names=self.fault.kind == FORGET)
            return result

        answer = None
        try:
            answer = _in_child(spoiled, f"{self.homes}/ann")
        except _Died:
            with contextlib.suppress(FileNotFoundError), open(f"{self.directory}/told") as file:
                answer = json.load(file)
        with open(log) as file:
            lines = [json.loads(line) for line in file]
        steps = [Step(line[1], tuple(line[2:])) for line in lines if line[0] == "step"]
        return steps, ["fault"] in lines, answer

    def _taken_by_another(self, path: str) -> None:
        """Another node claims what it sees in waiting/, and writes its supervisor into it."""
        job_id = os.path.basename(path).removesuffix(".job")
        claimed = f"{self.stage.spool.path}/claimed/{job_id}@other.job"
        os.rename(path, claimed)
        with open(claimed, "rb") as old, open(f"{self.directory}/new", "wb") as new:
            new.write(old.read())
        os.rename(f"{self.directory}/new", claimed)

    def judge(
        self, answer: dict[str, Any] | None, seen: set[str] | None, *, cancel: str | None = None
    ) -> list[str]:
        """Everything that is wrong after it. What was `seen` already need not be lived through again."""
        stage = self.stage
        wrong: list[str] = []
        if answer is not None and "returned" in answer:
            wrong += self.operation.told(stage, answer["returned"])
        elif answer is not None:
            wrong += self._refused(answer["told"], answer["ids"])
        wrong += self._standing()
        promised = judges.promised(self.homes)
        accepted = {found.id for found in checkers.find(self.homes, "ann")}
        is_quiet = not self.operation.is_alive
        if self.operation.is_brief and self.fault is not None and self.fault.kind != STOP:
            # After a crash it is adopted while it runs; after all else it has ended.
            is_quiet = _reap_all()
        if seen is not None and is_quiet:
            ends = sorted((job_id, sorted(states)) for job_id, states in stage.ends.items())
            state = f"{cancel} {ends} {stage.is_other_lost}\n{judges.fingerprint(self.homes)}"
            if state in seen and not wrong:
                return []
            seen.add(state)
        try:
            wrong += self._survive(accepted, promised, cancel)
        except AssertionError as error:
            wrong.append(str(error))
        except _Died:
            wrong.append("a survivor died")
        return wrong

    def _standing(self) -> list[str]:
        accepted = set(self.stage.ends)
        # A job that moves on between the listings of two directories is met in both, or in none.
        for _ in range(100 if self.operation.is_alive else 0):
            if not judges.standing(self.homes, accepted):
                return []
            time.sleep(0.01)
        return judges.standing(self.homes, accepted)

    def _refused(self, told: str, named: list[list[str]]) -> list[str]:
        """A submission that failed left nothing but what it names."""
        if not self.operation.name.startswith(("submit", "found ids")):
            return []
        there = {found.id for found in checkers.find(self.homes, "ann")} - set(self.stage.ends)
        ids, doubtful = named
        if doubtful and self.fault is not None and self.fault.kind not in (GONE, INTERRUPT):
            return [f"{doubtful} are in doubt, although the home answers"]
        wrong = (there - set(doubtful)) ^ set(ids)
        return [f"job {id_} is there, or is not, although it was said: {told}" for id_ in sorted(wrong)]

    def _survive(self, accepted: set[str], promised: dict[str, set[str]], cancel: str | None) -> list[str]:
        stage, homes = self.stage, self.homes
        home = f"{homes}/ann"
        spools.prepare(stage.spool)
        late, told, reply = self._survivor(
            lambda: survivors.client(homes, stage.job(), accepted, cancel, is_served=self.operation.is_alive)
        )
        # So short a job may end by itself before the daemon that has it sees the request.
        stage.ends[late] = {"canceled", "completed"} if told == "asked" else {"canceled"}
        self.operation.release(stage)
        survivors.release(homes, late)
        if any(found.node == "other" for found in checkers.find(homes, "ann")) and not stage.is_other_lost:
            self._survivor(lambda: survivors.daemon(homes, "other", to_the_end=False))
        self._survivor(lambda: survivors.daemon(homes))
        wrong = [] if _reap_all() else ["something still runs"]
        there = {found.id for found in checkers.find(homes, "ann")}
        held = {found.id for found in checkers.find(homes, "ann") if found.state == "held"}
        self._survivor(lambda: survivors.waiting_client(homes, there, held))
        if late in accepted:
            wrong.append(f"number {late} was given twice")
        # A job that has lost its supervisor is lost, even if its end was asked for.
        ends = {
            **stage.ends,
            **{id_: stage.ends.get(id_, states) & states or states for id_, states in promised.items()},
        }
        if cancel is not None and reply in ("gone", "asked"):
            # Of a supervisor that lives: the job may end by itself before it sees the request.
            may_end = reply == "asked" and self.operation.is_alive
            ends[cancel] = {"canceled", "completed"} if may_end else {"canceled"}
        wrong += [f"job {id_} vanished" for id_ in sorted(accepted - there - set(judges.folded(homes)))]
        for found in checkers.find(homes, "ann"):
            if found.id in stage.again and (found.record or {}).get("attempt", 1) < 2:
                wrong.append(f"{found} was not restarted")
        runs = judges.ledger(home)
        return wrong + judges.ended(homes, ends, runs) + judges.swept(homes, NODE) + checkers.one_state(homes)

    def _survivor(self, act: Callable[[], Any]) -> Any:
        def mistaken() -> Any:
            mistakes.make(self.mistake)
            return act()

        answer = _in_child(mistaken, f"{self.homes}/ann")
        assert "returned" in answer, answer
        return answer["returned"]

    def story(self) -> str:
        """What a failed case should show."""
        lines = [f"  {os.path.relpath(path, self.homes)}" for path in _walk(f"{self.homes}/ann/.roundqueue")]
        for path in (f"{self.homes}/ann/.roundqueue/{NODE}.log", f"{self.directory}/stderr"):
            with contextlib.suppress(OSError), open(path, errors="replace") as file:
                lines += [f"  {line.rstrip()}" for line in file.readlines()[-12:]]
        return "\n".join(lines)


def _write(descriptor: int, line: list[Any]) -> None:
    os.write(descriptor, json.dumps(line).encode() + b"\n")


def _walk(directory: str) -> list[str]:
    return sorted(os.path.join(where, name) for where, _, names in os.walk(directory) for name in names)


# ---------------------------------------------------------------- all of them


def record(operation: Operation, scratch: str) -> list[Step]:
    """The file operations of an undisturbed operation."""
    try:
        return Case(scratch, operation, None, None).act()[0]
    finally:
        _kill_all()


def explore(operation: Operation, scratch: str, workers: int, mistake: str | None = None) -> Tally:
    """Every fault of one operation. The caller must have no other children; with a mistake, to the first."""
    began_s = time.monotonic()
    recorded = Case(scratch, operation, None, mistake)
    steps, _, answer = recorded.act()
    tally = Tally(operation.name, len(steps))
    # Undisturbed first: what is wrong then needs no fault.
    _note(tally, "undisturbed", recorded.judge(answer, None), recorded)
    _kill_all()
    cases: list[tuple[Fault, str | None]] = [
        (fault, None) for fault in faults(steps, operation.kinds, with_looks=not operation.is_alive)
    ]
    if operation.canceled:
        cases += [(fault, operation.canceled) for fault, _ in cases if fault.kind == STOP]
    for share in _shared(operation, cases, scratch, workers, mistake):
        tally.add(share)
    tally.seconds = time.monotonic() - began_s
    return tally


def _shared(
    operation: Operation,
    cases: list[tuple[Fault, str | None]],
    scratch: str,
    workers: int,
    mistake: str | None,
) -> Iterator[Tally]:
    """The tallies of as many processes as there are workers, each of which takes its share of the cases."""
    children = []
    for worker in range(workers):
        path = f"{scratch}/worker{worker}"
        os.makedirs(path, exist_ok=True)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                spawn.become_subreaper()
                tally = _play_all(operation, cases[worker::workers], path, mistake)
                with open(f"{path}/tally", "w") as file:
                    json.dump({"tried": tally.tried, "wrong": tally.wrong}, file)
                code = 0
            except BaseException:
                traceback.print_exc()
                _kill_all()
            os._exit(code)
        children.append((child, path))
    for child, path in children:
        _, status = os.waitpid(child, 0)
        if status:
            yield Tally(operation.name, wrong=[f"a worker failed: status {status}"])
            continue
        with open(f"{path}/tally") as file:
            found = json.load(file)
        yield Tally(operation.name, tried=Counter(found["tried"]), wrong=found["wrong"])


def _play_all(
    operation: Operation, cases: list[tuple[Fault, str | None]], scratch: str, mistake: str | None
) -> Tally:
    tally = Tally(operation.name)
    seen: set[str] = set()
    # Whoever is killed takes his workers along.
    parent = os.getppid()
    for fault, cancel in cases:
        if (mistake is not None and tally.wrong) or os.getppid() != parent:
            break
        case = Case(scratch, operation, fault, mistake)
        steps, came, answer = case.act()
        wrong = case.judge(answer, seen, cancel=cancel)
        if not came and not operation.is_alive:
            wrong.append("the fault did not come")
        _kill_all()
        what = f"{fault}: {steps[fault.at]}" if fault.at < len(steps) else f"{fault}: the end"
        _note(tally, "cancel" if cancel else fault.kind, [f"{what}: {line}" for line in wrong], case)
    return tally


def _note(tally: Tally, kind: str, wrong: list[str], case: Case) -> None:
    tally.tried[kind] += 1
    if wrong:
        tally.wrong.append("\n".join([*wrong, case.story()]))


def settle_down() -> None:
    """What makes forks of this process cheap."""
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(0.05)
