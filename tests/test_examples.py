"""Promises about examples: each one in rq(1), in the help of a verb and in the README is typed, and works.

They are typed by ann, on a node of four cores, beside programs and files that are called as in the examples.
What no node here can run, such as a job with GPUs, is accepted and waits.
"""

from __future__ import annotations

import gzip
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from roundq.faces import cli
from tests.test_manual import section
from tests.test_readme import Session, blocks

BLOCKS = [
    block.replace("\\e", "\\").replace("\\&", "").rstrip("\n")
    for block in re.findall(
        r"\.Bd -literal -offset indent\n(.*?)\.Ed", "\n".join(section("rq.1", "EXAMPLES")), re.DOTALL
    )
]
HELP = [str(cli.build_parser(verb).epilog).removeprefix("For example: ") for verb in cli.VERBS]
TOLD = [block.rstrip("\n") for block in blocks("sh") if block.startswith("rq ")]
#: What there is before an example, by what it begins with: jobs called fit that wait, are held, run, ended
#: well or failed, thirty jobs, and another node.
BEFORE = {
    "rq show 17": ["thirty"],
    "rq why fit": ["waiting"],
    "rq log -f fit": ["ended"],
    "rq watch": ["brief"],
    "rq wait fit": ["ended"],
    "rq cancel 17": ["thirty", "waiting"],
    "rq cancel --all": ["running"],
    "rq cancel --dry-run 'name=\"part": ["part", "failed", "ended"],
    "rq list 'state=failed and age<1d'": ["waiting"],
    "rq restart": ["running"],
    "rq pause": ["running"],
    "rq cont": ["running", "paused"],
    "rq signal": ["running"],
    "rq worker": ["of_set"],
    "rq hold": ["thirty", "waiting"],
    "rq release": ["held"],
    "rq rerun": ["failed"],
    "rq retire": ["failed"],
    "rq edit": ["waiting"],
    "rq stats": ["thirty"],
    "rq top": ["ended"],
    "rq resume": ["node3", "drained"],
    "rq drain": ["node3"],
    "rq lost": ["node3", "silent"],
    "rq gather": ["swept"],
    "rq run -J all --after": ["parts"],
}
STAGES = {
    "thirty": "seq 30 | sed 's/.*/true &/' | RQ_AUTO_START=false rq run --from - --parsable",
    "waiting": "RQ_AUTO_START=false rq run -J fit true",
    "of_set": "RQ_AUTO_START=false rq run --set fit true",
    "part": "rq run -J part1 --hold true",
    "held": "rq run -J fit --hold true",
    "brief": "rq run -J fit sleep 1",
    "node3": "RQ_NODE=node3 rq daemon; RQ_NODE=node3 rq daemon --stop",
    "silent": "touch -d '1 hour ago' ~/.roundqueue/node3",
    "running": "rq run -J fit -R sleep 600; until rq list -t running --noheader | grep -q fit; do :; done",
    "paused": "rq pause fit; until rq list fit --noheader | grep -q paused; do :; done",
    "ended": "rq run --wait -J fit true",
    "failed": "rq run --wait -J fit false || true",
    "drained": "rq drain node3",
    "swept": "rq sweep --wait fits:Fit",
    "parts": "for n in 1 2 3; do rq run -J part$n ./part $n; done",
}


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    """Ann, with the programs and files of which the examples tell."""
    made = Session(tmp_path / "ann", tmp_path / "bin")
    made.environ |= {"RQ_CORES": "4", "RQ_KEEP_FOR": "1d"}
    for name in {name for text in (*BLOCKS, *HELP, *TOLD) for name in re.findall(r"\./(\w+)", text)}:
        (made.home / name).write_text("#!/bin/sh\necho done\n")
        (made.home / name).chmod(0o755)
    # What others are to come after goes on for a while, and of what is to be run again one fails.
    (made.home / "join").write_text("#!/bin/sh\nsleep 5\n")
    fails_once = '#!/bin/sh\n[ "$1" != b ] || [ -e tried ] || { touch tried; exit 1; }\n'
    (made.home / "compress").write_text(fails_once)
    for name, text in {"jobs.txt": "./part 1\n./part 2\n", "items": "a\nb\nc\n", "late.jpg": ""}.items():
        (made.home / name).write_text(text)
    (made.home / "fits.py").write_text(
        "from roundq.sweep import Task, pset\n\n\nclass Fit(Task):\n    sweep = pset('seed', range(2))\n\n"
        "    def run(self):\n        return {'loss': self.params['seed'] / 2}\n"
    )
    (made.home / "runs.csv").write_text("name,lr\na,0.1\n")
    (made.home / "data").mkdir()
    (made.home / "data" / "one.gz").write_bytes(gzip.compress(b"one\n"))
    (made.home / "data.gz").write_bytes(gzip.compress(b"one\ntwo\n"))
    # Not everybody has it.
    (tmp_path / "bin" / "jq").write_text("#!/bin/sh\nexec cat >/dev/null\n")
    (tmp_path / "bin" / "jq").chmod(0o755)
    yield made
    made.end()


def type_(session: Session, text: str) -> None:
    """Types it; every command of it has to succeed."""
    said = session.type(f"set -e\n{text}\necho well")
    assert said.endswith("well\n"), said
    errors = [line for line in said.splitlines() if line.startswith("rq: ")]
    # What is said of jobs, and warnings, are no errors.
    assert all(re.match(r"rq: (warning: |job \d+)", line) for line in errors), said


def look_and_quit(session: Session, command: str) -> None:
    """Types it in a terminal, and `q` once there is something to be seen."""
    shown = subprocess.Popen(
        ["script", "--quiet", "--return", "--command", command, "/dev/null"],
        cwd=session.home,
        env={**session.environ, "TERM": "xterm"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert shown.stdin is not None
    assert shown.stdout is not None
    said = b""
    while b"node1" not in said:
        more = os.read(shown.stdout.fileno(), 4096)
        assert more, said
        said += more
    shown.stdin.write(b"q")
    shown.stdin.flush()
    while os.read(shown.stdout.fileno(), 4096):
        """Until it has left the screen as it was."""
    assert shown.wait() == 0


@pytest.mark.parametrize("example", [*HELP, *BLOCKS, *TOLD])
def test_an_example_works(example: str, session: Session) -> None:
    """As it stands there, beside what it takes for granted."""
    for begins, stages in BEFORE.items():
        if example.startswith(begins):
            for stage in stages:
                type_(session, STAGES[stage])
    for line in example.splitlines():
        if line.startswith("rq rerun "):
            # What it runs again has to have failed.
            asked = line.removeprefix("rq rerun ")
            type_(session, f"until rq list {asked} --noheader | grep -q .; do :; done")
        if line.startswith("rq top"):
            look_and_quit(session, line)
            continue
        type_(session, line)
