"""What of its node an attempt is given before its command runs: CPUs, GPUs, a directory for temporary files.

Called by its supervisor. What was granted and cannot be given is done without, and said: the job runs.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from roundq.actors.attempt import Terms
from roundq.records.spool import Spool
from roundq.words.allocation import cpus_text
from roundq.words.job import Record
from roundq.world import scratch
from roundq.world.scratch import Scratch


@dataclass(slots=True)
class Provision:
    """`cpus` are those to which the command is pinned, none if it is not; `gpus` the ids of its GPUs.

    `maker` is whose GPUs the node has, empty if nobody knows, None for no GPUs; `tmp` the directory for
    temporary files, None if it has none of its own. `lacks` says what could not be given, and why.
    """

    cpus: tuple[int, ...] = ()
    gpus: tuple[str, ...] = ()
    maker: str | None = None
    tmp: str | None = None
    lacks: tuple[str, ...] = ()
    _scratch: Scratch | None = field(default=None)
    _aside: str | None = field(default=None)

    def put_away(self) -> None:
        """Takes the temporary files from their path, once all processes of the attempt are dead."""
        if self._scratch is not None:
            self._aside = scratch.put_away(self._scratch)
            self._scratch = None

    def clear(self) -> None:
        """Removes what was put away. A million files take a while, and must hurry nobody."""
        if self._aside is not None:
            with contextlib.suppress(OSError):
                os.nice(19)
            scratch.remove(self._aside)


def provide(spool: Spool, record: Record, terms: Terms, environ: Mapping[str, str]) -> Provision:
    """What this attempt is given; `environ` is that of its daemon."""
    given = Provision(record.cpus, record.gpus, terms.gpu_maker)
    lacks = []
    gone = set(record.cpus) - os.sched_getaffinity(0)
    if gone:
        given.cpus = ()
        lacks.append(
            f"it is not pinned: of its CPUs {cpus_text(record.cpus)} it may not use {cpus_text(gone)}"
        )
    if record.process is not None:
        place = scratch.place_of(environ, terms.tmp, is_job="RQ_JOB_ID" in environ)
        try:
            given._scratch = scratch.make(place, spool.path, record.process)
            given.tmp = given._scratch.path
        except OSError as error:
            lacks.append(f"it has no TMPDIR of its own: {place}: {error.strerror}")
    given.lacks = tuple(lacks)
    return given
