"""Promises about sweeps on several nodes that share a home as bad as NFS: two at once, and one canceled."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster.lab import ENV
from tests.cluster.test_queue import rq, start_daemons, wait_all_ended
from tests.cluster.wait import wait_until

if TYPE_CHECKING:
    from tests.cluster.plugin import MakeCluster

TASKS = 16
OPEN = ("waiting", "claimed", "running")
#: Each run of a task leaves a file of its own; one waits until it is killed, and one fails,
#: unless there is a file called go.
FITS = f"""
import os, time
from roundq.sweep import Task, pset

class Fit(Task):
    sweep = pset("seed", range({TASKS}))

    def run(self):
        seed = self.params["seed"]
        open(f"ran/{{seed}}.{{os.environ['RQ_JOB_ID']}}.{{os.environ['RQ_RESTART_COUNT']}}", "x").close()
        if seed == 3 and not os.path.exists("go"):
            open("waits", "w").close()
            while True:
                time.sleep(0.1)
        if seed == 5 and not os.path.exists("go"):
            raise ValueError("not yet")
        print("seed", seed)
        return seed ** 2
"""


def test_two_sweeps_on_two_nodes_run_each_task_once(make_cluster: MakeCluster) -> None:
    """Submitted at the same moment, from both, and run by both; what was canceled or failed is run once more.

    A failed task may be run by both, since it is not done.
    """
    cluster = make_cluster(nodes=2, users=("ann",), env=ENV)
    home = Path(cluster.home("ann"))
    (home / "fits.py").write_text(FITS)
    (home / "ran").mkdir()
    for name in ("fits.py", "ran"):
        os.chown(home / name, home.stat().st_uid, home.stat().st_gid)
    start_daemons(cluster)
    sweeps = [node.popen(["rq", "sweep", "--parsable", "fits:Fit"], user="ann") for node in cluster]
    assert [sweep.wait(60) for sweep in sweeps] == [0, 0]
    wait_until((home / "waits").exists, 60)
    first = "run-1.json"
    (task,) = [path.parent for path in (home / "out").glob(f"*/{first}") if _seed(path.parent) == 3]
    wait_until(lambda: len(list((home / "out").glob("*/result.json"))) == TASKS - 2, 60)
    # The other job that has that task leaves it alone, and ends.
    spool = home / ".roundqueue"
    wait_until(lambda: [len(list(spool.glob(f"{of}/*.job"))) for of in OPEN] == [0, 0, 1], 60)
    status = rq(cluster["n1"], "ann", "sweep", "--status", "fits:Fit").splitlines()
    assert status[0].endswith("; 14 done, 1 running, 1 failed")
    assert status[1].endswith("seed=5  failed: ValueError: not yet")
    (job,) = [path.name.partition("@")[0] for path in spool.glob("running/*.job")]
    rq(cluster["n2"], "ann", "cancel", "--wait", job)
    wait_all_ended(cluster, 60)
    (home / "go").touch()
    said = rq(cluster["n2"], "ann", "sweep", "--wait", "fits:Fit")
    assert said.endswith(' "Fit", 2 tasks; 14 done\n')
    assert "\nseed 3\n" in rq(cluster["n1"], "ann", "log", f"{said.split()[1]}_0")
    rows = rq(cluster["n1"], "ann", "gather", "fits:Fit").splitlines()[1:]
    assert [row.split(",")[1:] for row in rows] == [[str(seed), str(seed**2)] for seed in range(TASKS)]
    ran = [int(name.partition(".")[0]) for name in os.listdir(home / "ran")]
    assert {seed: ran.count(seed) for seed in range(TASKS) if seed != 5} == {
        **dict.fromkeys(set(range(TASKS)) - {5}, 1),
        3: 2,
    }
    assert ran.count(5) in (2, 3)
    assert {path.name for path in task.glob("run-*")} == {first, "run-2.json"}


def _seed(directory: Path) -> int:
    """Which task a directory belongs to."""
    path = directory / "params.json"
    return int(path.read_text().partition(":")[2].strip(" }\n")) if path.exists() else -1
