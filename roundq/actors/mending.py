"""What became of records that were being changed when the process that did it died: put where they belong.

roundqueue(7), Holding and changing. Only those of this node, whose processes can be judged here.
"""

from __future__ import annotations

import logging

from roundq.records import changes
from roundq.records.shelf import Shelf
from roundq.records.spool import Entry
from roundq.words.errors import RoundqError

#: Looked at so often, and mended after so long: what a process sent to a file server before it died may
#: arrive a little later.
AGAIN_S = 1.0


class Mending:
    """What one daemon remembers of the sealed records of its node. Times are monotonic, in seconds."""

    def __init__(self, shelf: Shelf, node: str, log: logging.Logger) -> None:
        #: That of held/; whoever looks at it, too, may share it.
        self.shelf, self.node, self.log = shelf, node, log
        #: Its entries as they were followed last.
        self._followed: dict[str, Entry] = {}
        self._sealed: list[Entry] = []
        #: By file name, since when their processes are known to be dead.
        self._dead_s: dict[str, float] = {}
        self._looked_s = float("-inf")
        self._complained: set[str] = set()

    def look(self, now_s: float, *, lists: bool = True) -> None:
        """Mends what is due. Raises OSError if held/ cannot be listed; without `lists` somebody else did."""
        if lists:
            self.shelf.look(now_s)
        if self._followed is not self.shelf.entries:
            self._follow()
        if not self._sealed or now_s - self._looked_s < AGAIN_S:
            return
        self._looked_s = now_s
        there = [entry for entry in self._sealed if entry.file in self.shelf.entries]
        dead = {entry.file for entry in there if not self._may_live(entry)}
        self._dead_s = {file: self._dead_s.get(file, now_s) for file in dead}
        self._sealed = [entry for entry in there if not self._is_mended(entry, now_s)]

    def _follow(self) -> None:
        entries = self._followed = self.shelf.entries
        self._sealed = [entry for entry in entries.values() if entry.node == self.node and entry.is_sealed]

    def again_s(self, now_s: float) -> float:
        """Seconds until the next look is wanted."""
        return max(0.0, self._looked_s + AGAIN_S - now_s) if self._sealed else float("inf")

    def _may_live(self, entry: Entry) -> bool:
        seal = changes.seal_of(entry)
        # What this process changes it has put before it looks here.
        return seal is not None and changes.may_live(seal, but_me=True)

    def _is_mended(self, entry: Entry, now_s: float) -> bool:
        if now_s - self._dead_s.get(entry.file, now_s) < AGAIN_S:
            return False
        fields = {"ROUNDQ_JOB": entry.id, "ROUNDQ_NODE": self.node}
        try:
            state = changes.put_back(self.shelf.spool, entry)
        except (OSError, RoundqError) as error:
            if entry.file not in self._complained:
                self._complained.add(entry.file)
                self.log.warning("job %s was being changed: %s", entry.id, error, extra=fields)
            return False
        if state is not None:
            said = "was being changed by a process that died: it is"
            self.log.warning("job %s %s %s", entry.id, said, state, extra={**fields, "ROUNDQ_STATE": state})
        return True
