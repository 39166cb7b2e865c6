"""Names of files in a queue that are not ours: what editors and synchronizing programs leave.

The rule stands in roundqueue(7), "Names that are not ours". Pure; `records` asks before it takes a name
for a job, a request or a number.
"""

from __future__ import annotations

import re

#: Dropbox, Nextcloud and Seafile; Syncthing; ownCloud; Resilio.
_CONFLICT = re.compile(
    r"\([^)]*conflict[^)]*\)|\.sync-conflict-|[._]conflict-[0-9]|\.conflict(?=\.|$)", re.IGNORECASE
)
#: Backups of editors and of patch(1).
_BACKUP = re.compile(r"~$|^#.*#$|\.(?:bak|orig|rej|sw[a-p])$", re.IGNORECASE | re.DOTALL)


def is_conflict_copy(stem: str) -> bool:
    """Whether a program that synchronizes directories marked this stem as the other version of a file."""
    # Ten thousand names are asked for at once, and none is one.
    return "conflict" in stem.lower() and _CONFLICT.search(stem) is not None


def is_foreign(name: str) -> bool:
    """Whether a whole name is that of a conflict copy or of an editor's backup."""
    return _BACKUP.search(name) is not None or is_conflict_copy(name)
