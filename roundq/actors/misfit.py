"""Why no node that is known could ever run a job, in a sentence: a warning at its submission.

Called by `actors.submission.check`. Nodes come, and are given more, so it refuses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple

from roundq.records.cards import DRAINING, Card
from roundq.words import room
from roundq.words.job import Job
from roundq.words.limits import Limit
from roundq.words.quantities import ALL_CORES, format_memory, visible
from roundq.words.room import Need, Site, below_text, cores_text, gpus_text, licenses_here, licenses_text

#: Nodes that are named.
_NAMED_MOST = 3
_UNKNOWN_MEMORY = 1 << 62
_WAITS = "the job waits until one appears"


def misfit(
    job: Job,
    known: Iterable[Card],
    me: str,
    pool: Mapping[str, int] | None = None,
    limit: Limit | None = None,
) -> str | None:
    """Why no node that anybody's card tells of could run the job, None if one could or none is known.

    `me` is my name on the cards, `pool` the licenses of the whole cluster, `limit` what I may have.
    """
    nodes = _nodes(known, me, pool or {})
    return (
        _over_limit(job, nodes, limit or Limit())
        or _no_license(job, nodes, pool or {})
        or (_nowhere(job, nodes) if nodes else None)
    )


class _Node(NamedTuple):
    """A node as the best card of it tells; `drained` is why nothing of mine starts there, if nothing does."""

    site: Site
    drained: str | None

    @property
    def name(self) -> str:
        return self.site.node


def _nodes(known: Iterable[Card], me: str, pool: Mapping[str, int]) -> list[_Node]:
    """The nodes, the largest first. Users may offer different parts of one: the largest counts."""
    of: dict[str, list[Card]] = {}
    for card in known:
        of.setdefault(card.node, []).append(card)
    found = []
    for name, cards in of.items():
        best = max(cards, key=lambda card: card.capacity)
        # My drains hold for me alone; where I have no card, a drain of everybody is the administrator's.
        here = [card for card in cards if card.user == me] or cards
        reasons = [card.reason for card in here if card.state == DRAINING]
        own = {license_: count for card in cards for license_, count in card.licenses}
        site = Site(
            name,
            best.capacity,
            # A 0.2.9 card does not tell the memory.
            best.memory or _UNKNOWN_MEMORY,
            max(len(card.gpus) for card in cards),
            frozenset(word for card in cards for word in card.features),
            licenses_here(own, pool),
        )
        found.append(_Node(site, reasons[0] if len(reasons) == len(here) else None))
    return sorted(found, key=lambda node: (-node.site.cores, node.name))


# ---------------------------------------------------------------- what holds everywhere


def _over_limit(job: Job, nodes: list[_Node], limit: Limit) -> str | None:
    if limit.jobs == 0 or limit.cores == 0:
        which = "jobs" if limit.jobs == 0 else "cores"
        return f"your limit is 0 running {which}: the job waits until it is raised"
    if limit.cores is None:
        return None
    # A whole node is at least the smallest of those that it could be.
    cores = job.cores or min((node.site.cores for node in nodes if node.site.cores), default=0)
    if cores <= limit.cores:
        return None
    needs = cores_text(cores) if job.cores else f"a whole node, of {cores_text(cores)} at least"
    return (
        f"your limit is {limit.cores} running core{'s' * (limit.cores > 1)}, and the job needs {needs}:"
        " it waits until the limit is raised"
    )


def _no_license(job: Job, nodes: list[_Node], pool: Mapping[str, int]) -> str | None:
    """Which license nobody has told of, or of which there are too few in the whole cluster."""
    # Those that a node has of its own are on its card.
    there = {name for node in nodes for name, _ in node.site.licenses}
    for name, count in job.licenses:
        if nodes and name not in there:
            import difflib

            near = difflib.get_close_matches(name, sorted(there), n=1)
            meant = f" (did you mean {visible(near[0])}?)" if near else ""
            return f"no license {name} is known here{meant}: the job waits until there is one"
        if name in pool and pool[name] < count:
            return (
                f"the cluster has {pool[name]} {name} license{'s' * (pool[name] != 1)}, and the job needs"
                f" {count}: it waits until there are more"
            )
    return None


# ---------------------------------------------------------------- what a node lacks


class _Aspect(NamedTuple):
    """Something that a job asks of a node: whether one has it, how much, and two sentences.

    `none` is said if no node has it, of the node that has most; `lacks` of one that has not.
    """

    has: Callable[[Site], bool]
    most: Callable[[Site], float]
    none: Callable[[Site], str]
    lacks: Callable[[Site], str]


def _aspects(job: Job) -> list[_Aspect]:
    asked = []
    if job.nodes:
        names = " or ".join(job.nodes)
        asked.append(
            _Aspect(
                lambda site: _is_like(site, job.nodes),
                lambda _: 0,
                lambda _: f"is called {names}",
                lambda _: f"is not called {names}",
            )
        )
    if job.exclude:
        asked.append(
            _Aspect(
                lambda site: not _is_like(site, job.exclude),
                lambda _: 0,
                lambda _: f"is left by --exclude {','.join(job.exclude)}",
                lambda _: "is excluded",
            )
        )
    asked += [_feature(word) for word in job.features]
    if job.cores != ALL_CORES:
        asked.append(
            _Aspect(
                lambda site: job.cores <= site.cores,
                lambda site: site.cores,
                lambda most: f"has {cores_text(job.cores)}; the largest is {most.node} with {most.cores}",
                lambda site: f"has {site.cores} of {cores_text(job.cores)}",
            )
        )
    if job.memory_required:
        needs = f"{format_memory(job.memory_required)} of memory"
        asked.append(
            _Aspect(
                lambda site: job.memory_required <= site.memory,
                lambda site: site.memory,
                lambda most: f"has {needs}; the largest is {most.node} with {_memory(most, job)}",
                lambda site: f"has {_memory(site, job)} of {needs}",
            )
        )
    if job.gpus:
        asked.append(
            _Aspect(
                lambda site: job.gpus <= site.gpus,
                lambda site: site.gpus,
                lambda most: (
                    f"has {gpus_text(job.gpus)}"
                    + (f"; the most has {most.node} with {most.gpus}" if most.gpus else "")
                ),
                lambda site: f"has {site.gpus or 'none'} of {gpus_text(job.gpus)}",
            )
        )
    return asked + [_license(name, count) for name, count in job.licenses]


def _feature(word: str) -> _Aspect:
    return _Aspect(
        lambda site: word in site.features,
        lambda _: 0,
        lambda _: f"has the feature {word}",
        lambda _: f"has no {word}",
    )


def _license(name: str, count: int) -> _Aspect:
    def has(site: Site) -> int:
        return dict(site.licenses).get(name, 0)

    needs = licenses_text(name, count)
    return _Aspect(
        lambda site: count <= has(site),
        has,
        lambda most: f"has {needs}; the most has {most.node} with {has(most)}",
        lambda site: f"has {has(site) or 'none'} of {needs}",
    )


def _memory(site: Site, job: Job) -> str:
    return below_text(site.memory, job.memory_required)


def _is_like(site: Site, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(site.node, pattern) for pattern in patterns)


def _nowhere(job: Job, nodes: list[_Node]) -> str | None:
    # The rule is the policy's own; what follows only finds words for it.
    need = Need(job.cores, job.memory_required, job.gpus, job.licenses)
    findings = {
        node.name: room.misfit(need, node.site, job.nodes, job.exclude, job.features) for node in nodes
    }
    able = [node for node in nodes if findings[node.name] is None]
    if able:
        return _drained(able)
    sites, aspects = [node.site for node in nodes], _aspects(job)
    for aspect in aspects:
        if not any(map(aspect.has, sites)):
            return f"no known node {aspect.none(max(sites, key=aspect.most))}: {_WAITS}"
    if not (job.nodes or job.exclude or job.features or job.gpus or job.licenses):
        both = f"{cores_text(job.cores)} and {format_memory(job.memory_required)} of memory"
        has = f"{cores_text(sites[0].cores)} and {_memory(sites[0], job)}"
        return f"no known node has both {both}; the largest is {sites[0].node} with {has}: {_WAITS}"
    lacking = {
        site.node: [aspect.lacks(site) for aspect in aspects if not aspect.has(site)] for site in sites
    }
    # The nodes that are asked for come before others, and of those that lack as much the largest.
    nearest = min(sites, key=lambda site: (not _is_asked_for(site, job), len(lacking[site.node])))
    lacks = " and ".join(lacking[nearest.node]) or findings[nearest.node]
    return f"no known node has all that it asks for; {nearest.node} comes nearest, but {lacks}: {_WAITS}"


def _is_asked_for(site: Site, job: Job) -> bool:
    return (not job.nodes or _is_like(site, job.nodes)) and not _is_like(site, job.exclude)


def _drained(able: list[_Node]) -> str | None:
    """That nothing starts on any of these nodes, if that is so."""
    reasons = [(node.name, node.drained) for node in sorted(able, key=lambda node: node.name)]
    if any(reason is None for _, reason in reasons):
        return None
    told = [f"{name} ({visible(reason)})" if reason else name for name, reason in reasons[:_NAMED_MOST]]
    more = f" and {len(able) - _NAMED_MOST} more" if len(able) > _NAMED_MOST else ""
    which = (
        "the only known node that could run it is" if len(able) == 1 else "all nodes that could run it are"
    )
    return f"{which} draining: {', '.join(told)}{more}: the job waits until one is resumed"
