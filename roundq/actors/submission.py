"""How a job gets into the queue: whose spool, may it ever run, its acceptance, and a daemon to run it.

Callers find it as `actors.queue`; apart, since `rq run` needs nothing else and is measured.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from roundq.records import spool as spools
from roundq.records.spool import Spool
from roundq.words.errors import QueueFull, RoundqError, SpoolError
from roundq.words.job import Identity, Job, Task
from roundq.words.states import PENDING_STATES
from roundq.world import config, files
from roundq.world.config import Config

if TYPE_CHECKING:
    from roundq.world.helpers import Helpers

#: Signals that a terminal, or whoever closes it, sends to all that was started there.
_OF_TERMINAL = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# ---------------------------------------------------------------- whose


def mine(environ: Mapping[str, str]) -> Spool:
    """My spool, which need not exist yet: in $HOME, or else in the home the user database gives me.

    My name is the last part of the home's path, as everybody's is. Raises SpoolError if there is no
    such home, or if the spool is a link to nothing.
    """
    home = environ.get("HOME", "")
    origin = "HOME"
    if not home:
        home, origin = _home_of_user(), "your home in the user database"
    if not os.path.isabs(home):
        raise SpoolError(
            f'{origin} is "{home}", which is not an absolute path', "set HOME to your home directory"
        )
    home = os.path.normpath(home)
    try:
        os.stat(f"{home}/.")
    except OSError as error:
        raise SpoolError(
            f'{origin} is "{home}", which cannot be entered: {error.strerror}',
            "check that the home is mounted, and HOME",
        ) from None
    spool = spools.at(home, os.path.basename(home) or "root", os.geteuid())
    if os.path.islink(spool.path) and not os.path.exists(spool.path):
        # Else what is behind it would look like an empty queue.
        raise SpoolError(
            f"{spool.path} is a symbolic link to {os.readlink(spool.path)}, which is not there",
            "check that its file system is mounted here, or remove the link",
        )
    return spool


def _home_of_user() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        raise SpoolError(
            f"HOME is not set, and uid {os.geteuid()} is not in the user database",
            "set HOME to your home directory",
        ) from None


def everybody(me: Spool, parents: Iterable[str], commons: str = "") -> list[Spool]:
    """The spools of all users whose homes are below these parents, mine among them, by name.

    `parents` are paths or patterns, as `Config.homes` has them. Users whose homes cannot be read are those
    in `commons`, as `Config.commons` has it, of whom there are cards only (`Spool.is_commons`).
    """
    from roundq.records import neighbours

    found, _ = neighbours.everybody(parents, commons, me=me, helpers=helpers())
    return sorted([*found, me], key=lambda spool: (spool.user, spool.path))


@functools.cache
def helpers() -> Helpers:
    """Those that read the homes of others for this process: what is there may never answer."""
    import atexit

    from roundq.world.helpers import Helpers

    found = Helpers(time.monotonic)
    # One that hangs would be left.
    atexit.register(found.close)
    return found


# ---------------------------------------------------------------- submit


def check(job: Job, environ: Mapping[str, str], me: Spool, of: Config, node: str) -> list[str]:
    """Looks whether a job could ever run; sentences of warning.

    `job.directory` is absolute, `of` the configuration of `node`, which is this one. Raises JobRefused,
    CommandNotFound or NotExecutable if it never could; writes nothing.
    """
    from roundq.actors import checks

    checks.check_directory(job)
    checks.check_command(job, environ)
    checks.check_output(job)
    checks.check_record(job)
    return warnings(job, me, of, node)


def warnings(job: Job, me: Spool, of: Config, node: str) -> list[str]:
    """Why no node that is known could run a job, in sentences; `of` is the configuration of `node`."""
    limit = of.limits.limit_of(me.user)
    if limit.cores is None and limit.jobs is None and _fits_here(job, me, node):
        # To read everybody's cards would cost as much as all the rest.
        return []
    from roundq.actors.misfit import misfit
    from roundq.records import cards, control

    # What cannot be read is the daemon's to tell of.
    with contextlib.suppress(OSError, RoundqError):
        limit = limit.less(control.limit(me))
    known = [card for spool in everybody(me, of.homes, of.commons) for card in cards.read_all(spool)]
    known = [card for card in known if card.state != cards.LEAVING]
    warning = misfit(job, known, me.user, of.licenses, limit)
    return [] if warning is None else [warning]


def admit(me: Spool, of: Config, count: int) -> None:
    """Raises QueueFull if so many more jobs would be more than this user may let wait."""
    most = of.limits.limit_of(me.user).waiting
    if most is None:
        return
    try:
        waiting = sum(1 for _ in spools.scan(me, PENDING_STATES))
    except FileNotFoundError:
        waiting = 0
    if waiting + count > most:
        raise QueueFull(
            f"you may have {most:,} waiting job{'s' * (most != 1)}, and have {waiting:,}:"
            f" {count:,} more would be too many",
            "submit again when some have started; rq q --mine lists them",
        )


def submit(
    spool: Spool,
    described: Sequence[Job],
    environ: Mapping[str, str],
    node: str,
    on_step: Callable[[float], None] = lambda _: None,
    *,
    on_hold: bool = False,
) -> list[str]:
    """Puts jobs into the queue, all or none, with this environment unless they have one; their ids, in order.

    They are durable when it returns. `on_step` is told which share of the work is done, and may raise to
    end it. With `on_hold` they stay held until they are released. Raises SpoolUnsafe, SpoolFull or another
    SpoolError, or ConfigError, with nothing submitted; and PartlySubmitted or SubmissionInterrupted, which
    say exactly what is in the queue, as `spool.submit` does.
    """
    complete, counts_alone = _prepared(spool, environ, node)
    return spools.submit(
        spool,
        [complete(job) for job in described],
        node,
        counts_alone=counts_alone,
        on_step=on_step,
        on_hold=on_hold,
    )


def submit_array(
    spool: Spool,
    job: Job,
    parts: Sequence[Sequence[Task]],
    environ: Mapping[str, str],
    node: str,
    on_step: Callable[[float], None] = lambda _: None,
    *,
    on_hold: bool = False,
) -> str:
    """Puts an array into the queue, whole or not at all, as `submit`; its id. See `spool.submit_array`."""
    complete, counts_alone = _prepared(spool, environ, node)
    return spools.submit_array(
        spool, complete(job), parts, node, counts_alone=counts_alone, on_step=on_step, on_hold=on_hold
    )


def _prepared(spool: Spool, environ: Mapping[str, str], node: str) -> tuple[Callable[[Job], Job], bool]:
    """What adds to a job what only its submission knows, and whether this node counts for itself."""
    from roundq.actors.environ import submitted
    from roundq.records import environments

    spools.prepare(spool)
    home = os.path.dirname(spool.path)
    settle_s = config.load(environ, home, node=node).settle_s
    digest = environments.store(spool, submitted(environ), node)
    # No record can tell a time before the epoch: such a clock is not believed at all.
    now_ns = max(0, time.time_ns())

    def complete(job: Job) -> Job:
        return replace(
            job,
            # One of its own was stored already.
            environment=job.environment or digest,
            submitted_ns=job.submitted_ns or now_ns,
            home_dir=job.home_dir or home,
        )

    return complete, settle_s > 0


# ---------------------------------------------------------------- the daemon of this node


def _own_card(me: Spool, node: str) -> dict[str, Any]:
    """What my daemon on this node publishes of itself, empty if nothing.

    Not cards.read: validation costs more than all of a submission, and the file is mine.
    """
    try:
        value = json.loads(files.read(f"{me.path}/{node}", most=1 << 20, owner=me.uid))
    except (OSError, RoundqError, ValueError, RecursionError):
        return {}
    ours = value.get("roundq") if isinstance(value, dict) else None
    return ours if isinstance(ours, dict) else {}


def _fits_here(job: Job, me: Spool, node: str) -> bool:
    """Whether my daemon on this node offers what the job asks for, or the job asks for nothing special."""
    offered = _own_card(me, node)
    if offered.get("state") == "draining" or any(
        (job.gpus, job.licenses, job.nodes, job.exclude, job.features)
    ):
        return False
    if job.cores <= 1 and not job.memory_required:
        return True
    cores, memory = offered.get("cores"), offered.get("memory")
    return (
        isinstance(cores, int)
        and isinstance(memory, int)
        and job.cores <= cores
        and job.memory_required <= memory
    )


def daemon_runs(me: Spool, node: str) -> bool:
    """Whether a daemon of mine runs on this very node, by its card or its lock. Unknown counts as running."""
    from roundq.world import procs

    try:
        process = _own_card(me, node)["process"]
        identity: Identity | None = Identity(str(process["boot"]), int(process["pid"]), int(process["start"]))
    except (ValueError, KeyError, TypeError, OverflowError):
        identity = None
    if identity is not None and procs.liveness(identity) is not procs.Liveness.DEAD:
        return True
    # One that is just starting has no card yet.
    from roundq.world import nodelock

    try:
        return nodelock.NodeLock(me.path).holder() is not None
    except (OSError, RoundqError):
        return False


def start_daemon(spool: Spool, environ: Mapping[str, str], node: str) -> bool:
    """Starts my daemon on this node unless one runs; whether it started one.

    It is a process of its own that survives a logout. Never from inside a job: it would end with it.
    """
    if "RQ_JOB_ID" in environ or daemon_runs(spool, node):
        return False
    from roundq.actors import environ as environments

    command = [sys.executable, "-m", "roundq", "daemon"]
    # `-m` looks for the package in the working directory first, and that must not be where the user is.
    home_of_package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    # Not in the child: another thread of a program may just be importing it.
    from roundq.world import spawn  # noqa: F401  # only so that it is there

    child = fork_apart()
    if child == 0:
        # What a service manager told the caller is not meant for the daemon.
        given = {name: text for name, text in environ.items() if name not in environments.FOREIGN_VARIABLES}
        _become_daemon(command, given, home_of_package)
    os.waitpid(child, 0)
    return True


def fork_apart() -> int:
    """fork(2) of a child in a session of its own, which no signal reaches that is meant for the caller and
    its group, as Ctrl-C is."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _OF_TERMINAL)
    try:
        child = os.fork()
        if child == 0:
            os.setsid()
            for number in _OF_TERMINAL:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    # What came before the session was its own is pending: to ignore it discards it.
                    signal.signal(number, signal.SIG_IGN)
                    signal.signal(number, signal.SIG_DFL)
        return child
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _become_daemon(command: list[str], environ: dict[str, str], directory: str) -> None:
    """What the child does: a grandchild executes the daemon. Never returns."""
    try:
        if os.fork() == 0:
            from roundq.world import spawn

            os.chdir(directory)
            null = os.open(os.devnull, os.O_RDWR)
            for standard in (0, 1, 2):
                os.dup2(null, standard)
            spawn.close_inherited({0, 1, 2})
            os.execve(command[0], command, environ)
    finally:
        os._exit(0)
