"""The process around the rounds: what it does not write any more, and what does not wake it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from roundq.actors.daemon import AFTER_ERROR_S, Daemon
from roundq.records import cards
from roundq.records import spool as spools
from roundq.world.nodelock import NodeLock
from tests.actors.spoolhome import NODE, SpoolHome


@pytest.mark.usefixtures("_own_stderr")
def test_a_daemon_that_lost_its_lock_leaves_without_a_word(home: SpoolHome, tmp_path: Path) -> None:
    """It slept, its lock was cleaned away, another came: card and claims bear the same names, but are the
    other's. Its last card would hide the other's jobs, and it would give back the other's claims."""
    places = (str(tmp_path / "locks"),)
    Path(places[0]).mkdir()
    old = NodeLock(home.spool.path, places)
    assert old.acquire()
    daemon = Daemon(home.spool, old, home.environ)
    job = home.submit("true")
    for directory in Path(places[0]).iterdir():
        for file in directory.iterdir():
            file.unlink()
    new = NodeLock(home.spool.path, places)
    assert new.acquire()
    claimed = home.claim(job)
    daemon.round.tenants.look()
    theirs = Path(home.spool.path, NODE)
    theirs.write_text("the card of the other daemon")

    daemon.serve()

    assert theirs.read_text() == "the card of the other daemon"
    assert home.entry(job) == claimed
    new.release()


@pytest.mark.usefixtures("_own_stderr")
def test_neighbours_wake_only_who_has_something_to_start(home: SpoolHome) -> None:
    """An idle daemon sleeps through the day of others."""
    neighbour = SpoolHome(home.home.parent, "bob")
    lock = NodeLock(home.spool.path)
    assert lock.acquire()
    daemon = Daemon(home.spool, lock, home.environ)
    job = home.submit("true", cores=100_000)
    daemon.round.run(100.0)
    daemon._wait(0.0)
    Path(neighbour.spool.path, NODE).touch()
    assert daemon.watcher.wait(20.0) == {neighbour.spool.path}

    (entry,) = spools.scan(home.spool, ("waiting",))
    assert spools.cancel(home.spool, entry, 1, NODE)
    daemon.round.run(110.0)
    daemon._wait(0.0)
    Path(neighbour.spool.path, NODE).touch()
    Path(neighbour.spool.path, "another").touch()

    assert home.state(job) == "canceled"
    assert daemon.watcher.wait(0.0) == set()
    lock.release()


@pytest.mark.usefixtures("_own_stderr")
def test_one_pass_that_fails_leaves_no_claim_behind(home: SpoolHome, monkeypatch: pytest.MonkeyPatch) -> None:
    """No daemon comes after it that would give the job back, and no other node may."""
    lock = NodeLock(home.spool.path)
    assert lock.acquire()
    daemon = Daemon(home.spool, lock, home.environ)
    job = home.submit("true")

    def full(*_: object) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(cards, "publish", full)
    with pytest.raises(OSError, match="quota"):
        daemon.once()

    assert home.state(job) == "waiting"
    lock.release()


@pytest.mark.usefixtures("_own_stderr")
def test_a_mistake_of_ours_ends_a_round_and_no_daemon(
    home: SpoolHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told once, with all that helps to find it; the watchdog is not told that all is well."""
    lock = NodeLock(home.spool.path)
    assert lock.acquire()
    daemon = Daemon(home.spool, lock, home.environ)
    said: list[str] = []
    monkeypatch.setattr(daemon.notifier, "say", said.append)
    rounds = daemon.round.run
    monkeypatch.setattr(daemon.round, "run", lambda _: [][0])

    assert daemon._play() == daemon._play() == AFTER_ERROR_S
    assert daemon.round_failed == "an error of roundq itself: IndexError('list index out of range')"
    assert all(text.startswith("STATUS=a round failed: ") for text in said)
    told = Path(home.spool.path, f"{NODE}.log").read_text()
    assert told.count("a round failed: an error of roundq itself") == 2
    assert told.count("Traceback") == 1

    monkeypatch.setattr(daemon.round, "run", rounds)
    daemon._play()
    assert daemon.round_failed is None
    assert said[-1].startswith("WATCHDOG=1\n")
    lock.release()
