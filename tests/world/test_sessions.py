"""Promises about sessions: what a logout ends, by the files that systemd leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from roundq.world import sessions


@pytest.mark.parametrize(
    ("files", "kills"),
    [
        ({}, False),
        ({"etc/systemd/logind.conf": "[Login]\n#KillUserProcesses=yes\n"}, False),
        ({"etc/systemd/logind.conf": "[Login]\nKillUserProcesses=yes\n"}, True),
        ({"etc/systemd/logind.conf": "[Login]\n KillUserProcesses = TRUE \n"}, True),
        (
            {
                "etc/systemd/logind.conf": "[Login]\nKillUserProcesses=yes\n",
                "usr/lib/systemd/logind.conf.d/90-no.conf": "[Login]\nKillUserProcesses=no\n",
            },
            False,
        ),
        (
            {
                "usr/lib/systemd/logind.conf.d/50-a.conf": "[Login]\nKillUserProcesses=no\n",
                "etc/systemd/logind.conf.d/50-a.conf": "[Login]\nKillUserProcesses=yes\n",
            },
            True,
        ),
        (
            {
                "etc/systemd/logind.conf.d/10-a.conf": "[Login]\nKillUserProcesses=yes\n",
                "run/systemd/logind.conf.d/20-b.conf": "[Login]\nKillUserProcesses=no\n",
            },
            False,
        ),
    ],
)
def test_what_logind_ends_is_read_as_logind_reads_it(
    files: dict[str, str], kills: bool, tmp_path: Path
) -> None:
    """Drop-ins win over the file, a later name over an earlier one, /etc over /run over /usr/lib."""
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert sessions.kills_at_logout(str(tmp_path)) is kills


@pytest.mark.parametrize(
    ("text", "group"),
    [
        ("0::/user.slice/user-1000.slice/session-3.scope\n", "/user.slice/user-1000.slice/session-3.scope"),
        ("11:cpu:/x\n1:name=systemd:/system.slice/a.service\n0::/\n", "/system.slice/a.service"),
        ("0::/a:b\n", "/a:b"),
        ("", ""),
    ],
)
def test_who_keeps_a_process_is_told_by_its_control_group(text: str, group: str, tmp_path: Path) -> None:
    (tmp_path / "proc/7").mkdir(parents=True)
    (tmp_path / "proc/7/cgroup").write_text(text)
    assert sessions.keeper(7, str(tmp_path)) == group
    assert sessions.keeper(8, str(tmp_path)) == ""


def test_units_are_found_once_the_users_own_first(tmp_path: Path) -> None:
    """Where /lib leads to /usr/lib there are not two of each."""
    home, root = tmp_path / "home", tmp_path / "root"
    for directory in (home / ".config/systemd/user", root / "usr/lib/systemd/system"):
        directory.mkdir(parents=True)
    (home / ".config/systemd/user/roundq.service").touch()
    (root / "usr/lib/systemd/system/roundq@.service").touch()
    (root / "usr/lib/systemd/system/other.service").touch()
    (root / "lib").symlink_to(root / "usr/lib")
    found = sessions.units("roundq*.service", str(home), str(root))
    assert [Path(path).name for path in found] == ["roundq.service", "roundq@.service"]


def test_lingering_and_systemd_are_seen_by_their_marks(tmp_path: Path) -> None:
    assert not sessions.lingers("ann", str(tmp_path))
    assert not sessions.is_managed(str(tmp_path))
    (tmp_path / "var/lib/systemd/linger").mkdir(parents=True)
    (tmp_path / "var/lib/systemd/linger/ann").touch()
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    assert sessions.lingers("ann", str(tmp_path))
    assert not sessions.lingers("bob", str(tmp_path))
    assert sessions.is_managed(str(tmp_path))
