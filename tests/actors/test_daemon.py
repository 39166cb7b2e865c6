"""Real daemons on this machine: start, share, survive, recover, take over."""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from roundq.actors import daemon as daemons
from roundq.actors.round import Round
from roundq.actors.tenants import Tenants
from roundq.records import cards
from roundq.records import spool as spools
from roundq.records.cards import Card
from roundq.records.spool import Spool
from roundq.words import titles
from roundq.words.errors import DaemonRunning
from roundq.words.job import Identity
from roundq.words.states import CANCELED, CLAIMED, COMPLETED, FAILED, RUNNING, STATES, WAITING, ZOMBIE
from roundq.world import procs
from roundq.world.config import Config
from roundq.world.node import Node
from roundq.world.nodelock import NodeLock
from tests.actors.spoolhome import DAEMON, NODE, SpoolHome
from tests.cluster import checkers
from tests.cluster.wait import wait_until
from tests.records.crowd import born

#: Says when it runs, on which cores, until a file says that it may end.
HOLD = "echo begun >> {0}.began; while [ ! -e {0}.go ]; do sleep 0.02; done; echo ended >> {0}.ended"


@pytest.fixture
def users(tmp_path: Path) -> Iterator[Callable[..., list[SpoolHome]]]:
    """Makes homes of several users below one parent."""
    made: list[SpoolHome] = []

    def make(*names: str) -> list[SpoolHome]:
        made.extend(SpoolHome(tmp_path / "homes", name) for name in names)
        return made

    yield make
    for home in made:
        home.stop()


def hold(home: SpoolHome, label: str, **fields: object) -> str:
    """Submits a job that runs until `label`.go is there."""
    return home.shell(HOLD.format(label), output=f"{label}.out", **fields)


def go(home: SpoolHome, label: str) -> None:
    (home.home / f"{label}.go").touch()


def begun(home: SpoolHome, label: str) -> int:
    """How often a job began, by its own account."""
    return home.output(f"{label}.began").count("begun")


def wait_begun(home: SpoolHome, label: str) -> None:
    wait_until(lambda: begun(home, label), 20, on_timeout=home.story)


def settle(home: SpoolHome) -> None:
    """Waits until the daemon has played a round that began after this call and changed nothing more."""
    for _ in range(2):
        marker = home.shell("true", cores=100_000)
        wait_until(lambda: _knows_marker(home), 20, on_timeout=home.story)
        (entry,) = [e for e in spools.scan(home.spool, (WAITING,)) if e.id == marker]
        assert spools.cancel(home.spool, entry, time.time_ns(), NODE)


def _knows_marker(home: SpoolHome) -> bool:
    card = cards.read(home.spool, NODE)
    return any(said.shape.cores == 100_000 for said in card.said) and card.waiting > 0


# ---------------------------------------------------------------- it runs jobs


def test_a_daemon_runs_what_waits_and_what_comes(home: SpoolHome) -> None:
    """Also a file that a program drops, with nothing but a command."""
    before = home.shell("exit 0")
    home.daemon()
    after = home.shell("exit 4")
    dropped = Path(home.spool.path, "tmp", "x")
    dropped.write_text(json.dumps({"job": {"command": ["/bin/sh", "-c", "pwd"]}}))
    dropped.rename(Path(home.spool.path, "waiting", "my own.job"))

    assert home.wait_for(before).exit_code == 0
    assert home.wait_for(after).exit_code == 4
    assert home.wait_for("my own").exit_code == 0
    assert (home.state(before), home.state(after)) == (COMPLETED, FAILED)
    assert str(home.home) in home.output("rq-my own.out"), "it ran in the home"


def test_a_node_is_never_given_more_cores_than_it_offers(home: SpoolHome) -> None:
    """Three of two cores were seen in use with 0.2.9."""
    jobs = [hold(home, f"j{i}") for i in range(4)]
    home.daemon(RQ_CORES="2")
    wait_begun(home, "j0")
    wait_begun(home, "j1")

    settle(home)

    assert [begun(home, f"j{i}") for i in range(4)] == [1, 1, 0, 0]
    go(home, "j0")
    home.wait_for(jobs[0])
    wait_begun(home, "j2")
    settle(home)
    assert begun(home, "j3") == 0


def test_a_job_of_all_cores_has_the_node_alone(home: SpoolHome) -> None:
    """It waits for the others to end, and they for it; it is granted the number of cores."""
    small = hold(home, "small")
    home.daemon(RQ_CORES="3")
    wait_begun(home, "small")
    whole = hold(home, "whole", cores=0)
    settle(home)
    assert begun(home, "whole") == 0

    go(home, "small")
    home.wait_for(small)
    wait_begun(home, "whole")
    late = hold(home, "late")
    settle(home)

    assert begun(home, "late") == 0
    assert home.record(whole).cores == 3
    go(home, "whole")
    go(home, "late")
    home.wait_for(late)


def test_higher_priority_goes_first_then_the_earlier(home: SpoolHome) -> None:
    """Among one user's jobs."""
    order = [("low", -10), ("normal", 0), ("high", 10), ("normal2", 0)]
    jobs = [home.shell(f"echo {name} >> order", priority=priority) for name, priority in order]

    home.daemon(RQ_CORES="1")

    for job in jobs:
        home.wait_for(job)
    assert home.output("order").split() == ["high", "normal", "normal2", "low"]


def test_a_job_that_fits_no_node_blocks_nobody_and_is_told_why(home: SpoolHome) -> None:
    """It waits; the policy's sentence is on the card."""
    wide = home.shell("true", cores=1000)
    small = home.shell("true")

    home.daemon(RQ_CORES="2")

    home.wait_for(small)
    assert home.state(wide) == WAITING
    says = [f"can never start here: needs 1000 cores, {NODE} has 2"]
    wait_until(lambda: [said.says for said in cards.read(home.spool, NODE).said] == says, 20)


def test_a_file_that_is_no_job_is_reported_and_kept(home: SpoolHome) -> None:
    """Set aside, never deleted, and in nobody's way; once it is mended it runs."""
    path = Path(home.spool.path, "waiting", "broken.job")
    path.write_text('{"job": {"comm')
    os.mkfifo(Path(home.spool.path, "waiting", "fifo.job"))
    Path(home.spool.path, "waiting", "link.job").symlink_to("/etc/passwd")
    Path(home.spool.path, "waiting", "dir.job").mkdir()
    good = home.shell("true")

    home.daemon()

    home.wait_for(good)
    wait_until(lambda: len(cards.read(home.spool, NODE).trouble) == 4, 20, on_timeout=home.story)
    assert path.exists()
    mended = Path(home.spool.path, "tmp", "mended")
    mended.write_text(json.dumps({"job": {"command": ["true"]}}))
    mended.replace(path)
    home.wait_for("broken")


def test_one_pass_starts_what_may_start_and_returns(home: SpoolHome) -> None:
    """`rq daemon --fg`: the jobs go on under their supervisors."""
    jobs = [hold(home, "a"), hold(home, "b"), hold(home, "c")]
    code = "import os,sys; from roundq.actors import daemon; from roundq.records import spool\n"
    code += "print(daemon.run_once(spool.at(sys.argv[1], 'ann', os.getuid()), os.environ))"

    process = home._start(sys.executable, "-c", code, str(home.home), RQ_CORES="2")

    assert process.wait(20) == 0
    assert [home.state(job) in (CLAIMED, RUNNING) for job in jobs] == [True, True, False]
    for label in "ab":
        go(home, label)
    assert home.wait_for(jobs[0]).exit_code == 0
    assert home.wait_for(jobs[1]).exit_code == 0


def test_one_pass_beside_a_daemon_is_refused(home: SpoolHome) -> None:
    """Two deciders of one user on one node would claim twice."""
    process = home.daemon()

    with pytest.raises(DaemonRunning, match=str(process.pid)):
        daemons.run_once(home.spool, home.environ)


# ---------------------------------------------------------------- requests


def test_cancel_works_in_every_state_before_the_end(home: SpoolHome) -> None:
    """Running: its processes die. Waiting: it never begins. Claimed, unborn: likewise."""
    running = hold(home, "running")
    home.daemon(RQ_CORES="1")
    wait_begun(home, "running")

    spools.request(home.spool, running, "cancel", "elsewhere")

    assert home.wait_for(running).reason == "canceled"
    assert home.state(running) == CANCELED
    assert home.pids(f"RQ_JOB_ID={running}") == []


def test_a_cancel_that_finds_the_job_back_in_waiting_is_honoured(home: SpoolHome) -> None:
    """It was asked while the job was claimed; the claim was withdrawn; the job must not run."""
    job = home.shell("echo ran > ran", cores=50)
    spools.request(home.spool, job, "cancel", "elsewhere")

    home.daemon(RQ_CORES="2")

    assert home.wait_for(job).reason == "canceled"
    assert spools.requests(home.spool) == {}


def test_restart_runs_it_again_from_its_beginning(home: SpoolHome) -> None:
    """As the next attempt."""
    job = hold(home, "again", restartable=True)
    home.daemon()
    wait_begun(home, "again")

    spools.request(home.spool, job, "restart", "elsewhere")
    wait_until(lambda: begun(home, "again") == 2, 20, on_timeout=home.story)
    go(home, "again")

    record = home.wait_for(job)
    assert (record.attempt, record.exit_code) == (2, 0)
    assert [attempt.reason for attempt in record.attempts] == ["restarted"]


# ---------------------------------------------------------------- it is expendable


def test_a_killed_daemon_harms_no_job(home: SpoolHome) -> None:
    """Jobs go on, their ends are recorded without it, and the next daemon goes on with the rest."""
    first = home.daemon(RQ_CORES="1")
    running, waiting = hold(home, "one"), hold(home, "two")
    wait_begun(home, "one")

    first.kill()
    first.wait()
    go(home, "one")
    assert home.wait_for(running).exit_code == 0, "recorded by its supervisor alone"
    assert home.state(waiting) == WAITING
    home.daemon(RQ_CORES="1")
    go(home, "two")

    assert home.wait_for(waiting).exit_code == 0
    assert (begun(home, "one"), begun(home, "two")) == (1, 1)


def test_a_new_daemon_adopts_what_runs_and_does_not_overbook(home: SpoolHome) -> None:
    """What runs under a supervisor of an earlier daemon has its cores still."""
    home.daemon(RQ_CORES="1").kill()
    old = home.daemon(RQ_CORES="1")
    job = hold(home, "old")
    wait_begun(home, "old")
    old.kill()
    old.wait()
    late = hold(home, "late")

    home.daemon(RQ_CORES="1")
    settle(home)

    assert begun(home, "late") == 0
    go(home, "old")
    go(home, "late")
    assert home.wait_for(job).exit_code == 0
    assert home.wait_for(late).exit_code == 0


def test_a_new_daemon_takes_over_from_an_old_one(home: SpoolHome) -> None:
    """The old one leaves; what runs goes on; one daemon is left."""
    old = home.daemon()
    job = hold(home, "job")
    wait_begun(home, "job")

    new = home.daemon()

    assert old.wait(20) == 0
    assert home.daemon_pid() == new.pid
    go(home, "job")
    assert home.wait_for(job).exit_code == 0
    assert begun(home, "job") == 1


def test_a_daemon_that_hangs_is_replaced_too(home: SpoolHome, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped, it does not hear TERM: it is killed, as its jobs have supervisors of their own."""
    monkeypatch.setattr(daemons, "TAKEOVER_S", 0.2)
    old = home.daemon()
    os.kill(old.pid, signal.SIGSTOP)
    lock = NodeLock(home.spool.path)

    assert daemons._take_over(lock)

    lock.release()
    assert old.wait(20) == -signal.SIGKILL


def test_stopping_the_daemon_harms_no_job(home: SpoolHome) -> None:
    """`rq daemon --stop`: it leaves, what runs goes on; without one nothing happens."""
    process = home.daemon()
    job = hold(home, "job")
    wait_begun(home, "job")

    left = daemons.stop(home.spool)

    assert left is not None
    assert left.pid == process.pid
    assert process.wait(20) == 0
    assert daemons.stop(home.spool) is None
    go(home, "job")
    assert home.wait_for(job).exit_code == 0


def test_a_supervisor_does_not_look_like_a_daemon(home: SpoolHome) -> None:
    """Whoever ends daemons by their command line must not end jobs."""
    home.daemon()
    job = hold(home, "job")
    wait_begun(home, "job")

    pid = home.record(job).pid
    line = Path(f"/proc/{pid}/cmdline").read_bytes()

    title = titles.parse(line.rstrip(b"\0").decode())
    assert title is not None
    assert (title.id, title.cores) == (job, 1)
    assert b"rq daemon" not in line
    assert Path(f"/proc/{pid}/comm").read_text() == "rq-supervisor\n"
    go(home, "job")


def test_daemons_started_at_once_leave_one(home: SpoolHome) -> None:
    """Each takes over from the one before; no job is claimed twice."""
    jobs = [home.shell(f"echo x >> count{i}") for i in range(20)]
    started = [home._start(sys.executable, "-c", DAEMON, "daemon", str(home.home)) for _ in range(4)]

    for job in jobs:
        home.wait_for(job)

    wait_until(lambda: sum(process.poll() is None for process in started) == 1, 30, on_timeout=home.story)
    assert [home.output(f"count{i}") for i in range(20)] == ["x\n"] * 20


def test_a_leaving_daemon_says_so_on_its_card(home: SpoolHome) -> None:
    """Its jobs still count; it takes no turn."""
    process = home.daemon()
    job = hold(home, "job")
    wait_begun(home, "job")

    process.terminate()

    assert process.wait(20) == 0
    card = cards.read(home.spool, NODE)
    assert card.state == cards.LEAVING
    assert [one.id for one in card.jobs] == [job]


# ---------------------------------------------------------------- recovery


def test_a_job_that_lost_its_supervisor_is_lost_not_failed(home: SpoolHome) -> None:
    """Nobody knows how it ended; what it left behind is killed first."""
    home.daemon()
    job = home.shell("setsid sleep 300 & echo begun >> j.began; sleep 301")
    wait_begun(home, "j")

    os.kill(home.record(job).pid, signal.SIGKILL)

    record = home.wait_for(job)
    assert (home.state(job), record.reason, record.exit_code, record.signal) == (ZOMBIE, "lost", None, None)
    assert home.pids(f"RQ_JOB_ID={job}") == []


def test_a_process_in_the_middle_of_an_exec_is_not_overlooked(
    home: SpoolHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It shows no environment for a moment: one look that finds nothing proves nothing."""
    job = home.shell("true")
    running = spools.begin(home.spool, born(home.spool, home.claim(job)), NODE)
    assert running is not None
    # A process of this boot that is no more: no pid is this large.
    gone = Identity(procs.boot_id(), (1 << 30) - 1, 1)
    spools.rewrite(
        home.spool, running, replace(home.record(job), process=gone, started_ns=1, node=NODE), NODE
    )
    left = home._start("/bin/sleep", "300")
    identity = procs.identity(left.pid)
    assert identity is not None
    hidden: list[list[Identity]] = [[identity]] * 3

    def unreadable(*_: object) -> list[Identity]:
        return hidden.pop() if hidden else []

    def bearers(marks: list[str], **_: object) -> dict[str, list[Identity]]:
        return {mark: [identity] if not hidden and left.poll() is None else [] for mark in marks}

    monkeypatch.setattr(procs, "unreadable", unreadable)
    monkeypatch.setattr(procs, "bearers", bearers)
    tenants = Tenants(home.spool, NODE, logging.getLogger("test"))
    tenants.look()

    def is_buried() -> bool:
        tenants.recover()
        return home.state(job) == ZOMBIE

    wait_until(is_buried, 20, on_timeout=home.story)

    assert left.poll() is not None


def test_a_restartable_job_that_lost_its_supervisor_runs_again(home: SpoolHome) -> None:
    """As the next attempt, after the death of the first is verified."""
    home.daemon()
    job = hold(home, "job", restartable=True)
    wait_begun(home, "job")

    os.kill(home.record(job).pid, signal.SIGKILL)
    wait_until(lambda: begun(home, "job") == 2, 20, on_timeout=home.story)
    go(home, "job")

    record = home.wait_for(job)
    assert (record.exit_code, record.attempt, record.attempts[0].reason) == (0, 2, "lost")


def test_supervisor_and_daemon_killed_together_are_recovered_at_the_next_start(home: SpoolHome) -> None:
    """As after a crash of the node, but for the boot id."""
    process = home.daemon()
    job = hold(home, "job")
    wait_begun(home, "job")
    process.kill()
    os.kill(home.record(job).pid, signal.SIGKILL)
    process.wait()

    home.daemon()

    assert home.wait_for(job).reason == "lost"


def test_a_claim_that_was_never_begun_goes_back(home: SpoolHome) -> None:
    """Its daemon died between claim and birth: the job runs, as the same attempt."""
    job = home.shell("echo x >> count")
    home.claim(job)

    home.daemon()

    assert home.wait_for(job).attempt == 1
    assert home.output("count") == "x\n"


def test_an_end_that_was_written_but_not_moved_is_moved(home: SpoolHome) -> None:
    """Its supervisor died between the facts and the move: the outcome is true all the same."""
    process = home.daemon()
    job = hold(home, "job")
    wait_begun(home, "job")
    process.kill()
    process.wait()
    entry, record = home.entry(job), home.record(job)
    os.kill(record.pid, signal.SIGKILL)
    facts = replace(record, completed_ns=time.time_ns(), exit_code=9, reason="exit")
    spools.rewrite(home.spool, entry, facts, NODE)

    home.daemon()

    assert home.wait_for(job).exit_code == 9
    assert home.state(job) == FAILED


def test_records_of_other_nodes_are_left_alone(home: SpoolHome) -> None:
    """A node judges only its own processes."""
    job = home.shell("true")
    (entry,) = spools.scan(home.spool, (WAITING,))
    claimed = spools.claim(home.spool, entry, "othernode")
    assert claimed is not None
    assert spools.begin(home.spool, born(home.spool, claimed), "othernode")

    home.daemon()
    settle(home)

    assert home.entry(job).file == f"{job}@othernode.job"


# ---------------------------------------------------------------- several users


def test_users_share_the_cores_of_a_node(users: Callable[..., list[SpoolHome]]) -> None:
    """The one with fewer running cores goes next: a newcomer does not wait for a long queue."""
    ann, bob = users("ann", "bob")
    anns = [hold(ann, f"a{i}") for i in range(6)]
    ann.daemon(RQ_CORES="2")
    wait_begun(ann, "a0")
    wait_begun(ann, "a1")
    hold(bob, "b0")
    bob.daemon(RQ_CORES="2")
    settle(bob)
    assert begun(bob, "b0") == 0

    go(ann, "a0")
    wait_begun(bob, "b0")
    settle(ann)

    assert [begun(ann, f"a{i}") for i in range(6)] == [1, 1, 0, 0, 0, 0]
    assert ann.state(anns[2]) == WAITING


def test_a_user_without_a_daemon_here_is_not_waited_for(users: Callable[..., list[SpoolHome]]) -> None:
    """Eligibility first, fairness second."""
    ann, bob = users("ann", "bob")
    hold(bob, "b0")
    hold(ann, "a0")

    ann.daemon(RQ_CORES="1")

    wait_begun(ann, "a0")
    assert begun(bob, "b0") == 0


@pytest.mark.parametrize("cores", [1, 3])
def test_daemons_that_decide_at_once_never_overbook(
    users: Callable[..., list[SpoolHome]], tmp_path: Path, cores: int
) -> None:
    """Four users, sixty short jobs, every core counted by the jobs themselves."""
    homes = users("ann", "bob", "cyd", "dan")
    ledger = tmp_path / "ledger"
    ledger.mkdir()
    script = (
        f'a=$(cut -d" " -f1 /proc/uptime); sleep 0.05; b=$(cut -d" " -f1 /proc/uptime); '
        f"echo $a $b > {ledger}/$RQ_USER.$RQ_JOB_ID"
    )
    jobs = [(home, home.shell(script)) for _ in range(15) for home in homes]

    for home in homes:
        home._start(sys.executable, "-c", DAEMON, "daemon", str(home.home), RQ_CORES=str(cores))

    for home, job in jobs:
        home.wait_for(job, timeout=60)
    marks = []
    for path in ledger.iterdir():
        start, end = map(float, path.read_text().split())
        marks += [(start, 1), (end, -1)]
    # At one reading of the clock, which counts hundredths, ends come before starts.
    running, most = 0, 0
    for _, change in sorted(marks):
        running += change
        most = max(most, running)
    assert len(marks) == 2 * len(jobs)
    assert most <= cores
    assert checkers.one_state(str(tmp_path / "homes")) == []
    assert checkers.true_outcomes(str(tmp_path / "homes")) == []


def test_running_jobs_of_a_0_2_9_neighbour_take_their_cores(users: Callable[..., list[SpoolHome]]) -> None:
    """Its five fields and its job files are all there is to go by."""
    ann, old = users("ann", "old")
    legacy = {
        "job": {
            "home_dir": str(old.home), "directory": "/", "command": ["sleep"], "jobname": "s", "output": "o",
            "submitted": {"secs": 1, "nanos": 0}, "cores": 1, "memory_required": 0, "max_output": 1048576,
            "restartable": False,
        },
        "started": {"secs": 1, "nanos": 0}, "node": NODE, "pid": os.getpid(),
        "completed": {"secs": 0, "nanos": 0}, "exit_code": None,
    }  # fmt: skip
    running = Path(old.spool.path, "running", "1.0.job")
    running.write_text(json.dumps(legacy))
    card = {"hostname": NODE, "pid": os.getpid(), "physical_cores": 1, "logical_cpus": 1}
    Path(old.spool.path, NODE).write_text(json.dumps(card))
    hold(ann, "a")
    ann.daemon(RQ_CORES="1")
    settle(ann)
    assert begun(ann, "a") == 0

    running.rename(Path(old.spool.path, "completed", "1.0.job"))

    wait_begun(ann, "a")


def test_looking_changes_nothing(home: SpoolHome) -> None:
    """G8: a scan of everything leaves every directory as it was."""
    home.shell("true")
    before = {state: os.stat(home.spool.directory(state)).st_mtime_ns for state in STATES}

    for entry in spools.scan(home.spool):
        spools.read(home.spool, entry)

    assert before == {state: os.stat(home.spool.directory(state)).st_mtime_ns for state in STATES}


# ---------------------------------------------------------------- the service manager

#: systemd-python, as far as the daemon needs it.
STUB = """
import os, socket
def notify(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.sendto(text.encode(), os.environ["NOTIFY_SOCKET"])
"""


def test_a_daemon_whose_rounds_fail_lives_for_the_watchdog(home: SpoolHome, tmp_path: Path) -> None:
    """A full quota, or a server that is away, is told, and no reason to be killed and begun anew."""
    package = tmp_path / "stub" / "systemd"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "daemon.py").write_text(STUB)
    python_path = f"{package.parent}:{home.environ['PYTHONPATH']}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(20)
        manager.bind(str(tmp_path / "socket"))
        home.daemon(NOTIFY_SOCKET=str(tmp_path / "socket"), WATCHDOG_USEC="3000000", PYTHONPATH=python_path)
        # No card can be published any more.
        card = Path(home.spool.path) / NODE
        card.unlink()
        card.mkdir()
        home.submit("true", cores=1000)

        def hear_of_failure() -> bool:
            return "STATUS=a round failed" in manager.recv(4096).decode()

        wait_until(hear_of_failure, 20, on_timeout=home.story)
        again = manager.recv(4096).decode().splitlines()

    assert again[0] == "WATCHDOG=1"
    assert again[1].startswith("STATUS=a round failed: ")


# ---------------------------------------------------------------- a card that cannot be written


def test_a_claim_that_is_on_no_card_is_not_kept(home: SpoolHome, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neighbours cannot have seen it, so it is published again before it is looked whether it may stay."""
    job = home.submit("true")
    config = Config((str(home.home.parent),))
    one = Round(home.spool, Node(home.environ), lambda: (config, None), logging.getLogger("test"), 1)
    written: list[Card] = []

    def publish(_: Spool, card: Card) -> None:
        written.append(card)
        raise OSError(errno.EDQUOT, "no room")

    monkeypatch.setattr(cards, "publish", publish)
    for _ in range(3):
        with pytest.raises(OSError, match="no room"):
            one.run(time.monotonic())

    assert [[claimed.id for claimed in card.jobs] for card in written] == [[job]] * 3
    assert home.state(job) == CLAIMED
