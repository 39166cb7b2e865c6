"""Transcripts of what tells of jobs whose records were folded: `show`, `why`, `wait`, `history`."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from roundq.records import history
from roundq.records import spool as spools
from roundq.records.history import Journal
from roundq.words.job import Array, Job, Record
from roundq.words.states import CANCELED, COMPLETED, FAILED
from tests.faces.desk import Desk
from tests.faces.homes import record


def fold(desk: Desk, job_id: str, state: str, ended: Record, node: str = "n1") -> None:
    """A job of hers, whose record was folded."""
    desk.homes.put(desk.spool, state, job_id, ended)
    (entry,) = [entry for entry in spools.scan(desk.spool, (state,)) if entry.id == job_id]
    moving = history.take(desk.spool, entry, node)
    assert moving is not None
    assert Journal(desk.spool, node).fold([moving], 1e9, 1e9) == 1


@pytest.fixture
def past(desk: Desk) -> Desk:
    """Ann's jobs of last year: one that failed, one that was well, an array, one that was canceled."""
    fold(desk, "17", FAILED, record("fit", reason="exit", exit_code=3, node="n1", began_s=500, ended_s=400))
    fold(desk, "18", COMPLETED, record("plot", exit_code=0, node="n2", began_s=300, ended_s=290))
    for index in (0, 1):
        of = Array("20", index, 0, 1, 1, 2)
        task = record("scan", exit_code=0, node="n1", began_s=200, ended_s=100 - index, job_array=of)
        fold(desk, f"20_{index}", COMPLETED, task)
    fold(desk, "21", CANCELED, record("fit", reason="canceled", ended_s=50))
    return desk


def test_show_tells_everything_of_a_job_of_last_year(past: Desk) -> None:
    """As of any job, and in which file that stands."""
    said = past.rq("show", "17")
    assert (said.code, said.err) == (0, "")
    assert 'job 17 "fit"\n  state      failed\n' in said.out
    assert "  exit code  3\n" in said.out
    assert f"  file       {past.spool.path}/history/n1.1.jsonl\n" in said.out
    (job,) = json.loads(past.rq("show", "--json", "17").out)["jobs"]
    assert (job["id"], job["state"], job["exit_code"]) == ("17", "failed", 3)


def test_an_array_of_last_year_is_all_its_tasks(past: Desk) -> None:
    """And a range finds those that there are."""
    for words in (("20",), ("20_[0-1]",), ("20_0", "20_1"), ("19-20",)):
        said = past.rq("show", "--json", *words)
        ids = [job["id"] for job in json.loads(said.out)["jobs"]]
        assert ids == ["20_0", "20_1"], words


def test_of_an_array_of_which_some_is_history_all_is_told(past: Desk) -> None:
    """And of a range."""
    of = Array("20", 2, 0, 2, 1, 3)
    past.homes.put(past.spool, FAILED, "20_2", record("scan", reason="exit", exit_code=1, job_array=of))
    past.homes.put(past.spool, COMPLETED, "19", record("new", exit_code=0))
    for words, expected in (
        (("20",), ["20_0", "20_1", "20_2"]),
        (("20_[1-2]",), ["20_1", "20_2"]),
        (("17-19",), ["17", "18", "19"]),
        (("18,20_2",), ["18", "20_2"]),
    ):
        found = json.loads(past.rq("show", "--json", *words).out)["jobs"]
        assert [job["id"] for job in found] == expected, words


def test_why_and_wait_answer_at_once(past: Desk) -> None:
    assert past.rq("why", "17").out == '17 "fit": failed: its command ended with a non-zero exit code\n'
    assert past.rq("wait", "18").code == 0
    said = past.rq("wait", "17", "18")
    assert (said.code, said.err) == (
        1,
        'rq: job 17 "fit" failed: its command ended with a non-zero exit code\n',
    )


def test_what_ended_long_ago_is_not_canceled(past: Desk) -> None:
    """It is said how it ended."""
    said = past.rq("cancel", "17")
    assert said.code == 1
    assert '17 "fit" has ended already: failed: its command ended with a non-zero exit code' in said.err


@pytest.mark.parametrize("verb", ["rerun", "retire"])
def test_nothing_is_done_to_what_is_only_history(verb: str, past: Desk) -> None:
    """What its command was is told."""
    said = past.rq(verb, "17")
    assert (said.code, said.err) == (
        1,
        "rq: nothing can be done to job 17 any more: only the history tells of it\n"
        "hint: rq show 17 has its command: submit it again\n",
    )


def test_what_never_was_is_no_job(past: Desk) -> None:
    said = past.rq("show", "4711")
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith('rq: no such job: "4711"\n')


# ---------------------------------------------------------------- rq history


def ids_of(said_out: str) -> list[str]:
    """The second column of a table, without its title."""
    return [line.split("  ")[1].strip() for line in said_out.splitlines()[1:]]


@pytest.fixture
def ended(desk: Desk) -> Desk:
    """Jobs that ended some hours and days ago by the clock of this machine, folded or not."""
    now_ns = time.time_ns()

    def of(name: str, ago_s: float, **more: Any) -> Record:
        given = {"ago_s": ago_s + 100, "now_ns": now_ns, "began_s": ago_s + 60, "ended_s": ago_s, **more}
        return record(name, **given)

    fold(desk, "1", COMPLETED, of("old", 40 * 86_400, exit_code=0, node="n1", cores=4))
    fold(desk, "2", FAILED, of("fit", 3 * 86_400, reason="exit", exit_code=3, node="n2", cores=1))
    desk.homes.put(desk.spool, COMPLETED, "3", of("fit", 7200, exit_code=0, node="n1", cores=2, job_set="s"))
    desk.homes.put(desk.spool, CANCELED, "4", of("plot", 60, reason="canceled"))
    return desk


def test_history_lists_what_ended_the_newest_last(ended: Desk) -> None:
    """Of the last week if nobody says, from records and journals alike, each once."""
    said = ended.rq("history", "-o", "id,state,node,cores,run_time,wait_time,name")
    assert (said.code, said.err) == (0, "")
    assert said.out == (
        "ID  STATE           NODE  CORES  RUN_TIME  WAIT_TIME  NAME\n"
        "2   failed: exit 3  n2        1      1:00       0:40  fit\n"
        "3   completed       n1        2      1:00       0:40  fit\n"
        "4   canceled        -         1      1:00       0:40  plot\n"
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--since", "100d"), "1234"),
        (("--since", "1d"), "34"),
        (("--since", "100d", "--until", "1d"), "12"),
        (("--until", "1d"), "12"),
        (("-n", "2"), "34"),
        (("fit",), "23"),
        (("-J", "old"), "1"),
        (("1-3",), "123"),
        (("%s",), "3"),
        (("state=failed",), "2"),
        (("code=0 & node=n1",), "13"),
        (("name=nothing",), ""),
        (("--since", "1d", "fit"), "3"),
    ],
)
def test_history_takes_times_and_jobs(words: tuple[str, ...], expected: str, ended: Desk) -> None:
    """Jobs that are named are looked for however long ago they ended."""
    said = ended.rq("history", *words)
    assert (said.code, said.err) == (0, "")
    assert ids_of(said.out) == list(expected)


def test_history_is_for_programs_too(ended: Desk) -> None:
    found = json.loads(ended.rq("history", "--json").out)
    assert [job["id"] for job in found["jobs"]] == ["2", "3", "4"]
    assert found["jobs"][0]["reason"] == "exit"
    assert ended.rq("history", "--csv", "-o", "id,name,exit_code").out == (
        "id,name,exit_code\n2,fit,3\n3,fit,0\n4,plot,\n"
    )


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("--since", "tomorrow"), 'since "tomorrow"'),
        (("--since", "1d", "--until", "2d"), "option --until: that is not after --since"),
        (("-n", "0"), 'option -n: "0" is no number of jobs'),
        (("-o", "nothing"), 'there is no column "nothing"'),
        (("state=",), "state="),
        (("last",), '"last" is the job that was submitted last'),
    ],
)
def test_history_refuses_what_it_does_not_understand(words: tuple[str, ...], what: str, ended: Desk) -> None:
    said = ended.rq("history", *words)
    assert (said.code, said.out) == (2, "")
    assert what in said.err


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("plain", ("x",)),
        ('a "b" \\ c', ("x",)),
        ("é and ü", ("x",)),
        ("", ("./fit", "-n", "3 4", '"q"')),
        ("", ("é",)),
        ("", ("x",)),
    ],
)
def test_a_job_of_the_history_is_found_by_its_name(name: str, command: tuple[str, ...], desk: Desk) -> None:
    """Also where the name is its command line; and no other is."""
    job = Job(command, jobname=name, submitted_ns=1)
    fold(desk, "1", FAILED, Record(job, completed_ns=5, reason="exit", exit_code=1))
    fold(desk, "2", FAILED, record("other plain é", ended_s=5, reason="exit", exit_code=1))
    for words in (("-J", job.name), (f"name={json.dumps(job.name, ensure_ascii=False)}",)):
        assert ids_of(desk.rq("history", *words).out) == ["1"], words
