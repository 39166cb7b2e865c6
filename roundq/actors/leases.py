"""Leases of my jobs on other nodes: which have run out, so that this node may take the job over.

A lease is renewed by setting the times of the running record (roundqueue(7), Leases). Here is
only looked whether they stand still, by this process's own clock; nothing is moved.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from roundq.actors.homewatch import LEASE_OVER, LEASE_RENEWALS
from roundq.records import spool as spools
from roundq.records.shelf import Shelf
from roundq.records.spool import Entry, Spool
from roundq.words.errors import RecordError
from roundq.words.states import RUNNING
from roundq.world import files


@dataclass(slots=True)
class _Lease:
    length_s: float
    signature: tuple[int, int, int]
    since_s: float


class Leases:
    """What one daemon knows of the leases of its user's jobs on other nodes."""

    def __init__(self, spool: Spool, node: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.spool, self.node, self._clock = spool, node, clock
        self._shelf = Shelf(spool, RUNNING)
        self._leases: dict[Entry, _Lease] = {}
        #: Records that name no lease; they are not read again.
        self._without: set[Entry] = set()
        self._look_s = -1e9

    def again_s(self, now_s: float) -> float:
        """Seconds until the next look is wanted at the latest; endless if there is nothing to watch."""
        if not self._leases:
            return float("inf")
        return max(0.0, self._look_s - now_s)

    def run_out(self, now_s: float, look_most_s: float) -> list[Entry]:
        """The running records of other nodes whose leases ran out. `now_s` is monotonic.

        Looks at most as often as the shortest lease needs, and at least every `look_most_s`.
        """
        if now_s < self._look_s:
            return []
        self._shelf.look(now_s)
        foreign = [entry for entry in self._shelf.entries.values() if entry.node not in (None, self.node)]
        known = set(foreign)
        self._leases = {entry: lease for entry, lease in self._leases.items() if entry in known}
        self._without &= known
        found = [entry for entry in foreign if entry not in self._without and self._is_over(entry, now_s)]
        pace_s = min(
            (lease.length_s / LEASE_RENEWALS for lease in self._leases.values()), default=look_most_s
        )
        self._look_s = now_s + min(pace_s, look_most_s)
        return found

    def _is_over(self, entry: Entry, now_s: float) -> bool:
        try:
            signature = files.signature(spools.path_of(self.spool, entry))
            lease = self._leases.get(entry)
            if lease is None:
                length_s = spools.read(self.spool, entry).lease_s
                if length_s is None:
                    self._without.add(entry)
                    return False
                lease = self._leases[entry] = _Lease(length_s, signature, self._read_s(now_s))
        except (OSError, RecordError):
            # Gone, or not to be told now: nobody's lease runs out by an error.
            self._leases.pop(entry, None)
            return False
        if lease.signature != signature:
            lease.signature, lease.since_s = signature, self._read_s(now_s)
        return now_s - lease.since_s > lease.length_s * LEASE_OVER

    def _read_s(self, now_s: float) -> float:
        """When a file was seen for certain: this node may have slept, or been cut off, in the round."""
        return max(now_s, self._clock())
