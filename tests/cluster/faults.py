"""What can go wrong with a file system, said as rules, and the messages that set them while it runs.

A rule is a JSON object:

    op      the operation or a list of them ("rename", "open", "lookup"...); default: all
    match   regular expression, searched in the path below the mount; for rename and link in "old -> new"
    uid     only requests of this user
    errno   "EIO"...: the caller gets this error
    when    "before" (default): nothing was done; "after": it was done and reported as failed, which is what
            a lost reply and a repeated request look like on NFS
    delay   seconds before it is done
    hang    true: it waits until released, or until the caller is killed, as on a hard mount;
            "D": not even a kill helps
    miss    regular expression: names that listings leave out
    dup     regular expression: names that listings give twice
    skip    so many matches pass first
    count   so many matches are hit, then the rule is used up
    prob    hit with this probability

The first rule that matches decides. nfsim applies them; box and tests send them with `control()`.
"""

from __future__ import annotations

import errno
import json
import re
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.cluster import fuse

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

# Never made to fail: the kernel does not wait for an answer, or cannot do without.
INFALLIBLE = frozenset({"forget", "batch_forget", "init", "interrupt", "destroy", "release", "releasedir"})

_KEYS = frozenset("op match uid errno when delay hang miss dup skip count prob".split())

Listing = list[tuple[bytes, int, int]]


@dataclass
class Rule:
    """One way to misbehave, and how often it did."""

    ops: frozenset[str]
    match: re.Pattern[str] | None
    uid: int | None
    errno: int
    after: bool
    delay: float
    hang: bool
    killable: bool
    miss: re.Pattern[str] | None
    dup: re.Pattern[str] | None
    skip: int
    count: int
    probability: float
    hits: int = field(default=0)

    @classmethod
    def parse(cls, said: Mapping[str, Any]) -> Rule:
        """Read a rule; a misspelled one is refused, since it would make a test pass that tests nothing."""
        if unknown := set(said) - _KEYS:
            raise ValueError(f"a rule has no {sorted(unknown)}, only {sorted(_KEYS)}")
        op = said.get("op", [])
        ops = frozenset([op] if isinstance(op, str) else op)
        if wrong := ops - set(fuse.OPERATIONS.values()) | ops & INFALLIBLE:
            raise ValueError(f"operations that cannot fail: {sorted(wrong)}")
        if said.get("when", "before") not in ("before", "after"):
            raise ValueError(f"when is before or after, not {said['when']!r}")
        if said.get("hang", False) not in (True, False, "D"):
            raise ValueError(f'hang is true or "D", not {said["hang"]!r}')

        def pattern(key: str) -> re.Pattern[str] | None:
            return re.compile(said[key]) if said.get(key) else None

        return cls(
            ops=ops,
            match=pattern("match"),
            uid=said.get("uid"),
            errno=_number(said["errno"]) if said.get("errno") else 0,
            after=said.get("when") == "after",
            delay=float(said.get("delay", 0.0)),
            hang=bool(said.get("hang")),
            killable=said.get("hang") != "D",
            miss=pattern("miss"),
            dup=pattern("dup"),
            skip=int(said.get("skip", 0)),
            count=int(said.get("count", -1)),
            probability=float(said.get("prob", 1.0)),
        )

    def hit(self, op: str, path: str, uid: int, chance: random.Random) -> bool:
        """Does this request meet the rule? If so it is counted."""
        if self.count == 0 or (self.ops and op not in self.ops):
            return False
        if self.uid is not None and self.uid != uid:
            return False
        if self.match and not self.match.search(path):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.probability < 1 and chance.random() >= self.probability:
            return False
        self.count -= 1
        self.hits += 1
        return True

    @property
    def of_listings(self) -> bool:
        return bool(self.miss or self.dup)

    def distort(self, listing: Listing) -> Listing:
        """A listing as the server gives it while somebody else changes the directory."""
        for pattern, times in ((self.miss, 0), (self.dup, 2)):
            if pattern:
                hit = [entry for entry in listing if pattern.search(_name(entry))]
                listing = [entry for entry in listing if not pattern.search(_name(entry))] + hit * times
        return listing


def _name(entry: tuple[bytes, int, int]) -> str:
    return "" if entry[0] in (b".", b"..") else entry[0].decode(errors="surrogateescape")


def _number(name: str) -> int:
    number = getattr(errno, name, None)
    if not isinstance(number, int):
        raise ValueError(f"there is no error {name!r}")
    return number


def control(path: str, **message: Any) -> dict[str, Any]:
    """Send one message to the nfsim that listens at `path` and return its answer.

    rules=[...] replaces all rules, add={...} appends one, partition=True cuts the node off and False heals
    it, release=True lets go of what hangs by a rule, set={...} changes mount options, trace=True begins to
    write down requests, get_trace=True returns them, quit=True flushes and ends. Every answer carries the
    numbers of nfsim's state.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind("")
        s.settimeout(10)
        s.sendto(json.dumps(message).encode(), path)
        answer: dict[str, Any] = json.loads(s.recv(1 << 20))
    if "error" in answer:
        raise ValueError(answer["error"])
    return answer
