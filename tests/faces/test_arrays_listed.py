"""Promises about arrays in `rq`: one line for each, and nothing that matters is hidden by it."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundq.actors import holding
from roundq.actors.listing import Bundle, Listing, Row, listing
from roundq.faces import queue_notes, queue_view, tables
from roundq.faces.queue_view import Facts
from roundq.records import census
from roundq.records import spool as spools
from roundq.records.spool import Entry, Spool
from roundq.words.job import NS, Array, Dependency, Record
from roundq.words.states import ENDED_STATES, OWNED_STATES, STATES
from tests.faces.homes import NOW_NS, Homes, record
from tests.faces.screen import on_terminal, unpainted

ANN = Spool("/home/ann/.roundqueue", "ann", 1001)
BOB = Spool("/home/bob/.roundqueue", "bob", 1002)


def row(spool: Spool, state: str, job_id: str, of: Record | None) -> Row:
    node = of.node if of is not None and state in OWNED_STATES else None
    return Row(spool, Entry(job_id, state, node, f"{job_id}.job", 1), of, None, spool == ANN)


def bundle(spool: Spool, array: str, of: Record | None = None, **counts: int) -> Bundle:
    return bundled(spool, array, counts, of)


def bundled(spool: Spool, array: str, counts: dict[str, int], of: Record | None = None) -> Bundle:
    first = next(iter(counts))
    return Bundle(
        array, counts, row(spool, first, f"{array}_0", of or record("sim", node="node1")), NOW_NS - NS
    )


def shown(of: Listing, facts: Facts, columns: int | None) -> str:
    rows = queue_view.rows_of(of, facts, is_short=columns is not None, ascii_only=True)
    lines = tables.lay_out(queue_view.COLUMNS, rows, columns)
    lines += tables.lay_out((), queue_notes.notes(of, facts), columns)
    return "\n".join("".join(cell.text for cell in line).rstrip() for line in lines)


FACTS = Facts(NOW_NS, silent={"node3": 850.0})
RUNNING_TASK = record("sim", ago_s=900, began_s=60, node="node1", cores=2)
FOUND = Listing(
    (
        row(ANN, "running", "16", record("train", ago_s=7000, began_s=3725, node="node1", cores=4)),
        row(ANN, "running", "17_40", RUNNING_TASK),
        row(ANN, "running", "17_41", replace(RUNNING_TASK, node="node3")),
        row(ANN, "waiting", "18", record("plot", ago_s=55)),
        row(BOB, "waiting", "4", record("other")),
    ),
    {
        "ann": {"running": 3, "waiting": 59, "completed": 40, "failed": 2},
        "bob": {"waiting": 1001},
    },
    {},
    (
        bundle(ANN, "17", RUNNING_TASK, running=2, completed=38, waiting=58, failed=2),
        bundle(ANN, "12", completed=2),
        bundle(BOB, "5", waiting=1000),
    ),
)


def test_arrays_on_eighty_columns() -> None:
    """A line with a bar, if there is room, among the others of its state; what is amiss has its own line."""
    assert (
        shown(FOUND, FACTS, 80)
        == """\
STATE                         ID     USER  NODE   CPUS  RTIME   WAIT  NAME
running                       16     ann   node1     4  1h02m  54:35  train
running                       17     ann   sim  38 done 2 run 58 wait 2 fail
running, not seen for 14 min  17_41  ann   node3     2   1:00  14:00  sim
waiting                       18     ann   -         1      -   0:55  plot
completed                     12     ann   sim  #################### 2 done
waiting                       4      bob   -         1      -  10:00  other
waiting                       5      bob   sim  .................. 1,000 waiting
3 running (8 cores), 1,060 waiting, 40 completed, 2 failed
node3 has not been seen for 14 min: 1 job that was there may still run.
Which tasks of 17 failed: rq list 17 -t failed"""
    )


def test_arrays_in_a_pipe() -> None:
    """The counts stand behind the name, and every column has something."""
    assert (
        shown(FOUND, replace(FACTS, silent={}), None)
        == """\
STATE      ID  USER  NODE   CPUS  RTIME   WAIT  NAME
running    16  ann   node1     4  1h02m  54:35  train
running    17  ann   -         2      -      -  sim (38 done, 2 running, 58 waiting, 2 failed)
waiting    18  ann   -         1      -   0:55  plot
completed  12  ann   -         1      -      -  sim (2 done)
waiting    4   bob   -         1      -  10:00  other
waiting    5   bob   -         1      -      -  sim (1,000 waiting)
3 running (8 cores), 1,060 waiting, 40 completed, 2 failed
Which tasks of 17 failed: rq list 17 -t failed"""
    )


@given(
    st.dictionaries(
        st.integers(1, 40),
        st.dictionaries(st.sampled_from(STATES), st.integers(1, 30), min_size=1),
        max_size=25,
    ),
    st.lists(
        st.tuples(st.integers(50, 99), st.sampled_from(STATES)), max_size=70, unique_by=lambda one: one[0]
    ),
    st.integers(0, 1000),
    st.booleans(),
)
def test_every_job_is_counted_once(
    arrays: dict[int, dict[str, int]], singles: list[tuple[int, str]], unlisted: int, is_short: bool
) -> None:
    """What the lines stand for and what they say there is more add up to all jobs that have not ended."""
    bundles = tuple(bundled(ANN, str(number), counts) for number, counts in arrays.items())
    rows = [row(ANN, state, str(number), record("one", node="n1")) for number, state in singles]
    rows += [row(ANN, "running", f"{one.id}_0", RUNNING_TASK) for one in bundles if one.counts.get("running")]
    # Of each user who has jobs some are listed.
    counts: dict[str, int] = {"waiting": unlisted if arrays or singles else 0}
    for one in bundles:
        for state, count in one.counts.items():
            counts[state] = counts.get(state, 0) + count
    for _, state in singles:
        counts[state] = counts.get(state, 0) + 1
    found = Listing(tuple(rows), {"ann": counts}, {}, bundles)
    by_id = {one.id: one for one in bundles}
    told = dict.fromkeys(STATES, 0)
    for line in queue_view.rows_of(found, Facts(NOW_NS), is_short=is_short):
        if isinstance(line, tables.Line):
            _, number, _, word, *_ = line.text.split()
            state = {"starting:": "claimed", "lost:": "zombie"}.get(word, word.rstrip(":"))
            told[state] += int(number.replace(",", ""))
        elif isinstance(line, tables.Spread):
            for state, count in by_id[line.cells[1].text].counts.items():
                told[state] += count
        else:
            told[{str(number): state for number, state in singles}[line[1].text]] += 1
    for state in STATES:
        expected = counts.get(state, 0)
        assert told[state] == expected, state


@pytest.mark.parametrize(
    ("found", "facts", "says"),
    [
        (
            Listing((), bundles=(bundle(ANN, "17", waiting=3, failed=2),)),
            FACTS,
            "Which tasks of 17 failed: rq list 17 -t failed",
        ),
        (
            Listing((), bundles=(bundle(ANN, "17", zombie=2),)),
            FACTS,
            "Which tasks of 17 are lost: rq list 17 -t zombie",
        ),
        (Listing((row(ANN, "failed", "3", record()),)), FACTS, "How 3 ended: rq why 3"),
        (Listing((row(ANN, "waiting", "4", record()),)), FACTS, "Why 4 waits: rq why 4"),
        (Listing((row(ANN, "waiting", "4", record()),)), replace(FACTS, starts_nothing=True), ""),
        (Listing((row(ANN, "waiting", "4", record()), row(ANN, "running", "3", record()))), FACTS, ""),
        (Listing((row(BOB, "failed", "3", record()),), bundles=(bundle(BOB, "17", failed=2),)), FACTS, ""),
        (Listing(()), FACTS, ""),
    ],
)
def test_one_hint_says_what_to_type_next(found: Listing, facts: Facts, says: str) -> None:
    """If something calls for it: of mine, what failed, or what waits while nothing runs."""
    assert queue_notes.hint(found, facts) == says


# ---------------------------------------------------------------- from the disk


def put_array(homes: Homes, spool: Spool, array: str, states: dict[str, range], **of: Any) -> None:
    for state, indices in states.items():
        for index in indices:
            times: dict[str, Any] = {"began_s": 60, "ended_s": 30} if state in ENDED_STATES else {}
            times |= {"began_s": 60, "node": "node1"} if state in OWNED_STATES else {}
            task = record("sim", job_array=Array(array, index, 0, 99, 1, 100), **{**times, **of})
            homes.put(spool, state, f"{array}_{index}", task)


def test_an_array_costs_one_record(homes: Homes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its counts are those of names; what runs is read, since it may be amiss."""
    ann = homes.user("ann")
    put_array(homes, ann, "17", {"waiting": range(50, 80), "running": range(48, 50), "completed": range(48)})
    put_array(homes, ann, "18", {"held": range(20)})
    reads: list[str] = []
    read = spools.read

    def counted(spool: Spool, entry: Entry) -> Record:
        reads.append(entry.id)
        return read(spool, entry)

    monkeypatch.setattr(spools, "read", counted)
    found = listing([ann], ann, now_ns=NOW_NS, bundles=True)
    assert sorted(reads) == ["17_48", "17_49", "18_0"]
    assert {one.id: dict(one.counts) for one in found.bundles} == {
        "17": {"waiting": 30, "running": 2, "completed": 48},
        "18": {"held": 20},
    }
    assert {one.id: (one.state, one.tasks) for one in found.bundles} == {
        "17": ("running", 80),
        "18": ("held", 20),
    }
    assert [each.id for each in found.rows] == ["17_48", "17_49"]
    assert {state: count for state, count in found.counts["ann"].items() if count} == {
        "waiting": 30,
        "running": 2,
        "completed": 48,
        "held": 20,
    }


def test_an_array_that_ended_is_listed_as_long_as_a_job(homes: Homes) -> None:
    """If the last of its tasks ended recently, or belongs to the latest batch; one task alone is a job."""
    ann = homes.user("ann")
    put_array(homes, ann, "12", {"completed": range(9), "failed": range(9, 12)})
    put_array(homes, ann, "5", {"completed": range(9)}, ago_s=9000, began_s=8000, ended_s=7000)
    put_array(homes, ann, "13", {"completed": range(1)})
    homes.put(ann, "waiting", "14", record("new", ago_s=5))
    found = listing([ann], ann, now_ns=NOW_NS, bundles=True)
    assert [(one.id, one.state, one.ended_ns) for one in found.bundles] == [
        ("12", "failed", NOW_NS - 30 * NS)
    ]
    assert [each.id for each in found.rows] == ["14", "13_0"]
    everything = listing([ann], ann, now_ns=NOW_NS, bundles=True, ended_of_any_age=True)
    assert {one.id for one in everything.bundles} == {"12", "5"}


def test_without_bundles_each_task_has_a_row(homes: Homes) -> None:
    """For programs, and for --tasks."""
    ann = homes.user("ann")
    put_array(homes, ann, "17", {"waiting": range(3), "completed": range(3, 5)})
    found = listing([ann], ann, now_ns=NOW_NS)
    assert found.bundles == ()
    assert [each.id for each in found.rows] == ["17_0", "17_1", "17_2", "17_3", "17_4"]


def test_the_whole_way(homes: Homes) -> None:
    """On a terminal of 80 columns and in a pipe; -v and --tasks show the tasks."""
    ann = homes.user("ann")
    now: dict[str, Any] = {"ago_s": 7230, "now_ns": time.time_ns()}
    put_array(homes, ann, "17", {"waiting": range(8), "completed": range(8, 12)}, **now)
    environ = homes.environ("ann")
    assert unpainted(on_terminal([], environ, 80)).splitlines()[:2] == [
        "STATE    ID  USER  NODE  CPUS  RTIME  WAIT  NAME",
        "waiting  17  ann   sim  ███████░░░░░░░░░░░░░ 4 done, 8 waiting",
    ]
    for option in ("-v", "--tasks"):
        second = unpainted(on_terminal([option], environ, 80)).splitlines()[1]
        assert second.split()[:3] == ["waiting", "17_0", "ann"]


def test_a_long_queue_is_short_in_a_pipe(homes: Homes, capsys: pytest.CaptureFixture[str]) -> None:
    """Some hundred lines, and how many more there are, and what shows them."""
    from roundq.faces.cli import main

    ann = homes.user("ann")
    first = homes.put(ann, "waiting", "1", record("fit"))
    for number in range(2, 3001):
        Path(first.parent, f"{number}.job").hardlink_to(first)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in homes.environ("ann").items():
            patch.setenv(name, value)
        assert main(["q", "--mine"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 520
    assert "... 2,499 more waiting: rq list -t waiting" in lines
    assert lines[501].split()[:2] == ["...", "2,499"]
    assert lines[502].split()[1] == "3000"
    assert "3,000 waiting" in lines


# ---------------------------------------------------------------- why a job is held


def test_why_jobs_are_held(homes: Homes) -> None:
    """By the names of what they wait for: nothing else is read."""
    ann = homes.user("ann")
    put_array(homes, ann, "17", {"waiting": range(3), "completed": range(3, 10)})
    homes.put(ann, "running", "12", record("first", node="node1"))
    waits = (Dependency("ok", "12"), Dependency("any", "17", 10))
    homes.put(ann, "held", "20", record("later", job_after=waits))
    homes.put(ann, "held", "21", record("timed", job_begin_ns=NOW_NS + 7200 * NS))
    homes.put(ann, "held", "22", record("stopped")).rename(f"{ann.path}/held/22@user.job")
    homes.put(ann, "held", "23", record("edited")).rename(
        f"{ann.path}/held/23@71-99-0123abcd-waiting@node7!.job"
    )
    found = listing([ann], ann, now_ns=NOW_NS, bundles=True)
    held = [each for each in found.rows if each.state == "held"]
    told = {job: text for (_, job), text in holding.texts(held, found.jobs, NOW_NS).items()}
    assert told["20"] == "waits for 12 (running) and for the end of 3 of 10 tasks of 17"
    assert told["21"].startswith("begins at ")
    assert told["22"] == "on hold; rq release 22"
    assert told["23"] == "it is being changed on node7"
    assert holding.texts(held, {ann.path: census.Census()}, NOW_NS)
