"""Jobs that are paused, go on, and are sent signals: real supervisors and processes."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from roundq.actors import environ
from roundq.actors.attempt import Attempt, Terms
from roundq.actors.homewatch import HomeWatch
from roundq.actors.pauses import Pauses
from roundq.actors.stillness import Stillness
from roundq.actors.streams import Streams
from roundq.actors.tenants import Tenant
from roundq.records import cards, signals
from roundq.records import spool as spools
from roundq.records.cards import Card
from roundq.records.spool import Entry
from roundq.words.job import NS, Identity, Job, Notice, Record
from roundq.words.states import CANCELED, COMPLETED, FAILED, RUNNING, WAITING
from tests import delegation
from tests.actors.spoolhome import NODE, SpoolHome
from tests.cluster.wait import wait_until

#: Counts in a file for as long as it runs.
COUNT = "i=0; while :; do i=$((i+1)); echo $i > count; sleep 0.01; done"


def mark(home: SpoolHome, job: str) -> str:
    process = home.record(job).process
    assert process is not None
    return environ.mark(process)


def nudge(home: SpoolHome, job: str) -> None:
    process = home.record(job).process
    assert process is not None
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGUSR1)


def ask(home: SpoolHome, job: str, verb: str) -> None:
    spools.request(home.spool, job, verb, NODE, mark(home, job))
    nudge(home, job)


def is_paused(home: SpoolHome, job: str) -> bool:
    return "paused" in spools.requests(home.spool).get(job, set())


def pause(home: SpoolHome, job: str) -> None:
    ask(home, job, "pause")
    wait_until(lambda: is_paused(home, job), 20, on_timeout=home.story)


def go_on(home: SpoolHome, job: str) -> None:
    spools.answer(home.spool, job, ("pause",))
    nudge(home, job)
    wait_until(lambda: not is_paused(home, job), 20, on_timeout=home.story)


@pytest.fixture(params=["without a group", "in a group"])
def group(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """A delegated control group for supervisors, or none."""
    if request.param == "without a group":
        yield None
        return
    with delegation.group(says_so=True, owner=os.geteuid()) as path:
        yield path


def running(home: SpoolHome, script: str, group: str | None = None, **fields: object) -> str:
    """A job whose command has written the file `begun`."""
    job = home.shell(f"echo > begun; {script}", **fields)
    home.claim(job)
    words = [sys.executable, "-m", "roundq.actors.supervisor", home.spool.path, job]
    if group is not None:
        words = ["/bin/sh", "-c", f'echo 0 >{group}/cgroup.procs && exec "$@"', "sh", *words]
    home._start(*words)
    wait_until(lambda: (home.home / "begun").exists(), 20, on_timeout=home.story)
    return job


def stands_still(home: SpoolHome, job: str, group: str | None = None) -> bool:
    """Whether every process of the job is stopped, or frozen."""
    if group is None:
        # Whoever waits for a child that was stopped between vfork and exec does so in uninterruptible sleep.
        return {"T"} <= states_of(home, job) <= {"T", "D"}
    (events,) = Path(group).glob("roundq-*/cgroup.events")
    return "frozen 1" in events.read_text().splitlines()


def states_of(home: SpoolHome, job: str) -> set[str]:
    """The states, proc(5), of all processes of the job but its supervisor."""
    found = set()
    for pid in home.pids(f"RQ_MARK={mark(home, job)}"):
        with contextlib.suppress(OSError):
            found.add(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0])
    return found


def test_a_paused_job_stands_still_and_goes_on(home: SpoolHome, group: str | None) -> None:
    """Every process of it, also those in sessions of their own; and all of them run again after that."""
    job = running(home, f"setsid sh -c '{COUNT}' & (sleep 0.01; sleep 300) & wait", group)
    wait_until(lambda: home.output("count") > "", 20)
    wait_until(lambda: len(home.pids(f"RQ_MARK={mark(home, job)}")) >= 4, 20)

    pause(home, job)

    assert stands_still(home, job, group)
    assert home.state(job) == RUNNING
    # Between the opening of the file and the writing it is empty.
    counted = home.output("count")

    go_on(home, job)

    assert not stands_still(home, job, group)
    wait_until(lambda: home.output("count") not in ("", counted), 20, on_timeout=home.story)


def test_what_stopped_itself_stays_stopped_when_the_job_goes_on(home: SpoolHome) -> None:
    """Only what was stopped for the pause is let go on."""
    job = running(home, "sh -c 'kill -STOP $$; echo > woken' & echo $! > child; sleep 300")
    wait_until(lambda: states_of(home, job) == {"S", "T"}, 20, on_timeout=home.story)
    pause(home, job)

    go_on(home, job)

    wait_until(lambda: states_of(home, job) == {"S", "T"}, 20, on_timeout=home.story)
    assert home.output("woken") == ""


def test_a_time_limit_does_not_run_while_the_job_is_paused(home: SpoolHome) -> None:
    """It has no end meanwhile, and then it has what was left of it; again and again."""
    job = Job(("true",), time_limit_s=60)
    streams, entry = Streams("out", 1, 1), Entry("17", RUNNING, NODE, f"17@{NODE}.job", 1)
    watch = HomeWatch(home.spool, entry, streams, Record(job))
    life = Attempt(home.spool, entry, Record(job), Terms(NODE), streams, watch, began_s=1000.0)
    life.still = Stillness(list, None, lambda _: None)
    assert life._ends_s() == 1060.0

    assert life.still.stop(1010.0)
    assert life._ends_s() > 1e9
    life.still.go_on(1500.0)
    assert life._ends_s() == 1060.0 + 490.0

    assert life.still.stop(1520.0)
    life.still.go_on(1530.0)
    assert life._ends_s() == 1060.0 + 490.0 + 10.0


def test_a_card_tells_no_time_limit_of_a_paused_job_and_then_a_later_one(home: SpoolHome) -> None:
    """Later by all the time in which it may have stood still: between two looks, or without a daemon."""
    mine, other = (Identity("boot", pid, 4) for pid in (17, 18))

    def tenant(job_id: str, process: Identity, child: int | None = None) -> Tenant:
        record = Record(Job(("true",), time_limit_s=60.0), started_ns=1000 * NS, process=process)
        return Tenant(Entry(job_id, RUNNING, NODE, f"{job_id}@{NODE}.job", 1), record, child=child)

    one, two = tenant("1", mine, child=17), tenant("2", other, child=18)
    pauses = Pauses(home.spool, NODE)
    told = []
    for now_s, asked in ((10.0, ()), (15.0, ("1",)), (20.0, ("1",)), (25.0, ()), (30.0, ()), (31.0, ("1",))):
        pauses.look([one, two], asked, now_s, 0)
        told.append(one.occupant().limit_s)
    assert told == [60.0, None, None, 75.0, 75.0, None]
    assert two.occupant().limit_s == 60.0
    pauses.look([one, two], (), 32.0, 0)
    assert one.occupant().limit_s == 77.0

    still = replace(tenant("3", Identity("boot", 19, 4)).occupant(), limit_s=None)
    jobs = (one.occupant(), two.occupant(), still)
    cards.publish(
        home.spool, Card("ann", NODE, 1, 4, 4, 1, version="1", beat=1, jobs=jobs, written_ns=1100 * NS)
    )
    adopted = [tenant(job.id, job.process) for job in jobs if job.process is not None]
    adopted.append(tenant("4", Identity("boot", 20, 4)))
    Pauses(home.spool, NODE).look(adopted, (), 5.0, 1104 * NS)

    assert [each.occupant().limit_s for each in adopted] == [81.0, 64.0, 60.0 + 104.0, 60.0 + 104.0]


def test_a_paused_job_has_its_whole_time_limit(home: SpoolHome) -> None:
    """It ends when it ran for so long, and what it used says for how long it stood still."""
    limit_s = 4.0
    job = running(home, "sleep 300", time_limit_s=limit_s)
    pause(home, job)
    since_s = os.times().elapsed
    wait_until(lambda: os.times().elapsed - since_s > 0.5, 20)
    go_on(home, job)

    record = home.wait_for(job)

    assert (home.state(job), record.reason) == (FAILED, "time limit")
    assert record.usage is not None
    assert record.usage["paused_s"] >= 0.5
    assert (record.completed_ns - record.started_ns) / 1e9 >= limit_s + record.usage["paused_s"] - 0.01
    assert "was paused for " in home.output(f"rq-{job}.out")


@pytest.mark.parametrize("verb", ["cancel", "restart", "preempt"])
def test_a_paused_job_is_ended_as_any_other(home: SpoolHome, verb: str, group: str | None) -> None:
    """Its command is told to end, and can do what it does then."""
    script = "trap 'echo > told; exit 1' TERM; echo > up; while :; do sleep 0.01; done"
    job = running(home, script, group, restartable=True)
    wait_until((home.home / "up").exists, 20)
    pause(home, job)

    ask(home, job, verb)

    home.wait_for(job, CANCELED if verb == "cancel" else WAITING)
    assert (home.home / "told").exists()
    # Nothing is left that could pause the next attempt, or say that it stands still.
    wait_until(lambda: spools.requests(home.spool) == {}, 5)


def test_a_paused_job_goes_on_for_its_notice(home: SpoolHome) -> None:
    """One that is told before it is stopped has to be able to hear it."""
    script = "trap 'echo > told; exit 0' USR2; echo > up; while :; do sleep 0.01; done"
    job = running(home, script, restartable=True, notice=Notice(signal.SIGUSR2, 60.0))
    wait_until((home.home / "up").exists, 20)
    pause(home, job)

    ask(home, job, "restart")

    home.wait_for(job, COMPLETED)
    assert (home.home / "told").exists()


def test_a_paused_job_that_is_killed_by_somebody_has_ended(home: SpoolHome, group: str | None) -> None:
    """The outcome is true, and what was stopped beside the command is gone."""
    job = running(home, "sleep 300 & echo $$ > pid; wait", group)
    wait_until(lambda: home.output("pid") > "", 20)
    pause(home, job)
    of_job = f"RQ_MARK={mark(home, job)}"

    os.kill(int(home.output("pid")), signal.SIGKILL)

    record = home.wait_for(job)
    assert (record.reason, record.signal) == ("signal", signal.SIGKILL)
    assert home.pids(of_job) == []


def test_a_request_to_pause_without_the_right_mark_asks_nothing(home: SpoolHome) -> None:
    """One that was meant for another attempt does not meet this one."""
    job = running(home, "sleep 300")
    spools.request(home.spool, job, "pause", NODE, "boot.1.2")
    nudge(home, job)
    # That it looked is known by what it did for another request.
    signals.ask(home.spool, job, mark(home, job), signal.SIGURG, NODE, to_all=False)
    nudge(home, job)

    wait_until(lambda: signals.names(home.spool) == set(), 20)

    assert not is_paused(home, job)
    assert "T" not in states_of(home, job)


def test_a_woken_process_is_stopped_again(home: SpoolHome) -> None:
    """A pause holds for as long as its user says."""
    job = running(home, "echo $$ > pid; " + COUNT)
    pause(home, job)
    pid = int(home.output("pid"))

    # SIGCONT by way of the queue is met at once; one from elsewhere within ten seconds.
    signals.ask(home.spool, job, mark(home, job), signal.SIGCONT, NODE, to_all=True)
    nudge(home, job)

    wait_until(lambda: signals.names(home.spool) == set(), 20)
    wait_until(lambda: stands_still(home, job), 20, on_timeout=home.story)
    assert Path(f"/proc/{pid}").exists()


# ---------------------------------------------------------------- signals


def test_a_signal_meets_the_command_and_no_other(home: SpoolHome) -> None:
    """Unless it is meant for all."""
    script = (
        "sh -c 'trap \"echo x >> inner\" USR1; echo > ready; while :; do sleep 0.01; done' &"
        " trap 'echo x >> outer' USR1; while :; do sleep 0.01; done"
    )
    job = running(home, script)
    wait_until(lambda: (home.home / "ready").exists(), 20)

    signals.ask(home.spool, job, mark(home, job), signal.SIGUSR1, NODE, to_all=False)
    nudge(home, job)
    wait_until(lambda: home.output("outer") == "x\n", 20, on_timeout=home.story)
    wait_until(lambda: signals.names(home.spool) == set(), 20)
    assert home.output("inner") == ""

    # A sleep that does not catch it ends, and is begun anew.
    signals.ask(home.spool, job, mark(home, job), signal.SIGUSR1, NODE, to_all=True)
    nudge(home, job)
    wait_until(lambda: home.output("inner") == "x\n", 20, on_timeout=home.story)
    wait_until(lambda: home.output("outer") == "x\nx\n", 20, on_timeout=home.story)


def test_each_signal_is_sent_once(home: SpoolHome) -> None:
    """Two requests are two signals, however often the supervisor looks, and also if none can be removed."""
    script = (
        "trap 'echo 1 >> got' USR1; trap 'echo 2 >> got' USR2; echo > ready; while :; do sleep 0.01; done"
    )
    job = running(home, script)
    wait_until(lambda: (home.home / "ready").exists(), 20)
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signals.ask(home.spool, job, mark(home, job), number, NODE, to_all=False)
    for _ in range(5):
        nudge(home, job)

    wait_until(lambda: signals.names(home.spool) == set(), 20, on_timeout=home.story)

    wait_until(lambda: sorted(home.output("got").split()) == ["1", "2"], 20, on_timeout=home.story)
    go_on(home, job)
    assert sorted(home.output("got").split()) == ["1", "2"]


def test_a_signal_that_ends_the_command_is_its_end(home: SpoolHome) -> None:
    """As if somebody had sent it by kill(1)."""
    job = running(home, "sleep 300")

    signals.ask(home.spool, job, mark(home, job), signal.SIGINT, NODE, to_all=True)
    nudge(home, job)

    record = home.wait_for(job)
    assert (home.state(job), record.reason, record.signal) == (FAILED, "signal", signal.SIGINT)
    wait_until(lambda: signals.names(home.spool) == set(), 20)


# ---------------------------------------------------------------- with a daemon


def test_a_pause_survives_the_daemon_and_the_next_one_carries_on(home: SpoolHome) -> None:
    """The supervisor pauses; a daemon only tells it that there is something to see."""
    daemon = home.daemon()
    job = home.shell("echo > begun; " + COUNT)
    wait_until(lambda: (home.home / "begun").exists(), 20, on_timeout=home.story)
    spools.request(home.spool, job, "pause", "elsewhere", mark(home, job))
    wait_until(lambda: is_paused(home, job), 20, on_timeout=home.story)

    daemon.kill()
    daemon.wait()
    home.daemon()

    assert stands_still(home, job)
    spools.answer(home.spool, job, ("pause",))
    wait_until(lambda: not is_paused(home, job), 20, on_timeout=home.story)
    assert "T" not in states_of(home, job)
