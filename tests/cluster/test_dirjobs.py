"""Job directories (roundq(3), DIRJOBS) on a mount that really lets two renames of one file succeed.

With many seeds and ten workers, but no processes, it is tests/faces/test_dirjobs_late.py.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from roundq.dirjobs import DoubleRun, double_runs
from tests.cluster.runtime import INSIDE

if TYPE_CHECKING:
    from tests.cluster.box import Cluster
    from tests.cluster.plugin import MakeCluster

JOBS = 4
#: A worker that begins when it is told, prints the name of each job, and in the end what it reports.
WORKER = """
import logging, sys, time
from roundq.dirjobs import DirJobs
logging.disable()
dj = DirJobs("/home/ann/jobs", wid=sys.argv[1], rnd_job=False, worker_sync=True, sync_time=float(sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
while job := dj.next_and_lock():
    print("ran", job.name(), flush=True)
    time.sleep(0.1)
    job.done()
print("reported", len(dj.double_runs), flush=True)
"""


def played(c: Cluster, sync_s: float) -> tuple[Counter[str], int]:
    """A worker on each node works off the same directory: how often each job was run, and what was
    reported."""
    jobs = Path(c.home("ann")) / "jobs"
    (jobs / "00_waiting").mkdir(parents=True)
    for number in range(JOBS):
        (jobs / "00_waiting" / f"{number}.txt").write_text(f"content {number}")
    for path in (jobs, *jobs.rglob("*")):
        os.chown(path, c.user("ann").uid, -1)
    workers = [
        node.popen(
            [f"{INSIDE}/bin/python", "-c", WORKER, f"w{number}", str(sync_s)],
            "ann",
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for number, node in enumerate(c, 1)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"ready\n"
    ran: Counter[str] = Counter()
    reported = 0
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write(b"go\n")
        worker.stdin.flush()
    for worker in workers:
        out, _ = worker.communicate(timeout=60)
        assert worker.returncode == 0
        for word, what in map(str.split, out.decode().splitlines()):
            if word == "ran":
                ran[what] += 1
            else:
                reported += int(what)
    return ran, reported


def claimed(c: Cluster) -> Counter[str]:
    """By how many nodes each job was claimed, all of whom were told that it worked."""
    found: Counter[str] = Counter()
    with open(f"{c.directory}/journal") as file:
        for line in file:
            change = json.loads(line)
            if "/00_waiting/" in change["gone"] and "/01_running/" in change["made"]:
                found[os.path.basename(change["gone"])] += 1
    return found


def test_no_job_is_run_twice_where_renames_have_two_winners(make_cluster: MakeCluster) -> None:
    """Since sync_time covers the time after which what a node does is seen by all."""
    c = make_cluster(nodes=3, users=("ann",), fs="loose", fsopts="late=0.2")
    ran, reported = played(c, 0.6)
    everything = [f"{number}.txt" for number in range(JOBS)]
    assert (dict(ran), reported) == (dict.fromkeys(everything, 1), 0)
    jobs = Path(c.home("ann")) / "jobs"
    assert sorted(os.listdir(jobs / "02_done")) == everything
    assert os.listdir(jobs / "01_running") == os.listdir(jobs / "00_waiting") == []
    assert double_runs(jobs) == []


def test_where_sync_time_is_too_short_that_is_reported(make_cluster: MakeCluster) -> None:
    """Here nobody ever sees what another node did, so all is run by both; whoever looks at the truth is
    told."""
    c = make_cluster(nodes=2, users=("ann",), fs="loose", fsopts="late=1000")
    ran, reported = played(c, 0.05)
    everything = [f"{number}.txt" for number in range(JOBS)]
    assert dict(ran) == dict(claimed(c)) == dict.fromkeys(everything, 2)
    # Neither can know of the other.
    assert reported == 0
    found = double_runs(Path(c.home("ann")) / "jobs")
    assert sorted(found) == [DoubleRun(name, ("w1", "w2")) for name in everything]
