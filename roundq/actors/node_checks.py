"""Checks of this node: what a logout ends, places for locks, what can be watched and seen, versions.

Called by `doctor`, in its helper process; see `home_checks`. Only `logout` and `groups` need the home.
"""

from __future__ import annotations

import os
import sys

from roundq import __version__
from roundq.actors.patient import Patient
from roundq.words.errors import RoundqError
from roundq.words.findings import Finding, ok, problem, warning
from roundq.words.job import Identity
from roundq.world import cgroup, mounts, nodelock, sessions, watch
from roundq.world.nodelock import NodeLock

#: What roundq.service and roundq@.service, see roundqd(8), are called.
_UNITS = "roundq*.service"
#: Distributions that roundq imports; the last is optional.
_PACKAGES = (
    "pydantic",
    "pydantic-core",
    "rich",
    "psutil",
    "tomli",
    "inotify-simple",
    "setproctitle",
    "systemd-python",
)
#: An inotify(7) watch for each neighbour who has a queue, and one instance for each daemon of this user.
_LIMITS = {"max_user_watches": 1024, "max_user_instances": 16}


def _daemon(patient: Patient) -> Identity | None:
    return NodeLock(patient.spool.path).holder()


def logout(patient: Patient) -> list[Finding]:
    """Whether the daemon of this node, and the jobs below it, outlive the last logout."""
    check, why = "logout", "a daemon that ends with a login takes its running jobs with it, or starts no more"
    if not sessions.is_managed(patient.root):
        return [ok(check, "no systemd manages logins here: what runs goes on", why)]
    user = _user_name(patient.spool.uid)
    lingers = sessions.lingers(user, patient.root)
    kills = sessions.kills_at_logout(patient.root)
    units = sessions.units(_UNITS, patient.home, patient.root)
    told = (
        f"{'you linger' if lingers else 'you do not linger'}; units: {', '.join(units) if units else 'none'}"
    )
    daemon = _daemon(patient)
    group = "" if daemon is None else sessions.keeper(daemon.pid, patient.root)
    facts = {
        "lingers": lingers,
        "kills_at_logout": kills,
        "units": len(units),
        "control_group": group or None,
    }
    remedy = f"loginctl enable-linger {user}"
    in_session = "/session-" in group
    in_manager = "/user@" in group
    if in_manager and not lingers:
        return [
            warning(
                check,
                f"the daemon of this node ends with your last session; {told}",
                why,
                remedy,
                facts=facts,
            )
        ]
    if in_session and kills:
        return [
            warning(
                check,
                f"the daemon of this node ends with its session (KillUserProcesses=yes); {told}",
                why,
                f"{remedy}, and run it as a unit: see roundqd(8)",
                facts=facts,
            )
        ]
    if daemon is None and kills and not lingers:
        return [
            warning(
                check,
                f"a daemon that you start ends when you log out (KillUserProcesses=yes); {told}",
                why,
                remedy,
                facts=facts,
            )
        ]
    which = (
        "no daemon of yours runs here" if daemon is None else "the daemon of this node goes on after a logout"
    )
    return [ok(check, f"{which}; {told}", why, facts=facts)]


def _user_name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def groups(patient: Patient) -> list[Finding]:
    """Whether jobs get control groups of their own."""
    check = "control groups"
    why = "with them nothing that a job starts escapes a cancel, and the kernel itself keeps its memory limit"
    remedy = "run the daemon as one of the units of roundqd(8), which have Delegate=yes"
    daemon = _daemon(patient)
    if daemon is None:
        base = cgroup.delegated(patient.root)
        if base is not None:
            return [ok(check, f"delegated to this process: {base}", why, facts={"delegated": True})]
        return [ok(check, "not told: no daemon of yours runs here", why, facts={"delegated": None})]
    base = cgroup.delegated_above(sessions.keeper(daemon.pid, patient.root), patient.root)
    if base is None:
        told = "not delegated to the daemon of this node: jobs are followed by their processes' marks instead"
        return [ok(check, f"{told}; for more, {remedy}", why, facts={"delegated": False})]
    return [ok(check, f"delegated to the daemon of this node: {base}", why, facts={"delegated": True})]


def locks(patient: Patient) -> list[Finding]:
    """Where the lock of this node's one daemon can be."""
    del patient
    usable = nodelock.usable_places()
    why = "two daemons of yours on one node would start one job each in place of one"
    facts = {"usable": len(usable), "of": len(nodelock.PLACES)}
    of = "" if len(usable) == len(nodelock.PLACES) else f" of {', '.join(nodelock.PLACES)}"
    told = f"usable for the lock of the one daemon: {', '.join(usable) or 'no place'}{of}"
    remedy = "see `ls -ld /tmp/roundq-*` and `df /tmp`: the directory must be yours alone, with room"
    if not usable:
        return [
            problem("locks", told, "without a lock no daemon runs here", remedy, RoundqError, facts=facts)
        ]
    if len(usable) < 2:
        return [warning("locks", told, f"if that place is cleaned, {why}", remedy, facts=facts)]
    return [ok("locks", told, why, facts=facts)]


def inotify(patient: Patient) -> list[Finding]:
    """Whether changes that are made on this node are seen at once."""
    why = "without it a job that is submitted here is seen at the next poll only"
    with watch.Watcher() as watcher:
        watcher.watch("/")
        blind = watcher.blind
    limits = {name: watch.limit(name, patient.root) for name in _LIMITS}
    told = ", ".join(f"{name} {value}" for name, value in limits.items() if value is not None)
    if blind is not None:
        remedy = "raise that limit with sysctl(8), or close programs"
        return [warning("inotify", f"{blind}; {told}", why, remedy, limits)]
    low = [name for name, value in limits.items() if value is not None and value < _LIMITS[name]]
    if low:
        remedy = f"sysctl fs.inotify.{low[0]}={_LIMITS[low[0]]}"
        return [warning("inotify", f"works, but limits are low: {told}", why, remedy, limits)]
    return [ok("inotify", f"works; {told}", why, limits)]


def processes(patient: Patient) -> list[Finding]:
    """Whether processes of other users can be seen."""
    why = "a daemon looks which jobs of other users live here; what is hidden from it counts as running"
    hides = mounts.hidepid(patient.root)
    if hides is not None:
        told = f"those of other users are hidden (hidepid={hides})"
        remedy = "have proc mounted without hidepid, or be in the group of its option gid"
        return [warning("processes", told, why, remedy, {"hidepid": hides})]
    return [ok("processes", "those of all users can be seen", why, {"hidepid": None})]


def versions(patient: Patient) -> list[Finding]:
    """What this is, and what it runs on."""
    del patient
    import importlib.metadata
    import platform

    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    packages = ", ".join(f"{name} {version}" for name, version in found.items())
    python, linux = platform.python_version(), os.uname().release
    told = f"roundq {__version__} with Python {python}, Linux {linux}; {packages}"
    if "systemd-python" not in found and sessions.is_managed():
        told += "; systemd-python is not there: the log goes to NODE.log"
    facts = {"python": python, "executable": sys.executable, "linux": linux}
    return [ok("versions", told, "for reports", facts={**facts, **found})]
