"""Why jobs of mine are held, in the few words of a list: by what is on disk now, as the daemons will find it.

Nothing is read: what they wait for is told by the names that were listed. `actors.held` lets them go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from roundq.actors.listing import Row
from roundq.records.census import Census
from roundq.words.dependencies import Target, conditions, decide
from roundq.words.job import Dependency
from roundq.words.quantities import visible
from roundq.words.states import HELD


def texts(held: Iterable[Row], jobs: Mapping[str, Census], now_ns: int) -> dict[tuple[str, str], str]:
    """Why each of these is held, by the path of its spool and its id. `jobs` are what is listed there."""
    by_spool: dict[str, list[Row]] = {}
    for row in held:
        by_spool.setdefault(row.spool.path, []).append(row)
    found = {}
    for path, rows in by_spool.items():
        wanted = {one.job for row in rows if row.record for one in row.record.job.after}
        states = jobs[path].states_of(wanted) if wanted and path in jobs else {}
        for row in rows:
            if text := _text(row, states, now_ns):
                found[path, row.id] = text
    return found


def _text(row: Row, states: Mapping[str, Mapping[str, int]], now_ns: int) -> str:
    if row.entry.is_sealed:
        return f"it is being changed on {visible(row.entry.node or 'a node')}"
    if row.record is None:
        return ""

    def look(dependency: Dependency) -> Target:
        # What is nowhere may have been folded into the history: that it can never be, only the daemon says.
        return Target(states.get(dependency.job, {}))

    why = decide(row.id, conditions(row.record), look, now_ns, is_on_hold=row.entry.is_on_hold)
    return why.text if row.state == HELD else ""
