"""The outputs of many jobs as one: line by line, each with the name of its job before it. Pure.

Within one output nothing is lost and nothing changes places, also of bytes that are no text. A line ends with
a newline, or with a carriage return as of a progress bar, so that no bar writes over a name. A line that is
not ended goes on as its own for a moment; then others may end it, and what continues it is marked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

#: A line that is longer is printed while it grows.
LINE_BYTES = 1 << 14
#: For how long what is no whole line yet is kept back, and for how long a line that stands unended keeps
#: others from printing, in seconds.
KEEP_S, STALL_S = 0.3, 1.0
#: Between a name and a line: of the output, and of the error file; and of what continues a line.
OUT, ERROR = b"| ", b"! "
CONTINUED = {OUT: b"|+", ERROR: b"!+"}
#: Erases what a longer progress bar left behind it, on a terminal.
_ERASE = b"\x1b[K"
#: Where a line ends. A carriage return at the end may be half of that.
_END = re.compile(rb"\r?\n|\r(?=[^\n])")


@dataclass(slots=True)
class _Source:
    """One output: what its lines begin with, and what is kept back of it."""

    name: bytes
    kind: bytes
    kept: bytes = b""
    since_s: float = 0.0
    #: Whether its last line was ended by somebody else.
    is_broken: bool = False
    has_ended: bool = False


@dataclass(slots=True)
class Interleaver:
    """Writes the lines of several outputs to one. Times are monotonic, in seconds."""

    write: Callable[[bytes], None]
    is_terminal: bool = False
    _sources: dict[Hashable, _Source] = field(default_factory=dict)
    #: Whose line stands unended at the end of what was written, since when; whether a return ended the last.
    _open: Hashable | None = None
    _open_s: float = 0.0
    _has_returned: bool = False
    #: What is to be written now, at once.
    _parts: list[bytes] = field(default_factory=list)

    def add(self, key: Hashable, name: bytes, kind: bytes = OUT) -> None:
        """An output whose lines begin with this name, which may hold colours."""
        self._sources.setdefault(key, _Source(name, kind))

    def may_feed(self, key: Hashable, now_s: float) -> bool:
        """Whether it is this output's turn: not while another one is in the middle of a line, and goes on.

        What is not read meanwhile lies in its file, and waits there.
        """
        return self._open in (None, key) or now_s - self._open_s >= STALL_S

    def feed(self, key: Hashable, data: bytes, now_s: float) -> None:
        """New bytes of an output."""
        source = self._sources[key]
        if not source.kept:
            source.since_s = now_s
        text = source.kept + data
        at = 0
        for end in _END.finditer(text):
            self._put(key, source, text[at : end.end()], now_s)
            at = end.end()
        source.kept = text[at:]
        if len(source.kept) >= LINE_BYTES or self._open == key:
            self._release(key, source, now_s)
        self._flush()

    def idle(self, now_s: float) -> float:
        """Writes what was kept back for long enough; seconds until it is to be called again."""
        again_s = 3600.0
        for key, source in self._sources.items():
            if not source.kept:
                continue
            left_s = source.since_s + KEEP_S - now_s
            if left_s <= 0 and self.may_feed(key, now_s):
                self._release(key, source, now_s)
            elif left_s <= 0:
                left_s = self._open_s + STALL_S - now_s
            if source.kept:
                again_s = min(again_s, max(left_s, 0.0))
        self._flush()
        return again_s

    def end(self, key: Hashable, now_s: float) -> None:
        """Nothing more comes of this output."""
        source = self._sources.pop(key)
        if source.kept:
            self._put(key, source, source.kept, now_s)
        self._flush()

    def break_line(self) -> None:
        """Ends a line that stands unended, if one does: something else is to be printed."""
        self._break()
        self._flush()

    def _break(self) -> None:
        if self._open is not None:
            if (source := self._sources.get(self._open)) is not None:
                source.is_broken = True
            self._open = None
            self._parts.append(b"\n")

    def _flush(self) -> None:
        text = b"".join(self._parts)
        self._parts.clear()
        if text:
            self.write(text)

    def _release(self, key: Hashable, source: _Source, now_s: float) -> None:
        # Half of a line's end stays, until it is known what it is.
        is_half = source.kept.endswith(b"\r")
        text, source.kept = (source.kept[:-1], b"\r") if is_half else (source.kept, b"")
        if text:
            self._put(key, source, text, now_s)
        source.since_s = now_s

    def _put(self, key: Hashable, source: _Source, text: bytes, now_s: float) -> None:
        before = b""
        if self._open != key:
            if self._open is not None:
                self._break()
            elif self._has_returned and self.is_terminal:
                before = _ERASE
            before += source.name + (CONTINUED[source.kind] if source.is_broken else source.kind)
            source.is_broken = False
        self._parts += [before, text]
        if text.endswith((b"\n", b"\r")):
            self._open = None
            self._has_returned = text.endswith(b"\r")
        else:
            self._open, self._open_s = key, now_s
            self._has_returned = False
