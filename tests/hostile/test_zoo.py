"""Promises about everything that strangers may put into their homes: no command and no daemon minds.

All homes of the zoo at once, real commands and a real daemon as a real other user, under limits of memory
and time. Every byte that is printed is looked at.
"""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING

import pytest

from tests.cluster import checkers
from tests.cluster.wait import wait_until
from tests.hostile.zoo import Zoo

if TYPE_CHECKING:
    from tests.cluster.box import Cluster
    from tests.cluster.plugin import MakeCluster

ENV = {
    "RQ_CORES": "2",
    "RQ_POLL_MIN": "0.1",
    "RQ_POLL_MAX": "1",
    "RQ_AUTO_START": "false",
    "LC_ALL": "C.UTF-8",
}
#: Of address space, for a command beside all of the zoo.
MEMORY_MAX = 600 << 20
#: Of one look at all of the zoo, on a loaded machine, in seconds.
LOOK_S = 60.0
#: A daemon beside all of the zoo, in KiB of memory that it really has.
DAEMON_KIB_MAX = 200 << 10
#: What no terminal may get: controls of both kinds, marks of direction, what has no width.
RAW = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")

COMMANDS = [
    ("q",),
    ("q", "--json"),
    ("q", "-u", "many"),
    ("q", "-u", "large", "--json"),
    ("nodes",),
    ("nodes", "--json"),
    ("users",),
    ("users", "--json"),
    ("show", "1"),
    ("why", "1"),
    ("log", "1"),
    ("cancel", "1"),
    ("restart", "1"),
    ("wait", "1", "--timeout", "1s"),
    ("run", "-c", "99", "true"),
    ("doctor",),
]


@pytest.fixture(scope="module")
def zoo(make_module_cluster: MakeCluster) -> Cluster:
    c = make_module_cluster(nodes=1, users=("ann", "eve"), fs="local", env=ENV)
    Zoo(c.server, c.user("eve").uid).fill()
    c["n1"].popen(["rq", "daemon", "--foreground"], user="ann")
    return c


def test_jobs_run_beside_the_zoo(zoo: Cluster) -> None:
    """Mine, and in time: nothing there has a core, a turn, or the time of my daemon."""
    n1 = zoo["n1"]
    began_s = time.monotonic()
    for _ in range(10):
        done = n1.run(["rq", "run", "-c", "2", "--parsable", "true"], user="ann")
        assert done.returncode == 0, done
    wait_until(lambda: set(checkers.states(zoo.server, "ann").values()) == {"completed"}, 120)
    assert time.monotonic() - began_s < 60


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_beside_the_zoo_is_bounded_and_prints_nothing_raw(
    zoo: Cluster, words: tuple[str, ...]
) -> None:
    """Each ends, with its own exit code and no traceback, within bounds of time and memory."""
    began_s = time.monotonic()
    done = zoo["n1"].run(["prlimit", f"--as={MEMORY_MAX}", "rq", *words], user="ann", timeout=2 * LOOK_S)
    assert time.monotonic() - began_s < LOOK_S
    assert done.returncode in range(10), done.stderr
    for said in (done.stdout, done.stderr):
        assert "Traceback" not in said, said
        assert RAW.findall(said) == []
    if "--json" in words and done.returncode == 0:
        json.loads(done.stdout, parse_constant=pytest.fail)


def test_numbers_in_lists_are_such_as_there_are(zoo: Cluster) -> None:
    """However many cores cards claim: those of this node are what my own daemon offers."""
    done = zoo["n1"].run(["rq", "nodes", "--json"], user="ann", timeout=LOOK_S)
    (n1,) = [node for node in json.loads(done.stdout)["nodes"] if node["name"] == "n1"]
    assert n1["cores"] == 2


def test_the_daemon_stays_as_small_as_it_is(zoo: Cluster) -> None:
    """It, and the helper that reads for it."""
    said = zoo["n1"].run(["ps", "-u", "ann", "-o", "rss=,args="], user="root").stdout
    sizes = {line.split(None, 1)[1]: int(line.split()[0]) for line in said.splitlines() if "rq" in line}
    assert sizes, said
    assert max(sizes.values()) < DAEMON_KIB_MAX, sizes
