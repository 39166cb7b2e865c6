"""What a claim takes by name: nobody's CPUs and GPUs but its own."""

from __future__ import annotations

from roundq.actors.grants import Grant, Grants
from roundq.actors.occupancy import Lodger
from roundq.records.cards import Occupant
from roundq.words.allocation import Gpu, Unit

UNITS = (Unit((0, 4)), Unit((1, 5)), Unit((2, 6)), Unit((3, 7)))
GPUS = (Gpu("0"), Gpu("1", busy=True), Gpu("2"))


def lodger(cores: int, cpus: tuple[int, ...] = (), gpus: tuple[str, ...] = ()) -> Lodger:
    return Lodger("bob", Occupant("1", "running", cores, 0, False, 0, True, cpus=cpus, gpus=gpus))


def test_one_after_the_other_takes_what_is_left() -> None:
    """In one pass several jobs start; none gets what another one has, or was just given."""
    grants = Grants(UNITS, GPUS, [lodger(1, (1,), ("0",))])
    first, second = grants.choose(2, 1), grants.choose(1, 0)
    assert first is not None
    assert second is not None
    assert sorted(first.cpus + second.cpus) == [0, 2, 3]
    assert (first.gpus, second.gpus) == (("2",), ())


def test_there_are_only_so_many_gpus() -> None:
    """Those of strangers, who compute on one that nobody granted them, do not count."""
    grants = Grants(UNITS, GPUS, [])
    assert grants.choose(1, 3) is None
    assert grants.choose(1, 2) == Grant((0,), ("0", "2"))


def test_without_cpus_of_its_own_a_job_is_not_pinned() -> None:
    """Where somebody has more CPUs than were counted for him a job starts all the same."""
    grants = Grants(UNITS, (), [lodger(3, (0, 1, 2))])
    assert grants.choose(2, 0) == Grant()
    assert Grants((), (), []).choose(2, 0) == Grant()


def test_spare_threads_are_those_that_no_core_took() -> None:
    """They are the second ones of cores."""
    given = Grants(UNITS, (), [lodger(4, (0, 1, 2, 3))]).choose(2, 0, threads=True)
    assert given is not None
    assert given.threads
    assert set(given.cpus) <= {4, 5, 6, 7}
    assert len(given.cpus) == 2


def test_a_card_takes_no_more_cpus_than_cores() -> None:
    """Else a card of one core would leave nothing for others to be pinned to."""
    assert Grants(UNITS, (), [lodger(1, (0, 1, 2, 3))]).choose(3, 0) == Grant((1, 2, 3))
