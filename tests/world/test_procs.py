"""Promises about processes: who they are, what is left of them, and that dead means dead."""

from __future__ import annotations

import ctypes
import errno
import os
import select
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from roundq.words.job import Identity
from roundq.world import killing, procs, spawn
from roundq.world.procs import Liveness, Process
from tests.cluster.wait import wait_until
from tests.world.processes import (
    forked,
    identity_of,
    on_stage,
    pause,
    shell,
    sleeper,
    wait_for_file,
    zombie,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

quick = settings(max_examples=200, deadline=None)
#: A pid that the kernel gives to nobody: proc(5), pid_max.
NO_PID = (1 << 22) + 1


def stat_line(name: bytes, *, pid: int = 7, state: bytes = b"S", threads: int = 1, start: int = 99) -> bytes:
    """A stat line as proc(5) describes it, of 52 fields."""
    fields = [state, b"2", b"3", b"4"] + [b"0"] * 13 + [b"%d" % threads, b"0", b"%d" % start, b"0", b"6"]
    return b"%d (%s) %s\n" % (pid, name, b" ".join(fields + [b"0"] * 28))


# ---------------------------------------------------------------- stat


@quick
@given(st.binary(max_size=64))
@example(b"a) Z 1 (b")
@example(b"\n)(")
@example(b"")
def test_a_name_cannot_lie_about_the_rest_of_a_stat_line(name: bytes) -> None:
    """A process may call itself what it likes: it is still read as what it is."""
    found = procs.parse_stat(stat_line(name, pid=7, start=1234))

    expected = Process(7, 2, 4, 1234, 6 * os.sysconf("SC_PAGE_SIZE"), False)
    assert expected == found


@quick
@given(st.binary() | st.text("0123456789() SZ\n").map(str.encode))
def test_what_is_no_stat_line_is_refused_as_such(line: bytes) -> None:
    """Garbage is a ValueError and nothing else."""
    try:
        procs.parse_stat(line)
    except ValueError:
        return
    assert line.count(b" ") >= 20


@pytest.mark.parametrize(
    ("state", "threads", "dead"),
    [
        (b"R", 1, False),
        (b"D", 1, False),
        (b"T", 1, False),
        (b"Z", 1, True),
        (b"X", 0, True),
        (b"Z", 3, False),
    ],
)
def test_a_zombie_is_dead_unless_threads_of_it_run_on(state: bytes, threads: int, dead: bool) -> None:
    """Stopped and sleeping processes live; a zombie lives only as long as it has other threads."""
    assert dead == procs.parse_stat(stat_line(b"x", state=state, threads=threads)).dead


# ---------------------------------------------------------------- who is it


def test_every_process_has_one_identity() -> None:
    """I am who I am, however I ask, and nobody has a pid that was never given."""
    me = procs.own_identity()

    assert procs.identity(os.getpid()) == me
    assert (me.boot, me.pid) == (procs.boot_id(), os.getpid())
    assert procs.identity(NO_PID) is None


def test_a_name_full_of_parentheses_changes_no_identity() -> None:
    """A real process with a hostile name is found as any other."""

    def act() -> None:
        me = procs.own_identity()
        spawn.set_name(b"a) Z 1 1\n (")
        assert procs.own_identity() == me
        assert procs.liveness(me) is Liveness.ALIVE

    on_stage(act)


def test_an_exec_keeps_the_identity() -> None:
    """The start time is that of the fork: a command has the identity its process had before."""

    def act() -> None:
        gate, opening = os.pipe()

        def child() -> None:
            os.read(gate, 1)
            os.execv("/bin/sleep", ["sleep", "30"])

        pid = forked(child)
        before = identity_of(pid)
        os.write(opening, b"x")
        wait_until(lambda: os.readlink(f"/proc/{pid}/exe").endswith(("sleep", "coreutils", "busybox")))
        assert identity_of(pid) == before

    on_stage(act)


def test_liveness_has_three_values() -> None:
    """Dead is said only of what is known to be dead."""

    def act() -> None:
        me = procs.own_identity()
        sleeping_pid = sleeper()
        sleeping_id = identity_of(sleeping_pid)
        zombie_id = zombie()
        other_boot_id = Identity("0" * 36, me.pid, me.start)
        pid_given_away_id = Identity(me.boot, me.pid, me.start - 1)

        assert procs.liveness(me) is Liveness.ALIVE
        assert procs.liveness(sleeping_id) is Liveness.ALIVE
        assert procs.liveness(zombie_id) is Liveness.DEAD
        assert procs.liveness(other_boot_id) is Liveness.DEAD
        assert procs.liveness(pid_given_away_id) is Liveness.DEAD
        assert procs.liveness(Identity(me.boot, NO_PID, 1)) is Liveness.DEAD

        os.kill(sleeping_pid, signal.SIGSTOP)
        assert procs.liveness(sleeping_id) is Liveness.ALIVE
        os.kill(sleeping_pid, signal.SIGKILL)
        os.waitpid(sleeping_pid, 0)
        assert procs.liveness(sleeping_id) is Liveness.DEAD

    on_stage(act)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENOMEM])
def test_what_cannot_be_read_is_unknown(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With hidepid=1, or when descriptors run out, nobody is called dead."""

    def refuse(path: str, _: int) -> bytes:
        raise OSError(number, os.strerror(number), path)

    cant_know_if_dead_id = procs.own_identity()
    monkeypatch.setattr(procs, "_read", refuse)

    assert procs.liveness(cant_know_if_dead_id) is Liveness.UNKNOWN


def test_whom_the_kernel_hides_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """With hidepid=2 a process of another user looks absent; EPERM tells that it is there."""

    def absent(path: str, _: int) -> bytes:
        raise FileNotFoundError(errno.ENOENT, "", path)

    def not_yours(_: int, __: int) -> None:
        raise PermissionError(errno.EPERM, "")

    cant_know_if_dead_id = procs.own_identity()
    monkeypatch.setattr(procs, "_read", absent)
    monkeypatch.setattr(os, "kill", not_yours)

    assert procs.liveness(cant_know_if_dead_id) is Liveness.UNKNOWN


LEADER_LEAVES = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(30,)).start()
ctypes.CDLL(None).syscall({number}, 0)
"""


@pytest.mark.skipif(os.uname().machine not in ("x86_64", "aarch64"), reason="needs the number of exit(2)")
def test_a_process_whose_first_thread_left_is_alive() -> None:
    """The kernel shows it as a zombie, but it still computes; and its mark is still found."""
    number = {"x86_64": 60, "aarch64": 93}[os.uname().machine]
    mark = f"leader-{os.getpid()}"
    child = subprocess.Popen(
        [sys.executable, "-c", LEADER_LEAVES.format(number=number)], env={**os.environ, "RQ_MARK": mark}
    )
    try:
        found = identity_of(child.pid)
        wait_until(lambda: parse_state(child.pid) == "Z")
        assert procs.liveness(found) is Liveness.ALIVE
        assert procs.marked(mark) == [found]
    finally:
        child.kill()
        child.wait()


# ---------------------------------------------------------------- what is there


def test_a_pass_that_could_not_be_made_is_no_empty_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table with holes would let the living pass for dead, so there is none."""
    read = procs._read

    def sometimes(path: str, bytes_max: int) -> bytes:
        if path == f"/proc/{os.getpid()}/stat":
            raise OSError(errno.EMFILE, "no descriptor left")
        return read(path, bytes_max)

    monkeypatch.setattr(procs, "_read", sometimes)

    with pytest.raises(OSError, match="no descriptor left"):
        procs.table()


def test_descendants_are_found_whatever_they_do_to_hide() -> None:
    """Orphans, new sessions and lost environments do not hide from a subreaper."""

    def act() -> None:
        me = procs.own_identity()
        shell("exec sleep 30")
        shell("(setsid sh -c 'env -i setsid sleep 30 &' &)")
        already_dead = zombie()

        def commands() -> list[bytes]:
            return sorted(
                open(f"/proc/{one.pid}/cmdline", "rb").read().split(b"\0")[0] for one in procs.descendants(me)
            )

        def reaped_sleepers() -> bool:
            pids = [one.pid for one in procs.descendants(me)]
            return [command.endswith(b"sleep") for command in commands()] == [
                True,
                True,
            ] and me.pid not in pids

        # `already_dead` is not reaped meanwhile: it must not be found.
        wait_until(reaped_sleepers, on_timeout=lambda: str(commands()))
        assert already_dead not in procs.descendants(me)

    on_stage(act)


def test_nobody_descends_from_who_has_only_the_pid() -> None:
    """A pid that was given to somebody else has no descendants of ours."""

    def act() -> None:
        sleeper()
        me = procs.own_identity()
        assert len(procs.descendants(me)) == 1
        assert procs.descendants(Identity(me.boot, me.pid, me.start + 1)) == []
        assert procs.descendants(Identity("another boot", me.pid, me.start)) == []

    on_stage(act)


def test_a_table_that_shows_a_circle_ends() -> None:
    """A pass over /proc is no snapshot and may show a process as its own grandfather."""
    boot = procs.boot_id()
    circle = {pid: Process(pid, parent, 1, 5, 0, False) for pid, parent in ((10, 30), (20, 10), (30, 20))}

    found = procs.descendants(Identity(boot, 10, 5), circle)

    assert {20, 30} == {one.pid for one in found}


def test_the_members_of_a_session_outlive_its_leader() -> None:
    """They are found as long as it is certain that it is the same session."""

    def act() -> None:
        pid = shell("sleep 30 & sleep 30 & wait")
        leader = identity_of(pid)
        wait_until(lambda: len(procs.session_members(leader)) == 3)

        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        assert len(procs.session_members(leader)) == 2

    on_stage(act)


def test_a_session_number_that_was_given_away_finds_nobody() -> None:
    """If the pid of a session belongs to somebody else, so does the session."""

    def act() -> None:
        me = procs.own_identity()
        assert procs.session_members(me) == [me]
        assert procs.session_members(Identity(me.boot, me.pid, me.start - 1)) == []
        assert procs.session_members(Identity("another boot", me.pid, me.start)) == []

    on_stage(act)


def test_a_mark_is_a_whole_entry_of_the_environment() -> None:
    """Not the beginning of another mark, and not part of a value; inherited by children."""

    def act() -> None:
        mark = f"test {os.getpid()}="
        pids = {shell("sleep 30 & wait", mark=mark)}
        others = {
            shell("exec sleep 30", mark=mark + "1"),
            shell("exec sleep 30", mark="x RQ_MARK=" + mark),
            shell(f"exec env -i OTHER='{mark}' sleep 30", mark=mark),
        }
        wait_until(lambda: len(procs.marked(mark)) == 2, on_timeout=lambda: str(procs.marked(mark)))
        found = {one.pid for one in procs.marked(mark)}
        assert pids < found
        assert not others & found
        assert procs.marked(mark, name="ANOTHER") == []

    on_stage(act)


def test_what_remains_is_everything_but_myself() -> None:
    """Descendants, session and marked ones, each once; neither the searcher nor zombies."""

    def act() -> None:
        mark = f"remains {os.getpid()}"
        me = procs.own_identity()
        pid = shell("exec sleep 30", mark=mark)
        zombie()
        wait_until(lambda: procs.marked(mark))

        expected = [identity_of(pid)]
        assert expected == procs.remains([me], [me, identity_of(pid)], mark)
        assert expected == procs.remains(mark=mark)
        assert procs.remains() == []

    on_stage(act)


def test_resident_memory_is_that_of_the_living() -> None:
    """In bytes, each process once; strangers with the same pid do not count."""
    me = procs.own_identity()

    one = procs.rss([me])

    assert 1 << 20 < one < 1 << 32
    assert procs.rss([me, me]) < 1.5 * one
    assert procs.rss([Identity(me.boot, me.pid, me.start + 1), Identity(me.boot, NO_PID, 1)]) == 0


def test_childless_is_only_who_has_not_even_a_zombie() -> None:
    """The proof that nothing is left takes no status away from who waits for it."""

    def act() -> None:
        assert procs.childless()
        pid = sleeper()
        assert not procs.childless()
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert not procs.childless()
        assert os.waitpid(pid, 0) == (pid, signal.SIGKILL)
        assert procs.childless()

    on_stage(act)


# ---------------------------------------------------------------- signals


def without_pidfd(_: int, __: int = 0) -> int:
    raise OSError(errno.ENOSYS, "an old kernel")


@pytest.mark.parametrize("has_pidfd", [True, False])
def test_a_signal_hits_nobody_but_the_one_meant(has_pidfd: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger who got the pid meanwhile is not harmed."""
    if not has_pidfd:
        monkeypatch.setattr(os, "pidfd_open", without_pidfd)

    def act() -> None:
        pid = sleeper()
        meant = identity_of(pid)
        assert not procs.send(Identity(meant.boot, pid, meant.start - 1), signal.SIGKILL)
        assert procs.liveness(meant) is Liveness.ALIVE

        assert procs.send(meant, signal.SIGTERM)
        assert os.waitpid(pid, 0) == (pid, signal.SIGTERM)
        assert not procs.send(meant, signal.SIGKILL)

    on_stage(act)


def test_a_pidfd_tells_the_end_at_once() -> None:
    """It becomes readable when its process ends; there is none for who is gone."""

    def act() -> None:
        pid = sleeper()
        meant = identity_of(pid)
        descriptor = procs.open_pidfd(meant)
        assert descriptor is not None
        assert select.select([descriptor], [], [], 0)[0] == []
        os.kill(pid, signal.SIGKILL)
        assert select.select([descriptor], [], [], 10)[0] == [descriptor]
        os.waitpid(pid, 0)
        assert procs.open_pidfd(meant) is None

    on_stage(act)


# ---------------------------------------------------------------- the end of a tree


def end_all(grace_s: float = 0.2) -> tuple[bool, list[int]]:
    """Ends everything below this process, as a supervisor does: whether it did, and who was killed."""
    me = procs.own_identity()
    killed: list[int] = []
    dead = killing.kill_tree(
        lambda: procs.remains([me]),
        grace_s=grace_s,
        patience_s=15,
        clock=time.monotonic,
        pause=pause,
        proof=procs.childless,
        on_kill=lambda survivors: killed.extend(one.pid for one in survivors),
        at_once=lambda: killing.kill_children(time.monotonic, pause, 0.2),
    )
    return dead, killed


def test_who_obeys_term_is_not_killed() -> None:
    """All of a tree hears TERM, and its end is seen long before the grace is over."""

    def act() -> None:
        shell("sleep 30 & sleep 30 & wait")
        shell("(setsid sleep 30 &)")
        began = time.monotonic()
        assert end_all(grace_s=20) == (True, [])
        assert time.monotonic() - began < 10

    on_stage(act)


def test_who_ignores_term_is_killed_after_the_grace() -> None:
    """Only those that are left are killed, and `on_kill` is told who they are."""

    def act() -> None:
        # The sleeping child of the shell inherits that TERM is ignored.
        pid = shell("trap '' TERM; sleep 30; exit 1")
        shell("exec sleep 30")
        me = procs.own_identity()
        wait_until(lambda: len(procs.descendants(me)) == 3)
        dead, killed = end_all()
        assert dead
        assert pid in killed
        assert len(killed) == 2
        assert procs.childless()

    on_stage(act)


def test_a_stopped_process_hears_term(tmp_path: Path) -> None:
    """It is woken so that it can end in its own way."""
    ready, ended = str(tmp_path / "ready"), str(tmp_path / "ended")

    def act() -> None:
        pid = shell(
            'trap "echo ended > $2; exit" TERM; echo ready > $1; while :; do sleep 0.01; done', ready, ended
        )
        wait_for_file(ready)
        os.kill(pid, signal.SIGSTOP)
        assert end_all(grace_s=20) == (True, [])

    on_stage(act)
    assert wait_for_file(ended) == "ended\n"


def test_what_a_term_handler_starts_may_finish(tmp_path: Path) -> None:
    """A helper that saves the work is a newcomer and hears no TERM."""
    ready, saved = str(tmp_path / "ready"), str(tmp_path / "saved")

    def act() -> None:
        shell(
            "trap \"sh -c 'sleep 0.3; echo saved > $2'; exit\" TERM; echo > $1; while :; do sleep 0.01; done",
            ready,
            saved,
        )
        wait_for_file(ready)
        assert end_all(grace_s=20) == (True, [])

    on_stage(act)
    assert wait_for_file(saved) == "saved\n"


def grow(depth: int, width: int) -> None:
    """Many processes, quickly, that ignore TERM; never more than width to the power of depth."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for _ in range(width):
        if depth > 0:
            forked(lambda: grow(depth - 1, width))
            time.sleep(0.002)
    time.sleep(20)


def wander(hops: int) -> None:
    """A process that is always somebody else: it forks and leaves, so that a search comes too late."""
    for _ in range(hops):
        if os.fork():
            os._exit(0)


def test_a_tree_that_grows_while_it_is_killed_dies() -> None:
    """Hundreds of processes that fork all the time are stopped, then killed."""

    def act() -> None:
        forked(lambda: grow(3, 6))
        me = procs.own_identity()
        wait_until(lambda: len(procs.descendants(me)) > 20)
        dead, killed = end_all(grace_s=0)
        assert dead
        assert killed
        assert procs.childless()

    on_stage(act)


def test_who_forks_and_dies_is_not_called_dead() -> None:
    """A wanderer may be missed by every search; whoever has no child left has proof."""

    def act() -> None:
        forked(lambda: wander(3000))
        assert end_all(grace_s=0)[0]
        assert procs.childless()

    on_stage(act)


def test_who_forks_and_dies_for_ever_is_caught() -> None:
    """No search finds it, but it is a child of the subreaper for a moment, again and again."""

    def act() -> bool:
        for _ in range(4):
            forked(lambda: wander(200_000))
        end = time.monotonic() + 20
        while not procs.childless() and time.monotonic() < end:
            killing.kill_children(time.monotonic, pause, 0.2)
        return procs.childless()

    assert on_stage(act)


def test_children_that_do_not_die_are_left_in_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """In uninterruptible sleep, or of another user: it is not for this to wait."""
    now_s = [0.0]
    monkeypatch.setattr(procs, "own_children", lambda: [NO_PID])
    monkeypatch.setattr(os, "kill", lambda *_: None)

    killing.kill_children(lambda: now_s[0], lambda seconds: now_s.__setitem__(0, now_s[0] + seconds), 10.0)

    assert now_s[0] < 0.01


# With time passed in: no process, no waiting.

SOMEBODY = Identity("another boot", NO_PID, 1)


class Played:
    """A clock that only pauses move, a search whose results are given, and who was signalled."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, find: Callable[[float], Collection[Identity]]
    ) -> None:
        self.now_s = 0.0
        self.find = find
        self.sent: list[tuple[Identity, int]] = []
        self.proof: Callable[[], bool] | None = None
        self.killed: list[float] = []
        monkeypatch.setattr(procs, "send", lambda to, number: self.sent.append((to, number)))

    def run(self, grace_s: float = 30, patience_s: float = 60) -> bool:
        return killing.kill_tree(
            lambda: self.find(self.now_s),
            grace_s=grace_s,
            patience_s=patience_s,
            clock=lambda: self.now_s,
            pause=self.pause,
            proof=self.proof,
            on_kill=lambda _: self.killed.append(self.now_s),
        )

    def pause(self, seconds: float) -> None:
        assert seconds > 0
        self.now_s += seconds


def test_the_grace_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """No KILL before the grace is over, and none later than that."""
    played = Played(monkeypatch, lambda now_s: [SOMEBODY] if now_s < 31 else [])

    assert played.run()
    assert played.killed == [30.0]
    first = [signal.SIGSTOP, signal.SIGTERM, signal.SIGCONT]
    assert [number for _, number in played.sent[:5]] == [*first, signal.SIGSTOP, signal.SIGKILL]


def test_who_cannot_be_killed_is_not_called_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes in uninterruptible sleep, or of another user: False when patience is over."""
    played = Played(monkeypatch, lambda _: [SOMEBODY])

    def not_yours(_: Identity, __: int) -> bool:
        raise PermissionError(errno.EPERM, "")

    monkeypatch.setattr(procs, "send", not_yours)

    assert not played.run(grace_s=30, patience_s=60)
    assert 90 <= played.now_s < 92


def test_one_empty_search_is_no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is missed by one search is found by the next; only then is nobody left."""
    answers = iter([[SOMEBODY], [SOMEBODY], [SOMEBODY], [], [SOMEBODY], [], []])
    played = Played(monkeypatch, lambda _: next(answers, [SOMEBODY]))

    assert played.run()
    assert played.killed == []


def test_who_is_missed_by_the_first_search_hears_term(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the child of one that forked and died during the search."""
    answers = iter([[], [SOMEBODY], [SOMEBODY], [SOMEBODY]])
    played = Played(monkeypatch, lambda _: next(answers, []))

    assert played.run()
    assert [number for _, number in played.sent] == [signal.SIGSTOP, signal.SIGTERM, signal.SIGCONT]


def test_term_waits_until_all_stand_still_but_not_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a stop takes a moment; in uninterruptible sleep there is none."""
    here = procs.own_identity()
    played = Played(monkeypatch, lambda now_s: [here] if now_s < 10 else [])
    at: dict[int, float] = {}
    monkeypatch.setattr(procs, "send", lambda _, number: at.setdefault(number, played.now_s))

    for states, least_s, most_s in ((set(), 0, 0), ({"D"}, 0.5, 0.6), ({"R", "D"}, 5, 5.1)):
        monkeypatch.setattr(procs, "moving_states", lambda _, states=states: states)
        played.now_s = 0
        at.clear()

        assert played.run()
        assert at[signal.SIGSTOP] == 0
        assert least_s <= at[signal.SIGTERM] <= most_s


def test_a_process_stands_still_when_all_its_threads_do() -> None:
    """Its first thread may have left, while another one forks."""
    number = {"x86_64": 60, "aarch64": 93}[os.uname().machine]
    child = subprocess.Popen([sys.executable, "-c", LEADER_LEAVES.format(number=number)])
    try:
        one = identity_of(child.pid)
        wait_until(lambda: parse_state(child.pid) == "Z")
        assert procs.moving_states(one)
        child.send_signal(signal.SIGSTOP)
        wait_until(lambda: not procs.moving_states(one))
        child.send_signal(signal.SIGCONT)
        wait_until(lambda: procs.moving_states(one))
    finally:
        child.kill()
        child.wait()
    assert not procs.moving_states(one)


def parse_state(pid: int) -> str:
    """The letter that /proc shows for the first thread of a process."""
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


def test_a_proof_is_believed_more_than_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as the proof fails nothing is dead, however empty the searches are."""
    played = Played(monkeypatch, lambda _: [])
    played.proof = lambda: played.now_s > 10

    assert played.run()
    assert 10 < played.now_s < 12


def test_a_tree_without_processes_is_dead_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing found, nothing to wait for."""
    played = Played(monkeypatch, lambda _: [])

    assert played.run()
    assert played.now_s == 0
    assert played.sent == []


# ---------------------------------------------------------------- cost


def test_importing_it_brings_nothing_heavy() -> None:
    """A supervisor stays small: no ctypes, psutil, subprocess or pydantic until it is needed."""
    code = "import sys, roundq.world.procs, roundq.world.spawn; print(*sys.modules)"

    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()

    assert not {"ctypes", "psutil", "subprocess", "pydantic_core", "pydantic", "threading"} & set(loaded)


def test_threads_of_mine_are_no_processes() -> None:
    """The table has one line per process, however many threads it has."""
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        tids = {task for task in map(int, os.listdir("/proc/self/task")) if task != os.getpid()}
        assert tids
        assert not tids & set(procs.table())
    finally:
        done.set()
        thread.join()


def test_constants_are_those_of_the_kernel() -> None:
    """The subreaper is set by number; the kernel tells it back (PR_GET_CHILD_SUBREAPER, 37)."""

    def act() -> int:
        value = ctypes.c_int(0)
        assert ctypes.CDLL(None).prctl(37, ctypes.byref(value), 0, 0, 0) == 0
        return value.value

    assert on_stage(act) == 1
