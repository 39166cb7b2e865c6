"""The nodes and the users of the cluster as people read them.

Pure: given what `cluster` counted, it returns columns and rows for `tables`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from roundq.faces.cluster import DRAINS, LEGACY_VERSION, SILENT, STOPPED, NodeFacts, UserFacts
from roundq.faces.tables import Cell, Column, Line, Row
from roundq.words.quantities import format_age, format_memory

#: Cells of the bar that shows how much of a node is in use.
BAR = 10
FULL, EMPTY = "█", "░"
FULL_ASCII, EMPTY_ASCII = "#", "."

NODE_COLUMNS = (
    Column("NODE", least=8),
    Column("CORES", is_right=True),
    Column("", rank=2, is_picture=True),
    Column("CPUS", is_right=True, rank=5),
    Column("LOAD", is_right=True, rank=3),
    Column("MEMORY", is_right=True, rank=1),
    Column("JOBS", is_right=True, rank=4),
    Column("USERS", is_right=True, rank=6),
    Column("VERSION", rank=7, least=7),
    Column("STATE", least=24),
)
USER_COLUMNS = (
    Column("USER", least=8),
    Column("CORES", is_right=True),
    Column("", rank=2, is_picture=True),
    Column("RUNNING", is_right=True),
    Column("WAITING", is_right=True),
    Column("NODES", is_right=True, rank=1),
)


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
        if node.is_live and node.used > node.cores:
            rows.append(
                Line(f"{node.name} is overbooked: {node.used} of {node.cores} cores are promised", "red")
            )
    return rows


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


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
    if node.state == DRAINS:
        return f"draining{reason}", "yellow"
    if node.drainers:
        return f"up, draining for {', '.join(node.drainers)}{reason}", "yellow"
    return f"up, {LEGACY_VERSION} only" if node.versions == (LEGACY_VERSION,) else "up", "green"


def user_rows(
    users: Sequence[UserFacts], nodes: Sequence[NodeFacts], *, ascii_only: bool = False
) -> list[Row]:
    """A row for each user, those with most running cores first, and a TOTAL."""
    cores = sum(node.cores for node in nodes if node.is_live)
    rows: list[Row] = []
    for user in users:
        texts = [user.name, f"{user.cores}/{cores}", bar(user.cores, cores, ascii_only=ascii_only)]
        texts += [str(user.running), f"{user.waiting:,}", str(len(user.nodes))]
        cells = [Cell(text, "bold" if user.is_me else "") for text in texts]
        cells[2] = Cell(texts[2], _fullness(user.cores, cores))
        rows.append(cells)
    used = sum(user.cores for user in users)
    total = ["TOTAL", f"{used}/{cores}", bar(used, cores, ascii_only=ascii_only)]
    total += [str(sum(user.running for user in users)), f"{sum(user.waiting for user in users):,}"]
    total.append(str(sum(node.is_live for node in nodes)))
    rows.append([Cell(text, "bold") for text in total])
    return rows
