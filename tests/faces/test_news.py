"""Transcripts of `rq run --on-end` and `--mail`: what is asked for, of what, and what cannot be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from roundq.records import environments
from roundq.records import news as records
from roundq.words.news import News
from tests.faces.desk import Desk


@pytest.fixture(autouse=True)
def sendmail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What sends mail here."""
    path = tmp_path / "sendmail"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    monkeypatch.setenv("RQ_SENDMAIL", str(path))
    return path


def asked(desk: Desk) -> dict[str, News]:
    return {file: records.read(desk.spool, file) for file in records.asked(desk.spool)}


def test_a_job_asks_for_a_command_and_mails(desk: Desk) -> None:
    """In the directory of the job, with its environment; only its user reads what is asked for."""
    said = desk.rq(
        "run", "-J", "fit", "--on-end", "touch 'a b'", "--mail", "ann", "--mail", "bob@x.org", "true"
    )
    assert (said.code, said.out, said.err) == (0, 'submitted 1 "fit"\n', "")
    ((file, news),) = asked(desk).items()
    assert file == "1.news"
    assert news == News(
        "1", 0, "fit", ("touch", "a b"), ("ann", "bob@x.org"), str(desk.directory), news.environment
    )
    assert news.environment is not None
    assert environments.load(desk.spool, news.environment)["HOME"] == os.environ["HOME"]
    assert os.stat(records.path_of(desk.spool, file)).st_mode & 0o777 == 0o600


def test_an_array_asks_once_for_all_its_tasks(desk: Desk) -> None:
    assert desk.rq("run", "--array", "0-9", "--mail", "ann", "true").code == 0
    ((file, news),) = asked(desk).items()
    assert (file, news.of, news.tasks) == ("1.news", "1", 10)


def test_a_set_asks_once_however_often_it_is_added_to(desk: Desk) -> None:
    """For something else it asks beside that."""
    for _ in range(3):
        assert desk.rq("run", "--set", "fit", "--mail", "ann", "true").code == 0
    assert desk.rq("run", "--set", "fit", "--on-end", "true", "true").code == 0
    assert [news.of for news in asked(desk).values()] == ["%fit", "%fit"]
    assert desk.rq("run", "true").out == 'submitted 5 "true"\n'
    assert len(asked(desk)) == 2


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("--mail", "a b"), 'address "a b": it is not a mail address'),
        (("--mail", "-f"), "mail"),
        (("--on-end", ""), "the command is empty"),
        (("--on-end", "echo 'x"), 'command "echo \'x": no closing quotation'),
        (("--mail", "a") * 21, "option --mail: 21 addresses are too many"),
    ],
)
def test_what_cannot_be_asked_submits_nothing(words: tuple[str, ...], what: str, desk: Desk) -> None:
    said = desk.rq("run", *words, "true")
    assert said.code == 2
    assert what in said.err
    assert os.listdir(desk.spool.directory("waiting")) == []
    assert asked(desk) == {}


def test_that_there_is_no_program_for_mail_here_is_said(desk: Desk, sendmail: Path) -> None:
    """Another node may have one; so it is no error."""
    sendmail.unlink()
    said = desk.rq("run", "--mail", "ann", "true")
    assert said.code == 0
    warning = f"rq: warning: {sendmail} cannot be run on this node, and without it a node sends no mail: "
    assert said.err == f"{warning}see roundq.toml(5)\n"
    assert len(asked(desk)) == 1
