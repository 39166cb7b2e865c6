"""Fixtures of the tests against hostile neighbours."""

from __future__ import annotations

from tests.actors.conftest import home

__all__ = ["home"]
