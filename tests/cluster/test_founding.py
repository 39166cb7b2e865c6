"""Two nodes make the queue of one user at the same time: both have it then, whatever one remembers."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.cluster.wait import wait_until

if TYPE_CHECKING:
    from tests.cluster.plugin import MakeCluster

#: Makes the queue and nothing else.
PREPARE = """
import os
from roundq.actors import submission
from roundq.records import spool as spools
spools.prepare(submission.mine(os.environ))
"""


def test_two_nodes_that_found_one_queue_both_have_it(make_cluster: MakeCluster) -> None:
    """The later one has asked for the name when the other gives it, and so does not see it for a minute."""
    c = make_cluster(nodes=2, users=("ann",), fsopts="actimeo=60", env={"RQ_AUTO_START": "false"})
    c["n2"].fault(op="rename", match=r"tmp/ids\.", hang=True, count=1)
    late = c["n2"].popen(
        ["python", "-c", PREPARE], user="ann", stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    wait_until(lambda: c["n2"].fs()["hung"] == 1)
    first = c["n1"].run(["rq", "run", "--parsable", "true"], user="ann", check=True).stdout
    c["n2"].clear_faults()
    said, _ = late.communicate(timeout=30)
    assert (late.returncode, said) == (0, b"")
    second = c["n2"].run(["rq", "run", "--parsable", "true"], user="ann", check=True).stdout
    assert [first, second] == ["1\n", "2\n"]
