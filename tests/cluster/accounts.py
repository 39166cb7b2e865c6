"""The users of a cluster: accounts that exist on all nodes, and their homes. Called by box."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FIRST_UID = 20001
FIRST_GROUP = 30001


@dataclass(frozen=True)
class User:
    """A user of all nodes, with a group of the same name and number and perhaps others."""

    name: str
    uid: int
    groups: tuple[int, ...]

    @property
    def home(self) -> str:
        return f"/home/{self.name}" if self.uid else "/root"


ROOT = User("root", 0, (0,))


def make_users(names: Sequence[str], groups: Mapping[str, Sequence[str]]) -> dict[str, User]:
    """Number users and groups."""
    gids = {name: FIRST_GROUP + i for i, name in enumerate(groups)}
    users = {}
    for i, name in enumerate(names):
        uid = FIRST_UID + i
        users[name] = User(name, uid, (uid, *(gids[g] for g, members in groups.items() if name in members)))
    return users


def make_homes(server: str, users: Mapping[str, User], mode: int) -> None:
    for user in users.values():
        home = os.path.join(server, user.name)
        os.mkdir(home)
        os.chown(home, user.uid, user.uid)
        os.chmod(home, mode)


def write_databases(directory: str, users: Mapping[str, User], groups: Mapping[str, Sequence[str]]) -> None:
    """Write passwd and group: the machine's own, and ours."""
    passwd, group = _read("/etc/passwd"), _read("/etc/group")
    for i, name in enumerate(groups):
        group += f"{name}:x:{FIRST_GROUP + i}:{','.join(groups[name])}\n"
    for user in users.values():
        passwd += f"{user.name}:x:{user.uid}:{user.uid}::{user.home}:/bin/sh\n"
        group += f"{user.name}:x:{user.uid}:\n"
    for file, text in (("passwd", passwd), ("group", group)):
        path = os.path.join(directory, file)
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, 0o644)


def _read(path: str) -> str:
    with open(path) as f:
        return f.read()
