"""Promises about stored environments: private, each once, and used only as they were stored."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roundq.records import environments
from roundq.records.spool import Spool
from roundq.words.errors import RecordError, SpoolError, SpoolFull
from roundq.world import files
from tests.records.crowd import crowd, leftovers, new_spool
from tests.world.refusing import LOST, Refusing

SHELL = {"PATH": "/bin", "TOKEN": "s3cret", "UMLAUT": "ä", "BYTES": os.fsdecode(b"\xff")}
NOBODY = 65534


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return new_spool(tmp_path)


def path_of(spool: Spool, digest: str) -> Path:
    return Path(spool.path, "env", f"{digest}.json")


def refused(spool: Spool, digest: str) -> str:
    with pytest.raises(RecordError) as caught:
        environments.load(spool, digest)
    return str(caught.value)


def test_what_is_stored_is_loaded(spool: Spool) -> None:
    assert environments.load(spool, environments.store(spool, SHELL, "n1")) == SHELL
    assert leftovers(spool) == []


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(*[st.binary(max_size=9).map(lambda b: os.fsdecode(b.replace(b"\0", b"")))] * 2))
def test_any_bytes_of_names_and_values_come_back(
    tmp_path_factory: pytest.TempPathFactory, environ: dict[str, str]
) -> None:
    spool = new_spool(tmp_path_factory.getbasetemp() / "any-environment")
    assert environments.load(spool, environments.store(spool, environ, "n1")) == environ


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o277])
def test_nobody_else_may_read_it(umask: int, spool: Spool) -> None:
    previous = os.umask(umask)
    try:
        digest = environments.store(spool, SHELL, "n1")
    finally:
        os.umask(previous)
    assert stat.S_IMODE(path_of(spool, digest).stat().st_mode) == 0o600
    assert stat.S_IMODE(os.stat(spool.directory("env")).st_mode) == 0o700


def test_it_is_never_readable_by_others_not_even_while_it_is_written(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = Refusing()
    seen: list[int] = []

    def write(descriptor: int, data: bytes) -> int:
        seen.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return os.write(descriptor, data)

    system.instead("write", write)
    monkeypatch.setattr(files, "os", system)
    previous = os.umask(0)
    try:
        environments.store(spool, SHELL, "n1")
    finally:
        os.umask(previous)
    assert seen == [0o600]


def test_the_same_environment_is_one_file_whatever_the_order(spool: Spool) -> None:
    one = environments.store(spool, SHELL, "n1")
    other = environments.store(spool, dict(reversed(SHELL.items())), "n2")
    assert one == other
    assert os.listdir(spool.directory("env")) == [f"{one}.json"]


def test_many_submitters_at_once_share_one_file(spool: Spool) -> None:
    digests = crowd(4, lambda number: [environments.store(spool, SHELL, f"n{number}") for _ in range(10)])
    assert len({digest for each in digests for digest in each}) == 1
    assert len(os.listdir(spool.directory("env"))) == 1
    assert leftovers(spool) == []


def test_storing_again_renews_it(spool: Spool) -> None:
    """So that no sweep takes it before the new job names it."""
    digest = environments.store(spool, SHELL, "n1")
    os.utime(path_of(spool, digest), (1, 1))
    environments.store(spool, SHELL, "n1")
    assert path_of(spool, digest).stat().st_mtime > 1_000_000


@pytest.mark.parametrize("content", [b"", b"{}", b'{"PATH":"/evil"}', b"\xff" * 9])
def test_a_damaged_one_is_never_used_and_mended_by_the_next_submission(content: bytes, spool: Spool) -> None:
    digest = environments.store(spool, SHELL, "n1")
    path_of(spool, digest).write_bytes(content)
    assert refused(spool, digest) == f"environment {digest[:12]} is damaged"
    assert environments.store(spool, SHELL, "n1") == digest
    assert environments.load(spool, digest) == SHELL


@pytest.mark.parametrize("kind", ["fifo", "link", "directory"])
def test_what_is_no_file_is_not_used(kind: str, spool: Spool) -> None:
    path = path_of(spool, "0" * 64)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to("/etc/passwd")
    else:
        path.mkdir()
    assert refused(spool, "0" * 64).isprintable()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file away")
def test_what_belongs_to_somebody_else_is_not_used(spool: Spool) -> None:
    digest = environments.store(spool, SHELL, "n1")
    os.chown(path_of(spool, digest), NOBODY, NOBODY)
    assert refused(spool, digest).endswith("it belongs to uid 65534, not to uid 0")


def test_one_that_is_gone_is_said_to_be_so(spool: Spool) -> None:
    assert refused(spool, "ab" * 32) == "environment abababababab cannot be read: No such file or directory"


def test_one_that_is_no_environment_is_refused_although_its_digest_is_right(spool: Spool) -> None:
    """Another program may store what it likes."""
    import hashlib

    for text in (b"[]", b'"x"', b"[" * 5000, b"nothing", b'{"A": 1}'):
        digest = hashlib.sha256(text).hexdigest()
        path_of(spool, digest).write_bytes(text)
        assert refused(spool, digest).isprintable()


def test_one_that_could_never_be_loaded_is_not_stored(spool: Spool) -> None:
    with pytest.raises(SpoolError, match="larger than"):
        environments.store(spool, {"A": "x" * environments.BYTES_MAX}, "n1")
    assert os.listdir(spool.directory("env")) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", ["open", "write", "fsync", "rename"])
def test_a_full_quota_is_said_and_leaves_nothing(
    call: str, number: int, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = Refusing()
    system.fail(call, number, where="" if call != "open" else "tmp")
    monkeypatch.setattr(files, "os", system)
    with pytest.raises(SpoolFull, match="cannot keep the environment"):
        environments.store(spool, SHELL, "n1")
    assert os.listdir(spool.directory("env")) == leftovers(spool) == []


@pytest.mark.parametrize("number", LOST)
def test_a_lost_reply_is_success(number: int, spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    system = Refusing()
    system.fail("rename", number, happens=True)
    monkeypatch.setattr(files, "os", system)
    assert environments.load(spool, environments.store(spool, SHELL, "n1")) == SHELL


def test_a_sweep_takes_of_what_is_spare_what_is_old(spool: Spool) -> None:
    digests = [environments.store(spool, {"A": letter}, "n1") for letter in "abc"]
    for digest in digests[:2]:
        os.utime(path_of(spool, digest), (1000, 1000))
    assert environments.stored(spool) == set(digests)
    assert environments.sweep(spool, digests[1:], 2000.0) == 1
    assert sorted(os.listdir(spool.directory("env"))) == sorted(f"{d}.json" for d in (digests[0], digests[2]))
