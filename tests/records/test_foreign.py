"""Promises about names that are not ours: no record, request, number or environment, and never removed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from roundq.records import environments, ids, pings
from roundq.records import spool as spools
from roundq.records.shelf import Shelf
from roundq.records.spool import Spool
from roundq.words.states import STATES, WAITING
from tests.records.crowd import new_spool, submitted
from tests.records.foreign import leave, missing

NODE = "n1"
#: No process has it: Linux gives none above 2^22.
DEAD = 1 << 23


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return new_spool(tmp_path / "ann")


def test_none_is_taken_for_one_of_ours(spool: Spool) -> None:
    """Not by a listing, nor where requests, pings and environments are looked for."""
    left = leave(spool, NODE, DEAD)
    assert spools.scan(spool, STATES) == []
    assert spools.requests(spool) == {}
    assert pings.seen(spool) == ()
    assert environments.stored(spool) == set()
    assert missing(left) == []


def test_none_stands_on_a_shelf_but_those_that_look_like_jobs_are_told_of(spool: Spool) -> None:
    leave(spool, NODE, DEAD)
    shelf = Shelf(spool, WAITING)
    shelf.look(0.0)
    assert shelf.entries == {}
    assert shelf.misnamed
    assert all(name.endswith(".job") for name in shelf.misnamed)


def test_numbers_go_on_from_the_token_alone(spool: Spool) -> None:
    """A backup of it counts no jobs: whoever took that for the token would give numbers twice."""
    (first,) = submitted(spool)
    (token,) = os.listdir(spool.directory("ids"))
    Path(spool.directory("ids"), f"{token}~").touch()
    left = leave(spool, NODE, DEAD)
    assert [spools.scan(spool)[0].id, *submitted(spool)] == [first, str(int(first) + 1)]
    assert Path(spool.directory("ids"), f"{token}~").exists()
    assert missing(left) == []
    assert ids.take(spool.path, 1, NODE, lambda: 0) == int(first) + 2


def test_no_sweep_removes_one(spool: Spool) -> None:
    """Neither that of temporary files of dead processes, nor that of environments."""
    left = leave(spool, NODE, DEAD)
    mine = Path(spool.directory("tmp"), f"{NODE}.{DEAD}.0.0123abcd")
    mine.touch()
    spools.sweep_temporaries(spool, NODE, lambda: [os.getpid()])
    assert environments.sweep(spool, environments.stored(spool), 2e9) == 0
    assert not mine.exists(), "the sweep did work"
    assert missing(left) == []
