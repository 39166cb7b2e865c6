"""Promises about `roundq.dirjobs`: what dirjobs' README shows, and that its defects are mended.

The numbers of the defects are those of the study of dirjobs at which this module began.
"""

from __future__ import annotations

import errno
import fnmatch
import inspect
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from roundq.dirjobs import DirJobs, DirJobsError, DoubleRun, Job, double_runs
from roundq.faces.api.means import Means, me
from roundq.words import jobdir as words
from roundq.words.errors import UsageError
from roundq.words.job import Identity
from roundq.words.jobdir import Author
from roundq.world import files

STATES = ("00_waiting", "01_running", "02_done", "99_failed")


@pytest.fixture
def jobs(tmp_path: Path) -> Path:
    """A job directory without jobs."""
    path = tmp_path / "jobs"
    (path / "00_waiting").mkdir(parents=True)
    return path


def add(jobs: Path, *names: str) -> None:
    for name in names:
        (jobs / "00_waiting" / name).write_text(f"content of {name}")


def where(jobs: Path) -> dict[str, list[str]]:
    """What is where, without what is empty."""
    return {state: names for state in STATES if (names := sorted(os.listdir(jobs / state)))}


class Time:
    """Clocks that go when one sleeps, and then do what has been planned."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.planned: list[Callable[[], object]] = []

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        if self.planned:
            self.planned.pop(0)()


class Disk:
    """The real one, with refusals."""

    def __init__(self) -> None:
        self.refusals: list[OSError] = []
        self.listed: list[str] = []
        #: Names that a listing of waiting jobs has although they are gone.
        self.ghosts: list[str] = []
        #: What the next diaries answer that are read.
        self.unreadable: list[OSError] = []
        #: Of so many moves that happen the answer is an error.
        self.lost_answers = 0

    def read(self, path: str, *, most: int) -> bytes:
        if self.unreadable:
            raise self.unreadable.pop(0)
        return files.read(path, most=most)

    def __getattr__(self, name: str) -> Any:
        return getattr(files, name)

    def names(self, directory: str) -> list[str]:
        self.listed.append(os.path.basename(directory))
        return files.names(directory) + (self.ghosts if directory.endswith("00_waiting") else [])

    def move_new(self, source: str, target: str, may_be_ours: Callable[[], bool] = lambda: True) -> bool:
        if self.refusals:
            raise self.refusals.pop(0)
        done = files.move_new(source, target, may_be_ours)
        self._answer()
        return done

    def move(self, source: str, target: str) -> bool:
        done = files.move(source, target)
        self._answer()
        return done

    def _answer(self) -> None:
        """What is moved is moved, whether the answer comes or not."""
        if self.lost_answers:
            self.lost_answers -= 1
            raise OSError(errno.EIO, "Input/output error")


@pytest.fixture(autouse=True)
def _told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def worker(jobs: Path, time: Time, disk: Disk) -> Callable[..., DirJobs]:
    """Makes workers, by default in the order of names, whose time only goes when they sleep."""

    class Worker(DirJobs):
        _means = Means(disk, lambda: time.now_s, lambda: 1790000000 + time.now_s, time.sleep)

    return lambda *args, **options: Worker(jobs, *args, **{"rnd_job": False, **options})


def taken(worker: DirJobs) -> str:
    job = worker.next_and_lock()
    assert job is not None
    return job.name()


# ---------------------------------------------------------------- the README of dirjobs

QUICK_START = """
from roundq.dirjobs import DirJobs

dj = DirJobs("jobs/")

while True:

    job = dj.next_and_lock()

    if not job:
        print("No more jobs!")
        break

    print("Processing: %s" % job.path())

    job.done() # or job.failed()
"""


def test_the_quick_start_runs_with_the_import_changed(jobs: Path) -> None:
    """Of two jobs either may be the first, as in dirjobs; the rest is as its README shows it."""
    for name in ("job1.txt", "job2.txt"):
        (jobs / "00_waiting" / name).touch()
    said = subprocess.run(
        [sys.executable, "-c", QUICK_START],
        cwd=jobs.parent,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert said.stderr == ""
    lines = said.stdout.splitlines()
    assert sorted(lines[:2]) == [
        "Processing: jobs/01_running/w1.job1.txt",
        "Processing: jobs/01_running/w1.job2.txt",
    ]
    assert lines[2:] == ["No more jobs!"]
    assert where(jobs) == {"02_done": ["job1.txt", "job2.txt"]}


def test_jobs_are_filtered_as_the_readme_shows(jobs: Path) -> None:
    add(jobs, "a.txt", "tag.txt", "b.txt")
    seen = []

    def job_filter(path: str, name: str) -> bool:
        seen.append((path, name))
        return "tag" in name

    worker = DirJobs(f"{jobs}/", job_filter=job_filter)
    assert taken(worker) == "tag.txt"
    assert (f"{jobs}/00_waiting/tag.txt", "tag.txt") in seen


def test_the_directories_are_made(tmp_path: Path) -> None:
    DirJobs(tmp_path / "new" / "jobs")
    assert {*STATES} < set(os.listdir(tmp_path / "new" / "jobs"))


def test_a_job_tells_its_names_and_paths(jobs: Path, worker: Callable[..., DirJobs]) -> None:
    add(jobs, "a.b.txt")
    job = worker("w7").next_and_lock()
    assert job is not None
    assert (job.name(), job.name_woext(), job.full_name()) == ("a.b.txt", "a.b", "w7.a.b.txt")
    assert job.path() == f"{jobs}/01_running/w7.a.b.txt"
    assert str(job) == f"Job({job.path()})"
    assert Path(job.path()).read_text() == "content of a.b.txt"
    job.failed()
    assert job.path() == f"{jobs}/99_failed/1790000000.a.b.txt"
    assert Path(job.path()).read_text() == "content of a.b.txt"


def test_only_files_with_the_extension_are_jobs(jobs: Path, worker: Callable[..., DirJobs]) -> None:
    add(jobs, "a.txt", "b.job", "c.txt.part")
    dj = worker(job_ext=".job")
    assert taken(dj) == "b.job"
    assert where(jobs)["00_waiting"] == ["a.txt", "c.txt.part"]


def test_workers_may_have_ids_of_letters_and_digits_only(jobs: Path) -> None:
    for wid in ("", "w.1", "w 1", "w1\n", "ü", "../w", 1):
        with pytest.raises(UsageError, match="letters and digits only"):
            DirJobs(jobs, wid=wid)  # type: ignore[arg-type]


def test_jobs_are_taken_at_random_unless_told_otherwise(jobs: Path) -> None:
    """Two workers that draw do not always try the same one."""
    add(jobs, *(f"{number:02}.txt" for number in range(60)))
    drawing, ordered = DirJobs(jobs), DirJobs(jobs, "w2", rnd_job=False)
    assert taken(ordered) in ("00.txt", "01.txt")
    drawn = []
    for _ in range(20):
        job = drawing.next_and_lock()
        assert job
        drawn.append(job.name())
        job.done()
    assert drawn != sorted(drawn)


def test_the_manual_tells_what_there_is() -> None:
    """The class with its arguments, as dirjobs has them, and every method."""
    page = (Path(__file__).parents[2] / "man" / "roundq.3").read_text()
    told = page.partition(".Sh DIRJOBS")[2].partition(".Sh ")[0]
    arguments = " ".join(
        f'"{one.name}"' if one.default is one.empty else f"{one.name}={one.default!r}"
        for one in inspect.signature(DirJobs).parameters.values()
    )
    assert arguments == (
        "\"jobsdir\" wid='w1' rnd_job=True job_ext='.txt' worker_sync=False sync_time=1 job_filter=None"
    )
    assert f".It Fn DirJobs {arguments}\n" in told
    for kind in (DirJobs, Job):
        for name in vars(kind):
            assert name.startswith("_") or re.search(rf"^\.(It )?Fn {name}\b", told, re.MULTILINE), name


# ---------------------------------------------------------------- its defects


def test_defect_1_the_loser_of_a_conflict_removes_its_own_claim_and_goes_on(
    jobs: Path, worker: Callable[..., DirJobs], time: Time
) -> None:
    """It looked for another name, and died; its claim stayed for ever."""
    add(jobs, "1.txt", "2.txt")
    # The same file under both names, as such a mount leaves it.
    time.planned = [lambda: (jobs / "01_running" / "w1.1.txt").write_text("content of 1.txt")]
    assert taken(worker("w2", worker_sync=True)) == "2.txt"
    assert where(jobs) == {"01_running": ["w1.1.txt", "w2.2.txt"]}


def test_defect_2_a_name_that_contains_another_is_no_conflict(
    jobs: Path, worker: Callable[..., DirJobs], time: Time
) -> None:
    """1.txt was taken for claimed because of job11.txt."""
    add(jobs, "1.txt")
    time.planned = [lambda: (jobs / "01_running" / "w1.job11.txt").touch()]
    assert taken(worker("w2", worker_sync=True)) == "1.txt"


@pytest.mark.parametrize(("wid", "other", "is_mine"), [("w10", "w2", True), ("w2", "w10", False)])
def test_defect_3_the_first_in_the_order_of_characters_wins(
    wid: str, other: str, is_mine: bool, jobs: Path, worker: Callable[..., DirJobs], time: Time
) -> None:
    """w10 before w2: surprising, but all workers must agree, old ones too; so it is told in the manual."""
    add(jobs, "1.txt")
    time.planned = [lambda: (jobs / "01_running" / f"{other}.1.txt").write_text("content of 1.txt")]
    assert (worker(wid, worker_sync=True).next_and_lock() is not None) is is_mine


@pytest.mark.parametrize("worker_sync", [False, True])
def test_defect_4_a_worker_has_one_job_and_is_told_so(
    worker_sync: bool, jobs: Path, worker: Callable[..., DirJobs]
) -> None:
    """It was handed a second one, or was told that nothing is left."""
    add(jobs, "1.txt", "2.txt")
    dj = worker(worker_sync=worker_sync)
    job = dj.next_and_lock()
    assert job is not None
    with pytest.raises(DirJobsError, match=r"worker w1 has 1\.txt still"):
        dj.next_and_lock()
    job.done()
    assert taken(dj) == "2.txt"


def test_defect_5_no_result_replaces_another(jobs: Path, worker: Callable[..., DirJobs]) -> None:
    """Two failures of one second, and two jobs of one name that are done."""
    for state in ("failed", "failed", "done", "done", "done"):
        add(jobs, "1.txt")
        job = worker().next_and_lock()
        assert job is not None
        getattr(job, state)()
    assert where(jobs) == {
        "02_done": ["1.txt", "1790000000.1.txt", "1790000001.1.txt"],
        "99_failed": ["1790000000.1.txt", "1790000001.1.txt"],
    }


def test_defect_5_an_end_that_is_told_twice_is_told_once(jobs: Path, worker: Callable[..., DirJobs]) -> None:
    add(jobs, "1.txt")
    job = worker().next_and_lock()
    assert job is not None
    job.done()
    job.done()
    with pytest.raises(DirJobsError, match=r"1\.txt is in 02_done already"):
        job.failed()
    assert where(jobs) == {"02_done": ["1.txt"]}


def test_defect_6_a_claim_that_is_not_listed_yet_is_looked_for_again(
    jobs: Path, worker: Callable[..., DirJobs], disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An assertion failed, and with it the worker."""
    add(jobs, "1.txt")
    stale = [["w9.other.txt"]] * 3
    real = disk.names

    def names(directory: str) -> list[str]:
        if directory.endswith("01_running") and (jobs / "01_running" / "w1.1.txt").exists() and stale:
            return stale.pop()
        return real(directory)

    monkeypatch.setattr(disk, "names", names)
    assert taken(worker(worker_sync=True)) == "1.txt"
    assert stale == []


def test_defect_6_a_claim_that_was_taken_away_is_not_run(
    jobs: Path, worker: Callable[..., DirJobs], time: Time
) -> None:
    add(jobs, "1.txt")
    time.planned = [lambda: (jobs / "01_running" / "w1.1.txt").unlink()]
    assert worker(worker_sync=True).next_and_lock() is None


@pytest.mark.parametrize("number", [errno.EACCES, errno.EBUSY, errno.EIO, errno.ESTALE, errno.ETIMEDOUT])
def test_defect_7_what_a_mount_refuses_for_a_moment_is_tried_again(
    number: int, jobs: Path, worker: Callable[..., DirJobs], disk: Disk
) -> None:
    """Each of them ended the worker; also while a job is ended."""
    add(jobs, "1.txt")
    disk.refusals = [OSError(number, os.strerror(number)) for _ in range(3)]
    job = worker().next_and_lock()
    assert job is not None
    disk.refusals = [OSError(number, os.strerror(number)) for _ in range(3)]
    job.done()
    assert where(jobs) == {"02_done": ["1.txt"]}


def test_defect_7_what_is_refused_for_ever_is_an_error_and_not_the_end_of_all_jobs(
    jobs: Path, worker: Callable[..., DirJobs], disk: Disk, time: Time
) -> None:
    add(jobs, "1.txt")
    disk.refusals = [PermissionError(errno.EACCES, "Permission denied") for _ in range(1000)]
    with pytest.raises(DirJobsError, match=r"cannot take 1\.txt in .*jobs: Permission denied"):
        worker().next_and_lock()
    assert 2 <= time.now_s < 5
    assert where(jobs) == {"00_waiting": ["1.txt"]}


def test_defect_7_an_old_list_is_not_read_again_without_a_pause(
    worker: Callable[..., DirJobs], disk: Disk, time: Time
) -> None:
    """A name that is gone stays listed for a minute: few looks, and then it is no job."""
    disk.ghosts = ["gone.txt"]
    assert worker().next_and_lock() is None
    assert time.now_s >= 2
    assert disk.listed.count("00_waiting") < 30


def test_defect_7_a_job_that_could_not_be_ended_can_be_ended_later(
    jobs: Path, worker: Callable[..., DirJobs], disk: Disk
) -> None:
    add(jobs, "1.txt")
    job = worker().next_and_lock()
    assert job is not None
    disk.refusals = [OSError(errno.EIO, "Input/output error") for _ in range(1000)]
    with pytest.raises(DirJobsError, match=r"cannot move 1\.txt to 02_done in .*: Input/output error"):
        job.done()
    disk.refusals = []
    job.done()
    assert where(jobs) == {"02_done": ["1.txt"]}


@pytest.mark.parametrize(
    ("end", "there"),
    [
        ("done", "02_done/1.txt"),
        ("failed", "99_failed/17900*.1.txt"),
        ("give_back", "00_waiting/1.txt"),
    ],
)
@pytest.mark.parametrize("worker_sync", [False, True])
def test_a_move_that_happened_is_believed_though_the_answer_was_an_error(
    jobs: Path, worker: Callable[..., DirJobs], disk: Disk, end: str, there: str, worker_sync: bool
) -> None:
    """A claim is gone on with, and an end is one: nobody else is said to have moved the job."""
    add(jobs, "1.txt")
    disk.lost_answers = 1
    dj = worker(worker_sync=worker_sync)
    job = dj.next_and_lock()
    assert job is not None
    assert where(jobs) == {"01_running": ["w1.1.txt"]}
    disk.lost_answers = 1
    getattr(job, end)()
    assert disk.lost_answers == 0
    assert [str(path) for path in jobs.glob("[0-9]*/*")] == [job.path()]
    assert fnmatch.fnmatchcase(job.path(), f"{jobs}/{there}")
    (diary,) = dj._dir.diaries()
    assert diary.open is None


def test_a_job_that_was_added_is_not_said_to_wait_already(
    jobs: Path, worker: Callable[..., DirJobs], disk: Disk
) -> None:
    """By whoever added it, and only had no answer."""
    disk.lost_answers = 1
    worker().put("1.txt", "content")
    assert disk.lost_answers == 0
    assert where(jobs) == {"00_waiting": ["1.txt"]}


def test_a_claim_that_may_have_been_made_is_looked_for_by_the_next_call(
    jobs: Path, worker: Callable[..., DirJobs], disk: Disk
) -> None:
    """Meanwhile the mount answers nothing; the job is not forgotten among the claims."""
    add(jobs, "1.txt", "2.txt")
    dj = worker()
    assert taken(dj) == "1.txt"
    assert dj._job is not None
    dj._job.done()
    disk.lost_answers = 1
    disk.unreadable = [OSError(errno.EIO, "Input/output error") for _ in range(1000)]
    with pytest.raises(DirJobsError, match=r"cannot see whether 2\.txt was taken in .*: Input/output error"):
        dj.next_and_lock()
    disk.unreadable = []
    assert taken(dj) == "2.txt"


def test_an_end_whose_answer_is_lost_for_long_is_found_later(
    jobs: Path, worker: Callable[..., DirJobs], disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where another job of the name is among the done ones."""
    add(jobs, "1.txt")
    (jobs / "02_done").mkdir()
    (jobs / "02_done" / "1.txt").touch()
    job = worker().next_and_lock()
    assert job is not None
    disk.lost_answers = 1

    def names(_: str) -> list[str]:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(disk, "names", names)
        with pytest.raises(DirJobsError, match=r"cannot move 1\.txt to 02_done"):
            job.done()
    job.done()
    assert where(jobs) == {"02_done": ["1.txt", "1790000000.1.txt"]}
    assert job.path().endswith("/02_done/1790000000.1.txt")


def test_defect_8_a_file_is_never_copied(jobs: Path, worker: Callable[..., DirJobs], disk: Disk) -> None:
    """Across file systems there is no rename: an error, at once, and the job waits."""
    add(jobs, "1.txt")
    inode = (jobs / "00_waiting" / "1.txt").stat().st_ino
    disk.refusals = [OSError(errno.EXDEV, "Invalid cross-device link")]
    with pytest.raises(DirJobsError, match="cross-device link") as caught:
        worker().next_and_lock()
    assert "must be on one file system" in (caught.value.hint or "")
    job = worker().next_and_lock()
    assert job is not None
    job.done()
    assert (jobs / "02_done" / "1.txt").stat().st_ino == inode


CRASH = """
import os, sys
from roundq.dirjobs import DirJobs
job = DirJobs(sys.argv[1], wid=sys.argv[2]).next_and_lock()
os._exit(9)
"""


def crash(jobs: Path, wid: str = "w1") -> None:
    """A worker that dies while it has a job."""
    subprocess.run(
        [sys.executable, "-c", CRASH, str(jobs), wid],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        check=False,
        timeout=60,
    )


def test_defect_9_a_worker_goes_on_with_what_a_dead_one_of_its_id_had(jobs: Path) -> None:
    """And no other does."""
    add(jobs, "1.txt")
    crash(jobs)
    assert where(jobs) == {"01_running": ["w1.1.txt"]}
    assert DirJobs(jobs, "w2").next_and_lock() is None
    job = DirJobs(jobs, "w1").next_and_lock()
    assert job is not None
    assert job.name() == "1.txt"
    # It lives, and has it: what has the same id does not touch it.
    assert DirJobs(jobs, "w1").next_and_lock() is None
    job.done()
    assert where(jobs) == {"02_done": ["1.txt"]}


def test_what_a_worker_took_over_is_its_own_though_the_answer_was_an_error(
    jobs: Path, worker: Callable[..., DirJobs], disk: Disk
) -> None:
    """The diary of the dead one bears its name already."""
    add(jobs, "1.txt")
    crash(jobs)
    disk.lost_answers = 1
    assert taken(worker()) == "1.txt"
    assert disk.lost_answers == 0


def test_defect_9_it_is_known_where_a_job_runs(jobs: Path) -> None:
    add(jobs, "1.txt")
    job = DirJobs(jobs).next_and_lock()
    assert job is not None
    (file,) = os.listdir(jobs / ".workers")
    diary = words.parse(file, (jobs / ".workers" / file).read_bytes())
    assert diary is not None
    assert (diary.wid, diary.open, diary.author) == ("w1", "1.txt", me())


@pytest.mark.parametrize("is_known", [False, True])
def test_defect_9_what_nobody_knows_to_be_dead_is_left_and_told(
    is_known: bool, jobs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker of another node, or of the old dirjobs, may still be at work."""
    running = jobs / "01_running" / "w1.1.txt"
    DirJobs(jobs)
    running.touch()
    if is_known:
        author = Author("node9", "m", "s", Identity("b", 7, 1))
        (jobs / ".workers" / "w1.0.aa").write_bytes(words.heading(author) + words.claims("1.txt"))
    assert DirJobs(jobs).next_and_lock() is None
    assert where(jobs) == {"01_running": ["w1.1.txt"]}
    assert "it is not known whether worker w1, which has it" in caplog.text
    assert ("node9, pid 7" in caplog.text) is is_known


def test_defect_10_two_workers_of_one_id_do_not_run_one_job(
    jobs: Path, worker: Callable[..., DirJobs], time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    """Their claims have one name; their diaries do not."""
    add(jobs, "1.txt", "2.txt")
    author = Author("node9", "m", "s", Identity("b", 7, 1))
    twin = jobs / ".workers" / "w1.!"

    def claimed_too() -> None:
        twin.write_bytes(words.heading(author) + words.claims("1.txt"))

    time.planned = [claimed_too]
    assert taken(worker(worker_sync=True)) == "2.txt"
    assert where(jobs) == {"01_running": ["w1.1.txt", "w1.2.txt"]}
    assert "two workers are called w1: another has 1.txt" in caplog.text


TWIN = """
import sys, time
from roundq.dirjobs import DirJobs
dj = DirJobs(sys.argv[1], rnd_job=False)
print("ready", flush=True)
sys.stdin.readline()
while job := dj.next_and_lock():
    print(job.name(), flush=True)
    job.done()
"""


def test_defect_10_workers_that_all_have_the_default_id_run_each_job_once(jobs: Path) -> None:
    """What one has claimed another, who came too late, does not take for its own claim."""
    everything = [f"{number:03}.txt" for number in range(60)]
    add(jobs, *everything)
    twins = [
        subprocess.Popen(
            [sys.executable, "-c", TWIN, str(jobs)],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for twin in twins:
        assert twin.stdout is not None
        assert twin.stdout.readline() == "ready\n"
    for twin in twins:
        assert twin.stdin is not None
        twin.stdin.write("go\n")
        twin.stdin.flush()
    ran = [name for twin in twins for name in twin.communicate(timeout=60)[0].split()]
    assert [twin.returncode for twin in twins] == [0, 0, 0]
    assert sorted(ran) == everything
    assert where(jobs) == {"02_done": everything}


def test_defect_10_a_claim_that_another_of_the_id_made_first_is_not_ours(
    jobs: Path, worker: Callable[..., DirJobs], disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was there when we looked, and is gone under the very name that we would give it."""
    add(jobs, "1.txt")
    twin = DirJobs(jobs)
    real = files._rename_new

    def later(source: str, target: str) -> None:
        monkeypatch.setattr(files, "_rename_new", real)
        assert twin.next_and_lock() is not None
        real(source, target)

    monkeypatch.setattr(files, "_rename_new", later)
    assert worker().next_and_lock() is None
    assert disk.listed


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT])
def test_a_diary_that_cannot_be_read_now_is_not_passed_over(
    number: int, jobs: Path, worker: Callable[..., DirJobs], disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker, of the same id, has just taken the job: that it cannot be seen for a moment gives nobody
    the job a second time."""
    add(jobs, "1.txt")
    twin = DirJobs(jobs)
    real = files._rename_new

    def later(source: str, target: str) -> None:
        monkeypatch.setattr(files, "_rename_new", real)
        assert twin.next_and_lock() is not None
        disk.unreadable = [OSError(number, os.strerror(number)) for _ in range(3)]
        real(source, target)

    monkeypatch.setattr(files, "_rename_new", later)
    assert worker().next_and_lock() is None
    assert len(disk.unreadable) < 3
    assert where(jobs) == {"01_running": ["w1.1.txt"]}


def test_a_diary_that_can_never_be_read_is_named(
    jobs: Path, worker: Callable[..., DirJobs], disk: Disk
) -> None:
    """It may be of who has a job: so none is taken, and nothing is lost."""
    add(jobs, "1.txt")
    twin = DirJobs(jobs)
    assert twin.next_and_lock() is not None
    (diary,) = os.listdir(jobs / ".workers")
    path = f"{jobs}/.workers/{diary}"
    disk.unreadable = [PermissionError(errno.EACCES, "Permission denied", path) for _ in range(1000)]
    with pytest.raises(
        DirJobsError, match=r"cannot look for what was left in .*: Permission denied"
    ) as caught:
        worker(worker_sync=True).next_and_lock()
    assert caught.value.hint == f"{path} tells which job a worker has: if that worker is dead, remove it"


def test_a_job_has_ended_though_nobody_can_look_whether_it_was_run_twice(
    jobs: Path, worker: Callable[..., DirJobs], disk: Disk
) -> None:
    """The next call looks again."""
    add(jobs, "1.txt", "2.txt")
    dj = worker(worker_sync=True)
    job = dj.next_and_lock()
    assert job is not None
    disk.unreadable = [OSError(errno.EIO, "Input/output error") for _ in range(1000)]
    job.done()
    assert where(jobs) == {"00_waiting": ["2.txt"], "02_done": ["1.txt"]}
    with pytest.raises(DirJobsError, match="cannot read the diaries in"):
        dj.next_and_lock()
    disk.unreadable = []
    assert taken(dj) == "2.txt"


def test_defect_10_a_claim_is_never_replaced(
    jobs: Path, worker: Callable[..., DirJobs], caplog: pytest.LogCaptureFixture
) -> None:
    """A further job of the same name waits until the first has ended."""
    add(jobs, "1.txt")
    first = worker()
    job = first.next_and_lock()
    add(jobs, "1.txt")
    assert worker().next_and_lock() is None
    assert "1.txt waits until" in caplog.text
    assert job is not None
    job.done()
    assert taken(worker()) == "1.txt"


def test_defect_11_what_is_still_written_is_no_job(jobs: Path, worker: Callable[..., DirJobs]) -> None:
    """Hidden names are unfinished, whatever they end in; `put` writes so."""
    add(jobs, ".1.txt")
    dj = worker()
    assert dj.next_and_lock() is None
    dj.put("2.txt", "content")
    with pytest.raises(DirJobsError, match=r"2\.txt waits already"):
        dj.put("2.txt", "other")
    for name in ("", ".hidden.txt", "a/b.txt", "nul\0.txt"):
        with pytest.raises(UsageError, match="a job cannot be called"):
            dj.put(name)
    # It would wait for ever.
    with pytest.raises(UsageError, match=r"3\.job does not end in \.txt: this worker would never take it"):
        dj.put("3.job")
    worker(job_ext="").put("4")
    os.remove(jobs / "00_waiting" / "4")
    job = dj.next_and_lock()
    assert job is not None
    assert Path(job.path()).read_text() == "content"
    assert where(jobs)["00_waiting"] == [".1.txt"]


class Crash(BaseException):
    """The process is killed."""


class CrashingDisk(Disk):
    """A real one that is no more after so many operations that change something."""

    def __init__(self, operations: int) -> None:
        super().__init__()
        self.left = operations

    def __getattr__(self, name: str) -> Any:
        real = getattr(files, name)

        def counted(*args: Any, **options: Any) -> Any:
            if not self.left:
                raise Crash
            self.left -= 1
            return real(*args, **options)

        return counted if name in ("remove", "move", "append", "write_temporary") else real

    def move_new(self, source: str, target: str, may_be_ours: Callable[[], bool] = lambda: True) -> bool:
        if not self.left:
            raise Crash
        self.left -= 1
        return super().move_new(source, target, may_be_ours)


@pytest.mark.parametrize("worker_sync", [False, True])
def test_defect_9_no_crash_loses_a_job(worker_sync: bool, tmp_path: Path, time: Time) -> None:
    """A worker that dies at any of its operations, and its heir at any, leave every job to the next."""

    def work(disk: Disk, jobs: Path, author: Author) -> None:
        class Worker(DirJobs):
            _means = Means(disk, lambda: time.now_s, lambda: time.now_s, time.sleep, author=lambda: author)

        dj = None
        try:
            dj = Worker(jobs, rnd_job=False, worker_sync=worker_sync)
            while job := dj.next_and_lock():
                job.done()
            dj._diary.leave()
        except Crash:
            pass
        if dj is not None:
            # Nothing is tidied up after it.
            dj._diary._pid = 0

    is_over = False
    total = 0
    while not is_over:
        for second in (0, 1, 2, 3, 4, 100):
            jobs = tmp_path / f"{total} {second}"
            (jobs / "00_waiting").mkdir(parents=True)
            add(jobs, "1.txt", "2.txt")
            first = CrashingDisk(total)
            work(first, jobs, replace_process(me()))
            is_over = first.left > 0
            work(CrashingDisk(second), jobs, replace_process(replace_process(me())))
            work(Disk(), jobs, me())
            assert where(jobs) == {"02_done": ["1.txt", "2.txt"]}, (total, second)
            assert double_runs(jobs) == []
        total += 1
    assert total > 8


# ---------------------------------------------------------------- and more


def test_a_worker_loads_nothing_that_is_slow() -> None:
    """Neither tables nor the reader of records."""
    code = (
        "import sys, roundq.dirjobs;"
        "print(*{'rich', 'pydantic', 'pydantic_core', 'psutil', 'asyncio', 'subprocess'} & set(sys.modules))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert said.stdout == "\n"


def test_a_long_list_is_not_made_anew_for_each_job(
    jobs: Path, worker: Callable[..., DirJobs], disk: Disk, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is used for as long as twenty of its kind take."""
    add(jobs, *(f"{number:03}.txt" for number in range(200)))
    real = disk.names

    def slow(directory: str) -> list[str]:
        time.now_s += 1.0
        return real(directory)

    monkeypatch.setattr(disk, "names", slow)
    dj = worker()
    for _ in range(200):
        job = dj.next_and_lock()
        assert job
        job.done()
        time.now_s += 0.1
    assert disk.listed.count("00_waiting") <= 2


def test_a_new_job_is_seen_at_once_where_lists_are_short(jobs: Path, worker: Callable[..., DirJobs]) -> None:
    add(jobs, "5.txt", "6.txt")
    dj = worker()
    job = dj.next_and_lock()
    assert job
    job.done()
    add(jobs, "1.txt")
    assert taken(dj) == "1.txt"


def test_another_job_of_the_name_is_not_lost_in_a_conflict(
    jobs: Path, worker: Callable[..., DirJobs], time: Time
) -> None:
    """Only what is certainly the same file is removed: this one waits until the other has ended."""
    add(jobs, "1.txt")
    time.planned = [lambda: (jobs / "01_running" / "w1.1.txt").write_text("another content")]
    dj = worker("w2", worker_sync=True)
    assert dj.next_and_lock() is None
    assert where(jobs) == {"00_waiting": ["1.txt"], "01_running": ["w1.1.txt"]}
    (jobs / "01_running" / "w1.1.txt").unlink()
    assert taken(dj) == "1.txt"


def test_what_cannot_be_compared_is_kept(jobs: Path, worker: Callable[..., DirJobs], time: Time) -> None:
    add(jobs, "1.txt")
    time.planned = [lambda: (jobs / "01_running" / "w1.1.txt").symlink_to("nowhere")]
    assert worker("w2", worker_sync=True).next_and_lock() is None
    (kept,) = (jobs / "01_running").glob(".w2.1.txt.*")
    assert kept.read_text() == "content of 1.txt"


def test_a_job_that_is_given_back_waits_again(jobs: Path, worker: Callable[..., DirJobs]) -> None:
    add(jobs, "1.txt")
    dj = worker()
    job = dj.next_and_lock()
    assert job is not None
    job.give_back()
    assert job.path() == f"{jobs}/00_waiting/1.txt"
    assert taken(dj) == "1.txt"


def test_a_job_that_somebody_moved_is_told(jobs: Path, worker: Callable[..., DirJobs]) -> None:
    """Its worker can go on."""
    add(jobs, "1.txt", "2.txt")
    dj = worker()
    job = dj.next_and_lock()
    assert job is not None
    os.unlink(job.path())
    with pytest.raises(DirJobsError, match=r"w1\.1\.txt is not there any more"):
        job.done()
    assert taken(dj) == "2.txt"


def test_an_earlier_result_is_not_taken_for_this_one(jobs: Path, worker: Callable[..., DirJobs]) -> None:
    """The job is gone, and another of its name was done before."""
    add(jobs, "1.txt")
    job = worker().next_and_lock()
    assert job is not None
    os.unlink(job.path())
    (jobs / "02_done" / "1.txt").touch()
    with pytest.raises(DirJobsError, match=r"w1\.1\.txt is not there any more"):
        job.done()


def test_a_wait_that_is_interrupted_is_gone_on_with(
    jobs: Path, worker: Callable[..., DirJobs], time: Time
) -> None:
    """The claim stays: another worker may have seen it, and yielded."""
    add(jobs, "1.txt", "2.txt")

    def interrupt() -> None:
        raise KeyboardInterrupt

    time.planned = [interrupt]
    dj = worker(worker_sync=True)
    with pytest.raises(KeyboardInterrupt):
        dj.next_and_lock()
    assert taken(dj) == "1.txt"


def test_a_forked_worker_is_another_one(jobs: Path) -> None:
    """It has no job of its parent's, and does not end it."""
    add(jobs, "1.txt", "2.txt")
    dj = DirJobs(jobs, rnd_job=False)
    job = dj.next_and_lock()
    assert job is not None
    child = os.fork()
    if child == 0:
        code = 1
        try:
            own = dj.next_and_lock()
            assert own is not None
            assert own.name() == "2.txt"
            own.done()
            with pytest.raises(DirJobsError, match="the process that forked"):
                job.done()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    job.done()
    assert where(jobs) == {"02_done": ["1.txt", "2.txt"]}


def test_the_working_directory_may_change(jobs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(jobs, "1.txt")
    monkeypatch.chdir(jobs.parent)
    job = DirJobs("jobs").next_and_lock()
    monkeypatch.chdir("/")
    assert job is not None
    job.done()
    assert job.path() == "jobs/02_done/1.txt"
    assert where(jobs) == {"02_done": ["1.txt"]}


def test_nothing_is_left_of_a_worker_that_trusts_renames(jobs: Path) -> None:
    add(jobs, "1.txt")
    dj = DirJobs(jobs)
    job = dj.next_and_lock()
    assert job is not None
    job.done()
    assert len(os.listdir(jobs / ".workers")) == 1
    del job, dj
    assert os.listdir(jobs / ".workers") == []


def test_what_others_write_into_diaries_harms_nobody(jobs: Path, worker: Callable[..., DirJobs]) -> None:
    add(jobs, "1.txt")
    DirJobs(jobs)
    for place, content in enumerate(
        (
            b"",
            b"\0\n",
            b"[" * 100000 + b"\n",
            b'{"runs":7}\n{"runs":"1.txt","knew":{}}\n',
            b'{"node":1}\n"\n[]\n',
        )
    ):
        (jobs / ".workers" / f"w1.{place}").write_bytes(content)
    (jobs / ".workers" / "w1.link").symlink_to("/dev/zero")
    (jobs / ".workers" / "no diary").touch()
    os.mkfifo(jobs / ".workers" / "w1.fifo")
    assert taken(worker("w2", worker_sync=True)) == "1.txt"


def test_old_diaries_are_removed(jobs: Path, worker: Callable[..., DirJobs]) -> None:
    """Of workers that are gone, a day after; by the time of the file server."""
    DirJobs(jobs)
    author = replace_process(me())
    told = words.heading(author) + words.claims("1.txt") + words.runs("1.txt", ()) + words.ended("1.txt")
    for name, age_s in (("w8.new", 3600), ("w9.old", 100000)):
        path = jobs / ".workers" / name
        path.write_bytes(told)
        os.utime(path, (path.stat().st_mtime - age_s,) * 2)
    worker().next_and_lock()
    assert os.listdir(jobs / ".workers") == ["w8.new"]


def replace_process(author: Author) -> Author:
    """A process of this node that is dead."""
    return author._replace(process=replace(author.process, start=author.process.start + 1))


def test_a_double_run_is_reported_once_and_later(
    jobs: Path, worker: Callable[..., DirJobs], caplog: pytest.LogCaptureFixture
) -> None:
    """By the worker that sees the diary of the other at last, and by who looks afterwards."""
    add(jobs, "1.txt", "2.txt")
    dj = worker("w2", worker_sync=True)
    job = dj.next_and_lock()
    assert job is not None
    author = Author("node9", "m", "s", Identity("b", 7, 1))
    (jobs / ".workers" / "w1.0.aa").write_bytes(
        words.heading(author) + words.claims("1.txt") + words.runs("1.txt", ()) + words.ended("1.txt")
    )
    job.done()
    found = DoubleRun("1.txt", ("w1", "w2"))
    assert dj.double_runs == [found] == double_runs(jobs)
    assert caplog.text.count("1.txt was run twice, by workers w1 and w2: sync_time is too short") == 1
    assert taken(dj) == "2.txt"
    assert dj.double_runs == [found]


def test_a_job_that_is_moved_back_and_run_again_is_no_double_run(
    jobs: Path, worker: Callable[..., DirJobs]
) -> None:
    add(jobs, "1.txt")
    for wid in ("w1", "w2", "w1"):
        dj = worker(wid, worker_sync=True)
        job = dj.next_and_lock()
        assert job is not None
        job.failed()
        os.rename(job.path(), jobs / "00_waiting" / "1.txt")
    assert double_runs(jobs) == []
