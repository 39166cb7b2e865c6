"""Patterns of names: `*` is any run of characters, also none, and `?` is any one. Pure.

Matching takes no longer than the text times the pattern, whatever somebody wrote.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Pattern(NamedTuple):
    """A name with wildcards: pieces of literal text, and `None` for any one character, between each two
    groups of which any run of characters may stand."""

    groups: tuple[tuple[str | None, ...], ...]

    def matches(self, text: str) -> bool:
        """Whether all of the text is meant."""
        first, *rest = self.groups
        end = _here(first, text, 0)
        if end is None:
            return False
        if not rest:
            return end == len(text)
        *middle, last = rest
        for group in middle:
            # The leftmost place is as good as any: whatever follows has the most room then.
            end = next(
                (to for at in range(end, len(text) + 1) if (to := _here(group, text, at)) is not None), None
            )
            if end is None:
                return False
        at = len(text) - sum(1 if piece is None else len(piece) for piece in last)
        return at >= end and _here(last, text, at) is not None

    def __str__(self) -> str:
        groups = (
            "".join("?" if piece is None else _escaped(piece) for piece in group) for group in self.groups
        )
        return f'"{"*".join(groups)}"'


def _here(group: tuple[str | None, ...], text: str, at: int) -> int | None:
    """Where a group of pieces ends that begins at `at`; None if it does not."""
    for piece in group:
        if piece is None:
            at += 1
            if at > len(text):
                return None
        elif text.startswith(piece, at):
            at += len(piece)
        else:
            return None
    return at


def _escaped(text: str) -> str:
    return re.sub(r'(["\\*?])', r"\\\1", text)


def pattern(text: str) -> Pattern:
    """The pattern that a text with `*` and `?` is; a backslash makes the next of `*?"\\` an ordinary one."""
    groups: list[list[str | None]] = [[]]
    literal = ""

    def close() -> None:
        nonlocal literal
        if literal:
            groups[-1].append(literal)
        literal = ""

    chars = iter(text)
    for char in chars:
        if char == "\\":
            literal += next(chars, "\\")
        elif char == "?":
            close()
            groups[-1].append(None)
        elif char == "*":
            close()
            groups.append([])
        else:
            literal += char
    close()
    # Two stars in a row are one.
    kept = [group for place, group in enumerate(groups) if group or place in (0, len(groups) - 1)]
    return Pattern(tuple(tuple(group) for group in kept))


def literal(text: str) -> Pattern:
    """The pattern that means exactly this text."""
    return Pattern(((text,) if text else (),))
