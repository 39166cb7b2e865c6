"""What is promised of the simulator of the policy, `tests.bench.policy`, and by it of the policy."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.bench.figures import Figures, Ledger, fair_parts, jain, mean_of
from tests.bench.ours import Ours
from tests.bench.play import Cluster, Judge, Rule
from tests.bench.policy import RULES, play
from tests.bench.rules import Fifo, FirstFit, Old
from tests.bench.workload import SCENARIOS, Job, Machine, Shape, Workload, draw, scenario

GIB = 1 << 30


def workload(
    *jobs: tuple[str, float, float, Shape], machines: tuple[Machine, ...] = (Machine("node0", 4, 8 * GIB, 2),)
) -> Workload:
    """Jobs as user, seconds until the submission, seconds of length, shape."""
    made = tuple(
        Job(number, user, at_s, length_s, shape, shape.cores or 4, shape.cores in (0, 4))
        for number, (user, at_s, length_s, shape) in enumerate(jobs, 1)
    )
    return Workload(machines, tuple(sorted({job.user for job in made})), made, {"matlab": 1})


def begun(work: Workload, rule: Rule) -> dict[int, float]:
    """When each job began for the last time."""
    times: dict[int, float] = {}

    class Watch(Judge):
        def ended(self, attempt, now_s):  # type: ignore[no-untyped-def]
            times[attempt.job.number] = attempt.began_s
            super().ended(attempt, now_s)

    Cluster(work, [Watch(work)]).play(rule)
    return times


# ---------------------------------------------------------------- the simulator


def test_a_scenario_and_a_seed_are_always_the_same_workload() -> None:
    for name in SCENARIOS:
        small = scenario(name, 3, nodes=2, users=3, jobs=40)
        assert draw(small, 3) == draw(small, 3)
        assert draw(small, 3) != draw(small, 4)


def test_limits_are_never_shorter_than_the_job() -> None:
    """A job that would run longer is killed at its limit: that is its length, by whatever rule."""
    for name in SCENARIOS:
        for job in draw(scenario(name, 1, nodes=3, users=3, jobs=60), 1).jobs:
            assert job.shape.limit_s is None or job.length_s <= job.shape.limit_s


def test_fifo_waits_for_its_head_and_first_fit_does_not() -> None:
    work = workload(
        ("ann", 0, 100, Shape(3)),
        ("bob", 1, 100, Shape(2)),
        ("cyd", 2, 50, Shape(1)),
        ("dan", 3, 10, Shape(4)),
    )
    assert begun(work, Fifo(random.Random(0))) == {1: 0, 2: 100, 3: 100, 4: 200}
    assert begun(work, FirstFit(random.Random(0))) == {1: 0, 2: 100, 3: 2, 4: 200}


def test_by_the_rule_of_029_the_fewest_cores_go_next_and_nothing_passes_the_head() -> None:
    """bob has nothing running: while his 3 cores are not free, ann's next job waits beside 2 that are."""
    work = workload(
        ("ann", 0, 200, Shape(1)),
        ("ann", 0, 100, Shape(1)),
        ("bob", 1, 10, Shape(3)),
        ("ann", 2, 10, Shape(1)),
    )
    assert begun(work, Old(random.Random(0))) == {1: 0, 2: 0, 3: 100, 4: 110}
    assert begun(work, FirstFit(random.Random(0))) == {1: 0, 2: 0, 3: 100, 4: 2}


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        (Shape(3), "cores are promised"),
        (Shape(1, 5 * GIB), "bytes are promised"),
        (Shape(1, 0, 2), "GPUs are promised"),
        (Shape(1, 0, 0, (("matlab", 1),)), "licenses matlab are promised"),
    ],
)
def test_the_judge_sees_what_is_promised_twice(shape: Shape, says: str) -> None:
    """It believes nothing of what the cluster counts."""

    class Reckless(Fifo):
        def turn(self, cluster: Cluster) -> None:
            while self.queue:
                cluster.start(self.queue.popleft(), cluster.workload.machines[0])

    with pytest.raises(AssertionError, match=says):
        play(workload(("ann", 0, 10, shape), ("bob", 1, 10, shape)), Reckless(random.Random(0)))


def test_the_judge_sees_who_is_not_alone() -> None:
    class Crowded(Fifo):
        def turn(self, cluster: Cluster) -> None:
            while self.queue:
                cluster.start(self.queue.popleft(), cluster.workload.machines[0])

    work = workload(("ann", 0, 10, Shape(0)), ("bob", 1, 10, Shape(1)))
    with pytest.raises(AssertionError, match=r"promised|not alone"):
        play(work, Crowded(random.Random(0)))


def test_a_fair_part_is_no_more_than_is_asked_for_and_what_one_leaves_the_others_share() -> None:
    assert fair_parts({"ann": 2, "bob": 50, "cyd": 50}, {}, 32) == {"ann": 2, "bob": 15, "cyd": 15}
    assert fair_parts({"ann": 50, "bob": 50}, {"ann": 3.0}, 32) == {"ann": 24, "bob": 8}
    assert fair_parts({"ann": 1, "bob": 2}, {}, 32) == {"ann": 1, "bob": 2}


def test_jain() -> None:
    assert jain([2, 2, 2]) == pytest.approx(1)
    assert jain([1, 0, 0, 0]) == pytest.approx(0.25)


def test_the_figures_of_a_play_that_can_be_reckoned_by_hand() -> None:
    """ann has all 4 cores for 100 s; bob asks for 4 from 50 s on, and gets them then."""
    work = workload(("ann", 0, 100, Shape(4)), ("bob", 50, 100, Shape(4)))
    ledger = Ledger(work)
    Cluster(work, [ledger]).play(Fifo(random.Random(0)))
    figures = ledger.figures()
    # ann deserved 4 for 50 s and 2 for 50 s, bob 2 for 50 s and 4 for 100 s.
    assert ledger.shares() == {"ann": pytest.approx(400 / 300), "bob": pytest.approx(400 / 500)}
    assert figures.wait == 25
    assert figures.slowdown == pytest.approx((1 + 1.5) / 2)
    assert figures.used == pytest.approx(1)
    assert (figures.wide_longest, figures.starved, figures.makespan) == (50, 50, 200)


def test_a_requeue_loses_work_and_is_waited_for() -> None:
    class Fickle(Fifo):
        """Has the first job give way once."""

        def submitted(self, cluster: Cluster, job: Job) -> None:
            super().submitted(cluster, job)
            if job.number == 2:
                cluster.requeue(cluster.running[1])

    work = workload(("ann", 0, 100, Shape(2, restartable=True)), ("bob", 40, 10, Shape(1)))
    figures = play(work, Fickle(random.Random(0)))
    assert (figures.requeues, figures.lost) == (1, 2 * 45)
    assert figures.makespan == 145
    assert figures.wait == pytest.approx(45 / 2)


def test_threads_slow_both_who_share_a_core() -> None:
    """Two cores and two spare threads: from 10 s on all is done at 0.6 of its speed."""

    class OnThreads(Fifo):
        def turn(self, cluster: Cluster) -> None:
            while self.queue:
                job = self.queue.popleft()
                cluster.start(job, cluster.workload.machines[0], on_threads=job.number > 1)

    machines = (Machine("node0", 2, GIB, 0, 2),)
    work = workload(("ann", 0, 100, Shape(2)), ("bob", 10, 30, Shape(2)), machines=machines)
    # bob takes 30 / 0.6 = 50 s, in which ann does 30 of her 90 s: she ends after 60 s more.
    assert play(work, OnThreads(random.Random(0))).makespan == pytest.approx(10 + 50 + 60)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("name", SCENARIOS)
def test_all_that_can_run_does_and_nothing_is_promised_twice(
    name: str, rule: Callable[[random.Random], Rule]
) -> None:
    chosen = scenario(name, 2, nodes=min(4, SCENARIOS[name].nodes), users=6, jobs=120)
    figures = play(draw(chosen, 2), rule(random.Random(2)))
    assert 0 < figures.fairness <= 1


# ---------------------------------------------------------------- the policy


def test_who_has_nothing_but_scavenging_jobs_gets_them_run() -> None:
    work = workload(*[("ann", 0, 10, Shape(1, scavenge=True, restartable=True))] * 3)
    assert begun(work, Ours(random.Random(0))) == {1: 0, 2: 0, 3: 0}


def test_on_drawn_workloads_users_get_their_due_and_wait_less_than_in_one_queue() -> None:
    """Of all plays together: fairer than FIFO with first fit and without, shorter waits, few idle cores."""
    plays: dict[str, list[Figures]] = {name: [] for name in RULES}
    for name in ("even", "flood", "bursts", "wide", "limited", "memory"):
        for seed in range(1, 3):
            work = draw(scenario(name, seed, nodes=8, users=8, jobs=400), seed)
            for rule, make in RULES.items():
                plays[rule].append(play(work, make(random.Random(seed))))
    means = {rule: mean_of(each) for rule, each in plays.items()}
    ours = means.pop("ours")
    assert ours.fairness > max(means["FIFO"].fairness, means["first fit"].fairness)
    assert ours.fairness > means["0.2.9"].fairness - 0.01
    assert ours.wait < 0.8 * min(other.wait for other in means.values())
    assert ours.used > 0.98 * max(other.used for other in means.values())
