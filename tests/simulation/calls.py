"""Whose turn it is, and the operations at which turns change and things go wrong.

Every operation on the shared file system, and every look at processes, is such a point.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from tests.simulation.machine import Process
from tests.simulation.schedule import Actor, Killed

if TYPE_CHECKING:
    from tests.simulation.world import World

T = TypeVar("T")
#: However slow node, server and process are together.
SLOWEST_S = 60.0

#: The run that is on.
world: World = None  # type: ignore[assignment]


def actor() -> Actor:
    """Whose turn it is."""
    current = world.schedule.current
    if current is None or world.schedule.is_over or not current.process.is_alive:
        raise Killed
    return current


def process() -> Process:
    """The process whose turn it is."""
    return actor().process


def shared(kind: str, text: str, effect: Callable[[], T]) -> T:
    """An operation on the shared file system, with all that may happen to it."""
    me = process()
    node = me.node
    if me.pending and me.actors[0] is world.schedule.current:
        me.handle()
    after = world.faults.before(kind, me)
    world.schedule.pause(min(SLOWEST_S, world.random() * world.latency_s * node.slowness * me.slowness))
    while node.is_cut:
        node.waiting_for_server.append(actor())
        world.schedule.wait()
    if node.spell is not None:
        world.faults.under_spell(kind, node)
    try:
        result = effect()
    except OSError as error:
        world.note(kind, text, errno.errorcode.get(error.errno or 0, "?"))
        raise
    world.note(kind, text, "" if after is None else after)
    if after is not None:
        world.faults.after(after, kind, me)
    return result


def local(kind: str) -> None:
    """An operation on this node alone."""
    me = process()
    if me.pending and me.actors[0] is world.schedule.current:
        me.handle()
    world.faults.locally(kind, me)
    world.schedule.pause(world.random() * 0.0002)


def changing(kind: str, text: str, path: str, effect: Callable[[], T]) -> T:
    """An operation that changes names; seen by those of this node who watch the directory."""
    me = process()
    world.judge.may_change(me, kind, text)
    result = shared(kind, text, effect)
    me.node.touched(path.rpartition("/")[0])
    return result
