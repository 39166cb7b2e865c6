"""Promises about the administrator's drain of a node: who may, what it says, and what it costs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from roundq.words.drains import REASON_MAX
from roundq.words.errors import SpoolError
from roundq.world import drains, files
from roundq.world.drains import AdminDrain
from tests.rights import need_root


class Place:
    """An /etc and a /run of their own; whoever runs the test is the administrator of it."""

    def __init__(self, path: Path) -> None:
        self.kept, self.passing = path / "etc" / "drain", path / "run" / "roundq" / "drain"
        self.kept.parent.mkdir()
        self.passing.parent.parent.mkdir()
        self.of = AdminDrain((str(self.kept), str(self.passing)), os.geteuid())

    def write(self, path: Path, text: str, mode: int = 0o644) -> None:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def says(self) -> str | None:
        """What a daemon says of this node now."""
        drain = self.of.look()
        return None if drain is None else drain.says


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_without_a_file_nothing_is_drained(place: Place) -> None:
    """Nor is that a trouble; the directory need not be there."""
    assert place.says() is None
    assert place.of.trouble == []
    assert AdminDrain(("/dev/null/drain",)).look() is None


def test_either_file_drains_with_its_text_as_reason(place: Place) -> None:
    """That of /etc first; a change is seen at the next look, and so is the end."""
    place.write(place.passing, "new disk\nsee the wiki\n")
    assert place.says() == "drained by admin: new disk"
    place.write(place.kept, "broken fan, for good")
    assert place.says() == "drained by admin: broken fan, for good"
    place.write(place.kept, "")
    assert place.says() == "drained by admin"
    place.kept.unlink()
    assert place.says() == "drained by admin: new disk"
    place.passing.unlink()
    assert place.says() is None
    assert place.of.trouble == []


def test_a_reason_is_made_harmless_and_short(place: Place) -> None:
    """It stands on every user's card."""
    place.write(place.passing, "\x1b[2J" + "x" * 3000)
    says = place.says()
    assert says is not None
    assert says.startswith("drained by admin: \\x1b[2Jxxx")
    assert len(says) == len("drained by admin: ") + REASON_MAX
    place.write(place.passing, "x" * 100_000)
    assert place.says() == "drained by admin"
    place.passing.write_bytes(b"caf\xe9")
    assert (place.says() or "").isprintable()


def test_what_cannot_be_read_drains_without_a_reason(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A careful umask of root, a directory, a link: the name alone says that nothing shall start."""
    place.passing.parent.mkdir()
    place.passing.mkdir()
    assert place.says() == "drained by admin"
    place.passing.rmdir()
    place.passing.symlink_to("/etc/hostname")
    assert place.says() == "drained by admin"
    place.passing.unlink()

    def refused(*_: object, **__: object) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files, "read", refused)
    place.write(place.passing, "new disk", 0o600)
    assert place.says() == "drained by admin"
    assert place.of.trouble == []


def test_a_file_of_somebody_else_drains_nothing(place: Place) -> None:
    """Only root speaks for all users; what is passed over is told."""
    need_root()
    place.write(place.passing, "boo")
    os.chown(place.passing, 54_321, 54_321)
    assert place.says() is None
    assert place.of.trouble == [f"{place.passing} is passed over: it belongs to uid 54321, not to uid 0"]
    os.chown(place.passing, 0, 0)
    os.chown(place.passing.parent, 54_321, 54_321)
    assert place.says() is None
    where = place.passing.parent
    assert place.of.trouble == [
        f"{place.passing} is passed over: of {where}, it belongs to uid 54321, not to uid 0"
    ]


def test_a_file_that_others_may_write_drains_nothing(place: Place) -> None:
    """Nor one in a directory where they could put another in its place."""
    place.write(place.passing, "boo", 0o666)
    assert place.says() is None
    assert place.of.trouble == [f"{place.passing} is passed over: it can be written by others: chmod go-w it"]
    place.passing.chmod(0o644)
    place.passing.parent.chmod(0o777)
    assert place.says() is None
    assert "is passed over: of " in place.of.trouble[0]
    place.passing.parent.chmod(0o755)
    assert place.says() == "drained by admin: boo"
    assert place.of.trouble == []


def test_a_directory_that_cannot_be_looked_into_is_told(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether there is a drain is then not known."""

    def refused(path: str) -> os.stat_result:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "lstat", refused)
    assert place.says() is None
    assert (
        place.of.trouble[0] == f"{place.kept} cannot be looked at: Permission denied; jobs start all the same"
    )


def test_the_text_is_read_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A round of every daemon of the node looks: two names, no more."""
    place.write(place.passing, "new disk")
    place.says()
    monkeypatch.setattr(files, "read", lambda *_, **__: pytest.fail("it was read"))
    assert place.says() == "drained by admin: new disk"


def test_the_administrator_drains_and_resumes(place: Place) -> None:
    """Every user can read it, whatever the umask of root; a second drain says why now."""
    before = os.umask(0o077)
    try:
        drains.drain("new disk", "here.1", str(place.passing))
    finally:
        os.umask(before)
    assert place.says() == "drained by admin: new disk"
    assert place.passing.stat().st_mode & 0o777 == 0o644
    assert place.passing.parent.stat().st_mode & 0o777 == 0o755
    drains.drain("", "here.1", str(place.passing))
    assert place.says() == "drained by admin"
    assert os.listdir(place.passing.parent) == ["drain"]

    assert drains.resume(str(place.passing))

    assert place.says() is None
    assert not drains.resume(str(place.passing))


def test_a_system_that_refuses_is_explained(place: Place) -> None:
    """In words of ours."""
    place.passing.parent.write_text("no directory")
    with pytest.raises(SpoolError, match=r"cannot write .*drain: Not a directory"):
        drains.drain("x", "here.1", str(place.passing))
