"""Requests for signals: each is one, and what is not understood asks nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from roundq.records import signals
from roundq.records import spool as spools
from roundq.records.spool import Spool

TOKEN = "0123456789abcdef"


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    made = spools.at(str(tmp_path), "ann", os.geteuid())
    spools.prepare(made)
    return made


def leave(spool: Spool, name: str, content: str) -> None:
    (Path(spool.directory("requests")) / name).write_text(content)


def test_each_request_is_one_of_its_job(spool: Spool) -> None:
    """Also two of one signal; and they are told from requests of other jobs, whatever their ids look like."""
    names = [
        signals.ask(spool, job, "b.1.2", 10, "n1", to_all=False) for job in ("1", "1", "1~x", "11", "1.n2")
    ]
    assert len(set(names)) == 5
    assert {one.name for one in signals.of(spool, "1")} == set(names[:2])
    assert {one.name for one in signals.of(spool, "1~x")} == {names[2]}
    assert signals.of(spool, "1.n2") == [signals.Asked(names[4], "b.1.2", 10, False)]
    assert signals.names(spool) == set(names)
    assert spools.requests(spool) == {job: {"signal"} for job in ("1", "1~x", "11", "1.n2")}

    signals.remove(spool, names[0])
    assert [one.name for one in signals.of(spool, "1")] == [names[1]]
    spools.answer(spool, "1", ("signal",))
    assert signals.names(spool) == set(names[2:])


@pytest.mark.parametrize(
    "content",
    [
        "",
        "b.1.2\n10",
        "b.1.2\nTERM\nall",
        "b.1.2\n-9\nall",
        "b.1.2\n10\neverybody",
        "a\nb\nc\nd",
        "b\n9999\nall",
        "b\n65\nall",
        "b\n999\ncommand",
        "b\n0\nall",
        "b\n\u0669\nall",
    ],
)
def test_what_is_not_understood_asks_nothing(spool: Spool, content: str) -> None:
    leave(spool, f"1~{TOKEN}.signal", content)
    assert signals.of(spool, "1") == []


@pytest.mark.parametrize(
    "name", ["1.signal", "1~.signal", f"~{TOKEN}.signal", f"1~{TOKEN}0.signal", f"1~{TOKEN}.SIGNAL"]
)
def test_other_names_are_no_requests(spool: Spool, name: str) -> None:
    leave(spool, name, "b.1.2\n10\nall")
    assert signals.names(spool) == set()
    assert spools.requests(spool) == {}


def test_a_request_that_is_no_file_of_mine_asks_nothing(spool: Spool) -> None:
    """A link may lead anywhere, and a FIFO never answers."""
    directory = Path(spool.directory("requests"))
    (directory / "real").write_text("b.1.2\n10\nall\n")
    (directory / f"1~{TOKEN}.signal").symlink_to(directory / "real")
    os.mkfifo(directory / f"2~{TOKEN}.signal")
    assert signals.of(spool, "1") == []
    assert signals.of(spool, "2") == []
