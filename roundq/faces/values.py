"""Values as programs read them: times, durations and texts of JSON."""

from __future__ import annotations

import datetime

from roundq.words.job import NS


def moment(ns: int) -> str | None:
    """A time in UTC as ISO 8601 writes it, with milliseconds; None for the 0 of "never"."""
    if not ns:
        return None
    try:
        of_day = datetime.datetime.fromtimestamp(ns // NS, datetime.timezone.utc)
    except (OverflowError, ValueError, OSError):
        # A stranger may have written any number.
        return None
    return f"{of_day:%Y-%m-%dT%H:%M:%S}.{ns % NS // 1_000_000:03}Z" if of_day.year >= 1000 else None


def text_of(value: str | None) -> str | None:
    """The text as valid Unicode: JSON with lone surrogates is refused by many readers."""
    if value is None or value.isascii():
        return value
    return value.encode("utf-8", "backslashreplace").decode()


def seconds(duration: float | None) -> float | None:
    """A duration to the millisecond."""
    return None if duration is None else round(duration, 3)
