"""Promises about names that are not ours: what marks them, and what does not."""

from __future__ import annotations

import pytest

from roundq.words.names import is_conflict_copy, is_foreign

#: As the programs name them that synchronize directories; the stem of `17.job` each time.
COPIES = [
    "17 (conflicted copy)",
    "17 (Ann's conflicted copy 2026-01-01)",
    "17 (ann@lab's conflicted copy 2026-01-01 at 12.00)",
    "17 (conflicted copy 2026-01-01 120000)",
    "17 (SFConflict ann@example.org 2026-01-01-12-00-00)",
    "17 (Case Conflict)",
    "17.sync-conflict-20260101",
    "17.sync-conflict-20260101-120000-ABCDEFG",
    "17_conflict-20260101-120000",
    "17.Conflict",
]
NO_COPIES = [
    "17",
    "conflict",
    "merge-conflict-test",
    "conflict-17",
    "test_conflict",
    "a.conflicts",
    "my own",
    "Übung 7 (alt)",
    "(a) conflict (b)",
    "sync-conflict",
    "1790000000.123456789",
    "a@b",
]


@pytest.mark.parametrize("stem", COPIES)
def test_a_conflict_copy_is_known_by_its_mark(stem: str) -> None:
    """Whatever the case of its letters, and with a node behind it."""
    assert is_conflict_copy(stem)
    assert is_conflict_copy(stem.upper())
    assert is_conflict_copy(stem.replace("17", "17@n1", 1))
    assert is_foreign(stem)
    assert is_foreign(f"{stem}.job") or stem.lower().endswith(".conflict")


@pytest.mark.parametrize("stem", NO_COPIES)
def test_what_is_not_marked_so_is_an_id_like_any_other(stem: str) -> None:
    """A program may call its jobs after what they do."""
    assert not is_conflict_copy(stem)
    assert not is_foreign(stem)


@pytest.mark.parametrize(
    "name", ["17.job~", "#17.job#", "17.job.bak", "17.job.orig", "17.job.rej", ".17.job.swp"]
)
def test_a_backup_of_an_editor_is_foreign(name: str) -> None:
    assert is_foreign(name)
    assert not is_conflict_copy(name)
