"""Promises about `roundq.dirjobs` where renames have two winners and changes are seen late, for many seeds.

`tests.faces.slow_disk` is such a mount. tests/cluster/test_dirjobs.py is the same in small with real
processes.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from roundq.dirjobs import DirJobs, DoubleRun
from roundq.faces.api.means import Means
from roundq.records.jobdir import JobDir
from roundq.words import jobdir as words
from roundq.words.job import Identity
from roundq.words.jobdir import Author
from tests.faces.slow_disk import Mount, SlowDisk, World

LATE_S = 1.0


@dataclass
class Played:
    """What became of it."""

    #: Each run, in order: the job and its worker.
    runs: list[tuple[str, str]]
    #: What the workers reported, and what their diaries show in the end.
    reported: set[DoubleRun]
    shown: set[DoubleRun]
    mount: Mount

    def doubles(self) -> set[str]:
        """The jobs that were run by more than one."""
        return {name for name, times in Counter(name for name, _ in self.runs).items() if times > 1}

    def names(self, state: str) -> list[str]:
        (root,) = {path.partition("/00_waiting/")[0] for path in self.mount.lives if "/00_waiting/" in path}
        return self.mount.names(f"{root}/{state}")


def play(
    tmp_path: Path,
    seed: int,
    *,
    workers: int,
    jobs: int,
    sync_s: float,
    wids: list[str] | None = None,
    least_s: float = 0.0,
) -> Played:
    """Workers that begin at about the same time, and run all jobs."""
    world = World(seed)
    whos = [f"{number}" for number in range(workers)]
    mount = Mount(world, whos, LATE_S)
    for number in range(jobs):
        mount.make("", f"{tmp_path}/00_waiting/{number}.txt", f"content {number}".encode())
    for life in mount.lives.values():
        life[0].seen_s = dict.fromkeys(life[0].seen_s, 0.0)
        life[0].content = [(0.0, by, data, life[0].seen_s) for _, by, data, _ in life[0].content]
    played = Played([], set(), set(), mount)
    is_random = world.chance.random() < 0.5

    def worker(number: int) -> None:
        who = whos[number]
        author = Author(f"node{who}", "m", "s", Identity("b", number + 1, 1))

        class Worker(DirJobs):
            _means = Means(
                SlowDisk(mount, who),
                lambda: world.now_s,
                lambda: world.now_s,
                world.sleep,
                random.Random(f"{seed} {who}"),
                lambda: author,
            )

        world.sleep(world.chance.random() * LATE_S)
        wid = wids[number] if wids else f"w{number + 1}"
        dj = Worker(tmp_path, wid=wid, rnd_job=is_random, worker_sync=True, sync_time=sync_s)
        while job := dj.next_and_lock():
            played.runs.append((job.name(), who))
            world.sleep(least_s + world.chance.random() * 5 * LATE_S)
            if world.chance.random() < 0.9:
                job.done()
            else:
                job.failed()
        played.reported |= set(dj.double_runs)

    world.play([lambda number=number: worker(number) for number in range(workers)])  # type: ignore[misc]
    # Whoever looks when all is known.
    world.now_s += 10 * LATE_S
    world._own.number = 0

    class Later(SlowDisk):
        def _step(self) -> float:
            return world.now_s

    for one, other in words.double(JobDir(str(tmp_path), Later(mount, "")).diaries()):
        first, second = sorted((one.wid, other.wid))
        played.shown.add(DoubleRun(one.name, (first, second)))
    return played


@pytest.mark.parametrize(("workers", "jobs", "seeds"), [(2, 6, 60), (10, 12, 12)])
def test_no_job_is_run_twice_if_sync_time_covers_the_delay(
    workers: int, jobs: int, seeds: int, tmp_path: Path
) -> None:
    """Each job is run once, ends once, and nothing is reported; also by workers that all take the first."""
    for seed in range(seeds):
        # What a worker does between two looks takes time, too.
        played = play(tmp_path, seed, workers=workers, jobs=jobs, sync_s=LATE_S + 0.1)
        everything = sorted(f"{number}.txt" for number in range(jobs))
        assert sorted(name for name, _ in played.runs) == everything, seed
        ended = played.names("02_done") + [name.partition(".")[2] for name in played.names("99_failed")]
        assert sorted(ended) == everything, seed
        assert played.names("01_running") == played.names("00_waiting") == [], seed
        assert not played.reported | played.shown, seed


def test_workers_that_share_an_id_run_no_job_twice(tmp_path: Path) -> None:
    """Nor do they lose one that nobody else has."""
    for seed in range(30):
        played = play(tmp_path, seed, workers=2, jobs=4, sync_s=LATE_S + 0.1, wids=["w1", "w1"])
        assert played.doubles() == set(), seed


@pytest.mark.parametrize(("workers", "jobs", "seeds"), [(2, 6, 60), (10, 12, 12)])
def test_what_is_run_twice_since_sync_time_is_too_short_is_reported(
    workers: int, jobs: int, seeds: int, tmp_path: Path
) -> None:
    """Of jobs that take longer than the delay, by the diaries all, and by the workers what they see in
    time."""
    doubles = reported = 0
    for seed in range(seeds):
        played = play(tmp_path, seed, workers=workers, jobs=jobs, sync_s=LATE_S / 10, least_s=LATE_S)
        assert {found.name for found in played.shown} == played.doubles(), seed
        assert played.reported <= played.shown, seed
        doubles += len(played.doubles())
        reported += len({found.name for found in played.reported})
    assert doubles > 10
    assert reported > 0.9 * doubles


def test_of_short_jobs_most_double_runs_are_reported(tmp_path: Path) -> None:
    """One whose end is known, and that is listed still, is not told from one that was added again."""
    doubles = shown = 0
    for seed in range(60):
        played = play(tmp_path, seed, workers=2, jobs=6, sync_s=LATE_S / 10)
        assert {found.name for found in played.shown} <= played.doubles(), seed
        doubles += len(played.doubles())
        shown += len({found.name for found in played.shown})
    assert doubles > 10
    assert shown > 0.8 * doubles


def test_the_mount_has_two_winners_and_is_late() -> None:
    """Else nothing would be shown here."""
    world = World(1)
    mount = Mount(world, ["a", "b"], LATE_S)
    first, second = SlowDisk(mount, "a"), SlowDisk(mount, "b")
    mount.make("", "/x/1", b"")
    seen: list[object] = []

    def act() -> None:
        world.sleep(2 * LATE_S)
        seen.append(first.move("/x/1", "/x/a"))
        seen.append((first.names("/x"), second.names("/x")))
        seen.append(second.move("/x/1", "/x/b"))
        seen.append((first.names("/x"), second.names("/x")))
        world.sleep(LATE_S)
        seen.append((sorted(first.names("/x")), sorted(second.names("/x"))))

    world.play([act])
    assert seen == [
        True,
        (["a"], ["1"]),
        True,
        (["a"], ["b"]),
        (["a", "b"], ["a", "b"]),
    ]
