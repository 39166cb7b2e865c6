"""Promises about `.ci/test`: it succeeds if and only if everything that it calls does, and leaves nothing.

It is run with stand-ins for what it calls.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.test_readme import ROOT

#: The stand-in for each program, which fails when its words have in them what FAILING says.
STAND_IN = """#!/bin/sh
case "$0 $*" in *"${FAILING:-none of these}"*) exit 3;; esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The script, in a directory where nothing else of the project is."""
    made = tmp_path / "checkout"
    (made / ".ci").mkdir(parents=True)
    shutil.copy(ROOT / ".ci" / "test", made / ".ci")
    (made / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    (tmp_path / "tmp").mkdir()
    names = [*(made / ".venv" / "bin" / name for name in ("python", "pip", "ruff", "mypy"))]
    for path in (*names, tmp_path / "bin" / "dpkg"):
        path.write_text(STAND_IN)
        path.chmod(0o755)
    return made


def run(checkout: Path, failing: str = "none of these") -> int:
    """The exit code of the script."""
    environ = os.environ | {
        "PATH": f"{checkout.parent}/bin:{os.environ['PATH']}",
        "TMPDIR": str(checkout.parent / "tmp"),
        "FAILING": failing,
    }
    return subprocess.run(["sh", ".ci/test"], cwd=checkout, env=environ, capture_output=True).returncode


def test_the_tests_pass_when_all_that_they_call_does(checkout: Path) -> None:
    assert run(checkout) == 0
    assert list((checkout.parent / "tmp").iterdir()) == []


@pytest.mark.parametrize("failing", ["ruff check", "ruff format", "mypy", "--ignore=", "pytest -p"])
def test_the_tests_fail_when_a_part_does(checkout: Path, failing: str) -> None:
    """The style, the types, and each of the two lots of tests that run side by side."""
    assert run(checkout, failing) != 0
    assert list((checkout.parent / "tmp").iterdir()) == []
