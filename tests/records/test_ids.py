"""Promises about the numbers of jobs: none is given twice, whoever asks, and whatever the network says."""

from __future__ import annotations

import errno
import os
import random
import shutil
from pathlib import Path

import pytest

from roundq.records import ids
from roundq.records import spool as spools
from roundq.words.errors import SpoolError
from roundq.words.job import Job
from roundq.words.states import STATES
from roundq.world import files
from tests.records.crowd import crowd, drop, leftovers, new_spool, submitted
from tests.world.refusing import LOST, Refusing


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Refusing:
    refusing = Refusing()
    monkeypatch.setattr(files, "os", refusing)
    monkeypatch.setattr(ids, "os", refusing)
    return refusing


def nothing() -> int:
    return 0


def tokens(path: str) -> list[str]:
    return os.listdir(f"{path}/ids")


def test_numbers_count_up_from_one(tmp_path: Path) -> None:
    path = new_spool(tmp_path).path
    assert [ids.take(path, count, "n1", nothing) for count in (1, 3, 1)] == [1, 2, 5]
    (token,) = tokens(path)
    assert token.startswith("6.n1-")


def test_four_processes_never_get_the_same_number(tmp_path: Path) -> None:
    path = new_spool(tmp_path).path

    def ask(number: int) -> list[int]:
        chosen = random.Random(number)
        mine: list[int] = []
        for _ in range(200):
            count = chosen.randint(1, 3)
            first = ids.take(path, count, f"n{number}", nothing)
            mine += range(first, first + count)
        return mine

    given = [one for mine in crowd(4, ask) for one in mine]
    assert sorted(given) == list(range(1, len(given) + 1))
    assert len(tokens(path)) == 1


def test_the_numbers_of_one_asker_rise(tmp_path: Path) -> None:
    path = new_spool(tmp_path).path
    for mine in crowd(3, lambda _: [ids.take(path, 1, "n", nothing) for _ in range(50)]):
        assert mine == sorted(mine)


def test_of_many_founders_one_wins(tmp_path: Path) -> None:
    for name in ("tmp", "waiting"):
        (tmp_path / name).mkdir()

    def found(_: int) -> int:
        ids.found(str(tmp_path), nothing)
        return ids.take(str(tmp_path), 1, "n", nothing)

    assert sorted(crowd(6, found)) == [1, 2, 3, 4, 5, 6]
    assert os.listdir(tmp_path / "tmp") == []
    assert len(tokens(str(tmp_path))) == 1


@pytest.mark.parametrize("is_removed", [True, False], ids=["removed", "emptied"])
@pytest.mark.parametrize("state", STATES)
def test_a_lost_token_is_founded_anew_above_every_number_in_use(
    state: str, is_removed: bool, tmp_path: Path
) -> None:
    spool = new_spool(tmp_path)
    submitted(spool, 2)
    for name in ("41@n1.job", "41.job", "999999999999999999999.job", "x7.job"):
        Path(spool.directory(state), name).touch()
    (token,) = tokens(spool.path)
    os.unlink(f"{spool.path}/ids/{token}")
    if is_removed:
        os.rmdir(f"{spool.path}/ids")
        spools.prepare(spool)
    assert submitted(spool, 2) == ["42", "43"]


def test_the_tasks_of_an_array_use_their_number(tmp_path: Path) -> None:
    """17_3 is a task of 17, and 17 is not given again, even if nothing else is left of it."""
    spool = new_spool(tmp_path)
    Path(spool.directory("failed"), "17_3.job").touch()
    os.unlink(f"{spool.path}/ids/{tokens(spool.path)[0]}")
    assert submitted(spool) == ["18"]


@pytest.mark.parametrize("call", ["chmod", "open", "close", "rename"])
def test_a_founding_that_fails_is_said_and_leaves_nothing(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    system = Refusing()
    system.fail(call, errno.EDQUOT)
    monkeypatch.setattr(ids, "os", system)
    with pytest.raises(OSError, match="quota"):
        ids.found(str(tmp_path), nothing)
    assert [path.name for path in tmp_path.iterdir()] == ["tmp"]
    assert list((tmp_path / "tmp").iterdir()) == []


def test_what_a_dead_founder_left_is_swept_once_it_is_old(tmp_path: Path) -> None:
    """It names no process that could be asked for; and nothing else of that kind of name is touched."""
    kept = ["ids.example.7.0.0badcafe", "ids.0123456789abcde", "ids"]
    for name in ("ids.0123456789abcdef", *kept):
        (tmp_path / "tmp" / name).mkdir(parents=True)
        (tmp_path / "tmp" / name / "1.founded").touch()
        os.utime(tmp_path / "tmp" / name, (1000, 1000))
    ids.sweep(str(tmp_path), 1000.0)
    assert len(list((tmp_path / "tmp").iterdir())) == 4
    ids.sweep(str(tmp_path), 1001.0)
    assert sorted(path.name for path in (tmp_path / "tmp").iterdir()) == sorted(kept)


def test_a_token_that_stands_is_never_founded_over(tmp_path: Path) -> None:
    spool = new_spool(tmp_path)
    submitted(spool, 5)
    ids.found(spool.path, nothing)
    assert submitted(spool) == ["6"]
    assert leftovers(spool) == []


@pytest.mark.parametrize("number", LOST, ids=errno.errorcode.get)
def test_a_lost_reply_gives_the_number(number: int, tmp_path: Path, system: Refusing) -> None:
    path = new_spool(tmp_path).path
    system.fail("rename", number, happens=True)
    assert ids.take(path, 2, "n1", nothing) == 1
    assert ids.take(path, 1, "n1", nothing) == 3


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EIO, errno.ESTALE], ids=errno.errorcode.get)
def test_a_lost_reply_after_which_somebody_went_on_costs_numbers_only(
    number: int, tmp_path: Path, system: Refusing
) -> None:
    """They are never used: whether they were mine cannot be told any more."""
    path = new_spool(tmp_path).path
    real = os.rename

    def overtaken(source: str, target: str) -> None:
        real(source, target)
        system.instead("rename", real)
        assert ids.take(path, 1, "n2", nothing) == 3
        raise OSError(number, os.strerror(number))

    system.instead("rename", overtaken)
    assert ids.take(path, 2, "n1", nothing) == 4


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EIO, errno.ESTALE], ids=errno.errorcode.get)
def test_a_number_is_asked_for_again_after_an_error(number: int, tmp_path: Path, system: Refusing) -> None:
    path = new_spool(tmp_path).path
    system.fail("rename", number, times=2)
    assert ids.take(path, 2, "n1", nothing) == 1


@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EIO, errno.ESTALE], ids=errno.errorcode.get
)
def test_an_error_that_stays_is_said_soon(number: int, tmp_path: Path, system: Refusing) -> None:
    path = new_spool(tmp_path).path
    system.fail("rename", number, times=1_000_000)
    with pytest.raises(OSError) as caught:  # noqa: PT011
        ids.take(path, 1, "n1", nothing)
    assert caught.value.errno == number
    assert system.called("rename") < 50


def test_a_queue_that_is_always_busy_is_said(tmp_path: Path, system: Refusing) -> None:
    path = new_spool(tmp_path).path
    system.fail("rename", errno.ENOENT, times=1_000_000)
    with pytest.raises(SpoolError, match="too busy"):
        ids.take(path, 1, "n1", nothing)


def test_a_taken_number_is_durable_before_it_is_used(tmp_path: Path, system: Refusing) -> None:
    """Or else a crash would set the token back below a job that is safe in another directory."""
    path = new_spool(tmp_path).path
    system.calls.clear()
    ids.take(path, 1, "n1", nothing)
    steps = [call[:2] for call in system.calls if call[0] in ("rename", "open", "fsync")]
    assert [step[0] for step in steps] == ["rename", "open", "fsync"]
    assert steps[1] == ("open", f"{path}/ids")


@pytest.mark.parametrize("name", ["README", ".7.n", "x.7", "", "7a.n"])
def test_other_files_in_the_directory_are_no_token(name: str, tmp_path: Path) -> None:
    spool = new_spool(tmp_path)
    if name:
        Path(spool.directory("ids"), name).touch()
    assert submitted(spool) == ["1"]


def test_of_two_tokens_the_higher_counts(tmp_path: Path) -> None:
    """As a stale listing may show them, or a restored backup leave them."""
    spool = new_spool(tmp_path)
    Path(spool.directory("ids"), "70.old").touch()
    Path(spool.directory("ids"), "9.older").touch()
    assert submitted(spool) == ["70"]


def test_a_number_that_a_foreign_file_has_is_passed_over(tmp_path: Path) -> None:
    spool = new_spool(tmp_path)
    path = drop(spool, "2.job", b"theirs")
    assert submitted(spool, 3) == ["1", "4", "3"]
    assert Path(path).read_bytes() == b"theirs"
    assert leftovers(spool) == []


# ---------------------------------------------------------------- where a rename may have two winners


def test_nodes_that_count_for_themselves_share_no_number(tmp_path: Path) -> None:
    """Ids of different nodes differ by their names, whatever the others count, and whenever."""
    spool = new_spool(tmp_path)
    described = [Job(("true",), directory="/")] * 2

    given = [spools.submit(spool, described, node, counts_alone=True) for node in ("n1", "n2", "n1")]

    assert given == [["1.n1", "2.n1"], ["1.n2", "2.n2"], ["3.n1", "4.n1"]]
    assert spools.submit(spool, described, "n3") == ["1", "2"]
    assert sorted(name for name in tokens(spool.path) if name.startswith("of.")) == ["of.n1", "of.n2"]


def test_processes_of_a_node_that_counts_for_itself_never_get_the_same_number(tmp_path: Path) -> None:
    """Its mount shows them each other's renames at once, also that which founds the count."""
    spool = new_spool(tmp_path)

    def ask(_: int) -> list[str]:
        return [spools.submit(spool, [Job(("true",))], "n1", counts_alone=True)[0] for _ in range(25)]

    given = [one for mine in crowd(4, ask) for one in mine]

    assert sorted(given) == sorted(f"{number}.n1" for number in range(1, 101))


def test_a_count_that_was_lost_begins_above_every_number_of_its_node(tmp_path: Path) -> None:
    spool = new_spool(tmp_path)
    spools.submit(spool, [Job(("true",))] * 3, "n1", counts_alone=True)
    shutil.rmtree(f"{spool.path}/ids/of.n1")
    drop(spool, "77.n2.job")

    assert spools.submit(spool, [Job(("true",))], "n1", counts_alone=True) == ["4.n1"]


def test_a_node_whose_name_is_no_part_of_an_id_is_told_so(tmp_path: Path) -> None:
    spool = new_spool(tmp_path)
    with pytest.raises(SpoolError, match="name of this node is too long"):
        spools.submit(spool, [Job(("true",))], "n" * 110, counts_alone=True)
    assert os.listdir(f"{spool.path}/waiting") == os.listdir(f"{spool.path}/tmp") == []
