"""Promises about what descendants use together: as `procs` counts it, but one table is gone through once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hypothesis import given
from hypothesis import strategies as st

from roundq.actors import occupancy
from roundq.records.cards import Occupant
from roundq.words.job import Identity
from roundq.words.states import RUNNING
from roundq.world import procs
from roundq.world.offspring import Offspring
from roundq.world.procs import Process

BOOT = procs.boot_id()
#: Of each process who of those before it is its parent, whether it is dead, and its memory.
forests = st.lists(st.tuples(st.integers(0, 30), st.booleans(), st.integers(0, 1 << 40)), max_size=30)


def table_of(told: list[tuple[int, bool, int]]) -> procs.Table:
    """A table in which nobody is older than his parent."""
    return {
        pid: Process(pid, parent % pid, 1, 5, size, is_dead)
        for pid, (parent, is_dead, size) in enumerate(told, 1)
    }


class Counted(Mapping[int, Process]):
    """A table that counts how often it is gone through, or copied."""

    def __init__(self, table: procs.Table) -> None:
        self._table, self.passes = table, 0

    def __getitem__(self, pid: int) -> Process:
        return self._table[pid]

    def __len__(self) -> int:
        return len(self._table)

    def __iter__(self) -> Iterator[int]:
        self.passes += 1
        return iter(self._table)


@given(forests)
def test_it_is_what_the_descendants_of_each_have(told: list[tuple[int, bool, int]]) -> None:
    """The living ones, also below one that waits to be reaped; not the process itself."""
    table = table_of(told)
    offspring = Offspring(table)

    for process in table.values():
        living = procs.descendants(process.identity, table)
        assert offspring.rss(process.identity) == procs.rss(living, table)
        assert offspring.largest(process.identity) == max(
            (table[one.pid].rss_bytes for one in living), default=0
        )


def test_whoever_has_gone_has_none() -> None:
    """Nor does another process of that number."""
    offspring = Offspring(table_of([(0, False, 1), (1, False, 10)]))

    assert offspring.rss(Identity(BOOT, 1, 5)) == 10
    assert offspring.rss(Identity(BOOT, 1, 6)) == 0
    assert offspring.rss(Identity("another boot", 1, 5)) == 0
    assert offspring.rss(Identity(BOOT, 9, 5)) == 0


def test_a_circle_in_the_table_ends() -> None:
    """A pass over /proc is no snapshot; what is below the circle counts."""
    parents = {1: 3, 2: 1, 3: 2, 4: 2, 5: 5}
    table = {pid: Process(pid, parent, 1, 5, 1, False) for pid, parent in parents.items()}

    assert Offspring(table).rss(Identity(BOOT, 2, 5)) == 1
    assert Offspring(table).rss(Identity(BOOT, 5, 5)) == 0


def test_many_jobs_go_through_the_table_once() -> None:
    """A stranger may run a thousand, one below the other, each with a title that promises memory."""
    table = Counted(table_of([(pid - 1, False, 100) for pid in range(1, 1001)]))
    offspring = Offspring(table)
    jobs = [
        Occupant("1", RUNNING, 1, 1 << 30, False, 0, True, process=process.identity, used=1 << 30)
        for process in table.values()
    ]

    table.passes = 0
    unused = [occupancy.memory_unused(job, offspring) for job in jobs]

    assert unused == [(1 << 30) - 100 * (1000 - number) for number in range(1, 1001)]
    assert table.passes == 1
