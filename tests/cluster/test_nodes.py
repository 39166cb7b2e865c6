"""Nodes that crash, freeze, are cut off from the home, have wrong clocks, or the name of another."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster import checkers, clocks
from tests.cluster.lab import ENV, PATIENCE_S, Lab, ledger_jobs
from tests.cluster.wait import wait_until
from tests.rights import need

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.node import Node
    from tests.cluster.plugin import MakeCluster

#: More than any time after which roundq believes something else.
LONG_S = 3 * 3600
#: No clock of a cluster is right.
HOURS = {"n1": 5.0, "n2": -7.0}


def alive(node: Node, label: str) -> bool:
    """Whether the process of a ledger job lives on a node, as the process table tells."""
    return any(f"ledger.py {label} " in words for words in node.commands())


# ---------------------------------------------------------------- crashes


def test_nodes_that_crash_again_and_again_lose_nothing(make_cluster: MakeCluster) -> None:
    """Each comes back with a new boot id; what may run again does, the rest is lost, and said to be."""
    lab = Lab(make_cluster(nodes=3, users=("ann", "bob"), env=ENV, fsopts="wdelay=0.2"))
    chance = random.Random(3)
    lab.start_daemons()
    for user, node in (("ann", "n1"), ("bob", "n2")):
        lab.bulk(
            lab.cluster[node], user, ledger_jobs(f"{user}-again", 12, 0.5, restartable=True, leaves=True)
        )
        lab.bulk(lab.cluster[node], user, ledger_jobs(f"{user}-once", 12, 0.5))
    crashes = 0

    def crash() -> bool:
        nonlocal crashes
        node = chance.choice(list(lab.cluster))
        lab.crash(node)
        node.start()
        lab.start_daemons(node)
        crashes += 1
        return crashes == 6

    wait_until(crash, PATIENCE_S, every=1.0, on_timeout=lab.story)
    lab.wait_ended()

    lab.check()
    outcomes = [lab.outcome(user, job) for user in ("ann", "bob") for job in lab.accepted[user]]
    assert {outcome.state for outcome in outcomes} <= {"completed", "zombie"}
    assert lab.counts()["completed"] >= 24, "all that may run again ended well"
    assert any(run.attempt == 2 for run in lab.runs()), "something was hit"


# ---------------------------------------------------------------- frozen


def test_a_node_that_was_frozen_longer_than_any_timeout_goes_on(make_cluster: MakeCluster) -> None:
    """Hours pass on all clocks, its own too: it ends its jobs, and nothing was done twice meanwhile."""
    need(not clocks.missing(), clocks.missing())
    lab = Lab(make_cluster(nodes=2, users=("ann",), env=ENV))
    n1, n2 = lab.cluster
    leaping = {node.name: clocks.Leaping(node) for node in lab.cluster}
    lab.start_daemon(n1, "ann", leaping["n1"].environment)
    running = lab.bulk(
        n2, "ann", ledger_jobs("again", 1, 600, restartable=True) + ledger_jobs("once", 1, 600)
    )
    lab.wait_began("again-0", "once-0")
    lab.start_daemon(n2, "ann", leaping["n2"].environment)
    more = lab.bulk(n2, "ann", ledger_jobs("more", 6, 0.1, restartable=True))

    n1.freeze()
    wait_until(lambda: set(lab.states("ann").values()) == {"running", "completed"}, PATIENCE_S)
    for clock in leaping.values():
        clock.leap(LONG_S)
    late = lab.bulk(n2, "ann", ledger_jobs("late", 6, 0.1, restartable=True))
    wait_until(lambda: all(lab.states("ann")[job] == "completed" for job in late), PATIENCE_S)

    assert {lab.states("ann")[job] for job in running} == {"running"}
    lab.end_jobs(n1, "again-0", "once-0")
    lab.thaw(n1)
    lab.wait_ended()

    # A job that is begun after the thaw shows that its daemon goes on, too.
    lab.kill_daemon(n2, "ann")
    last = lab.bulk(n2, "ann", ledger_jobs("last", 2, 0.1))
    lab.wait_ended()
    assert {lab.outcome("ann", job).state for job in (*running, *more, *late, *last)} == {"completed"}
    assert {run.attempt for run in lab.runs()} == {1}
    assert {run.node for run in lab.runs() if run.label.startswith(("again", "once", "last"))} == {"n1"}
    lab.check()


# ---------------------------------------------------------------- cut off from the home


@pytest.mark.parametrize("how", ["hangs", "times out", "EIO"])
def test_a_node_that_is_cut_off_from_the_home_ends_its_jobs(make_cluster: MakeCluster, how: str) -> None:
    """Limits hold meanwhile; ends are recorded, and cancels obeyed, when it is back; nothing runs twice."""
    lab = Lab(
        make_cluster(
            nodes=2,
            users=("ann",),
            env={**ENV, "RQ_CORES": "4"},
            fsopts="soft=0.5" if how == "times out" else "",
        )
    )
    n1, n2 = lab.cluster
    lab.start_daemon(n1, "ann")
    (ends,) = lab.bulk(n2, "ann", ledger_jobs("ends", 1, 600))
    (fails,) = lab.bulk(n2, "ann", ledger_jobs("fails", 1, 600, exit_code=3))
    (limited,) = lab.bulk(n2, "ann", ledger_jobs("limited", 1, 900, time_limit_s=3.0, leaves=True))
    (cancel,) = lab.bulk(n2, "ann", ledger_jobs("cancel", 1, 600, restartable=True, leaves=True))
    begun = ("ends-0", "fails-0", "limited-0", "limited-0+left", "cancel-0", "cancel-0+left")
    lab.wait_began(*begun)
    lab.start_daemon(n2, "ann")

    if how == "EIO":
        n1.fault(errno="EIO")
    else:
        n1.partition()
    lab.rq(n2, "ann", "cancel", cancel)
    (other,) = lab.bulk(n2, "ann", ledger_jobs("other", 1, 0.1))
    # What has to end does without the home.
    wait_until(lambda: not any(alive(n1, label) for label in begun[2:4]), PATIENCE_S, on_timeout=n1.commands)
    lab.end_jobs(n1, "ends-0", "fails-0")
    wait_until(lambda: not any(alive(n1, label) for label in begun[:4]), PATIENCE_S, on_timeout=n1.commands)
    wait_until(lambda: lab.states("ann")[other] == "completed", PATIENCE_S, on_timeout=lab.story)
    assert {lab.states("ann")[job] for job in (ends, fails, cancel)} == {"running"}
    if how == "EIO":
        n1.clear_faults()
    else:
        n1.heal()
    lab.wait_ended()

    assert lab.outcome("ann", ends) == checkers.Outcome("completed", 0, None, None)
    assert lab.outcome("ann", fails) == checkers.Outcome("failed", 3, None, "exit")
    assert lab.outcome("ann", limited).reason == "time limit"
    assert lab.outcome("ann", cancel).state == "canceled"
    assert {run.attempt for run in lab.runs()} == {1}
    lab.check(cores=4)


def test_nodes_that_are_cut_off_again_and_again_lose_nothing(make_cluster: MakeCluster) -> None:
    """At any moment of any job: each runs once, and is completed."""
    lab = Lab(make_cluster(nodes=3, users=("ann",), env=ENV))
    chance = random.Random(5)
    lab.start_daemons()
    ids = lab.bulk(lab.cluster["n1"], "ann", ledger_jobs("job", 60, 0.2, restartable=True))
    cuts = 0

    def cut() -> bool:
        nonlocal cuts
        cuts += 1
        for node in lab.cluster:
            node.heal()
        chance.choice(list(lab.cluster)).partition()
        return cuts >= 8 or checkers.all_ended(lab.cluster.server)

    wait_until(cut, PATIENCE_S, every=0.7, on_timeout=lab.story)
    for node in lab.cluster:
        node.heal()
    lab.wait_ended()

    assert cuts >= 3, "nodes were cut off while jobs ran"
    assert {lab.outcome("ann", job).state for job in ids} == {"completed"}
    assert checkers.ran_once(lab.runs(), [f"job-{i}" for i in range(60)]) == []
    lab.check()


# ---------------------------------------------------------------- names


def test_a_new_machine_of_an_old_name_finds_the_jobs_of_the_old_one_lost(make_cluster: MakeCluster) -> None:
    """The old one has not been heard of for minutes: what may run again does, the rest is lost."""
    need(not clocks.missing(), clocks.missing())
    lab = Lab(make_cluster(nodes=2, users=("ann",), env=ENV))
    n1, n2 = lab.cluster
    n2.stop()
    lab.start_daemon(n1, "ann")
    lost, again = lab.bulk(
        n1, "ann", ledger_jobs("lost", 1, 600) + ledger_jobs("again", 1, 1, restartable=True)
    )
    lab.wait_began("lost-0", "again-0")

    lab.crash(n1)
    n2.hostname = "n1"
    n2.start()
    clock = clocks.Leaping(n2)
    lab.start_daemon(n2, "ann", clock.environment)
    wait_until(lambda: "it is watched for a while" in log_of(lab, "n1"), PATIENCE_S)
    assert set(lab.states("ann").values()) == {"running"}
    clock.leap(LONG_S)
    lab.wait_ended()

    assert lab.outcome("ann", lost).state == "zombie"
    assert lab.outcome("ann", again).state == "completed"
    lab.check()


def test_a_newcomer_of_a_name_that_lives_leaves_its_jobs_alone(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    """Two living nodes of one name: the second starts nothing, takes nobody for dead, and says so."""
    lab = Lab(make_cluster(nodes=2, users=("ann",), env=ENV))
    n1, n2 = lab.cluster
    n2.stop()
    n2.hostname = "n1"
    n2.start()
    lab.start_daemon(n1, "ann")
    long = lab.bulk(n1, "ann", ledger_jobs("again", 1, 600, restartable=True))
    lab.wait_began("again-0")

    # Not in its log, to which both append: that loses lines on NFS.
    said = tmp_path / "said"
    with said.open("wb") as screen:
        n2.popen(["rq", "daemon", "--foreground", "-v"], user="ann", cwd="/", stderr=screen)
    wait_until(lambda: "another machine was called n1" in said.read_text(), PATIENCE_S, on_timeout=lab.story)
    # Each is news for the card of the first.
    lab.bulk(n1, "ann", ledger_jobs("short", 6, 0.3))
    wait_until(
        lambda: "another living node is called n1" in said.read_text(), PATIENCE_S, on_timeout=lab.story
    )
    told = n2.run(["rq", "daemon"], user="ann")
    assert told.returncode == 1
    assert told.stderr.startswith("rq: your daemon runs, but does nothing: another machine was called n1")
    lab.end_jobs(n1, "again-0")
    lab.wait_ended()

    assert lab.outcome("ann", long[0]).state == "completed"
    assert {run.attempt for run in lab.runs()} == {1}
    assert {run.mark.partition(".")[0] for run in lab.runs() if run.mark} == {n1.boot_id}
    lab.check()


def log_of(lab: Lab, node: str) -> str:
    """The log of ann's daemons on the nodes of this name, as far as the server has it."""
    for one in lab.cluster:
        if one.is_on:
            one.run(["cat", f"/home/ann/.roundqueue/{node}.log"], user="ann")
    with open(f"{lab.cluster.home('ann')}/.roundqueue/{node}.log", errors="replace") as file:
        return file.read()


# ---------------------------------------------------------------- clocks


def test_clocks_that_differ_by_hours_matter_to_nobody(make_cluster: MakeCluster) -> None:
    """Of daemons, supervisors and commands: limits, cancels, restarts, takeovers and lists are as ever."""
    need(not clocks.missing(), clocks.missing())
    lab = Lab(make_cluster(nodes=3, users=("ann", "bob"), env=ENV))
    n1, n2, n3 = lab.cluster
    env = {node.name: clocks.wrong_by(HOURS[node.name]) if node.name in HOURS else {} for node in lab.cluster}

    def rq(node: Node, *words: str) -> str:
        done = node.run(["rq", *words], user="ann", env=env[node.name], timeout=PATIENCE_S)
        assert done.returncode == 0, (words, done)
        return done.stdout

    for node in lab.cluster:
        for user in ("ann", "bob"):
            lab.start_daemon(node, user, env[node.name])
    for user in ("ann", "bob"):
        lab.bulk(n3, user, ledger_jobs(f"{user}-job", 12, 0.2, restartable=True))
    limited = [
        rq(
            node, "run", "--parsable", "-t", "1s", *clocks.TRUE, "ledger", f"limited-{node.name}", "600"
        ).strip()
        for node in (n1, n2)
    ]
    cancel = [
        rq(node, "run", "--parsable", "-R", *clocks.TRUE, "ledger", f"cancel-{node.name}", "600").strip()
        for node in (n1, n2)
    ]
    lab.accepted["ann"] += limited + cancel
    lab.wait_began("cancel-n1", "cancel-n2")
    for node in lab.cluster:
        # An upgrade; the newcomer has the clock of its node, too.
        lab.start_daemon(node, "ann", env[node.name])
    rq(n1, "restart", cancel[1])
    wait_until(lambda: any(run.attempt == 2 for run in lab.runs("ann")), PATIENCE_S, on_timeout=lab.story)
    listed = {node.name: json.loads(rq(node, "q", "--json"))["jobs"] for node in lab.cluster}
    rq(n2, "cancel", "--wait", cancel[0])
    rq(n1, "cancel", "--wait", cancel[1])
    lab.wait_ended()

    outcomes = checkers.outcomes(lab.cluster.server, "ann")
    assert {outcomes[job].reason for job in limited} == {"time limit"}
    assert {outcomes[job].state for job in cancel} == {"canceled"}
    completed = [o for user in ("ann", "bob") for o in checkers.outcomes(lab.cluster.server, user).values()]
    assert sum(outcome.state == "completed" for outcome in completed) == 24
    for jobs in listed.values():
        for job in jobs:
            assert all(_is_sane(job[key]) for key in ("run_time", "wait_time")), job
    lab.check()


def _is_sane(seconds: Any) -> bool:
    # A job that begins on one node and is looked at from another is as old as both clocks say.
    return seconds is None or 0 <= seconds < 13 * 3600
