"""`rq doctor`: what the queue needs of the home file system and of this node, looked at one by one.

The checks run in a helper process, which tells of each finding when it is made. Every check has a deadline:
a home that does not answer is a finding, the helper is killed, and the checks that do not need the home go
on in another one. The process that called never touches the home. What the checks leave is removed, also
after a signal; what cannot be removed then, a daemon's sweep finds.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

from roundq.actors import commons_checks, home_checks, node_checks, probes, queue_checks
from roundq.actors.patient import Patient
from roundq.records import pings
from roundq.words.errors import RoundqError
from roundq.words.findings import PROBLEM, Finding, of_error, problem, warning
from roundq.world import mounts, procs

#: What a check may take before the home is said not to answer.
DEADLINE_S = 10.0
#: What cleaning up may take; a daemon's sweep does what is left.
TIDY_S = 3.0
#: What is waited for the end of a helper that was killed.
REAP_S = 1.0
#: EX_SOFTWARE of sysexits.h: a mistake of ours.
INTERNAL_ERROR = 70

#: The groups in which findings are told.
HOME, NODES, QUEUE, HERE = "home file system", "nodes", "queue", "this node"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to look at.

    `needs` are the checks without whose success it means nothing: all but those of the node itself need the
    home. `about` says what is done, for who waits. One that is late is a problem, and nobody asks the home
    again, unless it is not `of_home`: then it waited for somebody else.
    """

    name: str
    group: str
    look: Callable[[Patient], list[Finding]]
    needs: tuple[str, ...]
    about: str
    deadline_s: float = DEADLINE_S
    of_home: bool = True


#: In the order in which they are made.
CHECKS = (
    Check("home", HOME, home_checks.home, (), "asking the home"),
    Check("file system", HOME, home_checks.file_system, ("home",), "looking what the queue is on"),
    Check("queue", HOME, home_checks.queue, ("home",), "looking at the queue"),
    Check(
        "other users",
        HOME,
        home_checks.other_users,
        ("home",),
        "looking at the homes of others",
        3 * DEADLINE_S,
        of_home=False,
    ),
    Check(
        "commons",
        HOME,
        commons_checks.commons,
        ("home",),
        "looking at the commons",
        3 * DEADLINE_S,
        of_home=False,
    ),
    Check("space", HOME, home_checks.space, ("home",), "asking for free space"),
    # A program of others, with whatever it may wait for.
    Check("quota", HOME, home_checks.quota, ("home",), "asking for the quota", 3.0, of_home=False),
    Check("writing", HOME, home_checks.writing, ("queue",), "writing and syncing a file"),
    Check("creating", HOME, home_checks.creating, ("writing",), "several processes create one file"),
    Check("linking", HOME, home_checks.linking, ("writing",), "several processes link one name"),
    Check("renaming", HOME, home_checks.renaming, ("writing",), "several processes rename one file"),
    Check("replacing", HOME, home_checks.replacing, ("writing",), "reading a file that is replaced"),
    Check("clock", HOME, home_checks.clock, ("writing",), "comparing clocks"),
    Check("names", QUEUE, queue_checks.names, ("queue",), "looking for files that are not ours"),
    Check("records", QUEUE, queue_checks.records, ("queue",), "reading jobs that have not ended"),
    Check("requests", QUEUE, queue_checks.requests, ("queue",), "looking for unanswered requests"),
    Check("daemons", NODES, queue_checks.daemons, ("queue",), "reading cards"),
    Check("clocks", NODES, queue_checks.clocks, ("queue",), "comparing the clocks of other nodes"),
    Check(
        "delay",
        NODES,
        queue_checks.delays,
        ("writing",),
        "waiting until other nodes see a file",
        queue_checks.PONG_MOST_S + DEADLINE_S,
    ),
    Check("logout", HERE, node_checks.logout, ("home",), "looking what a logout ends", of_home=False),
    Check("control groups", HERE, node_checks.groups, ("home",), "looking for control groups"),
    Check("locks", HERE, node_checks.locks, (), "looking for places for locks"),
    Check("inotify", HERE, node_checks.inotify, (), "trying inotify"),
    Check("processes", HERE, node_checks.processes, (), "looking who can be seen"),
    Check("versions", HERE, node_checks.versions, (), "asking for versions"),
)
#: With it begins what leaves files, were its helper killed.
_WRITES = "writing"
#: Left out when the answer is wanted at once.
SLOW = frozenset({"delay"})


@dataclass(frozen=True, slots=True)
class Report:
    """Something that the doctor says: a check begins or goes on, `about`, or it made a `finding`."""

    check: Check
    about: str = ""
    finding: Finding | None = None


@dataclass(slots=True)
class Examination:
    """One examination, and what became of it. Iterate over `run` to the end, or close it.

    `skipped` are the names of checks that were not made, since what they need failed.
    """

    environ: Mapping[str, str]
    checks: Sequence[Check] = CHECKS
    tidy_s: float = TIDY_S
    #: Whether what can be mended is to be.
    fixes: bool = False
    findings: list[Finding] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    _ping: str = field(default_factory=pings.token)
    _failed: set[str] = field(default_factory=set)
    #: Helpers that may have left files.
    _untidy: set[int] = field(default_factory=set)

    def run(self) -> Generator[Report, None, None]:
        """Makes all checks, one after the other, and tells of them as they go."""
        left = list(self.checks)
        try:
            while left:
                for report in self._examine(left):
                    if report.finding is not None:
                        self.findings.append(report.finding)
                    yield report
        finally:
            self._tidy()

    def _examine(self, left: list[Check]) -> Iterator[Report]:
        """One helper's life; takes what it did from `left`."""
        with _helper(lambda told: self._help(tuple(left), told)) as helper:
            deadline_s = time.monotonic() + left[0].deadline_s
            while (line := helper.line(deadline_s)) is not None:
                if not line:
                    if left:
                        yield self._unmade(left.pop(0), "the helper process that looked died", "try again")
                    else:
                        # It ended by itself, and has tidied up before.
                        self._untidy.discard(helper.pid)
                    return
                said = json.loads(line)
                if "finding" in said:
                    finding = Finding(**said["finding"])
                    if finding.level == PROBLEM:
                        self._failed.add(left[0].name)
                    yield Report(left[0], finding=finding)
                elif "about" in said:
                    if said.get("begins"):
                        if _WRITES in (left[0].name, *left[0].needs):
                            self._untidy.add(helper.pid)
                        deadline_s = time.monotonic() + left[0].deadline_s
                    yield Report(left[0], said["about"])
                else:
                    done = left.pop(0)
                    if "skip" in said:
                        self.skipped.append(done.name)
            if not left:
                return
            late = left.pop(0)
            told = f"no answer within {late.deadline_s:g} s, while {late.about}"
            if late.of_home:
                told += self._where()
                remedy = "see dmesg, and whether the file server is up; a hard mount waits for it for ever"
                yield self._unmade(late, told, remedy)
            else:
                finding = warning(late.name, told, "it was not looked at to its end", "try it by hand")
                yield Report(late, finding=finding)

    def _where(self) -> str:
        """What the home is on, as far as that can be told without asking it."""
        mount = mounts.mount_of(self.environ.get("HOME", ""))
        return "" if mount is None else f"; {mount.point} is {mount.kind}, from {mount.source}"

    def _unmade(self, check: Check, found: str, remedy: str) -> Report:
        self._failed.add(check.name)
        if check.needs:
            # What else needs the home would hang as well.
            self._failed.add("home")
        return Report(
            check, finding=problem(check.name, found, "commands and daemons wait there, too", remedy)
        )

    def _help(self, checks: Sequence[Check], told: _Tell) -> None:
        """The helper's part."""
        patient = Patient(self.environ, self._ping, lambda about: told({"about": about}), fixes=self.fixes)
        failed = set(self._failed)
        by_name = {check.name: check for check in self.checks}

        def is_moot(check: Check) -> bool:
            return any(name in failed or (name in by_name and is_moot(by_name[name])) for name in check.needs)

        try:
            for check in checks:
                if is_moot(check):
                    told({"skip": check.name})
                    continue
                told({"about": check.about, "begins": True})
                for finding in _found(check, patient):
                    if finding.level == PROBLEM:
                        failed.add(check.name)
                    told({"finding": asdict(finding)})
                told({"done": check.name})
        finally:
            # Whoever called may have been killed.
            if "queue" not in failed and "home" not in failed:
                with contextlib.suppress(OSError, RoundqError):
                    probes.tidy(patient.spool, patient.node, {os.getpid()})

    def _tidy(self) -> None:
        """Removes what a helper left that was killed, if the home answers in time."""
        if not self._untidy:
            return

        def clean(_: _Tell) -> None:
            patient = Patient(self.environ)
            probes.tidy(patient.spool, patient.node, self._untidy)
            pings.remove(patient.spool, self._ping)

        with contextlib.suppress(OSError), _helper(clean) as helper:
            helper.line(time.monotonic() + self.tidy_s)


def _found(check: Check, patient: Patient) -> list[Finding]:
    """What a check found; what it could not do is a finding as well."""
    try:
        return check.look(patient)
    except RoundqError as error:
        return [of_error(check.name, error, "commands and daemons meet the same error")]
    except OSError as error:
        return [home_checks.refusal(check.name, error)]
    except Exception as error:
        why, remedy = "this was not looked at", "please report it"
        what = f"a mistake of rq itself: {type(error).__name__}: {error}"
        return [replace(problem(check.name, what, why, remedy), exit_code=INTERNAL_ERROR)]


# ---------------------------------------------------------------- the helper process

#: What the helper calls to tell something.
_Tell = Callable[[dict[str, object]], None]


@dataclass(slots=True)
class _Helper:
    """A child that tells lines of JSON, and may be killed at any time."""

    pid: int
    descriptor: int
    _data: bytes = b""

    def line(self, deadline_s: float) -> bytes | None:
        """Its next line; empty when it has ended, None when the deadline (monotonic) has come."""
        while b"\n" not in self._data:
            timeout_s = max(0.0, deadline_s - time.monotonic())
            if not select.select([self.descriptor], [], [], timeout_s)[0]:
                return None
            chunk = os.read(self.descriptor, 1 << 16)
            if not chunk:
                return b""
            self._data += chunk
        line, _, self._data = self._data.partition(b"\n")
        return line

    def end(self) -> None:
        """Kills it, with all that it forked; waits for its end for a moment only.

        What sleeps in the kernel until a file server answers dies when that does.
        """
        me = procs.identity(self.pid)
        if me is not None:
            for one in [*procs.descendants(me), me]:
                with contextlib.suppress(PermissionError):
                    procs.send(one, signal.SIGKILL)
        end_s = time.monotonic() + REAP_S
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(self.pid, os.WNOHANG)[0] == 0 and time.monotonic() < end_s:
                time.sleep(0.01)


@contextlib.contextmanager
def _helper(work: Callable[[_Tell], None]) -> Iterator[_Helper]:
    """A child that does this work and tells of it."""
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        # Nothing of the caller's may run here, least of all what it does at its end.
        try:
            os.close(ours)
            # Ctrl-C is the caller's, who ends this process and cleans up after it.
            os.setpgid(0, 0)
            # It may hang for hours: whoever reads what the caller prints shall not wait for its end.
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(null, descriptor)
            work(lambda value: _write_all(theirs, json.dumps(value).encode() + b"\n"))
        except BaseException:
            # Of an error of the work itself the caller learns by this end without the last word.
            os._exit(1)
        os._exit(0)
    os.close(theirs)
    helper = _Helper(pid, ours)
    try:
        yield helper
    finally:
        os.close(ours)
        helper.end()


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
