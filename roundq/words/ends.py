"""Pure: how a job ended, as programs are told."""

from __future__ import annotations

from dataclasses import dataclass

from roundq.words.states import State


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended.

    `state` is completed, failed, canceled or zombie. `exit_code` and `signal` are those of its command, None
    where there is none, or where nobody knows. `reason` is one of those that rq(1) lists under DIAGNOSTICS,
    `sentence` says it for people: "failed: exit code 3". `node` is where it ran last, if anywhere; `seconds`
    for how long, if that is known.
    """

    state: State
    exit_code: int | None = None
    signal: int | None = None
    reason: str | None = None
    sentence: str = ""
    node: str | None = None
    seconds: float | None = None

    @property
    def is_well(self) -> bool:
        """Whether it is known to have ended with exit code 0."""
        return self.state is State.COMPLETED and self.exit_code == 0
