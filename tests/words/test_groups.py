"""Promises about groups of jobs: which a job has, which limits hold for it, and what a set may be called."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundq.words.errors import UsageError
from roundq.words.groups import (
    GroupLimit,
    group_text,
    group_word,
    groups_of,
    limits_of,
    parse_set,
    throttle_of,
)
from roundq.words.job import Array, Job

PLAIN = Job(("true",))
FIT = Job(("true",), set="fit")
TASK = Job(("true",), set="fit", array=Array("17", 3, throttle=8))


def limits(job: Job, asked: dict[str, int | None]) -> dict[str, int]:
    return limits_of(groups_of(job), throttle_of(job), asked)


def test_the_groups_of_a_job_are_its_set_and_its_array() -> None:
    assert groups_of(PLAIN) == ()
    assert groups_of(FIT) == ("%fit",)
    assert groups_of(TASK) == ("%fit", "17")


def test_an_array_keeps_to_its_throttle_unless_something_else_was_said() -> None:
    assert limits(TASK, {}) == {"17": 8}
    assert limits(TASK, {"17": 2, "%fit": 0, "18": 1}) == {"%fit": 0, "17": 2}
    assert limits(TASK, {"17": None}) == {}
    assert limits(FIT, {"17": 2}) == {}
    assert limits(Job(("true",), array=Array("17", 0)), {}) == {}


def test_what_is_left_of_a_limit_is_never_below_nothing() -> None:
    assert GroupLimit(4, 1).left == 3
    assert GroupLimit(4, 6).left == 0


@pytest.mark.parametrize("name", ["fit", "%fit", "my fit", "2026-11", "größe", "a.b", "a,b", "f" * 100])
def test_a_set_may_have_any_plain_name_with_or_without_its_mark(name: str) -> None:
    assert parse_set(name) == name.removeprefix("%")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", 'set "": it has no name'),
        ("%", 'set "%": it has no name'),
        ("a/b", 'set "a/b": its name contains /'),
        ("..", 'set "..": that is a directory'),
        ("%.", 'set "%.": that is a directory'),
        ("a\nb", r'set "a\nb": its name contains \n'),
        ("a\udcff", r'set "a\xff": its name is not UTF-8'),
        ("%%a", 'set "%%a": such a name would be taken for something else'),
        ("-a", 'set "-a": such a name would be taken for something else'),
        (" a", 'set " a": such a name would be taken for something else'),
        ("a (conflicted copy)", 'set "a (conflicted copy)": such a name would be taken for something else'),
        ("f" * 101, f'set "{"f" * 101}": its name is longer than 100 bytes'),
    ],
)
def test_what_no_set_may_be_called_is_told_with_a_hint(name: str, why: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_set(name)
    assert str(refused.value) == why
    assert refused.value.hint


@given(st.text(max_size=120))
def test_whatever_may_name_a_set_is_one_part_of_a_path(name: str) -> None:
    try:
        found = parse_set(name)
    except UsageError:
        return
    assert found
    assert found.isprintable()
    assert "/" not in found
    assert len(f"%{found}.limit".encode()) <= 255
    assert parse_set(f"%{found}") == found


def test_a_group_is_told_as_what_it_is_and_typed_so_that_a_shell_takes_it() -> None:
    assert group_text("%fit") == "set fit"
    assert group_text("17") == "array 17"
    assert group_word("%fit") == "%fit"
    assert group_word("%my fit") == "'%my fit'"
