"""The few kinds of field that our JSON files are made of, as schemas of pydantic's core.

Imported when the first file is validated, never before: the import costs 14 ms.
pydantic's core and not its models, because those cost another 60 ms and 12 MiB
in every daemon (tests/bench).
"""

from __future__ import annotations

from typing import Any

from pydantic_core import SchemaValidator
from pydantic_core import core_schema as cs

__all__ = [
    "SchemaValidator",
    "boolean",
    "digest",
    "either",
    "fallback",
    "fields",
    "identity",
    "items",
    "mapping",
    "moment",
    "natural",
    "number",
    "optional",
    "required",
    "text",
    "whole",
]

boolean = cs.bool_schema(strict=True)
number = cs.float_schema(allow_inf_nan=False)
text = cs.str_schema(max_length=1 << 17, strict=True)
digest = cs.str_schema(pattern="^[0-9a-f]{64}$", strict=True)
required = cs.typed_dict_field


def optional(schema: cs.CoreSchema) -> cs.TypedDictField:
    """A field that may be absent or null, which is the same."""
    return required(cs.with_default_schema(cs.nullable_schema(schema), default=None), required=False)


def fallback(schema: cs.CoreSchema, default: Any) -> cs.TypedDictField:
    """A field that may be absent; it is `default` then."""
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


def mapping(of: cs.CoreSchema) -> cs.CoreSchema:
    """An object whose keys are free."""
    return cs.dict_schema(text, of)


def either(*of: cs.CoreSchema) -> cs.CoreSchema:
    """One of several."""
    return cs.union_schema(list(of))


moment = fields(secs=required(natural(1 << 40)), nanos=fallback(natural(999_999_999), 0))
identity = fields(boot=required(text), pid=required(natural(1 << 30)), start=required(natural(1 << 62)))
