"""A home with a spool, and real daemons and supervisors on it, for tests of actors."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from roundq.actors.daemon import serving
from roundq.records import cards
from roundq.records import spool as spools
from roundq.records.spool import Entry, Spool
from roundq.words.errors import RoundqError
from roundq.words.job import Job, Record
from roundq.words.states import ENDED_STATES, STATES, WAITING
from tests.cluster.wait import wait_until

NODE = "testnode"
#: The daemon's own code, without the command line before it: its argv holds the word, as 0.2.9 wants.
DAEMON = """
import os, sys
from roundq.actors import daemon
from roundq.records import spool
home = sys.argv[2]
daemon.run_foreground(spool.at(home, os.path.basename(home), os.geteuid()), os.environ)
"""


class SpoolHome:
    """One user's home below a parent of its own, and the processes that work on it."""

    def __init__(self, parent: Path, user: str = "ann") -> None:
        self.home = parent / user
        self.home.mkdir(parents=True, exist_ok=True)
        self.spool: Spool = spools.at(str(self.home), user, os.geteuid())
        spools.prepare(self.spool)
        self.started: list[subprocess.Popen[bytes]] = []
        # What killed supervisors leave there goes with the rest of the test.
        tmp = parent.parent / "tmp"
        tmp.mkdir(exist_ok=True)
        self.environ = {
            "HOME": str(self.home),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "TMPDIR": str(tmp),
            "RQ_NODE": NODE,
            "RQ_GRACE": "2",
            "RQ_POLL_MIN": "0.05",
            "RQ_POLL_MAX": "0.5",
        }

    # ------------------------------------------------------------ jobs

    def submit(self, *command: str, **fields: object) -> str:
        """Submits a job that runs in the home; its id."""
        given = {"directory": str(self.home), "max_output": 0, "submitted_ns": time.time_ns(), **fields}
        return spools.submit(self.spool, [Job(command, **given)], NODE)[0]  # type: ignore[arg-type]

    def shell(self, script: str, **fields: object) -> str:
        """Submits a shell script; its id."""
        return self.submit("/bin/sh", "-c", script, **fields)

    def entry(self, job_id: str) -> Entry:
        """Where the job is now; it must be in exactly one state."""
        for _ in range(100):
            found = [entry for entry in spools.scan(self.spool) if entry.id == job_id]
            if len(found) == 1:
                return found[0]
        raise AssertionError(f"job {job_id} is in {[entry.state for entry in found]}")

    def state(self, job_id: str) -> str:
        """The state of the job now."""
        return self.entry(job_id).state

    def record(self, job_id: str) -> Record:
        """The record of the job as it is now."""
        while True:
            with contextlib.suppress(FileNotFoundError):
                return spools.read(self.spool, self.entry(job_id))

    def wait_for(self, job_id: str, *states: str, timeout: float = 20.0) -> Record:
        """The record of the job once it is in one of these states (default: ended)."""
        wanted = states or ENDED_STATES
        wait_until(lambda: self.state(job_id) in wanted, timeout, on_timeout=self.story)
        return self.record(job_id)

    def output(self, name: str) -> str:
        """What is in a file of the home, empty if it is not there yet."""
        path = self.home / name
        return path.read_text(errors="replace") if path.exists() else ""

    def story(self) -> str:
        """Everything that a failed test should show."""
        lines = [f"{entry.state}/{entry.file}" for entry in spools.scan(self.spool)]
        for log in Path(self.spool.path).glob("*.log"):
            lines += [f"--- {log.name}", log.read_text(errors="replace")]
        return "\n".join(lines)

    # ------------------------------------------------------------ processes

    def claim(self, job_id: str) -> Entry:
        """Claims a waiting job for this node, as its daemon would."""
        (entry,) = [e for e in spools.scan(self.spool, (WAITING,)) if e.id == job_id]
        claimed = spools.claim(self.spool, entry, NODE)
        assert claimed is not None
        return claimed

    def supervise(self, job_id: str) -> subprocess.Popen[bytes]:
        """Claims a waiting job and runs its supervisor, without any daemon."""
        self.claim(job_id)
        return self._start(sys.executable, "-m", "roundq.actors.supervisor", self.spool.path, job_id)

    def run(self, job_id: str, timeout: float = 20.0) -> Record:
        """Supervises a waiting job to its end; its record then."""
        process = self.supervise(job_id)
        assert process.wait(timeout) == 0, process.stderr
        return self.record(job_id)

    def daemon(self, **environ: str) -> subprocess.Popen[bytes]:
        """Starts a daemon and waits until its card is there."""
        process = self._start(sys.executable, "-c", DAEMON, "daemon", str(self.home), **environ)
        node = environ.get("RQ_NODE", NODE)
        wait_until(lambda: self.card_pid(node) == process.pid, 20, on_timeout=self.story)
        return process

    def card_pid(self, node: str = NODE) -> int | None:
        """The pid of the daemon that published the card of a node."""
        try:
            return cards.read(self.spool, node).pid
        except (OSError, RoundqError):
            return None

    def daemon_pid(self) -> int | None:
        """The pid of the daemon that serves the spool."""
        holder = serving(self.spool)
        return holder.pid if holder else None

    def _start(self, *words: str, **environ: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(words, env={**self.environ, **environ}, cwd="/", start_new_session=True)
        self.started.append(process)
        return process

    def stop(self) -> None:
        """Ends everything that was started, the daemon, and every supervisor and job of this home."""
        # One that a command started tells its environment no more: its title is written over it.
        with contextlib.suppress(ProcessLookupError):
            # Of some tests it is this very process.
            if (pid := self.daemon_pid()) not in (None, os.getpid()):
                os.kill(pid, signal.SIGKILL)
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.wait()
        for entry in spools.scan(self.spool, (STATES[2], STATES[3])):
            with contextlib.suppress(Exception):
                record = spools.read(self.spool, entry)
                if record.process is not None:
                    os.kill(record.process.pid, signal.SIGKILL)
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def pids(self, mark: str | None = None) -> list[int]:
        """The processes with this home, and with `mark` if given, in their environment."""
        wanted = {b"HOME=" + os.fsencode(self.home), *([os.fsencode(mark)] if mark else [])}
        found = []
        for name in os.listdir("/proc"):
            if name.isdigit() and int(name) != os.getpid():
                with contextlib.suppress(OSError), open(f"/proc/{name}/environ", "rb") as file:
                    if wanted <= set(file.read().split(b"\0")):
                        found.append(int(name))
        return found
