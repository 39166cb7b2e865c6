"""Promises about a job directory on disk that its workers build on; the rest is in
tests/faces/test_dirjobs.py."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from roundq.faces.api.means import me
from roundq.records.jobdir import JobDir, is_dead
from roundq.words import jobdir as words
from roundq.words.job import Identity
from roundq.words.jobdir import Author, Claim
from roundq.world import procs


@pytest.fixture
def jobs(tmp_path: Path) -> JobDir:
    found = JobDir(str(tmp_path))
    found.found()
    return found


def dead() -> Author:
    """A process of this node that has ended."""
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    identity = procs.identity(child.pid)
    child.communicate()
    assert identity is not None
    return me()._replace(process=identity)


def test_only_what_is_certainly_dead_is_dead() -> None:
    """Of this node, in this table of processes or of an earlier boot; else nothing is known."""
    ended, mine = dead(), me()
    assert is_dead(ended, mine)
    assert not is_dead(mine, mine)
    for other in (
        ended._replace(node="another"),
        ended._replace(machine="another"),
        ended._replace(space="pid:[1]"),
    ):
        assert not is_dead(other, mine)
    rebooted = mine._replace(process=replace(mine.process, boot="another"))
    assert is_dead(rebooted, mine) is (mine.machine != "")
    # Of two machines without an id that have one name.
    assert not is_dead(rebooted._replace(machine=""), mine._replace(machine=""))
    assert not is_dead(ended._replace(space=""), mine._replace(space=""))


def test_whoever_may_take_jobs_may_keep_a_diary(tmp_path: Path) -> None:
    """The directory of the diaries has the mode of that of the jobs, whatever the umask."""
    (tmp_path / words.WAITING).mkdir()
    os.chmod(tmp_path / words.WAITING, 0o2775)
    before = os.umask(0o077)
    try:
        JobDir(str(tmp_path)).found()
    finally:
        os.umask(before)
    assert os.stat(tmp_path / words.DIARIES).st_mode & 0o777 == 0o775


def test_of_several_that_inherit_one_does(jobs: JobDir) -> None:
    diary = jobs.begin("w1", Author("n", "m", "s", Identity("b", 1, 1)))
    assert jobs.inherit(diary, "w1.0.b")
    assert not jobs.inherit(diary, "w1.0.c")
    assert [one.is_inherited for one in jobs.diaries()] == [True]


def test_diaries_are_read_again_when_they_grow(jobs: JobDir) -> None:
    diary = jobs.begin("w1", me())
    for name in ("1.txt", "2.txt"):
        jobs.note(diary, words.claims(name), sync=False)
        assert [one.open for one in jobs.diaries()] == [name]


def test_a_directory_is_a_job_too(jobs: JobDir, tmp_path: Path) -> None:
    """Whatever has a name can wait; it is moved as it is, and never compared."""
    (tmp_path / words.WAITING / "d.txt" / "inner").mkdir(parents=True)
    one, other = Claim("w1", "d.txt"), Claim("w2", "d.txt")
    assert jobs.claim(one)
    assert jobs.is_same(one, other) is None
    assert jobs.end(one, words.DONE, 1) == "d.txt"
    assert (tmp_path / words.DONE / "d.txt" / "inner").is_dir()


def test_a_large_file_is_not_compared(jobs: JobDir, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("roundq.records.jobdir.COMPARED_BYTES_MAX", 10)
    for content, is_same in (("0123456789", True), ("01234567890", None)):
        for wid in ("w1", "w2"):
            (tmp_path / words.RUNNING / f"{wid}.1").write_text(content)
        assert jobs.is_same(Claim("w1", "1"), Claim("w2", "1")) is is_same
