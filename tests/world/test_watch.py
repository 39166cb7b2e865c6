"""Promises about waiting: local changes are seen at once, and nothing that fails stops us from looking."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import inotify_simple
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roundq.world.watch import Rhythm, Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

#: Far longer than any event takes: a test that waits so long fails.
LONG_S = 20


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    with Watcher() as made:
        yield made


def touch(path: Path) -> None:
    path.write_text("x")


# ---------------------------------------------------------------- what is seen


@pytest.mark.parametrize(
    "change",
    [
        lambda there: touch(there / "new"),
        lambda there: (there / "old").write_text("more"),
        lambda there: (there / "old").unlink(),
        lambda there: (there / "old").rename(there.parent / "elsewhere"),
        lambda there: (there.parent / "outside").rename(there / "inside"),
        lambda there: os.link(there.parent / "outside", there / "linked"),
        lambda there: (there / "directory").mkdir(),
    ],
    ids=["create", "write", "delete", "move out", "move in", "link", "mkdir"],
)
def test_a_local_change_wakes_at_once(
    tmp_path: Path, watcher: Watcher, change: Callable[[Path], object]
) -> None:
    """Whatever moves a record: a new name, a lost name, new content."""
    there = tmp_path / "there"
    there.mkdir()
    touch(there / "old")
    touch(tmp_path / "outside")
    watcher.watch(str(there))

    change(there)

    assert watcher.wait(LONG_S) == {str(there)}
    assert watcher.wait(0) == set()
    assert watcher.blind is None


def test_only_what_was_touched_is_named(tmp_path: Path, watcher: Watcher) -> None:
    """By the path it was given, once, however much happened there."""
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        path.mkdir()
        watcher.watch(str(path))

    for number in range(50):
        touch(paths[0] / str(number))
        touch(paths[2] / str(number))

    assert watcher.wait(LONG_S) == {str(paths[0]), str(paths[2])}
    assert watcher.wait(0) == set()


def test_reading_is_no_change(tmp_path: Path, watcher: Watcher) -> None:
    """Who looks at a spool must not wake its daemon."""
    touch(tmp_path / "file")
    watcher.watch(str(tmp_path))

    (tmp_path / "file").read_text()
    list(tmp_path.iterdir())
    (tmp_path / "file").chmod(0o600)

    assert watcher.wait(0) == set()


def test_watching_twice_is_watching_once(tmp_path: Path, watcher: Watcher) -> None:
    """Also under another name of the same directory, which is then named as well."""
    alias = tmp_path.parent / f"{tmp_path.name}-alias"
    alias.symlink_to(tmp_path)
    for path in (tmp_path, tmp_path, alias):
        watcher.watch(str(path))
    assert watcher.wait(0) == set()

    touch(tmp_path / "file")

    assert watcher.wait(LONG_S) == {str(tmp_path), str(alias)}


def test_time_is_up(tmp_path: Path, watcher: Watcher) -> None:
    """Nothing happened: empty after the time, which may be none at all."""
    watcher.watch(str(tmp_path))
    began = time.monotonic()

    assert watcher.wait(0.05) == set()
    assert 0.04 < time.monotonic() - began < LONG_S
    assert watcher.wait(0) == set()
    assert watcher.wait(-1) == set()
    assert Watcher().wait(0.01) == set()


def test_a_descriptor_wakes_too(tmp_path: Path, watcher: Watcher) -> None:
    """A signal's wakeup descriptor; it is left for the caller to read."""
    reading, writing = os.pipe()
    try:
        watcher.watch(str(tmp_path))
        os.write(writing, b"x")
        assert watcher.wait(LONG_S, [reading]) == set()
        touch(tmp_path / "file")
        assert watcher.wait(LONG_S, [reading]) == {str(tmp_path)}
        assert os.read(reading, 2) == b"x"
    finally:
        os.close(reading)
        os.close(writing)


# ---------------------------------------------------------------- directories come and go


def test_a_directory_may_come_into_being(tmp_path: Path, watcher: Watcher) -> None:
    """From the wait after that on it is watched; what was put into it before is not missed."""
    there = tmp_path / "there"
    watcher.watch(str(there))
    assert watcher.wait(0) == set()

    there.mkdir()
    touch(there / "already")

    assert watcher.wait(LONG_S) == {str(there)}
    assert watcher.wait(0) == set()
    touch(there / "later")
    assert watcher.wait(LONG_S) == {str(there)}


@pytest.mark.parametrize(
    "goes", [shutil.rmtree, lambda there: there.rename(f"{there}-moved")], ids=["rm", "mv"]
)
def test_a_directory_may_vanish_and_come_back(
    tmp_path: Path, watcher: Watcher, goes: Callable[[Path], object]
) -> None:
    """Its going is an event; its successor is watched, the one that was moved away is not."""
    there, moved = tmp_path / "there", tmp_path / "there-moved"
    there.mkdir()
    watcher.watch(str(there))

    goes(there)
    assert watcher.wait(LONG_S) == {str(there)}
    watcher.wait(0)
    if moved.exists():
        touch(moved / "file")
    assert watcher.wait(0) == set()

    there.mkdir()
    assert watcher.wait(LONG_S) == {str(there)}
    touch(there / "file")
    assert watcher.wait(LONG_S) == {str(there)}


def test_a_directory_that_was_replaced_is_followed(tmp_path: Path, watcher: Watcher) -> None:
    """Another machine may do so without an event; `watch` before each look finds out."""
    there = tmp_path / "there"
    there.mkdir()
    watcher.watch(str(there))
    there.rename(tmp_path / "moved")
    there.mkdir()

    watcher.watch(str(there))

    assert watcher.wait(LONG_S) == {str(there)}
    watcher.wait(0)
    touch(there / "file")
    assert watcher.wait(LONG_S) == {str(there)}
    touch(tmp_path / "moved" / "file")
    assert watcher.wait(0) == set()


def test_old_watches_are_given_back(tmp_path: Path, watcher: Watcher) -> None:
    """A daemon lives for months, and the kernel counts its watches (/proc/PID/fdinfo, see proc(5))."""
    there = tmp_path / "there"

    def watches() -> int:
        lines = [
            line
            for number in os.listdir("/proc/self/fd")
            if os.path.exists(f"/proc/self/fdinfo/{number}")
            for line in open(f"/proc/self/fdinfo/{number}")
        ]
        return sum(line.startswith("inotify wd:") for line in lines)

    for number in range(5):
        there.mkdir()
        watcher.watch(str(there))
        assert watches() == 1
        there.rename(tmp_path / str(number))
    watcher.wait(0)
    assert watches() == 0


def test_what_is_forgotten_wakes_nobody(tmp_path: Path, watcher: Watcher) -> None:
    """The neighbours' cards change all day: whoever has nothing to start sleeps through that."""
    mine, neighbours = tmp_path / "mine", tmp_path / "neighbours"
    for path in (mine, neighbours):
        path.mkdir()
        watcher.watch(str(path))

    watcher.keep({str(mine), str(tmp_path / "never watched")})
    touch(neighbours / "card")
    assert watcher.wait(0) == set()

    touch(mine / "job")
    assert watcher.wait(LONG_S) == {str(mine)}


def test_a_file_is_no_directory(tmp_path: Path, watcher: Watcher) -> None:
    """It is waited for like one that is not there; nobody is called blind for it."""
    touch(tmp_path / "file")
    watcher.watch(str(tmp_path / "file"))

    assert watcher.wait(0) == set()
    assert watcher.blind is None


def test_when_events_are_lost_everything_may_have_changed(
    tmp_path: Path, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's queue is finite (IN_Q_OVERFLOW): then all directories are named."""
    for name in "ab":
        (tmp_path / name).mkdir()
        watcher.watch(str(tmp_path / name))
    touch(tmp_path / "a" / "file")
    overflow = inotify_simple.Event(-1, 0x4000, 0, "")
    monkeypatch.setattr(inotify_simple.INotify, "read", lambda *_, **__: [overflow])

    assert watcher.wait(LONG_S) == {str(tmp_path / "a"), str(tmp_path / "b")}


# ---------------------------------------------------------------- without inotify


@pytest.mark.parametrize(
    ("method", "number", "limit"),
    [
        ("__init__", errno.EMFILE, "max_user_instances"),
        ("__init__", errno.ENOSYS, "not implemented"),
        ("add_watch", errno.ENOSPC, "max_user_watches"),
    ],
)
def test_without_inotify_it_is_blind_but_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, number: int, limit: str
) -> None:
    """It says why, goes on waiting for time and descriptors, and sees again when it can."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    watcher = Watcher()
    with monkeypatch.context() as patch:
        patch.setattr(inotify_simple.INotify, method, refuse)
        watcher.watch(str(tmp_path))
        assert limit in (watcher.blind or "")
        touch(tmp_path / "unseen")
        assert watcher.wait(0.01) == set()

    # What happened meanwhile is not known, so it may have been anything.
    assert watcher.wait(LONG_S) == {str(tmp_path)}
    assert watcher.blind is None
    watcher.close()


def test_one_directory_too_many_does_not_hide_the_others(
    tmp_path: Path, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays blind as long as one directory is unwatched, and still sees those it watches."""
    seen, unseen = tmp_path / "seen", tmp_path / "unseen"
    seen.mkdir()
    unseen.mkdir()
    add_watch = inotify_simple.INotify.add_watch

    def full(self: Any, path: str, mask: int) -> Any:
        if path == str(unseen):
            raise OSError(errno.ENOSPC, "")
        return add_watch(self, path, mask)

    monkeypatch.setattr(inotify_simple.INotify, "add_watch", full)
    watcher.watch(str(unseen))
    watcher.watch(str(seen))

    touch(seen / "file")
    assert watcher.wait(LONG_S) == {str(seen)}
    assert "max_user_watches" in (watcher.blind or "")


def test_importing_it_does_not_import_inotify() -> None:
    """Commands that wait for nothing do not pay for it."""
    code = "import sys, roundq.world.watch; print(*sys.modules)"

    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()

    assert not {"inotify_simple", "ctypes", "subprocess"} & set(loaded)


def test_a_closed_watcher_holds_nothing_and_may_be_used_again(tmp_path: Path) -> None:
    """No descriptor is left over."""
    before = len(os.listdir("/proc/self/fd"))
    watcher = Watcher()
    for _ in range(3):
        watcher.watch(str(tmp_path))
        touch(tmp_path / "file")
        assert watcher.wait(LONG_S) == {str(tmp_path)}
        watcher.close()
        assert watcher.wait(0) == set()

    assert len(os.listdir("/proc/self/fd")) == before


# ---------------------------------------------------------------- rhythm

seconds = st.floats(0.01, 100)


@settings(max_examples=100, deadline=None)
@given(seconds, seconds, st.integers(), st.lists(st.booleans(), max_size=30))
def test_an_interval_never_leaves_its_bounds(one: float, other: float, seed: int, active: list[bool]) -> None:
    """Whatever happens and whatever chance says."""
    least_s, most_s = sorted((one, other))
    rhythm = Rhythm(least_s, most_s, random.Random(seed))

    for happened in active:
        if happened:
            rhythm.active()
        assert least_s <= rhythm.next_s() <= most_s


def test_it_slows_down_when_nothing_happens_and_speeds_up_when_something_does() -> None:
    """An idle daemon reaches its longest interval within a minute; activity resets it."""
    rhythm = Rhythm(1, 15, random.Random(1))

    slowing = [rhythm.next_s() for _ in range(12)]

    assert slowing[0] == 1
    assert sum(slowing[:7]) < 60
    assert min(slowing[7:]) >= 15 * 0.8
    rhythm.active()
    assert rhythm.next_s() == 1


def test_two_daemons_do_not_ask_the_server_in_step() -> None:
    """Each has its own chance, so that equal intervals drift apart."""
    one, other = (Rhythm(1, 15, random.Random(seed)) for seed in (1, 2))

    assert len({rhythm.next_s() for _ in range(20) for rhythm in (one, other)}) > 30


@pytest.mark.parametrize(("least_s", "most_s"), [(0, 1), (-1, 1), (2, 1), (float("nan"), 1)])
def test_impossible_bounds_are_refused(least_s: float, most_s: float) -> None:
    """A daemon that never pauses would melt the file server."""
    with pytest.raises(ValueError, match="no rhythm between"):
        Rhythm(least_s, most_s, random.Random(1))
