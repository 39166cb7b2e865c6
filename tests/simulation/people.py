"""Users: the jobs that they describe, and the commands that they run on any node, at any time."""

from __future__ import annotations

import logging
import signal
from typing import TYPE_CHECKING

from roundq.actors import listing, queue, submission
from roundq.actors.tenants import Tenants
from roundq.records import spool as spools
from roundq.records.spool import Spool
from roundq.words.errors import PartlySubmitted, RoundqError
from roundq.words.job import Job, Notice
from tests.simulation import calls
from tests.simulation.judge import Submission
from tests.simulation.machine import Node, Process

if TYPE_CHECKING:
    from tests.simulation.world import World

#: What a command is told by before it is stopped.
NOTICE = signal.SIGUSR2
#: How commands of jobs end, and how long they take.
_ENDS = ("0", "0", "0", "0", "1", "255", "SIGSEGV", "SIGKILL", "SIGTERM", "missing")
_SECONDS = (0.01, 0.05, 1.0, 1.0, 5.0, 20.0, 400.0)


class People:
    """All users of one run."""

    def __init__(self, world: World) -> None:
        self.world, self.rng = world, world.rng
        rng = self.rng
        self.left = world.jobs
        self._serial = 0
        #: Whether they are quick to call a silent node lost.
        self.is_hasty = world.theme == "lost" or (world.theme == "mixed" and rng.random() < 0.3)
        self.commands = world.rng.choices(
            ("submit", "cancel", "restart", "look", "lost", "preempt"),
            {
                "lease": (10, 1, 0, 1, 0, 1),
                "lost": (10, 1, 1, 1, 3, 1),
                "restart": (10, 1, 20, 1, 0, 8),
                "cancel": (10, 20, 0, 1, 0, 4),
            }.get(
                world.theme,
                (
                    10,
                    rng.choice((0, 4, 12)),
                    rng.choice((0, 0, 12)),
                    2,
                    rng.choice((0, 0, 3)),
                    rng.choice((0, 0, 12)),
                ),
            ),
            k=200,
        )

    def spool(self, user: str) -> Spool:
        """A user's queue."""
        return spools.at(f"/home/{user}", user, self.world.uid(user))

    def begin(self) -> None:
        """They come and go."""
        self.world.schedule.at(self.rng.random(), self._next)

    def _next(self) -> None:
        world, rng = self.world, self.rng
        if not world.faults.is_on and not self.left:
            return
        pause_s = rng.choice((0.0, 0.05, 1.0, 1.0, 10.0))
        world.schedule.at(rng.random() * pause_s, self._next)
        node = rng.choice(world.nodes)
        if not node.is_up or len(node.processes) > 60:
            return
        user = rng.choice(world.users)
        command = self.commands[rng.randrange(len(self.commands))]
        if not world.faults.is_on:
            command = "submit"
        if command == "submit":
            if self.left:
                self._submit(node, user)
            return
        ids = world.judge.job_ids(user)
        if command == "look":
            self.run(node, user, "look", lambda: self._look(user))
        elif command == "preempt":
            self.run(node, user, "rq", lambda: self._preempt(user))
        elif command == "lost":
            silent = rng.choice(world.nodes)
            if silent is not node and (
                silent.is_frozen or silent.is_cut or not silent.is_up or rng.random() < 0.05
            ):
                self.run(node, user, "rq", lambda: self._lost(user, silent.name))
        elif ids:
            # What ended long ago is dull.
            running = [id_ for id_ in ids if world.judge.state_of(user, id_) == "running"]
            id_ = rng.choice(running if running and rng.random() < 0.7 else ids[-4:])
            if command == "cancel":
                self.run(node, user, "rq", lambda: self._cancel(user, id_))
            elif command == "restart":
                self.run(node, user, "rq", lambda: self._restart(user, id_))

    def hear_of(self, node: Node, seconds: float) -> None:
        """A node is silent, for so long."""
        if not self.is_hasty or len(self.world.nodes) < 2:
            return

        def call() -> None:
            here = self.rng.choice([one for one in self.world.nodes if one is not node])
            if here.is_up and self.world.faults.is_on:
                user = self.rng.choice(self.world.users)
                self.run(here, user, "rq", lambda: self._lost(user, node.name))

        self.world.schedule.at(seconds * self.rng.random(), call)

    def run(self, node: Node, user: str, kind: str, main: object) -> None:
        """A command of a user on a node."""
        process = Process(node, kind, self.world.uid(user))
        process.environment = {"HOME": f"/home/{user}"}

        if self.world.theme == "restart" and kind == "rq" and self.world.faults.is_on:
            process.slowness = self.rng.choice((1.0, 1.0, 100.0, 1000.0))

        def command() -> None:
            try:
                main()  # type: ignore[operator]
            except (OSError, RoundqError) as error:
                self.world.note("says", f"rq: {error}")
            process.die(0)

        self.world.schedule.start(repr(process), process, command)

    # ------------------------------------------------------------ commands

    def _submit(self, node: Node, user: str) -> None:
        rng = self.rng
        count = min(self.left, rng.choice((1, 1, 1, 2, 3, 8)))
        self.left -= count
        tried: list[Submission] = []
        described = []
        for _ in range(count):
            self._serial += 1
            label = f"{user}-{self._serial}"
            # What no node has would wait for ever.
            cores = min(rng.choice((1, 1, 1, 2, 0)), max(node.cores for node in self.world.nodes))
            is_long = self.world.theme in ("lease", "lost", "restart") and rng.random() < 0.7
            seconds = rng.choice(_SECONDS[-2:] if is_long else _SECONDS)
            limit_s = rng.choice((None, None, 60.0)) if seconds < 100 else rng.choice((60.0, 30.0, None))
            manner = rng.choice(
                ("", "", "stubborn", "helper", "helper stubborn", "heedful", "heedful stubborn")
            )
            is_restartable = is_long or rng.random() < 0.5
            asked = self.world.resources.ask(cores)
            job = Job(
                ("work", label, str(seconds), rng.choice(_ENDS), manner),
                directory=f"/home/{user}",
                cores=cores,
                restartable=is_restartable,
                time_limit_s=limit_s,
                max_output=rng.choice((0, 0, 1 << 20)),
                priority=rng.choice((0, 0, 1)),
                gpus=asked.gpus,
                licenses=asked.licenses,
                memory_required=asked.memory,
                array=asked.array,
                notice=rng.choice((None, None, Notice(NOTICE, rng.choice((0.5, 20.0, 100.0))))),
            )
            described.append(job)
            tried.append(Submission(label, user, cores, is_restartable, asked))
            self.world.judge.submissions[label] = tried[-1]
        judge = self.world.judge

        def main() -> None:
            me = calls.process()
            for one in tried:
                one.was_tried = True
            try:
                ids = submission.submit(self.spool(user), described, {"SHELL": "sh"}, me.node.name)
            except (OSError, RoundqError) as error:
                named = {*error.ids, *error.doubtful} if isinstance(error, PartlySubmitted) else set()
                judge.submitted(tried, None, named)
                raise
            self.world.note("says", f"submitted {' '.join(ids)}")
            judge.submitted(tried, ids, set())

        self.run(node, user, "rq", main)

    def _cancel(self, user: str, id_: str) -> None:
        spool = self.spool(user)
        judge = self.world.judge
        entry = listing.locate(spool, (id_,)).get(id_)
        if entry is None:
            return
        row = listing.row_of(spool, entry, True)
        judge.asked_to_cancel.add((user, id_))
        me = calls.process()
        said = queue.cancel(spool, row, me.node.name, max(0, me.node.wall_ns()))
        self.world.note("says", f"cancel {id_}: {said}")
        judge.canceled(user, id_, said)

    def _restart(self, user: str, id_: str) -> None:
        spool = self.spool(user)
        entry = listing.locate(spool, (id_,)).get(id_)
        if entry is None:
            return
        row = listing.row_of(spool, entry, True)
        if row.record is not None:
            self.world.judge.asked_to_restart.setdefault((user, id_), set()).add(row.record.attempt)
        said = queue.restart(spool, row, calls.process().node.name)
        self.world.note("says", f"restart {id_}: {said}")

    def _preempt(self, user: str) -> None:
        """What the user's daemon does here when somebody else shall have the cores of a job, whichever."""
        me = calls.process()
        tenants = Tenants(self.spool(user), me.node.name, logging.getLogger("simulation"))
        tenants.look()
        chosen = [tenant for tenant in tenants if tenant.is_born]
        if not chosen:
            return
        tenant = self.rng.choice(chosen)
        was_asked = tenants.preempt(tenant, "to somebody")
        self.world.note("says", f"preempt {tenant.entry.id}: {was_asked}")

    def _look(self, user: str) -> None:
        spool = self.spool(user)
        me = calls.process()
        everybody = submission.everybody(spool, ("/home",))
        listing.listing(everybody, spool, now_ns=max(0, me.node.wall_ns()))

    def _lost(self, user: str, node: str) -> None:
        """`rq lost NODE`, by the word of the user."""
        spool = self.spool(user)
        judge = self.world.judge
        for entry in spools.scan(spool, ("claimed", "running")):
            if entry.node != node:
                continue
            if entry.state == "claimed":
                spools.request(spool, entry.id, "lost", calls.process().node.name, node)
                continue
            record = spools.read(spool, entry)
            process = record.process
            if process is None:
                continue
            mark = f"{process.boot}.{process.pid}.{process.start}"
            judge.called_lost.add(mark)
            spools.request(spool, entry.id, "lost", calls.process().node.name, mark)
            self.world.note("says", f"{entry.id} on {node} is lost")
        if not any(one.name == node and one.is_up for one in self.world.nodes):
            self.world.wishes.lose(spool, node)
