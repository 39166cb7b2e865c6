"""What a user asks of the own daemons in `control/`: drains of nodes, limits of the user and of groups.

roundqueue(7), "Control".

Commands write it, in one step and synced; a daemon reads it, anew only when it may have changed. Nobody else
may write there; what is there all the same can stop new jobs, but neither start nor end one.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from roundq.records import spool as spools
from roundq.records.spool import Spool
from roundq.words import record_format as formats
from roundq.words.drains import Drain, first_line
from roundq.words.errors import RecordError
from roundq.words.groups import group_text
from roundq.words.limits import LIMIT_MAX, Limit
from roundq.words.names import is_foreign
from roundq.world import files

if TYPE_CHECKING:
    from pydantic_core import SchemaValidator

T = TypeVar("T")

DIRECTORY, LIMITS = "control", "limits.json"
_DRAIN, _LIMIT = ".drain", ".limit"
BYTES_MAX = 4096


# ---------------------------------------------------------------- commands


def drain(spool: Spool, node: str, why: Drain, here: str) -> None:
    """The user's daemon on `node` shall start nothing more; durable when it returns. `here` is our node."""
    value = {"reason": why.reason, "by": why.by, "at": formats.moment(why.at_ns)}
    _write(spool, f"{node}{_DRAIN}", value, f"drain {node}", here)


def resume(spool: Spool, node: str) -> bool:
    """... and may start jobs again; whether it was drained."""
    with files.explained(f"resume {node}"):
        is_gone = files.remove(f"{spool.directory(DIRECTORY)}/{node}{_DRAIN}")
        files.sync_directory(spool.directory(DIRECTORY))
        return is_gone


def drains(spool: Spool) -> dict[str, Drain]:
    """The nodes that the user has drained, listed afresh. Raises OSError if they cannot be listed."""
    found = {}
    for name, _ in files.listing(spool.directory(DIRECTORY)):
        if (node := _node_of(name)) is not None:
            try:
                found[node] = _read_drain(spool, name)
            except FileNotFoundError:
                continue
            except (OSError, RecordError):
                found[node] = Drain(spool.user)
    return found


def set_limit(spool: Spool, limit: Limit, here: str) -> None:
    """What the user wants to have at most; durable when it returns. Without any limit the file goes away."""
    if limit == Limit():
        with files.explained("take the limits away"):
            files.remove(f"{spool.directory(DIRECTORY)}/{LIMITS}")
            files.sync_directory(spool.directory(DIRECTORY))
        return
    _write(spool, LIMITS, {"cores": limit.cores, "jobs": limit.jobs}, "set limits", here)


def limit(spool: Spool) -> Limit:
    """The user's own limits. Raises RecordError, whose text says what is wrong, or OSError."""
    if all(name != LIMITS for name, _ in files.listing(spool.directory(DIRECTORY))):
        return Limit()
    try:
        return _read_limit(spool)
    except FileNotFoundError:
        return Limit()


def set_group_limit(spool: Spool, group: str, most: int | None, here: str, *, keep: bool = False) -> None:
    """How many jobs of a group may run at once; durable when it returns. None: any number.

    Without a limit the file goes away, or with `keep` says so: of an array the throttle would hold again.
    """
    if most is None and not keep:
        with files.explained(f"take the limit of {group} away"):
            files.remove(f"{spool.directory(DIRECTORY)}/{group}{_LIMIT}")
            files.sync_directory(spool.directory(DIRECTORY))
        return
    _write(spool, f"{group}{_LIMIT}", {"jobs": most}, f"set the limit of {group}", here)


def limited(spool: Spool) -> set[str]:
    """The groups of which a file says how many jobs may run at once. Raises OSError."""
    names = (name for name, _ in files.listing(spool.directory(DIRECTORY)))
    return {group for name in names if (group := _group_of(name)) is not None}


def group_limits(spool: Spool) -> tuple[dict[str, int | None], dict[str, str]]:
    """The limits of groups, None for any number, and what is wrong with those that cannot be read.

    Listed afresh. Raises OSError if they cannot be listed.
    """
    found: dict[str, int | None] = {}
    wrong: dict[str, str] = {}
    for name, _ in files.listing(spool.directory(DIRECTORY)):
        if (group := _group_of(name)) is not None:
            try:
                found[group] = _read_group(spool, name)
            except FileNotFoundError:
                continue
            except (OSError, RecordError) as error:
                wrong[group] = _why(error)
    return found, wrong


def _write(spool: Spool, name: str, value: dict[str, Any], doing: str, here: str) -> None:
    with files.explained(doing):
        temporary = spools.temporary_of(spool, here, json.dumps(value).encode() + b"\n")
        files.replace(temporary, f"{spool.directory(DIRECTORY)}/{name}")
        files.sync_directory(spool.directory(DIRECTORY))


# ---------------------------------------------------------------- reading


@functools.cache
def _drain_validator() -> SchemaValidator:
    from roundq.words import schema as of

    return of.SchemaValidator(
        of.fields(
            reason=of.fallback(of.text, ""),
            by=of.fallback(of.text, ""),
            at=of.fallback(of.moment, {"secs": 0, "nanos": 0}),
        )
    )


@functools.cache
def _limit_validator() -> SchemaValidator:
    from roundq.words import schema as of

    return of.SchemaValidator(
        of.fields(cores=of.optional(of.natural(LIMIT_MAX)), jobs=of.optional(of.natural(LIMIT_MAX)))
    )


@functools.cache
def _group_validator() -> SchemaValidator:
    from roundq.words import schema as of

    return of.SchemaValidator(of.fields(jobs=of.optional(of.natural(LIMIT_MAX))))


def _content(spool: Spool, name: str) -> bytes:
    path = f"{spool.directory(DIRECTORY)}/{name}"
    return files.read(path, most=BYTES_MAX, owner=spool.uid, only_owner_writes=True)


def _valid(data: bytes, validator: SchemaValidator) -> dict[str, Any]:
    from roundq.words import schema

    try:
        value: dict[str, Any] = validator.validate_python(schema.loads(data))
    except RecursionError:
        raise RecordError("it is nested too deeply") from None
    except ValueError as error:
        raise RecordError(formats.finding(error)) from None
    return value


def _node_of(name: str) -> str | None:
    """The node that a name in `control/` drains, if it is such a name."""
    node = name.removesuffix(_DRAIN)
    if node == name or not node or not name.isprintable() or is_foreign(name) or is_foreign(node):
        return None
    return node


def _group_of(name: str) -> str | None:
    """The group whose limit a name in `control/` says, if it is such a name."""
    group = name.removesuffix(_LIMIT)
    return None if group == name or not group or not name.isprintable() or is_foreign(name) else group


def _read_drain(spool: Spool, name: str) -> Drain:
    data = _content(spool, name)
    if not data.strip():
        # Somebody who only touched it meant it, too.
        return Drain(spool.user)
    value = _valid(data, _drain_validator())
    return Drain(
        first_line(value["by"]) or spool.user, first_line(value["reason"]), formats.to_ns(value["at"])
    )


def _read_limit(spool: Spool) -> Limit:
    value = _valid(_content(spool, LIMITS), _limit_validator())
    return Limit(value["cores"], value["jobs"])


def _read_group(spool: Spool, name: str) -> int | None:
    most: int | None = _valid(_content(spool, name), _group_validator())["jobs"]
    return most


def _read_of_group(spool: Spool, name: str) -> dict[str, int | None]:
    return {name.removesuffix(_LIMIT): _read_group(spool, name)}


def _why(error: OSError | RecordError) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


# ---------------------------------------------------------------- the daemon


class Control:
    """What one daemon remembers of `control/`: the drain of its node, the limits, and what is wrong there."""

    def __init__(self, spool: Spool, node: str) -> None:
        self.spool, self.node = spool, node
        self.drain: Drain | None = None
        self.limit = Limit()
        #: How many jobs of each group may run at once, None for any number; others have no file.
        self.groups: dict[str, int | None] = {}
        self.trouble: list[str] = []
        self.freshness = files.Freshness(spool.directory(DIRECTORY))

    def look(self, now_s: float) -> None:
        """Brings all that up to date. `now_s` is monotonic. Raises OSError if it cannot be listed."""
        if not self.freshness.is_due(now_s) and not self.trouble:
            return
        try:
            names = {name for name, _ in files.listing(self.freshness.directory)}
        except OSError:
            self.freshness.forget()
            raise
        self.trouble = []
        self.drain, self.limit = self._drain(names), self._limit(names)
        self.groups = self._groups(names)

    def _drain(self, names: set[str]) -> Drain | None:
        name = f"{self.node}{_DRAIN}"
        if name not in names:
            return None
        return self._read(
            name, _read_drain, None, Drain(self.spool.user), "this node is drained all the same"
        )

    def _limit(self, names: set[str]) -> Limit:
        if LIMITS not in names:
            return Limit()
        holds = "no limit of yours holds" if self.limit == Limit() else "what it said before holds"
        return self._read(LIMITS, lambda spool, _: _read_limit(spool), Limit(), self.limit, holds)

    def _groups(self, names: set[str]) -> dict[str, int | None]:
        found: dict[str, int | None] = {}
        for name in sorted(names):
            if (group := _group_of(name)) is None:
                continue
            before = {group: self.groups[group]} if group in self.groups else {}
            holds = "what it said before holds" if before else f"it does not limit {group_text(group)}"
            found |= self._read(name, _read_of_group, {}, before, holds)
        return found

    def _read(self, name: str, read: Callable[[Spool, str], T], gone: T, broken: T, so: str) -> T:
        try:
            return read(self.spool, name)
        except FileNotFoundError:
            # Removed since it was listed.
            return gone
        except (OSError, RecordError) as error:
            # While it is told it is read in every round: what is mended in place changes no directory.
            self.trouble.append(f"{DIRECTORY}/{name}: {_why(error)}; {so}")
            return broken
