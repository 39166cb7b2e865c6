"""Which jobs a command means, as it is typed and read: every way to say it, every message, in 80 columns."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from roundq.faces import cli
from roundq.faces.cli import jobs as verbs
from roundq.records import spool as spools
from roundq.words import match, ranges, selectors
from roundq.words.fields import FIELDS, STATE_WORDS
from roundq.words.job import Array, Identity
from roundq.words.ranges import Ids
from roundq.words.states import CANCELED, COMPLETED, FAILED, HELD, RUNNING, WAITING
from roundq.world import files
from tests.faces.desk import Desk, Said
from tests.faces.homes import record
from tests.faces.screen import on_terminal
from tests.test_manual import items, section


def put(desk: Desk, state: str, job_id: str, name: str = "fit", **of: Any) -> Path:
    """Puts a job of ann's into a state."""
    return desk.homes.put(desk.spool, state, job_id, record(name, now_ns=time.time_ns(), **of))


def put_array(desk: Desk, array: str, count: int, state: str = WAITING, **of: Any) -> None:
    for index in range(count):
        put(
            desk,
            state,
            f"{array}_{index}",
            "many",
            job_array=Array(array, index, 0, count - 1, 1, count),
            **of,
        )


def where(desk: Desk) -> dict[str, str]:
    return {entry.id: entry.state for entry in spools.scan(desk.spool)}


# ---------------------------------------------------------------- what is done is said


@pytest.fixture
def desk_with_jobs(desk: Desk) -> Desk:
    """Some that wait, two that run, an array, and some that ended."""
    put(desk, COMPLETED, "1", "old", began_s=500, ended_s=400, exit_code=0)
    put(desk, FAILED, "2", "bad", began_s=500, ended_s=400, exit_code=3, reason="exit", detail="exit code 3")
    put(desk, RUNNING, "3", "fit", node="n1", began_s=50)
    process = Identity("b", 7, 7)
    put(desk, RUNNING, "4", "big", node="n2", began_s=50, process=process, job_restartable=True)
    for number in range(5, 9):
        put(desk, WAITING, str(number), "fit", job_set="genes" if number > 6 else "")
    put_array(desk, "9", 4)
    return desk


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["5"], 'canceled 5 "fit"\n'),
        (["5-7"], "canceled 3 jobs: 5-7\n"),
        (["9"], "canceled 4 jobs: 9_0-3\n"),
        (["last"], "canceled 4 jobs: 9_0-3\n"),
        (["@~1"], 'canceled 8 "fit"\n'),
        (["9_[0-9:2]", "5,7"], "canceled 4 jobs: 5, 7, 9_[0,2]\n"),
        (["%genes"], "canceled 2 jobs: 7, 8\n"),
        (["fit"], 'canceled 4 jobs: 5-8\ncanceling 3 "fit" on n1\n'),
        (["*"], "canceled 8 jobs: 5-8, 9_0-3\ncanceling 2 jobs on n1, n2: 3, 4\n"),
        (['state=waiting and not(name="fit" or id=9_1)'], "canceled 3 jobs: 9_[0,2,3]\n"),
        (["--waiting", "*"], "canceled 8 jobs: 5-8, 9_0-3\n"),
        (["-J", "many"], "canceled 4 jobs: 9_0-3\n"),
        (["1-8", "-q"], ""),
    ],
)  # fmt: skip
def test_cancel_says_how_many_and_which(desk_with_jobs: Desk, words: list[str], said: str) -> None:
    """And does nothing at all when it is only asked what it would do; then says the same."""
    desk = desk_with_jobs
    before = where(desk)
    dry = desk.rq("cancel", "--dry-run", *words)
    assert (where(desk), spools.requests(desk.spool)) == (before, {})
    assert (dry.code, dry.err) == (0, "")
    found = desk.rq("cancel", *words)
    assert (found.code, found.out) == (0, said)
    done = {job for job, state in where(desk).items() if state == CANCELED} | set(spools.requests(desk.spool))
    if "-q" not in words:
        assert dry.out.startswith("would cancel ")
        meant = {job for job in before if any(part.has(job) for part in listed(dry.out))}
        assert meant == done
    assert done


def listed(out: str) -> list[Any]:
    """What a line names, read as it would be typed."""
    (line,) = out.splitlines()
    text = line.rpartition(": ")[2] if " jobs" in line else line.split()[2]
    found = selectors.parse(text)
    assert isinstance(found, Ids)
    return [found]


def test_dry_run_says_which_and_changes_nothing(desk_with_jobs: Desk) -> None:
    desk = desk_with_jobs
    assert desk.rq("cancel", "-n", "5") == Said(0, 'would cancel 5 "fit"\n', "")
    assert desk.rq("cancel", "-n", "--all") == Said(0, "would cancel 10 jobs: 3-8, 9_0-3\n", "")
    assert desk.rq("cancel", "-n", "1") == Said(1, "would cancel nothing\n", "")
    assert desk.rq("restart", "-n", "*") == Said(0, 'would restart 4 "big"\n', "")
    assert desk.rq("restart", "-n", "3") == Said(1, "would restart nothing\n", "")


def test_restart_takes_of_many_what_can_be_restarted(desk_with_jobs: Desk) -> None:
    desk = desk_with_jobs
    assert desk.rq("restart", "state=running") == Said(0, 'restarting 4 "big" on n2\n', "")
    assert spools.requests(desk.spool) == {"4": {"restart"}}
    assert desk.rq("restart", "5-8") == Said(
        1, "", "rq: none of 4 jobs: 5-8 runs and was submitted with --restart\n"
    )
    assert desk.rq("restart", "5").err == "rq: cannot restart 5: it is waiting, not running\n"


# ---------------------------------------------------------------- what means nothing, and what is wrong

_LISTS = "hint: write 17, 20-25, 17_3, 17_[0-9], or several with commas: 17,20-25\n"


@pytest.mark.parametrize("verb", ["cancel", "restart", "wait", "show", "why", "log"])
@pytest.mark.parametrize(
    ("word", "code", "err"),
    [
        ("99", 1, 'rq: no such job: "99"\nhint: rq q --mine lists your jobs\n'),
        ("90-99", 1, 'rq: no such job: "90-99"\nhint: rq q --mine lists your jobs\n'),
        ("9_[7,8]", 1, 'rq: no such job: "9_[7,8]"\nhint: rq q --mine lists your jobs\n'),
        ("@~40", 1, 'rq: no such job: "@~40"\nhint: rq q --mine lists your jobs\n'),
        ("fi*", 1, "rq: no such job: \"fi*\"\nhint: for a pattern write 'name=\"fi*\"'\n"),
        ("%none", 1, "rq: no such set: %none\nhint: rq sets lists your sets\n"),
        ("id=99", 1, 'rq: no job of yours matches "id=99"\nhint: a job of this name is meant by -J\n'),
        ("9-7", 2, "rq: ids, column 1: the range 9-7 goes backwards\nhint: write 7-9\n  9-7\n  ^\n"),
        ("5,6,", 2, f"rq: ids, column 5: an id is missing\n{_LISTS}  5,6,\n      ^\n"),
        (
            "state=waiting & nmae=fit",
            2,
            'rq: expression, column 17: there is no field "nmae"\nhint: did you mean name?\n'
            "  state=waiting & nmae=fit\n                  ^\n",
        ),
        (
            'name="fit',
            2,
            'rq: expression, column 6: this quote is not closed\nhint: write name="..." with a " at the end\n'
            '  name="fit\n       ^\n',
        ),
        (
            "name=fit plot",
            2,
            'rq: expression, column 10: unexpected "plot"\n'
            "hint: a value with blanks is quoted by \", and ' stands around the whole expression\n"
            "  name=fit plot\n           ^\n",
        ),
    ],
)  # fmt: skip
def test_every_verb_says_what_is_wrong_with_a_word(
    desk_with_jobs: Desk, verb: str, word: str, code: int, err: str
) -> None:
    """What is wrong stops all, also what other words mean; of what means nothing, the others are done."""
    desk = desk_with_jobs
    before = where(desk)
    if verb in ("cancel", "restart"):
        err = err.replace("no job of yours matches", "no job of yours that has not ended matches")
    assert desk.rq(verb, word) == Said(code, "", err)
    if code == 2:
        assert desk.rq(verb, "5", word) == Said(2, "", err)
        assert (where(desk), spools.requests(desk.spool)) == (before, {})
    elif verb == "cancel":
        assert desk.rq(verb, "5", word) == Said(1, 'canceled 5 "fit"\n', err)
    assert all(len(line) <= 90 for line in err.splitlines())


def test_what_is_wrong_is_shown_harmless_and_short(desk: Desk) -> None:
    """A mark below the place, also where the text is longer than a line or would move the cursor."""
    said = desk.rq("cancel", "name=fit | " * 20 + "nmae=x")
    assert said.err.splitlines()[-1].endswith("^")
    assert max(map(len, said.err.splitlines())) <= 80
    said = desk.rq("cancel", 'name="\x1b[31m" oops=1')
    assert "\x1b" not in said.err
    line, mark = said.err.splitlines()[-2:]
    assert line[len(mark) - 1 :] == "oops=1"


def test_ended_jobs_are_told_of_one_by_one_only_if_they_were_named_so(desk_with_jobs: Desk) -> None:
    desk = desk_with_jobs
    put_array(desk, "10", 3, COMPLETED, began_s=500, ended_s=400, exit_code=0)
    assert desk.rq("cancel", "10") == Said(1, "", "rq: 3 jobs: 10_0-2: all have ended already\n")
    assert desk.rq("cancel", "1-2") == Said(1, "", "rq: 2 jobs: 1, 2: all have ended already\n")
    assert desk.rq("cancel", "2", "5") == Said(
        1, 'canceled 5 "fit"\n', 'rq: 2 "bad" has ended already: failed: exit code 3\n'
    )
    assert desk.rq("cancel", "10_1") == Said(1, "", 'rq: 10_1 "many" has ended already: completed\n')
    # Of a range that goes over jobs that have not, nobody asks.
    assert desk.rq("cancel", "1-6") == Said(0, 'canceled 6 "fit"\ncanceling 2 jobs on n1, n2: 3, 4\n', "")


def test_of_a_set_or_a_part_of_a_list_that_has_ended_it_is_not_said_that_there_is_none(
    desk_with_jobs: Desk,
) -> None:
    """As of an array: it has ended. What the other words mean is done."""
    desk = desk_with_jobs
    for number in (20, 21):
        put(desk, COMPLETED, str(number), "fit", job_set="over", began_s=500, ended_s=400, exit_code=0)
    assert desk.rq("cancel", "1-2,5-6") == Said(0, "canceled 2 jobs: 5, 6\n", "")
    assert desk.rq("cancel", "%over") == Said(1, "", "rq: 2 jobs: 20, 21: all have ended already\n")
    assert desk.rq("cancel", "-q", "%over") == Said(0, "", "")
    assert desk.rq("cancel", "-n", "%over") == Said(1, "would cancel nothing\n", "")
    assert desk.rq("hold", "%over").err == "rq: cannot hold what is completed: 2 jobs: 20, 21\n"
    assert desk.rq("pause", "%over").err == "rq: cannot pause 2 jobs: 20, 21: none of them runs\n"
    assert desk.rq("cancel", "%over", "8", "%none") == Said(
        1, 'canceled 8 "fit"\n', "rq: no such set: %none\nhint: rq sets lists your sets\n"
    )
    put(desk, WAITING, "22", "fit", job_set="over")
    assert desk.rq("cancel", "%over") == Said(0, 'canceled 22 "fit"\n', "")


def test_of_an_expression_it_is_said_that_it_means_what_has_not_ended(desk_with_jobs: Desk) -> None:
    for verb in ("cancel", "hold", "pause"):
        assert desk_with_jobs.rq(verb, "name=old") == Said(
            1,
            "",
            'rq: no job of yours that has not ended matches "name=old"\n'
            "hint: a job of this name is meant by -J\n",
        )


def test_of_a_file_that_cannot_be_read_it_is_said_that_it_may_be_meant(desk_with_jobs: Desk) -> None:
    desk = desk_with_jobs
    put(desk, WAITING, "20").write_bytes(b"")
    put(desk, WAITING, "21").write_bytes(b"")
    assert desk.rq("cancel", "name=fit & state=waiting") == Said(
        1,
        "canceled 4 jobs: 5-8\n",
        "rq: 2 job files cannot be read, so it is not known whether you mean 20, 21\n"
        "hint: rq show 20 says why\n",
    )
    assert desk.rq("cancel", "20,21").out == "canceled 2 jobs: 20, 21\n"


def test_a_list_of_many_jobs_may_be_typed_again(desk: Desk) -> None:
    for number in (*range(1, 30), 40, 41, *range(50, 90, 2)):
        put(desk, WAITING, str(number))
    said = desk.rq("cancel", "-n", "*").out
    assert said == ("would cancel 51 jobs: 1-29, 40, 41, " + ", ".join(map(str, range(50, 90, 2))) + "\n")
    assert desk.rq("cancel", said.rpartition(": ")[2].strip()).out == said.replace("would cancel", "canceled")


# ---------------------------------------------------------------- many at once


def test_many_are_canceled_by_a_rename_each_and_are_durable_at_once(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No record is read or written, and the directory is synced once."""
    for number in range(1, 101):
        put(desk, WAITING if number % 2 else HELD, str(number))
    spools.request(desk.spool, "7", "cancel", "n1")
    spools.request(desk.spool, "777", "cancel", "n1")
    synced: list[str] = []
    read: list[str] = []
    real = files.sync_directory
    monkeypatch.setattr(files, "sync_directory", lambda path: [synced.append(path), real(path)][1])  # type: ignore[func-returns-value]
    monkeypatch.setattr(spools, "content", lambda _, entry: read.append(entry.id))
    before_s = time.time() - 5
    for entry in spools.scan(desk.spool):
        os.utime(spools.path_of(desk.spool, entry), (1e9, 1e9))
    assert desk.rq("cancel", "*") == Said(0, "canceled 100 jobs: 1-100\n", "")
    assert set(where(desk).values()) == {CANCELED}
    assert (synced, read) == ([desk.spool.directory(CANCELED)], [])
    # What was asked of them before is moot, and their files are as old as their end.
    assert set(spools.requests(desk.spool)) == {"777"}
    for entry in spools.scan(desk.spool):
        assert os.stat(spools.path_of(desk.spool, entry)).st_mtime >= before_s


def test_what_moves_on_while_many_are_canceled_is_asked_of_its_owner(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node took one of them in between, and another is being changed by a process that is dead."""
    for number in range(1, verbs.FEW + 3):
        put(desk, WAITING, str(number))
    real = files.move

    def move(source: str, target: str) -> bool:
        if source.endswith("/waiting/5.job"):
            monkeypatch.setattr(files, "move", real)
            (entry,) = (entry for entry in spools.scan(desk.spool) if entry.id == "5")
            assert spools.claim(desk.spool, entry, "n1")
        return real(source, target)

    monkeypatch.setattr(files, "move", move)
    assert desk.rq("cancel", "*") == Said(0, 'canceled 21 jobs: 1-4, 6-22\ncanceling 5 "fit" on n1\n', "")
    assert spools.requests(desk.spool) == {"5": {"cancel"}}


def test_who_interrupts_a_cancel_of_many_is_told_what_was_left(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was canceled is durable and said; of the others nothing was done."""
    for number in range(1, verbs.FEW + 3):
        put(desk, WAITING, str(number))
    count = iter(range(1, 100))
    synced: list[str] = []
    real, sync = files.move, files.sync_directory

    def move(source: str, target: str) -> bool:
        if next(count) == 5:
            signal.raise_signal(signal.SIGINT)
        return real(source, target)

    def sync_directory(path: str) -> None:
        synced.append(path)
        sync(path)

    monkeypatch.setattr(files, "move", move)
    monkeypatch.setattr(files, "sync_directory", sync_directory)
    said = desk.rq("cancel", "*")
    canceled = {job for job, state in where(desk).items() if state == CANCELED}
    assert (said.code, len(canceled)) == (130, 5)
    (done,) = re.findall(r"^canceled 5 jobs: (.*)$", said.out)
    (left,) = re.findall(r"^rq: interrupted; not canceled: (.*)$", said.err)
    assert {job for job in where(desk) if ranges.parse(done).has(job)} == canceled
    assert {job for job in where(desk) if ranges.parse(left).has(job)} == set(where(desk)) - canceled
    assert synced == [desk.spool.directory(CANCELED)]


def test_what_the_system_refuses_is_said_of_all_that_are_left(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, verbs.FEW + 3):
        put(desk, WAITING, str(number))
    put(desk, RUNNING, "30", "big", node="n1", began_s=5)
    real = files.move

    def move(source: str, target: str) -> bool:
        if source.endswith("/waiting/5.job"):
            raise OSError(28, "No space left on device")
        return real(source, target)

    monkeypatch.setattr(files, "move", move)
    said = desk.rq("cancel", "*")
    told = {job for job, state in where(desk).items() if state == WAITING}
    (line,) = said.err.splitlines()
    assert line.startswith(f"rq: cannot cancel {len(told)} jobs: ")
    assert line.endswith(": No space left on device")
    left = selectors.parse(re.sub(r".* jobs: (.*): No.*", r"\1", line))
    assert isinstance(left, Ids)
    assert {job for job in where(desk) if left.has(job)} == told
    assert (said.code, spools.requests(desk.spool)) == (1, {"30": {"cancel"}})


# ---------------------------------------------------------------- wait


def test_wait_for_any_returns_with_the_first_that_has_ended(desk_with_jobs: Desk) -> None:
    desk = desk_with_jobs
    assert desk.rq("wait", "--any", "1-9") == Said(1, "1\n2\n", 'rq: job 2 "bad" failed: exit code 3\n')
    assert desk.rq("wait", "--any", "1", "5") == Said(0, "1\n", "")
    assert desk.rq("wait", "--any", "5-6", "--timeout", "0") == Said(
        124, "", "rq: 2 jobs have not ended within 0 s\n"
    )
    assert desk.rq("wait", "state=failed|id=1").code == 1
    assert desk.rq("wait", "state=completed") == Said(0, "", "")


def test_wait_says_of_many_failures_the_first(desk: Desk) -> None:
    for number in range(1, 16):
        put(desk, FAILED, str(number), began_s=5, ended_s=1, exit_code=1, reason="exit")
    said = desk.rq("wait", "*")
    lines = said.err.splitlines()
    assert (said.code, said.out, len(lines)) == (1, "", 11)
    assert lines[0] == 'rq: job 1 "fit" failed: its command ended with a non-zero exit code'
    assert lines[-1] == "rq: 5 more did not end well: 11-15"


# ---------------------------------------------------------------- what tells


def test_show_why_and_wait_take_what_cancel_takes(desk_with_jobs: Desk) -> None:
    desk = desk_with_jobs
    for verb, form in (("show", r"^job (\S+)"), ("why", r"^(\d\S*) \"")):
        for words, ids in (
            (["9_[1,3]"], ["9_1", "9_3"]),
            (["%genes", "5"], ["7", "8", "5"]),
            (["state=failed | id=6"], ["2", "6"]),
            (["-J", "bad"], ["2"]),
            (["last"], ["9_0", "9_1", "9_2", "9_3"]),
        ):
            said = desk.rq(verb, *words)
            assert (said.code, said.err) == (0, "")
            assert re.findall(form, said.out, re.MULTILINE) == ids
    assert desk.rq("wait", "1", "state=completed") == Said(0, "", "")


def test_on_a_terminal_it_reads_the_same(desk_with_jobs: Desk) -> None:
    desk = desk_with_jobs
    out = on_terminal(["cancel", "-n", "name=fit & state=waiting"], desk.homes.environ("ann"), columns=80)
    assert "would cancel 4 jobs: 5-8" in out


# ---------------------------------------------------------------- the manual


def test_the_manual_has_every_field_and_every_word_for_a_state() -> None:
    text = section("rq.1", "EXPRESSIONS")
    fields = [item.removeprefix("Ic ") for item in items(text) if item.startswith("Ic ")]
    assert set(fields) - {"\\&! , not", "& , and", "\\&| , or"} == set(FIELDS)
    begin = text.index(".It Ic state")
    of_state = " ".join(text[begin : text.index(".It Ic user")])
    told = set(re.findall(r"[a-z]+", re.sub(r"\.Ic \S+|\([^)]*\)", "", of_state))) & set(STATE_WORDS)
    assert told == set(STATE_WORDS)


def test_what_the_manual_shows_of_words_is_what_they_are() -> None:
    shown = [item for item in items(section("rq.1", "JOBS")) if item.startswith("Li ") or "Cm last" in item]
    words = [
        word
        for item in shown
        for word in re.sub(r"\b(Li|Cm)\b|Ns Ar NAME", " ", item).replace(" ,", " ").split()
    ]
    assert len(words) >= 9
    for word in words:
        kind = type(selectors.parse("%set" if word == "%" else word)).__name__
        assert kind in ("Ids", "Last", "Set"), word
    (line,) = (line for line in section("rq.1", "EXPRESSIONS") if line.startswith("rq cancel "))
    assert match.parse(line.partition("'")[2].rstrip("'"))


def test_every_verb_that_takes_jobs_takes_them_alike() -> None:
    """By the same words, with the same option for a name, and with a way to see first which they are."""
    # A worker is told which jobs to take when they come, and does nothing to them at once.
    takers = {verb for verb in cli.VERBS if _metavars(verb) & {"JOBS", "ID|NAME"}} - {"worker"}
    assert {"cancel", "restart", "show", "why", "log", "wait", "hold", "release", "rerun", "watch"} <= takers
    for verb in takers:
        assert "ID|NAME" not in _metavars(verb), verb
        names = cli.build_parser(verb).option_names()
        assert "--job-name" in names, verb
        if verb not in (
            "show",
            "why",
            "log",
            "wait",
            "watch",
            "list",
            "dump",
            "history",
            "report",
            "stats",
            "top",
        ):
            assert "--dry-run" in names, verb


def _metavars(verb: str) -> set[str]:
    try:
        parser = cli.build_parser(verb)
    except ModuleNotFoundError:
        return set()
    return {str(action.metavar) for action in parser._actions if not action.option_strings}
