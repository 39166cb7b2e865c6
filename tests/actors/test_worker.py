"""Promises about workers: what they take and leave, when they leave, and what signals make of their jobs."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from roundq.actors import reasons, survey
from roundq.actors import worker as workers
from roundq.actors.round import Round
from roundq.actors.waiting import ALIKE_LEAST, PASSED_S, WaitingList
from roundq.records import cards, commons, environments
from roundq.records import spool as spools
from roundq.records.cards import Card
from roundq.records.neighbours import Seen
from roundq.records.spool import Entry, Spool
from roundq.words import record_format as formats
from roundq.words.intake import Intake, intake
from roundq.words.job import Array, Dependency, Job, Record, Task
from roundq.words.states import CANCELED, COMPLETED, RUNNING, WAITING
from roundq.world.config import Config
from roundq.world.node import Node
from roundq.world.nodelock import NodeLock
from tests.actors.spoolhome import NODE, SpoolHome
from tests.cluster.wait import wait_until

LOG = logging.getLogger("test")


class Working:
    """A `rq worker` that runs, at the head of a process group, as in a terminal."""

    def __init__(self, home: SpoolHome, *words: str, ignores: Iterable[signal.Signals] = ()) -> None:
        def ignore() -> None:
            for number in ignores:
                signal.signal(number, signal.SIG_IGN)

        self.process = subprocess.Popen(
            [sys.executable, "-m", "roundq", "worker", *words],
            env={**home.environ, "RQ_AUTO_START": "no", "RQ_CORES": "4"},
            cwd=home.home,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=ignore,
        )

    def press_ctrl_c(self) -> None:
        """What a terminal does: every process of the group is told."""
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self, timeout: float = 30.0) -> tuple[int, str, str]:
        """Exit code, what it said of jobs, and what else."""
        out, err = self.process.communicate(timeout=timeout)
        return self.process.returncode, out, err


@contextlib.contextmanager
def working(home: SpoolHome, *words: str, ignores: Iterable[signal.Signals] = ()) -> Iterator[Working]:
    one = Working(home, *words, ignores=ignores)
    try:
        yield one
    finally:
        one.process.kill()
        one.process.communicate()


def round_of(home: SpoolHome, taken: Intake, **config: object) -> Round:
    """The rounds of a worker that just started."""
    given = Config((str(home.home.parent),), **{"cores": 4, **config})  # type: ignore[arg-type]
    node = Node(home.environ)
    return Round(home.spool, node, lambda: (given, None), LOG, 1, intake=taken)


# ---------------------------------------------------------------- what it takes


def test_it_runs_what_it_takes_and_leaves_by_itself(home: SpoolHome) -> None:
    """Also what is retried; what it cannot run, and what is no job for it, waits on."""
    first = home.shell("sleep 0.1", set="fit", jobname="first")
    flag = home.home / "flag"
    again = {"set": "fit", "jobname": "again", "retries": 1, "backoff_s": 0.1}
    retried = home.shell(f"test -e {flag} || {{ touch {flag}; exit 3; }}", **again)
    wide = home.submit("true", set="fit", cores=3)
    other = home.submit("true")

    with working(home, "-x", "2", "--set", "fit") as one:
        code, out, err = one.end()

    assert [home.state(job) for job in (first, retried, wide, other)] == [
        COMPLETED,
        COMPLETED,
        WAITING,
        WAITING,
    ]
    assert home.record(retried).attempt == 2
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0] == f"worker on {NODE}: 2 cores, jobs of set fit"
    assert f'job {first} "first" begins: 1 core' in lines
    assert f'job {first} "first" completed, after 0 s' in lines
    assert f'job {retried} "again" is held until its next attempt' in lines
    assert f'job {retried} "again" begins: 1 core, attempt 2' in lines
    assert lines[-1] == f"worker on {NODE} leaves: 2 jobs ended"
    assert err == (
        f"rq: left: {wide}: can never start here: needs 3 cores, the worker on {NODE} fills 2 cores\n"
    )
    assert cards.read(home.spool, NODE).state == cards.LEAVING


#: Held jobs are looked at again only ten times as late as a look took: as on a slow file server.
_SLOWLY = """
import sys, time
from roundq.world import files
real = files.listing
def listing(*words, **more):
    time.sleep(0.03)
    return real(*words, **more)
files.listing = listing
from roundq.faces.cli import main
sys.exit(main(["worker"]))
"""


def test_it_does_not_leave_before_it_saw_what_its_last_job_releases(home: SpoolHome) -> None:
    """Held jobs are looked at less often where that takes long; the next of a chain is its work, too."""
    first = home.submit("true")
    second = home.submit("true", after=(Dependency("ok", first),))
    done = subprocess.run(
        [sys.executable, "-c", _SLOWLY],
        env={**home.environ, "RQ_AUTO_START": "no", "RQ_CORES": "4", "RQ_POLL_MAX": "3"},
        cwd=home.home,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [home.state(job) for job in (first, second)] == [COMPLETED, COMPLETED]


def test_its_exit_status_tells_of_failures(home: SpoolHome) -> None:
    """Whatever else ended well."""
    home.shell("exit 0")
    ill = home.shell("exit 3", jobname="fit")

    with working(home) as one:
        code, out, err = one.end()

    assert (code, err) == (1, "")
    assert f'job {ill} "fit" failed: exit code 3, after 0 s' in out.splitlines()
    assert out.splitlines()[-1] == f"worker on {NODE} leaves: 2 jobs ended, not well: {ill}"


def test_it_never_fills_more_cores_than_it_was_told(home: SpoolHome) -> None:
    """Also of jobs that would fit beside each other on the node."""
    script = "echo + >> jobs; sleep 0.3; echo - >> jobs"
    for _ in range(4):
        home.shell(script, output="out")

    with working(home, "-x", "2") as one:
        assert one.end()[0] == 0

    running = most = 0
    for line in home.output("jobs").splitlines():
        running += 1 if line == "+" else -1
        most = max(most, running)
    assert most == 2


def test_a_worker_that_stays_takes_what_comes_later(home: SpoolHome) -> None:
    with working(home, "--stay", "later") as one:
        wait_until(lambda: home.card_pid() == one.process.pid, 20, on_timeout=home.story)
        other = home.submit("true", jobname="other")
        job = home.submit("true", jobname="later")
        home.wait_for(job)
        one.press_ctrl_c()
        code, out, _ = one.end()

    assert home.state(other) == WAITING
    assert code == 128 + signal.SIGINT
    assert out.splitlines()[-1] == f"worker on {NODE} leaves: 1 job ended"


# ---------------------------------------------------------------- signals


def test_ctrl_c_lets_what_runs_finish(home: SpoolHome) -> None:
    """Nothing more is begun, and no job hears of it."""
    job = home.shell("while ! test -e go; do sleep 0.05; done", output="out")
    waits = home.submit("true")

    with working(home, "-x", "1") as one:
        home.wait_for(job, RUNNING)
        one.press_ctrl_c()
        wait_until(lambda: cards.read(home.spool, NODE).state == cards.DRAINING, 20, on_timeout=home.story)
        (home.home / "go").touch()
        code, _, err = one.end()

    assert (home.state(job), home.state(waits)) == (COMPLETED, WAITING)
    assert code == 128 + signal.SIGINT
    assert err == f"rq: starts nothing more; 1 job goes on: {job}\nhint: Ctrl-C again stops them\n"


def test_ctrl_c_twice_stops_what_runs_and_loses_nothing(home: SpoolHome) -> None:
    """What may be restarted waits again, and is not begun anew; the rest is canceled."""
    job = home.shell("sleep 600", jobname="once")
    again = home.shell("sleep 600", jobname="again", restartable=True)

    with working(home) as one:
        home.wait_for(job, RUNNING)
        home.wait_for(again, RUNNING)
        one.press_ctrl_c()
        # Two signals of one kind that come together are one.
        wait_until(lambda: cards.read(home.spool, NODE).state == cards.DRAINING, 20, on_timeout=home.story)
        one.press_ctrl_c()
        code, out, err = one.end()

    assert (home.state(job), home.state(again)) == (CANCELED, WAITING)
    assert home.record(again).attempt == 2
    assert code == 128 + signal.SIGINT
    assert f'job {again} "again" waits to be run again' in out.splitlines()
    assert err.splitlines()[2:] == [f"rq: stops its jobs; canceled: {job}; wait again: {again}"]


def test_who_ends_it_ends_no_job_and_the_next_takes_over(home: SpoolHome) -> None:
    """As a daemon that begins on the node does. What runs counts on, and its end is recorded."""
    job = home.shell("while ! test -e go; do sleep 0.05; done", output="out")

    with working(home) as one:
        home.wait_for(job, RUNNING)
        home.daemon()
        code, _, err = one.end()

    assert code == 128 + signal.SIGTERM
    assert err == (
        f"rq: leaves; 1 job goes on: {job}\nhint: rq wait waits for them; rq daemon looks after them\n"
    )
    assert home.state(job) == RUNNING
    (home.home / "go").touch()
    assert home.wait_for(job).exit_code == 0


def test_a_worker_that_is_killed_harms_no_job(home: SpoolHome) -> None:
    """The next worker leaves it alone, and does not wait for it."""
    job = home.shell("while ! test -e go; do sleep 0.05; done", output="out")
    with working(home) as one:
        home.wait_for(job, RUNNING)
        one.process.kill()

    home.submit("true")
    with working(home) as two:
        code, out, _ = two.end()

    assert code == 0
    assert out.splitlines()[-1] == f"worker on {NODE} leaves: 1 job ended"
    assert home.state(job) == RUNNING
    (home.home / "go").touch()
    assert home.wait_for(job).attempt == 1


def test_nobody_who_reads_it_stops_no_work(home: SpoolHome) -> None:
    """As with `rq worker | head -1`."""
    jobs = [home.submit("true") for _ in range(3)]

    with working(home, "-x", "1") as one:
        assert one.process.stdout is not None
        one.process.stdout.close()
        assert one.process.wait(30) == 0

    assert {home.state(job) for job in jobs} == {COMPLETED}


@pytest.mark.usefixtures("_own_stderr")
def test_a_home_that_cannot_be_listed_ends_no_worker(
    home: SpoolHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What became of a job whose supervisor is another's by now is told when it can be seen."""
    told: list[workers.Event] = []
    lock = NodeLock(home.spool.path)
    assert lock.acquire()
    try:
        one = workers.Worker(home.spool, lock, home.environ, intake([]), told.append, stays=False)
        job = home.submit("true")
        os.rename(spools.path_of(home.spool, home.entry(job)), f"{home.spool.path}/completed/{job}.job")
        one.jobs[job] = workers._Mine("fit", 1, "", 0.0, False)

        def refused(*_: object) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        with monkeypatch.context() as patch:
            patch.setattr(workers, "locate", refused)
            one.after_round(5.0)
        assert (list(one.jobs), told, one.is_leaving) == ([job], [], False)
        one.after_round(6.0)
        assert (list(one.jobs), [type(event) for event in told]) == ([], [workers.Ended])
    finally:
        lock.release()


def test_in_the_background_of_a_script_it_ignores_ctrl_c(home: SpoolHome) -> None:
    """As every program that was started with SIGINT ignored; SIGTERM ends it."""
    with working(home, "--stay", ignores=(signal.SIGINT,)) as one:
        wait_until(lambda: home.card_pid() == one.process.pid, 20, on_timeout=home.story)
        one.press_ctrl_c()
        home.wait_for(home.submit("true"))
        one.process.terminate()
        code, out, err = one.end()

    assert (code, err) == (128 + signal.SIGTERM, "")
    assert out.splitlines()[-1] == f"worker on {NODE} leaves: 1 job ended"


# ---------------------------------------------------------------- what it knows of the others


def test_what_it_does_not_take_is_not_on_its_card_and_stays_as_it_is(home: SpoolHome) -> None:
    """Neither claimed nor promised; its environment is kept, and the round is read to its end."""
    digest = environments.store(home.spool, {"A": "1"}, NODE)
    home.submit("true", environment=digest)
    taken = home.submit("true", set="fit", cores=4, memory_required=1 << 60)
    one = round_of(home, intake([], of_set="fit"))

    one.run(100.0)

    assert [entry.id for shapes in one.waiting.shapes.values() for entry in (w.entry for w in shapes)] == [
        taken
    ]
    assert one.waiting.environments() == {digest}
    assert len(one.waiting._passed) == 1
    card = cards.read(home.spool, NODE)
    assert (card.waiting, card.worker, len(card.said)) == (1, "jobs of set fit", 1)
    assert commons.public(card, shows_names=True).worker == ""


@pytest.mark.parametrize(("of_set", "taken"), [("fit", 3 * ALIKE_LEAST), ("other", 0)])
def test_of_a_large_array_a_few_tasks_tell_whether_it_is_taken(
    home: SpoolHome, monkeypatch: pytest.MonkeyPatch, of_set: str, taken: int
) -> None:
    """A hundred thousand files are not read to be left alone."""
    count = 3 * ALIKE_LEAST
    job = Job(("true",), array=Array("", 0, 0, count - 1, 1, count), submitted_ns=1, set="fit")
    spools.submit_array(home.spool, job, [[Task(index, ("true",))] for index in range(count)], NODE)
    read: list[str] = []
    real = spools.read

    def counted(spool: Spool, entry: Entry) -> Record:
        read.append(entry.id)
        return real(spool, entry)

    monkeypatch.setattr(spools, "read", counted)
    one = WaitingList(home.spool, LOG, intake([], of_set=of_set))

    one.look(100.0, 15.0)

    assert len(one) == taken
    assert len(one) + len(one._passed) == count
    assert len(read) < ALIKE_LEAST


def test_a_job_that_is_changed_is_judged_anew(home: SpoolHome) -> None:
    """And one that moved on is forgotten."""
    home.submit("true")
    one = WaitingList(home.spool, LOG, intake([], of_set="fit"))
    one.look(100.0, 15.0)
    assert len(one) == 0
    (entry,) = spools.scan(home.spool, (WAITING,))
    record = spools.read(home.spool, entry)
    new = Path(home.spool.path) / "tmp" / "new"
    new.write_bytes(formats.dump(replace(record, job=replace(record.job, set="fit"))))
    new.rename(spools.path_of(home.spool, entry))
    one.look(200.0, 15.0)
    assert (len(one), one._passed) == (1, {})


def test_what_an_expression_says_of_time_is_asked_again(home: SpoolHome) -> None:
    home.submit("true", submitted_ns=1)
    one = WaitingList(home.spool, LOG, intake(["age<1s"]))
    one.look(100.0, 15.0)
    assert len(one._passed) == 1
    one._intake = intake(["age>1s"])
    one.look(100.0 + PASSED_S - 1, 15.0)
    assert len(one) == 0
    one.look(100.0 + PASSED_S, 15.0)
    assert len(one) == 1


def test_nothing_is_kept_or_left_for_it_elsewhere_and_why_tells_what_it_takes(home: SpoolHome) -> None:
    """Its cores count all the same."""
    job = home.submit("true")
    worker = Card("ann", "n2", 1, 8, 8, 0, version="1", beat=1, cores=8, worker="jobs of set fit")
    one = round_of(home, intake([]))
    for card, nodes in ((worker, {NODE}), (replace(worker, worker=""), {NODE, "n2"})):
        one.seen = [Seen(home.spool, card, True, 0.0)]
        scene = one._scene(100.0, [])
        assert {offer.node for offer in survey.offers(scene)} == nodes
        assert survey.cluster(scene)[0] == 12
    told = Seen(home.spool, worker, True, 0.0)
    waiting = home.record(job).job
    assert reasons.said(job, waiting, told) == "a worker runs there, which takes jobs of set fit"
