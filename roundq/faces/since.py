"""A time in the past, as people write it: since when something is to be told. Pure.

What is not written with a zone is local time, as the reader's TZ has it.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

from roundq.words.errors import UsageError
from roundq.words.job import NS
from roundq.words.quantities import parse_duration, visible

_HINT = "write 2h or 7d (ago), 9:00, today, yesterday, 2026-12-24 or 2026-12-24T18:00, with a zone or without"
_CLOCK = re.compile(r"(?:(today|yesterday)[t ]\s*)?(\d{1,2}):(\d{2})(?::(\d{2}))?", re.ASCII)
_WEEKS = re.compile(r"(\d{1,4})w", re.ASCII)


def parse_since(text: str, now_ns: int) -> int:
    """The time that `text` means, in nanoseconds since the epoch, not after `now_ns`.

    A duration is that long ago, a time of the day the last such time, a day its midnight. Raises UsageError.
    """
    word = text.strip().lower()

    def refused(why: str) -> UsageError:
        return UsageError(f'since "{visible(text[:60])}": {why}', _HINT)

    if not word:
        raise refused("it is empty")
    now = datetime.fromtimestamp(now_ns // NS, timezone.utc).astimezone()
    try:
        when = _moment(word, now)
    except (ValueError, OverflowError, OSError):
        raise refused("there is no such time") from None
    if when is None:
        try:
            return max(0, now_ns - int(parse_duration(word) * NS))
        except UsageError:
            raise refused("it is no time") from None
    then_ns = int(when.timestamp()) * NS
    if then_ns > now_ns:
        raise refused("it is in the future")
    return max(0, then_ns)


def _moment(word: str, now: datetime) -> datetime | None:
    """The moment that a word names; None if it may be a duration."""
    if weeks := _WEEKS.fullmatch(word):
        return now - timedelta(weeks=int(weeks[1]))
    if word in ("today", "yesterday"):
        return _at(now, word == "yesterday", 0, 0, 0)
    if clock := _CLOCK.fullmatch(word):
        hour, minute, second = int(clock[2]), int(clock[3]), int(clock[4] or 0)
        when = _at(now, clock[1] == "yesterday", hour, minute, second)
        return _at(now, True, hour, minute, second) if clock[1] is None and when > now else when
    if re.match(r"\d{4}-", word):
        found = datetime.fromisoformat(word.upper())
        # A naive one is local time, of the zone that is right on that day.
        return found.astimezone()
    return None


def _at(now: datetime, is_yesterday: bool, hour: int, minute: int, second: int) -> datetime:
    day = now.date() - timedelta(days=1 if is_yesterday else 0)
    return datetime(day.year, day.month, day.day, hour, minute, second).astimezone()
