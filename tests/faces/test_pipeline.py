"""The example of rq(1) with many items, as it stands there, on a real daemon."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from roundq.records import spool as spools
from roundq.words.states import COMPLETED, FAILED, HELD
from tests.actors.spoolhome import SpoolHome
from tests.cluster.wait import wait_until

ITEMS = ("a", "b", "c")
#: The steps, by the id that their array gets.
DOWNLOAD, COMPRESS, UPLOAD, RESTORE = "1", "2", "3", "4"
#: The second download fails once; the third compression as long as a file is there; an upload and the
#: restore of the same item wait until both run.
SCRIPTS = {
    "download": 'if [ $1 = b ] && [ ! -e tried ]; then touch tried; exit 7; fi; echo "data of $1" > $1',
    "compress": "if [ $1 = c ] && [ -e full ]; then exit 1; fi; gzip -c $1 > $1.gz",
    "upload": "touch $1.up; until [ -e $1.back ]; do sleep 0.05; done; cp $1.gz $1.there",
    "restore": "touch $1.back; until [ -e $1.up ]; do sleep 0.05; done; gzip -dc $1.gz > $1.restored",
}


@pytest.fixture
def home(tmp_path: Path) -> Iterator[SpoolHome]:
    made = SpoolHome(tmp_path / "homes")
    for name, script in SCRIPTS.items():
        (made.home / name).write_text(f"#!/bin/sh\n{script}\n")
        (made.home / name).chmod(0o755)
    (made.home / "items").write_text("".join(f"{item}\n" for item in ITEMS))
    (made.home / "full").touch()
    rq = tmp_path / "bin" / "rq"
    rq.parent.mkdir()
    rq.write_text(f'#!/bin/sh\nexec {sys.executable} -m roundq "$@"\n')
    rq.chmod(0o755)
    made.environ |= {"PATH": f"{rq.parent}:{os.environ['PATH']}", "RQ_AUTO_START": "false"}
    yield made
    made.stop()


def example() -> list[str]:
    """The lines of the example in the manual."""
    page = (Path(__file__).parents[2] / "man" / "rq.1").read_text()
    blocks: list[str] = re.findall(r"\.Bd -literal -offset indent\n(.*?)\.Ed", page, re.DOTALL)
    (found,) = [block for block in blocks if "--after-each download" in block]
    return found.splitlines()


def typed(home: SpoolHome, lines: list[str]) -> str:
    """What a shell prints that runs these lines in the home."""
    script = "\n".join(lines)
    done = subprocess.run(
        ["sh", "-e", "-c", script],
        env=home.environ,
        cwd=home.home,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def states(home: SpoolHome) -> dict[str, str]:
    return {entry.id: entry.state for entry in spools.scan(home.spool)}


def test_each_item_goes_on_by_itself_and_a_step_that_failed_is_run_again_alone(home: SpoolHome) -> None:
    *steps, again = example()
    home.daemon(RQ_CORES="8")
    assert typed(home, steps).splitlines() == [
        'submitted 1 "download", 3 tasks',
        'submitted 2 "compress", 3 tasks, held: each waits for its task of 1',
        'submitted 3 "upload", 3 tasks, held: each waits for its task of 2',
        'submitted 4 "restore", 3 tasks, held: each waits for its task of 2',
    ]

    broken = {f"{COMPRESS}_2": FAILED, f"{UPLOAD}_2": HELD, f"{RESTORE}_2": HELD}
    all_well = {f"{step}_{index}": COMPLETED for step in "1234" for index in range(3)}
    wait_until(lambda: states(home) == all_well | broken, 40, on_timeout=home.story)
    assert [home.output(f"{item}.restored") for item in ITEMS] == ["data of a\n", "data of b\n", ""]
    # The download that failed was run again by itself.
    assert [home.record(f"{DOWNLOAD}_{index}").attempt for index in range(3)] == [1, 2, 1]
    assert "attempt 2 of 4" in home.output("download.1.out")

    (home.home / "full").unlink()
    assert typed(home, [again]) == 'runs again: 2_2 "compress"; it starts after job 1_2\n'
    wait_until(lambda: states(home) == all_well, 40, on_timeout=home.story)
    assert home.output("c.restored") == "data of c\n"
    attempts = {job: home.record(job).attempt for job in all_well}
    assert {job for job, attempt in attempts.items() if attempt == 2} == {f"{DOWNLOAD}_1", f"{COMPRESS}_2"}
