"""Promises about which CPUs and GPUs a job gets: never what is taken, and near each other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundq.words.allocation import (
    Gpu,
    Unit,
    choose_cpus,
    choose_gpus,
    choose_threads,
    cpus_text,
    spare_threads,
)


def machine(packages: int, caches: int, cores: int, threads: int = 1, offered: int = 1) -> list[Unit]:
    """A machine of packages with so many caches each, of so many cores; second threads are numbered last."""
    total = packages * caches * cores
    return [
        Unit(
            tuple(core + total * thread for thread in range(threads)),
            (core // (caches * cores), core // cores),
            offered,
        )
        for core in range(total)
    ]


def groups(units: list[Unit], cpus: tuple[int, ...], level: int) -> set[int]:
    """The groups of one level that these CPUs are in."""
    return {unit.groups[level] for unit in units if set(unit.cpus) & set(cpus)}


def first_fit(units: list[Unit], taken: set[int], count: int) -> tuple[int, ...]:
    """The first free CPUs."""
    return tuple([unit.cpus[0] for unit in units if unit.cpus[0] not in taken][:count])


machines = st.builds(
    machine, st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3)
)


@given(machines, st.data())
def test_what_is_chosen_is_free_is_offered_and_is_as_much_as_asked(
    units: list[Unit], data: st.DataObject
) -> None:
    """Cores from what is offered as cores, threads from the rest; None only if there are not so many."""
    every = [cpu for unit in units for cpu in unit.cpus]
    taken = data.draw(st.sets(st.sampled_from(every)))
    count = data.draw(st.integers(0, len(every) + 1))
    offered = {cpu for unit in units for cpu in unit.cpus[: unit.offered]}

    for choose, of in ((choose_cpus, offered), (choose_threads, set(every) - offered)):
        found = choose(units, frozenset(taken), count)
        free = of - taken
        assert (found is None) == (len(free) < count)
        if found is not None:
            assert len(found) == len(set(found)) == count
            assert set(found) <= free
            assert list(found) == sorted(found)
            assert found == choose(list(units), set(taken), count)


@given(machines, st.data())
def test_jobs_that_come_and_go_never_share_a_cpu(units: list[Unit], data: st.DataObject) -> None:
    """Whatever comes and goes, until the node is full."""
    jobs: list[tuple[int, ...]] = []
    for _ in range(data.draw(st.integers(1, 12))):
        step = data.draw(st.sampled_from(["core", "thread", "end"]))
        if step == "end":
            jobs = jobs[1:]
            continue
        taken = frozenset(cpu for job in jobs for cpu in job)
        count = data.draw(st.integers(1, 6))
        found = (choose_cpus if step == "core" else choose_threads)(units, taken, count)
        if found is not None:
            jobs.append(found)
    every = [cpu for job in jobs for cpu in job]
    assert len(every) == len(set(every))


@given(machines, st.data())
def test_it_is_never_spread_over_more_packages_than_by_first_fit(
    units: list[Unit], data: st.DataObject
) -> None:
    """Nor over more caches, where one package or cache is enough."""
    units = [unit._replace(offered=1) for unit in units]
    taken = data.draw(st.sets(st.sampled_from([unit.cpus[0] for unit in units])))
    free = len(units) - len(taken)
    count = data.draw(st.integers(0, free))

    found = choose_cpus(units, taken, count)

    plain = first_fit(units, taken, count)
    assert found is not None
    assert len(groups(units, found, 0)) <= len(groups(units, plain, 0))
    if len(groups(units, plain, 1)) == 1:
        assert len(groups(units, found, 1)) == 1


@pytest.mark.parametrize(
    ("taken", "count", "chosen"),
    [
        # On an idle machine of two packages with two caches of four cores each.
        (set(), 1, (0,)),
        (set(), 4, (0, 1, 2, 3)),
        (set(), 6, (0, 1, 2, 3, 4, 5)),
        (set(), 16, tuple(range(16))),
        # A small job fills the cache that is used already, and keeps the others whole.
        ({4}, 1, (5,)),
        ({4}, 3, (5, 6, 7)),
        ({4}, 4, (0, 1, 2, 3)),
        # It fills the package that is used already, if the caches are alike.
        ({8, 9, 10, 11}, 4, (12, 13, 14, 15)),
        ({0, 8, 9}, 2, (10, 11)),
        # A wide job takes the package that has room, and not what is free first.
        ({0, 1}, 8, (8, 9, 10, 11, 12, 13, 14, 15)),
        ({0, 1, 2}, 5, (3, 4, 5, 6, 7)),
        # What is left of a package, rather than a part of one that is whole.
        ({0, 1}, 6, (2, 3, 4, 5, 6, 7)),
        # Across packages: the one that has more whole, and one core of the other.
        ({0, 1, 2, 3, 8}, 8, (4, 9, 10, 11, 12, 13, 14, 15)),
        # Of packages that both have room, the one where fewer caches are needed.
        ({0, 1, 4, 5, 12, 13, 14}, 4, (8, 9, 10, 11)),
    ],
)
def test_it_is_near_and_keeps_large_groups_whole(
    taken: set[int], count: int, chosen: tuple[int, ...]
) -> None:
    """By examples."""
    assert choose_cpus(machine(2, 2, 4), taken, count) == chosen


def test_a_core_without_anybody_goes_before_one_whose_thread_is_used() -> None:
    """Who runs on a spare thread is disturbed only when nothing else is free."""
    units = machine(1, 1, 4, threads=2)
    assert choose_cpus(units, {4}, 1) == (1,)
    assert choose_cpus(units, {4}, 4) == (0, 1, 2, 3)


def test_offered_threads_are_cores_one_per_core_first() -> None:
    """With all hardware threads offered a job has cores for itself as long as there are any."""
    units = machine(1, 1, 4, threads=2, offered=2)
    assert choose_cpus(units, set(), 2) == (0, 1)
    assert choose_cpus(units, {0, 1}, 2) == (2, 3)
    assert choose_cpus(units, {0, 1, 2}, 2) == (3, 7)
    assert choose_cpus(units, {0, 1, 2, 3}, 2) == (4, 5)
    assert choose_cpus(units, set(), 8) == tuple(range(8))
    assert spare_threads(units) == 0
    assert choose_threads(units, set(), 1) is None


def test_spare_threads_are_those_that_no_core_is() -> None:
    """Second threads of busy cores."""
    units = machine(1, 2, 2, threads=2)
    assert spare_threads(units) == 4
    assert choose_threads(units, {0, 1, 2, 3}, 2) == (4, 5)
    assert choose_threads(units, {0, 1, 2, 3, 4}, 1) == (5,)
    assert choose_threads(units, {0, 1, 2, 3, 4}, 2) == (6, 7)
    assert choose_threads(units, {0, 1, 2, 3, 4}, 4) is None


def test_without_units_nobody_is_pinned() -> None:
    """A node that offers more cores than it has."""
    assert choose_cpus((), {0}, 3) == ()
    assert choose_threads((), {0}, 3) == ()


# ---------------------------------------------------------------- GPUs


@given(st.lists(st.booleans(), max_size=10), st.data())
def test_a_gpu_is_never_given_twice_nor_with_a_stranger_on_it(busy: list[bool], data: st.DataObject) -> None:
    """Exclusive ids, in order, as many as asked."""
    gpus = [Gpu(str(at), busy=is_busy, groups=(at // 4, at // 2)) for at, is_busy in enumerate(busy)]
    taken = data.draw(st.sets(st.sampled_from([gpu.id for gpu in gpus] or ["none"])))
    count = data.draw(st.integers(0, 11))
    free = [gpu.id for gpu in gpus if not gpu.busy and gpu.id not in taken]

    found = choose_gpus(gpus, taken, count)

    if len(free) < count:
        assert found is None
    else:
        assert found is not None
        assert len(found) == len(set(found)) == count
        assert set(found) <= set(free)
        assert sorted(found, key=int) == list(found)


def test_gpus_of_one_group_go_together() -> None:
    """Two of one NUMA node, and not the last of the one and the first of the other."""
    gpus = [Gpu(str(at), groups=(at // 4,)) for at in range(8)]
    assert choose_gpus(gpus, {"0", "1", "2"}, 2) == ("4", "5")
    assert choose_gpus(gpus, {"0", "1", "2"}, 1) == ("3",)
    assert choose_gpus(gpus, {"0"}, 6) == ("1", "2", "4", "5", "6", "7")


# ---------------------------------------------------------------- text


@pytest.mark.parametrize(
    ("cpus", "text"), [((), ""), ((3,), "3"), ((0, 1, 2, 3, 8), "0-3,8"), ((5, 4, 9, 11, 10), "4-5,9-11")]
)
def test_cpus_are_written_as_taskset_does(cpus: tuple[int, ...], text: str) -> None:
    """Runs of them as ranges."""
    assert cpus_text(cpus) == text
