"""Why no node that is known could ever run a job, in a sentence: a warning at its submission.

Called by `actors.submission.check`. Nodes come, and are given more, so it refuses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple

from roundq.records.cards import DRAINING, Card
from roundq.words.job import Job
from roundq.words.limits import Limit
from roundq.words.quantities import ALL_CORES, format_memory, visible
from roundq.words.resources import gpus_text, licenses_text
from roundq.words.room import cores_text

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
    nodes = _nodes(known, me)
    return (
        _over_limit(job, nodes, limit or Limit())
        or _no_license(job, nodes, pool or {})
        or (_nowhere(job, nodes, pool or {}) if nodes else None)
    )


class _Node(NamedTuple):
    """A node as the best card of it tells; `drained` is why nothing of mine starts there, if nothing does."""

    name: str
    cores: int
    memory: int
    gpus: int
    features: frozenset[str]
    licenses: Mapping[str, int]
    drained: str | None


def _nodes(known: Iterable[Card], me: str) -> list[_Node]:
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
        found.append(
            _Node(
                name,
                best.capacity,
                # A 0.2.9 card does not tell the memory.
                best.memory or _UNKNOWN_MEMORY,
                max(len(card.gpus) for card in cards),
                frozenset(word for card in cards for word in card.features),
                {name: count for card in cards for name, count in card.licenses},
                reasons[0] if len(reasons) == len(here) else None,
            )
        )
    return sorted(found, key=lambda node: (-node.cores, node.name))


# ---------------------------------------------------------------- what holds everywhere


def _over_limit(job: Job, nodes: list[_Node], limit: Limit) -> str | None:
    if limit.jobs == 0 or limit.cores == 0:
        which = "jobs" if limit.jobs == 0 else "cores"
        return f"your limit is 0 running {which}: the job waits until it is raised"
    if limit.cores is None:
        return None
    # A whole node is at least the smallest of those that it could be.
    cores = job.cores or min((node.cores for node in nodes if node.cores), default=0)
    if cores <= limit.cores:
        return None
    needs = cores_text(cores) if job.cores else f"a whole node, of {cores_text(cores)} at least"
    return (
        f"your limit is {limit.cores} running core{'s' * (limit.cores > 1)}, and the job needs {needs}:"
        " it waits until the limit is raised"
    )


def _no_license(job: Job, nodes: list[_Node], pool: Mapping[str, int]) -> str | None:
    """Which license nobody has told of, or of which there are too few in the whole cluster."""
    of_nodes = {name for node in nodes for name in node.licenses}
    for name, count in job.licenses:
        # Those that a node has of its own are on its card.
        if nodes and name not in pool and name not in of_nodes:
            import difflib

            near = difflib.get_close_matches(name, [*pool, *of_nodes], n=1)
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

    has: Callable[[_Node], bool]
    most: Callable[[_Node], float]
    none: Callable[[_Node], str]
    lacks: Callable[[_Node], str]


def _aspects(job: Job, pool: Mapping[str, int]) -> list[_Aspect]:
    asked = []
    if job.nodes:
        asked.append(
            _Aspect(
                lambda node: _is_like(node, job.nodes),
                lambda _: 0,
                lambda _: f"is called {_or(job.nodes)}",
                lambda _: f"is not called {_or(job.nodes)}",
            )
        )
    if job.exclude:
        asked.append(
            _Aspect(
                lambda node: not _is_like(node, job.exclude),
                lambda _: 0,
                lambda _: f"is left by --exclude {','.join(job.exclude)}",
                lambda _: "is excluded",
            )
        )
    asked += [_feature(word) for word in job.features]
    if job.cores != ALL_CORES:
        asked.append(
            _Aspect(
                lambda node: job.cores <= node.cores,
                lambda node: node.cores,
                lambda most: f"has {cores_text(job.cores)}; the largest is {most.name} with {most.cores}",
                lambda node: f"has {node.cores} of {cores_text(job.cores)}",
            )
        )
    if job.memory_required:
        needs = f"{format_memory(job.memory_required)} of memory"
        asked.append(
            _Aspect(
                lambda node: job.memory_required <= node.memory,
                lambda node: node.memory,
                lambda most: f"has {needs}; the largest is {most.name} with {format_memory(most.memory)}",
                lambda node: f"has {format_memory(node.memory)} of {needs}",
            )
        )
    if job.gpus:
        asked.append(
            _Aspect(
                lambda node: job.gpus <= node.gpus,
                lambda node: node.gpus,
                lambda most: (
                    f"has {gpus_text(job.gpus)}"
                    + (f"; the most has {most.name} with {most.gpus}" if most.gpus else "")
                ),
                lambda node: f"has {node.gpus or 'none'} of {gpus_text(job.gpus)}",
            )
        )
    asked += [_license(name, count) for name, count in job.licenses if name not in pool]
    return asked


def _feature(word: str) -> _Aspect:
    return _Aspect(
        lambda node: word in node.features,
        lambda _: 0,
        lambda _: f"has the feature {word}",
        lambda _: f"has no {word}",
    )


def _license(name: str, count: int) -> _Aspect:
    def has(node: _Node) -> int:
        return node.licenses.get(name, 0)

    return _Aspect(
        lambda node: count <= has(node),
        has,
        lambda most: f"has {licenses_text([(name, count)])}; the most has {most.name} with {has(most)}",
        lambda node: f"has {has(node) or 'none'} of {licenses_text([(name, count)])}",
    )


def _is_like(node: _Node, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(node.name, pattern) for pattern in patterns)


def _is_asked_for(node: _Node, job: Job) -> bool:
    return (not job.nodes or _is_like(node, job.nodes)) and not _is_like(node, job.exclude)


def _or(words: Iterable[str]) -> str:
    return " or ".join(words)


def _nowhere(job: Job, nodes: list[_Node], pool: Mapping[str, int]) -> str | None:
    aspects = _aspects(job, pool)
    able = [node for node in nodes if all(aspect.has(node) for aspect in aspects)]
    if able:
        return _drained(able)
    for aspect in aspects:
        if not any(map(aspect.has, nodes)):
            return f"no known node {aspect.none(max(nodes, key=aspect.most))}: {_WAITS}"
    lacking = {
        node.name: [aspect.lacks(node) for aspect in aspects if not aspect.has(node)] for node in nodes
    }
    # The nodes that are asked for come before others, and of those that lack as much the largest.
    nearest = min(nodes, key=lambda node: (not _is_asked_for(node, job), len(lacking[node.name])))
    if not (job.nodes or job.exclude or job.features or job.gpus or job.licenses):
        both = f"{cores_text(job.cores)} and {format_memory(job.memory_required)} of memory"
        has = f"{cores_text(nodes[0].cores)} and {format_memory(nodes[0].memory)}"
        return f"no known node has both {both}; the largest is {nodes[0].name} with {has}: {_WAITS}"
    return (
        f"no known node has all that it asks for; {nearest.name} comes nearest, but"
        f" {' and '.join(lacking[nearest.name])}: {_WAITS}"
    )


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
