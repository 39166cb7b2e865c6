"""True ends: each way in which a job can end has a reason of its own, told alike everywhere."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from roundq.actors.homewatch import REQUEST_LOOK_S
from roundq.actors.tenants import Tenants
from roundq.faces.cli import main
from roundq.records import environments
from roundq.records import spool as spools
from roundq.records.spool import SUFFIX
from roundq.words import states
from roundq.words.job import Identity
from roundq.words.states import CANCELED, COMPLETED, FAILED, WAITING, ZOMBIE
from roundq.world import procs
from tests import delegation
from tests.actors.spoolhome import NODE, SpoolHome
from tests.cluster.wait import wait_until

MIB = 1 << 20
#: Holds so many MiB until it is killed.
HOLD = "import time; held = bytearray(int({mib}) << 20); print('held', flush=True); time.sleep(300)"


@dataclass(frozen=True)
class End:
    """A scene that leads a job to its end, and what is told of it.

    `code` is that of `rq run --wait`; `listed` what the state column of `rq` says; `detail` a part of the
    sentence. `exit_code` and `signal` are those of the command.
    """

    scene: Callable[[SpoolHome], str]
    state: str
    reason: str | None
    code: int
    listed: str
    detail: str | None
    exit_code: int | None = None
    signal: int | None = None


# ---------------------------------------------------------------- scenes


def exits(code: int) -> Callable[[SpoolHome], str]:
    def scene(home: SpoolHome) -> str:
        job = home.shell(f"exit {code}")
        home.run(job)
        return job

    return scene


def dies(number: int) -> Callable[[SpoolHome], str]:
    def scene(home: SpoolHome) -> str:
        job = home.shell(f"kill -{number} $$; sleep 300")
        home.run(job)
        return job

    return scene


def command(*words: str, **fields: object) -> Callable[[SpoolHome], str]:
    def scene(home: SpoolHome) -> str:
        (home.home / "plain").write_text("echo plain\n")
        (home.home / "plain").chmod(0o755)
        (home.home / "forbidden").write_text("#!/bin/sh\n")
        (home.home / "script").write_text("#!/no/such/interpreter -x\n")
        (home.home / "script").chmod(0o755)
        (home.home / "sub").mkdir()
        job = home.submit(*words, **fields)
        home.run(job)
        return job

    return scene


def no_directory(home: SpoolHome) -> str:
    job = home.submit("/bin/true", directory=str(home.home / "gone"))
    home.run(job)
    return job


def damaged_environment(home: SpoolHome) -> str:
    digest = environments.store(home.spool, {"A": "1"}, NODE)
    Path(home.spool.path, "env", f"{digest}.json").write_text("{}")
    return command("/bin/true", environment=digest)(home)


def beyond_memory(home: SpoolHome) -> str:
    code = HOLD.format(mib=100)
    job = home.submit(sys.executable, "-c", code, memory_required=50 * MIB, memory_limit=50 * MIB)
    home.run(job)
    return job


def out_of_memory(home: SpoolHome) -> str:
    with delegation.memory(96 * MIB) as entrance:
        job = home.submit(sys.executable, "-c", HOLD.format(mib=300))
        home.claim(job)
        supervisor = [sys.executable, "-m", "roundq.actors.supervisor", home.spool.path, job]
        running = home._start("/bin/sh", "-c", f'echo 0 >{entrance} && exec "$@"', "sh", *supervisor)
        assert running.wait(30) == 0
    return job


def asked(verb: str) -> Callable[[SpoolHome], str]:
    def scene(home: SpoolHome) -> str:
        job = home.shell("touch up; sleep 300", restartable=True)
        running = home.supervise(job)
        wait_until((home.home / "up").exists, 20, on_timeout=home.story)
        process = home.record(job).process
        assert process is not None
        spools.request(home.spool, job, verb, NODE)
        procs.send(process, signal.SIGUSR1)
        assert running.wait(20) == 0
        return job

    return scene


def shut_down(home: SpoolHome) -> str:
    job = home.shell("touch up; exec sleep 300")
    running = home.supervise(job)
    wait_until((home.home / "up").exists, 20, on_timeout=home.story)
    process = home.record(job).process
    assert process is not None
    (child,) = procs.descendants(process)
    for one in (process, child):
        procs.send(one, signal.SIGTERM)
    assert running.wait(20) == 0
    return job


def killed_supervisor(home: SpoolHome) -> str:
    job = home.shell("touch up; sleep 300")
    running = home.supervise(job)
    wait_until((home.home / "up").exists, 20, on_timeout=home.story)
    process = home.record(job).process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    running.wait()
    recover(home, job)
    return job


def rebooted(home: SpoolHome) -> str:
    job = home.shell("true")
    entry = home.claim(job)
    before = Identity("an earlier boot", 17, 4)
    record = replace(spools.read(home.spool, entry), process=before, pid=17, node=NODE, started_ns=1)
    sealed = spools.rewrite(home.spool, entry, record, NODE)
    assert sealed is not None
    assert spools.begin(home.spool, sealed, NODE) is not None
    recover(home, job)
    return job


def recover(home: SpoolHome, job: str) -> None:
    """What the node's daemon does in its rounds."""
    tenants = Tenants(home.spool, NODE, logging.getLogger("test"))
    tenants.look()

    def is_over() -> bool:
        tenants.recover()
        return home.state(job) != states.RUNNING

    wait_until(is_over, 20, on_timeout=home.story)


def canceled_before(home: SpoolHome) -> str:
    job = home.shell("true")
    assert spools.cancel(home.spool, home.entry(job), time.time_ns(), NODE)
    return job


SIGNALS = "HUP INT QUIT ILL ABRT BUS FPE KILL USR1 SEGV PIPE ALRM TERM XCPU XFSZ SYS".split()
ENDS = {
    "exit 0": End(exits(0), COMPLETED, None, 0, "completed", None, 0),
    "exit 1": End(exits(1), FAILED, "exit", 1, "failed: exit 1", "exit code 1", 1),
    "exit 255": End(exits(255), FAILED, "exit", 255, "failed: exit 255", "exit code 255", 255),
    **{
        f"SIG{name}": End(
            dies(number := signal.Signals[f"SIG{name}"]),
            FAILED,
            "signal",
            128 + number,
            f"failed: SIG{name}",
            f"killed by SIG{name}",
            None,
            number,
        )
        for name in SIGNALS
    },
    "time limit": End(
        command("sleep", "300", time_limit_s=0.3),
        *(FAILED, "time limit", 143, "failed: time limit", "its time limit of 0.3 s", None, signal.SIGTERM),
    ),
    "output limit": End(
        command("yes", max_output=100_000),
        *(FAILED, "output limit", 143, "failed: output limit", "--max-output", None, signal.SIGTERM),
    ),
    "memory limit": End(
        beyond_memory,
        *(FAILED, "memory limit", 137, "failed: memory limit", "--mem-limit", None, signal.SIGKILL),
    ),
    "out of memory": End(
        out_of_memory,
        *(FAILED, "out of memory", 137, "failed: out of memory", "by the kernel", None, signal.SIGKILL),
    ),
    "no command": End(
        command("./gone"), FAILED, "no command", 127, "failed: no command", "./gone: No such file"
    ),
    "no command along PATH": End(
        command("no-such-command"), FAILED, "no command", 127, "failed: no command", "not found along PATH"
    ),
    "not marked as executable": End(
        command("./forbidden"), FAILED, "not executable", 126, "failed: not executable", "chmod +x"
    ),
    "of no known format": End(
        command("./plain"), FAILED, "not executable", 126, "failed: not executable", "#!/bin/sh"
    ),
    "a directory": End(
        command("./sub"), FAILED, "not executable", 126, "failed: not executable", "it is a directory"
    ),
    "no interpreter": End(
        command("./script"), FAILED, "no interpreter", 126, "failed: no interpreter", "'/no/such/interpreter'"
    ),
    "no directory": End(no_directory, FAILED, "no directory", 1, "failed: no directory", "cannot enter"),
    "no output": End(
        command("true", output="sub"), FAILED, "no output", 1, "failed: no output", "sub: Is a directory"
    ),
    "no environment": End(
        damaged_environment, FAILED, "no environment", 1, "failed: no environment", "environment"
    ),
    "canceled": End(
        asked("cancel"),
        *(CANCELED, "canceled", 143, "canceled", "canceled while it ran", None, signal.SIGTERM),
    ),
    "canceled before": End(canceled_before, CANCELED, "canceled", 1, "canceled", "before it began"),
    "shutdown": End(
        shut_down, FAILED, "shutdown", 143, "failed: shutdown", "node was shut down", None, signal.SIGTERM
    ),
    "lost": End(killed_supervisor, ZOMBIE, "lost", 1, "lost", "its supervisor on testnode died"),
    "rebooted": End(rebooted, ZOMBIE, "rebooted", 1, "lost: rebooted", "testnode crashed or was rebooted"),
}


# ---------------------------------------------------------------- what is told


@pytest.mark.parametrize("name", ENDS)
def test_every_end_is_told_alike_everywhere(
    home: SpoolHome, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the record, `rq`, `rq show`, --json, `rq why`, `rq wait`, and the code of `rq run --wait`."""
    end = ENDS[name]

    job = end.scene(home)

    record = home.record(job)
    assert (home.state(job), record.reason) == (end.state, end.reason)
    assert (record.exit_code, record.signal) == (end.exit_code, end.signal)
    for variable, value in home.environ.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.chdir("/")

    def said(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(list(words))
        return (code, *capsys.readouterr())

    assert end.listed in said("q")[1]
    shown = said("show", job)[1]
    assert ("reason" in shown) == (end.reason is not None)
    assert end.reason is None or f"  reason     {end.reason}\n" in shown
    (facts,) = json.loads(said("show", "--json", job)[1])["jobs"]
    assert (facts["state"], facts["reason"]) == (end.state, end.reason)
    assert (facts["exit_code"], facts["signal"]) == (end.exit_code, end.signal)
    assert facts["detail"] == record.detail
    if end.detail is not None:
        assert end.detail in facts["detail"]
        assert end.detail in said("why", job)[1]
    code, _, error = said("wait", job)
    assert code == (0 if end.state == COMPLETED else 1)
    assert (end.detail or "") in error
    from roundq.actors import outcome, queue

    (row,), _ = queue.find(home.spool, [job])
    assert outcome.exit_code(row) == end.code


def test_every_reason_is_shown_to_happen() -> None:
    """Here or in a test that its line names: a reason that nothing leads to would be a promise of nothing."""
    elsewhere = {
        # test_supervisor: fork fails, or our own mistake.
        "cannot start",
        # An attempt that is followed by another; below.
        "restarted",
        # test_preempt.
        "preempted",
        # test_lost.
        "lease",
        # test_held: canceled before they began.
        "dependency",
        "max fails",
    }
    assert {end.reason for end in ENDS.values() if end.reason} | elsewhere == set(states.REASONS)


def test_what_is_run_again_tells_why_its_attempts_ended(home: SpoolHome) -> None:
    """Restarted by its user, or found after a reboot: in the history, and it waits."""
    job = asked("restart")(home)
    assert home.state(job) == WAITING
    assert [one.reason for one in home.record(job).attempts] == ["restarted"]

    entry = home.claim(job)
    before = Identity("an earlier boot", 17, 4)
    record = replace(spools.read(home.spool, entry), process=before, pid=17, node=NODE, started_ns=1)
    sealed = spools.rewrite(home.spool, entry, record, NODE)
    assert sealed is not None
    assert spools.begin(home.spool, sealed, NODE) is not None
    recover(home, job)
    assert home.state(job) == WAITING
    assert [one.reason for one in home.record(job).attempts] == ["restarted", "rebooted"]


# ---------------------------------------------------------------- limits


def test_an_output_limit_gives_a_second_not_a_grace(home: SpoolHome) -> None:
    """A fast writer that ignores SIGTERM cannot fill the disk meanwhile."""
    job = home.shell("trap '' TERM; yes", max_output=1 * MIB)
    home.environ["RQ_GRACE"] = "300"

    record = home.run(job, timeout=60)

    assert record.reason == "output limit"
    assert record.signal == signal.SIGKILL


def test_a_request_and_a_limit_are_looked_for_beside_each_other(home: SpoolHome) -> None:
    """A job whose output grows slowly is measured often, and its requests are found no later for that."""
    job = home.shell("while :; do echo line; sleep 0.05; done", max_output=64 * MIB)
    running = home.supervise(job)
    wait_until(lambda: home.output(f"rq-{job}.out").count("line") > 2, 20, on_timeout=home.story)
    process = home.record(job).process
    assert process is not None

    spools.request(home.spool, job, "cancel", NODE)
    procs.send(process, signal.SIGUSR1)

    assert running.wait(REQUEST_LOOK_S / 2) == 0
    assert home.state(job) == CANCELED


def test_memory_that_processes_share_is_counted_once(home: SpoolHome) -> None:
    """Four processes that see the same 40 MiB use 40 MiB, and their limit is 100."""
    code = """
import os, time
held = bytearray(40 << 20)
children = []
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        time.sleep(2.5); os._exit(0)
    children.append(pid)
for pid in children:
    os.waitpid(pid, 0)
"""
    job = home.submit(sys.executable, "-c", code, memory_limit=100 * MIB)

    home.run(job, timeout=60)

    assert home.state(job) == COMPLETED


def test_memory_of_all_processes_counts(home: SpoolHome) -> None:
    """Not that of the largest: each is within the limit, together they are not."""
    hold = HOLD.format(mib=30)
    job = home.shell(f'for n in 1 2 3; do {sys.executable} -c "{hold}" & done; wait', memory_limit=70 * MIB)

    record = home.run(job, timeout=60)

    assert (home.state(job), record.reason) == (FAILED, "memory limit")
    assert home.pids() == []


def test_the_kernel_would_end_the_job_before_its_supervisor(home: SpoolHome) -> None:
    """The job's score is a little above that of its supervisor, also if that has one already."""
    job = home.shell("cat /proc/self/oom_score_adj >score; cat /proc/$PPID/oom_score_adj >above")

    home.run(job)

    score, above = int(home.output("score")), int(home.output("above"))
    assert score - above == 100


def test_a_kill_that_is_not_the_kernels_is_a_signal(home: SpoolHome) -> None:
    """Where the group counts, and counted nobody, SIGKILL came from somebody else."""
    with delegation.memory(256 * MIB) as entrance:
        job = home.shell("kill -KILL $$")
        home.claim(job)
        supervisor = [sys.executable, "-m", "roundq.actors.supervisor", home.spool.path, job]
        running = home._start("/bin/sh", "-c", f'echo 0 >{entrance} && exec "$@"', "sh", *supervisor)
        assert running.wait(30) == 0

    assert home.record(job).reason == "signal"


def test_a_record_without_a_limit_of_memory_has_none(home: SpoolHome) -> None:
    """What an earlier version wrote, or a program dropped."""
    Path(home.spool.directory(WAITING), f"dropped{SUFFIX}").write_text('{"job": {"command": ["true"]}}')
    assert home.record("dropped").job.memory_limit is None
