"""Promises of the words that say which jobs: what each is, by itself; and of lists of ids."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundq.words import ranges, selectors
from roundq.words.errors import UsageError
from roundq.words.match import parse
from roundq.words.selectors import Last, Match, Name, Set

LIST = "write 17, 20-25, 17_3, 17_[0-9], or several with commas: 17,20-25"


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("last", Last()), ("@", Last()), ("@~0", Last()), ("@~2", Last(2)),
        ("%genes", Set("genes")), ("%a b", Set("a b")),
        ("fit", Name("fit")), ("sleep 60", Name("sleep 60")), ("fit*", Name("fit*")), ("3d", Name("3d")),
        ("%", Name("%")), ("@x", Name("@x")), ("@~", Name("@~")), ("last-one", Name("last-one")),
        ("make CC=gcc", Name("make CC=gcc")), ("1.5 x", Name("1.5 x")), ("10x-test", Name("10x-test")),
        ("*", Match(parse("*"))), ("state=failed", Match(parse("state=failed"))),
        (' ! name = "x" ', Match(parse('!name="x"'))),
        ("17", ranges.parse("17")), ("17,20-25", ranges.parse("17,20-25")), ("17_3", ranges.parse("17_3")),
        ("17.n1", ranges.parse("17.n1")), ("1600000000.5", ranges.parse("1600000000.5")),
        (" 17 , 20 ", ranges.parse("17 , 20")),
    ],
)  # fmt: skip
def test_what_a_word_is_can_be_told_by_it_alone(word: str, meant: selectors.Selector) -> None:
    assert selectors.parse(word) == meant


@pytest.mark.parametrize(
    ("word", "what", "hint", "lines"),
    [
        ("25-20", "ids, column 1: the range 25-20 goes backwards", "write 20-25", ("25-20", "^")),
        ("17,25-20", "ids, column 4: the range 25-20 goes backwards", "write 20-25", ("17,25-20", "   ^")),
        ("17,,20", "ids, column 4: an id is missing", LIST, ("17,,20", "   ^")),
        ("17,", "ids, column 4: an id is missing", LIST, ("17,", "   ^")),
        ("17-", 'ids, column 1: "17-" is no id and no range of ids', LIST, ("17-", "^")),
        ("2024-01-05", 'ids, column 1: "2024-01-05" is no id and no range of ids', LIST, ("2024-01-05", "^")),
        ("17_[", 'ids, column 1: "17_[" is no id and no range of ids', LIST, ("17_[", "^")),
        ("17_[]", "ids, column 5: an index is missing", "write 17_[0-9], 17_[0-9:2] or 17_[1,5,7-9]",
         ("17_[]", "    ^")),
        ("1,17_[3,9-7]", "ids, column 9: the range 9-7 goes backwards", "write 7-9",
         ("1,17_[3,9-7]", "        ^")),
        ("17_[0-9:0]", "ids, column 5: a step of 0 leads nowhere", "write 17_[0-9:2]",
         ("17_[0-9:0]", "    ^")),
        ("9" * 30, f'ids, column 1: "{"9" * 30}" is no id and no range of ids', LIST, ("9" * 30, "^")),
        ("@~9999999", "@~9999999: so far back nobody counts", "write @~2 for the second before the last", ()),
        ("state=x", 'expression, column 7: there is no state "x"',
         "states are held, waiting, claimed, running, completed, failed, canceled, zombie, or see: man rq",
         ("state=x", "      ^")),
    ],
)  # fmt: skip
def test_a_word_that_is_wrong_is_no_name(word: str, what: str, hint: str, lines: tuple[str, ...]) -> None:
    """Else what was mistyped would mean jobs of another name, or the rest of a list."""
    with pytest.raises(UsageError) as caught:
        selectors.parse(word)
    assert (str(caught.value), caught.value.hint, caught.value.lines) == (what, hint, lines)


@pytest.mark.parametrize(
    ("text", "those", "others"),
    [
        ("17", "17 17_0 17_99", "1 170 7 17.n1 x17 17_x 117_0"),
        ("17_3", "17_3", "17 17_30 17_4 3"),
        ("17_[0-9:2,12]", "17_0 17_2 17_8 17_12", "17 17_1 17_10 18_0 17_x"),
        ("17_2-4", "17_2 17_3 17_4", "17_1 17_5 2 4"),
        ("17_2-8:3", "17_2 17_5 17_8", "17_3 17_4"),
        ("20-25", "20 25 22_7", "19 26 2 25.n1 07 ٢٢"),
        ("17.n1", "17.n1 17.n1_0", "17 17.n2 17.n11 17_0"),
        ("17.n1_[0-3]", "17.n1_0 17.n1_3", "17.n1 17.n1_4 17_0"),
        ("1600000000.123", "1600000000.123", "1600000000 1600000000.12"),
        ("1,2_[1,3], 5-6", "1 2_1 2_3 5 6 6_0", "2 2_2 4 7"),
    ],
)
def test_a_list_means_exactly_what_is_written(text: str, those: str, others: str) -> None:
    found = ranges.parse(text)
    assert [job for job in those.split() if not found.has(job)] == []
    assert [job for job in others.split() if found.has(job)] == []
    # The whole list is asked in another way than its parts.
    for job in (*those.split(), *others.split()):
        assert found.has(job) == any(part.has(job) for part in found.parts)
    assert ranges.unmet(found.parts, those.split()) == []
    assert ranges.unmet(found.parts, others.split()) == list(found.parts)


@pytest.mark.parametrize(
    ("ids", "told"),
    [
        ("17", "17"),
        ("17 18", "17, 18"),
        ("17 18 19", "17-19"),
        ("19 17 18 31 20", "17-20, 31"),
        ("17_0 17_1 17_2 20 21", "17_0-2, 20, 21"),
        ("17_0 17_1 17_2 17_9 3_4", "3_4, 17_[0-2,9]"),
        ("5.n1 5.n1_2 5 007 x", "5, 5.n1_2, 007, 5.n1, x"),
    ],
)
def test_many_ids_are_told_in_a_few_words(ids: str, told: str) -> None:
    assert ranges.brief(ids.split()) == told


_ids = st.one_of(
    st.integers(0, 30).map(str),
    st.tuples(st.integers(40, 42), st.integers(0, 12)).map(lambda pair: f"{pair[0]}_{pair[1]}"),
    st.tuples(st.integers(40, 42), st.integers(0, 12)).map(lambda pair: f"{pair[0]}.n1_{pair[1]}"),
)


@given(st.lists(_ids, min_size=1, unique=True))
def test_what_a_message_names_can_be_typed_again(ids: list[str]) -> None:
    """And means these jobs and no others."""
    typed = ranges.parse(ranges.brief(ids))
    known = [
        *map(str, range(50)),
        *(
            f"{number}{node}_{index}"
            for number in (40, 41, 42)
            for node in ("", ".n1")
            for index in range(14)
        ),
    ]
    assert {job for job in known if typed.has(job)} == set(ids)


@given(st.text("0123456789,-_[]: .", max_size=12))
def test_no_list_is_an_accident(text: str) -> None:
    """It is a list as a whole, or wrong at a column in it."""
    try:
        found = ranges.parse(text)
    except ranges.ListError as error:
        wrong = error
    else:
        assert found.parts
        return
    assert 0 <= wrong.column <= len(text)
    assert wrong.hint
