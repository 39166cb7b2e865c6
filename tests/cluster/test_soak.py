"""The soak in small: a schedule is its seed's, and a short run of everything comes out well."""

from __future__ import annotations

import pytest

from tests.cluster import soak
from tests.cluster.schedule import OF_NODES, OF_USERS, RULES, schedule


def test_a_schedule_is_that_of_its_seed() -> None:
    """The same again for the same seed, another for another; all kinds of faults are in it."""
    events = schedule(1, 600, soak.NODES, soak.USERS)

    assert [str(event) for event in schedule(1, 600, soak.NODES, soak.USERS)] == [str(e) for e in events]
    assert [str(event) for event in schedule(2, 600, soak.NODES, soak.USERS)] != [str(e) for e in events]
    assert {*OF_NODES, *OF_USERS, "submit", "cancel", "restart"} == {event.kind for event in events}
    assert {*RULES} < {*OF_NODES}
    assert events == sorted(events)


@pytest.mark.usefixtures("make_cluster")
def test_a_short_soak_loses_nothing_runs_nothing_twice_and_tells_the_truth() -> None:
    """Ten seconds of everything, and the judgement."""
    table, wrong = soak.run(10, 20261121, print)

    assert not any(wrong.values()), (wrong, table)
    assert "faults                              0" not in table
