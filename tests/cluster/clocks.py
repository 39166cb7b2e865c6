"""Clocks of a node that are wrong, or that leap: libfaketime, for the processes that get its environment.

Daemons, and so their supervisors, get it from their starter; jobs have that of their submitter, and
those that write into the ledger need TRUE before them.
"""

from __future__ import annotations

import glob
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.cluster.node import Node

_LIBRARIES = "/usr/lib/*/faketime/libfaketime.so.1"
_FILE = "/run/clock"

#: Words before a command that has the clocks of the kernel again.
TRUE = ("env", "-u", "LD_PRELOAD")


def missing() -> str:
    """What this machine lacks for wrong clocks; empty if nothing."""
    return "" if glob.glob(_LIBRARIES) else "libfaketime (apt-get install faketime)"


def _environment() -> dict[str, str]:
    # Times of files are the server's.
    return {"LD_PRELOAD": glob.glob(_LIBRARIES)[0], "NO_FAKE_STAT": "1"}


def wrong_by(hours: float) -> dict[str, str]:
    """All clocks are wrong by so much; where they begin does not matter for those that only count."""
    return {**_environment(), "FAKETIME": f"{hours * 3600:+.0f}"}


class Leaping:
    """All clocks of a node, which leap when they are told to: it slept, and nobody noticed."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.environment = {
            **_environment(),
            "FAKETIME_TIMESTAMP_FILE": _FILE,
            "FAKETIME_CACHE_DURATION": "1",
        }
        self.leap(0)

    def leap(self, seconds: float) -> None:
        """From now on they show so much more than they should."""
        with open(self.node.outside(_FILE), "w") as file:
            file.write(f"{seconds:+.0f}\n")
