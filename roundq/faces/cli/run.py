"""The verb `run`: puts a command into the queue, and with --wait follows it to its end.

Every script calls it, some a thousand times, so it imports what this submission needs
and nothing else; tests/bench measures it.
"""

from __future__ import annotations

import argparse
import os
import sys

from roundq.actors import submission
from roundq.faces.cli import as_stopped, interrupted, load_reader
from roundq.faces.cli.parser import Parser, shown
from roundq.faces.cli.person import Person, person
from roundq.words.errors import JobRefused, RoundqError, UsageError
from roundq.words.job import Job
from roundq.words.states import COMPLETED

PRIORITIES = {"high": 10, "normal": 0, "low": -10}
#: What a record can carry.
_PRIORITY_MAX = (1 << 31) - 1
_CHARS_SHOWN = 200


class RunParser(Parser):
    """The parser of `run`: it ends where the command begins."""

    def parse(self, words: list[str]) -> argparse.Namespace:
        """The options, and the words of the command as `command`."""
        before, command = split(self, words)
        options = super().parse(before)
        options.command = command
        return options


def build_parser(verb: str) -> Parser:
    """The options that may stand before the command."""
    parser = RunParser(
        verb,
        "[OPTION...] [--] COMMAND [ARGUMENT...]",
        "Put a command into the queue. Everything after COMMAND belongs to it. The job gets your environment,"
        " directory and umask, and begins on any node where a daemon of yours runs.",
        "rq run -J fit -c 4 -m 8G ./fit -n 3",
    )
    add = parser.add_argument
    add(
        "-J",
        "--job-name",
        metavar="NAME",
        help="name of the job; its output goes to NAME.out (default: the command line)",
    )
    add(
        "-c",
        "--cpus",
        metavar="N",
        type=_cores,
        default=1,
        help='cores, or "all" for a whole node (default: 1)',
    )
    add(
        "-m",
        "--mem",
        metavar="SIZE",
        type=_memory,
        default=0,
        help="memory to promise: gigabytes, or with a unit, such as 500M (default: none)",
    )
    add("--mem-limit", action="store_true", help="stop it when it uses more memory than --mem promises")
    add("-o", "--output", metavar="FILE", help="file to append output to (default: NAME.out or rq-ID.out)")
    add("-e", "--error", metavar="FILE", help="another file for what goes to standard error")
    add("-D", "--chdir", metavar="DIR", help="directory to run in (default: the current one)")
    add(
        "-t",
        "--time",
        metavar="LIMIT",
        type=_duration,
        help="stop it after this: minutes, or as 90s, 2h30m, 1d, HH:MM:SS",
    )
    add(
        "--max-output",
        metavar="SIZE",
        type=_output,
        help="stop it when it has written more: megabytes, or with a unit; 0: no limit (default: 1M)",
    )
    add("-R", "--restart", action="store_true", help="it may be stopped and run again from its beginning")
    add(
        "--priority",
        metavar="P",
        type=_priority,
        default=0,
        help="among your jobs: high, normal, low, or a number, higher first (default: normal)",
    )
    add("--wait", action="store_true", help="wait for its end, and exit with its exit code")
    add("--parsable", action="store_true", help="print only the id")
    add("-v", "--verbose", action="store_true", help="say more on standard error")
    return parser


# Parsers of values are imported when their option is there.


def _cores(text: str) -> int:
    from roundq.words.quantities import parse_cores

    return parse_cores(text)


def _memory(text: str) -> int:
    from roundq.words.quantities import GIB, parse_memory

    return parse_memory(text, GIB)


def _output(text: str) -> int:
    from roundq.words.quantities import MIB, parse_memory

    return parse_memory(text, MIB)


def _duration(text: str) -> float:
    from roundq.words.quantities import parse_duration

    return parse_duration(text)


def _priority(text: str) -> int:
    if text in PRIORITIES:
        return PRIORITIES[text]
    digits = text[1:] if text[:1] in "+-" else text
    if not (digits.isascii() and digits.isdecimal()) or len(digits) > 10 or int(digits) > _PRIORITY_MAX:
        raise UsageError(
            f"priority {shown(text)}: it is neither a word nor a whole number",
            "give high, normal, low, or a number such as 5 or -5",
        )
    return int(text)


def split(parser: Parser, words: list[str]) -> tuple[list[str], list[str]]:
    """The words of the options, and those of the command.

    argparse would take options of the command for its own. A value such as -1G, which it would take for
    an option, is joined to its option.
    """
    options: list[str] = []
    place = 0
    while place < len(words):
        word = words[place]
        if word == "--":
            return options, words[place + 1 :]
        if not word.startswith("-") or word == "-":
            break
        place += 1
        last, has_value = _last_option(parser, word)
        options.append(word)
        if parser.takes_value(last) and not has_value and place < len(words):
            value = words[place]
            place += 1
            if not value.startswith("-"):
                options.append(value)
            else:
                options[-1] += f"={value}" if last.startswith("--") else value
    return options, words[place:]


def _last_option(parser: Parser, word: str) -> tuple[str, bool]:
    """The last option in a word such as --mem=4G, -m4G or -Rm, and whether its value is in the word too."""
    if word.startswith("--"):
        name, equals, _ = word.partition("=")
        return name, bool(equals)
    for place, letter in enumerate(word[1:], 1):
        if parser.takes_value(f"-{letter}"):
            return f"-{letter}", place + 1 < len(word)
    return word[:2], False


# ---------------------------------------------------------------- the job


def run(_verb: str, options: argparse.Namespace) -> int:
    """Submits; prints the id; with --wait returns the job's exit code."""
    try:
        with as_stopped():
            asker = person()
            job = describe(options, asker)
            warnings = submission.check(job, os.environ, asker.spool, asker.config.homes, asker.node)
            (job_id,) = submission.submit(asker.spool, [job], os.environ, asker.node)
    except KeyboardInterrupt as stop:
        _say("interrupted; nothing was submitted")
        return interrupted(stop)
    try:
        with as_stopped():
            return _accepted(asker, job, job_id, warnings, options)
    except KeyboardInterrupt as stop:
        _say(f"interrupted; job {job_id} stays in the queue")
        print(f"hint: rq wait {job_id} waits for it, rq cancel {job_id} cancels it", file=sys.stderr)
        return interrupted(stop)


def _accepted(asker: Person, job: Job, job_id: str, warnings: list[str], options: argparse.Namespace) -> int:
    """What comes after the acceptance, which nothing here can undo."""
    unsaid: OSError | None = None
    try:
        print(job_id if options.parsable else f"submitted {job_id} {_named(job)}", flush=True)
    except OSError as error:
        unsaid = error
    if not options.parsable:
        # Programs that read the id may read standard error with it.
        for warning in warnings:
            _say(f"warning: {warning}")
    if asker.config.auto_start:
        _start_daemon(asker, options)
    if isinstance(unsaid, BrokenPipeError):
        raise unsaid
    if unsaid is not None:
        raise RoundqError(
            f"job {job_id} is in the queue, but its id cannot be printed: {unsaid.strerror}",
            f"if it is not wanted: rq cancel {job_id}",
        )
    if options.verbose:
        _say(f"its output goes to {os.path.join(job.directory, job.output or f'rq-{job_id}.out')}")
    return follow(asker, job_id, options.parsable) if options.wait else 0


def describe(options: argparse.Namespace, asker: Person) -> Job:
    """The job that the options and the command describe. Raises UsageError or JobRefused."""
    if not options.command:
        raise UsageError(
            "no command to run", "give one after the options, such as: rq run -J hello echo Hello"
        )
    name = options.job_name
    if name is not None:
        from roundq.words.quantities import check_name

        check_name(name)
    for option in ("output", "error", "chdir"):
        if getattr(options, option) == "":
            raise UsageError(f"option --{option}: the name is empty", "leave the option out for the default")
    if options.mem_limit and not options.mem:
        raise UsageError(
            "option --mem-limit: there is no memory to keep to", "give it with --mem, such as -m 8G"
        )
    umask = os.umask(0o077)
    os.umask(umask)
    return Job(
        command=tuple(options.command),
        directory=_directory(options.chdir),
        jobname=name or "",
        # Without a name the id makes one, and it is given at submission.
        output=options.output or (f"{name}.out" if name else ""),
        error=options.error,
        cores=options.cpus,
        memory_required=options.mem,
        memory_limit=options.mem if options.mem_limit else None,
        max_output=asker.config.max_output if options.max_output is None else options.max_output,
        restartable=options.restart,
        umask=umask,
        time_limit_s=options.time,
        priority=options.priority,
    )


def _directory(chdir: str | None) -> str:
    """The job's directory as the user calls it: the real name of one that is automounted may not last."""
    if chdir is not None and os.path.isabs(chdir):
        return chdir
    try:
        here = os.getcwd()
    except OSError as error:
        raise JobRefused(
            f"the current directory cannot be told: {error.strerror}", "cd somewhere else, or give --chdir"
        ) from None
    named = os.environ.get("PWD", "")
    try:
        if os.path.isabs(named) and os.path.samestat(os.stat(named), os.stat(here)):
            here = named
    except OSError:
        pass
    return here if chdir is None else os.path.join(here, chdir)


def _named(job: Job) -> str:
    return shown(job.name, _CHARS_SHOWN)


def _start_daemon(asker: Person, options: argparse.Namespace) -> None:
    try:
        started = submission.start_daemon(asker.spool, os.environ, asker.node)
    except (OSError, RoundqError) as error:
        # The job is accepted; that it is not begun here is not its failure.
        if not options.parsable:
            _say(f"warning: no daemon could be started on {asker.node}: {error}")
        return
    if started and options.verbose:
        _say(f"started your daemon on {asker.node}")


def _say(text: str) -> None:
    from roundq.words.quantities import visible

    print(f"rq: {visible(text)}", file=sys.stderr)


# ---------------------------------------------------------------- --wait


def follow(asker: Person, job_id: str, is_quiet: bool) -> int:
    """Waits for the end of a job of mine; the exit code that tells it."""
    from roundq.actors import outcome, queue
    from roundq.faces.cli.progress import progress

    load_reader()
    with progress(asker) as on_look:
        rows = queue.wait(asker.spool, [job_id], node=asker.node, on_look=on_look)
    row = rows[job_id]
    if row.state != COMPLETED and not is_quiet:
        _say(f"job {job_id} {outcome.sentence(row)}")
    return outcome.exit_code(row)
