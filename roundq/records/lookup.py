"""Where some jobs are: the names of one's own spool, each state listed afresh once, few of them looked at.

Names are listed and never asked for (roundqueue(7)): so this costs what listing costs, and hardly more for a
name that is not wanted. It reads no records. Of most names a `census` is made.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from roundq.records.spool import SUFFIX, Entry, Spool, entry_of
from roundq.words.states import HELD, OWNED_STATES, STATES
from roundq.world import files
from roundq.world.files import Name

#: Where a name may be more than an id.
_QUALIFIED = (HELD, *OWNED_STATES)


class Look:
    """One look at a spool. The states are listed in the order in which jobs pass through them, as far as is
    needed; a job that moves on meanwhile may be met twice.

    Raises OSError for a state that cannot be listed.
    """

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self._names: dict[str, list[str]] = {}

    def of(self, ids: Collection[str], *, whole: bool = False) -> list[Entry]:
        """The records of exactly these ids. Without `whole`, no more is listed once all are met."""
        files_ = {f"{job_id}{SUFFIX}" for job_id in ids}
        met: list[Entry] = []
        for state in STATES:
            names = self._listed(state)
            here = list(files_.intersection(names))
            if state in _QUALIFIED:
                here += [name for name in names if "@" in name]
            met += [entry for entry in self._entries(state, here) if entry.id in ids]
            if not whole and len(met) >= len(ids) and {entry.id for entry in met} == set(ids):
                break
        return met

    def where(self, wanted: Callable[[str], bool], states: Iterable[str] = STATES) -> list[Entry]:
        """The records in some states whose ids are `wanted`. Only what may be wanted is looked at closer."""
        met: list[Entry] = []
        for state in states:
            names = self._listed(state)
            here = [
                name
                for name in names
                if wanted(name[: -len(SUFFIX)]) or (state in _QUALIFIED and "@" in name)
            ]
            met += [entry for entry in self._entries(state, here) if wanted(entry.id)]
        return met

    def names(self) -> dict[str, list[str]]:
        """The names of the files of all states."""
        return {state: self._listed(state) for state in STATES}

    def _listed(self, state: str) -> list[str]:
        if state not in self._names:
            self._names[state] = files.names(self.spool.directory(state))
        return self._names[state]

    def _entries(self, state: str, names: Iterable[str]) -> list[Entry]:
        # Which file it is, nobody asks who only looks; a shelf does.
        return [entry for name in names if (entry := entry_of(state, Name(name, 0))) is not None]
