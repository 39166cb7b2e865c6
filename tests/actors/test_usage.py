"""The usage of this user on this node, counted between rounds and kept by the card; and that of all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from roundq.actors.tenants import Tenant
from roundq.actors.usage import Meter, usage_of
from roundq.records import cards
from roundq.records.cards import Card
from roundq.records.neighbours import Seen
from roundq.records.spool import Entry, Spool
from roundq.words.job import NS, Identity, Job, Record
from roundq.words.states import CLAIMED, RUNNING
from roundq.words.usage import decayed, most, used
from tests.records.crowd import new_spool

HOUR_S = 3600.0
HALF_S = 24 * HOUR_S
#: What the clock of the node says; its hardware threads.
NOW_NS, CORES = 1_790_000_000 * NS, 16
close = pytest.approx


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return new_spool(tmp_path / "ann")


@pytest.fixture
def meter(spool: Spool) -> Meter:
    return Meter(spool, "n1", "this machine")


def tenant(cores: int, state: str = RUNNING, age_s: float = 0.0, **fields: object) -> Tenant:
    is_on_threads = bool(fields.pop("threads", False))
    job = Job(("true",), cores=cores, **fields)  # type: ignore[arg-type]
    began_ns = NOW_NS - int(age_s * NS)
    process = Identity("boot", 17, 4)
    record = Record(job, began_ns, "n1", cores=cores, process=process, threads=is_on_threads)
    return Tenant(Entry("1", state, "n1", "1@n1.job", 1), record)


def publish(spool: Spool, usage: float, age_s: float, machine: str = "this machine") -> None:
    """The card of an earlier daemon, that old by the clock of the node."""
    written_ns = NOW_NS - int(age_s * NS)
    card = Card("ann", "n1", 1, 8, 16, 0, "1", machine=machine, usage=usage, written_ns=written_ns)
    cards.publish(spool, card)


def first(meter: Meter, *tenants: Tenant, now_ns: int = NOW_NS) -> float:
    return meter.look(tenants, 100.0, now_ns, HALF_S, CORES)


# ---------------------------------------------------------------- one's own


def test_what_runs_counts_by_its_cores_and_its_time(meter: Meter) -> None:
    """Four cores, then one: by the monotonic clock, whatever the other one says."""
    assert first(meter, tenant(4)) == 0.0

    half_way = meter.look([tenant(1)], 100.0 + HOUR_S, 5, HALF_S, CORES)
    assert half_way == close(used(4, HOUR_S, HALF_S))

    at_last = meter.look([], 100.0 + 2 * HOUR_S, NOW_NS * 2, HALF_S, CORES)
    assert at_last == close(decayed(half_way, HOUR_S, HALF_S) + used(1, HOUR_S, HALF_S))
    assert at_last == close(5 * HOUR_S, rel=0.05)
    assert meter.look([], 100.0 + 2 * HOUR_S + HALF_S, 0, HALF_S, CORES) == close(at_last / 2)


def test_how_often_is_looked_does_not_matter(spool: Spool) -> None:
    """Once an hour, or in rounds of a second."""
    often, seldom = Meter(spool, "n1", ""), Meter(spool, "n1", "")
    for second in range(3601):
        of_many = often.look([tenant(3)], float(second), NOW_NS, HALF_S, CORES)
    for hour_s in (0.0, HOUR_S):
        of_few = seldom.look([tenant(3)], hour_s, NOW_NS, HALF_S, CORES)

    assert of_many == close(of_few)


@pytest.mark.parametrize(
    "one",
    [tenant(4, scavenge=True), tenant(4, threads=True), tenant(4, CLAIMED)],
    ids=["scavenges", "on spare threads", "not begun"],
)
def test_what_takes_nothing_from_anybody_does_not_count(meter: Meter, one: Tenant) -> None:
    first(meter, one)

    assert meter.look([one], 100.0 + HOUR_S, NOW_NS, HALF_S, CORES) == 0.0


def test_the_next_daemon_goes_on_where_the_card_is(spool: Spool, meter: Meter) -> None:
    """Or the first after a reboot: what is on the card has decayed meanwhile, by the node's own clock."""
    publish(spool, 50_000.0, age_s=HALF_S)

    assert first(meter) == close(25_000.0)


def test_what_ran_without_a_daemon_is_added(spool: Spool, meter: Meter) -> None:
    """Who kills his daemon runs for no less: since the card for one job, since its begin for another."""
    publish(spool, 0.0, age_s=HOUR_S)

    usage = first(meter, tenant(2, age_s=5 * HOUR_S), tenant(3, age_s=HOUR_S / 2))

    assert usage == close(used(2, HOUR_S, HALF_S) + used(3, HOUR_S / 2, HALF_S))


def test_a_clock_that_was_set_back_has_no_time_pass(spool: Spool, meter: Meter) -> None:
    """Nothing decays, nothing is added; nobody's usage becomes more than it was."""
    publish(spool, 50_000.0, age_s=-5 * HOUR_S)

    assert first(meter, tenant(4, age_s=-HOUR_S)) == 50_000.0


def test_no_usage_is_more_than_the_node_could_give(spool: Spool, meter: Meter) -> None:
    """Whatever the card says, or a clock that was wrong when a job began."""
    publish(spool, 1e30, age_s=0.0)

    assert first(meter, tenant(4, age_s=1e9)) == close(most(CORES, HALF_S))


@pytest.mark.parametrize("usage", [float("nan"), float("inf"), -5.0])
def test_a_card_that_says_nonsense_counts_nothing_or_the_most(
    spool: Spool, meter: Meter, usage: float
) -> None:
    publish(spool, usage, age_s=0.0)

    assert 0.0 <= first(meter) <= most(CORES, HALF_S)


def test_the_card_of_a_namesake_is_not_gone_on_from(spool: Spool, meter: Meter) -> None:
    """It tells what was used of another machine."""
    publish(spool, 50_000.0, age_s=0.0, machine="another machine")

    assert first(meter) == 0.0


def test_a_card_that_cannot_be_read_now_is_waited_for(
    spool: Spool, meter: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a home that does not answer when a daemon begins would forgive all."""
    publish(spool, 50_000.0, age_s=0.0)
    with monkeypatch.context() as patch:

        def refuse(*_: object) -> Card:
            raise OSError(5, "Input/output error")

        patch.setattr(cards, "read", refuse)
        with pytest.raises(OSError, match="Input/output"):
            first(meter)

    assert first(meter) == close(50_000.0)


def test_a_card_that_is_none_begins_anew(spool: Spool, meter: Meter) -> None:
    """Nothing is there, or nothing that is a card."""
    with open(os.path.join(spool.path, "n1"), "w") as file:
        file.write("{")

    assert first(meter) == 0.0


# ---------------------------------------------------------------- everybody's


def seen(user: str, node: str, usage: float, silent_s: float = 0.0, cores: int = 8) -> Seen:
    card = Card(user, node, 1, cores, 2 * cores, 0, "1", cores=cores, usage=usage)
    return Seen(Spool(f"/home/{user}/.roundqueue", user, 1), card, silent_s < 600, silent_s)


def test_the_usage_of_a_user_is_that_of_all_cards() -> None:
    """Also of silent nodes, decayed by how long nothing was heard of them."""
    found = [
        seen("ann", "n1", 1000.0),
        seen("ann", "n2", 2000.0, silent_s=HALF_S),
        seen("bob", "n1", 500.0),
        seen("carl", "n1", 0.0),
    ]

    assert usage_of(found, HALF_S) == {"ann": close(2000.0), "bob": 500.0, "carl": 0.0}


def test_a_node_that_is_told_of_twice_counts_once() -> None:
    """In a home and in the commons; the fresher one counts."""
    found = [seen("ann", "n1", 1000.0), seen("ann", "n1", 900.0, silent_s=60.0)]

    assert usage_of(found, HALF_S) == {"ann": 1000.0}


@pytest.mark.parametrize("usage", [1e300, float("inf"), float("nan"), -1e300])
def test_a_liar_says_nothing_of_others(usage: float) -> None:
    """And of himself at most that he used all of a node always, or nothing."""
    found = usage_of([seen("ann", "n1", 1000.0), seen("eve", "n1", usage)], HALF_S)

    assert found["ann"] == 1000.0
    assert 0.0 <= found["eve"] <= most(16, HALF_S)
