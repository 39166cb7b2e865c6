"""Whose turn, and on what, on a cluster: shares, newcomers, wide jobs, claims, limits, giving way, drains.

Judged by what the jobs wrote down (turns, promises): when they ran, where, and what they had there.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from tests.cluster import checkers, kernel, turns
from tests.cluster.lab import ENV, PATIENCE_S, Lab, flood, ledger_jobs
from tests.cluster.promises import CardWatch, Supply
from tests.cluster.wait import wait_until

if TYPE_CHECKING:
    from tests.cluster.plugin import MakeCluster

CORES = 4
ROOMY = {**ENV, "RQ_CORES": str(CORES)}
#: Where /etc/roundq.toml says how many cores there are.
TOLD = {name: value for name, value in ENV.items() if name != "RQ_CORES"}
GB = 1 << 30


def cancel_rest(lab: Lab) -> None:
    """What is still there was only there to be waited for."""
    for user in lab.accepted:
        lab.rq(next(iter(lab.cluster)), user, "cancel", "--all", code=None)
    lab.wait_ended()


# ---------------------------------------------------------------- turns


def test_unequal_floods_share_the_nodes_within_one_job(make_cluster: MakeCluster) -> None:
    """Three users, three nodes: nobody begins a job who has one more than the fair share."""
    lab = Lab(make_cluster(nodes=3, users=("ann", "bob", "cyd"), env=ROOMY))
    lab.start_daemons()
    for node, user, count in zip(lab.cluster, lab.cluster.users, (80, 30, 15), strict=True):
        lab.bulk(node, user, flood(user, count, 1.5))
    told = lab.wait_told("ann", "bob", "cyd")
    wait_until(lambda: "waiting" not in lab.states("cyd").values(), PATIENCE_S, on_timeout=lab.story)
    cancel_rest(lab)

    runs = lab.runs()
    begin, end = window(lab, told)
    fair = {lab.uid(user): float(CORES) for user in lab.cluster.users}
    had = turns.shares(runs, begin, end)
    assert turns.too_many(runs, fair, begin, end) == []
    assert turns.apart(runs, fair, begin, end) < 0.25, had
    assert max(had.values()) - min(had.values()) < 1, had
    lab.check(cores=CORES)


def test_a_newcomer_waits_no_longer_than_one_job(make_cluster: MakeCluster) -> None:
    """Two nodes full of another's long flood: the first core that is free is the newcomer's."""
    lab = Lab(make_cluster(nodes=2, users=("ann", "bob"), env=ROOMY))
    n1, _ = lab.cluster
    lab.start_daemons()
    lab.bulk(n1, "ann", flood("ann", 40, 4))
    wait_until(lambda: len(lab.runs()) >= 2 * CORES, PATIENCE_S, on_timeout=lab.story)
    lab.wait_told("bob", waiting=False)

    asked = time.monotonic()
    lab.bulk(n1, "bob", ledger_jobs("bob", 2, 0.5))
    lab.wait_began("bob-0", "bob-1")
    cancel_rest(lab)

    first, second = lab.runs("bob")
    before = [run for run in lab.runs("ann") if run.start < asked]
    assert first.start < max(run.end for run in before), "one job length has not passed"
    later = [run for run in lab.runs("ann") if first.start < run.start < second.start]
    assert len(later) <= 1, "nor does the second wait for others"
    lab.check(cores=CORES)


def test_a_flood_of_small_jobs_does_not_starve_wide_ones(make_cluster: MakeCluster) -> None:
    """Who waited longer than the patience is kept a node, whoever floods both."""
    lab = Lab(make_cluster(nodes=2, users=("ann", "bob"), env={**ROOMY, "RQ_PATIENCE": "1s"}))
    n1, n2 = lab.cluster
    lab.start_daemons()
    lab.bulk(n1, "ann", flood("ann", 80, 1))
    wait_until(lambda: len(lab.runs()) >= 2 * CORES, PATIENCE_S, on_timeout=lab.story)
    lab.bulk(n2, "bob", ledger_jobs("wide", 2, 0.5, cores=CORES) + ledger_jobs("whole", 1, 0.5, cores=0))

    lab.wait_began("wide-0", "wide-1", "whole-0")
    assert "waiting" in lab.states("ann").values(), "the flood goes on"
    cancel_rest(lab)

    lab.check(cores=CORES)


def test_while_a_node_is_kept_only_what_ends_in_time_fills_in(make_cluster: MakeCluster) -> None:
    """A core is free, and kept for a wide job: small jobs with a time limit may have it, others not."""
    lab = Lab(make_cluster(nodes=2, users=("ann", "bob"), env={**ROOMY, "RQ_PATIENCE": "1s"}))
    n1, n2 = lab.cluster
    lab.start_daemons()
    lab.bulk(n1, "ann", ledger_jobs("long", 2, 600, cores=CORES - 1, time_limit_s=900.0))
    lab.wait_began("long-0", "long-1")
    lab.bulk(n2, "bob", ledger_jobs("wide", 1, 0.5, cores=CORES))
    wait_until(lambda: kept_by(lab, "bob"), PATIENCE_S, on_timeout=lambda: said(lab, "bob"), every=0.05)
    (kept,) = kept_by(lab, "bob")
    lab.bulk(n1, "ann", ledger_jobs("open", 3, 1))
    lab.bulk(n1, "ann", ledger_jobs("quick", 12, 0.5, time_limit_s=30.0))

    wait_until(
        lambda: any(run.node == kept and run.label.startswith("quick") for run in lab.runs()),
        PATIENCE_S,
        on_timeout=lab.story,
    )
    lab.wait_began("open-0", "open-1", "open-2")
    lab.end_jobs(lab.cluster[kept], "long-0", "long-1")
    lab.wait_began("wide-0")
    lab.end_jobs(n1, "long-0", "long-1")
    lab.end_jobs(n2, "long-0", "long-1")
    lab.wait_ended()

    (wide,) = lab.runs("bob")
    assert wide.node == kept
    early = [run for run in lab.runs("ann") if run.node == kept and run.start < wide.start]
    assert {run.label.partition("-")[0] for run in early} == {"long", "quick"}
    lab.check(cores=CORES)


# ---------------------------------------------------------------- claims

TEN = tuple(f"u{i}" for i in range(10))
#: What is scarce: the third node offers as many cores as the machine of the tests has CPUs, and so pins.
SCARCE = """
cores = 4
licenses = { matlab = 3 }
patience = "2s"

[nodes.n1]
gpus = 2
licenses = { fpga = 1 }

[nodes.n2]
cores = "logical"
gpus = ["0", "1"]
"""
OF_EACH: tuple[dict[str, Any], ...] = (
    {},
    {"cores": 2},
    {"cores": 0},
    {"gpus": 1},
    {"gpus": 2, "memory_required": 3 * GB // 2},
    {"licenses": [["matlab", 1]], "gpus": 1},
    {"licenses": [["matlab", 2]]},
    {"licenses": [["fpga", 1], ["matlab", 1]]},
    {"memory_required": 3 * GB // 2},
    {"cores": 2, "gpus": 1, "memory_required": GB},
)


def test_a_hundred_claims_at_once_promise_nothing_twice(make_cluster: MakeCluster) -> None:
    """Ten users, each with ten jobs, on two nodes that wake up together: by jobs and by cards."""
    cpus = len(kernel.one_cpu_per_core())
    supply = Supply(
        {"n1": 4, "n2": cpus},
        4 * GB,
        ("0", "1"),
        {"matlab": 3},
        {"n1": {"fpga": 1}},
        pins={"n1": cpus >= 4, "n2": True},
    )
    env = {**TOLD, "RQ_POLL_MIN": "0.5"}
    lab = Lab(make_cluster(nodes=3, users=TEN, env=env, config=SCARCE, memory=4 * GB))
    n1, n2, login = lab.cluster
    lab.start_daemons(n1, n2)
    lab.wait_told(*TEN, nodes=(n1, n2), waiting=False)
    for node in (n1, n2):
        node.freeze()
    for user in TEN:
        jobs = [job for i, more in enumerate(OF_EACH) for job in ledger_jobs(f"{user}-{i}", 1, 0.3, **more)]
        lab.bulk(login, user, jobs)

    for node in (n1, n2):
        lab.thaw(node)
    watch = CardWatch(lab.cluster.server, supply)

    def are_done() -> bool:
        watch.look()
        return checkers.all_ended(lab.cluster.server)

    wait_until(are_done, PATIENCE_S, on_timeout=lab.story, every=0.1)

    assert lab.counts() == {"completed": 100}
    assert {run.node for run in lab.runs()} == {"n1", "n2"}
    assert watch.wrong == []
    assert watch.most > 1
    lab.check(supply=supply)


# ---------------------------------------------------------------- limits, shares


def test_limits_hold_over_several_nodes(make_cluster: MakeCluster) -> None:
    """The administrator's of cores, and one's own of jobs: never more in the whole cluster, nor less."""
    config = "[limits.users.ann]\ncores = 3\n"
    lab = Lab(make_cluster(nodes=3, users=("ann", "bob"), env=ROOMY, config=config))
    n1, n2, login = lab.cluster
    lab.rq(login, "bob", "limit", "-j", "2")
    lab.start_daemons(n1, n2)
    lab.wait_told("ann", "bob", nodes=(n1, n2), waiting=False)
    # Both nodes have room for all, and see them in the same moment.
    n1.freeze()
    n2.freeze()
    lab.bulk(login, "ann", flood("ann", 12, 0.7))
    lab.bulk(login, "bob", flood("bob", 8, 0.7))
    lab.thaw(n1)
    lab.thaw(n2)
    lab.wait_ended()

    assert turns.most_at_once(lab.runs(), lab.uid("ann"))[1] == 3
    assert turns.most_at_once(lab.runs(), lab.uid("bob"))[0] == 2
    assert {run.node for run in lab.runs()} == {"n1", "n2"}
    lab.check(cores=CORES)


def test_twice_the_share_is_twice_the_cores(make_cluster: MakeCluster) -> None:
    """Two nodes, two floods, and the administrator says that one counts for two."""
    config = "[shares.users]\nann = 2\n"
    lab = Lab(make_cluster(nodes=2, users=("ann", "bob"), env={**ENV, "RQ_CORES": "3"}, config=config))
    n1, n2 = lab.cluster
    lab.start_daemons()
    lab.bulk(n1, "ann", flood("ann", 40, 1.2))
    lab.bulk(n2, "bob", flood("bob", 13, 1.2))
    told = lab.wait_told("ann", "bob")
    wait_until(lambda: "waiting" not in lab.states("bob").values(), PATIENCE_S, on_timeout=lab.story)
    cancel_rest(lab)

    fair = {lab.uid("ann"): 4.0, lab.uid("bob"): 2.0}
    begin, end = window(lab, told)
    had = turns.shares(lab.runs(), begin, end)
    assert turns.too_many(lab.runs(), fair, begin, end) == []
    assert turns.apart(lab.runs(), fair, begin, end) < 0.25, had
    assert 1.5 < had[lab.uid("ann")] / had[lab.uid("bob")] < 2.67, had
    lab.check(cores=3)


# ---------------------------------------------------------------- giving way


def test_what_scavenges_runs_only_on_what_nobody_wants(make_cluster: MakeCluster) -> None:
    """It fills what is free, gives way to anybody's job, waits while one waits, and goes on afterwards."""
    lab = Lab(make_cluster(nodes=2, users=("ann", "bob"), env=ENV))
    n1, n2 = lab.cluster
    lab.start_daemons()
    lab.bulk(n1, "ann", ledger_jobs("scavenges", 4, "600,0.2", scavenge=True, restartable=True))
    lab.wait_began(*(f"scavenges-{i}" for i in range(4)))

    lab.bulk(n2, "bob", flood("bob", 9, 0.5))
    lab.wait_began(*(f"bob-{i}" for i in range(9)))
    lab.end_all(*(f"scavenges-{i}" for i in range(4)))
    lab.wait_ended()

    runs = lab.runs("ann")
    last = max(run.start for run in lab.runs("bob"))
    again = [run for run in runs if run.attempt != 1]
    assert len(again) == 4, "all cores were wanted, and each gave way once"
    # What is claimed elsewhere is not wanted any more, and begins in a moment.
    assert all(run.start > last - turns.MOMENT_S for run in again), "and waited until nobody wanted any"
    assert preempted(lab, "ann") == dict.fromkeys(lab.accepted["ann"], 1)
    lab.check()


def test_who_has_more_than_fair_gives_way_to_a_newcomer(make_cluster: MakeCluster) -> None:
    """His youngest restartable job waits again, says why, and goes on later; and only that, once."""
    lab = Lab(make_cluster(nodes=2, users=("ann", "bob"), env=ENV))
    n1, n2 = lab.cluster
    lab.start_daemons()
    lab.bulk(n1, "ann", ledger_jobs("once", 1, 600))
    lab.wait_began("once-0")
    for i in range(3):
        lab.bulk(n1, "ann", ledger_jobs(f"old{i}", 1, "600,600", restartable=True))
        lab.wait_began(f"old{i}-0")

    lab.bulk(n2, "bob", ledger_jobs("bob", 1, 600))
    lab.wait_began("bob-0")
    assert preempted(lab, "ann") == {lab.accepted["ann"][3]: 1}
    lab.end_all("bob-0")
    wait_until(lambda: any(run.attempt == 2 for run in lab.runs("ann")), PATIENCE_S, on_timeout=lab.story)
    # He has the core back; whoever comes now finds another, and nobody gives way again.
    lab.end_all("once-0")
    lab.bulk(n2, "bob", ledger_jobs("more", 4, 0.3))
    lab.wait_began(*(f"more-{i}" for i in range(4)))
    lab.end_all("old0-0", "old1-0", "old2-0")
    lab.wait_ended()

    assert preempted(lab, "ann") == {lab.accepted["ann"][3]: 1}
    shown = json.loads(lab.rq(n1, "ann", "show", "--json", lab.accepted["ann"][3]))
    (attempt,) = shown["jobs"][0]["attempts"]
    assert attempt["reason"] == "preempted"
    assert "bob" in attempt["detail"], attempt
    lab.check()


def preempted(lab: Lab, user: str) -> dict[str, int]:
    """How often jobs gave way, by their records; those that did."""
    times = {}
    for found in checkers.find(lab.cluster.server, user):
        attempts = (found.record or {}).get("attempts", [])
        if count := sum(attempt["reason"] == "preempted" for attempt in attempts):
            times[found.id] = count
    return times


# ---------------------------------------------------------------- drains


def test_a_drained_node_starts_nothing(make_cluster: MakeCluster) -> None:
    """One's own drain binds oneself, the administrator's everybody; resumed, all starts."""
    lab = Lab(make_cluster(nodes=2, users=("ann", "bob"), env=ENV))
    n1, n2 = lab.cluster
    lab.start_daemons()
    lab.bulk(n1, "ann", ledger_jobs("before", 4, 600))
    lab.wait_began(*(f"before-{i}" for i in range(4)))

    lab.rq(n2, "ann", "drain", "n1", "--reason", "mine")
    wait_drained(lab, "n1", "ann")
    lab.end_all(*(f"before-{i}" for i in range(4)))
    own = begin = time.monotonic()
    lab.bulk(n2, "ann", ledger_jobs("ann", 4, 0.2))
    lab.bulk(n2, "bob", flood("bob", 12, 0.4))
    lab.wait_began(*(f"ann-{i}" for i in range(4)))
    wait_until(lambda: any(run.node == "n1" for run in lab.runs("bob")), PATIENCE_S, on_timeout=lab.story)
    lab.rq(n2, "root", "drain", "--admin", "--reason", "broken disk")
    wait_drained(lab, "n2", "ann", "bob")
    # What was claimed before begins yet.
    wait_until(lambda: unbegun(lab, "n2") == [], PATIENCE_S, on_timeout=lab.story)
    admins = time.monotonic()
    lab.rq(n1, "ann", "resume", "n2", code=1)
    lab.rq(n2, "ann", "resume", "n1")
    lab.bulk(n2, "ann", ledger_jobs("late", 4, 0.2))
    lab.wait_began(*(f"late-{i}" for i in range(4)))
    lab.wait_ended()

    assert {run.node for run in lab.runs("ann") if own < run.start < admins} == {"n2"}
    assert "n1" in {run.node for run in lab.runs("bob") if begin < run.start < admins}
    assert {run.node for run in lab.runs() if run.start > admins} == {"n1"}
    assert "drained by admin: broken disk" in lab.rq(n1, "ann", "nodes")
    lab.check()


def unbegun(lab: Lab, node: str) -> list[str]:
    """What a node has taken and did not begin yet, by what the jobs wrote down."""
    taken = [found for found in checkers.find(lab.cluster.server) if found.node == node]
    began = {(run.uid, run.job, run.attempt) for run in lab.runs()}
    return [
        str(found)
        for found in taken
        if (lab.uid(found.user), found.id, (found.record or {}).get("attempt", 1)) not in began
    ]


def wait_drained(lab: Lab, node: str, *users: str) -> None:
    """Until the daemons of these users say that they start nothing there."""
    wait_until(
        lambda: all(lab.cards(user)[node]["state"] == "draining" for user in users),
        PATIENCE_S,
        on_timeout=lab.story,
        every=0.05,
    )


# ----------------------------------------------------------------


def window(lab: Lab, told: float) -> tuple[float, float]:
    """From when on all that runs began while everybody waited everywhere, to when the first waits no more."""
    begin = max(run.end for run in lab.runs() if run.start < told)
    end = min(max(run.start for run in lab.runs(user)) for user in lab.cluster.users)
    assert end - begin > 2, "there was time to be unfair"
    return begin, end


def said(lab: Lab, user: str) -> list[str]:
    """What the policy said of a user's jobs, on all nodes."""
    return [f"{node}: {one['says']}" for node, card in lab.cards(user).items() for one in card["said"]]


def kept_by(lab: Lab, user: str) -> list[str]:
    """The nodes that are kept for a job of a user."""
    return [text.partition(":")[0] for text in said(lab, user) if "is kept for job" in text]
