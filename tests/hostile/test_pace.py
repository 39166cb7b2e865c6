"""A promise about others who change their cards as fast as they can: my daemon does not run as fast."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from roundq.actors import daemon
from roundq.actors.daemon import Daemon
from roundq.world.nodelock import NodeLock
from tests.actors.spoolhome import SpoolHome


class Stage:
    """A daemon whose time goes on only while it waits, and what happens while it does."""

    def __init__(self, home: SpoolHome, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 1000.0
        self.daemon = Daemon(home.spool, NodeLock(home.spool.path), home.environ)
        self.touched: Iterator[tuple[float, set[str]]] = iter(())
        monkeypatch.setattr(self.daemon.watcher, "wait", self._wait)
        monkeypatch.setattr(time, "monotonic", lambda: self.now_s)

    def _wait(self, timeout_s: float, _: object) -> set[str]:
        after_s, touched = next(self.touched, (1e9, set()))
        self.now_s += min(after_s, timeout_s)
        return touched if after_s <= timeout_s else set()

    def rounds(self, seconds: float) -> int:
        """How many rounds are played in that time."""
        end_s, count = self.now_s + seconds, 0
        while self.now_s < end_s:
            count += self.daemon._listens(15.0, {"/home/eve", "/home/bob"})
        return count


@pytest.fixture
def stage(home: SpoolHome, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stage:
    before = os.dup(2)
    monkeypatch.chdir(tmp_path)
    made = Stage(home, monkeypatch)
    os.dup2(before, 2)
    os.close(before)
    return made


def test_a_card_that_changes_all_the_time_does_not_drive_my_daemon(stage: Stage) -> None:
    """A thousand changes a second make twenty rounds."""
    stage.touched = iter([(0.001, {"/home/eve"})] * 10_000)
    assert stage.rounds(5.0) <= 5.0 / daemon.PACE_S + 1


def test_a_card_that_changes_now_and_then_is_seen_at_once(stage: Stage) -> None:
    stage.touched = iter([(1.0, {"/home/bob"})] * 5)
    for number in range(5):
        assert stage.daemon._listens(15.0, {"/home/bob"})
        assert stage.now_s == 1001.0 + number


def test_what_is_mine_is_seen_at_once_whatever_others_do(stage: Stage) -> None:
    """A submission, and a request."""
    stage.touched = iter([(0.001, {"/home/eve"})] * 30 + [(0.001, {"/home/ann"}), (0.001, {"/home/eve"})])
    assert stage.daemon._listens(15.0, {"/home/eve"})
    assert stage.daemon._listens(15.0, {"/home/eve"})
    assert stage.now_s < 1000.0 + 0.04


def test_a_change_that_came_too_soon_is_not_forgotten(stage: Stage) -> None:
    stage.touched = iter([(0.001, {"/home/eve"}), (0.001, {"/home/eve"})])
    assert stage.daemon._listens(15.0, {"/home/eve"})
    assert stage.daemon._listens(15.0, {"/home/eve"})
    assert stage.now_s <= 1000.0 + 0.002 + daemon.PACE_S
