"""Promises about roundqd(8): its signals, times, fields, files and units are those of the program."""

from __future__ import annotations

import re
import shlex
import signal
from pathlib import Path

from roundq.actors import attempt, daemon, environ, growth, homewatch, supervisor
from roundq.faces import cli
from roundq.records import cards
from roundq.world import nodelock, notify

ROOT = Path(__file__).parent.parent
LINES = [
    line for line in (ROOT / "man" / "roundqd.8").read_text().splitlines() if not line.startswith('.\\"')
]
PAGE = "\n".join(LINES)
#: What a reader sees, nearly: the words without macros, as one line.
PROSE = " ".join(re.sub(r"^\.[A-Z][a-z] ", "", line) for line in LINES)


def blocks() -> list[str]:
    """What is to be typed."""
    found = re.findall(r"\.Bd -literal -offset indent\n(.*?)\.Ed", PAGE, re.DOTALL)
    return [line for block in found for line in block.splitlines()]


def test_every_unit_is_told_and_no_other() -> None:
    """With the folder that it is in."""
    told = set(re.findall(r"\b((?:system|user|tmpfiles\.d)/roundq[\w@.-]*\w)", PAGE))
    assert told == {str(path.relative_to(ROOT / "systemd")) for path in (ROOT / "systemd").glob("*/roundq*")}


def test_what_an_admin_types_is_there() -> None:
    """Files are copied from where the package puts them, and units are enabled that exist."""
    where = ""
    for line in blocks():
        words = shlex.split(line)
        if words[0] == "cd":
            where = words[1].rpartition("share/roundq/")[2]
            assert (ROOT / where).is_dir()
        if words[0] in ("cp", "install"):
            source = next(word for word in words[1:] if not word.startswith("-") and not word.isdecimal())
            assert list((ROOT / where).glob(source)), line
        if words[0] == "systemctl" and "enable" in words:
            for word in [word for word in words[2:] if not word.startswith("--") and word != "enable"]:
                unit = re.sub(r"@.*", "@", word)
                assert list((ROOT / "systemd").glob(f"*/{unit}.service")) + list(
                    (ROOT / "systemd").glob(f"*/{unit}")
                ), line


def test_every_way_to_run_it_is_told_and_no_other() -> None:
    """The synopsis has the options of the verb."""
    synopsis = PAGE.partition(".Sh SYNOPSIS\n")[2].partition(".Sh")[0]
    told = {f"-{name}" for name in re.findall(r"Fl (\S+)", synopsis)}
    parser = cli.build_parser("daemon")
    known = {name for name in parser.option_names() if name not in ("-h", "--help", "--version", "--verbose")}
    assert told == known


def test_its_times_are_those_of_the_program() -> None:
    """In the sentences that give them."""
    assert f"after {daemon.TAKEOVER_S:g} seconds SIGKILL" in PROSE.replace("Dv ", "")
    assert f"within {daemon.AFTER_ERROR_S:g} seconds" in PROSE
    assert f"at least every {daemon.BUSY_POLL_S:g} seconds" in PROSE
    assert (cards.BEAT_S, growth.LOOK_MOST_S) == (60, 1)
    assert f"looked for every {homewatch.REQUEST_LOOK_S:g} seconds" in PROSE
    assert f"at {notify.LOG_BYTES_MAX >> 20} MiB" in PROSE


def test_its_names_are_those_of_the_program() -> None:
    """Fields of the journal, places of the lock, the mark, variables of service managers."""
    assert tuple(re.findall(r"\.It Va (ROUNDQ_\w+)", PAGE)) == notify._FIELDS
    for place in nodelock.PLACES:
        assert place in PAGE
    told = re.search(r"\.It Ev (NOTIFY_SOCKET.*)\n", PAGE)
    assert told
    assert {*told[1].split(" , "), "JOURNAL_STREAM"} <= environ.FOREIGN_VARIABLES
    assert {"RQ_MARK", "RQ_JOB_ID"} <= environ.JOB_VARIABLES


def test_the_signals_that_a_supervisor_ignores_are_told() -> None:
    """SIGPIPE goes without saying: nobody sends it."""
    sentence = re.search(r"A supervisor ignores (.*?), so that", PROSE)
    assert sentence
    told = set(re.findall(r"SIG\w+", sentence[1]))
    assert told == {number.name for number in supervisor._IGNORED} - {signal.SIGPIPE.name}
    assert "SIGTERM does not end it either" in PROSE
    assert signal.SIGTERM in attempt.WAITED
