"""Promises of match expressions: the whole text is understood, or an error points at its column."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundq.words import match, ranges
from roundq.words.errors import UsageError
from roundq.words.expressions import All, Compare, Either, EndedWith, Every, Expression, Not
from roundq.words.fields import FIELDS, SIGNALS, STATE_WORDS
from roundq.words.job import NS, Array, Job, Record
from roundq.words.match import Facts, Needs, parse
from roundq.words.pattern import literal, pattern
from roundq.words.states import (
    CANCELED,
    CLAIMED,
    COMPLETED,
    ENDED_STATES,
    FAILED,
    HELD,
    PENDING_STATES,
    RUNNING,
    STATES,
    WAITING,
    ZOMBIE,
)

NOW_NS = 1_790_000_000 * NS


def facts(state: str = WAITING, job_id: str = "17", *, node: str | None = None, **of: Any) -> Facts:
    """What is known of a job; fields of the record have their names, those of the job begin with `job_`."""
    of_job = {name.removeprefix("job_"): value for name, value in of.items() if name.startswith("job_")}
    of_record = {name: value for name, value in of.items() if not name.startswith("job_")}
    job = Job(("sleep", "60"), **{"jobname": "fit", "submitted_ns": NOW_NS - 3600 * NS, **of_job})
    return Facts(job_id, state, node, "ann", NOW_NS, job, Record(job, **of_record))


def means(text: str, of: Facts) -> bool:
    return parse(text).matches(of)


# ---------------------------------------------------------------- tpar's README and its defects


@pytest.mark.parametrize(
    ("text", "told"),
    [
        # What tpar's README shows, in full: tpar itself drops what follows a name, a state or a star.
        ('name="my-job" or name="my-other-job"', 'name="my-job" | name="my-other-job"'),
        ("state=running or id=3", "state=running | id=3"),
        ("id=3 or state=running", "id=3 | state=running"),
        ('(name="a") or (name="b")', 'name="a" | name="b"'),
        ("!*", "!*"),
        ("! *", "!*"),
        ("!(*)", "!*"),
        ("!!id=1", "!!id=1"),
        ("not not id=1", "!!id=1"),
        ("((((id=1))))", "id=1"),
        # Blanks anywhere, of any kind.
        ("  id\t=  1 \n&\r( state = code = -15 )  ", "id=1 & state=code=-15"),
        ("id=1&id=2|id=3", "id=1 & id=2 | id=3"),
        ("id=1 AND NOT id=2 Or State=RUNNING", "id=1 & !id=2 | state=running"),
        # ! before and before or.
        ("!id=1 & id=2", "!id=1 & id=2"),
        ("!(id=1 & id=2)", "!(id=1 & id=2)"),
        ("id=1 | id=2 & id=3", "id=1 | id=2 & id=3"),
        ("(id=1 | id=2) & id=3", "(id=1 | id=2) & id=3"),
        ("not id=1 or id=2 and id=3", "!id=1 | id=2 & id=3"),
        # Names: any run of characters, escapes, and no quotes where nothing is unclear.
        ('name="run-*"', 'name="run-*"'),
        ("name=run-*", 'name="run-*"'),
        (r'name="say \"hi\" \*\?\\"', r'name="say \"hi\" \*\?\\"'),
        ('name="a (b) & c | !d"', 'name="a (b) & c | !d"'),
        ('name=""', 'name=""'),
        ("name=or", 'name="or"'),
        ("state=code=3", "state=code=3"),
        ("state!=code=3", "!state=code=3"),
        ("code=3", "code=3"),
        ("code=-9", "code=-9"),
        ("code=+3", "code=3"),
        ("signal=SIGKILL", "signal=9"),
        ("id=17,20-25 | id=17_[0-9:2,12]", "id=17,20-25 | id=17_[0-9:2,12]"),
        ("age>1h", "age>3600s"),
        ("age>=90", "age>=5400s"),
        ("ran<0", "ran<0s"),
        ("mem>=4G", "mem>=4294967296B"),
        ("cores>=4 & cores=all", "cores>=4 & cores=all"),
        ("priority=high | priority<=-5", "priority=100 | priority<=-5"),
    ],
)
def test_what_is_written_is_understood_whole(text: str, told: str) -> None:
    assert str(parse(text)) == told
    assert parse(told) == parse(text)


_BLANKS = "a value with blanks is quoted by \", and ' stands around the whole expression"


@pytest.mark.parametrize(
    ("text", "column", "why", "hint"),
    [
        ("", 1, "it is empty", "* means every job"),
        ("   ", 1, "it is empty", "* means every job"),
        ("state=runing", 7, 'there is no state "runing"', "did you mean running?"),
        ("state=failed,lost", 7, 'there is no state "failed,lost"', "write state=failed | state=lost"),
        ("state=xyzzy", 7, 'there is no state "xyzzy"',
         "states are held, waiting, claimed, running, completed, failed, canceled, zombie, or see: man rq"),
        ('nmae="x"', 1, 'there is no field "nmae"', "did you mean name?"),
        ("id=1 & stat=running", 8, 'there is no field "stat"', "did you mean state?"),
        ("id=1 id=2", 6, 'unexpected "id"', "between two comparisons stands & or |"),
        ("*x", 1, "* alone means every job", 'did you mean name="*x"?'),
        ("* *", 3, 'unexpected "*"', _BLANKS),
        ("name=a b", 8, 'unexpected "b"', _BLANKS),
        ("running", 1, '"running" is no comparison', "did you mean state=running?"),
        ("fit", 1, '"fit" is no comparison', 'did you mean name="fit"?'),
        ("id=1 & ", 8, "it ends where a comparison is missing", "such as state=running"),
        ("!", 2, "it ends where a comparison is missing", "such as state=running"),
        ("id=1 & | id=2", 8, 'unexpected "|"', "a comparison is missing before it"),
        ("id=1 && id=2", 7, "& stands once", "write one &"),
        ("(id=1", 1, "this parenthesis is not closed", "write ) where it ends"),
        ("id=1)", 5, 'unexpected ")"', "a ( is missing before it"),
        ("()", 2, 'unexpected ")"', "a comparison is missing before it"),
        ('name="x', 6, "this quote is not closed", 'write name="..." with a " at the end'),
        ('name="x\\', 8, 'a \\ stands only before " * ? and \\', "write \\\\ for a \\ itself"),
        ('name="\\n"', 7, 'a \\ stands only before " * ? and \\', "write \\\\ for a \\ itself"),
        ("name='x'", 6, 'a value is quoted by "', "write name=\"...\", and ' around the whole expression"),
        ("name=it's", 8, '"\'" in a value that is not quoted', 'quote it: name="..."'),
        ("name=", 6, "name is compared with nothing", "a value is missing at the end"),
        ("name=(x)", 6, '"(" cannot begin a value', 'quote it: name="..."'),
        ("name", 5, "what of name?", "write name and = or another comparison, then a value"),
        ("name>x", 5, "name has no order", "write name= or name!="),
        ("id=3-1", 4, "the range 3-1 goes backwards", "write 1-3"),
        ("id=1,x", 6, '"x" is no id and no range of ids', ranges.HINT),
        ("code=x", 6, '"x" is not a whole number', "write digits, such as 4"),
        ("state=code", 11, "which code?", "write state=code=3"),
        ("state=code=x", 12, '"x" is not a whole number', "write digits, such as 4"),
        ("signal=KIL", 8, 'there is no signal "KIL"', "did you mean KILL?"),
        ("signal=nought", 8, 'there is no signal "nought"', "write a number or a name, such as KILL"),
        ("age>1x", 5, 'duration "1x": it is not a duration',
         "write 90s, 30m, 2h30m, 1.5h, 1d, or as Slurm: 30 (minutes), MM:SS, HH:MM:SS, D-HH,"
         " D-HH:MM:SS"),
        ("mem>=much", 6, 'size "much": it is not a size',
         "give a number like 500M, 4G or 1.5T; a plain number counts in G"),
        ("(" * 101, 101, "more than 100 levels of ! and parentheses", "write it flatter"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_pointed_at(text: str, column: int, why: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert (str(caught.value), caught.value.hint) == (f"expression, column {column}: {why}", hint)


def test_a_mark_stands_below_the_mistake() -> None:
    """Also in what is wider than a terminal, and below signs of two columns or none, or that are escaped."""

    def shown(text: str) -> tuple[str, ...]:
        with pytest.raises(UsageError) as caught:
            parse(text)
        return caught.value.lines

    assert shown('state=running and nmae="x"') == ('state=running and nmae="x"', " " * 18 + "^")
    assert shown('name="日本" nmae=1') == ('name="日本" nmae=1', " " * 12 + "^")
    assert shown('name="e\u0301" nmae=1') == ('name="e\u0301" nmae=1', " " * 9 + "^")
    assert shown('name="\x1b[2J" nmae=1')[1] == " " * (len('name="\\x1b[2J" ')) + "^"
    line, mark = shown("state=done | " * 40 + "oops=1" + " | state=done" * 40)
    assert line[len(mark) - 1 :].startswith("oops=1")
    assert line[0] == line[-1] == "…"
    assert len(line) <= 72


# ---------------------------------------------------------------- what is meant


def test_every_word_for_a_state_means_what_the_manual_says() -> None:
    expected = {
        "held": {HELD}, "waiting": {WAITING}, "claimed": {CLAIMED}, "running": {RUNNING},
        "completed": {COMPLETED}, "failed": {FAILED}, "canceled": {CANCELED}, "zombie": {ZOMBIE},
        "queued": set(PENDING_STATES), "pending": set(PENDING_STATES), "starting": {CLAIMED},
        "ended": set(ENDED_STATES), "finished": {COMPLETED, FAILED}, "done": {COMPLETED, FAILED},
        "succeeded": {COMPLETED}, "success": {COMPLETED}, "errored": {FAILED}, "cancelled": {CANCELED},
        "killed": {CANCELED}, "lost": {ZOMBIE},
    }  # fmt: skip
    assert set(STATE_WORDS) == set(expected)
    for word, states in expected.items():
        assert {state for state in STATES if means(f"state={word}", facts(state))} == states
        assert {state for state in STATES if means(f"state!={word}", facts(state))} == set(STATES) - states


def test_a_code_is_an_exit_code_or_a_negative_signal_of_a_job_that_ended() -> None:
    assert means("state=code=3", facts(FAILED, exit_code=3))
    assert means("code=3", facts(FAILED, exit_code=3))
    assert means("code=0 & state=code=0", facts(COMPLETED, exit_code=0))
    assert means("code=-9 & state=code=-9 & signal=KILL & code<0", facts(FAILED, signal=9))
    assert not means("code=9 | code=137", facts(FAILED, signal=9))
    # Canceled while it ran: it has a code, and did not end by itself.
    assert means("code=-15", facts(CANCELED, signal=15))
    assert not means("state=code=-15", facts(CANCELED, signal=15))


def test_a_number_that_a_job_does_not_have_matches_no_comparison() -> None:
    """So `code!=0` never means a job that still waits; `!code=0` does."""
    waiting = facts(WAITING)
    for comparison in ("=", "!=", "<", "<=", ">", ">="):
        assert not means(f"code{comparison}0", waiting)
        assert not means(f"signal{comparison}9", waiting)
        assert not means(f"ran{comparison}1h", waiting)
    assert means("!code=0", waiting)
    assert not means("age>=0", facts(job_submitted_ns=0))


#: An expression, and a job that it means.
OF_EACH_FIELD = [
    ("id=17", facts(job_id="17")),
    ("id=17", facts(job_id="17_3")),
    ("id=17_3", facts(job_id="17_3")),
    ("id=15-20", facts(job_id="17_3")),
    ("array=17", facts(job_id="17_3")),
    ('array=""', facts(job_id="17")),
    ("name=fit", facts()),
    ('name="sleep 60"', facts(job_jobname="")),
    ("set=gene*", facts(job_set="genes")),
    ('set=""', facts()),
    ("set=?*", facts(job_set="genes")),
    ("node=n1", facts(RUNNING, node="n1")),
    ("node=n?", facts(COMPLETED, node="n2")),
    ('node=""', facts(WAITING)),
    ("user=ann", facts()),
    ('reason="time limit"', facts(FAILED, reason="time limit")),
    ('reason=""', facts(COMPLETED)),
    ("age>59m & age<61m & age=1h", facts()),
    ("waited=1h", facts(WAITING)),
    ("waited=30m", facts(RUNNING, started_ns=NOW_NS - 1800 * NS)),
    ("ran=30m", facts(RUNNING, started_ns=NOW_NS - 1800 * NS)),
    ("ran=20m", facts(FAILED, started_ns=NOW_NS - 1800 * NS, completed_ns=NOW_NS - 600 * NS)),
    ("waited=50m", facts(CANCELED, completed_ns=NOW_NS - 600 * NS)),
    ("cores>=4", facts(job_cores=4)),
    ("cores>=4 & cores=all", facts(job_cores=0)),
    ("mem>=4", facts(job_memory_required=4 << 30)),
    ("gpus!=0", facts(job_gpus=1)),
    ("priority=high", facts(job_priority=100)),
    ("priority=normal", facts()),
    ("attempt>1", facts(attempt=2)),
]


@pytest.mark.parametrize(("text", "of"), OF_EACH_FIELD)
def test_each_field_is_that_of_the_job(text: str, of: Facts) -> None:
    assert means(text, of)
    assert not means(f"!({text})", of)
    other = facts(
        HELD, "99", job_jobname="other", job_set="xx-no", job_cores=1, job_submitted_ns=NOW_NS - 9 * NS,
        job_priority=-1, node=None,
    )  # fmt: skip
    if text not in ('array=""', 'set=""', 'node=""', 'reason=""', "user=ann", "set=?*"):
        assert not means(text, other)


def test_every_field_has_a_test() -> None:
    """Of what it is in a job: that table above."""
    tested = set(re.findall(r"[a-z]+(?=[=<>!])", " ".join(text for text, _ in OF_EACH_FIELD)))
    assert tested | {"state", "code", "signal"} == set(FIELDS)


def test_what_was_not_read_is_not_guessed() -> None:
    """Neither an expression nor its negation means a job of which too little is known."""
    named = Facts("17", RUNNING, "n1", "ann", NOW_NS)
    asked = named._replace(job=Job(("x",), jobname="fit", set="s", submitted_ns=1))
    for text, needs in [
        ("state=running", Needs.NAME), ("id=17 & user=ann", Needs.NAME), ("*", Needs.NAME),
        ("name=fit", Needs.RECORD), ("set=s | age>0", Needs.JOB),
        ("cores>=1", Needs.RECORD), ("!code=3", Needs.RECORD),
        ("reason=exit & name=fit", Needs.RECORD), ("state=code=3", Needs.RECORD),
    ]:  # fmt: skip
        expression = parse(text)
        assert expression.needs == needs
        if "state=code" not in text:
            assert (expression.verdict(named) is None) == (needs > Needs.NAME)
            assert (expression.verdict(asked) is None) == (needs > Needs.JOB)
        if needs > Needs.NAME and "state" not in text:
            assert not expression.matches(named)
            assert not parse(f"!({text})").matches(named)
    # What is known decides where it can.
    assert parse("state=waiting & name=fit").verdict(named) is False
    assert parse("state=running | name=fit").verdict(named) is True
    assert parse("node=n1").verdict(named) is True
    assert parse("state=code=3").verdict(named) is False


# ---------------------------------------------------------------- patterns


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=8))
def test_a_pattern_means_what_an_independent_one_means(glob: str, text: str) -> None:
    told = re.compile(
        "".join(".*" if char == "*" else "." if char == "?" else char for char in glob), re.DOTALL
    )
    assert pattern(glob).matches(text) == (told.fullmatch(text) is not None)


@given(st.text(max_size=20))
def test_a_literal_means_itself_alone(text: str) -> None:
    assert literal(text).matches(text)
    assert not literal(text).matches(text + "x")
    assert parse(f"name={literal(text)}") == Compare("name", "=", literal(text))


def test_a_pattern_of_many_stars_takes_no_time() -> None:
    """Ten thousand characters against fifty stars: a matcher that goes back would not come back."""
    assert not pattern("*a" * 50 + "*b").matches("a" * 10_000)


# ---------------------------------------------------------------- properties

_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
_ids = st.one_of(
    st.integers(0, 99).map(str),
    st.tuples(st.integers(0, 50), st.integers(0, 50)).map(lambda pair: f"{min(pair)}-{max(pair)}"),
    st.integers(0, 99).map(lambda number: f"17_{number}"),
    st.just("17_[0-9:2,12]"),
).map(ranges.parse)
_order = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
_same = st.sampled_from(["=", "!="])
_texts_of = st.sampled_from(["name", "set", "array", "node", "user", "reason"])
_numbers_of = st.sampled_from(["code", "attempt", "gpus", "priority", "cores"])
_eighths = st.integers(0, 10**9).map(lambda number: number / 8)
_leaves: st.SearchStrategy[Expression] = st.one_of(
    st.just(Every()),
    st.builds(Compare, st.just("id"), _same, _ids),
    st.builds(Compare, st.just("state"), _same, st.sampled_from(sorted(STATE_WORDS))),
    st.builds(Compare, _texts_of, _same, _texts.map(pattern)),
    st.builds(Compare, _numbers_of, _order, st.integers(-9, 99)),
    st.builds(Compare, st.sampled_from(["age", "ran", "waited"]), _order, _eighths),
    st.builds(Compare, st.just("mem"), _order, st.integers(0, 1 << 50)),
    st.builds(Compare, st.just("signal"), _order, st.sampled_from(sorted(SIGNALS.values()))),
    st.builds(EndedWith, st.integers(-15, 99)),
)  # fmt: skip


def _parts(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[tuple[Expression, ...]]:
    return st.lists(inner, min_size=2, max_size=3).map(tuple)


expressions: st.SearchStrategy[Expression] = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.builds(Not, inner), st.builds(All, _parts(inner)), st.builds(Either, _parts(inner))
    ),
    max_leaves=8,
)


@given(expressions)
def test_what_is_printed_is_read_as_the_same(expression: Expression) -> None:
    assert parse(str(expression)) == expression


#: Three atoms of which every combination of truths has a job.
_ATOMS = {"a": "state=running", "b": "name=fit", "c": "cores>=4"}


def _reference(tokens: list[str], truth: dict[str, bool]) -> bool:
    """By another way than the parser's: the operators in turn, from the one that binds most."""
    words: list[bool | str] = [truth.get(token, token) for token in tokens]
    while "(" in words:
        begin = max(place for place, word in enumerate(words) if word == "(")
        end = words.index(")", begin)
        words[begin : end + 1] = [_flat(words[begin + 1 : end])]
    return _flat(words)


def _flat(words: list[bool | str]) -> bool:
    text = " ".join("1" if word is True else "0" if word is False else str(word) for word in words)
    for left, right in (
        (r"! ([01])", lambda found: "0" if found[1] == "1" else "1"),
        (r"([01]) & ([01])", lambda found: str(int(found[1]) & int(found[2]))),
        (r"([01]) \| ([01])", lambda found: str(int(found[1]) | int(found[2]))),
    ):
        while re.search(left, text):
            text = (
                re.sub(left, right, text, count=1)
                if left[0] != "!"
                else re.sub(r"! ([01])(?!.*! [01])", right, text)
            )
    return text == "1"


_tokens: st.SearchStrategy[list[str]] = st.recursive(
    st.sampled_from(sorted(_ATOMS)).map(lambda atom: [atom]),
    lambda inner: st.one_of(
        inner.map(lambda some: ["!", *some] if len(some) == 1 or some[0] in "(!" else ["!", "(", *some, ")"]),
        inner.map(lambda some: ["(", *some, ")"]),
        st.tuples(inner, st.sampled_from("&|"), inner).map(lambda three: [*three[0], three[1], *three[2]]),
    ),
    max_leaves=7,
)


@given(_tokens, st.booleans())
def test_precedence_is_that_of_an_independent_evaluator(tokens: list[str], in_words: bool) -> None:
    words = {"!": "not ", "&": " and ", "|": " or "} if in_words else {}
    text = "".join(_ATOMS.get(token, words.get(token, token)) for token in tokens)
    for a, b, c in itertools.product((True, False), repeat=3):
        of = facts(
            RUNNING if a else WAITING, job_jobname="fit" if b else "other", job_cores=4 if c else 1, node=None
        )
        assert means(text, of) == _reference(tokens, {"a": a, "b": b, "c": c}), text


VALID = [
    'name="my-job" or name="my-other-job"',
    "state=running & !(id=17,20-25 | code=-9)",
    'not set="a \\"b\\" *" and age>1h30m and cores>=4 or *',
    "state=code=3|!!array=17&mem<4G",
]


def read(text: str) -> tuple[Expression | None, UsageError | None]:
    """What a text is read as, or why not."""
    try:
        return parse(text), None
    except UsageError as error:
        return None, error


def whole_or_pointed(text: str) -> None:
    """Whether it is understood, or refused with a column in it and two lines to show."""
    found, error = read(text)
    if found is None:
        told = re.match(r"expression, column (\d+): ", str(error))
        assert told is not None, text
        assert 1 <= int(told[1]) <= len(text) + 1, text
        assert isinstance(error, UsageError)
        assert len(error.lines) == 2
        assert error.lines[1].strip() == "^"
        assert error.hint
        return
    # Nothing of it was left out: what it says again is as much.
    again = re.sub(r"[\s()]", "", str(found))
    assert parse(str(found)) == found
    assert len(re.findall(r"[&|]", re.sub(r'"(?:\\.|[^"\\])*"', "", again))) == len(
        re.findall(
            r"[&|]|\b(?:and|or)\b", re.sub(r'"(?:\\.|[^"\\])*"|=\s*(?:and|or)\b', "", text), re.IGNORECASE
        )
    ), text


@pytest.mark.parametrize("text", VALID)
def test_every_truncation_is_whole_or_an_error(text: str) -> None:
    for end in range(len(text) + 1):
        whole_or_pointed(text[:end])
        whole_or_pointed(text[end:])


@pytest.mark.parametrize("text", VALID)
def test_every_corruption_by_one_sign_is_whole_or_an_error(text: str) -> None:
    for place, sign in itertools.product(range(len(text) + 1), "\"'\\()!&|=<>* x1,_-[]%\t\x00é"):
        whole_or_pointed(text[:place] + sign + text[place:])
        whole_or_pointed(text[:place] + sign + text[place + 1 :])


@given(
    st.lists(
        st.sampled_from([*"\"'\\()!&|=<>* ,", " and ", "not", "id=1", "name=", "state=", "code", '"a"', "x"]),
        max_size=9,
    )
)
def test_any_text_is_whole_or_an_error(parts: list[str]) -> None:
    whole_or_pointed("".join(parts))


@given(st.text(max_size=30))
def test_no_text_is_an_accident(text: str) -> None:
    whole_or_pointed(text)


def test_a_long_expression_is_read_at_once() -> None:
    """As a script may make it; nothing is read twice."""
    text = " | ".join(f"id={number}" for number in range(5000))
    found = parse(text)
    assert isinstance(found, Either)
    assert len(found.parts) == 5000
    assert parse("!" * 99 + "*") != parse("*")


def test_an_expression_never_changes() -> None:
    expression = parse("name=fit")
    with pytest.raises(AttributeError):
        expression.field = "id"  # type: ignore[attr-defined]
    assert hash(expression) == hash(replace(expression))  # type: ignore[type-var]


@pytest.mark.parametrize(
    ("word", "is_one"),
    [
        ("*", True), ("!x", True), ("not id=1", True), ("id=1", True), ("nmae=1", True), ("(fit)", True),
        ('"fit"', True), ("* & id=1", True), ("* and id=1", True), ("age>1h", True), (" id = 1", True),
        ("fit", False), ("17", False), ("17-20", False), ("fit*", False), ("*fit", False), ("%set", False),
        ("sleep 60", False), ("python a.py --x=3", False), ("sh -c 'a | b'", False), ("notes", False),
        ("not a name", False), ("last", False), ("", False), ("a-b=c", False),
    ],
)  # fmt: skip
def test_a_word_is_an_expression_if_it_begins_as_one(word: str, is_one: bool) -> None:
    assert match.is_meant(word) is is_one


def test_tasks_of_an_array_are_told_by_their_ids() -> None:
    job = Job(("x",), array=Array("17", 3, 0, 9, 1, 10))
    of = Facts("17_3", WAITING, None, "ann", NOW_NS, job, Record(job))
    assert means("id=17_[0-3] & array=17 & id=17", of)
    assert not means("id=17_[4-9] | array=1", of)
