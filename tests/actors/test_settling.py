"""Promises about claims that are not trusted yet: what a daemon does with its own, and only with these."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from roundq.actors import settling
from roundq.actors.tenants import Tenant, Tenants
from roundq.records import spool as spools
from roundq.records.spool import Spool
from roundq.words.copies import LOOKS
from roundq.words.job import Identity
from roundq.words.policy import Want
from roundq.words.record_format import dump
from roundq.words.states import CANCELED, CLAIMED, COMPLETED, WAITING
from tests.actors.spoolhome import SpoolHome
from tests.actors.test_round import round_of
from tests.cluster.wait import wait_until
from tests.records.crowd import entry_of, new_spool, submitted

SETTLE_S = 5.0
DEAD = Identity("an-earlier-boot", 4711, 1)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return new_spool(tmp_path / "ann")


@pytest.fixture
def tenants(spool: Spool) -> Tenants:
    return careful(spool)


def careful(spool: Spool) -> Tenants:
    """What a daemon of n2 knows of its jobs, where a rename may have two winners."""
    made = Tenants(spool, "n2", logging.getLogger("tenants"))
    made.settle_s = SETTLE_S
    return made


def claimed(spool: Spool, tenants: Tenants) -> Tenant:
    """A new job, claimed a moment ago."""
    submitted(spool)
    tenant = tenants.claim(entry_of(spool, "1"), Want("1", 1, 0, 0, 0), 4, 7, 0.0)
    assert tenant is not None
    return tenant


def look(tenants: Tenants, times: int = 1, begin_s: float = 100.0) -> float:
    """Rounds until so many looks are done; the time of the last."""
    now_s = begin_s
    for _ in range(times):
        settling.look(tenants, now_s, SETTLE_S)
        now_s += SETTLE_S / LOOKS
        settling.look(tenants, now_s, SETTLE_S)
    return now_s


def copy(spool: Spool, name: str) -> str:
    """A second copy of the claimed job, as another node's rename leaves it."""
    path = f"{spool.path}/{name}"
    shutil.copy(f"{spool.path}/claimed/1@n2.job", path)
    return path


def names(spool: Spool) -> list[str]:
    return sorted(f"{entry.state}/{entry.file}" for entry in spools.scan(spool))


# ---------------------------------------------------------------- who keeps it


def test_a_claim_that_nobody_shares_is_ready_after_five_looks(spool: Spool, tenants: Tenants) -> None:
    tenant = claimed(spool, tenants)
    assert tenant.occupant().settling

    end_s = look(tenants, LOOKS - 1)
    assert not tenant.is_ready
    look(tenants, 1, end_s + 1)

    assert tenant.is_ready
    assert not tenant.occupant().settling
    assert names(spool) == ["claimed/1@n2.job"]


@pytest.mark.parametrize(
    "other",
    [
        "claimed/1@n1.job",
        "claimed/1@n1!.job",
        "running/1@n3.job",
        "completed/1.job",
        "failed/1.job",
        "canceled/1.job",
        "zombie/1.job",
    ],
)
def test_a_claim_gives_way_by_removing_its_own_name_alone(spool: Spool, tenants: Tenants, other: str) -> None:
    """Neither the other's is touched, nor a second one put back to waiting."""
    claimed(spool, tenants)
    content = Path(copy(spool, other)).read_bytes()

    look(tenants)

    assert names(spool) == [other]
    assert Path(spool.path, other).read_bytes() == content
    assert len(tenants) == 0


@pytest.mark.parametrize("other", ["claimed/1@n3.job", "waiting/1.job"])
def test_a_claim_that_goes_before_is_kept_and_the_other_left_to_its_owner(
    spool: Spool, tenants: Tenants, other: str
) -> None:
    tenant = claimed(spool, tenants)
    copy(spool, other)

    look(tenants, LOOKS)

    assert tenant.is_ready
    assert names(spool) == sorted(["claimed/1@n2.job", other])


def test_what_was_held_beside_a_claim_that_is_settled_goes(spool: Spool, tenants: Tenants) -> None:
    """The job starts, and is not on hold as well, to be released when it is over."""
    tenant = claimed(spool, tenants)
    copy(spool, "held/1@user.job")
    end_s = look(tenants, LOOKS - 1)
    assert names(spool) == ["claimed/1@n2.job", "held/1@user.job"]

    look(tenants, 1, end_s + 1)

    assert tenant.is_ready
    assert names(spool) == ["claimed/1@n2.job"]


def test_what_is_on_hold_and_another_job_or_attempt_stays(spool: Spool, tenants: Tenants) -> None:
    tenant = claimed(spool, tenants)
    other = Path(copy(spool, "held/1@user.job"))
    other.write_bytes(dump(replace(tenant.record, job=replace(tenant.record.job, submitted_ns=1))))

    look(tenants, LOOKS)

    assert tenant.is_ready
    assert names(spool) == ["claimed/1@n2.job", "held/1@user.job"]


def test_a_claim_gives_way_to_a_later_attempt_that_waits(spool: Spool, tenants: Tenants) -> None:
    """Another node has begun and requeued the job: this attempt is over, and its end is in that record."""
    tenant = claimed(spool, tenants)
    other = Path(copy(spool, "waiting/1.job"))
    again = replace(tenant.record, process=DEAD, started_ns=5).next_attempt(9, "restarted")
    other.write_bytes(dump(again))

    look(tenants)

    assert names(spool) == ["waiting/1.job"]
    assert spools.read(spool, entry_of(spool, "1")).attempt == 2


def test_another_job_of_the_same_id_is_no_copy(spool: Spool, tenants: Tenants) -> None:
    """A program dropped a file of a name that was used before: nothing of it may be lost."""
    tenant = claimed(spool, tenants)
    path = Path(copy(spool, "completed/1.job"))
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"true"', b'"false"'))
    assert path.read_bytes() != data

    look(tenants, LOOKS)

    assert tenant.is_ready


def test_what_cannot_be_read_is_waited_for_and_told(spool: Spool, tenants: Tenants) -> None:
    """It may be a copy that has begun, or nothing: who knows neither keeps nor removes."""
    tenant = claimed(spool, tenants)
    broken = Path(spool.path, "running/1@n1.job")
    broken.write_text("{")

    end_s = look(tenants, LOOKS)

    tenants.look()
    assert not tenant.is_ready
    assert "running/1@n1.job" in tenants.trouble["1"]
    assert names(spool) == ["claimed/1@n2.job", "running/1@n1.job"]
    broken.unlink()
    look(tenants, LOOKS, end_s + 1)
    tenants.look()
    assert tenant.is_ready
    assert tenants.trouble == {}


# ---------------------------------------------------------------- going back


@pytest.mark.parametrize("name", ["claimed/1@n3.job", "waiting/1.job"])
def test_a_claim_goes_back_only_when_nobody_else_has_the_job(
    spool: Spool, tenants: Tenants, name: str
) -> None:
    """Nor over a copy that waits, which may have more in it."""
    tenant = claimed(spool, tenants)
    other = copy(spool, name)
    end_s = look(tenants, LOOKS)

    assert not tenants.withdraw(tenant, "no room")

    end_s = look(tenants, LOOKS, end_s + 1)
    assert names(spool) == sorted(["claimed/1@n2.job", name])
    os.remove(other)
    end_s = look(tenants, LOOKS - 1, end_s + 1)
    assert names(spool) == ["claimed/1@n2.job"]
    look(tenants, 1, end_s + 1)
    assert names(spool) == ["waiting/1.job"]


def test_a_daemon_that_leaves_lets_it_lie_and_the_next_one_gives_it_back(
    spool: Spool, tenants: Tenants
) -> None:
    claimed(spool, tenants)
    tenants.leave()
    assert names(spool) == ["claimed/1@n2.job"]
    after = careful(spool)

    now_s = 100.0
    for _ in range(2 * LOOKS):
        assert names(spool) == ["claimed/1@n2.job"]
        after.look()
        after.recover()
        settling.look(after, now_s, SETTLE_S)
        now_s += SETTLE_S / LOOKS

    assert names(spool) == ["waiting/1.job"]


def test_a_claim_that_is_not_what_it_was_goes_back_as_late(spool: Spool, tenants: Tenants) -> None:
    submitted(spool, cores=3)

    tenants.claim(entry_of(spool, "1"), Want("1", 1, 0, 0, 0), 4, 7, 0.0)

    assert names(spool) == ["claimed/1@n2.job"]
    look(tenants, LOOKS)
    assert names(spool) == ["waiting/1.job"]


def test_a_file_that_has_another_number_after_the_rename_is_the_claim_still(
    spool: Spool, tenants: Tenants
) -> None:
    """Such mounts may number files by their names. What was granted must not be forgotten for that."""
    tenant = claimed(spool, tenants)
    path = Path(spool.path, "claimed/1@n2.job")
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data)

    tenants.look()

    assert tenants.by_id["1"] is tenant
    assert tenant.record.node == "n2"


# ---------------------------------------------------------------- cancel, and whole rounds


def test_a_cancel_is_answered_once_it_is_known_who_has_the_job(spool: Spool, tenants: Tenants) -> None:
    """Were it done to a copy that gives way, the request would be gone and the job run on elsewhere."""
    claimed(spool, tenants)
    asked = {"1": {"cancel"}}
    end_s = look(tenants, LOOKS - 1)
    tenants.answer(asked, 0)
    assert names(spool) == ["claimed/1@n2.job"]
    look(tenants, 1, end_s + 1)

    tenants.answer(asked, 0)

    assert names(spool) == ["canceled/1.job"]


def test_a_job_that_was_asked_to_be_canceled_meanwhile_is_not_begun(home: SpoolHome) -> None:
    """The request is looked at in the very round that settles the claim."""
    one = round_of(home, settle_s=SETTLE_S)
    job = home.submit("true")
    one.run(100.0)
    assert home.state(job) == CLAIMED
    spools.request(home.spool, job, "cancel", "testnode")
    now_s = 100.0
    while home.state(job) == CLAIMED and now_s < 200:
        now_s += 0.5
        one.run(now_s)

    assert home.state(job) == CANCELED
    assert now_s >= 100.0 + SETTLE_S
    assert home.record(job).started_ns == 0


def test_a_round_wants_the_next_one_for_the_next_look(home: SpoolHome) -> None:
    one = round_of(home, settle_s=SETTLE_S)
    home.submit("true")
    one.run(100.0)
    assert one.is_settling
    assert one.run(100.1) <= SETTLE_S / LOOKS
    assert not round_of(home).is_settling


def test_one_pass_lasts_until_its_claims_are_settled(home: SpoolHome) -> None:
    """rq daemon --fg starts what may start, and leaves no claim behind that nobody would look after."""
    job = home.submit("true")
    words = [sys.executable, "-m", "roundq", "daemon", "--fg"]
    subprocess.run(words, env={**home.environ, "RQ_SETTLE": "0.5s"}, check=True, timeout=60, cwd="/")
    wait_until(lambda: home.state(job) == COMPLETED, 30, on_timeout=home.story)


def test_a_name_that_is_listed_and_gone_is_no_error(
    spool: Spool, tenants: Tenants, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This node learns late that another one has it; elsewhere it means that a directory is missing."""
    submitted(spool)

    def gone(*_: object) -> None:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(spools, "claim", gone)
    entry, want = entry_of(spool, "1"), Want("1", 1, 0, 0, 0)

    assert tenants.claim(entry, want, 4, 7, 0.0) is None
    tenants.settle_s = 0.0
    with pytest.raises(FileNotFoundError):
        tenants.claim(entry, want, 4, 7, 0.0)


def test_without_settle_a_claim_is_ready_at_once(spool: Spool) -> None:
    plain = Tenants(spool, "n2", logging.getLogger("tenants"))
    tenant = claimed(spool, plain)
    assert tenant.is_ready
    assert plain.withdraw(tenant, "no room")
    assert names(spool) == [f"{WAITING}/1.job"]
