"""Retries: which ends are followed by another attempt, and when."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roundq.words import retries
from roundq.words.errors import UsageError
from roundq.words.job import NS, Job, Record
from roundq.words.states import REASONS

ENDED_NS = 1_800_000_000 * NS
#: Ends that are no failures of the command, or that somebody asked for.
NEVER = {"canceled", "dependency", "max fails", "restarted", "preempted", "lease"}
LOST = {"lost", "rebooted"}


def ended(reason: str | None, *, retried: int = 0, code: int | None = None, **job: object) -> Record:
    made = Job(("true",), **{"retries": 3, **job})  # type: ignore[arg-type]
    return Record(made, started_ns=1, reason=reason, exit_code=code, retried=retried, attempt=retried + 1)


@pytest.mark.parametrize("reason", REASONS)
def test_without_a_word_every_failure_of_which_the_end_is_known_is_retried(reason: str) -> None:
    expected = None if reason in NEVER | LOST else 0
    assert retries.again(ended(reason, code=1 if reason == "exit" else None), ENDED_NS) == expected


@pytest.mark.parametrize("reason", sorted(NEVER))
@pytest.mark.parametrize("word", retries.ENDS)
def test_no_word_has_a_cancel_retried(reason: str, word: str) -> None:
    assert retries.again(ended(reason, retry_on=(word,)), ENDED_NS) is None


def test_every_end_that_can_be_retried_has_a_word() -> None:
    assert set().union(*retries.ENDS.values()) == set(REASONS) - NEVER


def test_what_ended_well_is_not_retried() -> None:
    assert retries.again(ended(None, code=0), ENDED_NS) is None


def test_a_job_that_asked_for_no_retries_has_none() -> None:
    assert retries.again(ended("exit", code=1, retries=0), ENDED_NS) is None


def test_with_codes_only_these_are_retried() -> None:
    for code in (1, 3, 75):
        again = retries.again(ended("exit", code=code, retry_on=("3", "75")), ENDED_NS)
        assert again == (None if code == 1 else 0)
    # The number of a signal is no exit code.
    assert retries.again(ended("signal", retry_on=("9",)), ENDED_NS) is None


def test_what_is_lost_is_retried_where_that_is_named_and_only_then() -> None:
    for reason in LOST:
        assert retries.again(ended(reason, retry_on=("lost",)), ENDED_NS) == 0
        assert retries.again(ended(reason, retry_on=("exit",)), ENDED_NS) is None


@settings(deadline=None)
@given(st.integers(0, 1_000_000), st.integers(0, 1_000_000), st.floats(0.001, 10 * 86_400))
def test_a_wait_doubles_up_to_a_day_and_the_retries_come_to_an_end(
    retried: int, most: int, backoff_s: float
) -> None:
    record = ended("exit", code=1, retried=retried, retries=most, backoff_s=backoff_s)
    again = retries.again(record, ENDED_NS)
    if retried >= most:
        assert again is None
        return
    assert again is not None
    expected_s = min(backoff_s * 2 ** min(retried, 100), 86_400.0)
    assert again - ENDED_NS == pytest.approx(expected_s * NS, rel=1e-6)


def test_the_next_attempt_keeps_the_last_and_says_how_often_and_when() -> None:
    record = replace(ended("exit", code=3, retried=1, backoff_s=30.0), detail="exit code 3", node="n1")
    waits = retries.retried(record, ENDED_NS)
    assert waits is not None
    assert (waits.attempt, waits.retried, waits.process) == (3, 2, None)
    assert waits.not_before_ns == ENDED_NS + 60 * NS
    assert (waits.attempts[-1].exit_code, waits.attempts[-1].detail) == (3, "exit code 3")
    assert retries.retried(replace(record, retried=3), ENDED_NS) is None


def test_a_restart_uses_no_retry_up_and_a_rerun_begins_to_count_anew() -> None:
    record = ended("exit", code=3, retried=2)
    assert record.next_attempt(ENDED_NS, "preempted").retried == 2
    assert replace(record, completed_ns=ENDED_NS).unbegun().retried == 0
    # Claimed, and given back.
    assert replace(record, reason=None).unbegun().retried == 2


TOLD = {
    (0, 0, 1): "attempt 1",
    (0, 0, 3): "attempt 3",
    (3, 0, 1): "attempt 1 of 4",
    (3, 2, 3): "attempt 3 of 4",
    (3, 1, 5): "attempt 5, retry 1 of 3",
}


@pytest.mark.parametrize("numbers", TOLD)
def test_the_log_tells_which_attempt_of_how_many(numbers: tuple[int, int, int]) -> None:
    most, retried, attempt = numbers
    record = replace(ended("exit", retried=retried, retries=most), attempt=attempt)
    assert retries.attempt_text(record) == TOLD[numbers]


# ---------------------------------------------------------------- words


def test_words_of_ends_are_codes_and_names() -> None:
    assert retries.parse_retry_on("3, 075,SIGNAL,lost,3") == ("3", "75", "signal", "lost")


@pytest.mark.parametrize(
    ("text", "why"),
    {
        "0": "it is no failure",
        "256": "it is no end of a job",
        "-1": "it is no end of a job",
        "failure": "it is no end of a job",
        "": "it is no end of a job",
        "3,,4": "it is no end of a job",
        "9" * 5000: "it is no end of a job",
        "\x1b[2J": "it is no end of a job",
    }.items(),
)
def test_what_is_no_end_is_refused(text: str, why: str) -> None:
    with pytest.raises(UsageError) as caught:
        retries.parse_retry_on(text)
    assert str(caught.value).endswith(f": {why}")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("text", ["", "-1", "1.5", "x", "1000001", "9" * 5000, "\u0663"])
def test_what_is_no_number_of_retries_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a whole number"):
        retries.parse_retries(text)


def test_a_number_of_retries_is_read() -> None:
    assert [retries.parse_retries(text) for text in ("0", "3", "007", "1000000")] == [0, 3, 7, 1_000_000]
