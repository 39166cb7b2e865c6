"""Whether another living node bears the name of this one, as the card of that name tells.

Each of two such nodes would take the jobs of the other for those of an earlier boot of its own: dead, and to
be run again. So the daemon asks here before it plays a round. It reads one card, and changes nothing.
"""

from __future__ import annotations

import errno

from roundq.records import cards
from roundq.records.cards import Card
from roundq.records.spool import Spool
from roundq.words.errors import RecordError
from roundq.words.job import Identity
from roundq.world import files

#: A living daemon has renewed its card by then, also if it missed a beat.
WATCH_S = 2.5 * cards.BEAT_S


#: What open(2) answers where there is nothing, a symbolic link, or a socket.
NO_FILE = frozenset({errno.ENOENT, errno.ELOOP, errno.ENXIO})


class Namesake:
    """What the daemon `process` knows of other nodes that are called `node`. Times are monotonic.

    `machine` is the same after a reboot, and empty if that is not known.
    """

    def __init__(self, spool: Spool, node: str, process: Identity, machine: str) -> None:
        self.spool, self.node, self.process, self.machine = spool, node, process, machine
        self._signature: tuple[int, int, int] | None = None
        self._last: tuple[Identity, int] | None = None
        self._watched_s: float | None = None
        self._lives_s: float | None = None

    @property
    def lives(self) -> bool:
        """Whether it was proved that there is one, and not only not yet excluded."""
        return self._lives_s is not None

    def look(self, now_s: float, *, has_published: bool) -> str | None:
        """Why this daemon may not act as this node now, in words; None if it may.

        `has_published` says that this daemon wrote a card: one of another boot was then written later.
        Raises OSError if that cannot be told.
        """
        try:
            signature = files.signature(f"{self.spool.path}/{self.node}")
            if signature != self._signature:
                self._judge(cards.read(self.spool, self.node), now_s, has_published)
            self._signature = signature
        except (OSError, RecordError) as error:
            if isinstance(error, OSError) and error.errno not in NO_FILE:
                raise
            # No card that could be believed: nobody says that he is there.
            self._signature = None
        if self._lives_s is not None and now_s - self._lives_s >= WATCH_S:
            self._lives_s = None
        if self._lives_s is not None:
            return f"another living node is called {self.node}, too: give one of them another name (RQ_NODE)"
        if self._watched_s is not None and now_s - self._watched_s < WATCH_S:
            return (
                f"another machine was called {self.node} before: it is watched for a while whether it lives"
            )
        return None

    def _judge(self, card: Card, now_s: float, has_published: bool) -> None:
        if card.process is None or card.process.boot == self.process.boot:
            return
        last, self._last = self._last, (card.process, card.beat)
        if has_published or (last is not None and last != self._last):
            self._lives_s = now_s
        elif card.machine and card.machine == self.machine:
            # It was rebooted: there is nobody to wait for.
            self._watched_s = None
        elif card.state != cards.LEAVING or card.jobs:
            self._watched_s = now_s
