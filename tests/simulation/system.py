"""`os` as the code under test finds it, for whichever process has its turn.

What is not here the code under test must not use: it fails loudly.
"""

from __future__ import annotations

import errno
import os as real_os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from tests.simulation import calls
from tests.simulation.disk import Status, fault
from tests.simulation.lives import Fork
from tests.simulation.machine import End, File, Pipe

_USAGE = SimpleNamespace(ru_utime=0.0, ru_stime=0.0, ru_maxrss=1)


def _is_shared(path: str) -> bool:
    return path.startswith("/home")


class _Entry:
    __slots__ = ("_number", "name")

    def __init__(self, name: str, number: int) -> None:
        self.name, self._number = name, number

    def inode(self) -> int:
        return self._number


class _Entries:
    """What scandir(3) gives."""

    def __init__(self, entries: list[tuple[str, int]]) -> None:
        self._entries = entries

    def __enter__(self) -> Iterator[_Entry]:
        return iter(self)

    def __exit__(self, *_: object) -> None:
        pass

    def __iter__(self) -> Iterator[_Entry]:
        return (_Entry(name, number) for name, number in self._entries)


class _Path:
    """os.path."""

    def __init__(self) -> None:
        for name in ("dirname", "basename", "join", "normpath", "isabs", "split"):
            setattr(self, name, getattr(real_os.path, name))

    def _status(self, path: str) -> Status | None:
        try:
            return SimOS.stat(path)
        except OSError:
            return None

    def isdir(self, path: str) -> bool:
        status = self._status(path)
        return status is not None and status.st_mode & 0o170000 == 0o040000

    def exists(self, path: str) -> bool:
        return self._status(path) is not None

    lexists = exists

    def islink(self, _path: str) -> bool:
        return False

    def realpath(self, path: str) -> str:
        return path

    def samefile(self, one: str, other: str) -> bool:
        return one == other


class SimOS:
    """The `os` of every module under test."""

    path = _Path()
    error = OSError
    stat_result = real_os.stat_result
    devnull, defpath = real_os.devnull, real_os.defpath
    strerror = staticmethod(real_os.strerror)
    fsencode, fsdecode = staticmethod(real_os.fsencode), staticmethod(real_os.fsdecode)
    waitstatus_to_exitcode = staticmethod(real_os.waitstatus_to_exitcode)
    WEXITSTATUS, WTERMSIG = staticmethod(real_os.WEXITSTATUS), staticmethod(real_os.WTERMSIG)
    WIFEXITED, WIFSIGNALED = staticmethod(real_os.WIFEXITED), staticmethod(real_os.WIFSIGNALED)
    WNOHANG = real_os.WNOHANG
    R_OK, W_OK, X_OK, F_OK = real_os.R_OK, real_os.W_OK, real_os.X_OK, real_os.F_OK
    O_RDONLY, O_WRONLY, O_RDWR, O_CREAT = real_os.O_RDONLY, real_os.O_WRONLY, real_os.O_RDWR, real_os.O_CREAT
    O_EXCL, O_CLOEXEC, O_NOFOLLOW, O_NOCTTY = (
        real_os.O_EXCL,
        real_os.O_CLOEXEC,
        real_os.O_NOFOLLOW,
        real_os.O_NOCTTY,
    )
    O_DIRECTORY, O_NONBLOCK, O_PATH = real_os.O_DIRECTORY, real_os.O_NONBLOCK, real_os.O_PATH
    O_TRUNC, O_APPEND = real_os.O_TRUNC, real_os.O_APPEND

    @property
    def environ(self) -> dict[str, str]:
        return calls.process().environment

    # ------------------------------------------------------------ who

    @staticmethod
    def sched_getaffinity(_pid: int) -> set[int]:
        return set(range(calls.process().node.cores))

    @staticmethod
    def getpid() -> int:
        return calls.process().pid

    @staticmethod
    def geteuid() -> int:
        return calls.process().user

    getuid = geteuid

    @staticmethod
    def urandom(count: int) -> bytes:
        calls.process()
        return calls.world.rng.randbytes(count)

    @staticmethod
    def setsid() -> None:
        calls.process()

    @staticmethod
    def chdir(_path: str) -> None:
        calls.process()

    @staticmethod
    def nice(_by: int) -> int:
        return 0

    # ------------------------------------------------------------ descriptors

    @staticmethod
    def open(path: str, flags: int, mode: int = 0o777) -> int:
        me = calls.process()
        if not _is_shared(path):
            return me.add(File(None))
        client = me.node.client
        if flags & real_os.O_CREAT:
            if not flags & real_os.O_EXCL:
                raise NotImplementedError(f"open of {path} without O_EXCL")
            inode = calls.changing("create", path, path, lambda: client.create(path, mode, me.user))
            return me.add(File(inode))
        inode = calls.shared("open", path, lambda: client.open(path))
        if flags & real_os.O_DIRECTORY and not inode.is_directory:
            raise fault(errno.ENOTDIR, path)
        return me.add(File(inode))

    @staticmethod
    def close(descriptor: int) -> None:
        me = calls.process()
        held = me.descriptors.get(descriptor)
        if held is None:
            raise fault(errno.EBADF)
        try:
            if isinstance(held, File) and held.is_dirty:
                _flush(held, "close")
        finally:
            me.close(descriptor)

    @staticmethod
    def fstat(descriptor: int) -> Status:
        held = _file(descriptor)
        assert held.inode is not None
        _believed(held)
        return Status(held.inode)

    @staticmethod
    def read(descriptor: int, most: int) -> bytes:
        held = calls.process().descriptors.get(descriptor)
        if isinstance(held, End):
            return _read_pipe(held.pipe, most)
        file = _file(descriptor)
        inode = file.inode
        assert inode is not None
        if file.place:
            # The end of the file: the client knows its size.
            chunk = inode.data[file.place : file.place + most]
        else:
            _believed(file)
            chunk = calls.shared("read", calls.world.disk.name_of(inode), lambda: inode.data[:most])
        file.place += len(chunk)
        return chunk

    @staticmethod
    def write(descriptor: int, data: bytes | memoryview) -> int:
        held = calls.process().descriptors.get(descriptor)
        if isinstance(held, End):
            return _write_pipe(held.pipe, bytes(data))
        file = _file(descriptor)
        if file.inode is not None:
            # It goes to the client's memory; what is wrong there shows now or when it is sent.
            calls.shared("write", calls.world.disk.name_of(file.inode), lambda: None)
            file.written += bytes(data)
            file.is_dirty = True
            if calls.world.disk.journals:
                calls.world.disk.write(file.inode, file.written)
        return len(data)

    @staticmethod
    def fsync(descriptor: int) -> None:
        file = _file(descriptor)
        inode = file.inode
        assert inode is not None
        if file.is_dirty:
            _flush(file, "fsync")
        else:
            calls.shared("fsync", calls.world.disk.name_of(inode), lambda: None)
        calls.world.disk.sync(inode)

    @staticmethod
    def fchmod(descriptor: int, mode: int) -> None:
        inode = _file(descriptor).inode
        assert inode is not None
        inode.mode = inode.mode & ~0o7777 | mode

    @staticmethod
    def pipe2(_flags: int = 0) -> tuple[int, int]:
        me = calls.process()

        def made() -> tuple[int, int]:
            pipe = Pipe()
            return me.add(End(pipe, is_writer=False)), me.add(End(pipe, is_writer=True))

        return Fork.remembered(made)

    pipe = pipe2

    @staticmethod
    def dup2(_one: int, other: int, **_: Any) -> int:
        return other

    # ------------------------------------------------------------ names

    @staticmethod
    def scandir(path: str) -> _Entries:
        client = calls.process().node.client
        return _Entries(calls.shared("list", path, lambda: client.list(path)))

    @staticmethod
    def stat(path: str, **_: Any) -> Status:
        client = calls.process().node.client
        return calls.shared("stat", path, lambda: client.status(path))

    lstat = stat

    @staticmethod
    def access(path: str, _mode: int, **_: Any) -> bool:
        SimOS.stat(path)
        return True

    @staticmethod
    def rename(source: str, target: str) -> None:
        client = calls.process().node.client
        calls.changing("rename", f"{source} -> {target}", target, lambda: client.rename(source, target))
        calls.process().node.touched(source.rpartition("/")[0])

    @staticmethod
    def link(source: str, target: str, **_: Any) -> None:
        client = calls.process().node.client
        calls.changing("link", f"{source} -> {target}", target, lambda: client.link(source, target))

    @staticmethod
    def unlink(path: str) -> None:
        client = calls.process().node.client
        calls.changing("unlink", path, path, lambda: client.unlink(path))

    remove = unlink

    @staticmethod
    def mkdir(path: str, mode: int = 0o777) -> None:
        me = calls.process()
        calls.changing(
            "mkdir", path, path, lambda: me.node.client.create(path, mode, me.user, is_directory=True)
        )

    @staticmethod
    def rmdir(path: str) -> None:
        client = calls.process().node.client
        calls.changing("rmdir", path, path, lambda: client.rmdir(path))

    @staticmethod
    def chmod(path: str, mode: int) -> None:
        client = calls.process().node.client

        def change() -> None:
            inode = client.find(path)
            inode.mode = inode.mode & ~0o7777 | mode

        calls.shared("chmod", path, change)

    @staticmethod
    def utime(path: str, _times: Any = None, *, ns: tuple[int, int] | None = None, **_: Any) -> None:
        client = calls.process().node.client

        def change() -> None:
            inode = client.open(path)
            inode.mtime_ns = calls.world.disk.clock_ns() if ns is None else ns[1]
            calls.world.judge.renewed(path)

        calls.shared("utime", path, change)

    # ------------------------------------------------------------ processes

    @staticmethod
    def fork() -> int:
        return Fork.fork()

    @staticmethod
    def _exit(code: int) -> None:
        me = calls.process()
        calls.world.note("exit", str(code))
        me.has_left = True
        me.die(code << 8)
        calls.world.schedule.vanish()

    @staticmethod
    def kill(pid: int, number: int) -> None:
        found = calls.process().node.processes.get(pid)
        if found is None:
            raise fault(errno.ESRCH)
        found.signal(number)

    @staticmethod
    def waitpid(pid: int, options: int) -> tuple[int, int]:
        found, status, _ = SimOS.wait4(pid, options)
        return found, status

    @staticmethod
    def wait4(_pid: int, options: int) -> tuple[int, int, Any]:
        me = calls.process()
        if not me.children:
            raise ChildProcessError(errno.ECHILD, "no child")
        if not options & real_os.WNOHANG:
            raise NotImplementedError("waiting for a child without WNOHANG")
        for child in me.children:
            if not child.is_alive:
                child.reap()
                calls.world.note("reap", f"{child!r} {child.status}")
                return child.pid, child.status, _USAGE
        return 0, 0, _USAGE

    def __getattr__(self, name: str) -> Any:
        raise NotImplementedError(f"the simulation has no os.{name}")


def _file(descriptor: int) -> File:
    held = calls.process().descriptors.get(descriptor)
    if not isinstance(held, File):
        raise fault(errno.EBADF)
    return held


def _believed(file: File) -> None:
    """A file that another node took away while it is open: the server may not know the handle any more."""
    inode = file.inode
    assert inode is not None
    client = calls.process().node.client
    if (
        inode.links == 0
        and client.remembers
        and inode.removed_by is not client
        and calls.world.random() < 0.5
    ):
        raise fault(errno.ESTALE)


def _flush(file: File, kind: str) -> None:
    inode = file.inode
    assert inode is not None
    file.is_dirty = False
    calls.shared(kind, calls.world.disk.name_of(inode), lambda: calls.world.disk.write(inode, file.written))


def _read_pipe(pipe: Pipe, most: int) -> bytes:
    me = calls.process()
    if not pipe.data and me.kind == "daemon":
        # The daemon's own wake-up pipe does not block.
        raise BlockingIOError(errno.EAGAIN, "nothing to read")
    while not pipe.data and pipe.writers:
        pipe.waiting.append(calls.actor())
        calls.world.schedule.wait()
    calls.local("gate")
    data, pipe.data = pipe.data[:most], pipe.data[most:]
    return data


def _write_pipe(pipe: Pipe, data: bytes) -> int:
    calls.local("gate")
    if not pipe.readers:
        raise BrokenPipeError(errno.EPIPE, "nobody reads")
    pipe.data += data
    waiting, pipe.waiting = pipe.waiting, []
    for one in waiting:
        calls.world.schedule.wake(one)
    return len(data)
