"""Promises about mounts: what a path is on, by what the kernel says, however odd the names."""

from __future__ import annotations

from pathlib import Path

import pytest

from roundq.world import mounts
from roundq.world.mounts import Mount, mount_of, parse

INFO = r"""
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,errors=remount-ro
23 22 0:21 / /proc rw,nosuid,nodev,noexec shared:5 - proc proc rw,hidepid=invisible
30 22 0:40 / /home rw,relatime shared:9 - nfs4 server:/home rw,vers=4.2,soft,acdirmax=60,addr=10.0.0.1
31 30 0:41 / /home/a\040b rw,relatime - fuse.sshfs host:/x\040y rw,user_id=0
32 22 0:42 / /srv/queue rw - tmpfs none rw
33 22 0:43 / /srv/queue ro master:1 propagate_from:2 - cifs //nas/q rw
a line that is none
"""


@pytest.fixture
def root(tmp_path: Path) -> str:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text(INFO)
    return str(tmp_path)


@pytest.mark.parametrize(
    ("path", "point", "kind"),
    [
        ("/", "/", "ext4"),
        ("/homestead", "/", "ext4"),
        ("/home", "/home", "nfs4"),
        ("/home/ann/.roundqueue", "/home", "nfs4"),
        ("/home/a b", "/home/a b", "fuse.sshfs"),
        ("/home/a b/c", "/home/a b", "fuse.sshfs"),
        ("/home/a bc", "/home", "nfs4"),
        ("/srv/queue/x", "/srv/queue", "cifs"),
    ],
)
def test_a_path_is_on_the_longest_mount_that_was_mounted_last(
    path: str, point: str, kind: str, root: str
) -> None:
    found = mount_of(path, root)
    assert found is not None
    assert (found.point, found.kind) == (point, kind)


def test_options_are_those_of_the_mount_and_of_the_file_system(root: str) -> None:
    """One that has no value is empty, one that is not set is None."""
    found = mount_of("/home/ann", root)
    assert found is not None
    assert (found.source, found.option("vers"), found.option("soft")) == ("server:/home", "4.2", "")
    assert (found.option("hard"), found.option("so"), found.option("acdirmax")) == (None, None, "60")
    covered = mount_of("/srv/queue", root)
    assert covered is not None
    assert covered.option("ro") == ""


def test_this_very_system_is_understood() -> None:
    assert mount_of("/") is not None
    assert mount_of("/nowhere", "/nowhere") is None
    assert parse("") == []
    assert parse("1 2 3:4 / / rw - ext4 /dev/x rw") == [Mount("/", "ext4", "/dev/x", ("rw",))]


def test_hidden_processes_are_known_by_an_option(root: str, tmp_path: Path) -> None:
    """Also by its newer words; `off` and 0 hide nothing."""
    assert mounts.hidepid(root) == "invisible"
    for value in ("0", "off"):
        (tmp_path / "proc/self/mountinfo").write_text(f"1 2 3:4 / /proc rw - proc proc rw,hidepid={value}\n")
        assert mounts.hidepid(root) is None
