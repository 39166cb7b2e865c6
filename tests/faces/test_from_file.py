"""Promises of `rq run --from`: many jobs from lines, all or none, told in their order."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roundq.faces.cli import from_file
from roundq.faces.cli.from_file import split
from roundq.records import spool as spools
from roundq.words.states import COMPLETED, WAITING
from tests.faces.desk import Desk, Said, start
from tests.faces.homes import record

LINES = "echo one\n\n   # a comment\necho 'two words' a#b \"#\"  # three\n\techo \\$HOME '' *\n"


def write(desk: Desk, text: str | bytes, name: str = "jobs") -> str:
    """A file in her directory."""
    data = text.encode() if isinstance(text, str) else text
    (desk.directory / name).write_bytes(data)
    return name


def test_each_line_is_a_job_in_the_order_of_the_lines(desk: Desk) -> None:
    """The words are what a shell would pass on, and nothing is expanded."""
    assert desk.rq("run", "--from", write(desk, LINES)) == Said(
        0,
        'submitted 1 "echo one"\nsubmitted 2 "echo two words a#b #"\nsubmitted 3 "echo $HOME  *"\n',
        "",
    )
    commands = [desk.record(job).job.command for job in "123"]
    assert commands == [("echo", "one"), ("echo", "two words", "a#b", "#"), ("echo", "$HOME", "", "*")]


def test_options_hold_for_each_and_the_output_is_its_own(desk: Desk) -> None:
    name = write(desk, "true 1\ntrue 2\n")
    assert desk.rq("run", "-J", "fit", "-c", "2", "-m", "1", "--from", name, "--parsable").out == "1\n2\n"
    jobs = [desk.record(job).job for job in "12"]
    assert [(job.name, job.cores, job.memory_required, job.output) for job in jobs] == [
        ("fit", 2, 1 << 30, "")
    ] * 2
    desk.rq("run", "--from", name, "-o", "all.out", "-t", "5", "-R")
    jobs = [desk.record(job).job for job in "34"]
    assert [(job.output, job.time_limit_s, job.restartable) for job in jobs] == [("all.out", 300.0, True)] * 2


def test_standard_input_is_a_file_like_others(desk: Desk) -> None:
    with start(desk, "run", "--from", "-", "--parsable") as running:
        out, err = running.communicate("true\r\ntrue 2", timeout=30)
    assert (running.returncode, out, err) == (0, "1\n2\n", "")
    assert desk.record("2").job.command == ("true", "2")


@pytest.mark.parametrize(
    ("text", "code", "err"),
    [
        ("", 2, 'rq: "jobs" holds no command\nhint: write one command line per line\n'),
        ("# nothing\n\n", 2, 'rq: "jobs" holds no command\nhint: write one command line per line\n'),
        (
            "true\necho 'open\ntrue\n",
            2,
            'rq: line 2 of "jobs": a quote is not closed\n'
            "hint: write one command line per line, quoted as in sh\n",
        ),
        (
            "true \\",
            2,
            'rq: line 1 of "jobs": nothing follows the backslash\n'
            "hint: write one command line per line, quoted as in sh\n",
        ),
        (
            "true\nnosuch-command-at-all\n",
            127,
            'rq: line 2 of "jobs": no such command: "nosuch-command-at-all"\n',
        ),
        (b"true\na\0b\n", 2, 'rq: line 2 of "jobs": it holds a null byte, which no command line can\n'),
        (b"true " + b"x" * (1 << 20), 2, 'rq: line 1 of "jobs": it is longer than 1048576 bytes\n'),
    ],
    ids=["empty", "comments", "quote", "backslash", "no command", "null", "long"],
)
def test_one_line_that_is_wrong_submits_none(desk: Desk, text: str | bytes, code: int, err: str) -> None:
    assert desk.rq("run", "--from", write(desk, text)) == Said(code, "", err)
    assert spools.scan(desk.spool) == []


def test_what_is_not_a_file_and_what_is_too_much(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    assert desk.rq("run", "--from", "none") == Said(
        1, "", 'rq: "none" cannot be read: No such file or directory\n'
    )
    assert desk.rq("run", "--from", ".") == Said(1, "", 'rq: "." cannot be read: Is a directory\n')
    said = desk.rq("run", "--from", write(desk, "true\n"), "true")
    assert (said.code, said.err.splitlines()[0]) == (
        2,
        "rq: option --from: the commands are in the file, so none may stand behind it",
    )
    monkeypatch.setattr(from_file, "LINES_MAX", 2)
    assert desk.rq("run", "--from", write(desk, "true\n" * 3)) == Said(
        2, "", 'rq: "jobs" has more than 2 commands\nhint: submit them in several parts\n'
    )
    assert spools.scan(desk.spool) == []


def test_bytes_that_are_not_utf_8_arrive_as_they_are(desk: Desk) -> None:
    desk.rq("run", "--from", write(desk, b"echo \xff\xe4\n"))
    assert desk.record("1").job.command == ("echo", "\udcff\udce4")


def test_who_waits_for_many_gets_the_highest_exit_code(desk: Desk) -> None:
    """And is told of each that failed."""
    with start(desk, "run", "--wait", "--from", write(desk, "true 1\ntrue 2\ntrue 3\n")) as running:
        assert running.stdout is not None
        assert [running.stdout.readline() for _ in range(3)][2] == 'submitted 3 "true 3"\n'
        for job, code in (("1", 0), ("2", 3), ("3", 2)):
            Path(desk.spool.directory(WAITING), f"{job}.job").unlink()
            state, reason = (COMPLETED, None) if not code else ("failed", "exit")
            ended = record("t", began_s=5, ended_s=1, exit_code=code, reason=reason)
            desk.homes.put(desk.spool, state, job, ended)
        out, err = running.communicate(timeout=30)
    assert (running.returncode, out) == (3, "")
    assert err.splitlines() == [
        f"rq: job {job} failed: its command ended with a non-zero exit code" for job in "23"
    ]


@given(
    st.lists(
        st.text(st.characters(exclude_characters="\0\r\n", exclude_categories=["Cs"]), max_size=8), max_size=6
    )
)
def test_words_that_are_quoted_for_a_shell_come_back(words: list[str]) -> None:
    assert split(f"  {shlex.join(words)} # a comment\n") == words


@settings(max_examples=40, deadline=None)
@given(st.text(st.sampled_from("a#'\" \\\t$*;"), max_size=12))
def test_a_line_is_split_as_sh_splits_it(line: str) -> None:
    """Where nothing is expanded; what sh calls an error is one."""
    if set("$*;") & set(line):
        return
    script = f'set -- {line}\nprintf \'%s\\0\' "$#" "$@"'
    done = subprocess.run(["sh", "-c", script], capture_output=True, check=False)
    try:
        words = split(line)
    except ValueError:
        assert done.returncode != 0 or line.rstrip(" \t").endswith("\\")
        return
    assert done.stdout.decode().split("\0")[1:-1] == words
