"""Giving way: a running job is asked once, told, stopped, and waits again; and the signal before any stop."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import time
from typing import Any

import pytest

from roundq.actors import environ
from roundq.actors.attempt import Attempt, Terms
from roundq.actors.homewatch import HomeWatch
from roundq.actors.streams import Streams
from roundq.actors.tenants import Tenant, Tenants
from roundq.faces.cli import main
from roundq.records import spool as spools
from roundq.records.spool import Entry
from roundq.words.job import Job, Notice, Record
from roundq.words.states import CANCELED, COMPLETED, FAILED, RUNNING, WAITING
from roundq.world import procs
from tests.actors.spoolhome import NODE, SpoolHome
from tests.cluster.wait import wait_until

WHY = "to bob: bob 3 cores running, you 12"
USR2 = signal.SIGUSR2
#: Counts the signals that it gets, and goes on.
COUNTS = """
import os, signal, sys, time
def note(number, frame):
    os.write(told, b"%d " % number)
told = os.open("told", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
signal.signal(signal.SIGUSR2, note)
child = os.fork()
if child == 0:
    os.setpgid(0, 0)
    signal.signal(signal.SIGUSR2, lambda *_: os.write(told, b"child "))
os.close(os.open("up", os.O_WRONLY | os.O_CREAT))
until = time.monotonic() + 60
while time.monotonic() < until:
    time.sleep(0.05)
"""
#: Ends with this code once it got the signal.
ENDS = "trap 'touch told; exit {code}' USR2; touch up; while :; do sleep 0.05; done"


def running(home: SpoolHome, script: str, **fields: Any) -> tuple[str, subprocess.Popen[bytes]]:
    """A job that runs, and is up; its id and its supervisor."""
    given = {"restartable": True, **fields}
    command = (
        ("/usr/bin/env", "python3", "-c", script) if "import os" in script else ("/bin/sh", "-c", script)
    )
    job = home.submit(*command, **given)
    supervisor = home.supervise(job)
    wait_until((home.home / "up").exists, 30, on_timeout=home.story)
    return job, supervisor


def adopted(home: SpoolHome, job: str) -> tuple[Tenants, Tenant]:
    """What a daemon knows that has just begun."""
    tenants = Tenants(home.spool, NODE, logging.getLogger("test"))
    tenants.look()
    return tenants, tenants.by_id[job]


def preempt(home: SpoolHome, job: str, why: str = WHY) -> bool:
    tenants, tenant = adopted(home, job)
    return tenants.preempt(tenant, why)


def history(home: SpoolHome, job: str) -> list[tuple[int, str | None, str | None]]:
    return [(one.number, one.reason, one.detail) for one in home.record(job).attempts]


def requests(home: SpoolHome) -> list[str]:
    return os.listdir(home.spool.directory("requests"))


# ---------------------------------------------------------------- giving way


def test_a_job_that_gives_way_waits_again_and_says_why(home: SpoolHome) -> None:
    """Every process of it is dead by then; the request is answered, and the next attempt is open."""
    job, supervisor = running(home, "touch up; setsid sleep 300 & sleep 300")
    process = home.record(job).process
    assert process is not None
    mark = f"RQ_MARK={environ.mark(process)}"
    wait_until(lambda: home.pids(mark))

    assert preempt(home, job)

    assert supervisor.wait(30) == 0
    assert home.state(job) == WAITING
    assert history(home, job) == [(1, "preempted", f"gave way {WHY}")]
    (ended,) = home.record(job).attempts
    assert ended.signal == signal.SIGTERM
    assert home.record(job).attempt == 2
    assert home.pids(mark) == []
    assert requests(home) == []


def test_a_job_is_asked_once(home: SpoolHome, caplog: pytest.LogCaptureFixture) -> None:
    """By one daemon or by the next: the log has one line, and the next attempt is not meant."""
    caplog.set_level(logging.INFO)
    job, supervisor = running(home, "trap '' TERM; touch up; while :; do sleep 0.05; done")
    tenants, tenant = adopted(home, job)
    assert not tenant.is_preempting

    assert tenants.preempt(tenant, WHY)

    assert tenant.is_preempting
    assert not tenants.preempt(tenant, WHY)
    next_daemon, same = adopted(home, job)
    next_daemon.answer(spools.requests(home.spool), time.time_ns())
    assert same.is_preempting
    assert same.gives_way == WHY
    assert not next_daemon.preempt(same, "to carl")
    assert [line.getMessage() for line in caplog.records] == [f"job {job} gives way {WHY}"]
    assert supervisor.wait(30) == 0
    assert history(home, job) == [(1, "preempted", f"gave way {WHY}")]


def heeded(home: SpoolHome, job: str) -> str | None:
    """What a supervisor of this attempt would do at its next look; the one that runs may look any time."""
    return HomeWatch(home.spool, home.entry(job), Streams("out", 1, 1), home.record(job)).asked()


def test_a_request_meets_no_other_attempt(home: SpoolHome) -> None:
    """It was left behind, as by a crash: what runs now goes on, and may be asked anew."""
    job, supervisor = running(home, "touch up; sleep 300")
    spools.request(home.spool, job, "preempt", NODE, "an-earlier-boot.17.4\nto nobody of today")
    tenants, tenant = adopted(home, job)
    tenants.answer(spools.requests(home.spool), time.time_ns())

    assert not tenant.is_preempting
    assert heeded(home, job) is None
    assert tenants.preempt(tenant, WHY)
    assert heeded(home, job) == "preempt"
    assert supervisor.wait(30) == 0
    assert history(home, job) == [(1, "preempted", f"gave way {WHY}")]


@pytest.mark.parametrize("content", ["", "{mark}x\nto bob"])
def test_a_request_without_the_mark_asks_nothing(home: SpoolHome, content: str) -> None:
    """Unlike one to restart, which a person may leave."""
    job, supervisor = running(home, "touch up; while [ ! -e go ]; do sleep 0.05; done")
    process = home.record(job).process
    assert process is not None

    spools.request(home.spool, job, "preempt", NODE, content.format(mark=environ.mark(process)))
    procs.send(process, signal.SIGUSR1)

    assert heeded(home, job) is None
    (home.home / "go").touch()
    assert supervisor.wait(30) == 0
    assert home.state(job) == COMPLETED
    assert requests(home) == []


def test_a_job_that_may_not_be_run_again_never_gives_way(home: SpoolHome) -> None:
    """Neither its daemon asks, nor its supervisor heeds who asks all the same."""
    job, supervisor = running(home, "touch up; while [ ! -e go ]; do sleep 0.05; done", restartable=False)
    process = home.record(job).process
    assert process is not None

    assert not preempt(home, job)

    assert requests(home) == []
    spools.request(home.spool, job, "preempt", NODE, f"{environ.mark(process)}\n{WHY}")
    tenants, tenant = adopted(home, job)
    tenants.answer(spools.requests(home.spool), time.time_ns())
    assert not tenant.is_preempting
    assert heeded(home, job) is None
    (home.home / "go").touch()
    assert supervisor.wait(30) == 0
    assert home.state(job) == COMPLETED


def test_a_job_that_scavenges_gives_way(home: SpoolHome) -> None:
    """It may be run again by what it is."""
    job, supervisor = running(home, "touch up; sleep 300", restartable=False, scavenge=True)

    assert preempt(home, job)

    assert supervisor.wait(30) == 0
    assert history(home, job) == [(1, "preempted", f"gave way {WHY}")]


def test_what_is_not_born_is_not_asked(home: SpoolHome) -> None:
    """Nobody would answer."""
    job = home.shell("true", restartable=True)
    home.claim(job)

    assert not preempt(home, job)

    assert requests(home) == []


def test_a_why_of_any_length_and_form_is_one_line(home: SpoolHome) -> None:
    """Names of users are not ours."""
    job, supervisor = running(home, "touch up; sleep 300")

    assert preempt(home, job, "to b\udce9b:\nforce " + "x" * 9000)

    assert supervisor.wait(30) == 0
    ((_, reason, detail),) = history(home, job)
    assert reason == "preempted"
    assert detail is not None
    assert detail.startswith(r"gave way to b\xe9b: force xxx")
    assert len(detail) < 200


def test_a_cancel_goes_before(home: SpoolHome) -> None:
    """Of a job that was asked for both."""
    job, supervisor = running(home, "touch up; sleep 300", notice=Notice(USR2, 60.0))
    process = home.record(job).process
    assert process is not None
    spools.request(home.spool, job, "cancel", NODE)

    preempt(home, job)

    assert supervisor.wait(30) == 0
    assert home.state(job) == CANCELED
    assert requests(home) == []


# ---------------------------------------------------------------- told before


@pytest.mark.parametrize("verb", ["preempt", "restart"])
def test_a_job_is_told_once_and_stopped_so_long_after(home: SpoolHome, verb: str) -> None:
    """The command alone is told, none of its children; what does not end by itself gets TERM then."""
    job, supervisor = running(home, COUNTS, notice=Notice(USR2, 1.5))

    began_s = time.monotonic()
    ask(home, job, verb)
    wait_until(lambda: home.output("told") != "", 20, on_timeout=home.story)
    told_s = time.monotonic()
    # Asked again, by whomever: it is under way.
    ask(home, job, "restart")

    assert supervisor.wait(30) == 0
    assert time.monotonic() - began_s >= 1.5
    assert told_s - began_s < 1.5
    assert home.output("told") == f"{int(USR2)} "
    assert home.state(job) == WAITING
    ((_, reason, _),) = history(home, job)
    assert reason == {"preempt": "preempted", "restart": "restarted"}[verb]
    assert "; it was sent SIGUSR2 " in home.output(f"rq-{job}.out")


def ask(home: SpoolHome, job: str, verb: str) -> None:
    if verb == "preempt":
        assert preempt(home, job)
        return
    process = home.record(job).process
    assert process is not None
    spools.request(home.spool, job, verb, NODE, environ.mark(process))
    procs.send(process, signal.SIGUSR1)


@pytest.mark.parametrize("verb", ["preempt", "restart"])
def test_a_job_that_ends_well_when_it_is_told_is_completed(home: SpoolHome, verb: str) -> None:
    """It had little left to do: it is not run again, and nobody waits for the rest of its time."""
    job, supervisor = running(home, ENDS.format(code=0), notice=Notice(USR2, 300.0))

    ask(home, job, verb)

    assert supervisor.wait(30) == 0
    assert home.state(job) == COMPLETED
    assert history(home, job) == []
    assert requests(home) == []


@pytest.mark.parametrize("verb", ["preempt", "restart"])
@pytest.mark.parametrize(
    ("script", "code", "number"),
    [(ENDS.format(code=3), 3, None), ("touch up; exec sleep 300", None, USR2)],
    ids=["exit 3", "killed by the signal"],
)
def test_a_job_that_ends_otherwise_when_it_is_told_waits_again(
    home: SpoolHome, verb: str, script: str, code: int | None, number: int | None
) -> None:
    """It has stored what it has, or did not know the signal; what it left behind is dead, too."""
    job, supervisor = running(home, f"setsid sleep 300 & {script}", notice=Notice(USR2, 300.0))
    process = home.record(job).process
    assert process is not None

    ask(home, job, verb)

    assert supervisor.wait(30) == 0
    assert home.state(job) == WAITING
    (ended,) = home.record(job).attempts
    assert ended.reason == {"preempt": "preempted", "restart": "restarted"}[verb]
    assert (ended.exit_code, ended.signal) == (code, number)
    assert home.pids(f"RQ_MARK={environ.mark(process)}") == []


@pytest.mark.parametrize(
    ("verb", "notice", "fields", "state"),
    [
        ("cancel", Notice(USR2, 300.0), {}, CANCELED),
        (None, Notice(USR2, 2.0), {"time_limit_s": 3.5}, FAILED),
    ],
    ids=["cancel", "time limit"],
)
def test_a_job_that_was_told_is_still_canceled_and_limited(
    home: SpoolHome, verb: str | None, notice: Notice, fields: dict[str, Any], state: str
) -> None:
    """The time that it has to end by itself is not a time without rules."""
    job, supervisor = running(home, COUNTS, notice=notice, **fields)
    if not fields:
        assert preempt(home, job)
    wait_until(lambda: home.output("told") != "", 20, on_timeout=home.story)
    if fields:
        assert preempt(home, job)

    if verb:
        ask(home, job, verb)

    assert supervisor.wait(30) == 0
    assert home.state(job) == state
    assert home.output("told") == f"{int(USR2)} "
    assert history(home, job) == []


@pytest.mark.parametrize("restarts", [False, True])
def test_a_job_that_gives_way_has_ten_minutes_at_the_most(
    home: SpoolHome, monkeypatch: pytest.MonkeyPatch, restarts: bool
) -> None:
    """Whatever notice it wants, and although its user had it restart before, which may take that long."""
    job = Job(("true",), restartable=True, notice=Notice(0, 30 * 86_400.0))
    entry = Entry("17", RUNNING, NODE, f"17@{NODE}.job", 1)
    record = Record(job, process=procs.own_identity())
    watch = HomeWatch(home.spool, entry, Streams("out", 1, 1), record)
    life = Attempt(home.spool, entry, record, Terms(NODE), watch.streams, watch, pid=os.getpid())
    monkeypatch.setattr(watch, "_wake", lambda: None)
    if restarts:
        spools.request(home.spool, "17", "restart", NODE)
        assert watch._heed(watch.asked()) is None
        assert life._notice(1000.0) == 30 * 86_400.0
        assert watch._heed(watch.asked()) is None
    spools.request(home.spool, "17", "preempt", NODE, f"{environ.mark(procs.own_identity())}\n{WHY}")
    assert watch._heed(watch.asked()) is None

    assert watch.is_to_yield == "preempt"
    assert life._notice(2000.0) == 600.0
    assert life._notice(2600.0) == 0.0
    spools.request(home.spool, "17", "restart", NODE)
    assert watch.asked() is None


# ---------------------------------------------------------------- before a time limit


def test_a_job_is_told_so_long_before_its_time_limit(home: SpoolHome) -> None:
    """Once; and it is stopped at its limit, as without."""
    job, supervisor = running(home, COUNTS, notice=Notice(USR2, 1.0), time_limit_s=3.0, restartable=False)
    assert home.output("told") == ""

    wait_until(lambda: home.output("told") != "", 20, on_timeout=home.story)
    told_s = time.time()

    assert supervisor.wait(30) == 0
    record = home.record(job)
    assert (home.state(job), record.reason) == (FAILED, "time limit")
    assert told_s >= record.started_ns / 1e9 + 2.0
    assert home.output("told") == f"{int(USR2)} "


def test_a_time_limit_that_is_shorter_is_told_at_once(home: SpoolHome) -> None:
    """All the time that it has is less than what it wants to be told before."""
    job = home.shell("sleep 300", notice=Notice(USR2, 60.0), time_limit_s=50.0)
    supervisor = home.supervise(job)

    assert supervisor.wait(30) == 0

    record = home.record(job)
    assert (home.state(job), record.reason, record.signal) == (FAILED, "signal", USR2)


def test_a_job_that_ends_well_before_its_limit_is_completed(home: SpoolHome) -> None:
    job, supervisor = running(home, ENDS.format(code=0), notice=Notice(USR2, 298.5), time_limit_s=300.0)

    assert supervisor.wait(30) == 0

    assert home.state(job) == COMPLETED
    assert (home.home / "told").exists()


# ---------------------------------------------------------------- what is shown


def test_what_gave_way_says_so_everywhere(
    home: SpoolHome, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """While it is under way, in the list and by `rq why`; and then by `rq show`, in JSON, and by the list."""
    for variable, value in home.environ.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.chdir("/")
    job, supervisor = running(home, ENDS.format(code=3), notice=Notice(signal.SIGWINCH, 2.0))

    assert preempt(home, job)
    under_way = said(capsys, "why", job), said(capsys, "q")
    assert supervisor.wait(30) == 0

    assert f"it gives way {WHY}, and will wait again" in under_way[0]
    assert "giving way" in under_way[1]
    shown = said(capsys, "show", job)
    assert "attempt 1 on testnode, " in shown
    assert f": preempted: gave way {WHY}\n" in shown
    (facts,) = json.loads(said(capsys, "show", "--json", job))["jobs"]
    (attempt,) = facts["attempts"]
    assert (attempt["reason"], attempt["detail"]) == ("preempted", f"gave way {WHY}")
    assert "waiting: preempted" in said(capsys, "q")
    assert f"gave way {WHY}" in said(capsys, "why", job)


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    main(list(words))
    return capsys.readouterr().out
