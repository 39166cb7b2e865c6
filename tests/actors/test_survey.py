"""Promises about what a decision is told: which node was chosen to be kept, what jobs use."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from roundq.actors import occupancy
from roundq.actors.occupancy import Lodger
from roundq.actors.survey import (
    STUCK_S,
    Facts,
    Scene,
    holdings,
    kept_before,
    running_cores,
    table_for,
    yielding,
)
from roundq.records import cards
from roundq.records.cards import Card, Occupant
from roundq.records.neighbours import SILENT_S, Seen
from roundq.words.job import NS, Identity
from roundq.words.limits import Limit
from roundq.words.policy import Want
from roundq.words.states import CLAIMED, RUNNING
from roundq.world import procs
from roundq.world.config import Config
from tests.records.crowd import new_spool


def test_the_node_that_is_kept_is_the_one_that_says_so_itself(tmp_path: Path) -> None:
    """What other nodes say of it is older, and so all daemons of a user come to the same."""
    spool = new_spool(tmp_path)
    wide, small = Want("1", 8, 0, 1, kept_on=("n2", "n4")), Want("2", 1, 0, 2, kept_on=("n3",))

    def seen(node: str, *heads: Want, user: str = "ann", is_alive: bool = True) -> Seen:
        card = Card(user, node, 1, 8, 8, 0, version="1", heads=heads)
        return Seen(spool, card, is_alive, 0.0)

    look = [seen("n1", wide, small), seen("n2", wide), seen("n3", wide)]
    assert kept_before(look, "ann") == {wide.shape: {"n2"}}
    assert kept_before(look, "bob") == {}
    assert kept_before([seen("n2", wide, is_alive=False)], "ann") == {}
    two = [seen("n3", Want("1", 8, 0, 1, kept_on=("n3",))), seen("n2", wide)]
    assert kept_before(two, "ann") == kept_before(two[::-1], "ann") == {wide.shape: {"n2", "n3"}}


def test_what_a_job_uses_is_known_also_if_nothing_was_promised() -> None:
    """As soon as a job that waits asks for memory; of one whose process is not to be seen it is not known."""
    job = Occupant("1", RUNNING, 1, 0, False, 0, True, process=procs.own_identity())
    lodgers = [Lodger("bob", job)]
    command = [sys.executable, "-c", "print(flush=True); input()"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as child:
        assert child.stdout is not None
        child.stdout.readline()
        seen = table_for(lodgers, is_asked_for=True)
        assert (occupancy.resident(job, seen) or 0) >= 1 << 20
        assert occupancy.holding(lodgers[0], seen, 0).resident == occupancy.resident(job, seen)
        child.communicate("")
    assert occupancy.resident(job, table_for(lodgers)) is None
    assert occupancy.resident(replace(job, process=None), seen) is None
    assert occupancy.resident(replace(job, process=None, state=CLAIMED), seen) == 0


def test_a_job_has_its_grace_before_it_is_said_to_be_over() -> None:
    """One that ought to be over may be so at any time, or never; what has not begun has all of its limit."""
    job = Occupant("1", RUNNING, 1, 0, False, 0, True, since_ns=1000 * NS, limit_s=60.0)

    def left_s(job: Occupant, after_s: int) -> float | None:
        return occupancy.holding(
            Lodger("bob", job), table_for([]), (1000 + after_s) * NS, grace_s=30.0
        ).left_s

    assert [left_s(job, after_s) for after_s in (0, 60, 89, 90, 4000)] == [90.0, 30.0, 1.0, None, None]
    assert left_s(replace(job, since_ns=0), 4000) == 90.0
    assert left_s(replace(job, limit_s=None), 0) is None


def test_what_runs_on_when_its_daemon_stopped_counts(tmp_path: Path) -> None:
    """As long as it may: or whoever fills nodes and stops his daemons there would be the next everywhere."""
    spool = new_spool(tmp_path)
    job = Occupant("1", RUNNING, 8, 0, False, 0, True, since_ns=1000 * NS, process=Identity("b1", 17, 4))
    long = 10 * SILENT_S

    def seen(user: str, node: str, *jobs: Occupant, boot: str = "b1", **more: Any) -> Seen:
        is_alive, silent_s = more.pop("is_alive", True), more.pop("silent_s", 0.0)
        process = Identity(boot, 16, 4)
        known = {"version": "1", "beat": 7, "cores": 8, "written_ns": 1000 * NS, "process": process, **more}
        return Seen(spool, Card(user, node, 1, 8, 8, 0, jobs=jobs, **known), is_alive, silent_s)

    left = seen("bob", "n2", job, is_alive=False, silent_s=long, state=cards.LEAVING)
    limited = replace(left, card=replace(left.card, jobs=(replace(job, limit_s=long + 60.0),)))
    over = replace(left, card=replace(left.card, jobs=(replace(job, limit_s=60.0), replace(job, cores=2))))
    heard, elsewhere = seen("cyd", "n2"), seen("bob", "n3")

    def counted(*look: Seen) -> int:
        return occupancy.running_cores(look).get("bob", 0)

    assert counted(left, heard, elsewhere) == 8
    assert counted(limited, heard) == 8
    assert counted(over, heard) == 2
    assert counted(left, elsewhere) == 0, "nobody is heard of there"
    assert counted(replace(left, silent_s=1.0), elsewhere) == 8, "for a while that is no matter"
    assert counted(left, seen("cyd", "n2", boot="b2")) == 0, "it was rebooted"
    assert counted(left, replace(heard, is_alive=False)) == 0
    assert counted(left, heard, seen("bob", "n3", emptied=(("n2", 7),))) == 0
    assert counted(left, heard, seen("bob", "n3", emptied=(("n2", 6),))) == 8
    assert counted(left, heard, seen("cyd", "n3", emptied=(("n2", 7),))) == 8, "not his to say"


def test_of_ones_own_node_the_processes_tell_what_runs_on(tmp_path: Path) -> None:
    """Not the card of a daemon that stopped, which nobody renews when its jobs end."""
    spool = new_spool(tmp_path)
    ended, there = (
        Occupant(job_id, RUNNING, 4, 0, False, 0, True, process=Identity(procs.boot_id(), pid, 4))
        for job_id, pid in (("1", 17), ("2", 18))
    )
    own = procs.own_identity()
    stopped = Card("bob", "n1", 1, 8, 8, 0, version="1", cores=8, jobs=(ended, there), process=own)
    mine = Card("ann", "n1", 1, 8, 8, 0, version="1", cores=8, process=own)
    look = (Seen(spool, stopped, False, 5000.0), Seen(spool, mine, True, 0.0))
    facts = Facts(8, 8, 1, 1, 0.0, 0.0)
    lodgers = (Lodger("bob", there), Lodger("ann", replace(there, cores=1)))
    scene = Scene("ann", "n1", Config(("/home",)), facts, look, lodgers, 0.0, Limit())

    assert running_cores(scene) == {"ann": 1, "bob": 4}


def test_a_job_is_unattended_whose_owner_has_no_daemon_here_that_acts(tmp_path: Path) -> None:
    """Cards on other nodes do not help, nor one that stands still; a drained daemon asks its jobs as well."""
    spool = new_spool(tmp_path)

    def seen(user: str, node: str = "n1", silent_s: float = 0.0, **more: Any) -> Seen:
        is_alive = more.pop("is_alive", True)
        job = Occupant("1", RUNNING, 1, 0, False, 0, True, restartable=True)
        return Seen(spool, Card(user, node, 1, 8, 8, 0, version="1", jobs=(job,), **more), is_alive, silent_s)

    look = (
        seen("bob"),
        seen("cyd", is_alive=False),
        seen("dan", silent_s=STUCK_S + 1),
        seen("eve", "n2", silent_s=STUCK_S + 1),
        seen("fay", state=cards.DRAINING),
    )
    users = ("ann", "bob", "cyd", "dan", "eve", "fay", "gus")
    job = Occupant("1", RUNNING, 1, 0, False, 0, True, restartable=True)
    facts = Facts(8, 8, 1, 1, 0.0, 0.0)
    scene = Scene(
        "ann", "n1", Config(("/home",)), facts, look, tuple(Lodger(user, job) for user in users), 0.0, Limit()
    )

    there = holdings(scene, is_memory_asked_for=False)

    assert [held.user for held in there if held.unattended] == ["cyd", "dan", "eve", "gus"]
    staying = holdings(
        replace(scene, lodgers=(Lodger("bob", replace(job, leaving=True)),)),
        is_memory_asked_for=False,
        staying={("bob", "1")},
    )
    assert [(held.unattended, held.leaving) for held in staying] == [(True, False)]
    assert yielding(scene) == {"ann", "bob", "eve", "fay"}
