"""Promises about neighbours: whose queues there are, whose daemons live, what nobody can make us believe."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from roundq.records import cards, neighbours
from roundq.records import spool as spools
from roundq.records.cards import Card, Occupant
from roundq.records.neighbours import LEGACY_HEADS, SILENT_S, Neighbourhood, Seen
from roundq.records.spool import Spool
from roundq.words.job import NS, Identity
from roundq.words.policy import Want
from roundq.words.states import RUNNING
from roundq.world import files, procs
from tests.records.crowd import drop, new_spool
from tests.world.processes import on_stage
from tests.world.refusing import Refusing

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be several users")
ANN, BOB, EVE, ME = 40001, 40002, 40003, 40004
BOOT = procs.own_identity().boot


@pytest.fixture
def parent() -> Iterator[str]:
    """A directory of homes that every user may look into."""
    with tempfile.TemporaryDirectory() as path:
        os.chmod(path, 0o755)
        yield path


def home(parent: str, user: str, uid: int | None = None, mode: int = 0o755, *, spool: bool = True) -> str:
    """A user's home, with a queue in it."""
    path = f"{parent}/{user}"
    if spool:
        new_spool(path, user)
    else:
        os.mkdir(path)
    if uid is not None:
        for directory, _, names in os.walk(path):
            for name in ("", *names):
                os.chown(f"{directory}/{name}", uid, uid)
    os.chmod(path, mode)
    return path


def found(*parents: str) -> list[str]:
    return [spool.user for spool in neighbours.homes(parents)]


def as_user(uid: int, act: Callable[[], Any]) -> Any:
    def acted() -> object:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
        return act()

    return on_stage(acted)


# ---------------------------------------------------------------- homes


def test_homes_are_the_directories_that_have_a_queue(parent: str) -> None:
    home(parent, "bob")
    home(parent, "ann")
    home(parent, "carl", spool=False)
    home(parent, ".hidden")
    Path(parent, "file").touch()
    Path(parent, "link").symlink_to("nowhere")
    assert neighbours.homes([parent]) == [spools.at(f"{parent}/{u}", u, os.geteuid()) for u in ("ann", "bob")]


def test_home_parents_may_be_patterns(parent: str) -> None:
    for place in ("a", "b"):
        home(f"{parent}/home-{place}", f"user-{place}")
    home(f"{parent}/other", "carl")
    assert found(f"{parent}/home-*") == ["user-a", "user-b"]
    assert found(f"{parent}/home-[a]/", f"{parent}/other") == ["user-a", "carl"]
    assert found(f"{parent}/nothing-*", f"{parent}/none") == []


def test_one_home_by_two_paths_is_one_user(parent: str) -> None:
    home(f"{parent}/home", "ann")
    Path(parent, "users").symlink_to("home")
    assert found(f"{parent}/home", f"{parent}/users", f"{parent}/home/") == ["ann"]


def test_i_am_nobody_else_while_an_error_hides_which_directory_mine_is(
    parent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else my jobs would count twice, and my card be read as a stranger's."""
    home(parent, "ann")
    home(parent, "bob")
    me = spools.at(f"{parent}/ann", "ann", os.geteuid())
    status, asked = files.status, []

    def fails_once(path: str) -> Any:
        asked.append(path)
        if asked == [me.path]:
            raise OSError(errno.EIO, "no answer")
        return status(path)

    monkeypatch.setattr(files, "status", fails_once)

    assert [spool.user for spool in neighbours.homes([parent], me=me)] == ["bob"]


@as_root
def test_a_queue_belongs_to_the_owner_of_the_home(parent: str) -> None:
    """Whoever can write to a home cannot bring a queue of his own into it."""
    home(parent, "ann", ANN)
    home(parent, "bob", BOB)
    os.chown(f"{parent}/bob/.roundqueue", EVE, EVE)
    assert neighbours.homes([parent]) == [Spool(f"{parent}/ann/.roundqueue", "ann", ANN)]


@as_root
def test_nobody_can_show_the_queue_of_another_as_his_own(parent: str) -> None:
    home(parent, "ann", ANN)
    home(parent, "eve", EVE, spool=False)
    os.symlink(f"{parent}/ann/.roundqueue", f"{parent}/eve/.roundqueue")
    assert found(parent) == ["ann"]


@pytest.mark.parametrize("kind", ["file", "fifo", "link to nothing", "link to itself"])
def test_what_stands_in_place_of_a_queue_hurts_nobody(kind: str, parent: str) -> None:
    home(parent, "ann")
    home(parent, "eve", spool=False)
    path = f"{parent}/eve/.roundqueue"
    if kind == "file":
        Path(path).touch()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        os.symlink("nothing" if kind == "link to nothing" else ".roundqueue", path)
    all_homes = neighbours.homes([parent])
    assert "ann" in [spool.user for spool in all_homes]
    assert neighbours.hidden([parent]) == []
    for spool in all_homes:
        cards.read_all(spool)
        neighbours.legacy_occupants(spool)
        neighbours.legacy_head(spool, 1, 1)


@as_root
def test_homes_that_i_may_not_look_into_are_told(parent: str) -> None:
    """Their jobs cannot be counted; that is said, not passed over."""
    home(parent, "ann", ANN)
    home(parent, "bob", BOB, 0o700)
    home(parent, "carl", EVE, 0o711)
    home(parent, "dan", EVE, 0o700, spool=False)

    def look() -> tuple[list[str], list[str]]:
        return found(parent), neighbours.hidden([parent])

    assert as_user(ME, look) == (["ann", "carl"], ["bob", "dan"])
    assert as_user(BOB, look) == (["ann", "bob", "carl"], ["dan"])


@as_root
def test_a_queue_that_is_closed_in_an_open_home_is_told_too(parent: str) -> None:
    home(parent, "ann", ANN)
    os.chmod(f"{parent}/ann/.roundqueue", 0o700)
    assert as_user(ME, lambda: neighbours.hidden([parent])) == ["ann"]
    assert as_user(ANN, lambda: neighbours.hidden([parent])) == []


@as_root
def test_a_directory_of_roots_is_nobodys_home(parent: str) -> None:
    """lost+found."""
    home(parent, "lost+found", 0, 0o700, spool=False)
    assert as_user(ME, lambda: neighbours.hidden([parent])) == []


@as_root
def test_a_parent_that_cannot_be_listed_has_no_homes(parent: str) -> None:
    home(parent, "ann", ANN)
    os.chmod(parent, 0o700)
    assert as_user(ME, lambda: (found(parent), neighbours.hidden([parent]))) == ([], [])


# ---------------------------------------------------------------- cards over time


class Street:
    """Some users' queues with cards that change, and one daemon that watches them."""

    def __init__(self, parent: Path) -> None:
        self.parent = parent
        self.spools: dict[str, Spool] = {}
        self.watch = Neighbourhood("here")

    def user(self, name: str, uid: int | None = None) -> Spool:
        if name not in self.spools:
            self.spools[name] = new_spool(self.parent / name, name)
            if uid is not None:
                self.spools[name] = Spool(self.spools[name].path, name, uid)
        return self.spools[name]

    def publish(self, user: str, node: str, beat: int, *, age_s: float = 0, **fields: Any) -> None:
        spool = self.user(user)
        known = {"version": "1.0", "cores": 4, **fields}
        cards.publish(spool, Card(user, node, 1, 4, 8, 0, beat=beat, **known))
        self.own(user, node, age_s)

    def publish_old(self, user: str, node: str, pid: int = 1, *, age_s: float = 0) -> None:
        value = {"hostname": node, "pid": pid, "physical_cores": 4, "logical_cpus": 8}
        Path(self.user(user).path, node).write_text(json.dumps(value))
        self.own(user, node, age_s)

    def own(self, user: str, node: str, age_s: float = 0) -> None:
        path = f"{self.user(user).path}/{node}"
        if self.user(user).uid != os.geteuid():
            os.chown(path, self.user(user).uid, -1)
        status = os.stat(path)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns - int(age_s * NS)))

    def look(self, now_s: float) -> dict[str, Seen]:
        seen = self.watch.look(self.spools.values(), now_s)
        return {f"{one.card.user}@{one.card.node}": one for one in seen}

    def alive(self, now_s: float) -> list[str]:
        return [name for name, one in self.look(now_s).items() if one.is_alive]


@pytest.fixture
def street(tmp_path: Path) -> Street:
    return Street(tmp_path)


def test_a_card_lives_while_its_beat_changes(street: Street) -> None:
    """By my own clock: the file's time plays no part in it."""
    for beat in range(5):
        street.publish("ann", "there", beat)
        now_s = beat * (SILENT_S - 1)
        assert street.alive(now_s) == ["ann@there"]
    assert street.alive(now_s + SILENT_S - 1) == ["ann@there"]
    seen = street.look(now_s + SILENT_S)["ann@there"]
    assert (seen.is_alive, seen.silent_s) == (False, SILENT_S)


def test_a_card_that_beats_again_lives_again(street: Street) -> None:
    street.publish("ann", "there", 1)
    street.look(0.0)
    assert street.alive(2 * SILENT_S) == []
    street.publish("ann", "there", 2)
    assert street.alive(2 * SILENT_S + 1) == ["ann@there"]
    assert street.look(2 * SILENT_S + 4)["ann@there"].silent_s == 3.0


def test_a_card_that_is_only_touched_or_copied_does_not_live_by_that(street: Street) -> None:
    street.publish("ann", "there", 1)
    street.look(0.0)
    street.publish("ann", "there", 1)
    assert street.alive(SILENT_S) == []


def test_a_daemon_that_begins_anew_beats_even_if_it_counts_the_same(street: Street) -> None:
    street.publish("ann", "there", 1, process=Identity("b", 1, 1))
    street.look(0.0)
    street.publish("ann", "there", 1, process=Identity("b", 2, 2))
    street.look(SILENT_S - 1)
    assert street.alive(SILENT_S) == ["ann@there"]


def test_a_daemon_that_leaves_is_not_waited_for(street: Street) -> None:
    street.publish("ann", "there", 1, state=cards.LEAVING)
    street.publish("bob", "there", 1, state=cards.DRAINING)
    assert street.alive(0.0) == ["bob@there"]


def test_a_card_of_0_2_9_lives_while_it_is_rewritten(street: Street) -> None:
    street.publish_old("ann", "there", age_s=100)
    street.look(0.0)
    street.publish_old("ann", "there")
    assert street.alive(SILENT_S - 1) == ["ann@there"]
    assert street.alive(SILENT_S + 1) == ["ann@there"]
    assert street.alive(2 * SILENT_S) == []


def test_a_card_that_was_silent_before_i_came_does_not_live(street: Street) -> None:
    """Its file is older, by the server's clock, than my own newest card."""
    street.publish("me", "elsewhere", 1)
    street.publish("ann", "there", 1, age_s=SILENT_S + 5)
    street.publish("bob", "there", 1, age_s=SILENT_S - 60)
    assert street.alive(0.0) == ["me@elsewhere", "bob@there"]


@as_root
@pytest.mark.parametrize("age_s", [-1e9, 1e9])
def test_a_stranger_cannot_make_others_look_dead_with_the_time_of_his_card(
    age_s: float, street: Street
) -> None:
    street.user("eve", EVE)
    street.publish("eve", "there", 1, age_s=age_s)
    street.publish("me", "elsewhere", 1)
    street.publish("bob", "there", 1)
    assert {"me@elsewhere", "bob@there"} <= set(street.alive(0.0))


def test_a_card_that_goes_is_forgotten_and_one_that_comes_is_seen(street: Street) -> None:
    street.publish("ann", "there", 1)
    assert street.alive(0.0) == ["ann@there"]
    os.unlink(f"{street.user('ann').path}/there")
    street.publish("ann", "yonder", 1)
    assert street.alive(1.0) == ["ann@yonder"]
    del street.spools["ann"]
    assert street.alive(2.0) == []


def test_a_card_that_is_damaged_is_as_if_it_were_not_there(street: Street) -> None:
    street.publish("ann", "there", 1)
    street.look(0.0)
    Path(street.user("ann").path, "there").write_bytes(b"{}")
    assert street.look(1.0) == {}
    street.publish("ann", "there", 2)
    assert street.alive(2.0) == ["ann@there"]


def test_a_card_says_who_it_is(street: Street) -> None:
    """Its user is the owner of its home, and its node the name of its file, or else it is none."""
    street.publish("ann", "there", 1)
    os.rename(f"{street.user('ann').path}/there", f"{street.user('ann').path}/here")
    assert street.look(0.0) == {}


def test_an_error_of_the_network_does_not_make_a_neighbour_disappear(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it occupies would be given to somebody else."""
    street.publish("ann", "there", 1)
    street.look(0.0)
    system = Refusing()
    monkeypatch.setattr(files, "os", system)
    system.fail("open", errno.EIO, where="/there")
    assert street.alive(1.0) == ["ann@there"]
    system.fail("scandir", errno.EIO)
    assert street.alive(2.0) == ["ann@there"]
    assert street.look(SILENT_S)["ann@there"].is_alive is False


def test_a_card_is_parsed_once_and_again_when_it_changes(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[bytes] = []
    real = cards.parse

    def parse(data: bytes, user: str) -> Card:
        parsed.append(data)
        return real(data, user)

    monkeypatch.setattr(cards, "parse", parse)
    street.publish("ann", "there", 1)
    Path(street.user("ann").path, "broken").write_bytes(b"{}")
    for now_s in (0.0, 1.0, 2.0):
        street.look(now_s)
    assert len(parsed) == 2
    street.publish("ann", "there", 2)
    street.look(3.0)
    assert len(parsed) == 3


def fifo(path: str) -> None:
    os.mkfifo(path)


def link(path: str) -> None:
    os.symlink("/dev/zero", path)


def huge(path: str) -> None:
    Path(path).touch()
    os.truncate(path, 1 << 40)


def directory(path: str) -> None:
    os.mkdir(path)


@pytest.mark.parametrize("make", [fifo, link, huge, directory])
def test_hostile_cards_neither_block_nor_hide_others(make: Callable[[str], None], street: Street) -> None:
    street.publish("ann", "there", 1)
    for name in ("aaa", "zzz"):
        make(f"{street.user('eve').path}/{name}")
        make(f"{street.user('ann').path}/{name}")
    assert street.alive(0.0) == ["ann@there"]
    assert street.alive(1.0) == ["ann@there"]


# ---------------------------------------------------------------- on my own node


def test_on_my_own_node_the_process_table_decides(street: Street) -> None:
    """Not time: a daemon that hangs still has its jobs, and one that died has none."""
    dead = Identity(BOOT, procs.own_identity().pid, 1)
    rebooted = Identity("another-boot", procs.own_identity().pid, procs.own_identity().start)
    street.publish("ann", "here", 1, process=procs.own_identity(), age_s=1e6)
    street.publish("bob", "here", 1, process=dead)
    street.publish("carl", "here", 1, process=rebooted)
    street.publish("me", "here", 1, process=procs.own_identity())
    for now_s in (0.0, 100 * SILENT_S):
        assert sorted(street.alive(now_s)) == ["ann@here", "me@here"]


def test_what_cannot_be_told_of_a_process_counts_as_alive(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    street.publish("ann", "here", 1, process=Identity(BOOT, 1, 1))
    monkeypatch.setattr(procs, "liveness", lambda *_: procs.Liveness.UNKNOWN)
    assert street.alive(0.0) == ["ann@here"]


def test_a_0_2_9_daemon_of_my_node_lives_while_its_pid_is_its_users(street: Street) -> None:
    process = subprocess.Popen(["sleep", "60"])
    try:
        street.publish_old("ann", "here", process.pid)
        assert street.alive(0.0) == ["ann@here"]
        (seen,) = street.look(1.0).values()
        assert not neighbours.daemon_lives(seen.card, EVE)
    finally:
        process.kill()
        process.wait()
    assert street.alive(2.0) == []


# ---------------------------------------------------------------- 0.2.9's jobs


def old_job(
    spool: Spool, state: str, name: str, *, node: str = "NONE", cores: int = 1, memory: int = 0
) -> str:
    value = {
        "job": {
            "command": ["./fit"],
            "jobname": "fit",
            "submitted": {"secs": int(name.partition(".")[0]), "nanos": 0},
            "cores": cores,
            "memory_required": memory,
        },
        "node": node,
        "started": {"secs": 5, "nanos": 0},
    }
    path = drop(spool, f"{name}.job", json.dumps(value).encode())
    target = f"{spool.path}/{state}/{name}.job"
    os.rename(path, target)
    return target


def test_running_jobs_of_0_2_9_are_counted_on_their_nodes(tmp_path: Path) -> None:
    spool = new_spool(tmp_path / "ann", "ann")
    old_job(spool, RUNNING, "17.5", node="n1", cores=3, memory=9)
    old_job(spool, RUNNING, "18.5", node="n2", cores=0)
    assert dict(neighbours.legacy_occupants(spool)) == {
        "n1": Occupant("17.5", RUNNING, 3, 9, False, 0, True, 5 * NS, "fit"),
        "n2": Occupant("18.5", RUNNING, 0, 0, True, 0, True, 5 * NS, "fit"),
    }


def test_of_0_2_9_jobs_on_my_node_only_those_that_live_occupy_it(tmp_path: Path) -> None:
    """Nobody but a list of its owner finds that one has ended; one that is being canceled still runs."""
    spool = new_spool(tmp_path / "ann", "ann")
    os.mkdir(f"{spool.path}/cancel")
    for state, name in ((RUNNING, "1.5"), (RUNNING, "2.5"), ("cancel", "3.5"), ("cancel", "4.5")):
        path = Path(old_job(spool, state, name, node="n1"))
        value = json.loads(path.read_text())
        value["pid"] = os.getpid() if name in ("1.5", "3.5") else 0
        path.write_text(json.dumps(value))
    old_job(spool, RUNNING, "5.5", node="n2")

    assert [job.id for job in neighbours.legacy_here(spool, "n1")] == ["1.5", "3.5"]


def test_jobs_that_stand_on_a_card_are_not_counted_twice(tmp_path: Path) -> None:
    spool = new_spool(tmp_path / "ann", "ann")
    path = old_job(spool, RUNNING, "17.5", node="n1")
    os.rename(path, f"{spool.path}/running/17@n1.job")
    assert neighbours.legacy_occupants(spool) == []


def test_the_earliest_waiting_job_of_0_2_9_that_fits_goes_first(tmp_path: Path) -> None:
    spool = new_spool(tmp_path / "ann", "ann")
    for name, cores, memory in (("100.1", 1, 0), ("99.20", 8, 0), ("99.3", 1, 1 << 40), ("99.100", 0, 5)):
        old_job(spool, "waiting", name, cores=cores, memory=memory)
    assert neighbours.legacy_head(spool, 8, 1 << 41) == Want("99.3", 1, 1 << 40, 99 * NS)
    assert neighbours.legacy_head(spool, 8, 1 << 30) == Want("99.20", 8, 0, 99 * NS)
    assert neighbours.legacy_head(spool, 4, 1 << 30) == Want("99.100", 0, 5, 99 * NS)
    assert neighbours.legacy_head(spool, 4, 1) == Want("100.1", 1, 0, 100 * NS)
    assert neighbours.legacy_head(new_spool(tmp_path / "bob", "bob"), 4, 4) is None


def test_only_so_many_waiting_jobs_of_a_stranger_are_read(tmp_path: Path) -> None:
    spool = new_spool(tmp_path / "ann", "ann")
    for number in range(LEGACY_HEADS):
        old_job(spool, "waiting", f"{number}.0", cores=100)
    old_job(spool, "waiting", "99.0")
    assert neighbours.legacy_head(spool, 8, 8) is None


def test_of_a_strangers_jobs_a_bounded_amount_is_read(tmp_path: Path) -> None:
    spool = new_spool(tmp_path / "ann", "ann")
    for number in range(40):
        with open(old_job(spool, RUNNING, f"{number}.0", node="n1"), "ab") as file:
            file.write(b" " * 200_000)
    assert 0 < len(neighbours.legacy_occupants(spool)) <= cards.ALL_BYTES_MAX // 200_000


@pytest.mark.parametrize("make", [fifo, link, huge, directory])
@pytest.mark.parametrize("state", ["running", "waiting"])
def test_hostile_job_files_neither_block_nor_hide_others(
    make: Callable[[str], None], state: str, tmp_path: Path
) -> None:
    spool = new_spool(tmp_path / "ann", "ann")
    for name in ("1.1", "9" * 100, "x", "²", "\u0661"):
        make(f"{spool.path}/{state}/{name}.job")
    old_job(spool, state, "17.5", node="n1")
    if state == "running":
        assert [job.id for _, job in neighbours.legacy_occupants(spool)] == ["17.5"]
    else:
        head = neighbours.legacy_head(spool, 8, 8)
        assert head is not None
        assert head.id == "17.5"


@as_root
def test_a_job_file_that_its_user_did_not_write_is_not_counted(tmp_path: Path) -> None:
    spool = new_spool(tmp_path / "ann", "ann")
    os.chown(old_job(spool, RUNNING, "17.5", node="n1"), EVE, EVE)
    assert neighbours.legacy_occupants(spool) == []


def test_a_directory_that_cannot_be_listed_has_no_jobs_to_count(tmp_path: Path) -> None:
    """A stranger's file in place of a directory must not end a round."""
    spool = new_spool(tmp_path / "ann", "ann")
    for state in ("running", "waiting"):
        os.rmdir(spool.directory(state))
        Path(spool.directory(state)).touch()
    assert neighbours.legacy_occupants(spool) == []
    assert neighbours.legacy_head(spool, 8, 8) is None
