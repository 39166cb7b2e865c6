"""The nodes and the users of the cluster as people read them.

Pure: given what `cluster` counted, it returns columns and rows for `tables`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from roundq.faces.cluster import DRAINS, LEGACY_VERSION, SILENT, STOPPED, NodeFacts, UserFacts
from roundq.faces.standings import Standing
from roundq.faces.tables import Cell, Column, Line, Row, Spread
from roundq.words.limits import Limit
from roundq.words.quantities import format_age, format_memory

#: Cells of the bar that shows how much of a node is in use.
BAR = 10
FULL, EMPTY = "█", "░"
FULL_ASCII, EMPTY_ASCII = "#", "."

NODE_COLUMNS = (
    Column("NODE", least=8),
    Column("CORES", is_right=True),
    Column("", rank=2, is_picture=True),
    Column("CPUS", is_right=True, rank=6),
    Column("LOAD", is_right=True, rank=3),
    Column("MEMORY", is_right=True, rank=1),
    Column("GPUS", is_right=True, rank=4),
    Column("JOBS", is_right=True, rank=5),
    Column("USERS", is_right=True, rank=7),
    Column("VERSION", rank=8, least=7),
    Column("STATE", least=24),
)
USER_COLUMNS = (
    Column("USER", least=8),
    Column("CORES", is_right=True),
    Column("", rank=3, is_picture=True),
    Column("RUNNING", is_right=True),
    Column("WAITING", is_right=True),
    Column("TURN", is_right=True),
    Column("SHARE", is_right=True, rank=1),
    Column("USAGE", is_right=True, rank=2),
    Column("WEIGHT", is_right=True, rank=5),
    Column("SCAVENGE", is_right=True, rank=6),
    Column("NODES", is_right=True, rank=4),
    Column("LIMIT", rank=7),
)
#: What stands where there is nothing to say.
NOTHING = "-"


def without_empty(columns: Sequence[Column], rows: Sequence[Row]) -> tuple[list[Column], list[Row]]:
    """The table without columns that say nothing of anybody; for people, programs count columns."""
    cells = [row for row in rows if not isinstance(row, (Line, Spread))]
    kept = [
        place
        for place, column in enumerate(columns)
        if not column.rank or any(row[place].text not in ("", NOTHING) for row in cells)
    ]
    shown: list[Row] = [
        row if isinstance(row, (Line, Spread)) else [row[place] for place in kept] for row in rows
    ]
    return [columns[place] for place in kept], shown


def bar(used: int, cores: int, *, ascii_only: bool = False) -> str:
    """How much of a node is in use, as a picture; anything in use shows, and full only if it is."""
    full, empty = (FULL_ASCII, EMPTY_ASCII) if ascii_only else (FULL, EMPTY)
    if cores <= 0 or used >= cores:
        return (full if used else empty) * BAR
    filled = max(1 if used else 0, used * BAR // cores)
    return full * filled + empty * (BAR - filled)


def _fullness(used: int, cores: int) -> str:
    return "red" if used > cores else "green" if used else "dim"


def node_rows(nodes: Sequence[NodeFacts], *, ascii_only: bool = False) -> list[Row]:
    """A row for each node, a TOTAL of those that are heard of, and what needs a word more."""
    rows: list[Row] = [_node_cells(node, ascii_only) for node in nodes]
    live = [node for node in nodes if node.is_live]
    cores, used = sum(node.cores for node in live), sum(node.used for node in live)
    memory = _sum(node.memory for node in live)
    total = [
        "TOTAL",
        f"{used}/{cores}",
        bar(used, cores, ascii_only=ascii_only),
        str(sum(node.logical_cpus for node in live)),
        _load(_sum(node.load for node in live)),
        _memory(_sum(node.memory_available for node in live), memory),
        _gpus(sum(len(node.gpus_free) for node in live), sum(len(node.gpus) for node in live)),
        str(sum(node.jobs for node in live)),
        str(len({user for node in live for user in node.users})),
        "",
        f"{len(live)} of {len(nodes)} up" if len(live) < len(nodes) else f"{len(live)} up",
    ]
    rows.append([Cell(text, "bold") for text in total])
    for node in nodes:
        if node.offers:
            said = ", ".join(f"{user} {cores}" for user, cores in sorted(node.offers.items()))
            rows.append(Line(f"* {node.name}: its users offer different numbers of cores: {said}", "yellow"))
        if node.settling:
            what = f"{node.settling} claims are" if node.settling > 1 else "1 claim is"
            rows.append(
                Line(f"{node.name}: {what} settling, until it is known that no other node has the job")
            )
        rows += [
            Line(f"{node.name}: {user} has a worker, which takes {takes}") for user, takes in node.workers
        ]
        if node.is_live and node.threads_used:
            threads = "thread" if node.threads == 1 else "threads"
            verb = "is" if node.threads_used == 1 else "are"
            said = f"{node.threads_used} of {node.threads} spare {threads} {verb} in use"
            rows.append(Line(f"{node.name}: {said}"))
        if node.is_live and node.used > node.cores:
            rows.append(
                Line(f"{node.name} is overbooked: {node.used} of {node.cores} cores are promised", "red")
            )
    return rows


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _gpus(free: int, count: int) -> str:
    return f"{free}/{count}" if count else NOTHING


def _load(load: float | None) -> str:
    return "-" if load is None else f"{load:.1f}"


def _memory(available: float | None, total: float | None) -> str:
    if available is None or total is None:
        return "-"
    return f"{format_memory(int(available))}/{format_memory(int(total))}"


def _node_cells(node: NodeFacts, ascii_only: bool) -> list[Cell]:
    style = "" if node.is_live else "dim"
    texts = [
        node.name,
        f"{node.used}/{node.cores}{'*' if node.offers else ''}",
        bar(node.used, node.cores, ascii_only=ascii_only),
        str(node.logical_cpus),
        _load(node.load),
        _memory(node.memory_available, node.memory),
        _gpus(len(node.gpus_free), len(node.gpus)),
        str(node.jobs),
        str(len(node.users)),
        ",".join(node.versions),
    ]
    cells = [Cell(text, style) for text in texts]
    if node.is_live:
        cells[2] = Cell(texts[2], _fullness(node.used, node.cores))
    return [*cells, Cell(*node_state(node))]


def node_state(node: NodeFacts) -> tuple[str, str]:
    """The state of a node in words, and its style."""
    reason = f": {node.reason}" if node.reason else ""
    if node.state == SILENT:
        return f"not seen for {format_age(node.silent_s or 0)}", "yellow"
    if node.state == STOPPED:
        return "no daemon", "yellow"
    # Who drained it on purpose said so, and why.
    is_drained = node.reason.startswith("drained by ")
    if node.state == DRAINS:
        return node.reason if is_drained else f"draining{reason}", "yellow"
    if is_drained and len(node.drainers) == 1:
        return f"up, {node.reason}", "yellow"
    if node.drainers:
        return f"up, draining for {', '.join(node.drainers)}{reason}", "yellow"
    return f"up, {LEGACY_VERSION} only" if node.versions == (LEGACY_VERSION,) else "up", "green"


def user_rows(
    users: Sequence[UserFacts],
    nodes: Sequence[NodeFacts],
    standings: Mapping[str, Standing] | None = None,
    *,
    ascii_only: bool = False,
) -> list[Row]:
    """A row for each user, those with most running cores first, and a TOTAL."""
    cores = sum(node.cores for node in nodes if node.is_live)
    rows: list[Row] = []
    for user in users:
        standing = (standings or {}).get(user.name, Standing())
        texts = [
            user.name,
            f"{user.cores}/{cores}",
            bar(user.cores, cores, ascii_only=ascii_only),
            str(user.running),
            f"{user.waiting:,}",
            turn_text(standing),
            NOTHING if standing.share is None else f"{standing.share:.0%}",
            usage_text(standing.usage),
            f"{standing.weight:g}",
            str(user.scavenging) if user.scavenging else NOTHING,
            str(len(user.nodes)),
            limit_text(standing.limit),
        ]
        cells = [Cell(text, "bold" if user.is_me else "") for text in texts]
        cells[2] = Cell(texts[2], _fullness(user.cores, cores))
        rows.append(cells)
    used = sum(user.cores for user in users)
    scavenging = sum(user.scavenging for user in users)
    total = [
        "TOTAL",
        f"{used}/{cores}",
        bar(used, cores, ascii_only=ascii_only),
        str(sum(user.running for user in users)),
        f"{sum(user.waiting for user in users):,}",
        "",
        "",
        usage_text(sum(standing.usage for standing in (standings or {}).values())),
        "",
        str(scavenging) if scavenging else NOTHING,
        str(sum(node.is_live for node in nodes)),
        "",
    ]
    rows.append([Cell(text, "bold") for text in total])
    return rows


def turn_text(standing: Standing) -> str:
    """When a user's turn comes: "next", the place of those behind, or why not."""
    if standing.turn is None:
        return "limit" if standing.is_at_limit else NOTHING
    return "next" if standing.turn == 1 else str(standing.turn)


def usage_text(usage: float) -> str:
    """Core-seconds as core-hours."""
    hours = usage / 3600
    if not usage:
        return NOTHING
    return f"{hours:.1f}h" if 0.05 <= hours < 99.95 else f"{hours:,.0f}h"


def limit_text(limit: Limit) -> str:
    """What a user may have at most: "64 cores, 20 jobs"."""
    parts = [
        f"{count:,} {name if count != 1 else one}"
        for count, name, one in (
            (limit.cores, "cores", "core"),
            (limit.jobs, "jobs", "job"),
            (limit.waiting, "waiting", "waiting"),
        )
        if count is not None
    ]
    return ", ".join(parts) or NOTHING
