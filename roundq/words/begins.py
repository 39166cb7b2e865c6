"""Pure: when a job may begin at the earliest, as people write it and read it.

What is not written with a zone is local time, as the reader's TZ has it.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

from roundq.words.errors import UsageError
from roundq.words.job import NS
from roundq.words.quantities import parse_duration, visible
from roundq.words.sentences import within

_HINT = "write 22:00, now+2h, tomorrow, tomorrow 9:00, 2026-12-24 or 2026-12-24T18:00, with a zone or without"
_CLOCK = r"(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2}))?\s*(?P<half>[ap]m)?"
_DAY = r"(?P<day>today|tomorrow)(?:[t\s]\s*(?P<at>.+))?"
_LATER = r"now\s*\+\s*(?P<time>.+)"
_COUNT = r"(?P<count>\d{1,9}(?:\.\d{1,9})?)\s*(?P<unit>[a-z]*)"
_UNITS_S = {"s": 1, "sec": 1, "second": 1, "min": 60, "minute": 60, "m": 60, "h": 3600, "hour": 3600}
_UNITS_S |= {"d": 86_400, "day": 86_400, "w": 7 * 86_400, "week": 7 * 86_400}
_NAMED = {"midnight": "00:00", "noon": "12:00"}
_YEARS_MOST = 10


def parse_begin(text: str, now_ns: int) -> int:
    """The time that `text` means, in nanoseconds since the epoch; it may be past. `now_ns` is the present.

    A time of the day is the next such time; a day without a time is its midnight; now+N counts seconds, as
    for Slurm. Raises UsageError.
    """
    word = text.strip().lower()

    def refused(why: str) -> UsageError:
        return UsageError(f'time to begin "{visible(text[:60])}": {why}', _HINT)

    if not word:
        raise refused("it is empty")
    now = datetime.fromtimestamp(now_ns // NS, timezone.utc).astimezone()
    try:
        found = _meant(word, text.strip(), now)
        if found is None:
            raise refused("it is not a time")
        if found.timestamp() < 0:
            raise refused("it is before 1970")
        if found - now > timedelta(days=_YEARS_MOST * 366):
            raise refused("it is more than ten years ahead")
    except (OverflowError, ValueError) as error:
        raise refused(str(error) if isinstance(error, ValueError) else "there is no such time") from None
    return now_ns if word == "now" else int(found.timestamp()) * NS


def _meant(word: str, text: str, now: datetime) -> datetime | None:
    word = _NAMED.get(word, word)
    if word == "now":
        return now
    if later := re.fullmatch(_LATER, word):
        return now + timedelta(seconds=_seconds(later["time"]))
    if re.fullmatch(_CLOCK, word):
        today = _at(now, word)
        return today if today > now else _at(now + timedelta(days=1), word)
    if day := re.fullmatch(_DAY, word):
        clock = _NAMED.get(day["at"] or "midnight", day["at"] or "")
        if re.fullmatch(_CLOCK, clock) is None:
            return None
        return _at(now + timedelta(days=day["day"] == "tomorrow"), clock)
    if re.match(r"\d{4}-?\d{2}-?\d{2}", word) is None:
        return None
    try:
        found = datetime.fromisoformat(text.upper())
    except ValueError as error:
        # Which number is too large it says well, and what it cannot read in words of its own.
        if str(error).startswith("Invalid isoformat"):
            return None
        raise
    return found.astimezone() if found.tzinfo is None else found


def _seconds(text: str) -> float:
    # 7min, 2hours; what has several units is written as other durations are.
    one = re.fullmatch(_COUNT, text)
    unit = one["unit"] if one else ""
    factor = _UNITS_S.get(unit) or _UNITS_S.get(unit.removesuffix("s")) if unit else 1
    try:
        return float(one["count"]) * factor if one and factor else parse_duration(text)
    except UsageError as error:
        raise ValueError(str(error)) from None


def _at(day: datetime, clock: str) -> datetime:
    found = re.fullmatch(_CLOCK, clock)
    assert found is not None
    hour, half = int(found["hour"]), found["half"]
    if half is not None:
        if not 1 <= hour <= 12:
            raise ValueError("hours with am or pm go from 1 to 12")
        hour = hour % 12 + 12 * (half == "pm")
    at = day.replace(hour=hour, minute=int(found["minute"]), second=int(found["second"] or 0), tzinfo=None)
    # The zone may have another offset on that day.
    return at.astimezone()


def begin_text(begin_ns: int, now_ns: int) -> str:
    """A time to come as a sentence says it: "22:00 (in 3 h)", "Thu 18:00 (in 4 d)", "2026-12-24 18:00"."""
    begin = datetime.fromtimestamp(begin_ns // NS, timezone.utc).astimezone()
    now = datetime.fromtimestamp(now_ns // NS, timezone.utc).astimezone()
    clock = f"{begin:%H:%M:%S}" if begin.second else f"{begin:%H:%M}"
    days = (begin.date() - now.date()).days
    if days:
        clock = f"{begin:%a} {clock}" if 0 < days < 7 else f"{begin:%Y-%m-%d} {clock}"
    return f"{clock} (in {within((begin_ns - now_ns) / NS)})" if begin_ns > now_ns else clock
