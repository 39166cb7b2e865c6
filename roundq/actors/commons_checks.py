"""The check of the commons, and how an administrator makes one.

Called by `doctor`, in its helper process; see `home_checks`.
"""

from __future__ import annotations

import contextlib
import os
import time

from roundq.actors.patient import Patient
from roundq.records import commons as records
from roundq.records import neighbours
from roundq.words.findings import Finding, ok, warning
from roundq.world import files
from roundq.world.config import ETC
from roundq.world.helpers import Helpers

MODE = 0o1777
_WHY = "in it users who cannot read each other's homes find each other, so that no node is overbooked"
_HOW = (
    f'as root, write `commons = "/some/shared/directory"` into {ETC} of all nodes, and run `rq doctor --fix`'
    " on one of them"
)


def commons(patient: Patient) -> list[Finding]:
    """Whether there is a commons, and it is as it must be; makes it so if that is asked for."""
    directory = patient.config.commons
    if not directory:
        return [_without(patient)]
    fixed = _fixed(directory) if patient.fixes and os.geteuid() == 0 else ""
    with contextlib.closing(Helpers(time.monotonic)) as helpers:
        found, trouble = records.everybody(directory, (), helpers)
        owner = None if trouble else files.status(directory).uid
    if trouble is not None:
        remedy = "see whether its file server is up"
        if not any(records.is_at(home, directory) for home in helpers.late()):
            remedy = "as root: rq doctor --fix"
            if patient.fixes:
                remedy = f"only root can mend it, where {os.path.dirname(directory)} lets him: see roundqd(8)"
        return [warning("commons", trouble, _WHY, remedy, facts={"path": directory, "users": 0})]
    facts: dict[str, str | int | float | bool | None] = {"path": directory, "users": len(found)}
    told = f"{fixed}{directory} has cards of {len(found)} {'user' if len(found) == 1 else 'users'}"
    if owner:
        why = "its owner may remove what is others' there, and so hide them"
        return [
            warning(
                "commons", f"{told}, but it is uid {owner}'s", why, f"chown root {directory}", facts=facts
            )
        ]
    return [ok("commons", told, _WHY, facts=facts)]


def _without(patient: Patient) -> Finding:
    with contextlib.closing(Helpers(time.monotonic)) as helpers:
        hidden = neighbours.hidden(patient.config.homes, helpers)
    facts = {"path": None, "users": 0}
    if not hidden and not patient.fixes:
        return ok("commons", "none, and no home is closed to you", _WHY, facts=facts)
    told = "none, so that of closed homes only what runs on this node is seen, by its processes"
    return warning("commons", told, _WHY, _HOW, facts=facts)


def _fixed(directory: str) -> str:
    """Makes the commons, or what is wrong with it right; what was done. As root."""
    done = ""
    with contextlib.suppress(FileExistsError):
        os.mkdir(directory, 0o700)
        done = "made: "
    if done or records.wrong(directory, os.stat(directory).st_mode):
        # Whoever else may write there must not have put something in its place.
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fchmod(descriptor, MODE)
        finally:
            os.close(descriptor)
        done = done or "mode 1777 was set: "
    return done
