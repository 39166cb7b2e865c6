"""Promises about what jobs ask for beside cores and memory, about limits and about spare threads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from roundq.words.groups import GroupLimit
from roundq.words.policy import Holding, Neighbour, Snapshot, Want, decide
from roundq.words.quantities import GIB
from roundq.words.room import Need, Room, Site, licenses_here, misfit

NODE = Snapshot("node1", "ann", 8, GIB, GIB, gpus=2, features=frozenset({"avx512"}), cluster_cores=16)


def want(job_id: str = "1", cores: int = 1, at: int = 10, **more: Any) -> Want:
    return Want(job_id, cores, 0, at, **more)


def reasons(snapshot: Snapshot, *wants: Want) -> list[str]:
    decision = decide(replace(snapshot, wants=wants))
    return [decision.reason(each.id) for each in wants]


# ---------------------------------------------------------------- could it ever?


@pytest.mark.parametrize(
    ("asks", "says"),
    [
        ({"gpus": 3}, "needs 3 GPUs, node1 has 2"),
        ({"licenses": (("matlab", 1),)}, "needs 1 license of matlab, there are none"),
        ({"licenses": (("ansys", 3),)}, "needs 3 licenses of ansys, there are 2"),
        ({"nodes": ("gpu*", "node2")}, "asks for gpu* or node2"),
        ({"exclude": ("node?",)}, "excludes node?"),
        ({"features": ("avx512", "sse9")}, "needs sse9, which node1 does not have"),
        ({"nodes": ("NODE1",)}, "asks for NODE1"),
    ],
    ids=str,
)
def test_what_does_not_suit_is_said_and_blocks_nobody(asks: dict[str, Any], says: str) -> None:
    snapshot = replace(NODE, pool={"ansys": 2})
    assert reasons(snapshot, want(waited_s=9999.0, **asks), want("2")) == [
        f"can never start here: {says}",
        "starts: needs 1 core, 8 of 8 free",
    ]


def test_what_suits_starts() -> None:
    asks: dict[str, Any] = {
        "nodes": ("x", "node[0-9]"),
        "exclude": ("node2",),
        "features": ("avx512",),
        "gpus": 1,
    }
    snapshot = replace(NODE, pool={"ansys": 2}, pool_used={"ansys": 1})
    assert reasons(snapshot, want(licenses=(("ansys", 1),), **asks)) == [
        "starts: needs 1 core, 8 of 8 free, and 1 GPU, 2 of 2 free, and 1 license of ansys, 1 free"
    ]


def test_a_gpu_that_a_stranger_uses_is_there_but_not_free() -> None:
    busy = replace(NODE, gpus=1, gpus_busy=1)
    assert reasons(busy, want(gpus=2)) == [
        "waits: needs 2 GPUs, 1 of 2 free (1 used by others' programs or not answering)"
    ]
    assert misfit(Need(1, gpus=2), busy.site) is None


def test_gpus_and_licenses_are_given_once() -> None:
    snapshot = replace(NODE, licenses={"matlab": 1})
    asks: dict[str, Any] = {"gpus": 1, "licenses": (("matlab", 1),)}
    assert reasons(snapshot, want("1", **asks), want("2", **asks), want("3", gpus=2), want("4", gpus=1)) == [
        "starts: needs 1 core, 8 of 8 free, and 1 GPU, 2 of 2 free, and 1 license of matlab, 1 free",
        "waits: needs 1 GPU, 0 of 2 free, and 1 license of matlab, 0 of 1 free",
        "waits: needs 2 GPUs, 0 of 2 free",
        "starts: needs 1 core, 7 of 8 free, and 1 GPU, 1 of 2 free",
    ]


def test_a_name_that_the_node_has_of_its_own_is_not_the_clusters() -> None:
    assert licenses_here({"matlab": 1}, {"matlab": 9, "ansys": 3}, {"matlab": 9, "ansys": 4}) == (
        ("ansys", 0),
        ("matlab", 1),
    )


def test_a_neighbours_turn_at_the_last_gpu_leaves_me_none() -> None:
    bob = Neighbour("bob", want("7", gpus=2))
    snapshot = replace(NODE, running_cores={"ann": 4}, neighbours=(bob,))
    assert reasons(snapshot, want(gpus=1), want("2")) == [
        "waits: bob's turn (bob has 0 cores running, ann 5)",
        "starts: needs 1 core, 8 of 8 free",
    ]


# ---------------------------------------------------------------- limits


def test_a_limit_is_told_with_what_counts_for_it() -> None:
    snapshot = replace(NODE, cores_limit=16, running_cores={"ann": 16})
    assert reasons(snapshot, want()) == ["waits: your limit of 16 cores is reached (16 running)"]
    assert reasons(replace(snapshot, cores_running=14), want(cores=4), want("2", 2)) == [
        "waits: your limit of 16 cores is reached (16 running)",
        "starts: needs 2 cores, 8 of 8 free",
    ]
    assert reasons(replace(snapshot, cores_running=14), want(cores=4)) == [
        "waits: needs 4 cores, your limit of 16 cores leaves 2 (14 running)"
    ]
    assert reasons(replace(snapshot, cores_limit=3), want(cores=0)) == [
        "waits: needs 8 cores, your limit of 3 cores is less"
    ]
    assert reasons(replace(NODE, jobs_limit=2, jobs_running=1), want(), want("2")) == [
        "starts: needs 1 core, 8 of 8 free",
        "waits: your limit of 2 jobs is reached (2 running)",
    ]


def test_of_a_full_group_nothing_starts_and_others_pass() -> None:
    """The sentence says which group, and how its limit is changed."""
    wants = [want(groups=("%fit",)), want("2", groups=("%fit",)), want("3")]
    one_left = replace(NODE, groups={"%fit": GroupLimit(4, 3)})
    assert reasons(one_left, *wants) == [
        "starts: needs 1 core, 8 of 8 free",
        "waits: 4 of 4 jobs of set fit run; rq limit %fit N changes that",
        "starts: needs 1 core, 7 of 8 free",
    ]
    assert reasons(replace(NODE, groups={"%fit": GroupLimit(4, 6)}), *wants)[1:] == [
        "waits: 6 jobs of set fit run, its limit is 4; rq limit %fit N changes that",
        "starts: needs 1 core, 8 of 8 free",
    ]
    assert reasons(replace(NODE, groups={"%fit": GroupLimit(0, 0)}), *wants)[0] == (
        "waits: no job of set fit may start; rq limit %fit N changes that"
    )
    # An array in a set keeps to both limits.
    both = replace(NODE, groups={"%my fit": GroupLimit(9, 1), "17": GroupLimit(1, 1)})
    assert reasons(both, want(groups=("%my fit", "17"))) == [
        "waits: 1 of 1 job of array 17 runs; rq limit 17 N changes that"
    ]
    other = replace(both, groups={"%my fit": GroupLimit(1, 1), "17": GroupLimit(9, 1)})
    assert reasons(other, want(groups=("%my fit", "17"))) == [
        "waits: 1 of 1 job of set my fit runs; rq limit '%my fit' N changes that"
    ]


def test_of_a_group_there_is_one_head_for_each_shape_and_none_when_it_is_full() -> None:
    """To neighbours sets and arrays are nothing; what cannot start is not waited for."""
    wide = replace(NODE, holdings=(Holding("bob", "9", 8),), cluster_free=0)
    wants = (want("1", groups=("%fit",)), want("2", groups=("17",)), want("3"), want("4", 2, groups=("17",)))
    free = replace(wide, wants=wants, groups={"%fit": GroupLimit(1, 0), "17": GroupLimit(1, 0)})
    assert [(head.id, head.groups) for head in decide(free).heads()] == [("1", ()), ("4", ())]
    full = replace(free, groups={"%fit": GroupLimit(1, 1), "17": GroupLimit(1, 1)})
    assert [head.id for head in decide(full).heads()] == ["3"]


def test_no_node_is_kept_for_a_job_of_a_full_group() -> None:
    old = want("1", 8, waited_s=9999.0, groups=("%fit",))
    there = (Holding("bob", "9", 1),)
    free = replace(NODE, holdings=there, groups={"%fit": GroupLimit(2, 1)})
    assert reasons(free, old, want("2"))[1].startswith("waits: node1 is kept for ann's job 1")
    full = replace(free, groups={"%fit": GroupLimit(1, 1)})
    assert reasons(full, old, want("2"))[1].startswith("starts: ")


def test_nobody_waits_for_a_neighbour_at_his_limit() -> None:
    poor = replace(NODE, running_cores={"ann": 9}, holdings=(Holding("cyd", "9", 7),))
    bob = Neighbour("bob", want("7", 1), 5)
    assert reasons(replace(poor, neighbours=(bob,)), want())[0].startswith("waits: bob's turn")
    for limited in (replace(bob, cores_left=0), replace(bob, jobs_left=0)):
        assert reasons(replace(poor, neighbours=(limited,)), want())[0].startswith("starts: ")


# ---------------------------------------------------------------- spare threads

BUSY = replace(NODE, threads=4, holdings=(Holding("bob", "9", 8),), running_cores={"bob": 16}, cluster_free=0)


def test_below_the_fair_share_a_job_starts_on_spare_threads_when_all_cores_are_busy() -> None:
    decision = decide(replace(BUSY, wants=(want(cores=2), want("2", 8), want("3", 0), want("4", 1, gpus=2))))
    assert decision.starts == ("1", "4")
    assert decision.on_threads == {"1", "4"}
    assert decision.reason("1") == (
        "starts: needs 2 cores, on spare hardware threads, 4 of 4 free;"
        " all cores are busy, and ann has 0 cores running of a fair share of 8"
    )
    assert decision.reason("2") == "waits: needs 8 cores, 0 of 8 free"


@pytest.mark.parametrize(
    "change",
    [
        {"cluster_free": 2},
        {"cluster_cores": 0},
        {"threads": 1},
        {"running_cores": {"ann": 8, "bob": 8}},
        {"holdings": (Holding("bob", "9", 8, exclusive=True),)},
        {"holdings": (Holding("bob", "9", 8), Holding("bob", "8", 3, threads=True))},
        {"cores_limit": 1},
        {"draining": ""},
        # Cyd, who has less, takes them.
        {
            "running_cores": {"ann": 1, "bob": 16},
            "neighbours": (Neighbour("cyd", want("5", 3)),),
            "cluster_cores": 24,
        },
        # The node is kept for a job that needs it whole.
        {"neighbours": (Neighbour("cyd", want("5", 0, 1, waited_s=9999.0)),)},
    ],
    ids=str,
)
def test_otherwise_spare_threads_stay_free(change: dict[str, Any]) -> None:
    waits = replace(BUSY, wants=(want(cores=2),))
    assert decide(waits).on_threads == {"1"}
    assert decide(replace(waits, **change)).starts == ()


def test_on_threads_a_user_starts_no_more_than_up_to_the_fair_share() -> None:
    """The share of each is 2.7 cores of 8."""
    snapshot = replace(BUSY, cluster_cores=8, threads=8, active=frozenset({"ann", "bob", "cyd"}))
    assert len(decide(replace(snapshot, wants=tuple(want(str(i)) for i in range(9)))).starts) == 3


def test_a_turn_on_spare_threads_is_told_to_what_scavenges() -> None:
    """What a neighbour takes there besides, memory here, is missing for what comes last: it is said who."""
    snapshot = replace(
        BUSY,
        memory_total=64 * GIB,
        memory_available=32 * GIB,
        threads=8,
        holdings=(Holding("ann", "1", 3), Holding("bob", "2", 3)),
        running_cores={"ann": 3, "bob": 3},
        cluster_cores=8,
        cluster_free=2,
        wants=(want("5", 4), Want("6", 1, 20 * GIB, 10, scavenge=True)),
        neighbours=(Neighbour("bob", Want("7", 4, 30 * GIB, 5)),),
    )
    decision = decide(snapshot)
    assert decision.on_threads == {"5"}
    assert decision.reason("6") == "waits: bob's job 7 goes before what scavenges here"
    assert len(decision.verdicts()) == 2


# ---------------------------------------------------------------- the room itself


def test_threads_and_cores_are_counted_apart() -> None:
    room = Room(2, 0, threads=2).less(Need(2), on_threads=True)
    assert (room.cores, room.threads, room.jobs) == (2, 0, 1)
    assert room.fits(Need(2))
    assert not room.fits(Need(1), on_threads=True)
    assert not room.fits(Need(0))
    assert not Room(2, 0, threads=2).fits(Need(0), on_threads=True)
    assert Room(2, 0).less(Need(0)) == Room(0, 0, 1, True)


def test_a_site_of_nothing_suits_nobody() -> None:
    assert misfit(Need(1), Site("n", 0, 0)) == "n offers no cores"
