"""All that PLL wanted to do with a set of jobs, item by item, as it is typed and read, on a real daemon.

The list is that of its README and of the requirements at the head of its source.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from roundq.faces.cli import main
from roundq.records import spool as spools
from roundq.words.states import RUNNING
from tests.actors.spoolhome import NODE, SpoolHome
from tests.cluster.wait import wait_until
from tests.faces.desk import Said

#: Ends when a file says so, and as it says.
STEP = 'echo "$0 begins"; while [ ! -e "$0.end" ]; do sleep 0.02; done; echo oops >&2; exit "$(cat "$0.end")"'

Rq = Callable[..., Said]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[SpoolHome]:
    """Ann's home; nothing of it runs on when the test is over."""
    made = SpoolHome(tmp_path / "homes")
    yield made
    made.stop()


@pytest.fixture
def rq(home: SpoolHome, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Rq:
    """Her commands, in this process, and a daemon of hers."""
    monkeypatch.chdir(home.home)
    for name, text in {**home.environ, "PWD": str(home.home), "RQ_AUTO_START": "false"}.items():
        monkeypatch.setenv(name, text)
    home.daemon(RQ_CORES="4")

    def typed(*words: str) -> Said:
        capsys.readouterr()
        code = main(list(words))
        return Said(code, *capsys.readouterr())

    return typed


def step(rq: Rq, name: str, *options: str) -> str:
    """Adds a job of that name to the set; its id."""
    said = rq("run", "--set", "backup", "-J", name, *options, "--parsable", "sh", "-c", STEP, name)
    assert (said.code, said.err) == (0, "")
    return said.out.strip()


def end(home: SpoolHome, name: str, code: int = 0) -> None:
    """A job of that name ends so."""
    new = home.home / f"{name}.new"
    new.write_text(f"{code}\n")
    new.rename(home.home / f"{name}.end")


def running(home: SpoolHome) -> list[str]:
    return sorted((entry.id for entry in spools.scan(home.spool, (RUNNING,))), key=int)


def runs(home: SpoolHome, *ids: str) -> None:
    """Waits until just these run."""
    wait_until(lambda: running(home) == list(ids), 60, on_timeout=home.story)


def whole(rq: Rq) -> list[str]:
    """State, done, run, wait, held, fail, retired and limit, as `rq sets` says it."""
    return re.split(r"  +", rq("sets", "backup").out.splitlines()[1])[1:9]


def test_all_that_pll_wanted_of_a_set(home: SpoolHome, rq: Rq) -> None:
    # 1. Create a set by name, with its parallel count; whether there is one is said.
    assert rq("sets", "backup") == (1, "", "rq: no such set: %backup\nhint: rq sets lists your sets\n")
    assert rq("limit", "%backup", "2").out == (
        "set backup: at most 2 jobs may run at once; none of its jobs waits or runs\n"
    )
    assert whole(rq) == ["empty", "0", "0", "0", "0", "0", "0", "2"]

    # 2. Add jobs: they have numbers, and begin in that order. 5. Where output goes is told before.
    said = rq("run", "-v", "--set", "backup", "-J", "a", "-e", "a.err", "sh", "-c", STEP, "a")
    assert (said.code, said.out) == (0, 'submitted 1 "a"\n')
    assert said.err == f"rq: its output goes to {home.home}/a.out\n"
    assert [step(rq, name) for name in ("b", "c", "d", "e", "f")] == ["2", "3", "4", "5", "6"]
    runs(home, "1", "2")
    # The card says so as soon as the round is over that started these.
    why = f'3 "c": {NODE}: waits: 2 of 2 jobs of set backup run; rq limit %backup N changes that\n'
    wait_until(lambda: rq("why", "3").out == why, 60, on_timeout=lambda: rq("why", "3").out)

    # 3. The parallel count goes up and down while the set runs; what runs goes on.
    assert rq("limit", "%backup", "4").code == 0
    runs(home, "1", "2", "3", "4")
    assert rq("limit", "%backup", "1").out == (
        "set backup: at most 1 job may run at once; 4 run now, which go on, 2 wait\n"
    )
    end(home, "a")
    end(home, "b", 3)
    runs(home, "3", "4")
    assert running(home) == ["3", "4"]

    # 4. The state of the whole, and of each job.
    assert whole(rq) == ["running", "1", "2", "2", "0", "1", "0", "1"]
    listed = rq("list", "%backup", "-o", "id,name,state").out
    assert [line.split()[:3] for line in listed.splitlines()[1:]] == [
        ["1", "a", "completed"],
        ["2", "b", "failed"],
        ["3", "c", "running"],
        ["4", "d", "running"],
        ["5", "e", "waiting"],
        ["6", "f", "waiting"],
    ]

    # 5. Standard output and error in files of their own, or both in one; 6. the log of any job.
    assert "a begins\n" in rq("log", "1").out
    assert "\noops\n" not in rq("log", "1").out
    assert rq("log", "-e", "1").out == "oops\n"
    assert "\nb begins\noops\n" in rq("log", "b").out
    shown = rq("show", "1").out
    assert f"{home.home}/a.out" in shown
    assert f"{home.home}/a.err" in shown

    # 6. Remove what has not begun; end what runs.
    assert rq("cancel", "--waiting", "%backup", "--dry-run").out == "would cancel 2 jobs: 5, 6\n"
    assert rq("cancel", "--waiting", "%backup").out == "canceled 2 jobs: 5, 6\n"
    assert rq("cancel", "--wait", "4").out == 'canceled 4 "d"\n'
    assert whole(rq) == ["running", "1", "1", "0", "0", "2", "0", "1"]

    # 2. Adding goes on while the set has not ended. 8. A high priority goes first.
    assert step(rq, "g") == "7"
    assert step(rq, "h", "--priority", "high") == "8"
    end(home, "c")
    runs(home, "8")
    end(home, "h")
    runs(home, "7")
    end(home, "g")

    # 8. What failed is run again, or retired. Waiting for the set tells how all of it ended.
    said = rq("wait", "%backup")
    assert (said.code, sorted(said.err.splitlines())[0]) == (1, 'rq: job 2 "b" failed: exit code 3')
    assert whole(rq)[0] == "failed"
    end(home, "b")
    assert rq("rerun", "2").code == 0
    assert rq("retire", "4").code == 0
    assert rq("wait", "%backup") == (0, "", "")
    assert whole(rq) == ["finished", "5", "0", "0", "0", "0", "1", "1"]

    # 7. The master log: added, started, finished, failed, run again, and how long it took.
    log = [line[21:] for line in rq("log", "%backup").out.splitlines()]
    took = [re.sub(r" after [0-9:.]+( s)?", " after T", line) for line in log]
    assert [line for line in took if line.startswith("2 ")] == [
        '2       added "b"',
        f"2       started on {NODE}",
        "2       ended after T, to be run again: exit code 3",
        f"2       started on {NODE}, attempt 2",
        "2       finished after T",
    ]
    assert [line for line in took if line.startswith(("4 ", "5 "))] == [
        '4       added "d"',
        '5       added "e"',
        f"4       started on {NODE}",
        "5       canceled before it began",
        "4       canceled while it ran after T",
        "4       retired: it counts no more",
    ]
    assert took.index("8       finished after T") < took.index(f"7       started on {NODE}")
