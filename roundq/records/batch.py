"""A batch: jobs on their way into waiting/ together, and the way back.

What `spool.submit` consists of. Whatever ends it, even between two steps, it knows which of its jobs are in
the queue: the name of each is noted before it is given.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from roundq.records import spool as spools
from roundq.records.spool import SUFFIX, Spool
from roundq.words.errors import RecordError
from roundq.words.states import WAITING
from roundq.world import files


class Batch:
    """The records of some jobs, not yet submitted."""

    def __init__(self, spool: Spool, node: str, contents: Sequence[bytes]) -> None:
        self._spool, self._node, self._contents = spool, node, contents
        self._waiting = spool.directory(WAITING)
        self._temporaries: list[str] = []
        #: What is, or is about to be, in the files of the ids that were tried.
        self._tried: dict[str, bytes] = {}
        #: The last of them, while it is not known whether it has its name.
        self._unknown: str | None = None

    def submit(self, take_ids: Callable[[int], list[str]], on_step: Callable[[float], None]) -> list[str]:
        """Writes all, and then gives all their names; the ids, in order. Durable when it returns."""
        count = len(self._contents)
        for number, data in enumerate(self._contents, 1):
            self._temporaries.append(spools.temporary_of(self._spool, self._node, data))
            on_step(number / count / 2)
        given = take_ids(count)
        for number, data in enumerate(self._contents):
            # A foreign program may have dropped a file of that name: take another number.
            while not self._place(number, given[number]):
                self._temporaries[number] = spools.temporary_of(self._spool, self._node, data)
                given[number : number + 1] = take_ids(1)
            # With the last one all is done, and nothing may come in the way of saying so.
            if number + 1 < count:
                on_step((count + number + 1) / count / 2)
        files.sync_directory(self._waiting)
        return given

    def _place(self, number: int, job_id: str) -> bool:
        self._unknown = job_id
        self._tried[job_id] = self._contents[number]
        is_placed = files.place(self._temporaries[number], self._path(job_id))
        if not is_placed:
            del self._tried[job_id]
        self._unknown = None
        return is_placed

    def take_back(self) -> tuple[list[str], list[str]]:
        """Takes away what no node has taken; the ids of what is in the queue all the same, and may be."""
        for path in self._temporaries:
            with contextlib.suppress(OSError):
                files.remove(path)
        kept: list[str] = []
        doubtful: list[str] = []
        for job_id in self._tried:
            try:
                if job_id == self._unknown and not self._is_there(job_id):
                    continue
                if not files.remove(self._path(job_id)):
                    kept.append(job_id)
            except OSError:
                # A home that does not answer: it may be there, and it may be gone.
                doubtful.append(job_id)
        if len(kept) < len(self._tried):
            # Nor may they be back after a crash of the server.
            with contextlib.suppress(OSError):
                files.sync_directory(self._waiting)
        return kept, doubtful

    def _path(self, job_id: str) -> str:
        return f"{self._waiting}/{job_id}{SUFFIX}"

    def _is_there(self, job_id: str) -> bool:
        """Whether this job of mine has got its name; a file of that name may be a foreign program's."""
        for entry in spools.scan(self._spool):
            with contextlib.suppress(OSError, RecordError):
                # Where it is not waiting a node has taken it: nobody else takes a number that was just given.
                if entry.id == job_id and (
                    entry.state != WAITING or spools.content(self._spool, entry) == self._tried[job_id]
                ):
                    return True
        return False
