"""Directories among those of other users: whose is which, and that it is only his.

In a directory to which everybody may write, such as the commons, a name proves nothing: whoever came first
has it. So the name says the number of a user, and counts only if it is a directory of that user.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import os
import re
import stat
from collections.abc import Collection
from typing import NamedTuple

from roundq.world import mounts

#: Whose a directory is has to be asked of the server; so many that are somebody else's end a look.
WRONG_MOST = 1000

_UID = re.compile("0|[1-9][0-9]{0,9}")


class Owned(NamedTuple):
    """A directory with its owner's uid in its name: where it is, the uid, and the name of that account."""

    name: str
    uid: int
    user: str


def opened(directory: str, owner: int) -> int:
    """A descriptor of a directory that is no link, belongs to this user, and that only he may write to.

    For directories beside which others may make names: what was looked at is what is opened.
    Raises PermissionError if it is not like that, OSError if it cannot be opened.
    """
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise PermissionError(errno.EPERM, "it is no directory", directory) from None
        raise
    try:
        if why := not_his_own(os.fstat(descriptor), owner):
            raise PermissionError(errno.EPERM, why, directory)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def not_his_own(status: os.stat_result, owner: int) -> str:
    """Why this is no directory of a user that only he may write to; empty if it is one."""
    if not stat.S_ISDIR(status.st_mode):
        return "it is no directory"
    if status.st_uid != owner:
        return f"it belongs to uid {status.st_uid}, not to uid {owner}"
    return "others may write to it" if status.st_mode & 0o022 else ""


def owned(
    directory: str, *, most: int, first: Collection[str] = (), wrong_most: int = WRONG_MOST
) -> list[Owned]:
    """Of the users whose directory UID or UID.WORD is in this directory: that directory, one of each user.

    Names that are somebody else's, or no directory, or to which others may write, are left out, and so is
    what has been mounted there. At most so many names are looked at, until so many directories were wrong:
    those in `first`, and then the others, from one by chance on, so that several looks find them all. Raises
    OSError.
    """
    mounted = _mounted_below(directory)
    with os.scandir(directory) as listed:
        entries = [
            entry
            for entry in itertools.islice(listed, most)
            if _UID.fullmatch(entry.name.partition(".")[0]) and entry.name not in mounted
        ]
    begin = int.from_bytes(os.urandom(4), "big") % max(1, len(entries))
    before = set(first)
    found: dict[int, str] = {}
    wrong = 0
    for entry in itertools.chain(
        (entry for entry in entries if entry.name in before), entries[begin:], entries[:begin]
    ):
        uid = int(entry.name.partition(".")[0])
        # The shorter name goes first: the other one was made while that was somebody else's.
        if uid in found and _order(entry.name) >= _order(found[uid]):
            continue
        with contextlib.suppress(OSError):
            # The type costs nothing, as a rule; to ask whose it is is a way to the server.
            if entry.is_dir(follow_symlinks=False):
                if not not_his_own(entry.stat(follow_symlinks=False), uid):
                    found[uid] = entry.name
                    continue
                wrong += 1
        if wrong > wrong_most:
            break
    return [Owned(name, uid, account(uid)) for uid, name in sorted(found.items())]


def _order(name: str) -> tuple[int, str]:
    return len(name), name


def _mounted_below(directory: str) -> set[str]:
    """The names in a directory on which, or below which, something is mounted."""
    above = f"{os.path.normpath(directory)}/"
    return {point[len(above) :].partition("/")[0] for point in mounts.points() if point.startswith(above)}


@functools.lru_cache(maxsize=10_000)
def account(uid: int) -> str:
    """The name of a user, or the number where the user database does not know it."""
    import pwd

    try:
        name = pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return str(uid)
    return name if name.isprintable() else str(uid)
