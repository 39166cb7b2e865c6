"""A job's memory: looked at often enough, exactly only if need be, and nobody is blamed without proof."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from roundq.actors.memorywatch import KILLS_KEEP_S, KILLS_LOOK_S, MemoryWatch
from roundq.world import cgroup, memory
from roundq.world.cgroup import Group


class Measured:
    """What the job uses, as it is told; and how often it was looked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rough = self.exact = 0
        self.rough_looks = self.exact_looks = 0
        self.cost_s = 0.0
        self.now_s = 0.0
        monkeypatch.setattr(memory, "descendants", lambda _: [1])
        monkeypatch.setattr(memory, "most", self._most)
        monkeypatch.setattr(memory, "exactly", self._exactly)
        monkeypatch.setattr(time, "monotonic", lambda: self.now_s)
        monkeypatch.setattr(cgroup, "oom_counter", lambda _: None)

    def _most(self, _: list[int]) -> int:
        self.rough_looks += 1
        return self.rough

    def _exactly(self, _: list[int]) -> int:
        self.exact_looks += 1
        self.now_s += self.cost_s
        return self.exact


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> Measured:
    """A job without a control group, whose memory the test says."""
    return Measured(monkeypatch)


def run(watch: MemoryWatch, job: Measured, until_s: float) -> bool:
    """Asks as a supervisor does, until this time; whether the job is beyond its limit."""
    while job.now_s < until_s:
        if watch.is_beyond(job.now_s):
            return True
        again_s = watch.again_s(job.now_s)
        assert again_s > 0
        job.now_s += again_s
    return False


def test_it_is_looked_at_every_second(job: Measured) -> None:
    """And exactly only when the sum is beyond, which counts what is shared more than once."""
    watch = MemoryWatch(1000, None, 0.0)
    job.rough = 900

    assert not run(watch, job, 60)
    assert 60 <= job.rough_looks <= 62
    assert job.exact_looks == 0

    job.rough, job.exact = 3000, 999
    assert not run(watch, job, 120)
    job.exact = 1001
    assert run(watch, job, 122)


def test_what_is_costly_to_measure_is_measured_seldom(job: Measured) -> None:
    """A large job whose memory is shared is not held up for more than a twentieth of the time."""
    watch = MemoryWatch(1000, None, 0.0)
    job.rough, job.exact, job.cost_s = 3000, 999, 0.5

    assert not run(watch, job, 100)

    assert 5 <= job.exact_looks <= 11


def test_without_a_limit_nothing_is_measured(job: Measured) -> None:
    """And nobody is woken for it."""
    watch = MemoryWatch(None, None, 0.0)
    job.rough = 1 << 60

    assert not watch.is_beyond(0.0)
    assert watch.again_s(0.0) >= 3600
    assert job.rough_looks == 0


# ---------------------------------------------------------------- the kernel


class Counted:
    """A control group with memory.events, and a job in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for name in ("memory.max", "memory.swap.max", "memory.oom.group"):
            (path / name).write_text("max\n")
        (path / "cgroup.procs").write_text("1\n")
        self.kills(0)

    def kills(self, number: int, at_limit: int = 0) -> None:
        (self.path / "memory.events").write_text(f"max {at_limit}\noom {at_limit}\noom_kill {number}\n")


@pytest.fixture
def counted(tmp_path: Path) -> Counted:
    """A group in which nobody was killed yet."""
    return Counted(tmp_path)


def test_the_kernel_keeps_a_limit_where_it_can(counted: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then nothing is measured, and a kill at the limit is told as such."""
    monkeypatch.setattr(memory, "most", lambda _: 1 << 60)
    watch = MemoryWatch(4096, Group(str(counted.path)), 0.0)

    assert watch.is_kept
    assert (counted.path / "memory.max").read_text() == "4096"
    assert not watch.is_beyond(0.2)
    counted.kills(2, at_limit=1)
    assert watch.reason(0.3) == "memory limit"


def test_a_kill_for_the_node_s_sake_is_no_excess(counted: Counted) -> None:
    """The job was within its limit; the node had no memory left."""
    watch = MemoryWatch(4096, Group(str(counted.path)), 0.0)
    counted.kills(1)

    assert watch.reason(0.3) == "out of memory"


def test_without_a_kill_nobody_is_blamed(counted: Counted) -> None:
    """Somebody else sent that SIGKILL. So it is told if nobody counts, too."""
    assert MemoryWatch(None, Group(str(counted.path)), 0.0).reason(0.3) is None
    (counted.path / "memory.events").unlink()
    watch = MemoryWatch(None, Group(str(counted.path)), 0.0)
    watch._counter, watch._kills = None, []
    assert watch.reason(0.3) is None


def test_a_kill_of_long_ago_explains_nothing(counted: Counted) -> None:
    """Of another job in the group, or of a child that the command did without: each look is remembered."""
    watch = MemoryWatch(None, Group(str(counted.path)), 0.0)
    now_s = 0.0
    while now_s < 30:
        watch.is_beyond(now_s)
        now_s += watch.again_s(now_s)
        assert watch.again_s(now_s) <= KILLS_LOOK_S
    counted.kills(1)
    watch.is_beyond(now_s)
    killed_s = now_s
    # What is torn down slowly may have been killed a while ago.
    assert watch.reason(killed_s + KILLS_KEEP_S / 2) == "out of memory"
    while now_s < killed_s + KILLS_KEEP_S + 2 * KILLS_LOOK_S:
        watch.is_beyond(now_s)
        now_s += max(watch.again_s(now_s), 0.1)
    assert watch.reason(now_s) is None


def test_a_count_that_vanishes_or_falls_blames_nobody(counted: Counted) -> None:
    """The controller was switched off below: another group's count is not this one's."""
    counted.kills(3)
    watch = MemoryWatch(None, Group(str(counted.path)), 0.0)
    (counted.path / "memory.events").unlink()
    assert watch.reason(1.0) is None
    counted.kills(2)
    assert watch.reason(2.0) is None
