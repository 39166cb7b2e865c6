"""Wherever a process stops, and whatever a file operation does or says: no job is lost, run twice, or untrue.

What is looked at after each fault is in `judges`; `python -m tests.crashpoints` prints how many there are.
"""

from __future__ import annotations

import pytest

from roundq.words.states import TRANSITIONS
from tests.crashpoints.conftest import Player
from tests.crashpoints.mistakes import MISTAKES
from tests.crashpoints.operations import OPERATIONS
from tests.crashpoints.steps import REFUSED, STOP

NAMES = [operation.name for operation in OPERATIONS]


@pytest.mark.parametrize("name", NAMES)
def test_an_operation_may_be_spoiled_anywhere(name: str, player: Player) -> None:
    """Killed before and after each of its steps, without power, refused, interrupted, and lied to."""
    tally = player.ask(name=name)
    assert not tally["wrong"], "\n".join(tally["wrong"][:5])
    assert tally["tried"][STOP] >= 2
    kinds = next(operation.kinds for operation in OPERATIONS if operation.name == name)
    assert set(kinds) - {"taken", "full"} <= set(tally["tried"])


def test_every_transition_is_among_the_operations(player: Player) -> None:
    """By the renames that are really made, of which none is there that the protocol does not know."""
    made = set()
    for name in NAMES:
        for what, *words in player.ask(name=name, only_steps=True):
            if what == "rename":
                source, target = (word.rpartition("/.roundqueue/")[2].split("/")[0] for word in words)
                made.add((source, target))
    # The job that is submitted comes from where it was written; whose end is lost goes to zombie/ there, too.
    told = {(each.source or "tmp", each.target) for each in TRANSITIONS}
    assert told <= made
    states = {state for pair in told for state in pair}
    moves = {(source, target) for source, target in made if {source, target} <= states - {"tmp"}}
    sealed = {(state, state) for state in ("claimed", "running")}
    assert moves <= told | sealed


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_of_our_code_is_found(mistake: str, player: Player) -> None:
    """By the test of the operation that stands beside it, which is what makes that test worth its time."""
    tally = player.ask(name=MISTAKES[mistake][1], mistake=mistake)
    assert tally["wrong"]
    assert all("a survivor died" not in wrong and "worker failed" not in wrong for wrong in tally["wrong"])


def test_a_refusal_is_tried_at_each_operation_that_needs_room(player: Player) -> None:
    """Of a submission: what is written, synced, closed and renamed, each with three errors."""
    steps = [what for what, *_ in player.ask(name="submit", only_steps=True)]
    needing = [what for what in steps if what in ("create", "write", "fsync", "close", "rename", "mkdir")]
    assert set(needing) >= {"create", "write", "fsync", "close", "rename"}
    assert player.ask(name="submit")["tried"][REFUSED] >= 3 * len(needing)
