"""Whom tests of crash points ask to play operations."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


class Player:
    """A process of its own, small enough to be forked some thousands of times."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crashpoints", "--serve"],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answers: dict[str, Any] = {}

    def ask(self, **what: Any) -> Any:
        """What it answers to one request, asked once; see `tests.crashpoints.__main__.serve`."""
        request = json.dumps(what, sort_keys=True)
        if request not in self._answers:
            self._answers[request] = self._answer(request)
        return self._answers[request]

    def _answer(self, request: str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(request, file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        assert line, "the player died; what it said is above"
        return json.loads(line)

    def close(self) -> None:
        """Ends it, and what it made."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


@pytest.fixture(scope="session")
def player() -> Iterator[Player]:
    """One for all tests."""
    made = Player()
    yield made
    made.close()
