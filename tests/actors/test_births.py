"""Births, one step at a time: whatever fails or dies between claim and command, no core is promised twice."""

from __future__ import annotations

import errno
import logging
import os
import signal
from pathlib import Path

import pytest

from roundq.actors import occupancy
from roundq.actors.round import Round
from roundq.records import cards
from roundq.records import spool as spools
from roundq.records.spool import Spool
from roundq.words.states import CLAIMED, COMPLETED, RUNNING, WAITING
from roundq.world import files
from roundq.world.config import Config
from roundq.world.node import Node
from tests.actors.spoolhome import NODE, SpoolHome
from tests.cluster.wait import wait_until

HOLD = "while [ ! -e go ]; do sleep 0.02; done"


@pytest.fixture(autouse=True)
def _at_home(home: SpoolHome, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs get the environment of this process: by it `home` finds them in the end."""
    monkeypatch.setenv("HOME", str(home.home))


class Death(BaseException):
    """The daemon's, at a chosen instant."""


def round_of(home: SpoolHome, *others: SpoolHome, cores: int = 4) -> Round:
    """The rounds of a daemon that just started."""
    config = Config(tuple(str(one.home.parent) for one in (home, *others)), cores=cores)
    return Round(home.spool, Node(home.environ), lambda: (config, None), logging.getLogger("test"), 1)


def state_settles(home: SpoolHome, job: str, state: str) -> None:
    wait_until(lambda: home.state(job) == state, 20, on_timeout=home.story)


def test_a_daemon_that_dies_at_a_birth_leaves_the_job_on_its_card(
    home: SpoolHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gate is open and the job runs on without it: to neighbours its cores must not look free."""
    job = home.shell(HOLD)
    one = round_of(home)
    write = os.write

    def dies_after(descriptor: int, data: bytes) -> int:
        written = write(descriptor, data)
        if data == b"1":
            raise Death
        return written

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", dies_after)
        with pytest.raises(Death):
            one.run(100.0)

    card = cards.read(home.spool, NODE)
    assert [lodger.job.id for lodger in occupancy.on_card(card, os.geteuid(), daemon_lives=False)] == [job]
    (home.home / "go").touch()
    assert home.wait_for(job).exit_code == 0


def test_a_birth_that_fails_spoils_no_other(home: SpoolHome, monkeypatch: pytest.MonkeyPatch) -> None:
    """No process can be made for the first, and the home does not take it back either, for the moment."""
    first, second = home.shell("true"), home.shell("true")
    one = round_of(home)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with monkeypatch.context() as patch:
        fork, withdraw = os.fork, spools.withdraw

        def no_fork() -> int:
            patch.setattr(os, "fork", fork)
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

        def no_withdrawal(*_: object) -> bool:
            patch.setattr(spools, "withdraw", withdraw)
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        patch.setattr(os, "fork", no_fork)
        patch.setattr(spools, "withdraw", no_withdrawal)
        one.run(100.0)

    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask
    assert home.wait_for(second).exit_code == 0
    assert home.state(first) == CLAIMED
    one.run(100.1)
    assert home.state(first) == WAITING


def test_after_a_birth_that_failed_nothing_is_claimed_for_a_while(
    home: SpoolHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Claim and return wake the daemon at once: without a pause a user at the limit of his processes
    would claim and return for as long as that lasts."""
    job = home.shell("true")
    one = round_of(home)
    tried: list[float] = []
    now_s = 100.0

    def no_fork() -> int:
        tried.append(now_s)
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fork", no_fork)
        for now_s in (100.0, 100.1, 101.0):
            one.run(now_s)

    assert tried == [100.0]
    assert home.state(job) == WAITING
    one.run(110.0)
    state_settles(home, job, COMPLETED)


def test_nobody_is_born_whom_no_card_names(home: SpoolHome, monkeypatch: pytest.MonkeyPatch) -> None:
    """The card with the claims was written, the one with the supervisors cannot be: nothing begins."""
    jobs = [home.shell("echo ran >> ran") for _ in range(2)]
    one = round_of(home)
    publish = cards.publish

    def full(spool: Spool, card: cards.Card) -> None:
        if any(occupant.process for occupant in card.jobs):
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        publish(spool, card)

    with monkeypatch.context() as patch:
        patch.setattr(cards, "publish", full)
        with pytest.raises(OSError, match="quota"):
            one.run(100.0)

    assert [home.state(job) for job in jobs] == [WAITING, WAITING]
    assert one.tenants.by_id == {}
    one.run(110.0)
    for job in jobs:
        state_settles(home, job, COMPLETED)
    assert home.output("ran").split() == ["ran", "ran"]


def test_two_users_of_one_name_do_not_overbook(home: SpoolHome, tmp_path: Path) -> None:
    """Homes of several departments, or two spools of one user: what tells them apart is the path."""
    other = SpoolHome(tmp_path / "department", home.spool.user)
    job, late = home.shell(HOLD), other.shell("true")
    one, two = round_of(home, other, cores=1), round_of(other, home, cores=1)
    one.run(100.0)
    state_settles(home, job, RUNNING)

    two.run(100.0)

    assert other.state(late) == WAITING
    (home.home / "go").touch()
    home.wait_for(job)


@pytest.mark.parametrize("what", ["card", "home parent"])
def test_a_neighbour_who_cannot_be_read_for_a_moment_still_occupies(
    home: SpoolHome, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """An error of the server is no proof that nobody is there."""
    bob = SpoolHome(home.home.parent, "bob")
    job = bob.shell(HOLD)
    round_of(bob, cores=1).run(100.0)
    state_settles(bob, job, RUNNING)
    late, ours = home.submit("true", cores=100), round_of(home, cores=1)
    ours.run(100.0)
    assert [lodger.job.id for lodger in ours._lodgers()] == [job]
    late = home.shell("true")
    read, listing = cards.read, files.listing

    def no_card(spool: Spool, node: str) -> cards.Card:
        if spool.user == "bob":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(spool, node)

    def no_parent(directory: str, *, most: int = files.NAMES_MAX) -> list[files.Name]:
        if directory == str(home.home.parent):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return listing(directory, most=most)

    with monkeypatch.context() as patch:
        patch.setattr(cards, "read", no_card if what == "card" else read)
        patch.setattr(files, "listing", listing if what == "card" else no_parent)
        ours.run(200.0)

    assert home.state(late) == WAITING
    (bob.home / "go").touch()
    bob.wait_for(job)
