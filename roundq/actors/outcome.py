"""How a job ended, in a sentence and as an exit code."""

from __future__ import annotations

from roundq.actors.listing import Row
from roundq.words.job import Attempt
from roundq.words.states import CANCELED, COMPLETED, ENDED_STATES, FAILED, REASONS, ZOMBIE

#: What is told of the end of a job that neither succeeded nor has a code of its own.
OTHER_FAILURE = 1
#: As shells say that a command was not found, or could not be executed.
NOT_EXECUTED = {"no command": 127, "not executable": 126, "no interpreter": 126}


def exit_code(row: Row) -> int:
    """The exit code that tells how a job ended: its own, 128 and its signal, 127 or 126, or 1."""
    record = row.record
    if record is None:
        return 0 if row.state == COMPLETED else OTHER_FAILURE
    if row.state == COMPLETED:
        # 0.2.9 files under completed what a signal killed, without a code.
        return OTHER_FAILURE if record.exit_code is None else record.exit_code & 0xFF
    if row.state in (FAILED, CANCELED):
        if record.exit_code:
            # Beyond 8 bits nothing is left of it; a failure must not become 0.
            return record.exit_code & 0xFF or OTHER_FAILURE
        if record.signal:
            return min(128 + record.signal, 255)
        if record.reason in NOT_EXECUTED:
            return NOT_EXECUTED[record.reason]
    return OTHER_FAILURE


def is_well(row: Row) -> bool:
    """Whether a job is known to have succeeded."""
    return row.state == COMPLETED and exit_code(row) == 0


def sentence(row: Row) -> str:
    """What became of an ended job, to follow its id: "failed: exit code 3"."""
    record = row.record
    if record is None:
        return f"{_WORDS[row.state]}, but its job file cannot be read: {row.problem or 'nobody tried'}"
    if row.state == COMPLETED:
        return "completed" if is_well(row) else "ended, and its exit code is not known"
    why = record.detail or REASONS.get(record.reason or "", "")
    if not why:
        why = f"killed by signal {record.signal}" if record.signal else f"exit code {record.exit_code}"
        if record.signal is None and record.exit_code is None:
            return _WORDS[row.state]
    return f"{_WORDS[row.state]}: {why}"


def of_attempt(attempt: Attempt) -> str:
    """What became of an attempt after which the job was run again: "exit code 3", "completed"."""
    if attempt.detail:
        return attempt.detail
    if attempt.reason == "exit" and attempt.exit_code:
        return f"exit code {attempt.exit_code}"
    if attempt.reason is not None:
        return REASONS.get(attempt.reason, attempt.reason)
    return "completed" if attempt.exit_code == 0 else "nobody wrote why"


_WORDS = {state: state for state in ENDED_STATES} | {CANCELED: "was canceled", ZOMBIE: "is lost"}
