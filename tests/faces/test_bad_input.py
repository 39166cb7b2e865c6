"""Whatever is typed, closed, full or in the way: a sentence, an exit code, and nothing lost or half done.

The words of commands are in test_messages; here is what is around them.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from roundq.actors import submission
from roundq.records import spool as spools
from roundq.words.states import CANCELED, OWNED_STATES, RUNNING, WAITING
from tests.cluster.wait import wait_until
from tests.faces.desk import STRANGER, Desk, Said, process
from tests.faces.homes import record
from tests.faces.screen import on_terminal
from tests.rights import in_namespace, need_faketime, need_mounts, need_root

RQ = [sys.executable, "-m", "roundq"]
NO_SPACE, CLOSED = "No space left on device", "Bad file descriptor"


def environ(desk: Desk, **more: str) -> dict[str, str]:
    """The environment of a process of hers."""
    paths = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])}
    return {**desk.homes.environ("ann"), **paths, "RQ_AUTO_START": "no", **more}


def shell(desk: Desk, script: str, **more: str) -> Said:
    """What a shell script answers in which $RQ is the command."""
    done = subprocess.run(
        ["sh", "-c", script],
        env=environ(desk, RQ=" ".join(RQ), **more),
        cwd=desk.directory,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return Said(done.returncode, done.stdout, done.stderr)


def files_of(directory: str) -> set[str]:
    """Every file below a directory."""
    return {f"{path}/{name}" for path, _, names in os.walk(directory) for name in names}


# ---------------------------------------------------------------- standard streams


@pytest.mark.parametrize("buffering", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("words", ["version", "help", "run -h", "q", "q --json", "nodes", "show --json 1"])
def test_an_output_that_takes_nothing_is_said(desk: Desk, words: str, buffering: str) -> None:
    """Full or closed: never a success, never a traceback."""
    desk.homes.put(desk.spool, WAITING, "1", record("fit"))
    for where, why in ((">/dev/full", NO_SPACE), (">&-", CLOSED)):
        said = shell(desk, f"exec $RQ {words} {where}", PYTHONUNBUFFERED=buffering)
        assert said == Said(1, "", f"rq: standard output cannot be written: {why}\n"), where


@pytest.mark.parametrize(("where", "why"), [(">/dev/full", NO_SPACE), (">&-", CLOSED)])
def test_a_job_whose_id_cannot_be_printed_is_told_to_be_in_the_queue(
    desk: Desk, where: str, why: str
) -> None:
    assert shell(desk, f"exec $RQ run --parsable true {where}") == Said(
        1,
        "",
        f"rq: job 1 is in the queue, but its id cannot be printed: {why}\n"
        "hint: if it is not wanted: rq cancel 1\n",
    )
    assert desk.row("1").state == WAITING


def test_without_any_standard_stream_a_job_is_whole(desk: Desk) -> None:
    """No file of the queue becomes the standard output of whoever submits it."""
    assert shell(desk, "exec $RQ run true <&- >&- 2>&-").code == 1
    assert desk.record("1").job.command == ("true",)


def test_a_closed_standard_error_is_not_replaced_by_standard_output(desk: Desk) -> None:
    """What reads the output would take a message for it."""
    assert shell(desk, "exec $RQ run slepe 2>&-") == Said(127, "", "")


def test_a_daemon_is_started_also_if_the_id_cannot_be_printed(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job is in the queue: it must not wait for the next submission."""
    started: list[str] = []
    monkeypatch.setattr(submission, "start_daemon", lambda _, __, node: started.append(node))
    monkeypatch.setenv("RQ_AUTO_START", "true")
    with monkeypatch.context() as patch, open("/dev/full", "w") as full:
        patch.setattr(sys, "stdout", full)
        assert desk.rq("run", "true").code == 1
    assert started == ["here1"]


def test_cancel_does_all_that_was_asked_also_if_nobody_reads(desk: Desk) -> None:
    for _ in range(3):
        desk.rq("run", "true")
    said = shell(desk, "exec $RQ cancel --all >/dev/full", PYTHONUNBUFFERED="1")
    assert said == Said(1, "", f"rq: standard output cannot be written: {NO_SPACE}\n")
    assert [desk.row(job).state for job in "123"] == [CANCELED] * 3


# ---------------------------------------------------------------- signals


def catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal: proc(5), SigCgt."""
    status = Path(f"/proc/{pid}/status").read_text()
    mask = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(mask.split()[1], 16) >> (number - 1) & 1)


def ended_by(number: int, words: list[str], given: Mapping[str, str]) -> Said:
    """What `rq WORDS` says, and how it ends, when a signal meets it at its work."""
    with subprocess.Popen(
        [*RQ, *words], env=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        try:
            wait_until(lambda: catches(running.pid, signal.SIGHUP), 20)
            if words[0] == "run":
                assert running.stdout is not None
                assert running.stdout.readline() == 'submitted 2 "sleep 60"\n'
            running.send_signal(number)
            out, err = running.communicate(timeout=20)
        finally:
            # Or a failure would wait for ever.
            running.kill()
    return Said(running.returncode, out, err)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_ends_a_command_that_waits_and_says_what_becomes_of_the_job(
    desk: Desk, number: int, code: int
) -> None:
    """With the exit code of shells; the job stays where it is."""
    desk.homes.put(desk.spool, WAITING, "1", record("fit"))
    given = environ(desk)
    for words in (["wait", "1"], ["log", "-f", "1"]):
        assert ended_by(number, words, given) == Said(code, "", "rq: interrupted\n")
    assert ended_by(number, ["run", "--wait", "sleep", "60"], given) == Said(
        code,
        "",
        "rq: interrupted; job 2 stays in the queue\nhint: rq wait 2 waits for it, rq cancel 2 cancels it\n",
    )
    assert (desk.row("1").state, desk.row("2").state) == (WAITING, WAITING)


def test_what_nohup_ignores_stays_ignored(desk: Desk) -> None:
    desk.homes.put(desk.spool, WAITING, "1", record("fit"))
    command = ["nohup", *RQ, "wait", "1"]
    with subprocess.Popen(command, env=environ(desk), stderr=subprocess.DEVNULL) as running:
        try:
            wait_until(lambda: catches(running.pid, signal.SIGTERM), 20)
            assert not catches(running.pid, signal.SIGHUP)
            running.terminate()
            running.wait(20)
        finally:
            running.kill()
    assert running.returncode == 143


def test_ctrl_c_during_a_submission_leaves_nothing_and_says_so(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("roundq.world.files.sync_directory", interrupted)
        assert desk.rq("run", "true") == Said(130, "", "rq: interrupted; nothing was submitted\n")
    assert list(spools.scan(desk.spool)) == []
    assert os.listdir(desk.spool.directory("tmp")) == []


# ---------------------------------------------------------------- no room


@pytest.mark.parametrize("name", ["PATH", "NEW"], ids=["known environment", "new environment"])
def test_a_full_file_system_gets_no_half_a_job(desk: Desk, name: str) -> None:
    """On a real one: said with a remedy, not one file more than before, and mended by making room."""
    need_mounts()
    script = (
        'mount -t tmpfs -o size=200k,mode=755 none "$HOME"; cd "$HOME"; "$@" run true\n'
        "dd if=/dev/zero of=fill bs=1k 2>/dev/null || true\n"
        f'before=$(find .); {name}=$PATH "$@" run false || echo $?; test "$before" = "$(find .)"\n'
        '"$@" daemon --fg || echo $?; rm fill; "$@" run true'
    )
    done = subprocess.run(
        in_namespace(f"export {name}\n{script}", *RQ),
        env=environ(desk),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == 'submitted 1 "true"\n73\n73\nsubmitted 2 "true"\n', done.stderr
    refused, hint, *_, round_failed, again = done.stderr.splitlines()
    assert refused.startswith("rq: cannot ")
    assert refused.endswith(NO_SPACE)
    assert hint == again
    assert hint.startswith("hint: free some space or raise the quota")
    assert round_failed == f"rq: cannot play a round in {desk.spool.path}: {NO_SPACE}"


# ---------------------------------------------------------------- home and spool


@pytest.mark.parametrize("words", [["run", "true"], ["daemon"], ["daemon", "--fg"]], ids=" ".join)
def test_no_queue_is_made_in_the_home_of_somebody_else(desk: Desk, words: list[str]) -> None:
    """As sudo without -H would: its owner would find a queue that is closed to him."""
    need_root()
    home = desk.homes.parent / "bob"
    home.mkdir()
    os.chown(home, STRANGER, STRANGER)
    done = process(*words, environ={**environ(desk), "HOME": str(home)}, cwd=desk.directory)
    assert (done.returncode, done.stdout, done.stderr.decode()) == (
        77,
        b"",
        f"rq: {home} belongs to uid {STRANGER}, not to you: no queue of yours is made there\n"
        "hint: set HOME to your own home directory; with sudo: sudo -H\n",
    )
    assert os.listdir(home) == []


def test_a_home_of_root_that_one_may_write_to_is_as_good() -> None:
    """Root could do anything anyway; some machines make homes so."""
    spools._check_home("/", STRANGER)


def test_the_whole_queue_may_be_a_link_and_its_parts_may_not(desk: Desk) -> None:
    """Where a home is small it lies elsewhere; no rename between two file systems is one step."""
    elsewhere = desk.directory / "large"
    os.rename(desk.spool.path, elsewhere)
    os.symlink(elsewhere, desk.spool.path)
    assert desk.rq("run", "true").out == 'submitted 1 "true"\n'
    assert (elsewhere / "waiting" / "1.job").exists()

    (elsewhere / "zombie").rename(elsewhere / "other")
    (elsewhere / "zombie").symlink_to("failed")
    said = desk.rq("run", "true")
    assert said.err.replace(desk.spool.path, "SPOOL") == (
        "rq: SPOOL/zombie is a symbolic link: the parts of a queue must be directories\n"
        "hint: only the whole may be one: put a directory where SPOOL/zombie is\n"
    )
    assert (said.code, said.out) == (1, "")


@pytest.mark.parametrize("words", [["q"], ["run", "true"], ["daemon", "--fg"]], ids=" ".join)
def test_a_queue_whose_file_system_is_away_is_not_called_empty(desk: Desk, words: list[str]) -> None:
    os.rename(desk.spool.path, desk.directory / "away")
    os.symlink("/nowhere/queue", desk.spool.path)
    said = desk.rq(*words)
    assert said.err.replace(desk.spool.path, "SPOOL") == (
        "rq: SPOOL is a symbolic link to /nowhere/queue, which is not there\n"
        "hint: check that its file system is mounted here, or remove the link\n"
    )
    assert (said.code, said.out) == (1, "")


@pytest.mark.parametrize("part", ["waiting", "running", "tmp"])
def test_a_part_that_is_mounted_from_elsewhere_is_refused(desk: Desk, part: str) -> None:
    """By a real mount, in a submission and in a daemon."""
    need_mounts()
    script = (
        f'mount -t tmpfs -o mode=755 none "$HOME/.roundqueue/{part}";'
        '"$@" run true || echo $?; "$@" daemon --fg || echo $?'
    )
    done = subprocess.run(
        in_namespace(script, *RQ), env=environ(desk), capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "1\n1\n"
    assert done.stderr.replace(desk.spool.path, "SPOOL") == 2 * (
        f"rq: SPOOL/{part} is on another file system than SPOOL: no job can move there in one step\n"
        f"hint: make SPOOL/{part} an ordinary directory\n"
    )


def test_a_waiting_file_that_others_could_write_is_shown_with_the_remedy(desk: Desk) -> None:
    """They could run commands as its owner. With a group of one's own, which is the usual umask, not."""
    desk.rq("run", "true")
    path = Path(desk.spool.directory(WAITING)) / "1.job"
    path.chmod(0o666)
    assert "problem    its job file cannot be read: it can be written by others" in desk.rq("show", "1").out
    path.chmod(0o664)
    if path.stat().st_gid == path.stat().st_uid:
        assert desk.row("1").record is not None
    if os.geteuid() == 0:
        os.chown(path, -1, STRANGER)
        assert desk.row("1").problem == "it can be written by others: chmod go-w it"


@pytest.mark.parametrize("name", ["waiting", "env", "NONE", "cancel", "n1.log", "n1.log.1"])
def test_a_node_whose_name_the_queue_needs_is_told_so_at_once(
    desk: Desk, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By every command, not by a job that waits for a daemon that cannot begin."""
    monkeypatch.setenv("RQ_NODE", name)
    for words in (["run", "true"], ["q"], ["daemon", "--fg"]):
        assert desk.rq(*words) == Said(
            1,
            "",
            f"rq: this node is called {name}, a name that the queue itself needs in .roundqueue\n"
            "hint: give the node another name: RQ_NODE=...\n",
        )
    assert list(spools.scan(desk.spool)) == []


@pytest.mark.parametrize("name", ["a/b", "..", "", "x\ny", "x@y", "n" * 200])
def test_a_node_whose_name_no_file_can_have_is_refused(
    desk: Desk, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RQ_NODE", name)
    said = desk.rq("q")
    assert said.code == 1
    assert said.err.startswith(f"rq: the name of this node, {name!r}, cannot be part of a file name\nhint: ")


def test_a_command_of_any_length_is_just_not_found(desk: Desk) -> None:
    """Not a file of some directory along PATH that cannot be executed."""
    assert desk.rq("run", "n" * 10_000) == Said(127, "", f'rq: no such command: "{"n" * 100}…"\n')


# ---------------------------------------------------------------- terminals


@pytest.mark.parametrize("columns", [1, 20])
@pytest.mark.parametrize("term", ["dumb", "", "unknown", "xterm"])
@pytest.mark.parametrize("verb", ["q", "nodes", "users", "show 1", "why 1", "help", "run -h"])
def test_no_terminal_is_too_narrow_or_too_dumb(desk: Desk, verb: str, term: str, columns: int) -> None:
    desk.homes.put(desk.spool, RUNNING, "1", record("größer 中文", node="here1", began_s=5))
    desk.homes.card(desk.spool, "here1", jobs={"1": 1})
    given = {**environ(desk), "TERM": term}
    assert on_terminal(verb.split(), given, columns).strip()


@pytest.mark.parametrize("locale", [{"LANG": "C"}, {"LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
def test_names_beyond_ascii_are_no_trouble_without_a_locale(desk: Desk, locale: dict[str, str]) -> None:
    """What cannot be shown is shown as its code."""
    given = {**environ(desk), "PYTHONCOERCECLOCALE": "0", **locale}
    desk.homes.put(desk.spool, WAITING, "1", record("größer", job_output="größer.out"))
    for words in (["q"], ["q", "--json"], ["show", "1"], ["why", "1"], ["cancel", "1"]):
        done = process(*words, environ=given)
        assert (done.returncode, done.stderr) == (0, b""), words
    assert desk.row("1").state == CANCELED


# ---------------------------------------------------------------- clocks


@pytest.mark.parametrize("when", ["2035-01-01", "1970-01-02", "@1960-01-01"])
def test_no_time_is_negative_whatever_the_clock_says(desk: Desk, when: str) -> None:
    """A clock that was set while jobs wait or run, ahead or back."""
    need_faketime()
    at_that_time = ["faketime", "-f" if when.startswith("@") else "-m", f"{when} 00:00:00", *RQ]
    subprocess.run([*at_that_time, "run", "true"], env=environ(desk), cwd=desk.directory, check=True)
    desk.homes.put(desk.spool, RUNNING, "7", record(node="here1", began_s=5, now_ns=4_000_000_000 * 10**9))
    for command in (RQ, at_that_time):
        done = subprocess.run([*command, "--json"], env=environ(desk), capture_output=True, check=True)
        jobs: list[dict[str, Any]] = json.loads(done.stdout)["jobs"]
        assert [job["problem"] for job in jobs] == [None, None]
        for job in jobs:
            assert all(job[time] is None or job[time] >= 0 for time in ("run_time", "wait_time")), job
        assert (
            b"-" not in subprocess.run([*command, "why", "7"], env=environ(desk), capture_output=True).stdout
        )


# ---------------------------------------------------------------- node files


@pytest.mark.parametrize(
    "kind", ["text", "empty", "cut", "huge", "deep", "fifo", "link", "loop", "directory"]
)
def test_what_is_no_card_is_passed_over(desk: Desk, kind: str) -> None:
    """One's own and others': every list, and a submission that asks for cards, go on without it."""
    for spool in (desk.spool, desk.homes.user("bob")):
        for node in ("here1", "n9"):
            make(Path(spool.path) / node, kind)
    for words in (["nodes"], ["users"], ["q"], ["run", "-c", "2", "true"], ["why", "1"]):
        said = desk.rq(*words)
        assert (said.code, said.err) == (0, ""), words
    assert all(entry.state not in OWNED_STATES for entry in spools.scan(desk.spool))


def make(path: Path, kind: str) -> None:
    """Puts something at a path that is not what belongs there."""
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "link":
            path.symlink_to("/etc/passwd")
        case "loop":
            path.symlink_to(path.name)
        case "directory":
            path.mkdir()
        case _:
            contents = {"text": b"\x1b[2Jhello", "empty": b"", "cut": b'{"hostname": "n9", "pi'}
            path.write_bytes(contents.get(kind, b"[" * (5 << 20 if kind == "huge" else 100_000)))


def test_an_unexpected_refusal_of_the_system_is_not_called_one_of_the_output(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("roundq.faces.cli.run.person", refused)
    assert desk.rq("run", "true") == Said(1, "", "rq: the system refused: Input/output error\n")
