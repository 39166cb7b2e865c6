"""The environments of submitters: each stored once, under its digest, for their owner's eyes only.

A job names the environment it was submitted with; a hundred jobs of one shell share
one file. They hold secrets: `env/` is 0700 and what is in it 0600.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterable

from roundq.records import spool as spools
from roundq.records.spool import Spool
from roundq.words.errors import RecordError, SpoolError
from roundq.world import files

#: More than any command can be given, execve(2).
BYTES_MAX = 8 << 20
_NAME = re.compile(r"([0-9a-f]{64})\.json")


def _path(spool: Spool, digest: str) -> str:
    return f"{spool.directory('env')}/{digest}.json"


def store(spool: Spool, environ: dict[str, str], node: str) -> str:
    """Keeps a submitter's environment once; its digest, which names it."""
    text = json.dumps(environ, sort_keys=True, separators=(",", ":")).encode()
    if len(text) > BYTES_MAX:
        raise SpoolError(
            f"the environment is larger than {BYTES_MAX} bytes: no command could be given it",
            "see which variable it is: env | awk '{ print length, substr($0, 1, 40) }' | sort -n | tail",
        )
    digest = hashlib.sha256(text).hexdigest()
    path = _path(spool, digest)
    with files.explained(f"keep the environment in {spool.directory('env')}"):
        if files.is_listed(path) and _is_whole(spool, digest):
            # Renewed, so that no sweep takes it before the job names it.
            with contextlib.suppress(FileNotFoundError):
                os.utime(path)
                return digest
        temporary = spools.temporary_of(spool, node, text, mode=0o600)
        files.replace(temporary, path)
        files.sync_directory(spool.directory("env"))
    return digest


def renew(spool: Spool, digest: str) -> bool:
    """Keeps an environment from being swept before a job names it again; whether it is there.

    Raises OSError.
    """
    return files.touch(_path(spool, digest))


def _is_whole(spool: Spool, digest: str) -> bool:
    try:
        load(spool, digest)
    except RecordError:
        return False
    return True


def load(spool: Spool, digest: str) -> dict[str, str]:
    """The environment of that digest. Raises RecordError if it is not there as it was stored."""
    try:
        text = files.read(_path(spool, digest), most=BYTES_MAX, owner=spool.uid)
    except OSError as error:
        raise RecordError(f"environment {digest[:12]} cannot be read: {error.strerror}") from None
    if hashlib.sha256(text).hexdigest() != digest:
        raise RecordError(f"environment {digest[:12]} is damaged")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or not all(isinstance(content, str) for content in value.values()):
        raise RecordError(f"environment {digest[:12]} is not one: names and texts are expected")
    return value


def stored(spool: Spool) -> set[str]:
    """The digests of all that is stored, as names tell."""
    found = (_NAME.fullmatch(name) for name, _ in files.listing(spool.directory("env")))
    return {name[1] for name in found if name}


def sweep(spool: Spool, spare: Iterable[str], before_s: float) -> int:
    """Removes those environments of `spare` that were not used since `before_s` (epoch); how many.

    `before_s` must be a day ago or more: a submission may be about to name one.
    """
    swept = 0
    for digest in spare:
        path = _path(spool, digest)
        with contextlib.suppress(OSError):
            # Opened, not only asked: that another node renewed it a moment ago is not in the client's cache.
            if files.signature(path)[1] / 1e9 < before_s:
                swept += files.remove(path)
    return swept
