"""The terminal's characters, where they are not UTF-8: what is printed, and names that are typed.

Words of a command, directories and file names are bytes, and are not for here: see `roundq.__main__`.
"""

from __future__ import annotations

import os
import sys


def charset() -> str | None:
    """The encoding of the terminal, None if it is that which the interpreter has found."""
    given = sys._xoptions.get("rq_charset")
    return given if isinstance(given, str) else None


def typed(text: str) -> str:
    """A job's name as it was meant: a name is text, so characters of the terminal are those of everybody."""
    given = charset()
    if given is None:
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return os.fsencode(text).decode(given, "surrogateescape")
    return text
