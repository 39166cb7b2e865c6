"""Options of a verb, with errors that name what was meant.

argparse, without its abbreviations and its own way of failing: words that are wrong
raise UsageError.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Iterable
from typing import IO, NoReturn

from roundq import __version__
from roundq.words.errors import UsageError


def shown(text: str, most: int = 100) -> str:
    """A word as messages show it: quoted, harmless on a terminal, not by the page."""
    if not text.isprintable():
        from roundq.words.quantities import visible

        text = visible(text)
    return f'"{text[:most]}…"' if len(text) > most + 1 else f'"{text}"'


def suggestion(word: str, known: Iterable[str]) -> str | None:
    """A hint that names the known word which may have been meant."""
    import difflib

    # A dash and one letter are half like every other.
    cutoff = 0.5 if len(word) > 2 else 0.6
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return f"did you mean {near[0]}?" if near else None


class _Formatter(argparse.HelpFormatter):
    """argparse's, which asks for the width of the terminal with each option that is declared."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_width())


@functools.cache
def _width() -> int:
    """Columns for help: behind a pipe is often a pager. shutil would cost a twentieth of a submission."""
    try:
        return max(40, min(os.get_terminal_size(sys.stdout.fileno()).columns - 2, 110))
    except (AttributeError, OSError, ValueError):
        return 78


class Parser(argparse.ArgumentParser):
    """The parser of one verb: one sentence, options, and an example that works."""

    def __init__(self, verb: str, usage: str, sentence: str, example: str) -> None:
        super().__init__(
            prog=f"rq {verb}",
            # argparse fills it in.
            usage=f"rq {verb} {usage}".rstrip().replace("%", "%%"),
            description=sentence,
            epilog=f"For example: {example}",
            allow_abbrev=False,
            add_help=False,
            formatter_class=_Formatter,
        )
        self.verb = verb
        self.add_argument("-h", "--help", action="help", help="print this help and exit")
        self.add_argument(
            "--version", action="version", version=f"rq {__version__}", help="print the version and exit"
        )

    def parse(self, words: list[str]) -> argparse.Namespace:
        """The options that these words give. Raises UsageError, or SystemExit after --help and --version."""
        # Options may stand between the words that are none.
        known = self.parse_known_intermixed_args if self._get_positional_actions() else self.parse_known_args
        options, rest = known(words)
        if rest:
            self.refuse(rest[0])
        return options

    def refuse(self, word: str) -> NoReturn:
        """Raises UsageError for a word that is not known here."""
        see = f"see: rq {self.verb} -h"
        if not word.startswith("-"):
            raise UsageError(f"unexpected word {shown(word)}", see)
        name = word.partition("=")[0]
        near = suggestion(name, self.option_names())
        raise UsageError(f"unknown option {shown(name)}", f"{near[:-1]}? {see}" if near else see)

    def option_names(self) -> list[str]:
        """Every name of every option."""
        return list(self._option_string_actions)

    def error(self, message: str) -> NoReturn:
        """Raises UsageError with argparse's finding."""
        raise UsageError(message, f"see: rq {self.verb} -h")

    def _print_message(self, message: str, file: IO[str] | None = None) -> None:  # type: ignore[override]
        # Not among argparse's public types. Its own is silent, from Python 3.12 on, where nothing can be
        # written.
        (file or sys.stderr).write(message)

    def takes_value(self, name: str) -> bool | None:
        """Whether a word belongs to the option of this name; None if there is no such option."""
        action = self._option_string_actions.get(name)
        return None if action is None else action.nargs != 0
