"""The test cluster keeps its own promises: every trait of a node and of NFS, and every fault.

Most tests share one cluster of three nodes whose caches last a minute, so what is stale stays stale for as
long as a test looks. Where something must expire, the node is first told to cache for an instant only.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import stat
import subprocess
import sys
import textwrap
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster import checkers, plugin, scratch
from tests.cluster.box import Cluster
from tests.cluster.cache import TICK_NS
from tests.cluster.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cluster.hand import Hand
    from tests.cluster.node import Node
    from tests.cluster.plugin import MakeCluster

MINUTE = "actimeo=60,wdelay=60"
INSTANT = {"actimeo": 0.2}
REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@pytest.fixture(scope="module")
def shared(make_module_cluster: MakeCluster) -> Cluster:
    return make_module_cluster(nodes=3, users=("ann", "bob"), groups={"lab": ("ann", "bob")}, fsopts=MINUTE)


@pytest.fixture
def c(shared: Cluster) -> Iterator[Cluster]:
    """The shared cluster, whole again after every test."""
    yield shared
    for node in shared:
        mend(node)


def mend(node: Node) -> None:
    """Undo all that a test can have done to a node."""
    if not node.is_on:
        node.start()
    node.thaw()
    node.heal()
    node.clear_faults()
    node.fs(trace=False, set=vars(node.cluster.options()))


@pytest.fixture
def place(shared: Cluster, request: pytest.FixtureRequest) -> str:
    """A directory of ann's for this test only, as a path inside a node."""
    name = re.sub(r"\W+", "-", request.node.name)
    path = os.path.join(shared.home("ann"), name)
    os.mkdir(path)
    os.chmod(path, 0o755)  # Whatever the umask of the test run is.
    os.chown(path, shared.user("ann").uid, shared.user("ann").uid)
    return f"/home/ann/{name}"


@pytest.fixture
def hand(c: Cluster) -> Iterator[Callable[..., Hand]]:
    """Makes hands: hand("n1") is ann's on n1."""
    with contextlib.ExitStack() as stack:
        yield lambda node, user="ann": stack.enter_context(c[node].hand(user))
        for node in c:
            mend(node)  # Or a hand that hangs could not be closed.


def server(c: Cluster, path: str) -> str:
    """Where the server has what nodes see at `path`."""
    return os.path.join(c.server, os.path.relpath(path, "/home"))


def read(path: str) -> str:
    with open(path) as f:
        return f.read()


# ---------------------------------------------------------------- a node is a machine


def test_a_node_has_a_name_and_machine_id_of_its_own(c: Cluster) -> None:
    """uname, hostname and /etc agree, and no two nodes are the same."""
    look = "import os; print(os.uname().nodename, *open('/etc/hostname'), *open('/etc/machine-id'))"

    assert c["n1"].python(look, user="ann").split() == ["n1", "n1", c["n1"].machine_id]
    assert c["n2"].python(look, user="bob").split() == ["n2", "n2", c["n2"].machine_id]
    assert c["n1"].machine_id != c["n2"].machine_id


def test_processes_of_another_node_are_not_seen(c: Cluster, hand: Callable[..., Hand]) -> None:
    """A node's /proc has its own processes only, numbered from 1; from outside they are known as well."""
    hands = [hand("n1"), hand("n2")]

    seen = hands[0].do('[int(name) for name in os.listdir("/proc") if name.isdigit()]')

    assert sorted(seen) == [1, hands[0].do("os.getpid()")]
    assert hands[0].do('read("/proc/1/comm")') == "rqbox-init\n"
    assert hands[0].do("os.getpid()") < 1000
    assert c["n1"].pids() == c["n1"].pids_of("ann") == [hands[0].process.pid]
    assert c["n1"].pids_of("bob") == []


def test_users_are_real(c: Cluster) -> None:
    """Each has an own uid, own home, the groups asked for, and an empty environment but for a login's."""
    run = c["n2"].run(["sh", "-c", "id -un; id -u; id -Gn; pwd; echo $HOME $USER $LANG; umask"], user="bob")

    assert run.stdout == f"bob\n{c.user('bob').uid}\nbob lab\n/home/bob\n/home/bob bob C.UTF-8\n0022\n"
    assert set(c["n1"].environment("bob")) == {"HOME", "USER", "LOGNAME", "SHELL", "PATH", "LANG"}


def test_directories_of_the_machine_are_not_shared(c: Cluster, hand: Callable[..., Hand]) -> None:
    """/tmp, /run, /dev/shm and /var/tmp belong to one node; /run has places for users and for locks."""
    one, two = hand("n1"), hand("n2")
    places = ["/tmp/x", "/dev/shm/x", "/var/tmp/x", "/run/lock/x", f"/run/user/{c.user('ann').uid}/x"]

    assert [one.do(f'write("{path}", "1")') for path in places] == [None] * 5
    assert [two.do(f'os.path.exists("{path}")') for path in places] == [False] * 5


def test_the_network_is_empty(c: Cluster) -> None:
    """There is lo, it is up, and nothing else."""
    look = (
        "import socket; print([n for _, n in socket.if_nameindex()]); socket.create_server(('127.0.0.1', 0))"
    )

    assert c["n1"].python(look, user="ann") == "['lo']\n"


def test_nothing_is_mounted_outside(c: Cluster) -> None:  # noqa: ARG001
    """The homes of the nodes are mounted in their namespaces only."""
    assert "nfsim" not in read("/proc/self/mounts")


def test_pid_1_reaps_orphans(c: Cluster) -> None:
    """A daemon whose parent has gone does not stay a zombie."""
    c["n1"].run(["sh", "-c", "sleep 0.05 & exit"], user="ann", check=True)

    wait_until(lambda: not c["n1"].pids(), 5)


def test_run_says_what_went_wrong(c: Cluster) -> None:
    """Exit code, output and errors are told apart; input arrives; a command that is too slow is killed."""
    done = c["n1"].run(["sh", "-c", "cat; echo bad >&2; exit 3"], user="ann", input="in")

    assert (done.returncode, done.stdout, done.stderr) == (3, "in", "bad\n")
    with pytest.raises(AssertionError, match="ended with 3"):
        c["n1"].run(["sh", "-c", "exit 3"], check=True)
    with pytest.raises(subprocess.TimeoutExpired):
        c["n1"].run(["sleep", "100"], timeout=0.1)
    wait_until(lambda: not c["n1"].pids(), 5)


def test_a_reboot_is_a_new_boot_of_the_same_machine(c: Cluster, hand: Callable[..., Hand]) -> None:
    """A crash ends all without a word; then the boot id is new, /tmp empty, and the homes are as before."""
    node = c["n3"]
    look = "print(open('/proc/sys/kernel/random/boot_id').read(), open('/etc/machine-id').read())"
    before, machine_id = node.python(look).split()
    victim = hand("n3")
    victim.do('signal.signal(signal.SIGTERM, lambda *_: write("/home/ann/handler-ran", ""))')
    victim.do('write("/tmp/x", "")')
    victim.do('write("/home/ann/kept", "1")')

    node.reboot()

    assert victim.process.wait(5) == -signal.SIGKILL
    assert not os.path.exists(c.home("ann") + "/handler-ran")
    after = node.python(look).split()
    assert after[0] == node.boot_id != before
    assert after[1] == machine_id
    assert node.python("import os; print(os.listdir('/tmp'), open('/home/ann/kept').read())") == "[] 1\n"


def test_an_orderly_stop_lets_processes_end_by_themselves(c: Cluster, hand: Callable[..., Hand]) -> None:
    """With a grace they get SIGTERM first, and what they write then reaches the server."""
    one = hand("n1")
    one.do('signal.signal(signal.SIGTERM, lambda *_: (write("/home/ann/last-words", "bye"), os._exit(5)))')

    c["n1"].stop(grace_s=5)

    assert one.process.wait(5) == 5
    assert read(c.home("ann") + "/last-words") == "bye"


def test_a_frozen_node_stands_still(c: Cluster, place: str, hand: Callable[..., Hand]) -> None:
    """Nothing runs until it is thawed, and then everything goes on where it was."""
    one = hand("n1")
    c["n1"].freeze()

    one.begin(f'write("{place}/x", "1")')

    assert not one.answers_within(0.2)
    assert os.listdir(server(c, place)) == []
    c["n1"].thaw()
    assert one.answer() is None
    assert os.listdir(server(c, place)) == ["x"]


def test_homes_can_be_private_or_local(make_cluster: MakeCluster) -> None:
    """home_mode is the mode of the homes; fs="local" puts nothing between the node and them."""
    c = make_cluster(nodes=["solo"], users=["ann", "bob"], fs="local", home_mode=0o700, env={"EXTRA": "1"})

    assert stat.S_IMODE(os.stat(c.home("ann")).st_mode) == 0o700
    assert c["solo"].run(["ls", "/home/ann"], user="bob").returncode != 0
    assert c["solo"].run(["sh", "-c", "echo $EXTRA > ~/x"], user="ann", check=True)
    assert read(c.home("ann") + "/x") == "1\n"


def test_nodes_can_be_configured_and_seem_to_have_memory(make_cluster: MakeCluster) -> None:
    """`config` is /etc/roundq.toml on all nodes, and may change; `memory` is what /proc/meminfo says."""
    c = make_cluster(nodes=2, users=["ann"], config="cores = 7\n", memory=3 << 30)
    look = (
        "print(*(line.split()[1] for line in open('/proc/meminfo') if line[:8] in ('MemTotal', 'MemAvail')))"
    )

    for node in c:
        assert node.run(["cat", "/etc/roundq.toml"], user="ann").stdout == "cores = 7\n"
        assert node.python(look, user="ann").split() == [str(3 << 20)] * 2
        assert node.run(["id", "-un"], user="ann").stdout == "ann\n"
    c.configure("cores = 8\n")
    assert {node.run(["cat", "/etc/roundq.toml"], user="ann").stdout for node in c} == {"cores = 8\n"}


# ---------------------------------------------------------------- roundq runs there


def test_the_interpreter_finds_everything_by_itself(c: Cluster) -> None:
    """Any user, with an empty environment, can import roundq and what it needs, and nobody can change it."""
    look = "import sys, roundq, pydantic; print(sys.executable, roundq.__file__)"

    run = c["n1"].run(["env", "-i", "/opt/rq/bin/python", "-c", look], user="bob", cwd="/")

    assert (run.stdout, run.stderr) == ("/opt/rq/bin/python /opt/rq/code/roundq/__init__.py\n", "")
    assert (
        c["n1"].run(["find", "/opt/rq/code", "/opt/rq/bin", "-writable"], user="bob").stdout.count("\n") <= 2
    )
    for path in ("/opt/rq/code/roundq/x", "/opt/rq/bin/x", "/opt/rq/x"):
        assert c["n1"].run(["touch", path], user="bob").returncode != 0


def test_rq_is_on_the_path(c: Cluster) -> None:
    """The commands of /opt/rq/bin come first."""
    which = "command -v rq; command -v python; command -v noinet; command -v ledger"

    run = c["n1"].run(["sh", "-c", which], user="ann")

    assert run.stdout.split() == [f"/opt/rq/bin/{name}" for name in ("rq", "python", "noinet", "ledger")]


@pytest.mark.parametrize(
    "argv", [["rq", "--version"], ["env", "-i", "/opt/rq/bin/python", "-m", "roundq", "--version"]]
)
def test_rq_runs(c: Cluster, argv: list[str]) -> None:
    """As a command and as a module."""
    assert c["n1"].run(argv, user="ann", check=True).stdout.startswith("rq ")


@pytest.mark.parametrize(("family", "dies"), [("AF_INET", True), ("AF_INET6", True), ("AF_UNIX", False)])
def test_noinet_kills_what_opens_a_network_socket(c: Cluster, family: str, dies: bool) -> None:
    """Also in a child, and only then; local sockets are allowed."""
    ask = f"import socket; socket.socket(socket.{family}); print('open')"
    code = f"import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-S', '-c', {ask!r}]) % 256)"

    run = c["n1"].run(["noinet", "python", "-S", "-c", code], user="ann")

    assert (run.returncode, run.stdout) == ((-signal.SIGSYS % 256, "") if dies else (0, "open\n"))


def test_jobs_write_down_when_they_ran(c: Cluster) -> None:
    """One that ends and one that is killed; the ledger is outside of all NFS."""
    c["n1"].partition()
    killed = c["n1"].popen(["ledger", "17", "100", "2"], user="ann", cwd="/")
    wait_until(lambda: any(run.end > run.start for run in checkers.intervals(c.ledger)))
    killed.kill()

    assert c["n2"].run(["ledger", "18", "0.1", "1", "3"], user="bob").returncode == 3

    runs = {run.label: run for run in checkers.intervals(c.ledger)}
    assert (runs["17"].node, runs["17"].cores, runs["17"].ended) == ("n1", 2, False)
    assert (runs["18"].node, runs["18"].uid, runs["18"].ended) == ("n2", c.user("bob").uid, True)
    assert runs["18"].end - runs["18"].start >= 0.1


# ---------------------------------------------------------------- what a node caches of the homes


def test_a_fresh_listing_is_true(c: Cluster, place: str, hand: Callable[..., Hand]) -> None:
    """Whatever is cached, opendir asks the server: a change elsewhere is listed at once."""
    one, two = hand("n1"), hand("n2")
    for i in range(20):
        assert two.do(f'ls("{place}")') == sorted(str(n) for n in range(i))
        one.do(f'write("{place}/{i}", "")')

    assert os.path.isdir(server(c, place))


def test_an_old_name_is_still_found(place: str, hand: Callable[..., Hand]) -> None:
    """stat and open of a name that another node has renamed away succeed while the directory is cached."""
    one, two = hand("n1"), hand("n2")
    one.do(f'write("{place}/old", "1")')
    assert two.do(f'read("{place}/old")') == "1"

    one.do(f'os.rename("{place}/old", "{place}/new")')

    assert two.do(f'os.stat("{place}/old").st_size') == 1
    assert two.do(f'read("{place}/old")') == "1"


def test_a_name_that_was_asked_for_too_early_stays_missing(place: str, hand: Callable[..., Hand]) -> None:
    """Until then ENOENT is believed, even when the file is long there."""
    one, two = hand("n1"), hand("n2")
    assert two.do(f'os.stat("{place}/new")') == "ENOENT"

    one.do(f'write("{place}/new", "1")')

    assert two.do(f'os.path.exists("{place}/new")') is False
    assert two.do(f'read("{place}/new")') == "ENOENT"


def test_a_listing_that_shows_a_change_renews_names(place: str, hand: Callable[..., Hand]) -> None:
    """List afresh, then open by name: the habit that works."""
    one, two = hand("n1"), hand("n2")
    one.do(f'write("{place}/old", "1")')
    assert two.do(f'[os.path.exists("{place}/" + name) for name in ("old", "new")]') == [True, False]

    one.do(f'os.rename("{place}/old", "{place}/new")')

    assert two.do(f'ls("{place}")') == ["new"]
    names_seen = f'[os.path.exists("{place}/" + name) for name in ("old", "new")]'
    wait_until(lambda: two.do(names_seen) == [False, True], 2)


def test_opening_a_directory_shows_when_it_changed(place: str, hand: Callable[..., Hand]) -> None:
    """Close-to-open holds for directories too: open, then fstat, without any listing."""
    one, two = hand("n1"), hand("n2")
    opened = f'd = os.open("{place}", os.O_RDONLY); at = os.fstat(d).st_mtime_ns; os.close(d)'
    two.do(opened)
    before = two.do("at")

    one.do(f'write("{place}/new", "1")')

    two.do(opened)
    assert two.do("at") > before


def test_cached_names_expire(c: Cluster, place: str, hand: Callable[..., Hand]) -> None:
    """After the time of the directory's attributes the truth is seen, without any listing."""
    c["n2"].fs(set=INSTANT)
    one, two = hand("n1"), hand("n2")
    one.do(f'write("{place}/old", "1")')
    names_seen = f'[os.path.exists("{place}/" + name) for name in ("old", "new")]'
    assert two.do(names_seen) == [True, False]

    one.do(f'os.rename("{place}/old", "{place}/new")')

    wait_until(lambda: two.do(names_seen) == [False, True], 5)


def test_sticky_names_outlive_a_listing(c: Cluster, place: str, hand: Callable[..., Hand]) -> None:
    """As with directory delegations: the listing is true, the name stays stale while it is asked for."""
    c["n2"].fs(set={"sticky": 1, **INSTANT})
    one, two = hand("n1"), hand("n2")
    one.do(f'write("{place}/old", "1")')
    names_seen = f'[os.path.exists("{place}/" + name) for name in ("old", "new")]'
    assert two.do(names_seen) == [True, False]

    one.do(f'os.rename("{place}/old", "{place}/new")')

    assert two.do(f'ls("{place}")') == ["new"]
    assert two.do(f"[time.sleep(0.1) or {names_seen} for _ in range(4)][-1]") == [True, False]


@pytest.mark.parametrize("options", [{"noac": 1}, {"actimeo": 0}])
def test_without_caches_the_truth_is_seen_at_once(
    c: Cluster, place: str, hand: Callable[..., Hand], options: dict[str, Any]
) -> None:
    """The mount options that switch caches off do."""
    c["n2"].fs(set=options)
    one, two = hand("n1"), hand("n2")
    one.do(f'write("{place}/old", "1")')
    names_seen = f'[os.path.exists("{place}/" + name) for name in ("old", "new")]'
    assert two.do(names_seen) == [True, False]

    one.do(f'os.rename("{place}/old", "{place}/new")')

    assert two.do(names_seen) == [False, True]


def test_lookupcache_pos_believes_no_absence(c: Cluster, place: str, hand: Callable[..., Hand]) -> None:
    """lookupcache=pos caches names that are there, and asks again for those that are not."""
    c["n2"].fs(set={"lookupcache": "pos"})
    one, two = hand("n1"), hand("n2")
    one.do(f'write("{place}/old", "1")')
    names_seen = f'[os.path.exists("{place}/" + name) for name in ("old", "new")]'
    assert two.do(names_seen) == [True, False]

    one.do(f'os.link("{place}/old", "{place}/new")')
    os.unlink(server(c, f"{place}/old"))

    assert two.do(f'os.path.exists("{place}/new")') is True


def test_opening_again_shows_what_was_closed_before(place: str, hand: Callable[..., Hand]) -> None:
    """Close-to-open, for a file written in place as for one that was replaced."""
    one, two = hand("n1"), hand("n2")
    for i in range(20):
        one.do(f'write("{place}/same", "{i:04}")')
        one.do(f'(write("{place}/.tmp", "{i:04}"), os.replace("{place}/.tmp", "{place}/other"))')

        assert two.do(f'read("{place}/same")') == f"{i:04}"
        if i == 0:
            assert two.do(f'ls("{place}")') == ["other", "same"]
    assert two.do(f'ls("{place}")') == ["other", "same"]
    assert two.do(f'read("{place}/other")') == "0019"


def test_an_open_file_is_not_kept_up_to_date(place: str, hand: Callable[..., Hand]) -> None:
    """Attributes are believed for acregmin: open again, do not stat."""
    one, two = hand("n1"), hand("n2")
    one.do(f'write("{place}/x", "1")')
    assert two.do(f'os.stat("{place}/x").st_size') == 1

    one.do(f'write("{place}/x", "12345")')

    assert two.do(f'os.stat("{place}/x").st_size') == 1
    two.do(f'fd = os.open("{place}/x", os.O_RDONLY)')
    assert two.do("os.fstat(fd).st_size") == 5


def test_attributes_expire(c: Cluster, place: str, hand: Callable[..., Hand]) -> None:
    """After acregmin stat asks again."""
    c["n2"].fs(set=INSTANT)
    one, two = hand("n1"), hand("n2")
    one.do(f'write("{place}/x", "1")')
    assert two.do(f'os.stat("{place}/x").st_size') == 1

    one.do(f'write("{place}/x", "12345")')

    wait_until(lambda: two.do(f'os.stat("{place}/x").st_size') == 5, 5)


@pytest.mark.parametrize(("version", "result"), [("3", "1"), ("4.2", "1"), ("4.0", "ENOENT")])
def test_a_renamed_file_opens_by_its_handle(
    c: Cluster, place: str, hand: Callable[..., Hand], version: str, result: str
) -> None:
    """By the old name; only NFS 4.0 opens by name and cannot."""
    c["n2"].fs(set={"vers": version})
    one, two = hand("n1"), hand("n2")
    one.do(f'write("{place}/old", "1")')
    assert two.do(f'read("{place}/old")') == "1"

    one.do(f'os.rename("{place}/old", "{place}/new")')

    assert two.do(f'read("{place}/old")') == result


@pytest.mark.parametrize(("version", "result"), [("3", "ESTALE"), ("4.2", "b'1'")])
def test_a_file_removed_elsewhere_while_open(
    c: Cluster, place: str, hand: Callable[..., Hand], version: str, result: str
) -> None:
    """Reading it goes on with version 4 and is stale with 3; opening it by its cached name fails."""
    c["n2"].fs(set={"vers": version})
    one, two = hand("n1"), hand("n2")
    one.do(f'write("{place}/x", "1")')
    one.do(f'write("{place}/y", "1")')
    two.do(f'fd = os.open("{place}/x", os.O_RDONLY)')
    assert two.do(f'read("{place}/y")') == "1"

    one.do(f'(os.unlink("{place}/x"), os.unlink("{place}/y"))')

    assert str(two.do("os.pread(fd, 10, 0)")) == result
    assert two.do(f'read("{place}/y")') == "ENOENT"


def test_a_file_removed_here_while_open_gets_a_silly_name(place: str, hand: Callable[..., Hand]) -> None:
    """Other nodes see .nfs..., until it is closed."""
    one, two = hand("n1"), hand("n2")
    one.do(f'fd = os.open("{place}/x", os.O_CREAT | os.O_RDWR)')
    one.do(f'(os.write(fd, b"1"), os.unlink("{place}/x"))')

    assert [name[:4] for name in two.do(f'ls("{place}")')] == [".nfs"]
    assert one.do("os.pread(fd, 9, 0)") == b"1"
    one.do("os.close(fd)")
    wait_until(lambda: two.do(f'ls("{place}")') == [], 5)


def test_a_file_replaced_while_open_gets_a_silly_name(place: str, hand: Callable[..., Hand]) -> None:
    """Renaming over a file that this node has open keeps the old one until it is closed."""
    one = hand("n1")
    one.do(f'(write("{place}/x", "old"), write("{place}/y", "new"))')
    one.do(f'fd = os.open("{place}/x", os.O_RDONLY)')

    one.do(f'os.rename("{place}/y", "{place}/x")')

    assert one.do("os.pread(fd, 9, 0)") == b"old"
    assert one.do(f'read("{place}/x")') == "new"
    assert [name[:4] for name in one.do(f'ls("{place}")')] == [".nfs", "x"]


# ---------------------------------------------------------------- what reaches the server, and when


def test_written_data_is_seen_elsewhere_after_close(
    c: Cluster, place: str, hand: Callable[..., Hand]
) -> None:
    """Before, the server has an empty file."""
    one = hand("n1")
    one.do(f'fd = os.open("{place}/x", os.O_CREAT | os.O_WRONLY)')
    assert one.do('os.write(fd, b"data")') == 4

    assert read(server(c, f"{place}/x")) == ""
    one.do("os.close(fd)")
    assert read(server(c, f"{place}/x")) == "data"


def test_fsync_reaches_the_server(c: Cluster, place: str, hand: Callable[..., Hand]) -> None:
    """At once, with the file still open."""
    one = hand("n1")
    one.do(f'fd = os.open("{place}/x", os.O_CREAT | os.O_WRONLY)')

    one.do('(os.write(fd, b"data"), os.fsync(fd))')

    assert read(server(c, f"{place}/x")) == "data"


def test_written_data_reaches_the_server_after_a_while(
    c: Cluster, place: str, hand: Callable[..., Hand]
) -> None:
    """Without close or fsync, after wdelay."""
    c["n1"].fs(set={"wdelay": 0.2})
    one = hand("n1")
    one.do(f'fd = os.open("{place}/x", os.O_CREAT | os.O_WRONLY)')

    one.do('os.write(fd, b"data")')

    wait_until(lambda: read(server(c, f"{place}/x")) == "data", 5)


def test_a_crash_loses_what_was_not_closed(c: Cluster, place: str, hand: Callable[..., Hand]) -> None:
    """The node had told the program that it was written; what was closed is kept."""
    one = hand("n1")
    one.do(f'write("{place}/closed", "data")')
    one.do(f'fd = os.open("{place}/open", os.O_CREAT | os.O_WRONLY)')
    assert one.do('os.write(fd, b"data")') == 4

    c["n1"].crash()

    assert read(server(c, f"{place}/closed")) == "data"
    assert read(server(c, f"{place}/open")) == ""


def test_a_killed_process_loses_nothing(c: Cluster, place: str, hand: Callable[..., Hand]) -> None:
    """The kernel closes its files, and closing writes."""
    one = hand("n1")
    one.do(f'fd = os.open("{place}/x", os.O_CREAT | os.O_WRONLY)')
    one.do('os.write(fd, b"data")')

    one.process.kill()
    one.process.wait(5)

    assert read(server(c, f"{place}/x")) == "data"


# ---------------------------------------------------------------- what the server decides


def test_a_rename_of_what_another_node_renamed_away_fails(place: str, hand: Callable[..., Hand]) -> None:
    """The server decides, whatever is cached: one source has one winner."""
    one, two = hand("n1"), hand("n2")
    one.do(f'write("{place}/job", "1")')
    assert two.do(f'read("{place}/job")') == "1"

    assert one.do(f'os.rename("{place}/job", "{place}/job@n1")') is None
    assert two.do(f'os.rename("{place}/job", "{place}/job@n2")') == "ENOENT"


@pytest.mark.parametrize(
    "make",
    [
        'os.link("{0}/source", "{0}/name")',
        'os.mkdir("{0}/name")',
        'os.close(os.open("{0}/name", os.O_CREAT | os.O_EXCL | os.O_WRONLY))',
        'os.symlink("anything", "{0}/name")',
    ],
)
def test_a_name_can_be_made_once(place: str, hand: Callable[..., Hand], make: str) -> None:
    """link, mkdir, O_EXCL and symlink fail where another node was first, whatever is believed here."""
    one, two = hand("n1"), hand("n2")
    one.do(f'write("{place}/source", "")')
    assert two.do(f'os.path.exists("{place}/name")') is False

    assert one.do(make.format(place)) is None
    assert two.do(make.format(place)) == "EEXIST"


def test_claims_by_rename_have_one_winner_each(c: Cluster, place: str) -> None:
    """300 files, three nodes, two processes on each, all at once: each file is won once."""
    for directory in ("waiting", "claimed"):
        path = server(c, f"{place}/{directory}")
        os.mkdir(path)
        os.chown(path, c.user("ann").uid, c.user("ann").uid)
    for i in range(300):
        with open(server(c, f"{place}/waiting/{i}"), "w"):
            pass
    claim = """
        import os, sys
        me, won = f"{os.uname().nodename}.{os.getpid()}", 0
        os.chdir(sys.argv[1])
        while names := os.listdir("waiting"):
            for name in names:
                try:
                    os.rename(f"waiting/{name}", f"claimed/{name}@{me}")
                    won += 1
                except FileNotFoundError:
                    pass
        print(won)
    """
    argv = ["/opt/rq/bin/python", "-S", "-c", textwrap.dedent(claim), place]

    claimers = [node.popen(argv, "ann", stdout=subprocess.PIPE) for node in c for _ in range(2)]

    assert sum(int(claimer.communicate(timeout=30)[0]) for claimer in claimers) == 300
    claimed = os.listdir(server(c, f"{place}/claimed"))
    assert sorted(int(name.partition("@")[0]) for name in claimed) == list(range(300))


def test_flock_holds_on_one_node_only(place: str, hand: Callable[..., Hand]) -> None:
    """As on a mount with local locks: two nodes get the same lock."""
    one, same_node, other_node = hand("n1"), hand("n1"), hand("n2")
    lock = f'fcntl.flock(os.open("{place}/lock", os.O_CREAT | os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB)'

    assert one.do(lock) is None
    assert same_node.do(lock) == "EAGAIN"
    assert other_node.do(lock) is None


def test_renameat2_knows_no_flags(c: Cluster, place: str) -> None:
    """RENAME_NOREPLACE is EINVAL, as on NFS."""
    code = """
        import ctypes, errno, sys
        libc = ctypes.CDLL(None, use_errno=True)
        old, new = (f"{sys.argv[1]}/{name}".encode() for name in ("old", "new"))
        open(old, "w").close()
        print(libc.renameat2(-100, old, -100, new, 1), errno.errorcode[ctypes.get_errno()])
    """

    assert c["n1"].python(textwrap.dedent(code), place, user="ann") == "-1 EINVAL\n"


def test_permissions_are_the_servers(c: Cluster, place: str, hand: Callable[..., Hand]) -> None:
    """Others may look but not write where the mode says so; groups count; root is nobody."""
    ann, bob, root = hand("n1"), hand("n1", "bob"), hand("n1", "root")
    ann.do(f'(os.mkdir("{place}/private", 0o700), os.mkdir("{place}/lab"))')
    ann.do(f'write("{place}/open", "1")')
    gid = c.user("ann").groups[1]
    assert ann.do(f'(os.chown("{place}/lab", -1, {gid}), os.chmod("{place}/lab", 0o770))') == (None, None)

    assert bob.do(f'read("{place}/open")') == "1"
    assert bob.do(f'write("{place}/open", "2")') == "EACCES"
    assert bob.do(f'ls("{place}/private")') == "EACCES"
    assert bob.do(f'write("{place}/lab/x", "")') is None
    assert root.do(f'ls("{place}/private")') == "EACCES"
    assert root.do(f'write("{place}/x", "")') == "EACCES"


def test_the_clock_of_the_server_may_be_wrong(c: Cluster, place: str, hand: Callable[..., Hand]) -> None:
    """Two minutes behind, with stamps of whole seconds; times that are set come back as they were set."""
    c["n1"].fs(set={"skew": -120, "gran": 1})
    one = hand("n1")
    one.do(f'write("{place}/x", "1")')

    late = one.do(f'time.time() - os.stat("{place}/x").st_mtime')
    assert 119 < late < 125
    assert one.do(f'os.stat("{place}/x").st_mtime % 1') == 0
    one.do(f'os.utime("{place}/x", (1000, 2000))')
    assert one.do(f'os.stat("{place}/x").st_mtime') == 2000


# ---------------------------------------------------------------- faults


ERRORS = [
    ("create", "ENOSPC", 'write("{0}/new", "1")'),
    ("create", "EDQUOT", 'write("{0}/new", "1")'),
    ("write", "EIO", 'write("{0}/new", "1")'),
    ("flush", "EDQUOT", 'write("{0}/new", "1")'),
    ("flush", "ENOSPC", 'write("{0}/new", "1")'),
    ("fsync", "EIO", 'os.fsync(os.open("{0}/there", os.O_WRONLY))'),
    ("open", "ESTALE", 'os.open("{0}/there", os.O_WRONLY)'),
    ("opendir", "EIO", 'ls("{0}")'),
    ("readdir", "EIO", 'ls("{0}")'),
    ("lookup", "EIO", 'os.stat("{0}/unseen")'),
    ("mkdir", "EIO", 'os.mkdir("{0}/new")'),
    ("unlink", "EIO", 'os.unlink("{0}/there")'),
    ("link", "EIO", 'os.link("{0}/there", "{0}/new")'),
    ("rename", "EIO", 'os.rename("{0}/there", "{0}/new")'),
    ("symlink", "EIO", 'os.symlink("there", "{0}/new")'),
    ("setattr", "EIO", 'os.chmod("{0}/there", 0o600)'),
]


@pytest.mark.parametrize(("op", "error", "code"), ERRORS, ids=[f"{op}-{error}" for op, error, _ in ERRORS])
def test_an_operation_fails_and_was_not_done(
    c: Cluster, place: str, hand: Callable[..., Hand], op: str, error: str, code: str
) -> None:
    """Once, as asked for (a retry succeeds where the client may retry)."""
    one = hand("n1")
    one.do(f'write("{place}/there", "1")')
    c["n1"].fault(op=op, match=place.partition("/home/")[2], errno=error, count=2)
    before = set(os.listdir(server(c, place)))

    assert one.do(code.format(place)) == error

    if op not in ("write", "flush"):  # There it was created before.
        assert set(os.listdir(server(c, place))) == before
    c["n1"].clear_faults()
    if op != "lookup":
        assert one.do(code.format(place)) != error


DONE = [
    ("rename", "ENOENT", 'os.rename("{0}/there", "{0}/new")'),
    ("link", "EEXIST", 'os.link("{0}/there", "{0}/new")'),
    ("mkdir", "EEXIST", 'os.mkdir("{0}/new")'),
    ("create", "EIO", 'os.open("{0}/new", os.O_CREAT | os.O_EXCL | os.O_WRONLY)'),
    ("symlink", "EEXIST", 'os.symlink("there", "{0}/new")'),
]


@pytest.mark.parametrize(("op", "error", "code"), DONE, ids=[op for op, _, _ in DONE])
def test_an_operation_was_done_and_says_that_it_failed(
    c: Cluster, place: str, hand: Callable[..., Hand], op: str, error: str, code: str
) -> None:
    """A lost reply and a repeated request: the listing knows better than the error."""
    one = hand("n1")
    one.do(f'write("{place}/there", "1")')
    c["n1"].fault(op=op, match="new$", errno=error, when="after", count=1)

    assert one.do(code.format(place)) == error

    assert "new" in one.do(f'ls("{place}")')
    assert c["n1"].fs()["handles"] == 0


def test_after_a_lost_reply_a_listing_shows_what_happened(
    c: Cluster, place: str, hand: Callable[..., Hand]
) -> None:
    """The new name was asked for, in vain, before it was given: after a listing it can be used."""
    one = hand("n1")
    one.do(f'write("{place}/old", "1")')
    assert one.do(f'os.path.exists("{place}/new")') is False
    c["n1"].fault(op="rename", errno="EIO", when="after", count=1)
    assert one.do(f'os.rename("{place}/old", "{place}/new")') == "EIO"

    assert one.do(f'ls("{place}")') == ["new"]

    wait_until(lambda: one.do(f'os.rename("{place}/new", "{place}/newer")') is None, 2)


def test_a_listing_misses_and_repeats_names(c: Cluster, place: str, hand: Callable[..., Hand]) -> None:
    """As readdir of a directory that is being changed may do."""
    one = hand("n1")
    one.do(f'[write("{place}/" + name, "") for name in "abc"]')

    c["n1"].fs(rules=[{"miss": "a"}, {"dup": "c"}])

    assert one.do(f'ls("{place}")') == ["b", "c", "c"]


def test_an_operation_can_be_slow(c: Cluster, place: str, hand: Callable[..., Hand]) -> None:
    """It succeeds, later; so does everything with latency."""
    one = hand("n1")
    c["n1"].fault(op="create", match="new$", delay=0.3, count=1)
    assert one.do(f't = time.monotonic(); write("{place}/new", "1"); took = time.monotonic() - t') is None
    assert 0.3 <= one.do("took") < 5

    c["n1"].fs(set={"latency": 0.1})
    assert one.do(f't = time.monotonic(); write("{place}/other", "1"); took = time.monotonic() - t') is None
    assert one.do("took") >= 0.3  # create, write and flush, at the least


def test_a_hang_ends_with_a_kill(c: Cluster, place: str, hand: Callable[..., Hand]) -> None:
    """As on a hard mount: state D, deaf to a SIGTERM that is handled, but SIGKILL works."""
    one = hand("n1")
    one.do("signal.signal(signal.SIGTERM, lambda *_: None)")
    c["n1"].fault(op="create", match="new$", hang=True)
    one.begin(f'write("{place}/new", "1")')
    wait_until(lambda: c["n1"].fs()["hung"] == 1)
    wait_until(lambda: one.state() == "D")

    one.process.terminate()
    assert not one.answers_within(0.2)
    assert one.process.poll() is None
    one.process.kill()

    assert one.process.wait(5) == -signal.SIGKILL


def test_a_hang_in_state_d_ends_with_its_release(c: Cluster, place: str, hand: Callable[..., Hand]) -> None:
    """Not even SIGKILL works before."""
    one = hand("n1")
    c["n1"].fault(op="create", match="new$", hang="D")
    one.begin(f'write("{place}/new", "1")')
    wait_until(lambda: c["n1"].fs()["hung"] == 1)

    one.process.kill()
    with pytest.raises(subprocess.TimeoutExpired):
        one.process.wait(0.3)
    c["n1"].fs(release=True)

    assert one.process.wait(5) == -signal.SIGKILL


def test_a_hang_that_is_released_goes_on(c: Cluster, place: str, hand: Callable[..., Hand]) -> None:
    """Nothing was lost but time."""
    one = hand("n1")
    c["n1"].fault(op="create", match="new$", hang=True, count=1)
    one.begin(f'write("{place}/new", "1")')
    wait_until(lambda: c["n1"].fs()["hung"] == 1)

    c["n1"].clear_faults()

    assert one.answer() is None
    assert read(server(c, f"{place}/new")) == "1"


def test_a_partitioned_node_waits_for_the_server(c: Cluster, place: str, hand: Callable[..., Hand]) -> None:
    """Only that node; what it has cached it still sees; healed, it goes on."""
    one, two = hand("n1"), hand("n2")
    two.do(f'write("{place}/x", "1")')
    time.sleep(2 * TICK_NS / 1e9)  # Where time stamps are coarse, what is younger is not cached.
    assert one.do(f'os.path.exists("{place}/x")') is True
    c["n1"].partition()

    assert one.do(f'os.path.exists("{place}/x")') is True
    one.begin(f'write("{place}/y", "1")')
    assert not one.answers_within(0.2)
    assert two.do(f'ls("{place}")') == ["x"]
    c["n1"].heal()

    assert one.answer() is None
    assert two.do(f'ls("{place}")') == ["x", "y"]


def test_a_process_of_a_partitioned_node_can_be_killed(
    c: Cluster, place: str, hand: Callable[..., Hand]
) -> None:
    """Also one that has files open."""
    one = hand("n1")
    one.do(f'fd = os.open("{place}/x", os.O_CREAT | os.O_RDWR)')
    c["n1"].partition()
    one.begin(f'ls("{place}")')
    wait_until(lambda: c["n1"].fs()["hung"] > 0)

    one.process.kill()

    assert one.process.wait(5) == -signal.SIGKILL


def test_a_partitioned_node_does_not_write_behind(c: Cluster, place: str, hand: Callable[..., Hand]) -> None:
    """What it had not sent stays unsent until it is healed."""
    c["n1"].fs(set={"wdelay": 0.1})
    one = hand("n1")
    one.do(f'fd = os.open("{place}/x", os.O_CREAT | os.O_WRONLY)')
    one.begin('os.write(fd, b"data")')
    c["n1"].partition()
    one.answers_within(0.3)
    held_back = read(server(c, f"{place}/x"))
    c["n1"].heal()

    assert held_back in ("", "data")  # "data" if it was quicker than the partition
    wait_until(lambda: read(server(c, f"{place}/x")) == "data", 5)


def test_a_soft_mount_gives_up(c: Cluster, place: str, hand: Callable[..., Hand]) -> None:
    """After its time, with ETIMEDOUT."""
    one = hand("n1")
    c["n1"].fs(set={"soft": 0.2})
    c["n1"].partition()

    assert one.do(f'ls("{place}")') == "ETIMEDOUT"


def test_rules_can_wait_count_and_choose(c: Cluster, place: str, hand: Callable[..., Hand]) -> None:
    """skip lets the first pass, count ends it, uid picks a user, match sees both names of a rename."""
    one, two = hand("n1"), hand("n1", "bob")
    one.do(f'[write("{place}/" + name, "") for name in "abcd"]')
    c["n1"].fault(op="rename", match="/[abcd] -> .*/x", errno="EIO", skip=1, count=2)
    assert [one.do(f'os.rename("{place}/{n}", "{place}/x{n}")') for n in "abcd"] == [None, "EIO", "EIO", None]
    assert c["n1"].fs()["hits"] == [2]

    c["n1"].fs(rules=[{"op": "opendir", "errno": "EIO", "uid": c.user("bob").uid}])
    assert two.do(f'ls("{place}")') == "EIO"
    assert len(one.do(f'ls("{place}")')) == 4


def test_chance_is_repeatable(make_cluster: MakeCluster) -> None:
    """The same seed hits the same requests."""
    c = make_cluster(nodes=2, users=["ann"], fsopts="noac,seed=7")
    hits = []
    for node in c:
        node.fault(op="opendir", errno="EIO", prob=0.5)
        with node.hand("ann") as one:
            hits.append([one.do('ls("/home/ann")') for _ in range(30)])

    assert hits[0] == hits[1]
    assert 0 < hits[0].count("EIO") < 30


@pytest.mark.parametrize(
    "rule",
    [{"opp": "open"}, {"op": "opne"}, {"op": "release"}, {"errno": "EFOO"}, {"when": "later"}, {"hang": "X"}],
)
def test_a_misspelled_rule_is_refused(c: Cluster, rule: dict[str, str]) -> None:
    """It would make a test that tests nothing pass."""
    with pytest.raises(ValueError, match=r"rule|operations|error|when|hang"):
        c["n1"].fault(**rule)


def test_a_misspelled_mount_option_is_refused() -> None:
    """Before anything is started."""
    with pytest.raises(ValueError, match="no mount option 'acreg'"):
        Cluster(1, fsopts="acreg=1")


def test_requests_can_be_traced(c: Cluster, place: str, hand: Callable[..., Hand]) -> None:
    """What was asked of the server, about what, by whom, with which result."""
    one = hand("n1")
    c["n1"].fs(trace=True)

    one.do(f'os.rename("{place}/a", "{place}/b")')

    below = place.partition("/home/")[2]
    ann = c.user("ann").uid
    assert ["lookup", f"{below}/a", ann, "0"] in c["n1"].fs(get_trace=True)["trace"]
    one.do(f'(write("{place}/a", ""), os.rename("{place}/a", "{place}/b"))')
    assert ["rename", f"{below}/a -> {below}/b", ann, "0"] in c["n1"].fs(get_trace=True)["trace"]


def test_a_crash_ends_even_what_hangs(c: Cluster, place: str, hand: Callable[..., Hand]) -> None:
    """A node with processes in state D can be crashed and stopped."""
    for end in (c["n1"].crash, c["n1"].stop):
        one, two = hand("n1"), hand("n1")
        c["n1"].fault(op=["create", "lookup"], match="new", hang="D")
        one.begin(f'write("{place}/new", "1")')
        two.begin(f'write("{place}/new2", "1")')
        wait_until(lambda: c["n1"].fs()["hung"] >= 1)

        started = time.monotonic()
        end()

        assert time.monotonic() - started < 5
        assert one.process.wait(5) == two.process.wait(5) == -signal.SIGKILL
        c["n1"].start()


def test_a_crash_ends_a_deadlock(c: Cluster, place: str, hand: Callable[..., Hand]) -> None:
    """nfsim waits for the lock of a directory whose holder waits for nfsim: even then it can be crashed."""
    holder, lister, other = hand("n1"), hand("n1"), hand("n2")
    assert lister.do(f'os.path.exists("{place}/x")') is False
    c["n1"].fault(op="create", match="new$", hang="D")
    holder.begin(f'write("{place}/new", "1")')
    wait_until(lambda: c["n1"].fs()["hung"] == 1)
    opened = c["n1"].fs()["counts"].get("opendir", 0)
    other.do(f'write("{place}/x", "1")')
    # Opening the directory shows that it has changed, so names have to be forgotten, which takes its lock.
    lister.begin(f'ls("{place}")')
    wait_until(lambda: c["n1"].fs()["counts"].get("opendir", 0) > opened)

    started = time.monotonic()
    c["n1"].crash()

    assert time.monotonic() - started < 5
    assert holder.process.wait(5) == -signal.SIGKILL


# ---------------------------------------------------------------- nothing is left behind


def test_a_stopped_cluster_leaves_nothing(make_cluster: MakeCluster) -> None:
    """No directory, no cgroup, no process; stopping twice is no harm."""
    c = make_cluster(nodes=2, users=["ann"])
    sleepers = [node.popen(["sleep", "100"], "ann") for node in c]

    c.stop()
    c.stop()

    assert [sleeper.poll() for sleeper in sleepers] == [-signal.SIGKILL] * 2
    assert not os.path.exists(c.directory)
    assert not os.path.exists(c.cgroup)


RUN = """
import json, sys, time
from tests.cluster.box import Cluster

c = Cluster(2, ["ann"]).start()
c["n1"].popen(["sleep", "100"], "ann")
if sys.argv[1] == "frozen":
    c["n1"].freeze()
print(json.dumps([c.directory, c.cgroup]), flush=True)
time.sleep(100)
"""

# Kills the run and, like a good PID 1, buries all that it leaves behind; ends when nothing is left.
KILLER = """
import ctypes, os, subprocess, sys

PR_SET_CHILD_SUBREAPER = 36
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
run = subprocess.Popen([sys.executable, "-c", *sys.argv[1:]], stdout=subprocess.PIPE)
line = run.stdout.readline()
run.kill()
run.wait()
os.write(1, line)
try:
    while os.wait():
        pass
except ChildProcessError:
    pass
"""


@pytest.mark.usefixtures("make_cluster")
@pytest.mark.parametrize("state", ["frozen", "running"])
def test_a_killed_test_run_leaves_nothing(state: str) -> None:
    """Its nodes die with it; directories, cgroups and what was frozen are swept by the next run."""
    argv = [sys.executable, "-c", KILLER, RUN, state]
    with subprocess.Popen(argv, cwd=REPOSITORY, stdout=subprocess.PIPE) as killer:
        assert killer.stdout
        try:
            directory, cgroup = json.loads(killer.stdout.readline())
            if state == "running":
                assert killer.wait(10) == 0
            assert os.path.basename(directory) in scratch.sweep()
            assert killer.wait(10) == 0
        finally:
            killer.kill()

    assert not os.path.exists(directory)
    assert not os.path.exists(cgroup)


def test_a_sweep_spares_the_living(c: Cluster) -> None:
    """Somebody else's run, and this one, go on."""
    assert os.path.basename(c.directory) not in scratch.sweep()
    assert c["n1"].python("print(1)", user="ann") == "1\n"


# ---------------------------------------------------------------- the fixture


def test_where_no_cluster_can_be_tests_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """And say what is missing."""
    monkeypatch.setattr(plugin, "missing", lambda: "/dev/fuse")
    with pytest.raises(pytest.skip.Exception, match="needs /dev/fuse"):
        next(plugin.clusters())


def test_a_failure_shows_the_logs_of_all_daemons(c: Cluster) -> None:
    """The last lines of each user's log of each node."""
    spool = os.path.join(c.home("bob"), ".roundqueue")
    os.mkdir(spool)
    with open(os.path.join(spool, "n2.log"), "w") as f:
        f.write("".join(f"line {i}\n" for i in range(1000)))

    ((title, text),) = plugin.logs_of(c)

    assert title == "log of bob on n2"
    assert text.startswith("line 900\n")
    assert text.endswith("line 999\n")


def test_waiting_in_vain_tells_the_story() -> None:
    """The last answer, and what the caller has to say to it."""
    with pytest.raises(AssertionError, match=r"not true after 0 s, last answer \[\]\nthe story"):
        wait_until(list, 0, on_timeout=lambda: "the story")
