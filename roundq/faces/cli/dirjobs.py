"""The verb `dirjobs`: runs a command for each file of a job directory, beside other workers of it."""

from __future__ import annotations

import argparse
import errno
import fnmatch
import functools
import itertools
import os
import time
from collections.abc import Sequence

from roundq.faces.api.dirjobs import PATIENCE_S, DirJobs, Job, double_runs
from roundq.faces.api.means import Means, me
from roundq.faces.api.own_diary import is_free
from roundq.faces.cli import SOME_FAILED, say
from roundq.faces.cli.parser import Parser, shown
from roundq.faces.cli.run_options import split
from roundq.faces.cli.stopping import Stopped, hold, interruptible, look_for_signals, noted
from roundq.words import jobdir as words
from roundq.words.errors import CommandNotFound, DirJobsError, JobRefused, NotExecutable, UsageError
from roundq.words.quantities import parse_duration, visible
from roundq.words.templates import Row, Template
from roundq.world import procs, spawn

#: What may be filled in beside `{}`, which is the path.
COLUMNS = ("name", "stem")


class _Parser(Parser):
    """Its options end where the command begins; they may stand behind the directory, if `--` follows."""

    def parse(self, words: list[str]) -> argparse.Namespace:
        if "--" in words:
            place = words.index("--")
            before, command = words[:place], words[place + 1 :]
        else:
            before, rest = split(self, words)
            before, command = before + rest[:1], rest[1:]
        options = super().parse(before)
        options.command = command
        return options


def build_parser(verb: str) -> Parser:
    """The parser of `dirjobs`."""
    parser = _Parser(
        verb,
        "[OPTION...] DIR [--] COMMAND [ARGUMENT...] | --check DIR",
        "Run a command for each file in DIR/00_waiting, one after the other: meanwhile the file is in"
        " DIR/01_running, then in DIR/02_done or DIR/99_failed. {} is its path there, {name} its name, {stem}"
        " that without extension, {index} its number; without any of them the path is the last word. Run as"
        " many as you like, on any machine that sees DIR: no file is taken twice. Exits with 1 if a command"
        " failed.",
        "rq dirjobs --ext .png photos -- convert {} small/{stem}.jpg",
    )
    add = parser.add_argument
    add("--wid", metavar="W", help="id of this worker, letters and digits (default: the node and a number)")
    add("--ext", metavar="E", default=".txt", help='files whose name ends so (default: .txt; "": all)')
    add("--name", metavar="PATTERN", help="only files of such a name, such as 'a*'")
    add("--random", action="store_true", help="in no order, so that workers seldom try the same")
    add(
        "--sync",
        metavar="TIME",
        type=_duration,
        help="on a mount where a rename may have two winners (WebDAV, SMB): in this time each sees what"
        " another did; twice as long is waited before a command",
    )
    add("--check", action="store_true", help="only tell which files were run twice, since TIME was too short")
    add("directory", metavar="DIR", help="the job directory; what is missing of it is made")
    return parser


def _duration(text: str) -> float:
    return 0.0 if text in ("0", "0s") else parse_duration(text)


def run(_verb: str, options: argparse.Namespace) -> int:
    """Does what is asked for; the exit code."""
    if options.check:
        if options.command:
            raise UsageError("--check runs no command", "see: rq dirjobs -h")
        return _check(options.directory)
    if not options.command:
        raise UsageError(
            "no command to run", "give one behind the directory, such as: rq dirjobs jobs -- ./fit {}"
        )
    if options.command[0].startswith("-"):
        raise UsageError(
            f"{shown(options.command[0])} is no command",
            "options stand before the directory: rq dirjobs --ext .png photos -- ./fit {}",
        )
    commands = _Commands(options.command)
    worker = _worker(options)
    # From here on a signal ends a command or a wait, and what is said of it is true.
    hold()
    while job := worker.next_and_lock():
        commands.run(job)
        look_for_signals()
    for found in worker.double_runs:
        say(str(found))
    if commands.failed:
        say(f"{commands.failed} failed, {commands.done} done: see {visible(options.directory)}/99_failed")
    return SOME_FAILED if commands.failed or worker.double_runs else 0


def _check(directory: str) -> int:
    if not os.path.isdir(directory):
        raise DirJobsError(f"there is no directory {shown(directory)}")
    found = double_runs(directory)
    for one in found:
        print(one)
    return SOME_FAILED if found else 0


def _sleep(seconds: float) -> None:
    with interruptible():
        time.sleep(seconds)


class _Worker(DirJobs):
    _means = Means(sleep=_sleep)


def _worker(options: argparse.Namespace) -> DirJobs:
    pattern = options.name
    return _Worker(
        options.directory,
        wid=_free_wid(options.directory) if options.wid is None else options.wid,
        rnd_job=options.random,
        job_ext=options.ext,
        worker_sync=options.sync is not None,
        sync_time=options.sync or 0.0,
        job_filter=None if pattern is None else lambda _, name: fnmatch.fnmatchcase(name, pattern),
    )


def _free_wid(directory: str) -> str:
    """The first id for this node that no worker has who may live: so a later one goes on with what it
    left."""
    author = me()
    base = "".join(letter for letter in author.node if words.is_wid(letter)) or "w"
    wids = itertools.chain([base], (f"{base}x{number}" for number in itertools.count(2)))
    path = os.path.abspath(directory)

    def is_unused(wid: str) -> bool:
        doing, look = "look for other workers", functools.partial(is_free, wid, path, author)
        return _Worker._means.firmly(doing, directory, look, PATIENCE_S)

    return next(wid for wid in wids if is_unused(wid))


class _Commands:
    """The command, for one file after the other, and how often it went well."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._template = Template(command, COLUMNS)
        self.done = self.failed = 0

    def run(self, job: Job) -> None:
        """Runs it for a job, and ends that. A command that a signal ended gives the job back. Raises
        CommandNotFound or NotExecutable for one that can be run for no file at all."""
        cells = {"name": job.name(), "stem": job.name_woext()}
        filled = self._template.fill(Row(0, job.path(), cells), self.done + self.failed + 1, append=False)
        command = filled if self._template.places else (*filled, job.path())
        try:
            status = _status(command)
        except spawn.SpawnError as error:
            if command[0] == self._command[0]:
                job.give_back()
                raise _of_no_use(error) from None
            self._fail(job, str(error))
            return
        code = os.waitstatus_to_exitcode(status)
        if code == 0:
            job.done()
            self.done += 1
        elif noted() is not None:
            job.give_back()
            say(f"{visible(job.name())} waits again")
        else:
            self._fail(job, f"exit code {code}" if code > 0 else f"killed by signal {-code}")

    def _fail(self, job: Job, why: str) -> None:
        job.failed()
        self.failed += 1
        say(f"{visible(job.name())} failed: {why}")


def _of_no_use(error: spawn.SpawnError) -> JobRefused:
    kind = CommandNotFound if error.errno in (errno.ENOENT, errno.ENOTDIR) else NotExecutable
    return kind(str(error))


def _status(command: Sequence[str]) -> int:
    """Runs a command in the foreground; its wait status. A signal to us is passed on, and its end waited
    for."""
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        child = spawn.spawn(
            command,
            cwd=os.getcwd(),
            env=os.environ,
            stdin=null,
            stdout=1,
            stderr=2,
            nice=None,
            new_session=False,
        )
    finally:
        os.close(null)
    identity = procs.identity(child)
    try:
        with interruptible():
            # It is reaped where no signal can come between.
            os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    except Stopped as stop:
        if identity is not None:
            procs.send(identity, stop.number)
    return os.waitpid(child, 0)[1]
