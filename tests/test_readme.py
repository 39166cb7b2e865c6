"""Promises about README.md: its sessions are what one sees, and everything that it names is there.

A block of ```console is a session: what stands behind `$ ` is typed, by ann on node1, and the lines that
follow are what it prints. Blocks of ```sh set something up; of these only the words are checked.
"""

from __future__ import annotations

import argparse
import contextlib
import glob
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from roundq.actors.daemon import serving
from roundq.faces import cli
from roundq.records import spool as spools

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
#: Prose beside it that links to files.
PAGES = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"]
#: Where an installation as root, or as a user, puts what comes from the checkout: see pyproject.toml.
INSTALLED = ("/opt/roundq/share/roundq/systemd/", "~/.local/share/roundq/share/roundq/systemd/")
PATIENCE_S = 20.0
#: What changes nothing may be typed again until it is so far.
LOOKING = ("q", "why", "log", "nodes", "users", "show")


def blocks(kind: str, text: str = README) -> list[str]:
    """The fenced blocks of a kind, without the indentation of a list they may stand in."""
    found = re.findall(rf"^( *)```{kind}\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", block, flags=re.MULTILINE) for indent, block in found]


def steps(block: str) -> Iterator[tuple[str, str]]:
    """Each command of a session, with what it prints."""
    for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, said = step.partition("\n")
        yield command, said


def alike(text: str) -> str:
    """A text without what differs from run to run: numbers, sizes, times; and widths of columns."""
    text = re.sub(r"[+-]\d{4}\b", "#", text)
    text = re.sub(r"\d[\d.,:]*[KMGT]?", "#", text)
    return "\n".join(re.sub(r"\s+", " ", line).strip() for line in text.strip().splitlines())


class Session:
    """Ann in a home of her own, on a node that is called as in the README."""

    def __init__(self, home: Path, programs: Path) -> None:
        self.home = home
        home.mkdir()
        programs.mkdir()
        rq = programs / "rq"
        rq.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m roundq "$@"\n')
        rq.chmod(0o755)
        self.environ = {
            "HOME": str(home),
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "RQ_NODE": "node1",
            # Whatever there is here: less than what the README asks for in vain.
            "RQ_CORES": "2",
        }

    def type(self, command: str) -> str:
        """What a command prints, errors among it."""
        return subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=self.home,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        ).stdout

    def end(self) -> None:
        """Nothing of it runs on."""
        self.type("rq cancel --all --wait")
        holder = serving(spools.at(str(self.home), "ann", os.geteuid()))
        if holder is not None:
            os.kill(holder.pid, signal.SIGTERM)
            until_s = time.monotonic() + PATIENCE_S
            with contextlib.suppress(ProcessLookupError):
                while time.monotonic() < until_s:
                    os.kill(holder.pid, 0)
                    time.sleep(0.02)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    """A person who has just installed rq."""
    made = Session(tmp_path / "ann", tmp_path / "bin")
    yield made
    made.end()


def test_a_first_session_goes_as_it_is_told(session: Session) -> None:
    """Whoever types it sees what stands there."""
    told = [step for block in blocks("console") for step in steps(block)]
    assert len(told) > 5
    for command, said in told:
        until_s = time.monotonic() + PATIENCE_S
        seen = session.type(command)
        while looks(command) and alike(seen) != alike(said) and time.monotonic() < until_s:
            time.sleep(0.1)
            seen = session.type(command)
        assert alike(seen) == alike(said), f"$ {command}\n{seen}"


def test_every_program_in_python_runs(session: Session) -> None:
    """As it stands there, by the interpreter that has roundq; what it prints is what its jobs wrote."""
    said = []
    for block in blocks("python"):
        (session.home / "program.py").write_text(block)
        said.append(session.type(f"{shlex.quote(sys.executable)} program.py"))
    assert len(said) >= 3
    fits = [line for seed in range(4) for line in (f"1_{seed} completed fit with seed {seed}", "")]
    assert sorted(said[0].splitlines()) == sorted([*fits, "2 completed plot", "", "completed"])
    assert said[1] == f"{[number**3 for number in range(10)]}\n"
    # What others are modules, to be imported.
    assert not "".join(said[2:])


def looks(command: str) -> bool:
    """Whether a command only looks, so that a person may type it again."""
    words = shlex.split(command)
    return words == ["rq"] or (words[0] == "rq" and words[1] in LOOKING)


# ---------------------------------------------------------------- words


def commands_of_rq() -> list[list[str]]:
    """The words behind every `rq` that one could type: of blocks, and of tables and prose in backquotes."""
    lines = [command for block in blocks("console") for command, _ in steps(block)]
    lines += [line for block in blocks("sh") for line in block.splitlines()]
    # The column of another program tells what is typed there.
    prose = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    lines += re.findall(r"`(rq(?: [^`]*)?)`", prose)
    found = []
    for line in lines:
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;")
        lexer.whitespace_split = True
        words = list(lexer)
        ends = next((place for place, word in enumerate(words) if set(word) <= set("|&;")), len(words))
        if words[:1] == ["rq"]:
            found.append(words[1:ends])
    return found


@pytest.mark.parametrize("words", commands_of_rq(), ids=" ".join)
def test_every_command_is_understood(words: list[str]) -> None:
    """Its verb is one, and its words are those that the verb takes."""
    verb, rest = cli._verb_of(words)
    if verb in ("help", "version"):
        return
    assert verb in cli.VERBS
    # A verb that is only named, as in the table of verbs, takes no words.
    if rest:
        assert isinstance(cli.build_parser(verb).parse(rest), argparse.Namespace)


def test_every_verb_is_in_the_table_and_no_other() -> None:
    """In the order of rq help."""
    table = README.partition("| command | what it does |")[2].partition("\n\n")[0]
    # `q` stands behind a bare `rq`.
    told = [re.findall(r"`rq (\w+)`", line.split(" | ")[0])[-1] for line in table.splitlines()[2:]]
    assert told == [*cli.VERBS, "help", "version"]


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    """Relative links are files of the checkout."""
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", (ROOT / page).read_text()):
        if "://" not in target:
            assert (ROOT / target).exists(), target


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_is_named_exists(page: str) -> None:
    """What begins with a folder of the checkout, in backquotes or as a word of a command."""
    text = (ROOT / page).read_text()
    folders = "|".join(re.escape(name) for name in ("roundq", "tests", "man", "systemd", ".ci"))
    named = re.findall(rf"(?<![\w/~.-])((?:{folders})/[\w./@*-]*)", text)
    assert named
    for name in named:
        assert glob.glob(str(ROOT / name.rstrip("."))), name


def test_what_is_copied_from_an_installation_is_put_there() -> None:
    """The package carries systemd/, and every file of it that a block names is in it."""
    assert '"systemd" = "share/roundq/systemd"' in (ROOT / "pyproject.toml").read_text()
    words = [word for block in blocks("sh") for line in block.splitlines() for word in line.split()]
    named = [word for word in words if word.startswith(INSTALLED)]
    assert named
    for name in named:
        rest = next(name.removeprefix(where) for where in INSTALLED if name.startswith(where))
        assert glob.glob(str(ROOT / "systemd" / rest)), name


def test_every_unit_that_is_enabled_is_one() -> None:
    """And a template stands for its instances."""
    units = {path.name for path in (ROOT / "systemd").glob("*/*")}
    text = "\n".join(blocks("sh")) + "\n".join(re.findall(r"`(systemctl [^`]*)`", README))
    found = re.findall(r"systemctl(?: --user)? (?:enable|restart)(?: --now)? (.*)", text)
    named = [word for line in found for word in line.split()]
    assert named
    for name in named:
        template = re.sub(r"@.*", "@", name)
        assert template in units or f"{template}.service" in units, name


@pytest.mark.parametrize("script", ["install", "test"])
def test_scripts_are_shell(script: str) -> None:
    """The two commands of the README are understood by a shell that knows nothing but POSIX."""
    shell = shutil.which("dash") or "/bin/sh"
    subprocess.run([shell, "-n", str(ROOT / ".ci" / script)], check=True)
    assert f"sh .ci/{script}\n" in "\n".join(blocks("sh"))
