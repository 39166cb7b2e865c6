"""Promises about jobs that are submitted together: durable before it is said, where they belong, or not."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from roundq.records import batch
from roundq.records import spool as spools
from roundq.records.spool import Spool
from roundq.words.errors import PartlySubmitted, SpoolError, SubmissionInterrupted
from roundq.words.job import Array, Dependency, Job, Record, Task
from roundq.words.states import HELD, WAITING
from roundq.world import files, mounts, together
from roundq.world.mounts import Mount
from roundq.world.together import Together

MANY = batch.TOGETHER_LEAST


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    (tmp_path / "ann").mkdir()
    made = spools.at(str(tmp_path / "ann"), "ann", os.geteuid())
    spools.prepare(made)
    return made


def array(spool: Spool, count: int, **more: Any) -> str:
    job = Job(("true",), array=Array("", 0, 0, count - 1, 1, count), submitted_ns=1)
    parts = [[Task(index, ("echo", str(index)))] for index in range(count)]
    return spools.submit_array(spool, job, parts, "n1", **more)


def ids(spool: Spool) -> set[str]:
    return {entry.id for entry in spools.scan(spool)}


# ---------------------------------------------------------------- where to


@pytest.mark.parametrize(
    ("job", "on_hold", "name"),
    [
        (Job(("true",)), False, "waiting/1.job"),
        (Job(("true",), begin_ns=5), False, "held/1.job"),
        (Job(("true",), after=(Dependency("ok", "7"),)), False, "held/1.job"),
        (Job(("true",)), True, "held/1@user.job"),
        (Job(("true",), begin_ns=5), True, "held/1@user.job"),
    ],
)
def test_what_waits_for_something_is_held(spool: Spool, job: Job, on_hold: bool, name: str) -> None:
    assert spools.submit(spool, [job], "n1", on_hold=on_hold) == ["1"]
    assert Path(spool.path, name).exists()
    (entry,) = spools.scan(spool)
    assert entry.is_on_hold is on_hold


def test_an_array_is_held_as_a_whole(spool: Spool) -> None:
    array(spool, 3, on_hold=True)
    assert {(entry.id, entry.state, entry.is_on_hold) for entry in spools.scan(spool)} == {
        (f"1_{index}", HELD, True) for index in range(3)
    }


def test_each_task_has_its_index_and_command_and_all_else_in_common(spool: Spool) -> None:
    assert array(spool, 3) == "1"
    for entry in spools.scan(spool):
        index = int(entry.id.partition("_")[2])
        expected = Job(("echo", str(index)), array=Array("1", index, 0, 2, 1, 3), submitted_ns=1)
        assert (entry.state, spools.read(spool, entry)) == (WAITING, Record(expected))
    assert array(spool, 1) == "2"
    assert spools.submit(spool, [Job(("true",))], "n1") == ["3"]


@pytest.mark.parametrize(
    ("counts_alone", "directory", "first", "second"),
    [(False, "ids", "1", "2"), (True, "ids/of.n1", "1.n1", "2.n1")],
)
def test_numbers_of_arrays_are_not_given_again_after_the_token_was_lost(
    spool: Spool, counts_alone: bool, directory: str, first: str, second: str
) -> None:
    """Also where each node counts for itself."""
    assert array(spool, 2, counts_alone=counts_alone) == first
    for name in os.listdir(f"{spool.path}/{directory}"):
        os.unlink(f"{spool.path}/{directory}/{name}")
    assert array(spool, 2, counts_alone=counts_alone) == second


# ---------------------------------------------------------------- durable


class Disk:
    """What is done to files, in its order, and what of it a crash could undo."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, spool: Spool) -> None:
        self.done: list[str] = []
        waiting = spool.directory(WAITING)

        def noted(of: Any, name: str, told: str, when: Any = lambda *_: True) -> None:
            real = getattr(of, name)

            def call(*args: Any, **more: Any) -> Any:
                result = real(*args, **more)
                if when(*args):
                    self.done.append(told)
                return result

            monkeypatch.setattr(of, name, call)

        noted(files, "write_temporary", "write", lambda directory, *_: directory.endswith("/tmp"))
        noted(os, "fsync", "sync one", lambda descriptor: not os.path.isdir(f"/proc/self/fd/{descriptor}"))
        noted(together, "_syncfs", "sync all")
        noted(files, "place", "place")
        noted(files, "sync_directory", "sync names", lambda path: path == waiting)


def test_many_are_written_synced_placed_and_synced_in_this_order(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sync of all contents before the first name, one of the names before it is said."""
    monkeypatch.setattr(mounts, "mount_of", lambda path: Mount(path, "ext4", "", ()))
    for submit in (
        lambda: array(spool, MANY),
        lambda: spools.submit(spool, [Job(("true",))] * MANY, "n1"),
    ):
        with monkeypatch.context() as patch:
            disk = Disk(patch, spool)
            submit()
        assert disk.done == ["write"] * MANY + ["sync all"] + ["place"] * MANY + ["sync names"]


@pytest.mark.parametrize("kind", ["nfs4", "fuse.sshfs", "cifs", "ceph", None])
def test_where_that_promises_nothing_each_is_synced(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, kind: str | None
) -> None:
    monkeypatch.setattr(mounts, "mount_of", lambda path: kind and Mount(path, kind, "", ()))
    disk = Disk(monkeypatch, spool)
    array(spool, MANY)
    assert disk.done == ["sync one", "write"] * MANY + ["place"] * MANY + ["sync names"]


def test_few_are_synced_one_by_one(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What others write to the same disk would be waited for as well."""
    disk = Disk(monkeypatch, spool)
    array(spool, MANY - 1)
    assert "sync all" not in disk.done
    assert disk.done.count("sync one") == MANY - 1


@pytest.mark.parametrize(
    ("release", "each"), [("5.7.19-x", True), ("4.18.0-553.el8", True), ("6.1.0-13", False)]
)
def test_an_old_kernel_says_nothing_of_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release: str, each: bool
) -> None:
    monkeypatch.setattr(mounts, "mount_of", lambda path: Mount(path, "xfs", "", ()))
    name = os.uname_result(("Linux", "n", release, "", ""))
    monkeypatch.setattr(os, "uname", lambda: name)
    made = Together(str(tmp_path))
    assert made.each is each
    made.close()


def test_all_is_taken_back_if_it_cannot_be_made_durable(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mounts, "mount_of", lambda path: Mount(path, "ext4", "", ()))

    def broken(_descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(together, "_syncfs", broken)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(SpoolError, match=r"cannot submit to .*: Input/output error"):
        array(spool, MANY)
    assert ids(spool) == set()
    assert os.listdir(spool.directory("tmp")) == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_kernel_is_asked_in_earnest(tmp_path: Path) -> None:
    """Of this very file system, whatever it is; and of a descriptor that is none it says so."""
    made = Together(str(tmp_path))
    (tmp_path / "file").write_text("x")
    made.sync()
    made.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        together._syncfs(made._descriptor)


# ---------------------------------------------------------------- all or none


@pytest.mark.parametrize("share", [0.1, 0.5, 0.6, 0.8])
def test_an_array_that_is_interrupted_is_not_there(spool: Spool, share: float) -> None:
    def stop(done: float) -> None:
        if done >= share:
            raise KeyboardInterrupt

    with pytest.raises(SubmissionInterrupted) as caught:
        array(spool, 3 * MANY, on_step=stop)
    assert caught.value.ids == ()
    assert ids(spool) == set()
    assert os.listdir(spool.directory("tmp")) == []


def test_what_nodes_have_taken_of_it_is_told(spool: Spool) -> None:
    """As it can be typed again."""

    def stop(done: float) -> None:
        if done >= 0.8:
            for index in (0, 1, 2, 5):
                (entry,) = [one for one in spools.scan(spool, (WAITING,)) if one.id == f"1_{index}"]
                spools.claim(spool, entry, "n2")
            raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(PartlySubmitted) as caught:
        array(spool, 3 * MANY, on_step=stop)
    assert ids(spool) == {"1_0", "1_1", "1_2", "1_5"}
    assert "these jobs are in the queue already: 1_[0-2,5]" in str(caught.value)
    assert caught.value.hint == "if they are not wanted: rq cancel '1_[0-2,5]'"


def test_a_file_that_another_program_gave_the_number_is_left_alone(spool: Spool) -> None:
    foreign = Path(spool.directory(WAITING), "1_5.job")
    foreign.write_text("foreign")
    with pytest.raises(SpoolError, match=r"1_5\.job is there already"):
        array(spool, 10)
    assert ids(spool) == {"1_5"}
    assert foreign.read_text() == "foreign"
    assert array(spool, 10) == "2"
