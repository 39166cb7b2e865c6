"""What waits for other jobs, on a cluster: daemons of several nodes let it go, once and not too early."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.cluster.lab import HOMES, PATIENCE_S, Lab
from tests.cluster.wait import wait_until

if TYPE_CHECKING:
    from tests.cluster.plugin import MakeCluster

TASKS = 5
#: Fails in its first attempt.
FAILS_ONCE = "exec ledger again-$RQ_ARRAY_TASK_ID 0.1 1 $((RQ_RESTART_COUNT == 0))"


@pytest.mark.parametrize("home", HOMES)
def test_tasks_run_once_each_after_its_own_on_three_nodes(make_cluster: MakeCluster, home: str) -> None:
    """And what failed once runs twice; also if a daemon is killed among them."""
    c = make_cluster(nodes=3, users=("ann",), **HOMES[home])
    lab = Lab(c)
    array = ("--array", f"0-{TASKS - 1}")
    first = lab.rq(c["n1"], "ann", "run", "--parsable", *array, "ledger", "first-{index}", "0.2").strip()
    each = ("--after-each", first)
    second = lab.rq(
        c["n1"], "ann", "run", "--parsable", *array, *each, "ledger", "second-{index}", "0.1"
    ).strip()
    lab.rq(c["n1"], "ann", "run", *array, "--retries", "1", "--backoff", "0.5s", "sh", "-c", FAILS_ONCE)
    lab.rq(c["n1"], "ann", "run", "--after", second, "ledger", "last", "0.1")

    lab.start_daemons()
    lab.wait_began("first-0")
    lab.kill_daemon(c["n2"], "ann")
    lab.start_daemon(c["n2"], "ann")
    wait_until(lambda: lab.began("last"), PATIENCE_S, on_timeout=lab.story)
    lab.wait_ended()

    assert lab.counts() == {"completed": 3 * TASKS + 1}
    runs = lab.runs()
    expected = {f"{step}-{index}": 1 for step in ("first", "second") for index in range(TASKS)}
    expected |= {f"again-{index}": 2 for index in range(TASKS)} | {"last": 1}
    assert Counter(run.label for run in runs) == expected
    began = {run.label: run.start for run in runs}
    ended = {run.label: run.end for run in runs}
    for index in range(TASKS):
        assert began[f"second-{index}"] >= ended[f"first-{index}"]
    assert began["last"] >= max(ended[f"second-{index}"] for index in range(TASKS))
