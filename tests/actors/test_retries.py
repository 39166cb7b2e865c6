"""Retries: what fails is run again by itself, by real supervisors, and by daemons where these are dead."""

from __future__ import annotations

import logging
import os
import re
import signal
import time
from dataclasses import replace
from typing import Any

import pytest

from roundq.actors.tenants import Tenants
from roundq.records import spool as spools
from roundq.words.job import NS, Identity
from roundq.words.states import CANCELED, COMPLETED, FAILED, HELD, WAITING, ZOMBIE
from tests.actors.spoolhome import NODE, SpoolHome
from tests.actors.test_round import round_of
from tests.cluster.wait import wait_until

#: A process of an earlier boot: surely dead.
DEAD = Identity("an earlier boot", 17, 4)


def test_a_failed_job_waits_again_and_may_end_well(home: SpoolHome) -> None:
    job = home.shell("[ $RQ_RESTART_COUNT -gt 0 ] || exit 7", output="out", retries=3)
    home.supervise(job).wait(20)
    assert home.state(job) == WAITING
    record = home.record(job)
    assert (record.attempt, record.retried, record.not_before_ns) == (2, 1, 0)
    assert [(one.reason, one.exit_code, one.detail) for one in record.attempts] == [
        ("exit", 7, "exit code 7")
    ]

    home.run(job)

    assert home.state(job) == COMPLETED
    said = [line for line in home.output("out").splitlines() if line.startswith("rq: job")]
    assert re.fullmatch(rf"rq: job {job} failed: exit code 7; ran .*; it is run again", said[1])
    assert f"rq: job {job} begins on {NODE}" in said[2]
    assert ", attempt 2 of 4: " in said[2]
    assert "run again" not in said[3]


def test_when_no_retry_is_left_it_has_failed(home: SpoolHome) -> None:
    job = home.shell("exit 7", output="out", retries=1)
    home.supervise(job).wait(20)
    home.supervise(job).wait(20)
    record = home.record(job)
    assert (home.state(job), record.reason, record.exit_code) == (FAILED, "exit", 7)
    assert (record.attempt, record.retried) == (2, 1)
    assert home.output("out").count("it is run again") == 1


def test_a_retry_that_waits_is_held_until_its_time(home: SpoolHome) -> None:
    job = home.shell("exit 7", output="out", retries=3, backoff_s=30.0)
    before_ns = time.time_ns()
    home.supervise(job).wait(20)
    after_ns = time.time_ns()
    assert home.state(job) == HELD
    assert before_ns <= home.record(job).not_before_ns - 30 * NS <= after_ns
    assert home.output("out").rstrip().endswith("; it is run again in 30 s")


ENDS: dict[str, tuple[dict[str, Any], bool]] = {
    "exit 3": ({"retry_on": ("3", "4")}, True),
    "exit 5": ({"retry_on": ("3", "4")}, False),
    "exit 6": ({"retry_on": ("exit",)}, True),
    "kill -9 $$": ({"retry_on": ("signal",)}, True),
    "kill -6 $$": ({"retry_on": ("exit",)}, False),
    "sleep 100": ({"retry_on": ("timeout",), "time_limit_s": 0.2}, True),
    "sleep 200": ({"retry_on": ("signal",), "time_limit_s": 0.2}, False),
    "yes": ({"retry_on": ("output",), "max_output": 1000}, True),
}


@pytest.mark.parametrize("script", ENDS)
def test_only_the_ends_that_were_named_are_retried(home: SpoolHome, script: str) -> None:
    fields, is_retried = ENDS[script]
    job = home.shell(script, output="out", retries=1, **fields)
    home.supervise(job).wait(30)
    assert home.state(job) == (WAITING if is_retried else FAILED)


def test_a_cancel_is_never_retried(home: SpoolHome) -> None:
    job = home.shell("echo ready; sleep 300", output="out", retries=3)
    supervisor = home.supervise(job)
    wait_until(lambda: "ready" in home.output("out"))
    spools.request(home.spool, job, "cancel", NODE)
    os.kill(supervisor.pid, signal.SIGUSR1)
    supervisor.wait(20)
    assert (home.state(job), home.record(job).reason) == (CANCELED, "canceled")
    assert "run again" not in home.output("out")


def test_a_cancel_that_comes_too_late_for_the_attempt_cancels_the_retry(home: SpoolHome) -> None:
    """It is asked of the job: whether that waits, or is held until its next attempt."""
    jobs = [home.shell("exit 7", output="out", retries=3, backoff_s=wait_s) for wait_s in (0.0, 3600.0)]
    for job in jobs:
        home.supervise(job).wait(20)
        spools.request(home.spool, job, "cancel", NODE)
    assert [home.state(job) for job in jobs] == [WAITING, HELD]
    daemon = round_of(home)
    daemon.run(1000.0)
    assert [home.state(job) for job in jobs] == [CANCELED, CANCELED]
    assert spools.requests(home.spool) == {}


def lose(home: SpoolHome, **fields: object) -> str:
    """A job whose supervisor is dead, and was found so by the daemon of its node."""
    job = home.submit("true", **fields)
    entry = home.claim(job)
    record = replace(
        spools.read(home.spool, entry), process=DEAD, pid=DEAD.pid, node=NODE, cores=1, started_ns=1
    )
    assert spools.rewrite(home.spool, entry, record, NODE) is not None
    assert spools.begin(home.spool, entry, NODE) is not None
    tenants = Tenants(home.spool, NODE, logging.getLogger("test"))
    tenants.look()
    tenants.recover()
    return job


def test_what_is_lost_is_run_again_only_if_that_was_asked_for(home: SpoolHome) -> None:
    """A failure of which nothing is known: its command may have done its work."""
    assert home.state(lose(home, retries=3)) == ZOMBIE
    assert home.state(lose(home, retries=3, retry_on=("exit", "signal"))) == ZOMBIE
    job = lose(home, retries=3, retry_on=("lost",))
    assert home.state(job) == WAITING
    assert [one.reason for one in home.record(job).attempts] == ["rebooted"]
    assert home.record(job).retried == 1
    assert home.state(lose(home, retries=3, retry_on=("lost",), backoff_s=3600.0)) == HELD


def test_a_restartable_job_is_recovered_and_uses_no_retry_up(home: SpoolHome) -> None:
    job = lose(home, retries=3, retry_on=("lost",), backoff_s=3600.0, restartable=True)
    assert home.state(job) == WAITING
    assert home.record(job).retried == 0


def test_a_daemon_starts_each_retry_when_its_time_has_come(home: SpoolHome) -> None:
    job = home.shell("date +%s%N >> times; exit 1", output="out", retries=2, backoff_s=0.3)
    home.daemon()
    home.wait_for(job, FAILED, timeout=30)
    first, second, third = map(int, home.output("times").split())
    assert second - first >= 0.3 * NS
    assert third - second >= 0.6 * NS
    assert [one.exit_code for one in home.record(job).attempts] == [1, 1]
