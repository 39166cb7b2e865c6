"""Pure: whether a failed job is run again by itself, and when.

A retry is a further attempt that nobody asks for: the job said at its submission how often, after which
ends and how much later. What gave way or was restarted was no failure, and uses no retry up; a cancel is
never retried, and what a node lost is only where the job names that.
"""

from __future__ import annotations

from dataclasses import replace

from roundq.words.errors import UsageError
from roundq.words.job import NS, RETRIES_MAX, WORDS_MAX, Record
from roundq.words.quantities import visible

#: The words of `Job.retry_on` beside exit codes, and the reasons of an end that each means.
ENDS = {
    "exit": frozenset({"exit"}),
    "signal": frozenset({"signal"}),
    "timeout": frozenset({"time limit"}),
    "oom": frozenset({"out of memory", "memory limit"}),
    "output": frozenset({"output limit"}),
    "start": frozenset(
        {
            "no command",
            "not executable",
            "no interpreter",
            "no directory",
            "no output",
            "no environment",
            "cannot start",
        }
    ),
    "shutdown": frozenset({"shutdown"}),
    "lost": frozenset({"lost", "rebooted"}),
}
#: What a job that names no end is retried after: any failure whose end is known.
_FAILURES = frozenset().union(*(reasons for word, reasons in ENDS.items() if word != "lost"))
#: A wait between attempts doubles up to this.
BACKOFF_MOST_S = 86_400.0
EXIT_CODE_MAX = 255


def parse_retries(text: str) -> int:
    """How often a job is to be run again. Raises UsageError."""
    digits = text.lstrip("0") or "0"
    if not (text.isascii() and text.isdecimal()) or len(digits) > 7 or int(digits) > RETRIES_MAX:
        raise UsageError(
            f'number of retries "{visible(text[:60])}": it is not a whole number from 0 to {RETRIES_MAX:,}',
            "give how often it may be run again after a failure, such as 3",
        )
    return int(digits)


def parse_retry_on(text: str) -> tuple[str, ...]:
    """The ends that `text` names: exit codes and words of `ENDS`, with commas. Raises UsageError."""
    found: dict[str, None] = {}
    for word in text.split(","):
        word = word.strip()
        is_code = word.isascii() and word.isdecimal()
        if is_code and len(word) < 4 and 0 < int(word) <= EXIT_CODE_MAX:
            found[str(int(word))] = None
        elif word.lower() in ENDS:
            found[word.lower()] = None
        else:
            why = "it is no failure" if is_code and not int(word[:20]) else "it is no end of a job"
            raise UsageError(
                f'end to retry after "{visible(word[:60])}": {why}',
                f"give exit codes from 1 to {EXIT_CODE_MAX}, or {', '.join(ENDS)}, with commas between",
            )
    if len(found) > WORDS_MAX:
        raise UsageError(
            f"{len(found)} ends to retry after: at most {WORDS_MAX} can be named",
            "leave them out to retry after any failure",
        )
    return tuple(found)


def again(record: Record, ended_ns: int) -> int | None:
    """When an attempt that ended so may be followed by the next one, None if it is not.

    `record` holds the reason and exit code of the end, `ended_ns` is when that was; the answer is in
    nanoseconds since the epoch, 0 for at once.
    """
    if record.reason is None or record.retried >= record.job.retries or not _is_named(record):
        return None
    wait_s = min(record.job.backoff_s * 2.0 ** min(record.retried, 64), BACKOFF_MOST_S)
    return ended_ns + round(wait_s * NS) if wait_s > 0 else 0


def _is_named(record: Record) -> bool:
    named, reason = record.job.retry_on, record.reason or ""
    if not named:
        return reason in _FAILURES
    if reason == "exit" and str(record.exit_code) in named:
        return True
    return any(reason in ENDS.get(word, ()) for word in named)


def retried(record: Record, ended_ns: int) -> Record | None:
    """The record of an ended attempt as it waits for its retry, None if there is none; see `again`."""
    not_before_ns = again(record, ended_ns)
    if not_before_ns is None:
        return None
    waits = record.next_attempt(ended_ns, record.reason)
    return replace(waits, retried=record.retried + 1, not_before_ns=not_before_ns)


def attempt_text(record: Record) -> str:
    """Which attempt this is, for the log: "attempt 2 of 4", or of one that was restarted between its retries
    "attempt 5, retry 2 of 3"."""
    if not record.job.retries:
        return f"attempt {record.attempt}"
    if record.retried == record.attempt - 1:
        return f"attempt {record.attempt} of {record.job.retries + 1}"
    return f"attempt {record.attempt}, retry {record.retried} of {record.job.retries}"
