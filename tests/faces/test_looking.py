"""Promises about what a person sees of the queue, the nodes and the users, and what programs get."""

from __future__ import annotations

import json
import os
import re
import time
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from roundq.actors import listing as listings
from roundq.actors.listing import Listing, Row
from roundq.actors.occupancy import Told
from roundq.faces import as_json, cluster, nodes_view, queue_notes, queue_view, standings, tables
from roundq.faces.cli import looking
from roundq.faces.cluster import Look, Occupancy
from roundq.faces.queue_view import Facts
from roundq.faces.standings import Standing
from roundq.records import cards, control
from roundq.records import spool as spools
from roundq.records.cards import Gpu
from roundq.records.neighbours import Seen
from roundq.records.spool import Entry, Spool
from roundq.words.errors import RoundqError
from roundq.words.facts import Want
from roundq.words.job import NS, Attempt, Identity, Record
from roundq.words.limits import Limit, Limits
from roundq.words.states import OWNED_STATES, REASONS, STATES
from roundq.words.titles import Title
from roundq.world import config, files
from roundq.world.nodelock import NodeLock
from tests.faces.homes import HERE, NOW_NS, Homes, card, record
from tests.faces.screen import on_terminal, unpainted

ANN, BOB = Spool("/home/ann/.roundqueue", "ann", 1001), Spool("/home/bob/.roundqueue", "bob", 1002)


def row(spool: Spool, state: str, job_id: str, of: Record | None, problem: str | None = None) -> Row:
    node = of.node if of is not None and state in OWNED_STATES else None
    entry = Entry(job_id, state, node, f"{job_id}.job", 1)
    return Row(spool, entry, of, problem, spool == ANN)


def found(*rows: Row, **more: int) -> Listing:
    """A listing of these rows; `more` are jobs of bob's, by state, that have no row."""
    counts: dict[str, dict[str, int]] = {"bob": dict(more)}
    for each in rows:
        of = counts.setdefault(each.user, {})
        of[each.state] = of.get(each.state, 0) + 1
    return Listing(rows, counts, {})


def shown(of: Listing, facts: Facts, columns: int | None) -> str:
    """The list as `rq` prints it on a terminal so wide, or in a pipe."""
    rows = queue_view.rows_of(of, facts, is_short=columns is not None)
    lines = tables.lay_out(queue_view.COLUMNS, rows, columns)
    lines += tables.lay_out((), queue_notes.notes(of, facts), columns)
    return "\n".join("".join(cell.text for cell in line).rstrip() for line in lines)


FACTS = Facts(NOW_NS, silent={"node3": 850.0})
QUEUE = found(
    row(ANN, "waiting", "21", record("fit-21", ago_s=55, job_cores=4)),
    row(ANN, "running", "14", record("train", ago_s=7000, began_s=3725, node="node1", cores=4)),
    row(ANN, "running", "15", record("sweep", ago_s=7000, began_s=2, node="node3", cores=2)),
    row(ANN, "claimed", "20", record("fit-20", ago_s=60, node="node1")),
    row(ANN, "completed", "11", record("pre", began_s=500, ended_s=20, node="node1", exit_code=0)),
    row(ANN, "failed", "12", record("bad", began_s=500, ended_s=9, node="node1", exit_code=3, reason="exit")),
    row(ANN, "zombie", "13", record("gone", began_s=500, ended_s=5, node="node2", reason="lost")),
    row(
        BOB,
        "running",
        "1790000000.5",
        record("\x1b]0;mine now\x07a name that is longer than what a terminal has room for", node="node2"),
    ),
    row(BOB, "waiting", "3", None, "it is a symbolic link"),
)


# ---------------------------------------------------------------- the queue, as it is read


def test_the_list_on_eighty_columns() -> None:
    """Mine first; what runs, what waits, what ended; names are cut, the least important column is gone."""
    assert (
        shown(QUEUE, FACTS, 80)
        == """\
STATE                         ID            USER  NODE   RTIME  NAME
running                       14            ann   node1  1h02m  train
running, not seen for 14 min  15            ann   node3   0:02  sweep
starting                      20            ann   node1      -  fit-20
waiting                       21            ann   -          -  fit-21
failed: exit 3                12            ann   node1   8:11  bad
lost                          13            ann   node2      -  gone
completed                     11            ann   node1   8:00  pre
running                       1790000000.5  bob   node2      -  \\x1b]0;mine now…
waiting, unreadable           3             bob   -          -  (it is a symbol…
3 running (7 cores), 1 starting, 2 waiting, 1 completed, 1 failed, 1 lost
node3 has not been seen for 14 min: 1 job that was there may still run.
How 13 ended: rq why 13"""
    )


def test_the_list_on_a_hundred_and_twenty_columns() -> None:
    """With room there is every column."""
    assert (
        shown(QUEUE, FACTS, 120)
        == """\
STATE                         ID            USER  NODE   CPUS  RTIME   WAIT  NAME
running                       14            ann   node1     4  1h02m  54:35  train
running, not seen for 14 min  15            ann   node3     2   0:02  1h56m  sweep
starting                      20            ann   node1     1      -   1:00  fit-20
waiting                       21            ann   -         4      -   0:55  fit-21
failed: exit 3                12            ann   node1     1   8:11   1:40  bad
lost                          13            ann   node2     1      -   1:40  gone
completed                     11            ann   node1     1   8:00   1:40  pre
running                       1790000000.5  bob   node2     1      -  10:00  \\x1b]0;mine now\\x07a name that is longer t…
waiting, unreadable           3             bob   -         -      -      -  (it is a symbolic link)
3 running (7 cores), 1 starting, 2 waiting, 1 completed, 1 failed, 1 lost
node3 has not been seen for 14 min: 1 job that was there may still run.
How 13 ended: rq why 13"""  # noqa: E501
    )


def test_the_list_in_a_pipe() -> None:
    """Whole names, one line per job."""
    assert (
        shown(QUEUE, FACTS, None)
        == """\
STATE                         ID            USER  NODE   CPUS  RTIME   WAIT  NAME
running                       14            ann   node1     4  1h02m  54:35  train
running, not seen for 14 min  15            ann   node3     2   0:02  1h56m  sweep
starting                      20            ann   node1     1      -   1:00  fit-20
waiting                       21            ann   -         4      -   0:55  fit-21
failed: exit 3                12            ann   node1     1   8:11   1:40  bad
lost                          13            ann   node2     1      -   1:40  gone
completed                     11            ann   node1     1   8:00   1:40  pre
running                       1790000000.5  bob   node2     1      -  10:00  \\x1b]0;mine now\\x07a name that is longer than what a terminal has room for
waiting, unreadable           3             bob   -         -      -      -  (it is a symbolic link)
3 running (7 cores), 1 starting, 2 waiting, 1 completed, 1 failed, 1 lost
node3 has not been seen for 14 min: 1 job that was there may still run.
How 13 ended: rq why 13"""  # noqa: E501
    )


def test_long_runs_of_waiting_jobs_fold() -> None:
    """On a terminal the next ones and the newest of mine are shown; in a pipe some hundreds."""
    mine = [row(ANN, "waiting", str(n), record(f"fit-{n}", ago_s=1000 - n)) for n in range(1, 31)]
    theirs = [row(BOB, "waiting", str(n), record(f"sim-{n}")) for n in range(1, 6)]
    of = found(*mine, *theirs, waiting=4800)
    lines = shown(of, FACTS, 80).splitlines()
    names = [line.split()[-1] for line in lines[1:-2]]
    assert names == [
        *(f"fit-{n}" for n in range(1, 9)),
        "waiting",
        "fit-30",
        "sim-1",
        "sim-2",
        "sim-3",
        "waiting",
    ]
    assert lines[9] == "... 21 more waiting: rq list -t waiting"
    assert lines[14] == "... 4,802 more waiting: rq list -u bob -t waiting"
    assert lines[-2:] == ["4,835 waiting", "Why 1 waits: rq why 1"]
    piped = shown(replace(of, counts={}), FACTS, None)
    assert "more" not in piped
    assert piped.count("sim-") == 5
    assert piped.count("fit-") == 30


def test_two_more_are_shown_rather_than_folded() -> None:
    """A line that says how many is worth it only if it saves lines."""
    of = found(*(row(BOB, "waiting", str(n), record(f"sim-{n}")) for n in range(4)))
    assert "more" not in shown(of, FACTS, 80)


def test_jobs_that_could_not_all_be_listed_are_counted_even_in_a_pipe() -> None:
    """The listing has at most so many rows per user; the rest is not passed over in silence."""
    of = found(row(BOB, "waiting", "1", record("sim")), waiting=20_000)
    assert "\n... 20,000 more waiting: rq list -u bob -t waiting\n" in shown(of, FACTS, None)


@pytest.mark.parametrize(
    ("state", "of", "says"),
    [
        ("failed", {"exit_code": 3, "reason": "exit"}, "failed: exit 3"),
        ("failed", {"exit_code": 3}, "failed: exit 3"),
        ("failed", {"signal": 9, "reason": "signal"}, "failed: SIGKILL"),
        ("failed", {"signal": 64, "reason": "signal"}, "failed: SIGRTMAX"),
        ("failed", {"signal": 100, "reason": "signal"}, "failed: signal 100"),
        ("failed", {"signal": 15, "reason": "time limit"}, "failed: time limit"),
        ("failed", {"reason": "no command"}, "failed: no command"),
        ("failed", {"reason": "\x1b[2J" * 99}, "failed: see its record"),
        ("failed", {}, "failed"),
        ("completed", {"exit_code": 0}, "completed"),
        ("completed", {"exit_code": 0, "reason": "exit"}, "completed"),
        ("completed", {}, "completed: exit code unknown"),
        ("canceled", {"reason": "canceled", "signal": 15}, "canceled"),
        ("canceled", {"reason": "dependency"}, "canceled: dependency"),
        ("canceled", {"reason": "\x1b[2J"}, "canceled"),
        ("zombie", {"reason": "lost"}, "lost"),
        ("claimed", {}, "starting"),
        ("held", {}, "held"),
    ],
)
def test_a_state_in_words(state: str, of: dict[str, Any], says: str) -> None:
    """How a job ended is told apart; what is not known is not made up."""
    assert queue_view.state_text(row(ANN, state, "1", record(**of)), FACTS) == says


def test_every_reason_has_a_place_in_the_list() -> None:
    """No reason of ours shows as one nobody knows."""
    for reason in REASONS:
        assert "record" not in queue_view.state_text(row(ANN, "failed", "1", record(reason=reason)), FACTS)


def test_every_state_has_its_place_and_look() -> None:
    """A new state cannot be forgotten."""
    for known in (listings.ORDER, queue_view.STYLES, queue_view.SHOWN_MINE, queue_view.SHOWN_THEIRS):
        assert set(known) == set(STATES)


def test_a_running_job_that_is_asked_to_end_or_whose_supervisor_is_gone() -> None:
    """Between two states the list says what is known."""
    one = row(ANN, "running", "1", record(node="node1"))
    key = frozenset({(ANN.path, "1")})
    assert queue_view.state_text(one, replace(FACTS, canceling=key)) == "canceling"
    assert queue_view.state_text(one, replace(FACTS, gone=key)) == "running, its supervisor is gone"


@pytest.mark.parametrize(
    ("state", "of", "run_s", "wait_s"),
    [
        ("waiting", {"ago_s": 60}, None, 60),
        ("running", {"ago_s": 60, "began_s": 20}, 20, 40),
        ("completed", {"ago_s": 60, "began_s": 20, "ended_s": 5}, 15, 40),
        ("canceled", {"ago_s": 60, "ended_s": 5}, None, 55),
        ("canceled", {"ago_s": 60}, None, None),
        ("zombie", {"ago_s": 60, "began_s": 20, "ended_s": 5}, None, 40),
        ("running", {"ago_s": 60, "began_s": -20}, 0, 80),
        ("waiting", {"ago_s": -60}, None, 0),
        ("waiting", {"ago_s": 60, "attempts": (Attempt(1, "n", None, 1, NOW_NS - 9 * NS),)}, None, 9),
    ],
)
def test_times(state: str, of: dict[str, Any], run_s: float | None, wait_s: float | None) -> None:
    """Running stops at the end, waiting at the start; clocks that disagree give 0, never less."""
    one = row(ANN, state, "1", record(**of))
    assert queue_view.run_time_s(one, NOW_NS) == run_s
    assert queue_view.wait_time_s(one, NOW_NS) == wait_s


def test_mine_that_wait_without_a_daemon_are_told_with_the_remedy() -> None:
    """Nothing is worse than a queue that stands still and does not say why."""
    of = found(row(ANN, "waiting", "1", record("fit")))
    facts = replace(FACTS, starts_nothing=True)
    assert "Start one: rq daemon" in shown(of, facts, None)
    assert "rq daemon" in shown(of, facts, 30)


def test_what_cannot_be_seen_is_said_in_one_line() -> None:
    """Closed homes are named, but not by the hundred; spools that cannot be listed with the reason."""
    facts = replace(FACTS, hidden=[f"u{n:02}" for n in range(40)])
    of = replace(found(), problems={"eve": "/home/eve/.roundqueue cannot be listed: Input/output error"})
    assert shown(of, facts, None).splitlines()[1:] == [
        "eve: /home/eve/.roundqueue cannot be listed: Input/output error",
        "Closed homes, whose queues, if any, cannot be seen: u00, u01, u02 and 37 more.",
    ]


# ---------------------------------------------------------------- nodes and users


def seen(of: cards.Card, spool: Spool = ANN, *, silent_s: float = 5, is_alive: bool = True) -> Seen:
    return Seen(spool, of, is_alive, silent_s)


#: One that is free, one that a job has, one that a stranger uses.
GPUS = (Gpu("g1", "A100"), Gpu("g2", "A100"), Gpu("g3", "A100", busy=True))
LOOK = Look(
    ANN,
    "node1",
    (
        seen(card("ann", "node1", cores=16, load=7.25, gpus=GPUS)),
        seen(card("bob", "node1", cores=12), BOB),
        seen(card("ann", "node2", cores=8, state="draining", reason="new\x1b[2J disk")),
        seen(card("bob", "node10", cores=32), BOB, silent_s=850, is_alive=False),
        seen(card("bob", "node9", cores=4, version="", process=None), BOB),
    ),
    (
        Occupancy(ANN, "node1", 8, gpus=("g2",)),
        Occupancy(BOB, "node1", 4),
        Occupancy(BOB, "node9", 0),
        Occupancy(BOB, "node10", 30),
    ),
    {ANN: 3, BOB: 4817},
)


def painted(columns: tuple[tables.Column, ...], rows: list[tables.Row], available: int | None) -> str:
    lines = tables.lay_out(columns, rows, available)
    return "\n".join("".join(cell.text for cell in line).rstrip() for line in lines)


def test_nodes() -> None:
    """What each has and gives; a node that is not heard of counts for nothing but is not hidden."""
    rows = nodes_view.node_rows(cluster.nodes_of(LOOK))
    assert (
        painted(nodes_view.NODE_COLUMNS, rows, 100)
        == """\
NODE     CORES              CPUS  LOAD    MEMORY  GPUS  JOBS  USERS  STATE
node1   12/16*  ███████░░░    32   7.2   40G/64G   1/3     2      2  up
node2      0/8  ░░░░░░░░░░    16   3.5   40G/64G     -     0      1  draining: new\\x1b[2J disk
node9      4/4  ██████████     8     -         -     -     1      1  up, 0.2.9 only
node10   30/32  █████████░    64   3.5   40G/64G     -     1      0  not seen for 14 min
TOTAL    16/28  █████░░░░░    56  10.8  80G/128G   1/3     3      2  3 of 4 up
* node1: its users offer different numbers of cores: ann 16, bob 12"""
    )
    assert (
        painted(nodes_view.NODE_COLUMNS, rows, None)
        == """\
NODE     CORES  CPUS  LOAD    MEMORY  GPUS  JOBS  USERS  VERSION  STATE
node1   12/16*    32   7.2   40G/64G   1/3     2      2  1.0.0    up
node2      0/8    16   3.5   40G/64G     -     0      1  1.0.0    draining: new\\x1b[2J disk
node9      4/4     8     -         -     -     1      1  0.2.9    up, 0.2.9 only
node10   30/32    64   3.5   40G/64G     -     1      0  1.0.0    not seen for 14 min
TOTAL    16/28    56  10.8  80G/128G   1/3     3      2           3 of 4 up
* node1: its users offer different numbers of cores: ann 16, bob 12"""
    )


def test_nodes_on_eighty_columns() -> None:
    """Cores and state are what matters; they stay."""
    lines = painted(nodes_view.NODE_COLUMNS, nodes_view.node_rows(cluster.nodes_of(LOOK)), 80).splitlines()
    assert lines[0].split() == ["NODE", "CORES", "LOAD", "MEMORY", "GPUS", "JOBS", "STATE"]
    assert all(tables.width(line) <= 80 for line in lines)


def test_columns_that_say_nothing_are_left_out_for_people() -> None:
    """On a terminal; where no node has a GPU, nobody scavenges and nobody is limited."""
    bare = replace(LOOK, seen=LOOK.seen[2:], occupied=())
    columns, rows = nodes_view.without_empty(
        nodes_view.NODE_COLUMNS, nodes_view.node_rows(cluster.nodes_of(bare))
    )
    lines = painted(tuple(columns), rows, 80).splitlines()
    assert lines[0].split() == ["NODE", "CORES", "CPUS", "LOAD", "MEMORY", "JOBS", "STATE"]
    assert lines[1].split()[:2] == ["node2", "0/8"]
    assert all(tables.width(line) <= 80 for line in lines)
    columns, _ = nodes_view.without_empty(
        nodes_view.USER_COLUMNS, nodes_view.user_rows(cluster.users_of(bare), cluster.nodes_of(bare))
    )
    titles = [column.title for column in columns]
    assert titles == ["USER", "CORES", "", "RUNNING", "WAITING", "TURN", "WEIGHT", "NODES"]


@pytest.mark.parametrize(
    ("states", "reason", "says"),
    [
        (("draining", "draining"), "drained by admin: disk", "drained by admin: disk"),
        (("draining", "draining"), "it can be written by others", "draining: it can be written by others"),
        (("draining", "up"), "drained by ann: disk", "up, drained by ann: disk"),
        (
            ("draining", "up"),
            "it can be written by others",
            "up, draining for ann: it can be written by others",
        ),
        (("draining", "draining"), "", "draining"),
    ],
)
def test_a_drained_node_says_who_and_why(states: tuple[str, str], reason: str, says: str) -> None:
    """In the words of the daemons there."""
    of = tuple(
        seen(card(spool.user, "node1", state=state, reason=reason if state == "draining" else ""), spool)
        for spool, state in zip((ANN, BOB), states, strict=True)
    )
    (node,) = cluster.nodes_of(replace(LOOK, seen=of))
    assert nodes_view.node_state(node) == (says, "yellow")


def test_what_has_spare_threads_overbooks_no_node() -> None:
    """It takes no cores; it is told in a line of its own."""
    of = seen(card("ann", "node1", cores=4, threads=4))
    look = Look(
        ANN, "node1", (of,), (Occupancy(ANN, "node1", 4), Occupancy(ANN, "node1", 2, threads=True)), {ANN: 0}
    )
    (node,) = cluster.nodes_of(look)
    assert (node.used, node.cores, node.threads_used, node.threads, node.jobs) == (4, 4, 2, 4, 2)
    lines = [row.text for row in nodes_view.node_rows([node]) if isinstance(row, tables.Line)]
    assert lines == ["node1: 2 of 4 spare threads are in use"]
    (line,) = [
        row for row in nodes_view.node_rows([replace(node, threads_used=1)]) if isinstance(row, tables.Line)
    ]
    assert line.text == "node1: 1 of 4 spare threads is in use"


def test_a_user_whose_jobs_only_titles_tell_of_is_one_user(tmp_path: Path) -> None:
    """With what waits in the queue: a queue that can be read, without a card of this node."""
    homes = Homes(tmp_path)
    me, bob = homes.user("ann"), replace(homes.user("bob"), uid=54_321)
    homes.put(bob, "waiting", "8", record())
    told = [Told(Identity("boot", uid, 1), uid, Title("7", 2)) for uid in (bob.uid, 54_322)]
    looked = cluster.look([me, bob], me, HERE, 0.0, told)
    users = [(user.name, user.waiting) for user in cluster.users_of(looked)]
    assert users == [("bob", 1), ("54322", 0), ("ann", 0)]
    assert [job.spool.user for job in looked.occupied] == ["bob", "54322"]


def heads(submitted_ns: int, **of: Any) -> dict[str, Any]:
    """What a card has of a user who waits."""
    return {"waiting": 1, "heads": (Want("1", 1, 0, submitted_ns, **of),)}


def standing(*of: Seen, **more: Any) -> dict[str, Standing]:
    """How the users of these cards stand, as ann sees it."""
    given = {"weights": {}, "half_life_s": 3600.0, "cores": 0, "limits": Limits(), "own": Limit(), **more}
    return standings.standings(Look(ANN, "node1", of, (), {}), **given)


CARL = Spool("/home/carl/.roundqueue", "carl", 1003)


def test_the_next_turn_is_whose_level_is_lowest() -> None:
    """As the policy plays it: running cores by weight, then the earlier submission; who waits for nothing
    has no turn, and what scavenges comes last."""
    ann = seen(card("ann", "node1", cores=8, jobs={"7": 4}, **heads(5)))
    bob = seen(card("bob", "node1", cores=8, jobs={"7": 2}, **heads(9)), BOB)
    carl = seen(card("carl", "node1", cores=8, jobs={"7": 1}), CARL)
    found = standing(ann, bob, carl)
    assert {user: one.turn for user, one in found.items()} == {"ann": 2, "bob": 1, "carl": None}
    found = standing(ann, bob, carl, weights={"ann": 4.0})
    assert (found["ann"].turn, found["bob"].turn, found["ann"].weight) == (1, 2, 4)
    idle = seen(card("carl", "node1", cores=8, **heads(1, scavenge=True)), CARL)
    assert standing(ann, bob, idle)["carl"].turn == 3
    same = seen(card("bob", "node1", cores=8, jobs={"7": 4}, **heads(9)), BOB)
    assert standing(ann, same)["ann"].turn == 1
    gone = seen(card("bob", "node1", cores=8, **heads(9)), BOB, is_alive=False)
    drained = seen(card("carl", "node1", cores=8, state="draining", **heads(1)), CARL)
    found = standing(ann, gone, drained)
    assert [found[user].turn for user in ("ann", "bob", "carl")] == [1, None, None]


def test_a_job_that_scavenges_before_one_that_does_not_costs_no_turn() -> None:
    """What comes first in the order of its user may have to wait for everybody; the next one has not."""
    urgent, plain = Want("1", 1, 0, 1, priority=100, scavenge=True), Want("2", 1, 0, 2)
    ann = seen(card("ann", "node1", cores=8, **heads(5)))
    bob = seen(card("bob", "node1", cores=8, waiting=2, heads=(urgent, plain)), BOB)
    found = standing(ann, bob)
    assert (found["bob"].turn, found["ann"].turn) == (1, 2)


def test_two_users_of_one_name_are_told_apart(homes: Homes, capsys: pytest.CaptureFixture[str]) -> None:
    """Below another parent of homes there may be another ann: what she has is not mine, as for daemons."""
    mine, other = homes.user("ann"), Homes(homes.parent.parent / "more")
    other.parent.mkdir()
    other.card(other.user("ann"), HERE, jobs={"7": 4}, usage=7200.0, **heads(1))
    other.put(other.user("ann"), "running", "7", now("hers", began_s=9, node=HERE))
    homes.card(mine, HERE, **heads(2))
    homes.put(mine, "waiting", "1", now("mine"))
    given = {**homes.environ("ann"), "RQ_HOMES": f"{homes.parent}:{other.parent}"}
    looking.show_users(Namespace(json=True), given)
    users = {user["name"]: user for user in json.loads(capsys.readouterr().out)["users"]}
    assert set(users) == {"ann", f"{other.parent}/ann"}
    hers = users[f"{other.parent}/ann"]
    assert (hers["cores"], hers["turn"], hers["is_me"]) == (4, 2, False)
    assert (users["ann"]["cores"], users["ann"]["turn"], users["ann"]["usage"]) == (0, 1, 0)


def test_who_is_at_a_limit_has_no_turn() -> None:
    """The card says what is left; the limits shown are the administrator's, and of me also my own."""
    ann = seen(card("ann", "node1", cores=8, **heads(5)))
    bob = seen(card("bob", "node1", cores=8, cores_left=0, **heads(1)), BOB)
    limits = Limits(Limit(cores=64, waiting=100), {"bob": {"jobs": 1}})
    found = standing(ann, bob, limits=limits, own=Limit(cores=70, jobs=20))
    assert (found["ann"].turn, found["bob"].turn, found["bob"].is_at_limit) == (1, None, True)
    assert [nodes_view.turn_text(found[user]) for user in ("ann", "bob")] == ["next", "limit"]
    assert nodes_view.limit_text(found["ann"].limit) == "64 cores, 20 jobs, 100 waiting"
    assert nodes_view.limit_text(found["bob"].limit) == "64 cores, 1 job, 100 waiting"
    assert nodes_view.limit_text(Limit()) == "-"


def test_shares_are_of_those_who_are_active_and_use_tilts_them() -> None:
    """By weight; who used more of late is due less now. All of it adds up to all cores."""
    ann = seen(card("ann", "node1", cores=8, jobs={"7": 4}), silent_s=0)
    bob = seen(card("bob", "node1", cores=8, **heads(9)), BOB, silent_s=0)
    carl = seen(card("carl", "node1", cores=8), CARL, silent_s=0)
    found = standing(ann, bob, carl, weights={"ann": 3.0})
    assert [found[user].share for user in ("ann", "bob", "carl")] == [0.75, 0.25, None]
    used = replace(ann, card=replace(ann.card, usage=10_000.0))
    tilted = standing(used, bob, carl, weights={"ann": 3.0})
    shares = [tilted[user].share or 0.0 for user in ("ann", "bob")]
    assert sum(shares) == pytest.approx(1)
    assert shares[0] < 0.75
    assert tilted["ann"].usage == 10_000
    assert nodes_view.usage_text(10_000) == "2.8h"
    assert [nodes_view.usage_text(3600.0 * hours) for hours in (0, 0.01, 99.9, 1234.5)] == [
        "-",
        "0h",
        "99.9h",
        "1,234h",
    ]


def test_what_scavenges_is_counted_apart() -> None:
    """It counts for nobody, but the node is as full."""
    occupied = (Occupancy(ANN, "node1", 3), Occupancy(ANN, "node1", 2, scavenge=True))
    look = Look(ANN, "node1", (seen(card("ann", "node1", cores=8)),), occupied, {ANN: 0})
    (user,) = cluster.users_of(look)
    assert (user.cores, user.scavenging, user.running) == (3, 2, 2)
    assert cluster.nodes_of(look)[0].used == 5
    rows = nodes_view.user_rows([user], cluster.nodes_of(look), {"ann": Standing()}, ascii_only=True)
    assert painted(nodes_view.USER_COLUMNS, rows, None) == (
        "USER   CORES  RUNNING  WAITING  TURN  SHARE  USAGE  WEIGHT  SCAVENGE  NODES  LIMIT\n"
        "ann      3/8        2        0     -      -      -       1         2      1  -\n"
        "TOTAL    3/8        2        0                   -                 2      1"
    )


def test_users() -> None:
    """Who uses what of the cores that there are; a job of all cores counts as all."""
    nodes = cluster.nodes_of(LOOK)
    rows = nodes_view.user_rows(cluster.users_of(LOOK), nodes, ascii_only=True)
    assert (
        painted(nodes_view.USER_COLUMNS, rows, 80)
        == """\
USER   CORES              RUNNING  WAITING  TURN  SHARE  USAGE  WEIGHT  NODES
bob     8/28  ##........        2    4,817     -      -      -       1      2
ann     8/28  ##........        1        3     -      -      -       1      2
TOTAL  16/28  #####.....        3    4,820                   -              3"""
    )


@pytest.mark.parametrize(
    ("used", "cores", "picture"),
    [
        (0, 8, ".........."),
        (1, 100, "#........."),
        (4, 8, "#####....."),
        (99, 100, "#########."),
        (9, 8, "##########"),
    ],
)
def test_a_bar_is_full_only_if_the_node_is(used: int, cores: int, picture: str) -> None:
    """One core in use shows, one free core shows."""
    assert nodes_view.bar(used, cores, ascii_only=True) == picture


def test_a_node_without_a_daemon_is_not_called_silent_where_it_is_known() -> None:
    """On the own node, and where the daemon said that it goes, there is none; elsewhere nobody knows."""
    here = replace(LOOK, seen=(seen(card("ann", "node1"), is_alive=False, silent_s=5000),))
    left = replace(LOOK, seen=(seen(card("ann", "node5", state="leaving"), is_alive=False),))
    away = replace(LOOK, seen=(seen(card("ann", "node5"), is_alive=False, silent_s=5000),))
    says = [nodes_view.node_state(cluster.nodes_of(of)[0])[0] for of in (here, left, away)]
    assert says == ["no daemon", "no daemon", "not seen for 83 min"]


# ---------------------------------------------------------------- with files


@pytest.fixture
def homes(tmp_path: Path) -> Homes:
    parent = tmp_path / "home"
    parent.mkdir()
    return Homes(parent)


def now(name: str = "", **of: Any) -> Record:
    return record(name, now_ns=time.time_ns(), **of)


def asked(homes: Homes, by: str, *, of: str = "q", **options: Any) -> Any:
    """Does what a verb does, as that user on HERE; capsys has what it prints."""
    whole = {"user": None, "mine": False, "json": False, "verbose": False, "tasks": False, **options}
    does = {"q": looking.show_queue, "nodes": looking.show_nodes, "users": looking.show_users}[of]
    does(Namespace(**whole), homes.environ(by))


def test_a_program_that_reads_columns_can_stop_at_the_empty_line(
    homes: Homes, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a pipe: the header, one line per job, an empty line, and what is for people."""
    homes.put(homes.user("ann"), "waiting", "1", now("fit"))
    asked(homes, "ann")
    lines = capsys.readouterr().out.splitlines()
    assert [bool(line) for line in lines] == [True, True, False, True, True]
    assert lines[0].split() == ["STATE", "ID", "USER", "NODE", "CPUS", "RTIME", "WAIT", "NAME"]
    assert lines[3] == "1 waiting"


def test_an_empty_queue_says_how_to_begin(homes: Homes, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever comes first is greeted, also without any spool, and nothing is made by looking."""
    (homes.parent / "ann").mkdir()
    asked(homes, "ann")
    assert "Nothing in the queue" in capsys.readouterr().out
    assert list((homes.parent / "ann").iterdir()) == []
    for verb in ("nodes", "users"):
        asked(homes, "ann", of=verb)
        assert capsys.readouterr().out


def test_json_says_all_that_the_list_says(homes: Homes, capsys: pytest.CaptureFixture[str]) -> None:
    """One value, valid Unicode, times in UTC, null for what is not known."""
    ann, bob = homes.user("ann"), homes.user("bob")
    homes.put(ann, "running", "7", now("a\udcff\x1b", began_s=20, node="node2", job_cores=0))
    homes.put(bob, "failed", "2", now("bad", began_s=20, ended_s=3, node="node2", signal=9, reason="signal"))
    Path(bob.directory("waiting"), "x.job").write_text("{")
    homes.card(ann, "node2", silent_s=900)
    homes.card(bob, HERE)
    asked(homes, "ann", json=True)
    text = capsys.readouterr().out
    value = json.loads(text)
    text.encode("ascii")
    assert value["schema"] == as_json.SCHEMA
    assert value["now"].endswith("Z")
    by_id = {job["id"]: job for job in value["jobs"]}
    running, waiting, failed = by_id["7"], by_id["x"], by_id["2"]
    assert running["name"] == "a\\udcff\x1b"
    assert running["cores"] is None
    assert running["ended"] is None
    assert running["exit_code"] is None
    assert 20 <= running["run_time"] < 100
    assert 890 < running["silent"] < 1000
    assert waiting["problem"]
    assert waiting["command"] is None
    assert (failed["signal"], failed["reason"], failed["is_mine"]) == (9, "signal", False)
    assert value["counts"]["bob"]["waiting"] == 1


@pytest.mark.parametrize("verb", ["q", "nodes", "users"])
def test_json_has_the_names_that_are_promised(
    verb: str, homes: Homes, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every name that programs get is described where the promise is made."""
    ann = homes.user("ann")
    homes.put(ann, "waiting", "1", now("fit"))
    homes.card(ann, HERE)
    asked(homes, "ann", of=verb, json=True)
    value = json.loads(capsys.readouterr().out)
    described = as_json.as_json.__doc__ or ""
    names = set(value) | {
        name for each in value.values() if isinstance(each, list) for one in each for name in one
    }
    for name in names:
        assert name in described.replace(",", " ").split(), name


def test_users_are_told_with_what_the_configuration_says(
    homes: Homes, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights and limits of the administrator, my own limits, whose turn it is; a program gets numbers."""
    etc = homes.parent.parent / "roundq.toml"
    etc.write_text(
        'half_life = "1d"\n[limits]\njobs = 9\n[shares.users]\nbob = 3\n[limits.users.ann]\ncores = 4\n'
    )
    monkeypatch.setattr(config, "ETC", str(etc))
    monkeypatch.setattr(
        config.load, "__kwdefaults__", {**(config.load.__kwdefaults__ or {}), "etc": str(etc)}
    )
    ann, bob = homes.user("ann"), homes.user("bob")
    homes.card(ann, HERE, jobs={"7": 2}, usage=7200.0, **heads(1))
    homes.put(ann, "running", "7", now("fit", began_s=9, node=HERE))
    homes.put(ann, "waiting", "1", now("fit"))
    homes.card(bob, HERE, jobs={"7": 4}, **heads(2))
    homes.put(bob, "running", "7", now("fit", began_s=9, node=HERE))
    control.set_limit(ann, Limit(cores=16, jobs=5), HERE)
    asked(homes, "ann", of="users")
    rows = [line.split(maxsplit=10) for line in capsys.readouterr().out.splitlines()]
    titles = "USER CORES RUNNING WAITING TURN SHARE USAGE WEIGHT SCAVENGE NODES LIMIT"
    assert rows[0] == titles.split()
    by_user = {row[0]: row for row in rows}
    assert by_user["bob"][1:8] == ["4/8", "1", "0", "next", by_user["bob"][5], "-", "3"]
    assert by_user["ann"][1:8] == ["2/8", "1", "1", "2", by_user["ann"][5], "2.0h", "1"]
    assert by_user["ann"][-1] == "4 cores, 5 jobs"
    assert by_user["bob"][-1] == "9 jobs"
    asked(homes, "ann", of="users", json=True)
    users = {user["name"]: user for user in json.loads(capsys.readouterr().out)["users"]}
    assert users["ann"]["limit"] == {"cores": 4, "jobs": 5, "waiting": None}
    assert (users["bob"]["turn"], users["ann"]["turn"], users["bob"]["weight"]) == (1, 2, 3)
    assert users["ann"]["usage"] == pytest.approx(7200, rel=0.01)
    assert users["ann"]["share"] + users["bob"]["share"] == pytest.approx(1, abs=1e-5)
    assert users["ann"]["share"] < 0.25


def test_gpus_are_told_to_programs_one_by_one(homes: Homes, capsys: pytest.CaptureFixture[str]) -> None:
    """Which is free, which a stranger uses; the features and licenses of the node."""
    ann = homes.user("ann")
    homes.card(ann, HERE, gpus=GPUS, features=("avx2",), licenses=(("fpga", 1),), threads=8)
    asked(homes, "ann", of="nodes", json=True)
    (node,) = json.loads(capsys.readouterr().out)["nodes"]
    assert [(gpu["id"], gpu["busy"], gpu["free"]) for gpu in node["gpus"]] == [
        ("g1", False, True),
        ("g2", False, True),
        ("g3", True, False),
    ]
    assert (node["features"], node["licenses"], node["threads"]) == (["avx2"], {"fpga": 1}, 8)


@pytest.mark.parametrize("verb", ["nodes", "users"])
def test_nodes_and_users_fit_a_terminal(verb: str, homes: Homes) -> None:
    """Of eighty columns, also with everything in use."""
    for user in ("ann", "bartholomew"):
        spool = homes.user(user)
        homes.card(
            spool,
            "node-with-a-long-name.example.org",
            cores=128,
            jobs={"7": 64},
            gpus=GPUS,
            usage=1e7,
            **heads(1),
        )
        homes.put(spool, "running", "7", now("fit", began_s=9, node="node-with-a-long-name.example.org"))
    lines = unpainted(on_terminal([verb], homes.environ("ann"), 80)).splitlines()
    assert len(lines) >= 3
    assert all(tables.width(line) <= 80 for line in lines)
    assert "GPUS" in lines[0] or "TURN" in lines[0]


def test_one_user_only(homes: Homes, capsys: pytest.CaptureFixture[str]) -> None:
    """-u shows also what ended long ago in that user's last batch; --mine only mine; others are refused."""
    ann, bob = homes.user("ann"), homes.user("bob")
    homes.put(ann, "waiting", "1", now("of-ann"))
    homes.put(bob, "completed", "1", now("of-bob", ago_s=9000, began_s=8000, ended_s=7000, exit_code=0))
    asked(homes, "ann")
    both = capsys.readouterr().out
    assert "of-ann" in both
    assert "of-bob" not in both
    asked(homes, "ann", user="bob")
    assert "of-bob" in capsys.readouterr().out
    asked(homes, "ann", mine=True)
    assert "of-bob" not in capsys.readouterr().out
    with pytest.raises(RoundqError, match='no user "zoe" has a queue here'):
        asked(homes, "ann", user="zoe")


def test_a_job_here_whose_supervisor_died_is_not_simply_running(
    homes: Homes, capsys: pytest.CaptureFixture[str]
) -> None:
    """Until the daemon finds it the list says what can be known on this node."""
    ann = homes.user("ann")
    dead = Identity("another-boot", 1, 1)
    homes.put(ann, "running", "1", now("fit", began_s=9, node=HERE, process=dead))
    homes.put(ann, "running", "2", now("fit", began_s=9, node="node2", process=dead))
    asked(homes, "ann")
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("running, its supervisor is gone  1")
    assert lines[2].startswith("running                          2")


def test_a_daemon_that_is_just_starting_is_not_missed(
    homes: Homes, capsys: pytest.CaptureFixture[str]
) -> None:
    """Right after the first submission its daemon has the lock of the node, and no card yet."""
    ann = homes.user("ann")
    homes.put(ann, "waiting", "1", now("fit"))
    asked(homes, "ann")
    assert "No daemon of yours" in capsys.readouterr().out
    lock = NodeLock(ann.path)
    assert lock.acquire()
    asked(homes, "ann")
    assert "No daemon of yours" not in capsys.readouterr().out
    lock.release()


def test_silence_is_judged_by_the_server_alone(homes: Homes, capsys: pytest.CaptureFixture[str]) -> None:
    """My own latest submission tells that the newest card is old; no clock of ours is asked."""
    ann = homes.user("ann")
    homes.put(ann, "running", "1", now("fit", began_s=9, node="node2"))
    homes.card(ann, "node2", silent_s=3000)
    long_ago = time.time() - 3000
    os.utime(ann.directory("tmp"), (long_ago, long_ago))
    asked(homes, "ann", of="nodes")
    assert capsys.readouterr().out.splitlines()[1].endswith("up")
    later = time.time() + 30
    os.utime(ann.directory("tmp"), (later, later))
    asked(homes, "ann", of="nodes")
    assert "not seen for 50 min" in capsys.readouterr().out


def test_a_dead_daemons_card_counts_only_jobs_that_still_run(homes: Homes) -> None:
    """A card that nobody renews says what ran; the spool says what runs."""
    ann, bob = homes.user("ann"), homes.user("bob")
    homes.put(ann, "running", "1", now("fit", node="node2"))
    homes.card(ann, "node2", jobs={"1": 2, "9": 6}, silent_s=900)
    homes.card(bob, "node2")
    node = cluster.nodes_of(cluster.look([ann, bob], ann, HERE, time.monotonic()))[0]
    assert (node.used, node.jobs, node.users) == (2, 1, ("bob",))


def test_jobs_of_029_count(homes: Homes) -> None:
    """One of all cores has the node, whatever the card of its user says."""
    bob = homes.user("bob")
    homes.card(bob, "node2", cores=6, version="", process=None)
    path = homes.put(bob, "running", "1", now("old", node="node2", job_cores=0))
    path.rename(path.parent / "1790000000.5.job")
    looked = cluster.look([bob], bob, HERE, time.monotonic())
    assert cluster.nodes_of(looked)[0].used == 6
    assert cluster.users_of(looked)[0].cores == 6
    assert nodes_view.node_state(cluster.nodes_of(looked)[0])[0] == "up, 0.2.9 only"


def test_a_job_of_029_that_is_being_canceled_is_listed_while_it_lives_here(
    homes: Homes, capsys: pytest.CaptureFixture[str]
) -> None:
    """It lies in a directory of its own, has its cores until it is dead, and may be forgotten there."""
    homes.user("ann")
    bob = homes.user("bob")
    homes.card(bob, HERE, cores=6, version="", process=None)
    os.mkdir(f"{bob.path}/cancel")
    for job_id, node, pid in (("1790000000.5", HERE, os.getpid()), ("1790000000.6", "node2", os.getpid())):
        path = homes.put(bob, "running", "1", now("old", node=node, job_cores=2, pid=pid, began_s=5))
        path.rename(f"{bob.path}/cancel/{job_id}.job")
    asked(homes, "ann")
    listed = capsys.readouterr().out
    assert re.search(r"^canceling +1790000000.5 +bob +here1 +2 ", listed, re.MULTILINE)
    assert "1790000000.6" not in listed
    assert "1 running (2 cores)" in listed
    looked = cluster.look([bob], bob, HERE, time.monotonic())
    assert cluster.nodes_of(looked)[0].used == 2


# ---------------------------------------------------------------- hostile files


@pytest.fixture
def mallory(homes: Homes) -> Spool:
    """A user whose spool holds all that can be put there."""
    spool = homes.user("mallory")
    for state in ("waiting", "running", "claimed", "failed", "completed"):
        directory = Path(spool.directory(state))
        os.mkfifo(directory / f"fifo-{state}.job")
        (directory / f"link-{state}.job").symlink_to("/dev/zero")
        (directory / f"loop-{state}.job").symlink_to(f"loop-{state}.job")
        (directory / f"directory-{state}.job").mkdir()
        (directory / f"huge-{state}.job").write_bytes(b"[" * (2 << 20))
        (directory / f"deep-{state}.job").write_bytes(b"[" * 500_000)
        (directory / f"cut-{state}.job").write_bytes(b'{"job": {"comm')
        (directory / f"empty-{state}.job").touch()
        (directory / f"zeros-{state}.job").write_bytes(bytes(4096))
        (directory / f"wrong-{state}.job").write_text('{"job": {"command": "rm -rf", "cores": -1e400}}')
        (directory / f"secret-{state}.job").write_text("{}")
        (directory / f"secret-{state}.job").chmod(0)
        (directory / f"\x1b[2J-{state}.job").write_text("{}")
        (directory / f"big-{state}.job").write_text(
            '{"job": {"command": ["a"], "submitted": {"secs": 1099511627776}, "jobname": "\\u001b[31m'
            + "x" * 100_000
            + '"}, "node": "\\u001b[2J", "reason": "\\u0007", "detail": "\\ud800"}'
        )
    for name in ("fifo", "link", "directory", "deep", "\x1b]0;x\x07"):
        path = Path(spool.path, name)
        if name == "fifo":
            os.mkfifo(path)
        elif name == "link":
            path.symlink_to("/dev/zero")
        elif name == "directory":
            path.mkdir()
        else:
            path.write_bytes(b"[" * 500_000)
    homes.card(spool, "mallory1", reason="\x1b[2J", state="draining", trouble=("\x1b[2J",))
    Path(homes.parent, "lost+found").mkdir(mode=0)
    Path(homes.parent, "file").touch()
    return spool


@pytest.mark.parametrize("verb", ["q", "nodes", "users"])
@pytest.mark.parametrize("is_json", [False, True])
@pytest.mark.usefixtures("mallory")
def test_a_hostile_spool_neither_hangs_nor_paints(
    verb: str, is_json: bool, homes: Homes, capsys: pytest.CaptureFixture[str]
) -> None:
    """FIFOs, links, directories, huge, deep, cut and unreadable files: my list works."""
    ann = homes.user("ann")
    homes.put(ann, "waiting", "1", now("mine"))
    homes.card(ann, HERE)
    began = time.monotonic()
    asked(homes, "ann", of=verb, json=is_json)
    assert time.monotonic() - began < 10
    said = capsys.readouterr().out
    assert all(line.isprintable() for line in said.splitlines())
    if is_json:
        json.loads(said)
    if verb == "q":
        assert "mine" in said
        assert "mallory" in said


@pytest.mark.usefixtures("mallory")
def test_a_hostile_spool_on_a_terminal(homes: Homes) -> None:
    """Nothing but colours of ours reaches the terminal, and every line fits."""
    ann = homes.user("ann")
    homes.put(ann, "running", "1", now("\x1b]0;evil\x07\u202e" + "x" * 10_000, began_s=5, node=HERE))
    homes.card(ann, HERE)
    for verb in ("q", "nodes", "users"):
        said = on_terminal([verb], homes.environ("ann"), 80)
        lines = unpainted(said).splitlines()
        assert "\x1b[1m" in said
        assert all(line.isprintable() and tables.width(line) <= 80 for line in lines)


@pytest.mark.usefixtures("mallory")
def test_unreadable_files_are_rows_with_the_problem(homes: Homes, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is in the way is named with what is wrong with it."""
    asked(homes, "mallory")
    said = capsys.readouterr().out
    for problem in (
        "(it is a symbolic link)",
        "(it is not a regular file)",
        "(it is nested too deeply)",
        "(it is empty)",
    ):
        assert problem in said
    assert "waiting, unreadable" in said


@pytest.mark.parametrize("verb", ["q", "nodes"])
def test_of_all_that_a_stranger_has_a_bounded_amount_is_read(
    verb: str, homes: Homes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand links to one large file, each of a size that is allowed, must not cost gigabytes."""
    ann, mallory = homes.user("ann"), homes.user("mallory")
    homes.card(ann, HERE)
    junk = "x" * 1_000_000
    record_path = Path(mallory.directory("running"), "0@far.job")
    record_path.write_text(json.dumps({"job": {"command": ["a"]}, "junk": junk}))
    for number in range(1, 60):
        os.link(record_path, record_path.parent / f"{number}@far.job")
        whole = {**json.loads(cards.dump(card("mallory", f"n{number}"))), "junk": junk}
        Path(mallory.path, f"n{number}").write_text(json.dumps(whole))
    total = 0
    read = files.read

    def counted(path: str, **bounds: Any) -> bytes:
        nonlocal total
        data = read(path, **bounds)
        total += len(data)
        return data

    monkeypatch.setattr(files, "read", counted)
    asked(homes, "ann", of=verb)
    assert total < 50_000_000


def test_nodes_by_the_hundred_take_a_few_lines() -> None:
    """Whoever has jobs on many nodes that nothing is heard of does not fill everybody's screen."""
    of = found(*(row(BOB, "running", str(n), record(node=f"n{n}")) for n in range(100)))
    lines = queue_notes.notes(of, Facts(NOW_NS, silent={f"n{n}": 900.0 for n in range(100)}))
    assert len(lines) == queue_notes.SILENT_MOST + 2
    assert "95 more nodes" in lines[-1].text


# ---------------------------------------------------------------- terminals


def test_a_terminal_gets_colours_and_folds(homes: Homes) -> None:
    """The whole way, on a real terminal."""
    ann = homes.user("ann")
    for n in range(30):
        homes.put(ann, "waiting", str(n + 1), now(f"fit-{n + 1}"))
    said = on_terminal([], homes.environ("ann"), 60)
    lines = unpainted(said).splitlines()
    assert "... 21 more waiting: rq list -t waiting" in lines
    assert "\x1b[33mwaiting" in said
    assert lines[-3:] == [
        "30 waiting",
        "No daemon of yours is alive on any node, so your jobs wait",
        "for ever. Start one: rq daemon",
    ]
    assert "\x1b[" not in on_terminal([], {**homes.environ("ann"), "TERM": "dumb"}, 60)
    assert "\x1b[3" not in on_terminal([], {**homes.environ("ann"), "NO_COLOR": "1"}, 60)


def test_listing_reads_what_it_shows(homes: Homes, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal a thousand waiting jobs cost a thousand names, not a thousand files."""
    ann = homes.user("ann")
    first = homes.put(ann, "waiting", "1", now("fit"))
    for n in range(2, 1001):
        os.link(first, first.parent / f"{n}.job")
    reads = 0
    read = spools.read

    def counted(spool: Spool, entry: Entry) -> Record:
        nonlocal reads
        reads += 1
        return read(spool, entry)

    monkeypatch.setattr(spools, "read", counted)
    here = looking.here_of(homes.environ("ann"))
    of = looking.found_of(here, [ann], time.time_ns(), looking.SCREEN, is_of_one=True, bundles=True)
    assert reads < 30
    assert of.counts["ann"]["waiting"] == 1000
