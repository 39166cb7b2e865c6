"""Every message of the command line, as it is typed and read: what happened, and what to do.

Messages that no test shows are wrong sooner or later.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from roundq import __version__
from roundq.faces import cli
from roundq.faces.cli.person import person
from roundq.records import cards, control
from roundq.words.errors import RoundqError
from roundq.words.limits import Limit, Limits
from roundq.world import files
from tests.faces.desk import Desk, Said, as_somebody_else
from tests.faces.homes import card

#: What is typed after `rq`, the exit code, and standard error; standard output stays empty.
_RUN = "hint: give one after the options, such as: rq run -J hello echo Hello\n"
_NAME = "hint: use letters, digits, plain spaces and punctuation\n"
_TIME = (
    "hint: write 90s, 30m, 2h30m, 1.5h, 1d, or as Slurm: 30 (minutes), MM:SS, HH:MM:SS, D-HH, D-HH:MM:SS\n"
)
_GPUS = "hint: give a whole number, such as 1\n"
_LICENSE = "hint: write NAME or NAME:N, several with commas: matlab:2,ansys\n"
_WORD = "hint: write letters, digits and _ . + -\n"
_NODES = "hint: write names of nodes, with * and ? for what may differ: node3 or gpu*,big?\n"
_SIGNAL = "hint: write a signal and how many seconds before the end: USR2@60, USR2@2m, @90, TERM, 12\n"
TRANSCRIPTS = [
    # Verbs and options.
    (["rnu"], 2, 'rq: unknown command "rnu"\nhint: did you mean run?\n'),
    (["xyzzy"], 2, 'rq: unknown command "xyzzy"\nhint: see: rq help\n'),
    (["help", "rnu"], 2, 'rq: unknown command "rnu"\nhint: did you mean run?\n'),
    (["17"], 2, 'rq: unknown command "17"\nhint: did you mean rq show 17?\n'),
    (["run", "-y", "true"], 2, 'rq: unknown option "-y"\nhint: see: rq run -h\n'),
    (["x\x1b[2J"], 2, 'rq: unknown command "x\\x1b[2J"\nhint: see: rq help\n'),
    (["--jsn"], 2, 'rq: unknown option "--jsn"\nhint: did you mean --json? see: rq q -h\n'),
    (
        ["run", "--cpu", "2", "true"],
        2,
        'rq: unknown option "--cpu"\nhint: did you mean --cpus? see: rq run -h\n',
    ),
    (["run", "--zzz=1", "true"], 2, 'rq: unknown option "--zzz"\nhint: see: rq run -h\n'),
    (["run", "-c"], 2, "rq: argument -c/--cpus: expected one argument\nhint: see: rq run -h\n"),
    (
        ["run", "--wait=1", "true"],
        2,
        "rq: argument --wait: ignored explicit argument '1'\nhint: see: rq run -h\n",
    ),
    *[
        (
            [verb],
            2,
            f"rq: which jobs to {what}?\nhint: name them by id or name; last is what you submitted last\n",
        )
        for verb, what in (
            ("log", "print the output of"),
            ("watch", "watch"),
            ("show", "show"),
            ("why", "explain"),
            ("wait", "wait for"),
        )
    ],
    (
        ["log", "-n", "x", "1"],
        2,
        'rq: --lines "x": not a number of lines\nhint: for example: rq log -n 20 fit\n',
    ),
    (
        ["log", "--attempt", "0", "1"],
        2,
        'rq: --attempt "0": not the number of an attempt\nhint: the first one is 1\n',
    ),
    (["watch", "1"], 1, 'rq: no such job: "1"\nhint: rq q --mine lists your jobs\n'),
    (["daemon", "start"], 2, 'rq: unexpected word "start"\nhint: see: rq daemon -h\n'),
    # The command.
    (
        ["run"],
        2,
        "rq: no command to run\n" + _RUN,
    ),
    (
        ["run", "--"],
        2,
        "rq: no command to run\n" + _RUN,
    ),
    (["run", "slepe", "3"], 127, 'rq: no such command: "slepe"\nhint: did you mean "sleep"?\n'),
    (["run", "qqqqqqqqqq"], 127, 'rq: no such command: "qqqqqqqqqq"\n'),
    (["run", ""], 127, 'rq: no such command: ""\nhint: give a command after the options: rq run sleep 10\n'),
    (
        ["run", "sleep 3"],
        127,
        'rq: no such command: "sleep 3"\n'
        "hint: the command and its arguments are words of their own: rq run sleep ...\n",
    ),
    (
        ["run", "fit.sh"],
        127,
        'rq: no such command: "fit.sh"\nhint: it is not along PATH, but here: rq run ./fit.sh\n',
    ),
    (["run", "./ft.sh"], 127, 'rq: no such command: "./ft.sh"\nhint: did you mean "./fit.sh"?\n'),
    (
        ["run", "fit.py"],
        127,
        'rq: no such command: "fit.py"\nhint: run it with its interpreter: rq run python3 ./fit.py\n',
    ),
    (["run", "./gone"], 127, 'rq: no such command: "./gone": it is a symbolic link to nothing\n'),
    (
        ["run", "./fit.py"],
        126,
        'rq: cannot execute "./fit.py": permission denied\n'
        "hint: run it with its interpreter: rq run python3 ./fit.py\n",
    ),
    (
        ["run", "./data"],
        126,
        'rq: cannot execute "./data": permission denied\nhint: if it is a program: chmod +x ./data\n',
    ),
    (["run", "./sub"], 126, 'rq: cannot execute "./sub": it is a directory\n'),
    (["run", "./pipe"], 126, 'rq: cannot execute "./pipe": it is not a regular file\n'),
    # Quantities and names.
    (
        ["run", "--cpus", "0", "true"],
        2,
        'rq: number of cores "0": a job needs at least 1 core\n'
        'hint: give a whole number from 1 to 100000, or "all"\n',
    ),
    (
        ["run", "--cpus", "-3", "true"],
        2,
        'rq: number of cores "-3": it is negative\nhint: give a whole number from 1 to 100000, or "all"\n',
    ),
    (
        ["run", "--cpus", "1e9", "true"],
        2,
        'rq: number of cores "1e9": it is not a whole number\n'
        'hint: give a whole number from 1 to 100000, or "all"\n',
    ),
    (
        ["run", "--mem", "abc", "true"],
        2,
        'rq: size "abc": it is not a size\n'
        "hint: give a number like 500M, 4G or 1.5T; a plain number counts in G\n",
    ),
    (
        ["run", "--mem", "-1G", "true"],
        2,
        'rq: size "-1G": it is negative\n'
        "hint: give a number like 500M, 4G or 1.5T; a plain number counts in G\n",
    ),
    (
        ["run", "--mem-limit", "true"],
        2,
        "rq: option --mem-limit: there is no memory to keep to\nhint: give it with --mem, such as -m 8G\n",
    ),
    (
        ["run", "--max-output", "x", "true"],
        2,
        'rq: size "x": it is not a size\n'
        "hint: give a number like 500M, 4G or 1.5T; a plain number counts in M\n",
    ),
    (
        ["run", "--time", "soon", "true"],
        2,
        'rq: duration "soon": it is not a duration\n' + _TIME,
    ),
    (
        ["run", "--priority", "urgent", "true"],
        2,
        'rq: priority "urgent": it is neither a word nor a whole number\n'
        "hint: give high, normal, low, or a number such as 5 or -5\n",
    ),
    # What else a job may ask for.
    *[
        (["run", "--gpus", text, "true"], 2, f'rq: number of GPUs "{text}": {why}\n' + _GPUS)
        for text, why in (
            ("", "it is empty"),
            ("-1", "it is negative"),
            ("a100:2", "it is not a whole number"),
            ("1.5", "it is not a whole number"),
            ("1025", "it is more than any node has"),
            ("9" * 50, "it is more than any node has"),
        )
    ],
    *[
        (["run", "-L", text, "true"], 2, f"rq: {said}\n{hint}")
        for text, said, hint in (
            ("", 'licenses "": a name is empty', _LICENSE),
            ("matlab,", 'licenses "matlab,": a name is empty', _LICENSE),
            (":2", 'license ":2": its name cannot be that of a license', _WORD),
            ("mat lab", 'license "mat lab": its name cannot be that of a license', _WORD),
            ("\x1b[2J", 'license "\\x1b[2J": its name cannot be that of a license', _WORD),
            ("matlab:", 'license "matlab:": how many is not a whole number', _LICENSE),
            ("matlab:-1", 'license "matlab:-1": how many is not a whole number', _LICENSE),
            ("matlab:0", 'license "matlab:0": none are asked for', _LICENSE),
            ("matlab:1000001", 'license "matlab:1000001": it is more than there can be', _LICENSE),
            ("a,b,a:2", 'license "a": it is asked for twice', "hint: add them up: a:N\n"),
        )
    ],
    (
        ["run", "-L", "a", "--license", "b,a:2", "true"],
        2,
        'rq: license "a": it is asked for twice\nhint: add them up: a:N\n',
    ),
    *[
        (["run", option, text, "true"], 2, f"rq: pattern of nodes {said}\n" + _NODES)
        for option in ("-w", "--exclude")
        for text, said in (
            ("", '"": a name is empty'),
            ("a,,b", '"a,,b": a name is empty'),
            ("a/b", '"a/b": no node has such a name'),
            ("a b", '"a b": no node has such a name'),
            ("\x1b[2J", '"\\x1b[2J": no node has such a name'),
            ("n" * 256, f'"{"n" * 60}…": no node has a name so long'),
            ("node[1-12]", '"node[1-12]": brackets hold single characters, as in node[1-4]'),
            ("node[1,3]", '"node[1": brackets hold single characters, as in node[1-4]'),
        )
    ],
    *[
        (["run", "--need", text, "true"], 2, f"rq: {said}\n{hint}")
        for text, said, hint in (
            ("", 'features "": a name is empty', "hint: write avx512 or avx512,ssd\n"),
            ("a&b", 'feature "a&b": it cannot be the name of a feature', _WORD),
        )
    ],
    *[
        (["run", "-R", "--signal", text, "true"], 2, f'rq: signal "{text}": {why}\n' + _SIGNAL)
        for text, why in (
            ("", "it is empty"),
            ("@", "it is empty"),
            ("USR3@60", "there is no such signal"),
            ("0", "there is no such signal"),
            ("65", "there is no such signal"),
            ("KILL@60", "no process can catch it, so it is no warning"),
            ("19", "no process can catch it, so it is no warning"),
            ("USR2@", "the time behind @: it is empty"),
            ("USR2@0", "the time behind @: it is zero"),
            ("@soon", "the time behind @: it is not a duration"),
            ("@-5", "the time behind @: it is negative"),
        )
    ],
    (
        ["run", "--signal", "USR2@60", "true"],
        2,
        "rq: option --signal: nothing ever stops the job, so it would not be sent\n"
        "hint: give it with --time, --restart or --scavenge\n",
    ),
    (
        ["run", "--signal", "USR2@60", "-t", "1", "true"],
        2,
        "rq: option --signal: the job would be told 60 s before its end, and has a time limit of 60 s\n"
        "hint: let it be told later, or give it more time\n",
    ),
    (
        ["run", "--exclusive", "-c", "4", "true"],
        2,
        "rq: option --exclusive: it means all cores of a node, and --cpus says 4\n"
        "hint: leave one of them out\n",
    ),
    (
        ["run", "--nodes", "2", "true"],
        2,
        'rq: unknown option "--nodes"\nhint: did you mean --node? see: rq run -h\n',
    ),
    (
        ["run", "-J", "", "true"],
        2,
        'rq: job name "": it is empty\nhint: leave the name out to use the command line as name\n',
    ),
    (
        ["run", "-J", "a/b", "true"],
        2,
        'rq: job name "a/b": it contains /\n'
        "hint: the name becomes a file name, NAME.out: give a directory with --output\n",
    ),
    (
        ["run", "-J", "..", "true"],
        2,
        'rq: job name "..": it is a directory\nhint: use a name with letters or digits\n',
    ),
    (
        ["run", "-J", "a\nb", "true"],
        2,
        'rq: job name "a\\nb": it contains \\n\n' + _NAME,
    ),
    (
        ["run", "-J", "\x1b[31m", "true"],
        2,
        'rq: job name "\\x1b[31m": it contains \\x1b\n' + _NAME,
    ),
    (
        ["run", "-J", "caf\udce9", "true"],
        2,
        'rq: job name "caf\\xe9": it is not UTF-8: it contains \\xe9\n' + _NAME,
    ),
    (
        ["run", "-J", "n" * 10_000, "true"],
        2,
        f'rq: job name "{"n" * 60}…": it has 10000 bytes\n'
        "hint: the name becomes a file name: at most 200 bytes\n",
    ),
    (
        ["run", "-o", "", "true"],
        2,
        "rq: option --output: the name is empty\nhint: leave the option out for the default\n",
    ),
    # Directory and output.
    (
        ["run", "-D", "nowhere", "true"],
        1,
        'rq: directory "HERE/nowhere" cannot be entered: No such file or directory\nhint: see --chdir\n',
    ),
    (["run", "-D", "data", "true"], 1, 'rq: "HERE/data" is not a directory\nhint: see --chdir\n'),
    (
        ["run", "-o", "sub", "true"],
        1,
        'rq: output file "sub" cannot be written: it is a directory\n'
        "hint: name a file in it: --output sub/FILE\n",
    ),
    (
        ["run", "-e", "no/err", "true"],
        1,
        'rq: error file "no/err" cannot be created: directory "HERE/no": No such file or directory\n'
        "hint: mkdir -p HERE/no\n",
    ),
    (
        ["run", "-o", "data/x", "true"],
        1,
        'rq: output file "data/x" cannot be created: "HERE/data" is not a directory\n',
    ),
    (
        ["run", "-o", "large", "true"],
        1,
        'rq: output file "large" has 2M already, and its limit is 1M\n'
        "hint: remove it, choose another with --output, or raise --max-output\n",
    ),
    (
        ["run", "-o", "n" * 300, "true"],
        1,
        f'rq: output file "{"n" * 100}…" cannot be created: its name has more than 255 bytes\n',
    ),
    # Jobs.
    (
        ["cancel"],
        2,
        "rq: which jobs to cancel?\nhint: name them by id or name, or all of yours: rq cancel --all\n",
    ),
    (
        ["restart"],
        2,
        "rq: which jobs to restart?\nhint: name them by id or name, or all of yours: rq restart --all\n",
    ),
    (
        ["cancel", "-a", "17"],
        2,
        "rq: option --all: it already means every job of yours\nhint: see: rq cancel -h\n",
    ),
    *[
        ([verb, "17"], 1, 'rq: no such job: "17"\nhint: rq q --mine lists your jobs\n')
        for verb in ("show", "why", "log", "wait", "cancel", "restart")
    ],
    (["log", "\x1b\udcff"], 1, 'rq: no such job: "\\x1b\\xff"\nhint: rq q --mine lists your jobs\n'),
    (
        ["wait", "17", "--timeout", "ages"],
        2,
        'rq: duration "ages": it is not a duration\n' + _TIME,
    ),
    (["-u", "zoe"], 1, 'rq: no user "zoe" has a queue here\nhint: those who have one: ann\n'),
]


def _title(of: object) -> str:
    return " ".join(of)[:40] if isinstance(of, list) else ""


@pytest.mark.parametrize(("words", "code", "err"), TRANSCRIPTS, ids=_title)
def test_transcript(desk: Desk, words: list[str], code: int, err: str) -> None:
    here = desk.directory
    (here / "sub").mkdir()
    (here / "data").write_text("1 2 3\n")
    (here / "large").write_bytes(b"x" * (2 << 20))
    (here / "gone").symlink_to("nowhere")
    os.mkfifo(here / "pipe")
    for name, mode in (("fit.sh", 0o755), ("fit.py", 0o644)):
        (here / name).write_text("#!/bin/sh\n")
        (here / name).chmod(mode)
    said = desk.rq(*words)
    assert said._replace(err=said.err.replace(str(here), "HERE")) == Said(code, "", err)


def test_help_and_version(desk: Desk) -> None:
    assert desk.rq("version") == desk.rq("--version") == Said(0, f"rq {__version__}\n", "")
    assert desk.rq("run", "--version") == desk.rq("cancel", "--version") == Said(0, f"rq {__version__}\n", "")
    assert desk.rq("help") == desk.rq("-h") == desk.rq("--help")
    said = desk.rq("help")
    assert (said.code, said.err) == (0, "")
    for verb in cli.VERBS:
        assert f"  rq {verb} " in said.out
        told = desk.rq(verb, "-h")
        assert (told.code, told.err) == (0, "")
        assert told == desk.rq("help", verb)


def test_options_of_the_list_may_stand_before_the_verb(desk: Desk) -> None:
    """As for 0.2.9."""
    assert desk.rq("--json", "nodes").out.startswith('{"schema": 1')
    assert desk.rq("-u", "ann", "--json").out == desk.rq("q", "--json", "--user=ann").out or True
    for words in (
        ["--mine"],
        ["--mine", "q"],
        ["q", "--mine"],
        ["-u", "ann"],
        ["-uann", "q"],
        ["--user=ann"],
    ):
        assert desk.rq(*words).code == 0, words


# ---------------------------------------------------------------- homes and spools


def test_a_home_that_is_none(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/nowhere/ann")
    assert desk.rq("run", "true") == Said(
        1,
        "",
        'rq: HOME is "/nowhere/ann", which cannot be entered: No such file or directory\n'
        "hint: check that the home is mounted, and HOME\n",
    )
    monkeypatch.setenv("HOME", "ann")
    assert desk.rq("q") == Said(
        1,
        "",
        'rq: HOME is "ann", which is not an absolute path\nhint: set HOME to your home directory\n',
    )


def test_a_spool_that_others_may_write_to(desk: Desk) -> None:
    os.chmod(desk.spool.path, 0o777)
    said = desk.rq("run", "true")
    assert said.err.replace(desk.spool.path, "SPOOL") == (
        "rq: SPOOL can be written by others: they could run commands as you\n"
        "hint: take that right away and check what is in it: chmod go-w SPOOL\n"
    )
    assert (said.code, said.out) == (77, "")


def test_a_home_that_may_not_be_written(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    with as_somebody_else() as home:
        monkeypatch.chdir("/tmp")
        monkeypatch.setenv("PWD", "/tmp")
        monkeypatch.setenv("HOME", str(home))
        said = desk.rq("run", "true")
    assert said.err.replace(str(home), "HOME") == (
        "rq: cannot create HOME/.roundqueue: permission denied\n"
        "hint: check `ls -ld ~ ~/.roundqueue`; on Kerberos homes, check your ticket with `klist`\n"
    )
    assert said.code == 1


def test_output_where_one_may_not_write(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found at submission: else the job would fail hours later."""
    with as_somebody_else() as directory:
        monkeypatch.chdir(directory)
        monkeypatch.setenv("PWD", str(directory))
        monkeypatch.setenv("HOME", "/tmp")
        plain, named = desk.rq("run", "true"), desk.rq("run", "-J", "fit", "true")
    hint = "hint: choose another file with --output, or another directory with --chdir\n"
    why = "cannot be created: you may not write to directory"
    assert plain == Said(1, "", f'rq: the output file rq-ID.out {why} "{directory}"\n{hint}')
    assert named == Said(1, "", f'rq: output file "fit.out" {why} "{directory}"\n{hint}')


def test_a_full_quota(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> str:
        raise OSError(122, "Disk quota exceeded")

    monkeypatch.setattr(files, "write_temporary", full)
    said = desk.rq("run", "true")
    assert (said.code, said.out) == (73, "")
    assert "Disk quota exceeded\nhint: free some space or raise the quota" in said.err
    assert list(Path(desk.spool.directory("waiting")).iterdir()) == []


def test_a_configuration_that_is_wrong(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RQ_POLL_MIN", "often")
    said = desk.rq("run", "true")
    assert said.code == 78
    assert said.err.startswith("rq: RQ_POLL_MIN: poll_min is ")


@pytest.mark.parametrize(
    ("words", "out"),
    [
        (["cancel", "1"], 'canceled 1 "true"'),
        (["show", "1"], 'job 1 "true"'),
        (["why", "1"], '1 "true": no daemon of yours runs on any node: rq daemon starts one'),
        (["q", "--mine"], "STATE"),
        (["nodes"], "No daemon has ever run"),
        (["users"], "USER"),
        (["daemon", "--stop"], "no daemon of yours served here1"),
        (["drain"], "here1 is drained"),
        (["resume"], "here1 was not drained by you"),
        (["limit", "-c", "1"], "         NOW  YOURS  ADMIN"),
    ],
    ids=lambda of: of[0] if isinstance(of, list) else "",
)
@pytest.mark.parametrize("broken", ["file", "variable"])
def test_a_configuration_that_is_wrong_hinders_nobody_from_looking_and_ending(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, broken: str, words: list[str], out: str
) -> None:
    """What a broken file would keep running could be what has to be stopped."""
    desk.rq("run", "true")
    if broken == "file":
        config = Path(desk.spool.path).parent / ".config"
        config.mkdir()
        (config / "roundq.toml").write_text('grace = "soon"\n')
        where = f"{config}/roundq.toml, line 1: grace"
    else:
        monkeypatch.setenv("RQ_POLL_MIN", "often")
        where = "RQ_POLL_MIN: poll_min"
    said = desk.rq(*words)
    assert said.code == 0
    assert said.out.startswith(out)
    assert said.err.startswith(f"rq: warning: {where} is ")
    assert said.err.splitlines()[0].endswith("; the standard holds instead")


def test_a_directory_that_is_gone(desk: Desk) -> None:
    gone = desk.directory / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    assert desk.rq("run", "true") == Said(
        1,
        "",
        "rq: the current directory cannot be told: No such file or directory\n"
        "hint: cd somewhere else, or give --chdir\n",
    )
    assert desk.rq("run", "-D", str(desk.directory), "true").code == 0


def test_a_command_line_that_no_record_can_hold(desk: Desk) -> None:
    said = desk.rq("run", "echo", *["\x01" * 100_000] * 3)
    assert said.code == 1
    assert said.err.startswith("rq: the command line is too long: its job file would have 18")
    assert said.err.endswith("hint: put the arguments into a file, or the command into a script\n")


# ---------------------------------------------------------------- warnings


def test_what_no_node_has_is_a_warning_that_names_the_largest(desk: Desk) -> None:
    bob = desk.homes.user("bob")
    cards.publish(bob, replace(card("bob", "n3", cores=32), memory=64 << 30))
    cards.publish(desk.spool, replace(card("ann", "n4", cores=4), memory=512 << 30))
    for words, lacks in (
        (["-c", "64"], "has 64 cores; the largest is n3 with 32"),
        (["-m", "1T"], "has 1T of memory; the largest is n4 with 512G"),
        (
            ["-c", "8", "-m", "100G"],
            "has both 8 cores and 100G of memory; the largest is n3 with 32 cores and 64G",
        ),
    ):
        said = desk.rq("run", *words, "true")
        assert said.code == 0
        assert said.err == f"rq: warning: no known node {lacks}: the job waits until one appears\n"
    for words, lacks in (
        (["-G", "1"], "has 1 GPU"),
        (["-w", "gpu*,big?"], "is called big? or gpu*"),
        (["-x", "n?"], "is left by --exclude n?"),
        (["--need", "avx512"], "has the feature avx512"),
        (["-w", "n4", "-c", "8"], "has all that it asks for; n4 comes nearest, but has 4 of 8 cores"),
    ):
        assert desk.rq("run", *words, "true").err == (
            f"rq: warning: no known node {lacks}: the job waits until one appears\n"
        )
        assert desk.rq("run", "--parsable", *words, "true").err == ""
    assert desk.rq("run", "-L", "matlab", "true").err == (
        "rq: warning: no license matlab is known here: the job waits until there is one\n"
    )
    assert desk.rq("run", "-c", "32", "true").err == ""
    assert desk.rq("run", "-c", "all", "-m", "512G", "true").err == ""


def test_a_node_that_drains_is_a_warning(desk: Desk) -> None:
    """Also for a plain job, if it is this one and there is no other."""
    cards.publish(desk.spool, card("ann", "here1", state="draining", reason="drained by ann: lunch"))
    assert desk.rq("run", "true").err == (
        "rq: warning: the only known node that could run it is draining: here1 (drained by ann: lunch):"
        " the job waits until one is resumed\n"
    )
    cards.publish(desk.spool, card("ann", "n2"))
    assert desk.rq("run", "true").err == ""


def limited(monkeypatch: pytest.MonkeyPatch, **limit: int) -> None:
    """The administrator has set limits for everybody."""
    asker = person()
    config = replace(asker.config, limits=Limits(Limit(**limit)))
    monkeypatch.setattr("roundq.faces.cli.run.person", lambda: asker._replace(config=config))


def test_more_jobs_than_may_wait_are_refused(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """All or none; what runs or has ended does not count."""
    limited(monkeypatch, waiting=3)
    (desk.directory / "jobs").write_text("true\n" * 4)
    full = "rq: you may have 3 waiting jobs, and have {}: {} more would be too many\n"
    hint = "hint: submit again when some have started; rq q --mine lists them\n"
    assert desk.rq("run", "--from", "jobs") == Said(1, "", full.format(0, 4) + hint)
    for _ in range(3):
        assert desk.rq("run", "true").code == 0
    assert desk.rq("run", "--parsable", "true") == Said(1, "", full.format(3, 1) + hint)
    desk.rq("cancel", "1")
    assert desk.rq("run", "true").code == 0
    limited(monkeypatch, waiting=0)
    assert "you may have 0 waiting jobs, and have 3" in desk.rq("run", "true").err


def test_a_job_beyond_a_limit_is_a_warning(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The administrator's and one's own: the less of both."""
    desk.homes.card(desk.spool, "n1", cores=64)
    said = (
        "rq: warning: your limit is {} running cores, and the job needs 32 cores: it waits until the limit is"
    )
    limited(monkeypatch, cores=16)
    assert desk.rq("run", "-c", "32", "true").err == f"{said.format(16)} raised\n"
    assert desk.rq("run", "-c", "16", "true").err == ""
    control.set_limit(desk.spool, Limit(cores=8), "here1")
    assert desk.rq("run", "-c", "32", "true").err == f"{said.format(8)} raised\n"


# ---------------------------------------------------------------- what must never be seen


def test_a_mistake_of_ours_is_one_line(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def mistaken(*_: object) -> None:
        raise ZeroDivisionError("division\x1b by zero")

    monkeypatch.setattr("roundq.faces.cli.run.person", mistaken)
    assert desk.rq("run", "true") == Said(
        70,
        "",
        "rq: a mistake of rq itself: ZeroDivisionError: division\\x1b by zero\n"
        "hint: set RQ_DEBUG=1 and try again to see where; please report it\n",
    )
    monkeypatch.setenv("RQ_DEBUG", "1")
    said = desk.rq("run", "true")
    assert said.err.startswith("Traceback (most recent call last):\n")


def test_a_refusal_of_the_system_is_said_as_such(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(5, "Input/output error", "/home/ann/x")

    monkeypatch.setattr("roundq.faces.cli.run.person", refused)
    assert desk.rq("run", "true") == Said(1, "", "rq: the system refused: /home/ann/x: Input/output error\n")


def test_an_interrupt_is_one_line(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("roundq.faces.cli.run.person", interrupted)
    assert desk.rq("run", "true") == Said(130, "", "rq: interrupted; nothing was submitted\n")


def test_every_class_of_error_has_its_own_code() -> None:
    """The codes that the manual promises, from the class that is at the top of each."""
    from roundq.words import errors

    codes = {
        name: kind.exit_code
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, RoundqError)
    }
    assert codes == {
        "RoundqError": 1,
        "UsageError": 2,
        "NoSuchJob": 1,
        "JobRefused": 1,
        "CommandNotFound": 127,
        "NotExecutable": 126,
        "QueueFull": 1,
        "SpoolError": 1,
        "SpoolUnsafe": 77,
        "SpoolFull": 73,
        "PartlySubmitted": 1,
        "RecordError": 1,
        "ConfigError": 78,
        "WaitTimeout": 124,
        "JobUnsuccessful": 1,
        "JobFailed": 1,
        "JobCanceled": 1,
        "JobLost": 1,
        "DirJobsError": 1,
        "ExchangeError": 1,
        "DaemonRunning": 1,
    }


@pytest.mark.parametrize("how", [[], ["--fg"], ["--foreground"]])
def test_a_daemon_inside_a_job_is_refused(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, how: list[str]
) -> None:
    """It would end with the job, and with it all that it started."""
    monkeypatch.setenv("RQ_JOB_ID", "17")
    assert desk.rq("daemon", *how) == Said(
        1,
        "",
        "rq: this is inside a job: a daemon would end with it, and so would all jobs that it starts\n"
        "hint: run it from a shell on the node\n",
    )
