"""Many files of one directory made durable together, where the kernel promises that.

To sync ten thousand files one by one takes as many turns of the disk. syncfs(2) takes one, for all that was
written to a file system; what it promises differs, so it is used only where that is known:

- On the file systems of `KINDS` it writes all data and metadata, waits for them, and has the cache of the
  disk written, as fsync(2) does for one file.
- Since Linux 5.8 it reports an error of any of these writes, if the descriptor was open before they were
  made.
- NFS is not among them, since nothing is to be gained: closing a file there has it written and committed by
  the server anyway, so that fsync(2) before costs nothing more. Nor are FUSE, SMB and others, where syncfs(2)
  returns before the server, or the process behind it, has been asked at all.

Elsewhere each file is synced by itself. Directories are synced as ever, see `files.sync_directory`.
"""

from __future__ import annotations

import os

from roundq.world import mounts

#: File systems of the kernel itself on disks of this node, and in its memory, where nothing is durable.
KINDS = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "tmpfs"})
#: Since when errors are reported.
_LINUX = (5, 8)


class Together:
    """Opened before the first of the files is written; `sync` when all are closed."""

    def __init__(self, directory: str) -> None:
        kind = mounts.mount_of(os.path.realpath(directory))
        self._descriptor = -1
        if kind is not None and kind.kind in KINDS and _linux() >= _LINUX:
            self._descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    @property
    def each(self) -> bool:
        """Whether each file has to be synced by whoever writes it."""
        return self._descriptor < 0

    def sync(self) -> None:
        """Makes durable what was written since this was opened. Raises OSError if any of it is not."""
        if not self.each:
            _syncfs(self._descriptor)

    def close(self) -> None:
        """Gives up what it keeps open."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _syncfs(descriptor: int) -> None:
    # It costs a submission 5 ms to load, and one job needs none.
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syncfs(descriptor):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def _linux() -> tuple[int, ...]:
    numbers = os.uname().release.partition("-")[0].split(".")[:2]
    return tuple(int(number) for number in numbers if number.isdecimal())
