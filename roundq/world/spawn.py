"""Starting a process: what a supervisor does to itself, and how it executes a command.

Called by a process with a single thread. The command is executed without any shell. Failures
before the command runs are told apart from failures of the command: the child reports them
over a pipe that a successful exec closes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from roundq.world.cgroup import Group

#: <linux/prctl.h>
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
#: execve(2): what the kernel reads of a `#!` line.
_INTERPRETER_BYTES_MAX = 256
_REPORT_BYTES_MAX = 1 << 16
_STALE_TRIES_MAX = 3
_OOM_SCORE, _OOM_SCORE_MAX = "/proc/self/oom_score_adj", 1000


class SpawnError(Exception):
    """The command was not executed. The text is one sentence for people.

    `stage` is "directory" (it could not be entered), "command" (it could not be executed), "interpreter"
    (it is there, but what its `#!` line names, or the loader that it was linked for, is not) or "setup" (the
    process itself could not be made ready); `errno` is why, `path` what.
    """

    def __init__(self, stage: str, number: int, path: str, text: str) -> None:
        super().__init__(text)
        self.stage = stage
        self.errno = number
        self.path = path


# ---------------------------------------------------------------- oneself


def prepare() -> None:
    """Load what `become_subreaper` and `set_title` need. A daemon that does so before it forks its
    supervisors spares each of them 2.5 ms and 1.5 MiB of private memory (measured)."""
    global _titles
    _libc()
    if _titles is None:
        import setproctitle

        # It remembers where the title goes.
        setproctitle.getproctitle()
        _titles = setproctitle


_libc_loaded: Any = None
_titles: Any = None


def _libc() -> Any:
    global _libc_loaded
    if _libc_loaded is None:
        import ctypes

        _libc_loaded = ctypes.CDLL(None, use_errno=True)
    return _libc_loaded


def become_subreaper() -> None:
    """From now on orphaned descendants become children of this process (prctl(2), Linux 3.4).

    Not inherited by children. Raises OSError if the kernel refuses.
    """
    import ctypes

    if _libc().prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot become a subreaper: {os.strerror(number)}")


def set_name(name: bytes) -> None:
    """What `ps -o comm` and `top` show for this process; cut to 15 bytes by the kernel (proc(5), comm)."""
    # It is cosmetic: a container that forbids it changes nothing.
    with contextlib.suppress(OSError):
        descriptor = os.open("/proc/self/comm", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, name[:15])
        finally:
            os.close(descriptor)


def set_title(title: bytes) -> None:
    """What `ps -f` shows for this process and `pkill -f` looks for, from now on.

    A supervisor is forked from a daemon and would bear its command line: whoever ends daemons by that
    must not end the jobs. The title takes the place of the first words and of the environment that
    others see of this process, not of the environment that it has. Without `prepare` nothing happens.
    """
    if _titles is not None:
        with open("/proc/self/comm", "rb") as file:
            name = file.read().rstrip(b"\n")
        _titles.setproctitle(os.fsdecode(title))
        # It changes that, too.
        set_name(name)


def close_inherited(keep: Collection[int]) -> None:
    """Close every descriptor of this process but those to keep.

    0, 1 and 2 are pointed at /dev/null instead: left closed, the next file opened would become one of
    them and receive what somebody prints.
    """
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for descriptor in {0, 1, 2, *_descriptors()} - set(keep) - {null}:
        if descriptor <= 2:
            os.dup2(null, descriptor)
        else:
            # The one that listed the directory is closed by now.
            with contextlib.suppress(OSError):
                os.close(descriptor)
    if null > 2:
        os.close(null)
    else:
        os.set_inheritable(null, True)


def _descriptors() -> list[int]:
    return [int(name) for name in os.listdir("/proc/self/fd")]


def helper(serve: Callable[[int, int], None], keep: Collection[int] = ()) -> tuple[int, int, int]:
    """Fork a process that serves this one until it is no longer asked: its pid, a pipe to it, one from it.

    It calls `serve` with its ends of them, has no other descriptors but those to keep, default signal
    handlers, and dies with this process. The caller reaps it.
    """
    parent = os.getpid()
    asked, asking = os.pipe2(os.O_CLOEXEC)
    answering, answered = os.pipe2(os.O_CLOEXEC)
    try:
        pid = os.fork()
    except OSError:
        for descriptor in (asked, asking, answering, answered):
            os.close(descriptor)
        raise
    if pid == 0:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
                signal.signal(number, signal.SIG_DFL)
            # At once: it must not hold what its parent has locked, nor the terminal that others wait for.
            close_inherited({asked, answered, *keep})
            _libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() == parent:
                set_name(b"rq:reader")
                set_title(b"rq reader of other homes")
                serve(asked, answered)
                code = 0
        finally:
            os._exit(code)
    os.close(asked)
    os.close(answered)
    return pid, asking, answering


# ---------------------------------------------------------------- a command


def spawn(
    argv: Sequence[str],
    *,
    cwd: str,
    env: Mapping[str, str],
    stdin: int,
    stdout: int,
    stderr: int,
    umask: int | None = None,
    nice: int | None = 19,
    affinity: Collection[int] | None = None,
    new_session: bool = True,
    group: Group | None = None,
    oom_score: int = 0,
) -> int:
    """Execute a command and return its pid once it runs. Raises `SpawnError`; then no child is left.

    As `launch` and `launched` in one; it waits for as long as entering `cwd` and reading
    the command take, which on a shared file system without its server is for ever.
    """
    pid, report = launch(
        argv,
        cwd=cwd,
        env=env,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        umask=umask,
        nice=nice,
        affinity=affinity,
        new_session=new_session,
        group=group,
        oom_score=oom_score,
    )
    launched(pid, report)
    return pid


def launch(
    argv: Sequence[str],
    *,
    cwd: str,
    env: Mapping[str, str],
    stdin: int,
    stdout: int,
    stderr: int,
    umask: int | None = None,
    nice: int | None = 19,
    affinity: Collection[int] | None = None,
    new_session: bool = True,
    group: Group | None = None,
    oom_score: int = 0,
) -> tuple[int, int]:
    """Begin to execute a command: its pid, and a descriptor that is readable when that is decided.

    The caller hands both to `launched`. The command is killed when the calling thread ends (prctl(2),
    PR_SET_PDEATHSIG), unless it has other rights than the caller. Words, environment and paths are `str`
    with surrogateescape (os.fsencode), so any bytes go. A command with a `/` is relative to `cwd`; others
    are looked up along the PATH of `env`. Of `env` nothing is added or left out. The child has default
    signal handlers, an empty signal mask, and no descriptor but the three given; `nice` is not lowered
    below the present one; `affinity` are CPU numbers. It enters the control group before it executes; that
    it could not is seen by looking there. `oom_score` is added to our own oom_score_adj, proc(5). Raises
    `SpawnError` of stage "setup" if no process could be made.
    """
    try:
        words = [os.fsencode(word) for word in argv]
        environment = {os.fsencode(name): os.fsencode(value) for name, value in env.items()}
        command, directory = words[0], os.fsencode(cwd)
        if b"\0" in b"".join((*words, *environment, *environment.values(), directory)):
            raise ValueError("a NUL byte")
        if any(not name or b"=" in name for name in environment):
            raise ValueError("a variable's name is empty or holds `=`")
    except (ValueError, IndexError) as error:
        text = f"the command or its environment cannot be passed on: {error}"
        raise SpawnError("setup", errno.EINVAL, "", text) from None

    opened: list[int] = []
    # Signals wait until the child has handlers of its own: a Python handler, or the wakeup descriptor it
    # shares with us, must not hear of what was sent to the child.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        report, told = os.pipe2(os.O_CLOEXEC)
        opened += [report, told]
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            _child(command, words, environment, directory, (stdin, stdout, stderr), told,
                   umask, nice, affinity, new_session, group, oom_score, parent)  # fmt: skip
        opened.remove(report)
    except OSError as error:
        number = error.errno or errno.EINVAL
        text = f"no process could be made for it: {os.strerror(number)}"
        raise SpawnError("setup", number, "", text) from None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for descriptor in opened:
            os.close(descriptor)
    return pid, report


def launched(pid: int, report: int) -> None:
    """Wait until the command of `launch` runs, or raise `SpawnError` and reap its process.

    Closes `report`. Returns also if the process was killed before it could say anything: then its
    wait status tells.
    """
    chunks = []
    try:
        while chunk := os.read(report, _REPORT_BYTES_MAX):
            chunks.append(chunk)
    finally:
        os.close(report)
    if not chunks:
        return
    os.waitpid(pid, 0)
    stage, number, path, text = b"".join(chunks).split(b"\0", 3)
    raise SpawnError(stage.decode(), int(number), os.fsdecode(path), os.fsdecode(text))


def _child(
    command: bytes,
    words: list[bytes],
    environment: dict[bytes, bytes],
    directory: bytes,
    streams: tuple[int, int, int],
    told: int,
    umask: int | None,
    nice: int | None,
    affinity: Collection[int] | None,
    new_session: bool,
    group: Group | None,
    oom_score: int,
    parent: int,
) -> NoReturn:
    """What the child does: it executes the command, or reports and leaves. Never returns, never raises."""
    stage, path = "setup", b""
    try:
        # Everything above 2 first, else one of the streams, or the pipe, is overwritten by another.
        told = fcntl.fcntl(told, fcntl.F_DUPFD_CLOEXEC, 3)
        for target, stream in enumerate([fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, 3) for one in streams]):
            os.dup2(stream, target)
        for descriptor in _descriptors():
            if descriptor > 2:
                with contextlib.suppress(OSError):
                    os.set_inheritable(descriptor, False)
        # Before its exec nothing tells whose it is: if its parent dies now, it must not go on. And after it,
        # a command without its supervisor has no limit, no outcome and no owner; it dies in that instant.
        _libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(127)
        if group is not None:
            _put("0", group.entrance)
        if oom_score:
            _put(str(min(_OOM_SCORE_MAX, _own_oom_score() + oom_score)), _OOM_SCORE)
        if new_session:
            os.setsid()
        if umask is not None:
            os.umask(umask)
        if nice is not None and nice > os.getpriority(os.PRIO_PROCESS, 0):
            os.setpriority(os.PRIO_PROCESS, 0, nice)
        if affinity is not None:
            os.sched_setaffinity(0, affinity)
        stage, path = "directory", directory
        _firmly(os.chdir, directory)
        stage, path = "command", command
        # An exec keeps ignored signals ignored, and Python ignores SIGPIPE and SIGXFSZ.
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        path, error = _execute(command, words, environment)
        if error.errno == errno.ENOENT and os.path.exists(path):
            stage = "interpreter"
        text = _why_not(path, error, environment)
    except BaseException as caught:
        error = caught if isinstance(caught, OSError) else OSError(errno.EINVAL, str(caught))
        reason = os.strerror(error.errno or 0)
        text = {
            "setup": f"its process could not be made ready: {reason}",
            "directory": f"cannot enter {os.fsdecode(path)}: {reason}",
        }.get(stage, f"cannot execute {os.fsdecode(path)}: {caught}")
    with contextlib.suppress(BaseException):
        os.write(
            told,
            b"\0".join(
                (stage.encode(), b"%d" % (error.errno or 0), path, text.encode(errors="surrogateescape"))
            ),
        )
    os._exit(127)


def _put(text: str, path: str) -> None:
    """Write to a file of the kernel; what it does not allow here is done without."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)


def _own_oom_score() -> int:
    try:
        with open(_OOM_SCORE, "rb") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0


def _execute(command: bytes, words: list[bytes], environment: dict[bytes, bytes]) -> tuple[bytes, OSError]:
    """Try to execute, along PATH if need be; returns only in failure, with the path that failed and how.

    As execvp(3): a file that cannot be executed does not end the search, but is what is reported
    if nothing else is found. Unlike it, a file of no known format is not given to a shell.
    """
    if b"/" in command:
        candidates = [command]
    else:
        places = environment.get(b"PATH", os.fsencode(os.defpath)).split(b":")
        candidates = [os.path.join(place or b".", command) for place in places]
    failed: tuple[bytes, OSError] | None = None
    for path in candidates:
        try:
            _firmly(os.execve, path, words, environment)
        except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
            # A file that is there but gives ENOENT lacks its interpreter.
            if failed is None and (path == command or os.path.lexists(path)):
                failed = path, error
        except OSError as error:
            return path, error
    return failed or (command, FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)))


def _firmly(call: Callable[..., None], *arguments: object) -> None:
    """Call again after ESTALE: an NFS client forgets the stale handle and looks afresh."""
    for _ in range(_STALE_TRIES_MAX - 1):
        try:
            return call(*arguments)
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
    return call(*arguments)


def _why_not(path: bytes, error: OSError, environment: Mapping[bytes, bytes]) -> str:
    """Why execve(2) refused this path, in words; its errno alone would often mislead."""
    shown = os.fsdecode(path)
    reason = os.strerror(error.errno or 0)
    if error.errno == errno.ENOENT and os.path.lexists(path):
        interpreter = _interpreter(path)
        if not os.path.exists(path):
            reason = "it is a symbolic link to nothing"
        elif interpreter is None:
            reason = "it exists, but the loader it was linked for does not"
        else:
            reason = f"it exists, but its interpreter {interpreter!r} does not"
    elif error.errno == errno.ENOENT and b"/" not in path:
        places = os.fsdecode(environment.get(b"PATH", os.fsencode(os.defpath)))
        reason = f"not found along PATH={places}"
    elif error.errno == errno.ENOEXEC:
        reason = "not an executable format (a script needs a first line such as #!/bin/sh)"
    elif error.errno == errno.EACCES and os.path.isdir(path):
        reason = "it is a directory"
    elif error.errno == errno.EACCES and os.path.exists(path) and not os.access(path, os.X_OK):
        reason = "it is not marked as executable (chmod +x)"
    return f"cannot execute {shown}: {reason}"


def _interpreter(path: bytes) -> str | None:
    """The interpreter that the `#!` line of a script names, None if it has no such line."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        line = os.read(descriptor, _INTERPRETER_BYTES_MAX).split(b"\n")[0]
    except OSError:
        return None
    finally:
        os.close(descriptor)
    words = line[2:].strip(b" \t").split(None, 1) if line.startswith(b"#!") else []
    # `split` would hide what is the commonest reason: a line that ends as on Windows.
    return (
        os.fsdecode(words[0] + (b"\r" if line.endswith(b"\r") and len(words) == 1 else b""))
        if words
        else None
    )
