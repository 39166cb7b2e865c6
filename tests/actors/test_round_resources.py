"""Rounds, one at a time: what the cluster has in common, limits, and giving way to others."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from roundq.actors import asked, survey
from roundq.actors.courtesy import PATIENCE_S
from roundq.actors.round import LOST_S
from roundq.records import cards, control
from roundq.records import spool as spools
from roundq.records.cards import Card, Occupant
from roundq.records.spool import Spool
from roundq.words.allocation import Unit
from roundq.words.drains import Drain
from roundq.words.facts import Want
from roundq.words.job import NS
from roundq.words.limits import Limit, Limits
from roundq.words.states import RUNNING, WAITING
from roundq.world import procs
from roundq.world.node import Node
from tests.actors.spoolhome import NODE, SpoolHome
from tests.actors.test_round import WIDE, round_of
from tests.records.crowd import new_spool

OTHER = "n2"


def neighbour(home: SpoolHome) -> Spool:
    """Somebody else, whose home lies beside."""
    return new_spool(Path(home.home.parent) / "bob", "bob")


def publish(spool: Spool, node: str, **fields: object) -> None:
    """A card of somebody whose daemon is this very process."""
    known: dict[str, object] = {
        "version": "1",
        "process": procs.own_identity(),
        "beat": 1,
        "cores": 4,
        "memory": 1 << 34,
        "written_ns": time.time_ns(),
        **fields,
    }
    cards.publish(spool, Card(spool.user, node, 1, 4, 4, 1, **known))  # type: ignore[arg-type]


def holding(job_id: str = "9", **fields: object) -> Occupant:
    known: dict[str, object] = {"cores": 1, "memory": 0, "exclusive": False, "stamp_ns": 1, "settled": True}
    return Occupant(job_id, RUNNING, **{**known, **fields})  # type: ignore[arg-type]


# ---------------------------------------------------------------- licenses


def test_a_license_that_a_job_on_another_node_holds_is_not_granted(home: SpoolHome) -> None:
    """Whoever has it, and wherever; and the sentence says so."""
    publish(neighbour(home), OTHER, jobs=(holding(licenses=(("matlab", 1),)),))
    job = home.submit("true", licenses=(("matlab", 1),))
    one = round_of(home, licenses={"matlab": 1})

    one.run(100.0)

    assert home.state(job) == WAITING
    assert one.decision is not None
    assert "matlab" in one.decision.reason(job)


def test_a_license_that_nobody_holds_is_granted(home: SpoolHome) -> None:
    """Two of two jobs get one each; the third waits."""
    jobs = [home.submit("sleep", "60", licenses=(("matlab", 1),)) for _ in range(3)]
    one = round_of(home, licenses={"matlab": 2})

    one.run(100.0)

    assert [tenant.entry.id for tenant in one.tenants] == jobs[:2]
    assert home.state(jobs[2]) == WAITING


def test_licenses_of_a_lost_node_are_free_once_its_user_has_none_of_its_jobs_left(home: SpoolHome) -> None:
    """A silent node holds them, since its job may run; what its user's daemon says of that card ends it."""
    bob = neighbour(home)
    publish(bob, "lost", beat=7, jobs=(holding(licenses=(("matlab", 1),)),))
    job = home.submit("sleep", "60", licenses=(("matlab", 1),))
    one = round_of(home, licenses={"matlab": 1})

    publish(bob, OTHER, emptied=(("lost", 6),))
    one.run(100.0)
    assert home.state(job) == WAITING

    publish(bob, OTHER, beat=2, emptied=(("lost", 7),))
    one.run(101.0)
    assert [tenant.entry.id for tenant in one.tenants] == [job]


def test_nobody_says_of_anothers_card_that_it_holds_nothing(home: SpoolHome) -> None:
    """A stranger must not free what somebody holds."""
    publish(neighbour(home), "lost", beat=7, jobs=(holding(licenses=(("matlab", 1),)),))
    eve = new_spool(Path(home.home.parent) / "eve", "eve")
    publish(eve, OTHER, emptied=(("lost", 7),))
    job = home.submit("true", licenses=(("matlab", 1),))
    one = round_of(home, licenses={"matlab": 1})

    one.run(100.0)

    assert home.state(job) == WAITING


# ---------------------------------------------------------------- limits


def test_a_limit_counts_what_runs_on_other_nodes(home: SpoolHome) -> None:
    """The limit is of the whole cluster; what it still allows stands on the card."""
    publish(home.spool, OTHER, jobs=(holding(cores=3),))
    jobs = [home.submit("sleep", "60") for _ in range(3)]
    one = round_of(home, limits=Limits(Limit(cores=4)))

    one.run(100.0)
    one.run(101.0)

    assert [tenant.entry.id for tenant in one.tenants] == jobs[:1]
    assert one.card is not None
    assert (one.card.cores_left, one.card.jobs_left) == (0, None)
    assert one.decision is not None
    assert one.decision.reason(jobs[1]).startswith("waits: your limit of 4 cores is reached")


def test_a_limit_does_not_count_what_a_lost_node_left_on_its_card(home: SpoolHome) -> None:
    """Once no record names the node any more: nobody else would ever take the card away."""
    publish(home.spool, "lost", state=cards.LEAVING, beat=5, jobs=(holding(cores=4),))
    job = home.submit("sleep", "60", cores=4)
    one = round_of(home, limits=Limits(Limit(cores=4)))

    one.run(100.0)
    assert one.card is not None
    assert one.card.emptied == (("lost", 5),)
    one.run(101.0)
    one.run(102.0)

    assert [tenant.entry.id for tenant in one.tenants] == [job]


def test_what_a_stopped_daemon_left_counts_until_its_user_knows_better(home: SpoolHome) -> None:
    """Its jobs end, and nobody renews its card: whoever waits looks himself, however long ago that was."""
    publish(home.spool, OTHER, state=cards.LEAVING, beat=5, jobs=(holding(cores=4),))
    publish(neighbour(home), OTHER)
    home.submit("true", cores=WIDE)
    one = round_of(home)
    now_s = time.monotonic() + 2 * LOST_S

    one.run(now_s)

    assert one.card is not None
    assert one.card.emptied == ((OTHER, 5),)


def test_only_so_many_waiting_jobs_count(home: SpoolHome) -> None:
    """The first in the order of turns; of the others it is said why nobody looks at them."""
    late = home.submit("true", cores=2, priority=-1)
    counted = [home.submit("true", cores=100 + number) for number in range(2)]
    one = round_of(home, limits=Limits(Limit(waiting=2)))

    one.run(100.0)

    assert one.decision is not None
    assert [want.id for want in one.decision.heads()] == []
    assert home.state(late) == WAITING
    assert one.card is not None
    said = {verdict.shape.cores: verdict.says for verdict in one.card.said}
    assert set(said) == {2, 100, 101}
    assert said[2].startswith("waits: only 2 waiting jobs of yours count")
    assert len(counted) == 2


# ---------------------------------------------------------------- giving way


def test_a_restartable_job_gives_way_to_somebody_below_his_share(home: SpoolHome) -> None:
    """After a while, once, and with the reason in the request; one that may not be run again never."""
    bob = neighbour(home)
    jobs = [home.submit("sleep", "60", restartable=number == 2) for number in range(4)]
    one = round_of(home)
    one.run(100.0)
    for job in jobs:
        home.wait_for(job, RUNNING)
    head = Want("1", 1, 0, time.time_ns() - NS)
    publish(bob, NODE, waiting=1, heads=(head,))

    one.run(101.0)
    assert spools.requests(home.spool) == {}
    one.run(101.0 + PATIENCE_S)

    assert spools.requests(home.spool) == {jobs[2]: {"preempt"}}
    says = spools.asked_of(home.spool, jobs[2], "preempt")
    assert says is not None
    assert "bob" in says


def test_what_scavenges_gives_way_after_a_moment(home: SpoolHome) -> None:
    """It runs on what nobody else wants, and now somebody does."""
    bob = neighbour(home)
    job = home.submit("sleep", "60", cores=4, restartable=True, scavenge=True)
    one = round_of(home)
    one.run(100.0)
    home.wait_for(job, RUNNING)
    publish(bob, NODE, waiting=1, heads=(Want("1", 1, 0, time.time_ns() - NS),))

    one.run(101.0)
    assert spools.requests(home.spool) == {}
    one.run(103.0)

    assert spools.requests(home.spool) == {job: {"preempt"}}


@pytest.mark.parametrize(
    ("scavenge", "gone_s"),
    [(True, asked.SCAVENGING_GONE_S), (False, asked.GONE_S)],
    ids=["scavenges", "polite"],
)
def test_a_request_that_nobody_answers_ends_no_giving_way(
    home: SpoolHome, scavenge: bool, gone_s: float
) -> None:
    """Its node crashed: for a while it counts, since the job may be about to end, and then no more."""
    bob = neighbour(home)
    away = home.submit("true", restartable=True)
    assert spools.claim(home.spool, home.entry(away), OTHER) is not None
    stays = home.submit("sleep", "60", cores=2)
    job = home.submit("sleep", "60", cores=2, restartable=True, scavenge=scavenge)
    one = round_of(home)
    one.run(100.0)
    home.wait_for(stays, RUNNING)
    home.wait_for(job, RUNNING)
    spools.request(home.spool, away, "preempt", OTHER, "a-boot.1.2\nto carl")

    def asked_at(beat: int, now_s: float) -> set[str]:
        publish(bob, NODE, beat=beat, waiting=1, heads=(Want("1", 1, 0, time.time_ns() - NS),))
        one.run(now_s)
        return set(spools.requests(home.spool))

    assert asked_at(1, 101.0) == {away}
    assert asked_at(2, 100.0 + gone_s) == {away}
    assert asked_at(3, 102.0 + gone_s) == {away}
    assert asked_at(4, 102.0 + gone_s + PATIENCE_S) == {away, job}


@pytest.mark.parametrize("says", ["drained", "closed", "waits"])
def test_who_starts_nothing_more_gives_way_all_the_same(home: SpoolHome, says: str) -> None:
    """Drained by its user, or a worker that was told to start no more; whether or not jobs of his wait."""
    bob = neighbour(home)
    job = home.submit("sleep", "60", cores=4, restartable=True, scavenge=True)
    one = round_of(home)
    one.run(100.0)
    home.wait_for(job, RUNNING)
    if says == "closed":
        one.closed = "its worker starts nothing more"
    else:
        control.drain(home.spool, NODE, Drain("ann"), NODE)
    if says == "waits":
        home.submit("sleep", "60")
    publish(bob, NODE, waiting=1, heads=(Want("1", 1, 0, time.time_ns() - NS),))

    one.run(101.0)
    one.run(103.0)

    assert spools.requests(home.spool) == {job: {"preempt"}}
    assert [tenant.entry.id for tenant in one.tenants] == [job]


def test_nothing_is_asked_for_where_others_could_write(home: SpoolHome) -> None:
    """What is not safe is left alone, whoever waits."""
    bob = neighbour(home)
    job = home.submit("sleep", "60", cores=4, restartable=True, scavenge=True)
    one = round_of(home)
    one.run(100.0)
    home.wait_for(job, RUNNING)
    one.unsafe = "others can write to its spool"
    publish(bob, NODE, waiting=1, heads=(Want("1", 1, 0, time.time_ns() - NS),))

    one.run(101.0)
    one.run(103.0)

    assert spools.requests(home.spool) == {}


# ---------------------------------------------------------------- by name


def test_a_job_gets_cpus_that_no_neighbour_has(home: SpoolHome, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the neighbours' cards name theirs; and in one pass each of mine gets others."""
    monkeypatch.setattr(Node, "units", lambda *_: tuple(Unit((cpu,)) for cpu in (0, 1, 2)))
    publish(neighbour(home), NODE, jobs=(holding(process=procs.own_identity(), cpus=(0,)),))
    jobs = [home.submit("sleep", "60") for _ in range(2)]
    one = round_of(home, cores=3)

    one.run(100.0)

    assert {tenant.entry.id: tenant.record.cpus for tenant in one.tenants} == {jobs[0]: (1,), jobs[1]: (2,)}


def test_a_claim_waits_for_a_cpu_of_one_that_will_yield(
    home: SpoolHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One core is left for it, but both CPUs have names of others: it keeps to be pinned, and moves later."""
    monkeypatch.setattr(Node, "units", lambda *_: tuple(Unit((cpu,)) for cpu in (0, 1)))
    bob = neighbour(home)
    home.submit("sleep", "60")
    one = round_of(home, cores=2)
    kept = holding("1", cpus=(0,), process=procs.own_identity())
    later = holding("2", cpus=(1,), settled=False, stamp_ns=1 << 62)
    others: list[Occupant] = [kept, later]
    publish_mine = one._publish

    def overtaken(now_s: float) -> None:
        publish_mine(now_s)
        publish(bob, NODE, jobs=tuple(others))

    monkeypatch.setattr(one, "_publish", overtaken)

    one.run(100.0)
    (tenant,) = one.tenants
    assert (tenant.record.cpus, tenant.settled) == ((0,), False)
    others.remove(later)
    one.run(100.1)
    one.run(100.2)

    (tenant,) = one.tenants
    assert (tenant.record.cpus, tenant.settled) == ((1,), True)


# ---------------------------------------------------------------- patience


def test_a_card_tells_at_once_that_the_patience_is_over(home: SpoolHome) -> None:
    """Or neighbours would go on to start theirs for up to a minute; else it tells whole minutes."""
    publish(neighbour(home), OTHER, jobs=(holding(licenses=(("matlab", 1),)),))
    home.submit("true", licenses=(("matlab", 1),))
    one = round_of(home, licenses={"matlab": 1}, patience_s=90.0)
    told = []
    for now_s in (100.0, 130.0, 165.0, 191.0, 200.0, 255.0):
        one.run(now_s)
        assert one.card is not None
        told.append(one.card.heads[0].waited_s)

    assert told == [0.0, 0.0, 60.0, 91.0, 91.0, 151.0]


# ---------------------------------------------------------------- small jobs


def test_a_small_job_is_left_to_a_fuller_node_for_a_moment(home: SpoolHome) -> None:
    """Its daemon may be slow or dead: after that it starts here, and the round says that it looks again."""
    publish(home.spool, OTHER, jobs=(holding("8", cores=3),))
    publish(home.spool, "n3", jobs=(holding("9", cores=4),))
    one, job = round_of(home), home.submit("sleep", "60")

    again_s = one.run(100.0)
    assert home.state(job) == WAITING
    assert again_s <= survey.LEAVE_S
    one.run(100.0 + survey.LEAVE_S)

    assert home.state(job) != WAITING


def test_while_half_of_the_cores_are_free_nothing_is_left_to_another_node(home: SpoolHome) -> None:
    publish(home.spool, OTHER, jobs=(holding("8", cores=3),))
    one, job = round_of(home), home.submit("sleep", "60")

    one.run(100.0)

    assert home.state(job) != WAITING
