"""`rq run --from FILE`: a job for each line of a file, all or none."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator

from roundq.actors import checks, submission
from roundq.faces.cli.parser import shown
from roundq.faces.cli.person import Person
from roundq.words.errors import JobRefused, RoundqError, UsageError
from roundq.words.job import Job
from roundq.words.templates import finding, split

__all__ = ["jobs", "split"]

STDIN = "-"
#: Jobs of one submission: a directory of more names is no longer listed whole.
LINES_MAX = 100_000
#: What becomes one record must fit into it.
LINE_BYTES_MAX = 1 << 20


def jobs(
    options: argparse.Namespace, describe: Callable[[list[str]], Job], asker: Person
) -> tuple[list[Job], list[str]]:
    """The jobs of the lines, each of which could run, and sentences of warning.

    `describe` makes a job of the words of a line. Raises UsageError, JobRefused and the like, with the
    number of the line.
    """
    name = options.source
    if options.command:
        raise UsageError(
            "option --from: the commands are in the file, so none may stand behind it", "see: rq run -h"
        )
    described: list[Job] = []
    warnings: list[str] = []
    known: set[str] = set()
    for number, words in numbered(name):
        try:
            job = describe(words)
            if not described:
                # What the options say is the same for all.
                warnings = submission.check(job, os.environ, asker.spool, asker.config, asker.node)
            elif words[0] not in known:
                checks.check_command(job, os.environ)
            checks.check_record(job)
        except JobRefused as error:
            raise type(error)(f"{_where(name, number)}: {error}", error.hint) from None
        known.add(words[0])
        described.append(job)
        if len(described) > LINES_MAX:
            raise UsageError(
                f"{_called(name)} has more than {LINES_MAX:,} commands", "submit them in several parts"
            )
    if not described:
        raise UsageError(f"{_called(name)} holds no command", "write one command line per line")
    return described, warnings


def _called(name: str) -> str:
    return "standard input" if name == STDIN else shown(name)


def _where(name: str, number: int) -> str:
    return f"line {number} of {_called(name)}"


def numbered(name: str) -> Iterator[tuple[int, list[str]]]:
    """The words of each line that has some, with its number."""
    for number, line in enumerate(lines(name), 1):
        try:
            words = split(line)
        except ValueError as error:
            raise UsageError(
                f"{_where(name, number)}: {finding(error)}",
                "write one command line per line, quoted as in sh",
            ) from None
        if words:
            yield number, words


def lines(name: str) -> Iterator[str]:
    """The lines of a file, or of standard input, with their ends. Raises RoundqError, UsageError."""
    try:
        with _opened(name) as stream:
            yield from _bounded(stream, name)
    except OSError as error:
        raise RoundqError(f"{_called(name)} cannot be read: {error.strerror or error}") from None


def _opened(name: str) -> io.BufferedReader:
    if name != STDIN:
        return open(name, "rb")
    if sys.stdin is None:
        raise OSError("it is closed")
    return open(sys.stdin.fileno(), "rb", closefd=False)


def _bounded(stream: io.BufferedReader, name: str) -> Iterable[str]:
    number = 0
    while line := stream.readline(LINE_BYTES_MAX + 1):
        number += 1
        if len(line) > LINE_BYTES_MAX:
            raise UsageError(f"{_where(name, number)}: it is longer than {LINE_BYTES_MAX} bytes")
        if b"\0" in line:
            raise UsageError(f"{_where(name, number)}: it holds a null byte, which no command line can")
        yield os.fsdecode(line)
