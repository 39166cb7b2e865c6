"""What a worker of a job directory needs of the world, and how long it asks again what a mount refuses."""

from __future__ import annotations

import errno
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from roundq.records.jobdir import Disk
from roundq.words.errors import DirJobsError
from roundq.words.jobdir import DIARIES, DONE, FAILED, RUNNING, WAITING, Author
from roundq.words.quantities import visible
from roundq.world import files, procs
from roundq.world.node import Node

T = TypeVar("T")

#: Pauses between tries double, from the first up to the last.
FIRST_PAUSE_S, LAST_PAUSE_S = 0.02, 1.0


def me() -> Author:
    """This process."""
    node = Node()
    return Author(node.name(), node.machine(), procs.space(), procs.own_identity())


@dataclass(frozen=True)
class Means:
    """Files, clocks, sleep, chance and name of a worker; times are in seconds."""

    disk: Disk = files
    monotonic: Callable[[], float] = time.monotonic
    unix: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    chance: random.Random = field(default_factory=random.Random)
    author: Callable[[], Author] = me

    def firmly(self, doing: str, jobsdir: str, operation: Callable[[], T], patience_s: float) -> T:
        """What an operation returns. A mount may refuse for a moment, so it is tried again for `patience_s`;
        then DirJobsError says that one cannot do this in `jobsdir`."""
        until_s = self.monotonic() + patience_s
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                return operation()
            except OSError as error:
                if self.monotonic() >= until_s or error.errno == errno.EXDEV:
                    raise refused(doing, jobsdir, error) from error
            self.sleep(pause_s)
            pause_s = min(2 * pause_s, LAST_PAUSE_S)


def refused(doing: str, jobsdir: str, error: OSError) -> DirJobsError:
    """The error that says what the system refused."""
    hint = None
    if error.errno == errno.EXDEV:
        hint = f"{WAITING}, {RUNNING}, {DONE} and {FAILED} must be on one file system: files are never copied"
    elif isinstance(error.filename, str) and os.path.basename(os.path.dirname(error.filename)) == DIARIES:
        hint = f"{visible(error.filename)} tells which job a worker has: if that worker is dead, remove it"
    return DirJobsError(f"cannot {visible(doing)} in {visible(jobsdir)}: {error.strerror or error}", hint)
