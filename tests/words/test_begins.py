"""Times to begin: what people write, read by the clock of where they are."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roundq.words.begins import begin_text, parse_begin
from roundq.words.errors import UsageError
from roundq.words.job import NS

ZONES = ["UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu"]
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(params=ZONES)
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A place on earth."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def ns(text: str) -> int:
    """Local time as nanoseconds since the epoch."""
    return int(datetime.fromisoformat(text).timestamp()) * NS


NOW = "2026-11-21T19:30:00"
#: What is meant on a Saturday evening.
MEANT = {
    "22:00": "2026-11-21T22:00:00",
    "19:31": "2026-11-21T19:31:00",
    "19:30": "2026-11-22T19:30:00",
    "7:05": "2026-11-22T07:05:00",
    "10:30pm": "2026-11-21T22:30:00",
    "12:00 am": "2026-11-22T00:00:00",
    "12:15 PM": "2026-11-22T12:15:00",
    "23:59:59": "2026-11-21T23:59:59",
    "noon": "2026-11-22T12:00:00",
    "midnight": "2026-11-22T00:00:00",
    "now": NOW,
    "now+7min": "2026-11-21T19:37:00",
    "now+7 minutes": "2026-11-21T19:37:00",
    "now + 2h": "2026-11-21T21:30:00",
    "now+90": "2026-11-21T19:31:30",
    "now+1.5hours": "2026-11-21T21:00:00",
    "now+1h30m": "2026-11-21T21:00:00",
    "now+2days": "2026-11-23T19:30:00",
    "now+1week": "2026-11-28T19:30:00",
    "tomorrow": "2026-11-22T00:00:00",
    "Tomorrow 9:00": "2026-11-22T09:00:00",
    "tomorrowT09:00": "2026-11-22T09:00:00",
    "tomorrow noon": "2026-11-22T12:00:00",
    "today 23:00": "2026-11-21T23:00:00",
    "today 8:00": "2026-11-21T08:00:00",
    "2026-12-24": "2026-12-24T00:00:00",
    "20261224": "2026-12-24T00:00:00",
    "2026-12-24T18:00": "2026-12-24T18:00:00",
    "2026-12-24 18:00:30": "2026-12-24T18:00:30",
    "2026-12-24T18:00Z": "2026-12-24T19:00:00",
    "2026-12-24t18:00z": "2026-12-24T19:00:00",
    "2026-12-24T18:00+05:30": "2026-12-24T13:30:00",
    "2020-01-01": "2020-01-01T00:00:00",
}


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize("text", MEANT)
def test_a_time_is_what_people_mean_by_it(text: str) -> None:
    assert parse_begin(text, ns(NOW)) == ns(MEANT[text])


REFUSED = {
    "": "it is empty",
    "soon": "it is not a time",
    "25:00": "hour must be in 0..23",
    "12:60": "minute must be in 0..59",
    "13:00pm": "hours with am or pm go from 1 to 12",
    "now+": "it is not a time",
    "now-3": "it is not a time",
    "now+x": 'duration "x": it is not a duration',
    "now+1e999": 'duration "1e999": it is not a duration',
    "tomorrow soon": "it is not a time",
    "2026-13-01": "month must be in 1..12",
    "2026-02-30": "day is out of range for month",
    "2026-12-24x": "it is not a time",
    "1969-12-31": "it is before 1970",
    "2099-01-01": "it is more than ten years ahead",
    "now+999999999weeks": "it is more than ten years ahead",
    "22:00\x1b[2J": "it is not a time",
}


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_time_is_refused_with_its_reason(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_begin(text, ns(NOW))
    said = str(caught.value)
    assert said.endswith(f": {REFUSED[text]}") or text == "now+999999999weeks"
    assert said.isprintable()
    assert caught.value.hint


moments = st.integers(946_684_800, 1_893_456_000)


@quick
@given(moments)
def test_a_clock_time_is_the_next_one_and_within_a_day(zone: str, now_s: int) -> None:
    """Also on the days on which clocks are put forward or back, by an hour."""
    clock = datetime.fromtimestamp((now_s * 7919) % 1_000_000_000)
    found_s = parse_begin(f"{clock:%H:%M}", now_s * NS) // NS
    assert now_s < found_s <= now_s + 25 * 3600
    shown = datetime.fromtimestamp(found_s)
    is_skipped = (clock.hour * 60 + clock.minute) != (shown.hour * 60 + shown.minute)
    # One that the clocks jump over is the same moment, by the old offset.
    assert not is_skipped or zone in ("Europe/Berlin", "America/St_Johns")


@pytest.mark.usefixtures("zone")
@quick
@given(moments, st.integers(0, 3 * 365 * 86_400), st.integers(-14 * 60, 14 * 60))
def test_a_date_with_a_zone_is_exact(now_s: int, later_s: int, offset_min: int) -> None:
    when = datetime.fromtimestamp(now_s + later_s, timezone(timedelta(minutes=offset_min)))
    assert parse_begin(when.isoformat(), now_s * NS) == (now_s + later_s) * NS


@pytest.mark.usefixtures("zone")
@quick
@given(moments, st.integers(0, 10_000_000))
def test_later_is_so_much_later(now_s: int, seconds: int) -> None:
    assert parse_begin(f"now+{seconds}", now_s * NS) == (now_s + seconds) * NS
    assert parse_begin(f"now+{seconds // 60}min", now_s * NS) == (now_s + seconds // 60 * 60) * NS


@quick
@given(st.text(max_size=20), moments)
def test_whatever_is_written_it_is_a_time_or_refused_in_one_line(text: str, now_s: int) -> None:
    said = ""
    try:
        assert parse_begin(text, now_s * NS) >= 0
    except UsageError as error:
        said = str(error)
    assert not said or said.isprintable()


TOLD = {
    "2026-11-21T22:00:00": "22:00 (in 3 h)",
    "2026-11-21T19:30:25": "19:30:25 (in 25 s)",
    "2026-11-22T09:00:00": "Sun 09:00 (in 14 h)",
    "2026-11-27T19:30:00": "Fri 19:30 (in 6 d)",
    "2026-12-24T18:00:00": "2026-12-24 18:00 (in 33 d)",
    "2026-11-21T19:00:00": "19:00",
}


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize("when", TOLD)
def test_a_time_to_come_is_told_as_a_clock_and_as_a_wait(when: str) -> None:
    assert begin_text(ns(when), ns(NOW)) == TOLD[when]
