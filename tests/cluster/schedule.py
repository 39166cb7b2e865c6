"""A random schedule of everything that can go wrong on a cluster: made from a seed, before anything runs.

Pure: the same seed gives the same schedule. `python -m tests.cluster.soak` plays it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

#: What befalls a whole node, which is then left alone until it is over: how often, and for how long at most.
OF_NODES: dict[str, tuple[int, float]] = {
    "crash": (4, 3.0),
    "freeze": (3, 8.0),
    "cut off": (3, 8.0),
    "EIO": (2, 5.0),
    "read-only": (2, 5.0),
    "full at write": (2, 5.0),
    "full at close": (2, 5.0),
    "full at rename": (2, 5.0),
    "over quota": (2, 5.0),
    "slow": (2, 5.0),
    "hang": (2, 5.0),
    "lost replies": (3, 8.0),
}
#: What befalls one user on one node, at once.
OF_USERS: dict[str, int] = {
    "kill daemon": 4,
    "kill a supervisor": 3,
    "kill supervisors": 2,
    "kill all": 2,
    "take over": 4,
}
CHANGES = ["create", "mknod", "mkdir", "symlink", "link", "rename", "unlink", "rmdir", "write", "setattr"]
#: The rules of faults that make the home of a node misbehave so.
RULES: dict[str, dict[str, Any]] = {
    "EIO": {"errno": "EIO", "prob": 0.5},
    "read-only": {"op": CHANGES, "errno": "EROFS"},
    "full at write": {"op": ["write", "fsync"], "errno": "ENOSPC"},
    "full at close": {"op": "flush", "match": "/tmp/|[.]out$", "errno": "ENOSPC"},
    "full at rename": {"op": ["rename", "link", "create"], "errno": "ENOSPC"},
    "over quota": {"op": ["write", "flush"], "match": "/tmp/|[.]out$", "errno": "EDQUOT"},
    "slow": {"delay": 0.1},
    "hang": {"hang": True, "prob": 0.2},
    "lost replies": {"op": ["rename", "link"], "errno": "EIO", "when": "after", "prob": 0.3},
}


@dataclass(order=True)
class Event:
    """At so many seconds from the start: this, there, for so long."""

    at_s: float
    kind: str
    node: str
    user: str = ""
    lasts_s: float = 0.0
    more: dict[str, Any] = field(default_factory=dict, compare=False)

    def __str__(self) -> str:
        lasts = f" for {self.lasts_s:.1f} s" if self.lasts_s else ""
        more = "".join(f" {key}={value}" for key, value in self.more.items())
        return f"{self.at_s:8.2f} {self.kind} {self.node} {self.user}{lasts}{more}".rstrip()


def schedule(seed: int, seconds: float, nodes: Sequence[str], users: Sequence[str]) -> list[Event]:
    """All that happens in so many seconds: faults, and what users do meanwhile."""
    chance = random.Random(seed)
    events: list[Event] = []
    for node in nodes:
        at_s = chance.uniform(0.5, 4)
        while at_s < seconds:
            kinds, weights = list(OF_NODES), [weight for weight, _ in OF_NODES.values()]
            kind = chance.choices(kinds, weights)[0]
            lasts_s = min(chance.uniform(0.2, 1) * OF_NODES[kind][1], max(0.5, seconds - at_s))
            events.append(Event(at_s, kind, node, lasts_s=lasts_s))
            at_s += lasts_s + chance.uniform(1, 6)
    at_s = 0.0
    while (at_s := at_s + chance.uniform(0.3, 2)) < seconds:
        kind = chance.choices(list(OF_USERS), list(OF_USERS.values()))[0]
        events.append(Event(at_s, kind, chance.choice(nodes), chance.choice(users)))
    at_s = 0.0
    while at_s < seconds:
        node, user = chance.choice(nodes), chance.choice(users)
        kind = chance.choices(["submit", "cancel", "restart"], [6, 1, 1])[0]
        more = {"chance": chance.randrange(1 << 32)}
        events.append(Event(at_s, kind, node, user, more=more))
        at_s += chance.uniform(0.1, 1.0)
    return sorted(events)
