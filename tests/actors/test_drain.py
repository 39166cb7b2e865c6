"""Drains and limits with a real daemon: what is typed it obeys within a poll, and nothing that runs ends.

Drains of another node, and the administrator's, are in tests/cluster/test_fairness.py.
"""

from __future__ import annotations

import time

from roundq.records import cards
from roundq.words.states import COMPLETED, RUNNING, WAITING
from tests.actors.spoolhome import NODE, SpoolHome
from tests.cluster.wait import wait_until
from tests.faces.desk import process

HOLD = "until [ -e {0}.go ]; do sleep 0.02; done"
#: Polls of these daemons, with all that a loaded machine adds.
POLL_S = 15.0


def rq(home: SpoolHome, *words: str) -> str:
    """What a command of hers prints on this node; it must succeed."""
    environ = {**home.environ, "RQ_AUTO_START": "no", "RQ_HOMES": str(home.home.parent)}
    done = process(*words, environ=environ, timeout=60)
    assert done.returncode == 0, done
    return done.stdout.decode()


def hold(home: SpoolHome, label: str) -> str:
    """Submits a job of one core that runs until `go`."""
    return home.shell(HOLD.format(label), cores=1)


def go(home: SpoolHome, *labels: str) -> None:
    for label in labels:
        (home.home / f"{label}.go").touch()


def wait_said(home: SpoolHome, state: str, reason: str = "") -> None:
    """Until the daemon says so of this node."""

    def says() -> bool:
        card = cards.read(home.spool, NODE)
        return (card.state, card.reason) == (state, reason)

    wait_until(says, POLL_S, on_timeout=home.story)


def wait_seen(home: SpoolHome, waiting: int) -> None:
    """Until the daemon has said why so many jobs wait."""

    def says() -> bool:
        card = cards.read(home.spool, NODE)
        return card.waiting == waiting and bool(card.said)

    wait_until(says, POLL_S, on_timeout=home.story)


def on_card(home: SpoolHome) -> set[str]:
    """The jobs that the daemon tells of."""
    return {job.id for job in cards.read(home.spool, NODE).jobs}


def test_a_drained_node_starts_nothing_and_ends_nothing(home: SpoolHome) -> None:
    """What runs goes on, lists say why, a new daemon obeys, too; resumed, what waits starts."""
    runs = hold(home, "runs")
    first = home.daemon(RQ_CORES="4")
    home.wait_for(runs, RUNNING)

    assert rq(home, "drain", "--reason", "new disk").startswith(f"{NODE} is drained: ")
    wait_said(home, cards.DRAINING, "drained by ann: new disk")
    waits = home.shell("true")
    wait_seen(home, 1)
    assert "drained by ann: new disk" in rq(home, "why", waits)
    assert "drained by ann: new disk" in rq(home, "nodes")
    first.terminate()
    first.wait(20)
    home.daemon(RQ_CORES="4")
    wait_said(home, cards.DRAINING, "drained by ann: new disk")
    wait_seen(home, 1)
    assert (home.state(runs), home.state(waits)) == (RUNNING, WAITING)

    go(home, "runs")
    assert home.wait_for(runs).exit_code == 0, "what ran came to its own end"
    assert home.state(waits) == WAITING
    assert rq(home, "resume", NODE) == f"{NODE} is resumed: your daemon starts jobs there again\n"
    home.wait_for(waits, COMPLETED, timeout=POLL_S)
    wait_said(home, cards.UP)


def test_a_limit_of_ones_own_holds_from_the_next_look_on(home: SpoolHome) -> None:
    """More is not started, what runs is not stopped; without the limit the rest starts."""
    jobs = [hold(home, f"j{number}") for number in range(2)]
    home.daemon(RQ_CORES="4")
    for job in jobs:
        home.wait_for(job, RUNNING)

    assert "You have more cores than that" in rq(home, "limit", "-c", "1")
    waits = home.shell("true", submitted_ns=time.time_ns())
    wait_seen(home, 1)
    assert "your limit of 1 core" in rq(home, "why", waits)
    assert [home.state(job) for job in jobs] == [RUNNING, RUNNING]
    go(home, "j0")
    home.wait_for(jobs[0])
    wait_until(lambda: on_card(home) == {jobs[1]}, POLL_S, on_timeout=home.story)
    assert home.state(waits) == WAITING, "one core is in use, and no more are wanted"

    rq(home, "limit", "--none")
    home.wait_for(waits, COMPLETED, timeout=POLL_S)
    assert home.state(jobs[1]) == RUNNING
    go(home, "j1")
    home.wait_for(jobs[1], COMPLETED)
