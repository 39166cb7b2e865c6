"""Promises about control/: what is asked there holds, costs nothing while it stands, and can do no harm."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from roundq.records import control
from roundq.records import spool as spools
from roundq.records.control import Control
from roundq.records.spool import Spool
from roundq.words.drains import Drain
from roundq.words.errors import RecordError, SpoolFull
from roundq.words.limits import Limit
from roundq.world import files
from tests.rights import need_root


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """Ann's."""
    made = spools.at(str(tmp_path), "ann", os.geteuid())
    spools.prepare(made)
    return made


def path(spool: Spool, name: str) -> Path:
    return Path(spool.directory("control"), name)


def write(spool: Spool, name: str, content: str | bytes) -> Path:
    """Puts a file there as somebody would by hand."""
    at = path(spool, name)
    at.write_bytes(content if isinstance(content, bytes) else content.encode())
    at.chmod(0o644)
    return at


def looked(spool: Spool, node: str = "n1") -> Control:
    """What a daemon that begins on this node knows."""
    found = Control(spool, node)
    found.look(100.0)
    return found


# ---------------------------------------------------------------- what is asked holds


def test_a_new_spool_has_the_directory_and_nothing_is_asked(spool: Spool) -> None:
    """For its owner alone to write; no node can have its name."""
    assert os.stat(spool.directory("control")).st_mode & 0o777 == 0o755
    assert not spools.is_node_name("control")
    found = looked(spool)
    assert (found.drain, found.limit, found.trouble) == (None, Limit(), [])
    assert (control.drains(spool), control.limit(spool)) == ({}, Limit())


def test_a_drain_holds_for_its_node_until_it_is_resumed(spool: Spool) -> None:
    """Of any name that a node may have; a second one says why now."""
    for node in ("n1", "n2.example.org", "limits.json", "x.drain"):
        control.drain(spool, node, Drain("ann", "new disk", 5), "here")
        assert looked(spool, node).drain == Drain("ann", "new disk", 5)
        assert looked(spool, f"{node}0").drain is None
    control.drain(spool, "n1", Drain("ann", "power", 7), "here")
    assert control.drains(spool)["n1"] == looked(spool).drain == Drain("ann", "power", 7)

    assert control.resume(spool, "n1")

    assert looked(spool).drain is None
    assert not control.resume(spool, "n1")
    assert (
        list(control.drains(spool)) == ["n2.example.org", "limits.json", "x.drain"]
        or len(control.drains(spool)) == 3
    )
    assert os.listdir(spool.directory("tmp")) == []


def test_limits_are_kept_and_taken_away(spool: Spool) -> None:
    """Each for itself; without any there is no file."""
    for limit in (Limit(16, 20), Limit(None, 3), Limit(0, None)):
        control.set_limit(spool, limit, "here")
        assert control.limit(spool) == looked(spool).limit == limit
    control.set_limit(spool, Limit(), "here")
    assert control.limit(spool) == looked(spool).limit == Limit()
    assert os.listdir(spool.directory("control")) == []


def test_what_is_asked_is_durable_when_the_command_returns(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name is synced, also that of what was taken away."""
    synced: list[str] = []
    monkeypatch.setattr(files, "sync_directory", synced.append)
    control.drain(spool, "n1", Drain("ann"), "here")
    control.resume(spool, "n1")
    control.set_limit(spool, Limit(1), "here")
    control.set_limit(spool, Limit(), "here")
    assert synced == [spool.directory("control")] * 4


def test_a_full_disk_is_said_and_nothing_is_half_written(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What held before holds."""
    control.set_limit(spool, Limit(5), "here")

    def full(*_: object, **__: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_temporary", full)
    with pytest.raises(SpoolFull, match="cannot drain n1: No space left"):
        control.drain(spool, "n1", Drain("ann"), "here")
    with pytest.raises(SpoolFull, match="cannot set limits: No space left"):
        control.set_limit(spool, Limit(6), "here")
    assert control.limit(spool) == Limit(5)
    assert control.drains(spool) == {}


# ---------------------------------------------------------------- the daemon


def test_while_nothing_changes_nothing_is_read(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A round costs what changed: then one look at the directory's time."""
    control.drain(spool, "n1", Drain("ann"), "here")
    found = looked(spool)
    found.look(105.0)
    found.look(110.0)
    monkeypatch.setattr(files, "listing", lambda *_, **__: pytest.fail("it was listed"))
    monkeypatch.setattr(files, "read", lambda *_, **__: pytest.fail("it was read"))
    for now_s in range(111, 120):
        found.look(float(now_s))
    assert found.drain == Drain("ann")


def test_a_change_is_seen_at_the_next_look(spool: Spool) -> None:
    """Of a drain and of limits, there and away again."""
    found = looked(spool)
    found.look(105.0)
    found.look(110.0)
    control.drain(spool, "n1", Drain("ann", "disk"), "here")
    control.set_limit(spool, Limit(cores=4), "here")
    found.look(111.0)
    assert (found.drain, found.limit) == (Drain("ann", "disk"), Limit(cores=4))
    control.resume(spool, "n1")
    control.set_limit(spool, Limit(), "here")
    found.look(112.0)
    assert (found.drain, found.limit) == (None, Limit())


def test_a_home_that_does_not_answer_proves_nothing(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was asked before holds, and it is looked at again."""
    control.drain(spool, "n1", Drain("ann", "disk"), "here")
    found = looked(spool)
    control.drain(spool, "n1", Drain("ann", "power"), "here")

    def away(*_: object, **__: object) -> list[files.Name]:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(files, "listing", away)
        for now_s in (101.0, 110.0):
            with pytest.raises(OSError, match="Input/output error"):
                found.look(now_s)
    assert found.drain == Drain("ann", "disk")
    found.look(111.0)
    assert found.drain == Drain("ann", "power")


# ---------------------------------------------------------------- what is wrong there

BROKEN = [b"{", b"[]", b"3", b'{"reason": 3, "cores": -1}', b"\xff", b"[" * 3000, b'{"by": {}, "jobs": "x"}']


@pytest.mark.parametrize("content", [*BROKEN, b"x" * 5000])
def test_a_broken_drain_drains(spool: Spool, content: bytes) -> None:
    """Whoever wrote it wanted nothing to start; what is wrong is said."""
    write(spool, "n1.drain", content)
    found = looked(spool)
    assert found.drain == control.drains(spool)["n1"] == Drain("ann")
    (trouble,) = found.trouble
    assert trouble.startswith("control/n1.drain: ")
    assert trouble.endswith("; this node is drained all the same")


def test_an_empty_drain_drains_and_is_no_trouble(spool: Spool) -> None:
    """touch(1) is enough."""
    write(spool, "n1.drain", "")
    found = looked(spool)
    assert (found.drain, found.trouble) == (Drain("ann"), [])


@pytest.mark.parametrize("content", [*BROKEN, b"", b"x" * 5000, b'{"cores": true}', b'{"jobs": 1e3}'])
def test_broken_limits_leave_those_before_in_force(spool: Spool, content: bytes) -> None:
    """A daemon that begins has none; both say so, and mend themselves when the file is mended in place."""
    control.set_limit(spool, Limit(8, 9), "here")
    found = looked(spool)
    at = write(spool, "limits.json", content)
    os.utime(spool.directory("control"))
    found.look(111.0)
    assert found.limit == Limit(8, 9)
    assert found.trouble[0].startswith("control/limits.json: ")
    assert found.trouble[0].endswith("; what it said before holds")
    begins = looked(spool)
    assert begins.limit == Limit()
    assert begins.trouble[0].endswith("; no limit of yours holds")
    with pytest.raises(RecordError):
        control.limit(spool)
    at.write_text('{"cores": 2, "more": [1]}')
    found.look(200.0)
    assert (found.limit, found.trouble) == (Limit(2), [])


def test_what_is_no_file_of_mine_is_told(spool: Spool, tmp_path: Path) -> None:
    """Links, directories and pipes neither block nor lead elsewhere."""
    (tmp_path / "elsewhere").write_text('{"cores": 1}')
    path(spool, "limits.json").symlink_to(tmp_path / "elsewhere")
    path(spool, "n1.drain").mkdir()
    found = looked(spool)
    assert found.trouble == [
        "control/n1.drain: it is not a regular file; this node is drained all the same",
        "control/limits.json: it is a symbolic link; no limit of yours holds",
    ]
    path(spool, "limits.json").unlink()
    os.mkfifo(path(spool, "limits.json"))
    found.look(200.0)
    assert found.limit == Limit()
    assert found.trouble[1] == "control/limits.json: it is not a regular file; no limit of yours holds"


def test_what_others_could_have_written_is_not_believed(spool: Spool) -> None:
    """It drains, but sets no limits."""
    write(spool, "limits.json", '{"cores": 1}').chmod(0o666)
    write(spool, "n1.drain", '{"reason": "boo"}').chmod(0o666)
    found = looked(spool)
    assert (found.drain, found.limit) == (Drain("ann"), Limit())
    assert all("it can be written by others" in trouble for trouble in found.trouble)


def test_what_belongs_to_somebody_else_is_not_believed(spool: Spool) -> None:
    """Whoever may have had the directory open once."""
    need_root()
    os.chown(write(spool, "limits.json", '{"cores": 1}'), 54_321, 54_321)
    os.chown(write(spool, "n1.drain", '{"reason": "boo"}'), 54_321, 54_321)
    found = looked(spool)
    assert (found.drain, found.limit) == (Drain("ann"), Limit())
    assert all("it belongs to uid 54321, not to uid 0" in trouble for trouble in found.trouble)


@pytest.mark.parametrize(
    "name",
    [
        ".drain",
        "n1.drain~",
        "#n1.drain#",
        "n1 (conflicted copy).drain",
        "n1.sync-conflict-20260101-1.drain",
        "n1.drain.orig",
        "n1",
        "limits.json~",
        "limits (conflicted copy 1).json",
        "n\x1b1.drain",
    ],
)
def test_other_names_ask_nothing(spool: Spool, name: str) -> None:
    """What editors and synchronizing programs leave is not ours."""
    write(spool, name, '{"cores": 1}')
    assert looked(spool).drain is None
    assert looked(spool).limit == Limit()
    assert control.drains(spool) == {}


@given(st.binary(max_size=200) | st.dictionaries(st.sampled_from(["reason", "by", "at", "cores"]), st.text()))
@example({"reason": "\x1b[2J" * 99, "by": "\x1b]0;x\x07\n"})
def test_whatever_is_there_is_harmless(
    tmp_path_factory: pytest.TempPathFactory, content: bytes | dict[str, str]
) -> None:
    """Nothing else than what is promised comes of any bytes, and all of it may be shown."""
    spool = spools.at(str(tmp_path_factory.mktemp("home")), "ann", os.geteuid())
    spools.prepare(spool)
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    write(spool, "n1.drain", data)
    write(spool, "limits.json", data)
    found = looked(spool)
    assert found.drain is not None
    assert found.drain.says.isprintable()
    assert len(found.drain.says) < 500
    assert all(len(trouble) < 500 for trouble in found.trouble)


# ---------------------------------------------------------------- limits of groups


def test_the_limit_of_a_group_is_a_file_of_its_own_and_goes_away_again(spool: Spool) -> None:
    """Of a set, and of an array, where no limit may have to be said."""
    control.set_group_limit(spool, "%my fit", 4, "here")
    control.set_group_limit(spool, "17", None, "here", keep=True)
    assert control.group_limits(spool) == ({"%my fit": 4, "17": None}, {})
    assert json.loads(path(spool, "%my fit.limit").read_text()) == {"jobs": 4}
    assert looked(spool).groups == {"%my fit": 4, "17": None}
    control.set_group_limit(spool, "%my fit", None, "here")
    control.set_group_limit(spool, "17", None, "here")
    assert control.group_limits(spool) == ({}, {})
    assert os.listdir(spool.directory("control")) == []


def test_a_changed_limit_of_a_group_is_seen_at_the_next_look(spool: Spool) -> None:
    found = looked(spool)
    found.look(105.0)
    found.look(110.0)
    for now_s, most in enumerate((4, 8, 0, None), 111):
        control.set_group_limit(spool, "%fit", most, "here")
        found.look(float(now_s))
        assert found.groups == ({} if most is None else {"%fit": most})


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b'{"jobs": "x"}', b'{"jobs": -1}', b"\xff", b"", b"[" * 3000]
)
def test_a_limit_of_a_group_that_cannot_be_read_changes_nothing_and_is_told(
    spool: Spool, content: bytes
) -> None:
    """What it said before holds; a daemon that begins knows no limit."""
    control.set_group_limit(spool, "%fit", 4, "here")
    known = looked(spool)
    write(spool, "%fit.limit", content)
    known.look(111.0)
    assert known.groups == {"%fit": 4}
    (told,) = known.trouble
    assert told.startswith("control/%fit.limit: ")
    assert told.endswith("; what it said before holds")
    (fresh,) = looked(spool).trouble
    assert fresh.endswith("; it does not limit set fit")
    assert looked(spool).groups == {}
    assert list(control.group_limits(spool)[1]) == ["%fit"]


@pytest.mark.parametrize(
    "name", [".limit", "%fit.limit~", "%a\nb.limit", "limit", "%fit (conflicted copy).limit"]
)
def test_other_names_limit_nothing(spool: Spool, name: str) -> None:
    write(spool, name, '{"jobs": 0}')
    assert (looked(spool).groups, looked(spool).trouble) == ({}, [])
    assert control.group_limits(spool) == ({}, {})
