"""Promises about homes whose file system does not answer: they hang nobody but their owner."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from tests.cluster import checkers
from tests.cluster.wait import wait_until

if TYPE_CHECKING:
    from tests.cluster.box import Cluster
    from tests.cluster.node import Node
    from tests.cluster.plugin import MakeCluster

ENV = {
    "RQ_CORES": "2",
    "RQ_POLL_MIN": "0.1",
    "RQ_POLL_MAX": "1",
    "RQ_GRACE": "2",
    "RQ_AUTO_START": "false",
}
#: What a look may take beside a home that hangs: the patience, and a loaded machine.
LOOK_S = 20.0


def rq(node: Node, user: str, *words: str) -> str:
    """What a command prints; it must succeed, and not wait for those who hang."""
    began_s = time.monotonic()
    done = node.run(["rq", *words], user=user, timeout=60)
    assert done.returncode == 0, (words, done)
    assert time.monotonic() - began_s < LOOK_S, words
    return done.stdout


def state(node: Node, user: str, job: str) -> str:
    """The state of a job, as the server has it."""
    return checkers.states(node.cluster.server, user).get(job, "nowhere")


def hang(node: Node, how: bool | str) -> None:
    """From now on whatever ann asks of eve's home is not answered; eve herself is."""
    node.fault(match="^eve(/|$)", uid=node.cluster.user("ann").uid, hang=how)


@pytest.fixture
def c(make_cluster: MakeCluster) -> Cluster:
    """Ann and eve on one node, eve with a job that runs."""
    return make_cluster(nodes=1, users=("ann", "eve"), env=ENV)


@pytest.mark.parametrize("how", [True, "D"])
def test_a_strangers_home_that_hangs_hangs_neither_daemon_nor_commands(c: Cluster, how: bool | str) -> None:
    """My jobs go on, lists answer and say whose home it is; and what runs there still has its cores."""
    n1 = c["n1"]
    for user in ("ann", "eve"):
        n1.popen(["rq", "daemon", "--foreground"], user=user)
    theirs = rq(n1, "eve", "run", "--parsable", "sh", "-c", "until [ -e go ]; do sleep 0.1; done").strip()
    wait_until(lambda: state(n1, "eve", theirs) == "running", 30)
    # Ann's daemon meets eve while she answers.
    first = rq(n1, "ann", "run", "--parsable", "true").strip()
    wait_until(lambda: state(n1, "ann", first) == "completed", 30)

    hang(n1, how)
    small = [rq(n1, "ann", "run", "--parsable", "true").strip() for _ in range(3)]
    large = rq(n1, "ann", "run", "--parsable", "-c", "2", "true").strip()
    wait_until(lambda: all(state(n1, "ann", job) == "completed" for job in small), 60)
    told = "Homes that do not answer, whose queues, if any, cannot be seen now: eve."
    listed = rq(n1, "ann", "q")
    assert told in listed
    assert "/home/eve does not answer: what its user runs here counts as it was last seen" in listed
    assert told in rq(n1, "ann", "nodes")
    assert json.loads(rq(n1, "ann", "users", "--json"))["hidden"] == ["eve"]
    assert "1 of 2 free" in rq(n1, "ann", "why", large)
    assert state(n1, "ann", large) == "waiting"

    n1.clear_faults()
    wait_until(lambda: "not answer" not in rq(n1, "ann", "q"), 60)
    n1.run(["touch", "go"], user="eve")
    wait_until(lambda: state(n1, "ann", large) == "completed", 60)


def test_a_home_that_never_answered_stops_nothing(c: Cluster) -> None:
    """A daemon that begins beside it serves, takes jobs, and leaves when it is told to."""
    n1 = c["n1"]
    n1.run(["mkdir", "-m", "755", ".roundqueue"], user="eve")
    hang(n1, how=True)
    began_s = time.monotonic()
    n1.popen(["rq", "daemon", "--foreground"], user="ann")
    job = rq(n1, "ann", "run", "--parsable", "-c", "2", "true").strip()
    wait_until(lambda: state(n1, "ann", job) == "completed", 60)
    assert time.monotonic() - began_s < 3 * LOOK_S
    rq(n1, "ann", "daemon", "--stop")


def test_requests_are_answered_while_a_strangers_home_hangs(c: Cluster) -> None:
    """A cancel of mine does not wait for anybody's file server."""
    n1 = c["n1"]
    n1.popen(["rq", "daemon", "--foreground"], user="ann")
    n1.run(["mkdir", "-m", "755", ".roundqueue"], user="eve")
    running = rq(n1, "ann", "run", "--parsable", "sleep", "1000").strip()
    wait_until(lambda: state(n1, "ann", running) == "running", 30)
    hang(n1, how=True)
    waiting = rq(n1, "ann", "run", "--parsable", "-c", "2", "sleep", "1000").strip()
    rq(n1, "ann", "cancel", running, waiting)
    wait_until(lambda: {state(n1, "ann", job) for job in (running, waiting)} == {"canceled"}, 30)
