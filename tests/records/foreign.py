"""Files that are not ours, in every directory of a spool: none may be taken for one of ours, or vanish."""

from __future__ import annotations

import os
from pathlib import Path

from roundq.records.spool import Spool
from roundq.words import record_format as formats
from roundq.words.job import Job, Record
from roundq.words.states import OWNED_STATES, STATES

#: What stands behind or around the name of a record, a request or another file of ours.
LEFTOVERS = (
    ".nfs000000000a1b2c3d00000001",
    "Thumbs.db",
    ".DS_Store",
    "{name}~",
    "#{name}#",
    ".{name}.swp",
    "{name}.bak",
    "{name}.orig",
    "{stem} (Ann's conflicted copy 2026-01-01){ending}",
    "{stem} (conflicted copy){ending}",
    "{stem}.sync-conflict-20260101{ending}",
    "{stem}.sync-conflict-20260101-120000-ABCDEFG{ending}",
    "{stem}_conflict-20260101-120000{ending}",
    "{stem}.Conflict{ending}",
)
#: A record that could be run and be swept, if anybody took it for one.
DATA = formats.dump(Record(Job(("true",), submitted_ns=1)))


def leave(spool: Spool, node: str, pid: int) -> dict[str, bytes]:
    """Leaves them everywhere, months old; what is where.

    `pid` is of a dead process of `node`, in whose name a temporary file might be removed.
    """
    named: list[tuple[str, str, str]] = []
    for state in STATES:
        stem = f"17@{node}" if state in OWNED_STATES else "17"
        named.append((state, stem, ".job"))
    named += [
        ("requests", "17", ".cancel"),
        ("requests", "17", ".restart"),
        ("requests", "0123456789abcdef", ".ping"),
        ("env", "a" * 64, ".json"),
        ("ids", "900", f".{node}-0123456789ab"),
        ("tmp", f"{node}.{pid}.0.0123abcd", ""),
    ]
    left = {}
    for directory, stem, ending in named:
        for leftover in LEFTOVERS:
            path = Path(
                spool.directory(directory), leftover.format(name=stem + ending, stem=stem, ending=ending)
            )
            path.write_bytes(DATA)
            os.utime(path, (1e9, 1e9))
            left[str(path)] = DATA
    return left


def missing(left: dict[str, bytes]) -> list[str]:
    """The paths that are not there any more, or have changed: to be none."""
    return [path for path, data in left.items() if not Path(path).exists() or Path(path).read_bytes() != data]
