"""Promises about `rq list` and `rq dump`: which jobs, in which order, as people and as programs read them."""

from __future__ import annotations

import csv
import io
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from roundq.faces import job_fields
from roundq.records import spool as spools
from roundq.records.spool import Entry, Spool
from roundq.words.job import NS, Array, Attempt, Dependency, Identity, Record, Task
from tests.faces.desk import Desk
from tests.faces.homes import Homes, record
from tests.faces.screen import on_terminal, unpainted


def now(name: str = "", **of: Any) -> Record:
    """A record as of now; what is told of it does not change within half a minute."""
    return record(name, now_ns=time.time_ns(), **{"ago_s": 7530, **of})


def task(index: int, name: str = "sim", **of: Any) -> Record:
    return now(name, job_array=Array("17", index, 0, 9, 1, 10), **of)


@pytest.fixture
def many(desk: Desk) -> Desk:
    """Ann's desk with a job of most states, and an array of ten tasks, of which one failed."""
    homes, ann = desk.homes, desk.spool
    homes.put(ann, "completed", "9", now("pre", began_s=840, ended_s=600, exit_code=0))
    homes.put(ann, "failed", "10", now("bad", began_s=821, ended_s=330, exit_code=3, reason="exit"))
    homes.put(ann, "running", "16", now("train", began_s=3750, node="node1", cores=4))
    for index in range(4):
        homes.put(ann, "completed", f"17_{index}", task(index, began_s=400, ended_s=340, exit_code=0))
    homes.put(ann, "failed", "17_4", task(4, began_s=930, ended_s=900, exit_code=7, reason="exit"))
    homes.put(ann, "running", "17_5", task(5, began_s=3690, node="node1"))
    for index in range(6, 10):
        homes.put(ann, "waiting", f"17_{index}", task(index))
    homes.put(ann, "waiting", "18", now("plot", job_cores=0, job_set="night"))
    homes.put(ann, "held", "19", now("late"))
    held = Path(ann.directory("held"))
    os.rename(held / "19.job", held / "19@user.job")
    return desk


def lines(desk: Desk, *words: str) -> list[str]:
    said = desk.rq("list", *words)
    assert (said.code, said.err) == (0, "")
    return said.out.splitlines()


def ids(desk: Desk, *words: str) -> list[str]:
    return lines(desk, *words, "-o", "id", "--noheader")


# ---------------------------------------------------------------- as people read it


def test_all_of_mine_by_their_ids(many: Desk) -> None:
    """Ended ones included; an array is one line."""
    many.homes.put(many.homes.user("bob"), "waiting", "3", now("other"))
    assert (
        many.rq("list").out
        == """\
STATE           ID  NODE   CPUS  RTIME   WAIT  NAME
completed       9   -         1   4:00  1h51m  pre
failed: exit 3  10  -         1   8:11  1h51m  bad
running         16  node1     4  1h02m  1h03m  train
running         17  -         1      -      -  sim (4 done, 1 running, 4 waiting, 1 failed)
waiting         18  -       all      -  2h05m  plot
held            19  -         1      -  2h05m  late
"""
    )


def test_all_of_mine_on_eighty_columns(many: Desk) -> None:
    """The array has a bar, the reason has a column, and below it are the counts."""
    said = unpainted(on_terminal(["list"], many.homes.environ("ann"), 80)).replace(
        "\N{MULTIPLICATION SIGN}", "x"
    )
    assert (
        said
        == """\
STATE           ID  NODE   CPUS  RTIME   WAIT  NAME   REASON
completed       9   -         1   4:00  1h51m  pre    -
failed: exit 3  10  -         1   8:11  1h51m  bad    -
running         16  node1     4  1h02m  1h03m  train  -
running         17  sim  ██████xx▓▓░░░░░░ 4 done, 1 running, 4 waiting, 1 failed
waiting         18  -       all      -  2h05m  plot   -
held            19  -         1      -  2h05m  late   on hold; rq release 19
2 running, 5 waiting, 1 held, 5 completed, 2 failed
"""
    )


def test_an_array_that_is_named_is_unfolded(many: Desk) -> None:
    """Who asks for its tasks sees them; --tasks shows those of all arrays."""
    assert [line.split()[3] for line in lines(many, "17", "-t", "failed")[1:]] == ["17_4"]
    assert len(lines(many, "17")) == 11
    assert len(lines(many, "--tasks")) == 16
    assert len(lines(many, "name=sim")) == 2


def test_a_block_for_each_job(many: Desk) -> None:
    """As tpar shows it: what was asked for, and what became of it."""
    many.homes.put(many.spool, "canceled", "20", now("never", ended_s=150, reason="canceled"))
    said = many.rq("list", "-v", "10", "16", "18", "19", "20")
    assert (
        said.out.replace(str(many.homes.parent), "HOMES")
        == """\
10     bad                                      failed: exit 3
    priority:       0
    submitted:      2 h ago
    command:        sleep 60
    cores:          1
    output:         rq-10.out
    status:         failed: its command ended with a non-zero exit code (5 min ago)
                    started 13 min ago
16     train                                    running
    priority:       0
    submitted:      2 h ago
    command:        sleep 60
    cores:          1
    output:         rq-16.out
    status:         running on node1
                    started 62 min ago
18     plot                                     waiting
    priority:       0
    set:            night
    submitted:      2 h ago
    command:        sleep 60
    cores:          a whole node
    output:         rq-18.out
    status:         waiting to run
19     late                                     held
    priority:       0
    submitted:      2 h ago
    command:        sleep 60
    cores:          1
    output:         rq-19.out
    status:         held: on hold; rq release 19
20     never                                    canceled
    priority:       0
    submitted:      2 h ago
    command:        sleep 60
    cores:          1
    output:         rq-20.out
    status:         was canceled: its user canceled it (2 min ago)
                    never started
"""
    )


def test_nothing_to_list(many: Desk) -> None:
    """That no job matches is no error; a program sees the columns, a person a sentence."""
    assert lines(many, "state=zombie") == ["STATE  ID  NODE  CPUS  RTIME  WAIT  NAME"]
    assert lines(many, "%nobody", "-o", "id,name") == ["ID  NAME"]
    assert lines(many, "-t", "lost", "--csv", "-o", "id") == ["id"]
    assert unpainted(on_terminal(["list", "-t", "lost"], many.homes.environ("ann"), 80)) == "No such job.\n"
    said = many.rq("list", "4711")
    assert (said.code, said.out) == (1, "")
    assert "no such job" in said.err


# ---------------------------------------------------------------- which jobs


def test_jobs_by_state(many: Desk) -> None:
    """By the words of expressions, several with commas; -a is all."""
    assert ids(many, "-t", "failed") == ["10", "17_4"]
    assert ids(many, "-t", "running,held") == ["16", "17_5", "19"]
    assert ids(many, "-t", "pending") == ["17_6", "17_7", "17_8", "17_9", "18", "19"]
    assert len(ids(many, "-a")) == len(ids(many)) == 15


def test_jobs_by_words(many: Desk) -> None:
    """Ids, ranges, names, sets and expressions, in the order of ids."""
    assert ids(many, "18", "9") == ["9", "18"]
    assert ids(many, "17_[2-4]") == ["17_2", "17_3", "17_4"]
    assert ids(many, "plot") == ids(many, "-J", "plot") == ids(many, "%night") == ["18"]
    assert ids(many, 'state=failed & name="b*"') == ["10"]
    assert ids(many, "cores=all") == ["18"]


def test_jobs_of_others(many: Desk) -> None:
    """Instead of mine, or after them; words mean theirs, too."""
    bob = many.homes.user("bob")
    many.homes.put(bob, "waiting", "3", now("other", job_set="day"))
    many.homes.put(bob, "failed", "4", now("worse", began_s=9, ended_s=5, exit_code=1))
    assert ids(many, "-u", "bob") == ["3", "4"]
    assert ids(many, "--all-users", "-t", "failed") == ["10", "17_4", "4"]
    for words in (["4"], ["worse"], ["-J", "worse"], ["state=failed"], ["code=1 & name=w*"]):
        assert ids(many, "-u", "bob", *words) == ["4"], words
    assert ids(many, "-u", "bob", "%day") == ["3"]
    assert lines(many, "-u", "bob", "-t", "waiting")[1].split()[:3] == ["waiting", "3", "bob"]
    assert "last" in many.rq("list", "-u", "bob", "last").err


def test_what_ended_since(many: Desk) -> None:
    """What has not ended is always there."""
    live = ["16", "17_5", "17_6", "17_7", "17_8", "17_9", "18", "19"]
    assert ids(many, "--since", "6m") == sorted([*live, "10", "17_0", "17_1", "17_2", "17_3"], key=_order)
    assert ids(many, "--since", "1m") == live
    assert "17" in " ".join(lines(many, "--since", "1m"))


def test_an_array_of_which_one_task_was_run_again_ended_when_that_did(
    many: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it is not that of the highest index; tasks whose files are old are not even read for that."""
    days = 3 * 86_400
    for index in range(5):
        long_ago = now("old", job_array=Array("20", index, 0, 4, 1, 5), began_s=days + 9, ended_s=days)
        path = many.homes.put(many.spool, "completed", f"20_{index}", long_ago)
        os.utime(path, (time.time() - days, time.time() - days))
    read: list[str] = []
    content = spools.content

    def counted(spool: Spool, entry: Entry) -> bytes:
        read.append(entry.id)
        return content(spool, entry)

    monkeypatch.setattr(spools, "content", counted)
    assert not any("20" in line.split() for line in lines(many, "--since", "1d"))
    assert [job for job in read if job.startswith("20_")] == ["20_4"]

    again = now("old", job_array=Array("20", 1, 0, 4, 1, 5), began_s=3700, ended_s=3600, exit_code=0)
    many.homes.put(many.spool, "completed", "20_1", again)
    assert sum("20" in line.split() for line in lines(many, "--since", "1d")) == 1
    assert sum("20" in line.split() for line in lines(many, "--since", "1d", "name=old")) == 1
    assert not any("20" in line.split() for line in lines(many, "--since", "9m"))


def _order(job_id: str) -> list[int]:
    return [int(part) for part in job_id.split("_")]


def test_order_and_number(many: Desk) -> None:
    """By columns, backwards with a dash; what has no value is last in any case."""
    assert ids(many, "-n", "2") == ["9", "10"]
    assert ids(many, "--sort", "-id", "-n", "3") == ["19", "18", "17_9"]
    assert ids(many, "--sort", "name,-id", "-n", "4") == ["10", "19", "18", "9"]
    assert ids(many, "--sort", "run_time,-id")[:2] == ["17_4", "17_3"]
    assert ids(many, "--sort=-ran")[:2] == ["16", "17_5"]
    assert set(ids(many, "--sort", "-run_time")[-3:]) == set(ids(many, "--sort", "run_time")[-3:])
    assert ids(many, "--sort", "-cores", "-n", "2") == ["18", "16"]
    assert len(lines(many, "-n", "3")) == 4
    assert ids(many, "-n", "0") == []


# ---------------------------------------------------------------- for programs


def test_the_examples_of_the_manual(many: Desk) -> None:
    """Those of rq-json(5), as they are typed there."""
    page = (Path(__file__).parents[2] / "man" / "rq-json.5").read_text()
    examples = page.partition(".Bd -literal -offset indent\n")[2].partition(".Ed")[0].splitlines()
    first, second = (many.rq(*example.split()[1:]) for example in examples)
    assert [json.loads(line)["id"] for line in first.out.splitlines()] == ["10", "17_4"]
    assert json.loads(second.out)["jobs"][0] == {"id": "9", "state": "completed", "exit_code": 0}


def test_as_workflow_tools_ask(many: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line for each job, an id and a state; no record is read for that."""

    def unexpected(*_: object) -> bytes:
        raise AssertionError("a record was read")

    monkeypatch.setattr(spools, "content", unexpected)
    said = lines(many, "--all", "-h", "-o", "id,state")
    assert [line.split() for line in said][:4] == [
        ["9", "completed"],
        ["10", "failed"],
        ["16", "running"],
        ["17_0", "completed"],
    ]
    assert len(said) == 15
    assert many.rq("list", "-h").out.startswith("usage: rq list")


def test_columns_by_name(many: Desk) -> None:
    """In the order in which they are named; expressions' names mean the same."""
    assert lines(
        many, "-o", "name,id,code,ran,memory,on_hold,begin,array,index,set", "10", "17_4", "18", "19"
    ) == [
        "NAME  ID    EXIT_CODE  RUN_TIME  MEMORY  ON_HOLD  BEGIN  ARRAY  INDEX  SET",
        "bad   10            3      8:11       0  no       -      -          -  -",
        "sim   17_4          7      0:30       0  no       -      17         4  -",
        "plot  18            -         -       0  no       -      -          -  night",
        "late  19            -         -       0  yes      -      -          -  -",
    ]


@pytest.mark.parametrize(
    ("words", "says", "hints"),
    [
        (["-o", "id,bogus"], 'rq: -o: there is no column "bogus"', "columns are id, user, home, state,"),
        (["-o", "id,,name"], "rq: -o: a name is empty", "columns are id,"),
        (["-o", "\x1b[2J"], 'rq: -o: there is no column "\\x1b[2J"', "columns are id,"),
        (["--sort", "-size"], 'rq: --sort: there is no column "size"', "columns are id,"),
        (["-t", "runing"], 'rq: -t: there is no state "runing"', "did you mean running?"),
        (["-n", "many"], 'rq: -n: "many" is no number', "give a whole number: -n 20"),
        (["-n", "-1"], 'rq: -n: "-1" is no number', "give a whole number: -n 20"),
        (["--since", "soon"], 'rq: since "soon": it is no time', "write 2h or 7d (ago)"),
        (["state=bogus"], 'rq: expression, column 7: there is no state "bogus"', "states are"),
        (["-u", "nobody"], 'rq: no user "nobody" has a queue here', "those who have one: ann"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_listed(
    many: Desk, words: list[str], says: str, hints: str
) -> None:
    """With what would be right."""
    said = many.rq("list", *words)
    assert said.code in (1, 2)
    assert said.out == ""
    assert said.err.startswith(f"{says}\n")
    assert f"hint: {hints}" in said.err


def test_csv_is_the_values_of_the_json(many: Desk) -> None:
    """All columns, or those that are named; commas and quotes in a name are its own."""
    many.homes.put(many.spool, "waiting", "21", now('a, "b"\n', job_nodes=("n1", "n2"), job_begin_ns=NS))
    table = list(csv.DictReader(io.StringIO(many.rq("list", "--csv").out)))
    assert list(table[0]) == [field.name for field in job_fields.JOB]
    by_id = {row["id"]: row for row in table}
    assert by_id["21"]["name"] == 'a, "b"\n'
    assert (by_id["21"]["nodes"], by_id["21"]["begin"]) == ("n1,n2", "1970-01-01T00:00:01.000Z")
    assert (by_id["10"]["exit_code"], by_id["10"]["signal"], by_id["10"]["is_mine"]) == ("3", "", "true")
    assert (by_id["17_4"]["array"], by_id["17_4"]["index"]) == ("17", "4")
    assert lines(many, "--csv", "--noheader", "-o", "id,command", "10") == ["10,sleep 60"]


def test_the_json_is_that_of_rq(many: Desk) -> None:
    """The same names and values for each job; with -o only those."""
    listed = json.loads(many.rq("list", "--json").out)
    shown = json.loads(many.rq("--json").out)
    assert listed["schema"] == shown["schema"] == 1
    by_id = {job["id"]: job for job in shown["jobs"]}
    assert [job["id"] for job in listed["jobs"]] == sorted(by_id, key=_order)
    for job in listed["jobs"]:
        assert list(job) == list(by_id[job["id"]])
        for name in set(job) - {"run_time", "wait_time"}:
            assert job[name] == by_id[job["id"]][name], name
    some = json.loads(many.rq("list", "--json", "-o", "id,state", "10").out)["jobs"]
    assert some == [{"id": "10", "state": "failed"}]


# ---------------------------------------------------------------- dump


def _whole_record() -> Record:
    boot = "12345678-1234-1234-1234-123456789abc"
    process = Identity(boot, 4711, 99)
    earlier = Attempt(1, "node2", process, NS, 2 * NS, "exit", 7, None, "it ended")
    return now(
        "whole",
        job_array=Array("30", 4, 4, 8, 2, 3, 2, 1),
        job_chunk=(Task(4, ("true",)), Task(6, ("false",))),
        job_after=(Dependency("ok", "12"), Dependency("any", "13", 5)),
        job_keep_held=True,
        job_begin_ns=NS,
        job_retries=3,
        job_retry_on=("signal", "75"),
        job_backoff_s=30.0,
        job_set="night",
        job_memory_required=1 << 30,
        job_environment="0" * 64,
        job_umask=0o22,
        attempt=2,
        attempts=(earlier,),
        usage={"cpu_s": 1.5},
        results=((4, 0), (6, -9)),
        retired=True,
        not_before_ns=3 * NS,
        process=process,
        lease_s=60.0,
        began_s=50,
        ended_s=40,
        exit_code=1,
        reason="exit",
        node="node1",
    )


def test_dump_tells_everything(desk: Desk) -> None:
    """Every field of the record, by the names that rq-json(5) promises, in their order."""
    desk.homes.put(desk.spool, "failed", "30_4", _whole_record())
    value = json.loads(desk.rq("dump").out)
    assert (value["schema"], value["problems"]) == (1, {})
    (job,) = value["jobs"]
    assert list(job) == [field.name for field in job_fields.WHOLE]
    process = {"boot": "12345678-1234-1234-1234-123456789abc", "pid": 4711, "start": 99}
    told = {
        "state": "failed",
        "set": "night",
        "array": {
            "id": "30",
            "index": 4,
            "first": 4,
            "last": 8,
            "step": 2,
            "count": 3,
            "throttle": 2,
            "max_fails": 1,
        },
        "index": 4,
        "after": [{"how": "ok", "job": "12", "tasks": None}, {"how": "any", "job": "13", "tasks": 5}],
        "keep_held": True,
        "begin": "1970-01-01T00:00:01.000Z",
        "retries": 3,
        "retry_on": ["signal", "75"],
        "backoff": 30.0,
        "chunk": [{"index": 4, "command": ["true"]}, {"index": 6, "command": ["false"]}],
        "results": [{"index": 4, "exit_code": 0}, {"index": 6, "exit_code": -9}],
        "retired": True,
        "not_before": "1970-01-01T00:00:03.000Z",
        "usage": {"cpu_s": 1.5},
        "process": process,
        "lease": 60.0,
        "umask": 0o22,
        "environment": "0" * 64,
        "memory": 1 << 30,
        "attempt": 2,
        "attempts": [
            {
                "number": 1,
                "node": "node2",
                "reason": "exit",
                "exit_code": 7,
                "signal": None,
                "started": "1970-01-01T00:00:01.000Z",
                "ended": "1970-01-01T00:00:02.000Z",
                "detail": "it ended",
                "process": process,
            }
        ],
        "run_time": 10.0,
        "exit_code": 1,
        "file": f"{desk.spool.path}/failed/30_4.job",
    }
    for name, expected in told.items():
        assert job[name] == expected, name


def test_dump_is_what_show_prints(many: Desk) -> None:
    """One format for both."""
    dumped = json.loads(many.rq("dump", "10").out)["jobs"]
    assert dumped == json.loads(many.rq("show", "--json", "10").out)["jobs"]


def test_a_failed_job_is_dumped_as_failed(many: Desk) -> None:
    """tpar's dump called it finished."""
    states = {job["id"]: job["state"] for job in json.loads(many.rq("dump").out)["jobs"]}
    assert (states["10"], states["9"], states["19"]) == ("failed", "completed", "held")


def test_dump_in_lines(many: Desk) -> None:
    """Each line is a value of its own, with the schema and the time."""
    values = [json.loads(line) for line in many.rq("dump", "--lines", "-t", "failed").out.splitlines()]
    assert [value["id"] for value in values] == ["10", "17_4"]
    assert all(value["schema"] == 1 and value["now"] for value in values)
    assert list(values[0])[2:] == [field.name for field in job_fields.WHOLE]
    assert many.rq("dump", "--lines", "-t", "lost") == (0, "", "")


def test_a_job_that_cannot_be_read_is_listed_with_the_reason(many: Desk) -> None:
    """By every form."""
    Path(many.spool.directory("waiting"), "40.job").write_bytes(b"{")
    assert "waiting, unreadable" in "\n".join(lines(many, "40"))
    assert "problem:" in many.rq("list", "-v", "40").out
    (job,) = json.loads(many.rq("dump", "40").out)["jobs"]
    assert (job["state"], job["name"]) == ("waiting", None)
    assert job["problem"].startswith("it is not JSON")
    assert many.rq("list", "--csv", "-o", "id,name", "40").out == "id,name\n40,\n"


def test_hostile_names_paint_nothing(homes: Homes) -> None:
    """On a terminal; a program gets them as they are."""
    ann, bob = homes.user("ann"), homes.user("bob")
    assert ann
    homes.put(bob, "waiting", "3", now("\x1b]0;mine\x07"))
    for words in ([], ["-v"], ["--csv"], ["-o", "id,name"]):
        said = unpainted(on_terminal(["list", "-u", "bob", *words], homes.environ("ann"), 80))
        assert not {"\x1b", "\x07"} & set(said), words
        assert "x1b]0;mine" in said


def test_a_list_begins_before_all_is_read(many: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a limit no more records are read than are shown, and one for an array."""
    read = spools.read
    reads: list[str] = []

    def counted(spool: Spool, entry: Entry) -> Record:
        reads.append(entry.id)
        return read(spool, entry)

    monkeypatch.setattr(spools, "read", counted)
    lines(many, "-n", "2")
    assert reads == ["9", "10"]
    reads.clear()
    lines(many)
    assert sum(job.startswith("17_") for job in reads) <= 3
