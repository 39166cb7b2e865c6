"""Processes of other users that bear a certain name: who they are, whose, and their titles.

Where proc(5) hides the processes of others (hidepid), there are none.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from typing import NamedTuple

from roundq.words.job import Identity
from roundq.world import procs

#: A process that bore another name for this long is not asked again: whoever takes a name does so at once.
ASKED_S = 10.0
#: Bearers of one user beyond these are left out, unless the caller says otherwise.
MOST_OF_ONE = 1000
_TITLE_BYTES_MAX = 4096


class Named(NamedTuple):
    """A living process of another user, with its words as `ps -f` shows them."""

    process: Identity
    uid: int
    title: str


class Bearers:
    """Those who bear this name, looked for again and again: what is known of the others is not asked anew.

    At most so many of one user: whoever has more makes them up, and none that is too many is asked again.
    """

    def __init__(self, name: str, most_of_one: int = MOST_OF_ONE) -> None:
        self._name, self._most = name.encode(), most_of_one
        self._others: dict[int, tuple[tuple[int, int], float]] = {}

    def look(self, but: int, now_s: float) -> list[Named]:
        """The bearers now, but those of the user `but`; `now_s` is a monotonic time.

        A process that hides, or ends meanwhile, is left out, and so is one in a container: it is on a node of
        another name.
        """
        others: dict[int, tuple[tuple[int, int], float]] = {}
        found: list[Named] = []
        count: Counter[int] = Counter()
        full: set[int | None] = set()
        for pid, key in procs.of_others(but).items():
            known, since_s = self._others.get(pid, (key, now_s))
            since_s = since_s if known == key else now_s
            with contextlib.suppress(OSError):
                if now_s - since_s >= ASKED_S or self._name != procs.name(pid):
                    others[pid] = (key, since_s)
                elif full and procs.real_uid(pid) in full:
                    others[pid] = (key, -math.inf)
                elif (one := _bearer(pid)) is not None and one.uid != but:
                    found.append(one)
                    count[one.uid] += 1
                    if count[one.uid] >= self._most:
                        full.add(one.uid)
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
