"""The notice of its end that a job asks for with `rq run --signal`: a signal, and how long before."""

from __future__ import annotations

import re
import signal

from roundq.words.errors import UsageError
from roundq.words.job import Notice
from roundq.words.quantities import parse_duration, visible

#: What is sent where nobody says: libraries leave it alone, as they do not USR1.
SIGNAL = signal.SIGUSR2
#: As for Slurm.
BEFORE_S = 60.0
#: No process can catch them.
_DEAF = (signal.SIGKILL, signal.SIGSTOP)
_HINT = "write a signal and how many seconds before the end: USR2@60, USR2@2m, @90, TERM, 12"


def parse_notice(text: str) -> Notice:
    """The notice that "[SIG][@TIME]" asks for; a plain time is in seconds, as in Slurm's --signal."""
    shown = f'"{visible(text[:60])}…"' if len(text) > 60 else f'"{visible(text)}"'
    name, at, time = text.partition("@")
    if not text or text == "@":
        raise UsageError(f"signal {shown}: it is empty", _HINT)
    return Notice(_number(name, shown) if name else int(SIGNAL), _before_s(time, shown) if at else BEFORE_S)


def _number(name: str, shown: str) -> int:
    known = {one.name.removeprefix("SIG"): int(one) for one in signal.Signals}
    valid = {int(one) for one in signal.valid_signals()}
    word = name.upper().removeprefix("SIG")
    number = int(word) if re.fullmatch("[0-9]{1,3}", word) else known.get(word)
    if number is None or number not in valid:
        raise UsageError(f"signal {shown}: there is no such signal", _HINT)
    if number in _DEAF:
        raise UsageError(f"signal {shown}: no process can catch it, so it is no warning", _HINT)
    return number


def _before_s(text: str, shown: str) -> float:
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
        text = f"{text}s"
    try:
        return parse_duration(text)
    except UsageError as error:
        why = str(error).partition('": ')[2]
        raise UsageError(f"signal {shown}: the time behind @: {why}", _HINT) from None
