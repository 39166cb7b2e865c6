"""Control groups, cgroups(7): those that we are in, and one of its own for each job where that is delegated.

Called by `node` for limits, by a supervisor for its job, and by the daemon for what dead supervisors left.
Where the daemon's own group of version 2 was delegated to its user, a job gets a group below it. Nothing
leaves it by a fork, an exec, a new session or a new parent, and the kernel kills all that is in it at once.

No process of ours is ever moved but a command at its birth, and no other group is touched. Controllers are
switched on only below a group that holds no process itself ("no internal processes"). Were the service
manager's group one with controllers, it could not put a restarted daemon into it.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What systemd sets on a group with Delegate=yes; the first is seen by everybody, the second by root only.
_DELEGATED = ("user.delegate", "trusted.delegate")
#: A daemon in a group of this name is a leaf of the group that was delegated: DelegateSubgroup=daemon.
SUBGROUP = "daemon"
_JOB = re.compile("roundq-[0-9]+-[0-9]+")


@dataclass(frozen=True, slots=True)
class Group:
    """The group of one job: its directory. What has vanished, or never was, is empty."""

    path: str

    @property
    def entrance(self) -> str:
        """The file into which a process writes 0 to enter."""
        return f"{self.path}/cgroup.procs"

    def pids(self) -> list[int]:
        """Who is in it, and in the groups that the job made below it; zombies are not shown."""
        found: list[int] = []
        for directory in self._tree():
            # One may be removed while we look.
            with contextlib.suppress(OSError):
                # 0 stands for a process that our PID namespace does not show.
                found += [int(word) for word in _read(f"{directory}/cgroup.procs").split() if word != "0"]
        return found

    def is_populated(self) -> bool:
        """Whether anything lives in it or below it. False is proof; what cannot be told is True."""
        try:
            return "populated 0" not in _read(f"{self.path}/cgroup.events").splitlines()
        except FileNotFoundError:
            return False
        except OSError:
            # ENODEV is said of a group that is removed while its file is open.
            return os.path.isdir(self.path)

    def kill(self) -> None:
        """SIGKILL for everything in it, also for what forks meanwhile or belongs to another user.

        Before Linux 5.14 it is frozen first, so that nothing forks, and killed one by one: then what belongs
        to another user lives on. Returns before they are dead.
        """
        with contextlib.suppress(OSError):
            _write(f"{self.path}/cgroup.kill", "1")
            return
        # Not needed by those who only ask for limits.
        from roundq.world import procs

        with contextlib.suppress(OSError):
            _write(f"{self.path}/cgroup.freeze", "1")
        for pid in self.pids():
            # SIGKILL ends what is frozen.
            with contextlib.suppress(PermissionError):
                if (one := procs.identity(pid)) is not None:
                    procs.send(one, signal.SIGKILL)
        # It must not stay so: who entered just now would neither run nor end.
        with contextlib.suppress(OSError):
            _write(f"{self.path}/cgroup.freeze", "0")

    def freeze(self, wanted: bool) -> bool:
        """Has everything in it stand still, or go on; whether the kernel was told so. It takes its time."""
        try:
            _write(f"{self.path}/cgroup.freeze", "1" if wanted else "0")
        except OSError:
            # Before Linux 5.2 there is none.
            return False
        return True

    def is_frozen(self) -> bool:
        """Whether everything in it stands still since it was frozen."""
        return _events(f"{self.path}/cgroup.events").get("frozen") == 1

    def remove(self) -> bool:
        """Removes it and what the job made below it; False while something lives there."""
        for directory in self._tree():
            with contextlib.suppress(OSError):
                os.rmdir(directory)
        return not os.path.isdir(self.path)

    def limit_memory(self, most: int) -> bool:
        """Whether the kernel now keeps the job within so many bytes of memory, without swap.

        It ends the whole job when it wants more. False where the memory controller is not to be had.
        """
        try:
            if not os.path.exists(f"{self.path}/memory.max"):
                # Refused (EBUSY) where a process is in the group above, which is as it should be.
                _write(f"{os.path.dirname(self.path)}/cgroup.subtree_control", "+memory")
            _write(f"{self.path}/memory.oom.group", "1")
            _write(f"{self.path}/memory.max", str(most))
        except OSError:
            return False
        # Missing where the kernel accounts no swap; then none is used unnoticed either.
        with contextlib.suppress(OSError):
            _write(f"{self.path}/memory.swap.max", "0")
        return True

    def has_met_its_limit(self) -> bool:
        """Whether processes of it were killed since the group itself was at its limit of memory."""
        events = _events(f"{self.path}/memory.events")
        return bool(events.get("oom") and events.get("oom_kill"))

    def _tree(self) -> list[str]:
        """The directories, the deepest first; a job may make as many as it is allowed to."""
        return [directory for directory, _, _ in os.walk(self.path, topdown=False)]


# ---------------------------------------------------------------- a group for a job


def name_of(pid: int, start: int) -> str:
    """The name of the group of a job whose supervisor has this pid and start time."""
    return f"roundq-{pid}-{start}"


def make(name: str, root: str = "") -> Group | None:
    """A new group of this name, below the one that was delegated to us; None if there is none.

    Whoever makes it stays outside.
    """
    base = delegated(root)
    if base is None:
        return None
    group = Group(f"{base}/{name}")
    try:
        os.mkdir(group.path)
    except FileExistsError:
        pass
    except OSError:
        # The admin bounds how many, cgroup.max.descendants.
        return None
    return group


def find(name: str, root: str = "") -> list[Group]:
    """The groups of this name that may be ours, wherever on this node their maker was.

    Looks at every group of the node: some milliseconds.
    """
    found = []
    for point in _mount_points(root):
        for directory, names, _ in os.walk(root + point):
            if name in names and _is_delegated(directory):
                found.append(Group(f"{directory}/{name}"))
            # Below a job nothing is a job's.
            names[:] = [inner for inner in names if not _JOB.fullmatch(inner)]
    return found


def delegated(root: str = "") -> str | None:
    """The group below which we may make others: our own, or the one above if ours is its leaf `SUBGROUP`."""
    for own in directories(None, root):
        try:
            # The innermost; and in a container what is mounted may be another than the one we are in.
            if str(os.getpid()) not in _read(f"{own}/cgroup.procs").split():
                return None
            base = os.path.dirname(own) if os.path.basename(own) == SUBGROUP else own
            return base if _is_delegated(base) else None
        except OSError:
            return None
    return None


def delegated_above(path: str, root: str = "") -> str | None:
    """The same for another process of this user, whose group is `path` as /proc/PID/cgroup has it."""
    for point in _mount_points(root):
        own = f"{root}{point}".rstrip("/") + path.rstrip("/")
        base = os.path.dirname(own) if os.path.basename(own) == SUBGROUP else own
        if path and os.path.isdir(own) and _is_delegated(base):
            return base
    return None


def declare(root: str = "") -> None:
    """Marks our own group as delegated, where whoever started us did that and does not say so.

    The manager of a user's own services sets no such attribute (systemd 252). Never of root's.
    """
    for own in directories(None, root)[:1]:
        with contextlib.suppress(OSError):
            if os.geteuid() and str(os.getpid()) in _read(f"{own}/cgroup.procs").split():
                if os.stat(own).st_uid == os.geteuid():
                    os.setxattr(own, _DELEGATED[0], b"1")


def _is_delegated(directory: str) -> bool:
    """Whether a group was handed to this user to be divided.

    It says so itself, or it belongs to the user while the one above does not. The groups of a user manager
    all belong to the user, and only those that say so are not its own; and root owns them all.
    """
    me = os.geteuid()
    try:
        if os.stat(directory).st_uid != me:
            return False
        if not _says_so(directory) and (me == 0 or os.stat(os.path.dirname(directory)).st_uid == me):
            return False
    except OSError:
        return False
    return os.access(directory, os.W_OK) and os.access(f"{directory}/cgroup.procs", os.W_OK)


def _says_so(directory: str) -> bool:
    for name in _DELEGATED:
        with contextlib.suppress(OSError):
            if os.getxattr(directory, name) == b"1":
                return True
    return False


# ---------------------------------------------------------------- killed for want of memory


def oom_counter(group: Group | None, root: str = "") -> str | None:
    """The file in which the kernel counts whom its OOM killer ended in the group of the job, or, where it
    does not, in the innermost of ours that counts, which the job shares; None if nobody counts."""
    for directory in [*([group.path] if group else []), *directories("memory", root)]:
        # Version 2, and version 1 since Linux 4.13.
        for name in ("memory.events", "memory.oom_control"):
            if oom_kills(f"{directory}/{name}") is not None:
                return f"{directory}/{name}"
    return None


def oom_kills(counter: str) -> int | None:
    """How many it has ended so far by this file; None if it does not tell, or does no longer."""
    return _events(counter).get("oom_kill")


def _events(path: str) -> dict[str, int]:
    try:
        lines = [line.split() for line in _read(path).splitlines()]
    # ValueError: a NUL in a path that we did not understand.
    except (OSError, ValueError):
        return {}
    return {words[0]: int(words[1]) for words in lines if len(words) == 2 and words[1].isdigit()}


# ---------------------------------------------------------------- those that we are in


def directories(controller: str | None, root: str = "") -> list[str]:
    """The directories of the groups that we are in, innermost first, `root` included.

    Those of the hierarchy with this controller, and those of version 2; of None only the latter.
    """
    try:
        memberships = _read(f"{root}/proc/self/cgroup").splitlines()
        mounts = _read(f"{root}/proc/self/mountinfo").splitlines()
    except OSError:
        return []
    found: list[str] = []
    for membership in memberships:
        _, _, rest = membership.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        for mount in mounts:
            place = _mount_of(mount, controller if controllers else None)
            if place is not None:
                found += _upwards(root, *place, path)
    return list(dict.fromkeys(found))


def _mount_points(root: str) -> Iterator[str]:
    try:
        mounts = _read(f"{root}/proc/self/mountinfo").splitlines()
    except OSError:
        return
    yield from dict.fromkeys(place[1] for mount in mounts if (place := _mount_of(mount, None)))


def _upwards(root: str, mounted: str, point: str, path: str) -> list[str]:
    """From the group `path` up to the mount point, which shows the group `mounted`.

    In a container the path may lie outside of what is mounted; then only the mount point is ours.
    """
    inside = path[len(mounted.rstrip("/")) :].strip("/") if _is_within(path, mounted) else ""
    parts = inside.split("/") if inside and ".." not in inside.split("/") else []
    if not os.path.isdir(root + "/".join([point, *parts])):
        parts = []
    return [root + "/".join([point, *parts[:depth]]) for depth in range(len(parts), -1, -1)]


def _is_within(path: str, parent: str) -> bool:
    return path == parent or path.startswith(parent.rstrip("/") + "/")


def _mount_of(line: str, controller: str | None) -> tuple[str, str] | None:
    """The group that is mounted, and where, if this line of mountinfo (proc(5)) is a control group
    hierarchy with this controller, or the one of version 2 if None; else None."""
    before, _, after = line.partition(" - ")
    fields, rest = before.split(), after.split()
    if len(fields) < 5 or len(rest) < 3:
        return None
    if controller is None:
        fits = rest[0] == "cgroup2"
    else:
        fits = rest[0] == "cgroup" and controller in rest[2].split(",")
    return (_unescape(fields[3]), _unescape(fields[4])) if fits else None


def _unescape(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), path)


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
