"""The names of waiting jobs, listed once for many of them.

A directory of a hundred thousand files is not listed anew for each job: a list is used until nothing is left
of it, but for no longer than AGE times as long as it took to make. So little of the time is spent with lists,
and in a small directory what is new is seen at once.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator

#: For how many times as long as it took a list is believed.
AGE = 20


class Waiting:
    """The names of the waiting jobs that end in `ext`, in a random order, or in theirs if `chance` is
    None."""

    def __init__(
        self,
        names: Callable[[], list[str]],
        clock: Callable[[], float],
        ext: str,
        chance: random.Random | None,
    ) -> None:
        self._names, self._clock, self._ext, self._chance = names, clock, ext, chance
        self._left: list[str] = []
        self._until_s = -float("inf")

    def is_old(self) -> bool:
        """Whether to list them anew."""
        return not self._left or self._clock() >= self._until_s

    def refresh(self) -> Collection[str]:
        """Lists them anew, and returns them all. Raises OSError."""
        began_s = self._clock()
        found = [name for name in self._names() if name.endswith(self._ext)]
        if self._chance is None:
            # The next one is taken from the end.
            found.sort(reverse=True)
        else:
            self._chance.shuffle(found)
        self._left = found
        ended_s = self._clock()
        self._until_s = ended_s + AGE * (ended_s - began_s)
        return tuple(found)

    def __iter__(self) -> Iterator[str]:
        """What is left of the list; each name is given once."""
        while self._left:
            yield self._left.pop()
