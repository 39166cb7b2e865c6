"""A terminal for a command: what it prints on one of a given size."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Mapping, Sequence

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_MAIN = "from roundq.__main__ import rq; rq()"


def on_terminal(
    words: Sequence[str],
    environ: Mapping[str, str],
    columns: int,
    lines: int = 24,
    seen: Callable[[str], None] = lambda _: None,
) -> str:
    """What `rq WORDS` sends to a terminal of that size, colours included; `seen` is told all so far."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    environ = {"PATH": os.environ["PATH"], "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", **environ}
    command = [sys.executable, "-c", _MAIN, *words]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environ) as process:
        os.close(theirs)
        said = b""
        # Reading the last of a terminal that its other side closed is an error.
        with contextlib.suppress(OSError):
            while chunk := os.read(ours, 1 << 16):
                said += chunk
                seen(said.decode(errors="replace"))
        os.close(ours)
    assert process.returncode == 0, said
    return said.decode().replace("\r\n", "\n")


def unpainted(said: str) -> str:
    """The text without its colours; whatever else a terminal would obey stays in it."""
    return _COLOURS.sub("", said)
