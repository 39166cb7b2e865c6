"""Who occupies this node: everybody's jobs here, as cards, 0.2.9's files and the process table tell.

The one place where the jobs of other users on this node are counted. It changes
nothing; what may start beside them is for policy to say.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from roundq.records import cards, neighbours
from roundq.records.cards import Card, Occupant
from roundq.records.neighbours import Seen
from roundq.records.spool import Spool
from roundq.words import titles
from roundq.words.errors import RecordError
from roundq.words.job import NS, Identity
from roundq.words.policy import Claim, Holding
from roundq.words.states import CLAIMED, RUNNING
from roundq.words.titles import Title
from roundq.world import owners, procs, reading
from roundq.world.named import Bearers
from roundq.world.node import hardware_threads
from roundq.world.offspring import Offspring

#: Supervisors of one user that count: so many, or `PER_THREAD` for each hardware thread. An honest one, with
#: a core or thread for each, is far below, and whoever has more has taken the whole node with these.
SUPERVISORS_MIN, PER_THREAD = 64, 4


#: A job whose daemon stopped is over for certain so long after its time limit, whatever its grace.
OVER_S = 300.0


class Lodger(NamedTuple):
    """A job on this node, of anyone, and its owner."""

    user: str
    job: Occupant


class Told(NamedTuple):
    """A supervisor of another user, and what its title tells."""

    process: Identity
    uid: int
    title: Title


class Supervisors:
    """The supervisors of others on this node, as the process table tells; whatever they say is bounded."""

    def __init__(self) -> None:
        self._threads = hardware_threads()
        self._bearers = Bearers(titles.SUPERVISOR, max(SUPERVISORS_MIN, PER_THREAD * self._threads))

    def look(self, but: int, now_s: float) -> list[Told]:
        """Those now, without those of the user `but`; `now_s` is monotonic. Only here titles are read."""
        return [
            Told(one.process, one.uid, title)
            for one in self._bearers.look(but, now_s)
            if (title := titles.parse(one.title, self._threads)) is not None
        ]


def on_card(card: Card, uid: int, daemon_lives: bool) -> list[Lodger]:
    """The jobs of a card of this node that really are here: a dead process occupies nothing.

    A claim that has no process yet counts while the daemon lives that will start it. One supervisor leads
    one job, and is a process of the user: else a card could occupy a node with what somebody else runs.
    """
    found = []
    met: set[Identity] = set()
    for job in card.jobs:
        if job.process is None:
            is_here = daemon_lives
        else:
            is_here = job.process not in met and procs.liveness(job.process, uid) is not procs.Liveness.DEAD
            met.add(job.process)
        if is_here:
            found.append(Lodger(card.user, job))
    return found


def others_here(
    spools: Iterable[Spool],
    me: str,
    node: str,
    seen: Iterable[Seen] = (),
    supervisors: Iterable[Told] = (),
) -> list[Lodger]:
    """Everybody else's jobs on this node, read now. For the check after a claim, which must not be late.

    Cards of this node are written by this node's processes, so that its NFS client shows the newest. One
    that an error of the server hides is as it was `seen` last: that is no proof that nobody is there.
    What runs of users without a card that can be read is told by their `supervisors`, in the process table.
    """
    found: list[Lodger] = []
    told: set[int] = set()
    others = [spool for spool in spools if spool.user != me]
    read = reading.each(
        [
            spool.way.call("read", f"{spool.path}/{node}", most=cards.CARD_BYTES_MAX, owner=spool.uid)
            for spool in others
        ]
    )
    for spool, content in zip(others, read, strict=True):
        if isinstance(content, (FileNotFoundError, NotADirectoryError, PermissionError, RecordError)):
            continue
        if isinstance(content, OSError):
            last = [one.card for one in seen if one.spool.path == spool.path and one.card.node == node]
            if not last:
                continue
            card = last[0]
        else:
            try:
                card = cards.of_node(content, spool, node)
            except RecordError:
                continue
            told.add(spool.uid)
        if card.is_legacy:
            found += [Lodger(spool.user, job) for job in neighbours.legacy_here(spool, node)]
        else:
            found += on_card(card, spool.uid, neighbours.daemon_lives(card, spool.uid))
    known = {lodger.job.process for lodger in found}
    unseen = [one for one in supervisors if one.uid not in told and one.process not in known]
    return found + by_process(unseen, {spool.uid: spool.user for spool in others}, me)


def by_process(supervisors: Iterable[Told], users: Mapping[int, str], me: str) -> list[Lodger]:
    """The jobs of these supervisors, as their titles tell; whoever invents one takes room as its own user.

    `users` are the names by which users are known; nobody else bears one of them, or mine.
    """
    found = []
    taken = {me, *users.values()}
    for process, uid, title in supervisors:
        account = owners.account(uid)
        user = users.get(uid) or (str(uid) if account in taken else account)
        job = Occupant(
            title.id,
            RUNNING,
            title.cores,
            title.memory,
            False,
            0,
            True,
            process=process,
            cpus=title.cpus,
            gpus=title.gpus,
            threads=title.threads,
        )
        found.append(Lodger(user, job))
    return found


def own_legacy(spool: Spool, node: str) -> list[Lodger]:
    """Jobs that a 0.2.9 daemon of this very user runs on this node."""
    return [Lodger(spool.user, job) for job in neighbours.legacy_here(spool, node)]


def cores_of(card: Card) -> int:
    """The cores of its node that the jobs of a card take, at most those that the node has."""
    promised = sum(_cores(card, job) for job in card.jobs if not job.threads)
    return min(promised, max(card.cores, card.logical_cpus))


def counted_cores(card: Card) -> int:
    """The cores that count for its user: what scavenges counts for nobody."""
    promised = sum(_cores(card, job) for job in card.jobs if not job.scavenge)
    return min(promised, max(card.cores, card.logical_cpus))


def promised(card: Card) -> int:
    """The cores of all its jobs."""
    return sum(_cores(card, job) for job in card.jobs)


def _cores(card: Card, job: Occupant) -> int:
    return card.cores if job.exclusive else job.cores or card.cores


def emptied(seen: Iterable[Seen]) -> set[tuple[str, str, int]]:
    """User, node and beat of the cards of which another daemon of that user says that their jobs are gone."""
    return {
        (one.card.user, node, beat)
        for one in seen
        if one.is_alive
        for node, beat in one.card.emptied
        if node != one.card.node
    }


def standing(seen: Iterable[Seen]) -> list[Seen]:
    """The cards of living daemons, and of those that stopped what may run on, as far as that is known.

    Not what a reboot has ended, nor where nobody has been heard of for long, nor what its user calls gone.
    """
    cards_of_all = list(seen)
    booted = {
        (one.card.node, one.card.process.boot)
        for one in cards_of_all
        if one.is_alive and one.card.process is not None
    }
    gone = emptied(cards_of_all)
    found = []
    for one in cards_of_all:
        card, process = one.card, one.card.process
        if not one.is_alive:
            is_up = process is not None and (card.node, process.boot) in booted
            if one.silent_s >= neighbours.SILENT_S and not is_up:
                continue
            if (card.user, card.node, card.beat) in gone:
                continue
            # The card is as old as its silence, and all times on it are of one clock.
            now_ns = card.written_ns + round(one.silent_s * NS)
            jobs = tuple(job for job in card.jobs if not _is_over(job, now_ns))
            one = replace(one, card=replace(card, jobs=jobs))
        found.append(one)
    return found


def _is_over(job: Occupant, now_ns: int) -> bool:
    return job.limit_s is not None and left_s(job, ran_s(job, now_ns), OVER_S) is None


def running_cores(seen: Iterable[Seen]) -> dict[str, int]:
    """Cores that count for each user in the whole cluster, as far as is known."""
    total: dict[str, int] = {}
    legacy: dict[str, Spool] = {}
    alive: dict[str, set[str]] = {}
    for one in standing(seen):
        card = one.card
        if card.is_legacy:
            legacy[card.user] = one.spool
            alive.setdefault(card.user, set()).add(card.node)
            continue
        total[card.user] = total.get(card.user, 0) + counted_cores(card)
    for user, spool in legacy.items():
        nodes = alive[user]
        cores = sum(job.cores or 1 for node, job in neighbours.legacy_occupants(spool) if node in nodes)
        total[user] = total.get(user, 0) + cores
    return total


def memory_unused(job: Occupant, table: Offspring) -> int:
    """Bytes that were promised to a job and that it does not use yet: they are not free for others."""
    if not job.memory:
        return 0
    if job.process is None:
        return job.memory
    if job.used is None:
        # What its processes share would count for each of them.
        return max(0, job.memory - table.largest(job.process))
    return max(0, job.memory - min(job.used, table.rss(job.process)))


def resident(job: Occupant, table: Offspring) -> int | None:
    """Bytes that are free at most when a job has ended; None where its processes are not seen."""
    if job.process is None:
        return 0 if job.state == CLAIMED else None
    return table.rss(job.process) if table.has(job.process) else None


def ran_s(job: Occupant, now_ns: int) -> float:
    """For how many seconds a job has run by its node's clock; 0 if it has not begun."""
    return max(0.0, (now_ns - job.since_ns) / NS) if job.since_ns else 0.0


def left_s(job: Occupant, age_s: float, grace_s: float) -> float | None:
    """In how many seconds a job is over at the latest, its grace included; None if that is not known.

    What ought to be over tells nothing of its end.
    """
    if job.limit_s is None or age_s >= job.limit_s + grace_s:
        return None
    return job.limit_s + grace_s - age_s


def holding(
    lodger: Lodger, table: Offspring, now_ns: int, *, unattended: bool = False, grace_s: float = 0.0
) -> Holding:
    """A job here as the decision sees it; `now_ns` is this node's clock, by which it began."""
    job = lodger.job
    age_s = ran_s(job, now_ns)
    return Holding(
        lodger.user,
        job.id,
        job.cores,
        memory_unused(job, table),
        job.exclusive,
        gpus=len(job.gpus),
        licenses=job.licenses,
        left_s=left_s(job, age_s, grace_s),
        age_s=age_s,
        restartable=job.restartable,
        scavenge=job.scavenge,
        threads=job.threads,
        memory=job.memory,
        leaving=job.leaving,
        resident=resident(job, table),
        unattended=unattended,
    )


def claim(lodger: Lodger, table: Offspring) -> Claim:
    """A job here as the check after a claim sees it."""
    job = lodger.job
    return Claim(
        lodger.user,
        job.cores,
        memory_unused(job, table),
        job.exclusive,
        job.stamp_ns,
        job.settled,
        job.id,
        cpus=job.cpus[: job.cores],
        gpus=job.gpus,
        licenses=job.licenses,
        threads=job.threads,
        groups=job.groups,
    )


def claim_elsewhere(lodger: Lodger, node: str, pool: Collection[str]) -> Claim:
    """A job on another node as that check sees it: only what the cluster has in common counts here."""
    job = lodger.job
    licenses = tuple((name, count) for name, count in job.licenses if name in pool)
    return Claim(
        lodger.user,
        job.cores,
        stamp_ns=job.stamp_ns,
        settled=job.settled,
        id=job.id,
        node=node,
        licenses=licenses,
        groups=job.groups,
    )
