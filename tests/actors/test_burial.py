"""What dead supervisors left is ended a step at a time: no daemon waits for what does not die."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from roundq.actors import burial, environ
from roundq.actors.burial import Burial
from roundq.words.job import Identity
from roundq.world import cgroup, procs
from tests import delegation
from tests.cluster.wait import wait_until

LOG = logging.getLogger("test")
#: Says that it is ready, and ends at no SIGTERM.
DEAF = "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(300)"
MEEK = "import time; print(flush=True); time.sleep(300)"


@pytest.fixture
def supervisor() -> Identity:
    """One that died on this node, since it booted."""
    child = subprocess.Popen(["sleep", "300"])
    identity = procs.identity(child.pid)
    child.kill()
    child.wait()
    assert identity is not None
    return identity


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that are gone after the test."""
    found: list[subprocess.Popen[bytes]] = []
    yield found
    for child in found:
        child.kill()
        child.wait()


def left_by(
    supervisor: Identity, children: list[subprocess.Popen[bytes]], code: str
) -> subprocess.Popen[bytes]:
    """A process of its job, ready."""
    env = {**os.environ, "RQ_MARK": environ.mark(supervisor)}
    child = subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE)
    children.append(child)
    assert child.stdout is not None
    child.stdout.readline()
    return child


class Reaping(Burial):
    """A burial of children of this process, which have to be reaped as init would."""

    def __init__(self, children: list[subprocess.Popen[bytes]], ahead_s: list[float]) -> None:
        def pause(seconds: float) -> None:
            time.sleep(seconds)
            for child in children:
                child.poll()

        super().__init__(LOG, lambda: time.monotonic() + ahead_s[0], pause)


def test_what_nothing_is_left_of_is_buried_in_one_step(supervisor: Identity) -> None:
    """So is whatever ran before the node was booted: no process survives that."""
    other = Identity("another boot", os.getpid(), 1)
    buried = Burial(LOG)

    wait_until(lambda: buried.step([supervisor, other]) == {supervisor, other})
    assert buried.again_s() == float("inf")


def test_what_ends_at_term_is_buried_in_one_step(
    supervisor: Identity, children: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what was stopped; and nobody is killed who would have ended."""
    monkeypatch.setattr(burial, "STEP_S", 20.0)
    meek, stopped = (left_by(supervisor, children, MEEK) for _ in range(2))
    stopped.send_signal(signal.SIGSTOP)

    assert Reaping(children, [0.0]).step([supervisor]) == {supervisor}

    assert (meek.wait(), stopped.wait()) == (-signal.SIGTERM, -signal.SIGTERM)


def test_what_ignores_term_is_killed_in_a_later_step(
    supervisor: Identity, children: list[subprocess.Popen[bytes]]
) -> None:
    """After the grace, and not before; until then each step is short."""
    deaf = left_by(supervisor, children, DEAF)
    ahead_s = [0.0]
    buried = Reaping(children, ahead_s)

    assert buried.step([supervisor]) == set()
    assert 0 < buried.again_s() <= 2
    ahead_s[0] = burial.GRACE_S - 2
    assert buried.step([supervisor]) == set()
    assert deaf.poll() is None
    ahead_s[0] = burial.GRACE_S

    wait_until(lambda: buried.step([supervisor]) == {supervisor})

    assert deaf.wait() == -signal.SIGKILL


def test_what_does_not_die_holds_nobody_up(
    supervisor: Identity, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In uninterruptible sleep: a step is short, others are buried beside it, and it is told."""
    me = procs.own_identity()
    asleep = environ.mark(supervisor)
    other = Identity(supervisor.boot, supervisor.pid, supervisor.start - 1)
    now_s = [1000.0]
    sent: list[int] = []

    def pause(seconds: float) -> None:
        now_s[0] += seconds

    monkeypatch.setattr(os, "getpid", lambda: -1)
    monkeypatch.setattr(procs, "bearers", lambda marks, **_: {m: [me] if m == asleep else [] for m in marks})
    monkeypatch.setattr(procs, "send", lambda _, number: sent.append(number))
    monkeypatch.setattr(procs, "unreadable", list)
    buried = Burial(LOG, lambda: now_s[0], pause)

    assert buried.step([supervisor, other]) == {other}
    for _ in range(40):
        before_s = now_s[0]
        assert buried.step([supervisor]) == set()
        assert now_s[0] - before_s <= 2 * burial.STEP_S
        now_s[0] += buried.again_s()

    assert signal.SIGTERM in sent
    assert signal.SIGKILL in sent
    assert sent.index(signal.SIGTERM) < sent.index(signal.SIGKILL)
    assert sent.count(signal.SIGTERM) == 1
    assert caplog.text.count("does not die yet") == int(
        (now_s[0] - 1000 - burial.GRACE_S) / burial.COMPLAIN_S
    )
    assert buried.again_s() == burial.AGAIN_S[1]


def test_a_machine_that_is_slow_to_look_gets_on_too(
    supervisor: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One look takes longer than a step: each step presses all the same."""
    me = procs.own_identity()
    now_s = [1000.0]
    sent: list[int] = []

    def bearers(marks: list[str], **_: object) -> dict[str, list[Identity]]:
        now_s[0] += 10 * burial.STEP_S
        return {mark: [] if signal.SIGKILL in sent else [me] for mark in marks}

    monkeypatch.setattr(os, "getpid", lambda: -1)
    monkeypatch.setattr(procs, "bearers", bearers)
    monkeypatch.setattr(procs, "send", lambda _, number: sent.append(number))
    monkeypatch.setattr(procs, "unreadable", list)
    buried = Burial(LOG, lambda: now_s[0], lambda _: None)

    wait_until(lambda: buried.step([supervisor]) == {supervisor})

    assert sent.index(signal.SIGTERM) < sent.index(signal.SIGKILL)


def test_a_control_group_is_killed_and_removed(supervisor: Identity) -> None:
    """What emptied its environment, and is nobody's descendant, is found in the group of the job."""
    with delegation.group(says_so=True) as path:
        group = cgroup.Group(f"{path}/{cgroup.name_of(supervisor.pid, supervisor.start)}")
        os.mkdir(group.path)
        child = subprocess.Popen(
            ["sh", "-c", f"echo $$ >{group.entrance}; trap '' TERM; while :; do sleep 1; done"], env={}
        )
        children = [child]
        wait_until(group.is_populated)
        ahead_s = [0.0]
        buried = Reaping(children, ahead_s)

        assert buried.step([supervisor]) == set()
        ahead_s[0] = burial.GRACE_S
        wait_until(lambda: buried.step([supervisor]) == {supervisor})

        assert child.wait() == -signal.SIGKILL
        assert not os.path.exists(group.path)
