"""Promises about sums over ended jobs: they are those of arithmetic, and what is not known is left out."""

from __future__ import annotations

import statistics
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roundq.words import report
from roundq.words.job import NO_NODE, NS, Attempt, Job, Record
from roundq.words.report import Ended, Figures
from roundq.words.states import CANCELED, COMPLETED, ENDED_STATES, FAILED, ZOMBIE
from tests.words.test_job import records

quick = settings(max_examples=100, deadline=None)
ended_jobs = st.lists(
    st.builds(
        Ended,
        id=st.integers(0, 99).map(str),
        user=st.sampled_from(["ann", "bob"]),
        state=st.sampled_from(ENDED_STATES),
        record=records,
    ),
    max_size=8,
)


def day(ns: int) -> str:
    return f"day {ns // (86_400 * NS)}"


def job(
    *,
    name: str = "fit",
    state: str = COMPLETED,
    waited: int = 0,
    ran: int = 10,
    cores: int = 1,
    cpu: float | None = None,
    memory: float | None = None,
    asked: int = 0,
    **facts: object,
) -> Ended:
    usage = {"cpu_s": cpu, "memory_bytes": memory}
    record = Record(
        Job(("x",), jobname=name, submitted_ns=100 * NS, memory_required=asked),
        started_ns=(100 + waited) * NS,
        completed_ns=(100 + waited + ran) * NS,
        cores=cores,
        usage={key: value for key, value in usage.items() if value is not None},
        **facts,  # type: ignore[arg-type]
    )
    return Ended("1", "ann", state, record)


def test_efficiency_is_processor_time_by_core_seconds() -> None:
    """Weighted by what they had: an idle hour on many cores is not outweighed by many short jobs."""
    found = report.report([job(ran=10, cores=4, cpu=20.0), job(ran=60, cpu=60.0), job(cores=9)], "name", day)
    assert found.total.efficiency == 80.0 / 100.0
    assert found.total.idle_core_s == 20.0
    assert found.total.core_s == 40 + 60 + 90
    assert report.efficiency(job(ran=10, cores=4, cpu=20.0).record) == 0.5
    assert report.efficiency(job().record) is None
    assert report.efficiency(job(ran=0, cpu=1.0).record) is None


def test_memory_is_counted_of_those_that_asked_for_it() -> None:
    """What others used tells nothing of what was asked for; the largest of all is told."""
    found = report.report([job(memory=3e9, asked=4_000_000_000), job(memory=5e9), job(asked=7)], "name", day)
    assert found.total.memory == 0.75
    assert found.total.memory_most == 5e9


def test_a_wait_is_that_for_the_first_start() -> None:
    """From the submission, or from when it might begin; one that never began did not wait for a start."""
    assert report.wait_s(job(waited=7).record) == 7
    first = Attempt(1, "n", None, 105 * NS, 106 * NS)
    again = job(waited=70, attempts=(first,)).record
    assert report.wait_s(again) == 5
    canceled = Attempt(1, NO_NODE, None, 0, 103 * NS, "canceled")
    assert report.wait_s(job(waited=70, attempts=(canceled,)).record) == 70
    assert report.wait_s(job(waited=70, attempts=(canceled, replace(first, number=2))).record) == 5
    # The first hundreds are not told of any more.
    assert report.wait_s(job(waited=70, attempts=(replace(first, number=7),)).record) is None
    later = Record(Job(("x",), submitted_ns=NS, begin_ns=50 * NS), started_ns=52 * NS)
    assert report.wait_s(later) == 2
    assert report.wait_s(Record(Job(("x",), submitted_ns=NS), completed_ns=5)) is None


def test_95_percent_did_not_wait_longer() -> None:
    assert report.percentile(list(range(1, 21)), 0.95) == 19
    assert report.percentile([3.0], 0.95) == 3.0
    assert report.percentile([], 0.95) is None


@pytest.mark.parametrize(
    ("ended", "reason"),
    [
        (job(state=FAILED, exit_code=3), "exit 3"),
        (job(state=FAILED, exit_code=3, reason="exit"), "exit 3"),
        (job(state=FAILED, signal=9, reason="signal"), "signal 9"),
        (job(state=FAILED, reason="time limit", signal=15), "time limit"),
        (job(state=FAILED), "unknown"),
        (job(state=ZOMBIE, reason="rebooted"), "rebooted"),
        (job(state=ZOMBIE), "lost"),
        (job(state=CANCELED, reason="canceled"), ""),
        (job(exit_code=0), ""),
    ],
)
def test_why_a_job_failed_is_one_of_few_classes(ended: Ended, reason: str) -> None:
    """The exit codes apart, since they tell what happened."""
    assert report.reason_of(ended) == reason


def test_groups_come_by_what_they_had_and_days_by_their_order() -> None:
    jobs = [job(name="a", ran=1), job(name="b", ran=86_400 * 2), job(name="a", ran=5)]
    assert list(report.report(jobs, "name", day).groups) == ["b", "a"]
    assert list(report.report(jobs, "day", day).groups) == ["day 0", "day 2"]
    assert [figures.jobs for figures in report.report(jobs, "name", day).groups.values()] == [1, 2]
    assert list(report.report(jobs, "set", day).groups) == [""]


@quick
@given(ended_jobs, st.sampled_from(report.BY))
def test_the_groups_make_up_the_whole(jobs: list[Ended], by: str) -> None:
    """Every job is in one group, whatever its record says."""
    found = report.report(jobs, by, day)
    assert found.total.jobs == len(jobs) == sum(one.jobs for one in found.groups.values())
    assert sum((one.states for one in found.groups.values()), start=type(found.total.states)()) == (
        found.total.states
    )
    assert found.total.failed == sum(one.failed for one in found.groups.values())
    waits = sorted(wait for one in found.groups.values() for wait in one.waits_s)
    assert waits == sorted(found.total.waits_s)
    part = report.succeeded(found.total)
    assert part is None or 0 <= part <= 1


@quick
@given(st.lists(st.floats(0, 1e9) | st.none(), max_size=30))
def test_a_spread_is_that_of_the_known_ones(values: list[float | None]) -> None:
    known = [value for value in values if value is not None]
    found = report.spread(values)
    assert (found is None) is (not known)
    if found is not None:
        assert (found.least, found.most) == (min(known), max(known))
        assert found.middle == pytest.approx(statistics.median(known))


@quick
@given(
    st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 1000), st.integers(1, 9)), max_size=10),
    st.integers(0, 500),
    st.integers(1, 500),
    st.integers(1, 40),
)
def test_a_timeline_has_the_core_seconds_of_its_time(
    given_spans: list[tuple[int, int, int]], since: int, length: int, count: int
) -> None:
    """No more and no less, however its parts are cut."""
    spans = [(begin, end, cores, f"g{cores % 2}") for begin, end, cores in given_spans]
    lines = report.timeline(spans, since, since + length, count)
    for group in ("g0", "g1"):
        expected = sum(
            cores * max(0, min(end, since + length) - max(begin, since))
            for begin, end, cores, own in spans
            if own == group
        )
        assert sum(lines.get(group, [])) * length / count == pytest.approx(expected, abs=1e-6)


@quick
@given(st.lists(st.floats(0, 1e7)))
def test_every_wait_is_in_one_class(waits: list[float]) -> None:
    counts = report.wait_classes(waits)
    assert sum(counts) == len(waits)
    assert counts[0] == sum(wait < 1 for wait in waits)
    assert counts[-1] == sum(wait >= 86_400 for wait in waits)


def test_nothing_has_no_figures() -> None:
    """And no division by it."""
    empty = Figures()
    assert (empty.efficiency, empty.memory, empty.wait_mean_s, empty.wait_p95_s) == (None,) * 4
    assert report.succeeded(empty) is None
    assert report.timeline([(0, 5, 1, "x")], 7, 7, 3) == {}
