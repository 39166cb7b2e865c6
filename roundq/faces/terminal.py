"""A terminal as a whole screen: keys come, lines go, and it is left as it was found, whatever happens.

Only lines that changed are sent, so that a slow connection stays calm. Nothing here knows what is shown.
"""

from __future__ import annotations

import codecs
import contextlib
import itertools
import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from roundq.faces.tables import Painted, sayable, width

#: For how long the rest of a key's sequence is waited for after ESC, in seconds.
_ESCAPE_S = 0.05
_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l"
_LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"
#: Keys by what terminals send for them.
_SEQUENCES = {
    "[A": "up", "[B": "down", "[C": "right", "[D": "left", "OA": "up", "OB": "down", "OC": "right",
    "OD": "left", "[5~": "page up", "[6~": "page down", "[H": "home", "[F": "end", "OH": "home", "OF": "end",
    "[1~": "home", "[4~": "end", "[7~": "home", "[8~": "end", "[3~": "delete",
}  # fmt: skip
_CONTROLS = {
    "\r": "enter",
    "\n": "enter",
    "\x7f": "backspace",
    "\x08": "backspace",
    "\t": "tab",
    "\x15": "clear",
}
#: What is taken for the size if the terminal does not say.
_COLUMNS, _LINES = 80, 24


#: A character, and how it is painted.
Character = tuple[str, str]


class Size(NamedTuple):
    """Of a terminal, in characters."""

    columns: int
    lines: int


def can_place() -> bool:
    """Whether standard input and output are a terminal whose cursor can be placed."""
    try:
        is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    except ValueError:
        return False
    return is_terminal and os.environ.get("TERM", "dumb") not in ("dumb", "unknown", "")


class Screen:
    """The terminal of standard input and output, taken over by `taken`."""

    def __init__(self) -> None:
        from rich.color import ColorSystem
        from rich.console import Console

        self._console = Console(file=sys.stdout, force_terminal=True)
        names = {"256": ColorSystem.EIGHT_BIT, "truecolor": ColorSystem.TRUECOLOR}
        self._colours = names.get(self._console.color_system or "", ColorSystem.STANDARD)
        self._in, self._out = sys.stdin.fileno(), sys.stdout.fileno()
        self._encoding = sys.stdout.encoding or "utf-8"
        self._decoder = codecs.getincrementaldecoder(self._encoding)("replace")
        self._shown: list[list[Character]] = []
        self._pending = ""
        self._wake: tuple[int, int] = (-1, -1)
        self._is_resized = False
        self.is_closed = False

    @contextlib.contextmanager
    def taken(self) -> Iterator[Screen]:
        """Takes the terminal over; it is given back at the end, and while this process is stopped."""
        before = termios.tcgetattr(self._in)
        self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signals = {signal.SIGWINCH: self._resized, signal.SIGTSTP: self._stopped}
        old = {number: signal.signal(number, handler) for number, handler in signals.items()}
        try:
            self._enter()
            yield self
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)
            self._leave(before)
            for descriptor in self._wake:
                os.close(descriptor)

    def _enter(self) -> None:
        # Ctrl-C stays a signal, and so does Ctrl-Z.
        tty.setcbreak(self._in)
        self._shown = []
        self._send(_ENTER)

    def _leave(self, before: list[Any]) -> None:
        # A terminal that was closed meanwhile needs nothing.
        with contextlib.suppress(OSError):
            self._send(_LEAVE)
        with contextlib.suppress(OSError, termios.error):
            termios.tcsetattr(self._in, termios.TCSADRAIN, before)

    def _resized(self, _number: int, _frame: object) -> None:
        self._is_resized = True
        self.wake()

    def _stopped(self, number: int, _frame: object) -> None:
        with contextlib.suppress(OSError, termios.error):
            now = termios.tcgetattr(self._in)
            self._send(_LEAVE)
            termios.tcsetattr(self._in, termios.TCSADRAIN, _cooked(now))
        before = signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        signal.raise_signal(number)
        # From here on it goes on.
        signal.signal(number, before)
        self._enter()
        self._is_resized = True
        self.wake()

    def wake(self) -> None:
        """Ends a wait for keys; from any thread or signal handler."""
        with contextlib.suppress(OSError):
            os.write(self._wake[1], b"x")

    # ------------------------------------------------------------ keys

    def keys(self, seconds: float) -> list[str]:
        """What was typed: characters, or names such as "up" and "page down"; waits at most so long for it.

        None when the wait was over, or when it was woken. `is_closed` when nobody can type any more.
        """
        if not self._pending:
            self._read(seconds)
        keys: list[str] = []
        while self._pending:
            key, used = self._key()
            self._pending = self._pending[used:]
            if key:
                keys.append(key)
        return keys

    def _read(self, seconds: float) -> None:
        ready, _, _ = select.select([self._in, self._wake[0]], [], [], max(0.0, seconds))
        if self._wake[0] in ready:
            with contextlib.suppress(OSError):
                os.read(self._wake[0], 4096)
        if self._in in ready:
            try:
                data = os.read(self._in, 4096)
            except OSError:
                data = b""
            self.is_closed = not data
            self._pending += self._decoder.decode(data)

    def _key(self) -> tuple[str, int]:
        """The first key of what was typed, and how many characters it takes; an empty one is none."""
        first = self._pending[0]
        if first != "\x1b":
            if first in _CONTROLS:
                return _CONTROLS[first], 1
            return (first if first.isprintable() else ""), 1
        if len(self._pending) == 1:
            self._read(_ESCAPE_S)
        if len(self._pending) == 1 or self._pending[1] not in "[O":
            return "escape", 1
        if len(self._pending) == 2:
            self._read(_ESCAPE_S)
        end = 2
        while end < len(self._pending) and not (self._pending[end].isalpha() or self._pending[end] == "~"):
            end += 1
        return _SEQUENCES.get(self._pending[1 : end + 1], ""), min(end + 1, len(self._pending))

    # ------------------------------------------------------------ lines

    def size(self) -> Size:
        """The size of the terminal now."""
        try:
            columns, lines = os.get_terminal_size(self._out)
        except OSError:
            columns, lines = 0, 0
        return Size(columns or _COLUMNS, lines or _LINES)

    def draw(self, lines: Sequence[Painted]) -> None:
        """Shows these lines from the top; only those that differ from what is shown are sent."""
        size = self.size()
        drawn = [self._characters(line) for line in lines[: size.lines]]
        drawn += [[]] * (size.lines - len(drawn))
        parts = []
        if self._is_resized or len(self._shown) != len(drawn):
            self._is_resized = False
            self._shown = [[]] * len(drawn)
            parts.append("\x1b[2J")
        for number, (before, now) in enumerate(zip(self._shown, drawn, strict=True), 1):
            if before != now:
                parts.append(self._change(number, before, now))
        self._shown = drawn
        if parts:
            self._send("".join(parts))

    def _characters(self, line: Painted) -> list[Character]:
        found = [(one, cell.style) for cell in line for one in sayable(cell.text, self._encoding)]
        while found and found[-1] == (" ", ""):
            found.pop()
        return found

    def _change(self, number: int, before: list[Character], now: list[Character]) -> str:
        """What makes the one line of the other: what they begin and end with alike is not sent."""
        begin = 0
        if all(width(one) == 1 for one, _ in (*before, *now)):
            while begin < min(len(before), len(now)) and before[begin] == now[begin]:
                begin += 1
        end = len(now)
        if begin and len(before) == len(now):
            while end > begin and before[end - 1] == now[end - 1]:
                end -= 1
        erase = "\x1b[K" if not begin or (end == len(now) and len(before) > len(now)) else ""
        return f"\x1b[{number};{begin + 1}H{self._painted(now[begin:end])}{erase}"

    def _painted(self, characters: list[Character]) -> str:
        from rich.style import Style

        parts = []
        for name, same in itertools.groupby(characters, key=lambda one: one[1]):
            text = "".join(character for character, _ in same)
            style = Style.parse(name)
            if self._console.no_color:
                style = style.without_color
            parts.append(style.render(text, color_system=self._colours) if name else text)
        return "".join(parts)

    def _send(self, text: str) -> None:
        data = text.encode(self._encoding, "backslashreplace")
        while data:
            data = data[os.write(self._out, data) :]


def _cooked(mode: list[Any]) -> list[Any]:
    """The mode of a terminal as a shell has it: lines and echo."""
    return [*mode[:3], mode[3] | termios.ICANON | termios.ECHO, *mode[4:]]
