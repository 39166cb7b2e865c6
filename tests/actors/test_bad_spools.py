"""What a daemon may find: files that are no jobs, an unsafe spool, a broken configuration, a jump in time."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from roundq.actors import daemon as daemons
from roundq.records import cards
from roundq.records import spool as spools
from roundq.words.errors import RoundqError
from roundq.words.job import NS
from roundq.words.states import RUNNING, WAITING
from tests.actors.spoolhome import DAEMON, NODE, SpoolHome
from tests.cluster.wait import wait_until
from tests.rights import need_faketime, need_root

STRANGER = 54_321
#: A daemon that does not wait long before it calls a file broken.
SOON = "from roundq.actors import waiting; waiting.BROKEN_AFTER_S = 0.3\n" + DAEMON


def drop(home: SpoolHome, name: str, content: bytes | None = None) -> Path:
    """A file that a program drops into waiting/: a job that leaves NAME.ran behind, unless told otherwise."""
    if content is None:
        content = json.dumps({"job": {"command": ["touch", f"{home.home}/{name}.ran"]}}).encode()
    temporary = Path(home.spool.directory("tmp"), name)
    temporary.write_bytes(content)
    return temporary.rename(Path(home.spool.directory(WAITING), f"{name}.job"))


def ran(home: SpoolHome, name: str) -> bool:
    """Whether that job has run."""
    return (home.home / f"{name}.ran").exists()


def troubles(home: SpoolHome) -> tuple[str, ...]:
    """What the daemon has to tell its user."""
    return cards.read(home.spool, NODE).trouble


def wait_for_trouble(home: SpoolHome, text: str) -> None:
    """Waits until the daemon tells of something."""
    wait_until(lambda: any(text in one for one in troubles(home)), 20, on_timeout=home.story)


def log_of(home: SpoolHome) -> str:
    """The daemon's log."""
    return Path(home.spool.path, f"{NODE}.log").read_text()


# ---------------------------------------------------------------- job files


def test_no_file_that_is_no_job_is_lost_or_in_the_way(home: SpoolHome) -> None:
    """Each is told with its reason and left; the jobs among them run, also those of a later version."""
    bad = {
        "empty": (b"", "it is empty"),
        "huge": (b" " * (2 << 20), "it is larger than 1048576 bytes"),
        "deep": (b'{"a":' * 50_000, "it is nested too deeply"),
        "other": (b'{"version": 99, "job": {"command": "echo hi"}}', "job.command: "),
        "cores": (b'{"job": {"command": ["true"], "cores": -1}}', "job.cores: "),
        "nul": (b'{"job": {"command": ["a\\u0000b"]}}', "a NUL byte"),
    }
    for name, (content, _) in bad.items():
        drop(home, name, content)
    newer = {"job": {"command": ["touch", f"{home.home}/newer.ran"], "colour": 3}, "version": 99}
    drop(home, "newer", json.dumps(newer).encode())
    drop(home, "plain")

    home._start(sys.executable, "-c", SOON, "daemon", str(home.home))

    wait_until(lambda: ran(home, "newer") and ran(home, "plain"), 20, on_timeout=home.story)
    wait_until(lambda: home.card_pid() and len(troubles(home)) == len(bad), 20, on_timeout=home.story)
    told = troubles(home)
    for name, (content, why) in bad.items():
        assert Path(home.spool.directory(WAITING), f"{name}.job").read_bytes() == content
        assert any(one.startswith(f"waiting/{name}.job is not a job: ") and why in one for one in told), name
    home.wait_for("newer")
    kept = json.loads(Path(home.spool.directory("completed"), "newer.job").read_bytes())
    assert (kept["version"], kept["job"]["colour"]) == (99, 3)


def test_a_file_whose_name_no_job_can_have_is_told_and_left(home: SpoolHome) -> None:
    """Its writer believes that it will run. Hidden files and others that end otherwise are nobody's jobs."""
    waiting = home.spool.directory(WAITING)
    names = ["x\x1b[2J.job", "caf\udce9.job", "n" * 200 + ".job", ".hidden.job", "README"]
    for name in names:
        Path(waiting, name).write_text('{"job": {"command": ["true"]}}')

    home.daemon()

    wait_until(lambda: len(troubles(home)) == 3, 20, on_timeout=home.story)
    assert set(troubles(home)) == {
        f"waiting/{shown}: no job can have this name"
        for shown in ("x\\x1b[2J.job", "caf\\xe9.job", "n" * 200 + ".job")
    }
    assert sorted(os.listdir(waiting)) == sorted(names)


@pytest.mark.parametrize("whose", ["stranger", "anybody"])
def test_what_others_wrote_or_could_write_is_reported_and_never_run(home: SpoolHome, whose: str) -> None:
    """It would run as the owner of the queue."""
    path = drop(home, "theirs")
    if whose == "stranger":
        need_root()
        os.chown(path, STRANGER, STRANGER)
    else:
        path.chmod(0o666)
    home._start(sys.executable, "-c", SOON, "daemon", str(home.home))
    wait_until(lambda: home.card_pid() is not None, 20, on_timeout=home.story)
    job = home.shell("true")

    wait_for_trouble(home, "waiting/theirs.job is not a job: it ")

    assert home.wait_for(job).exit_code == 0
    assert home.state("theirs") == WAITING
    assert not ran(home, "theirs")
    os.chown(path, os.geteuid(), os.getegid())
    path.chmod(0o644)
    # As whoever looked into it drops it anew.
    path.rename(path.with_suffix(".looked"))
    path.with_suffix(".looked").rename(path)
    wait_until(lambda: ran(home, "theirs"), 20, on_timeout=home.story)


# ---------------------------------------------------------------- the spool


@pytest.mark.parametrize("part", ["", "waiting", "claimed"])
def test_in_a_spool_that_becomes_unsafe_nothing_is_started(home: SpoolHome, part: str) -> None:
    """Told with the remedy. What runs goes on, and a cancel is heard; once it is mended, so does the rest."""
    running = home.shell("echo ready > ready; exec sleep 300")
    home.daemon()
    wait_until(lambda: home.output("ready"), 20, on_timeout=home.story)
    path = home.spool.directory(part).rstrip("/")
    os.chmod(path, 0o777)
    wait_for_trouble(home, f"{path} can be written by others")
    drop(home, "late")
    spools.request(home.spool, running, "cancel", "elsewhere")

    assert home.wait_for(running).reason == "canceled"
    # The daemon has seen the job: it says why it does not start it.
    wait_until(lambda: cards.read(home.spool, NODE).said, 20, on_timeout=home.story)
    card = cards.read(home.spool, NODE)
    assert (card.state, f"chmod go-w {path}" in card.reason) == (cards.DRAINING, True)
    assert not ran(home, "late")
    os.chmod(path, 0o755)

    wait_until(lambda: ran(home, "late"), 20, on_timeout=home.story)
    wait_until(lambda: troubles(home) == (), 20, on_timeout=home.story)
    assert log_of(home).count("starts nothing: ") == log_of(home).count("starts jobs again") == 1


def text(path: Path) -> None:
    path.write_bytes(b"\x1b[2Jhello")


def cut(path: Path) -> None:
    path.write_bytes(b'{"hostname": "testnode", "pi')


def huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


def link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def talk(path: Path) -> None:
    # A socket's address is short; the name is what matters.
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
    os.rename(path.name, path)


@pytest.mark.parametrize("make", [text, cut, huge, link, os.mkfifo, talk])
def test_garbage_where_a_card_belongs_harms_no_daemon(
    home: SpoolHome, tmp_path: Path, make: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One's own is replaced, a neighbour's is passed over; what a link led to stays as it was."""
    other = SpoolHome(tmp_path / "homes", "bob")
    monkeypatch.chdir(tmp_path)
    for spool in (home.spool, other.spool):
        make(Path(spool.path, NODE))
    passwd = Path("/etc/passwd").read_bytes()
    job = home.shell("true")

    home.daemon()

    assert home.wait_for(job).exit_code == 0
    assert home.card_pid() == home.daemon_pid()
    assert Path("/etc/passwd").read_bytes() == passwd


def test_a_first_round_that_fails_is_told_to_who_started_the_daemon(home: SpoolHome) -> None:
    """And the daemon goes on trying: what stood in its way may be gone soon."""
    Path(home.spool.path, NODE).mkdir()
    job = home.shell("true")

    script = (
        "import os, sys; from roundq.actors import daemon; from roundq.records import spool\n"
        "try: daemon.detach(spool.at(sys.argv[2], 'ann', os.geteuid()), os.environ)\n"
        "except daemon.RoundqError as error: print(error, error.hint)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "daemon", str(home.home)],
        env=home.environ,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )

    assert done.stdout.startswith("your daemon runs, but its first round failed: ")
    assert "rq daemon --stop" in done.stdout
    Path(home.spool.path, NODE).rmdir()
    assert home.wait_for(job).exit_code == 0
    assert daemons.stop(home.spool) is not None


@pytest.mark.parametrize("name", ["a.b.c", "n1.example.org"])
def test_a_node_whose_name_has_dots_is_called_so_everywhere(home: SpoolHome, name: str) -> None:
    """Card, log, the file of a running job, and what is swept of it."""
    job = home.shell("echo ready > ready; exec sleep 300")
    home._start(sys.executable, "-c", DAEMON, "daemon", str(home.home), RQ_NODE=name)
    wait_until(lambda: home.output("ready"), 20, on_timeout=home.story)

    assert home.entry(job).file == f"{job}@{name}.job"
    assert (home.entry(job).node, home.record(job).node) == (name, name)
    assert [card.node for card in cards.read_all(home.spool)] == [name]
    assert Path(home.spool.path, f"{name}.log").exists()
    spools.request(home.spool, job, "cancel", name)
    assert home.wait_for(job).reason == "canceled"


@pytest.mark.parametrize("name", ["waiting", "n1.log"])
def test_a_daemon_takes_no_name_that_the_queue_needs(home: SpoolHome, name: str) -> None:
    with pytest.raises(RoundqError, match=f"this node is called {name}, a name that the queue itself needs"):
        daemons.run_once(home.spool, {**home.environ, "RQ_NODE": name})


# ---------------------------------------------------------------- the configuration


def test_a_broken_configuration_stops_no_daemon(home: SpoolHome) -> None:
    """It goes on with what was right before, says so on its card and in its log, and sees the mending."""
    file = home.home / ".config" / "roundq.toml"
    file.parent.mkdir()
    file.write_text("cores = 3\n")
    process = home.daemon()
    assert cards.read(home.spool, NODE).cores == 3

    for number, broken in enumerate((b"cores = 0\n", b"\xff", b"cores = \n", b"bogus = 1\n"), 1):
        # In one step: an empty file would be right, for a moment.
        whole = file.with_name("new")
        whole.write_bytes(broken)
        whole.replace(file)
        wait_until(lambda: log_of(home).count("stays in force") == number, 20, on_timeout=home.story)  # noqa: B023
        wait_for_trouble(home, f"{file}, line 1: ")
    assert home.wait_for(home.shell("true", cores=3)).exit_code == 0, "by what was right before"
    file.write_text("cores = 4\n")

    wait_until(lambda: cards.read(home.spool, NODE).cores == 4, 20, on_timeout=home.story)
    assert troubles(home) == ()
    # The card says it first, and the log after the round.
    wait_until(lambda: "the configuration is right again" in log_of(home), 20, on_timeout=home.story)
    assert process.poll() is None


# ---------------------------------------------------------------- the clock


@pytest.mark.parametrize("jump", ["-3000d", "+3000d"])
def test_a_clock_that_jumps_delays_nothing_and_makes_no_time_negative(home: SpoolHome, jump: str) -> None:
    """A daemon goes by the time since its boot: what waits is started, and a time limit is kept."""
    need_faketime()
    offset = home.home / "offset"
    offset.write_text("+0\n")
    wrapper = shutil.which("faketime")
    assert wrapper is not None
    library = subprocess.run(
        [wrapper, "-f", "+0", "printenv", "LD_PRELOAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    home.daemon(
        LD_PRELOAD=library,
        FAKETIME_TIMESTAMP_FILE=str(offset),
        FAKETIME_NO_CACHE="1",
        FAKETIME_DONT_FAKE_MONOTONIC="1",
    )
    begun = home.shell("echo ready > ready; exec sleep 300", time_limit_s=3.0)
    wait_until(lambda: home.output("ready"), 20, on_timeout=home.story)

    offset.write_text(f"{jump}\n")

    late = home.shell("true")
    record = home.wait_for(late)
    assert record.exit_code == 0
    assert abs(record.started_ns - time.time_ns()) > 2000 * 86_400 * NS, "its clock has jumped"
    assert home.state(begun) == RUNNING
    assert home.wait_for(begun).reason == "time limit"
    assert home.card_pid() == home.daemon_pid()
