"""A job directory in words: names of claims, who of several has a job, and what the diaries of workers tell.

roundq(3), DIRJOBS. A *diary* is the file in which one worker tells of its claims and runs, one line each, and
nobody else writes; so it shows what two renames of one file do not. Pure: the directories themselves are in
`records.jobdir`.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from itertools import combinations
from typing import Any, NamedTuple

from roundq.words.job import Identity

#: The directories of waiting, running, done and failed jobs, and that of the diaries.
WAITING, RUNNING, DONE, FAILED, DIARIES = "00_waiting", "01_running", "02_done", "99_failed", ".workers"
#: Those that a person sees.
STATES = (WAITING, RUNNING, DONE, FAILED)
#: Stands between the name of a diary and that of the worker that goes on with what was open in it.
INHERITED = "~"
_WID = re.compile("[a-zA-Z0-9]+")


def is_wid(text: str) -> bool:
    """Whether a worker may be called so: letters and digits, so that the first dot of a claim ends it."""
    return _WID.fullmatch(text) is not None


class Claim(NamedTuple):
    """A file among the running ones: which worker has which job."""

    wid: str
    name: str

    def file(self) -> str:
        """Its name."""
        return f"{self.wid}.{self.name}"


def to_claim(file: str) -> Claim | None:
    """The claim that a file stands for; None for a file that is none."""
    wid, dot, name = file.partition(".")
    return Claim(wid, name) if dot and name and is_wid(wid) else None


def first(wids: Iterable[str]) -> str:
    """Which of the workers that claim one job has it: the first in the order of characters, so w10 before
    w2."""
    return min(wids)


# ---------------------------------------------------------------- diaries


class Author(NamedTuple):
    """The process that writes a diary: its node, machine and table of processes, and which one there."""

    node: str
    machine: str
    space: str
    process: Identity


class Run(NamedTuple):
    """That a worker ran a job: `id` is its own, `knew` are the runs of that job that it took for over."""

    id: str
    wid: str
    name: str
    knew: frozenset[str]

    @property
    def diary(self) -> str:
        """The diary that tells of it."""
        return self.id.partition(":")[0]


class Diary(NamedTuple):
    """What a diary tells, of this file and id: `open` is the job that was claimed last and has not ended,
    `is_running` whether it is known to have begun; `has_left` that its worker ended in good order,
    `is_inherited` that another went on with what it left. `author` is None if it cannot be read."""

    file: str
    id: str
    wid: str
    author: Author | None
    open: str | None
    is_running: bool
    runs: tuple[Run, ...]
    has_left: bool
    is_inherited: bool

    @property
    def heir(self) -> str:
        """The id of the diary of whoever went on with what was open, empty if nobody did."""
        return self.file.partition(INHERITED)[2]

    def running(self) -> Run | None:
        """The run that has not ended."""
        return self.runs[-1] if self.is_running else None


def heading(author: Author) -> bytes:
    """The first line of a diary."""
    process = author.process
    told = {"node": author.node, "machine": author.machine, "space": author.space}
    return _line({**told, "boot": process.boot, "pid": process.pid, "start": process.start})


def claims(name: str) -> bytes:
    """The line before a claim."""
    return _line({"claims": name})


def lost(name: str) -> bytes:
    """The line behind a claim that came to nothing."""
    return _line({"lost": name})


def runs(name: str, knew: Iterable[str]) -> bytes:
    """The line before a job is handed out."""
    return _line({"runs": name, "knew": sorted(knew)})


def ended(name: str) -> bytes:
    """The line behind its end."""
    return _line({"ended": name})


def left() -> bytes:
    """The last line."""
    return _line({"left": True})


def _line(told: dict[str, Any]) -> bytes:
    return json.dumps(told, separators=(",", ":")).encode() + b"\n"


def parse(file: str, content: bytes) -> Diary | None:
    """The diary of this name and content; None if no diary is called so. What is no line of one is passed
    over: a crash may have cut it, and another user may have written it."""
    wid, dot, rest = file.partition(".")
    if not (dot and rest and is_wid(wid)):
        return None
    own_id, inherited, _ = file.partition(INHERITED)
    author: Author | None = None
    opened: str | None = None
    is_running = has_left = False
    found: list[Run] = []
    for place, line in enumerate(content.split(b"\n")[:-1]):
        try:
            told = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if not isinstance(told, dict):
            continue
        if place == 0:
            author = _author(told)
        verb, name = next(
            ((verb, told[verb]) for verb in ("claims", "lost", "runs", "ended") if verb in told), ("", "")
        )
        if not isinstance(name, str):
            continue
        if verb == "claims":
            opened, is_running = name, False
        elif verb == "runs":
            knew = told.get("knew")
            ids = (
                frozenset(one for one in knew if isinstance(one, str))
                if isinstance(knew, list)
                else frozenset()
            )
            found.append(Run(f"{own_id}:{len(found)}", wid, name, ids))
            opened, is_running = name, True
        elif verb and name == opened:
            opened, is_running = None, False
        has_left = has_left or told.get("left") is True
    return Diary(file, own_id, wid, author, opened, is_running, tuple(found), has_left, bool(inherited))


def _author(told: dict[str, Any]) -> Author | None:
    texts = [told.get(field) for field in ("node", "machine", "space", "boot")]
    numbers = [told.get(field) for field in ("pid", "start")]
    if not all(isinstance(text, str) for text in texts):
        return None
    if not all(isinstance(number, int) and 0 < number < 1 << 63 for number in numbers):
        return None
    node, machine, space, boot = map(str, texts)
    pid, start = (int(number or 0) for number in numbers)
    return Author(node, machine, space, Identity(boot, pid, start))


def double(diaries: Iterable[Diary]) -> list[tuple[Run, Run]]:
    """The pairs of runs of one job of which neither knew the other to be over when it began."""
    by_name: dict[str, list[Run]] = defaultdict(list)
    for diary in diaries:
        for run in diary.runs:
            by_name[run.name].append(run)
    return [
        (one, other)
        for several in by_name.values()
        if len(several) > 1
        for one, other in combinations(several, 2)
        if one.diary != other.diary and one.id not in other.knew and other.id not in one.knew
    ]
