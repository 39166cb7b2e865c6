"""`rq doctor` on a cluster: what is wrong with a home is found there, as each user sees it from each node."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.box import Cluster
    from tests.cluster.node import Node
    from tests.cluster.plugin import MakeCluster

#: A daemon that looks once a second, on nodes that remember directories for a quarter of that.
ENV = {"RQ_POLL_MIN": "0.2", "RQ_POLL_MAX": "1", "RQ_AUTO_START": "false"}
CACHE = "acregmin=0.2,acregmax=0.5,acdirmin=0.2,acdirmax=0.5"
SKEW_S = -120
#: `rq doctor` gives a home ten seconds, and then some for what is left.
PATIENCE_S = 40


@pytest.fixture(scope="module")
def shared(make_module_cluster: MakeCluster) -> Cluster:
    c = make_module_cluster(nodes=2, users=("ann", "bob"), fsopts=CACHE, env=ENV)
    for user in c.users:
        # Each has a queue.
        c["n2"].run(["rq", "run", "--parsable", "true"], user=user, check=True)
    return c


@pytest.fixture
def c(shared: Cluster) -> Iterator[Cluster]:
    """The shared cluster; its homes answer again afterwards."""
    yield shared
    for node in shared:
        node.heal()
        node.clear_faults()
        node.fs(set=vars(shared.options()))


def doctor(node: Node, *words: str, user: str = "ann") -> tuple[int, list[dict[str, Any]], list[str]]:
    """Its exit code, its findings, and what it did not look at."""
    # Not from the home, which may hang.
    done = node.run(["rq", "doctor", "--json", *words], user=user, cwd="/", timeout=PATIENCE_S)
    assert done.stderr == "", done
    value = json.loads(done.stdout)
    return done.returncode, value["findings"], value["skipped"]


def of(findings: list[dict[str, Any]], check: str) -> list[dict[str, Any]]:
    return [one for one in findings if one["check"] == check]


def one_of(findings: list[dict[str, Any]], check: str) -> dict[str, Any]:
    found = of(findings, check)
    assert len(found) == 1, findings
    return found[0]


def leftovers(c: Cluster, user: str = "ann") -> list[str]:
    """What lies in tmp/ and requests/, as the server has it."""
    queue = os.path.join(c.home(user), ".roundqueue")
    return [name for part in ("tmp", "requests") for name in os.listdir(os.path.join(queue, part))]


def test_each_node_is_told_how_soon_it_sees_the_other(c: Cluster) -> None:
    """With the daemons' polls and caches as they are; the ping is gone afterwards, and off their cards."""
    daemons = [node.popen(["rq", "daemon", "--foreground"], user="ann") for node in c]
    cards = [os.path.join(c.home("ann"), ".roundqueue", node.name) for node in c]
    wait_until(lambda: all(os.path.exists(card) for card in cards), 20)
    try:
        code, findings, _ = doctor(c["n1"])
        assert code == 0, findings
        delays = {one["facts"]["node"]: one["facts"] for one in of(findings, "delay")}
        assert set(delays) == {"n1", "n2"}
        assert all(0 < facts["seconds"] < 1 + 5 and facts["poll_max_s"] == 1 for facts in delays.values())
        assert {one["facts"]["node"] for one in of(findings, "daemons")} == {"n1", "n2"}

        c["n2"].freeze()
        _, findings, _ = doctor(c["n1"])
        levels = {one["facts"]["node"]: one["level"] for one in of(findings, "delay")}
        assert levels == {"n1": "ok", "n2": "warning"}
        c["n2"].thaw()

        def pongs() -> list[str]:
            return [token for card in cards for token in json.loads(open(card).read())["roundq"]["pong"]]

        wait_until(
            lambda: pongs() == [] and leftovers(c) == [], 20, on_timeout=lambda: (pongs(), leftovers(c))
        )
    finally:
        c["n2"].thaw()
        for daemon in daemons:
            daemon.kill()
            daemon.wait()


def test_a_clock_that_differs_from_the_servers_is_found(c: Cluster) -> None:
    c["n1"].fs(set={"skew": SKEW_S})
    code, findings, _ = doctor(c["n1"], "--quick")
    clock = one_of(findings, "clock")
    assert (code, clock["level"]) == (0, "warning")
    assert clock["facts"]["ahead_s"] == pytest.approx(-SKEW_S, abs=5)
    assert one_of(doctor(c["n2"], "--quick")[1], "clock")["level"] == "ok"


@pytest.mark.parametrize(
    ("errno", "expected", "word"),
    [
        ("EROFS", 1, "read-only"),
        ("ENOSPC", 73, "No space"),
        ("EDQUOT", 73, "quota"),
        ("EIO", 1, "Input/output"),
    ],
)
def test_a_home_that_cannot_be_written_is_a_problem(c: Cluster, errno: str, expected: int, word: str) -> None:
    """With the exit code of its kind; what needs to write is not looked at, and all else is."""
    c["n1"].fault(op=["create", "mknod", "write", "mkdir"], errno=errno)
    code, findings, skipped = doctor(c["n1"])
    writing = one_of(findings, "writing")
    assert (code, writing["level"], writing["exit_code"]) == (expected, "problem", expected)
    assert word.lower() in writing["found"].lower()
    assert {"renaming", "replacing", "clock", "delay"} <= set(skipped)
    assert {"daemons", "versions"} <= {one["check"] for one in findings}
    c["n1"].clear_faults()
    assert leftovers(c) == []


def test_a_home_that_hangs_is_a_problem_after_a_deadline(c: Cluster) -> None:
    """Of this node all is looked at that does not need the home; the command ends."""
    # Not even SIGKILL ends what waits there.
    c["n1"].fault(hang="D")
    began_s = time.monotonic()
    code, findings, skipped = doctor(c["n1"])
    assert time.monotonic() - began_s < 30
    assert code == 1
    # What the node remembers may be answered still; the first question to the server is not.
    (hung,) = [one for one in findings if one["level"] == "problem"]
    assert "no answer within 10 s" in hung["found"]
    told = [one["check"] for one in findings]
    assert told[told.index(hung["check"]) + 1 :] == ["locks", "inotify", "processes", "versions"]
    assert "renaming" in skipped
    c["n1"].clear_faults()
    wait_until(lambda: leftovers(c) == [], 10, on_timeout=lambda: str(leftovers(c)))


def test_a_private_home_of_another_user_is_told_to_both(c: Cluster) -> None:
    """Who has it that nobody can look in, others that they cannot."""
    home = c.home("bob")
    os.chmod(home, 0o700)
    try:
        _, findings, _ = doctor(c["n1"], "--quick", user="bob")
        assert "others cannot look into" in one_of(findings, "queue")["found"]
        wait_until(lambda: c["n1"].run(["ls", "/home/bob"], user="ann").returncode != 0, 10)
        code, findings, _ = doctor(c["n1"], "--quick")
        others = one_of(findings, "other users")
        assert (code, others["level"], others["facts"]["hidden"]) == (0, "warning", 1)
        assert "closed to you: bob" in others["found"]
    finally:
        os.chmod(home, 0o755)


def test_a_mount_without_atomic_renames_wants_claims_to_settle(make_cluster: MakeCluster) -> None:
    """By its type: on one node alone nothing of it is to be seen. Where that is configured, all is well."""
    c = make_cluster(nodes=1, users=("ann",), fs="loose", fsopts="late=1", env=ENV)
    code, findings, _ = doctor(c["n1"], "--quick")
    mount, linking = one_of(findings, "file system"), one_of(findings, "linking")
    assert (code, mount["level"], linking["level"]) == (0, "warning", "warning")
    assert "set settle" in mount["remedy"]
    assert "no hard links" in linking["found"]
    done = c["n1"].run(["env", "RQ_SETTLE=5s", "rq", "doctor", "--json", "--quick"], user="ann", check=True)
    assert one_of(json.loads(done.stdout)["findings"], "file system")["level"] == "ok"
