"""A node that an admin has set up: the units installed, users with homes, jobs that tell what became of them.

Called by the tests. It knows the queue from outside only: its commands, and the directories of the spool.
"""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil

from tests.cluster.wait import wait_until
from tests.systemd.sdbox import PREFIX, UIDS, SystemdBox

if TYPE_CHECKING:
    from pathlib import Path

SHIPPED = f"{PREFIX}/share/roundq/systemd"
ENDED = ("completed", "failed", "canceled", "zombie")
HASTE_S = 30
"""How long the slowest machine may take for what is usually done in a second."""


@dataclass(frozen=True)
class Job:
    """A submitted job that runs until it is told to end."""

    node: ServedNode
    user: str
    id: str
    script: str
    name: str

    @property
    def _files(self) -> Path:
        return self.node.box.homes / self.user

    def process(self) -> psutil.Process | None:
        """The job's own process, as the host sees it."""
        for process in psutil.process_iter(["cmdline"]):
            if process.info["cmdline"] == ["/bin/sh", "-c", self.script]:
                return process
        return None

    def started(self) -> psutil.Process:
        """Wait for the job to run, and to have done its prelude."""
        wait_until((self._files / f"{self.name}.up").exists, HASTE_S, on_timeout=self.node.story)
        found = self.process()
        assert found is not None
        return found

    def started_again(self, before: psutil.Process) -> psutil.Process:
        """Wait for another process of the job than this one."""
        found = wait_until(
            lambda: (process := self.process()) != before and process, HASTE_S, on_timeout=self.node.story
        )
        assert found
        return found

    def end(self) -> None:
        """Let it end by itself."""
        (self._files / f"{self.name}.end").touch()

    def record(self) -> tuple[str, dict[str, Any]] | None:
        """State and record, once it has ended."""
        for state in ENDED:
            file = self._files / f".roundqueue/{state}/{self.id}.job"
            if file.exists():
                return state, json.loads(file.read_text())
        return None

    def outcome(self) -> tuple[str, object]:
        """Wait for the end; its state and exit code."""
        found = wait_until(self.record, HASTE_S, on_timeout=self.node.story)
        assert found is not None
        return found[0], found[1]["exit_code"]


class ServedNode:
    """The box, with what an admin installs and users do."""

    def __init__(self, box: SystemdBox) -> None:
        self.box = box
        self._count = 0
        self._since = time.time()

    def install(self) -> None:
        """What the manual tells an admin to do."""
        box = self.box
        box.run(["sh", "-ec", f"""
            install -m 644 {SHIPPED}/system/* /etc/systemd/system/
            install -m 644 {SHIPPED}/user/* /etc/systemd/user/
            install -m 755 {SHIPPED}/roundq-users /usr/local/sbin/
        """])  # fmt: skip
        # A test need not wait for what a person would.
        for unit in ("/etc/systemd/system/roundq@.service.d", "/etc/systemd/user/roundq.service.d"):
            box.write(f"{unit}/haste.conf", "[Service]\nRestartSec=100ms\n")
        box.systemctl("daemon-reload")

    def clean(self) -> None:
        """As if no user had ever been here."""
        box = self.box
        box.systemctl("stop", "roundq*", check=False)
        box.run(["loginctl", "disable-linger", *UIDS], check=False)
        box.systemctl("stop", "user@*.service")
        wait_until(lambda: not self._kill_users(), HASTE_S)
        box.systemctl("disable", "roundq.target", "roundq-users.timer", check=False)
        box.run(["sh", "-ec", """
            rm -rf /etc/systemd/system/* /etc/systemd/user/* /etc/roundq.toml /etc/default/roundq
            rm -rf /run/roundq-users /tmp/roundq-*
            find /home -mindepth 2 -delete
        """])  # fmt: skip
        box.systemctl("daemon-reload")
        box.systemctl("reset-failed")

    def _kill_users(self) -> int:
        """Kill all processes of the users; how many there were."""
        found = 0
        namespace = os.stat(f"/proc/{self.box.pid}/ns/pid").st_ino
        for process in psutil.process_iter(["uids"]):
            uids = process.info["uids"]
            if uids is None or uids.real not in UIDS.values():
                continue
            try:
                if os.stat(f"/proc/{process.pid}/ns/pid").st_ino == namespace:
                    process.send_signal(signal.SIGKILL)
                    found += 1
            except (FileNotFoundError, psutil.NoSuchProcess):
                pass
        return found

    # ---------------------------------------- users

    def submit(self, user: str, *options: str, exit_code: int = 0, prelude: str = ":") -> Job:
        """`rq run` of a job that runs until Job.end(), and then ends with this code."""
        self._count += 1
        name = f"job-{os.getpid()}-{self._count}"
        script = f"{prelude}; touch {name}.up; until [ -e {name}.end ]; do sleep 0.05; done; exit {exit_code}"
        printed = self.box.run(
            ["rq", "run", "--parsable", *options, "/bin/sh", "-c", script], user=user
        ).stdout
        return Job(self, user, printed.strip(), script, name)

    def linger(self, user: str) -> None:
        """`loginctl enable-linger`, and wait for the user manager."""
        self.box.run(["loginctl", "enable-linger", user])
        wait_until(
            lambda: self.state(f"user@{UIDS[user]}.service") == "active", HASTE_S, on_timeout=self.story
        )

    # ---------------------------------------- units

    def state(self, unit: str, *, user: str = "root") -> str:
        return self.box.show(unit, "ActiveState", user=user)["ActiveState"]

    def main_pid(self, unit: str, *, user: str = "root") -> int:
        """The process id of the unit's daemon in the box, 0 if there is none."""
        return int(self.box.show(unit, "MainPID", user=user)["MainPID"])

    def wait_state(self, unit: str, state: str, *, user: str = "root") -> None:
        wait_until(lambda: self.state(unit, user=user) == state, HASTE_S, on_timeout=self.story)

    def wait_new_daemon(self, unit: str, old: int) -> None:
        """Wait until the unit is active again, with another daemon than this one."""
        wait_until(
            lambda: self.main_pid(unit) not in (0, old) and self.state(unit) == "active",
            HASTE_S,
            on_timeout=self.story,
        )

    def drop_in(self, unit: str, text: str) -> None:
        """`systemctl edit`."""
        self.box.write(f"/etc/systemd/system/{unit}.d/test.conf", text)
        self.box.systemctl("daemon-reload")

    # ---------------------------------------- words

    def journal(self, *matches: str) -> list[dict[str, Any]]:
        """What the journal has heard in this test."""
        # Not by --after-cursor: together with matches, journalctl of systemd 252 drops the first one.
        return self.box.journal(f"--since=@{self._since:.6f}", *matches)

    def said(self, *matches: str) -> str:
        return "\n".join(str(record.get("MESSAGE")) for record in self.journal(*matches))

    def story(self) -> str:
        """For a test that failed: what happened so far."""
        listing = self.box.run(["sh", "-c", "ls -R /home/*/.roundqueue; ps -ef"], check=False).stdout
        status = self.box.systemctl("status", "--no-pager", "roundq*", check=False).stdout
        return f"{status}\n{self.said()}\n{listing}"
