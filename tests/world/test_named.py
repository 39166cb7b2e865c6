"""Promises about processes of others that bear a name: who is found, whose, and what is not believed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from roundq.words.job import Identity
from roundq.world import named, procs
from roundq.world.named import Bearers
from tests.cluster.wait import wait_until
from tests.rights import need_mounts, need_root

EVE = 40_003
NAME = "rq-test-bearer"
#: Takes a name, then a title, and says that it has.
#: Becomes another user by itself: he may not be able to read this checkout, or Python.
BEAR = """
import ctypes, os, sys
from roundq.world import spawn
name, title, *uid = sys.argv[1:]
spawn.prepare()
if uid:
    os.setgroups([]), os.setgid(int(uid[0])), os.setuid(int(uid[0]))
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: as after an execution, /proc/PID is his
sys.stdin.readline() if name.startswith("late-") else None
spawn.set_name(name.removeprefix("late-").encode())
spawn.set_title(title.encode())
print("done", flush=True)
sys.stdin.read()
"""
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts processes that bear a name and a title, as a user of their own."""
    need_root()
    started: list[subprocess.Popen[str]] = []

    def begin(name: str, title: str, uid: int = EVE) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", BEAR, name, title, str(uid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        if not name.startswith("late-"):
            assert process.stdout.readline() == "done\n"
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def test_a_process_of_somebody_else_is_found_by_its_name(start: Start) -> None:
    """With who it is, whose, and its title; mine is not among them, nor is one of another name."""
    hers = start(NAME, "rq: job 17, 4 cores")
    start("rq-test-other", "rq: job 18, 4 cores")
    start(NAME, "rq: job 19, 4 cores", uid=os.geteuid())

    (one,) = Bearers(NAME).look(os.geteuid(), 0.0)

    assert one == named.Named(one.process, EVE, "rq: job 17, 4 cores")
    assert one.process == procs.identity(hers.pid)
    assert Bearers(NAME).look(EVE, 0.0) != [one]


def test_one_that_ended_is_none(start: Start) -> None:
    """Nor is one that only waits to be reaped."""
    hers = start(NAME, "x")
    bearers = Bearers(NAME)
    (one,) = bearers.look(os.geteuid(), 0.0)
    hers.kill()
    wait_until(lambda: procs.liveness(one.process) is procs.Liveness.DEAD, 20)

    assert bearers.look(os.geteuid(), 1.0) == []


def test_a_name_that_is_taken_soon_after_the_birth_is_seen(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has borne another name for long is not asked again, which is what makes looking cheap."""
    asked: list[int] = []
    name = procs.name

    def watched(pid: int) -> bytes:
        asked.append(pid)
        return name(pid)

    monkeypatch.setattr(procs, "name", watched)
    hers = start(f"late-{NAME}", "x")
    bearers = Bearers(NAME)
    assert bearers.look(os.geteuid(), 0.0) == []
    assert hers.stdin is not None
    assert hers.stdout is not None
    hers.stdin.write("\n")
    hers.stdin.flush()
    hers.stdout.readline()
    assert [one.process.pid for one in bearers.look(os.geteuid(), named.ASKED_S / 2)] == [hers.pid]

    old = start("rq-test-other", "x")
    bearers.look(os.geteuid(), 100.0)
    asked.clear()
    bearers.look(os.geteuid(), 100.0 + named.ASKED_S)
    assert hers.pid in asked
    assert old.pid not in asked


def test_a_title_of_any_bytes_is_text(start: Start) -> None:
    """Titles are theirs; what is not ASCII cannot be ours."""
    start(NAME, "rq: job \u00fc\n\x1b[2J, 1 core")

    (one,) = Bearers(NAME).look(os.geteuid(), 0.0)

    assert one.title.startswith("rq: job ")


def test_a_process_in_a_container_is_on_another_node(start: Start) -> None:
    """Its daemon has a card of that node."""
    need_mounts()
    start(NAME, "outside")
    inside = subprocess.Popen(
        ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", BEAR, NAME, "inside", str(EVE)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert inside.stdout is not None
        assert inside.stdout.readline() == "done\n"
        assert [one.title for one in Bearers(NAME).look(os.geteuid(), 0.0)] == ["outside"]
    finally:
        inside.kill()
        inside.communicate()


def test_whoever_bears_it_a_thousand_times_is_asked_a_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has more than anybody honest hides nobody else, and those that are too many are not asked again."""
    users = {1000 + number: EVE for number in range(500)} | {9000 + number: 40_004 for number in range(3)}
    asked: list[int] = []

    def bearer(pid: int) -> named.Named:
        asked.append(pid)
        return named.Named(Identity("boot", pid, 1), users[pid], "")

    monkeypatch.setattr(procs, "of_others", lambda _: {pid: (pid, 1) for pid in users})
    monkeypatch.setattr(procs, "name", lambda _: NAME.encode())
    monkeypatch.setattr(procs, "real_uid", users.get)
    monkeypatch.setattr(named, "_bearer", bearer)
    bearers = Bearers(NAME, 8)
    for now_s in (0.0, 1.0, 100.0):
        asked.clear()
        found = bearers.look(os.geteuid(), now_s)

        assert Counter(one.uid for one in found) == {EVE: 8, 40_004: 3}
        assert len(asked) == 11
