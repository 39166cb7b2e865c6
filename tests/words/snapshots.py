"""Snapshots of everything that a decision may depend on, for properties; small, so that all of it meets."""

from __future__ import annotations

from hypothesis import strategies as st

from roundq.words.groups import GroupLimit
from roundq.words.policy import Holding, Neighbour, Snapshot, Want

USERS = ("bob", "cyd", "dan")
ALL = ("ann", *USERS)
LICENSES = ("ansys", "matlab")
some_licenses = st.dictionaries(st.sampled_from(LICENSES), st.integers(1, 2), max_size=2).map(
    lambda counts: tuple(sorted(counts.items()))
)
#: Most jobs ask for nothing special.
rarely = st.sampled_from([False, False, False, True])
limits_s = st.sampled_from([None, None, 60.0, 600.0, 6000.0])


def often(strategy: st.SearchStrategy[object], else_: object) -> st.SearchStrategy[object]:
    return rarely.flatmap(lambda is_one: strategy if is_one else st.just(else_))


wants = st.builds(
    Want,
    id=st.integers(1, 99).map(str),
    cores=st.integers(0, 6),
    memory=often(st.integers(0, 8), 0),
    submitted_ns=st.integers(0, 5),
    priority=st.integers(-1, 1),
    waited_s=st.sampled_from([0.0, 0.0, 601.0]),
    kept_on=st.sampled_from([None, None, ("node1",), ("node1", "node3"), ("node2",)]),
    gpus=often(st.integers(0, 3), 0),
    licenses=often(some_licenses, ()),
    limit_s=limits_s,
    scavenge=rarely,
    nodes=often(st.sampled_from([("node*",), ("gpu*",)]), ()),
    exclude=often(st.sampled_from([("node1",), ("gpu*",)]), ()),
    features=often(st.sampled_from([("avx512",), ("sse9",)]), ()),
    groups=often(st.sampled_from([("%fit",), ("17",), ("%fit", "17")]), ()),
)
holdings = st.builds(
    Holding,
    user=st.sampled_from(ALL),
    id=st.integers(100, 199).map(str),
    cores=st.integers(0, 4),
    memory_unused=st.integers(0, 2),
    exclusive=st.sampled_from([False, False, False, False, True]),
    gpus=often(st.integers(0, 2), 0),
    licenses=often(some_licenses, ()),
    left_s=st.sampled_from([None, 0.0, 30.0, 900.0]),
    age_s=st.integers(0, 5).map(float),
    restartable=st.booleans(),
    scavenge=rarely,
    threads=rarely,
    memory=st.integers(0, 4),
    leaving=rarely,
    resident=st.sampled_from([0, 0, 3, None]),
    unattended=rarely,
)
lefts = st.sampled_from([None, None, None, 0, 1, 3, 9])
neighbours = st.builds(
    Neighbour,
    user=st.sampled_from(USERS),
    head=st.none() | wants,
    count=st.integers(0, 5),
    others=st.lists(wants, max_size=2).map(tuple),
    cores_left=lefts,
    jobs_left=lefts,
)
group_limits = st.builds(GroupLimit, most=st.integers(0, 4), running=st.integers(0, 4))
counts = st.dictionaries(st.sampled_from(LICENSES), st.integers(0, 3))
snapshots = st.builds(
    Snapshot,
    node=st.just("node1"),
    me=st.just("ann"),
    cores=st.integers(0, 8),
    memory_total=st.just(10),
    memory_available=st.integers(0, 10),
    draining=st.sampled_from([None, None, None, "upgrade"]),
    holdings=st.lists(holdings, max_size=4, unique_by=lambda held: (held.user, held.id)).map(tuple),
    running_cores=st.dictionaries(st.sampled_from(ALL), st.integers(0, 9)),
    wants=st.lists(wants, max_size=8, unique_by=lambda want: want.id).map(tuple),
    neighbours=st.lists(neighbours, max_size=3, unique_by=lambda one: one.user).map(tuple),
    threads=st.integers(0, 4),
    gpus=st.integers(0, 3),
    gpus_busy=st.integers(0, 1),
    features=st.sampled_from([frozenset(), frozenset({"avx512"})]),
    licenses=counts,
    pool=counts,
    pool_used=counts,
    weights=st.dictionaries(st.sampled_from(ALL), st.sampled_from([0.5, 1.0, 2.0, 3.0])),
    usage=st.dictionaries(st.sampled_from(ALL), st.sampled_from([0.0, 0.1, 0.5, 2.0])),
    cluster_cores=st.integers(0, 24),
    cluster_free=st.integers(0, 4),
    cores_limit=lefts,
    jobs_limit=lefts,
    jobs_running=st.integers(0, 3),
    cores_running=st.none() | st.integers(0, 9),
    may_requeue=st.booleans(),
    yielding=st.frozensets(st.sampled_from(ALL), max_size=2),
    here_limit=lefts,
    here_cores=st.integers(0, 4),
    groups=st.fixed_dictionaries(dict.fromkeys(("%fit", "17"), group_limits)),
)
