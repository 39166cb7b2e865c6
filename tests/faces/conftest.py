"""Fixtures for tests of the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faces.desk import Desk
from tests.faces.homes import Homes


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Desk:
    """Ann at her desk, in an empty directory; no daemon is started by what she types."""
    parent, directory = tmp_path / "homes", tmp_path / "work"
    parent.mkdir()
    directory.mkdir()
    return Desk(Homes(parent), directory, monkeypatch, capsys)


@pytest.fixture
def homes(tmp_path: Path) -> Homes:
    """A home parent without users."""
    parent = tmp_path / "parent"
    parent.mkdir()
    return Homes(parent)
