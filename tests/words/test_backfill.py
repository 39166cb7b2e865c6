"""Promises about a node that is kept for a wide job: what fills in does not delay it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roundq.words.backfill import End, Offer, Stay, fits_in_s, is_for_another, keepers, reserve
from roundq.words.policy import Decision, Holding, Neighbour, Shape, Snapshot, Want, decide
from roundq.words.quantities import GIB
from roundq.words.room import Need, Room

LONG = 9999.0
NODE = Snapshot("node1", "ann", 8, 32 * GIB, 32 * GIB)
WIDE = Want("1", 8, 0, 1, waited_s=LONG)


def held(cores: int, left_s: float | None = None, **more: object) -> Holding:
    return Holding("cyd", str(100 + cores), cores, left_s=left_s, **more)  # type: ignore[arg-type]


def kept(*wants: Want, holdings: tuple[Holding, ...] = (held(4, 1500.0),), wide: Want = WIDE) -> Decision:
    return decide(replace(NODE, holdings=holdings, wants=(wide, *wants)))


# ---------------------------------------------------------------- what fills in


def test_what_surely_ends_before_fills_in() -> None:
    decision = kept(
        Want("2", 2, 0, 2, limit_s=1500.0), Want("3", 1, 0, 3, limit_s=1501.0), Want("4", 1, 0, 4)
    )
    assert decision.starts == ("2",)
    assert decision.reason("2") == "starts: needs 2 cores, 4 of 8 free; ends before ann's job 1 can start"
    assert decision.reason("1") == "waits: needs 8 cores, 2 of 8 free; node1 is kept for it"
    assert decision.estimate("1") == 1500.0
    waits = "waits: node1 is kept for ann's job 1, which needs 8 cores and has waited 2 h; it fits in 25 min"
    assert decision.reason("3") == f"{waits}, this job has a time limit of 25 min"
    assert decision.reason("4") == f"{waits}, this job has no time limit"


def test_what_the_wide_job_leaves_over_is_for_the_others_however_long() -> None:
    wide = replace(WIDE, cores=6)
    decision = kept(Want("2", 2, 0, 2), Want("3", 1, 0, 3), wide=wide)
    assert decision.starts == ("2",)
    assert decision.reason("2").endswith("4 of 8 free; leaves ann's job 1 what it needs")


def test_several_that_fill_in_share_what_is_left_over() -> None:
    """Each for itself would fit beside the wide job; all together would not."""
    decision = kept(*(Want(str(i), 1, 0, i) for i in (2, 3, 4)), wide=replace(WIDE, cores=6))
    assert decision.starts == ("2", "3")


def test_what_has_no_limit_may_end_at_any_moment_so_nothing_fills_in() -> None:
    decision = kept(Want("2", 1, 0, 2, limit_s=60.0), holdings=(held(4),))
    assert decision.starts == ()
    assert decision.estimate("1") is None
    assert decision.reason("2") == (
        "waits: node1 is kept for ann's job 1, which needs 8 cores and has waited 2 h"
    )


def test_until_what_has_a_limit_ends_others_fill_in_beside_what_has_none() -> None:
    holdings = (held(3), held(2, 1500.0))
    decision = kept(Want("2", 1, 0, 2, limit_s=600.0), holdings=holdings)
    assert decision.starts == ("2",)
    assert decision.estimate("1") is None


def test_what_needs_nothing_that_the_wide_job_lacks_fills_in() -> None:
    """It waits for a GPU, and leaves cores over whenever it begins."""
    snapshot = replace(
        NODE,
        gpus=1,
        holdings=(held(1, gpus=1),),
        wants=(Want("1", 2, 0, 1, waited_s=LONG, gpus=1), Want("2", 5, 0, 2), Want("3", 1, 0, 3)),
    )
    assert decide(snapshot).starts == ("2",)


def test_on_a_node_kept_for_a_job_of_all_cores_only_the_short_fill_in() -> None:
    decision = kept(Want("2", 1, 0, 2, limit_s=600.0), Want("3", 1, 0, 3), wide=replace(WIDE, cores=0))
    assert decision.starts == ("2",)


def test_memory_comes_back_with_the_job_that_uses_it() -> None:
    holding = held(1, 1500.0, memory=20 * GIB, memory_unused=5 * GIB)
    wide = replace(WIDE, cores=1, memory=30 * GIB)
    snapshot = replace(NODE, memory_available=17 * GIB, holdings=(holding,), wants=(wide,))
    assert decide(snapshot).estimate("1") == 1500.0


def test_a_node_is_not_kept_for_what_no_end_of_a_job_here_brings() -> None:
    """The license is used elsewhere, the GPU by a stranger."""
    other = Want("2", 1, 0, 2)
    license_ = replace(WIDE, cores=1, licenses=(("matlab", 1),))
    snapshot = replace(NODE, holdings=(held(1),), pool={"matlab": 1}, pool_used={"matlab": 1}, gpus_busy=1)
    decision = decide(replace(snapshot, wants=(license_, other)))
    assert decision.starts == ("2",)
    assert decision.reason("1") == "waits: needs 1 license of matlab, 0 of 1 free"
    decision = decide(replace(snapshot, wants=(replace(WIDE, cores=1, gpus=1), other)))
    assert decision.starts == ("2",)
    assert (
        decision.reason("1")
        == "waits: needs 1 GPU, 0 of 1 free (1 used by others' programs or not answering)"
    )


def test_a_neighbours_short_job_fills_in_before_a_kept_node() -> None:
    """Its turn is planned, as without a kept node."""
    bob = Neighbour("bob", Want("7", 4, 0, 2, limit_s=600.0))
    snapshot = replace(NODE, holdings=(held(4, 1500.0),), wants=(WIDE, Want("2", 1, 0, 3, limit_s=60.0)))
    assert decide(snapshot).starts == ("2",)
    decision = decide(replace(snapshot, neighbours=(bob,)))
    assert decision.starts == ()
    assert "bob's turn" in decision.reason("2")


def test_what_waits_behind_a_limit_of_its_owner_keeps_no_node() -> None:
    snapshot = replace(NODE, holdings=(held(4),), wants=(WIDE, Want("2", 1, 0, 2)), cores_limit=4)
    decision = decide(snapshot)
    assert decision.starts == ("2",)
    assert decision.reason("1") == "waits: needs 8 cores, your limit of 4 cores is less"


# ---------------------------------------------------------------- when it fits


def test_when_a_job_fits_is_when_enough_has_ended() -> None:
    stays = [Stay(Need(2), 100.0), Stay(Need(4), 50.0), Stay(Need(2), None)]
    empty = Room(8, 0)
    assert fits_in_s(Need(4), empty, stays, None) == 50.0
    assert fits_in_s(Need(6), empty, stays, None) == 100.0
    assert fits_in_s(Need(8), empty, stays, None) is None
    assert fits_in_s(Need(0), empty, stays, 0.0) == 100.0
    assert fits_in_s(Need(0), empty, stays[:2], None) == 100.0
    assert fits_in_s(Need(3), empty, [], None) == 0.0


needs = st.builds(Need, st.integers(0, 6), st.just(0), st.integers(0, 2))
stays_ = st.lists(st.builds(Stay, needs, st.none() | st.integers(0, 9).map(float), st.booleans()), max_size=6)


@settings(max_examples=150, deadline=None)
@given(needs, stays_, st.sampled_from([None, 0.0]))
def test_a_job_fits_no_sooner_and_no_later(need: Need, stays: list[Stay], unknown_s: float | None) -> None:
    """Against looking at every moment."""
    empty = Room(8, 0, gpus=2, threads=4)

    def fits(at_s: float) -> bool:
        room = empty
        for stay in stays:
            left_s = unknown_s if stay.left_s is None else stay.left_s
            if left_s is None or left_s > at_s:
                room = room.less(stay.need, stay.on_threads)
        return room.fits(need)

    found = fits_in_s(need, empty, stays, unknown_s)
    moments = [float(at) for at in range(11) if fits(at)]
    # What ends at once is still there now.
    now_ends = any((unknown_s if stay.left_s is None else stay.left_s) == 0.0 for stay in stays)
    assert found == (moments[0] if moments else None) or (now_ends and found == 0.0)


# ---------------------------------------------------------------- nothing that fills in delays it


@dataclass
class Job:
    """One on the node: when it began, when it really ends, and what it says of that."""

    want: Want
    ends_s: float
    limit_s: float | None


def plays(
    wide: Want, there: list[tuple[int, float | None, float]], fillers: list[tuple[int, float | None, float]]
) -> tuple[float, float | None]:
    """When the wide job starts among (cores, limit, how long really), and by when it was promised."""
    running = [
        Job(Want(f"9{i}", cores, 0, 0), really if limit is None else min(really, limit), limit)
        for i, (cores, limit, really) in enumerate(there)
    ]
    waiting = [
        (Want(str(10 + i), cores, 0, 10 + i, limit_s=limit), really)
        for i, (cores, limit, really) in enumerate(fillers)
    ]
    now_s, promised = 0.0, None
    for step in range(200):
        running = [job for job in running if job.ends_s > now_s]
        holdings = tuple(
            Holding(
                "cyd",
                job.want.id,
                job.want.cores,
                left_s=None if job.limit_s is None else job.limit_s - now_s,
            )
            for job in running
        )
        decision = decide(replace(NODE, holdings=holdings, wants=(wide, *(want for want, _ in waiting))))
        if wide.id in decision.starts:
            return now_s, promised
        if step == 0:
            promised = decision.estimate(wide.id)
        for want, really in [one for one in waiting if one[0].id in decision.starts]:
            waiting.remove((want, really))
            lasts = really if want.limit_s is None else min(really, want.limit_s)
            limit_s = None if want.limit_s is None else now_s + want.limit_s
            running.append(Job(want, now_s + lasts, limit_s))
        now_s = min(job.ends_s for job in running)
    raise AssertionError("it never starts")


minutes = st.integers(1, 20).map(lambda count: count * 60.0)
known = st.tuples(st.integers(1, 4), minutes, minutes)
exact = st.tuples(st.integers(1, 4), minutes, st.just(1e9))
unknown = st.tuples(st.integers(1, 4), st.none(), minutes)
many_fillers = st.lists(st.one_of(known, unknown), max_size=8)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 8), st.lists(known, min_size=1, max_size=4), many_fillers)
def test_a_wide_job_starts_when_it_was_promised(
    cores: int,
    there: list[tuple[int, float | None, float]],
    fillers: list[tuple[int, float | None, float]],
) -> None:
    """Whatever fills in meanwhile, and however early anything ends."""
    starts_s, promised_s = plays(replace(WIDE, cores=cores), there, fillers)
    assert starts_s == 0.0 or (promised_s is not None and starts_s <= promised_s)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 8), st.lists(st.one_of(exact, unknown), min_size=1, max_size=4), many_fillers)
def test_where_nothing_could_be_promised_what_fills_in_delays_nothing(
    cores: int,
    there: list[tuple[int, float | None, float]],
    fillers: list[tuple[int, float | None, float]],
) -> None:
    """As long as time limits are used up; what has none ends when it likes."""
    wide = replace(WIDE, cores=cores)
    alone_s, _ = plays(wide, there, [])
    starts_s, promised_s = plays(wide, there, fillers)
    assert starts_s <= max(alone_s, promised_s or 0.0)


# ---------------------------------------------------------------- which node is kept


def keeper(shape: Shape, offers: list[Offer], was: str | None = None) -> str | None:
    """The node that is kept where it is only one."""
    found = keepers(shape, offers, () if was is None else (was,), 1)
    return found[0] if found else None


@pytest.mark.parametrize(
    ("cores", "node"),
    [(8, "soon"), (0, "soon"), (4, "most"), (9, "big")],
)
def test_the_node_that_is_kept_is_the_one_where_the_job_fits_soonest(cores: int, node: str) -> None:
    offers = [
        Offer("most", 8, 6, GIB, ends=(End(90_000.0, 2),)),
        Offer("soon", 8, 0, GIB, ends=(End(600.0, 4), End(1200.0, 4))),
        Offer("late", 8, 0, GIB, ends=(End(6000.0, 8),)),
        Offer("unknown", 8, 3, GIB, ends=(End(None, 5),)),
        Offer("big", 16, 0, GIB, ends=(End(86_000.0, 16),)),
    ]
    assert keeper(Shape(cores, 0), offers) == node
    assert keeper(Shape(cores, 0), offers[::-1]) == node


def test_the_choice_is_the_same_for_cards_that_were_read_a_moment_apart() -> None:
    for later_s in (0.0, 30.0, 80.0):
        offers = [
            Offer("a", 8, 0, GIB, ends=(End(1490.0 - later_s, 8),)),
            Offer("b", 8, 0, GIB, ends=(End(1450.0, 8),)),
        ]
        assert keeper(Shape(8, 0), offers) == "a"


@pytest.mark.parametrize("cores", [8, 0])
def test_what_fills_in_does_not_move_the_choice(cores: int) -> None:
    """Or the node would not be kept for a while, and what may run for ever could start there."""
    kept = Offer("a", 8, 0, GIB, ends=(End(900.0, 4), End(30.0, 4)))
    for forever in (End(900.0, 4), End(None, 4)):
        kept = kept._replace(ends=(forever, End(30.0, 4)))
        other = Offer("b", 8, 4, GIB, ends=(forever,))
        assert keeper(Shape(cores, 0), [kept, other], "a") == "a"
        assert keeper(Shape(cores, 0), [kept, other]) == "a"


def test_only_a_node_that_suits_is_kept() -> None:
    offers = [
        Offer("a", 8, 8, GIB),
        Offer("b", 8, 0, GIB, gpus=2, features=frozenset({"avx512"}), licenses=(("matlab", 1),)),
    ]
    assert keeper(Shape(1, 0, gpus=1), offers) == "b"
    assert keeper(Shape(1, 0, features=("avx512",)), offers) == "b"
    assert keeper(Shape(1, 0, licenses=(("matlab", 1),)), offers) == "b"
    assert keeper(Shape(1, 0, nodes=("b*",)), offers) == "b"
    assert keeper(Shape(1, 0, exclude=("a",)), offers) == "b"
    assert keeper(Shape(1, 0, gpus=3), offers) is None


def test_a_reservation_tells_what_it_leaves() -> None:
    empty = Room(8, 10, gpus=2, licenses=(("matlab", 2),), threads=3)
    want = Want("1", 4, 2, 0, gpus=1, licenses=(("matlab", 1),))
    found = reserve("ann", want, empty, [Stay(Need(6, 1), None)])
    assert (found.soon_s, found.late_s) == (0.0, None)
    assert found.spare == Room(0, 7, 1, False, 1, (("matlab", 1),), 3)
    found = reserve("ann", want, empty, [Stay(Need(6, 1), 60.0)])
    assert (found.soon_s, found.late_s) == (60.0, 60.0)
    assert found.spare == Room(4, 8, 1, False, 1, (("matlab", 1),), 3)


def test_the_choice_stays_while_no_other_node_is_nearer_by_half() -> None:
    """What was left idle on one node must not be for nothing, because another one is ahead for a moment."""

    def offers(first: int, second: int) -> list[Offer]:
        return [Offer("a", 16, first, GIB), Offer("b", 16, second, GIB)]

    wide = Shape(16, 0)
    assert keeper(wide, offers(5, 6)) == "b"
    assert keeper(wide, offers(5, 6), "a") == "a"
    assert keeper(wide, offers(0, 8), "a") == "b"
    assert keeper(wide, offers(0, 8), "gone") == "b"
    assert keeper(wide, offers(16, 16), "b") == "b"
    sooner = [Offer("a", 16, 8, GIB, ends=(End(6000.0, 8),)), Offer("b", 16, 0, GIB, ends=(End(3000.0, 16),))]
    assert keeper(wide, sooner, "a") == "b"
    assert keeper(wide, [sooner[0], sooner[1]._replace(ends=(End(3600.0, 16),))], "a") == "a"


def test_of_many_nodes_a_few_are_kept_where_it_fits_soonest() -> None:
    """One of four that could run it, and four at most: what waits on one alone may wait for one long job."""

    def offers(count: int) -> list[Offer]:
        return [Offer(f"n{i:02}", 16, i % 16, GIB) for i in range(count)]

    wide = Shape(16, 0)
    assert [len(keepers(wide, offers(count))) for count in (0, 1, 7, 8, 12, 16, 40)] == [0, 1, 1, 2, 3, 4, 4]
    assert keepers(wide, offers(16)) == ("n12", "n13", "n14", "n15")
    assert keepers(wide, offers(16)[::-1]) == ("n12", "n13", "n14", "n15")
    # With 11 cores free 5 are missing, and 2 are less than half of that, as is 1 of 4.
    assert keepers(wide, offers(16), ("n10", "n11", "n12", "n13")) == ("n12", "n13", "n14", "n15")
    assert keepers(wide, offers(16), ("n12", "n13")) == ("n12", "n13", "n14", "n15")
    assert keepers(wide, offers(16), ("n11", "gone")) == ("n11", "n13", "n14", "n15")


def test_a_small_job_is_for_the_fullest_node_where_it_fits() -> None:
    """So that wide ones find room; and only where room is scarce, for else nobody must wait for anything."""
    offers = [Offer("a", 8, 0, GIB), Offer("b", 8, 2, GIB), Offer("c", 8, 5, GIB), Offer("d", 8, 0, GIB)]

    def others(shape: Shape) -> list[str]:
        return [offer.node for offer in offers if is_for_another(shape, offer.node, offers)]

    assert others(Shape(1, 0)) == others(Shape(2, 0)) == ["c"]
    assert others(Shape(3, 0)) == others(Shape(4, 0)) == []
    # Wide ones, and those that cannot run elsewhere, are for whoever has room.
    assert others(Shape(0, 0)) == others(Shape(5, 0)) == others(Shape(1, 0, nodes=("c",))) == []
    offers[0] = Offer("a", 8, 8, GIB)
    assert others(Shape(1, 0)) == ["a", "c"]
    offers[3] = Offer("d", 8, 1, GIB)
    # Half of all cores are free.
    assert others(Shape(1, 0)) == []
    offers[1:] = [Offer("b", 8, 0, GIB), Offer("c", 8, 0, GIB)]
    assert others(Shape(1, 0)) == []


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.integers(0, 16), min_size=3, max_size=3), min_size=1, max_size=30))
def test_while_the_node_that_is_kept_drains_the_choice_changes_a_few_times_at_most(
    found: list[list[int]],
) -> None:
    """However the other nodes come and go: each change halves what is missing."""
    was, changes, free = keeper(Shape(0, 0), [Offer("n0", 16, 0, GIB)]), 0, [0, 0, 0]
    for each in found:
        # Only on the node that is kept nothing is taken again.
        free = [
            max(old, new) if f"n{i}" == was else new
            for i, (old, new) in enumerate(zip(free, each, strict=True))
        ]
        chosen = keeper(Shape(0, 0), [Offer(f"n{i}", 16, count, GIB) for i, count in enumerate(free)], was)
        changes += chosen != was
        was = chosen
    assert changes <= 5
