"""Promises about what a worker takes: what its words mean of what waits, and what they will mean later."""

from __future__ import annotations

import pytest

from roundq.words.errors import UsageError
from roundq.words.intake import Intake, intake
from roundq.words.job import NS, Array, Job, Record

NOW_NS = 1_790_000_000 * NS
FIT = Job(("true",), jobname="fit", set="big", cores=2, submitted_ns=NOW_NS - 60 * NS)


def takes(one: Intake, job_id: str = "17", job: Job = FIT) -> bool:
    return one.takes(job_id, Record(job), "ann", NOW_NS)


@pytest.mark.parametrize(
    ("words", "is_taken"),
    [
        ("", True),
        ("17", True),
        ("16", False),
        ("10-20", True),
        ("10-16,18", False),
        ("fit", True),
        ("fi", False),
        ("%big", True),
        ("%small", False),
        ("name=fit", True),
        ("cores>2", False),
        ("cores>=2 & name=f*", True),
        ("state=waiting", True),
        ("age>30s", True),
        ("age>2m", False),
        ("16 fit", True),
        ("16 other", False),
    ],
)
def test_words_mean_what_they_mean_to_every_command(words: str, is_taken: bool) -> None:
    """One of them is enough; without any all is taken."""
    of = words.split() if " & " not in words else [words]
    assert takes(intake(of)) is is_taken


def test_a_set_and_words_hold_both() -> None:
    assert takes(intake(["fit"], of_set="big"))
    assert not takes(intake(["fit"], of_set="small"))
    assert not takes(intake(["other"], of_set="big"))
    assert takes(intake([], of_set="big"))


def test_an_array_is_meant_by_its_id_and_a_task_by_its_own() -> None:
    task = Job(("true",), array=Array("17", 3, 0, 9, 1, 10))
    assert takes(intake(["17"]), "17_3", task)
    assert takes(intake(["17_[0-4]"]), "17_3", task)
    assert not takes(intake(["17_[4-9]"]), "17_3", task)


def test_what_is_last_now_is_meant_for_good() -> None:
    """As the ids that were looked up when it was told; nothing that is submitted later."""
    one = intake(["last"], ids=["17"])
    assert takes(one, "17")
    assert not takes(one, "18")


def test_a_name_that_looks_like_ids_is_a_name_too() -> None:
    assert takes(intake(["2024"]), "17", Job(("true",), jobname="2024"))


def test_a_word_that_is_wrong_is_refused_unless_it_is_an_id() -> None:
    with pytest.raises(UsageError):
        intake(["name=="])
    assert takes(intake(["name=="], ids=["name=="]), "name==")


def test_it_knows_what_tells_tasks_of_an_array_apart_and_what_the_time_changes() -> None:
    assert intake([], of_set="big").is_of_arrays
    assert not intake(["fit"]).is_of_arrays
    assert intake(["age>1h"]).is_of_time
    assert not intake(["name=fit", "17"]).is_of_time


@pytest.mark.parametrize(
    ("one", "text"),
    [
        (intake([]), "all jobs"),
        (intake([], cores=4), "all jobs, on 4 cores"),
        (intake([], of_set="big"), "jobs of set big"),
        (intake(["17"], of_set="big", cores=1), "jobs of set big that 17 means, on 1 core"),
        (intake(["fit", "name=\x1b"]), "jobs that fit name=\\x1b mean"),
    ],
)
def test_its_text_for_cards_and_people(one: Intake, text: str) -> None:
    assert one.card_text == text
