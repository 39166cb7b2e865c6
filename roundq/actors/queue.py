"""The queue as programs and the command line use it: look, submit, cancel, wait.

Prints nothing and never decides what should run. A look changes nothing; what it
does to the queue are transitions of `records.spool` that any command of the user may
make, and requests to those who own a record.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from roundq.actors.listing import Listing, Row, listing
from roundq.records import spool as spools
from roundq.records.spool import Spool
from roundq.words.errors import SpoolError

__all__ = ["Listing", "Row", "everybody", "listing", "mine"]


# ---------------------------------------------------------------- whose


def mine(environ: Mapping[str, str]) -> Spool:
    """My spool, which need not exist yet: in $HOME, or else in the home the user database gives me.

    My name is the last part of the home's path, as everybody's is. Raises SpoolError if there is no
    such home.
    """
    home = environ.get("HOME", "")
    origin = "HOME"
    if not home:
        home, origin = _home_of_user(), "your home in the user database"
    if not os.path.isabs(home):
        raise SpoolError(
            f"{origin} is {home!r}, which is not an absolute path", "set HOME to your home directory"
        )
    home = os.path.normpath(home)
    try:
        os.stat(f"{home}/.")
    except OSError as error:
        raise SpoolError(
            f"{origin} is {home!r}, which cannot be entered: {error.strerror}",
            "check that the home is mounted, and HOME",
        ) from None
    return spools.at(home, os.path.basename(home) or "root", os.geteuid())


def _home_of_user() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        raise SpoolError(
            f"HOME is not set, and uid {os.geteuid()} is not in the user database",
            "set HOME to your home directory",
        ) from None


def everybody(me: Spool, parents: Iterable[str]) -> list[Spool]:
    """The spools of all users whose homes are below these parents, mine among them, by name.

    `parents` are paths or patterns, as `Config.homes` has them.
    """
    from roundq.records import cards

    found = [spool for spool in cards.homes(parents) if not _is_same(spool, me)]
    return sorted([*found, me], key=lambda spool: (spool.user, spool.path))


def _is_same(spool: Spool, me: Spool) -> bool:
    """Whether it is mine under another path: a link may lead to a home, or the automounter's name."""
    try:
        return os.path.samefile(spool.path, me.path)
    except OSError:
        return spool.path == me.path
