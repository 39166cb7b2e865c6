"""The whole system on a cluster: real `rq`, real daemons, real users, one home as bad as NFS."""

from __future__ import annotations

import json
import random
import re
from typing import TYPE_CHECKING

import pytest

from tests.cluster import checkers
from tests.cluster.lab import CORES, ENV, supply_of
from tests.cluster.wait import wait_until

if TYPE_CHECKING:
    import subprocess

    from tests.cluster.box import Cluster
    from tests.cluster.node import Node
    from tests.cluster.plugin import MakeCluster

USERS = ("ann", "bob", "cyd")
JOBS_PER_USER = 300
#: Submits many jobs in one process, as a program would: one ledger job each.
BULK = """
import os, sys
from roundq.actors import queue
from roundq.words.job import Job
user, count = sys.argv[1], int(sys.argv[2])
jobs = [
    Job(("/opt/rq/bin/ledger", f"{user}-{i}", "0.02", str(1 + (i % 10 == 0))), directory=os.environ["HOME"],
        output="bulk.out", cores=1 + (i % 10 == 0), max_output=0, restartable=False)
    for i in range(count)
]
print(*queue.submit(queue.mine(os.environ), jobs, os.environ, os.uname().nodename))
"""


def start_daemons(cluster: Cluster) -> dict[tuple[str, str], subprocess.Popen[bytes]]:
    """One daemon for each user on each node."""
    return {(node.name, user): start_daemon(node, user) for node in cluster for user in cluster.users}


def start_daemon(node: Node, user: str) -> subprocess.Popen[bytes]:
    """A daemon in the foreground, so that the test can kill it."""
    return node.popen(["rq", "daemon", "--foreground"], user=user)


def rq(node: Node, user: str, *words: str, code: int = 0) -> str:
    """What a command prints; it must exit with `code`."""
    done = node.run(["rq", *words], user=user, timeout=60)
    assert done.returncode == code, (words, done)
    return done.stdout


def submit(node: Node, user: str, *words: str) -> str:
    """The id of a job that `rq run` accepted."""
    return rq(node, user, "run", "--parsable", *words).strip()


def bulk(node: Node, user: str, count: int) -> list[str]:
    """The ids of many ledger jobs, one in ten of two cores."""
    done = node.run(["python", "-c", BULK, user, str(count)], user=user, timeout=120)
    assert done.returncode == 0, done
    return done.stdout.split()


def story(cluster: Cluster) -> str:
    """Where every job is."""
    return "\n".join(str(found) for found in checkers.find(cluster.server) if found.state in checkers.OPEN)


def wait_all_ended(cluster: Cluster, timeout: float) -> None:
    wait_until(
        lambda: all(checkers.all_ended(cluster.server, user) for user in cluster.users),
        timeout,
        on_timeout=lambda: story(cluster),
        every=0.5,
    )


def check_all(cluster: Cluster, accepted: dict[str, list[str]]) -> None:
    """Every job there once, true, and no node ever over its cores."""
    checkers.check(cluster.server, accepted, ledger=cluster.ledger, supply=supply_of(CORES))


def test_three_users_on_three_nodes_run_every_job_exactly_once(make_cluster: MakeCluster) -> None:
    """900 short jobs, one in ten of two cores: each once, all ended well, no node ever over its cores."""
    c = make_cluster(nodes=3, users=USERS, env=ENV)
    start_daemons(c)

    accepted = {user: bulk(c[f"n{1 + i}"], user, JOBS_PER_USER) for i, user in enumerate(USERS)}
    wait_all_ended(c, 300)

    check_all(c, accepted)
    labels = [f"{user}-{i}" for user in USERS for i in range(JOBS_PER_USER)]
    assert checkers.ran_once(checkers.intervals(c.ledger), labels) == []
    assert {o.state for user in USERS for o in checkers.outcomes(c.server, user).values()} == {"completed"}
    nodes = {run.node for run in checkers.intervals(c.ledger)}
    assert nodes == {"n1", "n2", "n3"}, "all nodes took part"


def test_daemons_killed_at_random_lose_nothing(make_cluster: MakeCluster) -> None:
    """Killed with SIGKILL and started again all the time: each job exactly once, outcomes true."""
    c = make_cluster(nodes=3, users=USERS, env=ENV)
    chance = random.Random(20261120)
    daemons = start_daemons(c)
    count = 100
    accepted = {user: bulk(c[f"n{1 + i}"], user, count) for i, user in enumerate(USERS)}
    kills = 0

    def kill_one() -> bool:
        nonlocal kills
        name, user = chance.choice(sorted(daemons))
        daemons[name, user].kill()
        daemons[name, user].wait()
        daemons[name, user] = start_daemon(c[name], user)
        kills += 1
        return all(checkers.all_ended(c.server, user) for user in USERS)

    wait_until(kill_one, 300, on_timeout=lambda: story(c), every=0.2)

    check_all(c, accepted)
    assert (
        checkers.ran_once(
            checkers.intervals(c.ledger), [f"{user}-{i}" for user in USERS for i in range(count)]
        )
        == []
    )
    assert kills >= 10


def test_the_commands_of_a_first_session(make_cluster: MakeCluster) -> None:
    """run, list, nodes, users, show, log, wait, cancel, why: from any node, about jobs on any other."""
    c = make_cluster(nodes=2, users=("ann", "bob"), env=ENV)
    n1, n2 = c["n1"], c["n2"]
    for user in ("ann", "bob"):
        start_daemon(n2, user)

    job = submit(n1, "ann", "-J", "hello", "echo", "hello from", "--where")
    rq(n1, "ann", "wait", job, "--timeout", "60s")

    assert "hello from --where" in rq(n1, "ann", "log", job)
    assert "hello from --where" in n1.run(["cat", "hello.out"], user="ann").stdout
    shown = json.loads(rq(n1, "ann", "show", "--json", job))
    assert "n2" in json.dumps(shown)
    failed = submit(n1, "bob", "sh", "-c", "exit 3")
    rq(n1, "bob", "wait", failed, "--timeout", "60s", code=1)
    long = submit(n1, "ann", "-J", "long", "sleep", "600")
    wide = submit(n1, "ann", "-c", "2", "-J", "wide", "sleep", "600")
    wait_until(lambda: "running" in rq(n1, "ann", "--mine"), 30, on_timeout=lambda: rq(n1, "ann"))
    listed = rq(n1, "bob")
    assert re.search(r"running\s+" + long, listed), listed
    assert "exit 3" in listed
    assert "n2" in rq(n1, "ann", "nodes")
    assert "ann" in rq(n1, "ann", "users")
    why = wait_until(lambda: re.search("needs 2 cores, 1 of 2 free", rq(n1, "ann", "why", wide)), 30)
    assert why
    rq(n1, "ann", "cancel", "--wait", "long", "wide")
    assert {checkers.outcomes(c.server, "ann")[id_].state for id_ in (long, wide)} == {"canceled"}
    rq(n1, "bob", "cancel", "nonesuch", code=1)
    checkers.check(c.server)


def test_a_job_submitted_anywhere_starts_a_daemon_that_survives_logout(make_cluster: MakeCluster) -> None:
    """Zero configuration: `rq run` on a node without a daemon is enough, and its session may end."""
    c = make_cluster(nodes=1, users=("ann",), env={**ENV, "RQ_AUTO_START": "true"})

    done = c["n1"].run(["sh", "-c", "rq run --parsable sh -c 'echo done' && kill -HUP 0"], user="ann")
    job = done.stdout.strip()
    assert job.isdigit(), done

    rq(c["n1"], "ann", "wait", job, "--timeout", "60s")
    assert "done" in rq(c["n1"], "ann", "log", job)


def test_a_crashed_node_loses_its_jobs_and_says_so(make_cluster: MakeCluster) -> None:
    """After the reboot a job is lost, never well; a restartable one runs again."""
    c = make_cluster(nodes=2, users=("ann",), env=ENV, fsopts="wdelay=0.2")
    start_daemon(c["n2"], "ann")
    lost = submit(c["n1"], "ann", "ledger", "lost", "600")
    again = submit(c["n1"], "ann", "-R", "ledger", "again", "2")
    wait_until(lambda: len(checkers.intervals(c.ledger)) == 2, 30, on_timeout=lambda: story(c))

    c["n2"].crash()
    assert {checkers.states(c.server, "ann")[job] for job in (lost, again)} == {"running"}
    c["n2"].start()
    start_daemon(c["n2"], "ann")
    wait_all_ended(c, 60)

    outcomes = checkers.outcomes(c.server, "ann")
    assert (outcomes[lost].state, outcomes[lost].exit_code) == ("zombie", None)
    assert (outcomes[again].state, outcomes[again].exit_code) == ("completed", 0)
    check_all(c, {"ann": [lost, again]})


@pytest.mark.parametrize("mistake", ["ENOENT", "EIO"])
def test_lost_replies_of_the_file_server_lose_no_job(make_cluster: MakeCluster, mistake: str) -> None:
    """Every tenth rename happens and is reported as failed: each job still runs exactly once."""
    c = make_cluster(nodes=2, users=("ann",), env=ENV)
    for node in c:
        node.fault(op="rename", match=r"\.job", errno=mistake, when="after", prob=0.1)
        start_daemon(node, "ann")

    accepted = {"ann": bulk(c["n1"], "ann", 60)}
    wait_all_ended(c, 120)

    check_all(c, accepted)
    assert checkers.ran_once(checkers.intervals(c.ledger), [f"ann-{i}" for i in range(60)]) == []


def test_no_process_of_rq_makes_an_internet_socket(make_cluster: MakeCluster) -> None:
    """Under a filter that kills whoever does: commands, daemon, supervisor and job all live."""
    c = make_cluster(nodes=1, users=("ann",), env=ENV)
    node = c["n1"]
    node.popen(["noinet", "rq", "daemon", "--foreground"], user="ann")

    done = node.run(["noinet", "rq", "run", "--wait", "echo", "well"], user="ann")

    assert done.returncode == 0, done
    for verb in ("q", "nodes", "users"):
        assert node.run(["noinet", "rq", verb], user="ann").returncode == 0
