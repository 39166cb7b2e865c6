"""The JSON of our files, and the few kinds of field they are made of, as schemas of pydantic's core.

Imported when the first file is validated, never before: the import costs 14 ms.
pydantic's core and not its models, because those cost another 60 ms and 12 MiB
in every daemon (tests/bench).
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from pydantic_core import SchemaValidator
from pydantic_core import core_schema as cs

__all__ = [
    "SchemaValidator",
    "beats",
    "boolean",
    "counts",
    "digest",
    "either",
    "fallback",
    "fields",
    "identity",
    "items",
    "loads",
    "mapping",
    "moment",
    "natural",
    "number",
    "one_of",
    "optional",
    "required",
    "text",
    "whole",
    "word",
]

#: No honest file comes near this; what can be read must also be written again, from a deeper stack.
DEPTH_MAX = 100


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number that JSON has")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_number(text[:20])


_decoder = json.JSONDecoder(parse_constant=_no_number, parse_float=_finite)


def loads(data: bytes) -> Any:
    """The value that these bytes hold, as strict readers understand them, so that it can be written for them.

    UTF-8 without lone surrogates, finite numbers, not too deep. Raises ValueError or RecursionError.
    """
    value = _decoder.decode(data.decode("utf-8-sig"))
    if b"\\ud" in data or b"\\uD" in data:
        json.dumps(value, ensure_ascii=False).encode()
    if data.count(b"[") + data.count(b"{") > DEPTH_MAX and _is_deeper(value, DEPTH_MAX):
        raise RecursionError
    return value


def _is_deeper(value: Any, most: int) -> bool:
    level = [value]
    for _ in range(most):
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True


boolean = cs.bool_schema(strict=True)
number = cs.float_schema(allow_inf_nan=False, strict=True)
#: As long as a file may be: a word of 128 KiB, the kernel's most, is longer as text when it is not UTF-8.
text = cs.str_schema(max_length=1 << 20, strict=True)
#: A name of something, which is short.
word = cs.str_schema(max_length=256, strict=True)
digest = cs.str_schema(pattern="^[0-9a-f]{64}$", strict=True)
required = cs.typed_dict_field


def optional(schema: cs.CoreSchema) -> cs.TypedDictField:
    """A field that may be absent or null, which is the same."""
    return required(cs.with_default_schema(cs.nullable_schema(schema), default=None), required=False)


def fallback(schema: cs.CoreSchema, default: Any) -> cs.TypedDictField:
    """A field that may be absent; it is `default` then."""
    if isinstance(default, (dict, list)):
        # The core's own copy of such a default takes a third of the reading of a record.
        return required(cs.with_default_schema(schema, default_factory=default.copy), required=False)
    return required(cs.with_default_schema(schema, default=default), required=False)


def fields(**of: cs.TypedDictField) -> cs.CoreSchema:
    """An object with these fields; others are kept as they are."""
    return cs.typed_dict_schema(of, extra_behavior="allow")


def natural(most: int) -> cs.CoreSchema:
    """A whole number from 0 to `most`; no text, no fraction."""
    return cs.int_schema(ge=0, le=most, strict=True)


def whole(least: int, most: int) -> cs.CoreSchema:
    """A whole number from `least` to `most`; no text, no fraction."""
    return cs.int_schema(ge=least, le=most, strict=True)


def items(of: cs.CoreSchema, most: int, least: int = 0) -> cs.CoreSchema:
    """A list of at most `most` items."""
    return cs.list_schema(of, min_length=least, max_length=most)


def either(one: cs.CoreSchema, other: cs.CoreSchema) -> cs.CoreSchema:
    """One or the other."""
    return cs.union_schema([one, other])


def one_of(*words: str) -> cs.CoreSchema:
    """One of these words."""
    return cs.literal_schema(list(words))


def mapping(of: cs.CoreSchema) -> cs.CoreSchema:
    """An object whose keys are free."""
    return cs.dict_schema(text, of)


def counts(most: int) -> cs.CoreSchema:
    """An object of at most `most` names with whole numbers."""
    return cs.dict_schema(word, natural(1 << 30), max_length=most)


def beats(most: int) -> cs.CoreSchema:
    """An object of at most `most` names with the beats of their cards."""
    return cs.dict_schema(word, natural(1 << 60), max_length=most)


moment = fields(secs=required(natural(1 << 40)), nanos=fallback(natural(999_999_999), 0))
identity = fields(boot=required(text), pid=required(natural(1 << 30)), start=required(natural(1 << 62)))
