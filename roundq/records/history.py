"""The history of a spool: what became of ended jobs whose records were folded into journals.

roundqueue(7), "History". Each daemon writes the journal of its node, `history/NODE.N.jsonl`, in volumes; a
closed volume never changes, and its lines are sorted. Whoever looks for a job looks among the records first:
what he does not find there is here, or nowhere. What moves from there to here is `history/ID@NODE.STATE`.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from roundq.records import spool as spools
from roundq.records import volumes
from roundq.records.spool import HISTORY, SUFFIX, Entry, Spool
from roundq.words import journal
from roundq.words import record_format as formats
from roundq.words.errors import RecordError
from roundq.words.job import Record
from roundq.words.journal import Begin, Header
from roundq.words.names import is_foreign
from roundq.words.states import ENDED_STATES
from roundq.world import files

ENDING = ".jsonl"
#: A volume is closed when it is larger than this: sorting it is not felt.
VOLUME_BYTES = 4 << 20
#: What counts at least, of what may be read of somebody else: of a volume, a record that moves, and a line.
VOLUME_BYTES_MIN, MOVING_BYTES_MIN, LINE_BYTES_MIN = 64 << 10, 16 << 10, 1 << 8
#: Names in a directory of somebody else that are looked at.
NAMES_OF_OTHERS_MOST = 50_000
#: So often is looked for jobs that arrived in a volume meanwhile.
_LOOKS = 3


class Volume(NamedTuple):
    """One file of a node's journal."""

    node: str
    number: int
    file: str


class Moving(NamedTuple):
    """A record on its way into the journal of a node: of which job, and in which state that ended."""

    id: str
    node: str
    state: str
    file: str


class Past(NamedTuple):
    """A job as the history has it. Without `record` it was unreadable, and `problem` says why.

    `path` is the file in which it stands.
    """

    id: str
    state: str
    ended_ns: int
    record: Record | None
    problem: str | None
    path: str


class Look(NamedTuple):
    """What there is in a history: volumes, those of a node newest first, and records that just move there."""

    volumes: list[Volume]
    moving: list[Moving]


# ---------------------------------------------------------------- what there is


def look(spool: Spool, most: int = files.NAMES_MAX) -> Look:
    """What lies in the history now, of so many names. Raises OSError if it cannot be listed."""
    volumes: list[Volume] = []
    moving: list[Moving] = []
    for name, _ in spool.way.listing(spool.directory(HISTORY), most=most):
        if not name.isprintable() or is_foreign(name):
            continue
        stem, _, end = name.rpartition(".")
        if end in ENDED_STATES and "@" in stem:
            job_id, _, node = stem.rpartition("@")
            if job_id and node:
                moving.append(Moving(job_id, node, end, name))
        elif name.endswith(ENDING):
            node, _, number = stem.rpartition(".")
            if node and number.isdecimal() and number.isascii() and len(number) < 10:
                volumes.append(Volume(node, int(number), name))
    volumes.sort(key=lambda volume: -volume.number)
    return Look(volumes, moving)


def path_of(spool: Spool, file: str) -> str:
    """The path of a volume, or of what moves into one."""
    return f"{spool.directory(HISTORY)}/{file}"


# ---------------------------------------------------------------- looking for jobs


def find(spool: Spool, ids: Iterable[str]) -> dict[str, Past]:
    """What the history knows of jobs of mine, by id. Looked for among the records first, by the caller.

    Costs about the same for a job of last year and of last week. Raises OSError if it cannot be read.
    """
    found: dict[str, Past] = {}
    if wanted := set(ids):
        for past in _found(spool, wanted, of_tasks=False):
            _keep(found, past)
    return found


def tasks_of(spool: Spool, *arrays: str) -> list[Past]:
    """What the history knows of the tasks of arrays of mine, in order. Raises OSError as `find`."""
    found: dict[str, Past] = {}
    for past in _found(spool, set(arrays), of_tasks=True):
        _keep(found, past)
    return sorted(found.values(), key=lambda past: journal.key(past.id))


def state_of(spool: Spool, job_id: str) -> str | None:
    """In which state a job of mine ended that has no record any more; None if the history knows none."""
    past = find(spool, [job_id]).get(job_id)
    return None if past is None else past.state


def _keep(found: dict[str, Past], past: Past) -> None:
    """A crash may have had a line written twice."""
    other = found.get(past.id)
    if other is None or _attempt(past) > _attempt(other):
        found[past.id] = past


def _attempt(past: Past) -> int:
    return 0 if past.record is None else past.record.attempt


def _found(spool: Spool, wanted: set[str], *, of_tasks: bool) -> Iterator[Past]:
    for _ in range(_LOOKS):
        there = look(spool)
        has_moved = False
        # Before the journals: what is not here any more is in one of them by now.
        for moving in there.moving:
            if (moving.id.rpartition("_")[0] if of_tasks else moving.id) in wanted:
                past = read_moving(spool, moving)
                if past is not None:
                    yield past
                has_moved |= past is None
        for volume in there.volumes:
            path = path_of(spool, volume.file)
            for text in volumes.lines_of(path, spool.uid, wanted, of_tasks):
                with contextlib.suppress(RecordError):
                    yield _past(text, path)
        if not has_moved:
            return
        # That volume may be a new one, or another node took it over.


def _past(text: bytes, path: str) -> Past:
    told, record, problem = journal.parse(text)
    return Past(told.id, told.state, told.ended_ns, record, problem, path)


def read_moving(spool: Spool, moving: Moving) -> Past | None:
    """What a record on its way says; None if it has arrived. Raises OSError if it cannot be read now."""
    path = path_of(spool, moving.file)
    try:
        record = formats.parse(spool.way.read(path, most=formats.RECORD_BYTES_MAX, owner=spool.uid))
    except FileNotFoundError:
        return None
    except RecordError as error:
        return Past(moving.id, moving.state, _written_ns(spool, path), None, str(error), path)
    ended_ns = record.completed_ns or record.started_ns or record.job.submitted_ns
    return Past(moving.id, moving.state, ended_ns, record, None, path)


def _written_ns(spool: Spool, path: str) -> int:
    try:
        # Mine need not be opened for that.
        return os.lstat(path).st_mtime_ns if spool.way.reader is None else spool.way.signature(path)[1]
    except OSError:
        return 0


# ---------------------------------------------------------------- all of it


def since(
    spool: Spool,
    since_ns: int = 0,
    until_ns: int | None = None,
    *,
    may: Callable[[str, str], bool] = lambda *_: True,
    needle: bytes = b"",
    budget: int | None = None,
) -> Iterator[Past]:
    """The jobs that ended in this time, each once, in no order. A volume of another time is not read.

    What is not wanted need not be parsed: jobs are told of whose id and state `may` be, and whose lines have
    `needle` in them. Of somebody else's spool so many bytes are read as is its `budget`. Raises OSError if it
    cannot be read, or, after the rest, where there is more than that.
    """
    there = look(spool) if budget is None else look(spool, NAMES_OF_OTHERS_MOST)
    left = _Left(spool, budget)
    seen: set[str] = set()
    for moving in there.moving:
        if not may(moving.id, moving.state):
            continue
        left.check()
        past = read_moving(spool, moving)
        left.take(MOVING_BYTES_MIN)
        if past is not None and since_ns <= past.ended_ns and (until_ns is None or past.ended_ns < until_ns):
            seen.add(past.id)
            yield past
    for volume in there.volumes:
        path = path_of(spool, volume.file)
        left.check()
        texts = _texts(spool, path, since_ns, until_ns)
        left.take(max(VOLUME_BYTES_MIN, sum(max(len(text), LINE_BYTES_MIN) for text in texts)))
        for text in texts:
            if needle not in text:
                continue
            told = journal.begin_of(text)
            if told is None or told.id in seen or not _is_within(told, since_ns, until_ns):
                continue
            if may(told.id, told.state):
                try:
                    past = _past(text, path)
                except RecordError:
                    # It was cut, and written again.
                    continue
                seen.add(told.id)
                yield past


class _Left:
    """How many bytes of a history may still be read; None for any number."""

    def __init__(self, spool: Spool, budget: int | None) -> None:
        self.spool, self.bytes = spool, budget

    def take(self, size: int) -> None:
        """So many were read."""
        if self.bytes is not None:
            self.bytes -= size

    def check(self) -> None:
        """Raises OSError if no more may be."""
        if self.bytes is not None and self.bytes <= 0:
            path = self.spool.directory(HISTORY)
            raise OSError(errno.EFBIG, "its history is too large: what else it tells is left out", path)


def _is_within(told: Begin, since_ns: int, until_ns: int | None) -> bool:
    return since_ns <= told.ended_ns and (until_ns is None or told.ended_ns < until_ns)


def _texts(spool: Spool, path: str, since_ns: int, until_ns: int | None) -> list[bytes]:
    if spool.way.reader is None and (since_ns or until_ns is not None):
        header = volumes.header(path)
        is_other = header is not None and header.is_sorted
        if is_other and header is not None:
            if header.until_ns < since_ns or (until_ns is not None and header.since_ns >= until_ns):
                return []
    try:
        content = spool.way.read(path, most=volumes.BYTES_MAX, owner=spool.uid)
    except (FileNotFoundError, RecordError):
        return []
    head, _, rest = content.partition(b"\n")
    if journal.header_of(head) is None:
        return []
    return [text for text in rest.splitlines(keepends=True) if text.endswith(b"}\n")]


def highest_number(spool: Spool) -> int:
    """The highest number that is, or begins, an id in the history. Raises OSError if it cannot be read."""
    there = look(spool)
    found = [
        int(stem) for moving in there.moving if (stem := _stem(moving.id)).isdecimal() and len(stem) < 19
    ]
    for volume in there.volumes:
        path = path_of(spool, volume.file)
        header = volumes.header(path)
        if header is not None and header.is_sorted:
            found.append(header.number)
        else:
            with contextlib.suppress(FileNotFoundError, RecordError):
                found.append(
                    journal.highest_number(files.read(path, most=volumes.BYTES_MAX, owner=spool.uid))
                )
    return max(found, default=0)


def _stem(job_id: str) -> str:
    return job_id.partition("_")[0].partition(".")[0]


# ---------------------------------------------------------------- folding


def take(spool: Spool, entry: Entry, node: str) -> Moving | None:
    """fold, by NODE's daemon: an ended record begins to move into its journal. None: another got it."""
    file = f"{entry.id}@{node}.{entry.state}"
    if not files.move(spools.path_of(spool, entry), path_of(spool, file)):
        return None
    return Moving(entry.id, node, entry.state, file)


def take_over(spool: Spool, moving: Moving, node: str) -> Moving | None:
    """The same of what another node's daemon began to move, and never ended."""
    file = f"{moving.id}@{node}.{moving.state}"
    if not files.move(path_of(spool, moving.file), path_of(spool, file)):
        return None
    return Moving(moving.id, node, moving.state, file)


class Journal:
    """The journal of one node, for its daemon, which alone writes it."""

    def __init__(self, spool: Spool, node: str) -> None:
        self.spool, self.node = spool, node
        self._number: int | None = None

    def fold(self, moving: Iterable[Moving], now_s: float, year_s: float) -> int:
        """Writes what moves into the journal, and removes it; how many.

        Durable before anything is removed. What cannot be read now stays where it is. `now_s` is the time of
        the node; a volume is closed when it is full, or was begun more than `year_s` ago. Raises OSError,
        with nothing removed.
        """
        lines: list[bytes] = []
        written: list[Moving] = []
        for one in moving:
            with contextlib.suppress(OSError):
                past = read_moving(self.spool, one)
                if past is not None:
                    lines.append(_line_of(past))
                    written.append(one)
        if not lines:
            return 0
        size, begun_s = self._append(lines, now_s)
        for one in written:
            with contextlib.suppress(OSError):
                files.remove(path_of(self.spool, one.file))
        if size > VOLUME_BYTES or now_s - begun_s > year_s:
            self.close()
        return len(written)

    def _append(self, lines: list[bytes], now_s: float) -> tuple[int, float]:
        """Adds lines durably; how large the volume is then, and when it was begun."""
        path = self._current()
        # What is written is closed some day only if it is the last one.
        header = None if path is None else volumes.header(path, is_sure=True)
        if path is None or header is None or header.is_sorted:
            return self._begin(lines, now_s), now_s
        return files.append(path, b"".join(lines)), header.begun_s

    def _path(self, number: int) -> str:
        return path_of(self.spool, f"{self.node}.{number}{ENDING}")

    def _current(self) -> str | None:
        """The volume of the highest number, if there is any."""
        if self._number is None:
            mine = [volume.number for volume in look(self.spool).volumes if volume.node == self.node]
            self._number = max(mine, default=0)
        return self._path(self._number) if self._number else None

    def _begin(self, lines: list[bytes], now_s: float) -> int:
        content = journal.header_line(Header(False, round(now_s, 3))) + b"".join(lines)
        number = self._number or 0
        is_placed = False
        while not is_placed:
            number += 1
            temporary = spools.temporary_of(self.spool, self.node, content)
            is_placed = files.place(temporary, self._path(number))
        self._number = number
        files.sync_directory(self.spool.directory(HISTORY))
        return len(content)

    def close(self) -> None:
        """Sorts the volume that is written, so that jobs are found in it soon; the next one begins with what
        comes next. Its content is replaced in one step. Raises OSError."""
        path = self._current()
        if path is None:
            return
        with contextlib.suppress(RecordError, FileNotFoundError):
            content = files.read(path, most=volumes.BYTES_MAX, owner=self.spool.uid)
            files.replace(spools.temporary_of(self.spool, self.node, journal.in_order(content)), path)

    def forget(self, before_ns: int) -> int:
        """Removes closed volumes of this node of which every job ended before that; how many."""
        gone = 0
        self._current()
        for volume in look(self.spool).volumes:
            path = path_of(self.spool, volume.file)
            header = volumes.header(path) if volume.node == self.node else None
            if header is not None and header.is_sorted and header.until_ns < before_ns:
                # The last number is how the next one is known.
                gone += volume.number != self._number and files.remove(path)
        return gone


def _line_of(past: Past) -> bytes:
    if past.record is None:
        return journal.problem_line(past.id, past.state, past.ended_ns, past.problem or "")
    return journal.line(past.id, past.state, past.record)


def as_entry(past: Past) -> Entry:
    """A job of the history as its directory listed it once; nobody finds a file there."""
    return Entry(past.id, past.state, None, f"{past.id}{SUFFIX}", 0)
