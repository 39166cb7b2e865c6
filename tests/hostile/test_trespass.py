"""Promises about another user who tries: he makes my daemon run, cancel, move and reveal nothing.

Real users on one node, with a daemon each. What a kernel refuses by its own settings is done for Eve by root.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cluster import checkers
from tests.cluster.wait import wait_until

if TYPE_CHECKING:
    from tests.cluster.box import Cluster
    from tests.cluster.node import Node
    from tests.cluster.plugin import MakeCluster

ENV = {
    "RQ_CORES": "4",
    "RQ_POLL_MIN": "0.1",
    "RQ_POLL_MAX": "1",
    "RQ_GRACE": "2",
    "RQ_AUTO_START": "false",
}
MANUAL = Path(__file__).parents[2] / "man" / "roundqueue.7"
SECRET = "swordfish-7361"
#: What ann runs until it is canceled.
LONG = ("sleep", "1000")


@pytest.fixture(scope="module")
def c(make_module_cluster: MakeCluster) -> Cluster:
    """Ann and eve, and two directories in which everybody may write."""
    made = make_module_cluster(nodes=1, users=("ann", "eve"), fs="local", env=ENV)
    for name, mode in (("open", 0o777), ("sticky", 0o1777)):
        os.mkdir(f"{made.server}/{name}")
        os.chmod(f"{made.server}/{name}", mode)
    for user in ("ann", "eve"):
        made["n1"].popen(["rq", "daemon", "--foreground"], user=user)
    return made


@pytest.fixture
def n1(c: Cluster) -> Node:
    return c["n1"]


def rq(node: Node, *words: str, user: str = "ann") -> str:
    done = node.run(["rq", *words], user=user)
    assert done.returncode == 0, (words, done)
    return done.stdout.strip()


def state(node: Node, job: str, user: str = "ann") -> str:
    return checkers.states(node.cluster.server, user).get(job, "nowhere")


def until(node: Node, job: str, *states: str, user: str = "ann") -> None:
    wait_until(lambda: state(node, job, user) in states, 30, on_timeout=lambda: state(node, job, user))


def spool(c: Cluster, user: str = "ann") -> Path:
    return Path(c.server, user, ".roundqueue")


# ---------------------------------------------------------------- what eve may write and read


def test_nothing_of_mine_can_be_written_and_no_secret_be_read(c: Cluster, n1: Node) -> None:
    """Whatever my umask is: neither a directory, nor a record, nor my environment."""
    script = f"umask 0; export TOKEN={SECRET}; rq run --parsable -o out sleep 1000; rq run -c 9 true"
    job = n1.run(["sh", "-c", script], user="ann").stdout.split()[0]
    until(n1, job, "running")
    find = ["find", "/home/ann/.roundqueue", "-writable", "-not", "-type", "l"]
    assert n1.run(find, user="eve").stdout == ""
    look = "grep -r . /home/ann/.roundqueue; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline"
    assert SECRET not in n1.run(["sh", "-c", look], user="eve").stdout
    assert SECRET in "".join(path.read_text() for path in spool(c).glob("env/*"))
    rq(n1, "cancel", job)
    until(n1, job, "canceled")


def test_a_card_tells_what_the_manual_says_and_no_more(c: Cluster, n1: Node) -> None:
    """Neither the command line's environment, nor its directory, nor where its output goes."""
    job = rq(n1, "run", "--parsable", "-J", "named", "-o", "secret-output", *LONG)
    rq(n1, "run", "--parsable", "-c", "9", "-m", "1M", "true")
    until(n1, job, "running")
    card = json.loads((spool(c) / "n1").read_text())
    page = MANUAL.read_text()
    told = re.sub(
        r"^\.\S+ ?|[,:;]", " ", page[page.index("\n.Sh CARDS") : page.index("\n.Sh GUARANTEES")], flags=re.M
    )
    words = set(told.split())
    assert set(card) - {"roundq"} <= words
    assert set(card["roundq"]) <= words
    for entry in card["roundq"]["jobs"]:
        assert set(entry) <= words
    assert "secret-output" not in json.dumps(card)
    rq(n1, "cancel", job)
    until(n1, job, "canceled")


# ---------------------------------------------------------------- requests, and queues of others


def test_what_a_stranger_asks_of_my_jobs_is_not_done(c: Cluster, n1: Node) -> None:
    """Not even if the directory of requests was open to everybody for a while."""
    job, other = rq(n1, "run", "--parsable", *LONG), rq(n1, "run", "--parsable", *LONG)
    waiting = rq(n1, "run", "--parsable", "-c", "4", *LONG)
    until(n1, job, "running")
    until(n1, other, "running")
    requests = spool(c) / "requests"
    requests.chmod(0o777)
    for verb in ("cancel", "restart", "lost"):
        for one in (job, waiting):
            done = n1.run(["touch", f"/home/ann/.roundqueue/requests/{one}.{verb}"], user="eve")
            assert done.returncode == 0
    requests.chmod(0o755)
    # A request of my own after hers: when that is done, hers were seen.
    rq(n1, "cancel", other)
    until(n1, other, "canceled")
    assert (state(n1, job), state(n1, waiting)) == ("running", "waiting")
    rq(n1, "cancel", waiting)
    until(n1, waiting, "canceled")
    for path in requests.iterdir():
        path.unlink()
    rq(n1, "cancel", job)
    until(n1, job, "canceled")


@pytest.mark.parametrize(
    "words",
    [
        ("run", "touch", "/home/open/stolen"),
        ("cancel", "1"),
        ("daemon", "--fg"),
        ("restart", "1"),
        ("doctor",),
    ],
    ids=" ".join,
)
def test_nobody_commands_the_queue_of_another(c: Cluster, n1: Node, words: tuple[str, ...]) -> None:
    """With my HOME in her environment: refused, or nothing was found, and nothing changed."""
    before = {path: path.lstat().st_mtime_ns for path in spool(c).rglob("*") if path.parent.name != "tmp"}
    done = n1.run(["rq", *words], user="eve", env={"HOME": "/home/ann", "RQ_AUTO_START": "true"})
    assert done.returncode != 0, done
    assert "Traceback" not in done.stderr
    after = {path for path in spool(c).rglob("*") if path.parent.name != "tmp"}
    assert after == set(before)
    assert not Path(c.server, "open", "stolen").exists()


def test_a_job_of_mine_that_is_linked_into_her_queue_is_not_hers(c: Cluster, n1: Node) -> None:
    """As where any user may link any file: her daemon runs nothing of mine, and mine runs it once."""
    ran = "/home/open/ran"
    blocker = rq(n1, "run", "--parsable", "-c", "4", *LONG)
    until(n1, blocker, "running")
    job = rq(n1, "run", "--parsable", "sh", "-c", f"id -un >> {ran}")
    theirs = Path(c.server, "eve", ".roundqueue", "waiting")
    wait_until(theirs.is_dir, 30)
    for name in (f"{job}.job", "9999.job"):
        os.link(spool(c) / "waiting" / f"{job}.job", theirs / name)
    rq(n1, "cancel", blocker)
    until(n1, job, "completed")
    # Her own job comes after them.
    until(n1, rq(n1, "run", "--parsable", "true", user="eve"), "completed", user="eve")
    assert Path(c.server, "open", "ran").read_text() == "ann\n"
    for name in (f"{job}.job", "9999.job"):
        (theirs / name).unlink()


def test_a_job_file_of_hers_in_my_queue_is_not_run(c: Cluster, n1: Node) -> None:
    """However it came there."""
    record = json.dumps({"job": {"command": ["touch", "/home/open/by-ann"]}})
    eve = c.user("eve").uid
    for state_ in ("waiting", "claimed", "running", "held"):
        name = "777.job" if state_ in ("waiting", "held") else "777@n1.job"
        path = spool(c) / state_ / name
        path.write_text(record)
        os.chown(path, eve, eve)
    mine = rq(n1, "run", "--parsable", "true")
    until(n1, mine, "completed")
    assert not Path(c.server, "open", "by-ann").exists()
    for path in spool(c).glob("*/777*"):
        path.unlink()


# ---------------------------------------------------------------- output among strangers


def plant(c: Cluster, kind: str, path: Path) -> None:
    """What eve puts where ann's output is to be."""
    eve = c.user("eve").uid
    if kind == "link":
        path.symlink_to("/home/ann/precious")
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.touch()
    os.chown(path, eve, eve, follow_symlinks=False)
    if kind != "link":
        path.chmod(0o666)


@pytest.mark.parametrize("directory", ["open", "sticky"])
@pytest.mark.parametrize("kind", ["link", "fifo", "file"])
def test_output_does_not_go_where_a_stranger_leads_it(
    c: Cluster, n1: Node, kind: str, directory: str
) -> None:
    """Neither into a file of mine, through her link, nor into a file of hers, which she would read."""
    precious = Path(c.server, "ann", "precious")
    precious.write_text("mine\n")
    os.chown(precious, c.user("ann").uid, c.user("ann").uid)
    path = Path(c.server, directory, f"{kind}.out")
    plant(c, kind, path)
    reader = n1.popen(["cat", f"/home/{directory}/{kind}.out"], user="eve") if kind == "fifo" else None
    job = rq(n1, "run", "--parsable", "-o", f"/home/{directory}/{kind}.out", "echo", SECRET)
    until(n1, job, "failed")
    assert precious.read_text() == "mine\n"
    if kind == "file":
        assert path.read_text() == ""
    assert f"{kind}.out" in rq(n1, "show", job)
    if reader is not None:
        reader.kill()
        reader.wait()


def test_output_among_strangers_goes_into_files_and_links_of_mine(c: Cluster, n1: Node) -> None:
    for directory in ("open", "sticky"):
        script = "echo first > $1/mine.out; ln -s $2 $1/link-mine"
        words = [f"/home/{directory}", f"/home/ann/told-{directory}"]
        n1.run(["sh", "-c", script, "sh", *words], user="ann", check=True)
        for name in ("mine.out", "new.out", "link-mine"):
            job = rq(n1, "run", "--parsable", "-o", f"/home/{directory}/{name}", "echo", "second")
            until(n1, job, "completed")
        mine, new = Path(c.server, directory, "mine.out"), Path(c.server, directory, "new.out")
        for path in (mine, new, Path(c.server, "ann", f"told-{directory}")):
            assert "second" in path.read_text().splitlines()
        assert mine.read_text().startswith("first\n")


# ---------------------------------------------------------------- locks


def test_whoever_takes_the_places_of_my_locks_keeps_me_from_nothing(make_cluster: MakeCluster) -> None:
    """The names are known to everybody; a daemon of mine runs all the same, and only one."""
    c = make_cluster(nodes=1, users=("ann", "eve"), fs="local", env=ENV)
    n1 = c["n1"]
    uid = c.user("ann").uid
    for place in ("/tmp", "/var/tmp", "/dev/shm"):
        n1.run(["mkdir", f"{place}/roundq-{uid}"], user="eve", check=True)
    n1.popen(["rq", "daemon", "--foreground"], user="ann")
    until(n1, rq(n1, "run", "--parsable", "true"), "completed")
    done = n1.run(["rq", "daemon", "--fg"], user="ann")
    assert done.returncode != 0
    assert "runs on this node already" in done.stderr
    rq(n1, "daemon", "--stop")
