"""A desk: a person in a home of her own who types commands, and what she sees."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from roundq.actors import queue
from roundq.actors.listing import Row
from roundq.faces.cli import main
from roundq.records.spool import Spool
from roundq.words.job import Record
from tests.faces.homes import Homes

#: A user who is nobody on any machine, for tests that root runs and that are about what may not be done.
STRANGER = 54_321


class Said(NamedTuple):
    """What a command answered."""

    code: int
    out: str
    err: str


class Desk:
    """Ann at her desk: her directory, her home, her commands, in this process."""

    def __init__(
        self,
        homes: Homes,
        directory: Path,
        monkeypatch: pytest.MonkeyPatch,
        capture: pytest.CaptureFixture[str],
    ) -> None:
        self.homes = homes
        self.directory = directory
        self.spool: Spool = homes.user("ann")
        self._capture = capture
        monkeypatch.chdir(directory)
        given = {**homes.environ("ann"), "PWD": str(directory), "RQ_AUTO_START": "false"}
        for name, text in given.items():
            monkeypatch.setenv(name, text)

    def rq(self, *words: str) -> Said:
        """Types `rq WORDS`."""
        self._capture.readouterr()
        code = main(list(words))
        return Said(code, *self._capture.readouterr())

    def row(self, job_id: str) -> Row:
        """A job of hers, as it is now."""
        (row,), _ = queue.find(self.spool, [job_id])
        return row

    def record(self, job_id: str) -> Record:
        """The record of a job of hers."""
        found = self.row(job_id).record
        assert found is not None
        return found


def process(
    *words: str, environ: Mapping[str, str], cwd: Path | None = None, timeout: float = 20
) -> subprocess.CompletedProcess[bytes]:
    """Runs `rq WORDS` as a process of its own."""
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2]), **environ}
    command = [sys.executable, "-m", "roundq", *words]
    return subprocess.run(command, env=environ, cwd=cwd, capture_output=True, timeout=timeout, check=False)


@contextlib.contextmanager
def start(desk: Desk, *words: str, **more: str) -> Iterator[subprocess.Popen[str]]:
    """Runs `rq WORDS` as a process of hers that goes on, with pipes; nothing is left of it afterwards."""
    paths = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])}
    environ = {**desk.homes.environ("ann"), **paths, "RQ_AUTO_START": "no", **more}
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", "roundq", *words]
    with subprocess.Popen(
        command, env=environ, cwd=desk.directory, stdin=pipe, stdout=pipe, stderr=pipe, text=True
    ) as running:
        try:
            yield running
        finally:
            running.kill()


@contextlib.contextmanager
def as_somebody_else() -> Iterator[Path]:
    """Root without its rights, and a directory that this user may read but not write."""
    with tempfile.TemporaryDirectory(prefix="rq-test-") as directory:
        os.chmod(directory, 0o755)
        before = os.geteuid()
        if before == 0:
            os.seteuid(STRANGER)
        else:
            os.chmod(directory, 0o555)
        try:
            yield Path(directory)
        finally:
            os.seteuid(before)
            os.chmod(directory, 0o755)
