"""Promises about jobs that no known node could ever run: it is said at once, and what comes nearest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from roundq.actors.misfit import misfit
from roundq.records.cards import DRAINING, Card, Gpu
from roundq.words.job import Job
from roundq.words.limits import Limit
from roundq.words.policy import ineligible, want_of
from roundq.words.room import Site, licenses_here
from tests.faces.homes import card

GIB = 1 << 30
WAITS = ": the job waits until one appears"


def job(**of: Any) -> Job:
    return Job(("true",), **of)


def gpus(count: int) -> tuple[Gpu, ...]:
    return tuple(Gpu(f"GPU-{number}", "A100") for number in range(count))


CLUSTER = [
    card("ann", "gpu1", cores=16, gpus=gpus(2), features=("avx512",), memory=128 * GIB),
    card("ann", "gpu2", cores=16, gpus=gpus(1), features=("avx512", "ssd"), licenses=(("dongle", 1),)),
    card("ann", "node1", cores=64, features=("ssd",), memory=512 * GIB),
]
POOL = {"matlab": 2}


def said(of: Job, known: list[Card] | None = None, **limit: int) -> str | None:
    return misfit(of, CLUSTER if known is None else known, "ann", POOL, Limit(**limit))


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"cores": 64, "memory_required": 512 * GIB},
        {"cores": 0},
        {"gpus": 2, "features": ("avx512",), "nodes": ("gpu*",), "cores": 16},
        {"licenses": (("dongle", 1), ("matlab", 2))},
        {"exclude": ("gpu*",), "features": ("ssd",)},
        {"nodes": ("node9", "gpu[1-2]")},
    ],
)
def test_what_some_node_has_is_not_complained_of(asked: dict[str, Any]) -> None:
    assert said(job(**asked)) is None
    # Of nodes that are not known nothing is known.
    assert said(job(**asked), []) is None


@pytest.mark.parametrize(
    ("asked", "lacks"),
    [
        ({"cores": 65}, "has 65 cores; the largest is node1 with 64"),
        ({"memory_required": 1024 * GIB}, "has 1T of memory; the largest is node1 with 512G"),
        ({"gpus": 4}, "has 4 GPUs; the most has gpu1 with 2"),
        ({"nodes": ("big*", "x")}, "is called big* or x"),
        ({"exclude": ("*1", "gpu?")}, "is left by --exclude *1,gpu?"),
        ({"features": ("ssd", "tape")}, "has the feature tape"),
        ({"licenses": (("dongle", 2),)}, "has 2 licenses of dongle; the most has gpu2 with 1"),
        # Each of these alone some node has.
        (
            {"gpus": 2, "features": ("ssd",)},
            "has all that it asks for; node1 comes nearest, but has none of 2 GPUs",
        ),
        (
            {"gpus": 2, "features": ("ssd",), "nodes": ("gpu*",)},
            "has all that it asks for; gpu1 comes nearest, but has no ssd",
        ),
        (
            {"cores": 32, "gpus": 1, "licenses": (("dongle", 1),), "exclude": ("node1",)},
            "has all that it asks for; gpu2 comes nearest, but has 16 of 32 cores",
        ),
        (
            {"memory_required": 200 * GIB, "gpus": 2},
            "has all that it asks for; node1 comes nearest, but has none of 2 GPUs",
        ),
    ],
)
def test_what_no_node_has_is_said_with_the_node_that_comes_nearest(asked: dict[str, Any], lacks: str) -> None:
    assert said(job(**asked)) == f"no known node {lacks}{WAITS}"


def test_it_is_the_rule_of_the_policy() -> None:
    """Whatever the words, a job is complained of exactly if the policy calls it ineligible everywhere."""
    several: list[dict[str, Any]] = [
        {"cores": 17, "nodes": ("gpu*",)},
        {"gpus": 2, "licenses": (("dongle", 1),)},
        {"gpus": 1, "licenses": (("dongle", 1), ("matlab", 2))},
        {"cores": 0, "features": ("ssd", "avx512")},
        {"memory_required": 129 * GIB, "features": ("avx512",)},
        {"memory_required": 128 * GIB, "features": ("avx512",), "exclude": ("gpu2",)},
    ]
    for asked in several:
        shape = want_of("1", job(**asked), 0).shape
        sites = [
            Site(
                each.node,
                each.cores,
                each.memory,
                len(each.gpus),
                frozenset(each.features),
                licenses_here(dict(each.licenses), POOL),
            )
            for each in CLUSTER
        ]
        is_able = any(ineligible(shape, site) is None for site in sites)
        assert (said(job(**asked)) is None) is is_able, asked


def test_without_any_gpu_none_is_named() -> None:
    assert said(job(gpus=1), [card("ann", "n1")]) == f"no known node has 1 GPU{WAITS}"


def test_licenses_of_the_cluster_are_counted_and_slips_are_noticed() -> None:
    assert said(job(licenses=(("matlab", 3),))) == (
        "the cluster has 2 matlab licenses, and the job needs 3: it waits until there are more"
    )
    assert said(job(licenses=(("matlba", 1),))) == (
        "no license matlba is known here (did you mean matlab?): the job waits until there is one"
    )
    assert said(job(licenses=(("zzz", 1),))) == (
        "no license zzz is known here: the job waits until there is one"
    )


def test_limits_that_a_job_alone_exceeds() -> None:
    """Those of the administrator and one's own: what is given here is the less of both."""
    until = "it waits until the limit is raised"
    assert said(job(cores=16), cores=16) is None
    assert said(job(cores=17), cores=16) == (
        f"your limit is 16 running cores, and the job needs 17 cores: {until}"
    )
    assert said(job(cores=0), cores=8) == (
        f"your limit is 8 running cores, and the job needs a whole node, of 16 cores at least: {until}"
    )
    for limit in ("cores", "jobs"):
        assert misfit(job(), CLUSTER, "ann", POOL, Limit(**{limit: 0})) == (
            f"your limit is 0 running {limit}: the job waits until it is raised"
        )
    assert said(job(), waiting=0) is None


def test_nodes_that_drain_are_said_when_no_other_could_run_it() -> None:
    drained = [replace(each, state=DRAINING, reason="drained by admin: disk") for each in CLUSTER]
    assert said(job(gpus=1), [*drained[:1], *CLUSTER[1:]]) is None
    assert said(job(gpus=2), [*drained[:1], *CLUSTER[1:]]) == (
        "the only known node that could run it is draining: gpu1 (drained by admin: disk):"
        " the job waits until one is resumed"
    )
    assert said(job(), drained) == (
        "all nodes that could run it are draining: gpu1 (drained by admin: disk), gpu2 (drained by admin:"
        " disk), node1 (drained by admin: disk): the job waits until one is resumed"
    )


def test_a_drain_of_somebody_else_is_not_mine() -> None:
    """He may have his reasons; where I have no card, what holds for all who have one holds for me."""
    his = card("bob", "n1", state=DRAINING, reason="mine alone")
    assert said(job(), [his, card("ann", "n1")]) is None
    assert said(job(), [his]) is not None
    assert said(job(), [his, card("cid", "n1")]) is None


def test_a_card_of_0_2_9_tells_neither_memory_nor_anything_else() -> None:
    old = replace(card("ann", "n1"), version="", cores=0, memory=0)
    assert said(job(cores=8, memory_required=512 * GIB), [old]) is None
    assert said(job(gpus=1), [old]) == f"no known node has 1 GPU{WAITS}"
