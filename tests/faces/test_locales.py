"""Promises in locales that are not UTF-8: words, directories and file names are bytes, and stay as they are.

In every locale the bytes in a record are those that were typed, so that a daemon in another runs the same.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.actors.spoolhome import SpoolHome
from tests.cluster.wait import wait_until

LATIN = "de_DE.ISO-8859-1"
UTF8 = "C.UTF-8"
#: Bytes that are no UTF-8, and such as would be others if somebody took them for ISO 8859-1.
WORDS = (b"\xfcber", "f\u00fcr".encode(), b"a\xa0b", b"plain")
DIRECTORY, OUTPUT = b"Gr\xf6\xdfe", "Gr\u00f6\u00dfe".encode() + b" \xe9.txt"
SCRIPT = 'pwd; printf "%s\\n" "$@" "$RQ_WORD"'


@pytest.fixture(scope="module")
def locales(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A directory that holds the locale ISO 8859-1 in German, whatever this machine has installed."""
    directory = tmp_path_factory.mktemp("locales")
    made = shutil.which("localedef") and subprocess.run(
        ["localedef", "-i", "de_DE", "-f", "ISO-8859-1", str(directory / LATIN)],
        capture_output=True,
        check=False,
    )
    if not made or made.returncode:
        pytest.skip("needs localedef and the sources of locales: apt-get install locales")
    return str(directory)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[SpoolHome]:
    made = SpoolHome(tmp_path / "homes")
    yield made
    made.stop()


def rq(home: SpoolHome, locale: str, locales: str, *words: bytes) -> bytes:
    """What `rq` prints, typed in a shell of this locale."""
    environ = {
        **{os.fsencode(name): os.fsencode(value) for name, value in home.environ.items()},
        b"LC_ALL": locale.encode(),
        b"LOCPATH": os.fsencode(locales),
        b"RQ_AUTO_START": b"false",
        b"RQ_WORD": WORDS[0],
    }
    done = subprocess.run(
        [os.fsencode(sys.executable), b"-m", b"roundq", *words],
        env=environ,
        cwd="/",
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, (words, done)
    return done.stdout


@pytest.mark.parametrize(
    ("typed", "daemon"),
    [(LATIN, UTF8), (UTF8, LATIN), (LATIN, LATIN), ("C", LATIN), (LATIN, "C")],
)
def test_the_bytes_of_a_job_are_kept(home: SpoolHome, locales: str, typed: str, daemon: str) -> None:
    """Words, directory, output file and environment arrive as they were typed, whoever runs the job."""
    directory = os.fsencode(home.home) + b"/" + DIRECTORY
    os.mkdir(directory)
    options = [b"--parsable", b"-D", directory, b"-o", OUTPUT]
    job = (
        rq(home, typed, locales, b"run", *options, b"sh", b"-c", SCRIPT.encode(), b"sh", *WORDS)
        .decode()
        .strip()
    )

    words = [sys.executable, "-m", "roundq", "daemon", "--foreground"]
    environ = {**home.environ, "LC_ALL": daemon, "LOCPATH": locales}
    home.started.append(subprocess.Popen(words, env=environ, cwd="/", start_new_session=True))
    wait_until(lambda: home.state(job) == "completed", 30, on_timeout=home.story)

    with open(directory + b"/" + OUTPUT, "rb") as file:
        written = file.read().splitlines()
    assert os.listdir(directory) == [OUTPUT]
    ours = [line for line in written if not line.startswith(b"rq: ")]
    assert ours == [directory, *WORDS, WORDS[0]]
    (start,) = [line for line in written if b" begins on " in line]
    assert WORDS[1] in start


@pytest.mark.parametrize("locale", [LATIN, "C", UTF8])
def test_every_look_at_such_a_job_is_printed(home: SpoolHome, locales: str, locale: str) -> None:
    """In the terminal's own characters where it has them; JSON is UTF-8 everywhere."""
    words = [b"run", b"--parsable", b"-J", "f\u00fcr \u20ac".encode(), b"true", *WORDS]
    job = rq(home, UTF8, locales, *words).decode().strip()
    for look in ([b"q"], [b"show", job.encode()], [b"why", job.encode()], [b"nodes"]):
        rq(home, locale, locales, *look)

    shown = rq(home, locale, locales, b"show", job.encode())
    assert {LATIN: b"f\xfcr \\u20ac", "C": "f\u00fcr \u20ac".encode(), UTF8: "f\u00fcr \u20ac".encode()}[
        locale
    ] in shown
    told = json.loads(rq(home, locale, locales, b"show", b"--json", job.encode()))
    assert "f\u00fcr \u20ac" in json.dumps(told, ensure_ascii=False)


def test_a_job_is_found_by_the_name_that_was_typed(home: SpoolHome, locales: str) -> None:
    """A name is text: the same characters are the same name, in whatever locale they are typed."""
    rq(home, LATIN, locales, b"run", b"--parsable", b"-J", b"n\xe4me", b"true")

    told = json.loads(rq(home, UTF8, locales, b"show", b"--json", "n\u00e4me".encode()))
    assert "n\u00e4me" in json.dumps(told, ensure_ascii=False)
    assert rq(home, LATIN, locales, b"cancel", b"n\xe4me").startswith(b"canceled ")
