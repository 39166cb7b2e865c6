"""Promises about pings: seen by every daemon, bounded, removed by whoever left them or when stale."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from roundq.records import cards, pings
from roundq.records import spool as spools
from roundq.records.spool import Spool
from tests.records.crowd import leftovers, new_spool


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return new_spool(tmp_path / "ann")


def test_a_ping_is_seen_until_it_is_removed(spool: Spool) -> None:
    """It is no request, and nothing else is left of it."""
    one, other = pings.token(), pings.token()
    assert one != other
    pings.leave(spool, one, "n1")
    pings.leave(spool, other, "n2")
    assert pings.seen(spool) == tuple(sorted((one, other)))
    assert spools.requests(spool) == {}
    pings.remove(spool, one)
    pings.remove(spool, one)
    assert pings.seen(spool) == (other,)
    assert leftovers(spool) == []


def test_a_card_shows_no_more_than_it_may(spool: Spool) -> None:
    """Whoever leaves a thousand fills no card."""
    for number in range(100):
        Path(spool.directory("requests"), f"{number:016x}.ping").touch()
    assert len(pings.seen(spool)) == cards.PONGS_MAX


@pytest.mark.parametrize(
    "name", ["1.ping", "0123456789ABCDEF.ping", "0123456789abcdef0.ping", "x" * 16 + ".ping"]
)
def test_what_is_no_token_is_no_ping(name: str, spool: Spool) -> None:
    """A job may have any name."""
    Path(spool.directory("requests"), name).touch()
    assert pings.seen(spool) == ()


def test_a_stale_ping_is_swept_and_a_new_one_is_not(spool: Spool) -> None:
    now_s = time.time()
    old, new = "0" * 16, "f" * 16
    for ping in (old, new):
        pings.leave(spool, ping, "n1")
    then_s = now_s - pings.STALE_S - 1
    os.utime(f"{spool.directory('requests')}/{old}.ping", (then_s, then_s))
    pings.sweep(spool, pings.seen(spool), now_s)
    assert pings.seen(spool) == (new,)
