"""Nodes and their processes: identities, children, descriptors, signals, clocks; who stands still or died."""

from __future__ import annotations

import signal
from collections.abc import Callable
from random import Random
from typing import Any

from roundq.words.job import Identity
from tests.simulation.client import Client
from tests.simulation.disk import Inode
from tests.simulation.schedule import Actor, Schedule

#: Pids are given from so few that they come again.
PIDS = 300
#: What a signal does that nobody expects, other than to end the process.
_HARMLESS = {signal.SIGCHLD, signal.SIGCONT}


class Pipe:
    """A pipe: bytes, and which processes hold its ends."""

    def __init__(self) -> None:
        self.data = b""
        self.readers: list[Process] = []
        self.writers: list[Process] = []
        self.waiting: list[Actor] = []


class End:
    """A descriptor of one end of a pipe."""

    __slots__ = ("is_writer", "pipe")

    def __init__(self, pipe: Pipe, *, is_writer: bool) -> None:
        self.pipe, self.is_writer = pipe, is_writer

    def holders(self) -> list[Process]:
        return self.pipe.writers if self.is_writer else self.pipe.readers


class File:
    """A descriptor of a file, a directory, or nothing (/dev/null)."""

    __slots__ = ("inode", "is_dirty", "place", "written")

    def __init__(self, inode: Inode | None) -> None:
        self.inode = inode
        self.place = 0
        self.written = b""
        self.is_dirty = False


class Node:
    """A machine. It freezes as a virtual machine does that is suspended from outside: its clocks go on."""

    def __init__(self, name: str, cores: int, client: Client, schedule: Schedule, rng: Random) -> None:
        self.name, self.cores, self.client, self.schedule, self.rng = name, cores, client, schedule, rng
        self.boots = 0
        self.boot = ""
        self.booted_s = 0.0
        self.is_up = False
        self.is_frozen = False
        self.thawed_s = -1e9
        #: Operations on the shared file system wait while the server does not answer.
        self.is_cut = False
        self.wall_offset_ns = rng.choice((0, 0, rng.randint(-3_600_000_000_000, 3_600_000_000_000)))
        self.slowness = 1.0
        #: Until when, how likely, and with which error operations on the shared file system fail.
        self.spell: tuple[float, float, int] | None = None
        self.processes: dict[int, Process] = {}
        self.locks: dict[str, Process] = {}
        self.watchers: list[Any] = []
        self.parked: list[Actor] = []
        self.waiting_for_server: list[Actor] = []
        self.events: list[Callable[[], None]] = []

    def start(self) -> None:
        """Boots."""
        self.boots += 1
        self.boot = f"{self.name}-boot-{self.boots}"
        self.booted_s = self.schedule.now
        self.is_up, self.is_frozen, self.is_cut, self.spell = True, False, False, None
        self.slowness = 1.0

    def crash(self) -> None:
        """Everything on it is gone at once."""
        self.is_up = self.is_frozen = self.is_cut = False
        # All at once: nobody hears of anybody's death.
        for process in self.processes.values():
            process.is_alive = False
        for process in list(self.processes.values()):
            process.gone(silently=True)
        self.processes.clear()
        self.locks.clear()
        self.watchers.clear()
        self.parked.clear()
        self.waiting_for_server.clear()
        self.events.clear()
        self.client.forget()

    def thaw(self) -> None:
        """Goes on where it stood."""
        self.is_frozen = False
        self.thawed_s = self.schedule.now
        parked, self.parked = self.parked, []
        for actor in parked:
            self.schedule.resume(actor, self.rng.random() * 0.01)
        events, self.events = self.events, []
        for event in events:
            self.schedule.at(self.rng.random() * 0.01, event)

    def reconnect(self) -> None:
        """The server answers again."""
        self.is_cut = False
        waiting, self.waiting_for_server = self.waiting_for_server, []
        for actor in waiting:
            self.schedule.wake(actor)

    def at(self, seconds: float, event: Callable[[], None]) -> None:
        """Something happens on this node by itself: not while it is frozen, and never after a crash."""
        boot = self.boot

        def happens() -> None:
            if not self.is_up or self.boot != boot:
                return
            if self.is_frozen:
                self.events.append(event)
            else:
                event()

        self.schedule.at(seconds, happens)

    def wall_ns(self) -> int:
        """Its idea of the time of day."""
        return 1_790_000_000_000_000_000 + int(self.schedule.now * 1e9) + self.wall_offset_ns

    def touched(self, directory: str) -> None:
        """inotify: this node changed something in a directory."""
        for watcher in self.watchers:
            watcher.touched(directory)


class Process:
    """A process of a node. Without actors it is a command of a job, which only lives and ends."""

    def __init__(self, node: Node, kind: str, user: int, parent: Process | None = None) -> None:
        self.node, self.kind, self.user, self.parent = node, kind, user, parent
        pid = node.rng.randrange(2, PIDS)
        while pid in node.processes:
            pid = node.rng.randrange(2, PIDS)
        self.pid = pid
        self.start = int((node.schedule.now - node.booted_s) * 100) * 1000 + node.rng.randrange(1000)
        self.identity = Identity(node.boot, self.pid, self.start)
        self.is_alive = True
        #: Ended, and its parent was not told yet.
        self.is_reaped = False
        self.is_stopped = False
        self.status = 0
        self.children: list[Process] = []
        self.actors: list[Actor] = []
        self.parked: list[Actor] = []
        self.descriptors: dict[int, File | End] = {}
        self.mask: set[int] = set()
        self.handlers: dict[int, Any] = {}
        self.pending: set[int] = set()
        self.awaited: tuple[Actor, set[int]] | None = None
        self.sleeping: Actor | None = None
        self.wakeup: int = -1
        self.environment: dict[str, str] = {}
        self.mark: str | None = None
        self.slowness = 1.0
        #: It ended by its own will.
        self.has_left = False
        #: A job's command: how it takes SIGTERM, and what is to be told when it ends.
        self.is_stubborn = False
        self.on_end: Callable[[], None] | None = None
        #: The signals after which it ends well, soon; and who is told of every one.
        self.heeds: tuple[int, ...] = ()
        self.on_signal: Callable[[int], None] | None = None
        node.processes[pid] = self
        if parent is not None:
            parent.children.append(self)

    def __repr__(self) -> str:
        return f"{self.node.name}/{self.kind}.{self.pid}"

    @property
    def is_blocked(self) -> bool:
        """Whether it stands still, by no wish of its own."""
        return self.is_stopped or self.node.is_frozen

    def park(self, actor: Actor) -> None:
        """Its turn comes when it, or its node, goes on."""
        (self.parked if self.is_stopped else self.node.parked).append(actor)

    def carry_on(self) -> None:
        """SIGCONT."""
        self.is_stopped = False
        parked, self.parked = self.parked, []
        for actor in parked:
            self.node.schedule.resume(actor, 0.001)

    # ------------------------------------------------------------ descriptors

    def add(self, descriptor: File | End) -> int:
        number = 3
        while number in self.descriptors:
            number += 1
        self.descriptors[number] = descriptor
        if isinstance(descriptor, End):
            descriptor.holders().append(self)
        return number

    def close(self, number: int) -> File | End | None:
        descriptor = self.descriptors.pop(number, None)
        if isinstance(descriptor, End):
            descriptor.holders().remove(self)
            if not descriptor.holders():
                waiting, descriptor.pipe.waiting = descriptor.pipe.waiting, []
                for actor in waiting:
                    self.node.schedule.wake(actor)
        return descriptor

    def inherit(self, from_whom: Process) -> None:
        """What fork(2) copies."""
        self.mask, self.handlers = set(from_whom.mask), dict(from_whom.handlers)
        for number, descriptor in from_whom.descriptors.items():
            self.descriptors[number] = descriptor
            if isinstance(descriptor, End):
                descriptor.holders().append(self)

    # ------------------------------------------------------------ signals

    def signal(self, number: int) -> None:
        """kill(2), of a process that may not expect it."""
        if not self.is_alive:
            return
        if number == signal.SIGKILL:
            self.die(signal.SIGKILL)
        elif number == signal.SIGSTOP:
            self.is_stopped = True
        elif number == signal.SIGCONT:
            if self.is_stopped:
                self.carry_on()
        elif self.kind == "command":
            if self.on_signal is not None:
                self.on_signal(number)
            if number in self.heeds:
                self.node.at(self.node.rng.random() * 5.0, lambda: self.die(0))
            elif not self.is_stubborn:
                self.node.at(self.node.rng.random() * 0.5, lambda: self.die(number))
        elif self.awaited is not None and number in self.awaited[1]:
            self.pending.add(number)
            self.node.schedule.wake(self.awaited[0])
        elif number in self.mask:
            self.pending.add(number)
        elif number in self.handlers:
            if callable(self.handlers[number]):
                self.pending.add(number)
                end = self.descriptors.get(self.wakeup)
                if isinstance(end, End):
                    end.pipe.data += b"s"
                if self.sleeping is not None:
                    self.node.schedule.wake(self.sleeping)
        elif number not in _HARMLESS:
            self.die(number)

    def handle(self) -> None:
        """Runs the handlers of signals that came meanwhile; by the main thread, between two operations."""
        for number in sorted(self.pending):
            handler = self.handlers.get(number)
            if number not in self.mask and callable(handler):
                self.pending.discard(number)
                handler(number, None)

    # ------------------------------------------------------------ end

    def die(self, status: int) -> None:
        """Ends, with a wait status."""
        if not self.is_alive:
            return
        self.is_alive = False
        self.status = status
        self.gone()

    def gone(self, *, silently: bool = False) -> None:
        """What follows from its death."""
        for number in list(self.descriptors):
            self.close(number)
        for child in list(self.children):
            child.parent = None
            if child.is_alive and child.on_parent_death and not silently:
                child.die(signal.SIGKILL)
            elif not child.is_alive:
                self.node.processes.pop(child.pid, None)
        if self.on_end is not None:
            self.on_end()
        if self.parent is None or not self.parent.is_alive:
            self.reap()
        elif not silently:
            self.parent.signal(signal.SIGCHLD)

    #: PR_SET_PDEATHSIG: the command of a job dies with its supervisor, in that instant.
    on_parent_death = False

    def reap(self) -> None:
        """It is forgotten, and its pid is free."""
        self.is_reaped = True
        if self.node.processes.get(self.pid) is self:
            del self.node.processes[self.pid]
        if self.parent is not None:
            self.parent.children.remove(self)
            self.parent = None
