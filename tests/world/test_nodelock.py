"""Promises about the lock of a node's daemon: one living holder, whatever dies, and whoever is in the way."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from roundq.words.errors import RoundqError
from roundq.world import nodelock, procs
from roundq.world.nodelock import NodeLock
from tests.cluster.wait import wait_until
from tests.records.crowd import crowd
from tests.world.refusing import Refusing

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be somebody else")


@pytest.fixture
def places(tmp_path: Path) -> tuple[str, ...]:
    """Stand for /tmp, /var/tmp and /dev/shm."""
    for name in ("tmp", "var", "shm"):
        (tmp_path / name).mkdir()
        os.chmod(tmp_path / name, 0o1777)
    return tuple(str(tmp_path / name) for name in ("tmp", "var", "shm"))


def own(place: str) -> str:
    """The directory of this user in a place."""
    return f"{place}/roundq-{os.geteuid()}"


def lock_files(places: tuple[str, ...]) -> list[str]:
    return sorted(str(path) for place in places for path in Path(place).glob("*/*.lock"))


@contextmanager
def holder(places: tuple[str, ...], spool: str = "/home/ann/.roundqueue") -> Iterator[int]:
    """Another process that holds the lock; its pid. Killed at the end, if not before."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        lock = NodeLock(spool, places)
        os.write(writing, b"1" if lock.acquire() else b"0")
        signal.pause()
        os._exit(0)
    os.close(writing)
    try:
        assert select.select([reading], [], [], 10)[0]
        assert os.read(reading, 1) == b"1"
        yield pid
    finally:
        os.close(reading)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def lock(places: tuple[str, ...], spool: str = "/home/ann/.roundqueue") -> NodeLock:
    return NodeLock(spool, places)


# ---------------------------------------------------------------- one holder


def test_the_lock_is_taken_once(places: tuple[str, ...]) -> None:
    mine = lock(places)
    assert not mine.is_held()
    assert mine.acquire()
    assert mine.is_held()
    assert not lock(places).acquire()
    mine.release()
    assert not mine.is_held()
    assert lock(places).acquire()


def test_of_many_processes_one_gets_it(places: tuple[str, ...]) -> None:
    def race(_: int) -> bool:
        mine = lock(places)
        got = mine.acquire()
        # Until everybody has tried.
        Path(places[0], f"tried-{os.getpid()}").touch()
        wait_until(lambda: len(list(Path(places[0]).glob("tried-*"))) == 8, every=0.001)
        assert got is mine.is_held()
        return got

    assert sum(crowd(8, race)) == 1


def test_a_holder_that_is_killed_frees_it_at_once(places: tuple[str, ...]) -> None:
    """By the kernel, whatever killed it."""
    with holder(places) as pid:
        assert not lock(places).acquire()
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert lock(places).acquire()


def test_two_spools_have_two_locks(places: tuple[str, ...]) -> None:
    with holder(places, "/home/bob/.roundqueue"):
        assert lock(places).acquire()


def test_one_spool_by_two_paths_has_one_lock(places: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "link").symlink_to("spool")
    assert lock(places, str(tmp_path / "spool")).acquire()
    assert not lock(places, str(tmp_path / "link")).acquire()


def test_a_child_does_not_keep_it(places: tuple[str, ...]) -> None:
    """It is not inherited by a command that is executed."""
    mine = lock(places)
    assert mine.acquire()
    descriptors = [int(name) for name in os.listdir("/proc/self/fd")]
    locked = [
        fd
        for fd in descriptors
        if os.path.exists(f"/proc/self/fd/{fd}") and os.readlink(f"/proc/self/fd/{fd}").endswith(".lock")
    ]
    assert locked
    assert not any(os.get_inheritable(descriptor) for descriptor in locked)


def test_a_lock_given_up_leaves_no_descriptor(places: tuple[str, ...]) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        mine = lock(places)
        assert mine.acquire()
        assert not lock(places).acquire()
        mine.release()
        mine.release()
    assert len(os.listdir("/proc/self/fd")) == before


# ---------------------------------------------------------------- who holds it


def test_the_holder_is_known(places: tuple[str, ...]) -> None:
    assert lock(places).holder() is None
    with holder(places) as pid:
        found = lock(places).holder()
        assert found is not None
        assert found == procs.identity(pid)
    assert lock(places).holder() is None


def test_a_lock_given_up_by_a_living_process_has_no_holder(places: tuple[str, ...]) -> None:
    mine = lock(places)
    assert mine.acquire()
    assert lock(places).holder() == procs.own_identity()
    mine.release()
    assert lock(places).holder() is None


def test_to_ask_who_holds_it_never_keeps_anybody_from_taking_it(places: tuple[str, ...]) -> None:
    """Looking never touches: a daemon must not fail to start because somebody listed the queue."""
    lock(places).acquire()

    def act(number: int) -> int:
        mine = lock(places, "/home/carl/.roundqueue")
        failures = 0
        for _ in range(300):
            if number:
                mine.holder()
            elif mine.acquire():
                mine.release()
            else:
                failures += 1
        return failures

    assert crowd(3, act) == [0, 0, 0]


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"nonsense", b'{"boot": 1, "pid": "x", "start": []}', b"\xff", b"[" * 9999]
)
def test_nonsense_in_the_file_names_nobody(content: bytes, places: tuple[str, ...]) -> None:
    with holder(places):
        for path in lock_files(places):
            Path(path).write_bytes(content)
        assert lock(places).holder() is None


def test_a_holder_that_is_written_but_dead_is_none(places: tuple[str, ...]) -> None:
    with holder(places):
        for path in lock_files(places):
            Path(path).write_text(json.dumps({"boot": procs.own_identity().boot, "pid": 1, "start": 1}))
        assert lock(places).holder() is None


# ---------------------------------------------------------------- files that go


def test_a_file_that_a_cleaner_removed_is_noticed(places: tuple[str, ...]) -> None:
    mine = lock(places)
    assert mine.acquire()
    for path in lock_files(places):
        os.unlink(path)
    assert not mine.is_held()
    assert lock(places).acquire()


def test_a_lock_that_was_lost_can_be_taken_again(places: tuple[str, ...]) -> None:
    before = len(os.listdir("/proc/self/fd"))
    mine = lock(places)
    assert mine.acquire()
    held = len(os.listdir("/proc/self/fd")) - before
    for path in lock_files(places):
        os.unlink(path)
    assert not mine.is_held()
    assert mine.acquire()
    assert mine.is_held()
    assert not lock(places).acquire()
    assert len(os.listdir("/proc/self/fd")) - before == held


def test_a_lock_that_somebody_else_took_meanwhile_stays_lost(places: tuple[str, ...]) -> None:
    mine = lock(places)
    assert mine.acquire()
    for path in lock_files(places):
        os.unlink(path)
    with holder(places):
        assert not mine.is_held()
        assert not mine.acquire()


def test_to_look_after_it_keeps_cleaners_away(places: tuple[str, ...]) -> None:
    """They remove what has not been touched for days."""
    mine = lock(places)
    assert mine.acquire()
    for path in lock_files(places):
        os.utime(path, (1, 1))
    assert mine.is_held()
    assert all(os.stat(path).st_mtime > 1e6 for path in lock_files(places))


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_one_place_that_is_cleaned_costs_nothing(gone: int, places: tuple[str, ...]) -> None:
    """A desktop removes its user's /dev/shm at logout, a cleaner what is old in /tmp."""
    with holder(places):
        for path in Path(own(places[gone])).glob("*"):
            path.unlink()
        os.rmdir(own(places[gone]))
        assert not lock(places).acquire()
        assert lock(places).holder() is not None


# ---------------------------------------------------------------- strangers in the way


def squat(place: str, kind: str) -> None:
    """What a stranger may put where this user's directory would be."""
    path = own(place)
    if kind == "file":
        Path(path).touch()
    elif kind == "link":
        os.mkdir(f"{place}/evil")
        os.symlink("evil", path)
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        os.mkdir(path)
        if kind == "foreign":
            os.chown(path, NOBODY, NOBODY)
        else:
            os.chmod(path, 0o777 if kind == "open" else 0o775)


KINDS = ["file", "link", "fifo", "open", "open to a group", pytest.param("foreign", marks=as_root)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_place_that_a_stranger_has_taken_is_passed_over(kind: str, places: tuple[str, ...]) -> None:
    squat(places[0], kind)
    mine = lock(places)
    assert mine.acquire()
    assert not lock(places).acquire()
    assert all(path.startswith(places[1:]) for path in lock_files(places))
    assert all(stat.S_IMODE(os.stat(own(place)).st_mode) == 0o700 for place in places[1:])


@pytest.mark.parametrize("kind", ["file", pytest.param("foreign", marks=as_root)])
def test_a_stranger_who_makes_way_does_not_let_two_daemons_in(kind: str, places: tuple[str, ...]) -> None:
    """He blocks a place when the first one starts, and frees it before the second one does."""
    squat(places[0], kind)
    with holder(places):
        os.unlink(own(places[0])) if kind == "file" else os.rmdir(own(places[0]))
        assert not lock(places).acquire()
        assert lock(places).holder() is not None


def test_without_any_place_it_is_said() -> None:
    with pytest.raises(RoundqError, match="no place for the lock") as caught:
        lock(("/proc/none", "/none")).acquire()
    assert own("/none") in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("kind", KINDS)
def test_a_stranger_who_takes_every_place_keeps_no_daemon_from_running(
    kind: str, places: tuple[str, ...]
) -> None:
    """Anybody may make the directory of the usual name first; the lock is kept by one that nobody guesses."""
    for place in places:
        squat(place, kind)
    with holder(places):
        assert not lock(places).acquire()
        assert lock(places).holder() is not None
        # He makes way, so that the next daemon finds the usual places free.
        for place in places:
            os.rename(own(place), f"{place}/away")
        assert not lock(places).acquire()
        assert lock(places).holder() is not None
    mine = lock(places)
    assert mine.acquire()
    assert mine.is_held()
    mine.release()


def test_a_file_system_without_locks_is_said(
    places: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not taken for somebody else's lock, nor for ours."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(RoundqError, match="no place for the lock"):
        lock(places).acquire()


@pytest.mark.parametrize("call", ["open", "pwrite"])
def test_a_full_disk_in_one_place_keeps_no_daemon_from_running(
    call: str, places: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    system = Refusing()
    system.fail(call, errno.ENOSPC)
    monkeypatch.setattr(nodelock, "os", system)
    mine = lock(places)
    assert mine.acquire()
    assert mine.is_held()
    monkeypatch.undo()
    assert not lock(places).acquire()
    assert lock(places).holder() == procs.own_identity()


def test_the_places_are_those_of_the_node() -> None:
    assert set(nodelock.PLACES) == {"/tmp", "/var/tmp", "/dev/shm"}


def test_a_place_that_is_not_this_users_alone_is_not_usable(places: tuple[str, ...]) -> None:
    """As a daemon would find it; what is usable is so for both."""
    assert nodelock.usable_places(places) == list(places)
    os.chmod(own(places[0]), 0o777)
    os.rmdir(own(places[1]))
    Path(own(places[1])).touch()
    assert nodelock.usable_places(places) == [places[2]]
    mine = lock(places)
    assert mine.acquire()
    assert [os.path.dirname(os.path.dirname(path)) for path in lock_files(places)] == [places[2]]
    mine.release()
