"""One state of a spool, remembered: what a process that looks often knows without listing it anew."""

from __future__ import annotations

from roundq.records.spool import SUFFIX, Entry, Spool, entry_of
from roundq.world import files

MISNAMED_MAX = 5


class Shelf:
    """One state of a spool, remembered: listed again only when it may have changed."""

    def __init__(self, spool: Spool, state: str) -> None:
        self.spool, self.state = spool, state
        #: By file name; entries that are still there stay the same objects.
        self.entries: dict[str, Entry] = {}
        #: Some names of files that were meant to be records, but that no record can have.
        self.misnamed: list[str] = []
        #: The names that the last listing had for other files than the one before.
        self.replaced: list[str] = []
        self.freshness = files.Freshness(spool.directory(state))

    def look(self, now_s: float) -> bool:
        """Brings `entries` up to date; whether anything changed. `now_s` is a monotonic time."""
        if not self.freshness.is_due(now_s):
            return False
        try:
            names = files.listing(self.freshness.directory)
        except OSError:
            self.freshness.forget()
            raise
        before, self.entries = self.entries, {}
        self.misnamed, self.replaced = [], []
        is_new = False
        for listed in names:
            name, inode = listed
            known = before.get(name)
            if known is not None:
                if known.inode == inode:
                    self.entries[name] = known
                    continue
                self.replaced.append(name)
            if (entry := entry_of(self.state, listed)) is not None:
                self.entries[name] = entry
                is_new = True
            elif name.endswith(SUFFIX) and len(self.misnamed) < MISNAMED_MAX:
                self.misnamed.append(name)
        return is_new or len(before) != len(self.entries)
