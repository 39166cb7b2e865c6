"""Promises about `rq doctor` as a person and a program see it, and about what it leaves when stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from roundq.actors.doctor import CHECKS
from roundq.faces import doctor_view, tables
from roundq.records.spool import Spool
from roundq.words.errors import SpoolUnsafe
from roundq.words.findings import LEVELS, OK, PROBLEM, WARNING, Finding, exit_code, ok, problem, warning
from tests.cluster.wait import wait_until
from tests.faces.desk import Desk
from tests.faces.homes import HERE, Homes
from tests.faces.screen import on_terminal, unpainted

LONG = "a sentence of many words " * 8


def left(spool: Spool) -> list[str]:
    """What lies in tmp/ and requests/."""
    return [name for part in ("tmp", "requests") for name in os.listdir(spool.directory(part))]


# ---------------------------------------------------------------- the view


@pytest.mark.parametrize("available", [20, 40, 80, 200])
def test_a_finding_fits_any_terminal(available: int) -> None:
    """Broken between words, below each other; only a terminal too narrow for words has longer lines."""
    finding = warning("other users", LONG, f"why {LONG}", f"remedy {LONG}")
    lines = doctor_view.lines(finding, available, doctor_view.TICKS, tells_why=False)
    texts = ["".join(cell.text for cell in line).rstrip() for line in lines]
    assert max(map(tables.width, texts)) <= max(available, 18 + 20)
    assert " ".join(" ".join(texts).split()).count("sentence of many words") == 24
    assert texts[0].startswith("! other users")
    assert all(text.startswith(" " * 18) for text in texts[1:])


def test_elsewhere_each_text_is_one_line() -> None:
    """Level, check and text in columns, for whoever reads it with grep."""
    lines = doctor_view.lines(
        problem("space", LONG, "why", "remedy"), None, doctor_view.TICKS, tells_why=False
    )
    texts = ["".join(cell.text for cell in line) for line in lines]
    assert texts == [f"problem  space           {LONG}", f"{' ' * 25}why: why", f"{' ' * 25}remedy: remedy"]


def test_why_is_told_of_what_is_well_only_if_asked() -> None:
    finding = ok("space", "much", "jobs need it")
    assert len(doctor_view.lines(finding, 80, doctor_view.TICKS, tells_why=False)) == 1
    assert len(doctor_view.lines(finding, 80, doctor_view.TICKS, tells_why=True)) == 2


def test_what_strangers_wrote_is_harmless() -> None:
    """Whatever stands in the name of a file or in a complaint of a card."""
    finding = warning("names", "a\x1b[2Jb\nc\u202e", "d\x07", "e\r")
    text = "".join(
        cell.text
        for line in doctor_view.lines(finding, 80, doctor_view.TICKS, tells_why=True)
        for cell in line
    )
    assert text.isprintable()


def test_the_exit_code_is_that_of_the_first_problem() -> None:
    wrong = problem("queue", "open", "why", "close it", SpoolUnsafe)
    assert exit_code([]) == exit_code([ok("home", "there"), warning("space", "little", "", "")]) == 0
    assert exit_code([ok("home", "there"), wrong, problem("space", "none", "", "")]) == 77


def test_the_summary_counts_and_says_what_was_not_looked_at() -> None:
    found = [Finding("a", OK, ""), Finding("b", OK, ""), Finding("c", WARNING, ""), Finding("d", PROBLEM, "")]
    assert doctor_view.summary(found, []) == "2 ok, 1 warning, 1 problem"
    assert doctor_view.summary([], ["delay"]) == "0 ok, 0 warnings, 0 problems; not looked at: delay"


# ---------------------------------------------------------------- the command


def test_it_tells_of_every_check_in_a_pipe(desk: Desk) -> None:
    """Plain lines, nothing on standard error, and nothing left."""
    said = desk.rq("doctor")
    assert (said.code, said.err) == (0, "")
    lines = said.out.splitlines()
    told = {line[9:25].strip() for line in lines if line.split("  ")[0] in LEVELS}
    assert told | {"quota", "clocks", "delay"} == {check.name for check in CHECKS}
    assert lines[-1].endswith(", 0 problems")
    assert "\x1b" not in said.out
    assert left(desk.spool) == []


def test_it_makes_the_queue_if_there_is_none(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the first submission does: so it can be tried before."""
    home = desk.homes.parent / "new"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    said = desk.rq("doctor", "--quick")
    assert said.code == 0
    assert f"{home}/.roundqueue is made" in said.out


def test_a_program_gets_one_value(desk: Desk) -> None:
    """With the group, all sentences and what was measured."""
    Path(desk.spool.directory("waiting"), os.fsdecode(b"a\xff.job")).touch()
    said = desk.rq("doctor", "--json", "--quick")
    value = json.loads(said.out)
    assert said.out.isascii()
    assert value["schema"] == 1
    assert value["skipped"] == []
    by_check = {one["check"]: one for one in value["findings"]}
    assert set(by_check["renaming"]) == {
        *("group", "check", "level", "found", "why", "remedy", "exit_code", "facts"),
    }
    assert by_check["renaming"]["facts"]["two_winners"] == 0
    assert by_check["names"]["level"] == WARNING
    assert all(bool(one["remedy"]) == (one["level"] != OK) for one in value["findings"])


def test_a_problem_has_its_exit_code_and_what_follows_from_it_is_not_looked_at(desk: Desk) -> None:
    os.chmod(desk.spool.directory("running"), 0o777)
    said = desk.rq("doctor")
    assert said.code == 77
    assert "problem  queue" in said.out
    assert f"remedy: take that right away and check what is in it: chmod go-w {desk.spool.path}" in said.out
    assert "not looked at: writing" in said.out.splitlines()[-1]
    value = json.loads(desk.rq("doctor", "--json").out)
    assert "renaming" in value["skipped"]


def test_a_home_that_is_none_is_a_finding(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the end of the command: the node is looked at all the same."""
    monkeypatch.setenv("HOME", "/nonexistent")
    said = desk.rq("doctor")
    assert said.code == 1
    assert "cannot be entered" in said.out
    assert "ok       locks" in said.out


def test_a_terminal_shows_groups_and_ticks_and_no_line_is_too_long(homes: Homes) -> None:
    """Whatever is shown of the work meanwhile is gone at the end."""
    homes.user("ann")
    environ = {**homes.environ("ann"), "RQ_POLL_MAX": "0.1", "RQ_POLL_MIN": "0.1"}
    seen = on_terminal(["doctor", "--quick"], environ, 80)
    # A line that is painted over begins with a return.
    shown = [line.rpartition("\x1b[2K")[2] for line in unpainted(seen).split("\n")]
    assert "Home file system" in shown
    assert any(line.startswith("✓ renaming") for line in shown)
    assert max(map(tables.width, shown)) <= 80
    assert shown[-2].endswith("problems")
    assert "\x1b[2Kseveral processes rename one file" in unpainted(seen)


def test_a_terminal_without_such_signs_is_shown_others(homes: Homes) -> None:
    homes.user("ann")
    environ = {**homes.environ("ann"), "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    seen = unpainted(on_terminal(["doctor", "--quick"], environ, 80))
    assert seen.isascii()
    assert "+ renaming" in seen


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_it_leaves_nothing_when_it_is_stopped(number: int, code: int, homes: Homes) -> None:
    """While it waits for a node that does not answer: helper, ping and files are gone when it ends."""
    spool = homes.user("ann")
    homes.card(spool, "n2")
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(__file__).parents[2]),
        **homes.environ("ann"),
    }
    command = [sys.executable, "-m", "roundq", "doctor"]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        wait_until(lambda: any(name.endswith(".ping") for name in left(spool)), 30)
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (code, b"rq: interrupted\n")
    assert b"ok       renaming" in out
    assert left(spool) == []
    home = os.fsencode(f"HOME={os.path.dirname(spool.path)}")
    assert home not in b"".join(environs()), "a helper runs on"


def environs() -> list[bytes]:
    """The environments of all processes but this one."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                found.append(Path(f"/proc/{name}/environ").read_bytes())
            except OSError:
                continue
    return found


def test_quick_does_not_wait_for_other_nodes(desk: Desk) -> None:
    desk.homes.card(desk.spool, "n2")
    said = desk.rq("doctor", "--quick", "-v")
    assert said.code == 0
    assert f"this node is {HERE}" in said.out
    assert "  delay " not in said.out
    assert "why: the claim of a job is a rename" in said.out
