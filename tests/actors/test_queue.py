"""Promises of the queue to programs: what is found, what is accepted, what becomes of a request."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from roundq.actors import outcome, queue, selection, submission
from roundq.actors.allowance import BYTES_OF_OTHERS_MOST
from roundq.actors.listing import Row
from roundq.records import cards, census, history
from roundq.records import spool as spools
from roundq.records.shelf import Shelf
from roundq.records.spool import Entry, Spool
from roundq.words.errors import NoSuchJob, RoundqError, SpoolError, SpoolFull, SpoolUnsafe, WaitTimeout
from roundq.words.job import NS, Job, Record
from roundq.words.policy import Shape, Verdict
from roundq.words.states import CANCELED, COMPLETED, FAILED, RUNNING, WAITING
from roundq.world import files, procs
from tests.cluster.wait import wait_until
from tests.faces.homes import HERE, Homes, card, record

NOW_NS = time.time_ns()


@pytest.fixture
def homes(tmp_path: Path) -> Homes:
    """A parent of homes."""
    parent = tmp_path / "homes"
    parent.mkdir()
    return Homes(parent)


@pytest.fixture
def ann(homes: Homes) -> Spool:
    """My spool."""
    return homes.user("ann")


def a_record(name: str = "", **of: Any) -> Record:
    return record(name, now_ns=NOW_NS, **of)


def look(ann: Spool, **of: Any) -> queue.Listing:
    return queue.listing([ann], ann, now_ns=NOW_NS, **of)


def states(found: queue.Listing) -> dict[str, str]:
    return {row.id: row.state for row in found.rows}


def the_row(ann: Spool, job_id: str) -> Row:
    (row,), _ = queue.find(ann, [job_id])
    return row


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files of records that are read, in order."""
    done: list[str] = []
    read = spools.read

    def counting(spool: Spool, entry: Entry) -> Record:
        done.append(entry.file)
        return read(spool, entry)

    monkeypatch.setattr(spools, "read", counting)
    return done


# ---------------------------------------------------------------- whose


def test_my_spool_is_in_home_and_named_after_it(tmp_path: Path) -> None:
    (tmp_path / "ann").mkdir()
    spool = queue.mine({"HOME": f"{tmp_path}/ann/"})
    assert (spool.path, spool.user, spool.uid) == (f"{tmp_path}/ann/.roundqueue", "ann", os.geteuid())
    assert not os.path.exists(spool.path)


def test_without_home_the_user_database_tells() -> None:
    import pwd

    assert queue.mine({}).path == f"{pwd.getpwuid(os.geteuid()).pw_dir}/.roundqueue"


@pytest.mark.parametrize(
    ("home", "says"), [("ann", "not an absolute path"), ("/nowhere/at/all", "cannot be entered")]
)
def test_a_home_that_is_none_is_refused(home: str, says: str) -> None:
    with pytest.raises(SpoolError, match=says):
        queue.mine({"HOME": home})


def test_everybody_has_me_once_however_my_home_is_called(homes: Homes, tmp_path: Path) -> None:
    for name in ("ann", "bob"):
        homes.user(name)
    (tmp_path / "link").symlink_to(homes.parent / "ann")
    me = queue.mine({"HOME": f"{tmp_path}/link"})
    found = queue.everybody(me, [str(homes.parent)])
    assert [spool.path for spool in found] == [homes.user("bob").path, me.path]


# ---------------------------------------------------------------- the listing


def test_an_ended_record_beats_the_running_one_of_the_same_attempt(homes: Homes, ann: Spool) -> None:
    homes.put(ann, RUNNING, "1", a_record(node="n1", began_s=60))
    homes.put(ann, FAILED, "1", a_record(node="n1", began_s=60, ended_s=1, exit_code=2))
    found = look(ann)
    assert states(found) == {"1": FAILED}
    assert found.counts["ann"][RUNNING] == 0


def test_the_higher_attempt_beats_whatever_state(homes: Homes, ann: Spool) -> None:
    homes.put(ann, RUNNING, "1", a_record(node="n1", began_s=60))
    homes.put(ann, WAITING, "1", a_record(attempt=2))
    assert states(look(ann)) == {"1": WAITING}


def test_an_ended_name_is_believed_even_if_its_content_is_not(homes: Homes, ann: Spool) -> None:
    homes.put(ann, RUNNING, "1", a_record(node="n1", began_s=60))
    Path(ann.directory(COMPLETED), "1.job").write_bytes(b"")
    (row,) = look(ann).rows
    assert (row.state, row.record, row.problem) == (COMPLETED, None, "it is empty")


def test_hostile_files_are_problems_and_nothing_worse(homes: Homes, ann: Spool) -> None:
    waiting = Path(ann.directory(WAITING))
    os.mkfifo(waiting / "1.job")
    (waiting / "2.job").symlink_to("/etc/passwd")
    (waiting / "3.job").write_bytes(b"[" * 100_000)
    with open(waiting / "4.job", "wb") as file:
        file.truncate(1 << 31)
    (waiting / "5.job").mkdir()
    (waiting / "6.job").write_text('{"job": {"command": ["\\ud800"]}}')
    (waiting / "\x1b[2J.job").write_bytes(b"{}")
    found = queue.listing([ann], homes.user("bob"), now_ns=NOW_NS)
    assert {row.id: row.record for row in found.rows} == dict.fromkeys("123456")
    assert all(row.problem and not row.is_mine for row in found.rows)


def test_of_a_stranger_a_bounded_amount_is_read(
    homes: Homes, ann: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred records of allowed size must not cost a hundred times that."""
    whole = homes.put(ann, RUNNING, "1", a_record(node="n1", extra={"junk": "x" * 900_000}))
    for number in range(2, 60):
        os.link(whole, whole.with_name(f"{number}@n1.job"))
        os.link(whole, Path(ann.directory(FAILED), f"{number}.job"))
    total = 0
    contents = spools.contents

    def counted(spool: Spool, entries: Sequence[Entry]) -> list[bytes | Exception]:
        nonlocal total
        found = contents(spool, entries)
        total += sum(len(data) for data in found if isinstance(data, bytes))
        return found

    monkeypatch.setattr(spools, "contents", counted)
    found = queue.listing([ann], homes.user("bob"), now_ns=NOW_NS)
    assert BYTES_OF_OTHERS_MOST <= total < BYTES_OF_OTHERS_MOST + (1 << 20)
    assert (found.counts["ann"][RUNNING], found.counts["ann"][FAILED]) == (1, 58)
    (row,) = found.rows
    assert row.problem == "not read, since the files of this queue are too large"
    assert all(row.record for row in look(ann).rows)


def test_a_spool_that_cannot_be_listed_is_told_and_the_others_are_listed(homes: Homes, ann: Spool) -> None:
    bob = homes.user("bob")
    os.rmdir(bob.directory(WAITING))
    Path(bob.directory(WAITING)).write_text("not a directory")
    homes.put(ann, WAITING, "1", a_record())
    found = queue.listing([bob, ann], ann, now_ns=NOW_NS)
    assert states(found) == {"1": WAITING}
    assert "cannot be listed" in found.problems["bob"]


def test_of_many_waiting_jobs_the_first_and_the_last_are_read(
    homes: Homes, ann: Spool, reads: list[str]
) -> None:
    for number in range(1, 201):
        homes.put(ann, WAITING, str(number), a_record())
    found = look(ann, pending_most=5)
    assert sorted(reads) == sorted(f"{number}.job" for number in (1, 2, 3, 4, 5, 200))
    assert [row.id for row in found.rows] == ["1", "2", "3", "4", "5", "200"]
    assert found.counts["ann"][WAITING] == 200


def test_of_many_ended_jobs_the_newest_of_each_state_are_read(
    homes: Homes, ann: Spool, reads: list[str]
) -> None:
    for number in range(1, 101):
        homes.put(ann, COMPLETED, str(number + 20), a_record(began_s=60, ended_s=50, exit_code=0))
    homes.put(ann, FAILED, "7", a_record(began_s=60, ended_s=50, exit_code=1))
    found = look(ann, ended_most=10)
    assert len(reads) == 11
    assert "7" in states(found)
    assert max(map(int, states(found))) == 120
    assert found.counts["ann"][COMPLETED] == 100


def test_ended_jobs_are_shown_if_of_the_current_batch_or_recent(homes: Homes, ann: Spool) -> None:
    """As 0.2.9: those that ended after the latest submission less a minute; and of the last ten minutes."""
    homes.put(ann, COMPLETED, "1", a_record(ago_s=9000, began_s=8000, ended_s=7000))
    homes.put(ann, COMPLETED, "2", a_record(ago_s=6000, began_s=5500, ended_s=5030))
    homes.put(ann, WAITING, "3", a_record(ago_s=5000))
    assert states(look(ann)) == {"2": COMPLETED, "3": WAITING}
    homes.put(ann, WAITING, "4", a_record(ago_s=10))
    homes.put(ann, COMPLETED, "5", a_record(ago_s=1000, began_s=900, ended_s=500))
    assert states(look(ann)) == {"3": WAITING, "4": WAITING, "5": COMPLETED}
    assert set(states(look(ann, ended_of_any_age=True))) == set("12345")


def test_a_submission_from_the_future_hides_nothing(homes: Homes, ann: Spool) -> None:
    homes.put(ann, WAITING, "2", a_record(ago_s=-86_400))
    homes.put(ann, COMPLETED, "1", a_record(began_s=60, ended_s=30))
    assert states(look(ann)) == {"1": COMPLETED, "2": WAITING}


def test_ended_jobs_of_others_are_counted_and_listed_only_on_demand(homes: Homes, ann: Spool) -> None:
    bob = homes.user("bob")
    homes.put(bob, COMPLETED, "1", a_record(began_s=60, ended_s=30))
    found = queue.listing([bob], ann, now_ns=NOW_NS)
    assert (found.rows, found.counts["bob"][COMPLETED]) == ((), 1)
    assert states(queue.listing([bob], ann, now_ns=NOW_NS, ended_of_all=True)) == {"1": COMPLETED}


def test_a_job_that_moves_while_it_is_read_is_followed(
    homes: Homes, ann: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    homes.put(ann, WAITING, "1", a_record())
    read = spools.read

    def moving(spool: Spool, entry: Entry) -> Record:
        if entry.state == WAITING:
            spools.claim(spool, entry, "n1")
        return read(spool, entry)

    monkeypatch.setattr(spools, "read", moving)
    (row,) = look(ann).rows
    assert (row.state, row.node, row.problem) == ("claimed", "n1", None)


def test_ids_are_in_the_order_in_which_they_were_given() -> None:
    mixed = ["10", "9", "10.n1", "9.n2", "9_2", "9_10", "1790000000.5", "1790000000.20", "fit", "dropped"]
    assert sorted(mixed, key=census.age_key) == [
        "1790000000.5",
        "1790000000.20",
        "dropped",
        "fit",
        "9",
        "9.n2",
        "9_2",
        "9_10",
        "10",
        "10.n1",
    ]


def test_an_absent_spool_is_an_empty_queue(tmp_path: Path) -> None:
    spool = spools.at(str(tmp_path), "ann", os.geteuid())
    assert queue.listing([spool], spool, now_ns=NOW_NS).rows == ()
    assert not os.path.exists(spool.path)


# ---------------------------------------------------------------- by id or name


def test_a_word_is_an_id_or_else_a_name(homes: Homes, ann: Spool) -> None:
    homes.put(ann, WAITING, "1", a_record("fit"))
    homes.put(ann, RUNNING, "2", a_record("fit", node="n1", began_s=5))
    homes.put(ann, COMPLETED, "3", a_record("1", began_s=60, ended_s=50))
    rows, unknown = queue.find(ann, ["fit", "1", "no", "2"])
    assert ([row.id for row in rows], unknown) == (["1", "2"], ["no"])
    rows, unknown = queue.find(ann, [], names=["1", "2"])
    assert ([row.id for row in rows], unknown) == (["3"], ["2"])


def test_a_job_without_a_name_is_found_by_its_command_line(homes: Homes, ann: Spool) -> None:
    homes.put(ann, WAITING, "1", a_record())
    assert [row.id for row in queue.find(ann, ["sleep 60"])[0]] == ["1"]
    assert queue.find(ann, ["sleep"]) == ([], ["sleep"])


# ---------------------------------------------------------------- submit


def test_a_submission_is_a_record_with_its_environment_and_without_foreign_marks(
    homes: Homes, ann: Spool
) -> None:
    environ = {"A": "1", "RQ_JOB_ID": "9", "RQ_MARK": "x", "NOTIFY_SOCKET": "/run/x", "BYTES": "\udcff"}
    (job_id,) = queue.submit(ann, [Job(("true",), directory="/tmp")], environ, "n1")
    stored = the_row(ann, job_id).record
    assert stored is not None
    assert stored.job.environment is not None
    assert spools_environment(ann, stored.job.environment) == {"A": "1", "BYTES": "\udcff"}
    assert stored.job.home_dir == str(homes.parent / "ann")
    assert abs(stored.job.submitted_ns - time.time_ns()) < 60 * NS


def spools_environment(spool: Spool, digest: str) -> dict[str, str]:
    text = Path(spool.directory("env"), f"{digest}.json").read_text()
    value: dict[str, str] = json.loads(text)
    return value


def test_a_full_quota_submits_nothing(ann: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> str:
        raise OSError(122, "Disk quota exceeded")

    monkeypatch.setattr(files, "write_temporary", full)
    with pytest.raises(SpoolFull, match="quota"):
        queue.submit(ann, [Job(("true",))], {}, "n1")
    assert spools.scan(ann) == []


def test_a_spool_that_others_can_write_is_refused(ann: Spool) -> None:
    os.chmod(ann.directory(WAITING), 0o777)
    with pytest.raises(SpoolUnsafe, match="can be written by others"):
        queue.submit(ann, [Job(("true",))], {}, "n1")


# ---------------------------------------------------------------- cancel and restart


def cancel(ann: Spool, row: Row, **of: Any) -> str:
    return queue.cancel(ann, row, HERE, NOW_NS, **of)


def requested(ann: Spool) -> dict[str, set[str]]:
    return spools.requests(ann)


def test_a_waiting_job_is_canceled_at_once(homes: Homes, ann: Spool) -> None:
    homes.put(ann, WAITING, "1", a_record())
    assert cancel(ann, the_row(ann, "1")) == queue.GONE
    row = the_row(ann, "1")
    assert row.record is not None
    assert (row.state, row.record.reason, row.record.completed_ns) == (CANCELED, "canceled", NOW_NS)


def test_a_running_job_is_asked_to_end(homes: Homes, ann: Spool) -> None:
    homes.put(ann, RUNNING, "1", a_record(node="n1", began_s=5))
    assert cancel(ann, the_row(ann, "1")) == queue.ASKED
    assert requested(ann) == {"1": {"cancel"}}
    assert the_row(ann, "1").state == RUNNING


def test_a_job_that_began_meanwhile_is_asked_to_end(homes: Homes, ann: Spool) -> None:
    homes.put(ann, WAITING, "1", a_record())
    stale = the_row(ann, "1")
    spools.claim(ann, stale.entry, "n1")
    assert cancel(ann, stale) == queue.ASKED
    assert requested(ann) == {"1": {"cancel"}}


def test_a_job_that_went_back_to_waiting_meanwhile_is_canceled_at_once(homes: Homes, ann: Spool) -> None:
    homes.put(ann, "claimed", "1", a_record(node="n1"))
    stale = the_row(ann, "1")
    spools.withdraw(ann, stale.entry)
    assert cancel(ann, stale) == queue.GONE
    assert (the_row(ann, "1").state, requested(ann)) == (CANCELED, {})


def settled(ann: Spool, row: Row, **facts: Any) -> None:
    """Ends a running job, as its supervisor does."""
    assert row.record is not None
    ended = replace(row.record, process=procs.own_identity(), completed_ns=NOW_NS, **facts)
    assert spools.settle(ann, row.entry, ended, "n1")


def test_a_job_that_ended_meanwhile_has_ended(homes: Homes, ann: Spool) -> None:
    homes.put(ann, RUNNING, "1", a_record(node="n1", began_s=5))
    stale = the_row(ann, "1")
    settled(ann, stale, exit_code=0)
    assert cancel(ann, stale) == queue.ENDED
    assert (the_row(ann, "1").state, requested(ann)) == (COMPLETED, {})
    assert cancel(ann, the_row(ann, "1")) == queue.ENDED


def test_what_has_begun_can_be_left_to_run(homes: Homes, ann: Spool) -> None:
    homes.put(ann, WAITING, "1", a_record())
    stale = the_row(ann, "1")
    spools.claim(ann, stale.entry, "n1")
    assert cancel(ann, stale, only_pending=True) == queue.BEGUN
    assert requested(ann) == {}


def test_a_running_job_of_0_2_9_is_not_ours_to_cancel(homes: Homes, ann: Spool) -> None:
    Path(ann.directory(RUNNING), "1790000000.5.job").write_bytes(
        homes.put(ann, FAILED, "9", a_record(node="old1", began_s=5)).read_bytes()
    )
    with pytest.raises(RoundqError, match=r"a daemon of roundqueue 0\.2\.9 runs it on old1"):
        cancel(ann, the_row(ann, "1790000000.5"))
    assert requested(ann) == {}


def test_a_job_that_is_nowhere_is_not_canceled(homes: Homes, ann: Spool) -> None:
    homes.put(ann, WAITING, "1", a_record())
    stale = the_row(ann, "1")
    os.unlink(spools.path_of(ann, stale.entry))
    with pytest.raises(NoSuchJob):
        cancel(ann, stale)


def test_a_supervisor_on_this_node_is_nudged(homes: Homes, ann: Spool) -> None:
    script = (
        "import signal, sys; signal.signal(signal.SIGUSR1, lambda *_: sys.exit(7));"
        " print(flush=True); signal.pause()"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        identity = procs.identity(process.pid)
        homes.put(ann, RUNNING, "1", a_record(node="elsewhere", began_s=5, process=identity))
        homes.put(ann, RUNNING, "2", a_record(node=HERE, began_s=5, process=identity))
        cancel(ann, the_row(ann, "1"))
        time.sleep(0.05)
        assert process.poll() is None
        cancel(ann, the_row(ann, "2"))
        assert process.wait(10) == 7
    finally:
        process.kill()
        process.wait()


def test_only_restartable_jobs_are_restarted(homes: Homes, ann: Spool) -> None:
    identity = procs.own_identity()
    homes.put(ann, RUNNING, "1", a_record(node="n1", began_s=5, process=identity, job_restartable=True))
    homes.put(ann, RUNNING, "2", a_record(node="n1", began_s=5))
    homes.put(ann, WAITING, "3", a_record(job_restartable=True))
    homes.put(ann, COMPLETED, "4", a_record(job_restartable=True, began_s=5, ended_s=1))
    assert queue.restart(ann, the_row(ann, "1"), HERE) == queue.ASKED
    with pytest.raises(RoundqError, match="not submitted with --restart"):
        queue.restart(ann, the_row(ann, "2"), HERE)
    with pytest.raises(RoundqError, match="it is waiting, not running"):
        queue.restart(ann, the_row(ann, "3"), HERE)
    assert queue.restart(ann, the_row(ann, "4"), HERE) == queue.ENDED
    assert requested(ann) == {"1": {"restart"}}


def test_an_attempt_that_is_over_is_not_restarted_nor_is_the_next_one(homes: Homes, ann: Spool) -> None:
    """Its record says so, and is still where running ones are: no request is left for the attempt to come."""
    between = a_record(node="n1", began_s=5, process=procs.own_identity(), job_restartable=True)
    homes.put(ann, RUNNING, "1", between.next_attempt(NOW_NS, "preempted"))
    assert queue.restart(ann, the_row(ann, "1"), HERE) == queue.ASKED
    assert requested(ann) == {}


def test_a_request_that_came_too_late_does_not_meet_the_next_attempt(homes: Homes, ann: Spool) -> None:
    identity = procs.own_identity()
    homes.put(ann, RUNNING, "1", a_record(node="n1", began_s=5, process=identity, job_restartable=True))
    stale = the_row(ann, "1")
    assert stale.record is not None
    spools.settle(ann, stale.entry, stale.record.next_attempt(NOW_NS, "lost"), "n1")
    assert queue.restart(ann, stale, HERE) == queue.ASKED
    assert (the_row(ann, "1").state, requested(ann)) == (WAITING, {})


# ---------------------------------------------------------------- wait


class Time:
    """A clock that goes on only while somebody pauses; `meanwhile` is what happens then, in turn."""

    def __init__(self, *meanwhile: Callable[[], object]) -> None:
        self.now_s = 100.0
        self.pauses: list[float] = []
        self.meanwhile = list(meanwhile)

    def clock(self) -> float:
        return self.now_s

    def pause(self, seconds: float) -> None:
        self.now_s += seconds
        self.pauses.append(seconds)
        if self.meanwhile:
            self.meanwhile.pop(0)()


def wait(ann: Spool, time_: Time, *ids: str, timeout_s: float | None = None) -> dict[str, str]:
    ended = queue.wait(ann, ids, timeout_s, clock=time_.clock, pause=time_.pause)
    return {job_id: row.state for job_id, row in ended.items()}


def test_wait_ends_when_all_have_ended(homes: Homes, ann: Spool) -> None:
    homes.put(ann, COMPLETED, "1", a_record(began_s=5, ended_s=1))
    homes.put(ann, RUNNING, "2", a_record(node="n1", began_s=5))

    def end() -> None:
        settled(ann, the_row(ann, "2"), exit_code=3, reason="exit")

    later = Time(*[lambda: None] * 5, end)
    assert wait(ann, later, "2", "1") == {"2": FAILED, "1": COMPLETED}
    assert len(later.pauses) == 6


def test_wait_looks_ever_less_often(homes: Homes, ann: Spool) -> None:
    homes.put(ann, WAITING, "1", a_record())
    later = Time()
    with pytest.raises(WaitTimeout, match="job 1 has not ended within 60 s"):
        wait(ann, later, "1", timeout_s=60)
    assert later.pauses[0] == queue.WAIT_MIN_S
    assert max(later.pauses) == queue.WAIT_MAX_S
    assert len(later.pauses) < 60
    assert sum(later.pauses) == pytest.approx(60, abs=0.01)


def test_wait_does_not_take_one_missing_look_for_absence(homes: Homes, ann: Spool) -> None:
    homes.put(ann, WAITING, "1", a_record())
    hidden = Path(spools.path_of(ann, the_row(ann, "1").entry))
    away = hidden.with_name(".away")
    hidden.rename(away)
    later = Time(lambda: None, lambda: away.rename(Path(ann.directory(COMPLETED), "1.job")))
    assert wait(ann, later, "1") == {"1": COMPLETED}
    with pytest.raises(NoSuchJob, match="no such job: 99"):
        wait(ann, Time(), "1", "99")


def test_where_names_are_seen_late_none_is_called_missing_before(homes: Homes, ann: Spool) -> None:
    """The old name is gone, and the new one not there yet: a job that moves is met nowhere for a while."""
    homes.put(ann, WAITING, "1", a_record())
    hidden = Path(spools.path_of(ann, the_row(ann, "1").entry))
    away = hidden.with_name(".away")
    hidden.rename(away)
    later = Time(*[lambda: None] * 20, lambda: away.rename(Path(ann.directory(COMPLETED), "1.job")))

    ended = queue.wait(ann, ["1"], late_s=60.0, clock=later.clock, pause=later.pause)

    assert ended["1"].state == COMPLETED
    nowhere = Time()
    with pytest.raises(NoSuchJob):
        queue.wait(ann, ["99"], late_s=60.0, clock=nowhere.clock, pause=nowhere.pause)
    assert nowhere.now_s >= 160.0


def test_a_home_that_cannot_be_listed_for_a_while_does_not_hide_a_job(
    homes: Homes, ann: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That it was met nowhere then proves nothing; a home that stays so is told of in the end."""
    homes.put(ann, COMPLETED, "1", a_record(began_s=5, ended_s=1))
    look = Shelf.look

    def refused(*_: object) -> bool:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Shelf, "look", refused)
    later = Time(*[lambda: None] * 6, lambda: monkeypatch.setattr(Shelf, "look", look))
    assert wait(ann, later, "1") == {"1": COMPLETED}
    monkeypatch.setattr(Shelf, "look", refused)
    never = Time()
    with pytest.raises(SpoolError, match=r"cannot tell what became of job 1: .*error"):
        wait(ann, never, "1")
    assert never.now_s > 100 + queue.UNREADABLE_S


def test_a_history_that_cannot_be_read_does_not_hide_a_job(
    ann: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job is gone only when the history was read and does not know it."""
    find = history.find

    def refused(*_: object) -> dict[str, history.Past]:
        raise OSError(errno.EIO, "Input/output error", "history")

    monkeypatch.setattr(history, "find", refused)
    later = Time(*[lambda: None] * 6, lambda: monkeypatch.setattr(history, "find", find))
    with pytest.raises(NoSuchJob):
        wait(ann, later, "1")
    assert len(later.pauses) >= 7
    monkeypatch.setattr(history, "find", refused)
    never = Time()
    with pytest.raises(SpoolError, match="cannot tell what became of job 1: history: Input/output error"):
        wait(ann, never, "1")
    assert never.now_s > 100 + queue.UNREADABLE_S
    with pytest.raises(OSError, match="Input/output error"):
        selection.select(ann, ["1"], now_ns=0, pause=lambda _: None)
    # What has not ended can be canceled all the same.
    assert selection.select(ann, ["1"], now_ns=0, ended=False, pause=lambda _: None).unknown == ["1"]


def test_a_zero_timeout_looks_once(homes: Homes, ann: Spool) -> None:
    homes.put(ann, COMPLETED, "1", a_record(began_s=5, ended_s=1))
    assert wait(ann, Time(), "1", timeout_s=0) == {"1": COMPLETED}
    homes.put(ann, WAITING, "2", a_record())
    with pytest.raises(WaitTimeout):
        wait(ann, Time(), "2", timeout_s=0)


def test_an_ended_record_that_cannot_be_read_yet_is_waited_for(homes: Homes, ann: Spool) -> None:
    whole = homes.put(ann, FAILED, "1", a_record(began_s=5, ended_s=1, exit_code=3))
    content = whole.read_bytes()
    whole.write_bytes(b"")
    later = Time(lambda: None, lambda: whole.write_bytes(content))
    (row,) = queue.wait(ann, ["1"], clock=later.clock, pause=later.pause).values()
    assert row.record is not None
    assert row.record.exit_code == 3
    whole.write_bytes(b"")
    later = Time()
    (row,) = queue.wait(ann, ["1"], clock=later.clock, pause=later.pause).values()
    assert later.now_s > 100 + queue.UNREADABLE_S
    assert (row.state, row.problem) == (FAILED, "it is empty")


# ---------------------------------------------------------------- the daemon of this node


@pytest.fixture
def python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands in for the interpreter; what it was told is in the file that is returned."""
    told = tmp_path / "told"
    script = tmp_path / "python"
    script.write_text(
        f'#!/bin/sh\n{{ echo "$*"; pwd; env; readlink /proc/$$/fd/*; }} >{told}.new; mv {told}.new {told}\n'
    )
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    return told


def test_a_daemon_is_started_apart_from_its_caller(ann: Spool, python: Path) -> None:
    environ = {"PATH": os.environ["PATH"], "MINE": "1", "NOTIFY_SOCKET": "/run/x"}
    read, write = os.pipe()
    os.set_inheritable(write, True)
    try:
        assert queue.start_daemon(ann, environ, HERE)
    finally:
        os.close(write)
        os.close(read)
    wait_until(python.exists, 10)
    told = python.read_text().splitlines()
    assert told[0] == "-m roundq daemon"
    assert told[1] == str(Path(submission.__file__).parents[2])
    assert "MINE=1" in told
    assert "NOTIFY_SOCKET=/run/x" not in told
    assert not any("pipe" in line for line in told)


def test_a_card_that_names_no_process_is_no_daemon(ann: Spool) -> None:
    """A program of mine may have written it; a submission begins by looking at it."""
    card = Path(ann.path, HERE)
    for pid in ("Infinity", "-1e999", '"x"', "null", "[]"):
        card.write_text(f'{{"roundq":{{"process":{{"boot":"b","pid":{pid},"start":1}}}}}}')
        assert not queue.daemon_runs(ann, HERE)


def test_no_daemon_is_started_where_one_lives(ann: Spool, python: Path) -> None:
    cards.publish(ann, replace(card("ann", HERE), process=procs.own_identity()))
    assert queue.daemon_runs(ann, HERE)
    assert not queue.start_daemon(ann, {}, HERE)
    assert not queue.daemon_runs(ann, "other")
    assert not python.exists()


def test_no_daemon_is_started_from_inside_a_job(ann: Spool, python: Path) -> None:
    assert not queue.start_daemon(ann, {"RQ_JOB_ID": "7"}, HERE)
    assert not python.exists()


def test_a_dead_daemons_card_is_none(ann: Spool) -> None:
    dead = replace(procs.own_identity(), start=1)
    cards.publish(ann, replace(card("ann", HERE), process=dead))
    assert not queue.daemon_runs(ann, HERE)
    Path(ann.path, HERE).write_text("[1, 2")
    assert not queue.daemon_runs(ann, HERE)


# ---------------------------------------------------------------- why


def why(ann: Spool, job_id: str) -> list[str]:
    return queue.why(ann, the_row(ann, job_id), HERE, NOW_NS)


def test_why_says_what_each_daemon_said_of_jobs_of_that_shape(homes: Homes, ann: Spool) -> None:
    homes.put(ann, WAITING, "1", a_record(job_cores=8))
    alive = procs.own_identity()
    said = (Verdict(Shape(8, 0, 0), "waits: needs 8 cores, 3 of 16 free"), Verdict(Shape(1, 0, 0), "starts"))
    cards.publish(ann, replace(card("ann", HERE), process=alive, said=said))
    cards.publish(ann, card("ann", "n2"))
    homes.card(ann, "n3", silent_s=870)
    assert why(ann, "1") == [
        "here1: waits: needs 8 cores, 3 of 16 free",
        "n2: its daemon has not yet looked at it",
        "n3: not seen for 14 min",
    ]


def test_why_says_that_no_daemon_runs(homes: Homes, ann: Spool) -> None:
    homes.put(ann, WAITING, "1", a_record())
    assert why(ann, "1") == ["no daemon of yours runs on any node: rq daemon starts one"]
    cards.publish(ann, replace(card("ann", HERE), process=replace(procs.own_identity(), start=1)))
    assert why(ann, "1") == [
        "no daemon of yours runs on any node: rq daemon starts one",
        "here1: your daemon there has stopped",
    ]


def test_why_tells_of_jobs_that_do_not_wait(homes: Homes, ann: Spool) -> None:
    homes.put(ann, RUNNING, "1", a_record(node="n1", began_s=600))
    homes.put(ann, "claimed", "2", a_record(node="n1"))
    homes.put(ann, FAILED, "3", a_record(began_s=5, ended_s=1, exit_code=2, reason="exit"))
    homes.put(ann, "held", "4", a_record())
    Path(ann.directory(WAITING), "5.job").write_bytes(b"")
    cancel(ann, the_row(ann, "1"))
    assert why(ann, "1") == [
        "it runs on n1, for 10 min now",
        "it was asked to cancel, which its supervisor has not yet done",
    ]
    assert why(ann, "2") == ["n1 has taken it and is about to start it"]
    assert why(ann, "3") == ["failed: its command ended with a non-zero exit code"]
    assert why(ann, "4")[0] == "all that it waited for is there; a daemon of yours releases it in a moment"
    assert why(ann, "5") == ["its job file cannot be read: it is empty; no daemon will start it"]


# ---------------------------------------------------------------- outcomes


@pytest.mark.parametrize(
    ("state", "of", "code"),
    [
        (COMPLETED, {"exit_code": 0}, 0),
        (COMPLETED, {}, 1),
        (FAILED, {"exit_code": 3, "reason": "exit"}, 3),
        (FAILED, {"exit_code": 1, "reason": "exit"}, 1),
        (FAILED, {"exit_code": 256, "reason": "exit"}, 1),
        (FAILED, {"signal": int(signal.SIGKILL), "reason": "signal"}, 137),
        (FAILED, {"signal": 64, "reason": "signal"}, 192),
        (FAILED, {"exit_code": 0, "reason": "time limit"}, 1),
        (FAILED, {"signal": 15, "reason": "time limit"}, 143),
        (FAILED, {"reason": "no command"}, 127),
        (CANCELED, {"signal": 15, "reason": "canceled"}, 143),
        (FAILED, {}, 1),
        (CANCELED, {"exit_code": 0}, 1),
        ("zombie", {"reason": "lost"}, 1),
    ],
)
def test_every_end_has_an_exit_code_and_only_success_is_0(
    ann: Spool, state: str, of: dict[str, Any], code: int
) -> None:
    row = Row(ann, Entry("1", state, None, "1.job", 0), a_record(**of))
    assert outcome.exit_code(row) == code
    assert outcome.is_well(row) is (code == 0)
    assert outcome.sentence(row)
