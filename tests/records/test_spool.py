"""Promises about the spool: what is safe to use, what is accepted, and who gets what several want."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from roundq.records import ids
from roundq.records import spool as spools
from roundq.records.shelf import Shelf
from roundq.records.spool import Entry, Spool
from roundq.words import job as jobs
from roundq.words.errors import PartlySubmitted, RecordError, SpoolError, SpoolFull, SpoolUnsafe
from roundq.words.job import Identity, Job, Record
from roundq.words.states import (
    CANCELED,
    CLAIMED,
    COMPLETED,
    FAILED,
    HELD,
    REASONS,
    REQUESTS,
    RUNNING,
    STATES,
    WAITING,
    ZOMBIE,
)
from roundq.world import files
from tests.records.crowd import born, crowd, drop, entry_of, leftovers, new_spool, record_of, submitted, where
from tests.world.refusing import LOST, Refusing

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give files away")
PARTS = (*STATES, "requests", "control", "history", "news", "tmp", "ids", "env")
PROCESS = Identity("boot", 4711, 99)
#: Reasons of jobs that were canceled.
CANCELED_FOR = ("canceled", "dependency", "max fails")


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return new_spool(tmp_path / "ann")


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Refusing:
    """What the spool takes for the operating system."""
    refusing = Refusing()
    for module in (files, ids):
        monkeypatch.setattr(module, "os", refusing)
    return refusing


def claimed(spool: Spool, node: str = "n1") -> Entry:
    (job_id,) = submitted(spool)
    entry = spools.claim(spool, entry_of(spool, job_id), node)
    assert entry is not None
    return entry


def begun(spool: Spool, node: str = "n1", cores: int = 1) -> tuple[Entry, Record]:
    """A running record of a node, with its supervisor in it."""
    entry = claimed(spool, node)
    record = replace(
        spools.read(spool, entry), process=PROCESS, pid=PROCESS.pid, node=node, started_ns=5, cores=cores
    )
    spools.rewrite(spool, entry, record, node)
    running = spools.begin(spool, entry, node)
    assert running is not None
    return running, record


# ---------------------------------------------------------------- prepare


def mode(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


@pytest.mark.parametrize("umask", [0o077, 0o000, 0o022, 0o002])
def test_a_new_spool_can_be_seen_by_neighbours_whatever_the_umask(umask: int, tmp_path: Path) -> None:
    """And written by nobody else; environments are seen by nobody else."""
    previous = os.umask(umask)
    try:
        spool = new_spool(tmp_path)
    finally:
        os.umask(previous)
    assert mode(spool.path) == 0o755
    assert {name: mode(spool.directory(name)) for name in PARTS} == {
        **dict.fromkeys(PARTS, 0o755),
        "env": 0o700,
    }
    assert sorted(os.listdir(spool.path)) == sorted(PARTS)
    assert leftovers(spool) == []


def test_preparing_again_changes_nothing(spool: Spool) -> None:
    submitted(spool)
    before = {name: os.stat(spool.directory(name)).st_mtime_ns for name in ("", *PARTS)}
    spools.prepare(spool)
    assert {name: os.stat(spool.directory(name)).st_mtime_ns for name in ("", *PARTS)} == before


def test_what_the_user_has_closed_stays_closed(spool: Spool) -> None:
    os.chmod(spool.path, 0o700)
    spools.prepare(spool)
    assert mode(spool.path) == 0o700


def test_many_may_prepare_at_once(tmp_path: Path) -> None:
    def prepare(_: int) -> list[str]:
        return submitted(new_spool(tmp_path))

    assert sorted(crowd(5, prepare)) == [["1"], ["2"], ["3"], ["4"], ["5"]]
    assert leftovers(spools.at(str(tmp_path), "ann", os.geteuid())) == []


@pytest.mark.parametrize("part", ["", *PARTS])
@as_root
def test_what_belongs_to_somebody_else_is_refused(part: str, spool: Spool) -> None:
    path = spool.directory(part).rstrip("/")
    os.chown(path, NOBODY, -1)
    with pytest.raises(SpoolUnsafe, match=f"{path} belongs to uid 65534, not to you") as caught:
        spools.prepare(spool)
    assert caught.value.exit_code == 77
    assert f"mv {path}" in str(caught.value.hint)


@pytest.mark.parametrize("bits", [0o020, 0o002], ids=["group", "others"])
@pytest.mark.parametrize("part", ["", *PARTS])
def test_what_others_can_write_is_refused(part: str, bits: int, spool: Spool) -> None:
    path = spool.directory(part).rstrip("/")
    os.chmod(path, mode(path) | bits)
    with pytest.raises(SpoolUnsafe, match=f"{path} can be written by others") as caught:
        spools.prepare(spool)
    assert f"chmod go-w {path}" in str(caught.value.hint)
    os.chmod(path, mode(path) & ~0o022)
    spools.prepare(spool)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_on_another_file_system_is_refused(
    part: str, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No rename between the two would be one step."""

    def elsewhere(path: str) -> object:
        status = os.lstat(path)
        device = status.st_dev + path.endswith(part)
        return SimpleNamespace(st_mode=status.st_mode, st_uid=status.st_uid, st_dev=device)

    system = Refusing()
    for call in ("stat", "lstat"):
        system.instead(call, elsewhere)
    monkeypatch.setattr(spools, "os", system)
    with pytest.raises(SpoolError, match=f"{part} is on another file system"):
        spools.prepare(spool)


@pytest.mark.parametrize("part", ["", *PARTS])
def test_a_file_in_the_way_is_refused(part: str, tmp_path: Path) -> None:
    spool = spools.at(str(tmp_path), "ann", os.geteuid())
    path = Path(spool.directory(part).rstrip("/"))
    path.parent.mkdir(exist_ok=True, mode=0o755)
    path.write_bytes(b"keep me")
    with pytest.raises(SpoolError, match=f"{path} is not a directory") as caught:
        spools.prepare(spool)
    assert f"mv {path}" in str(caught.value.hint)
    assert path.read_bytes() == b"keep me"


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.EDQUOT, SpoolFull), (errno.EROFS, SpoolError), (errno.EACCES, SpoolError)]
)
def test_a_home_that_takes_no_spool_is_said(
    number: int, kind: type[SpoolError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = Refusing()
    system.fail("mkdir", number)
    monkeypatch.setattr(spools, "os", system)
    with pytest.raises(kind, match=r"cannot create .*/\.roundqueue: "):
        spools.prepare(spools.at(str(tmp_path), "ann", os.geteuid()))


def test_a_new_spool_is_durable_before_a_job_is_accepted_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or else a crash could take the whole queue with it, and the job whose id was printed."""
    synced: list[str] = []
    monkeypatch.setattr(files, "sync_directory", synced.append)
    spool = new_spool(tmp_path / "ann")
    assert str(tmp_path / "ann") in synced
    assert spool.path in synced
    synced.clear()
    spools.prepare(spool)
    assert synced == []


# ---------------------------------------------------------------- looking


@pytest.mark.parametrize(
    ("state", "file", "job_id", "node"),
    [
        (WAITING, "1.job", "1", None),
        (WAITING, "a.b.job", "a.b", None),
        (WAITING, "a@b.job", "a@b", None),
        (WAITING, "Übung 7 (alt).job", "Übung 7 (alt)", None),
        (WAITING, ".job.job", None, None),
        (WAITING, "x.job.job", "x.job", None),
        (WAITING, f"{'x' * 120}.job", "x" * 120, None),
        (WAITING, f"{'x' * 121}.job", None, None),
        (WAITING, f"{'ü' * 61}.job", None, None),
        (WAITING, "-rf.job", "-rf", None),
        (WAITING, ".hidden.job", None, None),
        (WAITING, ".job", None, None),
        (WAITING, "1.job~", None, None),
        (WAITING, "1.json", None, None),
        (WAITING, "1", None, None),
        (WAITING, "a\x1b[2J.job", None, None),
        (WAITING, "a\nb.job", None, None),
        (WAITING, "a\u202eb.job", None, None),
        (WAITING, os.fsdecode(b"a\xff.job"), None, None),
        (CLAIMED, "1@n1.job", "1", "n1"),
        (RUNNING, "a@b@n1.example.org.job", "a@b", "n1.example.org"),
        (RUNNING, "1790000000.123456789.job", "1790000000.123456789", None),
        (RUNNING, "@n1.job", None, None),
        (RUNNING, "1@.job", None, None),
        (RUNNING, f"{'x' * 120}@{'n' * 128}.job", "x" * 120, "n" * 128),
        (COMPLETED, "1@n1.job", "1@n1", None),
        (ZOMBIE, "1.job", "1", None),
    ],
)
def test_a_file_name_tells_id_and_node(
    state: str, file: str, job_id: str | None, node: str | None, spool: Spool
) -> None:
    path = Path(spool.directory(state), file)
    path.touch()
    expected = [] if job_id is None else [Entry(job_id, state, node, file, os.stat(path).st_ino)]
    assert spools.scan(spool) == expected
    if expected:
        assert spools.path_of(spool, expected[0]) == str(path)


def test_any_id_and_any_node_make_a_file_name_that_fits() -> None:
    """255 bytes (NAME_MAX); node names have up to 128."""
    assert len(spools.owned_file("x" * spools.ID_BYTES_MAX, "n" * 128)) <= 255


def test_states_are_listed_in_the_order_in_which_jobs_move_on(spool: Spool) -> None:
    for state in STATES:
        Path(spool.directory(state), f"{state}.job").touch()
    assert [entry.state for entry in spools.scan(spool)] == list(STATES)


def test_a_spool_that_does_not_exist_has_no_jobs(tmp_path: Path) -> None:
    spool = spools.at(str(tmp_path), "ann", os.geteuid())
    assert not spools.exists(spool)
    assert spools.scan(spool) == []
    assert spools.requests(spool) == {}
    assert os.listdir(tmp_path) == []


def test_a_directory_that_cannot_be_listed_is_not_taken_for_empty(spool: Spool, system: Refusing) -> None:
    system.fail("scandir", errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        spools.scan(spool)


def test_looking_changes_nothing(spool: Spool) -> None:
    submitted(spool, 2)
    begun(spool)
    drop(spool, "broken.job", b"")
    before = {name: sorted(os.stat(spool.directory(name)).st_mtime_ns for name in PARTS) for name in PARTS}
    for entry in spools.scan(spool):
        if entry.id != "broken":
            spools.read(spool, entry)
    spools.requests(spool)
    Shelf(spool, WAITING).look(0.0)
    assert before == {
        name: sorted(os.stat(spool.directory(name)).st_mtime_ns for name in PARTS) for name in PARTS
    }


def hostile_fifo(path: str) -> None:
    os.mkfifo(path)


def hostile_link(path: str) -> None:
    os.symlink("/etc/passwd", path)


def hostile_huge(path: str) -> None:
    Path(path).touch()
    os.truncate(path, 1 << 40)


def hostile_directory(path: str) -> None:
    os.mkdir(path)


def hostile_nonsense(path: str) -> None:
    Path(path).write_bytes(b"\x1b[2J" * 99)


@pytest.mark.parametrize(
    "make", [hostile_fifo, hostile_link, hostile_huge, hostile_directory, hostile_nonsense]
)
def test_what_is_no_record_is_refused_and_stays_where_it_is(
    make: Callable[[str], None], spool: Spool
) -> None:
    make(f"{spool.path}/waiting/x.job")
    entry = entry_of(spool, "x")
    with pytest.raises(RecordError) as caught:
        spools.read(spool, entry)
    assert str(caught.value).isprintable()
    assert where(spool) == {"x": WAITING}


@as_root
def test_a_file_of_somebody_else_is_never_a_job_of_mine(spool: Spool) -> None:
    os.chown(drop(spool, "x.job"), NOBODY, NOBODY)
    with pytest.raises(RecordError, match="it belongs to uid 65534"):
        spools.read(spool, entry_of(spool, "x"))


# ---------------------------------------------------------------- the shelf


def test_a_shelf_keeps_the_entries_that_are_still_there(spool: Spool) -> None:
    submitted(spool, 2)
    shelf = Shelf(spool, WAITING)
    assert shelf.look(0.0)
    before = shelf.entries["1.job"]
    submitted(spool)
    spools.claim(spool, shelf.entries["2.job"], "n1")
    assert shelf.look(10.0)
    assert sorted(shelf.entries) == ["1.job", "3.job"]
    assert shelf.entries["1.job"] is before


def test_a_shelf_says_whether_anything_changed(spool: Spool) -> None:
    shelf = Shelf(spool, WAITING)
    submitted(spool)
    assert [shelf.look(now) for now in (0.0, 1.0, 2.5, 10.0)] == [True, False, False, False]
    path = drop(spool, "x.job")
    assert shelf.look(20.0)
    os.unlink(path)
    drop(spool, "y.job")
    assert shelf.look(30.0)


def test_a_file_that_is_replaced_is_a_new_entry(spool: Spool) -> None:
    shelf = Shelf(spool, WAITING)
    drop(spool, "x.job")
    shelf.look(0.0)
    before = shelf.entries["x.job"]
    drop(spool, "x.job")
    assert shelf.look(10.0)
    assert shelf.entries["x.job"] != before


def test_names_that_are_no_records_change_nothing(spool: Spool) -> None:
    shelf = Shelf(spool, WAITING)
    shelf.look(0.0)
    drop(spool, "README")
    assert not shelf.look(10.0)


def test_a_shelf_that_could_not_be_listed_keeps_what_it_knows_and_looks_again(
    spool: Spool, system: Refusing
) -> None:
    """A server that answers one listing with an error must not empty the queue for good."""
    submitted(spool)
    shelf = Shelf(spool, WAITING)
    shelf.look(0.0)
    system.fail("scandir", errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        shelf.look(5.0)
    assert list(shelf.entries) == ["1.job"]
    submitted(spool)
    os.utime(spool.directory(WAITING), (7, 7))
    system.fail("scandir", errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        shelf.look(6.0)
    assert shelf.look(7.0)
    assert sorted(shelf.entries) == ["1.job", "2.job"]


# ---------------------------------------------------------------- submit


def test_submitted_jobs_wait_under_the_ids_that_are_told(spool: Spool) -> None:
    described = [Job(("a", str(number)), cores=number) for number in range(3)]
    assert spools.submit(spool, described, "n1") == ["1", "2", "3"]
    assert where(spool) == {"1": WAITING, "2": WAITING, "3": WAITING}
    assert [record_of(spool, job_id).job for job_id in "123"] == described
    assert leftovers(spool) == []


def test_a_submission_of_nothing_submits_nothing(spool: Spool) -> None:
    assert spools.submit(spool, [], "n1") == []


def test_a_job_is_durable_before_it_is_visible_and_again_before_it_is_told(
    spool: Spool, system: Refusing
) -> None:
    submitted(spool)
    system.calls.clear()
    submitted(spool)
    steps = [call[0] for call in system.calls]
    (placed,) = [at for at, call in enumerate(system.calls) if call[2:] == (f"{spool.path}/waiting/2.job",)]
    assert steps[placed] == "rename"
    assert "fsync" in steps[:placed]
    assert "fsync" in steps[placed:]
    after = system.calls[placed:]
    assert [call[1] for call in after if call[0] == "open"] == [spool.directory(WAITING)]


def steps_of(spool: Spool, system: Refusing) -> list[tuple[str, int]]:
    """Every call that a submission of three jobs makes, as a function and how many calls of it are before."""
    system.calls.clear()
    submitted(spool, 3)
    seen: dict[str, int] = {}
    steps = []
    for call in system.calls:
        if call[0] in ("open", "fchmod", "write", "fsync", "close", "lstat", "rename", "scandir"):
            steps.append((call[0], seen.get(call[0], 0)))
            seen[call[0]] = seen.get(call[0], 0) + 1
    for entry in spools.scan(spool):
        os.unlink(spools.path_of(spool, entry))
    return steps


@pytest.mark.parametrize("happens", [False, True], ids=["refused", "lost-reply"])
@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.ENOENT], ids=errno.errorcode.get
)
def test_a_submission_is_all_or_nothing_whichever_call_fails(
    number: int, happens: bool, spool: Spool, system: Refusing
) -> None:
    """Either the ids are told and the jobs are there, or an error is, and there is nothing."""
    for name, skip in steps_of(spool, system):
        system.fail(name, number, skip=skip, happens=happens and name not in ("open", "scandir"))
        try:
            told = submitted(spool, 3)
        except SpoolFull:
            assert number in files.FULL, (name, skip)
            told = []
        except SpoolError:
            assert number not in files.FULL, (name, skip)
            told = []
        assert sorted(where(spool)) == sorted(told), (name, skip)
        assert leftovers(spool) == [], (name, skip)
        assert all(record_of(spool, job_id).job.command == ("true",) for job_id in told)
        for job_id in told:
            os.unlink(spools.path_of(spool, entry_of(spool, job_id)))


def test_a_full_quota_is_said_with_a_remedy(spool: Spool, system: Refusing) -> None:
    system.fail("fsync", errno.EDQUOT)
    with pytest.raises(SpoolFull, match="Disk quota exceeded") as caught:
        submitted(spool)
    assert "quota -s" in str(caught.value.hint)
    assert caught.value.exit_code == 73


def test_jobs_that_were_taken_before_the_failure_are_told(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon was faster than the error: what it has cannot be taken back, and is not kept secret."""

    def sync(path: str) -> None:
        if path == spool.directory(WAITING) and len(where(spool)) == 3:
            spools.claim(spool, entry_of(spool, "2"), "n1")
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(files, "sync_directory", sync)
    with pytest.raises(SpoolError, match=r"(?m)these jobs are in the queue already: 2$") as caught:
        submitted(spool, 3)
    assert str(caught.value.hint).endswith("rq cancel 2")
    assert where(spool) == {"2": CLAIMED}
    assert leftovers(spool) == []


def test_jobs_that_cannot_be_taken_back_are_said_to_be_in_doubt(spool: Spool, system: Refusing) -> None:
    """The server took the second, and answers no more: neither a refusal nor an acceptance would be true."""
    rename = os.rename

    def gone(source: str, target: str) -> None:
        rename(source, target)
        if target.endswith("waiting/2.job"):
            for name in ("rename", "unlink", "scandir", "open", "lstat"):
                system.fail(name, errno.EIO, times=1000)
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    system.instead("rename", gone)
    with pytest.raises(PartlySubmitted, match=r"(?m)these jobs may be in the queue: 1, 2$") as caught:
        submitted(spool, 3)
    assert (caught.value.ids, caught.value.doubtful) == ((), ("1", "2"))
    assert str(caught.value.hint).endswith("rq cancel 1 2")
    assert sorted(os.listdir(spool.directory(WAITING))) == ["1.job", "2.job"]


def test_a_submission_that_is_interrupted_leaves_nothing(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(path: str) -> None:
        if path == spool.directory(WAITING):
            raise KeyboardInterrupt

    monkeypatch.setattr(files, "sync_directory", interrupted)
    with pytest.raises(KeyboardInterrupt):
        submitted(spool, 3)
    assert where(spool) == {}
    assert leftovers(spool) == []


def test_a_file_that_another_program_dropped_is_never_replaced(spool: Spool) -> None:
    paths = [drop(spool, f"{number}.job", b"theirs") for number in (1, 3)]
    told = submitted(spool, 3)
    assert not {"1", "3"} & set(told)
    assert len(set(told)) == 3
    assert [Path(path).read_bytes() for path in paths] == [b"theirs"] * 2
    assert all(record_of(spool, job_id).job.command == ("true",) for job_id in told)


def test_submissions_of_many_processes_do_not_meet(spool: Spool) -> None:
    told = crowd(4, lambda _: [job_id for _ in range(15) for job_id in submitted(spool, 2)])
    assert len({job_id for each in told for job_id in each}) == 120
    assert len(where(spool)) == 120
    assert leftovers(spool) == []


def test_a_file_system_without_links_takes_jobs_too(spool: Spool, system: Refusing) -> None:
    assert submitted(spool, 3) == ["1", "2", "3"]
    assert system.called("link") == 0


# ---------------------------------------------------------------- claim and withdraw


def test_a_claim_names_the_node(spool: Spool) -> None:
    entry = claimed(spool, "n1.example.org")
    assert (entry.id, entry.state, entry.node, entry.file) == (
        "1",
        CLAIMED,
        "n1.example.org",
        "1@n1.example.org.job",
    )
    assert spools.scan(spool, (CLAIMED,)) == [entry]


@pytest.mark.parametrize("job_id", ["a@b", "a.b", "Ü", "x" * 120])
def test_any_id_keeps_itself_through_a_life(job_id: str, spool: Spool) -> None:
    drop(spool, f"{job_id}.job")
    entry = spools.claim(spool, entry_of(spool, job_id), "n" * 128)
    assert entry is not None
    assert (entry.id, entry.node) == (job_id, "n" * 128)
    assert spools.withdraw(spool, entry)
    assert where(spool) == {job_id: WAITING}


def test_each_job_is_claimed_by_exactly_one_of_many(spool: Spool) -> None:
    expected = submitted(spool, 60)

    def claim_all(number: int) -> list[str]:
        mine = []
        # Each begins at another place, so that they meet.
        entries = spools.scan(spool, (WAITING,))
        for entry in entries[number * 13 :] + entries[: number * 13]:
            got = spools.claim(spool, entry, f"n{number}")
            if got is not None:
                assert got.node == f"n{number}"
                mine.append(entry.id)
        return mine

    won = [job_id for mine in crowd(4, claim_all) for job_id in mine]
    assert sorted(won) == sorted(expected)
    assert set(where(spool).values()) == {CLAIMED}


def test_a_claim_of_what_is_gone_is_no_claim(spool: Spool) -> None:
    submitted(spool)
    entry = entry_of(spool, "1")
    assert spools.claim(spool, entry, "n1") is not None
    assert spools.claim(spool, entry, "n2") is None
    assert spools.claim(spool, entry._replace(id="7", file="7.job"), "n2") is None


@pytest.mark.parametrize("number", LOST, ids=errno.errorcode.get)
def test_a_lost_reply_to_any_move_is_success(number: int, spool: Spool, system: Refusing) -> None:
    submitted(spool)
    system.fail("rename", number, happens=True)
    first = spools.claim(spool, entry_of(spool, "1"), "n1")
    assert first is not None
    system.fail("rename", number, happens=True)
    assert spools.withdraw(spool, first)
    entry = spools.claim(spool, entry_of(spool, "1"), "n1")
    assert entry is not None
    record = replace(spools.read(spool, entry), process=PROCESS)
    system.fail("rename", number, happens=True)
    spools.rewrite(spool, entry, record, "n1")
    system.fail("rename", number, happens=True)
    running = spools.begin(spool, entry, "n1")
    assert running is not None
    for skip in (0, 1):
        system.fail("rename", number, happens=True, skip=skip)
        ended = replace(record, completed_ns=9)
        if skip == 0:
            spools.rewrite(spool, running, ended, "n1")
        else:
            assert spools.settle(spool, running, ended, "n1") == COMPLETED
    assert where(spool) == {"1": COMPLETED}
    assert leftovers(spool) == []


# ---------------------------------------------------------------- begin, settle, conclude


def test_a_job_that_began_is_running_under_the_name_of_its_node(spool: Spool) -> None:
    entry = born(spool, claimed(spool))
    running = spools.begin(spool, entry, "n1")
    assert running is not None
    assert (running.state, running.node, running.file) == (RUNNING, "n1", "1@n1.job")


def test_a_begin_is_durable_before_it_is_told(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that crashes now must not find the job unbegun, and run it again."""
    synced: list[str] = []
    entry = born(spool, claimed(spool))
    monkeypatch.setattr(files, "sync_directory", synced.append)
    spools.begin(spool, entry, "n1")
    assert synced == [spool.directory(RUNNING)]


def test_a_job_that_was_withdrawn_does_not_begin(spool: Spool) -> None:
    entry = born(spool, claimed(spool))
    assert spools.withdraw(spool, entry)
    assert spools.begin(spool, entry, "n1") is None
    assert where(spool) == {"1": WAITING}


def test_of_begin_and_withdraw_one_wins(spool: Spool) -> None:
    """Recovery and birth cannot both win."""
    entries = [born(spool, claimed(spool)) for _ in range(40)]

    def act(number: int) -> list[bool]:
        if number == 0:
            return [spools.begin(spool, entry, "n1") is not None for entry in entries]
        return [spools.withdraw(spool, entry) for entry in entries]

    began, withdrawn = crowd(2, act)
    assert [one != other for one, other in zip(began, withdrawn, strict=True)] == [True] * 40
    states = where(spool)
    assert [states[entry.id] == RUNNING for entry in entries] == began


OUTCOMES = {
    COMPLETED: {"exit_code": 0},
    CANCELED: {"reason": "canceled"},
    ZOMBIE: {"reason": "lost"},
    FAILED: {"reason": "exit", "exit_code": 3},
}


@pytest.mark.parametrize("state", OUTCOMES)
def test_the_facts_tell_where_a_record_goes(state: str, spool: Spool) -> None:
    entry, record = begun(spool)
    ended = replace(record, completed_ns=7, **OUTCOMES[state])  # type: ignore[arg-type]
    assert spools.settle(spool, entry, ended, "n1") == state
    assert where(spool) == {"1": state}
    assert record_of(spool, "1") == ended
    assert leftovers(spool) == []


@pytest.mark.parametrize("reason", set(REASONS) - {*CANCELED_FOR, "lost", "rebooted"})
def test_any_other_reason_is_a_failure(reason: str) -> None:
    record = Record(Job(("a",)), process=PROCESS, completed_ns=1, reason=reason)
    assert spools.destination(record) == FAILED


def test_what_is_not_ended_stays(spool: Spool) -> None:
    entry, record = begun(spool)
    assert spools.destination(record) is None
    assert spools.conclude(spool, entry, record) is None
    assert where(spool) == {"1": RUNNING}


def test_a_requeued_job_waits_for_its_next_attempt(spool: Spool) -> None:
    entry, record = begun(spool, cores=4)
    assert spools.settle(spool, entry, record.next_attempt(9, "restarted"), "n1") == WAITING
    after = record_of(spool, "1")
    assert (after.attempt, after.process, after.node, after.cores) == (2, None, jobs.NO_NODE, 0)
    assert [attempt.reason for attempt in after.attempts] == ["restarted"]


def test_facts_are_durable_before_the_move_and_the_move_before_it_is_told(
    spool: Spool, system: Refusing
) -> None:
    entry, record = begun(spool)
    system.calls.clear()
    spools.settle(spool, entry, replace(record, completed_ns=7), "n1")
    steps = [call[0] for call in system.calls if call[0] in ("fsync", "rename")]
    # Seal, facts, move.
    assert steps == ["fsync", "rename", "rename", "rename", "fsync"]
    assert ("open", spool.directory(COMPLETED)) in [call[:2] for call in system.calls]


def test_a_record_is_never_replaced_by_what_is_not_durable(spool: Spool, system: Refusing) -> None:
    """A node that loses its power at a birth or a cancel would leave the name of a job and nothing in it."""
    entry = claimed(spool)
    record = replace(spools.read(spool, entry), process=PROCESS, node="n1")
    system.calls.clear()
    spools.rewrite(spool, entry, record, "n1")
    submitted(spool)
    spools.cancel(spool, entry_of(spool, "2"), 77, "n1")
    temporary = f"{spool.path}/tmp/"
    for at, call in enumerate(system.calls):
        if call[0] == "rename" and call[1].startswith(temporary):
            written = [name for name, *_ in system.calls[:at]]
            assert "fsync" in written[len(written) - 1 - written[::-1].index("write") :], call


def test_after_a_crash_between_facts_and_move_the_facts_are_found(spool: Spool) -> None:
    entry, record = begun(spool)
    spools.rewrite(spool, entry, replace(record, completed_ns=7, reason="exit", exit_code=9), "n1")
    (found,) = spools.scan(spool)
    record = spools.read(spool, found)
    assert spools.destination(record) == FAILED
    assert spools.conclude(spool, found, record) == FAILED
    assert record_of(spool, "1").exit_code == 9


def test_of_two_that_conclude_one_does(spool: Spool) -> None:
    entry, record = begun(spool)
    ended = replace(record, completed_ns=7)
    sealed = spools.rewrite(spool, entry, ended, "n1")
    assert sealed is not None
    assert spools.conclude(spool, sealed, ended) == COMPLETED
    os.rename(f"{spool.path}/completed/1.job", f"{spool.path}/completed/2.job")
    assert spools.conclude(spool, sealed, ended) is None


@pytest.mark.parametrize("number", [errno.EDQUOT, errno.EIO], ids=errno.errorcode.get)
@pytest.mark.parametrize(
    ("call", "skip"), [("open", 0), ("write", 0), ("fsync", 0), ("close", 0), ("rename", 0), ("rename", 1)]
)
def test_an_end_that_cannot_be_recorded_can_be_tried_again(
    call: str, skip: int, number: int, spool: Spool, system: Refusing
) -> None:
    """Until it can, the record is whole, and says the truth or not yet everything."""
    entry, record = begun(spool)
    ended = replace(record, completed_ns=7, reason="exit", exit_code=3)
    system.fail(call, number, skip=skip)
    with pytest.raises(OSError) as caught:  # noqa: PT011
        spools.settle(spool, entry, ended, "n1")
    assert caught.value.errno == number
    assert where(spool) == {"1": RUNNING}
    assert record_of(spool, "1") in (record, ended)
    assert spools.settle(spool, entry, ended, "n1") == FAILED
    assert record_of(spool, "1") == ended
    assert leftovers(spool) == []


# ---------------------------------------------------------------- cancel, requests


@pytest.mark.parametrize("state", [HELD, WAITING])
def test_a_job_that_has_not_begun_is_canceled_by_the_move(state: str, spool: Spool) -> None:
    submitted(spool)
    os.rename(f"{spool.path}/waiting/1.job", f"{spool.path}/{state}/1.job")
    assert spools.cancel(spool, entry_of(spool, "1", state), 77, "n1")
    record = record_of(spool, "1")
    assert where(spool) == {"1": CANCELED}
    assert (record.reason, record.completed_ns, record.started_ns) == ("canceled", 77, 0)
    assert record.detail == "canceled before it began"


def test_a_claimed_job_is_canceled_by_its_owner(spool: Spool) -> None:
    entry = claimed(spool)
    spools.request(spool, "1", "cancel", "n2")
    assert spools.cancel(spool, entry, 77, "n1")
    assert where(spool) == {"1": CANCELED}
    assert spools.requests(spool) == {}


def test_of_cancel_and_claim_one_wins(spool: Spool) -> None:
    submitted(spool, 40)
    entries = spools.scan(spool, (WAITING,))

    def act(number: int) -> list[bool]:
        if number == 0:
            return [spools.cancel(spool, entry, 77, "n0") for entry in entries]
        return [spools.claim(spool, entry, "n1") is not None for entry in entries]

    canceled, won = crowd(2, act)
    assert [one != other for one, other in zip(canceled, won, strict=True)] == [True] * 40
    states = where(spool)
    assert [states[entry.id] == CANCELED for entry in entries] == canceled


def test_a_job_is_canceled_even_if_the_facts_cannot_be_written(spool: Spool, system: Refusing) -> None:
    submitted(spool)
    system.fail("write", errno.EDQUOT)
    assert spools.cancel(spool, entry_of(spool, "1"), 77, "n1")
    assert where(spool) == {"1": CANCELED}
    drop(spool, "x.job", b"nonsense")
    assert spools.cancel(spool, entry_of(spool, "x"), 77, "n1")
    assert leftovers(spool) == []


def test_a_cancel_of_what_moved_on_is_none(spool: Spool) -> None:
    submitted(spool)
    entry = entry_of(spool, "1")
    spools.claim(spool, entry, "n1")
    assert not spools.cancel(spool, entry, 77, "n0")
    assert where(spool) == {"1": CLAIMED}


def test_a_request_is_found_and_answered(spool: Spool) -> None:
    for job_id, verb in (("1", "cancel"), ("1", "restart"), ("a.b", "cancel"), ("1", "cancel")):
        spools.request(spool, job_id, verb, "n1")
    assert spools.requests(spool) == {"1": {"cancel", "restart"}, "a.b": {"cancel"}}
    spools.answer(spool, "1", ("restart",))
    assert spools.requests(spool) == {"1": {"cancel"}, "a.b": {"cancel"}}
    spools.answer(spool, "a.b")
    spools.answer(spool, "7")
    assert spools.requests(spool) == {"1": {"cancel"}}


@pytest.mark.parametrize("name", ["1.run", "cancel", ".cancel", "1", "1.cancel.old", "1.CANCEL"])
def test_what_is_no_request_is_passed_over(name: str, spool: Spool) -> None:
    Path(spool.directory("requests"), name).touch()
    assert spools.requests(spool) == {}


def test_a_request_is_durable_when_it_is_told(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(files, "sync_directory", synced.append)
    spools.request(spool, "1", "cancel", "n1")
    assert synced == [spool.directory("requests")]


def test_a_request_that_others_asked_as_well_is_not_taken_back(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two commands ask the same; what one of them cannot make durable is still what the other was told."""
    spools.request(spool, "1", "cancel", "n1")

    def full(path: str) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), path)

    monkeypatch.setattr(files, "sync_directory", full)
    with pytest.raises(SpoolError, match="cancel of job 1 is asked for, but a crash"):
        spools.request(spool, "1", "cancel", "n2")
    assert spools.requests(spool) == {"1": {"cancel"}}


def test_a_request_that_cannot_be_left_is_said(spool: Spool, system: Refusing) -> None:
    system.fail("rename", errno.EDQUOT)
    with pytest.raises(SpoolFull, match="cannot ask for cancel of job 1"):
        spools.request(spool, "1", "cancel", "n1")
    assert leftovers(spool) == []


@pytest.mark.parametrize("state", OUTCOMES)
def test_an_end_answers_all_requests(state: str, spool: Spool) -> None:
    entry, record = begun(spool)
    for verb in REQUESTS:
        spools.request(spool, "1", verb, "n2")
    spools.settle(spool, entry, replace(record, completed_ns=7, **OUTCOMES[state]), "n1")  # type: ignore[arg-type]
    assert spools.requests(spool) == {}


def test_a_cancel_outlives_a_requeue(spool: Spool) -> None:
    """It was asked of the job, not of the attempt: it came while the supervisor was already restarting it."""
    entry, record = begun(spool)
    for verb in REQUESTS:
        spools.request(spool, "1", verb, "n2")
    assert spools.settle(spool, entry, record.next_attempt(7, "restarted"), "n1") == WAITING
    assert spools.requests(spool) == {"1": {"cancel"}}


# ---------------------------------------------------------------- sweeping


def test_a_sweep_takes_what_dead_processes_of_this_node_left(spool: Spool) -> None:
    kept = ["n1.200.0.abcd", "n2.100.0.abcd", "n1.example.100.0.abcd", "n1.7.100.0.abcd", "n1.x.0.abcd", "n1"]
    for name in ("n1.100.0.abcd", "n1.101.17.ef01", *kept):
        Path(spool.directory("tmp"), name).touch()
    spools.sweep_temporaries(spool, "n1", lambda: [200])
    assert leftovers(spool) == sorted(kept)


def test_what_is_being_written_is_never_swept(spool: Spool) -> None:
    path = spools.temporary_of(spool, "n1.example.org", b"x")
    spools.sweep_temporaries(spool, "n1.example.org", lambda: [os.getpid()])
    spools.sweep_temporaries(spool, "n1", list)
    assert os.path.exists(path)
    spools.sweep_temporaries(spool, "n1.example.org", list)
    assert leftovers(spool) == []


def test_a_file_that_is_begun_while_dead_ones_are_swept_stays(spool: Spool) -> None:
    """Its process is not in a table read before; a submission would take its loss for success."""
    begun: list[str] = []

    def alive() -> list[int]:
        begun.append(spools.temporary_of(spool, "n1", b"{}"))
        return []

    spools.sweep_temporaries(spool, "n1", alive)
    assert os.path.exists(begun[0])
