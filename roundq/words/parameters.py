"""Pure: the parameters of one task of a sweep, their canonical form, and the hash that identifies the task.

The form is JSON without spaces, keys sorted by code points, in ASCII: any other character is written as JSON
escapes it, in lower case. Whole numbers are digits, floats have what `repr` gives them, and so a point or an
exponent: 1, 1.0, true and "1" are four values. Texts are not normalized. It never changes, since directories
of results are named by it.
"""

from __future__ import annotations

import hashlib
import json
import operator
from collections.abc import Mapping
from typing import Any

from roundq.words.errors import UsageError
from roundq.words.quantities import visible

#: What tells a task where its output directory is, and so no parameter can be called.
OUTPUT_DIR = "output_dir"
_DEPTH_MAX = 50
_SHOWN = 60


def check_name(name: object) -> str:
    """The name of a parameter, if it can be one. Raises UsageError."""
    if not isinstance(name, str) or not name:
        raise UsageError(
            f"the name of a parameter is {_shown(name)}", "give a text, such as pset('lr', [1, 2])"
        )
    if name == OUTPUT_DIR:
        raise UsageError(
            f"a parameter is called {OUTPUT_DIR}, as what tells a task its output directory",
            "name it otherwise",
        )
    _check_text(name, "the name of a parameter")
    # A subclass of text might compare as it likes.
    return _text(name)


def plain(value: object, where: str) -> Any:
    """This value as JSON reads it again: tuples are lists, whole numbers of any type are int.

    `where` is how messages call it. Raises UsageError for what JSON cannot say, and names that part.
    """
    return _plain(value, where, 0)


def _plain(value: object, where: str, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        _check_text(value, where)
        return _text(value)
    if isinstance(value, float):
        return _float(value, where)
    if depth >= _DEPTH_MAX:
        raise UsageError(f"{where} is nested deeper than {_DEPTH_MAX} levels", "make it flatter")
    if isinstance(value, (list, tuple)):
        return [_plain(each, f"{where}[{place}]", depth + 1) for place, each in enumerate(value)]
    if isinstance(value, Mapping):
        return {_key(key, where): _plain(each, f"{where}[{key!r}]", depth + 1) for key, each in value.items()}
    try:
        return _whole(operator.index(value), where)  # type: ignore[arg-type]
    except TypeError:
        raise UsageError(
            f"{where} is {_shown(value)}, which JSON has no form for",
            "give None, a bool, a number, a text, or a list or dict of these; of an array: array.tolist()",
        ) from None


def _float(value: float, where: str) -> float:
    number = float(value)
    if number - number != 0:
        raise UsageError(
            f"{where} is {number}, which JSON has no form for",
            "use None or a text, and let transform_params make a number of it",
        )
    return number


def _whole(number: int, where: str) -> int:
    # Python refuses to write more digits than some thousands.
    if number.bit_length() > 4096:
        raise UsageError(f"{where} is a whole number of more than a thousand digits", "give it as a text")
    return number


def _key(key: object, where: str) -> str:
    if not isinstance(key, str):
        raise UsageError(f"{where} has the key {_shown(key)}, and keys of JSON are texts", "use str(key)")
    _check_text(key, f"a key of {where}")
    return _text(key)


def _text(text: str) -> str:
    # An enum of texts is printed by its name, and is what it holds.
    return str.__str__(text)


def _check_text(text: str, where: str) -> None:
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{where} is {_shown(text)}, which holds half a character of UTF-16") from None


def _shown(value: object) -> str:
    try:
        text = visible(repr(value))
    except Exception:
        # What a stranger's class says of itself may fail.
        text = f"a {type(value).__name__}"
    if len(text) > _SHOWN:
        text = f"{text[:_SHOWN]}…"
    return text if type(value).__name__ in ("str", "NoneType") else f"{text} ({type(value).__name__})"


def checked(params: object) -> dict[str, Any]:
    """One parameter set as a dict of JSON values, its names in their order. Raises UsageError."""
    if not isinstance(params, Mapping):
        raise UsageError(
            f"a parameter set is {_shown(params)}", "give a dict, such as {'lr': 0.1, 'seed': 1}"
        )
    return {check_name(name): plain(value, f"parameter {name}") for name, value in params.items()}


def canonical(params: Mapping[str, Any]) -> str:
    """The canonical form of one parameter set, whose values are as `plain` makes them."""
    return json.dumps(params, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(params: Mapping[str, Any]) -> str:
    """The hash of a parameter set: SHA-256 of its canonical form, 64 hexadecimal digits."""
    return hashlib.sha256(canonical(params).encode()).hexdigest()


def told(params: Mapping[str, Any], most: int = 200) -> str:
    """A parameter set for people: `lr=0.1 seed=3`."""
    said = []
    for name, value in params.items():
        text = value if isinstance(value, str) and value.isprintable() and " " not in value else None
        said.append(f"{visible(name)}={json.dumps(value) if text is None or not text else text}")
    line = " ".join(said)
    return line if len(line) <= most else f"{line[:most]}…"
