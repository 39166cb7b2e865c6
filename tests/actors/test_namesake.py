"""Two living nodes of one name: each would take the jobs of the other for dead. Cards tell them apart."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from roundq.actors.namesake import WATCH_S, Namesake
from roundq.records import cards
from roundq.records import spool as spools
from roundq.records.cards import Card, Occupant
from roundq.words.job import Identity
from roundq.world import files

if TYPE_CHECKING:
    from pathlib import Path

    from roundq.records.spool import Spool

ME = Identity("boot-now", 7, 70)
BEFORE = Identity("boot-before", 7, 70)
THEIRS = Card("ann", "n1", 7, 2, 2, 0, version="1", process=BEFORE, beat=3, cores=2, machine="that one")


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    made = spools.at(str(tmp_path), "ann", os.getuid())
    spools.prepare(made)
    return made


@pytest.fixture
def namesake(spool: Spool) -> Namesake:
    return Namesake(spool, "n1", ME, "this one")


def test_a_name_that_nobody_had_is_mine(namesake: Namesake) -> None:
    """There is no card."""
    assert namesake.look(0.0, has_published=False) is None


def test_a_card_of_this_boot_is_that_of_an_earlier_daemon_of_mine(spool: Spool, namesake: Namesake) -> None:
    """Nobody else can have this boot id."""
    cards.publish(spool, replace(THEIRS, process=replace(ME, pid=8)))

    assert namesake.look(0.0, has_published=False) is None
    assert namesake.look(1.0, has_published=True) is None


def test_after_a_reboot_the_name_is_mine_at_once(spool: Spool, namesake: Namesake) -> None:
    """The card is that of this very machine, of another boot."""
    cards.publish(spool, replace(THEIRS, machine="this one"))

    assert namesake.look(0.0, has_published=False) is None


@pytest.mark.parametrize("machine", ["that one", ""])
def test_the_card_of_another_machine_is_watched_for_a_while(
    spool: Spool, namesake: Namesake, machine: str
) -> None:
    """Also if it does not say which; once it has stood still for long enough, its daemon does not live."""
    cards.publish(spool, replace(THEIRS, machine=machine))

    assert "is watched" in (namesake.look(0.0, has_published=False) or "")
    assert "is watched" in (namesake.look(WATCH_S - 1, has_published=False) or "")
    assert not namesake.lives
    assert namesake.look(WATCH_S, has_published=False) is None


def test_a_machine_that_left_with_nothing_running_is_not_watched(spool: Spool, namesake: Namesake) -> None:
    """One that left jobs behind is: their supervisors may live."""
    job = Occupant("1", "running", 1, 0, False, 0, True)
    cards.publish(spool, replace(THEIRS, state=cards.LEAVING))
    assert namesake.look(0.0, has_published=False) is None

    cards.publish(spool, replace(THEIRS, state=cards.LEAVING, jobs=(job,)))
    assert Namesake(spool, "n1", ME, "this one").look(0.0, has_published=False) is not None


def test_a_beat_proves_a_living_namesake(spool: Spool, namesake: Namesake) -> None:
    """For as long as it goes on, and a while after the last one."""
    cards.publish(spool, THEIRS)
    namesake.look(0.0, has_published=False)

    cards.publish(spool, replace(THEIRS, beat=4))

    assert "another living node" in (namesake.look(1.0, has_published=False) or "")
    assert namesake.lives
    assert "another living node" in (namesake.look(WATCH_S, has_published=False) or "")
    assert namesake.look(1.0 + WATCH_S, has_published=False) is None


def test_a_card_over_mine_proves_a_living_namesake(spool: Spool, namesake: Namesake) -> None:
    """Both began at once: whoever wrote later lives, whatever machine it says it is."""
    cards.publish(spool, replace(THEIRS, process=ME))
    namesake.look(0.0, has_published=True)

    cards.publish(spool, replace(THEIRS, machine="this one"))

    assert "another living node" in (namesake.look(1.0, has_published=True) or "")


def test_what_cannot_be_read_is_no_namesake(
    spool: Spool, namesake: Namesake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rubbish under the name; but where the home does not answer nothing is known, and that is said."""
    with open(f"{spool.path}/n1", "w") as file:
        file.write("rubbish")
    assert namesake.look(0.0, has_published=False) is None
    os.unlink(f"{spool.path}/n1")
    os.symlink("n1", f"{spool.path}/n1")
    assert namesake.look(1.0, has_published=False) is None

    def refuse(path: str) -> tuple[int, int, int]:
        raise OSError(errno.EIO, "an error of the server", path)

    monkeypatch.setattr(files, "signature", refuse)
    with pytest.raises(OSError, match="error of the server"):
        namesake.look(2.0, has_published=False)
