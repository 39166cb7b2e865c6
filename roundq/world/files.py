"""Files on a shared file system: publish, move, list afresh, read safely.

The only module that renames, links, unlinks and syncs. What it takes care of is
what NFS does to a queue (roundqueue(7), ASSUMPTIONS): the reply to a rename may be
lost, so after an error the directory is looked at before the errno is believed;
names are listed, never probed, since a probe leaves a negative entry that hides the
name for a minute; a handle may be stale once; close and fsync may be where a full
quota shows. Everything a stranger can write is opened so that it can neither
block nor lead elsewhere, and is bounded in size.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import os
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

from roundq.words.errors import RecordError, SpoolError, SpoolFull
from roundq.world import owners

T = TypeVar("T")

#: How often a stale handle is tried again before it is believed (nfs.md: Dovecot uses 10).
STALE_TRIES = 4
#: Errors of a device or quota that has no room; said with a remedy.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
#: File systems without hard links answer one of these to link(2); nothing here needs any.
NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES})
#: Some network file systems cannot sync a directory and say so with one of these; EIO is never hidden.
NO_DIRECTORY_SYNC = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF})
#: Names in one directory that are looked at; strangers may make more.
NAMES_MAX = 1_000_000
#: Names that are looked at to prove that a record is still where it was: losing a race for one of very
#: many must stay cheap, and the directories of what a node owns are small.
PROOF_NAMES_MAX = 1000

_serial = itertools.count()


class Name(NamedTuple):
    """One entry of a directory as listed: its name and inode number."""

    name: str
    inode: int


class Status(NamedTuple):
    """What something is, whose, and which: its mode, uid, device and inode."""

    mode: int
    uid: int
    device: int
    inode: int


def _retrying(operation: Callable[[], T]) -> T:
    for _ in range(STALE_TRIES - 1):
        try:
            return operation()
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
    return operation()


def listing(directory: str, *, most: int = NAMES_MAX, within: int | None = None) -> list[Name]:
    """The names in a directory, as the server has them now; hidden ones are left out.

    Hidden names are NFS's own `.nfs...` files and unfinished ones. An absent
    directory has no names. With `within` the directory must be this user's, see `owners.opened`.
    Raises OSError for one that cannot be read.
    """
    if within is not None:
        return _listing_within(directory, most, within)

    def once() -> list[Name]:
        # A fresh opendir makes an NFS client ask the server: close-to-open holds for directories too.
        with os.scandir(directory) as entries:
            # Hidden ones are counted: a stranger may make a million of them, too.
            looked_at = itertools.islice(entries, most)
            return [Name(e.name, e.inode()) for e in looked_at if not e.name.startswith(".")]

    try:
        return _retrying(once)
    except FileNotFoundError:
        return []


def _listing_within(directory: str, most: int, owner: int) -> list[Name]:
    def once() -> list[Name]:
        descriptor = owners.opened(directory, owner)
        try:
            with os.scandir(descriptor) as entries:
                looked_at = itertools.islice(entries, most)
                return [Name(e.name, e.inode()) for e in looked_at if not e.name.startswith(".")]
        finally:
            os.close(descriptor)

    try:
        return _retrying(once)
    except FileNotFoundError:
        return []


def names(directory: str, *, most: int = NAMES_MAX, within: int | None = None) -> list[str]:
    """The names alone of what `listing` lists: a hundred thousand in half of its time."""
    if within is not None:
        return [name for name, _ in _listing_within(directory, most, within)]

    def once() -> list[str]:
        with os.scandir(directory) as entries:
            return [name for e in itertools.islice(entries, most) if (name := e.name)[0] != "."]

    try:
        return _retrying(once)
    except FileNotFoundError:
        return []


def changed(directory: str) -> int:
    """The directory's modification time in ns as the server has it, 0 if it is absent.

    Equal times are no proof that nothing changed: a second change within the
    clock tick of the first leaves no trace. See `Freshness`.
    """

    def once() -> int:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return os.fstat(descriptor).st_mtime_ns
        finally:
            os.close(descriptor)

    try:
        return _retrying(once)
    except FileNotFoundError:
        return 0


class Freshness:
    """Whether a directory may have changed since it was last listed.

    Its time proves a change, but that the time stands still proves nothing for changes
    within one tick of the server's clock: so a listing is good only when the time has
    stood still for `SETTLED_S` of our own clock before it; for longer where names are seen late.
    """

    SETTLED_S = 2.0

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.is_settled = False
        #: How late a name may be seen after the time of its directory.
        self.late_s = 0.0
        self._time, self._asked_s = -1, 0.0
        self._since_s: float | None = None

    def is_due(self, now_s: float) -> bool:
        """Whether to list it now; the caller then does. `now_s` is a monotonic time, of before."""
        time = changed(self.directory)
        if time != self._time:
            self._time, self._asked_s, self._since_s, self.is_settled = time, now_s, None, False
            return True
        if self.is_settled:
            return False
        # The server may have been silent for long before it told the new time: only the
        # next time that we are called is certain to be after that.
        if self._since_s is None and now_s > self._asked_s:
            self._since_s = now_s
        still_s = 0.0 if self._since_s is None else now_s - self._since_s
        self.is_settled = still_s >= max(self.SETTLED_S, self.late_s)
        return True

    def forget(self) -> None:
        """The listing failed: it is due again, whatever the directory's time says."""
        self._time, self.is_settled = -1, False


#: How files of others are opened: neither followed nor waited for.
_STRANGE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


def _opened(path: str, within: int | None) -> int:
    """A descriptor of a file that may be a stranger's, `within` a directory of that user, if given."""
    if within is None:
        return os.open(path, _STRANGE)
    directory, _, name = path.rpartition("/")
    above = owners.opened(directory, within)
    try:
        return os.open(name, _STRANGE, dir_fd=above)
    finally:
        os.close(above)


def read(
    path: str,
    *,
    most: int,
    owner: int | None = None,
    only_owner_writes: bool = False,
    within: int | None = None,
) -> bytes:
    """The content of a regular file, of at most `most` bytes, owned by uid `owner` if given.

    Never follows a link, never waits for a FIFO's writer. With `within` it must lie in a directory of
    this user, see `owners.opened`. Raises OSError if it cannot be opened, RecordError if it is not
    such a file.
    """

    def once() -> bytes:
        descriptor = _opened(path, within)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise RecordError("it is not a regular file")
            if owner is not None and status.st_uid != owner:
                raise RecordError(f"it belongs to uid {status.st_uid}, not to uid {owner}")
            if only_owner_writes and others_write(status):
                raise RecordError("it can be written by others: chmod go-w it")
            if status.st_size > most:
                raise RecordError(f"it is larger than {most} bytes")
            # It may grow while it is read: the bound is on what is read, not on what was promised.
            content = b""
            while len(content) <= most and (chunk := os.read(descriptor, status.st_size + 4096)):
                content += chunk
            if len(content) > most:
                raise RecordError(f"it is larger than {most} bytes")
            return content
        finally:
            os.close(descriptor)

    try:
        return _retrying(once)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise RecordError("it is a symbolic link") from None
        raise


def others_write(status: os.stat_result) -> bool:
    # With umask 002, the default where each user has a group alone, files are writable by that group.
    is_private_group = status.st_gid == status.st_uid
    return bool(status.st_mode & (0o002 if is_private_group else 0o022))


@contextlib.contextmanager
def explained(doing: str) -> Iterator[None]:
    """Turns the system's refusals while writing into errors a person can act on."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise SpoolFull(
                f"cannot {doing}: {os.strerror(error.errno or 0)}",
                "free some space or raise the quota (see `quota -s`, `df -h ~`), then try again",
            ) from error
        if error.errno == errno.EROFS:
            raise SpoolError(
                f"cannot {doing}: the file system is read-only",
                "see `mount` and `dmesg`: a server or disk in trouble may have made it so",
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM):
            raise SpoolError(
                f"cannot {doing}: permission denied",
                "check `ls -ld ~ ~/.roundqueue`; on Kerberos homes, check your ticket with `klist`",
            ) from error
        raise SpoolError(f"cannot {doing}: {error.strerror or error}") from error


def sync_directory(path: str) -> None:
    """Makes the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_DIRECTORY_SYNC:
            raise
    finally:
        os.close(descriptor)


def write_temporary(directory: str, owner: str, data: bytes, *, mode: int = 0o644, sync: bool = True) -> str:
    """A new file in `directory` that holds `data`, for `place` or `replace` to give its name; its path.

    `owner` begins its name and tells a sweep whose it is. Leaves nothing behind
    when it fails. With `sync` the content is durable.
    """
    path = f"{directory}/{owner}.{next(_serial)}.{os.urandom(4).hex()}"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        try:
            # The umask must not decide what neighbours may read, nor open what is private.
            os.fchmod(descriptor, mode)
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            if sync:
                os.fsync(descriptor)
        finally:
            # A quota may show only here.
            os.close(descriptor)
    except BaseException:
        _discard(path)
        raise
    return path


def _discard(temporary: str) -> None:
    """Removes a temporary file if it can be; a sweep finds it otherwise. What matters is said already."""
    with contextlib.suppress(OSError):
        remove(temporary)


def place(temporary: str, target: str) -> bool:
    """Gives the temporary file the name `target` unless that is taken; whether it did.

    `target` must be a name that no other process of ours ever gives. By rename(2): a server that forgot
    what it answered may play a call again, and a link(2) that is played again would give a record that has
    moved on a second name; a rename finds its source gone. Since it replaces, the name is asked for before.
    """
    if _is_taken(target):
        _discard(temporary)
        return False
    try:
        os.rename(temporary, target)
    except OSError:
        # Nobody else moves it: if it is gone from here it got its name, and may have moved on since.
        if is_listed(temporary):
            _discard(temporary)
            raise
    return True


def _is_taken(target: str) -> bool:
    # Asked for, not listed: whoever could be hidden by it for a minute gives no such name, and a long
    # queue is not listed for each job of a batch.
    try:
        _retrying(lambda: os.lstat(target))
    except FileNotFoundError:
        return False
    return True


def replace(temporary: str, target: str) -> None:
    """Gives the temporary file the name `target`, whatever had it before."""
    try:
        os.rename(temporary, target)
    except OSError:
        # Only one's own temporary file can have become the target, so if it is gone, it has.
        if is_listed(temporary) or not is_listed(target):
            _discard(temporary)
            raise


def name_once(temporary: str, target: str) -> bool:
    """Gives the temporary file the name `target` unless that is taken; whether it did. Of several one wins.

    By link(2), so for names that nobody ever moves or gives again. Raises OSError.
    """
    try:
        os.link(temporary, target)
        is_ours = True
    except FileExistsError:
        # Over NFS the reply to a link that was made may be lost, and its repetition fails.
        is_ours = os.path.samestat(os.lstat(temporary), os.lstat(target))
    finally:
        _discard(temporary)
    return is_ours


def also_named(path: str, target: str) -> None:
    """Gives a file a second name, whatever had that before. Raises OSError."""
    temporary = f"{os.path.dirname(target)}/.also.{os.urandom(8).hex()}"
    os.link(path, temporary)
    try:
        os.rename(temporary, target)
    finally:
        # Where both were names of one file, rename(2) leaves both.
        _discard(temporary)


def move(source: str, target: str) -> bool:
    """Renames a record; whether it now has the name `target`.

    False means that the source is gone and is not ours: somebody else moved it.
    `target` must be a name that only the caller's side gives. Raises OSError when the
    system refuses and the source is still there.
    """
    return _moved(source, target, os.rename)


def move_new(source: str, target: str, may_be_ours: Callable[[], bool] = lambda: True) -> bool:
    """As `move`, but replaces nothing: raises FileExistsError if something has the name `target`.

    Where the file system cannot do so in one step (NFS, WebDAV) the name is only asked for before. If others
    may give that name to the same file, `may_be_ours` tells, after an error and before it is looked, whether
    none of them is known to.
    """
    # Else what had the name before would be taken for ours after an error.
    if _is_taken(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), source, None, target)
    return _moved(source, target, _rename_new, may_be_ours)


#: <linux/fs.h>, <fcntl.h>: for renameat2(2).
_RENAME_NOREPLACE, _AT_FDCWD = 1, -100
#: What a file system or a C library without it answers.
_NO_RENAME_NEW = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})


@functools.cache
def _renameat2() -> Callable[..., int] | None:
    # Only few processes need it.
    import ctypes

    return getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)


def _rename_new(source: str, target: str) -> None:
    rename = _renameat2()
    if rename is not None:
        import ctypes

        words = _AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE
        if rename(*words) == 0:
            return
        number = ctypes.get_errno()
        if number not in _NO_RENAME_NEW:
            raise OSError(number, os.strerror(number), source, None, target)
    os.rename(source, target)


def _moved(
    source: str,
    target: str,
    rename: Callable[[str, str], None],
    may_be_ours: Callable[[], bool] = lambda: True,
) -> bool:
    tries = STALE_TRIES
    while True:
        try:
            rename(source, target)
            return True
        except OSError as error:
            if rename is _rename_new and error.errno == errno.EEXIST:
                raise
            if may_be_ours() and is_listed(target) and not is_listed(source):
                return True
            if error.errno not in (errno.ENOENT, errno.ESTALE):
                raise
            if not is_listed(source, most=PROOF_NAMES_MAX):
                return False
            # It is still there: the client remembered wrongly, or there is no directory to move it to.
            tries -= 1
            if not tries:
                raise


def open_fresh(path: str, flags: int) -> int:
    """os.open of a file that another node may just have created: its descriptor.

    A name that was once asked for in vain stays invisible on NFS for up to a minute;
    listing its directory is what makes the client look again.
    """
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        if not is_listed(path):
            raise
        return os.open(path, flags)


def append(path: str, data: bytes, *, sync: bool = True) -> int:
    """Adds whole lines to the end of a file, with `sync` durably, or not at all; its size then.

    For the one process that ever writes this file. A line that a crash has cut is ended first.
    Raises OSError.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            data = b"\n" + data
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            if sync:
                os.fsync(descriptor)
        except OSError:
            # What could not be written whole is nobody's line.
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)
    return size + len(data)


def is_listed(path: str, *, most: int = NAMES_MAX) -> bool:
    """Whether the name, hidden or not, is in a fresh listing of its directory: the only proof of that."""
    directory, _, name = path.rpartition("/")

    def once() -> bool:
        with os.scandir(directory) as entries:
            return any(entry.name == name for entry in itertools.islice(entries, most))

    try:
        return _retrying(once)
    except FileNotFoundError:
        return False


def remove(path: str) -> bool:
    """Unlinks a file; whether it was there. That it is gone already is as good."""
    try:
        _retrying(lambda: os.unlink(path))
    except FileNotFoundError:
        return False
    return True


def touch(path: str) -> bool:
    """Sets the times of a file to the server's now; whether it was there."""
    try:
        _retrying(lambda: os.utime(path, follow_symlinks=False))
    except FileNotFoundError:
        return False
    return True


def signature(path: str, *, within: int | None = None) -> tuple[int, int, int]:
    """(inode, modification time in ns, size) of a file as the server has it: changes when it is replaced.

    The inode alone would not do: a freed number is given to the next file. `within` as for `read`.
    """

    def once() -> tuple[int, int, int]:
        descriptor = _opened(path, within)
        try:
            status = os.fstat(descriptor)
            return status.st_ino, status.st_mtime_ns, status.st_size
        finally:
            os.close(descriptor)

    return _retrying(once)


def status(path: str) -> Status:
    """What a path leads to. Follows links. Raises OSError."""
    found = os.stat(path)
    return Status(found.st_mode, found.st_uid, found.st_dev, found.st_ino)


def is_closed(path: str) -> bool:
    """Whether there may be a directory of this name into which this process may not look. Follows links."""
    try:
        is_directory = stat.S_ISDIR(os.stat(path).st_mode)
    except PermissionError:
        return True
    except OSError:
        return False
    return is_directory and not os.access(path, os.R_OK | os.X_OK, effective_ids=True)


def matching(pattern: str) -> list[str]:
    """The paths that a pattern of the shell means, sorted; without a pattern just that path."""
    # A submission needs none.
    import glob

    return sorted(glob.glob(pattern)) if glob.has_magic(pattern) else [pattern]
