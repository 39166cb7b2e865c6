"""Promises about the doctor: it finds what is wrong, never hangs, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from roundq import __version__
from roundq.actors import doctor, home_checks, node_checks, probes, queue_checks
from roundq.actors.doctor import CHECKS, HERE, HOME, Check, Examination
from roundq.actors.patient import Patient
from roundq.actors.probes import Bench, Race, Replaced
from roundq.records import cards, pings
from roundq.records import spool as spools
from roundq.records.cards import Card
from roundq.words.errors import SpoolFull
from roundq.words.findings import OK, PROBLEM, WARNING, Finding, exit_code, ok, problem
from roundq.world import procs
from roundq.world.config import Config
from roundq.world.mounts import Mount
from tests.actors.spoolhome import NODE, SpoolHome
from tests.actors.test_round import round_of
from tests.cluster.wait import wait_until
from tests.records.foreign import leave, missing
from tests.world.refusing import Refusing

ROUNDS = 20


@pytest.fixture
def patient(home: SpoolHome) -> Patient:
    return Patient(home.environ)


@pytest.fixture
def bench(home: SpoolHome) -> Bench:
    return Bench(home.spool, NODE)


def left(home: SpoolHome) -> list[str]:
    """What lies in tmp/ and requests/."""
    return [name for part in ("tmp", "requests") for name in os.listdir(home.spool.directory(part))]


# ---------------------------------------------------------------- probes


def in_racers(monkeypatch: pytest.MonkeyPatch, name: str, act: Callable[..., None]) -> None:
    """What racing processes call in place of a function of `os`; the one that judges calls the real one."""
    judge, real, system = os.getpid(), getattr(os, name), Refusing()
    system.instead(name, lambda *args: (act if os.getpid() != judge else real)(*args))
    monkeypatch.setattr(probes, "os", system)


def copied(source: str, target: str) -> None:
    """A rename that copies, as one over WebDAV may be seen to."""
    Path(target).write_bytes(Path(source).read_bytes())


@pytest.mark.parametrize("race", [probes.rename_race, probes.link_race, probes.create_race])
def test_a_race_on_a_file_system_that_works_has_one_winner_each_time(
    race: Callable[..., Race], bench: Bench, home: SpoolHome
) -> None:
    """And nothing of it is left."""
    assert race(bench, ROUNDS, 60) == Race(ROUNDS)
    assert left(home) == []


def test_a_race_ends_when_its_time_is_over(bench: Bench) -> None:
    """After one round at least: a slow server is judged by what it did."""
    assert probes.rename_race(bench, 1000, 0.0).rounds == 1


def test_a_rename_with_two_winners_is_found(
    bench: Bench, home: SpoolHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_racers(monkeypatch, "rename", copied)
    race = probes.rename_race(bench, ROUNDS, 60)
    assert race.doubled == ROUNDS
    assert left(home) == []
    finding = home_checks.judge_race("renaming", race, "renamed one file", "why", problem)
    assert (finding.level, finding.exit_code) == (PROBLEM, 1)


def test_a_rename_that_loses_the_file_is_found(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    in_racers(monkeypatch, "rename", lambda source, _: os.unlink(source))
    assert probes.rename_race(bench, ROUNDS, 60).lost == ROUNDS


def test_a_winner_who_is_told_an_error_is_one(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost replies are what NFS has; the queue knows them."""

    def unsaid(source: str, target: str) -> None:
        os.rename(source, target)
        raise FileNotFoundError(errno.ENOENT, "lost reply")

    in_racers(monkeypatch, "rename", unsaid)
    race = probes.rename_race(bench, ROUNDS, 60)
    assert race == Race(ROUNDS, unsaid=ROUNDS)
    assert home_checks.judge_race("renaming", race, "renamed one file", "why", problem).level == OK


def test_a_system_that_refuses_is_quoted(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: str) -> None:
        raise OSError(errno.EIO, "no")

    in_racers(monkeypatch, "rename", refused)
    race = probes.rename_race(bench, ROUNDS, 60)
    assert (race.lost, race.errors) == (ROUNDS, {errno.EIO: probes.RACERS * ROUNDS})
    finding = home_checks.judge_race("renaming", race, "renamed one file", "why", problem)
    assert "Input/output error" in finding.found


def test_a_file_that_two_create_is_found(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    system, judge, real = Refusing(), os.getpid(), os.open

    def carelessly(path: str, flags: int, mode: int = 0o777) -> int:
        return real(path, flags if os.getpid() == judge else flags & ~os.O_EXCL, mode)

    system.instead("open", carelessly)
    monkeypatch.setattr(probes, "os", system)
    assert probes.create_race(bench, ROUNDS, 60).doubled == ROUNDS


def test_a_file_system_without_links_is_no_problem(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue does without."""

    def refused(*_: str) -> None:
        raise PermissionError(errno.EPERM, "no links")

    in_racers(monkeypatch, "link", refused)
    (finding,) = home_checks.linking(patient)
    assert (finding.level, "there are no hard links here" in finding.found) == (WARNING, True)


def test_a_file_that_is_replaced_is_seen_whole(bench: Bench, home: SpoolHome) -> None:
    seen = probes.replace_watched(bench, ROUNDS, 60)
    assert seen.reads > 0
    assert (seen.missing, seen.torn) == (0, 0)
    assert left(home) == []


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """For the process that replaces: waits until the reader has looked at what is there now."""
    ours, theirs = os.pipe()
    os.set_blocking(ours, False)
    os.set_blocking(theirs, False)
    look = probes._look

    def telling(path: str, seen: Replaced) -> None:
        look(path, seen)
        with contextlib.suppress(BlockingIOError):
            os.write(theirs, b"x")

    def wait() -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(ours, 1 << 20)
        # The first may have begun before.
        for _ in range(2):
            assert select.select([ours], [], [], 20)[0]
            os.read(ours, 1)

    monkeypatch.setattr(probes, "_look", telling)
    yield wait
    os.close(ours)
    os.close(theirs)


def test_a_replacement_in_two_steps_is_found(
    bench: Bench, looked_at: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader looks between them."""

    def in_steps(source: str, target: str) -> None:
        os.unlink(target)
        looked_at()
        os.rename(source, target)

    in_racers(monkeypatch, "rename", in_steps)
    found = probes.replace_watched(bench, ROUNDS, 60)
    assert (found.missing >= ROUNDS, found.torn) == (True, 0)


def test_a_replacement_that_copies_is_found(
    bench: Bench, looked_at: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of it is there for a moment."""

    def in_place(source: str, target: str) -> None:
        data = Path(source).read_bytes()
        with open(target, "r+b") as file:
            file.write(data[:100])
            file.flush()
            looked_at()
            file.write(data[100:])
        os.unlink(source)

    in_racers(monkeypatch, "rename", in_place)
    found = probes.replace_watched(bench, ROUNDS, 60)
    # The first replaces zeros by zeros.
    assert (found.torn >= ROUNDS - 1, found.missing) == (True, 0)


def test_a_disk_that_becomes_full_meanwhile_is_said(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    in_racers(monkeypatch, "open", full)
    with pytest.raises(OSError, match="No space left") as caught:
        home_checks.replacing(patient)
    assert home_checks.refusal("replacing", caught.value).exit_code == SpoolFull.exit_code
    assert os.listdir(patient.bench.directory) == []


def test_a_wrong_link_count_is_told(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a server that keeps none."""
    monkeypatch.setattr(probes, "_links", lambda _: 1)
    (finding,) = home_checks.linking(patient)
    assert (finding.level, "link count" in finding.found) == (WARNING, True)


def test_a_clock_ahead_of_the_servers_is_told(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert home_checks.clock(patient)[0].level == OK

    class Fast:
        monotonic = staticmethod(time.monotonic)
        time_ns = staticmethod(lambda: time.time_ns() + 3600 * 10**9)

    monkeypatch.setattr(probes, "time", Fast)
    (finding,) = home_checks.clock(patient)
    assert finding.level == WARNING
    assert finding.facts["ahead_s"] == pytest.approx(3600, abs=5)
    assert "60 min ahead" in finding.found


def test_a_directory_that_cannot_be_synced_is_told(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    system = Refusing()
    system.fail("fsync", errno.EINVAL)
    monkeypatch.setattr(probes, "os", system)
    assert home_checks.writing(patient)[0].level == WARNING


# ---------------------------------------------------------------- judgements


def mount(kind: str, *options: str, source: str = "server:/home") -> Mount:
    return Mount("/home", kind, source, ("rw", *options))


@pytest.mark.parametrize(
    ("found", "level", "word"),
    [
        (mount("nfs4", "vers=4.2", "hard"), OK, "hard"),
        (mount("nfs", "soft", "timeo=600"), WARNING, "soft"),
        (mount("nfs4", "softerr"), WARNING, "soft"),
        (mount("nfs4", "hard", "acdirmax=60"), OK, "acdirmax=60"),
        (mount("nfs4", "hard", "actimeo=600"), WARNING, "600 s"),
        (mount("nfs4", "hard", "noac", "lookupcache=none", "nolock"), OK, "noac, lookupcache=none, nolock"),
        (mount("cifs"), WARNING, "SMB"),
        (mount("smb3"), WARNING, "SMB"),
        (mount("fuse", source="https://cloud.example.org/dav"), WARNING, "WebDAV"),
        (mount("davfs"), WARNING, "WebDAV"),
        (mount("fuse.sshfs", source="host:/home"), WARNING, "FUSE"),
        (mount("fuse.glusterfs"), OK, "fuse.glusterfs"),
        (mount("lustre"), OK, "lustre"),
        (mount("ext4", source="/dev/sda1"), OK, "this node's own"),
        (mount("tmpfs", source="tmpfs"), WARNING, "in memory"),
        (replace(mount("nfs4"), options=("ro", "hard")), PROBLEM, "read-only"),
        (None, WARNING, "cannot be told"),
    ],
)
def test_a_file_system_is_judged_by_type_and_options(found: Mount | None, level: str, word: str) -> None:
    finding = home_checks.judge_mount(found)
    assert (finding.level, word in finding.found) == (level, True), finding
    assert bool(finding.remedy) == (level != OK)


@pytest.mark.parametrize("kind", ["cifs", "fuse.sshfs", "davfs"])
def test_a_mount_without_atomic_rename_is_fine_where_claims_settle(kind: str) -> None:
    assert home_checks.judge_mount(mount(kind), is_settling=True).level == OK
    assert home_checks.judge_mount(mount("nfs", "soft"), is_settling=True).level == WARNING


@pytest.mark.parametrize(
    ("room", "inodes", "level"),
    [
        (1 << 40, None, OK),
        (1 << 40, 5_000, OK),
        (1 << 40, 500, WARNING),
        (1 << 40, 0, PROBLEM),
        (100 << 20, None, WARNING),
        (0, None, PROBLEM),
    ],
)
def test_room_is_judged_by_bytes_and_files(room: int, inodes: int | None, level: str) -> None:
    finding = home_checks.judge_room("space", room, inodes, "/home/ann")
    assert (finding.level, finding.exit_code) == (level, SpoolFull.exit_code if level == PROBLEM else 0)


QUOTA = """\
Disk quotas for user ann (uid 1000):
     Filesystem  blocks   quota   limit   grace   files   quota   limit   grace
      /dev/sda1       4       0       0       0       1       0       0       0
   server:/home {used} {soft}  {hard}       0     900    1000    1100       0
"""


@pytest.mark.parametrize(
    ("used", "soft", "hard", "expected"),
    [
        ("1000", "5000", "6000", 4000 << 10),
        ("1000", "0", "6000", 5000 << 10),
        ("7000*", "5000", "6000", 0),
        ("1000", "0", "0", 1 << 60),
    ],
)
def test_the_quota_is_what_is_left_of_the_softer_limit(
    used: str, soft: str, hard: str, expected: int
) -> None:
    said = QUOTA.format(used=used, soft=soft, hard=hard)
    assert home_checks.quota_left(said, "server:/home") == [(expected, 100)]
    assert home_checks.quota_left(said, "/dev/sda1") == [], "no limit at all"
    assert home_checks.quota_left(said, "other:/home") == []


@pytest.mark.parametrize("said", ["", "\n\n", "server:/home\n", "server:/home a b c d e f g h\n", "é" * 1000])
def test_what_is_no_quota_is_none(said: str) -> None:
    assert home_checks.quota_left(said, "server:/home") == []


def test_quota_is_asked_for_where_there_is_such_a_program(home: SpoolHome, tmp_path: Path) -> None:
    """Of disks of this node alone: of NFS that program would ask over the internet."""
    root = tmp_path / "root"
    (root / "proc/self").mkdir(parents=True)
    mounted = root / "proc/self/mountinfo"
    mounted.write_text("1 1 0:1 / / rw - ext4 server:/home rw\n")
    assert home_checks.quota(Patient({**home.environ, "PATH": str(tmp_path)}, root=str(root))) == []
    program = tmp_path / "quota"
    said = QUOTA.format(used=1000, soft=51000, hard=60000)
    program.write_text(f"#!/bin/sh\necho $* > {tmp_path}/asked\ncat <<EOF\n{said}EOF\n")
    program.chmod(0o755)
    patient = Patient({**home.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}, root=str(root))
    (finding,) = home_checks.quota(patient)
    assert (finding.level, finding.facts) == (WARNING, {"bytes": 50000 << 10, "files": 100})
    assert (tmp_path / "asked").read_text() == "-l -w -p\n"
    (tmp_path / "asked").unlink()
    mounted.write_text("1 1 0:1 / / rw - nfs4 server:/home rw\n")
    assert home_checks.quota(patient) == []
    assert not (tmp_path / "asked").exists()


# ---------------------------------------------------------------- the queue


@pytest.mark.parametrize(
    ("mode", "level", "code"), [(0o755, OK, 0), (0o711, OK, 0), (0o700, WARNING, 0), (0o777, PROBLEM, 77)]
)
def test_the_mode_of_the_home_is_judged(
    mode: int, level: str, code: int, home: SpoolHome, patient: Patient
) -> None:
    home.home.chmod(mode)
    found = home_checks.queue(patient)
    assert (found[0].level, exit_code(found)) == (level, code)


def test_with_a_commons_a_home_may_be_closed(home: SpoolHome) -> None:
    """Nobody is told to open what he closed on purpose: others count what his cards tell there."""
    home.home.chmod(0o700)
    patient = Patient(home.environ)
    patient.__dict__["config"] = Config((str(home.home.parent),), commons="/shared/commons")
    found = home_checks.queue(patient)
    assert [one.level for one in found] == [OK]
    assert found[0].found.endswith("closed to others, who see your cards in the commons")


def test_a_queue_that_others_can_write_to_is_a_problem(home: SpoolHome) -> None:
    """The rest is looked at as far as it means anything."""
    os.chmod(home.spool.directory("waiting"), 0o777)
    examination = Examination(home.environ)
    found = [report.finding for report in examination.run() if report.finding is not None]
    assert exit_code(found) == 77
    assert "renaming" in examination.skipped
    assert "versions" in {one.check for one in found}


def test_names_that_are_not_ours_are_told_and_left(home: SpoolHome, patient: Patient) -> None:
    """Copies as a warning, since whoever makes them may do more."""
    there = leave(home.spool, NODE, 1 << 23)
    Path(home.spool.directory("waiting"), "a\x1b[2Jb.job").touch()
    found = queue_checks.names(patient)
    assert [one.level for one in found] == [WARNING, WARNING, OK]
    assert found[0].facts["count"] == sum("onflict" in path for path in there)
    assert "\x1b" not in found[1].found
    assert missing(there) == []


def test_records_that_cannot_be_read_and_unknown_nodes_are_told(home: SpoolHome, patient: Patient) -> None:
    home.submit("true")
    assert [one.level for one in queue_checks.records(patient)] == [OK]
    Path(home.spool.directory("waiting"), "broken.job").write_text("{")
    data = Path(home.spool.directory("waiting"), "1.job").read_bytes()
    Path(home.spool.directory("running"), "7@ghost.job").write_bytes(data)
    broken, strange = queue_checks.records(patient)
    assert (broken.level, "waiting/broken.job" in broken.found) == (WARNING, True)
    assert (strange.level, strange.facts) == (WARNING, {"node": "ghost", "count": 1})
    assert "rq lost ghost" in strange.remedy


def test_a_request_that_nobody_answers_is_told(home: SpoolHome, patient: Patient) -> None:
    spools.request(home.spool, "17", "cancel", NODE)
    assert [one.level for one in queue_checks.requests(patient)] == [OK]
    then_s = time.time() - 2 * queue_checks.REQUEST_S
    os.utime(f"{home.spool.directory('requests')}/17.cancel", (then_s, then_s))
    (finding,) = queue_checks.requests(patient)
    assert (finding.level, "cancel of job 17" in finding.found) == (WARNING, True)


# ---------------------------------------------------------------- daemons


def publish(home: SpoolHome, node: str, *, silent_s: float = 0, **fields: Any) -> None:
    """The card of a daemon on a node, of this very process, last renewed so long ago."""
    given = {"version": __version__, "process": procs.own_identity(), "beat": 1, "cores": 4, **fields}
    cards.publish(home.spool, Card("ann", node, os.getpid(), 4, 8, 0, **given))
    then_s = time.time() - silent_s
    os.utime(f"{home.spool.path}/{node}", (then_s, then_s))
    # Silence is measured from the last thing that the server is known to have stamped.
    os.utime(home.spool.directory("tmp"))


@pytest.mark.parametrize(
    ("fields", "level", "word"),
    [
        ({}, OK, "up, version"),
        ({"version": "0.9.0"}, WARNING, "0.9.0"),
        ({"version": ""}, PROBLEM, "0.2.9"),
        ({"silent_s": 300}, WARNING, "stands still"),
        ({"silent_s": 3630}, WARNING, "not seen for 60 min"),
        ({"state": cards.LEAVING}, OK, "stopped"),
        ({"state": cards.DRAINING, "reason": "a\x1bb"}, WARNING, "it starts nothing: a\\x1bb"),
    ],
)
def test_a_daemon_is_judged_by_its_card(
    fields: dict[str, Any], level: str, word: str, home: SpoolHome, patient: Patient
) -> None:
    publish(home, "n2", **fields)
    first = queue_checks.daemons(patient)[0]
    assert (first.level, word in first.found) == (level, True), first


def test_what_a_daemon_complains_of_is_told(home: SpoolHome, patient: Patient) -> None:
    publish(home, "n2", trouble=("waiting/x.job is not a job: it is empty",))
    alive, complaint = queue_checks.daemons(patient)
    assert (alive.level, complaint.level) == (OK, WARNING)
    assert "n2 says: waiting/x.job is not a job" in complaint.found
    publish(home, "n3", trouble=("waiting/x.job is not a job: it is empty",))
    *_, complaint = queue_checks.daemons(patient)
    assert "n2, n3 say: " in complaint.found


def test_jobs_that_wait_without_any_daemon_are_told(home: SpoolHome, patient: Patient) -> None:
    assert [one.level for one in queue_checks.daemons(patient)] == [OK]
    home.submit("true")
    (finding,) = queue_checks.daemons(patient)
    assert (finding.level, finding.facts["waiting"]) == (WARNING, 1)


def test_a_clock_of_another_node_is_told_by_its_card(home: SpoolHome, patient: Patient) -> None:
    now_ns = time.time_ns()
    publish(home, "n2", written_ns=now_ns)
    publish(home, "n3", written_ns=now_ns - 600 * 10**9)
    publish(home, "n4")
    (finding,) = queue_checks.clocks(patient)
    assert (finding.level, finding.facts["node"]) == (WARNING, "n3")
    assert finding.facts["ahead_s"] == pytest.approx(-600, abs=5)


def test_a_daemon_shows_a_ping_as_long_as_it_lies_there(home: SpoolHome) -> None:
    """At once, not when its beat is due."""
    play = round_of(home)
    play.run(1000.0)
    assert cards.read(home.spool, NODE).pong == ()
    ping = pings.token()
    pings.leave(home.spool, ping, "n2")
    play.run(1000.1)
    assert cards.read(home.spool, NODE).pong == (ping,)
    pings.remove(home.spool, ping)
    play.run(1000.2)
    card = cards.read(home.spool, NODE)
    assert card.pong == ()
    assert abs(card.written_ns - time.time_ns()) < 600 * 10**9


def test_a_daemon_removes_a_stale_ping(home: SpoolHome) -> None:
    """Whose doctor was killed; by the server's clock, and not before."""
    play = round_of(home)
    stale, fresh = "0" * 16, "f" * 16
    for ping in (stale, fresh):
        pings.leave(home.spool, ping, "n2")
    play.run(1000.0)
    then_s = time.time() - pings.STALE_S - 60
    os.utime(f"{home.spool.directory('requests')}/{stale}.ping", (then_s, then_s))
    play.run(1070.0)
    play.run(1140.0)
    assert pings.seen(home.spool) == (fresh,)


def test_a_living_daemon_answers(home: SpoolHome, patient: Patient) -> None:
    """A real one, which polls; the ping is gone afterwards."""
    home.daemon()
    (finding,) = queue_checks.delays(patient)
    assert (finding.level, finding.facts["node"]) == (OK, NODE)
    assert 0 < float(str(finding.facts["seconds"])) < 0.5 + queue_checks.PONG_MARGIN_S
    assert left(home) == []


def test_a_node_that_does_not_answer_is_told_after_a_deadline(
    home: SpoolHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_checks, "PONG_MARGIN_S", 0.2)
    publish(home, "n2")
    said: list[str] = []
    patient = Patient({**home.environ, "RQ_POLL_MAX": "0.1", "RQ_POLL_MIN": "0.1"}, say=said.append)
    (finding,) = queue_checks.delays(patient)
    assert (finding.level, finding.facts["seconds"]) == (WARNING, None)
    assert said[0].startswith("waiting for n2: 0 of at most")
    assert left(home) == []


def test_no_foreign_file_is_run_moved_or_removed_by_a_daemon(home: SpoolHome) -> None:
    """Neither at its start, nor by its hourly sweeps, nor when a cancel of all is asked for."""
    there = leave(home.spool, NODE, 1 << 23)
    play = round_of(home)
    for now_s in (1000.0, 1070.0, 1140.0, 5000.0, 9000.0, 13000.0):
        play.run(now_s)
    assert list(play.tenants) == []
    assert any("conflict" in trouble for trouble in cards.read(home.spool, NODE).trouble)
    assert missing(there) == []


# ---------------------------------------------------------------- the examination

NOTHING = Check("nothing", HERE, lambda _: [ok("nothing", "fine")], (), "doing nothing")
#: The checks of the home that others need, and one of each kind after a bad one.
USUAL = [check for check in CHECKS if check.name in ("home", "queue", "writing", "renaming", "locks")]


def check_of(look: Callable[[Patient], list[Finding]], name: str = "bad", **fields: Any) -> Check:
    given = {"group": HOME, "needs": ("writing",), "about": "being bad", **fields}
    return Check(name, look=look, **given)


def hang(patient: Patient) -> list[Finding]:
    """As a probe does whose server has gone: with a file of its own left where it was."""
    patient.bench.file()
    pings.leave(patient.spool, patient.ping, patient.node)
    patient.say("hangs")
    while True:
        signal.pause()


def levels(examination: Examination) -> dict[str, str]:
    """What came of each check."""
    return {report.finding.check: report.finding.level for report in examination.run() if report.finding}


def test_all_checks_are_made_and_nothing_is_left(home: SpoolHome) -> None:
    """Each tells of something, but for those of what is not there; and the queue is as it was."""
    home.submit("true")
    before = {entry.file for entry in spools.scan(home.spool)}
    made = levels(Examination(home.environ))
    assert set(made) | {"quota", "clocks", "delay"} == {check.name for check in CHECKS}
    assert PROBLEM not in made.values()
    assert left(home) == []
    assert {entry.file for entry in spools.scan(home.spool)} == before


def test_a_check_that_hangs_is_a_problem_and_the_others_go_on(home: SpoolHome) -> None:
    """But for those that need what hangs; what it left is removed."""
    bad = check_of(hang, deadline_s=0.5)
    needy = check_of(lambda _: [ok("needy", "fine")], "needy")
    examination = Examination(home.environ, [*USUAL, bad, needy, NOTHING])
    began_s = time.monotonic()
    made = levels(examination)
    assert made["bad"] == PROBLEM
    assert made["nothing"] == OK
    assert examination.skipped == ["needy"]
    told = next(one.found for one in examination.findings if one.check == "bad")
    assert told.startswith("no answer within 0.5 s, while being bad; /")
    assert time.monotonic() - began_s < 20
    assert left(home) == []
    assert procs.childless()


def test_what_waits_for_somebody_else_does_not_blame_the_home(home: SpoolHome) -> None:
    """Such as the server of quotas: a warning, and the rest is looked at."""
    bad = check_of(hang, deadline_s=0.5, of_home=False)
    needy = check_of(lambda _: [ok("needy", "fine")], "needy")
    examination = Examination(home.environ, [*USUAL, bad, needy])
    made = levels(examination)
    assert (made["bad"], made["needy"]) == (WARNING, OK)
    assert examination.skipped == []
    assert left(home) == []


def test_a_home_that_cannot_be_entered_is_the_finding(tmp_path: Path) -> None:
    """And of the node all is told that does not need it."""
    examination = Examination({"HOME": str(tmp_path / "nowhere"), "RQ_NODE": NODE})
    made = levels(examination)
    assert made.pop("home") == PROBLEM
    assert set(made) == {"locks", "inotify", "processes", "versions"}
    assert os.listdir(tmp_path) == []


def test_a_wrong_configuration_is_the_finding(home: SpoolHome) -> None:
    examination = Examination({**home.environ, "RQ_GRACE": "soon"})
    assert levels(examination)["home"] == PROBLEM
    assert exit_code(examination.findings) == 78


def test_a_helper_that_dies_is_a_problem_and_the_others_go_on(home: SpoolHome) -> None:
    def die(patient: Patient) -> list[Finding]:
        patient.bench.file()
        os.kill(os.getpid(), signal.SIGKILL)
        return []

    made = levels(Examination(home.environ, [*USUAL, check_of(die), NOTHING]))
    assert (made["bad"], made["nothing"]) == (PROBLEM, OK)
    assert left(home) == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(errno.ENOSPC, "full"), 73),
        (OSError(errno.EDQUOT, "full"), 73),
        (OSError(errno.EIO, "broken"), 1),
        (SpoolFull("full", "free some"), 73),
        (ZeroDivisionError("oh"), 70),
        (RecursionError("deep"), 70),
    ],
)
def test_an_error_of_a_check_is_its_finding(error: Exception, code: int, home: SpoolHome) -> None:
    def fail(_: Patient) -> list[Finding]:
        raise error

    examination = Examination(home.environ, [*USUAL, check_of(fail), NOTHING])
    made = levels(examination)
    assert (made["bad"], made["nothing"]) == (PROBLEM, OK)
    assert exit_code(examination.findings) == code


def test_whoever_stops_listening_leaves_nothing(home: SpoolHome) -> None:
    """As a command that is interrupted: helper, files and ping are gone."""
    running = Examination(home.environ, [*USUAL, check_of(hang, deadline_s=60)]).run()
    assert any(report.about == "hangs" for report in running)
    assert len(left(home)) == 2
    running.close()
    assert left(home) == []
    assert procs.childless()


#: A doctor whose last check goes on for ever, telling so all the time.
ENDLESS = """
import os, sys, time
from roundq.actors import doctor
from roundq.records import pings
def endless(patient):
    patient.bench.file()
    while True:
        patient.say("still there")
        time.sleep(0.02)
checks = [check for check in doctor.CHECKS if check.name in ("home", "queue", "writing")]
checks.append(doctor.Check("endless", "home", endless, ("writing",), "going on", 60))
for report in doctor.Examination(os.environ, checks).run():
    if report.about == "still there":
        print("now", flush=True)
"""


def test_a_doctor_that_is_killed_leaves_nothing_for_long(home: SpoolHome) -> None:
    """Its helper notices, removes what it made, and ends."""
    with subprocess.Popen(
        [sys.executable, "-c", ENDLESS], env=home.environ, stdout=subprocess.PIPE, cwd="/"
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"now\n"
        assert len(left(home)) == 1
        process.kill()
    wait_until(lambda: left(home) == [] and home.pids() == [], 20, on_timeout=lambda: str(left(home)))


def test_what_a_helper_left_is_known_to_the_sweep_of_a_daemon(
    home: SpoolHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the case that the home did not answer either when it was to be removed."""

    def die(patient: Patient) -> list[Finding]:
        for path in (patient.bench.file(), patient.bench.name(3)):
            Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)
        return []

    monkeypatch.setattr(Examination, "_tidy", lambda _: None)
    levels(Examination(home.environ, [*USUAL, check_of(die)]))
    assert len(left(home)) == 2
    spools.sweep_temporaries(home.spool, NODE, procs.table)
    assert left(home) == []


def test_nothing_of_this_node_is_a_problem_where_roundq_runs(home: SpoolHome, tmp_path: Path) -> None:
    """Its own checks, each with the daemon there and without."""
    home.daemon()
    patient = Patient(home.environ)
    for look in (node_checks.logout, node_checks.groups, node_checks.locks, node_checks.processes):
        assert {finding.level for finding in look(patient)} <= {OK, WARNING}, look
    (logout,) = node_checks.logout(Patient(home.environ, root=str(tmp_path)))
    assert "no systemd" in logout.found


def test_a_daemon_that_ends_with_a_login_is_told(home: SpoolHome, tmp_path: Path) -> None:
    """By its control group, by lingering, and by what logind does to sessions."""
    pid = home.daemon().pid
    root = tmp_path / "root"
    (root / "run/systemd/system").mkdir(parents=True)
    (root / "etc/systemd").mkdir(parents=True)
    (root / f"proc/{pid}").mkdir(parents=True)
    group = root / f"proc/{pid}/cgroup"

    def told() -> tuple[str, object]:
        (finding,) = node_checks.logout(Patient(home.environ, root=str(root)))
        return finding.level, finding.facts["lingers"]

    group.write_text("0::/user.slice/user-1000.slice/session-3.scope\n")
    assert told() == (OK, False)
    (root / "etc/systemd/logind.conf").write_text("[Login]\n#KillUserProcesses=no\nKillUserProcesses=yes\n")
    assert told() == (WARNING, False)
    group.write_text("0::/user.slice/user-1000.slice/user@1000.service/app.slice/roundq.service\n")
    assert told() == (WARNING, False)
    linger = root / "var/lib/systemd/linger"
    linger.mkdir(parents=True)
    (linger / node_checks._user_name(os.geteuid())).touch()
    assert told() == (OK, True)
    group.write_text("0::/system.slice/system-roundq.slice/roundq@ann.service\n")
    assert told() == (OK, True)


def test_hidden_processes_and_low_limits_are_told(home: SpoolHome, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/mountinfo").write_text("1 1 0:1 / /proc rw,hidepid=2 - proc proc rw\n")
    (root / "proc/sys/fs/inotify").mkdir(parents=True)
    (root / "proc/sys/fs/inotify/max_user_watches").write_text("10\n")
    patient = Patient(home.environ, root=str(root))
    (finding,) = node_checks.processes(patient)
    assert (finding.level, finding.facts["hidepid"]) == (WARNING, "2")
    (finding,) = node_checks.inotify(patient)
    assert (finding.level, finding.facts["max_user_watches"]) == (WARNING, 10)


def test_every_check_says_what_it_does_and_what_it_needs() -> None:
    """What is needed comes before, and all names are of checks."""
    seen: set[str] = set()
    for check in doctor.CHECKS:
        assert set(check.needs) <= seen
        assert check.about
        seen.add(check.name)
    assert len(seen) == len(doctor.CHECKS)
    assert seen >= doctor.SLOW
