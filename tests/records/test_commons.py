"""Promises about the commons: what is published there, what is left out, and who is read there."""

from __future__ import annotations

import json
import os
import signal
import stat
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from roundq.records import cards, commons, neighbours
from roundq.records.cards import Card, Occupant
from roundq.records.commons import Publisher
from roundq.records.neighbours import SILENT_S, Neighbourhood
from roundq.words.job import NS
from roundq.words.policy import Shape, Verdict, Want
from roundq.world import files, owners, procs, reading
from roundq.world import helpers as helping
from roundq.world.helpers import Helpers
from roundq.world.watch import Watcher
from tests.records.crowd import new_spool

NODE = "n1"
ME = os.geteuid()


@pytest.fixture
def common(tmp_path: Path) -> str:
    """A commons, as an admin makes it."""
    path = tmp_path / "commons"
    path.mkdir()
    path.chmod(0o1777)
    return str(path)


@pytest.fixture
def helpers() -> Iterator[Helpers]:
    made = Helpers(time.monotonic)
    yield made
    made.close()


def card_of(*jobs: Occupant, **more: object) -> Card:
    """A card with everything on it that is nobody else's business."""
    known = Card(
        "ann",
        NODE,
        os.getpid(),
        4,
        8,
        1,
        version="1.0",
        process=procs.own_identity(),
        beat=7,
        cores=4,
        reason="her thesis",
        jobs=jobs,
        said=(Verdict(Shape(1, 0, 0), "no room beside her thesis"),),
        trouble=("/home/ann/thesis.job is no job",),
        pong=("0123456789abcdef",),
    )
    return replace(known, **more)  # type: ignore[arg-type]


def job(job_id: str = "17", **more: object) -> Occupant:
    known = Occupant(job_id, "running", 3, 1 << 30, False, 5, True, 6 * NS, "thesis")
    return replace(known, **more)  # type: ignore[arg-type]


def publish(common: str, card: Card, *, shows_names: bool = False) -> Publisher:
    publisher = Publisher(card.node)
    publisher.publish(common, card, shows_names=shows_names)
    return publisher


def mine(common: str) -> list[Card]:
    """My cards, as a stranger reads them."""
    (spool,) = commons.everybody(common)[0]
    return cards.read_all(spool)


# ---------------------------------------------------------------- what is published


def test_a_card_is_readable_by_everybody_whatever_the_umask(common: str) -> None:
    """In a directory whose name is my number, and which only I may write to."""
    before = os.umask(0o077)
    try:
        publisher = publish(common, card_of(job()))
    finally:
        os.umask(before)

    assert publisher.trouble is None
    own = Path(common, str(ME))
    assert stat.S_IMODE(own.stat().st_mode) == 0o755
    assert stat.S_IMODE((own / NODE).stat().st_mode) == 0o644
    (card,) = mine(common)
    assert (card.node, card.beat, card.cores, card.jobs[0].cores, card.jobs[0].id) == (NODE, 7, 4, 3, "17")
    assert card.process == procs.own_identity()
    assert os.listdir(own / "tmp") == []


def test_nothing_private_stands_on_it(common: str) -> None:
    """No name, set, sentence of the policy, trouble, ping or reason; names of jobs if I allow them."""
    thesis = job("thesis-2", name="thesis", groups=("%thesis-set",))
    head = Want("thesis-3", 1, 0, 5)
    card = card_of(thesis, heads=(head,))

    publish(common, card)
    said = Path(common, str(ME), NODE).read_text()
    assert "thesis" not in said
    assert "0123456789abcdef" not in said

    publish(common, card, shows_names=True)
    (card,) = mine(common)
    assert (card.jobs[0].name, card.jobs[0].groups) == ("thesis", ())
    assert card.jobs[0].id.startswith("~")


@pytest.mark.parametrize(("job_id", "is_shown"), [
    ("17", True), ("17_3", True), ("17_3_1", False), ("17.n1", False), ("thesis", False), ("1" * 40, False),
    ("17\n", False), ("\u0661", False), ("", False), ("~0123456789", False), ("a\udcff", False),
])  # fmt: skip
def test_only_numbers_are_shown_as_ids(job_id: str, is_shown: bool) -> None:
    """Others are words that somebody chose; they are masked, each job always in the same way."""
    shown = commons.masked(job_id)

    assert (shown == job_id) == is_shown
    assert shown == commons.masked(job_id)
    if not is_shown:
        assert shown.startswith("~")
        assert shown != commons.masked(job_id + "x")


def test_a_card_replaces_the_last_one_and_leaves_nothing(common: str) -> None:
    """One file for each node, whatever it said before."""
    publisher = publish(common, card_of(job()))
    publisher.publish(common, card_of(beat=8), shows_names=False)

    assert [card.beat for card in mine(common)] == [8]
    assert sorted(os.listdir(f"{common}/{ME}")) == [NODE, "tmp"]
    assert os.listdir(f"{common}/{ME}/tmp") == []


def test_without_a_commons_nothing_is_published(tmp_path: Path) -> None:
    """It is the admin's choice; then nothing is wrong either."""
    publisher = publish("", card_of())

    assert publisher.trouble is None
    assert list(tmp_path.iterdir()) == []


def test_what_failed_is_published_as_soon_as_it_can_be(common: str) -> None:
    """The last card, not one of those before; and until then it is said what is wrong."""
    os.rename(common, f"{common}.away")
    publisher = publish(common, card_of(beat=1))
    assert publisher.trouble == f"the commons {common} cannot be written: No such file or directory"
    publisher.publish(common, card_of(beat=2), shows_names=False)
    os.rename(f"{common}.away", common)

    publisher.keep(common, card_of(beat=2), shows_names=False)

    assert publisher.trouble is None
    assert [card.beat for card in mine(common)] == [2]


def test_another_configuration_holds_at_once(common: str, tmp_path: Path) -> None:
    """Not only for the next card, which may come in a minute."""
    other = tmp_path / "other"
    other.mkdir()
    card = card_of(job())
    publisher = publish(common, card)
    for directory, shows_names in ((common, True), (str(other), True), (str(other), False)):
        publisher.keep(directory, card, shows_names=shows_names)
        assert mine(directory)[0].jobs[0].name == ("thesis" if shows_names else "")


def test_a_helper_publishes_in_place_of_a_daemon(common: str, helpers: Helpers) -> None:
    """A daemon must not hang where a commons does."""
    publisher = Publisher(NODE, helpers)
    publisher.publish(common, card_of(job()), shows_names=False)

    assert publisher.trouble is None
    found, trouble = commons.everybody(common, (), helpers)
    assert trouble is None
    assert [(spool.uid, spool.is_commons) for spool in found] == [(ME, True)]
    assert [card.beat for card in cards.read_all(found[0])] == [7]


# ---------------------------------------------------------------- the place


@pytest.mark.parametrize(
    ("mode", "is_right"), [(0o1777, True), (0o755, True), (0o1775, True), (0o777, False), (0o775, False)]
)
def test_where_others_could_remove_cards_none_is_published_or_believed(
    common: str, mode: int, is_right: bool
) -> None:
    """A directory to which others may write needs the sticky bit; it is said what would help."""
    publish(common, card_of())
    os.chmod(common, mode)

    publisher = publish(common, card_of(beat=8))
    found, trouble = commons.everybody(common)

    assert (publisher.trouble is None) == is_right
    assert publisher.trouble == trouble
    assert bool(found) == is_right
    if not is_right:
        assert f"mode {mode:04o}" in (trouble or "")
        assert f"chmod 1777 {common}" in (trouble or "")


@pytest.mark.parametrize("what", ["nothing", "file", "fifo", "link to a file"])
def test_a_commons_is_a_directory(tmp_path: Path, what: str) -> None:
    """Anything else is told, and neither followed nor waited for."""
    path = tmp_path / "commons"
    if what == "file":
        path.touch()
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "link to a file":
        (tmp_path / "file").touch()
        path.symlink_to("file")

    publisher = publish(str(path), card_of())
    found, trouble = commons.everybody(str(path))

    assert found == []
    assert trouble is not None
    assert str(path) in trouble
    assert publisher.trouble is not None


def test_a_directory_of_mine_that_others_could_write_to_is_closed_to_them(common: str) -> None:
    """A mistake of mine must not keep me from being seen."""
    own = Path(common, str(ME))
    own.mkdir()
    own.chmod(0o777)
    assert commons.everybody(common)[0] == []

    publish(common, card_of())

    assert stat.S_IMODE(own.stat().st_mode) == 0o755
    assert len(mine(common)) == 1


@pytest.mark.parametrize("what", ["file", "link", "fifo"])
def test_where_my_name_is_taken_a_name_by_chance_is_used(common: str, what: str) -> None:
    """And always the same one, also when mine is free again."""
    plain = Path(common, str(ME))
    if what == "file":
        plain.touch()
    elif what == "link":
        plain.symlink_to("/tmp")
    else:
        os.mkfifo(plain)

    publisher = publish(common, card_of(beat=1))
    publish(common, card_of(beat=2))
    plain.unlink()
    publish(common, card_of(beat=3))

    assert publisher.trouble is None
    (name,) = os.listdir(common)
    assert name.startswith(f"{ME}.")
    assert [card.beat for card in mine(common)] == [3]


def test_names_that_are_no_users_are_nobody(common: str) -> None:
    """Neither words, nor numbers written otherwise, nor files, nor what is hidden."""
    for name in (
        "ann",
        f"0{ME}",
        f"+{ME}",
        f"-{ME}",
        f".{ME}",
        f"{ME} ",
        "9" * 30,
        "\u0661",
        f"{ME}x",
        "tmp",
    ):
        Path(common, name).mkdir()
    Path(common, str(ME)).touch()

    assert commons.everybody(common) == ([], None)


def test_of_several_directories_of_one_user_one_counts(common: str) -> None:
    """Else one user would be many, and have the turns of many."""
    for name in (f"{ME}.b", f"{ME}.a", f"{ME}.0123456789abcdef", f"{ME}"):
        Path(common, name).mkdir(mode=0o755)

    found = owners.owned(common, most=100)
    assert [one.name for one in found] == [str(ME)]
    Path(common, str(ME)).rmdir()
    assert [one.name for one in owners.owned(common, most=100)] == [f"{ME}.a"]


def test_very_many_names_are_looked_at_up_to_a_bound(common: str) -> None:
    """Whoever makes a hundred thousand delays nobody by more than a moment."""
    for number in range(3000):
        Path(common, str(100_000 + number)).touch()
    publish(common, card_of())
    assert len(mine(common)) == 1

    assert owners.owned(common, most=10) in ([], [owners.Owned(str(ME), ME, owners.account(ME))])


def test_directories_of_users_that_nobody_has_delay_by_no_more_than_some(
    common: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has to be asked for, and one user can make very many: known users first, the others bit by bit."""
    for number in range(300):
        Path(common, f"{3_000_000_000 + number}.x").mkdir()
    publish(common, card_of())
    asked = 0
    judge = owners.not_his_own

    def counted(status: os.stat_result, owner: int) -> str:
        nonlocal asked
        asked += 1
        return judge(status, owner)

    monkeypatch.setattr(owners, "not_his_own", counted)
    (found,) = owners.owned(common, most=1000, first=[str(ME)], wrong_most=10)
    assert (found.uid, asked) == (ME, 12)
    looks = (owners.owned(common, most=1000, wrong_most=10) for _ in range(10_000))
    assert any(looks)
    assert [one.uid for one in owners.owned(common, most=1000)] == [ME]


def test_reading_and_publishing_does_not_wait_for_names(
    common: str, helpers: Helpers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever makes it long to list the commons keeps nobody's cards from those who know each other."""
    publish(common, card_of())
    known, _ = commons.everybody(common)

    def hang(*_: object, **__: object) -> list[owners.Owned]:
        signal.pause()
        return []

    monkeypatch.setattr(owners, "owned", hang)
    monkeypatch.setattr(helping, "PATIENCE_S", 0.5)
    assert commons.everybody(common, known, helpers)[0] == known
    assert commons.is_at(next(iter(helpers.late())), common)

    publisher = Publisher(NODE, helpers)
    publisher.publish(common, card_of(beat=8), shows_names=False)
    assert publisher.trouble is None
    of = commons.at(common, owners.Owned(str(ME), ME, "ann"), helpers)
    assert [card.beat for card in cards.read_all(of)] == [8]


def test_my_directory_is_not_looked_for_anew_while_it_is_good(
    common: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where somebody else has my name, that would be to list all names for each card."""
    Path(common, str(ME)).touch()
    publisher = publish(common, card_of())
    monkeypatch.setattr(files, "listing", lambda *_, **__: pytest.fail("listed"))

    publisher.publish(common, card_of(beat=9), shows_names=False)
    assert publisher.trouble is None
    monkeypatch.undo()
    assert [card.beat for card in mine(common)] == [9]


# ---------------------------------------------------------------- reading


def test_who_can_be_read_at_home_is_not_read_in_the_commons(common: str, tmp_path: Path) -> None:
    """Nobody counts twice: neither others, nor I."""
    publish(common, card_of(job()))
    parent = tmp_path / "homes"
    ann = new_spool(parent / "ann")
    bob = replace(new_spool(parent / "bob"), uid=ME)

    found, trouble = neighbours.everybody([str(parent)], common, me=ann)
    assert trouble is None
    assert [spool.path for spool in found] == [bob.path]
    there, _ = commons.everybody(common)
    assert commons.beside([], there, ME) == []
    assert commons.beside([bob], there, ME + 1) == []
    assert commons.beside([], there, ME + 1) == there


def test_two_users_of_one_name_are_told_apart(common: str) -> None:
    """By where they are: all in the commons have the same directory above them."""
    one = commons.at(common, owners.Owned("1001", 1001, "bob"))
    two = commons.at(common, owners.Owned("1002.x", 1002, "bob"))
    me = commons.at(common, owners.Owned("1003", 1003, "ann"))

    assert [spool.user for spool in neighbours.told_apart([one, two], "cyd")] == [one.path, two.path]
    assert [spool.user for spool in neighbours.told_apart([one, me], "ann")] == ["bob", me.path]


def test_an_old_card_in_the_commons_is_none(common: str) -> None:
    """0.2.9 publishes nothing there; whoever pretends so could claim jobs that no process shows."""
    publish(common, card_of())
    old = {"hostname": NODE, "pid": os.getpid(), "physical_cores": 4, "logical_cpus": 4}
    Path(common, str(ME), NODE).write_text(json.dumps(old))

    assert mine(common) == []
    assert Neighbourhood(NODE).look(commons.everybody(common)[0], 100.0) == []


def test_the_age_of_a_card_is_taken_from_my_own_there(common: str) -> None:
    """The commons may be on another server than the homes, with another clock; and others give their cards
    what times they like."""
    publish(common, card_of())
    own = Path(common, str(ME))
    other = replace(card_of(), node="n2")
    publish(common, other)
    os.utime(own / NODE, ns=(1, 3 * 3600 * NS))
    os.utime(own / "n2", ns=(1, 2 * 3600 * NS))

    seen = Neighbourhood("n3").look(commons.everybody(common)[0], 100.0, stamped_ns=time.time_ns())

    silent = {one.card.node: one.silent_s for one in seen}
    assert silent == {NODE: 0.0, "n2": 3600.0}
    assert {one.card.node for one in seen if one.is_alive} == {NODE}
    assert silent["n2"] > SILENT_S


def test_while_the_commons_does_not_answer_its_users_stay(
    common: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What runs of them occupies its node all the same; it is said that they cannot be read."""
    publish(common, card_of())
    known, _ = commons.everybody(common)
    monkeypatch.setattr(reading, "each", lambda calls: [reading.NotAnswering(common) for _ in calls])

    found, trouble = commons.everybody(common, known)

    assert found == known
    assert trouble == f"the commons {common} cannot be read: its file system does not answer"
    assert commons.everybody(common, [replace(known[0], path="/else/1")])[0] == []


# ---------------------------------------------------------------- sweeping


def test_cards_of_nodes_that_are_long_gone_are_removed(common: str) -> None:
    """By the server's clock, against the card of this node; those of living nodes stay."""
    publisher = publish(common, card_of())
    for node in ("n2", "n3"):
        publish(common, replace(card_of(), node=node))
    own = Path(common, str(ME))
    now_ns = (own / NODE).stat().st_mtime_ns
    os.utime(own / "n2", ns=(now_ns, now_ns - int((commons.KEEP_MIN_S + 60) * NS)))
    os.utime(own / "n3", ns=(now_ns, now_ns - int((commons.KEEP_MIN_S - 60) * NS)))

    publisher.sweep(0.0)
    assert sorted(card.node for card in mine(common)) == [NODE, "n3"]


def test_what_dead_processes_left_in_the_commons_is_removed(common: str) -> None:
    """Of this node: nobody else knows who lives here."""
    publisher = publish(common, card_of())
    tmp = Path(common, str(ME), "tmp")
    dead, living, elsewhere = f"{NODE}.4194999.0.ab", f"{NODE}.{os.getpid()}.0.ab", "n2.4194999.0.ab"
    for name in (dead, living, elsewhere):
        (tmp / name).touch()

    publisher.sweep(0.0)

    assert sorted(os.listdir(tmp)) == sorted([living, elsewhere])


# ---------------------------------------------------------------- watching


def test_a_card_in_the_commons_wakes_whoever_watches_it(common: str, helpers: Helpers) -> None:
    """As one at home does; a directory that is not its user's is not watched."""
    publisher = publish(common, card_of())
    with Watcher() as watcher:
        descriptor = watcher.descriptor()
        assert descriptor is not None
        helpers.offer("watch", watcher.add, descriptor)
        (spool,), _ = commons.everybody(common, (), helpers)
        stranger = commons.at(common, owners.Owned(str(ME), ME + 1, "eve"), helpers)

        (watch, refused) = reading.each([each.way.call("watch", each.path) for each in (spool, stranger)])
        watcher.adopt(spool.path, watch)
        publisher.publish(common, card_of(beat=8), shows_names=False)

        assert isinstance(refused, PermissionError)
        assert watcher.wait(10.0) == {spool.path}
