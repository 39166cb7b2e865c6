"""Whose turn it is, against the rule of 0.2.9 written down as plainly as can be.

With equal weights, no history, and jobs that ask for nothing new and have not waited long, a
decision is that rule and nothing else: of the users who could start a job here the one with the fewest
running cores goes next, ties to the earlier submission, then to the name.
"""

from __future__ import annotations

from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from roundq.words.policy import Holding, Neighbour, Snapshot, Want, decide

USERS = ("bob", "cyd", "dan")


def by_the_rule(snapshot: Snapshot) -> tuple[str, ...]:
    """The ids of my jobs that start, in their order."""
    me, node_cores = snapshot.me, snapshot.cores
    cores, memory, jobs, is_whole = node_cores, snapshot.memory_available, 0, False
    for held in snapshot.holdings:
        whole = held.exclusive or held.cores == 0
        is_whole = is_whole or whole
        cores = 0 if whole else max(0, cores - held.cores)
        memory, jobs = memory - held.memory_unused, jobs + 1
    running = dict(snapshot.running_cores)
    waiting = {me: sorted(snapshot.wants, key=lambda want: (-want.priority, want.submitted_ns, int(want.id)))}
    left = {me: len(waiting[me])}
    for other in snapshot.neighbours:
        if other.head is not None:
            # What is not known is taken to look like what is.
            waiting[other.user] = [want for want in (other.head, *other.others) for _ in range(other.count)]
            left[other.user] = other.count
    started: list[str] = []
    while True:
        could = []
        for user, wants in waiting.items():
            for want in wants if left[user] else ():
                wants_all = want.cores == 0
                fits = jobs == 0 if wants_all else not is_whole and want.cores <= cores
                if node_cores and fits and (not want.memory or want.memory <= memory):
                    could.append((running.get(user, 0), want.submitted_ns, user, want))
                    break
        if not any(user == me for _, _, user, _ in could):
            return tuple(started)
        _, _, user, want = min(could, key=lambda bid: bid[:3])
        waiting[user].remove(want)
        left[user] -= 1
        if user == me:
            started.append(want.id)
        is_whole = want.cores == 0
        cores, memory, jobs = (0 if is_whole else cores - want.cores), memory - want.memory, jobs + 1
        running[user] = running.get(user, 0) + (want.cores or node_cores)


wants = st.builds(
    Want,
    id=st.integers(1, 99).map(str),
    cores=st.integers(0, 6),
    memory=st.sampled_from([0, 0, 0, 3, 11]),
    submitted_ns=st.integers(0, 9),
    priority=st.integers(-1, 1),
    limit_s=st.sampled_from([None, 60.0]),
)
snapshots = st.builds(
    Snapshot,
    node=st.just("node1"),
    me=st.just("cat"),
    cores=st.integers(0, 12),
    memory_total=st.just(10),
    memory_available=st.integers(0, 10),
    holdings=st.lists(
        st.builds(
            Holding,
            user=st.just("eve"),
            id=st.integers(100, 199).map(str),
            cores=st.integers(0, 4),
            memory_unused=st.integers(0, 2),
            exclusive=st.sampled_from([False, False, False, True]),
        ),
        max_size=2,
    ).map(tuple),
    running_cores=st.dictionaries(st.sampled_from(("cat", *USERS)), st.integers(0, 9)),
    wants=st.lists(wants, max_size=8, unique_by=lambda want: want.id).map(tuple),
    neighbours=st.lists(
        st.builds(
            Neighbour,
            user=st.sampled_from(USERS),
            head=st.none() | wants,
            count=st.integers(0, 12),
            others=st.lists(wants, max_size=2).map(tuple),
        ),
        max_size=3,
        unique_by=lambda one: one.user,
    ).map(tuple),
    # What is there to be shared does not change whose turn it is.
    # With no share to fall short of, nobody has a node kept at once.
    cluster_cores=st.just(0),
    cluster_free=st.integers(0, 4),
)


@settings(max_examples=300, deadline=None)
@given(snapshots)
def test_a_plain_decision_is_the_rule_of_0_2_9(snapshot: Snapshot) -> None:
    assert decide(snapshot).starts == by_the_rule(snapshot)


def test_in_every_small_case_the_decision_is_the_rule_of_0_2_9() -> None:
    """Two users, up to two jobs each, of every size, on a node of three cores."""
    sizes = (0, 1, 2, 3)
    compared = 0
    for mine, theirs, runs, later in product(
        product(sizes, repeat=2), product(sizes, repeat=2), product((0, 1, 2), repeat=2), (False, True)
    ):
        wants = tuple(Want(str(i), cores, 0, 10 * i) for i, cores in enumerate(mine, 1))
        at = 15 if later else 10
        head, other = (Want("7", theirs[0], 0, at), Want("8", theirs[1], 0, at + 1))
        snapshot = Snapshot(
            "node1",
            "cat",
            3,
            10,
            10,
            running_cores={"cat": runs[0], "bob": runs[1]},
            wants=wants,
            neighbours=(Neighbour("bob", head, 2, (other,) if theirs[0] != theirs[1] else ()),),
        )
        assert decide(snapshot).starts == by_the_rule(snapshot)
        compared += 1
    assert compared == 16 * 16 * 9 * 2
