"""A home for tests of actors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.actors.spoolhome import SpoolHome


@pytest.fixture
def home(tmp_path: Path) -> Iterator[SpoolHome]:
    """Ann's home, with a spool; nothing of it runs on when the test is over."""
    made = SpoolHome(tmp_path / "homes")
    yield made
    made.stop()
