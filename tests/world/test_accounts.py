"""The groups of users: those that the system says, asked seldom."""

from __future__ import annotations

import grp
import os
import pwd

from roundq.world.accounts import Groups, groups_of


def test_groups_are_those_of_the_user_database() -> None:
    """The user's own group first of all."""
    me = pwd.getpwuid(os.geteuid())
    assert grp.getgrgid(me.pw_gid).gr_name in groups_of(me.pw_name)


def test_whom_nobody_knows_has_no_groups() -> None:
    """A home may be called as it likes, and as no user can be called."""
    assert groups_of("nobody-has-this-name") == ()
    assert groups_of("a\0b") == ()


def test_the_database_is_asked_once_an_hour() -> None:
    """A round comes every second, and a directory service may be slow."""
    asked: list[str] = []

    def look_up(user: str) -> tuple[str, ...]:
        asked.append(user)
        return (f"{user}-{len(asked)}",)

    groups = Groups(look_up)
    first = [groups.of(user, 0.0) for user in ("ann", "ann", "bob")]
    assert first == [("ann-1",), ("ann-1",), ("bob-2",)]
    assert groups.of("ann", 3599.0) == ("ann-1",)
    assert groups.of("ann", 3600.0) == ("ann-3",)
