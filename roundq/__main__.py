"""`python -m roundq` is `rq`, and so is the program that an installation makes of `rq`."""

import contextlib
import os
import signal
import sys
from typing import NoReturn


def rq() -> NoReturn:
    """The command, as a process of its own."""
    # While all is being loaded Ctrl-C has nothing to undo, and the interpreter would print where it was.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    _in_utf8()
    from roundq.faces.cli import main

    sys.exit(main())


def _in_utf8() -> None:
    """Begins anew unless file names are UTF-8 to this interpreter; the terminal's characters are handed on.

    A record holds the bytes of words and paths, and whoever runs the job may do so in another locale: one
    that took them for characters of its own would run something else.
    """
    charset = sys.getfilesystemencoding()
    if charset != "utf-8" and "rq_charset" not in sys._xoptions and sys.executable:
        words: list[str | bytes] = [sys.executable, "-X", "utf8", "-X", f"rq_charset={charset}"]
        words += map(os.fsencode, sys.orig_argv[1:])
        with contextlib.suppress(OSError):
            os.execv(sys.executable, words)


if __name__ == "__main__":
    rq()
