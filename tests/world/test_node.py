"""Promises about a node: its name, and that capacity is what we may use."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from roundq.words.errors import RoundqError
from roundq.world.node import Node

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
#: No CPU quota and no memory limit, as each version of control groups writes it.
V1_NONE = "9223372036854771712"


class Machine:
    """A made-up machine: four cores of two threads each, 1000 MiB, of which 600 are available."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.allowed = set(range(8))
        sizes = {"MemTotal": 1000 * 1024, "MemFree": 5, "MemAvailable": 600 * 1024}
        others = "Buffers Cached SReclaimable Shmem Active Inactive Slab".split()
        sizes |= dict.fromkeys(others, 1)
        self.write("proc/meminfo", "".join(f"{name}: {kib} kB\n" for name, kib in sizes.items()))
        self.write("proc/loadavg", "1.25 0.5 0.1 2/345 678\n")
        for cpu in range(8):
            siblings = f"{cpu % 4},{cpu % 4 + 4}"
            self.write(f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", siblings + "\n")

    def write(self, path: str, text: str) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def groups(self, memberships: str, mounts: str) -> None:
        """What /proc/self/cgroup and /proc/self/mountinfo say."""
        self.write("proc/self/cgroup", memberships)
        root_mount = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        self.write("proc/self/mountinfo", root_mount + mounts)

    def v2(self, group: str, *, shown: str = "/", point: str = "/sys/fs/cgroup") -> None:
        """This process is in `group` of version 2; the group `shown` is mounted at `point`."""
        mount = f"30 22 0:26 {shown} {point} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
        self.groups(f"0::{group}\n", mount)

    def v1(self, group: str, *, shown: str = "/") -> None:
        """This process is in `group` of version 1, in one hierarchy for CPUs and one for memory."""
        self.groups(
            f"5:memory:{group}\n3:cpu,cpuacct:{group}\n1:name=systemd:{group}\n",
            f"31 22 0:27 {shown} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
            f"32 22 0:28 {shown} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
            "33 22 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n",
        )

    def node(self) -> Node:
        return Node({}, str(self.root), lambda: self.allowed)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


# ---------------------------------------------------------------- name


def test_a_node_is_called_what_the_system_calls_it() -> None:
    """The full host name, dots included."""
    assert Node({}).name() == os.uname().nodename


def test_a_test_may_call_it_otherwise_but_a_job_may_not() -> None:
    """RQ_NODE is set inside jobs too, and an environment may travel to another node."""
    assert Node({"RQ_NODE": "node3.example.org"}).name() == "node3.example.org"
    assert Node({"RQ_NODE": "node3", "RQ_JOB_ID": "17"}).name() == os.uname().nodename


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "a/b", "a@b", "a b", "a\n", "-a", "n\u00f6de", "x" * 200]
)
def test_a_name_that_no_file_can_have_is_refused(name: str) -> None:
    """It is part of ID@NODE.job; the refusal says which name, and what to do."""
    with pytest.raises(RoundqError) as caught:
        Node({"RQ_NODE": name}).name()

    assert repr(name) in str(caught.value)
    assert "RQ_NODE" in (caught.value.hint or "")


# ---------------------------------------------------------------- processors


def test_cores_and_threads_of_a_whole_machine(machine: Machine) -> None:
    """Two threads of one core are one core."""
    assert machine.node().physical_cores() == 4
    assert machine.node().logical_cpus() == 8


def test_only_what_the_affinity_allows_is_ours(machine: Machine) -> None:
    """A core counts if we may use one of its threads; the answer follows when the affinity changes."""
    node = machine.node()

    machine.allowed = {0, 1, 4}
    assert (node.physical_cores(), node.logical_cpus()) == (2, 3)
    machine.allowed = {0, 4}
    assert (node.physical_cores(), node.logical_cpus()) == (1, 2)


def test_without_topology_a_thread_counts_as_a_core(tmp_path: Path) -> None:
    """Some virtual machines and containers do not tell."""
    node = Node({}, str(tmp_path), lambda: {0, 2, 3})

    assert node.physical_cores() == 3


@pytest.mark.parametrize(
    ("quota", "cores", "threads"),
    [
        ("max 100000", 4, 8),
        ("250000 100000", 2, 2),
        ("50000 100000", 1, 1),
        ("600000 100000", 4, 6),
        ("9900000 100000", 4, 8),
        ("100000 0", 4, 8),
        ("", 4, 8),
        ("nonsense", 4, 8),
    ],
)
def test_a_quota_of_version_2_is_a_limit(machine: Machine, quota: str, cores: int, threads: int) -> None:
    """Whole CPUs of it count, but at least one; what cannot be understood is no limit."""
    machine.v2("/user.slice/user-7.slice")
    machine.write("sys/fs/cgroup/user.slice/user-7.slice/cpu.max", quota + "\n")

    assert (machine.node().physical_cores(), machine.node().logical_cpus()) == (cores, threads)


def test_a_quota_of_version_1_is_a_limit(machine: Machine) -> None:
    """Also of a group far above; -1 is none."""
    machine.v1("/users/ann/jobs")
    for group, quota in (("users/ann/jobs", -1), ("users/ann", 350000), ("users", -1)):
        directory = f"sys/fs/cgroup/cpu,cpuacct/{group}"
        machine.write(f"{directory}/cpu.cfs_quota_us", f"{quota}\n")
        machine.write(f"{directory}/cpu.cfs_period_us", "100000\n")

    assert (machine.node().physical_cores(), machine.node().logical_cpus()) == (3, 3)


# ---------------------------------------------------------------- memory


def test_memory_of_a_machine_without_limits(machine: Machine) -> None:
    """As /proc/meminfo has it, in bytes."""
    machine.v2("/")

    assert machine.node().memory_total() == 1000 * MIB
    assert machine.node().memory_available() == 600 * MIB


def test_the_least_limit_above_us_is_our_memory(machine: Machine) -> None:
    """At every level of version 2; file cache that can be dropped is available."""
    machine.v2("/user.slice/jobs")
    top, inner = "sys/fs/cgroup/user.slice", "sys/fs/cgroup/user.slice/jobs"
    machine.write(f"{top}/memory.max", f"{500 * MIB}\n")
    machine.write(f"{top}/memory.high", "max\n")
    machine.write(f"{top}/memory.current", f"{400 * MIB}\n")
    machine.write(f"{top}/memory.stat", f"anon 7\ninactive_file {150 * MIB}\nactive_file 3\n")
    machine.write(f"{inner}/memory.max", "max\n")
    machine.write(f"{inner}/memory.current", f"{300 * MIB}\n")

    assert machine.node().memory_total() == 500 * MIB
    assert machine.node().memory_available() == 250 * MIB


def test_where_processes_are_throttled_is_a_limit(machine: Machine) -> None:
    """Above memory.high they crawl: as much memory as that is never offered."""
    machine.v2("/ann")
    machine.write("sys/fs/cgroup/ann/memory.max", "max\n")
    machine.write("sys/fs/cgroup/ann/memory.high", f"{200 * MIB}\n")
    machine.write("sys/fs/cgroup/ann/memory.current", f"{250 * MIB}\n")

    assert machine.node().memory_total() == 200 * MIB
    assert machine.node().memory_available() == 0


def test_limits_of_version_1(machine: Machine) -> None:
    """The largest number of pages is how it says that there is none."""
    machine.v1("/ann/jobs")
    machine.write("sys/fs/cgroup/memory/ann/jobs/memory.limit_in_bytes", V1_NONE + "\n")
    machine.write("sys/fs/cgroup/memory/ann/memory.limit_in_bytes", f"{300 * MIB}\n")
    machine.write("sys/fs/cgroup/memory/ann/memory.usage_in_bytes", f"{100 * MIB}\n")
    machine.write("sys/fs/cgroup/memory/ann/memory.stat", f"total_inactive_file {40 * MIB}\n")

    assert machine.node().memory_total() == 300 * MIB
    assert machine.node().memory_available() == 240 * MIB


def test_in_a_container_the_mount_point_is_our_group(machine: Machine) -> None:
    """The path of our group may begin above of what is mounted, or lie outside of it."""
    for group, shown in (("/docker/1f", "/docker/1f"), ("/../other", "/"), ("/docker/1f", "/")):
        machine.v2(group, shown=shown, point="/sys/fs/a\\040group")
        machine.write("sys/fs/a group/memory.max", f"{64 * MIB}\n")

        assert machine.node().memory_total() == 64 * MIB


def test_in_a_container_groups_below_the_mounted_one_count(machine: Machine) -> None:
    """What is mounted is cut off from the path of our group."""
    machine.v2("/docker/1f/jobs", shown="/docker/1f")
    machine.write("sys/fs/cgroup/jobs/memory.max", f"{32 * MIB}\n")

    assert machine.node().memory_total() == 32 * MIB


def test_a_machine_without_control_groups_has_no_such_limits(machine: Machine) -> None:
    """Neither file of /proc need be there."""
    assert machine.node().memory_total() == 1000 * MIB
    assert machine.node().logical_cpus() == 8


garbage = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)


@settings(max_examples=100, deadline=None)
@example([], [], "\u00b26 7", "\u00b26")
@example([], [], "9" * 5000, "inactive_file")
@example([], [], "1 100000", "5 inactive_file x")
@given(st.lists(garbage, max_size=3), st.lists(garbage, max_size=3), garbage, garbage)
def test_garbage_in_proc_limits_nothing_and_raises_nothing(
    tmp_path_factory: pytest.TempPathFactory, groups: list[str], mounts: list[str], quota: str, limit: str
) -> None:
    """Kernels to come will write lines that we do not know."""
    machine = Machine(tmp_path_factory.mktemp("garbage"))
    machine.v2("/ann")
    for path, lines in (("proc/self/cgroup", groups), ("proc/self/mountinfo", mounts)):
        with open(machine.root / path, "a", encoding="utf-8") as file:
            file.write("\n".join(lines))
    machine.write("sys/fs/cgroup/ann/cpu.max", quota)
    machine.write("sys/fs/cgroup/ann/memory.max", limit)
    machine.write("sys/fs/cgroup/ann/memory.stat", limit)

    assert 1 <= machine.node().physical_cores() <= 4
    assert 0 <= machine.node().memory_available() <= 600 * MIB


# ---------------------------------------------------------------- this very machine


def test_the_load_is_that_of_the_last_minute(machine: Machine) -> None:
    """The first number of /proc/loadavg."""
    assert machine.node().load() == 1.25


def test_psutil_sees_the_same_machine() -> None:
    """Never more than it; equal where nothing limits us, which no test can know."""
    node = Node({})

    assert 1 <= node.physical_cores() <= node.logical_cpus() <= len(psutil.Process().cpu_affinity())
    assert 0 < node.memory_total() <= psutil.virtual_memory().total
    available = psutil.virtual_memory().available
    assert node.memory_available() < available + 512 * MIB
    assert abs(node.load() - psutil.getloadavg()[0]) < 10


def test_its_name_needs_no_psutil() -> None:
    """A command that submits pays neither for that nor for anything else that is large."""
    code = (
        "import sys; from roundq.world.node import Node; n = Node();"
        "n.name(), n.physical_cores(); print(*sys.modules)"
    )

    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()

    assert not {"psutil", "subprocess", "ctypes", "pydantic_core"} & set(loaded)
