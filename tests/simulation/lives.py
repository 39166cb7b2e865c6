"""`fork`, `procs` and `spawn` as the code under test finds them: processes of the node whose turn it is."""

from __future__ import annotations

import errno
import signal as real_signal
import sys as real_sys
from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeVar

from roundq.words.job import Identity
from roundq.world import procs as real_procs
from roundq.world import spawn as real_spawn
from tests.simulation import calls
from tests.simulation.disk import fault
from tests.simulation.machine import Process
from tests.simulation.schedule import Killed

T = TypeVar("T")
Liveness = real_procs.Liveness


class Fork:
    """fork(2) of a greenlet, which cannot be copied: the child runs the same function again up to the fork.

    Whoever forks is called through `forking`; what it asked for before the fork the child is given again.
    """

    @staticmethod
    def forking(function: Callable[..., Any], copied: Callable[..., tuple[Any, ...]]) -> Any:
        """The function that forks, ready for it; `copied` makes the child's own arguments."""

        def call(*arguments: Any) -> Any:
            me = calls.actor()
            if me.replay is None:
                me.replay = ([], lambda: function(*copied(*arguments)))
            try:
                return function(*arguments)
            finally:
                if isinstance(me.replay, tuple):
                    me.replay = None

        return call

    @staticmethod
    def remembered(make: Callable[[], T]) -> T:
        """A value that a child that is born from here has to see, too."""
        replay = calls.actor().replay
        if isinstance(replay, list):
            given: T = replay.pop(0)
            return given
        value = make()
        if replay is not None:
            replay[0].append(value)
        return value

    @staticmethod
    def fork() -> int:
        me = calls.actor()
        if isinstance(me.replay, list):
            me.replay = None
            return 0
        if calls.world.faults.refuses_fork(me.process):
            raise fault(errno.EAGAIN)
        remembered, again = me.replay
        parent = me.process
        calls.local("fork")
        child = Process(parent.node, "supervisor", parent.user, parent)
        child.inherit(parent)
        child.environment = dict(parent.environment)
        calls.world.note("fork", repr(child))
        calls.world.judge.born(child)
        born = calls.world.schedule.start(repr(child), child, again, calls.world.random() * 0.002)
        born.replay = list(remembered)
        return child.pid


class SimProcs:
    """The `procs` of every module under test: the processes of the node whose turn it is."""

    Liveness = real_procs.Liveness
    Process, Table = real_procs.Process, real_procs.Table

    @staticmethod
    def boot_id() -> str:
        return calls.process().node.boot

    @staticmethod
    def own_identity() -> Identity:
        return calls.process().identity

    @staticmethod
    def identity(pid: int) -> Identity | None:
        calls.local("process")
        found = calls.process().node.processes.get(pid)
        return None if found is None else found.identity

    @staticmethod
    def liveness(of: Identity, _uid: int | None = None) -> real_procs.Liveness:
        calls.local("process")
        node = calls.process().node
        if of.boot != node.boot:
            return Liveness.DEAD
        if calls.world.faults.hides_process():
            return Liveness.UNKNOWN
        found = node.processes.get(of.pid)
        lives = found is not None and found.identity == of and found.is_alive
        return Liveness.ALIVE if lives else Liveness.DEAD

    @staticmethod
    def exists(pid: int, _uid: int) -> bool:
        found = calls.process().node.processes.get(pid)
        return found is not None and found.is_alive

    @staticmethod
    def table() -> dict[int, Any]:
        calls.local("process")
        return dict.fromkeys(calls.process().node.processes)

    @staticmethod
    def unreadable(_among: Any = None) -> list[Identity]:
        return []

    @staticmethod
    def descendants(of: Identity, _among: Any = None) -> list[Identity]:
        found = calls.process().node.processes.get(of.pid)
        if found is None or found.identity != of:
            return []
        return [one.identity for one in _family(found) if one.is_alive]

    @staticmethod
    def remains(
        roots: Iterable[Identity] = (),
        *,
        mark: str | None = None,
        **_: Any,
    ) -> list[Identity]:
        calls.local("process")
        found = [one for root in roots for one in SimProcs.descendants(root)]
        if mark is not None:
            processes = calls.process().node.processes.values()
            found += [one.identity for one in processes if one.is_alive and one.mark == mark]
        return list(dict.fromkeys(found))

    @staticmethod
    def bearers(marks: Collection[str], **_: Any) -> dict[str, list[Identity]]:
        calls.local("process")
        processes = calls.process().node.processes.values()
        return {
            mark: [one.identity for one in processes if one.is_alive and one.mark == mark] for mark in marks
        }

    @staticmethod
    def childless() -> bool:
        calls.local("process")
        return not calls.process().children

    @staticmethod
    def are_children_held() -> bool:
        return False

    @staticmethod
    def rss(_of: Iterable[Identity], _among: Any = None) -> int:
        return 0

    @staticmethod
    def send(to: Identity, number: int) -> bool:
        calls.local("kill")
        found = calls.process().node.processes.get(to.pid)
        if found is None or found.identity != to:
            return False
        calls.world.note("signal", f"{found!r} {number}")
        found.signal(number)
        return True

    def __getattr__(self, name: str) -> Any:
        raise NotImplementedError(f"the simulation has no procs.{name}")


class SimKilling:
    """The `killing` of every module under test."""

    @staticmethod
    def tell_to_end(find: Callable[[], Collection[Identity]], *_: Any) -> None:
        for one in find():
            SimProcs.send(one, real_signal.SIGTERM)

    @staticmethod
    def kill(find: Callable[[], Collection[Identity]], *_: Any) -> None:
        for one in find():
            SimProcs.send(one, real_signal.SIGKILL)

    @staticmethod
    def kill_tree(
        find: Callable[[], Collection[Identity]],
        *,
        grace_s: float,
        patience_s: float,
        clock: Callable[[], float],
        pause: Callable[[float], None],
        proof: Callable[[], bool] | None = None,
        **_: Any,
    ) -> bool:
        """As the real one: TERM, a grace, KILL; and whether all is dead, by proof if there is one."""
        for number, most_s in ((real_signal.SIGTERM, grace_s), (real_signal.SIGKILL, patience_s)):
            for one in find():
                SimProcs.send(one, number)
            end_s, again_s = clock() + most_s, 0.05
            while clock() < end_s:
                if not find() and (proof is None or proof()):
                    return True
                if number == real_signal.SIGKILL:
                    for one in find():
                        SimProcs.send(one, number)
                pause(again_s)
                again_s = min(again_s * 2, 1.0)
        return False

    def __getattr__(self, name: str) -> Any:
        raise NotImplementedError(f"the simulation has no killing.{name}")


def _family(of: Process) -> list[Process]:
    found = list(of.children)
    for child in found:
        found += child.children
    return found


class SimSpawn:
    """The `spawn` of every module under test. Commands are ("work", label, seconds, end, ...)."""

    SpawnError = real_spawn.SpawnError

    @staticmethod
    def prepare() -> None:
        calls.process()

    @staticmethod
    def become_subreaper() -> None:
        calls.process()

    @staticmethod
    def set_name(_name: bytes) -> None:
        calls.process()

    @staticmethod
    def set_title(_title: bytes) -> None:
        calls.process()

    @staticmethod
    def close_inherited(keep: Collection[int]) -> None:
        me = calls.process()
        for number in list(me.descriptors):
            if number not in keep:
                me.close(number)

    @staticmethod
    def spawn(command: Any, *, env: dict[str, str], affinity: Any = None, **_: Any) -> int:
        """The command begins. It writes down that it does, by itself."""
        me = calls.process()
        calls.local("spawn")
        _, label, seconds, end, manner = command
        if end == "missing":
            raise real_spawn.SpawnError("command", errno.ENOENT, label, f"cannot execute {label}")
        child = Process(me.node, "command", me.user, me)
        child.on_parent_death = True
        child.mark = env.get("RQ_MARK")
        child.is_stubborn = "stubborn" in manner
        if "helper" in manner:
            helper = Process(me.node, "command", me.user, me)
            helper.mark, helper.is_stubborn = child.mark, child.is_stubborn
            me.node.at(calls.world.random() * 60, lambda: helper.die(0))
        run = calls.world.judge.begun(me, label, env, affinity or ())
        status = getattr(real_signal, end).value if end.startswith("SIG") else int(end) << 8
        child.on_end = lambda: calls.world.judge.ended(run, child.status)
        if "heedful" in manner:
            child.heeds = (real_signal.SIGUSR2,)
        child.on_signal = lambda number: calls.world.judge.signaled(run, number)
        me.node.at(float(seconds), lambda: child.die(status))
        calls.world.note("begin", f"{label} {child!r}")
        return child.pid

    def __getattr__(self, name: str) -> Any:
        raise NotImplementedError(f"the simulation has no spawn.{name}")


class SimTraceback:
    """The `traceback` of the supervisor: an error that it did not expect is a mistake of ours."""

    @staticmethod
    def format_exc(*_: Any, **__: Any) -> str:
        SimTraceback.print_exc()
        return "a traceback"

    @staticmethod
    def print_exc(*_: Any, **__: Any) -> None:
        error = real_sys.exc_info()[1]
        if error is None or isinstance(error, Killed) or calls.world.schedule.is_over:
            return
        if isinstance(error, OSError):
            # Such as a home that does not answer: the daemon finds what is left.
            calls.world.note("died of", str(error))
            return
        calls.world.unexpected(calls.process().kind, error)


def say(*words: Any, **_: Any) -> None:
    """print()."""
    calls.world.note("says", " ".join(map(str, words)))
