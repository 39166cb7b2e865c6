"""Promises about claims: what an earlier attempt left in a record is not taken for this one's."""

from __future__ import annotations

import logging
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from roundq.actors.tenants import Tenants
from roundq.records import spool as spools
from roundq.records.spool import Spool
from roundq.words.job import Attempt, Identity
from roundq.words.policy import Want
from roundq.words.states import CLAIMED, WAITING
from roundq.world import procs
from tests.records.crowd import born, entry_of, new_spool, record_of, submitted, where

DEAD = Identity("an-earlier-boot", 4711, 1)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return new_spool(tmp_path / "ann")


@pytest.fixture
def tenants(spool: Spool) -> Tenants:
    return Tenants(spool, "n1", logging.getLogger("tenants"))


def want(job_id: str) -> Want:
    return Want(job_id, 1, 0, 0, 0)


def test_a_claim_of_what_was_withdrawn_at_its_birth_has_no_process(spool: Spool, tenants: Tenants) -> None:
    """The daemon of another node died after it had written the supervisor: to neighbours, who look at the
    process, the new claim would seem to occupy nothing."""
    submitted(spool)
    entry = spools.claim(spool, entry_of(spool, "1"), "n0")
    assert entry is not None
    born = replace(spools.read(spool, entry), process=DEAD, pid=DEAD.pid, node="n0", started_ns=5)
    sealed = spools.rewrite(spool, entry, born, "n0")
    assert sealed is not None
    spools.withdraw(spool, sealed)

    tenant = tenants.claim(entry_of(spool, "1"), want("1"), 4, 7, 0.0)

    assert tenant is not None
    assert tenant.occupant().process is None
    assert not tenant.is_born
    assert (tenant.record.attempt, tenant.record.started_ns, tenant.record.pid) == (1, 0, 0)


def test_an_ended_job_that_a_user_moves_back_is_a_new_attempt(spool: Spool, tenants: Tenants) -> None:
    """Moving the file is the queue. Were the old end kept, a job whose supervisor dies would be completed."""
    submitted(spool)
    entry = spools.claim(spool, entry_of(spool, "1"), "n0")
    assert entry is not None
    running = spools.begin(spool, born(spool, entry), "n0")
    assert running is not None
    ended = replace(
        spools.read(spool, running), process=DEAD, pid=1, node="n0", started_ns=5, completed_ns=9, exit_code=0
    )
    spools.settle(spool, running, ended, "n0")
    os.rename(f"{spool.path}/completed/1.job", f"{spool.path}/waiting/1.job")

    tenant = tenants.claim(entry_of(spool, "1"), want("1"), 4, 7, 0.0)

    assert tenant is not None
    record = tenant.record
    assert (record.attempt, record.completed_ns, record.exit_code, record.process) == (2, 0, None, None)
    assert record.attempts == (Attempt(1, "n0", DEAD, 5, 9, None, 0, None),)


def test_a_job_is_claimed_once_even_if_the_listing_is_old(spool: Spool, tenants: Tenants) -> None:
    """It is mine already: a second claim must not forget its supervisor and bear it again."""
    submitted(spool)
    entry = entry_of(spool, "1")
    first = tenants.claim(entry, want("1"), 4, 7, 0.0)
    assert first is not None
    first.record = replace(first.record, process=DEAD)

    assert tenants.claim(entry, want("1"), 4, 8, 1.0) is None
    assert tenants.by_id["1"] is first
    assert where(spool) == {"1": CLAIMED}


def test_a_job_that_is_not_what_it_was_goes_back(spool: Spool, tenants: Tenants) -> None:
    submitted(spool, cores=3)
    assert tenants.claim(entry_of(spool, "1"), want("1"), 4, 7, 0.0) is None
    assert where(spool) == {"1": WAITING}
    assert record_of(spool, "1").job.cores == 3
    assert len(tenants) == 0


def test_a_job_is_not_born_here_while_an_earlier_attempt_of_it_lives_here(
    spool: Spool, tenants: Tenants
) -> None:
    """This node was called lost, and was not: both attempts would be running/1@n1.job, and the earlier
    supervisor would write its end into the record of the later one. Found by the simulation, seed 119."""
    with subprocess.Popen(["sleep", "1000"]) as earlier:
        identity = procs.identity(earlier.pid)
        assert identity is not None
        submitted(spool)
        entry = spools.claim(spool, entry_of(spool, "1"), "n1")
        assert entry is not None
        lost = replace(spools.read(spool, entry), process=identity, node="n1").next_attempt(9, "lost")
        sealed = spools.rewrite(spool, entry, lost, "n1")
        assert sealed is not None
        spools.withdraw(spool, sealed)

        tenant = tenants.claim(entry_of(spool, "1"), want("1"), 4, 7, 0.0)
        assert tenant is not None
        is_ready_beside = tenant.is_ready
        # It is asked to look, and would see that the job is not its own any more; a sleep dies of that.
        tenants.recover()
        earlier.wait()
        tenants.recover()

    assert not is_ready_beside
    assert tenant.is_ready
    assert where(spool) == {"1": CLAIMED}
