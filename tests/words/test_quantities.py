"""Promises about the numbers and names that people write and read."""

from __future__ import annotations

import contextlib
import math
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from roundq.words.errors import UsageError
from roundq.words.quantities import (
    CORES_MAX,
    DURATION_MAX_S,
    GIB,
    KIB,
    MEMORY_MAX,
    MIB,
    NAME_BYTES_MAX,
    TIB,
    check_name,
    format_age,
    format_duration,
    format_ids,
    format_memory,
    parse_cores,
    parse_duration,
    parse_memory,
    shell_ids,
    visible,
)

quick = settings(max_examples=200, deadline=None)
#: Lone surrogates, too: arguments of a command are bytes.
any_text = st.text(st.characters(exclude_categories=()))
#: Text that comes near to what the parsers accept.
near_text = st.text("0123456789.:-+eEdhmskKgGtTiIbBaAlLnN ", max_size=20)


def refusal(parse: object, *args: object) -> str:
    assert callable(parse)
    with pytest.raises(UsageError) as caught:
        parse(*args)
    assert caught.value.hint
    return str(caught.value)


# ---------------------------------------------------------------- cores


@pytest.mark.parametrize(
    ("text", "cores"), [("all", 0), ("ALL", 0), ("1", 1), ("12", 12), ("007", 7), ("100000", 100_000)]
)
def test_cores_are_a_whole_number_or_all(text: str, cores: int) -> None:
    assert parse_cores(text) == cores


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0", 'number of cores "0": a job needs at least 1 core'),
        ("-3", 'number of cores "-3": it is negative'),
        ("1e9", 'number of cores "1e9": it is not a whole number'),
        ("", 'number of cores "": it is empty'),
        ("2.5", 'number of cores "2.5": it is not a whole number'),
        ("100001", 'number of cores "100001": it is more than any node has'),
        ("\uff19", 'number of cores "\uff19": it is not a whole number'),
        (" 3", 'number of cores " 3": it is not a whole number'),
        ("\x1b[2J", r'number of cores "\x1b[2J": it is not a whole number'),
    ],
)
def test_what_is_no_number_of_cores_is_refused_with_the_reason(text: str, message: str) -> None:
    assert refusal(parse_cores, text) == message


def test_a_number_of_cores_as_long_as_a_book_is_refused_in_our_words() -> None:
    assert refusal(parse_cores, "9" * 10_000).endswith('…": it is more than any node has')


@quick
@given(any_text | near_text)
def test_cores_never_fail_but_with_a_usage_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert 0 <= parse_cores(text) <= CORES_MAX


@quick
@given(st.integers(1, CORES_MAX))
def test_every_allowed_number_of_cores_is_read_as_written(cores: int) -> None:
    assert parse_cores(str(cores)) == cores


# ---------------------------------------------------------------- memory


@pytest.mark.parametrize(
    ("text", "unit", "size"),
    [
        ("4", GIB, 4 * GIB),
        ("0", GIB, 0),
        ("0.5", GIB, GIB // 2),
        (".5", GIB, GIB // 2),
        ("4", MIB, 4 * MIB),
        ("1e-6", MIB, 2),
        ("4G", MIB, 4 * GIB),
        ("4g", MIB, 4 * GIB),
        ("4GB", MIB, 4 * GIB),
        ("4GiB", MIB, 4 * GIB),
        ("4 gib", MIB, 4 * GIB),
        ("1.5T", GIB, 3 * TIB // 2),
        ("500M", GIB, 500 * MIB),
        ("16k", GIB, 16 * KIB),
        ("512B", GIB, 512),
    ],
)
def test_sizes_count_in_the_unit_unless_they_say_it(text: str, unit: int, size: int) -> None:
    assert parse_memory(text, unit) == size


def test_a_size_that_is_not_zero_is_never_rounded_to_zero() -> None:
    """0 switches an output limit off: a tiny limit must not."""
    assert parse_memory("1e-30", MIB) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", 'size "": it is empty'),
        ("-1", 'size "-1": it is negative'),
        ("nan", 'size "nan": it is not a finite number'),
        ("inf", 'size "inf": it is not a finite number'),
        ("1e99", 'size "1e99": it is more than any node has'),
        ("1e999", 'size "1e999": it is not a size'),
        ("9999999T", 'size "9999999T": it is more than any node has'),
        ("4X", 'size "4X": it is not a size'),
        ("much", 'size "much": it is not a size'),
        ("٤G", 'size "٤G": it is not a size'),
    ],
)
def test_what_is_no_size_is_refused_with_the_reason(text: str, message: str) -> None:
    assert refusal(parse_memory, text, GIB) == message


def test_the_hint_of_a_refused_size_says_what_a_plain_number_means() -> None:
    with pytest.raises(UsageError) as caught:
        parse_memory("x", MIB)
    assert caught.value.hint == "give a number like 500M, 4G or 1.5T; a plain number counts in M"


@quick
@given(any_text | near_text, st.sampled_from([MIB, GIB]))
def test_sizes_never_fail_but_with_a_usage_error(text: str, unit: int) -> None:
    with contextlib.suppress(UsageError):
        assert 0 <= parse_memory(text, unit) <= MEMORY_MAX


@quick
@given(st.integers(0, MEMORY_MAX))
@example(1024 * MIB - 1)
@example(973)
def test_a_printed_size_is_read_as_what_it_says(size: int) -> None:
    assert parse_memory(f"{size}B", GIB) == size
    text = format_memory(size)
    again = parse_memory(text, GIB)
    # 0.95 of a unit reads as one.
    assert again == pytest.approx(size, rel=1 / 0.95 - 1)
    assert format_memory(again) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0"),
        (-5, "0"),
        (512, "512B"),
        (4 * GIB, "4G"),
        (3 * GIB // 2, "1.5G"),
        (1024 * MIB - 1, "1G"),
        (1023 * MIB, "1G"),
        (970 * MIB, "970M"),
        (2000 * TIB, "2000T"),
    ],
)
def test_sizes_are_printed_short(size: int, text: str) -> None:
    assert format_memory(size) == text


# ---------------------------------------------------------------- durations


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30 * 60),
        ("0.5", 30),
        ("90:00", 90 * 60),
        ("01:30", 90),
        ("2:00:00", 2 * 3600),
        ("100:00:01", 100 * 3600 + 1),
        ("1-0", 86_400),
        ("1-12", 36 * 3600),
        ("1-12:30", 36 * 3600 + 1800),
        ("1-12:30:15", 36 * 3600 + 1815),
        ("2h30m", 9000),
        ("90s", 90),
        ("1.5h", 5400),
        ("1d", 86_400),
        ("1d-12h", 36 * 3600),
        ("1D12H", 36 * 3600),
        ("120m", 7200),
    ],
)
def test_durations_are_read_as_slurm_and_as_people_write_them(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", 'duration "": it is empty'),
        ("0", 'duration "0": it is zero'),
        ("00:00", 'duration "00:00": it is zero'),
        ("0s", 'duration "0s": it is zero'),
        ("-5", 'duration "-5": it is negative'),
        ("soon", 'duration "soon": it is not a duration'),
        ("30m2h", 'duration "30m2h": it is not a duration'),
        ("1:2:3:4", 'duration "1:2:3:4": it is not a duration'),
        ("1:90", 'duration "1:90": seconds after minutes go to 59'),
        ("1:90:00", 'duration "1:90:00": minutes after hours go to 59'),
        ("1-24", 'duration "1-24": hours after days go to 23'),
        ("20000d", 'duration "20000d": it is more than ten years'),
        ("nan", 'duration "nan": it is not a duration'),
        ("inf", 'duration "inf": it is not a duration'),
        ("٣", 'duration "٣": it is not a duration'),
    ],
)
def test_what_is_no_duration_is_refused_with_the_reason(text: str, message: str) -> None:
    assert refusal(parse_duration, text) == message


def test_the_hint_of_a_refused_duration_has_examples() -> None:
    with pytest.raises(UsageError) as caught:
        parse_duration("soon")
    assert caught.value.hint is not None
    assert "2h30m" in caught.value.hint
    assert "30 (minutes)" in caught.value.hint


@quick
@given(any_text | near_text)
def test_durations_never_fail_but_with_a_usage_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert 0 < parse_duration(text) <= DURATION_MAX_S


@quick
@given(st.integers(1, DURATION_MAX_S))
def test_a_printed_duration_is_read_as_what_it_says(seconds: int) -> None:
    text = format_duration(seconds)
    again = parse_duration(text)
    assert again <= seconds
    assert format_duration(again) == text
    days, rest = divmod(seconds, 86_400)
    clock = f"{days}-{rest // 3600:02}:{rest % 3600 // 60:02}:{rest % 60:02}"
    assert parse_duration(clock) == parse_duration(f"{seconds}s") == seconds


@pytest.mark.parametrize(
    ("seconds", "listed", "said"),
    [
        (0, "0:00", "0 s"),
        (-3, "0:00", "0 s"),
        (59.9, "0:59", "59 s"),
        (60, "1:00", "1 min"),
        (90, "1:30", "90 s"),
        (245, "4:05", "4 min"),
        (14 * 60 + 5, "14:05", "14 min"),
        (3599, "59:59", "59 min"),
        (3600, "1h00m", "1 h"),
        (7500, "2h05m", "2 h"),
        (30 * 3600, "1d-06h", "30 h"),
        (3 * 86_400 + 4 * 3600, "3d-04h", "3 d"),
        (math.inf, "?", "?"),
        (math.nan, "?", "?"),
    ],
)
def test_durations_are_listed_and_said(seconds: float, listed: str, said: str) -> None:
    assert format_duration(seconds) == listed
    assert format_age(seconds) == said


@quick
@given(st.floats())
def test_every_number_can_be_shown_as_a_duration(seconds: float) -> None:
    assert format_duration(seconds)
    assert format_age(seconds)


# ---------------------------------------------------------------- text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("fit-3 (größer) 日本 🙂", "fit-3 (größer) 日本 🙂"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\x9b2J\x7f\0", r"\x9b2J\x7f\x00"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("a\u200bb\u2028c\ufeff", r"a\u200bb\u2028c\ufeff"),
        ("caf\udce9", r"caf\xe9"),
        ("\ud800", r"\ud800"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_what_a_terminal_would_obey_is_written_out(text: str, shown: str) -> None:
    assert visible(text) == shown


@quick
@given(any_text)
def test_visible_text_has_nothing_that_a_terminal_would_obey(text: str) -> None:
    shown = visible(text)
    assert not {unicodedata.category(char) for char in shown} & {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
    shown.encode()
    assert visible(shown) == shown


@quick
@given(st.text(st.characters(categories=["L", "N", "P", "S"])))
def test_visible_text_is_shown_as_it_is(text: str) -> None:
    assert visible(text) == text


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    "name",
    ["fit", "v1.2.3", "two words", "größer", "日本", "a-b_c", "x" * NAME_BYTES_MAX, "~", "$HOME", "a\\b"],
)
def test_a_name_may_be_what_a_file_may_be_called(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", 'job name "": it is empty'),
        (".", 'job name ".": it is a directory'),
        ("..", 'job name "..": it is a directory'),
        ("a/b", 'job name "a/b": it contains /'),
        ("/", 'job name "/": it contains /'),
        ("-x", 'job name "-x": it begins with -'),
        (".bashrc", 'job name ".bashrc": it begins with .'),
        ("a\nb", r'job name "a\nb": it contains \n'),
        ("a\0", r'job name "a\x00": it contains \x00'),
        ("\x1b[2J", r'job name "\x1b[2J": it contains \x1b'),
        ("\u202ex", r'job name "\u202ex": it contains \u202e'),
        ("caf\udce9", r'job name "caf\xe9": it is not UTF-8: it contains \xe9'),
        (" x", 'job name " x": it begins or ends with a space'),
        ("x ", 'job name "x ": it begins or ends with a space'),
        ("ä" * 101, f'job name "{"ä" * 60}…": it has 202 bytes'),
    ],
)
def test_what_could_not_name_a_file_is_refused_with_the_reason(name: str, message: str) -> None:
    assert refusal(check_name, name) == message


@quick
@given(any_text)
def test_an_accepted_name_is_one_component_of_a_path(name: str) -> None:
    try:
        accepted = check_name(name)
    except UsageError:
        return
    assert accepted == name == visible(name)
    assert "/" not in name
    assert name not in ("", ".", "..")
    assert len(name.encode()) <= NAME_BYTES_MAX


@pytest.mark.parametrize(
    ("ids", "people", "shell"),
    [
        (["7"], "7", "7"),
        (["7", "8"], "7, 8", "7 8"),
        (["7", "8", "9"], "7 to 9", "7 8 9"),
        ([str(number) for number in (1, *range(9, 14), 20)], "1, 9 to 13, 20", "1 $(seq 9 13) 20"),
        (["9", "7", "8", "8"], "9, 7, 8, 8", "9 7 8 8"),
        (["1.n1", "2.n1", "3.n1"], "1.n1, 2.n1, 3.n1", "1.n1 2.n1 3.n1"),
    ],
)
def test_ids_are_told_exactly(ids: list[str], people: str, shell: str) -> None:
    assert (format_ids(ids), shell_ids(ids)) == (people, shell)
