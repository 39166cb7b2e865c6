"""A set on a cluster: however its limit changes while nodes race for its jobs, no more of them run."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from tests.cluster import checkers, promises
from tests.cluster.lab import ENV, SUBMIT, ledger_jobs
from tests.cluster.test_queue import rq, start_daemons
from tests.cluster.wait import wait_until

if TYPE_CHECKING:
    from tests.cluster.plugin import MakeCluster

#: How long a limit that was lowered may be unknown to a node, and a claim that was kept before unborn.
LATE_S = 4.0
#: As long as a job takes: long enough for three nodes to begin as many as there may be.
JOB_S = 1.0


def test_a_limit_that_goes_up_and_down_is_kept_to_and_reached(make_cluster: MakeCluster) -> None:
    """By the daemons of three nodes, each of which could start the next job of the set at any time.

    Another job of the same user does not wait behind those that are kept back.
    """
    c = make_cluster(nodes=3, users=("ann",), env=ENV)
    changes: list[tuple[float, int | None]] = []

    def limit(most: int | None) -> None:
        # What allows more holds from when it is asked for, what allows less once it was said.
        lowers = bool(changes) and (changes[-1][1] is None or (most is not None and most < changes[-1][1]))
        at = time.monotonic()
        rq(c["n1"], "ann", "limit", "%fit", "none" if most is None else str(most))
        changes.append((time.monotonic() if lowers else at, most))

    def begun_at_once(count: int) -> bool:
        runs = [run for run in checkers.intervals(c.ledger) if run.start > changes[-1][0]]
        return any(sum(one.start <= run.start < one.end for one in runs) >= count for run in runs)

    def begun_since(count: int) -> bool:
        since = changes[-1][0] + (LATE_S if len(changes) > 1 else 0.0)
        return sum(run.start > since for run in checkers.intervals(c.ledger)) >= count

    def story() -> str:
        return "\n".join(map(str, checkers.intervals(c.ledger)))

    limit(2)
    jobs = [{**job, "set": "fit"} for job in ledger_jobs("fit", 150, JOB_S)]
    done = c["n1"].run(["python", "-c", SUBMIT], user="ann", input=json.dumps(jobs), timeout=60)
    assert done.returncode == 0, done
    start_daemons(c)
    wait_until(lambda: begun_since(3), 60, on_timeout=story)
    other = rq(c["n2"], "ann", "run", "--parsable", "ledger", "other", "0.1").strip()
    wait_until(lambda: any(run.label == "other" for run in checkers.intervals(c.ledger)), 60)
    last = done.stdout.split()[-1]
    why = "2 of 2 jobs of set fit run; rq limit %fit N changes that"
    wait_until(lambda: why in rq(c["n2"], "ann", "why", last), 60)
    limit(5)
    wait_until(lambda: begun_at_once(5), 60, on_timeout=story)
    limit(1)
    wait_until(lambda: begun_since(2), 60, on_timeout=story)
    limit(None)
    wait_until(lambda: begun_at_once(3), 60, on_timeout=story)
    rq(c["n3"], "ann", "cancel", "--waiting", "%fit")
    rq(c["n3"], "ann", "wait", "%fit", other)

    runs = checkers.intervals(c.ledger)
    uid = runs[0].uid
    of_fit = {"job": {"set": "fit"}}

    def record_of(run: checkers.Interval) -> dict[str, dict[str, str]]:
        return of_fit if run.label.startswith("fit-") else {}

    assert promises.over_limits(runs, {f"{uid}/%fit": changes}, record_of, LATE_S) == []
    labels = [run.label for run in runs]
    assert len(set(labels)) == len(labels)
