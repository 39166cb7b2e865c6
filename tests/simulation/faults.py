"""What goes wrong, and when: by a seed. What may go wrong at all, and why, is told in tests/faults.md."""

from __future__ import annotations

import collections
import errno
import signal
from typing import TYPE_CHECKING

from tests.simulation.disk import fault

if TYPE_CHECKING:
    from tests.simulation.machine import Node, Process
    from tests.simulation.world import World

#: What can happen at any one operation, and how often compared with each other.
AT_OPERATIONS = {
    "stall": 8,
    "error": 6,
    "lost reply": 10,
    "kill before": 5,
    "kill after": 7,
    "crash before": 1,
    "crash after": 2,
    "freeze before": 1,
    "freeze after": 2,
    "cut before": 1,
    "cut after": 2,
    "stop": 2,
    "spell": 1,
}
#: What happens by itself.
BY_TIME = {
    "kill": 6,
    "crash": 2,
    "freeze": 3,
    "cut": 3,
    "outage": 1,
    "clock": 2,
    "slow": 2,
    "takeover": 2,
    "terminate": 2,
    "stop": 2,
    "spell": 2,
    "shutdown": 1,
}
#: What decides something draws more of what goes wrong than what only looks.
_WEIGHTS = {"rename": 8, "link": 8, "spawn": 8, "gate": 5, "unlink": 2, "fsync": 2, "create": 2, "fork": 4}
_CHANGES = {"rename", "link", "unlink", "mkdir", "create", "rmdir"}
_WRITES = {"write", "fsync", "close", "create", "mkdir", "link", "rename"}
#: The reply is lost, the client sends again, and the server answers the second time.
_SECOND_ANSWER = {"rename": errno.ENOENT, "unlink": errno.ENOENT, "rmdir": errno.ENOENT}


class Faults:
    """The faults of one run. `left` operations go well before the next that does not."""

    def __init__(self, world: World) -> None:
        self.world, self.rng = world, world.rng
        self.counts: collections.Counter[str] = collections.Counter()
        self.is_on = False
        rng = self.rng
        self.gap = rng.choice((80, 200, 500, 1500))
        #: Mean seconds between what happens by itself.
        self.pace_s = rng.choice((3.0, 10.0, 30.0))
        self.longest_s = rng.choice((2.0, 20.0, 120.0, 900.0))
        if world.theme in ("lease", "lost"):
            self.longest_s = 120.0
            self.pace_s = rng.choice((5.0, 10.0))
        self.at_operations = self._some(AT_OPERATIONS)
        self.by_time = self._some(BY_TIME)
        if world.theme == "lost":
            self.by_time[0].append("cut")
            self.by_time[1].append(10)
        elif world.theme == "lease":
            # Else nothing runs for long enough to lose its lease.
            self.gap, self.pace_s = 1500, 15.0
            self.by_time = ["cut", "freeze", "kill", "crash"], [6, 3, 1, 1]
        self.has_unknown = rng.random() < 0.2
        self.left = 1 << 60

    def _some(self, all_of: dict[str, int]) -> tuple[list[str], list[int]]:
        """Not every run has every kind: few kinds, often, find other things than all at once."""
        share = self.rng.choice((0.25, 0.6, 1.0))
        kinds = [kind for kind in all_of if self.rng.random() < share] or [
            "stall" if "stall" in all_of else "kill"
        ]
        return kinds, [all_of[kind] for kind in kinds]

    def begin(self) -> None:
        """From now on things go wrong."""
        self.is_on = True
        self._again()
        self._next_event()

    def end(self) -> None:
        """From now on all goes well."""
        self.is_on = False
        self.left = 1 << 60

    def _again(self) -> None:
        self.left = 1 + int(self.rng.expovariate(1 / self.gap))

    def _how_long(self) -> float:
        return self.longest_s * self.rng.random() ** 2

    # ------------------------------------------------------------ at operations

    def before(self, kind: str, process: Process) -> str | None:
        """What goes wrong at this operation: raises, or does it, or says what is to be done after it."""
        self.left -= _WEIGHTS.get(kind, 1)
        if self.left > 0:
            return None
        self._again()
        what = self.rng.choices(*self.at_operations)[0]
        if (what == "lost reply" and kind not in _CHANGES) or (what == "stop" and self._must_run(process)):
            what = "error"
        self.counts[what] += 1
        if what == "error":
            number = self._error(kind)
            self.world.note(kind, "fails", errno.errorcode[number])
            raise fault(number)
        if what.endswith((" before", "stall", "stop", "spell")):
            self._do(what.removesuffix(" before"), process)
            return None
        return what

    def after(self, what: str, kind: str, process: Process) -> None:
        """The operation has happened; now this."""
        if what == "lost reply":
            numbers = [errno.EIO, errno.ESTALE]
            second = errno.EEXIST if kind in ("link", "mkdir", "create") else _SECOND_ANSWER[kind]
            raise fault(self.rng.choice([*numbers, second, second]))
        self._do(what.removesuffix(" after"), process)

    def locally(self, kind: str, process: Process) -> None:
        """What does not concern files may happen between any two steps."""
        self.left -= _WEIGHTS.get(kind, 1)
        if self.left > 0:
            return
        self._again()
        what = self.rng.choices(*self.at_operations)[0].partition(" ")[0]
        if what in ("error", "lost", "spell"):
            return
        if what in ("stall", "stop") and self._must_run(process):
            return
        self.counts[what] += 1
        self.world.note(kind, what)
        self._do(what, process)

    def _must_run(self, process: Process) -> bool:
        """A lease is worth nothing if the job runs and its supervisor does not."""
        return process.kind == "supervisor" and self.world.config.lease_s > 0

    def _error(self, kind: str) -> int:
        numbers = [errno.EIO, errno.ESTALE, errno.EIO]
        if kind in _WRITES:
            numbers += [errno.ENOSPC, errno.EDQUOT]
        return self.rng.choice(numbers)

    def _do(self, what: str, process: Process) -> None:
        node = process.node
        if what == "stall":
            self.world.schedule.pause(self.rng.choice((0.01, 0.1, 1.0, 1.0, 5.0, 30.0)) * self.rng.random())
        elif what == "kill":
            self.world.note("killed", repr(process))
            process.die(signal.SIGKILL)
            self.world.schedule.vanish()
        elif what == "crash":
            self.world.crash(node)
            self.world.schedule.vanish()
        elif what == "stop":
            self._stop(process)
        elif what == "spell":
            self._spell(node)
        elif what == "freeze":
            self._freeze(node)
        elif what == "cut":
            self._cut(node)
        # Whoever stands still now must not go on before its turn.
        self.world.schedule.pause(0.0)

    def under_spell(self, kind: str, node: Node) -> None:
        """While a file system is full or ill, much fails."""
        assert node.spell is not None
        until_s, share, number = node.spell
        if self.world.schedule.now > until_s:
            node.spell = None
            return
        if number in (errno.ENOSPC, errno.EDQUOT) and kind not in _WRITES - {"rename"}:
            return
        if self.rng.random() < share:
            self.world.note(kind, "fails", errno.errorcode[number])
            raise fault(number)

    def refuses_fork(self, process: Process) -> bool:
        """Whether the user has too many processes."""
        return self.is_on and process.kind == "daemon" and self.rng.random() < 0.01

    def hides_process(self) -> bool:
        """Whether /proc does not tell."""
        return self.is_on and self.has_unknown and self.rng.random() < 0.05

    # ------------------------------------------------------------ by time

    def _next_event(self) -> None:
        self.world.schedule.at(self.rng.expovariate(1 / self.pace_s), self._event)

    def _event(self) -> None:
        if not self.is_on:
            return
        self._next_event()
        world, rng = self.world, self.rng
        what = rng.choices(*self.by_time)[0]
        node = rng.choice(world.nodes)
        if not node.is_up:
            return
        processes = [one for one in node.processes.values() if one.actors and one.is_alive]
        self.counts[f"{what}, by time"] += 1
        if what == "outage":
            for one in world.nodes:
                if one.is_up:
                    self._cut(one)
        elif what == "clock":
            node.wall_offset_ns += rng.choice((-1, 1)) * rng.choice((10**9, 3600 * 10**9, 10**15))
        elif what == "slow":
            node.slowness = rng.choice((1.0, 10.0, 200.0))
        elif what == "takeover":
            world.start_daemon(node, rng.choice(world.users))
        elif what == "crash":
            world.crash(node)
        elif what == "shutdown":
            self._shutdown(node)
        elif what == "freeze":
            self._freeze(node)
        elif what == "cut":
            self._cut(node)
        elif what == "spell":
            self._spell(node)
        elif processes:
            process = rng.choice(processes)
            world.note(what, repr(process))
            if what == "kill":
                process.signal(signal.SIGKILL)
            elif what == "stop" and not self._must_run(process):
                self._stop(process)
            elif what == "terminate":
                process.signal(signal.SIGTERM)

    def _stop(self, process: Process) -> None:
        process.is_stopped = True
        self.world.schedule.at(self._how_long(), process.carry_on)

    def _spell(self, node: Node) -> None:
        number = self.rng.choice((errno.EIO, errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.ESTALE))
        until_s = self.world.schedule.now + min(60.0, self._how_long())
        node.spell = until_s, self.rng.choice((0.3, 0.9)), number
        self.world.note("spell", f"{node.name} {errno.errorcode[number]} until {until_s:.1f}")

    def _freeze(self, node: Node) -> None:
        node.is_frozen = True
        seconds, boot = self._how_long(), node.boot
        self.world.note("freeze", f"{node.name} for {seconds:.1f} s")
        self.world.people.hear_of(node, seconds)
        self.world.schedule.at(seconds, lambda: node.thaw() if node.boot == boot and node.is_up else None)

    def _cut(self, node: Node) -> None:
        node.is_cut = True
        seconds, boot = self._how_long(), node.boot
        self.world.note("cut", f"{node.name} for {seconds:.1f} s")
        self.world.people.hear_of(node, seconds)
        self.world.schedule.at(
            seconds, lambda: node.reconnect() if node.boot == boot and node.is_up else None
        )

    def _shutdown(self, node: Node) -> None:
        """Everybody is sent SIGTERM, and a moment later the node is off."""
        for process in list(node.processes.values()):
            process.signal(signal.SIGTERM)
        boot = node.boot
        wait_s = self.rng.choice((0.01, 2.0, 90.0))
        self.world.note("shutdown", f"{node.name} in {wait_s} s")
        self.world.schedule.at(wait_s, lambda: self.world.crash(node) if node.boot == boot else None)


def calm(world: World) -> None:
    """All faults are over, and every node is there."""
    world.faults.end()
    for node in world.nodes:
        node.spell, node.slowness = None, 1.0
        if not node.is_up:
            world.boot(node)
            continue
        if node.is_frozen:
            node.thaw()
        if node.is_cut:
            node.reconnect()
        for process in list(node.processes.values()):
            process.slowness = 1.0
            if process.is_stopped:
                process.carry_on()
