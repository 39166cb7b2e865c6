"""Memory of processes, measured: what is shared counts once, and file cache not at all."""

from __future__ import annotations

import mmap
import os
import time
from pathlib import Path

from pydantic_core import _pydantic_core

from roundq.world import memory, procs
from tests.cluster.wait import wait_until
from tests.world.processes import forked, on_stage

MIB = 1 << 20


def holding(size: int) -> mmap.mmap:
    """So many bytes of memory of this process, all of them touched."""
    held = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for place in range(0, size, mmap.PAGESIZE):
        held[place] = 1
    return held


def test_what_a_process_holds_is_measured() -> None:
    """By both ways, to a few MiB; what it gives back is not."""

    def act() -> list[int]:
        me = [os.getpid()]
        before = memory.most(me), memory.exactly(me)
        held = holding(64 * MIB)
        after = memory.most(me), memory.exactly(me)
        held.close()
        return [(b - a) // MIB for a, b in zip(before, after, strict=True)] + [
            (memory.most(me) - before[0]) // MIB
        ]

    rough, exact, afterwards = on_stage(act)
    assert 63 <= rough <= 66
    assert 63 <= exact <= 66
    assert afterwards <= 2


def test_what_is_shared_counts_once_if_it_is_measured_exactly() -> None:
    """A process that holds much and forks has children who hold the same."""

    def act() -> tuple[int, int, int]:
        # What it shares with the tests, which may be much.
        before = memory.exactly([os.getpid()]) // MIB
        holding_it = holding(64 * MIB)
        for _ in range(3):
            forked(lambda: time.sleep(30))
        pids = [os.getpid(), *memory.descendants(os.getpid())]
        assert len(pids) == 4
        found = before, memory.most(pids) // MIB, memory.exactly(pids) // MIB
        holding_it.close()
        return found

    before, rough, exact = on_stage(act)
    assert rough >= 4 * 63
    assert 63 <= exact <= 63 + 2 * before + 4 * 15
    assert exact < rough


def test_file_cache_is_nobodys_memory() -> None:
    """The kernel takes it back when it needs the room; a control group ends no job for it either."""
    # Several MiB, and not in a file system that is memory, as a directory for tests may be.
    path = Path(str(_pydantic_core.__file__))
    size = path.stat().st_size

    def act() -> int:
        me = [os.getpid()]
        before = memory.most(me), memory.exactly(me)
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            assert sum(mapped[place] for place in range(0, len(mapped), mmap.PAGESIZE)) > 0
            after = memory.most(me), memory.exactly(me)
        return max(b - a for a, b in zip(before, after, strict=True))

    assert size > 2 * MIB
    assert on_stage(act) < size / 2


def test_who_has_gone_uses_nothing() -> None:
    """So does a zombie; neither stops the measuring."""

    def act() -> tuple[int, int]:
        zombie = forked(lambda: None)
        os.waitid(os.P_PID, zombie, os.WEXITED | os.WNOWAIT)
        return memory.most([zombie, (1 << 30) - 1]), memory.exactly([zombie, (1 << 30) - 1])

    assert on_stage(act) == (0, 0)


def test_descendants_are_those_of_the_process_table() -> None:
    """Children of children, and orphans that fell to this process; and nobody else."""

    def act() -> bool:
        def parent() -> None:
            for _ in range(2):
                forked(lambda: time.sleep(30))
            time.sleep(30)

        forked(parent)
        os.waitpid(forked(lambda: forked(lambda: time.sleep(30))), 0)
        me = procs.own_identity()
        wait_until(lambda: len(procs.descendants(me)) == 4)
        return set(memory.descendants(me.pid)) == {one.pid for one in procs.descendants(me)}

    assert memory.can_list_children()
    assert on_stage(act)
