"""Users who hold, release, edit, retire and run again, at any time and on any node; and what must come of it.

In some worlds only, drawn from a number of their own, so that the others stay what they are.

held        nothing begins that was said to be held, before somebody wants it released
run again   what may not be run again is only when its user says so, once for each time
edited      every edit that was said to be made is in the record, and none twice
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING

from roundq.actors import changing, listing
from roundq.actors.changing import Changer, Outcome
from roundq.actors.listing import Row
from roundq.records import changes
from roundq.records import spool as spools
from roundq.records.spool import Spool
from roundq.words.job import Job, Record
from tests.simulation import calls

if TYPE_CHECKING:
    from tests.simulation.judge import Run
    from tests.simulation.world import World

#: What an edit adds to the priority, which is less at first.
STEP = 10
VERBS = ("hold", "hold", "release", "release", "edit", "edit", "rerun", "rerun", "rerun", "retire")
#: How soon they let go what is on hold when all is well again.
LET_GO_S = 20.0


@dataclass
class Wish:
    """One command: from when to when it was at work, without end if it died; and what it said was done."""

    verb: str
    user: str
    id: str
    began_s: float
    ended_s: float = math.inf
    said: str | None = None
    attempt: int = 0


class Wishes:
    """All of them in one run."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rng = Random(f"wishes {world.seed}")
        self.is_on = self.rng.random() < 0.3
        self.wishes: list[Wish] = []

    # ------------------------------------------------------------ the users

    def begin(self) -> None:
        """They come and go, beside all others."""
        if self.is_on:
            self.world.schedule.at(self.rng.random() * 2.0, self._next)

    def _next(self) -> None:
        world, rng = self.world, self.rng
        if not world.faults.is_on:
            self._let_go()
            return
        world.schedule.at(rng.random() * rng.choice((0.05, 0.5, 5.0)), self._next)
        node, user = rng.choice(world.nodes), rng.choice(world.users)
        ids = world.judge.job_ids(user)
        if node.is_up and len(node.processes) < 60 and ids:
            verb, id_ = rng.choice(VERBS), rng.choice(ids[-5:])
            world.people.run(node, user, "rq", lambda: self._wish(verb, user, id_))

    def _let_go(self) -> None:
        """So that every job ends: again and again, since a command may be late."""
        world = self.world
        held = {
            name.partition("/")[2].partition(" ")[0] for name in world.judge.open_jobs() if "held" in name
        }
        for user in world.users:
            for id_ in sorted(held & set(world.judge.job_ids(user))):
                node = self.rng.choice([node for node in world.nodes if node.is_up])
                world.people.run(node, user, "rq", lambda u=user, i=id_: self._wish("release", u, i))
        world.schedule.at(LET_GO_S, self._let_go)

    def _wish(self, verb: str, user: str, id_: str) -> None:
        spool = self.world.people.spool(user)
        # What it sees was so from now on.
        began_s = self.world.schedule.now
        entry = listing.locate(spool, (id_,)).get(id_)
        if entry is None:
            return
        row = listing.row_of(spool, entry, True)
        wish = Wish(verb, user, id_, began_s)
        wish.attempt = 0 if row.record is None else row.record.attempt + 1
        self.wishes.append(wish)
        try:
            became = self._act(verb, spool, row)
            changes.sync(spool, [became.state] if became.state in _MOVED else [])
            wish.said = became.state
        finally:
            # Whoever is killed comes here no more.
            if calls.world.schedule.current is not None and calls.world.schedule.current.process.is_alive:
                wish.ended_s = self.world.schedule.now
        self.world.note("says", f"{verb} {id_}: {wish.said}")

    def _act(self, verb: str, spool: Spool, row: Row) -> Outcome:
        me = calls.process().node
        now_ns = max(0, me.wall_ns())
        if verb == "hold":
            return changing.hold(spool, row, me.name)
        if verb == "release":
            return changing.release(spool, row, me.name, now_ns)
        changer = Changer(spool, me.name, now_ns)
        acts: dict[str, Callable[[Row], Outcome]] = {
            "edit": lambda row: changer.edit(row, _edited),
            "rerun": changer.rerun,
            "retire": changer.retire,
        }
        return acts[verb](row)

    def lose(self, spool: Spool, node: str) -> None:
        """`rq lost --force`, of a node that is down: what it was changing is put where it belongs."""
        for entry in spools.scan(spool, ("held",)):
            if entry.node == node:
                changes.put_back(spool, entry)

    # ------------------------------------------------------------ the judge

    def _of(self, user: str, id_: str, *verbs: str) -> list[Wish]:
        return [wish for wish in self.wishes if (wish.user, wish.id) == (user, id_) and wish.verb in verbs]

    def may_run_again(self, user: str, id_: str, attempt: int) -> bool:
        """Whether somebody wants this attempt of a job that may not be run again by itself."""
        return any(wish.attempt <= attempt for wish in self._of(user, id_, "rerun"))

    def runs_again_since(self, user: str, id_: str, at_s: float) -> bool:
        """Whether somebody wants a job to run again, although it was canceled at that time."""
        return any(wish.ended_s >= at_s for wish in self._of(user, id_, "rerun"))

    def begun(self, run: Run) -> str | None:
        """Why an attempt must not begin, if it must not."""
        for held in self._of(run.user, run.id, "hold"):
            if held.said == "held" and held.ended_s <= run.began_s:
                # Whoever released it may have been at it all the time; what runs again was not on hold.
                freeing = self._of(run.user, run.id, "release", "rerun")
                if not any(wish.ended_s >= held.began_s for wish in freeing):
                    said = f"was said to be held at {held.ended_s:.4f}"
                    return f"{run.user}'s job {run.id} {said}, and begins: {run}"
        return None

    def final(self, user: str, id_: str, priority: int) -> str | None:
        """What is wrong with the priority that a record ends with."""
        edits = self._of(user, id_, "edit")
        done = sum(wish.said is not None for wish in edits)
        found = priority // STEP
        if done <= found <= len(edits):
            return None
        return (
            f"{user}'s job {id_} was edited {done} times of {len(edits)} that were tried, and shows {found}"
        )


#: States into which a job is moved by a wish.
_MOVED = ("held", "waiting", "completed", "failed", "canceled", "zombie")


def _edited(record: Record) -> Job:
    return replace(record.job, priority=record.job.priority + STEP)
