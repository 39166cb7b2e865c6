"""Promises about what a decision is told: here, which node was chosen to be kept."""

from __future__ import annotations

from pathlib import Path

from roundq.actors.survey import kept_before
from roundq.records.cards import Card
from roundq.records.neighbours import Seen
from roundq.words.policy import Want
from tests.records.crowd import new_spool


def test_the_node_that_is_kept_is_the_one_that_says_so_itself(tmp_path: Path) -> None:
    """What other nodes say of it is older, and so all daemons of a user come to the same."""
    spool = new_spool(tmp_path)
    wide, small = Want("1", 8, 0, 1, kept_on=("n2", "n4")), Want("2", 1, 0, 2, kept_on=("n3",))

    def seen(node: str, *heads: Want, user: str = "ann", is_alive: bool = True) -> Seen:
        card = Card(user, node, 1, 8, 8, 0, version="1", heads=heads)
        return Seen(spool, card, is_alive, 0.0)

    look = [seen("n1", wide, small), seen("n2", wide), seen("n3", wide)]
    assert kept_before(look, "ann") == {wide.shape: {"n2"}}
    assert kept_before(look, "bob") == {}
    assert kept_before([seen("n2", wide, is_alive=False)], "ann") == {}
    two = [seen("n3", Want("1", 8, 0, 1, kept_on=("n3",))), seen("n2", wide)]
    assert kept_before(two, "ann") == kept_before(two[::-1], "ann") == {wide.shape: {"n2", "n3"}}
