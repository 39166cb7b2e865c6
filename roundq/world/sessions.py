"""What a logout ends: lingering, logind's setting, and in whose keeping a process runs.

Reads what systemd leaves in files, and asks it nothing. `root` stands before every path, for tests.
"""

from __future__ import annotations

import glob
import os
import re

#: Where units are, nearest first; `~` is the user's home.
_UNIT_PLACES = (
    "~/.config/systemd/user",
    "/etc/systemd/user",
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/user",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/user",
    "/usr/lib/systemd/system",
    "/lib/systemd/user",
    "/lib/systemd/system",
)
_BYTES_MAX = 1 << 16


def is_managed(root: str = "") -> bool:
    """Whether systemd runs this node (sd_booted(3)): else no logout ends what left its terminal."""
    return os.path.isdir(f"{root}/run/systemd/system")


def lingers(user: str, root: str = "") -> bool:
    """Whether the user's service manager goes on after the last logout: loginctl(1), enable-linger."""
    return os.path.exists(f"{root}/var/lib/systemd/linger/{user}")


def kills_at_logout(root: str = "") -> bool:
    """Whether logind ends what a session leaves behind: logind.conf(5), KillUserProcesses.

    Later names win, whatever the directory; the main file comes first. Not set, most distributions say no.
    """
    found = False
    dropins: dict[str, str] = {}
    for place in ("/usr/lib", "/run", "/etc"):
        for path in glob.glob(f"{glob.escape(root)}{place}/systemd/logind.conf.d/*.conf"):
            dropins[os.path.basename(path)] = path
    for path in (f"{root}/etc/systemd/logind.conf", *(dropins[name] for name in sorted(dropins))):
        said = re.findall(r"^[ \t]*KillUserProcesses[ \t]*=[ \t]*(\w+)", _text(path), re.MULTILINE)
        if said:
            found = said[-1].lower() in ("yes", "true", "1", "on", "y", "t")
    return found


def keeper(pid: int, root: str = "") -> str:
    """The control group of a process, which tells whose it is; empty if that cannot be told.

    A path such as `/user.slice/user-1000.slice/session-3.scope`, of version 2 or of systemd's own hierarchy.
    """
    for line in _text(f"{root}/proc/{pid}/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers in ("", "name=systemd"):
            return path
    return ""


def units(name: str, home: str, root: str = "") -> list[str]:
    """The unit files of this name (`roundqd*.service`), as paths, a user's own first."""
    found: list[str] = []
    for place in _UNIT_PLACES:
        directory = home + place[1:] if place.startswith("~") else root + place
        found += sorted(glob.glob(f"{glob.escape(directory)}/{name}"))
    # /lib is a link to /usr/lib almost everywhere.
    return list({os.path.realpath(path): path for path in reversed(found)}.values())[::-1]


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_BYTES_MAX)
    except OSError:
        return ""
