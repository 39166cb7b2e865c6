"""What a word that says which jobs can be: ids, the last submission, a set, an expression, or a name.

Pure. Which of these a word is can be told by the word alone; only an id that exists exactly wins over all of
them. rq(1) has the rules in "JOBS".
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from roundq.words import match, ranges
from roundq.words.errors import UsageError
from roundq.words.match import Expression
from roundq.words.quantities import visible
from roundq.words.ranges import Ids

#: Nobody counts further back than this.
BACK_MAX = 1_000_000
#: What begins the name of a set.
SET = "%"
_BACK = re.compile(r"@(?:~([0-9]{1,7}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Last:
    """The job or the whole array that was submitted `back` submissions before the last."""

    back: int = 0


@dataclass(frozen=True, slots=True)
class Set:
    """All jobs of a set."""

    name: str


@dataclass(frozen=True, slots=True)
class Match:
    """The jobs that an expression means."""

    expression: Expression


@dataclass(frozen=True, slots=True)
class Name:
    """The jobs of exactly this name."""

    name: str


Selector = Ids | Last | Set | Match | Name


def parse(word: str) -> Selector:
    """What a word means. Raises UsageError for one that can only be meant as ids or as an expression, and is
    wrong."""
    if word == "last":
        return Last()
    if word.startswith("@") and (found := _BACK.fullmatch(word)):
        back = int(found[1] or 0)
        if back > BACK_MAX:
            raise UsageError(f"{word}: so far back nobody counts", "write @~2 for the second before the last")
        return Last(back)
    if word.startswith(SET) and len(word) > 1:
        return Set(word[1:])
    if match.is_meant(word):
        return Match(match.parse(word))
    try:
        return ranges.parse(word)
    except ranges.ListError as error:
        if not ranges.is_meant(word):
            return Name(word)
        where = " " * len(visible(word[: error.column]))
        raise UsageError(
            f"ids, column {error.column + 1}: {error.why}", error.hint, (visible(word), f"{where}^")
        ) from None
