"""Control groups: which are ours to divide, and that what is in one dies with it. Real ones, real users."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from roundq.world import cgroup, procs, spawn
from roundq.world.cgroup import Group
from tests import delegation
from tests.cluster.wait import wait_until
from tests.delegation import UID, on_stage_in
from tests.world.processes import forked, pause

MIB = 1 << 20


def in_group(group: Group, script: str) -> int:
    """The pid of a shell that was born in the group."""
    null = os.open(os.devnull, os.O_RDWR)
    try:
        return spawn.spawn(
            ["sh", "-c", script],
            cwd="/",
            env={"PATH": "/usr/local/bin:/usr/bin:/bin"},
            stdin=null,
            stdout=null,
            stderr=null,
            nice=None,
            group=group,
            oom_score=100,
        )
    finally:
        os.close(null)


def made(name: str = "roundq-1-2") -> Group:
    """A new group of a job; where none could be made the test is wrong."""
    group = cgroup.make(name)
    assert group is not None
    return group


def emptied(group: Group) -> bool:
    """Whether the group is empty soon."""
    end = time.monotonic() + 15
    while group.is_populated() and time.monotonic() < end:
        pause(0.01)
    return not group.is_populated()


# ---------------------------------------------------------------- whose it is


def test_a_group_that_belongs_to_me_alone_was_delegated() -> None:
    """systemd gives the directory of a unit with Delegate=yes to its user; the one above is root's."""
    with delegation.group(owner=UID) as path:
        assert on_stage_in(path, cgroup.delegated) == path


def test_a_group_that_is_not_mine_is_never_divided() -> None:
    """Neither root's nor a stranger's; and root, who owns all, divides only what says it is delegated."""
    with delegation.group() as path:
        assert on_stage_in(path, cgroup.delegated) is None
        assert on_stage_in(path, lambda: cgroup.make("roundq-1-2")) is None
        assert on_stage_in(path, cgroup.delegated, uid=0) is None
        assert os.listdir(path) == [name for name in os.listdir(path) if "roundq" not in name]
    with delegation.group(owner=UID + 1, says_so=True) as path:
        assert on_stage_in(path, cgroup.delegated) is None
    with delegation.group(says_so=True) as path:
        assert on_stage_in(path, cgroup.delegated, uid=0) == path


def test_groups_of_a_user_manager_are_its_own_unless_they_say_otherwise() -> None:
    """They all belong to the user, down to the scope of a window; only a unit with Delegate=yes is ours."""
    with delegation.group(owner=UID) as manager:
        own = f"{manager}/app.slice"

        os.mkdir(own)
        for name in ("", "/cgroup.procs"):
            os.chown(own + name, UID, UID)
        assert on_stage_in(own, cgroup.delegated) is None
        os.setxattr(own, "user.delegate", b"1")
        assert on_stage_in(own, cgroup.delegated) == own


def test_what_is_delegated_to_another_process_is_told_by_its_group() -> None:
    """As that process itself would find it; a group that is not there was delegated to nobody."""
    with delegation.group(owner=UID) as path:
        leaf = f"{path}/{cgroup.SUBGROUP}"
        os.mkdir(leaf)
        for name in ("", "/cgroup.procs"):
            os.chown(leaf + name, UID, UID)

        def told() -> list[str | None]:
            (own,) = [line[3:] for line in Path("/proc/self/cgroup").read_text().split() if line[:3] == "0::"]
            parent = os.path.dirname(own)
            return [cgroup.delegated_above(group) for group in (own, parent, f"{own}/none", "")]

        assert on_stage_in(leaf, told) == [path, path, None, None]
        assert on_stage_in(leaf, told, uid=UID + 1) == [None] * 4


def test_a_daemon_that_is_told_marks_its_group() -> None:
    """A user manager says nothing itself. It marks the one that it is in, if it is its own; never root's."""
    with delegation.group(owner=UID) as manager, delegation.group() as roots:
        own = f"{manager}/roundq.service"
        os.mkdir(own)
        for name in ("", "/cgroup.procs"):
            os.chown(own + name, UID, UID)

        on_stage_in(own, cgroup.declare)
        on_stage_in(roots, cgroup.declare)
        on_stage_in(roots, cgroup.declare, uid=0)

        assert os.getxattr(own, "user.delegate") == b"1"
        assert [os.listxattr(path) for path in (manager, roots)] == [[], []]
        assert on_stage_in(own, cgroup.delegated) == own


def test_a_daemon_in_a_leaf_of_its_own_divides_the_group_above() -> None:
    """DelegateSubgroup=daemon: there no process is in the way of controllers."""
    with delegation.group(owner=UID) as path:
        leaf = f"{path}/{cgroup.SUBGROUP}"
        os.mkdir(leaf)
        for name in ("", "/cgroup.procs"):
            os.chown(leaf + name, UID, UID)
        assert on_stage_in(leaf, cgroup.delegated) == path


def test_without_cgroup2_there_is_none(tmp_path: Path) -> None:
    """Version 1 alone, no /proc, or a path that lies outside of what a container shows."""
    assert cgroup.make("roundq-1-2", root=str(tmp_path)) is None
    proc = tmp_path / "proc/self"
    proc.mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    mount = "30 22 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
    for membership, mounts in (("4:memory:/a\n", mount), ("0::/../b\n", mount), ("0::/a\n", "")):
        (proc / "cgroup").write_text(membership)
        (proc / "mountinfo").write_text(mounts)
        assert cgroup.make("roundq-1-2", root=str(tmp_path)) is None
        assert cgroup.find("roundq-1-2", root=str(tmp_path)) == []


# ---------------------------------------------------------------- born in it, and dead with it


def test_a_command_is_born_in_its_group_and_we_are_not_in_it() -> None:
    """With all that it starts, and before it executes; its maker stays where it was."""

    def act() -> tuple[bool, bool, int]:
        group = made()
        pid = in_group(group, "sleep 60 & sleep 60")
        wait_until(lambda: len(group.pids()) == 3)
        score = int(Path(f"/proc/{pid}/oom_score_adj").read_text())
        return pid in group.pids(), os.getpid() in group.pids(), score - spawn._own_oom_score()

    with delegation.group(owner=UID) as path:
        assert on_stage_in(path, act) == (True, False, 100)


@pytest.fixture(params=["cgroup.kill", "cgroup.freeze"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How the kernel kills a group: at once, or before Linux 5.14, frozen and one by one."""
    write = cgroup._write

    def without_kill(path: str, text: str) -> None:
        if path.endswith("cgroup.kill"):
            raise FileNotFoundError(2, "No such file", path)
        write(path, text)

    if request.param == "cgroup.freeze":
        monkeypatch.setattr(cgroup, "_write", without_kill)
    return str(request.param)


@pytest.mark.usefixtures("way")
def test_a_group_is_killed_whatever_is_in_it() -> None:
    """Other sessions, orphans, stopped ones, and groups that the job made."""

    def act() -> tuple[bool, bool]:
        group = made()
        below = f"{group.path}/below"
        in_group(
            group,
            "trap '' TERM; setsid sleep 60 & (setsid sleep 60 &) ; sh -c 'kill -STOP $$' & "
            f"mkdir {below}; sh -c 'echo 0 >{below}/cgroup.procs; exec sleep 60' & exec sleep 60",
        )
        wait_until(lambda: len(group.pids()) == 5)
        assert group.is_populated()
        assert not group.remove()
        group.kill()
        return emptied(group), group.remove() and not os.path.exists(group.path)

    with delegation.group(owner=UID) as path:
        assert on_stage_in(path, act) == (True, True)


@pytest.mark.usefixtures("way")
def test_a_fork_bomb_dies_with_its_group() -> None:
    """Nobody could count them: each is gone by the time it is seen."""

    def chain() -> None:
        # Bounded: if the test itself is killed, nobody else would ever catch it.
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if os.fork():
                os._exit(0)
        os._exit(0)

    def act() -> tuple[bool, bool]:
        group = made()

        def enter() -> None:
            Path(group.entrance).write_text("0")
            for _ in range(8):
                forked(chain)

        os.waitpid(forked(enter), 0)
        wait_until(group.is_populated)
        end = time.monotonic() + 15
        while group.is_populated() and time.monotonic() < end:
            group.kill()
            pause(0.001)
        return not group.is_populated(), group.remove()

    with delegation.group(owner=UID) as path:
        assert on_stage_in(path, act) == (True, True)


def test_what_became_another_user_dies_with_its_group(way: str) -> None:
    """By sudo, say: no signal of ours reaches it, but the kernel's kill does, since Linux 5.14."""

    def become_root() -> None:
        # The test is root still; the group's owner is not.
        with open(f"{path}/roundq-1-2/cgroup.procs", "w") as file:
            file.write("0")
        time.sleep(30)

    def act() -> bool:
        group = Group(f"{path}/roundq-1-2")
        with pytest.raises(PermissionError):
            os.kill(group.pids()[0], signal.SIGKILL)
        group.kill()
        end = time.monotonic() + (15 if way == "cgroup.kill" else 0.2)
        while group.is_populated() and time.monotonic() < end:
            time.sleep(0.01)
        return not group.is_populated()

    with delegation.group(owner=UID) as path:
        on_stage_in(path, made)
        pid = forked(become_root)
        try:
            wait_until(Group(f"{path}/roundq-1-2").is_populated)
            assert on_stage_in(path, act) == (way == "cgroup.kill")
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def test_a_zombie_does_not_populate_a_group() -> None:
    """So that what a tracer outside of the job keeps from being reaped delays no proof of death."""

    def act() -> tuple[bool, bool]:
        group = made()
        pid = in_group(group, "exit 0")
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        return emptied(group), group.remove()

    with delegation.group(owner=UID) as path:
        assert on_stage_in(path, act) == (True, True)


def test_a_group_that_vanished_is_empty(tmp_path: Path) -> None:
    """And killing or removing it does nothing; what cannot be read may be populated."""
    group = Group(str(tmp_path / "gone"))
    assert not group.is_populated()
    assert group.pids() == []
    group.kill()
    assert group.remove()
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone/cgroup.events").mkdir()
    assert group.is_populated()


def test_a_group_is_found_wherever_its_maker_was() -> None:
    """By the identity of the supervisor in its name; a stranger's of that name is not ours."""
    name = cgroup.name_of(os.getpid(), procs.own_identity().start)

    def act() -> list[str]:
        made(name)
        return [group.path for group in cgroup.find(name)]

    with delegation.group(owner=UID) as path, delegation.group(owner=UID + 1) as strange:
        os.mkdir(f"{strange}/{name}")
        # A unit may have a name of ours, too.
        unit = f"{path}/roundq-users.service"
        os.mkdir(unit)
        os.setxattr(unit, "user.delegate", b"1")
        for file in ("", "/cgroup.procs"):
            os.chown(unit + file, UID, UID)
        assert on_stage_in(path, act) == [f"{path}/{name}"]
        assert sorted(on_stage_in(unit, act)) == [f"{path}/{name}", f"{unit}/{name}"]


def test_a_group_that_cannot_be_entered_does_not_hinder_the_command(tmp_path: Path) -> None:
    """It was removed in that moment: the job runs, and is found by other means."""
    pid = in_group(Group(str(tmp_path / "gone")), "exit 7")

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


# ---------------------------------------------------------------- memory


def test_controllers_are_not_switched_on_where_processes_are() -> None:
    """Else the service manager could not put a restarted daemon into its group."""

    def act() -> tuple[bool, str]:
        group = made()
        return group.limit_memory(64 * MIB), Path(path, "cgroup.subtree_control").read_text().strip()

    with delegation.group(owner=UID) as path:
        assert on_stage_in(path, act) == (False, "")


def test_a_limit_of_memory_is_that_of_the_whole_job_without_swap(tmp_path: Path) -> None:
    """memory.max, and the end of all of it together. (This kernel's controller may belong to version 1.)"""
    group = Group(str(tmp_path / "job"))
    (tmp_path / "job").mkdir()
    for name in ("memory.max", "memory.swap.max", "memory.oom.group"):
        (tmp_path / "job" / name).write_text("max\n")

    assert group.limit_memory(64 * MIB)

    assert (tmp_path / "job/memory.max").read_text() == str(64 * MIB)
    assert (tmp_path / "job/memory.swap.max").read_text() == "0"
    assert (tmp_path / "job/memory.oom.group").read_text() == "1"


@pytest.mark.parametrize(
    ("events", "met"),
    [
        ("low 0\nhigh 0\nmax 9\noom 1\noom_kill 3\noom_group_kill 1\n", True),
        # The node had no memory left; the job was within its limit.
        ("low 0\nhigh 0\nmax 0\noom 0\noom_kill 1\noom_group_kill 0\n", False),
        # It was at its limit, and got along with less.
        ("low 0\nhigh 0\nmax 7\noom 1\noom_kill 0\n", False),
        ("", False),
    ],
)
def test_a_limit_was_met_only_if_somebody_was_killed_at_it(tmp_path: Path, events: str, met: bool) -> None:
    """A job that the kernel ended for the node's sake did not exceed anything."""
    (tmp_path / "memory.events").write_text(events)

    assert Group(str(tmp_path)).has_met_its_limit() is met


def test_kills_are_counted_in_the_innermost_group_that_counts(tmp_path: Path) -> None:
    """The job's own, else ours, in version 2 or 1; without any, nobody can tell."""
    proc = tmp_path / "proc/self"
    proc.mkdir(parents=True)
    (proc / "mountinfo").write_text(
        "30 22 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
        "31 22 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    )
    (proc / "cgroup").write_text("4:memory:/a\n0::/ann/jobs\n")
    unit = tmp_path / "sys/fs/cgroup/ann"
    (unit / "jobs/roundq-1-2").mkdir(parents=True)
    old = tmp_path / "sys/fs/cgroup/memory/a"
    old.mkdir(parents=True)
    job = Group(str(unit / "jobs/roundq-1-2"))

    def kills(group: Group | None) -> int | None:
        counter = cgroup.oom_counter(group, root=str(tmp_path))
        return None if counter is None else cgroup.oom_kills(counter)

    assert kills(job) is None
    (unit / "memory.events").write_text("oom 9\noom_kill 4\n")
    assert kills(job) == 4
    (unit / "jobs/roundq-1-2/memory.events").write_text("oom 0\noom_kill 2\n")
    assert kills(job) == 2
    assert kills(None) == 4
    (unit / "memory.events").unlink()
    (old / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n")
    assert kills(None) == 1
