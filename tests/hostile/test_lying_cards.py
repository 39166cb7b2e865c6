"""Promises about cards that lie: they occupy only what is theirs, and keep nobody from his turn for long."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from roundq.actors import courtesy, occupancy, turns
from roundq.actors.round import Round
from roundq.faces import cluster
from roundq.records import cards, neighbours
from roundq.words.errors import RecordError
from roundq.words.job import Identity
from roundq.words.states import RUNNING, WAITING
from roundq.world import procs
from roundq.world.config import Config
from roundq.world.node import Node
from tests.actors.spoolhome import NODE, SpoolHome
from tests.cluster.wait import wait_until
from tests.hostile.neighbour import EVE, Eve
from tests.rights import need_root

CORES = 4
BOOT = procs.boot_id()


@pytest.fixture(autouse=True)
def _at_home(home: SpoolHome, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs get the environment of this process: by it `home` finds them in the end."""
    monkeypatch.setenv("HOME", str(home.home))


@pytest.fixture
def eve(home: SpoolHome) -> Iterator[Eve]:
    need_root()
    made = Eve(home.home.parent, NODE)
    yield made
    made.stop()


def round_of(home: SpoolHome) -> Round:
    """The rounds of a daemon of ann that just started."""
    config = Config((str(home.home.parent),), cores=CORES)
    return Round(home.spool, Node(home.environ), lambda: (config, None), logging.getLogger("test"), 1)


def here(home: SpoolHome, eve: Eve) -> int:
    """The cores of this node that ann believes eve's jobs to have."""
    found = occupancy.others_here([home.spool, eve.spool], home.spool.user, NODE)
    return sum(lodger.job.cores for lodger in found)


# ---------------------------------------------------------------- processes


def test_a_job_that_runs_as_its_user_counts(home: SpoolHome, eve: Eve) -> None:
    """What is true is believed, or else nothing that follows would show anything."""
    eve.card(eve.process(), jobs=[eve.job(1, eve.process(), cores=3)])
    assert here(home, eve) == 3


@pytest.mark.parametrize("whose", ["ann's daemon", "init", "nobody", "after a reboot"])
def test_a_process_of_somebody_else_occupies_nothing(home: SpoolHome, eve: Eve, whose: str) -> None:
    """Else a stranger's card could hold a node with what I run, or what always runs."""
    first = procs.identity(1)
    mine = procs.own_identity()
    named = {
        "ann's daemon": mine,
        "init": first,
        "nobody": Identity(BOOT, mine.pid, 1),
        "after a reboot": Identity("another", eve.process().pid, 1),
    }[whose]
    eve.card(named, jobs=[eve.job(1, named, cores=CORES), eve.job(2, None, cores=CORES)])
    assert here(home, eve) == 0
    assert not neighbours.daemon_lives(cards.read(eve.spool, NODE), eve.uid)


def test_one_process_leads_one_job(home: SpoolHome, eve: Eve) -> None:
    process = eve.process()
    eve.card(eve.process(), jobs=[eve.job(number, process) for number in range(1000)])
    assert here(home, eve) == 1


@pytest.mark.parametrize("pid", [0, 1, 2, "mine"])
def test_an_old_card_names_only_processes_of_its_user(home: SpoolHome, eve: Eve, pid: int | str) -> None:
    """Those of 0.2.9 have nothing but a pid."""
    number = os.getpid() if pid == "mine" else pid
    eve.raw({"hostname": NODE, "pid": number, "physical_cores": 4, "logical_cpus": 4})
    record = {"job": {"command": ["x"], "cores": 4}, "node": NODE, "pid": number}
    eve_job = f"{eve.spool.path}/running/1.5.job"
    with open(eve_job, "w") as file:
        file.write(str(record).replace("'", '"'))
    eve.own()
    assert here(home, eve) == 0
    assert not neighbours.daemon_lives(cards.read(eve.spool, NODE), eve.uid)


@pytest.mark.parametrize("pid", [-1, -(1 << 70), 1 << 70, 1.0, "1", None, True])
def test_an_absurd_pid_makes_no_card(eve: Eve, pid: object) -> None:
    eve.raw({"hostname": NODE, "pid": pid, "physical_cores": 4, "logical_cpus": 4})
    with pytest.raises(RecordError):
        cards.read(eve.spool, NODE)


# ---------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cores", 1_000_000),
        ("cores", -1),
        ("cores", 1e999),
        ("memory", 10**400),
        ("memory", -1),
        ("beat", 0.5),
        ("load", float("nan")),
        ("waiting", -5),
        ("heads", [{"id": "1", "cores": -1, "memory": 0, "submitted": {"secs": 0}}]),
        ("jobs", [{"id": "1", "state": "running", "cores": 10**7, "memory": 0, "stamp": 0, "settled": True}]),
    ],
    ids=range(10),
)
def test_an_absurd_number_makes_no_card(eve: Eve, field: str, value: object) -> None:
    eve.card(eve.process(), **{field: value})
    with pytest.raises(RecordError):
        cards.read(eve.spool, NODE)


def test_cores_count_for_no_more_than_a_node_has(eve: Eve) -> None:
    """In what a stranger is said to have in the cluster, and in what is left of other nodes."""
    jobs = [eve.job(number, None, cores=90_000) for number in range(500)]
    eve.card(eve.process(), jobs=jobs)
    seen = neighbours.Neighbourhood(NODE).look([eve.spool], 0.0)
    assert occupancy.running_cores(seen) == {"eve": 4}


def test_lists_show_what_my_own_daemon_says_of_a_node(home: SpoolHome, eve: Eve) -> None:
    """However much a living daemon of hers claims to offer, and its jobs to have."""
    round_of(home).run(1000.0)
    jobs = [eve.job(number, None, cores=90_000) for number in range(200)]
    huge = {"cores": 100_000, "memory": 1 << 52, "load": 1e300, "jobs": jobs}
    eve.card(eve.process(), **huge)
    for number in range(200):
        with open(f"{eve.spool.path}/running/{number}@{NODE}.job", "w") as file:
            file.write("{}")
    eve.own()
    looked = cluster.look([home.spool, eve.spool], home.spool, NODE, 0.0)
    (node,) = cluster.nodes_of(looked)
    assert node.cores == CORES
    assert node.used <= max(CORES, node.logical_cpus)
    assert node.memory is not None
    assert node.memory < 1 << 50
    assert {user.name: user.cores for user in cluster.users_of(looked)}["eve"] <= max(
        CORES, node.logical_cpus
    )


def test_without_a_card_of_mine_one_liar_among_honest_users_is_not_believed(
    home: SpoolHome, eve: Eve
) -> None:
    told = [eve.spool]
    eve.card(eve.process(), cores=100_000)
    for name, uid in (("bob", EVE + 1), ("cyd", EVE + 2)):
        other = Eve(home.home.parent, NODE, uid, name)
        other.card(other.process(), cores=CORES)
        told.append(other.spool)
        home.started += other.processes
    (node,) = cluster.nodes_of(cluster.look([home.spool, *told], home.spool, NODE, 0.0))
    assert node.cores == CORES


# ---------------------------------------------------------------- turns


class Night:
    """Ann's daemon round by round, at times that are chosen; Eve's card is fresh each time."""

    def __init__(self, home: SpoolHome, eve: Eve) -> None:
        self.home, self.eve = home, eve
        self.round = round_of(home)
        self.daemon = eve.process()
        self.now_s = 1000.0

    def plays(self, seconds: float, **ours: Any) -> None:
        """Rounds for so many seconds while her card says this."""
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            self.eve.card(self.daemon, **ours)
            self.round.run(self.now_s)
            self.now_s += 5.0

    def waits(self, job: str) -> bool:
        return self.home.state(job) == WAITING


@pytest.fixture
def night(home: SpoolHome, eve: Eve) -> Night:
    return Night(home, eve)


def test_who_claims_turns_and_takes_none_is_passed_over(home: SpoolHome, eve: Eve, night: Night) -> None:
    """A turn is respected, or it would be none; but not for ever."""
    job = home.shell("true")
    asks = {"heads": [eve.head(CORES)], "waiting": 10**6}
    night.plays(turns.TURN_S - 5, **asks)
    assert night.waits(job)
    night.plays(20, **asks)
    home.wait_for(job)


def test_what_scavenges_waits_no_longer_for_a_turn_that_is_never_taken(
    home: SpoolHome, eve: Eve, night: Night
) -> None:
    job = home.shell("true", scavenge=True)
    asks = {"heads": [eve.head(CORES)], "waiting": 10**6}
    night.plays(turns.TURN_S - 5, **asks)
    assert night.waits(job)
    night.plays(20, **asks)
    home.wait_for(job)


def test_what_scavenges_by_its_card_and_never_gives_way_shields_nobody_for_long(
    home: SpoolHome, eve: Eve, night: Night
) -> None:
    """It is younger than any; ann's gives way for her job when hers did not."""
    mine = home.shell("sleep 1000", cores=2, scavenge=True, restartable=True)
    night.plays(5)
    home.wait_for(mine, RUNNING)
    job = home.shell("true", cores=2)
    never: dict[str, Any] = {
        "cores": 2,
        "scavenge": True,
        "restartable": True,
        "since": {"secs": int(time.time()) + 10**6},
    }
    asks = {"jobs": [eve.job(1, eve.process(), **never)]}
    night.plays(courtesy.OWED_S - 5, **asks)
    assert night.waits(job)
    assert home.state(mine) == RUNNING
    night.plays(60, **asks)

    def begins() -> bool:
        night.plays(5, **asks)
        return not night.waits(job)

    wait_until(begins, 20, on_timeout=home.story)
    home.wait_for(job)
    assert night.waits(mine)


def test_who_wastes_turns_again_is_passed_over_for_longer(home: SpoolHome, eve: Eve, night: Night) -> None:
    """What a card can delay for nothing is a smaller and smaller part of the time."""
    asks = {"heads": [eve.head(CORES)], "waiting": 10**6}
    delayed_s = 0.0
    began_s = night.now_s
    for _ in range(60):
        job = home.shell("true")
        before_s = night.now_s
        while night.waits(job):
            assert night.now_s - before_s < 3 * turns.TURN_S
            night.plays(5, **asks)
        delayed_s += night.now_s - before_s - 5
        home.wait_for(job)
        night.plays(120, **asks)
    assert delayed_s / (night.now_s - began_s) < 0.06


def test_who_begins_a_job_has_turns_again(home: SpoolHome, eve: Eve, night: Night) -> None:
    """A neighbour whose daemon could not start anything for a while is not punished for long."""
    asks = {"heads": [eve.head(CORES)], "waiting": 10**6}
    first = home.shell("true")
    night.plays(turns.TURN_S + 10, **asks)
    home.wait_for(first)
    assert night.round.turns.is_passed_over("eve", night.now_s)
    second = home.shell("sleep 1000")
    # She has begun one, and now has as many cores as ann; her next is the earlier one.
    asks = {"heads": [eve.head(CORES - 2)], "waiting": 9, "jobs": [eve.job(1, eve.process())]}
    night.plays(10, **asks)
    home.wait_for(second, "running")
    assert not night.round.turns.is_passed_over("eve", night.now_s)
    third = home.shell("true")
    night.plays(turns.TURN_S - 15, **asks)
    assert night.waits(third)


def test_a_claim_without_a_process_is_no_job_begun(home: SpoolHome, eve: Eve, night: Night) -> None:
    """It costs nothing to write one, so it does not give new turns."""
    job = home.shell("true")
    for number in range(40):
        night.plays(5, heads=[eve.head(CORES)], waiting=9, jobs=[eve.job(number, None, settled=False)])
        if not night.waits(job):
            break
    home.wait_for(job)


def test_a_neighbour_who_takes_his_turns_is_never_passed_over(
    home: SpoolHome, eve: Eve, night: Night
) -> None:
    job = home.shell("true")
    processes = [eve.process() for _ in range(20)]
    for number, process in enumerate(processes):
        night.plays(30, heads=[eve.head(submitted={"secs": 1})], waiting=9, jobs=[eve.job(number, process)])
        assert not night.round.turns.is_passed_over("eve", night.now_s)
    home.wait_for(job)
