"""Promises about what a service manager hears, and where the log goes. A stub stands for systemd-python."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from roundq.words.errors import ConfigError
from roundq.world.notify import Notifier

ROOT = Path(__file__).parents[2]
#: A daemon's log, opened with standard error as it is, and one line in it.
LOG = """
import os, sys
from roundq.world.notify import open_log
open_log(sys.argv[1], os.environ).info("a line", extra={"ROUNDQ_JOB": "17", "ROUNDQ_STATE": "running"})
"""


@pytest.fixture
def stub(tmp_path: Path) -> Path:
    """A directory for PYTHONPATH with a systemd whose journal is standard output."""
    package = tmp_path / "stub" / "systemd"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "daemon.py").write_text("def notify(text):\n    print(text)\n")
    (package / "journal.py").write_text(
        "def send(text, **fields):\n    print(text, sorted(fields.items()))\n"
    )
    return package.parent


def log(stub: Path, path: Path, errors: Path, journal: str) -> str:
    """What reaches the journal if standard error is the file `errors`."""
    environ = {"PYTHONPATH": f"{stub}:{ROOT}", "JOURNAL_STREAM": journal}
    with errors.open("wb") as stderr:
        return subprocess.run(
            [sys.executable, "-c", LOG, str(path)],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            check=True,
        ).stdout


def stream(path: Path) -> str:
    """A file as JOURNAL_STREAM names it."""
    path.touch()
    return f"{path.stat().st_dev}:{path.stat().st_ino}"


def test_under_a_service_manager_the_log_is_the_journal(stub: Path, tmp_path: Path) -> None:
    """With fields by which one can ask for a job, and no file beside it."""
    errors = tmp_path / "errors"
    said = log(stub, tmp_path / "node.log", errors, stream(errors))

    assert said.startswith("a line ")
    assert "('ROUNDQ_JOB', '17'), ('ROUNDQ_STATE', 'running')" in said
    assert not (tmp_path / "node.log").exists()


def test_in_a_terminal_that_a_service_opened_the_log_is_a_file(stub: Path, tmp_path: Path) -> None:
    """JOURNAL_STREAM is inherited there, but standard error is not the journal."""
    said = log(stub, tmp_path / "node.log", tmp_path / "errors", stream(tmp_path / "other"))

    assert said == ""
    assert (tmp_path / "node.log").read_text().endswith("INFO a line\n")


def test_a_unit_without_systemd_python_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of a start timeout that nobody understands."""
    monkeypatch.setitem(sys.modules, "systemd", None)

    with pytest.raises(ConfigError, match="systemd-python is not installed") as raised:
        Notifier({"NOTIFY_SOCKET": "/run/nobody"})
    assert "pip install" in str(raised.value.hint)


@pytest.mark.parametrize(
    ("environ", "within_s"),
    [
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_heeded_if_it_means_this_process(
    stub: Path, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], within_s: float | None
) -> None:
    """What a parent was told is not meant for its children."""
    monkeypatch.syspath_prepend(stub)
    for name in [name for name in sys.modules if name.partition(".")[0] == "systemd"]:
        monkeypatch.delitem(sys.modules, name)

    assert Notifier({"NOTIFY_SOCKET": "/run/nobody", **environ}).watchdog_s == within_s


def test_without_a_service_manager_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """And nothing is needed."""
    Notifier({}).say("READY=1")

    assert capsys.readouterr().out == ""
