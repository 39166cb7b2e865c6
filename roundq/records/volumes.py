"""One file of a journal: the lines of some jobs in it, found without reading all of one that is sorted.

For `history`, which knows which files there are. Reads only; files are one's own.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator

from roundq.words import journal
from roundq.words.journal import Header
from roundq.world import files

#: No volume is larger: what comes at once is bounded, too.
BYTES_MAX = 64 << 20
#: Of a sorted volume, what is read at once when the place of a job is known that well.
SPAN_BYTES = 64 << 10
BLOCK_BYTES = 8 << 10
#: A header is one short line.
_HEADER_BYTES_MAX = 4096
#: From so many ids on, all lines of a volume are looked at instead of looking for each.
_FEW = 8
_STALE_TRIES = 3
#: It is gone, a link, a socket, a directory, a FIFO.
_NO_FILE = frozenset({errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.ESPIPE})


def header(path: str, *, is_sure: bool = False) -> Header | None:
    """What its first line says; None if there is none that is known, or it cannot be read.

    With `is_sure` the latter raises OSError, unless it is gone, or no file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            head = os.pread(descriptor, _HEADER_BYTES_MAX, 0)
        finally:
            os.close(descriptor)
    except OSError as error:
        if is_sure and error.errno not in _NO_FILE:
            raise
        return None
    return journal.header_of(head[: head.find(b"\n") + 1])


def lines_of(path: str, owner: int, wanted: set[str], of_tasks: bool) -> list[bytes]:
    """The lines of these jobs in a volume: few, and soon, if it is sorted. Raises OSError."""
    tries = _STALE_TRIES
    while True:
        try:
            return _lines_once(path, owner, wanted, of_tasks)
        except FileNotFoundError:
            # It was as old as a user keeps any.
            return []
        except OSError as error:
            if error.errno == errno.ELOOP:
                # No daemon makes a link.
                return []
            # Its daemon has just closed it.
            tries -= 1
            if error.errno != errno.ESTALE or not tries:
                raise


def _lines_once(path: str, owner: int, wanted: set[str], of_tasks: bool) -> list[bytes]:
    descriptor = files.open_fresh(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != owner:
            return []
        head = os.pread(descriptor, _HEADER_BYTES_MAX, 0)
        place = head.find(b"\n") + 1
        told = journal.header_of(head[:place])
        if told is None:
            return []
        if not told.is_sorted:
            # With the end of the line before them.
            return _of_all(_all(descriptor, place - 1, status.st_size), wanted, of_tasks)
        first, last = journal.key(told.first)[:2], journal.key(told.last)[:2]
        within = {job_id for job_id in wanted if first <= journal.key(job_id)[:2] <= last}
        if len(within) > _FEW:
            return _of_all(_all(descriptor, place - 1, status.st_size), within, of_tasks)
        found: list[bytes] = []
        for job_id in within:
            found += _bisected(descriptor, place, status.st_size, job_id, of_tasks)
        return found
    finally:
        os.close(descriptor)


def _all(descriptor: int, begin: int, end: int) -> bytes:
    parts = []
    end = min(end, BYTES_MAX)
    while begin < end and (part := os.pread(descriptor, end - begin, begin)):
        parts.append(part)
        begin += len(part)
    return b"".join(parts)


def _of_all(content: bytes, wanted: set[str], of_tasks: bool) -> list[bytes]:
    if len(wanted) <= _FEW:
        patterns = [journal.pattern(job_id, of_tasks=of_tasks) for job_id in wanted]
        return [text for begin in patterns for text in _beginning(content, begin)]
    ids = {journal.written(job_id) for job_id in wanted}
    found = []
    for text in content.splitlines(keepends=True):
        own = journal.id_of(text)
        if (own.rpartition(b"_")[0] if of_tasks else own) in ids:
            found.append(text)
    return found


def _beginning(content: bytes, begin: bytes) -> list[bytes]:
    """The whole lines that begin so."""
    found = []
    at = content.find(b"\n" + begin) + 1
    while at:
        end = content.find(b"\n", at) + 1
        if not end:
            break
        found.append(content[at:end])
        at = content.find(b"\n" + begin, end - 1) + 1
    return found


def _bisected(descriptor: int, begin: int, size: int, job_id: str, of_tasks: bool) -> list[bytes]:
    """The lines of a job in a sorted volume, which are between `begin` and `size`."""
    wanted = (*journal.key(job_id)[:2], -1, "") if of_tasks else journal.key(job_id)
    least, most = begin, size
    # Of all places, the first at or after which no line before the wanted one begins.
    while most - least > SPAN_BYTES:
        middle = (least + most) // 2
        place, text = _line_from(descriptor, middle, size)
        told = None if text is None else journal.begin_of(text)
        if text is not None and told is not None and journal.key(told.id) < wanted:
            least = place + 1
        else:
            most = middle
    found: list[bytes] = []
    for text in _lines_on(
        descriptor, least if least == begin else _line_from(descriptor, least, size)[0], size
    ):
        told = journal.begin_of(text)
        if told is None or journal.key(told.id)[:2] > wanted[:2]:
            break
        if told.id.startswith(f"{job_id}_") if of_tasks else told.id == job_id:
            found.append(text)
        if not of_tasks and journal.key(told.id) >= wanted:
            break
    return found


def _lines_on(descriptor: int, place: int, size: int) -> Iterator[bytes]:
    """The whole lines from `place` on, where one begins."""
    rest = b""
    while place < size and len(rest) <= journal.LINE_BYTES_MAX:
        block = os.pread(descriptor, SPAN_BYTES, place)
        if not block:
            return
        place += len(block)
        *lines, rest = (rest + block).split(b"\n")
        yield from (text + b"\n" for text in lines)


def _line_from(descriptor: int, place: int, size: int) -> tuple[int, bytes | None]:
    """The first line that begins at `place` or after it, and where."""
    at = place - 1
    while at < size:
        block = os.pread(descriptor, BLOCK_BYTES, at)
        if not block:
            break
        end = block.find(b"\n")
        if end >= 0:
            begin = at + end + 1
            return begin, _line_at(descriptor, begin, size)
        at += len(block)
    return size, None


def _line_at(descriptor: int, place: int, size: int) -> bytes | None:
    """The whole line that begins there."""
    text = b""
    while place + len(text) < size and len(text) <= journal.LINE_BYTES_MAX:
        block = os.pread(descriptor, BLOCK_BYTES, place + len(text))
        if not block:
            return None
        end = block.find(b"\n")
        if end >= 0:
            return text + block[: end + 1]
        text += block
    return None
