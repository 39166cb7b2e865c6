"""What becomes of the jobs of a silent node: frozen, cut off or dead; by word of the user, or by lease."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

from tests.cluster import checkers
from tests.cluster.lab import ENV, PATIENCE_S, Lab, ledger_jobs
from tests.cluster.wait import wait_until

if TYPE_CHECKING:
    from tests.cluster.node import Node
    from tests.cluster.plugin import MakeCluster

LONG_S = 20 * 60
#: Longer than a busy machine may keep a supervisor from renewing it.
LEASE_S = 6


def fill(lab: Lab, node: Node, again_s: str = "600") -> tuple[str, str]:
    """Starts a daemon and two long jobs that fill its node: one that may run again, and one that may not."""
    lab.start_daemon(node, "ann")
    again, once = lab.bulk(
        node,
        "ann",
        ledger_jobs(f"again-{node.name}", 1, again_s, restartable=True, leaves=True)
        + ledger_jobs(f"once-{node.name}", 1, 600, leaves=True),
    )
    lab.wait_began(*(f"{what}-{node.name}-0{left}" for what in ("again", "once") for left in ("", "+left")))
    return again, once


def silent_for(lab: Lab, node: Node, seconds: float) -> None:
    """As if what was last heard of a node, which is silent, were so old by the clock of the file server."""
    card = os.path.join(lab.cluster.home("ann"), ".roundqueue", node.name)
    at = time.time() - seconds
    os.utime(card, (at, at))


def ledger_on(node: Node) -> list[str]:
    """The ledger jobs that live on a node."""
    return [words for words in node.commands() if "/ledger.py" in words]


def test_jobs_of_a_silent_node_are_shown_as_not_seen_for_how_long(make_cluster: MakeCluster) -> None:
    """In the list, of nodes too, in words and for programs; nothing is moved for it."""
    lab = Lab(make_cluster(nodes=2, users=("ann",), env=ENV))
    n1, n2 = lab.cluster
    again, once = fill(lab, n1)
    lab.start_daemon(n2, "ann")
    n1.freeze()
    silent_for(lab, n1, LONG_S)

    def listed() -> list[float | None]:
        jobs = {job["id"]: job for job in json.loads(lab.rq(n2, "ann", "q", "--json"))["jobs"]}
        return [jobs[job]["silent"] for job in (again, once)]

    silent = wait_until(lambda: [s for s in listed() if s and s >= LONG_S - 1], PATIENCE_S, on_timeout=listed)
    assert len(silent) == 2
    assert all(LONG_S - 1 <= seconds < LONG_S + 2 * PATIENCE_S for seconds in silent)
    assert "not seen for 20" in lab.rq(n2, "ann")
    assert "not seen for 20" in lab.rq(n2, "ann", "nodes")
    (node,) = [n for n in json.loads(lab.rq(n2, "ann", "nodes", "--json"))["nodes"] if n["name"] == "n1"]
    assert node["state"] == "silent"
    assert lab.states("ann") == {again: "running", once: "running"}

    lab.end_jobs(n1, "again-n1-0", "once-n1-0")
    lab.thaw(n1)
    lab.wait_ended()
    assert {run.attempt for run in lab.runs()} == {1}
    lab.check()


def test_the_user_calls_nodes_lost_that_are_frozen_cut_off_or_dead(make_cluster: MakeCluster) -> None:
    """What may run again does, elsewhere, and the rest is lost; who comes back kills, and records nothing."""
    lab = Lab(make_cluster(nodes=4, users=("ann",), env=ENV))
    frozen, cut, dead, here = lab.cluster
    jobs = {node.name: fill(lab, node) for node in (frozen, cut, dead)}
    lab.start_daemon(here, "ann")
    frozen.freeze()
    cut.partition()
    lab.crash(dead)

    lab.rq(here, "ann", "lost", "n1", code=1)
    assert set(lab.states("ann").values()) == {"running"}, "it was heard of a moment ago"
    for node in (frozen, cut, dead):
        silent_for(lab, node, LONG_S)
    began_s = time.monotonic()
    lab.rq(here, "ann", "lost", "n1", "n2", "n3", code=None)
    # The user's word is what they are lost by.
    lab.blows += [checkers.Blow(node.name, began_s, "ann") for node in (frozen, cut, dead)]
    again, once = ([pair[i] for pair in jobs.values()] for i in (0, 1))
    wait_until(
        lambda: sum(run.attempt == 2 for run in lab.runs() if run.is_command) >= 2,
        PATIENCE_S,
        on_timeout=lab.story,
    )
    assert {lab.outcome("ann", job).state for job in once} == {"zombie"}
    assert {run.node for run in lab.runs() if run.attempt == 2} == {here.name}
    ended = {job: lab.outcome("ann", job) for job in once}

    lab.thaw(frozen)
    cut.heal()
    dead.start()
    lab.start_daemon(dead, "ann")
    for node in (frozen, cut):
        wait_until(lambda node=node: not ledger_on(node), PATIENCE_S, on_timeout=node.commands)  # type: ignore[misc]
    lab.rq(here, "ann", "cancel", *again)
    lab.wait_ended()

    assert {job: lab.outcome("ann", job) for job in once} == ended, "nothing more was recorded"
    assert {lab.outcome("ann", job).state for job in again} == {"canceled"}
    c = lab.cluster
    wrong = checkers.one_state(c.server) + checkers.no_strays(c.server) + checkers.true_outcomes(c.server)
    wrong += checkers.true_attempts(c.server, lab.runs()) + checkers.accepted_kept(c.server, lab.accepted)
    assert wrong == []
    assert lab.living() == []


def test_a_lease_ends_a_job_before_another_node_begins_it(make_cluster: MakeCluster) -> None:
    """Nodes that are frozen, cut off or refused by the home: their job is dead before its next attempt."""
    lab = Lab(make_cluster(nodes=4, users=("ann",), env={**ENV, "RQ_LEASE": f"{LEASE_S}s"}))
    frozen, cut, refused, here = lab.cluster
    jobs = {node.name: fill(lab, node, "600,1") for node in (frozen, cut, refused)}
    again, once = ([pair[i] for pair in jobs.values()] for i in (0, 1))
    frozen.freeze()
    cut.partition()
    refused.fault(errno="EIO")
    lab.start_daemon(here, "ann")

    def begun_anew() -> set[str | None]:
        return {run.job for run in lab.runs() if (run.attempt or 0) > 1 and run.is_command}

    wait_until(lambda: len(begun_anew() & set(again)) >= 2, PATIENCE_S, on_timeout=lab.story)
    for node in (cut, refused):
        assert not [words for words in ledger_on(node) if "again" in words]
    assert not begun_anew() & set(once), "who may not run again has no lease"
    wait_until(
        lambda: {lab.states("ann")[job] for job in again} == {"completed"}, PATIENCE_S, on_timeout=lab.story
    )

    for node in (frozen, cut, refused):
        lab.end_jobs(node, f"once-{node.name}-0")
    lab.thaw(frozen)
    cut.heal()
    refused.clear_faults()
    lab.wait_ended()

    assert {lab.outcome("ann", job).state for job in (*again, *once)} == {"completed"}
    # Also that no attempt began while an earlier one lived.
    lab.blows += [checkers.Blow(node.name, time.monotonic(), "ann") for node in (frozen, cut, refused)]
    lab.check()
