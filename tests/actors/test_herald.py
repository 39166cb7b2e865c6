"""Promises about news: who asked is told once, when all has ended, by one daemon, which waits for nothing."""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from roundq.actors import herald as heralds
from roundq.actors import messenger
from roundq.actors.herald import Herald
from roundq.records import history
from roundq.records import news as records
from roundq.records import spool as spools
from roundq.records.history import Journal
from roundq.records.spool import Spool
from roundq.words import record_format as formats
from roundq.words.job import Array, Job, Record
from roundq.words.news import News
from tests.actors.spoolhome import NODE, SpoolHome
from tests.cluster.wait import wait_until

#: Writes down what it was given.
SENDMAIL = """#!/bin/sh
{ echo "$@"; cat; } >> "$HOME/mails"
"""
TOLD = ("/bin/sh", "-c", 'echo "$RQ_JOB_ID$RQ_SET $RQ_JOB_STATE $RQ_EXIT_CODE $RQ_COMPLETED" >> told')


@pytest.fixture
def home(tmp_path: Path) -> Iterator[SpoolHome]:
    made = SpoolHome(tmp_path / "homes")
    (made.home / "sendmail").write_text(SENDMAIL)
    (made.home / "sendmail").chmod(0o755)
    yield made
    made.stop()


def ask(home: SpoolHome, of: str, **more: object) -> None:
    given = {"directory": str(home.home), "on_end": TOLD, **more}
    records.ask(home.spool, News(of, **given), NODE)  # type: ignore[arg-type]


def end(home: SpoolHome, job_id: str, state: str) -> None:
    """A waiting job has ended in that state."""
    os.rename(spools.path_of(home.spool, home.entry(job_id)), f"{home.spool.path}/{state}/{job_id}.job")


def names(home: SpoolHome) -> list[str]:
    return sorted(os.listdir(home.spool.directory("news")))


class Told:
    """A herald with a clock of its own, which tells in this process."""

    late_s = 0.0

    def __init__(self, home: SpoolHome, monkeypatch: pytest.MonkeyPatch, node: str = NODE) -> None:
        self.herald = Herald(home.spool, node, logging.getLogger("test"))
        self.now_s = 1000.0
        self.of: list[tuple[str, dict[str, int]]] = []
        self.home = home

        def send(_: str) -> None:
            for file, news, counts in self.herald._ready:
                self.of.append((news.of, counts))
                records.forget(home.spool, file)
            self.herald._ready.clear()

        monkeypatch.setattr(self.herald, "_send", send)

    def look(self, after_s: float = 3.0) -> list[str]:
        self.now_s += after_s
        before = len(self.of)
        self.herald.run(self.now_s, "sendmail", self.late_s)
        return [of for of, _ in self.of[before:]]


# ---------------------------------------------------------------- when


@pytest.mark.parametrize("state", ["completed", "failed", "canceled", "zombie"])
def test_a_job_is_told_once_however_it_ended(
    state: str, home: SpoolHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that was canceled before it began, of which no supervisor knows."""
    one, other = home.submit("true"), home.submit("true")
    ask(home, one)
    told = Told(home, monkeypatch)
    assert told.look() == []

    end(home, other, state)
    assert told.look() == []
    end(home, one, state)

    assert told.look() == [one]
    assert told.of == [(one, {state: 1})]
    assert names(home) == []
    assert [told.look() for _ in range(3)] == [[], [], []]


def test_an_array_is_told_when_all_of_it_has_ended(home: SpoolHome, monkeypatch: pytest.MonkeyPatch) -> None:
    """With how many tasks ended how."""
    job = home.submit("true")
    for index in range(3):
        os.link(spools.path_of(home.spool, home.entry(job)), f"{home.spool.path}/waiting/{job}_{index}.job")
    os.unlink(f"{home.spool.path}/waiting/{job}.job")
    ask(home, job, tasks=3)
    told = Told(home, monkeypatch)
    for index, state in enumerate(["completed", "failed"]):
        end(home, f"{job}_{index}", state)
        assert told.look() == []
    end(home, f"{job}_2", "completed")
    assert told.look() == [job]
    assert told.of == [(job, {"completed": 2, "failed": 1})]


def test_a_set_is_told_when_no_job_of_it_is_left(home: SpoolHome, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever joined meanwhile counts; and it is looked twice, since a job that moves may be missed."""
    first = home.submit("true", set="fit")
    for _ in range(2):
        ask(home, "%fit")
    assert len(names(home)) == 1
    told = Told(home, monkeypatch)
    assert told.look() == []
    later, foreign = home.submit("true", set="fit"), home.submit("true", set="other")
    end(home, first, "completed")
    assert [told.look() for _ in range(3)] == [[], [], []]
    moved = Path(spools.path_of(home.spool, home.entry(later)))
    away = moved.rename(home.home / "on its way")
    # It is gone from where it was, and met nowhere: once.
    told.herald._asked[names(home)[0]].live = ""
    told.herald.targets.drop((later, False))
    assert told.look() == []
    away.rename(moved)
    assert told.look() == []
    end(home, later, "failed")
    assert told.look() == []
    assert told.look() == ["%fit"]
    assert home.state(foreign) == "waiting"


def test_what_was_asked_of_a_job_whose_record_is_folded_is_told(
    home: SpoolHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No daemon was there for a month."""
    job = home.submit("true")
    ask(home, job)
    end(home, job, "failed")
    moving = history.take(home.spool, home.entry(job), NODE)
    assert moving is not None
    Journal(home.spool, NODE).fold([moving], 1e9, 1e9)
    told = Told(home, monkeypatch)
    for _ in range(10):
        told.look(310.0)
    assert told.of == [(job, {"failed": 1})]


def test_one_of_two_daemons_tells(home: SpoolHome, monkeypatch: pytest.MonkeyPatch) -> None:
    job = home.submit("true")
    ask(home, job)
    both = [Told(home, monkeypatch, node) for node in ("n1", "n2")]
    for told in both:
        told.look()
    end(home, job, "completed")
    for told in both:
        told.look()
    assert sorted(len(told.of) for told in both) == [0, 1]


def test_what_asks_nothing_is_left_and_said_once(
    home: SpoolHome, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that somebody else put there, or could have written."""
    directory = Path(home.spool.directory("news"))
    (directory / "7.news").write_text("{")
    (directory / "8.news").symlink_to("7.news")
    ask(home, "9")
    (directory / "9.news").chmod(0o666)
    told = Told(home, monkeypatch)
    for _ in range(3):
        assert told.look() == []
    assert sorted(record.getMessage()[:19] for record in caplog.records) == [
        f"news/{number}.news asks no" for number in (7, 8, 9)
    ]


def test_what_a_daemon_began_to_tell_is_not_told_again(
    home: SpoolHome, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """At most once: twice is worse than never for who books by it. That of another node is left alone."""
    for job_id, node in (("7", NODE), ("8", "other")):
        ask(home, job_id)
        assert records.take(home.spool, f"{job_id}.news", node) == f"{job_id}@{node}.told"
    told = Told(home, monkeypatch)
    assert told.look() == []
    assert names(home) == ["8@other.told"]
    assert [record.getMessage() for record in caplog.records] == [
        f"a daemon ended while it told of 7@{NODE}.told: not told again"
    ]


@pytest.mark.parametrize("is_renamed", [False, True], ids=["not renamed", "renamed, the reply lost"])
def test_news_that_could_not_be_taken_once_are_told_once(
    is_renamed: bool, home: SpoolHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that was away for a moment makes nobody forget them, nor wait with the others."""
    one, other = home.submit("true"), home.submit("true")
    for job_id in (one, other):
        ask(home, job_id)
    told = Told(home, monkeypatch)
    for _ in range(3):
        told.look()
    take = records.take

    def refused(spool: Spool, file: str, node: str) -> str | None:
        if file != f"{one}.news":
            return take(spool, file, node)
        if is_renamed:
            take(spool, file, node)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(records, "take", refused)
    for job_id in (one, other):
        end(home, job_id, "completed")
    assert told.look() == [other]
    assert told.herald.again_s(told.now_s) <= heralds.LOOK_AGAIN_S
    monkeypatch.setattr(records, "take", take)
    assert told.look() == [one]
    assert names(home) == []
    assert [told.look() for _ in range(3)] == [[], [], []]


def test_news_that_cannot_be_read_yet_are_told_later(
    home: SpoolHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And those beside them, and those of a round before it, at once; the round goes on."""
    one, other = home.submit("true"), home.submit("true")
    for job_id in (one, other):
        ask(home, job_id)
        end(home, job_id, "failed")
    read = records.read

    def refused(spool: Spool, file: str) -> News:
        if file == f"{one}.news":
            raise OSError(errno.EIO, "Input/output error")
        return read(spool, file)

    monkeypatch.setattr(records, "read", refused)
    told = Told(home, monkeypatch)
    assert told.look() == [other]
    # By now the directory is known not to have changed.
    for _ in range(3):
        assert told.look() == []
    monkeypatch.setattr(records, "read", read)
    assert told.look(heralds.READ_AGAIN_S) == [one]


def test_what_was_begun_to_be_told_is_said_when_it_can_be_listed(
    home: SpoolHome, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ask(home, "7")
    records.take(home.spool, "7.news", NODE)
    left = records.left

    def refused(*_: object) -> list[str]:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(records, "left", refused)
    told = Told(home, monkeypatch)
    with pytest.raises(OSError, match="Input/output"):
        told.look()
    monkeypatch.setattr(records, "left", left)
    told.look()
    assert names(home) == []
    assert "not told again" in caplog.text


def test_a_set_is_not_over_where_its_jobs_are_seen_late(
    home: SpoolHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is asked is seen here, the jobs that were accepted before it only within `settle`."""
    late_s = 30.0
    monkeypatch.setattr(Told, "late_s", late_s)
    ask(home, "%fit")
    told = Told(home, monkeypatch)
    assert [told.look(late_s / 3) for _ in range(3)] == [[], [], []]
    job = home.submit("true", set="fit")
    assert told.look(late_s / 3) == []
    end(home, job, "completed")
    looks = [told.look(late_s / 3) for _ in range(9)]
    assert [of for of in looks if of] == [["%fit"]]
    assert looks[:2] == [[], []]


# ---------------------------------------------------------------- how


def test_a_command_that_hangs_is_killed_with_its_children(home: SpoolHome) -> None:
    """And says what it wrote last; the next one is not held up by it."""
    script = "echo first; echo last; sleep 1000 & sleep 1000"
    child = os.fork()
    if child == 0:
        code = 1
        try:
            ran = messenger.run(("/bin/sh", "-c", script), {"PATH": os.environ["PATH"]}, "/", patience_s=2.0)
            (home.home / "ran").write_text(ran.says)
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert (home.home / "ran").read_text() == "killed after 2 s: last"


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("true", "done"),
        ("echo no; exit 3", "exit code 3: no"),
        ("kill -9 $$", "killed by signal 9"),
        ("cat", "done: x"),
    ],
)
def test_how_a_command_ended_is_said(script: str, says: str) -> None:
    ran = messenger.run(("/bin/sh", "-c", script), {"PATH": os.environ["PATH"]}, "/", b"x")
    assert ran.says == says


def test_a_command_that_is_not_there_is_said() -> None:
    assert messenger.run(("/no/such",), {}, "/").says.startswith("could not be run: ")
    assert messenger.run(("true",), {"PATH": "/bin"}, "/no/such").says.startswith("could not be run: ")


@pytest.mark.parametrize(("counts", "state"), [({"failed": 1}, "failed"), ({}, "unknown")])
def test_of_a_job_that_is_run_again_already_it_is_told_what_was_seen(
    home: SpoolHome, counts: dict[str, int], state: str
) -> None:
    job = home.submit("true")
    became = messenger.outcome_of(home.spool, News(job), counts)
    assert (became.is_well, became.state) == (False, state)


def test_a_daemon_runs_the_command_and_sends_the_mail(home: SpoolHome) -> None:
    """One job that failed, one that was canceled before it began, and an array; its log tells of it."""
    failed = home.shell("exit 3", jobname="fit")
    canceled = home.submit("true", cores=100_000)
    ask(home, failed, name="fit", mail=("ann@example.org", "bob"))
    ask(home, canceled)
    array = "900"
    for index in range(2):
        job = Job(("true",), directory=str(home.home), array=Array(array, index, 0, 1, 1, 2))
        path = f"{home.spool.path}/waiting/{array}_{index}.job"
        temporary = spools.temporary_of(home.spool, NODE, formats.dump(Record(job)))
        os.rename(temporary, path)
    ask(home, array, tasks=2)
    home.daemon(RQ_SENDMAIL=f"{home.home}/sendmail")
    assert spools.cancel(home.spool, home.entry(canceled), time.time_ns(), NODE)

    def all_told() -> bool:
        return not names(home) and home.output("told").count("\n") == 3

    wait_until(all_told, 20, on_timeout=home.story)

    assert sorted(home.output("told").splitlines()) == sorted(
        [f"{failed} failed 3 0", f"{canceled} canceled  0", f"{array} completed  2"]
    )
    mails = home.output("mails")
    assert mails.count("Subject: ") == 2
    assert "-i -- ann@example.org\nTo: ann@example.org\n" in mails
    assert f'Subject: [rq] not ok: job {failed} "fit": failed: ' in mails
    wait_until(lambda: "mail to bob: done" in home.story(), 20, on_timeout=home.story)


def test_a_round_does_not_wait_for_who_tells(home: SpoolHome, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that hangs is another process's; the next news waits for it, and no job does."""
    monkeypatch.setattr(messenger, "PATIENCE_S", 20.0)
    job = home.submit("true")
    ask(home, job, on_end=("sleep", "1000"))
    end(home, job, "completed")
    one = Herald(home.spool, NODE, logging.getLogger("test"))
    begun_s = time.monotonic()
    for place in range(5):
        one.run(1000.0 + place, "sendmail")
    assert time.monotonic() - begun_s < 5.0
    assert one._told is not None
    assert one.again_s(1005.0) <= heralds.HEAR_S
    assert names(home) == [f"{job}@{NODE}.told"]
    for descriptor in (one._told.asking, one._told.answering):
        os.close(descriptor)
    os.kill(one._told.pid, 9)
    os.waitpid(one._told.pid, 0)
