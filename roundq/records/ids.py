"""Numbers for jobs: never given twice, whichever nodes ask at once.

One token, `ids/NEXT.CLAIMANT`: the next number to be given. Whoever renames it to a
higher one owns the numbers between. The source is one name, so one rename wins,
wherever it came from and however stale its listing was; the token never vanishes.
It knows a spool only by its path, and nothing of jobs: `used` tells the highest
number in use, when that is needed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Callable

from roundq.words.errors import SpoolError
from roundq.words.names import is_foreign
from roundq.world import files

DIRECTORY = "ids"
#: How often another process may be faster before it is called a mistake.
TRIES = 10_000
#: How often an error of the network is taken for a lost reply, after which somebody else went on.
ERROR_TRIES = 10
#: Of a directory that is being founded. It names no process: whoever prepares a spool need not know his node.
_FOUNDING = re.compile(rf"{DIRECTORY}\.[0-9a-f]{{16}}")


def of_node(node: str) -> str:
    """The directory of a node that counts for itself, where one rename may have two winners."""
    return f"{DIRECTORY}/of.{node}"


def found(spool_path: str, used: Callable[[], int], directory: str = DIRECTORY) -> None:
    """Founds, or founds anew, the directory of the token, above every number in use."""
    first = used() + 1
    temporary = f"{spool_path}/tmp/{DIRECTORY}.{os.urandom(8).hex()}"
    target = f"{spool_path}/{directory}"
    try:
        os.mkdir(temporary, 0o755)
        os.chmod(temporary, 0o755)
        os.close(
            os.open(
                f"{temporary}/{first}.founded", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644
            )
        )
        try:
            # Replaces an absent or an empty directory and fails on any other: one founder wins.
            os.rename(temporary, target)
        except OSError as error:
            # That something else has the name is said by whoever checks the spool.
            with contextlib.suppress(NotADirectoryError):
                # This client has just asked for a name that another founder gave a moment later: only a
                # listing of what is above shows it.
                is_there = files.is_listed(target) and bool(files.listing(target))
                # That it is not empty the server itself has said, whatever this client still remembers.
                if not is_there and error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
    finally:
        # Of what has its name there is nothing left here.
        _remove(temporary)
    files.sync_directory(os.path.dirname(target))


def _remove(founded: str) -> None:
    with contextlib.suppress(OSError):
        for name, _ in files.listing(founded):
            files.remove(f"{founded}/{name}")
        os.rmdir(founded)


def sweep(spool_path: str, before_s: float) -> None:
    """Removes what founders left in tmp/ that died before `before_s` (epoch, the server's clock)."""
    for name, _ in files.listing(f"{spool_path}/tmp"):
        path = f"{spool_path}/tmp/{name}"
        if _FOUNDING.fullmatch(name):
            with contextlib.suppress(OSError):
                if os.lstat(path).st_mtime < before_s:
                    _remove(path)


def take(
    spool_path: str, count: int, claimant: str, used: Callable[[], int], directory: str = DIRECTORY
) -> int:
    """The first of `count` consecutive numbers that nobody else has or will get.

    `directory` is where the token lies, below the spool: that of all nodes, or of one (`of_node`).
    """
    below, directory = directory, f"{spool_path}/{directory}"
    errors = 0
    for _ in range(TRIES):
        tokens = sorted(
            (int(name.partition(".")[0]), name)
            for name, _ in files.listing(directory)
            if name.partition(".")[0].isdecimal() and not is_foreign(name)
        )
        if not tokens:
            found(spool_path, used, below)
            continue
        first, name = tokens[-1]
        mine = f"{first + count}.{claimant}-{os.urandom(6).hex()}"
        try:
            os.rename(f"{directory}/{name}", f"{directory}/{mine}")
        except OSError as error:
            # The reply may have been lost: my name there proves that I have it. If it is there no
            # more, somebody may have gone on from it; then some numbers are simply never used.
            if not files.is_listed(f"{directory}/{mine}"):
                errors += error.errno != errno.ENOENT
                if error.errno not in (errno.ENOENT, errno.ESTALE, errno.EIO) or errors > ERROR_TRIES:
                    raise
                continue
        # Before any job has the number: after a crash the token must not stand below a job that is safe.
        files.sync_directory(directory)
        return first
    raise SpoolError(f"cannot get a job id: {directory} is too busy")
