"""A real systemd in a box: PID 1 of its own namespaces, over the host's own files, up in about a second.

Tests ask for the fixture `systemd_box`. The root directory is the host's, with a layer on top that is
forgotten at the end: the same systemd, dbus, PAM and Python as outside, no download, no clean-up.
Units and generators that the host has enabled are hidden. Users, homes, /run, /tmp, the journal, the network
(none) and the control groups are the box's own. roundq is installed at /opt/roundq, as an admin would do it
with a virtual environment, from this checkout and the packages of the interpreter that runs the tests.

    with SystemdBox() as box:
        box.systemctl("start", "roundq@ann")
        box.run(["rq", "run", "true"], user="ann")

The tools are those of util-linux. When the tests die, so does the box, by the parent-death signal.
This module knows units and users, and nothing of jobs.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import site
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from tests.cluster.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
PREFIX = "/opt/roundq"
"""Where roundq is in the box; the units look there first."""

UIDS = {"ann": 20001, "bob": 20002, "eve": 20003, "ann-lee": 20004, "old": 20005}
"""The users of the box. The login shell of `old` is nologin."""

CGROUP_PREFIX = "roundq-sdbox-"

NAMESPACES = "unshare --mount --uts --ipc --net --pid --fork --kill-child --".split()

# What the box needs of the host: a path of which one must exist, and the Debian package it comes in.
NEEDS = {
    "systemd": ["/lib/systemd/systemd"],
    "dbus": ["/usr/bin/dbus-daemon"],
    "dbus-user-session": ["/usr/lib/systemd/user/dbus.socket"],
    "libpam-systemd": ["/etc/pam.d/systemd-user", "/usr/lib/pam.d/systemd-user"],
    "util-linux": ["/usr/bin/unshare"],
}


def reasons_against() -> list[str]:
    """Why there can be no box on this machine; empty if there can."""
    reasons = []
    if os.geteuid() != 0:
        reasons.append("needs root")
    elif shutil.which("unshare"):
        tried = subprocess.run([*NAMESPACES, "true"], capture_output=True, text=True, check=False)
        if tried.returncode != 0:
            # Root of a container, or of a chroot, for example.
            reasons.append(f"no namespaces for this root ({tried.stderr.strip()})")
    absent = [package for package, paths in NEEDS.items() if not any(map(os.path.exists, paths))]
    if absent:
        reasons.append("not installed: " + " ".join(absent))
    try:
        import systemd.daemon  # noqa: F401
    except ImportError:
        reasons.append("systemd-python is not installed (it is built with: gcc libsystemd-dev pkg-config)")
    return reasons


class SystemdBox:
    """One systemd and all that runs under it."""

    def __init__(self) -> None:
        # In memory if there is a place for it: records are synced to disk, and these are only tests.
        self._tmp = tempfile.TemporaryDirectory(
            prefix="roundq-sdbox-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        )
        self._dir = Path(self._tmp.name)
        # Users of the box walk through here to what is mounted below.
        self._dir.chmod(0o755)
        self._cgroup = f"{CGROUP_PREFIX}{os.getpid()}.{self._dir.name}"
        self._machine_id = os.urandom(16).hex()
        self._outer: subprocess.Popen[bytes] | None = None
        self.pid = 0
        """The process id of the box's systemd, as seen from the host."""

    # ---------------------------------------- life

    def __enter__(self) -> SystemdBox:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Boot, and return when all is up. Of an earlier boot, /home and /etc/systemd are left."""
        shutil.rmtree(self._dir / "layer", ignore_errors=True)
        self._lay_files()
        if not (self._dir / "instead").exists():
            self._hide_host_units()
        # Whatever our umask is.
        subprocess.run(["chmod", "-R", "a+rX", self._dir / "layer", self._dir / "instead"], check=True)
        (self._dir / "layer/etc/shadow").chmod(0o640)
        self._make_homes()
        (self._dir / "mnt").mkdir(exist_ok=True)
        (self._dir / "boot_id").write_text(f"{uuid.uuid4()}\n")
        self._sweep_cgroups()
        with open(self.console, "wb") as console:
            self._outer = subprocess.Popen(
                [
                    "setpriv", "--pdeathsig", "KILL", "--",
                    *NAMESPACES, "/bin/sh", str(HERE / "boot.sh"),
                ],
                env=self._boot_variables(), cwd="/", stdin=subprocess.DEVNULL, stdout=console,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        try:
            self.pid = wait_until(self._find_systemd, 20, on_timeout=self._console_text)
            wait_until(self._is_up, 30, on_timeout=self._why_not_up, every=0.05)
        except BaseException:
            self.stop()
            raise

    def crash(self) -> None:
        """Power off: nobody can do anything about it. `start` boots again."""
        if self._outer is not None:
            # The kernel kills a PID namespace together with its first process.
            if self.pid:
                os.kill(self.pid, signal.SIGKILL)
            else:
                self._outer.kill()
            self._forget()

    def shut_down(self, timeout: float = 120) -> None:
        """`systemctl poweroff`, and wait for it. `start` boots again."""
        assert self._outer is not None
        self.systemctl("poweroff", check=False)
        self._outer.wait(timeout)
        self._forget()

    def _forget(self) -> None:
        assert self._outer is not None
        self._outer.wait()
        self._outer = None
        self.pid = 0

    def stop(self) -> None:
        """Kill it all at once and leave nothing behind."""
        self.crash()
        if self._dir.exists():
            self._sweep_cgroups()
            self._tmp.cleanup()

    @property
    def homes(self) -> Path:
        """The box's /home, to be used from the host, also when the box is down."""
        return self._dir / "home"

    @property
    def console(self) -> Path:
        return self._dir / "console"

    def _console_text(self) -> str:
        return self.console.read_text(errors="replace")

    def _find_systemd(self) -> int:
        assert self._outer is not None
        assert self._outer.poll() is None, f"the box did not come up\n{self._console_text()}"
        for child in psutil.Process(self._outer.pid).children():
            if child.name() == "systemd":
                return child.pid
        return 0

    def _is_up(self) -> bool:
        state = self.run(["systemctl", "is-system-running"], check=False).stdout.strip()
        return state in ("running", "degraded")

    def _why_not_up(self) -> str:
        jobs = self.run(["systemctl", "list-jobs"], check=False)
        return f"{jobs.stdout}{jobs.stderr}\n{self._console_text()}"

    def _sweep_cgroups(self) -> None:
        """Remove our own control groups, and those of test runs that were killed."""
        subprocess.run(
            ["unshare", "--mount", "--", "/bin/sh", "-c", """
                mount -t cgroup2 none "$1" && cd "$1" || exit
                for group in "$2"*; do
                    owner=${group#"$2"}
                    if [ "$group" = "$3" ] || { [ -d "$group" ] && ! [ -d "/proc/${owner%%.*}" ]; }; then
                        find "$group" -depth -type d -exec rmdir {} +
                    fi
                done""",
             "sweep", str(self._dir / "mnt"), CGROUP_PREFIX, self._cgroup],
            check=True,
        )  # fmt: skip

    # ---------------------------------------- what is in it

    def _lay_files(self) -> None:
        """The files that are laid over the host's."""
        layer = self._dir / "layer"
        etc = layer / "etc"
        etc.mkdir(parents=True)
        users = "".join(
            f"{name}:x:{uid}:{uid}::/home/{name}:{'/usr/sbin/nologin' if name == 'old' else '/bin/sh'}\n"
            for name, uid in UIDS.items()
        )
        (etc / "passwd").write_text(Path("/etc/passwd").read_text() + users)
        (etc / "group").write_text(
            Path("/etc/group").read_text() + "".join(f"{name}:x:{uid}:\n" for name, uid in UIDS.items())
        )
        # PAM lets in only users with an entry here.
        (etc / "shadow").write_text(
            "root:*:19000:0:99999:7:::\n" + "".join(f"{name}:*:19000:0:99999:7:::\n" for name in UIDS)
        )
        (etc / "nsswitch.conf").write_text("passwd: files\ngroup: files\nshadow: files\nhosts: files\n")
        (etc / "hosts").write_text("127.0.0.1 localhost\n")
        (etc / "hostname").write_text("box\n")
        # The same machine after every boot.
        (etc / "machine-id").write_text(f"{self._machine_id}\n")
        (etc / "fstab").write_text("")
        self._lay_roundq(layer)

    def _lay_roundq(self, layer: Path) -> None:
        """A virtual environment at PREFIX; the copy of its packages is left to boot.sh."""
        venv = Path(f"{layer}{PREFIX}")
        packages = Path(f"{layer}{self._site_packages}")
        for directory in (venv / "bin", venv / "share/roundq", packages):
            directory.mkdir(parents=True)
        python = self._base_python
        (venv / "pyvenv.cfg").write_text(
            f"home = {python.parent}\ninclude-system-site-packages = {str(not self._in_venv).lower()}\n"
        )
        for name in ("python", "python3"):
            (venv / "bin" / name).symlink_to(python)
        rq = venv / "bin/rq"
        rq.write_text(
            f"#!{PREFIX}/bin/python3\nimport sys\nfrom roundq.faces.cli import main\nsys.exit(main())\n"
        )
        rq.chmod(0o755)
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(CHECKOUT / "roundq", packages / "roundq", ignore=ignore)
        shutil.copytree(CHECKOUT / "systemd", venv / "share/roundq/systemd", ignore=ignore)

    def _make_homes(self) -> None:
        for name, uid in UIDS.items():
            home = self.homes / name
            if not home.exists():
                home.mkdir(parents=True)
                self.homes.chmod(0o755)
                home.chmod(0o700)
                os.chown(home, uid, uid)

    def _hide_host_units(self) -> None:
        """Directories that are seen instead of the host's; each has a file .here for boot.sh."""
        for directory in (
            "etc/systemd",
            "etc/init.d",
            "usr/lib/systemd/system-generators",
            "usr/lib/systemd/user-generators",
            "usr/local/lib/systemd",
        ):
            place = self._dir / "instead" / directory
            place.mkdir(parents=True)
            (place / ".here").touch()
        for path, text in {
            # All that is said, also in a flood, and never on the disk.
            "journald.conf": "[Journal]\nStorage=volatile\nRateLimitBurst=0\n",
            "system/.keep": "",
            "user/.keep": "",
        }.items():
            file = self._dir / "instead/etc/systemd" / path
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)

    _in_venv = sys.prefix != sys.base_prefix
    _base_python = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    _site_packages = f"{PREFIX}/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"

    def _boot_variables(self) -> dict[str, str]:
        """See boot.sh."""
        ways = {Path(sys.base_prefix), self._base_python}
        if not self._in_venv:
            ways |= {Path(directory) for directory in site.getsitepackages()}
        closed = {p for way in ways for p in way.parents if p.exists() and not p.stat().st_mode & 0o001}
        elsewhere = {
            p for p in (Path("/usr"), Path(sys.base_prefix)) if p.stat().st_dev != os.stat("/").st_dev
        }
        if Path("/usr") in elsewhere and Path(sys.base_prefix).is_relative_to("/usr"):
            elsewhere = {Path("/usr")}
        return {
            "BOX": str(self._dir),
            "CGROUP": self._cgroup,
            "SITE": site.getsitepackages()[0] if self._in_venv else "",
            "SITE_AT": self._site_packages,
            "OPEN": " ".join(sorted(map(str, closed))),
            "BIND": " ".join(sorted(map(str, elsewhere))),
            "HOMES": str(self.homes),
        }

    # ---------------------------------------- use

    def run(
        self,
        argv: Sequence[str],
        *,
        user: str = "root",
        env: Mapping[str, str] | None = None,
        check: bool = True,
        timeout: float = 30,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the box as this user, in the home, and return it with its output as text."""
        variables = {
            "PATH": f"{PREFIX}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root" if user == "root" else f"/home/{user}",
            "USER": user,
            "LOGNAME": user,
            "LANG": "C.UTF-8",
            **({} if user == "root" else {"XDG_RUNTIME_DIR": f"/run/user/{UIDS[user]}"}),
            **(env or {}),
        }
        done = subprocess.run(
            [
                "nsenter", "--target", str(self.pid),
                "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--",
                "setpriv", "--reuid", user, "--regid", user, "--init-groups", "--",
                "env", "-i", "-C", variables["HOME"],
                *(f"{name}={value}" for name, value in variables.items()),
                *argv,
            ],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=timeout, check=False, umask=0o022,
        )  # fmt: skip
        assert not check or done.returncode == 0, (
            f"{user}: {shlex.join(argv)} exited with {done.returncode}\n{done.stdout}{done.stderr}"
        )
        return done

    def systemctl(
        self, *words: str, user: str = "root", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """`systemctl` of the system, or of the user manager of this user."""
        manager = [] if user == "root" else ["--user"]
        return self.run(["systemctl", *manager, *words], user=user, check=check, timeout=60)

    def show(self, unit: str, *properties: str, user: str = "root") -> dict[str, str]:
        """Properties of a unit."""
        shown = self.systemctl("show", "--property", ",".join(properties), "--", unit, user=user).stdout
        return dict(line.split("=", 1) for line in shown.splitlines())

    def journal(self, *matches: str) -> list[dict[str, Any]]:
        """The journal's records that match, oldest first."""
        self.run(["journalctl", "--sync"])
        lines = self.run(["journalctl", "--output=json", "--all", "--quiet", *matches]).stdout
        return [json.loads(line) for line in lines.splitlines()]

    def path(self, inside: str) -> Path:
        """A path of the box, to be used from the host. Mind absolute links: they would lead out."""
        return Path(f"/proc/{self.pid}/root{inside}")

    def write(self, inside: str, text: str, *, user: str = "root", mode: int = 0o644) -> None:
        """Write a file in the box, with the directories on the way, that belongs to this user."""
        file = self.path(inside)
        before = os.umask(0o022)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        finally:
            os.umask(before)
        file.chmod(mode)
        if user != "root":
            os.chown(file, UIDS[user], UIDS[user])
