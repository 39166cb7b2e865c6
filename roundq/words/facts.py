"""Pure: the facts on which a decision depends, as the policy sees them. It judges none of them.

The daemon gathers them once a round (`actors/survey`); cards carry some of them to neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from roundq.words.groups import GroupLimit
from roundq.words.job import Job
from roundq.words.room import Counts, Need, Site, licenses_here


class Shape(NamedTuple):
    """What jobs that are treated alike have in common.

    `cores` 0 asks for the node alone; memory is in bytes. `licenses` are sorted names with counts.
    `limit_s` is the time limit as `coarse` gives it, None for none. `nodes` and `exclude` are patterns.
    `groups` are those of their groups that have a limit, which nobody but their user knows.
    """

    cores: int
    memory: int
    priority: int = 0
    gpus: int = 0
    licenses: Counts = ()
    limit_s: float | None = None
    scavenge: bool = False
    nodes: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()

    @property
    def need(self) -> Need:
        """What one of these jobs takes of a node."""
        return Need(self.cores, self.memory, self.gpus, self.licenses)

    @property
    def bare(self) -> Shape:
        """The shape without groups: all that others may tell these jobs by."""
        return self._replace(groups=()) if self.groups else self


def coarse(limit_s: float | None) -> float | None:
    """A time limit rounded up to 1, 2 or 5 times a power of ten, in minutes, so that there are few shapes."""
    if limit_s is None:
        return None
    step = 60.0
    while True:
        for factor in (1, 2, 5):
            if limit_s <= factor * step:
                return factor * step
        step *= 10


@dataclass(frozen=True, slots=True)
class Want:
    """A waiting job. `cores` 0 asks for the node alone; `memory` is in bytes, 0 asks for none.

    `kept_on` are the nodes that may be kept for it (what `keepers` says); None: any.
    The other fields are those of its `Shape`.
    """

    id: str
    cores: int
    memory: int
    submitted_ns: int
    priority: int = 0
    waited_s: float = 0.0
    kept_on: tuple[str, ...] | None = None
    gpus: int = 0
    licenses: Counts = ()
    limit_s: float | None = None
    scavenge: bool = False
    nodes: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()

    @property
    def shape(self) -> Shape:
        """What it has in common with those that are treated alike."""
        return Shape(
            self.cores,
            self.memory,
            self.priority,
            self.gpus,
            self.licenses,
            self.limit_s,
            self.scavenge,
            self.nodes,
            self.exclude,
            self.features,
            self.groups,
        )


def want_of(job_id: str, job: Job, submitted_ns: int, groups: tuple[str, ...] = ()) -> Want:
    """A waiting job as the policy sees it; `groups` are those of its groups that have a limit."""
    return Want(
        job_id,
        job.cores,
        job.memory_required,
        submitted_ns,
        job.priority,
        gpus=job.gpus,
        licenses=job.licenses,
        limit_s=coarse(job.time_limit_s),
        scavenge=job.scavenge,
        nodes=job.nodes,
        exclude=job.exclude,
        features=job.features,
        groups=groups,
    )


@dataclass(frozen=True, slots=True)
class Holding:
    """A job, of anyone, that occupies this node: claimed or running.

    `memory_unused` is what it was promised but does not use yet, in bytes. One that is `exclusive`, or whose
    cores are not resolved (0), has the node alone. `left_s` is when its time limit and its grace end it at
    the latest, None if that is not known; `age_s` since when it is here, in seconds. One on `threads` takes
    hardware threads that other jobs' cores left over, no cores. `memory` is all that it was promised, of
    which its end gives back what it uses. One that is `leaving` was asked to give way.
    `resident` are the bytes that its end gives back at most, promised or not; None if that is not known.
    One is `unattended` if its owner has no daemon here that would ask it to give way.
    """

    user: str
    id: str
    cores: int
    memory_unused: int = 0
    exclusive: bool = False
    gpus: int = 0
    licenses: Counts = ()
    left_s: float | None = None
    age_s: float = 0.0
    restartable: bool = False
    scavenge: bool = False
    threads: bool = False
    memory: int = 0
    leaving: bool = False
    resident: int | None = 0
    unattended: bool = False


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Another user with a live daemon on this node.

    `head` is the first job that it could start here at all, `others` the first of
    each further shape if they are known, `count` how many jobs wait. `cores_left` and
    `jobs_left` are what the user's limits still allow, None for no limit.
    """

    user: str
    head: Want | None
    count: int = 1
    others: tuple[Want, ...] = ()
    cores_left: int | None = None
    jobs_left: int | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a decision depends on.

    `cores` is the capacity that the node offers; `memory_available` is what the
    kernel reports, before `memory_unused` of the holdings is subtracted, in bytes.
    `draining` is the reason why nothing may start. `running_cores` counts running
    and claimed cores of each user in the whole cluster, but for what scavenges. `wants` come in any order;
    their ids are unique, and none of them is among the holdings.

    `threads` are the hardware threads beside the first ones of the cores that are offered; `gpus` those
    that no stranger uses, `gpus_busy` those that strangers use. `licenses` are those that this node has of
    its own, `pool` those of the cluster, `pool_used` what jobs on other nodes hold of these. `weights` and
    `usage` are of users: the share (1 if missing), and the decayed core-seconds as a part of what the
    cluster could have given.
    `active` are the users who have something running or waiting. `cluster_cores` and `cluster_free` count
    the live nodes. `cores_limit` and `jobs_limit` are my limits in the whole cluster, `jobs_running`
    what runs of mine, `cores_running` the cores of it, scavenging jobs too (`running_cores` if None).
    `may_requeue`: I may ask for a requeue here, of what scavenges only if one of mine `is_giving_way`
    anywhere. `yielding` are the users who have a restartable job on some live node. `groups` are the limits
    of the groups of my `wants`. `here_limit` are the cores that a worker of mine fills on this node, None
    where there is a daemon; `here_cores` those that all of my jobs have here. `grace_s` is for how long a job
    goes on at most after its time limit.
    """

    node: str
    me: str
    cores: int
    memory_total: int
    memory_available: int
    draining: str | None = None
    holdings: tuple[Holding, ...] = ()
    running_cores: Mapping[str, int] = field(default_factory=dict)
    wants: tuple[Want, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    patience_s: float = 600.0
    threads: int = 0
    gpus: int = 0
    features: frozenset[str] = frozenset()
    licenses: Mapping[str, int] = field(default_factory=dict)
    pool: Mapping[str, int] = field(default_factory=dict)
    pool_used: Mapping[str, int] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    usage: Mapping[str, float] = field(default_factory=dict)
    active: frozenset[str] = frozenset()
    cluster_cores: int = 0
    cluster_free: int = 0
    cores_limit: int | None = None
    jobs_limit: int | None = None
    jobs_running: int = 0
    may_requeue: bool = False
    is_giving_way: bool = False
    gpus_busy: int = 0
    cores_running: int | None = None
    yielding: frozenset[str] = frozenset()
    groups: Mapping[str, GroupLimit] = field(default_factory=dict)
    here_limit: int | None = None
    here_cores: int = 0
    grace_s: float = 0.0

    @property
    def site(self) -> Site:
        """What this node is, whoever is on it."""
        licenses = licenses_here(self.licenses, self.pool)
        return Site(
            self.node,
            self.cores,
            self.memory_total,
            self.gpus + self.gpus_busy,
            self.features,
            licenses,
            self.here_limit,
        )


class Verdict(NamedTuple):
    """What the decision says of the waiting jobs of one shape; small enough for a card.

    `starts_in_s` is within how many seconds, in whole minutes, the first of them starts, if nobody comes
    before it; None if that cannot be known.
    """

    shape: Shape
    says: str
    starts_in_s: float | None = None
