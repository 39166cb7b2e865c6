"""A job directory on disk: its four directories, claims, ends, and the diaries of its workers.

roundq(3), DIRJOBS. Files are only renamed, never copied, and nothing is replaced. A job is whatever somebody
put among the waiting ones; names that begin with a dot are unfinished, and nobody's. The clock is the
caller's.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from itertools import count
from typing import Protocol

from roundq.words import jobdir as words
from roundq.words.errors import RecordError
from roundq.words.jobdir import DIARIES, DONE, RUNNING, STATES, WAITING, Author, Claim, Diary
from roundq.world import files, procs
from roundq.world.procs import Liveness

#: Larger job files are not compared: whoever could lose one keeps it.
COMPARED_BYTES_MAX = 64 << 20
#: A diary of a hundred thousand jobs has a tenth of this.
_DIARY_BYTES_MAX = 128 << 20


class Disk(Protocol):
    """What a job directory needs of a file system; `world.files` is one."""

    def names(self, directory: str, /) -> list[str]: ...
    def move(self, source: str, target: str, /) -> bool: ...
    def move_new(self, source: str, target: str, may_be_ours: Callable[[], bool] = ..., /) -> bool: ...
    def remove(self, path: str, /) -> bool: ...
    def read(self, path: str, /, *, most: int) -> bytes: ...
    def append(self, path: str, data: bytes, /, *, sync: bool) -> int: ...
    def signature(self, path: str, /) -> tuple[int, int, int]: ...
    def write_temporary(
        self, directory: str, owner: str, data: bytes, /, *, mode: int, sync: bool
    ) -> str: ...


class JobDir:
    """The job directory at a path. All methods raise OSError for what the system refuses."""

    def __init__(self, path: str, disk: Disk = files) -> None:
        self.path, self._disk = path, disk
        self._read: dict[str, tuple[bytes, Diary | None]] = {}
        #: States and names to which claims may have been moved, though the answer was an error.
        self._tried: dict[Claim, set[tuple[str, str]]] = {}

    def found(self) -> None:
        """Makes its directories, if they are not there."""
        for name in STATES:
            os.makedirs(f"{self.path}/{name}", exist_ok=True)
        diaries = f"{self.path}/{DIARIES}"
        with contextlib.suppress(FileExistsError):
            os.mkdir(diaries)
            # Whoever may take jobs may keep a diary.
            os.chmod(diaries, stat.S_IMODE(os.stat(f"{self.path}/{WAITING}").st_mode))

    # ---------------------------------------------------------------- jobs

    def waiting(self) -> list[str]:
        """The names of waiting files, listed afresh, in no order."""
        return self._disk.names(f"{self.path}/{WAITING}")

    def claims(self) -> list[Claim]:
        """The claims of all workers, listed afresh."""
        return [
            claim for file in self._disk.names(f"{self.path}/{RUNNING}") if (claim := words.to_claim(file))
        ]

    def put(self, name: str, content: bytes) -> bool:
        """Adds a waiting job; whether it did: not if one has this name."""
        directory = f"{self.path}/{WAITING}"
        temporary = self._disk.write_temporary(directory, ".new", content, mode=0o644, sync=True)
        try:
            return self._disk.move_new(temporary, f"{directory}/{name}")
        except FileExistsError:
            self._disk.remove(temporary)
            return False
        except OSError:
            with contextlib.suppress(OSError):
                try:
                    self._disk.signature(temporary)
                except FileNotFoundError:
                    # Nobody else moves it: it has its name.
                    return True
                self._disk.remove(temporary)
            raise

    def claim(self, claim: Claim, is_alone: Callable[[], bool] = lambda: True) -> bool:
        """Takes a waiting job for a worker; whether it did. `is_alone` tells whether no other worker of its
        id is known to try the same. Raises FileExistsError if there is such a claim; after another OSError
        `is_claimed` tells."""
        self._tried.pop(claim, None)
        return self._disk.move_new(f"{self.path}/{WAITING}/{claim.name}", self.running(claim), is_alone)

    def is_claimed(self, claim: Claim) -> bool:
        """Whether this claim was made, after `claim` could not tell."""
        return claim in self.claims() and claim.name not in self.waiting()

    def give_back(self, claim: Claim) -> bool:
        """Lets a claimed job wait again; whether the claim was there. Raises FileExistsError if one of its
        name waits."""
        if self._has_tried(claim, WAITING) and claim not in self.claims():
            # It waits, or another worker has it by now.
            return True
        return self._move(claim, WAITING, claim.name)

    def end(self, claim: Claim, state: str, at_s: int) -> str | None:
        """Moves a claimed job to those that are done or failed; the name that it has there, None if the claim
        is gone. One that failed is preceded by the time in Unix seconds, and so is one that is done if
        another of its name is; if that is taken, too, by the next second that is free."""
        if (tried := self._has_tried(claim, state)) and claim not in self.claims():
            for name in tried.intersection(self._disk.names(f"{self.path}/{state}")):
                return name
        for name in _names(claim.name, state, at_s):
            try:
                is_there = self._move(claim, state, name)
            except FileExistsError:
                continue
            return name if is_there else None
        raise AssertionError("there is always a next second")

    def _has_tried(self, claim: Claim, state: str) -> set[str]:
        """The names in a state that a claim may have after an error whose move happened all the same."""
        return {name for where, name in self._tried.get(claim, ()) if where == state}

    def _move(self, claim: Claim, state: str, name: str) -> bool:
        try:
            is_there = self._disk.move_new(self.running(claim), f"{self.path}/{state}/{name}")
        except FileExistsError:
            raise
        except OSError:
            self._tried.setdefault(claim, set()).add((state, name))
            raise
        self._tried.pop(claim, None)
        return is_there

    def is_same(self, one: Claim, other: Claim) -> bool | None:
        """Whether two claims have the same content; None if that cannot be told."""
        try:
            first, second = (
                self._disk.read(self.running(claim), most=COMPARED_BYTES_MAX) for claim in (one, other)
            )
        except (OSError, RecordError):
            return None
        return first == second

    def drop(self, claim: Claim) -> None:
        """Removes a claim whose job another worker has."""
        self._disk.remove(self.running(claim))

    def set_aside(self, claim: Claim, mark: str) -> str:
        """Hides a claim of which it is not known whether another worker has the same job; its path now."""
        target = f"{self.path}/{RUNNING}/.{claim.file()}.{mark}"
        self._disk.move_new(self.running(claim), target)
        return target

    def running(self, claim: Claim) -> str:
        """The path of a claim."""
        return f"{self.path}/{RUNNING}/{claim.file()}"

    # ---------------------------------------------------------------- diaries

    def begin(self, wid: str, author: Author) -> str:
        """Begins a diary; its id, which no other has."""
        path = self._disk.write_temporary(
            f"{self.path}/{DIARIES}", wid, words.heading(author), mode=0o644, sync=False
        )
        return path.rpartition("/")[2]

    def note(self, diary: str, line: bytes, *, sync: bool) -> None:
        """Adds a line to one's own diary."""
        self._disk.append(f"{self.path}/{DIARIES}/{diary}", line, sync=sync)

    def diaries(self) -> list[Diary]:
        """All diaries, listed afresh. What is no diary is left out; one that cannot be read now may tell who
        has a job, and so is an error."""
        directory = f"{self.path}/{DIARIES}"
        found = {}
        for file in self._disk.names(directory):
            try:
                content = self._disk.read(f"{directory}/{file}", most=_DIARY_BYTES_MAX)
            except (FileNotFoundError, RecordError):
                continue
            known = self._read.get(file)
            found[file] = known if known and known[0] == content else (content, words.parse(file, content))
        self._read = found
        return [diary for _, diary in found.values() if diary]

    def inherit(self, diary: str, heir: str) -> bool:
        """Takes over what a dead worker left open, for the worker of the diary `heir`; whether nobody else
        did. Its runs stay known."""
        path = f"{self.path}/{DIARIES}/{diary}"
        return self._disk.move(path, f"{path}{words.INHERITED}{heir}")

    def age_s(self, diary: str, than: str) -> float:
        """How many seconds before another diary this one was last written to, by the time of the file
        server."""
        one, other = (self._disk.signature(f"{self.path}/{DIARIES}/{name}")[1] for name in (diary, than))
        return (other - one) / 1e9

    def forget(self, diary: str) -> None:
        """Removes a diary that is of no use any more."""
        self._disk.remove(f"{self.path}/{DIARIES}/{diary}")


def _names(name: str, state: str, at_s: int) -> Iterator[str]:
    if state == DONE:
        yield name
    for second in count(at_s):
        yield f"{second}.{name}"


def is_dead(author: Author, me: Author) -> bool:
    """Whether the process that wrote a diary is certainly dead: it was of this node, and has gone with its
    boot or is not in the same table of processes. Of other nodes nothing is known."""
    if (author.node, author.machine) != (me.node, me.machine):
        return False
    if author.process.boot != me.process.boot:
        # Names of nodes are not unique in the world; machines are.
        return me.machine != ""
    if author.space != me.space or not me.space:
        return False
    return procs.liveness(author.process) is Liveness.DEAD
