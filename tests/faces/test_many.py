"""Promises of `rq run --array`, `--each`, `--param` and `-`: one array, or nothing and a message."""

from __future__ import annotations

import pytest

from roundq.faces.cli import many
from roundq.records import spool as spools
from roundq.words.job import Array
from tests.faces.desk import Desk, Said, start


def write(desk: Desk, text: str | bytes, name: str = "jobs") -> str:
    """A file in her directory."""
    data = text.encode() if isinstance(text, str) else text
    (desk.directory / name).write_bytes(data)
    return name


def commands(desk: Desk, array: str = "1") -> dict[str, tuple[str, ...]]:
    """The command of each task, by its id."""
    ids = [entry.id for entry in spools.scan(desk.spool) if entry.id.startswith(f"{array}_")]
    return {job_id: desk.record(job_id).job.command for job_id in sorted(ids)}


def nothing(desk: Desk) -> bool:
    return not spools.scan(desk.spool)


# ---------------------------------------------------------------- --array


def test_an_array_is_one_id_and_a_job_for_each_index(desk: Desk) -> None:
    assert desk.rq("run", "-J", "fit", "--array", "0-4:2%2", "--max-fails", "3", "echo", "{index}") == Said(
        0, 'submitted 1 "fit", 3 tasks\n', ""
    )
    assert commands(desk) == {f"1_{index}": ("echo", str(index)) for index in (0, 2, 4)}
    job = desk.record("1_4").job
    assert job.array == Array("1", 4, 0, 4, 2, 3, 2, 3)
    assert (job.jobname, job.output) == ("fit", "fit.%a.out")


def test_its_id_alone_is_for_programs(desk: Desk) -> None:
    assert desk.rq("run", "--parsable", "--array", "3", "true") == Said(0, "1\n", "")
    assert desk.rq("run", "--parsable", "true") == Said(0, "2\n", "")
    assert commands(desk) == {"1_3": ("true",)}


def test_only_the_index_is_filled_in_for_an_array(desk: Desk) -> None:
    desk.rq("run", "--array", "7", "echo", "{}", "{1}", "{{index}}", "a{index}b", "{print}")
    assert commands(desk)["1_7"] == ("echo", "{}", "{1}", "{index}", "a7b", "{print}")


def test_it_says_where_the_output_of_its_tasks_goes(desk: Desk) -> None:
    said = desk.rq("run", "-v", "--array", "0-1", "true")
    assert said.err == f"rq: its output goes to {desk.directory}/rq-1_%a.out\n"
    said = desk.rq("run", "-v", "--array", "0-1", "-J", "a%b", "true")
    assert said.err == f"rq: its output goes to {desk.directory}/a%%b.%a.out\n"


def test_one_file_for_all_is_warned_of(desk: Desk) -> None:
    """Not where there is one task, where nobody reads it, or where programs read."""
    warning = 'rq: warning: all tasks write to "out"; with %a in its name each has its own\n'
    assert desk.rq("run", "--array", "0-1", "-o", "out", "true").err == warning
    for words in (["-o", "out", "--parsable"], ["-o", "out.%a"], ["-o", "%j"], ["-o", "/dev/null"]):
        assert desk.rq("run", "--array", "0-1", *words, "true").err == ""
    assert desk.rq("run", "--array", "0", "-o", "out", "true").err == ""


def test_chunks_are_fewer_jobs_of_several_tasks(desk: Desk) -> None:
    said = desk.rq("run", "--array", "0-9:3", "--chunk", "3", "echo", "{index}")
    assert said == Said(0, 'submitted 1 "echo {index}", 4 tasks in 2 jobs\n', "")
    assert commands(desk) == {"1_0": ("echo", "0"), "1_9": ("echo", "9")}
    job = desk.record("1_0").job
    assert [(task.index, task.command) for task in job.chunk] == [
        (index, ("echo", str(index))) for index in (0, 3, 6)
    ]
    assert job.array == Array("1", 0, 0, 9, 3, 4, jobs=2)
    assert "  tasks      0,3,6, one after the other\n" in desk.rq("show", "1_0").out
    # One that is left over is a job like others.
    assert desk.record("1_9").job.chunk == ()
    assert desk.record("1_9").job.array == Array("1", 9, 0, 9, 3, 4, jobs=2)


@pytest.mark.parametrize(
    "words",
    [["--array", "0-2"], ["--param", "a=1-3", "echo", "{a}"], ["--each", "jobs", "echo", "{}"]],
    ids=lambda words: words[0],
)
def test_how_many_run_at_once_is_said_for_any_array(desk: Desk, words: list[str]) -> None:
    write(desk, "a\nb\nc\n")
    command = ["true"] if words[0] == "--array" else []
    said = desk.rq("run", "--throttle", "2", *words, *command)
    assert (said.code, said.err) == (0, "")
    array = desk.record("1_2").job.array
    assert array is not None
    assert array.throttle == 2


# ---------------------------------------------------------------- --each and -


def test_each_line_is_filled_in(desk: Desk) -> None:
    """Nothing but the line itself becomes of it, whatever a shell would do."""
    name = write(desk, "one two\n\n  'a b' $HOME;*\n")
    said = desk.rq("run", "--each", name, "echo", "x={}", "{1}")
    assert said == Said(0, 'submitted 1 "echo x={} {1}", 2 tasks\n', "")
    assert commands(desk) == {
        "1_0": ("echo", "x=one two", "one"),
        "1_1": ("echo", "x=  'a b' $HOME;*", "a b"),
    }
    job = desk.record("1_1").job
    assert job.array == Array("1", 1, 0, 1, 1, 2)


def test_without_a_place_the_words_are_appended(desk: Desk) -> None:
    desk.rq("run", "--each", write(desk, "a 'b c'\n#d\n"), "echo", "-n")
    assert commands(desk) == {"1_0": ("echo", "-n", "a", "b c"), "1_1": ("echo", "-n", "#d")}


def test_columns_are_filled_in_by_their_names(desk: Desk) -> None:
    """The format is told by the name of the file, or said."""
    expected = {"1_0": ("echo", "--lr=0.1", "x y"), "1_1": ("echo", "--lr=2", "z")}
    for number, (name, text, words) in enumerate(
        [
            ("t.csv", 'lr,of\n0.1,"x y"\n2,z\n', []),
            ("t.tsv", "lr\tof\n0.1\tx y\n2\tz\n", []),
            ("t.jsonl", '{"lr": 0.1, "of": "x y"}\n{"lr": 2, "of": "z"}\n', []),
            ("t", "lr,of\n0.1,x y\n2,z\n", ["--each-format", "csv"]),
        ],
        1,
    ):
        desk.rq("run", *words, "--each", write(desk, text, name), "echo", "--lr={lr}", "{of}")
        found = commands(desk, str(number))
        assert list(found.values()) == list(expected.values())


def test_standard_input_has_lines_or_command_lines(desk: Desk) -> None:
    with start(desk, "run", "--each", "-", "echo", "{}") as running:
        assert running.communicate("a\nb", timeout=30) == ('submitted 1 "echo {}", 2 tasks\n', "")
    with start(desk, "run", "--chunk", "2", "-") as running:
        said = running.communicate("echo 'a b' # x\n\n# no\ntrue\nfalse\n", timeout=30)
    assert said == ('submitted 2 "echo a b", 3 tasks in 2 jobs\n', "")
    assert commands(desk, "2") == {"2_0": ("echo", "a b"), "2_2": ("false",)}
    assert desk.record("2_0").job.chunk[1].command == ("true",)


def test_each_line_of_a_file_may_be_a_command_line(desk: Desk) -> None:
    desk.rq("run", "--each", write(desk, "echo 1 # one\ntrue\n"))
    assert commands(desk) == {"1_0": ("echo", "1"), "1_1": ("true",)}


# ---------------------------------------------------------------- --param


def test_a_grid_has_a_task_for_each_combination(desk: Desk) -> None:
    """The last parameter changes fastest; {} is all of them."""
    said = desk.rq("run", "--param", "lr=0.1,1", "--param", "s=1-2", "echo", "--lr={lr}", "{s}", "{}")
    assert said == Said(0, 'submitted 1 "echo --lr={lr} {s} {}", 4 tasks\n', "")
    assert list(commands(desk).values()) == [
        ("echo", f"--lr={lr}", s, f"lr={lr} s={s}") for lr in ("0.1", "1") for s in ("1", "2")
    ]


# ---------------------------------------------------------------- errors

GIVE_ONE = "hint: both say which tasks there are: give one\n"


@pytest.mark.parametrize(
    ("words", "text", "err"),
    [
        (
            ["--array", "5-1", "true"],
            "",
            'rq: array "5-1": "5-1" ends before it begins\n'
            "hint: write indices as in 0-99, 1,5,7-9 or 0-99:2%8: every second one, at most 8 at once\n",
        ),
        (
            ["--array", "0-9", "--each", "jobs", "true"],
            "",
            f"rq: --array does not go with --each\n{GIVE_ONE}",
        ),
        (["--param", "a=1", "--from", "jobs"], "", f"rq: --param does not go with --from\n{GIVE_ONE}"),
        (["--array", "0-9", "-"], "", f"rq: --array does not go with the command -\n{GIVE_ONE}"),
        (
            ["--array", "0-9"],
            "",
            "rq: no command to run\n"
            "hint: give one after the options, such as: rq run --array 0-9 ./fit --seed {index}\n",
        ),
        (
            ["--param", "a=1"],
            "",
            "rq: no command to run\n"
            "hint: give one after the options, such as: rq run --param seed=1-9 ./fit --seed {seed}\n",
        ),
        (
            ["--chunk", "3", "true"],
            "",
            "rq: option --chunk: there is no array\nhint: give it with --array, --each or --param\n",
        ),
        (
            ["--max-fails", "0", "true"],
            "",
            "rq: option --max-fails: there is no array\nhint: give it with --array, --each or --param\n",
        ),
        (
            ["--throttle", "2", "true"],
            "",
            "rq: option --throttle: there is no array\nhint: give it with --array, --each or --param\n",
        ),
        (
            ["--array", "0-9%4", "--throttle", "2", "true"],
            "",
            "rq: option --throttle: the array has a %4 of its own\n"
            'hint: both say how many may run at once: --array "0-9"\n',
        ),
        (
            ["--array", "0-9", "--throttle", "0", "true"],
            "",
            'rq: option --throttle: "0" is no number from 1 to 1,000,000\n',
        ),
        (
            ["--array", "1", "--each-format", "csv", "true"],
            "",
            "rq: option --each-format: there is no --each\nhint: see: rq run -h\n",
        ),
        (
            ["--array", "1", "--chunk", "0", "true"],
            "",
            'rq: option --chunk: "0" is no number from 1 to 10,000\n',
        ),
        (
            ["--array", "1", "--max-fails", "x", "true"],
            "",
            'rq: option --max-fails: "x" is no number from 0 to 1,000,000\n',
        ),
        (["--each", "jobs", "true"], "\n \n", 'rq: "jobs" holds no task\nhint: write one task a line\n'),
        (
            ["--each", "jobs", "echo", "{3}"],
            "a b c\n\na b\n",
            'rq: line 3 of "jobs": it has 2 words, and {3} is asked for\n',
        ),
        (
            ["--each", "jobs", "echo"],
            "a\nit's\n",
            'rq: line 2 of "jobs": a quote is not closed\n'
            "hint: quote words as in sh, or have the whole line as one argument: {}\n",
        ),
        (
            ["--each", "jobs", "echo", "{lr}"],
            "a\n",
            "rq: {lr} is filled in from a column, and lines have none\n"
            "hint: {} is the whole line, {1} its first word; write {{lr}} for {lr} itself\n",
        ),
        (
            ["--each", "jobs", "--each-format", "csv", "echo", "{lr}"],
            "rate,seed\n1,2\n",
            "rq: there is nothing called lr to fill in for {lr}\n"
            "hint: there is {rate}, {seed}; write {{lr}} for {lr} itself\n",
        ),
        (
            ["--each", "jobs", "--each-format", "csv", "echo", "{rate}"],
            "rate,seed\n1,2\n3\n",
            'rq: line 3 of "jobs": it has 1 column, and the first row 2\n',
        ),
        (
            ["--each", "jobs", "--each-format", "jsonl", "echo", "{a}"],
            '{"a": 1}\n{"b": 2}\n',
            'rq: line 2 of "jobs": it has nothing called a\n',
        ),
        (
            ["--each", "jobs", "--each-format", "jsonl", "echo", "{a}"],
            '{"a": "x\\u0000y"}\n',
            'rq: line 1 of "jobs": it holds a null byte, which no command line can\n',
        ),
        (
            ["--each", "jobs", "--each-format", "jsonl", "echo", "{a}"],
            '{"a": "\\ud800"}\n',
            'rq: line 1 of "jobs": it holds half a character of UTF-16\n',
        ),
        (
            ["--each", "jobs", "{}"],
            "true\nno-such-command-at-all\n",
            'rq: line 2 of "jobs": no such command: "no-such-command-at-all"\n',
        ),
        (["--each", "nowhere", "true"], "", 'rq: "nowhere" cannot be read: No such file or directory\n'),
        (
            ["--each", "jobs", "--each-format", "xml", "true"],
            "",
            "rq: argument --each-format: invalid choice: 'xml' (choose from 'lines', 'csv', 'tsv', 'jsonl')\n"
            "hint: see: rq run -h\n",
        ),
        (
            ["--param", "lr", "echo"],
            "",
            'rq: parameter "lr": it has no value\n'
            "hint: write it as in lr=0.1,0.01 or seed=1-10:3; a backslash has a comma, or the whole,"
            " taken as it is\n",
        ),
        (
            ["--param", "lr=1,2", "--param", "s=1", "echo", "{s}"],
            "",
            "rq: option --param: lr is nowhere in the command\n"
            "hint: put {lr} where its value belongs, such as: --lr {lr}\n",
        ),
        (
            ["--param", "lr=1,2", "echo", "{lr}", "{s}"],
            "",
            "rq: there is nothing called s to fill in for {s}\n"
            "hint: there is {lr}; write {{s}} for {s} itself\n",
        ),
        (
            ["--array", "0-100000", "true"],
            "",
            "rq: that is more than 100,000 jobs\n"
            "hint: have each of them run several tasks, such as with --chunk 100\n",
        ),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_submitted(
    desk: Desk, words: list[str], text: str, err: str
) -> None:
    write(desk, text)
    said = desk.rq("run", *words)
    assert (said.out, said.err) == ("", err)
    assert said.code in (1, 2, 127)
    assert nothing(desk)


def test_what_does_not_fit_into_a_record_is_named(desk: Desk) -> None:
    """A task, and a chunk of tasks each of which would fit."""
    long = "x" * 900_000
    said = desk.rq("run", "--each", write(desk, f"a\n{long}\n"), "echo", "{}")
    assert said.err.startswith(
        'rq: line 2 of "jobs": the command line is too long: its job file would have 900'
    )
    said = desk.rq("run", "--chunk", "3", "--each", write(desk, f"{long[:400_000]}\n" * 3), "echo", "{}")
    assert said.err == (
        "rq: option --chunk: 3 tasks are too large for one job file\n"
        "hint: have fewer tasks in a chunk, or put their arguments into files\n"
    )
    assert nothing(desk)


def test_a_million_and_one_tasks_are_refused(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many, "TASKS_MAX", 3)
    said = desk.rq("run", "--each", write(desk, "1\n2\n3\n4\n"), "echo", "{}")
    assert said.err == 'rq: "jobs" has more than 3 tasks\nhint: submit them in several parts\n'
    assert nothing(desk)


# ---------------------------------------------------------------- where outputs go


@pytest.mark.parametrize(
    ("output", "err"),
    [
        ("no/%a.out", "directory"),
        ("no/%x.out", "directory"),
        ("%j" + "x" * 300, None),
    ],
)
def test_a_directory_that_is_not_there_is_told_before(desk: Desk, output: str, err: str | None) -> None:
    said = desk.rq("run", "--array", "0-1", "-o", output, "true")
    assert err in said.err if err else said.code == 0, said


def test_a_directory_that_has_the_name_of_the_task_may_come_yet(desk: Desk) -> None:
    assert desk.rq("run", "--array", "0-1", "-o", "%a/out", "true").code == 0


def test_a_name_with_a_percent_sign_means_itself(desk: Desk) -> None:
    """In the name of the job; in that of a file it stands for something, or is doubled."""
    desk.rq("run", "-J", "50%a", "true")
    assert desk.record("1").job.output == "50%%a.out"
    assert "50%a.out" in desk.rq("show", "1").out
