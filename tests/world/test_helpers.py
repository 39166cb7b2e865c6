"""Promises about helpers: they read as we would, and hang in our place."""

from __future__ import annotations

import itertools
import os
import signal
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from roundq.words.errors import RecordError
from roundq.world import files, helpers, procs, reading
from roundq.world.files import Name
from roundq.world.helpers import Helpers
from roundq.world.reading import DIRECT, NotAnswering, Way
from tests.cluster.wait import wait_until
from tests.world.processes import on_stage


class Desk:
    """Helpers with an operation that hangs in some homes, until it is released."""

    def __init__(self) -> None:
        self.helpers = Helpers(time.monotonic)
        self.released, self.release = os.pipe()
        self.helpers.offer("touch", self._touch, self.released)

    def _touch(self, path: str) -> str:
        if "hang" in path:
            # As on a server that is away: until it is back, for everybody.
            os.read(self.released, 1)
        if "dies" in path:
            os._exit(1)
        return path

    def touch(self, *paths: str) -> list[object]:
        """What helpers answer, by home; a path is HOME/NAME."""
        calls = [self.helpers.way(path.partition("/")[0]).call("touch", path) for path in paths]
        return [None if isinstance(one, NotAnswering) else one for one in reading.each(calls)]

    def pids(self) -> set[int]:
        """The living helpers."""
        living = {one.pid for one in procs.descendants(procs.own_identity())}
        return self.helpers._pids & living

    def close(self) -> None:
        os.close(self.release)
        self.helpers.close()
        wait_until(lambda: not self._left(), 10)
        os.close(self.released)

    def _left(self) -> bool:
        self.helpers.close()
        return bool(self.helpers._pids)


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr(helpers, "PATIENCE_S", 1.5)
    made = Desk()
    yield made
    made.close()


# ---------------------------------------------------------------- as if we read ourselves


def ways(helpers_: Helpers) -> list[Way]:
    return [DIRECT, helpers_.way("home")]


def outcome(act: Callable[[], object]) -> object:
    """What it returns, or what it raises, comparable."""
    try:
        return act()
    except (OSError, RecordError) as error:
        return type(error), str(error)


def test_a_helper_reads_what_we_would_read(desk: Desk, tmp_path: Path) -> None:
    """The same names, bytes and signatures, whatever bytes they are made of."""
    name = os.fsdecode(b"caf\xe9 \xff\n")
    (tmp_path / name).write_bytes(bytes(range(256)) * 1000)
    (tmp_path / ".hidden").touch()
    direct, helped = ways(desk.helpers)
    path = str(tmp_path / name)
    assert (
        helped.listing(str(tmp_path)) == direct.listing(str(tmp_path)) == [Name(name, os.stat(path).st_ino)]
    )
    assert helped.read(path, most=1 << 20) == direct.read(path, most=1 << 20)
    assert helped.signature(path) == direct.signature(path)
    (status, matched) = reading.each([helped.call("status", path), helped.call("matching", f"{tmp_path}/c*")])
    assert stat.S_ISREG(status.mode)
    assert (status, matched) == (files.status(path), [path])


def test_a_helper_is_refused_what_we_would_be_refused(desk: Desk, tmp_path: Path) -> None:
    """By the same kinds of error, with the same words."""
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "large").write_bytes(b"x" * 100)
    os.mkfifo(tmp_path / "fifo")
    direct, helped = ways(desk.helpers)
    for name in ("link", "large", "fifo", "absent", "large/below"):
        path = str(tmp_path / name)

        def read(way: Way, path: str = path) -> object:
            return outcome(lambda: way.read(path, most=10, owner=os.geteuid()))

        def listing(way: Way, path: str = path) -> object:
            return outcome(lambda: way.listing(path))

        assert read(helped) == read(direct)
        assert listing(helped) == listing(direct)
    assert read(helped)[0] is NotADirectoryError  # type: ignore[index]


def test_one_helper_serves_as_long_as_everybody_answers(desk: Desk) -> None:
    desk.touch("a/1")
    first = desk.pids()
    assert len(first) == 1
    for _ in range(50):
        assert desk.touch("a/1", "b/1", "c/2") == ["a/1", "b/1", "c/2"]
    assert desk.pids() == first


def test_more_is_asked_and_answered_than_a_pipe_holds(desk: Desk, tmp_path: Path) -> None:
    """Neither side waits for the other while both write."""
    (tmp_path / "large").write_bytes(b"x" * 300_000)
    way = desk.helpers.way("home")
    path = str(tmp_path / "large")
    calls = [way.call("read", path, most=1 << 20) for _ in range(50)]
    calls += [way.call("status", f"{tmp_path}/{'x' * 200}/{number}") for number in range(3000)]
    answers = reading.each(calls)
    assert {len(answer) for answer in answers[:50]} == {300_000}
    assert {type(answer) for answer in answers[50:]} == {FileNotFoundError}


# ---------------------------------------------------------------- what does not answer


def test_a_home_that_does_not_answer_keeps_nobody_else_waiting(desk: Desk) -> None:
    """All others are answered, and it is said which one was not, within the patience."""
    began_s = time.monotonic()
    asked = ["a/1", "hang1/1", "hang1/2", "b/1", "hang2/1", "c/1"]
    assert desk.touch(*asked) == ["a/1", None, None, "b/1", None, "c/1"]
    assert time.monotonic() - began_s < helpers.PATIENCE_S + 30
    assert set(desk.helpers.late()) == {"hang1", "hang2"}


def test_a_home_that_hangs_is_not_waited_for_again(desk: Desk) -> None:
    """Its helper waits there for us; no other is sent after it."""
    desk.touch("hang/1", "a/1")
    before = desk.pids()
    began_s = time.monotonic()
    for _ in range(20):
        assert desk.touch("hang/1", "a/1") == [None, "a/1"]
    # Waited for each time, it would be twenty times the patience.
    assert time.monotonic() - began_s < 10 * helpers.PATIENCE_S
    assert desk.pids() <= before


def test_a_home_that_answers_again_is_read_again(desk: Desk) -> None:
    desk.touch("hang/1", "a/1")
    # Once for each read: the helper that hangs, and the one that is asked after it.
    os.write(desk.release, b"xx")
    wait_until(lambda: desk.touch("hang/1") == ["hang/1"], 10, every=0.05)
    assert desk.helpers.late() == {}


def test_however_many_homes_hang_helpers_and_time_are_bounded(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helpers, "SOON_S", 0.02)
    monkeypatch.setattr(helpers, "HANGING_MOST", 5)
    asked = [f"hang{number}/1" for number in range(200)]
    for _ in range(3):
        began_s = time.monotonic()
        assert set(desk.touch(*asked)) == {None}
        assert time.monotonic() - began_s < helpers.PATIENCE_S + 30
    # Those that are not kept have been killed; they need the processor to die.
    wait_until(lambda: len(desk.pids()) <= 5 + 1, 30)
    wait_until(lambda: desk.touch("a/1") == ["a/1"], 30)


def test_a_home_without_a_helper_is_asked_again_ever_more_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helpers, "PATIENCE_S", 0.1)
    monkeypatch.setattr(helpers, "HANGING_MOST", 0)
    asked: list[float] = []
    now_s = [0.0]

    class Counting(Helpers):
        def _start(self, *of: object) -> object:  # type: ignore[override]
            asked.append(now_s[0])
            return super()._start(*of)  # type: ignore[arg-type]

    desk = Desk()
    desk.helpers = Counting(lambda: now_s[0] + time.monotonic())
    desk.helpers.offer("touch", desk._touch, desk.released)
    for minute in range(300):
        now_s[0] = minute * 60.0
        desk.touch("hang/1")
    desk.close()
    gaps = [after - before for before, after in itertools.pairwise(asked)]
    assert gaps == sorted(gaps)
    assert 5 <= len(asked) < 15
    assert gaps[-1] <= helpers.RETRY_MAX_S + 60


def test_a_helper_that_dies_is_replaced(desk: Desk) -> None:
    assert desk.touch("a/1") == ["a/1"]
    assert desk.touch("dies/1") == [None]
    assert desk.touch("a/1") == ["a/1"]
    (pid,) = desk.pids()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: pid not in desk.pids(), 10)
    wait_until(lambda: desk.touch("a/1") == ["a/1"], 10)


# ---------------------------------------------------------------- what a helper is


def test_a_helper_holds_nothing_that_its_parent_has_open(desk: Desk, tmp_path: Path) -> None:
    """Neither a lock, nor the terminal, nor a pipe that somebody waits to see closed."""
    with open(tmp_path / "lock", "w"):
        desk.touch("a/1")
        (pid,) = desk.pids()
        found = {os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")}
    assert {one for one in found if not one.startswith("pipe:")} == {os.devnull}
    assert len([one for one in found if one.startswith("pipe:")]) <= 3


def test_helpers_die_with_whoever_asked_them() -> None:
    """Also those that hang, and also if he is killed."""

    def scene() -> bool:
        told, tell = os.pipe()
        pid = os.fork()
        if pid == 0:
            desk = Desk()
            desk.touch("hang/1", "a/1")
            os.write(tell, b"".join(b"%d " % each for each in desk.pids()))
            signal.pause()
        pids = [int(word) for word in os.read(told, 100).split()]
        assert pids
        assert all(procs.identity(one) is not None for one in pids)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        me = procs.own_identity()
        wait_until(lambda: not procs.descendants(me), 10)
        return True

    assert on_stage(scene)


def test_a_child_of_ours_has_helpers_of_its_own(desk: Desk) -> None:
    """It must not take the answers that are meant for us."""
    desk.touch("a/1", "hang/1")
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(tell, b"1" if desk.touch("b/1") == ["b/1"] else b"0")
            desk.helpers.close()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(told, 1) == b"1"
    assert desk.touch("a/1", "hang/1") == ["a/1", None]
