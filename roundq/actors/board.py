"""Where my card hangs: in the spool, and in the commons if there is one. Put up when it says something new.

What it says, the round knows.
"""

from __future__ import annotations

from dataclasses import replace

from roundq.records import cards
from roundq.records.cards import Card
from roundq.records.commons import Publisher
from roundq.records.spool import Spool
from roundq.world.config import Config

#: A beat is renewed a little before readers expect it.
_DUE_S = cards.BEAT_S * 0.9


class Board:
    """The card as it was published last, and when. Times are monotonic, in seconds."""

    def __init__(self, spool: Spool, publisher: Publisher) -> None:
        self.spool, self.publisher = spool, publisher
        self.card: Card | None = None
        self._beat = 0
        self._beat_s = -1e9

    def is_due(self, now_s: float) -> bool:
        """Whether the card is to be renewed though it says nothing new."""
        return now_s - self._beat_s >= _DUE_S

    def again_s(self, now_s: float) -> float:
        """Seconds until it is to be renewed at the latest."""
        return cards.BEAT_S - (max(0.0, now_s - self._beat_s) if self._beat_s > 0 else 0.0)

    def publish(self, card: Card, config: Config, now_s: float) -> None:
        """Publishes it if it says something new, or if its beat is due."""
        if self.card is not None and _says(card) == _says(self.card) and not self.is_due(now_s):
            self.publisher.keep(config.commons, self.card, shows_names=config.card_names)
            return
        self._publish(card, config)
        self._beat_s = now_s

    def leave(self, card: Card, config: Config) -> None:
        """Publishes the last one: its daemon starts nothing more."""
        self._publish(replace(card, state=cards.LEAVING, heads=(), said=(), waiting=0), config)

    def _publish(self, card: Card, config: Config) -> None:
        self._beat += 1
        card = replace(card, beat=self._beat)
        cards.publish(self.spool, card)
        # Only now: what could not be written has told nobody anything, of a claim least of all.
        self.card = card
        self.publisher.publish(config.commons, card, shows_names=config.card_names)


def _says(card: Card) -> Card:
    """What a card tells anybody anew: without what changes by itself all the time."""
    return replace(card, load=0.0, memory_available=0, beat=0, written_ns=0, usage=0.0)
