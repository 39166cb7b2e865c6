"""Promises about politeness: who gives way to whom, with which job; and nobody takes back what he gave."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roundq.words.fairness import Shares
from roundq.words.policy import Holding, Neighbour, Requeue, Snapshot, Want, decide, in_order
from roundq.words.quantities import GIB
from tests.words.snapshots import snapshots

BOB = Neighbour("bob", Want("7", 1, 0, 20))
CYD_WAITS = Neighbour("cyd", Want("4", 3, 0, 0))


def held(job_id: str, cores: int = 2, user: str = "ann", age_s: float = 60.0, **more: object) -> Holding:
    return Holding(user, job_id, cores, age_s=age_s, **{"restartable": True, **more})  # type: ignore[arg-type]


#: Ann has all eight cores of a cluster of one node, and bob waits.
FULL = Snapshot(
    "node1",
    "ann",
    8,
    GIB,
    GIB,
    holdings=(held("1", 4, age_s=90.0), held("2", 2, age_s=30.0), held("3", 2, age_s=60.0)),
    running_cores={"ann": 8},
    neighbours=(BOB,),
    cluster_cores=8,
    may_requeue=True,
)


def given_up(snapshot: Snapshot) -> list[str]:
    return [job_id for job_id, _ in decide(snapshot).requeues]


# ---------------------------------------------------------------- fair shares


def test_who_is_above_the_fair_share_gives_up_the_youngest_job_for_one_below() -> None:
    assert decide(FULL).requeues == (
        Requeue(
            "2",
            "gives way to bob's job 7: all cores are busy (bob has 0 cores running of a fair share of 4,"
            " ann has 8 cores running of a fair share of 4)",
        ),
    )


def test_as_few_jobs_as_possible_and_the_young_ones_give_way() -> None:
    wide = replace(FULL, neighbours=(Neighbour("bob", Want("7", 4, 0, 20)),))
    assert given_up(wide) == ["1"]
    # Without the one that would do alone it takes both.
    holdings = (replace(FULL.holdings[0], restartable=False), *FULL.holdings[1:])
    assert given_up(replace(wide, holdings=holdings)) == ["2", "3"]


@pytest.mark.parametrize(
    "change",
    [
        {"may_requeue": False},
        {"cluster_free": 1},
        {"cluster_cores": 0},
        {"holdings": tuple(replace(one, restartable=False) for one in FULL.holdings)},
        {"holdings": tuple(replace(one, leaving=True) for one in FULL.holdings)},
        # Ann has her share, bob his.
        {"running_cores": {"ann": 4, "bob": 4}},
        # Cyd is further above, and has a restartable job on some node.
        {"running_cores": {"ann": 8, "cyd": 20}, "yielding": frozenset({"cyd"})},
        {"neighbours": ()},
        {"neighbours": (replace(BOB, cores_left=0),)},
        {"neighbours": (replace(BOB, head=Want("7", 1, 0, 20, scavenge=True)),)},
        {"neighbours": (replace(BOB, head=Want("7", 9, 0, 20)),)},
        {"neighbours": (replace(BOB, head=Want("7", 1, 2 * GIB, 20)),)},
        # What it would start takes more than ann could give without falling below.
        {"neighbours": (replace(BOB, head=Want("7", 6, 0, 20)),)},
        # Bob's share is small.
        {"weights": {"ann": 99.0}},
    ],
    ids=str,
)
def test_otherwise_nobody_gives_way(change: dict[str, object]) -> None:
    assert given_up(FULL) == ["2"]
    assert given_up(replace(FULL, **change)) == []  # type: ignore[arg-type]


def test_who_has_more_to_give_but_no_restartable_job_does_not_stand_in_the_way() -> None:
    running = {"ann": 8, "cyd": 20}
    assert given_up(replace(FULL, cluster_cores=28, running_cores=running)) == []
    assert given_up(replace(FULL, cluster_cores=16, running_cores=running)) == ["2"]


def test_while_one_is_on_its_way_no_second_one_gives_way() -> None:
    holdings = (*FULL.holdings[:1], replace(FULL.holdings[1], leaving=True), FULL.holdings[2])
    assert given_up(replace(FULL, holdings=holdings)) == []


def test_while_one_gives_way_on_another_node_only_what_scavenges_does_so_too() -> None:
    """That one may be on its way for long, and what scavenges has no claim to be where it is."""
    assert given_up(replace(FULL, is_giving_way=True)) == []
    assert given_up(replace(SCAVENGED, is_giving_way=True)) == ["3"]


def test_a_drained_daemon_gives_way_too() -> None:
    """My daemon starts nothing, but bob's does."""
    assert given_up(replace(FULL, draining="upgrade")) == ["2"]


# ---------------------------------------------------------------- what scavenges


def scavenging(job_id: str, cores: int = 2, user: str = "ann", age_s: float = 60.0) -> Holding:
    return held(job_id, cores, user, age_s, scavenge=True)


SCAVENGED = replace(
    FULL,
    holdings=(held("1", 4), scavenging("2", age_s=30.0), scavenging("3", age_s=20.0)),
    running_cores={"ann": 4},
)


def test_what_scavenges_gives_way_to_whatever_would_fit_in_its_place() -> None:
    """Also where cores of other nodes are free, and to who is above the fair share."""
    says = "gives way to bob's job 7: it scavenges"
    assert decide(SCAVENGED).requeues == (Requeue("3", says),)
    rich = replace(SCAVENGED, running_cores={"bob": 50}, cluster_free=9)
    assert decide(rich).requeues == (Requeue("3", says),)


def test_it_gives_way_to_its_own_user_as_well() -> None:
    alone = replace(SCAVENGED, neighbours=(), wants=(Want("4", 3, 0, 1),))
    assert decide(alone).requeues == (
        Requeue("3", "gives way to ann's job 4: it scavenges"),
        Requeue("2", "gives way to ann's job 4: it scavenges"),
    )


def test_it_stays_where_its_place_would_help_nobody() -> None:
    for head in (Want("7", 5, 0, 20), Want("7", 1, 2 * GIB, 20), Want("7", 1, 0, 20, scavenge=True)):
        assert given_up(replace(SCAVENGED, neighbours=(replace(BOB, head=head),))) == []
    free = replace(SCAVENGED, holdings=SCAVENGED.holdings[1:])
    assert given_up(free) == []


def test_what_nobody_asks_to_give_way_shields_nothing() -> None:
    """Cyd's daemon is gone or hangs, her job goes on; bob would wait until it ends by itself."""
    theirs = scavenging("9", user="cyd", age_s=10.0)
    there = replace(SCAVENGED, holdings=(held("1", 4), scavenging("2"), theirs))
    assert given_up(there) == []
    alone = replace(theirs, unattended=True)
    assert given_up(replace(there, holdings=(*there.holdings[:2], alone))) == ["2"]
    # Nor does it make room for what would start in its place.
    mine = replace(there, holdings=(held("1", 3), alone), wants=(Want("4", 1, 0, 1, scavenge=True),))
    # So much runs of bob's elsewhere that no node is kept for him.
    head = replace(BOB, head=Want("7", 4, 0, 20))
    wide = replace(mine, running_cores={"ann": 4, "bob": 4}, neighbours=(head,))
    assert decide(wide).starts == ("4",)
    assert decide(replace(wide, holdings=(held("1", 3), theirs))).starts == ()


def test_what_was_asked_long_ago_and_is_there_yet_is_not_asked_again() -> None:
    """Nobody counts on it any more, and another one gives way."""
    stuck = replace(FULL.holdings[1], unattended=True)
    assert given_up(replace(FULL, holdings=(FULL.holdings[0], stuck, FULL.holdings[2]))) == ["3"]


def test_the_richest_user_does_not_shield_others_where_nobody_asks_his_jobs() -> None:
    """Cyd is further above the share than ann, and all her restartable jobs are here."""
    theirs = held("9", 4, "cyd")
    there = replace(
        FULL,
        holdings=(*FULL.holdings[1:], theirs),
        running_cores={"ann": 4, "cyd": 20},
        cluster_cores=8,
    )
    assert given_up(there) == []
    assert given_up(replace(there, holdings=(*FULL.holdings[1:], replace(theirs, unattended=True)))) == ["2"]


def test_what_gives_way_may_hold_the_memory_for_which_the_node_will_be_kept() -> None:
    """The node will be kept for bob's job: what scavenged would give way to cyd in vain."""
    bob = Neighbour("bob", Want("7", 8, 25, 20, waited_s=9999.0))
    cyd = Neighbour("cyd", Want("8", 5, 0, 30))
    stays = Holding("dan", "5", 2)
    there = Holding("ann", "1", 6, age_s=9.0, scavenge=True, memory=20)
    snapshot = replace(
        FULL, memory_total=32, memory_available=10, holdings=(stays, there), neighbours=(bob, cyd)
    )
    assert given_up(snapshot) == []
    assert given_up(replace(snapshot, holdings=(stays, replace(there, memory=0, resident=20)))) == []
    assert given_up(replace(snapshot, holdings=(stays, replace(there, memory=0, resident=None)))) == []
    # Where that memory would not suffice nobody waits for bob.
    assert given_up(replace(snapshot, holdings=(stays, replace(there, memory=0, resident=1)))) == ["1"]


def test_of_several_users_who_scavenge_only_those_give_way_who_must() -> None:
    """Everybody comes to the same ones."""
    holdings = (held("1", 4), scavenging("2"), scavenging("9", user="cyd", age_s=10.0))
    assert given_up(replace(SCAVENGED, holdings=holdings)) == []
    assert given_up(replace(SCAVENGED, me="cyd", holdings=holdings)) == ["9"]
    both = replace(SCAVENGED, holdings=holdings, neighbours=(replace(BOB, head=Want("7", 4, 0, 20)),))
    assert given_up(both) == ["2"]
    assert given_up(replace(both, me="cyd")) == ["9"]
    # And knows on whose he counts.
    assert decide(both).owed == {("cyd", "9")}
    assert decide(replace(both, me="cyd")).owed == {("ann", "2")}
    assert decide(replace(both, holdings=(held("1", 4), scavenging("2", 4)))).owed == frozenset()


def test_all_wants_that_wait_are_counted() -> None:
    three = replace(BOB, count=3)
    assert given_up(replace(SCAVENGED, neighbours=(three,))) == ["3", "2"]
    assert given_up(replace(SCAVENGED, neighbours=(replace(BOB, count=2),))) == ["3"]


def test_nothing_scavenges_while_anybody_else_waits_for_the_place() -> None:
    mine = Want("4", 1, 0, 1, scavenge=True)
    snapshot = replace(FULL, holdings=(), running_cores={}, wants=(mine,), may_requeue=False)
    assert decide(snapshot).starts == ("4",)
    full = replace(snapshot, neighbours=(replace(BOB, count=8),))
    assert decide(full).reason("4") == "waits: bob's job 7 goes before what scavenges here"
    kept = replace(
        snapshot, holdings=(held("1", 4),), neighbours=(Neighbour("bob", Want("7", 8, 0, 9, waited_s=999.0)),)
    )
    assert decide(kept).reason("4").startswith("waits: node1 is kept for bob's job 7,")


def test_what_would_have_to_give_way_at_once_does_not_start() -> None:
    """Cyd waits for the whole node: ann's job that scavenges gives way, and no other comes in its place."""
    snapshot = Snapshot(
        "n",
        "ann",
        4,
        GIB,
        GIB,
        holdings=(Holding("bob", "1", 1, leaving=True), scavenging("2", 1)),
        wants=(Want("3", 1, 0, 1, scavenge=True),),
        neighbours=(Neighbour("cyd", Want("4", 3, 0, 0)),),
        running_cores={"bob": 1},
        may_requeue=True,
    )
    decision = decide(replace(snapshot, holdings=(Holding("bob", "1", 1), scavenging("2", 1))))
    assert decision.starts == ()
    assert [one.job_id for one in decision.requeues] == ["2"]
    assert decision.reason("3") == "waits: cyd's job 4 goes before what scavenges here"
    assert decide(snapshot).starts == ()
    # What it waits for does not come by what gives way.
    wide = replace(snapshot, holdings=(Holding("bob", "1", 2), scavenging("2", 1)))
    assert decide(wide).starts == ("3",)
    limited = replace(wide, holdings=snapshot.holdings, neighbours=(replace(CYD_WAITS, cores_left=2),))
    assert decide(limited).starts == ("3",)


@settings(max_examples=300, deadline=None)
@given(snapshots)
def test_nothing_that_scavenges_starts_where_something_scavenging_gives_way(snapshot: Snapshot) -> None:
    """Or the same would start and stop for ever."""
    decision = decide(replace(snapshot, may_requeue=True))
    scavenging_here = {held.id for held in snapshot.holdings if held.scavenge and held.user == snapshot.me}
    if scavenging_here & {one.job_id for one in decision.requeues}:
        started = [want for want in snapshot.wants if want.id in decision.starts]
        assert not any(want.scavenge for want in started)


def test_nobody_gives_up_more_time_than_the_other_has_waited() -> None:
    """But ten minutes are little: a newcomer need not wait for these."""
    old = replace(FULL, holdings=tuple(replace(held, age_s=36_000.0) for held in FULL.holdings))
    assert given_up(old) == []
    waited = replace(BOB, head=Want("7", 1, 0, 20, waited_s=36_000.0))
    assert given_up(replace(old, neighbours=(waited,))) == ["1"]
    one = (old.holdings[0], replace(old.holdings[1], age_s=599.0), old.holdings[2])
    assert given_up(replace(old, holdings=one)) == ["2"]


def test_who_has_a_turn_before_what_scavenges_is_one_who_could_take_it() -> None:
    """Else nobody would see that a turn is never taken, and what scavenges would wait for ever."""
    mine = Want("4", 1, 0, 1, scavenge=True)
    empty = replace(SCAVENGED, holdings=(), wants=(mine,))
    wide = replace(empty, neighbours=(replace(BOB, head=Want("7", 8, 0, 20)),))
    assert decide(wide).reason("4") == "waits: bob's job 7 goes before what scavenges here"
    assert decide(wide).ahead == {"bob"}
    # So much runs of his elsewhere that no node is kept for him.
    there = replace(wide, holdings=(scavenging("2"),), running_cores={"bob": 8})
    assert decide(there).reason("4") == "waits: bob's job 7 goes before what scavenges here"
    # Bob cannot start it before that has given way.
    assert decide(there).ahead == frozenset()
    # Nobody waits for a turn whose own limits do not allow it to start.
    assert decide(replace(wide, cores_limit=0)).ahead == frozenset()
    assert decide(replace(empty, neighbours=(BOB,))).ahead == frozenset()


def test_scavengers_take_turns_among_themselves() -> None:
    mine = Want("4", 1, 0, 1, scavenge=True)
    bob = Neighbour("bob", Want("7", 1, 0, 20, scavenge=True))
    snapshot = replace(FULL, holdings=(scavenging("2", 7),), wants=(mine,), neighbours=(bob,))
    assert decide(snapshot).reason("4") == "waits: bob's job 7 goes before what scavenges here"
    assert decide(snapshot).ahead == {"bob"}
    assert decide(
        replace(snapshot, me="bob", wants=(Want("7", 1, 0, 20, scavenge=True),), neighbours=())
    ).starts


# ---------------------------------------------------------------- no oscillation


@dataclass
class Job:
    user: str
    want: Want
    restartable: bool
    node: str = ""
    began: int = 0


@dataclass
class Cluster:
    """Every user's daemon on every node; jobs never end, so what changes is only who gives way to whom."""

    nodes: int
    cores: int
    jobs: list[Job]
    weights: dict[str, float]
    usage: dict[str, float]
    dice: random.Random
    clock: int = 0
    requeued: list[str] = field(default_factory=list)

    def users(self) -> list[str]:
        return sorted({job.user for job in self.jobs})

    def waiting(self, user: str) -> list[Want]:
        return in_order(job.want for job in self.jobs if job.user == user and not job.node)

    def running(self) -> dict[str, int]:
        return {
            user: sum(
                job.want.cores for job in self.jobs if job.user == user and job.node and not job.want.scavenge
            )
            for user in self.users()
        }

    def snapshot(self, user: str, node: str) -> Snapshot:
        neighbours = []
        for other in self.users():
            if other != user and (wants := self.waiting(other)):
                firsts = list({want.shape: want for want in reversed(wants)}.values())[::-1]
                neighbours.append(Neighbour(other, firsts[0], len(wants), tuple(firsts[1:])))
        here = [job for job in self.jobs if job.node == node]
        used = sum(job.want.cores for job in self.jobs if job.node)
        restartable = {job.user for job in self.jobs if job.node and job.restartable}
        return Snapshot(
            node,
            user,
            self.cores,
            GIB,
            GIB,
            holdings=tuple(
                Holding(
                    job.user,
                    job.want.id,
                    job.want.cores,
                    age_s=float(self.clock - job.began),
                    restartable=job.restartable,
                    scavenge=job.want.scavenge,
                )
                for job in here
            ),
            running_cores=self.running(),
            wants=tuple(self.waiting(user)),
            neighbours=tuple(neighbours),
            weights=self.weights,
            usage=self.usage,
            cluster_cores=self.nodes * self.cores,
            cluster_free=self.nodes * self.cores - used,
            may_requeue=True,
            yielding=frozenset(restartable),
        )

    def step(self, user: str, node: str) -> bool:
        """One round of one daemon; whether anything changed."""
        self.clock += 1
        snapshot = self.snapshot(user, node)
        decision = decide(snapshot)
        by_id = {job.want.id: job for job in self.jobs}
        for job_id in decision.starts:
            job = by_id[job_id]
            assert job.user == user
            assert not job.node
            job.node, job.began = node, self.clock
        for job_id, says in decision.requeues:
            job = by_id[job_id]
            assert (job.user, job.node) == (user, node)
            assert job.restartable
            job.node = ""
            self.requeued.append(says)
        return bool(decision.starts or decision.requeues)

    def until_quiet(self, most: int) -> None:
        """Rounds of everybody, in any order, until nobody does anything."""
        daemons = [(user, f"node{i}") for user in self.users() for i in range(self.nodes)]
        while True:
            self.dice.shuffle(daemons)
            changed = [self.step(*daemon) for daemon in daemons]
            if not any(changed):
                return
            assert len(self.requeued) <= most, f"they go on for ever: {self.requeued[-3:]}"


some_jobs = st.lists(
    st.tuples(
        st.sampled_from(["ann", "bob", "cyd", "dan"]),
        st.integers(1, 4),
        st.sampled_from([True, True, False]),
        st.sampled_from([False, False, False, True]),
    ),
    min_size=1,
    max_size=14,
)


def jobs_of(found: list[tuple[str, int, bool, bool]], first: int) -> list[Job]:
    return [
        Job(user, Want(str(i), cores, 0, i, scavenge=scavenge), restartable or scavenge)
        for i, (user, cores, restartable, scavenge) in enumerate(found, first)
    ]


@settings(max_examples=120, deadline=None)
@given(
    st.integers(1, 3),
    st.integers(2, 6),
    some_jobs,
    some_jobs,
    st.dictionaries(st.sampled_from(["ann", "bob"]), st.sampled_from([0.5, 2.0])),
    st.dictionaries(st.sampled_from(["bob", "cyd"]), st.sampled_from([0.1, 0.9])),
    st.randoms(use_true_random=False),
)
def test_politeness_comes_to_an_end(
    nodes: int,
    cores: int,
    early: list[tuple[str, int, bool, bool]],
    late: list[tuple[str, int, bool, bool]],
    weights: dict[str, float],
    usage: dict[str, float],
    dice: random.Random,
) -> None:
    """Some fill the cluster, others come; after so many requeues as there are cores everybody is content."""
    cluster = Cluster(nodes, cores, jobs_of(early, 1), weights, usage, dice)
    cluster.until_quiet(most=0 if not any(job[3] for job in early) else nodes * cores)
    cluster.jobs += jobs_of(late, 100)
    cluster.requeued.clear()
    cluster.until_quiet(most=nodes * cores)
    for i in range(nodes):
        here = [job.want.cores for job in cluster.jobs if job.node == f"node{i}"]
        assert sum(here) <= cores
    # And nobody who could give something up stands above somebody below his share who could have it.
    active = frozenset(job.user for job in cluster.jobs)
    running, shares = cluster.running(), Shares(active, nodes * cores, weights, usage)
    if sum(job.want.cores for job in cluster.jobs if job.node) < nodes * cores:
        return
    for job in cluster.jobs:
        if job.node and job.restartable and not job.want.scavenge and job.want.cores == 1:
            left = shares.level(job.user, running[job.user] - 1).height
            others = {
                other.user: other
                for other in cluster.jobs
                if not other.node and other.want.cores == 1 and not other.want.scavenge
            }
            richest = max(
                (other.user for other in cluster.jobs if other.node and other.restartable),
                key=lambda user: (shares.level(user, running[user])[:2], user),
            )
            if job.user != richest or not running[job.user] > shares.fair(job.user):
                continue
            for other in others.values():
                if other.user != job.user and running[other.user] < shares.fair(other.user):
                    assert shares.level(other.user, running[other.user] + 1).height > left


def test_a_newcomer_gets_the_fair_share_from_one_who_fills_the_cluster() -> None:
    jobs = jobs_of([("ann", 1, True, False)] * 30, 1)
    cluster = Cluster(3, 8, jobs, {}, {}, random.Random(1))
    cluster.until_quiet(most=0)
    assert cluster.running() == {"ann": 24}
    cluster.jobs += jobs_of([("bob", 1, True, False)] * 30, 100)
    cluster.until_quiet(most=12)
    assert cluster.running() == {"ann": 12, "bob": 12}
    assert len(cluster.requeued) == 12
