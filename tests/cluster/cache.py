"""What a Linux NFS client remembers of a server, and for how long it believes it.

`Options` are the mount options, `Inode` is one file the kernel knows, `Cache` decides when names and
attributes are believed without asking. Called by nfs. It knows nothing of requests; measured against real
clients (v3, v4.2).
"""

from __future__ import annotations

import errno
import os
import stat
import time
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.cluster.fuse import Device

# Two changes within one tick of a coarse clock leave the same time stamp. A real server has a change counter
# against that; where stamps are coarse (before Linux 6.13) we believe no cached state younger than this.
TICK_NS = 20_000_000

FOREVER_S = 1e6


@dataclass
class Options:
    """Mount options as of nfs(5), and some of our own. Times are in seconds."""

    acregmin: float = 3.0
    acregmax: float = 60.0
    acdirmin: float = 30.0
    acdirmax: float = 60.0
    # all, pos (no names that do not exist) or none.
    lookupcache: str = "all"
    # Close-to-open: opening asks the server.
    cto: bool = True
    vers: str = "4.2"
    # Requests wait so long for a server that does not answer, then fail; 0: for ever, a hard mount.
    soft: float = 0.0
    # The user that the server takes root for, and whether it does.
    root_squash: bool = True
    anon: int = 65534
    # Written data reaches the server at close, fsync or stat, or after this time. A crash loses the rest.
    wdelay: float = 5.0
    # The server's clock minus ours, and the grain of its time stamps.
    skew: float = 0.0
    gran: float = 0.0
    # With fs="loose": what this node does, others learn after this time at the latest.
    late: float = 0.0
    # Every request takes so much longer.
    latency: float = 0.0
    # Names, also those that do not exist, never expire: directory delegations of the newest kernels.
    sticky: bool = False
    # How often hanging requests look whether their caller was killed.
    kill_poll: float = 0.1
    # Seed of what is left to chance (`prob` of a rule).
    seed: int = 0

    @classmethod
    def parse(cls, said: str | Mapping[str, Any]) -> Options:
        """Read "acregmin=1,noac,..." or a mapping of the same."""
        options = cls()
        if isinstance(said, str):
            said = {key: value for key, _, value in (word.partition("=") for word in said.split(",") if word)}
        for key, value in said.items():
            options.change(key, value)
        return options

    def change(self, key: str, value: Any) -> None:
        if key == "actimeo":
            self._attribute_times(float(value))
        elif key == "noac":
            self._attribute_times(0.0)
            self.wdelay = 0.0
            self.lookupcache = "none"
        elif key == "nocto":
            self.cto = False
        elif key in (names := {f.name for f in fields(self)}):
            kind = type(getattr(self, key))
            if kind is bool:  # A mount option says 0 or 1, or only its name.
                value = 1 if value == "" else int(value)
            setattr(self, key, kind(value))
        else:
            raise ValueError(f"no mount option {key!r}, only {sorted(names)}")

    def _attribute_times(self, seconds: float) -> None:
        self.acregmin = self.acregmax = self.acdirmin = self.acdirmax = seconds


Signature = tuple[int, ...]


@dataclass(eq=False)
class Inode:
    """A file or directory the kernel knows by `number`; `fd` (O_PATH) is what NFS calls a file handle."""

    number: int
    fd: int
    key: tuple[int, int]
    lookups: int = 0
    # Attributes: what they were, and how long they are believed.
    signature: Signature | None = None
    settled: bool = True
    timeout: float = 0.0
    expires: float = 0.0
    # A directory: names the kernel believes, and the last listing.
    names: set[bytes] = field(default_factory=set)
    listing: list[tuple[bytes, int, int]] | None = None
    listed: Signature | None = None
    # A file: how often it is open, data not yet sent, an error of that nobody was told, where it was found.
    opens: int = 0
    dirty: list[tuple[int, bytes]] = field(default_factory=list)
    write_error: int = 0
    location: tuple[Inode, bytes] | None = None
    # Removed while open: the name it got instead.
    silly: tuple[Inode, bytes] | None = None

    @property
    def path(self) -> str:
        return f"/proc/self/fd/{self.fd}"


def signature_of(st: os.stat_result) -> Signature:
    size = 0 if stat.S_ISDIR(st.st_mode) else st.st_size
    return (st.st_mtime_ns, st.st_ctime_ns, size, st.st_nlink, st.st_mode, st.st_uid, st.st_gid)


def tick_of(directory: str) -> int:
    """How long time stamps of this file system may stand still; 0 if a change always shows in them."""
    try:
        fd = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return TICK_NS
    stamps = set()
    for i in range(4):
        os.pwrite(fd, b"x", i)
        stamps.add(os.fstat(fd).st_mtime_ns)
    os.close(fd)
    return 0 if len(stamps) == 4 else TICK_NS


class Cache:
    """Decides what is believed without asking the server."""

    def __init__(self, options: Options, device: Device, backing: str) -> None:
        self.options = options
        self._device = device
        self._tick_ns = tick_of(backing)

    def ask(self, inode: Inode) -> os.stat_result:
        """What the server says now."""
        st = os.fstat(inode.fd)
        if st.st_nlink == 0 and (not inode.opens or self.options.vers.startswith("3")):
            raise OSError(errno.ESTALE, "removed by another node")
        return st

    def is_settled(self, st: os.stat_result) -> bool:
        """Would any change from now on show in the time stamps?"""
        return time.time_ns() - max(st.st_mtime_ns, st.st_ctime_ns) >= self._tick_ns

    def attributes_valid_s(self, inode: Inode) -> float:
        return max(0.0, inode.expires - time.monotonic())

    def names_valid_s(self, directory: Inode) -> float:
        return FOREVER_S if self.options.sticky else self.attributes_valid_s(directory)

    def refresh(self, inode: Inode, st: os.stat_result) -> bool:
        """Take over fresh attributes, believed longer and longer while nothing changes. Did they change?"""
        low, high = self._timeouts(st)
        now = time.monotonic()
        signature = signature_of(st)
        changed = inode.signature is not None and (signature != inode.signature or not inode.settled)
        if inode.signature is None or changed or inode.timeout < low:
            inode.timeout = low
        elif now >= inode.expires:
            inode.timeout = min(inode.timeout * 2, high)
        self._remember(inode, st)
        return changed

    def revalidate(self, directory: Inode, *, always: bool = False) -> bool:
        """What a client does before it believes the names in a directory. Did that change?"""
        if always or self.attributes_valid_s(directory) <= 0:
            if self.refresh(directory, self.ask(directory)):
                self.forget_names(directory)
                return True
        return False

    def forget_names(self, directory: Inode, keep: Iterable[bytes] = ()) -> None:
        if self.options.sticky:
            return
        for name in directory.names.difference(keep):
            self._device.invalidate_name(directory.number, name)
        directory.names.clear()

    def changed_here(self, directory: Inode, before: os.stat_result, keep: Iterable[bytes]) -> None:
        """After a change by this node: the reply tells whether another node had been there too."""
        after = os.fstat(directory.fd)
        if directory.signature is not None and signature_of(before) != directory.signature:
            self.forget_names(directory, keep)
        directory.timeout = self._timeouts(after)[0]
        self._remember(directory, after)

    def _timeouts(self, st: os.stat_result) -> tuple[float, float]:
        o = self.options
        return (o.acdirmin, o.acdirmax) if stat.S_ISDIR(st.st_mode) else (o.acregmin, o.acregmax)

    def _remember(self, inode: Inode, st: os.stat_result) -> None:
        inode.signature = signature_of(st)
        inode.settled = self.is_settled(st)
        inode.expires = time.monotonic() + inode.timeout
