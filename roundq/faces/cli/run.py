"""The verb `run`: puts a command into the queue, and with --wait follows it to its end.

Every script calls it, some a thousand times, so it imports what this submission needs
and nothing else; tests/bench measures it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from roundq.actors import submission
from roundq.faces.cli import say
from roundq.faces.cli.charset import typed
from roundq.faces.cli.parser import Parser, shown
from roundq.faces.cli.person import Person, person
from roundq.faces.cli.stopping import (
    as_stopped,
    hold,
    interrupted,
    interruptible,
    load_reader,
    look_for_signals,
    noted,
)
from roundq.words.errors import JobRefused, RoundqError, SubmissionInterrupted, UsageError
from roundq.words.job import Job, Notice
from roundq.words.states import COMPLETED

PRIORITIES = {"high": 100, "normal": 0, "low": -100}
#: What a record can carry.
_PRIORITY_MAX = (1 << 31) - 1
_CHARS_SHOWN = 200
#: Of fewer jobs the submission takes no time to speak of.
MANY = 100


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
        "[OPTION...] [--] COMMAND [ARGUMENT...] | --from FILE",
        "Put a command into the queue. Everything after COMMAND belongs to it. The job gets your environment,"
        " directory and umask, and begins on any node where a daemon of yours runs.",
        "rq run -J fit -c 4 -m 8G ./fit -n 3",
    )
    add = parser.add_argument
    add(
        "-J",
        "--job-name",
        metavar="NAME",
        type=typed,
        help="name of the job; its output goes to NAME.out (default: the command line)",
    )
    add(
        "-c",
        "--cpus",
        metavar="N",
        type=_cores,
        help='cores, or "all" for a whole node (default: 1)',
    )
    add("--exclusive", action="store_true", help="a whole node for itself: the same as --cpus all")
    add(
        "-m",
        "--mem",
        metavar="SIZE",
        type=_memory,
        default=0,
        help="memory to promise: gigabytes, or with a unit, such as 500M (default: none)",
    )
    add("--mem-limit", action="store_true", help="stop it when it uses more memory than --mem promises")
    add("-G", "--gpus", metavar="N", type=_gpus, default=0, help="GPUs, for itself alone (default: none)")
    add(
        "-L",
        "--license",
        metavar="NAME[:N]",
        action="append",
        type=_licenses,
        default=[],
        help="licenses or other things that your nodes count, such as matlab or matlab:2",
    )
    add(
        "-w",
        "--node",
        metavar="PATTERN",
        action="append",
        type=_patterns,
        default=[],
        help="only on nodes of this name, or of one of several: node3 or gpu*,big?",
    )
    add(
        "-x",
        "--exclude",
        metavar="PATTERN",
        action="append",
        type=_patterns,
        default=[],
        help="on no node of this name",
    )
    add(
        "--need",
        metavar="FEATURE",
        action="append",
        type=_features,
        default=[],
        help="only on nodes that have this feature, or all of several, such as avx512",
    )
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
        "--scavenge",
        action="store_true",
        help="run on what nobody else wants, and give way to whoever does; implies --restart",
    )
    add(
        "--signal",
        metavar="SIG@TIME",
        type=_notice,
        help="send this signal so long before it is stopped: USR2@60 (seconds), TERM@2m, or only @90",
    )
    add(
        "--priority",
        metavar="P",
        type=_priority,
        default=0,
        help="among your jobs: high, normal, low, or a number, higher first (default: normal)",
    )
    add(
        "--from",
        metavar="FILE",
        dest="source",
        help="submit a job for each command line of a file, or of standard input (-), all or none",
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


def _gpus(text: str) -> int:
    from roundq.words.resources import parse_gpus

    return parse_gpus(text)


def _licenses(text: str) -> tuple[tuple[str, int], ...]:
    from roundq.words.resources import parse_licenses

    return parse_licenses(text)


def _patterns(text: str) -> tuple[str, ...]:
    from roundq.words.resources import parse_patterns

    return parse_patterns(text)


def _features(text: str) -> tuple[str, ...]:
    from roundq.words.resources import parse_features

    return parse_features(text)


def _notice(text: str) -> Notice:
    from roundq.faces.cli.notice import parse_notice

    return parse_notice(text)


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
    """Submits; prints the ids; with --wait returns the exit code that tells of the jobs."""
    try:
        with as_stopped():
            asker = person()
            jobs, warnings = _described(options, asker)
            submission.admit(asker.spool, asker.config, len(jobs))
            # From here on something is done that has to be told.
            hold()
    except KeyboardInterrupt as stop:
        say("interrupted; nothing was submitted")
        return interrupted(stop)
    try:
        with _submitting(jobs) as on_step:
            ids = submission.submit(asker.spool, jobs, os.environ, asker.node, on_step)
    except SubmissionInterrupted as stop:
        return _taken_back(stop.__cause__, stop.ids, len(jobs))
    except KeyboardInterrupt as stop:
        # It had not come to the jobs.
        return _taken_back(stop, (), len(jobs))
    return _accepted(asker, jobs, ids, warnings, options)


def _described(options: argparse.Namespace, asker: Person) -> tuple[list[Job], list[str]]:
    """The jobs that are asked for, each of which could run, and sentences of warning."""
    if options.source is not None:
        from roundq.faces.cli import from_file

        return from_file.jobs(options, lambda words: describe(words, options, asker), asker)
    if not options.command:
        raise UsageError(
            "no command to run", "give one after the options, such as: rq run -J hello echo Hello"
        )
    job = describe(options.command, options, asker)
    return [job], submission.check(job, os.environ, asker.spool, asker.config, asker.node)


@contextlib.contextmanager
def _submitting(jobs: Sequence[Job]) -> Iterator[Callable[[float], None]]:
    """What to call after each step of a submission, which ends there if a signal came."""
    if len(jobs) < MANY:
        yield lambda _: look_for_signals()
        return
    from roundq.faces.cli.progress import share

    with share(f"submitting {len(jobs):,} jobs") as on_step:
        yield on_step


def _taken_back(stop: BaseException | None, ids: Sequence[str], count: int) -> int:
    """Says which jobs of an interrupted submission are in the queue; the exit code."""
    if not ids:
        say("interrupted; nothing was submitted")
    else:
        from roundq.words.quantities import format_ids, shell_ids

        of = "the job" if count == 1 else f"{len(ids):,} of {count:,} jobs"
        say(
            f"interrupted; {of} had begun already and stay in the queue: {format_ids(ids)}",
            f"if they are not wanted: rq cancel {shell_ids(ids)}",
        )
    return interrupted(stop)


def _accepted(
    asker: Person, jobs: Sequence[Job], ids: list[str], warnings: list[str], options: argparse.Namespace
) -> int:
    """What comes after the acceptance, which nothing here can undo; signals are held back."""
    unsaid: OSError | None = None
    stop: KeyboardInterrupt | None = None
    try:
        with as_stopped(), interruptible():
            _print_ids(jobs, ids, options)
    except OSError as error:
        unsaid = error
    except KeyboardInterrupt as signaled:
        stop = signaled
    if not options.parsable:
        # Programs that read the id may read standard error with it.
        for warning in warnings:
            say(f"warning: {warning}")
    if asker.config.auto_start:
        _start_daemon(asker, options)
    if unsaid is None and stop is None:
        if options.verbose and len(jobs) == 1:
            say(f"its output goes to {os.path.join(jobs[0].directory, jobs[0].output or f'rq-{ids[0]}.out')}")
        stop = noted()
        if stop is None and options.wait:
            try:
                with as_stopped(), interruptible():
                    return follow(asker, ids, options.parsable)
            except KeyboardInterrupt as signaled:
                stop = signaled
    return _ended_early(ids, stop, unsaid)


def _print_ids(jobs: Sequence[Job], ids: Sequence[str], options: argparse.Namespace) -> None:
    told = zip(ids, jobs, strict=True)
    lines = ids if options.parsable else [f"submitted {job_id} {_named(job)}" for job_id, job in told]
    print("\n".join(lines), flush=True)


def _ended_early(ids: Sequence[str], stop: KeyboardInterrupt | None, unsaid: OSError | None) -> int:
    """Says which jobs are in the queue if that may not have been read; the exit code."""
    if stop is None and unsaid is None:
        return 0
    from roundq.words.quantities import format_ids, shell_ids

    which, are, their = ("job", "is", "its id") if len(ids) == 1 else ("jobs", "are", "their ids")
    cancel = f"rq cancel {shell_ids(ids)}"
    if stop is not None:
        stay, them = ("stays", "it") if len(ids) == 1 else ("stay", "them")
        say(
            f"interrupted; {which} {format_ids(ids)} {stay} in the queue",
            f"rq wait {shell_ids(ids)} waits for {them}, {cancel} cancels {them}",
        )
        return interrupted(stop)
    hint = f"if {'it is' if len(ids) == 1 else 'they are'} not wanted: {cancel}"
    if isinstance(unsaid, BrokenPipeError):
        say(f"{which} {format_ids(ids)} {are} in the queue, but nobody reads {their}", hint)
        raise unsaid
    assert unsaid is not None
    raise RoundqError(
        f"{which} {format_ids(ids)} {are} in the queue, but {their} cannot be printed: {unsaid.strerror}",
        hint,
    )


def describe(command: Sequence[str], options: argparse.Namespace, asker: Person) -> Job:
    """The job that the options and a command describe. Raises UsageError or JobRefused."""
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
    asked = _asked(options)
    return Job(
        command=tuple(command),
        directory=_directory(options.chdir),
        jobname=name or "",
        # Without a name the id makes one, and it is given at submission; so it is where many bear one name.
        output=options.output or (f"{name}.out" if name and options.source is None else ""),
        error=options.error,
        cores=0 if options.exclusive else 1 if options.cpus is None else options.cpus,
        memory_required=options.mem,
        memory_limit=options.mem if options.mem_limit else None,
        max_output=asker.config.max_output if options.max_output is None else options.max_output,
        restartable=options.restart or options.scavenge,
        umask=umask,
        time_limit_s=options.time,
        priority=options.priority,
        gpus=options.gpus,
        scavenge=options.scavenge,
        notice=options.signal,
        **asked,
    )


def _asked(options: argparse.Namespace) -> dict[str, Any]:
    """The fields of a job that options may name several of. Raises UsageError also for options that do not
    go together."""
    if options.exclusive and options.cpus:
        raise UsageError(
            f"option --exclusive: it means all cores of a node, and --cpus says {options.cpus}",
            "leave one of them out",
        )
    if options.signal is not None:
        _check_notice(options)
    asked: dict[str, Any] = {}
    if options.license:
        from roundq.words.resources import all_licenses

        asked["licenses"] = all_licenses(options.license)
    named = {"nodes": options.node, "exclude": options.exclude, "features": options.need}
    if any(named.values()):
        from roundq.words.resources import all_words

        asked |= {field: all_words(words) for field, words in named.items()}
    return asked


def _check_notice(options: argparse.Namespace) -> None:
    limit_s, before_s = options.time, options.signal.before_s
    if limit_s is None and not options.restart and not options.scavenge:
        raise UsageError(
            "option --signal: nothing ever stops the job, so it would not be sent",
            "give it with --time, --restart or --scavenge",
        )
    if limit_s is not None and before_s >= limit_s:
        raise UsageError(
            f"option --signal: the job would be told {before_s:g} s before its end, and has a time limit of"
            f" {limit_s:g} s",
            "let it be told later, or give it more time",
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
            say(f"warning: no daemon could be started on {asker.node}: {error}")
        return
    if started and options.verbose:
        say(f"started your daemon on {asker.node}")


# ---------------------------------------------------------------- --wait


def follow(asker: Person, ids: Sequence[str], is_quiet: bool) -> int:
    """Waits for the end of jobs of mine; the exit code that tells it, of several the highest."""
    from roundq.actors import outcome, queue
    from roundq.faces.cli.progress import progress

    load_reader()
    with progress(asker) as on_look:
        rows = queue.wait(asker.spool, ids, node=asker.node, late_s=asker.config.settle_s, on_look=on_look)
    for row in rows.values():
        if row.state != COMPLETED and not is_quiet:
            say(f"job {row.id} {outcome.sentence(row)}")
    return max(outcome.exit_code(row) for row in rows.values())
