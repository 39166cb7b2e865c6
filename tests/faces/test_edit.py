"""Promises of the verb edit: what has not begun asks for something else from now on, and it is said what."""

from __future__ import annotations

import os
import re
import time
from dataclasses import replace
from typing import Any

import pytest

from roundq.faces.cli import build_parser
from roundq.records import spool as spools
from roundq.words.job import NS, Dependency, Job
from roundq.words.states import COMPLETED, ENDED_STATES, FAILED, HELD, RUNNING, WAITING
from tests.faces.desk import Desk, Said
from tests.faces.homes import GIB, record


def put(desk: Desk, state: str, job_id: str, name: str = "", **of: Any) -> None:
    """Puts a job of ann's into a state; fields are those of the job."""
    fields = {f"job_{field}": value for field, value in of.items()}
    facts: dict[str, Any] = {"began_s": 9, "ended_s": 5, "node": "n1"} if state in ENDED_STATES else {}
    if state == RUNNING:
        facts = {"began_s": 9, "node": "n1"}
    desk.homes.put(desk.spool, state, job_id, record(name, now_ns=time.time_ns(), **fields, **facts))


def job(desk: Desk, job_id: str) -> Job:
    found = desk.row(job_id).record
    assert found is not None
    return found.job


#: Words of the command, what they change, and what is said.
EDITS: list[tuple[list[str], dict[str, Any], str]] = [
    (["--cpus", "4"], {"cores": 4}, "cores 2 -> 4"),
    (["-c", "all"], {"cores": 0}, "cores 2 -> all"),
    (["--exclusive"], {"cores": 0}, "cores 2 -> all"),
    (["-c", "none"], {"cores": 1}, "cores 2 -> 1"),
    (["--mem", "8G"], {"memory_required": 8 * GIB}, "memory 4G -> 8G"),
    (["-m", "none"], {"memory_required": 0}, "memory 4G -> none"),
    (["--mem-limit"], {"memory_limit": 4 * GIB}, "memory 4G -> 4G (a limit)"),
    (["--gpus", "2"], {"gpus": 2}, "GPUs 0 -> 2"),
    (
        ["-L", "lic:2", "-L", "other"],
        {"licenses": (("lic", 2), ("other", 1))},
        "licenses none -> lic:2,other:1",
    ),
    (["-w", "gpu*,n1"], {"nodes": ("gpu*", "n1")}, "nodes any -> gpu*,n1"),
    (["-x", "none"], {"exclude": ()}, "not on bad -> none"),
    (["--exclude", "worse"], {"exclude": ("worse",)}, "not on bad -> worse"),
    (["--need", "avx2"], {"features": ("avx2",)}, "features none -> avx2"),
    (["--time", "2h"], {"time_limit_s": 7200.0}, "time limit 1h00m -> 2h00m"),
    (["-t", "none"], {"time_limit_s": None}, "time limit 1h00m -> none"),
    (["--max-output", "0"], {"max_output": 0}, "output limit 1M -> none"),
    (["--restart"], {"restartable": True}, "may be restarted no -> yes"),
    (["--priority", "high"], {"priority": 100}, "priority 0 -> 100"),
    (["--priority", "-5"], {"priority": -5}, "priority 0 -> -5"),
    (["--retries", "3"], {"retries": 3}, "retries 0 -> 3"),
    (
        ["--job-name", "plot"],
        {"jobname": "plot", "output": "plot.out"},
        'name "fit" -> "plot", output fit.out -> plot.out',
    ),
]
BEFORE: dict[str, Any] = {
    "cores": 2,
    "memory_required": 4 * GIB,
    "exclude": ("bad",),
    "time_limit_s": 3600.0,
    "output": "fit.out",
}


@pytest.mark.parametrize(("words", "fields", "said"), EDITS, ids=lambda value: str(value)[:30])
@pytest.mark.parametrize("state", [WAITING, HELD])
def test_what_is_asked_for_is_changed_and_nothing_else(
    words: list[str], fields: dict[str, Any], said: str, state: str, desk: Desk
) -> None:
    put(desk, state, "1", "fit", **BEFORE)
    before = job(desk, "1")
    name = fields.get("jobname", "fit")
    assert desk.rq("edit", "fit", *words) == Said(0, f'edited 1 "{name}": {said}\n', "")
    after = job(desk, "1")
    changed = {
        field: getattr(after, field)
        for field in Job.__dataclass_fields__
        if getattr(after, field) != getattr(before, field)
    }
    assert changed == fields
    # What waits for nothing waits.
    assert desk.row("1").state == WAITING


def test_every_option_of_an_edit_is_tried_here() -> None:
    tried = {word for words, _, _ in EDITS for word in words if word.startswith("-")}
    tried |= {"--begin", "--after", "--after-any", "--after-fail", "--keep-held", "--retry-on", "--backoff"}
    tried |= {"--dry-run", "--help", "--version"}
    options = [action.option_strings for action in build_parser("edit")._actions if action.option_strings]
    assert [names for names in options if not set(names) & tried] == []


def test_a_limit_of_memory_follows_the_memory(desk: Desk) -> None:
    put(desk, WAITING, "1", memory_required=GIB, memory_limit=GIB)
    assert desk.rq("edit", "1", "-m", "2").out.endswith(": memory 1G (a limit) -> 2G (a limit)\n")
    assert job(desk, "1").memory_limit == 2 * GIB
    assert desk.rq("edit", "1", "-m", "none").code == 0
    assert job(desk, "1").memory_limit is None
    assert desk.rq("edit", "1", "--mem-limit") == Said(
        1, "", "rq: option --mem-limit: there is no memory to keep to\nhint: give it with --mem\n"
    )


def test_an_output_that_was_named_by_hand_keeps_its_name(desk: Desk) -> None:
    put(desk, WAITING, "1", "fit", output="o.txt")
    assert desk.rq("edit", "1", "-J", "plot").out == 'edited 1 "plot": name "fit" -> "plot"\n'


@pytest.mark.parametrize(
    ("name", "output", "new", "expected"),
    [
        ("fit", "fit.out", "a%j", "a%%j.out"),
        ("a%j", "a%%j.out", "fit", "fit.out"),
        ("fit", "fit.%a.out", "b%", "b%%.%a.out"),
        ("a%j", "a%j.out", "fit", "a%j.out"),
    ],
)
def test_an_output_that_was_named_after_the_job_is_named_as_run_names_it(
    desk: Desk, name: str, output: str, new: str, expected: str
) -> None:
    """What looks like a place to fill in is none there; a task's keeps its index."""
    put(desk, WAITING, "1", name, output=output)
    assert desk.rq("edit", "1", "-J", new).code == 0
    assert (job(desk, "1").jobname, job(desk, "1").output) == (new, expected)


def put_retry(desk: Desk, job_id: str, name: str, *, retried: int, **of: Any) -> None:
    """A job that ran, failed, and waits for its next attempt."""
    fields = {f"job_{field}": value for field, value in of.items()}
    first = record(name, now_ns=time.time_ns(), began_s=9, ended_s=5, node="n1", exit_code=1, **fields)
    later = replace(first.next_attempt(first.completed_ns, "exit"), retried=retried)
    desk.homes.put(desk.spool, HELD, job_id, replace(later, not_before_ns=(time.time_ns() + 3600 * NS)))


def test_a_job_that_has_run_keeps_its_output_where_the_earlier_attempts_wrote(desk: Desk) -> None:
    put_retry(desk, "1", "fit", retried=1, output="fit.out")
    assert desk.rq("edit", "1", "-J", "plot").out == 'edited 1 "plot": name "fit" -> "plot"\n'
    assert job(desk, "1").output == "fit.out"
    put_retry(desk, "2", "fit", retried=0, output="%x.log")
    assert desk.rq("edit", "2", "-J", "plot") == Said(
        1,
        "",
        'rq: cannot edit 2: its output "%x.log" is named after it, and earlier attempts wrote there\n'
        "hint: leave out --job-name\n",
    )
    assert desk.rq("edit", "2", "-J", "fit", "-c", "2").code == 0


def test_a_job_that_waits_for_its_retry_comes_after_no_other(desk: Desk) -> None:
    """Nothing is confirmed that would not count."""
    put(desk, WAITING, "1", "fit")
    put_retry(desk, "2", "plot", retried=1, after=(Dependency("ok", "7"),))
    assert desk.rq("edit", "2", "--after", "1") == Said(
        1,
        "",
        "rq: cannot edit 2: it failed, and its retry waits for its time alone\n"
        "hint: rq hold 2 keeps it until it is released\n",
    )
    assert desk.rq("edit", "2", "--after", "none").out == 'edited 2 "plot": after 7 -> none\n'
    # What its user ran again waits for others again.
    put_retry(desk, "3", "plot", retried=0)
    assert desk.rq("edit", "3", "--after", "1").out == 'edited 3 "plot": after none -> 1\n'


def test_several_jobs_are_told_by_what_changed(desk: Desk) -> None:
    put(desk, WAITING, "1", cores=1)
    put(desk, WAITING, "2", cores=1)
    put(desk, HELD, "3", cores=2)
    put(desk, WAITING, "4", cores=4)
    assert desk.rq("edit", "1-4", "-c", "4") == Said(
        0,
        'edited 2 jobs: 1, 2: cores 1 -> 4\nedited 3 "sleep 60": cores 2 -> 4\nunchanged 4 "sleep 60"\n',
        "",
    )
    assert desk.rq("edit", "1-4", "-c", "4") == Said(0, "unchanged 4 jobs: 1-4\n", "")


# ---------------------------------------------------------------- where it goes


def test_what_is_on_hold_stays_on_hold(desk: Desk) -> None:
    put(desk, WAITING, "1", "fit")
    desk.rq("hold", "1")
    assert desk.rq("edit", "1", "-c", "2").code == 0
    assert os.listdir(desk.spool.directory(HELD)) == ["1@user.job"]
    assert desk.rq("edit", "1", "-c", "2").code == 0
    assert os.listdir(desk.spool.directory(HELD)) == ["1@user.job"]


def test_what_is_to_begin_later_is_held_until_then_and_goes_if_that_is_taken_back(desk: Desk) -> None:
    put(desk, WAITING, "1", "fit")
    said = desk.rq("edit", "1", "--begin", "now+2h")
    assert re.fullmatch(r'edited 1 "fit": begin at once -> .* \(in 2 h\)\n', said.out)
    assert os.listdir(desk.spool.directory(HELD)) == ["1.job"]
    assert job(desk, "1").begin_ns > time.time_ns() + 7000 * NS
    said = desk.rq("edit", "1", "--begin", "none")
    assert re.fullmatch(r'edited 1 "fit": begin .* -> at once\n', said.out)
    assert os.listdir(desk.spool.directory(WAITING)) == ["1.job"]


def test_a_job_may_come_after_those_that_were_submitted_before_it(desk: Desk) -> None:
    put(desk, WAITING, "1", "fit")
    put(desk, WAITING, "2", "plot")
    put(desk, RUNNING, "3")
    assert desk.rq("edit", "plot", "--after", "fit") == Said(0, 'edited 2 "plot": after none -> 1\n', "")
    assert job(desk, "2").after == (Dependency("ok", "1"),)
    assert desk.row("2").state == HELD
    # So no two wait for each other.
    for words, other in ((["fit", "--after", "plot"], "2"), (["1", "--after-any", "3"], "3")):
        assert desk.rq("edit", *words) == Said(
            1,
            "",
            f"rq: cannot edit 1: it cannot come after {other}, which was not submitted before it\n"
            f"hint: cancel it, and submit it again with --after {other}\n",
        )
    assert desk.rq("edit", "2", "--after", "2").code == 1
    assert desk.rq("edit", "2", "--after-any", "1", "--keep-held").out == (
        'edited 2 "plot": after 1 -> 1 (ended anyhow)\n'
    )
    assert desk.rq("edit", "2", "--after", "none").out == 'edited 2 "plot": after 1 (ended anyhow) -> none\n'
    assert desk.row("2").state == WAITING


def test_what_has_ended_already_is_not_waited_for(desk: Desk) -> None:
    put(desk, COMPLETED, "1", "fit")
    put(desk, FAILED, "2", "bad")
    put(desk, WAITING, "3", after=(Dependency("ok", "7"),))
    assert desk.rq("edit", "3", "--after", "fit").out == 'edited 3 "sleep 60": after 7 -> none\n'
    assert desk.row("3").state == WAITING
    said = desk.rq("edit", "3", "--after", "bad")
    assert said.code == 1
    assert said.err.startswith("rq: option --after: it could never start: ")


def test_retries_go_together(desk: Desk) -> None:
    put(desk, WAITING, "1", "fit")
    assert desk.rq("edit", "1", "--retries", "3", "--retry-on", "signal", "--backoff", "30s").code == 0
    found = job(desk, "1")
    assert (found.retries, found.retry_on, found.backoff_s) == (3, ("signal",), 30.0)
    assert desk.rq("edit", "1", "--backoff", "30s").err.startswith(
        "rq: option --backoff: there are no retries"
    )
    for option, said in (("--backoff", "0:30 -> none"), ("--retry-on", "signal -> any failure")):
        edited = desk.rq("edit", "1", option, "none")
        assert edited.out == f'edited 1 "fit": {option[2:].replace("-", " ")} {said}\n'
    assert (job(desk, "1").retry_on, job(desk, "1").backoff_s) == ((), 0.0)
    said = "retries 3 -> 2, retry on any failure -> 9, backoff none -> 1:00"
    edited = desk.rq("edit", "1", "--retries", "2", "--retry-on", "9", "--backoff", "1m")
    assert edited.out == f'edited 1 "fit": {said}\n'
    edited = desk.rq("edit", "1", "--retries", "3", "--backoff", "none")
    assert edited.out == 'edited 1 "fit": retries 2 -> 3, backoff 1:00 -> none\n'
    edited = desk.rq("edit", "1", "--retries", "none")
    assert edited.out == 'edited 1 "fit": retries 3 -> 0, retry on 9 -> any failure\n'
    assert job(desk, "1").retry_on == ()


# ---------------------------------------------------------------- what is refused


def test_what_has_begun_or_ended_is_not_edited(desk: Desk) -> None:
    put(desk, RUNNING, "1", "fit")
    put(desk, FAILED, "2")
    put(desk, WAITING, "3")
    assert desk.rq("edit", "1", "2", "3", "-c", "2") == Said(
        1,
        'edited 3 "sleep 60": cores 1 -> 2\n',
        'rq: cannot edit 1 "fit": it has begun: it is running on n1\n'
        'rq: cannot edit 2 "sleep 60": it has ended\nhint: rq rerun 2 runs it again as it was\n',
    )


@pytest.mark.parametrize(
    ("words", "code", "err"),
    [
        (["1"], 2, "rq: what is to be changed?\nhint: give an option, such as --cpus 4; see: rq edit -h\n"),
        (
            ["-c", "2"],
            2,
            "rq: which jobs to edit?\nhint: name them by id or name; last is what you submitted last\n",
        ),
        (["1", "-c", "0"], 2, None),
        (["1", "--time", "never"], 2, None),
        (
            ["1", "-c", "3", "--exclusive"],
            2,
            "rq: option --exclusive: it means all cores of a node, and --cpus says 3\n"
            "hint: leave one of them out\n",
        ),
        (["1", "-J", ""], 2, None),
        (["1", "--after", "9"], 1, 'rq: no such job: "9"\nhint: rq q --mine lists your jobs\n'),
        (["1", "--begin", "some day"], 2, None),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_changed(
    words: list[str], code: int, err: str | None, desk: Desk
) -> None:
    put(desk, WAITING, "1", "fit")
    before = desk.row("1")
    said = desk.rq("edit", *words)
    assert (said.code, said.out) == (code, "")
    assert said.err.startswith("rq: ")
    assert err is None or said.err == err
    assert desk.row("1") == before


def test_a_dry_run_says_which_jobs_and_changes_nothing(desk: Desk) -> None:
    put(desk, WAITING, "1", "fit")
    put(desk, RUNNING, "2")
    before = desk.row("1")
    assert desk.rq("edit", "-n", "1", "2", "-c", "4") == Said(0, 'would edit 1 "fit"\n', "")
    assert desk.row("1") == before


def test_a_job_that_could_never_run_is_warned_of_as_at_its_submission(desk: Desk) -> None:
    desk.homes.card(desk.spool, "n1", cores=4)
    put(desk, WAITING, "1", "fit")
    put(desk, WAITING, "2", "fit")
    said = desk.rq("edit", "fit", "-c", "64")
    assert (said.code, said.out) == (0, "edited 2 jobs: 1, 2: cores 1 -> 64\n")
    assert said.err == desk.rq("run", "-c", "64", "true").err
    assert said.err.startswith("rq: warning: no known node has 64 cores")


def test_what_cannot_be_written_is_said_and_the_job_is_what_it_was(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(desk, WAITING, "1", "fit")
    before = desk.row("1")

    def refuse(*_: object, **__: object) -> str:
        raise OSError(122, "Disk quota exceeded")

    monkeypatch.setattr(spools, "temporary_of", refuse)
    assert desk.rq("edit", "1", "-c", "4") == Said(1, "", "rq: cannot edit 1: Disk quota exceeded\n")
    assert desk.row("1") == before
