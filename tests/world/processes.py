"""Real processes for the tests of this folder: a stage on which they live, and on which none survives."""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import time
import traceback
from typing import TYPE_CHECKING, TypeVar

from roundq.world import procs, spawn
from tests.cluster.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from roundq.words.job import Identity

T = TypeVar("T")
#: No scene needs more than a second or two.
SCENE_S = 30


def on_stage(act: Callable[[], T]) -> T:
    """What `act` returns, played by a process of its own that is a subreaper, as a supervisor is.

    Its exceptions are shown as failures here. Whatever it leaves behind is killed.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        # Should the test hang, the stage goes, and with it whoever waits for it.
        signal.alarm(SCENE_S)
        try:
            os.setsid()
            spawn.become_subreaper()
            outcome: tuple[bool, object] = (True, act())
        except BaseException:
            outcome = (False, traceback.format_exc())
        try:
            with contextlib.suppress(BaseException):
                os.write(writing, pickle.dumps(outcome))
            _leave()
        finally:
            # An error here would have the test go on twice, and clean up before its end.
            os._exit(0)
    os.close(writing)
    try:
        ready, _, _ = select.select([reading], [], [], SCENE_S)
        data = b""
        while ready and (chunk := os.read(reading, 1 << 16)):
            data += chunk
    finally:
        os.close(reading)
        if not data:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert data, "the stage fell silent"
    worked, result = pickle.loads(data)
    assert worked, result
    return result  # type: ignore[no-any-return]


def _leave() -> None:
    """Kills whatever this process leaves behind."""
    myself = procs.own_identity()
    for _ in range(100):
        for one in procs.descendants(myself):
            with contextlib.suppress(OSError):
                os.kill(one.pid, signal.SIGKILL)
        reap()
        if procs.childless():
            break
        time.sleep(0.01)


def reap() -> None:
    """Take the exit statuses of all children that ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def pause(seconds: float) -> None:
    """What a supervisor does between two looks: wait, and reap."""
    time.sleep(min(seconds, 0.02))
    reap()


def forked(act: Callable[[], object]) -> int:
    """The pid of a child that does this and ends."""
    pid = os.fork()
    if pid == 0:
        try:
            act()
        finally:
            os._exit(0)
    return pid


def sleeper() -> int:
    """The pid of a child that does nothing until a signal ends it."""
    return forked(lambda: time.sleep(SCENE_S))


def shell(script: str, *arguments: str, mark: str | None = None, new_session: bool = True) -> int:
    """The pid of a shell that runs this script silently."""
    null = os.open(os.devnull, os.O_RDWR)
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin"} | ({} if mark is None else {"RQ_MARK": mark})
    try:
        return spawn.spawn(
            ["sh", "-c", script, "sh", *arguments],
            cwd="/",
            env=env,
            stdin=null,
            stdout=null,
            stderr=null,
            nice=None,
            new_session=new_session,
        )
    finally:
        os.close(null)


def identity_of(pid: int) -> Identity:
    """The identity of a process that is there."""
    found = procs.identity(pid)
    assert found is not None, f"no process {pid}"
    return found


def zombie() -> Identity:
    """A child that has ended and is not yet reaped."""
    pid = forked(lambda: None)
    found = identity_of(pid)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return found


def wait_for_file(path: str) -> str:
    """The content of a file, once it has some."""

    def content() -> str:
        with (
            contextlib.suppress(FileNotFoundError),
            open(path, encoding="utf-8", errors="surrogateescape") as file,
        ):
            return file.read()
        return ""

    return wait_until(content)
