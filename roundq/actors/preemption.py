"""How a running job of mine is asked to give way to somebody else: a request to its supervisor, once.

Called by `tenants`. Which job gives way, and to whom, is decided elsewhere; what follows from
the request is the supervisor's.
"""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING

from roundq.actors import environ
from roundq.actors.ending import way_of
from roundq.records import spool as spools
from roundq.records.spool import Spool
from roundq.words import record_format as formats
from roundq.words.job import Record
from roundq.words.states import RUNNING
from roundq.world import procs

if TYPE_CHECKING:
    from roundq.actors.tenants import Tenant

#: For how long a job that gives way goes on at most after it was asked to, whatever notice it wants.
NOTICE_MAX_S = 600.0
#: Characters of what a request says.
WHY_MAX = 150


def ask(spool: Spool, node: str, tenant: Tenant, why: str) -> str | None:
    """Leaves the request, for this very attempt; what is to be said of it, None if it was not asked now.

    Never of a job that may not be run again, and once of an attempt. It is durable when this returns. Raises
    OSError or SpoolError if it cannot be left; then nothing was asked.
    """
    process = tenant.record.process
    if process is None or tenant.entry.state != RUNNING or not tenant.record.job.restartable:
        return None
    if tenant.is_preempting:
        return None
    line = formats.printable(" ".join(why.split()))[:WHY_MAX]
    spools.request(spool, tenant.entry.id, "preempt", node, f"{environ.mark(process)}\n{line}")
    tenant.gives_way = line
    # It is a shortcut: the supervisor finds the request all the same.
    with contextlib.suppress(OSError):
        procs.send(process, signal.SIGUSR1)
    return f"gives way {way_of(line)}"


def asked(spool: Spool, job_id: str, record: Record) -> str | None:
    """Why this very attempt was asked to give way, by whichever daemon; None if it was not."""
    if record.process is None or not record.job.restartable:
        return None
    meant, why = told(spool, job_id)
    return why if meant == environ.mark(record.process) else None


def told(spool: Spool, job_id: str) -> tuple[str, str]:
    """The mark that a request holds, and why; both empty if there is none."""
    meant, _, why = (spools.asked_of(spool, job_id, "preempt") or "").partition("\n")
    return meant, why
