"""Promises about indices of arrays: a spec means all that it says, or is an error that names a part of it."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundq.words.arrays import INDEX_MAX, Spec, chunk_text, parse_spec, task_id
from roundq.words.errors import UsageError
from roundq.words.job import TASKS_MAX
from roundq.words.ranges import array_of


@pytest.mark.parametrize(
    ("text", "indices", "step", "throttle"),
    [
        ("0", [0], 1, 0),
        ("0-3", [0, 1, 2, 3], 1, 0),
        ("5-5", [5], 1, 0),
        ("0-9:3", [0, 3, 6, 9], 3, 0),
        ("0-10:3%2", [0, 3, 6, 9], 3, 2),
        ("1,5,7-9", [1, 5, 7, 8, 9], 1, 0),
        ("9,1,5", [1, 5, 9], 4, 0),
        ("1-3,2-4", [1, 2, 3, 4], 1, 0),
        ("007", [7], 1, 0),
        ("1,1", [1], 1, 0),
        ("0-1:5", [0], 1, 0),
        (str(INDEX_MAX), [INDEX_MAX], 1, 0),
    ],
)
def test_what_a_spec_means(text: str, indices: list[int], step: int, throttle: int) -> None:
    """Ascending, each once; the step is that between all neighbours, or 1."""
    spec = parse_spec(text)
    assert (list(spec.indices), spec.step, spec.throttle) == (indices, step, throttle)


HINT = "write indices as in 0-99, 1,5,7-9 or 0-99:2%8: every second one, at most 8 at once"


@pytest.mark.parametrize(
    ("text", "what", "hint"),
    [
        ("", 'array "": an index is missing', HINT),
        ("1,,2", 'array "1,,2": an index is missing', HINT),
        ("1,", 'array "1,": an index is missing', HINT),
        ("a", 'array "a": "a" is no index', HINT),
        ("-1", 'array "-1": "-1" is no index', HINT),
        ("1-", 'array "1-": "1-" is no index', HINT),
        ("1-2-3", 'array "1-2-3": "1-2-3" is no index', HINT),
        ("1:2", 'array "1:2": "1:2" is no index', HINT),
        (" 1", 'array " 1": " 1" is no index', HINT),
        ("1.5", 'array "1.5": "1.5" is no index', HINT),
        ("٣", 'array "٣": "٣" is no index', HINT),
        ("1\n", 'array "1\\n": "1\\n" is no index', HINT),
        ("3-1", 'array "3-1": "3-1" ends before it begins', HINT),
        ("0-9:0", 'array "0-9:0": a step of 0 leads nowhere', HINT),
        ("1%", 'array "1%": after % stands how many may run at once, and "" is no number', HINT),
        ("1%x", 'array "1%x": after % stands how many may run at once, and "x" is no number', HINT),
        ("1%0", 'array "1%0": with %0 no task could ever run', "leave %0 out"),
        (
            "1%2000000",
            'array "1%2000000": after % stands how many may run at once: "2000000" is more than 1,000,000',
            HINT,
        ),
        ("9999999999", 'array "9999999999": an index: "9999999999" is more than 2,147,483,647', HINT),
        (
            "0-1000000",
            'array "0-1000000": it has 1,000,001 tasks, more than 1,000,000',
            "submit it in several parts",
        ),
    ],
)
def test_what_is_no_spec(text: str, what: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_spec(text)
    assert (str(caught.value), caught.value.hint) == (what, hint)


def test_thousands_of_digits_are_refused_at_once() -> None:
    for text in ("9" * 10_000, f"1%{'9' * 10_000}", f"0-1:{'9' * 10_000}"):
        with pytest.raises(UsageError) as caught:
            parse_spec(text)
        assert len(str(caught.value)) < 400


def test_the_largest_array_is_made_without_its_list() -> None:
    spec = parse_spec(f"0-{TASKS_MAX - 1}")
    assert isinstance(spec.indices, range)
    assert len(spec.indices) == TASKS_MAX


parts = st.tuples(st.integers(0, 500), st.integers(0, 60), st.integers(1, 9))


@given(st.lists(parts, min_size=1, max_size=6), st.integers(0, 9))
def test_a_spec_is_the_union_of_its_parts(drawn: list[tuple[int, int, int]], throttle: int) -> None:
    """Against Python's own ranges; and what is written from the indices means the same."""
    text = ",".join(f"{first}-{first + more}:{step}" for first, more, step in drawn)
    expected = sorted(
        {index for first, more, step in drawn for index in range(first, first + more + 1, step)}
    )
    spec = parse_spec(f"{text}%{throttle}" if throttle else text)
    assert list(spec.indices) == expected
    assert spec.throttle == throttle
    again = parse_spec(",".join(map(str, expected)))
    assert (list(again.indices), again.step) == (expected, spec.step if len(drawn) > 1 else again.step)
    gaps = {after - before for before, after in itertools.pairwise(expected)}
    assert spec.step == (gaps.pop() if len(gaps) == 1 else 1)


@given(st.text(st.sampled_from("0123456789-:,%x "), max_size=12))
def test_any_text_is_understood_whole_or_refused(text: str) -> None:
    """A spec that is read names only digits that stand in it; anything else is an error with a hint."""
    try:
        spec = parse_spec(text)
    except UsageError as error:
        refused = error
    else:
        assert set(text) <= set("0123456789-:,%")
        assert list(spec.indices) == sorted(set(spec.indices))
        assert len(spec.indices) > 0
        return
    assert refused.hint


@given(st.integers(1, 10**9), st.integers(0, INDEX_MAX), st.sampled_from(["", ".n1", ".node-3.example"]))
def test_the_id_of_a_task_tells_its_array(number: int, index: int, node: str) -> None:
    job_id = task_id(f"{number}{node}", index)
    assert array_of(job_id) == f"{number}{node}"
    assert job_id.endswith(f"_{index}")


def test_a_single_task_has_a_step_of_one() -> None:
    assert Spec(range(4, 5, 7)).step == 1


@pytest.mark.parametrize(
    ("results", "said"),
    [
        ([], "0-9 did not end"),
        ([(index, 0) for index in range(10)], "0-9 ended well"),
        (
            [(0, 0), (1, 0), (2, 0), (3, 0), (4, 3), (5, 0), (6, -9), (7, 1)],
            "0-3,5 ended well; 6: signal 9; 7: exit code 1; 4: exit code 3; 8,9 did not end",
        ),
    ],
)
def test_how_the_tasks_of_a_chunk_ended(results: list[tuple[int, int]], said: str) -> None:
    assert chunk_text(range(10), results) == said
