"""The states of a job and the transitions between them, as data.

The same table stands in roundqueue(7); a test compares the two. A state is the
name of a directory of the spool: no field of a record repeats it.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

HELD, WAITING, CLAIMED, RUNNING = "held", "waiting", "claimed", "running"
COMPLETED, FAILED, CANCELED, ZOMBIE = "completed", "failed", "canceled", "zombie"

PENDING_STATES = (HELD, WAITING)
#: File names in these directories are ID@NODE.job: the name says who owns the record.
OWNED_STATES = (CLAIMED, RUNNING)
ENDED_STATES = (COMPLETED, FAILED, CANCELED, ZOMBIE)
#: In the order in which a job passes through them, which is also the order in which
#: readers must list them: a job that moves on while it is looked for is still met.
STATES = PENDING_STATES + OWNED_STATES + ENDED_STATES


class State(str, enum.Enum):
    """Where a job is, for programs: each is equal to the name of its directory."""

    HELD = HELD
    WAITING = WAITING
    CLAIMED = CLAIMED
    RUNNING = RUNNING
    COMPLETED = COMPLETED
    FAILED = FAILED
    CANCELED = CANCELED
    ZOMBIE = ZOMBIE

    __str__ = str.__str__

    @property
    def has_begun(self) -> bool:
        """Whether a node has taken it, or it has ended."""
        return self.value not in PENDING_STATES

    @property
    def has_ended(self) -> bool:
        """Whether it will not run on: completed, failed, canceled or zombie (nobody knows how it ended)."""
        return self.value in ENDED_STATES


class Transition(NamedTuple):
    """One way a record may move.

    `source` None means that the record is new. `actor` is who may make the move,
    `before` what must be durable on disk before it is made. From held to held the
    name changes, which says who keeps the record there.
    """

    name: str
    source: str | None
    target: str
    actor: str
    before: str


#: Who may hold, release and change: each move is one rename, so it does not matter who.
ANYBODY = "any process of the user"
MENDER = "NODE's daemon or a command of the user"

TRANSITIONS = (
    Transition("submit", None, WAITING, "submitter", "the whole record, written and synced in tmp/"),
    Transition(
        "submit",
        None,
        HELD,
        "submitter",
        "the whole record, written and synced in tmp/, of a job that may not start yet",
    ),
    Transition("hold", WAITING, HELD, ANYBODY, "nothing: the job was never begun"),
    Transition("hold", HELD, HELD, ANYBODY, "nothing: the job was never begun"),
    Transition("release", HELD, WAITING, ANYBODY, "nothing: all that it waited for has come"),
    Transition("release", HELD, HELD, ANYBODY, "nothing: it is on hold no more, and waits for the rest"),
    *(
        Transition("seal", source, HELD, ANYBODY, "nothing: the name says which process changes it")
        for source in (HELD, WAITING, *ENDED_STATES)
    ),
    *(
        Transition("put", HELD, target, "the process that sealed it", "the new content")
        for target in (HELD, WAITING, *ENDED_STATES)
    ),
    *(
        Transition(
            "mend",
            HELD,
            target,
            MENDER,
            "the proved death of the process that sealed it, or the user's word that NODE is lost",
        )
        for target in (HELD, WAITING, *ENDED_STATES)
    ),
    Transition("claim", WAITING, CLAIMED, "NODE's daemon", "nothing: the name says who has it"),
    Transition("withdraw", CLAIMED, WAITING, "NODE's daemon", "nothing: the job was never begun"),
    Transition("begin", CLAIMED, RUNNING, "the supervisor", "its process identity in the claimed record"),
    Transition("finish", RUNNING, COMPLETED, "the supervisor", "exit code 0, times and usage"),
    Transition("finish", RUNNING, FAILED, "the supervisor", "reason, exit code or signal, times and usage"),
    Transition("finish", RUNNING, CANCELED, "the supervisor", "the verified death of every process"),
    Transition(
        "requeue", RUNNING, WAITING, "the supervisor", "the ended attempt, and the next attempt number"
    ),
    Transition(
        "requeue",
        RUNNING,
        HELD,
        "the supervisor",
        "the ended attempt, the next attempt number, and when that may begin",
    ),
    Transition("cancel", HELD, CANCELED, "any command of the user", "nothing: the job was never begun"),
    Transition("cancel", WAITING, CANCELED, "any command of the user", "nothing: the job was never begun"),
    Transition("cancel", CLAIMED, CANCELED, "NODE's daemon", "a request; the job was never begun"),
    Transition(
        "lose",
        RUNNING,
        ZOMBIE,
        "NODE's daemon",
        "the supervisor's proved death, and that of the job's processes",
    ),
    Transition(
        "recover", RUNNING, WAITING, "NODE's daemon", "as lose, of a restartable job; the next attempt number"
    ),
    Transition(
        "recover",
        RUNNING,
        HELD,
        "NODE's daemon",
        "as lose, of a job that is retried when it is lost; the next attempt number, and when that may begin",
    ),
    Transition(
        "free",
        CLAIMED,
        WAITING,
        "another daemon of the user",
        "a request that says that NODE is lost; the job was never begun",
    ),
    Transition(
        "seize",
        RUNNING,
        RUNNING,
        "another daemon of the user",
        "a request that says that NODE is lost, or a lease that ran out",
    ),
)

#: Why a job is where it is once it ended: `reason` of a record, with what a person reads.
REASONS = {
    "exit": "its command ended with a non-zero exit code",
    "signal": "its command was killed by a signal",
    "time limit": "it ran longer than its time limit",
    "output limit": "it wrote more output than its limit",
    "memory limit": "it used more memory than its limit",
    "out of memory": "the kernel killed it since there was no memory left",
    "no command": "its command was not found",
    "not executable": "its command could not be executed",
    "no interpreter": "the interpreter of its command was not found",
    "no directory": "its directory could not be entered",
    "no output": "its output file could not be opened",
    "no environment": "its environment could not be read",
    "cannot start": "the node could not start it",
    "canceled": "its user canceled it",
    "dependency": "what it was to run after did not end so that it may",
    "max fails": "more tasks of its array failed than its user allows",
    "shutdown": "it was killed when its node was shut down",
    "restarted": "its user restarted it",
    "preempted": "it gave way to another user",
    "lease": "its node could not renew its lease, and stopped it",
    "lost": "its supervisor died and nobody knows how it ended",
    "rebooted": "its node crashed or was rebooted and nobody knows how it ended",
}
#: The verbs of requests/ID.VERB. "paused" is what the supervisor answers to "pause".
REQUESTS = ("cancel", "restart", "preempt", "lost", "pause", "paused", "signal")
#: Those that are asked of one attempt, and moot when it has ended, even if the job waits again.
OF_AN_ATTEMPT = ("restart", "preempt", "lost", "pause", "paused", "signal")
