"""Promises about files that are not ours: no command lists, finds, cancels or removes one."""

from __future__ import annotations

import json

import pytest

from tests.faces.desk import Desk
from tests.faces.homes import HERE
from tests.records.foreign import leave, missing

#: No process has it: Linux gives none above 2^22.
DEAD = 1 << 23


def test_no_list_shows_one(desk: Desk) -> None:
    """Nor counts it."""
    left = leave(desk.spool, HERE, DEAD)
    value = json.loads(desk.rq("--json").out)
    assert (value["jobs"], value["problems"]) == ([], {})
    assert sum(sum(of.values()) for of in value["counts"].values()) == 0
    assert missing(left) == []


@pytest.mark.parametrize("name", ["17", "17 (conflicted copy)", "17.sync-conflict-20260101", "17.job"])
def test_no_command_finds_one(name: str, desk: Desk) -> None:
    """Whatever it is called by."""
    left = leave(desk.spool, HERE, DEAD)
    for verb in ("show", "why", "cancel", "wait", "log"):
        said = desk.rq(verb, name)
        assert (said.code, said.out) == (1, ""), verb
    assert missing(left) == []


def test_a_cancel_of_all_cancels_what_is_ours(desk: Desk) -> None:
    """And leaves what is not where it is."""
    left = leave(desk.spool, HERE, DEAD)
    job_id = desk.rq("run", "--parsable", "true").out.strip()
    assert desk.rq("cancel", "--all").code == 0
    assert desk.row(job_id).state == "canceled"
    assert missing(left) == []
