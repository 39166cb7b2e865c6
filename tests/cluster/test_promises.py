"""The judges of promises are judged: whatever is promised twice is found, and what is right passes."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster import checkers, promises, runs
from tests.cluster.checkers import Interval
from tests.cluster.promises import Promise, Supply

if TYPE_CHECKING:
    from pathlib import Path

GB = 1 << 30
ALL = Supply(
    4, 8 * GB, ("0", "1"), {"matlab": 3}, {"n1": {"fpga": 1}}, pins=True, groups={"7/%fit": 2, "7/17": 1}
)


def ran(label: str, start: float, end: float, cores: int = 1, node: str = "n1", **more: Any) -> Interval:
    return Interval(label, node, os.getuid(), cores, start, end, True, **more)


def has(job: str = "a", cores: int = 1, node: str = "n1", **more: Any) -> Promise:
    return Promise(job, node, cores, **more)


# ---------------------------------------------------------------- at one instant


@pytest.mark.parametrize(
    "held",
    [
        [],
        [has("a", 4)],
        [has("a", 2), has("b", 2), has("c", 4, "n2")],
        [has("a", 0), has("b", 0, "n2")],
        [has("a", 4), has("b", 2, threads=True)],
        [has("a", memory=5 * GB), has("b", memory=3 * GB), has("c", node="n2", memory=5 * GB)],
        [
            has("a", cpus=frozenset({0})),
            has("b", cpus=frozenset({1})),
            has("c", 1, "n2", cpus=frozenset({0})),
        ],
        [has("a", gpus=("0",)), has("b", gpus=("1",)), has("c", node="n2", gpus=("0", "1"))],
        [has("a", licenses={"matlab": 2}), has("b", node="n2", licenses={"matlab": 1})],
        [has("a", licenses={"fpga": 1}), has("b", licenses={"matlab": 3})],
        [
            has("a", groups=("7/%fit", "7/17")),
            has("b", node="n2", groups=("7/%fit",)),
            has("c", groups=("8/%fit",)),
        ],
    ],
)
def test_what_fits_passes(held: list[Promise]) -> None:
    """Up to the last core, byte, GPU and license; nodes are judged apart."""
    assert promises.conflicts(held, ALL) == []


@pytest.mark.parametrize(
    ("held", "wrong"),
    [
        ([has("a", 4), has("b", 1)], "n1 has 4 cores and used 5: a, b"),
        ([has("a", 0), has("b", 1)], "n1 is one job's alone and another's, too: a, b"),
        ([has("a", 0), has("b", 1, threads=True)], "n1 is one job's alone and another's, too: a, b"),
        (
            [has("a", memory=5 * GB), has("b", memory=4 * GB)],
            f"n1 has {8 * GB} bytes of memory and promised {9 * GB}: a, b",
        ),
        (
            [has("a", 2, cpus=frozenset({0, 1})), has("b", 2, cpus=frozenset({1, 2}))],
            "n1 gave CPU 1 more than once: a, b",
        ),
        (
            [has("a", cpus=frozenset({0})), has("b", cpus=frozenset({0}), threads=True)],
            "n1 gave CPU 0 more than once: a, b",
        ),
        ([has("a", gpus=("0", "1")), has("b", gpus=("1",))], "n1 gave GPU 1 more than once: a, b"),
        ([has("a", gpus=("2",))], "n1 has no GPUs but 0, 1, and gave 2: a"),
        (
            [has("a", licenses={"matlab": 2}), has("b", node="n2", licenses={"matlab": 2}), has("c")],
            "4 licenses matlab of 3 are in use: a, b",
        ),
        ([has("a", licenses={"maple": 1})], "1 licenses maple of 0 are in use: a"),
        (
            [has("a", licenses={"fpga": 1}), has("b", licenses={"fpga": 1})],
            "n1 has 1 licenses fpga and gave 2: a, b",
        ),
        ([has("a", node="n2", licenses={"fpga": 1})], "1 licenses fpga of 0 are in use: a"),
        (
            [has("a", groups=("7/17",)), has("b", node="n2", groups=("7/%fit", "7/17"))],
            "2 of 1 jobs of 7/17 run: a, b",
        ),
    ],
)
def test_a_double_promise_is_found(held: list[Promise], wrong: str) -> None:
    """Of each thing that can be promised, with who has it."""
    assert promises.conflicts(held, ALL) == [wrong]


def test_what_is_not_known_is_not_judged() -> None:
    """A supply says what it is about."""
    held = [has("a", 9, memory=99 * GB, gpus=("7",), licenses={"x": 9})]

    assert promises.conflicts(held, Supply()) == []
    assert promises.conflicts(held, Supply({"n2": 1}, {"n2": 1}, {"n2": ()})) == []


# ---------------------------------------------------------------- over time


def test_a_node_that_is_overbooked_for_an_instant_is_found() -> None:
    """At 1.5 three of two cores are in use."""
    runs = [ran("a", 0, 2), ran("b", 1, 3), ran("c", 1.5, 1.6)]

    assert promises.overbooked(runs, Supply(2)) == ["at 1.500 n1 has 2 cores and used 3: a, b, c"]
    assert promises.overbooked(runs, Supply({"n1": 3})) == []


def test_who_ends_makes_room_at_that_instant() -> None:
    """And nodes are judged apart; what jobs leave behind has no cores of its own."""
    runs = [ran("a", 0, 1, 2), ran("b", 1, 2, 2), ran("c", 0, 2, 2, "n2"), ran("a+left", 0, 9, 0)]

    assert promises.overbooked(runs, Supply(2)) == []


def of_sets(run: Interval) -> dict[str, Any]:
    """The record of a run: those with an x in their label are of a set."""
    return {"job": {"set": "s", "array": {"id": "17"}}} if "x" in run.label else {}


@pytest.mark.parametrize(
    ("limits", "begun_too_many"),
    [
        ([(0.0, 2)], ["x3", "x4"]),
        ([(0.0, 3)], ["x4"]),
        ([(0.0, 4)], []),
        ([(0.0, None)], []),
        ([], []),
        # Raised before the third, lowered before the fourth; the end of the first made no room for it.
        ([(0.0, 2), (25.0, 3)], ["x4"]),
        ([(0.0, 9), (35.0, 1)], ["x4"]),
        # It may have been kept before that was known.
        ([(0.0, 9), (39.0, 1)], []),
        ([(0.0, 9), (20.0, 0)], ["x3", "x4"]),
    ],
)
def test_who_begins_beyond_the_limit_of_a_group_is_found(
    limits: list[tuple[float, int | None]], begun_too_many: list[str]
) -> None:
    """What runs when a limit is lowered goes on."""
    runs = [ran("x1", 0, 100), ran("x2", 10, 100, node="n2"), ran("x3", 30, 100), ran("x4", 40, 100)]
    runs += [ran("other", 5, 100), ran("x1+left", 0, 100)]

    for group in ("%s", "17"):
        wrong = promises.over_limits(runs, {f"{os.getuid()}/{group}": limits}, of_sets, 2.0)
        assert [text.split()[2] for text in wrong] == begun_too_many
    assert promises.over_limits(runs, {"999/%s": limits}, of_sets, 2.0) == []


def put(homes: Path, user: str, id_: str, **record: Any) -> None:
    """A record of a job that ended."""
    directory = homes / user / ".roundqueue" / "completed"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{id_}.job").write_text(json.dumps({"attempt": 1, **record}))


def told(job: str, start: float, end: float, cores: int = 1, gpus: str = "", **more: Any) -> Interval:
    """A run that found what it should: a CPU of its own, called as its job, and these GPUs."""
    devices = dict.fromkeys(runs.GPU_VARIABLES, gpus)
    values = {"granted": cores, "cpus": frozenset({int(job)}), "devices": devices, "attempt": 1, **more}
    values.setdefault("cpu_list", ",".join(map(str, sorted(values["cpus"]))))
    return ran(f"job {job}", start, end, cores, job=job, **values)


def test_what_records_ask_for_is_counted_while_the_jobs_run(tmp_path: Path) -> None:
    """Memory and licenses, over two nodes; what overlaps too much is found, what follows is not."""
    for id_ in "012":
        put(tmp_path, "ann", id_, job={"memory_required": 5 * GB, "licenses": {"matlab": 2}})

    def wrong(*runs: Interval) -> list[str]:
        return checkers.promised_once(str(tmp_path), runs, ALL)

    assert wrong(told("0", 0, 1), told("1", 1, 2), told("2", 2, 3, node="n2")) == []
    assert wrong(told("0", 0, 2), told("1", 1, 2)) == [
        f"at 1.000 n1 has {8 * GB} bytes of memory and promised {10 * GB}: job 0, job 1",
        "at 1.000 4 licenses matlab of 3 are in use: job 0, job 1",
    ]
    assert wrong(told("0", 0, 2), told("1", 1, 2, node="n2")) == [
        "at 1.000 4 licenses matlab of 3 are in use: job 0, job 1"
    ]


def test_one_cpu_and_one_gpu_of_two_jobs_are_found(tmp_path: Path) -> None:
    """By what the jobs themselves found; whoever may run everywhere, where nobody is pinned, passes."""
    for id_ in "01":
        put(tmp_path, "ann", id_, job={"gpus": 1})
    same: dict[str, Any] = {"cpus": frozenset({0}), "gpus": "1"}

    assert checkers.promised_once(str(tmp_path), [told("0", 0, 2, **same), told("1", 1, 3, **same)], ALL) == [
        "at 1.000 n1 gave CPU 0 more than once: job 0, job 1",
        "at 1.000 n1 gave GPU 1 more than once: job 0, job 1",
    ]
    loose = Supply(4, gpus=("0", "1"))
    apart = [
        told("0", 0, 2, gpus="0", cpus=frozenset({0, 1}), cpu_list=None),
        told("1", 1, 3, gpus="1", cpus=frozenset({0, 1}), cpu_list=None),
    ]
    assert checkers.promised_once(str(tmp_path), apart, loose) == []


def test_a_core_that_is_only_a_thread_counts_for_no_core(tmp_path: Path) -> None:
    """If the record of that very attempt says so."""
    put(tmp_path, "ann", "0", job={}, threads=True)
    one = told("0", 0, 2)
    others = [told("1", 1, 2, 4, cpus=frozenset({1, 2, 3, 4}))]
    put(tmp_path, "ann", "1", job={})

    assert checkers.promised_once(str(tmp_path), [one, *others], ALL) == []
    put(tmp_path, "ann", "0", job={}, threads=True, attempt=2)
    assert len(checkers.promised_once(str(tmp_path), [one, *others], ALL)) == 1


@pytest.mark.parametrize(
    ("record", "run"),
    [
        ({}, told("0", 0, 1, granted=2, cpus=frozenset({0, 1}))),
        ({}, told("0", 0, 1, cpus=frozenset({0, 1}))),
        ({}, told("0", 0, 1, cpu_list="1")),
        ({}, told("0", 0, 1, cpu_list=None)),
        ({}, told("0", 0, 1, 3, cpus=frozenset({0, 1, 3}), cpu_list="0-3")),
        ({}, told("0", 0, 1, 0, granted=3, cpus=frozenset({0, 1, 2}))),
        ({"gpus": 2}, told("0", 0, 1, gpus="0")),
        ({}, told("0", 0, 1, gpus="0")),
        ({}, told("0", 0, 1, devices={})),
        (
            {"gpus": 1},
            told("0", 0, 1, devices={**told("0", 0, 1, gpus="0").devices, "ROCR_VISIBLE_DEVICES": "1"}),
        ),
    ],
)
def test_a_job_that_is_told_something_else_is_found(
    tmp_path: Path, record: dict[str, Any], run: Interval
) -> None:
    """Too many cores or CPUs, GPUs that it did not ask for, or no word of them where there are some."""
    put(tmp_path, "ann", "0", job=record)

    assert len(checkers.promised_once(str(tmp_path), [run], ALL)) == 1


# ---------------------------------------------------------------- on cards

PROCESS = {"boot": "b", "pid": 7, "start": 9}


def on_card(homes: Path, user: str, *jobs: dict[str, Any], node: str = "n1") -> None:
    """A card with these jobs, and a running record of each."""
    spool = homes / user / ".roundqueue"
    (spool / "running").mkdir(parents=True, exist_ok=True)
    basis = {"settled": True, "process": PROCESS, "cores": 1, "memory": 0, "exclusive": False}
    (spool / node).write_text(json.dumps({"roundq": {"jobs": [basis | job for job in jobs]}}))
    for job in jobs:
        (spool / "running" / f"{job['id']}@{node}.job").write_text(json.dumps({"process": PROCESS}))


def seen(homes: Path) -> list[str]:
    watch = promises.CardWatch(str(homes), ALL)
    watch.look()
    watch.look()
    assert watch.looks == 2
    return watch.wrong


def test_what_cards_promise_twice_is_found(tmp_path: Path) -> None:
    """By two users on one node, and of the cluster's licenses on two nodes; it is told once."""
    on_card(tmp_path, "ann", {"id": "1", "gpus": ["1"], "licenses": {"matlab": 2}})
    on_card(tmp_path, "bob", {"id": "1", "gpus": ["1"], "cores": 4}, {"id": "2", "cpus": [3]})
    on_card(tmp_path, "cyd", {"id": "1", "licenses": {"matlab": 2}}, node="n2")

    assert sorted(seen(tmp_path)) == [
        "4 licenses matlab of 3 are in use: ann/1, cyd/1",
        "n1 gave GPU 1 more than once: ann/1, bob/1",
        "n1 has 4 cores and used 6: ann/1, bob/1, bob/2",
    ]


def test_only_what_is_settled_and_runs_counts_on_cards(tmp_path: Path) -> None:
    """Not a claim that may yet be withdrawn, nor what has ended, nor what a later attempt says."""
    on_card(tmp_path, "ann", {"id": "1", "cores": 4})
    on_card(tmp_path, "bob", {"id": "1", "settled": False}, {"id": "2", "process": None})
    on_card(tmp_path, "cyd", {"id": "1"}, {"id": "2"})
    running = tmp_path / "cyd" / ".roundqueue" / "running"
    (running / "1@n1.job").unlink()
    (running / "2@n1.job").write_text(json.dumps({"process": {**PROCESS, "pid": 8}}))

    assert seen(tmp_path) == []
