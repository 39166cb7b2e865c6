"""Reading what belongs to others: their file system may never answer, and then somebody else shall hang.

A name in a stranger's home may lead to a server that is away, to an automounter, to a file system that he
serves himself. So what is there is read by helpers (`helpers`) that may hang in our place; what is one's
own is read directly. The operations are those of `files`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from roundq.words.errors import RecordError
from roundq.world import files, owners
from roundq.world.files import Name


class NotAnswering(OSError):
    """The file system behind a home does not answer in time; what is there is not known."""

    def __init__(self, home: str) -> None:
        super().__init__(errno.ETIMEDOUT, "its file system does not answer", home)


class Reader(Protocol):
    """Who makes calls for us."""

    def ask(self, calls: Sequence[Call]) -> list[Any]:
        """The answers to these calls; an error is an answer, too."""


class Call(NamedTuple):
    """One thing to do: an operation of `files` by its name, its path and its options."""

    way: Way
    operation: str
    path: str
    options: dict[str, Any]


#: Operations of `files` that may be asked for, beside `owners.owned`: those that read.
_OPERATIONS = frozenset({"is_closed", "listing", "matching", "names", "read", "signature", "status"})
#: Those that look whether they are in the directory of a certain user.
_WITHIN = frozenset({"listing", "names", "read", "signature", "watch"})


@dataclass(frozen=True)
class Way:
    """How one home is read: directly, or by a helper that may hang there in our place.

    Its operations are those of `files`, and raise what they raise, or NotAnswering. With `within` all that
    is read lies in a directory of this user, among those of others.
    """

    home: str = ""
    reader: Reader | None = None
    within: int | None = None

    def call(self, operation: str, path: str, **options: Any) -> Call:
        """One thing to be done together with others, by `each`."""
        if self.within is not None and operation in _WITHIN:
            options["within"] = self.within
        return Call(self, operation, path, options)

    def listing(self, path: str, *, most: int = files.NAMES_MAX) -> list[Name]:
        """See `files.listing`."""
        if self.reader is None:
            return files.listing(path, most=most, within=self.within)
        found: list[Name] = self._one("listing", path, most=most)
        return found

    def read(
        self, path: str, *, most: int, owner: int | None = None, only_owner_writes: bool = False
    ) -> bytes:
        """See `files.read`."""
        if self.reader is None:
            return files.read(
                path, most=most, owner=owner, only_owner_writes=only_owner_writes, within=self.within
            )
        found: bytes = self._one("read", path, most=most, owner=owner, only_owner_writes=only_owner_writes)
        return found

    def signature(self, path: str) -> tuple[int, int, int]:
        """See `files.signature`."""
        if self.reader is None:
            return files.signature(path, within=self.within)
        found: tuple[int, int, int] = self._one("signature", path)
        return found

    def _one(self, operation: str, path: str, **options: Any) -> Any:
        (answer,) = each([self.call(operation, path, **options)])
        if isinstance(answer, Exception):
            raise answer
        return answer


#: What is mine, or is as near as that.
DIRECT = Way()


def each(calls: Sequence[Call]) -> list[Any]:
    """The answers to these calls, in their order; an OSError or RecordError is an answer, too.

    Those for one reader are made together: whoever reads many files waits for it once.
    """
    answers: list[Any] = [None] * len(calls)
    by_reader: dict[int, tuple[Reader, list[int]]] = {}
    for place, call in enumerate(calls):
        if call.way.reader is None:
            answers[place] = done({}, call.operation, call.path, call.options)
        else:
            by_reader.setdefault(id(call.way.reader), (call.way.reader, []))[1].append(place)
    for reader, places in by_reader.values():
        for place, answer in zip(places, reader.ask([calls[place] for place in places]), strict=True):
            answers[place] = answer
    return answers


def done(
    further: Mapping[str, Callable[..., Any]], operation: str, path: str, options: dict[str, Any]
) -> Any:
    """The answer to one call, made here; `further` are operations that `files` does not have."""
    if operation == "owned":
        does = owners.owned
    else:
        does = getattr(files, operation) if operation in _OPERATIONS else further[operation]
    try:
        return does(path, **options)
    except (OSError, RecordError) as error:
        return error
