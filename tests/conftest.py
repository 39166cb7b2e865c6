"""What every test may ask for."""

from __future__ import annotations

import os

import pytest

pytest_plugins = ["tests.cluster.plugin"]


@pytest.fixture(autouse=True)
def no_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps the configuration, and the job, of whoever runs the tests out of them."""
    for name in os.environ:
        if name.startswith("RQ_") or name == "XDG_CONFIG_HOME":
            monkeypatch.delenv(name)
