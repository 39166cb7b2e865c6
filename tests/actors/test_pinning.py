"""Promises about what an attempt is given of its node: its CPUs, its GPUs, and temporary files of its own."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from roundq.actors import environ
from roundq.actors.clearing import CLEAR_S, Clearing
from roundq.records import spool as spools
from roundq.words.job import Identity, Record
from roundq.words.states import COMPLETED, RUNNING, ZOMBIE
from roundq.world import nodelock, procs, scratch
from roundq.world.gpus import Gpus
from tests import rights
from tests.actors.spoolhome import NODE, SpoolHome
from tests.actors.test_round import round_of
from tests.actors.test_round_resources import OTHER, holding, neighbour, publish
from tests.cluster.wait import wait_until

ALLOWED = sorted(os.sched_getaffinity(0))
#: What a job sees of its CPUs; nproc(1) believes the variables of OpenMP first.
LOOK = (
    "env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc;"
    " grep Cpus_allowed_list /proc/self/status | cut -f 2; echo ${RQ_CPU_LIST-not set}"
)


@pytest.fixture(autouse=True)
def place(home: SpoolHome, tmp_path: Path) -> Path:
    """Where the jobs of this home have their temporary files: a directory as /tmp is."""
    made = tmp_path / "place"
    made.mkdir()
    made.chmod(0o1777)
    home.environ["RQ_TMP"] = str(made)
    return made


def lies(place: Path) -> list[Path]:
    """The temporary files that lie there, by the directories of attempts."""
    return sorted(place.glob("roundq-*/*-*-*-*"))


def granted(home: SpoolHome, job_id: str, **fields: object) -> Record:
    """Runs a waiting job with what its daemon would have granted it; its record then."""
    entry = home.claim(job_id)
    path = spools.path_of(home.spool, entry)
    value = json.loads(Path(path).read_text())
    Path(path).write_text(json.dumps({**value, **fields}))
    words = (sys.executable, "-m", "roundq.actors.supervisor", home.spool.path, job_id)
    assert home._start(*words).wait(20) == 0
    return home.record(job_id)


# ---------------------------------------------------------------- CPUs


def test_a_job_runs_on_its_cpus_and_tells_them(home: SpoolHome) -> None:
    """nproc and all that asks the kernel have the truth."""
    job = home.shell(f"{LOOK}; echo $PYTHON_CPU_COUNT")

    granted(home, job, cpus=[ALLOWED[-1]], cores=1)

    last = str(ALLOWED[-1])
    assert home.output(f"rq-{job}.out").splitlines()[1:5] == ["1", last, last, "1"]
    assert home.state(job) == COMPLETED


def test_a_job_that_was_granted_none_is_not_pinned(home: SpoolHome) -> None:
    """A daemon that knows no CPUs, or offers more cores than there are."""
    job = home.shell(LOOK)

    granted(home, job)

    lines = home.output(f"rq-{job}.out").splitlines()
    assert (lines[1], lines[3]) == (str(len(ALLOWED)), "not set")


def test_cpus_that_are_gone_pin_nobody_and_are_told(home: SpoolHome) -> None:
    """As when a cpuset was made smaller: the job runs, and its output says why it is not pinned."""
    job = home.shell(LOOK)

    granted(home, job, cpus=[ALLOWED[0], 4000, 4001], cores=3)

    lines = home.output(f"rq-{job}.out").splitlines()
    assert lines[1].startswith("rq: it is not pinned: ")
    assert lines[1].endswith(" it may not use 4000-4001")
    assert (lines[2], lines[4]) == (str(len(ALLOWED)), "not set")
    assert home.state(job) == COMPLETED


def test_the_supervisor_itself_is_not_pinned(home: SpoolHome) -> None:
    """It shall look after the job whatever that does."""
    rights.need(len(ALLOWED) > 1, "two CPUs")
    job = home.shell("cat /proc/$PPID/status | grep Cpus_allowed_list | cut -f 2; nproc")

    granted(home, job, cpus=[ALLOWED[0]], cores=1)

    lines = home.output(f"rq-{job}.out").splitlines()
    assert lines[1] != str(ALLOWED[0])
    assert lines[2] == "1"


# ---------------------------------------------------------------- GPUs


def test_gpus_are_told_to_all_libraries() -> None:
    """By their ids; those of the submitter mean another node."""
    of = {"CUDA_VISIBLE_DEVICES": "7", "HIP_VISIBLE_DEVICES": "7", "A": "b"}

    nvidia = environ.of_node(of, (), ("0", "3"), "nvidia", None)
    assert nvidia == {
        "A": "b",
        "RQ_GPUS": "0,3",
        "CUDA_VISIBLE_DEVICES": "0,3",
        "NVIDIA_VISIBLE_DEVICES": "0,3",
        "ROCR_VISIBLE_DEVICES": "0,3",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    }
    amd = environ.of_node(of, (), ("2", "3"), "amd", None)
    # HIP takes them for those of CUDA, too, and counts within ROCR_VISIBLE_DEVICES.
    assert (amd["ROCR_VISIBLE_DEVICES"], amd["CUDA_VISIBLE_DEVICES"]) == ("2,3", "0,1")
    assert "HIP_VISIBLE_DEVICES" not in amd


def test_whoever_asked_for_none_sees_none_on_a_node_with_gpus() -> None:
    """Empty, and not missing: without the variables a library would take them all."""
    found = environ.of_node({"CUDA_VISIBLE_DEVICES": "7"}, (), (), "", None)

    assert found == dict.fromkeys((*environ.GPU_VARIABLES, "RQ_GPUS"), "")


def test_on_a_node_without_gpus_they_are_left_alone() -> None:
    """They mean nothing there."""
    of = {"CUDA_VISIBLE_DEVICES": "7", "HIP_VISIBLE_DEVICES": "7"}

    assert environ.of_node(of, (), (), None, None) == {**of, "RQ_GPUS": ""}


def test_a_job_finds_the_gpus_that_it_was_granted(home: SpoolHome) -> None:
    """From the record to the environment."""
    job = home.shell("echo $RQ_GPUS $CUDA_VISIBLE_DEVICES $NVIDIA_VISIBLE_DEVICES $ROCR_VISIBLE_DEVICES")

    granted(home, job, gpus=["1", "2"])

    assert home.output(f"rq-{job}.out").splitlines()[1] == "1,2 1,2 1,2 1,2"


def test_what_a_job_submits_gets_neither_its_gpus_nor_its_threads_nor_its_files() -> None:
    """They are of the job that submits; what the user set is handed on."""
    inside = {
        "RQ_JOB_ID": "7",
        "RQ_CPUS": "4",
        "RQ_GPUS": "0",
        "TMPDIR": "/tmp/roundq-0/x",
        "CUDA_VISIBLE_DEVICES": "0",
        "OMP_NUM_THREADS": "4",
        "MKL_NUM_THREADS": "2",
        "A": "b",
    }

    assert environ.submitted(inside) == {"A": "b", "MKL_NUM_THREADS": "2"}
    outside = {"TMPDIR": "/scratch", "CUDA_VISIBLE_DEVICES": "0", "OMP_NUM_THREADS": "4"}
    assert environ.submitted(outside) == outside


# ---------------------------------------------------------------- temporary files


def test_a_job_has_temporary_files_of_its_own_until_it_ends(home: SpoolHome, place: Path) -> None:
    """In the configured place, for nobody else; whatever it leaves there is removed."""
    job = home.shell(
        'stat -c "%a %u" "$TMPDIR"; echo "$TMPDIR"; mktemp;'
        ' cd "$TMPDIR"; mkdir -p a/b; touch a/b/c; chmod 555 a/b'
    )

    home.run(job)

    mode, path, temporary = home.output(f"rq-{job}.out").splitlines()[1:4]
    assert mode == f"700 {os.geteuid()}"
    assert path.startswith(f"{place}/roundq-{os.geteuid()}/")
    assert temporary.startswith(path)
    assert not os.path.exists(path)
    assert lies(place) == []


@pytest.mark.parametrize("end", ["exit 3", "kill -9 $$", "sleep 300"])
def test_they_are_removed_however_it_ends(home: SpoolHome, place: Path, end: str) -> None:
    """Also of what is stopped, and of what could not be executed."""
    job = home.shell(f"touch $TMPDIR/x; {end}", time_limit_s=1.0)
    other = home.submit("./gone")

    for each in (job, other):
        home.run(each)

    assert lies(place) == []


def test_the_place_of_the_daemon_is_that_of_its_jobs(home: SpoolHome, place: Path) -> None:
    """TMPDIR of the daemon, if nothing is configured, and not that of the submitter."""
    home.environ["TMPDIR"] = home.environ.pop("RQ_TMP")
    job = home.shell("echo $TMPDIR")

    home.run(job)

    assert home.output(f"rq-{job}.out").splitlines()[1].startswith(f"{place}/roundq-")


def test_without_a_place_the_job_runs_and_says_so(home: SpoolHome, place: Path) -> None:
    """TMPDIR is then what it was."""
    home.environ["RQ_TMP"] = str(place / "gone")
    home.environ["TMPDIR"] = "/var/tmp"
    job = home.shell("echo $TMPDIR")

    home.run(job)

    told = f"rq: it has no TMPDIR of its own: {place}/gone: No such file or directory"
    assert home.output(f"rq-{job}.out").splitlines()[1:3] == [told, "/var/tmp"]
    assert home.state(job) == COMPLETED


def test_a_stranger_in_the_place_keeps_no_job_from_it(home: SpoolHome, place: Path) -> None:
    """Who took the name of the directory has nothing of it."""
    rights.need_root()
    stranger = place / f"roundq-{os.geteuid()}"
    stranger.mkdir()
    stranger.chmod(0o777)
    os.chown(stranger, 65534, 65534)
    job = home.shell("echo $TMPDIR; touch $TMPDIR/x")

    home.run(job)

    path = Path(home.output(f"rq-{job}.out").splitlines()[1])
    assert path.parent.name.startswith(f"{stranger.name}.")
    assert lies(place) == list(stranger.iterdir()) == []


def test_what_a_dead_supervisor_left_is_removed_by_its_daemon(home: SpoolHome, place: Path) -> None:
    """Once nothing of the job lives."""
    job = home.shell("(trap '' TERM; touch $TMPDIR/x; while :; do sleep 0.1; done) & wait")
    home.daemon()
    record = home.wait_for(job, RUNNING)
    wait_until(lambda: [*place.glob("roundq-*/*/x")], on_timeout=home.story)
    assert record.process is not None

    os.kill(home.record(job).process.pid, signal.SIGKILL)  # type: ignore[union-attr]

    home.wait_for(job, ZOMBIE)
    wait_until(lambda: lies(place) == [], on_timeout=home.story)


def test_a_daemon_removes_at_its_start_what_an_earlier_boot_left(home: SpoolHome, place: Path) -> None:
    """Of its own queue; that of another queue of this user may live on another node's terms."""
    earlier = scratch.make(str(place), home.spool.path, Identity("00000000-gone", 1, 2))
    elsewhere = scratch.make(str(place), "/another/queue", Identity("00000000-gone", 1, 2))
    alive = scratch.make(str(place), home.spool.path, procs.own_identity())

    home.daemon()

    wait_until(lambda: not os.path.exists(earlier.path), on_timeout=home.story)
    assert os.path.exists(elsewhere.path)
    assert os.path.exists(alive.path)


# ---------------------------------------------------------------- the daemon's part of it


class Cleared:
    """A clearing in this process."""

    def __init__(self, home: SpoolHome, place: Path) -> None:
        self.place, self.spool_path = str(place), home.spool.path
        self.clearing = Clearing(self.spool_path, logging.getLogger("test"), {})

    def dead(self, start: int = 1) -> scratch.Scratch:
        """What a process of this boot left that is no more."""
        made = scratch.make(self.place, self.spool_path, Identity(procs.boot_id(), 2**22 + 1, start))
        Path(made.path, "file").write_text("x")
        return made

    def run(self, now_s: float = 0.0, held: Callable[[], list[Identity]] = list) -> None:
        """A round, to the end of what it began."""
        self.clearing.run(now_s, self.place, held)
        wait_until(lambda: not self.clearing.is_removing())


@pytest.fixture
def cleared(home: SpoolHome, place: Path) -> Cleared:
    return Cleared(home, place)


def test_nothing_is_removed_of_which_something_may_live(cleared: Cleared) -> None:
    """A supervisor that is not buried yet, and a process that bears its mark."""
    held, marked, neither = cleared.dead(1), cleared.dead(2), cleared.dead(3)
    boot = procs.boot_id()
    env = {**os.environ, "RQ_MARK": environ.mark(Identity(boot, 2**22 + 1, 2))}
    with subprocess.Popen(["sleep", "300"], env=env) as bearer:
        wait_until(lambda: procs.marked(env["RQ_MARK"]) != [])
        cleared.run(held=lambda: [Identity(boot, 2**22 + 1, 1)])
        assert [os.path.exists(one.path) for one in (held, marked, neither)] == [True, True, False]
        bearer.kill()
        bearer.wait()
    cleared.clearing.ask()
    cleared.run()
    assert not os.path.exists(held.path)
    assert not os.path.exists(marked.path)


def test_it_is_looked_at_the_start_once_an_hour_and_when_asked(cleared: Cleared) -> None:
    """And in a new place."""
    cleared.run(0.0)
    left = cleared.dead()
    cleared.run(CLEAR_S - 1)
    assert os.path.exists(left.path)
    cleared.run(CLEAR_S)
    assert not os.path.exists(left.path)
    left = cleared.dead()
    cleared.clearing.ask()
    cleared.run(CLEAR_S + 1)
    assert not os.path.exists(left.path)


def test_a_daemon_does_not_wait_for_it(cleared: Cleared, monkeypatch: pytest.MonkeyPatch) -> None:
    """A million files take a while: they are removed by a process beside it, one such process at a time."""
    left = cleared.dead()
    go = f"{cleared.place}/go"
    os.mkfifo(go)
    remove = scratch.remove

    def slowly(path: str) -> bool:
        with open(go, encoding="utf-8") as file:
            file.read()
        return remove(path)

    def not_asked() -> list[Identity]:
        raise AssertionError("it began anew")

    monkeypatch.setattr(scratch, "remove", slowly)
    cleared.clearing.run(0.0, cleared.place, list)

    assert cleared.clearing.is_removing()
    cleared.clearing.ask()
    cleared.clearing.run(CLEAR_S, cleared.place, not_asked)
    assert os.path.exists(left.path)
    Path(go).write_text("")
    wait_until(lambda: not cleared.clearing.is_removing())
    assert not os.path.exists(left.path)


def test_what_cannot_be_removed_is_told_once(
    cleared: Cleared, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As where something is mounted in it."""
    left = cleared.dead()
    monkeypatch.setattr(scratch, "remove", bool)
    for now_s in (0.0, CLEAR_S, 2 * CLEAR_S):
        cleared.run(now_s)
    assert [record.getMessage() for record in caplog.records] == [
        f"{left.path} cannot be removed: is something mounted in it, or another user's?"
    ]
    monkeypatch.undo()
    cleared.run(3 * CLEAR_S)
    assert nodelock.own_directories(cleared.place)
    assert not os.path.exists(left.path)


def test_a_daemon_pins_each_job_and_hands_out_each_gpu_once(home: SpoolHome) -> None:
    """All of it together: as many jobs at once as there are cores, on CPUs and GPUs of their own."""
    config = home.home / ".config"
    config.mkdir()
    (config / "roundq.toml").write_text(f'cores = "logical"\n[nodes.{NODE}]\ngpus = {len(ALLOWED)}\n')
    script = f"({LOOK}; echo gpus=$CUDA_VISIBLE_DEVICES) > seen.$RQ_JOB_ID; sleep 1"
    jobs = [home.shell(script, gpus=1) for _ in ALLOWED]
    without = home.shell("env | grep ^CUDA_VISIBLE_DEVICES= > seen.$RQ_JOB_ID")

    home.daemon()

    for job in (*jobs, without):
        home.wait_for(job, COMPLETED)
    seen = [home.output(f"seen.{job}").split() for job in jobs]
    assert [lines[0] for lines in seen] == ["1"] * len(ALLOWED)
    assert sorted(int(lines[2]) for lines in seen) == ALLOWED
    assert sorted(lines[3] for lines in seen) == [f"gpus={at}" for at in range(len(ALLOWED))]
    assert home.output(f"seen.{without}") == "CUDA_VISIBLE_DEVICES=\n"


def test_a_stranger_on_a_gpu_is_seen_whatever_other_nodes_have_granted(
    home: SpoolHome, tmp_path: Path
) -> None:
    """Ids of GPUs are those of one node; a card tells of strangers, and of what is not offered, and why."""
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidiactl").write_text("")
    publish(neighbour(home), OTHER, jobs=(holding(gpus=("0",)),))
    publish(neighbour(home), NODE, jobs=(holding(gpus=("1",)),))
    one = round_of(home)
    stranger = subprocess.Popen(["sleep", "300"])
    script = tmp_path / "nvidia-smi"
    script.write_text(
        "#!/bin/sh\n"
        'case "$1" in --query-gpu=*)\n'
        'for i in 0 1 2; do echo "$i, U$i, 0:0, 1024, Disabled, A100"; done\n'
        'echo "3, U3, 0:0, 1024, Enabled, A100";;\n'
        f'*) echo "U0, {stranger.pid}"; echo "U1, {stranger.pid}";; esac\n'
    )
    script.chmod(0o755)
    one.gpus = Gpus({"PATH": f"{tmp_path}:{os.environ['PATH']}"}, str(tmp_path))
    home.submit("/bin/true", gpus=100)
    try:
        one.run(100.0)
        wait_until(lambda: one.gpus.look(100.0) != ())
        # Before the minute after which it is asked again.
        one.run(110.0)
        one.run(120.0)
    finally:
        stranger.kill()
        stranger.wait()
        one.gpus.close()

    assert one.card is not None
    assert [(gpu.id, gpu.busy) for gpu in one.card.gpus] == [("0", True), ("1", False), ("2", False)]
    assert "GPU 3 is divided (MIG): its parts are not offered" in one.card.trouble
