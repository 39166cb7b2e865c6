"""Pure: why a node is drained, so that daemons start nothing more on it."""

from __future__ import annotations

from typing import NamedTuple

from roundq.words.errors import UsageError
from roundq.words.quantities import visible

#: Characters of a reason.
REASON_MAX = 200
#: Who drains a node for all users.
ADMIN = "admin"


class Drain(NamedTuple):
    """Who drained a node, why ("" if that is not said) and when (0 if that is not known)."""

    by: str
    reason: str = ""
    at_ns: int = 0

    @property
    def says(self) -> str:
        """The sentence for the card, lists and the log."""
        return f"drained by {self.by}: {self.reason}" if self.reason else f"drained by {self.by}"


def first_line(text: str) -> str:
    """A reason as somebody may have written it by hand: its first line, harmless, of at most `REASON_MAX`."""
    # Bounded before it is split: a line may be as long as the file.
    lines = text[: 4 * REASON_MAX].strip().splitlines()
    return visible(lines[0].strip())[:REASON_MAX] if lines else ""


def check_reason(text: str) -> str:
    """The text if it may be a reason. Raises `UsageError`."""
    hint = f"give one line of at most {REASON_MAX} characters"
    if not text.isprintable():
        hidden = next(character for character in text if not character.isprintable())
        raise UsageError(f"reason: it contains {visible(hidden)}", hint)
    if len(text) > REASON_MAX:
        raise UsageError(f"reason: it has {len(text)} characters", hint)
    return text.strip()
