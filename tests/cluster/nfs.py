"""The file operations of an NFS client: each does to the backing directory what it would ask of its server.

`Client.perform()` answers one request and raises OSError where NFS would. Called by nfsim, which adds the
faults. Every operation runs with the uid, gid and groups of its caller, as the server checks them (AUTH_SYS).
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import time
from typing import TYPE_CHECKING

from tests.cluster import fuse, kernel
from tests.cluster.cache import Cache, Inode, Options, signature_of
from tests.cluster.handles import Handles, write_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.cluster.faults import Listing
    from tests.cluster.fuse import Request, Setattr

AUTH_SYS_GROUPS_MAX = 16

DT_UNKNOWN, DT_DIR, DT_REG, DT_LNK = 0, 4, 8, 10


class Client:
    """One node's view of the directory `backing`."""

    def __init__(
        self,
        backing: str,
        options: Options,
        device: fuse.Device,
        *,
        groups: Mapping[int, tuple[int, ...]],
        later: Callable[[float, Callable[[], None]], None],
        distort: Callable[[str, int, Listing], Listing],
    ) -> None:
        self.options = options
        self.backing = os.path.realpath(backing)
        self.inodes: dict[int, Inode] = {}
        self.handles = Handles()
        self._device = device
        self._cache = Cache(options, device, self.backing)
        self._groups = groups
        self._later = later
        self._distort = distort
        self._by_key: dict[tuple[int, int], Inode] = {}
        self._numbers = iter(range(fuse.ROOT, 1 << 62))
        self._known(os.open(self.backing, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)).lookups = 1

    # ------------------------------------------------------------------ what nfsim calls

    def perform(self, request: Request) -> bytes:
        """Do what is asked and return the answer; raise OSError as NFS would."""
        inode = self.inodes.get(request.node)
        if inode is None:
            raise OSError(errno.ESTALE, "unknown node")
        operation: Callable[[Inode, Request], bytes] | None = getattr(self, "op_" + request.op, None)
        if operation is None:
            raise OSError(errno.ENOSYS, request.op)
        self._become_caller(request)
        try:
            return operation(inode, request)
        finally:
            kernel.become_root()

    def _become_caller(self, request: Request) -> None:
        squashed = request.uid == 0 and self.options.root_squash
        uid, gid = (self.options.anon,) * 2 if squashed else (request.uid, request.gid)
        kernel.become(uid, gid, self._groups.get(uid, ())[:AUTH_SYS_GROUPS_MAX])

    def disown(self, request: Request, answer: bytes) -> None:
        """An answer the kernel will not get to see: it will never close or forget what that gave it."""
        if request.op in ("open", "opendir"):
            self.handles.close(*struct.unpack_from("<Q", answer))
        elif request.op == "create":
            self.handles.close(*struct.unpack_from("<Q", answer, fuse.ENTRY_SIZE))
        if request.op in fuse.GIVES_ENTRY:
            self.forget(struct.unpack_from("<Q", answer)[0], 1)
        # Nor does it know of the change: names that it believes are doubted when a directory is next opened.
        if request.op in fuse.NAMES_AT:
            other = self._other(request) if request.op == "rename" else None
            for directory in (self.inodes.get(request.node), other):
                if directory is not None:
                    directory.settled = False

    def forget(self, number: int, times: int) -> None:
        inode = self.inodes.get(number)
        if inode is None or number == fuse.ROOT:
            return
        inode.lookups -= times
        if inode.lookups <= 0 and not inode.opens:
            self.handles.flush(inode)
            os.close(inode.fd)
            del self.inodes[number], self._by_key[inode.key]

    def flush_all(self) -> None:
        """What an orderly unmount does."""
        self.handles.close_all()
        for inode in self.inodes.values():
            self.handles.flush(inode)

    def is_local(self, request: Request) -> bool:
        """Can this be answered without the server? Closing a file that has nothing to send."""
        inode = self.inodes.get(request.node)
        return request.op == "releasedir" or (request.op == "flush" and inode is not None and not inode.dirty)

    def path_of(self, inode: Inode | None) -> str:
        """Where it is on the server now, below the mount."""
        if inode is None:
            return "?"
        return os.readlink(inode.path)[len(self.backing) :].lstrip("/")

    def describe(self, request: Request) -> str:
        """The path a request is about; "old -> new" for rename and link."""
        path = self.path_of(self.inodes.get(request.node))
        if request.op not in fuse.NAMES_AT:
            return path

        def below(directory: str, name: bytes) -> str:
            return os.path.join(directory, os.fsdecode(name))

        if request.op == "rename":
            old, new = request.names
            return f"{below(path, old)} -> {below(self.path_of(self._other(request)), new)}"
        if request.op == "link":
            return f"{self.path_of(self._other(request))} -> {below(path, request.names[0])}"
        return below(path, request.names[0])

    # ------------------------------------------------------------------ names

    def op_lookup(self, directory: Inode, request: Request) -> bytes:
        (name,) = request.names
        self._cache.revalidate(directory)
        try:
            return self._entry(directory, name)
        except FileNotFoundError:
            valid_s = self._cache.names_valid_s(directory)
            if self.options.lookupcache != "all" or not valid_s:
                raise
            directory.names.add(name)
            return fuse.entry_reply(0, valid_s, 0)

    def op_symlink(self, directory: Inode, request: Request) -> bytes:
        name, target = request.names
        return self._make(directory, name, lambda: os.symlink(target, name, dir_fd=directory.fd))

    def op_mknod(self, directory: Inode, request: Request) -> bytes:
        mode, device = request.numbers("II")
        (name,) = request.names
        return self._make(directory, name, lambda: os.mknod(name, mode, device, dir_fd=directory.fd))

    def op_mkdir(self, directory: Inode, request: Request) -> bytes:
        (mode,) = request.numbers("I")
        (name,) = request.names
        return self._make(directory, name, lambda: os.mkdir(name, mode, dir_fd=directory.fd))

    def op_link(self, directory: Inode, request: Request) -> bytes:
        source = self._other(request)
        if source is None:
            raise OSError(errno.ESTALE, "unknown node")
        (name,) = request.names
        self.handles.flush(source)
        return self._make(
            directory, name, lambda: os.link(source.path, name, dst_dir_fd=directory.fd, follow_symlinks=True)
        )

    def op_unlink(self, directory: Inode, request: Request) -> bytes:
        (name,) = request.names
        victim = self._open_here(directory, name)
        before = self._cache.ask(directory)
        if victim:
            self.handles.remove_while_open(directory, name, victim)
        else:
            os.unlink(name, dir_fd=directory.fd)
        self._cache.changed_here(directory, before, (name,))
        return b""

    def op_rmdir(self, directory: Inode, request: Request) -> bytes:
        (name,) = request.names
        before = self._cache.ask(directory)
        os.rmdir(name, dir_fd=directory.fd)
        self._cache.changed_here(directory, before, (name,))
        return b""

    def op_rename(self, directory: Inode, request: Request) -> bytes:
        if request.code == fuse.RENAME2 and request.numbers("I", 8)[0]:
            raise OSError(errno.EINVAL, "NFS has no rename flags")
        target = self._other(request)
        if target is None:
            raise OSError(errno.ESTALE, "unknown node")
        old, new = request.names
        before, target_before = self._cache.ask(directory), self._cache.ask(target)
        source = self._find(directory, old)
        if source:
            self.handles.flush(source)
        victim = self._open_here(target, new)
        if victim and victim is not source:
            self.handles.remove_while_open(target, new, victim)
        os.rename(old, new, src_dir_fd=directory.fd, dst_dir_fd=target.fd)
        self._cache.changed_here(directory, before, (old, new))
        if target is not directory:
            self._cache.changed_here(target, target_before, (old, new))
        target.names.add(new)
        return b""

    def op_readlink(self, inode: Inode, request: Request) -> bytes:  # noqa: ARG002
        return os.readlink(b"", dir_fd=inode.fd)

    # ------------------------------------------------------------------ attributes

    def op_getattr(self, inode: Inode, request: Request) -> bytes:  # noqa: ARG002
        self.handles.flush(inode)
        st = self._cache.ask(inode)
        if self._cache.refresh(inode, st) and stat.S_ISDIR(st.st_mode):
            self._cache.forget_names(inode)
        return self._attributes_reply(inode, st)

    def op_setattr(self, inode: Inode, request: Request) -> bytes:
        want = fuse.setattr_of(request)
        self.handles.flush(inode)
        self._cache.ask(inode)
        if want.valid & fuse.SET_MODE:
            os.chmod(inode.path, want.mode & 0o7777)
        if want.valid & (fuse.SET_UID | fuse.SET_GID):
            uid = want.uid if want.valid & fuse.SET_UID else -1
            os.chown(inode.path, uid, want.gid if want.valid & fuse.SET_GID else -1)
        if want.valid & fuse.SET_SIZE:
            handle = self.handles.get(want.handle) if want.valid & fuse.SET_HANDLE else None
            os.truncate(handle.fd if handle and handle.writable else inode.path, want.size)
        if want.valid & (fuse.SET_ATIME | fuse.SET_MTIME):
            self._set_times(inode, want)
        st = self._cache.ask(inode)
        self._cache.refresh(inode, st)
        return self._attributes_reply(inode, st)

    def _set_times(self, inode: Inode, want: Setattr) -> None:
        if want.valid & fuse.SET_ATIME_NOW and want.valid & fuse.SET_MTIME_NOW:
            os.utime(inode.path)  # Whoever may write may do this; setting other times takes the owner.
            return
        now, st, skew_ns = time.time_ns(), os.fstat(inode.fd), int(self.options.skew * 1e9)
        atime, mtime = st.st_atime_ns, st.st_mtime_ns
        if want.valid & fuse.SET_ATIME:
            atime = now if want.valid & fuse.SET_ATIME_NOW else want.atime_ns - skew_ns
        if want.valid & fuse.SET_MTIME:
            mtime = now if want.valid & fuse.SET_MTIME_NOW else want.mtime_ns - skew_ns
        os.utime(inode.path, ns=(atime, mtime))

    def op_statfs(self, inode: Inode, request: Request) -> bytes:  # noqa: ARG002
        # By descriptor: the path leads through directories that are closed to users.
        return fuse.statfs_reply(os.fstatvfs(inode.fd))

    # ------------------------------------------------------------------ files

    def op_create(self, directory: Inode, request: Request) -> bytes:
        flags, mode = request.numbers("II")
        (name,) = request.names
        access = flags & os.O_ACCMODE
        before = self._cache.ask(directory)
        how = access | os.O_CREAT | flags & (os.O_EXCL | os.O_TRUNC) | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, how, mode & 0o7777, dir_fd=directory.fd)
        self._cache.changed_here(directory, before, (name,))
        kernel.become_root()  # The caller may have made a file that it may not open again.
        answer = self._entry(directory, name, os.open(f"/proc/self/fd/{fd}", os.O_PATH | os.O_CLOEXEC))
        inode = self._by_key[_key(os.fstat(fd))]
        return answer + fuse.open_reply(self.handles.open_file(inode, fd, writable=access != os.O_RDONLY))

    def op_open(self, inode: Inode, request: Request) -> bytes:
        st = self._cache.ask(inode)
        # NFSv4.0 opens by name; 3 and from 4.1 on by file handle, so that a name of yesterday still opens.
        if self.options.vers in ("4", "4.0") and inode.location and self._find(*inode.location) is not inode:
            raise OSError(errno.ESTALE, "another file has the name")
        flags = fuse.KEEP_CACHE
        if self.options.cto:
            self.handles.flush(inode)
            if signature_of(st) != inode.signature or not inode.settled:
                self._cache.refresh(inode, st)
                self._device.invalidate_attributes(inode.number)
                flags = 0
        access = request.numbers("I")[0] & os.O_ACCMODE
        fd = os.open(inode.path, access | os.O_CLOEXEC)
        return fuse.open_reply(self.handles.open_file(inode, fd, writable=access != os.O_RDONLY), flags)

    def op_read(self, inode: Inode, request: Request) -> bytes:
        handle, offset, size = request.numbers("QQI")
        if self.options.vers.startswith("3"):
            self._cache.ask(inode)
        self.handles.flush(inode)
        return os.pread(self.handles[handle].fd, size, offset)

    def op_write(self, inode: Inode, request: Request) -> bytes:
        handle, offset, size = request.numbers("QQI")
        data = request.body[40 : 40 + size]
        if self.options.vers.startswith("3"):
            self._cache.ask(inode)
        self.handles.tell_write_error(inode)
        if self.options.wdelay > 0:
            if not inode.dirty:
                self._later(self.options.wdelay, lambda: self.handles.flush(inode))
            self.handles.write_behind(inode, offset, data)
        else:
            write_all(self.handles[handle].fd, offset, data)
        return struct.pack("<II", size, 0)

    def op_flush(self, inode: Inode, request: Request) -> bytes:
        """A descriptor is closed: a client now sends what it has. The last moment to tell an error."""
        if self.handles[request.numbers("Q")[0]].writable:
            self.handles.flush(inode)
            self.handles.tell_write_error(inode)
        return b""

    def op_fsync(self, inode: Inode, request: Request) -> bytes:
        self.handles.flush(inode)
        os.fsync(self.handles[request.numbers("Q")[0]].fd)
        self.handles.tell_write_error(inode)
        return b""

    def op_release(self, inode: Inode, request: Request) -> bytes:  # noqa: ARG002
        kernel.become_root()
        self.handles.close(request.numbers("Q")[0])
        return b""

    # ------------------------------------------------------------------ directories

    def op_opendir(self, directory: Inode, request: Request) -> bytes:  # noqa: ARG002
        if self._cache.revalidate(directory, always=self.options.cto):
            # Close-to-open holds for directories, too: fstat() of this descriptor tells what is so now.
            self._device.invalidate_attributes(directory.number)
        fd = os.open(directory.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if directory.listing is None or directory.listed != directory.signature:
                settled = self._cache.is_settled(os.fstat(fd))
                directory.listing = list(_list(fd))
                directory.listed = directory.signature if settled else None
        finally:
            os.close(fd)
        here = [(b".", directory.key[1], DT_DIR), (b"..", 1, DT_DIR)]
        return fuse.open_reply(self.handles.open_directory(directory, here + directory.listing))

    def op_readdir(self, directory: Inode, request: Request) -> bytes:
        number, start, size = request.numbers("QQI")
        handle = self.handles[number]
        listing = handle.listing or []
        if start == 0:
            listing = handle.listing = self._distort(self.path_of(directory), request.uid, listing)
        return fuse.directory_reply(listing, start, size)

    def op_releasedir(self, directory: Inode, request: Request) -> bytes:  # noqa: ARG002
        self.handles.close(request.numbers("Q")[0])
        return b""

    def op_fsyncdir(self, directory: Inode, request: Request) -> bytes:  # noqa: ARG002
        return b""

    # ------------------------------------------------------------------ helpers

    def _known(self, fd: int) -> Inode:
        """The inode behind an O_PATH descriptor, which it takes over."""
        key = _key(os.fstat(fd))
        inode = self._by_key.get(key)
        if inode is None:
            inode = Inode(next(self._numbers), fd, key)
            self.inodes[inode.number] = self._by_key[key] = inode
        else:
            os.close(fd)
        return inode

    def _find(self, directory: Inode, name: bytes) -> Inode | None:
        """The inode the server has under this name now, if the kernel knows it."""
        if self.inodes.get(directory.number) is not directory:
            return None
        try:
            return self._by_key.get(_key(os.stat(name, dir_fd=directory.fd, follow_symlinks=False)))
        except OSError:
            return None

    def _other(self, request: Request) -> Inode | None:
        """The second node of a rename (the new directory) or a link (the file)."""
        return self.inodes.get(request.numbers("Q")[0])

    def _entry(self, directory: Inode, name: bytes, fd: int = -1) -> bytes:
        if fd < 0:
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory.fd)
        inode = self._known(fd)
        inode.lookups += 1
        inode.location = (directory, name)
        self.handles.flush(inode)
        st = os.fstat(inode.fd)
        if self._cache.refresh(inode, st):
            if stat.S_ISDIR(st.st_mode):
                self._cache.forget_names(inode)
            else:
                self._device.invalidate_attributes(inode.number)
        valid_s = 0.0 if self.options.lookupcache == "none" else self._cache.names_valid_s(directory)
        if valid_s:
            directory.names.add(name)
        return fuse.entry_reply(
            inode.number, valid_s, self._cache.attributes_valid_s(inode), self._pack(inode, st)
        )

    def _make(self, directory: Inode, name: bytes, make: Callable[[], None]) -> bytes:
        before = self._cache.ask(directory)
        make()
        self._cache.changed_here(directory, before, (name,))
        return self._entry(directory, name)

    def _pack(self, inode: Inode, st: os.stat_result) -> bytes:
        size = max([st.st_size, *(offset + len(data) for offset, data in inode.dirty)])
        return fuse.attributes(st, size, int(self.options.skew * 1e9), int(self.options.gran * 1e9))

    def _attributes_reply(self, inode: Inode, st: os.stat_result) -> bytes:
        return fuse.attributes_reply(self._cache.attributes_valid_s(inode), self._pack(inode, st))

    def _open_here(self, directory: Inode, name: bytes) -> Inode | None:
        """The file under this name, if removing the name would take it from a process of this node."""
        inode = self._find(directory, name)
        if inode is None or not inode.opens or inode.silly:
            return None
        st = os.fstat(inode.fd)
        return inode if st.st_nlink == 1 and not stat.S_ISDIR(st.st_mode) else None


def _key(st: os.stat_result) -> tuple[int, int]:
    return st.st_dev, st.st_ino


def _list(fd: int) -> Iterator[tuple[bytes, int, int]]:
    with os.scandir(fd) as entries:
        for entry in entries:
            if entry.is_symlink():
                kind = DT_LNK
            elif entry.is_dir():
                kind = DT_DIR
            else:
                kind = DT_REG if entry.is_file() else DT_UNKNOWN
            yield os.fsencode(entry.name), entry.inode(), kind
