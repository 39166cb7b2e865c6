"""Promises about what jobs use of the memory that they were promised: nothing of the rest is given away."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundq.actors import occupancy
from roundq.actors.memoryuse import EXACT_AGAIN_S, EXACT_PART, EXACT_S, LOOK_S, MemoryUse, told
from roundq.actors.tenants import Tenant
from roundq.records.cards import Occupant
from roundq.records.spool import Entry
from roundq.words.job import Identity, Job, Record
from roundq.words.states import RUNNING
from roundq.world import memory, procs
from roundq.world.offspring import Offspring
from roundq.world.procs import Process

MIB = 1 << 20
GIB = 1 << 30
#: A supervisor, whose command loads something and forks workers, which share that with it.
FORKS = """
import os, sys
if os.fork():
    os.wait()
    sys.exit()
held = b"x" * (48 << 20)
for _ in range(3):
    if not os.fork():
        sys.stdin.read()
        os._exit(0)
print("up", flush=True)
for _ in range(3):
    os.wait()
"""


def tenant(process: Identity, promised: int) -> Tenant:
    record = Record(Job(("true",), memory_required=promised), process=process)
    return Tenant(Entry("1", RUNNING, "n1", "1@n1.job", 1), record)


def test_what_forked_workers_share_is_used_once() -> None:
    """The sum over the processes is more than was promised, and much of that is not used yet."""
    with subprocess.Popen(
        [sys.executable, "-c", FORKS], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        supervisor = procs.identity(child.pid)
        assert supervisor is not None
        one = tenant(supervisor, 128 * MIB)
        MemoryUse().look([one], 100.0)
        table = Offspring(procs.table())
        child.communicate()

    assert table.rss(supervisor) > 128 * MIB
    assert 48 * MIB <= 128 * MIB - occupancy.memory_unused(one.occupant(), table) < 96 * MIB
    # Of a stranger whose card tells nothing the largest process counts.
    unknown = replace(one.occupant(), used=None)
    assert 48 * MIB <= 128 * MIB - occupancy.memory_unused(unknown, table) < 96 * MIB


def test_nobody_is_believed_to_use_more_than_his_processes_have() -> None:
    """Who tells more than that would have others take what he was promised."""
    table = {pid: Process(pid, pid - 1, 1, 5, GIB, False) for pid in (1, 2, 3)}
    root = table[1].identity
    job = Occupant("1", RUNNING, 1, 8 * GIB, False, 0, True, process=root)

    def unused(used: int | None) -> int:
        return occupancy.memory_unused(replace(job, used=used), Offspring(table)) // GIB

    assert [unused(used) for used in (None, 0, GIB, 2 * GIB, 8 * GIB)] == [7, 8, 7, 6, 6]


@given(st.integers(0, 1 << 40), st.none() | st.integers(0, 1 << 40), st.integers(1, 1 << 40))
def test_a_card_tells_it_in_steps(used: int, before: int | None, promised: int) -> None:
    """Of a sixteenth; it is told anew only when it has changed by about that, and never much too high."""
    step = max(1, promised // 16)
    says = told(used, before, promised)

    assert says - step // 2 <= used < says + step
    assert told(used, says, promised) == says
    assert told(max(0, says - step // 2), says, promised) == says


def test_measuring_takes_little_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """To walk through the memory of large jobs holds them up, and the daemon."""
    sizes = {11: 8 * GIB, 12: 8 * GIB, 21: 8 * GIB, 31: GIB, 32: GIB}
    clock_s = [0.0]
    asked: list[list[int]] = []

    def exactly(pids: Iterable[int]) -> int:
        asked.append(list(pids))
        clock_s[0] += 1.0
        return 4 * GIB

    monkeypatch.setattr(time, "monotonic", lambda: clock_s[0])
    monkeypatch.setattr(memory, "can_list_children", lambda: True)
    monkeypatch.setattr(memory, "descendants", lambda pid: [one for one in sizes if one // 10 == pid])
    monkeypatch.setattr(memory, "most", lambda pids: sum(sizes[pid] for pid in pids))
    monkeypatch.setattr(memory, "exactly", exactly)
    forks, alone, small = (tenant(Identity("boot", pid, 1), 16 * GIB) for pid in (1, 2, 3))
    use = MemoryUse()

    def look(now_s: float) -> list[int | None]:
        use.look([forks, alone, small], now_s)
        return [None if one.memory_used is None else one.memory_used // GIB for one in (forks, alone, small)]

    assert look(100.0) == [4, 8, 1]
    assert asked == [[11, 12]], "what one process has needs no measuring, and for one more there is no time"
    sizes[31] = 2 * GIB
    assert look(100.0 + LOOK_S / 2) == [4, 8, 1]
    assert look(100.0 + LOOK_S) == [4, 8, 2]
    assert len(asked) == 1
    assert look(100.0 + 1.0 / EXACT_PART) == [4, 8, 3], "the next one has its turn"
    assert asked[1:] == [[31, 32]]
    sizes[11] = sizes[12] = GIB
    assert look(100.0 + 2.0 / EXACT_PART) == [2, 8, 3], "what is no more is not used"
    sizes[11] = sizes[12] = 2 * GIB
    assert EXACT_S < 3.0 / EXACT_PART < EXACT_AGAIN_S
    assert look(100.0 + 3.0 / EXACT_PART) == [4, 8, 3]
    assert len(asked) == 2, "more than that it cannot use"
    look(100.0 + EXACT_AGAIN_S)
    assert asked[2:] == [[11, 12]]
