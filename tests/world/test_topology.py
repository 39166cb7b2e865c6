"""Promises about cores, caches and NUMA nodes: what the system tells of the CPUs that we may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roundq.words.allocation import Unit, choose_cpus, choose_threads
from roundq.world import features, topology
from roundq.world.node import Node

CPUS = "sys/devices/system/cpu"


class Machine:
    """A made-up machine; what is not written is not there."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, text: str) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text + "\n")

    def cpu(self, cpu: int, *, core: str, package: str = "", caches: tuple[str, ...] = ()) -> None:
        """A logical CPU: who shares its core, its package, and each of its caches."""
        self.write(f"{CPUS}/cpu{cpu}/topology/core_cpus_list", core)
        if package:
            self.write(f"{CPUS}/cpu{cpu}/topology/package_cpus_list", package)
        for index, shared in enumerate(caches):
            self.write(f"{CPUS}/cpu{cpu}/cache/index{index}/shared_cpu_list", shared)

    def two_packages(self) -> None:
        """Two packages of two caches of two cores of two threads: 16 CPUs, second threads from 8 on."""
        for cpu in range(16):
            core = cpu % 8
            cache, package = core // 2 * 2, core // 4 * 4
            own = f"{core},{core + 8}"
            self.cpu(
                cpu,
                core=own,
                package=f"{package}-{package + 3},{package + 8}-{package + 11}",
                caches=(own, own, own, f"{cache}-{cache + 1},{cache + 8}-{cache + 9}"),
            )

    def cores(self, *allowed: int) -> tuple[Unit, ...]:
        return topology.cores(set(allowed), str(self.root))

    def node(self, *allowed: int) -> Node:
        return Node({}, str(self.root), lambda: set(allowed))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


# ---------------------------------------------------------------- cores and groups


def test_a_core_has_its_threads_its_package_and_its_cache(machine: Machine) -> None:
    """What one core has for itself is no group."""
    machine.two_packages()

    assert machine.cores(*range(16)) == tuple(
        Unit((core, core + 8), (core // 4 * 4, core // 2 * 2)) for core in range(8)
    )


def test_only_cpus_that_we_may_use_are_ours(machine: Machine) -> None:
    """A core counts with those of its threads that the affinity allows; groups stay what they are."""
    machine.two_packages()

    assert machine.cores(1, 2, 10, 12) == (
        Unit((1,), (0, 0)),
        Unit((2, 10), (0, 2)),
        Unit((12,), (4, 4)),
    )


def test_numa_nodes_are_groups(machine: Machine) -> None:
    """Two in one package, as some processors are set up."""
    for cpu in range(8):
        machine.cpu(cpu, core=str(cpu), package="0-7", caches=(str(cpu), "0-7"))
    machine.write("sys/devices/system/node/online", "0-1")
    machine.write("sys/devices/system/node/node0/cpulist", "0-3")
    machine.write("sys/devices/system/node/node1/cpulist", "4-7")

    assert machine.cores(*range(8)) == tuple(Unit((cpu,), (0, cpu // 4 * 4)) for cpu in range(8))


def test_cores_of_two_kinds_have_groups_of_one_depth(machine: Machine) -> None:
    """Performance cores with two threads each, and a cluster of four small ones that share a cache."""
    for cpu in range(4):
        own = "0-1" if cpu < 2 else "2-3"
        machine.cpu(cpu, core=own, package="0-7", caches=(own, own, own, "0-7"))
    for cpu in range(4, 8):
        machine.cpu(cpu, core=str(cpu), package="0-7", caches=(str(cpu), str(cpu), "4-7", "0-7"))

    assert machine.cores(*range(8)) == (
        Unit((0, 1), (0, 0)),
        Unit((2, 3), (0, 2)),
        *(Unit((cpu,), (0, 4)) for cpu in range(4, 8)),
    )


def test_the_older_names_are_understood(machine: Machine) -> None:
    """Linux before 5.3 has thread_siblings_list and core_siblings_list."""
    for cpu in range(4):
        machine.write(f"{CPUS}/cpu{cpu}/topology/thread_siblings_list", f"{cpu % 2},{cpu % 2 + 2}")
        machine.write(f"{CPUS}/cpu{cpu}/topology/core_siblings_list", "0-3")

    assert machine.cores(0, 1, 2, 3) == (Unit((0, 2), (0,)), Unit((1, 3), (0,)))


def test_where_the_system_does_not_tell_each_cpu_is_a_core(machine: Machine) -> None:
    """Some virtual machines and containers have no such files."""
    assert machine.cores(0, 2, 3) == (Unit((0,)), Unit((2,)), Unit((3,)))
    assert choose_cpus(machine.cores(0, 2, 3), {0}, 2) == (2, 3)


NONSENSE = st.sampled_from(["", "x", "0-", "-3", "3-1", "0-99999999", "0,,1", "0-3", "1,5", "\0", "7" * 5000])


@settings(max_examples=60, deadline=None)
@given(st.lists(NONSENSE, min_size=12, max_size=12))
def test_nonsense_in_sys_never_gives_a_cpu_twice(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    """Whatever it says, each CPU that we may use is in one core, and no other."""
    machine = Machine(tmp_path_factory.mktemp("nonsense"))
    for cpu in range(4):
        machine.cpu(cpu, core=texts[cpu], package=texts[cpu + 4], caches=(texts[cpu + 8],))
    machine.write("sys/devices/system/node/online", texts[3])
    machine.write("sys/devices/system/node/node0/cpulist", texts[7])

    units = machine.cores(0, 1, 2, 3)

    assert sorted(cpu for unit in units for cpu in unit.cpus) == [0, 1, 2, 3]
    assert choose_cpus(topology.offering(units, "logical"), (), 4) == (0, 1, 2, 3)


@pytest.mark.parametrize(
    ("text", "cpus"),
    [("0-3,8\n", {0, 1, 2, 3, 8}), ("5", {5}), ("", set()), ("0-3,x", set()), ("0-70000", set())],
)
def test_lists_of_cpus_are_read_as_the_kernel_writes_them(text: str, cpus: set[int]) -> None:
    """All of it, or nothing."""
    assert topology.cpu_set(text) == cpus


# ---------------------------------------------------------------- what is offered


def test_physical_offers_one_thread_of_each_core_and_the_others_are_spare(machine: Machine) -> None:
    """As the count of cores and threads is."""
    machine.two_packages()
    node = machine.node(*range(16))

    assert choose_cpus(node.units("physical"), (), 8) == tuple(range(8))
    assert choose_cpus(node.units("physical"), (), 9) is None
    assert choose_threads(node.units("physical"), range(8), 8) == tuple(range(8, 16))
    assert (node.physical_cores(), node.logical_cpus(), node.spare_threads()) == (8, 16, 8)


def test_logical_offers_all_threads_and_none_is_spare(machine: Machine) -> None:
    """Each thread is a core then."""
    machine.two_packages()
    node = machine.node(*range(16))

    assert choose_cpus(node.units("logical"), (), 16) == tuple(range(16))
    assert node.spare_threads("logical") == 0


def test_a_smaller_number_leaves_whole_cores_to_others(machine: Machine) -> None:
    """With their threads; the same ones for every user, near each other."""
    machine.two_packages()
    node = machine.node(*range(16))

    assert choose_cpus(node.units(3), (), 3) == (0, 1, 2)
    assert choose_cpus(node.units(3), (), 4) is None
    assert choose_threads(node.units(3), (), 3) == (8, 9, 10)
    assert node.spare_threads(3) == 3


def test_a_number_between_cores_and_threads_offers_some_second_threads(machine: Machine) -> None:
    """One thread of each core first."""
    machine.two_packages()
    node = machine.node(*range(16))

    assert choose_cpus(node.units(10), (), 10) == tuple(range(10))
    assert node.spare_threads(10) == 6


def test_more_than_there_are_pins_nobody(machine: Machine) -> None:
    """Not everybody could have a CPU of his own."""
    machine.two_packages()
    node = machine.node(*range(16))

    assert node.units(17) == ()
    assert choose_cpus(node.units(17), (), 17) == ()
    assert node.spare_threads(17) == 0


@pytest.mark.parametrize(("quota", "spare"), [("1000000", 2), ("800000", 0), ("250000", 0), ("9900000", 8)])
def test_threads_beyond_a_quota_are_not_spare(machine: Machine, quota: str, spare: int) -> None:
    """A quota of ten CPUs on eight cores leaves two; what is offered is free to choose from all cores."""
    machine.two_packages()
    machine.write("proc/self/cgroup", "0::/ann")
    machine.write("proc/self/mountinfo", "30 22 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw")
    machine.write("sys/fs/cgroup/ann/cpu.max", f"{quota} 100000")
    node = machine.node(*range(16))

    assert node.spare_threads() == spare
    assert node.physical_cores() == min(8, int(quota) // 100000)
    assert len(node.units()) == 8


def test_a_cpuset_is_followed_when_it_changes(machine: Machine) -> None:
    """The scheduler's mask tells of cpusets and of taskset(1) alike."""
    machine.two_packages()
    allowed = {0, 8, 5}
    node = Node({}, str(machine.root), lambda: allowed)

    assert [unit.cpus for unit in node.units()] == [(0, 8), (5,)]
    assert node.spare_threads() == 1
    allowed = {5, 6}
    assert [unit.cpus for unit in node.units()] == [(5,), (6,)]
    assert node.spare_threads() == 0


def test_this_very_machine_has_the_cpus_that_we_may_use() -> None:
    """Each once."""
    units = Node({}).units("logical")

    assert sorted(cpu for unit in units for cpu in unit.cpus) == sorted(os.sched_getaffinity(0))
    assert len({len(unit.groups) for unit in units}) == 1


# ---------------------------------------------------------------- features


def test_features_are_what_people_call_them(machine: Machine) -> None:
    """The kernel's names where these are used, and words for what they mean together."""
    flags = (
        "fpu cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3 abm avx avx2 bmi1 bmi2 f16c fma movbe xsave avx512f"
    )
    machine.write("proc/cpuinfo", f"processor\t: 0\nflags\t\t: {flags}\n\nprocessor\t: 1\nflags\t: amx_tile")

    found = features.of_processors(str(machine.root), "x86_64")

    assert {"x86_64", "avx", "avx2", "avx512", "avx512f", "fma", "sse4", "x86-64-v3"} <= set(found)
    assert not {"fpu", "xsave", "x86-64-v4", "amx", "amx_tile"} & set(found)
    assert list(found) == sorted(found)


def test_features_of_an_arm_processor(machine: Machine) -> None:
    """Its line has another name, and SIMD one that nobody uses."""
    machine.write("proc/cpuinfo", "processor\t: 0\nFeatures\t: fp asimd sve crc32")

    assert features.of_processors(str(machine.root), "aarch64") == (
        "aarch64",
        "asimd",
        "crc32",
        "neon",
        "sve",
    )


def test_without_cpuinfo_the_architecture_is_left(machine: Machine) -> None:
    """It is known from uname(2)."""
    assert machine.node(0).features() == (os.uname().machine,)
