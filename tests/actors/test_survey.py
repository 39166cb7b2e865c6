"""Promises about what a decision is told: which node was chosen to be kept, what jobs use."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from roundq.actors import occupancy
from roundq.actors.occupancy import Lodger
from roundq.actors.survey import STUCK_S, Facts, Scene, holdings, kept_before, table_for, yielding
from roundq.records import cards
from roundq.records.cards import Card, Occupant
from roundq.records.neighbours import Seen
from roundq.words.job import NS
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
    assert yielding(scene) == {"ann", "bob", "eve", "fay"}
