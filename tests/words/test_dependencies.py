"""What holds a job: the decision and its sentence are one value."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roundq.words import dependencies
from roundq.words.dependencies import (
    Conditions,
    OnHold,
    Pending,
    Released,
    Standing,
    Target,
    Unmet,
    decide,
    standing,
)
from roundq.words.job import NS, Dependency, Job, Record
from roundq.words.states import (
    CANCELED,
    CLAIMED,
    COMPLETED,
    ENDED_STATES,
    FAILED,
    HELD,
    RUNNING,
    STATES,
    WAITING,
    ZOMBIE,
)

NOW_NS = 1_795_285_800 * NS
quick = settings(max_examples=200, deadline=None)
hows = st.sampled_from(["ok", "any", "fail"])


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def model(how: str, ends: list[str | None]) -> Standing:
    """How far a dependency is on tasks that ended so, None of those that have not: said in other words."""
    left = ends.count(None)
    well = ends.count(COMPLETED)
    if how == "any":
        return Standing.OPEN if left else Standing.MET
    if how == "ok":
        if well + left < len(ends):
            return Standing.NEVER
        return Standing.OPEN if left else Standing.MET
    if left:
        return Standing.OPEN
    return Standing.NEVER if well == len(ends) else Standing.MET


@quick
@given(hows, st.lists(st.none() | st.sampled_from(ENDED_STATES), min_size=1, max_size=6), st.booleans())
def test_a_dependency_is_as_far_as_its_tasks(how: str, ends: list[str | None], is_array: bool) -> None:
    ends = ends if is_array else ends[:1]
    counts = {state: ends.count(state) for state in ENDED_STATES}
    found = standing(Dependency(how, "1", len(ends) if is_array else 0), Target(counts))
    assert found is model(how, ends)


@quick
@given(hows, st.lists(st.none() | st.sampled_from(ENDED_STATES), min_size=1, max_size=6))
def test_what_is_gone_is_waited_for_no_longer(how: str, ends: list[str | None]) -> None:
    counts = {state: ends.count(state) for state in ENDED_STATES}
    found = standing(Dependency(how, "1", len(ends)), Target(counts, gone=True))
    assert found is (model(how, ends) if model(how, ends) is not Standing.OPEN else Standing.NEVER)


dependency = st.builds(Dependency, hows, st.sampled_from("123"), st.just(0))
targets = st.fixed_dictionaries({job: st.sampled_from(STATES) for job in "123"})


@quick
@given(
    st.lists(dependency, max_size=4).map(tuple),
    targets,
    st.integers(-2, 2),
    st.integers(-2, 2),
    st.booleans(),
    st.booleans(),
)
def test_a_job_is_released_when_all_has_come_and_at_no_other_time(
    after: tuple[Dependency, ...],
    where: dict[str, str],
    begin_s: int,
    retry_s: int,
    is_kept: bool,
    is_on_hold: bool,
) -> None:
    when = Conditions(after, NOW_NS + begin_s * NS, NOW_NS + retry_s * NS, is_kept)
    found = decide("9", when, lambda one: Target({where[one.job]: 1}), NOW_NS, is_on_hold=is_on_hold)
    ends = [model(one.how, [where[one.job] if where[one.job] in ENDED_STATES else None]) for one in after]
    if is_on_hold:
        assert isinstance(found, OnHold)
    elif Standing.NEVER in ends:
        assert isinstance(found, Unmet)
        assert found.keep_held == is_kept
    elif Standing.OPEN in ends or begin_s > 0 or retry_s > 0:
        assert isinstance(found, Pending)
    else:
        assert isinstance(found, Released)
    # It says something that a terminal can show, whatever it is.
    assert found.text
    assert found.text.isprintable()


def told(
    *after: Dependency, begin_s: float = 0, retry_s: float = 0, kept: bool = False, **where: Target
) -> str:
    when = Conditions(
        after,
        round(NOW_NS + begin_s * NS) if begin_s else 0,
        NOW_NS + round(retry_s * NS) if retry_s else 0,
        kept,
    )
    return decide("17", when, lambda one: where[f"j{one.job}"], NOW_NS).text


def at(state: str) -> Target:
    return Target({state: 1})


def ok(job: str, tasks: int = 0) -> Dependency:
    return Dependency("ok", job, tasks)


def test_what_is_waited_for_is_told() -> None:
    assert told(ok("12"), j12=at(RUNNING)) == "waits for 12 (running)"
    tasks = Target({COMPLETED: 7, RUNNING: 1, WAITING: 2})
    assert told(ok("12"), ok("17", 10), j12=at(RUNNING), j17=tasks) == (
        "waits for 12 (running) and for 3 of 10 tasks of 17"
    )
    assert told(
        Dependency("any", "3"), Dependency("fail", "4"), ok("5"), j3=at(HELD), j4=at(CLAIMED), j5=at(WAITING)
    ) == ("waits for the end of 3 (held), for a failure of 4 (claimed) and for 5 (waiting)")
    assert told(ok("3"), j3=Target({})) == "waits for 3"


def test_of_many_that_are_waited_for_the_first_are_told() -> None:
    when = Conditions(tuple(ok(str(number)) for number in range(100)))
    assert decide("17", when, lambda _: at(WAITING), NOW_NS).text == (
        "waits for 0 (waiting), for 1 (waiting), for 2 (waiting), for 3 (waiting) and for 96 more"
    )


def test_a_time_is_told() -> None:
    assert told(begin_s=3 * 3600) == "begins at 21:30 (in 3 h)"
    assert told(retry_s=25) == "retries in 25 s"
    assert told(ok("12"), begin_s=3 * 3600, j12=at(RUNNING)) == (
        "waits for 12 (running); begins at 21:30 (in 3 h) at the earliest"
    )
    # What is past is not told.
    assert told(ok("12"), begin_s=-5, j12=at(RUNNING)) == "waits for 12 (running)"


NEVER = {
    "it was to run after job 12, which failed": (ok("12"), at(FAILED)),
    "it was to run after job 12, which was canceled": (ok("12"), at(CANCELED)),
    "it was to run after job 12, which is lost": (ok("12"), at(ZOMBIE)),
    "it was to run after job 12, of which nothing is known any more": (ok("12"), Target({}, gone=True)),
    "it was to run after the tasks of 12, of which 2 failed, 1 canceled": (
        ok("12", 10),
        Target({COMPLETED: 5, FAILED: 2, CANCELED: 1, RUNNING: 2}),
    ),
    "it was to run after the tasks of 12, of which nothing is known any more": (
        ok("12", 10),
        Target({COMPLETED: 5}, gone=True),
    ),
    "it was to run after a failure of job 12, which ended well": (Dependency("fail", "12"), at(COMPLETED)),
    "it was to run after a failure of the tasks of 12, and all ended well": (
        Dependency("fail", "12", 2),
        Target({COMPLETED: 2}),
    ),
}


@pytest.mark.parametrize("detail", NEVER)
def test_what_can_never_be_is_told_with_its_reason(detail: str) -> None:
    one, target = NEVER[detail]
    found = decide("17", Conditions((one,)), lambda _: target, NOW_NS)
    assert isinstance(found, Unmet)
    assert found.detail == detail
    assert found.text == f"it is canceled in a moment: {detail}"
    assert told(one, kept=True, j12=target) == f"stays held (--keep-held): {detail}"


def test_a_job_on_hold_says_how_it_is_released() -> None:
    found = decide("17", Conditions((ok("12"),)), lambda _: at(FAILED), NOW_NS, is_on_hold=True)
    assert found.text == "on hold; rq release 17"


def test_a_retry_waits_for_its_time_alone() -> None:
    job = Job(("true",), after=(ok("12"),), begin_ns=5)
    assert dependencies.conditions(Record(job)).after == (ok("12"),)
    assert dependencies.conditions(Record(job, retried=1, not_before_ns=7)) == Conditions((), 5, 7)


def test_names_of_strangers_are_harmless() -> None:
    bad = "1\x1b[2J"
    for one, target in ((ok(bad), at(RUNNING)), (ok(bad), at(FAILED)), (ok(bad, 3), Target({}))):
        assert decide(bad, Conditions((one,)), lambda _, it=target: it, NOW_NS).text.isprintable()  # type: ignore[misc]
    assert OnHold(bad).text.isprintable()
