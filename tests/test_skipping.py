"""What a run of the tests promises to whoever reads only its last line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("ci", "code", "last"), [("true", 1, "1 failed, 2 xfailed, 1 error"), ("", 0, "2 skipped, 2 xfailed")]
)
def test_in_ci_a_skip_is_a_failure(tmp_path: Path, ci: str, code: int, last: str) -> None:
    """Whether the test asks for it or a mark; what is expected to fail is no skip."""
    (tmp_path / "conftest.py").write_text((ROOT / "tests/conftest.py").read_text())
    (tmp_path / "test_some.py").write_text(
        "import pytest\n"
        "def test_a(): pytest.skip('needs a moon')\n"
        "@pytest.mark.skipif(True, reason='needs a sun')\ndef test_b(): pass\n"
        "@pytest.mark.xfail\ndef test_c(): assert False\n"
        "def test_d(): pytest.xfail('not yet')\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rsf", "-p", "no:cacheprovider", str(tmp_path)],
        env={**os.environ, "CI": ci, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stdout
    assert last in done.stdout.splitlines()[-1]
    assert "needs a moon" in done.stdout
    assert "needs a sun" in done.stdout
