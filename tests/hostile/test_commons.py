"""Promises about the commons where somebody is hostile: what is there counts for its owner, or not at all."""

from __future__ import annotations

import functools
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from roundq.actors import occupancy
from roundq.actors.occupancy import Supervisors
from roundq.actors.round import Round
from roundq.records import cards, commons
from roundq.records.cards import Card
from roundq.records.commons import Publisher
from roundq.records.neighbours import Neighbourhood
from roundq.records.spool import Spool
from roundq.words import titles
from roundq.words.job import Identity
from roundq.words.states import WAITING
from roundq.world import files, owners, procs
from roundq.world.config import Config
from roundq.world.named import Bearers, Named
from roundq.world.node import Node
from tests.actors.spoolhome import NODE, SpoolHome
from tests.cluster.wait import wait_until
from tests.hostile.neighbour import EVE, Eve
from tests.rights import in_namespace, need_mounts, need_root
from tests.world.processes import on_stage
from tests.world.test_named import BEAR

ANN, BOB = 40_001, 40_002
CORES = 4


@pytest.fixture
def common() -> Iterator[Path]:
    """A commons for real users."""
    need_root()
    with tempfile.TemporaryDirectory() as path:
        os.chmod(path, 0o1777)
        yield Path(path)


def as_user(uid: int, act: Callable[[], Any]) -> Any:
    """What this user gets when he does that."""
    # Nobody else may be able to read this checkout, or Python: what is imported late is imported before.
    cards.parse(cards.dump(Card("ann", NODE, 1, 4, 4, 1, version="1.0")), "ann")

    def acted() -> object:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
        return act()

    return on_stage(acted)


def published(common: Path, uid: int, node: str = NODE, **more: object) -> None:
    """A user's daemon publishes a card."""

    def act() -> str | None:
        card = Card("?", node, os.getpid(), 4, 4, 1, version="1.0", beat=uid, cores=4)
        publisher = Publisher(node)
        publisher.publish(str(common), replace(card, **more), shows_names=False)  # type: ignore[arg-type]
        return publisher.trouble

    assert as_user(uid, act) is None


def seen(common: Path, by: int = BOB) -> dict[int, list[int]]:
    """The beats of all cards that a user believes, by the number of their user."""

    def act() -> dict[int, list[int]]:
        found, trouble = commons.everybody(str(common))
        assert trouble is None
        return {spool.uid: [card.beat for card in cards.read_all(spool)] for spool in found}

    found: dict[int, list[int]] = as_user(by, act)
    return found


# ---------------------------------------------------------------- names


@pytest.mark.parametrize("what", ["directory", "file", "fifo", "link", "of root"])
def test_whoever_takes_my_name_hides_nothing_and_is_not_me(common: Path, what: str) -> None:
    """I have another one, at which all look; and what is at mine is nobody's."""
    mine = common / str(ANN)

    def squat() -> None:
        if what == "directory":
            mine.mkdir()
        elif what == "file":
            mine.touch()
        elif what == "fifo":
            os.mkfifo(mine)
        else:
            mine.symlink_to(common / str(EVE))

    if what == "of root":
        mine.mkdir()
    else:
        as_user(EVE, squat)
    if what == "directory":
        card = Card("ann", NODE, 1, 4, 4, 1, version="1.0", beat=666, cores=4)
        as_user(EVE, lambda: (mine / NODE).write_bytes(cards.dump(card)) and None)

    published(common, ANN)
    published(common, ANN, node="n2")
    published(common, EVE)

    assert seen(common) == {ANN: [ANN, ANN], EVE: [EVE]}


def test_whoever_takes_all_names_takes_none(common: Path) -> None:
    """A hundred thousand names cost a moment, not a minute, and hide nobody."""

    def squat(numbers: range) -> None:
        for number in numbers:
            os.close(os.open(common / str(100_000 + number), os.O_CREAT | os.O_WRONLY))
        for number in numbers[::100]:
            os.mkdir(common / f"{EVE}.{number}", 0o755)
            os.mkdir(common / f"{ANN}.{number}", 0o755)

    # One after the other: on a busy machine all of them take longer than a stage is given.
    for first in range(0, 100_000, 10_000):
        as_user(EVE, functools.partial(squat, range(first, first + 10_000)))
    published(common, ANN)
    began_s = time.monotonic()

    found = seen(common)

    assert time.monotonic() - began_s < 60
    assert found == {ANN: [ANN], EVE: []}


def test_a_number_that_is_somebody_elses_counts_for_nobody(common: Path) -> None:
    """Neither plainly nor with more behind it."""

    def pretend() -> None:
        card = Card("ann", NODE, 1, 4, 4, 1, version="1.0", beat=666, cores=4)
        for name in (str(ANN), f"{ANN}.0123456789abcdef", "0"):
            os.mkdir(common / name)
            (common / name / NODE).write_bytes(cards.dump(card))

    as_user(EVE, pretend)

    assert seen(common) == {}


# ---------------------------------------------------------------- cards


@pytest.mark.parametrize("what", ["link", "hard link", "fifo", "directory", "foreign", "large", "no JSON"])
def test_what_is_no_card_of_its_owner_is_none(common: Path, what: str) -> None:
    """It is neither followed, nor waited for, nor read to its end; another card of the user counts."""
    published(common, ANN)
    published(common, EVE)
    published(common, EVE, node="n2")
    card, of_ann = common / str(EVE) / NODE, common / str(ANN) / NODE
    card.unlink()
    if what == "link":
        as_user(EVE, lambda: card.symlink_to(of_ann))
    elif what == "hard link":
        os.link(of_ann, card)
    elif what == "fifo":
        as_user(EVE, lambda: os.mkfifo(card))
    elif what == "directory":
        as_user(EVE, card.mkdir)
    elif what == "foreign":
        card.write_bytes(of_ann.read_bytes())
    elif what == "large":
        as_user(EVE, lambda: os.truncate(os.open(card, os.O_CREAT | os.O_WRONLY), 1 << 40))
    else:
        as_user(EVE, lambda: card.write_text("[" * 100_000) and None)

    assert seen(common) == {ANN: [ANN], EVE: [EVE]}
    found, _ = commons.everybody(str(common))
    assert {(one.card.node, one.spool.uid) for one in Neighbourhood("n3").look(found, 0.0)} == {
        (NODE, ANN),
        ("n2", EVE),
    }


def test_a_directory_that_is_replaced_after_it_was_looked_at_is_not_followed(common: Path) -> None:
    """By a link to where I would hang, or to cards of others, which would then be his."""
    published(common, ANN)
    published(common, EVE)
    (eve,) = [spool for spool in commons.everybody(str(common))[0] if spool.uid == EVE]

    def swap() -> None:
        os.rename(common / str(EVE), common / "away")
        os.symlink(common / str(ANN), common / str(EVE))

    as_user(EVE, swap)

    for look in (
        lambda: eve.way.listing(eve.path),
        lambda: eve.way.read(f"{eve.path}/{NODE}", most=1 << 20),
        lambda: eve.way.signature(f"{eve.path}/{NODE}"),
    ):
        with pytest.raises(PermissionError, match="it is no directory"):
            look()
    assert Neighbourhood(NODE).look([eve], 0.0) == []
    assert occupancy.others_here([eve], "ann", NODE) == []


def test_a_directory_to_which_others_may_write_counts_for_nobody(common: Path) -> None:
    """Until its user's daemon has closed it."""
    published(common, EVE)
    as_user(EVE, lambda: os.chmod(common / str(EVE), 0o777))
    assert seen(common) == {}

    published(common, EVE)

    assert seen(common) == {EVE: [EVE]}


def test_in_a_commons_without_sticky_bit_nobody_is_believed(common: Path) -> None:
    """There eve could put her directory in the place of ann's, or remove it."""
    published(common, ANN)
    os.chmod(common, 0o777)

    assert as_user(BOB, lambda: len(commons.everybody(str(common))[0])) == 0
    with pytest.raises(AssertionError, match="mode 0777"):
        published(common, ANN)


def test_an_admin_may_make_the_directories(common: Path) -> None:
    """In a commons to which nobody else may write, each user has what root gave him."""
    os.chmod(common, 0o755)
    (common / str(ANN)).mkdir()
    os.chown(common / str(ANN), ANN, ANN)

    published(common, ANN)

    assert seen(common) == {ANN: [ANN]}
    with pytest.raises(AssertionError, match=r"the commons .* cannot be written: Permission denied"):
        published(common, BOB)


def test_what_is_mounted_in_the_commons_is_not_entered(common: Path) -> None:
    """A file system that a user serves himself may never answer."""
    need_mounts()
    published(common, ANN)
    published(common, EVE)
    call = "[one.uid for one in owned(sys.argv[1], most=9)]"
    asks = f"import sys; from roundq.world.owners import owned; print({call})"
    mounts = 'mount -t tmpfs -o mode=755,uid="$2",gid="$2" none "$1/$2"; exec "$3" -c "$4" "$1"'
    command = in_namespace(mounts, str(common), str(EVE), sys.executable, asks)

    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])

    assert done.stdout == f"[{ANN}]\n"


# ---------------------------------------------------------------- one round of ann


@pytest.fixture
def eve(common: Path, tmp_path: Path) -> Iterator[Eve]:
    """Her home is closed to ann; her cards are in the commons."""
    (tmp_path / "elsewhere").mkdir()
    made = Eve(tmp_path / "elsewhere", NODE)
    own = common / str(EVE)
    own.mkdir()
    os.chown(own, EVE, EVE)
    made.spool = Spool(str(own), "eve", EVE)
    yield made
    made.stop()


def round_of(home: SpoolHome, common: Path | str) -> Round:
    """The rounds of a daemon of ann that just started."""
    config = Config((str(home.home.parent),), cores=CORES, commons=str(common))
    return Round(home.spool, Node(home.environ), lambda: (config, None), logging.getLogger("test"), 1)


@pytest.fixture(autouse=True)
def _at_home(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs get the environment of this process: by it `home` finds them in the end."""
    if "home" in request.fixturenames:
        monkeypatch.setenv("HOME", str(request.getfixturevalue("home").home))


def test_jobs_of_a_user_in_the_commons_have_their_cores(home: SpoolHome, common: Path, eve: Eve) -> None:
    """Those of her living processes; she says herself what she has, and of nobody else."""
    job = home.submit("true", cores=2)
    daemon = eve.process()
    mine = procs.own_identity()
    eve.card(daemon, jobs=[eve.job(1, eve.process(), cores=3), eve.job(2, mine, cores=1)])
    rounds = round_of(home, common)

    rounds.run(1000.0)
    assert home.state(job) == WAITING
    assert sum(lodger.job.cores for lodger in rounds._lodgers()) == 3

    eve.card(daemon, jobs=[eve.job(2, mine, cores=3)])
    rounds.run(1001.0)
    assert home.state(job) != WAITING


def test_a_user_in_the_commons_has_turns(home: SpoolHome, common: Path, eve: Eve) -> None:
    """Whoever has fewer running cores goes first, wherever the card is."""
    job = home.submit("true", cores=CORES)
    eve.card(eve.process(), heads=[eve.head(CORES)], waiting=1)
    rounds = round_of(home, common)

    rounds.run(1000.0)

    assert home.state(job) == WAITING
    assert rounds.decision is not None
    # There is no account of her number.
    assert str(EVE) in rounds.decision.ahead


def test_a_user_who_can_be_read_at_home_and_in_the_commons_counts_once(
    home: SpoolHome, common: Path, eve: Eve
) -> None:
    """By the card at home."""
    process = eve.process()
    jobs = [eve.job(1, process, cores=2)]
    eve.card(eve.process(), jobs=jobs)
    at_home = Eve(home.home.parent, NODE)
    at_home.card(eve.process(), jobs=jobs)
    rounds = round_of(home, common)
    rounds.run(1000.0)
    rounds._look_around(1100.0)

    assert [(lodger.user, lodger.job.cores) for lodger in rounds._lodgers()] == [("eve", 2)]
    assert {one.spool.path for one in rounds.seen} == {home.spool.path, at_home.spool.path}


def test_what_is_wrong_with_the_commons_is_on_the_card_of_its_user_alone(
    home: SpoolHome, common: Path
) -> None:
    """The queue goes on without; and when it is right the card is there at once."""
    job = home.submit("true")
    os.chmod(common, 0o777)
    rounds = round_of(home, common)
    rounds.run(1000.0)
    rounds.run(1001.0)
    home.wait_for(job)
    (card,) = cards.read_all(home.spool)
    assert [text for text in card.trouble if "chmod 1777" in text]
    assert list(common.iterdir()) == []

    os.chmod(common, 0o1777)
    rounds.run(1002.0)

    found, _ = commons.everybody(str(common))
    assert [(spool.uid, len(cards.read_all(spool))) for spool in found] == [(os.geteuid(), 1)]
    assert cards.read_all(found[0])[0].trouble == ()


def test_the_last_card_is_in_the_commons_too(home: SpoolHome, common: Path) -> None:
    """A daemon that leaves asks for no more turns."""
    home.submit("true", cores=100_000)
    rounds = round_of(home, common)
    rounds.run(1000.0)
    rounds.leave()

    found, _ = commons.everybody(str(common))
    assert cards.read_all(found[0])[0].state == cards.LEAVING


# ---------------------------------------------------------------- the process table


@pytest.fixture
def start() -> Iterator[Callable[[str], int]]:
    """Starts processes of eve that call themselves supervisors, with a title."""
    need_root()
    started: list[subprocess.Popen[str]] = []

    def begin(title: str, uid: int = EVE) -> int:
        process = subprocess.Popen(
            [sys.executable, "-c", BEAR, titles.SUPERVISOR, title, str(uid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "done\n"
        return process.pid

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def by_processes(spools: list[Spool]) -> list[tuple[str, int]]:
    found = Supervisors().look(os.geteuid(), 0.0)
    lodgers = occupancy.others_here(spools, "ann", NODE, (), [one for one in found if one.uid in (EVE, BOB)])
    return sorted((lodger.user, lodger.job.cores) for lodger in lodgers)


def test_supervisors_of_users_without_a_card_have_their_cores(start: Callable[..., int]) -> None:
    """As what their titles tell, for the user whose processes they are."""
    start("rq: job 1, 3 cores, 1G")
    start("rq: job 1, 2 cores", uid=BOB)
    start("rq: nothing of the kind")

    assert by_processes([]) == [(str(BOB), 2), (str(EVE), 3)]


def test_where_a_card_can_be_read_it_is_believed(start: Callable[..., int], eve: Eve) -> None:
    """A title adds nothing to it: honest daemons tell of a supervisor before it begins."""
    start("rq: job 1, 3 cores")
    eve.card(eve.process(), jobs=[eve.job(1, eve.process(), cores=1)])

    assert by_processes([eve.spool]) == [("eve", 1)]


def test_while_a_card_cannot_be_read_new_supervisors_count(
    start: Callable[..., int], eve: Eve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was seen last counts, and what the process table shows beside it; nothing twice."""
    old = procs.identity(start("rq: job 1, 1 core"))
    start("rq: job 2, 2 cores")
    eve.card(eve.process(), jobs=[eve.job(1, old, cores=1)])
    last = Neighbourhood(NODE).look([eve.spool], 0.0)
    found = [one for one in Supervisors().look(os.geteuid(), 0.0) if one.uid == EVE]

    def refuse(*_: object, **__: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(files, "read", refuse)
    lodgers = occupancy.others_here([eve.spool], "ann", NODE, last, found)

    assert sorted(lodger.job.cores for lodger in lodgers) == [1, 2]
    assert {lodger.user for lodger in lodgers} == {"eve"}


def test_titles_are_read_once_however_often_lodgers_are_counted(
    home: SpoolHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In each look, that is: while claims are undecided everybody is counted again every few milliseconds."""
    read: list[str] = []
    parse = titles.parse

    def watched(said: str, *most: int) -> titles.Title | None:
        read.append(said)
        return parse(said, *most)

    bearers = [
        Named(Identity("boot", pid, 1), EVE, f"rq: job {pid}, 1 core, cpus 0-99999") for pid in range(50)
    ]
    monkeypatch.setattr(titles, "parse", watched)
    monkeypatch.setattr(Bearers, "look", lambda *_: bearers)
    rounds = round_of(home, "")
    counted = [rounds._lodgers() for _ in range(20)]

    assert [len(lodgers) for lodgers in counted] == [50] * 20
    assert not any(lodger.job.cpus for lodger in counted[0])
    # It may have been a second since the first of them.
    assert len(read) % 50 == 0
    assert len(read) <= 500


def test_whoever_invents_a_supervisor_has_its_cores_himself(
    start: Callable[..., int], home: SpoolHome
) -> None:
    """He may keep a node from others by that, as by running something there; not in the name of anybody."""
    job = home.submit("true")
    pid = start(f"rq: job 1, {CORES} cores")
    rounds = round_of(home, "")
    rounds.run(1000.0)
    assert home.state(job) == WAITING
    assert {lodger.user for lodger in rounds._lodgers()} == {owners.account(EVE)}

    os.kill(pid, 9)

    def has_begun() -> bool:
        # The process table is read once a second, by the clock of the machine.
        rounds.run(1001.0)
        return home.state(job) != WAITING

    wait_until(has_begun, 20)
