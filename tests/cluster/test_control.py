"""What people do to many jobs at once, from any node of a cluster, while daemons run them on all."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.lab import HOMES, PATIENCE_S, Lab
from tests.cluster.wait import wait_until

if TYPE_CHECKING:
    from tests.cluster.box import Cluster
    from tests.cluster.checkers import Interval
    from tests.cluster.plugin import MakeCluster

#: Fails in its first attempt.
FAILS_ONCE = "exec ledger $RQ_JOB_NAME-$RQ_ARRAY_TASK_ID 0.1 1 $((RQ_RESTART_COUNT == 0))"


def cluster_of(make: MakeCluster, home: str) -> Cluster:
    return make(nodes=3, users=("ann",), **HOMES[home])


def array(lab: Lab, node: str, spec: str, *words: str) -> str:
    """Submits an array as Ann; its id. Its tasks are accepted jobs."""
    options = (
        words if words[0].startswith("-") else ("-J", words[0], "ledger", f"{words[0]}-{{index}}", words[1])
    )
    return lab.rq(lab.cluster[node], "ann", "run", "--parsable", "--array", spec, *options).strip()


def most_at_once(runs: list[Interval]) -> int:
    return max(sum(other.start <= run.start < other.end for other in runs) for run in runs)


def jobs(lab: Lab, node: str, *words: str) -> list[dict[str, Any]]:
    """What `rq list --json` tells of jobs there."""
    found: list[dict[str, Any]] = json.loads(lab.rq(lab.cluster[node], "ann", "list", "--json", *words))[
        "jobs"
    ]
    return found


# ---------------------------------------------------------------- arrays


def test_an_array_is_one_thing_or_many_on_every_node(make_cluster: MakeCluster) -> None:
    """Submitted on one node, held, canceled and limited on others, run on all: each task once, or never."""
    c = cluster_of(make_cluster, "nfs")
    lab = Lab(c)
    fit = array(lab, "n1", "0-39%3", "fit", "0.2")
    assert "30" in lab.rq(c["n2"], "ann", "cancel", f"{fit}_[30-39]", "--dry-run")
    lab.rq(c["n2"], "ann", "cancel", f"{fit}_[30-39]")
    lab.rq(c["n3"], "ann", "hold", f"{fit}_[20-29]")
    lab.start_daemons()
    wait_until(lambda: lab.counts()["completed"] == 20, PATIENCE_S, on_timeout=lab.story)
    assert {run.label for run in lab.runs()} == {f"fit-{index}" for index in range(20)}
    assert most_at_once(lab.runs()) <= 3

    lab.rq(c["n2"], "ann", "limit", fit, "none")
    lab.rq(c["n1"], "ann", "release", fit)
    lab.rq(c["n3"], "ann", "wait", fit, code=1)

    assert Counter(run.label for run in lab.runs()) == {f"fit-{index}": 1 for index in range(30)}
    assert lab.counts() == {"completed": 30, "canceled": 10}
    assert len({run.node for run in lab.runs()}) == 3
    for node in c.nodes:
        told = lab.rq(c[node], "ann", "list", "name=fit and state=completed", "-o", "id", "--csv").split()
        assert set(told[1:]) == {f"{fit}_{index}" for index in range(30)}


def test_tasks_of_chunks_run_once_each_on_several_nodes(make_cluster: MakeCluster) -> None:
    """And only what did not end well runs again, although a daemon is killed meanwhile."""
    c = cluster_of(make_cluster, "nfs")
    lab = Lab(c)
    words = ("-J", "part", "--chunk", "4", "sh", "-c", FAILS_ONCE)
    part = array(lab, "n1", "0-23", *words)
    lab.start_daemons()
    lab.wait_began("part-0")
    lab.kill_daemon(c["n1"], "ann")
    lab.start_daemon(c["n1"], "ann")
    lab.rq(c["n2"], "ann", "wait", part, code=1)
    assert lab.counts() == {"failed": 6}

    said = lab.rq(c["n3"], "ann", "rerun", "state=failed and name=part")
    assert "6 jobs" in said
    lab.rq(c["n2"], "ann", "wait", part)

    assert lab.counts() == {"completed": 6}
    assert Counter(run.label for run in lab.runs()) == {f"part-{index}": 2 for index in range(24)}
    assert len({run.node for run in lab.runs()}) > 1


# ---------------------------------------------------------------- all at once


@pytest.mark.parametrize("home", HOMES)
def test_many_hands_on_the_same_jobs_lose_none_and_run_none_twice(
    make_cluster: MakeCluster, home: str
) -> None:
    """Three nodes hold, release, edit and cancel the same jobs by expressions, while daemons start them."""
    c = cluster_of(make_cluster, home)
    lab = Lab(c)
    many = array(lab, "n1", "0-59", "many", "0.2")
    lab.start_daemons()
    lab.wait_began("many-0")
    orders = [
        ("n1", "hold", "name=many and state=waiting"),
        ("n2", "edit", "--priority", "high", "name=many and state=waiting"),
        ("n3", "cancel", "--waiting", f"{many}_[50-59]"),
        ("n3", "release", "name=many"),
        ("n2", "hold", f"{many}_[20-40]"),
        ("n1", "edit", "--time", "1h", f"{many}_[30-45]"),
    ]
    for _ in range(2):
        hands = [
            (c[node].popen(["rq", *words], user="ann", stdout=subprocess.PIPE, stderr=subprocess.PIPE), words)
            for node, *words in orders
        ]
        for hand, words in hands:
            out, err = hand.communicate(timeout=PATIENCE_S)
            # What another one has done meanwhile is said, and is no failure of the program.
            assert hand.returncode in (0, 1), (words, out, err)
            assert not re.search(rb"Traceback|internal error", err), (words, err)

    def all_ended() -> bool:
        # What was put on hold last may be seen late by who releases it.
        lab.rq(c["n1"], "ann", "release", many, code=None)
        return set(lab.counts()) <= {"completed", "canceled"}

    wait_until(all_ended, PATIENCE_S, on_timeout=lab.story, every=1.0)

    lab.accepted["ann"] = [f"{many}_{index}" for index in range(60)]
    lab.check()
    ran = Counter(run.label for run in lab.runs())
    assert set(ran.values()) == {1}
    canceled = {job for job, state in lab.states("ann").items() if state == "canceled"}
    assert canceled <= {f"{many}_{index}" for index in range(50, 60)}
    assert not canceled & {label.replace("many-", f"{many}_") for label in ran}
    assert {job["state"] for job in jobs(lab, "n2", many)} <= {"completed", "canceled"}
    assert len({run.node for run in lab.runs()}) == 3
