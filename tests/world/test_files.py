"""Promises about files on a shared file system: failures are found out, strangers' files are harmless."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import signal
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from roundq.words.errors import RecordError, SpoolError, SpoolFull
from roundq.world import files
from roundq.world.files import Freshness
from tests.world.processes import on_stage
from tests.world.refusing import LOST, Refusing

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be somebody else")
all_lost = pytest.mark.parametrize("number", LOST, ids=errno.errorcode.get)


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Refusing:
    """What `files` takes for the operating system."""
    refusing = Refusing()
    monkeypatch.setattr(files, "os", refusing)
    return refusing


@pytest.fixture
def public() -> Iterator[str]:
    """A directory that every user may look into."""
    with tempfile.TemporaryDirectory() as path:
        os.chmod(path, 0o755)
        yield path


def as_nobody(act: Callable[[], object]) -> object:
    def acted() -> object:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        return act()

    return on_stage(acted)


def names(path: Path | str) -> list[str]:
    return sorted(os.listdir(path))


def refused(path: str, *, most: int = 100, owner: int | None = None) -> str:
    """What is said of a file that is not read."""
    with pytest.raises(RecordError) as caught:
        files.read(path, most=most, owner=owner)
    return str(caught.value)


# ---------------------------------------------------------------- listing


def test_a_listing_has_every_name_and_its_inode(tmp_path: Path) -> None:
    for name in ("b", "a", "c.job"):
        (tmp_path / name).touch()
    found = sorted(files.listing(str(tmp_path)))
    assert found == [(name, os.stat(tmp_path / name).st_ino) for name in ("a", "b", "c.job")]


def test_a_listing_leaves_out_what_is_hidden(tmp_path: Path) -> None:
    """NFS calls an open file that was removed .nfs...; it is no job."""
    (tmp_path / ".nfs0001").touch()
    (tmp_path / "a").touch()
    assert [name for name, _ in files.listing(str(tmp_path))] == ["a"]


def test_an_absent_directory_has_no_names(tmp_path: Path) -> None:
    assert files.listing(str(tmp_path / "none")) == []


def test_a_file_cannot_be_listed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        files.listing(str(tmp_path / "file"))


@pytest.mark.parametrize("name", ["{}", ".{}"])
def test_a_listing_looks_at_no_more_names_than_it_may(name: str, tmp_path: Path, system: Refusing) -> None:
    """A stranger may make a directory of millions of names, hidden ones as well."""
    looked = 0

    class Counted:
        def __init__(self, number: int) -> None:
            self.name = name.format(number)

        def inode(self) -> int:
            return 1

    @contextlib.contextmanager
    def endless(_: str) -> Iterator[Iterator[Counted]]:
        def each() -> Iterator[Counted]:
            nonlocal looked
            for looked in range(100_000):
                yield Counted(looked)

        yield each()

    system.instead("scandir", endless)
    assert len(files.listing(str(tmp_path), most=10)) <= 10
    assert looked <= 10


def test_a_stale_handle_is_tried_again(tmp_path: Path, system: Refusing) -> None:
    (tmp_path / "a").write_bytes(b"x")
    system.fail("scandir", errno.ESTALE, times=3)
    assert len(files.listing(str(tmp_path))) == 1
    for look in (files.signature, files.changed, lambda path: files.read(path, most=10)):
        system.fail("open", errno.ESTALE, times=3)
        with contextlib.suppress(NotADirectoryError):
            look(str(tmp_path / "a"))


def test_a_handle_that_stays_stale_is_believed(tmp_path: Path, system: Refusing) -> None:
    system.fail("scandir", errno.ESTALE, times=files.STALE_TRIES)
    with pytest.raises(OSError, match="Stale"):
        files.listing(str(tmp_path))


def test_other_errors_are_not_tried_again(tmp_path: Path, system: Refusing) -> None:
    system.fail("scandir", errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        files.listing(str(tmp_path))


# ---------------------------------------------------------------- freshness


def set_back(path: Path, before: os.stat_result) -> None:
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_directory_that_stands_still_is_not_listed_again(tmp_path: Path) -> None:
    fresh = Freshness(str(tmp_path))
    times = (0.0, 0.1, 1.0, 2.1, 2.2, 100.0)
    assert [fresh.is_due(now) for now in times] == [True, True, True, True, False, False]


def test_how_long_a_directory_stands_still_counts_from_after_the_answer_that_told_its_time(
    tmp_path: Path,
) -> None:
    """The server was silent in the look at 0, until 20: what is changed in the same second is not missed."""
    fresh = Freshness(str(tmp_path))
    (tmp_path / "a").touch()
    before = os.stat(tmp_path)
    assert fresh.is_due(0.0)
    assert fresh.is_due(20.1)
    (tmp_path / "b").touch()
    set_back(tmp_path, before)
    assert fresh.is_due(20.2)
    assert fresh.is_due(20.1 + Freshness.SETTLED_S)
    assert not fresh.is_due(30.0)


def test_every_change_makes_a_listing_due(tmp_path: Path) -> None:
    fresh = Freshness(str(tmp_path))
    for now in (0.0, 1.0, 5.0):
        fresh.is_due(now)
    assert not fresh.is_due(7.0)
    before = os.stat(tmp_path).st_mtime_ns
    while os.stat(tmp_path).st_mtime_ns == before:
        (tmp_path / "a").touch()
        (tmp_path / "a").unlink()
    assert fresh.is_due(8.0)


def test_a_second_change_within_a_tick_of_the_servers_clock_is_not_missed(tmp_path: Path) -> None:
    """The time of the directory stands still, although there is a file more: it is listed again."""
    fresh = Freshness(str(tmp_path))
    (tmp_path / "a").touch()
    before = os.stat(tmp_path)
    assert fresh.is_due(0.0)
    (tmp_path / "b").touch()
    set_back(tmp_path, before)
    assert fresh.is_due(0.5)
    assert fresh.is_due(0.5 + Freshness.SETTLED_S)
    assert not fresh.is_due(0.6 + Freshness.SETTLED_S)


def test_where_names_are_seen_late_a_directory_is_listed_until_they_are(tmp_path: Path) -> None:
    """Its time may be there before its names are."""
    fresh = Freshness(str(tmp_path))
    fresh.late_s = 60.0
    for now in (0.0, 1.0, 30.0, 60.0, 61.0):
        assert fresh.is_due(now)
    assert not fresh.is_due(62.0)


def test_a_time_that_goes_back_is_a_change(tmp_path: Path) -> None:
    """The server's clock was set."""
    fresh = Freshness(str(tmp_path))
    for now in (0.0, 1.0, 5.0):
        fresh.is_due(now)
    os.utime(tmp_path, (1, 1))
    assert fresh.is_due(6.0)


def test_a_directory_that_comes_or_goes_is_due(tmp_path: Path) -> None:
    path = tmp_path / "late"
    fresh = Freshness(str(path))
    assert [fresh.is_due(now) for now in (0.0, 1.0, 5.0, 6.0)] == [True, True, True, False]
    path.mkdir()
    assert fresh.is_due(7.0)
    assert fresh.is_due(20.0)
    path.rmdir()
    assert fresh.is_due(21.0)


def test_a_listing_that_failed_is_due_again(tmp_path: Path) -> None:
    fresh = Freshness(str(tmp_path))
    for now in (0.0, 1.0, 5.0):
        fresh.is_due(now)
    fresh.forget()
    assert fresh.is_due(6.0)


# ---------------------------------------------------------------- reading what strangers write


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x" * 100)
    assert files.read(str(path), most=100, owner=os.geteuid()) == b"x" * 100


def test_an_absent_file_is_said_to_be_absent(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        files.read(str(tmp_path / "none"), most=100)


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert refused(str(tmp_path / "fifo")) == "it is not a regular file"


@pytest.mark.parametrize("target", ["a", "/dev/zero", "none"])
def test_a_link_is_not_followed(target: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"secret")
    (tmp_path / "link").symlink_to(target)
    assert refused(str(tmp_path / "link")) == "it is a symbolic link"


def test_a_directory_or_device_is_no_file(tmp_path: Path) -> None:
    assert refused(str(tmp_path)) == "it is not a regular file"
    assert refused("/dev/zero") == "it is not a regular file"


def test_a_socket_is_no_file(tmp_path: Path) -> None:
    os.mknod(tmp_path / "socket", stat.S_IFSOCK | 0o600)
    with pytest.raises(OSError, match="No such device"):
        files.read(str(tmp_path / "socket"), most=100)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    """A sparse file of a terabyte costs its maker nothing."""
    path = tmp_path / "huge"
    path.touch()
    os.truncate(path, 1 << 40)
    assert refused(str(path)) == "it is larger than 100 bytes"


def test_a_file_that_grows_while_it_is_read_is_bounded(tmp_path: Path, system: Refusing) -> None:
    path = tmp_path / "grows"
    path.write_bytes(b"x")
    real = os.read

    def growing(descriptor: int, count: int) -> bytes:
        assert count < 10_000
        with open(path, "ab") as file:
            file.write(b"y" * 7)
        return real(descriptor, min(count, 7))

    system.instead("read", growing)
    assert refused(str(path)) == "it is larger than 100 bytes"


@as_root
def test_a_file_of_somebody_else_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.touch()
    os.chown(path, NOBODY, NOBODY)
    assert refused(str(path), owner=0) == "it belongs to uid 65534, not to uid 0"
    assert files.read(str(path), most=100, owner=NOBODY) == b""


@as_root
def test_an_unreadable_file_is_said_to_be_so(public: str) -> None:
    path = f"{public}/secret"
    Path(path).touch(0o600)

    def look() -> list[str]:
        found = []
        for act in (lambda: files.read(path, most=10), lambda: files.signature(path)):
            try:
                act()
            except OSError as error:
                found.append(type(error).__name__)
        return found

    assert as_nobody(look) == ["PermissionError", "PermissionError"]


def test_a_lease_is_not_waited_for(tmp_path: Path) -> None:
    """fcntl(2): its holder can make others wait for 45 seconds, unless they do not want to wait."""
    path = str(tmp_path / "leased")
    Path(path).touch()
    descriptor = os.open(path, os.O_RDWR)
    previous = signal.signal(signal.SIGIO, signal.SIG_IGN)
    try:
        try:
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except OSError:
            pytest.skip("this file system has no leases")

        def look() -> str:
            try:
                files.read(path, most=10)
            except OSError as error:
                return type(error).__name__
            return "read"

        assert on_stage(look) == "BlockingIOError"
    finally:
        os.close(descriptor)
        signal.signal(signal.SIGIO, previous)


def test_no_look_leaves_a_descriptor_open(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("none")
    os.mkfifo(tmp_path / "fifo")
    before = names("/proc/self/fd")
    for path in (tmp_path / "link", tmp_path / "fifo", tmp_path, tmp_path / "none"):
        for look in (files.changed, files.signature, lambda path: files.read(path, most=10)):
            with contextlib.suppress(OSError, RecordError):
                look(str(path))
    assert len(names("/proc/self/fd")) == len(before)


# ---------------------------------------------------------------- signatures


def test_a_signature_changes_with_every_replacement(tmp_path: Path) -> None:
    path = str(tmp_path / "card")
    seen = set()
    for number in range(20):
        files.replace(files.write_temporary(str(tmp_path), "n", b"x" * number), path)
        seen.add(files.signature(path))
    assert len(seen) == 20


# ---------------------------------------------------------------- writing


@pytest.mark.parametrize("umask", [0o077, 0o000, 0o777])
@pytest.mark.parametrize("mode", [0o644, 0o600])
def test_the_umask_does_not_decide_who_may_read(umask: int, mode: int, tmp_path: Path) -> None:
    previous = os.umask(umask)
    try:
        path = files.write_temporary(str(tmp_path), "n.1", b"data", mode=mode)
    finally:
        os.umask(previous)
    assert stat.S_IMODE(os.stat(path).st_mode) == mode
    assert Path(path).read_bytes() == b"data"
    assert os.path.basename(path).startswith("n.1.")


def test_a_temporary_file_is_synced_before_it_has_a_name(tmp_path: Path, system: Refusing) -> None:
    files.write_temporary(str(tmp_path), "n", b"data")
    steps = [call[0] for call in system.calls if call[0] in ("write", "fsync", "close")]
    assert steps == ["write", "fsync", "close"]
    files.write_temporary(str(tmp_path), "n", b"data", sync=False)
    assert system.called("fsync") == 1


def test_a_write_may_take_several_calls(tmp_path: Path, system: Refusing) -> None:
    system.instead("write", lambda descriptor, data: os.write(descriptor, data[:3]))
    path = files.write_temporary(str(tmp_path), "n", b"0123456789")
    assert Path(path).read_bytes() == b"0123456789"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO], ids=errno.errorcode.get)
@pytest.mark.parametrize(
    ("name", "happens"),
    [("open", True), ("fchmod", False), ("write", False), ("fsync", False), ("close", True)],
)
def test_nothing_is_left_of_a_write_that_failed(
    name: str, happens: bool, number: int, tmp_path: Path, system: Refusing
) -> None:
    """A quota may show at any of them. What went wrong is what is said, whatever fails after it."""
    system.fail(name, number, happens=happens)
    with pytest.raises(OSError) as caught:  # noqa: PT011  # any number
        files.write_temporary(str(tmp_path), "n", b"data")
    assert caught.value.errno == number
    assert names(tmp_path) == []


def test_a_failure_to_tidy_up_does_not_hide_why(tmp_path: Path, system: Refusing) -> None:
    system.fail("write", errno.ENOSPC)
    system.fail("unlink", errno.EIO)
    with pytest.raises(OSError, match="No space"):
        files.write_temporary(str(tmp_path), "n", b"data")


def test_temporary_names_never_meet(tmp_path: Path) -> None:
    def write() -> list[str]:
        return [files.write_temporary(str(tmp_path), "n", b"", sync=False) for _ in range(50)]

    assert len({*write(), *write()}) == 100


# ---------------------------------------------------------------- place


def placed(tmp_path: Path, content: bytes = b"new") -> tuple[str, str]:
    """A temporary file, and the name that it wants."""
    (tmp_path / "tmp").mkdir(exist_ok=True)
    (tmp_path / "waiting").mkdir(exist_ok=True)
    return files.write_temporary(str(tmp_path / "tmp"), "n", content), str(tmp_path / "waiting" / "1.job")


def test_a_placed_file_has_one_name(tmp_path: Path) -> None:
    temporary, target = placed(tmp_path)
    assert files.place(temporary, target)
    assert names(tmp_path / "tmp") == []
    assert os.stat(target).st_nlink == 1


def test_place_never_replaces(tmp_path: Path) -> None:
    for content, is_first in ((b"first", True), (b"second", False)):
        temporary, target = placed(tmp_path, content)
        assert files.place(temporary, target) is is_first
    assert Path(target).read_bytes() == b"first"
    assert names(tmp_path / "tmp") == []


def test_a_file_that_is_placed_has_never_two_names(tmp_path: Path, system: Refusing) -> None:
    """A server that lost its memory would play a link again, and name what has moved on a second time."""
    temporary, target = placed(tmp_path)
    assert files.place(temporary, target)
    assert system.called("link") == 0


@all_lost
def test_a_lost_reply_to_a_placement_is_success(number: int, tmp_path: Path, system: Refusing) -> None:
    temporary, target = placed(tmp_path)
    system.fail("rename", number, happens=True)
    assert files.place(temporary, target)
    assert names(tmp_path / "tmp") == []
    assert Path(target).read_bytes() == b"new"


@all_lost
def test_what_was_placed_and_has_moved_on_was_placed(number: int, tmp_path: Path, system: Refusing) -> None:
    """A daemon was faster than the reply, and has even replaced the content."""
    temporary, target = placed(tmp_path)

    def taken(source: str, name: str) -> None:
        os.rename(source, name)
        os.unlink(name)
        raise OSError(number, os.strerror(number))

    system.instead("rename", taken)
    assert files.place(temporary, target)


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EIO, errno.ESTALE, errno.ENOSPC, errno.EDQUOT])
def test_a_placement_that_did_not_happen_leaves_nothing(
    number: int, tmp_path: Path, system: Refusing
) -> None:
    temporary, target = placed(tmp_path)
    system.fail("rename", number, times=100)
    with pytest.raises(OSError) as caught:  # noqa: PT011
        files.place(temporary, target)
    assert caught.value.errno == number
    assert names(tmp_path / "tmp") == names(tmp_path / "waiting") == []


def test_a_name_that_cannot_be_asked_for_is_not_taken_for_free(tmp_path: Path, system: Refusing) -> None:
    temporary, target = placed(tmp_path)
    system.fail("lstat", errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        files.place(temporary, target)
    assert names(tmp_path / "waiting") == []


# ---------------------------------------------------------------- replace


@pytest.mark.parametrize("before", [True, False], ids=["replaced", "new"])
@all_lost
def test_a_lost_reply_to_a_replacement_is_success(
    number: int, before: bool, tmp_path: Path, system: Refusing
) -> None:
    temporary, target = placed(tmp_path)
    if before:
        Path(target).write_bytes(b"old")
    system.fail("rename", number, happens=True)
    files.replace(temporary, target)
    assert Path(target).read_bytes() == b"new"
    assert names(tmp_path / "tmp") == []


@pytest.mark.parametrize("number", [*LOST, errno.ENOSPC, errno.EACCES], ids=errno.errorcode.get)
def test_a_replacement_that_did_not_happen_leaves_what_was_there(
    number: int, tmp_path: Path, system: Refusing
) -> None:
    temporary, target = placed(tmp_path)
    Path(target).write_bytes(b"old")
    system.fail("rename", number, times=100)
    with pytest.raises(OSError) as caught:  # noqa: PT011
        files.replace(temporary, target)
    assert caught.value.errno == number
    assert Path(target).read_bytes() == b"old"
    assert names(tmp_path / "tmp") == []


def test_an_unfinished_name_is_no_sign_of_a_replacement(tmp_path: Path, system: Refusing) -> None:
    """Names that begin with a dot are in no listing, but the file is still there."""
    target = tmp_path / "a"
    target.write_bytes(b"old")
    temporary = files.write_temporary(str(tmp_path), ".new", b"new")
    system.fail("rename", errno.EIO, times=100)
    with pytest.raises(OSError, match=r"EIO|Input/output"):
        files.replace(temporary, str(target))
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


# ---------------------------------------------------------------- move


def record(tmp_path: Path) -> tuple[str, str]:
    """A record in waiting/, and the name that a claim gives it."""
    for name in ("waiting", "claimed"):
        (tmp_path / name).mkdir()
    (tmp_path / "waiting" / "1.job").touch()
    return str(tmp_path / "waiting" / "1.job"), str(tmp_path / "claimed" / "1@n.job")


@pytest.mark.parametrize("has_renameat2", [True, False])
def test_a_move_that_replaces_nothing(
    has_renameat2: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither where the file system does so in one step nor where it cannot; both files stay."""
    if not has_renameat2:
        monkeypatch.setattr(files, "_renameat2", lambda: None)
    source, target = record(tmp_path)
    assert files.move_new(source, target)
    assert not files.move_new(source, target + "2")
    Path(source).write_bytes(b"another")
    with pytest.raises(FileExistsError):
        files.move_new(source, target)
    assert (Path(source).read_bytes(), Path(target).read_bytes()) == (b"another", b"")


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_that_only_knows_plain_renames_is_asked_for_the_name(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As NFS."""

    def refused(*_: object) -> int:
        ctypes.set_errno(number)
        return -1

    monkeypatch.setattr(files, "_renameat2", lambda: refused)
    source, target = record(tmp_path)
    assert files.move_new(source, target)
    Path(source).touch()
    with pytest.raises(FileExistsError):
        files.move_new(source, target)


def test_a_move_that_replaces_nothing_is_refused_as_any(tmp_path: Path) -> None:
    source, _ = record(tmp_path)
    with pytest.raises(FileNotFoundError):
        files.move_new(source, str(tmp_path / "none" / "1.job"))
    assert os.path.exists(source)


def test_a_record_moves_once(tmp_path: Path) -> None:
    source, target = record(tmp_path)
    assert files.move(source, target)
    assert not files.move(source, target + "2")
    assert names(tmp_path / "claimed") == ["1@n.job"]


@all_lost
def test_a_lost_reply_to_a_move_is_success(number: int, tmp_path: Path, system: Refusing) -> None:
    source, target = record(tmp_path)
    system.fail("rename", number, happens=True)
    assert files.move(source, target)


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ESTALE])
def test_a_record_that_somebody_else_moved_is_not_ours(number: int, tmp_path: Path, system: Refusing) -> None:
    source, target = record(tmp_path)

    def faster(*_: str) -> None:
        os.rename(source, tmp_path / "claimed" / "1@other.job")
        raise OSError(number, os.strerror(number))

    system.instead("rename", faster)
    assert not files.move(source, target)


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ESTALE])
def test_a_record_that_is_still_there_is_moved_after_all(
    number: int, tmp_path: Path, system: Refusing
) -> None:
    """A client may remember that a name is not there, and a handle may be stale, once."""
    source, target = record(tmp_path)
    system.fail("rename", number, times=2)
    assert files.move(source, target)
    assert names(tmp_path / "claimed") == ["1@n.job"]


@pytest.mark.parametrize("number", [*LOST, errno.ENOSPC, errno.EACCES, errno.ENAMETOOLONG, errno.EXDEV])
def test_a_move_that_is_refused_is_no_success_and_no_loss(
    number: int, tmp_path: Path, system: Refusing
) -> None:
    """False would mean that somebody else has it, and the job would be forgotten."""
    source, target = record(tmp_path)
    system.fail("rename", number, times=100)
    with pytest.raises(OSError) as caught:  # noqa: PT011
        files.move(source, target)
    assert caught.value.errno == number
    assert os.path.exists(source)


def test_a_move_into_a_directory_that_was_removed_is_refused(tmp_path: Path) -> None:
    source, target = record(tmp_path)
    (tmp_path / "claimed").rmdir()
    with pytest.raises(FileNotFoundError):
        files.move(source, target)
    assert os.path.exists(source)


def test_what_had_the_name_before_proves_nothing(tmp_path: Path, system: Refusing) -> None:
    """An earlier end of the same job lies there: it is not taken for this one."""
    source, target = record(tmp_path)
    Path(target).write_bytes(b"earlier")
    system.fail("rename", errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        files.move(source, target)
    assert Path(target).read_bytes() == b"earlier"


# ---------------------------------------------------------------- the rest


def test_a_name_is_listed_or_not(tmp_path: Path) -> None:
    for name in ("a", ".a"):
        (tmp_path / name).touch()
        assert files.is_listed(str(tmp_path / name))
    assert not files.is_listed(str(tmp_path / "b"))
    assert not files.is_listed(str(tmp_path / "none" / "b"))


def test_to_ask_for_a_name_does_not_probe_it(tmp_path: Path, system: Refusing) -> None:
    """A probe leaves a negative entry on an NFS client, which hides the name for a minute."""
    files.is_listed(str(tmp_path / "a"))
    assert [call for call in system.calls if any(str(arg).endswith("/a") for arg in call[1:])] == []


def test_that_a_file_is_gone_already_is_as_good(tmp_path: Path, system: Refusing) -> None:
    path = tmp_path / "a"
    path.touch()
    assert files.remove(str(path))
    assert not files.remove(str(path))
    path.touch()
    system.fail("unlink", errno.ESTALE, times=2)
    assert files.remove(str(path))


@pytest.mark.parametrize("number", sorted(files.NO_DIRECTORY_SYNC), ids=errno.errorcode.get)
def test_file_systems_that_cannot_sync_a_directory_are_forgiven(
    number: int, tmp_path: Path, system: Refusing
) -> None:
    system.fail("fsync", number)
    files.sync_directory(str(tmp_path))
    assert system.called("fsync") == 1


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT], ids=errno.errorcode.get)
def test_a_directory_that_could_not_be_synced_is_said(number: int, tmp_path: Path, system: Refusing) -> None:
    system.fail("fsync", number)
    with pytest.raises(OSError) as caught:  # noqa: PT011
        files.sync_directory(str(tmp_path))
    assert caught.value.errno == number


@pytest.mark.parametrize(
    ("number", "kind", "says", "hints"),
    [
        (errno.ENOSPC, SpoolFull, "No space left on device", "free some space"),
        (errno.EDQUOT, SpoolFull, "Disk quota exceeded", "quota"),
        (errno.EROFS, SpoolError, "the file system is read-only", "mount"),
        (errno.EACCES, SpoolError, "permission denied", "ls -ld"),
        (errno.EPERM, SpoolError, "permission denied", "ls -ld"),
        (errno.EIO, SpoolError, "Input/output error", None),
    ],
)
def test_the_systems_refusals_are_explained(
    number: int, kind: type[SpoolError], says: str, hints: str | None
) -> None:
    with pytest.raises(SpoolError) as caught, files.explained("submit"):
        raise OSError(number, os.strerror(number))
    assert type(caught.value) is kind
    assert str(caught.value) == f"cannot submit: {says}"
    assert hints is None or hints in str(caught.value.hint)


def test_what_is_explained_already_stays_as_it_is() -> None:
    with pytest.raises(RecordError, match="it is empty"), files.explained("submit"):
        raise RecordError("it is empty")
