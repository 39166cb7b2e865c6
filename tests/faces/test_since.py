"""Promises about times in the past, as people write them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundq.faces.since import parse_since
from roundq.words.errors import UsageError
from roundq.words.job import NS


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Local time is that of Berlin, where clocks change on 2026-10-25."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Europe/Berlin")
        time.tzset()
        yield
    time.tzset()


def ns(iso: str) -> int:
    return int(datetime.fromisoformat(iso).timestamp()) * NS


NOW = "2026-11-21T10:30:00+01:00"


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("2h", "2026-11-21T08:30:00+01:00"),
        ("90s", "2026-11-21T10:28:30+01:00"),
        ("30", "2026-11-21T10:00:00+01:00"),
        ("7d", "2026-11-14T10:30:00+01:00"),
        ("2w", "2026-11-07T10:30:00+01:00"),
        ("9:00", "2026-11-21T09:00:00+01:00"),
        ("10:30", "2026-11-21T10:30:00+01:00"),
        ("22:00", "2026-11-20T22:00:00+01:00"),
        ("today", "2026-11-21T00:00:00+01:00"),
        ("Yesterday", "2026-11-20T00:00:00+01:00"),
        ("yesterday 18:00:05", "2026-11-20T18:00:05+01:00"),
        (" 2026-10-01 ", "2026-10-01T00:00:00+02:00"),
        ("2026-10-01T12:00", "2026-10-01T12:00:00+02:00"),
        ("2026-10-01 12:00:07", "2026-10-01T12:00:07+02:00"),
        ("2026-10-01T12:00Z", "2026-10-01T12:00:00+00:00"),
        ("2026-11-21T10:30+01:00", NOW),
    ],
)
def test_a_time_in_the_past(text: str, means: str) -> None:
    """A duration is that long ago, a clock the last such time, a day its midnight in the zone of that day."""
    assert parse_since(text, ns(NOW)) == ns(means)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it is empty"),
        ("soon", "it is no time"),
        ("25:00", "there is no such time"),
        ("2026-13-01", "there is no such time"),
        ("2026-11-22", "it is in the future"),
        ("today 23:00", "it is in the future"),
        ("-2h", "it is no time"),
        ("\x1b[2J", "it is no time"),
    ],
)
def test_what_is_no_such_time_is_refused(text: str, why: str) -> None:
    """With the reason, and how to write it."""
    with pytest.raises(UsageError) as refused:
        parse_since(text, ns(NOW))
    assert str(refused.value).endswith(f": {why}")
    assert "\x1b" not in str(refused.value)
    assert "yesterday" in (refused.value.hint or "")


@given(st.text(max_size=20))
def test_it_is_a_time_or_an_error(text: str) -> None:
    """Never after now, never before the epoch, never another exception."""
    try:
        found = parse_since(text, ns(NOW))
    except UsageError:
        return
    assert 0 <= found <= ns(NOW)
