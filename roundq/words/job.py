"""The job and its record: what is asked for, and what became of it.

A record is one JSON file, of which `record_format` is the format.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

NS = 1_000_000_000
#: What 0.2.9 allows a job to write when it does not say: 1 MB.
MAX_OUTPUT_DEFAULT = 1 << 20
NO_NODE = "NONE"
#: Earlier attempts that a record tells of, the last ones: a job that often gives way must not outgrow it.
ATTEMPTS_MAX = 100
#: Characters of what is said of each of them; and bytes that are kept free in a record for all that becomes
#: of its job.
ATTEMPT_DETAIL_MAX = 200
FACTS_BYTES_MAX = 192 << 10
#: More than any node has, and than anybody writes down.
GPUS_MAX, LICENSES_MAX, WORDS_MAX = 1024, 64, 256
#: Tasks of an array, of a chunk, and what one job may depend on.
TASKS_MAX, CHUNK_MAX, AFTER_MAX, RETRIES_MAX = 1_000_000, 10_000, 10_000, 1_000_000


@dataclass(frozen=True, slots=True)
class Identity:
    """A process that no later process can be taken for.

    `start` is the kernel's start time in clock ticks since boot (/proc/PID/stat
    field 22), `boot` the boot id of the node: pids come again, these three do not.
    """

    boot: str
    pid: int
    start: int


class Notice(NamedTuple):
    """A signal that tells a job of its coming end: its number, and how many seconds before."""

    number: int
    before_s: float


@dataclass(frozen=True, slots=True)
class Array:
    """Of which array a job is a task: the array's id, this task's index, and what all of its tasks share.

    The indices go from `first` to `last` by `step`, `count` of them. At most `throttle` tasks run at once
    (0: any number), and once more than `max_fails` have failed nothing more of it is begun (None: never).
    `jobs` is in how many jobs they are, where that are fewer (chunks); 0 for one each.
    """

    id: str
    index: int
    first: int = 0
    last: int = 0
    step: int = 1
    count: int = 1
    throttle: int = 0
    max_fails: int | None = None
    jobs: int = 0

    @property
    def size(self) -> int:
        """How many jobs it has."""
        return self.jobs or self.count


@dataclass(frozen=True, slots=True)
class Dependency:
    """What must have become of another job, or of all `tasks` tasks of an array, before this one may start.

    `how` is "ok" (ended well), "any" (ended) or "fail" (ended, but not well); `tasks` 0 is a single job.
    """

    how: str
    job: str
    tasks: int = 0


@dataclass(frozen=True, slots=True)
class Task:
    """One of several tasks that a job runs one after the other: its index in the array, and its command."""

    index: int
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Job:
    """What the user asked for. Never changes once it is submitted.

    `cores` 0 means all of a node. Memory and output are in bytes; `max_output` 0
    and `memory_limit` None set no limit; times are in nanoseconds since the epoch, `time_limit_s` in
    seconds. `output` and `error` are relative to `directory`; no `error` means
    that both streams go to `output`. `environment` is the digest of a file in env/.

    `licenses` are names with counts, sorted; `nodes` and `exclude` patterns of node names, fnmatch(3),
    any of which may match; `features` must all be there. A `scavenge` job runs on what nobody else
    wants, and is restartable. `notice` is sent before it is ended.

    `set` is the set that it belongs to, if any; `array` the array of which it is a task; `chunk` the tasks of
    that array that it runs one after the other. It does not start before `begin_ns`, nor before what it
    comes `after`; if one of these can never be, it is canceled, or with `keep_held` stays held. When it fails
    it is run again up to `retries` times, if its end is one of `retry_on` ("signal", "lost", an exit code as
    digits; none given: any), `backoff_s` seconds later, twice as long after each.
    """

    command: tuple[str, ...]
    directory: str = ""
    home_dir: str = ""
    jobname: str = ""
    output: str = ""
    submitted_ns: int = 0
    cores: int = 1
    memory_required: int = 0
    memory_limit: int | None = None
    max_output: int = MAX_OUTPUT_DEFAULT
    restartable: bool = False
    error: str | None = None
    environment: str | None = None
    umask: int | None = None
    time_limit_s: float | None = None
    priority: int = 0
    gpus: int = 0
    licenses: tuple[tuple[str, int], ...] = ()
    nodes: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    scavenge: bool = False
    notice: Notice | None = None
    set: str = ""
    array: Array | None = None
    chunk: tuple[Task, ...] = ()
    after: tuple[Dependency, ...] = ()
    keep_held: bool = False
    begin_ns: int = 0
    retries: int = 0
    retry_on: tuple[str, ...] = ()
    backoff_s: float = 0.0
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name a person gave it, or else its command line."""
        return self.jobname or " ".join(self.command)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One ended run of a job: where, by which process, when, what became of it, and a sentence on that."""

    number: int
    node: str
    process: Identity | None
    started_ns: int
    completed_ns: int
    reason: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    detail: str | None = None

    @property
    def title(self) -> str:
        """Which it is, and where: "attempt 2 on n1"; of one that no node had taken the number alone."""
        return f"attempt {self.number}" + (f" on {self.node}" if self.node != NO_NODE else "")


@dataclass(frozen=True, slots=True)
class Record:
    """A job and what became of it so far.

    `attempt` counts from 1; `cores` is what was granted (`all` resolved to a
    number), 0 until it begins. `process` is the supervisor of this attempt.
    `attempts` are the earlier ones. `detail` is one sentence for people. `lease_s` is for
    how long the supervisor may run it without having said so, None for ever. `cpus` are the logical
    CPUs that it is pinned to, none if it is not; `gpus` the ids of its GPUs; `threads`: its cores are
    hardware threads that other jobs' cores left over. `retired`: its user counts it as settled although it
    did not end well. `results` are the exit codes of the tasks of a chunk that have ended, in this attempt or
    before, by index; negative is the signal that killed it. What ended well is not run again.
    `not_before_ns` is when the next attempt may begin, 0 for at once; `retried` how many attempts were
    retries of failures (`words/retries`).
    """

    job: Job
    started_ns: int = 0
    node: str = NO_NODE
    pid: int = 0
    completed_ns: int = 0
    exit_code: int | None = None
    signal: int | None = None
    reason: str | None = None
    detail: str | None = None
    attempt: int = 1
    attempts: tuple[Attempt, ...] = ()
    cores: int = 0
    process: Identity | None = None
    usage: dict[str, float] | None = None
    lease_s: float | None = None
    cpus: tuple[int, ...] = ()
    gpus: tuple[str, ...] = ()
    threads: bool = False
    retired: bool = False
    results: tuple[tuple[int, int], ...] = ()
    not_before_ns: int = 0
    retried: int = 0
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def begun(self) -> list[Attempt]:
        """The earlier attempts that have begun: one may have ended before, such as by its user."""
        return [attempt for attempt in self.attempts if attempt.started_ns]

    def at_home(self, home: str) -> Record:
        """This record with what a program that dropped it may leave out: it runs in the owner's home."""
        job = self.job
        if os.path.isabs(job.directory) and job.home_dir:
            return self
        home = os.path.join(home, job.home_dir) if job.home_dir else home
        directory = os.path.join(home, job.directory) if job.directory else home
        return replace(self, job=replace(job, home_dir=home, directory=directory))

    def unbegun(self) -> Record:
        """This record as that of a job that waits: what an earlier attempt left in it is history, or nothing.

        An ended job that a user moved back has its end in it; one that was withdrawn at its birth a process.
        """
        if self.completed_ns:
            # Run again at its user's wish: all its retries are open again.
            return replace(self.next_attempt(self.completed_ns, self.reason), retried=0)
        return replace(
            Record(self.job, extra=self.extra),
            attempt=self.attempt,
            attempts=self.attempts,
            retried=self.retried,
            results=self.results,
        )

    def next_attempt(self, completed_ns: int, reason: str | None) -> Record:
        """This record as it goes back to waiting: the attempt is history, the next one is open."""
        ended = Attempt(
            self.attempt,
            self.node,
            self.process,
            self.started_ns,
            completed_ns,
            reason,
            self.exit_code,
            self.signal,
            None if self.detail is None else self.detail[:ATTEMPT_DETAIL_MAX],
        )
        return replace(
            Record(self.job, extra=self.extra),
            attempt=self.attempt + 1,
            attempts=(*self.attempts, ended)[-ATTEMPTS_MAX:],
            retried=self.retried,
            results=self.results,
        )
