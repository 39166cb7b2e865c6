"""Workers on a cluster: beside daemons, on several nodes, every job runs once, and their users are told."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING

from tests.cluster.lab import ENV, Lab, ledger_jobs
from tests.cluster.wait import wait_until

if TYPE_CHECKING:
    from tests.cluster.node import Node
    from tests.cluster.plugin import MakeCluster

COUNT = 30


def start_worker(node: Node, user: str, *words: str) -> subprocess.Popen[bytes]:
    """A worker at the head of a process group, as in a terminal."""
    pipe = subprocess.PIPE
    return node.popen(["rq", "worker", *words], user=user, stdout=pipe, stderr=pipe)


def end(worker: subprocess.Popen[bytes], timeout: float = 60.0) -> tuple[int, list[str], str]:
    """Exit code, and what it said of jobs and beside that."""
    out, err = worker.communicate(timeout=timeout)
    return worker.returncode, out.decode().splitlines(), err.decode()


def begun(lines: list[str]) -> list[str]:
    """The ids of the jobs that a worker said it began."""
    return [line.split()[1] for line in lines if " begins: " in line]


def test_workers_and_daemons_share_a_queue_and_no_job_runs_twice(make_cluster: MakeCluster) -> None:
    """Of one user on three nodes, beside a daemon of hers on a fourth and those of another user on all.

    One is killed, and begun anew, and another told to end while they work: what these ran goes on, and is run
    by nobody else.
    """
    lab = Lab(make_cluster(nodes=4, users=("ann", "bob"), env=ENV))
    n1, n2, n3, n4 = lab.cluster
    for node in lab.cluster:
        lab.start_daemon(node, "bob")
    lab.start_daemon(n4, "ann")
    # More than all can begin at once, so that the last one to look finds some.
    gates = ledger_jobs("gate", 8, 600)
    ours = lab.bulk(n1, "ann", [*gates, *ledger_jobs("ann", COUNT, 0.2)])
    ill = lab.bulk(n1, "ann", ledger_jobs("ill", 1, 0.1, exit_code=3))
    lab.bulk(n2, "bob", ledger_jobs("bob", COUNT // 2, 0.2))
    one, two, three = (
        start_worker(node, "ann", *words) for node, words in ((n1, ()), (n2, ("-x", "1")), (n3, ()))
    )

    def all_work() -> bool:
        # What a card says to run began in a round before that: it was told.
        running = {
            name
            for name, card in lab.cards("ann").items()
            for job in card["jobs"]
            if job["state"] == "running"
        }
        return running == set(lab.cluster.nodes)

    wait_until(all_work, 60, on_timeout=lab.story, every=0.02)
    three.kill()
    _, told, _ = end(three)
    # What that one had claimed and not begun waits for the next on its node.
    four = start_worker(n3, "ann")
    os.killpg(two.pid, signal.SIGINT)
    lab.end_all(*(gate["label"] for gate in gates))
    two_code, second, said = end(two)
    code, first, err = end(one)
    next_code, fourth, _ = end(four)
    refused = n4.run(["rq", "worker"], user="ann")
    lab.wait_ended()

    assert refused.returncode == 1
    assert "a daemon of yours runs on n4 already" in refused.stderr
    assert two_code == 128 + signal.SIGINT
    assert "starts nothing more" in said
    assert (code, err) == (int(ill[0] in begun(first)), "")
    assert next_code == int(ill[0] in begun(fourth))
    lists = [begun(lines) for lines in (first, second, told, fourth)]
    assert all(lists[:3])
    every = [job for jobs in lists for job in jobs]
    assert len(set(every)) == len(every)
    assert set(every) <= {*ours, *ill}
    labels = [run.label for run in lab.runs()]
    assert len(set(labels)) == len(labels) == len(ours) + 1 + COUNT // 2
    lab.check()


def test_ctrl_c_twice_leaves_the_rest_to_the_others(make_cluster: MakeCluster) -> None:
    """What may be restarted goes on elsewhere, as a new attempt; the other is dead when that is said."""
    lab = Lab(make_cluster(nodes=2, users=("ann",), env=ENV))
    n1, n2 = lab.cluster
    once = lab.submit(n1, "ann", "ledger", "once", "600")
    again = lab.submit(n1, "ann", "-R", "ledger", "again", "600")
    worker = start_worker(n1, "ann")
    lab.wait_began("once", "again")

    os.killpg(worker.pid, signal.SIGINT)
    wait_until(lambda: lab.cards("ann")["n1"]["state"] == "draining", 30, on_timeout=lab.story)
    os.killpg(worker.pid, signal.SIGINT)
    code, lines, _ = end(worker)

    assert code == 128 + signal.SIGINT
    assert lab.living() == []
    assert (lab.states("ann")[once], lab.states("ann")[again]) == ("canceled", "waiting")
    assert any(line.startswith(f"job {again} ") and line.endswith(" waits to be run again") for line in lines)
    other = start_worker(n2, "ann")
    wait_until(lambda: sum(run.label == "again" for run in lab.runs()) == 2, 30, on_timeout=lab.story)
    lab.end_all("again")
    assert end(other)[0] == 0
    lab.check()
