"""Daemons and supervisors are killed with SIGKILL, and replaced in full flight, on a cluster."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.cluster import checkers
from tests.cluster.lab import ENV, Lab, ledger_jobs
from tests.cluster.wait import wait_until

if TYPE_CHECKING:
    from tests.cluster.plugin import MakeCluster

ROOMY = {**ENV, "RQ_CORES": "8"}


@pytest.mark.parametrize("daemons_too", [False, True], ids=["supervisors", "supervisors and daemons"])
def test_killed_supervisors_take_their_jobs_along(make_cluster: MakeCluster, daemons_too: bool) -> None:
    """Also what those left behind; what may run again does, as a new attempt, and the rest is lost."""
    lab = Lab(make_cluster(nodes=2, users=("ann", "bob"), env=ROOMY))
    n1, n2 = lab.cluster
    lab.start_daemons()
    again = lab.bulk(n1, "ann", ledger_jobs("again", 4, 3, restartable=True, leaves=True))
    lost = lab.bulk(n2, "ann", ledger_jobs("lost", 4, 600, leaves=True))
    untouched = lab.bulk(n1, "bob", ledger_jobs("bob", 2, 5))
    begun = [f"{name}-{i}{left}" for name in ("again", "lost") for i in range(4) for left in ("", "+left")]
    lab.wait_began(*begun, "bob-0", "bob-1")

    hit = []
    for node in lab.cluster:
        if daemons_too:
            lab.kill_daemon(node, "ann")
        hit += lab.kill_supervisors(node, "ann")
        if daemons_too:
            lab.start_daemon(node, "ann")
    lab.wait_ended()

    assert set(hit) >= set(lost)
    for job in lost:
        assert lab.outcome("ann", job) == checkers.Outcome("zombie", None, None, "lost")
    for job in again:
        assert lab.outcome("ann", job) == checkers.Outcome("completed", 0, None, None)
    attempts = {(run.job, run.attempt) for run in lab.runs("ann")}
    assert attempts >= {(job, 2) for job in again if job in hit}
    assert {run.attempt for run in lab.runs("bob")} == {1}
    assert {lab.outcome("bob", job).state for job in untouched} == {"completed"}
    lab.check(cores=8)


def test_whatever_is_killed_nothing_is_lost_or_run_twice(make_cluster: MakeCluster) -> None:
    """Daemons, supervisors and both, at random, while jobs come and go."""
    lab = Lab(make_cluster(nodes=2, users=("ann", "bob"), env=ENV))
    chance = random.Random(20261121)
    lab.start_daemons()
    for user, node in zip(("ann", "bob"), lab.cluster, strict=True):
        lab.bulk(node, user, ledger_jobs(f"{user}-again", 10, 0.3, restartable=True, leaves=True))
        lab.bulk(node, user, ledger_jobs(f"{user}-once", 10, 0.3))
        lab.bulk(node, user, ledger_jobs(f"{user}-fails", 3, 0.1, exit_code=3))
    kills = 0

    def kill() -> bool:
        nonlocal kills
        user, node = chance.choice(("ann", "bob")), chance.choice(list(lab.cluster))
        what = chance.choice(("daemon", "one supervisor", "supervisors", "both"))
        if what in ("daemon", "both"):
            lab.kill_daemon(node, user)
        if what == "one supervisor":
            kills += len(lab.kill_supervisors(node, user, list(lab.supervisors(node, user))[:1]))
        elif what != "daemon":
            kills += len(lab.kill_supervisors(node, user))
        if what in ("daemon", "both"):
            lab.start_daemon(node, user)
        return kills >= 12 or all(checkers.all_ended(lab.cluster.server, user) for user in ("ann", "bob"))

    wait_until(kill, 120, every=0.4, on_timeout=lab.story)
    lab.wait_ended()

    lab.check()
    counts = lab.counts()
    assert counts["completed"] >= 20, "all that may run again ended well"
    assert kills, "something was hit"


def test_daemons_that_take_over_from_one_another_start_each_job_once(make_cluster: MakeCluster) -> None:
    """An upgrade in full flight: a new daemon comes several times a second; no job notices."""
    lab = Lab(make_cluster(nodes=2, users=("ann",), env=ENV))
    lab.start_daemons()
    lab.bulk(lab.cluster["n1"], "ann", ledger_jobs("job", 24, 0.2, leaves=True))
    started = [lab.start_daemon(node, "ann") for node in lab.cluster]

    def take_over() -> bool:
        # Not more than can come up. Of two that come at once either may be the one that stays.
        if sum(daemon.poll() is None for daemon in started) <= len(list(lab.cluster)):
            started.extend(lab.start_daemon(node, "ann") for node in lab.cluster)
        if not checkers.all_ended(lab.cluster.server):
            return False
        if len(started) >= 6:
            return True
        lab.bulk(lab.cluster["n1"], "ann", ledger_jobs(f"more-{len(lab.accepted['ann'])}", 4, 0.2))
        return False

    wait_until(take_over, 120, every=0.2, on_timeout=lab.story)

    lab.check()
    assert {lab.outcome("ann", job).state for job in lab.accepted["ann"]} == {"completed"}
    assert {run.attempt for run in lab.runs()} == {1}
