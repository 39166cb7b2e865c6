"""Copies of my jobs: other records of the same id, where a mount lets two nodes win one rename.

roundqueue(7), Settle. It lists and reads; which copy is right is in `words.copies`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from roundq.records import changes
from roundq.records import spool as spools
from roundq.records.spool import Entry, Spool
from roundq.words.copies import Copy
from roundq.words.errors import RecordError
from roundq.words.job import Record
from roundq.words.seals import ON_HOLD
from roundq.words.states import CLAIMED, ENDED_STATES, HELD, OWNED_STATES, PENDING_STATES
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


def supersede(spool: Spool, claim: Entry, mine: Record, node: str) -> bool:
    """Removes a copy that is on hold beside one's own settled claim, which goes before it; whether it did.

    Only before the job is born. If the process dies within, what was sealed is put back, and the next daemon
    settles the claim anew. Raises OSError.
    """
    file = f"{claim.id}{ON_HOLD}{spools.SUFFIX}"
    entry = spools.entry_of(HELD, files.Name(file, 0))
    if entry is None or not os.path.lexists(spools.path_of(spool, entry)):
        return False
    sealed = changes.change(spool, entry, node)
    if sealed is None:
        return False
    found = list(_copy(spool, sealed, mine))
    if not found or not all(isinstance(one, Copy) and one.attempt <= mine.attempt for one in found):
        changes.unseal(spool, sealed)
        return False
    files.remove(spools.path_of(spool, sealed))
    return True


def drop(spool: Spool, claim: Entry) -> None:
    """Removes the name of one's own claim, since another copy of the job goes before it; none is put back."""
    files.remove(spools.path_of(spool, claim))
