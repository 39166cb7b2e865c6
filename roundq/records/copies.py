"""Copies of my jobs: other records of the same id, where a mount lets two nodes win one rename.

roundqueue(7), Settle. It lists and reads; which copy is right is in `words.copies`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from roundq.records import spool as spools
from roundq.records.spool import Entry, Spool
from roundq.words.copies import Copy
from roundq.words.errors import RecordError
from roundq.words.job import Record
from roundq.words.states import CLAIMED, ENDED_STATES, OWNED_STATES, PENDING_STATES
from roundq.world import files


def others(spool: Spool, mine: Mapping[str, Record], node: str) -> dict[str, list[Copy | Entry]]:
    """By id, what else there is of the jobs that `node` has claimed, `mine`, listed afresh.

    A record that cannot be read yet is an entry still. Not a copy is one that has another command or was
    submitted at another time, and one that ended in an earlier attempt. Raises OSError for a directory that
    cannot be listed.
    """
    found: dict[str, list[Copy | Entry]] = {}
    for entry in spools.scan(spool):
        is_mine = entry.node == node and entry.state in OWNED_STATES
        if entry.id in mine and not is_mine:
            found.setdefault(entry.id, []).extend(_copy(spool, entry, mine[entry.id]))
    return found


def _copy(spool: Spool, entry: Entry, mine: Record) -> Iterable[Copy | Entry]:
    try:
        record = spools.read(spool, entry)
    except (OSError, RecordError):
        # Also if it is not there: what lists it may be late, or what opens it.
        return (entry,)
    if entry.state in (*PENDING_STATES, CLAIMED):
        # Whoever claims it sees it so: one that a user moved back has the end of its last attempt in it.
        record = record.unbegun()
    if (record.job.command, record.job.submitted_ns) != (mine.job.command, mine.job.submitted_ns):
        return ()
    if entry.state in ENDED_STATES and record.attempt < mine.attempt:
        return ()
    return (Copy(entry.state, entry.node, record.attempt),)


def drop(spool: Spool, claim: Entry) -> None:
    """Removes the name of one's own claim, since another copy of the job goes before it; none is put back."""
    files.remove(spools.path_of(spool, claim))
