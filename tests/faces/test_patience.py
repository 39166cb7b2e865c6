"""What jobs are asked to wait for, as a person types it and reads it."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from roundq.records import spool as spools
from roundq.words import record_format as formats
from roundq.words.job import NS, Array, Dependency
from roundq.words.states import CANCELED, COMPLETED, FAILED, HELD, RUNNING, WAITING, ZOMBIE
from tests.faces.desk import Desk, Said
from tests.faces.homes import record
from tests.faces.test_history import fold

_END_HINT = (
    "hint: give exit codes from 1 to 255, or exit, signal, timeout, oom, output, start, shutdown, lost, with"
    " commas between\n"
)
_BEGIN_HINT = (
    "hint: write 22:00, now+2h, tomorrow, tomorrow 9:00, 2026-12-24 or 2026-12-24T18:00, with a zone or"
    " without\n"
)
_SLURM_HINT = (
    "hint: write afterok:ID, afterany:ID, afternotok:ID, aftercorr:ID or singleton, with commas between\n"
)


def end(desk: Desk, job_id: str, state: str) -> None:
    """A job is in another state, whoever moved it."""
    (entry,) = [one for one in spools.scan(desk.spool) if one.id == job_id]
    name = f"{job_id}@n1" if state == RUNNING else job_id
    os.rename(spools.path_of(desk.spool, entry), f"{desk.spool.directory(state)}/{name}.job")


def states(desk: Desk) -> dict[str, str]:
    return {entry.id: entry.state for entry in spools.scan(desk.spool)}


def after(desk: Desk, job_id: str) -> tuple[Dependency, ...]:
    return desk.record(job_id).job.after


# ---------------------------------------------------------------- a session


def test_a_session(desk: Desk) -> None:
    """A job, one that comes after it, and what is said of it until it may start."""
    assert desk.rq("run", "-J", "fit", "sleep", "9").out == 'submitted 1 "fit"\n'
    assert desk.rq("run", "-J", "plot", "--after", "fit", "true") == Said(
        0, 'submitted 2 "plot", held: waits for 1 (waiting)\n', ""
    )
    assert desk.rq("run", "--after", "2", "--parsable", "true") == Said(0, "3\n", "")
    no_daemon = "no daemon of yours runs on any node: rq daemon starts one"
    assert desk.rq("why", "2").out == f'2 "plot":\n  waits for 1 (waiting)\n  {no_daemon}\n'
    end(desk, "1", RUNNING)
    assert desk.rq("why", "2").out == f'2 "plot":\n  waits for 1 (running)\n  {no_daemon}\n'
    end(desk, "1", FAILED)
    says = "it is canceled in a moment: it was to run after job 1, which failed"
    assert desk.rq("why", "2").out == f'2 "plot":\n  {says}\n  {no_daemon}\n'
    assert after(desk, "2") == (Dependency("ok", "1"),)
    assert states(desk) == {"1": FAILED, "2": HELD, "3": HELD}


def test_a_job_on_hold_says_so(desk: Desk) -> None:
    for place, option in enumerate(("-H", "--hold"), 1):
        assert desk.rq("run", option, "true") == Said(0, f'submitted {place} "true", on hold\n', "")
        assert desk.rq("why", str(place)).out == f'{place} "true": on hold; rq release {place}\n'
    assert {entry.file for entry in spools.scan(desk.spool, (HELD,))} == {"1@user.job", "2@user.job"}


@pytest.mark.parametrize("option", ["-b", "--begin"])
def test_a_job_that_begins_later_says_when(desk: Desk, option: str) -> None:
    said = desk.rq("run", "-J", "x", option, "now+2h", "true")
    assert re.fullmatch(
        r'submitted 1 "x", held: begins at (?:\w+ )?\d\d:\d\d(?::\d\d)? \(in 2 h\)\n', said.out
    )
    assert desk.record("1").job.begin_ns > 0
    assert states(desk) == {"1": HELD}


def test_a_time_that_is_past_means_at_once_which_is_said(desk: Desk) -> None:
    assert desk.rq("run", "--begin", "2020-01-01", "true") == Said(
        0, 'submitted 1 "true"\n', 'rq: warning: --begin "2020-01-01" is past: it may begin at once\n'
    )
    assert desk.rq("run", "--begin", "now", "true") == Said(0, 'submitted 2 "true"\n', "")
    assert states(desk) == {"1": WAITING, "2": WAITING}


# ---------------------------------------------------------------- which jobs


def test_every_way_to_say_which_jobs_is_understood(desk: Desk) -> None:
    desk.rq("run", "-J", "a", "--set", "s", "true")
    desk.rq("run", "-J", "b", "--set", "s", "true")
    desk.rq("run", "--array", "0-2", "-J", "arr", "true")
    one, two = Dependency("ok", "1"), Dependency("ok", "2")
    array = Dependency("ok", "3", 3)
    words: dict[tuple[str, ...], tuple[Dependency, ...]] = {
        ("1",): (one,),
        ("1,2",): (one, two),
        ("1-2",): (one, two),
        ("b",): (two,),
        ("%s",): (one, two),
        ("name=a or name=b",): (one, two),
        ("1", "b", "1"): (one, two),
        ("3",): (array,),
        ("arr",): (array,),
        ("3_[0-2]",): (array,),
        ("3_[0,2]",): (Dependency("ok", "3_0"), Dependency("ok", "3_2")),
        ("1", "3"): (one, array),
    }
    for number, (asked, expected) in enumerate(words.items(), 4):
        options = [word for each in asked for word in ("--after", each)]
        assert desk.rq("run", *options, "true").code == 0
        assert after(desk, str(number)) == expected, asked


def test_how_they_must_end_is_kept(desk: Desk) -> None:
    for _ in range(4):
        desk.rq("run", "-J", "x", "true")
    said = desk.rq("run", "--after", "1", "--after-any", "2", "--after-fail", "3", "true")
    waits = "waits for 1 (waiting), for the end of 2 (waiting) and for a failure of 3 (waiting)"
    assert said == Said(0, f'submitted 5 "true", held: {waits}\n', "")
    expected = (Dependency("ok", "1"), Dependency("any", "2"), Dependency("fail", "3"))
    assert after(desk, "5") == expected
    desk.rq("run", "-d", "afterok:1,afterany:2,afternotok:3", "true")
    assert after(desk, "6") == expected
    desk.rq("run", "--dependency", "afterok:1:2", "--dependency", "singleton", "-J", "x", "true")
    assert set(after(desk, "7")) == {
        *(Dependency("ok", job) for job in "12"),
        *(Dependency("any", job) for job in "1234"),
    }
    # Nobody bears that name.
    assert desk.rq("run", "-d", "singleton", "-J", "new", "true").out == 'submitted 8 "new"\n'


def test_of_an_array_that_is_folded_in_part_each_task_is_judged_by_itself(desk: Desk) -> None:
    """One that failed is not taken for the one whose record is still there, and the array not for that."""
    for job_id, index, state, other in (
        ("7_0", 0, FAILED, COMPLETED),
        ("8_0", 0, COMPLETED, RUNNING),
        ("9_0", 0, COMPLETED, RUNNING),
        ("9_1", 1, COMPLETED, RUNNING),
    ):
        array = job_id.partition("_")[0]
        of = Array(array, index, 0, 2, 1, 3)
        fold(desk, job_id, state, record("a", exit_code=0, began_s=9, ended_s=5, job_array=of))
        if not index:
            desk.homes.put(desk.spool, other, f"{array}_2", record("a", job_array=replace(of, index=2)))
    why = "it was to run after job 7_0, which failed"
    hint = "--after-any waits for an end of any kind"
    assert desk.rq("run", "--after", "7_0", "true") == Said(
        1, "", f"rq: option --after: it could never start: {why}\nhint: {hint}\n"
    )
    assert desk.rq("run", "--after", "8_0", "true").out == 'submitted 1 "true"\n'
    assert desk.rq("run", "--after", "9_0", "--after", "9_1", "true").out == 'submitted 2 "true"\n'
    assert desk.rq("run", "--after", "9", "true").out.endswith("held: waits for 9_2 (running)\n")
    assert after(desk, "3") == (Dependency("ok", "9_2"),)


def test_a_name_means_the_jobs_that_there_are_now(desk: Desk) -> None:
    desk.rq("run", "-J", "a", "true")
    desk.rq("run", "-J", "b", "--after", "a", "true")
    desk.rq("run", "-J", "a", "true")
    assert after(desk, "2") == (Dependency("ok", "1"),)


def test_what_is_met_already_is_not_waited_for(desk: Desk) -> None:
    for _ in range(2):
        desk.rq("run", "true")
    end(desk, "1", COMPLETED)
    assert desk.rq("run", "--after", "1", "true") == Said(0, 'submitted 3 "true"\n', "")
    assert desk.rq("run", "--after", "1", "--after", "2", "true").out == (
        'submitted 4 "true", held: waits for 2 (waiting)\n'
    )
    assert after(desk, "4") == (Dependency("ok", "2"),)


REFUSED = {
    (FAILED, "--after"): (
        "it was to run after job 1, which failed",
        "--after-any waits for an end of any kind",
    ),
    (CANCELED, "--after"): (
        "it was to run after job 1, which was canceled",
        "--after-any waits for an end of any kind",
    ),
    (ZOMBIE, "--after"): (
        "it was to run after job 1, which is lost",
        "--after-any waits for an end of any kind",
    ),
    (COMPLETED, "--after-fail"): (
        "it was to run after a failure of job 1, which ended well",
        "rq show 1 says how that ended",
    ),
}


@pytest.mark.parametrize(("state", "option"), REFUSED)
def test_what_could_never_start_is_refused(desk: Desk, state: str, option: str) -> None:
    desk.rq("run", "true")
    end(desk, "1", state)
    why, hint = REFUSED[state, option]
    said = desk.rq("run", option, "1", "true")
    assert said == Said(1, "", f"rq: option {option}: it could never start: {why}\nhint: {hint}\n")
    assert states(desk) == {"1": state}
    # Unless it is to be kept until that is run again.
    said = desk.rq("run", option, "1", "--keep-held", "true")
    assert said == Said(0, f'submitted 2 "true", held: {why}\n', "")
    assert desk.rq("why", "2").out.splitlines()[1] == f"  stays held (--keep-held): {why}"


def test_jobs_that_there_are_not_are_an_error(desk: Desk) -> None:
    desk.rq("run", "true")
    hint = "hint: rq q --mine lists your jobs\n"
    for option in ("--after", "--after-any", "--after-fail"):
        assert desk.rq("run", option, "1,99", "true") == Said(1, "", f'rq: no such job: "99"\n{hint}')
        assert desk.rq("run", option, "nobody", "true") == Said(1, "", f'rq: no such job: "nobody"\n{hint}')
    assert desk.rq("run", "--after", "code=", "true").code == 2
    assert states(desk) == {"1": WAITING}


# ---------------------------------------------------------------- task after task


def test_each_task_comes_after_that_of_its_index(desk: Desk) -> None:
    desk.rq("run", "--array", "0-8:4", "-J", "first", "true")
    said = desk.rq("run", "--array", "0,4,8", "--after-each", "first", "true")
    assert said == Said(0, 'submitted 2 "true", 3 tasks, held: each waits for its task of 1\n', "")
    for index in (0, 4, 8):
        assert after(desk, f"2_{index}") == (Dependency("ok", f"1_{index}"),)
    desk.rq("run", "true")
    said = desk.rq("run", "--array", "0,4,8", "-d", "aftercorr:1", "--after", "3", "true")
    assert (
        said.out == 'submitted 4 "true", 3 tasks, held: each waits for its task of 1; waits for 3 (waiting)\n'
    )
    assert after(desk, "4_4") == (Dependency("ok", "3"), Dependency("ok", "1_4"))


def test_chunks_come_after_the_tasks_that_they_need(desk: Desk) -> None:
    desk.rq("run", "--array", "0-3", "true")
    desk.rq("run", "--array", "0-3", "--chunk", "2", "--after-each", "1", "true")
    assert after(desk, "2_0") == (Dependency("ok", "1_0"), Dependency("ok", "1_1"))
    assert after(desk, "2_2") == (Dependency("ok", "1_2"), Dependency("ok", "1_3"))
    desk.rq("run", "--array", "0-3", "--chunk", "2", "--after-each", "2", "true")
    assert after(desk, "3_2") == (Dependency("ok", "2_2"),)
    said = desk.rq("run", "--array", "0-3", "--after-each", "2", "true")
    assert said.err.startswith('rq: option --after-each "2": indices 1,3 are only here\n')


EACH_REFUSED = {
    ("--array", "0-4"): "index 4 is only here",
    ("--array", "0-2"): "index 3 is only there",
    ("--array", "1-3"): "index 0 is only there",
    ("--array", "10-13"): "indices 0-3 are only there",
}


@pytest.mark.parametrize("array", EACH_REFUSED)
def test_other_indices_are_an_error_which_says_which(desk: Desk, array: tuple[str, str]) -> None:
    desk.rq("run", "--array", "0-3", "true")
    assert desk.rq("run", *array, "--after-each", "1", "true") == Said(
        2,
        "",
        f'rq: option --after-each "1": {EACH_REFUSED[array]}\n'
        "hint: each task waits for the one of its own index, so both arrays need the same indices\n",
    )


def test_what_is_no_array_is_an_error(desk: Desk) -> None:
    desk.rq("run", "true")
    desk.rq("run", "--array", "0-1", "-J", "a", "true")
    desk.rq("run", "--array", "0-1", "-J", "a", "true")
    for word in ("1", "a", "1,2"):
        assert desk.rq("run", "--array", "0-1", "--after-each", word, "true") == Said(
            2, "", f'rq: option --after-each "{word}": that is not one array\nhint: name it by its id\n'
        )


# ---------------------------------------------------------------- retries


def test_retries_are_kept_in_the_record(desk: Desk) -> None:
    desk.rq("run", "--retries", "3", "--retry-on", "75,lost,OOM", "--backoff", "30s", "true")
    job = desk.record("1").job
    assert (job.retries, job.retry_on, job.backoff_s) == (3, ("75", "lost", "oom"), 30.0)
    assert states(desk) == {"1": WAITING}


def test_a_job_that_waits_for_its_retry_says_when(desk: Desk) -> None:
    desk.rq("run", "--retries", "3", "true")
    record = desk.record("1").next_attempt(1, "exit")
    later = replace(record, not_before_ns=4_000_000_000 * NS, retried=1)
    path = Path(spools.path_of(desk.spool, desk.row("1").entry))
    path.write_bytes(formats.dump(later))
    end(desk, "1", HELD)
    assert re.match(r'1 "true":\n  retries in \d+ d\n', desk.rq("why", "1").out)


# ---------------------------------------------------------------- --unique


@pytest.mark.parametrize("state", [HELD, WAITING, RUNNING])
def test_unique_refuses_a_second_job_of_a_name_that_has_not_ended(desk: Desk, state: str) -> None:
    desk.rq("run", "-J", "fit", "true")
    end(desk, "1", state)
    assert desk.rq("run", "-J", "fit", "--unique", "true") == Said(
        1,
        "",
        f'rq: option --unique: job 1 "fit" is {state}\nhint: rq cancel 1 ends it; rq wait 1 waits for it\n',
    )
    assert desk.rq("run", "-J", "fits", "--unique", "true").code == 0
    end(desk, "1", FAILED)
    assert desk.rq("run", "-J", "fit", "--unique", "true").code == 0


def test_without_a_name_the_command_is_the_name(desk: Desk) -> None:
    desk.rq("run", "echo", "1")
    assert desk.rq("run", "--unique", "echo", "1").code == 1
    assert desk.rq("run", "--unique", "echo", "2").code == 0


@pytest.mark.parametrize("tasks", [["--array", "0-9"], ["--param", "x=1,2"], ["--each", "words"]])
def test_an_array_needs_a_name_of_its_own_to_be_the_only_one(desk: Desk, tasks: list[str]) -> None:
    """No task has the command that was typed as its name."""
    (desk.directory / "words").write_text("a\nb\n")
    place = "{index}" if "--array" in tasks else "{x}" if "--param" in tasks else "{}"
    assert desk.rq("run", "--unique", *tasks, "echo", place) == Said(
        2,
        "",
        "rq: option --unique: the array has no name, and its tasks have commands of their own\n"
        "hint: give it one with --job-name\n",
    )
    assert states(desk) == {}
    assert desk.rq("run", "--unique", "-J", "fit", *tasks, "echo", place).code == 0
    assert desk.rq("run", "--unique", "-J", "fit", *tasks, "echo", place).code == 1
    assert len({job_id.partition("_")[0] for job_id in states(desk)}) == 1
    # Tasks that are alike have one.
    assert [desk.rq("run", "--unique", "--array", "0-1", "true").code for _ in range(2)] == [0, 1]


# ---------------------------------------------------------------- what is wrong

WRONG = [
    (["--begin", "soon"], f'rq: time to begin "soon": it is not a time\n{_BEGIN_HINT}'),
    (["--begin", ""], f'rq: time to begin "": it is empty\n{_BEGIN_HINT}'),
    (
        ["--retries", "many"],
        'rq: number of retries "many": it is not a whole number from 0 to 1,000,000\n'
        "hint: give how often it may be run again after a failure, such as 3\n",
    ),
    (
        ["--retries", "1", "--retry-on", "9,failure"],
        f'rq: end to retry after "failure": it is no end of a job\n{_END_HINT}',
    ),
    (["--retries", "1", "--retry-on", "0"], f'rq: end to retry after "0": it is no failure\n{_END_HINT}'),
    (
        ["--retry-on", "9"],
        "rq: option --retry-on: there are no retries\nhint: give it with --retries, such as 3\n",
    ),
    (
        ["--backoff", "9s"],
        "rq: option --backoff: there are no retries\nhint: give it with --retries, such as 3\n",
    ),
    (
        ["--keep-held"],
        "rq: option --keep-held: it comes after no job\nhint: give it with --after or its kin\n",
    ),
    (
        ["--after-each", "1"],
        'rq: option --after-each "1": there is no array\nhint: give it with --array, --each or --param\n',
    ),
    (["-d", "after:1"], f'rq: option --dependency "after:1": it is not understood\n{_SLURM_HINT}'),
    (["-d", "afterok"], f'rq: option --dependency "afterok": it is not understood\n{_SLURM_HINT}'),
    (["-d", "afterok:1:"], f'rq: option --dependency "afterok:1:": it is not understood\n{_SLURM_HINT}'),
    (
        ["-d", "afterok:1?afterok:2"],
        'rq: option --dependency "afterok:1?afterok:2": it waits for all that it names, not for any of them\n'
        "hint: put commas between, or leave the others out\n",
    ),
    (
        ["-d", "singleton"],
        "rq: option --dependency singleton: the job has no name\nhint: give it one with --job-name\n",
    ),
]


@pytest.mark.parametrize(("options", "err"), WRONG, ids=[" ".join(options) for options, _ in WRONG])
def test_what_is_wrong_is_said_and_nothing_is_submitted(desk: Desk, options: list[str], err: str) -> None:
    assert desk.rq("run", *options, "true") == Said(2, "", err)
    assert states(desk) == {}
