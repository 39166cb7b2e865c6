"""A home for tests of actors."""

from __future__ import annotations

import logging
import os
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


@pytest.fixture
def _own_stderr() -> Iterator[None]:
    """The log of a daemon takes standard error, which is given back."""
    kept = os.dup(2)
    yield
    os.dup2(kept, 2)
    os.close(kept)
    for handler in logging.getLogger("roundq").handlers[:]:
        logging.getLogger("roundq").removeHandler(handler)
        handler.close()
