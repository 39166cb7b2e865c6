"""Promises about lost nodes: by their user's word, or by a lease that ran out, and nothing by silence."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from roundq.actors import environ, supervisor
from roundq.actors.attempt import Terms
from roundq.actors.homewatch import LEASE_OVER, HomeWatch, clock_s
from roundq.actors.leases import Leases
from roundq.actors.lost import HEARD_S, call_lost
from roundq.actors.streams import Streams
from roundq.actors.tenants import Tenants
from roundq.records import spool as spools
from roundq.records.spool import Entry
from roundq.words.errors import RoundqError
from roundq.words.job import Attempt, Identity, Record
from roundq.words.states import CLAIMED, COMPLETED, RUNNING, WAITING, ZOMBIE
from roundq.world import procs
from tests.actors.spoolhome import NODE, SpoolHome
from tests.cluster.wait import wait_until
from tests.records.crowd import born

#: Another node of the same user, and a supervisor that no process table here can know.
HERE = "othernode"
THERE = Identity("the boot of another node", 17, 4)


def tenants_of(home: SpoolHome) -> Tenants:
    """What a daemon on the other node knows."""
    return Tenants(home.spool, HERE, logging.getLogger("test"))


def claimed_there(home: SpoolHome, **fields: object) -> Entry:
    """A job that NODE has claimed."""
    return home.claim(home.submit("true", **fields))


def running_there(home: SpoolHome, **fields: object) -> tuple[Entry, Record]:
    """A job that runs on NODE."""
    entry = claimed_there(home, **fields)
    record = replace(spools.read(home.spool, entry), process=THERE, pid=17, node=NODE, started_ns=1, cores=1)
    sealed = spools.rewrite(home.spool, entry, record, NODE)
    assert sealed is not None
    running = spools.begin(home.spool, sealed, NODE)
    assert running is not None
    return running, record


def sealed(home: SpoolHome, entry: Entry) -> Entry:
    """The record as its owner leaves it who is stopped just before he writes to it."""
    os.rename(spools.path_of(home.spool, entry), spools.path_of(home.spool, entry.sealed))
    return entry.sealed


def taken(home: SpoolHome, entry: Entry, asked: str) -> str:
    """Has the other node's daemon act on a request, and recover what it got; the job's state then."""
    tenants = tenants_of(home)
    tenants.take_from_lost(entry.id, asked)
    tenants.look()
    tenants.recover()
    return home.state(entry.id)


# ---------------------------------------------------------------- by word


def test_a_restartable_job_of_a_lost_node_waits_again(home: SpoolHome) -> None:
    """As its next attempt, with the lost one in its history."""
    entry, _ = running_there(home, restartable=True)
    assert taken(home, entry, environ.mark(THERE)) == WAITING
    record = home.record(entry.id)
    assert (record.attempt, record.process) == (2, None)
    (before,) = record.attempts
    assert (before.node, before.process, before.reason) == (NODE, THERE, "lost")


def test_another_job_of_a_lost_node_is_called_lost(home: SpoolHome) -> None:
    """Nobody knows how it ended, and nothing else is said."""
    entry, _ = running_there(home)
    assert taken(home, entry, environ.mark(THERE)) == ZOMBIE
    record = home.record(entry.id)
    assert (record.reason, record.exit_code, record.node) == ("lost", None, NODE)
    assert record.detail is not None
    assert NODE in record.detail


def test_a_claim_of_a_lost_node_waits_again(home: SpoolHome) -> None:
    entry = claimed_there(home)
    assert taken(home, entry, NODE) == WAITING
    assert home.record(entry.id).attempt == 1
    assert spools.requests(home.spool) == {}


@pytest.mark.parametrize("asked", ["", "other.1.1", NODE, "\nforce"])
def test_only_the_attempt_that_was_meant_is_taken(home: SpoolHome, asked: str) -> None:
    """A request that was left over must not meet the next attempt, nor a job that came later."""
    entry, _ = running_there(home, restartable=True)
    assert taken(home, entry, asked) == RUNNING
    assert home.entry(entry.id).file == entry.file


@pytest.mark.parametrize("asked", ["", "anothernode", environ.mark(THERE)])
def test_only_the_claim_that_was_meant_is_freed(home: SpoolHome, asked: str) -> None:
    entry = claimed_there(home)
    assert taken(home, entry, asked) == CLAIMED


@pytest.mark.parametrize("state", [CLAIMED, RUNNING])
def test_what_its_owner_may_be_about_to_write_to_is_left(home: SpoolHome, state: str) -> None:
    """Replacing a file asks nobody: an owner who was asleep would raise the dead. Unless the user insists."""
    entry = claimed_there(home) if state == CLAIMED else running_there(home)[0]
    entry = sealed(home, entry)
    asked = NODE if state == CLAIMED else environ.mark(THERE)
    assert taken(home, entry, asked) == state
    assert home.entry(entry.id).file == entry.file
    assert taken(home, entry, f"{asked}\nforce") == (WAITING if state == CLAIMED else ZOMBIE)


@pytest.mark.parametrize("restartable", [True, False])
def test_an_end_that_was_written_before_its_node_died_is_believed(home: SpoolHome, restartable: bool) -> None:
    """Only the move was left; whoever makes it, the job ended as it says."""
    entry, record = running_there(home, restartable=restartable)
    spools.rewrite(home.spool, entry, replace(record, completed_ns=5, exit_code=0), NODE)
    assert taken(home, entry, environ.mark(THERE)) == COMPLETED
    assert home.record(entry.id).attempt == 1


def test_a_requeue_that_was_written_before_its_node_died_is_believed(home: SpoolHome) -> None:
    entry, record = running_there(home, restartable=True)
    spools.rewrite(home.spool, entry, record.next_attempt(5, "restarted"), NODE)
    assert taken(home, entry, environ.mark(THERE)) == WAITING
    record = home.record(entry.id)
    assert (record.attempt, [one.reason for one in record.attempts]) == (2, ["restarted"])


def test_a_lost_node_does_not_take_from_itself(home: SpoolHome) -> None:
    """It lives: its own process table tells what of it does."""
    entry, _ = running_there(home, restartable=True)
    tenants = Tenants(home.spool, NODE, logging.getLogger("test"))
    tenants.take_from_lost(entry.id, environ.mark(THERE))
    assert home.entry(entry.id).file == entry.file


def test_what_an_earlier_supervisor_here_would_take_for_its_own_is_left_until_it_is_dead(
    home: SpoolHome,
) -> None:
    """Both nodes were called lost, and neither was: the record would get the name that it had before."""
    slept = subprocess.Popen(["sleep", "300"])
    try:
        process = procs.identity(slept.pid)
        assert process is not None
        entry = claimed_there(home, restartable=True)
        before = Attempt(1, HERE, process, 1, 2, "lost")
        record = replace(
            spools.read(home.spool, entry),
            process=THERE,
            node=NODE,
            started_ns=3,
            attempt=2,
            attempts=(before,),
        )
        sealed = spools.rewrite(home.spool, entry, record, NODE)
        assert sealed is not None
        running = spools.begin(home.spool, sealed, NODE)
        assert running is not None
        tenants = tenants_of(home)
        assert tenants.take_from_lost(entry.id, environ.mark(THERE))
        assert home.entry(entry.id).file == running.file
        # It is woken up, so that it sees that its record is gone; this one dies of it.
        assert slept.wait(20) == -signal.SIGUSR1
        assert not tenants.take_from_lost(entry.id, environ.mark(THERE))
        assert home.entry(entry.id).node == HERE
    finally:
        slept.kill()
        slept.wait()


# ---------------------------------------------------------------- those who were asleep


def test_a_supervisor_whose_record_was_taken_records_nothing(home: SpoolHome) -> None:
    """It slept while its job went to another node, and wakes up to record the end."""
    entry, record = running_there(home, restartable=True)
    assert taken(home, entry, environ.mark(THERE)) == WAITING
    ended = replace(record, completed_ns=9, exit_code=0)
    assert spools.settle(home.spool, entry, ended, NODE) is None
    assert home.state(entry.id) == WAITING
    assert os.listdir(home.spool.directory("tmp")) == []


def test_a_daemon_whose_claim_was_freed_bears_nothing(home: SpoolHome) -> None:
    """Neither its rewriting of the claim nor the supervisor that waits at the gate gets the job back."""
    entry = claimed_there(home)
    record = spools.read(home.spool, entry)
    assert taken(home, entry, NODE) == WAITING
    assert spools.rewrite(home.spool, entry, replace(record, process=THERE), NODE) is None
    assert spools.begin(home.spool, entry, NODE) is None
    assert home.state(entry.id) == WAITING


def test_a_supervisor_whose_record_was_taken_kills_its_job_at_once(home: SpoolHome) -> None:
    """Without grace: the next attempt may begin at any moment. And it writes nothing."""
    job = home.shell("trap '' TERM; echo begun > begun; sleep 300 & wait; wait", restartable=True)
    supervisor = home.supervise(job)
    wait_until(lambda: home.output("begun") != "", 20, on_timeout=home.story)
    entry, mark = home.entry(job), f"RQ_JOB_ID={job}"
    assert home.pids(mark)
    seized = spools.seize(home.spool, entry, HERE)
    assert seized is not None

    supervisor.send_signal(signal.SIGUSR1)

    assert supervisor.wait(20) == 0
    assert home.pids(mark) == []
    assert home.entry(job).file == seized.file
    assert home.record(job).completed_ns == 0


# ---------------------------------------------------------------- the command


def rq_lost(home: SpoolHome, *words: str) -> subprocess.CompletedProcess[str]:
    """Types `rq lost WORDS` on the other node."""
    return subprocess.run(
        [sys.executable, "-m", "roundq", "lost", *words],
        env={**home.environ, "RQ_NODE": HERE},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_waits_until_a_daemon_has_taken_the_jobs_over(home: SpoolHome) -> None:
    """What became of each is said; so is what was left, and why."""
    again, gone = running_there(home, restartable=True)[0], running_there(home)[0]
    left = sealed(home, running_there(home)[0])
    # Too large for the daemon to start it again at once.
    home.daemon(RQ_NODE=HERE, RQ_CORES="1")
    said = rq_lost(home, NODE)
    assert said.returncode == 1
    assert f"{gone.id} " in said.stdout
    assert f"{again.id} " in said.stdout
    assert "is lost" in said.stdout
    assert f"job {left.id} is left as it is" in said.stderr
    assert home.state(gone.id) == ZOMBIE
    assert home.record(again.id).attempt == 2
    assert home.entry(left.id).file == left.file
    assert rq_lost(home, "--force", NODE).returncode == 0
    assert home.state(left.id) == ZOMBIE


def test_a_node_that_has_nothing_is_told_from_one_that_is_not_known(home: SpoolHome) -> None:
    said = rq_lost(home, "nodwhere")
    assert (said.returncode, said.stdout) == (1, "")
    assert "no node nodwhere is known" in said.stderr


def test_this_very_node_is_not_lost(home: SpoolHome) -> None:
    with pytest.raises(RoundqError, match="is this node"):
        call_lost(home.spool, NODE, NODE)


def test_a_node_that_was_heard_of_is_not_lost_without_force(home: SpoolHome) -> None:
    """Its jobs would run twice."""
    daemon = home.daemon()
    daemon.terminate()
    daemon.wait(20)
    entry, _ = running_there(home)
    with pytest.raises(RoundqError, match="was heard of"):
        call_lost(home.spool, NODE, HERE)
    assert spools.requests(home.spool) == {}
    old_s = time.time() - 2 * HEARD_S
    os.utime(f"{home.spool.path}/{NODE}", (old_s, old_s))
    assert [one.entry for one in call_lost(home.spool, NODE, HERE).asked] == [home.entry(entry.id)]
    assert spools.requests(home.spool) == {entry.id: {"lost"}}


# ---------------------------------------------------------------- leases


def leased(home: SpoolHome, lease_s: float | None) -> Entry:
    """A running record of NODE with a lease."""
    entry = claimed_there(home, restartable=True)
    record = replace(spools.read(home.spool, entry), process=THERE, node=NODE, lease_s=lease_s)
    sealed = spools.rewrite(home.spool, entry, record, NODE)
    assert sealed is not None
    running = spools.begin(home.spool, sealed, NODE)
    assert running is not None
    return running


def renew(home: SpoolHome, entry: Entry, now_s: float) -> None:
    """Sets the times of a record, to what is for the reader any other time."""
    os.utime(spools.path_of(home.spool, entry), (now_s, now_s))


def test_a_lease_runs_out_when_it_stood_still_for_long_enough(home: SpoolHome) -> None:
    """By the clock of who looks, from when he first saw it so; clocks of others do not count."""
    entry, leases = leased(home, 60.0), Leases(home.spool, HERE, lambda: 0.0)
    renew(home, entry, 5.0)
    assert leases.run_out(1000.0, 15.0) == []
    assert leases.run_out(1000.0 + 60 * LEASE_OVER, 15.0) == []
    renew(home, entry, 3.0)
    assert leases.run_out(1000.0 + 60 * LEASE_OVER + 20, 15.0) == [], "it was renewed in between"
    assert leases.run_out(1020.0 + 120 * LEASE_OVER, 15.0) == []
    (expired,) = leases.run_out(1040.0 + 120 * LEASE_OVER, 15.0)
    assert expired.id == entry.id


def test_time_that_the_looking_node_slept_in_its_look_is_not_counted(home: SpoolHome) -> None:
    """Its round began before it slept, the record was read after: whoever counted from the beginning of the
    round would seize at the next look what is renewed all the time. Found by the simulation, seed 145."""
    now_s = 9000.0
    _, leases = leased(home, 60.0), Leases(home.spool, HERE, lambda: now_s)
    assert leases.run_out(1000.0, 15.0) == []

    assert leases.run_out(9001.0, 15.0) == []
    assert leases.run_out(9002.0 + 60 * LEASE_OVER, 15.0) != []


def test_without_a_lease_silence_takes_nothing(home: SpoolHome) -> None:
    leased(home, None)
    leases = Leases(home.spool, HERE, lambda: 0.0)
    assert leases.run_out(0.0, 15.0) == []
    assert leases.run_out(1e9, 15.0) == []


def test_a_lease_of_this_node_is_none_of_its_daemons(home: SpoolHome) -> None:
    """Here the process table tells."""
    leased(home, 2.0)
    leases = Leases(home.spool, NODE, lambda: 0.0)
    assert leases.run_out(0.0, 15.0) == []
    assert leases.run_out(1e9, 15.0) == []


def test_a_record_that_cannot_be_looked_at_loses_no_lease(home: SpoolHome) -> None:
    """An error of the server is not the silence of a node."""
    entry, leases = leased(home, 60.0), Leases(home.spool, HERE, lambda: 0.0)
    assert leases.run_out(0.0, 15.0) == []
    path = Path(spools.path_of(home.spool, entry))
    hidden = path.with_name(".away")
    path.rename(hidden)
    assert leases.run_out(1000.0, 15.0) == []
    hidden.rename(path)
    assert leases.run_out(2000.0, 15.0) == []
    assert leases.run_out(2060.0, 15.0) == []
    assert [one.id for one in leases.run_out(2000.0 + 61 * LEASE_OVER, 15.0)] == [entry.id]


def test_a_job_whose_lease_ran_out_waits_again(home: SpoolHome) -> None:
    entry = leased(home, 60.0)
    tenants = tenants_of(home)
    tenants.take_expired(entry)
    assert tenants.has_seized
    tenants.look()
    tenants.recover()
    assert not tenants.has_seized
    assert home.state(entry.id) == WAITING
    assert [one.reason for one in home.record(entry.id).attempts] == ["lost"]


def test_a_supervisor_renews_its_lease_while_its_job_runs(home: SpoolHome) -> None:
    """Only a restartable job has one."""
    job = home.shell("sleep 300", restartable=True)
    other = home.shell("sleep 300")
    home.daemon(RQ_LEASE="3s", RQ_CORES="2")
    home.wait_for(job, RUNNING)
    home.wait_for(other, RUNNING)
    assert (home.record(job).lease_s, home.record(other).lease_s) == (3.0, None)
    path = spools.path_of(home.spool, home.entry(job))
    renewals = {os.stat(path).st_mtime_ns}

    def renewed() -> bool:
        renewals.add(os.stat(path).st_mtime_ns)
        return len(renewals) > 3

    wait_until(renewed, 30, on_timeout=home.story)
    assert home.state(job) == RUNNING


def test_a_supervisor_that_cannot_renew_its_lease_stops_its_job(home: SpoolHome) -> None:
    """Before anybody else may start it; when the home is back it says so, and the job waits again."""
    job = home.shell("trap '' TERM; sleep 300 & wait; wait", restartable=True)
    daemon = home.daemon(RQ_LEASE="3s", RQ_GRACE="60")
    home.wait_for(job, RUNNING)
    mark = f"RQ_JOB_ID={job}"
    wait_until(lambda: bool(home.pids(mark)), 20)
    daemon.kill()
    daemon.wait()
    away = Path(home.spool.path).with_name("away")
    os.rename(home.spool.path, away)
    wait_until(lambda: not home.pids(mark), 30)

    os.rename(away, home.spool.path)

    record = home.wait_for(job, WAITING, timeout=90)
    assert [one.reason for one in record.attempts] == ["lease"]


# ---------------------------------------------------------------- requests of an attempt


def test_a_restart_meets_only_the_attempt_that_was_meant(home: SpoolHome) -> None:
    """The request may outlive a supervisor that was killed between its end and the request's removal."""
    job = home.shell("echo begun >> begun; while [ ! -e go ]; do sleep 0.05; done", restartable=True)
    spools.request(home.spool, job, "restart", NODE, "another boot.1.1")
    supervisor = home.supervise(job)
    wait_until(lambda: home.output("begun") != "", 20, on_timeout=home.story)
    supervisor.send_signal(signal.SIGUSR1)
    (home.home / "go").touch()
    assert supervisor.wait(20) == 0
    assert home.state(job) == COMPLETED
    assert home.record(job).attempt == 1


def test_a_begun_claim_is_sealed_against_others(home: SpoolHome) -> None:
    """From the writing of its supervisor on nobody may free it."""
    entry = born(home.spool, claimed_there(home))
    assert entry.is_sealed
    assert taken(home, entry, NODE) == CLAIMED


def test_a_supervisor_that_slept_through_its_lease_does_not_begin(home: SpoolHome) -> None:
    """Between the record's move to running/ and the command: its job may have been given away since."""
    entry = claimed_there(home, restartable=True)
    record = replace(spools.read(home.spool, entry), process=THERE, node=NODE, lease_s=60.0, started_ns=1)
    sealed = spools.rewrite(home.spool, entry, record, NODE)
    assert sealed is not None
    running = spools.begin(home.spool, sealed, NODE)
    assert running is not None
    ending, _ = supervisor._execute(home.spool, running, record, Terms(NODE), clock_s() - 31.0)
    assert (ending.state, ending.reason) == (WAITING, "lease")
    assert "begins" in home.output(f"rq-{entry.id}.out")
    assert "could not start" in home.output(f"rq-{entry.id}.out")


def test_a_supervisor_that_slept_while_its_job_was_given_away_does_not_begin(home: SpoolHome) -> None:
    """Called lost between the record's move to running/ and the command: another attempt may run by now."""
    job = home.shell("echo ran > ran")
    entry = home.claim(job)
    record = replace(spools.read(home.spool, entry), process=THERE, node=NODE, started_ns=1)
    sealed = spools.rewrite(home.spool, entry, record, NODE)
    assert sealed is not None
    running = spools.begin(home.spool, sealed, NODE)
    assert running is not None
    assert spools.seize(home.spool, running, HERE) is not None

    ending, usage = supervisor._execute(home.spool, running, record, Terms(NODE), clock_s() - 60.0)

    assert (ending.reason, usage) == ("lost", None)
    assert home.output("ran") == ""


def test_a_home_that_is_not_there_takes_no_job_away(home: SpoolHome) -> None:
    """What lies below the mount point says nothing: only the directory that was there at first does."""
    entry, record = running_there(home)
    watch = HomeWatch(home.spool, entry, Streams("out", 1, 1), record)
    assert watch.is_ours()
    running = Path(home.spool.directory(RUNNING))
    running.rename(running.with_name("elsewhere"))
    assert watch.is_ours()
    running.mkdir()
    assert watch.is_ours()
    running.rmdir()
    running.with_name("elsewhere").rename(running)
    assert spools.seize(home.spool, entry, HERE) is not None
    assert not watch.is_ours()
