"""Where the simulated world takes the place of the real one: attributes of modules, set once, for good."""

from __future__ import annotations

import copy
import gc
import importlib
import itertools
import os
import pkgutil
import random
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any

import roundq.actors
import roundq.records
from roundq.actors import daemon, homewatch, occupancy, preemption, supervisor, tenants
from roundq.actors import round as rounds
from roundq.words.allocation import Gpu, Unit
from roundq.words.job import Identity
from roundq.world import cgroup, files, helpers, killing, notify, procs, reading, scratch, spawn
from roundq.world.config import Config
from tests.simulation import calls, lives, moments, system
from tests.simulation.machine import End, Process
from tests.simulation.resources import MEMORY

#: Not under test: faces of commands, and what looks at the real machine.
_LEFT_OUT = {"roundq.actors.checks", "roundq.actors.streams"}


class _Quiet:
    """A module that the simulation need not have: whatever is called does nothing."""

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return lambda *_, **__: None


class _Chance:
    """`random`: seeded, and shared by all."""

    @staticmethod
    def Random() -> Any:  # noqa: N802
        return calls.world.rng


class _Threading:
    """`threading` without threads."""

    Event = moments.Event
    Thread = threading.Thread


class _NoGroups:
    """`cgroup` of a node where nothing is delegated."""

    @staticmethod
    def name_of(pid: int, start: int) -> str:
        return f"{pid}-{start}"

    @staticmethod
    def make(_name: str, *_: Any, **__: Any) -> None:
        return None

    oom_counter = delegated = declare = make

    @staticmethod
    def find(_name: str, *_: Any) -> list[Any]:
        return []


class _NoScratch:
    """`scratch` of a node without temporary files: there is no command that writes any."""

    @staticmethod
    def place_of(*_: Any, **__: Any) -> str:
        return "/tmp"

    @staticmethod
    def make(*_: Any) -> Any:
        return SimpleNamespace(path="/tmp/job")

    @staticmethod
    def put_away(_given: Any) -> None:
        return None


_STANDINS: list[tuple[str, ModuleType, Any]] = [
    ("os", os, system.SimOS()),
    ("time", time, moments.SimTime()),
    ("signal", signal, moments.SimSignal()),
    ("gc", gc, _Quiet()),
    ("traceback", traceback, lives.SimTraceback()),
    ("random", random, _Chance()),
    ("threading", threading, _Threading()),
    (
        "resource",
        resource,
        SimpleNamespace(RUSAGE_SELF=0, getrusage=lambda _who: SimpleNamespace(ru_maxrss=1)),
    ),
    ("procs", procs, lives.SimProcs()),
    ("killing", killing, lives.SimKilling()),
    ("spawn", spawn, lives.SimSpawn()),
    ("cgroup", cgroup, _NoGroups()),
    ("scratch", scratch, _NoScratch()),
]


# ---------------------------------------------------------------- what a daemon has of its node


class _Log:
    """A log that ends in the history."""

    def log(self, _level: int, text: str, *values: Any, **_: Any) -> None:
        world = calls.world
        if world.history is not None:
            world.note("log", text % values if values else text)

    def info(self, text: str, *values: Any, **_: Any) -> None:
        self.log(0, text, *values)

    debug = warning = error = info

    def exception(self, text: str, *values: Any, **_: Any) -> None:
        error = sys.exc_info()[1]
        assert error is not None
        calls.world.unexpected(text % values, error)


class _NodeLock:
    """The lock of one daemon per user and node, which the kernel drops with its holder."""

    def __init__(self, spool_path: str) -> None:
        self._path = spool_path

    def _held_by(self) -> Process | None:
        calls.local("lock")
        found = calls.process().node.locks.get(self._path)
        return found if found is not None and found.is_alive else None

    def acquire(self) -> bool:
        holder = self._held_by()
        if holder is None:
            calls.process().node.locks[self._path] = calls.process()
            return True
        return holder is calls.process()

    def is_held(self) -> bool:
        return self._held_by() is calls.process()

    def release(self) -> None:
        if self.is_held():
            del calls.process().node.locks[self._path]

    def holder(self) -> Identity | None:
        holder = self._held_by()
        return None if holder is None else holder.identity


class _Watcher:
    """inotify, which sees only what its own node does."""

    def __init__(self) -> None:
        self._paths: set[str] = set()
        self._touched: set[str] = set()
        self._process = calls.process()
        self._process.node.watchers.append(self)

    def descriptor(self) -> int:
        return 0

    def has(self, path: str) -> bool:
        return path in self._paths

    def add(self, path: str) -> int:
        self._paths.add(path)
        return len(self._paths)

    def adopt(self, _path: str, _watch: int | None) -> None:
        pass

    def keep(self, paths: Iterable[str]) -> None:
        self._paths &= set(paths)

    def watch(self, path: str) -> None:
        self._paths.add(path)

    def touched(self, path: str) -> None:
        if path in self._paths and self._process.is_alive:
            self._touched.add(path)
            if self._process.sleeping is not None:
                calls.world.schedule.wake(self._process.sleeping)

    def wait(self, timeout_s: float, fds: Iterable[int] = ()) -> set[str]:
        me = calls.process()
        ends = [end for fd in fds if isinstance(end := me.descriptors.get(fd), End)]
        if not self._touched and not any(end.pipe.data for end in ends):
            me.sleeping = calls.actor()
            calls.world.schedule.wait(max(0.0, timeout_s))
            me.sleeping = None
        calls.local("wake")
        touched, self._touched = self._touched, set()
        return touched


class _Helpers:
    """Whoever reads the homes of others in a daemon's place. Here they hang where it would hang."""

    def __init__(self, *_: Any) -> None:
        self._further: dict[str, Callable[..., Any]] = {}

    def offer(self, operation: str, does: Callable[..., Any], *_: int) -> None:
        self._further[operation] = does

    def way(self, home: str, within: int | None = None) -> reading.Way:
        return reading.Way(home, self, within)

    def ask(self, calls: Sequence[reading.Call]) -> list[Any]:
        return [reading.done(self._further, call.operation, call.path, call.options) for call in calls]

    def late(self) -> dict[str, float]:
        return {}

    def close(self) -> None:
        pass


class _Node:
    """The facts of a node."""

    def __init__(self, _environ: Any = None) -> None:
        self._node = calls.process().node

    def name(self) -> str:
        return self._node.name

    def machine(self) -> str:
        return f"the machine {self._node.name}"

    def physical_cores(self) -> int:
        return self._node.cores

    logical_cpus = physical_cores

    def units(self, _cores: int | str) -> tuple[Unit, ...]:
        return tuple(Unit((cpu,)) for cpu in range(self._node.cores))

    def spare_threads(self, _cores: int | str) -> int:
        return 0

    def features(self) -> tuple[str, ...]:
        return ()

    def memory_total(self) -> int:
        return MEMORY

    memory_available = memory_total

    def load(self) -> float:
        return 0.0


class _Clearing:
    """What looks for temporary files of the dead: there are none."""

    def __init__(self, *_: Any) -> None:
        pass

    def ask(self) -> None:
        pass

    def run(self, *_: Any) -> None:
        pass

    def is_removing(self) -> bool:
        return False


class _Gpus:
    """The GPUs of a node, which nobody else uses."""

    maker = ""
    is_awaited = False
    trouble: tuple[str, ...] = ()

    def __init__(self, *_: Any) -> None:
        pass

    def look(self, *_: Any) -> tuple[Gpu, ...]:
        return tuple(map(Gpu, calls.world.resources.gpus[calls.process().node.name]))


class _MemoryUse:
    """Jobs use none of what they were promised."""

    def look(self, *_: Any) -> None:
        pass


class _Live:
    """The configuration, which nobody changes."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.config: Config = calls.world.config

    def refresh(self) -> tuple[Config, str | None]:
        return self.config, None


class _Notifier:
    watchdog_s: float | None = None

    def __init__(self, *_: Any) -> None:
        pass

    def say(self, _text: str) -> None:
        pass


class _Bearers:
    """Nobody has a home that others cannot read."""

    def __init__(self, _name: str, _most: int) -> None:
        pass

    def look(self, _but: int, _now_s: float) -> list[Any]:
        return []


class _Streams:
    """The output of a job, which nobody reads."""

    path, out, err, before = "/dev/null", 1, 2, 0

    def size(self) -> int:
        return 0

    def say(self, _line: str) -> None:
        pass

    def close(self) -> None:
        pass


def _modules() -> list[ModuleType]:
    names = [files.__name__]
    for package in (roundq.records, roundq.actors):
        names += [f"{package.__name__}.{found.name}" for found in pkgutil.iter_modules(package.__path__)]
    return [importlib.import_module(name) for name in names if name not in _LEFT_OUT]


def _default(value: Any) -> Any:
    """What a parameter is by default, which was bound when the module was loaded."""
    if value is time.monotonic:
        return moments.SimTime.monotonic
    return moments.SimTime.sleep if value is time.sleep else value


def _rebind(owner: Any, name: str) -> None:
    """Gives simulated defaults to the functions of a module, and of its classes."""
    for value in list(vars(owner).values()):
        if isinstance(value, type) and value.__module__ == name and value is not owner:
            _rebind(value, name)
        elif isinstance(value, FunctionType) and value.__module__ == name:
            if value.__defaults__:
                value.__defaults__ = tuple(map(_default, value.__defaults__))
            if value.__kwdefaults__:
                value.__kwdefaults__ = {key: _default(one) for key, one in value.__kwdefaults__.items()}


def _put(owner: Any, name: str, standin: Any) -> None:
    assert hasattr(owner, name), f"{owner} has no {name} any more"
    setattr(owner, name, standin)


def install() -> None:
    """From now on this process lives in the simulated world. Not to be undone."""
    for module in _modules():
        for name, real, standin in _STANDINS:
            if vars(module).get(name) is real:
                setattr(module, name, standin)
        vars(module)["print"] = lives.say
        _rebind(module, module.__name__)
    for name, standin in (
        ("NodeLock", _NodeLock),
        ("Watcher", _Watcher),
        ("Node", _Node),
        ("Live", _Live),
        ("Helpers", _Helpers),
        ("Notifier", _Notifier),
        ("open_log", lambda *_, **__: _Log()),
    ):
        _put(daemon, name, standin)
    _put(occupancy, "Bearers", _Bearers)
    _put(rounds, "Gpus", _Gpus)
    _put(rounds, "Clearing", _Clearing)
    _put(rounds, "MemoryUse", _MemoryUse)
    # What a supervisor says where nobody may hear it.
    _put(notify, "complain", lives.say)
    # What is imported only when it is needed.
    _put(helpers, "Helpers", _Helpers)
    _put(roundq.world, "procs", lives.SimProcs())
    _put(supervisor, "open_streams", lambda *_: _Streams())
    _put(homewatch.HomeWatch, "start", moments.start_thread)

    def copied(these: Any, tenant: Any, *rest: Any) -> tuple[Any, ...]:
        return (copy.copy(these), copy.copy(tenant), *rest)

    ask = preemption.ask

    def judged(spool: Any, node: str, tenant: Any, why: str) -> str | None:
        record = tenant.record
        about = spool.user, tenant.entry.id, record.attempt
        # Before: whoever is asked may be faster than what is said here.
        calls.world.judge.is_to_give_way(*about)
        says = ask(spool, node, tenant, why)
        if says is not None:
            notice = record.job.notice
            calls.world.judge.gives_way(*about, 0.0 if notice is None else notice.before_s)
        return says

    _put(preemption, "ask", judged)
    _put(tenants.Tenants, "_fork", lives.Fork.forking(tenants.Tenants._fork, copied))


def reset() -> None:
    """What modules remember must not reach from one seed into the next."""
    files._serial = itertools.count()
