"""Which file system a path is on: its type, source and options, as this node has mounted it.

From /proc/self/mountinfo, proc(5), which is read without asking any file system: it answers while a file
server does not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

#: A node has some dozens; containers and automounters may make thousands.
_BYTES_MAX = 8 << 20


@dataclass(frozen=True, slots=True)
class Mount:
    """One mounted file system; its options are those of the mount and its own: `soft`, `acdirmax=60`."""

    point: str
    kind: str
    source: str
    options: tuple[str, ...]

    def option(self, name: str) -> str | None:
        """The value of an option, empty for one that has none; None if it is not set."""
        for option in self.options:
            key, _, value = option.partition("=")
            if key == name:
                return value
        return None


def parse(text: str) -> list[Mount]:
    """The mounts that the lines of a mountinfo tell of, in their order; lines that are none are left out."""
    found = []
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields, rest = before.split(" "), after.split(" ")
        if len(fields) < 6 or len(rest) < 3:
            continue
        options = dict.fromkeys([*fields[5].split(","), *rest[2].split(",")])
        found.append(Mount(_unescaped(fields[4]), rest[0], _unescaped(rest[1]), tuple(options)))
    return found


def mount_of(path: str, root: str = "") -> Mount | None:
    """The mount that an absolute path without links is on; None if that cannot be told.

    Of several at one place the last covers the others. `root` stands before /proc, for tests.
    """
    best: Mount | None = None
    for mount in _all(root):
        point = mount.point.rstrip("/")
        if path == point or path.startswith(f"{point}/") or not point:
            if best is None or len(point) >= len(best.point.rstrip("/")):
                best = mount
    return best


def points(root: str = "") -> list[str]:
    """Where something is mounted; none if that cannot be told."""
    return [mount.point for mount in _all(root)]


def _all(root: str) -> list[Mount]:
    try:
        with open(f"{root}/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            return parse(file.read(_BYTES_MAX))
    except OSError:
        return []


def hidepid(root: str = "") -> str | None:
    """How much of other users' processes is hidden, proc(5); None for nothing, or if it cannot be told."""
    mount = mount_of("/proc", root)
    value = None if mount is None else mount.option("hidepid")
    return None if value in (None, "", "0", "off") else value


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
