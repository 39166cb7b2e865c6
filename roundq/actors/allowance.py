"""How much of a stranger's records one look may read: whatever he puts there, it ends.

Of one's own nothing is counted.
"""

from __future__ import annotations

from collections.abc import Iterable

from roundq.records import spool as spools
from roundq.records.spool import Entry, Spool
from roundq.words import record_format as formats
from roundq.words.errors import RecordError
from roundq.words.job import Record

#: Bytes of somebody else's records that one look reads; an honest record has a thousand, and each counts as
#: that: an empty file takes as long to read.
BYTES_OF_OTHERS_MOST, READ_BYTES_MIN = 16 << 20, 1 << 10
#: Records that are read at once.
AHEAD = 32
#: Jobs that are followed to where they moved: for each all directories are listed.
FOLLOWED_MOST = 32


class Allowance:
    """How many bytes of a stranger's records a look may still read; each of them alone may be large.

    And how many that have moved on it may still look for.
    """

    def __init__(self, left_bytes: int = BYTES_OF_OTHERS_MOST) -> None:
        self.left_bytes, self.left_follows = left_bytes, FOLLOWED_MOST
        self._expected: list[Entry] = []
        self._ahead: dict[Entry, bytes | Exception] = {}

    def expect(self, entries: Iterable[Entry]) -> None:
        """These will be read in this order: some at once, since a helper reads them."""
        self._expected = list(reversed(list(entries)))
        self._ahead = {}

    def read(self, spool: Spool, entry: Entry) -> Record:
        """The record of an entry. Raises RecordError also when too much was read before."""
        if self.left_bytes <= 0:
            raise RecordError("not read, since the files of this queue are too large")
        if self._expected and self._expected[-1] == entry:
            # They are read before it is known how large they are: no more than may be, if all are.
            ahead = min(AHEAD, 1 + self.left_bytes // formats.RECORD_BYTES_MAX)
            some, self._expected[-ahead:] = self._expected[: -ahead - 1 : -1], []
            self._ahead = dict(zip(some, spools.contents(spool, some), strict=True))
        data = self._ahead.pop(entry) if entry in self._ahead else spools.contents(spool, [entry])[0]
        self.left_bytes -= READ_BYTES_MIN if isinstance(data, Exception) else max(len(data), READ_BYTES_MIN)
        if isinstance(data, Exception):
            raise data
        return formats.parse(data)

    def may_follow(self) -> bool:
        """Whether one more may be looked for that has moved on, in a fresh listing."""
        self.left_follows -= 1
        return self.left_follows >= 0
