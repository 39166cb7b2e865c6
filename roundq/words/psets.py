"""Pure: the algebra of parameter sets: `*` is each with each, `+` one after the other, `|` side by side.

    pset("a", [1, 2, 3]) * pset("b", range(5)) + pset("a", [9]) * pset("b", [9])

Python binds `*` closer than `+`, and that closer than `|`. Nothing is ever changed in place, and no operation
takes an element away. Random numbers are made of SHA-256, and so are the same on every machine for ever.
"""

from __future__ import annotations

import decimal
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

from roundq.words.errors import UsageError
from roundq.words.job import TASKS_MAX
from roundq.words.parameters import check_name, checked, plain

#: Digits of numbers that are computed, such as of a range: so 0.3 is 0.3.
_DIGITS = 12
#: Decimal numbers are rounded alike everywhere, which the logarithms of C are not.
_EXACT = decimal.Context(prec=40)
_SEED_HINT = "give a whole number, such as seed=1: the same seed gives the same numbers for ever"


class ParameterSet(Sequence[dict[str, Any]]):
    """Parameter sets in their order, each a dict of names and JSON values. Never changes, but for `name`.

    `name` is what a person calls all of it, if anything.
    """

    def __init__(self, sets: Iterable[Mapping[str, Any]], *, name: str = "") -> None:
        """Raises UsageError for what is no parameter set, or has no form in JSON."""
        self._sets = tuple(checked(params) for params in sets)
        self.name = name

    @classmethod
    def _of(cls, sets: Iterable[dict[str, Any]], name: str = "") -> ParameterSet:
        """Of what was checked already."""
        made = cls((), name=name)
        made._sets = tuple(sets)
        return made

    @property
    def names(self) -> list[str]:
        """The names of all parameters, in the order in which they are met."""
        return list(dict.fromkeys(name for params in self._sets for name in params))

    # ------------------------------------------------------------ a sequence

    def __len__(self) -> int:
        return len(self._sets)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (dict(params) for params in self._sets)

    @overload
    def __getitem__(self, place: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, place: slice) -> ParameterSet: ...

    def __getitem__(self, place: int | slice) -> dict[str, Any] | ParameterSet:
        if isinstance(place, slice):
            return self._of(self._sets[place], self.name)
        return dict(self._sets[place])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ParameterSet) and self._sets == other._sets

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        of = ", ".join(self.names)
        return f"<{len(self)} parameter set{'s' * (len(self) != 1)} of {of or 'nothing'}>"

    # ------------------------------------------------------------ the algebra

    def __mul__(self, other: ParameterSet) -> ParameterSet:
        """Each of these with each of those, of which the last changes fastest. Raises UsageError if both have
        a parameter of one name."""
        if not isinstance(other, ParameterSet):
            return NotImplemented
        self._check_apart(other, "*")
        _check_count(len(self) * len(other))
        return self._of(({**a, **b} for a in self._sets for b in other._sets), self.name or other.name)

    def __add__(self, other: ParameterSet) -> ParameterSet:
        """These, and then those."""
        if not isinstance(other, ParameterSet):
            return NotImplemented
        _check_count(len(self) + len(other))
        return self._of((*self._sets, *other._sets), self.name or other.name)

    def __or__(self, other: ParameterSet) -> ParameterSet:
        """The first of these with the first of those, and so on. Raises UsageError if they are not equally
        many, or if both have a parameter of one name."""
        if not isinstance(other, ParameterSet):
            return NotImplemented
        if len(self) != len(other):
            raise UsageError(
                f"{self!r} | {other!r}: {len(self)} cannot stand side by side with {len(other)}",
                "give both equally many values; * makes each with each",
            )
        self._check_apart(other, "|")
        pairs = zip(self._sets, other._sets, strict=True)
        return self._of(({**a, **b} for a, b in pairs), self.name or other.name)

    def _check_apart(self, other: ParameterSet, operation: str) -> None:
        both = [name for name in self.names if name in set(other.names)]
        if both:
            raise UsageError(
                f"{self!r} {operation} {other!r}: both have a parameter {both[0]}",
                f"name one of them otherwise; pset({both[0]!r}, [...]) takes all of its values at once",
            )

    def sample(self, count: int, seed: int) -> ParameterSet:
        """So many of these, drawn at random without drawing one twice, in their order. Raises UsageError."""
        seed = _seed(seed)
        if not 0 < count <= len(self):
            raise UsageError(
                f"{self!r}: a sample of {count} was asked for", f"ask for 1 to {len(self)} of them"
            )
        drawn = sorted(range(len(self)), key=lambda place: _draw(seed, "", place))[:count]
        return self._of((self._sets[place] for place in sorted(drawn)), self.name)


# ---------------------------------------------------------------- one parameter


def pset(name: str, values: Iterable[Any]) -> ParameterSet:
    """A parameter set for each value: of a list, a range, or whatever else gives one value after the other.

    Raises UsageError for what is no name or no value, and if there is none.
    """
    name = check_name(name)
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        raise UsageError(
            f"parameter {name}: its values are one {type(values).__name__}", "give a list of its values"
        )
    sets = []
    for value in values:
        sets.append({name: plain(value, f"parameter {name}")})
        # It may never end.
        _check_count(len(sets))
    if not sets:
        raise UsageError(f"parameter {name} has no value", "so there would be no task: give at least one")
    return ParameterSet._of(sets)


def spaced(name: str, first: float, last: float, count: int) -> ParameterSet:
    """So many floats at equal distances, `first` and `last` among them, rounded to twelve digits."""
    low, high = _bound(first, name), _bound(last, name)
    if _count(count, name) == 1:
        return pset(name, [float(low)])
    step = _EXACT.divide(_EXACT.subtract(high, low), decimal.Decimal(count - 1))
    return pset(name, [_rounded(_EXACT.fma(step, decimal.Decimal(place), low)) for place in range(count)])


def uniform(name: str, low: float, high: float, count: int, seed: int, *, log: bool = False) -> ParameterSet:
    """So many random floats between two bounds, rounded to twelve digits; with `log` their logarithms are
    spread evenly, and both bounds are above 0. They depend on name and seed."""
    seed = _seed(seed)
    lowest, highest = _bound(low, name), _bound(high, name)
    _count(count, name)
    if not lowest < highest:
        raise UsageError(f"parameter {name}: {low} is not below {high}", "give the lower bound first")
    if log:
        if lowest <= 0:
            raise UsageError(f"parameter {name}: {low} has no logarithm", "give bounds above 0")
        lowest, highest = _EXACT.ln(lowest), _EXACT.ln(highest)
    width = _EXACT.subtract(highest, lowest)
    values = []
    for place in range(count):
        share = _EXACT.divide(decimal.Decimal(_draw(seed, name, place)), decimal.Decimal(1 << 64))
        value = _EXACT.fma(width, share, lowest)
        values.append(_rounded(_EXACT.exp(value) if log else value))
    return pset(name, values)


def integers(name: str, low: int, high: int, count: int, seed: int) -> ParameterSet:
    """So many random whole numbers, of which `low` is the lowest and `high` the highest possible."""
    seed = _seed(seed)
    _count(count, name)
    if not (_is_whole(low) and _is_whole(high)) or high < low or high - low >= 1 << 63:
        raise UsageError(
            f"parameter {name}: there is no whole number from {low} to {high}",
            "give two whole numbers, the lower one first",
        )
    return pset(name, [low + (_draw(seed, name, place) * (high - low + 1) >> 64) for place in range(count)])


def ls(sets: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The parameter sets as a list of dicts."""
    return [dict(params) for params in sets]


def _draw(seed: int, name: str, place: int) -> int:
    """A random number of 64 bits."""
    return int.from_bytes(hashlib.sha256(f"{seed}\n{name}\n{place}".encode()).digest()[:8], "big")


def _rounded(value: decimal.Decimal) -> float:
    return float(decimal.Context(prec=_DIGITS).plus(value))


def _bound(value: float, name: str) -> decimal.Decimal:
    number = plain(value, f"a bound of parameter {name}")
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise UsageError(f"parameter {name}: a bound is {value!r}", "give a number")
    # As it is written: 0.1 is a tenth.
    return decimal.Decimal(repr(number))


def _count(count: int, name: str) -> int:
    if not _is_whole(count) or count < 1:
        raise UsageError(f"parameter {name}: it is to have {count!r} values", "give a whole number from 1")
    _check_count(count)
    return count


def _seed(seed: int) -> int:
    if not _is_whole(seed):
        raise UsageError(f"the seed is {seed!r}", _SEED_HINT)
    return seed


def _is_whole(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool)


def _check_count(count: int) -> None:
    if count > TASKS_MAX:
        raise UsageError(
            f"that is {count:,} parameter sets, more than {TASKS_MAX:,}"
            if count < 1 << 64
            else f"that is more than {TASKS_MAX:,} parameter sets",
            "make several sweeps of it, or take a sample",
        )
