"""The wire format of /dev/fuse, as far as one small file system needs it.

`Device` mounts, reads requests and writes answers; the functions below it pack the answers. Called by nfsim
and nfs. It knows nothing of caches, faults or NFS. Layouts are those of linux/fuse.h, protocol 7.31.
"""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import struct
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from tests.cluster import kernel

if TYPE_CHECKING:
    from collections.abc import Sequence

OPERATIONS = {
    1: "lookup",
    2: "forget",
    3: "getattr",
    4: "setattr",
    5: "readlink",
    6: "symlink",
    8: "mknod",
    9: "mkdir",
    10: "unlink",
    11: "rmdir",
    12: "rename",
    13: "link",
    14: "open",
    15: "read",
    16: "write",
    17: "statfs",
    18: "release",
    20: "fsync",
    25: "flush",
    26: "init",
    27: "opendir",
    28: "readdir",
    29: "releasedir",
    30: "fsyncdir",
    35: "create",
    36: "interrupt",
    38: "destroy",
    42: "batch_forget",
    45: "rename",
}
RENAME2 = 45
FALLOCATE = 43

# Where the names begin in a request that carries any.
NAMES_AT = {
    "lookup": 0,
    "symlink": 0,
    "unlink": 0,
    "rmdir": 0,
    "mkdir": 8,
    "link": 8,
    "rename": 8,
    "create": 16,
    "mknod": 16,
}

# Operations whose answer begins with the number of a node that the kernel from then on counts as known.
GIVES_ENTRY = frozenset({"lookup", "symlink", "mknod", "mkdir", "link", "create"})

ROOT = 1
MAX_WRITE = 131072
KEEP_CACHE = 2

_IN = struct.Struct("<IIQQIIIHH")
_OUT = struct.Struct("<IiQ")
_ATTRIBUTES = struct.Struct("<6Q10I")
_ENTRY = struct.Struct("<4Q2I")
_SETATTR = struct.Struct("<II6Q8I")

ENTRY_SIZE = _ENTRY.size + _ATTRIBUTES.size

# Which fields of a Setattr count.
SET_MODE = 1
SET_UID = 2
SET_GID = 4
SET_SIZE = 8
SET_ATIME = 16
SET_MTIME = 32
SET_HANDLE = 64
SET_ATIME_NOW = 128
SET_MTIME_NOW = 256

_NOTIFY_INODE = 2
_NOTIFY_ENTRY = 3

_ASYNC_READ = 1 << 0
_BIG_WRITES = 1 << 5
_AUTO_INVALIDATE_DATA = 1 << 12
_PARALLEL_DIROPS = 1 << 18
_MAX_PAGES = 1 << 22


@dataclass(frozen=True)
class Request:
    """One request of the kernel: what, on which node, for whom."""

    op: str
    code: int
    unique: int
    node: int
    uid: int
    gid: int
    pid: int
    body: bytes

    @property
    def names(self) -> list[bytes]:
        at = 16 if self.code == RENAME2 else NAMES_AT[self.op]
        return self.body[at:].split(b"\0")[:-1]

    def numbers(self, layout: str, at: int = 0) -> tuple[int, ...]:
        return struct.unpack_from("<" + layout, self.body, at)


class Setattr(NamedTuple):
    """What setattr asks for; `valid` says which of the fields count."""

    valid: int
    handle: int
    size: int
    atime_ns: int
    mtime_ns: int
    mode: int
    uid: int
    gid: int


class Device:
    """An open /dev/fuse."""

    def __init__(self) -> None:
        self.fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        self._buffer = bytearray(MAX_WRITE + 8192)
        self._forgotten_names: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=self._invalidate_names, daemon=True).start()

    def mount(self, source: str, target: str) -> None:
        who = "user_id=0,group_id=0,default_permissions,allow_other"
        options = f"fd={self.fd},rootmode=40000,{who},max_read={MAX_WRITE}"
        kernel.mount(source, target, "fuse.nfsim", kernel.MS_NOSUID | kernel.MS_NODEV, options)

    def read(self) -> Request | None:
        """The next request; None when there is none yet. Raises OSError ENODEV once unmounted."""
        while True:
            try:
                size = os.readv(self.fd, [self._buffer])
            except BlockingIOError:
                return None
            except OSError as error:
                if error.errno in (errno.EINTR, errno.ENOENT):
                    continue  # ENOENT: that request was interrupted before it was read.
                raise
            _, code, unique, node, uid, gid, pid, _, _ = _IN.unpack_from(self._buffer)
            body = bytes(memoryview(self._buffer)[_IN.size : size])
            return Request(OPERATIONS.get(code, ""), code, unique, node, uid, gid, pid, body)

    def reply(self, request: Request, error: int, data: bytes = b"") -> None:
        try:
            os.write(self.fd, _OUT.pack(_OUT.size + len(data), -error, request.unique) + data)
        except OSError as failed:
            if failed.errno not in (errno.ENOENT, errno.EINTR):  # The caller has died.
                raise

    def reply_init(self, request: Request) -> None:
        _, _, readahead, offered = request.numbers("4I")
        flags = offered & (_ASYNC_READ | _BIG_WRITES | _AUTO_INVALIDATE_DATA | _PARALLEL_DIROPS | _MAX_PAGES)
        body = struct.pack(
            "<4I2H2I2H2IH22x", 7, 31, readahead, flags, 64, 48, MAX_WRITE, 1, MAX_WRITE // 4096, 0, 0, 0, 0
        )
        self.reply(request, 0, body)

    def invalidate_attributes(self, node: int) -> None:
        """Make the kernel ask again for attributes. Pages stay: dropping them would wait for our readers."""
        self._notify(_NOTIFY_INODE, struct.pack("<Qqq", node, -1, 0))

    def invalidate_name(self, parent: int, name: bytes) -> None:
        """Make the kernel ask again for a name.

        The kernel takes the lock of the directory for it, which the caller of a request that we have yet to
        answer may hold. So a thread of its own does it.
        """
        self._forgotten_names.put(struct.pack("<QII", parent, len(name), 0) + name + b"\0")

    def _invalidate_names(self) -> None:
        while True:
            self._notify(_NOTIFY_ENTRY, self._forgotten_names.get())

    def _notify(self, what: int, body: bytes) -> None:
        # ENOENT: the kernel did not know it anyway.
        with contextlib.suppress(OSError):
            os.write(self.fd, _OUT.pack(_OUT.size + len(body), what, 0) + body)


def attributes(st: os.stat_result, size: int, shift_ns: int = 0, grain_ns: int = 0) -> bytes:
    """Attributes of a file, its times as a server shows them whose clock is off by `shift_ns`."""

    def time_of(ns: int) -> tuple[int, int]:
        ns += shift_ns
        if grain_ns:
            ns -= ns % grain_ns
        return divmod(ns, 10**9)

    (a, a_ns), (m, m_ns), (c, c_ns) = map(time_of, (st.st_atime_ns, st.st_mtime_ns, st.st_ctime_ns))
    owner = (st.st_mode, st.st_nlink, st.st_uid, st.st_gid, st.st_rdev)
    return _ATTRIBUTES.pack(st.st_ino, size, st.st_blocks, a, m, c, a_ns, m_ns, c_ns, *owner, 4096, 0)


def entry_reply(node: int, name_s: float, attributes_s: float, packed: bytes = b"") -> bytes:
    """A name and what it stands for, with the time each is believed; node 0: there is no such name."""
    times = int(name_s), int(attributes_s), int(name_s % 1 * 1e9), int(attributes_s % 1 * 1e9)
    return _ENTRY.pack(node, 0, *times) + (packed or bytes(_ATTRIBUTES.size))


def attributes_reply(valid_s: float, packed: bytes) -> bytes:
    return struct.pack("<QII", int(valid_s), int(valid_s % 1 * 1e9), 0) + packed


def open_reply(handle: int, flags: int = 0) -> bytes:
    return struct.pack("<QIi", handle, flags, 0)


def statfs_reply(st: os.statvfs_result) -> bytes:
    blocks = (st.f_blocks, st.f_bfree, st.f_bavail, st.f_files, st.f_ffree)
    return struct.pack("<5Q4I24x", *blocks, st.f_bsize, 255, st.f_frsize, 0)


def directory_reply(listing: Sequence[tuple[bytes, int, int]], start: int, size: int) -> bytes:
    """As many entries (name, inode number, type) as fit, from the one at `start`."""
    out = bytearray()
    for at in range(start, len(listing)):
        name, inode, kind = listing[at]
        entry = struct.pack("<QQII", inode, at + 1, len(name), kind) + name
        entry += bytes(-len(entry) % 8)
        if len(out) + len(entry) > size:
            break
        out += entry
    return bytes(out)


def setattr_of(request: Request) -> Setattr:
    valid, _, handle, size, _, at, mt, _, at_ns, mt_ns, _, mode, _, uid, gid, _ = _SETATTR.unpack_from(
        request.body
    )
    return Setattr(valid, handle, size, at * 10**9 + at_ns, mt * 10**9 + mt_ns, mode, uid, gid)
