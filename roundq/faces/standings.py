"""How users stand with each other: weights, what they used, what is due to them, whose turn comes next.

Pure, but for the groups of users, which the caller looks up. Everything is counted as the daemons count it,
by the policy's own words; of what cards do not tell nothing is said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from roundq.actors import occupancy, survey
from roundq.actors.usage import usage_of
from roundq.faces.cluster import Look
from roundq.records.cards import UP
from roundq.records.neighbours import Seen
from roundq.words.fairness import Shares, turn_key
from roundq.words.limits import Limit, Limits
from roundq.words.usage import part


@dataclass(frozen=True, slots=True)
class Standing:
    """One user. `usage` is in decayed core-seconds; `share` is the part of all cores that is due to the user
    now, by weight and usage, None for who has nothing running or waiting.

    `turn` is 1 for who goes next of those who wait, None for who does not wait or is at a limit
    (`is_at_limit`). `limit` is the administrator's, and of me also my own, the smaller of both.
    """

    weight: float = 1.0
    usage: float = 0.0
    share: float | None = None
    turn: int | None = None
    is_at_limit: bool = False
    limit: Limit = field(default_factory=Limit)


def standings(
    looked: Look,
    weights: Mapping[str, float],
    half_life_s: float,
    cores: int,
    limits: Limits,
    own: Limit,
) -> dict[str, Standing]:
    """The standing of each user who has a card, and mine. `weights` are of users, 1 if missing.

    `cores` are those of all live nodes, for who has no daemon; `own` are my limits.
    """
    me = looked.me.user
    used = usage_of(looked.seen, half_life_s)
    # As my daemons count it, where there are any.
    all_cores = survey.all_cores(looked.seen, me, "", 0) or cores
    shares = Shares(
        active=_active(looked),
        cluster_cores=all_cores,
        weights=weights,
        usage={user: part(usage, all_cores, half_life_s) for user, usage in used.items()},
    )
    order, limited = _turns(looked.seen, shares)
    found = {}
    for user in {me, *(one.card.user for one in looked.seen)}:
        limit = limits.limit_of(user)
        found[user] = Standing(
            weight=weights.get(user, 1.0),
            usage=used.get(user, 0.0),
            share=shares.fair(user) / all_cores if all_cores and user in shares.active else None,
            turn=order.index(user) + 1 if user in order else None,
            is_at_limit=user in limited,
            limit=limit.less(own) if user == me else limit,
        )
    return found


def _active(looked: Look) -> frozenset[str]:
    """The users who have something running or waiting, as far as living daemons say so."""
    found = {one.card.user for one in looked.seen if one.is_alive and (one.card.jobs or one.card.waiting)}
    found.update(job.spool.user for job in looked.occupied if not job.spool.path)
    if looked.waiting.get(looked.me):
        found.add(looked.me.user)
    return frozenset(found)


def _turns(seen: Iterable[Seen], shares: Shares) -> tuple[list[str], set[str]]:
    """The users who wait with what some node could start, in the order of their turns; who is at a limit."""
    seen = list(seen)
    running = occupancy.running_cores(seen)
    first: dict[str, tuple[bool, int]] = {}
    limited: set[str] = set()
    for one in seen:
        card = one.card
        if not one.is_alive or card.state != UP or not card.heads:
            continue
        if 0 in (card.cores_left, card.jobs_left):
            limited.add(card.user)
        # What scavenges comes after everybody's others, also after those of its user.
        head = min(card.heads, key=lambda one: one.scavenge)
        key = (head.scavenge, head.submitted_ns)
        first[card.user] = min(key, first.get(card.user, key))

    def turn(user: str) -> tuple[bool, tuple[tuple[float, ...], int, str]]:
        is_scavenging, submitted_ns = first[user]
        return is_scavenging, turn_key(shares.level(user, running.get(user, 0)), submitted_ns, user)

    return sorted(first.keys() - limited, key=turn), limited
