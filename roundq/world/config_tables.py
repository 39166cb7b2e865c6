"""What the tables of the configuration may hold: limits, shares, licenses, and what a node has.

Called by `config`, which knows the files. A value that is not allowed raises `Within`, which says where in
the table it stands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from roundq.words.job import GPUS_MAX, WORDS_MAX
from roundq.words.limits import LICENSES_MAX, LIMIT_MAX, WEIGHT_MAX, WEIGHT_MIN, Limit, Limits, Shares

T = TypeVar("T")

#: Entries of one table, and characters of a name in it.
ENTRIES_MAX, NAME_MAX = 10_000, 255
#: The keys of a table of limits, and how "no limit" is written.
LIMIT_KEYS, NO_LIMIT = ("cores", "jobs", "waiting"), "none"
_LICENSE_CHARS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.+-")

ALLOWED_LIMIT = f'a whole number from 0 to {LIMIT_MAX}, or "{NO_LIMIT}"'
ALLOWED_WEIGHT = f"a number from {WEIGHT_MIN:g} to {WEIGHT_MAX:g}"
ALLOWED_COUNT = f"a whole number from 0 to {LICENSES_MAX}"
ALLOWED_FEATURES = 'a list of words of letters, digits and any of _ . + - , such as ["ssd", "rack2"]'
ALLOWED_GPUS = 'a list of ids, such as ["0", "1"], or how many, from 0 to 1024'
ALLOWED_LICENSE = "a name of letters, digits and any of _ . + - , such as matlab"


class Within(ValueError):
    """What is wrong within a table: where in it that stands, the value, and what is allowed.

    `known` are the keys there are, if it is the key that is wrong.
    """

    def __init__(
        self, keys: tuple[str, ...], value: object, allowed: str, known: tuple[str, ...] = ()
    ) -> None:
        super().__init__()
        self.keys, self.value, self.allowed, self.known = keys, value, allowed, known


def _table(found: object, keys: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(found, dict) or len(found) > ENTRIES_MAX:
        raise Within(keys, found, f"a table of at most {ENTRIES_MAX} entries")
    for name in found:
        if not name or len(name) > NAME_MAX or not name.isprintable():
            raise Within((*keys, name), found[name], "called by a name of letters, digits and punctuation")
    return found


def _known(found: object, keys: tuple[str, ...], known: tuple[str, ...]) -> dict[str, Any]:
    table = _table(found, keys)
    for name in table:
        if name not in known:
            raise Within((*keys, name), table[name], "", known)
    return table


def _each(found: object, keys: tuple[str, ...], read: Callable[[object, tuple[str, ...]], T]) -> dict[str, T]:
    return {name: read(value, (*keys, name)) for name, value in sorted(_table(found, keys).items())}


def limits(found: object) -> Limits:
    """`[limits]` and `[limits.users.NAME]`."""
    table = _known(found, (), (*LIMIT_KEYS, "users"))
    everybody = {key: _limit(value, (key,)) for key, value in table.items() if key != "users"}
    return Limits(Limit(**everybody), _each(table.get("users", {}), ("users",), _user_limit))


def _user_limit(found: object, keys: tuple[str, ...]) -> dict[str, int | None]:
    return {key: _limit(value, (*keys, key)) for key, value in _known(found, keys, LIMIT_KEYS).items()}


def _limit(found: object, keys: tuple[str, ...]) -> int | None:
    if found == NO_LIMIT:
        return None
    # `type` and not isinstance: true is a number to Python.
    if type(found) is int and 0 <= found <= LIMIT_MAX:
        return found
    raise Within(keys, found, ALLOWED_LIMIT)


def shares(found: object) -> Shares:
    """`[shares.users]` and `[shares.groups]`."""
    table = _known(found, (), ("users", "groups"))
    return Shares(
        _each(table.get("users", {}), ("users",), _weight),
        _each(table.get("groups", {}), ("groups",), _weight),
    )


def _weight(found: object, keys: tuple[str, ...]) -> float:
    # true is a number to Python; nan is within no bounds.
    if isinstance(found, (int, float)) and not isinstance(found, bool) and WEIGHT_MIN <= found <= WEIGHT_MAX:
        return float(found)
    raise Within(keys, found, ALLOWED_WEIGHT)


def licenses(found: object) -> dict[str, int]:
    """`licenses = {NAME = NUMBER, ...}`."""
    return _each(found, (), _count)


def _count(found: object, keys: tuple[str, ...]) -> int:
    if not _LICENSE_CHARS.issuperset(keys[-1]):
        raise Within(keys, found, f"called by {ALLOWED_LICENSE}")
    if type(found) is int and 0 <= found <= LICENSES_MAX:
        return found
    raise Within(keys, found, ALLOWED_COUNT)


# ---------------------------------------------------------------- of one node


def features(found: object) -> tuple[str, ...]:
    """`features = [WORD, ...]`, sorted."""
    return tuple(sorted(set(_words(found))))


def gpus(found: object) -> tuple[str, ...]:
    """`gpus = [ID, ...]`, or how many: their ids."""
    # `type` and not isinstance: true is a number to Python.
    if type(found) is int and 0 <= found <= GPUS_MAX:
        return tuple(map(str, range(found)))
    if isinstance(found, list):
        found = [str(one) if type(one) is int else one for one in found]
    ids = tuple(_words(found))
    if len(set(ids)) < len(ids) or len(ids) > GPUS_MAX:
        raise ValueError
    return ids


def _words(found: object) -> list[str]:
    if not isinstance(found, list) or len(found) > WORDS_MAX:
        raise ValueError
    for word in found:
        # As what `--need` takes begins.
        if not isinstance(word, str) or not word[:1].isalnum() or not _LICENSE_CHARS.issuperset(word):
            raise ValueError
        if len(word) > NAME_MAX:
            raise ValueError
    return found
