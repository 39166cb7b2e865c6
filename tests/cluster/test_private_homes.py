"""Homes that nobody else may enter: with a commons all is as with open ones; without, processes tell some."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from tests.cluster import turns
from tests.cluster.lab import CORES, ENV, PATIENCE_S, Lab, ledger_jobs
from tests.cluster.wait import wait_until

if TYPE_CHECKING:
    from tests.cluster.node import Node
    from tests.cluster.plugin import MakeCluster

COMMONS = "/home/commons"
USERS = ("ann", "bob", "cyd")
#: What a look may take while something hangs: the patience of helpers, and a loaded machine.
LOOK_S = 20.0


def private(make_cluster: MakeCluster, nodes: int, *, has_commons: bool) -> Lab:
    """A cluster of closed homes, with or without a commons."""
    config = f'commons = "{COMMONS}"\n' if has_commons else ""
    lab = Lab(make_cluster(nodes=nodes, users=USERS, home_mode=0o700, env=ENV, config=config))
    if has_commons:
        os.mkdir(path := f"{lab.cluster.server}/commons")
        os.chmod(path, 0o1777)
    return lab


def published(lab: Lab) -> dict[tuple[str, str], dict[str, Any]]:
    """What lies in the commons, by user and node."""
    found = {}
    for user in lab.cluster.users:
        own = f"{lab.cluster.server}/commons/{lab.cluster.user(user).uid}"
        for node in lab.cluster.nodes:
            if os.path.exists(f"{own}/{node}"):
                with open(f"{own}/{node}") as file:
                    found[user, node] = json.load(file)["roundq"]
    return found


def rows(lab: Lab, node: Node, user: str) -> list[dict[str, Any]]:
    """What `rq` shows this user."""
    found: list[dict[str, Any]] = json.loads(lab.rq(node, user, "q", "--json"))["jobs"]
    return found


def used(lab: Lab, node: Node, user: str) -> dict[str, int]:
    """The cores in use of each node, as this user is told."""
    return {one["name"]: one["used"] for one in json.loads(lab.rq(node, user, "nodes", "--json"))["nodes"]}


# ---------------------------------------------------------------- with a commons


def test_floods_from_closed_homes_share_the_nodes(make_cluster: MakeCluster) -> None:
    """Three users, two nodes: nobody falls behind, and no core is given twice."""
    lab = private(make_cluster, 2, has_commons=True)
    lab.start_daemons()
    wait_until(lambda: len(published(lab)) == 2 * len(USERS), PATIENCE_S)
    for user, count in zip(USERS, (40, 20, 10), strict=True):
        lab.bulk(lab.cluster["n1"], user, ledger_jobs(user, count, 0.6))
    wait_until(lambda: all(card["waiting"] for card in published(lab).values()), PATIENCE_S)
    told = time.monotonic()
    wait_until(lambda: "waiting" not in lab.states("cyd").values(), PATIENCE_S, on_timeout=lab.story)
    over = max(run.start for run in lab.runs("cyd"))
    lab.rq(lab.cluster["n1"], "ann", "cancel", "--all")
    lab.rq(lab.cluster["n1"], "bob", "cancel", "--all")
    lab.wait_ended()

    had = turns.shares(lab.runs(), told, over)
    assert over - told > 1, "there was time to be unfair"
    assert max(had.values()) - min(had.values()) < 1, had
    lab.check(cores=CORES)


def test_a_newcomer_has_the_next_turn(make_cluster: MakeCluster) -> None:
    """Whoever has none running goes next, whatever waits in homes that he cannot see."""
    lab = private(make_cluster, 1, has_commons=True)
    n1 = lab.cluster["n1"]
    lab.start_daemons()
    lab.bulk(n1, "ann", ledger_jobs("ann", 60, 0.5))
    lab.wait_began("ann-0", "ann-1")
    lab.bulk(n1, "bob", ledger_jobs("bob", 1, 0.2))

    lab.wait_began("bob-0")

    assert "waiting" in lab.states("ann").values(), "the flood goes on"
    lab.rq(n1, "ann", "cancel", "--all")
    lab.wait_ended()
    lab.check(cores=CORES)


def test_what_runs_in_closed_homes_is_listed_and_nothing_private(make_cluster: MakeCluster) -> None:
    """Ids, cores, nodes; no name, no command, no output."""
    lab = private(make_cluster, 2, has_commons=True)
    n1, n2 = lab.cluster
    lab.start_daemons()
    thesis = ["-J", "thesis", "-c", "2", "ledger", "secret", "600", "2"]
    job = lab.submit(n2, "bob", *thesis)
    lab.submit(n2, "bob", *thesis)
    lab.submit(n2, "bob", "-J", "thesis", "-c", "2", "ledger", "third", "600", "2")
    wait_until(lambda: Counter(lab.states("bob").values())["running"] == 2, PATIENCE_S, on_timeout=lab.story)

    def shown() -> list[dict[str, Any]]:
        return [row for row in rows(lab, n1, "ann") if row["state"] == "running"]

    wait_until(lambda: len(shown()) == 2, PATIENCE_S)
    one = next(row for row in shown() if row["id"] == job)
    assert (one["user"], one["cores"], one["command"], one["home"]) == ("bob", 2, [], None)
    assert (one["name"], one["output"]) == ("", None)
    assert {row["node"] for row in shown()} == {"n1", "n2"}
    assert used(lab, n1, "ann") == {"n1": 2, "n2": 2}
    users = {one["name"]: one for one in json.loads(lab.rq(n1, "ann", "users", "--json"))["users"]}
    assert (users["bob"]["cores"], users["bob"]["running"], users["bob"]["waiting"]) == (4, 2, 1)
    assert "Closed homes" not in lab.rq(n1, "ann", "nodes") + lab.rq(n1, "ann", "q")
    for directory, _, names in os.walk(f"{lab.cluster.server}/commons"):
        for name in names:
            with open(f"{directory}/{name}") as card:
                assert not {"thesis", "secret", "ledger", "home/"} & set(card.read().split('"'))

    lab.rq(n1, "bob", "cancel", "--all")
    lab.wait_ended()


def test_a_commons_that_hangs_hangs_nobody(make_cluster: MakeCluster) -> None:
    """What was seen last counts, jobs begin and end, lists answer and tell of it; then all cards come."""
    lab = private(make_cluster, 1, has_commons=True)
    n1 = lab.cluster["n1"]
    lab.start_daemons()
    lab.bulk(n1, "bob", ledger_jobs("bob", 1, 600))
    lab.wait_began("bob-0")
    lab.bulk(n1, "ann", ledger_jobs("before", 1, 0.1))
    lab.wait_began("before-0")

    n1.fault(match="^commons(/|$)", hang=True)
    began_s = time.monotonic()
    lab.bulk(n1, "ann", ledger_jobs("small", 2, 0.1) + ledger_jobs("wide", 1, 0.1, cores=CORES))
    lab.wait_began("small-0", "small-1")
    # Of cyd nobody has seen a job; her supervisor is in the process table.
    lab.bulk(n1, "cyd", ledger_jobs("cyd", 1, 600))
    lab.wait_began("cyd-0")
    assert time.monotonic() - began_s < 3 * LOOK_S
    looked_s = time.monotonic()
    assert f"the commons {COMMONS} cannot be read" in lab.rq(n1, "ann", "nodes")
    assert used(lab, n1, "ann") == {"n1": 2}
    assert time.monotonic() - looked_s < LOOK_S
    assert "wide-0" not in {run.label for run in lab.runs()}
    lab.rq(n1, "bob", "cancel", "--all")
    lab.rq(n1, "cyd", "cancel", "--all")
    lab.wait_began("wide-0")

    n1.clear_faults()
    # The card that could not be published is there as soon as it can be.
    wait_until(lambda: not published(lab)["bob", "n1"]["jobs"], PATIENCE_S)
    lab.wait_ended()
    lab.check(cores=CORES)


# ---------------------------------------------------------------- without


def test_without_a_commons_what_runs_here_is_seen_by_its_processes(make_cluster: MakeCluster) -> None:
    """A node is not overbooked by what was born before; it is said what cannot be seen."""
    lab = private(make_cluster, 2, has_commons=False)
    n1, n2 = lab.cluster
    lab.start_daemons(n1)
    lab.bulk(n1, "bob", ledger_jobs("bob", 1, 600, cores=CORES))
    lab.wait_began("bob-0")

    lab.bulk(n1, "ann", ledger_jobs("ann", 4, 0.1))
    told = f"0 of {CORES} free"
    (first, *_) = lab.accepted["ann"]
    wait_until(lambda: told in lab.rq(n1, "ann", "why", first), PATIENCE_S)
    assert used(lab, n1, "ann") == {"n1": CORES}
    assert used(lab, n2, "ann") == {"n1": 0}, "processes of another node are not seen"
    nodes = lab.rq(n1, "ann", "nodes")
    assert "Closed homes, whose queues, if any, cannot be seen: bob, cyd." in nodes
    assert "only this node's part is counted, by its processes; see rq doctor" in nodes

    lab.rq(n1, "bob", "cancel", "--all")
    lab.wait_ended()
    lab.check(cores=CORES)


def test_titles_tell_no_name_and_no_command(make_cluster: MakeCluster) -> None:
    """Everybody on the node reads them."""
    lab = private(make_cluster, 1, has_commons=False)
    n1 = lab.cluster["n1"]
    lab.start_daemon(n1, "bob")
    job = {"job": {"command": ["ledger", "named", "600"], "jobname": "thesis", "output": "thesis.out"}}
    waiting = f"{lab.cluster.home('bob')}/.roundqueue/waiting"
    wait_until(lambda: os.path.isdir(waiting), PATIENCE_S)
    with open(f"{waiting}/.new", "w") as file:
        json.dump(job, file)
    os.chown(file.name, lab.cluster.user("bob").uid, -1)
    os.rename(file.name, f"{waiting}/thesis.job")
    lab.wait_began("named")

    shown = n1.run(["ps", "-eo", "comm,args"], user="ann").stdout.splitlines()

    (line,) = [line for line in shown if line.startswith("rq-supervisor")]
    assert "rq: job ~" in line
    assert "thesis" not in line
    lab.rq(n1, "bob", "cancel", "--all")
    wait_until(lambda: lab.states("bob") == {"thesis": "canceled"}, PATIENCE_S)
