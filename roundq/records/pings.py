"""Pings: a file that asks every daemon of its user for a sign, by which `rq doctor` measures how soon
nodes see each other's changes. See roundqueue(7), "Pings".
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable

from roundq.records import cards
from roundq.records import spool as spools
from roundq.records.spool import Spool
from roundq.world import files

VERB = "ping"
#: Whoever left an older one is gone; by the server's clock.
STALE_S = 300.0

_NAME = re.compile(rf"([0-9a-f]{{16}})\.{VERB}")


def token() -> str:
    """A token that nobody else has."""
    return os.urandom(8).hex()


def leave(spool: Spool, ping: str, node: str) -> None:
    """Asks every daemon of this spool to show this token on its card."""
    with files.explained(f"leave a ping in {spool.directory('requests')}"):
        files.replace(spools.temporary_of(spool, node, b"\n", sync=False), _path(spool, ping))


def remove(spool: Spool, ping: str) -> None:
    """Takes a ping away; that it is gone already is as good. Raises OSError if it cannot be removed."""
    files.remove(_path(spool, ping))


def seen(spool: Spool) -> tuple[str, ...]:
    """The tokens of the pings that lie in a spool, for its daemon's card."""
    names = (
        found[1] for name, _ in files.listing(spool.directory("requests")) if (found := _NAME.fullmatch(name))
    )
    return tuple(sorted(names)[: cards.PONGS_MAX])


def sweep(spool: Spool, pings: Iterable[str], now_s: float) -> None:
    """Removes those of these pings that nobody waits for any more. `now_s` is the server's clock (epoch)."""
    for ping in pings:
        with contextlib.suppress(OSError):
            if files.signature(_path(spool, ping))[1] / 1e9 < now_s - STALE_S:
                files.remove(_path(spool, ping))


def _path(spool: Spool, ping: str) -> str:
    return f"{spool.directory('requests')}/{ping}.{VERB}"
