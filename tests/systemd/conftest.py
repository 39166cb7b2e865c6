"""The fixtures: `systemd_box`, a real systemd for all tests of a run, and `node`, the same with our units."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.systemd.node import ServedNode
from tests.systemd.sdbox import SystemdBox, reasons_against

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def systemd_box() -> Iterator[SystemdBox]:
    """A running SystemdBox. Where there can be none the test is skipped."""
    with _box() as box:
        yield box


@pytest.fixture
def node(systemd_box: SystemdBox) -> Iterator[ServedNode]:
    """The box with our units installed; users, homes and units are as new for each test."""
    node = ServedNode(systemd_box)
    node.install()
    yield node
    node.clean()


@pytest.fixture
def mortal_node() -> Iterator[ServedNode]:
    """The same in a box of its own, for tests that turn it off."""
    with _box() as box:
        node = ServedNode(box)
        node.install()
        yield node


def _box() -> SystemdBox:
    reasons = reasons_against()
    if reasons:
        pytest.skip("no systemd box: " + "; ".join(reasons))
    return SystemdBox()
