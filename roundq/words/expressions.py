"""Match expressions as values: which jobs each means, and how it is written.

Pure and immutable; `words.match` reads them. The text of one, `str()`, is read as one that is equal to it.
"""

from __future__ import annotations

import operator
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from roundq.words import ranges
from roundq.words.fields import FIELDS, STATE_WORDS, Facts, Needs, Unread
from roundq.words.pattern import Pattern

_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt,
    ">=": operator.ge,
}  # fmt: skip

#: A value that needs no quotes.
BARE = re.compile(r"[^\s()&|!<>=\"'\\`]+")

#: Whether a job is meant; None if that cannot be told by what was read of it.
Verdict = bool | None


class Expression(ABC):
    """Which jobs are meant. Immutable; its text, `str()`, is an expression that means the same."""

    __slots__ = ()

    @abstractmethod
    def verdict(self, facts: Facts) -> Verdict:
        """Whether a job is meant; None if that cannot be told by these facts."""

    def matches(self, facts: Facts) -> bool:
        """Whether a job is meant for certain."""
        return self.verdict(facts) is True

    @property
    @abstractmethod
    def fields(self) -> frozenset[str]:
        """What of a job it looks at."""

    @property
    def needs(self) -> Needs:
        """What has to be known to judge every job; less may do for some."""
        return max((FIELDS[name].needs for name in self.fields), default=Needs.NAME)


@dataclass(frozen=True, slots=True)
class Every(Expression):
    """All jobs: `*`."""

    def verdict(self, facts: Facts) -> Verdict:
        del facts
        return True

    @property
    def fields(self) -> frozenset[str]:
        return frozenset()

    def __str__(self) -> str:
        return "*"


@dataclass(frozen=True, slots=True)
class Compare(Expression):
    """A field of the job is this, or greater, or less.

    A job that has no such number is not meant, whatever the operator.
    """

    field: str
    operator: str
    value: Pattern | ranges.Ids | str | float

    def verdict(self, facts: Facts) -> Verdict:
        fact = FIELDS[self.field].fact(facts)
        if isinstance(fact, Unread):
            return None
        if isinstance(self.value, int | float):
            return (
                not isinstance(fact, str) and fact is not None and _OPERATORS[self.operator](fact, self.value)
            )
        return self._is(str(fact)) is (self.operator == "=")

    def _is(self, fact: str) -> bool:
        if isinstance(self.value, ranges.Ids):
            return self.value.has(fact)
        if isinstance(self.value, Pattern):
            return self.value.matches(fact)
        return fact in STATE_WORDS[str(self.value)]

    @property
    def fields(self) -> frozenset[str]:
        return frozenset((self.field,))

    def __str__(self) -> str:
        kind = FIELDS[self.field].kind
        value = self.value
        if isinstance(value, ranges.Ids):
            text = value.text if BARE.fullmatch(value.text) else f'"{value.text}"'
        else:
            text = kind.text(value) if kind is not None and isinstance(value, int | float) else str(value)
        return f"{self.field}{self.operator}{text}"


@dataclass(frozen=True, slots=True)
class EndedWith(Expression):
    """It ended by itself with this exit code: `state=code=3`; negative is the signal that killed it."""

    code: int

    def verdict(self, facts: Facts) -> Verdict:
        if facts.state not in STATE_WORDS["finished"]:
            return False
        return Compare("code", "=", self.code).verdict(facts)

    @property
    def fields(self) -> frozenset[str]:
        return frozenset(("state", "code"))

    def __str__(self) -> str:
        return f"state=code={self.code}"


@dataclass(frozen=True, slots=True)
class Not(Expression):
    """Those that are not meant by another."""

    part: Expression

    def verdict(self, facts: Facts) -> Verdict:
        verdict = self.part.verdict(facts)
        return None if verdict is None else not verdict

    @property
    def fields(self) -> frozenset[str]:
        return self.part.fields

    def __str__(self) -> str:
        return f"!{_within(self.part, (All, Either))}"


@dataclass(frozen=True, slots=True)
class All(Expression):
    """Those that are meant by each of several."""

    parts: tuple[Expression, ...]

    def verdict(self, facts: Facts) -> Verdict:
        verdicts = [part.verdict(facts) for part in self.parts]
        return False if False in verdicts else None if None in verdicts else True

    @property
    def fields(self) -> frozenset[str]:
        return frozenset().union(*(part.fields for part in self.parts))

    def __str__(self) -> str:
        return " & ".join(_within(part, (All, Either)) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Either(Expression):
    """Those that are meant by any of several."""

    parts: tuple[Expression, ...]

    def verdict(self, facts: Facts) -> Verdict:
        verdicts = [part.verdict(facts) for part in self.parts]
        return True if True in verdicts else None if None in verdicts else False

    @property
    def fields(self) -> frozenset[str]:
        return frozenset().union(*(part.fields for part in self.parts))

    def __str__(self) -> str:
        return " | ".join(_within(part, (Either,)) for part in self.parts)


def _within(part: Expression, in_parentheses: tuple[type[Expression], ...]) -> str:
    return f"({part})" if isinstance(part, in_parentheses) else str(part)
