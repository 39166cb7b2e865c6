"""Promises about the section TURNS of roundqueue(7): its numbers are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

from roundq.actors import asked, courtesy, survey
from roundq.words import backfill, fairness
from roundq.words.facts import coarse
from roundq.words.fairness import Shares

PAGE = (Path(__file__).parent.parent / "man" / "roundqueue.7").read_text()
TURNS = " ".join(PAGE.partition("\n.Sh TURNS\n")[2].partition("\n.Sh ")[0].split())


def test_the_tilt_is_as_it_is_told() -> None:
    assert "2 to the power of \\-U/s, and never less than a quarter" in TURNS
    assert fairness.TILT_MIN == 1 / 4
    steps = re.search(r"in steps of 1/(\d+)", TURNS)
    assert steps
    assert 1 / int(steps[1]) == fairness.USED_STEP
    shares = Shares(frozenset({"ann", "bob"}), 8, {"ann": 3.0}, {"ann": 0.75, "bob": 0.125})
    # What is due: three quarters, and one.
    assert (shares.tilt("ann"), shares.tilt("bob")) == (2.0**-1, 2.0**-0.5)


def test_how_a_node_is_chosen_is_as_it_is_told() -> None:
    assert "a job without one counts as a day, and times within five minutes as equal" in TURNS
    assert backfill.UNKNOWN_S == 24 * 3600
    assert backfill.STEP_S == 5 * 60


def test_a_time_limit_on_a_card_is_rounded_as_it_is_told() -> None:
    assert "rounded up to 1, 2 or 5 times a power of ten, in minutes" in " ".join(PAGE.split())
    told = {1.0: 60.0, 61.0: 120.0, 121.0: 300.0, 301.0: 600.0, 3600.0: 6000.0, 86_400.0: 120_000.0}
    assert {limit_s: coarse(limit_s) for limit_s in told} == told
    assert coarse(None) is None


def test_how_long_others_are_counted_on_is_as_it_is_told() -> None:
    """For turns and for giving way."""
    assert "no daemon on the node that was heard of within three minutes" in TURNS
    assert survey.STUCK_S == 3 * 60
    assert "was not asked for two minutes, and any that was asked and is there for twelve" in TURNS
    assert (courtesy.OWED_S, asked.GONE_S) == (2 * 60, 12 * 60)
