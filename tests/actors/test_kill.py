"""Canceled means dead: whatever a job does to hide, nothing with its mark lives once it is canceled.

Each with a control group of the job's own, where that is delegated, and without.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from roundq.actors import burial, environ, queue
from roundq.actors.listing import Row
from roundq.actors.tenants import Tenants
from roundq.records import spool as spools
from roundq.words.states import CANCELED, CLAIMED, COMPLETED, HELD, RUNNING, WAITING, ZOMBIE
from roundq.world import procs
from tests import delegation
from tests.actors.spoolhome import NODE, SpoolHome
from tests.cluster.wait import wait_until

#: Long enough for every test, and nobody waits for it.
LONG_S = 300
BEGIN = f"""
import ctypes, os, signal, subprocess, sys, threading, time
def ready():
    open("ready", "w").close()
def sleep():
    while True:
        time.sleep({LONG_S})
"""
#: What a job does to be found by nobody, or not to end.
TRICKS = {
    "ignores TERM": """
signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.signal(signal.SIGHUP, signal.SIG_IGN)
ready(); sleep()
""",
    "forks twice": """
if os.fork() == 0:
    if os.fork() == 0:
        ready(); sleep()
    os._exit(0)
os.wait(); sleep()
""",
    "leads another session": """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN); ready()
    sleep()
sleep()
""",
    "is in another group": """
if os.fork() == 0:
    os.setpgid(0, 0); ready(); sleep()
sleep()
""",
    "forgets its environment": """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execve("/bin/sh", ["sh", "-c", "touch ready; exec sleep 300"], {})
    os._exit(0)
sleep()
""",
    "is stopped": """
if os.fork() == 0:
    os.kill(os.getpid(), signal.SIGSTOP)
    sleep()
ready(); os.kill(os.getpid(), signal.SIGSTOP); sleep()
""",
    "traces its own": """
PTRACE_TRACEME, PTRACE_CONT = 0, 7
trace = ctypes.CDLL(None).ptrace
child = os.fork()
if child == 0:
    trace(PTRACE_TRACEME, 0, 0, 0); os.kill(os.getpid(), signal.SIGSTOP); sleep()
os.waitpid(child, os.WUNTRACED)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
ready(); sleep()
""",
    "forks and ends faster than one can count": """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
end = time.monotonic() + 60
for _ in range(6):
    if os.fork() == 0:
        os.setsid()
        # Bounded: if the test itself is killed, nobody else would ever catch it.
        while time.monotonic() < end:
            if os.fork():
                os._exit(0)
        os._exit(0)
ready(); sleep()
""",
    "fills the process table": """
import resource
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for _ in range(7):
    os.fork()
if os.getppid() != os.getpid():
    try:
        os.close(os.open("ready", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        pass
sleep()
""",
    "is between vfork and exec": """
os.mkfifo("never")
if os.fork() == 0:
    ready()
    # The child of this vfork opens a FIFO before its exec, with all signals blocked; the parent cannot run.
    fifo = (os.POSIX_SPAWN_OPEN, 0, "never", os.O_RDONLY, 0)
    os.posix_spawn("/bin/true", ["true"], {}, file_actions=[fifo])
sleep()
""",
    "forks from many threads": """
stop = time.monotonic() + 20
def fork():
    while time.monotonic() < stop:
        subprocess.Popen(["/bin/sleep", "300"], start_new_session=True); time.sleep(0.01)
for _ in range(4):
    threading.Thread(target=fork).start()
signal.signal(signal.SIGTERM, lambda *_: None)
ready(); sleep()
""",
}


@pytest.fixture(params=["in a group", "without a group"])
def group(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """The delegated control group in which supervisors begin, or None."""
    if request.param == "without a group":
        yield None
        return
    with delegation.group(says_so=True, owner=os.geteuid()) as path:
        yield path


def supervise(home: SpoolHome, job: str, group: str | None, grace_s: float = 0.3) -> subprocess.Popen[bytes]:
    """Runs the supervisor of a waiting job, in the group."""
    home.claim(job)
    words = [sys.executable, "-m", "roundq.actors.supervisor", home.spool.path, job]
    if group is not None:
        words = ["/bin/sh", "-c", f'echo 0 >{group}/cgroup.procs && exec "$@"', "sh", *words]
    return home._start(*words, RQ_GRACE=str(grace_s))


def bearers(home: SpoolHome, job: str) -> list[int]:
    """Everything of a running job: who bears its mark."""
    process = home.record(job).process
    assert process is not None
    return home.pids(f"RQ_MARK={environ.mark(process)}")


def cancel(home: SpoolHome, job: str) -> str:
    """What `rq cancel` does; the answer."""
    entry = home.entry(job)
    row = Row(home.spool, entry, spools.read(home.spool, entry), "", is_mine=True)
    return queue.cancel(home.spool, row, NODE, time.time_ns())


def below(group: str | None) -> list[str]:
    """The groups of jobs that are there."""
    return [] if group is None else [name for name in os.listdir(group) if name.startswith("roundq-")]


# ---------------------------------------------------------------- what jobs do


@pytest.mark.parametrize("trick", TRICKS)
def test_after_canceled_nothing_lives(home: SpoolHome, group: str | None, trick: str) -> None:
    """Whatever the job did, and its group is gone with it."""
    job = home.submit(sys.executable, "-c", BEGIN + TRICKS[trick])
    supervisor = supervise(home, job, group)
    wait_until((home.home / "ready").exists, 20, on_timeout=home.story)
    assert len(below(group)) == (group is not None)
    record = home.record(job)
    assert record.process is not None
    mark = f"RQ_MARK={environ.mark(record.process)}"
    below_it = [one.pid for one in procs.descendants(record.process)]
    assert below_it

    cancel(home, job)
    home.wait_for(job, CANCELED, timeout=60)

    assert home.pids(mark) == []
    assert [pid for pid in below_it if _lives(pid)] == []
    assert below(group) == []
    assert supervisor.wait(20) == 0


def _lives(pid: int) -> bool:
    found = procs.table().get(pid)
    return found is not None and not found.dead


def test_what_was_handed_to_a_service_of_the_user_dies_too(home: SpoolHome, group: str | None) -> None:
    """As at(1) does it: nobody of the job is its parent, but it was given the job's environment."""
    job = home.shell("env >env; touch ready; sleep 300")
    supervise(home, job, group)
    wait_until((home.home / "ready").exists, 20, on_timeout=home.story)
    marks = [line for line in home.output("env").splitlines() if line.startswith("RQ_MARK=")]
    given = dict(line.split("=", 1) for line in marks)
    served = subprocess.Popen(["/bin/sleep", "300"], env=given, start_new_session=True)

    cancel(home, job)

    # Its parent is this process, which has to reap it.
    assert served.wait(20) == -signal.SIGTERM
    home.wait_for(job, CANCELED)


def test_what_a_debugger_holds_is_dead_all_the_same(home: SpoolHome, group: str | None) -> None:
    """A tracer outside of the job that does not wait for it keeps a zombie, which nobody else can reap."""
    job = home.shell("touch ready; while :; do sleep 300; done")
    supervise(home, job, group)
    wait_until((home.home / "ready").exists, 20, on_timeout=home.story)
    record = home.record(job)
    assert record.process is not None
    (command,) = (one.pid for one in procs.table().values() if one.parent == record.process.pid)
    attach = f"""
import ctypes, time
PTRACE_SEIZE = 0x4206
libc = ctypes.CDLL(None, use_errno=True)
print(libc.ptrace(PTRACE_SEIZE, {command}, 0, 0), flush=True)
time.sleep(300)
"""
    tracer = subprocess.Popen([sys.executable, "-c", attach], stdout=subprocess.PIPE)
    try:
        assert tracer.stdout is not None
        if tracer.stdout.readline() != b"0\n":
            pytest.skip("needs the right to trace one's own processes (kernel.yama.ptrace_scope)")

        cancel(home, job)
        home.wait_for(job, CANCELED, timeout=60)

        assert not _lives(command)
        assert procs.table()[command].dead
    finally:
        tracer.kill()
        tracer.wait()


def test_every_process_hears_term_before_it_is_killed(home: SpoolHome, group: str | None) -> None:
    """Also one that is forked by a thread in the moment of the stop: all stand still before TERM is sent.

    Who forks ends at TERM at once, so that whoever was born was born before it.
    """
    code = (
        BEGIN
        + """
def tell(*_):
    open(f"heard-{os.getpid()}", "w").close(); os._exit(0)
def fork():
    while len(os.listdir(".")) < 60:
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, tell)
            open(f"born-{os.getpid()}", "w").close()
            while True:
                time.sleep(300)
threads = [threading.Thread(target=fork) for _ in range(3)]
for thread in threads:
    thread.start()
ready()
for thread in threads:
    thread.join()
sleep()
"""
    )
    (home.home / "here").mkdir()
    job = home.submit(sys.executable, "-c", code, directory=str(home.home / "here"))
    supervise(home, job, group, grace_s=20)
    wait_until((home.home / "here/ready").exists, 20, on_timeout=home.story)

    cancel(home, job)
    home.wait_for(job, CANCELED, timeout=60)

    names = {path.name for path in (home.home / "here").iterdir()}
    deaf = {name for name in names if name.startswith("born-") and f"heard-{name[5:]}" not in names}
    assert deaf == set()


def test_what_a_command_leaves_in_its_group_ends_with_it(home: SpoolHome, group: str | None) -> None:
    """What a command that ended by itself leaves behind does not stay, nor does its group."""
    job = home.shell("trap '' TERM; setsid sleep 300 & env -i sleep 300 & exit 4")

    assert supervise(home, job, group).wait(20) == 0

    assert home.record(job).exit_code == 4
    assert below(group) == []
    assert "2 of its processes did not" in home.output(f"rq-{job}.out")


def test_no_command_leaves_no_group(home: SpoolHome) -> None:
    """It was made before it was known that there is nothing to execute."""
    with delegation.group(says_so=True) as path:
        job = home.submit("./gone")

        assert supervise(home, job, path).wait(20) == 0

        assert home.record(job).reason == "no command"
        assert below(path) == []


def test_a_killed_supervisor_leaves_nothing(
    home: SpoolHome, group: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon of the node kills what it led, in its control group too, and removes that."""
    monkeypatch.setattr(burial, "GRACE_S", 0.3)
    script = "trap '' TERM; setsid env -i sh -c 'trap \"\" TERM; sleep 300' & touch ready; sleep 300"
    job = home.shell(script)
    supervisor = supervise(home, job, group)
    wait_until((home.home / "ready").exists, 20, on_timeout=home.story)
    record = home.record(job)
    assert record.process is not None
    mark = f"RQ_MARK={environ.mark(record.process)}"
    assert len(below(group)) == (group is not None)

    os.kill(record.process.pid, signal.SIGKILL)
    supervisor.wait()
    tenants = Tenants(home.spool, NODE, logging.getLogger("test"))
    tenants.look()

    def is_over() -> bool:
        tenants.recover()
        return home.state(job) == ZOMBIE

    wait_until(is_over, 60, on_timeout=home.story)
    assert home.record(job).reason == "lost"
    assert home.pids(mark) == []
    assert below(group) == []


# ---------------------------------------------------------------- whenever it is canceled


@pytest.mark.parametrize("state", [HELD, WAITING])
def test_what_has_not_begun_never_begins(home: SpoolHome, state: str) -> None:
    """Held or waiting, it is canceled by the command itself; twice is once."""
    job = home.shell("touch begun")
    if state == HELD:
        entry = home.entry(job)
        os.rename(spools.path_of(home.spool, entry), f"{home.spool.directory(HELD)}/{entry.file}")

    assert cancel(home, job) == queue.GONE
    assert cancel(home, job) == queue.ENDED

    home.daemon()
    assert home.state(job) == CANCELED
    assert not (home.home / "begun").exists()


def test_what_is_claimed_is_canceled_by_its_daemon(home: SpoolHome) -> None:
    """Also if that daemon died meanwhile: the next one gives the claim back, and honors the request."""
    job = home.shell("touch begun")
    home.claim(job)

    assert cancel(home, job) == queue.ASKED
    assert home.state(job) == CLAIMED
    home.daemon()

    home.wait_for(job, CANCELED)
    assert not (home.home / "begun").exists()
    assert spools.requests(home.spool) == {}


def test_what_is_being_born_dies_at_its_first_look(home: SpoolHome) -> None:
    """The request was there before the supervisor began: its command may begin, and is stopped."""
    job = home.shell("touch begun; sleep 300")
    spools.request(home.spool, job, "cancel", NODE)

    assert supervise(home, job, None).wait(20) == 0

    assert home.state(job) == CANCELED
    assert spools.requests(home.spool) == {}


def test_what_is_ending_is_canceled_or_ended_and_nothing_else(home: SpoolHome) -> None:
    """A cancel that comes while the end is recorded changes nothing of it, and leaves no request."""
    home.daemon()
    jobs = [home.shell(f"sleep 0.{n}; exit 3") for n in range(1, 10)]
    home.wait_for(jobs[0], RUNNING, "failed", CANCELED)

    for job in jobs:
        with contextlib.suppress(FileNotFoundError):
            cancel(home, job)
    for job in jobs:
        record = home.wait_for(job)
        known = {"failed": "exit", CANCELED: "canceled"}
        assert record.reason == known[home.state(job)]
        if record.reason == "exit":
            assert record.exit_code == 3
    wait_until(lambda: spools.requests(home.spool) == {}, 20, on_timeout=home.story)


def test_what_has_ended_stays_as_it_ended(home: SpoolHome) -> None:
    """And no request is left that could meet a later attempt."""
    job = home.shell("exit 0")
    home.run(job)

    assert cancel(home, job) == queue.ENDED
    assert home.state(job) == COMPLETED
    assert spools.requests(home.spool) == {}


def test_asked_twice_and_from_another_node_is_asked_once(home: SpoolHome) -> None:
    """The other node can only leave the request; the daemon here passes it on."""
    home.daemon()
    job = home.shell("touch ready; sleep 300")
    wait_until((home.home / "ready").exists, 20, on_timeout=home.story)
    entry = home.entry(job)
    row = Row(home.spool, entry, spools.read(home.spool, entry), "", is_mine=True)

    assert queue.cancel(home.spool, row, "elsewhere", time.time_ns()) == queue.ASKED
    with contextlib.suppress(FileNotFoundError):
        queue.cancel(home.spool, row, "elsewhere", time.time_ns())

    home.wait_for(job, CANCELED)
    wait_until(lambda: spools.requests(home.spool) == {}, 90, on_timeout=home.story)


@pytest.mark.parametrize("first", ["cancel", "restart"])
def test_a_cancel_is_stronger_than_a_restart(home: SpoolHome, first: str) -> None:
    """In either order, also if the restart is under way already: it is not run again."""
    home.daemon()
    job = home.shell("trap 'sleep 0.5; exit 1' TERM; echo >>begun; sleep 300 & wait", restartable=True)
    wait_until((home.home / "begun").exists, 20, on_timeout=home.story)
    record = home.record(job)
    assert record.process is not None
    second = {"cancel": "restart", "restart": "cancel"}[first]

    for verb in (first, second):
        spools.request(home.spool, job, verb, NODE)
        procs.send(record.process, signal.SIGUSR1)

    home.wait_for(job, CANCELED)
    # If the restart had won, the job would have waited, and a waiting job that is asked for is canceled.
    assert home.output("begun").count("\n") <= 2
    wait_until(lambda: spools.requests(home.spool) == {}, 20, on_timeout=home.story)
    assert home.state(job) == CANCELED
