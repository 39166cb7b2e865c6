"""The checks, during a run and at its end. No code of roundq: names and JSON, and what commands wrote down.

one name        a job that was accepted has one name at every instant, and never none     (G1)
begun once      no attempt's command begins twice, and no two of one job live at a time    (G2)
true ends       a record says what its command's own account says; "lost" is told of the dead only  (G3)
canceled        nothing of a job lives when it arrives in canceled/, or begins after         (G4)
room            cores, CPUs, memory, GPUs and licenses of commands that live are nobody else's  (G5)
looks           who only looks changes nothing                                            (G8)
gives way       who is preempted may be run again, was asked in that attempt, once, and goes soon
told once       no command is sent the signal of its notice twice
all ends        when all is well again every job ends, and nothing is left in tmp/
"""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.simulation import resources
from tests.simulation.resources import Asked

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.simulation.disk import Change, Inode
    from tests.simulation.machine import Process
    from tests.simulation.world import World

OWNED = ("claimed", "running")
OPEN = ("held", "waiting", *OWNED)
ENDED = ("completed", "failed", "canceled", "zombie")
STATES = frozenset((*OPEN, *ENDED))
#: What a supervisor may need to see a request without a nudge, and to kill; and some.
HEED_S = 100.0
#: What a command is told by before it is stopped.
NOTICE = signal.SIGUSR2
#: What a supervisor may need to kill its job when its node goes on.
AWAKE_S = 3.0


@dataclass
class Submission:
    """One job that somebody described. `id` is what was printed; `was_refused` what was said instead."""

    label: str
    user: str
    cores: int
    is_restartable: bool
    asked: Asked = resources.NOTHING
    id: str | None = None
    was_refused: bool = False
    was_tried: bool = False


@dataclass
class Run:
    """One life of a command, by its own account."""

    label: str
    user: str
    id: str
    attempt: int
    node: str
    cores: int
    supervisor: Process
    mark: str
    began_s: float
    is_whole: bool
    cpus: frozenset[int]
    gpus: tuple[str, ...]
    asked: Asked
    ended_s: float | None = None
    status: int | None = None
    notices: int = 0

    def __str__(self) -> str:
        end = "lives" if self.ended_s is None else f"ended at {self.ended_s:.4f} with status {self.status}"
        which = f"{self.label} (job {self.id}, attempt {self.attempt})"
        return f"{which} on {self.node}, begun at {self.began_s:.4f}, {end}"


@dataclass
class Cancel:
    """One `rq cancel` that came to its end."""

    user: str
    id: str
    at_s: float
    said: str


@dataclass
class GivingWay:
    """An attempt that was asked to give way, and said to be so; it is told so long before."""

    user: str
    id: str
    attempt: int
    at_s: float
    before_s: float


@dataclass
class Known:
    """The names of one job."""

    names: set[tuple[str, str]] = field(default_factory=set)
    label: str = ""


class Judge:
    """Everything that is checked in one run. `wrong` says what was found."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.wrong: list[str] = []
        #: About which job, for the history.
        self.about: str = ""
        self.submissions: dict[str, Submission] = {}
        self.runs: list[Run] = []
        self.cancels: list[Cancel] = []
        #: Ids of which somebody asked to cancel, restart; marks and claims that somebody called lost.
        self.asked_to_cancel: set[tuple[str, str]] = set()
        self.asked_to_restart: dict[tuple[str, str], set[int]] = {}
        self.asked_to_give_way: dict[tuple[str, str], set[int]] = {}
        self.give_way: list[GivingWay] = []
        self.called_lost: set[str] = set()
        #: Marks of attempts whose record another node took, for a reason that was good then.
        self.seized: set[str] = set()
        #: Marks of attempts that lost their lease while their node stood still.
        self.frozen_out: set[str] = set()
        self._jobs: dict[tuple[str, str], Known] = {}
        self._processes: dict[tuple[str, int, int], Process] = {}
        self._open = 0

    def find(self, what: str, about: str = "") -> None:
        """Something is wrong."""
        self.wrong.append(f"at {self.world.schedule.now:.4f}: {what}")
        self.about = self.about or about

    # ------------------------------------------------------------ names

    def changed(self, changes: list[Change]) -> None:
        """Names on the disk changed, all in one step."""
        touched: dict[tuple[str, str], Known] = {}
        arrived: list[tuple[str, str, Inode]] = []
        for path, name, inode in changes:
            parts = path.split("/")
            if len(parts) != 5 or parts[4] not in STATES or not name.endswith(".job"):
                continue
            user, state = parts[2], parts[4]
            stem = name[:-4]
            id_ = stem.rpartition("@")[0] if state in OWNED else stem
            if state == "held":
                # On hold, or being changed by a process.
                id_ = stem.partition("@")[0]
            known = self._jobs.setdefault((user, id_), Known())
            touched[user, id_] = known
            if inode is None:
                known.names.discard((state, name))
            else:
                known.names.add((state, name))
                arrived.append((user, id_, inode))
                if state != "waiting" or known.label:
                    self._arrived(user, id_, state, name, inode)
        for user, id_, inode in arrived:
            self._is_same_job(user, id_, self._jobs[user, id_], inode)
        for (user, id_), known in touched.items():
            about = f"{id_}"
            if len(known.names) > 1:
                names = ", ".join(f"{state}/{name}" for state, name in sorted(known.names))
                self.find(f"{user}'s job {id_} has two names: {names}", about)
            submission = self.submissions.get(known.label)
            if not known.names and submission is not None and submission.id is not None:
                self.find(f"{user}'s job {id_} was accepted and has no name any more", about)

    def _is_same_job(self, user: str, id_: str, known: Known, inode: Inode) -> None:
        label = _label(inode.data)
        if label is None:
            return
        if known.label and known.names and label != known.label and len(known.names) == 1:
            self.find(f"{user}'s job {id_} was {known.label} and is {label}", id_)
        known.label = label

    def _is_seized(self, user: str, id_: str, record: dict[str, Any]) -> None:
        """Another node took a running record: there must be a reason at that instant."""
        process = record.get("process")
        if isinstance(process, dict):
            mark = _mark(process)
            if mark not in self.seized:
                self._is_lost(user, id_, process, record.get("node"))
                self.seized.add(mark)

    def _arrived(self, user: str, id_: str, state: str, name: str, inode: Inode) -> None:
        """A record has come to a state: what it says must be true in that instant."""
        if state in ("claimed", "held"):
            return
        record = _record(inode.data)
        if state == "running":
            if record is not None and not name.removesuffix(".job").rstrip("!").endswith(
                f"@{record.get('node')}"
            ):
                self._is_seized(user, id_, record)
            return
        runs = [run for run in self.runs if (run.user, run.id) == (user, id_)]
        if state == "canceled":
            if (user, id_) not in self.asked_to_cancel:
                self.find(f"{user}'s job {id_} is canceled, and nobody asked for it", id_)
            self._are_dead(user, id_, runs, "is canceled")
        if record is None:
            # A crash may cut what nobody synced; whether it is whole is asked at the end.
            return
        if state == "completed":
            self._has_ended(user, id_, runs, record, 0, None)
        elif state == "failed" and record.get("reason") in ("exit", "signal"):
            self._has_ended(user, id_, runs, record, record.get("exit_code"), record.get("signal"))
        elif state == "failed" and not record.get("reason"):
            self.find(f"{user}'s job {id_} failed and does not say why", id_)
        elif state == "zombie":
            self._is_lost(user, id_, record.get("process"), record.get("node"))
        elif state == "waiting":
            attempts = record.get("attempts") or []
            if attempts and attempts[-1].get("reason") in ("lost", "rebooted"):
                self._is_lost(user, id_, attempts[-1].get("process"), attempts[-1].get("node"))
            if attempts and attempts[-1].get("reason") == "restarted":
                number = attempts[-1].get("number")
                if number not in self.asked_to_restart.get((user, id_), set()):
                    self.find(
                        f"{user}'s job {id_} was restarted in attempt {number}, which nobody asked for", id_
                    )
            self._gave_way(user, id_, attempts)
            if not record.get("completed", {}).get("secs"):
                self._are_dead(user, id_, runs, "waits")

    def _gave_way(self, user: str, id_: str, attempts: list[dict[str, Any]]) -> None:
        numbers = [attempt.get("number") for attempt in attempts if attempt.get("reason") == "preempted"]
        asked = self.asked_to_give_way.get((user, id_), set())
        for number in numbers:
            if number not in asked:
                self.find(f"{user}'s job {id_} gave way in attempt {number}, which nobody asked for", id_)
        if len(set(numbers)) < len(numbers):
            self.find(f"{user}'s job {id_} gave way twice in one attempt: {numbers}", id_)
        known = self._jobs.get((user, id_), Known())
        submission = self.submissions.get(known.label)
        if numbers and submission is not None and not submission.is_restartable:
            self.find(f"{user}'s job {id_} gave way, and may not be run again", id_)

    def _are_dead(self, user: str, id_: str, runs: list[Run], what: str) -> None:
        for run in runs:
            for process in self._alive(run.mark):
                if not self._is_given_up(run.mark, process):
                    self.find(f"{user}'s job {id_} {what}, and {process!r} of it lives", id_)

    def _alive(self, mark: str) -> list[Process]:
        """The living processes of an attempt, its supervisor not among them."""
        return [
            process
            for node in self.world.nodes
            for process in node.processes.values()
            if process.is_alive and process.mark == mark
        ]

    def _is_given_up(self, mark: str, process: Process) -> bool:
        """Whether a job may go on elsewhere while this process of it is there: somebody called its node
        lost, or its lease ran out while its node stood still. What stands still does not run."""
        node = process.node
        stood_still = node.is_frozen or self.world.schedule.now - node.thawed_s < AWAKE_S
        if self.world.config.lease_s and stood_still:
            self.frozen_out.add(mark)
        return mark in self.called_lost or mark in self.frozen_out

    def _has_ended(
        self,
        user: str,
        id_: str,
        runs: list[Run],
        record: dict[str, Any],
        code: int | None,
        signal: int | None,
    ) -> None:
        attempt = record.get("attempt")
        ends = [run for run in runs if run.attempt == attempt and run.ended_s is not None]
        if len(ends) != 1:
            self.find(f"{user}'s job {id_} has an end of attempt {attempt}, of which none is known", id_)
            return
        status = ends[0].status or 0
        told = (status >> 8, None) if status & 0x7F == 0 else (None, status & 0x7F)
        if (record.get("exit_code"), record.get("signal")) != told or (code, signal) != told:
            said = record.get("exit_code"), record.get("signal")
            self.find(f"{user}'s job {id_} says {said}, and its command ended with {told}", id_)

    def _is_lost(self, user: str, id_: str, process: Any, node: Any) -> None:
        if not isinstance(process, dict):
            self.find(f"{user}'s job {id_} is lost, and names no supervisor", id_)
            return
        identity = process.get("boot"), process.get("pid"), process.get("start")
        found = self._processes.get(identity)  # type: ignore[arg-type]
        mark = _mark(process)
        if mark in self.called_lost or mark in self.seized:
            return
        if found is not None and found.is_alive and self.world.config.lease_s:
            # Cut off from its home it cannot say what it knows; but it has stopped its job.
            if all(self._is_given_up(mark, process) for process in self._alive(mark)):
                return
        if found is None:
            self.find(f"{user}'s job {id_} is lost on {node}, of a supervisor that never was", id_)
        elif found.is_alive:
            self.find(f"{user}'s job {id_} is lost, and its supervisor {found!r} lives", id_)
        elif found.status >> 8 and found.status & 0x7F == 0 and found.status >> 8 >= 10:
            self.find(f"{user}'s job {id_} is lost, and its supervisor {found!r} had recorded its end", id_)
        elif found.status == 0 and found.has_left:
            self.find(f"{user}'s job {id_} is lost, and its supervisor {found!r} left by itself", id_)

    def renewed(self, path: str) -> None:
        """The times of a file were set."""

    def may_change(self, process: Process, kind: str, text: str) -> None:
        """A process is about to change something."""
        if process.kind == "look":
            self.find(f"a look changed something: {kind} {text}")

    # ------------------------------------------------------------ commands of jobs

    def born(self, process: Process) -> None:
        """A supervisor was forked."""
        identity = process.identity
        self._processes[identity.boot, identity.pid, identity.start] = process

    def begun(self, supervisor: Process, label: str, env: dict[str, str], cpus: Iterable[int]) -> Run:
        """A command begins; what is told here it finds in its own environment."""
        world = self.world
        id_, user, mark = env["RQ_JOB_ID"], env["RQ_USER"], env["RQ_MARK"]
        submission = self.submissions[label]
        node = supervisor.node
        run = Run(
            label,
            user,
            id_,
            int(env["RQ_RESTART_COUNT"]) + 1,
            node.name,
            submission.cores or node.cores,
            supervisor,
            mark,
            world.schedule.now,
            not submission.cores,
            frozenset(cpus),
            tuple(env["RQ_GPUS"].split(",")) if env["RQ_GPUS"] else (),
            submission.asked,
        )
        before = [one for one in self.runs if (one.user, one.id) == (user, id_)]
        for one in before:
            is_given_up = self._is_given_up(one.mark, one.supervisor)
            if one.attempt == run.attempt or one.label != label:
                self.find(f"an attempt begins twice: {one}; {run}", id_)
            elif one.ended_s is None and not is_given_up and run.mark not in self.called_lost:
                self.find(f"two attempts of one job live: {one}; {run}", id_)
            elif not submission.is_restartable and not world.wishes.may_run_again(user, id_, run.attempt):
                self.find(f"a job that may not be run again is: {one}; {run}", id_)
        if submission.was_refused:
            self.find(f"{user}'s job {label} was refused, and begins", id_)
        if submission.id is not None and submission.id != id_:
            self.find(f"{label} was accepted as {submission.id} and begins as {id_}", id_)
        was_canceled = any(
            (one.user, one.id, one.said) == (user, id_, "gone")
            and not world.wishes.runs_again_since(user, id_, one.at_s)
            for one in self.cancels
        )
        if was_canceled and not self._is_given_up(run.mark, supervisor):
            self.find(f"{user}'s job {id_} was canceled before it began, and begins", id_)
        # What its user called lost he must not need.
        alive = [
            one
            for one in self.runs
            if one.ended_s is None and one.mark not in self.called_lost | self.frozen_out
        ]
        for wrong in resources.promised_twice(
            [*alive, run], world.resources.supply(world.users)
        ) + resources.untold(run):
            self.find(wrong, id_)
        if must_not := world.wishes.begun(run):
            self.find(must_not, id_)
        self.runs.append(run)
        return run

    def ended(self, run: Run, status: int) -> None:
        """A command is dead."""
        run.ended_s, run.status = self.world.schedule.now, status

    # ------------------------------------------------------------ what people were told

    def submitted(self, tried: list[Submission], ids: list[str] | None, named: set[str]) -> None:
        """A submission came to its end: with these ids, or refused but for the jobs that it named."""
        for place, one in enumerate(tried):
            if ids is not None:
                one.id = ids[place]
                known = self._jobs.get((one.user, one.id))
                if known is None or not known.names:
                    self.find(f"{one.user}'s job {one.id} was accepted and is nowhere", one.id)
        if ids is None:
            for one in tried:
                there = [
                    id_
                    for (user, id_), known in self._jobs.items()
                    if user == one.user and known.label == one.label and known.names
                ]
                one.was_refused = not (named & set(there))
                if there and one.was_refused:
                    self.find(
                        f"{one.user}'s job {one.label} was refused, and is in the queue as {there[0]}",
                        there[0],
                    )

    def is_to_give_way(self, user: str, id_: str, attempt: int) -> None:
        """Somebody may ask a job to give way."""
        self.asked_to_give_way.setdefault((user, id_), set()).add(attempt)

    def gives_way(self, user: str, id_: str, attempt: int, before_s: float) -> None:
        """It was asked, and that is durable."""
        self.give_way.append(GivingWay(user, id_, attempt, self.world.schedule.now, before_s))
        known = self._jobs.get((user, id_), Known())
        submission = self.submissions.get(known.label)
        if submission is not None and not submission.is_restartable:
            self.find(f"{user}'s job {id_} is to give way, and may not be run again", id_)

    def signaled(self, run: Run, number: int) -> None:
        """A command was sent a signal."""
        run.notices += number == NOTICE
        if run.notices > 1 and number == NOTICE:
            self.find(f"a command is told twice of its end: {run}", run.id)

    def canceled(self, user: str, id_: str, said: str) -> None:
        """A cancel came to its end."""
        self.cancels.append(Cancel(user, id_, self.world.schedule.now, said))
        if said == "gone":
            state = self.state_of(user, id_)
            if state != "canceled" and not self.world.wishes.runs_again_since(user, id_, 0.0):
                self.find(f"{user}'s job {id_} was said to be canceled before it began, and is {state}", id_)

    def listed(self, user: str, ids: set[str], since_s: float, still: dict[str, str]) -> None:
        """A look at the queue came to its end. What did not move meanwhile must have been seen."""

    # ------------------------------------------------------------ the end

    def state_of(self, user: str, id_: str) -> str:
        """Where a job is."""
        known = self._jobs.get((user, id_))
        return next((state for state, _ in known.names), "nowhere") if known else "nowhere"

    def open_jobs(self) -> list[str]:
        """What has not ended."""
        return [
            f"{user}/{id_} is {state}"
            for (user, id_), known in self._jobs.items()
            for state, _ in known.names
            if state in OPEN
        ]

    def job_ids(self, user: str) -> list[str]:
        """The ids that the user can see."""
        return [id_ for (whose, id_), known in self._jobs.items() if whose == user and known.names]

    def all_jobs(self) -> int:
        return len(self._jobs)

    def final(self, calm_s: float) -> None:
        """After all has ended."""
        for (user, id_), known in self._jobs.items():
            for state, name in known.names:
                inode = self.world.disk.walk(f"/home/{user}/.roundqueue/{state}/{name}")
                record = _record(inode.data)
                if record is None:
                    self.find(f"{user}'s job {id_} has no record that can be read, in {state}/", id_)
                elif (label := record["job"]["command"][1]) != known.label:
                    self.find(f"{user}'s job {id_} is {label} and was {known.label}", id_)
                elif state in ENDED:
                    self._arrived(user, id_, state, name, inode)
                    if wrong := self.world.wishes.final(user, id_, record["job"].get("priority", 0)):
                        self.find(wrong, id_)
        for submission in self.submissions.values():
            if submission.id is None:
                continue
            known = self._jobs.get((submission.user, submission.id), Known())
            if not known.names or known.label != submission.label:
                self.find(
                    f"{submission.user}'s job {submission.id} ({submission.label}) is not there",
                    submission.id,
                )
        for cancel in self.cancels:
            self._was_heeded(cancel, calm_s)
        for asked in self.give_way:
            late_s = max(asked.at_s, calm_s) + asked.before_s + HEED_S
            for run in self.runs:
                about = run.user, run.id, run.attempt
                if about == (asked.user, asked.id, asked.attempt) and (run.ended_s or late_s) > late_s:
                    self.find(f"it was to give way, and ran on: {run}", asked.id)

    def _was_heeded(self, cancel: Cancel, calm_s: float) -> None:
        state = self.state_of(cancel.user, cancel.id)
        if self.world.wishes.runs_again_since(cancel.user, cancel.id, cancel.at_s):
            return
        if cancel.said != "asked" or state in ("canceled", "zombie", "nowhere"):
            return
        runs = [run for run in self.runs if (run.user, run.id) == (cancel.user, cancel.id)]
        late_s = max(cancel.at_s, calm_s) + HEED_S
        if any((run.ended_s or late_s) > late_s for run in runs):
            self.find(
                f"{cancel.user}'s job {cancel.id} was to be canceled, and ran on: it is {state}", cancel.id
            )

    def left_behind(self) -> None:
        """After a sweep of every node: nothing in tmp/, no request, no open attempt."""
        for user in self.world.users:
            for part in ("tmp", "requests"):
                directory = self.world.parts(user).get(part)
                for name in directory.children() if directory is not None else ():
                    self.find(f"{user}'s {part}/{name} is left", name.partition(".")[0])
        for run in self.runs:
            if run.ended_s is None:
                self.find(f"the command still lives: {run}", run.id)


def _mark(process: dict[str, Any]) -> str:
    """What every process of an attempt bears: its supervisor's identity."""
    return f"{process.get('boot')}.{process.get('pid')}.{process.get('start')}"


def _label(data: bytes) -> str | None:
    """The label of the job in a record, found without reading all of it."""
    _, found, rest = data.partition(b'"work","')
    return rest.partition(b'"')[0].decode() if found else None


def _record(data: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(data)
    except ValueError:
        return None
    return value if isinstance(value, dict) and isinstance(value.get("job"), dict) else None
