"""Promises about estimates: a job starts no later than was said, or nothing was said."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from roundq.words.policy import Holding, Neighbour, Snapshot, Want, decide
from roundq.words.quantities import GIB

NODE = Snapshot("node1", "ann", 8, 32 * GIB, 32 * GIB)
FULL = replace(NODE, holdings=(Holding("cyd", "8", 4, left_s=900.0), Holding("cyd", "9", 4, left_s=300.0)))


def want(job_id: int, cores: int = 4, limit_s: float | None = 600.0, **more: object) -> Want:
    return Want(str(job_id), cores, 0, job_id, limit_s=limit_s, **more)  # type: ignore[arg-type]


def told(snapshot: Snapshot) -> dict[str, float | None]:
    decision = decide(snapshot)
    return {each.id: decision.estimate(each.id) for each in snapshot.wants}


def test_jobs_that_need_the_same_start_one_after_the_other() -> None:
    jobs = tuple(want(i) for i in range(1, 5))
    assert told(replace(FULL, wants=jobs)) == {"1": 300.0, "2": 900.0, "3": 900.0, "4": 1500.0}
    decision = decide(replace(FULL, wants=jobs))
    assert [verdict.starts_in_s for verdict in decision.verdicts()] == [300.0]


def test_behind_one_without_a_limit_only_what_is_known_is_said() -> None:
    jobs = (want(1), want(2, limit_s=None), want(3), want(4), want(5))
    assert told(replace(FULL, wants=jobs)) == {"1": 300.0, "2": 900.0, "3": 900.0, "4": 1500.0, "5": 2100.0}
    stuck = (want(1, limit_s=None), want(2, limit_s=None), want(3))
    assert told(replace(FULL, wants=stuck)) == {"1": 300.0, "2": 900.0, "3": None}


def test_one_that_may_be_passed_is_promised_for_the_end_of_its_patience() -> None:
    jobs = (want(1, 8), want(2, 2, 6000.0))
    waited = (replace(jobs[0], waited_s=500.0), jobs[1])
    assert told(replace(FULL, wants=jobs)) == {"1": 600.0 + 6000.0, "2": None}
    assert told(replace(FULL, wants=waited)) == {"1": 100.0 + 6000.0, "2": None}
    assert told(replace(FULL, wants=(jobs[0], want(2, 2, None)))) == {"1": None, "2": None}


def test_nothing_is_said_where_it_cannot_be_known() -> None:
    plain = replace(FULL, wants=(want(1),))
    assert told(plain) == {"1": 300.0}
    bob = Neighbour("bob", Want("7", 1, 0, 5))
    for unknown in (
        replace(plain, neighbours=(bob,)),
        replace(plain, cores_limit=16),
        replace(plain, draining=""),
        replace(plain, holdings=(Holding("cyd", "9", 8),)),
        replace(plain, wants=(replace(plain.wants[0], scavenge=True),)),
        replace(plain, wants=(replace(plain.wants[0], nodes=("gpu*",)),)),
    ):
        assert told(unknown) == {"1": None}


# ---------------------------------------------------------------- played forward

minutes = st.integers(1, 12).map(lambda count: count * 60.0)
#: Cores, the time limit, and how long it really takes.
some_job = st.tuples(st.integers(0, 4), st.none() | minutes, minutes)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(some_job, min_size=1, max_size=4),
    st.lists(some_job, min_size=1, max_size=6),
    st.booleans(),
    st.sampled_from([60.0, 600.0]),
    st.sampled_from([0.0, 120.0]),
)
def test_no_job_starts_later_than_was_said_at_any_time(
    there: list[tuple[int, float | None, float]],
    jobs: list[tuple[int, float | None, float]],
    alike: bool,
    patience_s: float,
    grace_s: float,
) -> None:
    """However early anything ends, whatever passes it meanwhile, and if all need their whole grace."""
    assume(any(cores for cores, _, _ in there))

    def lasting_s(limit: float | None, really: float) -> float:
        return really if limit is None or really < limit else limit + grace_s

    lasts = {str(i): lasting_s(limit, really) for i, (_, limit, really) in enumerate(jobs)}
    waiting = [
        Want(str(i), jobs[0][0] if alike else cores, 0, i, limit_s=limit)
        for i, (cores, limit, _) in enumerate(jobs)
    ]
    running = [
        (f"9{i}", cores, None if limit is None else limit + grace_s, lasting_s(limit, really))
        for i, (cores, limit, really) in enumerate(there)
        if cores
    ]
    now_s = 0.0
    promised: dict[str, float] = {}
    for _ in range(100):
        running = [job for job in running if job[3] > now_s]
        snapshot = Snapshot(
            "node1",
            "ann",
            6,
            GIB,
            GIB,
            holdings=tuple(
                Holding(
                    "cyd", job_id, cores or 6, 0, not cores, left_s=None if limit is None else limit - now_s
                )
                for job_id, cores, limit, _ in running
            ),
            wants=tuple(replace(each, waited_s=now_s) for each in waiting),
            patience_s=patience_s,
            grace_s=grace_s,
        )
        decision = decide(snapshot)
        for each in waiting:
            in_s = decision.estimate(each.id)
            if each.id in decision.starts:
                assert now_s <= promised.get(each.id, now_s)
                limit = None if each.limit_s is None else now_s + each.limit_s + grace_s
                running.append((each.id, each.cores, limit, now_s + lasts[each.id]))
            elif in_s is not None:
                promised[each.id] = min(promised.get(each.id, 1e9), now_s + in_s)
        waiting = [each for each in waiting if each.id not in decision.starts]
        if not waiting:
            return
        # Every minute, so that patience ends where nothing else happens.
        now_s += 60.0
    raise AssertionError("not all of them started")
