"""The news of a spool: files that ask for somebody to be told when a job, an array or a set has ended.

roundqueue(7), "News". `OF.news` asks; the daemon that renames it to `OF@NODE.told` tells, and nobody else.
"""

from __future__ import annotations

import hashlib

from roundq.records import spool as spools
from roundq.records.spool import NEWS, Spool
from roundq.words import news as words
from roundq.words.names import is_foreign
from roundq.words.news import News
from roundq.world import files

ENDING, TOLD = ".news", ".told"


def path_of(spool: Spool, file: str) -> str:
    """The path of a file of the news."""
    return f"{spool.directory(NEWS)}/{file}"


def ask(spool: Spool, news: News, node: str) -> None:
    """Asks for it; durable when it returns. The same asked twice of a set is asked once.

    Raises SpoolFull or SpoolError.
    """
    data = words.dump(news)
    which = ""
    if news.is_of_set:
        # Every submission to a set may ask anew, and for something else, too.
        said = "\0".join((*news.on_end, "", *news.mail)).encode(errors="surrogateescape")
        which = f".{hashlib.sha256(said).hexdigest()[:12]}"
    with files.explained(f"note in {spool.directory(NEWS)} who is to be told"):
        temporary = spools.temporary_of(spool, node, data, mode=0o600)
        files.replace(temporary, path_of(spool, f"{news.of}{which}{ENDING}"))
        files.sync_directory(spool.directory(NEWS))


def asked(spool: Spool) -> list[str]:
    """The files that ask, as listed now. Raises OSError."""
    return sorted(name for name in _names(spool) if name.endswith(ENDING))


def left(spool: Spool, node: str) -> list[str]:
    """What a daemon of this node took, and did not end to tell. Raises OSError."""
    return sorted(name for name in _names(spool) if name.endswith(f"@{node}{TOLD}"))


def _names(spool: Spool) -> list[str]:
    listed = files.listing(spool.directory(NEWS))
    return [name for name, _ in listed if name.isprintable() and not is_foreign(name)]


def read(spool: Spool, file: str) -> News:
    """What a file asks for. Raises OSError, or RecordError for what asks nothing."""
    path = path_of(spool, file)
    return words.parse(files.read(path, most=words.BYTES_MAX, owner=spool.uid, only_owner_writes=True))


def take(spool: Spool, file: str, node: str) -> str | None:
    """Makes it this node's to tell, so that it is told once at most: the file then. None: another's."""
    told = f"{file.removesuffix(ENDING)}@{node}{TOLD}"
    return told if files.move(path_of(spool, file), path_of(spool, told)) else None


def forget(spool: Spool, file: str) -> None:
    """Removes what was told."""
    files.remove(path_of(spool, file))
