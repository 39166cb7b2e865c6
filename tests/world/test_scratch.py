"""Promises about directories for temporary files: one's own among neighbours, and removed as a whole."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from roundq.words.job import Identity
from roundq.world import files, nodelock, procs, scratch
from tests import rights

SPOOL = "/home/ann/.roundqueue"


@pytest.fixture
def place(tmp_path: Path) -> str:
    """A directory as /tmp is."""
    made = tmp_path / "tmp"
    made.mkdir()
    made.chmod(0o1777)
    return str(made)


def me() -> Identity:
    return procs.own_identity()


def made(place: str) -> Path:
    """The directory of this process."""
    found = scratch.make(place, SPOOL, me())
    os.close(found.descriptor)
    return Path(found.path)


# ---------------------------------------------------------------- where


@pytest.mark.parametrize(
    ("environ", "configured", "is_job", "place"),
    [
        ({}, "", False, "/tmp"),
        ({"TMPDIR": "/var/tmp/"}, "", False, "/var/tmp"),
        ({"TMPDIR": "relative"}, "", False, "/tmp"),
        ({"TMPDIR": ""}, "", False, "/tmp"),
        ({"TMPDIR": "/var/tmp"}, "/scratch", False, "/scratch"),
        # That of a job is gone when the job has ended.
        ({"TMPDIR": "/tmp/roundq-0/1-2-3-4"}, "", True, "/tmp"),
    ],
)
def test_the_place_is_configured_or_that_of_the_daemon(
    environ: dict[str, str], configured: str, is_job: bool, place: str
) -> None:
    """In this order, and /tmp if there is none."""
    assert scratch.place_of(environ, configured, is_job=is_job) == place


def test_nobody_else_can_enter_it(place: str) -> None:
    """Whatever the mask of new files is; its path is short enough for sockets in it."""
    nodelock.own_directories(place)
    mask = os.umask(0o777)
    try:
        found = made(place)
    finally:
        os.umask(mask)

    assert stat.S_IMODE(found.stat().st_mode) == 0o700
    assert stat.S_IMODE(found.parent.stat().st_mode) == 0o700
    assert len(str(found)) - len(place) < 60


def test_cleaners_see_a_lock_on_it_as_long_as_it_is_used(place: str) -> None:
    """systemd-tmpfiles asks for an exclusive one, and leaves alone what it does not get."""
    found = scratch.make(place, SPOOL, me())
    descriptor = os.open(found.path, os.O_RDONLY)
    with pytest.raises(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(found.descriptor)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)


def test_a_place_in_which_others_can_rename_is_refused(place: str, tmp_path: Path) -> None:
    """They could put something else where the job writes."""
    os.chmod(place, 0o777)
    with pytest.raises(PermissionError, match="no sticky bit"):
        scratch.make(place, SPOOL, me())
    os.chmod(place, 0o1777)
    made(place)
    with pytest.raises(OSError, match="No such file"):
        scratch.make(str(tmp_path / "gone"), SPOOL, me())
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="no directory"):
        scratch.make(str(tmp_path / "file"), SPOOL, me())


def test_a_place_of_another_user_is_refused(place: str) -> None:
    """The owner of a directory may rename all in it, sticky or not."""
    rights.need_root()
    os.chown(place, 65534, 65534)
    with pytest.raises(PermissionError, match="it belongs to uid 65534"):
        scratch.make(place, SPOOL, me())


@pytest.mark.parametrize("kind", ["directory", "open", "link", "file"])
def test_a_stranger_who_took_the_name_keeps_nobody_from_it(place: str, tmp_path: Path, kind: str) -> None:
    """One that nobody guesses is made instead, and found again; what the stranger made is not touched."""
    rights.need_root()
    usual = Path(place, f"roundq-{os.geteuid()}")
    (tmp_path / "target").mkdir()
    if kind == "link":
        usual.symlink_to(tmp_path / "target")
    elif kind == "file":
        usual.write_text("mine")
    else:
        usual.mkdir()
        if kind == "open":
            usual.chmod(0o777)
    if kind != "open":
        os.chown(usual, 65534, 65534, follow_symlinks=False)

    first, second = made(place), scratch.make(place, SPOOL, Identity(procs.boot_id(), 1, 2))
    os.close(second.descriptor)

    assert first.parent == Path(second.path).parent != usual
    assert len(scratch.left(place, SPOOL)) == 2
    assert scratch.remove(str(first))
    assert os.listdir(tmp_path / "target") == []


def test_a_place_that_is_full_or_forbidden_is_told(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the words of the system, with the name of the place."""
    mkdir = os.mkdir

    def full(path: str, mode: int, *, dir_fd: int | None = None) -> None:
        if dir_fd is not None:
            raise OSError(errno.ENOSPC, "full", path)
        mkdir(path, mode)

    monkeypatch.setattr(os, "mkdir", full)
    with pytest.raises(OSError, match="No space left") as caught:
        scratch.make(place, SPOOL, me())
    assert caught.value.filename == place

    def forbidden(path: str, _: int) -> None:
        raise PermissionError(errno.EACCES, "no", path)

    monkeypatch.setattr(os, "mkdir", forbidden)
    os.rmdir(f"{place}/roundq-{os.geteuid()}")
    with pytest.raises(OSError, match="no directory can be made in it"):
        scratch.make(place, SPOOL, me())


def test_a_job_does_not_pay_for_what_else_lies_in_the_place(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/tmp may have thousands of names: they are not listed."""
    monkeypatch.setattr(files, "listing", lambda path: pytest.fail(f"{path} was listed"))
    made(place)


# ---------------------------------------------------------------- whose


def test_it_is_known_for_whom_it_was_made(place: str) -> None:
    """By its name: the process with its boot, and the spool; what else lies there is nobody's."""
    found = made(place)
    for other in ("digest.lock", "1-2-3", f"{found.name}x", "~x", ".hidden"):
        (found.parent / other).mkdir()
    elsewhere = scratch.make(place, "/home/bob/.roundqueue", me())
    os.close(elsewhere.descriptor)
    earlier = scratch.make(place, SPOOL, Identity("00000000-another", 7, 8))
    os.close(earlier.descriptor)

    left = {one.path: one.process for one in scratch.left(place, SPOOL)}

    assert set(left) == {str(found), earlier.path}
    assert left[str(found)] == me()
    assert procs.liveness(left[earlier.path]) is procs.Liveness.DEAD


def test_what_is_put_away_has_its_path_no_more_and_is_still_known(place: str) -> None:
    """So that it is gone at once, and removed whoever dies meanwhile."""
    found = scratch.make(place, SPOOL, me())
    Path(found.path, "file").write_text("x")

    aside = scratch.put_away(found)

    assert not os.path.lexists(found.path)
    assert scratch.left(place, SPOOL) == [scratch.Left(aside, me())]
    assert scratch.remove(aside)
    assert scratch.left(place, SPOOL) == []
    assert scratch.remove(aside)


def test_what_is_not_there_any_more_is_put_away_without_error(place: str) -> None:
    """A cleaner, or the job itself, may have removed it."""
    found = scratch.make(place, SPOOL, me())
    os.rmdir(found.path)

    assert scratch.remove(scratch.put_away(found))


# ---------------------------------------------------------------- removing


def test_no_link_is_followed(place: str, tmp_path: Path) -> None:
    """Neither to files nor to directories, nor where the directory itself should be."""
    found = made(place)
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("precious")
    (found / "to-directory").symlink_to(precious)
    (found / "to-file").symlink_to(precious / "file")
    (found / "dangling").symlink_to("/nowhere")
    os.link(precious / "file", found / "hard")
    os.mkfifo(found / "fifo")

    assert scratch.remove(str(found))

    assert (precious / "file").read_text() == "precious"
    found.symlink_to(precious)
    assert not scratch.remove(str(found))
    assert (precious / "file").read_text() == "precious"


@pytest.mark.parametrize(
    "modes",
    [
        "('/a/b/c', 0), ('/a/b', 0o555), ('', 0o000)",
        # What is in it can be listed, and not opened, nor given other rights.
        "('/a', 0o600)",
        "('', 0o400)",
        "('/a/b/c', 0o444), ('/a/b', 0o666), ('/a', 0o644), ('', 0o600)",
    ],
)
def test_what_its_owner_forbade_to_himself_is_removed(modes: str, place: str) -> None:
    """Go makes its cache of modules so; and so is a directory without any rights, also the topmost."""
    code = (
        "import os, sys; from roundq.world import scratch, procs;"
        # What is imported late this user may not be able to read.
        "scratch.remove(scratch.make(sys.argv[1], sys.argv[2], procs.own_identity()).path);"
        "os.geteuid() or os.setuid(65534);"
        "top = scratch.make(sys.argv[1], sys.argv[2], procs.own_identity()).path;"
        "os.makedirs(top + '/a/b/c'); open(top + '/a/b/file', 'w').close();"
        f"[os.chmod(top + path, mode) for path, mode in ({modes},)];"
        "assert scratch.remove(top) and not os.path.lexists(top)"
    )
    for above in (Path(place), *Path(place).parents[:-2]):
        if above.stat().st_uid == os.geteuid() and not above.stat().st_mode & 0o001:
            above.chmod(above.stat().st_mode | 0o011)
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-B", "-c", code, place, SPOOL],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_very_deep_and_very_many_are_removed(place: str) -> None:
    """Deeper than a path may be long, and than descriptors would go; beside thousands of files."""
    found = made(place)
    (found / f"{scratch._GONE}0").write_text("a name as ours")
    directory = os.open(found, os.O_RDONLY)
    for depth in range(3000):
        os.mkdir("d" * 20, dir_fd=directory)
        deeper = os.open("d" * 20, os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = deeper
        if depth % 100 == 0:
            os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=directory))
    os.close(directory)
    for number in range(5000):
        os.close(os.open(found / str(number), os.O_WRONLY | os.O_CREAT))

    assert scratch.remove(str(found))

    assert not found.exists()
    assert os.listdir(found.parent) == []


def test_where_something_is_mounted_nothing_is_touched(place: str) -> None:
    """It may be another's home; once it is gone, all is removed."""
    rights.need_mounts()
    found = made(place)
    (found / "mnt").mkdir()
    (found / "file").write_text("x")
    code = "import sys; from roundq.world import scratch; print(scratch.remove(sys.argv[1]))"
    script = (
        'mount -t tmpfs none "$1/mnt"; echo precious > "$1/mnt/file";'
        ' "$2" -B -c "$3" "$1"; cat "$1/mnt/file" "$1/file"; umount "$1/mnt"; "$2" -B -c "$3" "$1"'
    )
    done = subprocess.run(
        rights.in_namespace(script, str(found), sys.executable, code),
        cwd=str(Path(__file__).parents[2]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("False\nprecious\nxTrue\n", "")


def test_another_file_system_is_not_entered(place: str) -> None:
    """Also where it was mounted after we looked."""
    rights.need_mounts()
    found = made(place)
    (found / "mnt").mkdir()
    code = (
        "import sys; from roundq.world import mounts, scratch; mounts.points = lambda: [];"
        "print(scratch.remove(sys.argv[1]))"
    )
    script = (
        'mount -t tmpfs none "$1/mnt"; echo precious > "$1/mnt/file"; "$2" -B -c "$3" "$1"; cat "$1/mnt/file"'
    )
    done = subprocess.run(
        rights.in_namespace(script, str(found), sys.executable, code),
        cwd=str(Path(__file__).parents[2]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("False\nprecious\n", "")


def test_what_cannot_be_removed_stays_and_the_rest_goes(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said that something is left, and it ends."""
    found = made(place)
    (found / "a" / "b").mkdir(parents=True)
    (found / "a" / "stays").write_text("x")
    (found / "a" / "b" / "goes").write_text("x")
    unlink = os.unlink

    def immutable(name: str, *, dir_fd: int) -> None:
        if name == "stays":
            raise PermissionError(1, "as with chattr +i")
        unlink(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", immutable)
    assert not scratch.remove(str(found))
    assert [name for _, _, names in os.walk(found) for name in names] == ["stays"]

    monkeypatch.setattr(os, "unlink", unlink)
    assert scratch.remove(str(found))
