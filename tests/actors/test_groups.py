"""Rounds, one at a time: sets and arrays keep to their limits in the whole cluster, and stop nobody else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from roundq.actors import reasons
from roundq.actors.listing import row_of
from roundq.actors.round import Round
from roundq.actors.sweeping import SWEEP_S
from roundq.actors.tenants import Tenant
from roundq.records import control
from roundq.words import record_format
from roundq.words.job import Array, Job, Record
from roundq.words.states import WAITING
from tests.actors.spoolhome import NODE, SpoolHome
from tests.actors.test_round import round_of
from tests.actors.test_round_resources import OTHER, holding, neighbour, publish


def claimed(one: Round) -> list[str]:
    return [tenant.entry.id for tenant in one.tenants]


def sleepers(home: SpoolHome, count: int, **fields: object) -> list[str]:
    return [home.submit("sleep", "60", **fields) for _ in range(count)]


def why(home: SpoolHome, job_id: str) -> str:
    """What `rq why` says of a job that waits here."""
    row = row_of(home.spool, home.entry(job_id), True)
    (said,) = [said for said in reasons.why(home.spool, row, NODE, 0) if said.startswith(f"{NODE}: ")]
    return said


def test_no_more_jobs_of_a_set_start_than_its_limit_allows_and_others_pass(home: SpoolHome) -> None:
    """What it says of those that wait is what `rq why` prints."""
    control.set_group_limit(home.spool, "%fit", 2, NODE)
    fit = sleepers(home, 3, set="fit")
    other = sleepers(home, 1)
    one = round_of(home)

    one.run(100.0)
    one.run(101.0)

    assert claimed(one) == [*fit[:2], *other]
    assert one.card is not None
    assert [job.groups for job in one.card.jobs] == [("%fit",), ("%fit",), ()]
    says = "waits: 2 of 2 jobs of set fit run; rq limit %fit N changes that"
    assert one.decision is not None
    assert one.decision.reason(fit[2]) == says
    assert why(home, fit[2]) == f"{NODE}: {says}"
    assert one.card.heads == ()


def test_what_runs_of_a_set_on_other_nodes_counts_and_what_others_say_does_not(home: SpoolHome) -> None:
    """My cards are those that count: also that of a node that is silent, where it may run."""
    control.set_group_limit(home.spool, "%fit", 2, NODE)
    publish(home.spool, OTHER, jobs=(holding(groups=("%fit",)),))
    publish(neighbour(home), OTHER, jobs=(holding(groups=("%fit",)), holding("8", groups=("%fit",))))
    fit = sleepers(home, 2, set="fit")
    one = round_of(home)

    one.run(100.0)

    assert claimed(one) == fit[:1]


def test_an_array_keeps_to_its_throttle_or_to_what_was_said_since(home: SpoolHome) -> None:
    tasks = [home.submit("sleep", "60", array=Array("7", index, throttle=1)) for index in range(4)]
    one = round_of(home)
    one.run(100.0)
    assert claimed(one) == tasks[:1]

    control.set_group_limit(home.spool, "7", 2, NODE)
    one.run(101.0)
    assert claimed(one) == tasks[:2]

    control.set_group_limit(home.spool, "7", None, NODE, keep=True)
    one.run(102.0)
    assert claimed(one) == tasks


def test_a_limit_that_is_lowered_ends_nothing_and_one_that_is_raised_starts_more(home: SpoolHome) -> None:
    control.set_group_limit(home.spool, "%fit", 3, NODE)
    fit = sleepers(home, 5, set="fit")
    one = round_of(home, cores=8)
    one.run(100.0)
    assert claimed(one) == fit[:3]

    control.set_group_limit(home.spool, "%fit", 1, NODE)
    one.run(101.0)
    assert claimed(one) == fit[:3]
    assert why(home, fit[3]).endswith(
        "waits: 3 jobs of set fit run, its limit is 1; rq limit %fit N changes that"
    )

    control.set_group_limit(home.spool, "%fit", None, NODE)
    one.run(102.0)
    assert claimed(one) == fit


def test_of_two_nodes_that_claim_the_last_of_a_set_at_once_one_gives_back(
    home: SpoolHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other claimed before, and its card was seen only after the claim."""
    control.set_group_limit(home.spool, "%fit", 1, NODE)
    (job,) = sleepers(home, 1, set="fit")
    one = round_of(home)

    claim = one.tenants.claim

    def claim_late(*args: Any) -> Tenant | None:
        publish(home.spool, OTHER, jobs=(holding(groups=("%fit",), settled=False, stamp_ns=1),))
        return claim(*args)

    monkeypatch.setattr(one.tenants, "claim", claim_late)
    one.run(100.0)

    assert claimed(one) == []
    assert home.state(job) == WAITING


def test_thousands_of_arrays_cost_no_more_wants_than_there_are_cores(home: SpoolHome) -> None:
    """Of all that could start the first are looked at; of full ones as many as a card can tell of."""
    jobs = [
        home.submit("sleep", "60", array=Array(f"{number}", 0, throttle=1 + number % 2))
        for number in range(100, 300)
    ]
    running = tuple(holding(f"{number}_9", groups=(f"{number}",)) for number in range(100, 300, 2))
    publish(home.spool, OTHER, jobs=running)
    one = round_of(home, cores=2)

    one.run(100.0)
    one.run(101.0)

    assert claimed(one) == [jobs[1], jobs[3]]
    assert one.decision is not None
    assert len(one.decision.verdicts()) <= 50 + 3
    assert why(home, jobs[0]).endswith("waits: 1 of 1 job of array 100 runs; rq limit 100 N changes that")


def test_the_limit_of_an_array_goes_with_its_last_record_and_that_of_a_set_stays(home: SpoolHome) -> None:
    """After two looks that found none of it: a job that moves is met nowhere."""
    one = round_of(home)
    task = Path(home.spool.directory(WAITING), "7_0.job")
    task.write_bytes(record_format.dump(Record(Job(("true",), array=Array("7", 0), cores=100))))
    for group in ("7", "8", "%fit"):
        control.set_group_limit(home.spool, group, 2, NODE)
    one.run(100.0)
    for sweep in (1, 2):
        assert control.limited(home.spool) == {"7", "8", "%fit"}
        one.run(100.0 + sweep * SWEEP_S)
    assert control.limited(home.spool) == {"7", "%fit"}
    task.unlink()
    one.run(100.0 + 3 * SWEEP_S)
    assert control.limited(home.spool) == {"7", "%fit"}
    one.run(100.0 + 4 * SWEEP_S)
    assert control.limited(home.spool) == {"%fit"}


def test_neighbours_are_told_how_few_jobs_can_start_if_all_that_wait_have_limits(home: SpoolHome) -> None:
    """Else they would wait for turns that are not taken."""
    control.set_group_limit(home.spool, "%fit", 3, NODE)
    publish(home.spool, OTHER, jobs=(holding(groups=("%fit",)),))
    sleepers(home, 5, set="fit", cores=100)
    one = round_of(home)
    one.run(100.0)
    assert one.card is not None
    assert (one.card.jobs_left, one.card.waiting) == (2, 5)

    sleepers(home, 1, cores=100)
    one.run(101.0)
    assert one.card.jobs_left is None
