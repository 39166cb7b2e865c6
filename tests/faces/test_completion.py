"""Promises about the completion of words in bash: what is offered is what there is."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from roundq.faces import cli
from roundq.words.states import WAITING
from tests.faces.desk import Desk
from tests.faces.homes import record

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "completions" / "rq.bash"

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash: apt-get install bash")


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A directory with an rq of this checkout, and a command of its own."""
    directory = tmp_path / "programs"
    directory.mkdir()
    for name, text in (
        ("rq", f'exec {shlex.quote(sys.executable)} -m roundq "$@"'),
        ("simulate-it", "true"),
    ):
        (directory / name).write_text(f"#!/bin/sh\n{text}\n")
        (directory / name).chmod(0o755)
    return directory


def offered(desk: Desk, programs: Path, line: str) -> list[str]:
    """What is offered for the last word of a line, as bash splits it."""
    words = [word for part in line.split(" ") for word in (part.replace("=", " = ").split(" ") or [""])]
    quoted = " ".join(map(shlex.quote, words))
    script = f"source {SCRIPT}; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _rq"
    done = subprocess.run(
        ["bash", "--norc", "-c", f'{script}; printf "%s\\n" "${{COMPREPLY[@]}}"'],
        env={
            **desk.homes.environ("ann"),
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "RQ_AUTO_START": "no",
        },
        cwd=desk.directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return sorted({word for word in done.stdout.split("\n") if word})


def test_every_verb_is_offered(desk: Desk, programs: Path) -> None:
    assert offered(desk, programs, "rq ") == sorted([*cli.VERBS, "version"])
    assert offered(desk, programs, "rq sh") == ["show"]
    assert offered(desk, programs, "rq --mine -u bob wh") == ["why"]
    assert offered(desk, programs, "rq help doc") == ["doctor"]


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_option_is_offered(desk: Desk, programs: Path, verb: str) -> None:
    assert offered(desk, programs, f"rq {verb} -") == sorted(cli.build_parser(verb).option_names())


def test_jobs_are_offered_by_id_and_name(desk: Desk, programs: Path) -> None:
    """Names that would have to be quoted are not."""
    for job_id, name in (("7", "fit"), ("8", "a b"), ("9", "sweep.1")):
        desk.homes.put(desk.spool, WAITING, job_id, record(name))
    for verb in ("show", "why", "log -f", "watch --now", "wait 7", "cancel", "restart", "pause", "signal"):
        assert offered(desk, programs, f"rq {verb} ") == ["7", "8", "9", "fit", "sweep.1"]
    assert offered(desk, programs, "rq cancel s") == ["sweep.1"]


def test_sets_are_offered_where_jobs_are_meant(desk: Desk, programs: Path) -> None:
    for job_id, name in (("7", "restore"), ("8", "a b"), ("9", "report")):
        desk.homes.put(desk.spool, WAITING, job_id, record("fit", job_set=name))
    for line in ("rq cancel %", "rq limit %", "rq sets %", "rq run --after %"):
        assert offered(desk, programs, line) == ["%report", "%restore"]
    assert offered(desk, programs, "rq wait %rest") == ["%restore"]
    assert offered(desk, programs, "rq run --set rep") == ["report"]


def test_after_the_options_of_run_comes_a_command(desk: Desk, programs: Path) -> None:
    """Values of options are not taken for it, nor its words for ours."""
    assert offered(desk, programs, "rq run simulate-") == ["simulate-it"]
    assert offered(desk, programs, "rq run -c 4 --mem=8G -R -- simulate-") == ["simulate-it"]
    assert offered(desk, programs, "rq run -J simulate-") == []
    assert offered(desk, programs, "rq run simulate-it --m") == []
    assert offered(desk, programs, "rq dirjobs --ext .png photos -- simulate-") == ["simulate-it"]
    assert offered(desk, programs, "rq dirjobs photos -- simulate-it --w") == []
    assert offered(desk, programs, "rq dirjobs photos --w") == ["--wid"]
    assert offered(desk, programs, "rq run -c 2 --mem-") == ["--mem-limit"]
    assert offered(desk, programs, "rq run --priority h") == ["high"]


def test_nodes_are_offered_where_nodes_are_meant(desk: Desk, programs: Path) -> None:
    for node in ("node1", "gpu1"):
        desk.homes.card(desk.spool, node)
    assert offered(desk, programs, "rq run -w ") == ["gpu1", "node1"]
    assert offered(desk, programs, "rq run --exclude g") == ["gpu1"]
    for verb in ("lost", "drain", "resume gpu1"):
        assert offered(desk, programs, f"rq {verb} n") == ["node1"]
    assert offered(desk, programs, "rq drain --reason n") == []


def test_no_name_is_executed(desk: Desk, programs: Path) -> None:
    """bash expands what it is given to complete from, and neighbours choose the names of their nodes."""
    evil = "$(touch${IFS}pwned)", "`touch${IFS}pwned`", "*", "a;touch${IFS}pwned"
    bob = desk.homes.user("bob")
    for name in evil:
        desk.homes.card(bob, name)
        desk.homes.put(desk.spool, WAITING, name, record(name))
    desk.homes.card(desk.spool, "node1")
    desk.homes.put(desk.spool, WAITING, "7", record("fit"))
    assert all(name in desk.rq("nodes").out and name in desk.rq().out for name in evil)
    assert offered(desk, programs, "rq run -w ") == ["node1"]
    assert offered(desk, programs, "rq lost ") == ["node1"]
    assert offered(desk, programs, "rq show ") == ["7", "fit"]
    assert sorted(os.listdir(desk.directory)) == []


def test_it_is_installed_where_bash_looks_for_it() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    assert '"completions/rq.bash" = "share/bash-completion/completions/rq"' in project
    assert '"$prefix"/share/bash-completion/completions/*' in (ROOT / ".ci" / "install").read_text()
