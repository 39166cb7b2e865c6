"""The pytest fixtures of the test cluster, hooked in by tests/conftest.py.

    def test_something(make_cluster):
        c = make_cluster(nodes=3, users=("ann", "bob"), fsopts="acdirmin=2,acdirmax=4")

Clusters are stopped when the test is over, whatever came of it. A failed test shows the logs of the daemons
and of nfsim. Where clusters cannot be, the test is skipped with the reason.
"""

from __future__ import annotations

import glob
import os
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from tests.cluster.box import Cluster
from tests.cluster.requirements import missing

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

LINES_SHOWN = 100

_running: list[Cluster] = []


class MakeCluster(Protocol):
    """What the fixtures give: Cluster(), started, and stopped after the test."""

    def __call__(self, *args: Any, **kwargs: Any) -> Cluster: ...


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all that use a cluster, so that -m "not cluster" leaves them out."""
    for item in items:
        if {"make_cluster", "make_module_cluster"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("cluster")


@pytest.fixture
def make_cluster() -> Iterator[MakeCluster]:
    """Makes clusters for one test."""
    yield from clusters()


@pytest.fixture(scope="module")
def make_module_cluster() -> Iterator[MakeCluster]:
    """Makes clusters that all tests of a module share."""
    yield from clusters()


def clusters() -> Iterator[MakeCluster]:
    """What both fixtures do."""
    if reason := missing():
        pytest.skip(f"needs {reason}")
    made: list[Cluster] = []

    def make(*args: Any, **kwargs: Any) -> Cluster:
        cluster = Cluster(*args, **kwargs)
        made.append(cluster)
        _running.append(cluster)
        return cluster.start()

    complaints = []
    try:
        yield make
    finally:
        for cluster in made:
            try:
                cluster.stop_nodes()
                complaints += [f"nfsim of {node.name}:\n{node.log()}" for node in cluster if node.log()]
            finally:
                _running.remove(cluster)
                cluster.stop()
    assert not complaints, "\n".join(complaints)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the logs of what still runs to the report of a failure."""
    report = yield
    if report.failed:
        for cluster in _running:
            report.sections += logs_of(cluster)
    return report


def logs_of(cluster: Cluster) -> list[tuple[str, str]]:
    """Titles and last lines of every daemon's and every nfsim's log."""
    paths = []
    for user in cluster.users:
        logs = sorted(glob.glob(os.path.join(glob.escape(cluster.home(user)), ".roundqueue", "*.log")))
        paths += [(f"log of {user} on {os.path.basename(path).removesuffix('.log')}", path) for path in logs]
    paths += [(f"nfsim of {node.name}", node.log_path) for node in cluster]
    return [(title, text) for title, path in paths if (text := _last_lines(path))]


def _last_lines(path: str) -> str:
    try:
        with open(path, errors="replace") as f:
            return "".join(f.readlines()[-LINES_SHOWN:])
    except OSError:
        return ""
