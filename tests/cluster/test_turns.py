"""The judges of turns are judged, too."""

from __future__ import annotations

import pytest

from tests.cluster import turns
from tests.cluster.checkers import Interval

ANN, BOB = 1, 2
FAIR = {ANN: 2.0, BOB: 2.0}


def ran(uid: int, start: float, end: float, cores: int = 1) -> Interval:
    return Interval(f"{uid}-{start:g}", "n1", uid, cores, start, end, True)


def test_shares_are_averages() -> None:
    """Of what lies in the time that is asked for."""
    runs = [ran(ANN, 0, 10, 2), ran(BOB, 4, 5), ran(BOB, 9, 12), ran(ANN, 20, 30)]

    assert turns.shares(runs, 2, 10) == {ANN: 2.0, BOB: pytest.approx(2 / 8)}


def test_who_begins_one_more_although_he_has_more_than_fair_is_found() -> None:
    """With two as fair, the fourth; unless all began in one moment, on several nodes."""
    three = [ran(ANN, 0, 20), ran(ANN, 0.1, 20), ran(ANN, 3, 20)]

    assert turns.too_many(three, FAIR, 0, 30) == []
    assert turns.too_many([*three, ran(ANN, 3.5, 20)], FAIR, 0, 30) == []
    wrong = turns.too_many([*three, ran(ANN, 5, 20)], FAIR, 0, 30)
    assert wrong == ["1-5 on n1 (5.000 to 20.000, cores 1) began when its user had 3 cores, and fair are 2"]
    assert turns.too_many([*three, ran(ANN, 5, 20)], FAIR, 6, 30) == []
    assert turns.too_many([*three, ran(ANN, 20, 21)], FAIR, 0, 30) == []


def test_time_apart_from_fair_is_counted() -> None:
    """Too many for one, or too few for one because others have them, but not what is free for a moment."""
    even = [ran(ANN, 0, 10, 2), ran(BOB, 0, 10, 2)]

    assert turns.apart(even, FAIR, 0, 10) == 0
    assert turns.apart([ran(ANN, 0, 10, 3), ran(BOB, 0, 10, 1)], FAIR, 0, 10) == 0
    assert turns.apart([ran(ANN, 0, 10, 4)], FAIR, 0, 10) == 1
    assert turns.apart([ran(ANN, 0, 10, 2), ran(ANN, 5, 10, 2)], FAIR, 0, 10) == 0.5
    assert turns.apart([ran(ANN, 0, 10, 2)], FAIR, 0, 10) == 0
    assert turns.apart([ran(ANN, 0, 10, 3), ran(3, 0, 10, 1)], {ANN: 2, BOB: 2}, 0, 10) == 1


def test_the_most_at_once_is_counted_at_every_instant() -> None:
    """Who ends makes room at that instant."""
    runs = [ran(ANN, 0, 2), ran(ANN, 1, 3, 2), ran(ANN, 2, 4), ran(BOB, 0, 9)]

    assert turns.most_at_once(runs, ANN) == (2, 3)
    assert turns.most_at_once(runs, BOB) == (1, 1)
