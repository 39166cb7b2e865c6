"""Promises to whoever interrupts a command, at any moment: nothing is half done, or in the queue unsaid.

Each call to the file system and lines of roundq throughout a command are tried in turn; with MOMENTS=all in
the environment every line.
"""

from __future__ import annotations

import errno
import itertools
import os
import re
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from roundq.records import spool as spools
from roundq.records.spool import Spool
from roundq.words import ranges
from roundq.words.errors import SubmissionInterrupted
from roundq.words.job import Identity, Job
from roundq.words.states import CANCELED, COMPLETED, RUNNING, WAITING
from roundq.world import files
from tests.cluster.wait import wait_until
from tests.faces import moments
from tests.faces.homes import HERE, Homes, record
from tests.faces.moments import Happening, Outcome, Stage

#: One after the other; they are told apart by the exit code alone.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: Every so many lines of a command are tried.
STEP, EVERY = 23, os.environ.get("MOMENTS") == "all"
CLOCKS = (moments.BEFORE, moments.AFTER, moments.LINES)
LINES = "true 1\n\n# a comment\ntrue 'number 2'\ntrue 3 # the last\n"


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """Where commands are played."""
    made = Stage()
    yield made
    made.close()


class Home:
    """Ann's home, as new for each command."""

    def __init__(
        self, stage: Stage, parent: Path, arrange: Callable[[Homes, Spool], object] = lambda *_: None
    ) -> None:
        self._stage, self._parent, self._arrange = stage, parent, arrange
        self._count = itertools.count()
        self.new()

    def new(self) -> None:
        """Begins anew, with what is arranged."""
        parent = self._parent / str(next(self._count))
        parent.mkdir()
        self.homes = Homes(parent)
        self.spool = self.homes.user("ann")
        self._arrange(self.homes, self.spool)

    def empty(self) -> None:
        """Begins anew, without a queue."""
        parent = self._parent / str(next(self._count))
        (parent / "ann").mkdir(parents=True)
        self.homes = Homes(parent)
        self.spool = spools.at(str(parent / "ann"), "ann", os.geteuid())

    def rq(
        self,
        *words: str,
        clock: str = moments.LINES,
        happens: Happening = moments.NOTHING,
        given: str = "",
        patches: Mapping[str, str] | None = None,
    ) -> Outcome:
        """What becomes of a command of hers."""
        environ = {**self.homes.environ("ann"), "PATH": os.environ["PATH"], "RQ_AUTO_START": "no"}
        home = str(self.homes.parent / "ann")
        return self._stage.play(words, environ, clock, happens, directory=home, given=given, patches=patches)

    def where(self) -> dict[str, str]:
        """Where each of her jobs is."""
        return {entry.id: entry.state for entry in spools.scan(self.spool)}

    def leftovers(self) -> list[str]:
        """What is left in tmp/."""
        path = self.spool.directory("tmp")
        return os.listdir(path) if os.path.isdir(path) else []


def interruptions(
    home: Home,
    words: list[str],
    clock: str,
    *,
    given: str = "",
    begin: Callable[[], None] | None = None,
    patches: Mapping[str, str] | None = None,
    first: int = 1,
    late: int = 1 << 30,
    step: int = 0,
    is_clean: bool = True,
) -> Iterator[Outcome]:
    """What becomes of a command that is interrupted, moment by moment, each time in a new home.

    One that waits is ended at the moment `late`, if it was not before. With `is_clean` nothing is left in
    tmp/; else processes that it started may still write.
    """
    begin = begin or home.new
    begin()
    at_last = moments.signaled(late, signal.SIGTERM)
    undisturbed = home.rq(*words, clock=clock, happens=at_last, given=given, patches=patches)
    step = 1 if EVERY else step or (STEP if clock == moments.LINES else 1)
    for moment in range(first, min(undisturbed.moments, late) + 1, step):
        number = SIGNALS[moment // step % 3]
        begin()
        now = moments.signaled(moment, number)
        said = home.rq(*words, clock=clock, happens=now, given=given, patches=patches)
        assert "Traceback" not in said.err, (moment, said)
        assert "ignored" not in said.err, (moment, said)
        assert not is_clean or home.leftovers() == [], moment
        if said.code == 0:
            # It was over before.
            assert (bool(said.out), said.err) == (bool(undisturbed.out), undisturbed.err), (moment, said)
        else:
            assert said.code == 128 + number, (moment, said)
        yield said


def ids_of(text: str) -> set[str]:
    """The ids in "17, 19 to 21"."""
    ids: set[str] = set()
    for part in text.split(", "):
        first, _, last = part.partition(" to ")
        ids |= {str(number) for number in range(int(first), int(last or first) + 1)}
    return ids


def told_to_be_in(said: Outcome) -> set[str]:
    """The jobs of which whoever reads this knows that they are in the queue."""
    told = set(re.findall(r"^submitted (\d+) ", said.out, re.MULTILINE))
    for text in re.findall(r"jobs? ([0-9, to]+) stays? in the queue", said.err):
        told |= ids_of(text)
    for text in re.findall(r"stay in the queue: ([0-9, to]+)$", said.err, re.MULTILINE):
        told |= ids_of(text)
    return told


# ---------------------------------------------------------------- run


@pytest.mark.parametrize("is_new", [True, False], ids=["first", "later"])
@pytest.mark.parametrize("clock", CLOCKS)
def test_a_submission_is_whole_and_told_or_it_never_was(
    stage: Stage, tmp_path: Path, clock: str, is_new: bool
) -> None:
    """Whoever reads both streams knows whether the job is in the queue; and the next one is as good."""
    home = Home(stage, tmp_path)
    for said in interruptions(home, ["run", "true"], clock, begin=home.empty if is_new else None):
        there = home.where()
        assert told_to_be_in(said) == set(there), said
        if there:
            assert spools.read(home.spool, spools.scan(home.spool)[0]).job.command == ("true",)
        else:
            assert said.err in ("", "rq: interrupted\n", "rq: interrupted; nothing was submitted\n")
        again = home.rq("run", "false", clock=moments.BEFORE)
        assert (again.code, again.err) == (0, ""), again
        assert set(home.where()) - set(there) == told_to_be_in(again)


@pytest.mark.parametrize("clock", CLOCKS)
def test_of_many_jobs_all_are_in_or_none(stage: Stage, tmp_path: Path, clock: str) -> None:
    home = Home(stage, tmp_path)
    for said in interruptions(home, ["run", "--from", "-"], clock, given=LINES):
        there = home.where()
        assert len(there) in (0, 3)
        assert told_to_be_in(said) == set(there), said


@pytest.mark.parametrize(("clock", "step"), [(moments.AFTER, 1), (moments.LINES, 3 * STEP)])
def test_of_an_array_all_is_in_or_nothing(stage: Stage, tmp_path: Path, clock: str, step: int) -> None:
    home = Home(stage, tmp_path)
    for said in interruptions(home, ["run", "--array", "0-2", "true"], clock, step=step):
        there = home.where()
        assert set(there) in (set(), {"1_0", "1_1", "1_2"}), said
        assert told_to_be_in(said) == ({"1"} if there else set()), said


def test_a_job_that_is_waited_for_stays(stage: Stage, tmp_path: Path) -> None:
    """From its acceptance on, also while it is waited for."""
    home = Home(stage, tmp_path)
    accepted = home.rq("run", "true").moments - 100
    for said in interruptions(
        home, ["run", "--wait", "true"], moments.LINES, first=accepted, late=accepted + 400
    ):
        assert told_to_be_in(said) == set(home.where()), said


@pytest.mark.parametrize(
    ("clock", "patch"),
    [
        (moments.LINES, {"roundq.faces.cli.run.hold": "lambda: None"}),
        (moments.AFTER, {"roundq.world.files.remove": "lambda path: False"}),
    ],
    ids=["raised anywhere", "left behind"],
)
def test_these_tests_see_what_is_not_held_back_or_not_taken_back(
    stage: Stage, tmp_path: Path, clock: str, patch: dict[str, str]
) -> None:
    home = Home(stage, tmp_path)
    first = home.rq("run", "true", clock=clock).moments // 2

    def look() -> None:
        for said in interruptions(home, ["run", "true"], clock, first=first, step=3, patches=patch):
            assert told_to_be_in(said) == set(home.where())

    with pytest.raises(AssertionError):
        look()


# ---------------------------------------------------------------- cancel and restart


def jobs_to_end(homes: Homes, spool: Spool) -> None:
    """Of four jobs two wait and two run elsewhere, one of which may be restarted."""
    for job_id in "13":
        homes.put(spool, WAITING, job_id, record("fit"))
    homes.put(spool, RUNNING, "2", record("fit", node="n2", began_s=5))
    lives = Identity("b", 7, 7)
    homes.put(spool, RUNNING, "4", record("fit", node="n2", began_s=5, process=lives, job_restartable=True))
    homes.card(spool, "n2")


def told(said: Outcome, done: str) -> set[str]:
    """The jobs of which it is said that this was done."""
    lines = re.findall(rf"^{done} (?:(\d) \"|\d jobs.*: ([-0-9, ]+)$)", said.out, re.MULTILINE)
    return {job_id for job_id in "1234" for one, many in lines if ranges.parse(one or many).has(job_id)}


def asked(home: Home, verb: str) -> set[str]:
    """The jobs of which that is asked."""
    return {job_id for job_id, verbs in spools.requests(home.spool).items() if verb in verbs}


@pytest.mark.parametrize("words", [["cancel", "--all"], ["cancel", "-q", "3", "2", "1", "4"]], ids=" ".join)
@pytest.mark.parametrize("clock", CLOCKS)
def test_who_cancels_knows_which_jobs_were_left_alone(
    stage: Stage, tmp_path: Path, clock: str, words: list[str]
) -> None:
    """Each job is canceled, or asked to end, and said; or named as left; or nothing was done at all."""
    home = Home(stage, tmp_path, jobs_to_end)
    for said in interruptions(home, words, clock):
        done = {job_id for job_id, state in home.where().items() if state == CANCELED} | asked(home, "cancel")
        left = re.findall(r"not canceled: ([-0-9, ]+)$", said.err, re.MULTILINE)
        if left:
            assert done == {job_id for job_id in "1234" if not ranges.parse(left[0]).has(job_id)}, said
        else:
            assert len(done) in (0, 4), said
        if "-q" not in words:
            assert told(said, "cancel(?:ed|ing)") == done, said


@pytest.mark.parametrize("clock", CLOCKS)
def test_who_restarts_knows_which_jobs_were_left_alone(stage: Stage, tmp_path: Path, clock: str) -> None:
    home = Home(stage, tmp_path, jobs_to_end)
    for said in interruptions(home, ["restart", "4"], clock):
        done = asked(home, "restart")
        assert told(said, "restarting") == done, said


def test_who_waits_for_canceled_jobs_knows_that_they_are_asked(stage: Stage, tmp_path: Path) -> None:
    home = Home(stage, tmp_path, jobs_to_end)
    first = home.rq("cancel", "--wait", "2", happens=moments.signaled(700, signal.SIGTERM)).moments // 2
    for said in interruptions(home, ["cancel", "--wait", "2"], moments.LINES, first=first, late=900):
        if asked(home, "cancel"):
            assert said.err in (
                "rq: interrupted; what was asked for is done all the same\n",
                "rq: interrupted\n",
            ), said


# ---------------------------------------------------------------- looking


def something_to_see(homes: Homes, spool: Spool) -> None:
    """Jobs in some states, and output of one."""
    jobs_to_end(homes, spool)
    home = homes.parent / "ann"
    (home / "out").write_text("said\n" * 100)
    ended = record("done", began_s=9, ended_s=1, exit_code=0, job_output="out", job_directory=str(home))
    homes.put(spool, COMPLETED, "5", ended)


@pytest.mark.parametrize(
    "words",
    [
        "q",
        "q --json",
        "nodes",
        "users",
        "show 1 2",
        "show --json 2",
        "why 1 2",
        "log 5",
        "log -f 5",
        "wait 5",
    ],
)
@pytest.mark.parametrize("clock", [moments.BEFORE, moments.LINES])
def test_who_only_looks_changes_nothing(stage: Stage, tmp_path: Path, clock: str, words: str) -> None:
    """And is told nothing but that it was interrupted."""
    home = Home(stage, tmp_path, something_to_see)
    home.new()
    before = (home.where(), spools.requests(home.spool))
    for said in interruptions(
        home, words.split(), clock, begin=lambda: None, step=61 if clock == moments.LINES else 3
    ):
        assert said.code == 0 or said.err in ("", "rq: interrupted\n"), said
    assert (home.where(), spools.requests(home.spool)) == before


# ---------------------------------------------------------------- a full disk


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT], ids=["disk", "quota"])
@pytest.mark.parametrize("stays", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize(
    "words", ["run true", "run --from -", "cancel --all", "cancel -q 2", "restart 4"], ids=str
)
def test_a_full_disk_leaves_nothing_half_done(
    stage: Stage, tmp_path: Path, words: str, stays: bool, number: int
) -> None:
    """At each write: the job is in the queue and said, or it is said why not; nothing is left behind."""
    home = Home(stage, tmp_path, jobs_to_end)
    home.new()
    given = LINES if "--from" in words else ""
    writes = home.rq(*words.split(), clock=moments.WRITES, given=given).moments
    assert writes >= 3
    for moment in range(1, writes + 1):
        home.new()
        room = moments.full(moment, 1 << 60 if stays else moment, number)
        said = home.rq(*words.split(), clock=moments.WRITES, happens=room, given=given)
        assert "Traceback" not in said.err, (moment, said)
        assert home.leftovers() == [], (moment, said)
        new = {job_id for job_id, state in home.where().items() if state == WAITING} - set("1234")
        if words.startswith("run"):
            assert told_to_be_in(said) == new, (moment, said)
            assert (said.code == 0) == bool(new), (moment, said)
            assert bool(new) or os.strerror(number) in said.err, (moment, said)
        done = {job_id for job_id, state in home.where().items() if state == CANCELED} | asked(home, "cancel")
        if words == "cancel --all":
            unsure = re.findall(
                r"^rq: (?:cancel of )?job (\d) is (?:canceled|asked for), but", said.err, re.MULTILINE
            )
            assert told(said, "cancel(?:ed|ing)").union(unsure) == done, (moment, said)
        if words != "run true" and said.code == 0 and words.startswith("cancel"):
            assert done == (set("1234") if "--all" in words else {"2"}), (moment, said)
        assert said.code in (0, 1, 73), (moment, said)
        again = home.rq(*words.split(), clock=moments.BEFORE, given=given)
        assert (again.code, again.err) == (0, ""), (moment, again)


@pytest.mark.parametrize("words", ["q", "q --json", "nodes", "users", "show 1", "why 1", "log 5", "wait 5"])
def test_who_only_looks_needs_no_room(stage: Stage, tmp_path: Path, words: str) -> None:
    """Not one write: looking changes nothing."""
    home = Home(stage, tmp_path, something_to_see)
    said = home.rq(*words.split(), clock=moments.WRITES, happens=moments.full(1))
    assert (said.code, said.moments) == (0, 0), said


# ---------------------------------------------------------------- programs that submit


@pytest.mark.parametrize("is_fast", [False, True], ids=["alone", "beside a daemon"])
def test_a_program_is_told_exactly_what_an_interrupted_submission_left(
    homes: Homes, monkeypatch: pytest.MonkeyPatch, is_fast: bool
) -> None:
    """Whichever call its KeyboardInterrupt meets; a daemon that takes jobs at once makes the difference."""
    spool = homes.user("ann")
    described = [Job(("true", str(number))) for number in range(4)]
    real = files.place
    count, moment = 0, 0

    def place(temporary: str, target: str) -> bool:
        done = real(temporary, target)
        if is_fast and int(Path(target).stem) % 2:
            (entry,) = [entry for entry in spools.scan(spool, (WAITING,)) if f"{entry.id}.job" in target]
            spools.claim(spool, entry, HERE)
        return done

    def ticking(name: str) -> Callable[..., object]:
        of = getattr(os, name)

        def call(*args: object, **kwargs: object) -> object:
            nonlocal count
            result = of(*args, **kwargs)
            count += 1
            if count == moment:
                raise KeyboardInterrupt
            return result

        return call

    monkeypatch.setattr(files, "place", place)
    for name in ("open", "write", "fsync", "link", "unlink", "rename", "close"):
        monkeypatch.setattr(os, name, ticking(name))
    interrupted = 0
    while True:
        before = {entry.id for entry in spools.scan(spool)}
        count, moment = 0, moment + 1
        try:
            told = set(spools.submit(spool, described, HERE))
        except SubmissionInterrupted as stop:
            told = set(stop.ids)
            interrupted += 1
        assert {entry.id for entry in spools.scan(spool)} - before == told, moment
        assert os.listdir(spool.directory("tmp")) == []
        if len(told) == 4:
            break
    assert interrupted > 20


# ---------------------------------------------------------------- daemons


def with_a_waiting_job(homes: Homes, spool: Spool) -> None:
    """A short job."""
    short = record("short", job_directory=str(homes.parent / "ann"), job_output="out")
    homes.put(spool, WAITING, "1", replace(short, job=replace(short.job, command=("true",))))


def test_a_single_pass_that_is_interrupted_brings_to_an_end_what_it_began(
    stage: Stage, tmp_path: Path
) -> None:
    """The job waits still, or it is run: nothing is claimed by nobody."""
    home = Home(stage, tmp_path, with_a_waiting_job)
    begun = 0
    for said in interruptions(home, ["daemon", "--fg"], moments.AFTER, step=41, is_clean=False):
        wait_until(lambda: home.where()["1"] in (WAITING, COMPLETED), 20)
        begun += home.where()["1"] == COMPLETED
        assert said.err in ("", "rq: interrupted; what was started goes on\n") or (
            said.err.startswith("rq: interrupted; your daemon") and home.where()["1"] == WAITING
        ), said
    assert begun


def test_whoever_interrupts_the_start_of_a_daemon_can_start_and_stop_it(stage: Stage, tmp_path: Path) -> None:
    home = Home(stage, tmp_path)
    for said in interruptions(home, ["daemon"], moments.AFTER, step=13, is_clean=False):
        may = "rq: interrupted; your daemon on here1 may be starting\nhint: rq nodes tells\n"
        assert said.err in ("", "rq: interrupted\n", may), said
        again = home.rq("daemon", clock=moments.BEFORE)
        assert (again.code, again.err) == (0, ""), again
        stopped = home.rq("daemon", "--stop", clock=moments.BEFORE)
        assert (stopped.code, stopped.out) == (0, "your daemon on here1 left\n"), stopped
