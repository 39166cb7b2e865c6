"""Promises about what a service manager hears, and where the log goes. A stub stands for systemd-python."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from roundq.words.errors import ConfigError
from roundq.world import notify
from roundq.world.notify import Notifier, open_log

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


# ---------------------------------------------------------------- the log file


@pytest.fixture
def stderr() -> Iterator[None]:
    """Standard error as it was, after a log has taken it; and no handler is left behind."""
    kept = os.dup(2)
    yield
    logger = logging.getLogger("roundq")
    for handler in logger.handlers[:]:
        logger.removeHandler(handler)
        with contextlib.suppress(OSError):
            handler.close()
    os.dup2(kept, 2)
    os.close(kept)


@pytest.mark.usefixtures("stderr")
def test_standard_error_follows_the_log_through_its_rotation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a supervisor or a traceback says then is in the newest file, and one older file is kept."""
    monkeypatch.setattr(notify, "LOG_BYTES_MAX", 400)
    path = tmp_path / "node.log"
    logger = open_log(str(path), {})
    os.write(2, b"a traceback\n")
    assert path.read_text() == "a traceback\n"
    for number in range(40):
        logger.info("line %d", number)
        os.write(2, b"after line %d\n" % number)
        assert path.read_text().endswith(f"after line {number}\n")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["node.log", "node.log.1"]
    assert all(file.stat().st_size < 500 for file in tmp_path.iterdir())


@pytest.mark.usefixtures("stderr")
def test_a_log_is_continued_and_every_line_tells_its_process(tmp_path: Path) -> None:
    path = tmp_path / "node.log"
    path.write_text("earlier\n")
    open_log(str(path), {}).warning("job %s %s", "17", os.fsdecode(b"caf\xe9"))
    earlier, line = path.read_text().splitlines()
    assert earlier == "earlier"
    assert f"[{os.getpid()}] WARNING job 17 caf\\udce9" in line


@pytest.mark.usefixtures("stderr")
def test_opening_the_log_again_does_not_double_its_lines(tmp_path: Path) -> None:
    for _ in range(3):
        logger = open_log(str(tmp_path / "node.log"), {})
    logger.info("once")
    logger.debug("not said unless verbose")
    assert (tmp_path / "node.log").read_text().count("\n") == 1


@pytest.mark.usefixtures("stderr")
def test_what_is_said_verbosely_is_seen_on_the_screen_too(tmp_path: Path) -> None:
    """On standard error as it was before the log took it."""
    reading, writing = os.pipe()
    os.dup2(writing, 2)
    os.close(writing)
    logger = open_log(str(tmp_path / "node.log"), {}, verbose=True)
    logger.debug("details")
    for handler in logger.handlers[:]:
        logger.removeHandler(handler)
        handler.close()
    assert "DEBUG details" in (tmp_path / "node.log").read_text()
    assert os.read(reading, 100) == b"details\n"
    os.close(reading)


@pytest.mark.usefixtures("stderr")
def test_a_full_disk_does_not_stop_the_daemon(tmp_path: Path) -> None:
    """/dev/full answers every write with ENOSPC; what was to be said is lost, and nothing else."""
    (tmp_path / "node.log").symlink_to("/dev/full")
    logger = open_log(str(tmp_path / "node.log"), {})
    for _ in range(3):
        logger.error("nobody will read this")


@pytest.mark.usefixtures("stderr")
def test_a_line_that_cannot_be_written_leaves_no_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Between two lines of the log, or on the screen of who started the daemon, it would only frighten."""
    logger = open_log(str(tmp_path / "node.log"), {})
    (handler,) = logger.handlers
    assert isinstance(handler, logging.FileHandler)

    def refuse() -> None:
        raise OSError(errno.EIO, "an error of the server")

    handler.flush = refuse  # type: ignore[method-assign]
    logger.error("a round failed")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("level", "priority"), [("info", "6"), ("warning", "4"), ("error", "3")])
@pytest.mark.usefixtures("stderr")
def test_the_journal_is_told_how_serious_it_is(
    level: str, priority: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[str, dict[str, str]]] = []
    journal = types.ModuleType("systemd.journal")
    setattr(journal, "send", lambda text, **fields: sent.append((text, fields)))  # noqa: B010
    package = types.ModuleType("systemd")
    setattr(package, "journal", journal)  # noqa: B010
    monkeypatch.setitem(sys.modules, "systemd", package)
    monkeypatch.setitem(sys.modules, "systemd.journal", journal)
    errors = tmp_path / "errors"
    told = {"JOURNAL_STREAM": stream(errors)}
    descriptor = os.open(errors, os.O_WRONLY)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    logger = open_log(str(tmp_path / "node.log"), told)
    getattr(logger, level)("job 17 ends", extra={"ROUNDQ_JOB": "17", "ROUNDQ_NODE": "n1", "OTHER": "x"})
    fields = {"PRIORITY": priority, "SYSLOG_IDENTIFIER": "roundq", "ROUNDQ_JOB": "17", "ROUNDQ_NODE": "n1"}
    assert sent == [("job 17 ends", fields)]


def test_a_unit_without_systemd_python_fails_as_a_wrong_configuration_does() -> None:
    """EX_CONFIG: a service manager does not start it again and again."""
    assert ConfigError("").exit_code == 78
