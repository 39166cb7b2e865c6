"""Pure: the quantities and names that people write and read: cores, sizes, durations, text of strangers.

Every parser takes the text of one option and returns a number, or raises
`UsageError` that says what was found and why it is refused; its `hint` says what
is allowed. Every formatter takes any number and never fails.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator

from roundq.words.errors import UsageError

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
#: `all` as a number of cores: the whole node, whatever it has.
ALL_CORES = 0
CORES_MAX = 100_000
#: What the record of a job can carry.
MEMORY_MAX = 1 << 60
DURATION_MAX_S = 10 * 365 * 86_400
#: With `.out` and a task's index added it must still be a file name of 255 bytes.
NAME_BYTES_MAX = 200


def _quoted(text: str) -> str:
    """The text as an error shows it: harmless on a terminal, and not by the page."""
    shown = visible(text[:60])
    return f'"{shown}…"' if len(text) > 60 else f'"{shown}"'


# ---------------------------------------------------------------- cores


def parse_cores(text: str) -> int:
    """The number of cores that `text` asks for, 1 to 100000, or 0 for "all"."""

    def refused(why: str) -> UsageError:
        return UsageError(
            f"number of cores {_quoted(text)}: {why}", f'give a whole number from 1 to {CORES_MAX}, or "all"'
        )

    if text.lower() == "all":
        return ALL_CORES
    if not text:
        raise refused("it is empty")
    if re.fullmatch(r"-[0-9.]+", text):
        raise refused("it is negative")
    if not re.fullmatch(r"[0-9]+", text):
        raise refused("it is not a whole number")
    digits = text.lstrip("0")
    if not digits:
        raise refused("a job needs at least 1 core")
    # Counted first: int() of thousands of digits is refused by the interpreter in its own words.
    if len(digits) > 6 or int(digits) > CORES_MAX:
        raise refused("it is more than any node has")
    return int(digits)


# ---------------------------------------------------------------- memory and files

# Patterns are compiled by the first use: most commands have none.
_FLAGS = re.ASCII | re.IGNORECASE
_UNITS = {"": 1, "k": KIB, "m": MIB, "g": GIB, "t": TIB}
# Two digits of exponent are enough for 1e-6 and keep the arithmetic small.
_NUMBER = r"(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})"
_SIZE = rf"({_NUMBER}(?:e[+-]?[0-9]{{1,2}})?)\s*(?:([kmgt])(?:ib?|b)?|(b))?"
_UNIT_NAMES = {KIB: "K", MIB: "M", GIB: "G", TIB: "T", 1: "B"}


def parse_memory(text: str, unit: int) -> int:
    """The bytes that `text` asks for.

    A plain number counts in `unit` bytes: GIB for --mem, MIB for --max-output.
    Suffixes K, M, G, T (also KB, KiB, in any case) are powers of 1024, B is bytes.
    Fractions are allowed and rounded up, so that only 0 is 0.
    """

    def refused(why: str) -> UsageError:
        plain = f"; a plain number counts in {_UNIT_NAMES[unit]}" if unit in _UNIT_NAMES else ""
        return UsageError(f"size {_quoted(text)}: {why}", f"give a number like 500M, 4G or 1.5T{plain}")

    if not text:
        raise refused("it is empty")
    found = re.fullmatch(_SIZE, text, _FLAGS)
    if not found:
        if text.startswith("-"):
            raise refused("it is negative")
        if text.lower().lstrip("+") in ("nan", "inf", "infinity"):
            raise refused("it is not a finite number")
        raise refused("it is not a size")
    number, suffix, in_bytes = found.groups()
    factor = _UNITS[suffix.lower()] if suffix else 1 if in_bytes else unit
    # Whole numbers throughout: exact, and rounded up by the division.
    digits, _, exponent = number.lower().partition("e")
    whole, _, fraction = digits.partition(".")
    places = len(fraction) - int(exponent or 0)
    tens: int = 10 ** abs(places)
    exact = int(whole + fraction) * factor
    size = -(-exact // tens) if places > 0 else exact * tens
    if size > MEMORY_MAX:
        raise refused("it is more than any node has")
    return size


def format_memory(size: int) -> str:
    """`size` bytes with one decimal at most: "0", "512B", "1.5G", "64G"."""
    if size <= 0:
        return "0"
    for factor in (TIB, GIB, MIB, KIB):
        # 1023.96M reads 1G: compared after rounding, not before.
        if round(size / factor, 1) >= 1:
            return f"{size / factor:.1f}".removesuffix(".0") + _UNIT_NAMES[factor]
    return f"{size}B"


# ---------------------------------------------------------------- durations

_DAY_S, _HOUR_S, _MINUTE_S = 86_400, 3_600, 60
_AMOUNT = r"[0-9]{1,12}(?:\.[0-9]{1,12})?"
_CLOCK = r"(?:(\d{1,12})-)?(\d{1,12})(?::(\d{1,12}))?(?::(\d{1,12}))?"
_SPOKEN = rf"(?:({_AMOUNT})d-?)?(?:({_AMOUNT})h)?(?:({_AMOUNT})m)?(?:({_AMOUNT})s)?"
_DURATION_HINT = (
    "write 90s, 30m, 2h30m, 1.5h, 1d, or as Slurm: 30 (minutes), MM:SS, HH:MM:SS, D-HH, D-HH:MM:SS"
)


def parse_duration(text: str) -> float:
    """The seconds that `text` asks for, more than 0.

    A plain number is minutes, as for Slurm; also as there: MM:SS, HH:MM:SS, D-HH,
    D-HH:MM, D-HH:MM:SS. With units: 90s, 30m, 2h30m, 1.5h, 1d, 1d-12h.
    """

    def refused(why: str) -> UsageError:
        return UsageError(f"duration {_quoted(text)}: {why}", _DURATION_HINT)

    if not text:
        raise refused("it is empty")
    if text.startswith("-"):
        raise refused("it is negative")
    if re.fullmatch(_AMOUNT, text):
        seconds = float(text) * _MINUTE_S
    elif clock := re.fullmatch(_CLOCK, text, _FLAGS):
        days, *rest = clock.groups()
        first, second, third = (None if part is None else int(part) for part in rest)
        # The first number is the largest unit: hours after a day, else as many as there are colons.
        if days is None and third is None:
            hours, minutes, seconds_ = 0, first or 0, second or 0
        else:
            hours, minutes, seconds_ = first or 0, second or 0, third or 0
        # Only the largest unit may run over: 90:00 is clear, 1:90 is a slip.
        if days is not None and hours > 23:
            raise refused("hours after days go to 23")
        if minutes > 59 and (days is not None or third is not None):
            raise refused("minutes after hours go to 59")
        if seconds_ > 59:
            raise refused("seconds after minutes go to 59")
        seconds = float(int(days or 0) * _DAY_S + hours * _HOUR_S + minutes * _MINUTE_S + seconds_)
    elif spoken := re.fullmatch(_SPOKEN, text, _FLAGS):
        scales = (_DAY_S, _HOUR_S, _MINUTE_S, 1)
        parts = zip(spoken.groups(), scales, strict=True)
        seconds = math.fsum(float(amount) * scale for amount, scale in parts if amount is not None)
    else:
        raise refused("it is not a duration")
    if seconds <= 0:
        raise refused("it is zero")
    if seconds > DURATION_MAX_S:
        raise refused("it is more than ten years")
    return seconds


def format_duration(seconds: float) -> str:
    """`seconds` as the list shows them, rounded down: "4:05", "2h05m", "3d-04h"."""
    if not math.isfinite(seconds):
        return "?"
    # A clock that was set back must not show as a huge or negative time.
    whole = max(0, int(seconds))
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S}:{whole % _MINUTE_S:02}"
    if whole < _DAY_S:
        return f"{whole // _HOUR_S}h{whole % _HOUR_S // _MINUTE_S:02}m"
    return f"{whole // _DAY_S}d-{whole % _DAY_S // _HOUR_S:02}h"


def format_age(seconds: float) -> str:
    """`seconds` as a sentence says them, rounded down: "40 s", "14 min", "30 h", "3 d"."""
    if not math.isfinite(seconds):
        return "?"
    whole = max(0, int(seconds))
    # Twice the unit before the next one is used: "1 h" for anything up to two would say too little.
    for unit, name in ((_DAY_S, "d"), (_HOUR_S, "h"), (_MINUTE_S, "min")):
        if whole >= 2 * unit or whole == unit:
            return f"{whole // unit} {name}"
    return f"{whole} s"


# ---------------------------------------------------------------- text

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _escaped(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:
        # How the interpreter keeps a byte that is not UTF-8: shown as that byte.
        return f"\\x{code - 0xDC00:02x}"
    if code <= 0xFF:
        return _SHORT.get(char) or f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def visible(text: str) -> str:
    r"""`text` with everything that a terminal would obey or hide written out: ESC becomes \x1b.

    That is all that is not printable by Unicode: control characters and escape
    sequences, line breaks, bidirectional and zero-width marks, spaces other than
    the plain one, lone surrogates. The result can always be encoded as UTF-8, and
    is its own visible form.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def check_name(text: str) -> str:
    """`text` if it may name a job, and so the file NAME.out, which must be one component of a path.

    Raises `UsageError` for anything else.
    """

    def refused(why: str, hint: str) -> UsageError:
        return UsageError(f"job name {_quoted(text)}: {why}", hint)

    if not text:
        raise refused("it is empty", "leave the name out to use the command line as name")
    for char in text:
        if not char.isprintable():
            why = f"it contains {visible(char)}"
            if 0xD800 <= ord(char) <= 0xDFFF:
                why = f"it is not UTF-8: it contains {visible(char)}"
            raise refused(why, "use letters, digits, plain spaces and punctuation")
        if char == "/":
            raise refused(
                "it contains /", "the name becomes a file name, NAME.out: give a directory with --output"
            )
    if text in (".", ".."):
        raise refused("it is a directory", "use a name with letters or digits")
    if text.startswith("-"):
        raise refused("it begins with -", "commands would take it for an option: put a letter first")
    if text.startswith("."):
        raise refused("it begins with .", "its output would be a hidden file: put a letter first")
    if text != text.strip():
        raise refused("it begins or ends with a space", "spaces are allowed inside a name only")
    if len(text.encode()) > NAME_BYTES_MAX:
        raise refused(
            f"it has {len(text.encode())} bytes",
            f"the name becomes a file name: at most {NAME_BYTES_MAX} bytes",
        )
    return text


# ---------------------------------------------------------------- ids


def _runs(ids: Iterable[str], least: int) -> Iterator[tuple[str, str]]:
    """The first and the last of runs of successive numbers; of runs shorter than `least` each for itself."""
    run: list[str] = []
    for one in (*ids, ""):
        if run and one.isdecimal() and run[-1].isdecimal() and int(one) == int(run[-1]) + 1:
            run.append(one)
            continue
        if len(run) >= least:
            yield run[0], run[-1]
        else:
            yield from ((each, each) for each in run)
        run = [one]


def format_ids(ids: Iterable[str]) -> str:
    """Ids of jobs for people, exactly: "17, 19 to 23"; with tasks of arrays "17_[0-9,12], 19"."""
    ids = tuple(ids)
    if any("_" in one for one in ids):
        from roundq.words.ranges import brief

        return brief(ids)
    return ", ".join(first if first == last else f"{first} to {last}" for first, last in _runs(ids, 3))


def shell_ids(ids: Iterable[str]) -> str:
    """The same as words for a shell: "17 $(seq 19 23)", "'17_[0-9,12],19'"."""
    ids = tuple(ids)
    if any("_" in one for one in ids):
        import shlex

        from roundq.words.ranges import brief

        return shlex.quote(brief(ids).replace(", ", ","))
    return " ".join(first if first == last else f"$(seq {first} {last})" for first, last in _runs(ids, 5))
