"""The fixtures: `systemd_box`, a real systemd for all tests of a run, and `node`, the same with our units."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.systemd.node import ServedNode
from tests.systemd.sdbox import SystemdBox, reasons_against

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def systemd_box() -> Iterator[SystemdBox]:
    """A running SystemdBox. Where there can be none the test is skipped; with CI=true it fails."""
    reasons = reasons_against()
    if reasons:
        say = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        say("no systemd box: " + "; ".join(reasons))
    with SystemdBox() as box:
        yield box


@pytest.fixture
def node(systemd_box: SystemdBox) -> Iterator[ServedNode]:
    """The box with our units installed; users, homes and units are as new for each test."""
    node = ServedNode(systemd_box)
    node.install()
    yield node
    node.clean()
