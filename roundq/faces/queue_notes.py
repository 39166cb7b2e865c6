"""What is said below the list of jobs: counts, what is wrong or not seen, and what to type next. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from roundq.actors.listing import ORDER, Listing, Row
from roundq.faces.queue_view import WORDS, Facts, cores_of, ended_key
from roundq.faces.tables import Line
from roundq.words.quantities import format_age
from roundq.words.states import (
    CANCELED,
    CLAIMED,
    COMPLETED,
    ENDED_STATES,
    FAILED,
    HELD,
    OWNED_STATES,
    PENDING_STATES,
    RUNNING,
    WAITING,
    ZOMBIE,
)

#: The order in which they are counted.
COUNTED = (RUNNING, CLAIMED, WAITING, HELD, COMPLETED, FAILED, CANCELED, ZOMBIE)
#: Nodes that nothing is heard of that are told one by one.
SILENT_MOST = 5


def totals(found: Listing) -> dict[str, int]:
    """Jobs by state: all that have not ended, and the ended ones that are listed."""
    counts = dict.fromkeys(ORDER, 0)
    for by_state in found.counts.values():
        for state in (*PENDING_STATES, *OWNED_STATES):
            counts[state] += by_state.get(state, 0)
    for row in found.rows:
        if row.state in ENDED_STATES:
            counts[row.state] += 1
    for bundle in found.bundles:
        for state in ENDED_STATES:
            counts[state] += bundle.counts.get(state, 0)
    return counts


def footer(found: Listing) -> str:
    """ "3 running (7 cores), 4,817 waiting, 12 completed, 1 failed"; empty if there is nothing."""
    counts = totals(found)
    parts = []
    for state in COUNTED:
        if counts[state]:
            cores = f" ({_running_cores(found.rows)})" if state == RUNNING else ""
            parts.append(f"{counts[state]:,} {WORDS.get(state, state)}{cores}")
    return ", ".join(parts)


def counted(counts: Mapping[str, int]) -> str:
    """ "3 running, 12 completed" of numbers by state; empty if there is nothing."""
    return ", ".join(f"{counts[state]:,} {WORDS.get(state, state)}" for state in COUNTED if counts.get(state))


def _running_cores(rows: Iterable[Row]) -> str:
    cores = sum(cores_of(row.record) for row in rows if row.state == RUNNING and row.record)
    return "1 core" if cores == 1 else f"{cores:,} cores"


def notes(found: Listing, facts: Facts) -> list[Line]:
    """What the list alone does not say: counts, silent nodes, what keeps it from moving, what is not seen."""
    lines = [Line(text) for text in (footer(found),) if text]
    lines += [Line(f"{user}: {problem}", "red") for user, problem in sorted(found.problems.items())]
    on_silent: dict[str, int] = {}
    for row in found.rows:
        if row.state in OWNED_STATES and row.node is not None and row.node in facts.silent:
            on_silent[row.node] = on_silent.get(row.node, 0) + 1
    for node, count in sorted(on_silent.items())[:SILENT_MOST]:
        jobs = (
            "1 job that was there may still run"
            if count == 1
            else f"{count:,} jobs that were there may still run"
        )
        lines.append(
            Line(f"{node} has not been seen for {format_age(facts.silent[node])}: {jobs}.", "yellow")
        )
    if len(on_silent) > SILENT_MOST:
        lines.append(Line(f"... and {len(on_silent) - SILENT_MOST:,} more nodes with jobs", "yellow"))
    if facts.starts_nothing:
        lines.append(
            Line(
                "No daemon of yours is alive on any node, so your jobs wait for ever. Start one: rq daemon",
                "bold yellow",
            )
        )
    lines += [Line(f"{node}: {trouble}", "yellow") for node, trouble in facts.troubles]
    if facts.hidden:
        lines.append(Line(hidden_text(facts.hidden), "dim"))
    if facts.late:
        lines.append(Line(late_text(facts.late), "yellow"))
    if advice := hint(found, facts):
        lines.append(Line(advice, "dim"))
    return lines


def hint(found: Listing, facts: Facts) -> str:
    """What to type next, if something calls for it: of mine, what failed, or waits while nothing runs."""
    for bundle in sorted(found.bundles, key=ended_key, reverse=True):
        ill = next((state for state in (FAILED, ZOMBIE) if bundle.counts.get(state)), None)
        if bundle.is_mine and ill is not None:
            did = "failed" if ill == FAILED else "are lost"
            return f"Which tasks of {bundle.id} {did}: rq list {bundle.id} -t {ill}"
    mine = [row for row in found.rows if row.is_mine]
    ill_rows = [row for row in mine if row.state in (FAILED, ZOMBIE)]
    if ill_rows:
        return f"How {max(ill_rows, key=ended_key).id} ended: rq why {max(ill_rows, key=ended_key).id}"
    waiting = [row for row in mine if row.state in PENDING_STATES]
    if waiting and not facts.starts_nothing and not any(row.state in OWNED_STATES for row in mine):
        return f"Why {waiting[0].id} waits: rq why {waiting[0].id}"
    return ""


def hidden_text(homes: Sequence[str]) -> str:
    """Whose queues cannot be seen, in one line."""
    return f"Closed homes, whose queues, if any, cannot be seen: {_named(homes)}."


#: What is known of those all the same.
COUNTED_HERE = "Of what runs there only this node's part is counted, by its processes; see rq doctor."


def late_text(homes: Sequence[str]) -> str:
    """Whose queues cannot be seen now, in one line."""
    return f"Homes that do not answer, whose queues, if any, cannot be seen now: {_named(homes)}."


def _named(homes: Sequence[str]) -> str:
    return ", ".join(sorted(homes)[:3]) + (f" and {len(homes) - 3:,} more" if len(homes) > 3 else "")


#: For a queue without jobs.
EMPTY = "Nothing in the queue. To put something there: rq run -J hello echo Hello"
