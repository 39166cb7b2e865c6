"""Rounds, one at a time, with the clock passed in: what slow listings, requests and sweeps must not spoil."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from roundq.actors import folding
from roundq.actors.round import Round
from roundq.actors.sweeping import SWEEP_S
from roundq.records import control, environments, history
from roundq.records import spool as spools
from roundq.records.shelf import Shelf
from roundq.words import policy
from roundq.words import record_format as formats
from roundq.words.drains import Drain
from roundq.words.job import Job, Record
from roundq.words.states import CANCELED, CLAIMED, COMPLETED, WAITING
from roundq.world.config import Config
from roundq.world.node import Node
from tests.actors.spoolhome import NODE, SpoolHome

#: More than any node has: such a job waits for ever.
WIDE = 100_000


def round_of(home: SpoolHome, **config: object) -> Round:
    """The rounds of a daemon that just started."""
    given = Config((str(home.home.parent),), **{"cores": 4, **config})  # type: ignore[arg-type]
    return Round(home.spool, Node(home.environ), lambda: (given, None), logging.getLogger("test"), 1)


class Clock:
    """Stands still but for what is put on it."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """The monotonic clock, and a listing of waiting/ that takes as long as `clock.listing_s` says."""
    made = Clock()
    monkeypatch.setattr(time, "monotonic", made)
    yield made
    monkeypatch.undo()


def slow_listing(monkeypatch: pytest.MonkeyPatch, clock: Clock, takes_s: float) -> None:
    look = Shelf.look

    def slowly(shelf: Shelf, now_s: float) -> bool:
        clock.now_s += takes_s
        return look(shelf, now_s)

    monkeypatch.setattr(Shelf, "look", slowly)


# ---------------------------------------------------------------- looking


def test_a_slow_listing_leaves_time_to_read_what_it_lists(
    home: SpoolHome, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    """A queue that changes all the time is listed each time: were nothing read then, nothing ever were."""
    home.submit("true", cores=WIDE)
    slow_listing(monkeypatch, clock, 1.0)
    one = round_of(home)

    one.run(clock.now_s)

    assert len(one.waiting) == 1


def test_after_a_home_that_hung_the_queue_is_looked_at_again_soon(
    home: SpoolHome, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    """Ten minutes of a server's absence must not become a hundred in which no new job is seen."""
    home.submit("true", cores=WIDE)
    one = round_of(home)
    with monkeypatch.context() as patch:
        slow_listing(patch, clock, 600.0)
        one.run(clock.now_s)
    new = home.submit("true", cores=WIDE)
    clock.now_s += 2 * Config(()).poll_max_s

    one.run(clock.now_s)

    assert one.waiting.entry(new) is not None


# ---------------------------------------------------------------- requests


def test_a_job_that_is_to_be_canceled_is_not_begun(home: SpoolHome) -> None:
    """Its node crashed before the cancel was done; the next daemon finds job and request at once."""
    job = home.submit("true")
    spools.request(home.spool, job, "cancel", NODE)
    one = round_of(home)

    one.run(100.0)

    assert home.state(job) == CANCELED
    assert home.record(job).started_ns == 0
    assert one.tenants.by_id == {}


def test_requests_that_could_not_be_listed_are_looked_for_again(
    home: SpoolHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the home must not hide them until something else is asked."""
    one = round_of(home)
    job = home.submit("true", cores=WIDE)
    one.run(100.0)
    one.run(110.0)
    spools.request(home.spool, job, "cancel", NODE)
    one.run(111.0)
    assert home.state(job) == CANCELED
    job = home.submit("true", cores=WIDE)
    spools.request(home.spool, job, "cancel", NODE)
    with monkeypatch.context() as patch:

        def away(_: object) -> None:
            raise OSError("away")

        patch.setattr(spools, "requests", away)
        for now_s in (112.0, 115.0):
            with pytest.raises(OSError, match="away"):
                one.run(now_s)

    one.run(116.0)

    assert home.state(job) == CANCELED


# ---------------------------------------------------------------- sweeping


def old_environment(home: SpoolHome, name: str) -> tuple[str, Path]:
    """An environment that was stored a year ago."""
    digest = environments.store(home.spool, {"NAME": name}, NODE)
    path = Path(home.spool.path, "env", f"{digest}.json")
    os.utime(path, (time.time() - 366 * 86_400,) * 2)
    return digest, path


def test_an_environment_goes_once_nobody_needed_it_in_two_sweeps(home: SpoolHome) -> None:
    """A job on its way from one directory to the next, perhaps on another node, is met in neither."""
    digest, path = old_environment(home, "moving")
    _, spare = old_environment(home, "spare")
    job = home.submit("true", cores=WIDE, environment=digest)
    one = round_of(home)
    one.run(100.0)
    entry = home.entry(job)
    on_its_way = Path(home.spool.path, "tmp", "on its way")
    Path(spools.path_of(home.spool, entry)).rename(on_its_way)
    one.run(100.0 + SWEEP_S)
    assert path.exists()

    on_its_way.rename(spools.path_of(home.spool, entry))
    for sweep in (2, 3):
        one.run(100.0 + sweep * SWEEP_S)

    assert path.exists()
    assert not spare.exists()


def test_no_environment_goes_while_a_job_file_cannot_be_read(home: SpoolHome) -> None:
    """Which it needs cannot be told until it can."""
    _, spare = old_environment(home, "spare")
    Path(home.spool.path, "waiting", "cut.job").write_text("{")
    one = round_of(home)

    for sweep in range(4):
        one.run(100.0 + sweep * SWEEP_S)

    assert spare.exists()


def test_old_records_are_folded_while_the_round_goes_on(
    home: SpoolHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slice in each round, soon one after the other; what is younger stays, and what waits begins."""
    monkeypatch.setattr(folding, "SLICE_MOST", 3)
    monkeypatch.setattr(folding, "SLICE_S", 60.0)
    for number in range(100, 108):
        path = Path(home.spool.path, "completed", f"{number}.job")
        record = Record(Job(("true",)), completed_ns=time.time_ns(), exit_code=0)
        path.write_bytes(formats.dump(record))
        if number != 105:
            os.utime(path, (time.time() - 15 * 86_400,) * 2)
    one = round_of(home)
    one.run(100.0)
    left = [8]
    for place in range(4):
        again_s = one.run(100.0 + SWEEP_S + place)
        left.append(len(os.listdir(home.spool.directory("completed"))))
        assert again_s <= folding.AGAIN_S or left[-1] == 1
        assert len(history.look(home.spool).moving) == 0

    assert left == [8, 5, 2, 1, 1]
    assert home.state("105") == COMPLETED
    assert sorted(history.find(home.spool, map(str, range(100, 108)))) == [
        *(str(number) for number in range(100, 108) if number != 105)
    ]


@pytest.mark.parametrize("ahead_days", [0, 1000])
def test_the_history_is_kept_by_the_clock_of_the_server_too(
    ahead_days: int, home: SpoolHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that boots with a wrong clock removes nothing of what is young, and nobody anything at once."""
    day_s = 86_400
    journal = history.Journal(home.spool, NODE)
    for number, age_days in ((1, 400), (2, 10), (3, 10)):
        path = Path(home.spool.path, "history", f"{number}@{NODE}.completed")
        ended_ns = int((time.time() - age_days * day_s) * 1e9)
        path.write_bytes(formats.dump(Record(Job(("true",)), completed_ns=ended_ns, exit_code=0)))
        journal.fold(history.look(home.spool).moving, 1e9, -1.0)
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + ahead_days * day_s)
    one = round_of(home, history_s=365.0 * day_s)

    def kept() -> list[str]:
        return sorted(volume.file for volume in history.look(home.spool).volumes)

    assert len(kept()) == 3
    one.run(100.0)
    assert len(kept()) == 3
    one.run(100.0 + SWEEP_S)
    assert kept() == [f"{NODE}.2.jsonl", f"{NODE}.3.jsonl"]


def test_what_others_left_half_folded_is_taken_over_after_an_hour(home: SpoolHome) -> None:
    """A daemon that lives would have done it; one's own half is done at the start."""
    for number, node in ((1, NODE), (2, "other")):
        path = Path(home.spool.path, "history", f"{number}@{node}.failed")
        path.write_bytes(formats.dump(Record(Job(("false",)), completed_ns=5, reason="exit", exit_code=1)))
    one = round_of(home)

    one.run(100.0)

    assert [moving.id for moving in history.look(home.spool).moving] == ["2"]
    one.run(100.0 + SWEEP_S)
    assert [moving.id for moving in history.look(home.spool).moving] == ["2"]
    one.run(100.0 + 2 * SWEEP_S)
    assert history.look(home.spool).moving == []
    assert sorted(history.find(home.spool, ["1", "2"])) == ["1", "2"]


# ---------------------------------------------------------------- drains


def test_a_claim_that_is_not_yet_settled_when_its_node_is_drained_goes_back(
    home: SpoolHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may take long until it is known to be the only one; a drained node starts nothing more."""
    job = home.submit("true")
    one = round_of(home)
    with monkeypatch.context() as patch:
        patch.setattr(policy, "settle", lambda *_, **__: policy.Settlement(policy.Ruling.UNDECIDED, "later"))
        one.run(100.0)
    assert home.state(job) == CLAIMED
    control.drain(home.spool, NODE, Drain("ann", "disk"), NODE)

    one.run(100.1)

    assert home.state(job) == WAITING
    assert one.tenants.by_id == {}
    assert one.card is not None
    assert (one.card.state, one.card.reason) == ("draining", "drained by ann: disk")
