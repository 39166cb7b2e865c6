"""The workers of a job directory: what `roundq.dirjobs` offers, by the names and arguments of dirjobs.

roundq(3), DIRJOBS, has the protocol. Here is when it is looked, waited and told; what lies on disk is in
`records.jobdir`.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import os
import weakref
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple, TypeVar

from roundq.faces.api.means import FIRST_PAUSE_S, LAST_PAUSE_S, Means, refused
from roundq.faces.api.own_diary import OwnDiary
from roundq.faces.api.waiting import Waiting
from roundq.records.jobdir import JobDir
from roundq.words import jobdir as words
from roundq.words.errors import DirJobsError, UsageError
from roundq.words.jobdir import DONE, FAILED, RUNNING, WAITING, Claim, Run
from roundq.words.quantities import visible

T = TypeVar("T")

#: For how long a name that is listed and cannot be taken, or a job that cannot be moved, is tried again: at
#: least this, and twice `sync_time`.
PATIENCE_S = 2.0
#: So many times `sync_time` are waited before a job is taken. Another worker can take it, too, for one of
#: them after our claim, and its claim is seen within another one.
LOOKS = 2

_log = logging.getLogger("roundq.dirjobs")


class DoubleRun(NamedTuple):
    """That a job was run by several workers, none of which knew of the other: `sync_time` did not cover the
    delay of the file system. `name` is the job's, `workers` are their ids, in order."""

    name: str
    workers: tuple[str, ...]

    def __str__(self) -> str:
        one, other = self.workers
        by = f"by workers {one} and {other}" if one != other else f"by two workers called {one}"
        return f"{visible(self.name)} was run twice, {by}: sync_time is too short for this file system"


class Job:
    """A job that a worker has. Made by `DirJobs.next_and_lock`."""

    def __init__(self, worker: DirJobs, claim: Claim) -> None:
        self._worker, self._claim = worker, claim
        self._state, self._file = RUNNING, claim.file()
        self._pid = os.getpid()

    def path(self) -> str:
        """Where its file is now, below the `jobsdir` that was given."""
        return os.path.join(self._worker.jobsdir, self._state, self._file)

    def name(self) -> str:
        """The name of its file, as it waited."""
        return self._claim.name

    def name_woext(self) -> str:
        """That name without its last extension."""
        return os.path.splitext(self._claim.name)[0]

    def full_name(self) -> str:
        """The worker's id, a dot, and the name."""
        return self._claim.file()

    def done(self) -> None:
        """Moves it to `02_done`. Once more it does nothing. Raises DirJobsError if it cannot be moved, has
        failed, or is gone."""
        self._end(DONE)

    def failed(self) -> None:
        """Moves it to `99_failed`, with the time before its name. Otherwise as `done`."""
        self._end(FAILED)

    def give_back(self) -> None:
        """Lets it wait again, for any worker. Otherwise as `done`."""
        self._end(WAITING)

    def _end(self, state: str) -> None:
        if self._pid != os.getpid():
            raise DirJobsError(f"{visible(self.name())} belongs to the process that forked this one")
        if self._state == RUNNING:
            self._file = self._worker._end(self._claim, state)
            self._state = state
        elif self._state != state:
            raise DirJobsError(f"{visible(self.name())} is in {self._state} already", "end a job once")

    def __str__(self) -> str:
        return f"Job({self.path()})"

    def __repr__(self) -> str:
        return str(self)


class DirJobs:
    """A worker of a job directory.

    `jobsdir` is the directory; those of waiting, running, done and failed jobs are made in it. `wid` is what
    this worker is called, letters and digits, and no two workers at a time. Jobs are files in `00_waiting`
    whose name ends in `job_ext` and of which `job_filter(path, name)` is true; they are taken at random, or
    with `rnd_job=False` in the order of their names. With `worker_sync` a claim is looked at again after
    `sync_time`, in which every worker sees what another did, and after as much again; it is in seconds.

    `double_runs` is what this worker has found to be run twice. Raises UsageError for a wrong argument,
    DirJobsError for a directory that cannot be used. A worker is used by one thread at a time.
    """

    _means = Means()

    def __init__(
        self,
        jobsdir: str | os.PathLike[str],
        wid: str = "w1",
        rnd_job: bool = True,
        job_ext: str = ".txt",
        worker_sync: bool = False,
        sync_time: float = 1,
        job_filter: Callable[[str, str], object] | None = None,
    ) -> None:
        if not isinstance(wid, str) or not words.is_wid(wid):
            raise UsageError(f"a worker id has letters and digits only, not {visible(repr(wid))}")
        if not 0 <= sync_time < float("inf"):
            raise UsageError(f"sync_time is a number of seconds, not {sync_time!r}")
        self.jobsdir = os.fspath(jobsdir)
        self.wid = wid
        self.double_runs: list[DoubleRun] = []
        self._is_synced, self._sync_s = worker_sync, float(sync_time)
        # What is run may change the working directory.
        self._dir = JobDir(os.path.abspath(self.jobsdir), self._means.disk)
        self._firmly("make the directories", self._dir.found)
        self._filter = job_filter
        self._waiting = Waiting(
            self._dir.waiting, self._means.monotonic, job_ext, self._means.chance if rnd_job else None
        )
        self._diary = OwnDiary(self._dir, self._means, wid)
        weakref.finalize(self, self._diary.leave)
        self._begun = 0
        #: The claim that is looked at, one of which it is not known whether it was made, and the job that was
        #: handed out.
        self._claimed: Claim | None = None
        self._doubtful: Claim | None = None
        self._job: Job | None = None
        self._ext = job_ext
        self._left: list[Claim] = []
        self._ended_s = -float("inf")
        self._told: set[tuple[str, ...]] = set()

    def next_and_lock(self) -> Job | None:
        """The next job, which is this worker's until `done`, `failed` or `give_back`; None if none waits that
        it could take. Raises DirJobsError while it has one, and if what waits cannot be taken."""
        self._begin()
        if self._job is not None:
            raise DirJobsError(
                f"worker {self.wid} has {visible(self._job.name())} still",
                "call done(), failed() or give_back() of that job before you take another",
            )
        if self._is_synced:
            self._look_for_doubles()
        if self._doubtful and self._is_made(self._doubtful):
            self._claimed = self._doubtful
        self._doubtful = None
        while claim := self._claimed or self._next_left():
            if job := self._settled(claim):
                return job
        for claim in self._candidates():
            if job := self._settled(claim):
                return job
        if self._is_synced:
            self._await_doubles()
        return None

    def put(self, name: str, content: bytes | str = b"") -> None:
        """Adds a waiting job of this name and content, all at once: no worker sees it half written. Raises
        DirJobsError if one of its name waits, UsageError for a name that does not end in `job_ext`."""
        if "/" in name or "\0" in name or name.startswith(".") or not name:
            raise UsageError(
                f"a job cannot be called {visible(repr(name))}", "a name of a file that is not hidden"
            )
        if not name.endswith(self._ext):
            raise UsageError(
                f"{visible(name)} does not end in {visible(self._ext)}: this worker would never take it",
                "give it that end, or make DirJobs with another job_ext",
            )
        data = content.encode() if isinstance(content, str) else content
        if not self._firmly(f"add {name}", lambda: self._dir.put(name, data)):
            raise DirJobsError(f"{visible(name)} waits already")

    # ---------------------------------------------------------------- to begin

    def _begin(self) -> None:
        """Before the first job of this process, which may have been forked from that of another worker."""
        if self._begun == os.getpid():
            return
        if self._begun:
            # What its parent has is not its own.
            self._diary = OwnDiary(self._dir, self._means, self.wid)
            weakref.finalize(self, self._diary.leave)
            self._claimed = self._doubtful = self._job = None
        self._firmly("begin", self._diary.begin)
        self._begun = os.getpid()
        self._left = self._firmly("look for what was left", lambda: self._diary.look_back(self._sync_s))

    def _next_left(self) -> Claim | None:
        """A job that an earlier worker of this id had when it died, which this one goes on with."""
        while self._left:
            claim = self._left.pop()
            if self._firmly(
                f"go on with {claim.name}", functools.partial(self._diary.inherit, claim, self._sync_s)
            ):
                return claim
        return None

    # ---------------------------------------------------------------- to claim

    def _candidates(self) -> Iterator[Claim]:
        """Claims that were made, one after the other, until nothing is left to be claimed."""
        means, pause_s = self._means, FIRST_PAUSE_S
        until_s: float | None = None
        #: Not for this worker; and what is listed, but cannot be moved: perhaps it is gone, and the list old.
        passed: set[str] = set()
        vain: dict[str, OSError | None] = {}
        if self._waiting.is_old():
            self._listed()
        while True:
            for name in self._waiting:
                if name in passed:
                    continue
                if not self._is_wanted(name):
                    passed.add(name)
                    continue
                try:
                    is_mine = self._claim(name)
                except FileExistsError:
                    passed.add(name)
                    if not self._is_synced:
                        path = visible(self._dir.running(Claim(self.wid, name)))
                        _log.warning("%s waits until %s has ended", visible(name), path)
                except OSError as error:
                    if error.errno == errno.EXDEV:
                        raise refused(f"take {name}", self.jobsdir, error) from error
                    vain[name] = error
                else:
                    if is_mine:
                        yield Claim(self.wid, name)
                        until_s, pause_s = None, FIRST_PAUSE_S
                        # What it is about to be again was seen before the wait.
                        passed.clear()
                    else:
                        vain[name] = None
            listed = set(self._listed()) - passed
            if not listed:
                return
            if listed - set(vain):
                continue
            now_s = means.monotonic()
            until_s = now_s + max(PATIENCE_S, LOOKS * self._sync_s) if until_s is None else until_s
            if now_s >= until_s:
                for name, reason in vain.items():
                    if reason is not None and name in listed:
                        raise refused(f"take {name}", self.jobsdir, reason) from reason
                _log.warning("%d names are listed in %s, and nobody can take them", len(listed), WAITING)
                return
            means.sleep(pause_s)
            pause_s = min(2 * pause_s, LAST_PAUSE_S)
            self._listed()

    def _listed(self) -> Collection[str]:
        return self._firmly(f"list {WAITING}", self._waiting.refresh)

    def _is_wanted(self, name: str) -> bool:
        if self._filter is None:
            return True
        path = os.path.join(self.jobsdir, WAITING, name)
        try:
            return bool(self._filter(path, name))
        except FileNotFoundError as error:
            if error.filename != path:
                raise
            # Somebody else has taken it meanwhile.
            return False

    def _claim(self, name: str) -> bool:
        """Tries to take a waiting job; whether it is claimed. Raises FileExistsError if it is not to be taken
        now, another OSError if the system refuses."""
        if self._is_synced and any(one.name == name for one in self._dir.claims()):
            # An old list, or a further job of the same name: after the first.
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        claim = Claim(self.wid, name)
        self._diary.claims(name)
        try:
            if self._is_synced:
                self._diary.look_at_runs(name, self._sync_s)
            is_mine = self._dir.claim(claim, lambda: self._diary.is_alone(name))
        except FileExistsError:
            self._diary.lost(name)
            raise
        except OSError:
            # Its rename may have happened, and only the answer been lost.
            self._doubtful = claim
            is_mine = self._is_made(claim)
            self._doubtful = None
            if not is_mine:
                raise
            return True
        if not is_mine:
            self._diary.lost(name)
        return is_mine

    def _is_made(self, claim: Claim) -> bool:
        doing = f"see whether {claim.name} was taken"
        return self._firmly(doing, functools.partial(self._diary.is_made, claim))

    # ---------------------------------------------------------------- to settle

    def _settled(self, claim: Claim) -> Job | None:
        """The job of a claim, if it stays with this worker. Interrupted, the next call goes on with it."""
        self._claimed = claim
        if self._is_synced:
            for _ in range(LOOKS):
                self._means.sleep(self._sync_s)
                if not self._firmly(f"look at {claim.name}", lambda: self._stays(claim)):
                    self._claimed = None
                    return None
            self._firmly(f"tell of {claim.name}", lambda: self._diary.runs(claim.name))
        self._job, self._claimed = Job(self, claim), None
        return self._job

    def _stays(self, claim: Claim) -> bool:
        """Whether this worker has the job, as far as is seen now; if not, it has given it up."""
        rivals = {one.wid for one in self._claims_of(claim)}
        if self.wid not in rivals:
            _log.warning("somebody took %s away", visible(self._dir.running(claim)))
            self._diary.lost(claim.name)
            return False
        diaries = [one for one in self._diary.of_others() if one.open == claim.name]
        twins = [one for one in diaries if one.wid == self.wid and not self._diary.is_over(one)]
        if any(twin.is_running or twin.id < self._diary.id for twin in twins):
            # The file is the twin's as well.
            _log.error("two workers are called %s: another has %s", self.wid, visible(claim.name))
            self._diary.lost(claim.name)
            return False
        begun = {one.wid for one in diaries if one.is_running and one.wid in rivals - {self.wid}}
        winner = words.first(begun or rivals)
        if winner == self.wid:
            return True
        self._give_up(claim, Claim(winner, claim.name))
        self._diary.lost(claim.name)
        return False

    def _claims_of(self, claim: Claim) -> list[Claim]:
        """The claims of this job; one's own is looked for again, since a listing may be old."""
        until_s, pause_s = self._means.monotonic() + max(self._sync_s, 0.2), FIRST_PAUSE_S
        while True:
            found = [one for one in self._dir.claims() if one.name == claim.name]
            if claim in found or self._means.monotonic() >= until_s:
                return found
            self._means.sleep(pause_s)
            pause_s = min(2 * pause_s, LAST_PAUSE_S)

    def _give_up(self, claim: Claim, winner: Claim) -> None:
        """Another worker has this job. What is not certainly the same file is kept."""
        _log.info("worker %s has %s", winner.wid, visible(claim.name))
        is_same = self._dir.is_same(claim, winner)
        if is_same:
            self._dir.drop(claim)
            return
        if is_same is False:
            try:
                self._dir.give_back(claim)
                return
            except FileExistsError:
                pass
        path = self._dir.set_aside(claim, self._diary.id.rpartition(".")[2])
        _log.warning(
            "worker %s has %s; what may be another job is now %s", winner.wid, visible(claim.name), path
        )

    # ---------------------------------------------------------------- to end

    def _end(self, claim: Claim, state: str) -> str:
        """Moves a job to where it belongs; the name that it has there."""
        if state == WAITING:
            file = self._firmly(f"give {claim.name} back", lambda: self._given_back(claim))
        else:
            at_s = int(self._means.unix())
            file = self._firmly(f"move {claim.name} to {state}", lambda: self._dir.end(claim, state, at_s))
        self._job = None
        self._ended_s = self._means.monotonic()
        try:
            self._diary.ended(claim.name)
        except OSError as error:
            # The file tells it as well.
            _log.debug("the end of %s was not noted: %s", visible(claim.name), error)
        if self._is_synced:
            # The job has ended, whether that can be looked at now or by the next call.
            with contextlib.suppress(DirJobsError):
                self._look_for_doubles()
        if file is None:
            raise DirJobsError(
                f"{visible(self._dir.running(claim))} is not there any more: somebody else has moved it",
                "give every worker an id of its own (wid)",
            )
        return file

    def _given_back(self, claim: Claim) -> str | None:
        try:
            return claim.name if self._dir.give_back(claim) else None
        except FileExistsError as error:
            raise DirJobsError(
                f"{visible(claim.name)} cannot be given back: one of its name waits",
                "call failed(), or rename one of the two",
            ) from error

    # ---------------------------------------------------------------- what was run twice

    def _look_for_doubles(self) -> None:
        for one, other in words.double(self._firmly("read the diaries", self._dir.diaries)):
            pair = one.id, other.id
            if self._diary.id in (one.diary, other.diary) and pair not in self._told:
                self._told.add(pair)
                found = _double_run(one, other)
                self.double_runs.append(found)
                _log.error("%s", found)

    def _await_doubles(self) -> None:
        """Of what has just ended it may not be seen yet that another worker had it, too."""
        rest_s = self._ended_s + LOOKS * self._sync_s - self._means.monotonic()
        if rest_s > 0:
            self._means.sleep(rest_s)
        self._look_for_doubles()

    def _firmly(self, doing: str, operation: Callable[[], T]) -> T:
        patience_s = max(PATIENCE_S, LOOKS * self._sync_s)
        return self._means.firmly(doing, self.jobsdir, operation, patience_s)


def _double_run(one: Run, other: Run) -> DoubleRun:
    return DoubleRun(one.name, tuple(sorted((one.wid, other.wid))))


def double_runs(jobsdir: str | os.PathLike[str]) -> list[DoubleRun]:
    """What the diaries of all workers show to have been run twice, those of workers that have ended included,
    for a day at least. Raises DirJobsError if they cannot be read."""
    path = os.path.abspath(os.fspath(jobsdir))
    try:
        diaries = JobDir(path).diaries()
    except OSError as error:
        raise refused("read the diaries", path, error) from error
    return [_double_run(one, other) for one, other in words.double(diaries)]
