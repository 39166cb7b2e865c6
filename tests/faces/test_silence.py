"""Promises about nodes that nothing is heard of: all commands say the same of them, and nobody writes."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from roundq.faces.cli.person import person
from roundq.faces.cli.progress import LISTEN_S, Listener
from roundq.records import cards, neighbours
from roundq.records.neighbours import SILENT_S
from roundq.words.states import COMPLETED, RUNNING, WAITING
from tests.faces.desk import Desk, start
from tests.faces.homes import card, record

SILENT = "n3 has not been seen for 14 min"


def a_silent_node(desk: Desk) -> None:
    """Ann's job 1 runs on n3, whose last card is 870 seconds older than what the server stamped last."""
    now = record("fit", node="n3", began_s=5)
    desk.homes.put(desk.spool, RUNNING, "1", now)
    desk.homes.card(desk.spool, "n3", silent_s=870)
    os.utime(desk.spool.directory("tmp"))


def stamps(home: str) -> dict[str, tuple[int, int]]:
    """Every file and directory of a home, with the times at which its content and its inode changed."""
    return {
        path: (status.st_mtime_ns, status.st_ctime_ns)
        for directory, _, names in os.walk(home)
        for path in [directory, *(f"{directory}/{name}" for name in names)]
        for status in [os.stat(path)]
    }


def test_every_look_tells_of_a_silent_node_and_changes_nothing(desk: Desk) -> None:
    a_silent_node(desk)
    before = stamps(os.path.dirname(desk.spool.path))
    assert re.search(r"^running, not seen for 14 min +1 +ann +n3 ", desk.rq("q").out, re.MULTILINE)
    assert f"{SILENT}: 1 job that was there may still run." in desk.rq("q").out
    assert f"why        {SILENT}: the job may still run there" in desk.rq("show", "1").out
    assert f"  {SILENT}: the job may still run there\n" in desk.rq("why", "1").out
    assert re.search(r"^n3 .* not seen for 14 min$", desk.rq("nodes").out, re.MULTILINE)
    for words in (["q"], ["show", "1"]):
        (job,) = json.loads(desk.rq(*words, "--json").out)["jobs"]
        assert 869 < job["silent"] < 900, words
    (node,) = json.loads(desk.rq("nodes", "--json").out)["nodes"]
    assert node["state"] == "silent"
    assert 869 < node["silent"] < 900
    assert stamps(os.path.dirname(desk.spool.path)) == before


def test_a_node_of_which_anybody_hears_is_not_silent(desk: Desk) -> None:
    """Her own daemon there may have left: the job goes on, and so does the node."""
    a_silent_node(desk)
    desk.homes.card(desk.homes.user("bob"), "n3")
    for words in (["q"], ["show", "1"], ["why", "1"], ["nodes"], ["cancel", "1"]):
        said = desk.rq(*words)
        assert "not seen" not in said.out + said.err, words
        assert "has not been seen" not in said.out + said.err, words
    assert json.loads(desk.rq("show", "1", "--json").out)["jobs"][0]["silent"] is None


def test_waiting_jobs_are_told_of_silent_daemons(desk: Desk) -> None:
    """Also if her own latest submission is all that is newer than the card."""
    a_silent_node(desk)
    desk.homes.put(desk.spool, WAITING, "2", record("next"))
    assert desk.rq("why", "2").out.splitlines() == [
        '2 "next":',
        "  no daemon of yours runs on any node: rq daemon starts one",
        "  n3: not seen for 14 min",
    ]


def test_a_request_is_itself_the_stamp_by_which_silence_is_measured(desk: Desk) -> None:
    """Nothing else was written since the node fell silent: the command says so all the same."""
    a_silent_node(desk)
    long_ago = os.stat(f"{desk.spool.path}/n3").st_mtime
    os.utime(desk.spool.directory("tmp"), (long_ago, long_ago))
    assert "not seen" not in desk.rq("q").out
    said = desk.rq("cancel", "1")
    assert said.err.startswith(f"rq: {SILENT}\n")


def test_who_waits_is_told_once(desk: Desk) -> None:
    """On standard error, in a pipe; the exit code is that of the job."""
    a_silent_node(desk)
    with start(desk, "wait", "1") as waiting:
        assert waiting.stderr is not None
        assert waiting.stderr.readline() == f"rq: {SILENT}; what runs there may go on\n"
        Path(desk.spool.directory(RUNNING), "1@n3.job").unlink()
        desk.homes.put(desk.spool, COMPLETED, "1", record("fit", began_s=5, ended_s=1, exit_code=0))
        out, err = waiting.communicate(timeout=20)
    assert (waiting.returncode, out, err) == (0, "", "")


def test_who_waits_hears_by_her_own_clock_when_a_node_falls_silent(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over time no stamp of the server is needed; a node that comes back and goes again is told again."""
    desk.homes.put(desk.spool, RUNNING, "1", record("fit", node="n3", began_s=5))
    cards.publish(desk.spool, card("ann", "n3", beat=1))
    looks: list[float] = []
    real = neighbours.Neighbourhood.look

    def look(self: neighbours.Neighbourhood, *args: object) -> object:
        looks.append(args[1])  # type: ignore[arg-type]
        return real(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(neighbours.Neighbourhood, "look", look)
    listen = Listener(person())
    met = {"1": desk.row("1").entry}
    assert listen(met, 1000.0) == []
    assert listen(met, 1001.0) == []
    assert looks == [1000.0]
    late_s = 1000.0 + SILENT_S
    assert listen(met, late_s) == ["n3 has not been seen for 10 min; what runs there may go on"]
    assert listen(met, late_s + LISTEN_S) == []
    cards.publish(desk.spool, card("ann", "n3", beat=2))
    assert listen(met, late_s + 2 * LISTEN_S) == []
    assert listen(met, late_s + 2 * LISTEN_S + SILENT_S) != []


def test_of_one_s_own_node_and_of_jobs_that_have_ended_nothing_is_listened_for(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(*_: object) -> object:
        raise AssertionError("nobody has to look")

    monkeypatch.setattr(neighbours.Neighbourhood, "look", look)
    desk.homes.put(desk.spool, RUNNING, "1", record(node="here1", began_s=5))
    desk.homes.put(desk.spool, COMPLETED, "2", record(began_s=5, ended_s=1, exit_code=0))
    assert Listener(person())({job: desk.row(job).entry for job in "12"}, 1000.0) == []
