"""A job on another node: paused, continued, signaled and watched from here, on a home as bad as NFS."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster.lab import ENV
from tests.cluster.test_queue import rq, start_daemon, submit
from tests.cluster.wait import wait_until

if TYPE_CHECKING:
    from tests.cluster.plugin import MakeCluster

#: Writes until it is told to end, and then much at once, of which the last line has no end.
SCRIPT = """
trap 'echo told' USR1
trap 'end=yes' USR2
i=0
until [ "$end" ]; do i=$((i+1)); echo line $i; sleep 0.05; done
head -c 300000 /dev/urandom
printf 'the end'
"""


def test_a_job_of_another_node_obeys_and_is_watched_byte_by_byte(make_cluster: MakeCluster) -> None:
    """Requests find its supervisor by way of its daemon; what it wrote is had as it was written."""
    c = make_cluster(nodes=2, users=("ann",), env=ENV)
    here = c["n1"]
    for node in c:
        start_daemon(node, "ann")
    job = submit(here, "ann", "-w", "n2", "-J", "fit", "-o", "out", "--max-output", "1G", "sh", "-c", SCRIPT)
    wait_until(lambda: "running" in rq(here, "ann", "q"), 30)
    watching = here.popen(["rq", "watch", job], user="ann", stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    assert rq(here, "ann", "pause", "--wait", "fit") == f'paused {job} "fit"\n'
    assert "running, paused" in rq(here, "ann", "q")
    assert rq(here, "ann", "cont", "--wait", "fit") == f'continued {job} "fit"\n'
    assert "paused" not in rq(here, "ann", "q")
    assert rq(here, "ann", "signal", "--wait", "USR1", "fit") == f'sent SIGUSR1 to {job} "fit"\n'

    rq(here, "ann", "signal", "USR2", "fit")
    out, err = watching.communicate(timeout=60)
    written = Path(c.home("ann"), "out").read_bytes()
    assert b"told\n" in written
    assert b"the endrq: job " in written
    assert (out, err, watching.returncode) == (written, b"", 0)
