"""Our rule as it is played: the real `policy.decide`, asked by each user's daemon on each node.

Each daemon has a snapshot of its own, as `actors/survey` makes it; they claim in random order, and each start
wakes the others. Daemons that surely do nothing, since no job of theirs would fit nor could give way, are not
asked: it costs too much. What is started that does not fit would be withdrawn by the check after the claim.
"""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace

from roundq.actors import courtesy
from roundq.actors.survey import LEAVE_S
from roundq.words import policy, usage
from roundq.words.facts import Holding, Neighbour, Snapshot, Want
from roundq.words.fairness import Shares
from roundq.words.policy import End, Offer
from tests.bench.play import Attempt, Cluster, Rule
from tests.bench.workload import Job, Machine, Shape

PATIENCE_S = 600.0
HALF_LIFE_S = 7 * 86_400.0


class Ours(Rule):
    """Users' daemons in miniature."""

    name = "ours"

    def __init__(
        self, dice: random.Random, *, patience_s: float = PATIENCE_S, half_life_s: float = HALF_LIFE_S
    ) -> None:
        self.dice, self.patience_s, self.half_life_s = dice, patience_s, half_life_s
        self.usage: dict[str, float] = defaultdict(float)
        self.decisions = self.withdrawn = 0
        #: Whether a job was left to another machine for a moment.
        self._leaves = False
        self._usage_s = 0.0
        self._ran: dict[str, int] = {}
        self._known_s: dict[int, float] = {}
        self._changes: dict[str, int] = defaultdict(int)
        self._shares: tuple[int, Shares] = (-1, Shares(frozenset()))
        self._heads: dict[tuple[str, Machine], tuple[tuple[float, int, int], Neighbour]] = {}
        self._holdings: dict[str, tuple[tuple[float, int], tuple[Holding, ...]]] = {}
        self._offer: dict[str, tuple[tuple[float, int], Offer]] = {}
        self._kept_as_of = (-1.0, -1)
        #: What was chosen now, and before the last change.
        self._kept: dict[tuple[str, policy.Shape], tuple[str, ...]] = {}
        self._kept_before = self._kept
        #: Since when it is wished that jobs of a user on a machine give way, and when they do.
        self._wishes: dict[tuple[str, str], tuple[float, float]] = {}

    def submitted(self, cluster: Cluster, job: Job) -> None:
        # Who was requeued waits anew.
        self._known_s[job.number] = cluster.now_s
        self._changes[job.user] += 1

    def turn(self, cluster: Cluster) -> None:
        self._leaves = False
        self._decay(cluster)
        asked: dict[tuple[str, str], int] = {}
        while cluster.waiting:
            before = cluster.version
            pairs = self._pairs(cluster)
            here = {(user, machine.name) for user, machine in pairs}
            self._wishes = {key: wish for key, wish in self._wishes.items() if key in here}
            self.dice.shuffle(pairs)
            for user, machine in pairs:
                # Asked again without any change it would say the same.
                if asked.get((user, machine.name)) == cluster.version:
                    continue
                if self._may_start(cluster, user, machine) or self._may_give_way(cluster, user, machine):
                    asked[user, machine.name] = cluster.version
                    self._ask(cluster, user, machine)
                else:
                    self._wishes.pop((user, machine.name), None)
            if cluster.version == before:
                break
        self._ran = {user: cores for user, cores in cluster.running_cores.items() if cores}

    def again_s(self, cluster: Cluster) -> float | None:
        due = [due_s for _, due_s in self._wishes.values()]
        if self._leaves:
            due.append(cluster.now_s + LEAVE_S)
        return max(0.1, min(due) - cluster.now_s) if due else None

    # ------------------------------------------------------------ who is asked

    def _pairs(self, cluster: Cluster) -> list[tuple[str, Machine]]:
        pairs = []
        for machine in cluster.workload.machines:
            free = cluster.free[machine.name]
            users = set(cluster.waiting) if free.cores > 0 or free.threads > 0 else set()
            users.update(
                one.job.user for one in cluster.here[machine.name].values() if one.job.shape.restartable
            )
            pairs += [(user, machine) for user in sorted(users)]
        return pairs

    def _may_start(self, cluster: Cluster, user: str, machine: Machine) -> bool:
        free = cluster.free[machine.name]
        if free.cores < 1 and free.threads < 1:
            return False
        for shape in cluster.waiting.get(user, ()):
            if cluster.fits(machine, shape):
                return True
            if shape.cores > cluster.free_cores and cluster.fits(machine, shape, on_threads=True):
                if cluster.running_cores[user] < self._shares_of(cluster).fair(user):
                    return True
        return False

    def _may_give_way(self, cluster: Cluster, user: str, machine: Machine) -> bool:
        if cluster.stopping[user]:
            return False
        here = [one for one in cluster.here[machine.name].values() if one.job.shape.restartable]
        own = [one for one in here if one.job.user == user]
        if any(one.job.shape.scavenge for one in own):
            cores = cluster.free[machine.name].cores + sum(
                one.cores for one in here if one.job.shape.scavenge
            )
            if any(
                not shape.scavenge and cluster.able(machine, shape) and shape.cores <= cores
                for shapes in cluster.waiting.values()
                for shape in shapes
            ):
                return True
        shares = self._shares_of(cluster)
        if not own or cluster.running_cores[user] <= shares.fair(user):
            return False
        height = shares.level(user, cluster.running_cores[user]).height
        return all(
            shares.level(other, cluster.running_cores[other]).height <= height for other in cluster.yielding
        )

    def _shares_of(self, cluster: Cluster) -> Shares:
        if self._shares[0] != cluster.version:
            shares = Shares(
                self._active(cluster), cluster.cores, cluster.workload.weights, self._parts(cluster)
            )
            self._shares = (cluster.version, shares)
        return self._shares[1]

    def _active(self, cluster: Cluster) -> frozenset[str]:
        return frozenset(cluster.waiting).union(one.job.user for one in cluster.running.values())

    def _parts(self, cluster: Cluster) -> dict[str, float]:
        return {user: usage.part(used, cluster.cores, self.half_life_s) for user, used in self.usage.items()}

    def _ask(self, cluster: Cluster, user: str, machine: Machine) -> None:
        self.decisions += 1
        wants, jobs = self._wants(cluster, user, machine)
        decision = policy.decide(self.snapshot(cluster, user, machine, wants))
        self._give_way(cluster, user, machine, [int(one.job_id) for one in decision.requeues])
        for job_id in decision.starts:
            on_threads = job_id in decision.on_threads
            if not cluster.fits(machine, jobs[job_id].shape, on_threads=on_threads):
                self.withdrawn += 1
                continue
            cluster.start(jobs[job_id], machine, on_threads=on_threads)
            self._changes[user] += 1

    def _give_way(self, cluster: Cluster, user: str, machine: Machine, wished: list[int]) -> None:
        """Not at once, and not on every machine for the same wait, as `actors/courtesy` has it."""
        key = (user, machine.name)
        if not wished:
            self._wishes.pop(key, None)
            return
        since_s, _ = self._wishes.get(key, (cluster.now_s, 0.0))
        jobs = [cluster.running[number] for number in wished]
        only_scavenge = all(job.job.shape.scavenge for job in jobs)
        due_s = since_s + courtesy.delay_s(only_scavenge, self._rank(cluster, user, machine, only_scavenge))
        self._wishes[key] = (since_s, due_s)
        if due_s <= cluster.now_s:
            del self._wishes[key]
            for job in jobs:
                cluster.requeue(job)

    def _rank(self, cluster: Cluster, user: str, machine: Machine, only_scavenge: bool) -> int:
        """How many other machines have a younger job that could give way."""
        young: dict[str, tuple[float, str]] = {}
        for one in cluster.running.values():
            shape, name = one.job.shape, one.machine.name
            if shape.scavenge if only_scavenge else shape.restartable and one.job.user == user:
                young[name] = max(young.get(name, (-1.0, "")), (one.began_s, name))
        mine = young.pop(machine.name, (-1.0, ""))
        return sum(1 for other in young.values() if other > mine)

    # ------------------------------------------------------------ snapshots

    def snapshot(self, cluster: Cluster, user: str, machine: Machine, wants: list[Want]) -> Snapshot:
        """What this user's daemon on that machine knows now."""
        pool_used = {
            name: total - cluster.licenses[name] for name, total in cluster.workload.licenses.items()
        }
        for attempt in cluster.here[machine.name].values() if pool_used else ():
            for name, count in attempt.job.shape.licenses:
                pool_used[name] -= count
        shares = self._shares_of(cluster)
        return Snapshot(
            node=machine.name,
            me=user,
            cores=machine.cores,
            memory_total=machine.memory,
            memory_available=machine.memory,
            holdings=self._held(cluster, machine),
            running_cores=cluster.running_cores,
            wants=tuple(wants),
            neighbours=tuple(
                self._neighbour(cluster, other, machine) for other in cluster.waiting if other != user
            ),
            patience_s=self.patience_s,
            threads=machine.threads,
            gpus=machine.gpus,
            pool=cluster.workload.licenses,
            pool_used=pool_used,
            weights=cluster.workload.weights,
            usage=shares.usage,
            active=shares.active,
            cluster_cores=cluster.cores,
            cluster_free=cluster.free_cores,
            may_requeue=not cluster.stopping[user],
            yielding=frozenset(cluster.yielding),
        )

    def _held(self, cluster: Cluster, machine: Machine) -> tuple[Holding, ...]:
        key = (cluster.now_s, cluster.changes[machine.name])
        known = self._holdings.get(machine.name)
        if known is None or known[0] != key:
            held = tuple(_holding(cluster, one) for one in cluster.here[machine.name].values())
            self._holdings[machine.name] = known = (key, held)
        return known[1]

    def _wants(self, cluster: Cluster, user: str, machine: Machine) -> tuple[list[Want], dict[str, Job]]:
        wants, by_id = [], {}
        free = cluster.free[machine.name]
        # No more of one shape can start in one pass than there is room for, and one more waits.
        most = free.cores + free.threads + 1
        offers = [self._offered(cluster, each) for each in cluster.workload.machines]
        for jobs in cluster.waiting.get(user, {}).values():
            is_left = policy.is_for_another(_want(jobs[0], 0.0, None).shape, machine.name, offers)
            for job in jobs[:most]:
                if is_left and cluster.now_s - self._known_s[job.number] < LEAVE_S:
                    self._leaves = True
                    continue
                want = self._want(cluster, job)
                wants.append(want)
                by_id[want.id] = job
        return wants, by_id

    def _want(self, cluster: Cluster, job: Job) -> Want:
        waited_s = cluster.now_s - self._known_s[job.number]
        want = _want(job, waited_s, None)
        return replace(want, kept_on=self._kept_on(cluster, job.user, want.shape))

    def _neighbour(self, cluster: Cluster, user: str, machine: Machine) -> Neighbour:
        """As the card of the user's daemon on this machine tells."""
        kind = (user, Machine("", machine.cores, machine.memory, machine.gpus))
        known = self._heads.get(kind)
        now = (cluster.now_s, self._changes[user])
        if known is None or known[0][:2] != now or known[0][2] not in (-1, cluster.version):
            shapes = cluster.waiting[user]
            able = [jobs for shape, jobs in shapes.items() if cluster.able(machine, shape)]
            firsts: dict[policy.Shape, Want] = {}
            for jobs in able:
                want = self._want(cluster, jobs[0])
                other = firsts.setdefault(want.shape, want)
                if int(want.id) < int(other.id):
                    firsts[want.shape] = want
            heads = policy.in_order(firsts.values())
            count = sum(map(len, able))
            # Where it is kept changes with every start; only of who waited long it is asked.
            as_of = cluster.version if any(want.kept_on for want in heads) else -1
            neighbour = Neighbour(user, heads[0] if heads else None, count, tuple(heads[1:]))
            self._heads[kind] = known = ((*now, as_of), neighbour)
        return known[1]

    def _kept_on(self, cluster: Cluster, user: str, shape: policy.Shape) -> tuple[str, ...]:
        if self._kept_as_of != (cluster.now_s, cluster.version):
            self._kept_as_of = (cluster.now_s, cluster.version)
            self._kept_before, self._kept = self._kept, {}
        if (user, shape) not in self._kept:
            offers = [self._offered(cluster, machine) for machine in cluster.workload.machines]
            before = self._kept_before.get((user, shape), ())
            self._kept[user, shape] = policy.keepers(shape, offers, before)
        return self._kept[user, shape]

    def _offered(self, cluster: Cluster, machine: Machine) -> Offer:
        key = (cluster.now_s, cluster.changes[machine.name])
        known = self._offer.get(machine.name)
        if known is None or known[0] != key:
            here, free = cluster.here[machine.name].values(), cluster.free[machine.name]
            ends = tuple(
                End(_left_s(cluster, one), one.cores, one.job.shape.gpus)
                for one in here
                if not one.on_threads
            )
            offer = Offer(
                machine.name,
                machine.cores,
                free.cores,
                machine.memory,
                machine.gpus,
                licenses=tuple(sorted(cluster.workload.licenses.items())),
                free_gpus=free.gpus,
                ends=ends,
            )
            self._offer[machine.name] = known = (key, offer)
        return known[1]

    # ------------------------------------------------------------ usage

    def _decay(self, cluster: Cluster) -> None:
        """What ran until this event counts: every change is an event."""
        span_s, self._usage_s = cluster.now_s - self._usage_s, cluster.now_s
        for user in {*self.usage, *self._ran}:
            self.usage[user] = usage.decayed(self.usage[user], span_s, self.half_life_s)
            self.usage[user] += usage.used(self._ran.get(user, 0), span_s, self.half_life_s)


def _want(job: Job, waited_s: float, kept_on: tuple[str, ...] | None) -> Want:
    shape: Shape = job.shape
    return Want(
        str(job.number),
        shape.cores,
        shape.memory,
        int(job.submitted_s * 1e9),
        shape.priority,
        waited_s,
        kept_on,
        gpus=shape.gpus,
        licenses=shape.licenses,
        limit_s=policy.coarse(shape.limit_s),
        scavenge=shape.scavenge,
    )


def _left_s(cluster: Cluster, attempt: Attempt) -> float | None:
    limit_s = attempt.job.shape.limit_s
    return None if limit_s is None else max(0.0, limit_s - (cluster.now_s - attempt.began_s))


def _holding(cluster: Cluster, attempt: Attempt) -> Holding:
    shape = attempt.job.shape
    return Holding(
        attempt.job.user,
        str(attempt.job.number),
        attempt.cores,
        shape.memory,
        exclusive=not shape.cores,
        gpus=shape.gpus,
        licenses=shape.licenses,
        left_s=_left_s(cluster, attempt),
        age_s=cluster.now_s - attempt.began_s,
        restartable=shape.restartable,
        scavenge=shape.scavenge,
        threads=attempt.on_threads,
        memory=shape.memory,
        leaving=attempt.is_stopping,
    )
