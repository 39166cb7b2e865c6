"""What lets held jobs go, in process: by daemons of several nodes, against what a model says."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from roundq.actors.held import HeldList
from roundq.actors.maxfails import MaxFails
from roundq.actors.round import Round
from roundq.actors.sweeping import SWEEP_S
from roundq.actors.targets import MISSED_MOST, MISSED_S, SOMEWHERE_S, Targets
from roundq.records import changes, environments
from roundq.records import spool as spools
from roundq.records.spool import Spool
from roundq.words import record_format as formats
from roundq.words.job import NS, Array, Dependency, Job, Record
from roundq.words.states import (
    CANCELED,
    COMPLETED,
    FAILED,
    HELD,
    RUNNING,
    WAITING,
    ZOMBIE,
)
from roundq.world import files
from roundq.world.config import Config
from roundq.world.node import Node

NOW_NS = 1_800_000_000 * NS


class House:
    """A spool, and the looks of daemons at it, with times of its own."""

    def __init__(self, path: Path) -> None:
        home = path / "ann"
        home.mkdir()
        self.spool: Spool = spools.at(str(home), "ann", os.geteuid())
        spools.prepare(self.spool)
        self.now_s, self.now_ns = 1000.0, NOW_NS
        self.daemons: dict[str, HeldList] = {}
        self.late_s = 0.0

    def put(self, job_id: str, state: str = HELD, file: str | None = None, **fields: object) -> None:
        """A record in a state, as others put it there."""
        facts = {name: fields.pop(name) for name in ("not_before_ns", "retried", "attempt") if name in fields}
        job = Job(("true",), submitted_ns=1, **fields)  # type: ignore[arg-type]
        path = f"{self.spool.directory('tmp')}/{job_id}"
        Path(path).write_bytes(formats.dump(Record(job, **facts)))  # type: ignore[arg-type]
        os.rename(path, f"{self.spool.directory(state)}/{file or job_id}.job")

    def move(self, job_id: str, state: str) -> None:
        """A job moves on, whoever moves it."""
        (entry,) = [one for one in spools.scan(self.spool) if one.id == job_id]
        name = f"{job_id}@n9.job" if state == RUNNING else f"{job_id}.job"
        os.rename(spools.path_of(self.spool, entry), f"{self.spool.directory(state)}/{name}")

    def look(self, node: str = "n1", after_s: float = 3.0) -> bool:
        """A look of a daemon, some time after what went before; whether it moved anything."""
        self.now_s += after_s
        self.now_ns += round(after_s * NS)
        if node not in self.daemons:
            self.daemons[node] = HeldList(self.spool, node, logging.getLogger("test"))
            self.daemons[node].expect_late(self.late_s)
        return self.daemons[node].look(self.now_s, self.now_ns, 0.0)

    def states(self) -> dict[str, str]:
        """Where each job is."""
        return {entry.id: entry.state for entry in spools.scan(self.spool)}

    def record(self, job_id: str) -> Record:
        (entry,) = [one for one in spools.scan(self.spool) if one.id == job_id]
        return spools.read(self.spool, entry)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def ok(job_id: str, tasks: int = 0) -> Dependency:
    return Dependency("ok", job_id, tasks)


# ---------------------------------------------------------------- times


def test_a_job_is_released_at_its_time_and_not_before(house: House) -> None:
    house.put("1", begin_ns=NOW_NS + 60 * NS)
    house.look()
    assert house.states() == {"1": HELD}
    assert house.daemons["n1"].again_s(house.now_s, house.now_ns) <= 57
    house.look(after_s=56.9)
    assert house.states() == {"1": HELD}
    house.look(after_s=0.2)
    assert house.states() == {"1": WAITING}


def test_a_retry_begins_when_its_time_has_come_whatever_became_of_what_it_came_after(house: House) -> None:
    house.put("1", FAILED)
    house.put("2", after=(ok("1"),), not_before_ns=NOW_NS + 10 * NS, retried=1, attempt=2)
    house.look()
    assert house.states()["2"] == HELD
    house.look(after_s=10)
    assert house.states()["2"] == WAITING


def test_a_clock_that_is_set_back_only_makes_it_wait(house: House) -> None:
    house.put("1", begin_ns=NOW_NS + 60 * NS)
    house.look()
    house.now_ns -= 3600 * NS
    house.look(after_s=60)
    assert house.states() == {"1": HELD}
    house.now_ns += 3600 * NS
    house.look()
    assert house.states() == {"1": WAITING}


def test_a_job_that_ran_and_waits_again_is_not_released_by_what_was_known_of_it(house: House) -> None:
    """Another daemon released it at its time; this one comes to it later, and saw nothing of that."""
    house.put("1", begin_ns=NOW_NS + 60 * NS)
    house.look("n1")
    house.now_s += 60
    house.now_ns += 60 * NS
    # Its list is not to be brought up to date for a while.
    daemon = house.daemons["n1"]
    daemon._look_again_s = house.now_s + 60
    house.move("1", RUNNING)
    os.remove(f"{house.spool.directory(RUNNING)}/1@n9.job")
    house.put("1", begin_ns=NOW_NS + 60 * NS, not_before_ns=house.now_ns + 3600 * NS, retried=1, attempt=2)
    daemon.look(house.now_s, house.now_ns, 60.0)
    assert house.states() == {"1": HELD}


# ---------------------------------------------------------------- dependencies

ENDS = {
    ("ok", COMPLETED): WAITING,
    ("ok", FAILED): CANCELED,
    ("ok", CANCELED): CANCELED,
    ("ok", ZOMBIE): CANCELED,
    ("any", COMPLETED): WAITING,
    ("any", FAILED): WAITING,
    ("any", CANCELED): WAITING,
    ("any", ZOMBIE): WAITING,
    ("fail", COMPLETED): CANCELED,
    ("fail", FAILED): WAITING,
    ("fail", CANCELED): WAITING,
    ("fail", ZOMBIE): WAITING,
}


@pytest.mark.parametrize(("how", "end"), ENDS)
def test_how_a_job_ended_decides_of_what_comes_after_it(house: House, how: str, end: str) -> None:
    house.put("1", WAITING)
    house.put("2", after=(Dependency(how, "1"),))
    for state in (WAITING, RUNNING):
        house.move("1", state)
        house.look()
        assert house.states()["2"] == HELD
    house.move("1", end)
    house.look()
    assert house.states()["2"] == ENDS[how, end]


def test_two_may_wait_for_one_job_in_different_ways(house: House) -> None:
    """Also if what it became of was known before the second came."""
    house.put("1", FAILED)
    house.put("2", after=(Dependency("any", "1"), ok("9")))
    house.put("9", WAITING)
    house.look()
    house.put("3", after=(Dependency("fail", "1"),))
    house.put("4", after=(ok("1"),))
    house.look()
    assert house.states() == {"1": FAILED, "2": HELD, "9": WAITING, "3": WAITING, "4": CANCELED}


def test_a_canceled_job_says_after_what_it_was_to_run(house: House) -> None:
    house.put("1", FAILED)
    house.put("2", after=(ok("1"),), environment="a" * 64)
    house.look()
    record = house.record("2")
    assert (record.reason, record.detail) == ("dependency", "it was to run after job 1, which failed")
    assert record.completed_ns == house.now_ns
    assert record.job.environment == "a" * 64


def test_a_cancel_is_handed_on_to_all_that_come_after_it(house: House) -> None:
    house.put("1", RUNNING, "1@n9")
    for number in range(2, 7):
        house.put(str(number), after=(ok(str(number - 1)),))
    house.put("7", after=(Dependency("any", "6"),))
    house.look()
    house.move("1", FAILED)
    for _ in range(6):
        house.look()
    assert house.states() == {"1": FAILED, **dict.fromkeys("23456", CANCELED), "7": WAITING}


def test_keep_held_keeps_a_job_that_can_never_run(house: House) -> None:
    house.put("1", FAILED)
    house.put("2", after=(ok("1"),), keep_held=True)
    for _ in range(3):
        house.look()
    assert house.states()["2"] == HELD
    assert house.daemons["n1"].again_s(house.now_s, house.now_ns) > 1
    # The failed job is run again, and ends well.
    house.move("1", WAITING)
    house.look()
    house.move("1", COMPLETED)
    house.look()
    assert house.states()["2"] == WAITING


def test_a_job_after_an_array_waits_for_its_last_task(house: House) -> None:
    for index in range(3):
        house.put(f"1_{index}", WAITING)
    house.put("2", after=(ok("1", 3),))
    house.put("3", after=(Dependency("any", "1", 3),))
    for index in range(3):
        house.look()
        assert house.states()["2"] == house.states()["3"] == HELD
        house.move(f"1_{index}", COMPLETED)
    house.look()
    assert house.states()["2"] == house.states()["3"] == WAITING


def test_a_failed_task_ends_the_hope_of_what_comes_after_its_array_at_once(house: House) -> None:
    for index in range(3):
        house.put(f"1_{index}", WAITING)
    house.put("2", after=(ok("1", 3),))
    house.put("3", after=(Dependency("any", "1", 3),))
    house.look()
    house.move("1_1", FAILED)
    house.look()
    assert house.states()["2"] == CANCELED
    assert house.states()["3"] == HELD
    assert house.record("2").detail == "it was to run after the tasks of 1, of which 1 failed"


def test_a_task_after_each_waits_for_its_own_task_only(house: House) -> None:
    for index in range(10):
        house.put(f"1_{index}", WAITING)
        house.put(f"2_{index}", after=(ok(f"1_{index}"),), array=Array("2", index, 0, 9, 1, 10))
    house.look()
    house.move("1_3", COMPLETED)
    house.move("1_4", FAILED)
    house.look()
    expected = {f"2_{index}": HELD for index in range(10)} | {"2_3": WAITING, "2_4": CANCELED}
    assert {job_id: state for job_id, state in house.states().items() if job_id[0] == "2"} == expected


def test_all_of_several_conditions_must_be_there_at_one_time(house: House) -> None:
    house.put("1", COMPLETED)
    house.put("2", WAITING)
    house.put("3", after=(ok("1"), ok("2")), begin_ns=NOW_NS + 60 * NS)
    house.look()
    # Run again before the other ended.
    house.move("1", WAITING)
    house.look()
    house.move("2", COMPLETED)
    house.look(after_s=100)
    assert house.states()["3"] == HELD
    house.move("1", COMPLETED)
    house.look()
    assert house.states()["3"] == WAITING


def test_a_job_that_is_seen_in_two_states_is_on_its_way_and_decides_nothing(house: House) -> None:
    """Run again, and listed before and after: neither of the two names need be the last word."""
    house.put("1_0", COMPLETED)
    house.put("1_1", WAITING)
    house.put("3", FAILED)
    for dependency, job_id in ((Dependency("any", "1", 2), "2"), (ok("3"), "4"), (ok("1", 2), "5")):
        house.put(job_id, after=(dependency,))
    house.put("1_0", FAILED)
    house.put("3", COMPLETED)
    house.look()
    assert [house.daemons["n1"].entry(job_id) is not None for job_id in "245"] == [True] * 3
    os.remove(f"{house.spool.directory(FAILED)}/1_0.job")
    os.remove(f"{house.spool.directory(FAILED)}/3.job")
    house.move("1_1", COMPLETED)
    house.look()
    assert {house.states()[job_id] for job_id in "245"} == {WAITING}


@pytest.mark.parametrize("refused", [COMPLETED, FAILED, CANCELED, ZOMBIE, HELD])
def test_what_other_directories_showed_is_not_forgotten_when_one_cannot_be_listed(
    house: House, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    house.put("1", WAITING)
    house.put("2", after=(ok("1"),))
    house.put("3", after=(Dependency("fail", "1"),))
    house.look()
    house.move("1", COMPLETED)
    listing = files.listing

    def refuse(directory: str, **more: int) -> list[files.Name]:
        if directory.endswith(f"/{refused}"):
            raise OSError(5, "Input/output error")
        return listing(directory, **more)

    with monkeypatch.context() as patch:
        patch.setattr(files, "listing", refuse)
        # One that stands still is not listed.
        os.utime(house.spool.directory(refused))
        with pytest.raises(OSError, match="Input/output"):
            house.look()
    house.look()
    assert house.states() == {"1": COMPLETED, "2": WAITING, "3": CANCELED}


# ---------------------------------------------------------------- what is not its business


def test_what_is_on_hold_or_being_changed_is_left_alone(house: House) -> None:
    house.put("1", COMPLETED)
    house.put("2", file="2@user", after=(ok("1"),))
    house.put("3", after=(ok("1"),))
    (entry,) = [one for one in spools.scan(house.spool, (HELD,)) if one.id == "3"]
    sealed = changes.change(house.spool, entry, "n9")
    assert sealed is not None
    house.look()
    assert house.states() == {"1": COMPLETED, "2": HELD, "3": HELD}
    changes.put_back(house.spool, sealed)
    changes.release(house.spool, next(e for e in spools.scan(house.spool) if e.id == "2"), HELD)
    house.look()
    assert house.states() == {"1": COMPLETED, "2": WAITING, "3": WAITING}


def test_an_edit_counts_even_if_the_name_is_the_same(house: House) -> None:
    house.put("1", begin_ns=NOW_NS + 3600 * NS)
    house.look()
    (entry,) = spools.scan(house.spool, (HELD,))
    sealed = changes.change(house.spool, entry, "n9")
    assert sealed is not None
    record = spools.read(house.spool, sealed)
    changes.put(house.spool, sealed, replace(record, job=replace(record.job, begin_ns=0)), HELD, "n9")
    house.look()
    assert house.states() == {"1": WAITING}


def test_a_file_that_is_no_job_is_told_of_and_holds_nothing_up(house: House) -> None:
    Path(f"{house.spool.directory(HELD)}/1.job").write_text("{")
    house.put("2")
    house.look()
    assert house.states() == {"1": HELD, "2": WAITING}
    house.look(after_s=6)
    (said,) = house.daemons["n1"].trouble()
    assert said.startswith("held/1.job is not a job: ")


# ---------------------------------------------------------------- what is nowhere


def test_a_job_that_is_nowhere_is_believed_to_be_after_several_looks(house: House) -> None:
    house.put("2", after=(Dependency("any", "1"),))
    house.look()
    house.look(after_s=SOMEWHERE_S)
    for _ in range(MISSED_MOST - 1):
        assert house.states()["2"] == HELD
        house.look(after_s=MISSED_S)
    assert house.states()["2"] == CANCELED
    detail = "it was to run after job 1, of which nothing is known any more"
    assert house.record("2").detail == detail


def test_a_job_that_is_missed_on_its_way_is_not_gone(house: House) -> None:
    house.put("2", after=(Dependency("any", "1"),))
    house.look()
    house.look(after_s=SOMEWHERE_S)
    house.look(after_s=MISSED_S)
    house.put("1", WAITING)
    for _ in range(5):
        house.look(after_s=MISSED_S)
    assert house.states()["2"] == HELD
    house.move("1", FAILED)
    house.look()
    assert house.states()["2"] == WAITING


def test_where_names_are_seen_late_a_job_is_held_until_they_are_seen(house: House) -> None:
    house.late_s = 30.0
    house.put("1", COMPLETED)
    house.put("2", after=(ok("1"),))
    house.look()
    house.look(after_s=29)
    assert house.states()["2"] == HELD
    house.look(after_s=2)
    assert house.states()["2"] == WAITING


def test_a_job_that_the_history_knows_has_ended_as_it_says(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    from roundq.records import history

    def find(_: Spool, ids: list[str]) -> dict[str, history.Past]:
        return {"1": history.Past("1", COMPLETED, 1, None, None, "")} if "1" in ids else {}

    monkeypatch.setattr(history, "find", find)
    house.put("2", after=(ok("1"),))
    house.look()
    house.look(after_s=SOMEWHERE_S)
    for _ in range(MISSED_MOST):
        house.look(after_s=MISSED_S)
    assert house.states()["2"] == WAITING


# ---------------------------------------------------------------- arrays of which too many tasks fail


def put_array(house: House, states: list[str], max_fails: int, cores: int = 1) -> None:
    for index, state in enumerate(states):
        array = Array("7", index, 0, len(states) - 1, 1, len(states), 0, max_fails)
        house.put(f"7_{index}", state, array=array, cores=cores)


def round_in(house: House) -> Round:
    config = Config((str(Path(house.spool.path).parent.parent),), cores=4)
    environ = {"HOME": os.path.dirname(house.spool.path), "RQ_NODE": "n1"}
    return Round(house.spool, Node(environ), lambda: (config, None), logging.getLogger("test"), 1)


def test_of_an_array_of_which_too_many_tasks_failed_nothing_begins_any_more(house: House) -> None:
    """What waits and what is held, on hold or not, is canceled, and says why; what ended stays as it is."""
    put_array(house, [FAILED, ZOMBIE, COMPLETED, WAITING, WAITING, HELD], max_fails=1)
    os.rename(f"{house.spool.directory(HELD)}/7_5.job", f"{house.spool.directory(HELD)}/7_5@user.job")
    house.put("8", begin_ns=1 << 62, array=Array("7", 6, 0, 6, 1, 7, 0, 1))
    daemon = round_in(house)
    for place in range(4):
        daemon.run(1000.0 + place)
        assert not list(daemon.tenants)
    ended = {"7_0": FAILED, "7_1": ZOMBIE, "7_2": COMPLETED}
    assert house.states() == {**ended, **dict.fromkeys(("7_3", "7_4", "7_5"), CANCELED), "8": HELD}
    record = house.record("7_4")
    assert (record.reason, record.detail) == ("max fails", "2 tasks of 7 failed, and --max-fails allows 1")


def test_as_many_failures_as_are_allowed_stop_nothing(house: House) -> None:
    put_array(house, [FAILED, FAILED, HELD, CANCELED, WAITING], max_fails=2)
    # More than the node has: it waits.
    os.remove(f"{house.spool.directory(WAITING)}/7_4.job")
    house.put("7_4", WAITING, cores=1000, array=Array("7", 4, 0, 4, 1, 5, 0, 2))
    os.rename(f"{house.spool.directory(HELD)}/7_2.job", f"{house.spool.directory(HELD)}/7_2@user.job")
    daemon = round_in(house)
    for place in range(3):
        daemon.run(1000.0 + 3 * place)
    assert house.states()["7_4"] == WAITING
    house.move("7_2", FAILED)
    for place in range(3):
        daemon.run(1100.0 + 3 * place)
    assert house.states()["7_4"] == CANCELED


def test_what_is_run_again_has_failed_no_longer(house: House) -> None:
    put_array(house, [FAILED, FAILED, HELD], max_fails=1)
    os.rename(f"{house.spool.directory(HELD)}/7_2.job", f"{house.spool.directory(HELD)}/7_2@user.job")
    house.move("7_0", RUNNING)
    daemon = round_in(house)
    for place in range(3):
        daemon.run(1000.0 + 3 * place)
    assert house.states()["7_2"] == HELD


def test_failed_tasks_that_are_run_again_while_a_daemon_looks_are_not_canceled(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it knows of the ended ones is older than what it lists."""
    # More than the node has: they wait.
    put_array(house, [FAILED, FAILED, HELD, WAITING], max_fails=1, cores=1000)
    os.rename(f"{house.spool.directory(HELD)}/7_2.job", f"{house.spool.directory(HELD)}/7_2@user.job")
    house.move("7_1", RUNNING)
    daemon = round_in(house)
    daemon.run(1000.0)
    house.move("7_1", FAILED)
    listed, again = daemon.waiting.look, iter(("7_0", "7_1"))

    def look(now_s: float, look_most_s: float) -> None:
        for job_id in again:
            house.move(job_id, WAITING)
        listed(now_s, look_most_s)

    monkeypatch.setattr(daemon.waiting, "look", look)
    for place in range(3):
        daemon.run(1010.0 + place)
    assert house.states() == {"7_0": WAITING, "7_1": WAITING, "7_2": HELD, "7_3": WAITING}


@pytest.mark.parametrize("bad", [2, 3, 4, 5])
def test_a_task_that_cannot_be_canceled_keeps_no_other_from_it_and_is_left_alone(
    house: House, bad: int
) -> None:
    """It is not sealed and put back all the time, which every daemon would have to list."""
    put_array(house, [FAILED, FAILED, WAITING, WAITING, HELD, WAITING], max_fails=1)
    (entry,) = [one for one in spools.scan(house.spool) if one.id == f"7_{bad}"]
    path = Path(spools.path_of(house.spool, entry))
    readable = path.read_bytes()
    path.write_bytes(b"{")
    daemon = round_in(house)
    daemon.run(1000.0)
    daemon.run(1001.0)
    left = {f"7_{index}": CANCELED for index in range(2, 6) if index != bad}
    assert house.states() == {"7_0": FAILED, "7_1": FAILED, f"7_{bad}": entry.state, **left}
    moved_ns = path.stat().st_ctime_ns
    wanted = [daemon.run(1002.0 + place) for place in range(30)]
    assert path.stat().st_ctime_ns == moved_ns
    path.write_bytes(readable)
    daemon.run(1100.0)
    assert house.states()[f"7_{bad}"] == CANCELED
    # Nor does the daemon look at it all the time.
    assert all(wanted_s > 0.5 for wanted_s in wanted[3:])


def test_what_a_disk_refuses_for_a_while_is_canceled_later(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not all of it is tried each time."""
    put_array(house, [FAILED, FAILED, WAITING, WAITING, WAITING], max_fails=1)
    tried = []

    def refuse(_: Spool, entry: spools.Entry, *__: object, **___: object) -> bool:
        tried.append(entry.id)
        changes.unseal(house.spool, entry)
        raise OSError(122, "Disk quota exceeded")

    daemon = round_in(house)
    with monkeypatch.context() as patched:
        patched.setattr(changes, "put", refuse)
        daemon.run(1000.0)
        daemon.run(1001.0)
        assert len(tried) == 1
        daemon.run(1020.0)
        assert len(set(tried)) == 2
    daemon.run(1100.0)
    assert [house.states()[f"7_{index}"] for index in (2, 3, 4)] == [CANCELED] * 3


def test_where_ends_are_seen_late_what_is_met_newly_is_canceled_when_they_would_have_been(
    house: House,
) -> None:
    """A failed task may have been run again, and still be seen where it failed."""
    put_array(house, [FAILED, FAILED, WAITING], max_fails=1)
    targets = Targets(house.spool)
    targets.late_s = 5.0
    fails = MaxFails(house.spool, "n1", logging.getLogger("test"), targets)
    fails.watch({"7": 1})
    targets.look(1000.0)
    assert fails.look() == {"7"}
    entries = list(spools.scan(house.spool, (WAITING,)))
    looks: list[float] = []
    for now_s in (1000.0, 1004.0):
        assert fails.cancel(entries, now_s, NOW_NS, looks.append) == []
    assert 0 < fails.again_s(1004.0) <= 1.0
    assert fails.cancel(entries, 1005.0, NOW_NS, looks.append) == entries
    assert fails.cancel([], 1006.0, NOW_NS, looks.append) == []
    # Of a hundred thousand ended jobs that takes long: only when there is something to cancel.
    assert looks == [1005.0]


# ---------------------------------------------------------------- ten thousand of them


def test_a_round_in_which_one_of_ten_thousand_ended_costs_little(house: House) -> None:
    """Each of ten thousand tasks waits for one of ten thousand others. In processor time, against that of
    reading them all."""
    many = 10_000
    waiting, held = house.spool.directory(WAITING), house.spool.directory(HELD)
    for index in range(many):
        # What waits is not read here.
        os.close(os.open(f"{waiting}/1_{index}.job", os.O_CREAT | os.O_WRONLY, 0o644))
        job = Job(("true",), after=(ok(f"1_{index}"),), array=Array("2", index, 0, many - 1, 1, many))
        with open(f"{held}/2_{index}.job", "wb") as file:
            file.write(formats.dump(Record(job)))
    begun_s = time.process_time()
    while len(house.daemons.get("n1", ())) < many:
        house.look(after_s=60)
    all_s = time.process_time() - begun_s
    assert not house.look(after_s=60)
    took_s = []
    for index in range(6):
        os.rename(f"{waiting}/1_{index}.job", f"{house.spool.directory(COMPLETED)}/1_{index}.job")
        begun_s = time.process_time()
        assert house.look(after_s=60)
        took_s.append(time.process_time() - begun_s)
        assert len(house.daemons["n1"]) == many - index - 1
    # 10 ms on a machine of 2026 that has nothing else to do, where to read them all takes 600.
    assert min(took_s) < all_s / 10


def test_the_environment_of_what_is_held_is_kept(house: House) -> None:
    """However it is held; the sweep reads none of the thousands that wait for something."""
    needed = [environments.store(house.spool, {"N": str(number)}, "n1") for number in range(4)]
    house.put("1", begin_ns=1 << 62, environment=needed[0])
    house.put("2", file="2@user", environment=needed[1])
    house.put("3", WAITING, cores=1000, environment=needed[2])
    for digest in needed:
        os.utime(f"{house.spool.directory('env')}/{digest}.json", (0, 0))
    daemon = round_in(house)
    for place in range(4):
        daemon.run(1000.0 + place * (SWEEP_S + 1))
    assert environments.stored(house.spool) == set(needed[:3])
