"""The options of `rq run`, and where the command begins that they stand before.

Every script calls it, some a thousand times: parsers of values are imported when their option is there.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from roundq.faces.cli.charset import typed
from roundq.faces.cli.parser import Parser, shown
from roundq.words.errors import UsageError
from roundq.words.job import CHUNK_MAX, TASKS_MAX, Notice

PRIORITIES = {"high": 100, "normal": 0, "low": -100}
#: What a record can carry.
_PRIORITY_MAX = (1 << 31) - 1


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
        "[OPTION...] [--] COMMAND [ARGUMENT...] | --from FILE | -",
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
    _add_array(add)
    _add_patience(add)
    add("--set", metavar="NAME", type=_set, help="the set of jobs that it belongs to, such as fit")
    add(
        "--on-end",
        metavar="CMD",
        type=_command,
        help="run this command when it has ended: the job, all of the array, or all of the set",
    )
    add("--mail", metavar="ADDRESS", type=_address, action="append", default=[], help="mail there likewise")
    add("--wait", action="store_true", help="wait for its end, and exit with its exit code")
    add("--watch", action="store_true", help="as --wait, and print what it writes meanwhile")
    add("--parsable", action="store_true", help="print only the id")
    add("-v", "--verbose", action="store_true", help="say more on standard error")
    return parser


def _add_array(add: Callable[..., object]) -> None:
    """Options of arrays, whose module few submissions need."""
    add("--array", metavar="INDICES", help="an array of tasks: 0-99, 1,5,7-9 or 0-99:2%%8 (8 at once)")
    add(
        "--each",
        metavar="FILE",
        help="an array with a task for each line of a file or of standard input (-), filled in for {}, its"
        " words for {1}, columns of CSV, TSV or JSON lines for {NAME}",
    )
    add(
        "--each-format",
        metavar="FORMAT",
        choices=("lines", "csv", "tsv", "jsonl"),
        help="lines, csv, tsv or jsonl",
    )
    add(
        "--param",
        metavar="NAME=VALUES",
        action="append",
        default=[],
        help="an array with a task for each choice of values, filled in for {NAME}: lr=0.1,1 or seed=1-9",
    )
    add("--throttle", metavar="N", type=_throttle, help="run at most N tasks of an array at once")
    add("--chunk", metavar="N", type=_chunk, help="run N tasks of an array one after the other in one job")
    add(
        "--max-fails",
        metavar="N",
        type=_fails,
        help="begin no more of an array when more than N tasks failed",
    )


def _add_patience(add: Callable[..., object]) -> None:
    """Options of what is waited for, whose module few submissions need."""
    add("-H", "--hold", action="store_true", help="hold it: it may start when rq release says so")
    add(
        "-b",
        "--begin",
        metavar="TIME",
        help="not before this: 22:00, now+2h, tomorrow, 2026-12-24T18:00",
    )
    after = {
        "--after": ("JOBS", "when these have ended well: an id, 17_3, a name, %%SET, or an expression"),
        "--after-any": ("JOBS", "when these have ended, however they did"),
        "--after-fail": ("JOBS", "when these have ended, and not well"),
        "--after-each": ("ARRAY", "each task when the task of the same index there has ended well"),
    }
    for option, (value, text) in after.items():
        add(option, metavar=value, action="append", default=[], help=text)
    add(
        "-d",
        "--dependency",
        metavar="LIST",
        action="append",
        default=[],
        help="the same as Slurm has it: afterok:17:18,afterany:19, afternotok, aftercorr, singleton",
    )
    add("--keep-held", action="store_true", help="keep it held if it can never start after those")
    add("--retries", metavar="N", type=_retries, help="when it fails run it again, up to N times")
    add(
        "--retry-on",
        metavar="ENDS",
        type=_retry_on,
        help="only after these: exit codes, signal, timeout, oom, lost, ..., with commas",
    )
    add(
        "--backoff",
        metavar="TIME",
        type=_duration,
        help="wait so long before it is run again, and twice as long after each further failure",
    )
    add("--unique", action="store_true", help="only if no job of this name waits or runs")


# Parsers of values are imported when their option is there.


def _retries(text: str) -> int:
    from roundq.words.retries import parse_retries

    return parse_retries(text)


def _retry_on(text: str) -> tuple[str, ...]:
    from roundq.words.retries import parse_retry_on

    return parse_retry_on(text)


def _chunk(text: str) -> int:
    return _count(text, "chunk", 1, CHUNK_MAX)


def _throttle(text: str) -> int:
    return _count(text, "throttle", 1, TASKS_MAX)


def _fails(text: str) -> int:
    return _count(text, "max-fails", 0, TASKS_MAX)


def _count(text: str, option: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > 9 or not least <= int(text) <= most:
        raise UsageError(f"option --{option}: {shown(text)} is no number from {least} to {most:,}")
    return int(text)


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


def _command(text: str) -> tuple[str, ...]:
    from roundq.words.news import parse_command

    return parse_command(typed(text))


def _address(text: str) -> str:
    from roundq.words.news import parse_address

    return parse_address(text)


def _output(text: str) -> int:
    from roundq.words.quantities import MIB, parse_memory

    return parse_memory(text, MIB)


def _set(text: str) -> str:
    from roundq.words.groups import parse_set

    return parse_set(text)


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
