"""The units keep their promises under a real systemd."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from tests.cluster import kernel
from tests.cluster.wait import wait_until
from tests.systemd.node import HASTE_S, SHIPPED, ServedNode
from tests.systemd.sdbox import PREFIX, UIDS

pytestmark = pytest.mark.systemd

ANN = "roundq@ann.service"


# ---------------------------------------------------------------------- the units as text


@pytest.mark.parametrize(
    "unit",
    [
        "roundq@.service",
        "roundq.target",
        "roundq-shutdown.service",
        "roundq-users.service",
        "roundq-users.timer",
    ],
)
def test_system_units_are_valid(node: ServedNode, unit: str) -> None:
    """systemd finds nothing to complain about in our units."""
    verdict = node.box.run(["systemd-analyze", "verify", "--man=no", f"{SHIPPED}/system/{unit}"], check=False)

    assert (verdict.returncode, verdict.stdout + verdict.stderr) == (0, "")


def test_user_unit_is_valid(node: ServedNode) -> None:
    """Nor in the one for user managers."""
    node.linger("ann")

    verdict = node.box.run(
        ["systemd-analyze", "--user", "verify", "--man=no", f"{SHIPPED}/user/roundq.service"],
        user="ann",
        check=False,
    )

    assert (verdict.returncode, verdict.stdout + verdict.stderr) == (0, "")


# ---------------------------------------------------------------------- the daemon


def test_active_means_that_jobs_are_started(node: ServedNode) -> None:
    """When `systemctl start` returns, the daemon runs as the user and starts what is submitted."""
    node.box.systemctl("start", ANN)

    assert node.state(ANN) == "active"
    assert "0 running here" in node.box.show(ANN, "StatusText")["StatusText"]
    job = node.submit("ann")
    assert job.started().uids().real == UIDS["ann"]
    job.end()
    assert job.outcome() == ("completed", 0)


def test_restart_leaves_jobs_alone(node: ServedNode) -> None:
    """A job runs on through `systemctl restart`, in the same process, and its end is recorded truly."""
    node.box.systemctl("start", ANN)
    good, bad = node.submit("ann"), node.submit("ann", exit_code=7)
    before = [good.started(), bad.started()]
    old = node.main_pid(ANN)

    node.box.systemctl("restart", ANN)

    assert node.main_pid(ANN) not in (0, old)
    assert [good.process(), bad.process()] == before
    good.end()
    bad.end()
    assert good.outcome() == ("completed", 0)
    assert bad.outcome() == ("failed", 7)


def test_stop_leaves_jobs_alone(node: ServedNode) -> None:
    """Without a daemon no job is started, but a running one runs on and its end is recorded."""
    node.box.systemctl("start", ANN)
    job = node.submit("ann", exit_code=3)
    before = job.started()

    node.box.systemctl("stop", ANN)

    assert node.box.show(ANN, "ActiveState", "Result") == {"ActiveState": "inactive", "Result": "success"}
    assert job.process() == before
    job.end()
    assert job.outcome() == ("failed", 3)


def test_a_daemon_that_hangs_is_replaced(node: ServedNode) -> None:
    """The watchdog ends a daemon that does nothing any more; a new one serves on; jobs do not notice."""
    node.drop_in(ANN, "[Service]\nWatchdogSec=2s\nTimeoutStopSec=2s\n")
    node.box.systemctl("start", ANN)
    job = node.submit("ann")
    before = job.started()
    old = node.main_pid(ANN)

    node.box.systemctl("kill", "--signal=STOP", "--kill-whom=main", ANN)

    node.wait_new_daemon(ANN, old)
    assert "Watchdog timeout" in node.said(f"UNIT={ANN}")
    assert job.process() == before
    later = node.submit("ann")
    later.started()
    job.end()
    later.end()
    assert job.outcome() == ("completed", 0)
    assert later.outcome() == ("completed", 0)


def test_a_daemon_that_is_killed_is_replaced(node: ServedNode) -> None:
    """After `kill -9` of the daemon a new one serves on; jobs do not notice."""
    node.box.systemctl("start", ANN)
    job = node.submit("ann")
    before = job.started()
    old = node.main_pid(ANN)

    node.box.systemctl("kill", "--signal=KILL", "--kill-whom=main", ANN)

    node.wait_new_daemon(ANN, old)
    assert job.process() == before
    job.end()
    assert job.outcome() == ("completed", 0)


def test_a_calm_daemon_is_left_alone(node: ServedNode) -> None:
    """A daemon that answers its watchdog in time is not restarted."""
    node.drop_in(ANN, "[Service]\nWatchdogSec=2s\n")
    node.box.systemctl("start", ANN)
    first = node.box.show(ANN, "MainPID", "WatchdogTimestampMonotonic")

    def pinged_for_longer_than_the_watchdog() -> bool:
        now = node.box.show(ANN, "WatchdogTimestampMonotonic")["WatchdogTimestampMonotonic"]
        return int(now) - int(first["WatchdogTimestampMonotonic"]) > 2_300_000

    wait_until(pinged_for_longer_than_the_watchdog, HASTE_S, on_timeout=node.story)

    assert node.box.show(ANN, "MainPID")["MainPID"] == first["MainPID"]


def test_the_target_restarts_all_daemons(node: ServedNode) -> None:
    """After an upgrade, `systemctl restart roundq.target` is enough; jobs go on."""
    bob = "roundq@bob.service"
    node.box.systemctl("start", "roundq.target", ANN, bob)
    job = node.submit("bob")
    before = job.started()
    old = [node.main_pid(ANN), node.main_pid(bob)]

    node.box.systemctl("restart", "roundq.target")

    node.wait_new_daemon(ANN, old[0])
    node.wait_new_daemon(bob, old[1])
    assert job.process() == before


def test_a_daemon_started_by_hand_replaces_the_unit_s(node: ServedNode) -> None:
    """The two do not fight: the unit's daemon leaves and stays away, until the unit is started again."""
    node.box.systemctl("start", ANN)
    job = node.submit("ann")
    before = job.started()

    node.box.run(["rq", "daemon"], user="ann")

    node.wait_state(ANN, "inactive")
    assert node.box.show(ANN, "Result", "NRestarts") == {"Result": "success", "NRestarts": "0"}
    node.box.systemctl("start", ANN)
    assert node.state(ANN) == "active"
    assert job.process() == before
    job.end()
    assert job.outcome() == ("completed", 0)


# ---------------------------------------------------------------------- control groups


@pytest.mark.parametrize("manager", ["of the system", "of the user"])
def test_each_job_has_a_control_group_that_dies_with_it(node: ServedNode, manager: str) -> None:
    """Below the unit, through a restart of the daemon; and with all that is in it."""
    user, unit = ("root", ANN) if manager == "of the system" else ("ann", "roundq.service")
    if user == "ann":
        node.linger(user)
    node.box.systemctl("start", unit, user=user)
    job = node.submit("ann", prelude="{ setsid env -i sleep 1234 & }")
    before = job.started()
    group = group_of(before.pid)
    assert re.fullmatch(rf"{re.escape(unit)}/roundq-[0-9]+-[0-9]+", "/".join(group.parts[-2:]))
    inside = {int(pid) for pid in (group / "cgroup.procs").read_text().split()}
    assert before.pid in inside
    assert len(inside) >= 2
    old = node.main_pid(unit, user=user)
    daemon = node.box.run(["cat", f"/proc/{old}/cgroup"]).stdout
    assert f"0::{daemon.partition('0::')[2].strip()}".endswith(f"/{unit}")

    node.box.systemctl("restart", unit, user=user)

    assert node.main_pid(unit, user=user) not in (0, old)
    assert job.process() == before
    assert group_of(before.pid) == group
    later = node.submit("ann")
    assert group_of(later.started().pid).parent == group.parent
    node.box.run(["rq", "cancel", "--wait", job.id], user="ann")
    assert not group.exists()
    assert not [pid for pid in inside if Path(f"/proc/{pid}").exists()]
    later.end()
    assert later.outcome() == ("completed", 0)


def group_of(pid: int) -> Path:
    """The control group of a process of the host."""
    (line,) = (
        line for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if line.startswith("0::")
    )
    return Path(f"{kernel.cgroup2_root()}{line[3:]}")


# ---------------------------------------------------------------------- the end of the node


def test_a_shutdown_ends_jobs_while_their_homes_are_there(mortal_node: ServedNode) -> None:
    """At a shutdown jobs get SIGTERM, their end is recorded, and nothing has to wait for them."""
    mortal_node.box.systemctl("start", ANN)
    # Later, when unmounting has been tried and the network is gone, process 1 is systemd-shutdown.
    job = mortal_node.submit(
        "ann", prelude="trap 'read name </proc/1/comm; echo $name >process-1; exit 9' TERM"
    )
    job.started()

    mortal_node.box.shut_down(timeout=HASTE_S)

    assert job.outcome() == ("failed", 9)
    assert (mortal_node.box.homes / "ann/process-1").read_text() == "systemd\n"


def test_after_a_crash_the_list_is_true(mortal_node: ServedNode) -> None:
    """Enabled daemons start at boot: what ran is lost, and what may be run again runs again."""
    mortal_node.box.systemctl("enable", "--now", "roundq.target", ANN)
    lost, restartable = mortal_node.submit("ann"), mortal_node.submit("ann", "--restart")
    lost.started()
    first = restartable.started()

    mortal_node.box.crash()
    mortal_node.box.start()

    assert lost.outcome() == ("zombie", None)
    restartable.started_again(first)
    restartable.end()
    assert restartable.outcome() == ("completed", 0)


# ---------------------------------------------------------------------- what jobs inherit


def test_a_job_has_what_a_login_has(node: ServedNode) -> None:
    """No restriction of the unit reaches a job: privileges, limits, signals, /tmp are those of the user."""
    node.box.write("/tmp/everyone-sees-this", "")
    node.box.systemctl("start", ANN)

    job = node.submit(
        "ann",
        prelude="ls /tmp >tmp; env >env; grep -E 'NoNewPrivs|SigIgn' /proc/self/status >status; "
        "cat /proc/self/limits >limits",
    )
    job.started()

    home = node.box.path("/home/ann")
    status = dict(line.split() for line in (home / "status").read_text().splitlines())
    hard, most = hard_limits(home / "limits"), hard_limits(Path(f"/proc/{node.box.pid}/limits"))
    sigpipe = 1 << (signal.SIGPIPE - 1)
    assert status["NoNewPrivs:"] == "0"
    assert int(status["SigIgn:"], 16) & sigpipe == 0
    assert "everyone-sees-this" in (home / "tmp").read_text()
    assert not [
        name
        for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "FDSTORE")
        if name in (home / "env").read_text()
    ]
    assert hard["core file size"] == most["core file size"]
    assert int(hard["open files"]) == min(int(most["open files"]), 524288)
    assert node.box.show(ANN, "TasksMax")["TasksMax"] == "infinity"


def hard_limits(limits: Path) -> dict[str, str]:
    """By name, from a /proc/PID/limits."""
    fields = (re.split(r" {2,}", line) for line in limits.read_text().splitlines()[1:])
    return {name.removeprefix("Max "): hard for name, _, hard, *_ in fields}


# ---------------------------------------------------------------------- the journal


def test_the_journal_can_be_asked_for_a_job(node: ServedNode) -> None:
    """Records about a job carry its id, state and node as fields, under the name roundq."""
    node.box.systemctl("start", ANN)
    job = node.submit("ann")
    job.started()

    records = wait_until(
        lambda: node.journal(f"ROUNDQ_JOB={job.id}", "ROUNDQ_STATE=running"), HASTE_S, on_timeout=node.story
    )

    fields = {
        key: records[0].get(key) for key in ("ROUNDQ_NODE", "SYSLOG_IDENTIFIER", "_UID", "_SYSTEMD_UNIT")
    }
    assert fields == {
        "ROUNDQ_NODE": "box",
        "SYSLOG_IDENTIFIER": "roundq",
        "_UID": str(UIDS["ann"]),
        "_SYSTEMD_UNIT": ANN,
    }


# ---------------------------------------------------------------------- when something is missing


def test_without_systemd_python_the_unit_says_so(node: ServedNode) -> None:
    """The unit fails once, with exit code 78 and with what to install; it is not tried again."""
    node.box.write("/opt/lame/systemd/__init__.py", "raise ModuleNotFoundError(name='systemd')\n")
    node.drop_in(ANN, "[Service]\nEnvironment=PYTHONPATH=/opt/lame\n")

    started = node.box.systemctl("start", ANN, check=False)

    assert started.returncode != 0
    node.wait_state(ANN, "failed")
    assert node.box.show(ANN, "ExecMainStatus", "NRestarts") == {"ExecMainStatus": "78", "NRestarts": "0"}
    said = node.said("SYSLOG_IDENTIFIER=roundq")
    assert "systemd-python is not installed" in said
    assert "-m pip install systemd-python (it needs" in said


def test_an_admin_says_where_rq_is(node: ServedNode) -> None:
    """A line PATH=... in /etc/default/roundq is enough for an rq in an unusual place."""
    node.box.run(["sh", "-ec", f"mkdir -p /srv/rq/bin; cp {PREFIX}/bin/rq /srv/rq/bin/"])
    node.box.write("/etc/default/roundq", "PATH=/srv/rq/bin:/usr/bin:/bin\n")

    node.box.systemctl("start", ANN)

    assert "/srv/rq/bin/rq" in node.box.run(["cat", f"/proc/{node.main_pid(ANN)}/cmdline"]).stdout
    # What starts the units of all users is not where rq is.
    node.box.systemctl("start", "roundq-users.service")


# ---------------------------------------------------------------------- the user manager


def test_a_user_needs_no_admin(node: ServedNode) -> None:
    """`systemctl --user enable --now roundq` serves the user; jobs go on through its restart."""
    node.linger("ann")
    node.box.systemctl("enable", "--now", "roundq", user="ann")
    assert node.state("roundq.service", user="ann") == "active"
    job = node.submit("ann", exit_code=5)
    before = job.started()
    old = node.main_pid("roundq.service", user="ann")

    node.box.systemctl("restart", "roundq", user="ann")

    assert node.main_pid("roundq.service", user="ann") not in (0, old)
    assert job.process() == before
    job.end()
    assert job.outcome() == ("failed", 5)


# ---------------------------------------------------------------------- all users


def test_every_user_with_a_queue_is_served(node: ServedNode) -> None:
    """Those with a ~/.roundqueue of their own, and nobody else; a hyphen in a name does no harm."""
    for user in ("ann", "ann-lee", "old"):
        node.box.run(["mkdir", ".roundqueue"], user=user)
    node.box.run(["ln", "-s", "../ann/.roundqueue", ".roundqueue"], user="eve")

    node.box.systemctl("start", "roundq-users.service")

    node.wait_state(ANN, "active")
    node.wait_state("roundq@ann-lee.service", "active")
    others = {user: node.state(f"roundq@{user}.service") for user in ("bob", "eve", "old")}
    assert others == dict.fromkeys(others, "inactive")
    assert "starting: ann ann-lee" in node.said("SYSLOG_IDENTIFIER=roundq-users")
    assert "/home/eve/.roundqueue is not a directory of this user's own" in node.said()


def test_a_user_who_comes_later_is_served(node: ServedNode) -> None:
    """The timer looks again and again; who is served already is not touched."""
    node.drop_in(
        "roundq-users.timer", "[Timer]\nOnUnitInactiveSec=1s\nRandomizedDelaySec=0\nAccuracySec=10ms\n"
    )
    node.box.run(["mkdir", ".roundqueue"], user="ann")
    node.box.systemctl("start", "roundq-users.timer")
    node.wait_state(ANN, "active")
    first = node.main_pid(ANN)

    node.box.run(["mkdir", ".roundqueue"], user="bob")

    node.wait_state("roundq@bob.service", "active")
    assert node.main_pid(ANN) == first


def test_a_masked_user_is_not_served(node: ServedNode) -> None:
    """`systemctl mask` keeps a user's daemon from being started, silently."""
    node.box.run(["mkdir", ".roundqueue"], user="ann")
    node.box.systemctl("mask", ANN)

    node.box.systemctl("start", "roundq-users.service")

    assert node.state(ANN) == "inactive"
    assert node.said("SYSLOG_IDENTIFIER=roundq-users") == ""


def test_a_closed_home_is_told_once(node: ServedNode) -> None:
    """A home that cannot be looked into is named with what to do, and not again five minutes later."""
    node.box.run(["mkdir", ".roundqueue"], user="bob")
    node.box.run(["chmod", "0", "."], user="ann")

    node.box.systemctl("start", "roundq-users.service")
    node.wait_state("roundq@bob.service", "active")
    node.box.systemctl("start", "roundq-users.service")

    said = node.said("SYSLOG_IDENTIFIER=roundq-users")
    node.box.run(["chmod", "700", "/home/ann"])
    assert said.count("cannot tell whether ann has a queue: /home/ann: Permission denied") == 1
    assert said.count("systemctl enable --now roundq@ann") == 1


def test_homes_may_be_closed_to_root(node: ServedNode) -> None:
    """Where the file server grants root nothing (root_squash), homes are seen with their owners' rights."""
    node.box.run(["mkdir", ".roundqueue"], user="ann")

    said = node.box.run(
        ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "roundq-users", "--dry-run"]
    ).stdout

    assert said == "would start: ann\n"


def test_a_home_that_hangs_holds_nobody_up(node: ServedNode) -> None:
    """Users after one whose home does not answer are served all the same."""
    if not node.box.path("/dev/autofs").exists():
        pytest.skip("this kernel has no autofs")
    # An automount whose mount program sleeps is what a dead file server looks like.
    node.box.write("/usr/sbin/mount.slow", "#!/bin/sh\nexec sleep 1000\n", mode=0o755)
    node.box.write("/etc/systemd/system/home-ann.mount", "[Mount]\nWhat=x\nWhere=/home/ann\nType=slow\n")
    node.box.write("/etc/systemd/system/home-ann.automount", "[Automount]\nWhere=/home/ann\n")
    node.box.systemctl("daemon-reload")
    node.box.run(["mkdir", ".roundqueue"], user="bob")
    node.box.systemctl("start", "home-ann.automount")
    try:
        node.box.systemctl("start", "roundq-users.service")

        node.wait_state("roundq@bob.service", "active")
        assert "cannot tell whether ann has a queue: the home does not answer" in node.said()
    finally:
        node.box.systemctl("stop", "home-ann.mount", "home-ann.automount")


def test_homes_are_where_the_admin_says(node: ServedNode) -> None:
    """`homes` in /etc/roundq.toml replaces /home."""
    node.box.run(["mkdir", ".roundqueue"], user="ann")
    node.box.write("/etc/roundq.toml", 'homes = ["/srv"]\n')

    assert node.box.run(["roundq-users", "--dry-run"]).stdout == ""


@pytest.mark.parametrize(
    ("text", "mode", "complaint"),
    [
        ("homes = [", 0o644, "is not valid TOML"),
        ('homes = ["home"]', 0o644, "homes must be a list of absolute directories"),
        ("", 0o666, "can be written by others than root"),
    ],
)
def test_a_doubtful_configuration_is_refused(node: ServedNode, text: str, mode: int, complaint: str) -> None:
    """Root does not guess: a configuration that is broken, or not root's alone, ends with 78 and a reason."""
    node.box.write("/etc/roundq.toml", text, mode=mode)

    done = node.box.run(["roundq-users", "--dry-run"], check=False)

    assert done.returncode == 78
    assert complaint in done.stderr
