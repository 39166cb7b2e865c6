"""News: what is told to whom when a job, an array or a set has ended, as a file and as a message. Pure.

`rq run --on-end` and `--mail` ask for it; files are in `records/news`, and who tells is in `actors/herald`.
"""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from roundq.words.errors import RecordError, UsageError
from roundq.words.groups import MARK
from roundq.words.quantities import visible
from roundq.words.states import CANCELED, COMPLETED, FAILED, ZOMBIE

VERSION = 1
#: What is asked for is a command and some addresses.
BYTES_MAX = 256 << 10
MAILS_MAX = 20
ADDRESS_BYTES_MAX = 254
#: RFC 5322 allows 998 bytes in a line, and an encoded word 75.
_LINE_CHARS_MAX = 200
_WORD_BYTES_MAX = 42
#: Addresses, and names that the mail server of this machine completes. No space, comma, quote or colon: such
#: an address is one address wherever it is written. A dash in front would be an option.
_ADDRESS = re.compile(
    r"[A-Za-z0-9_.+%/=~][A-Za-z0-9_.+%/=~-]*(?:@[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)?"
)


@dataclass(frozen=True, slots=True)
class News:
    """What is to be told when `of` has ended: a job or an array by its id, or a set as %NAME.

    `tasks` is how many tasks the array has, 0 of anything else. `on_end` is a command, none if empty, that
    runs in `directory` with the environment of that digest; `mail` are addresses.
    """

    of: str
    tasks: int = 0
    name: str = ""
    on_end: tuple[str, ...] = ()
    mail: tuple[str, ...] = ()
    directory: str = ""
    environment: str | None = None

    @property
    def is_of_set(self) -> bool:
        """Whether it is of a set."""
        return self.of.startswith(MARK)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of it: of how many jobs in which state; of a single job also its facts.

    `is_well` is whether all of it counts as success; `sentence` says it of a job, to follow its id.
    """

    is_well: bool
    counts: Mapping[str, int] = field(default_factory=dict)
    state: str = ""
    exit_code: int | None = None
    signal: int | None = None
    reason: str | None = None
    sentence: str = ""
    facts: Sequence[tuple[str, str]] = ()


# ---------------------------------------------------------------- words of options


def parse_address(text: str) -> str:
    """An address to mail to. Raises UsageError for what is not one, or is several."""
    if not _ADDRESS.fullmatch(text) or len(text) > ADDRESS_BYTES_MAX or ".." in text:
        raise UsageError(
            f'address "{visible(text[:60])}": it is not a mail address',
            "write ann@example.org, or the name of a user; for several give --mail several times",
        )
    return text


def parse_command(text: str) -> tuple[str, ...]:
    """The words of a command, split as a shell splits them. Raises UsageError for none, or an open quote."""
    try:
        words = tuple(shlex.split(text))
        text.encode()
    except ValueError as error:
        what = "it is not UTF-8" if isinstance(error, UnicodeError) else f"{error}".lower()
        raise UsageError(f'command "{visible(text[:60])}": {what}', "quote it for a shell") from None
    if not words or "\0" in text:
        raise UsageError("the command is empty", "name a program, such as --on-end 'touch done'")
    return words


# ---------------------------------------------------------------- the file


def dump(news: News) -> bytes:
    """The content of its file."""
    value = {
        "news": VERSION,
        "of": news.of,
        "tasks": news.tasks,
        "name": news.name,
        "on_end": list(news.on_end),
        "mail": list(news.mail),
        "directory": news.directory,
        "environment": news.environment,
    }
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def parse(data: bytes) -> News:
    """What a file asks for. Raises RecordError for anything else."""
    try:
        value = json.loads(data)
        if value["news"] != VERSION:
            raise ValueError("it is of another version")
        news = News(
            _text(value, "of"),
            _number(value, "tasks"),
            _text(value, "name"),
            _texts(value, "on_end"),
            tuple(map(parse_address, _texts(value, "mail"))),
            _text(value, "directory"),
            None if value["environment"] is None else _text(value, "environment"),
        )
    except (ValueError, KeyError, TypeError, RecursionError, UsageError) as error:
        raise RecordError(f"it is no news: {visible(str(error))[:100]}") from None
    if not news.of or news.tasks < 0 or "\0" in "".join((news.directory, *news.on_end)):
        raise RecordError("it is no news: of what, where?")
    return news


def _text(value: Mapping[str, Any], name: str) -> str:
    found = value[name]
    if not isinstance(found, str):
        raise TypeError(f"{name} is no text")
    return _told(found)


def _number(value: Mapping[str, Any], name: str) -> int:
    found = value[name]
    if type(found) is not int:
        raise TypeError(f"{name} is no number")
    return found


def _told(text: str) -> str:
    # JSON can write half of a character, which no command and no variable can be given.
    text.encode(errors="surrogateescape")
    return text


def _texts(value: Mapping[str, Any], name: str) -> tuple[str, ...]:
    found = value[name]
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise TypeError(f"{name} are no texts")
    return tuple(map(_told, found))


# ---------------------------------------------------------------- what is told


def counts_text(counts: Mapping[str, int]) -> str:
    """ "98 completed, 2 failed"; "no jobs" of none."""
    words = {ZOMBIE: "lost"}
    parts = [
        f"{counts[state]:,} {words.get(state, state)}"
        for state in (COMPLETED, FAILED, CANCELED, ZOMBIE)
        if counts.get(state)
    ]
    return ", ".join(parts) or "no jobs"


def title(news: News) -> str:
    """Of what it is, for people: 'job 17 "fit"'."""
    kind = "set" if news.is_of_set else "array" if news.tasks else "job"
    name = f' "{visible(news.name)}"' if news.name and not news.is_of_set else ""
    return f"{kind} {visible(news.of.removeprefix(MARK))}{name}"


def variables(news: News, outcome: Outcome) -> dict[str, str]:
    """What the command finds in its environment of what became of it."""
    given = {
        "RQ_JOB_STATE": outcome.state or (COMPLETED if outcome.is_well else FAILED),
        "RQ_COMPLETED": str(outcome.counts.get(COMPLETED, 0)),
        "RQ_FAILED": str(outcome.counts.get(FAILED, 0)),
        "RQ_CANCELED": str(outcome.counts.get(CANCELED, 0)),
        "RQ_LOST": str(outcome.counts.get(ZOMBIE, 0)),
    }
    if news.is_of_set:
        given["RQ_SET"] = news.of.removeprefix(MARK)
    else:
        given["RQ_JOB_ID"] = news.of
        given["RQ_JOB_NAME"] = news.name.replace("\0", "")
    if outcome.exit_code is not None:
        given["RQ_EXIT_CODE"] = str(outcome.exit_code)
    if outcome.signal is not None:
        given["RQ_SIGNAL"] = str(outcome.signal)
    if outcome.reason:
        given["RQ_REASON"] = outcome.reason.replace("\0", "")
    return given


def sentence(news: News, outcome: Outcome) -> str:
    """What became of it, in a line."""
    return f"{title(news)}: {visible(outcome.sentence) or counts_text(outcome.counts)}"


def message(news: News, outcome: Outcome, address: str) -> bytes:
    """The mail that tells of it: its header and body, for a program that sends mail.

    Nothing that a person or program wrote makes a line of its own in the header.
    """
    told = sentence(news, outcome)
    body = [told, ""]
    body += [f"  {name:<10} {visible(value)}" for name, value in outcome.facts if value]
    word = "ok" if outcome.is_well else "not ok"
    header = [
        f"To: {address}",
        f"Subject: {_encoded(f'[rq] {word}: {told}')}",
        "Auto-Submitted: auto-generated",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: 8bit",
    ]
    lines = [*header, "", *(line[:_LINE_CHARS_MAX] for line in body), ""]
    return "\n".join(lines).encode()


def _encoded(text: str) -> str:
    """A text as the value of a header: as it is if it is short ASCII, or as encoded words, RFC 2047."""
    text = visible(text)[:_LINE_CHARS_MAX]
    if text.isascii() and len(text) < 900 and "=?" not in text:
        return text
    return "\n ".join(f"=?utf-8?B?{base64.b64encode(part).decode()}?=" for part in _parts(text))


def _parts(text: str) -> Iterable[bytes]:
    part = b""
    for character in text:
        encoded = character.encode()
        if len(part) + len(encoded) > _WORD_BYTES_MAX:
            yield part
            part = b""
        part += encoded
    yield part
