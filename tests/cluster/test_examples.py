"""Promises about examples/: each program runs as its first lines say, and its work is done by other nodes.

Ann runs them on n1, where she has no daemon: all jobs run on n2, which shares her home.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cluster.lab import ENV
from tests.cluster.test_queue import rq, start_daemon

if TYPE_CHECKING:
    from tests.cluster.box import Cluster
    from tests.cluster.plugin import MakeCluster

EXAMPLES = Path(__file__).parents[2] / "examples"
#: Stands in for the program of a database that nobody has here.
PG_DUMP = """#!/bin/sh
[ "$1" = shop ] || { echo "no such database: $1" >&2; exit 1; }
echo "create table orders ();"
echo "-- PostgreSQL database dump complete"
"""


@pytest.fixture(scope="module")
def cluster(make_module_cluster: MakeCluster) -> Cluster:
    """Two nodes, with the examples in ann's home, and a daemon of hers on the second."""
    c = make_module_cluster(nodes=2, users=("ann",), env=ENV)
    home = Path(c.home("ann"))
    shutil.copytree(EXAMPLES, home / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    (home / "bin").mkdir()
    (home / "bin" / "pg_dump").write_text(PG_DUMP)
    (home / "bin" / "pg_dump").chmod(0o755)
    (home / "photos").mkdir()
    for number in range(3):
        pixels = bytes(range(10, 10 + 3 * 6 * 4))
        (home / "photos" / f"{number}.ppm").write_bytes(b"P6 6 4 255\n" + pixels)
    (home / "photos" / "broken.ppm").write_bytes(b"P6 6 4 255\nabc")
    owner = home.stat()
    for path in home.rglob("*"):
        os.chown(path, owner.st_uid, owner.st_gid)
    start_daemon(c["n2"], "ann")
    return c


def run(c: Cluster, *words: str, code: int = 0) -> str:
    """What a program prints that ann runs in her home on n1."""
    path = f"/home/ann/bin:{c['n1'].environment('ann')['PATH']}"
    done = c["n1"].run(list(words), user="ann", env={"PATH": path}, timeout=90, merge=True)
    assert done.returncode == code, done.stdout
    return done.stdout


def test_a_sweep_is_run_and_gathered(cluster: Cluster) -> None:
    """Eight tasks, of which none is run twice, and a table with all results."""
    program = "examples/monte_carlo.py:Darts"
    assert "8 tasks" in run(cluster, "rq", "sweep", program)
    run(cluster, "rq", "wait", "last")
    assert "8 done" in run(cluster, "rq", "sweep", "--status", program)
    table = run(cluster, "rq", "gather", program).splitlines()
    assert table[0] == "hash,darts,seed,pi"
    found = [line.split(",") for line in table[1:9]]
    assert len({digest for digest, *_ in found}) == 8
    for _, darts, _, pi in found:
        assert abs(float(pi) - 3.1416) < (0.2 if darts == "1000" else 0.03)
    assert set(rq(cluster["n1"], "ann", "list", "--noheader", "-o", "node").split()) == {"n2"}


def test_each_image_of_a_folder_gets_a_preview(cluster: Cluster) -> None:
    """What is broken is told with its error, from the node on which it was found."""
    said = run(cluster, "python", "examples/images.py", "photos", "previews", code=1).splitlines()
    assert said == [
        *(f"{number}.ppm: 6x4 -> 3x2" for number in range(3)),
        "broken.ppm was left out: it has 3 bytes of pixels, not 72",
    ]
    row = bytes([*range(10, 13), *range(16, 19), *range(22, 25)])
    below = bytes(value + 36 for value in row)
    assert Path(cluster.home("ann"), "previews", "0.ppm").read_bytes() == b"P6 3 2 255\n" + row + below


def test_a_chain_of_jobs_ends_at_the_first_that_fails(cluster: Cluster) -> None:
    """An old dump is removed only when there is a new one."""
    old = [f"shop.2020010{day}-000000.sql.gz" for day in range(1, 6)]
    for age, name in enumerate(reversed(old), 1):
        path = Path(cluster.home("ann"), "dumps", name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
        os.utime(path, (1_600_000_000 - age, 1_600_000_000 - age))
        for one in (path.parent, path):
            os.chown(one, cluster.user("ann").uid, cluster.user("ann").uid)
    run(cluster, "python", "examples/dump_chain.py", "--wait", "shop", "dumps")
    kept = sorted(path.name for path in Path(cluster.home("ann"), "dumps").glob("*.gz"))
    assert kept[:2] == old[-2:]
    assert re.fullmatch(r"shop\.20\d{6}-\d{6}\.sql\.gz", kept[2])
    said = run(cluster, "python", "examples/dump_chain.py", "--wait", "market", "dumps", code=1)
    assert re.search(r"job \d+ failed: exit code 1", said)
    assert sorted(path.name for path in Path(cluster.home("ann"), "dumps").glob("*.gz")) == kept


def test_a_grid_search_finds_the_best_choice(cluster: Cluster) -> None:
    """Each choice with its score, the best last, whatever model there is."""
    said = [line.split() for line in run(cluster, "python", "examples/grid_search.py").splitlines()]
    scores = [float(score) for score, *_ in said]
    assert len({tuple(choice) for _, *choice in said}) == 6
    assert scores == sorted(scores)
    assert 0.8 < scores[-1] <= 1
