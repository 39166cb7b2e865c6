"""Recovery and adoption, one step at a time: what may happen between two steps happens here on purpose."""

from __future__ import annotations

import logging
import time
from dataclasses import replace

import pytest

from roundq.actors import environ
from roundq.actors.tenants import Tenants
from roundq.records import spool as spools
from roundq.records.spool import Entry
from roundq.words.job import Identity, Record
from roundq.words.states import COMPLETED, RUNNING
from roundq.world import procs
from tests.actors.spoolhome import NODE, SpoolHome
from tests.records.crowd import born

#: A process of an earlier boot: surely dead.
DEAD = Identity("an earlier boot", 17, 4)


def tenants_of(home: SpoolHome) -> Tenants:
    """What a daemon that just started knows."""
    return Tenants(home.spool, NODE, logging.getLogger("test"))


def running(home: SpoolHome, job_id: str, process: Identity) -> tuple[Entry, Record]:
    """Claims a job and begins it, as a supervisor of an earlier daemon did."""
    entry = home.claim(job_id)
    record = replace(spools.read(home.spool, entry), process=process, pid=process.pid, node=NODE, cores=1)
    spools.rewrite(home.spool, entry, record, NODE)
    begun = spools.begin(home.spool, entry, NODE)
    assert begun is not None
    return begun, record


# ---------------------------------------------------------------- recovery


@pytest.mark.parametrize("restartable", [True, False])
def test_a_job_that_ends_while_it_is_judged_keeps_its_end(home: SpoolHome, restartable: bool) -> None:
    """Its supervisor recorded the end and left between the daemon's look and its question who lives."""
    job = home.submit("true", restartable=restartable)
    entry, record = running(home, job, DEAD)
    tenants = tenants_of(home)
    tenants.look()
    ended = replace(record, completed_ns=time.time_ns(), exit_code=0)
    assert spools.settle(home.spool, entry, ended, NODE) == COMPLETED

    tenants.recover()

    assert home.state(job) == COMPLETED
    assert home.record(job).exit_code == 0
    assert len(tenants) == 0


def test_facts_that_were_written_while_it_is_judged_are_believed(home: SpoolHome) -> None:
    """Its supervisor wrote them after the daemon's look, and died before the move."""
    job = home.submit("true")
    entry, record = running(home, job, DEAD)
    tenants = tenants_of(home)
    tenants.look()
    spools.rewrite(home.spool, entry, replace(record, completed_ns=1, exit_code=0), NODE)

    tenants.recover()

    assert home.state(job) == COMPLETED


def test_a_daemon_does_not_end_itself_with_the_job_it_was_started_from(home: SpoolHome) -> None:
    """It bears the mark of that job, which lost its supervisor: by its own hand it would sleep for ever."""
    job = home.submit("true")
    # Of this boot: what ran before it left nothing. No pid is as large as this one.
    dead = Identity(procs.boot_id(), (1 << 30) - 1, 4)
    running(home, job, dead)

    home.daemon(RQ_MARK=environ.mark(dead))

    assert home.wait_for(job).reason == "lost"


# ---------------------------------------------------------------- adoption


def test_a_job_that_begins_while_it_is_adopted_is_not_overlooked(
    home: SpoolHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the listing and the reading its supervisor moved it on: its cores are in use all the same."""
    job = home.submit("true")
    entry = home.claim(job)
    read = spools.read

    def begins_first(*arguments: object) -> Record:
        monkeypatch.undo()
        assert spools.begin(home.spool, born(home.spool, entry), NODE)
        return read(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(spools, "read", begins_first)
    tenants = tenants_of(home)
    tenants.look()

    assert [(one.entry.id, one.entry.state) for one in tenants] == [(job, RUNNING)]


def test_a_trouble_that_is_over_is_told_no_more(home: SpoolHome) -> None:
    """A record that could not be read, and then could."""
    job = home.submit("true")
    entry = home.claim(job)
    good = spools.content(home.spool, entry)
    path = spools.path_of(home.spool, entry)
    with open(path, "wb") as file:
        file.write(b"{")
    tenants = tenants_of(home)
    tenants.look()
    assert list(tenants.trouble) == [job]

    with open(path, "wb") as file:
        file.write(good)
    tenants.look()

    assert tenants.trouble == {}
