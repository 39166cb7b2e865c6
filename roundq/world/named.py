"""Processes of other users that bear a certain name: who they are, whose, and their titles.

Where proc(5) hides the processes of others (hidepid), there are none.
"""

from __future__ import annotations

import contextlib
from typing import NamedTuple

from roundq.words.job import Identity
from roundq.world import procs

#: A process that bore another name for this long is not asked again: whoever takes a name does so at once.
ASKED_S = 10.0
_TITLE_BYTES_MAX = 4096


class Named(NamedTuple):
    """A living process of another user, with its words as `ps -f` shows them."""

    process: Identity
    uid: int
    title: str


class Bearers:
    """Those who bear this name, looked for again and again: what is known of the others is not asked anew."""

    def __init__(self, name: str) -> None:
        self._name = name.encode()
        self._others: dict[int, tuple[tuple[int, int], float]] = {}

    def look(self, but: int, now_s: float) -> list[Named]:
        """The bearers now, but those of the user `but`; `now_s` is a monotonic time.

        A process that hides, or ends meanwhile, is left out, and so is one in a container: it is on a node of
        another name.
        """
        others: dict[int, tuple[tuple[int, int], float]] = {}
        found = []
        for pid, key in procs.of_others(but).items():
            known, since_s = self._others.get(pid, (key, now_s))
            since_s = since_s if known == key else now_s
            with contextlib.suppress(OSError):
                if now_s - since_s < ASKED_S and self._name == procs.name(pid):
                    one = _bearer(pid)
                    found += [] if one is None or one.uid == but else [one]
                else:
                    others[pid] = (key, since_s)
        self._others = others
        return found


def _bearer(pid: int) -> Named | None:
    process = procs.identity(pid)
    uid, words = procs.real_uid(pid), procs.words(pid, _TITLE_BYTES_MAX)
    # It is asked last whether all that was of one process.
    if (
        process is None
        or uid is None
        or procs.is_contained(pid)
        or procs.liveness(process) is not procs.Liveness.ALIVE
    ):
        return None
    return Named(process, uid, words.replace(b"\0", b" ").strip().decode("ascii", "replace"))
