"""One job's life under its supervisor, without any daemon: real processes, real signals."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import stat
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from roundq.actors import environ, supervisor
from roundq.actors.attempt import SHUTDOWN_S, Attempt, Terms
from roundq.actors.ending import classified
from roundq.actors.homewatch import HomeWatch
from roundq.actors.leases import Leases
from roundq.actors.streams import Streams, open_streams
from roundq.records import environments
from roundq.records import spool as spools
from roundq.records.signals import Asked
from roundq.records.spool import Entry, Spool
from roundq.words.job import NS, Job, Record
from roundq.words.states import CANCELED, COMPLETED, FAILED, REASONS, RUNNING, WAITING
from roundq.world import files, procs
from tests.actors.spoolhome import NODE, SpoolHome
from tests.cluster.wait import wait_until


def ended(home: SpoolHome, job_id: str) -> tuple[str, str | None, int | None, int | None]:
    """State, reason, exit code and signal."""
    record = home.record(job_id)
    return home.state(job_id), record.reason, record.exit_code, record.signal


# ---------------------------------------------------------------- true ends


@pytest.mark.parametrize("code", [1, 3, 126, 127, 255])
def test_a_non_zero_exit_code_is_a_failure_with_that_code(home: SpoolHome, code: int) -> None:
    """The outcome is what the command said, nothing else."""
    job = home.shell(f"exit {code}")

    home.run(job)

    assert (FAILED, "exit", code, None) == ended(home, job)


def test_exit_code_zero_is_completed_with_times_and_usage(home: SpoolHome) -> None:
    """A job that ended well has its attempt's facts."""
    job = home.shell("exit 0")

    record = home.run(job)

    assert ended(home, job) == (COMPLETED, None, 0, None)
    assert 0 < record.started_ns <= record.completed_ns
    assert (record.node, record.attempt) == (NODE, 1)
    assert record.usage is not None
    assert record.usage["cpu_s"] >= 0


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGKILL", "SIGTERM", "SIGABRT", "SIGHUP", "SIGPIPE", "SIGUSR1"])
def test_death_by_a_signal_is_a_failure_with_that_signal(home: SpoolHome, name: str) -> None:
    """0.2.9 recorded a crash as completed; here it never is."""
    job = home.shell(f"kill -{name[3:]} $$")

    home.run(job)

    assert (FAILED, "signal", None, signal.Signals[name]) == ended(home, job)


def test_a_command_that_vanished_fails_with_that_reason(home: SpoolHome) -> None:
    """Not stuck in running, and not a made-up exit code."""
    job = home.submit("./gone")

    record = home.run(job)

    assert ended(home, job) == (FAILED, "no command", None, None)
    assert "./gone" in (record.detail or "")
    assert "could not start" in home.output(f"rq-{job}.out")


def test_a_script_without_its_interpreter_says_which(home: SpoolHome) -> None:
    """ENOENT of a file that is there means its interpreter."""
    script = home.home / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    job = home.submit("./script")

    record = home.run(job)

    assert record.reason == "no interpreter"
    assert "/no/such/interpreter" in (record.detail or "")


def test_a_directory_that_vanished_fails_with_that_reason(home: SpoolHome) -> None:
    """The directory was removed between submission and start."""
    job = home.submit("/bin/true", directory=str(home.home / "gone"))

    home.run(job)

    assert ended(home, job) == (FAILED, "no directory", None, None)


@pytest.mark.parametrize("kind", ["directory", "fifo", "missing parent"])
def test_an_output_that_cannot_be_opened_fails_with_that_reason(home: SpoolHome, kind: str) -> None:
    """A FIFO that nobody reads must not hang it either."""
    if kind == "directory":
        (home.home / "out").mkdir()
    elif kind == "fifo":
        os.mkfifo(home.home / "out")
    job = home.submit("/bin/true", output="nowhere/out" if kind == "missing parent" else "out")

    home.run(job)

    assert ended(home, job) == (FAILED, "no output", None, None)


@pytest.mark.parametrize("mode", [0o1777, 0o755])
def test_output_goes_into_no_file_that_was_linked_among_strangers(mode: int, tmp_path: Path) -> None:
    """Where the kernel lets everybody link files of others (protected_hardlinks), that may be one's own."""
    precious, place = tmp_path / "precious", tmp_path / "tmp"
    precious.write_text("precious")
    place.mkdir()
    os.link(precious, place / "out")
    place.chmod(mode)
    job = Job(("true",), directory=str(place), output="out", error="errors")
    if mode == 0o755:
        open_streams(job, "17").close()
        return
    with pytest.raises(PermissionError, match="another name"):
        open_streams(job, "17")
    # A symbolic link of mine leads where I want it to.
    (place / "out").unlink()
    (place / "out").symlink_to(precious)
    os.link(precious, tmp_path / "copy")
    streams = open_streams(job, "17")
    streams.say("more")
    streams.close()
    assert precious.read_text() == "preciousmore\n"


def test_a_damaged_environment_fails_with_that_reason(home: SpoolHome) -> None:
    """A job never runs in another environment than it was submitted with."""
    digest = environments.store(home.spool, {"A": "1"}, NODE)
    Path(home.spool.path, "env", f"{digest}.json").write_text("{}")
    job = home.submit("/bin/true", environment=digest)

    home.run(job)

    assert ended(home, job) == (FAILED, "no environment", None, None)


def test_a_time_limit_ends_the_job_with_that_reason(home: SpoolHome) -> None:
    """And everything it started."""
    job = home.shell("sleep 300 & wait", time_limit_s=0.3)

    record = home.run(job)

    assert (home.state(job), record.reason) == (FAILED, "time limit")
    assert record.signal == signal.SIGTERM
    assert home.pids() == []


def test_a_full_fifo_whose_reader_sleeps_delays_no_end(home: SpoolHome) -> None:
    """What we say in the output waits for nobody: limit and outcome come first."""
    os.mkfifo(home.home / "out")
    reader = os.open(home.home / "out", os.O_RDONLY | os.O_NONBLOCK)
    job = home.submit("head", "-c", "1000000", "/dev/zero", output="out", time_limit_s=0.2)

    home.run(job)

    os.close(reader)
    assert ended(home, job) == (FAILED, "time limit", None, signal.SIGTERM)


def test_an_output_limit_ends_a_fast_writer(home: SpoolHome) -> None:
    """0.2.9 looked after 1 s, and then every 10 min."""
    job = home.submit("/usr/bin/yes", max_output=100_000)

    record = home.run(job)

    assert (home.state(job), record.reason) == (FAILED, "output limit")
    assert "--max-output" in (record.detail or "")


def test_an_output_limit_counts_what_the_job_writes(home: SpoolHome) -> None:
    """Appending to a file that is already long is no offence."""
    (home.home / "out").write_bytes(b"x" * 200_000)
    job = home.shell("echo little; sleep 1.5", output="out", max_output=100_000)

    home.run(job)

    assert home.state(job) == COMPLETED


def test_every_reason_has_a_sentence() -> None:
    """What the tests of this file found is what people are told."""
    found = {"exit", "signal", "no command", "no directory", "no output", "no environment"}
    assert found | {"time limit", "output limit"} <= set(REASONS)


# ---------------------------------------------------------------- what the job finds


def test_the_job_has_the_submitters_environment_and_ours(home: SpoolHome) -> None:
    """Not the daemon's: a classic surprise of 0.2.9."""
    base = {"PATH": os.environ["PATH"], "MINE": "yes", "OMP_NUM_THREADS": "7"}
    digest = environments.store(home.spool, base, NODE)
    job = home.submit("/usr/bin/env", environment=digest, cores=1, output="out", jobname="name of it")

    home.run(job)

    found = dict(line.partition("=")[::2] for line in home.output("out").splitlines() if "=" in line)
    assert found["MINE"] == "yes"
    assert found["OMP_NUM_THREADS"] == "7", "what the user exported stays"
    assert found["MKL_NUM_THREADS"] == "1"
    assert (job, "name of it", NODE, "0") == tuple(
        found[name] for name in ("RQ_JOB_ID", "RQ_JOB_NAME", "RQ_NODE", "RQ_RESTART_COUNT")
    )
    assert str(home.home) == found["PWD"] == found["RQ_SUBMIT_DIR"]
    assert "PYTHONPATH" not in found, "the supervisor's own environment"


def test_the_job_has_the_umask_its_submitter_had(home: SpoolHome) -> None:
    """Of its files and of its output alike."""
    job = home.shell("umask; touch made", umask=0o077, output="out")

    home.run(job)

    assert "0077" in home.output("out")
    assert stat.S_IMODE((home.home / "made").stat().st_mode) == 0o600
    assert stat.S_IMODE((home.home / "out").stat().st_mode) == 0o600


def test_the_job_is_nice_and_reads_nothing(home: SpoolHome) -> None:
    """stdin is empty, priority the lowest, no signal ignored or blocked."""
    job = home.shell("nice; cat; grep -E 'Sig(Blk|Ign)' /proc/self/status", output="out")

    home.run(job)

    said = home.output("out")
    assert "\n19\n" in said
    assert "SigBlk:\t0000000000000000" in said
    assert "SigIgn:\t0000000000000000" in said


def test_the_job_leads_a_session_of_its_own(home: SpoolHome) -> None:
    """kill 0 in a job must not reach its supervisor."""
    job = home.shell("trap '' TERM; kill -TERM 0; echo survived; exit 0", output="out")

    home.run(job)

    assert home.state(job) == COMPLETED
    assert "survived" in home.output("out")


def test_descriptors_of_the_supervisor_stay_its_own(home: SpoolHome) -> None:
    """A job has 0, 1 and 2."""
    job = home.shell("ls /proc/self/fd", output="out")

    home.run(job)

    numbers = {line for line in home.output("out").splitlines() if line.isdigit()}
    assert {"0", "1", "2"} <= numbers <= {"0", "1", "2", "3"}, "3 is the directory that ls reads"


def test_words_that_are_not_utf8_arrive_as_they_are(home: SpoolHome) -> None:
    """Arguments are bytes."""
    job = home.submit("/usr/bin/printf", "%s", os.fsdecode(b"\xff\xfe"), output=os.fsdecode(b"o\xff"))

    home.run(job)

    assert b"\xff\xfe" in Path(os.fsencode(str(home.home)).decode(), os.fsdecode(b"o\xff")).read_bytes()


def test_both_streams_go_to_one_file_or_to_two(home: SpoolHome) -> None:
    """The same name twice is one file."""
    one = home.shell("echo a; echo b >&2", output="both", error="./both")
    two = home.shell("echo a; echo b >&2", output="a", error="b")

    home.run(one)
    home.run(two)

    assert {"a", "b"} <= set(home.output("both").splitlines())
    assert "b" not in home.output("a").splitlines()
    assert home.output("b").strip() == "b"


def test_the_output_says_when_it_began_and_how_it_ended(home: SpoolHome) -> None:
    """The first line names job, node and command, the last the outcome."""
    job = home.shell("echo in the middle; exit 3", jobname="fit", output="out")

    home.run(job)

    first, middle, last = home.output("out").splitlines()
    assert f"rq: job {job} 'fit' begins on {NODE}" in first
    assert middle == "in the middle"
    assert f"rq: job {job} failed: exit code 3" in last


# ---------------------------------------------------------------- cancel means dead


STUBBORN = """
trap '' TERM
setsid sleep 301 &
(setsid sh -c 'sleep 302 & sleep 303' &)
sleep 304 &
echo ready
while :; do sleep 1; done
"""


def test_cancel_ends_every_process_of_the_job(home: SpoolHome) -> None:
    """Those that ignore TERM, changed session or were orphaned, too."""
    job = home.shell(STUBBORN, output="out")
    supervisor = home.supervise(job)
    wait_until(lambda: "ready" in home.output("out"))

    spools.request(home.spool, job, "cancel", NODE)
    os.kill(supervisor.pid, signal.SIGUSR1)
    supervisor.wait(20)

    assert (home.state(job), home.record(job).reason) == (CANCELED, "canceled")
    assert home.pids() == []
    assert spools.requests(home.spool) == {}, "the request is answered"


def test_cancel_of_a_stopped_job_ends_it(home: SpoolHome) -> None:
    """TERM alone would wait for a CONT for ever."""
    job = home.shell("echo ready; kill -STOP $$", output="out")
    supervisor = home.supervise(job)
    wait_until(lambda: "ready" in home.output("out"))

    spools.request(home.spool, job, "cancel", NODE)
    os.kill(supervisor.pid, signal.SIGUSR1)
    supervisor.wait(20)

    assert home.state(job) == CANCELED
    assert home.pids() == []


def test_a_job_that_saves_its_work_on_term_gets_the_time(home: SpoolHome) -> None:
    """TERM first, and a grace."""
    job = home.shell("trap 'sleep 0.3; echo saved; exit 0' TERM; echo ready; sleep 300 & wait", output="out")
    supervisor = home.supervise(job)
    wait_until(lambda: "ready" in home.output("out"))

    spools.request(home.spool, job, "cancel", NODE)
    os.kill(supervisor.pid, signal.SIGUSR1)
    supervisor.wait(20)

    assert "saved" in home.output("out")
    assert home.state(job) == CANCELED


def test_restart_requeues_it_as_the_next_attempt(home: SpoolHome) -> None:
    """The first attempt is history, the second is open."""
    job = home.shell("echo ready; sleep 300", output="out", restartable=True)
    supervisor = home.supervise(job)
    wait_until(lambda: "ready" in home.output("out"))

    spools.request(home.spool, job, "restart", NODE)
    os.kill(supervisor.pid, signal.SIGUSR1)
    supervisor.wait(20)

    record = home.record(job)
    assert home.state(job) == WAITING
    assert (record.attempt, record.process, record.started_ns, record.exit_code) == (2, None, 0, None)
    (first,) = record.attempts
    assert (first.number, first.node, first.reason, first.signal) == (1, NODE, "restarted", signal.SIGTERM)
    assert home.pids() == []


def test_a_command_may_ask_for_its_restart_and_end_at_once(home: SpoolHome) -> None:
    """Before anybody has looked for requests; one that ends well, or is not restartable, is not run again."""
    script = (
        'printf "%s\\n" "$RQ_MARK" > .request && mv .request .roundqueue/requests/"$RQ_JOB_ID".restart;'
        ' exit "$1"'
    )
    again = home.submit("/bin/sh", "-c", script, "-", "75", restartable=True)
    record = home.run(again)
    assert home.state(again) == "waiting"
    assert [(one.reason, one.exit_code) for one in record.attempts] == [("restarted", 75)]
    assert spools.requests(home.spool) == {}
    well = home.submit("/bin/sh", "-c", script, "-", "0", restartable=True)
    home.run(well)
    assert home.state(well) == "completed"
    once = home.submit("/bin/sh", "-c", script, "-", "75")
    home.run(once)
    assert home.state(once) == "failed"


@pytest.mark.parametrize(("restartable", "done"), [(True, "restart"), (False, None)])
def test_what_may_not_run_twice_is_not_restarted_by_any_request(
    home: SpoolHome, restartable: bool, done: str | None
) -> None:
    """`rq restart` refuses it; a file that a program put into requests/ must not do more."""
    entry = Entry("17", RUNNING, NODE, f"17@{NODE}.job", 1)
    watch = HomeWatch(
        home.spool, entry, Streams("out", 1, 1), Record(Job(("true",), restartable=restartable))
    )
    spools.request(home.spool, "17", "restart", NODE)
    assert watch.asked() == done

    spools.request(home.spool, "17", "cancel", NODE)
    assert watch.asked() == "cancel"


def test_what_a_command_leaves_behind_is_ended_with_it(home: SpoolHome) -> None:
    """The cores go to the next job, so nobody may stay on them."""
    job = home.shell("sleep 300 & setsid sleep 301 & echo left", output="out")

    home.run(job)

    assert home.state(job) == COMPLETED, "the command itself ended well"
    assert home.pids() == []
    assert "of its processes did not" in home.output("out")


def test_nothing_but_sigkill_ends_a_supervisor(home: SpoolHome) -> None:
    """A shutdown sends TERM to everybody; the end of the job still has to be recorded."""
    job = home.shell("echo ready; sleep 0.5; exit 7", output="out")
    supervisor = home.supervise(job)
    wait_until(lambda: "ready" in home.output("out"))

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR2):
        os.kill(supervisor.pid, number)
    supervisor.wait(20)

    assert ended(home, job) == (FAILED, "exit", 7, None)


@pytest.mark.parametrize("restartable", [True, False])
def test_a_job_that_dies_in_a_shutdown_is_told_so_or_runs_again(home: SpoolHome, restartable: bool) -> None:
    """Everybody gets TERM then: as after a crash, what may run again waits again."""
    job = home.shell("echo ready; exec sleep 300", output="out", restartable=restartable)
    supervisor = home.supervise(job)
    wait_until(lambda: "ready" in home.output("out"))

    os.kill(supervisor.pid, signal.SIGTERM)
    # In the middle of its exec a process shows no environment.
    (pid,) = wait_until(lambda: home.pids(f"RQ_JOB_ID={job}"))
    os.kill(pid, signal.SIGTERM)
    supervisor.wait(20)

    record = home.record(job)
    if restartable:
        assert (home.state(job), record.attempts[0].reason) == (WAITING, "shutdown")
    else:
        assert (home.state(job), record.reason, record.signal) == (FAILED, "shutdown", signal.SIGTERM)


# ---------------------------------------------------------------- whose record it is


def test_a_supervisor_whose_claim_is_gone_runs_nothing(home: SpoolHome) -> None:
    """Withdrawn before it began: it leaves without a trace."""
    job = home.shell("echo ran > ran")
    entry = home.claim(job)
    code = (
        "import os, sys\n"
        "from roundq.actors import supervisor\n"
        "from roundq.records import spool as spools\n"
        "s = spools.Spool(sys.argv[1], 'ann', os.getuid())\n"
        "e = spools.Entry(sys.argv[2], 'claimed', sys.argv[3], f'{sys.argv[2]}@{sys.argv[3]}.job', 0)\n"
        "r = spools.read(s, e)\n"
        "assert spools.withdraw(s, e)\n"
        "assert supervisor.supervise(s, e, r, supervisor.Terms(sys.argv[3])) is None\n"
    )

    process = home._start(sys.executable, "-c", code, home.spool.path, job, entry.node or "")

    assert process.wait(20) == 0
    assert home.state(job) == WAITING
    assert home.output("ran") == ""


def test_a_running_record_names_its_supervisor(home: SpoolHome) -> None:
    """Pid, start time and boot id: what recovery will ask for, and every process of the job bears."""
    job = home.shell("echo ready; sleep 300", output="out")
    supervisor = home.supervise(job)
    wait_until(lambda: "ready" in home.output("out"))

    record = home.record(job)

    assert home.state(job) == RUNNING
    assert record.process is not None
    assert supervisor.pid == record.pid == record.process.pid
    mark = environ.mark(record.process)
    wait_until(lambda: home.pids(f"RQ_MARK={mark}"))


@pytest.mark.parametrize(("name", "reason"), [("SIGKILL", "shutdown"), ("SIGSEGV", "signal")])
def test_a_crash_in_a_shutdown_is_a_crash(name: str, reason: str) -> None:
    """A node that shuts down sends TERM, HUP and KILL; what else kills a job is its own doing."""
    job = Job(("true",), restartable=True)

    ending = classified(None, signal.Signals[name], job, is_shutdown=True)

    assert ending.reason == reason


@pytest.mark.parametrize("state", [COMPLETED, WAITING])
def test_an_end_that_cannot_be_recorded_keeps_its_lease(
    state: str, home: SpoolHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has ended and is only not written down, for want of room: nobody may begin it anew meanwhile."""
    job = home.submit("true", restartable=True)
    claimed = spools.claim(home.spool, home.entry(job), NODE)
    assert claimed is not None
    process = procs.own_identity()
    record = replace(spools.read(home.spool, claimed), node=NODE, process=process, started_ns=1, lease_s=30.0)
    assert spools.rewrite(home.spool, claimed, record, NODE) is not None
    running = spools.begin(home.spool, claimed, NODE)
    assert running is not None
    now_s, settle = 1000.0, spools.settle
    leases = Leases(home.spool, "other", clock=lambda: now_s)
    run_out: list[Entry] = []

    def refused(spool: Spool, entry: Entry, ended: Record, node: str) -> str | None:
        if now_s < 2000.0:
            # It may be sealed by the time that there is no room.
            with contextlib.suppress(FileNotFoundError):
                os.rename(spools.path_of(spool, entry), spools.path_of(spool, entry.sealed))
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        return settle(spool, entry, ended, node)

    def sleep(seconds: float) -> None:
        nonlocal now_s
        now_s += seconds
        run_out.extend(leases.run_out(now_s, 5.0))

    def touch(path: str) -> bool:
        with contextlib.suppress(FileNotFoundError):
            os.utime(path, ns=(int(now_s * NS), int(now_s * NS)))
            return True
        return False

    monkeypatch.setattr(spools, "settle", refused)
    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(files, "touch", touch)
    ended = replace(record, completed_ns=2, exit_code=0)
    if state == WAITING:
        ended = ended.next_attempt(2, "restarted")
    assert supervisor._record_for_sure(home.spool, running, ended, Terms(NODE), record.lease_s) == state
    assert now_s > 2000.0
    assert run_out == []


def test_a_signal_that_the_kernel_refuses_harms_no_job(home: SpoolHome) -> None:
    """An error of sending one is not an error of the job's, nor a reason to kill it."""
    streams, job = Streams("out", 1, 1), Job(("true",))
    entry = Entry("17", RUNNING, NODE, f"17@{NODE}.job", 1)
    watch = HomeWatch(home.spool, entry, streams, Record(job))
    life = Attempt(home.spool, entry, Record(job), Terms(NODE), streams, watch, pid=os.getpid())
    watch.signals.append(Asked("17~0.signal", "", 999, False))

    life._send()

    assert not watch.signals
    assert watch.nudged.is_set()


def test_a_sigterm_of_long_ago_is_no_shutdown(home: SpoolHome) -> None:
    """Somebody sent it to the supervisor alone; the job that is killed tomorrow was not shut down."""
    streams, job = Streams("out", 1, 1), Job(("true",))
    entry = Entry("17", RUNNING, NODE, f"17@{NODE}.job", 1)
    watch = HomeWatch(home.spool, entry, streams, Record(job))
    life = Attempt(home.spool, entry, Record(job), Terms(NODE), streams, watch)
    assert not life.is_shutdown(100.0)

    life.told_to_end_s = 100.0

    assert life.is_shutdown(100.0 + SHUTDOWN_S / 2)
    assert not life.is_shutdown(100.0 + SHUTDOWN_S * 2)
