"""Promises of `rq doctor` about the commons: what is wrong is told, with what helps, and mended if asked."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from roundq.actors import commons_checks
from roundq.actors.patient import Patient
from roundq.records import commons, neighbours
from roundq.words.findings import OK, WARNING, Finding
from roundq.world.config import Config
from tests.actors.spoolhome import SpoolHome
from tests.rights import need_root

Look = Callable[..., Finding]


@pytest.fixture
def look(home: SpoolHome) -> Look:
    """Makes the check for a user whose configuration names this commons."""

    def check(path: Path | str, *, fixes: bool = False) -> Finding:
        patient = Patient(home.environ, fixes=fixes)
        patient.__dict__["config"] = Config((str(home.home.parent),), commons=str(path))
        (found,) = commons_checks.commons(patient)
        return found

    return check


def made(path: Path, mode: int = 0o1777) -> Path:
    path.mkdir()
    path.chmod(mode)
    return path


def test_a_commons_that_is_right_is_counted(look: Look, tmp_path: Path) -> None:
    """With how many users are there."""
    path = made(tmp_path / "commons")
    commons.publish_card(str(path), node="n1", text="{}")

    found = look(path)

    assert (found.facts["users"], found.facts["path"]) == (1, str(path))
    assert f"{path} has cards of 1 user" in found.found
    assert found.level == (WARNING if os.geteuid() else OK), "root's is the best"


def test_without_one_it_is_said_what_is_not_seen(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where homes are closed; whoever asks is told how one is made."""
    monkeypatch.setattr(neighbours, "hidden", lambda *_: [])
    assert look("").level == OK
    assert "write `commons = " in look("", fixes=True).remedy

    monkeypatch.setattr(neighbours, "hidden", lambda *_: ["eve"])
    found = look("")
    assert found.level == WARNING
    assert "of closed homes only what runs on this node is seen" in found.found
    assert "/etc/roundq.toml" in found.remedy
    assert "rq doctor --fix" in found.remedy


@pytest.mark.parametrize("wrong", ["absent", "not sticky", "file"])
def test_one_that_is_not_right_is_told_and_changed_only_if_asked_for(
    look: Look, tmp_path: Path, wrong: str
) -> None:
    """With the remedy; a look changes nothing."""
    path = tmp_path / "commons"
    if wrong == "not sticky":
        made(path, 0o777)
    elif wrong == "file":
        path.touch()

    found = look(path)

    assert found.level == WARNING
    assert str(path) in found.found
    assert found.remedy == "as root: rq doctor --fix"
    assert path.exists() == (wrong != "absent")
    assert wrong != "not sticky" or stat.S_IMODE(path.stat().st_mode) == 0o777


@pytest.mark.parametrize("wrong", ["absent", "not sticky"])
def test_root_has_it_made(look: Look, tmp_path: Path, wrong: str) -> None:
    """Or its mode set; nothing that is right is touched."""
    need_root()
    path = tmp_path / "commons"
    if wrong == "not sticky":
        made(path, 0o777)

    found = look(path, fixes=True)

    assert (found.level, stat.S_IMODE(path.stat().st_mode)) == (OK, 0o1777)
    assert found.found.startswith("made: " if wrong == "absent" else "mode 1777 was set: ")
    path.chmod(0o755)
    assert look(path, fixes=True).found.startswith(str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o755


def test_root_follows_no_link_that_lies_in_its_place(look: Look, tmp_path: Path) -> None:
    """Where somebody else may write, he could have the mode of any directory set."""
    need_root()
    other = made(tmp_path / "other", 0o777)
    (tmp_path / "commons").symlink_to(other)

    with pytest.raises(NotADirectoryError):
        look(tmp_path / "commons", fixes=True)

    assert stat.S_IMODE(other.stat().st_mode) == 0o777


def test_one_that_belongs_to_somebody_else_is_told(look: Look, tmp_path: Path) -> None:
    """The owner of a directory may remove what is in it."""
    need_root()
    path = made(tmp_path / "commons")
    os.chown(path, 40_003, -1)

    found = look(path)

    assert found.level == WARNING
    assert "it is uid 40003's" in found.found
    assert found.remedy == f"chown root {path}"
