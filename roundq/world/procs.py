"""Processes of this node: who they are, what they left behind, and a signal to one of them.

The only module that reads the process table; called by the supervisor for its own job, and by
the daemon for what dead supervisors left. `roundq.world.spawn` starts processes,
`roundq.world.killing` ends them. Nothing here knows what a job is.

A pid alone names nobody for long, so everything below takes and gives `Identity`:
boot id, pid and start time. Facts of /proc are from proc(5); errors that are not
"there is no such process" are never taken for one.
"""

from __future__ import annotations

import contextlib
import enum
import functools
import os
import signal
from typing import TYPE_CHECKING, NamedTuple

from roundq.words.job import Identity

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

#: How often those that a tracer holds are looked for in a row.
_HELD_LOOKS = 3
#: proc(5): a stat line is far shorter; a name may hold any bytes, but only 15 (64 for kernel threads).
_STAT_BYTES_MAX = 4096


class Liveness(enum.Enum):
    """What is known of a process. UNKNOWN is an answer: who must be sure has to treat it as alive."""

    ALIVE = "alive"
    DEAD = "dead"
    UNKNOWN = "unknown"


class Process(NamedTuple):
    """One line of the process table: /proc/PID/stat, see proc(5).

    `start` is in clock ticks since boot, `rss_bytes` the resident memory, shared pages
    included. `dead` is true of a zombie that waits to be reaped, `stopped` after SIGSTOP or by a tracer.
    """

    pid: int
    parent: int
    session: int
    start: int
    rss_bytes: int
    dead: bool
    stopped: bool = False

    @property
    def identity(self) -> Identity:
        return Identity(boot_id(), self.pid, self.start)


#: The process table at about one moment, by pid.
Table = dict[int, Process]


@functools.cache
def boot_id() -> str:
    """The kernel's random id of this boot (random(4)). It cannot change while this process lives."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def space() -> str:
    """Which table of processes is ours, pid_namespaces(7): in another one a pid is somebody else's. Empty if
    unknown."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


# ---------------------------------------------------------------- who is it


def parse_stat(line: bytes) -> Process:
    """What a /proc/PID/stat line says. Raises ValueError for anything else.

    The name in parentheses is the process's own choice: it may hold blanks, newlines
    and parentheses, so the last `)` of the line is the one that ends it.
    """
    left, right = line.find(b"("), line.rfind(b")")
    fields = line[right + 1 :].split()
    if not 0 < left < right or len(fields) < 22:
        raise ValueError(f"not a stat line: {line[:80]!r}")
    # Fields 3 (state), 4 (ppid), 6 (session), 20 (num_threads), 22 (starttime), 24 (rss, in pages).
    # A leader that left by pthread_exit is shown as a zombie while its other threads run on.
    dead = fields[0] in (b"Z", b"X", b"x") and int(fields[17]) <= 1
    return Process(
        pid=int(line[:left]),
        parent=int(fields[1]),
        session=int(fields[3]),
        start=int(fields[19]),
        rss_bytes=max(0, int(fields[21])) * _page_bytes(),
        dead=dead,
        stopped=fields[0] in (b"T", b"t"),
    )


@functools.cache
def _page_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE")


def _read(path: str, bytes_max: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, bytes_max)
    finally:
        os.close(descriptor)


def _look(pid: int) -> Process | None:
    """The process of this pid, None when there is none. Raises OSError when that cannot be told."""
    try:
        return parse_stat(_read(f"/proc/{pid}/stat", _STAT_BYTES_MAX))
    except (FileNotFoundError, ProcessLookupError):
        # With the mount option hidepid=2 other users' processes look like this too.
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    raise PermissionError(f"process {pid} exists, but /proc does not show it")


def identity(pid: int) -> Identity | None:
    """Who has this pid now; None if nobody, or if it cannot be told. A zombie still has its pid."""
    try:
        process = _look(pid)
    except OSError:
        return None
    return None if process is None else process.identity


def own_identity() -> Identity:
    """The identity of this process. Raises OSError where /proc is not mounted."""
    return parse_stat(_read("/proc/self/stat", _STAT_BYTES_MAX)).identity


def liveness(of: Identity, uid: int | None = None) -> Liveness:
    """Whether this process still lives. Only of processes of *this* node.

    With `uid` it must be a process of this user: one of somebody else counts as dead.

    A process of another boot is dead, and so is one whose pid belongs to somebody who
    started at another time, or who only waits to be reaped. What /proc hides from us
    (hidepid, see proc(5)) is unknown, not dead: EPERM means that somebody is there.
    """
    if of.boot != boot_id():
        return Liveness.DEAD
    try:
        process = _look(of.pid)
    except OSError:
        return Liveness.UNKNOWN
    if process is None or process.start != of.start or process.dead:
        return Liveness.DEAD
    if uid is not None and real_uid(of.pid) not in (uid, None):
        return Liveness.DEAD
    return Liveness.ALIVE


def exists(pid: int, uid: int) -> bool:
    """Whether some process of this user has the pid; all that 0.2.9, which records no more, lets us ask."""
    if pid < 1:
        # To kill(2) that would be a group.
        return False
    try:
        process = _look(pid)
    except OSError:
        # Somebody is there, and hidden from us.
        return True
    return process is not None and not process.dead and real_uid(pid) in (uid, None)


# ---------------------------------------------------------------- what is there


def table() -> Table:
    """Every process that /proc shows, read in one pass; about 20 us each.

    Not a snapshot: processes come and go meanwhile. Raises OSError when the pass could
    not be made (no descriptor left, no memory), since a table with holes would let
    the living pass for dead. Processes that the kernel hides from us are left out.
    """
    found: Table = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            process = parse_stat(_read(f"/proc/{name}/stat", _STAT_BYTES_MAX))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        found[process.pid] = process
    return found


def descendants(of: Identity, among: Table | None = None) -> list[Identity]:
    """The living children of a process, their children, and so on; not itself.

    An orphan counts only if it fell to this process or to a descendant of it as
    subreaper (`spawn.become_subreaper`): so for a supervisor this is everything that it
    started, whatever changed its session. `among` is a `table()` to use again.
    """
    processes = table() if among is None else among
    root = processes.get(of.pid)
    if root is None or root.identity != of:
        return []
    children: dict[int, list[Process]] = {}
    for process in processes.values():
        children.setdefault(process.parent, []).append(process)
    found: dict[int, Process] = {}
    generation = [root]
    while generation:
        # A pass over /proc is no snapshot: pids given away meanwhile can make it show a circle.
        generation = [
            child
            for parent in generation
            for child in children.get(parent.pid, ())
            if child.pid not in found and child.pid != root.pid
        ]
        found.update((process.pid, process) for process in generation)
    return [process.identity for process in found.values() if not process.dead]


def session_members(leader: Identity, among: Table | None = None) -> list[Identity]:
    """The living processes of the session that this process leads or led, itself included.

    The kernel gives the pid of a session to nobody while the session has members; once it
    had none, somebody else's session may bear the number. So none are found when the pid
    belongs to another process, and only those of my uid when the leader is gone.
    """
    processes = table() if among is None else among
    if leader.boot != boot_id():
        return []
    now = processes.get(leader.pid)
    if now is not None and now.start != leader.start:
        return []
    found = [process for process in processes.values() if process.session == leader.pid and not process.dead]
    if now is None:
        found = [process for process in found if real_uid(process.pid) == os.getuid()]
    return [process.identity for process in found]


def of_others(but: int) -> dict[int, tuple[int, int]]:
    """The pids of processes of other users than this one, each with what no later process of that pid has.

    By what the kernel shows without asking the process: root's may be among them that are not root's.
    """
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                status = os.stat(f"/proc/{name}")
                if status.st_uid != but:
                    found[int(name)] = (status.st_ino, status.st_ctime_ns)
    return found


def name(pid: int) -> bytes:
    """What a process calls itself, at most 15 bytes. Raises OSError if there is none, or it is hidden."""
    return _read(f"/proc/{pid}/comm", 64).rstrip(b"\n")


def words(pid: int, bytes_max: int) -> bytes:
    """The words of a process, as it likes to show them, each ended by a NUL. Raises OSError as `name`."""
    return _read(f"/proc/{pid}/cmdline", bytes_max)


def real_uid(pid: int) -> int | None:
    """The user whose process this is, None if that cannot be told.

    The owner of /proc/PID is root for processes that may not be dumped (ssh-agent), hence status.
    """
    words = _status(pid, b"Uid:")
    return int(words[0]) if words else None


def own_umask() -> int:
    """The umask of this process, read: to ask for it by setting it would disturb other threads."""
    found = _status(os.getpid(), b"Umask:")
    return int(found[0], 8) if found else 0o022


def is_contained(pid: int) -> bool:
    """Whether a process is in a namespace of pids below ours, as in a container, which has its own name."""
    return len(_status(pid, b"NSpid:")) > 1


def _status(pid: int, name: bytes) -> list[bytes]:
    """The words of one line of /proc/PID/status; none if there is none, or it is hidden."""
    try:
        status = _read(f"/proc/{pid}/status", 1 << 16)
    except OSError:
        return []
    return next((line.split()[1:] for line in status.splitlines() if line.startswith(name)), [])


def marked(mark: str, name: str = "RQ_MARK", among: Table | None = None) -> list[Identity]:
    """The living processes of my uid that were given NAME=MARK in their environment.

    The whole entry must be equal: a mark that is the beginning of another is not found in it.
    What a process was given when it was executed counts, not what it changed later; one that
    was started with an empty environment, overwrote it, or may not be dumped is not found.
    Reading may wait for a process that itself waits for a file server.
    """
    return bearers([mark], name, among)[mark]


def bearers(
    marks: Collection[str], name: str = "RQ_MARK", among: Table | None = None
) -> dict[str, list[Identity]]:
    """Those whom `marked` finds, for each of these marks, with one look at each process."""
    entries = {os.fsencode(f"{name}={mark}"): mark for mark in marks}
    found: dict[str, list[Identity]] = {mark: [] for mark in marks}
    processes = table() if among is None else among
    for process in processes.values() if marks else ():
        if not process.dead:
            for entry in entries.keys() & set(_environ(process.pid).split(b"\0")):
                found[entries[entry]].append(process.identity)
    return found


def unreadable(among: Table | None = None) -> list[Identity]:
    """The living processes of my uid that show neither words nor environment: whether they bear a mark
    cannot be told now. As a rule they are in the middle of an exec, and can be told in a moment."""
    processes = table() if among is None else among
    return [
        process.identity
        for process in processes.values()
        # Threads of the kernel, children of 0 and 2, never show any.
        if not process.dead and process.parent not in (0, 2) and _is_blank(process.pid)
    ]


def _is_blank(pid: int) -> bool:
    try:
        if os.stat(f"/proc/{pid}").st_uid != os.geteuid():
            return False
        return not any(_read(f"/proc/{pid}/{name}", 1) for name in ("cmdline", "environ"))
    except OSError:
        return False


def _environ(pid: int) -> bytes:
    try:
        if os.stat(f"/proc/{pid}").st_uid != os.geteuid():
            return b""
        # A leader that left by pthread_exit has no memory to read: its other threads have it still.
        for thread in [pid, *map(int, os.listdir(f"/proc/{pid}/task"))]:
            if data := _environ_of_thread(pid, thread):
                return data
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        pass
    return b""


def _environ_of_thread(pid: int, thread: int) -> bytes:
    try:
        with open(f"/proc/{pid}/task/{thread}/environ", "rb") as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""


def remains(
    roots: Iterable[Identity] = (),
    leaders: Iterable[Identity] = (),
    mark: str | None = None,
    among: Table | None = None,
) -> list[Identity]:
    """What is left of a job: descendants of `roots`, members of the sessions, bearers of the mark.

    Without this process itself and without zombies. Of the roots only the descendants count.
    """
    processes = table() if among is None else among
    found = [one for root in roots for one in descendants(root, processes)]
    found += [one for leader in leaders for one in session_members(leader, processes)]
    if mark is not None:
        found += marked(mark, among=processes)
    return [one for one in dict.fromkeys(found) if one.pid != os.getpid()]


def rss(of: Iterable[Identity], among: Mapping[int, Process] | None = None) -> int:
    """The resident memory of these processes in bytes; shared pages count for each. The gone use none."""
    processes = table() if among is None else among
    return sum(
        process.rss_bytes
        for one in set(of)
        if (process := processes.get(one.pid)) is not None and process.start == one.start
    )


def childless() -> bool:
    """Whether this process has no child at all, not even a zombie.

    For a subreaper this is proof: whatever it ever started, at any depth, has ended, since
    orphans become its children in the same instant (prctl(2), PR_SET_CHILD_SUBREAPER).
    """
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return False


def own_children() -> list[int]:
    """The pids of the children of this process; none where the kernel does not list them."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir("/proc/self/task"):
            found += map(int, _read(f"/proc/self/task/{thread}/children", 1 << 20).split())
    return found


def are_children_held() -> bool:
    """Whether all children of this process have ended, and only who traces them keeps us from reaping them.

    Looked at more than once, since a pass may miss who forks and ends while it runs.
    """
    for _ in range(_HELD_LOOKS):
        children = [process for process in table().values() if process.parent == os.getpid()]
        if not children or not all(process.dead and _is_traced(process.pid) for process in children):
            return False
    return True


def _is_traced(pid: int) -> bool:
    try:
        status = _read(f"/proc/{pid}/status", 1 << 16)
    except OSError:
        return False
    return any(line.startswith(b"TracerPid:") and line.split()[1] != b"0" for line in status.splitlines())


def moving_states(one: Identity) -> set[str]:
    """The states, proc(5), of those threads of a process that are not stopped; none if all are, or have gone,
    or are hidden so that nobody can tell."""
    try:
        process = _look(one.pid)
        if process is None or process.identity != one or process.dead:
            return set()
        found = set()
        # Its first thread may stand still, or have left, while another one is in the middle of a fork.
        for name in os.listdir(f"/proc/{one.pid}/task"):
            # A thread may end while we look.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                line = _read(f"/proc/{one.pid}/task/{name}/stat", _STAT_BYTES_MAX)
                found.add(line[line.rfind(b")") + 2 :][:1].decode())
    except OSError:
        return set()
    return found - {"T", "t", "Z", "X", "x"}


# ---------------------------------------------------------------- signals


def open_pidfd(of: Identity) -> int | None:
    """A descriptor that stands for this very process and becomes readable when it ends; None if it is gone.

    Raises OSError where the kernel has none (before 5.3, or forbidden by a container). The caller closes it.
    """
    try:
        descriptor = os.pidfd_open(of.pid)
    except ProcessLookupError:
        return None
    # The descriptor is bound to whoever has the pid; whether that is the one meant is asked afterwards.
    if identity(of.pid) == of:
        return descriptor
    os.close(descriptor)
    return None


def send(to: Identity, number: int) -> bool:
    """Signal this process and no other, even if its pid was given away meanwhile.

    Returns False when it is gone. Raises PermissionError when it is not ours to signal.
    """
    try:
        descriptor = open_pidfd(to)
    except OSError:
        # No pidfd here: between this check and the signal the pid could in theory be given away.
        if identity(to.pid) != to:
            return False
        return _sent(functools.partial(os.kill, to.pid, number))
    if descriptor is None:
        return False
    try:
        return _sent(functools.partial(signal.pidfd_send_signal, descriptor, number))
    finally:
        os.close(descriptor)


def _sent(kill: Callable[[], None]) -> bool:
    try:
        kill()
    except ProcessLookupError:
        return False
    return True
