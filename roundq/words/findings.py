"""What `rq doctor` finds, as data: how bad, what was measured, why it matters, and what to do.

Pure. A problem owns the exit code of the error that it would be elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from roundq.words.errors import RoundqError, SpoolError

OK, WARNING, PROBLEM = "ok", "warning", "problem"
LEVELS = (OK, WARNING, PROBLEM)

#: What a finding measured, for programs.
Facts = Mapping[str, "str | int | float | bool | None"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's. `found`, `why` and `remedy` are sentences without a full stop.

    A warning or a problem has a remedy; `exit_code` is 0 unless it is a problem.
    """

    check: str
    level: str
    found: str
    why: str = ""
    remedy: str = ""
    exit_code: int = 0
    facts: Facts = field(default_factory=dict)


def ok(check: str, found: str, why: str = "", facts: Facts | None = None) -> Finding:
    """All is as it should be."""
    return Finding(check, OK, found, why, facts=facts or {})


def warning(check: str, found: str, why: str, remedy: str, facts: Facts | None = None) -> Finding:
    """The queue works, but less well, or not for everybody."""
    return Finding(check, WARNING, found, why, remedy, facts=facts or {})


def problem(
    check: str,
    found: str,
    why: str,
    remedy: str,
    error: type[RoundqError] = SpoolError,
    facts: Facts | None = None,
) -> Finding:
    """The queue does not work, or is not safe; `error` is what a command would raise for it."""
    return Finding(check, PROBLEM, found, why, remedy, error.exit_code, facts or {})


def of_error(check: str, error: RoundqError, why: str) -> Finding:
    """The problem that an error tells of."""
    return problem(check, str(error), why, error.hint or "see the sentence above", type(error))


def exit_code(findings: Iterable[Finding]) -> int:
    """0 if there is no problem, else the code of the first one."""
    return next((one.exit_code for one in findings if one.level == PROBLEM), 0)
