"""Promises about names of output files: what may be filled in, and that all else stays as it is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundq.words import outputs
from roundq.words.job import Array, Job
from roundq.words.outputs import Facts

JOB = Job(("/usr/bin/fit", "-n", "3"), jobname="my fit")
TASK = replace(JOB, array=Array("17", 3, 0, 99, 1, 100))
FACTS = Facts("17_3", "ann", "n1.example", 2)


@pytest.mark.parametrize(
    ("name", "job", "is_"),
    [
        ("out", TASK, "out"),
        ("%j.out", TASK, "17_3.out"),
        ("%A/%a.log", TASK, "17/3.log"),
        ("%4a-%2A-%5j", TASK, "0003-17-17_3"),
        ("%x.%N.%u.%r", TASK, "my fit.n1.example.ann.2"),
        ("%%a %%%a", TASK, "%a %3"),
        ("100%.out %b %", TASK, "100%.out %b %"),
        ("%123a", TASK, "%123a"),
        ("%j %A %a", JOB, "17_3 17_3 0"),
        ("%x", replace(JOB, jobname=""), "fit"),
        ("%x", replace(JOB, jobname="../a/b"), ".._a_b"),
    ],
)
def test_what_is_filled_in(name: str, job: Job, is_: str) -> None:
    """What a name or an id holds leads to no other directory."""
    assert outputs.filled(name, job, FACTS) == is_


def test_before_it_begins_nobody_knows_the_node() -> None:
    assert outputs.filled("%N-%r", JOB, Facts("5", "ann")) == "%N-0"


@given(st.text(max_size=20))
def test_a_name_can_always_be_taken_as_it_is(name: str) -> None:
    assert outputs.filled(outputs.escaped(name), TASK, FACTS) == name
    if "%" not in name:
        assert outputs.filled(name, TASK, FACTS) == name


@pytest.mark.parametrize(
    ("name", "is_shared"),
    [("out", True), ("%x-%%j", True), ("%j", False), ("%3a", False), ("%N", False), ("%u", False)],
)
def test_what_is_known_before_there_is_an_id(name: str, is_shared: bool) -> None:
    assert outputs.is_shared(name) is is_shared
