"""When jobs give way: after a while, one node after the other, and what scavenges at once."""

from __future__ import annotations

from dataclasses import replace

from roundq.actors import courtesy
from roundq.actors.asked import GONE_S, SCAVENGING_GONE_S
from roundq.actors.courtesy import APART_S, OWED_S, PATIENCE_S, RANK_MAX, SCAVENGING_S, Courtesy, Owed
from roundq.actors.occupancy import Lodger
from roundq.records.cards import Card, Occupant
from roundq.records.neighbours import Seen
from roundq.records.spool import Spool
from roundq.words.job import Identity

PROCESS = Identity("boot", 7, 7)
ANN = Spool("/home/ann/.roundqueue", "ann", 1001)


def job(since_ns: int = 0, *, scavenge: bool = False, restartable: bool = True) -> Occupant:
    return Occupant(
        "1",
        "running",
        1,
        0,
        False,
        0,
        True,
        since_ns,
        process=PROCESS,
        restartable=restartable,
        scavenge=scavenge,
    )


def seen(node: str, *jobs: Occupant, user: str = "ann", is_alive: bool = True) -> Seen:
    return Seen(ANN, Card(user, node, 1, 4, 4, 0, version="1", jobs=jobs), is_alive, 0.0)


def test_a_restartable_job_gives_way_only_after_a_while() -> None:
    """Many waits end by themselves, and what the job has done would be lost for nothing."""
    one = Courtesy()
    assert not one.is_due([job()], 0, 100.0)
    assert one.again_s(0, 100.0) == PATIENCE_S
    assert not one.is_due([job()], 0, 100.0 + PATIENCE_S - 0.1)
    assert one.is_due([job()], 0, 100.0 + PATIENCE_S)


def test_what_scavenges_gives_way_when_nothing_else_was_found_at_once() -> None:
    """It has no claim to be where it is; but who finds room elsewhere needs no place of it."""
    one = Courtesy()
    assert not one.is_due([job(scavenge=True)], 0, 100.0)
    assert one.again_s(0, 100.0) == SCAVENGING_S
    assert one.is_due([job(scavenge=True)], 0, 100.0 + SCAVENGING_S)
    assert not one.is_due([job(scavenge=True), job()], 0, 100.0 + SCAVENGING_S)
    assert one.is_due([job(scavenge=True), job()], 0, 100.0 + PATIENCE_S)


def test_the_wish_must_stand_all_the_time() -> None:
    """A wait that ended, and one that came after it, are two."""
    one = Courtesy()
    one.is_due([job()], 0, 100.0)
    one.is_due([], 0, 105.0)
    assert not one.is_due([job()], 0, 100.0 + PATIENCE_S)
    one.forget()
    assert one.again_s(0, 200.0) == float("inf")


def test_nodes_act_one_after_the_other() -> None:
    """For one who waits one job gives way, not one on each node."""
    first, second = Courtesy(), Courtesy()
    for one, rank in ((first, 0), (second, 1)):
        one.is_due([job()], rank, 0.0)
    assert first.is_due([job()], 0, PATIENCE_S)
    assert not second.is_due([job()], 1, PATIENCE_S + APART_S - 0.1)
    assert second.is_due([job()], 1, PATIENCE_S + APART_S)


def test_no_node_waits_for_more_than_a_few_others() -> None:
    """What they could give may not suffice, and what their cards tell may be invented."""
    assert Courtesy().again_s(99, 0.0) == float("inf")
    one = Courtesy()
    one.is_due([job()], 99, 0.0)
    assert one.again_s(99, 0.0) == PATIENCE_S + RANK_MAX * APART_S


def test_of_what_scavenges_the_youngest_of_all_users_comes_first() -> None:
    cards = (
        seen("n1", job(9), job(5, scavenge=True)),
        seen("n2", job(7, scavenge=True), user="bob"),
        seen("n2", job(8, scavenge=True), user="cyd"),
    )
    here = [job(6, scavenge=True)]
    assert courtesy.rank(cards, "ann", "n3", here, only_scavenges=True) == 1
    assert courtesy.rank(cards, "ann", "n3", here) == 1
    assert courtesy.rank(cards, "dan", "n3", here) == 0


def test_the_node_of_the_youngest_job_is_the_first() -> None:
    """Of all my jobs that could give way the youngest loses least; of equals one node is first."""
    cards = (seen("n1", job(5)), seen("n2", job(9)), seen("n3", job(9, restartable=False)))
    assert courtesy.rank(cards, "ann", "n2", [job(9)]) == 0
    assert courtesy.rank(cards, "ann", "n1", [job(5)]) == 1
    assert courtesy.rank(cards, "ann", "n3", [job(9, restartable=False)]) == 2
    assert {
        courtesy.rank((seen("n1", job(5)), seen("n2", job(5))), "ann", n, [job(5)]) for n in ("n1", "n2")
    } == {0, 1}


def test_others_and_the_silent_do_not_count() -> None:
    """Who does not act must not be waited for."""
    cards = (seen("n2", job(9), user="bob"), seen("n3", job(9), is_alive=False))
    assert courtesy.rank(cards, "ann", "n1", [job(5)]) == 0


def test_a_job_that_ought_to_give_way_is_counted_on_for_a_while() -> None:
    """Longer than an honest daemon needs to ask it; from then on not, under whatever id it is told."""
    assert OWED_S >= SCAVENGING_S + RANK_MAX * APART_S + SCAVENGING_GONE_S
    owed, there = Owed(), [Lodger("eve", job(scavenge=True)), Lodger("bob", job(scavenge=True))]
    for now_s in range(1000, 1000 + int(OWED_S), 5):
        assert owed.look({("eve", "1")}, there, float(now_s)) == frozenset()
    assert owed.look({("eve", "1")}, there, 1000.0 + OWED_S) == {("eve", "1")}
    other = [Lodger("eve", replace(job(scavenge=True), id="2", leaving=True))]
    assert owed.look(frozenset(), other, 1005.0 + OWED_S) == {("eve", "2")}
    assert owed.look(frozenset(), [], 1010.0 + OWED_S) == frozenset()
    assert owed.look(frozenset(), there, 1015.0 + OWED_S) == frozenset()


def test_a_job_that_was_asked_is_counted_on_until_it_ought_to_be_gone() -> None:
    owed, there = Owed(), [Lodger("eve", replace(job(), leaving=True))]
    for now_s in range(1000, 1000 + int(GONE_S), 30):
        assert owed.look(frozenset(), there, float(now_s)) == frozenset()
    assert owed.look(frozenset(), there, 1000.0 + GONE_S) == {("eve", "1")}


def test_who_says_by_turns_that_a_job_leaves_and_that_it_does_not_is_not_believed() -> None:
    owed = Owed()
    for number in range(int(OWED_S / 5)):
        there = [Lodger("eve", replace(job(scavenge=True), leaving=number % 2 == 0))]
        assert owed.look({("eve", "1")}, there, 1000.0 + 5 * number) == frozenset()
    assert owed.look({("eve", "1")}, [Lodger("eve", job(scavenge=True))], 1000.0 + OWED_S) == {("eve", "1")}


def test_what_was_not_owed_all_the_time_is_counted_on() -> None:
    """It may have been its turn only now and then, or nobody looked."""
    owed, there = Owed(), [Lodger("eve", job(scavenge=True))]
    for now_s in range(1000, 2000, 50):
        assert owed.look({("eve", "1")} if now_s % 100 else frozenset(), there, float(now_s)) == frozenset()
    owed.look({("eve", "1")}, there, 2000.0)
    assert owed.look({("eve", "1")}, there, 2000.0 + OWED_S) == frozenset()
