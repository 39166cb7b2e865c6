"""G10: no command, daemon or supervisor ever makes an internet socket, as the kernel saw it.

tests/cluster/noinet.py kills whoever tries in all tests on a cluster; here strace(1) watches, also those that
only try to, and shows what was asked for.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from roundq.records import spool as spools
from roundq.words.job import Job
from roundq.words.states import COMPLETED
from tests.actors.spoolhome import NODE, SpoolHome
from tests.cluster.wait import wait_until
from tests.rights import need_strace

JOBS = 100
RQ = (sys.executable, "-m", "roundq")
#: Each verb, with what makes it do all that it does.
COMMANDS = [
    ("run", "-J", "seen", "--parsable", "true"),
    ("run", "--wait", "-c", "2", "-m", "1M", "true"),
    ("q",),
    ("q", "--json"),
    ("show", "seen"),
    ("why", "seen"),
    ("log", "seen"),
    ("wait", "seen"),
    ("restart", "seen"),
    ("cancel", "seen"),
    ("lost", "n7"),
    ("nodes",),
    ("users",),
    ("doctor",),
    ("daemon", "--fg"),
    ("help",),
    ("version",),
]
_CALL = re.compile(r"\b(socket|socketpair|connect|socketcall)\(([^)]*)")


def watched(log: Path, *words: str) -> list[str]:
    """A command under strace, with all that it starts; which calls it makes is written to the log."""
    calls = "trace=socket,socketpair,connect,execve"
    return ["strace", "-f", "-qq", "-o", str(log), "-e", calls, *words]


def network(log: Path) -> list[str]:
    """The calls for sockets of the internet, or of a kind that nobody knows, in the logs of strace."""
    said = log.read_text(errors="replace")
    # It was watched at all.
    assert "execve(" in said
    calls = [f"{name}({words})" for name, words in _CALL.findall(said)]
    return [call for call in calls if not re.search(r"AF_UNIX|AF_NETLINK|sun_family", call)]


@pytest.fixture(autouse=True)
def _strace() -> None:
    need_strace()


def test_the_watch_sees_a_socket(tmp_path: Path) -> None:
    """Also one that a child of a child makes."""
    inner = "import socket; socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    subprocess.run(watched(tmp_path / "log", sys.executable, "-c", outer), check=True)
    assert any("AF_INET6" in call for call in network(tmp_path / "log"))


def test_no_command_makes_an_internet_socket(home: SpoolHome, tmp_path: Path) -> None:
    """Whatever came of it: also a daemon that a submission starts, and the supervisor of its job."""
    for number, words in enumerate(COMMANDS):
        log = tmp_path / f"log{number}"
        process = subprocess.Popen(
            watched(log, *RQ, *words),
            env={**home.environ, "RQ_AUTO_START": "true" if words[0] == "run" else "false"},
            cwd=home.home,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        home.started.append(process)
        if words[0] == "run":
            # strace stays with the daemon that was started.
            wait_until(lambda: len(spools.scan(home.spool, (COMPLETED,))) > number, 60, on_timeout=home.story)  # noqa: B023
            subprocess.run([*RQ, "daemon", "--stop"], env=home.environ, capture_output=True, check=True)
        assert process.wait(60) in range(12), words
        assert network(log) == [], words


def test_daemon_and_supervisors_make_none_under_load(home: SpoolHome, tmp_path: Path) -> None:
    """A hundred jobs, with output, names to look up, limits, and a cancel among them."""
    log = tmp_path / "log"
    home.started.append(
        subprocess.Popen(
            watched(log, *RQ, "daemon", "--foreground"),
            env={**home.environ, "RQ_CORES": "8"},
            cwd="/",
            start_new_session=True,
        )
    )
    wait_until(lambda: home.card_pid() is not None, 60, on_timeout=home.story)
    described = Job(
        ("echo", "hello"), directory=str(home.home), submitted_ns=time.time_ns(), time_limit_s=60.0
    )
    ids = spools.submit(home.spool, [described] * JOBS, NODE)
    long = home.submit("sleep", "1000")
    wait_until(
        lambda: len(spools.scan(home.spool, (COMPLETED,))) == len(ids) and home.state(long) == "running",
        120,
        on_timeout=home.story,
    )
    subprocess.run([*RQ, "cancel", long], env=home.environ, capture_output=True, check=True)
    home.wait_for(long)
    subprocess.run([*RQ, "daemon", "--stop"], env=home.environ, capture_output=True, check=True)
    home.started[-1].wait(30)
    assert network(log) == []
