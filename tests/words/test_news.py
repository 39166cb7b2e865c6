"""Promises about news: what is asked for comes back, and a mail has the header that we wrote and no other."""

from __future__ import annotations

import email
import email.policy
import json
import shlex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roundq.words import news
from roundq.words.errors import RecordError, UsageError
from roundq.words.news import News, Outcome
from roundq.words.states import ENDED_STATES

quick = settings(max_examples=150, deadline=None)
#: Anything that a name, a sentence or a command may hold.
hostile = st.text(max_size=300) | st.sampled_from(
    ["a\nBcc: eve@example.org", "a\r\n\r\nbody", "é" * 200, "=?utf-8?B?eA==?=", "\udcff", "x" * 5000, "\0"]
)
addresses = st.sampled_from(["ann", "ann@example.org", "a.b+c@x.y"])
told = st.builds(
    News,
    of=st.sampled_from(["17", "20", "%fit", "%é"]),
    tasks=st.integers(0, 9),
    name=hostile,
    on_end=st.lists(
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), max_size=3
    ).map(tuple),
    mail=st.lists(addresses, max_size=3).map(tuple),
    directory=st.text(st.characters(exclude_characters="\0")),
    environment=st.none() | st.just("0" * 64),
)
outcomes = st.builds(
    Outcome,
    is_well=st.booleans(),
    counts=st.dictionaries(st.sampled_from(ENDED_STATES), st.integers(0, 10**6)),
    state=st.sampled_from(["", *ENDED_STATES]),
    exit_code=st.none() | st.integers(-1, 255),
    signal=st.none() | st.integers(1, 64),
    reason=st.none() | hostile,
    sentence=hostile,
    facts=st.lists(st.tuples(st.sampled_from(["node", "command"]), hostile), max_size=3),
)


@quick
@given(told)
def test_what_is_asked_for_comes_back(asked: News) -> None:
    assert news.parse(news.dump(asked)) == asked


@quick
@given(st.binary(max_size=80) | st.sampled_from([b"{}", b"[]", b"null", b'{"news":2}', b'{"news":1,"of":1}']))
def test_anything_else_asks_nothing(data: bytes) -> None:
    with pytest.raises(RecordError):
        news.parse(data)


@pytest.mark.parametrize(
    "wrong", ["Infinity", "-Infinity", "NaN", "1e999", "2.5", "-1", '"3"', "true", "null"]
)
def test_what_is_no_number_of_tasks_asks_nothing(wrong: str) -> None:
    """Every daemon of a user reads such a file in each round: an error of another kind would end them all."""
    text = news.dump(News("17", tasks=123456789)).replace(b"123456789", wrong.encode())
    with pytest.raises(RecordError):
        news.parse(text)


@pytest.mark.parametrize("field", ["of", "name", "directory", "on_end"])
def test_a_text_that_nothing_can_be_called_asks_nothing(field: str) -> None:
    """Half of a character of UTF-16: who tells would fail at it, and tell nobody of the rest either."""
    asked = News("some17", name="some17", on_end=("some17",), directory="some17")
    value = json.loads(news.dump(asked))
    value[field] = ["\ud800"] if field == "on_end" else "\ud800"
    with pytest.raises(RecordError):
        news.parse(json.dumps(value).encode())


@quick
@given(told, outcomes, addresses)
def test_nobody_writes_a_header_but_we(asked: News, became: Outcome, address: str) -> None:
    """Names, reasons and commands are text in it, whatever they hold; and every reader of mail reads it."""
    data = news.message(asked, became, address)

    read = email.message_from_bytes(data, policy=email.policy.default)

    assert read.keys() == [
        "To",
        "Subject",
        "Auto-Submitted",
        "MIME-Version",
        "Content-Type",
        "Content-Transfer-Encoding",
    ]
    assert read["To"] == address
    assert str(read["Subject"]).startswith("[rq] ok: " if became.is_well else "[rq] not ok: ")
    assert read.get_content_type() == "text/plain"
    assert not read.defects
    assert max(map(len, data.split(b"\n"))) < 998
    data.partition(b"\n\n")[0].decode("ascii")


def test_a_mail_says_what_became_of_a_job() -> None:
    asked = News("17", name="fit", mail=("ann",))
    became = Outcome(
        False, {"failed": 1}, "failed", 3, sentence="failed: exit code 3", facts=[("node", "n1")]
    )
    assert news.message(asked, became, "ann@example.org").decode() == (
        "To: ann@example.org\n"
        'Subject: [rq] not ok: job 17 "fit": failed: exit code 3\n'
        "Auto-Submitted: auto-generated\n"
        "MIME-Version: 1.0\n"
        "Content-Type: text/plain; charset=utf-8\n"
        "Content-Transfer-Encoding: 8bit\n"
        "\n"
        'job 17 "fit": failed: exit code 3\n'
        "\n"
        "  node       n1\n"
    )


def test_an_array_and_a_set_are_told_by_their_counts() -> None:
    counts = {"completed": 1998, "failed": 2}
    assert news.sentence(News("20", 2000, "scan"), Outcome(False, counts)) == (
        'array 20 "scan": 1,998 completed, 2 failed'
    )
    assert news.sentence(News("%fit"), Outcome(False, {"zombie": 1})) == "set fit: 1 lost"
    assert news.sentence(News("%fit"), Outcome(True)) == "set fit: no jobs"


def test_a_command_finds_what_became_of_it() -> None:
    became = Outcome(False, {"failed": 1}, "failed", 3, None, "exit")
    assert news.variables(News("17", name="fit"), became) == {
        "RQ_JOB_ID": "17",
        "RQ_JOB_NAME": "fit",
        "RQ_JOB_STATE": "failed",
        "RQ_EXIT_CODE": "3",
        "RQ_REASON": "exit",
        "RQ_COMPLETED": "0",
        "RQ_FAILED": "1",
        "RQ_CANCELED": "0",
        "RQ_LOST": "0",
    }
    of_set = news.variables(News("%fit"), Outcome(True, {"completed": 3}))
    assert (of_set["RQ_SET"], of_set["RQ_JOB_STATE"], of_set["RQ_COMPLETED"]) == ("fit", "completed", "3")
    assert "RQ_JOB_ID" not in of_set


@pytest.mark.parametrize("text", ["ann", "ann@example.org", "a.b+c=d@x-y.z", "ann%host@relay"])
def test_an_address_is_taken(text: str) -> None:
    assert news.parse_address(text) == text


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "-f",
            "-oQ/tmp",
            "a b",
            "a,b@x",
            "a@x\nBcc: b@y",
            "a@x,b@y",
            "<a@x>",
            "a@",
            "@x",
            "a@-x",
            "é@x",
        ),
        *("a..b@x", "a" * 300, "|/bin/sh", "a@x;b", '"a"@x', "a@x:", "a\0"),
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    """Nor what is two, an option, or a line of the header."""
    with pytest.raises(UsageError, match="is not a mail address"):
        news.parse_address(text)


@quick
@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1))
def test_a_command_is_split_as_a_shell_does_it(words: list[str]) -> None:
    assert news.parse_command(shlex.join(words)) == tuple(words)


@pytest.mark.parametrize("text", ["", "  ", "echo 'x", "a\0b", "\udcff"])
def test_what_is_no_command_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        news.parse_command(text)
