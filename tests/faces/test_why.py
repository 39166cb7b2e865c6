"""Promises about the answer to "why is my job waiting?", with cards of several nodes that the tests write.

What is said is what the policy said on each node; that sentence and decision are one value is shown in
tests/words/test_policy.py.
"""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest

from roundq.records.cards import DRAINING, HEADS_MAX, LEAVING
from roundq.words import policy
from roundq.words.job import Attempt, Job
from roundq.words.policy import Holding, Shape, Snapshot, Verdict
from roundq.words.states import CANCELED, COMPLETED, FAILED, RUNNING, WAITING
from tests.faces.desk import Desk
from tests.faces.homes import HERE, record
from tests.faces.screen import on_terminal, unpainted

TURN = "waits: bob's turn (bob has 3 cores running, ann 12)"
DRAINED = "waits: node3 is draining (drained by admin: disk)"
NEVER = "can never start here: needs 4 cores, node2 has 2"


def put(desk: Desk, job_id: str = "1", state: str = WAITING, **of: Any) -> Shape:
    """A job of hers called fit, of 4 cores; the shape that daemons speak of."""
    of = {"job_cores": 4, **of}
    made = record("fit", now_ns=time.time_ns(), **of)
    desk.homes.put(desk.spool, state, job_id, made)
    return policy.want_of(job_id, made.job, 0).shape


def says(desk: Desk, node: str, shape: Shape, sentence: str, *, silent_s: float = 0, **of: Any) -> None:
    """Her daemon on a node has said this of jobs of that shape, so long ago."""
    told = (Verdict(Shape(1, 0), "waits: another"), Verdict(shape, sentence))
    desk.homes.card(desk.spool, node, silent_s=silent_s, said=told, **of)


def ago_ns(seconds: float) -> int:
    return time.time_ns() - int(seconds * 1e9)


def answer(desk: Desk, *words: str) -> list[str]:
    said = desk.rq("why", *(words or ("1",)))
    assert (said.code, said.err) == (0, "")
    return said.out.splitlines()


def test_each_node_says_its_own_sentence(desk: Desk) -> None:
    shape = put(desk)
    says(desk, "node1", shape, "waits: needs 4 cores, 2 of 8 free")
    says(desk, "node2", shape, TURN)
    says(desk, "node3", shape, DRAINED, state=DRAINING, reason="drained by admin: disk")
    assert answer(desk) == [
        '1 "fit":',
        "  node1: waits: needs 4 cores, 2 of 8 free",
        f"  node2: {TURN}",
        f"  node3: {DRAINED}",
    ]


def test_nodes_that_say_the_same_share_a_line(desk: Desk) -> None:
    """So does what holds everywhere, such as a limit."""
    limit = "waits: your limit is 16 cores, and 16 run"
    shape = put(desk)
    for node in ("node2", "node1", "node3"):
        says(desk, node, shape, limit)
    assert answer(desk) == [f'1 "fit": node1, node2, node3: {limit}']


@pytest.mark.parametrize(
    "asked",
    [
        {"job_gpus": 2},
        {"job_licenses": (("matlab", 2),)},
        {"job_nodes": ("gpu*",)},
        {"job_exclude": ("node1",)},
        {"job_features": ("avx512",)},
        {"job_scavenge": True, "job_restartable": True},
        {"job_time_limit_s": 4242.0},
        {"job_priority": 100},
        {"job_memory_required": 1 << 33},
    ],
)
def test_jobs_of_different_shapes_are_told_apart(desk: Desk, asked: dict[str, Any]) -> None:
    """By all that the policy tells them apart by; what is not of one's shape is not said of one."""
    plain, special = put(desk, "1"), put(desk, "2", **asked)
    assert plain != special
    told = (Verdict(plain, "waits: plainly"), Verdict(special, "waits: specially"))
    desk.homes.card(desk.spool, "node1", said=told)
    assert answer(desk, "1") == ['1 "fit": node1: waits: plainly']
    assert answer(desk, "2") == ['2 "fit": node1: waits: specially']
    desk.homes.card(desk.spool, "node1", said=told[:1])
    assert answer(desk, "2") == ['2 "fit": node1: its daemon has not yet looked at it']


def test_time_limits_are_of_one_shape_where_the_daemons_round_them_alike(desk: Desk) -> None:
    """The sentence is found by the function that the daemons use."""
    put(desk, "1", job_time_limit_s=4242.0)
    shape = put(desk, "2", job_time_limit_s=4243.0)
    says(desk, "node1", shape, "waits: alike")
    assert answer(desk, "1", "2") == ['1 "fit": node1: waits: alike', '2 "fit": node1: waits: alike']


def test_what_the_policy_decides_is_what_is_read(desk: Desk) -> None:
    """From a decision, through the card, to the screen: one value."""
    job = Job(("true",), jobname="fit", cores=4, time_limit_s=4242.0, memory_required=1 << 33)
    want = policy.want_of("1", job, 0)
    decision = policy.decide(Snapshot("node1", "ann", 2, 1 << 36, 1 << 36, wants=(want,)))
    put(desk, job_time_limit_s=4242.0, job_memory_required=1 << 33)
    desk.homes.card(desk.spool, "node1", said=decision.verdicts())
    assert decision.starts == ()
    assert answer(desk) == [f'1 "fit": node1: {decision.reason("1")}']


def test_what_the_policy_says_of_a_job_behind_another_is_what_is_read(desk: Desk) -> None:
    """What is on the card is said of the first of its shape; when that starts, this one does not."""
    wants = []
    for job_id in ("1", "2"):
        shape = put(desk, job_id, job_cores=6, job_time_limit_s=600.0)
        wants.append(policy.want_of(job_id, desk.record(job_id).job, int(job_id)))
    holding = Holding("ann", "9", 4, left_s=90.0)
    facts = Snapshot("node1", "ann", 8, 1 << 36, 1 << 36, None, (holding,), wants=tuple(wants))
    decision = policy.decide(facts)
    (verdict,) = decision.verdicts()
    assert (verdict.shape, verdict.starts_in_s) == (shape, 120.0)
    desk.homes.card(desk.spool, "node1", said=decision.verdicts(), heads=decision.heads())
    soon = "; starts within 2 min if nobody comes before it"
    assert answer(desk, "1") == [f'1 "fit": node1: {decision.reason("1")}{soon}']
    assert answer(desk, "2") == [f'2 "fit": node1: {decision.reason("2")}']
    assert "behind job 1" in decision.reason("2")
    jobs = {job["id"]: job for job in json.loads(desk.rq("--json").out)["jobs"]}
    assert (jobs["1"]["starts_within"], jobs["2"]["starts_within"]) == (120.0, None)


def test_what_cannot_be_told_on_a_card_is_not_known() -> None:
    """A time limit of thousands of years must not make the card unreadable, and all jobs on it unseen."""
    want = policy.want_of("1", Job(("true",), cores=6), 1)
    holding = Holding("ann", "9", 4, left_s=1e13)
    facts = Snapshot("node1", "ann", 8, 1 << 36, 1 << 36, None, (holding,), wants=(want,))
    (verdict,) = policy.decide(facts).verdicts()
    assert verdict.starts_in_s is None


def test_the_node_where_it_starts_soonest_is_the_one_in_the_list(desk: Desk) -> None:
    shape = put(desk)
    needs = "needs 4 cores, 2 of 8 free"
    for node, in_s in (("node1", 7200.0), ("node2", 1500.0), ("node3", None)):
        told = (Verdict(shape, f"waits: {needs}", in_s),)
        desk.homes.card(desk.spool, node, said=told)
    assert answer(desk) == [
        '1 "fit":',
        f"  node1: waits: {needs}; starts within 2 h if nobody comes before it",
        f"  node2: waits: {needs}; starts within 25 min if nobody comes before it",
        f"  node3: waits: {needs}",
    ]
    for words in (["--json"], ["show", "--json", "1"]):
        (job,) = json.loads(desk.rq(*words).out)["jobs"]
        assert job["why"] == f"node2: waits: {needs}"
        assert job["starts_within"] == 1500.0
    assert f"node2, within 25 min: {needs}" in desk.rq("q", "-v").out


def test_programs_are_told_nothing_of_what_does_not_wait(desk: Desk) -> None:
    put(desk, "1", RUNNING, node="node1", began_s=5)
    put(desk, "2", FAILED, began_s=60, ended_s=5, exit_code=3, reason="exit")
    put(desk, "3")
    for words in (["--json"], ["show", "--json", "1", "2", "3"]):
        for job in json.loads(desk.rq(*words).out)["jobs"]:
            assert (job["why"], job["starts_within"]) == (None, None)


def test_a_job_that_could_start_nowhere_says_so_first(desk: Desk) -> None:
    shape = put(desk)
    says(desk, "node1", shape, "can never start here: needs 4 cores, node1 has 2")
    says(desk, "node2", shape, NEVER)
    desk.homes.card(desk.spool, "node4", state=LEAVING)
    assert answer(desk) == [
        '1 "fit":',
        "  no node where a daemon of yours runs can ever start it",
        "  node1: can never start here: needs 4 cores, node1 has 2",
        f"  node2: {NEVER}",
        "  node4: your daemon there has stopped",
    ]
    says(desk, "node1", shape, TURN)
    assert answer(desk)[1] == f"  node1: {TURN}"


def test_an_old_word_says_how_old_it_is(desk: Desk) -> None:
    """A daemon renews its card at least once a minute; one that did not may be stuck, or its node."""
    shape = put(desk)
    says(desk, "node1", shape, TURN)
    says(desk, "node2", shape, NEVER, silent_s=200)
    says(desk, "node3", shape, DRAINED, silent_s=870)
    says(desk, "node4", shape, TURN, silent_s=30)
    assert answer(desk)[1:] == [
        f"  node1, node4: {TURN}",
        f"  node2: {NEVER} (said 3 min ago)",
        "  node3: not seen for 14 min",
    ]


def test_the_age_of_the_word_of_this_node_is_told_by_its_own_clock(desk: Desk) -> None:
    """The server's tells nothing if nobody has written since."""
    shape = put(desk)
    says(desk, HERE, shape, TURN, written_ns=ago_ns(300 + 20))
    assert answer(desk) == [f'1 "fit": {HERE}: {TURN} (said 5 min ago)']


def test_where_only_others_have_daemons_is_said(desk: Desk) -> None:
    bob = desk.homes.user("bob")
    shape = put(desk)
    says(desk, "node1", shape, TURN)
    desk.homes.card(desk.spool, "node2", state=LEAVING)
    for number in range(1, 9):
        desk.homes.card(bob, f"node{number}")
    assert answer(desk) == [
        '1 "fit":',
        f"  node1: {TURN}",
        "  node2: your daemon there has stopped",
        "  node2, node3, node4, node5, node6 and 2 more: no daemon of yours runs there; others' do",
    ]


def test_that_no_daemon_of_mine_lives_is_said_first(desk: Desk) -> None:
    put(desk)
    none = "no daemon of yours runs on any node: rq daemon starts one"
    assert answer(desk) == [f'1 "fit": {none}']
    # Others start none of mine.
    desk.homes.card(desk.homes.user("bob"), "node1")
    assert answer(desk) == [f'1 "fit": {none}']
    desk.homes.card(desk.spool, "node2", silent_s=870)
    desk.homes.card(desk.homes.user("bob"), "node1")
    assert answer(desk)[1] == f"  {none}"


def test_a_daemon_that_tells_of_no_more_kinds_is_not_said_to_have_missed_it(desk: Desk) -> None:
    put(desk)
    many = tuple(Verdict(Shape(1, memory), "waits: x") for memory in range(HEADS_MAX))
    desk.homes.card(desk.spool, "node1", said=many)
    assert answer(desk) == [
        f'1 "fit": node1: jobs of {HEADS_MAX} other kinds come first, and its daemon tells of no more'
    ]


def test_the_ends_of_earlier_attempts_are_told(desk: Desk) -> None:
    """Of a job that waits again, that runs again, or that has ended."""
    first, second = ago_ns(1815), ago_ns(855)
    earlier = (
        Attempt(1, "node1", None, first - 7200 * 10**9, first, "restarted"),
        Attempt(2, "node2", None, second - 840 * 10**9, second, "preempted", detail="gave way to bob"),
    )
    told = [
        "attempt 1 on node1 ended 30 min ago, after 2 h: its user restarted it",
        "attempt 2 on node2 ended 14 min ago, after 14 min: gave way to bob",
    ]
    shape = put(desk, attempt=3, attempts=earlier)
    says(desk, "node1", shape, TURN)
    assert answer(desk) == ['1 "fit":', f"  node1: {TURN}", *(f"  {each}" for each in told)]
    put(desk, "2", RUNNING, attempt=3, attempts=earlier, node="node1", began_s=60)
    assert answer(desk, "2")[2:] == [f"  {each}" for each in told]
    put(desk, "3", FAILED, attempt=3, attempts=earlier, began_s=60, ended_s=5, exit_code=3, reason="exit")
    assert answer(desk, "3")[1:] == [
        "  failed: its command ended with a non-zero exit code",
        *(f"  {each}" for each in told),
    ]
    put(desk, "4", CANCELED, attempts=earlier * 50, ended_s=5, reason="canceled")
    assert answer(desk, "4")[2] == "  95 attempts before these"
    assert len(answer(desk, "4")) == 8


def test_a_hostile_sentence_is_harmless(desk: Desk) -> None:
    """Whoever writes a card may write anything; nothing of it is obeyed."""
    shape = put(desk)
    says(desk, "node1", shape, "waits: \x1b[2J\x07\u202e")
    desk.homes.card(desk.homes.user("bob"), "node2", said=(Verdict(shape, "\x1b[2J"),))
    for words in (["why", "1"], ["show", "1"], ["q", "-v"]):
        out = desk.rq(*words).out
        assert all(char.isprintable() or char == "\n" for char in out)
        assert "\\x1b[2J\\x07" in out


# ---------------------------------------------------------------- in the list


def queue(desk: Desk) -> None:
    """A running job, two that wait, one that asks for much, and one of bob's."""
    put(desk, "1", RUNNING, node="node1", began_s=5, cores=4)
    shape = put(desk, "2")
    other = put(desk, "3", job_gpus=2, job_nodes=("gpu*",), job_memory_required=1 << 33, job_cores=1)
    bob = desk.homes.user("bob")
    made = record("his", now_ns=time.time_ns(), job_cores=2)
    desk.homes.put(bob, WAITING, "1", made)
    told = (
        Verdict(shape, "waits: needs 4 cores, 2 of 8 free"),
        Verdict(other, "can never start here: node1 has no GPUs"),
    )
    desk.homes.card(desk.spool, "node1", said=told, jobs={"1": 4})
    desk.homes.card(desk.spool, "gpu1", said=(Verdict(shape, NEVER), Verdict(other, TURN)))
    desk.homes.card(bob, "node1", said=(Verdict(Shape(2, 0), "waits: ann's turn"),))


def test_the_reason_of_the_nearest_node_is_a_column_of_the_list(desk: Desk) -> None:
    """In a pipe with -v, whole."""
    queue(desk)
    for words in (["q", "-v"], ["-v"]):
        # Times change while one looks, and so does the width of their columns.
        table = re.sub(r" *\d+:\d\d", "  0:00", desk.rq(*words).out.partition("\n\n")[0])
        assert [re.split("  +", line) for line in table.splitlines()] == [
            "STATE ID USER NODE CPUS RTIME WAIT NEEDS NAME REASON".split(),
            ["running", "1", "ann", "node1", "4", "0:00", "0:00", "-", "fit", "-"],
            ["waiting", "2", "ann", "-", "4", "-", "0:00", "-", "fit", "node1: needs 4 cores, 2 of 8 free"],
            ["waiting", "3", "ann", "-", "1", "-", "0:00", "8G, 2 GPUs, on gpu*", "fit", f"gpu1: {TURN[7:]}"],
            ["waiting", "1", "bob", "-", "2", "-", "0:00", "-", "his", "node1: ann's turn"],
        ]


def test_without_it_programs_read_the_columns_that_they_know(desk: Desk) -> None:
    queue(desk)
    assert desk.rq("q").out.splitlines()[0].split() == "STATE ID USER NODE CPUS RTIME WAIT NAME".split()


@pytest.mark.parametrize(("columns", "is_there"), [(60, False), (100, True)])
def test_a_terminal_shows_the_reason_if_there_is_room(desk: Desk, columns: int, is_there: bool) -> None:
    queue(desk)
    shown = unpainted(on_terminal(["q"], desk.homes.environ("ann"), columns)).splitlines()
    assert all(len(line) <= columns for line in shown)
    assert ("REASON" in shown[0]) is is_there
    assert any("node1: needs 4 cores, 2 of 8 free" in line for line in shown) is is_there


def test_a_narrow_terminal_shows_it_when_asked(desk: Desk) -> None:
    """Other columns go for it."""
    queue(desk)
    shown = unpainted(on_terminal(["q", "-v"], desk.homes.environ("ann"), 80)).splitlines()
    assert all(len(line) <= 80 for line in shown)
    assert shown[0].split()[-2:] == ["NAME", "REASON"]
    assert "node1: needs 4 cores, 2 of" in shown[2]


def test_nothing_waits_and_there_is_no_such_column(desk: Desk) -> None:
    put(desk, "1", RUNNING, node="node1", began_s=5, cores=4)
    desk.homes.card(desk.spool, "node1", jobs={"1": 4})
    assert "REASON" not in unpainted(on_terminal(["q"], desk.homes.environ("ann"), 140))


def test_why_on_eighty_columns_is_not_cut(desk: Desk) -> None:
    """The sentence is what was asked for."""
    shape = put(desk)
    long = f"waits: needs 4 cores, 2 of 8 free{' and so on' * 20}"
    says(desk, "node1", shape, long)
    said = unpainted(on_terminal(["why", "1"], desk.homes.environ("ann"), 80))
    assert "".join(said.split()) == "".join(f'1 "fit": node1: {long}'.split())


def test_an_attempt_that_ended_well_is_said_to_have_completed(desk: Desk) -> None:
    """Of a job that its user ran again, by every command that tells of earlier attempts."""
    first = ago_ns(1815)
    well = Attempt(1, "node1", None, first - 2 * 10**9, first, exit_code=0)
    put(desk, state=COMPLETED, attempt=2, attempts=(well,), began_s=9, ended_s=5, exit_code=0)
    assert answer(desk)[2:] == ["  attempt 1 on node1 ended 30 min ago, after 2 s: completed"]
    assert re.search(r"before +attempt 1 on node1, .*: completed\n", desk.rq("show", "1").out)
    assert re.search(r"before +attempt 1 on node1, .*: completed\n", desk.rq("stats", "1").out)
