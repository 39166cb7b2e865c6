"""Promises about the manual: it is well-formed, and it says what the program does, no less and no more.

Pages are read by their macros, so that what is compared is what a reader sees.
"""

from __future__ import annotations

import argparse
import inspect
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from roundq.actors import environ as job_environ
from roundq.faces import as_json, cli, job_fields
from roundq.faces.cli import stopping
from roundq.faces.cli.parser import Parser
from roundq.words import errors, states
from roundq.words.errors import RoundqError
from roundq.words.limits import Limits, Shares
from roundq.words.quantities import format_memory, parse_duration
from roundq.world import config, node

MAN = Path(__file__).parent.parent / "man"
PAGES = sorted(path.name for path in MAN.iterdir())
#: Verbs that have no parser.
PLAIN_VERBS = {"help", "version"}
#: Options of every verb, told once.
COMMON = {"-h", "--help", "--version"}


def page(name: str) -> list[str]:
    """The lines of a page, without comments."""
    return [line for line in (MAN / name).read_text().splitlines() if not line.startswith('.\\"')]


def section(name: str, title: str) -> list[str]:
    """The lines of a section, or of a subsection that is called so up to its first macro."""
    lines = page(name)
    begins = [
        place for place, line in enumerate(lines) if re.fullmatch(rf"\.S[hs] {re.escape(title)}( .*)?", line)
    ]
    assert begins, f"{name} has no section {title}"
    ends = r"\.Sh " if lines[begins[0]].startswith(".Sh") else r"\.S[hs] "
    rest = lines[begins[0] + 1 :]
    return rest[: next((place for place, line in enumerate(rest) if re.match(ends, line)), len(rest))]


def items(lines: list[str]) -> Iterator[str]:
    """What the list items of these lines say, without the macro."""
    for line in lines:
        if line.startswith(".It "):
            yield line.removeprefix(".It ")


# ---------------------------------------------------------------- form


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_well_formed(name: str) -> None:
    """mandoc has nothing to say against it."""
    if shutil.which("mandoc") is None:
        pytest.skip("needs mandoc: apt-get install mandoc")
    said = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", str(MAN / name)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.stdout + said.stderr == ""


@pytest.mark.parametrize("name", PAGES)
def test_quotes_that_are_meant_are_shown(name: str) -> None:
    """A macro takes away a quote that begins a word, and mandoc says nothing: it is written as \\(dq."""
    shown = [line for line in page(name) if re.match(r"\.(Li|Ql) ", line)]
    assert [line for line in shown if re.search(r' "[^ "]*"', line)] == []


def test_every_page_is_installed_and_every_reference_to_ours_is_one() -> None:
    """What the package installs is what there is, and what .Xr names."""
    project = (MAN.parent / "pyproject.toml").read_text()
    installed = set(re.findall(r'"man/(.*)" = "share/man/man\d/\1"', project))
    assert set(PAGES) <= installed
    for name in PAGES:
        for title, number in re.findall(r"\.(?:\w+ )*Xr (\S+) (\d)", "\n".join(page(name))):
            assert f"{title}.{number}" in installed or not title.startswith(("rq", "roundq"))


# ---------------------------------------------------------------- rq(1): words


def flags(item: str) -> set[str]:
    """The options that a list item names: "Fl J Ar NAME , Fl -job-name Ar NAME"."""
    if not item.startswith("Fl "):
        return set()
    found: set[str] = set()
    # Fl goes on after a comma: "Fl a , -all".
    for part in item.removeprefix("Fl ").split(" , "):
        word = part.removeprefix("Fl ").split()[0]
        found.add(f"-{word}")
    return found


def parsers() -> dict[str, Parser]:
    return {verb: cli.build_parser(verb) for verb in cli.VERBS}


def verbs_told() -> list[str]:
    return [line.split()[1] for line in section_of_commands() if line.startswith(".Ss ")]


def section_of_commands() -> list[str]:
    return section("rq.1", "COMMANDS")


def test_every_verb_is_told_and_no_other() -> None:
    """Each has its subsection, in the order of rq help."""
    assert verbs_told() == [*cli.VERBS, "help", "version"]
    synopsis = " ".join(section("rq.1", "SYNOPSIS")).split()
    for verb in {*cli.VERBS, "help"}:
        assert verb in synopsis


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_option_is_told_and_no_other(verb: str) -> None:
    """Each with all its names, and with what it takes."""
    parser = cli.build_parser(verb)
    told = {frozenset(flags(item)): item for item in items(section("rq.1", verb)) if flags(item)}
    known = {
        frozenset(action.option_strings): action
        for action in parser._actions
        if action.option_strings and not COMMON & set(action.option_strings)
    }
    assert set(told) == set(known)
    for names, action in known.items():
        takes = re.findall(r"\bAr (\S+)", told[names])
        assert set(takes) == ({action.metavar} if action.nargs != 0 else set()), told[names]


def test_options_of_every_verb_are_told_once() -> None:
    """-h, --help and --version are with all of them."""
    before = section_of_commands()[
        : section_of_commands().index(next(x for x in section_of_commands() if ".Ss" in x))
    ]
    assert {f"-{word}" for line in before for word in re.findall(r"^\.Fl (\S+)", line)} == COMMON


@pytest.mark.parametrize("verb", cli.VERBS)
def test_a_usage_names_every_word_it_takes(verb: str) -> None:
    """The heading of a verb in the manual has its positional words, with their names."""
    heading = next(line for line in section_of_commands() if re.match(rf"\.Ss {verb}\b", line))
    words = set(re.findall(r"[A-Z]{2,}", heading))
    for action in cli.build_parser(verb)._actions:
        if not action.option_strings:
            assert isinstance(action.metavar, str)
            assert set(re.split("[|:]", action.metavar)) <= words


# ---------------------------------------------------------------- rq(1): facts


def test_every_exit_code_is_told_and_no_other() -> None:
    """Those of all errors, and those of the command line itself."""
    stopped = {
        stopping.interrupted(stop)
        for stop in (KeyboardInterrupt(), stopping.Stopped(1), stopping.Stopped(15))
    }
    codes = {0, cli.INTERNAL_ERROR, cli.BROKEN_PIPE} | stopped
    codes |= {
        each.exit_code
        for _, each in inspect.getmembers(errors, inspect.isclass)
        if issubclass(each, RoundqError)
    }
    assert [int(item) for item in items(section("rq.1", "EXIT STATUS"))] == sorted(codes)


def test_every_reason_is_told_as_the_program_tells_it() -> None:
    """The same words, in the same order."""
    lines = section("rq.1", "DIAGNOSTICS")
    told = {
        line.removeprefix(".It Sy "): lines[place + 1]
        for place, line in enumerate(lines)
        if line.startswith(".It Sy ")
    }
    assert list(told.items()) == [
        (name, f"{text[0].upper()}{text[1:]}.") for name, text in states.REASONS.items()
    ]


def test_every_variable_is_told() -> None:
    """Those that commands read, and those that jobs find."""
    told = set(re.findall(r"[A-Z][A-Z_]+", " ".join(items(section("rq.1", "ENVIRONMENT")))))
    ours = {name for name in told if name.startswith("RQ_")}
    assert ours == {*job_environ.JOB_VARIABLES, node.NAME_VARIABLE, "RQ_DEBUG"}
    of_node = {*job_environ.GPU_VARIABLES, "TMPDIR"}
    assert told - ours == {*job_environ.THREAD_VARIABLES, *of_node, "HOME", "NO_COLOR"}


def test_every_name_of_the_json_is_told() -> None:
    """And all are described where programs are promised them."""
    told = set(re.findall(r"[a-z_]+", " ".join([*section("rq.1", "JSON"), *page("rq-json.5")])))
    for value in ("q", "nodes", "users", "limit", "sets", "doctor"):
        for name in promised(value):
            assert name in told, name


@pytest.mark.parametrize(
    ("title", "fields"), [("JOBS", job_fields.JOB), ("MORE OF EACH JOB", job_fields.MORE)]
)
def test_every_field_of_a_job_is_told_and_no_other(title: str, fields: Sequence[job_fields.JobField]) -> None:
    """In the order in which they are printed, so that it is easy to find them."""
    listed = items(section("rq-json.5", title))
    told = [name for item in listed for name in re.findall(r"[a-z_]{2,}", item)]
    assert sorted(told) == sorted(field.name for field in fields)


def test_the_number_of_the_json_is_told() -> None:
    """As it is printed."""
    assert f"is a number, now {as_json.SCHEMA}." in page("rq-json.5")


def promised(verb: str) -> set[str]:
    """The names that as_json promises for a verb: the first words of its indented lines."""
    text = inspect.getdoc(as_json.as_json) or ""
    part = text.partition(f"`rq {verb} --json`:" if verb != "q" else "`rq --json`:")[2].partition("\n`rq ")[0]
    names: set[str] = set()
    for line in part.splitlines():
        if found := re.match(r" +(\w+(?:, \w+)*)(?:  |$)", line):
            names |= set(found[1].split(", "))
    assert names
    return names


EXAMPLES = [
    line
    for name in ("rq.1", "rq-json.5")
    for block in re.findall(
        r"\.Bd -literal -offset indent\n(.*?)\.Ed", "\n".join(section(name, "EXAMPLES")), re.DOTALL
    )
    for line in block.splitlines()
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_is_understood(example: str) -> None:
    """Each rq in it has words that its verb takes."""
    lexer = shlex.shlex(example, posix=True, punctuation_chars="|&;")
    lexer.whitespace_split = True
    commands: list[list[str]] = [[]]
    for word in lexer:
        if word in ("|", "||", "&&", ";", "do", "done"):
            commands.append([])
        else:
            commands[-1].append(word)
    asked = [command[1:] for command in commands if command[:1] == ["rq"]]
    assert asked
    for words in asked:
        verb, rest = cli._verb_of(words)
        assert isinstance(cli.build_parser(verb).parse(rest), argparse.Namespace)


# ---------------------------------------------------------------- roundq.toml(5)


def test_every_key_is_told_with_its_variable_and_default() -> None:
    """Keys, variables and defaults are those of the program, and there are no others."""
    lines = section("roundq.toml.5", "KEYS")
    lines = lines[: next(place for place, line in enumerate(lines) if line.startswith(".Ss"))]
    parts = re.split(r"^\.It Ic (\w+) ", "\n".join(lines), flags=re.MULTILINE)[1:]
    told = dict(zip(parts[::2], parts[1::2], strict=True))
    assert list(told) == list(config._KEYS)
    defaults = {
        field.name: field.default if field.default_factory is MISSING else field.default_factory()
        for field in fields(config.Config)
    }
    for key, text in told.items():
        # What only the administrator may set has no variable, and says so.
        system_only = config._KEYS[key].system_only
        assert ("Only\n.Pa /etc/roundq.toml\nmay set it." in text) == system_only, key
        variable = re.search(rf"^\.Ev RQ_{key.upper()} [.,]$", text, re.MULTILINE)
        assert (variable is None) == system_only, key
        assert config._VARIABLES.get(f"RQ_{key.upper()}") == (None if system_only else key)
        if key != "homes":
            said = re.search(r"^Default:\s(?:\.Ql \\&\"(.*)\\&\" \.|(.*)\.)$", text, re.MULTILINE)
            assert said, key
            assert is_default(said[1] or said[2], defaults[config._KEYS[key][0]]), key


def test_every_key_of_a_node_is_told() -> None:
    """In its own subsection."""
    told = re.findall(r"^\.It Ic (\w+)", "\n".join(section("roundq.toml.5", "[nodes.NAME]")), re.MULTILINE)
    assert told == list(config._NODE_KEYS)


def is_default(text: str, value: object) -> bool:
    """Whether the manual's word for a default is the program's value."""
    if isinstance(value, bool):
        return text == str(value).lower()
    if value in ("", (), {}, Limits(), Shares()):
        return text == "none"
    if isinstance(value, int):
        return text == format_memory(value)
    if isinstance(value, float):
        return text == f"{value:g}" or (not text.isdecimal() and parse_duration(text) == value)
    return text == value


def test_its_example_is_a_configuration(tmp_path: Path) -> None:
    """What is shown can be copied."""
    text = "\n".join(section("roundq.toml.5", "EXAMPLES"))
    blocks = re.findall(r"\.Bd -literal -offset indent\n(.*?)\.Ed", text, re.DOTALL)
    assert blocks
    for block in blocks:
        (tmp_path / "etc.toml").write_text(block)
        loaded = config.load({}, str(tmp_path), etc=str(tmp_path / "etc.toml"), node="node3")
        assert loaded != config.Config((str(tmp_path.parent),))


# ---------------------------------------------------------------- roundqueue(7)


def test_every_transition_is_told_and_no_other() -> None:
    """Name, source, target, who, and what is written before, in the same order."""
    text = "\n".join(section("roundqueue.7", "TRANSITIONS"))
    rows = re.findall(r"^\.It Sy (\w+) , No (\w+) to (\w+), by (.*)\nBefore: (.*)\.$", text, re.MULTILINE)
    any_of = {"ended": states.ENDED_STATES}
    told = [
        (name, source, target, *rest)
        for name, one, other, *rest in rows
        for source in any_of.get(one, (one,))
        for target in any_of.get(other, (other,))
    ]
    assert told == [(each.name, each.source or "new", *each[2:]) for each in states.TRANSITIONS]


def test_every_state_has_its_directory() -> None:
    """In the order in which jobs pass through them."""
    told = [
        item.removeprefix("Pa ").removesuffix("/")
        for item in items(section("roundqueue.7", "DIRECTORIES"))
        if item.startswith("Pa ")
    ]
    assert [name for name in told if name in states.STATES] == list(states.STATES)
