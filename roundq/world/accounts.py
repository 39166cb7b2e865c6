"""Unix groups of users, as the user database of this node tells; asked seldom, since it may be slow."""

from __future__ import annotations

import os
from collections.abc import Callable

#: What the database said is believed for this long.
_BELIEVED_S = 3600.0


def groups_of(user: str) -> tuple[str, ...]:
    """The names of the groups of a user; none if the database does not know the user, or does not answer."""
    import grp
    import pwd

    try:
        account = pwd.getpwnam(user)
        numbers = os.getgrouplist(user, account.pw_gid)
    except (KeyError, OSError, ValueError):
        return ()
    names = []
    for number in numbers:
        try:
            names.append(grp.getgrgid(number).gr_name)
        except (KeyError, OSError):
            continue
    return tuple(names)


class Groups:
    """`groups_of`, remembered for an hour."""

    def __init__(self, look_up: Callable[[str], tuple[str, ...]] = groups_of) -> None:
        self._look_up = look_up
        self._known: dict[str, tuple[float, tuple[str, ...]]] = {}

    def of(self, user: str, now_s: float) -> tuple[str, ...]:
        """The groups of a user; `now_s` is monotonic."""
        since_s, groups = self._known.get(user, (-_BELIEVED_S, ()))
        if now_s - since_s >= _BELIEVED_S:
            groups = self._look_up(user)
            self._known[user] = (now_s, groups)
        return groups
