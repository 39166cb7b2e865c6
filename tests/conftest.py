"""What every test may ask for."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator

import pytest

pytest_plugins = ["tests.cluster.plugin"]


def pytest_sessionstart() -> None:
    """What scripts ignore for a command that stands before `&`, such as Ctrl-C, is heard by ours."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            heard = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, heard)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With CI=true nothing is skipped, so that nobody takes a run for complete in which half was."""
    report = yield
    if report.skipped and os.environ.get("CI") == "true" and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{reason}; in CI that is a failure"
    return report


@pytest.fixture(autouse=True)
def no_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps the configuration, and the job, of whoever runs the tests out of them."""
    for name in os.environ:
        if name.startswith("RQ_") or name == "XDG_CONFIG_HOME":
            monkeypatch.delenv(name)
