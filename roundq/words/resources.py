"""Pure: what a job may ask for beside cores, memory and time: GPUs, licenses, nodes, features.

Every parser takes the text of one option and returns what a `Job` holds, or raises
`UsageError`; what it returns is sorted, and nothing in it stands twice, so that jobs
that ask for the same are of one shape.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from roundq.words.errors import UsageError
from roundq.words.job import GPUS_MAX, LICENSES_MAX, WORDS_MAX, Job
from roundq.words.quantities import format_memory, visible
from roundq.words.room import gpus_text

#: Characters of one name or pattern: those of a host name, and as many as a record holds.
WORD_MAX = 255
#: More than anybody buys.
LICENSES_EACH_MAX = 1_000_000
_NAME = r"[A-Za-z0-9_.+-]+"
_NAME_HINT = "write letters, digits and _ . + -"
_PATTERN_HINT = "write names of nodes, with * and ? for what may differ: node3 or gpu*,big?"


def _quoted(text: str) -> str:
    shown = visible(text[:60])
    return f'"{shown}…"' if len(text) > 60 else f'"{shown}"'


def parse_gpus(text: str) -> int:
    """The number of GPUs that `text` asks for, 0 to `GPUS_MAX`."""

    def refused(why: str) -> UsageError:
        return UsageError(f"number of GPUs {_quoted(text)}: {why}", "give a whole number, such as 1")

    if not text:
        raise refused("it is empty")
    if re.fullmatch(r"-[0-9.]+", text):
        raise refused("it is negative")
    if not re.fullmatch(r"[0-9]+", text):
        raise refused("it is not a whole number")
    digits = text.lstrip("0") or "0"
    if len(digits) > 6 or int(digits) > GPUS_MAX:
        raise refused("it is more than any node has")
    return int(digits)


def parse_licenses(text: str) -> tuple[tuple[str, int], ...]:
    """The licenses that "NAME" or "NAME:N", several with commas, ask for: names with counts, sorted."""
    asked: dict[str, int] = {}
    hint = "write NAME or NAME:N, several with commas: matlab:2,ansys"
    for word in text.split(","):
        name, colon, number = word.partition(":")
        what = f"license {_quoted(word)}"
        if not word:
            raise UsageError(f"licenses {_quoted(text)}: a name is empty", hint)
        if not re.fullmatch(_NAME, name) or len(name) > WORD_MAX:
            raise UsageError(f"{what}: its name cannot be that of a license", _NAME_HINT)
        if colon and not re.fullmatch(r"[0-9]{1,7}", number):
            raise UsageError(f"{what}: how many is not a whole number", hint)
        count = int(number) if colon else 1
        if not 1 <= count <= LICENSES_EACH_MAX:
            raise UsageError(
                f"{what}: {'none are asked for' if not count else 'it is more than there can be'}", hint
            )
        if name in asked:
            raise UsageError(f"license {_quoted(name)}: it is asked for twice", f"add them up: {name}:N")
        asked[name] = count
    return _licenses(asked.items())


def all_licenses(each: Iterable[tuple[tuple[str, int], ...]]) -> tuple[tuple[str, int], ...]:
    """What several options ask for, together."""
    asked: dict[str, int] = {}
    for name, count in (pair for one in each for pair in one):
        if name in asked:
            raise UsageError(f"license {_quoted(name)}: it is asked for twice", f"add them up: {name}:N")
        asked[name] = count
    return _licenses(asked.items())


def _licenses(pairs: Iterable[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    found = tuple(sorted(pairs))
    if len(found) > LICENSES_MAX:
        raise UsageError(f"there are {len(found)} licenses: a job may ask for {LICENSES_MAX}")
    return found


def parse_features(text: str) -> tuple[str, ...]:
    """The features that "NAME", several with commas, asks for."""
    words = text.split(",")
    for word in words:
        if not word:
            raise UsageError(f"features {_quoted(text)}: a name is empty", "write avx512 or avx512,ssd")
        if not re.fullmatch(_NAME, word) or len(word) > WORD_MAX:
            raise UsageError(f"feature {_quoted(word)}: it cannot be the name of a feature", _NAME_HINT)
    return all_words([words])


def parse_patterns(text: str) -> tuple[str, ...]:
    """The patterns of node names that "PATTERN", several with commas, gives, as fnmatch(3) reads them."""
    words = text.split(",")
    for word in words:

        def refused(why: str, of: str = word) -> UsageError:
            return UsageError(f"pattern of nodes {_quoted(of)}: {why}", _PATTERN_HINT)

        if not word:
            raise UsageError(f"pattern of nodes {_quoted(text)}: a name is empty", _PATTERN_HINT)
        if len(word) > WORD_MAX:
            raise refused("no node has a name so long")
        if not word.isprintable() or re.search(r"[\s/]", word):
            raise refused("no node has such a name")
        # As Slurm writes lists of nodes, node[1,3] and node[08-12]: here they would mean something else.
        if re.search(r"\[[^]]*$", word) or re.search(r"\[[^]]*[0-9]{2}[^]]*\]", word):
            raise refused("brackets hold single characters, as in node[1-4]")
    return all_words([words])


def all_words(each: Iterable[Iterable[str]]) -> tuple[str, ...]:
    """What several options name, together."""
    found = tuple(sorted({word for one in each for word in one}))
    if len(found) > WORDS_MAX:
        raise UsageError(f"there are {len(found)} names: a job may give {WORDS_MAX}")
    return found


# ---------------------------------------------------------------- for people


def asked_text(job: Job) -> str:
    """What a job asks for beside cores and time, in a few words; empty if nothing."""
    parts = []
    if job.memory_required:
        parts.append(format_memory(job.memory_required))
    if job.gpus:
        parts.append(gpus_text(job.gpus))
    if job.licenses:
        parts += [name if count == 1 else f"{count} {name}" for name, count in job.licenses]
    parts += job.features
    if job.nodes:
        parts.append(f"on {' or '.join(job.nodes)}")
    if job.exclude:
        parts.append(f"not on {' or '.join(job.exclude)}")
    if job.scavenge:
        parts.append("scavenge")
    return ", ".join(parts)
